"""Settlement of a delivery day: from meters and positions to the books, in whole numbers.

Everything is counted in milli-watt-hours and micro-euro.  With the meter M, the last position X (sale +), and the
rented flows c, r of an agent in an interval, what is not yet settled is ::

    N = M + X + c − r                                                                                      (1)

Those with N > 0 are short, those with N < 0 are long.  BEFORE the retailer sees this, the sharing rule nets the long
against the short (:mod:`market.allocation`): received A, given B.  The settled position and what is left for the
retailer are ::

    X' = X + B − A        grid_buy = max(N + B − A, 0)        grid_sell = max(−(N + B − A), 0)             (2)

so that grid_buy − grid_sell − X' + r − c = M exactly, and nobody buys and sells at once.  With no positions this is
plain ex-post sharing; with the rule ``alloc.none`` and no positions it is the retailer alone: one function for all.

What is paid.  For energy inside the community Σ over stages of price · (position − position of the stage before), the
shared differences being the last stage: its price rule is told the best feed-in price of the givers and the cheapest
retail price less local charge of the receivers, so that a price between the two suits everybody.  To the retailer, the
network operator and the state the components of the tariff.  To the network operator, where the market was cleared with
its feeder at the table, losses and congestion: their locational prices times what the meter draws (M; where a kWh helps, it pays).  Local charges on max(−X', 0) + r: what was bought from neighbours and what was taken out
of a shared storage.  To the operator of the storage rents and fee.

Rounding.  An amount is price times whole milli-watt-hours, to the nearest micro-euro (half to even); the counterparty
gets the sum.  An exchange transaction has many parties and no counterparty: there every amount −price · ΔX is rounded
down and what is missing goes, one micro-euro each, to the largest remainders, ties by agent_id.  Positions are made
whole in the same way, so that they sum to zero exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market.allocation import largest_remainder, price, share
from market.delivery import Delivery, Handovers, Rents, SettlementError, Sharing, whole
from market.ledger import Chain, Ledger, LedgerError, Postings

__all__ = ["Delivery", "Handovers", "Rents", "Settled", "SettlementError", "Sharing", "settle", "whole"]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

Energy = Literal[
    "meter", "day_ahead", "intraday", "settled", "received", "given", "grid_buy", "grid_sell", "rented_charge", "rented_discharge"
]  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """A settled delivery day; rows as in the :class:`Delivery`, every energy of shape (n, T). [mWh]"""

    ledger: Ledger
    dt_h: float
    meter: Counts
    day_ahead: Counts
    """Position of the stage, sale +."""
    intraday: Counts
    settled: Counts
    """Position after sharing, sale +."""
    received: Counts
    """Of the shared differences."""
    given: Counts
    grid_buy: Counts
    grid_sell: Counts
    rented_charge: Counts
    """Over all shared storages; the row of a storage mirrors its tenants."""
    rented_discharge: Counts
    price_eur_per_kwh: Vector
    """Of the shared differences, shape (T,); defined in every interval."""
    conservation: dict[str, int]
    """Sums for the manifest; they add up over the days of a run."""

    def kw(self, name: Energy) -> Matrix:
        """Return an energy as mean power over its intervals, shape (n, T). [kW]"""
        return np.asarray(getattr(self, name) / (self.dt_h * 1e6))


def settle(delivery: Delivery, chain: Chain | None = None) -> Settled:
    """Settle a delivery day.

    Parameters
    ----------
    delivery
        What was sold, rented and metered.
    chain
        Where the books stand (``ledger.end`` of the day before); None begins new ones.

    Raises
    ------
    market.allocation.AllocationError
        If a rule is not known or breaks its law.
    LedgerError
        If the books do not balance: never, unless this module is wrong.
    """
    # In the order of agent_id ties are settled by the row alone, and the books do not depend on how agents were listed.
    order = np.array(sorted(range(delivery.n), key=delivery.agent_id.__getitem__), dtype=np.int64)
    day = _Day(delivery, order)
    ledger = day.postings().close(Chain() if chain is None else chain)
    ledger.check_balance()
    day.check_meters(ledger)
    back = np.empty_like(order)
    back[order] = np.arange(delivery.n)
    energies = {
        "meter": day.meter, "day_ahead": day.day_ahead, "intraday": day.intraday, "settled": day.settled,
        "received": day.received, "given": day.given, "grid_buy": day.grid_buy, "grid_sell": day.grid_sell,
        "rented_charge": day.charge, "rented_discharge": day.discharge,
    }  # fmt: skip
    return Settled(
        ledger=ledger,
        dt_h=delivery.dt_h,
        price_eur_per_kwh=day.price_eur_per_kwh,
        conservation=day.conservation(ledger),
        **{name: energy[back] for name, energy in energies.items()},
    )


class _Day:
    """The day's whole numbers, agents in the order of agent_id, and the postings that follow from them."""

    def __init__(self, delivery: Delivery, order: Counts) -> None:
        self.d, self.order = delivery, order
        self.n, self.steps = delivery.n, delivery.steps
        self.tariff = np.asarray(delivery.tariff, dtype=np.int64)[order]
        self.row_of = np.empty_like(order)
        self.row_of[order] = np.arange(self.n)
        self.ess = self.row_of[np.asarray(delivery.ess_row, dtype=np.int64)]
        self.consumes = np.ones(self.n, dtype=bool)
        self.consumes[self.ess] = False

        self.meter = whole(delivery.meter_kw, delivery.dt_h)[order]
        self.day_ahead = self._position(delivery.day_ahead_kw, np.zeros_like(self.meter))
        self.intraday = self._position(delivery.intraday_kw, self.day_ahead)
        self.tenant_charge, self.own_charge = self._rented(delivery.rented_charge_kw)
        self.tenant_discharge, self.own_discharge = self._rented(delivery.rented_discharge_kw)
        # the operator takes in what its tenants charge: its row is the mirror of theirs
        self.charge, self.discharge = self.own_charge.copy(), self.own_discharge.copy()
        self.charge[self.ess] += self.tenant_discharge.sum(axis=1)
        self.discharge[self.ess] += self.tenant_charge.sum(axis=1)

        need = self.meter + self.intraday + self.charge - self.discharge  # (1)
        self._share(need)
        rest = need - self.received + self.given  # (2)
        self.settled = self.intraday + self.given - self.received
        self.grid_buy, self.grid_sell = np.maximum(rest, 0), np.maximum(-rest, 0)
        local = np.maximum(-self.settled, 0) + self.own_discharge
        self.local = np.where(self.consumes[:, None], local, 0)

    def _position(self, position_kw: Matrix | None, otherwise: Counts) -> Counts:
        if position_kw is None:
            return otherwise
        energy = np.asarray(position_kw, dtype=np.float64)[self.order] * (self.d.dt_h * 1e6)
        return largest_remainder(energy, np.zeros(self.steps, dtype=np.int64))

    def _rented(self, power_kw: NDArray[np.float64] | None) -> tuple[Counts, Counts]:
        """Return the tenants' flows by storage, shape (m, n, T), and over all storages, shape (n, T)."""
        flows = np.zeros((len(self.ess), self.n, self.steps), dtype=np.int64)
        if power_kw is not None:
            flows[:] = whole(power_kw, self.d.dt_h)[:, self.order]
            flows[np.arange(len(self.ess)), self.ess] = 0
        return flows, flows.sum(axis=0)

    def _by_tariff(self, component: str) -> Matrix:
        """Return a component of the tariffs for each agent, shape (n, T). [eur/kWh]"""
        table = np.array([getattr(prices, component) for prices in self.d.prices], dtype=np.float64)
        return np.asarray(table.reshape(-1, self.steps)[self.tariff])

    def _share(self, need: Counts) -> None:
        d, rule = self.d, self.d.sharing
        member = np.ones(self.n, dtype=bool) if d.shares is None else np.asarray(d.shares, dtype=bool)[self.order]
        demand = np.where(member[:, None], np.maximum(need, 0), 0)
        surplus = np.where(member[:, None], np.maximum(-need, 0), 0)
        retail = self._by_tariff("buy") - np.where(self.consumes[:, None], self._by_tariff("local_charge"), 0.0)
        feed_in = self._by_tariff("sell")
        if rule.only_if_worthwhile:
            pays = _lowest(retail, demand > 0) >= _highest(feed_in, surplus > 0)
            demand, surplus = demand * pays, surplus * pays
        keys = None if rule.keys is None else np.asarray(rule.keys, dtype=np.float64)[self.order]
        self.received, self.given = share(rule.allocation, demand, surplus, keys)
        everyone = np.broadcast_to(member[:, None] | ~member.any(), need.shape)
        nobody = ~(self.received > 0).any(axis=0)
        self.price_eur_per_kwh = price(
            rule.price,
            _lowest(retail, (self.received > 0) | (everyone & nobody)),
            _highest(feed_in, (self.given > 0) | (everyone & nobody)),
            demand.sum(axis=0),
            surplus.sum(axis=0),
        )

    # -- postings --------------------------------------------------------------------------------------------------

    def postings(self) -> Postings:
        """Return all postings of the day, not yet chained."""
        d = self.d
        outside = d.outside()
        book = Postings((*(d.agent_id[i] for i in self.order), *outside), d.times)
        self.account = {name: self.n + i for i, name in enumerate(outside)}
        self._post_exchange(book)
        self._post_retail(book)
        self._post_storage(book)
        self._post_others(book)
        return book

    def _post_exchange(self, book: Postings) -> None:
        d, rule = self.d, self.d.sharing
        before = np.zeros_like(self.meter)
        for stage, position, price_eur_per_kwh, name in (
            ("day_ahead", self.day_ahead, d.day_ahead_price_eur_per_kwh, "exchange"),
            ("intraday", self.intraday, d.intraday_price_eur_per_kwh, "exchange"),
            ("settled", self.settled, self.price_eur_per_kwh, f"{rule.allocation}/{rule.price}"),
        ):
            sold = position - before
            before = position
            if price_eur_per_kwh is None or not sold.any():
                continue
            amount = largest_remainder(sold * price_eur_per_kwh, np.zeros(self.steps, dtype=np.int64))
            step, row = np.nonzero(np.ones_like(sold.T, dtype=bool))
            book.add(f"exchange_{stage}", name, step, row, -sold[row, step], amount[row, step], -sold[row, step])

    def _post_retail(self, book: Postings) -> None:
        d, account = self.d, self.account
        for k, tariff_id in enumerate(d.tariff_id):
            rows = np.flatnonzero(self.tariff == k)
            prices = d.prices[k]
            bought, sold, local = self.grid_buy[rows], self.grid_sell[rows], self.local[rows]
            for kind, payee, price_eur_per_kwh, energy in (
                ("retail_energy", d.retailer, prices.energy, bought),
                ("retail_network", d.dso, prices.network, bought),
                ("retail_levies", d.state, prices.levies, bought),
                ("retail_vat", d.state, prices.vat, bought),
                ("feed_in", d.retailer, prices.sell, -sold),
                ("local_network", d.dso, prices.local_network, local),
                ("local_levies", d.state, prices.local_levies, local),
                ("local_vat", d.state, prices.local_vat, local),
            ):
                moves = kind in ("retail_energy", "feed_in")
                book.pooled(
                    kind, tariff_id, rows, account[payee], -_money(energy, price_eur_per_kwh), energy, moves=moves
                )
            fixed = np.full((len(rows), 1), round(float(d.fixed_eur_per_day[k]) * 1e6), dtype=np.int64)
            book.pooled("retail_fixed", tariff_id, rows, account[d.retailer], -fixed, np.full_like(fixed, 1_000_000))

    def _post_storage(self, book: Postings) -> None:
        d = self.d
        everyone = np.arange(self.n)
        for m, operator in enumerate(self.ess.tolist()):
            rule = d.agent_id[d.ess_row[m]]
            # in and out are two postings: an agent that does both in one interval pays the fee for both
            for flow in (-self.tenant_charge[m], self.tenant_discharge[m]):
                book.pooled("rented_flow", rule, everyone, operator, np.zeros_like(flow), flow, moves=True)
            own = (d.rents.ess == m) & (d.rents.agent != d.ess_row[m])  # nobody pays rent to itself
            tenant = self.row_of[d.rents.agent[own]]
            for kind, amount, rent in (
                ("rent_energy", d.rents.energy_kwh, d.rents.rent_energy_eur_per_kwh),
                ("rent_power", d.rents.power_kw, d.rents.rent_power_eur_per_kw),
            ):
                rented = np.rint(amount[own] * 1e6).astype(np.int64)
                in_order = np.argsort(tenant, kind="stable")
                rented, rents = rented[in_order, None], rent[own][in_order, None]
                book.pooled(kind, rule, tenant[in_order], operator, -_money(rented, rents), rented)
            if d.throughput_fee_eur_per_kwh is not None:
                through = self.tenant_charge[m] + self.tenant_discharge[m]
                fee = _money(through, d.throughput_fee_eur_per_kwh[m])
                book.pooled("throughput_fee", rule, everyone, operator, -fee, through)
            if d.firm_charge_kw is not None:
                firm = whole(d.firm_charge_kw[m], d.dt_h)[None]
                paid = _money(firm, d.firm_price_eur_per_kwh)
                book.pooled("firm_service", rule, np.array([self.account[d.dso]]), operator, -paid, firm)
            self._post_handovers(book, m, operator)

    def _post_handovers(self, book: Postings, m: int, operator: int) -> None:
        over = self.d.handovers
        for h in np.flatnonzero(over.ess == m).tolist():
            energy = np.rint(over.energy_kwh[h : h + 1] * 1e6).astype(np.int64)
            paid = _money(energy, over.price_eur_per_kwh[h])
            pair = np.array([self.row_of[over.agent[h]], operator])
            both = np.array([1, -1])
            step = np.repeat(over.step[h], 2)
            # what is left in the box is not metered here: the postings carry the quantity, not the energy
            book.add("handover", over.right_id[h], step, pair, np.zeros_like(pair), both * paid, -both * energy)

    def _post_others(self, book: Postings) -> None:
        d, account = self.d, self.account
        if d.loss_kwh is not None and d.loss_price_eur_per_kwh is not None:
            lost = np.rint(d.loss_kwh * 1e6).astype(np.int64)[None]
            paid = _money(lost, d.loss_price_eur_per_kwh)
            book.pooled("losses", "losses", np.array([account[d.dso]]), account[d.retailer], -paid, lost, moves=True)
        for kind, price_eur_per_kwh in (
            ("network_losses", d.network_losses_eur_per_kwh),
            ("network_congestion", d.network_congestion_eur_per_kwh),
        ):
            if price_eur_per_kwh is not None:
                paid = _money(self.meter, np.asarray(price_eur_per_kwh, dtype=np.float64)[self.order])
                book.pooled(kind, "locational", np.arange(self.n), account[d.dso], -paid, self.meter)
        fees = np.broadcast_to(np.asarray(d.aggregator_fee_eur_per_day, dtype=np.float64), (self.n,))
        for aggregator in sorted({name for name in d.aggregator_id or () if name}):
            assert d.aggregator_id is not None
            rows = np.flatnonzero([d.aggregator_id[i] == aggregator for i in self.order])
            fee = np.rint(fees[self.order[rows], None] * 1e6).astype(np.int64)
            book.pooled("aggregator_fee", "aggregator", rows, account[aggregator], -fee, np.full_like(fee, 1_000_000))

    # -- checks ----------------------------------------------------------------------------------------------------

    def check_meters(self, ledger: Ledger) -> None:
        """Make sure that the books hold, per agent and interval, the energy its meter saw."""
        d = self.d
        row = {d.agent_id[i]: position for position, i in enumerate(self.order.tolist())}
        rows = np.array([row.get(name, self.n) for name in ledger.account.tolist()], dtype=np.int64)
        steps = np.searchsorted(d.times.astype("datetime64[s]"), ledger.time)
        booked = np.zeros((self.n + 1, self.steps), dtype=np.int64)
        np.add.at(booked, (rows, steps), ledger.energy_milliwatt_hour)
        wrong = np.argwhere(booked[:-1] != self.meter)
        if len(wrong):
            i, t = wrong[0].tolist()
            raise LedgerError(
                f"the books of {d.agent_id[self.order[i]]!r} hold {booked[i, t]} milli-watt-hours at {d.times[t]}Z; its "
                f"meter saw {self.meter[i, t]}."
            )

    def conservation(self, ledger: Ledger) -> dict[str, int]:
        """Return the sums for the manifest."""
        lost = 0 if self.d.loss_kwh is None else int(np.rint(self.d.loss_kwh * 1e6).sum())
        bought, sold = int(self.grid_buy.sum()), int(self.grid_sell.sum())
        return {
            "postings": ledger.size,
            "transactions": ledger.end.transaction_id - ledger.begin.transaction_id,
            "ledger_micro_eur": int(ledger.amount_micro_eur.sum()),
            "ledger_milliwatt_hour": int(ledger.energy_milliwatt_hour.sum()),
            "meters_milliwatt_hour": int(self.meter.sum()),
            "losses_milliwatt_hour": lost,
            "source_milliwatt_hour": bought - sold + lost,
            "exchange_milliwatt_hour": int(self.settled.sum()),
            "shared_milliwatt_hour": int(self.received.sum()),
        }


def _money(energy: Counts, price_eur_per_kwh: Vector | float) -> Counts:
    """Return micro-euro: milli-watt-hours times eur/kWh, half to even."""
    return np.asarray(np.rint(energy * price_eur_per_kwh), dtype=np.int64)


def _lowest(values: Matrix, mask: NDArray[np.bool_]) -> Vector:
    return np.asarray(np.where(mask, values, np.inf).min(axis=0))


def _highest(values: Matrix, mask: NDArray[np.bool_]) -> Vector:
    return np.asarray(np.where(mask, values, -np.inf).max(axis=0))
