"""DistFlow as a cone programme: least losses, most import, and why export is refused.

Of an injection (p, q) at every bus the branch-flow model of a balanced radial feeder [1]_ has, for each branch, the power
(P, Q) that its series impedance r + jx takes at the upper end, its squared current l, and squared voltages v::

    balance    what arrives from above and is injected = what goes on below
               sent    P + jQ + v' y*        arrives    P + jQ − (r + jx) l − v" y*                     (1)
    drop       v" = v' − 2 (rP + xQ) + (r² + x²) l                                                      (2)
    cone       v' l >= P² + Q²                                                                          (3)

with y half of the branch's shunt, and v', v" the voltages at the two ends of the series impedance, v/|k|² on the side of a
transformer's ratio k.  A source behind an impedance is one more branch.  Taps, iron, capacitance and phase shifts are all
exact in this form; the one thing that is relaxed is (3), an equality in truth.  So a solution is a power flow where (3) is
tight, and is nothing at all where it is not: l larger than the power asks for is a loss that nobody has.

For imports that loss only hurts, and (3) is tight.  For exports it helps: it eats what would lift the voltage, and the
programme "allows" what no network carries.  So every plan says how far (3) is from tight, is checked by the AC power flow,
and is *refused* where the gap is above 1e-6; for export limits use :mod:`network.envelope`.

Each plan minimises losses too: alone, or with a weight of 1 % beside the total, so that (3) is tight where the total does
not ask for it.  (A kW of the total is given up only for 100 kW of losses.)

Limits: balanced; one operating point; constant power.

References
----------
.. [1] M. Farivar and S. H. Low, "Branch flow model: relaxations and convexification", IEEE Trans. Power Systems 28(3), 2013
   (arXiv:1204.4865); A. Dubey and S. Paudyal, "Distribution system optimization to manage distributed energy resources
   (DERs) for grid services", Foundations and Trends in Electric Energy Systems 6(3-4), 2023.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Flow, Model
from network.conic_branches import Series, series_of
from network.envelope import Limits

__all__ = ["GAP", "ConicError", "Plan", "least_losses", "most_export", "most_import"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

GAP = 1e-6
"""Of (3), relative to the largest flow squared: above, the relaxation is not exact."""

_LOSSES = 1e-2
"""Weight of losses beside a total."""

_TOLERANCES = (1e-9, 1e-10, 1e-8)
"""Of the solver, one after the other until it ends and (3) is tight: the first may be too coarse for the gap, or too fine to reach."""


class ConicError(ValueError):
    """The problem as given cannot be posed; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What the cone programme would do, and whether it can be believed."""

    status: str
    """"exact"; "refused: the relaxation is not exact at branch …"; "infeasible"; "not_converged"."""

    injection_kw: Vector
    """Of every connection.  Shape (c,). [kW]"""

    injection_kvar: Vector
    """Shape (c,). [kvar]"""

    total_kw: float
    """What was asked for: losses, or the import or export of the active connections. [kW]"""

    loss_kw: float
    """Of all branches, as the programme has it. [kW]"""

    v_pu: Vector
    """Voltages, as the programme has them.  Shape (n,). [p.u.]"""

    gap: Vector
    """v' l − P² − Q² of every branch, relative to the largest P² + Q²; 0 out of service.  Shape (m,)."""

    flow: Flow
    """The AC power flow of these injections: what would really happen."""

    @property
    def exact(self) -> bool:
        """Whether it is a power flow, within 1e-6."""
        return self.status == "exact"


def least_losses(
    model: Model,
    p_low_kw: ArrayLike,
    p_high_kw: ArrayLike,
    q_low_kvar: ArrayLike,
    q_high_kvar: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the injections of least losses between bounds.  Shape (c,) each. [kW], [kvar]"""

    def pose(base_kva: float | None) -> tuple[_Program, Any, Any]:
        bounds = (p_low_kw, p_high_kw, q_low_kvar, q_high_kvar)
        program = _Program(model, limits, source_v_pu, bounds, base_kva)
        return program, program.losses(source=True), program.losses(source=False)

    return _solved(pose)


def most_import(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the largest import of the active connections together, each up to its cap.

    Parameters
    ----------
    model
        A balanced feeder with c connections.
    base_kw, base_kvar : shape (c,)
        Injections; an active connection keeps only the reactive one. [kW], [kvar]
    active : shape (c,)
        Whose import is asked for.
    cap_kw : shape (c,)
        The most that each could draw. [kW]
    limits
        What the network must keep.
    source_v_pu
        Voltage behind the source impedance; None: as the feeder says. [p.u.]
    """
    return _most(model, base_kw, base_kvar, active, cap_kw, limits, source_v_pu, sign=-1.0)


def most_export(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the same for export: a plan to be refused, unless the caps are reached within every limit."""
    return _most(model, base_kw, base_kvar, active, cap_kw, limits, source_v_pu, sign=1.0)


def _most(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None,
    sign: float,
) -> Plan:
    base, cap, acting = (
        np.asarray(base_kw, dtype=float),
        np.asarray(cap_kw, dtype=float),
        np.asarray(active, dtype=bool),
    )
    if not base.shape == cap.shape == acting.shape == (model.n_connection,):
        raise ConicError(
            f"base_kw, active and cap_kw have shapes {base.shape}, {acting.shape} and {cap.shape}; expected one number for "
            f"each of the {model.n_connection} connections."
        )
    reach = np.where(acting, sign * cap, base)
    still = np.where(acting, 0.0, base)
    bounds = (np.minimum(reach, still), np.maximum(reach, still), base_kvar, base_kvar)

    def pose(base_kva: float | None) -> tuple[_Program, Any, Any]:
        program = _Program(model, limits, source_v_pu, bounds, base_kva)
        total = sign * (acting.astype(float) @ program.p)
        return program, -total + _LOSSES * program.losses(source=True), total

    return _solved(pose)


def _solved(pose: Callable[[float | None], tuple[_Program, Any, Any]]) -> Plan:
    """Solve a problem; where that is not tight, once more on a base of the largest power that flows."""
    program, objective, asked = pose(None)
    plan = program.solve(objective, asked)
    if plan.exact or not np.isfinite(plan.total_kw):
        return plan
    program, objective, asked = pose(program.largest_kva())
    again = program.solve(objective, asked)
    return again if np.isfinite(again.total_kw) else plan


class _Program:
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
        return [
            arrives + at @ injected == s.goes_on @ sent
            for arrives, injected, sent in zip(self._arrives(), (self.p, self.q), self._sent(), strict=True)
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

    def solve(self, objective: Any, asked: Any) -> Plan:
        """Minimise an objective and doubt the answer."""
        cp = _cvxpy()
        problem = cp.Problem(cp.Minimize(objective), self.constraints)
        plans: list[Plan] = []
        for tolerance in _TOLERANCES:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # "may be inaccurate": the plan's status says so
                try:
                    problem.solve(solver=cp.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
                    outcome = str(problem.status)
                except cp.SolverError:
                    outcome = "solver_error"
            plans.append(self._plan(outcome, asked))
            if plans[-1].status in {"exact", "infeasible"}:
                return plans[-1]
        return next((plan for plan in plans if plan.status.startswith("refused")), plans[0])

    def _plan(self, outcome: str, asked: Any) -> Plan:
        model, s = self.model, self.series
        gap, names = np.zeros(model.feeder.n_branch), model.feeder.branches.ids
        if self.p.value is None or outcome not in {"optimal", "optimal_inaccurate"}:
            unknown = np.full(model.n_connection, np.nan)
            nothing = model.solve(np.zeros((model.n_connection, 0)), np.zeros((model.n_connection, 0)))
            status = "infeasible" if outcome.startswith("infeasible") else "not_converged"
            return Plan(
                *(status, unknown, unknown, np.nan, np.nan, np.full(model.feeder.n_bus, np.nan)),
                *(np.full(len(gap), np.nan), nothing),
            )
        p, q = self.p.value * self.base_kva, self.q.value * self.base_kva
        square = self.p_branch.value**2 + self.q_branch.value**2
        lost = self._ends()[0].value * self.l.value - square
        real = s.branch >= 0
        relative = lost / max(float(square.max(initial=0.0)), 1e-12)
        gap[s.branch[real]] = relative[real]
        status = "exact" if outcome == "optimal" else "not_converged"
        worst = int(relative.argmax()) if len(relative) else -1
        if len(relative) and not relative[worst] <= GAP:
            where = f"branch {names[s.branch[worst]]!r}" if real[worst] else "the source"
            status = f"refused: the relaxation is not exact at {where} (gap {relative[worst]:.1e})"
        return Plan(
            status=status,
            injection_kw=p,
            injection_kvar=q,
            total_kw=float(asked.value) * self.base_kva,
            loss_kw=float(self.losses(source=False).value) * self.base_kva,
            v_pu=np.sqrt(np.maximum(self.v.value, 0.0)),
            gap=gap,
            flow=model.solve(p[:, None], q[:, None], self.source_v_pu),
        )


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
