"""Every sentence of a report: what it says of numbers a reader can check in the head, and what it must never say."""

from __future__ import annotations

import dataclasses
import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim import sentences as say
from sim.report_tables import Clock

NAN = math.nan
WEEK = Clock(1_468_836_000, 900, 672, "Europe/Berlin")
DAY = Clock(1_468_836_000, 3600, 24, "Europe/Berlin")

GOOD = say.Outcome(
    members=118, bills=294.63, reference_bills=575.35, winners=87, losers=30, worst_loss=12.01, traded_kwh=2423.0, outside=0,
    reference_outside=0, unmanaged_outside=42, failed=0, clearings=168, unconverged=0, unbalanced=0, held_back_percent=5.5, same_reference=True,
)  # fmt: skip


def words(sentence):
    """The sentence with ordinary spaces and hyphens for minus signs."""
    return say.plain(sentence).replace("\u00a0", " ").replace("\u202f", " ").replace("−", "-")


def but(**changes):
    return dataclasses.replace(GOOD, **changes)


def roles(sentence):
    return [span.role for span in sentence if span.role]


def test_the_headline_says_gain_grid_and_losers():
    """575.35 to 294.63 is 49 % less; 30 of 118 lose, and that is marked as bad news."""
    found = say.headline(GOOD, WEEK, "eur")

    assert words(found) == (
        "Sharing cut the members’ bills by 49 % and kept the feeder inside its limits all week. 30 of 118 members pay more."
    )
    assert roles(found) == ["up", "bad"]


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"unbalanced": 3}, "The books do not balance: 3 transactions do not sum to zero."),
        ({"failed": 2}, "The power flow has no result in 2 quarter-hours."),
        ({"failed": 1}, "The power flow has no result in 1 quarter-hour."),
        ({"unconverged": 4}, "4 of 168 market sessions did not converge."),
        ({"unconverged": 1, "clearings": 1}, "1 of 1 market session did not converge."),
    ],
)
def test_what_failed_stands_before_any_gain(changes, begins):
    """Books, power flow and market come first, marked as bad."""
    found = say.headline(but(**changes), WEEK, "eur")

    assert words(found).startswith(begins)
    assert found[0].role == "bad"


def test_a_broken_limit_is_in_the_headline():
    """The feeder left its limits: the sentence does not say that it was kept inside them."""
    found = words(say.headline(but(outside=5), WEEK, "eur"))

    assert "but the feeder left its limits in 5 quarter-hours." in found
    assert "kept" not in found


@pytest.mark.parametrize(
    ("now", "before", "says"),
    [
        (10.0, 0.0, "Sharing cost the members 10.00 € and"),
        (-50.0, -20.0, "Sharing saved the members 30.00 € and"),
        (-20.0, -50.0, "Sharing cost the members 30.00 € and"),
        (-10.0, 100.0, "Sharing saved the members 110.00 € and"),
        (120.0, 100.0, "Sharing raised the members’ bills by 20 % and"),
        (2500.0, 5000.0, "Sharing cut the members’ bills by 50 % and"),
        (100.001, 100.0, "Sharing left the members’ bills as they were; the feeder"),
    ],
)
def test_a_percentage_stands_only_where_it_means_something(now, before, says):
    """Of a reference of zero, of a credit, or beyond all of the bill, the headline gives the amount."""
    assert words(say.headline(but(bills=now, reference_bills=before), WEEK, "eur")).startswith(says)


def test_nothing_traded_is_said_plainly():
    """No gain and no trade: no word of sharing."""
    found = words(say.headline(but(bills=5.0, reference_bills=5.0, traded_kwh=0.0, losers=0, winners=0), WEEK, "eur"))

    assert found == "Nothing was traded; the feeder stayed inside its limits all week."


def test_one_member_is_spoken_of_in_the_singular():
    """A community of one has a bill, not bills."""
    one = but(members=1, winners=1, losers=0, bills=8.0, reference_bills=10.0)

    assert words(say.headline(one, WEEK, "eur")).startswith("Sharing cut the member’s bill by 20 %")
    assert "the member paid 8.00 € instead of 10.00 €" in words(say.lede(one, WEEK, "eur"))
    assert words(say.people_answer(one, None, 0.0, "eur")) == "The only member saves 2.00 €."
    assert (
        words(say.people_answer(but(members=1, bills=12.0, reference_bills=10.0), None, 0.0, "eur"))
        == "The only member pays 2.00 € more."
    )


ANY_COUNT = st.integers(0, 2000)


@st.composite
def outcomes(draw, failures=ANY_COUNT):
    """Any outcome at all."""
    count = ANY_COUNT
    amount = st.floats(-1e5, 1e5) | st.just(NAN)
    members = draw(st.integers(1, 1000))
    winners = draw(st.integers(0, members))
    maybe = count | st.none()
    return say.Outcome(
        members=members, bills=draw(amount), reference_bills=draw(amount), winners=winners, losers=draw(st.integers(0, members - winners)),
        worst_loss=draw(st.floats(0, 100)), traded_kwh=draw(st.floats(0, 1e4)), outside=draw(maybe), reference_outside=draw(maybe),
        unmanaged_outside=draw(maybe), failed=draw(failures), clearings=2000, unconverged=draw(failures), unbalanced=draw(failures),
        held_back_percent=draw(st.floats(0, 100)), same_reference=draw(st.booleans()),
    )  # fmt: skip


@given(outcomes())
def test_no_outcome_makes_a_sentence_of_nonsense(outcome):
    """Whatever came out: no nan, no inf, no minus zero, no doubled space or stop; it ends with a stop."""
    for clock in (WEEK, DAY):
        for sentence in (
            say.headline(outcome, clock, "eur"),
            say.lede(outcome, clock, "eur"),
            say.people_answer(outcome, None, -1.0, "eur"),
        ):
            text = words(sentence)
            assert not re.search(r"nan|inf\b|None|-0\.00|-0 |  |\.\.|,,| ,| \.", text), text
            assert text == "" or text.rstrip().endswith("."), text


@given(outcomes(failures=st.just(0)))
def test_a_headline_without_failures_has_at_most_thirty_words(outcome):
    """The gain, the grid and the losers fit into thirty words."""
    assert len(words(say.headline(outcome, WEEK, "eur")).split()) <= 30


def test_the_lede_gives_the_reference_in_money_and_intervals():
    """Both bills, the breaches without envelopes, and what the envelopes took."""
    found = words(say.lede(GOOD, WEEK, "eur"))

    assert found == (
        "Against the same week on the retail tariff alone, 118 members together paid 294.63 € instead of 575.35 €. "
        "The feeder left its limits in 42 quarter-hours without envelopes, in none with sharing; the envelopes curtailed 5.5 % of the solar energy."
    )


@pytest.mark.parametrize(
    ("now", "before", "says"),
    [
        (-5.0, -3.0, "received 5.00 € instead of 3.00 €"),
        (-5.0, 3.0, "received 5.00 € instead of paying 3.00 €"),
        (5.0, -3.0, "paid 5.00 € instead of receiving 3.00 €"),
        (4.0, 4.0, "paid the same 4.00 €"),
    ],
)
def test_a_credit_is_received_not_paid(now, before, says):
    """Bills below zero are told as what they are."""
    assert says in words(say.lede(but(bills=now, reference_bills=before), WEEK, "eur"))


def test_without_envelopes_the_lede_compares_with_the_reference():
    """No unmanaged world: breaches are compared with the reference, and nothing is said of curtailment."""
    found = words(
        say.lede(but(unmanaged_outside=None, reference_outside=7, held_back_percent=0.0, outside=3), WEEK, "eur")
    )

    assert "in 7 quarter-hours without sharing, in 3 with sharing." in found
    assert "envelopes" not in found


def test_ticks_put_the_failed_one_first():
    """Four ticks; an unconverged market is the first and not passed."""
    good, bad = say.ticks(GOOD, WEEK), say.ticks(but(unconverged=3), WEEK)

    assert [tick[:2] for tick in good] == [(True, "Grid"), (True, "Market"), (True, "Books"), (True, "Reference")]
    assert good[0][2] == "672 of 672 AC checks passed"
    assert bad[0] == (False, "Market", "165 of 168 sessions converged")
    assert say.ticks(but(same_reference=False), WEEK)[0][1] == "Reference"
    assert say.ticks(but(failed=2), WEEK)[0] == (False, "Grid", "no power flow in 2 quarter-hours")


def test_where_the_energy_came_from():
    """The two largest gains are named in order; neither sun nor trade leaves the retailer alone."""
    gains = {"own solar": 0.0, "own battery": 0.0, "neighbours": 2423.0, "shared storage": 410.0}

    assert words(say.energy_answer(72.0, 18.0, gains, 10_800.0, 2423.0)) == (
        "72 % of demand was met inside the community, against 18 % without sharing. "
        "Most of the gain came from neighbours (2 423 kWh more), then from shared storage (410 kWh more)."
    )
    assert (
        words(say.energy_answer(0.0, 0.0, {}, 0.0, 0.0))
        == "There is no solar power and nothing was traded: the retailer delivered everything."
    )
    assert words(say.energy_answer(NAN, NAN, {}, 100.0, 5.0)) == "There was no demand to meet."
    assert "Nothing was traded." in words(say.energy_answer(33.0, 33.0, {}, 100.0, 0.0))


def test_what_local_energy_cost():
    """Volume, mean price, the cheapest and the dearest hour, and who kept the margin."""
    found = words(say.price_answer(2423.0, 0.0912, (12, 0.08), (22, 0.124), 94.0, "eur"))

    assert found == (
        "2 423 kWh changed hands at 9.1 ct/kWh on average. It is cheapest around 12:00 (8.0 ct/kWh) and dearest around 22:00 (12.4 ct/kWh). "
        "Buyers kept 94 % of the margin between feed-in and the retail price less local charges."
    )
    assert (
        words(say.price_answer(0.0, NAN, None, None, NAN, "eur")) == "Nothing was traded, so local energy has no price."
    )


def test_who_loses_is_counted_by_group():
    """22 of 30 losers in one group; all of them; both of two; a single one has its loss instead."""
    assert "22 of those 30 belong to the group “solar only”" in words(
        say.people_answer(GOOD, ("Solar only", 22), 0.0, "eur")
    )
    assert "all of those belong" in words(say.people_answer(GOOD, ("Solar only", 30), 0.0, "eur"))
    assert "both belong" in words(say.people_answer(but(losers=2), ("Solar only", 2), 0.0, "eur"))
    assert (
        words(say.people_answer(but(losers=1), ("Solar only", 1), 0.0, "eur"))
        == "87 members save, 1 pays more; the largest loss is 12.01 €."
    )
    assert words(say.people_answer(but(losers=0, winners=0), None, 0.0, "eur")) == "Nobody saves, nobody pays more."


def test_where_the_gain_comes_from_is_claimed_only_when_true():
    """The public purse gives most of the gain when it loses more than half of it, not otherwise."""
    assert "that is where most" in words(say.people_answer(GOOD, None, -200.0, "eur"))
    assert "that is where most" not in words(say.people_answer(GOOD, None, -100.0, "eur"))
    assert "grow by 3.00 €" in words(say.people_answer(GOOD, None, 3.0, "eur"))


def test_market_against_plain_sharing():
    """The market may be better, equal, or worse for the members than sharing after the fact."""
    assert (
        words(say.three_ways(50.0, 80.0, 100.0, "eur"))
        == "The market saves 50.00 €, against 20.00 € when the same meters are only shared after the fact."
    )
    assert "as much as" in words(say.three_ways(50.0, 50.0, 100.0, "eur"))
    worse = words(say.three_ways(80.0, 50.0, 100.0, "eur"))
    assert worse.startswith("The market saves 20.00 €, but 50.00 €")
    assert "costs the members money" in worse


def test_the_operator_keeps_or_loses():
    """Rent 60 against wear 38 covers it; rent 20 does not; a margin below zero is a loss."""
    covered = words(say.storage_answer(37.28, 2.7, 73.0, 30, {"Storage rent, space": 60.0, "Wear": -38.24}, "eur"))
    lost = words(say.storage_answer(-18.24, 2.7, 73.0, 1, {"Storage rent, space": 20.0, "Wear": -38.24}, "eur"))

    assert covered == (
        "The operator keeps 37.28 € before capital, from 2.7 full cycles and 73 % of the space rented to 30 tenants. "
        "Rent and fees of 60.00 € cover the wear of 38.24 €."
    )
    assert lost.startswith("The operator loses 18.24 €")
    assert "1 tenant." in lost
    assert "do not cover" in lost


def test_whether_the_grid_held():
    """Yes in every interval; no in so many; not proven where the power flow failed."""
    rest = (1.025, 0.961, (0.96, 1.03), 71.0, 58.0)

    assert words(say.grid_answer(GOOD, WEEK, *rest)) == (
        "Yes, in every quarter-hour. Highest voltage +2.5 % (limit +3.0 %), lowest -3.9 % (limit -4.0 %); heaviest line 71 %, transformer 58 %. "
        "Quarter-hours outside a limit: 0 in this run, 0 in the reference, 42 without envelopes."
    )
    broken = words(say.grid_answer(GOOD, WEEK, *rest, ("the transformer reached 116 %", "the voltage reached +10.2 %")))
    assert broken.endswith("42 without envelopes; there the transformer reached 116 % and the voltage reached +10.2 %.")
    assert words(say.grid_answer(but(outside=3), WEEK, *rest)).startswith(
        "No: a limit was broken in 3 of 672 quarter-hours."
    )
    assert words(say.grid_answer(but(failed=1), WEEK, *rest)).startswith(
        "Not proven: the power flow has no result in 1 of 672 quarter-hours."
    )


def test_what_the_envelopes_took():
    """Many, one of many, the only one, none, and nobody with solar power."""
    assert words(say.envelope_answer(12, 51, 31.0, 588.0, 38, WEEK)) == (
        "12 of 51 solar homes were held back, at worst by 31 % of their energy, 588 kWh in all. "
        "Without envelopes the feeder would have left its limits in 38 quarter-hours."
    )
    assert (
        words(say.envelope_answer(1, 51, 2.0, 5.0, None, WEEK))
        == "1 of 51 solar homes was held back, by 2.0 % of its energy."
    )
    assert words(say.envelope_answer(1, 1, 2.0, 5.0, 0, WEEK)).startswith("The only solar home was held back")
    assert (
        words(say.envelope_answer(0, 51, 0.0, 0.0, 0, WEEK))
        == "None of 51 solar homes was held back. Without envelopes the feeder would have stayed inside its limits."
    )
    assert (
        words(say.envelope_answer(0, 0, 0.0, 0.0, None, WEEK))
        == "No member has solar power, so no export was held back."
    )


def test_how_the_market_converged():
    """All, some, one, none."""
    assert words(say.convergence(168, 0, 34.0, 61, 0.123, "eur")) == (
        "Every clearing converged, in 34 iterations (median; most 61), and costs at most 0.12 € more than the best possible."
    )
    assert words(say.convergence(168, 3, 34.0, 4000, 0.05, "eur")).startswith("3 of 168 clearings did not converge")
    assert words(say.convergence(1, 0, 10.0, 10, NAN, "eur")) == "The only clearing converged, in 10 iterations."
    assert words(say.convergence(0, 0, NAN, 0, NAN, "eur")) == "There was no market to clear."


@pytest.mark.parametrize(
    ("clock", "this", "all_of"),
    [
        (Clock(0, 900, 96, "UTC"), "this day", "all day"),
        (Clock(0, 900, 672, "UTC"), "this week", "all week"),
        (Clock(0, 900, 192, "UTC"), "these 2 days", "throughout the 2 days"),
        (Clock(0, 3600, 8760, "UTC"), "this year", "all year"),
        (Clock(0, 3600, 1, "UTC"), "this hour", "in this hour"),
        (Clock(0, 3600, 30, "UTC"), "these 30 hours", "throughout the 30 hours"),
    ],
)
def test_a_run_is_called_by_its_length(clock, this, all_of):
    """Day, week, year, or so many days or hours."""
    assert (clock.this, clock.all_of) == (this, all_of)


def test_local_days_have_92_96_or_100_quarter_hours():
    """In October a local day has 100 quarter-hours, in March 92; the labels follow the clock on the wall."""
    october = Clock(1_477_692_000, 900, 4 * 72, "Europe/Berlin")  # 2016-10-29 00:00 in Berlin
    march = Clock(1_458_946_800, 900, 4 * 72, "Europe/Berlin")  # 2016-03-26 00:00 in Berlin

    assert [b - a for a, b in pairwise(october.days())][:2] == [96, 100]
    assert [b - a for a, b in pairwise(march.days())][:2] == [96, 92]
    assert [minutes for _, minutes in october.offsets()] == [120, 60]
    assert october.moment(96 + 8) == "Sun 30 October, 02:00"
    assert october.moment(96 + 12) == "Sun 30 October, 02:00"
    assert march.moment(96 + 8) == "Sun 27 March, 03:00"
