"""Prices, priced anew from the scenario: every component of every tariff in every interval.

    buy = (energy + network + levies) (1 + VAT)        local charge = (s_n network + s_l levies) (1 + VAT)          (1)

A component is a number, a series of the run with an add-on, or periods of the local clock (which may pass midnight, and
know weekdays from weekends and holidays).  Read from ``scenario.yaml`` and the table ``series``; nothing of
:mod:`market.tariffs` is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sim.certify_evidence import Wrong

__all__ = ["Components", "components"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """The prices of one tariff; arrays of shape (T,). [eur/kWh]"""

    energy: Vector
    network: Vector
    levies: Vector
    vat: Vector
    feed_in: Vector
    local_network: Vector
    local_levies: Vector
    local_vat: Vector
    fixed_eur_per_day: float

    @property
    def buy(self) -> Vector:
        """What a kWh from the retailer costs."""
        return self.energy + self.network + self.levies + self.vat

    @property
    def local(self) -> Vector:
        """What a local kWh pays for wires and levies."""
        return self.local_network + self.local_levies + self.local_vat


def components(
    scenario: dict[str, Any], tariff_id: str, times_us: NDArray[np.int64], series: dict[str, Vector]
) -> Components:
    """Price one tariff over some intervals, by (1)."""
    if tariff_id not in scenario["tariffs"]:
        raise Wrong(f"the scenario has no tariff {tariff_id}")
    tariff = scenario["tariffs"][tariff_id]
    energy, network, levies, feed_in = (
        _priced(tariff[f"{name}_eur_per_kwh"], f"{tariff_id}.{name}", scenario, times_us, series)
        for name in ("energy", "network", "levies", "feed_in")
    )
    vat = float(tariff["vat_percent"]) / 100.0
    local_network = float(tariff["local"]["network_share"]) * network
    local_levies = float(tariff["local"]["levies_share"]) * levies
    return Components(
        energy=energy,
        network=network,
        levies=levies,
        vat=vat * (energy + network + levies),
        feed_in=feed_in,
        local_network=local_network,
        local_levies=local_levies,
        local_vat=vat * (local_network + local_levies),
        fixed_eur_per_day=float(tariff["fixed_eur_per_day"]),
    )


def _priced(
    told: Any, name: str, scenario: dict[str, Any], times_us: NDArray[np.int64], series: dict[str, Vector]
) -> Vector:
    """Return one component in every interval."""
    if isinstance(told, int | float):
        return np.full(times_us.shape, float(told))
    if "series" in told:
        values = series.get(told["series"])
        if values is None:
            raise Wrong(
                f"tariff {name} follows the series {told['series']}, which table series does not hold in every interval"
            )
        return values + float(told.get("add_eur_per_kwh", 0.0))
    return _by_clock(told["periods"], name, scenario, times_us)


def _by_clock(
    periods: list[dict[str, Any]], name: str, scenario: dict[str, Any], times_us: NDArray[np.int64]
) -> Vector:
    """Return prices by the local clock: each interval is looked up by its start, one after the other."""
    zone = ZoneInfo(scenario["time"]["time_zone"])
    holidays = {str(day)[:10] for day in scenario["time"].get("holidays", ())}
    prices = np.full(times_us.shape, np.nan)
    for k, microseconds in enumerate(times_us.tolist()):
        local = datetime.fromtimestamp(microseconds / 1e6, tz=UTC).astimezone(zone)
        free = local.isoweekday() > 5 or local.date().isoformat() in holidays
        clock = f"{local:%H:%M}"
        for period in periods:
            start, end, on = period["from"], period["to"], period.get("days", "all")
            inside = start <= clock < end if start < end else clock >= start or clock < end
            if inside and on in {"all", "weekend" if free else "weekday"}:
                prices[k] = float(period["price_eur_per_kwh"])
    if np.isnan(prices).any():
        raise Wrong(f"tariff {name} has no price in every interval")
    return prices
