"""The sums behind the key figures, streamed from the tables of one folder of a run.

Whatever the length of a run, one row group is in memory at a time, and one number per interval.  An interval whose power
flow did not converge has no losses and no voltages; it is left out of sums and extremes and counted as outside limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.rows import ResultsError

__all__ = ["HELD_BY", "Sums", "read"]

Vector = NDArray[np.float64]

GRID_BREACHES = ("over_voltage", "under_voltage", "overload", "not_converged")
HELD_BY = ("envelope", "default", "ramp")
"""What can hold a meter: the envelope in force, a default where no message is, a limit on its way."""
SPOT = "spot"
"""The series at which the retailer buys and sells above."""


@dataclass(slots=True, eq=False)
class Sums:
    """What one world adds up to; arrays have shape (T,). [kW]"""

    dt_h: float
    members: list[str]
    net_kw: Vector
    """Sum of all meters."""
    loss_kw: Vector
    load_kw: float
    """Sums over members and intervals, as the three below. [kW]"""
    pv_kw: float
    available_kw: float
    curtailed_kw: float
    battery_kw: float
    """Charging plus discharging of the members' own batteries."""
    curtailed_kwh_of: dict[str, float]
    clipped_kwh_by: dict[str, float]
    """Solar energy turned down, by what held the meter: envelope, default, ramp."""
    deferred_kwh_by: dict[str, float]
    """Load of car and heat pump held back, likewise."""
    v_max_pu: float
    v_min_pu: float
    max_loading_percent: float
    intervals_outside: int
    spot_eur_per_kwh: Vector
    """NaN where the run has no such series. [eur/kWh]"""
    through_kwh: float
    """Of the shared ESS: Σ (η_c C + R/η_d) Δ."""
    ess_kwh: float
    rented_kwh_h: float
    ess_wear_eur: float
    traded_kwh: float
    exchanged_kwh: float
    """Volume of all stages, and what was paid for it."""
    exchanged_eur: float
    bill_eur: dict[str, float]
    """To pay, of every account."""
    cost_of_period: dict[str, float]
    """The members' bills together."""
    role_of: dict[str, str]


def read(folder: Path, section: str, dt_h: float) -> Sums:
    """Add up one world.

    Parameters
    ----------
    folder
        The run.
    section
        ``tables``, ``reference`` or ``ex_post``, which has the meters of ``tables`` and books of its own.
    dt_h
        Length of an interval. [h]
    """
    physical = folder / ("tables" if section == "ex_post" else section)
    agents = _whole(physical, "agents", ("agent_id", "role"))
    role_of = dict(zip(agents["agent_id"], agents["role"], strict=True))
    members = sorted(name for name, role in role_of.items() if role == "prosumer")
    grid = _Grid(physical, dt_h)
    books = _Books(folder / section, set(members))
    sums = Sums(
        dt_h=dt_h,
        members=members,
        role_of=role_of,
        bill_eur=books.bill_eur,
        cost_of_period=books.cost_of_period,
        exchanged_kwh=books.exchanged_kwh,
        exchanged_eur=books.exchanged_eur,
        traded_kwh=books.bought_kwh if section == "ex_post" else _sold_kwh(physical, dt_h),
        **_meters(physical, grid),
        **_held(physical, dt_h),
        **_flows(physical, grid),
        **_storage(physical, dt_h),
    )
    return sums


def _columns(folder: Path, table: str, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield columns a row group at a time: numbers as arrays, times as int64 microseconds, texts as (codes, names)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / f"{table}.parquet"
    try:
        with pq.ParquetFile(file) as parquet:
            texts = [name for name in columns if pa.types.is_string(parquet.schema_arrow.field(name).type)]
        with pq.ParquetFile(file, read_dictionary=texts) as parquet:
            for batch in parquet.iter_batches(batch_size=1 << 16, columns=list(columns)):
                yield {name: _array(batch.column(name)) for name in columns}
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ResultsError(
            f"The key figures need {file}, which cannot be read: {str(error).splitlines()[0]}"
        ) from error


def _array(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        return np.from_dlpack(column.indices), np.array(column.dictionary.to_pylist(), dtype=object)
    if column.null_count:
        raise ResultsError("The key figures met a row without a figure; run `commonwatt certify` on this run.")
    if pa.types.is_timestamp(column.type):
        return np.from_dlpack(column.cast(pa.int64()))
    if pa.types.is_boolean(column.type):
        return np.array(column.to_pylist(), dtype=bool)
    return np.from_dlpack(column)  # pyarrow's own way would import pandas


def _whole(folder: Path, table: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """Return the columns of a small table, texts as arrays of objects."""
    parts: dict[str, list[Any]] = {name: [] for name in columns}
    for batch in _columns(folder, table, columns):
        for name, values in batch.items():
            parts[name].append(_texts(values) if isinstance(values, tuple) else values)
    return {name: np.concatenate(part) if part else np.zeros(0) for name, part in parts.items()}


def _texts(coded: tuple[Any, Any]) -> NDArray[np.object_]:
    codes, names = coded
    array: NDArray[np.object_] = names[codes] if len(names) else np.zeros(0, dtype=object)
    return array


def _where(coded: tuple[Any, Any], wanted: set[str] | frozenset[str] | tuple[str, ...]) -> NDArray[np.bool_]:
    """Return where a coded text is one of the wanted ones."""
    codes, names = coded
    hit = np.array([name in wanted for name in names], dtype=bool)
    return hit[codes] if len(names) else np.zeros(len(codes), dtype=bool)


class _Grid:
    """Which interval a time is."""

    def __init__(self, folder: Path, dt_h: float) -> None:
        first, last = None, None
        for batch in _columns(folder, "meters", ("time",)):
            low, high = int(batch["time"].min()), int(batch["time"].max())
            first, last = low if first is None else min(first, low), high if last is None else max(last, high)
        if first is None or last is None:
            raise ResultsError(f"The key figures need meters, and {folder / 'meters.parquet'} has no row.")
        self.first_us, self.step_us = first, round(dt_h * 3.6e9)
        self.steps = (last - first) // self.step_us + 1

    def index(self, time_us: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = (time_us - self.first_us) // self.step_us
        if len(found) and (found.min() < 0 or found.max() >= self.steps):
            raise ResultsError("A table has a row of an interval in which no meter was read.")
        return found

    def add(self, total: Vector, time_us: NDArray[np.int64], values: Vector) -> None:
        """Add values to the totals of their intervals."""
        total += np.bincount(self.index(time_us), weights=values, minlength=self.steps)


def _meters(folder: Path, grid: _Grid) -> dict[str, Any]:
    """Add up ``meters``; the battery columns of a shared ESS are its own affair."""
    shared = frozenset(_whole(folder, "ess", ("ess_id",))["ess_id"])
    net, sums = (
        np.zeros(grid.steps),
        dict.fromkeys(("load_kw", "pv_kw", "pv_available_kw", "curtailed_kw", "battery_kw"), 0.0),
    )
    curtailed: dict[str, float] = {}
    columns = (
        "time", "agent_id", "meter_kw", "load_kw", "pv_kw", "pv_available_kw", "curtailed_kw", "battery_charge_kw", "battery_discharge_kw",
    )  # fmt: skip
    for batch in _columns(folder, "meters", columns):
        grid.add(net, batch["time"], batch["meter_kw"])
        for name in ("load_kw", "pv_kw", "pv_available_kw", "curtailed_kw"):
            sums[name] += float(batch[name].sum())
        own = ~_where(batch["agent_id"], shared)
        sums["battery_kw"] += float((batch["battery_charge_kw"] + batch["battery_discharge_kw"])[own].sum())
        codes, names = batch["agent_id"]
        lost = np.bincount(codes, weights=batch["curtailed_kw"], minlength=len(names))
        for name, value in zip(names.tolist(), lost.tolist(), strict=True):
            curtailed[name] = curtailed.get(name, 0.0) + value * grid.step_us / 3.6e9
    return {
        "net_kw": net,
        "load_kw": sums["load_kw"],
        "pv_kw": sums["pv_kw"],
        "available_kw": sums["pv_available_kw"],
        "curtailed_kw": sums["curtailed_kw"],
        "battery_kw": sums["battery_kw"],
        "curtailed_kwh_of": curtailed,
    }


def _held(folder: Path, dt_h: float) -> dict[str, Any]:
    """Add up what was given up so that meters stayed inside their limits, by what held them."""
    sums: dict[str, dict[str, float]] = {name: dict.fromkeys(HELD_BY, 0.0) for name in ("clipped_kw", "deferred_kw")}
    for batch in _columns(folder, "enforcement", ("cause", *sums)):
        causes = _texts(batch["cause"])
        for name, by in sums.items():
            for word in by:
                here = np.array([cause.startswith(word) for cause in causes], dtype=bool)
                by[word] += float(batch[name][here].sum()) * dt_h
    return {"clipped_kwh_by": sums["clipped_kw"], "deferred_kwh_by": sums["deferred_kw"]}


def _flows(folder: Path, grid: _Grid) -> dict[str, Any]:
    """Add up losses and find the extremes of voltages and loadings."""
    buses = _whole(folder, "buses", ("bus_id", "is_monitored"))
    monitored = frozenset(buses["bus_id"][buses["is_monitored"].astype(bool)]) if len(buses["bus_id"]) else frozenset()
    loss = np.zeros(grid.steps)
    highest, lowest, loading = np.nan, np.nan, np.nan
    for batch in _columns(folder, "bus_voltages", ("bus_id", "v_pu")):
        seen = batch["v_pu"][_where(batch["bus_id"], monitored)]
        highest, lowest = (
            np.fmax(highest, np.fmax.reduce(seen, initial=np.nan)),
            np.fmin(lowest, np.fmin.reduce(seen, initial=np.nan)),
        )
    for batch in _columns(folder, "branch_flows", ("time", "loss_kw", "loading_percent")):
        grid.add(loss, batch["time"], np.nan_to_num(batch["loss_kw"]))
        loading = np.fmax(loading, np.fmax.reduce(batch["loading_percent"], initial=np.nan))
    outside: set[int] = set()
    for batch in _columns(folder, "violations", ("time", "kind")):
        outside.update(batch["time"][_where(batch["kind"], GRID_BREACHES)].tolist())
    spot = np.full(grid.steps, np.nan)
    for batch in _columns(folder, "series", ("time", "series_id", "value")):
        here = _where(batch["series_id"], (SPOT,))
        spot[grid.index(batch["time"][here])] = batch["value"][here]
    return {
        "loss_kw": loss,
        "v_max_pu": float(highest),
        "v_min_pu": float(lowest),
        "max_loading_percent": float(loading),
        "intervals_outside": len(outside),
        "spot_eur_per_kwh": spot,
    }


def _storage(folder: Path, dt_h: float) -> dict[str, Any]:
    """Add up what the shared ESS did and what of it was rented by others than its operator."""
    ess = _whole(folder, "ess", ("ess_id", "operator_id", "energy_kwh", "efficiency_charge", "efficiency_discharge"))
    names = list(ess["ess_id"])
    through = wear = 0.0
    for batch in _columns(folder, "storage", ("ess_id", "charge_kw", "discharge_kw", "wear_eur")):
        row = np.array([names.index(name) for name in _texts(batch["ess_id"])], dtype=np.int64)
        stored = (
            ess["efficiency_charge"][row] * batch["charge_kw"]
            + batch["discharge_kw"] / ess["efficiency_discharge"][row]
        )
        through, wear = through + float(stored.sum()) * dt_h, wear + float(batch["wear_eur"].sum())
    rented = 0.0
    owners = {
        (ess_id, name)
        for ess_id, operator in zip(names, ess["operator_id"], strict=True)
        for name in (ess_id, operator)
    }
    rights = _whole(folder, "rights", ("ess_id", "agent_id", "start", "end", "energy_kwh"))
    for ess_id, agent, start, end, energy in zip(*rights.values(), strict=True):
        if (ess_id, agent) not in owners:
            rented += energy * (end - start) / 3.6e9
    return {
        "through_kwh": through,
        "ess_kwh": float(ess["energy_kwh"].sum()) if names else 0.0,
        "rented_kwh_h": float(rented),
        "ess_wear_eur": wear,
    }


def _sold_kwh(folder: Path, dt_h: float) -> float:
    """Return what was sold inside the community, by the settled positions."""
    sold = 0.0
    for batch in _columns(folder, "positions", ("stage", "exchange_kw")):
        settled = batch["exchange_kw"][_where(batch["stage"], ("settled",))]
        sold += float(np.maximum(settled, 0.0).sum()) * dt_h
    return sold


class _Books:
    """What ``bills`` and ``ledger`` of one folder add up to."""

    def __init__(self, folder: Path, members: set[str]) -> None:
        bills = _whole(folder, "bills", ("agent_id", "period", "amount_eur"))
        self.bill_eur: dict[str, float] = {}
        self.cost_of_period: dict[str, float] = {}
        for name, period, amount in zip(
            *(bills[key].tolist() for key in ("agent_id", "period", "amount_eur")), strict=True
        ):
            self.bill_eur[name] = self.bill_eur.get(name, 0.0) + amount
            if name in members:
                self.cost_of_period[period] = self.cost_of_period.get(period, 0.0) + amount
        energy = money = settled = 0
        for batch in _columns(folder, "ledger", ("kind", "energy_milliwatt_hour", "amount_micro_eur")):
            bought = batch["energy_milliwatt_hour"] > 0
            traded = bought & _where(batch["kind"], ("exchange_day_ahead", "exchange_intraday", "exchange_settled"))
            energy += int(batch["energy_milliwatt_hour"][traded].sum())
            money -= int(batch["amount_micro_eur"][traded].sum())
            settled += int(batch["energy_milliwatt_hour"][bought & _where(batch["kind"], ("exchange_settled",))].sum())
        self.exchanged_kwh, self.exchanged_eur, self.bought_kwh = energy / 1e6, money / 1e6, settled / 1e6
