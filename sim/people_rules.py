"""What a scenario's rules and aggregators do to the homes: who gets which device, which tariff, which aggregator.

Every rule draws a score and a size for every home, from a stream named after what it gives and how many rules gave the same before it.
Homes with the lowest scores get the device. So neither another rule nor another home at the end changes what a home gets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from network.grid import Grid
from sim.draws import stream
from sim.profile_store import Profiles
from sim.scenario import Scenario
from sim.scenario_people import (
    BatteryRule,
    EvRule,
    HeatPumpRule,
    Home,
    HomeBattery,
    HomeEv,
    HomeHeatPump,
    HomeSolar,
    Rule,
    SolarRule,
    TariffRule,
)

__all__ = ["SIMBENCH_SOLAR", "Choices", "Draft", "apply", "assign_aggregators", "unknown"]

SIMBENCH_SOLAR = re.compile(r"PV\d+")
"""Names of SimBench's solar profiles."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A home on its way to a row."""

    home: Home
    bus: int
    place: Callable[..., str]


class Choices:
    """Profiles for devices that name none, drawn among those of the data set."""

    def __init__(self, scenario: Scenario, grid: Grid, profiles: Profiles) -> None:
        c = grid.connections
        modelled = sorted(spec.id for spec in scenario.profiles.solar)
        self.solar = (
            sorted(set(c.pv_profile) - {""})
            or modelled
            or sorted(n for n in profiles.names if SIMBENCH_SOLAR.fullmatch(n))
        )
        pumps = {
            (c.heat_pump_profile[k], c.heat_pump_reactive_profile[k]) for k in range(len(c)) if c.heat_pump_profile[k]
        }
        tangents = [float(c.heat_pump_kvar[k] / c.heat_pump_kw[k]) for k in range(len(c)) if c.heat_pump_kw[k] > 0]
        self.heat_pump = sorted(pumps)
        self.heat_pump_tangent = float(np.median(tangents)) if tangents else 0.0
        self.load_profile = scenario.people.load_profile
        self.seed = scenario.seed

    def completed(self, draft: Draft, row: int, mistakes: list[str]) -> Draft:
        """Fill in the profiles that a home's devices do not name."""
        home = draft.home
        if self.load_profile and not home.load.profile and home.load.kw > 0:
            home = home.model_copy(update={"load": home.load.model_copy(update={"profile": self.load_profile})})
        if home.solar is not None and not home.solar.profile:
            if not self.solar:
                mistakes.append(
                    f"{draft.place('solar')}: the solar of {home.id} names no profile, and the grid's data set has none; name one."
                )
                return draft
            pick = self.solar[int(stream(self.seed, "people", "solar profile", row).integers(len(self.solar)))]
            home = home.model_copy(update={"solar": home.solar.model_copy(update={"profile": pick})})
        if home.heat_pump is not None and not home.heat_pump.profile:
            if not self.heat_pump:
                mistakes.append(
                    f"{draft.place('heat_pump')}: the heat pump of {home.id} names no profile, and the grid's data set has none; name one."
                )
                return draft
            profile, profile_q = self.heat_pump[
                int(stream(self.seed, "people", "heat pump profile", row).integers(len(self.heat_pump)))
            ]
            kvar = home.heat_pump.kvar or home.heat_pump.kw * self.heat_pump_tangent
            home = home.model_copy(
                update={
                    "heat_pump": home.heat_pump.model_copy(
                        update={"profile": profile, "profile_q": profile_q, "kvar": kvar}
                    )
                }
            )
        return replace(draft, home=home)


def apply(
    rule: Rule, ordinal: int, drafts: list[Draft], scenario: Scenario, place: Callable[..., str], mistakes: list[str]
) -> list[Draft]:
    """Return the homes after a rule."""
    what = rule.give

    def has(draft: Draft, device: str) -> bool:
        return bool(getattr(draft.home, device))

    concerned = [k for k, draft in enumerate(drafts) if rule.among == "all" or has(draft, rule.among)]
    free = [k for k in concerned if not has(drafts[k], what)]
    draws = stream(scenario.seed, "people", what, ordinal).random((len(drafts), 2))
    if rule.homes:
        row = {draft.home.id: k for k, draft in enumerate(drafts)}
        chosen = []
        for i, name in enumerate(rule.homes):
            if name not in row:
                mistakes.append(f"{place('homes', i)}: {unknown('home', name, list(row), 'the people')}")
            elif row[name] not in free:
                why = (
                    f"has {'a tariff' if what == 'tariff' else what.replace('_', ' ')} already"
                    if has(drafts[row[name]], what)
                    else f"has no {rule.among}"
                )
                mistakes.append(f'{place("homes", i)}: "{name}" {why}.')
            else:
                chosen.append(row[name])
    else:
        if rule.count is not None:
            wanted = rule.count
            if wanted > len(free):
                among = "" if rule.among == "all" else f" of those with {rule.among}"
                mistakes.append(
                    f"{place('count')}: asks for {wanted} homes; only {len(free)}{among} have no {what.replace('_', ' ')} yet."
                )
                return drafts
        else:
            assert rule.share is not None
            wanted = max(0, round(rule.share * len(concerned)) - (len(concerned) - len(free)))
        chosen = sorted(free, key=lambda k: (draws[k, 0], k))[:wanted]
    out = list(drafts)
    for k in chosen:
        out[k] = replace(drafts[k], home=drafts[k].home.model_copy(update={what: _gift(rule, float(draws[k, 1]))}))
    return out


def _gift(rule: Rule, u: float) -> HomeSolar | HomeBattery | HomeEv | HomeHeatPump | str:
    """Return what a rule gives; ``u`` in [0, 1) decides on the size."""

    def between(low: float, high: float) -> float:
        # two digits are what a data sheet says; they also make the columns readable
        return round(low + (high - low) * u, 2) if high > low else low

    match rule:
        case SolarRule():
            return HomeSolar(kw_peak=between(*rule.kw_peak), profile=rule.profile)
        case BatteryRule():
            kwh = between(*rule.kwh)
            return HomeBattery(kwh=kwh, charge_kw=kwh / rule.hours, discharge_kw=kwh / rule.hours)
        case EvRule():
            return HomeEv(kw=between(*rule.kw), count=rule.cars, v2g=rule.v2g)
        case HeatPumpRule():
            return HomeHeatPump(kw=between(*rule.kw), profile=rule.profile)
        case TariffRule():
            return rule.tariff


def assign_aggregators(drafts: list[Draft], scenario: Scenario, mistakes: list[str]) -> list[str]:
    """Return every home's aggregator, "" where it has none."""
    row = {draft.home.id: k for k, draft in enumerate(drafts)}
    out = [draft.home.aggregator for draft in drafts]
    for i, aggregator in enumerate(scenario.aggregators):
        for j, name in enumerate(aggregator.members):
            at = scenario.place("aggregators", i, "members", j)
            if name not in row:
                mistakes.append(f"{at}: {unknown('home', name, list(row), 'the people')}")
            elif out[row[name]] not in {"", aggregator.id}:
                mistakes.append(f'{at}: "{name}" is with {out[row[name]]} already.')
            else:
                out[row[name]] = aggregator.id
    order = np.argsort(stream(scenario.seed, "people", "aggregators").random(len(drafts)), kind="stable")
    free = [int(k) for k in order if not out[k]]
    for aggregator in scenario.aggregators:
        if aggregator.share is not None:
            size = round(aggregator.share * len(drafts))
            for k in free[:size]:
                out[k] = aggregator.id
            free = free[size:]
    return out


def unknown(what: str, name: str, known: list[str], where: str) -> str:
    """Return the sentence about a name that is not known, with the nearest that is."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
    hint = f'did you mean "{near[0]}"?' if near else f"there are {some or 'none'}."
    return f'"{name}" is not a {what} of {where}; {hint}'
