"""Stores where prices are negative: the best that one can do without charging and discharging at once.

Paid for what it draws, a lossy store would charge and discharge at once, and the relaxed problem lets it.  A plan may not, and
the net of such flows is a poor plan.  So every store, own or rented, is run again by itself, everything else given, over a grid of contents
(dynamic programming), where a step up charges and a step down discharges; then the grid is drawn closer around the way
that was found, again and again.  Stores take turns; none makes the community's cost higher.

What a store's flow costs the community in an interval is exact.  With needs d of the others, agent i's own need D is met by
the retailer or by the exchange ::

    D(v) = min(0, X(v)) + max(0, X(v - charge_i)),   X(p) = sum of what the others sell at the price p            (1)
           max(sell_i, least) <= v <= min(buy_i, most + charge_i)

whose inverse is the slope of the community's cost in D: a step function with a step wherever some neighbour stops buying or
begins to sell.  What may be curtailed is, as long as drawing more costs less.

The result is a local optimum, on random cases within a per cent of the best plan (``tests/test_exchange_netting.py``).  Two
things stay as the iteration had them and can cost more than that: rights, and the tenants of a netted box.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import tube
from market.compiled import EXACT, EXACT_PART
from market.problem import Problem

__all__ = ["burned_kw", "run_exclusively"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_SWEEPS = 2
_BUDGET = 5e7  # steps of the dynamic programs, some 40 ns each
_COARSE = 16, 64  # points of the first grid
_ROUNDS, _CLOSER, _HALF = 7, 4.0, 5  # further grids, how much finer each is, and how many points on either side
_FEW = 5000  # up to so many intervals of stores all take turns, else those which would burn
_BURNS = 1e-3  # a store that would burn so much of its power would burn; less is what the iteration left over
_OUTSIDE = 1e3  # times the penalty: the envelope comes before money


def burned_kw(charge: Floats, discharge: Floats, into: Floats, out: Floats) -> Floats:
    """Return how much less stores would draw if their contents changed as much without burning.  Shape (any, n, T)."""
    c, d, eta_c, eta_d = np.maximum(charge, 0.0), np.maximum(discharge, 0.0), into[..., None], out[..., None]
    gain = eta_c * c - d / eta_d
    burned: Floats = c - d - np.where(gain > 0.0, gain / eta_c, gain * eta_d)
    return burned


class _Curve(NamedTuple):
    """What agent i's need costs the community in every interval: ``slope[t, q]`` left of ``at[t, q]``, the next one right of it."""

    at: Floats
    """Shape (T, q).  At the first one the cost is 0."""
    slope: Floats
    """Shape (T, q + 1)."""
    cost: Floats
    """At ``at``.  Shape (T, q)."""
    many: Ints
    """How many there are.  Shape (T,)."""
    best: Floats
    """The need at which the cost is least, infinite where it falls or rises for ever.  Shape (T,)."""


class _Home(NamedTuple):
    """What surrounds a store.  Shapes (T,)."""

    own: Floats
    """Load - pv + the agent's own stores, without this one."""
    rented: Floats
    """What the agent puts into rented spaces, without this one."""
    behind: bool
    """Whether the store is behind the meter; a rented space is not."""
    pv: Floats
    imported: Floats
    exported: Floats
    penalty: float
    into: Floats
    """What charging costs besides the energy, wear, per kWh."""
    out: Floats
    """What discharging costs, wear and withdrawal."""
    least: Floats
    """Of the store's net flow. [kW]"""
    most: Floats


@njit(**EXACT_PART)
def _fill(
    t: int, i: int, order: Ints, need: Floats, buy: Floats, sell: Floats, charge: Floats, curve: _Curve
) -> None:  # fmt: skip
    """Fill an interval of the curve by (1).

    ``order``, shape (2 n,), sorts the steps: what buyers give (buy - charge, numbers below n) and sellers ask (sell).
    """
    n = need.shape[0]
    least, most, total = -np.inf, np.inf, 0.0
    for j in range(n):
        least, most = max(least, sell[j] - charge[j]), min(most, buy[j])
        if j != i:
            total -= max(need[j], 0.0)
    low, high = max(sell[i], least), min(buy[i], most + charge[i])
    at, slope = curve.at[t], curve.slope[t]
    at[0], slope[0], last = total, low, 0
    for q in range(2 * n):
        j, price, size = order[q], 0.0, 0.0
        if j < n:
            price, size = buy[j] - charge[j], max(need[j], 0.0)
        else:
            j -= n
            price, size = sell[j], max(-need[j], 0.0)
        if j == i or size == 0.0:
            continue
        bought = min(size, max(-total, 0.0))  # below 0 agent i sells to the others, above it buys and bears its charge
        for step, v in ((bought, price), (size - bought, price + charge[i])):
            if step <= 0.0 or v >= high:
                continue
            if v > low and (last == 0 or v > slope[last]):
                last += 1
                slope[last], at[last] = v, at[last - 1]
            at[last] += step
        total += size
    slope[last + 1] = high
    curve.many[t] = last + 1


@njit(**EXACT_PART)
def _curve_of(
    i: int, order: Ints, need: Floats, buy: Floats, sell: Floats, charge: Floats, given: Floats, free: bool, curve: _Curve
) -> None:  # fmt: skip
    """Fill the curve of agent ``i``; columns have the shape (T, n)."""
    for t in range(need.shape[0]):
        if free:
            _fill(t, i, order[t], need[t], buy[t], sell[t], charge[t], curve)
        else:
            curve.at[t, 0], curve.many[t] = -given[t, i], 1
            curve.slope[t, 0], curve.slope[t, 1] = sell[t, i], buy[t, i]
        curve.cost[t, 0] = 0.0
        curve.best[t] = -np.inf if curve.slope[t, 0] >= 0.0 else np.inf
        for q in range(curve.many[t]):
            if q > 0:
                curve.cost[t, q] = curve.cost[t, q - 1] + curve.slope[t, q] * (curve.at[t, q] - curve.at[t, q - 1])
            if curve.slope[t, q] < 0.0 <= curve.slope[t, q + 1]:
                curve.best[t] = curve.at[t, q]


@njit(**EXACT_PART)
def _need(t: int, net: float, home: _Home, best: float) -> float:
    """Return what the agent needs: curtailed is what the envelope does not let out, and more where drawing more costs less."""
    uncurtailed = home.own[t] + (net if home.behind else 0.0)
    least = min(max(-home.exported[t] - uncurtailed, 0.0), home.pv[t])
    most = min(max(home.imported[t] - uncurtailed, least), home.pv[t])
    before = home.own[t] + home.rented[t] + net
    need: float = min(max(best, before + least), before + most)
    return need


@njit(**EXACT_PART)
def _cost(t: int, net: float, home: _Home, curve: _Curve) -> float:
    """Return what the community pays per hour if the store's net flow is ``net``."""
    need = _need(t, net, home, curve.best[t])
    meter, q, last = need - home.rented[t], 0, curve.many[t] - 1
    if not home.behind:
        meter -= net
    while q < last and need > curve.at[t, q + 1]:
        q += 1
    slope = curve.slope[t, 0] if need < curve.at[t, 0] else curve.slope[t, q + 1]
    outside = max(meter - home.imported[t], -home.exported[t] - meter, 0.0)
    wear = max(home.into[t] * net, -home.out[t] * net)
    cost: float = curve.cost[t, q] + slope * (need - curve.at[t, q]) + home.penalty * outside + wear
    return cost


@njit(**EXACT_PART)
def _best_way(
    constants: tuple[float, float, float], drain: Floats, points: Floats, size: int, home: _Home, curve: _Curve, path: Floats,
    value: Floats, came: Ints,
) -> None:  # fmt: skip
    """Change ``path``, shape (T + 1,), into the cheapest way over ``size`` points at the end of every interval, shape (T, any)."""
    e1, e2, kept = constants
    steps = drain.shape[0]
    for t in range(steps):
        for g in range(size):
            value[t, g] = np.inf
        for h in range(size if t > 0 else 1):
            behind = value[t - 1, h] if t > 0 else 0.0
            if behind == np.inf:
                continue
            rest = kept * (points[t - 1, h] if t > 0 else path[0]) - drain[t]
            for g in range(size):
                gain = points[t, g] - rest
                net = gain / (e1 if gain > 0.0 else e2)
                if home.least[t] - 1e-9 <= net <= home.most[t] + 1e-9:
                    cost = behind + _cost(t, min(max(net, home.least[t]), home.most[t]), home, curve)
                    if cost < value[t, g]:
                        value[t, g], came[t, g] = cost, h
    g = 0
    for h in range(size):
        if value[steps - 1, h] < value[steps - 1, g]:
            g = h
    if value[steps - 1, g] == np.inf:
        return
    for t in range(steps - 1, -1, -1):
        path[t + 1] = points[t, g]
        g = came[t, g]


class _Everybody(NamedTuple):
    """Own stores, then rented spaces: ``S`` = K + M of each agent."""

    own: int
    """K."""
    flows: Floats
    """Largest charge and discharge.  Shape (2, S, n, T). [kW]"""
    contents: Floats
    """Least and largest.  Shape (2, S, n, T). [kWh]"""
    drain: Floats
    """Shape (S, n, T). [kWh]"""
    constants: Floats
    """e1 = dt eta_c, e2 = dt / eta_d and retention.  Shape (3, S, n)."""
    wear: Floats
    """Of charging and of discharging, per kWh.  Shape (2, S, n, T)."""
    sums: Floats
    """Least and largest net of each shared store.  Shape (2, M, T). [kW]"""
    homes: Floats
    """Load - pv, pv, import limit and export limit.  Shape (4, n, T). [kW]"""
    prices: Floats
    """Buy, sell and exchange charge.  Shape (3, T, n)."""
    order: Ints
    """As in :func:`_fill`.  Shape (T, 2 n)."""
    given: Floats
    """What was sold already, where nothing is traded freely.  Shape (T, n). [kW]"""
    free: bool
    penalty: float


@njit(**EXACT_PART)
def _surroundings(a: _Everybody, s: int, i: int, net: Floats) -> _Home:
    """Return what surrounds store ``s`` of agent ``i``."""
    stores, n, steps = net.shape
    own, rented, least, most = a.homes[0, i].copy(), np.zeros(steps), -a.flows[1, s, i], a.flows[0, s, i].copy()
    for t in range(steps):
        for other in range(stores):
            if other != s and other < a.own:
                own[t] += net[other, i, t]
            elif other != s:
                rented[t] += net[other, i, t]
        if s >= a.own:
            others = 0.0
            for j in range(n):
                others += net[s, j, t] if j != i else 0.0
            least[t] = max(least[t], a.sums[0, s - a.own, t] - others)
            most[t] = min(most[t], a.sums[1, s - a.own, t] - others)
    return _Home(own, rented, s < a.own, a.homes[1, i], a.homes[2, i], a.homes[3, i], a.penalty, a.wear[0, s, i],
                 a.wear[1, s, i], least, most)  # fmt: skip


@njit(**EXACT)
def _take_turns(whose: Ints, a: _Everybody, coarse: int, net: Floats, energy: Floats, curtailed: Floats) -> None:
    """Run the stores ``whose``, rows (s, i), again one after the other: change ``net``, contents and ``curtailed`` in place."""
    stores, n, steps = net.shape
    wide = max(coarse + 1, 2 * _HALF + 1)
    points, value, came = np.empty((steps, wide)), np.empty((steps, wide)), np.empty((steps, wide), np.int64)
    curve = _Curve(np.empty((steps, 2 * n + 2)), np.empty((steps, 2 * n + 3)), np.empty((steps, 2 * n + 2)),
                   np.empty(steps, np.int64), np.empty(steps))  # fmt: skip
    need, low, high = np.empty((steps, n)), np.empty(steps + 1), np.empty(steps + 1)
    for t in range(steps):
        for i in range(n):
            need[t, i] = a.homes[0, i, t] + curtailed[i, t]
            for s in range(stores):
                need[t, i] += net[s, i, t]
    for turn in range(_SWEEPS * whose.shape[0]):
        s, i = whose[turn % whose.shape[0]]
        kept, path = a.constants[2, s, i], energy[s, i]
        constants = a.constants[0, s, i], a.constants[1, s, i], kept
        home = _surroundings(a, s, i, net)
        _curve_of(i, a.order, need, a.prices[0], a.prices[1], a.prices[2], a.given, a.free, curve)
        tube(
            *constants,
            a.flows[0, s, i],
            a.flows[1, s, i],
            a.contents[0, s, i],
            a.contents[1, s, i],
            a.drain[s, i],
            low,
            high,
        )
        for finer in range(_ROUNDS + 1):
            size = coarse + 1 if finer == 0 else 2 * _HALF + 1
            for t in range(steps):
                left, right = min(low[t + 1], path[t + 1]), max(high[t + 1], path[t + 1])
                apart = (right - left) / (coarse - 1) / _CLOSER**finer
                for g in range(size):
                    point = left + g * apart if finer == 0 else path[t + 1] + (g - _HALF) * apart
                    points[t, g] = min(max(point, left), right)
                if finer == 0:
                    points[t, coarse] = path[t + 1]
            _best_way(constants, a.drain[s, i], points, size, home, curve, path, value, came)
        for t in range(steps):
            gain = path[t + 1] - (kept * path[t] - a.drain[s, i, t])
            flow = min(max(gain / constants[0 if gain > 0.0 else 1], home.least[t]), home.most[t])
            net[s, i, t], need[t, i] = flow, _need(t, flow, home, curve.best[t])
            curtailed[i, t] = need[t, i] - home.rented[t] - home.own[t] - flow


def _everybody(p: Problem, rights: tuple[Floats, Floats]) -> _Everybody:
    """Return the problem's columns, stores and spaces in one."""
    prices = np.stack([column.T for column in (p.buy_eur_per_kwh, p.sell_eur_per_kwh, p.exchange_charge_eur_per_kwh)])
    given = np.zeros((p.steps, p.n))
    if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
        given = np.ascontiguousarray(p.pinned_exchange_kw.T)
    shape = (p.shared, p.n, p.steps)
    power = rights[1][:, :, None] * p.ess_available[:, None, :]
    lower, upper = np.zeros(shape), np.broadcast_to(rights[0][:, :, None], shape).copy()
    lower[:, :, -1] = upper[:, :, -1] = p.rented_final_kwh
    own = np.stack([p.dt_h * p.store_efficiency_charge, p.dt_h / p.store_efficiency_discharge, p.store_retention])
    shared = np.stack([p.dt_h * p.ess_efficiency_charge, p.dt_h / p.ess_efficiency_discharge, p.ess_retention])
    worn = np.broadcast_to(p.ess_wear_eur_per_kwh[:, None, None], shape)
    mine = np.broadcast_to(p.store_wear_eur_per_kwh[:, :, None], p.store_drain_kwh.shape)
    return _Everybody(
        p.stores,
        np.stack([np.concatenate([flow, power]) for flow in (p.store_charge_max_kw, p.store_discharge_max_kw)]),
        np.stack([np.concatenate([p.store_energy_min_kwh, lower]), np.concatenate([p.store_energy_max_kwh, upper])]),
        np.concatenate([p.store_drain_kwh, np.zeros(shape)]),
        np.concatenate([own, np.repeat(shared[:, :, None], p.n, axis=2)], axis=1),
        np.stack([np.concatenate([mine, worn]), np.concatenate([mine, worn + p.rented_charge_eur_per_kwh])]),
        np.stack([p.ess_net_min_kw, p.ess_net_max_kw]),
        np.stack([p.load_kw - p.pv_kw, p.pv_kw, p.import_limit_kw, p.export_limit_kw]),
        prices,
        np.argsort(np.concatenate([prices[0] - prices[2], prices[1]], axis=1), axis=1, kind="stable"),
        given,
        p.exchange == "free",
        _OUTSIDE * p.breach_penalty_eur_per_kwh,
    )


def run_exclusively(
    p: Problem, wished: Floats, rights: tuple[Floats, Floats], net: Floats, energy: Floats, curtailed: Floats
) -> bool:  # fmt: skip
    """Improve a plan's flows, contents and curtailment, in place; return whether there was reason to.

    There is where a store or space would burn energy.

    Parameters
    ----------
    p
        Whose plan it is.
    wished
        Charge and discharge as the relaxed problem would have them, own stores first.  Shape (2, K + M, n, T). [kW]
    rights
        To energy and power.  Shape (M, n).
    net, energy
        The plan's.  Shapes (K + M, n, T), (K + M, n, T + 1). [kW, kWh]
    curtailed
        Shape (n, T). [kW]
    """
    a = _everybody(p, rights)
    burned = burned_kw(
        np.minimum(wished[0], a.flows[0]),
        np.minimum(wished[1], a.flows[1]),
        a.constants[0] / p.dt_h,
        p.dt_h / a.constants[1],
    )
    burning = (burned > _BURNS * np.minimum(a.flows[0], a.flows[1])).any(axis=2)
    turns = np.concatenate([np.ones(p.stores, bool), ~p.ess_netted])[:, None]  # a netted box's tenants only go together
    if not (burning & turns).any():
        return False
    movable = a.flows.max(axis=(0, 3)) > 0.0
    whose = np.argwhere((movable if movable.sum() * p.steps <= _FEW else burning) & turns)
    coarse = int(np.clip(np.sqrt(_BUDGET / (_SWEEPS * len(whose) * p.steps)), *_COARSE))
    _take_turns(whose, a, coarse, net, energy, curtailed)
    return True
