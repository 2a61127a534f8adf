"""A market's case: one market in one file, without feeder and without simulation.

Two kinds.  ``curves``: agents whose cost is a curve, with or without a graph of who may trade with whom.  ``prosumers``:
agents with load, PV, stores and envelopes over a horizon, a retailer's prices, and shared storages in which they rent.

:mod:`sim.case_file` reads a case, :mod:`sim.case_arrays` turns it into the arrays of a market, :mod:`sim.clear` clears it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PlainValidator, TypeAdapter
from pydantic_core import PydanticCustomError

from sim.case_agents import CurveAgent, Prosumer, SharedStorage
from sim.case_flexible import impossible
from sim.case_series import LARGEST, MOST_INTERVALS, Floats, Limit, Series, series, steady
from sim.scenario_base import Id, Spec, Switch
from sim.scenario_file import Loc
from sim.scenario_mistakes import nearest, with_units

__all__ = [
    "KINDS",
    "Case",
    "CurvesCase",
    "Pair",
    "Prices",
    "ProsumersCase",
    "Retail",
    "Trades",
    "json_schema",
]


def _option(value: Any) -> int | float | str:
    finite = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not finite:
        raise PydanticCustomError("no_option", "must be a finite number or a text")
    return str(value) if isinstance(value, str) else value


Option = Annotated[int | float | str, PlainValidator(_option, json_schema_input_type=float | str)]
Charge = Annotated[Floats, series(least=0, why="A charge is paid, never received")]


class Pair(Spec):
    """Two agents who may trade with one another."""

    first: Id
    """One of the two."""
    second: Id
    """The other."""
    charge_first_eur_per_kwh: Series | None = None
    """What the first pays for every kWh traded, bought or sold; null: the charge of all trades."""
    charge_second_eur_per_kwh: Series | None = None
    """What the second pays for every kWh traded, bought or sold; null: the charge of all trades."""
    limit_kw: Limit | None = None
    """Largest trade; null: the limit of all trades."""


class Trades(Spec):
    """Who may trade with whom: every pair makes its own price."""

    between: Literal["all", "consumers-producers", "pairs"] = "pairs"
    """all: everybody with everybody; consumers-producers: whoever may consume with whoever may produce; pairs: those listed."""
    charge_eur_per_kwh: Series = steady(0.0)
    """What each end of a trade pays for every kWh traded: a network charge, or what it would pay to avoid (+) or to have (−) the other."""
    limit_kw: Limit = steady(None)
    """Largest trade of a pair; null: no limit."""
    pairs: tuple[Pair, ...] = ()
    """The pairs, where they are listed."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check that pairs are listed where they are meant, and each once."""
        if self.between == "pairs" and not self.pairs:
            yield (), 'needs "pairs", or "between" with all or consumers-producers'
        if self.between not in ("pairs", "") and self.pairs:
            yield ("pairs",), f'are listed, but trades are between {self.between}; remove them or "between"'
        first: dict[frozenset[str], int] = {}
        for k, pair in enumerate(self.pairs):
            ends = frozenset((pair.first, pair.second))
            if "" in ends:  # a name that cannot be read
                continue
            if len(ends) == 1:
                yield ("pairs", k, "second"), f'is "{pair.second}" as well as the first: nobody trades with itself'
            elif ends in first:
                yield ("pairs", k), f"is the pair of pairs.{first[ends]} once more"
            first.setdefault(ends, k)


class Retail(Spec):
    """What a retailer asks and pays, for mechanisms that compare with it."""

    buy_eur_per_kwh: Series
    """Retail purchase price."""
    sell_eur_per_kwh: Series
    """Retail feed-in price, never above the purchase price."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse money without limit."""
        yield from _above(self.sell_eur_per_kwh, self.buy_eur_per_kwh)


class Prices(Retail):
    """What the retailer asks and pays, and what local energy is charged."""

    exchange_charge_eur_per_kwh: Charge = steady(0.0)
    """Paid by the buyer for every kWh bought from a neighbour."""
    rented_charge_eur_per_kwh: Charge = steady(0.0)
    """Paid for every kWh taken out of a shared storage."""


def _above(sell: Floats, buy: Floats) -> Iterator[tuple[Loc, str]]:
    wrong = np.flatnonzero(sell > buy)
    if wrong.size:
        t, more = int(wrong[0]), f" and {wrong.size - 1} more" if wrong.size > 1 else ""
        yield (
            ("sell_eur_per_kwh",),
            f"is above the purchase price in interval {t}{more} ({sell[t]:g} against {buy[t]:g}): buying and feeding in at once would earn without limit",
        )


class _CaseBase(Spec):
    """What every case says."""

    name: Id = "case"
    """What it is called in results."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "eur"
    """Three small letters; every key that says eur means this currency."""
    interval_minutes: Annotated[float, Field(strict=True, ge=1e-3, le=525_600)] = 60.0
    """Length of an interval."""
    intervals: Annotated[int, Field(strict=True, ge=1, le=MOST_INTERVALS)] | None = None
    """How many intervals there are; null: as many as the lists and files have values, 1 where there are only numbers."""
    mechanism: Annotated[str, Field(min_length=1)] | None = None
    """How it is cleared; null: the exchange for prosumers, pairs for curves with trades, one pool for curves without."""
    options: dict[Id, Option] = Field(default_factory=dict)
    """Of the mechanism, by name; a mechanism tells those it has if one is unknown."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 0
    """Of what a mechanism draws: ties, orders of arrival."""

    @property
    def dt_h(self) -> float:
        """Length of an interval. [h]"""
        return self.interval_minutes / 60.0


class CurvesCase(_CaseBase):
    """A market of agents whose costs are curves."""

    kind: Literal["curves"]
    """Which kind of case this is."""
    agents: tuple[CurveAgent, ...]
    """Who takes part."""
    trades: Trades | None = None
    """Who may trade with whom; null: everybody in one pool, at one price."""
    retail: Retail | None = None
    """A retailer's prices, for mechanisms that need them."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check names and charges."""
        known = [a.id for a in self.agents]
        yield from _names_once("agents", known)
        if self.trades is None:
            return
        for k, pair in enumerate(self.trades.pairs):
            for end in ("first", "second"):
                yield from _known(getattr(pair, end), known, ("trades", "pairs", k, end))
        yield from self._paid_for_trading()

    def _paid_for_trading(self) -> Iterator[tuple[Loc, str]]:
        """Refuse to pay two who may each sell to the other for every kWh: they would trade to and fro."""
        trades = self.trades
        assert trades is not None
        both = {agent.id: (agent.p_min < 0) & (agent.p_max > 0) for agent in self.agents}
        everywhere: Loc = ("trades", "charge_eur_per_kwh")
        if trades.between in ("all", "consumers-producers") and both:
            may = (sum(both.values()) >= 2) & (trades.limit_kw > 0)
            yield from _negative(everywhere, trades.charge_eur_per_kwh, may)
        for k, pair in enumerate(trades.pairs):
            limit = trades.limit_kw if pair.limit_kw is None else pair.limit_kw
            may = both.get(pair.first, np.False_) & both.get(pair.second, np.False_) & (limit > 0)
            for key in ("charge_first_eur_per_kwh", "charge_second_eur_per_kwh"):
                if (own := getattr(pair, key)) is None:
                    yield from _negative(everywhere, trades.charge_eur_per_kwh, may)
                else:
                    yield from _negative(("trades", "pairs", k, key), own, may)


class ProsumersCase(_CaseBase):
    """A market of prosumers over a horizon."""

    kind: Literal["prosumers"]
    """Which kind of case this is."""
    prices: Prices
    """Of the retailer, and what local energy is charged."""
    agents: tuple[Prosumer, ...]
    """Who takes part."""
    storage: tuple[SharedStorage, ...] = ()
    """Shared storages."""
    exchange: Switch = True
    """Whether neighbours trade; without it there is only the retailer and the shared storage."""
    infeasible: Literal["refuse", "relax"] = "refuse"
    """Where nothing can meet a store's need it is lowered as little as possible and named, and all others are cleared. refuse: the result is
    infeasible and the command ends with 3; relax: that is accepted."""
    breach_penalty_eur_per_kwh: Annotated[float, Field(strict=True, gt=0, le=LARGEST)] | None = None
    """Price of leaving the envelope, which the uncontrollable load alone may force; so much that leaving it on purpose never pays. Without
    it 2, or more where prices, wear and losses ask for more."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check names, prices of single agents, and times of cars."""
        known = [a.id for a in self.agents]
        yield from _names_once("agents", known)
        yield from _names_once("storage", [s.id for s in self.storage])
        for j, storage in enumerate(self.storage):
            if storage.owner is None and storage.id and storage.id in known:
                yield ("storage", j, "id"), f'"{storage.id}" is an agent\'s name too; say who is the "owner"'
            for k, name in enumerate(storage.tenants or ()):
                yield from _known(name, known, ("storage", j, "tenants", k))
            yield from _all_is_lost(storage.self_discharge_per_h, self.dt_h, ("storage", j))
        yield from self._prices_of_agents()
        for i, k, demand in (
            (i, k, one) for i, agent in enumerate(self.agents) for k, one in enumerate(agent.flexible)
        ):
            for loc, sentence in impossible(demand, self.dt_h):
                yield ("agents", i, "flexible", k, *loc), sentence
        for i, agent in enumerate(self.agents):
            for k, store in enumerate(agent.stores):
                for key in ("arrival_hours", "departure_hours"):
                    yield from self._after_the_end(getattr(store, key, None), ("agents", i, "stores", k, key))
                yield from _all_is_lost(
                    getattr(store, "self_discharge_per_h", 0.0), self.dt_h, ("agents", i, "stores", k)
                )

    def _after_the_end(self, hours: float | None, place: Loc) -> Iterator[tuple[Loc, str]]:
        """Refuse what happens after the last interval."""
        horizon = next((len(a.load_kw) * self.dt_h for a in self.agents if np.ndim(a.load_kw)), math.inf)
        if hours is not None and hours > horizon:
            yield place, f"is after the end, {horizon:g} h; given {hours:g}"

    def _prices_of_agents(self) -> Iterator[tuple[Loc, str]]:
        """Refuse money without limit: by one who buys and feeds in at once, and by two of whom one passes it on."""
        buys, sells, wrong = [], [], False
        for i, agent in enumerate(self.agents):
            own_buy, own_sell = agent.buy_eur_per_kwh, agent.sell_eur_per_kwh
            buys.append(self.prices.buy_eur_per_kwh if own_buy is None else own_buy)
            sells.append(self.prices.sell_eur_per_kwh if own_sell is None else own_sell)
            if own_buy is not None or own_sell is not None:
                for loc, sentence in _above(sells[-1], buys[-1]):
                    wrong = True
                    yield ("agents", i, *(loc if own_sell is not None else ("buy_eur_per_kwh",))), sentence
        if wrong or not buys or self.exchange is not True:
            return
        charge = self.prices.exchange_charge_eur_per_kwh
        rows = np.stack(np.broadcast_arrays(*buys, *(sell - charge for sell in sells))).reshape(2, len(buys), -1)
        buy, resale = rows
        best, cheapest, t = resale.argmax(axis=0), buy.argmin(axis=0), np.arange(buy.shape[1])
        for w in np.flatnonzero(resale[best, t] > buy[cheapest, t] + 1e-12)[:1].tolist():
            seller, buyer = int(best[w]), int(cheapest[w])
            feeds, pays = self.agents[seller], self.agents[buyer]
            own = feeds.sell_eur_per_kwh is not None
            place: Loc = ("agents", *((seller, "sell_eur_per_kwh") if own else (buyer, "buy_eur_per_kwh")))
            yield (
                place,
                (
                    f'lets energy be passed on: in interval {w} "{pays.id}" buys at {buy[buyer, w]:g}, and "{feeds.id}" feeds in at '
                    f"{sells[seller][w]:g}, more than that and the exchange charge of {charge[w]:g} together; passing energy on would earn without limit"
                ),
            )


Case = Annotated[CurvesCase | ProsumersCase, Field(discriminator="kind")]
KINDS: dict[str, type[CurvesCase | ProsumersCase]] = {"curves": CurvesCase, "prosumers": ProsumersCase}


def _names_once(section: str, names: Sequence[str]) -> Iterator[tuple[Loc, str]]:
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if name and name in first:  # a name that cannot be read is empty
            yield (section, i, "id"), f'"{name}" is the id of {section}.{first[name]} already'
        first.setdefault(name, i)


def _known(name: str, known: Sequence[str], place: Loc) -> Iterator[tuple[Loc, str]]:
    """Refuse a name that no agent has, where all of them can be read."""
    if name and name not in known and all(known):
        yield place, f'"{name}" is not an agent of the case; {nearest(name, list(dict.fromkeys(known)))}'


def _negative(place: Loc, charge: Floats, may: Any) -> Iterator[tuple[Loc, str]]:
    """Refuse a charge below 0 where either of two may sell to the other."""
    for t in np.flatnonzero((charge < 0) & may)[:1].tolist():
        sentence = f"is {charge[t]:g} in interval {t}, where either of two may sell to the other: trading to and fro would earn without limit"
        yield place, f"{sentence}. Give 0 or more, or let one of them only sell"


def _all_is_lost(self_discharge_per_h: float, dt_h: float, place: Loc) -> Iterator[tuple[Loc, str]]:
    """Refuse a loss by which nothing that a number can hold is left after an interval."""
    if (1.0 - self_discharge_per_h) ** dt_h < 1e-100:
        yield (
            (*place, "self_discharge_per_h"),
            f"leaves nothing after an interval of {dt_h:g} h; given {self_discharge_per_h:g}",
        )


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of cases; every quantity carries its ``unit``."""
    schema = TypeAdapter(Case).json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Case", **with_units(schema)}
