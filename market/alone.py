"""Stores run once more, each agent for itself: at the prices, what an iteration has not decided yet.

Long before an iteration's flows are right its prices are.  At the exchange's price lambda an interval costs an agent a convex,
piecewise linear function of what one of its stores draws, everything else of its plan given ::

    slope = max(sell, lambda) while it has energy left over, min(buy, lambda + charge) while it needs some       (1)
            0 while its meter would be above the export limit, the penalty more above the import limit

and with such pieces the cheapest way of one store is exact (:mod:`market.chain`).  Own stores go first, in turn; then the rented
spaces, whose rights stay as they are and who pay the price of the shared store's net besides.

What everybody does alone at a price would not fit together: all would come to the same cheap hour.  So agents go one after the
other, and the price of (1) holds as far as there is room for it: while some sell to the retailer, as much as they sell; then
it is what those pay who buy there, and the other way round.  With one tariff for all that is exact, and the community's cost
never rises; with several it is nearly so, and whoever calls this compares what the plans cost and keeps the better one.

Of ways that cost the same the one is taken that moves least, whoever shares a tie; and the order of the agents matters, to as
little as the prices leave undecided.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import cheapest
from market.compiled import EXACT, EXACT_PART

__all__ = ["Homes", "Market", "Spaces", "Stores", "run_alone"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_PIECES = 9  # of one interval's cost, at most


class Homes(NamedTuple):
    """What surrounds the stores.  Shapes (n, T)."""

    load: Floats
    pv: Floats
    buy: Floats
    sell: Floats
    charge: Floats
    imported: Floats
    exported: Floats
    sold: Floats
    """What is sold at the exchange whatever the stores do; read where it is not free."""


class Stores(NamedTuple):
    """Own stores, as in :class:`market.problem.Problem`, and what they do, which is changed."""

    charge_max: Floats
    discharge_max: Floats
    lower: Floats
    upper: Floats
    drain: Floats
    initial: Floats
    efficiency_c: Floats
    efficiency_d: Floats
    retention: Floats
    wear: Floats
    charge: Floats
    """Shape (K, n, T)."""
    discharge: Floats
    """Shape (K, n, T)."""


class Spaces(NamedTuple):
    """Rented spaces, and what they do, which is changed."""

    efficiency_c: Floats
    efficiency_d: Floats
    retention: Floats
    wear: Floats
    available: Floats
    price: Floats
    """Of a kWh more in the shared store's net.  Shape (M, T)."""
    withdrawal: Floats
    """Shape (n, T)."""
    initial: Floats
    final: Floats
    energy: Floats
    power: Floats
    charge: Floats
    """Shape (M, n, T)."""
    discharge: Floats
    """Shape (M, n, T)."""


class Market(NamedTuple):
    """What the exchange would pay.  Shapes (T,)."""

    free: bool
    price: Floats
    below: Floats
    """What it is where there is more than ``room[0]`` kW less need."""
    above: Floats
    """What it is where there is more than ``room[1]`` kW more need."""
    room: Floats
    """How much less need, and how much more, there may be at this price; changed as agents move.  Shape (2, T). [kW]"""


class _Paper(NamedTuple):
    """Room to reckon in, for a chain of T intervals."""

    worth: Floats
    size: Floats
    many: Counts
    most: Floats
    slope: Floats
    length: Floats
    ends: Counts
    left: Floats
    marginal: Floats
    way: Floats
    into: Floats
    out: Floats
    bounds: Floats
    """Least and largest content, and drain.  Shape (3, T)."""


@njit(**EXACT_PART)
def _add(
    paper: _Paper, dt_h: float, t: int, begin: float, end: float, value: float, e1: float, e2: float, toll_c: float,
    toll_d: float,
) -> None:  # fmt: skip
    """Add what a store that draws between ``begin`` and ``end`` saves by drawing less, where energy has this value."""
    if begin < 0.0:
        to, n = min(end, 0.0), paper.many[t]
        if to > begin:
            paper.worth[t, n], paper.size[t, n] = dt_h * (toll_d - value) / e2, e2 * (to - begin)
            paper.many[t] += 1
    if end > 0.0:
        since, n = max(begin, 0.0), paper.many[t]
        if end > since:
            paper.worth[t, n], paper.size[t, n] = -dt_h * (toll_c + value) / e1, e1 * (end - since)
            paper.many[t] += 1


@njit(**EXACT_PART)
def _run(paper: _Paper, e1: float, e2: float, kept: float, initial: float, charge: Floats, discharge: Floats) -> None:
    """Fill the cheapest flows of a store whose intervals cost what was added."""
    worth, size = paper.worth, paper.size
    for t in range(charge.shape[0]):
        for q in range(paper.many[t] // 2):  # the least first
            last = paper.many[t] - 1 - q
            worth[t, q], worth[t, last] = worth[t, last], worth[t, q]
            size[t, q], size[t, last] = size[t, last], size[t, q]
        paper.most[t] = e1 * paper.into[t]
    cheapest(kept, worth, size, paper.many, paper.most, paper.bounds[0], paper.bounds[1], paper.bounds[2], initial, paper.slope,
             paper.length, paper.ends, paper.left, paper.marginal, paper.way)  # fmt: skip
    content = initial
    for t in range(charge.shape[0]):
        gain = paper.way[t] - kept * content + paper.bounds[2, t]
        charge[t], discharge[t] = min(max(gain, 0.0) / e1, paper.into[t]), min(max(-gain, 0.0) / e2, paper.out[t])
        content = paper.way[t]


@njit(**EXACT_PART)
def _trades(
    paper: _Paper, dt_h: float, t: int, begin: float, end: float, zero: float, now: float, i: int, m: Market, h: Homes,
    e1: float, e2: float, toll_c: float, toll_d: float,
) -> None:  # fmt: skip
    """Add what a store saves by drawing less between ``begin`` and ``end``; it draws ``now``, and its agent needs nothing at ``zero``."""
    buy, sell, place = h.buy[i, t], h.sell[i, t], begin
    for _ in range(4):
        price, to = 0.0, end
        if m.free:
            down, up = now - m.room[0, t], now + m.room[1, t]
            if place < down:
                price, to = m.below[t], min(end, down)
            elif place < up:
                price, to = m.price[t], min(end, up)
            else:
                price = m.above[t]
        surplus = place < zero
        if surplus:
            to = min(to, zero)
        if to > place:
            low, high = sell, buy
            if m.free:
                low, high = max(low, price), min(high, price + h.charge[i, t])
            _add(paper, dt_h, t, place, to, low if surplus else max(high, low), e1, e2, toll_c, toll_d)
            place = to
        if place >= end:
            break


@njit(**EXACT_PART)
def _own(
    dt_h: float, penalty: float, m: Market, h: Homes, s: Stores, k: int, i: int, rented: Floats, paper: _Paper
) -> None:
    """Run own store k of agent i."""
    e1, e2, wear = dt_h * s.efficiency_c[k, i], dt_h / s.efficiency_d[k, i], s.wear[k, i]
    for t in range(rented.shape[0]):
        base = h.load[i, t] - h.pv[i, t]
        for q in range(s.charge.shape[0]):
            if q != k:
                base += s.charge[q, i, t] - s.discharge[q, i, t]
        least, most = -s.discharge_max[k, i, t], s.charge_max[k, i, t]
        paper.many[t], paper.into[t], paper.out[t] = 0, most, -least
        first = min(max(-h.exported[i, t] - base, least), most)
        last = min(max(h.imported[i, t] - base, first), most)
        zero = -rented[t] - base - (0.0 if m.free else h.sold[i, t])
        _add(paper, dt_h, t, least, first, 0.0, e1, e2, wear, wear)
        now = s.charge[k, i, t] - s.discharge[k, i, t]
        _trades(paper, dt_h, t, first, last, zero, now, i, m, h, e1, e2, wear, wear)
        _add(paper, dt_h, t, last, most, h.buy[i, t] + penalty, e1, e2, wear, wear)
        paper.bounds[0, t], paper.bounds[1, t] = s.lower[k, i, t], s.upper[k, i, t]
        paper.bounds[2, t] = s.drain[k, i, t]
    _run(paper, e1, e2, s.retention[k, i], s.initial[k, i], s.charge[k, i], s.discharge[k, i])


@njit(**EXACT_PART)
def _space(dt_h: float, m: Market, h: Homes, v: Spaces, j: int, i: int, need: Floats, paper: _Paper) -> None:
    """Run agent i's space in shared store j, beside which it needs ``need``."""
    e1, e2, steps = dt_h * v.efficiency_c[j], dt_h / v.efficiency_d[j], need.shape[0]
    for t in range(steps):
        most = v.power[j, i] * v.available[j, t]
        toll_c, toll_d = v.wear[j] - v.price[j, t], v.wear[j] + v.withdrawal[i, t] + v.price[j, t]
        paper.many[t], paper.into[t], paper.out[t] = 0, most, most
        now = v.charge[j, i, t] - v.discharge[j, i, t]
        _trades(paper, dt_h, t, -most, most, -need[t], now, i, m, h, e1, e2, toll_c, toll_d)
        paper.bounds[0, t], paper.bounds[1, t], paper.bounds[2, t] = 0.0, v.energy[j, i], 0.0
    paper.bounds[0, steps - 1] = paper.bounds[1, steps - 1] = v.final[j, i]
    _run(paper, e1, e2, v.retention[j], v.initial[j, i], v.charge[j, i], v.discharge[j, i])


@njit(**EXACT_PART)
def _moved(m: Market, t: int, more: float) -> None:
    """Take what somebody needs more from the room that there is."""
    m.room[0, t] = max(m.room[0, t] + more, 0.0)
    m.room[1, t] = max(m.room[1, t] - more, 0.0)


@njit(**EXACT)
def run_alone(dt_h: float, penalty: float, m: Market, h: Homes, s: Stores, v: Spaces) -> None:
    """Change the flows of all stores and spaces to what is cheapest at the prices, the others of the same agent given."""
    (stores, agents, steps), shared = s.charge.shape, v.charge.shape[0]
    room = (steps + 1) * (steps * _PIECES + 1)
    paper = _Paper(
        np.empty((steps, _PIECES)), np.empty((steps, _PIECES)), np.zeros(steps, np.int64), np.empty(steps), np.empty(room),
        np.empty(room), np.empty((steps, 2), np.int64), np.empty(steps), np.empty(steps), np.empty(steps), np.empty(steps),
        np.empty(steps), np.empty((3, steps)),
    )  # fmt: skip
    need, before = np.empty(steps), np.empty(steps)
    for i in range(agents):
        need[:] = 0.0
        for j in range(shared):
            for t in range(steps):
                need[t] += v.charge[j, i, t] - v.discharge[j, i, t]
        for k in range(stores):
            if s.charge_max[k, i].max() > 0.0 or s.discharge_max[k, i].max() > 0.0:
                for t in range(steps):
                    before[t] = s.charge[k, i, t] - s.discharge[k, i, t]
                _own(dt_h, penalty, m, h, s, k, i, need, paper)
                for t in range(steps):
                    _moved(m, t, s.charge[k, i, t] - s.discharge[k, i, t] - before[t])
        for t in range(steps):
            meter = h.load[i, t] - h.pv[i, t]
            for k in range(stores):
                meter += s.charge[k, i, t] - s.discharge[k, i, t]
            need[t] += max(meter, min(-h.exported[i, t], h.load[i, t]))
            need[t] += 0.0 if m.free else h.sold[i, t]
        for j in range(shared):
            if v.energy[j, i] > 0.0 and v.power[j, i] > 0.0:
                for t in range(steps):
                    before[t] = v.charge[j, i, t] - v.discharge[j, i, t]
                    need[t] -= before[t]
                _space(dt_h, m, h, v, j, i, need, paper)
                for t in range(steps):
                    need[t] += v.charge[j, i, t] - v.discharge[j, i, t]
                    _moved(m, t, v.charge[j, i, t] - v.discharge[j, i, t] - before[t])
