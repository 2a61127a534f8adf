"""Double auctions: every interval alone, everybody's orders at once.

Sort all orders of an interval by price.  A sale below a price adds to supply, a purchase below it has left demand, so both
add to ``C(p) = sum of all energy ordered at prices up to p``, and supply meets demand where C reaches what all buyers ask
for together, D::

    low  = first price with C >= D         high = first price with C > D                                          (1)
    volume V = min(supply up to low, demand down to high)                                                         (2)

Every price in [low, high] clears; the ends differ only where an order ends exactly where another begins.  V is the largest
volume at which everybody gets a price that he accepts, and the welfare of his orders is the largest there is.  The cheapest
sales and the dearest purchases are filled, in this order; of orders with equal prices at the margin either a seeded lot
decides (``ties="seeded"``) or each gets the same share of what it asked for (``ties="even"``).

==============  ========================================================================================================
uniform         everybody trades at low + k (high - low), the k-double auction [1]_
pay as bid      buyers pay and sellers get what they named; the auctioneer keeps the difference
McAfee          prices are those of the last buyer and the last seller, who then do not trade [2]_ [3]_: naming another
                price than one's own never pays; the auctioneer keeps the difference
VCG             everybody gets what the others gain by his presence [4]_: truthful, nobody loses, and somebody has to bring
                the money
==============  ========================================================================================================

McAfee and VCG keep their promise about truth only where an agent has one order in an interval (VCG: however many), and
McAfee's is about prices, not quantities.

Nothing loops over orders: an interval costs one sort.  VCG looks for n clearing prices, each by bisection.

References
----------
.. [1] K. Chatterjee, W. Samuelson, "Bargaining under incomplete information", Operations Research 31(5), 1983.
.. [2] R. P. McAfee, "A dominant strategy double auction", Journal of Economic Theory 56(2), 1992.
.. [3] P. Huang, A. Scheller-Wolf, K. Sycara, "Design of a multi-unit double auction e-market", Computational Intelligence
   18(4), 2002.
.. [4] W. Vickrey, "Counterspeculation, auctions, and competitive sealed tenders", Journal of Finance 16(1), 1961.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market.orders import Orders, OrdersError

__all__ = ["Auctioned", "Ties", "mcafee", "pay_as_bid", "uniform", "vcg"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ties = Literal["seeded", "even"]

_ROUNDING = 1e-12  # of an interval's energy: what sums of thousands of orders may be off


@dataclass(frozen=True, slots=True, eq=False)
class Auctioned:
    """Who trades how much, and for how much."""

    filled_kwh: Floats
    """Sale +, purchase -.  Shape (n, S, T)."""
    payment_eur: Floats
    """Paid +, received -.  Shape (n, T)."""
    buy_price_eur_per_kwh: Floats
    """What buyers pay in the mean of their energy; NaN where nobody trades.  Shape (T,)."""
    sell_price_eur_per_kwh: Floats
    """What sellers get in the mean of their energy; NaN where nobody trades.  Shape (T,)."""

    @property
    def traded_kwh(self) -> Floats:
        """What each agent sells (+) or buys (-).  Shape (n, T)."""
        traded: Floats = self.filled_kwh.sum(axis=1)
        return traded

    @property
    def auctioneer_eur(self) -> Floats:
        """What the auctioneer is left with (+) or must bring (-).  Shape (T,)."""
        left: Floats = self.payment_eur.sum(axis=0)
        return left


def uniform(orders: Orders, *, k: float = 0.5, ties: Ties = "seeded", seed: int = 0) -> Auctioned:
    """Clear at one price: low + k (high - low) of equation (1).

    Examples
    --------
    >>> done = uniform(Orders.plain([2.0, -1.0, -3.0], [0.10, 0.30, 0.20]))
    >>> done.buy_price_eur_per_kwh.tolist(), done.traded_kwh.ravel().tolist()
    ([0.2], [2.0, -1.0, -1.0])
    """
    if not 0.0 <= k <= 1.0:
        raise OrdersError(f"k is {k}; give a number between 0 (sellers' end of the prices that clear) and 1 (buyers').")
    book = _Book(orders, ties, seed)
    filled = book.efficient()
    low, high = (np.where(book.volume > 0.0, end, np.nan) for end in (book.low, book.high))
    price = low + k * (high - low)
    payment = -np.where(book.volume > 0.0, price, 0.0) * filled.sum(axis=1)
    return Auctioned(filled, payment, price, price.copy())


def pay_as_bid(orders: Orders, *, ties: Ties = "seeded", seed: int = 0) -> Auctioned:
    """Fill as the uniform auction does; everybody pays or gets what he named.

    Examples
    --------
    >>> done = pay_as_bid(Orders.plain([2.0, -1.0, -3.0], [0.10, 0.30, 0.20]))
    >>> done.payment_eur.ravel().round(9).tolist(), done.auctioneer_eur.round(9).tolist()
    ([-0.2, 0.3, 0.2], [0.3])
    """
    filled = _Book(orders, ties, seed).efficient()
    return _priced(filled, orders.surplus_eur(filled))


def mcafee(orders: Orders, *, seed: int = 0) -> Auctioned:
    """Trade without the last buyer and the last seller, at their prices; who is last in a tie is drawn.

    The longer side is cut in proportion to what it asked for.  Where all orders of an interval are of one size, McAfee's own
    first step comes before: the price in the middle of the first buyer and the first seller who would not trade, if
    everybody who would trade accepts it; then nobody is left out and nothing is left over.

    Examples
    --------
    Three pairs of one kWh; the third would just trade, so that it sets the prices:

    >>> done = mcafee(Orders.plain([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [0.1, 0.2, 0.3, 0.6, 0.5, 0.4]))
    >>> done.traded_kwh.ravel().tolist(), done.auctioneer_eur.round(9).tolist()
    ([1.0, 1.0, 0.0, -1.0, -1.0, 0.0], [0.2])
    """
    book = _Book(orders, "seeded", seed)
    sale, purchase = book.sales, book.purchases
    last_sale, last_purchase = book.last(sale), book.last(purchase)
    take = np.take_along_axis
    ask = take(sale.price, last_sale[:, None], 1)[:, 0]
    bid = take(purchase.price, last_purchase[:, None], 1)[:, 0]
    # everybody before the last, cut to the shorter side
    inside_sale, inside_purchase = sale.before(last_sale), purchase.before(last_purchase)
    volume = np.where(book.volume > 0.0, np.minimum(inside_sale, inside_purchase), 0.0)
    fill_sale = sale.share(last_sale, volume, inside_sale)
    fill_purchase = purchase.share(last_purchase, volume, inside_purchase)
    sell_price, buy_price = ask, bid
    next_ask, next_bid = sale.price_at(last_sale + 1), purchase.price_at(last_purchase + 1)
    both = np.isfinite(next_ask) & np.isfinite(next_bid)
    middle = 0.5 * (np.where(both, next_ask, 0.0) + np.where(both, next_bid, 0.0))
    everybody = book.one_size() & (book.volume > 0.0) & both & (ask <= middle) & (middle <= bid)
    whole = everybody[:, None]
    fill_sale = np.where(whole, sale.share(last_sale + 1, book.volume, book.volume), fill_sale)
    fill_purchase = np.where(whole, purchase.share(last_purchase + 1, book.volume, book.volume), fill_purchase)
    sell_price, buy_price = np.where(everybody, middle, sell_price), np.where(everybody, middle, buy_price)
    filled = book.signed(fill_sale, fill_purchase)
    trades = np.where(everybody, book.volume, volume) > 0.0
    sold, bought = np.maximum(filled, 0.0).sum(axis=1), np.minimum(filled, 0.0).sum(axis=1)
    paid = -np.where(trades, sell_price, 0.0) * sold - np.where(trades, buy_price, 0.0) * bought
    return Auctioned(filled, paid, np.where(trades, buy_price, np.nan), np.where(trades, sell_price, np.nan))


def vcg(orders: Orders, *, ties: Ties = "seeded", seed: int = 0) -> Auctioned:
    """Fill as the uniform auction does; everybody gains what his presence adds to the welfare of all.

    With W the welfare of all orders and W(-i) that of the others among themselves, agent i pays ``W(-i) - (W - w_i)``.  The
    sum is never above zero: what is missing the auctioneer has to bring.

    Examples
    --------
    One seller at 0.10, one buyer at 0.30, 1 kWh: both want the whole 0.20.

    >>> done = vcg(Orders.plain([1.0, -1.0], [0.10, 0.30]))
    >>> done.payment_eur.ravel().round(9).tolist(), done.auctioneer_eur.round(9).tolist()
    ([-0.3, 0.1], [-0.2])
    """
    book = _Book(orders, ties, seed)
    filled = book.efficient()
    own = orders.surplus_eur(filled)
    total = own.sum(axis=0)
    return _priced(filled, book.welfare_without() - (total - own))


def _priced(filled: Floats, payment: Floats) -> Auctioned:
    """Return mean prices beside payments.  An agent's payment counts where it trades."""
    net = filled.sum(axis=1)
    prices = []
    for side in (net < 0.0, net > 0.0):
        energy = np.where(side, net, 0.0).sum(axis=0)
        money = np.where(side, payment, 0.0).sum(axis=0)
        prices.append(np.where(energy != 0.0, -money / np.where(energy != 0.0, energy, 1.0), np.nan))
    return Auctioned(filled, payment, prices[0], prices[1])


class _Side:
    """The sales or the purchases of all intervals, best first; orders of the other side have no energy.  Shapes (T, m)."""

    def __init__(self, energy: Floats, price: Floats, lot: Floats | None, sign: float) -> None:
        has = energy > 0.0
        merit = np.where(has, sign * price, np.inf)
        self.order = np.lexsort((lot, merit), axis=1) if lot is not None else np.argsort(merit, axis=1, kind="stable")
        self.energy = np.take_along_axis(np.where(has, energy, 0.0), self.order, 1)
        self.price = np.take_along_axis(np.where(has, price, sign * np.inf), self.order, 1)
        self.total = np.cumsum(self.energy, axis=1)

    def back(self, ranked: Floats) -> Floats:
        """Return a column from the order of merit to the order of the book."""
        plain = np.empty_like(ranked)
        np.put_along_axis(plain, self.order, ranked, 1)
        return plain

    def before(self, rank: Ints) -> Floats:
        """Return the energy of the orders before a rank, shape (T,)."""
        behind = np.take_along_axis(self.total, np.maximum(rank - 1, 0)[:, None], 1)[:, 0]
        return np.where(rank > 0, behind, 0.0)

    def price_at(self, rank: Ints) -> Floats:
        """Return the price at a rank, infinite where there is no order, shape (T,)."""
        inside = rank < self.price.shape[1]
        found = np.take_along_axis(self.price, np.minimum(rank, self.price.shape[1] - 1)[:, None], 1)[:, 0]
        return np.where(inside, found, np.inf)

    def share(self, stop: Ints, volume: Floats, whole: Floats) -> Floats:
        """Return volume/whole of every order before a rank, in the order of the book."""
        part = np.where(whole > 0.0, volume / np.where(whole > 0.0, whole, 1.0), 0.0)
        inside = np.arange(self.energy.shape[1]) < stop[:, None]
        return self.back(np.where(inside, self.energy * np.minimum(part, 1.0)[:, None], 0.0))


class _Book:
    """All orders of all intervals, ranked; equations (1) and (2)."""

    def __init__(self, orders: Orders, ties: Ties, seed: int) -> None:
        if ties not in ("seeded", "even"):
            raise OrdersError(f"ties is {ties!r}; give 'seeded' or 'even'.")
        self.orders, self.ties = orders, ties
        m = max(orders.n * orders.energy_kwh.shape[1], 1)  # one empty order in an empty book
        energy, price = np.zeros((orders.steps, m)), np.zeros((orders.steps, m))
        energy[:, : orders.n * orders.energy_kwh.shape[1]] = orders.energy_kwh.reshape(-1, orders.steps).T
        price[:, : orders.n * orders.energy_kwh.shape[1]] = orders.price_eur_per_kwh.reshape(-1, orders.steps).T
        lot: Floats | None = None
        if ties == "seeded":
            lot = np.asarray(np.random.default_rng(seed).random(energy.shape))
        self.energy = np.abs(energy)
        self.sales, self.purchases = _Side(energy, price, lot, 1.0), _Side(-energy, price, lot, -1.0)
        # all orders by price: where supply has grown and demand has gone so far that they meet; empty ones weigh nothing
        order = np.argsort(price, axis=1)
        self.price = np.take_along_axis(price, order, 1)
        self.weight = np.take_along_axis(energy, order, 1)
        self.rank = np.empty_like(order)
        np.put_along_axis(self.rank, order, np.broadcast_to(np.arange(m), order.shape), 1)
        self.passed = np.cumsum(np.abs(self.weight), axis=1)
        self.demand = self.purchases.total[:, -1]
        self.rounding = _ROUNDING * self.passed[:, -1]
        enough = self.passed >= (self.demand - self.rounding)[:, None]
        more = self.passed > (self.demand + self.rounding)[:, None]
        t = np.arange(orders.steps)
        self.low = self.price[t, enough.argmax(axis=1)]
        self.high = np.where(more.any(axis=1), self.price[t, more.argmax(axis=1)], np.inf)
        supply = np.where(self.sales.price <= self.low[:, None], self.sales.energy, 0.0).sum(axis=1)
        demand = np.where(self.purchases.price >= self.high[:, None], self.purchases.energy, 0.0).sum(axis=1)
        volume = np.minimum(supply, demand)
        self.volume = np.where(volume > self.rounding, volume, 0.0)

    def last(self, side: _Side) -> Ints:
        """Return the rank of the last order that the volume reaches, shape (T,)."""
        reached = side.total >= (self.volume - self.rounding)[:, None]
        return np.asarray(reached.argmax(axis=1), dtype=np.int64)

    def one_size(self) -> NDArray[np.bool_]:
        """Return where all orders are equally large, shape (T,)."""
        largest = self.energy.max(axis=1)
        least = np.where(self.energy > 0.0, self.energy, np.inf).min(axis=1)
        return np.asarray(least >= largest * (1.0 - 1e-12))

    def signed(self, sold: Floats, bought: Floats) -> Floats:
        """Return fillings of both sides, shapes (T, m), as one column of shape (n, S, T)."""
        n, s, steps = self.orders.energy_kwh.shape
        return np.ascontiguousarray((sold - bought)[:, : n * s].T).reshape(n, s, steps)

    def efficient(self) -> Floats:
        """Fill the cheapest sales and the dearest purchases up to the volume."""
        return self.signed(self._fill(self.sales), self._fill(self.purchases))

    def _fill(self, side: _Side) -> Floats:
        volume = self.volume[:, None]
        if self.ties == "seeded":
            return side.back(np.clip(volume - (side.total - side.energy), 0.0, side.energy))
        margin = side.price_at(self.last(side))[:, None]
        level = side.price == margin
        better = np.where(~level & (np.arange(level.shape[1]) < level.argmax(axis=1)[:, None]), side.energy, 0.0)
        at = np.where(level, side.energy, 0.0)
        rest, wanted = volume[:, 0] - better.sum(axis=1), at.sum(axis=1)
        part = np.clip(np.where(wanted > 0.0, rest / np.where(wanted > 0.0, wanted, 1.0), 0.0), 0.0, 1.0)
        return side.back(np.where(volume > 0.0, better + at * part[:, None], 0.0))

    def welfare_without(self) -> Floats:
        """Return the welfare of all others for each agent, shape (n, T). [eur]

        By duality it is the least over prices p of ``sum of sales q (p - s)+ + sum of purchases q (b - p)+``, taken at the
        first price at which the others' orders are passed as far as the others' demand.
        """
        n, s, steps = self.orders.energy_kwh.shape
        if n == 0:
            return np.zeros((0, steps))
        t = np.arange(steps)
        energy, price = self.orders.energy_kwh, self.orders.price_eur_per_kwh
        rank = self.rank[:, : n * s].T.reshape(n, s, steps)
        demand = self.demand - np.maximum(-energy, 0.0).sum(axis=1)  # (n, T)
        first = np.zeros((n, steps), np.int64)
        stop = np.full((n, steps), self.price.shape[1] - 1)
        for _ in range(int(self.price.shape[1]).bit_length()):
            middle = (first + stop) // 2
            own = np.where(rank <= middle[:, None, :], np.abs(energy), 0.0).sum(axis=1)
            enough = self.passed[t, middle] - own >= demand - self.rounding
            first, stop = np.where(enough, first, np.minimum(middle + 1, stop)), np.where(enough, middle, stop)
        at = self.price[t, first]
        sold, bought = np.maximum(self.weight, 0.0), np.maximum(-self.weight, 0.0)
        below, below_eur = np.cumsum(sold, axis=1), np.cumsum(sold * self.price, axis=1)
        above = bought.sum(axis=1)[:, None] - np.cumsum(bought, axis=1)
        above_eur = (bought * self.price).sum(axis=1)[:, None] - np.cumsum(bought * self.price, axis=1)
        welfare = below[t, first] * at - below_eur[t, first] + above_eur[t, first] - above[t, first] * at
        gain = np.maximum(energy * (at[:, None, :] - price), 0.0).sum(axis=1)
        return np.asarray(welfare - gain)
