"""Every way to trade, by name, on the same people and data, with the same certificate.

==============================  ======================================================================================
``retailer``                    nobody trades: the reference
``mid_market_rate``             what is left over is shared in proportion, half way between retail and feed-in
``supply_demand_ratio``         the same, at a price that falls with supply
``bill_sharing``                the same, free of charge; the community's bill is divided
``double_auction_uniform``      one price per interval, the k-double auction
``double_auction_pay_as_bid``   the same trades, everybody at the price he named
``mcafee``                      truthful in prices and never in deficit, for the price of the last trade
``vcg``                         truthful, nobody loses, all that can be gained is; the yardstick, with its deficit
``order_book``                  orders arrive one after the other and trade at once
``sharing_game``                everybody bids a demand function and knows that it moves the price
``exchange``                    everything optimised together at one price: homes move stores, curves meet in a pool
==============================  ======================================================================================

All but the last take what everybody would do alone as given and trade what that leaves (:mod:`market.orders`): they move no
store.  That is what separates them from ``exchange``, besides strategy.

An :class:`Outcome` says what everybody pays, against being alone; its certificate answers whether anybody is worse off,
whether payments balance, and, where players are few, whether a group would rather trade by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from market import auction, community_prices, order_book
from market.curves import Curves, clear_pool
from market.fairness import Excess, Fairness, fairness
from market.orders import Alone, Orders, alone, orders_from
from market.problem import Problem
from market.sharing_game import play

__all__ = ["MECHANISMS", "Mechanism", "MechanismError", "Outcome", "compare"]

Floats = NDArray[np.float64]

_RETAIL = ("buy_eur_per_kwh", "sell_eur_per_kwh", "exchange_charge_eur_per_kwh")
_COMMON = (*_RETAIL, "tolerance", "infeasible", "coalitions_up_to")
_EXCHANGE = ("max_iterations", "gap", "threads")
_NOTHING_KWH = 1e-12
_FEW_HOMES, _FEW_CURVES = 5, 8  # players whose coalitions are asked without being told to
_OWNER = "shared stores"
_ROUNDING_EUR = 1e-9


class MechanismError(ValueError):
    """A mechanism is unknown, or was given an option that it does not have."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a mechanism leads to."""

    mechanism: str
    status: str
    """``cleared``, ``no_trade`` (nobody trades) or ``not_converged`` (plans are exact, but not as good as was asked)."""
    names: tuple[str, ...]
    relaxed: tuple[str, ...]
    """Needs of stores that nothing could meet and that were moved to what can be, in words."""
    cost_eur: Floats
    """What each pays in all, payments included.  Shape (n,)."""
    alone_eur: Floats
    """What each pays alone, under the retail tariff only.  Shape (n,)."""
    payment_eur: Floats
    """Paid to the others (+) or received from them (-).  Shape (n,)."""
    traded_kwh: Floats
    """Sale +.  Shape (n, T)."""
    price_eur_per_kwh: Floats
    """Where there is one for all; the mean of the trades in an order book; NaN where there is none.  Shape (T,)."""
    buy_price_eur_per_kwh: Floats
    """What buyers pay in the mean, NaN where nobody does; where a formula makes prices, the retailer's part included.
    Shape (T,)."""
    sell_price_eur_per_kwh: Floats
    """What sellers get in the mean, likewise.  Shape (T,)."""
    welfare_eur: float
    """What all together gain over being alone, whoever gets it: agents, auctioneer or the owners of shared stores."""
    auctioneer_eur: float
    """What is left with the auctioneer (+), or what he has to bring (-)."""
    operator_eur: float
    """What the owners of shared stores get on top of what their tenants count as cost."""
    deviation_gain_eur: float
    """What any single agent could save at most by behaving differently, where the mechanism claims that this is nothing:
    as a player in the game, as a price taker in the exchange.  NaN elsewhere."""
    certificate: Fairness

    @property
    def gain_eur(self) -> Floats:
        """What each is better off than alone.  Shape (n,)."""
        gain: Floats = self.alone_eur - self.cost_eur
        return gain


class Mechanism(Protocol):
    """A way to trade."""

    def __call__(self, problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
        """Return what comes of it.

        Parameters
        ----------
        problem
            Homes, cost curves, or where they stand alone (:func:`market.orders.alone`), which is then not computed again.
        seed
            Decides ties and arrivals.
        options
            All take ``tolerance`` and ``infeasible`` (of the homes' plans, as :func:`market.exchange.clear`), ``coalitions_up_to`` (the most agents for whom all coalitions
            are asked; 5 homes, 8 curves) and, for curves, ``buy_eur_per_kwh``, ``sell_eur_per_kwh`` and
            ``exchange_charge_eur_per_kwh`` of a retailer.  Orders of curves have ``steps``; uniform, pay as bid and VCG
            ``ties`` ("seeded", "even"); uniform ``k``; the game ``price_sensitivity_kw2h_per_eur``; the exchange
            ``max_iterations``, ``gap`` and ``threads``.
        """
        ...


def compare(
    problem: Problem | Curves | Alone, names: Sequence[str] | None = None, *, seed: int = 0, **options: Any
) -> dict[str, Outcome]:
    """Run several mechanisms on the same people, who are asked once what they would do alone.

    Parameters
    ----------
    problem
        Homes or cost curves.
    names
        Keys of ``MECHANISMS``; by default all that can be run (curves without a retailer have no retail prices to share
        by).
    seed
        Decides ties and arrivals.
    options
        The common ones of :class:`Mechanism`.

    Examples
    --------
    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> found = compare(case, ["retailer", "mid_market_rate", "double_auction_uniform"])
    >>> {name: (round(o.welfare_eur, 6), o.gain_eur.round(6).tolist()) for name, o in found.items()}
    {'retailer': (0.0, [0.0, 0.0]), 'mid_market_rate': (0.44, [0.22, 0.22]),
     'double_auction_uniform': (0.44, [0.22, 0.22])}
    """
    known = set(names) - set(MECHANISMS) if names is not None else set()
    if known:
        raise MechanismError(f"there is no mechanism {', '.join(sorted(known))}; there are {', '.join(MECHANISMS)}.")
    before = _standing("compare", problem, options)
    if names is None:
        by_retail = {"mid_market_rate", "supply_demand_ratio", "bill_sharing"}
        names = [name for name in MECHANISMS if before.retail is not None or name not in by_retail]
    shared = {key: value for key, value in options.items() if key not in _RETAIL}
    return {name: MECHANISMS[name](before, seed=seed, **shared) for name in names}


# -- the mechanisms ----------------------------------------------------------------------------------------------------


def retailer(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Nobody trades."""
    before = _standing("retailer", problem, options)
    nothing, none = np.zeros((before.n, before.steps)), np.full(before.steps, np.nan)
    return _outcome("retailer", before, options, seed, nothing, np.zeros(before.n), none, none, none)


def mid_market_rate(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Share at the middle of retail and feed-in."""
    before = _standing("mid_market_rate", problem, options)
    return _shared("mid_market_rate", before, options, seed, community_prices.by_price_rule(before, "price.mmr"))


def supply_demand_ratio(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Share at a price that falls with supply."""
    before = _standing("supply_demand_ratio", problem, options)
    return _shared("supply_demand_ratio", before, options, seed, community_prices.by_price_rule(before, "price.sdr"))


def bill_sharing(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Share free of charge, and the community's bill."""
    before = _standing("bill_sharing", problem, options)
    return _shared("bill_sharing", before, options, seed, community_prices.bill_sharing(before))


def double_auction_uniform(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Trade at one price."""
    before = _standing("double_auction_uniform", problem, options, "steps", "ties", "k")
    own = {key: options[key] for key in ("ties", "k") if key in options}
    return _auctioned(
        "double_auction_uniform", before, options, seed, auction.uniform(_orders(before, options), seed=seed, **own)
    )


def double_auction_pay_as_bid(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Trade at the prices that everybody named."""
    before = _standing("double_auction_pay_as_bid", problem, options, "steps", "ties")
    own = {key: options[key] for key in ("ties",) if key in options}
    done = auction.pay_as_bid(_orders(before, options), seed=seed, **own)
    return _auctioned("double_auction_pay_as_bid", before, options, seed, done)


def mcafee(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Trade without the last pair, at its prices."""
    before = _standing("mcafee", problem, options, "steps")
    return _auctioned("mcafee", before, options, seed, auction.mcafee(_orders(before, options), seed=seed))


def vcg(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Everybody gains what he brings to the others."""
    before = _standing("vcg", problem, options, "steps", "ties")
    own = {key: options[key] for key in ("ties",) if key in options}
    return _auctioned("vcg", before, options, seed, auction.vcg(_orders(before, options), seed=seed, **own))


def continuous_order_book(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Trade with whoever waits."""
    before = _standing("order_book", problem, options, "steps")
    return _auctioned("order_book", before, options, seed, order_book.trade(_orders(before, options), seed=seed).result)


def sharing_game(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Bid demand functions, in equilibrium."""
    before = _standing("sharing_game", problem, options, "price_sensitivity_kw2h_per_eur")
    found = play(before.curves, price_sensitivity_kw2h_per_eur=options.get("price_sensitivity_kw2h_per_eur"))
    traded = before.curves.dt_h * found.power_kw
    price = found.price_eur_per_kwh
    return _outcome(
        "sharing_game", before, options, seed, traded, found.payment_eur.sum(axis=1), price, price, price,
        deviation=float(found.deviation_gain_eur.max(initial=0.0)),
    )  # fmt: skip


def exchange(problem: Problem | Curves | Alone, *, seed: int = 0, **options: Any) -> Outcome:
    """Optimise everything together, at one price."""
    before = _standing("exchange", problem, options, *_EXCHANGE)
    if isinstance(before.source, Problem):
        return _exchange_of_homes(before, before.source, options, seed)
    pool = clear_pool(before.curves)
    traded, price = before.curves.dt_h * pool.power_kw, pool.price_eur_per_kwh
    return _outcome("exchange", before, options, seed, traded, pool.payment_eur, price, price, price, deviation=0.0)


MECHANISMS: dict[str, Mechanism] = {
    "retailer": retailer,
    "mid_market_rate": mid_market_rate,
    "supply_demand_ratio": supply_demand_ratio,
    "bill_sharing": bill_sharing,
    "double_auction_uniform": double_auction_uniform,
    "double_auction_pay_as_bid": double_auction_pay_as_bid,
    "mcafee": mcafee,
    "vcg": vcg,
    "order_book": continuous_order_book,
    "sharing_game": sharing_game,
    "exchange": exchange,
}
"""The mechanisms by name; a plug-in adds its own."""


# -- what they have in common ------------------------------------------------------------------------------------------


def _standing(name: str, problem: Problem | Curves | Alone, options: dict[str, Any], *own: str) -> Alone:
    """Refuse options that nobody reads; find out where everybody stands alone."""
    unknown = sorted(set(options) - set(_COMMON) - set(own))
    if unknown:
        raise MechanismError(f"{name} has no option {', '.join(unknown)}; it has {', '.join((*own, *_COMMON))}.")
    if isinstance(problem, Alone):
        return problem
    given = {key: options[key] for key in (*_RETAIL, "tolerance", "infeasible") if options.get(key) is not None}
    return alone(problem, **given)


def _orders(before: Alone, options: dict[str, Any]) -> Orders:
    return orders_from(before, **{key: options[key] for key in ("steps",) if key in options})


def _shared(name: str, before: Alone, options: dict[str, Any], seed: int, done: community_prices.SharedOut) -> Outcome:
    prices = (done.price_eur_per_kwh, done.buy_price_eur_per_kwh, done.sell_price_eur_per_kwh)
    return _outcome(name, before, options, seed, done.traded_kwh, done.payment_eur.sum(axis=1), *prices, retail=True)


def _auctioned(name: str, before: Alone, options: dict[str, Any], seed: int, done: auction.Auctioned) -> Outcome:
    buy, sell = done.buy_price_eur_per_kwh, done.sell_price_eur_per_kwh
    one = np.where(np.isclose(buy, sell, rtol=1e-12, atol=1e-15), buy, np.nan)
    return _outcome(name, before, options, seed, done.traded_kwh, done.payment_eur.sum(axis=1), one, buy, sell)


def _outcome(
    name: str, before: Alone, options: dict[str, Any], seed: int, traded: Floats, payment: Floats, price: Floats,
    buy_price: Floats, sell_price: Floats, deviation: float = float("nan"), *, retail: bool = False,
) -> Outcome:  # fmt: skip
    """Put together what a mechanism that moves no store leads to."""
    change = before.curves.cost_eur(traded / before.curves.dt_h)
    trades = np.abs(traded).max(axis=0, initial=0.0) > _NOTHING_KWH
    gain = 0.0 - change - payment
    return Outcome(
        mechanism=name,
        status="not_converged" if not before.converged else "cleared" if trades.any() else "no_trade",
        names=before.names,
        relaxed=before.relaxed,
        cost_eur=before.cost_eur + change + payment,
        alone_eur=before.cost_eur,
        payment_eur=payment,
        traded_kwh=traded,
        price_eur_per_kwh=np.where(trades, price, np.nan),
        buy_price_eur_per_kwh=np.where(trades | retail, buy_price, np.nan),
        sell_price_eur_per_kwh=np.where(trades | retail, sell_price, np.nan),
        welfare_eur=0.0 - float(change.sum()),
        auctioneer_eur=float(payment.sum()),
        operator_eur=0.0,
        deviation_gain_eur=deviation,
        certificate=fairness(before.names, gain, payment, excess=_excess(before, gain, options, seed)),
    )


def _exchange_of_homes(before: Alone, problem: Problem, options: dict[str, Any], seed: int) -> Outcome:
    from market.exchange import clear  # numba is loaded only where homes are
    from market.repair import plan_cost_eur

    own: dict[str, Any] = {"tolerance": 1e-4}
    own |= {key: options[key] for key in ("tolerance", *_EXCHANGE) if key in options}
    found = clear(problem, **own)
    plain: Floats = plan_cost_eur(problem, found)
    payment = found.payment_eur
    gain = before.cost_eur - plain - payment
    operator = float(payment.sum())
    names, gains, payments = before.names, gain, payment
    if problem.shared:
        names = (*names, _OWNER)
        gains, payments = np.append(gain, operator), np.append(payment, -operator)
    trades = np.abs(found.exchange_kw).max(axis=0, initial=0.0) * problem.dt_h > _NOTHING_KWH
    price = np.where(trades, found.price_eur_per_kwh, np.nan)
    return Outcome(
        mechanism="exchange",
        status=found.status if before.converged else "not_converged",
        names=before.names,
        relaxed=before.relaxed,
        cost_eur=plain + payment,
        alone_eur=before.cost_eur,
        payment_eur=payment,
        traded_kwh=problem.dt_h * found.exchange_kw,
        price_eur_per_kwh=price,
        buy_price_eur_per_kwh=price.copy(),
        sell_price_eur_per_kwh=price.copy(),
        welfare_eur=float(before.cost_eur.sum() - plain.sum()),
        auctioneer_eur=0.0,
        operator_eur=operator,
        deviation_gain_eur=found.max_agent_kkt,
        certificate=fairness(
            names,
            gains,
            payments,
            excess=_excess(before, gains, options, seed),
            tolerance_eur=1e-6 + found.max_agent_kkt,
        ),
    )


def _excess(before: Alone, gain: Floats, options: dict[str, Any], seed: int) -> Excess | None:
    """Ask all coalitions, everybody's included, whether they would rather trade by themselves, where they are few.

    What everybody together could gain more is the efficiency that the mechanism leaves.
    """
    curves = before.source if isinstance(before.source, Curves) else None
    limit = options.get("coalitions_up_to")
    if len(gain) > (limit if limit is not None else _FEW_HOMES if curves is None else _FEW_CURVES):
        return None
    from market.coalition import Coalitions, worst_excess

    owner = len(gain) > before.n
    key = "with shared stores" if owner else "without"
    if key not in before.games:
        before.games[key] = (
            Coalitions.of_values(before.names, lambda mask: _together(before, curves, mask))
            if curves is not None
            else _homes(before, owner)
        )
    game = before.games[key]
    strongest = worst_excess(game, gain, seed=seed)
    strongest = replace(strongest, tried=strongest.tried + 1)
    left = game.surplus_eur - float(gain.sum())
    return (
        replace(strongest, excess_eur=left, coalition=game.players)
        if left > strongest.excess_eur + _ROUNDING_EUR + game.error_eur
        else strongest
    )


def _together(before: Alone, curves: Curves, mask: int) -> float:
    """Return what the agents of a coalition would gain in a pool of their own, beside which the retailer stands.

    Where a charge is on what neighbours trade, they trade only what each would move with the retailer, as in the mechanisms:
    a pool has one price for both.
    """
    rows = [i for i in range(curves.n) if mask >> i & 1]
    retail = before.retail
    if (
        retail is None
        or (retail.charge > 0.0).any()
        or np.ptp(retail.buy, axis=0).any()
        or np.ptp(retail.sell, axis=0).any()
    ):
        return -float(clear_pool(before.curves.part(rows)).cost_eur.sum())
    reach = np.maximum(np.abs(curves.p_min_kw[rows]), np.abs(curves.p_max_kw[rows])).sum(axis=0)
    none = np.zeros_like(reach)
    columns = [  # whoever sells to the coalition at the retail price, and whoever buys from it
        np.vstack([of_agents[rows], of_seller, of_buyer])
        for of_agents, of_seller, of_buyer in (
            (curves.a_eur_per_kw2h, none, none),
            (curves.b_eur_per_kwh, retail.buy[0], retail.sell[0]),
            (curves.p_min_kw, none, -reach),
            (curves.p_max_kw, reach, none),
        )
    ]
    cost = float(clear_pool(Curves.plain(*columns, dt_h=curves.dt_h)).cost_eur.sum())
    return float(before.cost_eur[rows].sum()) - cost


def _homes(before: Alone, owner: bool) -> Any:
    """Return the game of homes that optimise together, with or without the shared stores."""
    from market.coalition import Coalitions, Player, part_of

    problem = before.source
    assert isinstance(problem, Problem)
    players = [Player(name, (i,)) for i, name in enumerate(before.names)]
    if owner:
        return Coalitions(problem, [*players, Player(_OWNER, (), tuple(range(problem.shared)))])
    return Coalitions(part_of(problem, range(problem.n), ()), players)
