"""One delivery day while it is being planned, delivered and settled: arrays that fill up as the day goes by."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from agents.dso import Publication
from agents.fleet import SLOTS
from agents.planner import Retail
from agents.storage_operator import Offer
from market.exchange import Clearing, Warm
from market.tariffs import Prices
from sim.clock import Day
from sim.mailbox import Kept, Mailbox
from sim.outlook import DayAhead, Truth
from storage.rights import Rights

__all__ = ["ClearingRecord", "DayBook", "Delivered", "Issue", "Plan"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Plan:
    """The plan in force for every interval of a day; ``rows`` are homes, then the operator of the shared storage. [kW]"""

    charge_kw: Cube
    """Shape (K, n, T), own stores."""
    discharge_kw: Cube
    curtailed_kw: Matrix
    """Shape (n, T)."""
    energy_end_kwh: Matrix
    """Own stores at the end of the day, shape (K, n). [kWh]"""
    exchange_kw: Matrix
    """Sale to the exchange, shape (rows, T), as all below."""
    grid_kw: Matrix
    rented_charge_kw: Matrix
    rented_discharge_kw: Matrix

    @classmethod
    def empty(cls, n: int, rows: int, steps: int) -> Plan:
        """Return the plan to do nothing."""
        return cls(
            charge_kw=np.zeros((SLOTS, n, steps)),
            discharge_kw=np.zeros((SLOTS, n, steps)),
            curtailed_kw=np.zeros((n, steps)),
            energy_end_kwh=np.zeros((SLOTS, n)),
            exchange_kw=np.zeros((rows, steps)),
            grid_kw=np.zeros((rows, steps)),
            rented_charge_kw=np.zeros((rows, steps)),
            rented_discharge_kw=np.zeros((rows, steps)),
        )

    def renew(self, at: int, clearing: Clearing) -> None:
        """Take over a clearing of the intervals from ``at`` to the end of the day."""
        n = self.curtailed_kw.shape[0]
        self.charge_kw[:, :, at:] = clearing.charge_kw[:, :n]
        self.discharge_kw[:, :, at:] = clearing.discharge_kw[:, :n]
        self.curtailed_kw[:, at:] = clearing.curtailed_kw[:n]
        self.energy_end_kwh = clearing.energy_kwh[:, :n, -1].copy()
        self.exchange_kw[:, at:] = clearing.exchange_kw
        self.grid_kw[:, at:] = clearing.grid_kw
        self.rented_charge_kw[:, at:] = clearing.rented_charge_kw.sum(axis=0)
        self.rented_discharge_kw[:, at:] = clearing.rented_discharge_kw.sum(axis=0)

    def copy(self) -> Plan:
        """Return a plan that later renewals leave alone."""
        return Plan(**{name: getattr(self, name).copy() for name in self.__slots__})


@dataclass(slots=True, eq=False)
class Delivered:
    """What the meters saw; every array has shape (n, T). [kW]"""

    base_load_kw: Matrix
    ev_kw: Matrix
    heat_pump_kw: Matrix
    pv_available_kw: Matrix
    pv_kw: Matrix
    battery_charge_kw: Matrix
    battery_discharge_kw: Matrix
    battery_kwh: Matrix
    """At the start of the interval. [kWh]"""
    meter_kw: Matrix
    meter_kvar: Matrix
    clipped_kw: Matrix
    battery_more_kw: Matrix
    """What the battery took more (gave less) than planned, for the envelope; negative: less."""
    deferred_kw: Matrix
    breach_kw: Matrix
    held_import_kw: Matrix
    """The limits that were kept: of the envelope, a default, or on a ramp; infinite without any."""
    held_export_kw: Matrix
    cause: NDArray[np.object_]
    """"envelope", "default" or "ramp" and "_export" or "_import"; "market"; or "" where the meter was not held."""

    @classmethod
    def empty(cls, n: int, steps: int) -> Delivered:
        """Return a day in which nothing was delivered yet."""
        numbers = {name: np.zeros((n, steps)) for name in cls.__slots__ if name != "cause"}
        return cls(**numbers, cause=np.full((n, steps), "", dtype=object))


@dataclass(frozen=True, slots=True, eq=False)
class ClearingRecord:
    """One clearing as it goes into the books."""

    clearing_id: str
    stage: str
    opened_at: datetime
    clearing: Clearing
    end_missed_kwh: float = 0.0
    """What the shared storage's operator will hold at the end of the day beyond its wish; negative: what it will lack. [kWh]"""
    penalty_eur: float = 0.0
    """What of the clearing's cost is the penalty on energy that must leave its envelope; nobody pays it."""


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """Envelopes as they were announced."""

    issued_at: datetime
    at: int
    """The first interval of the day for which they hold, to its end."""
    publication: Publication


@dataclass(slots=True, eq=False)
class Locational:
    """What the grid asks at every connection for a kWh drawn."""

    losses: Matrix
    """Shape (rows, T). [eur/kWh]"""
    congestion: Matrix
    """Shape (rows, T). [eur/kWh]"""
    binding: NDArray[np.object_]
    """The element that congestion is about, "" where there is none, shape (T,)."""

    def copy(self) -> Locational:
        """Return prices that later clearings leave alone."""
        return Locational(self.losses.copy(), self.congestion.copy(), self.binding.copy())


@dataclass(slots=True, eq=False)
class DayBook:
    """Everything about one delivery day."""

    day: Day
    times: NDArray[np.datetime64]
    truth: Truth
    belief: DayAhead
    prices: dict[str, Prices]
    """By tariff."""
    retail: Retail
    publication: Publication
    """What is in force, interval by interval."""
    issues: list[Issue]
    """Everything that was announced, in order."""
    mailbox: Mailbox
    """What homes hold of them."""
    kept: Kept
    """What homes keep, interval by interval, as far as messages were sent."""
    plan: Plan
    delivered: Delivered
    last_load_kw: Matrix
    """The newest forecasts before delivery, shape (n, T). [kW]"""
    last_solar_kw: Matrix
    last_issued_at: NDArray[np.datetime64]
    """When they were made, shape (T,); NaT where nobody planned again."""
    battery_target_kwh: Vector
    """What own batteries shall hold when the day ends, shape (n,): what they were expected to hold when it began."""
    offer: Offer | None = None
    day_ahead: Plan | None = None
    day_ahead_price_eur_per_kwh: Vector | None = None
    intraday_price_eur_per_kwh: Vector | None = None
    locational: dict[str, Locational] = field(default_factory=dict)
    """By stage, where the market is cleared with the grid at the table."""
    drawn_kw: Matrix | None = None
    """What all places of that grid were last cleared to draw, shape (places, T)."""
    right_energy_kwh: Vector | None = None
    """Space each row may use this day, shape (rows,); the operator's own use last."""
    right_power_kw: Vector | None = None
    rights: Rights | None = None
    """The same of the tenants, with their rents."""
    account_start_kwh: Vector | None = None
    """Energy of each row in the shared storage when the day begins, shape (rows,)."""
    account_end_kwh: Vector | None = None
    """The same when it ends."""
    box_energy_kwh: Vector | None = None
    """Energy in the shared storage at the start of each interval, shape (T,), once the day has been delivered."""
    warm: Warm | None = None
    warm_at: int = 0
    clearings: list[ClearingRecord] = field(default_factory=list)
    unserved_ev_kwh: float = 0.0
