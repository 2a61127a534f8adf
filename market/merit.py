"""What an agent's need costs the community: the cheapest that its neighbours leave it comes first.

With the needs of the others given, agent i's own need is met by the retailer or by the exchange.  At a price p of the
exchange the others sell X(p) together, a step at each price at which one of them stops buying or begins to sell, and ::

    D(v) = min(0, X(v)) + max(0, X(v - charge_i)),     max(sell_i, least) <= v <= min(buy_i, most + charge_i)      (1)
    least = max_j (sell_j - charge_j),   most = min_j buy_j

is the need of agent i whose last kWh is worth v: the inverse of the slope of the community's cost, which is convex.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market.problem import Problem

__all__ = ["Steps", "steps_of"]

Floats = NDArray[np.float64]


class Steps(NamedTuple):
    """Steps of an agent's need, whose last kWh costs more from one to the next.  Shapes (T, q)."""

    start: Floats
    """The need below which the first price holds.  Shape (T,). [kW]"""
    size_kw: Floats
    """How far each reaches, 0 where nobody is there; the first and the last, which have no end, are infinite."""
    price_eur_per_kwh: Floats
    """Rises over the steps that have a size."""


def steps_of(p: Problem, i: int, need_kw: Floats) -> Steps:
    """Return (1) for agent ``i`` where all agents need ``need_kw``, shape (n, T)."""
    others = np.delete(np.arange(p.n), i) if p.exchange == "free" else np.arange(0)
    charge = p.exchange_charge_eur_per_kwh
    price = np.concatenate([(p.buy_eur_per_kwh - charge)[others], p.sell_eur_per_kwh[others]])
    size = np.concatenate([np.maximum(need_kw[others], 0.0), np.maximum(-need_kw[others], 0.0)])
    order = np.argsort(price, axis=0, kind="stable")
    price, size = np.take_along_axis(price, order, axis=0), np.take_along_axis(size, order, axis=0)
    bought = np.maximum(need_kw[others], 0.0).sum(axis=0)
    end = np.cumsum(size, axis=0) - bought
    sold = np.clip(np.minimum(end, 0.0) - np.minimum(end - size, 0.0), 0.0, size)  # by agent i: the others still buy
    low, high = p.sell_eur_per_kwh[i], p.buy_eur_per_kwh[i]
    ends = low, high
    if p.exchange == "free":
        least, most = (p.sell_eur_per_kwh - charge).max(axis=0), p.buy_eur_per_kwh.min(axis=0)
        price, ends = (
            np.minimum(np.maximum(price, least), most),
            (np.maximum(low, least), np.minimum(high, most + charge[i])),
        )
    start = -bought
    if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
        start = -p.pinned_exchange_kw[i]
    every, endless = np.concatenate([price, price + charge[i]]), np.full((1, p.steps), np.inf)
    prices = np.concatenate([ends[0][None], np.minimum(np.maximum(every, low), high), ends[1][None]])
    return Steps(start, np.concatenate([endless, sold, size - sold, endless]).T, prices.T)
