"""What it costs an agent to bring power to market, and the market of all of them at one price.

An agent's cost is quadratic in the power it brings (sale +, purchase -)::

    cost_i,t(p) = dt (a/2 p^2 + b p),   p_min <= p <= p_max                                                        (1)

so that ``a p + b`` is its marginal cost: what it wants at least for the next kWh, or pays at most.  These are the data of
every market without a home: the pool below, the bilateral market, auctions and bargaining.

:func:`clear_pool` finds the price at which the sum of all powers is zero.  Each agent's power rises with the price,
``clip((price - b) / a, p_min, p_max)``, and jumps where ``a = 0``.  The sum is piecewise linear between the prices at which
somebody meets a bound: those are sorted, the right pair is found by bisection, and between the two the root is a ratio.
Nothing is iterated to a tolerance.  Convention: a/2; sources that write a p^2 + b p have half our a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Curves", "CurvesError", "Pool", "clear_pool"]

Floats = NDArray[np.float64]

_COLUMNS = ("a_eur_per_kw2h", "b_eur_per_kwh", "p_min_kw", "p_max_kw")


class CurvesError(ValueError):
    """Cost curves that cannot be meant; the message names every place."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Curves:
    """Quadratic costs of ``n`` agents in ``T`` intervals, equation (1)."""

    dt_h: float
    """Length of an interval. [h]"""
    a_eur_per_kw2h: Floats
    """Slope of the marginal cost; 0: every kWh costs the same.  Shape (n, T)."""
    b_eur_per_kwh: Floats
    """Marginal cost of the first kWh.  Shape (n, T)."""
    p_min_kw: Floats
    """Least power, negative where the agent may buy.  Shape (n, T)."""
    p_max_kw: Floats
    """Largest power, positive where the agent may sell.  Shape (n, T)."""
    agent_ids: tuple[str, ...] | None = None
    """Names for messages; without them agents are called by their row."""

    @property
    def n(self) -> int:
        """Number of agents."""
        return int(self.a_eur_per_kw2h.shape[0])

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return int(self.a_eur_per_kw2h.shape[1])

    def name(self, agent: int) -> str:
        """Return what a message calls an agent."""
        return f"agent {self.agent_ids[agent]!r}" if self.agent_ids else f"agent {agent}"

    def __post_init__(self) -> None:
        """Turn the columns into arrays and refuse what cannot be meant."""
        mistakes = _take_arrays(self)
        if not mistakes:  # the others need arrays that fit together
            mistakes = _check(self)
        if mistakes:
            shown = mistakes[:20] + [f"and {len(mistakes) - 20} more"] * (len(mistakes) > 20)
            raise CurvesError(f"the cost curves have {len(mistakes)} mistake(s):\n  " + "\n  ".join(shown))

    @classmethod
    def plain(
        cls,
        a_eur_per_kw2h: ArrayLike,
        b_eur_per_kwh: ArrayLike,
        p_min_kw: ArrayLike,
        p_max_kw: ArrayLike,
        *,
        dt_h: float = 1.0,
        agent_ids: tuple[str, ...] | None = None,
    ) -> Curves:
        """Return curves from whatever broadcasts; one dimension is one interval, a number holds for everybody.

        Examples
        --------
        One who buys up to 30 kW and one who sells up to 60 kW, for an hour:

        >>> curves = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
        >>> curves.n, curves.steps
        (2, 1)
        """
        columns = [np.asarray(c, dtype=np.float64) for c in (a_eur_per_kw2h, b_eur_per_kwh, p_min_kw, p_max_kw)]
        columns = [c[:, None] if c.ndim == 1 else c for c in columns]
        try:
            shape = np.broadcast_shapes((1, 1), *(c.shape for c in columns))
        except ValueError:
            shapes = ", ".join(f"{name} {c.shape}" for name, c in zip(_COLUMNS, columns, strict=True))
            raise CurvesError(f"the columns do not fit together: {shapes}; give (n,) or (n, T).") from None
        full = {name: np.array(np.broadcast_to(c, shape)) for name, c in zip(_COLUMNS, columns, strict=True)}
        return cls(dt_h=dt_h, **full, agent_ids=agent_ids)

    def part(self, rows: Sequence[int]) -> Curves:
        """Return the curves of some agents."""
        columns = {name: getattr(self, name)[list(rows)] for name in _COLUMNS}
        ids = None if self.agent_ids is None else tuple(self.agent_ids[i] for i in rows)
        return Curves(dt_h=self.dt_h, **columns, agent_ids=ids)

    def cost_eur(self, power_kw: Floats) -> Floats:
        """Return what the powers, shape (n, T), cost each agent over all intervals.  Shape (n,)."""
        rate = (0.5 * self.a_eur_per_kw2h * power_kw + self.b_eur_per_kwh) * power_kw
        cost: Floats = self.dt_h * rate.sum(axis=1)
        return cost


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """One price for everybody in every interval."""

    status: tuple[str, ...]
    """``cleared`` or ``infeasible`` for every interval: somebody must bring power that nobody can take, or the other way.
    There the price is NaN and the powers are the nearest to balance that the bounds allow."""
    price_eur_per_kwh: Floats
    """Where a range of prices clears (nobody trades, or all at their bounds), its middle.  Shape (T,)."""
    power_kw: Floats
    """Sale +.  Who is indifferent at the price shares what is left evenly over the ranges.  Shape (n, T)."""
    cost_eur: Floats
    """Of the powers, without payments.  Shape (n,)."""
    payment_eur: Floats
    """What an agent pays (+) or receives (-) at the price; nothing in infeasible intervals.  Shape (n,)."""


def clear_pool(curves: Curves) -> Pool:
    """Clear the pool of all agents exactly, every interval alone.

    Examples
    --------
    >>> pool = clear_pool(Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0]))
    >>> pool.price_eur_per_kwh.tolist(), pool.power_kw.tolist(), pool.payment_eur.tolist()
    ([6.0], [[-2.0], [2.0]], [12.0, -12.0])
    """
    steps = curves.steps
    low, high = curves.p_min_kw, curves.p_max_kw
    if curves.n == 0:
        empty = np.zeros((0, steps))
        return Pool(("cleared",) * steps, np.full(steps, np.nan), empty, np.zeros(0), np.zeros(0))
    rounding = 4.0 * np.finfo(np.float64).eps * np.maximum(abs(low), abs(high)).sum(axis=0)
    surplus, shortage = low.sum(axis=0) > rounding, high.sum(axis=0) < -rounding
    price, power = _clear(curves, rounding)
    power = np.where(surplus, low, np.where(shortage, high, power))
    feasible = ~(surplus | shortage)
    price = np.where(feasible, price, np.nan)
    payment = -curves.dt_h * (np.where(feasible, price, 0.0) * power).sum(axis=1)
    status = tuple("cleared" if good else "infeasible" for good in feasible.tolist())
    return Pool(status, price, power, curves.cost_eur(power), payment)


def _kinks(curves: Curves) -> tuple[Floats, Floats]:
    """Return the prices at which agents leave their least power and reach their largest."""
    a, b = curves.a_eur_per_kw2h, curves.b_eur_per_kwh
    return b + a * curves.p_min_kw, b + a * curves.p_max_kw


def _powers(curves: Curves, price: Floats, *, after: bool) -> Floats:
    """Return what everybody brings at the prices, shape (T,); where that jumps, what stands before or after the jump."""
    start, end = _kinks(curves)
    low, high, steep = curves.p_min_kw, curves.p_max_kw, curves.a_eur_per_kw2h > 0.0
    inner = (price - curves.b_eur_per_kwh) / np.where(steep, curves.a_eur_per_kw2h, 1.0)
    inner = np.clip(inner, low, high)
    if after:
        return np.where(price >= end, high, np.where(price <= start, low, inner))
    return np.where(price <= start, low, np.where(price >= end, high, inner))


def _clear(curves: Curves, rounding: Floats) -> tuple[Floats, Floats]:
    """Return prices and powers of all intervals, as if every one were feasible."""
    kinks, t = np.sort(np.concatenate(_kinks(curves)), axis=0), np.arange(curves.steps)
    count = kinks.shape[0]
    # the first kink behind which there is enough, and the last before which there is not too much
    first, stop = np.zeros(curves.steps, int), np.full(curves.steps, count - 1)
    last, start = np.full(curves.steps, count - 1), np.zeros(curves.steps, int)
    for _ in range(count.bit_length()):
        middle = (first + stop) // 2
        enough = _powers(curves, kinks[middle, t], after=True).sum(axis=0) >= -rounding
        first, stop = np.where(enough, first, np.minimum(middle + 1, stop)), np.where(enough, middle, stop)
        middle = (start + last + 1) // 2
        enough = _powers(curves, kinks[middle, t], after=False).sum(axis=0) <= rounding
        start, last = np.where(enough, middle, start), np.where(enough, last, np.maximum(middle - 1, start))
    # between two kinks the sum is a straight line; otherwise a range of prices clears, or one at which somebody jumps
    between, middle_price = last < first, 0.5 * (kinks[first, t] + kinks[last, t])
    low_price = np.where(between, kinks[last, t], middle_price)
    high_price = np.where(between, kinks[first, t], middle_price)
    before = np.where(between, _powers(curves, low_price, after=True), _powers(curves, low_price, after=False))
    behind = np.where(between, _powers(curves, high_price, after=False), _powers(curves, high_price, after=True))
    missing, rise = -before.sum(axis=0), (behind - before).sum(axis=0)
    share = np.clip(np.where(rise > 0.0, missing / np.where(rise > 0.0, rise, 1.0), 0.0), 0.0, 1.0)
    return low_price + share * (high_price - low_price), before + share * (behind - before)


def _take_arrays(curves: Curves) -> list[str]:
    """Make float64 columns of everything; tell shapes that disagree."""
    columns = {name: np.ascontiguousarray(getattr(curves, name), dtype=np.float64) for name in _COLUMNS}
    shape = columns[_COLUMNS[0]].shape
    if len(shape) != 2 or shape[1] == 0:
        return [f"a_eur_per_kw2h has the shape {shape}; give (n, T) with at least one interval."]
    mistakes = [f"{name} has the shape {column.shape}; {shape} = (n, T) was expected."
                for name, column in columns.items() if column.shape != shape]  # fmt: skip
    for name, column in columns.items():
        object.__setattr__(curves, name, column)
    return mistakes


def _check(c: Curves) -> list[str]:
    """Numbers, signs, order of the bounds, names."""
    mistakes = []
    if not (np.isfinite(c.dt_h) and c.dt_h > 0):
        mistakes.append(f"dt_h is {c.dt_h}; give the length of an interval in hours, above 0.")
    if c.agent_ids is not None and len(c.agent_ids) != c.n:
        return [*mistakes, f"there are {len(c.agent_ids)} agent_ids for {c.n} agents; give one each."]
    if c.agent_ids is not None and len(set(c.agent_ids)) != c.n:
        twice = sorted({name for name in c.agent_ids if c.agent_ids.count(name) > 1})
        mistakes.append(f"agent_ids holds {', '.join(map(repr, twice[:3]))} more than once; names tell agents apart.")
    for name in _COLUMNS:
        column = getattr(c, name)
        mistakes += [f"{name} is {column[i, t]} for {c.name(i)}, interval {t}; give a number."
                     for i, t in _first(~np.isfinite(column))]  # fmt: skip
    a, low, high = c.a_eur_per_kw2h, c.p_min_kw, c.p_max_kw
    mistakes += [f"a_eur_per_kw2h is {a[i, t]:g} for {c.name(i)}, interval {t}: a marginal cost that falls has no market "
                 "price; give 0 or more." for i, t in _first(a < 0)]  # fmt: skip
    mistakes += [f"p_min_kw, {low[i, t]:g}, is above p_max_kw, {high[i, t]:g}, for {c.name(i)}, interval {t}."
                 for i, t in _first(low > high)]  # fmt: skip
    return mistakes


def _first(wrong: NDArray[np.bool_], most: int = 3) -> list[tuple[int, int]]:
    """Return the places of the first few that are wrong."""
    return [(int(i), int(t)) for i, t in np.argwhere(wrong)[:most]]
