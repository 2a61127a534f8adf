"""What a kilowatt-hour costs at the retailer, what it earns, and what a local one pays for the wires.

A tariff is a list of components, each a number, a series of the market with an add-on, or prices by the local clock::

    buy          = (energy + network + levies) (1 + VAT)                                              (1)
    sell         = feed-in                                                                            (2)
    local charge = (s_network network + s_levies levies) (1 + VAT)                                    (3)

(1) is paid for a kWh from the retailer, (2) is earned for one fed in, (3) is what a LOCAL kWh (bought from a neighbour,
or taken out of the shared storage) pays on top of its own price: a share of the network charge and of the levies.
No VAT is put on what neighbours pay one another.  A fixed charge per day is stated with its VAT.

Prices are looked up by the START of an interval; periods follow the clock of the scenario's time zone, so that days of
92, 96 and 100 quarter-hours come out right.  Not here: capacity and peak charges, tiers and seasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

__all__ = ["Dynamic", "Period", "Prices", "Rate", "Tariff", "TariffError", "TimeOfUse"]

Vector = NDArray[np.float64]
Times = NDArray[np.datetime64]

MINUTES = 24 * 60
DAY_CLASSES = ("weekday", "weekend")


class TariffError(ValueError):
    """A tariff, or what it is priced with, cannot be used; the message names every mistake."""


@dataclass(frozen=True, slots=True)
class Dynamic:
    """A price that follows a series of the scenario: ``series + add_on``."""

    series: str
    """Name of the series, in eur/kWh."""
    add_on_eur_per_kwh: float = 0.0


@dataclass(frozen=True, slots=True)
class Period:
    """One price between two local clock times.

    ``start`` is in the period, ``end`` is not; a period may pass midnight (``"22:00"`` to ``"06:00"``).  It belongs to
    the day of each of its moments: a weekday's night ends at Friday's midnight and begins again at Monday's.
    """

    start: str
    """Local clock, ``"HH:MM"``."""
    end: str
    """Local clock, ``"HH:MM"``; ``"24:00"`` is the end of the day."""
    price_eur_per_kwh: float
    days: Literal["all", "weekday", "weekend"] = "all"


@dataclass(frozen=True, slots=True)
class TimeOfUse:
    """Prices by the local clock; the periods fill every day without gap or overlap, in the order of their starts."""

    periods: tuple[Period, ...]
    holidays: tuple[date, ...] = ()
    """Local dates that count as weekend."""

    def table(self) -> tuple[Vector, list[str]]:
        """Return the price of every minute of a weekday and of a weekend day, shape (2, 1440), and all mistakes."""
        prices, mistakes = np.full((2, MINUTES), np.nan), []
        last_start = [-1, -1]
        for period in self.periods:
            name = f"the period {period.start}-{period.end} ({period.days})"
            start, end = _minute(period.start), _minute(period.end)
            if start is None or end is None or start in (MINUTES, end):
                mistakes.append(
                    f'{name} is not a span of the clock. Write start and end as "HH:MM", from "00:00" to "24:00".'
                )
                continue
            if period.days not in ("all", *DAY_CLASSES):
                mistakes.append(f"{name}: days must be all, weekday or weekend.")
                continue
            if not math.isfinite(period.price_eur_per_kwh):
                mistakes.append(f"{name} has the price {period.price_eur_per_kwh}. Give a number in eur/kWh.")
                continue
            minutes = np.arange(MINUTES)
            inside = (start <= minutes) & (minutes < end) if start < end else (minutes >= start) | (minutes < end)
            for k, days in enumerate(DAY_CLASSES):
                if period.days not in ("all", days):
                    continue
                if start < last_start[k]:
                    mistakes.append(f"{name} is listed after a later one. List the periods by their start.")
                last_start[k] = start
                twice = inside & ~np.isnan(prices[k])
                if twice.any():
                    mistakes.append(f"{name} overlaps another period at {_clock(twice)} on a {days}. Part them.")
                prices[k, inside] = period.price_eur_per_kwh
        if not mistakes:
            mistakes += [
                f"no period covers {_clock(np.isnan(prices[k]))} on a {days}. Fill the day."
                for k, days in enumerate(DAY_CLASSES)
                if np.isnan(prices[k]).any()
            ]
        return prices, mistakes


Rate = float | Dynamic | TimeOfUse
"""A component: a fixed price [eur/kWh], a series with an add-on, or prices by the local clock."""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """A tariff's prices over a horizon; every array has shape (T,). [eur/kWh]"""

    energy: Vector
    network: Vector
    levies: Vector
    vat: Vector
    buy: Vector
    """Sum of the four above, equation (1)."""
    sell: Vector
    local_network: Vector
    local_levies: Vector
    local_vat: Vector
    local_charge: Vector
    """Sum of the three above, equation (3)."""

    def window(self, start: int, stop: int) -> Prices:
        """Return the prices of the intervals ``start`` .. ``stop − 1``."""
        return Prices(*(getattr(self, field.name)[start:stop] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class Tariff:
    """A retail tariff with its local part.

    Raises
    ------
    TariffError
        Naming every mistake at once.
    """

    tariff_id: str
    energy: Rate
    """The retailer's part, net of VAT."""
    network: Rate = 0.0
    """Network charge, net of VAT."""
    levies: Rate = 0.0
    """Levies and duties per kWh, net of VAT."""
    vat_fraction: float = 0.0
    """On energy, network and levies. [1]"""
    feed_in: Rate = 0.0
    """Paid for a kWh fed in."""
    fixed_eur_per_day: float = 0.0
    """With VAT, paid to the retailer for each delivery day."""
    local_network_share: float = 1.0
    """Share of the network charge that a local kWh pays. [1]"""
    local_levies_share: float = 1.0
    """Share of the levies that a local kWh pays. [1]"""

    def __post_init__(self) -> None:
        mistakes = [] if self.tariff_id else ["tariff_id is empty. Give the tariff a name."]
        for name in ("vat_fraction", "fixed_eur_per_day", "local_network_share", "local_levies_share"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                mistakes.append(f"{name} is {value}. Give a number that is not negative.")
        mistakes += [
            f"{name} is {getattr(self, name)}. A share is at most 1."
            for name in ("local_network_share", "local_levies_share")
            if getattr(self, name) > 1.0
        ]
        for name, rate in self._rates():
            mistakes += [f"{name}: {mistake}" for mistake in _mistakes(rate)]
        if mistakes:
            raise TariffError(f"tariff {self.tariff_id!r}: " + "\n".join(mistakes))

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the series this tariff needs, each once, in the order of its components."""
        return tuple(dict.fromkeys(rate.series for _, rate in self._rates() if isinstance(rate, Dynamic)))

    def price(self, times_utc: Times, time_zone: str, series: Mapping[str, Vector]) -> Prices:
        """Return the prices of the intervals that begin at ``times_utc``, equations (1) to (3).

        Parameters
        ----------
        times_utc : shape (T,)
            Starts of the intervals, ``datetime64`` in UTC.
        time_zone
            IANA name of the zone whose clock and calendar the periods follow.
        series : each of shape (T,)
            What :attr:`series` names. [eur/kWh]
        """
        times = np.asarray(times_utc, dtype="datetime64[s]")
        values = {name: _looked_up(rate, name, times, time_zone, series) for name, rate in self._rates()}
        energy, network, levies = values["energy"], values["network"], values["levies"]
        vat = self.vat_fraction * (energy + network + levies)
        local_network, local_levies = self.local_network_share * network, self.local_levies_share * levies
        local_vat = self.vat_fraction * (local_network + local_levies)
        return Prices(
            energy=energy,
            network=network,
            levies=levies,
            vat=vat,
            buy=energy + network + levies + vat,
            sell=values["feed_in"],
            local_network=local_network,
            local_levies=local_levies,
            local_vat=local_vat,
            local_charge=local_network + local_levies + local_vat,
        )

    def _rates(self) -> Iterator[tuple[str, Rate]]:
        for name in ("energy", "network", "levies", "feed_in"):
            yield name, getattr(self, name)


def _mistakes(rate: Rate) -> list[str]:
    if isinstance(rate, TimeOfUse):
        return rate.table()[1]
    if isinstance(rate, Dynamic):
        wrong = [] if rate.series else ["the name of the series is empty. Name a series of the scenario."]
        if not math.isfinite(rate.add_on_eur_per_kwh):
            wrong.append(f"add_on_eur_per_kwh is {rate.add_on_eur_per_kwh}. Give a number.")
        return wrong
    return [] if math.isfinite(rate) else [f"the price is {rate}. Give a number in eur/kWh."]


def _looked_up(rate: Rate, name: str, times: Times, time_zone: str, series: Mapping[str, Vector]) -> Vector:
    if isinstance(rate, TimeOfUse):
        day_class, minute = _local(times, time_zone, frozenset(day.toordinal() for day in rate.holidays))
        return np.asarray(rate.table()[0][day_class, minute])
    if isinstance(rate, Dynamic):
        if rate.series not in series:
            known = ", ".join(sorted(series)) or "none"
            raise TariffError(f"{name} follows the series {rate.series!r}, which is not given. Given are: {known}.")
        values = np.asarray(series[rate.series], dtype=np.float64)
        if values.shape != times.shape:
            raise TariffError(
                f"the series {rate.series!r} has shape {values.shape}; the horizon has {times.size} interval(s). "
                f"Give one value for each."
            )
        if not np.isfinite(values).all():
            at = int(np.flatnonzero(~np.isfinite(values))[0])
            raise TariffError(f"the series {rate.series!r} is {values[at]} at {times[at]}Z. Give a number in eur/kWh.")
        return values + rate.add_on_eur_per_kwh
    return np.full(times.shape, float(rate))


def _local(times: Times, time_zone: str, holidays: frozenset[int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return day class (0 weekday, 1 weekend) and minute of the day on the local clock, both of shape (T,)."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise TariffError(
            f"the time zone {time_zone!r} is not known. Give an IANA name such as Europe/Berlin."
        ) from error
    day_class, minute = np.zeros(times.size, dtype=np.intp), np.zeros(times.size, dtype=np.intp)
    for t, seconds in enumerate(times.astype(np.int64).tolist()):
        local = datetime.fromtimestamp(seconds, tz=UTC).astimezone(zone)
        day_class[t] = local.weekday() >= 5 or local.toordinal() in holidays
        minute[t] = local.hour * 60 + local.minute
    return day_class, minute


def _minute(clock: str) -> int | None:
    hours, colon, minutes = clock.partition(":")
    if not colon or len(minutes) != 2 or not (hours + minutes).isascii() or not (hours + minutes).isdigit():
        return None
    value = 60 * int(hours) + int(minutes)
    return value if int(minutes) < 60 and value <= MINUTES else None


def _clock(minutes: NDArray[np.bool_]) -> str:
    first = int(np.flatnonzero(minutes)[0])
    return f"{first // 60:02d}:{first % 60:02d}"
