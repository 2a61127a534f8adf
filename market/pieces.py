"""What an interval costs an agent, as a function of what one of its stores draws: pieces of straight lines.

At the exchange's price own surplus is worth the sale and what must be bought costs the purchase.  In between lie the values
of energy at which curtailing, the other stores at their own marginal values, or breaching the envelope would be better; each
of them holds for as many kW as these can move.  So the slopes of the cost are these values, sorted, and their widths.

Own stores stand behind the meter and its envelope, rented spaces beyond: the envelope shifts the values between the two by
its penalty where it is left.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import insert
from market.compiled import EXACT_PART

__all__ = ["asked", "at_meter", "describe", "flat", "least", "values"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

# Rows of an agent's table: needs, limits of the meter, what is sold already, least and largest value at the balance.
LOAD, PV, IMP, EXP, GIVEN, LOW, HIGH = range(7)
# Sheets of its stores' table, own stores first: largest flows, what drawing and giving cost besides, bounds of content, marginal
# value of content, and the values of energy below which the store draws and above which it gives.
UP, DOWN, TOLL_C, TOLL_D, LOWER, UPPER, DRAIN, Y, START, STOP = range(10)
# Rows of their constants: kWh of content per kW drawn and given, retention, first content.
E1, E2, KEEP, INITIAL = range(4)
# Rows of what an interval's cost is described by: its slope is LEAST until BEGIN kW are drawn, then that of its pieces
# (their slopes and widths are two more sheets), at last LARGEST.
BEGIN, LEAST, LARGEST = range(3)


@njit(**EXACT_PART, inline="always")
def _wanting(stores: Floats, s: int, t: int, v: Floats, z: Floats, n: int) -> int:
    """Add the values at which a store begins and stops to draw to a sorted list; return how many are in it."""
    if stores[UP, s, t] > 0.0:
        n = insert(v, z, 0, n, stores[START, s, t], stores[UP, s, t])
    if stores[DOWN, s, t] > 0.0:
        n = insert(v, z, 0, n, stores[STOP, s, t], stores[DOWN, s, t])
    return n


@njit(**EXACT_PART)
def _inside(
    imp: float, exp: float, penalty: float, most: float, v: Floats, z: Floats, n: int, v2: Floats, z2: Floats
) -> int:
    """Write the values at the meter, at which it falls from ``most`` on, as values at the balance; return how many."""
    m, out = most, 0
    for q in range(n):
        rest = z[q]
        while rest > 0.0:
            room, shift, to = np.inf, penalty, m
            if m > imp:
                room, shift, to = m - imp, -penalty, imp
            elif m > -exp:
                room, shift, to = m + exp, 0.0, -exp
            part = min(rest, room)
            v2[out], z2[out] = v[q] + shift, part
            out += 1
            m = to if part == room else m - part
            rest -= part
    return out


@njit(**EXACT_PART)
def _beyond(
    imp: float, exp: float, penalty: float, low: float, high: float, most: float, v: Floats, z: Floats, n: int, v2: Floats,
    z2: Floats,
) -> tuple[int, float]:  # fmt: skip
    """Write the value at the meter over what it draws as pieces; return how many, and where they begin."""
    m = min(-most, imp, -exp if exp < np.inf else 0.0)
    begin, out, end = m, 0, -most
    for q in range(n + 2):
        value = low
        if q == n + 1:
            value, end = high, max(end, -exp, imp if imp < np.inf else 0.0)
        elif q > 0:
            value, end = min(max(v[q - 1], low), high), end + z[q - 1]
        while m < end:
            shift, to = 0.0, min(end, imp)
            if m < -exp:
                shift, to = -penalty, min(end, -exp)
            elif m >= imp:
                shift, to = penalty, end
            v2[out], z2[out] = value + shift, to - m
            out += 1
            m = to
    return out, begin


@njit(**EXACT_PART)
def describe(
    home: Floats,
    stores: Floats,
    penalty: float,
    s: int,
    own: int,
    cost: Floats,
    pieces: Floats,
    n: Counts,
    short: Floats,
) -> None:
    """Describe what every interval costs as a function of what store ``s`` draws; ``s = -1`` for none of them."""
    v, z, v2, z2 = short[0], short[1], short[2], short[3]
    at_meter, many = 0 <= s < own, stores.shape[1]
    for t in range(home.shape[1]):
        imp, exp, low, high = home[IMP, t], home[EXP, t], home[LOW, t], home[HIGH, t]
        m, rented, met = home[LOAD, t], home[GIVEN, t], 0
        for k in range(many):
            if k != s and k < own:
                m += stores[UP, k, t]
            elif k != s:
                rented += stores[UP, k, t]
        if at_meter:
            for k in range(own, many):
                met = _wanting(stores, k, t, v, z, met)
            met, begin = _beyond(imp, exp, penalty, low, high, rented, v, z, met, v2, z2)
            if home[PV, t] > 0.0:
                met = insert(v2, z2, 0, met, 0.0, home[PV, t])
            for k in range(own):
                if k != s:
                    met = _wanting(stores, k, t, v2, z2, met)
            low -= penalty if exp < np.inf else 0.0
            high += penalty if imp < np.inf else 0.0
            begin -= m
        else:
            if home[PV, t] > 0.0:
                met = insert(v, z, 0, met, 0.0, home[PV, t])
            for k in range(own):
                met = _wanting(stores, k, t, v, z, met)
            met = _inside(imp, exp, penalty, m, v, z, met, v2, z2)
            for k in range(own, many):
                if k != s:
                    met = _wanting(stores, k, t, v2, z2, met)
            begin = -m - rented
        for q in range(met):
            pieces[0, t, q], pieces[1, t, q] = min(max(v2[q], low), high), z2[q]
        cost[BEGIN, t], cost[LEAST, t], cost[LARGEST, t], n[t] = begin, low, high, met


@njit(**EXACT_PART)
def flat(cost: Floats, n: Counts, values: Floats) -> None:
    """Describe intervals in which energy has one value, whatever a store draws."""
    for t in range(n.shape[0]):
        cost[BEGIN, t], cost[LEAST, t], cost[LARGEST, t], n[t] = 0.0, values[t], values[t], 0


@njit(**EXACT_PART)
def asked(
    dt_h: float, e1: float, e2: float, s: int, stores: Floats, cost: Floats, pieces: Floats, n: Counts, rise: Floats,
    count: Counts, most: Floats,
) -> None:  # fmt: skip
    """Write what a rise of store ``s``'s content saves by being less, as :func:`market.chain.marginals` asks for it."""
    for t in range(n.shape[0]):
        up, toll_c, toll_d = stores[UP, s, t], stores[TOLL_C, s, t], stores[TOLL_D, s, t]
        place, out, end, value = -stores[DOWN, s, t], 0, cost[BEGIN, t], cost[LEAST, t]
        for q in range(n[t] + 2):
            if q > n[t]:
                value, end = cost[LARGEST, t], np.inf
            elif q > 0:
                value, end = pieces[0, t, q - 1], end + pieces[1, t, q - 1]
            if place < 0.0 and end > place:
                to = min(end, 0.0)
                rise[0, t, out], rise[1, t, out] = dt_h * (toll_d - value) / e2, e2 * (to - place)
                out, place = out + 1, to
            if place >= 0.0 and end > place and place < up:
                to = min(end, up)
                rise[0, t, out], rise[1, t, out] = -dt_h * (toll_c + value) / e1, e1 * (to - place)
                out, place = out + 1, to
            if place >= up:
                break
        for q in range(out // 2):  # the least first
            for k in range(2):
                rise[k, t, q], rise[k, t, out - 1 - q] = rise[k, t, out - 1 - q], rise[k, t, q]
        count[t], most[t] = out, e1 * up


@njit(**EXACT_PART)
def _value_at(begin: float, low: float, high: float, v: Floats, z: Floats, n: int, want: float, near: float) -> float:
    """Return the slope at ``want``; of several the one nearest to ``near``."""
    if want < begin:
        return low
    place, below = begin, low
    for q in range(n):
        value: float = min(max(v[q], low), high)
        if want <= place:
            return min(max(near, below), value)
        place += z[q]
        if want < place:
            return value
        below = value
    return high if want > place else min(max(near, below), high)


@njit(**EXACT_PART)
def values(
    s: int, stores: Floats, cost: Floats, pieces: Floats, n: Counts, near: Floats, short: Floats, nu: Floats
) -> None:
    """Fill ``nu``: the value at the balance where store ``s`` (of ``s = -1`` none) does what its marginal values say."""
    v, z = short[0], short[1]
    for t in range(n.shape[0]):
        met, begin = n[t], cost[BEGIN, t]
        for q in range(met):
            v[q], z[q] = pieces[0, t, q], pieces[1, t, q]
        if s >= 0:
            met, begin = _wanting(stores, s, t, v, z, met), begin - stores[UP, s, t]
        nu[t] = _value_at(begin, cost[LEAST, t], cost[LARGEST, t], v, z, met, 0.0, near[t])


@njit(**EXACT_PART)
def at_meter(home: Floats, stores: Floats, penalty: float, own: int, short: Floats, nu: Floats, pi: Floats) -> None:
    """Fill ``pi``: the value at the meter, that at the balance given."""
    v, z = short[0], short[1]
    for t in range(nu.shape[0]):
        most, n = home[LOAD, t], 0
        if home[PV, t] > 0.0:
            n = insert(v, z, 0, n, 0.0, home[PV, t])
        for k in range(own):
            n = _wanting(stores, k, t, v, z, n)
            most += stores[UP, k, t]
        before = after = most  # what the home draws at a value just below nu, and just above
        for q in range(n):
            before -= z[q] if v[q] < nu[t] else 0.0
            after -= z[q] if v[q] <= nu[t] else 0.0
        pi[t] = nu[t]
        if after > home[IMP, t]:
            value = _value_at(-most, -np.inf, np.inf, v, z, n, -home[IMP, t], nu[t])
            pi[t] = min(max(value, nu[t]), nu[t] + penalty)
        elif before < -home[EXP, t]:
            value = _value_at(-most, -np.inf, np.inf, v, z, n, home[EXP, t], nu[t])
            pi[t] = min(max(value, nu[t] - penalty), nu[t])


@njit(**EXACT_PART)
def least(cost: Floats, pieces: Floats, n: int, t: int, nu: float) -> float:
    """Return the least over x of what interval t costs beyond x = 0, less nu x."""
    total, place = 0.0, cost[BEGIN, t]
    if place > 0.0 and cost[LEAST, t] < nu:
        total += (cost[LEAST, t] - nu) * place
    for q in range(n):
        value, end = pieces[0, t, q], place + pieces[1, t, q]
        if value < nu and end > 0.0:
            total += (value - nu) * (end - max(place, 0.0))
        elif value > nu and place < 0.0:
            total -= (value - nu) * (min(end, 0.0) - place)
        place = end
    if place < 0.0 and cost[LARGEST, t] > nu:
        total += (cost[LARGEST, t] - nu) * place
    return total
