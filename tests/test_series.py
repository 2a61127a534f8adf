"""Series: drawn ones are the same day for day, read ones are what the file says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.profile_store import ProfileError
from sim.resolve import resolve
from sim.scenario import ScenarioError, load
from sim.scenario_money import SyntheticPrice, TableSeries
from sim.series import LEVEL_WEIGHTS, one_series, synthetic_emission_factor, synthetic_price

ZONE = "Europe/Berlin"
DAY = 96


def quarters(start: str, days: int) -> np.ndarray:
    """Starts of quarter-hours, UTC."""
    return np.datetime64(start, "s") + np.arange(days * DAY) * np.timedelta64(900, "s")


WEEK = quarters("2016-07-17T22:00", 7)
YEAR = quarters("2015-12-31T23:00", 366)


# -- drawn -------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**62), first=st.integers(0, 300), days=st.integers(1, 6))
def test_a_day_is_the_same_in_every_run_that_contains_it(seed, first, days):
    """A longer run begins with the days of a shorter one, and a later one shares its days."""
    times = quarters("2016-01-01T00:00", 8) + np.timedelta64(first, "D")
    whole = synthetic_price(times, seed, ZONE)

    assert (synthetic_price(times[: days * DAY], seed, ZONE) == whole[: days * DAY]).all()
    assert (synthetic_price(times[days * DAY :], seed, ZONE) == whole[days * DAY :]).all()
    assert (synthetic_price(times[::4], seed, ZONE) == whole[::4]).all()


def test_another_seed_is_another_weather():
    """The seed decides, and nothing else."""
    assert not np.allclose(synthetic_price(WEEK, 1, ZONE), synthetic_price(WEEK, 2, ZONE))


def test_a_price_is_the_same_for_a_whole_clock_hour():
    """As on a day-ahead market with hourly products."""
    price = synthetic_price(WEEK, 0, ZONE).reshape(-1, 4)

    assert (price == price[:, :1]).all()
    assert len(np.unique(price)) > 100


def test_the_year_has_the_mean_that_was_asked_for():
    """0.08 in the mean of a year, within 5 %, whatever the seed; and 0.38 kg."""
    prices = [synthetic_price(YEAR, seed, ZONE).mean() for seed in range(6)]
    factors = [synthetic_emission_factor(YEAR, seed, ZONE).mean() for seed in range(6)]

    assert np.mean(prices) == pytest.approx(0.08, rel=0.02)
    assert np.allclose(prices, 0.08, rtol=0.05)
    assert np.mean(factors) == pytest.approx(0.38, rel=0.02)


def test_a_summer_day_dips_at_noon_and_peaks_in_the_evening():
    """The shape by which storage earns: cheapest about 13 h, dearest about 20 h, local time."""
    summer = quarters("2016-05-31T22:00", 91)
    price = (
        np.mean([synthetic_price(summer, seed, ZONE) for seed in range(4)], axis=0).reshape(-1, 24, 4).mean(axis=(0, 2))
    )

    assert price.argmin() in {12, 13, 14}
    assert price.argmax() in {19, 20, 21}
    assert price.max() > 2.5 * price.min()


def test_weekends_are_cheaper_and_some_hours_are_negative():
    """Sunday under Wednesday in the mean; below zero on bright summer days only, rarely."""
    price = np.concatenate([synthetic_price(YEAR, seed, ZONE) for seed in range(4)]).reshape(4, 366, DAY)
    weekday = (np.arange(366) + 4) % 7  # 1 January 2016 was a Friday
    negative = (price < 0).mean(axis=(0, 2))

    assert price[:, weekday == 6].mean() < price[:, weekday == 2].mean()
    assert 0 < negative.mean() < 0.05
    assert negative[:60].sum() == 0
    assert negative[120:240].sum() > 0


def test_no_swing_is_a_flat_series():
    """And twice the mean is twice the series."""
    assert (synthetic_price(WEEK, 0, ZONE, 0.1, 0.0) == 0.1).all()
    assert np.allclose(synthetic_price(WEEK, 0, ZONE, 0.16), 2 * synthetic_price(WEEK, 0, ZONE, 0.08))


def test_emissions_are_never_negative_and_see_the_weather_of_the_price():
    """Bright hours are cheap and clean."""
    price, factor = synthetic_price(YEAR, 3, ZONE), synthetic_emission_factor(YEAR, 3, ZONE, swing=3.0)

    assert factor.min() > 0
    assert np.corrcoef(price, factor)[0, 1] > 0.6


def test_shapes_follow_the_local_clock():
    """The evening peak before and after clocks go back stands at the same local hour, not at the same hour of UTC."""

    def peak_utc(start: str) -> int:
        days = quarters(start, 14)
        prices = [synthetic_price(days, seed, ZONE) for seed in range(20)]
        return int(np.mean(prices, axis=0).reshape(14, 24, 4).mean(axis=(0, 2)).argmax())

    assert peak_utc("2016-10-16T00:00") == 16
    assert peak_utc("2016-10-31T00:00") == 17


def test_days_do_not_depend_on_each_other_more_than_intended():
    """The weights of the daily shocks sum to one in squares, so the level has the size that is stated."""
    assert (LEVEL_WEIGHTS**2).sum() == pytest.approx(1.0, abs=1e-12)


# -- read --------------------------------------------------------------------------------------------------------------


def table_series(tmp_path, text: str, unit: str = "eur_per_kwh", interval: int = 15, column: str = "spot"):
    (tmp_path / "prices.csv").write_text(text, encoding="utf-8")
    spec = TableSeries.model_validate({"from": "table", "file": "prices.csv", "column": column, "unit": unit})
    return one_series("spot", spec, 0, ZONE, interval, lambda name: tmp_path / name)


HOURLY = "time,spot\n2016-07-18T00:00+02:00,4\n2016-07-18T01:00+02:00,8\n2016-07-18T02:00+02:00,-2\n"


def test_an_hourly_price_holds_for_its_quarters(tmp_path):
    """And is converted from cents."""
    series = table_series(tmp_path, HOURLY, "ct_per_kwh")

    assert series.unit == "eur/kWh"
    assert np.allclose(series.at(quarters("2016-07-17T22:00", 1)[:12]), np.repeat([0.04, 0.08, -0.02], 4))


def test_a_finer_price_is_averaged(tmp_path):
    """An interval of two hours gets the mean of its hours."""
    series = table_series(tmp_path, HOURLY, "eur_per_mwh", interval=120)

    assert np.allclose(series.at(np.array(["2016-07-17T22:00:00"], dtype="datetime64[s]")), [0.006])


def test_a_price_table_does_not_begin_again(tmp_path):
    """A year of loads may wrap; a price that is not there is a mistake."""
    series = table_series(tmp_path, HOURLY)

    with pytest.raises(ProfileError, match="needs 2016-07-17T22:00"):
        series.at(quarters("2016-07-17T22:00", 1))


def test_grams_become_kilograms(tmp_path):
    """Emission factors come in g/kWh as a rule."""
    series = table_series(tmp_path, HOURLY.replace("spot", "co2"), "g_per_kwh", column="co2")

    assert series.unit == "kg/kWh"
    assert series.at(quarters("2016-07-17T22:00", 1)[:1])[0] == pytest.approx(0.004)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("time,spot\n2016-07-18T00:00Z,4\n2016-07-18T01:00Z,x\n2016-07-18T02:00Z,4\n", "prices.csv:3:spot"),
        (
            "time,spot\n2016-07-18T00:00Z,4\n2016-07-18T01:00Z,4\n2016-07-18T03:00Z,4\n2016-07-18T04:00Z,4\n",
            "prices.csv:4:time",
        ),
        ("time,spot\n", "prices.csv"),
    ],
)
def test_a_bad_price_table_is_told_with_line_and_column(tmp_path, text, words):
    """And with the place in the scenario that names it."""
    (tmp_path / "prices.csv").write_text(text, encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        'time: {start: "2016-07-18T02:00"}\nseries:\n  spot: {from: table, file: prices.csv, column: spot}\n',
        encoding="utf-8",
    )
    with pytest.raises(ScenarioError, match=r"a\.yaml:3:9: ") as caught:
        resolve(load(tmp_path / "a.yaml"))

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "series", "expected"),
    [
        (
            "time,spott\n2016-07-18T00:00Z,4\n2016-07-18T01:00Z,4\n",
            "{from: table, file: prices.csv, column: spot}",
            "a.yaml:3:49: prices.csv has no column 'spot'; did you mean spott?",
        ),
        (
            "time,value\n2016-07-18T00:00Z,4\n2016-07-18T01:00Z,1e300\n",
            "{from: table, file: prices.csv, unit: ct_per_kwh}",
            (
                "a.yaml:3:9: prices.csv:3:value: given 1e+300 ct_per_kwh; that is far beyond any price, and at most 1e+06 ct_per_kwh is "
                "read. Check the figure and the unit."
            ),
        ),
    ],
)
def test_a_series_is_told_by_its_column_and_its_unit(tmp_path, text, series, expected):
    """Not as a profile of a home, and not where the series begins when one key of it is wrong."""
    (tmp_path / "prices.csv").write_text(text, encoding="utf-8")
    (tmp_path / "a.yaml").write_text(
        f'time: {{start: "2016-07-18T02:00"}}\nseries:\n  spot: {series}\n', encoding="utf-8"
    )
    with pytest.raises(ScenarioError) as caught:
        resolve(load(tmp_path / "a.yaml"))

    assert [mistake.replace(f"{tmp_path}/", "") for mistake in caught.value.mistakes] == [expected]


def test_where_figures_come_from_is_said(tmp_path):
    """A file with its hash, a drawn series with its function."""
    read = table_series(tmp_path, HOURLY)
    drawn = one_series(
        "spot", SyntheticPrice.model_validate({"from": "synthetic_price"}), 0, ZONE, 15, lambda name: tmp_path / name
    )

    assert "sha256" in read.provenance
    assert "synthetic_price" in drawn.provenance
    assert read.provenance != table_series(tmp_path, HOURLY.replace("-2", "-3")).provenance
