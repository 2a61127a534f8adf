"""Sharing rules, written a second time, for :mod:`sim.certify_bills`: who gets how much of what is left over, and its price.

Needs D = max(N, 0) and surpluses G = max(−N, 0) are whole milli-watt-hours; rows are agents in the order of their ids.
Nothing is shared in an interval in which no price leaves both sides better off than the retailer would.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim.certify_evidence import Wrong

__all__ = ["largest_remainder", "share", "sharing_price"]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]


def largest_remainder(exact: Vector, total: Counts | int = 0) -> Counts:
    """Round columns of shape (n, T) so that they sum to ``total``: down, and one up for the largest remainders.

    >>> largest_remainder(np.array([[0.5], [0.25], [0.25], [-1.0]])).T
    array([[ 1,  0,  0, -1]])
    """
    floor = np.floor(exact)
    short = total - floor.astype(np.int64).sum(axis=0)
    rank = np.argsort(np.argsort(-(exact - floor), axis=0, kind="stable"), axis=0)
    return np.asarray(floor.astype(np.int64) + (rank < short))


def share(
    rule: str, need: Counts, retail: Vector, feed_in: Vector, keys: Vector | None = None
) -> tuple[Counts, Counts]:
    """Return what each receives and gives, shape (n, T). [mWh]

    ``keys`` of shape (n,) are the fixed shares of the rules ``alloc.static`` and ``alloc.static_redistribute``.
    """
    demand, surplus = np.maximum(need, 0), np.maximum(-need, 0)
    dearest = np.where(surplus > 0, feed_in, -np.inf).max(axis=0)
    cheapest = np.where(demand > 0, retail, np.inf).min(axis=0)
    worth = cheapest >= dearest
    demand, surplus = demand * worth, surplus * worth
    supply = surplus.sum(axis=0)
    shared = np.minimum(demand.sum(axis=0), supply)
    if rule == "alloc.none":
        received = np.zeros_like(demand)
    elif rule == "alloc.prorata":
        received = _in_proportion(demand, shared)
    elif rule == "alloc.equal":
        received = np.stack([_level(demand[:, t], int(shared[t])) for t in range(demand.shape[1])], axis=1)
    elif rule in {"alloc.static", "alloc.static_redistribute"} and keys is not None:
        again = rule == "alloc.static_redistribute"
        received = np.stack(
            [_by_keys(keys, demand[:, t], int(supply[t]), again=again) for t in range(demand.shape[1])], axis=1
        )
    else:
        raise Wrong(
            f"the sharing rule {rule} cannot be recomputed here; known are alloc.prorata, equal, static, static_redistribute and none"
        )
    return received, _in_proportion(surplus, received.sum(axis=0))


def _by_keys(keys: Vector, demand: Counts, supply: int, *, again: bool) -> Counts:
    """Offer a supply by fixed keys; ``again`` offers what is refused to those who still want, until nothing moves."""
    if not again:
        return np.minimum(largest_remainder((keys * supply)[:, None], supply)[:, 0], demand)
    received, left = np.zeros_like(demand), supply
    while left > 0:
        wanting = keys * (demand > received)
        if not wanting.sum() > 0.0:
            break
        offered = largest_remainder((wanting * (left / wanting.sum()))[:, None], left)[:, 0]
        taken = np.minimum(offered, demand - received)
        received, left = received + taken, left - int(taken.sum())
    return received


def _in_proportion(weight: Counts, total: Counts) -> Counts:
    """Split totals in proportion to weights, whole, by largest remainders; exact in Python's integers where they overflow."""
    whole = np.maximum(weight.sum(axis=0), 1)
    wide = weight.astype(object) if float(weight.max(initial=0)) * float(total.max(initial=0)) > 9e18 else weight
    floor = (wide * total // whole).astype(np.int64)
    rest = (wide * total - floor * whole).astype(np.int64)
    rank = np.argsort(np.argsort(-rest, axis=0, kind="stable"), axis=0)
    return np.asarray(floor + (rank < total - floor.sum(axis=0)))


def _level(demand: Counts, total: int) -> Counts:
    """Give everybody the same up to what each needs: raise the water until the total is out."""
    received = np.zeros_like(demand)
    left = total
    while left > 0:
        open_to = np.flatnonzero(received < demand)
        if left < len(open_to):
            received[open_to[:left]] += 1
            break
        rise = min(left // len(open_to), int((demand - received)[open_to].min()))
        received[open_to] += rise
        left -= rise * len(open_to)
    return received


def sharing_price(rule: str, need: Counts, received: Counts, given: Counts, retail: Vector, feed_in: Vector) -> Vector:
    """Return the price of what is shared, shape (T,); NaN where nothing is. [eur/kWh]"""
    shared = (received > 0).any(axis=0)
    low = np.where(given > 0, feed_in, -np.inf).max(axis=0)
    high = np.where(received > 0, retail, np.inf).min(axis=0)
    low, high = np.where(shared, low, np.nan), np.where(shared, high, np.nan)
    if rule == "price.mmr":
        return np.asarray((high + low) / 2.0)
    if rule == "price.sdr":
        demand, supply = np.maximum(need, 0).sum(axis=0), np.maximum(-need, 0).sum(axis=0)
        ratio = np.minimum(supply / np.maximum(demand, 1), 1.0)
        curved = (low > 0.0) & (high > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(curved, low * high / ((high - low) * ratio + low), high + (low - high) * ratio))
    raise Wrong(f"the price rule {rule} cannot be recomputed here; known are price.mmr and price.sdr")
