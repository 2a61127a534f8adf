"""Envelopes that are an optimum, corrected by the AC power flow until they are at its limits.

A rule such as max_total wants the best x = (e, m) among all that the network carries.  In turn,

1. AC power flows at the worst uses of x: each near limit becomes a row of its own, its tangent with the exact derivatives
   there (:mod:`network.tangents`); the other rows are those of linear DistFlow, shifted by how much they err;
2. the best of all that these rows allow (:mod:`network.programme`) is the next x;

until the rows allow nothing that is better by 5e-5.  Every x is scaled towards the floors as far as the AC power flow asks
for; a step that does not lead to a better envelope is taken back, what was learnt there is kept, and the next one may go a
quarter as far.  Tangents that still hold are kept when x moves on, so that limits which grow with losses are met from all sides.

The start is the envelope of the rule "proportional", or of "last_in_first_out" where that is better.

Limits: a local optimum of a problem that is not convex; no proof that it is the global one.  On 61 random trees, both
sides, SciPy's SLSQP found something better by more than 5e-5 once (3e-4).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case
from network.programme import Programme
from network.robust_path import Boxes, Search, follow, shrink
from network.rules import RULES
from network.tangents import INSIDE, LinearRows, Tangents, measure

__all__ = ["optimum"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

_MOST_AT_ONCE = 6
_ROUNDS, _ROUNDS_OF_FEW = 30, 10
_CORRECTIONS = 2
_CLOSE = 1e-5
_BROKEN = 1e-9
_CORNER_ROUNDS = 2
_MOST_FAILURES = 3
_SETTLED = 5e-5
_NAMED = 1e-4
"""A limit is named as binding where it is nearer than this."""
_CONCERNS = 0.01
"""Of its strain: less, and a limit does not concern a side."""


def optimum(case: Case, sign: int) -> Boxes:
    """Return the envelopes of a rule that is an optimum.

    Parameters
    ----------
    case
        The intervals.
    sign
        0: both sides together; 1, −1: one side alone.
    """
    search = Search(case, sign)
    path = follow(_by(case, "proportional"), sign, search.prediction.rows)
    cap = np.vstack([case.export_cap * (sign >= 0), case.import_cap * (sign <= 0)])
    floor = np.vstack([case.export_floor * (sign >= 0), case.import_floor * (sign <= 0)])
    weight = np.tile(np.where(case.acting, case.sharing.weight, 0.0), 2)
    best = np.vstack([path.export_kw * (sign >= 0), path.import_kw * (sign <= 0)])
    can: Mask = cap > floor
    worth, c = _worth(case, best, weight, can), len(case.acting)
    if case.sharing.name == "max_total":  # a second start, far from the first
        queue = follow(_by(case, "last_in_first_out"), sign, search.prediction.rows)
        other = np.vstack([queue.export_kw * (sign >= 0), queue.import_kw * (sign <= 0)])
        gain = _worth(case, other, weight, can)
        better = queue.safe & (gain > worth)
        best[:, better], worth[better] = other[:, better], gain[better]
    linear = LinearRows(case, search.prediction.rows, sign)
    trials = _Trials(case, linear, weight, cap, floor)
    radius, failed = np.full(len(case.source), np.inf), np.zeros(len(case.source), dtype=np.intp)
    going = path.safe.copy()
    own, error = measure(search, best, going, linear)
    for _ in range(_ROUNDS_OF_FEW if case.mode == "budget" else _ROUNDS):
        x, here, told = best.copy(), error, list(own)
        left = going.copy()
        for step in range(_CORRECTIONS):
            for t in np.flatnonzero(left):
                low, high = (
                    np.maximum(floor[:, t], best[:, t] - radius[t]),
                    np.minimum(cap[:, t], best[:, t] + radius[t]),
                )
                trial = trials.best(told[t], here[:, t], int(t), high, low)
                x[:, t] = best[:, t] if trial is None else trial
                going[t] &= trial is not None
            hopeful = _worth(case, x, weight, can) - worth > _SETTLED * np.abs(worth)
            if not step:  # the limits as they are at the best allow nothing better: it is an optimum
                going &= hopeful
            left &= going & hopeful
            for _ in range(_CORNER_ROUNDS):
                more = search.prediction.more(search.uses, x[:c], x[c:], left)
                search.uses = search.uses.join(more)
                if not len(more):
                    break
            found, at_x = measure(search, x, left, linear)
            here = np.where(left, np.maximum(here, at_x) if step else at_x, here)
            for t in np.flatnonzero(left):
                told[t] = told[t].join(found[t])
            broken, worst, _ = search.broken(search.uses.part(left[search.uses.column]), x[:c], x[c:])
            over = np.zeros(len(left))
            np.maximum.at(over, search.uses.column[left[search.uses.column]], np.where(broken, worst, 0.0))
            left &= over > _CLOSE
            if not left.any():
                break
        if not going.any():
            break
        scaled = shrink(search, Boxes(x[:c], x[c:], path.share_export.copy(), path.share_import.copy(),
                                      path.row_export, path.row_import, going.copy()))  # fmt: skip
        x = np.vstack([scaled.export_kw, scaled.import_kw])
        gain = _worth(case, x, weight, can)
        better = going & scaled.safe & (gain > worth)
        little = gain - worth <= _SETTLED * np.abs(worth)
        found, error = measure(search, x, going & better, linear)
        error = np.where(better, error, here)
        for t in np.flatnonzero(going):
            own[t] = found[t].with_those_that_hold(told[t], x[:, t]) if better[t] else told[t]
            size = np.abs(x[:, t] - best[:, t]).max(initial=0.0)
            radius[t] = 2.0 * radius[t] if better[t] else max(size, 1e-6 * cap[:, t].max(initial=0.0)) / 4.0
        failed = np.where(better & ~little, 0, failed + np.where(better, 3, 1))
        best[:, better], worth[better] = x[:, better], gain[better]
        going &= failed < _MOST_FAILURES
    last = Boxes(
        best[:c],
        best[c:],
        path.share_export,
        path.share_import,
        path.row_export.copy(),
        path.row_import.copy(),
        path.safe,
    )
    return _named(search, shrink(search, last, turn=True), cap, linear)


def _by(case: Case, rule: str) -> Case:
    return replace(case, sharing=replace(case.sharing, rule=RULES[rule]))


class _Trials:
    """The programmes of all intervals, over the limits found by AC power flow and those linear rows that come near."""

    def __init__(self, case: Case, linear: LinearRows, weight: Vector, cap: Vector, floor: Vector) -> None:
        moves = self._moves = np.asarray((cap > floor).any(axis=1))
        self._sharing, self._weight, self._rest = case.sharing, weight[moves], floor[~moves]
        self._rows = np.ascontiguousarray(linear.rows[:, moves])
        self._bound = linear.bound - linear.rows[:, ~moves] @ self._rest
        if case.mode == "budget" and case.budget < case.acting.sum():  # its linear rows have no such form
            self._bound = np.full(linear.bound.shape, np.inf)
        self._name, self._silent = linear.name, np.zeros(len(case.worlds) * len(case.headroom.elements), dtype=bool)
        self._near: list[list[int]] = [[] for _ in case.source]

    def best(self, own: Tangents, error: Vector, t: int, high: Vector, low: Vector) -> Vector | None:
        """Return the optimum of one interval between two bounds of x; ``error`` is what the linear rows lack."""
        moves, near = self._moves, self._near[t]
        bound = self._bound[:, t] - error - INSIDE
        self._silent[own.name] = True  # these have rows that know better
        bound[self._silent[self._name]] = np.inf
        self._silent[own.name] = False
        keep = [k for k in near if bound[k] < np.inf]
        found: Vector | None = None
        rows = np.vstack([own.rows[:, moves], self._rows[keep]])
        limits = np.concatenate([own.limit - own.rows[:, ~moves] @ self._rest[:, t], bound[keep]])
        for _ in range(_ROUNDS):
            single = Programme(rows, self._sharing.name, self._weight, self._sharing.alpha)
            single.taken = list(range(len(rows)))
            found = single.of_taken(limits, high[moves], low[moves])
            if found is None:
                return None
            over = self._rows @ found - bound
            over[keep] = -np.inf
            new = sorted(np.flatnonzero(over > _BROKEN).tolist(), key=lambda k: -over[k])[:_MOST_AT_ONCE]
            if not new:
                break
            near += [k for k in new if k not in near]
            keep += new
            rows, limits = np.vstack([rows, self._rows[new]]), np.concatenate([limits, bound[new]])
        x = low.copy()
        x[moves] = found
        return x


def _worth(case: Case, x: Vector, weight: Vector, can: Mask) -> Vector:
    """Return the rule's own measure of envelopes (2c, T), of those who can have more or less."""
    name, a = case.sharing.name, case.sharing.alpha
    if name == "max_total":
        return np.asarray(weight @ x)
    logs = np.log(np.maximum(x, 1e-6))
    if name == "proportional_fairness" or a == 1.0:
        return np.asarray((weight[:, None] * can * logs).sum(axis=0))
    return np.asarray((weight[:, None] * can * np.exp((1.0 - a) * logs) / (1.0 - a)).sum(axis=0))


def _named(search: Search, boxes: Boxes, cap: Vector, linear: LinearRows) -> Boxes:
    """Name the nearest limit that each side strains, in every interval, and tell how much of the caps was given."""
    c = len(search.case.acting)
    x = np.vstack([boxes.export_kw, boxes.import_kw])
    near, _ = measure(search, x, boxes.safe, linear)
    elements = len(search.case.headroom.elements)
    for part, share, rows in (
        (slice(None, c), boxes.share_export, boxes.row_export),
        (slice(c, None), boxes.share_import, boxes.row_import),
    ):
        total = cap[part].sum(axis=0)
        got = np.divide(x[part].sum(axis=0), total, out=np.ones(len(total)), where=total > 0)
        for t in np.flatnonzero(boxes.safe):
            full = got[t] >= 1.0 - 1e-12
            share[t], rows[t], nearest = 1.0 if full else got[t], -1, -_NAMED
            size = np.abs(near[t].rows)
            strained = size[:, part].sum(axis=1) > _CONCERNS * size.sum(axis=1)
            for k in np.flatnonzero(strained) if not full else ():
                ahead = float(near[t].rows[k] @ x[:, t] - near[t].limit[k]) - INSIDE
                if ahead > nearest:
                    rows[t], nearest = near[t].name[k] % elements, ahead
    return boxes
