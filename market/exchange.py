"""The exchange: one price per interval, trades and rights found together.

``clear(problem)`` returns the plan of every agent, the prices, and the certificate by which they can be doubted.  The
method is an alternating-direction method (ADMM) in its Douglas-Rachford form: :mod:`market.kernel` iterates,
:mod:`market.repair` makes the plan exact, :mod:`market.bound` says how far from the best it can be at most.
docs/mathematics/exchange.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.bound import Bound, bound
from market.feasible import Infeasible, attainable, check_feasible
from market.problem import Exchange, Problem, ProblemError
from market.repair import Plan, repair
from market.splitting import Outcome, Splitting, Warm

__all__ = ["Clearing", "Exchange", "Infeasible", "Problem", "ProblemError", "Warm", "attainable", "clear", "clearing"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Clearing:
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
    """(cost - bound) / max(1, |cost|)."""
    max_agent_kkt: float
    """No single agent could save more than this by deviating at the prices. [eur]"""
    grid_kw: Floats
    """Retail exchange, import +.  Shape (n, T)."""
    exchange_kw: Floats
    """Sale to the exchange +; sums to zero over the agents.  Shape (n, T)."""
    meter_kw: Floats
    """Physical exchange at the meter, import +.  Shape (n, T)."""
    curtailed_kw: Floats
    """Shape (n, T)."""
    breach_kw: Floats
    """By how much the meter leaves its envelope.  Shape (n, T)."""
    charge_kw: Floats
    """Shape (K, n, T)."""
    discharge_kw: Floats
    """Shape (K, n, T)."""
    energy_kwh: Floats
    """Content at the start of every interval and at the end.  Shape (K, n, T + 1)."""
    rented_charge_kw: Floats
    """Shape (M, n, T)."""
    rented_discharge_kw: Floats
    """Shape (M, n, T)."""
    rented_energy_kwh: Floats
    """Shape (M, n, T + 1)."""
    right_energy_kwh: Floats
    """Shape (M, n)."""
    right_power_kw: Floats
    """Shape (M, n)."""
    price_eur_per_kwh: Floats
    """Price of the exchange; NaN where nobody can trade (exchange pinned or zero, no agents).  Shape (T,)."""
    rent_energy_scarcity_eur_per_kwh: Floats
    """On top of the reserve rent; 0 where rights are fixed.  Shape (M,)."""
    rent_power_scarcity_eur_per_kw: Floats
    """On top of the reserve rent; 0 where rights are fixed.  Shape (M,)."""
    ess_net_price_eur_per_kwh: Floats
    """What one more kWh of firm charge costs (+) or one more of allowed charge saves (-).  Shape (M, T)."""
    warm: Warm


def clear(
    problem: Problem,
    *,
    warm: Warm | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 4000,
    gap: float | None = None,
    threads: int = 1,
) -> Clearing:
    """Clear the exchange.

    Parameters
    ----------
    problem
        Who wants what.
    warm
        Where a similar clearing ended (``clearing.warm``, or ``clearing.warm.dropped(steps)`` for the rest of the horizon).
    tolerance
        Largest relative residual, primal and dual, at which the iteration stops.
    max_iterations
        When it gives up; the plan is exact even then, and its gap says how good it is.
    gap
        Goes on, with smaller and smaller tolerances, until the certified gap is below this too.
    threads
        Threads for the agents' part of an iteration.  More than one pays from some thousand agents on.

    Raises
    ------
    Infeasible
        Where a store's need or a shared store's firm charge cannot be met by anyone.

    Examples
    --------
    Two homes, one with two kilowatts too many and one with two too few, for an hour; they halve the margin between the
    retailer's prices, 0.30 and 0.08, or share it otherwise: any price between clears.

    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> found = clear(case)
    >>> found.converged, found.exchange_kw.round(6).tolist(), round(found.cost_eur, 6)
    (True, [[2.0], [-2.0]], 0.0)
    """
    if not 0.0 < tolerance < 1.0:
        raise ProblemError(f"tolerance is {tolerance}; give a number between 0 and 1, such as 1e-3.")
    check_feasible(problem)
    splitting = Splitting(problem, warm, threads)
    while True:
        outcome = splitting.run(tolerance, max_iterations)
        plan = repair(problem, outcome.draft, outcome.duals.price_eur_per_kwh)
        certificate = bound(problem, plan, outcome.duals)
        if gap is None or certificate.gap <= gap or not outcome.converged:
            return clearing(plan, outcome, certificate)
        tolerance *= 0.5


def clearing(plan: Plan, outcome: Outcome, certificate: Bound) -> Clearing:
    """Put plan, prices and certificate together."""
    duals = outcome.duals
    return Clearing(
        status="converged" if outcome.converged else "not_converged",
        converged=outcome.converged,
        iterations=outcome.iterations,
        residuals=outcome.residuals,
        cost_eur=certificate.cost_eur,
        bound_eur=certificate.bound_eur,
        gap=certificate.gap,
        max_agent_kkt=float(certificate.agent_gain_eur.max(initial=0.0)),
        grid_kw=plan.grid_kw,
        exchange_kw=plan.exchange_kw,
        meter_kw=plan.meter_kw,
        curtailed_kw=plan.curtailed_kw,
        breach_kw=plan.breach_kw,
        charge_kw=plan.charge_kw,
        discharge_kw=plan.discharge_kw,
        energy_kwh=plan.energy_kwh,
        rented_charge_kw=plan.rented_charge_kw,
        rented_discharge_kw=plan.rented_discharge_kw,
        rented_energy_kwh=plan.rented_energy_kwh,
        right_energy_kwh=plan.right_energy_kwh,
        right_power_kw=plan.right_power_kw,
        price_eur_per_kwh=certificate.price_eur_per_kwh,
        rent_energy_scarcity_eur_per_kwh=duals.rent_energy_eur_per_kwh,
        rent_power_scarcity_eur_per_kw=duals.rent_power_eur_per_kw,
        ess_net_price_eur_per_kwh=duals.net_eur_per_kwh,
        warm=outcome.warm,
    )
