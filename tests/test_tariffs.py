"""Tariffs: components by hand, the local clock over both changes of time, and what is refused."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.tariffs import Dynamic, Period, Tariff, TariffError, TimeOfUse

BERLIN = "Europe/Berlin"
DEMO = Tariff(
    tariff_id="dynamic",
    energy=Dynamic("spot", 0.025),
    network=0.1095,
    levies=0.064,
    vat_fraction=0.19,
    feed_in=0.0786,
    fixed_eur_per_day=0.3,
    local_network_share=0.5,
    local_levies_share=1.0,
)


def quarter_hours(first: str, last: str):
    """Return the starts of the quarter-hours in [first, last), given in UTC."""
    return np.arange(np.datetime64(first, "s"), np.datetime64(last, "s"), np.timedelta64(15, "m"))


def test_the_demo_tariff_by_hand():
    """(spot + .025 + .1095 + .064) 1.19 for a kWh bought, .0786 for one sold, (.5 .1095 + .064) 1.19 = .1413 for a local one."""
    times = quarter_hours("2016-07-18T10:00", "2016-07-18T10:30")
    spot = np.array([0.08, -0.02])

    prices = DEMO.price(times, BERLIN, {"spot": spot})

    np.testing.assert_allclose(prices.buy, (spot + 0.1985) * 1.19, rtol=1e-14)
    np.testing.assert_allclose(prices.sell, 0.0786)
    np.testing.assert_allclose(prices.local_charge, 0.1413125, rtol=1e-14)
    np.testing.assert_allclose(prices.vat, 0.19 * (spot + 0.1985), rtol=1e-14)
    assert DEMO.series == ("spot",)


def test_the_sums_are_the_sums_of_their_parts():
    """Buy is energy + network + levies + VAT and the local charge is the sum of its three parts, bit for bit."""
    times = quarter_hours("2016-07-18T10:00", "2016-07-19T10:00")
    prices = DEMO.price(times, BERLIN, {"spot": np.linspace(-0.1, 0.3, 96)})

    assert (prices.buy == prices.energy + prices.network + prices.levies + prices.vat).all()
    assert (prices.local_charge == prices.local_network + prices.local_levies + prices.local_vat).all()


def test_a_window_is_a_part_of_the_horizon():
    """The prices of a window are those of its intervals."""
    times = quarter_hours("2016-07-18T10:00", "2016-07-19T10:00")
    prices = DEMO.price(times, BERLIN, {"spot": np.arange(96.0)})

    np.testing.assert_array_equal(prices.window(3, 7).energy, np.arange(3.0, 7.0) + 0.025)


NIGHT = TimeOfUse((Period("00:00", "06:00", 1.0), Period("06:00", "22:00", 2.0), Period("22:00", "24:00", 1.0)))


@pytest.mark.parametrize(
    ("first", "last", "quarters", "night"),
    [
        ("2016-03-26T23:00", "2016-03-27T22:00", 92, 28),  # clocks go forward: 02:00-03:00 does not happen
        ("2016-07-17T22:00", "2016-07-18T22:00", 96, 32),
        ("2016-10-29T22:00", "2016-10-30T23:00", 100, 36),  # clocks go back: 02:00-03:00 happens twice
    ],
)
def test_days_of_92_96_and_100_quarter_hours(first, last, quarters, night):
    """The night tariff of 8 hours by the clock lasts 7 or 9 hours when the clocks change."""
    prices = Tariff("night", energy=NIGHT).price(quarter_hours(first, last), BERLIN, {})

    assert prices.energy.size == quarters
    assert (prices.energy == 1.0).sum() == night


def test_a_period_may_pass_midnight():
    """22:00 to 06:00 in one period is the same as its two halves."""
    passing = TimeOfUse((Period("06:00", "22:00", 2.0), Period("22:00", "06:00", 1.0)))
    times = quarter_hours("2016-03-25T23:00", "2016-03-29T22:00")

    np.testing.assert_array_equal(
        Tariff("a", energy=passing).price(times, BERLIN, {}).energy,
        Tariff("b", energy=NIGHT).price(times, BERLIN, {}).energy,
    )


def test_weekends_and_holidays_by_the_local_calendar():
    """Friday 22:00 UTC is Saturday in Berlin; a holiday counts as weekend."""
    rate = TimeOfUse(
        (Period("00:00", "24:00", 1.0, "weekday"), Period("00:00", "24:00", 9.0, "weekend")), (date(2016, 7, 20),)
    )
    times = np.array(
        ["2016-07-15T21:45", "2016-07-15T22:00", "2016-07-17T21:45", "2016-07-17T22:00", "2016-07-20T10:00"],
        dtype="datetime64[s]",
    )

    assert Tariff("a", energy=rate).price(times, BERLIN, {}).energy.tolist() == [1.0, 9.0, 9.0, 1.0, 9.0]


@given(st.integers(1, 23), st.integers(0, 59), st.integers(0, 10**9))
@settings(deadline=None)
def test_every_moment_has_the_price_of_its_clock(hour, minute, seconds):
    """Two periods parted anywhere: a moment's price is that of the side of the cut its local clock is on."""
    cut = f"{hour:02d}:{minute:02d}"
    rate = TimeOfUse((Period("00:00", cut, 1.0), Period(cut, "24:00", 2.0)))
    time = np.datetime64("2000-01-01T00:00:00", "s") + np.timedelta64(seconds, "s")
    local = time + np.timedelta64(1, "h")  # Lagos has had no summer time

    since_midnight = (local - local.astype("datetime64[D]")) / np.timedelta64(1, "m")

    price = Tariff("a", energy=rate).price(np.array([time]), "Africa/Lagos", {}).energy[0]
    assert price == (1.0 if since_midnight < 60 * hour + minute else 2.0)


@pytest.mark.parametrize(
    ("periods", "message"),
    [
        ((Period("00:00", "12:00", 1.0),), "no period covers 12:00 on a weekday"),
        ((Period("00:00", "24:00", 1.0, "weekday"),), "no period covers 00:00 on a weekend"),
        ((Period("00:00", "13:00", 1.0), Period("12:00", "24:00", 2.0)), "overlaps another period at 12:00"),
        ((Period("12:00", "24:00", 1.0), Period("00:00", "12:00", 2.0)), "listed after a later one"),
        ((Period("00:00", "24:00", float("nan")),), "has the price nan"),
        ((Period("0", "24:00", 1.0),), "not a span of the clock"),
        ((Period("00:00", "24:01", 1.0),), "not a span of the clock"),
        ((Period("00:60", "24:00", 1.0),), "not a span of the clock"),
        ((Period("06:00", "06:00", 1.0),), "not a span of the clock"),
        ((Period("00:00", "24:00", 1.0, "sunday"),), "days must be all, weekday or weekend"),
    ],
)
def test_periods_that_do_not_fill_the_day_once_are_refused(periods, message):
    """A gap, an overlap, a wrong order, a wrong clock or NaN is told in a sentence."""
    with pytest.raises(TariffError, match=message):
        Tariff("a", energy=TimeOfUse(periods))


def test_all_mistakes_are_told_at_once():
    """A tariff with five mistakes names five."""
    with pytest.raises(TariffError) as caught:
        Tariff(
            "a",
            energy=Dynamic(""),
            network=float("inf"),
            vat_fraction=-0.1,
            fixed_eur_per_day=float("nan"),
            local_network_share=1.5,
        )

    for part in (
        "name of the series",
        "network: the price is inf",
        "vat_fraction",
        "fixed_eur_per_day is nan",
        "at most 1",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ({}, "is not given. Given are: none"),
        ({"spot": np.zeros(3)}, "Give one value for each"),
        ({"spot": np.array([0.0, np.nan])}, "is nan at 2016-07-18T10:15:00Z"),
    ],
)
def test_a_series_must_be_there_complete_and_finite(series, message):
    """NaN never becomes a price."""
    with pytest.raises(TariffError, match=message):
        DEMO.price(quarter_hours("2016-07-18T10:00", "2016-07-18T10:30"), BERLIN, series)


def test_an_unknown_time_zone_is_told():
    """A typing mistake in the zone is a sentence, not a traceback from a library."""
    with pytest.raises(TariffError, match="Europe/Berlim"):
        Tariff("a", energy=NIGHT).price(quarter_hours("2016-07-18T10:00", "2016-07-18T10:30"), "Europe/Berlim", {})
