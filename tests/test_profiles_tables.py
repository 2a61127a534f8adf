"""Meter data: what is read, and every flaw with its line and time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.profiles import ProfileError, table_profiles

BERLIN = ZoneInfo("Europe/Berlin")


def _write(folder, text, name="meters.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _quarters(first, count, zone=UTC, minutes=15):
    """Stamps of an unbroken grid in UTC, as they read in a zone."""
    return [(first + timedelta(minutes=minutes * k)).astimezone(zone) for k in range(count)]


def _wide(stamps, columns):
    rows = [",".join(["time", *columns])]
    rows += [",".join([stamp, *(str(values[k]) for values in columns.values())]) for k, stamp in enumerate(stamps)]
    return "\n".join(rows) + "\n"


def _iso(stamps):
    return [stamp.isoformat(timespec="minutes") for stamp in stamps]


def _naive(stamps):
    return [f"{stamp:%Y-%m-%d %H:%M}" for stamp in stamps]


def _mistakes(path, *args):
    with pytest.raises(ProfileError) as caught:
        table_profiles(path, *args)
    return caught.value.mistakes


JUNE = datetime(2024, 6, 1, tzinfo=UTC)


# --- read -------------------------------------------------------------------------------------------------------------


def test_a_wide_table_has_a_profile_for_every_column(tmp_path):
    """Names, start, step and figures as written, negative ones too."""
    path = _write(
        tmp_path, _wide(_iso(_quarters(JUNE, 4, BERLIN)), {"home 1": [1, 2, 3, 4], "home 2": [-0.5, 0, 0.5, 1e-3]})
    )
    store = table_profiles(path)
    assert (store.names, store.step_minutes, store.length, str(store.start)) == (
        ("home 1", "home 2"),
        15,
        4,
        "2024-06-01T00:00:00",
    )
    assert store.values([0, 1]).tolist() == [[1, 2, 3, 4], [-0.5, 0, 0.5, 0.001]]


def test_a_long_table_is_the_same_as_a_wide_one(tmp_path):
    """Rows in any order of the meters, in time order for each."""
    stamps = _iso(_quarters(JUNE, 3))
    rows = [f"{stamp};{name};{value}" for k, stamp in enumerate(stamps) for name, value in (("b", k), ("a", 10 * k))]
    store = table_profiles(_write(tmp_path, "time;id;value\n" + "\n".join(rows)))
    assert store.names == ("b", "a")
    assert store.values([0, 1]).tolist() == [[0, 1, 2], [0, 10, 20]]


@pytest.mark.parametrize(
    ("unit", "kw"), [("kw", 2.0), ("w", 0.002), ("mw", 2000.0), ("kwh", 8.0), ("wh", 0.008), ("1", 2.0)]
)
def test_units_become_kilowatt(tmp_path, unit, kw):
    """2 kWh in a quarter of an hour are 8 kW."""
    path = _write(tmp_path, _wide(_iso(_quarters(JUNE, 4)), {"a": [2, 2, 2, 2]}))
    assert table_profiles(path, unit=unit).values([0]) == pytest.approx(np.full((1, 4), kw))


@pytest.mark.parametrize(
    "stamp",
    [
        "%Y-%m-%dT%H:%M+00:00",
        "%Y-%m-%d %H:%MZ",
        "%Y-%m-%dT%H:%M:%S+0000",
        "%Y-%m-%d %H:%M",
        "%d.%m.%Y %H:%M",
        "%d.%m.%Y %H:%M:%S",
    ],
)
def test_stamps_are_understood_in_their_usual_forms(tmp_path, stamp):
    """ISO 8601 with and without offset, and day.month.year."""
    path = _write(tmp_path, _wide([f"{time:{stamp}}" for time in _quarters(JUNE, 3)], {"a": [1, 2, 3]}))
    assert str(table_profiles(path, "UTC").start) == "2024-06-01T00:00:00"


def test_an_offset_in_the_file_wins_over_the_zone(tmp_path):
    """Stamps that say what they are need no zone, and heed none."""
    path = _write(tmp_path, _wide(_iso(_quarters(JUNE, 3, BERLIN)), {"a": [1, 2, 3]}))
    assert table_profiles(path, "America/New_York").start == np.datetime64("2024-06-01T00:00")


# --- clock changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("day", "count"), [((2024, 3, 31), 92), ((2024, 10, 27), 100), ((2024, 7, 1), 96)])
def test_local_days_of_92_96_and_100_quarter_hours_are_unbroken(tmp_path, day, count):
    """Local stamps without offset over a clock change: every one finds its place."""
    first = datetime(*day, tzinfo=BERLIN).astimezone(UTC)
    stamps = _quarters(first, count, BERLIN)
    assert (stamps[0].hour, stamps[-1].hour, {stamp.day for stamp in stamps}) == (0, 23, {day[2]})
    store = table_profiles(_write(tmp_path, _wide(_naive(stamps), {"a": range(count)})), "Europe/Berlin")
    assert (store.length, store.start) == (count, np.datetime64(first.replace(tzinfo=None)))
    assert store.values([0])[0].tolist() == list(range(count))


@settings(max_examples=40, deadline=None)
@given(
    hours=st.integers(-48, 48),
    count=st.integers(2, 300),
    minutes=st.sampled_from([15, 30, 60]),
    change=st.sampled_from([(3, 31), (10, 27)]),
)
def test_local_stamps_come_back_as_utc(tmp_path_factory, hours, count, minutes, change):
    """A law: a grid in UTC, written in local time without offset, is read as the same grid, wherever it begins and ends."""
    first = datetime(2024, *change, tzinfo=UTC) + timedelta(hours=hours)
    stamps = _quarters(first, count, BERLIN, minutes)
    if stamps[0].fold and stamps[0].dst() == timedelta():  # begins in the second of two equal hours: nobody can know
        return
    path = _write(tmp_path_factory.mktemp("m"), _wide(_naive(stamps), {"a": range(count)}))
    store = table_profiles(path, "Europe/Berlin")
    assert (store.start, store.step_minutes, store.length) == (
        np.datetime64(first.replace(tzinfo=None)),
        minutes,
        count,
    )


def test_the_hour_that_spring_leaves_out_does_not_exist(tmp_path):
    """A meter in winter time read as Berlin time: four stamps that do not exist, and how to read it."""
    first = datetime(2024, 3, 31, tzinfo=UTC)
    path = _write(tmp_path, _wide(_naive(_quarters(first, 24)), {"a": range(24)}))
    mistakes = _mistakes(path, "Europe/Berlin")
    assert [mistake.split(": ")[0] for mistake in mistakes[:4]] == [
        f"meters.csv:{line}:time" for line in (10, 11, 12, 13)
    ]
    assert "2024-03-31 02:00 does not exist in Europe/Berlin" in mistakes[0]
    assert "+01:00" in mistakes[0]
    assert str(table_profiles(path, "+01:00").start) == "2024-03-30T23:00:00"


def test_a_missing_autumn_hour_is_a_gap(tmp_path):
    """The hour that occurs twice, written once: an hour is missing."""
    stamps = _naive(_quarters(datetime(2024, 10, 26, 22, tzinfo=UTC), 40, BERLIN))
    once = list(dict.fromkeys(stamps))
    assert len(once) == len(stamps) - 4
    mistakes = _mistakes(_write(tmp_path, _wide(once, {"a": range(len(once))})), "Europe/Berlin")
    assert mistakes == (
        "meters.csv:14:time: 4 intervals are missing between 2024-10-27 02:45 and 2024-10-27 03:00. Fill the gap, or take another period.",
    )


# --- flaws ------------------------------------------------------------------------------------------------------------


def test_a_zone_is_needed_where_the_file_has_none(tmp_path):
    """Said once, with the line where it begins."""
    path = _write(tmp_path, _wide(_naive(_quarters(JUNE, 4)), {"a": range(4)}))
    assert _mistakes(path) == (
        "meters.csv:2:time: the stamps have no offset. Give the time zone, such as Europe/Berlin.",
    )


@pytest.mark.parametrize("zone", ["Europe/Berln", "Berlin", "+1", "", "../etc/passwd"])
def test_a_zone_that_is_none_is_told(tmp_path, zone):
    """With one that may have been meant."""
    path = _write(tmp_path, _wide(_naive(_quarters(JUNE, 4)), {"a": range(4)}))
    (mistake,) = _mistakes(path, zone)
    assert "no time zone" in mistake
    assert "Europe/Berlin" in mistake


def test_stamps_with_and_without_offset_do_not_mix(tmp_path):
    """The line where the kind changes."""
    stamps = _iso(_quarters(JUNE, 2)) + _naive(_quarters(JUNE + timedelta(minutes=30), 2))
    assert any(
        "meters.csv:4:time: here begin stamps without an offset" in one
        for one in _mistakes(_write(tmp_path, _wide(stamps, {"a": range(4)})), "UTC")
    )


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda rows: rows.pop(5),
            "meters.csv:6:time: one interval is missing between 2024-06-01T00:45+00:00 and 2024-06-01T01:15+00:00",
        ),
        (
            lambda rows: rows.insert(5, rows[4]),
            "meters.csv:6:time: 2024-06-01T00:45+00:00 occurs twice, in line 5 too.",
        ),
        (lambda rows: rows.insert(3, rows.pop(6)), "is earlier than line"),
        (
            lambda rows: rows.insert(5, "2024-06-01T00:55+00:00,1,1"),
            "meters.csv:6:time: 10 min after line 5, elsewhere 15 min",
        ),
        (
            lambda rows: rows.insert(5, "2024-06-01T00:50:30+00:00,1,1"),
            "meters.csv:6:time: 2024-06-01T00:50:30+00:00 is no whole minute",
        ),
        (lambda rows: rows.insert(5, "yesterday,1,1"), "meters.csv:6:time: expected a time such as"),
        (lambda rows: rows.insert(5, ",1,1"), "meters.csv:6:time: expected a time such as"),
        (
            lambda rows: rows.__setitem__(5, rows[5].rsplit(",", 1)[0] + ","),
            "meters.csv:6:b: there is no number at 2024-06-01T01:00+00:00.",
        ),
        (
            lambda rows: rows.__setitem__(5, rows[5].rsplit(",", 1)[0] + ",nan"),
            "meters.csv:6:b: there is no number at 2024-06-01T01:00+00:00.",
        ),
        (
            lambda rows: rows.__setitem__(5, rows[5].rsplit(",", 1)[0] + ",inf"),
            "meters.csv:6:b: there is no number at 2024-06-01T01:00+00:00.",
        ),
        (
            lambda rows: rows.__setitem__(5, rows[5].rsplit(",", 1)[0] + ",off"),
            "meters.csv:6:b: expected a number, given 'off'.",
        ),
        (lambda rows: rows.__setitem__(5, rows[5].rsplit(",", 1)[0] + ',"1,5"'), "Write a decimal point"),
        (lambda rows: rows.__setitem__(5, rows[5] + ",1"), "meters.csv:6: the row has 4 cells, the header 3."),
        (
            lambda rows: rows.__setitem__(0, "Time,a,b"),
            "meters.csv:1:time: the column time is missing. Rename 'Time' to time.",
        ),
        (lambda rows: rows.__setitem__(0, "time,a,a"), "meters.csv:1:a: the column stands there twice."),
        (lambda rows: rows.__setitem__(0, "time,a,"), "meters.csv:1: column 3 has no name."),
        (lambda rows: rows.__delitem__(slice(2, None)), "two are needed at least"),
        (lambda rows: rows.__delitem__(slice(1, None)), "two are needed at least"),
        (lambda rows: rows.clear(), "the file is empty"),
    ],
)
def test_a_flaw_is_told_with_line_and_time(tmp_path, spoil, sentence):
    """One flaw in twenty rows, found."""
    rows = _wide(_iso(_quarters(JUNE, 20)), {"a": range(20), "b": range(20)}).splitlines()
    table_profiles(_write(tmp_path, "\n".join(rows)))  # without the flaw it is read
    spoil(rows)
    mistakes = _mistakes(_write(tmp_path, "\n".join(rows)))
    assert any(sentence in mistake for mistake in mistakes), mistakes


@pytest.mark.parametrize("cell", ["1_000", "1_0.5", "\u0663"])
def test_a_number_is_one_for_every_program(tmp_path, cell):
    """Python reads 1_000 as a thousand, and digits of other scripts; a spreadsheet does not."""
    rows = _wide(_iso(_quarters(JUNE, 4)), {"a": range(4)}).splitlines()
    rows[2] = rows[2].split(",")[0] + f",{cell}"

    assert _mistakes(_write(tmp_path, "\n".join(rows))) == (f"meters.csv:3:a: expected a number, given {cell!r}.",)


@pytest.mark.parametrize(
    ("unit", "cell", "given"),
    [
        ("kw", "1e300", "1e+300 kW; that is far beyond any home, and at most 1e+06 kW is read"),
        ("kw", "-2e6", "-2e+06 kW"),
        ("mw", "1e308", "inf kW"),
        ("wh", "1e9", "4e+06 kW"),
        (
            "1",
            "20000",
            "20000 times the nameplate; that is far beyond any home, and at most 10000 times the nameplate is read",
        ),
    ],
)
def test_a_figure_beyond_any_home_is_told_with_its_place(tmp_path, unit, cell, given):
    """Once for a column; the largest that is allowed is read."""
    rows = _wide(_iso(_quarters(JUNE, 4)), {"a": range(4)}).splitlines()
    rows[2] = rows[2].split(",")[0] + f",{cell}"
    (mistake,) = _mistakes(_write(tmp_path, "\n".join(rows)), None, unit)
    assert mistake.startswith(f"meters.csv:3:a: given {given}")

    rows[2] = rows[2].split(",")[0] + f",{1e4 if unit == '1' else 1e6 if unit == 'kw' else 0}"
    table_profiles(_write(tmp_path, "\n".join(rows)), unit=unit)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda rows: rows.__setitem__(5, "2024-06-33T00:00Z,1"), "meters.csv:6:time: expected a time such as"),
        (lambda rows: rows.__setitem__(5, rows[5] + ",1"), "meters.csv:6: the row has 3 cells, the header 2."),
        (
            lambda rows: rows.__setitem__(slice(1, None), rows[:0:-1]),
            "meters.csv:3:time: 19 rows, from 2024-06-01T04:30+00:00 on",
        ),
        (lambda rows: rows.__setitem__(0, "time\ta"), "meters.csv:1: the columns are parted by tabs."),
        (lambda rows: rows.__setitem__(0, "when"), "meters.csv:1:time: the column time is missing."),
        (lambda rows: rows.__setitem__(0, "time"), "meters.csv:1: there is no column besides time."),
    ],
    ids=["a stamp", "a cell too many", "backwards", "tabs", "no time", "no meter"],
)
def test_one_slip_in_a_table_is_one_sentence(tmp_path, spoil, expected):
    """A row that is refused is no gap besides; a table that runs backwards is not told row by row."""
    rows = _wide(_iso(_quarters(JUNE, 20)), {"a": range(20)}).splitlines()
    spoil(rows)
    (mistake,) = _mistakes(_write(tmp_path, "\n".join(rows)))

    assert mistake.startswith(expected)


def test_a_gap_beside_a_refused_row_is_still_told(tmp_path):
    """One row is refused, two more are not there."""
    rows = _wide(_iso(_quarters(JUNE, 20)), {"a": range(20)}).splitlines()
    rows[5] = "yesterday,1"
    del rows[6:8]

    refused, gap = _mistakes(_write(tmp_path, "\n".join(rows)))

    assert "given 'yesterday'" in refused
    assert "3 intervals are missing" in gap


def test_mistakes_that_are_alike_are_counted(tmp_path):
    """A file with decimal commas has one in every cell: five of them say it, and the last how many there are."""
    stamps = _iso(_quarters(JUNE, 30))
    text = "time;a;b\n" + "\n".join(f"{stamp};0,5;1,5" for stamp in stamps)

    mistakes = _mistakes(_write(tmp_path, text))

    assert len(mistakes) == 5
    assert mistakes[0] == "meters.csv:2:a: expected a number, given '0,5'. Write a decimal point, not a comma."
    assert mistakes[-1].endswith("And 55 more like it.")


def test_a_file_is_called_as_the_scenario_calls_it(tmp_path):
    """Two tables of one name lie in two folders."""
    (tmp_path / "m.csv").write_text("time,a\n", encoding="utf-8")
    with pytest.raises(ProfileError) as caught:
        table_profiles(tmp_path / "m.csv", name="../north/m.csv")

    assert caught.value.mistakes[0].startswith("../north/m.csv:1:time: ")


def test_all_flaws_are_told_at_once(tmp_path):
    """A gap, a duplicate and a run of empty cells: three sentences; the run is one."""
    rows = _wide(_iso(_quarters(JUNE, 30)), {"a": range(30)}).splitlines()
    for row in (20, 21, 22):
        rows[row] = rows[row].split(",")[0] + ","
    rows.insert(15, rows[14])
    del rows[5:8]
    mistakes = _mistakes(_write(tmp_path, "\n".join(rows)))
    assert len(mistakes) == 3
    assert any(
        "3 intervals are missing between 2024-06-01T00:45+00:00 and 2024-06-01T01:45+00:00" in one for one in mistakes
    )
    assert any("occurs twice" in one for one in mistakes)
    assert any(
        "meters.csv:19:a: there is no number at 2024-06-01T04:45+00:00 to line 21 (2024-06-01T05:15+00:00)" in one
        for one in mistakes
    )


def test_meters_of_a_long_table_cover_the_same_time(tmp_path):
    """One that begins later, or has other intervals, is named; a gap is told with its meter."""
    stamps = _iso(_quarters(JUNE, 8))
    rows = (
        [f"{stamp},a,1" for stamp in stamps]
        + [f"{stamp},b,1" for stamp in stamps[2:]]
        + [f"{stamp},c,1" for stamp in stamps if stamp != stamps[4]]
    )
    mistakes = _mistakes(_write(tmp_path, "time,id,value\n" + "\n".join(rows)))
    assert any("b has 6 intervals of 15 min from 2024-06-01T00:30:00Z, a 8 of 15 min" in one for one in mistakes)
    assert any("one interval is missing of c between" in one for one in mistakes)


@pytest.mark.parametrize("name", ["nothing.csv", "nothing.parquet"])
def test_a_file_that_is_not_there_is_told(tmp_path, name):
    """No traceback."""
    assert "cannot be read" in _mistakes(tmp_path / name)[0]


def test_bytes_that_are_no_text_and_units_that_are_none_are_told(tmp_path):
    """Latin-1, and kilowatts in capitals."""
    (tmp_path / "m.csv").write_bytes("time,Mühle\n".encode("latin-1"))
    assert "not UTF-8" in _mistakes(tmp_path / "m.csv")[0]
    assert "no unit 'kW'" in _mistakes(tmp_path / "m.csv", None, "kW")[0]


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _parquet(folder, columns, name="meters.parquet"):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def test_parquet_is_read_like_csv(tmp_path):
    """Stamps with a zone, without one, or as text; integers and floats; wide and long."""
    import pyarrow as pa

    utc, local = _quarters(JUNE, 4), _quarters(JUNE, 4, BERLIN)
    naive = [stamp.replace(tzinfo=None) for stamp in local]
    for time, zone in (
        (pa.array(utc, pa.timestamp("us", "Europe/Berlin")), None),
        (pa.array(naive, pa.timestamp("ns")), "Europe/Berlin"),
        (pa.array(_iso(local)), None),
    ):
        store = table_profiles(
            _parquet(tmp_path, {"time": time, "a": pa.array([1, 2, 3, 4]), "b": pa.array([0.5] * 4, pa.float32())}),
            zone,
        )
        assert (store.names, str(store.start), store.step_minutes) == (("a", "b"), "2024-06-01T00:00:00", 15)
        assert store.values([0, 1]).tolist() == [[1, 2, 3, 4], [0.5] * 4]
    long = _parquet(
        tmp_path,
        {"time": pa.array(utc * 2, pa.timestamp("s", "UTC")), "id": ["a"] * 4 + ["b"] * 4, "value": list(range(8))},
    )
    assert table_profiles(long).values([1]).tolist() == [[4, 5, 6, 7]]


def test_flaws_of_parquet_have_rows(tmp_path):
    """A gap in the values, in the stamps, a column of text, stamps that are numbers."""
    import pyarrow as pa

    stamps = _quarters(JUNE, 4)
    zone = pa.timestamp("us", "UTC")
    holes = _parquet(tmp_path, {"time": pa.array(stamps, zone), "a": pa.array([1.0, None, float("nan"), 4.0])})
    assert _mistakes(holes)[0].startswith(
        "meters.parquet:2:a: there is no number at 2024-06-01 00:15:00+00:00 to line 3"
    )
    stampless = _parquet(tmp_path, {"time": pa.array([*stamps[:3], None], zone), "a": [1.0] * 4})
    assert _mistakes(stampless)[0].startswith("meters.parquet:4:time: expected a time")
    assert "expected numbers" in _mistakes(_parquet(tmp_path, {"time": pa.array(stamps, zone), "a": ["x"] * 4}))[0]
    assert "expected time stamps" in _mistakes(_parquet(tmp_path, {"time": [1, 2, 3, 4], "a": [1.0] * 4}))[0]
    assert "the column time is missing" in _mistakes(_parquet(tmp_path, {"a": [1.0] * 4}))[0]


def test_parquet_of_pandas_is_read(tmp_path):
    """A frame with a time index, as most people have it."""
    import pandas as pd

    frame = pd.DataFrame(
        {"a": [1.0, 2.0, 3.0]}, index=pd.date_range("2024-06-01", periods=3, freq="h", tz="UTC", name="time")
    )
    frame.to_parquet(tmp_path / "frame.parquet")
    store = table_profiles(tmp_path / "frame.parquet")
    assert (store.names, store.step_minutes, store.values([0]).tolist()) == (("a",), 60, [[1, 2, 3]])
