"""The inner loop of a bilateral market of sellers and buyers: an alternating-direction method, compiled, without any solver.

Every agent either sells or buys; a trade ``x >= 0`` has a seller and a buyer.  With one number ``s`` per trade::

    x = prox_sellers(s),   y = prox_buyers(2x - s),   s <- s + alpha (y - x)                                       (1)

``x`` is what the sellers want, ``y`` what the buyers want, ``rho (s - x)`` the price on which they agree when x = y.  Both
proxes fall apart into agents, each with one scalar root theta, its marginal cost over rho::

    x_e = max(s_e - c_e/2 - theta, 0),   sum_e x_e = clip((theta - b/rho) rho/a, p_min, p_max)                     (2)

The left side is convex and falls: Newton's iterates rise to the root from the left after the first step and end exactly, no
bracket needed.  Each step solves one linear piece of the left with all three of the right, so a = 0 is no special case.

Trades of a watt and of ten megawatts need penalties as far apart.  A pair's is rho over its ``weight``, the same at both ends:
all numbers of a trade are kept over its weight, so that the weight appears in the sums of (2) alone, as w_e times each term.

Layout: trades are rows, sorted by seller; intervals are lanes, next to each other; each lane has its own rho.  An iteration
reads the rows once for the sellers and reads and writes them once for the buyers; the sellers' ``x`` is never stored.
Stored is ``s - c/2``.  A buyer is (2) with q = -p and its value negative.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART

__all__ = ["advance", "look", "rescale", "sellers_want"]

Floats = NDArray[np.floating]
Integers = NDArray[np.int64]

B, SLOPE, LEAST, MOST = range(4)  # an agent's rows: b/rho, a/rho, bounds of its power


@njit(**EXACT_PART)
def _count(rows: Floats, weight: Floats, begin: int, end: int, theta: Floats, total: Floats, many: Floats) -> None:
    """Fill ``total`` with sum weight max(row - theta, 0) and ``many`` with the weight of those above."""
    lanes = theta.shape[0]
    zero = theta.dtype.type(0)
    for t in range(lanes):
        total[t] = many[t] = zero
    q = begin
    while q + 4 <= end:
        r0, r1, r2, r3 = rows[q], rows[q + 1], rows[q + 2], rows[q + 3]
        w0, w1, w2, w3 = weight[q], weight[q + 1], weight[q + 2], weight[q + 3]
        for t in range(lanes):
            d0, d1, d2, d3 = r0[t] - theta[t], r1[t] - theta[t], r2[t] - theta[t], r3[t] - theta[t]
            n0 = w0 if d0 > zero else zero
            n1 = w1 if d1 > zero else zero
            n2 = w2 if d2 > zero else zero
            n3 = w3 if d3 > zero else zero
            total[t] += (n0 * d0 + n1 * d1) + (n2 * d2 + n3 * d3)
            many[t] += (n0 + n1) + (n2 + n3)
        q += 4
    while q < end:
        r0, w0 = rows[q], weight[q]
        for t in range(lanes):
            d0 = r0[t] - theta[t]
            n0 = w0 if d0 > zero else zero
            total[t] += n0 * d0
            many[t] += n0
        q += 1


@njit(**EXACT_PART)
def _root(
    rows: Floats, weight: Floats, begin: int, end: int, theta: Floats, agent: Floats, tiny: Floats, total: Floats,
    many: Floats,
) -> None:  # fmt: skip
    """Move ``theta`` to the root of (2), all lanes at once."""
    lanes = theta.shape[0]
    zero, one = theta.dtype.type(0), theta.dtype.type(1)
    digits = theta.dtype.type(5e-7 if theta.itemsize == 4 else 1e-15)
    b, slope, least, most = agent[B], agent[SLOPE], agent[LEAST], agent[MOST]
    for _ in range(4 * (end - begin) + 8):  # each step adds a trade to the piece; two or three are the rule
        _count(rows, weight, begin, end, theta, total, many)
        moved = stuck = 0
        for t in range(lanes):
            old, x, k = theta[t], total[t], many[t]
            p = (x + k * (old - b[t])) / (one + slope[t] * k)
            p = min(max(p, least[t]), most[t])
            new = old + (x - p) / (k if k > zero else one)
            new = new if k > zero else (b[t] + slope[t] * p if most[t] > zero else old)
            new = max(new, b[t]) if least[t] <= zero else new  # nobody sells below b
            stuck += 1 if k <= zero < least[t] else 0
            moved += 1 if abs(new - old) > tiny[t] + digits * abs(new) else 0
            theta[t] = new
        if stuck > 0:  # who must sell and has no trade yet begins at the best of them
            for t in range(lanes):
                if many[t] <= zero < least[t] and end > begin:
                    best = begin
                    for q in range(begin + 1, end):
                        best = q if rows[q, t] > rows[best, t] else best
                    theta[t] = rows[best, t] - least[t] / weight[best]
        moved += stuck
        if moved == 0:
            break


@njit(**EXACT)
def sellers_want(starts: Integers, weight: Floats, s: Floats, sellers: Floats, theta: Floats, tiny: Floats) -> None:
    """Solve (2) for every seller."""
    total, many = np.empty_like(tiny), np.empty_like(tiny)
    for i in range(starts.size - 1):
        _root(s, weight, starts[i], starts[i + 1], theta[i], sellers[i], tiny, total, many)


@njit(**EXACT_PART)
def _buyers(
    starts: Integers, rows: Integers, seller: Integers, weight: Floats, s: Floats, charge: Floats, inverse: Floats,
    buyers: Floats, theta: Floats, nu: Floats, tiny: Floats, usual: Floats, alpha: float, wish: Floats, fee: Floats,
    heavy: Floats, measure: bool, norms: Floats, open_kw: Floats,
) -> None:  # fmt: skip
    """Solve (2) for every buyer and move s."""
    lanes = tiny.shape[0]
    total, many = np.empty_like(tiny), np.empty_like(tiny)
    zero, two, half, relax = tiny.dtype.type(0), tiny.dtype.type(2), tiny.dtype.type(0.5), tiny.dtype.type(alpha)
    for j in range(starts.size - 1):
        first, count = starts[j], starts[j + 1] - starts[j]
        for q in range(count):
            r = rows[first + q]
            now, at, w, c = s[r], theta[seller[r]], wish[q], fee[q]
            each, heavy[q] = charge[r], weight[r]
            if each.shape[0] == 1:
                for t in range(lanes):
                    c[t] = each[0] * inverse[t]
            else:
                for t in range(lanes):
                    c[t] = each[t] * inverse[t]
            for t in range(lanes):
                w[t] = two * max(now[t] - at[t], zero) - now[t] - c[t]
        _root(wish, heavy, 0, count, nu[j], buyers[j], tiny, total, many)
        price = nu[j]
        if not measure:
            for q in range(count):
                r = rows[first + q]
                now, at, w = s[r], theta[seller[r]], wish[q]
                for t in range(lanes):
                    now[t] += relax * (max(w[t] - price[t], zero) - max(now[t] - at[t], zero))
            continue
        for t in range(lanes):
            total[t] = many[t] = zero
        for q in range(count):
            r = rows[first + q]
            now, at, w, c, left, m = s[r], theta[seller[r]], wish[q], fee[q], open_kw[seller[r]], heavy[q]
            for t in range(lanes):
                x, y = max(now[t] - at[t], zero), max(w[t] - price[t], zero)
                agreed = now[t] - x + half * c[t]
                norms[0, t] += m * (y - x) * (y - x)
                norms[1, t] += m * x * x
                norms[2, t] += m * y * y
                norms[3, t] += m * agreed
                norms[4, t] += m * agreed * agreed
                norms[6, t] = max(norms[6, t], abs(y - x))
                left[t] += m * (y - x)
                total[t] += m * (y - x)
                many[t] += m * y
                now[t] += relax * (y - x)
        for t in range(lanes):
            norms[5, t] = max(norms[5, t], abs(total[t]) / max(usual[j], many[t]))


@njit(**EXACT)
def advance(
    iterations: int, seller_starts: Integers, buyer_starts: Integers, buyer_rows: Integers, seller: Integers, weight: Floats,
    s: Floats, charge: Floats, inverse: Floats, sellers: Floats, buyers: Floats, theta: Floats, nu: Floats, tiny: Floats,
    sold_kw: Floats, bought_kw: Floats, alpha: float, norms: Floats,
) -> None:  # fmt: skip
    """Do so many iterations of (1) and measure the last.

    ``norms`` (7, lanes) gets the weighted sums of (y - x)^2, x^2, y^2, price and price^2 over the trades, the largest relative
    imbalance of an agent and the largest difference of x and y.  An imbalance is relative to what the agent trades, and to
    ``sold_kw`` or ``bought_kw``, what it usually does, where that is more.
    """
    largest, lanes = 1, tiny.shape[0]
    for j in range(buyer_starts.size - 1):
        largest = max(largest, buyer_starts[j + 1] - buyer_starts[j])
    wish, fee = np.empty((largest, lanes), s.dtype), np.empty((largest, lanes), s.dtype)
    heavy = np.empty(largest, s.dtype)
    open_kw = np.zeros(theta.shape, s.dtype)
    zero = s.dtype.type(0)
    for q in range(7):
        for t in range(lanes):
            norms[q, t] = zero
    for k in range(iterations):
        sellers_want(seller_starts, weight, s, sellers, theta, tiny)
        if k == iterations - 1:
            for i in range(theta.shape[0]):
                for t in range(lanes):
                    open_kw[i, t] = zero
        _buyers(buyer_starts, buyer_rows, seller, weight, s, charge, inverse, buyers, theta, nu, tiny, bought_kw, alpha, wish,
                fee, heavy, k == iterations - 1, norms, open_kw)  # fmt: skip
    sold = np.zeros(lanes, s.dtype)
    for i in range(theta.shape[0]):
        for t in range(lanes):
            sold[t] = zero
        for t in range(lanes):
            slope = sellers[i, SLOPE, t]
            sold[t] = (theta[i, t] - sellers[i, B, t]) / slope if slope > zero else sellers[i, MOST, t]
            sold[t] = min(max(sold[t], sellers[i, LEAST, t]), sellers[i, MOST, t])
            norms[5, t] = max(norms[5, t], abs(open_kw[i, t]) / max(sold_kw[i], sold[t]))


@njit(**EXACT)
def rescale(
    seller: Integers, s: Floats, sellers: Floats, buyers: Floats, theta: Floats, nu: Floats, ratio: Floats
) -> None:
    """Change to another rho, ``ratio`` = old over new per lane, without changing x or any price.

    ``theta`` must be what the sellers want at s.
    """
    lanes = ratio.shape[0]
    zero = ratio.dtype.type(0)
    for r in range(s.shape[0]):
        now, at = s[r], theta[seller[r]]
        for t in range(lanes):
            x = max(now[t] - at[t], zero)
            now[t] = x + (now[t] - x) * ratio[t]
    for agents, roots in ((sellers, theta), (buyers, nu)):
        for i in range(roots.shape[0]):
            for t in range(lanes):
                roots[i, t] *= ratio[t]
                agents[i, B, t] *= ratio[t]
                agents[i, SLOPE, t] *= ratio[t]


@njit(**EXACT)
def look(
    seller_starts: Integers, buyer_starts: Integers, buyer_rows: Integers, seller: Integers, weight: Floats, s: Floats,
    charge: Floats, inverse: Floats, sellers: Floats, buyers: Floats, theta: Floats, tiny: Floats, cost: NDArray[np.float64],
    bound: NDArray[np.float64],
) -> None:  # fmt: skip
    """Fill cost and bound per lane, both over rho: a first look at the gap that the certificate will find.

    The plan is x with each buyer's purchases scaled into its bounds; the bound takes the sellers' marginal costs, gives each
    buyer the cheapest of its partners, and then each seller the dearest of its own.
    """
    sellers_want(seller_starts, weight, s, sellers, theta, tiny)
    lanes = tiny.shape[0]
    sold, best = np.zeros(theta.shape), np.full(theta.shape, -np.inf)
    value, bought, fees = np.empty(lanes), np.empty(lanes), np.empty(lanes)
    for t in range(lanes):
        cost[t] = bound[t] = 0.0
    for j in range(buyer_starts.size - 1):
        b, slope, least, most = buyers[j, B], buyers[j, SLOPE], buyers[j, LEAST], buyers[j, MOST]
        for t in range(lanes):
            value[t], bought[t] = np.inf, 0.0
        for q in range(buyer_starts[j], buyer_starts[j + 1]):
            r = buyer_rows[q]
            now, at, each, wide = s[r], theta[seller[r]], charge[r], charge.shape[1] > 1
            for t in range(lanes):
                bought[t] += weight[r] * max(now[t] - at[t], 0.0)
                value[t] = min(value[t], at[t] + each[t if wide else 0] * inverse[t])
        for t in range(lanes):
            fees[t] = min(1.0, most[t] / bought[t]) if bought[t] > 0.0 else 1.0
            have = bought[t] * fees[t]
            cost[t] += (0.5 * slope[t] * have + b[t]) * have
            bound[t] += _least_cost(slope[t], b[t] + value[t], least[t], most[t])
        for q in range(buyer_starts[j], buyer_starts[j + 1]):
            r = buyer_rows[q]
            i, wide = seller[r], charge.shape[1] > 1
            now, at, each, out, top = s[r], theta[i], charge[r], sold[i], best[i]
            for t in range(lanes):
                fee, x = each[t if wide else 0] * inverse[t], weight[r] * max(now[t] - at[t], 0.0) * fees[t]
                out[t] += x
                cost[t] += fee * x
                top[t] = max(top[t], value[t] - fee)
    for i in range(theta.shape[0]):
        b, slope, least, most = sellers[i, B], sellers[i, SLOPE], sellers[i, LEAST], sellers[i, MOST]
        for t in range(lanes):
            cost[t] += (0.5 * slope[t] * sold[i, t] + b[t]) * sold[i, t]
            bound[t] += _least_cost(slope[t], b[t] - best[i, t], least[t], most[t])


@njit(**EXACT_PART)
def _least_cost(slope: float, margin: float, least: float, most: float) -> float:
    """Return the least of slope/2 p^2 + margin p between the bounds."""
    if margin == np.inf or (slope == 0.0 and margin > 0.0):
        p = least
    elif margin == -np.inf or slope == 0.0:
        p = most
    else:
        p = min(max(-margin / slope, least), most)
    return (0.5 * slope * p + margin) * p if p != 0.0 else 0.0
