"""What a scenario names, read: the grid, the profiles, the series, and the hash of every file.

Whatever the readers find wrong is told with the place in the scenario that names what they read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from network.feeder import FeederError
from network.sources import Grid, SourceError, beside, named_path
from network.sources import read as read_grid
from sim.draws import stream
from sim.profile_store import ArrayProfiles, ProfileError, Profiles
from sim.scenario import Scenario
from sim.scenario_file import ScenarioError
from sim.scenario_sections import GridSpec, ProfilesSpec, TimeSpec
from sim.series import ColumnError, OneSeries, Series, one_series

__all__ = ["Described", "files_of", "grid_of", "profiles_of", "series_of", "times_of", "told_at"]

T = TypeVar("T")


class Described(Protocol):
    """What names data: a scenario, or a case of the network alone."""

    @property
    def seed(self) -> int: ...
    @property
    def time(self) -> TimeSpec: ...
    @property
    def grid(self) -> GridSpec: ...
    @property
    def profiles(self) -> ProfilesSpec: ...
    @property
    def folder(self) -> Path: ...
    def file(self, name: str) -> Path: ...
    def place(self, *loc: str | int) -> str: ...


def times_of(scenario: Described) -> NDArray[np.datetime64]:
    """Return the starts of all intervals of the run, UTC."""
    first, *_, last = scenario.time.boundaries()
    begin, end = (int(moment.replace(tzinfo=scenario.time.zone).timestamp()) for moment in (first, last))
    return np.arange(begin, end, scenario.time.interval_minutes * 60).astype("datetime64[s]")


def told_at(read: Callable[[], T], scenario: Described, *loc: str | int) -> T:
    """Read something; its mistakes are told with the place in the scenario that names it."""
    try:
        return read()
    except OSError as error:
        raise ScenarioError([f"{scenario.place(*loc)}: {error.filename}: cannot be read: {error.strerror}."]) from error
    except ColumnError:
        raise  # has a place of its own
    except (SourceError, ProfileError) as error:
        raise ScenarioError(f"{scenario.place(*loc)}: {sentence}" for sentence in error.mistakes) from error
    except FeederError as error:
        raise ScenarioError([f"{scenario.place(*loc)}: {error}"]) from error


def grid_of(scenario: Described) -> Grid:
    """Return the grid; a file is looked for beside the scenario."""
    return told_at(partial(read_grid, beside(scenario.grid.source, scenario.folder)), scenario, "grid", "source")


def profiles_of(scenario: Described) -> Profiles:
    """Return all profiles: those of the data set, of the tables, and the modelled ones."""
    stores: list[Profiles] = []
    zone = scenario.time.time_zone
    if scenario.grid.source.startswith("simbench:"):
        from sim.profiles_simbench import simbench_profiles

        stores.append(told_at(partial(simbench_profiles, scenario.grid.source), scenario, "grid", "source"))
    for i, table in enumerate(scenario.profiles.tables):
        from sim.profiles_tables import table_profiles

        read = partial(table_profiles, scenario.file(table.file), table.time_zone or zone, table.unit, name=table.file)
        stores.append(told_at(read, scenario, "profiles", "tables", i, "file"))
    stores += [_modelled(scenario, i) for i in range(len(scenario.profiles.solar))]
    if not stores:
        stores.append(_nothing(scenario))
    return told_at(partial(Profiles.combine, *stores), scenario, "profiles")


def _modelled(scenario: Described, i: int) -> Profiles:
    """Return the profile of a modelled solar plant, for the calendar years of the run; all of them see one sky."""
    from sim.solar import pvlib_profile

    spec, first, last = scenario.profiles.solar[i], *(scenario.time.boundaries()[k] for k in (0, -1))
    hours = np.arange(f"{first.year}-01-01", f"{last.year + 1}-01-01", dtype="datetime64[m]")
    read = partial(
        pvlib_profile,
        spec.latitude_deg,
        spec.longitude_deg,
        spec.tilt_deg,
        spec.azimuth_deg,
        hours[:: scenario.time.interval_minutes].astype("datetime64[s]"),
        int(stream(scenario.seed, "sky").integers(2**32)),
        weather=None if spec.weather is None else scenario.file(spec.weather),
        altitude_m=spec.altitude_m,
        name=spec.id,
    )
    return told_at(read, scenario, "profiles", "solar", i)


def _nothing(scenario: Described) -> Profiles:
    """Return a store without a name: all loads are constant."""
    times = times_of(scenario)
    return ArrayProfiles("no profiles", (), times[0], scenario.time.interval_minutes, np.zeros((0, times.size)))


def series_of(scenario: Scenario) -> Series:
    """Return every series that the scenario defines; their mistakes are told together."""
    made: dict[str, OneSeries] = {}
    mistakes: list[str] = []
    for name, spec in scenario.series.items():
        read = partial(
            one_series,
            name,
            spec,
            scenario.seed,
            scenario.time.time_zone,
            scenario.time.interval_minutes,
            scenario.file,
        )
        try:
            made[name] = told_at(read, scenario, "series", name)
        except ColumnError as error:
            mistakes += [f"{scenario.place('series', name, 'column')}: {sentence}" for sentence in error.mistakes]
        except ScenarioError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ScenarioError(mistakes)
    return Series(made)


def files_of(scenario: Scenario) -> list[str]:
    """Return every file that was read besides series, with its hash: its name alone would not tell that it has changed."""
    named = [table.file for table in scenario.profiles.tables]
    named += [model.weather for model in scenario.profiles.solar if model.weather]
    named += [scenario.people.table] if scenario.people.table else []
    if named_path(scenario.grid.source):
        path = scenario.file(scenario.grid.source.removeprefix("constant_power:"))
        inside = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        named += [
            str(one.relative_to(scenario.folder)) if one.is_relative_to(scenario.folder) else str(one) for one in inside
        ]
    return [f"{name}, sha256 {hashlib.sha256(scenario.file(name).read_bytes()).hexdigest()}" for name in named]
