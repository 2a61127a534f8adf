"""Agents with cost curves cleared in one pool, and what holds for every market of curves.

At a price λ an agent minimises ``Δ (a/2 p² + b p − λ p)`` between its bounds; the least value is closed form.  The sum over
the agents is a bound that no plan can beat, and what an agent's own plan is above its least value it could gain by deviating.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.curves import Curves, Pool, clear_pool
from market.fairness import fairness
from sim.case import CurvesCase, Retail
from sim.case_arrays import curves_of
from sim.clear_result import AgentResult, Certificate, MarketResult, Verification, accepted, figure, figures, heading

__all__ = ["alone_eur", "by_pool", "curve_agents", "least_eur", "outside", "pool_verified", "verification"]

Floats = NDArray[np.float64]

ACCURACY = 1e-6
"""Share of the money that is moved that a solver's figures may be off by."""


def least_eur(curves: Curves, buy_eur_per_kwh: Floats, sell_eur_per_kwh: Floats) -> Floats:
    """Return what each agent pays at least where it buys and sells at given prices, buy >= sell.  Shape (n,).

    Parameters
    ----------
    curves
        The agents.
    buy_eur_per_kwh, sell_eur_per_kwh : shape (T,) or (n, T)
        What a kWh taken costs, and what a kWh brought earns.
    """
    low, high = curves.p_min_kw, curves.p_max_kw
    steep = np.where(curves.a_eur_per_kw2h > 0, curves.a_eur_per_kw2h, 1.0)
    best = np.full(low.shape, np.inf)
    for price, lower, upper in (
        (buy_eur_per_kwh, low, np.minimum(high, 0.0)),
        (sell_eur_per_kwh, np.maximum(low, 0.0), high),
    ):
        reach = lower <= upper
        wanted = np.where(curves.a_eur_per_kw2h > 0, (price - curves.b_eur_per_kwh) / steep, lower)
        for power in (np.clip(wanted, np.minimum(lower, upper), upper), lower, upper):
            rate = (0.5 * curves.a_eur_per_kw2h * power + curves.b_eur_per_kwh - price) * power
            best = np.where(reach, np.minimum(best, rate), best)
    least: Floats = curves.dt_h * best.sum(axis=1)
    return least


def alone_eur(curves: Curves, retail: Retail | None) -> Floats:
    """Return what each agent's curve costs it without the market; NaN where it must bring or take and there is no retailer.

    With a retailer it buys and sells there; without one it stands still, which costs nothing.
    """
    if retail is not None:
        return least_eur(curves, retail.buy_eur_per_kwh, retail.sell_eur_per_kwh)
    may_rest = ((curves.p_min_kw <= 0.0) & (curves.p_max_kw >= 0.0)).all(axis=1)
    return np.where(may_rest, 0.0, np.nan)


def by_pool(case: CurvesCase) -> tuple[MarketResult, Curves, Pool]:
    """Clear a case in one pool, at one price per interval; where demand and supply cannot meet, the interval is named.

    There everybody is as near to balance as its bounds allow, nobody pays, and neither a bound nor anyone's gain is known.
    """
    curves = curves_of(case)
    pool = clear_pool(curves)
    stuck = _stuck(curves, pool)
    alone = alone_eur(curves, case.retail)
    gain = np.full(curves.n, np.nan) if stuck else alone - pool.cost_eur - pool.payment_eur
    price = np.nan_to_num(pool.price_eur_per_kwh)
    least = least_eur(curves, price, price)
    deviation = gain if stuck else np.maximum(pool.cost_eur + pool.payment_eur - least, 0.0)
    sold, bought = (np.maximum(sign * pool.power_kw, 0.0).sum(axis=0) for sign in (1.0, -1.0))
    cost, bound = float(pool.cost_eur.sum()), float("nan") if stuck else float(least.sum())
    fair = fairness(
        [agent.id for agent in case.agents], gain, pool.payment_eur, tolerance_eur=1e-6 * max(1.0, abs(cost))
    )
    result = MarketResult(
        **heading(case),
        mechanism="pool",
        status="infeasible" if stuck else "cleared",
        cost_eur=figure(cost),
        alone_eur=figure(alone.sum()),
        price_eur_per_kwh=figures(pool.price_eur_per_kwh),
        buy_price_eur_per_kwh=figures(pool.price_eur_per_kwh),
        sell_price_eur_per_kwh=figures(pool.price_eur_per_kwh),
        traded_kwh=figures(case.dt_h * np.minimum(sold, bought)),
        agents=curve_agents(
            case, curves, pool.power_kw, np.stack([pool.cost_eur, pool.payment_eur, alone, gain, deviation])
        ),
        certificate=Certificate(
            converged=True,
            iterations=None,
            residuals=(),
            bound_eur=figure(bound),
            gap=figure((cost - bound) / max(1.0, abs(cost))),
            gap_eur=figure(cost - bound),
            max_agent_kkt_eur=None if stuck else figure(deviation.max(initial=0.0)),
            dual_asymmetry_eur_per_kwh=None,
            **accepted(fair, gain),
        ),
        infeasible=stuck,
        notes=outside(case),
    )
    return result, curves, pool


def outside(case: CurvesCase) -> tuple[str, ...]:
    """Return what to know of a retailer beside a market that does without one."""
    if case.retail is None:
        return ()
    return (
        "The retailer's prices say what everyone would pay alone; in this market nobody buys from the retailer or sells to it.",
    )


def _stuck(curves: Curves, pool: Pool) -> tuple[str, ...]:
    """Return where demand and supply cannot meet, in words."""
    found = []
    for t in (t for t, status in enumerate(pool.status) if status != "cleared"):
        least, most = float(curves.p_min_kw[:, t].sum()), float(curves.p_max_kw[:, t].sum())
        side = f"bring at least {least:g} kW together" if least > 0 else f"take at least {-most:g} kW together"
        found.append(f"interval {t}: the agents must {side}, and nobody is there for it. Widen p_min or p_max.")
    return tuple(found)


def curve_agents(
    case: CurvesCase, curves: Curves, power: Floats, money: Floats, marginal: Floats | None = None
) -> tuple[AgentResult, ...]:
    """Return everyone's result; ``money`` is cost, payment, cost alone, gain and gain by deviating, shape (5, n)."""
    marginal = curves.a_eur_per_kw2h * power + curves.b_eur_per_kwh if marginal is None else marginal
    return tuple(
        AgentResult(
            id=agent.id,
            power_kw=figures(power[i]),
            cost_eur=figure(money[0, i]),
            payment_eur=figure(money[1, i]),
            alone_eur=figure(money[2, i]),
            gain_eur=figure(money[3, i]),
            deviation_gain_eur=figure(money[4, i]),
            marginal_eur_per_kwh=figures(marginal[i]),
        )
        for i, agent in enumerate(case.agents)
    )


def _cvxpy() -> Any:
    """Return CVXPY, which takes seconds to import and has no types."""
    import cvxpy

    return cvxpy


def pool_verified(curves: Curves, pool: Pool, bound_eur: float) -> Verification:
    """Solve the pool as one quadratic program and compare."""
    price, power, best = _whole(curves) if curves.n else (pool.price_eur_per_kwh, pool.power_kw, 0.0)
    cost = float(pool.cost_eur.sum())
    traded = np.abs(pool.power_kw).sum(axis=0) > 1e-9
    off = np.where(traded, np.abs(price - pool.price_eur_per_kwh), -np.inf)
    at = int(off.argmax()) if traded.any() else None
    moved = float(curves.dt_h * np.abs(np.nan_to_num(pool.price_eur_per_kwh) * pool.power_kw).sum())
    return verification(
        cost,
        bound_eur,
        best,
        moved,
        price_difference_eur_per_kwh=None if at is None else figure(off[at]),
        price_difference_interval=at,
        power_difference_kw=figure(np.abs(pool.power_kw - power).max(initial=0.0)),
    )


def verification(cost_eur: float, bound_eur: float, optimum_eur: float, moved_eur: float, **more: Any) -> Verification:
    """Return whether cost and bound hold the optimum between them; ``moved_eur`` is the money beside which the solver is exact."""
    slack = ACCURACY * max(1.0, abs(optimum_eur), moved_eur)
    return Verification(
        by="central",
        agrees=bound_eur <= optimum_eur + slack and optimum_eur <= cost_eur + slack,
        tolerance=slack / max(1.0, abs(optimum_eur)),
        cost_eur=figure(optimum_eur),
        cost_above_eur=figure(cost_eur - optimum_eur),
        bound_below_eur=figure(optimum_eur - bound_eur),
        **more,
    )


def _whole(curves: Curves) -> tuple[Floats, Floats, float]:
    """Return price, powers and least cost of the pool as one quadratic program."""
    cp = _cvxpy()
    power = cp.Variable(curves.p_min_kw.shape)
    rate = cp.sum(cp.multiply(0.5 * curves.a_eur_per_kw2h, cp.square(power)) + cp.multiply(curves.b_eur_per_kwh, power))
    balance = cp.sum(power, axis=0) == 0
    whole = cp.Problem(cp.Minimize(curves.dt_h * rate), [balance, power >= curves.p_min_kw, power <= curves.p_max_kw])
    whole.solve(solver=cp.CLARABEL)
    return -np.asarray(balance.dual_value) / curves.dt_h, np.asarray(power.value), float(whole.value)
