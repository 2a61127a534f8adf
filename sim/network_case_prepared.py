"""From a case of the network to the arrays that :mod:`network` calculates with.

Customers are the connections of the grid in its order, then the further ones of the file, then those of ``each``.  Powers are
injections here: what is drawn is negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from network.acflow import FlowError, Model
from network.envelope import Limits
from network.feeder import Feeder, FeederError
from network.grid import Connections, Grid
from network.held import HeldError
from sim.network_case import CustomerSpec, NetworkCase
from sim.network_case_tables import customers_of_table, powers_of_table, rows_of_table
from sim.resolve_data import grid_of, profiles_of, times_of, told_at
from sim.scenario_file import ScenarioError
from sim.scenario_mistakes import nearest

__all__ = ["Prepared", "prepared"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
T = TypeVar("T")

LOW_VOLTAGE_V = 1000.0
EXPORT_CAP_KW = {"low": 10.0, "high": 500.0}
IMPORT_CAP_KW = {"low": 14.0, "high": 500.0}
"""What a customer could use where the case does not say, below and above 1 kV."""


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A case as arrays: c customers, T intervals."""

    case: NetworkCase

    grid: Grid
    """The feeder as it was read, with the data set's connections."""

    model: Model
    """The feeder with the c customers."""

    ids: tuple[str, ...]
    """Of the customers."""

    phases: tuple[str, ...]
    """"a", "b", "c" or "abc" of each customer."""

    active: Mask
    """Who gets an envelope.  Shape (c,)."""

    export_cap_kw: Vector
    """What each could feed in at most.  Shape (c,). [kW]"""

    import_cap_kw: Vector
    """What each could draw at most.  Shape (c,). [kW]"""

    connection_order: Index
    """Who was connected first has the lowest number.  Shape (c,)."""

    base_injection_kw: Vector
    """Base load as an injection (negative: drawn).  Shape (c, T). [kW]"""

    base_injection_kvar: Vector
    """Likewise.  Shape (c, T). [kvar]"""

    limits: Limits
    """What the network must keep."""

    source_v_pu: float | None
    """Voltage behind the source impedance; None: as the feeder says. [p.u.]"""

    times: NDArray[np.datetime64]
    """Starts of the intervals, UTC.  Shape (T,)."""

    interval_minutes: int

    @property
    def feeder(self) -> Feeder:
        """The feeder."""
        return self.model.feeder

    @property
    def dt_h(self) -> float:
        """Length of an interval. [h]"""
        return self.interval_minutes / 60.0


def prepared(case: NetworkCase) -> Prepared:
    """Read what a case names and return its arrays; raises :class:`ScenarioError` with every mistake and its place.

    What can be read is checked whatever else cannot: the grid, the customers' table, the customers against the grid, the
    intervals.  Only a base load waits until it is known whose it is.
    """
    mistakes: list[str] = []
    grid = _tried(partial(grid_of, case), mistakes)
    mistakes += _missing_files(case)
    told = _customers(case, grid, mistakes)
    times = _tried(partial(_times, case), mistakes)
    if mistakes or grid is None or times is None:
        raise ScenarioError(mistakes)
    ids = tuple(one.id for one in told)
    feeder, connections = grid.feeder, grid.connections
    known = {name: k for k, name in enumerate(connections.id)}
    row = np.array([known.get(one.id, -1) for one in told], dtype=np.intp)
    bus = [feeder.bus_index(one.bus) if one.bus else int(connections.bus[k]) for one, k in zip(told, row, strict=True)]
    phases = tuple(one.phase or (connections.phase[k] if k >= 0 else "abc") for one, k in zip(told, row, strict=True))
    try:
        model = Model(feeder, bus, phases, grid.held)
    except (FlowError, FeederError, HeldError) as error:
        raise ScenarioError([f"{case.place('customers')}: customers: {error}"]) from error

    drawn, reactive = _base_load(case, connections, told, row, times)
    low = feeder.buses.v_nominal_v[model.connection_bus] < LOW_VOLTAGE_V
    caps = [
        np.array([_first(getattr(one, key), getattr(case.customers, key), at["low" if is_low else "high"])
                  for one, is_low in zip(told, low, strict=True)])
        for key, at in (("export_cap_kw", EXPORT_CAP_KW), ("import_cap_kw", IMPORT_CAP_KW))
    ]  # fmt: skip
    passive = set(case.customers.passive)
    return Prepared(
        case=case,
        grid=grid,
        model=model,
        ids=ids,
        phases=phases,
        active=np.array([one.id not in passive if one.envelope is None else one.envelope for one in told], dtype=bool),
        export_cap_kw=caps[0],
        import_cap_kw=caps[1],
        connection_order=np.array(
            [k if one.connection_order is None else one.connection_order for k, one in enumerate(told)], dtype=np.intp
        ),
        base_injection_kw=-drawn,
        base_injection_kvar=-reactive,
        limits=_limits(case, feeder),
        source_v_pu=case.grid.source_v_pu,
        times=times,
        interval_minutes=case.time.interval_minutes,
    )


def _tried(read: Callable[[], T], mistakes: list[str]) -> T | None:
    """Return what is read, or None, and note why."""
    try:
        return read()
    except ScenarioError as error:
        mistakes += error.mistakes
    return None


def _missing_files(case: NetworkCase) -> list[str]:
    """Return a sentence for each table that is named and not there."""
    named = (
        (("customers", "file"), case.customers.file),
        (("base_load", "file"), case.base_load.file),
        (("base_load", "reactive_file"), case.base_load.reactive_file),
    )
    return [
        f"{case.place(*loc)}: {'.'.join(loc)}: {name} is not there; it is looked for at {case.file(name)}."
        for loc, name in named
        if name is not None and not case.file(name).is_file()
    ]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _customers(case: NetworkCase, grid: Grid | None, mistakes: list[str]) -> list[CustomerSpec]:
    """Return one entry for each customer, and note the mistakes in who they are; without a grid, those that are mistakes on any."""
    spec = case.customers
    listed: list[tuple[str, CustomerSpec]] = []
    whole = True
    if spec.file is not None and (whole := case.file(spec.file).is_file()):
        listed, wrong = customers_of_table(case.file(spec.file), spec.file)
        mistakes += wrong
        whole = not wrong
    listed += [(case.place("customers", "each", k), one) for k, one in enumerate(spec.each)]
    told_at_place = dict[str, str]()
    for place, one in listed:
        if one.id in told_at_place:
            mistakes.append(f'{place}: "{one.id}" is told at {told_at_place[one.id]} already.')
        told_at_place.setdefault(one.id, place)
    if grid is None:
        return []
    of_grid, buses = grid.connections.id, set(grid.feeder.buses.ids)
    by_id: dict[str, CustomerSpec] = {name: CustomerSpec(id=name) for name in of_grid} if spec.from_ == "grid" else {}
    for place, one in listed:
        if one.bus and one.bus not in buses:
            mistakes.append(f'{place}: there is no bus "{one.bus}"; {nearest(one.bus, grid.feeder.buses.ids)}')
        if not one.bus and one.id not in of_grid:
            advice = f"give it a bus, or write the id of a connection; {nearest(one.id, of_grid)}"
            mistakes.append(f'{place}: "{one.id}" is no connection of the grid and has no bus: {advice}')
        by_id[one.id] = one
    for k, name in enumerate(spec.passive):
        if name not in by_id and whole:  # or it may be one of those that could not be read
            place = case.place("customers", "passive", k)
            mistakes.append(f'{place}: customers.passive.{k}: "{name}" is no customer; {nearest(name, list(by_id))}')
    if not by_id and whole and not mistakes:
        mistakes.append(
            f"{case.place('customers')}: the feeder has no connections; tell customers with a bus under customers.each."
        )
    return list(by_id.values())


def _times(case: NetworkCase) -> NDArray[np.datetime64]:
    """Return the starts of the intervals, UTC.  Shape (T,)."""
    days = times_of(case)
    count, base = case.time.intervals, case.base_load
    if count is None:
        count = 1
        if "days" in case.time.model_fields_set:
            count = len(days)
        elif base.from_ == "table" and base.file is not None and case.file(base.file).is_file():
            count = rows_of_table(case.file(base.file), base.file, case.place("base_load", "file"))
    return np.asarray(days[0] + np.arange(count) * np.timedelta64(case.time.interval_minutes * 60, "s"))


def _base_load(
    case: NetworkCase, connections: Connections, told: Sequence[CustomerSpec], row: Index, times: NDArray[np.datetime64]
) -> tuple[Vector, Vector]:
    """Return what customers draw.  Shape (c, T) both. [kW, kvar]"""
    spec = case.base_load
    shape = (len(told), len(times))
    drawn, reactive = np.zeros(shape), np.zeros(shape)
    ours = np.flatnonzero(row >= 0)
    if spec.from_ == "table" and spec.file is not None:
        free = [one.id for one in told if one.base_kw is None]
        rows = np.array([k for k, one in enumerate(told) if one.base_kw is None], dtype=np.intp)
        drawn[rows] = powers_of_table(case.file(spec.file), spec.file, case.place("base_load", "file"), free, shape[1])
        if spec.reactive_file is not None:
            place = case.place("base_load", "reactive_file")
            reactive[rows] = powers_of_table(case.file(spec.reactive_file), spec.reactive_file, place, free, shape[1])
    elif spec.from_ in ("nameplate", "profiles"):
        drawn[ours], reactive[ours] = _of_data_set(case, connections, row[ours], times)
    if spec.power_factor is not None:
        reactive = np.maximum(drawn, 0.0) * np.tan(np.arccos(spec.power_factor))
    drawn, reactive = drawn * spec.factor, reactive * spec.factor
    for k, one in enumerate(told):
        if one.base_kw is not None:
            drawn[k], reactive[k] = one.base_kw, 0.0
        if one.base_kvar is not None:
            reactive[k] = one.base_kvar
    return drawn, reactive


def _of_data_set(
    case: NetworkCase, connections: Connections, row: Index, times: NDArray[np.datetime64]
) -> tuple[Vector, Vector]:
    """Return what connections of the data set draw: nameplates, times their profiles where these are asked for."""
    terms = [("base_kw", "profile", 1.0, 0), ("base_kvar", "reactive_profile", 1.0, 1)]
    if "heat_pump" in case.base_load.devices:
        terms += [("heat_pump_kw", "heat_pump_profile", 1.0, 0),
                  ("heat_pump_kvar", "heat_pump_reactive_profile", 1.0, 1)]  # fmt: skip
    if "ev" in case.base_load.devices:
        terms.append(("ev_kw", "ev_profile", 1.0, 0))
    if "pv" in case.base_load.devices:
        terms.append(("pv_kw_peak", "pv_profile", -1.0, 0))
    both = (np.zeros((len(row), len(times))), np.zeros((len(row), len(times))))
    store = profiles_of(case) if case.base_load.from_ == "profiles" else None
    for name, profile, sign, which in terms:
        plate: Vector = getattr(connections, name)[row] * sign
        shape = np.ones((len(row), 1))
        if store is not None:
            names = [getattr(connections, profile)[k] if plate[at] else "" for at, k in enumerate(row)]
            where = told_at(partial(store.index, names), case, "base_load", "from")
            shape = store.window(where, times[0], len(times), interval_minutes=case.time.interval_minutes)
        both[which][:] += plate[:, None] * shape
    return both


def _limits(case: NetworkCase, feeder: Feeder) -> Limits:
    """Return the limits of the grid."""
    v, grid = feeder.buses.v_nominal_v, case.grid
    monitored = np.ones(feeder.n_bus, dtype=bool)
    if grid.monitored == "low_voltage":
        below = v <= v[feeder.source_bus] / 2
        monitored = below if below.any() else np.arange(feeder.n_bus) != feeder.source_bus
    return Limits(grid.v_min_pu, grid.v_max_pu, grid.loading_max_percent, monitored)
