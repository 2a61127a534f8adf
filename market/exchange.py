"""The exchange: one price per interval, trades and rights found together.

``clear(problem)`` returns the plan of every agent, the prices, and the certificate by which they can be doubted.  The
method is an alternating-direction method (ADMM) in its Douglas-Rachford form: :mod:`market.kernel` iterates,
:mod:`market.repair` makes the plan exact, :mod:`market.bound` says how far from the best it can be at most.
docs/mathematics/exchange.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market.bound import Bound, Duals, bound
from market.exclusive import burned_kw
from market.feasible import Infeasible, attainable, broken_needs, check_feasible
from market.problem import Exchange, Problem, ProblemError
from market.repair import Draft, Plan, given_back, repair, runs_alone
from market.splitting import Outcome, Splitting, Warm

__all__ = ["Clearing", "Exchange", "Infeasible", "Problem", "ProblemError", "Warm", "attainable", "clear", "clearing"]

Floats = NDArray[np.float64]

_LEFT_OVER = 1e-3  # of a store's size: what less it burns is what the iteration left over
_SINGLE_REACHES = 5e-6  # smaller residuals drown in the rounding of single precision
_ASKED = 2000  # iterations after which the certificate is asked, and then each time there are twice as many


@dataclass(frozen=True, slots=True, eq=False)
class Clearing(Plan):
    """What the exchange found: an exact plan, prices, and how much either can be trusted."""

    status: str
    """``converged`` or ``not_converged``; the plan is exact either way, the gap says how good it is."""
    converged: bool
    iterations: int
    residuals: Floats
    """Shape (k, 4): iteration, primal and dual residual (relative), penalty, wherever they were looked at."""
    cost_eur: float
    """True cost of the plan: retail, charges, wear, penalties and reserve rents; no exchange payments, no scarcity rents."""
    bound_eur: float
    """No plan whatever costs less: a lower bound from the prices."""
    gap: float
    """(cost - bound) / max(1, |cost|).  Says little where a community's cost is nearly zero: look at ``gap_eur`` and
    ``turnover_eur`` there."""
    turnover_eur: float
    """All money of the plan without its sign: retail, exchange, charges, wear, penalties and reserve rents."""
    max_agent_kkt: float
    """No single agent could save more than this by deviating at the prices. [eur]"""
    deviation_gain_eur: Floats
    """What each agent could save at most by deviating alone, as a price taker.  Shape (n,)."""
    agent_cost_eur: Floats
    """The plan's cost, agent by agent.  Shape (n,)."""
    payment_eur: Floats
    """What each agent pays (+) or gets (-) on top of its cost: energy at the exchange's price, scarcity rents, and
    ``ess_net_price_eur_per_kwh`` for what it charges.  Shape (n,)."""
    owner_income_eur: Floats
    """What of the payments goes to the owner of each shared store, besides the reserve rents, which are in the costs.  The
    payments sum to it.  Shape (M,)."""
    dual_asymmetry_eur_per_kwh: float
    """Largest difference between two prices of one trade: 0 by construction, since everybody trades at the pool's price."""
    netting_cost_eur: float
    """What it costs, at most, that nothing charges and discharges at once where that would pay: the relaxed optimum may, a plan
    cannot.  An upper estimate: ``gap_eur``, which also holds what the iteration left over, where the iteration ended with a
    store or tenant that burns more than a thousandth of its power in some interval, or with a netted box that would have to;
    else 0."""
    price_eur_per_kwh: Floats
    """Price of the exchange; NaN where nobody can trade (exchange pinned or zero, no agents).  Shape (T,)."""
    rent_energy_scarcity_eur_per_kwh: Floats
    """On top of the reserve rent; 0 where rights are fixed or the store is netted.  Shape (M,)."""
    rent_power_scarcity_eur_per_kw: Floats
    """On top of the reserve rent; 0 where rights are fixed or the store is netted.  Shape (M,)."""
    ess_net_price_eur_per_kwh: Floats
    """What one more kWh of firm charge costs (+) or one more of allowed charge saves (-); of a netted box, what it pays for a
    kWh that is charged.  Shape (M, T)."""
    operator_kwh: Floats
    """Content of each box that belongs to no tenant: its floor, and what opposite flows of tenants lost in their accounts and
    not in the box.  NaN in rows that describe no box.  Shape (M, T + 1)."""
    relaxed: tuple[str, ...]
    """Needs that nothing could meet and that were moved to what is attainable (``infeasible="relax"``), in words."""
    missing_kwh: Floats | None
    """By how much least contents were lowered, and largest ones raised, where needs were to be relaxed.  Shape (2, K, n, T)."""
    warm: Warm

    @property
    def gap_eur(self) -> float:
        """Return what the plan costs above the bound, at most too much."""
        return self.cost_eur - self.bound_eur

    @property
    def max_deviation_gain_eur(self) -> float:
        """Return what the agent who could save most by deviating alone could save."""
        return self.max_agent_kkt


def clear(
    problem: Problem,
    *,
    warm: Warm | None = None,
    tolerance: float | None = None,
    max_iterations: int = 4000,
    gap: float | None = None,
    threads: int = 1,
    infeasible: Literal["raise", "relax"] = "raise",
) -> Clearing:
    """Clear the exchange.

    Parameters
    ----------
    problem
        Who wants what.
    warm
        Where a similar clearing ended (``clearing.warm``, or ``clearing.warm.dropped(steps)`` for the rest of the horizon).
    tolerance
        Largest relative residual, primal and dual, at which the iteration stops: 1e-3, or with a gap what usually goes with
        that; from 2000 iterations on a certificate as good as that (gap, and what anyone could gain, beside the term that decides
        ties) is enough.  Below 5e-6 it runs in double precision, at
        half the speed; ties, which ``curvature_eur_per_kw2h`` decides, then take thousands of iterations.
    max_iterations
        When it gives up; the plan is exact even then, and its gap says how good it is.
    gap
        Goes on until the certified gap is below this (too).  Stores are then run once more at the prices, everybody's alone
        (:mod:`market.alone`): a cheaper plan, if one that is less even among equals.
    threads
        Threads for the agents' part of an iteration.  More than one pays from some thousand agents on.
    infeasible
        What happens where a store's need cannot be met whatever it does (a car that cannot be full in time): ``raise``, or
        ``relax`` it as little as possible, clear the others all the same, and say in ``relaxed`` what is missing.

    Raises
    ------
    Infeasible
        Where a store's need (unless relaxed) or a shared store's firm charge cannot be met by anyone.

    Examples
    --------
    Two homes, one with two kilowatts too many and one with two too few, for an hour; they halve the margin between the
    retailer's prices, 0.30 and 0.08, or share it otherwise: any price between clears.

    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> found = clear(case)
    >>> found.converged, found.exchange_kw.round(6).tolist(), round(found.cost_eur, 6)
    (True, [[2.0], [-2.0]], 0.0)
    """
    stop = _stop_at(tolerance, infeasible)
    relaxed: tuple[str, ...] = ()
    moved = None
    if infeasible == "relax":
        relaxed = tuple(broken_needs(problem))
        problem, missing, excess = attainable(problem)
        moved = np.stack([missing, excess])
    check_feasible(problem)
    if gap is not None:
        needed = max(_residual_at(problem, gap), 1e-9)
        stop = needed if tolerance is None else min(stop, needed)
    splitting = Splitting(problem, warm, threads, double=stop < _SINGLE_REACHES)
    asked, exact = (_ASKED, 1e-6) if gap is None else (max_iterations, max(1e-6, 0.05 * gap))
    while True:
        outcome = splitting.run(stop, min(asked, max_iterations))
        net = None if gap is None else outcome.duals.net_eur_per_kwh
        plan = repair(problem, outcome.draft, outcome.duals.price_eur_per_kwh, net)
        plan = given_back(problem, plan, _scarcity(problem, outcome.duals))
        certificate = bound(problem, plan, outcome.duals, exact=exact)
        if gap is None:
            if not outcome.converged and _certified(problem, plan, certificate, stop):
                outcome = replace(outcome, converged=True)
            if outcome.converged or outcome.iterations >= max_iterations:
                return clearing(problem, plan, outcome, certificate, relaxed, moved)
            asked *= 2
            continue
        if certificate.gap <= gap or not outcome.converged or outcome.iterations >= max_iterations:
            return clearing(problem, plan, outcome, certificate, relaxed, moved)
        further = min(4.0, (1.1 * certificate.gap / gap) ** 0.75)  # gaps fall as iterations^-1.4, or nearly
        # a certificate costs as much as some sixty iterations
        splitting.skip(min(max_iterations, max(int(outcome.iterations * further), outcome.iterations + 40)))


def _stop_at(tolerance: float | None, infeasible: str) -> float:
    """Return the residual at which the iteration stops; refuse words and numbers that cannot be meant."""
    stop = 1e-3 if tolerance is None else tolerance
    if not 0.0 < stop < 1.0:
        raise ProblemError(f"tolerance is {tolerance}; give a number between 0 and 1, such as 1e-3.")
    if infeasible not in ("raise", "relax"):
        raise ProblemError(f"infeasible is {infeasible!r}; give 'raise' or 'relax'.")
    return stop


def _residual_at(p: Problem, gap: float) -> float:
    """Return the residual at which a plan usually has such a gap: found by trying on the sample community."""
    if p.stores + p.shared > 0 and runs_alone(p):
        return float(max(1.45, 3.9 * (24.0 / max(p.steps, 24)) ** 1.2) * gap * max(1.0, 1e-3 / gap) ** 0.38)
    return float(0.9 * gap * (24.0 / max(p.steps, 24)) ** 0.27 * max(1.0, 1e-3 / gap) ** 0.25)


def _certified(p: Problem, plan: Plan, certificate: Bound, tolerance: float) -> bool:
    """Return whether plan and prices are as good as the tolerance although residuals are not: ties are decided slowly.

    The term that decides them moves prices and rents a little too, so it counts beside what an agent could gain.
    """
    flows = plan.charge_kw, plan.discharge_kw, plan.rented_charge_kw, plan.rented_discharge_kw
    squares = (plan.exchange_kw**2).sum(axis=1) + sum((flow**2).sum(axis=(0, 2)) for flow in flows)
    left = certificate.agent_gain_eur - p.tie_eur_per_kw2h * p.dt_h * squares
    worst = float(left.max(initial=0.0))
    return certificate.gap <= tolerance and worst <= tolerance * max(1.0, certificate.turnover_eur)


def clearing(
    problem: Problem,
    plan: Plan,
    outcome: Outcome,
    certificate: Bound,
    relaxed: tuple[str, ...] = (),
    missing_kwh: Floats | None = None,
) -> Clearing:
    """Put plan, prices and certificate together."""
    p, duals = problem, outcome.duals
    scarcity = _scarcity(p, duals)
    tenants = np.where(p.leads, p.in_boxes(plan.rented_energy_kwh.sum(axis=1)).T, np.nan).T
    return Clearing(
        **{column.name: getattr(plan, column.name) for column in fields(Plan)},
        status="converged" if outcome.converged else "not_converged",
        converged=outcome.converged,
        iterations=outcome.iterations,
        residuals=outcome.residuals,
        cost_eur=certificate.cost_eur,
        bound_eur=certificate.bound_eur,
        gap=certificate.gap,
        turnover_eur=certificate.turnover_eur,
        max_agent_kkt=float(certificate.agent_gain_eur.max(initial=0.0)),
        deviation_gain_eur=certificate.agent_gain_eur,
        agent_cost_eur=certificate.agent_cost_eur,
        payment_eur=certificate.payment_eur,
        owner_income_eur=certificate.owner_income_eur,
        dual_asymmetry_eur_per_kwh=0.0,
        netting_cost_eur=max(certificate.cost_eur - certificate.bound_eur, 0.0) if _burns(p, outcome.draft) else 0.0,
        price_eur_per_kwh=certificate.price_eur_per_kwh,
        rent_energy_scarcity_eur_per_kwh=scarcity[0],
        rent_power_scarcity_eur_per_kw=scarcity[1],
        ess_net_price_eur_per_kwh=certificate.net_eur_per_kwh,
        operator_kwh=plan.box_energy_kwh - tenants,
        relaxed=relaxed,
        missing_kwh=missing_kwh,
        warm=outcome.warm,
    )


def _scarcity(p: Problem, duals: Duals) -> tuple[Floats, Floats]:
    """Return the scarcity rents of energy and power, none where rights are given or a box is netted.  Shapes (M,)."""
    unpriced = p.ess_netted | p.rights_fixed
    energy, power = (
        np.where(unpriced, 0.0, np.maximum(rent, 0.0))
        for rent in (duals.rent_energy_eur_per_kwh, duals.rent_power_eur_per_kw)
    )
    return energy, power


def _burns(p: Problem, draft: Draft) -> bool:
    """Return whether a store, a tenant, or a netted box to stay below its ceiling, charges and discharges at once in the draft."""
    limited = np.isfinite(p.ess_net_min_kw) | np.isfinite(p.ess_net_max_kw)
    paid, held = p.sell_eur_per_kwh < 0.0, np.asarray(limited.any(axis=1))
    if paid.any():
        most = p.store_charge_max_kw, p.store_discharge_max_kw
        flows = np.minimum(draft.charge_kw, most[0]), np.minimum(draft.discharge_kw, most[1])
        own = burned_kw(*flows, p.store_efficiency_charge, p.store_efficiency_discharge)
        if (paid & (own > _LEFT_OVER * np.minimum(*most))).any():
            return True
    if paid.any() or held.any():
        spaces = np.broadcast_to([p.ess_efficiency_charge, p.ess_efficiency_discharge], (p.n, 2, p.shared)).T
        rented = burned_kw(draft.rented_charge_kw, draft.rented_discharge_kw, spaces[:, 0], spaces[:, 1])
        if ((paid | held[:, None, None]) & (rented > _LEFT_OVER * p.ess_power_offer_kw[:, None, None])).any():
            return True
    net = p.in_boxes((draft.rented_charge_kw - draft.rented_discharge_kw).sum(axis=1))
    into, out = p.dt_h * p.ess_efficiency_charge, p.dt_h / p.ess_efficiency_discharge
    content, room = p.box_initial_kwh(), (p.ess_ceiling - p.ess_floor + _LEFT_OVER) * p.ess_energy_offer_kwh
    for t in range(p.steps):
        content = p.ess_retention * content + np.where(net[:, t] > 0.0, into, out) * net[:, t]
        if ((content > room) & p.ess_netted & p.leads).any():
            return True
    return False
