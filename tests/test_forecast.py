"""Forecasts: they look back only, err as much as they say, and get better as the hour comes near."""

from __future__ import annotations

import numpy as np

from agents.forecast import Skill, day_ahead_solar, last_load, last_solar, same_weekday, solar_error


def test_the_load_forecast_is_the_mean_of_the_weeks_before() -> None:
    """(1 + 2 + 6) / 3 = 3."""
    past = np.array([1.0, 2.0, 6.0])[:, None, None] * np.ones((3, 2, 4))

    np.testing.assert_allclose(same_weekday(past), 3.0)


def test_the_solar_error_has_unit_variance_and_is_mostly_common() -> None:
    """Over many days the variance is 1 and two plants correlate by r = 0.8."""
    draws = np.stack([solar_error(2, 96, 0.25, Skill(), np.random.SeedSequence(k)) for k in range(2000)])

    assert abs(draws.var() - 1.0) < 0.03
    assert abs(np.corrcoef(draws[:, 0].ravel(), draws[:, 1].ravel())[0, 1] - 0.8) < 0.03


def test_no_sun_is_forecast_at_night_and_never_more_than_the_peak() -> None:
    """Zero stays zero, whatever the error."""
    available = np.array([[0.0, 5.0, 10.0]])
    z = np.full((1, 3), 100.0)

    forecast = day_ahead_solar(available, np.array([10.0]), z, Skill())

    np.testing.assert_allclose(forecast, [[0.0, 10.0, 10.0]])


def test_the_newest_forecast_is_nearer_to_the_truth_where_the_lead_is_short() -> None:
    """The solar error shrinks to a fifth for the next interval and comes back with the lead."""
    truth, old = np.full((1, 96), 4.0), np.full((1, 96), 6.0)

    error = last_solar(old, truth, 0.25, Skill())[0] - 4.0

    np.testing.assert_allclose(error[0], 0.4)
    assert (np.diff(error) > 0).all()
    assert error[-1] > 1.99


def test_the_error_just_seen_is_believed_in_part() -> None:
    """1 kW too much now is half a kW too much next, and forgotten later."""
    new = last_load(np.full((1, 96), 2.0), np.array([1.0]), 0.25, Skill())[0]

    np.testing.assert_allclose(new[0], 2.5)
    assert new[-1] < 2.001
