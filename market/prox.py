"""The other half of an iteration: every awkward term of the problem, in closed form.

Each function takes ``y = 2 w - s``, finds ``z = argmin term(z) + rho/2 (z - y)^2`` and moves ``s`` by ``alpha (z - w)``.

=================  =====================================================================================================
retail g           three pieces: ``y - buy/rho`` above 0, ``y - sell/rho`` below, else 0
meter m            the envelope, softened: outside of it ``y`` is pulled back by at most ``penalty/rho``
curtailment,       clip, after the wear, the fee and the curvature
stores
free rights        ``0 <= c, d <= right, e <= right``: projection on an epigraph.  The right is the root of a piecewise
                   linear, increasing, concave function; Newton's iterates rise to it from below and end exactly
exchange x         ``sum x = 0`` with a charge on purchases: one root per interval, by Newton inside a bracket
net                ``min <= sum n <= max``: all move alike
=================  =====================================================================================================
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT_PART
from market.tiles import (
    BUY,
    CONTENT,
    CURVATURE,
    ENERGY,
    EXCHANGE,
    EXPORT,
    FLOW,
    IMPORT,
    METER,
    NET,
    OWN,
    POWER,
    PV,
    RELAX,
    RETAIL,
    SELL,
    SLOTS,
    WITHDRAW,
    Data,
    Found,
    State,
)

__all__ = ["prox_agents", "prox_exchange", "prox_net", "prox_rights", "prox_stores"]

Floats = NDArray[np.float64]


@njit(**EXACT_PART)
def prox_agents(k: int, data: Data, s: State, w: State, weights: Floats) -> None:
    """Retail, meter and curtailment of a tile."""
    _, steps, _, lanes = data.given.shape
    alpha, i_retail, pull = weights[RELAX], 1.0 / weights[RETAIL], data.penalty / weights[METER]
    for t in range(steps):
        buy, sell, pv = data.given[k, t, BUY], data.given[k, t, SELL], data.given[k, t, PV]
        least, most = data.given[k, t, EXPORT], data.given[k, t, IMPORT]
        retail, meter, curtail = s.agent[k, t, 0], s.agent[k, t, 1], s.agent[k, t, 2]
        at_retail, at_meter, at_curtail = w.agent[k, t, 0], w.agent[k, t, 1], w.agent[k, t, 2]
        for i in range(lanes):
            y = 2.0 * at_retail[i] - retail[i]
            z = max(y - buy[i] * i_retail, 0.0) + min(y - sell[i] * i_retail, 0.0)
            retail[i] += alpha * (z - at_retail[i])
            y = 2.0 * at_meter[i] - meter[i]
            z = max(min(y, max(most[i], y - pull)), min(-least[i], y + pull))
            meter[i] += alpha * (z - at_meter[i])
            z = min(max(2.0 * at_curtail[i] - curtail[i], 0.0), pv[i])
            curtail[i] += alpha * (z - at_curtail[i])


@njit(**EXACT_PART)
def prox_stores(k: int, data: Data, s: State, w: State, weights: Floats) -> None:
    """Stores of a tile, and rented spaces too where rights are given."""
    _, steps, _, lanes = data.given.shape
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    bounds = data.bounds[k]
    wears = data.constants[k, 3]
    store, at_store = s.store[k], w.store[k]
    alpha, rho, stiff = weights[RELAX], weights[FLOW], 1.0 / (weights[FLOW] + weights[CURVATURE])
    for t in range(steps):
        fees = data.given[k, t, WITHDRAW]
        for a in range(own if data.renting else slots):
            wear, fee = wears[a], 0.0 if a < own else 1.0
            c, d, e, at_c, at_d, at_e = (
                store[t, 0, a],
                store[t, 1, a],
                store[t, 2, a],
                at_store[t, 0, a],
                at_store[t, 1, a],
                at_store[t, 2, a],
            )
            c_max, d_max, least, most = bounds[t, 0, a], bounds[t, 1, a], bounds[t, 2, a], bounds[t, 3, a]
            for i in range(lanes):
                z = min(max((rho * (2.0 * at_c[i] - c[i]) - wear[i]) * stiff, 0.0), c_max[i])
                c[i] += alpha * (z - at_c[i])
                z = min(max((rho * (2.0 * at_d[i] - d[i]) - wear[i] - fee * fees[i]) * stiff, 0.0), d_max[i])
                d[i] += alpha * (z - at_d[i])
                z = min(max(2.0 * at_e[i] - e[i], least[i]), most[i])
                e[i] += alpha * (z - at_e[i])


@njit(**EXACT_PART)
def prox_rights(k: int, data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Rented spaces of a tile together with the rights to them, where those are free.

    For given wishes the right is the root of ``right - goal - pull sum (wish - right)+``, which is concave and increasing
    and has its kinks at the wishes: Newton's first step lands below the root, the others rise to it and pass a kink each.
    """
    _, steps, _, lanes = data.given.shape
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    wears = data.constants[k, 3]
    store, at_store = s.store[k], w.store[k]
    alpha, rho, stiff = weights[RELAX], weights[FLOW], 1.0 / (weights[FLOW] + weights[CURVATURE])
    pull = (weights[CONTENT] / weights[ENERGY], (weights[FLOW] + weights[CURVATURE]) / weights[POWER])
    wish, above, many = np.empty((steps, 3, lanes)), np.empty(lanes), np.empty(lanes)
    here = slice(k * lanes, (k + 1) * lanes)
    for a in range(own, slots):
        j, wear, kept = a - own, wears[a], 1.0
        active, initial, final = data.active[j, here], data.edge[0, j, here], data.edge[1, j, here]
        for t in range(steps):
            kept *= data.retention[j]  # contents are kept less what is there without any flow
            fee, want_c, want_d, want_e = data.given[k, t, WITHDRAW], wish[t, 0], wish[t, 1], wish[t, 2]
            c, d, e, at_c, at_d, at_e = (
                store[t, 0, a],
                store[t, 1, a],
                store[t, 2, a],
                at_store[t, 0, a],
                at_store[t, 1, a],
                at_store[t, 2, a],
            )
            for i in range(lanes):
                want_c[i] = (rho * (2.0 * at_c[i] - c[i]) - wear[i]) * stiff
                want_d[i] = (rho * (2.0 * at_d[i] - d[i]) - wear[i] - fee[i]) * stiff
                want_e[i] = 2.0 * at_e[i] - e[i] + kept * initial[i]
        for kind in range(2):  # energy, then power
            right, at_right, held = s.right[kind, j, here], w.right[kind, j, here], found.held[kind, j, here]
            least, rent = data.edge[2 + kind, j, here], data.rents[kind, j, here]
            for _ in range(100):  # four at most were ever seen
                for i in range(lanes):
                    above[i] = many[i] = 0.0
                for t in range(steps - 1 if kind == 0 else steps):  # the last content is given
                    for q in range(2, 3) if kind == 0 else range(2):
                        want = wish[t, q]
                        for i in range(lanes):
                            over = 1.0 if want[i] > held[i] else 0.0
                            many[i] += over
                            above[i] += over * want[i]
                change = 0.0
                for i in range(lanes):
                    goal = 2.0 * at_right[i] - right[i] - rent[i] / weights[ENERGY + kind]
                    new = max((goal + pull[kind] * above[i]) / (1.0 + pull[kind] * many[i]), least[i]) * active[i]
                    change = max(change, abs(new - held[i]))
                    held[i] = new
                if change <= 1e-12:
                    break
            for i in range(lanes):
                right[i] += alpha * (held[i] - at_right[i])
        energy, power, kept = found.held[0, j, here], found.held[1, j, here], 1.0
        for t in range(steps):
            kept *= data.retention[j]
            last = t == steps - 1
            for q in range(2):
                flow, at_flow, want = store[t, q, a], at_store[t, q, a], wish[t, q]
                for i in range(lanes):
                    flow[i] += alpha * (min(max(want[i], 0.0), power[i]) - at_flow[i])
            e, at_e, want = store[t, 2, a], at_store[t, 2, a], wish[t, 2]
            for i in range(lanes):
                z = final[i] if last else min(max(want[i], 0.0), energy[i])
                e[i] += alpha * (z - kept * initial[i] - at_e[i])


@njit(**EXACT_PART)
def prox_exchange(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Clear the exchange in every interval: z = (rho y - price [+ charge]) / (rho + curvature), and sum z = 0."""
    alpha, rho, agents = weights[RELAX], weights[EXCHANGE], data.agents
    stiff = 1.0 / (rho + weights[CURVATURE])
    wish = np.empty(agents)
    for t in range(data.charge.shape[0] if data.trading else 0):
        x, now, charge = s.exchange[t], w.exchange[t], data.charge[t]
        low, high, price = -np.inf, np.inf, found.price[t]
        for i in range(agents):
            wish[i] = rho * (2.0 * now[i] - x[i])
        for _ in range(200):
            total, many = 0.0, 0.0
            for i in range(agents):
                sale = wish[i] - price
                purchase = sale + charge[i]
                total += max(sale, 0.0) + min(purchase, 0.0)
                many += 1.0 if sale > 0.0 or purchase < 0.0 else 0.0
            if abs(total) <= 1e-13 * rho * agents or many == 0.0:
                break
            if total > 0.0:
                low = price
            else:
                high = price
            step = price + total / many
            if not low < step < high:
                step = 0.5 * (low + high)
                if step in (low, high):
                    break
            price = step
        found.price[t] = price
        for i in range(agents):
            sale = wish[i] - price
            x[i] += alpha * ((max(sale, 0.0) + min(sale + charge[i], 0.0)) * stiff - now[i])


@njit(**EXACT_PART)
def prox_net(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Keep the net of every shared store inside its bounds, all tenants moving alike."""
    alpha, rho = weights[RELAX], weights[NET]
    for j in range(data.active.shape[0]):
        active = data.active[j]
        many = active.sum()
        for t in range(data.net.shape[2]):
            if data.bound_net[j, t] and many > 0.0:
                now, n, total = w.net[j, t], s.net[j, t], 0.0
                for i in range(active.shape[0]):
                    total += (2.0 * now[i] - n[i]) * active[i]
                shift = (max(total - data.net[1, j, t], 0.0) + min(total - data.net[0, j, t], 0.0)) / many
                found.net_price[j, t] = rho * shift
                for i in range(active.shape[0]):
                    n[i] += alpha * (now[i] - n[i] - shift) * active[i]
