"""The people of a feeder as columns: one row per home, nothing that changes during a run.

A scenario decides who lives where and owns what (:mod:`sim.people`); from here on only these arrays are used.
What moves (states of charge, cars, plans) is in :mod:`agents.fleet`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["People"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """``n`` homes; every array has shape (n,), every tuple has n entries."""

    agent_id: tuple[str, ...]
    bus_index: NDArray[np.intp]
    """Bus of the connection, an index into the feeder's buses."""
    aggregator_id: tuple[str, ...]
    """``""`` where the home has none."""
    tariff_id: tuple[str, ...]

    load_profile: tuple[str, ...]
    """Column of the profile store that multiplies ``load_kw``; ``""`` is constant 1."""
    load_profile_q: tuple[str, ...]
    """Column that multiplies ``load_kvar``; ``""`` where there is none (then it is constant 1)."""
    load_kw: Vector
    load_kvar: Vector
    load_shift_steps: NDArray[np.int64]
    """The home lives this many steps of the profiles later than its profile says."""

    pv_profile: tuple[str, ...]
    pv_kw_peak: Vector
    pv_scale: Vector
    """Available power is ``pv_kw_peak * pv_scale * profile``. [1]"""

    heat_pump_profile: tuple[str, ...]
    heat_pump_profile_q: tuple[str, ...]
    heat_pump_kw: Vector
    """Nameplate that multiplies the profile of the heat drawn, in electrical kW."""
    heat_pump_kvar: Vector
    heat_buffer_kwh: Vector
    """Thermal buffer in electrical equivalent. [kWh]"""

    battery_kwh: Vector
    battery_charge_kw: Vector
    battery_discharge_kw: Vector
    battery_efficiency_charge: Vector
    battery_efficiency_discharge: Vector
    battery_initial_kwh: Vector

    ev_kw: Vector
    """Rating of the charging point; 0 without a car. [kW]"""
    ev_count: NDArray[np.int64]
    ev_v2g: NDArray[np.bool_]

    active: NDArray[np.bool_]
    """Has a device that the operator of the grid gives an envelope to."""
    export_cap_kw: Vector
    import_cap_kw: Vector

    phase: tuple[str, ...] = ()
    """To which conductors the home is connected: a, b, c or abc; left out: all abc."""

    @property
    def n(self) -> int:
        """Number of homes."""
        return len(self.agent_id)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phase", tuple(self.phase) or ("abc",) * self.n)
        wrong = [f.name for f in fields(self) if len(getattr(self, f.name)) != self.n]
        if wrong:
            raise ValueError(f"all columns of People must have {self.n} rows; {', '.join(wrong)} do not.")
