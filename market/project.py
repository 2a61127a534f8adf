"""Half an iteration: the projection of everything on the linear equations, agent by agent.

The equations of one agent in one interval, with ``P = sum (c - d)`` of its own stores and ``n_j = c_j - d_j`` of its
rented spaces::

    g = x + sum n_j + m,    m = base + curtailed + P,    e = retention e' + e1 c - e2 d                          (1)

minimising ``sum rho/2 (v - s)^2`` over them.  Everything but the multipliers y of the stores' equations is eliminated by
hand: with ``i = 1/rho``, ``give = i_curtailed + 2 sum i_flow``, ``gamma = 1/(1 + rho_m give)``,
``beta = 1/(1 + 2 i_v rho_n)``, ``kappa = 1/(i_g + i_x + sum 2 i_v beta + gamma give)`` and a hat for what the s alone give,

    nu    = kappa (x^ + gamma (m^ + Y) + (1 - gamma) s_m + sum (n^_j + beta Y_j) - s_g)        balance           (2)
    pi    = gamma nu + gamma rho_m (m^ + Y - s_m)                                              meter             (3)
    theta = beta nu + rho_n (n^_j + beta Y_j - s_n)                                            rented            (4)

where ``Y = sum k1 y`` and ``k1 = i (e1 + e2)`` counts only flows that can move.  What is left for y is, per agent, a
symmetric block-tridiagonal system over time whose off-diagonal blocks are diagonal, because only contents reach from one
interval into the next.  :func:`factor` inverts its pivots once per penalty; :func:`project` sweeps forwards and backwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

if TYPE_CHECKING:
    from market.kernel import Data, Factors, Found, State

__all__ = ["factor", "project", "share_rights"]

Floats = NDArray[np.float64]

# Places in the vector of weights: of retail, exchange, meter, curtailment, own flows, own contents, rented flows, rented
# contents, the shared store's net, rights to energy and to power; then the curvature and the relaxation.
RETAIL, EXCHANGE, METER, CURTAIL, FLOW, CONTENT, RENTED_FLOW, RENTED_CONTENT, NET, ENERGY, POWER, CURVATURE, RELAX = (
    range(13)
)
# Places in Data.given
BASE, PV, BUY, SELL, IMPORT, EXPORT, WITHDRAW = range(7)

FAST = {"contract", "reassoc", "nsz", "arcp"}  # infinite limits must stay infinite: neither nnan nor ninf


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def factor(data: Data, weights: Floats, factors: Factors) -> None:
    """Fill ``factors`` for these weights."""
    tiles, steps, _, lanes = data.given.shape
    i_curtail, i_flow, i_content = 1.0 / weights[CURTAIL], 1.0 / weights[FLOW], 1.0 / weights[CONTENT]
    i_rented, i_rented_content = 1.0 / weights[RENTED_FLOW], 1.0 / weights[RENTED_CONTENT]
    i_free = 1.0 / weights[RETAIL] + (1.0 / weights[EXCHANGE] if data.trading else 0.0)
    for k in range(tiles):
        own, rented, cell, at, const = (
            data.tiles[k, 0],
            data.tiles[k, 1],
            data.tiles[k, 2],
            data.tiles[k, 4],
            data.tiles[k, 5],
        )
        slots = own + rented
        bounds = data.bounds[4 * cell : 4 * (cell + steps * own * lanes)].reshape((steps, 4, own, lanes))
        constants = data.constants[4 * const : 4 * (const + own * lanes)].reshape((4, own, lanes))
        blocks = factors.blocks[at : at + steps * slots * slots * lanes].reshape((steps, slots, slots, lanes))
        k1, k2, carry, reach = np.zeros(slots), np.zeros(slots), np.zeros(slots), np.ones(slots)
        content = np.full(slots, i_content)
        content[own:] = i_rented_content
        pivot = np.empty(lanes)
        for t in range(steps):
            for i in range(lanes):
                give = i_curtail if data.given[k, t, PV, i] > 0.0 else 0.0
                for a in range(own):
                    into = i_flow if bounds[t, 0, a, i] > 0.0 else 0.0
                    out = i_flow if bounds[t, 1, a, i] > 0.0 else 0.0
                    e1, e2 = constants[0, a, i], constants[1, a, i]
                    k1[a], k2[a], carry[a] = into * e1 + out * e2, into * e1 * e1 + out * e2 * e2, constants[2, a, i]
                    give += into + out
                limited = data.given[k, t, IMPORT, i] < np.inf or data.given[k, t, EXPORT, i] < np.inf
                meter = weights[METER] if limited else 0.0
                gamma = 1.0 / (1.0 + meter * give)
                total = i_free + gamma * give
                reach[:own] = gamma
                for j in range(rented):
                    a, flow = own + j, i_rented * data.active[j, k * lanes + i]
                    e1, e2 = data.ess[j, 0], data.ess[j, 1]
                    k1[a], k2[a], carry[a] = flow * (e1 + e2), flow * (e1 * e1 + e2 * e2), data.ess[j, 2]
                    reach[a] = 1.0 / (1.0 + 2.0 * flow * weights[NET]) if data.bound_net[j, t] else 1.0
                    total += 2.0 * flow * reach[a]
                factors.step[k, t, 0, i] = 1.0 / total
                factors.step[k, t, 1, i] = gamma
                factors.step[k, t, 2, i] = gamma * meter
                for a in range(slots):
                    for b in range(slots):
                        coupling = reach[a] * reach[b] / total
                        if a < own and b < own:
                            coupling += gamma * meter
                        elif a == b and data.bound_net[a - own, t]:
                            coupling += weights[NET] * reach[a]
                        entry = -k1[a] * k1[b] * coupling
                        if a == b:
                            entry += content[a] * (1.0 + (carry[a] * carry[a] if t > 0 else 0.0)) + k2[a]
                        if t > 0:
                            entry -= carry[a] * content[a] * blocks[t - 1, a, b, i] * carry[b] * content[b]
                        blocks[t, a, b, i] = entry
            _invert(blocks[t], pivot)


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _invert(block: Floats, pivot: Floats) -> None:
    """Invert symmetric positive definite blocks in place, all lanes at once (Gauss-Jordan needs no pivoting there)."""
    slots, _, lanes = block.shape
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


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def share_rights(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Project the rights on their sums: whoever wants more than is offered, all give way alike."""
    if not data.renting:
        return
    shared, positions = data.active.shape
    for j in range(shared):
        for kind in range(2):
            total, many = 0.0, 0.0
            for i in range(positions):
                total += s.right[kind, j, i] * data.active[j, i]
                many += data.active[j, i]
            excess = max(0.0, total - data.offers[kind, j]) / max(many, 1.0)
            found.scarcity[kind, j] = weights[ENERGY + kind] * excess
            for i in range(positions):
                w.right[kind, j, i] = (s.right[kind, j, i] - excess) * data.active[j, i]


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def project(k: int, data: Data, s: State, w: State, factors: Factors, weights: Floats) -> None:
    """Fill ``w`` for one tile."""
    _, steps, _, lanes = data.given.shape
    own, rented, cell, cell_r = data.tiles[k, 0], data.tiles[k, 1], data.tiles[k, 2], data.tiles[k, 3]
    at, const = data.tiles[k, 4], data.tiles[k, 5]
    slots, size, size_r = own + rented, steps * own * lanes, steps * rented * lanes
    bounds = data.bounds[4 * cell : 4 * (cell + size)].reshape((steps, 4, own, lanes))
    constants = data.constants[4 * const : 4 * (const + own * lanes)].reshape((4, own, lanes))
    s_own = s.own[3 * cell : 3 * (cell + size)].reshape((steps, 3, own, lanes))
    w_own = w.own[3 * cell : 3 * (cell + size)].reshape((steps, 3, own, lanes))
    s_ren = s.rented[3 * cell_r : 3 * (cell_r + size_r)].reshape((steps, 3, rented, lanes))
    w_ren = w.rented[3 * cell_r : 3 * (cell_r + size_r)].reshape((steps, 3, rented, lanes))
    blocks = factors.blocks[at : at + slots * slots * steps * lanes].reshape((steps, slots, slots, lanes))
    y = np.empty((steps + 1, slots, lanes))
    hat = np.empty((steps, 2 + rented, lanes))
    _forward(k, data, s, factors.step[k], weights, bounds, constants, s_own, s_ren, blocks, y, hat)
    _backward(k, data, s, w, factors.step[k], weights, bounds, constants, s_own, s_ren, w_own, w_ren, blocks, y, hat)


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _multiply(block: Floats, right: Floats, out: Floats) -> None:
    """Add block times right to ``out``, lane by lane."""
    slots, _, lanes = block.shape
    for a in range(slots):
        for b in range(slots):
            for i in range(lanes):
                out[a, i] += block[a, b, i] * right[b, i]


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _forward(
    k: int, data: Data, s: State, step: Floats, weights: Floats, bounds: Floats, constants: Floats, s_own: Floats,
    s_ren: Floats, blocks: Floats, y: Floats, hat: Floats,
) -> None:  # fmt: skip
    """Fill ``y`` with the forward half of the solve and ``hat`` with nu, mu and n_j as the s alone give them."""
    steps, _, own, lanes = s_own.shape
    rented, here = s_ren.shape[2], slice(k * lanes, (k + 1) * lanes)
    i_flow, i_content = 1.0 / weights[FLOW], 1.0 / weights[CONTENT]
    i_rented, i_rented_content = 1.0 / weights[RENTED_FLOW], 1.0 / weights[RENTED_CONTENT]
    right = np.empty((own + rented, lanes))
    meter, total, pi = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    for t in range(steps):
        retail, limit, curtail = s.agent[k, t, 0], s.agent[k, t, 1], s.agent[k, t, 2]
        kappa, gamma, bound = step[t, 0], step[t, 1], step[t, 2]
        base, x = data.given[k, t, BASE], s.exchange[t, here]
        for i in range(lanes):
            meter[i] = base[i] + curtail[i]
        for a in range(own):
            for i in range(lanes):
                meter[i] += s_own[t, 0, a, i] - s_own[t, 1, a, i]
        for i in range(lanes):
            total[i] = x[i] + gamma[i] * meter[i] + (1.0 - gamma[i]) * limit[i] - retail[i]
        for j in range(rented):
            rho = weights[NET] if data.bound_net[j, t] else 0.0
            beta, act, net = 1.0 / (1.0 + 2.0 * i_rented * rho), data.active[j, here], s.net[j, t, here]
            for i in range(lanes):
                reach = 1.0 + act[i] * (beta - 1.0)
                n = reach * (s_ren[t, 0, j, i] - s_ren[t, 1, j, i] + 2.0 * i_rented * rho * act[i] * net[i])
                hat[t, 2 + j, i] = n
                total[i] += n
        for i in range(lanes):
            nu, mu = kappa[i] * total[i], bound[i] * (meter[i] - limit[i])
            hat[t, 0, i], hat[t, 1, i], pi[i] = nu, mu, gamma[i] * nu + mu
        for a in range(own):
            charge, discharge, e1, e2 = s_own[t, 0, a], s_own[t, 1, a], constants[0, a], constants[1, a]
            for i in range(lanes):
                k1 = (e1[i] if bounds[t, 0, a, i] > 0.0 else 0.0) + (e2[i] if bounds[t, 1, a, i] > 0.0 else 0.0)
                right[a, i] = s_own[t, 2, a, i] - e1[i] * charge[i] + e2[i] * discharge[i] + i_flow * k1 * pi[i]
            if t > 0:
                for i in range(lanes):
                    right[a, i] += constants[2, a, i] * (i_content * y[t - 1, a, i] - s_own[t - 1, 2, a, i])
        for j in range(rented):
            rho, e1j, e2j, keep = (
                weights[NET] if data.bound_net[j, t] else 0.0,
                data.ess[j, 0],
                data.ess[j, 1],
                data.ess[j, 2],
            )
            beta, act, net = 1.0 / (1.0 + 2.0 * i_rented * rho), data.active[j, here], s.net[j, t, here]
            for i in range(lanes):
                reach = 1.0 + act[i] * (beta - 1.0)
                theta = reach * hat[t, 0, i] + rho * (hat[t, 2 + j, i] - net[i])
                gain = e1j * s_ren[t, 0, j, i] - e2j * s_ren[t, 1, j, i]
                right[own + j, i] = s_ren[t, 2, j, i] - gain + i_rented * (e1j + e2j) * act[i] * theta
            if t > 0:
                for i in range(lanes):
                    right[own + j, i] += keep * (i_rented_content * y[t - 1, own + j, i] - s_ren[t - 1, 2, j, i])
            else:
                for i in range(lanes):
                    right[own + j, i] -= keep * data.edge[0, j, k * lanes + i]
        y[t] = 0.0
        _multiply(blocks[t], right, y[t])


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _backward(
    k: int, data: Data, s: State, w: State, step: Floats, weights: Floats, bounds: Floats, constants: Floats,
    s_own: Floats, s_ren: Floats, w_own: Floats, w_ren: Floats, blocks: Floats, y: Floats, hat: Floats,
) -> None:  # fmt: skip
    """Finish the solve for ``y`` and fill ``w`` from it by (2) to (4)."""
    steps, _, own, lanes = s_own.shape
    rented, here = s_ren.shape[2], slice(k * lanes, (k + 1) * lanes)
    i_retail, i_curtail, i_exchange = 1.0 / weights[RETAIL], 1.0 / weights[CURTAIL], 1.0 / weights[EXCHANGE]
    i_flow, i_content = 1.0 / weights[FLOW], 1.0 / weights[CONTENT]
    i_rented, i_rented_content = 1.0 / weights[RENTED_FLOW], 1.0 / weights[RENTED_CONTENT]
    if not data.trading:
        i_exchange = 0.0
    right = np.empty((own + rented, lanes))
    nu, pi, up = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    y[steps] = 0.0
    for t in range(steps - 1, -1, -1):
        kappa, gamma, bound = step[t, 0], step[t, 1], step[t, 2]
        if t < steps - 1:
            for a in range(own):
                for i in range(lanes):
                    right[a, i] = i_content * constants[2, a, i] * y[t + 1, a, i]
            for j in range(rented):
                for i in range(lanes):
                    right[own + j, i] = i_rented_content * data.ess[j, 2] * y[t + 1, own + j, i]
            _multiply(blocks[t], right, y[t])
        up[:] = 0.0
        for a in range(own):
            for i in range(lanes):
                e1 = constants[0, a, i] if bounds[t, 0, a, i] > 0.0 else 0.0
                e2 = constants[1, a, i] if bounds[t, 1, a, i] > 0.0 else 0.0
                up[i] += i_flow * (e1 + e2) * y[t, a, i]
        for i in range(lanes):
            nu[i] = gamma[i] * up[i]
        for j in range(rented):
            beta, act = (
                1.0 / (1.0 + 2.0 * i_rented * (weights[NET] if data.bound_net[j, t] else 0.0)),
                data.active[j, here],
            )
            k1j = i_rented * (data.ess[j, 0] + data.ess[j, 1])
            for i in range(lanes):
                nu[i] += act[i] * beta * k1j * y[t, own + j, i]
        for i in range(lanes):
            nu[i] = hat[t, 0, i] + kappa[i] * nu[i]
            pi[i] = gamma[i] * nu[i] + hat[t, 1, i] + bound[i] * up[i]
            w.exchange[t, k * lanes + i] = s.exchange[t, k * lanes + i] - i_exchange * nu[i]
        for i in range(lanes):
            moves = i_curtail if data.given[k, t, PV, i] > 0.0 else 0.0
            w.agent[k, t, 2, i] = s.agent[k, t, 2, i] - moves * pi[i]
            up[i] = data.given[k, t, BASE, i] + w.agent[k, t, 2, i]
        for a in range(own):
            price, after = y[t, a], y[t + 1, a]
            for i in range(lanes):
                moves = i_flow if bounds[t, 0, a, i] > 0.0 else 0.0
                flow = s_own[t, 0, a, i] - moves * (pi[i] - constants[0, a, i] * price[i])
                w_own[t, 0, a, i] = flow
                up[i] += flow
            for i in range(lanes):
                moves = i_flow if bounds[t, 1, a, i] > 0.0 else 0.0
                flow = s_own[t, 1, a, i] + moves * (pi[i] - constants[1, a, i] * price[i])
                w_own[t, 1, a, i] = flow
                up[i] -= flow
            for i in range(lanes):
                w_own[t, 2, a, i] = s_own[t, 2, a, i] - i_content * (price[i] - constants[2, a, i] * after[i])
        for i in range(lanes):
            w.agent[k, t, 1, i] = up[i]
            w.agent[k, t, 0, i] = s.agent[k, t, 0, i] + i_retail * nu[i]
        for j in range(rented):
            rho, e1j, e2j, keep = (
                weights[NET] if data.bound_net[j, t] else 0.0,
                data.ess[j, 0],
                data.ess[j, 1],
                data.ess[j, 2],
            )
            beta, act, net = 1.0 / (1.0 + 2.0 * i_rented * rho), data.active[j, here], s.net[j, t, here]
            price, after, w_net = y[t, own + j], y[t + 1, own + j], w.net[j, t, here]
            for i in range(lanes):
                reach = 1.0 + act[i] * (beta - 1.0)
                moved = hat[t, 2 + j, i] + reach * i_rented * (e1j + e2j) * act[i] * price[i]
                theta = reach * nu[i] + rho * (moved - net[i])
                c = s_ren[t, 0, j, i] - i_rented * act[i] * (theta - e1j * price[i])
                d = s_ren[t, 1, j, i] + i_rented * act[i] * (theta - e2j * price[i])
                w_ren[t, 0, j, i], w_ren[t, 1, j, i], w_net[i] = c, d, c - d
                w_ren[t, 2, j, i] = s_ren[t, 2, j, i] - i_rented_content * (price[i] - keep * after[i])
