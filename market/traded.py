"""Where the price must lie, as a plan's trades tell.

Whoever sells to the retailer would rather sell to neighbours if they paid more, and so on: if nobody is to prefer the other of
retailer and neighbours, the exchange's price lambda is ::

    >= buy - charge   of everybody who buys from the retailer,    <= sell           of everybody who sells to it
    >= sell           of everybody who sells to neighbours,       <= buy - charge   of everybody who buys from them
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.problem import Problem

__all__ = ["settled_price", "traded_range"]

Floats = NDArray[np.float64]

_SOME = 1e-9  # of all that is bought and sold: what is less is rounding
_MUCH = 0.02  # of all that is bought and sold: so much at one price tells that it is the price
_NEAR = 5e-3  # of the dearest purchase: how far a price is moved at most


def traded_range(p: Problem, grid_kw: Floats, exchange_kw: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Return the least and the largest price for a plan's trades, shape (n, T), and whether much is traded at each of them.

    Infinite where nothing is traded.  Shapes (T,), (T,), (2, T).
    """
    least, most, much = np.full(p.steps, -np.inf), np.full(p.steps, np.inf), np.zeros((2, p.steps), np.bool_)
    _fill(grid_kw, exchange_kw, p.buy_eur_per_kwh, p.sell_eur_per_kwh, p.exchange_charge_eur_per_kwh, least, most, much)
    return least, most, much


def settled_price(p: Problem, grid_kw: Floats, exchange_kw: Floats, price: Floats) -> Floats:
    """Return the price, moved to where a plan's trades say that it lies, if it is nearly there.

    Where some sell to the retailer what others sell to neighbours the price is the retailer's, and an iteration's is a little
    beside it; a little, times all that is traded, would be missing in a bound.
    """
    least, most, much = traded_range(p, grid_kw, exchange_kw)
    moved = np.minimum(np.maximum(price, least), most)
    near = (least <= most) & (np.abs(moved - price) <= _NEAR * np.abs(p.buy_eur_per_kwh).max(axis=0))
    return np.where(near & np.where(moved > price, *much), moved, price)


@njit(**EXACT)
def _fill(
    grid: Floats, exchange: Floats, buy: Floats, sell: Floats, charge: Floats, least: Floats, most: Floats, much: NDArray[np.bool_]
) -> None:  # fmt: skip
    """Fill the range, and where there is much."""
    (agents, steps), size = grid.shape, np.zeros((3, grid.shape[1]))
    for i in range(agents):
        for t in range(steps):
            size[2, t] += abs(grid[i, t]) + abs(exchange[i, t])
    for turn in range(2):
        for i in range(agents):
            for t in range(steps):
                some, retail, own = _SOME * size[2, t], sell[i, t], buy[i, t] - charge[i, t]
                for q in range(2):  # with the retailer, with neighbours
                    trade = -grid[i, t] if q == 0 else exchange[i, t]
                    if abs(trade) <= some:
                        continue
                    value, side = retail if trade > 0.0 else own, 1 if (trade > 0.0) == (q == 0) else 0
                    if turn == 1:
                        size[side, t] += abs(trade) if value == (least[t] if side == 0 else most[t]) else 0.0
                    elif side == 0:
                        least[t] = max(least[t], value)
                    else:
                        most[t] = min(most[t], value)
    for t in range(steps):
        for side in range(2):
            much[side, t] = size[side, t] > _MUCH * size[2, t]
