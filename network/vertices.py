"""The corners of a box of uses at which something can be worst: few, where the box has 2^c.

Inside envelopes every customer i may inject anything in [l_i, u_i].  A linear row a·p <= b is worst where p_i = u_i for
a_i > 0 and l_i for a_i < 0, so that only the signs of a row count; and the rows of a feeder have few different signs.
On the European LV feeder all voltage rows of its 55 customers have three patterns, that and their opposites are worst
for over- and under-voltage.  A pattern is a column of +1 (the customer feeds in what it may) and −1 (it draws what it may).
With a fixed power factor the row is a + b tan φ, b that of the reactive power; where reactive power is free within ± q̄, it is a
coordinate of its own with the signs of b, and there are 2c' of them.

The patterns come from

- voltages: the signs of A in |V|² = … + A p (:mod:`network.linear`), upper and lower limit;
- flows: the signs of Re(exp(−jα) K), s = … + K p, for 16 angles α around the circle (|s| is convex in p), of the wires
  that all uses together could load to four fifths of their limit; entries below a thousandth of their row count as 0;
- by name: all export, all import, every way in which the phases can be opposed, every branch of the feeder against the
  others; free reactive power with the active one, and against it.

Where a row does not depend on a customer, both are tried: all of these at once.

Limits: finite and exact for the linear rows.  AC voltages are not linear, and a worse place may lie beside; that is what
the flip search and the sampling of :mod:`network.validation` look for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.linear import Linear, linear

__all__ = ["Vertices", "areas", "vertices"]

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Signs = NDArray[np.int8]
Vector = NDArray[np.float64]

_NOTHING_VOLTAGE, _NOTHING_FLOW = 1e-9, 1e-3
"""Of the largest entry of its row: below, a row does not depend on the customer."""

_NEAR = 0.8

_ANGLES = 16
_MOST_PHASE_WAYS = 6
_AT_ONCE = 8192


@dataclass(frozen=True, slots=True, eq=False)
class Vertices:
    """The corners to be tried."""

    signs: Signs
    """+1 feeds in, −1 draws, what it may.  Shape (c', W), c' active connections; or (2c', W), the last c' of free reactive power."""

    names: tuple[str, ...]
    """What each is, for people."""

    voltage_patterns: int
    """Different patterns among the voltage rows."""

    flow_patterns: int
    """Different patterns among the flow rows."""

    @property
    def uses(self) -> Vector:
        """The corners as uses: 1 feeds in, 0 draws, what it may.  Shape of ``signs``."""
        return (self.signs > 0).astype(np.float64)

    def columns(self, intervals: Index) -> Iterator[tuple[Vector, Index, Index]]:
        """Yield every corner in every interval, a bounded number at once: uses (c' or 2c', S), the interval and corner of each."""
        uses, many = self.uses, self.signs.shape[1]
        for begin in range(0, many * len(intervals), _AT_ONCE):
            flat = np.arange(begin, min(begin + _AT_ONCE, many * len(intervals)))
            corner = flat % many
            yield uses[:, corner], intervals[flat // many], corner


def vertices(
    model: Model, active: Index, watched: Mask, most_percent: Vector, reach_kva: Vector,
    kvar_per_kw: Vector | None = None, free_kvar: Vector | None = None,
) -> Vertices:  # fmt: skip
    """Return the corners at which a linear row can be worst, without repetition.

    Parameters
    ----------
    model
        The feeder with its connections.
    active : shape (c',)
        The connections that have an envelope.
    watched : shape (n_bus,)
        Buses whose voltage is limited.
    most_percent : shape (n_branch,)
        Bound of the loadings; inf where there is none. [%]
    reach_kva : shape (c,)
        The most that each connection can exchange. [kVA]
    kvar_per_kw : shape (c',)
        Reactive injection for each kW of active injection; None: none. [kvar/kW]
    free_kvar : shape (c',)
        Free reactive power; None: none. [kvar]
    """
    n = len(active)
    if not n:
        return Vertices(np.empty((0, 1), dtype=np.int8), ("nobody has an envelope",), 0, 0)
    found = _Corners(
        np.zeros(n) if kvar_per_kw is None else kvar_per_kw,
        np.zeros(n) if free_kvar is None else (free_kvar != 0).astype(np.float64),
    )
    _by_name(model, active, found)
    rows = linear(model)
    of_voltages = _worst_for_voltages(model, rows, active, watched, found)
    of_flows = _worst_for_flows(model, rows, active, most_percent, reach_kva, found)
    return Vertices(found.signs, tuple(found.names.values()), of_voltages, of_flows)


class _Corners:
    """Corners without repetition, each with the first name it was found by."""

    def __init__(self, kvar_per_kw: Vector, free: Vector) -> None:
        self._kvar_per_kw, self._free = kvar_per_kw, free
        self.names: dict[bytes, str] = {}

    @property
    def signs(self) -> Signs:
        """Shape (c' or 2c', W)."""
        return np.ascontiguousarray(
            np.array([np.frombuffer(key, dtype=np.int8) for key in self.names], dtype=np.int8).T
        )

    def keep(self, signs: Signs, name: str) -> None:
        """Add a corner."""
        self.names.setdefault(np.ascontiguousarray(signs, dtype=np.int8).tobytes(), name)

    def add(self, signs: Signs, name: str) -> None:
        """Add a corner in kW; where reactive power is free, with kvar that go the same way, and the other."""
        if self._free.any():
            self.keep(np.concatenate([signs, signs]), f"{name}, kW and kvar alike")
            self.keep(np.concatenate([signs, -signs]), f"{name}, kvar the other way")
        else:
            self.keep(signs, name)

    def coordinates(self, per_kw: Vector, per_kvar: Vector) -> Vector:
        """Return rows for each coordinate: what the active power does with its power factor, what free kvar does."""
        rows = per_kw + per_kvar * self._kvar_per_kw
        return np.hstack([rows, per_kvar * self._free]) if self._free.any() else rows


def _by_name(model: Model, active: Index, found: _Corners) -> None:
    """Add what people would try: all alike, phases opposed, branches of the feeder opposed."""
    n = len(active)
    found.add(np.ones(n, dtype=np.int8), "all export")
    found.add(-np.ones(n, dtype=np.int8), "all import")
    for mask, name in _opposed_phases([model.connection_phase[k] for k in active]):
        found.add(np.where(mask, 1, -1).astype(np.int8), name)
    where = areas(model)[active]
    for area in np.unique(where):
        if (where != area).any():
            name = model.feeder.buses.ids[area]
            found.add(
                np.where(where == area, 1, -1).astype(np.int8), f"what hangs on {name} exports, the others import"
            )
            found.add(
                np.where(where == area, -1, 1).astype(np.int8), f"what hangs on {name} imports, the others export"
            )


def _worst_for_voltages(model: Model, rows: Linear, active: Index, watched: Mask, found: _Corners) -> int:
    """Add the corners that are worst for a voltage, and return how many patterns there are."""
    node = watched[model.node_bus] & model.node_there
    a, b = rows.squared_v_per_kw[node][:, active], rows.squared_v_per_kvar[node][:, active]
    patterns, element = _patterns(found.coordinates(a, b), _NOTHING_VOLTAGE)
    for pattern, k in zip(patterns, element, strict=True):
        name = model.feeder.buses.ids[model.node_bus[node][k]]
        for signs in _filled(pattern):
            found.keep(signs, f"worst for over-voltage at {name}")
            found.keep(-signs, f"worst for under-voltage at {name}")
    return len(patterns)


def _worst_for_flows(
    model: Model, rows: Linear, active: Index, most_percent: Vector, reach_kva: Vector, found: _Corners
) -> int:
    """Add the corners that are worst for a loading that could come near its limit, and return how many patterns there are."""
    largest = np.abs(rows.flow_free_kva) + np.abs(rows.flow_per_kva) @ reach_kva
    with np.errstate(invalid="ignore"):
        near = largest >= _NEAR * most_percent[model.wire_branch] / 100.0 * rows.rated_kva
    wire = near & model.wire_there & (rows.rated_kva < np.inf)
    flow = rows.flow_per_kva[wire][:, active]
    angle = np.exp(-2j * np.pi * np.arange(_ANGLES) / _ANGLES)
    turned = (angle[:, None, None] * flow).reshape(-1, len(active))
    patterns, element = _patterns(found.coordinates(turned.real, -turned.imag), _NOTHING_FLOW)
    for pattern, k in zip(patterns, element, strict=True):
        name = model.feeder.branches.ids[model.wire_branch[wire][k % max(len(flow), 1)]]
        for signs in _filled(pattern):
            found.keep(signs, f"worst for the loading of {name}")
            found.keep(-signs, f"worst for the loading of {name}")
    return len(patterns)


def areas(model: Model) -> Index:
    """Return, for each connection, the bus at which its branch of the feeder leaves the first fork.  Shape (c,)."""
    feeder = model.feeder
    behind = np.zeros(feeder.n_bus, dtype=bool)
    behind[model.connection_bus] = True
    for bus in feeder.order[:0:-1]:
        behind[feeder.parent[bus]] |= behind[bus]
    top = np.full(feeder.n_bus, feeder.source_bus, dtype=np.intp)
    children = np.zeros(feeder.n_bus, dtype=np.intp)
    np.add.at(children, feeder.parent[feeder.order[1:]], behind[feeder.order[1:]].astype(np.intp))
    forked = np.zeros(feeder.n_bus, dtype=bool)
    for bus in feeder.order[1:]:
        above = feeder.parent[bus]
        fork = not forked[above] and children[above] > 1
        forked[bus] = forked[above] or fork
        top[bus] = bus if fork or not forked[above] else top[above]
    return np.asarray(top[model.connection_bus])


def _opposed_phases(phases: list[str]) -> list[tuple[Mask, str]]:
    """Return every way in which some of the phases feed in and the others draw."""
    there = sorted(set(phases))
    if not 1 < len(there) <= _MOST_PHASE_WAYS:
        return []
    whose = np.array([there.index(phase) for phase in phases])
    found = []
    for way in range(1, 2 ** len(there) - 1):
        up = [k for k in range(len(there)) if way >> k & 1]
        down = [k for k in range(len(there)) if k not in up]
        names, others = (" and ".join(there[k] for k in some) for some in (up, down))
        does, draws = (
            ("phases {} export" if len(up) > 1 else "phase {} exports"),
            "import" if len(down) > 1 else "imports",
        )
        found.append((np.isin(whose, up), f"{does.format(names)}, {others} {draws}"))
    return found


def _patterns(rows: Vector, nothing: float) -> tuple[Signs, Index]:
    """Return the different signs of some rows (0 where a row does not depend on a customer), and a row that has each."""
    if not rows.size:
        return np.empty((0, rows.shape[1]), dtype=np.int8), np.empty(0, dtype=np.intp)
    size = np.abs(rows).max(axis=1, keepdims=True)
    signs = (np.sign(rows) * (np.abs(rows) > nothing * size)).astype(np.int8)
    found, first = np.unique(signs, axis=0, return_index=True)
    some = found.any(axis=1)
    return found[some], first[some]


def _filled(pattern: Signs) -> list[Signs]:
    """Return a pattern with its zeros as +1, and as −1."""
    if pattern.all():
        return [pattern]
    return [np.where(pattern == 0, fill, pattern).astype(np.int8) for fill in (1, -1)]
