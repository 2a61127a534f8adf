"""The bilateral market's problem: who may trade with whom, at which charges, inside which limits.

``n`` agents with quadratic costs (:mod:`market.curves`), ``E`` pairs that may trade, ``T`` intervals; an agent may own
stores, which tie its intervals together.  With ``t[e]`` the power that the pair's first agent sells to its second::

    min sum_i dt [a/2 g_i^2 + b g_i + wear (c_i + d_i)] + sum_e dt (charge_first + charge_second) |t_e|             (1)
    g_i + d_i - c_i = sum of the agent's trades (sold +, bought -),   p_min <= g_i <= p_max,   |t_e| <= trade_max  (2)
    e[t] = retention e[t-1] + dt (eta_c c - d / eta_d) - drain,  bounds on c, d, e             every store         (3)

Who can have nothing to sell in an interval (``p_max`` and discharge at most 0) sells nothing there, and who can need
nothing buys nothing: only an agent that may do both may pass energy on.  A charge is what one end pays per kWh traded, a
network charge or what the agent would pay to avoid (+) or to have (-) this partner: product differentiation.

Nothing is repaired here: what cannot be meant is refused, all mistakes at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.curves import Curves
from market.own_stores import OwnStores, check_stores, take_stores

__all__ = ["Bilateral", "BilateralError", "OwnStores"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class BilateralError(ValueError):
    """The bilateral market's problem cannot be meant; the message names every place."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Bilateral:
    """Equations (1) to (3): ``n`` agents, ``E`` pairs, ``T`` intervals."""

    curves: Curves
    """What power costs each agent."""
    first: Integers
    """One agent of each pair.  Shape (E,)."""
    second: Integers
    """The other one.  Shape (E,)."""
    charge_first_eur_per_kwh: Floats
    """What the first agent pays per kWh traded, whichever way.  Shape (E, 1) or (E, T); (E,) is taken too."""
    charge_second_eur_per_kwh: Floats
    """What the second agent pays per kWh traded, whichever way.  Shape (E, 1) or (E, T); (E,) is taken too."""
    trade_max_kw: Floats
    """Largest trade, whichever way; infinite where there is no limit.  Shape (E, 1) or (E, T); (E,) is taken too."""
    stores: OwnStores | None = None
    """Own stores, or None."""

    @property
    def n(self) -> int:
        """Number of agents."""
        return self.curves.n

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return self.curves.steps

    @property
    def pairs(self) -> int:
        """Number of pairs E."""
        return int(self.first.shape[0])

    def pair(self, edge: int) -> str:
        """Return what a message calls a pair."""
        ends = [int(end[edge]) for end in (self.first, self.second)]
        return " and ".join(self.curves.name(i) if 0 <= i < self.n else f"agent {i}" for i in ends)

    def may(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return who may sell and who may buy in each interval.  Two arrays (n, T)."""
        least, most = self.curves.p_min_kw, self.curves.p_max_kw
        if self.stores is not None:
            least = least - self.stores.store_charge_max_kw.sum(axis=0)
            most = most + self.stores.store_discharge_max_kw.sum(axis=0)
        return most > 0.0, least < 0.0

    def limits_kw(self) -> tuple[Floats, Floats]:
        """Return the least and the largest trade of each pair.  Two arrays (E, T)."""
        sell, buy = self.may()
        i, j = self.first, self.second
        largest = np.broadcast_to(self.trade_max_kw, (self.pairs, self.steps))
        return -np.where(buy[i] & sell[j], largest, 0.0), np.where(sell[i] & buy[j], largest, 0.0)

    def __post_init__(self) -> None:
        """Turn the columns into arrays and refuse what cannot be meant."""
        mistakes = _take_arrays(self)
        if not mistakes:
            mistakes = _check_pairs(self) + ([] if self.stores is None else check_stores(self.stores, self.curves.name))
        if not mistakes:
            mistakes = _check_charges(self)
        if mistakes:
            shown = mistakes[:20] + [f"and {len(mistakes) - 20} more"] * (len(mistakes) > 20)
            raise BilateralError(f"the bilateral market has {len(mistakes)} mistake(s):\n  " + "\n  ".join(shown))

    @classmethod
    def plain(
        cls,
        curves: Curves,
        pairs: ArrayLike,
        *,
        charge_eur_per_kwh: ArrayLike = 0.0,
        trade_max_kw: ArrayLike = np.inf,
        stores: OwnStores | None = None,
    ) -> Bilateral:
        """Return a market of the pairs, shape (E, 2), in which both ends pay the same charge; numbers hold for all pairs."""
        ends = np.asarray(pairs)
        ends = ends if ends.size else np.zeros((0, 2), np.int64)
        if ends.ndim != 2 or ends.shape[1] != 2:
            raise BilateralError(f"pairs have the shape {ends.shape}; give two rows of agents per pair, (E, 2).")
        charge = _per_pair("charge_eur_per_kwh", charge_eur_per_kwh, len(ends))
        limit = _per_pair("trade_max_kw", trade_max_kw, len(ends))
        return cls(curves=curves, first=ends[:, 0], second=ends[:, 1], charge_first_eur_per_kwh=charge,
                   charge_second_eur_per_kwh=charge, trade_max_kw=limit, stores=stores)  # fmt: skip

    @classmethod
    def full(cls, curves: Curves, sellers: Iterable[int], buyers: Iterable[int], **more: Any) -> Bilateral:
        """Return the market in which each of the sellers may trade with each of the buyers."""
        pairs = [(i, j) for i in sellers for j in buyers if i != j]
        return cls.plain(curves, np.array(pairs, dtype=np.int64).reshape(-1, 2), **more)

    @classmethod
    def ring(cls, curves: Curves, partners: int, **more: Any) -> Bilateral:
        """Return the market in which each agent may trade with its nearest ``partners`` (an even number) on a ring."""
        if partners % 2 or not 0 < partners < max(curves.n, 1):
            raise BilateralError(
                f"{partners} partners on a ring of {curves.n}: give an even number from 2 to one less."
            )
        agents, reach = np.arange(curves.n), range(1, partners // 2 + 1)
        pairs = np.concatenate([np.stack([agents, (agents + step) % curves.n], axis=1) for step in reach])
        _, keep = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True)
        return cls.plain(curves, pairs[np.sort(keep)], **more)


def _per_pair(name: str, value: ArrayLike, pairs: int) -> Floats:
    """Return a column with one row per pair."""
    given = np.asarray(value, dtype=np.float64)
    column = given[:, None] if given.ndim == 1 else given
    try:
        return np.array(np.broadcast_to(column, (pairs, column.shape[1] if column.ndim == 2 else 1)))
    except ValueError:
        raise BilateralError(
            f"{name} has the shape {given.shape}; give a number, or one row for each of the {pairs} pairs."
        ) from None


def _take_arrays(p: Bilateral) -> list[str]:
    """Make columns of everything; tell shapes that disagree."""
    mistakes = []
    for name in ("first", "second"):
        given = np.asarray(getattr(p, name))
        if given.size and given.dtype.kind not in "iu":
            return [f"{name} holds {given.dtype} values; give the rows of the agents as integers."]
        object.__setattr__(p, name, np.ascontiguousarray(given, dtype=np.int64))
    if p.first.ndim != 1 or p.first.shape != p.second.shape:
        return [
            f"first and second have the shapes {p.first.shape} and {p.second.shape}; give one row of each per pair."
        ]
    for name in ("charge_first_eur_per_kwh", "charge_second_eur_per_kwh", "trade_max_kw"):
        column = np.ascontiguousarray(getattr(p, name), dtype=np.float64)
        column = column[:, None] if column.ndim == 1 else column
        if column.shape not in ((p.pairs, 1), (p.pairs, p.steps)):
            mistakes.append(
                f"{name} has the shape {column.shape}; ({p.pairs},) or ({p.pairs}, {p.steps}) was expected."
            )
        object.__setattr__(p, name, column)
    if p.stores is not None:
        mistakes += take_stores(p.stores, p.n, p.steps)
    return mistakes


def _check_pairs(p: Bilateral) -> list[str]:
    """Known agents, two of them, once; numbers."""
    mistakes = []
    for name, ends in (("first", p.first), ("second", p.second)):
        mistakes += [f"{name} of pair {e} is {ends[e]}; agents have the rows 0 to {p.n - 1}."
                     for e in np.flatnonzero((ends < 0) | (ends >= p.n))[:3]]  # fmt: skip
    mistakes += [f"pair {e} is {p.curves.name(int(p.first[e]))} with itself." for e in np.flatnonzero(p.first == p.second)[:3]
                 if 0 <= p.first[e] < p.n]  # fmt: skip
    code = np.minimum(p.first, p.second) * max(p.n, 1) + np.maximum(p.first, p.second)
    _, start, count = np.unique(code, return_index=True, return_counts=True)
    mistakes += [f"{p.pair(int(e))} are a pair more than once; one line says both ways." for e in start[count > 1][:3]]
    for name in ("charge_first_eur_per_kwh", "charge_second_eur_per_kwh"):
        column = getattr(p, name)
        mistakes += [f"{name} is {column[e, t]} for {p.pair(int(e))}; give a number."
                     for e, t in np.argwhere(~np.isfinite(column))[:3]]  # fmt: skip
    mistakes += [f"trade_max_kw is {p.trade_max_kw[e, t]} for {p.pair(int(e))}; give 0 or more (inf: no limit)."
                 for e, t in np.argwhere(~(p.trade_max_kw >= 0))[:3]]  # fmt: skip
    return mistakes


def _check_charges(p: Bilateral) -> list[str]:
    """No money without limit from trading to and fro."""
    charges = ("charge_first_eur_per_kwh", "charge_second_eur_per_kwh")
    if not any((getattr(p, name) < 0).any() for name in charges):
        return []
    least, most = p.limits_kw()
    both, mistakes = (least < 0) & (most > 0), []
    for name in charges:
        charge = np.broadcast_to(getattr(p, name), both.shape)
        mistakes += [f"{name} is {charge[e, t]:g} for {p.pair(int(e))}, interval {t}, where either may sell to the other: trading "
                     "to and fro would earn without limit. Give 0 or more." for e, t in np.argwhere(both & (charge < 0))[:3]]  # fmt: skip
    return mistakes
