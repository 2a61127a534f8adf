"""The inner loop of a bilateral market of any partner graph, with own stores: an alternating-direction method, compiled.

Every pair has two halves, one number ``s`` each; a store has one per charge, discharge and content.  With y = 2w - s::

    w = what is consistent:  w_ij = -w_ji = (s_ij - s_ji) / 2,  contents follow flows (a tridiagonal system per store)
    z = what the agents want at y;   s <- s + alpha (z - w)                                                        (1)

so ``y_ij = -s_ji``: an agent needs of a pair only the partner's number.  Its wish is one scalar root theta, its marginal
value over rho; with soft(v, c) = max(v - c, 0) + min(v + c, 0)::

    sum_j clip(soft(y_ij - theta, c/rho)) + sum (c - d) = clip((theta - b/rho) rho/a, p_min, p_max)                (2)
    c = clip(y_c - theta - wear/rho),  d = clip(y_d + theta - wear/rho),  contents are clipped

All numbers of a pair are kept over its ``weight``, so that rho over the weight is its penalty, the same at both ends; those of
a store over the store's.  Weights appear in the sums of (2) alone, times each term.

The left side falls and is piecewise linear: Newton's steps, each of which solves one piece of the left with all three of
the right, inside a bracket that is halved where a step leaves it.  Old and new numbers are kept apart, so the order of the
agents does not matter.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART

__all__ = ["CONTENT", "advance", "rescale", "reweigh"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CONTENT = 0.3  # weight of a content against a power
B, SLOPE, LEAST, MOST = range(4)  # an agent's rows
CHARGE, DISCHARGE, ENERGY = range(3)  # a store's numbers
CHARGE_MAX, DISCHARGE_MAX, LOWER, UPPER, RIGHT = range(5)  # a store's limits, and its equations' right side
INTO, OUT, KEPT, WEAR = range(4)  # a store's constants


@njit(**EXACT)
def follow(constants: Floats, limits: Floats, s: Floats, w: Floats) -> None:
    """Fill ``w`` with the flows and contents nearest to ``s`` that satisfy every store's equations."""
    stores, _, steps = s.shape
    soft = 1.0 / CONTENT
    pivot, y = np.empty(steps), np.empty(steps + 1)
    for a in range(stores):
        e1, e2, kept = constants[a, INTO], constants[a, OUT], constants[a, KEPT]
        c, d, e = s[a, CHARGE], s[a, DISCHARGE], s[a, ENERGY]
        flow = e1 * e1 + e2 * e2
        for t in range(steps):
            y[t] = limits[a, RIGHT, t] - e[t] + e1 * c[t] - e2 * d[t]
            pivot[t] = soft + flow
            if t > 0:
                y[t] += kept * e[t - 1]
                factor = -kept * soft / pivot[t - 1]
                pivot[t] += kept * kept * soft + factor * kept * soft
                y[t] -= factor * y[t - 1]
        y[steps] = 0.0
        for t in range(steps - 1, -1, -1):
            y[t] = (y[t] + (kept * soft * y[t + 1] if t + 1 < steps else 0.0)) / pivot[t]
        for t in range(steps):
            w[a, CHARGE, t] = c[t] - e1 * y[t]
            w[a, DISCHARGE, t] = d[t] + e2 * y[t]
            w[a, ENERGY, t] = e[t] + soft * (y[t] - kept * y[t + 1])


@njit(**EXACT_PART)
def _side(
    wish: Floats, fee: Floats, weight: Floats, low: Floats, high: Floats, begin: int, count: int, store_wish: Floats,
    wear: Floats, heavy: Floats, limits: Floats, first: int, last: int, theta: Floats, total: Floats, many: Floats,
) -> None:  # fmt: skip
    """Fill ``total`` with the left side of (2) at theta and ``many`` with minus its slope."""
    steps = theta.shape[0]
    for t in range(steps):
        total[t] = many[t] = 0.0
    for q in range(count):
        y, c, w, least, most = wish[q], fee[q], weight[begin + q], low[begin + q], high[begin + q]
        for t in range(steps):
            v = y[t] - theta[t]
            sale, purchase = max(v - c[t], 0.0), min(v + c[t], 0.0)
            total[t] += w * (min(sale, most[t]) + max(purchase, least[t]))
            many[t] += w if 0.0 < sale < most[t] or least[t] < purchase < 0.0 else 0.0
    for a in range(first, last):
        y_c, y_d, most_c, most_d = (
            store_wish[a, CHARGE],
            store_wish[a, DISCHARGE],
            limits[a, CHARGE_MAX],
            limits[a, DISCHARGE_MAX],
        )
        w = heavy[a]
        for t in range(steps):
            c, d = y_c[t] - theta[t] - wear[a, t], y_d[t] + theta[t] - wear[a, t]
            total[t] += w * (min(max(c, 0.0), most_c[t]) - min(max(d, 0.0), most_d[t]))
            many[t] += (w if 0.0 < c < most_c[t] else 0.0) + (w if 0.0 < d < most_d[t] else 0.0)


@njit(**EXACT_PART)
def _root(
    wish: Floats, fee: Floats, weight: Floats, low: Floats, high: Floats, begin: int, count: int, store_wish: Floats,
    wear: Floats, heavy: Floats, limits: Floats, first: int, last: int, agent: Floats, tiny: Floats, share: float,
    theta: Floats, scratch: Floats,
) -> None:  # fmt: skip
    """Move ``theta`` to the root of (2), all lanes at once."""
    steps = theta.shape[0]
    total, many, floor, roof = scratch[0], scratch[1], scratch[2], scratch[3]
    b, slope, least, most = agent[B], agent[SLOPE], agent[LEAST], agent[MOST]
    for t in range(steps):
        floor[t], roof[t] = -np.inf, np.inf
    stride = 1.0
    for _ in range(200):
        _side(
            wish, fee, weight, low, high, begin, count, store_wish, wear, heavy, limits, first, last, theta, total, many
        )
        moved = 0
        for t in range(steps):
            old, x, k = theta[t], total[t], many[t]
            p = min(max((x + k * (old - b[t])) / (1.0 + slope[t] * k), least[t]), most[t])
            if old < b[t] + slope[t] * least[t]:
                have = least[t]
            elif old > b[t] + slope[t] * most[t]:
                have = most[t]
            else:
                have = (old - b[t]) / slope[t] if slope[t] > 0.0 else min(max(x, least[t]), most[t])
            over = x - have
            if over > 0.0:
                floor[t] = old
            elif over < 0.0:
                roof[t] = old
            new = old + (x - p) / k if k > 0.0 else b[t] + slope[t] * p
            if abs(over) <= 1e-3 * share * tiny[t] or (k > 0.0 and abs(new - old) <= 1e-15 * abs(old) + 1e-3 * tiny[t]):
                new = old  # it is the root, up to rounding
            elif not floor[t] < new < roof[t]:
                if floor[t] > -np.inf and roof[t] < np.inf:
                    new = 0.5 * (floor[t] + roof[t])
                elif over > 0.0:
                    new = old + stride * (abs(old) + 1e3 * tiny[t] + abs(over) / share)
                else:
                    new = old - stride * (abs(old) + 1e3 * tiny[t] + abs(over) / share)
            moved += 1 if new != old else 0
            theta[t] = new
        stride *= 2.0
        if moved == 0:
            break


@njit(**EXACT_PART)
def _agents(
    starts: Integers, mate: Integers, partner: Integers, weight: Floats, charge: Floats, inverse: Floats, low: Floats,
    high: Floats, agents: Floats, theta: Floats, tiny: Floats, share: Floats, usual: Floats, owned: Integers, heavy: Floats,
    constants: Floats, limits: Floats, s: Floats, out: Floats, stored: Floats, consistent: Floats, stored_out: Floats,
    alpha: float, norms: Floats, measure: bool,
) -> None:  # fmt: skip
    """Let every agent wish; fill ``out`` and ``stored_out`` with s after the step, or with z where alpha is 0."""
    steps, largest = tiny.shape[0], 1
    for i in range(starts.size - 1):
        largest = max(largest, starts[i + 1] - starts[i])
    wish, fee, scratch = np.empty((largest, steps)), np.empty((largest, steps)), np.empty((4, steps))
    store_wish = 2.0 * consistent - stored
    wear = np.empty((constants.shape[0], steps))
    open_kw = np.zeros(theta.shape) if measure else np.zeros((0, steps))
    gross = np.zeros_like(open_kw)
    for a in range(constants.shape[0]):
        for t in range(steps):
            wear[a, t] = constants[a, WEAR] * inverse[t]
    wide = charge.shape[1] > 1
    for i in range(starts.size - 1):
        begin, count, first, last = starts[i], starts[i + 1] - starts[i], owned[i], owned[i + 1]
        for q in range(count):
            other, y, c, each = s[mate[begin + q]], wish[q], fee[q], charge[begin + q]
            for t in range(steps):
                y[t] = -other[t]
                c[t] = each[t if wide else 0] * inverse[t]
        _root(
            wish, fee, weight, low, high, begin, count, store_wish, wear, heavy, limits, first, last, agents[i], tiny, share[i],
            theta[i], scratch,
        )  # fmt: skip
        price = theta[i]
        for q in range(count):
            r = begin + q
            y, c, least, most, mine, new, m = wish[q], fee[q], low[r], high[r], s[r], out[r], weight[r]
            for t in range(steps):
                v = y[t] - price[t]
                z = min(max(v - c[t], 0.0), most[t]) + max(min(v + c[t], 0.0), least[t])
                w = 0.5 * (mine[t] + y[t])
                new[t] = mine[t] + alpha * (z - w) if alpha > 0.0 else z
                if measure:
                    off, agreed = z - w, 0.5 * (y[t] - mine[t])
                    norms[0, t] += m * off * off
                    norms[1, t] += m * w * w
                    norms[2, t] += m * z * z
                    norms[3, t] += m * agreed
                    norms[4, t] += m * agreed * agreed
                    norms[6, t] = max(norms[6, t], 2.0 * abs(off))
                    gross[i, t] += m * abs(z)
                    open_kw[i, t] += m * off
                    open_kw[partner[r], t] += m * off
        for a in range(first, last):
            for t in range(steps):
                c = min(max(store_wish[a, CHARGE, t] - price[t] - wear[a, t], 0.0), limits[a, CHARGE_MAX, t])
                d = min(max(store_wish[a, DISCHARGE, t] + price[t] - wear[a, t], 0.0), limits[a, DISCHARGE_MAX, t])
                e = min(max(store_wish[a, ENERGY, t], limits[a, LOWER, t]), limits[a, UPPER, t])
                for kind, z in ((CHARGE, c), (DISCHARGE, d), (ENERGY, e)):
                    off = z - consistent[a, kind, t]
                    stored_out[a, kind, t] = stored[a, kind, t] + alpha * off if alpha > 0.0 else z
                    if measure:
                        norms[0, t] += heavy[a] * off * off
                        norms[1, t] += heavy[a] * consistent[a, kind, t] ** 2
                        norms[2, t] += heavy[a] * z * z
    if measure:
        for i in range(starts.size - 1):
            for t in range(steps):
                norms[5, t] = max(norms[5, t], abs(open_kw[i, t]) / max(usual[i], gross[i, t]))


@njit(**EXACT)
def advance(
    iterations: int, starts: Integers, mate: Integers, partner: Integers, weight: Floats, charge: Floats, inverse: Floats,
    low: Floats, high: Floats, agents: Floats, theta: Floats, tiny: Floats, share: Floats, usual: Floats, owned: Integers,
    heavy: Floats, constants: Floats, limits: Floats, s: Floats, other: Floats, stored: Floats, consistent: Floats,
    alpha: float, norms: Floats,
) -> None:  # fmt: skip
    """Do an even number of iterations of (1) and measure the last.

    Or, once and with alpha 0, fill ``other`` and ``stored`` with what the agents want, z.

    ``norms`` (7, lanes) gets the weighted sums of (z - w)^2, w^2, z^2 over everything, of price and price^2 over the halves,
    the largest relative imbalance of an agent and the largest difference of the two ends' prices over rho.  An imbalance is
    relative to what the agent trades, and to its ``usual`` power where that is more; ``share`` is that over what is typical.
    """
    norms[:] = 0.0
    for k in range(iterations):
        follow(constants, limits, stored, consistent)
        old, new = (s, other) if k % 2 == 0 else (other, s)
        _agents(starts, mate, partner, weight, charge, inverse, low, high, agents, theta, tiny, share, usual, owned, heavy,
                constants, limits, old, new, stored, consistent, stored, alpha, norms, k == iterations - 1)  # fmt: skip


@njit(**EXACT)
def reweigh(mate: Integers, s: Floats, low: Floats, high: Floats, weight: Floats, other: Floats) -> None:
    """Change to ``other`` weights without changing w or any price."""
    for r in range(s.shape[0]):
        ratio = weight[r] / other[r]
        if ratio == 1.0:
            continue
        for t in range(s.shape[1]):
            low[r, t] *= ratio
            high[r, t] *= ratio
        if mate[r] > r:
            mine, theirs = s[r], s[mate[r]]
            for t in range(s.shape[1]):
                w, agreed = 0.5 * (mine[t] - theirs[t]) * ratio, 0.5 * (mine[t] + theirs[t])
                mine[t], theirs[t] = agreed + w, agreed - w
    weight[:] = other


@njit(**EXACT)
def rescale(
    mate: Integers, s: Floats, agents: Floats, theta: Floats, constants: Floats, limits: Floats, stored: Floats,
    consistent: Floats, ratio: Floats,
) -> None:  # fmt: skip
    """Change to another rho, ``ratio`` = old over new per lane, without changing w or any price."""
    steps = ratio.shape[0]
    for r in range(s.shape[0]):
        if mate[r] > r:
            mine, theirs = s[r], s[mate[r]]
            for t in range(steps):
                w, agreed = 0.5 * (mine[t] - theirs[t]), 0.5 * (mine[t] + theirs[t]) * ratio[t]
                mine[t], theirs[t] = agreed + w, agreed - w
    follow(constants, limits, stored, consistent)
    for a in range(stored.shape[0]):
        for kind in range(3):
            for t in range(steps):
                w = consistent[a, kind, t]
                stored[a, kind, t] = w + (stored[a, kind, t] - w) * ratio[t]
    for i in range(theta.shape[0]):
        for t in range(steps):
            theta[i, t] *= ratio[t]
            agents[i, B, t] *= ratio[t]
            agents[i, SLOPE, t] *= ratio[t]
