"""From a nearly feasible plan to an exact one.

An iteration stops with residuals: contents a few watt-hours off, sums that are nearly zero.  Nobody can act on that, and
nobody can be billed by it.  The repair keeps what was decided and makes every equation hold to rounding:

1. rights are scaled into the offers;
2. stores follow the planned flows, clipped to their tube (:func:`market.chain.tube`), and never charge and discharge at
   once; tenants' flows are moved together where the shared store's net would leave its bounds;
3. what the envelope does not let out is curtailed, what nothing can help is a breach;
4. given what everybody then needs, the exchange is cleared once more, exactly: in every interval the cheapest surplus
   covers the dearest need, and what remains is the retailer's.

Step 4 is a sum of convex piecewise functions of one price per interval; it is why a loose tolerance costs so little.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import tube
from market.feasible import Infeasible
from market.problem import Problem

__all__ = ["Draft", "Plan", "least_rights", "plan_cost_eur", "repair"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What an iteration or a solver thinks should be done; nothing in it needs to be exact."""

    curtailed_kw: Floats
    """Shape (n, T)."""
    charge_kw: Floats
    """Shape (K, n, T)."""
    discharge_kw: Floats
    """Shape (K, n, T)."""
    rented_charge_kw: Floats
    """Shape (M, n, T)."""
    rented_discharge_kw: Floats
    """Shape (M, n, T)."""
    right_energy_kwh: Floats
    """Shape (M, n)."""
    right_power_kw: Floats
    """Shape (M, n)."""
    value_eur_per_kwh: Floats
    """What a kWh is worth to the agent.  Shape (n, T)."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An exact plan; the columns are those of :class:`market.exchange.Clearing`."""

    grid_kw: Floats
    exchange_kw: Floats
    meter_kw: Floats
    curtailed_kw: Floats
    breach_kw: Floats
    charge_kw: Floats
    discharge_kw: Floats
    energy_kwh: Floats
    rented_charge_kw: Floats
    rented_discharge_kw: Floats
    rented_energy_kwh: Floats
    right_energy_kwh: Floats
    right_power_kw: Floats


@njit(cache=True, error_model="numpy", nogil=True)
def _follow(
    e1: float, e2: float, retention: float, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats,
    drain: Floats, initial: float, charge: Floats, discharge: Floats, energy: Floats, low: Floats, high: Floats,
) -> None:  # fmt: skip
    """Run one store along its planned flows, in place, inside its tube."""
    tube(e1, e2, retention, charge_max, discharge_max, lower, upper, drain, low, high)
    energy[0] = content = initial
    for t in range(charge.shape[0]):
        rest = retention * content - drain[t]
        c = min(max(charge[t], 0.0), charge_max[t])
        d = min(max(discharge[t], 0.0), discharge_max[t])
        goal = min(max(rest + e1 * c - e2 * d, low[t + 1]), high[t + 1])
        gain = goal - rest
        charge[t] = min(gain / e1, charge_max[t]) if gain > 0.0 else 0.0
        discharge[t] = min(-gain / e2, discharge_max[t]) if gain < 0.0 else 0.0
        content = rest + e1 * charge[t] - e2 * discharge[t]
        content = min(max(content, lower[t]), upper[t])  # the last digit
        energy[t + 1] = content


@njit(cache=True, error_model="numpy", nogil=True)
def _follow_own(
    dt_h: float, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats, drain: Floats, initial: Floats,
    efficiency_c: Floats, efficiency_d: Floats, retention: Floats, charge: Floats, discharge: Floats, energy: Floats,
) -> None:  # fmt: skip
    """Run every store of everybody."""
    stores, agents, steps = charge.shape
    low, high = np.empty(steps + 1), np.empty(steps + 1)
    for k in range(stores):
        for i in range(agents):
            _follow(dt_h * efficiency_c[k, i], dt_h / efficiency_d[k, i], retention[k, i], charge_max[k, i],
                    discharge_max[k, i], lower[k, i], upper[k, i], drain[k, i], initial[k, i], charge[k, i],
                    discharge[k, i], energy[k, i], low, high)  # fmt: skip


@njit(cache=True, error_model="numpy", nogil=True)
def _follow_rented(
    e1: float, e2: float, retention: float, right_energy: Floats, right_power: Floats, initial: Floats, final: Floats,
    net_min: Floats, net_max: Floats, charge: Floats, discharge: Floats, energy: Floats,
) -> float:  # fmt: skip
    """Run the tenants of one shared store together; return by how much its net could not be kept in bounds. [kW]"""
    agents, steps = charge.shape
    low, high = np.empty((agents, steps + 1)), np.empty((agents, steps + 1))
    lower, upper, full, none = np.zeros(steps), np.empty(steps), np.empty(steps), np.zeros(steps)
    for i in range(agents):
        full[:] = right_power[i]
        upper[:] = right_energy[i]
        lower[steps - 1] = upper[steps - 1] = final[i]
        tube(e1, e2, retention, full, full, lower, upper, none, low[i], high[i])
        energy[i, 0] = initial[i]
    net, least, most = np.empty(agents), np.empty(agents), np.empty(agents)
    worst = 0.0
    for t in range(steps):
        total = room_up = room_down = 0.0
        for i in range(agents):
            rest = retention * energy[i, t]
            gain = low[i, t + 1] - rest
            least[i] = max(gain / e1 if gain > 0.0 else gain / e2, -right_power[i])
            gain = high[i, t + 1] - rest
            most[i] = max(min(gain / e1 if gain > 0.0 else gain / e2, right_power[i]), least[i])
            gain = e1 * min(max(charge[i, t], 0.0), right_power[i]) - e2 * min(
                max(discharge[i, t], 0.0), right_power[i]
            )
            net[i] = min(max(gain / e1 if gain > 0.0 else gain / e2, least[i]), most[i])
            total += net[i]
            room_up += most[i] - net[i]
            room_down += net[i] - least[i]
        share = 0.0
        if total < net_min[t]:
            short = net_min[t] - total
            share = min(short / room_up, 1.0) if room_up > 0.0 else 0.0
            worst = max(worst, short - room_up)
        elif total > net_max[t]:
            excess = total - net_max[t]
            share = -min(excess / room_down, 1.0) if room_down > 0.0 else 0.0
            worst = max(worst, excess - room_down)
        for i in range(agents):
            power = net[i] + (share * (most[i] - net[i]) if share > 0.0 else share * (net[i] - least[i]))
            charge[i, t] = max(power, 0.0)
            discharge[i, t] = max(-power, 0.0)
            content = retention * energy[i, t] + e1 * charge[i, t] - e2 * discharge[i, t]
            energy[i, t + 1] = min(max(content, 0.0), right_energy[i])  # the last digit
    return worst


@njit(cache=True, error_model="numpy", nogil=True)
def _clear_needs(
    need: Floats, buy: Floats, sell: Floats, charge: Floats, curvature: float, price: Floats, exchange: Floats
) -> None:
    """Fill ``exchange``: what each agent sells so that the needs are met at least cost, ties shared evenly.

    ``exchange = argmin cost(need + x) + charge x- + curvature/2 x^2 - price x`` has three kinks; the sum over the agents
    rises with the price, whose root is found by Newton steps inside a bracket.
    """
    agents, steps = need.shape
    for t in range(steps):
        lo, hi, p = np.inf, -np.inf, price[t]
        for i in range(agents):
            lo, hi = min(lo, sell[i, t] - charge[i, t]), max(hi, buy[i, t])
        reach = 0.0
        for i in range(agents):
            reach += abs(need[i, t])
        lo, hi = lo - curvature * reach - 1e-9, hi + curvature * reach + 1e-9
        if not lo < p < hi:
            p = 0.5 * (lo + hi)
        for _ in range(200):
            total = slope = 0.0
            for i in range(agents):
                d = need[i, t]
                a = (p - sell[i, t] + charge[i, t]) / curvature
                b = (p - buy[i, t] + charge[i, t]) / curvature if d > 0.0 else (p - sell[i, t]) / curvature
                c = (p - buy[i, t]) / curvature
                x = min(a, max(min(0.0, -d), min(b, max(0.0, -d, c))))
                exchange[i, t] = x
                total += x
                if x in (a, b, c):
                    slope += 1.0
            if abs(total) <= 1e-13 * reach:
                break
            if total > 0.0:
                hi = p
            else:
                lo = p
            step = p - total * curvature / slope if slope > 0.0 else 0.5 * (lo + hi)
            if not lo < step < hi:
                step = 0.5 * (lo + hi)
                if step in (lo, hi):
                    break
            p = step
        total = size = 0.0
        for i in range(agents):
            total += exchange[i, t]
            size += abs(exchange[i, t])
        for _ in range(2):  # the last digits, twice because the first correction rounds too
            if size > 0.0:
                left = 0.0
                for i in range(agents):
                    exchange[i, t] -= total * abs(exchange[i, t]) / size
                    left += exchange[i, t]
                total = left


def repair(problem: Problem, draft: Draft, price_eur_per_kwh: Floats) -> Plan:
    """Return the exact plan nearest to what was drafted, in the sense of the module's four steps.

    Raises
    ------
    Infeasible
        Where a shared store's net cannot be kept inside its bounds.
    """
    p = problem
    energy_right, power_right = _rights(p, draft)
    charge, discharge = draft.charge_kw.copy(), draft.discharge_kw.copy()
    energy = np.empty((p.stores, p.n, p.steps + 1))
    _follow_own(p.dt_h, p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh,
                p.store_drain_kwh, p.store_initial_kwh, p.store_efficiency_charge, p.store_efficiency_discharge,
                p.store_retention, charge, discharge, energy)  # fmt: skip
    rented_charge, rented_discharge = draft.rented_charge_kw.copy(), draft.rented_discharge_kw.copy()
    rented_energy = np.empty((p.shared, p.n, p.steps + 1))
    for j in range(p.shared):
        worst = _follow_rented(p.dt_h * p.ess_efficiency_charge[j], p.dt_h / p.ess_efficiency_discharge[j],
                               p.ess_retention[j], energy_right[j], power_right[j], p.rented_initial_kwh[j],
                               p.rented_final_kwh[j], p.ess_net_min_kw[j], p.ess_net_max_kw[j], rented_charge[j],
                               rented_discharge[j], rented_energy[j])  # fmt: skip
        if worst > 1e-9:
            raise Infeasible(f"shared store {j}: short {worst}")
    own = (charge - discharge).sum(axis=0)
    uncurtailed = p.load_kw - p.pv_kw + own
    needed = np.clip(-p.export_limit_kw - uncurtailed, 0.0, p.pv_kw)
    wanted = np.minimum(draft.curtailed_kw, np.maximum(p.import_limit_kw - uncurtailed, 0.0))
    curtailed = np.where(draft.value_eur_per_kwh > 0.0, needed, np.clip(wanted, needed, p.pv_kw))
    meter = uncurtailed + curtailed
    breach = np.maximum(np.maximum(meter - p.import_limit_kw, -p.export_limit_kw - meter), 0.0)
    need = meter + (rented_charge - rented_discharge).sum(axis=0)
    exchange = np.zeros_like(need)
    if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
        exchange = p.pinned_exchange_kw.copy()
    elif p.exchange == "free" and p.n > 1:
        curvature = max(p.curvature_eur_per_kw2h, 1e-7)
        _clear_needs(need, p.buy_eur_per_kwh, p.sell_eur_per_kwh, p.exchange_charge_eur_per_kwh, curvature,
                     price_eur_per_kwh, exchange)  # fmt: skip
    return Plan(need + exchange, exchange, meter, curtailed, breach, charge, discharge, energy, rented_charge,
                rented_discharge, rented_energy, energy_right, power_right)  # fmt: skip


def _rights(p: Problem, draft: Draft) -> tuple[Floats, Floats]:
    """Return the rights, inside the offers and large enough for what is in the spaces."""
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        return p.right_energy_kwh.copy(), p.right_power_kw.copy()
    least_energy, least_power = least_rights(p)
    rights = []
    for right, least, offer in (
        (draft.right_energy_kwh, least_energy, p.ess_energy_offer_kwh),
        (draft.right_power_kw, least_power, p.ess_power_offer_kw),
    ):
        above = np.maximum(right - least, 0.0) * p.access
        total, free = above.sum(axis=1), np.maximum(offer - least.sum(axis=1), 0.0)
        scale = np.where(total > free, free / np.maximum(total, 1e-300), 1.0)
        rights.append(least + above * scale[:, None])
    return rights[0], rights[1]


def least_rights(p: Problem) -> tuple[Floats, Floats]:
    """Return the least energy and power with which every rented space can reach its final content.  Shapes (M, n)."""
    energy = np.maximum(p.rented_initial_kwh, p.rented_final_kwh)
    kept = p.ess_retention[:, None] ** np.arange(p.steps)
    short = p.rented_final_kwh - (p.ess_retention**p.steps)[:, None] * p.rented_initial_kwh
    into = p.dt_h * p.ess_efficiency_charge * kept.sum(axis=1)
    out = p.dt_h / p.ess_efficiency_discharge * kept.sum(axis=1)
    power = np.where(short > 0.0, short / into[:, None], -short / out[:, None])
    return energy, power


def plan_cost_eur(problem: Problem, plan: Plan) -> Floats:
    """Return what the plan costs each agent, exchange payments and scarcity rents excluded.  Shape (n,).

    Retail purchases and sales, exchange and withdrawal charges, wear, penalties, and the reserve rents of the rights.
    """
    p = problem
    flow = p.buy_eur_per_kwh * np.maximum(plan.grid_kw, 0.0) + p.sell_eur_per_kwh * np.minimum(plan.grid_kw, 0.0)
    flow += p.exchange_charge_eur_per_kwh * np.maximum(-plan.exchange_kw, 0.0)
    flow += p.breach_penalty_eur_per_kwh * plan.breach_kw
    flow += (p.store_wear_eur_per_kwh[:, :, None] * (plan.charge_kw + plan.discharge_kw)).sum(axis=0)
    flow += (p.ess_wear_eur_per_kwh[:, None, None] * (plan.rented_charge_kw + plan.rented_discharge_kw)).sum(axis=0)
    flow += p.rented_charge_eur_per_kwh * plan.rented_discharge_kw.sum(axis=0)
    rent = p.rent_energy_eur_per_kwh * plan.right_energy_kwh + p.rent_power_eur_per_kw * plan.right_power_kw
    cost: Floats = p.dt_h * flow.sum(axis=1) + rent.sum(axis=0)
    return cost
