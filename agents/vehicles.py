"""Cars: when they come home, when they leave, and how much energy they want.

A session is one stay at the home's charging point, from ``arrival`` up to (not including) ``departure``, both counted in
intervals from the start of the run. The household announces its habits the day before, so planning uses the
announced session until the car is plugged in; what happens is the actual one. Sessions are drawn: on a share of days the
car goes out; arrival and departure are normal around a clock time, the energy is gamma distributed. No public data set of home
charging with a free licence covers the feeders used here; the parameters are the scenario's.

Every home has a generator of its own and draws the same variates each day, whether it goes out or not, so a longer run begins with the days of a shorter one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["Habits", "Sessions", "draw_sessions"]

Vector = NDArray[np.float64]
Steps = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Habits:
    """How the cars of a community are used."""

    share_of_days: float = 0.75
    arrival_mean_h: float = 18.0
    arrival_std_h: float = 1.5
    departure_mean_h: float = 7.0
    departure_std_h: float = 1.0
    energy_mean_kwh: float = 10.6
    energy_shape: float = 2.0
    efficiency: float = 0.95
    announced_std_h: float = 0.5
    """Standard deviation of what was announced against what happens. [h]"""
    announced_energy_std: float = 0.1
    """The same for the energy wanted, as a share of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """All stays of all cars, sorted by home and arrival; every array has shape (s,)."""

    home: NDArray[np.intp]
    arrival: Steps
    departure: Steps
    energy_kwh: Vector
    """Energy wanted in the car at departure beyond that at arrival, never more than the stay can give."""
    announced_arrival: Steps
    announced_departure: Steps
    announced_energy_kwh: Vector


def draw_sessions(
    ev_kw: Vector,
    days: Sequence[date],
    step_at: Callable[[date, float], int],
    dt_h: float,
    habits: Habits,
    seeds: list[np.random.SeedSequence],
) -> Sessions:
    """Draw the stays of every home that has a car.

    Parameters
    ----------
    ev_kw : shape (n,)
        Rating of the charging point, 0 without a car. [kW]
    days
        Local dates, from the day before the run to the day after it; a car that comes home on one of them leaves on the next.
    step_at
        Interval of a local clock time, given as date and hours; so days of 23 and 25 hours are right.
    dt_h
        Length of an interval. [h]
    seeds
        One per home.
    """
    rows: list[tuple[int, int, int, float, int, int, float]] = []
    for home in np.flatnonzero(ev_kw > 0):
        rng = np.random.default_rng(seeds[home])
        limit_kw = float(ev_kw[home]) * habits.efficiency
        last = -(10**9)
        for day, next_day in pairwise(days):
            goes_out = rng.random() < habits.share_of_days
            arrival_h = rng.normal(habits.arrival_mean_h, habits.arrival_std_h)
            departure_h = rng.normal(habits.departure_mean_h, habits.departure_std_h)
            energy = rng.gamma(habits.energy_shape, habits.energy_mean_kwh / habits.energy_shape)
            slip_h = rng.normal(0.0, habits.announced_std_h, 2)
            guess = max(0.2, 1.0 + rng.normal(0.0, habits.announced_energy_std))
            if not goes_out:
                continue
            arrival = step_at(day, float(np.clip(arrival_h, 10.0, 23.5)))
            departure = step_at(next_day, float(np.clip(departure_h, 3.0, 11.0)))
            if arrival <= last or departure <= arrival:
                continue
            last = departure

            said_arrival = arrival + round(slip_h[0] / dt_h)
            said_departure = max(said_arrival + round(1 / dt_h), departure + round(slip_h[1] / dt_h))
            rows.append(
                (
                    int(home),
                    arrival,
                    departure,
                    _wanted(limit_kw, (departure - arrival) * dt_h, energy),
                    said_arrival,
                    said_departure,
                    _wanted(limit_kw, (said_departure - said_arrival) * dt_h, energy * guess),
                )
            )
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return Sessions(
        home=table[:, 0].astype(np.intp),
        arrival=table[:, 1].astype(np.int64),
        departure=table[:, 2].astype(np.int64),
        energy_kwh=table[:, 3].copy(),
        announced_arrival=table[:, 4].astype(np.int64),
        announced_departure=table[:, 5].astype(np.int64),
        announced_energy_kwh=table[:, 6].copy(),
    )


def _wanted(limit_kw: float, hours: float, energy_kwh: float) -> float:
    """Return the energy a car asks for: a little less than the stay can give, so that it can always be planned. [kWh]"""
    return min(energy_kwh, 0.95 * limit_kw * hours)
