"""How good a plan can be at all: a lower bound from prices, and what a single agent could still gain.

Relax the agents' balances with a value ``nu[i, t]`` of energy, their meters with ``pi[i, t]``, the sums with the exchange's
price ``lambda[t]`` and the shared stores' ``sigma[j, t]``.  For ANY such numbers

    D = sum dt (pi base + min(0, pi) pv - meter terms) + own stores at price pi + rented space at price nu - sigma
        + what sigma earns at its bound, or in the box                                                           (1)

is at most the cost of any plan.  Retail and exchange stay bounded only if

    max(sell, lambda) <= nu <= min(buy, lambda + exchange charge),   |pi - nu| <= penalty                          (2)

so the numbers are moved there first; that (2) can be met is checked when the problem is made.  Then they are improved agent by
agent (:mod:`market.response`): near the end of an iteration they, and not the exchange's price, are what a bound falls short by.
Own stores and rented spaces with fixed rights are minimised exactly (:mod:`market.chain`).  Where rights are free, the
marginal values of a space's content make a plane: its best use earns at most a kWh + b kW, and the best planes decide what the
offers can earn.  In netted operation every right has an offer of its own, and sigma earns what the box can: a store run at
least cost at the prices sigma.  The curvature term, which no cost contains, is not in the bound either.

Per agent the same numbers say what it could gain at most by deviating alone at the prices: its cost in the plan less the
least cost of (1) for that agent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import value
from market.compiled import EXACT
from market.feasible import least_rights
from market.problem import Problem
from market.repair import Plan, plan_cost_eur
from market.response import Tables, answers
from market.tenants import box_as_store
from market.traded import settled_price

__all__ = ["Bound", "Duals", "bound"]

Floats = NDArray[np.float64]

_EXACT = 1e-6
_DOUBTFUL = 5e-3  # of the mean turnover: who seems to gain more by deviating is looked at twice


@dataclass(frozen=True, slots=True, eq=False)
class Duals:
    """Prices that somebody believes in."""

    price_eur_per_kwh: Floats
    """Of the exchange.  Shape (T,)."""
    value_eur_per_kwh: Floats
    """Of a kWh at an agent's commercial balance (nu).  Shape (n, T)."""
    meter_eur_per_kwh: Floats
    """Of a kWh at an agent's meter (pi).  Shape (n, T)."""
    net_eur_per_kwh: Floats
    """Of a kWh more that the shared store must charge (sigma).  Shape (M, T)."""
    rent_energy_eur_per_kwh: Floats
    """Scarcity rent.  Shape (M,)."""
    rent_power_eur_per_kw: Floats
    """Scarcity rent.  Shape (M,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Bound:
    """The certificate of a plan."""

    cost_eur: float
    bound_eur: float
    gap: float
    turnover_eur: float
    """All money of the plan without its sign: what a gap is small against, even where the cost is nearly zero."""
    agent_gain_eur: Floats
    """The most that each agent could gain by deviating alone.  Shape (n,)."""
    agent_cost_eur: Floats
    """What the plan costs each agent, payments excluded.  Shape (n,)."""
    payment_eur: Floats
    """What each agent pays on top: energy at the exchange's price, scarcity rents, the price of the net.  Shape (n,)."""
    owner_income_eur: Floats
    """What the payments leave to the owner of each shared store; their sum is that of the payments.  Shape (M,)."""
    price_eur_per_kwh: Floats
    """The prices, moved where (2) can hold.  Shape (T,)."""
    net_eur_per_kwh: Floats
    """The prices of the boxes' nets, 0 where nothing bounds them.  Shape (M, T)."""


@njit(**EXACT)
def _own_stores(
    dt_h: float, meter: Floats, wear: Floats, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats,
    drain: Floats, initial: Floats, efficiency_c: Floats, efficiency_d: Floats, retention: Floats, who: NDArray[np.bool_],
) -> Floats:  # fmt: skip
    """Return the least cost of the stores of each agent in ``who`` at the price of its meter, 0 for others.  Shape (n,)."""
    stores, agents, steps = charge_max.shape
    least = np.zeros(agents)
    slope, length = np.empty((1, 4 * steps + 8)), np.empty((1, 4 * steps + 8))
    for k in range(stores):
        for i in range(agents):
            if not who[i] or (charge_max[k, i].max() <= 0.0 and discharge_max[k, i].max() <= 0.0):  # it costs nothing
                continue
            least[i] += value(
                dt_h * efficiency_c[k, i], dt_h / efficiency_d[k, i], retention[k, i], dt_h * (meter[i] + wear[k, i]),
                dt_h * (wear[k, i] - meter[i]), charge_max[k, i], discharge_max[k, i], lower[k, i], upper[k, i],
                drain[k, i], initial[k, i], slope, length)  # fmt: skip
    return least


@njit(**EXACT)
def _fixed_spaces(
    e1: float, e2: float, retention: float, price_c: Floats, price_d: Floats, right_energy: Floats, right_power: Floats,
    available: Floats, initial: Floats, final: Floats,
) -> Floats:  # fmt: skip
    """Return the least cost of each agent's space, its rights given.  Shape (n,)."""
    agents, steps = price_c.shape
    least = np.zeros(agents)
    slope, length = np.empty((1, 4 * steps + 8)), np.empty((1, 4 * steps + 8))
    none, lower, upper, full = np.zeros(steps), np.zeros(steps), np.empty(steps), np.empty(steps)
    for i in range(agents):
        for t in range(steps):
            full[t], upper[t] = right_power[i] * available[t], right_energy[i]
        lower[steps - 1] = upper[steps - 1] = final[i]
        least[i] = value(e1, e2, retention, price_c[i], price_d[i], full, full, lower, upper, none, initial[i], slope,
                         length)  # fmt: skip
    return least


@njit(**EXACT)
def _planes(
    dt_h: float, e1: float, e2: float, retention: float, theta: Floats, toll_c: float, toll_d: Floats, available: Floats,
    initial: Floats, final: Floats, may: NDArray[np.bool_], rent_kwh: Floats, rent_kw: Floats, y: Floats,
) -> Floats:  # fmt: skip
    """Return (n, 3): constant, cost per kWh and per kW of a plane below each agent's cost of space, rents included.

    That of the marginal values ``y``, shape (n, T), whatever they are.
    """
    agents, steps = theta.shape
    planes = np.zeros((agents, 3))
    for i in range(agents):
        if not may[i]:
            continue
        plane = planes[i]
        plane[0] = retention * y[i, 0] * initial[i] - y[i, steps - 1] * final[i]
        plane[1], plane[2] = rent_kwh[i], rent_kw[i]
        for t in range(steps):
            if t + 1 < steps:
                plane[1] += min(0.0, retention * y[i, t + 1] - y[i, t])
            into = dt_h * (theta[i, t] + toll_c) + y[i, t] * e1
            out = dt_h * (toll_d[i, t] - theta[i, t]) - y[i, t] * e2
            plane[2] += available[t] * (min(0.0, into) + min(0.0, out))
    return planes


def bound(
    problem: Problem, plan: Plan, duals: Duals, network_eur_per_kwh: Floats | None = None, exact: float = _EXACT
) -> Bound:
    """Return the certificate of a plan at the given prices.

    The closer the prices are to those of the optimum, the closer the bound; it is true for any.
    ``network_eur_per_kwh``, shape (n + M, T), is asked on top of what the agents' meters and the shared stores' draw: it is in
    the payments, in what single agents could gain, and in the bound, which then lacks what the network does with it.
    ``exact`` is how closely each agent's best values are looked for, as a share of its turnover.
    """
    p = problem
    network = np.zeros((p.n + p.shared, p.steps)) if network_eur_per_kwh is None else network_eur_per_kwh
    price = duals.price_eur_per_kwh
    if p.exchange == "free" and p.n > 0 and network_eur_per_kwh is None:
        price = settled_price(p, plan.grid_kw, plan.exchange_kw, price)
    price = _possible_price(p, price)
    nu, pi, sigma, low, high = _possible_values(p, duals, price)
    # from here on values of energy are those at the meter: at the balance a kWh is worth less by what the network asks
    nu, pi, low, high = (value_ + network[: p.n] for value_ in (nu, pi, low, high))
    toll = np.ascontiguousarray((sigma - network[p.n :])[:, None] + network[: p.n])
    scarcity = np.where(
        p.ess_netted, 0.0, np.maximum([duals.rent_energy_eur_per_kwh, duals.rent_power_eur_per_kw], 0.0)
    )
    costs, payment, income = plan_cost_eur(p, plan), np.zeros(p.n), np.zeros(p.shared)
    if p.exchange == "free":
        payment -= p.dt_h * (price * plan.exchange_kw).sum(axis=1)
    payment += p.dt_h * (network[: p.n] * plan.meter_kw).sum(axis=1)
    for j in range(p.shared):
        flow = (plan.rented_charge_kw - plan.rented_discharge_kw)[j]
        paid = scarcity[0, j] * plan.right_energy_kwh[j] + scarcity[1, j] * plan.right_power_kw[j]
        if p.rights_fixed:
            paid = np.zeros(p.n)
        paid -= p.dt_h * ((sigma - network[p.n :])[j] * flow).sum(axis=1)
        payment, income[j] = payment + paid, paid.sum()
    turnover = _turnover_eur(p, plan, price)
    bounds, y = _right_bounds(p), np.zeros((p.shared, p.n, p.steps))
    tables = _tables(p, plan, toll, low, high, scarcity, bounds, exact)
    better = nu.copy(), pi.copy(), y
    everybody = np.ones(p.n, np.bool_)
    answers(tables, everybody, False, *better)
    stores = _own_eur(p, better[1], everybody)
    total, agent = _least_eur(p, plan, better, stores, sigma, toll, network, scarcity, bounds)
    doubtful = costs + payment - agent > _DOUBTFUL * turnover / max(p.n, 1)
    if doubtful.any():
        # improving several stores in turn may end beside the best: perhaps the values were better as they were
        plain = tuple(np.where(doubtful[:, None], *pair) for pair in zip((nu, pi, y), better, strict=True))
        answers(tables, doubtful, True, *plain)
        others = np.where(doubtful, _own_eur(p, plain[1], doubtful), stores)
        worse = agent >= _least_eur(p, plan, plain, others, sigma, toll, network, scarcity, bounds)[1]
        best = tuple(np.where(worse[:, None], *pair) for pair in zip(better, plain, strict=True))
        total, agent = _least_eur(
            p, plan, best, np.where(worse, stores, others), sigma, toll, network, scarcity, bounds
        )
    cost = float(costs.sum())
    total -= 1e-10 * (1.0 + abs(total))  # rounding must not lift it above the truth
    gain = np.maximum(costs + payment - agent, 0.0)
    return Bound(
        cost, total, (cost - total) / max(1.0, abs(cost)), turnover, gain, costs, payment, income, price, sigma
    )


def _own_eur(p: Problem, pi: Floats, who: NDArray[np.bool_]) -> Floats:
    """Return the least cost of the own stores of those in ``who`` at the values ``pi`` at their meters, 0 for others.  Shape (n,)."""
    least: Floats = _own_stores(p.dt_h, pi, p.store_wear_eur_per_kwh, p.store_charge_max_kw, p.store_discharge_max_kw,
                                p.store_energy_min_kwh, p.store_energy_max_kwh, p.store_drain_kwh, p.store_initial_kwh,
                                p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention, who)  # fmt: skip
    return least


def _least_eur(
    p: Problem, plan: Plan, values: tuple[Floats, ...], stores: Floats, sigma: Floats, toll: Floats, network: Floats,
    scarcity: Floats, bounds: Floats,
) -> tuple[float, Floats]:  # fmt: skip
    """Return the bound (1) of all together, and of each agent alone at the prices.  Shapes (), (n,).

    ``stores`` is what their own stores cost at least, shape (n,), ``values`` are those at the meter, and ``toll`` (M, n, T) is sigma as it is there.
    """
    nu, pi, y = values
    base = p.load_kw - p.pv_kw
    agent: Floats = p.dt_h * (pi * base + np.minimum(pi, 0.0) * p.pv_kw - _meter_terms(p, pi - nu)).sum(axis=1)
    if p.exchange != "free":  # what was sold is a given, its charge too
        given, balance = plan.exchange_kw, nu - network[: p.n]
        agent += p.dt_h * (balance * given + p.exchange_charge_eur_per_kwh * np.maximum(-given, 0.0)).sum(axis=1)
    agent += stores
    total = float(agent.sum())
    for j in range(p.shared):
        extra, alone = _rented(p, plan, scarcity, bounds, j, nu - toll[j], y[j])
        total += _box(p, j, sigma[j]) if p.ess_netted[j] else p.dt_h * float(_net_terms(p, j, sigma[j]).sum())
        total, agent = total + extra, agent + alone
    return total, agent


def _turnover_eur(p: Problem, plan: Plan, price: Floats) -> float:
    """Return the sum of all payments without their signs: retail, exchange, charges, wear, penalties, reserve rents."""
    retail = np.where(plan.grid_kw > 0.0, p.buy_eur_per_kwh, p.sell_eur_per_kwh) * plan.grid_kw
    rate = float(np.abs(retail).sum() + (np.abs(np.nan_to_num(price)) * np.maximum(plan.exchange_kw, 0.0)).sum())
    rate += float((p.exchange_charge_eur_per_kwh * np.maximum(-plan.exchange_kw, 0.0)).sum())
    rate += p.breach_penalty_eur_per_kwh * float(plan.breach_kw.sum())
    rate += float((p.store_wear_eur_per_kwh[:, :, None] * (plan.charge_kw + plan.discharge_kw)).sum())
    rate += float((p.ess_wear_eur_per_kwh[:, None, None] * (plan.rented_charge_kw + plan.rented_discharge_kw)).sum())
    rate += float((p.rented_charge_eur_per_kwh * plan.rented_discharge_kw).sum())
    rents = p.rent_energy_eur_per_kwh * plan.right_energy_kwh + p.rent_power_eur_per_kw * plan.right_power_kw
    return p.dt_h * rate + float(rents.sum())


def _possible_price(p: Problem, price: Floats) -> Floats:
    """Return the price, moved to where everybody's value of energy can lie."""
    if p.exchange != "free" or p.n == 0:
        return np.full(p.steps, np.nan)
    least = (p.sell_eur_per_kwh - p.exchange_charge_eur_per_kwh).max(axis=0)
    moved: Floats = np.minimum(np.maximum(price, least), p.buy_eur_per_kwh.min(axis=0))
    return moved


def _possible_values(p: Problem, duals: Duals, price: Floats) -> tuple[Floats, ...]:
    """Return nu, pi and sigma, moved where (2) holds, and the least and the largest nu for which it does."""
    low, high = p.sell_eur_per_kwh, p.buy_eur_per_kwh
    if p.exchange == "free":
        low, high = np.maximum(low, price), np.minimum(high, price + p.exchange_charge_eur_per_kwh)
    nu = np.clip(duals.value_eur_per_kwh, low, high)
    penalty = p.breach_penalty_eur_per_kwh
    up = np.where(np.isfinite(p.import_limit_kw), penalty, 0.0)
    down = np.where(np.isfinite(p.export_limit_kw), penalty, 0.0)
    pi = nu + np.clip(duals.meter_eur_per_kwh - duals.value_eur_per_kwh, -down, up)
    sigma = duals.net_eur_per_kwh[p.ess_box]  # one price for a box; its content bounds it where it is netted
    bounded = p.ess_netted[:, None] | np.isfinite([p.ess_net_min_kw, p.ess_net_max_kw])
    sigma = np.where(np.where(sigma > 0, bounded[0], bounded[1]), sigma, 0.0)
    return nu, pi, sigma, low, high


def _meter_terms(p: Problem, above: Floats) -> Floats:
    """Return what the meter's limits cost at a value at the meter that is ``above`` that of the balance.  Shape (n, T)."""
    imp = np.where(np.isfinite(p.import_limit_kw), p.import_limit_kw, 0.0)
    exp = np.where(np.isfinite(p.export_limit_kw), p.export_limit_kw, 0.0)
    terms: Floats = np.maximum(above, 0.0) * imp + np.maximum(-above, 0.0) * exp
    return terms


def _net_terms(p: Problem, j: int, sigma: Floats) -> Floats:
    """Return what sigma earns at the bound of the shared store's net.  Shape (T,)."""
    lower = np.where(np.isfinite(p.ess_net_min_kw[j]), p.ess_net_min_kw[j], 0.0)
    upper = np.where(np.isfinite(p.ess_net_max_kw[j]), p.ess_net_max_kw[j], 0.0)
    terms: Floats = np.maximum(sigma, 0.0) * lower - np.maximum(-sigma, 0.0) * upper
    return terms


def _box(p: Problem, b: int, sigma: Floats) -> float:
    """Return the least that a netted box can cost at the price sigma of its net; 0 in rows that describe none."""
    if not p.leads[b]:
        return 0.0
    into, out = p.dt_h * p.ess_efficiency_charge[b], p.dt_h / p.ess_efficiency_discharge[b]
    flows, contents, drain = box_as_store(p, b)
    least = p.box_bounds()[[0, 2], b]
    scratch = np.empty((2, 1, 4 * p.steps + 8))
    above = value(into, out, float(p.ess_retention[b]), p.dt_h * sigma, -p.dt_h * sigma, *flows, *contents, drain,
                  float(p.box_initial_kwh()[b]), *scratch)  # fmt: skip
    return float(above + p.dt_h * (sigma * (least[0] - least[1])).sum())


def _rented(
    p: Problem, plan: Plan, scarcity: Floats, bounds: Floats, j: int, theta: Floats, y: Floats
) -> tuple[float, Floats]:
    """Return what the spaces in shared store j cost at least: all together, and each alone."""
    e1, e2 = p.dt_h * p.ess_efficiency_charge[j], p.dt_h / p.ess_efficiency_discharge[j]
    price_c = p.dt_h * (theta + p.ess_wear_eur_per_kwh[j])
    price_d = p.dt_h * (p.ess_wear_eur_per_kwh[j] + p.rented_charge_eur_per_kwh - theta)
    energy, power = plan.right_energy_kwh[j], plan.right_power_kw[j]
    rent_kwh, rent_kw = p.rent_energy_eur_per_kwh[j], p.rent_power_eur_per_kw[j]
    if p.rights_fixed:
        least = _fixed_spaces(e1, e2, p.ess_retention[j], price_c, price_d, energy, power, p.ess_available[j],
                              p.rented_initial_kwh[j], p.rented_final_kwh[j])  # fmt: skip
        least = least + rent_kwh * energy + rent_kw * power
        return float(least.sum()), least
    may = p.access[j]
    (scarcity_kwh, scarcity_kw), (least_kwh, most_kwh, least_kw, most_kw) = scarcity[:, j], bounds[:, j]
    planes = _planes(p.dt_h, e1, e2, p.ess_retention[j], theta, p.ess_wear_eur_per_kwh[j], p.ess_wear_eur_per_kwh[j]
                     + p.rented_charge_eur_per_kwh, p.ess_available[j], p.rented_initial_kwh[j], p.rented_final_kwh[j],
                     may, rent_kwh + scarcity_kwh, rent_kw + scarcity_kw, y)  # fmt: skip
    at_least = planes[:, 0] + planes[:, 1] * least_kwh + planes[:, 2] * least_kw
    alone = at_least + np.minimum(planes[:, 1], 0.0) * (most_kwh - least_kwh)
    alone += np.minimum(planes[:, 2], 0.0) * (most_kw - least_kw)
    if p.ess_netted[j]:
        return float(alone.sum()), alone
    together = float(at_least.sum()) - scarcity_kwh * least_kwh.sum() - scarcity_kw * least_kw.sum()
    if may.any():  # the offers go to the agent to whom they are worth most, which is the least of a linear function
        together += float((most_kwh - least_kwh).max()) * min(0.0, float(planes[may, 1].min()) - scarcity_kwh)
        together += float((most_kw - least_kw).max()) * min(0.0, float(planes[may, 2].min()) - scarcity_kw)
    return together, alone


def _right_bounds(p: Problem) -> Floats:
    """Return the least and the largest energy, and the least and the largest power of every right.  Shape (4, M, n)."""
    least_kwh, least_kw = least_rights(p)
    bounds = []
    for least, offer in ((least_kwh, p.ess_energy_offer_kwh), (least_kw, p.ess_power_offer_kw)):
        used = np.where(p.ess_netted[:, None], least, least.sum(axis=1, keepdims=True))
        bounds += [least, least + np.maximum(offer[:, None] - used, 0.0)]
    return np.stack(bounds)


def _tables(
    p: Problem, plan: Plan, toll: Floats, low: Floats, high: Floats, scarcity: Floats, bounds: Floats, exact: float
) -> Tables:
    """Return what the agents' answers depend on."""
    fixed = p.rights_fixed
    given = np.zeros_like(low) if p.exchange == "free" else plan.exchange_kw
    return Tables(
        p.dt_h, p.breach_penalty_eur_per_kwh,
        np.stack([p.load_kw, p.pv_kw, p.import_limit_kw, p.export_limit_kw, given, low, high]),
        p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh, p.store_drain_kwh,
        np.stack([p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention, p.store_initial_kwh,
                  p.store_wear_eur_per_kwh]),
        np.stack([p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention, p.ess_wear_eur_per_kwh]),
        np.stack([p.rented_initial_kwh, p.rented_final_kwh]), p.ess_available, toll, p.rented_charge_eur_per_kwh,
        p.access | fixed, fixed, np.stack([plan.right_energy_kwh, plan.right_power_kw]), bounds,
        np.stack([p.rent_energy_eur_per_kwh, p.rent_power_eur_per_kw]) + scarcity[:, :, None], exact,
    )  # fmt: skip
