"""The limits of a feeder as rows in linear DistFlow, and the use of a box of envelopes that is worst for a row.

A row a·p <= b is worst over the box −m <= p <= e at a corner that the signs of a alone tell, equation (1) of
:mod:`network.robust`; with at most Γ doing otherwise than the others at all export, or all import, plus the Γ largest of the
changes.  A row of flow |s| <= s_max is a polygon of such rows, one for each direction of the complex plane.  The same signs,
from the exact derivatives of an AC power flow instead of a, tell the corner of a limit at that place.  The uncertain data of a
row (:mod:`network.assumed`) are worst at a point of their own, which goes with the corner.

Limits: rows out of reach of the caps are left out, with a margin for what linear DistFlow lacks: 0.03 of a voltage, 0.15 of a flow.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case, Uses
from network.headroom import Headroom
from network.linear import linear

__all__ = ["MOST_CORNERS", "NEAR_FLOW", "NEAR_VOLTAGE", "NOTHING", "Rows", "rows_at_most", "worst"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Signs = NDArray[np.int8]

NEAR_VOLTAGE, NEAR_FLOW = 0.03, 0.15
"""So far below its limit a row may be in linear DistFlow and yet be looked at; a polygon of 8 sides is 0.08 off."""
NOTHING = 1e-9
"""Of the largest influence on a row: less is none."""
MOST_CORNERS = 16
"""Of each interval in one go."""
_DIRECTIONS = 8


def rows_at_most(case: Case) -> int:
    """Return how many linear rows a case has at most."""
    headroom = case.headroom
    return len(headroom.above) + len(headroom.below) + _DIRECTIONS * len(headroom.rated) + 1


class Rows:
    """The limits of a feeder as rows in linear DistFlow, as h = base + a·p + b·q <= 0, without those out of reach.

    Parameters
    ----------
    case
        The intervals.
    world
        Whose limits.
    sign
        1 or −1: everybody at that side; 0: anywhere.
    """

    def __init__(self, case: Case, world: int, sign: int) -> None:
        headroom = case.worlds[world].headroom
        model, found = headroom.model, linear(headroom.model)
        source = case.source + case.worlds[world].source_add_pu
        above, below, rated = headroom.above, headroom.below, headroom.rated
        most = headroom.most[:, 0] / 100.0 * found.rated_kva[rated]
        most = np.where(model.ends.is_line[rated], most * source.mean() if len(source) else most, most)
        turn = np.exp(-2j * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS)
        flow = (turn[:, None, None] * (found.flow_per_kva[rated] / most[:, None])).reshape(-1, model.n_connection)
        free = (turn[:, None] * (found.flow_free_kva[rated] / most)).real.ravel()
        square, lowest = headroom.highest, headroom.lowest
        self.per_kw: Vector = np.vstack(
            [found.squared_v_per_kw[above] / square, -found.squared_v_per_kw[below] / lowest, flow.real]
        )
        self.per_kvar: Vector = np.vstack(
            [found.squared_v_per_kvar[above] / square, -found.squared_v_per_kvar[below] / lowest, -flow.imag]
        )
        per_source = np.concatenate(
            [found.squared_v_free[above] / square[:, 0], -found.squared_v_free[below] / lowest[:, 0], free]
        )
        start = np.concatenate([-np.ones(len(above)), np.ones(len(below)), -np.ones(len(free))])
        voltages = len(above) + len(below)
        self.row: Index = np.concatenate([np.arange(voltages), np.tile(voltages + np.arange(len(rated)), _DIRECTIONS)])
        self.near = np.where(np.arange(len(start)) < voltages, NEAR_VOLTAGE, NEAR_FLOW)
        # who does not move a voltage lets it be; whoever does not move a flow makes it larger by drawing: less voltage
        self.tie: Signs = np.where(np.arange(len(start)) < len(above), 1, -1).astype(np.int8)
        self.world, self.sign = world, sign

        coefficient = self.per_kw + self.per_kvar * case.tan_phi
        reach = np.maximum(coefficient, 0.0) @ (case.export_cap * (sign >= 0)).max(axis=1, initial=0.0)
        reach += np.maximum(-coefficient, 0.0) @ (case.import_cap * (sign <= 0)).max(axis=1, initial=0.0)
        base = start[:, None] + per_source[:, None] * source**2
        base = base + self.per_kw @ case.fixed.real + self.per_kvar @ case.fixed.imag
        base += np.abs(self.per_kvar) @ (case.free_kvar * case.acting)[:, None]
        base += self._loads(case, headroom)
        keep = np.flatnonzero(base.max(axis=1, initial=-np.inf) + reach > -self.near)
        for name in ("per_kw", "per_kvar", "row", "near", "tie"):
            setattr(self, name, getattr(self, name)[keep])
        self.base: Vector = base[keep]
        self.coefficient: Vector = coefficient[keep] * case.acting
        small = np.abs(self.coefficient) <= NOTHING * np.abs(self.coefficient).max(axis=1, initial=0.0)[:, None]
        self.pattern: Signs = np.where(small, self.tie[:, None], np.sign(self.coefficient)).astype(np.int8)
        self.pattern[:, ~case.acting] = 0
        own = bool(case.spread_kw.any() or case.free_kvar.any() or case.mode == "budget")
        group = (
            np.arange(len(keep)) if own or not len(keep) else np.unique(self.pattern, axis=0, return_inverse=True)[1]
        )
        self._by_group: Index = np.argsort(group.ravel(), kind="stable")
        self._starts: Index = np.flatnonzero(np.diff(group.ravel()[self._by_group], prepend=-1))

    def _loads(self, case: Case, headroom: Headroom) -> Vector:
        if not case.spread_kw.any():
            return np.zeros((len(self.per_kw), len(case.source)))
        found = [
            np.sum(_worst_loads(case, g, np.full(len(g.T), t), headroom) * g, axis=0)
            for t in range(len(case.source))
            for g in [(self.per_kw + self.per_kvar * case.load_tan[:, t]).T]
        ]
        return np.asarray(found).T

    def highest(self, case: Case, export_kw: Vector, import_kw: Vector) -> Vector:
        """Return the h of every row at its corner of the boxes (c, T).  Shape (k, T)."""
        top = np.where(case.firm > 0, -case.firm, export_kw)
        if case.mode == "budget" and self.sign == 0:
            return self._highest_of_few(case, top, import_kw)
        if self.sign:
            use = top if self.sign > 0 else -import_kw
            return np.asarray(self.base + self.coefficient @ use)
        plus, minus = np.maximum(self.coefficient, 0.0), np.maximum(-self.coefficient, 0.0)
        return np.asarray(self.base + plus @ top + minus @ import_kw)

    def _highest_of_few(self, case: Case, top: Vector, import_kw: Vector) -> Vector:
        few = min(case.budget, len(case.acting))
        found = np.full(self.base.shape, -np.inf)
        for t in range(len(case.source)):
            change: Vector = self.coefficient * (top[:, t] + import_kw[:, t])  # from import to export
            for at, gain in ((top[:, t], -change), (-import_kw[:, t], change)):
                value = self.base[:, t] + self.coefficient @ at
                if few:
                    value = value + np.maximum(np.partition(gain, -few, axis=1)[:, -few:], 0.0).sum(axis=1)
                found[:, t] = np.maximum(found[:, t], value)
        return found

    def near_corners(self, case: Case, export_kw: Vector, import_kw: Vector) -> tuple[Index, Index]:
        """Return rows and intervals (R,) that may come near: of those with one corner the nearest."""
        if not len(self.row):
            return np.empty(0, dtype=np.intp), np.empty(0, dtype=np.intp)
        ahead = (self.highest(case, export_kw, import_kw) + self.near[:, None])[self._by_group]
        best = np.maximum.reduceat(ahead, self._starts, axis=0)
        ends = np.append(self._starts[1:], len(ahead))
        rows, columns = [], []
        for t in range(best.shape[1]):
            near = np.flatnonzero(best[:, t] > 0)
            if len(near) > MOST_CORNERS:
                near = near[np.argsort(-best[near, t], kind="stable")[:MOST_CORNERS]]
            rows += [self._by_group[self._starts[g] + int(ahead[self._starts[g] : ends[g], t].argmax())] for g in near]
            columns += [t] * len(near)
        return np.array(rows, dtype=np.intp), np.array(columns, dtype=np.intp)


def worst(
    case: Case,
    sign: int,
    world: int,
    slopes: tuple[Vector, Vector],
    column: Index,
    export_kw: Vector,
    import_kw: Vector,
    tie: Signs,
) -> Uses:
    """Return the worst use for each of R rows; of the mode "budget" two, one from each vertex.

    Parameters
    ----------
    case
        The intervals.
    sign
        As of :class:`Rows`.
    world
        Of the rows.
    slopes
        ∂h/∂p and ∂h/∂q, shape (c, R) each.
    column : shape (R,)
        Intervals.
    export_kw, import_kw : shape (c, R)
        The boxes. [kW]
    tie : shape (R,)
        Sign of those who do not matter.
    """
    per_kw, per_kvar = slopes
    acting = case.acting[:, None]
    coefficient = (per_kw + per_kvar * case.tan_phi[:, None]) * acting
    if sign:
        signs = np.full(coefficient.shape, sign, dtype=np.int8)
    else:
        small = np.abs(coefficient) <= NOTHING * np.abs(coefficient).max(axis=0, initial=0.0)
        signs = np.where(small, tie, np.sign(coefficient)).astype(np.int8)
        if case.mode == "budget":
            firm = case.firm[:, column]
            change = coefficient * (np.where(firm > 0, -firm, export_kw) + import_kw)
            both = [np.where(_largest(-change, case.budget), -1, 1), np.where(_largest(change, case.budget), 1, -1)]
            signs, column = np.hstack(both).astype(np.int8), np.tile(column, 2)
            per_kw, per_kvar = np.tile(per_kw, 2), np.tile(per_kvar, 2)
    signs = np.where(acting, signs, 0).astype(np.int8)
    extra = 1j * np.sign(per_kvar) * (case.free_kvar * case.acting)[:, None]
    if case.spread_kw.any():
        tan = case.load_tan[:, column]
        u = _worst_loads(case, per_kw + per_kvar * tan, column, case.worlds[world].headroom)
        extra = extra + u * (1.0 + 1j * tan)
    return Uses(column, np.full(len(column), world, dtype=np.intp), signs, extra.astype(np.complex128))


def _largest(gain: Vector, count: int) -> Mask:
    """Return which are among the largest of their column, and positive."""
    rank = np.argsort(np.argsort(-gain, axis=0, kind="stable"), axis=0)
    return np.asarray((rank < count) & (gain > 0))


def _worst_loads(case: Case, g: Vector, column: Index, headroom: Headroom) -> Vector:
    """Return u of (1) or (2) in :mod:`network.assumed` for rows g (c, R).  Shape (c, R). [kW]"""
    spread, data = case.spread_kw[:, column], case.uncertainty
    if data.shape == "box":
        return np.asarray(spread * np.sign(g))
    turned = (1.0 - data.correlation) * spread**2 * g + data.correlation * spread * np.sum(spread * g, axis=0)
    size = np.sqrt(np.maximum(np.sum(g * turned, axis=0), 0.0))
    return np.asarray(
        np.divide(data.radius_of(len(headroom.elements)) * turned, size, out=np.zeros_like(g), where=size > 0)
    )
