"""The other half of an iteration: what concerns many intervals or many agents at once, in closed form.

Each function takes ``y = 2 w - s``, finds ``z = argmin term(z) + rho/2 (z - y)^2`` and moves ``s`` by ``alpha (z - w)``.

=================  =====================================================================================================
rented spaces      ``0 <= c, d <= available right, e <= right``; where the rights are free a projection on an epigraph: the
                   right is the root of a piecewise linear, increasing, concave function; Newton's iterates rise to it from
                   below and end exactly
exchange x         ``sum x = 0`` with a charge on purchases: one root per interval, by Newton inside a bracket
net                ``min <= sum n <= max``: all move alike
=================  =====================================================================================================

What concerns one agent in one interval is in :func:`market.project.backward`, which has it at hand.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT_PART
from market.tiles import (
    CONTENT,
    CURVATURE,
    ENERGY,
    EXCHANGE,
    FLOW,
    NET,
    OWN,
    POWER,
    RELAX,
    SLOT,
    SLOTS,
    Data,
    Found,
    Room,
    State,
)
from market.vectors import choose, greatest, largest, load, nothing, smallest, store, sum_up, widen

__all__ = ["prox_exchange", "prox_net", "prox_spaces"]

Floats = NDArray[np.float64]

_BLOCK = 16  # tiles that are gone through for one interval after the other


@njit(**EXACT_PART)
def prox_spaces(k: int, data: Data, s: State, w: State, found: Found, weights: Floats, room: Room) -> None:
    """Rented spaces of a tile together with the rights to them."""
    tiles, shared, steps = data.tiles.shape[0], data.bound_net.shape[0], data.bound_net.shape[1]
    own, slots, alpha = data.tiles[k, OWN], data.tiles[k, SLOTS], weights[RELAX]
    wishes, s_store, first = room.wish, s.store, data.tiles[k, SLOT] * steps
    for j in range(shared):
        initial, final = load(data.edge, j * tiles + k), load(data.edge, (shared + j) * tiles + k)
        kept = 1.0
        for t in range(steps):  # contents are kept less what is there without any flow
            kept *= data.retention[j]
            wish = (t * shared + j) * 6 + 2
            store(wishes, wish, load(wishes, wish) + kept * initial)
        if data.renting:
            _rights(k, j, data, s, w, found, weights, room)
        energy, power = load(found.held, j * tiles + k), load(found.held, (shared + j) * tiles + k)
        kept = 1.0
        for t in range(steps):
            kept *= data.retention[j]
            wish, at = (t * shared + j) * 6, (first + t * slots + own + j) * 3
            most = data.available[j, t] * power
            for q in range(2):
                z = smallest(greatest(load(wishes, wish + q), 0.0), most)
                store(s_store, at + q, load(s_store, at + q) + alpha * (z - load(wishes, wish + 3 + q)))
            z = final
            if t < steps - 1:
                z = smallest(greatest(load(wishes, wish + 2), 0.0), energy)
            z = z - kept * initial
            store(s_store, at + 2, load(s_store, at + 2) + alpha * (z - load(wishes, wish + 5)))


@njit(**EXACT_PART)
def _rights(k: int, j: int, data: Data, s: State, w: State, found: Found, weights: Floats, room: Room) -> None:
    """Free rights of a tile in one shared store.

    For given wishes the right is the root of ``right - goal - pull sum available (wish - available right)+``, which is concave
    and increasing and has its kinks at the wishes: Newton's first step lands below the root, the others rise to it and pass a
    kink each.
    """
    tiles, shared, steps = data.tiles.shape[0], data.bound_net.shape[0], data.bound_net.shape[1]
    wishes, none = room.wish, nothing(s.right)
    pull = (weights[CONTENT] / weights[ENERGY], (weights[FLOW] + weights[CURVATURE]) / weights[POWER])
    for kind in range(2):  # energy, then power
        row = (kind * shared + j) * tiles + k
        least, active = load(data.edge, ((2 + kind) * shared + j) * tiles + k), load(data.active, j * tiles + k)
        right, at_right, held = load(s.right, row), load(w.right, row), load(found.held, row)
        goal = 2.0 * at_right - right - load(data.rents, row) / weights[ENERGY + kind]
        for _ in range(100):  # four at most were ever seen
            above = many = none
            if kind == 0:
                for t in range(steps - 1):  # the last content is given
                    want = load(wishes, (t * shared + j) * 6 + 2)
                    above += choose(want, held, want, 0.0)
                    many += choose(want, held, 1.0, 0.0)
            else:
                for t in range(steps):
                    share, wish = data.available[j, t], (t * shared + j) * 6
                    into, out = load(wishes, wish), load(wishes, wish + 1)
                    above += share * (choose(into, share * held, into, 0.0) + choose(out, share * held, out, 0.0))
                    many += choose(into, share * held, share * share, 0.0) + choose(
                        out, share * held, share * share, 0.0
                    )
            new = greatest((goal + pull[kind] * above) / (1.0 + pull[kind] * many), least)
            new = smallest(new, data.cap[kind, j]) * active
            change = greatest(new - held, held - new) - data.rounding * new
            held = new
            if largest(change) <= 0.0:
                break
        store(found.held, row, held)
        store(s.right, row, right + weights[RELAX] * (held - at_right))


@njit(**EXACT_PART)
def prox_exchange(
    data: Data, s: State, w: State, found: Found, weights: Floats, room: Room, start: int, stop: int
) -> None:
    """Clear the exchange in some intervals: z = (rho y - price [+ charge]) / (rho + curvature), and sum z = 0.

    All intervals take their Newton steps together, so that the tiles are gone through in the order in which they lie.
    """
    rows, charge, s_exchange, w_exchange, heres, market, sums = (
        data.rows, data.charge, s.exchange, w.exchange, data.here, room.market, room.sums
    )  # fmt: skip
    alpha, rho, tiles, steps = weights[RELAX], weights[EXCHANGE], data.tiles.shape[0], data.bound_net.shape[1]
    stiff, rounded = 1.0 / (rho + weights[CURVATURE]), np.empty(1, data.here.dtype)
    if not data.trading or stop <= start:
        return
    price, low, high, enough = np.empty(steps), np.empty(steps), np.empty(steps), np.empty(steps)
    wanting, left = np.empty(steps, np.int64), stop - start
    none = widen(nothing(heres))
    for t in range(start, stop):
        rounded[0] = found.price[t]
        price[t], low[t], high[t], wanting[t - start] = rounded[0], -np.inf, np.inf, t
        store(sums, 3 * t + 2, none)
    for turn in range(200):
        for q in range(left):
            store(sums, 3 * wanting[q], none)
            store(sums, 3 * wanting[q] + 1, none)
        for first in range(0, tiles, _BLOCK):
            last = min(first + _BLOCK, tiles)
            for q in range(left):
                t = wanting[q]
                total, many, size = load(sums, 3 * t), nothing(heres), none
                for k in range(first, last):
                    here, at = load(heres, k), k * steps + t
                    if turn == 0:
                        wish = rho * (2.0 * load(w_exchange, at) - load(s_exchange, at)) * here
                        size += widen(greatest(wish, -1.0 * wish))
                        store(market, at, wish)
                    sale = load(market, at) - price[t]
                    purchase = sale + load(rows, charge[at])
                    total += widen(here * (greatest(sale, 0.0) + smallest(purchase, 0.0)))
                    many += here * choose(sale, 0.0, 1.0, choose(0.0, purchase, 1.0, 0.0))
                store(sums, 3 * t, total)
                store(sums, 3 * t + 1, load(sums, 3 * t + 1) + widen(many))
                if turn == 0:
                    store(sums, 3 * t + 2, load(sums, 3 * t + 2) + size)
        more = 0
        for q in range(left):
            t = wanting[q]
            if turn == 0:
                enough[t] = data.rounding * sum_up(load(sums, 3 * t + 2))
            off, count = sum_up(load(sums, 3 * t)), sum_up(load(sums, 3 * t + 1))
            if abs(off) <= enough[t] or count == 0.0:
                continue
            if off > 0.0:
                low[t] = price[t]
            else:
                high[t] = price[t]
            step = price[t] + off / count
            if not low[t] < step < high[t]:
                step = 0.5 * (low[t] + high[t])
            rounded[0] = step
            if rounded[0] != price[t]:
                price[t] = rounded[0]
                wanting[more] = t
                more += 1
        left = more
        if left == 0:
            break
    for t in range(start, stop):
        found.price[t] = price[t]
    for k in range(tiles):
        here, row = load(heres, k), k * steps
        for t in range(start, stop):
            sale, now = load(market, row + t) - price[t], load(w_exchange, row + t)
            z = greatest(sale, 0.0) + smallest(sale + load(rows, charge[row + t]), 0.0)
            z = z * here * stiff
            store(s_exchange, row + t, load(s_exchange, row + t) + alpha * (z - now))


@njit(**EXACT_PART)
def prox_net(data: Data, s: State, w: State, found: Found, weights: Floats, start: int, stop: int) -> None:
    """Keep the net of every shared store inside its bounds in some intervals, all tenants moving alike."""
    tiles, shared, steps = data.tiles.shape[0], data.bound_net.shape[0], data.bound_net.shape[1]
    actives, s_net, w_net = data.active, s.net, w.net
    alpha, rho = weights[RELAX], weights[NET]
    for j in range(shared):
        for t in range(start, stop):
            if data.bound_net[j, t] and not data.netted[j]:
                row, total, many = (j * steps + t) * tiles, widen(nothing(s_net)), widen(nothing(s_net))
                for k in range(tiles):
                    active = widen(load(actives, j * tiles + k))
                    total += (2.0 * widen(load(w_net, row + k)) - widen(load(s_net, row + k))) * active
                    many += active
                wanted, count = sum_up(total), sum_up(many)
                if count == 0.0:
                    continue
                shift = (max(wanted - data.net[1, j, t], 0.0) + min(wanted - data.net[0, j, t], 0.0)) / count
                found.net_price[j, t] = rho * shift
                for k in range(tiles):
                    now, before = load(w_net, row + k), load(s_net, row + k)
                    store(s_net, row + k, before + alpha * (now - before - shift) * load(actives, j * tiles + k))
