"""From a scenario to everything a run needs: grid, people, profiles, tariffs, series, storage.

All files are read here, all names are looked up, and every mistake is told with the place in the scenario that leads to it. What comes out is
frozen and complete: a run opens no further file.

The content id is the SHA-256 of the resolved scenario, of where every figure came from (files by their own hash) and of the package's version.
The same id means the same run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.forecast import Skill
from agents.people import People
from agents.storage_operator import Box
from agents.vehicles import Habits
from market.allocation import ALLOCATIONS, PRICES
from market.tariffs import Tariff, TariffError
from network.acflow import FlowError, Model
from network.feeder import Feeder, FeederError
from network.held import no_columns
from network.sources import Grid
from sim.people import build
from sim.people_rules import unknown
from sim.profile_store import ProfileError, Profiles
from sim.resolve_data import files_of, grid_of, profiles_of, series_of, times_of
from sim.scenario import Scenario, dump
from sim.scenario_base import local_time
from sim.scenario_file import ScenarioError
from sim.series import Series

__all__ = ["Resolved", "package_version", "resolve"]

PACKAGES = ("agents", "market", "network", "sim", "storage")


@dataclass(frozen=True, slots=True, eq=False)
class Resolved:
    """Everything a run needs."""

    scenario: Scenario
    grid: Grid
    people: People
    profiles: Profiles
    tariffs: dict[str, Tariff]
    """By id, in the order of the scenario."""
    series: Series
    storage: tuple[Box, ...]
    """The shared storage; empty where there is none."""
    settlement_keys: NDArray[np.float64] | None
    """Share of each home, shape (n,), for sharing rules with fixed keys; None for the others. [1]"""
    skill: Skill
    """How well people forecast."""
    habits: Habits
    """How cars are used."""
    provenance: tuple[str, ...]
    """Where the figures come from, one sentence each."""
    licences: tuple[str, ...]
    """On what terms the data may be used."""
    content_id: str
    """SHA-256, 64 hexadecimal digits."""
    notes: tuple[str, ...]
    """What is worth knowing before the run, one sentence each."""


@cache
def package_version() -> str:
    """Return the version of this package and a digest of its code: who changes a line must not be shown the runs of before."""
    try:
        version = importlib.metadata.version("commonwatt")
    except importlib.metadata.PackageNotFoundError:
        version = "not installed"
    home = Path(__file__).parent.parent
    sources = sorted(file for package in PACKAGES for file in (home / package).rglob("*.py"))
    code = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
    return f"{version}+{code[:12]}"


def resolve(scenario: Scenario) -> Resolved:
    """Read what a scenario refers to; raises :class:`ScenarioError` with every mistake of the first step that finds any."""
    grid = grid_of(scenario)
    if lacking := no_columns(grid):
        place = scenario.place("grid", "source")
        advice = "Take them out of the feeder, or look at it with commonwatt network."
        raise ScenarioError([f"{place}: a run's tables have no columns for {lacking}. {advice}"])
    profiles = profiles_of(scenario)
    series = series_of(scenario)
    tariffs = _tariffs(scenario)
    mistakes: list[str] = []
    _check_rules(scenario, mistakes)
    _check_prices(scenario, tariffs, series, mistakes)
    storage = _storage(scenario, grid.feeder, mistakes)
    people: People | None = None
    try:
        people = build(scenario, grid, profiles)
    except ScenarioError as error:
        mistakes += error.mistakes
    keys = _keys(scenario, people, mistakes) if people is not None else None
    if people is not None and not mistakes:
        _check_three_phases(scenario, grid.feeder, people, storage, mistakes)
    if mistakes or people is None:
        raise ScenarioError(mistakes)
    provenance = tuple(
        dict.fromkeys([grid.provenance, *files_of(scenario), *(series.by_id[name].provenance for name in series.names)])
    )
    return Resolved(
        scenario=scenario,
        grid=grid,
        people=people,
        profiles=profiles,
        tariffs=tariffs,
        series=series,
        storage=storage,
        settlement_keys=keys,
        skill=_skill(scenario),
        habits=_habits(scenario),
        provenance=provenance,
        licences=(grid.licence,) if grid.licence else (),
        content_id=_content_id(scenario, provenance),
        notes=tuple(_notes(scenario, grid, people, profiles, storage)),
    )


# -- money -------------------------------------------------------------------------------------------------------------


def _tariffs(scenario: Scenario) -> dict[str, Tariff]:
    holidays = tuple(local_time(day).date() for day in scenario.time.holidays)
    out: dict[str, Tariff] = {}
    mistakes = []
    for name, spec in scenario.tariffs.items():
        try:
            out[name] = spec.tariff(name, holidays)
        except TariffError as error:
            mistakes.append(f"{scenario.place('tariffs', name)}: {error}")
    if mistakes:
        raise ScenarioError(mistakes)
    return out


def _check_rules(scenario: Scenario, mistakes: list[str]) -> None:
    for key, known in (("rule", ALLOCATIONS), ("price", PRICES)):
        name = getattr(scenario.settlement, key)
        if name not in known:
            mistakes.append(
                f"{scenario.place('settlement', key)}: settlement.{key}: {unknown('rule', name, sorted(known), 'settlement')}"
            )


def _keys(scenario: Scenario, people: People, mistakes: list[str]) -> NDArray[np.float64] | None:
    """Return the fixed keys of the sharing rule, if it has any."""
    spec = scenario.settlement
    if not spec.has_keys:
        return None
    mistakes += [
        f"{scenario.place('settlement', 'keys', name)}: {unknown('home', name, list(people.agent_id), 'the people')}"
        for name in spec.keys
        if name not in people.agent_id
    ]
    if not spec.keys:
        return np.full(people.n, 1.0 / people.n)
    return np.array([spec.keys.get(name, 0.0) for name in people.agent_id])


def _check_prices(scenario: Scenario, tariffs: dict[str, Tariff], series: Series, mistakes: list[str]) -> None:
    """Make sure that series reach over the run, and that nobody can earn by selling what it buys from the same retailer."""
    times = times_of(scenario)
    try:
        values = series.values(series.names, times)
    except ProfileError as error:
        mistakes += [f"{scenario.place('series')}: {sentence}" for sentence in error.mistakes]
        return
    for name, tariff in tariffs.items():
        prices = tariff.price(times, scenario.time.time_zone, values)
        wrong = np.flatnonzero(prices.buy < prices.sell)
        if wrong.size:
            t = int(wrong[0])
            mistakes.append(
                f"{scenario.place('tariffs', name)}: tariff {name}: feeding in earns more ({prices.sell[t]:.4f}) than buying costs "
                f"({prices.buy[t]:.4f}) in {wrong.size} interval(s), first at {times[t]}Z; everyone would trade with the retailer in circles. "
                f"Lower the feed-in price or raise the energy price."
            )


# -- storage -----------------------------------------------------------------------------------------------------------


def _storage(scenario: Scenario, feeder: Feeder, mistakes: list[str]) -> tuple[Box, ...]:
    boxes = []
    for i, spec in enumerate(scenario.storage):
        if spec.energy_kwh == 0:
            continue
        bus = _busbar(feeder) if not spec.bus else None
        if spec.bus:
            if spec.bus in feeder.buses.ids:
                bus = feeder.buses.ids.index(spec.bus)
            else:
                mistakes.append(
                    f"{scenario.place('storage', i, 'bus')}: {unknown('bus', spec.bus, list(feeder.buses.ids), f'the grid {scenario.grid.source}')}"
                )
                continue
        if bus is None:
            mistakes.append(
                f"{scenario.place('storage', i)}: storage {spec.id} names no bus, and the grid has several transformers at its source. Name its bus."
            )
            continue
        boxes.append(
            Box(
                ess_id=spec.id,
                bus_index=bus,
                energy_kwh=spec.energy_kwh,
                charge_kw=spec.charge_kw,
                discharge_kw=spec.discharge_kw,
                efficiency_charge=spec.efficiency_charge,
                efficiency_discharge=spec.efficiency_discharge,
                self_discharge_per_h=spec.self_discharge_per_h,
                initial_kwh=spec.initial_kwh,
                rent_energy_eur_per_kwh_day=spec.rent_energy_eur_per_kwh_day,
                rent_power_eur_per_kw_day=spec.rent_power_eur_per_kw_day,
                wear_eur_per_kwh=spec.wear_eur_per_kwh,
                own_use_rent_factor=spec.own_use_rent_factor,
                firm_offer_kw=min(spec.firm_charge.offer_kw, spec.charge_kw),
                firm_price_eur_per_kwh=spec.firm_charge.price_eur_per_kwh,
                tariff_id=spec.tariff or next(iter(scenario.tariffs)),
                phase=spec.phase,
            )
        )
    return tuple(boxes)


def _check_three_phases(
    scenario: Scenario, feeder: Feeder, people: People, storage: tuple[Box, ...], mistakes: list[str]
) -> None:
    """Refuse a feeder that cannot be calculated phase by phase where somebody needs that."""
    phases = (*people.phase, *(box.phase for box in storage))
    if feeder.unbalanced or any(phase != "abc" for phase in phases):
        where = [*people.bus_index.tolist(), *(box.bus_index for box in storage)]
        try:
            Model(feeder, where, phases)
        except (FeederError, FlowError) as error:
            mistakes.append(f"{scenario.place('grid', 'source')}: {error}")


def _busbar(feeder: Feeder) -> int | None:
    """Return the bus below the transformer nearest to the source, the source itself where there is none, None where it is not clear."""
    branches, depth = feeder.branches, feeder.depth
    lower = [
        int(max(branches.from_bus[k], branches.to_bus[k], key=lambda bus: depth[bus]))
        for k in range(feeder.n_branch)
        if branches.kind[k] == "transformer" and branches.in_service[k]
    ]
    if not lower:
        return int(feeder.source_bus)
    nearest = min(int(depth[bus]) for bus in lower)
    first = [bus for bus in lower if int(depth[bus]) == nearest]
    return first[0] if len(first) == 1 else None


# -- what else ---------------------------------------------------------------------------------------------------------


def _skill(scenario: Scenario) -> Skill:
    f = scenario.forecasts
    return Skill(
        weeks=f.weeks,
        solar_std=f.solar_error_std,
        solar_bias=f.solar_bias,
        solar_common=f.solar_common,
        solar_memory_h=f.solar_memory_hours,
        load_persistence=f.load_persistence,
        lead_h=f.lead_hours,
    )


def _habits(scenario: Scenario) -> Habits:
    v = scenario.vehicles
    return Habits(
        share_of_days=v.share_of_days,
        arrival_mean_h=v.arrival_mean_hour,
        arrival_std_h=v.arrival_std_hours,
        departure_mean_h=v.departure_mean_hour,
        departure_std_h=v.departure_std_hours,
        energy_mean_kwh=v.energy_mean_kwh,
        energy_shape=v.energy_shape,
        efficiency=v.efficiency,
    )


def _content_id(scenario: Scenario, provenance: tuple[str, ...]) -> str:
    content = {"scenario": dump(scenario), "data": provenance, "version": package_version()}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _notes(scenario: Scenario, grid: Grid, people: People, profiles: Profiles, storage: tuple[Box, ...]) -> list[str]:
    """Say what was read, and what may not be as expected."""

    def some(count: int, one: str, many: str) -> str:
        return f"{count} {one if count == 1 else many}"

    solar = people.pv_kw_peak > 0
    people_note = (
        f"{some(people.n, 'home', 'homes')}: {int(solar.sum())} with solar ({people.pv_kw_peak.sum():.0f} kW of peak power), "
        f"{int((people.battery_kwh > 0).sum())} with a battery ({people.battery_kwh.sum():.0f} kWh), "
        f"{int((people.ev_kw > 0).sum())} with a car, {int((people.heat_pump_kw > 0).sum())} with a heat pump."
    )
    notes = [
        f"{grid.feeder.name}: {some(grid.feeder.n_bus, 'bus', 'buses')}, {some(grid.feeder.n_branch, 'branch', 'branches')}.",
        people_note,
    ]
    if not solar.any():
        notes.append("Nobody has solar: there is nothing to share but what the storage holds.")
    if not people.active.any():
        notes.append("Nobody has a device: no home gets an envelope.")
    if not storage:
        notes.append("There is no shared storage." + (" Its energy_kwh is 0." if scenario.storage else ""))
    notes += [
        f"{aggregator.id}: {some(people.aggregator_id.count(aggregator.id), 'member', 'members')}."
        for aggregator in scenario.aggregators
    ]
    start, *_ = boundaries = scenario.time.boundaries()
    if f"{start:%H:%M}" != scenario.time.delivery_day_start:
        notes.append(
            f"The first delivery day is short: the run starts at {start:%H:%M}, delivery days begin at {scenario.time.delivery_day_start}."
        )
    zone = scenario.time.zone
    if start.replace(tzinfo=zone).utcoffset() != start.replace(tzinfo=zone, fold=1).utcoffset():
        notes.append(f"{scenario.time.start} happens twice, when clocks go back; the first is taken.")
    times = times_of(scenario)
    if profiles.wraps(times[0], times.size, scenario.time.interval_minutes):
        notes.append(
            f"The run ({boundaries[0]:%Y-%m-%d} to {boundaries[-1]:%Y-%m-%d}) leaves the year of the profiles, which begin again behind their end; weekdays shift."
        )
    return notes
