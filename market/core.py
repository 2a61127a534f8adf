"""Divisions nobody objects to: nucleolus and least core, by linear programs.

The excess of coalition S under gains x is e_S(x) = v(S) − x(S), its objection.  The **least core** is where the largest
excess is least [2]_; the **nucleolus** makes the largest least, then the second largest, and so on, among divisions that
give everybody at least v({i}) [1]_.  Both come from one procedure: for rows r with targets b_r

    min ε   s.t.   b_r − A_r x <= ε for open rows,  = ε_r for settled ones,  C x >= d,  Σ x = v(N)                      (1)

A row with a positive multiplier is tight in every solution of (1), so it is settled at that ε; rows in the span of settled
ones cannot move any more.  At least one row that is not in the span is settled each time, so at most k − 1 programs are
solved [3]_.  Rows are handed to the solver as they are violated: of 4094 coalitions a few dozen ever matter.

The least core is a set.  Its point with the most equal gains is returned: in it the smallest gain is as large as possible,
then the second smallest (the same procedure over single players with target 0), so the order of players does not matter.

References
----------
.. [1] D. Schmeidler, "The nucleolus of a characteristic function game", SIAM J. Applied Mathematics 17(6), 1969.
.. [2] M. Maschler, B. Peleg, L. S. Shapley, "Geometric properties of the kernel, nucleolus, and related solution concepts",
   Mathematics of Operations Research 4(4), 1979.
.. [3] A. Kopelowitz, "Computation of the kernels of simple games and the nucleolus of n-person games", Hebrew University of
   Jerusalem, Research Memorandum 31, 1967.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Level", "NoDivision", "least_excess", "levelled", "most_equal", "nucleolus"]

Floats = NDArray[np.float64]

_TIGHT = 1e-7  # a multiplier above this is no rounding; those of a program sum to 1
_SPAN = 1e-9  # a row nearer to the span of others is in it
_MET = 1e-9  # a row violated by less is met
_AT_ONCE = 24  # rows handed to the solver at a time


class NoDivision(RuntimeError):
    """The solver found no division although there is one; numbers of very different size are the usual reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Level:
    """A solution of (1)."""

    x: Floats
    """Shape (k,)."""
    epsilon: float
    weight: Floats
    """Multipliers of the rows.  Shape (R,)."""
    floor_weight: Floats
    """Multipliers of C x >= d.  Shape (H,)."""


def nucleolus(members: Floats, value: Floats, total: float, single: Floats) -> Floats:
    """Return the nucleolus.

    Parameters
    ----------
    members : shape (S, k)
        Who is in which coalition, 1 or 0; all but nobody and everybody.
    value : shape (S,)
        Their values.
    total
        The value of all together.
    single : shape (k,)
        What each gets at least, v({i}); where these sum to more than ``total`` nobody can get it, and what is returned is
        the prenucleolus.

    Examples
    --------
    Left glove, two right gloves; a pair is worth 1.  The one who is scarce gets all:

    >>> members = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=float)
    >>> (nucleolus(members, np.array([0.0, 0, 0, 1, 1, 0]), 1.0, np.zeros(3)).round(9) + 0.0).tolist()
    [1.0, 0.0, 0.0]
    """
    k = members.shape[1]
    possible = single.sum() <= total + _MET * max(1.0, abs(total))
    each = np.eye(k) if possible else np.zeros((0, k))
    floor = np.minimum(single, single + (total - single.sum()) / k) if possible else np.zeros(0)
    return levelled(members, value, total, each, floor)


def most_equal(members: Floats, value: Floats, total: float, epsilon: float) -> Floats:
    """Return the division with the most equal gains among those whose largest excess is ``epsilon`` (the least)."""
    k = members.shape[1]
    room = _MET * _scale(
        value, total
    )  # the least excess is known up to rounding; without room there might be nothing left
    return levelled(np.eye(k), np.zeros(k), total, members, value - epsilon - room)


def least_excess(members: Floats, value: Floats, total: float) -> Level:
    """Return a division whose largest excess is least, and that excess."""
    k, scale = members.shape[1], _scale(value, total)
    none = np.zeros((0, k)), np.zeros(0)
    level = _Program(members, value / scale, *none).solve(np.ones((1, k)), np.array([total / scale]))
    return Level(level.x * scale, level.epsilon * scale, level.weight, level.floor_weight)


def levelled(rows: Floats, target: Floats, total: float, hard: Floats, floor: Floats) -> Floats:
    """Return the x that makes the largest of target − rows x least, then the next, under hard x >= floor and Σ x = total.

    A round's solution stays possible in the next one, exactly: settled rows are settled where it has them, and floors
    give way by the solver's rounding.  Without that a least core without inside could be lost between two rounds.
    """
    k, scale = rows.shape[1], _scale(np.concatenate([target, floor]), total)
    left, left_target, floor = rows, target / scale, floor / scale
    settled, x = np.ones((1, k)), np.full(k, total / scale / k)
    while settled.shape[0] < k:
        free = _outside_span(left, settled)
        left, left_target = left[free], left_target[free]
        if left.shape[0] == 0:
            break
        level = _Program(left, left_target, hard, floor).solve(settled, settled @ x)
        x, floor = level.x, floor - _MET
        tight = level.weight >= min(_TIGHT, level.weight.max())  # at least one row, or this would go on for ever
        for row in [*left[tight], *hard[level.floor_weight > _TIGHT]]:
            if _outside_span(row[None], settled)[0]:
                settled = np.vstack([settled, row])
    x = x * scale
    shares: Floats = x + (total - x.sum()) / k
    return shares


class _Program:
    """Program (1): the rows that matter, found one after another."""

    def __init__(self, rows: Floats, target: Floats, hard: Floats, floor: Floats) -> None:
        self.rows, self.target, self.hard, self.floor = rows, target, hard, floor

    def solve(self, settled: Floats, at: Floats) -> Level:
        """Solve it, every row met."""
        k = self.rows.shape[1]
        size = self.rows.sum(axis=1)
        use = np.zeros(self.rows.shape[0], dtype=bool)
        use[np.argsort(size, kind="stable")[: 2 * k]] = True  # the smallest and the largest coalitions,
        use[np.argsort(-size, kind="stable")[: 2 * k]] = True  # so that the program has a floor from the beginning
        hold = np.zeros(self.hard.shape[0], dtype=bool)
        hold[: 2 * k] = True
        while True:
            level = self._some(use, hold, settled, at)
            short = self.target - self.rows @ level.x - level.epsilon
            under = self.floor - self.hard @ level.x
            new = _worst(short, ~use), _worst(under, ~hold)
            if not new[0].size and not new[1].size:
                return level
            use[new[0]], hold[new[1]] = True, True

    def _some(self, use: NDArray[np.bool_], hold: NDArray[np.bool_], settled: Floats, at: Floats) -> Level:
        """Solve it with some of the rows."""
        from scipy.optimize import linprog

        k = self.rows.shape[1]
        a = np.vstack([np.hstack([-self.rows[use], -np.ones((use.sum(), 1))]),
                       np.hstack([-self.hard[hold], np.zeros((hold.sum(), 1))])])  # fmt: skip
        b = np.concatenate([-self.target[use], -self.floor[hold]])
        cost = np.zeros(k + 1)
        cost[k] = 1.0
        found = linprog(
            cost, A_ub=a, b_ub=b, A_eq=np.hstack([settled, np.zeros((len(at), 1))]), b_eq=at, bounds=(None, None),
            method="highs-ds", options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        if found.status != 0:
            raise NoDivision(
                f"the linear program of {use.sum()} coalitions and {k} players ends with: {found.message} Values should be of "
                "comparable size."
            )
        weight, floor_weight = np.zeros(use.size), np.zeros(hold.size)
        multiplier = -found.ineqlin.marginals
        weight[use], floor_weight[hold] = multiplier[: use.sum()], multiplier[use.sum() :]
        return Level(found.x[:k], float(found.x[k]), weight, floor_weight)


def _worst(short: Floats, among: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the rows that are violated most."""
    violated = np.flatnonzero(among & (short > _MET))
    return violated[np.argsort(-short[violated], kind="stable")[:_AT_ONCE]]


def _outside_span(rows: Floats, settled: Floats) -> NDArray[np.bool_]:
    """Return which rows are no combination of the settled ones."""
    basis = np.linalg.qr(settled.T)[0]
    rest = rows - rows @ basis @ basis.T
    outside: NDArray[np.bool_] = np.abs(rest).max(axis=1, initial=0.0) > _SPAN
    return outside


def _scale(value: Floats, total: float) -> float:
    """Return the size of the numbers of a game, so that tolerances mean the same in all."""
    return float(max(np.abs(value).max(initial=0.0), abs(total))) or 1.0
