"""What the world outside the community says in numbers: the spot price and the emissions of a kWh.

A series is a column of a table (:func:`sim.profiles_tables.table_profiles`) or drawn. Drawn ones are shapes with weather, not history::

    price(t)    = m (1 + s [a_evening + a_morning - a_sun(season, sun_d) - a_weekend + level_d + noise_t])      (1)
    emission(t) = e (1 + s [0.30 a_evening - 0.35 a_sun - 0.05 a_weekend + 0.5 level_d])                        (2)

with m and e the means over a week, s the ``swing``. ``sun_d`` (how bright the day is), ``level_d`` (wind and fuel: a moving average of
five daily shocks) and ``noise_t`` (hourly) come from a stream per calendar day (:mod:`sim.draws`), so a day is the same in every run that
contains it, and price and emissions see the same weather. Prices may be negative on bright weekends.

Limits: hourly; no holidays, no trend. Good for comparing business models on equal terms, not for forecasting a market.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from functools import lru_cache, partial
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sim.draws import stream
from sim.profile_store import ProfileError, Profiles
from sim.scenario_money import SeriesSpec, SyntheticPrice, TableSeries

__all__ = ["ColumnError", "OneSeries", "Series", "one_series", "synthetic_emission_factor", "synthetic_price"]

Vector = NDArray[np.float64]
Times = NDArray[np.datetime64]

LEVEL_WEIGHTS = np.array([0.62, 0.5, 0.4, 0.32, 0.3]) / math.sqrt(0.9868)
"""Of today's and the four days' before shocks; their squares sum to one."""
LEVEL_STD = 0.14
NOISE_STD = 0.08

FACTORS = {"eur_per_kwh": 1.0, "ct_per_kwh": 0.01, "eur_per_mwh": 0.001, "kg_per_kwh": 1.0, "g_per_kwh": 0.001}
"""From the unit of a table to currency or kg per kWh."""


MOST = 1e4
"""What is beyond it in a table is a slip. [currency or kg per kWh]"""


class ColumnError(ProfileError):
    """A table has no such column."""


@dataclass(frozen=True, slots=True, eq=False)
class OneSeries:
    """A named function of time."""

    series_id: str
    unit: str
    """``eur/kWh`` or ``kg/kWh``."""
    provenance: str
    """Where the figures come from; enters the content id of a run."""
    at: Callable[[Times], Vector]
    """From the starts of intervals (UTC, shape (T,)) to values of shape (T,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """All series of a scenario."""

    by_id: Mapping[str, OneSeries]

    @property
    def names(self) -> tuple[str, ...]:
        """Ids, in the order of the scenario."""
        return tuple(self.by_id)

    def unit(self, name: str) -> str:
        """Return the unit of a series."""
        return self.by_id[name].unit

    def values(self, names: Iterable[str], times_utc: Times) -> dict[str, Vector]:
        """Return the values of some series at the starts of intervals, each of shape (T,)."""
        times = np.asarray(times_utc, dtype="datetime64[s]")
        return {name: self.by_id[name].at(times) for name in names}


def one_series(
    name: str, spec: SeriesSpec, seed: int, time_zone: str, interval_minutes: int, file: Callable[[str], Path]
) -> OneSeries:
    """Return a series as a scenario defines it; raises :class:`ProfileError` for a table that cannot be used.

    Parameters
    ----------
    name
        Its id.
    spec
        Its definition.
    seed
        The scenario's.
    time_zone
        The scenario's; drawn shapes follow its clock.
    interval_minutes
        Of the run; a table that is finer is averaged, one that is coarser holds its values.
    file
        Finds a file by the name that the scenario gives it.
    """
    at: Callable[[Times], Vector]
    if isinstance(spec, TableSeries):
        from sim.profiles_tables import table_profiles

        path = file(spec.file)
        factor = FACTORS[spec.unit]
        table = table_profiles(
            path, spec.time_zone or time_zone, unit="1", name=spec.file, most=MOST / factor, measure=spec.unit
        )
        if spec.column not in table.names:
            near = get_close_matches(spec.column, table.names, 1, 0.5)
            advice = f"did you mean {near[0]}?" if near else f"its columns are {', '.join(table.names)}."
            raise ColumnError(spec.file, [f"{spec.file} has no column {spec.column!r}; {advice}"])
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        unit, provenance = spec.unit_of_series, f"{spec.file}, column {spec.column}, sha256 {digest}"
        at = partial(
            _looked_up,
            table=table,
            column=table.index([spec.column]),
            factor=factor,
            interval_minutes=interval_minutes,
        )
    elif isinstance(spec, SyntheticPrice):
        unit, provenance = "eur/kWh", "drawn by sim.series.synthetic_price"
        at = partial(
            synthetic_price,
            seed=seed,
            time_zone=time_zone,
            mean_eur_per_kwh=spec.mean_eur_per_kwh,
            swing=spec.swing,
        )
    else:
        unit, provenance = "kg/kWh", "drawn by sim.series.synthetic_emission_factor"
        at = partial(
            synthetic_emission_factor,
            seed=seed,
            time_zone=time_zone,
            mean_kg_per_kwh=spec.mean_kg_per_kwh,
            swing=spec.swing,
        )
    return OneSeries(name, unit, f"series {name}: {provenance}", at)


def _looked_up(
    times_utc: Times, table: Profiles, column: NDArray[np.intp], factor: float, interval_minutes: int
) -> Vector:
    """Return the mean over each interval; times are an unbroken grid. Raises where the table does not reach."""
    if table.wraps(times_utc[0], times_utc.size, interval_minutes):
        end = table.start + np.timedelta64(table.length * table.step_minutes, "m")
        raise ProfileError(
            table.name,
            [
                f"it holds {table.start}Z to {end}Z; the run needs {times_utc[0]}Z to {times_utc[-1]}Z. Give a longer table."
            ],
        )
    values: Vector = factor * table.window(column, times_utc[0], times_utc.size, interval_minutes=interval_minutes)[0]
    return values


def synthetic_price(
    times_utc: Times, seed: int, time_zone: str, mean_eur_per_kwh: float = 0.08, swing: float = 1.0
) -> Vector:
    """Draw a day-ahead spot price, equation (1).

    Parameters
    ----------
    times_utc : shape (T,)
        Starts of intervals.
    seed
        The scenario's.
    time_zone
        Whose clock and calendar the shapes follow.
    mean_eur_per_kwh, swing
        m and s. [eur/kWh], [1]

    Returns
    -------
    shape (T,)
        Constant within a clock hour. [eur/kWh]
    """
    return _per_hour(
        times_utc, time_zone, lambda day, hour: mean_eur_per_kwh * (1.0 + swing * _price_shape(seed, day, hour))
    )


def synthetic_emission_factor(
    times_utc: Times, seed: int, time_zone: str, mean_kg_per_kwh: float = 0.38, swing: float = 1.0
) -> Vector:
    """Draw an emission factor of the grid, equation (2), never below 2 % of its mean; parameters as of :func:`synthetic_price`. [kg/kWh]"""

    def shape(day: date, hour: float) -> float:
        weather = _weather(seed, day.toordinal())
        evening, _, sun, weekend = _shapes(day, hour, weather.sun)
        return 0.30 * evening - 0.35 * sun - 0.05 * weekend + 0.5 * weather.level

    return _per_hour(
        times_utc, time_zone, lambda day, hour: mean_kg_per_kwh * max(0.02, 1.0 + swing * shape(day, hour))
    )


def _price_shape(seed: int, day: date, hour: float) -> float:
    weather = _weather(seed, day.toordinal())
    evening, morning, sun, weekend = _shapes(day, hour, weather.sun)
    return evening + morning - sun - weekend + weather.level + float(weather.noise[int(hour)])


def _shapes(day: date, hour: float, bright: float) -> tuple[float, float, float, float]:
    """Return evening, morning, sun and weekend of (1), each with zero mean over an ordinary week of that season."""
    summer = 0.5 * (1.0 + math.cos(2.0 * math.pi * (day.timetuple().tm_yday - 172) / 365.25))
    evening = 0.75 * (_bell(hour, 18.5 + 1.5 * summer, 2.2) - _bell_mean(2.2))
    morning = 0.25 * (_bell(hour, 8.0, 1.5) - _bell_mean(1.5))
    width = 2.0 + 1.0 * summer
    depth = 0.22 + 0.78 * summer
    sun = depth * (bright * _bell(hour, 13.5, width) - 0.6 * _bell_mean(width))
    weekend = 0.15 * (5.0 / 7.0 if day.weekday() >= 5 else -2.0 / 7.0)
    return evening, morning, sun, weekend


def _bell(hour: float, at: float, width: float) -> float:
    return math.exp(-0.5 * (((hour + 0.5 - at + 12.0) % 24.0 - 12.0) / width) ** 2)


def _bell_mean(width: float) -> float:
    """Mean of a bell over the day."""
    return width * math.sqrt(2.0 * math.pi) / 24.0


@dataclass(frozen=True, slots=True, eq=False)
class _Weather:
    sun: float
    """Between 0.2 and 1, 0.6 in the mean."""
    level: float
    noise: Vector
    """Shape (24,)."""


@lru_cache(maxsize=4096)
def _shocks(seed: int, ordinal: int) -> Vector:
    return stream(seed, "series", "weather", ordinal).standard_normal(26)


@lru_cache(maxsize=1024)
def _weather(seed: int, ordinal: int) -> _Weather:
    shocks = np.array([_shocks(seed, ordinal - k)[0] for k in range(len(LEVEL_WEIGHTS))])
    today, before = _shocks(seed, ordinal), _shocks(seed, ordinal - 1)
    # sun of today remembers yesterday's: a normal variable, turned into a uniform one
    z = 0.8 * today[1] + 0.6 * before[1]
    sun = 0.2 + 0.8 * 0.5 * (1.0 + math.erf(z / math.sqrt(2.0)))
    return _Weather(sun=sun, level=LEVEL_STD * float(LEVEL_WEIGHTS @ shocks), noise=NOISE_STD * today[2:])


def _per_hour(times_utc: Times, time_zone: str, value: Callable[[date, float], float]) -> Vector:
    """Evaluate a function of local date and hour once per hour."""
    zone = ZoneInfo(time_zone)
    # a clock hour need not begin with an hour of UTC: look the quarter-hour up
    quarters, back = np.unique(
        np.asarray(times_utc, dtype="datetime64[s]").astype(np.int64) // 900, return_inverse=True
    )
    known: dict[tuple[date, int], float] = {}
    out = np.empty(quarters.size)
    for k, quarter in enumerate(quarters.tolist()):
        local = datetime.fromtimestamp(quarter * 900, tz=UTC).astimezone(zone)
        key = (local.date(), local.hour)
        if key not in known:
            known[key] = value(*key)
        out[k] = known[key]
    return np.asarray(out[back.reshape(np.shape(times_utc))], dtype=np.float64)
