"""Half an iteration: the projection of everything on the linear equations, agent by agent.

The equations of one agent in one interval, with ``P = sum (c - d)`` of its own stores and ``n_j = c_j - d_j`` of its
rented spaces::

    g = x + sum n_j + m,    m = base + curtailed + P,    e = retention e' + e1 c - e2 d                          (1)

minimising ``sum rho/2 (v - s)^2`` over them.  Everything but the multipliers y of the stores' equations is eliminated by
hand: with ``i = 1/rho``, ``give = i_curtailed + sum 2 i_flow``, ``gamma = 1/(1 + rho_m give)``,
``beta = 1/(1 + 2 i_flow rho_n)``, ``kappa = 1/(i_g + i_x + sum 2 i_flow beta + gamma give)`` and a hat for what the s alone
give,

    nu    = kappa (x^ + gamma (m^ + Y) + (1 - gamma) s_m + sum (n^_j + beta Y_j) - s_g)        balance           (2)
    pi    = gamma nu + gamma rho_m (m^ + Y - s_m)                                              meter             (3)
    theta = beta nu + rho_n (n^_j + beta Y_j - s_n)                                            rented            (4)

where ``Y = sum k1 y`` and ``k1 = i_flow (e1 + e2)`` counts only flows that can move.  What is left for y is, per agent, a
symmetric block-tridiagonal system over time whose off-diagonal blocks are diagonal, because only contents reach from one
interval into the next.  :func:`factor` inverts its pivots once per penalty; :func:`forward` and :func:`backward` solve.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART
from market.tiles import (
    BASE,
    CONTENT,
    CURTAIL,
    ENERGY,
    EXCHANGE,
    EXPORT,
    FLOW,
    IMPORT,
    METER,
    NET,
    OWN,
    PV,
    RETAIL,
    SLOTS,
    Data,
    Factors,
    Found,
    State,
)

__all__ = ["backward", "factor", "forward", "share_rights"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def factor(data: Data, weights: Floats, factors: Factors) -> None:
    """Fill ``factors`` for these weights."""
    tiles, steps, _, lanes = data.given.shape
    i_curtail, i_flow, i_content = 1.0 / weights[CURTAIL], 1.0 / weights[FLOW], 1.0 / weights[CONTENT]
    i_free = 1.0 / weights[RETAIL] + (1.0 / weights[EXCHANGE] if data.trading else 0.0)
    for k in range(tiles):
        own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
        bounds = data.bounds[k]
        constants = data.constants[k]
        blocks = factors.blocks[k]
        k1, k2, reach, pivot = np.empty(slots), np.empty(slots), np.empty(slots), np.empty(lanes)
        for t in range(steps):
            for i in range(lanes):
                give, total = i_curtail if data.given[k, t, PV, i] > 0.0 else 0.0, i_free
                for a in range(slots):
                    into = i_flow if bounds[t, 0, a, i] > 0.0 else 0.0
                    out = i_flow if bounds[t, 1, a, i] > 0.0 else 0.0
                    e1, e2 = constants[0, a, i], constants[1, a, i]
                    k1[a], k2[a] = into * e1 + out * e2, into * e1 * e1 + out * e2 * e2
                    if a < own:
                        give += into + out
                    else:
                        reach[a] = 1.0 / (1.0 + (into + out) * (weights[NET] if data.bound_net[a - own, t] else 0.0))
                        total += (into + out) * reach[a]
                limited = data.given[k, t, IMPORT, i] < np.inf or data.given[k, t, EXPORT, i] < np.inf
                meter = weights[METER] if limited else 0.0
                gamma = 1.0 / (1.0 + meter * give)
                for a in range(own):
                    reach[a] = gamma
                total += gamma * give
                factors.step[k, t, 0, i], factors.step[k, t, 1, i], factors.step[k, t, 2, i] = (
                    1.0 / total,
                    gamma,
                    gamma * meter,
                )
                for a in range(slots):
                    for b in range(slots):
                        coupling = reach[a] * reach[b] / total
                        if a < own and b < own:
                            coupling += gamma * meter
                        elif a == b and data.bound_net[a - own, t]:
                            coupling += weights[NET] * reach[a]
                        entry = -k1[a] * k1[b] * coupling
                        if a == b:
                            entry += k2[a] + i_content
                        if t > 0:
                            kept = constants[2, a, i] * i_content * constants[2, b, i]
                            entry += (kept if a == b else 0.0) - kept * i_content * blocks[t - 1, a, b, i]
                        blocks[t, a, b, i] = entry
            _invert(blocks[t], slots, pivot)


@njit(**EXACT_PART)
def _invert(block: Floats, slots: int, pivot: Floats) -> None:
    """Invert symmetric positive definite blocks in place, all lanes at once (Gauss-Jordan needs no pivoting there)."""
    lanes = block.shape[2]
    for p in range(slots):
        for i in range(lanes):
            pivot[i] = 1.0 / block[p, p, i]
        for b in range(slots):
            if b != p:
                for i in range(lanes):
                    block[p, b, i] *= pivot[i]
        for a in range(slots):
            if a != p:
                for b in range(slots):
                    if b != p:
                        for i in range(lanes):
                            block[a, b, i] -= block[a, p, i] * block[p, b, i]
                for i in range(lanes):
                    block[a, p, i] *= -pivot[i]
        for i in range(lanes):
            block[p, p, i] = pivot[i]


@njit(**EXACT_PART)
def share_rights(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Project the rights on their sums: where more is wanted than is offered, all give way alike."""
    for j in range(data.active.shape[0] if data.renting else 0):
        for kind in range(2):
            right, active = s.right[kind, j], data.active[j]
            total, many = 0.0, 0.0
            for i in range(active.shape[0]):
                total += right[i] * active[i]
                many += active[i]
            excess = max(0.0, total - data.offers[kind, j]) / max(many, 1.0)
            found.scarcity[kind, j] = weights[ENERGY + kind] * excess
            for i in range(active.shape[0]):
                w.right[kind, j, i] = (right[i] - excess) * active[i]


@njit(**EXACT_PART)
def forward(k: int, data: Data, s: State, factors: Factors, weights: Floats, y: Floats, hat: Floats) -> None:
    """Fill ``y`` with the forward half of a tile's solve and ``hat`` with nu, mu and n_j as the s alone give them.

    Shapes (T + 1, slots, lanes) and (T, 2 + rented, lanes).
    """
    _, steps, _, lanes = data.given.shape
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    bounds = data.bounds[k]
    constants = data.constants[k]
    store = s.store[k]
    blocks = factors.blocks[k]
    i_flow, i_content, here = 1.0 / weights[FLOW], 1.0 / weights[CONTENT], slice(k * lanes, (k + 1) * lanes)
    right, price = np.empty((slots, lanes)), np.empty((2, lanes))
    meter, total = np.empty(lanes), np.empty(lanes)
    for t in range(steps):
        retail, limit, curtail = s.agent[k, t, 0], s.agent[k, t, 1], s.agent[k, t, 2]
        kappa, gamma, bound = factors.step[k, t, 0], factors.step[k, t, 1], factors.step[k, t, 2]
        base, x, nu, mu = data.given[k, t, BASE], s.exchange[t, here], hat[t, 0], hat[t, 1]
        for i in range(lanes):
            meter[i] = base[i] + curtail[i]
        for a in range(own):
            c, d = store[t, 0, a], store[t, 1, a]
            for i in range(lanes):
                meter[i] += c[i] - d[i]
        for i in range(lanes):
            total[i] = x[i] + gamma[i] * meter[i] + (1.0 - gamma[i]) * limit[i] - retail[i]
        for a in range(own, slots):
            rho = weights[NET] if data.bound_net[a - own, t] else 0.0
            c, d, n, net, active = (
                store[t, 0, a],
                store[t, 1, a],
                hat[t, 2 + a - own],
                s.net[a - own, t, here],
                bounds[t, 0, a],
            )
            for i in range(lanes):
                give = 2.0 * i_flow * rho if active[i] > 0.0 else 0.0
                n[i] = (c[i] - d[i] + give * net[i]) / (1.0 + give)
                total[i] += n[i]
        for i in range(lanes):
            nu[i], mu[i] = kappa[i] * total[i], bound[i] * (meter[i] - limit[i])
            price[0, i] = gamma[i] * nu[i] + mu[i]
        for a in range(slots):
            p, out, e1, e2 = price[0], right[a], constants[0, a], constants[1, a]
            if a >= own:
                p = price[1]
                rho = weights[NET] if data.bound_net[a - own, t] else 0.0
                beta, n, net = 1.0 / (1.0 + 2.0 * i_flow * rho), hat[t, 2 + a - own], s.net[a - own, t, here]
                for i in range(lanes):
                    p[i] = beta * nu[i] + rho * (n[i] - net[i])
            c, d, e, c_max, d_max = store[t, 0, a], store[t, 1, a], store[t, 2, a], bounds[t, 0, a], bounds[t, 1, a]
            for i in range(lanes):
                k1 = (e1[i] if c_max[i] > 0.0 else 0.0) + (e2[i] if d_max[i] > 0.0 else 0.0)
                out[i] = e[i] - e1[i] * c[i] + e2[i] * d[i] + i_flow * k1 * p[i]
            if t > 0:
                kept, before, e = constants[2, a], y[t - 1, a], store[t - 1, 2, a]
                for i in range(lanes):
                    out[i] += kept[i] * (i_content * before[i] - e[i])
        for a in range(slots):
            out = y[t, a]
            for i in range(lanes):
                out[i] = 0.0
            for b in range(slots):
                block, r = blocks[t, a, b], right[b]
                for i in range(lanes):
                    out[i] += block[i] * r[i]


@njit(**EXACT_PART)
def backward(k: int, data: Data, s: State, w: State, factors: Factors, weights: Floats, y: Floats, hat: Floats) -> None:
    """Finish a tile's solve for ``y`` and fill ``w`` from it by (2) to (4)."""
    _, steps, _, lanes = data.given.shape
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    bounds = data.bounds[k]
    constants = data.constants[k]
    from_store = s.store[k]
    to_store = w.store[k]
    blocks = factors.blocks[k]
    i_retail, i_curtail, i_flow, i_content = (
        1.0 / weights[RETAIL],
        1.0 / weights[CURTAIL],
        1.0 / weights[FLOW],
        1.0 / weights[CONTENT],
    )
    i_exchange, here = 1.0 / weights[EXCHANGE] if data.trading else 0.0, slice(k * lanes, (k + 1) * lanes)
    right, price = np.empty((slots, lanes)), np.empty((2, lanes))
    nu, up, meter = np.empty(lanes), np.empty((slots + 1, lanes)), np.empty(lanes)
    for a in range(slots):
        for i in range(lanes):
            y[steps, a, i] = right[a, i] = 0.0
    for t in range(steps - 1, -1, -1):
        kappa, gamma, bound = factors.step[k, t, 0], factors.step[k, t, 1], factors.step[k, t, 2]
        own_up, nu_hat, mu_hat, x, to_x = up[slots], hat[t, 0], hat[t, 1], s.exchange[t, here], w.exchange[t, here]
        for i in range(lanes):
            own_up[i] = nu[i] = 0.0
        for a in range(slots):
            out, rise, e1, e2, c_max, d_max = (
                y[t, a],
                up[a],
                constants[0, a],
                constants[1, a],
                bounds[t, 0, a],
                bounds[t, 1, a],
            )
            for b in range(slots):
                block, r = blocks[t, a, b], right[b]
                for i in range(lanes):
                    out[i] += block[i] * r[i]
            beta = 1.0
            if a >= own and data.bound_net[a - own, t]:
                beta = 1.0 / (1.0 + 2.0 * i_flow * weights[NET])
            for i in range(lanes):
                k1 = (e1[i] if c_max[i] > 0.0 else 0.0) + (e2[i] if d_max[i] > 0.0 else 0.0)
                rise[i] = beta * i_flow * k1 * out[i]
            into = own_up if a < own else nu
            for i in range(lanes):
                into[i] += rise[i]
        for i in range(lanes):
            nu[i] = nu_hat[i] + kappa[i] * (nu[i] + gamma[i] * own_up[i])
            price[0, i] = gamma[i] * nu[i] + mu_hat[i] + bound[i] * own_up[i]
            to_x[i] = x[i] - i_exchange * nu[i]
        curtail, to_curtail, base, pv = s.agent[k, t, 2], w.agent[k, t, 2], data.given[k, t, BASE], data.given[k, t, PV]
        for i in range(lanes):
            to_curtail[i] = curtail[i] - (i_curtail if pv[i] > 0.0 else 0.0) * price[0, i]
            meter[i] = base[i] + to_curtail[i]
        for a in range(slots):
            p, e1, e2, kept, y_now, y_after = (
                price[0],
                constants[0, a],
                constants[1, a],
                constants[2, a],
                y[t, a],
                y[t + 1, a],
            )
            if a >= own:
                rho = weights[NET] if data.bound_net[a - own, t] else 0.0
                beta, n, rise, net, p = (
                    1.0 / (1.0 + 2.0 * i_flow * rho),
                    hat[t, 2 + a - own],
                    up[a],
                    s.net[a - own, t, here],
                    price[1],
                )
                for i in range(lanes):
                    p[i] = beta * nu[i] + rho * (n[i] + rise[i] - net[i])
            c, d, e = from_store[t, 0, a], from_store[t, 1, a], from_store[t, 2, a]
            to_c, to_d, to_e, c_max, d_max = (
                to_store[t, 0, a],
                to_store[t, 1, a],
                to_store[t, 2, a],
                bounds[t, 0, a],
                bounds[t, 1, a],
            )
            for i in range(lanes):
                to_c[i] = c[i] - (i_flow if c_max[i] > 0.0 else 0.0) * (p[i] - e1[i] * y_now[i])
                to_d[i] = d[i] + (i_flow if d_max[i] > 0.0 else 0.0) * (p[i] - e2[i] * y_now[i])
            out = right[a]
            for i in range(lanes):
                to_e[i] = e[i] - i_content * (y_now[i] - kept[i] * y_after[i])
                out[i] = i_content * kept[i] * y_now[i]  # what the interval before this one will need
            if a < own:
                for i in range(lanes):
                    meter[i] += to_c[i] - to_d[i]
            else:
                to_net = w.net[a - own, t, here]
                for i in range(lanes):
                    to_net[i] = to_c[i] - to_d[i]
        retail, to_retail, to_meter = s.agent[k, t, 0], w.agent[k, t, 0], w.agent[k, t, 1]
        for i in range(lanes):
            to_meter[i] = meter[i]
            to_retail[i] = retail[i] + i_retail * nu[i]
