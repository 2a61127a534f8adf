"""From a nearly feasible plan to an exact one.

An iteration stops with residuals: contents a few watt-hours off, sums that are nearly zero.  Nobody can act on that, and
nobody can be billed by it.  The repair keeps what was decided and makes every equation hold to rounding:

1. rights are scaled into the offers;
2. stores follow the planned flows inside what they can do (:mod:`market.follow`), tenants inside the shared store's net;
3. what the envelope does not let out is curtailed, stores move until their meter is inside (:mod:`market.inside`), and where
   nothing can help what is outside is a breach, at its penalty;
4. given what everybody then needs, the exchange is cleared once more, exactly: in every interval the cheapest surplus
   covers the dearest need, and what remains is the retailer's;
5. where the iteration would burn energy at negative prices, stores are run again without (:mod:`market.exclusive`).

:func:`given_back` then takes from rights that cost something what nobody uses.

Step 4 is a sum of convex piecewise functions of one price per interval; it is why a loose tolerance costs so little.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.alone import Homes, Market, Spaces, Stores, run_alone
from market.compiled import EXACT, EXACT_PART
from market.exclusive import run_exclusively
from market.feasible import Infeasible, enough_rights, least_rights
from market.follow import follow_own, follow_rented
from market.inside import keep_inside
from market.problem import Problem
from market.restore import restore
from market.tenants import tenants_of
from market.traded import traded_range

__all__ = ["Draft", "Plan", "given_back", "plan_cost_eur", "repair", "runs_alone"]

Floats = NDArray[np.float64]

_SOME_KW = 1e-6
_EPS = 2.0**-52
_SMALL = 5_000  # tenants times intervals for which a linear program takes a fraction of a second
_ROUNDING = 1e-10, 1e-14  # kW, and a share of the power of all rights: a sum that is off by less is rounding


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


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """An exact plan."""

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
    box_energy_kwh: Floats
    """What the shared stores really hold: opposite flows cancel there.  NaN in rows that describe no box.  Shape (M, T + 1)."""


@njit(inline="always", **EXACT_PART)
def _sale(need: float, price: float, buy: float, sell: float, charge: float, soft: float) -> tuple[float, float]:
    """Return what an agent sells at a price, and whether it would sell more at a higher one (1 or 0)."""
    a = (price - sell + charge) * soft
    b = (price - buy + charge) * soft if need > 0.0 else (price - sell) * soft
    c = (price - buy) * soft
    x = min(a, max(min(0.0, -need), min(b, max(0.0, -need, c))))
    return x, 1.0 if x in (a, b, c) else 0.0


@njit(**EXACT)
def _clear_needs(
    need: Floats, buy: Floats, sell: Floats, charge: Floats, curvature: float, price: Floats, exchange: Floats
) -> None:
    """Fill ``exchange``: what each agent sells so that the needs are met at least cost, ties shared evenly.

    ``exchange = argmin cost(need + x) + charge x- + curvature/2 x^2 - price x`` has three kinks; the sum over the agents
    rises with the price, whose root is found by Newton steps inside a bracket.
    """
    agents, steps = need.shape
    low, high, reach = np.full(steps, np.inf), np.full(steps, -np.inf), np.zeros(steps)
    many, size, edge = np.zeros((2, steps)), np.zeros((2, steps)), np.empty((2, 2, steps))
    edge[:, 0], edge[:, 1] = np.inf, -np.inf
    for i in range(agents):
        for t in range(steps):
            low[t], high[t] = min(low[t], sell[i, t] - charge[i, t]), max(high[t], buy[i, t])
            reach[t] += abs(need[i, t])
            side = 0 if need[i, t] < 0.0 else 1  # has some, or needs some, and the retailer would take or give it
            retail = sell[i, t] if side == 0 else buy[i, t] - charge[i, t]
            if need[i, t] != 0.0:
                many[side, t] += 1.0
                size[side, t] += abs(need[i, t])
                edge[side, 0, t], edge[side, 1, t] = min(edge[side, 0, t], retail), max(edge[side, 1, t], retail)
    at, wanting, left = np.empty(steps), np.arange(steps), steps
    for t in range(steps):
        low[t], high[t] = low[t] - curvature * reach[t] - 1e-9, high[t] + curvature * reach[t] + 1e-9
        at[t] = price[t]
        side = 0 if size[0, t] > size[1, t] else 1
        if edge[side, 0, t] == edge[side, 1, t]:  # all of them have the same retailer, whose price it is, or nearly
            at[t] = edge[side, 0, t] + (1.0 if side == 0 else -1.0) * curvature * size[1 - side, t] / many[side, t]
        if not low[t] < at[t] < high[t]:
            at[t] = 0.5 * (low[t] + high[t])
    total, slope, soft = np.empty(steps), np.empty(steps), 1.0 / curvature
    for _ in range(200):
        total[:], slope[:] = 0.0, 0.0
        for i in range(agents):  # in the order in which they lie
            for q in range(left):
                t = wanting[q]
                x, free = _sale(need[i, t], at[t], buy[i, t], sell[i, t], charge[i, t], soft)
                total[t] += x
                slope[t] += free
        more = 0
        for q in range(left):
            t = wanting[q]
            rounded = 4.0 * _EPS * abs(at[t]) * slope[t] * soft  # what the last digit of the price moves
            if abs(total[t]) <= max(1e-13 * reach[t], rounded):
                continue
            if total[t] > 0.0:
                high[t] = at[t]
            else:
                low[t] = at[t]
            step = at[t] - total[t] * curvature / slope[t] if slope[t] > 0.0 else 0.5 * (low[t] + high[t])
            if not low[t] < step < high[t]:
                step = 0.5 * (low[t] + high[t])
                if step in (low[t], high[t]):
                    continue
            at[t], wanting[more] = step, t
            more += 1
        left = more
        if left == 0:
            break
    total[:], slope[:] = 0.0, 0.0  # of the sales, and of their sizes
    for i in range(agents):
        for t in range(steps):
            exchange[i, t], _ = _sale(need[i, t], at[t], buy[i, t], sell[i, t], charge[i, t], soft)
            total[t] += exchange[i, t]
            slope[t] += abs(exchange[i, t])
    for _ in range(2):  # the last digits, twice because the first correction rounds too
        for t in range(steps):
            reach[t], total[t] = total[t] / slope[t] if slope[t] > 0.0 else 0.0, 0.0
        for i in range(agents):
            for t in range(steps):
                exchange[i, t] -= reach[t] * abs(exchange[i, t])
                total[t] += exchange[i, t]


def repair(problem: Problem, draft: Draft, price_eur_per_kwh: Floats, net_eur_per_kwh: Floats | None = None) -> Plan:
    """Return the exact plan nearest to what was drafted, in the sense of the module's steps.

    With ``net_eur_per_kwh``, the price of the shared stores' nets, shape (M, T), stores are run alone once more at the prices
    (:mod:`market.alone`), if that makes a cheaper plan.

    Raises
    ------
    Infeasible
        Where a shared store's net cannot be kept inside its bounds.
    """
    p = problem
    plan = _drafted(p, draft, price_eur_per_kwh)
    if runs_alone(p):
        if net_eur_per_kwh is None or p.n == 0:
            return plan
        cost = float(plan_cost_eur(p, plan).sum())
        alone = _alone(p, draft, plan, price_eur_per_kwh, net_eur_per_kwh)  # has the first plan's memory
        if alone is not None and float(plan_cost_eur(p, alone).sum()) < cost:
            return alone
        return _drafted(p, draft, price_eur_per_kwh)
    better = _without_burning(p, draft, plan, price_eur_per_kwh)
    return better if plan_cost_eur(p, better).sum() < plan_cost_eur(p, plan).sum() else plan


def runs_alone(p: Problem) -> bool:
    """Return whether stores may be run alone at the prices: where nothing is paid for what it draws."""
    return float(p.sell_eur_per_kwh.min(initial=0.0)) >= 0.0


def _drafted(p: Problem, draft: Draft, price_eur_per_kwh: Floats) -> Plan:
    """Return the exact plan nearest to what was drafted."""
    own = _Own(draft.charge_kw.copy(), draft.discharge_kw.copy(), np.empty((p.stores, p.n, p.steps + 1)))
    _follow(p, own)
    rented = _rented(p, draft)
    into = (rented.charge_kw - rented.discharge_kw).sum(axis=0)
    keep_inside(p, own.charge_kw, own.discharge_kw, own.energy_kwh, into, draft.curtailed_kw)
    return _completed(p, own, rented, draft.curtailed_kw, price_eur_per_kwh)


def _alone(p: Problem, draft: Draft, plan: Plan, price_eur_per_kwh: Floats, net_eur_per_kwh: Floats) -> Plan | None:
    """Return the plan after everybody has run its stores alone, in the memory of this plan; None if the spaces do not fit."""
    own = _Own(plan.charge_kw, plan.discharge_kw, plan.energy_kwh)
    homes = Homes(p.load_kw, p.pv_kw, p.buy_eur_per_kwh, p.sell_eur_per_kwh, p.exchange_charge_eur_per_kwh,
                  p.import_limit_kw, p.export_limit_kw, plan.exchange_kw)  # fmt: skip
    stores = Stores(p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh,
                    p.store_drain_kwh, p.store_initial_kwh, p.store_efficiency_charge, p.store_efficiency_discharge,
                    p.store_retention, p.store_wear_eur_per_kwh, own.charge_kw, own.discharge_kw)  # fmt: skip
    spaces = Spaces(p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention, p.ess_wear_eur_per_kwh,
                    p.ess_available, net_eur_per_kwh[p.ess_box], p.rented_charge_eur_per_kwh, p.rented_initial_kwh,
                    p.rented_final_kwh, plan.right_energy_kwh, plan.right_power_kw, plan.rented_charge_kw,
                    plan.rented_discharge_kw)  # fmt: skip
    run_alone(p.dt_h, p.breach_penalty_eur_per_kwh, _market(p, plan, price_eur_per_kwh), homes, stores, spaces)
    _follow(p, own)
    try:
        rented = _rented(p, replace(draft, rented_charge_kw=spaces.charge, rented_discharge_kw=spaces.discharge))
    except Infeasible:
        return None
    into = (rented.charge_kw - rented.discharge_kw).sum(axis=0)
    keep_inside(p, own.charge_kw, own.discharge_kw, own.energy_kwh, into, draft.curtailed_kw)
    return _completed(p, own, rented, draft.curtailed_kw, price_eur_per_kwh)


def _without_burning(p: Problem, draft: Draft, plan: Plan, price_eur_per_kwh: Floats) -> Plan:
    """Return a plan for the stores that would charge and discharge at once, or this plan where none would."""
    wished = np.stack([np.concatenate([draft.charge_kw, draft.rented_charge_kw]),
                       np.concatenate([draft.discharge_kw, draft.rented_discharge_kw])])  # fmt: skip
    net = np.concatenate([plan.charge_kw - plan.discharge_kw, plan.rented_charge_kw - plan.rented_discharge_kw])
    energy, curtailed = np.concatenate([plan.energy_kwh, plan.rented_energy_kwh]), plan.curtailed_kw.copy()
    if not run_exclusively(p, wished, (plan.right_energy_kwh, plan.right_power_kw), net, energy, curtailed):
        return plan
    k, into, out = p.stores, np.maximum(net, 0.0), np.maximum(-net, 0.0)
    own = _Own(into[:k], out[:k], energy[:k].copy())
    _follow(p, own)
    rented = _rented(p, replace(draft, rented_charge_kw=into[k:], rented_discharge_kw=out[k:]))
    return _completed(p, own, rented, curtailed, price_eur_per_kwh)


def _market(p: Problem, plan: Plan, price_eur_per_kwh: Floats) -> Market:
    """Return what the exchange would pay beside this plan."""
    least, most, _ = traded_range(p, plan.grid_kw, plan.exchange_kw)
    price = np.nan_to_num(price_eur_per_kwh)
    price = np.where(least <= most, np.minimum(np.maximum(price, least), most), price)
    bought, sold = np.maximum(plan.grid_kw, 0.0).sum(axis=0), np.maximum(-plan.grid_kw, 0.0).sum(axis=0)
    room = np.stack([np.where(bought > _SOME_KW, bought, np.where(sold > _SOME_KW, np.inf, 0.0)),
                     np.where(sold > _SOME_KW, sold, np.where(bought > _SOME_KW, np.inf, 0.0))])  # fmt: skip
    below = np.minimum(price, p.sell_eur_per_kwh.max(axis=0))
    above = np.maximum(price, (p.buy_eur_per_kwh - p.exchange_charge_eur_per_kwh).min(axis=0))
    return Market(p.exchange == "free", price, below, above, room)


class _Own(NamedTuple):
    """Flows and contents of own stores.  Shapes (K, n, T), (K, n, T), (K, n, T + 1)."""

    charge_kw: Floats
    discharge_kw: Floats
    energy_kwh: Floats


class _Rented(NamedTuple):
    """Rights, flows and contents of rented spaces, and contents of boxes: as in :class:`Plan`."""

    right_energy_kwh: Floats
    right_power_kw: Floats
    charge_kw: Floats
    discharge_kw: Floats
    energy_kwh: Floats
    box_energy_kwh: Floats


def _follow(p: Problem, own: _Own) -> None:
    """Let everybody's stores follow their flows, in place."""
    follow_own(
        p.dt_h, p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh,
        p.store_drain_kwh, p.store_initial_kwh, p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention,
        *own,
    )  # fmt: skip


def _completed(p: Problem, own: _Own, rented: _Rented, curtailed_kw: Floats, price_eur_per_kwh: Floats) -> Plan:
    """Return the plan with these stores and spaces: curtailment near the one given, and the exchange cleared once more."""
    uncurtailed = p.load_kw - p.pv_kw + (own.charge_kw - own.discharge_kw).sum(axis=0)
    needed = np.clip(-p.export_limit_kw - uncurtailed, 0.0, p.pv_kw)
    wanted = np.minimum(curtailed_kw, np.maximum(p.import_limit_kw - uncurtailed, 0.0))
    willing = np.clip(wanted, needed, p.pv_kw)
    curtailed = np.where(p.sell_eur_per_kwh < 0.0, willing, needed)  # nobody gives away what the retailer pays for
    meter = uncurtailed + curtailed
    breach = np.maximum(np.maximum(meter - p.import_limit_kw, -p.export_limit_kw - meter), 0.0)
    need = meter + (rented.charge_kw - rented.discharge_kw).sum(axis=0)
    exchange = np.zeros_like(need)
    if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
        exchange = p.pinned_exchange_kw.copy()
    elif p.exchange == "free" and p.n > 1:
        curvature = max(p.tie_eur_per_kw2h, 1e-9)
        _clear_needs(need, p.buy_eur_per_kwh, p.sell_eur_per_kwh, p.exchange_charge_eur_per_kwh, curvature,
                     price_eur_per_kwh, exchange)  # fmt: skip
    return Plan(
        grid_kw=need + exchange,
        exchange_kw=exchange,
        meter_kw=meter,
        curtailed_kw=curtailed,
        breach_kw=breach,
        charge_kw=own.charge_kw,
        discharge_kw=own.discharge_kw,
        energy_kwh=own.energy_kwh,
        rented_charge_kw=rented.charge_kw,
        rented_discharge_kw=rented.discharge_kw,
        rented_energy_kwh=rented.energy_kwh,
        right_energy_kwh=rented.right_energy_kwh,
        right_power_kw=rented.right_power_kw,
        box_energy_kwh=rented.box_energy_kwh,
    )


def _rented(p: Problem, draft: Draft) -> _Rented:
    """Return what tenants do, exactly."""
    energy_right, power_right = _rights(p, draft)
    charge, discharge = draft.rented_charge_kw.copy(), draft.rented_discharge_kw.copy()
    energy, boxes = np.empty((p.shared, p.n, p.steps + 1)), np.full((p.shared, p.steps + 1), np.nan)
    for b in np.flatnonzero(p.leads):
        tenants = tenants_of(p, int(b))
        right, power = tenants.gather(energy_right), tenants.gather(power_right)
        content = np.empty((right.size, p.steps + 1))
        none: Infeasible | None = None
        off, exact = np.inf, max(_ROUNDING[0], _ROUNDING[1] * float(power.sum()))
        for helped, guided, still in _ways(bool(p.ess_netted[b]), content.size):
            right, power = tenants.gather(energy_right), tenants.gather(power_right)
            into, out = tenants.gather(charge), tenants.gather(discharge)
            if still > 0.0:
                try:
                    right, power, into, out = restore(tenants, right, power, into, out, still)
                except Infeasible as error:
                    none = error
                    continue
            off = follow_rented(tenants.constants, right, tenants.available * power[:, None], tenants.initial, tenants.final,
                                tenants.net, tenants.box, tenants.box_tube, helped, guided, into, out, content, boxes[b])  # fmt: skip
            if off <= (1e-6 if still > 0.0 else exact):  # a linear program is as exact as its tolerance
                break
        else:
            raise none or Infeasible(
                f"{tenants.name}: its net would leave its bounds by {off:.3g} kW, unless tenants charge and discharge "
                "at once. Ask for a smaller firm charge, or offer more space."
            )
        boxes[b] += p.box_floor_kwh()[b]
        columns = ((right, energy_right), (power, power_right), (into, charge), (out, discharge), (content, energy))
        for rows, column in columns:
            tenants.scatter(rows, column)
    return _Rented(energy_right, power_right, charge, discharge, energy, boxes)


def _ways(netted: bool, size: int) -> tuple[tuple[bool, bool, float], ...]:
    """Return how tenants are run, one way after the other until one keeps all bounds.

    Each is whether they count on others' opposite flows, whether the sum of their contents is guided (as :func:`follow_rented`
    says), and what a netted box's flows cost in the linear program that finds the nearest flows before; 0: none does.

    Opposite flows may be planned, so nothing guides the sum at first.  They are what netted operation is for: where the linear
    program is small it comes second there.
    """
    first, guided, alone = (True, False, 0.0), (True, True, 0.0), (False, True, 0.0)
    if not netted:
        return first, guided, alone, (True, True, 1e-3)
    programs = (True, False, 1e-3), (True, False, 5.0)
    return (first, *programs, guided, alone) if size <= _SMALL else (first, guided, alone, *programs)


def _rights(p: Problem, draft: Draft) -> tuple[Floats, Floats]:
    """Return the rights, inside the offers and large enough for what is in the spaces."""
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        return p.right_energy_kwh.copy(), p.right_power_kw.copy()
    least_energy, least_power = enough_rights(p)
    rights = []
    for right, least, offer in (
        (draft.right_energy_kwh, least_energy, p.ess_energy_offer_kwh),
        (draft.right_power_kw, least_power, p.ess_power_offer_kw),
    ):
        above = np.maximum(right - least, 0.0) * p.access
        total, free = above.sum(axis=1), np.maximum(offer - least.sum(axis=1), 0.0)
        scale = np.where(total > free, free / np.maximum(total, 1e-300), 1.0)
        alone = np.minimum(above, np.maximum(offer[:, None] - least, 0.0))  # netted: every right by itself
        rights.append(least + np.where(p.ess_netted[:, None], alone, above * scale[:, None]))
    return rights[0], rights[1]


def given_back(problem: Problem, plan: Plan, scarcity: tuple[Floats, Floats]) -> Plan:
    """Return the plan without what free rights have beyond their use, where they cost something.

    An iteration that stops leaves some of it, as much to a home as to a factory; the smallest would pay most for it.

    Parameters
    ----------
    problem, plan
        The problem, and an exact plan of it.
    scarcity
        Scarcity rents of energy and of power, beside the problem's reserve rents.  Shapes (M,).
    """
    p = problem
    if p.rights_fixed or not p.shared:
        return plan
    flows = np.maximum(plan.rented_charge_kw, plan.rented_discharge_kw)
    usable = np.where(p.ess_available > 0.0, p.ess_available, 1.0)[:, None, :]
    used = plan.rented_energy_kwh.max(axis=2, initial=0.0), (flows / usable).max(axis=2, initial=0.0)
    rents = p.rent_energy_eur_per_kwh + scarcity[0][:, None], p.rent_power_eur_per_kw + scarcity[1][:, None]
    rights = [
        np.where(rent > 0.0, np.minimum(right, np.maximum(use, least)), right)
        for right, use, least, rent in zip(
            (plan.right_energy_kwh, plan.right_power_kw), used, least_rights(p), rents, strict=True
        )
    ]
    return replace(plan, right_energy_kwh=rights[0], right_power_kw=rights[1])


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
