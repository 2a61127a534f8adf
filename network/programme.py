"""The optimum of a rule over linear rows: max U(x) subject to G x <= h, floor <= x <= cap.

    max_total               U = Σ w x                       :mod:`network.few_rows`; HiGHS where that proves nothing
    proportional_fairness   U = Σ w log x                   Clarabel, exponential cones
    alpha_fair              U = Σ w x^(1−a) / (1−a)         Clarabel, power cones: t <= x^(1−a), or t >= x^(1−a) for a > 1

Rows are taken in only when the optimum of the others breaks them, which few ever do.  A solver that does not say that it
found the optimum is an answer of None, never a guess.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Programme"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

_BROKEN = 1e-9
_MOST_AT_ONCE = 4
_ROUNDS = 40
_FEW_ROWS = 60
_LEAST_KW = 1e-6
"""A limit that may be no larger has no logarithm worth its name: it is left out of the sum."""


def _by_highs(rows: Vector, bound: Vector, weight: Vector, most: Vector) -> Vector | None:
    """Return the optimum for 0 <= x <= most, None where there is none."""
    import highspy

    highs = highspy.Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("random_seed", 0)):
        highs.setOptionValue(name, value)
    k, n = rows.shape
    highs.passModel(
        *(n, k, rows.size, int(highspy.MatrixFormat.kRowwise), int(highspy.ObjSense.kMinimize), 0.0),
        *(-weight, np.zeros(n), most, np.full(k, -math.inf), bound),
        *(n * np.arange(k + 1, dtype=np.int32), np.tile(np.arange(n, dtype=np.int32), k), rows.ravel()),
        np.zeros(n, dtype=np.int32),
    )
    highs.run()
    if highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return np.asarray(np.clip(np.array(highs.getSolution().col_value), 0.0, most))


class Programme:
    """The same rows for many intervals.

    Parameters
    ----------
    rows : shape (k, n)
        G.
    rule
        "max_total", "proportional_fairness" or "alpha_fair".
    weight : shape (n,)
        w, not negative.
    alpha
        a of "alpha_fair".
    """

    def __init__(self, rows: Vector, rule: str, weight: Vector, alpha: float = 1.0) -> None:
        self.rows, self.rule, self.weight = rows, rule, weight
        self.alpha = {"max_total": 0.0, "proportional_fairness": 1.0}.get(rule, alpha)
        self.taken: list[int] = []
        """The rows that mattered so far."""

    def best(self, bound: Vector, cap: Vector, floor: Vector) -> Vector | None:
        """Return the optimum for one interval, None where there is none.

        Parameters
        ----------
        bound : shape (k,)
            h.
        cap, floor : shape (n,)
            Bounds of x. [kW]
        """
        x: Vector | None = None
        for _ in range(_ROUNDS):
            x = self.of_taken(bound, cap, floor)
            if x is None or len(self.taken) == len(self.rows):
                return x
            over = self.rows @ x - bound
            over[self.taken] = -np.inf
            worst = np.argsort(-over, kind="stable")[:_MOST_AT_ONCE]
            new = [int(k) for k in worst if over[k] > _BROKEN]
            if not new:
                return x
            self.taken += new
        return x

    def of_taken(self, bound: Vector, cap: Vector, floor: Vector) -> Vector | None:
        """Return the optimum over the rows that are taken, None where there is none."""
        return self._linear(bound, cap, floor) if self.alpha == 0.0 else self._conic(bound, cap, floor)

    def _linear(self, bound: Vector, cap: Vector, floor: Vector) -> Vector | None:
        from network.few_rows import best_of_few_rows  # compiled: only where it is needed

        free = np.flatnonzero(cap > floor)
        x = np.asarray(floor, dtype=np.float64).copy()
        part = self.rows[self.taken]
        room = bound[self.taken] - part @ x  # in x − floor
        if not len(free):
            return x if (room >= -_BROKEN).all() else None
        part, weight, most = np.ascontiguousarray(part[:, free]), self.weight[free], (cap - floor)[free]
        more = best_of_few_rows(part, room, weight, most) if len(part) <= _FEW_ROWS else None
        if more is None:
            more = _by_highs(part, room, weight, most)
        if more is None:
            return None
        x[free] += more
        return np.clip(x, floor, np.maximum(cap, floor))

    def _conic(self, bound: Vector, cap: Vector, floor: Vector, size: Vector | None = None) -> Vector | None:
        import clarabel
        from scipy import sparse

        n, a = self.rows.shape[1], self.alpha
        free = np.flatnonzero((cap > np.maximum(floor, _LEAST_KW)) & (self.weight > 0))
        fixed = np.where(cap > floor, np.maximum(floor, 0.0), floor)
        x = fixed.copy()
        if not len(free):
            return x if (self.rows[self.taken] @ x <= bound[self.taken] + _BROKEN).all() else None
        f = len(free)
        first, size = (
            size is None,
            cap[free] if size is None else size[free],
        )  # x = size · z, so that numbers are near 1
        part = self.rows[self.taken]
        scale = np.maximum(np.abs(part[:, free] * size).max(axis=1, initial=0.0), 1e-12)
        g = part[:, free] * size / scale[:, None]
        h = (bound[self.taken] - part @ np.where(np.isin(np.arange(n), free), 0.0, fixed)) / scale
        eye, none = sparse.eye(f, format="csc"), sparse.csc_matrix((f, f))
        # variables z (f) and t (f): t_i <= log z_i, or its power
        rows = [sparse.hstack([sparse.csc_matrix(g), sparse.csc_matrix((len(g), f))]), sparse.hstack([eye, none]),
                sparse.hstack([-eye, none])]  # fmt: skip
        right = [h, cap[free] / size, -floor[free] / size]
        cones: list[Any] = [clarabel.NonnegativeConeT(len(g) + 2 * f)]
        for k in range(f):
            block, b = sparse.lil_matrix((3, 2 * f)), np.zeros(3)
            if a == 1.0:  # (t, 1, z) in the exponential cone: exp(t) <= z
                block[0, f + k], b[1], block[2, k] = -1.0, 1.0, -1.0
                cones.append(clarabel.ExponentialConeT())
            elif a < 1.0:  # z^(1−a) 1^a >= |t|
                block[0, k], b[1], block[2, f + k] = -1.0, 1.0, -1.0
                cones.append(clarabel.PowerConeT(1.0 - a))
            else:  # t^(1/a) z^(1−1/a) >= 1
                block[0, f + k], block[1, k], b[2] = -1.0, -1.0, 1.0
                cones.append(clarabel.PowerConeT(1.0 / a))
            rows.append(block.tocsc())
            right.append(b)
        value = self.weight[free] * (np.ones(f) if a == 1.0 else size ** (1.0 - a) / (1.0 - a))
        value = value / np.abs(value).max()
        settings = clarabel.DefaultSettings()
        settings.verbose, settings.max_threads = False, 1
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-9
        solver = clarabel.DefaultSolver(
            sparse.csc_matrix((2 * f, 2 * f)), np.concatenate([np.zeros(f), -value]),
            sparse.csc_matrix(sparse.vstack(rows)), np.concatenate(right), cones, settings,
        )  # fmt: skip
        answer = solver.solve()
        if answer.status not in (clarabel.SolverStatus.Solved, clarabel.SolverStatus.AlmostSolved):
            return None
        x[free] = size * np.array(answer.x[:f])
        if (
            first and answer.status != clarabel.SolverStatus.Solved
        ):  # limits far below their caps: measured by themselves
            return self._conic(bound, cap, floor, np.clip(x, 1e-4 * cap, cap))
        return np.clip(x, floor, np.maximum(cap, floor))
