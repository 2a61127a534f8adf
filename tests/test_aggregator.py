"""The aggregator passes bills through: one invoice per member and day, the fee on top, nothing lost in between."""

from __future__ import annotations

import numpy as np
import pytest

from agents.aggregator import AggregatorError, invoices, kept_micro_eur
from market.bills import bills
from market.ledger import Chain
from market.settlement import Delivery, settle
from market.tariffs import Tariff

NOON = np.datetime64("2016-07-18T10:00:00", "s")
MEMBERS = {"a": "agg_2", "b": "agg_1", "c": "agg_1", "d": ""}


def two_days():
    """Return the bills of four homes, three with an aggregator, over two days."""
    tariff = Tariff("t", 0.1, 0.06, 0.04, 0.2, 0.08, 0.3)
    chain, ledgers = Chain(), []
    for day in range(2):
        times = NOON + np.timedelta64(day, "D") + np.arange(4) * np.timedelta64(15, "m")
        meter_kw = np.array([[4.0], [-2.0], [1.0], [-1.0]]) * np.array([1.0, -1.0, 0.5, 2.0])
        delivery = Delivery(
            tuple(MEMBERS), times, 0.25, meter_kw, ("t",), (tariff.price(times, "UTC", {}),), np.zeros(4, int),
            np.array([0.3]), aggregator_id=tuple(MEMBERS.values()), aggregator_fee_eur_per_day=0.15,
        )  # fmt: skip
        ledgers.append(settle(delivery, chain).ledger)
        chain = ledgers[-1].end
    return bills(ledgers[0].append(ledgers[1]), NOON + np.arange(2) * np.timedelta64(1, "D"), ["Monday", "Tuesday"])


def test_one_invoice_for_each_member_and_day():
    """Ordered by aggregator, member, day; who has no aggregator gets none."""
    written = [(i.aggregator_id, i.agent_id, i.period) for i in invoices(two_days(), MEMBERS)]

    assert written == [
        ("agg_1", "b", "Monday"), ("agg_1", "b", "Tuesday"), ("agg_1", "c", "Monday"), ("agg_1", "c", "Tuesday"),
        ("agg_2", "a", "Monday"), ("agg_2", "a", "Tuesday"),
    ]  # fmt: skip


def test_an_invoice_is_the_bill_and_the_fee():
    """Its total is the sum of the member's bill to the micro-euro, the fee of 15 cents among it."""
    b = two_days()
    for invoice in invoices(b, MEMBERS):
        mine = (b.agent_id == invoice.agent_id) & (b.period == invoice.period)

        assert invoice.total_micro_eur == b.amount_micro_eur[mine].sum()
        assert invoice.fee_micro_eur == 150_000
        assert invoice.passed_through_micro_eur == invoice.total_micro_eur - 150_000
        assert len(invoice.lines) == mine.sum()
        assert invoice.total_eur == invoice.total_micro_eur / 1e6


def test_the_aggregator_keeps_its_fees_and_nothing_else():
    """Two members on two days at 15 cents; what was collected and passed on differ by just that."""
    b = two_days()
    of_one = [i for i in invoices(b, MEMBERS) if i.aggregator_id == "agg_1"]

    collected, passed_on = (
        sum(getattr(i, name) for i in of_one) for name in ("total_micro_eur", "passed_through_micro_eur")
    )
    assert kept_micro_eur(b, "agg_1") == collected - passed_on == 600_000
    assert kept_micro_eur(b, "agg_2") == 300_000


def test_a_line_tells_quantity_unit_and_price():
    """The fixed charge: one day at 30 cents."""
    line = {line.line: line for line in invoices(two_days(), MEMBERS)[0].lines}["retail_fixed"]

    assert (line.quantity, line.unit, line.price_eur, line.amount_micro_eur) == (1.0, "day", 0.3, 300_000)


def test_a_fee_without_an_aggregator_is_told():
    """Who is billed a fee must have somebody to pay it to."""
    with pytest.raises(AggregatorError, match=r"^a pay"):
        invoices(two_days(), MEMBERS | {"a": ""})
