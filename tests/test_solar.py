"""PV without data: plausible, reproducible, and right about where the sun is."""

from __future__ import annotations

import numpy as np
import pytest

from sim.profiles import ProfileError, pvlib_profile
from sim.solar import cloudiness

YEAR = np.arange("2024-01-01T00:00", "2025-01-01T00:00", 60, dtype="datetime64[m]")
JUNE = np.arange("2024-06-20T00:00", "2024-06-23T00:00", 15, dtype="datetime64[m]")
PLACE = (49.0, 9.0, 30.0, 180.0)


def _values(*place, times=YEAR, seed=1, **more):
    store = pvlib_profile(*place, times, seed, **more)
    return store.values([0])[0]


def test_a_year_in_southern_germany_yields_what_such_plants_yield():
    """850 to 1050 kWh per kW peak, most of it in summer, never above the peak power, none at night."""
    power = _values(*PLACE)
    assert 850 < power.sum() < 1050
    by_month = [power[YEAR.astype("datetime64[M]") == month].sum() for month in np.unique(YEAR.astype("datetime64[M]"))]
    assert min(by_month[4:8]) > 2 * max(by_month[11], by_month[0])
    assert power.min() == 0.0
    assert 0.6 < power.max() < 1.0
    midnight = YEAR.astype("datetime64[h]").astype(int) % 24 == 0
    assert (power[midnight] == 0).all()


def test_equal_seeds_give_equal_clouds_and_others_do_not():
    """To the last bit."""
    one, again, other = (_values(*PLACE, times=JUNE, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_panels_that_look_east_have_their_day_earlier():
    """The middle of the day: east before south before west, and south at the sun's noon (11:26 UTC at 9 degrees east)."""
    hour = (np.arange(len(JUNE)) % 96 + 0.5) / 4
    east, south, west = (
        (power := _values(49, 9, 45, azimuth, times=JUNE)) @ hour / power.sum() for azimuth in (90, 180, 270)
    )
    assert east < south < west
    clear = _weather_like_clear_sky()
    assert clear @ hour / clear.sum() == pytest.approx(11.43, abs=0.1)


def _weather_like_clear_sky():
    import sim.solar as module

    original = module.cloudiness
    module.cloudiness = lambda steps, step_h, seed: np.ones(steps)
    try:
        return _values(*PLACE, times=JUNE)
    finally:
        module.cloudiness = original


def test_summer_is_in_january_in_the_south():
    """Sydney, looking north."""
    power = _values(-33.9, 151.2, 30, 0)
    month = YEAR.astype("datetime64[M]").astype(int) % 12
    assert power[month == 0].sum() > 1.3 * power[month == 6].sum()


def test_clouds_have_the_spread_and_memory_that_the_equations_say():
    """Between 0.15 and 1.05, 0.69 on average; neighbours alike, days apart not."""
    share = cloudiness(200_000, 0.25, 7)
    assert share.min() >= 0.15
    assert share.max() <= 1.05
    assert share.mean() == pytest.approx(1.05 - 0.9 / 2.5, abs=0.02)

    def alike(steps):
        return np.corrcoef(share[:-steps], share[steps:])[0, 1]

    assert alike(1) > 0.9
    assert 0.4 < alike(24) < 0.85
    assert abs(alike(4 * 24 * 20)) < 0.1


def test_weather_is_taken_as_it_is(tmp_path):
    """With a table: no cloud is drawn, double irradiance gives about double power, warm air gives less."""

    def table(ghi, temp=None):
        columns = "time,ghi" + ("" if temp is None else ",temp")
        rows = [f"{time}Z,{ghi}" + ("" if temp is None else f",{temp}") for time in np.datetime_as_string(JUNE)]
        path = tmp_path / "weather.csv"
        path.write_text("\n".join([columns, *rows]))
        return path

    dim = _values(*PLACE, times=JUNE, weather=table(200, 15), seed=1)
    same = _values(*PLACE, times=JUNE, weather=table(200, 15), seed=2)
    bright = _values(*PLACE, times=JUNE, weather=table(400, 15))
    warm = _values(*PLACE, times=JUNE, weather=table(400, 35))
    plain = _values(*PLACE, times=JUNE, weather=table(400))
    noon = 46
    assert np.array_equal(dim, same)
    assert bright[noon] == pytest.approx(2 * dim[noon], rel=0.15)
    assert warm[noon] == pytest.approx(bright[noon] * 0.92, rel=0.02)
    assert warm[noon] < plain[noon]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("time,sun\n2024-06-20T00:00Z,1\n2024-06-20T01:00Z,1\n", "the column ghi"),
        ("time,ghi\n2024-06-20T00:00Z,1\n2024-06-20T01:00Z,1\n", "does not cover the time"),
        ("time,ghi\n2024-06-20 00:00,1\n2024-06-20 01:00,1\n", "no offset"),
        ("time,ghi\n2024-06-20T00:00Z,1\n2024-06-21T12:00Z,-2\n2024-06-23T00:00Z,1\n", "ghi is negative"),
    ],
)
def test_weather_that_does_not_serve_is_refused(tmp_path, text, sentence):
    """Without irradiance, for another time, in an unknown zone, below zero."""
    (tmp_path / "weather.csv").write_text(text)
    with pytest.raises(ProfileError, match=sentence):
        pvlib_profile(*PLACE, JUNE, 1, weather=tmp_path / "weather.csv")


@pytest.mark.parametrize(
    ("place", "times", "sentence"),
    [
        ((91, 9, 30, 180), JUNE, "latitude"),
        ((49, 190, 30, 180), JUNE, "longitude"),
        ((49, 9, -1, 180), JUNE, "tilt"),
        ((49, 9, 30, 400), JUNE, "azimuth"),
        ((float("nan"), 9, 30, 180), JUNE, "latitude"),
        (PLACE, JUNE[:1], "equally long"),
        (PLACE, JUNE[[0, 1, 3]], "equally long"),
        (PLACE, JUNE[::-1], "equally long"),
    ],
)
def test_places_and_times_that_are_none_are_refused(place, times, sentence):
    """Off the globe, or no grid of times."""
    with pytest.raises(ProfileError, match=sentence):
        pvlib_profile(*place, times, 1)
