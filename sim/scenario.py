"""The scenario: what a person writes, read and checked as a whole.

This is the only place with pydantic; behind it are frozen dataclasses and arrays. A file is YAML 1.2. All its mistakes are told at once,
each with file, line and column::

    village.yaml:12:9: market.gate: must be a clock time in quotes, such as "22:00"; given 660, which is not a text.

Everything has a default, so a scenario of a few lines runs; :func:`dump` writes it out with nothing implied. What a scenario refers to
(grid, profiles, tables) is read by :mod:`sim.resolve`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from sim.scenario_base import Id, clock
from sim.scenario_document import Written, changes, understood
from sim.scenario_file import Loc, ScenarioError, read
from sim.scenario_mistakes import nearest, with_units
from sim.scenario_money import EMISSION_UNIT, PRICE_UNIT, SeriesSpec, TariffSpec, default_series
from sim.scenario_people import AggregatorSpec, PeopleSpec
from sim.scenario_sections import (
    DsoSpec,
    EssSpec,
    ForecastSpec,
    GridSpec,
    MarketSpec,
    ProfilesSpec,
    ReportSpec,
    SettlementSpec,
    TimeSpec,
    VehicleSpec,
)

__all__ = ["RESERVED", "Scenario", "ScenarioError", "demo_path", "dump", "json_schema", "load", "template"]

USUAL_UNITS = {"spot": PRICE_UNIT, "emission_factor": EMISSION_UNIT}
"""Of the series that every scenario has; key figures and the report read them by their names."""
RESERVED = ("retailer", "dso", "state", "community")
"""Names of accounts that are no home's, aggregator's or storage's."""


class Scenario(Written):
    """One run: a feeder, its people, a market, and how long to look at them."""

    name: Id = "scenario"
    """What the run is called in reports."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 0
    """Of all random numbers: the same seed gives the same run."""
    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")] = "eur"
    """Three small letters; every key that says eur means this currency."""
    time: TimeSpec = TimeSpec()
    """When the run begins and how long it lasts."""
    grid: GridSpec = GridSpec()
    """The feeder and its limits."""
    profiles: ProfilesSpec = ProfilesSpec()
    """Profiles besides those of the grid's data set."""
    people: PeopleSpec = PeopleSpec()
    """Who takes part, with what."""
    aggregators: tuple[AggregatorSpec, ...] = ()
    """Who trades for others."""
    tariffs: dict[Id, TariffSpec] = Field(default={"dynamic": TariffSpec()}, min_length=1)
    """By their ids; the first is for everybody who is on no other."""
    series: dict[Id, SeriesSpec] = Field(default_factory=default_series)
    """By their ids: the spot price, the emission factor, and what else tariffs follow."""
    storage: Annotated[tuple[EssSpec, ...], Field(max_length=1)] = ()
    """The shared storage; none or one."""
    market: MarketSpec = MarketSpec()
    """How energy and storage rights change hands."""
    dso: DsoSpec = DsoSpec()
    """What the operator of the grid does."""
    settlement: SettlementSpec = SettlementSpec()
    """How differences are shared."""
    forecasts: ForecastSpec = ForecastSpec()
    """How well people forecast."""
    vehicles: VehicleSpec = VehicleSpec()
    """How cars are used."""
    report: ReportSpec = ReportSpec()
    """How the report is written."""

    @model_validator(mode="before")
    @classmethod
    def _usual_series(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("series"), dict):
            return {**data, "series": {**default_series(), **data["series"]}}
        return data

    def __eq__(self, other: object) -> bool:
        """Equal in content; where it was read from does not count."""
        return isinstance(other, Scenario) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]  # Python's way to say that it cannot be hashed

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check what concerns more than one part."""
        yield from self._times()
        yield from self._references()
        yield from self._names()
        yield from self._prices()

    def _times(self) -> Iterator[tuple[Loc, str]]:
        def before_delivery(at: str) -> int:
            begin, moment = clock(self.time.delivery_day_start), clock(at)
            return ((begin.hour - moment.hour) * 60 + begin.minute - moment.minute - 1) % 1440 + 1

        if before_delivery(self.dso.publish) <= before_delivery(self.market.gate):
            yield (
                ("dso", "publish"),
                (
                    f'must come before the gate ("{self.market.gate}"), which is the last before delivery begins '
                    f'("{self.time.delivery_day_start}"); given "{self.dso.publish}"'
                ),
            )
        grid = self.time.interval_minutes
        for tariff_id, tariff in self.tariffs.items():
            for loc, edge in tariff.edges():
                if edge != "24:00" and clock(edge).minute % grid:
                    yield (
                        ("tariffs", tariff_id, *loc),
                        (
                            f'must lie on the grid of {grid} minutes; given "{edge}". An interval has one price: move the edge, or '
                            f"shorten time.interval_minutes to {math.gcd(clock(edge).minute, grid)}"
                        ),
                    )

    def _references(self) -> Iterator[tuple[Loc, str]]:
        tariffs, aggregators = list(self.tariffs), [a.id for a in self.aggregators]
        for tariff_id, tariff in self.tariffs.items():
            for component, series in tariff.series():
                if series not in self.series:
                    yield ("tariffs", tariff_id, component, "series"), _unknown("series", series, list(self.series))
                elif (unit := self.series[series].unit_of_series) != PRICE_UNIT:
                    yield (
                        ("tariffs", tariff_id, component, "series"),
                        f'series "{series}" is in {unit}; a price is needed, in {PRICE_UNIT}',
                    )
        for name, unit in USUAL_UNITS.items():
            if name in self.series and self.series[name].unit_of_series != unit:
                yield (
                    ("series", name),
                    f"is in {self.series[name].unit_of_series}, but under this name {unit} are expected; give such a unit, or another name",
                )
        for i, home in enumerate(self.people.homes):
            if home.tariff and home.tariff not in self.tariffs:
                yield ("people", "homes", i, "tariff"), _unknown("tariff", home.tariff, tariffs)
            if home.aggregator and home.aggregator not in aggregators:
                yield ("people", "homes", i, "aggregator"), _unknown("aggregator", home.aggregator, aggregators)
        for i, rule in enumerate(self.people.rules):
            if rule.give == "tariff" and rule.tariff not in self.tariffs:
                yield ("people", "rules", i, "tariff"), _unknown("tariff", rule.tariff, tariffs)
        for i, ess in enumerate(self.storage):
            if ess.tariff and ess.tariff not in self.tariffs:
                yield ("storage", i, "tariff"), _unknown("tariff", ess.tariff, tariffs)
        if sum(a.share or 0.0 for a in self.aggregators) > 1.0 + 1e-9:
            yield (
                ("aggregators",),
                f"take {sum(a.share or 0.0 for a in self.aggregators):g} of all homes together; at most 1 is there",
            )

    def _names(self) -> Iterator[tuple[Loc, str]]:
        taken: dict[str, str] = {}
        named: list[tuple[Loc, str, str]] = [
            *((("aggregators", i, "id"), a.id, "an aggregator") for i, a in enumerate(self.aggregators)),
            *((("storage", i, "id"), e.id, "a storage") for i, e in enumerate(self.storage)),
            *((("people", "homes", i, "id"), h.id, "a home") for i, h in enumerate(self.people.homes)),
        ]
        for loc, name, what in named:
            if name in RESERVED:
                yield loc, f'"{name}" is the name of an account of its own; choose another'
            elif taken.get(name, what) != what or (name in taken and what != "a home"):
                yield loc, f'"{name}" is already the id of {taken[name]}; ids of homes, aggregators and storages differ'
            taken.setdefault(name, what)

    def _prices(self) -> Iterator[tuple[Loc, str]]:
        """Notice prices in cents, or per MWh; only where a kWh is known to cost less than one unit of the currency."""
        if self.currency not in {"eur", "usd", "gbp", "chf", "cad", "aud", "nzd"}:
            return
        data = self.model_dump(by_alias=True, include={"tariffs", "storage", "series"})
        for loc, value in _numbers(data, ()):
            key = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
            if key.endswith("_per_kwh") and abs(value) > 5:
                yield (
                    loc,
                    f"of {value:g} {self.currency} per kWh cannot be meant; prices are in {self.currency} per kWh, not in cents or per MWh",
                )


def _numbers(data: Any, loc: Loc) -> Iterator[tuple[Loc, float]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _numbers(value, (*loc, key))
    elif isinstance(data, list | tuple):
        for i, value in enumerate(data):
            yield from _numbers(value, (*loc, i))
    elif isinstance(data, float):
        yield loc, data


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    return f'"{name}" is not a {what} of the scenario; {nearest(name, known)}'


def load(path: str | Path, sets: Sequence[str] = (), seed: int | None = None, days: int | None = None) -> Scenario:
    """Read a scenario, or raise :class:`ScenarioError` with every mistake and its place.

    Parameters
    ----------
    path
        The YAML file.
    sets
        Assignments such as ``"storage.0.energy_kwh=300"``; the values are YAML.
    seed, days
        Instead of the file's ``seed`` and ``time.days``.
    """
    return understood(Scenario, read(path), changes(sets, seed=("seed", seed), days=("time.days", days)))


def dump(scenario: Scenario) -> str:
    """Return the scenario as YAML with nothing implied: equal scenarios give equal bytes, and reading it gives the same scenario."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    def quoted(value: Any) -> Any:
        if isinstance(value, str):
            return DoubleQuotedScalarString(value)
        if isinstance(value, dict):
            return {str(key): quoted(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [quoted(v) for v in value]
        return value

    yaml = YAML(typ="rt", pure=True)
    yaml.default_flow_style = False
    yaml.width = 10_000
    yaml.representer.add_representer(type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null"))
    stream = io.StringIO()
    yaml.dump(quoted(scenario.model_dump(mode="python", by_alias=True)), stream)
    return stream.getvalue()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of scenarios; every quantity carries its ``unit``."""
    schema = Scenario.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **with_units(schema)}


def template() -> str:
    """Return a commented scenario to start from."""
    return (demo_path().parent / "template.yaml").read_text(encoding="utf-8")


def demo_path() -> Path:
    """Return the scenario of the demo."""
    return Path(__file__).parent / "scenarios" / "demo.yaml"
