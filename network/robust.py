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
from network.robust_rows import MOST_CORNERS, NEAR_FLOW, NEAR_VOLTAGE, NOTHING, Rows, worst

__all__ = ["Prediction", "foremost", "nearest"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

_NEAR_TOO = 0.01
"""Besides the nearest limit of a use, those within this."""
_MOST_TOO = 4
_MOST_TURNS = 8
_WEAK = 0.1
"""Of the largest influence on a limit: who has less may have it the other way round at another place."""
_MOST_POLISHES = 4


def foremost(point: Point, interval: Index) -> Index:
    """Return the points that are solved, those alone of each interval that are nearest to a limit where there are many."""
    solved = np.flatnonzero(point.solved)
    if not len(solved) or not len(point.h):
        return np.empty(0, dtype=np.intp)
    interval = interval[solved]
    order = np.lexsort((-point.h[:, solved].max(axis=0), interval))
    rank = np.arange(len(order)) - np.searchsorted(interval[order], interval[order])
    return solved[np.sort(order[rank < MOST_CORNERS])]


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
    keep = (rank < _MOST_TOO) & (ahead > np.where(rank > 0, -_NEAR_TOO, -NEAR_FLOW))
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
        near = np.sort(order[(rank < most) & (ahead[order] > -NEAR_VOLTAGE)])
        who, at = np.nonzero(self._weak(uses.part(near), export_kw, import_kw))
        near, other = near[at], uses.part(near[at])
        other.sign[who, np.arange(len(who))] *= -1
        if case.mode == "budget":
            few = np.minimum((other.sign > 0).sum(axis=0), (other.sign < 0).sum(axis=0)) <= case.budget
            near, other = near[few], other.part(few)
        if not len(other):
            return other
        worse = self._ahead(other, export_kw, import_kw)
        worse = np.where(worse > ahead[near] + NOTHING, worse, -np.inf)
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
