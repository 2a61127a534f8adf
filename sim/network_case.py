"""A case of the network alone: a feeder, its customers, an hour or a year of operating points, no market and no simulation.

``commonwatt network`` works on it.  It is written and read as a scenario is (YAML 1.2, unknown keys refused, all mistakes at once
with file, line and column), and its sections are those of a scenario where both have them: a scenario's ``grid:``, ``time:`` and
``profiles:`` may be pasted.  A feeder that is no YAML file but a source (``simbench:…``, ``pandapower:…``, a folder, a file) is
a case with all defaults.

:mod:`sim.network_case_prepared` turns it into the arrays that :mod:`network` calculates with.  What single commands need besides
is a section of its own, a model in a file of its own: ``sim/network_case_<section>.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from sim.network_case_envelopes import EnvelopesSpec
from sim.network_case_hosting import HostingSpec
from sim.network_case_validation import ValidationSpec
from sim.scenario_base import Count, FeederKw, FileName, Id, Spec, Switch
from sim.scenario_document import Written, changes, understood
from sim.scenario_file import Document, Loc, Source, read
from sim.scenario_mistakes import with_units
from sim.scenario_sections import GridSpec, ProfilesSpec, TimeSpec

__all__ = [
    "NETWORK_CASE",
    "BaseLoadSpec",
    "CustomerSpec",
    "CustomersSpec",
    "NetworkCase",
    "NetworkGridSpec",
    "NetworkTimeSpec",
    "json_schema",
    "load",
]

NETWORK_CASE = Document(
    name="network case",
    sections='"grid:" and "customers:"',
    paths=("customers.export_cap_kw", "grid.v_max_pu"),
    assignment="grid.v_max_pu=1.05",
    to_begin="examples/network holds cases to start from.",
    most="put the customers into a table beside the file",
)
YAML_ENDINGS = (".yaml", ".yml")
Phase = Literal["a", "b", "c", "abc"]
Device = Literal["heat_pump", "ev", "pv"]
MOST_INTERVALS = 600_000


class NetworkGridSpec(GridSpec):
    """The feeder and its limits."""

    source_v_pu: Annotated[float, Field(strict=True, ge=0.5, le=1.5)] | None = None
    """Voltage behind the source impedance; null: as the feeder says."""
    monitored: Literal["all", "low_voltage"] = "low_voltage"
    """Buses whose voltage is limited. low_voltage: those below the transformer, or all but the source where there is none, as in a scenario; all: every one."""


class CustomerSpec(Spec):
    """A customer who differs from the others, or one more."""

    id: Id
    """Of a connection of the grid; another name is a further customer, who needs a "bus"."""
    bus: str = ""
    """Bus of a further customer; empty: the connection's."""
    phase: Phase | None = None
    """a, b, c or abc; null: the connection's, abc for a further customer."""
    envelope: Switch | None = None
    """Whether it gets an envelope; null: unless it is among the passive ones."""
    export_cap_kw: FeederKw | None = None
    """What it could feed in at most; null: as all."""
    import_cap_kw: FeederKw | None = None
    """What it could draw at most; null: as all."""
    connection_order: Count | None = None
    """Who was connected first has the lowest number, for rules by seniority; null: its place in the list."""
    base_kw: Annotated[float, Field(strict=True, ge=-100_000, le=100_000)] | None = None
    """Base load, drawn positive, the same in every interval; null: as "base_load" says."""
    base_kvar: Annotated[float, Field(strict=True, ge=-100_000, le=100_000)] | None = None
    """Its reactive power, drawn positive; null: as "base_load" says, 0 beside a base_kw of its own."""


class CustomersSpec(Spec):
    """Who is connected, and what they could do at most."""

    from_: Literal["grid", "list"] = Field(default="grid", alias="from")
    """grid: every connection of the data set, besides those that are told here; list: those that are told here alone."""
    export_cap_kw: FeederKw | None = None
    """What each could feed in at most; null: 10 at low voltage, 500 above."""
    import_cap_kw: FeederKw | None = None
    """What each could draw at most; null: 14 at low voltage, 500 above."""
    passive: tuple[Id, ...] = ()
    """Customers without an envelope, by id; they stay at their base load."""
    file: FileName | None = None
    """A CSV table with the keys of "each" as columns, one customer a line."""
    each: tuple[CustomerSpec, ...] = ()
    """Customers who differ, or further ones."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a name twice, and a list of nobody."""
        first: dict[str, int] = {}
        for k, one in enumerate(self.each):
            if one.id and one.id in first:
                yield ("each", k, "id"), f'"{one.id}" is the id of customers.each.{first[one.id]} already'
            first.setdefault(one.id, k)
        if self.from_ == "list" and not self.each and self.file is None:
            yield ("from",), 'is list, but nobody is told; give "each" or a "file"'


class BaseLoadSpec(Spec):
    """What customers draw in the intervals, whatever their envelopes are used for."""

    from_: Literal["none", "nameplate", "profiles", "table"] = Field(default="nameplate", alias="from")
    """none; nameplate: the data set's figure, the same in every interval; profiles: times its profile; table: a CSV of your own."""
    file: FileName | None = None
    """Of a table: a column of kW for every customer, named by its id, one line per interval; a column "time" is not read."""
    reactive_file: FileName | None = None
    """Likewise in kvar; null: by the power factor."""
    factor: Annotated[float, Field(strict=True, ge=0, le=1000)] = 1.0
    """What every figure is multiplied by."""
    power_factor: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    """Of what is drawn, lagging; null: reactive power as the data says, none beside a table."""
    devices: tuple[Device, ...] = ()
    """Devices of the data set that count as base load too: heat_pump, ev, pv (which feeds in)."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check that files are given where they are used, and only there."""
        if self.from_ == "table" and self.file is None:
            yield (), 'is from a table; it needs "file"'
        for key in ("file", "reactive_file"):
            if self.from_ not in ("table", "") and getattr(self, key) is not None:
                yield (key,), f'is given, but the base load is from {self.from_}; remove it, or write "from: table"'
        if self.reactive_file is not None and self.power_factor is not None:
            yield ("power_factor",), "and reactive_file say the same thing twice; remove one"
        if self.from_ == "table" and self.devices:
            yield ("devices",), "are in the data set, and the table replaces it; put them into the table"


class NetworkTimeSpec(TimeSpec):
    """When the operating points are; times matter to profiles alone."""

    intervals: Annotated[int, Field(strict=True, ge=1, le=MOST_INTERVALS)] | None = None
    """How many; null: all of the days where "days" is given, as many as a base load's table has lines, else one."""


class NetworkCase(Written):
    """A feeder, its customers and its operating points."""

    name: Id = "case"
    """What it is called in results."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 0
    """Of all random numbers: the same seed gives the same figures."""
    grid: NetworkGridSpec = NetworkGridSpec()
    """The feeder and its limits."""
    customers: CustomersSpec = CustomersSpec()
    """Who is connected, and what they could do at most."""
    base_load: BaseLoadSpec = BaseLoadSpec()
    """What customers draw in the intervals, whatever their envelopes are used for."""
    time: NetworkTimeSpec = NetworkTimeSpec()
    """When the operating points are; times matter to profiles alone."""
    profiles: ProfilesSpec = ProfilesSpec()
    """Profiles besides those of the grid's data set."""

    # Sections of single commands follow, each a model from sim/network_case_<section>.py with a default.
    envelopes: EnvelopesSpec = EnvelopesSpec()
    """How `commonwatt network envelopes` computes them."""
    validation: ValidationSpec = ValidationSpec()
    """What is tried against the envelopes by `commonwatt network validate`."""
    hosting: HostingSpec = HostingSpec()
    """What `commonwatt network hosting` adds at random customers until the first limit is met."""

    _source: Source = PrivateAttr(default_factory=lambda: Source("case", Path(), document=NETWORK_CASE))

    __hash__ = None  # type: ignore[assignment]  # Python's way to say that it cannot be hashed


def load(feeder: str | Path, sets: Sequence[str] = (), seed: int | None = None) -> NetworkCase:
    """Read a case, or make one of a source; raises :class:`sim.scenario_file.ScenarioError` with every mistake and its place.

    Parameters
    ----------
    feeder
        A YAML file (``.yaml``, ``.yml``), or a source as :func:`network.sources.read` takes it: a case with all defaults.
    sets
        Assignments such as ``"grid.v_max_pu=1.05"``; the values are YAML.
    seed
        Instead of the file's.
    """
    text = str(feeder)
    if text.endswith(YAML_ENDINGS):
        source = read(feeder, NETWORK_CASE)
    else:
        name = Path(text).name if Path(text).exists() else text.rpartition(":")[2]
        data = {"name": name.strip() or "case", "grid": {"source": text}}
        source = Source(text, Path(), data=data, where={(): text}, document=NETWORK_CASE)
    return understood(NetworkCase, source, changes(sets, seed=("seed", seed)))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of network cases; every quantity carries its ``unit``."""
    schema = NetworkCase.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **with_units(schema)}
