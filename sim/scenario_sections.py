"""The sections of a scenario besides people and money: time, grid, storage, market, operator of the grid, forecasts, cars, report."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from sim.scenario_base import (
    FIRST_YEAR,
    LAST_YEAR,
    Clock,
    Efficiency,
    FeederKw,
    FeederKwh,
    FileName,
    Id,
    LocalDate,
    LocalTime,
    Money,
    Share,
    Spec,
    Switch,
    clock,
    local_time,
)
from sim.scenario_file import Loc
from sim.scenario_messages import MessagesSpec
from sim.stamps import zone_advice

__all__ = [
    "DsoSpec",
    "EssSpec",
    "FirmChargeSpec",
    "ForecastSpec",
    "GridSpec",
    "MarketSpec",
    "ProfileTableSpec",
    "ProfilesSpec",
    "ReportSpec",
    "SettlementSpec",
    "SolarModelSpec",
    "TimeSpec",
    "VehicleSpec",
]


class TimeSpec(Spec):
    """When the simulation begins, how long it lasts, and in which steps."""

    start: LocalTime = "2016-07-18T12:00"
    """Local time of the first interval, in quotes; the run lies between 1970 and 2200."""
    days: Annotated[int, Field(strict=True, ge=1, le=3660)] = 1
    """Delivery days."""
    interval_minutes: Annotated[int, Field(strict=True, ge=1, le=60)] = 15
    """Length of an interval; an hour holds a whole number of them, and so does every day of the run, also one on which clocks move by half an hour."""
    time_zone: str = "Europe/Berlin"
    """Name of the time zone as the IANA gives it."""
    delivery_day_start: Clock = Field(default_factory=lambda data: data.get("start", "2000-01-01T00:00")[11:])
    """Local clock time at which a delivery day begins, in quotes; where not given: the clock time of the start."""
    holidays: tuple[LocalDate, ...] = ()
    """Local dates, in quotes, on which tariffs see a weekend."""

    @property
    def zone(self) -> ZoneInfo:
        """The time zone."""
        return ZoneInfo(self.time_zone)

    def boundaries(self) -> tuple[datetime, ...]:
        """Return the local moments (without zone) between which the delivery days lie, one more than days."""
        start = local_time(self.start)
        first = datetime.combine(start.date(), clock(self.delivery_day_start))
        day = first.date() if first <= start else first.date() - timedelta(days=1)
        later = [
            datetime.combine(day + timedelta(days=k), clock(self.delivery_day_start)) for k in range(1, self.days + 1)
        ]
        return (start, *later)

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check the zone, the grid of intervals, and that every day begins at a time that exists and holds whole intervals."""
        end = self.boundaries()[-1]
        if (end - timedelta(minutes=1)).year > LAST_YEAR:
            yield ("days",), f"the run would end on {end:%Y-%m-%d}; it must lie between {FIRST_YEAR} and {LAST_YEAR}"
            return
        try:
            zone = self.zone
        except (KeyError, ValueError, OSError):
            yield ("time_zone",), f'"{self.time_zone}" is not a known time zone; {zone_advice(self.time_zone)}'
            yield from self._off_the_grid(())
            return
        skipped: dict[str, datetime] = {}
        for k, moment in enumerate(self.boundaries()):
            if not _exists(moment, zone):
                skipped.setdefault("start" if k == 0 else "delivery_day_start", moment)
        if "start" in skipped and "delivery_day_start" not in self.model_fields_set:
            skipped.pop("delivery_day_start", None)
        for where, moment in skipped.items():
            yield (
                (where,),
                f"{moment:%Y-%m-%dT%H:%M} does not exist in {self.time_zone}: clocks go forward then; choose another time",
            )
        off = list(self._off_the_grid(skipped))
        yield from off
        if not skipped and not off:
            yield from self._odd_days(zone)

    def _off_the_grid(self, told: Collection[str]) -> Iterator[tuple[Loc, str]]:
        """Yield what does not lie between two intervals, each value of the file once."""
        if 60 % self.interval_minutes:
            fitting = [m for m in range(1, 61) if 60 % m == 0]
            near = min(fitting, key=lambda m: abs(m - self.interval_minutes))
            yield (
                ("interval_minutes",),
                f"must divide an hour; given {self.interval_minutes}, the nearest that does is {near}",
            )
            return
        minutes = {"start": local_time(self.start).minute}
        if "delivery_day_start" in self.model_fields_set:  # where not given it is the start's
            minutes["delivery_day_start"] = clock(self.delivery_day_start).minute
        for name, minute in minutes.items():
            if minute % self.interval_minutes and name not in told:
                yield (name,), f"must lie on the grid of {self.interval_minutes} minutes; given {getattr(self, name)!r}"

    def _odd_days(self, zone: ZoneInfo) -> Iterator[tuple[Loc, str]]:
        """Yield the first day that does not hold whole intervals: some clocks move by half an hour."""
        moments = [moment.replace(tzinfo=zone).astimezone(UTC) for moment in self.boundaries()]
        for day, begin, end in zip(self.boundaries(), moments, moments[1:], strict=False):
            seconds = round((end - begin).total_seconds())
            if seconds % (60 * self.interval_minutes):
                fitting = math.gcd(seconds, 60 * self.interval_minutes)
                advice = f"choose {fitting // 60} minutes" if fitting % 60 == 0 else "choose other days"
                yield (
                    ("interval_minutes",),
                    (
                        f"the delivery day that begins at {day:%Y-%m-%dT%H:%M} in {self.time_zone} has {seconds / 3600:g} hours, "
                        f"for clocks move in it; intervals of {self.interval_minutes} minutes do not divide it: {advice}"
                    ),
                )
                return


def _exists(moment: datetime, zone: ZoneInfo) -> bool:
    """Tell whether a local time is on the clock, that is, not skipped when clocks go forward."""
    return moment.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == moment


class GridSpec(Spec):
    """The feeder and its limits."""

    source: Id = "simbench:1-LV-rural3--2-no_sw"
    """A built-in feeder such as ieee33, simbench:CODE, pandapower:NAME, a pandapower JSON file, or a folder of CSV tables."""
    v_min_pu: Annotated[float, Field(strict=True, ge=0.5, le=1)] = 0.90
    """Lowest voltage allowed, of nominal."""
    v_max_pu: Annotated[float, Field(strict=True, ge=1, le=1.5)] = 1.10
    """Highest voltage allowed, of nominal."""
    loading_max_percent: Annotated[float, Field(strict=True, ge=5, le=500)] = 100.0
    """Highest loading of lines and transformers allowed, of their rating."""


class ProfileTableSpec(Spec):
    """A table of profiles: the column "time", then one column per profile."""

    file: FileName
    """CSV or Parquet."""
    unit: Literal["kw", "w", "mw", "kwh", "wh", "1"] = "kw"
    """Unit of the figures, in quotes where it is "1": multiples of the nameplate; kwh and wh are energies per interval. A home that uses a profile in kW has a nameplate of 1 kW."""
    time_zone: str | None = None
    """Of stamps without an offset; null: the scenario's."""


class SolarModelSpec(Spec):
    """A solar profile that is modelled by pvlib."""

    id: Id
    """Name of the profile."""
    latitude_deg: Annotated[float, Field(strict=True, ge=-90, le=90)]
    """North is positive."""
    longitude_deg: Annotated[float, Field(strict=True, ge=-180, le=180)]
    """East is positive."""
    tilt_deg: Annotated[float, Field(strict=True, ge=0, le=90)] = 30.0
    """Slope of the modules; 0 is flat."""
    azimuth_deg: Annotated[float, Field(strict=True, ge=0, le=360)] = 180.0
    """Direction of the modules; 180 is south."""
    altitude_m: Annotated[float, Field(strict=True, ge=-500, le=9000)] = 0.0
    """Height above the sea."""
    weather: FileName | None = None
    """Table (CSV or Parquet, stamps with offset) with the columns ghi [W/m2] and perhaps temp [°C]; null: a drawn sky, the same for all models."""


class ProfilesSpec(Spec):
    """Further sources of profiles, besides the data set of the grid."""

    tables: tuple[ProfileTableSpec, ...] = ()
    """Tables with measured or made profiles."""
    solar: tuple[SolarModelSpec, ...] = ()
    """Modelled solar plants."""


class FirmChargeSpec(Spec):
    """A promise of the storage to charge, which the operator of the grid may buy to widen envelopes."""

    offer_kw: FeederKw = 20.0
    """Power that may be promised; 0: none."""
    price_eur_per_kwh: Money = 0.03
    """Paid by the operator of the grid for promised energy."""


class EssSpec(Spec):
    """A shared energy-storage system (ESS) whose space people rent."""

    id: Id = "ess"
    """Its name, and that of its operator's account."""
    bus: str = ""
    """Bus at which it stands; empty: the busbar below the transformer."""
    phase: Literal["a", "b", "c", "abc"] = "abc"
    """Conductor to which it is connected; abc: all three alike."""
    energy_kwh: FeederKwh = 150.0
    """Usable energy; 0: there is no storage."""
    charge_kw: FeederKw = 25.0
    """Highest charging power."""
    discharge_kw: FeederKw = 25.0
    """Highest discharging power."""
    efficiency_charge: Efficiency = 0.95
    """Share of the charged energy that gets in."""
    efficiency_discharge: Efficiency = 0.95
    """Share of the energy taken from the box that comes out."""
    self_discharge_per_h: Annotated[float, Field(strict=True, ge=0, le=0.1)] = 0.0
    """Share of its energy that is lost in an hour."""
    initial_kwh: FeederKwh = 0.0
    """Energy in it at the start; it is the operator's."""
    rent_energy_eur_per_kwh_day: Money = 0.04
    """Least rent for a kWh of space for a day."""
    rent_power_eur_per_kw_day: Money = 0.02
    """Least rent for a kW for a day."""
    wear_eur_per_kwh: Money = 0.01
    """Fee for throughput, per kWh charged and per kWh discharged."""
    own_use_rent_factor: Annotated[float, Field(strict=True, ge=1, le=1000)] = 1.5
    """The operator uses what nobody rents if it earns so many times the rent: tenants come first."""
    tariff: str = ""
    """Id of the tariff for what the operator buys and sells; empty: the first tariff."""
    firm_charge: FirmChargeSpec = FirmChargeSpec()
    """What it promises the grid."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a box that begins fuller than full, and one that cannot be used."""
        if self.initial_kwh > self.energy_kwh:
            yield ("initial_kwh",), f"must not be above energy_kwh ({self.energy_kwh:g}); given {self.initial_kwh:g}"
        if self.energy_kwh > 0 and not (self.charge_kw > 0 and self.discharge_kw > 0):
            which = "charge_kw" if self.charge_kw <= 0 else "discharge_kw"
            yield (which,), "must be above 0 for a storage; for a run without storage set energy_kwh to 0"


class MarketSpec(Spec):
    """How energy and storage rights change hands."""

    mechanism: Literal["exchange"] = "exchange"
    """exchange: one price per interval, cleared together with the rights to the storage."""
    replanning: Literal["tradable", "pinned", "off"] = "tradable"
    """What the hourly re-planning may change: trades and plans, plans only, or there is none."""
    tolerance: Annotated[float, Field(strict=True, gt=0, le=0.1)] = 1e-3
    """Relative residuals at which the clearing stops."""
    max_iterations: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 20_000
    """Iterations after which it gives up and says so."""
    gate: Clock = "11:00"
    """Local clock time of the day-ahead gate, in quotes."""
    channel: Literal["ideal"] = "ideal"
    """How messages travel; ideal: at once."""


class DsoSpec(Spec):
    """What the operator of the grid does."""

    network: Literal["none", "envelopes", "prices"] = "envelopes"
    """How the market minds the grid, which is checked in any case; none: not at all; envelopes: everybody trades inside published limits; prices: the feeder is at the table, and energy has a price for every home."""
    envelopes: Switch = True
    """false is short for network: none."""
    rule: Literal[
        "proportional", "equal", "max_min", "last_in_first_out", "max_total", "proportional_fairness", "alpha_fair"
    ] = "proportional"
    """How the room is shared; proportional: the same share of everyone's capability."""
    mode: Literal["deterministic", "robust", "robust_pinned", "budget", "chance"] = "deterministic"
    """Which uses of the envelopes must be safe; deterministic: all export, and all import; robust: any; robust_pinned: any, with import_right_kw for everybody; budget: all alike but for a few; chance: any, with uncertain loads."""
    alpha: Annotated[float, Field(strict=True, gt=0, le=100)] = 2.0
    """Of the rule alpha_fair: the larger, the nearer to max_min."""
    export_right_kw: FeederKw = 0.0
    """Export that everybody with a device may do in any case, up to the own cap."""
    import_right_kw: FeederKw = 0.0
    """Import likewise; in the mode robust_pinned the import limit itself."""
    deviating: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 2
    """In the mode budget: how many may do otherwise than all the others."""
    load_error_percent: Annotated[float, Field(strict=True, ge=0, le=1000)] = 0.0
    """How far loads without an envelope may be from their forecast; in the mode chance: the standard deviation."""
    impedance_error_percent: Annotated[float, Field(strict=True, ge=0, le=90)] = 0.0
    """How much larger or smaller all impedances may be."""
    source_error_pu: Annotated[float, Field(strict=True, ge=0, le=0.5)] = 0.0
    """How much higher or lower the voltage of the grid above may be, of nominal."""
    break_probability: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.05
    """In the mode chance: with what probability an interval may break a limit."""
    power_factor: Annotated[float, Field(strict=True, ge=-1, le=1)] | None = None
    """Assumed of everybody with an envelope, negative: leading; null: reactive power as forecast."""
    free_kvar: Annotated[float, Field(strict=True, ge=0, le=1000)] = 0.0
    """Reactive power within which everybody with an envelope may do anything on top."""
    renew: Literal["off", "hourly"] = "off"
    """Whether envelopes are computed again five minutes before every hour, with the newest forecasts."""
    enforcement: Literal["pv_battery_flexible", "battery_pv_flexible"] = "pv_battery_flexible"
    """What gives way first where a meter would leave its envelope; pv_battery_flexible: solar, then the battery, then car and heat pump."""
    ramp_kw_per_min: Annotated[float, Field(strict=True, gt=0, le=100_000)] | None = None
    """How fast the limits of a home may grow from interval to interval; null: at once. A limit that shrinks binds at once."""
    messages: MessagesSpec | None = None
    """How envelopes reach the homes; null: at once and exactly."""
    publish: Clock = "10:00"
    """Local clock time of publication, in quotes; before the gate."""
    lifting: Switch = True
    """Whether it buys firm charge of the storage where solar would be lost, and widens the envelopes by it."""
    base_import_kw: FeederKw = 4.2
    """Import that every home with a device may have besides its car and heat pump (§14a EnWG: 4.2 kW)."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, data: Any) -> Any:
        """Let either word stand for both where only one is given."""
        if isinstance(data, dict) and ("network" in data) != ("envelopes" in data):
            if data.get("envelopes") is False:
                return {**data, "network": "none"}
            if data.get("network") in ("none", "prices"):
                return {**data, "envelopes": False}
        return data

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse modes without what they need, and two words that say two things."""
        if self.envelopes != (self.network == "envelopes"):
            yield (
                ("envelopes",),
                f"is {str(self.envelopes).lower()} where network is {self.network}; leave envelopes out",
            )
        if self.network == "prices" and self.mode != "deterministic":
            yield ("mode",), "must be deterministic where network is prices: plans are made by prices, not by envelopes"
        if self.network == "prices" and self.renew != "off":
            yield ("renew",), "must be off where network is prices: every clearing says what holds until the next"
        if self.mode == "robust_pinned" and self.import_right_kw <= 0:
            yield ("import_right_kw",), "must be above 0 in the mode robust_pinned: it is everybody's import limit"
        if self.mode == "chance" and self.load_error_percent <= 0:
            yield ("load_error_percent",), "must be above 0 in the mode chance: without an error there is no chance"
        if self.power_factor == 0:
            yield ("power_factor",), "must not be 0; null: reactive power as forecast"


class SettlementSpec(Spec):
    """How differences between position and meter are shared."""

    rule: Id = "alloc.prorata"
    """Rule by which local surplus is allocated to those who need it."""
    price: Id = "price.mmr"
    """Price at which it changes hands; price.mmr: the mid-market rate."""
    keys: dict[Id, Share] = Field(default_factory=dict)
    """For rules with fixed keys (alloc.static, ...): the share of each home, by its id; they add up to 1, and who is missing has 0. Empty: equal shares."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check that keys are used, and add up."""
        if self.keys and not self.has_keys:
            yield ("keys",), f"are given, but {self.rule} has none; remove them or choose alloc.static"
        elif self.keys and abs(sum(self.keys.values()) - 1.0) > 1e-6:
            yield ("keys",), f"must add up to 1; they add up to {sum(self.keys.values()):g}"

    @property
    def has_keys(self) -> bool:
        """Whether the rule shares by fixed keys."""
        return self.rule.startswith("alloc.static")


class ForecastSpec(Spec):
    """How well people forecast: load by the mean of the same weekday in the weeks before, solar with a drawn error."""

    weeks: Annotated[int, Field(strict=True, ge=1, le=52)] = 3
    """Weeks that the load forecast looks back."""
    solar_error_std: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.046
    """Standard deviation of the solar forecast's error, as a share of the peak power."""
    solar_bias: Annotated[float, Field(strict=True, ge=-1, le=1)] = -0.05
    """Systematic error of the solar forecast, as a share."""
    solar_common: Share = 0.8
    """Share of the error's variance that all plants have in common."""
    solar_memory_hours: Annotated[float, Field(strict=True, gt=0, le=240)] = 3.0
    """Time in which the error forgets 63 %."""
    load_persistence: Share = 0.5
    """Share of the last error that the newest load forecast carries on."""
    lead_hours: Annotated[float, Field(strict=True, gt=0, le=240)] = 3.0
    """Lead time over which the advantage of a new forecast dies away."""


class VehicleSpec(Spec):
    """How cars are used; every day of every car is drawn."""

    share_of_days: Share = 0.75
    """Days on which the car goes out."""
    arrival_mean_hour: Annotated[float, Field(strict=True, ge=0, lt=24)] = 18.0
    """Mean local hour of coming home."""
    arrival_std_hours: Annotated[float, Field(strict=True, ge=0, le=12)] = 1.5
    """Its standard deviation."""
    departure_mean_hour: Annotated[float, Field(strict=True, ge=0, lt=24)] = 7.0
    """Mean local hour of leaving."""
    departure_std_hours: Annotated[float, Field(strict=True, ge=0, le=12)] = 1.0
    """Its standard deviation."""
    energy_mean_kwh: Annotated[float, Field(strict=True, gt=0, le=1000)] = 10.6
    """Mean energy wanted per session; gamma distributed."""
    energy_shape: Annotated[float, Field(strict=True, gt=0, le=1000)] = 2.0
    """Shape of that distribution; the higher, the more alike."""
    efficiency: Efficiency = 0.95
    """Of charging, and of feeding back."""


class ReportSpec(Spec):
    """How the report is written."""

    plain: Switch = False
    """Whether its scripts are kept uncompressed, for very old browsers."""
    network_words: Switch | None = None
    """Whether the first day is also cleared with the other words of dso.network, to compare what each costs; null: where it is prices."""
