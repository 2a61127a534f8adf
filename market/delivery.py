"""What is settled: one delivery day of a community, as it was sold, rented and metered.

Rows are agents: homes, operators of shared storages, and whoever else has a meter.  The operator of a shared storage
needs no positions of its tenants: its rented flows mirror theirs (what tenants charge, it takes in), so that one
balance holds for everyone, per agent and interval::

    grid_buy − grid_sell − exchange + rented_discharge − rented_charge = meter                             (1)

What the operator does for itself is what its meter shows beyond its tenants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.tariffs import Prices

__all__ = ["Delivery", "Handovers", "Rents", "SettlementError", "Sharing", "whole"]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]
Times = NDArray[np.datetime64]

BALANCE_KW = 1e-7
"""Positions of a stage must sum to zero this closely."""
ROUNDING = 1e-9
"""What is never negative may be so by this much (kW, kWh): far less than a whole milli-watt-hour."""


class SettlementError(ValueError):
    """A delivery day cannot be settled; the message names every mistake."""


def whole(power_kw: ArrayLike, dt_h: float) -> Counts:
    """Return the energy of intervals in whole milli-watt-hours, half to even.

    Examples
    --------
    >>> whole([1.0, -0.0000031], 0.25)
    array([250000,     -1])
    """
    return np.rint(np.asarray(power_kw, dtype=np.float64) * dt_h * 1e6).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """How differences between meter and position are shared before the retailer sees the rest."""

    allocation: str = "alloc.prorata"
    """Id of a rule of :data:`market.allocation.ALLOCATIONS`."""
    price: str = "price.mmr"
    """Id of a rule of :data:`market.allocation.PRICES`."""
    keys: Vector | None = None
    """For rules with keys: one per agent, shape (n,) or (n, T). [1]"""
    only_if_worthwhile: bool = False
    """Share nothing in intervals in which no price would leave both sides better off than the retailer: where the
    cheapest retail price less the local charge, among those in need, is below the best feed-in price of the others."""


@dataclass(frozen=True, slots=True, eq=False)
class Rents:
    """Rights to shared storages in force on this day; every array has shape (r,)."""

    right_id: tuple[str, ...] = ()
    agent: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Row of the tenant."""
    ess: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Which shared storage, an index into ``Delivery.ess_row``."""
    energy_kwh: Vector = field(default_factory=lambda: np.zeros(0))
    power_kw: Vector = field(default_factory=lambda: np.zeros(0))
    rent_energy_eur_per_kwh: Vector = field(default_factory=lambda: np.zeros(0))
    """For the whole day: reserve rent and scarcity rent together."""
    rent_power_eur_per_kw: Vector = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Handovers:
    """What ended rights left in shared storages; every array has shape (h,)."""

    right_id: tuple[str, ...] = ()
    agent: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Row of the tenant."""
    ess: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    step: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The interval in which the right ended, an index into the day's intervals."""
    energy_kwh: Vector = field(default_factory=lambda: np.zeros(0))
    """Taken over by the operator; negative where the tenant left less than it had begun with."""
    price_eur_per_kwh: Vector = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One delivery day; ``n`` agents, ``T`` intervals, ``k`` tariffs, ``m`` shared storages.

    Raises
    ------
    SettlementError
        Naming everything that does not fit.
    """

    agent_id: tuple[str, ...]
    times: Times
    """Starts of the intervals in UTC, ``datetime64``, shape (T,)."""
    dt_h: float
    """Length of an interval. [h]"""
    meter_kw: Matrix
    """Import +, shape (n, T); the row of a shared storage is its own meter."""

    tariff_id: tuple[str, ...]
    prices: tuple[Prices, ...]
    """One per tariff, arrays of shape (T,)."""
    tariff: NDArray[np.int64]
    """Which tariff each agent has, shape (n,)."""
    fixed_eur_per_day: Vector
    """Shape (k,); paid for the day by every agent with that tariff."""

    day_ahead_kw: Matrix | None = None
    """Sale +, shape (n, T), every column sums to zero; None: nothing was traded."""
    day_ahead_price_eur_per_kwh: Vector | None = None
    """Shape (T,)."""
    intraday_kw: Matrix | None = None
    """The WHOLE position after the last clearing before delivery, not the difference; None: as day ahead."""
    intraday_price_eur_per_kwh: Vector | None = None
    sharing: Sharing = field(default_factory=Sharing)
    shares: NDArray[np.bool_] | None = None
    """Whose differences are shared, shape (n,); None: everybody's."""

    ess_row: tuple[int, ...] = ()
    """Rows of the shared storages.  A storage does not consume: it pays no local charge."""
    rented_charge_kw: Cube | None = None
    """Charging of the tenants, shape (m, n, T), never negative; a storage's own row is not read."""
    rented_discharge_kw: Cube | None = None
    throughput_fee_eur_per_kwh: Vector | None = None
    """Paid by tenants for each kWh in and each kWh out, shape (m,)."""
    rents: Rents = field(default_factory=Rents)
    handovers: Handovers = field(default_factory=Handovers)
    firm_charge_kw: Matrix | None = None
    """What the network operator ordered and pays for, shape (m, T)."""
    firm_price_eur_per_kwh: float = 0.0

    loss_kwh: Vector | None = None
    """Network losses, shape (T,), bought by the network operator from the retailer."""
    loss_price_eur_per_kwh: Vector | None = None
    """Shape (T,)."""
    network_losses_eur_per_kwh: Matrix | None = None
    """What the network operator asks for losses, per kWh drawn at each meter (negative: it pays), shape (n, T)."""
    network_congestion_eur_per_kwh: Matrix | None = None
    """Likewise for congestion."""
    aggregator_id: tuple[str, ...] | None = None
    """Of each agent, ``""`` without one; None: nobody has one."""
    aggregator_fee_eur_per_day: Vector | float = 0.0
    """Of each agent, shape (n,), or the same for all."""

    retailer: str = "retailer"
    dso: str = "dso"
    state: str = "state"

    @property
    def n(self) -> int:
        """Number of agents."""
        return len(self.agent_id)

    @property
    def steps(self) -> int:
        """Number of intervals."""
        return int(self.times.size)

    def outside(self) -> tuple[str, ...]:
        """Return the accounts that are not agents: retailer, network operator, state, aggregators."""
        aggregators = sorted({name for name in self.aggregator_id or () if name})
        return (self.retailer, self.dso, self.state, *aggregators)

    def __post_init__(self) -> None:
        mistakes = [*self._names(), *self._shapes()]
        if not mistakes:
            mistakes = [*self._values(), *self._indices()]
        if mistakes:
            raise SettlementError("\n".join(mistakes))

    def _names(self) -> Iterator[str]:
        accounts = (*self.agent_id, *self.outside())
        twice = (
            sorted({name for name in accounts if accounts.count(name) > 1})
            if len(set(accounts)) < len(accounts)
            else []
        )
        if twice:
            yield f"the accounts {', '.join(twice)} occur twice. Give agents, retailer, network operator and state names of their own."
        if not 0.0 < self.dt_h < math.inf:
            yield f"dt_h is {self.dt_h}. Give the length of an interval in hours."
        if self.times.ndim != 1 or not self.steps or (np.diff(self.times) <= np.timedelta64(0)).any():
            yield "times must be at least one interval start, in order."

    def _shapes(self) -> Iterator[str]:
        n, steps, k, m = self.n, self.steps, len(self.tariff_id), len(self.ess_row)
        expected: dict[str, tuple[int, ...]] = {
            "meter_kw": (n, steps), "day_ahead_kw": (n, steps), "intraday_kw": (n, steps), "tariff": (n,), "shares": (n,),
            "day_ahead_price_eur_per_kwh": (steps,), "intraday_price_eur_per_kwh": (steps,), "fixed_eur_per_day": (k,),
            "rented_charge_kw": (m, n, steps), "rented_discharge_kw": (m, n, steps), "throughput_fee_eur_per_kwh": (m,),
            "firm_charge_kw": (m, steps), "loss_kwh": (steps,), "loss_price_eur_per_kwh": (steps,), "aggregator_id": (n,),
            "network_losses_eur_per_kwh": (n, steps), "network_congestion_eur_per_kwh": (n, steps),
        }  # fmt: skip
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                yield f"{name} has shape {np.shape(value)}; {shape} is needed."
        if np.shape(self.aggregator_fee_eur_per_day) not in ((), (n,)):
            yield f"aggregator_fee_eur_per_day has shape {np.shape(self.aggregator_fee_eur_per_day)}; give a number, or {n}."
        if len(self.prices) != k or any(prices.buy.shape != (steps,) for prices in self.prices):
            yield f"prices must hold one Prices of {steps} interval(s) for each of the {k} tariff(s)."
        for table in (self.rents, self.handovers):
            count = len(table.right_id)
            wrong = [name for name in table.__slots__ if len(getattr(table, name)) != count]
            if wrong:
                yield f"{type(table).__name__}: {', '.join(wrong)} must have one entry for each of the {count} right(s)."
        for first, second in (
            ("day_ahead_kw", "day_ahead_price_eur_per_kwh"),
            ("intraday_kw", "intraday_price_eur_per_kwh"),
            ("rented_charge_kw", "rented_discharge_kw"),
            ("loss_kwh", "loss_price_eur_per_kwh"),
        ):
            if getattr(self, first) is not None and getattr(self, second) is None:
                yield f"{first} is given without {second}."

    def _values(self) -> Iterator[str]:
        for name in (
            "meter_kw", "day_ahead_kw", "day_ahead_price_eur_per_kwh", "intraday_kw", "intraday_price_eur_per_kwh",
            "fixed_eur_per_day", "rented_charge_kw", "rented_discharge_kw", "throughput_fee_eur_per_kwh", "firm_charge_kw",
            "firm_price_eur_per_kwh", "loss_kwh", "loss_price_eur_per_kwh", "aggregator_fee_eur_per_day",
            "network_losses_eur_per_kwh", "network_congestion_eur_per_kwh",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not np.isfinite(value).all():
                yield f"{name} holds {_first(value, ~np.isfinite(value))}. Every figure must be a finite number."
        for name in ("rented_charge_kw", "rented_discharge_kw", "firm_charge_kw", "loss_kwh"):
            value = getattr(self, name)
            if value is not None and (value < -ROUNDING).any():
                yield f"{name} holds {_first(value, value < -ROUNDING)}. It must not be negative."
        for k, prices in enumerate(self.prices):
            if not all(np.isfinite(getattr(prices, name)).all() for name in prices.__slots__):
                yield f"the prices of tariff {self.tariff_id[k]!r} hold NaN or infinity."
        for table in (self.rents, self.handovers):
            for name in table.__slots__:
                value = getattr(table, name)
                if name != "right_id" and not np.isfinite(value).all():
                    yield f"{type(table).__name__}.{name} holds {_first(value, ~np.isfinite(value))}. Give finite numbers."
        for name in ("day_ahead_kw", "intraday_kw"):
            position = getattr(self, name)
            if position is not None and (np.abs(position.sum(axis=0)) > BALANCE_KW).any():
                t = int(np.argmax(np.abs(position.sum(axis=0))))
                yield (
                    f"{name} sums to {position.sum(axis=0)[t]:g} kW at {self.times[t]}Z. What is sold must be bought: the "
                    f"positions of every interval sum to zero within {BALANCE_KW:g} kW."
                )

    def _indices(self) -> Iterator[str]:
        n, m = self.n, len(self.ess_row)
        for name, value, size in (
            ("tariff", self.tariff, len(self.tariff_id)),
            ("ess_row", np.asarray(self.ess_row, dtype=np.int64), n),
            ("rents.agent", self.rents.agent, n),
            ("rents.ess", self.rents.ess, m),
            ("handovers.agent", self.handovers.agent, n),
            ("handovers.ess", self.handovers.ess, m),
            ("handovers.step", self.handovers.step, self.steps),
        ):
            if ((value < 0) | (value >= size)).any():
                yield f"{name} holds an index outside 0 .. {size - 1}."
        if len(set(self.ess_row)) < m:
            yield "ess_row names an agent twice."


def _first(value: ArrayLike, wrong: ArrayLike) -> str:
    """Return the first wrong value with its place."""
    array, mask = np.asarray(value), np.asarray(wrong)
    if not array.ndim:
        return str(array)
    place = tuple(int(i) for i in np.argwhere(mask)[0])
    return f"{array[place]} at {list(place)}"
