"""A continuous order book: orders arrive one after the other, and trade at once with the best that waits.

An order that arrives meets the best waiting order of the other side, best price first, of equal prices the one that came
first; as long as their prices cross they trade, at the price of the one that WAITED.  What is left of it waits in turn.  At
the end of an interval what waits goes home.  No auctioneer: what a buyer pays a seller gets.

The order of arrival is drawn from a seed for every interval, so that the same seed makes the same trades.  Everybody names
his true price and names it once: this is the mechanism without strategy, a lower bound of what traders who watch the book
could do.  Its welfare is at most that of the auctions, because who comes early may trade with somebody who should not have
traded at all; who trades gains, or at least does not lose.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.auction import Auctioned
from market.orders import Orders

__all__ = ["Trades", "trade"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ROUNDING = 1e-12  # of an order: less than that is nothing


@dataclass(frozen=True, slots=True, eq=False)
class Trades:
    """Every trade of the book, in the order in which they happened within their interval."""

    interval: Ints
    seller: Ints
    buyer: Ints
    energy_kwh: Floats
    price_eur_per_kwh: Floats
    result: Auctioned
    """The same in sums."""


def trade(orders: Orders, *, seed: int = 0) -> Trades:
    """Let the orders arrive, each interval for itself.

    Parameters
    ----------
    orders
        What everybody wants.
    seed
        Decides who comes when.

    Examples
    --------
    Whoever waits names the price; here it is one of the two.

    >>> done = trade(Orders.plain([1.0, -1.0], [0.10, 0.30]))
    >>> done.seller.tolist(), done.buyer.tolist(), done.price_eur_per_kwh.tolist()[0] in (0.10, 0.30)
    ([0], [1], True)
    """
    n, slots, steps = orders.energy_kwh.shape
    energy, price = orders.energy_kwh.reshape(-1, steps), orders.price_eur_per_kwh.reshape(-1, steps)
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, int, float, float]] = []  # interval, order of the sale, of the purchase, energy, price
    for t in range(steps):
        arrival = rng.permutation(n * slots)
        rows += [(t, *row) for row in _one_interval(arrival, energy[:, t], price[:, t])]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    interval, sale, purchase = (table[:, c].astype(np.int64) for c in range(3))
    volume, paid = table[:, 3], table[:, 3] * table[:, 4]
    filled, payment = np.zeros((n * slots, steps)), np.zeros((max(n, 1), steps))
    np.add.at(filled, (sale, interval), volume)
    np.subtract.at(filled, (purchase, interval), volume)
    seller, buyer = sale // max(slots, 1), purchase // max(slots, 1)
    np.subtract.at(payment, (seller, interval), paid)
    np.add.at(payment, (buyer, interval), paid)
    energy_sum, money = np.zeros(steps), np.zeros(steps)
    np.add.at(energy_sum, interval, volume)
    np.add.at(money, interval, paid)
    mean = np.where(energy_sum > 0.0, money / np.where(energy_sum > 0.0, energy_sum, 1.0), np.nan)
    result = Auctioned(filled.reshape(n, slots, steps), payment[:n], mean, mean.copy())
    return Trades(interval, seller, buyer, volume, table[:, 4], result)


def _one_interval(arrival: Ints, energy: Floats, price: Floats) -> list[tuple[int, int, float, float]]:
    """Return the trades of one interval: order of the sale, order of the purchase, energy, price."""
    trades: list[tuple[int, int, float, float]] = []
    amounts, prices = energy[arrival].tolist(), price[arrival].tolist()
    waiting_sales: list[tuple[float, int]] = []  # (price, when it came)
    waiting_purchases: list[tuple[float, int]] = []  # (-price, when it came)
    left = [abs(amount) for amount in amounts]
    for now, (amount, limit, who) in enumerate(zip(amounts, prices, arrival.tolist(), strict=True)):
        if amount == 0.0:
            continue
        sign = 1.0 if amount > 0.0 else -1.0
        mine, others = (waiting_sales, waiting_purchases) if amount > 0.0 else (waiting_purchases, waiting_sales)
        nothing = _ROUNDING * left[now]
        while left[now] > nothing and others and sign * limit <= -others[0][0]:
            best = others[0][1]
            traded = min(left[now], left[best])
            sale, purchase = (who, int(arrival[best])) if amount > 0.0 else (int(arrival[best]), who)
            trades.append((sale, purchase, traded, prices[best]))
            left[now] -= traded
            left[best] -= traded
            if left[best] <= _ROUNDING * abs(amounts[best]):
                heapq.heappop(others)
        if left[now] > nothing:
            heapq.heappush(mine, (sign * limit, now))
    return trades
