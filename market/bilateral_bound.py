"""What trades are worth: prices, a bound that no plan can beat, and what a single agent could still gain.

Relax every agent's balance with its marginal value mu[i, t].  For ANY numbers mu

    D(mu) = sum_i dt min_p (a/2 p^2 + (b - mu) p) + stores at price mu + sum_e dt min_t ((c1 + c2) |t| + (mu_i - mu_k) t)  (1)

is at most the cost of any plan (i the pair's first agent, k its second).  A pair without limit would make (1) useless where
one end's value exceeds the other's by more than the charges, so the values are first moved together: down (everybody buys
from the cheapest partner), up (everybody sells to the dearest), the mean of both, which is concave's better half, and then
each agent alone to where (1) is largest given the others.  Pairs without limit still have one in (1), which no best plan
passes: the seller's power, or all that is for sale.  So rounding cannot spoil the bound.

The price of a pair lies between what its two ends accept, in the middle where there is a range.  At these prices a sum like
(1) falls apart into agents: what each could save at most by deviating alone, whatever its partners could do about it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.bilateral_problem import Bilateral
from market.bilateral_repair import Links, powers
from market.chain import value
from market.compiled import EXACT, EXACT_PART

__all__ = ["Certificate", "certificate"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """Prices of a plan and how much either can be trusted."""

    agent_cost_eur: Floats
    """Own power, wear and charges, without payments.  Shape (n,)."""
    cost_eur: float
    bound_eur: float
    gap: float
    agent_gain_eur: Floats
    """The most that each agent could gain by deviating alone at the prices.  Shape (n,)."""
    payment_eur: Floats
    """What each agent pays (+) or receives (-) for energy.  Shape (n,)."""
    price_eur_per_kwh: Floats
    """NaN where the two may not trade.  Shape (E, T)."""
    marginal_eur_per_kwh: Floats
    """Shape (n, T)."""
    power_kw: Floats
    """What each agent sells in all.  Shape (n, T)."""


@njit(**EXACT)
def _together(
    starts: Integers, pair: Integers, partner: Integers, charge: Floats, limit: Floats, sell: Flags, buy: Flags, up: bool,
    mu: Floats,
) -> None:  # fmt: skip
    """Move values until nobody's exceeds a partner's by more than the charges: buyers down, or sellers up."""
    agents, steps = mu.shape
    wide, bound = charge.shape[1] > 1, limit.shape[1] > 1
    for sweep in range(agents + 2):
        changed = 0
        for k in range(agents):
            i = k if sweep % 2 == 0 else agents - 1 - k
            mine = mu[i]
            for q in range(starts[i], starts[i + 1]):
                e, j = pair[q], partner[q]
                theirs = mu[j]
                for t in range(steps):
                    if limit[e, t if bound else 0] < np.inf:
                        continue
                    c = charge[e, t if wide else 0]
                    if up:
                        if sell[i, t] and buy[j, t] and theirs[t] - c > mine[t]:
                            mine[t] = theirs[t] - c
                            changed += 1
                    elif sell[j, t] and buy[i, t] and theirs[t] + c < mine[t]:
                        mine[t] = theirs[t] + c
                        changed += 1
        if changed == 0:
            break


@njit(**EXACT)
def _alone(
    starts: Integers, pair: Integers, partner: Integers, charge: Floats, limit: Floats, sell: Flags, buy: Flags, fixed: Flags,
    a: Floats, b: Floats, least: Floats, most: Floats, mu: Floats,
) -> None:  # fmt: skip
    """Move each value alone to where the bound is largest, twice through all; those with limited pairs stay."""
    agents, steps = mu.shape
    wide, bound = charge.shape[1] > 1, limit.shape[1] > 1
    floor, roof, free = np.empty(steps), np.empty(steps), np.empty(steps, np.bool_)
    for _ in range(2):
        for i in range(agents):
            if fixed[i]:
                continue
            floor[:], roof[:], free[:] = -np.inf, np.inf, True
            for q in range(starts[i], starts[i + 1]):
                e, j = pair[q], partner[q]
                for t in range(steps):
                    c = charge[e, t if wide else 0]
                    forth, back = sell[i, t] and buy[j, t], sell[j, t] and buy[i, t]
                    if forth:
                        floor[t] = max(floor[t], mu[j, t] - c)
                    if back:
                        roof[t] = min(roof[t], mu[j, t] + c)
                    if (forth or back) and limit[e, t if bound else 0] < np.inf:
                        free[t] = False
            for t in range(steps):
                margin = mu[i, t] - b[i, t]
                if not free[t]:
                    continue
                # a value that is too high asks for power that the partners' values do not pay for
                sells = margin > a[i, t] * max(least[i, t], 0.0) and most[i, t] > 0.0
                buys = margin < a[i, t] * min(most[i, t], 0.0) and least[i, t] < 0.0
                if sells or least[i, t] > 0.0:
                    goal = floor[t] if least[i, t] > 0.0 else max(b[i, t], floor[t])
                    mu[i, t] = goal if goal > -np.inf else mu[i, t]
                elif buys or most[i, t] < 0.0:
                    goal = roof[t] if most[i, t] < 0.0 else min(b[i, t], roof[t])
                    mu[i, t] = goal if goal < np.inf else mu[i, t]


@njit(**EXACT_PART)
def _least_cost(a: float, margin: float, least: float, most: float) -> float:
    """Return the least of a/2 p^2 + margin p between the bounds."""
    p = least if margin > 0.0 else most
    if a > 0.0:
        p = min(max(-margin / a, least), most)
    return (0.5 * a * p + margin) * p


@njit(**EXACT)
def _own(
    dt_h: float,
    a: Floats,
    b: Floats,
    least: Floats,
    most: Floats,
    mu: Floats,
    power: Floats,
    cost: Floats,
    gain: Floats,
) -> None:
    """Add what own power costs, and what it costs more than it could at these values."""
    agents, steps = mu.shape
    for i in range(agents):
        for t in range(steps):
            p = power[i, t]
            spent = (0.5 * a[i, t] * p + b[i, t]) * p
            cost[i] += dt_h * spent
            gain[i] += dt_h * (spent - _least_cost(a[i, t], b[i, t] - mu[i, t], least[i, t], most[i, t]))


@njit(**EXACT)
def _pairs(
    dt_h: float, first: Integers, second: Integers, charge_first: Floats, charge_second: Floats, limit: Floats, sell: Flags,
    buy: Flags, give: Floats, take: Floats, total: Floats, mu: Floats, trades: Floats, price: Floats, cost: Floats, gain: Floats, payment: Floats,
) -> float:  # fmt: skip
    """Price every pair; add its ends' charges, payments and what they could gain by other trades at this price.

    Return by how much all pairs' charges are above their part of (1).
    """
    missed = 0.0
    for e in range(trades.shape[0]):
        i, k = first[e], second[e]
        one, two, bound = charge_first.shape[1] > 1, charge_second.shape[1] > 1, limit.shape[1] > 1
        cost_i = cost_k = gain_i = gain_k = paid = 0.0
        for t in range(trades.shape[1]):
            c1, c2 = charge_first[e, t if one else 0], charge_second[e, t if two else 0]
            forth, back = sell[i, t] and buy[k, t], sell[k, t] and buy[i, t]
            if not (forth or back):
                price[e, t] = np.nan
                continue
            u, v, trade = mu[i, t], mu[k, t], trades[e, t]
            sale, purchase = 0.5 * (u + c1 + v - c2), 0.5 * (u - c1 + v + c2)
            p = sale if forth and (trade > 0.0 or not back) else purchase
            if forth and back:
                low, high = max(u - c1, v - c2), min(u + c1, v + c2)
                if low <= high:
                    p = min(max(p if trade != 0.0 else 0.5 * (low + high), low), high)
            price[e, t] = p
            most = limit[e, t if bound else 0]
            most_i = most_k = most if most < np.inf else total[t]
            best_i = best_k = best = 0.0
            for way in (1.0, -1.0):
                if not (forth if way > 0.0 else back):
                    continue
                # what a seller brings, or a buyer takes, at most; who may do both passes on what there is
                room_i = room_k = np.inf
                if way > 0.0:
                    room_i, room_k = np.inf if buy[i, t] else give[i, t], np.inf if sell[k, t] else take[k, t]
                else:
                    room_i, room_k = np.inf if sell[i, t] else take[i, t], np.inf if buy[k, t] else give[k, t]
                off_i, off_k = c1 + way * (u - p), c2 + way * (p - v)
                best_i, best_k = min(best_i, off_i * min(most_i, room_i)), min(best_k, off_k * min(most_k, room_k))
                best = min(best, (off_i + off_k) * min(most_i, room_i, room_k, total[t]))
            cost_i += c1 * abs(trade)
            cost_k += c2 * abs(trade)
            paid += p * trade
            gain_i += c1 * abs(trade) - p * trade - best_i
            gain_k += c2 * abs(trade) + p * trade - best_k
            missed += (c1 + c2) * abs(trade) - best
        cost[i] += dt_h * cost_i
        cost[k] += dt_h * cost_k
        gain[i] += dt_h * gain_i
        gain[k] += dt_h * gain_k
        payment[i] -= dt_h * paid
        payment[k] += dt_h * paid
    return dt_h * missed


@njit(**EXACT)
def _stores(
    dt_h: float, mu: Floats, wear: Floats, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats,
    drain: Floats, initial: Floats, efficiency_c: Floats, efficiency_d: Floats, retention: Floats, charge: Floats,
    discharge: Floats, cost: Floats, gain: Floats,
) -> None:  # fmt: skip
    """Add the stores' wear, and what they cost at these values more than they could."""
    stores, agents, steps = charge_max.shape
    slope, length = np.empty((1, 4 * steps + 8)), np.empty((1, 4 * steps + 8))
    for k in range(stores):
        for i in range(agents):
            spent = 0.0
            for t in range(steps):
                spent += wear[k, i] * (charge[k, i, t] + discharge[k, i, t])
            cost[i] += dt_h * spent
            gain[i] += dt_h * spent - value(
                dt_h * efficiency_c[k, i], dt_h / efficiency_d[k, i], retention[k, i], dt_h * (mu[i] + wear[k, i]),
                dt_h * (wear[k, i] - mu[i]), charge_max[k, i], discharge_max[k, i], lower[k, i], upper[k, i],
                drain[k, i], initial[k, i], slope, length)  # fmt: skip


def certificate(
    problem: Bilateral, partners: Links, trades: Floats, charge: Floats, discharge: Floats, marginal: Floats
) -> Certificate:
    """Return prices and certificate of an exact plan; ``marginal`` (n, T) are the values that somebody believes in."""
    p, curves = problem, problem.curves
    starts, pair, partner, _ = partners
    sell, buy = p.may()
    total = p.charge_first_eur_per_kwh + p.charge_second_eur_per_kwh
    down, up = marginal.copy(), marginal.copy()
    _together(starts, pair, partner, total, p.trade_max_kw, sell, buy, False, down)
    _together(starts, pair, partner, total, p.trade_max_kw, sell, buy, True, up)
    mu = 0.5 * (down + up)
    fixed: Flags = np.zeros(p.n, dtype=np.bool_)
    give, take = curves.p_max_kw.copy(), -curves.p_min_kw
    if p.stores is not None:
        give += p.stores.store_discharge_max_kw.sum(axis=0)
        take = take + p.stores.store_charge_max_kw.sum(axis=0)
        fixed = (p.stores.store_charge_max_kw + p.stores.store_discharge_max_kw).sum(axis=(0, 2)) > 0.0
    a, b, least, most = curves.a_eur_per_kw2h, curves.b_eur_per_kwh, curves.p_min_kw, curves.p_max_kw
    _alone(starts, pair, partner, total, p.trade_max_kw, sell, buy, fixed, a, b, least, most, mu)
    power, price = np.empty((p.n, p.steps)), np.empty((p.pairs, p.steps))
    powers(p.first, p.second, trades, power)
    cost, gain, payment = np.zeros(p.n), np.zeros(p.n), np.zeros(p.n)
    own = power + (charge - discharge).sum(axis=0)
    _own(curves.dt_h, a, b, least, most, mu, own, cost, gain)
    if p.stores is not None:
        s = p.stores
        _stores(curves.dt_h, mu, s.store_wear_eur_per_kwh, s.store_charge_max_kw, s.store_discharge_max_kw,
                s.store_energy_min_kwh, s.store_energy_max_kwh, s.store_drain_kwh, s.store_initial_kwh,
                s.store_efficiency_charge, s.store_efficiency_discharge, s.store_retention, charge, discharge, cost, gain)  # fmt: skip
    all_kw = np.minimum(np.maximum(give, 0.0).sum(axis=0), np.maximum(take, 0.0).sum(axis=0))
    missed = float(gain.sum()) + _pairs(curves.dt_h, p.first, p.second, p.charge_first_eur_per_kwh, p.charge_second_eur_per_kwh, p.trade_max_kw, sell, buy,
           give, take, all_kw, mu, trades, price, cost, gain, payment)  # fmt: skip
    spent = float(cost.sum())
    moved = float(abs(cost).sum() + abs(payment).sum())
    if -1e-12 * moved <= missed <= 1e-14 * moved:
        missed = 0.0  # rounding, of bounds of powers too
    return Certificate(cost, spent, spent - missed, missed / max(1.0, abs(spent)), gain, payment, price, mu, power)
