"""The exchange with a network, solved centrally: the yardstick of :mod:`market.network_prices`.

The problem of :mod:`market.central` with two more lines, again by CVXPY and Clarabel ::

    A x <= b (multiplier μ),   cost + Σ Δ c (|F x|² + g x + const),   x = the meters, then the nets of the shared stores
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.central import CentralProblem
from market.feasible import check_feasible
from market.network_prices import NetworkClearing, network_clearing
from market.network_repair import repair_inside
from market.network_rows import Network
from market.problem import Problem
from market.splitting import Outcome, cold_start

__all__ = ["NetworkCentral", "solve"]

Floats = NDArray[np.float64]
Expression = Any  # as in market.central
Constraint = Any


def _cvxpy() -> Any:
    """Return CVXPY, which takes seconds to import."""
    import cvxpy

    return cvxpy


class NetworkCentral(CentralProblem):
    """A central problem with a network."""

    def __init__(self, problem: Problem, network: Network) -> None:
        super().__init__(problem)
        cp, p = _cvxpy(), problem
        self.network = network
        self.draw_kw = cp.Variable((network.places, p.steps), "draw_kw")
        self.rows = network.a_per_kw @ self.draw_kw <= network.b

    def more(self) -> list[Constraint]:
        """Draws are what meters and stores draw, inside the rows."""
        p, cp = self.p, _cvxpy()
        nets = [self.draw_kw[p.n + j] == cp.sum(self.net_kw(j), axis=0) for j in range(p.shared)]
        return [self.draw_kw[: p.n] == self.meter_kw, *nets, self.rows]

    def more_eur(self) -> Expression:
        """Losses."""
        cp, net = _cvxpy(), self.network
        price = np.broadcast_to(net.loss_eur_per_kwh, net.loss_slope.shape)
        cost = cp.sum(cp.multiply(price * net.loss_slope, self.draw_kw)) + float(
            net.loss_eur_per_kwh @ net.loss_constant_kw
        )
        if len(net.loss_factor):
            root = np.sqrt(np.broadcast_to(net.loss_eur_per_kwh, (len(net.loss_factor), net.steps)))
            cost += cp.sum_squares(cp.multiply(root, net.loss_factor @ self.draw_kw))
        return self.p.dt_h * cost


def solve(problem: Problem, network: Network) -> tuple[NetworkClearing, float]:
    """Return the central optimum as a clearing, repaired and certified, and the solver's own least cost.

    Raises
    ------
    Infeasible, CentralUnsolved
        As :func:`market.central.solve`; rows that nobody can keep are infeasible here.
    """
    check_feasible(problem)
    whole = NetworkCentral(problem, network)
    draft, duals, iterations = whole.solve()
    plan, _ = repair_inside(problem, network, draft, whole.draw_kw.value, np.nan_to_num(duals.price_eur_per_kwh))
    outcome = Outcome(True, iterations, np.zeros((0, 4)), draft, duals, cold_start(problem))
    row_price = np.maximum(whole.rows.dual_value, 0.0) / problem.dt_h
    return network_clearing(problem, network, plan, outcome, row_price), whole.optimum_eur
