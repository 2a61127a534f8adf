"""Who pays what: bills of the members, the change of every party, prices, and the account of the shared storage.

Everything is read from the tables ``bills``, ``kpis``, ``prices``, ``rights`` and ``storage``: nothing here settles
anything, and a figure that ``kpis`` has is not computed a second time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.report_tables import Clock, RunTables

__all__ = [
    "LINE_NAMES",
    "PARTIES",
    "Bills",
    "Figure",
    "Members",
    "Party",
    "PriceCurves",
    "StorageAccount",
    "bills",
    "figures",
    "line_group",
    "members",
    "parties",
    "price_curves",
    "storage_account",
]

Vector = NDArray[np.float64]

LINE_NAMES = {
    "exchange_day_ahead": "Exchange, day ahead",
    "exchange_intraday": "Exchange, intraday",
    "exchange_settled": "Shared after the fact",
    "rented_flow": "Rented storage, energy",
    "retail_energy": "Retailer, energy",
    "retail_network": "Retailer, network charge",
    "retail_levies": "Retailer, levies",
    "retail_vat": "Retailer, VAT",
    "retail_fixed": "Retailer, fixed charge",
    "feed_in": "Feed-in",
    "local_network": "Local network charge",
    "local_levies": "Local levies",
    "local_vat": "Local VAT",
    "rent_energy": "Storage rent, space",
    "rent_power": "Storage rent, power",
    "throughput_fee": "Storage use fee",
    "firm_service": "Service to the grid",
    "handover": "Energy left in storage",
    "losses": "Network losses",
    "network_losses": "Losses, locational",
    "network_congestion": "Congestion, locational",
    "aggregator_fee": "Aggregator",
}
"""What the lines of a bill are called on the page; a line that is not here shows its own name."""


def line_group(line: str) -> str:
    """Return what a line of a bill is about, so that its changes can be told together.

    Purchases and sales are one group: what is bought from neighbours is not bought from the retailer, what is sold to
    them is not fed in.

    >>> line_group("retail_vat"), line_group("rent_power"), line_group("aggregator_fee")
    ('energy, bought less sold', 'shared storage', 'aggregator')
    """
    if line in {"rent_energy", "rent_power", "throughput_fee", "handover", "rented_flow"}:
        return "shared storage"
    if line in {"network_losses", "network_congestion"}:
        return "locational prices"
    return "aggregator" if line == "aggregator_fee" else "energy, bought less sold"


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """The members of the community, ``n`` of them; every array has shape (n,)."""

    agent_id: tuple[str, ...]
    bus_id: tuple[str, ...]
    pv_kw_peak: Vector
    battery_kwh: Vector
    ev_count: Vector
    heat_pump_kw: Vector
    space_kwh: Vector
    """Rented storage space, mean over the run. [kWh]"""
    power_kw: Vector
    """Rented storage power, mean over the run. [kW]"""
    available_kwh: Vector
    curtailed_kwh: Vector

    @property
    def n(self) -> int:
        return len(self.agent_id)

    @property
    def has_solar(self) -> NDArray[np.bool_]:
        return self.pv_kw_peak > 0

    @property
    def curtailed_percent(self) -> Vector:
        """Share of the own solar energy given up; 0 without solar. [%]"""
        safe = np.where(self.available_kwh > 0, self.available_kwh, 1.0)
        return np.where(self.available_kwh > 0, 100.0 * self.curtailed_kwh / safe, 0.0)

    def group(self) -> tuple[str, ...]:
        """Return the group of every member, by what it owns and rents."""
        found = []
        for k in range(self.n):
            if self.pv_kw_peak[k] > 0:
                found.append("Solar + rented storage" if self.space_kwh[k] > 0.05 else "Solar only")
            else:
                found.append(
                    "No solar, heat pump or EV" if self.heat_pump_kw[k] > 0 or self.ev_count[k] > 0 else "No solar"
                )
        return tuple(found)

    def description(self) -> tuple[str, ...]:
        """Return what every member owns, in a few words."""
        found = []
        for k in range(self.n):
            words = [f"{self.pv_kw_peak[k]:.1f} kWp" if self.pv_kw_peak[k] > 0 else "no solar"]
            if self.battery_kwh[k] > 0:
                words.append(f"battery {self.battery_kwh[k]:.0f} kWh")
            if self.space_kwh[k] > 0.05:
                words.append(f"rents {self.space_kwh[k]:.1f} kWh")
            if self.heat_pump_kw[k] > 0:
                words.append("heat pump")
            if self.ev_count[k] > 0:
                words.append("EV" if self.ev_count[k] == 1 else f"{self.ev_count[k]:.0f} EVs")
            found.append(" · ".join(words))
        return tuple(found)


GROUPS = ("Solar + rented storage", "Solar only", "No solar, heat pump or EV", "No solar")
"""The order in which groups are shown."""


@dataclass(frozen=True, slots=True, eq=False)
class Bills:
    """What every member pays in one world, by line. To pay +. [currency]"""

    lines: tuple[str, ...]
    amount: Vector
    """Shape (lines, n)."""

    @property
    def total(self) -> Vector:
        """Shape (n,)."""
        return np.asarray(self.amount.sum(axis=0))

    def line(self, name: str) -> Vector:
        """Return one line of all members, zeros where the world does not have it. Shape (n,)."""
        if name in self.lines:
            return np.asarray(self.amount[self.lines.index(name)])
        return np.zeros(self.amount.shape[1])


@dataclass(frozen=True, slots=True)
class Figure:
    """A key figure beside the reference, as the table ``kpis`` has it."""

    name: str
    value: float
    reference: float
    unit: str
    boundary: str


PARTIES = {
    "members": ("Members", "peer"),
    "storage_operator": ("Storage operator", "store"),
    "aggregators": ("Aggregators", "solar"),
    "retailer": ("Retailer", "retail"),
    "dso": ("Network operator", "limit"),
    "state": ("Taxes and levies", "ink2"),
}
"""Parties of the table ``kpis``: what they are called, and their colour."""


@dataclass(frozen=True, slots=True)
class Party:
    """What a party gains against the reference. [currency]"""

    entity: str
    name: str
    change: float
    role: str
    """Its colour."""


@dataclass(frozen=True, slots=True, eq=False)
class PriceCurves:
    """Prices over the run; every array has shape (T,), NaN where there was none. [currency/kWh]"""

    local: dict[str, Vector]
    """By stage, the last one before delivery last."""
    buy: Vector
    """Retail price, mean over the tariffs by their members."""
    sell: Vector
    local_charge: Vector | None
    """What a local kWh pays on top of its price."""
    rent_space: Vector
    """Rent of a kWh for a day, mean over the rights in force. [currency/kWh]"""
    rent_power: Vector
    reserve_space: float
    reserve_power: float
    tariffs: int


@dataclass(frozen=True, slots=True, eq=False)
class StorageAccount:
    """The shared storage: whose energy is in it, what is rented, what the operator earns."""

    ess_ids: tuple[str, ...]
    usable_kwh: float
    power_kw: float
    tenants_kwh: Vector
    """Shape (T,)."""
    operator_kwh: Vector
    rented_kwh: Vector
    rented_kw: Vector
    tenants: int
    cycles: float
    """Equivalent full cycles over the run."""
    loss_kwh: float
    netting_gain_kwh: float
    firm_kwh: float
    """Charged for the grid's sake."""
    postings: dict[str, float]
    """The operator's account by kind, earned +, wear last. [currency]"""

    @property
    def margin(self) -> float:
        """What the operator keeps before capital. [currency]"""
        return sum(self.postings.values())

    @property
    def rented_share(self) -> float:
        """Rented space over usable space, mean over the run. [%]"""
        return float(100.0 * self.rented_kwh.mean() / self.usable_kwh) if self.usable_kwh > 0 else np.nan


def members(tables: RunTables) -> Members:
    """Return the members in the order of their ids."""
    found = tables.columns(
        "SELECT agent_id, bus_id, pv_kw_peak, battery_kwh, ev_count, heat_pump_kw FROM run.agents WHERE role = 'prosumer' ORDER BY agent_id"
    )
    ids = tuple(str(name) for name in found["agent_id"])
    dt_h = tables.clock.dt_h
    energy = _by_id(
        tables,
        ids,
        f"SELECT agent_id, sum(pv_available_kw) * {dt_h} AS a, sum(curtailed_kw) * {dt_h} AS c FROM run.meters GROUP BY 1",
    )
    rented = {"space": np.zeros(len(ids)), "power": np.zeros(len(ids))}
    if tables.any("run", "rights"):
        rented = _by_id(tables, ids, _MEAN_RIGHTS.format(hours=tables.clock.hours))
    return Members(
        agent_id=ids,
        bus_id=tuple(str(bus) for bus in found["bus_id"]),
        pv_kw_peak=np.nan_to_num(found["pv_kw_peak"].astype(float)),
        battery_kwh=np.nan_to_num(found["battery_kwh"].astype(float)),
        ev_count=np.nan_to_num(found["ev_count"].astype(float)),
        heat_pump_kw=np.nan_to_num(found["heat_pump_kw"].astype(float)),
        space_kwh=rented["space"],
        power_kw=rented["power"],
        available_kwh=energy["a"],
        curtailed_kwh=energy["c"],
    )


# a renewed right stands once, as it was at its last stage
_RIGHTS = "(FROM run.rights QUALIFY row_number() OVER (PARTITION BY right_id ORDER BY stage DESC) = 1)"
# a right's share of the run's time weighs its size
_MEAN_RIGHTS = f"""
SELECT agent_id, sum(energy_kwh * h) / {{hours}} AS space, sum(power_kw * h) / {{hours}} AS power
FROM (SELECT *, (epoch_us("end") - epoch_us(start)) / 3.6e9 AS h FROM {_RIGHTS}) GROUP BY 1
"""


def _by_id(tables: RunTables, ids: Sequence[str], sql: str) -> dict[str, Vector]:
    """Return the columns of a query by agent, zeros where it has no row."""
    found = tables.columns(sql)
    names = [str(name) for name in found.pop("agent_id")]
    place = {name: k for k, name in enumerate(ids)}
    whole = {}
    for column, values in found.items():
        whole[column] = np.zeros(len(ids))
        for name, value in zip(names, values, strict=True):
            if name in place:
                whole[column][place[name]] = float(value)
    return whole


def bills(tables: RunTables, world: str, who: Members) -> Bills | None:
    """Return the bills of a world, lines in the order of :data:`LINE_NAMES`; None where it has none."""
    if not tables.any(world, "bills"):
        return None
    rows = tables.rows(f"SELECT agent_id, line, sum(amount_eur) FROM {world}.bills GROUP BY 1, 2 ORDER BY 1, 2")
    place = {name: k for k, name in enumerate(who.agent_id)}
    known = list(LINE_NAMES)
    lines = sorted(
        {str(line) for agent, line, _ in rows if agent in place},
        key=lambda s: (known.index(s) if s in known else 99, s),
    )
    amount = np.zeros((len(lines), who.n))
    for agent, line, value in rows:
        if agent in place:
            amount[lines.index(str(line)), place[agent]] += float(value)
    return Bills(tuple(lines), amount)


def figures(tables: RunTables, world: str = "run") -> dict[str, Figure]:
    """Return the key figures of the community by name."""
    if not tables.any(world, "kpis"):
        return {}

    def known(value: float | None) -> float:
        return math.nan if value is None else float(value)

    return {
        str(name): Figure(str(name), known(value), known(reference), str(unit), str(boundary))
        for name, value, reference, unit, boundary in tables.rows(
            f"SELECT kpi, value, reference, unit, boundary FROM {world}.kpis WHERE scope = 'community' AND period = 'run' ORDER BY kpi"
        )
    }


def parties(tables: RunTables) -> list[Party]:
    """Return by how much every party's surplus changed against the reference."""
    if not tables.any("run", "kpis"):
        return []
    found = []
    for entity, difference in tables.rows(
        "SELECT entity, difference FROM run.kpis WHERE scope = 'party' AND kpi = 'surplus_eur' AND period = 'run' ORDER BY entity"
    ):
        name, role = PARTIES.get(str(entity), (str(entity).replace("_", " ").capitalize(), "ink2"))
        if difference is not None and math.isfinite(difference) and (abs(difference) > 0.005 or entity == "members"):
            found.append(Party(str(entity), name, float(difference), role))
    order = list(PARTIES)
    return sorted(found, key=lambda party: order.index(party.entity) if party.entity in order else len(order))


def price_curves(tables: RunTables) -> PriceCurves | None:
    """Return the prices of the run; None where the table is empty."""
    if not tables.any("run", "prices"):
        return None
    weight = "(SELECT tariff_id, count(*) AS w FROM run.agents WHERE role = 'prosumer' GROUP BY 1)"
    local: dict[str, Vector] = {}
    for stage, name in (("day_ahead", "Day ahead"), ("intraday", "Intraday")):
        found = tables.series(
            f"SELECT slot(time) AS t, avg(energy_eur_per_kwh) AS p FROM run.prices WHERE stage = '{stage}' GROUP BY 1",
            fill=np.nan,
        )["p"]
        if np.isfinite(found).any():
            local[name] = found
    retail = tables.series(
        f"SELECT slot(time) AS t, sum(retail_buy_eur_per_kwh * w) / sum(w) AS buy, sum(retail_sell_eur_per_kwh * w) / sum(w) AS sell "
        f"FROM (SELECT DISTINCT time, tariff_id, retail_buy_eur_per_kwh, retail_sell_eur_per_kwh FROM run.prices) "
        f"JOIN {weight} USING (tariff_id) GROUP BY 1",
        fill=np.nan,
    )
    tariffs = int(
        tables.rows(
            "SELECT count(DISTINCT tariff_id) FROM run.prices JOIN run.agents USING (tariff_id) WHERE role = 'prosumer'"
        )[0][0]
    )
    rent = {"space": np.full(tables.clock.steps, np.nan), "power": np.full(tables.clock.steps, np.nan)}
    if tables.any("run", "rights"):
        rent = _rents(tables)
    first: dict[str, float] = (tables.scenario.get("storage") or [{}])[0]
    return PriceCurves(
        local=local,
        buy=retail["buy"],
        sell=retail["sell"],
        local_charge=_local_charge(tables),
        rent_space=rent["space"],
        rent_power=rent["power"],
        reserve_space=float(first.get("rent_energy_eur_per_kwh_day", 0.0)),
        reserve_power=float(first.get("rent_power_eur_per_kw_day", 0.0)),
        tariffs=tariffs,
    )


def _rents(tables: RunTables) -> dict[str, Vector]:
    """Return the mean rent of the rights in force, per day of their length. Shape (T,)."""
    clock = tables.clock
    sums = {name: np.zeros(clock.steps) for name in ("space", "power", "kwh", "kw")}
    for first, last, kwh, kw, space, power in tables.rows(
        'SELECT slot(start), slot("end"), sum(energy_kwh), sum(power_kw), sum(energy_kwh * rent_energy_eur_per_kwh), '
        f"sum(power_kw * rent_power_eur_per_kw) FROM {_RIGHTS} GROUP BY 1, 2"
    ):
        days = max((last - first) * clock.dt_h / 24.0, 1e-9)
        inside = slice(max(first, 0), min(last, clock.steps))
        for name, value in (("space", space / days), ("power", power / days), ("kwh", kwh), ("kw", kw)):
            sums[name][inside] += value
    mean = {}
    for name, size in (("space", "kwh"), ("power", "kw")):
        mean[name] = np.where(sums[size] > 0, sums[name] / np.where(sums[size] > 0, sums[size], 1.0), np.nan)
    return mean


def _local_charge(tables: RunTables) -> Vector | None:
    """Return what a local kWh pays for wires and levies, mean over the members' tariffs; None where the scenario does not say."""
    from pydantic import ValidationError

    from market.tariffs import TariffError
    from sim.scenario_money import TariffSpec

    clock = tables.clock
    times = (clock.start_s + clock.step_s * np.arange(clock.steps)).astype("datetime64[s]")
    weights = {
        str(name): int(count)
        for name, count in tables.rows("SELECT tariff_id, count(*) FROM run.agents WHERE role = 'prosumer' GROUP BY 1")
    }
    total = np.zeros(clock.steps)
    for name, weight in weights.items():
        spec = (tables.scenario.get("tariffs") or {}).get(name)
        if spec is None:
            return None
        try:
            tariff = TariffSpec.model_validate(spec).tariff(name)
            needed = {
                s: tables.series(f"SELECT slot(time) AS t, value FROM run.series WHERE series_id = '{s}'")["value"]
                for s in tariff.series
            }
            total += weight * tariff.price(times, clock.zone, needed).local_charge
        except (ValidationError, TariffError):
            return None
    return total / max(sum(weights.values()), 1)


def storage_account(tables: RunTables, clock: Clock) -> StorageAccount | None:
    """Return the account of all shared storages together; None where there is none."""
    if not (tables.any("run", "ess") and tables.any("run", "storage")):
        return None
    rows = tables.rows("SELECT ess_id, operator_id, energy_kwh, charge_kw FROM run.ess ORDER BY ess_id")
    own = {str(row[0]) for row in rows} | {str(row[1]) for row in rows}
    listed = ", ".join("'" + name.replace("'", "''") + "'" for name in sorted(own))
    inside = tables.series(
        f"SELECT slot(time) AS t, sum(CASE WHEN agent_id IN ({listed}) THEN 0 ELSE energy_kwh END) AS tenants, "
        f"sum(CASE WHEN agent_id IN ({listed}) THEN energy_kwh ELSE 0 END) AS operator FROM run.storage_ledger GROUP BY 1"
    )
    rented = {"kwh": np.zeros(clock.steps), "kw": np.zeros(clock.steps)}
    tenants = 0
    if tables.any("run", "rights"):
        for first, last, kwh, kw in tables.rows(
            f'SELECT slot(start), slot("end"), sum(energy_kwh), sum(power_kw) FROM {_RIGHTS} WHERE agent_id NOT IN ({listed}) GROUP BY 1, 2'
        ):
            inside_run = slice(max(first, 0), min(last, clock.steps))
            rented["kwh"][inside_run] += kwh
            rented["kw"][inside_run] += kw
        tenants = int(
            tables.rows(
                f"SELECT count(DISTINCT agent_id) FROM {_RIGHTS} WHERE agent_id NOT IN ({listed}) AND energy_kwh > 0.005"
            )[0][0]
        )
    charged, discharged, loss, netting, wear = tables.rows(
        f"SELECT sum(charge_kw) * {clock.dt_h}, sum(discharge_kw) * {clock.dt_h}, sum(loss_kwh), sum(netting_gain_kwh), sum(wear_eur) FROM run.storage"
    )[0]
    efficiency = tables.rows(
        "SELECT avg(efficiency_charge), avg(efficiency_discharge), sum(energy_kwh), sum(charge_kw) FROM run.ess"
    )[0]
    usable = float(efficiency[2])
    through = float(charged) * float(efficiency[0]) + float(discharged) / float(efficiency[1])
    postings = {
        LINE_NAMES.get(str(line), str(line)): float(amount)
        for line, amount in tables.rows(
            f"SELECT line, -sum(amount_eur) FROM run.bills WHERE agent_id IN ({listed}) GROUP BY 1 ORDER BY 1"
        )
        if abs(float(amount)) > 0.005
    }
    ordered = {name: postings[name] for name in sorted(postings, key=lambda name: -postings[name])}
    if float(wear) > 0.005:
        ordered["Wear"] = -float(wear)
    firm = 0.0
    if tables.has("run", "envelopes", "firm_charge_kw"):
        firm = float(tables.rows(
            f"SELECT coalesce(sum(f), 0) * {clock.dt_h} FROM (SELECT arg_max(firm_charge_kw, issued_at) AS f FROM run.envelopes "
            f"WHERE issued_at <= time AND agent_id IN ({listed}) GROUP BY time, agent_id)"
        )[0][0])  # fmt: skip
    return StorageAccount(
        ess_ids=tuple(str(row[0]) for row in rows),
        usable_kwh=usable,
        power_kw=float(efficiency[3]),
        tenants_kwh=inside["tenants"],
        operator_kwh=inside["operator"],
        rented_kwh=rented["kwh"],
        rented_kw=rented["kw"],
        tenants=tenants,
        cycles=through / (2.0 * usable) if usable > 0 else np.nan,
        loss_kwh=float(loss),
        netting_gain_kwh=float(netting),
        firm_kwh=firm,
        postings=ordered,
    )
