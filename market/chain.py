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
``marginals`` and ``cheapest``
    The same where an interval's cost has any number of segments: own surplus is worth less than what must be bought; and the
    optimal path besides.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART

__all__ = ["cheapest", "insert", "marginals", "slopes", "tube", "value"]

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
def insert(slope: Floats, length: Floats, head: int, tail: int, new: float, size: float) -> int:
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
def _merge(slope: Floats, length: Floats, head: int, tail: int, new: Floats, size: Floats, t: int, count: int) -> float:
    """Put row t of segments, nearly sorted, into the sorted list [head, tail); return what they are long together."""
    total = 0.0
    for i in range(count):
        here, long, place = new[t, i], size[t, i], i
        while place > 0 and new[t, place - 1] > here:
            new[t, place], size[t, place] = new[t, place - 1], size[t, place - 1]
            place -= 1
        new[t, place], size[t, place] = here, long
        total += long
    i, place, q = tail - 1, tail + count - 1, count - 1
    while q >= 0:
        if i >= head and slope[i] > new[t, q]:
            slope[place], length[place] = slope[i], length[i]
            i -= 1
        else:
            slope[place], length[place] = new[t, q], size[t, q]
            q -= 1
        place -= 1
    return total


@njit(**EXACT_PART)
def _backward(
    retention: float, worth: Floats, size: Floats, count: NDArray[np.int64], most: Floats, dearest: Floats,
    lower: Floats, upper: Floats, drain: Floats, slope: Floats, length: Floats, ends: NDArray[np.int64], left: Floats,
    keep: bool,
) -> float:  # fmt: skip
    """Build the cost to go from the end; return its value at the left end of its domain.

    In interval t the content may rise by ``most[t]`` at most, which costs ``dearest[t]``, or by less: each of ``count[t]``
    pieces ``size[t]`` of it saves ``worth[t]`` per kWh; they are put in order.  ``slope`` and ``length`` hold the segments of
    the cost to go as a function of the content BEFORE interval t, ``ends`` (T or 1, 2) their place and ``left`` where they
    begin; one list behind the other if ``keep``, else that of the first interval alone.
    """
    steps = most.shape[0]
    head, tail, start, cost = 0, 0, lower[steps - 1], 0.0
    span = max(upper[steps - 1] - start, 0.0)
    if span > 0.0:
        slope[0], length[0], tail = 0.0, span, 1
    for t in range(steps - 1, -1, -1):
        cost += dearest[t]
        span += _merge(slope, length, head, tail, worth, size, t, count[t])
        tail += count[t]
        start = (start - most[t] + drain[t]) / retention
        if retention != 1.0:
            span /= retention
            for i in range(head, tail):
                slope[i] *= retention
                length[i] /= retention
        here = t if keep else 0
        ends[here, 0], ends[here, 1], left[here] = head, tail, start
        if t == 0:
            break
        if keep:
            many = tail - head
            if tail + many + count[t - 1] > slope.shape[0]:
                raise MemoryError("too many intervals and pieces for the lists of a chain; take a shorter horizon")
            for i in range(head, tail):
                slope[i + many], length[i + many] = slope[i], length[i]
            head, tail = tail, tail + many
        while tail > head and start < lower[t - 1]:  # cut off what lies below the least content
            part = min(length[head], lower[t - 1] - start)
            cost += slope[head] * part
            start += part
            span -= part
            length[head] -= part
            if length[head] > 1e-12:  # a shorter piece is rounding
                break
            head += 1
        while tail > head and start + span > upper[t - 1]:  # and what lies above the largest
            part = min(length[tail - 1], start + span - upper[t - 1])
            span -= part
            length[tail - 1] -= part
            if length[tail - 1] > 1e-12:
                break
            tail -= 1
    return cost


@njit(**EXACT_PART)
def _pieces(
    e1: float, e2: float, price_c: Floats, price_d: Floats, charge_max: Floats, discharge_max: Floats, worth: Floats,
    size: Floats, count: NDArray[np.int64], most: Floats, dearest: Floats,
) -> None:  # fmt: skip
    """Fill in the pieces of a store whose charges and discharges have one price each."""
    for t in range(price_c.shape[0]):
        n = 0
        if charge_max[t] > 0.0:
            worth[t, n], size[t, n] = -price_c[t] / e1, e1 * charge_max[t]
            n += 1
        if discharge_max[t] > 0.0:
            worth[t, n], size[t, n] = price_d[t] / e2, e2 * discharge_max[t]
            n += 1
        count[t], most[t], dearest[t] = n, e1 * charge_max[t], price_c[t] * charge_max[t]


@njit(**EXACT)
def value(
    e1: float, e2: float, retention: float, price_c: Floats, price_d: Floats, charge_max: Floats, discharge_max: Floats,
    lower: Floats, upper: Floats, drain: Floats, initial: float, slope: Floats, length: Floats,
) -> float:  # fmt: skip
    """Return the least cost of the chain.

    Prices are per kW and interval, shape (T,); ``slope`` and ``length``, shape (1, 4 T + 8), are scratch.  ``initial`` is
    taken to lie in the tube.
    """
    steps = price_c.shape[0]
    ends, left, pieces = np.empty((1, 2), np.int64), np.empty(1), np.empty((2, steps, 2))
    count, flows = np.empty(steps, np.int64), np.empty((2, steps))
    _pieces(e1, e2, price_c, price_d, charge_max, discharge_max, pieces[0], pieces[1], count, flows[0], flows[1])
    cost: float = _backward(retention, pieces[0], pieces[1], count, flows[0], flows[1], lower, upper, drain,
                            slope.reshape(-1), length.reshape(-1), ends, left, False)  # fmt: skip
    way = initial - left[0]
    for i in range(ends[0, 0], ends[0, 1]):
        part = min(length.reshape(-1)[i], way)
        if part <= 0.0:
            break
        cost += slope.reshape(-1)[i] * part
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
    pieces, count, flows = np.empty((2, steps, 2)), np.empty(steps, np.int64), np.empty((2, steps))
    _pieces(e1, e2, price_c, price_d, charge_max, discharge_max, pieces[0], pieces[1], count, flows[0], flows[1])
    marginals(retention, pieces[0], pieces[1], count, flows[0], lower, upper, drain, initial, slope.reshape(-1),
              length.reshape(-1), ends, left, marginal)  # fmt: skip


@njit(**EXACT)
def cheapest(
    retention: float, worth: Floats, size: Floats, count: NDArray[np.int64], most: Floats, lower: Floats, upper: Floats,
    drain: Floats, initial: float, slope: Floats, length: Floats, ends: NDArray[np.int64], left: Floats, marginal: Floats,
    way: Floats,
) -> None:  # fmt: skip
    """Fill ``marginal`` as :func:`slopes` does, and ``way``, shape (T,), with the contents of an optimal path.

    Interval t's rise of content costs what its pieces say.

    ``slope`` and ``length`` have room for all segments of all lists, (T + 1) (count.sum() + 1) at most.  At a rise of
    ``most[t]`` every kWh less saves ``worth[t]``, for the piece ``size[t]`` in which it is worth least first.
    """
    steps = most.shape[0]
    _backward(
        retention, worth, size, count, most, np.zeros(steps), lower, upper, drain, slope, length, ends, left, True
    )
    content, price = initial, 0.0
    for t in range(steps):
        # the slopes left and right of the content; at an end of the domain the outer one is without bound
        below, above, place = -np.inf, np.inf, left[t]
        for i in range(ends[t, 0], ends[t, 1]):
            if place + length[i] <= content + 1e-10:
                below = slope[i]
                place += length[i]
                continue
            if place < content - 1e-10:
                below = slope[i]
            above = slope[i]
            break
        price = min(max(price, below), above)
        if not np.isfinite(price):
            price = 0.0
        marginal[t] = price / retention
        price = marginal[t]
        # the step that this slope asks for; of ties, the one that moves least
        gain_low = gain_high = most[t]
        tie = 1e-12 * (1.0 + abs(price))
        for i in range(count[t]):
            if worth[t, i] < price - tie:
                gain_high -= size[t, i]
            if worth[t, i] < price + tie:
                gain_low -= size[t, i]
        rest = retention * content - drain[t]
        # among tied steps the content must stay where the cost to go has this slope
        lo, hi = lower[t], upper[t]
        if t + 1 < steps:
            first = last = left[t + 1]
            for i in range(ends[t + 1, 0], ends[t + 1, 1]):
                if slope[i] > price + tie:
                    break
                last += length[i]
                if slope[i] < price - tie:
                    first = last
            lo, hi = max(lo, min(first, upper[t])), min(hi, max(last, lower[t]))
        content = min(max(rest + min(max(0.0, gain_low), gain_high), lo), hi)
        content = min(max(content, rest + gain_low), rest + gain_high)
        content = min(max(content, lower[t]), upper[t])
        way[t] = content


@njit(**EXACT)
def marginals(
    retention: float, worth: Floats, size: Floats, count: NDArray[np.int64], most: Floats, lower: Floats, upper: Floats,
    drain: Floats, initial: float, slope: Floats, length: Floats, ends: NDArray[np.int64], left: Floats, marginal: Floats,
) -> None:  # fmt: skip
    """Fill ``marginal`` as :func:`slopes` does, where interval t's rise of content costs what its pieces say.

    As in :func:`cheapest`.
    """
    cheapest(retention, worth, size, count, most, lower, upper, drain, initial, slope, length, ends, left, marginal,
             np.empty(most.shape[0]))  # fmt: skip
