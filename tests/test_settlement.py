"""Settlement: a day by hand, an independent recount, and the laws of double entry for random deliveries."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.bills import BillError, bills
from market.delivery import Delivery, Handovers, Rents, SettlementError, Sharing, whole
from market.ledger import KINDS, METERED_KINDS, Chain, LedgerError
from market.settlement import settle
from market.tariffs import Tariff

BERLIN = "Europe/Berlin"
NOON = np.datetime64("2016-07-18T10:00:00", "s")


def quarter_hours(steps: int):
    return NOON + np.arange(steps) * np.timedelta64(15, "m")


def flat_tariff(tariff_id="flat", energy=0.10, network=0.06, levies=0.04, vat=0.20, feed_in=0.08, fixed=0.30):
    """Return a tariff of 0.24 eur/kWh, of which a local kWh pays (0.03 + 0.04) 1.2 = 0.084."""
    return Tariff(tariff_id, energy, network, levies, vat, feed_in, fixed, 0.5, 1.0)


def delivery(meter_kw, agent_id=None, tariff=None, **more):
    """Return a delivery of one tariff, without positions unless told."""
    meter_kw = np.asarray(meter_kw, dtype=float)
    tariff = tariff or flat_tariff()
    times = quarter_hours(meter_kw.shape[1])
    return Delivery(
        agent_id=agent_id or tuple(f"home_{i}" for i in range(len(meter_kw))),
        times=times,
        dt_h=0.25,
        meter_kw=meter_kw,
        tariff_id=(tariff.tariff_id,),
        prices=(tariff.price(times, BERLIN, {}),),
        tariff=np.zeros(len(meter_kw), dtype=int),
        fixed_eur_per_day=np.array([tariff.fixed_eur_per_day]),
        **more,
    )


def booked(ledger, account, kind=None):
    """Return energy [mWh] and money [µ€] of an account."""
    rows = (ledger.account == account) & ((ledger.kind == kind) if kind else True)
    return int(ledger.energy_milliwatt_hour[rows].sum()), int(ledger.amount_micro_eur[rows].sum())


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_the_retailer_alone_by_hand():
    """4 kW for a quarter-hour is 1 kWh: 10 ct energy, 6 network, 4 levies, 4 VAT, 30 a day; 2 kW out earn 4 ct."""
    s = settle(delivery([[4.0], [-2.0]], sharing=Sharing("alloc.none")))

    assert booked(s.ledger, "home_0", "retail_energy") == (1_000_000, -100_000)
    assert booked(s.ledger, "home_0", "retail_network") == (0, -60_000)
    assert booked(s.ledger, "home_0", "retail_levies") == (0, -40_000)
    assert booked(s.ledger, "home_0", "retail_vat") == (0, -40_000)
    assert booked(s.ledger, "home_0", "retail_fixed") == (0, -300_000)
    assert booked(s.ledger, "home_1", "feed_in") == (-500_000, 40_000)
    assert booked(s.ledger, "home_0") == (1_000_000, -540_000)
    assert booked(s.ledger, "retailer") == (-500_000, 100_000 - 40_000 + 600_000)
    assert booked(s.ledger, "dso") == (0, 60_000)
    assert booked(s.ledger, "state") == (0, 80_000)
    assert not s.received.any()


def test_plain_sharing_by_hand():
    """1 kWh needed, 0.5 left over: shared at the middle of 0.08 and 0.24 − 0.084, the receiver pays 0.084 on it."""
    s = settle(delivery([[4.0], [-2.0]]))

    np.testing.assert_allclose(s.price_eur_per_kwh, [(0.08 + 0.156) / 2])
    assert booked(s.ledger, "home_0", "exchange_settled") == (500_000, -59_000)
    assert booked(s.ledger, "home_1", "exchange_settled") == (-500_000, 59_000)
    assert booked(s.ledger, "home_0", "local_network") == (0, -15_000)
    assert booked(s.ledger, "home_0", "local_levies") == (0, -20_000)
    assert booked(s.ledger, "home_0", "local_vat") == (0, -7_000)
    assert booked(s.ledger, "home_0", "retail_energy") == (500_000, -50_000)
    assert booked(s.ledger, "home_1", "feed_in") == (0, 0)
    assert s.kw("settled").ravel().tolist() == [-2.0, 2.0]
    assert s.kw("grid_buy").ravel().tolist() == [2.0, 0.0]


def test_every_stage_is_paid_at_its_own_price_by_hand():
    """Sold 4 kW day ahead at .10, 2 kW after replanning at .14, delivered 3 kW: .10 − .07 + the last half at .118."""
    s = settle(
        delivery(
            [[3.0], [-3.0]],
            day_ahead_kw=np.array([[-4.0], [4.0]]),
            day_ahead_price_eur_per_kwh=np.array([0.10]),
            intraday_kw=np.array([[-2.0], [2.0]]),
            intraday_price_eur_per_kwh=np.array([0.14]),
        )
    )

    assert booked(s.ledger, "home_1", "exchange_day_ahead") == (-1_000_000, 100_000)
    assert booked(s.ledger, "home_1", "exchange_intraday") == (500_000, -70_000)
    assert booked(s.ledger, "home_1", "exchange_settled") == (-250_000, 29_500)
    assert booked(s.ledger, "home_0", "local_network") == (0, -22_500)  # on the settled 0.75 kWh, once
    assert s.kw("settled").ravel().tolist() == [-3.0, 3.0]
    assert not s.grid_buy.any()
    assert not s.grid_sell.any()


def storage_day():
    """Home 0 charges 4 kW into the storage, home 1 takes 1 kW out, the operator takes 2 kW for itself."""
    flow = np.zeros((1, 3, 1))
    charge, discharge = flow.copy(), flow.copy()
    charge[0, 0], discharge[0, 1] = 4.0, 1.0
    charge[0, 2] = 77.0  # the storage's own row is not read
    return delivery(
        [[-4.0], [1.0], [5.0]],
        agent_id=("a", "b", "ess"),
        ess_row=(2,),
        rented_charge_kw=charge,
        rented_discharge_kw=discharge,
        throughput_fee_eur_per_kwh=np.array([0.01]),
        rents=Rents(
            ("r/a", "r/ess"), np.array([0, 2]), np.array([0, 0]), np.array([2.0, 1.0]), np.array([4.0, 1.0]),
            np.array([0.05, 9.0]), np.array([0.03, 9.0]),
        ),
        handovers=Handovers(
            ("r/a",), np.array([0]), np.array([0]), np.array([0]), np.array([0.25]), np.array([0.12])
        ),
        firm_charge_kw=np.array([[2.0]]),
        firm_price_eur_per_kwh=0.02,
        loss_kwh=np.array([0.1]),
        loss_price_eur_per_kwh=np.array([0.20]),
        aggregator_id=("agg", "agg", ""),
        aggregator_fee_eur_per_day=0.15,
    )  # fmt: skip


def test_the_shared_storage_in_the_books_by_hand():
    """Flows mirror, rent and fee go to the operator, who buys its own 2 kW; the network operator pays service and losses."""
    s = settle(storage_day())

    assert s.kw("rented_charge").ravel().tolist() == [4.0, 0.0, 1.0]
    assert s.kw("rented_discharge").ravel().tolist() == [0.0, 1.0, 4.0]
    assert s.kw("grid_buy").ravel().tolist() == [0.0, 0.0, 2.0]
    assert booked(s.ledger, "a", "rented_flow") == (-1_000_000, 0)
    assert booked(s.ledger, "b", "rented_flow") == (250_000, 0)
    assert booked(s.ledger, "ess", "rented_flow") == (750_000, 0)
    assert booked(s.ledger, "ess", "retail_energy") == (500_000, -50_000)
    assert booked(s.ledger, "b", "local_network") == (0, -7_500)
    assert booked(s.ledger, "ess", "local_network") == (0, 0)
    assert booked(s.ledger, "a", "rent_energy") == (0, -100_000)
    assert booked(s.ledger, "a", "rent_power") == (0, -120_000)
    assert booked(s.ledger, "ess", "rent_energy") == (0, 100_000)  # the right it keeps itself costs it nothing
    assert ((s.ledger.account == "ess") & (s.ledger.kind == "rent_energy")).sum() == 1
    assert booked(s.ledger, "a", "throughput_fee") == (0, -10_000)
    assert booked(s.ledger, "ess", "throughput_fee") == (0, 12_500)
    assert booked(s.ledger, "a", "handover") == (0, 30_000)
    assert booked(s.ledger, "ess", "handover") == (0, -30_000)
    assert booked(s.ledger, "dso", "firm_service") == (0, -10_000)
    assert booked(s.ledger, "dso", "losses") == (100_000, -20_000)
    assert booked(s.ledger, "agg", "aggregator_fee") == (0, 300_000)


def test_the_bill_of_a_tenant_by_hand():
    """Quantities with their units, mean prices, amounts to pay; the sum of all bills is zero."""
    b = bills(settle(storage_day()).ledger)
    line = {
        name: (quantity, unit, price, amount)
        for agent, name, quantity, unit, price, amount in zip(
            b.agent_id, b.line, b.quantity, b.unit, b.price_eur, b.amount_eur, strict=True
        )
        if agent == "a"
    }

    assert line["rent_energy"] == (2.0, "kWh", 0.05, 0.10)
    assert line["rent_power"] == (4.0, "kW", 0.03, 0.12)
    assert line["retail_fixed"] == (1.0, "day", 0.30, 0.30)
    assert line["handover"] == (-0.25, "kWh", 0.12, -0.03)
    assert line["aggregator_fee"] == (1.0, "day", 0.15, 0.15)
    assert line["rented_flow"] == (-1.0, "kWh", 0.0, 0.0)
    assert b.amount_micro_eur.sum() == 0
    assert set(b.columns()) == {"agent_id", "period", "line", "quantity", "unit", "price_eur", "amount_eur", "rule"}
    assert set(b.period) == {"2016-07-18T10:00Z"}


def test_a_line_with_both_directions_has_no_price():
    """Who bought and sold on the exchange in one day has a quantity and an amount, but no one price."""
    s = settle(
        delivery(
            [[4.0, -4.0], [-4.0, 4.0]],
            day_ahead_kw=np.array([[-4.0, 2.0], [4.0, -2.0]]),
            day_ahead_price_eur_per_kwh=np.array([0.10, 0.20]),
        )
    )
    b = bills(s.ledger)
    mine = (b.agent_id == "home_0") & (b.line == "exchange_day_ahead")

    assert b.quantity[mine].tolist() == [0.5]
    assert b.amount_micro_eur[mine].tolist() == [0]
    assert np.isnan(b.price_eur[mine]).all()


def test_a_split_that_does_not_come_out_goes_to_the_largest_remainder_then_by_name():
    """Three mWh from z, one each to c, b, a, at half a euro a kWh: 1.5 − .5 − .5 − .5 µ€ becomes 1, −0, −0, −1 by name."""
    unit_kw = 4e-6
    s = settle(
        delivery(
            np.array([[-3.0], [1.0], [1.0], [1.0]]) * unit_kw,
            agent_id=("z", "c", "b", "a"),
            day_ahead_kw=np.array([[3.0], [-1.0], [-1.0], [-1.0]]) * unit_kw,
            day_ahead_price_eur_per_kwh=np.array([0.5]),
            tariff=flat_tariff(fixed=0.0),
        )
    )
    paid = [booked(s.ledger, name, "exchange_day_ahead")[1] for name in "abcz"]

    assert paid == [0, 0, -1, 1]


def test_two_tariffs_are_two_transactions_and_one_price_suits_both():
    """The receiver with the cheaper retailer and the giver with the better feed-in bound the price of what is shared."""
    times = quarter_hours(1)
    dear, cheap = flat_tariff("dear", energy=0.30, feed_in=0.05), flat_tariff("cheap", feed_in=0.09)
    one = delivery([[4.0], [4.0], [-2.0], [-2.0]])
    two = replace(
        one,
        tariff_id=("dear", "cheap"),
        prices=tuple(tariff.price(times, BERLIN, {}) for tariff in (dear, cheap)),
        tariff=np.array([0, 1, 0, 1]),
        fixed_eur_per_day=np.zeros(2),
    )
    s = settle(two)

    np.testing.assert_allclose(s.price_eur_per_kwh, [(0.09 + 0.156) / 2])
    counter = (s.ledger.account == "retailer") & (s.ledger.kind == "retail_energy")
    assert s.ledger.rule[counter].tolist() == ["dear", "cheap"]


def test_sharing_can_be_left_where_it_helps_nobody():
    """With retail less local charge below the feed-in price, sharing costs both; told so, the day leaves it to the retailer."""
    worthless = flat_tariff(energy=-0.04)
    shared = settle(delivery([[4.0], [-2.0]], tariff=worthless))
    left = settle(delivery([[4.0], [-2.0]], tariff=worthless, sharing=Sharing(only_if_worthwhile=True)))
    kept = settle(delivery([[4.0], [-2.0]], sharing=Sharing(only_if_worthwhile=True)))

    assert shared.received.any()
    assert not left.received.any()
    assert kept.received.any()
    assert sum(booked(left.ledger, f"home_{i}")[1] for i in (0, 1)) > sum(
        booked(shared.ledger, f"home_{i}")[1] for i in (0, 1)
    )


def test_only_members_share():
    """Differences of agents outside go to the retailer."""
    s = settle(delivery([[4.0], [-2.0], [-2.0]], shares=np.array([True, False, True])))

    assert s.given.ravel().tolist() == [0, 0, 500_000]
    assert s.grid_sell.ravel().tolist() == [0, 500_000, 0]


# -- laws --------------------------------------------------------------------------------------------------------------


@st.composite
def deliveries(draw):
    """Return any delivery of up to six homes, one or two storages and two tariffs."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    homes, m, steps = draw(st.integers(1, 6)), draw(st.integers(0, 2)), draw(st.integers(1, 4))
    n = homes + m
    scale = draw(st.sampled_from([1e-5, 1.0, 1e4]))

    def position():
        x = np.round(rng.normal(0, scale, (n, steps)), draw(st.integers(0, 6)))
        x[-1] -= x.sum(axis=0)
        return x

    def prices(low, high):
        return rng.uniform(low, high, steps)

    def flow():
        return np.maximum(rng.normal(0, scale, (m, n, steps)), 0.0)

    times = quarter_hours(steps)
    rates = np.round(rng.uniform(-0.1, 0.4, (2, 5)), 3)
    tariffs = [
        Tariff(f"tariff_{k}", *rates[k, :3], vat_fraction=0.19, feed_in=rates[k, 3], fixed_eur_per_day=0.1 * k)
        for k in range(2)
    ]
    names = [str(name) for name in rng.permutation([f"é{i}" for i in range(n)])]
    rights = int(rng.integers(0, 4)) if m else 0
    who, which = rng.integers(0, homes, rights), rng.integers(0, max(m, 1), rights)
    return Delivery(
        agent_id=tuple(names),
        times=times,
        dt_h=0.25,
        meter_kw=rng.normal(0, scale, (n, steps)) * (rng.random((n, steps)) < 0.9),
        tariff_id=tuple(tariff.tariff_id for tariff in tariffs),
        prices=tuple(tariff.price(times, BERLIN, {}) for tariff in tariffs),
        tariff=rng.integers(0, 2, n),
        fixed_eur_per_day=np.array([0.0, 0.1]),
        day_ahead_kw=position() if rng.random() < 0.8 else None,
        day_ahead_price_eur_per_kwh=prices(-0.1, 0.3),
        intraday_kw=position() if rng.random() < 0.8 else None,
        intraday_price_eur_per_kwh=prices(-0.1, 0.3),
        sharing=Sharing(
            draw(st.sampled_from(["alloc.prorata", "alloc.equal", "alloc.static", "alloc.none"])),
            draw(st.sampled_from(["price.mmr", "price.sdr"])),
            np.full(n, 1.0 / n),
            draw(st.booleans()),
        ),
        shares=rng.random(n) < 0.8 if rng.random() < 0.5 else None,
        ess_row=tuple(range(homes, n)),
        rented_charge_kw=flow(),
        rented_discharge_kw=flow(),
        throughput_fee_eur_per_kwh=rng.uniform(0, 0.02, m),
        rents=Rents(
            tuple(f"right_{i}" for i in range(rights)), who, which, rng.uniform(0, 5, rights), rng.uniform(0, 5, rights),
            rng.uniform(0, 0.1, rights), rng.uniform(0, 0.1, rights),
        ),
        handovers=Handovers(
            tuple(f"right_{i}" for i in range(rights)), who, which, rng.integers(0, steps, rights),
            rng.normal(0, 1, rights), rng.uniform(0, 0.2, rights),
        ),
        firm_charge_kw=np.maximum(rng.normal(0, scale, (m, steps)), 0.0),
        firm_price_eur_per_kwh=0.02,
        loss_kwh=rng.uniform(0, scale, steps),
        loss_price_eur_per_kwh=prices(-0.1, 0.3),
        aggregator_id=tuple(str(rng.choice(["", "agg_1", "agg_2"])) for _ in range(n)),
        aggregator_fee_eur_per_day=np.round(rng.uniform(0, 0.2, n), 2) if rng.random() < 0.5 else 0.15,
    )  # fmt: skip


@given(deliveries())
@settings(max_examples=150, deadline=None)
def test_every_transaction_sums_to_zero(d):
    """In money and in energy, counted here without the module's own check; also the quantities billed."""
    ledger = settle(d).ledger
    sums = defaultdict(lambda: np.zeros(3, dtype=int))
    for row in zip(
        ledger.transaction_id, ledger.energy_milliwatt_hour, ledger.amount_micro_eur, ledger.quantity_micro, strict=True
    ):
        sums[row[0]] += row[1:]

    assert all((total[:2] == 0).all() for total in sums.values())
    assert ((ledger.energy_milliwatt_hour != 0) | (ledger.amount_micro_eur != 0)).all()


@given(deliveries())
@settings(max_examples=100, deadline=None)
def test_the_books_hold_what_the_meters_saw(d):
    """Per agent and interval, to the milli-watt-hour; the retailer delivers the meters and the losses."""
    s = settle(d)
    ledger = s.ledger

    for i, agent in enumerate(d.agent_id):
        for t, time in enumerate(d.times):
            rows = (ledger.account == agent) & (ledger.time == time)
            assert ledger.energy_milliwatt_hour[rows].sum() == round(d.meter_kw[i, t] * 0.25 * 1e6)
    lost = np.rint(d.loss_kwh * 1e6).sum()
    assert booked(ledger, "retailer")[0] == -(s.meter.sum() + lost) == -s.conservation["source_milliwatt_hour"]
    moved = set(ledger.kind[ledger.energy_milliwatt_hour != 0])
    assert moved <= METERED_KINDS


@given(deliveries())
@settings(max_examples=100, deadline=None)
def test_settled_positions_keep_one_balance_for_everyone(d):
    """Grid − exchange + rented = meter for every row, storages too; exchange and rented flows sum to zero."""
    s = settle(d)

    balance = s.grid_buy - s.grid_sell - s.settled + s.rented_discharge - s.rented_charge
    assert (balance == whole(d.meter_kw, d.dt_h)).all()
    assert (np.minimum(s.grid_buy, s.grid_sell) == 0).all()
    for position in (s.day_ahead, s.intraday, s.settled):
        assert (position.sum(axis=0) == 0).all()
    assert (s.rented_charge.sum(axis=0) == s.rented_discharge.sum(axis=0)).all()
    assert np.abs(s.kw("meter") - d.meter_kw).max() <= 0.5 / 0.25e6 + 1e-12 * np.abs(d.meter_kw).max()


def recount(d, s):
    """Return the money of every account and kind [µ€ per account, kind], counted posting by posting in plain Python."""
    money = defaultdict(int)

    def pay(payer, payee, kind, energy, price):
        amount = round(float(energy) * float(price))
        money[payer, kind] -= amount
        money[payee, kind] += amount

    def split(kind, sold, price):
        exact = {name: float(energy) * float(price) for name, energy in sorted(sold.items())}
        amounts = {name: int(np.floor(value)) for name, value in exact.items()}
        ranked = sorted(exact, key=lambda name: (-(exact[name] - amounts[name]), name))
        for name in ranked[: -sum(amounts.values())]:
            amounts[name] += 1
        for name, amount in amounts.items():
            money[name, kind] += amount

    operators = [d.agent_id[row] for row in d.ess_row]
    for t in range(d.steps):
        before = dict.fromkeys(d.agent_id, 0)
        stages = (("day_ahead", d.day_ahead_price_eur_per_kwh), ("intraday", d.intraday_price_eur_per_kwh))
        for stage, price in (*stages, ("settled", s.price_eur_per_kwh)):
            now = dict(zip(d.agent_id, getattr(s, stage)[:, t], strict=True))
            split(f"exchange_{stage}", {name: now[name] - before[name] for name in now}, price[t])
            before = now
        for i, name in enumerate(d.agent_id):
            p = d.prices[d.tariff[i]]
            out = sum(whole(d.rented_discharge_kw[m, i, t], 0.25) for m in range(len(operators)))
            local = 0 if name in operators else max(-s.settled[i, t], 0) + out
            for kind, payee, price, energy in (
                ("retail_energy", "retailer", p.energy, s.grid_buy[i, t]),
                ("retail_network", "dso", p.network, s.grid_buy[i, t]),
                ("retail_levies", "state", p.levies, s.grid_buy[i, t]),
                ("retail_vat", "state", p.vat, s.grid_buy[i, t]),
                ("local_network", "dso", p.local_network, local),
                ("local_levies", "state", p.local_levies, local),
                ("local_vat", "state", p.local_vat, local),
                ("feed_in", "retailer", p.sell, -s.grid_sell[i, t]),
            ):
                pay(name, payee, kind, energy, price[t])
            for m, operator in enumerate(operators):
                through = whole(d.rented_charge_kw[m, i, t], 0.25) + whole(d.rented_discharge_kw[m, i, t], 0.25)
                if name != operator:
                    pay(name, operator, "throughput_fee", through, d.throughput_fee_eur_per_kwh[m])
        for m, operator in enumerate(operators):
            pay("dso", operator, "firm_service", whole(d.firm_charge_kw[m, t], 0.25), d.firm_price_eur_per_kwh)
        pay("dso", "retailer", "losses", np.rint(d.loss_kwh[t] * 1e6), d.loss_price_eur_per_kwh[t])
    for i, name in enumerate(d.agent_id):
        pay(name, "retailer", "retail_fixed", 1e6, d.fixed_eur_per_day[d.tariff[i]])
        if d.aggregator_id[i]:
            fee = np.broadcast_to(d.aggregator_fee_eur_per_day, d.n)[i]
            pay(name, d.aggregator_id[i], "aggregator_fee", 1e6, fee)
    for r in range(len(d.rents.right_id)):
        tenant, operator = d.agent_id[d.rents.agent[r]], operators[d.rents.ess[r]]
        for kind, quantity, price in (
            ("rent_energy", d.rents.energy_kwh, d.rents.rent_energy_eur_per_kwh),
            ("rent_power", d.rents.power_kw, d.rents.rent_power_eur_per_kw),
        ):
            pay(tenant, operator, kind, np.rint(quantity[r] * 1e6), price[r])
        over = d.handovers
        pay(operator, tenant, "handover", np.rint(over.energy_kwh[r] * 1e6), over.price_eur_per_kwh[r])
    return {key: amount for key, amount in money.items() if amount}


@given(deliveries())
@settings(max_examples=60, deadline=None)
def test_an_independent_recount_agrees_to_the_micro_euro(d):
    """From settled positions, prices and rights alone, account by account and kind by kind, with plain loops."""
    s = settle(d)
    money = defaultdict(int)
    for account, kind, amount in zip(s.ledger.account, s.ledger.kind, s.ledger.amount_micro_eur, strict=True):
        money[account, kind] += int(amount)

    assert {key: amount for key, amount in money.items() if amount} == recount(d, s)


@given(deliveries(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_agents_does_not_matter(d, random):
    """Listed in any other order the same agents get the same books, byte for byte."""
    order = list(range(d.n))
    random.shuffle(order)
    where = np.argsort(order)
    arrays = {
        name: None if getattr(d, name) is None else getattr(d, name)[order]
        for name in ("meter_kw", "tariff", "shares", "day_ahead_kw", "intraday_kw")
    }
    fees = np.broadcast_to(d.aggregator_fee_eur_per_day, d.n)
    shuffled = replace(
        d,
        **arrays,
        agent_id=tuple(d.agent_id[i] for i in order),
        aggregator_id=tuple(d.aggregator_id[i] for i in order),
        aggregator_fee_eur_per_day=fees[order],
        rented_charge_kw=d.rented_charge_kw[:, order],
        rented_discharge_kw=d.rented_discharge_kw[:, order],
        ess_row=tuple(int(where[row]) for row in d.ess_row),
        rents=replace(d.rents, agent=where[d.rents.agent]),
        handovers=replace(d.handovers, agent=where[d.handovers.agent]),
    )
    one, other = settle(d), settle(shuffled)

    assert one.ledger.hash.tolist() == other.ledger.hash.tolist()
    assert (one.settled[order] == other.settled).all()


@given(deliveries())
@settings(max_examples=60, deadline=None)
def test_bills_are_the_ledger_summed_up(d):
    """Each line is the sum of its postings with the opposite sign, nothing is missing, quantities agree with energy."""
    ledger = settle(d).ledger
    b = bills(ledger)
    money, energy = defaultdict(int), defaultdict(int)
    for account, kind, rule, amount, mwh in zip(
        ledger.account, ledger.kind, ledger.rule, ledger.amount_micro_eur, ledger.energy_milliwatt_hour, strict=True
    ):
        money[account, kind, rule] -= int(amount)
        energy[account, kind, rule] += int(mwh)

    lines = list(zip(b.agent_id, b.line, b.rule, strict=True))
    assert len(set(lines)) == len(lines)
    assert dict(zip(lines, b.amount_micro_eur.tolist(), strict=True)) == dict(money)
    for line, quantity in zip(lines, b.quantity_micro.tolist(), strict=True):
        assert line[1] not in METERED_KINDS or quantity == energy[line]


@given(deliveries())
@settings(max_examples=100, deadline=None)
def test_sharing_at_a_price_between_the_two_makes_nobody_worse_off(d):
    """Where the middle of the market lies between feed-in and retail less charge, each gets at least what the retailer gives."""
    d = replace(
        d, day_ahead_kw=None, intraday_kw=None, sharing=Sharing(only_if_worthwhile=True), rented_charge_kw=None,
        rented_discharge_kw=None, throughput_fee_eur_per_kwh=None,
    )  # fmt: skip
    alone = replace(d, sharing=Sharing("alloc.none"))
    with_, without = settle(d), settle(alone)

    for agent in d.agent_id:
        rounding = 12 * d.steps  # a micro-euro per posting
        assert booked(with_.ledger, agent)[1] >= booked(without.ledger, agent)[1] - rounding


# -- the chain ---------------------------------------------------------------------------------------------------------


def test_the_chain_is_what_the_docstring_says():
    """sha256 of the previous hash and the posting as json.dumps writes it, names with quotes and accents included."""
    d = replace(storage_day(), agent_id=('a "b"\\\n', "čtyři 🏠", "ess"))
    ledger = settle(d).ledger
    columns = ledger.columns()

    previous = ""
    for i in range(ledger.size):
        posting = {
            "posting_id": columns["posting_id"][i],
            "transaction_id": columns["transaction_id"][i],
            "time": f"{columns['time'][i]}Z",
            "account": columns["account"][i],
            "kind": columns["kind"][i],
            "rule": columns["rule"][i],
            "energy_milliwatt_hour": int(columns["energy_milliwatt_hour"][i]),
            "amount_micro_eur": int(columns["amount_micro_eur"][i]),
        }
        text = json.dumps(posting, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert columns["previous_hash"][i] == previous
        previous = sha256((previous + text).encode("utf-8")).hexdigest()
        assert columns["hash"][i] == previous
    assert ledger.broken_link() is None
    assert columns["posting_id"][0] == "1"
    assert columns["time"].dtype == np.dtype("datetime64[s]")


def test_days_continue_the_chain():
    """Ids and hashes go on over days; the two days together hold as one; a day that does not continue is refused."""
    first = settle(delivery([[4.0], [-2.0]])).ledger
    second_day = delivery([[1.0], [-1.0]])
    second_day = replace(second_day, times=second_day.times + np.timedelta64(1, "D"))
    second = settle(second_day, first.end).ledger
    both = first.append(second)

    assert both.size == first.size + second.size
    assert both.broken_link() is None
    both.check_balance()
    assert (np.diff(both.posting_id) == 1).all()
    with pytest.raises(LedgerError, match="does not continue"):
        second.append(first)
    b = bills(both, starts=np.array([NOON, NOON + np.timedelta64(1, "D")]), labels=["Monday", "Tuesday"])
    assert set(b.period) == {"Monday", "Tuesday"}
    with pytest.raises(BillError, match="before the first period"):
        bills(both, starts=np.array([NOON + np.timedelta64(1, "D")]))


def test_a_day_without_postings_keeps_the_chain_where_it_is():
    """Nothing metered and no fixed charge: empty books, empty bills, and the next day goes on from the day before."""
    begun = settle(delivery([[4.0]])).ledger.end
    quiet = settle(delivery([[0.0], [0.0]], tariff=flat_tariff(fixed=0.0)), begun).ledger

    assert quiet.size == 0
    assert quiet.end == begun
    assert quiet.broken_link() is None
    assert bills(quiet).line.size == 0
    assert set(quiet.columns()) == set(settle(delivery([[4.0]])).ledger.columns())


@pytest.mark.parametrize(
    "column", ["account", "kind", "rule", "energy_milliwatt_hour", "amount_micro_eur", "time", "posting_id"]
)
def test_a_changed_posting_breaks_the_chain(column):
    """One changed field of one posting is found, and exactly there."""
    ledger = settle(storage_day()).ledger
    changed = getattr(ledger, column).copy()
    changed[7] = f"{changed[7]}x" if changed.dtype == object else changed[7] + 1
    tampered = replace(ledger, **{column: changed})

    assert tampered.broken_link() == 7


def test_a_changed_amount_unbalances_its_transaction():
    """One micro-euro or one milli-watt-hour in one posting is told with its transaction."""
    ledger = settle(storage_day()).ledger
    ledger.check_balance()
    for column in ("energy_milliwatt_hour", "amount_micro_eur"):
        changed = getattr(ledger, column).copy()
        changed[7] += 1
        with pytest.raises(
            LedgerError, match=rf"1 transaction\(s\) do not sum to zero; the first is {ledger.transaction_id[7]} "
        ):
            replace(ledger, **{column: changed}).check_balance()


def test_a_balanced_but_wrong_posting_is_caught_by_the_meters(monkeypatch):
    """Books that balance but hold another energy than the meter saw are refused."""
    from market import settlement

    honest = settlement.Postings.pooled

    def generous(self, kind, rule, rows, counter, amount, quantity, *, moves=False):
        honest(self, kind, rule, rows, counter, amount, quantity + (kind == "retail_energy"), moves=moves)

    settle(delivery([[4.0]]))
    monkeypatch.setattr(settlement.Postings, "pooled", generous)
    with pytest.raises(LedgerError, match=r"1000001 milli-watt-hours .* its meter saw 1000000"):
        settle(delivery([[4.0]]))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meter_kw": np.array([[np.nan], [0.0]])}, r"meter_kw holds nan at \[0, 0\]"),
        ({"meter_kw": np.zeros((2, 2))}, r"meter_kw has shape \(2, 2\)"),
        ({"agent_id": ("a", "a")}, "occur twice"),
        ({"agent_id": ("a", "dso")}, "accounts dso occur twice"),
        ({"day_ahead_kw": np.zeros((2, 1))}, "given without day_ahead_price"),
        (
            {"day_ahead_kw": np.ones((2, 1)), "day_ahead_price_eur_per_kwh": np.zeros(1)},
            "day_ahead_kw sums to 2 kW at 2016-07-18T10:00:00Z",
        ),
        ({"tariff": np.array([0, 1])}, r"tariff holds an index outside 0 \.\. 0"),
        ({"ess_row": (5,)}, "ess_row holds an index"),
        ({"ess_row": (1, 1)}, "names an agent twice"),
        ({"loss_kwh": np.array([-1.0]), "loss_price_eur_per_kwh": np.zeros(1)}, "must not be negative"),
        ({"dt_h": 0.0}, "dt_h is 0"),
        ({"firm_price_eur_per_kwh": float("nan")}, "firm_price_eur_per_kwh holds nan"),
        ({"rents": Rents(("r",))}, "must have one entry for each of the 1 right"),
        ({"prices": ()}, "prices must hold one Prices"),
        ({"sharing": Sharing("alloc.best")}, "alloc.best"),
    ],
)
def test_what_cannot_be_settled_is_told(change, message):
    """NaN, wrong shapes, unbalanced positions, unknown rules, doubled accounts: a sentence each."""
    good = delivery([[1.0], [-1.0]])
    settle(good)

    with pytest.raises(ValueError, match=message):
        settle(replace(good, **change))


def test_all_mistakes_of_a_delivery_are_told_at_once():
    """Three wrong arrays, three sentences."""
    with pytest.raises(SettlementError) as caught:
        delivery([[np.nan]], loss_kwh=np.array([np.inf]), loss_price_eur_per_kwh=np.array([np.nan]))

    assert str(caught.value).count("finite") == 3


def test_an_unknown_kind_of_posting_is_refused():
    """The kinds are a list; the bill's order and units depend on it."""
    from market.ledger import Postings

    one = np.array([1])
    with pytest.raises(LedgerError, match="'tip' are not known"):
        Postings(("a",), quarter_hours(1)).add("tip", "", one, one, one, one, one)
    assert list(KINDS)[:3] == ["exchange_day_ahead", "exchange_intraday", "exchange_settled"]
    assert Chain().posting_id == 1


def test_the_example_of_the_docs_is_what_settlement_says():
    """The worked example's first posting and its hash stand in docs/mathematics/settlement.md as they are computed."""
    page = (Path(__file__).parents[1] / "docs" / "mathematics" / "settlement.md").read_text(encoding="utf-8")
    ledger = settle(delivery([[4.0], [-2.0]])).ledger
    alone = settle(delivery([[4.0], [-2.0]], sharing=Sharing("alloc.none"))).ledger
    fixed = 300_000

    assert next(ledger.texts()) in page
    assert ledger.hash[0] in page
    assert booked(ledger, "home_0")[1] + fixed == -221_000
    assert booked(alone, "home_0")[1] + fixed == -240_000
    assert booked(ledger, "home_1")[1] - booked(alone, "home_1")[1] == 19_000
