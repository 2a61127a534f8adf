"""PV of a place on earth: clear sky, clouds drawn from a seed or measured, panel, inverter.

The chain is that of PVWatts [1]_, with pvlib's functions:

1. clear-sky irradiance (Ineichen with pvlib's monthly turbidity) at the middle of every interval;
2. clouds: global irradiance is a share k of it.  Either k is drawn, or the irradiance comes from a weather table;
3. beam and diffuse parts (Erbs), on the tilted plane (Hay-Davies);
4. cell temperature (Faiman) and DC power, −0.4 % per kelvin; 14 % losses; an inverter of 96 %.

The drawn k has two memories, weather that lasts (36 h) and clouds that pass (2 h)::

    z = √0.7 z_slow + √0.3 z_fast,   each z[t] = φ z[t−1] + √(1 − φ²) ε[t],   φ = exp(−Δt / memory)          (1)
    k = 1.05 − 0.9 (1 − Φ(z))^1.5                                                                            (2)

so that k lies between 0.15 and 1.05, 0.69 on average, more often clear than dull.  Equal seeds give equal clouds.

Limits: one sky for all homes; clouds know no season; without a weather table the air temperature is a mere function of
latitude, day and hour.  No shade, no snow, no horizon.  Good for a plausible year, not for a yield report.

References
----------
.. [1] A. P. Dobos, "PVWatts Version 5 Manual", NREL/TP-6A20-62641, 2014.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sim.profile_store import ArrayProfiles, Floats, ProfileError, Profiles
from sim.profiles_tables import table_profiles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["cloudiness", "pvlib_profile"]

_MEMORY_H = {"slow": 36.0, "fast": 2.0}
_WEIGHT = {"slow": 0.7, "fast": 0.3}
_PER_KELVIN = -0.004
_LOSS = 0.14
_INVERTER = 0.96


def pvlib_profile(
    latitude: float,
    longitude: float,
    tilt: float,
    azimuth: float,
    times: NDArray[np.datetime64],
    seed: int,
    *,
    weather: str | Path | None = None,
    altitude_m: float = 0.0,
    name: str = "pv",
) -> Profiles:
    """Model the PV of a place.

    Parameters
    ----------
    latitude, longitude
        North and east are positive. [degrees]
    tilt, azimuth
        Of the panels: 0 lies flat; 180 looks south. [degrees]
    times : shape (T,)
        Beginnings of equally long intervals, UTC.
    seed
        Of the clouds; of no effect with a weather table.
    weather
        A table (:func:`~sim.profiles_tables.table_profiles`; stamps with offset) with the columns ``ghi`` (global
        horizontal irradiance, W/m²) and, where it is known, ``temp`` (air, °C), which covers all of ``times``.
    altitude_m
        Above the sea. [m]
    name
        Of the profile.

    Returns
    -------
    A store with one profile. [kW per kW peak]
    """
    step_s = _checked(name, latitude, longitude, tilt, azimuth, times)
    import pandas as pd
    import pvlib

    middle = pd.DatetimeIndex(times + np.timedelta64(step_s // 2, "s")).tz_localize("UTC")
    location = pvlib.location.Location(latitude, longitude, altitude=altitude_m)
    sun = location.get_solarposition(middle)
    clear = np.asarray(location.get_clearsky(middle, model="ineichen", solar_position=sun)["ghi"], dtype=np.float64)
    if weather is None:
        ghi = clear * cloudiness(len(times), step_s / 3600, seed)
        air_c = _typical_air_c(latitude, longitude, middle)
    else:
        ghi, air_c = _measured(Path(weather), times, step_s, _typical_air_c(latitude, longitude, middle))
    zenith, sun_azimuth = sun["apparent_zenith"].to_numpy(), sun["azimuth"].to_numpy()
    parts = pvlib.irradiance.erbs(ghi, zenith, middle)
    on_plane = pvlib.irradiance.get_total_irradiance(
        tilt,
        azimuth,
        zenith,
        sun_azimuth,
        dni=parts["dni"],
        ghi=ghi,
        dhi=parts["dhi"],
        dni_extra=np.asarray(pvlib.irradiance.get_extra_radiation(middle)),
        model="haydavies",
    )
    poa = np.clip(np.nan_to_num(np.asarray(on_plane["poa_global"], dtype=np.float64)), 0.0, None)
    cell_c = pvlib.temperature.faiman(poa, air_c)
    dc = pvlib.pvsystem.pvwatts_dc(poa, cell_c, pdc0=1.0, gamma_pdc=_PER_KELVIN) * (1.0 - _LOSS)
    ac = np.asarray(pvlib.inverter.pvwatts(dc, pdc0=1.0 / _INVERTER, eta_inv_nom=_INVERTER), dtype=np.float64)
    return ArrayProfiles(
        name=f"pvlib at {latitude:g}, {longitude:g}",
        names=(name,),
        start=times[0],
        step_minutes=step_s // 60,
        values=np.clip(ac, 0.0, None),
    )


def cloudiness(steps: int, step_h: float, seed: int) -> Floats:
    """Draw the share of clear-sky irradiance that comes through, equations (1) and (2).

    Parameters
    ----------
    steps
        How many.
    step_h
        Length of a step. [h]
    seed
        Equal seeds, equal clouds.

    Returns
    -------
    shape (steps,)
    """
    from scipy.signal import lfilter
    from scipy.special import ndtr

    noise = np.random.default_rng(seed)
    z = np.zeros(steps)
    for memory, hours in _MEMORY_H.items():
        phi = math.exp(-step_h / hours)
        shocks = noise.standard_normal(steps) * math.sqrt(1 - phi**2)
        shocks[:1] /= math.sqrt(1 - phi**2)  # the first value has the spread of all
        z += math.sqrt(_WEIGHT[memory]) * lfilter([1.0], [1.0, -phi], shocks)
    share: Floats = 1.05 - 0.9 * (1.0 - ndtr(z)) ** 1.5
    return share


def _checked(
    name: str, latitude: float, longitude: float, tilt: float, azimuth: float, times: NDArray[np.datetime64]
) -> int:
    """Return the step in seconds, or say what is wrong with the place or the times."""
    mistakes = [
        f"{what} is {value:g}; it lies between {low:g} and {high:g} degrees."
        for what, value, low, high in (
            ("the latitude", latitude, -90, 90),
            ("the longitude", longitude, -180, 180),
            ("the tilt", tilt, 0, 180),
            ("the azimuth", azimuth, 0, 360),
        )
        if not low <= value <= high
    ]
    later = np.unique(np.diff(times.astype("datetime64[s]").astype(np.int64)))
    if len(times) < 2 or len(later) != 1 or later[0] <= 0 or later[0] % 60:
        mistakes.append("the times must be the beginnings of equally long intervals of whole minutes, two at least.")
    if mistakes:
        raise ProfileError(name, mistakes)
    return int(later[0])


def _typical_air_c(latitude: float, longitude: float, middle: pd.DatetimeIndex) -> Floats:
    """Return a plausible air temperature by latitude, day of the year and solar hour. Shape (T,). [°C]"""
    day = np.asarray(middle.dayofyear, dtype=np.float64)
    hour = np.asarray(middle.hour + middle.minute / 60, dtype=np.float64) + longitude / 15
    far = abs(latitude)
    mean, season = 27.0 - 0.36 * far, 0.2 * far * math.copysign(1.0, latitude)
    air_c: Floats = (
        mean + season * np.cos(2 * np.pi * (day - 200) / 365.25) + 4.0 * np.cos(2 * np.pi * (hour - 15) / 24)
    )
    return air_c


def _measured(path: Path, times: NDArray[np.datetime64], step_s: int, typical_c: Floats) -> tuple[Floats, Floats]:
    """Return irradiance [W/m²] and air temperature [°C] from a weather table."""
    table = table_profiles(path, unit="1")
    if "ghi" not in table.names:
        raise ProfileError(path.name, [f"the column ghi (W/m²) is missing. The columns are {', '.join(table.names)}."])
    minutes = step_s // 60
    if table.wraps(times[0], len(times), minutes):
        end = table.start + np.timedelta64(table.length * table.step_minutes, "m")
        raise ProfileError(
            path.name,
            [f"the weather from {table.start}Z to {end}Z does not cover the time from {times[0]}Z to {times[-1]}Z."],
        )
    ghi = table.window(table.index(["ghi"]), times[0], len(times), interval_minutes=minutes)[0]
    if (ghi < 0).any():
        worst = times[int(ghi.argmin())]
        raise ProfileError(
            path.name, [f"ghi is negative ({ghi.min():g} W/m² at {worst}Z). Set night offsets of the sensor to 0."]
        )
    if "temp" not in table.names:
        return ghi, typical_c
    return ghi, table.window(table.index(["temp"]), times[0], len(times), interval_minutes=minutes)[0]
