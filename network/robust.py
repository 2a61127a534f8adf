"""Which uses of a box of envelopes are worst, found row by row.

A limit of the network is a row a·p <= b.  Over the box −m <= p <= e it is worst at a corner that the signs of a alone
tell [1]_::

    max a·p = a⁺·e + a⁻·m,    p_i = e_i where a_i > 0,  −m_i where a_i < 0                              (1)

(with at most Γ of them doing otherwise than the others: all export, or all import, plus the Γ largest of the changes).  A row of flow |s| <= s_max is a
polygon of such rows, one for each direction of the complex plane.  Few corners count: of an unbalanced feeder with 2^55
of them a handful.  They are found in two steps:

1. linear DistFlow tells which rows may come near their limit anywhere in the box, and their corners;
2. AC power flows at those corners, and the exact derivatives there (:meth:`network.headroom.Headroom.slopes`), tell each
   near row's own corner: so are found those where a voltage that others lower makes a current larger.

The uncertain data of a row (:mod:`network.assumed`) are worst at a point of their own, which goes with the corner.

Limits: finite, not a proof: AC power flows are not linear, and between corners something worse may lie.  Validate.

References
----------
.. [1] M. Z. Liu et al., "Robust operating envelopes", see also A. Ben-Tal et al., "Robust Optimization", Princeton, 2009.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case, Uses
from network.headroom import Headroom, Point
from network.linear import linear

__all__ = ["Prediction", "Rows", "rows_at_most", "worst"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Signs = NDArray[np.int8]

_DIRECTIONS = 8
_NEAR_VOLTAGE, _NEAR_FLOW = 0.03, 0.15
"""So far below its limit a row may be in linear DistFlow and yet be looked at; a polygon of 8 sides is 0.08 off."""
_NEAR_TOO = 0.01
"""Besides the nearest limit of a use, those within this."""
_MOST_TOO = 4
_MOST_TURNS = 8
_WEAK = 0.1
"""Of the largest influence on a limit: who has less may have it the other way round at another place."""
_NOTHING = 1e-9
_MOST_POLISHES = 4
_MOST_CORNERS = 16
"""Of each interval in one go."""


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
        self.near = np.where(np.arange(len(start)) < voltages, _NEAR_VOLTAGE, _NEAR_FLOW)
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
        small = np.abs(self.coefficient) <= _NOTHING * np.abs(self.coefficient).max(axis=1, initial=0.0)[:, None]
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
            if len(near) > _MOST_CORNERS:
                near = near[np.argsort(-best[near, t], kind="stable")[:_MOST_CORNERS]]
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
        small = np.abs(coefficient) <= _NOTHING * np.abs(coefficient).max(axis=0, initial=0.0)
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


def foremost(point: Point, interval: Index) -> Index:
    """Return the points that are solved, those alone of each interval that are nearest to a limit where there are many."""
    solved = np.flatnonzero(point.solved)
    if not len(solved) or not len(point.h):
        return np.empty(0, dtype=np.intp)
    interval = interval[solved]
    order = np.lexsort((-point.h[:, solved].max(axis=0), interval))
    rank = np.arange(len(order)) - np.searchsorted(interval[order], interval[order])
    return solved[np.sort(order[rank < _MOST_CORNERS])]


def nearest(headroom: Headroom, point: Point, interval: Index) -> tuple[Index, Index]:
    """Return limits and points (R,): of each point the nearest limit, and those about as near that are of another sort.

    A sort is a kind of voltage limit in one phase, or a branch: limits that are met together have corners of their own.
    """
    solved = foremost(point, interval)
    if not len(solved):
        return solved, solved
    h = point.h[:, solved]
    row, place = np.nonzero(h > np.minimum(h.max(axis=0), -_NEAR_TOO) - 1e-15)
    ahead = h[row, place]
    order = np.lexsort((row, -ahead, place))  # of every point the nearest first
    row, place, ahead = row[order], place[order], ahead[order]
    _, first = np.unique(headroom.sort[row] + place * (int(headroom.sort.max()) + 1), return_index=True)
    first.sort()
    row, place, ahead = row[first], place[first], ahead[first]
    rank = np.arange(len(place)) - np.searchsorted(place, place)
    keep = (rank < _MOST_TOO) & (ahead > np.where(rank > 0, -_NEAR_TOO, -_NEAR_FLOW))
    return row[keep], solved[place[keep]]


class Prediction:
    """The rows of all worlds, and the worst uses that have been found with them."""

    def __init__(self, case: Case, sign: int, rows: list[Rows] | None = None) -> None:
        self.case, self.sign = case, sign
        self.rows = [Rows(case, world, sign) for world in range(len(case.worlds))] if rows is None else rows
        self._known: set[bytes] = set()
        self._mixed = bool(case.spread_kw.any() or case.free_kvar.any())

    def fresh(self, uses: Uses) -> Uses:
        """Return those not seen before."""
        keep = []
        for k in range(len(uses)):
            extra = np.round(uses.extra[:, k], 6) + 0.0
            key = b"".join(
                (uses.column[k].tobytes(), uses.world[k].tobytes(), uses.sign[:, k].tobytes(), extra.tobytes())
            )
            if key not in self._known:
                self._known.add(key)
                keep.append(k)
        return uses.part(np.array(keep, dtype=np.intp))

    def first(self) -> Uses:
        """Return the corners that are always looked at: all export, all import."""
        case = self.case
        found = [case.corners(sign) for sign in ((1, -1) if self.sign == 0 else (self.sign,))]
        uses = found[0].join(found[1]) if len(found) > 1 else found[0]
        return self.fresh(
            Uses(uses.column, uses.world, np.where(case.acting[:, None], uses.sign, 0).astype(np.int8), uses.extra)
        )

    def more(self, known: Uses, export_kw: Vector, import_kw: Vector, columns: Mask) -> Uses:
        """Return uses besides those known that are worst for some row at these boxes (c, T), in some of the intervals."""
        case = self.case
        if self.sign and not self._mixed:  # one use of each world and interval is all there is
            return known.part(np.empty(0, dtype=np.intp))
        added = self.polished(
            known.part(columns[known.column]), export_kw, import_kw
        )  # what was worst may turn with the box
        for rows in self.rows:
            row, column = rows.near_corners(case, export_kw, import_kw)
            mine = columns[column]
            row, column = row[mine], column[mine]
            if not len(row):
                continue
            told = worst(
                *(case, self.sign, rows.world, (rows.per_kw[row].T, rows.per_kvar[row].T), column),
                *(export_kw[:, column], import_kw[:, column], rows.tie[row]),
            )
            added = added.join(self.fresh(told))
        fresh = added
        for _ in range(_MOST_POLISHES):
            if not len(fresh):
                break
            fresh = self.polished(fresh, export_kw, import_kw)
            added = added.join(fresh)
        if case.headroom.curve is not None and not self.sign:
            there = known.part(columns[known.column]).join(added)
            for _ in range(_MOST_TURNS):
                fresh = self.turned(there, export_kw, import_kw)
                if not len(fresh):
                    break
                added, there = added.join(fresh), fresh
        return added

    def turned(self, uses: Uses, export_kw: Vector, import_kw: Vector, most: int = _MOST_POLISHES) -> Uses:
        """Return, of the nearest uses of each interval, the one with one customer at its other end that is worse, if any.

        Curves have knots, losses bend: a derivative tells of its own place alone.
        """
        case = self.case
        ahead = self._ahead(uses, export_kw, import_kw)
        order = np.lexsort((-ahead, uses.column))
        rank = np.arange(len(order)) - np.searchsorted(uses.column[order], uses.column[order])
        near = np.sort(order[(rank < most) & (ahead[order] > -_NEAR_VOLTAGE)])
        who, at = np.nonzero(self._weak(uses.part(near), export_kw, import_kw))
        near, other = near[at], uses.part(near[at])
        other.sign[who, np.arange(len(who))] *= -1
        if case.mode == "budget":
            few = np.minimum((other.sign > 0).sum(axis=0), (other.sign < 0).sum(axis=0)) <= case.budget
            near, other = near[few], other.part(few)
        if not len(other):
            return other
        worse = self._ahead(other, export_kw, import_kw)
        worse = np.where(worse > ahead[near] + _NOTHING, worse, -np.inf)
        first = np.lexsort((-worse, near))
        first = first[np.unique(near[first], return_index=True)[1]]  # of each use the worst
        return self.fresh(other.part(np.sort(first[worse[first] > -np.inf])))

    def _weak(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> Mask:
        """Return who might matter the other way round elsewhere: moves the nearest limit little here, or has a curve.  Shape (c, U)."""
        weak = np.repeat(self.case.acting[:, None], len(uses), axis=1)
        for mine, headroom, point in self.case.measured(uses, export_kw[:, uses.column], import_kw[:, uses.column]):
            good = np.flatnonzero(point.solved)
            if headroom.curve is not None or not headroom.elements or not len(good):
                continue
            per_kw, per_kvar = headroom.slopes(point, point.h[:, good].argmax(axis=0), good)
            size = np.abs(per_kw + per_kvar * self.case.tan_phi[:, None]) * self.case.acting[:, None]
            weak[:, mine[good]] &= size < _WEAK * size.max(axis=0)
        return weak

    def _ahead(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> Vector:
        """Return how far each use is beyond its nearest limit, inf where the power flow has no solution.  Shape (U,)."""
        found = np.full(len(uses), -np.inf)
        for mine, headroom, point in self.case.measured(uses, export_kw[:, uses.column], import_kw[:, uses.column]):
            found[mine] = np.where(point.solved, point.h.max(axis=0) if headroom.elements else -np.inf, np.inf)
        return found

    def polished(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> Uses:
        """Return the own corners of the nearest rows of some uses, by AC power flow, where they differ."""
        case, found = self.case, uses.part(np.empty(0, dtype=np.intp))
        for mine, headroom, point in case.measured(uses, export_kw[:, uses.column], import_kw[:, uses.column]):
            if not headroom.elements:
                continue
            row, solved = nearest(headroom, point, uses.column[mine])
            if not len(solved):
                continue
            column = uses.column[mine[solved]]
            tie = np.where(row < len(headroom.above), 1, -1).astype(np.int8)
            for bend in ("here",) if headroom.curve is None else ("here", "level", "steep"):
                own = worst(
                    *(
                        case,
                        self.sign,
                        int(uses.world[mine[0]]),
                        headroom.slopes(point, row, solved, bend=bend),
                        column,
                    ),
                    *(export_kw[:, column], import_kw[:, column], tie),
                )
                found = found.join(self.fresh(own))
        return found
