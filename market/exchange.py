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

from market.problem import Exchange, Problem, ProblemError

__all__ = ["Clearing", "Exchange", "Problem", "ProblemError", "Warm", "clear"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """Where an iteration stood, so that a similar problem can start there."""

    penalty: float
    """Penalty at which ``state`` is scaled."""
    agent: Floats
    """Shape (4, n, T): retail, exchange, meter, curtailment."""
    store: Floats
    """Shape (3, K, n, T): charge, discharge, content."""
    rented: Floats
    """Shape (4, M, n, T): charge, discharge, content, net."""
    right: Floats
    """Shape (4, M, n): energy and power, and where their projections stood."""
    price: Floats
    """Shape (T,)."""

    def dropped(self, steps: int) -> Warm:
        """Return the start for the rest of the horizon, without its first ``steps`` intervals."""
        left = self.price.shape[0] - steps
        if steps < 0 or left < 1:
            raise ProblemError(
                f"{steps} of {self.price.shape[0]} intervals were to be dropped; at least one must be left."
            )
        return Warm(self.penalty, self.agent[..., steps:], self.store[..., steps:], self.rented[..., steps:],
                    self.right, self.price[steps:])  # fmt: skip


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
    problem: Problem, *, warm: Warm | None = None, tolerance: float = 1e-3, max_iterations: int = 4000, threads: int = 1
) -> Clearing:
    """Clear the exchange."""
    raise NotImplementedError
