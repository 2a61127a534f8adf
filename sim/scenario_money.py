"""Tariffs and the series they follow, as a scenario states them.

The key of a price carries the unit for every form its value may take: a number, a series with an add-on, or periods by the local clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer

from market.tariffs import Dynamic, Period, Rate, TimeOfUse
from market.tariffs import Tariff as RetailTariff
from sim.scenario_base import Clock, ClockEnd, FileName, Id, Money, Price, Share, Spec
from sim.scenario_file import Loc

__all__ = [
    "EMISSION_UNIT",
    "PRICE_UNIT",
    "LocalSpec",
    "RateSpec",
    "SeriesSpec",
    "SyntheticEmissionFactor",
    "SyntheticPrice",
    "TableSeries",
    "TariffSpec",
    "default_series",
]


PRICE_UNIT, EMISSION_UNIT = "eur/kWh", "kg/kWh"
"""Of the values of a series, after conversion."""
COMPONENTS = ("energy_eur_per_kwh", "network_eur_per_kwh", "levies_eur_per_kwh", "feed_in_eur_per_kwh")


class PeriodSpec(Spec):
    """One price between two local clock times; it may pass midnight."""

    from_: Clock = Field(alias="from")
    """Local clock time at which it begins, in quotes; an interval begins then."""
    to: ClockEnd
    """Local clock time at which it ends, in quotes, on the grid of intervals; "24:00" is the end of the day."""
    price_eur_per_kwh: Price
    """Price between the two."""
    days: Literal["all", "weekday", "weekend"] = "all"
    """On which days; the holidays of the scenario are weekend."""


class RateSpec(Spec):
    """A price: a number (eur_per_kwh), a series with an add-on, or periods that fill the day."""

    eur_per_kwh: Price | None = None
    """The same at all times."""
    series: Id | None = None
    """Id of a series of the scenario that is a price."""
    add_eur_per_kwh: Price = 0.0
    """Added to the series."""
    periods: tuple[PeriodSpec, ...] = ()
    """Prices by the local clock, in the order of their starts; they fill weekday and weekend without gap or overlap."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Check that it is one of the three, and that periods fill the day."""
        given = [name for name in ("eur_per_kwh", "series", "periods") if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            yield (), f'needs exactly one of a number, "series" and "periods"; {" and ".join(given) or "none"} given'
        if self.add_eur_per_kwh and self.series is None:
            yield ("add_eur_per_kwh",), 'is added to a "series", and there is none'
        if self.periods:
            for sentence in TimeOfUse(self._periods()).table()[1]:
                yield ("periods",), sentence.rstrip(".")

    def _periods(self) -> tuple[Period, ...]:
        return tuple(Period(p.from_, p.to, p.price_eur_per_kwh, p.days) for p in self.periods)

    def rate(self) -> Rate:
        """Return it as the market takes it."""
        if self.series is not None:
            return Dynamic(self.series, self.add_eur_per_kwh)
        if self.periods:
            return TimeOfUse(self._periods())
        assert self.eur_per_kwh is not None
        return self.eur_per_kwh

    @model_serializer(mode="plain")
    def _shortest(self) -> float | dict[str, Any] | None:
        if self.periods:
            return {"periods": [p.model_dump(by_alias=True) for p in self.periods]}
        if self.series is not None:
            return {"series": self.series, "add_eur_per_kwh": self.add_eur_per_kwh}
        return self.eur_per_kwh


def _number_is_a_rate(value: Any) -> Any:
    return {"eur_per_kwh": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


RateKey = Annotated[RateSpec, BeforeValidator(_number_is_a_rate, json_schema_input_type=float | RateSpec)]


class LocalSpec(Spec):
    """What a local kWh (from a neighbour, or out of the shared storage) pays of the charges."""

    network_share: Share = 0.5
    """Share of the network charge."""
    levies_share: Share = 1.0
    """Share of the levies."""


class TariffSpec(Spec):
    """A retail tariff: buy = (energy + network + levies) (1 + VAT), sell = feed-in. A number, a series or periods each."""

    energy_eur_per_kwh: RateKey = RateSpec(series="spot", add_eur_per_kwh=0.025)
    """The retailer's part, net of VAT."""
    network_eur_per_kwh: RateKey = RateSpec(eur_per_kwh=0.1095)
    """Network charge, net of VAT."""
    levies_eur_per_kwh: RateKey = RateSpec(eur_per_kwh=0.064)
    """Levies and duties, net of VAT."""
    vat_percent: Annotated[float, Field(strict=True, ge=0, le=100)] = 19.0
    """On energy, network charge and levies."""
    feed_in_eur_per_kwh: RateKey = RateSpec(eur_per_kwh=0.0786)
    """Paid for a kWh fed in."""
    fixed_eur_per_day: Money = 0.0
    """Fixed charge with VAT."""
    local: LocalSpec = LocalSpec()
    """What a local kWh pays of network charge and levies, with VAT."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Notice a fraction where a percentage is asked for."""
        if 0 < self.vat_percent < 1:
            yield (
                ("vat_percent",),
                f"is a percentage: {self.vat_percent:g} would be less than one per cent; write {self.vat_percent * 100:g}",
            )

    def series(self) -> Iterator[tuple[str, str]]:
        """Yield the components that follow a series, and the series."""
        for name in COMPONENTS:
            rate: RateSpec = getattr(self, name)
            if rate.series is not None:
                yield name, rate.series

    def edges(self) -> Iterator[tuple[Loc, str]]:
        """Yield the clock times at which prices change, each once for a price and behind its place in the tariff."""
        for name in COMPONENTS:
            rate: RateSpec = getattr(self, name)
            seen: set[str] = set()
            for k, period in enumerate(rate.periods):
                for key, edge in (("from", period.from_), ("to", period.to)):
                    if edge not in seen:
                        yield (name, "periods", k, key), edge
                    seen.add(edge)

    def tariff(self, tariff_id: str, holidays: tuple[Any, ...] = ()) -> RetailTariff:
        """Return the tariff as the market takes it; raises :class:`market.tariffs.TariffError`."""

        def rate(spec: RateSpec) -> Rate:
            one = spec.rate()
            return TimeOfUse(one.periods, holidays) if isinstance(one, TimeOfUse) else one

        return RetailTariff(
            tariff_id=tariff_id,
            energy=rate(self.energy_eur_per_kwh),
            network=rate(self.network_eur_per_kwh),
            levies=rate(self.levies_eur_per_kwh),
            vat_fraction=self.vat_percent / 100.0,
            feed_in=rate(self.feed_in_eur_per_kwh),
            fixed_eur_per_day=self.fixed_eur_per_day,
            local_network_share=self.local.network_share,
            local_levies_share=self.local.levies_share,
        )


class SyntheticPrice(Spec):
    """A day-ahead spot price that is drawn: a midday dip where the sun shines, an evening peak, cheap weekends."""

    from_: Literal["synthetic_price"] = Field(alias="from")
    """Where the series comes from."""
    mean_eur_per_kwh: Annotated[float, Field(strict=True, ge=0, le=1000)] = 0.08
    """Mean over a week, about."""
    swing: Annotated[float, Field(strict=True, ge=0, le=5)] = 1.0
    """Size of all movements about the mean; 0: none, 1: usual."""

    @property
    def unit_of_series(self) -> str:
        """Unit of the values."""
        return PRICE_UNIT


class SyntheticEmissionFactor(Spec):
    """Emissions of a kWh from the grid, drawn: low at midday and on weekends, high in the evening."""

    from_: Literal["synthetic_emission_factor"] = Field(alias="from")
    """Where the series comes from."""
    mean_kg_per_kwh: Annotated[float, Field(strict=True, ge=0, le=2)] = 0.38
    """Mean over a week, about."""
    swing: Annotated[float, Field(strict=True, ge=0, le=5)] = 1.0
    """Size of all movements about the mean; 0: none, 1: usual."""

    @property
    def unit_of_series(self) -> str:
        """Unit of the values."""
        return EMISSION_UNIT


class TableSeries(Spec):
    """A column of a table (CSV or Parquet) beside the scenario, one row per interval."""

    from_: Literal["table"] = Field(alias="from")
    """Where the series comes from."""
    file: FileName
    """The column "time" holds the start of each interval; the others are figures."""
    column: Id = "value"
    """Name of the column."""
    unit: Literal["eur_per_kwh", "ct_per_kwh", "eur_per_mwh", "kg_per_kwh", "g_per_kwh"] = "eur_per_kwh"
    """Unit of the figures in the file."""
    time_zone: str | None = None
    """Of stamps without an offset; null: the scenario's."""

    @property
    def unit_of_series(self) -> str:
        """Unit of the values after conversion."""
        return EMISSION_UNIT if self.unit in {"kg_per_kwh", "g_per_kwh"} else PRICE_UNIT


SeriesSpec = Annotated[SyntheticPrice | SyntheticEmissionFactor | TableSeries, Field(discriminator="from_")]


def default_series() -> dict[str, Any]:
    """Return the series that every scenario has unless it says otherwise."""
    return {"spot": {"from": "synthetic_price"}, "emission_factor": {"from": "synthetic_emission_factor"}}
