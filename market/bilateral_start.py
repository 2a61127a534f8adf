"""Where the bilateral iteration begins: the pool's price and a penalty in its units.

If charges did not differ all agents would meet at the pool's price, so the iteration looks for differences from it, which also keeps single precision's digits for what matters.  The penalty is a slope of
prices over powers; the pool says which: the mean, weighted by power, of an agent's margin over its power.  From there a few
dozen iterations do what takes hundreds from a penalty ten times off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.bilateral_problem import Bilateral
from market.compiled import EXACT

__all__ = ["Start", "Warm", "start"]

Floats = NDArray[np.float64]

_LEAST = 1e-12  # weight of who trades nothing


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """Where a clearing ended; another with the same agents and pairs may begin there."""

    trades_kw: Floats
    """Shape (E, T)."""
    price_eur_per_kwh: Floats
    """Shape (E, T)."""
    marginal_eur_per_kwh: Floats
    """Shape (n, T)."""
    penalty_eur_per_kw2h: Floats
    """Shape (T,)."""
    store_states: Floats
    """The iteration's numbers of every store's charge, discharge and content: plan and price in one.  Shape (3, K, n, T)."""

    def dropped(self, steps: int) -> Warm:
        """Return the rest of the horizon, without its first ``steps`` intervals."""
        return Warm(*(getattr(self, name)[..., steps:] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Reference price, penalty and scales, each of shape (T,), and what tells agents and pairs apart in size."""

    price_eur_per_kwh: Floats
    penalty_eur_per_kw2h: Floats
    margin_eur_per_kwh: Floats
    """How far an agent's first kWh is from the price, typically."""
    size_kw: Floats
    """What an agent brings, typically."""
    usual_kw: Floats
    """What each agent may be expected to trade: an imbalance is relative to it.  Shape (n,)."""
    weight: Floats
    """Of each pair: the lesser of what its ends may be expected to trade, over what is typical.  Shape (E,)."""


def start(problem: Bilateral) -> Start:
    """Return where to begin."""
    curves = problem.curves
    total = 0.5 * (problem.charge_first_eur_per_kwh + problem.charge_second_eur_per_kwh)
    charge = np.full((problem.n, total.shape[1]), np.inf)
    for ends in (problem.first, problem.second):
        np.minimum.at(charge, ends, total)
    linked = np.isfinite(charge).all(axis=1)
    charge[~linked] = 0.0
    sell, buy = problem.may()
    shifted = curves.b_eur_per_kwh + np.where(sell & ~buy, charge, np.where(buy & ~sell, -charge, 0.0))
    low, high = np.where(linked[:, None], (curves.p_min_kw, curves.p_max_kw), 0.0)
    price, pool = np.zeros(problem.steps), np.zeros((problem.n, problem.steps))
    if problem.n:
        _pool(curves.a_eur_per_kw2h, shifted, low, high, price, pool)
    power, margin = abs(pool), abs(price - shifted)
    reach = np.maximum(abs(low), abs(high)).mean(axis=0) if problem.n else np.ones(problem.steps)
    spread = margin.mean(axis=0) if problem.n else np.ones(problem.steps)
    traded = power.sum(axis=0)
    some = traded > 1e-9 * problem.n * reach
    weight = np.where(some, traded, 1.0)
    size = np.where(some, (power**2).sum(axis=0) / weight, reach)
    near = np.where(some, (margin * power).sum(axis=0) / weight, spread)
    near = np.maximum(near, np.maximum(1e-3 * spread, 1e-2 * abs(price)))  # where all are tied at one price
    if problem.stores is not None:
        near = np.maximum(near, abs(price - price.mean()).mean())
    near, size = np.where(near > 0.0, near, 1.0), np.where(size > 0.0, size, 1.0)
    return Start(price, near / size, near, size, *_sizes(problem, margin + near, size))


def _sizes(problem: Bilateral, margin: Floats, size: Floats) -> tuple[Floats, Floats]:
    """Return what each agent may be expected to trade, and the weights of the pairs."""
    curves, typical = problem.curves, float(size.mean())
    reach = np.maximum(abs(curves.p_min_kw), abs(curves.p_max_kw))
    steep = curves.a_eur_per_kw2h > 0.0
    reach = np.minimum(reach, np.divide(margin, curves.a_eur_per_kw2h, out=np.full_like(reach, np.inf), where=steep))
    if problem.stores is not None:
        s = problem.stores
        reach = reach + np.maximum(s.store_charge_max_kw, s.store_discharge_max_kw).sum(axis=0)
    each = reach.mean(axis=1)
    first, second = problem.first, problem.second
    around = np.zeros(problem.n)
    np.add.at(around, first, each[second])
    np.add.at(around, second, each[first])
    usual = np.maximum(np.minimum(each, around), _LEAST * typical)
    weight = np.minimum(np.minimum(usual[first], usual[second]), problem.trade_max_kw.mean(axis=1))
    return usual, np.maximum(weight, _LEAST * typical) / typical


@njit(**EXACT)
def _pool(a: Floats, b: Floats, low: Floats, high: Floats, price: Floats, power: Floats) -> None:
    """Fill price and power with the pool's, nearly: :func:`market.curves.clear_pool` is exact, this is fifty halvings."""
    agents, steps = a.shape
    least, most, total = np.full(steps, np.inf), np.full(steps, -np.inf), np.empty(steps)
    for i in range(agents):
        for t in range(steps):
            least[t] = min(least[t], b[i, t] + a[i, t] * low[i, t])
            most[t] = max(most[t], b[i, t] + a[i, t] * high[i, t])
    for _ in range(50):
        for t in range(steps):
            price[t], total[t] = 0.5 * (least[t] + most[t]), 0.0
        for i in range(agents):
            for t in range(steps):
                margin, slope = price[t] - b[i, t], a[i, t]
                far = margin / slope if slope > 0.0 else (np.inf if margin > 0.0 else -np.inf)
                power[i, t] = min(max(far, low[i, t]), high[i, t])
                total[t] += power[i, t]
        for t in range(steps):
            if total[t] > 0.0:
                most[t] = price[t]
            else:
                least[t] = price[t]
