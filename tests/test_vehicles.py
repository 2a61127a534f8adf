"""Cars: sessions are possible, reproducible, and do not depend on how long the run is."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np

from agents.vehicles import Habits, Sessions, draw_sessions

EV_KW = np.array([11.0, 0.0, 3.7])


def drawn(days: int, habits: Habits | None = None) -> Sessions:
    first = date(2030, 1, 1)
    dates = [first + timedelta(days=k) for k in range(-1, days + 2)]

    def step_at(day: date, hour: float) -> int:
        return (day - first).days * 96 + int(hour * 4)

    return draw_sessions(EV_KW, dates, step_at, 0.25, habits or Habits(), np.random.SeedSequence(7).spawn(3))


def test_every_need_fits_into_its_stay() -> None:
    """No car wants more than its charging point can give between arrival and departure."""
    s = drawn(60)
    most = EV_KW[s.home] * 0.95 * (s.departure - s.arrival) / 4

    assert len(s.home) > 60
    assert (s.energy_kwh <= most + 1e-12).all()
    assert (s.departure > s.arrival).all()


def test_stays_of_one_car_do_not_overlap() -> None:
    """Each arrival comes after the departure before it."""
    s = drawn(60)

    for home in (0, 2):
        mine = s.home == home
        assert (s.arrival[mine][1:] > s.departure[mine][:-1]).all()


def test_a_longer_run_begins_with_the_days_of_a_shorter_one() -> None:
    """The first ten days of thirty are those of a run of ten."""
    short, long = drawn(10), drawn(30)

    for home in (0, 2):
        a, b = short.arrival[short.home == home], long.arrival[long.home == home]
        np.testing.assert_array_equal(a, b[: len(a)])


def test_share_and_mean_are_those_of_the_habits() -> None:
    """Over many days the share of days and the mean arrival come out."""
    s = drawn(2000)
    mine = s.home == 0

    assert abs(mine.sum() / 2002 - 0.75) < 0.03
    assert abs((s.arrival[mine] % 96).mean() / 4 - (18.0 - 0.125)) < 0.1  # an interval is named by its start


def test_a_home_without_a_car_has_no_session() -> None:
    """The second home charges nothing."""
    assert 1 not in drawn(30).home
