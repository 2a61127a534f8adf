"""Envelopes that are an optimum, corrected by the AC power flow until they are at its limits.

A rule such as max_total wants the best x = (e, m) among all that the network carries.  Rows of linear DistFlow, a corner
each (:mod:`network.robust`), make it a programme (:mod:`network.programme`); then, in turn,

1. AC power flows at the worst uses of x: which limits are near or broken, and by how much the linear rows err there;
2. each near limit becomes a row of its own, with the exact derivatives of the AC power flow at its own worst use,
   h(x₀) + ∂h/∂x (x − x₀) <= 0; the others are shifted by their error; the programme is solved again;

until x stays.  So a constant error does not leave capacity unused.  Every x is scaled towards the floors as far as the AC
power flow asks for; a step that does not lead to a better envelope is taken back, what was learnt there is kept, and the next one
may go a quarter as far.

The start is the envelope of the rule "proportional", or of "last_in_first_out" where that is better.

Limits: a local optimum of a problem that is not convex; no proof that it is the global one.  On random trees one in two
hundred was 0.8 % below another local optimum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case, Uses
from network.headroom import Headroom, Point
from network.programme import Programme
from network.robust import Rows
from network.robust_path import Boxes, Search, follow, shrink
from network.rules import RULES

__all__ = ["optimum"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Row = tuple[int, int, Vector, float]
"""World and limit, g and h of g x <= h."""

_INSIDE = 1e-7
_NEAR = 0.02
_MOST_NEAR = 6
_SLOPES = 1e-4
_ROUNDS = 30
_CORRECTIONS = 3
_CLOSE = 1e-5
_CORNER_ROUNDS = 2
_MOST_FAILURES = 6
_SETTLED = 1e-5
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
    path = follow(replace(case, sharing=replace(case.sharing, rule=RULES["proportional"])), sign)
    search = Search(case, sign)
    cap = np.vstack([case.export_cap * (sign >= 0), case.import_cap * (sign <= 0)])
    floor = np.vstack([case.export_floor * (sign >= 0), case.import_floor * (sign <= 0)])
    weight = np.tile(np.where(case.acting, case.sharing.weight, 0.0), 2)
    best = np.vstack([path.export_kw * (sign >= 0), path.import_kw * (sign <= 0)])
    worth, c = _worth(case, best, weight), len(case.acting)
    if case.sharing.name == "max_total":  # a second start, far from the first
        queue = follow(replace(case, sharing=replace(case.sharing, rule=RULES["last_in_first_out"])), sign)
        other = np.vstack([queue.export_kw * (sign >= 0), queue.import_kw * (sign <= 0)])
        gain = _worth(case, other, weight)
        better = queue.safe & (gain > worth)
        best[:, better], worth[better] = other[:, better], gain[better]
    linear = _LinearRows(case, search.prediction.rows, sign)
    programme = Programme(linear.rows, case.sharing.name, weight, case.sharing.alpha)
    radius, failed = np.full(len(case.source), np.inf), np.zeros(len(case.source), dtype=np.intp)
    own: list[list[Row]] = [[] for _ in case.source]
    going = path.safe.copy()
    found, error = _measure(search, best, going, linear)
    for turn in range(_ROUNDS):
        x, here, told = best.copy(), error, [list(rows) for rows in own]
        left = going.copy()
        for step in range(_CORRECTIONS):
            for t in np.flatnonzero(left):
                low, high = (
                    np.maximum(floor[:, t], best[:, t] - radius[t]),
                    np.minimum(cap[:, t], best[:, t] + radius[t]),
                )
                trial = _trial(programme, linear, told[t], here[:, t], int(t), high, low, turn + step == 0)
                x[:, t] = best[:, t] if trial is None else trial
                going[t] &= trial is not None
            hoped = _worth(case, x, weight)
            hopeful = hoped - worth > _SETTLED * np.abs(worth)
            if turn and not step:
                going &= hopeful  # there is nothing better nearby
            left &= going & (hopeful | np.bool_(turn == 0))
            for _ in range(_CORNER_ROUNDS):
                more = search.prediction.more(search.uses, x[:c], x[c:], left)
                search.uses = search.uses.join(more)
                if not len(more):
                    break
            found, at_x = _measure(search, x, left, linear)
            here = np.where(left, np.maximum(here, at_x) if step else at_x, here)
            for t in np.flatnonzero(left):
                told[t] += found[t]
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
        gain = _worth(case, x, weight)
        better = going & scaled.safe & (gain > worth)
        little = gain - worth <= _SETTLED * np.abs(worth)
        found, error = _measure(search, x, going & better, linear)
        error = np.where(better, error, here)
        for t in np.flatnonzero(going):
            own[t] = found[t] if better[t] else told[t]
            size = np.abs(x[:, t] - best[:, t]).max(initial=0.0)
            radius[t] = 2.0 * radius[t] if better[t] else max(size, 1e-6 * cap[:, t].max(initial=0.0)) / 4.0
        failed = np.where(better & ~little, 0, failed + np.where(better, 3, 1))
        best[:, better], worth[better] = x[:, better], gain[better]
        going &= failed < _MOST_FAILURES
        if not going.any():
            break
    return _named(search, Boxes(best[:c], best[c:], path.share_export, path.share_import, path.row_export.copy(),
                                path.row_import.copy(), path.safe), cap, linear)  # fmt: skip


def _trial(
    programme: Programme,
    linear: _LinearRows,
    own: list[Row],
    error: Vector,
    t: int,
    high: Vector,
    low: Vector,
    first: bool,
) -> Vector | None:
    """Return the optimum of one interval between two bounds of x, over the linear rows and those found by AC power flow."""
    bound = linear.bound[:, t] - error - _INSIDE
    if first:
        return programme.best(bound, high, low)
    said = {(world, row) for world, row, _, _ in own}
    keep = [k for k in programme.taken if (linear.world[k], linear.row[k]) not in said]
    rows = np.array([*linear.rows[keep], *(g for _, _, g, _ in own)]).reshape(-1, len(high))
    limits = np.array([*bound[keep], *(limit for _, _, _, limit in own)])
    single = Programme(rows, programme.rule, programme.weight, programme.alpha)
    single.taken = list(range(len(keep), len(rows)))
    return single.best(limits, high, low)


class _LinearRows:
    """The rows of linear DistFlow in x = (e, m), for all worlds."""

    def __init__(self, case: Case, parts: list[Rows], sign: int) -> None:
        found = []
        for part in parts:
            a = part.coefficient
            if sign == 0:
                found.append(np.hstack([np.maximum(a, 0.0), np.maximum(-a, 0.0)]))
            else:
                found.append(np.hstack([a * (sign > 0), -a * (sign < 0)]))
        self.rows: Vector = np.vstack(found)
        self.world: Index = np.concatenate([np.full(len(part.row), part.world) for part in parts]).astype(np.intp)
        self.row: Index = np.concatenate([part.row for part in parts])
        self.parts = parts
        # who must draw stands between −m and −f
        obliged = [
            -(np.maximum(part.coefficient, 0.0) if sign == 0 else part.coefficient * (sign > 0)) @ case.firm
            for part in parts
        ]
        self.bound: Vector = -np.vstack([part.base + firm for part, firm in zip(parts, obliged, strict=True)])


def _worth(case: Case, x: Vector, weight: Vector) -> Vector:
    """Return the rule's own measure of envelopes (2c, T)."""
    name, a = case.sharing.name, case.sharing.alpha
    if name == "max_total":
        return np.asarray(weight @ x)
    can = np.vstack([case.export_cap, case.import_cap]) > 0
    logs = np.log(np.maximum(x, 1e-6))
    if name == "proportional_fairness" or a == 1.0:
        return np.asarray((weight[:, None] * can * logs).sum(axis=0))
    return np.asarray((weight[:, None] * can * np.exp((1.0 - a) * logs) / (1.0 - a)).sum(axis=0))


def _measure(search: Search, x: Vector, going: Mask, linear: _LinearRows) -> tuple[list[list[Row]], Vector]:
    """Return each near limit as a row at x, for every interval, and how much the linear rows err there.  Shape (k, T)."""
    own: list[list[Row]] = [[] for _ in search.case.source]
    case, c = search.case, len(search.case.acting)
    steps = len(case.source)
    elements = len(case.headroom.elements)
    highest = np.full((len(case.worlds), elements, steps), -np.inf)
    pick = np.flatnonzero(going[search.uses.column])
    uses = search.uses.part(pick)
    if not elements or not len(uses):
        return own, np.zeros((len(linear.row), steps))
    column = uses.column
    for mine, headroom, point in case.measured(uses, x[:c, column], x[c:, column]):
        solved = np.flatnonzero(point.solved)
        at, world = column[mine], int(uses.world[mine[0]])
        np.maximum.at(highest[world].T, at[solved], point.h[:, solved].T)
        row, col = _near(point.h, solved)
        _write(case, headroom, point, uses.part(mine), row, col, x, own, search.sign)
    said = []
    for part in linear.parts:
        predicted = part.highest(case, x[:c], x[c:])
        of_row = np.full((elements, steps), -np.inf)
        np.maximum.at(of_row, part.row, predicted)
        with np.errstate(invalid="ignore"):
            error = highest[part.world] - of_row
        said.append(np.where(np.isfinite(error), error, 0.0)[part.row])
    return own, np.asarray(np.vstack(said))


def _near(h: Vector, solved: Index) -> tuple[Index, Index]:
    """Return limits and uses (R,) that are near: of each use the nearest few."""
    rows, uses = [], []
    most = min(_MOST_NEAR, len(h))
    nearest = np.argpartition(-h[:, solved], most - 1, axis=0)[:most] if most < len(h) else None
    for k, use in enumerate(solved):
        row = np.arange(len(h)) if nearest is None else nearest[:, k]
        row = row[h[row, use] > -_NEAR]
        rows.append(row)
        uses.append(np.full(len(row), use))
    nothing = np.empty(0, dtype=np.intp)
    return (np.concatenate(rows), np.concatenate(uses)) if rows else (nothing, nothing)


def _write(
    case: Case,
    headroom: Headroom,
    point: Point,
    uses: Uses,
    row: Index,
    use: Index,
    x: Vector,
    own: list[list[Row]],
    sign: int,
) -> None:
    if not len(row):
        return
    per_kw, per_kvar = headroom.slopes(point, row, use, _SLOPES)
    per = (per_kw + per_kvar * case.tan_phi[:, None]) * case.acting[:, None]
    signs, at = uses.sign[:, use], uses.column[use]
    per_e = np.where((signs > 0) & (case.firm[:, at] == 0), per, 0.0)
    per_m = np.where(signs < 0, -per, 0.0)
    if sign == 0:  # nobody is given more because another gets more
        per_e, per_m = np.maximum(per_e, 0.0), np.maximum(per_m, 0.0)
    g = np.vstack([per_e, per_m])
    for k in range(len(row)):
        t = int(at[k])
        limit = float(g[:, k] @ x[:, t] - point.h[row[k], use[k]]) - _INSIDE
        own[t].append((int(uses.world[use[k]]), int(row[k]), g[:, k], limit))


def _named(search: Search, boxes: Boxes, cap: Vector, linear: _LinearRows) -> Boxes:
    """Name the nearest limit that each side strains, in every interval, and tell how much of the caps was given."""
    c = len(search.case.acting)
    x = np.vstack([boxes.export_kw, boxes.import_kw])
    near, _ = _measure(search, x, boxes.safe, linear)
    for part, share, rows in (
        (slice(None, c), boxes.share_export, boxes.row_export),
        (slice(c, None), boxes.share_import, boxes.row_import),
    ):
        total = cap[part].sum(axis=0)
        got = np.divide(x[part].sum(axis=0), total, out=np.ones(len(total)), where=total > 0)
        for t in np.flatnonzero(boxes.safe):
            full = got[t] >= 1.0 - 1e-12
            share[t], rows[t], nearest = 1.0 if full else got[t], -1, -_NAMED
            for _, row, g, limit in near[t] if not full else []:
                ahead = float(g @ x[:, t]) - limit - _INSIDE
                if ahead > nearest and np.abs(g[part]).sum() > _CONCERNS * np.abs(g).sum():
                    rows[t], nearest = row, ahead
    return boxes
