"""One delivery day as the tables tell it, in whole milli-watt-hours: what :mod:`sim.certify_bills` prices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.certify_evidence import Evidence, Wrong
from sim.certify_sharing import largest_remainder
from sim.certify_tariffs import Components, components

__all__ = ["Box", "Day", "Handover", "Right", "read_day"]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

MWH = 1e6
"""Milli-watt-hours in a kilowatt-hour."""

PRICE = 1e-12
"""Sums of four prices differ by less, in whatever order they are added. [eur/kWh]"""


@dataclass(frozen=True, slots=True)
class Right:
    """A right that begins on this day."""

    step: int
    right_id: str
    agent_id: str
    energy_kwh: float
    power_kw: float
    rent_energy_eur_per_kwh: float
    rent_power_eur_per_kw: float


@dataclass(frozen=True, slots=True)
class Handover:
    """What a right that ends leaves to the operator. [mWh]"""

    right_id: str
    agent_id: str
    step: int
    energy: int


@dataclass(slots=True)
class Box:
    """What happened in one shared ESS."""

    ess_id: str
    tenant_flows: dict[str, tuple[Counts, Counts]]
    """Charging and discharging of each tenant, shape (T,). [mWh]"""
    firm: Counts
    rights: list[Right] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Day:
    """One delivery day; rows are agents in the order of their ids, energies have shape (n, T). [mWh]"""

    name: str
    times_us: Counts
    agents: list[str]
    is_storage: NDArray[np.bool_]
    tariff_of: list[str]
    aggregator_of: list[str]
    tariffs: dict[str, Components]
    meter: Counts
    day_ahead: Counts
    intraday: Counts
    settled: Counts | None
    settled_grid: Counts
    charge: Counts
    """Rented charging; the row of an ESS mirrors its tenants."""
    discharge: Counts
    price_of: dict[str, Vector]
    """Energy price by stage, shape (T,). [eur/kWh]"""
    boxes: list[Box]
    losses: Counts | None

    @property
    def steps(self) -> int:
        """Number of intervals."""
        return len(self.times_us)

    @property
    def tenant_discharge(self) -> Counts:
        """Rented discharging of tenants, nothing for an ESS itself."""
        return np.where(self.is_storage[:, None], 0, self.discharge)

    def per_agent(self, name: str) -> Vector:
        """Return a price of every agent's tariff, shape (n, T). [eur/kWh]"""
        return np.array([getattr(self.tariffs[tariff], name) for tariff in self.tariff_of])

    def moment(self, step: Any) -> str:
        """Return an interval's start as a person reads it."""
        return _moment(self.times_us[int(step)])


def read_day(evidence: Evidence, physical: Evidence, name: str, first: int, last: int, steps: int) -> Day:
    """Read one day.

    Parameters
    ----------
    evidence
        The folder with the books.
    physical
        The folder with the meters: the same, or ``tables`` for ``ex_post``.
    """
    span = f"epoch_us(time) BETWEEN {first} AND {last}"
    people = physical.all(
        f"SELECT agent_id, tariff_id, aggregator_id, agent_id IN (SELECT ess_id FROM {physical.table('ess')}) FROM {physical.table('agents')} "
        f"WHERE agent_id IN (SELECT agent_id FROM {physical.table('meters')}) ORDER BY agent_id"
    )
    people.sort()
    agents = [row[0] for row in people]
    times = [
        row[0]
        for row in physical.all(
            f"SELECT DISTINCT epoch_us(time) FROM {physical.table('meters')} WHERE {span} ORDER BY 1"
        )
    ]
    times_us = np.array(times, dtype=np.int64)
    grid = _Grid(physical, agents, times_us, span)
    series = _series(physical, span, steps)
    storage = np.array([bool(row[3]) for row in people])
    zero = np.zeros((len(agents), steps), dtype=np.int64)
    positions = evidence.holds("positions")
    day_ahead, intraday, settled, settled_grid, charge, discharge = zero, zero, None, zero, zero, zero
    if positions:
        day_ahead = grid.position("day_ahead", zero)
        intraday = grid.position("intraday", day_ahead)
        settled = grid.whole("positions", "exchange_kw", "settled")
        settled_grid = grid.whole("positions", "grid_buy_kw - grid_sell_kw", "settled")
        charge, discharge = (
            grid.whole("positions", column, "settled") for column in ("rented_charge_kw", "rented_discharge_kw")
        )
    tariffs = {name: components(evidence.scenario, name, times_us, series) for name in _tariffs_first(evidence, people)}
    return Day(
        name=name,
        times_us=times_us,
        agents=agents,
        is_storage=storage,
        tariff_of=[row[1] for row in people],
        aggregator_of=[row[2] for row in people],
        tariffs=tariffs,
        meter=grid.whole("meters", "meter_kw"),
        day_ahead=day_ahead,
        intraday=intraday,
        settled=settled,
        settled_grid=settled_grid,
        charge=charge,
        discharge=discharge,
        price_of=_prices(evidence, span, times_us, tariffs) if positions else {},
        boxes=_boxes(evidence, agents, times_us, span, charge, discharge) if positions else [],
        losses=_losses(physical, span, steps),
    )


def _tariffs_first(evidence: Evidence, people: list[tuple[Any, ...]]) -> list[str]:
    """Return the tariffs of the scenario and of the people, each once."""
    return list(dict.fromkeys([*evidence.scenario["tariffs"], *(row[1] for row in people)]))


@dataclass(slots=True)
class _Grid:
    """Reads columns of connections × intervals as whole numbers."""

    evidence: Evidence
    agents: list[str]
    times_us: Counts
    span: str

    def exact(self, table: str, column: str, stage: str = "") -> Vector | None:
        """Return a power as energy, shape (n, T); None where the stage has no rows. [mWh, not rounded]"""
        only = f" AND stage = '{stage}'" if stage else ""
        rows = self.evidence.connection.execute(
            f"SELECT {column} AS power_kw FROM {self.evidence.table(table)} WHERE {self.span}{only} ORDER BY agent_id, time"
        ).fetchnumpy()["power_kw"]
        if stage in {"day_ahead", "intraday"} and not len(rows):
            return None
        if len(rows) != len(self.agents) * len(self.times_us):
            raise Wrong(
                f"table {table} {stage} has {len(rows)} rows in a day of {len(self.agents)} connections and {len(self.times_us)} intervals"
            )
        power = np.ma.filled(np.ma.asarray(rows, dtype=np.float64), np.nan).reshape(
            len(self.agents), len(self.times_us)
        )
        if not np.isfinite(power).all():
            raise Wrong(f"table {table} holds {column} that is no figure")
        return power * (self.evidence.dt_h * MWH)

    def whole(self, table: str, column: str, stage: str = "") -> Counts:
        """Return a power as energy in whole milli-watt-hours, to the nearest."""
        energy = self.exact(table, column, stage)
        assert energy is not None
        return np.rint(energy).astype(np.int64)

    def position(self, stage: str, otherwise: Counts) -> Counts:
        """Return the exchange of a stage, made whole so that it sums to zero."""
        energy = self.exact("positions", "exchange_kw", stage)
        return otherwise if energy is None else largest_remainder(energy)


def _series(physical: Evidence, span: str, steps: int) -> dict[str, Vector]:
    """Return every series that has a value in each interval of the day."""
    rows = physical.all(
        f"SELECT series_id, value FROM {physical.table('series')} WHERE {span} ORDER BY series_id, time"
    )
    found: dict[str, list[float]] = {}
    for name, value in rows:
        found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items() if len(values) == steps}


def _prices(evidence: Evidence, span: str, times_us: Counts, tariffs: dict[str, Components]) -> dict[str, Vector]:
    """Return the energy price of every stage; check that it is one for all tariffs, beside each tariff's own prices."""
    table = evidence.table("prices")
    evidence.none_of(
        "prices: one stage has two energy prices in an interval",
        f"SELECT stage, time FROM {table} WHERE {span} GROUP BY ALL HAVING count(DISTINCT energy_eur_per_kwh) > 1",
        ("stage", "time"),
    )
    prices: dict[str, Vector] = {}
    for (stage,) in evidence.all(f"SELECT DISTINCT stage FROM {table} WHERE {span} ORDER BY 1"):
        for name, tariff in tariffs.items():
            only = f"{span} AND stage = '{stage}' AND tariff_id = {_text(name)}"
            rows = evidence.all(
                f"SELECT epoch_us(time), energy_eur_per_kwh, retail_buy_eur_per_kwh, retail_sell_eur_per_kwh FROM {table} WHERE {only} ORDER BY 1"
            )
            if [row[0] for row in rows] != times_us.tolist():
                raise Wrong(
                    f"prices: stage {stage}, tariff_id {name} does not have a row in every interval from {_moment(times_us[0])}"
                )
            told = np.array([[np.nan if cell is None else cell for cell in row[1:]] for row in rows], dtype=np.float64)
            for says, stored, wanted in (
                ("retail_buy", told[:, 1], tariff.buy),
                ("retail_sell", told[:, 2], tariff.feed_in),
            ):
                wrong = np.flatnonzero(~(np.abs(stored - wanted) <= PRICE))
                if wrong.size:
                    t = wrong[0]
                    raise Wrong(
                        f"prices: {says}_eur_per_kwh is the tariff's: stage {stage}, time {_moment(times_us[t])}, tariff_id {name}: "
                        f"{stored[t]:.9g}, expected {wanted[t]:.9g}"
                    )
            prices[stage] = told[:, 0]
    evidence.none_of(
        "prices: a tariff that the scenario does not have",
        f"SELECT stage, time, tariff_id FROM {table} WHERE {span} AND tariff_id NOT IN ({', '.join(_text(name) for name in tariffs)})",
        ("stage", "time", "tariff_id"),
    )
    return prices


def _text(name: str) -> str:
    """Return a name as an SQL literal."""
    return "'" + name.replace("'", "''") + "'"


def _moment(time_us: Any) -> str:
    """Return a time as a person reads it."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[s]")) + "Z"


def _boxes(
    evidence: Evidence, agents: list[str], times_us: Counts, span: str, charge: Counts, discharge: Counts
) -> list[Box]:
    """Return what tenants did in each shared ESS, with the rights that begin and end on this day."""
    boxes = []
    steps, dt_us = len(times_us), round(evidence.dt_h * 3.6e9)
    for ess_id, operator, eta_c, eta_d in evidence.all(
        f"SELECT ess_id, operator_id, efficiency_charge, efficiency_discharge FROM {evidence.table('ess')} ORDER BY ess_id"
    ):
        ess, owners = ess_id.replace("'", "''"), {ess_id, operator}
        tenants = [
            row[0]
            for row in evidence.all(
                f"SELECT DISTINCT agent_id FROM {evidence.table('storage_ledger')} WHERE ess_id = '{ess}' AND {span}"
            )
        ]
        flows = {
            name: (charge[agents.index(name)], discharge[agents.index(name)])
            for name in sorted(set(tenants) - owners)
            if name in agents
        }
        firm = np.zeros(steps, dtype=np.int64)
        for moment, kw in evidence.all(
            f"SELECT epoch_us(time), arg_max(firm_charge_kw, issued_at) FILTER (WHERE issued_at <= time) FROM {evidence.table('envelopes')} "
            f"WHERE agent_id = '{ess}' AND {span} GROUP BY ALL"
        ):
            firm[int(np.searchsorted(times_us, moment))] = round((kw or 0.0) * (evidence.dt_h * MWH))
        box = Box(ess_id, flows, firm)
        for right in evidence.all(
            f'SELECT right_id, agent_id, energy_kwh, power_kw, rent_energy_eur_per_kwh, rent_power_eur_per_kw, epoch_us(start), epoch_us("end") '
            f"FROM {evidence.table('rights')} WHERE ess_id = '{ess}' ORDER BY right_id, stage"
        ):
            *told, start, end = right
            if times_us[0] <= start <= times_us[-1]:
                box.rights.append(Right(int(np.searchsorted(times_us, start)), *told))
            if times_us[0] <= end - dt_us <= times_us[-1]:
                left = _left(evidence, ess, right[1], start, end, (eta_c, eta_d))
                if left:
                    box.handovers.append(
                        Handover(right[0], right[1], int(np.searchsorted(times_us, end - dt_us)), left)
                    )
        boxes.append(box)
    return boxes


def _left(evidence: Evidence, ess: str, agent: str, start: int, end: int, efficiency: tuple[float, float]) -> int:
    """Return what an account holds at the end of a right beyond what it held at the beginning. [mWh]"""
    rows = evidence.all(
        f"SELECT energy_kwh, charge_kw, discharge_kw FROM {evidence.table('storage_ledger')} WHERE ess_id = '{ess}' AND agent_id = ? "
        f"AND epoch_us(time) >= {start} AND epoch_us(time) < {end} ORDER BY time",
        [agent],
    )
    if not rows:
        return 0
    last, charge, discharge = rows[-1]
    reached = last + evidence.dt_h * (efficiency[0] * charge - discharge / efficiency[1])
    left: float = (reached - rows[0][0]) * MWH
    return round(left)


def _losses(physical: Evidence, span: str, steps: int) -> Counts | None:
    """Return the losses of the network in each interval; intervals that did not converge have none in the books."""
    rows = physical.all(
        f"SELECT sum(CASE WHEN isnan(loss_kw) THEN 0 ELSE loss_kw END) FROM {physical.table('branch_flows')} WHERE {span} GROUP BY time ORDER BY time"
    )
    if len(rows) != steps:
        raise Wrong(f"table branch_flows has {len(rows)} intervals in a day of {steps}")
    return np.rint(np.maximum([row[0] for row in rows], 0.0) * (physical.dt_h * MWH)).astype(np.int64)
