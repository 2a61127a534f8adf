"""What a feeder is made of: buses, lines and transformers.

Two ways to say the same: columns (:class:`Buses`, :class:`Branches`: what is calculated with, and what data sets give)
and single records (:class:`Line`, :class:`Transformer`: what a person types).  A column that does not concern a kind of
branch holds NaN, or "" where it is text.  Arrays are made read-only, so that a checked feeder stays the feeder that was
checked.

What hangs on a bus whatever its voltage (a capacitor, a load of constant impedance) is an admittance of the bus, in siemens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Branches", "Buses", "Line", "Transformer", "branches_of"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

_BLANK = np.full((3, 3), np.nan)


def _none() -> NDArray[Any]:
    """Return no matrix at all: every line is as its sequences say."""
    return np.empty((0, 3, 3))


def _no_turns() -> Vector:
    """Return no turns at all: every transformer is alike in its phases."""
    return np.empty((0, 3))


def _read_only(values: object, dtype: type) -> NDArray[np.generic]:
    """Return a copy of its own that nobody can change."""
    column: NDArray[np.generic] = np.array(values, dtype=dtype)
    column.setflags(write=False)
    return column


@dataclass(frozen=True, slots=True)
class Line:
    """One line, cable or closed switch, for feeders written by hand (``Feeder.build``)."""

    id: str
    from_bus: str
    to_bus: str
    r1_ohm: float
    x1_ohm: float
    rating_a: float = math.inf
    c1_nf: float = 0.0
    r0_ohm: float = math.nan
    x0_ohm: float = math.nan
    c0_nf: float = math.nan
    length_m: float = math.nan
    in_service: bool = True
    phases: str = "abc"
    z_abc_ohm: tuple[tuple[complex, ...], ...] | None = None
    c_abc_nf: tuple[tuple[float, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Transformer:
    """One two-winding transformer, for feeders written by hand (``Feeder.build``)."""

    id: str
    from_bus: str
    to_bus: str
    sn_kva: float
    v_from_v: float
    v_to_v: float
    uk_percent: float
    pk_kw: float
    i0_percent: float = 0.0
    p0_kw: float = 0.0
    clock: int = 0
    tap_side: str = ""
    tap_position: int = 0
    tap_step_percent: float = 0.0
    in_service: bool = True
    phases: str = "abc"
    turns: tuple[float, float, float] | None = None
    windings: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Buses:
    """The buses, one row each, n of them."""

    ids: tuple[str, ...]

    v_nominal_v: Vector
    """Nominal line-to-line voltage; the base of per unit.  Shape (n,). [V]"""

    x: Vector
    """Place on the map, metres or degrees, NaN where unknown.  Shape (n,)."""

    y: Vector
    """Likewise.  Shape (n,)."""

    shunt_siemens: Complex = field(default_factory=_none)
    """Admittance that hangs on each bus, as the nodal matrix between its conductors and earth; left out: nowhere any.
    Shape (n, 3, 3), or (0, 3, 3) for none. [S]"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(self.ids))
        for name in ("v_nominal_v", "x", "y"):
            object.__setattr__(self, name, _read_only(getattr(self, name), np.float64))
        object.__setattr__(self, "shunt_siemens", _read_only(self.shunt_siemens, np.complex128))

    @property
    def shunted(self) -> Index:
        """The buses with an admittance.  Shape (k,)."""
        return np.flatnonzero(self.shunt_siemens.any(axis=(1, 2)))


@dataclass(frozen=True, slots=True, eq=False)
class Branches:
    """Lines and transformers, one row each, m of them.  NaN (or "") where a column does not concern the kind."""

    ids: tuple[str, ...]

    kind: tuple[str, ...]
    """"line" or "transformer"."""

    from_bus: Index
    """Index of a bus.  Any end of a line; the side of v_from_v of a transformer.  Shape (m,)."""

    to_bus: Index
    """Index of the bus at the other end.  Shape (m,)."""

    in_service: NDArray[np.bool_]
    """False: open at both ends.  Shape (m,)."""

    r1_ohm: Vector
    """Series resistance of a line, positive sequence.  Shape (m,). [ohm]"""

    x1_ohm: Vector
    """Series reactance of a line.  Shape (m,). [ohm]"""

    c1_nf: Vector
    """Capacitance of a line, half of it at each end.  Shape (m,). [nF]"""

    r0_ohm: Vector
    """Zero sequence, NaN where unknown.  Shape (m,). [ohm]"""

    x0_ohm: Vector
    """Zero sequence, NaN where unknown.  Shape (m,). [ohm]"""

    c0_nf: Vector
    """Zero sequence, NaN where unknown.  Shape (m,). [nF]"""

    rating_a: Vector
    """Current a line may carry for long; inf: no limit known.  Shape (m,). [A]"""

    sn_kva: Vector
    """Rated power of a transformer.  Shape (m,). [kVA]"""

    v_from_v: Vector
    """Rated voltage of the winding at from_bus.  Shape (m,). [V]"""

    v_to_v: Vector
    """Rated voltage of the winding at to_bus.  Shape (m,). [V]"""

    uk_percent: Vector
    """Short-circuit voltage.  Shape (m,). [%]"""

    pk_kw: Vector
    """Copper loss at rated current.  Shape (m,). [kW]"""

    i0_percent: Vector
    """No-load current.  Shape (m,). [%]"""

    p0_kw: Vector
    """Iron loss.  Shape (m,). [kW]"""

    clock: Vector
    """The to side lags by clock · 30°.  Whole numbers.  Shape (m,)."""

    tap_side: tuple[str, ...]
    """"from", "to", or "" where there is no tap changer."""

    tap_position: Vector
    """Steps from neutral; the winding at tap_side has 1 + position · step / 100 of its rated voltage.  Shape (m,)."""

    tap_step_percent: Vector
    """Shape (m,). [%]"""

    length_m: Vector
    """Length of a line, NaN where unknown: drawn, never calculated with.  Shape (m,). [m]"""

    phases: tuple[str, ...] = ()
    """Conductors of each branch, such as "abc" or "b"; left out: all three everywhere."""

    z_abc_ohm: Complex = field(default_factory=_none)
    """Series impedance of a line between its conductors, where it is not transposed; NaN: as the sequences say.
    Shape (m, 3, 3). [ohm]"""

    c_abc_nf: Vector = field(default_factory=_none)
    """Capacitance likewise, as the nodal matrix (negative beside the diagonal).  Shape (m, 3, 3). [nF]"""

    turns_abc: Vector = field(default_factory=_no_turns)
    """Of a bank of single-phase transformers (regulators), star-star: turns of each at to_bus over the rated ones; sn_kva is
    three times that of one.  NaN: all phases alike.  Shape (m, 3)."""

    windings: tuple[str, ...] = ()
    """"dd": both in delta; "": as the clock number says, star-star (even) or delta-star (odd)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "phases", tuple(self.phases) or ("abc",) * len(self.ids))
        object.__setattr__(self, "windings", tuple(self.windings) or ("",) * len(self.ids))
        turns = self.turns_abc if len(self.turns_abc) else np.full((len(self.ids), 3), np.nan)
        object.__setattr__(self, "turns_abc", _read_only(turns, np.float64))
        blank = (len(self.ids), 3, 3)
        for name, dtype in (("z_abc_ohm", np.complex128), ("c_abc_nf", np.float64)):
            given = getattr(self, name)
            object.__setattr__(self, name, _read_only(given if len(given) else np.full(blank, np.nan), dtype))
        for name in ("ids", "kind", "tap_side"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("from_bus", "to_bus"):
            object.__setattr__(self, name, _read_only(getattr(self, name), np.intp))
        object.__setattr__(self, "in_service", _read_only(self.in_service, np.bool_))
        for name in NUMBERS:
            object.__setattr__(self, name, _read_only(getattr(self, name), np.float64))

    @property
    def is_line(self) -> NDArray[np.bool_]:
        """Which rows are lines.  Shape (m,)."""
        return np.array([kind == "line" for kind in self.kind], dtype=bool)

    @property
    def conductors(self) -> NDArray[np.bool_]:
        """Which of the phases a, b, c each branch has.  Shape (m, 3)."""
        return np.array([[phase in phases for phase in "abc"] for phases in self.phases], dtype=bool).reshape(-1, 3)

    @property
    def untransposed(self) -> NDArray[np.bool_]:
        """Lines whose conductors are told one by one (``z_abc_ohm``).  Shape (m,)."""
        told: NDArray[np.bool_] = np.asarray(~np.isnan(self.z_abc_ohm).all(axis=(1, 2)))
        return told

    @property
    def is_bank(self) -> NDArray[np.bool_]:
        """Transformers of which each phase has turns of its own (``turns_abc``).  Shape (m,)."""
        told: NDArray[np.bool_] = np.asarray(~np.isnan(self.turns_abc).all(axis=1))
        return told


LINE_NUMBERS = ("r1_ohm", "x1_ohm", "c1_nf", "r0_ohm", "x0_ohm", "c0_nf", "rating_a", "length_m")
TRANSFORMER_NUMBERS = (
    *("sn_kva", "v_from_v", "v_to_v", "uk_percent", "pk_kw", "i0_percent", "p0_kw"),
    *("clock", "tap_position", "tap_step_percent"),
)
NUMBERS = (*LINE_NUMBERS, *TRANSFORMER_NUMBERS)


def branches_of(records: Sequence[Line | Transformer], bus_index: dict[str, int]) -> Branches:
    """Return the columns of a few records; every bus they name must be in ``bus_index``."""
    numbers = {
        name: np.array([getattr(record, name, math.nan) for record in records], dtype=np.float64) for name in NUMBERS
    }
    return Branches(
        ids=tuple(record.id for record in records),
        kind=tuple("line" if isinstance(record, Line) else "transformer" for record in records),
        from_bus=np.array([bus_index[record.from_bus] for record in records], dtype=np.intp),
        to_bus=np.array([bus_index[record.to_bus] for record in records], dtype=np.intp),
        in_service=np.array([record.in_service for record in records], dtype=bool),
        tap_side=tuple(getattr(record, "tap_side", "") for record in records),
        phases=tuple(getattr(record, "phases", "abc") for record in records),
        z_abc_ohm=_matrices(records, "z_abc_ohm", np.complex128),
        c_abc_nf=_matrices(records, "c_abc_nf", np.float64),
        turns_abc=np.array([getattr(record, "turns", None) or (math.nan,) * 3 for record in records]).reshape(-1, 3),
        windings=tuple(getattr(record, "windings", "") for record in records),
        **numbers,
    )


def _matrices(records: Sequence[Line | Transformer], name: str, dtype: type) -> NDArray[Any]:
    given = [getattr(record, name, None) for record in records]
    return np.array([_BLANK if matrix is None else matrix for matrix in given], dtype=dtype).reshape(-1, 3, 3)
