"""What people and the operator of the grid believe about tomorrow.

Load: the mean of the same weekday and clock time in the three weeks before. It is honest (it only looks back) and as bad as real
forecasts of single homes are: more than half of the energy of an interval.

Solar: what will be available, times (1 + bias), plus an error that is a share of the plant's peak::

    f = clip(a (1 + bias) + kWp σ z, 0, kWp) where a > 0,   z = sqrt(r) z_region + sqrt(1 - r) z_plant       (1)

with z first-order autoregressive. The weather is one for a feeder, hence the large common part r. Errors are drawn per day from a
generator that is spawned from the scenario's seed and the day, so the day's error does not depend on how long the run is.

The last forecast, a few minutes before the hour, knows the error of the interval just past. Of it, a share is
believed to last and dies away with the lead time; the solar error is small for short leads and comes back with longer ones::

    load: f + e k exp(−lead / τ)          solar: a + (f − a) (1 − 0.8 exp(−lead / τ))                      (2)

Limits: no correlation between load and weather; a forecast is a number, not a distribution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Skill", "day_ahead_solar", "last_load", "last_solar", "same_weekday", "solar_error"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Skill:
    """How well a community forecasts."""

    weeks: int = 3
    """Weeks that the load forecast looks back."""
    solar_std: float = 0.046
    """σ of (1), as a share of the peak power."""
    solar_bias: float = -0.05
    solar_common: float = 0.8
    """r of (1)."""
    solar_memory_h: float = 3.0
    """Time in which the autoregressive error forgets 63 %. [h]"""
    load_persistence: float = 0.5
    """Share of the last error that the newest load forecast carries on."""
    lead_h: float = 3.0
    """Lead time over which the advantage of a new forecast dies away. [h]"""


def same_weekday(past: Matrix) -> Matrix:
    """Return the forecast from the same clock times of the weeks before.

    Parameters
    ----------
    past : shape (weeks, n, T)
        What was drawn one, two, ... weeks earlier. [kW]

    Returns
    -------
    shape (n, T)
        Their mean. [kW]
    """
    mean: Matrix = past.mean(axis=0)
    return mean


def solar_error(plants: int, steps: int, dt_h: float, skill: Skill, seed: np.random.SeedSequence) -> Matrix:
    """Draw z of (1) for one day, shape (plants, steps), unit variance."""
    rng = np.random.default_rng(seed)
    memory = float(np.exp(-dt_h / skill.solar_memory_h))
    shocks = rng.standard_normal((plants + 1, steps))
    z = np.empty_like(shocks)
    z[:, 0] = shocks[:, 0]
    for t in range(1, steps):
        z[:, t] = memory * z[:, t - 1] + np.sqrt(1.0 - memory**2) * shocks[:, t]
    mixed: Matrix = np.sqrt(skill.solar_common) * z[:1] + np.sqrt(1.0 - skill.solar_common) * z[1:]
    return mixed


def day_ahead_solar(available_kw: Matrix, peak_kw: Matrix, z: Matrix, skill: Skill) -> Matrix:
    """Return (1), shape (n, T). [kW]"""
    forecast = available_kw * (1.0 + skill.solar_bias) + peak_kw[:, None] * skill.solar_std * z
    return np.where(available_kw > 0.0, np.clip(forecast, 0.0, peak_kw[:, None]), 0.0)


def _advantage(steps: int, dt_h: float, skill: Skill) -> Matrix:
    """Share of a new forecast's advantage that is left after each lead time, shape (steps,)."""
    left: Matrix = np.exp(-(np.arange(steps) * dt_h) / skill.lead_h)
    return left


def last_load(day_ahead_kw: Matrix, last_error_kw: Matrix, dt_h: float, skill: Skill) -> Matrix:
    """Return the newest load forecast: the old one plus the fading error just seen.

    Parameters
    ----------
    day_ahead_kw : shape (n, T)
        The old forecast of the intervals to come. [kW]
    last_error_kw : shape (n,)
        What was drawn in the interval just past, less its old forecast. [kW]
    """
    fade = skill.load_persistence * _advantage(day_ahead_kw.shape[1], dt_h, skill)
    return np.maximum(day_ahead_kw + last_error_kw[:, None] * fade, 0.0)


def last_solar(day_ahead_kw: Matrix, available_kw: Matrix, dt_h: float, skill: Skill) -> Matrix:
    """Return the newest solar forecast: the old error has shrunk where the lead time is short (2).

    Parameters
    ----------
    day_ahead_kw, available_kw : shape (n, T)
        Old forecast and what will be available, of the intervals to come. [kW]
    """
    keep = 1.0 - 0.8 * _advantage(day_ahead_kw.shape[1], dt_h, skill)
    return np.maximum(available_kw + (day_ahead_kw - available_kw) * keep, 0.0)
