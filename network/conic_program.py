"""The cone programme of a balanced radial feeder in CVXPY: its variables and constraints, which all of its problems share.

The equations (1) to (3) are those of :mod:`network.conic`, where their source stands too; the data of the branches are
:mod:`network.conic_branches`.  Powers are per unit on a base of the largest that can flow, so that the solver meets numbers near 1.

Limits: balanced; one operating point; constant power.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.conic_branches import Series, series_of
from network.envelope_asked import Limits

__all__ = ["ConicError", "Program"]

Vector = NDArray[np.float64]


class ConicError(ValueError):
    """The problem as given cannot be posed; the message lists every mistake."""


class Program:
    """The variables and constraints that the problems share; powers on a base of the largest that can flow."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        source_v_pu: float | None,
        bounds: tuple[ArrayLike, ...],
        base_kva: float | None,
    ) -> None:
        cp = _cvxpy()
        self.model, self.bounds = model, _bounds(model, bounds)
        most = np.abs(self.bounds).reshape(2, 2, -1).max(axis=1)
        self.base_kva = base_kva or max(1.0, float(np.hypot(*most).sum()))
        self.series = series_of(model.feeder, self.base_kva)
        self.source_v_pu = float(model.source_voltage(source_v_pu, 1)[0])
        self.v = cp.Variable(model.feeder.n_bus)
        self.p_branch, self.q_branch, self.l = (cp.Variable(len(self.series.bus)) for _ in range(3))
        self.p, self.q = cp.Variable(model.n_connection), cp.Variable(model.n_connection)
        self.constraints: list[Any] = [
            *self._balance(),
            *self._drop(),
            *self._cone(),
            *self._injections(),
            *self._voltages(limits),
            *self._loadings(limits),
        ]

    def _ends(self) -> tuple[Any, Any]:
        """Return v' and v" of every branch."""
        s: Series = self.series
        above = s.from_bus_above @ self.v + s.from_source * self.source_v_pu**2
        return above, s.to_bus @ self.v

    def _sent(self) -> tuple[Any, Any]:
        """Return what every branch takes from above."""
        s, (above, _) = self.series, self._ends()
        return self.p_branch + _each(s.g, above), self.q_branch - _each(s.b, above)

    def _arrives(self) -> tuple[Any, Any]:
        """Return what every branch gives below."""
        s, (_, below) = self.series, self._ends()
        return (
            self.p_branch - _each(s.r, self.l) - _each(s.g, below),
            self.q_branch - _each(s.x, self.l) + _each(s.b, below),
        )

    def _balance(self) -> list[Any]:
        """(1), at every bus that a branch feeds."""
        s = self.series
        at = s.at_bus(self.model.connection_bus)
        below = [s.goes_on @ sent for sent in self._sent()]
        if (s.bus_g + 1j * s.bus_b).any():
            hangs = _each(s.bus_g, self.v[s.bus]), _each(-s.bus_b, self.v[s.bus])
            below = [sent + taken for sent, taken in zip(below, hangs, strict=True)]
        return [
            arrives + at @ injected == taken
            for arrives, injected, taken in zip(self._arrives(), (self.p, self.q), below, strict=True)
        ]

    def _drop(self) -> list[Any]:
        """(2); at a bus without a branch above it the source's voltage."""
        s, (above, below) = self.series, self._ends()
        fallen = above - 2 * (_each(s.r, self.p_branch) + _each(s.x, self.q_branch)) + _each(s.r**2 + s.x**2, self.l)
        ideal = [self.v[self.model.feeder.source_bus] == self.source_v_pu**2] if s.ideal_source else []
        return [below == fallen, *ideal]

    def _cone(self) -> list[Any]:
        """(3): |(2P, 2Q, v' − l)| <= v' + l."""
        cp = _cvxpy()
        above, _ = self._ends()
        return [cp.SOC(above + self.l, cp.vstack([2 * self.p_branch, 2 * self.q_branch, above - self.l]))]

    def _injections(self) -> list[Any]:
        p_low, p_high, q_low, q_high = (bound / self.base_kva for bound in self.bounds)
        return [self.p >= p_low, self.p <= p_high, self.q >= q_low, self.q <= q_high]

    def _voltages(self, limits: Limits) -> list[Any]:
        n = self.model.feeder.n_bus
        watched = np.ones(n, dtype=bool) if limits.monitored is None else np.asarray(limits.monitored, dtype=bool)
        lowest = np.where(watched, np.broadcast_to(limits.v_min_pu, (n,)), 0.0)
        highest = np.where(watched, np.broadcast_to(limits.v_max_pu, (n,)), np.inf)
        above, below = np.flatnonzero(highest < np.inf), np.flatnonzero(lowest > 0)
        return [self.v[above] <= highest[above] ** 2, self.v[below] >= lowest[below] ** 2, self.v >= 0]

    def _loadings(self, limits: Limits) -> list[Any]:
        """A line: |S|² <= I² v at either end; a transformer: |S| <= its rating."""
        cp = _cvxpy()
        s, feeder = self.series, self.model.feeder
        most = np.broadcast_to(limits.loading_max_percent, (feeder.n_branch,)) / 100.0
        found: list[Any] = []
        for upper in (True, False):
            power = self._sent() if upper else self._arrives()
            bus = feeder.parent[s.bus] if upper else s.bus
            rated = s.rated_above if upper else s.rated_below
            for k in np.flatnonzero(np.isfinite(rated) & (s.branch >= 0)):
                limit = float(most[s.branch[k]] * rated[k])
                if not np.isfinite(limit):
                    continue
                if feeder.branches.is_line[s.branch[k]]:
                    v = limit * self.v[bus[k]]
                    found.append(cp.SOC(v + limit, cp.hstack([2 * power[0][k], 2 * power[1][k], v - limit])))
                else:
                    found.append(cp.norm(cp.hstack([power[0][k], power[1][k]])) <= limit)
        return found

    def losses(self, *, source: bool) -> Any:
        """Return those of all branches; ``source``: and of the source's impedance."""
        counted = (self.series.branch >= 0) | source
        return counted.astype(float) @ (self._sent()[0] - self._arrives()[0])

    def largest_kva(self) -> float:
        """Return the largest power of a branch, once solved."""
        return max(float(np.hypot(self.p_branch.value, self.q_branch.value).max(initial=0.0)) * self.base_kva, 1e-3)

    def minimise(self, objective: Any, tolerance: float) -> str:
        """Solve, and return the solver's own word for how it ended; the variables hold what it found."""
        cp = _cvxpy()
        problem = cp.Problem(cp.Minimize(objective), self.constraints)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the word says so
            try:
                problem.solve(solver=cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
            except cp.SolverError:
                return "solver_error"
        return str(problem.status)

    def lost(self) -> tuple[Vector, Vector]:
        """Return v' l − P² − Q² and P² + Q² of every row of ``series``, once solved."""
        square = self.p_branch.value**2 + self.q_branch.value**2
        return np.asarray(self._ends()[0].value * self.l.value - square), np.asarray(square)


def _cvxpy() -> Any:
    """Return the library, which takes seconds to load."""
    import cvxpy

    return cvxpy


def _each(numbers: Vector, expression: Any) -> Any:
    cp = _cvxpy()
    return cp.multiply(numbers, expression)


def _bounds(model: Model, given: tuple[ArrayLike, ...]) -> Vector:
    """Return the bounds of p and q, shape (4, c), or say what is wrong."""
    if model.three_phase:
        raise ConicError(
            f"feeder {model.feeder.name!r} is calculated with three phases, and the cone programme is balanced. "
            f"Use network.envelope."
        )
    names = ("the lowest p", "the highest p", "the lowest q", "the highest q")
    tables = [np.asarray(bound, dtype=np.float64) for bound in given]
    wrong = [
        f"{name} has shape {table.shape}; expected finite numbers of shape ({model.n_connection},)."
        for name, table in zip(names, tables, strict=True)
        if table.shape != (model.n_connection,) or not np.isfinite(table).all()
    ]
    if not wrong:
        wrong = [
            f"{names[k]} of connection {int((tables[k] > tables[k + 1]).argmax())} is above {names[k + 1]}."
            for k in (0, 2)
            if (tables[k] > tables[k + 1]).any()
        ]
    if wrong:
        raise ConicError("the programme cannot be posed: " + " ".join(wrong))
    return np.stack(tables)
