"""Who takes part in a market's case, and what they own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from sim.case_series import LARGEST, Floats, Limit, Series, series, steady
from sim.scenario_base import CONTRADICTION, Efficiency, Id, Spec, Switch
from sim.scenario_file import Loc
from sim.scenario_mistakes import shown

__all__ = [
    "Battery",
    "Buffer",
    "CurveAgent",
    "Flexible",
    "Prosumer",
    "SharedStorage",
    "Store",
    "Vehicle",
]


def _not_negative(value: Any) -> Any:
    """Say of a size below 0 more than that it is below 0."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        sentence = f"must be at least 0; given {shown(value)}. It is a size: it has no direction, and 0 is nothing"
        raise PydanticCustomError(CONTRADICTION, "{text}", {"text": sentence, "found": [((), sentence)]})
    return value


Kwh = Annotated[float, BeforeValidator(_not_negative), Field(strict=True, ge=0, le=LARGEST)]
Kw = Annotated[float, BeforeValidator(_not_negative), Field(strict=True, ge=0, le=LARGEST)]
Rent = Annotated[float, Field(strict=True, ge=0, le=LARGEST)]
Hours = Annotated[float, Field(strict=True, ge=0, le=LARGEST)]
PerHour = Annotated[float, Field(strict=True, ge=0, lt=1)]
Load = Annotated[Floats, series(least=0, why="What is generated goes into pv_kw")]
Generation = Annotated[Floats, series(least=0, why="What is consumed goes into load_kw")]
Available = Annotated[Floats, series(least=0, most=1, why="It is a share of the power")]
Slope = Annotated[
    Floats,
    series(least=0, why="A marginal cost that falls has no market price"),
    Field(json_schema_extra={"unit": "currency per kW²h"}),
]
Intercept = Annotated[Floats, series(), Field(json_schema_extra={"unit": "currency per kWh"})]
Power = Annotated[Floats, series(), Field(json_schema_extra={"unit": "kW"})]


class CurveAgent(Spec):
    """One whose cost is a curve: dt (a/2 p² + b p) for bringing p to market, production positive."""

    id: Id
    """Its name."""
    a: Slope = steady(0.0)
    """Slope of the marginal cost a p + b; sources that write a p² + b p have half of it."""
    b: Intercept
    """Marginal cost of the first kWh: what a producer wants at least, or what the first kWh is worth to a consumer."""
    p_min: Power
    """Least power; below 0 the agent may consume."""
    p_max: Power
    """Largest power; above 0 the agent may produce."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse bounds that leave nothing."""
        for t in np.flatnonzero(self.p_min > self.p_max)[:1].tolist():
            yield (
                ("p_min",),
                f"is above p_max in interval {t} ({self.p_min[t]:g} against {self.p_max[t]:g}): nothing is left between them",
            )


def _half(data: dict[str, float]) -> float:
    return float(data.get("energy_kwh", 0.0)) / 2.0


class Battery(Spec):
    """A battery of one's own."""

    kind: Literal["battery"]
    """What it is."""
    energy_kwh: Kwh
    """Usable energy."""
    charge_kw: Kw = Field(default_factory=_half)
    """Highest charging power; where not given: the energy over two hours."""
    discharge_kw: Kw = Field(default_factory=_half)
    """Highest discharging power; where not given: the energy over two hours."""
    efficiency_charge: Efficiency = 1.0
    """Share of the charged energy that gets in."""
    efficiency_discharge: Efficiency = 1.0
    """Share of the energy taken from it that comes out."""
    self_discharge_per_h: PerHour = 0.0
    """Share of its energy that is lost in an hour."""
    initial_kwh: Kwh = 0.0
    """Energy in it at the start."""
    final_kwh: Kwh | None = None
    """Least energy in it at the end; null: as much as at the start."""
    wear_eur_per_kwh: Rent = 0.0
    """Wear, per kWh charged and per kWh discharged; a cost, paid to nobody."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse contents above full."""
        yield from _in_box(self.energy_kwh, initial_kwh=self.initial_kwh, final_kwh=self.final_kwh)


class Vehicle(Spec):
    """A car that is at home for a while and shall have taken in some energy when it leaves."""

    kind: Literal["vehicle"]
    """What it is."""
    energy_kwh: Kwh
    """Usable energy of its battery."""
    charge_kw: Kw = 11.0
    """Rating of the charging point."""
    arrival_hours: Hours = 0.0
    """When it arrives, in hours after the beginning of the first interval."""
    departure_hours: Hours | None = None
    """When it leaves; null: it stays to the end."""
    initial_kwh: Kwh = 0.0
    """Energy in it when it arrives."""
    needed_kwh: Kwh
    """Energy that it shall have taken in when it leaves."""
    v2g: Switch = False
    """Whether it may feed back."""
    efficiency_charge: Efficiency = 1.0
    """Share of the charged energy that gets in."""
    efficiency_discharge: Efficiency = 1.0
    """Share of the energy taken from it that comes out."""
    wear_eur_per_kwh: Rent = 0.0
    """Wear, per kWh charged and per kWh discharged; a cost, paid to nobody."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a car that leaves before it comes, or fuller than full."""
        if self.departure_hours is not None and self.departure_hours <= self.arrival_hours:
            yield (
                ("departure_hours",),
                f"must be after arrival_hours ({self.arrival_hours:g}); given {self.departure_hours:g}",
            )
        if self.initial_kwh + self.needed_kwh > self.energy_kwh:
            yield (
                ("needed_kwh",),
                f"does not fit: {self.initial_kwh:g} kWh at arrival and {self.needed_kwh:g} kWh are more than the {self.energy_kwh:g} kWh of the car",
            )


class Buffer(Spec):
    """A heat buffer behind a heat pump, in electrical energy: what the house draws is taken out of it, whatever happens."""

    kind: Literal["buffer"]
    """What it is."""
    energy_kwh: Kwh
    """Largest content."""
    power_kw: Kw
    """Rating of the heat pump."""
    demand_kw: Load = steady(0.0)
    """What the house draws from the buffer."""
    efficiency_charge: Efficiency = 1.0
    """Share of the energy put in that stays."""
    self_discharge_per_h: PerHour = 0.0
    """Share of its content that is lost in an hour."""
    initial_kwh: Kwh = 0.0
    """Content at the start."""
    final_kwh: Kwh | None = None
    """Least content at the end; null: as much as at the start."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse contents above full."""
        yield from _in_box(self.energy_kwh, initial_kwh=self.initial_kwh, final_kwh=self.final_kwh)


Store = Annotated[Battery | Vehicle | Buffer, Field(discriminator="kind")]


class Flexible(Spec):
    """Demand that can wait or be left out: a washing machine, a pump, a workshop. Several of them are the steps of a worth that falls."""

    power_kw: Load
    """Highest power; 0 where it cannot be taken."""
    least_kw: Load = steady(0.0)
    """Power that is taken whatever it costs."""
    needed_kwh: Kwh = 0.0
    """Energy that it shall have taken in."""
    needed_by_hours: Hours | None = None
    """Until when, in hours after the beginning; null: until the end. The whole interval in which that lies counts."""
    most_kwh: Kwh | None = None
    """Energy beyond which nothing is wanted; null: no limit but the power."""
    utility_eur_per_kwh: Rent = 0.0
    """What a kWh is worth, beyond what is needed too. Every kWh that it could take and does not, at power_kw all the time, costs that."""
    each_day: Switch = False
    """Whether needed_kwh, needed_by_hours and most_kwh are those of every 24 hours of the case."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse bounds that leave nothing."""
        for t in np.flatnonzero(self.least_kw > self.power_kw)[:1].tolist():
            yield (
                ("least_kw",),
                f"is above power_kw in interval {t} ({self.least_kw[t]:g} against {self.power_kw[t]:g}): nothing is left between them",
            )


class Prosumer(Spec):
    """A home, or whoever has a meter of its own."""

    id: Id
    """Its name."""
    load_kw: Load = steady(0.0)
    """What is consumed and cannot be moved."""
    pv_kw: Generation = steady(0.0)
    """What could be generated; any part of it may be curtailed."""
    import_limit_kw: Limit = steady(None)
    """Envelope of the meter, import side; null: no limit."""
    export_limit_kw: Limit = steady(None)
    """Envelope of the meter, export side; null: no limit."""
    buy_eur_per_kwh: Series | None = None
    """Retail purchase price of this agent; null: that of the case."""
    sell_eur_per_kwh: Series | None = None
    """Retail feed-in price of this agent; null: that of the case."""
    stores: tuple[Store, ...] = ()
    """What it can move energy with: batteries, cars, buffers."""
    flexible: tuple[Flexible, ...] = ()
    """Demand that can wait or be left out, beside load_kw."""


class SharedStorage(Spec):
    """An energy-storage system (ESS) in which agents rent kWh of space and kW of power for the whole horizon."""

    id: Id = "ess"
    """Its name."""
    owner: Id | None = None
    """Who gets the rents: an agent, or the name of an operator; null: an operator that is called as the storage."""
    energy_kwh: Kwh
    """Energy that is offered."""
    power_kw: Kw
    """Power that is offered, each way."""
    efficiency_charge: Efficiency = 1.0
    """Share of the charged energy that gets in."""
    efficiency_discharge: Efficiency = 1.0
    """Share of the energy taken from it that comes out."""
    self_discharge_per_h: PerHour = 0.0
    """Share of its energy that is lost in an hour."""
    wear_eur_per_kwh: Rent = 0.0
    """Wear, per kWh charged and per kWh discharged; a cost, paid to nobody."""
    rent_energy_eur_per_kwh: Rent = 0.0
    """Reserve rent of one kWh of space for the whole horizon."""
    rent_power_eur_per_kw: Rent = 0.0
    """Reserve rent of one kW for the whole horizon."""
    import_limit_kw: Limit = steady(None)
    """Envelope of the storage's own meter, import side; null: no limit."""
    export_limit_kw: Limit = steady(None)
    """Envelope of the storage's own meter, export side; null: no limit."""
    mode: Literal["rights", "netted"] = "rights"
    """rights: what all tenants rent together is at most what is offered; netted: what each rents is, and the box has to carry the sum of
    their flows, in which opposite ones cancel."""
    available: Available = steady(1.0)
    """Share of the rented power that may be used: 1 where rights are firm, less where they may be interrupted."""
    tenants: tuple[Id, ...] | None = None
    """Who may rent; null: everybody."""


def _in_box(size: float, **contents: float | None) -> Iterator[tuple[Loc, str]]:
    for name, content in contents.items():
        if content is not None and content > size:
            yield (name,), f"must not be above energy_kwh ({size:g}); given {content:g}"
