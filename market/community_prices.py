"""Sharing without an auction: what is left over goes to who is short, at a price that a formula gives.

In an interval members need D_i and have G_j left over at their balance, at retail.  They share V = min(ΣD, ΣG), everybody in
proportion, if that is worth while: if the cheapest purchase price of those in need, less their local charge, p_b, is not
below the dearest feed-in price of those with a surplus, p_s (nothing where feeding in costs money and is left).  The rest
stays with the retailer::

    A_i = D_i V / ΣD,   B_j = G_j V / ΣG                                                                          (1)

======================  =============================================================================================
mid-market rate         a shared kWh costs (p_b + p_s) / 2 [1]_
supply-demand ratio     p_s p_b / ((p_b - p_s) R + p_s) with R = ΣG/ΣD < 1, else p_s [2]_: the scarcer, the dearer
bill sharing            shared kWh are free of charge; over the whole horizon the bill for what was still bought is
                        divided in proportion to need, the income from what was fed in in proportion to surplus [1]_
======================  =============================================================================================

The first two are the price rules of the settlement (:mod:`market.allocation`) and make nobody worse off.  Bill sharing may:
who sells while the community is short of energy gets nothing for it.

References
----------
.. [1] C. Long, J. Wu, C. Zhang, L. Thomas, M. Cheng, N. Jenkins, "Peer-to-peer energy trading in a community microgrid",
   IEEE Power & Energy Society General Meeting, 2017; compared in Y. Zhou, J. Wu, C. Long, "Evaluation of peer-to-peer
   energy sharing mechanisms based on a multiagent simulation framework", Applied Energy 222, 2018.
.. [2] N. Liu, X. Yu, C. Wang, C. Li, L. Ma, J. Lei, "Energy-sharing model with price-based demand response for microgrids
   of peer-to-peer prosumers", IEEE Transactions on Power Systems 32(5), 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.allocation import price as price_of
from market.orders import Alone, OrdersError, Retail

__all__ = ["SharedOut", "bill_sharing", "by_price_rule"]

Floats = NDArray[np.float64]

_PARTS = 10**15  # the price rules take whole numbers: a ratio of supply to demand in so many parts


@dataclass(frozen=True, slots=True, eq=False)
class SharedOut:
    """Who gets and gives how much, and what is paid for it."""

    traded_kwh: Floats
    """B - A.  Shape (n, T)."""
    payment_eur: Floats
    """Paid +, received -.  Shape (n, T)."""
    price_eur_per_kwh: Floats
    """Of a shared kWh; NaN where none is shared or it has no price.  Shape (T,)."""
    buy_price_eur_per_kwh: Floats
    """What those in need pay in the mean for a kWh, that of the retailer included (charges beside it).  Shape (T,)."""
    sell_price_eur_per_kwh: Floats
    """What those with a surplus get in the mean for a kWh, that of the retailer included.  Shape (T,)."""


def by_price_rule(before: Alone, rule: str) -> SharedOut:
    """Share at a price rule of :mod:`market.allocation`: ``price.mmr`` or ``price.sdr``.

    Examples
    --------
    Half of the need is there, at 0.20 and 0.05; the rest of it is the retailer's:

    >>> from market.orders import alone
    >>> from market.problem import Problem
    >>> before = alone(Problem.plain([[0.0], [2.0]], [[1.0], [0.0]], 0.20, 0.05, dt_h=1.0))
    >>> shared = by_price_rule(before, "price.sdr")
    >>> shared.sell_price_eur_per_kwh.round(9).tolist(), shared.buy_price_eur_per_kwh.round(9).tolist()
    ([0.08], [0.14])
    """
    retail = _retail(before)
    s = _Shares(before)
    low, high = np.where(s.shares, s.highest_sell, 0.0), np.where(s.shares, s.lowest_buy, 0.0)
    ratio = np.where(s.shares, np.minimum(s.supply / np.where(s.shares, s.demand, 1.0), 1.0), 1.0)
    parts = np.rint(ratio * _PARTS).astype(np.int64)
    price = price_of(rule, high, low, np.full_like(parts, _PARTS), parts)
    payment = price * (s.received - s.given)
    bought = payment * (s.received > 0.0) + (retail.buy - retail.charge) * (s.need - s.received)
    sold = -payment * (s.given > 0.0) + before.curves.b_eur_per_kwh * (s.surplus - s.given)
    return SharedOut(
        s.given - s.received, payment, np.where(s.shares, price, np.nan), _mean(bought, s.demand), _mean(sold, s.supply)
    )


def bill_sharing(before: Alone) -> SharedOut:
    """Share the community's bill over the whole horizon.

    Examples
    --------
    The seller's 1 kWh is used inside, so that the community feeds nothing in and the seller gets nothing:

    >>> from market.orders import alone
    >>> from market.problem import Problem
    >>> before = alone(Problem.plain([[0.0], [2.0]], [[1.0], [0.0]], 0.20, 0.05, dt_h=1.0))
    >>> shared = bill_sharing(before)
    >>> shared.sell_price_eur_per_kwh.round(9).tolist(), shared.buy_price_eur_per_kwh.round(9).tolist()
    ([0.0], [0.1])
    """
    retail = _retail(before)
    s = _Shares(before)
    bill = retail.buy * (s.need - s.received) + retail.charge * s.received
    income = before.curves.b_eur_per_kwh * (s.surplus - s.given)
    buy_price = float(bill.sum() / s.need.sum()) if s.need.any() else float("nan")
    sell_price = float(income.sum() / s.surplus.sum()) if s.surplus.any() else float("nan")
    payment = np.where(s.need > 0.0, buy_price * s.need - bill, 0.0)
    payment -= np.where(s.surplus > 0.0, sell_price * s.surplus - income, 0.0)
    return SharedOut(
        s.given - s.received,
        payment,
        np.full(before.steps, np.nan),
        np.where(s.demand > 0.0, buy_price, np.nan),
        np.where(s.supply > 0.0, sell_price, np.nan),
    )


class _Shares:
    """Equation (1)."""

    def __init__(self, before: Alone) -> None:
        self.need, self.surplus = before.need_kwh(), before.surplus_kwh()
        self.demand, self.supply = self.need.sum(axis=0), self.surplus.sum(axis=0)
        worth = before.curves.b_eur_per_kwh  # purchase less charge, or feed-in
        self.lowest_buy = np.where(self.need > 0.0, worth, np.inf).min(axis=0, initial=np.inf)
        self.highest_sell = np.where(self.surplus > 0.0, worth, -np.inf).max(axis=0, initial=-np.inf)
        both = (self.demand > 0.0) & (self.supply > 0.0)
        self.shares = both & (self.lowest_buy >= self.highest_sell)
        volume = np.where(self.shares, np.minimum(self.demand, self.supply), 0.0)
        self.received = self.need * (volume / np.where(self.demand > 0.0, self.demand, 1.0))
        self.given = self.surplus * (volume / np.where(self.supply > 0.0, self.supply, 1.0))


def _mean(money: Floats, energy: Floats) -> Floats:
    mean: Floats = np.where(energy > 0.0, money.sum(axis=0) / np.where(energy > 0.0, energy, 1.0), np.nan)
    return mean


def _retail(before: Alone) -> Retail:
    if before.retail is None:
        raise OrdersError(
            "a price between retail and feed-in needs a retailer, and cost curves have none. Give buy_eur_per_kwh and "
            "sell_eur_per_kwh, or homes."
        )
    return before.retail
