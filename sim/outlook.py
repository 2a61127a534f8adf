"""What a delivery day will really bring, and what people believe about it the day before.

Truth comes from the profiles (load, sun, heat), belief from :mod:`agents.forecast`. Agents plan with belief only; truth is looked at when
an interval is delivered. One day is in memory at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agents.forecast import Skill, day_ahead_solar, last_load, last_solar, same_weekday, solar_error
from agents.people import People
from sim.clock import Clock, Day
from sim.profile_store import Profiles

__all__ = ["DayAhead", "Outlook", "Truth"]

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What a day brings; every array has shape (n, T)."""

    load_kw: Matrix
    """Household load that nobody controls. [kW]"""
    load_kvar: Matrix
    solar_kw: Matrix
    """Available from the sun. [kW]"""
    heat_kw: Matrix
    """Heat drawn, in electrical kW."""


@dataclass(frozen=True, slots=True, eq=False)
class DayAhead:
    """What was believed about it the day before; every array has shape (n, T). [kW]"""

    load_kw: Matrix
    load_kvar: Matrix
    solar_kw: Matrix
    heat_kw: Matrix


class Outlook:
    """Truth and belief about every day of a run."""

    def __init__(
        self, people: People, profiles: Profiles, clock: Clock, skill: Skill, seed: np.random.SeedSequence
    ) -> None:
        self.people, self.profiles, self.clock, self.skill = people, profiles, clock, skill
        self._entropy = seed
        self._load = profiles.index(people.load_profile)
        self._load_q = profiles.index([q or p for p, q in zip(people.load_profile, people.load_profile_q, strict=True)])
        self._pv = profiles.index(people.pv_profile)
        self._heat = profiles.index(people.heat_pump_profile)

    def truth(self, day: Day) -> Truth:
        """Return what a day brings."""
        people, start, steps = self.people, day.start, day.steps
        shift = people.load_shift_steps
        solar = (people.pv_kw_peak * people.pv_scale)[:, None] * np.maximum(self._window(self._pv, start, steps), 0.0)
        return Truth(
            load_kw=people.load_kw[:, None] * self._window(self._load, start, steps, shift),
            load_kvar=people.load_kvar[:, None] * self._window(self._load_q, start, steps, shift),
            solar_kw=solar,
            heat_kw=people.heat_pump_kw[:, None] * np.maximum(self._window(self._heat, start, steps), 0.0),
        )

    def day_ahead(self, day: Day, truth: Truth) -> DayAhead:
        """Return what is believed at the gate: the weeks before for load and heat, a weather forecast for the sun."""
        people, shift = self.people, self.people.load_shift_steps
        seed = np.random.SeedSequence(self._entropy.entropy, spawn_key=(*self._entropy.spawn_key, day.index))
        z = solar_error(people.n, day.steps, self.clock.dt_h, self.skill, seed)
        return DayAhead(
            load_kw=people.load_kw[:, None] * same_weekday(self._past(self._load, day, shift)),
            load_kvar=people.load_kvar[:, None] * same_weekday(self._past(self._load_q, day, shift)),
            solar_kw=day_ahead_solar(truth.solar_kw, people.pv_kw_peak, z, self.skill),
            heat_kw=people.heat_pump_kw[:, None]
            * np.maximum(same_weekday(self._past(self._heat, day, 0 * shift)), 0.0),
        )

    def latest(self, truth: Truth, belief: DayAhead, at: int) -> tuple[Matrix, Matrix]:
        """Return the newest forecasts of load and sun for the intervals from ``at`` to the end of the day, shapes (n, T − at)."""
        dt_h = self.clock.dt_h
        # the last interval that has ended when forecasts are renewed, six minutes before the hour
        seen = at - 1 - math.ceil(6 / self.clock.interval_minutes)
        error = truth.load_kw[:, max(seen, 0)] - belief.load_kw[:, max(seen, 0)]
        if seen < 0:
            error = np.zeros_like(error)
        return (
            last_load(belief.load_kw[:, at:], error, dt_h, self.skill),
            last_solar(belief.solar_kw[:, at:], truth.solar_kw[:, at:], dt_h, self.skill),
        )

    def _window(self, index: NDArray[np.intp], start: int, steps: int, shift: NDArray[np.int64] | int = 0) -> Matrix:
        first = self.clock.times(start, 1)[0]
        return self.profiles.window(index, first, steps, shift, self.clock.interval_minutes)

    def _past(self, index: NDArray[np.intp], day: Day, shift: NDArray[np.int64]) -> Matrix:
        """Return the same local clock times of the weeks before, shape (weeks, n, T)."""
        weeks = []
        for week in range(1, self.skill.weeks + 1):
            at = self.clock.weeks_earlier(day.start, day.steps, week)
            first, last = int(at.min()), int(at.max())
            weeks.append(self._window(index, first, last - first + 1, shift)[:, at - first])
        return np.stack(weeks)
