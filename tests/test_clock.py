"""The calendar: intervals, delivery days that begin at a local hour, and the order of moments."""

from __future__ import annotations

from datetime import date, datetime, time

import numpy as np
import pytest

from sim.clock import Clock


def clock(start: str, days: int = 1, begin: str = "12:00", minutes: int = 15) -> Clock:
    return Clock(datetime.fromisoformat(start), days, minutes, "Europe/Berlin", time.fromisoformat(begin))


def test_a_summer_week_from_noon() -> None:
    """Seven days of 96 quarter-hours; noon in Berlin is ten o'clock UTC."""
    c = clock("2016-07-18T12:00", days=7)

    assert [day.steps for day in c.days] == [96] * 7
    assert c.steps == 672
    assert c.times(0, 1)[0] == np.datetime64("2016-07-18T10:00:00")
    assert c.days[1].name == "2016-07-19"


@pytest.mark.parametrize(
    ("start", "steps"), [("2016-03-27T00:00", 92), ("2016-10-30T00:00", 100), ("2016-10-29T00:00", 96)]
)
def test_days_on_which_clocks_change(start: str, steps: int) -> None:
    """Spring forward has 92 quarter-hours, autumn back 100."""
    assert clock(start, begin="00:00").days[0].steps == steps


def test_a_run_that_starts_in_the_midst_of_a_delivery_day() -> None:
    """The first delivery day is short, the second whole."""
    c = clock("2016-07-18T18:00", days=2)

    assert [day.steps for day in c.days] == [72, 96]


def test_the_gate_is_the_last_before_the_day_and_publication_comes_before_it() -> None:
    """Noon days close one hour before; midnight days at eleven of the day before."""
    noon, night = clock("2016-07-18T12:00").days[0], clock("2016-07-18T00:00", begin="00:00").days[0]

    assert (noon.publish_min, noon.gate_min) == (-120, -60)
    assert (night.publish_min, night.gate_min) == (-14 * 60, -13 * 60)


def test_three_weeks_earlier_is_the_same_clock_time_across_the_change_of_clocks() -> None:
    """On 5 April at noon summer time, three weeks before was winter time: 672 · 3 quarter-hours and one hour less."""
    c = clock("2016-04-05T12:00")

    back = c.weeks_earlier(0, 4, 3)

    np.testing.assert_array_equal(back, np.arange(4) - 3 * 672 + 4)


def test_local_days_frame_the_run() -> None:
    """From the day before to the day after."""
    days = clock("2016-07-18T12:00").local_days()

    assert [day.isoformat() for day in days] == ["2016-07-17", "2016-07-18", "2016-07-19", "2016-07-20"]


def test_seven_in_the_morning_is_seven_on_the_day_clocks_change() -> None:
    """On 27 March 2016 seven o'clock comes six hours after midnight, on 30 October eight."""
    spring, autumn = clock("2016-03-27T00:00", begin="00:00"), clock("2016-10-30T00:00", begin="00:00")

    assert spring.local_step(date(2016, 3, 27), 7.0) == 6 * 4
    assert autumn.local_step(date(2016, 10, 30), 7.0) == 8 * 4
