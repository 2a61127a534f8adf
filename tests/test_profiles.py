"""Profiles: windows out of a year, SimBench's year in UTC, and its cache."""

from __future__ import annotations

import doctest
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sim.profiles_simbench as module
from sim.profiles import ArrayProfiles, ProfileError, Profiles, simbench_profiles

CODE = "1-LV-rural3--2-no_sw"
START = np.datetime64("2024-01-01T00:00:00")


def _minutes(count):
    return np.timedelta64(count, "m")


@pytest.fixture
def day():
    """Two profiles of 96 quarter-hours: 0, 1, 2, ... and a constant 5."""
    return ArrayProfiles("day", ("ramp", "flat"), START, 15, [np.arange(96.0), np.full(96, 5.0)])


@pytest.fixture(scope="module")
def year():
    return simbench_profiles(CODE)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_window_is_the_stored_piece(day):
    """From 01:00, four quarter-hours."""
    assert day.window(day.index(["ramp"]), START + _minutes(60), 4).tolist() == [[4, 5, 6, 7]]


def test_names_may_come_in_any_order_and_more_than_once(day):
    """Each row is the profile it was asked for; the empty name is 1."""
    index = day.index(["flat", "ramp", "", "flat"])
    assert day.window(index, START, 2).tolist() == [[5, 5], [0, 1], [1, 1], [5, 5]]
    assert day.index([]).shape == (0,)
    assert day.window(day.index([]), START, 2).shape == (0, 2)


def test_longer_intervals_are_means_and_shorter_ones_repeat(day):
    """An hour is the mean of four quarters; five minutes are what their quarter is; 10 minutes cut across."""
    index = day.index(["ramp"])
    assert day.window(index, START, 2, interval_minutes=60).tolist() == [[1.5, 5.5]]
    assert day.window(index, START, 4, interval_minutes=5).tolist() == [[0, 0, 0, 1]]
    assert day.window(index, START, 3, interval_minutes=10).tolist() == [[0, 0.5, 1]]


def test_a_window_may_begin_between_two_steps(day):
    """From 00:05, 15 minutes are ten of the first quarter and five of the second."""
    assert day.window(day.index(["ramp"]), START + _minutes(5), 1)[0] == pytest.approx([1 / 3])


def test_shift_makes_rows_late(day):
    """A row that is late by two steps shows at 01:00 what the profile says for 00:30."""
    index = day.index(["ramp", "ramp", "ramp"])
    assert day.window(index, START + _minutes(60), 1, [0, 2, -2]).tolist() == [[4], [2], [6]]
    assert day.window(index, START + _minutes(60), 1, 2).tolist() == [[2], [2], [2]]


def test_the_year_wraps_at_both_ends(day):
    """Behind the end it begins again, before the beginning it ends."""
    index = day.index(["ramp"])
    assert day.window(index, START + _minutes(95 * 15), 3).tolist() == [[95, 0, 1]]
    assert day.window(index, START - _minutes(15), 2).tolist() == [[95, 0]]
    assert day.window(index, START + _minutes(10 * 96 * 15), 1).tolist() == [[0]]


@pytest.mark.parametrize(
    ("minutes", "steps", "interval", "wraps"),
    [
        (0, 96, None, False),
        (0, 97, None, True),
        (-15, 1, None, True),
        (15, 96, None, True),
        (0, 24, 60, False),
        (60, 24, 60, True),
    ],
)
def test_wrapping_is_told(day, minutes, steps, interval, wraps):
    """A window that leaves the data by a single step says so; the whole of it does not."""
    assert day.wraps(START + _minutes(minutes), steps, interval) is wraps


@given(
    step=st.sampled_from([5, 15, 60]),
    length=st.integers(1, 50),
    start=st.integers(-10_000, 10_000),
    interval=st.sampled_from([1, 5, 10, 15, 20, 60, 90, 1440]),
    steps=st.integers(1, 20),
    shift=st.integers(-60, 60),
    seed=st.integers(0, 99),
)
def test_a_window_is_the_mean_minute_by_minute(step, length, start, interval, steps, shift, seed):
    """A law: whatever step, start, interval and shift, a value is the mean of the profile over its minutes."""
    values = np.random.default_rng(seed).random(length)
    store = ArrayProfiles("any", ("p",), START, step, [values])
    window = store.window([0], START + _minutes(start), steps, shift, interval)
    minute = start - shift * step + np.arange(steps * interval)
    assert window[0] == pytest.approx(values[minute // step % length].reshape(steps, interval).mean(axis=1), abs=1e-12)


@given(st.lists(st.integers(-500, 500), min_size=1, max_size=5), st.integers(1, 10))
def test_rows_do_not_depend_on_one_another(shifts, steps):
    """A law: a row is the same alone and among others."""
    store = ArrayProfiles("day", ("ramp",), START, 15, [np.arange(96.0)])
    together = store.window([0] * len(shifts), START, steps, shifts, 60)
    alone = np.concatenate([store.window([0], START, steps, [shift], 60) for shift in shifts])
    assert np.array_equal(together, alone)


def test_an_unknown_name_is_told_with_the_nearest(year):
    """All unknown names at once, each with what may have been meant."""
    with pytest.raises(ProfileError) as caught:
        year.index(["H0-A_pload", "H0-A", "PV9"])
    assert len(caught.value.mistakes) == 2
    assert "Did you mean" in caught.value.mistakes[0]
    assert "H0-A_pload" in caught.value.mistakes[0]
    assert "PV1" in caught.value.mistakes[1] or "PV8" in caught.value.mistakes[1]


@pytest.mark.parametrize(
    ("names", "values", "step", "sentence"),
    [
        (("a", "a"), np.ones((2, 3)), 15, "occurs 2 times"),
        (("a", ""), np.ones((2, 3)), 15, "empty name"),
        (("a",), np.ones((2, 3)), 15, "an array of so many rows"),
        (("a",), np.ones((1, 0)), 15, "an array of so many rows"),
        (("a",), np.ones((1, 3)), 0, "a step of at least a minute"),
        (("a",), [[1.0, np.nan]], 15, "no finite number"),
        (("a",), [[1.0, np.inf]], 15, "no finite number"),
    ],
)
def test_figures_that_are_no_profiles_are_refused(names, values, step, sentence):
    """NaN never passes, nor do names that cannot be told apart."""
    with pytest.raises(ProfileError, match=sentence):
        ArrayProfiles("bad", names, START, step, values)


@pytest.mark.parametrize(
    ("start", "steps", "interval"), [(np.datetime64("NaT"), 1, 15), (START, -1, 15), (START, 1, 0)]
)
def test_windows_that_are_none_are_refused(day, start, steps, interval):
    """No time, a negative count, an interval of nothing."""
    with pytest.raises(ProfileError, match="no window"):
        day.window([0], start, steps, 0, interval)


# --- several stores ---------------------------------------------------------------------------------------------------


def test_stores_combine_each_on_its_own_grid(day):
    """Hours and quarter-hours side by side; a shift is counted in the shorter step."""
    hours = ArrayProfiles("hours", ("slow",), START, 60, [np.arange(24.0) * 10])
    both = Profiles.combine(day, hours)
    assert both.names == ("ramp", "flat", "slow")
    assert both.step_minutes == 15
    index = both.index(["slow", "ramp", "", "flat"])
    assert both.window(index, START + _minutes(60), 2, interval_minutes=60).tolist() == [
        [10, 20],
        [5.5, 9.5],
        [1, 1],
        [5, 5],
    ]
    assert both.window(both.index(["slow"]), START + _minutes(60), 1, 4).tolist() == [[0]]
    assert both.values(both.index(["slow"])).shape == (1, 96)


def test_a_combined_store_wraps_where_any_of_its_stores_does(day):
    """The shorter store decides."""
    week = ArrayProfiles("week", ("long",), START, 60, [np.zeros(168)])
    both = Profiles.combine(day, week)
    assert not both.wraps(START, 96)
    assert both.wraps(START, 97)
    assert not week.wraps(START, 97)


def test_one_name_in_two_stores_is_refused(day):
    """Who is meant must be clear."""
    with pytest.raises(ProfileError, match="'ramp' is in day and in other"):
        Profiles.combine(day, ArrayProfiles("other", ("ramp",), START, 15, [[1.0]]))


def test_one_store_alone_stays_itself(day):
    """Nothing to combine."""
    assert Profiles.combine(day) is day
    with pytest.raises(ProfileError, match="no store"):
        Profiles.combine()


# --- SimBench ---------------------------------------------------------------------------------------------------------


def test_simbench_has_a_year_of_quarter_hours_in_utc(year):
    """366 days of 96, from midnight in Berlin on."""
    assert (year.length, year.step_minutes, str(year.start)) == (366 * 96, 15, "2015-12-31T23:00:00")
    assert {"H0-A_pload", "H0-A_qload", "PV1", "Storage_PV3_H0-A", "HLS_A_3.7_pload", "Air_Parallel_1_pload"} <= set(
        year.names
    )


@pytest.fixture(scope="module")
def stamps():
    """Local stamps and H0-A of the file, as text."""
    rows = (line.split(";") for line in (module.data_folder(2) / "LoadProfile.csv").read_text().splitlines())
    place = next(rows).index("H0-A_pload")
    return [(row[0], float(row[place])) for row in rows]


def test_local_stamps_of_the_file_are_where_utc_says(year, stamps):
    """Winter, summer, and both nights of the clock change: the value at a UTC time is that of its local stamp."""
    profile = year.values(year.index(["H0-A_pload"]))[0]
    zone = ZoneInfo("Europe/Berlin")
    first = datetime(2015, 12, 31, 23, tzinfo=UTC)
    times = [datetime(2016, 1, 1, 12, tzinfo=UTC), datetime(2016, 7, 18, 10, tzinfo=UTC)]
    for night in (datetime(2016, 3, 27, tzinfo=UTC), datetime(2016, 10, 30, tzinfo=UTC)):
        times += [night + timedelta(minutes=15 * k) for k in range(12)]
    for time in times:
        step = (time - first) // timedelta(minutes=15)
        local = time.astimezone(zone)
        assert stamps[step][0] == f"{local:%d.%m.%Y %H:%M}"
        assert profile[step] == stamps[step][1]


def test_days_of_the_clock_change_have_92_and_100_quarter_hours(stamps):
    """The file itself: 27 March and 30 October 2016."""
    days = [stamp[:10] for stamp, _ in stamps]
    assert (days.count("27.03.2016"), days.count("30.10.2016"), days.count("01.07.2016")) == (92, 100, 96)


def test_the_sun_does_not_jump_with_the_clock(year):
    """The middle of the sun's day is at the same UTC time two weeks before and after both clock changes."""
    index = year.index([f"PV{k}" for k in range(1, 9)])
    middle = []
    for first in ("2016-03-13", "2016-03-28", "2016-10-16", "2016-10-31"):
        power = year.window(index, np.datetime64(f"{first}T00:00"), 14 * 96).sum(axis=0).reshape(14, 96).sum(axis=0)
        middle.append((np.arange(96) * 0.25 + 0.125) @ power / power.sum())
    assert middle[0] == pytest.approx(middle[1], abs=0.4)
    assert middle[2] == pytest.approx(middle[3], abs=0.4)
    assert np.mean(middle) == pytest.approx(
        10.4, abs=0.3
    )  # the sun itself: 11.3 h at 10 degrees east; SimBench's is early


@pytest.mark.slow
def test_energy_of_rural3_is_that_of_the_converter():
    """Base load, heat pumps and sun of the grid, hour by hour: what SimBench's own get_absolute_values says."""
    from network.sources import read

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import simbench

        net = simbench.get_simbench_net(CODE)
        theirs = simbench.get_absolute_values(net, profiles_instead_of_study_cases=True)
    c, store = read(f"simbench:{CODE}").connections, simbench_profiles(CODE)
    car = net.load.profile.str.match("HLS_|APLS_").to_numpy()
    load = theirs[("load", "p_mw")].to_numpy()[:, ~car].sum(axis=1) * 1e3
    reactive = theirs[("load", "q_mvar")].to_numpy()[:, ~car].sum(axis=1) * 1e3
    sun = theirs[("sgen", "p_mw")].to_numpy().sum(axis=1) * 1e3

    def of(kw, profile):
        return kw @ store.values(store.index(profile))

    assert of(c.base_kw, c.profile) + of(c.heat_pump_kw, c.heat_pump_profile) == pytest.approx(load, abs=1e-6)
    assert of(c.base_kvar, c.reactive_profile) + of(c.heat_pump_kvar, c.heat_pump_reactive_profile) == pytest.approx(
        reactive, abs=1e-6
    )
    plain = np.where(c.battery_kw > 0, 0.0, c.pv_kw_peak)
    assert of(plain, c.pv_profile) == pytest.approx(sun, abs=1e-6)


def test_all_profiles_of_all_scenarios_exist():
    """Every name that a grid's connections use is in the store of its scenario."""
    from network.simbench import read_simbench

    for scenario in (0, 1, 2):
        store = simbench_profiles(f"1-LV-rural1--{scenario}-sw")
        for grid in ("rural1", "rural2", "rural3", "semiurb4", "semiurb5", "urban6"):
            store.index(read_simbench(f"1-LV-{grid}--{scenario}-sw").connections.profiles)


# --- the cache --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_columns():
    """Two columns of the package's tables."""
    return module._read_tables(module.data_folder(2)).select(["H0-A_pload", "PV1"])


@pytest.fixture
def small(monkeypatch, tmp_path, two_columns):
    """A cache of its own, and tables of two columns, so that making it again takes no second; counts how often."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))
    built = []

    def few(folder):
        built.append(folder)
        return two_columns

    monkeypatch.setattr(module, "_read_tables", few)
    return built


def _noon(store):
    return store.window(store.index(["PV1", "H0-A_pload"]), np.datetime64("2016-07-18T10:00"), 4)


def test_tables_are_read_once(small):
    """The second store comes from the cache, with the same bits."""
    first, second = _noon(simbench_profiles(CODE)), _noon(simbench_profiles(CODE))
    assert len(small) == 1
    assert np.array_equal(first, second)
    assert (first > 0).all()


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path):
    path.write_bytes(b"")


def _flip(path):
    """Turn bits in the middle of the data, which the file's end does not notice."""
    data = bytearray(path.read_bytes())
    for place in range(len(data) // 4, len(data) // 4 + 64):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_cut, _empty, _flip])
def test_a_damaged_cache_is_made_again(small, tmp_path, damage):
    """Cut off, emptied, or with flipped bits: the figures are right, and the file is whole afterwards."""
    right = _noon(simbench_profiles(CODE))
    (path,) = (tmp_path / "cache").iterdir()
    damage(path)
    assert np.array_equal(_noon(simbench_profiles(CODE)), right)
    assert len(small) == 2
    assert np.array_equal(_noon(simbench_profiles(CODE)), right)
    assert len(small) == 2


def test_the_version_is_in_the_name_and_nothing_half_is_left(small, tmp_path):
    """One file, named after SimBench's version and the scenario; no temporary one beside it."""
    simbench_profiles(CODE)
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert names == [f"simbench-{module.version()}-profiles-2-v1.parquet"]


def test_without_a_folder_to_write_to_it_works_all_the_same(small, tmp_path, monkeypatch, caplog):
    """A cache that cannot be written costs time and a word in the log."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "file" / "below"))
    assert (_noon(simbench_profiles(CODE)) > 0).all()
    assert "nothing is cached" in caplog.text


def test_stamps_that_are_not_those_of_berlin_are_refused(monkeypatch):
    """Tables of a year without clock change would be read wrongly for half of it: told with line and stamp."""
    first = datetime(2016, 3, 27, tzinfo=UTC)
    plain = [f"{first + timedelta(minutes=15 * k):%d.%m.%Y %H:%M}" for k in range(96)]
    monkeypatch.setattr(module, "_START", np.datetime64("2016-03-26T23:00:00"))
    with pytest.raises(ProfileError, match=r"csv:10:time: expected 27\.03\.2016 03:00 .* found 27\.03\.2016 02:00"):
        module._check_times(Path("LoadProfile.csv"), plain)


def test_profiles_load_without_heavy_packages():
    """sim.profiles and a year of SimBench import neither pandas nor pvlib nor scipy."""
    program = f"""
import sys
from sim.profiles import simbench_profiles
store = simbench_profiles({CODE!r})
store.values(store.index([name for name in store.names if name.startswith(("H0", "G", "PV", "Air", "HLS"))]))
print(sorted({{"pandas", "pandapower", "simbench", "pvlib", "scipy"}} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["feeders.md", "profiles.md"])
def test_examples_of_the_page_give_what_they_say(page):
    """The Python sessions in the docs, run."""
    path = Path(__file__).parent.parent / "docs" / page
    result = doctest.testfile(str(path), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 2
    assert result.failed == 0


def test_rounding_of_simbench_below_nothing_is_nothing(tmp_path, monkeypatch):
    """Charging points have -0.000012 times their nameplate; reactive power and what is really negative stay as they are."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path))
    store = simbench_profiles(CODE)
    lowest = {name: store.lowest(int(store.index([name])[0])) for name in ("HLS_C_3.7_pload", "WP1", "hv_mixed1_pload")}

    assert lowest["HLS_C_3.7_pload"][::2] == (0.0, 0)
    assert lowest["WP1"][::2] == (0.0, 0)
    assert lowest["hv_mixed1_pload"][0] < -0.2
    assert "hv_mixed1_pload at 2016-" in lowest["hv_mixed1_pload"][1]
