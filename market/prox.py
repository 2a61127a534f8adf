"""The other half of an iteration: every awkward term of the problem, in closed form.

Each function takes ``y = 2 w - s``, finds ``z = argmin term(z) + rho/2 (z - y)^2`` and moves ``s`` by ``alpha (z - w)``.

=================  =====================================================================================================
retail g           three pieces: ``y - buy/rho`` above 0, ``y - sell/rho`` below, else 0
meter m            the envelope, softened: outside of it ``y`` is pulled back by at most ``penalty/rho``
curtailment, own   clip, after the wear and the curvature
rented space       ``0 <= c, d <= right, e <= right``: projection on an epigraph.  The right is the root of a piecewise
                   linear, increasing, concave function; Newton's iterates rise to it from below and end exactly
exchange x         ``sum x = 0`` with a charge on purchases: one root per interval, by Newton inside a bracket
net                ``min <= sum n <= max``: all move alike
=================  =====================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.project import (
    BUY,
    CURVATURE,
    ENERGY,
    EXCHANGE,
    EXPORT,
    FAST,
    FLOW,
    IMPORT,
    METER,
    NET,
    POWER,
    PV,
    RELAX,
    RENTED_CONTENT,
    RENTED_FLOW,
    RETAIL,
    SELL,
    WITHDRAW,
)

if TYPE_CHECKING:
    from market.kernel import Data, Found, State

__all__ = ["prox", "prox_exchange", "prox_net"]

Floats = NDArray[np.float64]


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def prox(k: int, data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Do what concerns one tile alone."""
    _, steps, _, lanes = data.given.shape
    own, rented, cell, cell_r, const = (
        data.tiles[k, 0],
        data.tiles[k, 1],
        data.tiles[k, 2],
        data.tiles[k, 3],
        data.tiles[k, 5],
    )
    size, size_r = steps * own * lanes, steps * rented * lanes
    _agents(k, data, s, w, weights)
    if own > 0:
        bounds = data.bounds[4 * cell : 4 * (cell + size)].reshape((steps, 4, own * lanes))
        wear = data.constants[4 * const : 4 * (const + own * lanes)].reshape((4, own * lanes))[3]
        s_own = s.own[3 * cell : 3 * (cell + size)].reshape((steps, 3, own * lanes))
        w_own = w.own[3 * cell : 3 * (cell + size)].reshape((steps, 3, own * lanes))
        _stores(bounds, wear, s_own, w_own, weights)
    if rented > 0:
        s_ren = s.rented[3 * cell_r : 3 * (cell_r + size_r)].reshape((steps, 3, rented, lanes))
        w_ren = w.rented[3 * cell_r : 3 * (cell_r + size_r)].reshape((steps, 3, rented, lanes))
        for j in range(rented):
            _spaces(k, j, data, s, w, found, s_ren, w_ren, weights)


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _agents(k: int, data: Data, s: State, w: State, weights: Floats) -> None:
    """Retail, meter, curtailment."""
    _, steps, _, lanes = data.given.shape
    alpha, i_retail, pull = weights[RELAX], 1.0 / weights[RETAIL], data.penalty / weights[METER]
    for t in range(steps):
        buy, sell, pv = data.given[k, t, BUY], data.given[k, t, SELL], data.given[k, t, PV]
        least, most = data.given[k, t, EXPORT], data.given[k, t, IMPORT]
        s_t, w_t = s.agent[k, t], w.agent[k, t]
        for i in range(lanes):
            y = 2.0 * w_t[0, i] - s_t[0, i]
            z = max(y - buy[i] * i_retail, 0.0) + min(y - sell[i] * i_retail, 0.0)
            s_t[0, i] += alpha * (z - w_t[0, i])
        for i in range(lanes):
            y = 2.0 * w_t[1, i] - s_t[1, i]
            z = max(min(y, max(most[i], y - pull)), min(-least[i], y + pull))
            s_t[1, i] += alpha * (z - w_t[1, i])
        for i in range(lanes):
            y = 2.0 * w_t[2, i] - s_t[2, i]
            z = min(max(y, 0.0), pv[i])
            s_t[2, i] += alpha * (z - w_t[2, i])


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _stores(bounds: Floats, wear: Floats, s: Floats, w: Floats, weights: Floats) -> None:
    """Own stores; slots and lanes are one axis here."""
    steps, _, cells = bounds.shape
    alpha, rho, stiff = weights[RELAX], weights[FLOW], 1.0 / (weights[FLOW] + weights[CURVATURE])
    for t in range(steps):
        for q in range(2):
            most, s_q, w_q = bounds[t, q], s[t, q], w[t, q]
            for i in range(cells):
                z = min(max((rho * (2.0 * w_q[i] - s_q[i]) - wear[i]) * stiff, 0.0), most[i])
                s_q[i] += alpha * (z - w_q[i])
        least, most, s_q, w_q = bounds[t, 2], bounds[t, 3], s[t, 2], w[t, 2]
        for i in range(cells):
            z = min(max(2.0 * w_q[i] - s_q[i], least[i]), most[i])
            s_q[i] += alpha * (z - w_q[i])


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _spaces(
    k: int, j: int, data: Data, s: State, w: State, found: Found, s_ren: Floats, w_ren: Floats, weights: Floats,
) -> None:  # fmt: skip
    """Spaces rented in shared store j and, where they are free, the rights to them."""
    steps, _, _, lanes = s_ren.shape
    first, alpha, rho = k * lanes, weights[RELAX], weights[RENTED_FLOW]
    stiff, wear = 1.0 / (rho + weights[CURVATURE]), data.ess[j, 3]
    wish = np.empty((steps, 3, lanes))
    for t in range(steps):
        c, d, e, fee = wish[t, 0], wish[t, 1], wish[t, 2], data.given[k, t, WITHDRAW]
        for i in range(lanes):
            c[i] = (rho * (2.0 * w_ren[t, 0, j, i] - s_ren[t, 0, j, i]) - wear) * stiff
            d[i] = (rho * (2.0 * w_ren[t, 1, j, i] - s_ren[t, 1, j, i]) - wear - fee[i]) * stiff
            e[i] = 2.0 * w_ren[t, 2, j, i] - s_ren[t, 2, j, i]
    if data.renting:
        _rights(k, j, data, s, w, found, wish, weights)
    energy, power = found.held[0, j, first : first + lanes], found.held[1, j, first : first + lanes]
    final = data.edge[1, j, first : first + lanes]
    for t in range(steps):
        for q in range(2):
            for i in range(lanes):
                z, now = min(max(wish[t, q, i], 0.0), power[i]), w_ren[t, q, j, i]
                s_ren[t, q, j, i] += alpha * (z - now)
        last = t == steps - 1
        for i in range(lanes):
            z, now = final[i] if last else min(max(wish[t, 2, i], 0.0), energy[i]), w_ren[t, 2, j, i]
            s_ren[t, 2, j, i] += alpha * (z - now)


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def _rights(k: int, j: int, data: Data, s: State, w: State, found: Found, wish: Floats, weights: Floats) -> None:
    """Find the rights that go with the wishes, by Newton from where they were."""
    steps, _, lanes = wish.shape
    first, alpha = k * lanes, weights[RELAX]
    above, many = np.empty((2, lanes)), np.empty((2, lanes))
    right, goal = np.empty((2, lanes)), np.empty((2, lanes))
    for q in range(2):
        for i in range(lanes):
            right[q, i] = found.held[q, j, first + i]
            rent = data.rents[q, j, first + i] / weights[ENERGY + q]
            goal[q, i] = 2.0 * w.right[q, j, first + i] - s.right[q, j, first + i] - rent
    pull = (weights[RENTED_CONTENT] / weights[ENERGY], (weights[RENTED_FLOW] + weights[CURVATURE]) / weights[POWER])
    for _ in range(100):  # four at most were ever seen; every step but the last adds a kink
        above[:] = 0.0
        many[:] = 0.0
        for t in range(steps):
            if t < steps - 1:  # the last content is given
                for i in range(lanes):
                    over = 1.0 if wish[t, 2, i] > right[0, i] else 0.0
                    many[0, i] += over
                    above[0, i] += over * wish[t, 2, i]
            for q in range(2):
                for i in range(lanes):
                    over = 1.0 if wish[t, q, i] > right[1, i] else 0.0
                    many[1, i] += over
                    above[1, i] += over * wish[t, q, i]
        change = 0.0
        for q in range(2):
            for i in range(lanes):
                new = (goal[q, i] + pull[q] * above[q, i]) / (1.0 + pull[q] * many[q, i])
                new = max(new, data.edge[2 + q, j, first + i]) if data.active[j, first + i] > 0.0 else 0.0
                change = max(change, abs(new - right[q, i]))
                right[q, i] = new
        if change <= 1e-12:
            break
    for q in range(2):
        for i in range(lanes):
            now = w.right[q, j, first + i]
            found.held[q, j, first + i] = right[q, i]
            s.right[q, j, first + i] += alpha * (right[q, i] - now)


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def prox_exchange(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Clear the exchange in every interval: z = (rho y - price [+ charge]) / (rho + curvature), and sum z = 0."""
    if not data.trading:
        return
    alpha, rho, agents = weights[RELAX], weights[EXCHANGE], data.agents
    stiff = 1.0 / (rho + weights[CURVATURE])
    for t in range(data.charge.shape[0]):
        x, now, charge = s.exchange[t], w.exchange[t], data.charge[t]
        low, high, price = -np.inf, np.inf, found.price[t]
        for _ in range(200):
            total, many = 0.0, 0.0
            for i in range(agents):
                sale = rho * (2.0 * now[i] - x[i]) - price
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
            sale = rho * (2.0 * now[i] - x[i]) - price
            z = (max(sale, 0.0) + min(sale + charge[i], 0.0)) * stiff
            x[i] += alpha * (z - now[i])


@njit(cache=True, fastmath=FAST, error_model="numpy", nogil=True)
def prox_net(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Keep the net of every shared store inside its bounds, all tenants moving alike."""
    shared, positions = data.active.shape
    alpha, rho = weights[RELAX], weights[NET]
    for j in range(shared):
        active = data.active[j]
        many = active.sum()
        for t in range(data.net.shape[2]):
            if not data.bound_net[j, t] or many == 0.0:
                continue
            now, n = w.net[j, t], s.net[j, t]
            total = 0.0
            for i in range(positions):
                total += (2.0 * now[i] - n[i]) * active[i]
            shift = max(total - data.net[1, j, t], 0.0) + min(total - data.net[0, j, t], 0.0)
            shift /= many
            found.net_price[j, t] = rho * shift
            for i in range(positions):
                z = 2.0 * now[i] - n[i] - shift
                n[i] += alpha * (z - now[i]) * active[i]
