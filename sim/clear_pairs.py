"""Agents with cost curves cleared pair by pair: every two that may trade make their own price (:mod:`market.bilateral`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market.bilateral import Bilateral, BilateralClearing, clear
from market.fairness import fairness
from sim.case import CurvesCase, Trades
from sim.case_arrays import curves_of, graph_of
from sim.clear_curves import alone_eur, curve_agents, outside, verification
from sim.clear_exchange import looks
from sim.clear_result import Certificate, MarketResult, Trade, Verification, accepted, figure, figures, heading

__all__ = ["by_pairs", "pairs_verified"]

Floats = NDArray[np.float64]

MOST = 100_000
"""Iterations after which a clearing gives up."""


def by_pairs(case: CurvesCase, trades: Trades, tolerance: float) -> tuple[MarketResult, Bilateral, BilateralClearing]:
    """Clear a case pair by pair; who must bring or take what no partner is there for is named, and all others are cleared."""
    curves, graph = curves_of(case), graph_of(case, trades)
    problem = Bilateral(
        curves=curves,
        first=graph.first,
        second=graph.second,
        charge_first_eur_per_kwh=graph.charge_first_eur_per_kwh,
        charge_second_eur_per_kwh=graph.charge_second_eur_per_kwh,
        trade_max_kw=graph.limit_kw,
    )
    found = clear(problem, tolerance=tolerance, max_iterations=MOST)
    alone = alone_eur(curves, case.retail)
    gain = alone - found.agent_cost_eur - found.payment_eur
    names = [agent.id for agent in case.agents]
    slack = 1e-6 + max(found.cost_eur - found.bound_eur, 0.0)
    fair = fairness(names, gain, found.payment_eur, tolerance_eur=slack)
    power, none = np.abs(found.trades_kw), np.full(curves.steps, np.nan)
    mean = _mean_price(found.price_eur_per_kwh, power)
    money = np.stack([found.agent_cost_eur, found.payment_eur, alone, gain, found.deviation_gain_eur])
    ends = zip(problem.first.tolist(), problem.second.tolist(), strict=True)
    result = MarketResult(
        **heading(case),
        mechanism="bilateral",
        status=found.status,
        cost_eur=figure(found.cost_eur),
        alone_eur=figure(alone.sum()),
        price_eur_per_kwh=figures(none),
        buy_price_eur_per_kwh=figures(mean),
        sell_price_eur_per_kwh=figures(mean),
        traded_kwh=figures(case.dt_h * power.sum(axis=0)),
        agents=curve_agents(case, curves, found.power_kw, money, found.marginal_eur_per_kwh),
        trades=tuple(
            Trade(
                first=names[i],
                second=names[j],
                power_kw=figures(found.trades_kw[e]),
                price_eur_per_kwh=figures(found.price_eur_per_kwh[e]),
            )
            for e, (i, j) in enumerate(ends)
        ),
        certificate=Certificate(
            converged=found.converged,
            iterations=found.iterations,
            residuals=looks(found.residuals),
            bound_eur=figure(found.bound_eur),
            gap=figure(found.gap),
            gap_eur=figure(found.cost_eur - found.bound_eur),
            max_agent_kkt_eur=figure(found.max_agent_kkt),
            dual_asymmetry_eur_per_kwh=figure(found.dual_asymmetry_eur_per_kwh),
            **accepted(fair, gain),
        ),
        infeasible=found.trouble,
        notes=outside(case),
    )
    return result, problem, found


def _mean_price(price: Floats, power: Floats) -> Floats:
    """Return the mean of the pairs' prices by energy; NaN where nothing is traded.  Shape (T,)."""
    total = power.sum(axis=0)
    paid = (np.nan_to_num(price) * power).sum(axis=0)
    return np.where(total > 0.0, paid / np.where(total > 0.0, total, 1.0), np.nan)


def pairs_verified(problem: Bilateral, found: BilateralClearing) -> Verification:
    """Solve the same market as one problem and compare."""
    from market.bilateral_central import optimum

    best, least_eur = optimum(problem)
    traded = np.minimum(np.abs(found.trades_kw), np.abs(best.trades_kw)) > 1e-3 * np.abs(best.trades_kw).max(
        initial=0.0
    )
    off = np.abs(found.price_eur_per_kwh - best.price_eur_per_kwh)[traded]
    moved = problem.curves.dt_h * np.abs(np.nan_to_num(found.price_eur_per_kwh) * found.trades_kw).sum()
    return verification(
        found.cost_eur,
        found.bound_eur,
        least_eur,
        float(moved),
        price_difference_eur_per_kwh=figure(off.max()) if off.size else None,
        power_difference_kw=figure(np.abs(found.power_kw - best.power_kw).max(initial=0.0)),
    )
