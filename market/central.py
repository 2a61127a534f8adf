"""The same problem, solved centrally: the yardstick that knows everything about everybody.

One convex quadratic program for the whole community, stated as in :mod:`market.problem` and solved by Clarabel through
CVXPY.  What nobody could run among neighbours is exactly what one wants beside a market: its optimum.  A day of a hundred
homes takes some ten seconds.

The answer is repaired and certified like that of :func:`market.exchange.clear` and has the same columns, so that the two
can be compared field by field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.bound import Duals, bound
from market.exchange import Clearing, clearing
from market.feasible import Infeasible, check_feasible
from market.problem import Problem
from market.repair import Draft, repair
from market.splitting import Outcome, cold_start

__all__ = ["CentralProblem", "CentralUnsolved", "Comparison", "solve", "verify"]

Floats = NDArray[np.float64]

_EXACT, _INEXACT = (
    1e-6,
    1e-3,
)  # share of the money moved that the solver's figures may be off by; the second where it says so
Expression = Any  # CVXPY's own types do not tell expressions from booleans
Constraint = Any


class CentralUnsolved(RuntimeError):
    """The central solver found no optimum although there is one."""


def _cvxpy() -> Any:
    """Return CVXPY, which takes seconds to import."""
    import cvxpy

    return cvxpy


class CentralProblem:
    """min retail + charges + wear + penalties + reserve rents, subject to everybody's limits and the three couplings."""

    def __init__(self, problem: Problem) -> None:
        cp = _cvxpy()
        self.p = p = problem
        shape = (p.n, p.steps)
        self.bought_kw = cp.Variable(shape, "bought_kw", nonneg=True)
        self.sold_kw = cp.Variable(shape, "sold_kw", nonneg=True)
        self.exchange_kw = cp.Variable(shape, "exchange_kw")
        self.purchase_kw = cp.Variable(shape, "purchase_kw", nonneg=True)
        self.meter_kw = cp.Variable(shape, "meter_kw")
        self.curtailed_kw = cp.Variable(shape, "curtailed_kw", nonneg=True)
        self.breach_kw = cp.Variable(shape, "breach_kw", nonneg=True)
        own, shared = range(p.stores), range(p.shared)
        self.charge_kw = [cp.Variable(shape, f"charge_kw_{k}", nonneg=True) for k in own]
        self.discharge_kw = [cp.Variable(shape, f"discharge_kw_{k}", nonneg=True) for k in own]
        self.content_kwh = [cp.Variable(shape, f"content_kwh_{k}") for k in own]
        self.rented_charge_kw = [cp.Variable(shape, f"rented_charge_kw_{j}", nonneg=True) for j in shared]
        self.rented_discharge_kw = [cp.Variable(shape, f"rented_discharge_kw_{j}", nonneg=True) for j in shared]
        self.rented_kwh = [cp.Variable(shape, f"rented_kwh_{j}", nonneg=True) for j in shared]
        self.right_energy_kwh = [cp.Variable(p.n, f"right_energy_kwh_{j}", nonneg=True) for j in shared]
        self.right_power_kw = [cp.Variable(p.n, f"right_power_kw_{j}", nonneg=True) for j in shared]
        self.boxes = np.flatnonzero(p.ess_netted & p.leads).tolist()
        self.box_charge_kw = {b: cp.Variable(p.steps, f"box_charge_kw_{b}") for b in self.boxes}
        self.box_discharge_kw = {b: cp.Variable(p.steps, f"box_discharge_kw_{b}") for b in self.boxes}
        self.box_kwh = {b: cp.Variable(p.steps, f"box_kwh_{b}") for b in self.boxes}
        self.optimum_eur = self.curvature_eur = self.accuracy = float("nan")  # known when it is solved

    def net_kw(self, j: int) -> Expression:
        """What each agent puts into shared store j, net."""
        return self.rented_charge_kw[j] - self.rented_discharge_kw[j]

    def commercial_balance(self) -> Constraint:
        """G - x - sum (c_v - d_v) = m."""
        rented = sum(self.net_kw(j) for j in range(self.p.shared))
        return self.bought_kw - self.sold_kw - self.exchange_kw - rented - self.meter_kw == 0

    def meter_balance(self) -> Constraint:
        """M = load - (pv - curtailed) + sum (c - d)."""
        own = sum(c - d for c, d in zip(self.charge_kw, self.discharge_kw, strict=True))
        return self.meter_kw - self.curtailed_kw - own == self.p.load_kw - self.p.pv_kw

    def curtailment(self) -> Constraint:
        """Curtailed <= pv."""
        return self.curtailed_kw <= self.p.pv_kw

    def envelope(self) -> list[Constraint]:
        """-export - breach <= m <= import + breach, where there is a limit."""
        p, limits = self.p, []
        for limit, sign in ((p.import_limit_kw, 1.0), (p.export_limit_kw, -1.0)):
            finite = np.nonzero(np.isfinite(limit))
            if finite[0].size:
                limits.append(sign * self.meter_kw[finite] - self.breach_kw[finite] <= limit[finite])
        return limits

    def purchases(self) -> Constraint:
        """What is bought from the exchange bears its charge: purchase >= -x."""
        return self.purchase_kw >= -self.exchange_kw

    def store_dynamics(self, k: int) -> list[Constraint]:
        """e[t] = retention e[t-1] + dt (eta_c c - d / eta_d) - drain."""
        p, e = self.p, self.content_kwh[k]
        into = _scaled(p.dt_h * p.store_efficiency_charge[k], self.charge_kw[k])
        gain = into - _scaled(p.dt_h / p.store_efficiency_discharge[k], self.discharge_kw[k]) - p.store_drain_kwh[k]
        first = p.store_retention[k] * p.store_initial_kwh[k]
        return [e[:, 0] == first + gain[:, 0], e[:, 1:] == _scaled(p.store_retention[k], e[:, :-1]) + gain[:, 1:]]

    def store_limits(self, k: int) -> list[Constraint]:
        """Bounds on flows and contents."""
        p = self.p
        return [
            self.charge_kw[k] <= p.store_charge_max_kw[k],
            self.discharge_kw[k] <= p.store_discharge_max_kw[k],
            self.content_kwh[k] >= p.store_energy_min_kwh[k],
            self.content_kwh[k] <= p.store_energy_max_kwh[k],
        ]

    def rented_dynamics(self, j: int) -> list[Constraint]:
        """As a store's; the last content is given."""
        p, e, kept = self.p, self.rented_kwh[j], self.p.ess_retention[j]
        gain = p.dt_h * p.ess_efficiency_charge[j] * self.rented_charge_kw[j]
        gain -= p.dt_h / p.ess_efficiency_discharge[j] * self.rented_discharge_kw[j]
        return [
            e[:, 0] == kept * p.rented_initial_kwh[j] + gain[:, 0],
            e[:, 1:] == kept * e[:, :-1] + gain[:, 1:],
            e[:, -1] == p.rented_final_kwh[j],
        ]

    def rights(self, j: int) -> list[Constraint]:
        """e_v <= right_energy; c_v, d_v <= available right_power; the first content fits; given rights are kept."""
        p, energy, power = self.p, self.right_energy_kwh[j], self.right_power_kw[j]
        usable = power[:, None] if (p.ess_available[j] == 1.0).all() else power[:, None] @ p.ess_available[j][None, :]
        limits = [
            self.rented_kwh[j] <= energy[:, None],
            self.rented_charge_kw[j] <= usable,
            self.rented_discharge_kw[j] <= usable,
            energy >= p.rented_initial_kwh[j],
        ]
        if p.right_energy_kwh is not None and p.right_power_kw is not None:
            return [*limits, energy == p.right_energy_kwh[j], power == p.right_power_kw[j]]
        shut = np.flatnonzero(~p.access[j])
        return [*limits, energy[shut] == 0, power[shut] == 0] if shut.size else limits

    def offers(self, j: int) -> list[Constraint]:
        """The sum of the rights, or in netted operation each of them, is what is offered, at most."""
        p = self.p
        if p.rights_fixed:
            return []
        energy, power = self.right_energy_kwh[j], self.right_power_kw[j]
        if not p.ess_netted[j]:
            energy, power = _sum(energy), _sum(power)
        return [energy <= p.ess_energy_offer_kwh[j], power <= p.ess_power_offer_kw[j]]

    def box(self, b: int) -> list[Constraint]:
        """What a netted box can do; the first constraint is that the tenants' net is its own."""
        p, c, d, e, kept = (
            self.p,
            self.box_charge_kw[b],
            self.box_discharge_kw[b],
            self.box_kwh[b],
            self.p.ess_retention[b],
        )
        c_low, c_high, d_low, d_high, low, high = p.box_bounds()[:, b]
        gain = p.dt_h * p.ess_efficiency_charge[b] * c - p.dt_h / p.ess_efficiency_discharge[b] * d
        net = sum(_sum(self.net_kw(j), axis=0) for j in np.flatnonzero(p.ess_box == b).tolist())
        state = [e[0] == kept * p.box_initial_kwh()[b] + gain[0], e[1:] == kept * e[:-1] + gain[1:]]
        return [net == c - d, *state, c >= c_low, c <= c_high, d >= d_low, d <= d_high, e >= low, e <= high]

    def net_limits(self, j: int) -> tuple[Constraint | None, Constraint | None]:
        """ess_net_min <= sum (c_v - d_v) <= ess_net_max, where they are finite."""
        if self.p.ess_netted[j]:  # the box keeps it
            return None, None
        net, least, most = _sum(self.net_kw(j), axis=0), self.p.ess_net_min_kw[j], self.p.ess_net_max_kw[j]
        low, high = np.isfinite(least), np.isfinite(most)
        return (net[low] >= least[low]) if low.any() else None, (net[high] <= most[high]) if high.any() else None

    def exchange_clears(self) -> Constraint:
        """Sum x = 0: the price; or x as it is given."""
        if self.p.exchange == "free":
            return _sum(self.exchange_kw, axis=0) == 0
        given = self.p.pinned_exchange_kw if self.p.exchange == "pinned" else None
        return self.exchange_kw == (np.zeros((self.p.n, self.p.steps)) if given is None else given)

    def flows_eur(self) -> Expression:
        """Retail, charges, wear, penalties."""
        p = self.p
        rate = _sum(_times(p.buy_eur_per_kwh, self.bought_kw) - _times(p.sell_eur_per_kwh, self.sold_kw))
        rate += _sum(_times(p.exchange_charge_eur_per_kwh, self.purchase_kw))
        rate += p.breach_penalty_eur_per_kwh * _sum(self.breach_kw)
        for k in range(p.stores):
            rate += _sum(_scaled(p.store_wear_eur_per_kwh[k], self.charge_kw[k] + self.discharge_kw[k]))
        for j in range(p.shared):
            rate += p.ess_wear_eur_per_kwh[j] * _sum(self.rented_charge_kw[j] + self.rented_discharge_kw[j])
            rate += _sum(_times(p.rented_charge_eur_per_kwh, self.rented_discharge_kw[j]))
        return p.dt_h * rate

    def rents_eur(self) -> Expression:
        """Reserve rents."""
        p, shared = self.p, range(self.p.shared)
        energy = sum(p.rent_energy_eur_per_kwh[j] @ self.right_energy_kwh[j] for j in shared)
        return energy + sum(p.rent_power_eur_per_kw[j] @ self.right_power_kw[j] for j in shared)

    def curvature(self) -> Expression:
        """curvature/2 dt (x^2 + c^2 + d^2), which makes prices unique and is in no reported cost."""
        flows = [
            self.exchange_kw,
            *self.charge_kw,
            *self.discharge_kw,
            *self.rented_charge_kw,
            *self.rented_discharge_kw,
        ]
        return 0.5 * self.p.tie_eur_per_kw2h * self.p.dt_h * sum(_cvxpy().sum_squares(flow) for flow in flows)

    def more(self) -> list[Constraint]:
        """Return further constraints of a problem that has some (:mod:`market.network_central`)."""
        return []

    def more_eur(self) -> Expression:
        """Return further costs of a problem that has some."""
        return 0.0

    def solve(self) -> tuple[Draft, Duals, int]:
        """Return the optimum, its prices, and how many iterations it took.

        Afterwards ``optimum_eur`` is the solver's own least cost, without the term that decides ties, which is
        ``curvature_eur``; ``accuracy`` says to what share of the money that is moved the solver means them.

        Raises
        ------
        Infeasible
            Where there is none.
        CentralUnsolved
            Where the solver gives up.
        """
        cp, p, dt = _cvxpy(), self.p, self.p.dt_h
        balance, meter, market = self.commercial_balance(), self.meter_balance(), self.exchange_clears()
        constraints = [balance, meter, market, self.curtailment(), self.purchases(), *self.envelope()]
        for k in range(p.stores):
            constraints += [*self.store_dynamics(k), *self.store_limits(k)]
        offers, nets = [self.offers(j) for j in range(p.shared)], [self.net_limits(j) for j in range(p.shared)]
        for j in range(p.shared):
            constraints += [
                *self.rented_dynamics(j),
                *self.rights(j),
                *offers[j],
                *(c for c in nets[j] if c is not None),
            ]
        boxes = {b: self.box(b) for b in self.boxes}
        for box in boxes.values():
            constraints += box
        cost, curvature = self.flows_eur() + self.rents_eur() + self.more_eur(), self.curvature()
        problem = cp.Problem(cp.Minimize(cost + curvature), [*constraints, *self.more()])
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.error.SolverError as error:
            raise CentralUnsolved(
                f"the central solver gives up on {p.n} agents and {p.steps} intervals ({error}); numbers of very different "
                "size are the usual reason."
            ) from error
        if problem.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            raise Infeasible(f"no plan exists: the central solver reports {problem.status!r} for {p.n} agents.")
        self.optimum_eur, self.curvature_eur = float(cost.value), float(np.asarray(curvature.value))
        self.accuracy = _EXACT if problem.status == cp.OPTIMAL else _INEXACT
        free = p.exchange == "free"
        price = -market.dual_value / dt if free else np.full(p.steps, np.nan)
        value, at_meter = -balance.dual_value / dt, -meter.dual_value / dt
        rents = np.zeros((p.shared, 2))
        for j in [] if p.rights_fixed else np.flatnonzero(~p.ess_netted).tolist():
            rents[j] = [c.dual_value for c in offers[j]]
        net_price = np.zeros((p.shared, p.steps))
        for b, box in boxes.items():
            net_price[p.ess_box == b] = -box[0].dual_value / dt
        for j, (low, high) in enumerate(nets):
            if low is not None:
                net_price[j, np.isfinite(p.ess_net_min_kw[j])] += low.dual_value / dt
            if high is not None:
                net_price[j, np.isfinite(p.ess_net_max_kw[j])] -= high.dual_value / dt
        duals = Duals(price, value, at_meter, net_price, rents[:, 0], rents[:, 1])
        draft = Draft(
            self.curtailed_kw.value,
            _values(self.charge_kw, p.n, p.steps),
            _values(self.discharge_kw, p.n, p.steps),
            _values(self.rented_charge_kw, p.n, p.steps),
            _values(self.rented_discharge_kw, p.n, p.steps),
            _values(self.right_energy_kwh, p.n),
            _values(self.right_power_kw, p.n),
        )
        return draft, duals, int(problem.solver_stats.num_iters)


def solve(problem: Problem) -> Clearing:
    """Return the central optimum as a clearing.

    ``residuals`` is empty and ``iterations`` counts the solver's; ``warm`` is a cold start.

    Raises
    ------
    Infeasible
        Where a store's need or a shared store's firm charge cannot be met.
    CentralUnsolved
        Where the solver gives up.
    """
    return _optimum(problem)[0]


def _optimum(p: Problem) -> tuple[Clearing, CentralProblem | None]:
    """Return the central optimum as a clearing, and the problem as it was solved; None where nobody takes part."""
    check_feasible(p)
    whole = CentralProblem(p) if p.n else None
    draft, duals, iterations = whole.solve() if whole else _nobody(p)
    plan = repair(p, draft, np.nan_to_num(duals.price_eur_per_kwh))
    outcome = Outcome(True, iterations, np.zeros((0, 4)), draft, duals, cold_start(p))
    return clearing(p, plan, outcome, bound(p, plan, duals)), whole


def _nobody(p: Problem) -> tuple[Draft, Duals, int]:
    """Return the optimum of nobody: nothing is done, and nothing costs anything."""
    flat, own, rented = np.zeros((0, p.steps)), np.zeros((p.stores, 0, p.steps)), np.zeros((p.shared, 0, p.steps))
    rights, rents = np.zeros((p.shared, 0)), np.zeros(p.shared)
    duals = Duals(np.full(p.steps, np.nan), flat, flat, np.zeros((p.shared, p.steps)), rents, rents)
    return Draft(flat, own, own, rented, rented, rights, rights), duals, 0


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A clearing beside the central optimum of its problem."""

    central: Clearing
    """The solver's answer, repaired and certified in the same way."""
    cost_eur: float
    central_cost_eur: float
    """Of the solver's answer when it is repaired: never below the optimum."""
    optimum_eur: float
    """The solver's own least cost, before anything is repaired, without the term that decides ties."""
    accuracy_eur: float
    """What the solver's own figures may be off by."""
    excess_eur: float
    """Cost less the optimum."""
    short_eur: float
    """The optimum less the clearing's bound: what its prices fail by to support the optimum."""
    certified: bool
    """Whether both certificates keep: the bound is not above the optimum, nor the optimum above the cost.  Then the cost is
    within the clearing's own gap of the optimum.  That is so up to ``accuracy_eur``, and up to what the solver's plan is more
    uneven than it has to be, which it weighs against cost (curvature)."""
    price_difference_eur_per_kwh: float
    """Largest difference of prices where both trade; elsewhere there are many prices.  NaN where nobody does."""
    price_interval: int
    """Where that is; -1 where nobody trades."""
    rent_difference_eur: float
    """Largest difference of what a shared store's scarcity rents bring in, over all that is offered."""
    energy_difference_kwh: float
    """Largest difference of what the exchange moves in an interval."""


def verify(problem: Problem, clearing_: Clearing) -> Comparison:
    """Solve the whole problem centrally and compare.

    Plans may differ where several cost the same, and so may prices (:func:`market.price_range.price_range_at`); costs may not,
    by more than the certificates say.

    Raises
    ------
    Infeasible
        Where the problem has no plan.  A clearing that was relaxed belongs to ``attainable(problem)``.
    CentralUnsolved
        Where the solver gives up.
    """
    one, (two, whole) = clearing_, _optimum(problem)
    optimum, uneven, accuracy = (
        (whole.optimum_eur, whole.curvature_eur, whole.accuracy) if whole else (0.0, 0.0, _EXACT)
    )
    sold = [problem.dt_h * np.maximum(c.exchange_kw, 0.0).sum(axis=0) for c in (one, two)]
    traded = np.minimum(*sold) > 1e-3 * max(float(np.maximum(*sold).max(initial=0.0)), 1e-9)
    prices = np.where(traded, np.abs(one.price_eur_per_kwh - two.price_eur_per_kwh), -np.inf)
    at = int(prices.argmax()) if traded.any() else -1
    rents = [
        c.rent_energy_scarcity_eur_per_kwh * problem.ess_energy_offer_kwh
        + c.rent_power_scarcity_eur_per_kw * problem.ess_power_offer_kw
        for c in (one, two)
    ]
    slack = accuracy * max(1.0, abs(optimum), two.turnover_eur)
    spread = max(_curvature_eur(problem, one) - uneven, 0.0)
    return Comparison(
        central=two,
        cost_eur=one.cost_eur,
        central_cost_eur=two.cost_eur,
        optimum_eur=optimum,
        accuracy_eur=slack,
        excess_eur=one.cost_eur - optimum,
        short_eur=optimum - one.bound_eur,
        certified=one.bound_eur <= optimum + slack and optimum <= one.cost_eur + spread + slack,
        price_difference_eur_per_kwh=float(prices[at]) if at >= 0 else float("nan"),
        price_interval=at,
        rent_difference_eur=float(np.abs(rents[0] - rents[1]).max(initial=0.0)),
        energy_difference_kwh=float(np.abs(sold[0] - sold[1]).max(initial=0.0)),
    )


def _curvature_eur(p: Problem, plan: Clearing) -> float:
    """Return the term that decides ties, of a plan."""
    flows = (plan.exchange_kw, plan.charge_kw, plan.discharge_kw, plan.rented_charge_kw, plan.rented_discharge_kw)
    return 0.5 * p.tie_eur_per_kw2h * p.dt_h * sum(float((flow**2).sum()) for flow in flows)


def _sum(expression: Expression, axis: int | None = None) -> Expression:
    """Sum over an axis, or over everything."""
    return _cvxpy().sum(expression, axis=axis)


def _times(numbers: Floats, expression: Expression) -> Expression:
    return _cvxpy().multiply(numbers, expression)


def _scaled(per_agent: Floats, expression: Expression) -> Expression:
    """Return every agent's row times its own number."""
    return _times(np.broadcast_to(per_agent[:, None], expression.shape), expression)


def _values(variables: list[Any], *shape: int) -> Floats:
    """Return the values of a list of variables as one array."""
    return np.array([v.value for v in variables]).reshape(len(variables), *shape)
