"""The end of a delivery day: the grid is checked, the books are closed, and everything is written down.

Three kinds of days are closed. A day of the run has positions, rights and a shared storage; beside it the same meters are settled by the
plain sharing rule alone (``ex_post``). A day of the reference has the retail tariff and nothing else. A day of the unmanaged people
has meters and a grid, no books.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.aggregator import invoices
from agents.dso import Breach, breaches
from market.bills import Bills, bills
from market.delivery import Delivery, Handovers, Rents, Sharing
from market.ledger import Chain
from market.settlement import Settled, settle
from network.acflow import Flow
from sim.clock import Day
from sim.community import Community
from sim.daybook import DayBook
from sim.record import Append, day_tables, enforcement, flow_tables, meters, positions, storage_net_kw
from sim.rows import blocks
from storage.tenancy import holders_table, post

__all__ = ["Closer", "Money"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Money:
    """What settlement needs besides the community."""

    sharing: Sharing
    aggregator_fee_eur_per_day: Vector
    """Of each connection, shape (c,)."""


class Closer:
    """Closes the days of one play, one after the other."""

    def __init__(
        self, community: Community, money: Money, append: Append, append_ex_post: Append | None = None
    ) -> None:
        self.community, self.money = community, money
        self.append, self.append_ex_post = append, append_ex_post
        self.chain, self.ex_post_chain = Chain(), Chain()
        self.conservation: dict[str, int] = {}
        self.breached: dict[str, int] = {}
        self.not_converged: list[str] = []
        self.lost_flows = 0
        self.broken: list[str] = []
        self.unserved_ev_kwh = 0.0
        self.end_missed_kwh = 0.0
        """How far the shared storage ended a day from what its operator wished, at most. [kWh]"""
        self.seconds: dict[str, float] = {"power_flow": 0.0, "settlement": 0.0, "output": 0.0}

    def close(self, day: Day) -> None:
        """Check the grid, settle and write a day that has been delivered, and forget it."""
        community = self.community
        book = community.books.pop(day.index)
        began = perf_counter()
        flow, found = self._grid(book)
        self.seconds["power_flow"] += perf_counter() - began
        if community.box is not None:
            self._storage(book)
        began = perf_counter()
        self.append("meters", meters(community, book))
        flow_tables(community.model, book, flow, found, self.append)
        if community.play.name != "unmanaged":
            day_tables(community, book, self.append)
            held = enforcement(community, book)
            if held is not None:
                self.append("enforcement", held)
            self._series(book)
        self.seconds["output"] += perf_counter() - began
        self.unserved_ev_kwh += book.unserved_ev_kwh
        self.end_missed_kwh = max([self.end_missed_kwh, *(abs(c.end_missed_kwh) for c in book.clearings)])
        self.not_converged += [c.clearing_id for c in book.clearings if not c.clearing.converged]
        if community.play.name != "unmanaged":
            self._settle(book, flow)

    # -- the grid --------------------------------------------------------------------------------------------------

    def _grid(self, book: DayBook) -> tuple[Flow, list[Breach]]:
        """Run the AC power flow of every delivered interval and find what broke a limit."""
        community, d = self.community, book.delivered
        p, q = d.meter_kw, d.meter_kvar
        if community.box is not None:
            p, q = np.vstack([p, storage_net_kw(book)]), np.vstack([q, np.zeros(book.day.steps)])
        flow = community.model.solve(-p, -q)
        envelope = book.publication.envelope
        held = np.ones(len(p), dtype=bool)
        held[: community.n] = community.people.active
        found = breaches(
            flow,
            community.model,
            community.rules.limits,
            p,
            np.where(held[:, None], envelope.import_limit_kw, np.inf),
            np.where(held[:, None], envelope.export_limit_kw, np.inf),
            community.connection_ids,
        )
        for breach in found:
            self.breached[breach.kind] = self.breached.get(breach.kind, 0) + 1
        self.lost_flows += int((~flow.converged).sum())
        return flow, found

    # -- the shared storage ------------------------------------------------------------------------------------------

    def _storage(self, book: DayBook) -> None:
        """Write whose energy was in the shared storage in every interval."""
        community = self.community
        assert community.box is not None
        assert book.account_start_kwh is not None
        posted = post(
            community.box,
            book.account_start_kwh,
            book.plan.rented_charge_kw,
            book.plan.rented_discharge_kw,
            community.clock.dt_h,
        )
        self.broken += [f"{book.day.name}: {sentence}" for sentence in posted.broken]
        book.box_energy_kwh, book.account_end_kwh = posted.energy_kwh[:-1], posted.holders_kwh[:, -1]
        self.append("storage", posted.storage_columns(book.times, community.box.ess_id))
        self.append("storage_ledger", holders_table(posted, book.times, community.box.ess_id, community.connection_ids))

    # -- money -------------------------------------------------------------------------------------------------------

    def _series(self, book: DayBook) -> None:
        series = self.community.series
        for name, values in series.values(series.names, book.times).items():
            self.append("series", {"time": book.times, "series_id": name, "value": values, "unit": series.unit(name)})

    def _settle(self, book: DayBook, flow: Flow) -> None:
        """Settle the day and write ledger, bills, positions, prices and rights."""
        community = self.community
        began = perf_counter()
        delivery = self._delivery(book, flow)
        settled = settle(delivery, self.chain)
        self.chain = settled.ledger.end
        for name, value in settled.conservation.items():
            self.conservation[name] = self.conservation.get(name, 0) + value
        ex_post = None
        if self.append_ex_post is not None:
            # the same meters, as if nobody had sold or rented anything before
            ex_post = settle(_without_positions(delivery), self.ex_post_chain)
            self.ex_post_chain = ex_post.ledger.end
        self.seconds["settlement"] += perf_counter() - began
        began = perf_counter()
        self._write_books(self.append, book, settled)
        if ex_post is not None and self.append_ex_post is not None:
            self._write_books(self.append_ex_post, book, ex_post)
        if community.play.sharing and book.day_ahead is not None:
            self.append("positions", positions(community, book, "day_ahead", book.day_ahead, settled.kw("day_ahead")))
            self.append("positions", positions(community, book, "intraday", book.plan, settled.kw("intraday")))
            if book.rights is not None:
                self.append("rights", book.rights.columns())
        self.append(
            "positions",
            blocks(
                book.times,
                community.connection_ids,
                stage="settled",
                exchange_kw=settled.kw("settled"),
                rented_charge_kw=settled.kw("rented_charge"),
                rented_discharge_kw=settled.kw("rented_discharge"),
                grid_buy_kw=settled.kw("grid_buy"),
                grid_sell_kw=settled.kw("grid_sell"),
            ),
        )
        self._prices(book, settled)
        self.seconds["output"] += perf_counter() - began

    def _delivery(self, book: DayBook, flow: Flow) -> Delivery:
        community, box, plan = self.community, self.community.box, book.plan
        people, sharing = community.people, community.play.sharing
        names = tuple(book.prices)
        prices = tuple(book.prices[name] for name in names)
        tariff_of = [*people.tariff_id, *([box.tariff_id] if box is not None else [])]
        meter_kw = book.delivered.meter_kw
        if box is not None:
            meter_kw = np.vstack([meter_kw, storage_net_kw(book)])
        loss_kw = np.where(flow.converged, flow.source_kw - meter_kw.sum(axis=0), 0.0)
        traded: dict[str, Any] = {}
        if sharing and book.day_ahead is not None:
            traded = {
                "day_ahead_kw": book.day_ahead.exchange_kw,
                "day_ahead_price_eur_per_kwh": _price(book.day_ahead_price_eur_per_kwh),
                "intraday_kw": plan.exchange_kw,
                "intraday_price_eur_per_kwh": _price(book.intraday_price_eur_per_kwh),
            }
        rented: dict[str, Any] = {}
        if box is not None:
            rented = {
                "ess_row": (community.n,),
                "rented_charge_kw": plan.rented_charge_kw[None],
                "rented_discharge_kw": plan.rented_discharge_kw[None],
                "throughput_fee_eur_per_kwh": np.array([box.wear_eur_per_kwh]),
                "rents": book.rights.rents({name: i for i, name in enumerate(people.agent_id)}, {box.ess_id: 0})
                if book.rights
                else Rents(),
                "handovers": self._handovers(book),
                "firm_charge_kw": book.publication.firm_kw[None],
                "firm_price_eur_per_kwh": box.firm_price_eur_per_kwh,
            }
        return Delivery(
            agent_id=community.connection_ids,
            times=book.times,
            dt_h=community.clock.dt_h,
            meter_kw=meter_kw,
            tariff_id=names,
            prices=prices,
            tariff=np.array([names.index(name) for name in tariff_of], dtype=np.int64),
            fixed_eur_per_day=np.array([community.tariffs[name].fixed_eur_per_day for name in names]),
            sharing=self.money.sharing if sharing else Sharing("alloc.none"),
            loss_kwh=np.maximum(loss_kw, 0.0) * community.clock.dt_h,
            loss_price_eur_per_kwh=prices[0].energy,  # of the scenario's first tariff, with sharing and without
            aggregator_id=(*people.aggregator_id, *([""] if box is not None else [])) if sharing else None,
            aggregator_fee_eur_per_day=self.money.aggregator_fee_eur_per_day,
            **traded,
            **rented,
            **_asked_by_the_grid(book),
        )

    def _handovers(self, book: DayBook) -> Handovers:
        """What tenants leave in the box when their right ends, at the price of the last interval."""
        assert book.account_start_kwh is not None
        assert book.account_end_kwh is not None
        left = (book.account_end_kwh - book.account_start_kwh)[:-1]
        who = np.flatnonzero(np.abs(left) >= 0.5e-6)
        prices = _price(book.intraday_price_eur_per_kwh)
        price = 0.0 if prices is None else float(prices[-1])
        ids = self.community.people.agent_id
        right_of = {} if book.rights is None else dict(zip(book.rights.agent_id, book.rights.right_id, strict=True))
        return Handovers(
            right_id=tuple(right_of.get(ids[i], f"{book.day.name}-{ids[i]}") for i in who),
            agent=who,
            ess=np.zeros(len(who), dtype=np.int64),
            step=np.full(len(who), book.day.steps - 1, dtype=np.int64),
            energy_kwh=left[who],
            price_eur_per_kwh=np.full(len(who), price),
        )

    def _prices(self, book: DayBook, settled: Settled) -> None:
        nobody = np.full(book.day.steps, np.nan)
        stages: dict[str, Vector] = {"settled": settled.price_eur_per_kwh if self.community.play.sharing else nobody}
        if book.day_ahead_price_eur_per_kwh is not None and self.community.play.sharing:
            stages["day_ahead"] = book.day_ahead_price_eur_per_kwh
            stages["intraday"] = nobody if book.intraday_price_eur_per_kwh is None else book.intraday_price_eur_per_kwh
        names = tuple(book.prices)
        buy, sell = (np.array([getattr(book.prices[name], side) for name in names]) for side in ("buy", "sell"))
        for stage, price in stages.items():
            self.append(
                "prices",
                blocks(
                    book.times,
                    names,
                    "tariff_id",
                    stage=stage,
                    energy_eur_per_kwh=price[None, :],
                    retail_buy_eur_per_kwh=buy,
                    retail_sell_eur_per_kwh=sell,
                ),
            )
        for stage, asked in book.locational.items():
            self.append(
                "locational_prices",
                blocks(
                    book.times,
                    self.community.connection_ids,
                    stage=stage,
                    energy_eur_per_kwh=stages[stage][None, :],
                    losses_eur_per_kwh=asked.losses,
                    congestion_eur_per_kwh=asked.congestion,
                    binding_element=asked.binding[None, :],
                ),
            )

    def _write_books(self, append: Append, book: DayBook, settled: Settled) -> None:
        append("ledger", settled.ledger.columns())
        billed = bills(settled.ledger, book.times[:1], [book.day.name])
        append("bills", billed.columns())
        people = self.community.people
        if append is self.append and self.community.play.sharing:
            _write_invoices(append, billed, dict(zip(people.agent_id, people.aggregator_id, strict=True)))


def _write_invoices(append: Append, billed: Bills, aggregator_of: dict[str, str]) -> None:
    """Let the aggregators invoice their members."""
    written = invoices(billed, aggregator_of)
    if written:
        append(
            "invoices",
            {
                "aggregator_id": [i.aggregator_id for i in written],
                "agent_id": [i.agent_id for i in written],
                "period": [i.period for i in written],
                "passed_through_eur": np.array([i.passed_through_micro_eur / 1e6 for i in written]),
                "fee_eur": np.array([i.fee_micro_eur / 1e6 for i in written]),
                "total_eur": np.array([i.total_eur for i in written]),
            },
        )


def _price(price_eur_per_kwh: Vector | None) -> Vector | None:
    """Return the price at which positions are paid; where nobody can trade there are no positions, and any number will do."""
    return None if price_eur_per_kwh is None else np.nan_to_num(price_eur_per_kwh)


def _asked_by_the_grid(book: DayBook) -> dict[str, Any]:
    """Return what losses and congestion cost at the meters, where the market was cleared with the feeder at the table."""
    asked = book.locational.get("intraday")
    if asked is None:
        return {}
    return {"network_losses_eur_per_kwh": asked.losses, "network_congestion_eur_per_kwh": asked.congestion}


def _without_positions(delivery: Delivery) -> Delivery:
    """Return the same meters with nothing sold, nothing rented and nobody in between."""
    return replace(
        delivery,
        day_ahead_kw=None,
        day_ahead_price_eur_per_kwh=None,
        intraday_kw=None,
        intraday_price_eur_per_kwh=None,
        rented_charge_kw=None,
        rented_discharge_kw=None,
        throughput_fee_eur_per_kwh=None,
        rents=Rents(),
        handovers=Handovers(),
        firm_charge_kw=None,
        network_losses_eur_per_kwh=None,
        network_congestion_eur_per_kwh=None,
        aggregator_id=None,
    )
