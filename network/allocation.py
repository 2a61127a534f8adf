"""Envelopes that are an optimum, corrected by the AC power flow until they are at its limits.

A rule such as max_total wants the best x = (e, m) among all that the network carries.  In turn,

1. AC power flows at the worst uses of x: each near limit becomes a row of its own, its tangent with the exact derivatives
   there (:mod:`network.tangents`); the other rows are those of linear DistFlow, shifted by how much they err;
2. the best of all that these rows allow (:mod:`network.programme`) is the next x;

until the rows allow nothing that is better by 5e-5.  Every x is scaled towards the floors as far as the AC power flow asks
for; a step that does not lead to a better envelope is taken back, what was learnt there is kept, and the next one may go a
quarter as far.  Tangents that still hold are kept when x moves on, so that limits which grow with losses are met from all sides.

The start is the envelope of the rule "proportional".  The largest total has more than one top, since what is lost on the way
makes room: for few customers it is climbed to from "equal" and from "last_in_first_out" in either order too, and the best is
kept; for many, or with a budget, the start is the better of "proportional" and "last_in_first_out".

Limits: a local optimum of a problem that is not convex; no proof that it is the global one.  ``tests/test_envelope_allocation.py``
holds it to SciPy's SLSQP, and asks that more capacity take no more than 1e-4 of the largest total away.
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
_FEW = 12
"""Customers, up to whom the largest total is climbed to from every start; with more of them, one hardly matters."""
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
    linear = LinearRows(case, search.prediction.rows, sign)
    paths = [follow(_by(case, *start), sign, search.prediction.rows) for start in _starts(case)]
    first = _Climb(search, paths[0], linear)
    if _dear(case):  # one climb, from the better start
        for path in paths[1:]:
            first.take_better(path.safe, first.start(path))
    first.up(_ROUNDS_OF_FEW if case.mode == "budget" else _ROUNDS)
    for path in () if _dear(case) else paths[1:]:
        other = _Climb(search, path, linear)
        other.up(_ROUNDS)
        first.take_better(path.safe, other.best)
    c, best, path = len(case.acting), first.best, paths[0]
    last = Boxes(best[:c], best[c:], path.share_export, path.share_import, path.row_export.copy(), path.row_import.copy(),
                 path.safe)  # fmt: skip
    return _named(search, shrink(search, last, turn=True), first.cap, linear)


def _dear(case: Case) -> bool:
    return len(case.acting) > _FEW or case.mode == "budget"


def _starts(case: Case) -> tuple[tuple[str, bool], ...]:
    """Return where climbs begin: a rule with a path, and whether its queue is turned round."""
    if case.sharing.name != "max_total":  # nearly one top
        return (("proportional", False),)
    two = ("proportional", False), ("last_in_first_out", False)
    return two if _dear(case) else (*two, ("equal", False), ("last_in_first_out", True))


class _Climb:
    """The best envelopes so far of all intervals, x of shape (2c, T), and what is known of the limits around them."""

    def __init__(self, search: Search, path: Boxes, linear: LinearRows) -> None:
        case = self._case = search.case
        self._search, self._path = search, path
        self._export, self._import = search.sign >= 0, search.sign <= 0
        self.cap: Vector = np.vstack([case.export_cap * self._export, case.import_cap * self._import])
        self._floor: Vector = np.vstack([case.export_floor * self._export, case.import_floor * self._import])
        self._weight: Vector = np.tile(np.where(case.acting, case.sharing.weight, 0.0), 2)
        self._can: Mask = self.cap > self._floor
        self.best = self.start(path)
        self._worth = self._worth_of(self.best)
        self._linear = linear
        self._trials = _Trials(case, linear, self._weight, self.cap, self._floor)
        steps = len(case.source)
        self._radius, self._failed = np.full(steps, np.inf), np.zeros(steps, dtype=np.intp)
        self.going: Mask = path.safe.copy()
        """Intervals in which something better may yet be found."""

    def start(self, boxes: Boxes) -> Vector:
        """Return the envelopes of a path as x."""
        return np.asarray(np.vstack([boxes.export_kw * self._export, boxes.import_kw * self._import]))

    def _worth_of(self, x: Vector) -> Vector:
        return _worth(self._case, x, self._weight, self._can)

    def take_better(self, safe: Mask, x: Vector) -> None:
        """Take other envelopes in the intervals (T,) in which they are safe and better."""
        gain = self._worth_of(x)
        better = safe & (gain > self._worth)
        self.best[:, better], self._worth[better] = x[:, better], gain[better]

    def up(self, rounds: int) -> None:
        """Climb until the rows allow nothing better."""
        self.look()
        for _ in range(rounds):
            x, told, error = self.allowed()
            if not self.going.any():
                break
            self.judge(x, told, error)

    def look(self) -> None:
        """Find the tangents, and what the linear rows lack, at the best."""
        self._own, self._error = measure(self._search, self.best, self.going, self._linear)

    def allowed(self) -> tuple[Vector, list[Tangents], Vector]:
        """Return the best x that the rows allow, corrected by its own AC power flows, and the rows that were learnt."""
        search, c = self._search, len(self._case.acting)
        x, here, told = self.best.copy(), self._error, list(self._own)
        left = self.going.copy()
        for step in range(_CORRECTIONS):
            self._step(x, told, here, left)
            hopeful = self._worth_of(x) - self._worth > _SETTLED * np.abs(self._worth)
            if not step:  # the limits as they are at the best allow nothing better: it is an optimum
                self.going &= hopeful
            left &= self.going & hopeful
            for _ in range(_CORNER_ROUNDS):
                more = search.prediction.more(search.uses, x[:c], x[c:], left)
                search.uses = search.uses.join(more)
                if not len(more):
                    break
            found, at_x = measure(search, x, left, self._linear)
            here = np.where(left, np.maximum(here, at_x) if step else at_x, here)
            for t in np.flatnonzero(left):
                told[t] = told[t].join(found[t])
            broken, worst, _ = search.broken(search.uses.part(left[search.uses.column]), x[:c], x[c:])
            over = np.zeros(len(left))
            np.maximum.at(over, search.uses.column[left[search.uses.column]], np.where(broken, worst, 0.0))
            left &= over > _CLOSE
            if not left.any():
                break
        return x, told, here

    def _step(self, x: Vector, told: list[Tangents], error: Vector, left: Mask) -> None:
        """Put the optimum of the rows near the best into x; an interval whose rows allow nothing is done."""
        for t in np.flatnonzero(left):
            low = np.maximum(self._floor[:, t], self.best[:, t] - self._radius[t])
            high = np.minimum(self.cap[:, t], self.best[:, t] + self._radius[t])
            trial = self._trials.best(told[t], error[:, t], int(t), high, low)
            x[:, t] = self.best[:, t] if trial is None else trial
            self.going[t] &= trial is not None

    def judge(self, x: Vector, told: list[Tangents], error: Vector) -> None:
        """Scale x until it is safe; where it is better it is the best, else the next step is shorter."""
        search, path, c, going = self._search, self._path, len(self._case.acting), self.going
        scaled = shrink(search, Boxes(x[:c], x[c:], path.share_export.copy(), path.share_import.copy(),
                                      path.row_export, path.row_import, going.copy()))  # fmt: skip
        x = np.vstack([scaled.export_kw, scaled.import_kw])
        gain = self._worth_of(x)
        better = going & scaled.safe & (gain > self._worth)
        little = gain - self._worth <= _SETTLED * np.abs(self._worth)
        found, at_x = measure(search, x, going & better, self._linear)
        self._error = np.where(better, at_x, error)
        for t in np.flatnonzero(going):
            self._own[t] = found[t].with_those_that_hold(told[t], x[:, t]) if better[t] else told[t]
            size = max(np.abs(x[:, t] - self.best[:, t]).max(initial=0.0), 1e-6 * self.cap[:, t].max(initial=0.0))
            self._radius[t] = 2.0 * self._radius[t] if better[t] else size / 4.0
        self._failed = np.where(better & ~little, 0, self._failed + np.where(better, 3, 1))
        self.best[:, better], self._worth[better] = x[:, better], gain[better]
        self.going &= self._failed < _MOST_FAILURES


def _by(case: Case, rule: str, turned: bool) -> Case:
    order = case.sharing.order[::-1] if turned else case.sharing.order
    return replace(case, sharing=replace(case.sharing, rule=RULES[rule], order=order))


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
