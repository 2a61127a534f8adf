"""What a data set says about a place: the feeder, and who is connected to it.

A :class:`Grid` is a checked :class:`~network.feeder.Feeder`, the connections with their devices, the bounds that the
data states for voltages and loadings, and where all of it comes from.  Every reader behind :mod:`network.sources`
lists what it found as :class:`Device` rows; :func:`connect` turns them into one row per connection.

Limits: devices are nameplate figures in kW.  Reactive power is known for the base load and the heat pump only; cars,
PV and batteries run at power factor one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from network.feeder import Feeder

__all__ = ["Bounds", "Connections", "Device", "Grid", "Kind", "SourceError", "connect"]

Floats = NDArray[np.float64]

SHOWN = 20
"""So many mistakes are spelled out in a message; all of them are in ``SourceError.mistakes``."""


class SourceError(ValueError):
    """The data set cannot be used as a feeder; the message names every place.

    ``mistakes`` holds one sentence each; from CSV files they begin with ``file:line:column:``.
    """

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        self.source = source
        self.mistakes = tuple(mistakes)
        lines = [f"  {mistake}" for mistake in self.mistakes[:SHOWN]]
        if len(self.mistakes) > SHOWN:
            lines.append(f"  ... and {len(self.mistakes) - SHOWN} more")
        count = "one mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__("\n".join([f"{source}: {count}", *lines]))


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What the data set allows; NaN where it does not say."""

    v_min_pu: Floats
    """Lowest voltage of each bus. Shape (n_bus,). [p.u.]"""

    v_max_pu: Floats
    """Highest voltage of each bus. Shape (n_bus,). [p.u.]"""

    loading_max_percent: Floats
    """Highest loading of each branch. Shape (n_branch,). [%]"""


@dataclass(frozen=True, slots=True, eq=False)
class Connections:
    """Who is connected where, with which devices: ``c`` rows, one per connection point.

    A profile is the name of a year of figures that multiply the nameplate; the empty name stands for 1 at all times.
    """

    id: tuple[str, ...]
    """Unique names."""

    bus: NDArray[np.intp]
    """Index into the feeder's buses. Shape (c,)."""

    base_kw: Floats
    """Nameplate of the load that nobody controls. Shape (c,). [kW]"""

    base_kvar: Floats
    """Its reactive power, drawn positive. Shape (c,). [kvar]"""

    profile: tuple[str, ...]
    """Profile of ``base_kw``."""

    reactive_profile: tuple[str, ...]
    """Profile of ``base_kvar``."""

    heat_pump_kw: Floats
    """Nameplate of the heat pump; 0 without one. Shape (c,). [kW]"""

    heat_pump_kvar: Floats
    """Its reactive power, drawn positive. Shape (c,). [kvar]"""

    heat_pump_profile: tuple[str, ...]
    """Profile of ``heat_pump_kw``."""

    heat_pump_reactive_profile: tuple[str, ...]
    """Profile of ``heat_pump_kvar``."""

    ev_count: NDArray[np.intp]
    """Cars that charge here. Shape (c,)."""

    ev_kw: Floats
    """Rating of the charging points together; 0 without one. Shape (c,). [kW]"""

    ev_profile: tuple[str, ...]
    """Profile of the charging in the data set; of the larger car where there are several."""

    pv_kw_peak: Floats
    """Peak power of the PV; 0 without. Shape (c,). [kW]"""

    pv_profile: tuple[str, ...]
    """Profile of the PV, generation positive."""

    battery_kw: Floats
    """Power of the own battery, both ways; 0 without. Shape (c,). [kW]"""

    battery_kwh: Floats
    """Its usable energy. Shape (c,). [kWh]"""

    phase: tuple[str, ...] = ()
    """"a", "b", "c" or "abc"; left out: all "abc"."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", tuple(self.phase) or ("abc",) * len(self.id))
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if set(lengths.values()) != {len(self.id)}:
            raise ValueError(f"connections need columns of one length, given {lengths}.")

    def __len__(self) -> int:
        return len(self.id)

    @property
    def profiles(self) -> tuple[str, ...]:
        """All profile names that occur, without the empty one, sorted."""
        columns = (
            self.profile,
            self.reactive_profile,
            self.heat_pump_profile,
            self.heat_pump_reactive_profile,
            self.ev_profile,
            self.pv_profile,
        )
        return tuple(sorted({name for column in columns for name in column} - {""}))


@dataclass(frozen=True, slots=True, eq=False)
class HeldLoads:
    """Loads of constant current, or between two phases: legs, h of them (:mod:`network.held`)."""

    id: tuple[str, ...]
    """Unique names."""

    bus: NDArray[np.intp]
    """Index into the feeder's buses. Shape (h,)."""

    phases: tuple[str, ...]
    """"a", "b", "c" against neutral; "ab", "bc", "ca" between two phases."""

    kw: Floats
    """Drawn at the nominal voltage of the bus. Shape (h,). [kW]"""

    kvar: Floats
    """Likewise. Shape (h,). [kvar]"""

    exponent: Floats
    """0: constant power; 1: constant current. Shape (h,)."""

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A feeder, its connections, and where they come from."""

    feeder: Feeder
    connections: Connections
    limits: Bounds
    provenance: str
    """Which data set, which version, which part of it."""
    licence: str
    """On what terms the data may be used; "" where it is the user's own."""
    held: HeldLoads | None = None
    """Loads that are not constant power between phase and neutral; nobody's connection."""


Kind = Literal["base", "heat_pump", "ev", "pv", "battery"]


@dataclass(frozen=True, slots=True)
class Device:
    """One thing at a bus, before it is known whose it is."""

    kind: Kind
    id: str
    bus: int
    kw: float
    kvar: float = 0.0
    kwh: float = 0.0
    profile: str = ""
    reactive_profile: str = ""
    phase: str = "abc"


_COLUMNS: dict[Kind, tuple[str, ...]] = {  # in the order kw, kvar, kwh, profile, reactive_profile; "" has no column
    "base": ("base_kw", "base_kvar", "", "profile", "reactive_profile"),
    "heat_pump": (
        "heat_pump_kw",
        "heat_pump_kvar",
        "",
        "heat_pump_profile",
        "heat_pump_reactive_profile",
    ),
    "ev": ("ev_kw", "", "", "ev_profile", ""),
    "pv": ("pv_kw_peak", "", "", "pv_profile", ""),
    "battery": ("battery_kw", "", "battery_kwh", "", ""),
}


def connect(devices: Iterable[Device]) -> Connections:
    """Return one connection per base load, with the devices of its bus attached.

    Devices of one kind go to the base loads of their bus in the order of the data, one each.  A further one joins the
    first connection there: a car always (the profile of the larger one stays; how people charge is drawn by the
    simulation), anything else only where the profile is the same.  Nameplates add up.  A device that finds no place,
    because its bus has no base load or its profile differs, is a connection of its own.

    Parameters
    ----------
    devices
        In the order of the data set; identifiers unique among base loads and among other devices.

    Returns
    -------
    The connections: base loads in their order, then the devices that stand alone.
    """
    listed = sorted(devices, key=lambda device: device.kind != "base")  # stable
    rows: list[dict[str, str | float]] = []
    at_bus: dict[int, list[dict[str, str | float]]] = {}
    for device in listed:
        here = at_bus.setdefault(device.bus, [])
        row = None if device.kind == "base" else _home_of(device, here)
        if row is None:
            row = {"id": device.id, "bus": device.bus, "phase": device.phase}
            rows.append(row)
            here.append(row)
        _attach(row, device)

    columns: dict[str, object] = {}
    for field in fields(Connections):
        if field.name in ("id", "phase") or field.name.endswith("profile"):
            columns[field.name] = tuple(str(row.get(field.name, "")) for row in rows)
        else:
            kind = np.intp if field.name in ("bus", "ev_count") else np.float64
            columns[field.name] = np.array([row.get(field.name, 0) for row in rows], dtype=kind)
    return Connections(**columns)  # type: ignore[arg-type]  # columns of several kinds, by the names of the fields


def _home_of(device: Device, candidates: list[dict[str, str | float]]) -> dict[str, str | float] | None:
    """Return the connection that a device belongs to, or None where it needs one of its own."""
    kw, profile = _COLUMNS[device.kind][0], _COLUMNS[device.kind][3]
    candidates = [row for row in candidates if row["phase"] == device.phase]
    free = (row for row in candidates if kw not in row)
    same = (row for row in candidates if device.kind == "ev" or row.get(profile, "") == device.profile)
    return next(free, None) or next(same, None)


def _attach(row: dict[str, str | float], device: Device) -> None:
    """Write a device into the columns of its connection; nameplates add up."""
    kw, kvar, kwh, profile, reactive_profile = _COLUMNS[device.kind]
    if float(row.get(kw, 0.0)) <= device.kw:
        row |= {
            column: name
            for column, name in ((profile, device.profile), (reactive_profile, device.reactive_profile))
            if column
        }
    for column, value in ((kw, device.kw), (kvar, device.kvar), (kwh, device.kwh)):
        if column:
            row[column] = float(row.get(column, 0.0)) + value
    if device.kind == "ev":
        row["ev_count"] = int(row.get("ev_count", 0)) + 1
