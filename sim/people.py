"""Turn what a scenario says about people into columns, one row per home.

Homes come from the data set of the grid, from the scenario's list or from a table. Rules then give devices to homes without. Every draw
has a stream of its own (:mod:`sim.draws`), named after what is drawn: a further rule, or a further home at the end, leaves what the others
got as it was.

What an envelope may at most allow a home (its caps), unless the scenario says it::

    export cap = max(peak power of the solar, battery discharge + car that feeds back)                (1)
    import cap = max(base import, peak of the own load in the year) + charging point + heat pump       (2)

(2) is never below the load that nobody controls: an envelope must not be broken by living.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from agents.people import People
from network.grid import Grid
from sim.draws import stream
from sim.people_rules import SIMBENCH_SOLAR, Choices, Draft, apply, assign_aggregators, unknown
from sim.people_table import read_homes
from sim.profile_store import Profiles
from sim.scenario import RESERVED, Scenario
from sim.scenario_file import ScenarioError
from sim.scenario_people import Home, HomeBattery, HomeEv, HomeHeatPump, HomeLoad, HomeSolar

__all__ = ["People", "build"]

Vector = NDArray[np.float64]

NEVER_NEGATIVE = {
    "load": "what a home draws is never negative",
    "solar": "what a solar plant produces is never negative",
    "heat_pump": "what a heat pump draws is never negative",
}
SIGN = {
    "load": "A meter that counts what is fed in as negative measures load and solar together: give both as profiles of their own.",
    "solar": "Production is positive: turn the sign where the meter counts it as negative, and set what it draws at night to 0.",
    "heat_pump": "Turn the sign where the meter counts it as negative.",
}


def build(scenario: Scenario, grid: Grid, profiles: Profiles) -> People:
    """Return the people of a scenario; raises :class:`ScenarioError` with every mistake.

    Parameters
    ----------
    scenario
        As loaded.
    grid
        The feeder, and the connections of its data set.
    profiles
        Every profile that may be named.
    """
    mistakes: list[str] = []
    drafts = _homes(scenario, grid, mistakes)
    if not drafts and not mistakes:
        mistakes.append(
            f"{scenario.place('people')}: there is no home: the grid's data set has no connection. List homes, or choose another grid."
        )
    if mistakes:
        raise ScenarioError(mistakes)
    choices = Choices(scenario, grid, profiles)
    counts: dict[str, int] = {}
    for i, rule in enumerate(scenario.people.rules):
        ordinal = counts.get(rule.give, 0)
        counts[rule.give] = ordinal + 1
        drafts = apply(
            rule, ordinal, drafts, scenario, lambda *loc, i=i: scenario.place("people", "rules", i, *loc), mistakes
        )
    drafts = [choices.completed(draft, k, mistakes) for k, draft in enumerate(drafts)]
    aggregator = assign_aggregators(drafts, scenario, mistakes)
    _check_references(drafts, scenario, profiles, mistakes)
    _check_phases(drafts, grid, mistakes)
    if not mistakes:
        _check_signs(drafts, profiles, mistakes)
    if mistakes:
        raise ScenarioError(mistakes)
    return _columns(drafts, aggregator, scenario, profiles)


# -- who is there ------------------------------------------------------------------------------------------------------


def _homes(scenario: Scenario, grid: Grid, mistakes: list[str]) -> list[Draft]:
    people = scenario.people
    if people.from_ == "grid":
        return _of_the_grid(scenario, grid)
    homes: list[tuple[Home, Callable[..., str]]]
    if people.from_ == "table":
        assert people.table is not None
        homes = [(placed.home, placed.place) for placed in read_homes(scenario.file(people.table), people.table)]
        if not homes:
            mistakes.append(f"{people.table}: holds no home; a run needs at least one.")
    else:
        homes = [
            (home, lambda *loc, i=i: scenario.place("people", "homes", i, *loc)) for i, home in enumerate(people.homes)
        ]
    index = {bus: k for k, bus in enumerate(grid.feeder.buses.ids)}
    drafts = []
    for home, place in homes:
        if home.bus not in index:
            mistakes.append(
                f"{place('bus')}: {unknown('bus', home.bus, list(index), f'the grid {scenario.grid.source}')}"
            )
        else:
            drafts.append(Draft(home, index[home.bus], place))
    return drafts


def _of_the_grid(scenario: Scenario, grid: Grid) -> list[Draft]:
    """Return the homes of the data set, which its reader has checked: a bound for homes is none for a factory in it."""
    c, ids = grid.connections, grid.feeder.buses.ids

    def place(*_: str | int) -> str:
        return scenario.place("grid", "source")

    drafts = []
    for k in range(len(c)):
        home = Home.model_construct(
            id=c.id[k],
            bus=ids[int(c.bus[k])],
            phase=c.phase[k],  # type: ignore[arg-type]  # one of the four, as the reader has checked
            load=HomeLoad.model_construct(
                kw=float(c.base_kw[k]),
                profile=c.profile[k],
                kvar=float(c.base_kvar[k]),
                profile_q=c.reactive_profile[k],
            ),
            solar=HomeSolar.model_construct(kw_peak=float(c.pv_kw_peak[k]), profile=c.pv_profile[k])
            if c.pv_kw_peak[k] > 0
            else None,
            battery=HomeBattery.model_construct(
                kwh=float(c.battery_kwh[k]), charge_kw=float(c.battery_kw[k]), discharge_kw=float(c.battery_kw[k])
            )
            if c.battery_kwh[k] > 0
            else None,
            ev=HomeEv.model_construct(kw=float(c.ev_kw[k]), count=max(int(c.ev_count[k]), 1))
            if c.ev_kw[k] > 0
            else None,
            heat_pump=HomeHeatPump.model_construct(
                kw=float(c.heat_pump_kw[k]),
                profile=c.heat_pump_profile[k],
                kvar=float(c.heat_pump_kvar[k]),
                profile_q=c.heat_pump_reactive_profile[k],
            )
            if c.heat_pump_kw[k] > 0
            else None,
        )
        drafts.append(Draft(home, int(c.bus[k]), place))
    return drafts


# -- checks ------------------------------------------------------------------------------------------------------------


def _check_references(drafts: list[Draft], scenario: Scenario, profiles: Profiles, mistakes: list[str]) -> None:
    known = set(profiles.names)
    if scenario.people.load_profile and scenario.people.load_profile not in known:
        sentence = unknown("profile", scenario.people.load_profile, list(profiles.names), "the scenario")
        mistakes.append(f"{scenario.place('people', 'load_profile')}: {sentence}")
        return
    aggregators = [a.id for a in scenario.aggregators]
    taken = {**dict.fromkeys(RESERVED, "an account of its own"), **dict.fromkeys(aggregators, "an aggregator")}
    taken |= dict.fromkeys([ess.id for ess in scenario.storage], "a storage")
    for draft in drafts:
        home, place = draft.home, draft.place
        named = [(("load", "profile"), home.load.profile), (("load", "profile_q"), home.load.profile_q)]
        if home.solar is not None:
            named.append((("solar", "profile"), home.solar.profile))
        if home.heat_pump is not None:
            named += [
                (("heat_pump", "profile"), home.heat_pump.profile),
                (("heat_pump", "profile_q"), home.heat_pump.profile_q),
            ]
        mistakes += [
            f"{place(*loc)}: {home.id}: {unknown('profile', name, list(profiles.names), 'the scenario')}"
            for loc, name in named
            if name and name not in known
        ]
        if home.id in taken:
            mistakes.append(f'{place("id")}: "{home.id}" is the name of {taken[home.id]}; ids differ.')
        if home.tariff and home.tariff not in scenario.tariffs:
            mistakes.append(
                f"{place('tariff')}: {unknown('tariff', home.tariff, list(scenario.tariffs), 'the scenario')}"
            )
        if home.aggregator and home.aggregator not in aggregators:
            mistakes.append(
                f"{place('aggregator')}: {unknown('aggregator', home.aggregator, aggregators, 'the scenario')}"
            )


def _check_phases(drafts: list[Draft], grid: Grid, mistakes: list[str]) -> None:
    """Refuse homes on a conductor that does not arrive at their bus."""
    arrives = grid.feeder.conductors
    for draft in drafts:
        missing = [phase for phase in draft.home.phase if not arrives[draft.bus, "abc".index(phase)]]
        if missing:
            there = "".join(phase for phase, is_there in zip("abc", arrives[draft.bus], strict=True) if is_there)
            mistakes.append(
                f'{draft.place("phase")}: {draft.home.id}: is on phase {draft.home.phase}, but at bus "{draft.home.bus}" '
                f"only {there} arrives. Give one of its phases."
            )


def _check_signs(drafts: list[Draft], profiles: Profiles, mistakes: list[str]) -> None:
    """Refuse profiles of active power that are negative somewhere; each is told once, at the first home that uses it."""
    used: dict[tuple[str, str], str] = {}
    for draft in drafts:
        home = draft.home
        for key, device in (("load", home.load), ("solar", home.solar), ("heat_pump", home.heat_pump)):
            if device is not None and device.profile:
                used.setdefault((key, device.profile), draft.place(key, "profile"))
    rows = profiles.index([name for _, name in used])
    for (key, _), place, row in zip(used, used.values(), rows.tolist(), strict=True):
        value, where, count = profiles.lowest(row)
        if value < 0:
            others = f"; {count} of its values are" if count > 1 else ""
            mistakes.append(f"{place}: {where}: {NEVER_NEGATIVE[key]}; given {value:g}{others}. {SIGN[key]}")


# -- columns -----------------------------------------------------------------------------------------------------------


def _columns(drafts: list[Draft], aggregator: list[str], scenario: Scenario, profiles: Profiles) -> People:
    homes = [draft.home for draft in drafts]
    spec, first_tariff = scenario.people, next(iter(scenario.tariffs))

    def column(value: Callable[[Home], float]) -> Vector:
        return np.array([value(home) for home in homes], dtype=np.float64)

    load_kw = column(lambda h: h.load.kw)
    pv_kw_peak = column(lambda h: h.solar.kw_peak if h.solar else 0.0)
    battery_kwh = column(lambda h: h.battery.kwh if h.battery else 0.0)
    discharge_kw = column(lambda h: h.battery.discharge_kw if h.battery else 0.0)
    ev_kw = column(lambda h: h.ev.kw if h.ev else 0.0)
    ev_v2g = np.array([h.ev is not None and h.ev.v2g for h in homes], dtype=bool)
    heat_pump_kw = column(lambda h: h.heat_pump.kw if h.heat_pump else 0.0)
    load_profile = tuple(h.load.profile for h in homes)
    pv_profile = tuple(h.solar.profile if h.solar else "" for h in homes)
    load_peak_kw = load_kw * _year_peaks(load_profile, profiles)
    export_cap = np.maximum(pv_kw_peak, discharge_kw + np.where(ev_v2g, ev_kw, 0.0))
    import_cap = np.maximum(scenario.dso.base_import_kw, load_peak_kw) + ev_kw + heat_pump_kw
    return People(
        agent_id=tuple(h.id for h in homes),
        bus_index=np.array([draft.bus for draft in drafts], dtype=np.intp),
        aggregator_id=tuple(aggregator),
        tariff_id=tuple(h.tariff or first_tariff for h in homes),
        load_profile=load_profile,
        load_profile_q=tuple(h.load.profile_q for h in homes),
        load_kw=load_kw,
        load_kvar=column(lambda h: h.load.kvar),
        load_shift_steps=_shifts(load_profile, scenario, profiles),
        pv_profile=pv_profile,
        pv_kw_peak=pv_kw_peak,
        pv_scale=_solar_scales(pv_profile, scenario, profiles),
        heat_pump_profile=tuple(h.heat_pump.profile if h.heat_pump else "" for h in homes),
        heat_pump_profile_q=tuple(h.heat_pump.profile_q if h.heat_pump else "" for h in homes),
        heat_pump_kw=heat_pump_kw,
        heat_pump_kvar=column(lambda h: h.heat_pump.kvar if h.heat_pump else 0.0),
        heat_buffer_kwh=heat_pump_kw * spec.heat_buffer_hours,
        battery_kwh=battery_kwh,
        battery_charge_kw=column(lambda h: h.battery.charge_kw if h.battery else 0.0),
        battery_discharge_kw=discharge_kw,
        battery_efficiency_charge=np.full(len(homes), spec.battery_efficiency_charge),
        battery_efficiency_discharge=np.full(len(homes), spec.battery_efficiency_discharge),
        battery_initial_kwh=column(lambda h: h.battery.initial_kwh if h.battery else 0.0),
        ev_kw=ev_kw,
        ev_count=np.array([h.ev.count if h.ev else 0 for h in homes], dtype=np.int64),
        ev_v2g=ev_v2g,
        active=(pv_kw_peak > 0) | (battery_kwh > 0) | (ev_kw > 0) | (heat_pump_kw > 0),
        phase=tuple(h.phase for h in homes),
        export_cap_kw=np.array(
            [c if h.export_cap_kw is None else h.export_cap_kw for h, c in zip(homes, export_cap, strict=True)]
        ),
        import_cap_kw=np.array(
            [c if h.import_cap_kw is None else h.import_cap_kw for h, c in zip(homes, import_cap, strict=True)]
        ),
    )


def _shifts(load_profile: tuple[str, ...], scenario: Scenario, profiles: Profiles) -> NDArray[np.int64]:
    """Draw by how many steps of the profiles each home lives later; one with a profile of its own is left as it was measured."""
    u = stream(scenario.seed, "people", "shift").uniform(-1.0, 1.0, len(load_profile))
    steps = np.rint(u * scenario.people.load_shift_minutes / profiles.step_minutes).astype(np.int64)
    homes_with = Counter(load_profile)
    shared = np.array([name != "" and homes_with[name] > 1 for name in load_profile], dtype=bool)
    return np.where(shared, steps, 0)


def _solar_scales(pv_profile: tuple[str, ...], scenario: Scenario, profiles: Profiles) -> Vector:
    """Return the factor that lifts SimBench's profiles, which peak at 0.6, to the peak of a real plant."""
    target = scenario.people.solar_peak_kw_per_kw_peak
    ones = np.ones(len(pv_profile))
    if target is None:
        return ones
    peaks = _year_peaks(pv_profile, profiles)
    shipped = np.array([SIMBENCH_SOLAR.fullmatch(name) is not None for name in pv_profile], dtype=bool)
    return np.where(shipped & (peaks > 0), target / np.where(peaks > 0, peaks, 1.0), ones)


def _year_peaks(names: tuple[str, ...], profiles: Profiles) -> Vector:
    """Return the highest value of each profile in its year, 1 for the constant one, shape (n,)."""
    distinct = sorted(set(names) - {""})
    highest = (
        profiles.window(profiles.index(distinct), profiles.start, profiles.length).max(axis=1)
        if distinct
        else np.zeros(0)
    )
    peaks = {"": 1.0, **dict(zip(distinct, highest.tolist(), strict=True))}
    return np.array([peaks[name] for name in names], dtype=np.float64)
