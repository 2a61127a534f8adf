"""The people of a scenario: who lives where, what they own, and how the rest is drawn.

Homes come from the data set of the grid, from a list in the scenario, or from a table beside it. Rules then give devices to homes that
have none of the kind, each rule with a random stream of its own, so that adding one does not reshuffle the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sim.scenario_base import (
    Capacity,
    CapacityKwh,
    Count,
    Efficiency,
    FileName,
    Id,
    Money,
    Range,
    Share,
    Spec,
    Switch,
)
from sim.scenario_file import Loc

__all__ = [
    "AggregatorSpec",
    "BatteryRule",
    "EvRule",
    "HeatPumpRule",
    "Home",
    "HomeBattery",
    "HomeEv",
    "HomeHeatPump",
    "HomeLoad",
    "HomeSolar",
    "PeopleSpec",
    "Rule",
    "SolarRule",
    "TariffRule",
]

Device = Literal["solar", "battery", "ev", "heat_pump"]
HOURS_OF_STORAGE = 2.0
"""Energy over power where a battery's power is not given, as in SimBench. [h]"""


class HomeLoad(Spec):
    """What a home draws and nobody controls."""

    kw: Capacity = 0.0
    """Nameplate: the power that the profile multiplies."""
    profile: str = ""
    """Name of a profile; empty: constant."""
    kvar: Annotated[float, Field(strict=True, ge=-1000, le=1000)] = 0.0
    """Nameplate of the reactive power, drawn positive."""
    profile_q: str = ""
    """Name of the profile of the reactive power; empty: constant."""


class HomeSolar(Spec):
    """A photovoltaic plant behind the home's meter."""

    kw_peak: Annotated[float, Field(strict=True, gt=0, le=1000)]
    """Rated peak power."""
    profile: str = ""
    """Name of a profile; empty: drawn among the solar profiles of the data set."""


def _two_hours(data: dict[str, Any]) -> float:
    return float(data.get("kwh", 0.0)) / HOURS_OF_STORAGE


class HomeBattery(Spec):
    """A home's own battery."""

    kwh: Annotated[float, Field(strict=True, gt=0, le=10_000)]
    """Usable energy."""
    charge_kw: Capacity = Field(default_factory=_two_hours)
    """Highest charging power; where not given: the energy over two hours."""
    discharge_kw: Capacity = Field(default_factory=_two_hours)
    """Highest discharging power; where not given: the energy over two hours."""
    initial_kwh: CapacityKwh = 0.0
    """Energy in it at the start."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a battery that begins fuller than full."""
        if self.initial_kwh > self.kwh:
            yield ("initial_kwh",), f"must not be above the usable {self.kwh:g} kWh; given {self.initial_kwh:g}"


class HomeEv(Spec):
    """The cars of a home and their charging point."""

    kw: Annotated[float, Field(strict=True, gt=0, le=1000)] = 11.0
    """Rating of the charging point."""
    count: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """Cars."""
    v2g: Switch = False
    """Whether the car may feed back."""


class HomeHeatPump(Spec):
    """A heat pump with a buffer."""

    kw: Annotated[float, Field(strict=True, gt=0, le=1000)]
    """Nameplate in electrical power: what the profile multiplies."""
    profile: str = ""
    """Name of a profile; empty: drawn among the heat pump profiles of the data set."""
    kvar: Annotated[float, Field(strict=True, ge=-1000, le=1000)] = 0.0
    """Nameplate of the reactive power, drawn positive."""
    profile_q: str = ""
    """Name of the profile of the reactive power; empty: constant."""


class Home(Spec):
    """One home; a column of a table is named after the keys here, with an underscore between the levels (load_kw)."""

    id: Id
    """Name of the home, unique."""
    bus: Id
    """Bus of the feeder to which it is connected."""
    phase: Literal["a", "b", "c", "abc"] = "abc"
    """Conductor to which it is connected; abc: all three alike."""
    load: HomeLoad = HomeLoad()
    """What it draws and nobody controls."""
    solar: HomeSolar | None = None
    """Its photovoltaic plant; null: none."""
    battery: HomeBattery | None = None
    """Its own battery; null: none."""
    ev: HomeEv | None = None
    """Its cars; null: none."""
    heat_pump: HomeHeatPump | None = None
    """Its heat pump; null: none."""
    aggregator: str = ""
    """Id of its aggregator; empty: the shares of the aggregators decide."""
    tariff: str = ""
    """Id of its tariff; empty: a rule decides, or else it is the first tariff of the scenario."""
    export_cap_kw: Capacity | None = None
    """Highest export the envelope may ever allow; null: peak power of the solar, or the battery's and car's, whichever is higher."""
    import_cap_kw: Capacity | None = None
    """Highest import the envelope may ever allow; null: the base import, or the home's own yearly peak, plus car and heat pump."""


class _Rule(Spec):
    """Whom a rule gives something to: ``share``, ``count`` or ``homes`` of those who have none."""

    share: Share | None = None
    """So many of the homes concerned shall have one when the rule is done; those that already have one count."""
    count: Count | None = None
    """So many homes get one."""
    homes: tuple[Id, ...] = ()
    """These homes get one."""
    among: Literal["all", "solar", "battery", "ev", "heat_pump"] = "all"
    """Which homes the rule concerns: all, or those that have this device."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a rule that does not say, or says twice, whom it concerns."""
        given = [name for name in ("share", "count", "homes") if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            yield (), f'needs exactly one of "share", "count" and "homes"; {" and ".join(given) or "none"} given'
        if len(set(self.homes)) < len(self.homes):
            yield ("homes",), "names a home twice"


def _ordered(spec: Spec, field: str, highest: float, *, zero: bool = False) -> Iterator[tuple[Loc, str]]:
    low, high = getattr(spec, field)
    if low < 0 or (low == 0 and not zero):
        yield (field,), f"must be {'0 or more' if zero else 'above 0'}; given {low:g}"
    if high < low:
        yield (field,), f"must be [lowest, highest]; given [{low:g}, {high:g}]"
    if high > highest:
        yield (field,), f"must be at most {highest:g} for a home; given {high:g}. Powers are in kW, not W"


class SolarRule(_Rule):
    """Give a solar plant to homes without one."""

    give: Literal["solar"]
    """What the rule gives."""
    kw_peak: Range = (5.0, 10.0)
    """Rated peak power, drawn between these. [kW]"""
    profile: str = ""
    """Name of a profile; empty: drawn among the solar profiles of the data set."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the range."""
        yield from super().mistakes()
        yield from _ordered(self, "kw_peak", 1000)


class BatteryRule(_Rule):
    """Give a battery to homes without one."""

    give: Literal["battery"]
    """What the rule gives."""
    kwh: Range = (5.0, 10.0)
    """Usable energy, drawn between these. [kWh]"""
    hours: Annotated[float, Field(strict=True, ge=0.1, le=100)] = HOURS_OF_STORAGE
    """Energy over power."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the range."""
        yield from super().mistakes()
        yield from _ordered(self, "kwh", 10_000)


class EvRule(_Rule):
    """Give a car and a charging point to homes without one."""

    give: Literal["ev"]
    """What the rule gives."""
    kw: Range = (11.0, 11.0)
    """Rating of the charging point, drawn between these. [kW]"""
    cars: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """Cars per home."""
    v2g: Switch = False
    """Whether the car may feed back."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the range."""
        yield from super().mistakes()
        yield from _ordered(self, "kw", 1000)


class HeatPumpRule(_Rule):
    """Give a heat pump to homes without one."""

    give: Literal["heat_pump"]
    """What the rule gives."""
    kw: Range = (2.0, 5.0)
    """Nameplate in electrical power, drawn between these. [kW]"""
    profile: str = ""
    """Name of a profile; empty: drawn among the heat pump profiles of the data set."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the range."""
        yield from super().mistakes()
        yield from _ordered(self, "kw", 1000)


class TariffRule(_Rule):
    """Put homes that name no tariff on a tariff."""

    give: Literal["tariff"]
    """What the rule gives."""
    tariff: Id
    """Id of the tariff."""


Rule = Annotated[SolarRule | BatteryRule | EvRule | HeatPumpRule | TariffRule, Field(discriminator="give")]


class PeopleSpec(Spec):
    """Who takes part."""

    from_: Literal["grid", "list", "table"] = Field(default="grid", alias="from")
    """Where the homes come from: the data set of the grid, the list under homes, or the table. Where it is not given, homes or table decide."""
    table: FileName | None = None
    """CSV or Parquet file with one home a row."""
    homes: tuple[Home, ...] = ()
    """The homes, where they come from the list."""
    rules: tuple[Rule, ...] = ()
    """Devices for homes that have none, drawn with the scenario's seed, in this order."""
    load_profile: str = ""
    """Profile of every load that names none; empty: such a load is constant. Data sets other than SimBench's bring no profiles."""
    load_shift_minutes: Annotated[float, Field(strict=True, ge=0, le=720)] = 45.0
    """Homes that share a load profile with others live it earlier or later by at most this much, drawn uniformly and rounded to the interval."""
    solar_peak_kw_per_kw_peak: Annotated[float, Field(strict=True, gt=0, le=1.5)] | None = 0.85
    """Solar profiles of the grid's data set are scaled so that their highest value in the year is this; null: as shipped. SimBench ships 0.6."""
    heat_buffer_hours: Annotated[float, Field(strict=True, ge=0, le=48)] = 2.0
    """Heat buffer of every heat pump, in hours of its rated power."""
    battery_efficiency_charge: Efficiency = 0.95
    """Share of the charged energy that gets into a home's battery."""
    battery_efficiency_discharge: Efficiency = 0.95
    """Share of the energy taken from a home's battery that comes out."""

    battery_wear_eur_per_kwh: Money = 0.0
    """Wear of a home's battery, per kWh charged and per kWh discharged: counted in every plan, paid to nobody."""

    @model_validator(mode="before")
    @classmethod
    def _told_by_what_is_there(cls, data: Any) -> Any:
        if isinstance(data, dict) and "from" not in data and "from_" not in data:
            if data.get("homes"):
                return {**data, "from": "list"}
            if data.get("table"):
                return {**data, "from": "table"}
            if isinstance(data.get("homes"), list | tuple):  # empty, and said so: not "those of the grid"
                return {**data, "from": "list"}
        return data

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check that there is one source of homes and that it is there, and that no id occurs twice."""
        if self.from_ != "table" and self.table is not None:
            yield ("table",), f'is given, but the homes come from the {self.from_}; write "from: table" or remove it'
        if self.from_ == "table" and self.table is None:
            yield ("from",), 'is "table", but no "table" is named'
        if self.from_ != "list" and self.homes:
            yield ("homes",), f'are given, but the homes come from the {self.from_}; write "from: list" or remove them'
        if self.from_ == "list" and not self.homes:
            if "homes" in self.model_fields_set:
                yield (
                    ("homes",),
                    "is empty: a run needs at least one home; leave the key out to take the homes of the grid",
                )
            else:
                yield ("from",), 'is "list", but there are no "homes": a run needs at least one home'
        first: dict[str, int] = {}
        for i, home in enumerate(self.homes):
            if home.id in first:
                yield ("homes", i, "id"), f'"{home.id}" is the id of homes.{first[home.id]} already'
            first.setdefault(home.id, i)


class AggregatorSpec(Spec):
    """Somebody who passes on what homes trade, and invoices a fee."""

    id: Id
    """Its name."""
    fee_eur_per_day: Money = 0.0
    """Fee of every member for every day."""
    members: tuple[Id, ...] = ()
    """These homes are members."""
    share: Share | None = None
    """This share of all homes are members, drawn among those that nobody names."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse members and a share at once."""
        if self.share is not None and self.members:
            yield (), 'needs "members" or "share", not both'
        if len(set(self.members)) < len(self.members):
            yield ("members",), "names a home twice"
