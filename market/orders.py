"""What people bring to an auction: where they stand alone, and the orders that follow from it.

A market that is no optimisation needs two things of everybody: what one would do without it, and what another kWh is worth.

**Homes** (:class:`market.problem.Problem`).  Each home first optimises alone under its retail tariff, without exchange and
without rented space.  What is left at its balance in an interval, need N or surplus G, it brings to market at its retail
alternative::

    buys up to N, for at most   buy - exchange charge                                                            (1)
    sells up to G, for at least sell                                                                             (2)

What a home curtails because feeding in costs money, as far as its envelope lets it out, it sells for at least nothing.
Nobody buys at the retailer to sell to a neighbour; in the exchange, where tariffs differ, somebody may.

**Cost curves** (:class:`market.curves.Curves`).  Alone means no power at all; with retail prices given, alone means what
the curve wants at them, and (1) and (2) hold as for homes.  A curve becomes a staircase: each side of zero, as far as
anybody could agree to its price, is cut in equal steps, each priced at the marginal cost in its middle, so that a whole step
costs exactly what the curve says and a part of one never more than its price.

In both cases the cost after a trade is ``alone + cost(traded) + payment``, with ``cost`` of (1), (2) or of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.curves import Curves
from market.problem import Problem

if TYPE_CHECKING:
    from market.exchange import Clearing

__all__ = ["Alone", "Orders", "OrdersError", "Retail", "alone", "orders_from"]

Floats = NDArray[np.float64]

_ROUNDING_KW = 1e-9  # what a home's balance is exact to


class OrdersError(ValueError):
    """Orders, or what they are to be made from, cannot be meant; the message names every place."""


@dataclass(frozen=True, slots=True, eq=False)
class Orders:
    """Up to ``S`` orders of each of ``n`` agents in each of ``T`` intervals."""

    energy_kwh: Floats
    """Sale +, purchase -, 0: no order.  Shape (n, S, T)."""
    price_eur_per_kwh: Floats
    """What a seller wants at least and a buyer pays at most; may be negative.  Shape (n, S, T)."""

    @property
    def n(self) -> int:
        """Number of agents."""
        return int(self.energy_kwh.shape[0])

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return int(self.energy_kwh.shape[2])

    def __post_init__(self) -> None:
        """Turn the columns into arrays and refuse what cannot be meant."""
        energy = np.ascontiguousarray(self.energy_kwh, dtype=np.float64)
        price = np.ascontiguousarray(self.price_eur_per_kwh, dtype=np.float64)
        if energy.ndim != 3 or energy.shape != price.shape or energy.shape[2] == 0:
            raise OrdersError(
                f"energy_kwh has the shape {energy.shape} and price_eur_per_kwh {price.shape}; give both as (n, S, T) with "
                "at least one interval."
            )
        mistakes = [
            f"{name} is {column[i, s, t]} for agent {i}, order {s}, interval {t}; give a number."
            for name, column in (("energy_kwh", energy), ("price_eur_per_kwh", price))
            for i, s, t in np.argwhere(~np.isfinite(column))[:3].tolist()
        ]
        if mistakes:
            raise OrdersError(f"the orders have {len(mistakes)} mistake(s):\n  " + "\n  ".join(mistakes))
        object.__setattr__(self, "energy_kwh", energy)
        object.__setattr__(self, "price_eur_per_kwh", price)

    @classmethod
    def plain(cls, energy_kwh: ArrayLike, price_eur_per_kwh: ArrayLike) -> Orders:
        """Return orders, one per agent and interval: (n,) is one interval, (n, T) several.

        Examples
        --------
        >>> Orders.plain([2.0, -1.0], [0.10, 0.30]).energy_kwh.shape
        (2, 1, 1)
        """
        energy = np.asarray(energy_kwh, dtype=np.float64)
        energy = energy[:, None] if energy.ndim == 1 else energy
        price = np.asarray(price_eur_per_kwh, dtype=np.float64)
        price = np.broadcast_to(price[:, None] if price.ndim == 1 else price, energy.shape)
        return cls(energy[:, None, :], np.array(price)[:, None, :])

    def surplus_eur(self, filled_kwh: Floats) -> Floats:
        """Return what a filling, shape (n, S, T), is worth to its owners, payments not counted.  Shape (n, T)."""
        worth: Floats = -(self.price_eur_per_kwh * filled_kwh).sum(axis=1)
        return worth


@dataclass(frozen=True, slots=True, eq=False)
class Retail:
    """The retailer's prices, each of shape (n, T). [eur/kWh]"""

    buy: Floats
    """Purchase."""
    sell: Floats
    """Feed-in, never above the purchase price."""
    charge: Floats
    """What a buyer pays for the wires on a kWh from a neighbour."""


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """Where everybody stands without the community, and what they bring to it."""

    source: Problem | Curves
    """What it was made from; needs that nothing can meet are relaxed in it if that was asked for."""
    names: tuple[str, ...]
    cost_eur: Floats
    """What each pays alone.  Shape (n,)."""
    curves: Curves
    """What it costs to bring power to market, compared with being alone; zero power is always possible."""
    retail: Retail | None
    """None: there is no retailer."""
    converged: bool = True
    """Whether the plans of the homes alone are as good as was asked."""
    relaxed: tuple[str, ...] = ()
    """Needs of stores that nothing could meet, in words."""
    games: dict[str, Any] = field(default_factory=dict, repr=False)
    """What coalitions could gain, once somebody has asked; kept because it is dear."""

    @property
    def n(self) -> int:
        """Number of agents."""
        return self.curves.n

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return self.curves.steps

    def need_kwh(self) -> Floats:
        """Return what each could buy, shape (n, T). [kWh]"""
        need: Floats = -self.curves.dt_h * self.curves.p_min_kw
        return need + 0.0  # no negative zeros

    def surplus_kwh(self) -> Floats:
        """Return what each could sell, shape (n, T). [kWh]"""
        surplus: Floats = self.curves.dt_h * self.curves.p_max_kw
        return surplus


def alone(
    source: Problem | Curves | Alone,
    *,
    buy_eur_per_kwh: ArrayLike | None = None,
    sell_eur_per_kwh: ArrayLike | None = None,
    exchange_charge_eur_per_kwh: ArrayLike = 0.0,
    tolerance: float = 1e-4,
    infeasible: Literal["raise", "relax"] = "raise",
) -> Alone:
    """Find out where everybody stands alone.

    Parameters
    ----------
    source
        Homes, or cost curves; homes whose exchange is ``zero`` bring nothing to market.  What this function returned is handed back, so that several mechanisms share one answer.
    buy_eur_per_kwh, sell_eur_per_kwh, exchange_charge_eur_per_kwh
        The retailer's prices, for curves only (homes have their own); anything that broadcasts to (n, T).  Without them
        there is no retailer.
    tolerance
        Of the homes' own plans, as in :func:`market.exchange.clear`.
    infeasible
        Of a store's need that cannot be met, as in :func:`market.exchange.clear`.

    Raises
    ------
    OrdersError
        Where somebody cannot be alone, or a feed-in price is above the purchase price.
    Infeasible
        Where a store's need cannot be met (unless relaxed).

    Examples
    --------
    A home short of 2 kWh would pay up to 0.30, one with 2 kWh to spare asks for 0.08:

    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> before = alone(case)
    >>> before.cost_eur.round(6).tolist(), before.curves.b_eur_per_kwh.tolist()
    ([-0.16, 0.6], [[0.08], [0.3]])
    """
    if isinstance(source, Alone):
        return source
    if isinstance(source, Problem):
        if buy_eur_per_kwh is not None or sell_eur_per_kwh is not None:
            raise OrdersError("homes have retail prices of their own; give none beside them.")
        return _homes_alone(source, tolerance, infeasible)
    if (buy_eur_per_kwh is None) != (sell_eur_per_kwh is None):
        raise OrdersError("buy_eur_per_kwh and sell_eur_per_kwh go together: give both (a retailer) or neither.")
    if buy_eur_per_kwh is None or sell_eur_per_kwh is None:
        return _curves_alone(source)
    shape = (source.n, source.steps)
    given = {"buy_eur_per_kwh": buy_eur_per_kwh, "sell_eur_per_kwh": sell_eur_per_kwh,
             "exchange_charge_eur_per_kwh": exchange_charge_eur_per_kwh}  # fmt: skip
    prices = []
    for name, value in given.items():
        price = np.asarray(value, dtype=np.float64)
        if not np.isfinite(price).all():
            raise OrdersError(f"{name} is not a number somewhere; give a price for every agent and interval.")
        try:
            prices.append(np.array(np.broadcast_to(price, shape)))
        except ValueError:
            raise OrdersError(f"{name} has the shape {price.shape}, which does not broadcast to {shape}.") from None
    return _curves_with_a_retailer(source, Retail(*prices))


def orders_from(before: Alone, steps: int = 20) -> Orders:
    """Return the orders of everybody: one per interval where the price is one, a staircase where it rises.

    Parameters
    ----------
    before
        Where everybody stands.
    steps
        Steps of the staircase on each side of zero.

    Examples
    --------
    The seller's first kWh costs 4, and nobody pays more than 8, which its fourth costs:

    >>> curves = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
    >>> orders = orders_from(alone(curves), steps=2)
    >>> orders.energy_kwh[1, :, 0].tolist(), orders.price_eur_per_kwh[1, 2:, 0].tolist()
    ([0.0, 0.0, 2.0, 2.0], [5.0, 7.0])
    """
    if steps != int(steps) or steps < 1:
        raise OrdersError(f"steps is {steps}; give a whole number, at least one step on each side.")
    c = before.curves
    count = int(steps) if (c.a_eur_per_kw2h > 0.0).any() else 1
    sides = []
    for end in _agreeable(c):
        if not end.any():
            continue
        middle = (np.arange(count) + 0.5)[None, :, None] / count * end[:, None, :]
        energy = np.broadcast_to(c.dt_h * end[:, None, :] / count, middle.shape)
        sides.append((energy, c.a_eur_per_kw2h[:, None, :] * middle + c.b_eur_per_kwh[:, None, :]))
    if not sides:
        return Orders(np.zeros((before.n, 1, before.steps)), np.zeros((before.n, 1, before.steps)))
    return Orders(np.concatenate([s[0] for s in sides], axis=1), np.concatenate([s[1] for s in sides], axis=1))


def _agreeable(c: Curves) -> tuple[Floats, Floats]:
    """Return the ends of the curves, those that rise cut where no buyer pays the price and no seller takes it."""
    a, b = c.a_eur_per_kw2h, c.b_eur_per_kwh
    dearest = np.where(c.p_min_kw < 0.0, b, -np.inf).max(axis=0, initial=-np.inf)
    cheapest = np.where(c.p_max_kw > 0.0, b, np.inf).min(axis=0, initial=np.inf)
    slope = np.where(a > 0.0, a, 1.0)
    with np.errstate(over="ignore"):  # an a next to 0 is no limit
        most = np.where(a > 0.0, np.maximum((dearest - b) / slope, 0.0), np.inf)
        least = np.where(a > 0.0, np.minimum((cheapest - b) / slope, 0.0), -np.inf)
    return np.maximum(c.p_min_kw, least), np.minimum(c.p_max_kw, most)


# -- where one stands alone --------------------------------------------------------------------------------------------


def _homes_alone(problem: Problem, tolerance: float, infeasible: Literal["raise", "relax"]) -> Alone:
    from market.exchange import clear  # numba is loaded only where homes are
    from market.feasible import attainable, broken_needs
    from market.repair import plan_cost_eur

    if infeasible not in ("raise", "relax"):
        raise OrdersError(f"infeasible is {infeasible!r}; give 'raise' or 'relax'.")
    if problem.exchange == "pinned":
        raise OrdersError("exchange is 'pinned': these homes have traded already. Give 'free' to let them trade again.")
    relaxed: tuple[str, ...] = ()
    if infeasible == "relax":
        relaxed, problem = tuple(broken_needs(problem)), attainable(problem)[0]
    apart = _without_shared_stores(replace(problem, exchange="zero"))
    plan = _curtailed_at_best(apart, clear(apart, tolerance=tolerance))
    cost: Floats = plan_cost_eur(apart, plan)
    retail = Retail(problem.buy_eur_per_kwh, problem.sell_eur_per_kwh, problem.exchange_charge_eur_per_kwh)
    names = _names(problem.agent_ids, problem.n)
    may = problem.exchange == "free"
    power = np.where((np.abs(plan.grid_kw) > _ROUNDING_KW) & may, -plan.grid_kw, 0.0)
    room = np.maximum(problem.export_limit_kw + plan.meter_kw, 0.0)
    spare = np.where(power >= 0.0, np.minimum(plan.curtailed_kw, room), 0.0)
    spare = np.where((spare > _ROUNDING_KW) & may, spare, 0.0)
    bids = _bids(power, retail, problem.dt_h, names)
    # who throws energy away rather than feed it in for less than nothing gives it away
    bids = replace(
        bids,
        b_eur_per_kwh=np.where(spare > 0.0, np.maximum(retail.sell, 0.0), bids.b_eur_per_kwh),
        p_max_kw=bids.p_max_kw + spare,
    )
    return Alone(problem, names, cost, bids, retail, plan.converged, relaxed)


def _curtailed_at_best(p: Problem, plan: Clearing) -> Clearing:
    """Return the plan with the curtailment that is best for its stores' flows, exactly.

    Feeding in earns: only what the envelope does not let out is curtailed.  It costs: all that is left over is.  Buying
    earns: everything is.
    """
    base = p.load_kw - p.pv_kw + (plan.charge_kw - plan.discharge_kw).sum(axis=0)
    rented = (plan.rented_charge_kw - plan.rented_discharge_kw).sum(axis=0)
    least = np.clip(-p.export_limit_kw - base, 0.0, p.pv_kw)
    most = np.maximum(np.clip(p.import_limit_kw - base, 0.0, p.pv_kw), least)
    wanted = np.where(p.sell_eur_per_kwh >= 0.0, 0.0, np.where(p.buy_eur_per_kwh >= 0.0, -base - rented, p.pv_kw))
    curtailed = np.clip(wanted, least, most)
    meter = base + curtailed
    breach = np.maximum(np.maximum(meter - p.import_limit_kw, -p.export_limit_kw - meter), 0.0)
    return replace(plan, grid_kw=meter + rented, meter_kw=meter, curtailed_kw=curtailed, breach_kw=breach)


def _without_shared_stores(p: Problem) -> Problem:
    """Return the problem of homes that rent nothing; rights that are given already stay theirs."""
    if p.shared == 0 or p.rights_fixed:
        return p
    kept = p.rented_initial_kwh.any() or p.rented_final_kwh.any()
    if kept:
        raise OrdersError(
            "rented spaces have contents but their rights are not given, so it cannot be said where their tenants stand "
            "alone. Give right_energy_kwh and right_power_kw, or empty the spaces."
        )
    from market.coalition import part_of

    return part_of(p, range(p.n), ())


def _curves_alone(curves: Curves) -> Alone:
    stuck = np.argwhere((curves.p_min_kw > 0.0) | (curves.p_max_kw < 0.0))[:3]
    if stuck.size:
        places = "; ".join(
            f"{curves.name(i)} between {curves.p_min_kw[i, t]:g} and {curves.p_max_kw[i, t]:g} kW in interval {t}"
            for i, t in stuck.tolist()
        )
        raise OrdersError(
            f"somebody cannot be alone, its power is never zero: {places}. Give bounds that hold zero, or the prices of a "
            "retailer (buy_eur_per_kwh, sell_eur_per_kwh)."
        )
    return Alone(curves, _names(curves.agent_ids, curves.n), np.zeros(curves.n), curves, None)


def _curves_with_a_retailer(curves: Curves, retail: Retail) -> Alone:
    wrong = np.argwhere(retail.sell > retail.buy)[:3]
    if wrong.size:
        places = "; ".join(
            f"{retail.sell[i, t]:g} above {retail.buy[i, t]:g} for {curves.name(i)} in interval {t}"
            for i, t in wrong.tolist()
        )
        raise OrdersError(
            f"a feed-in price is above the purchase price, buying and selling at once would earn without limit: {places}."
        )
    a, b = curves.a_eur_per_kw2h, curves.b_eur_per_kwh
    price = np.where(retail.sell > b, retail.sell, np.where(retail.buy < b, retail.buy, b))
    with np.errstate(over="ignore"):  # an a next to 0 wants all it can get, as 0 does
        wanted = np.where(a > 0.0, (price - b) / np.where(a > 0.0, a, 1.0), np.copysign(np.inf, price - b))
    power = np.clip(np.where(price == b, 0.0, wanted), curves.p_min_kw, curves.p_max_kw)
    paid = curves.dt_h * np.where(power > 0.0, -retail.sell * power, -retail.buy * power).sum(axis=1)
    names = _names(curves.agent_ids, curves.n)
    return Alone(curves, names, curves.cost_eur(power) + paid, _bids(power, retail, curves.dt_h, names), retail)


def _bids(power_kw: Floats, retail: Retail, dt_h: float, names: tuple[str, ...]) -> Curves:
    """Return the curves of equations (1) and (2)."""
    return Curves(
        dt_h=dt_h,
        a_eur_per_kw2h=np.zeros_like(power_kw),
        b_eur_per_kwh=np.where(power_kw > 0.0, retail.sell, retail.buy - retail.charge),
        p_min_kw=np.minimum(power_kw, 0.0),
        p_max_kw=np.maximum(power_kw, 0.0),
        agent_ids=names,
    )


def _names(agent_ids: tuple[str, ...] | None, n: int) -> tuple[str, ...]:
    return tuple(agent_ids) if agent_ids else tuple(f"agent {i}" for i in range(n))
