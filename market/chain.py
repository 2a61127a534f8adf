"""One store alone: what it can reach, and the least cost of running it at given prices, exactly.

A store is the chain ``e[t] = retention e[t-1] + e1 c[t] - e2 d[t] - drain[t]`` with bounds on every letter, where
``e1 = dt eta_c`` and ``e2 = dt / eta_d``.

``tube``
    Where the content may be at the end of every interval so that all later bounds can still be met.  Bounds are
    intervals and the chain is monotone, so the set is an interval too, found in one backward pass.
``value``
    The least of ``sum price_c c + price_d d``.  The cost to go is convex and piecewise linear in the content; it is kept
    as a sorted list of slopes, into which each interval merges its two own segments (an infimal convolution) before the
    content's bounds cut off the ends.  No solver, no tolerance: the only error is rounding.
``slopes``
    The same, and the slope of the cost to go along an optimal path: the marginal value of content, from which the bound of
    :mod:`market.bound` prices the space and the power that the store occupies.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART

__all__ = ["slopes", "tube", "value"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def tube(
    e1: float, e2: float, retention: float, charge_max: Floats, discharge_max: Floats,
    lower: Floats, upper: Floats, drain: Floats, low: Floats, high: Floats,
) -> None:  # fmt: skip
    """Fill ``low`` and ``high``, shape (T + 1,): where content may be so that all that follows can be met.

    Entry t is before interval t, entry T is the end.  ``low > high`` where nothing can be met.
    """
    steps = charge_max.shape[0]
    low[steps], high[steps] = lower[steps - 1], upper[steps - 1]
    for t in range(steps - 1, -1, -1):
        low[t] = (low[t + 1] - e1 * charge_max[t] + drain[t]) / retention
        high[t] = (high[t + 1] + e2 * discharge_max[t] + drain[t]) / retention
        if t > 0:
            low[t] = max(low[t], lower[t - 1])
            high[t] = min(high[t], upper[t - 1])


@njit(**EXACT_PART)
def _insert(slope: Floats, length: Floats, head: int, tail: int, new: float, size: float) -> int:
    """Put a segment into the sorted list [head, tail); return the new tail."""
    place = tail
    while place > head and slope[place - 1] > new:
        slope[place] = slope[place - 1]
        length[place] = length[place - 1]
        place -= 1
    slope[place] = new
    length[place] = size
    return tail + 1


@njit(**EXACT_PART)
def _backward(
    e1: float, e2: float, retention: float, price_c: Floats, price_d: Floats, charge_max: Floats, discharge_max: Floats,
    lower: Floats, upper: Floats, drain: Floats, slope: Floats, length: Floats, ends: NDArray[np.int64], left: Floats,
    keep: bool,
) -> float:  # fmt: skip
    """Build the cost to go from the end; return its value at the left end of its domain.

    ``slope`` and ``length``, shape (T or 1, 4 T + 8), hold the segments of the cost to go as a function of the content
    BEFORE interval t (row t, or row 0 if not ``keep``), ``ends`` (T, 2) their place and ``left`` (T,) where they begin.
    """
    steps = price_c.shape[0]
    row = steps - 1 if keep else 0
    head = tail = 2 * steps + 2
    start, cost = lower[steps - 1], 0.0
    if upper[steps - 1] > start:
        tail = _insert(slope[row], length[row], head, tail, 0.0, upper[steps - 1] - start)
    for t in range(steps - 1, -1, -1):
        s, z = slope[row], length[row]
        start -= e1 * charge_max[t]
        cost += price_c[t] * charge_max[t]
        if charge_max[t] > 0.0:
            tail = _insert(s, z, head, tail, -price_c[t] / e1, e1 * charge_max[t])
        if discharge_max[t] > 0.0:
            tail = _insert(s, z, head, tail, price_d[t] / e2, e2 * discharge_max[t])
        start = (start + drain[t]) / retention
        if retention != 1.0:
            for i in range(head, tail):
                s[i] *= retention
                z[i] /= retention
        if keep:
            ends[t, 0], ends[t, 1], left[t] = head, tail, start
        else:
            ends[0, 0], ends[0, 1], left[0] = head, tail, start
        if t > 0:
            if keep:
                row -= 1
                for i in range(head, tail):
                    slope[row, i], length[row, i] = s[i], z[i]
                s, z = slope[row], length[row]
            while tail > head and start < lower[t - 1]:  # cut off what lies below the least content
                part = min(z[head], lower[t - 1] - start)
                cost += s[head] * part
                start += part
                z[head] -= part
                if z[head] > 1e-12:  # a shorter piece is rounding
                    break
                head += 1
            end = start
            for i in range(head, tail):
                end += z[i]
            while tail > head and end > upper[t - 1]:  # and what lies above the largest
                part = min(z[tail - 1], end - upper[t - 1])
                end -= part
                z[tail - 1] -= part
                if z[tail - 1] > 1e-12:
                    break
                tail -= 1
    return cost


@njit(**EXACT)
def value(
    e1: float, e2: float, retention: float, price_c: Floats, price_d: Floats, charge_max: Floats, discharge_max: Floats,
    lower: Floats, upper: Floats, drain: Floats, initial: float, slope: Floats, length: Floats,
) -> float:  # fmt: skip
    """Return the least cost of the chain.

    Prices are per kW and interval, shape (T,); ``slope`` and ``length``, shape (1, 4 T + 8), are scratch.  ``initial`` is
    taken to lie in the tube.
    """
    ends = np.empty((1, 2), np.int64)
    left = np.empty(1)
    cost: float = _backward(e1, e2, retention, price_c, price_d, charge_max, discharge_max, lower, upper, drain, slope, length,
                     ends, left, False)  # fmt: skip
    way = initial - left[0]
    for i in range(ends[0, 0], ends[0, 1]):
        part = min(length[0, i], way)
        if part <= 0.0:
            break
        cost += slope[0, i] * part
        way -= part
    return cost


@njit(**EXACT)
def slopes(
    e1: float, e2: float, retention: float, price_c: Floats, price_d: Floats, charge_max: Floats, discharge_max: Floats,
    lower: Floats, upper: Floats, drain: Floats, initial: float, slope: Floats, length: Floats,
    ends: NDArray[np.int64], left: Floats, marginal: Floats,
) -> None:  # fmt: skip
    """Fill ``marginal``, shape (T,): the slope of the cost to go at the end of interval t, along an optimal path.

    With it as multiplier of the chain's equation the Lagrangian's least value is that of the chain (strong duality), and
    with any other it is a lower bound.  ``slope`` and ``length`` have shape (T, 4 T + 8).
    """
    steps = price_c.shape[0]
    _backward(e1, e2, retention, price_c, price_d, charge_max, discharge_max, lower, upper, drain, slope, length, ends,
              left, True)  # fmt: skip
    content, price = initial, 0.0
    for t in range(steps):
        # the slopes left and right of the content; at an end of the domain the outer one is without bound
        below, above, place = -np.inf, np.inf, left[t]
        for i in range(ends[t, 0], ends[t, 1]):
            if place + length[t, i] <= content + 1e-10:
                below = slope[t, i]
                place += length[t, i]
                continue
            if place < content - 1e-10:
                below = slope[t, i]
            above = slope[t, i]
            break
        price = min(max(price, below), above)
        if not np.isfinite(price):
            price = 0.0
        marginal[t] = price / retention
        price = marginal[t]
        # the step that this slope asks for; of ties, the one that moves least
        gain_low = gain_high = 0.0
        into, out = price_c[t] + price * e1, price_d[t] - price * e2
        tie = 1e-12 * (1.0 + abs(price))
        if into < -tie:
            gain_low += e1 * charge_max[t]
        if into < tie:
            gain_high += e1 * charge_max[t]
        if out < tie:
            gain_low -= e2 * discharge_max[t]
        if out < -tie:
            gain_high -= e2 * discharge_max[t]
        rest = retention * content - drain[t]
        # among tied steps the content must stay where the cost to go has this slope
        lo, hi = lower[t], upper[t]
        if t + 1 < steps:
            first = last = left[t + 1]
            for i in range(ends[t + 1, 0], ends[t + 1, 1]):
                if slope[t + 1, i] > price + tie:
                    break
                last += length[t + 1, i]
                if slope[t + 1, i] < price - tie:
                    first = last
            lo, hi = max(lo, min(first, upper[t])), min(hi, max(last, lower[t]))
        content = min(max(rest + min(max(0.0, gain_low), gain_high), lo), hi)
        content = min(max(content, rest + gain_low), rest + gain_high)
        content = min(max(content, lower[t]), upper[t])
