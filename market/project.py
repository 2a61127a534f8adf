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

:func:`backward` knows w of everything in an interval while it is there, so it goes on and moves s for all that concerns one
agent and one interval alone::

    retail g           three pieces: y - buy/rho above 0, y - sell/rho below, else 0, with y = 2 w - s
    meter m            the envelope, softened: outside of it y is pulled back by at most penalty/rho
    curtailment,       clip, after the wear and the curvature
    own stores
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART
from market.tiles import (
    BASE,
    BUY,
    CONTENT,
    CURTAIL,
    CURVATURE,
    ENERGY,
    EXCHANGE,
    EXPORT,
    FLOW,
    GIVEN,
    IMPORT,
    METER,
    NET,
    OWN,
    OWNED,
    PAIR,
    PV,
    RELAX,
    RETAIL,
    SELL,
    SLOT,
    SLOTS,
    WITHDRAW,
    Data,
    Factors,
    Found,
    Room,
    Rows,
    State,
)
from market.vectors import choose, greatest, load, nothing, same, smallest, store, sum_up, widen

__all__ = ["backward", "factor", "forward", "share_rights"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def factor(data: Data, weights: Floats, factors: Factors, room: Room) -> None:
    """Fill ``factors`` for these weights; reckoned in double precision."""
    tiles, steps = data.tiles.shape[0], data.bound_net.shape[1]
    i_curtail, i_flow, i_content = 1.0 / weights[CURTAIL], 1.0 / weights[FLOW], 1.0 / weights[CONTENT]
    i_free = 1.0 / weights[RETAIL] + (1.0 / weights[EXCHANGE] if data.trading else 0.0)
    block, none, used = room.block, widen(nothing(data.rows)), 0
    for k in range(tiles):
        own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
        pairs, square, constant = slots * (slots + 1) // 2, slots * slots, data.tiles[k, SLOT] * 4
        k1, k2, reach = 2 * square, 2 * square + slots, 2 * square + 2 * slots  # rows of the paper
        for t in range(steps):
            at, blocks = k * steps + t, data.tiles[k, PAIR] * steps + t * pairs
            now, before = (t % 2) * square, (1 - t % 2) * square
            given = at * GIVEN
            give, total = choose(widen(load(data.rows, data.given[given + PV])), 0.0, i_curtail, 0.0), none + i_free
            for a in range(slots):
                e1, e2 = (
                    widen(load(data.constants, constant + 4 * a)),
                    widen(load(data.constants, constant + 4 * a + 1)),
                )
                rho = 0.0
                if a < own:
                    bounds = ((data.tiles[k, OWNED] * steps + t * own) + a) * 4
                    into = choose(widen(load(data.rows, data.bounds[bounds])), 0.0, i_flow, 0.0)
                    out = choose(widen(load(data.rows, data.bounds[bounds + 1])), 0.0, i_flow, 0.0)
                    give = give + into + out
                else:
                    into = out = i_flow * widen(load(data.active, (a - own) * tiles + k))
                    rho = weights[NET] if data.bound_net[a - own, t] else 0.0
                beta = 1.0 / (1.0 + (into + out) * rho)
                store(block, k1 + a, into * e1 + out * e2)
                store(block, k2 + a, into * e1 * e1 + out * e2 * e2)
                store(block, reach + a, beta)
                if a >= own:
                    total = total + (into + out) * beta
            finite = smallest(
                widen(load(data.rows, data.given[given + IMPORT])), widen(load(data.rows, data.given[given + EXPORT]))
            )
            meter = choose(np.inf, finite, weights[METER], 0.0)
            gamma = 1.0 / (1.0 + meter * give)
            kappa = 1.0 / (total + gamma * give)
            store(factors.step, used, kappa)
            store(factors.step, used + 1, gamma)
            factors.at[at] = used
            if t > 0 and same(factors.step, used, used - 2) and same(factors.step, used + 1, used - 1):
                factors.at[at] = used - 2
            else:
                used += 2
            for a in range(slots):
                reach_a = gamma if a < own else load(block, reach + a)
                kept_a = widen(load(data.constants, constant + 4 * a + 2))
                for b in range(a + 1):
                    coupling = reach_a * (gamma if b < own else load(block, reach + b)) * kappa
                    if a < own:
                        coupling = coupling + gamma * meter
                    elif a == b and data.bound_net[a - own, t]:
                        coupling = coupling + weights[NET] * reach_a
                    entry = -1.0 * load(block, k1 + a) * load(block, k1 + b) * coupling
                    if a == b:
                        entry = entry + load(block, k2 + a) + i_content
                    if t > 0:
                        kept = kept_a * widen(load(data.constants, constant + 4 * b + 2)) * i_content
                        entry = entry - kept * i_content * load(block, before + a * slots + b)
                        if a == b:
                            entry = entry + kept
                    store(block, now + a * slots + b, entry)
                    store(block, now + b * slots + a, entry)
            _invert(block, now, slots)
            for a in range(slots):
                for b in range(a + 1):
                    store(factors.blocks, blocks + a * (a + 1) // 2 + b, load(block, now + a * slots + b))


@njit(**EXACT_PART)
def _invert(block: Floats, now: int, slots: int) -> None:
    """Invert symmetric positive definite blocks in place, all lanes at once (Gauss-Jordan needs no pivoting there)."""
    for p in range(slots):
        pivot = 1.0 / load(block, now + p * slots + p)
        for b in range(slots):
            if b != p:
                store(block, now + p * slots + b, load(block, now + p * slots + b) * pivot)
        for a in range(slots):
            if a != p:
                here = load(block, now + a * slots + p)
                for b in range(slots):
                    if b != p:
                        entry = load(block, now + a * slots + b) - here * load(block, now + p * slots + b)
                        store(block, now + a * slots + b, entry)
                store(block, now + a * slots + p, -1.0 * here * pivot)
        store(block, now + p * slots + p, pivot)


@njit(**EXACT_PART)
def share_rights(data: Data, s: State, w: State, found: Found, weights: Floats) -> None:
    """Project the rights on their sums, which netted stores do not have: of what is wanted beyond the offer all give way alike."""
    tiles, shared = data.tiles.shape[0], data.bound_net.shape[0]
    for j in range(shared if data.renting else 0):
        for kind in range(2):
            row, total, many = (kind * shared + j) * tiles, widen(nothing(s.right)), widen(nothing(s.right))
            for k in range(tiles):
                active = widen(load(data.active, j * tiles + k))
                total += widen(load(s.right, row + k)) * active
                many += active
            excess = max(0.0, sum_up(total) - data.offers[kind, j]) / max(sum_up(many), 1.0)
            if data.netted[j]:
                excess = 0.0
            found.scarcity[kind, j] = weights[ENERGY + kind] * excess
            for k in range(tiles):
                store(w.right, row + k, (load(s.right, row + k) - excess) * load(data.active, j * tiles + k))


@njit(inline="always", **EXACT_PART)
def forward(k: int, data: Data, s: State, factors: Factors, weights: Floats, room: Room) -> None:
    """Fill the room's ``y`` with the forward half of a tile's solve and ``hat`` with what the s alone give."""
    rows, given, bounds, constants, active, bound_net = (
        data.rows, data.given, data.bounds, data.constants, data.active, data.bound_net
    )  # fmt: skip
    s_agent, s_store, s_exchange, s_net = s.agent, s.store, s.exchange, s.net
    step, where, y, hat, right = factors.step, factors.at, room.y, room.hat, room.right
    tiles, shared, steps = data.tiles.shape[0], bound_net.shape[0], bound_net.shape[1]
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    pairs, constant = slots * (slots + 1) // 2, data.tiles[k, SLOT] * 4
    first, first_own, first_pair = (
        data.tiles[k, SLOT] * steps,
        data.tiles[k, OWNED] * steps,
        data.tiles[k, PAIR] * steps,
    )
    i_flow, i_content, rho_meter, rho_net = 1.0 / weights[FLOW], 1.0 / weights[CONTENT], weights[METER], weights[NET]
    for t in range(steps):
        at, stores = k * steps + t, (first + t * slots) * 3
        limits, hats = (first_own + t * own) * 4, t * (2 + shared)
        limit, curtail = load(s_agent, 3 * at + 1), load(s_agent, 3 * at + 2)
        kappa, gamma = load(step, where[at]), load(step, where[at] + 1)
        meter = load(rows, given[at * GIVEN + BASE]) + curtail
        for a in range(own):
            meter = meter + (load(s_store, stores + 3 * a) - load(s_store, stores + 3 * a + 1))
        total = load(s_exchange, at) + gamma * meter + (1.0 - gamma) * limit - load(s_agent, 3 * at)
        for a in range(own, slots):
            j = a - own
            n = load(s_store, stores + 3 * a) - load(s_store, stores + 3 * a + 1)
            if bound_net[j, t]:
                give = 2.0 * i_flow * rho_net * load(active, j * tiles + k)
                n = (n + give * load(s_net, (j * steps + t) * tiles + k)) / (1.0 + give)
            store(hat, hats + 2 + j, n)
            total = total + n
        nu, mu = kappa * total, choose(1.0, gamma, gamma * rho_meter, 0.0) * (meter - limit)
        store(hat, hats, nu)
        store(hat, hats + 1, mu)
        price = gamma * nu + mu
        for a in range(slots):
            e1, e2 = load(constants, constant + 4 * a), load(constants, constant + 4 * a + 1)
            if a < own:
                into = choose(load(rows, bounds[limits + 4 * a]), 0.0, i_flow, 0.0)
                out = choose(load(rows, bounds[limits + 4 * a + 1]), 0.0, i_flow, 0.0)
                p = price
            else:
                j = a - own
                into = out = i_flow * load(active, j * tiles + k)
                p = nu
                if bound_net[j, t]:
                    n = load(hat, hats + 2 + j) - load(s_net, (j * steps + t) * tiles + k)
                    p = nu / (1.0 + (into + out) * rho_net) + rho_net * n
            c, d, e = (
                load(s_store, stores + 3 * a),
                load(s_store, stores + 3 * a + 1),
                load(s_store, stores + 3 * a + 2),
            )
            side = e - e1 * c + e2 * d + (e1 * into + e2 * out) * p
            if t > 0:
                before = load(s_store, stores - 3 * slots + 3 * a + 2)
                side = side + load(constants, constant + 4 * a + 2) * (
                    i_content * load(y, (t - 1) * slots + a) - before
                )
            store(right, a, side)
        _apply(factors.blocks, first_pair + t * pairs, slots, right, y, t * slots, False)


@njit(inline="always", **EXACT_PART)
def _apply(blocks: Rows, block: int, slots: int, right: Rows, y: Rows, to: int, add: bool) -> None:
    """Set or add to the rows of ``y`` from ``to`` on the inverse block times the right-hand sides."""
    for a in range(slots):
        out = load(blocks, block + a * (a + 1) // 2) * load(right, 0)
        for b in range(1, a + 1):
            out = out + load(blocks, block + a * (a + 1) // 2 + b) * load(right, b)
        for b in range(a + 1, slots):
            out = out + load(blocks, block + b * (b + 1) // 2 + a) * load(right, b)
        if add:
            out = out + load(y, to + a)
        store(y, to + a, out)


@njit(inline="always", **EXACT_PART)
def backward(k: int, data: Data, s: State, w: State, factors: Factors, weights: Floats, room: Room, keep: bool) -> None:
    """Finish a tile's solve for ``y``, take w from it by (2) to (4), and move s by the closed forms.

    It is one long function because cut into parts, inlined all the same, an iteration takes twice as long: vectors that go
    from one part to another go through memory.
    """
    rows, given, bounds, constants, active, bound_net = (
        data.rows, data.given, data.bounds, data.constants, data.active, data.bound_net
    )  # fmt: skip
    s_agent, s_store, s_exchange, s_net = s.agent, s.store, s.exchange, s.net
    w_agent, w_store, w_exchange, w_net = w.agent, w.store, w.exchange, w.net
    step, where, blocks, ys, hat, right, wishes = (
        factors.step, factors.at, factors.blocks, room.y, room.hat, room.right, room.wish
    )  # fmt: skip
    tiles, shared, steps = data.tiles.shape[0], bound_net.shape[0], bound_net.shape[1]
    own, slots = data.tiles[k, OWN], data.tiles[k, SLOTS]
    pairs, constant = slots * (slots + 1) // 2, data.tiles[k, SLOT] * 4
    first, first_own, first_pair = (
        data.tiles[k, SLOT] * steps,
        data.tiles[k, OWNED] * steps,
        data.tiles[k, PAIR] * steps,
    )
    i_retail, i_curtail, i_flow, i_content = (
        1.0 / weights[RETAIL],
        1.0 / weights[CURTAIL],
        1.0 / weights[FLOW],
        1.0 / weights[CONTENT],
    )
    i_exchange, pull = 1.0 / weights[EXCHANGE] if data.trading else 0.0, data.penalty / weights[METER]
    alpha, rho, stiff = weights[RELAX], weights[FLOW], 1.0 / (weights[FLOW] + weights[CURVATURE])
    rho_meter, rho_net = weights[METER], weights[NET]
    none = nothing(s_agent)
    for a in range(slots):
        store(ys, steps * slots + a, none)
        store(right, a, none)
    for t in range(steps - 1, -1, -1):
        at, stores = k * steps + t, (first + t * slots) * 3
        limits, hats, here_given = (first_own + t * own) * 4, t * (2 + shared), at * GIVEN
        _apply(blocks, first_pair + t * pairs, slots, right, ys, t * slots, True)
        own_up = nu = none
        for a in range(slots):
            e1, e2 = load(constants, constant + 4 * a), load(constants, constant + 4 * a + 1)
            y = load(ys, t * slots + a)
            if a < own:
                into = choose(load(rows, bounds[limits + 4 * a]), 0.0, i_flow, 0.0)
                out = choose(load(rows, bounds[limits + 4 * a + 1]), 0.0, i_flow, 0.0)
                own_up = own_up + (e1 * into + e2 * out) * y
            else:
                into = i_flow * load(active, (a - own) * tiles + k)
                rise = (e1 + e2) * into * y
                if bound_net[a - own, t]:
                    rise = rise / (1.0 + 2.0 * into * rho_net)
                nu = nu + rise
        kappa, gamma = load(step, where[at]), load(step, where[at] + 1)
        nu = load(hat, hats) + kappa * (nu + gamma * own_up)
        price = gamma * nu + load(hat, hats + 1) + choose(1.0, gamma, gamma * rho_meter, 0.0) * own_up
        store(w_exchange, at, load(s_exchange, at) - i_exchange * nu)
        # retail and curtailment
        before, pv = load(s_agent, 3 * at), load(rows, given[here_given + PV])
        here = before + i_retail * nu
        y = here + i_retail * nu
        z = greatest(y - load(rows, given[here_given + BUY]) * i_retail, 0.0)
        z = z + smallest(y - load(rows, given[here_given + SELL]) * i_retail, 0.0)
        store(s_agent, 3 * at, before + alpha * (z - here))
        if keep:
            store(w_agent, 3 * at, here)
        before = load(s_agent, 3 * at + 2)
        here = before - choose(pv, 0.0, i_curtail, 0.0) * price
        z = smallest(greatest(2.0 * here - before, 0.0), pv)
        store(s_agent, 3 * at + 2, before + alpha * (z - here))
        if keep:
            store(w_agent, 3 * at + 2, here)
        meter = load(rows, given[here_given + BASE]) + here
        # stores
        for a in range(slots):
            e1, e2, kept = (
                load(constants, constant + 4 * a),
                load(constants, constant + 4 * a + 1),
                load(constants, constant + 4 * a + 2),
            )
            y, after = load(ys, t * slots + a), load(ys, (t + 1) * slots + a)
            c, d, e = (
                load(s_store, stores + 3 * a),
                load(s_store, stores + 3 * a + 1),
                load(s_store, stores + 3 * a + 2),
            )
            here_e = e - i_content * (y - kept * after)
            store(right, a, i_content * kept * y)  # what the interval before this one will need
            wear = load(constants, constant + 4 * a + 3)
            if a < own:
                limit = limits + 4 * a
                c_max, d_max = load(rows, bounds[limit]), load(rows, bounds[limit + 1])
                here_c = c - choose(c_max, 0.0, i_flow, 0.0) * (price - e1 * y)
                here_d = d + choose(d_max, 0.0, i_flow, 0.0) * (price - e2 * y)
                meter = meter + (here_c - here_d)
                z = smallest(greatest((rho * (2.0 * here_c - c) - wear) * stiff, 0.0), c_max)
                store(s_store, stores + 3 * a, c + alpha * (z - here_c))
                z = smallest(greatest((rho * (2.0 * here_d - d) - wear) * stiff, 0.0), d_max)
                store(s_store, stores + 3 * a + 1, d + alpha * (z - here_d))
                z = greatest(2.0 * here_e - e, load(rows, bounds[limit + 2]))
                z = smallest(z, load(rows, bounds[limit + 3]))
                store(s_store, stores + 3 * a + 2, e + alpha * (z - here_e))
            else:
                j = a - own
                into = i_flow * load(active, j * tiles + k)
                p = nu
                if bound_net[j, t]:
                    beta = 1.0 / (1.0 + 2.0 * into * rho_net)
                    n = load(hat, hats + 2 + j) + beta * (e1 + e2) * into * y
                    p = beta * nu + rho_net * (n - load(s_net, (j * steps + t) * tiles + k))
                here_c, here_d = c - into * (p - e1 * y), d + into * (p - e2 * y)
                if bound_net[j, t]:
                    store(w_net, (j * steps + t) * tiles + k, here_c - here_d)
                wish, fee = (t * shared + j) * 6, wear + load(rows, given[here_given + WITHDRAW])
                store(wishes, wish, (rho * (2.0 * here_c - c) - wear) * stiff)
                store(wishes, wish + 1, (rho * (2.0 * here_d - d) - fee) * stiff)
                store(wishes, wish + 2, 2.0 * here_e - e)
                store(wishes, wish + 3, here_c)
                store(wishes, wish + 4, here_d)
                store(wishes, wish + 5, here_e)
            if keep:
                store(w_store, stores + 3 * a, here_c)
                store(w_store, stores + 3 * a + 1, here_d)
                store(w_store, stores + 3 * a + 2, here_e)
        # the meter, of which the stores are a part
        before = load(s_agent, 3 * at + 1)
        y, least = 2.0 * meter - before, load(rows, given[here_given + EXPORT])
        z = greatest(load(rows, given[here_given + IMPORT]), y - pull)
        z = greatest(smallest(y, z), smallest(-1.0 * least, y + pull))
        store(s_agent, 3 * at + 1, before + alpha * (z - meter))
        if keep:
            store(w_agent, 3 * at + 1, meter)
