"""Who gets how much of what the community makes, and at what price: the sharing rules, by name.

In an interval members need D_i and others have G_j left over (whole milli-watt-hours, nobody both).  A rule says what
each receives, A_i, and each gives, B_j; whatever it is, it keeps the laws ::

    0 <= A_i <= D_i      0 <= B_j <= G_j      Σ A = Σ B <= min(Σ D, Σ G)                               (1)

================================  ====================================================================================
``alloc.prorata``                 A_i = D_i min(ΣG, ΣD) / ΣD: in proportion to need (France's default, Austria and
                                  Germany "dynamic"; the default here)
``alloc.equal``                   water filling: the same for everyone, what one cannot use goes to the others
``alloc.static``                  A_i = min(b_i ΣG, D_i) with fixed keys b (or keys per interval); unused shares are
                                  not given to others
``alloc.static_redistribute``     the same, but unused shares are offered again by the keys until nothing is left
``alloc.none``                    nothing is shared
================================  ====================================================================================

The givers' side is in proportion to G in all of them.  Numbers are whole: a split is rounded down and what is missing
goes, one each, to the largest remainders, ties to the first in the order given (callers sort by agent_id).  The two
rules that share everything (prorata, equal) reach Σ A = min(Σ D, Σ G) exactly.

Prices of a shared kWh, between what the giver would get at the retailer, p_s, and what the receiver would pay there
less the local charge, p_b:

=============  =========================================================================================================
``price.mmr``  (p_b + p_s) / 2, the mid-market rate
``price.sdr``  supply-demand ratio R = ΣG / ΣD: p_s p_b / ((p_b − p_s) R + p_s) for R < 1, else p_s; what a buyer pays
               on average, the rest of its need from the retailer included, is then p R + p_b (1 − R) (Liu et al. 2017,
               "Energy-sharing model with price-based demand response for microgrids of peer-to-peer prosumers",
               IEEE Trans. Power Systems 32(5)).  The formula is hyperbolic and needs p_s > 0; where feeding in earns
               nothing or costs, the straight line between the same ends is taken
=============  =========================================================================================================
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "ALLOCATIONS",
    "PRICES",
    "AllocationError",
    "AllocationRule",
    "PriceRule",
    "equal",
    "largest_remainder",
    "mid_market_rate",
    "none",
    "price",
    "proportional",
    "prorata",
    "share",
    "static",
    "static_redistribute",
    "supply_demand_ratio",
]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]


class AllocationError(ValueError):
    """A sharing rule is unknown, lacks its keys, or broke a law."""


class AllocationRule(Protocol):
    """A sharing rule: plain function of need and surplus."""

    def __call__(self, demand: Counts, generation: Counts, keys: Vector | None) -> tuple[Counts, Counts]:
        """Return what each receives and gives, both of shape (n, T).

        Parameters
        ----------
        demand, generation : shape (n, T)
            Need and surplus; of one agent in one interval one of them is zero. [mWh]
        keys : shape (n,) or (n, T), or None
            Fixed shares, summing to one over the agents, for rules that have keys. [1]
        """
        ...


class PriceRule(Protocol):
    """A price of shared energy: plain function of prices and quantities, all of shape (T,)."""

    def __call__(self, retail: Vector, feed_in: Vector, demand: Counts, supply: Counts) -> Vector:
        """Return the price. [eur/kWh]

        Parameters
        ----------
        retail
            What a receiver would pay at the retailer, less the charge on a local kWh. [eur/kWh]
        feed_in
            What a giver would earn there. [eur/kWh]
        demand, supply
            Sums of need and surplus. [mWh]
        """
        ...


# -- whole numbers -----------------------------------------------------------------------------------------------------


def largest_remainder(values: Vector, total: Counts) -> Counts:
    """Round the columns of ``values`` to whole numbers that sum to ``total``.

    Each value is rounded down; what is missing goes, one each, to the largest remainders, ties to the first row.

    Parameters
    ----------
    values : shape (n, T)
        Their columns sum to ``total`` within less than one.
    total : shape (T,)

    Examples
    --------
    >>> largest_remainder(np.array([[0.5], [0.25], [0.25], [-1.0]]), np.array([0])).T
    array([[ 1,  0,  0, -1]])
    """
    down = np.floor(values)
    return _fill_up(down.astype(np.int64), values - down, total)


def proportional(weight: Counts, total: Counts) -> Counts:
    """Split ``total`` in proportion to ``weight``, exactly, by largest remainders.

    Parameters
    ----------
    weight : shape (n, T)
        Not negative.
    total : shape (T,)
        At most the sum of the weights, so that nobody gets more than its weight.
    """
    whole = weight.sum(axis=0)
    share_of: NDArray[Any] = weight
    if float(weight.max(initial=0)) * float(total.max(initial=0)) >= 2.0**63:
        share_of = weight.astype(object)  # Python's integers do not overflow
    product = share_of * total
    down = product // np.maximum(whole, 1)
    rest = product - down * whole
    return _fill_up(down.astype(np.int64), rest, total)


def _fill_up(down: Counts, remainder: NDArray[Any], total: Counts) -> Counts:
    missing = total - down.sum(axis=0)
    if ((missing < 0) | (missing > len(down))).any():
        t = int(np.flatnonzero((missing < 0) | (missing > len(down)))[0])
        raise AllocationError(
            f"the values of column {t} do not sum to {total[t]}: rounded down they miss it by {missing[t]}. "
            f"Give values that sum to the total."
        )
    order = np.argsort(-remainder, axis=0, kind="stable")
    plus = np.zeros(down.shape, dtype=np.int64)
    np.put_along_axis(plus, order, (np.arange(len(down))[:, None] < missing).astype(np.int64), axis=0)
    return down + plus


# -- who gets how much -------------------------------------------------------------------------------------------------


def prorata(demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:  # noqa: ARG001 - rules share one signature
    """Share in proportion to need; ``keys`` are not used."""
    shared = np.minimum(demand.sum(axis=0), generation.sum(axis=0))
    return proportional(demand, shared), proportional(generation, shared)


def equal(demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:  # noqa: ARG001 - rules share one signature
    """Give everyone the same, and what one cannot use to the others; ``keys`` are not used.

    The water level λ is the largest whole number with Σ min(D_i, λ) <= the shared total; what is then left is less than
    the number of those still in need, and goes to the first of them, one each.
    """
    n = len(demand)
    shared = np.minimum(demand.sum(axis=0), generation.sum(axis=0))
    rising = np.sort(demand, axis=0)
    below = np.vstack([np.zeros_like(shared), np.cumsum(rising, axis=0)])  # sums of the k smallest
    filled = (below[:-1] + rising * np.arange(n, 0, -1)[:, None] <= shared).sum(axis=0)
    left = shared - np.take_along_axis(below, filled[None], axis=0)[0]
    level = np.where(filled < n, left // np.maximum(n - filled, 1), demand.max(axis=0, initial=0))
    received = np.minimum(demand, level)
    wanting = demand > received
    received += wanting & (np.cumsum(wanting, axis=0) <= shared - received.sum(axis=0))
    return received, proportional(generation, shared)


def static(demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:
    """Share by fixed keys; what one cannot use stays with the givers."""
    b = _keys(keys, demand)
    supply = generation.sum(axis=0)
    received = np.minimum(largest_remainder(b * supply, supply), demand)
    return received, proportional(generation, received.sum(axis=0))


def static_redistribute(demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:
    """Share by fixed keys, and offer what one cannot use to the others by the same keys, again and again."""
    b = _keys(keys, demand)
    received, left = np.zeros_like(demand), generation.sum(axis=0)
    for _ in range(len(demand)):  # every round empties the pool or fills somebody
        weight = b * (demand > received)
        weights = weight.sum(axis=0)
        offered = np.where(weights > 0.0, left, 0)
        if not offered.any():
            break
        offer = largest_remainder(weight * (offered / np.where(weights > 0.0, weights, 1.0)), offered)
        taken = np.minimum(offer, demand - received)
        received, left = received + taken, left - taken.sum(axis=0)
    return received, proportional(generation, received.sum(axis=0))


def none(demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:  # noqa: ARG001 - rules share one signature
    """Share nothing; ``keys`` are not used."""
    return np.zeros_like(demand), np.zeros_like(generation)


def _keys(keys: Vector | None, demand: Counts) -> Vector:
    if keys is None:
        raise AllocationError(
            "the static sharing rules need keys, and none were given. Give each member its share; they sum to 1."
        )
    b = np.asarray(keys, dtype=np.float64)
    b = b[:, None] if b.ndim == 1 else b
    if b.shape not in ((len(demand), 1), demand.shape):
        raise AllocationError(f"the keys have shape {np.shape(keys)}; give one for each of the {len(demand)} members.")
    if not (b >= 0.0).all() or not np.allclose(b.sum(axis=0), 1.0, rtol=0.0, atol=1e-9):
        raise AllocationError(
            f"the keys must not be negative and must sum to 1; they sum to {b.sum(axis=0)[:3].tolist()}, "
            f"the smallest is {b.min()}."
        )
    return np.asarray(b / b.sum(axis=0))


# -- at what price -----------------------------------------------------------------------------------------------------


def mid_market_rate(retail: Vector, feed_in: Vector, demand: Counts, supply: Counts) -> Vector:  # noqa: ARG001 - rules share one signature
    """Return the middle between retail (less the local charge) and feed-in, shape (T,). [eur/kWh]"""
    return np.asarray((retail + feed_in) / 2.0)


def supply_demand_ratio(retail: Vector, feed_in: Vector, demand: Counts, supply: Counts) -> Vector:
    """Return the price of the supply-demand ratio, shape (T,). [eur/kWh]

    Examples
    --------
    Half of the need is there: the sellers get 0.08, and the buyers pay 0.14 on average with the rest at 0.20.

    >>> supply_demand_ratio(np.array([0.20]), np.array([0.05]), np.array([2]), np.array([1]))
    array([0.08])
    """
    ratio = np.where(demand > 0, np.minimum(supply / np.maximum(demand, 1), 1.0), 1.0)
    hyperbolic = (feed_in > 0.0) & (retail > 0.0)
    below = np.where(hyperbolic, (retail - feed_in) * ratio + feed_in, 1.0)
    return np.where(hyperbolic, feed_in * retail / below, retail + (feed_in - retail) * ratio)


# -- by name -----------------------------------------------------------------------------------------------------------

ALLOCATIONS: dict[str, AllocationRule] = {
    "alloc.prorata": prorata,
    "alloc.equal": equal,
    "alloc.static": static,
    "alloc.static_redistribute": static_redistribute,
    "alloc.none": none,
}
"""The rules by id; a plug-in adds its own."""

PRICES: dict[str, PriceRule] = {"price.mmr": mid_market_rate, "price.sdr": supply_demand_ratio}
"""The prices by id; a plug-in adds its own."""


def share(rule_id: str, demand: Counts, generation: Counts, keys: Vector | None = None) -> tuple[Counts, Counts]:
    """Apply a rule by its id and make sure that it kept the laws (1); returns (received, given), shapes (n, T). [mWh]"""
    rule = ALLOCATIONS.get(rule_id)
    if rule is None:
        raise AllocationError(
            f"the sharing rule {rule_id!r} is not known. Known are: {', '.join(sorted(ALLOCATIONS))}."
        )
    received, given = rule(demand, generation, keys)
    lawful = (
        received.shape == given.shape == demand.shape
        and received.dtype == given.dtype == np.int64
        and bool(((received >= 0) & (received <= demand)).all())
        and bool(((given >= 0) & (given <= generation)).all())
        and bool((received.sum(axis=0) == given.sum(axis=0)).all())
    )
    if not lawful:
        raise AllocationError(
            f"the sharing rule {rule_id!r} broke its law: what members receive must lie between 0 and their need, what "
            f"they give between 0 and their surplus, both in whole mWh, with equal sums in every interval."
        )
    return received, given


def price(rule_id: str, retail: Vector, feed_in: Vector, demand: Counts, supply: Counts) -> Vector:
    """Apply a price rule by its id and make sure that it gave numbers, shape (T,). [eur/kWh]"""
    rule = PRICES.get(rule_id)
    if rule is None:
        raise AllocationError(f"the price rule {rule_id!r} is not known. Known are: {', '.join(sorted(PRICES))}.")
    value = rule(retail, feed_in, demand, supply)
    if value.shape != retail.shape or not np.isfinite(value).all():
        raise AllocationError(
            f"the price rule {rule_id!r} must give a finite price for each of {retail.size} interval(s)."
        )
    return value
