"""An envelope to be computed, as arrays, and the operating points that a use of it means.

The limits e (export) and m (import) of the active connections make a box; a *use* says where in it everybody is, by a
sign each, and what uncertain data add::

    p_i = e_i (or −f_i with a firm charge f_i)     sign +1
          −m_i                                     sign −1                                             (1)
    q_i = forecast (or 0) + tan φ_i p_i + extra

in one of several worlds (impedances, source voltages).  A search over shares moves e and m and keeps the signs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.assumed import Reactive, Uncertainty
from network.envelope_asked import Tables
from network.headroom import Headroom, Point
from network.headroom_linear import LinearHeadroom
from network.rules import Sharing

__all__ = ["Case", "Uses", "World", "worlds"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Signs = NDArray[np.int8]

_ENTRIES_AT_ONCE = 2_000_000
"""Voltages of a batch of operating points; bounds the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """One way the data may be."""

    headroom: Headroom
    source_add_pu: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Uses:
    """U ways to use the envelopes, each in one interval."""

    column: Index
    """The interval.  Shape (U,)."""

    world: Index
    """Shape (U,)."""

    sign: Signs
    """Shape (c, U)."""

    extra: Complex
    """Free reactive power, and what passive loads differ from their forecast.  Shape (c, U). [kW + j kvar]"""

    def __len__(self) -> int:
        return len(self.column)

    def part(self, keep: Index | Mask) -> Uses:
        """Return some of them."""
        return Uses(self.column[keep], self.world[keep], self.sign[:, keep], self.extra[:, keep])

    def join(self, other: Uses) -> Uses:
        """Return both."""
        return Uses(
            np.concatenate([self.column, other.column]),
            np.concatenate([self.world, other.world]),
            np.hstack([self.sign, other.sign]),
            np.hstack([self.extra, other.extra]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """T intervals of c connections, checked; zeros for passive connections."""

    worlds: tuple[World, ...]
    sharing: Sharing
    mode: str
    budget: int
    """Γ of the mode "budget"."""
    source: Vector
    """Shape (T,). [p.u.]"""
    acting: Mask
    """Shape (c,)."""
    fixed: Complex
    """What passive connections inject, and the reactive power of the others that does not follow.  Shape (c, T)."""
    export_cap: Vector
    import_cap: Vector
    export_floor: Vector
    import_floor: Vector
    firm: Vector
    tan_phi: Vector
    """Shape (c,)."""
    free_kvar: Vector
    """Shape (c,)."""
    spread_kw: Vector
    """δ of uncertain passive loads.  Shape (c, T)."""
    load_tan: Vector
    """Their reactive power for each kW.  Shape (c, T)."""
    uncertainty: Uncertainty

    @classmethod
    def of(
        cls,
        in_worlds: tuple[World, ...],
        sharing: Sharing,
        mode: str,
        budget: int,
        source: Vector,
        acting: Mask,
        base: Complex,
        tables: Tables,
        reactive: Reactive,
        uncertainty: Uncertainty,
    ) -> Case:
        """Return the case of what was asked: who must draw exports nothing, and active connections keep no active base load.

        Parameters
        ----------
        in_worlds, sharing, mode, budget, source, acting
            As the fields.
        base : shape (c, T)
            Forecast of every connection. [kW + j kvar]
        tables, reactive, uncertainty
            What is granted, and what is assumed.
        """
        c = len(acting)
        tan = np.zeros(c) if reactive.tan_phi is None else np.broadcast_to(np.asarray(reactive.tan_phi, float), (c,))
        follows = reactive.tan_phi is not None or (
            reactive.curve is not None and not np.any(np.asarray(reactive.free_kvar))
        )
        passive_kw = np.where(acting[:, None], 0.0, base.real)
        obliged = tables.firm > 0
        return cls(
            worlds=in_worlds,
            sharing=sharing,
            mode=mode,
            budget=budget,
            source=source,
            acting=acting,
            fixed=np.where(acting[:, None], 0.0 if follows else 1j * base.imag, base),
            export_cap=np.where(obliged, 0.0, tables.export_cap),
            import_cap=tables.import_cap,
            export_floor=np.where(obliged, 0.0, tables.export_floor),
            import_floor=np.maximum(tables.import_floor, tables.firm),
            firm=tables.firm,
            tan_phi=np.where(acting, tan, 0.0),
            free_kvar=np.where(acting, np.broadcast_to(np.asarray(reactive.free_kvar, float), (c,)), 0.0),
            spread_kw=np.where(acting[:, None], 0.0, uncertainty.spread_kw(base.real)),
            load_tan=np.divide(base.imag, passive_kw, out=np.zeros(base.shape), where=passive_kw != 0),
            uncertainty=uncertainty,
        )

    @property
    def plain(self) -> bool:
        """Whether one world, and no extra, is all there is."""
        return len(self.worlds) == 1 and not self.free_kvar.any() and not self.spread_kw.any()

    @property
    def headroom(self) -> Headroom:
        """The feeder as it is told."""
        return self.worlds[0].headroom

    @property
    def width(self) -> int:
        """Operating points at once."""
        return max(_ENTRIES_AT_ONCE // max(len(self.headroom.model.w), 1), 64)

    def between(self, part: slice) -> Case:
        """Return some of the intervals."""
        per_interval = (
            *("fixed", "export_cap", "import_cap", "export_floor", "import_floor", "firm"),
            *("spread_kw", "load_tan"),
        )
        return replace(self, source=self.source[part], **{name: getattr(self, name)[:, part] for name in per_interval})

    def injection(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> Complex:
        """Return (1) for limits of shape (c, U), one column for each use.  Shape (c, U). [kW + j kvar]"""
        col = uses.column
        firm = self.firm[:, col]
        top = np.where(firm > 0, -firm, export_kw)
        p = np.where(uses.sign > 0, top, -import_kw) * self.acting[:, None]
        return np.asarray(self.fixed[:, col] + p * (1.0 + 1j * self.tan_phi[:, None]) + uses.extra)

    def source_of(self, uses: Uses) -> Vector:
        """Return the source's voltage of every use.  Shape (U,). [p.u.]"""
        add = np.array([world.source_add_pu for world in self.worlds])
        return np.asarray(self.source[uses.column] + add[uses.world])

    def batches(self, uses: Uses) -> list[tuple[Headroom, Index]]:
        """Return the uses, some at once, each batch with its headroom."""
        found = []
        for number, world in enumerate(self.worlds):
            mine = np.flatnonzero(uses.world == number)
            found += [(world.headroom, mine[k : k + self.width]) for k in range(0, len(mine), self.width)]
        return found

    def measured(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> list[tuple[Index, Headroom, Point]]:
        """Run the AC power flow of every use, limits of shape (c, U); return batches: which uses, where, what came out."""
        source = self.source_of(uses)
        answers = []
        for headroom, mine in self.batches(uses):
            here = uses.part(mine)
            answers.append(
                (
                    mine,
                    headroom,
                    headroom.at(self.injection(here, export_kw[:, mine], import_kw[:, mine]), source[mine]),
                )
            )
        return answers

    def corners(self, sign: int) -> Uses:
        """Return the use of every interval and world in which everybody has the same sign."""
        steps, n = len(self.source), len(self.worlds)
        shape = (len(self.acting), steps * n)
        return Uses(
            np.tile(np.arange(steps), n),
            np.repeat(np.arange(n), steps),
            np.full(shape, sign, dtype=np.int8),
            np.zeros(shape, dtype=np.complex128),
        )


def worlds(
    model: Model,
    bounds: tuple[Vector, Vector, Vector],
    reactive: Reactive,
    uncertainty: Uncertainty,
    *,
    linear: bool = False,
) -> tuple[World, ...]:
    """Return the feeder with its limits, in every way it may be; first the feeder as told where it is the only one.

    Parameters
    ----------
    model
        The feeder with its connections.
    bounds
        Lowest and highest voltage of every bus, highest loading of every branch. [p.u.], [p.u.], [%]
    reactive, uncertainty
        What is assumed.
    linear
        Measured by linear DistFlow instead of the AC power flow.
    """
    factors = [1.0] if not uncertainty.impedance_percent else [
        1.0 + sign * uncertainty.impedance_percent / 100.0 for sign in (1, -1)
    ]  # fmt: skip
    sources = [0.0] if not uncertainty.source_v_pu else [uncertainty.source_v_pu, -uncertainty.source_v_pu]
    told = LinearHeadroom(model, *bounds) if linear else Headroom(model, *bounds, reactive.curve)
    headrooms = [told.with_impedance(factor) for factor in factors]
    return tuple(World(headroom, add) for headroom in headrooms for add in sources)
