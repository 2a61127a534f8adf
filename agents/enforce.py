"""Real-time control at a connection: the meter is held inside its envelope.

The rule ``pv_battery_flexible`` gives way in this order and only as far as needed:

- too much export: the solar inverter is turned down, then the battery discharges less, then a car stops feeding back;
- too much import: the battery charges less, then the car, then the heat pump (not below what keeps the heat buffer from running
  empty), then the battery helps with what energy it has.

What nobody controls is served: a household whose load alone is above its limit breaks the envelope, and that is a violation
with a name, never energy not served.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RULE", "Held", "Wish", "hold"]

Vector = NDArray[np.float64]

RULE = "pv_battery_flexible"

ROUNDING_KW = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Wish:
    """What the homes would do in one interval; every array has shape (n,). [kW]"""

    base_load_kw: Vector
    pv_kw: Vector
    """After any curtailment of their own choice."""
    battery_charge_kw: Vector
    battery_discharge_kw: Vector
    battery_spare_kw: Vector
    """How much more the battery could discharge."""
    ev_kw: Vector
    """Negative where a car feeds back."""
    heat_pump_kw: Vector
    heat_pump_least_kw: Vector
    """Below this the heat buffer would run empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What they did; every array has shape (n,). [kW]"""

    pv_kw: Vector
    battery_charge_kw: Vector
    battery_discharge_kw: Vector
    ev_kw: Vector
    heat_pump_kw: Vector
    meter_kw: Vector
    clipped_kw: Vector
    """Solar power turned down for the envelope."""
    deferred_kw: Vector
    """Flexible load (car, heat pump) held back for the envelope."""
    breach_kw: Vector
    """Import (+) or export (−) beyond the envelope that nothing could prevent."""


def hold(wish: Wish, import_limit_kw: Vector, export_limit_kw: Vector) -> Held:
    """Return what the homes do when their meters are held inside [−export, import].

    Parameters
    ----------
    import_limit_kw, export_limit_kw : shape (n,)
        Not negative; infinite where there is no envelope. [kW]
    """
    ev_in, ev_out = np.maximum(wish.ev_kw, 0.0), np.maximum(-wish.ev_kw, 0.0)
    storage_kw = wish.battery_charge_kw - wish.battery_discharge_kw + wish.ev_kw
    excess = _beyond(-export_limit_kw - (wish.base_load_kw + wish.heat_pump_kw + storage_kw - wish.pv_kw))
    pv, excess = _reduce(wish.pv_kw, excess)
    discharge, excess = _reduce(wish.battery_discharge_kw, excess)
    ev_out, excess = _reduce(ev_out, excess)

    storage_kw = wish.battery_charge_kw - discharge + ev_in - ev_out
    excess = _beyond(wish.base_load_kw + wish.heat_pump_kw + storage_kw - pv - import_limit_kw)
    charge, excess = _reduce(wish.battery_charge_kw, excess)
    ev_in, excess = _reduce(ev_in, excess)
    idle = np.clip(excess, 0.0, np.maximum(wish.heat_pump_kw - wish.heat_pump_least_kw, 0.0))
    heat_pump, excess = wish.heat_pump_kw - idle, excess - idle
    help_kw, excess = _reduce(wish.battery_spare_kw, excess)
    discharge = discharge + (wish.battery_spare_kw - help_kw)

    ev = ev_in - ev_out
    meter = wish.base_load_kw + ev + heat_pump + charge - discharge - pv
    breach = np.maximum(meter - import_limit_kw, 0.0) - np.maximum(-export_limit_kw - meter, 0.0)
    return Held(
        pv_kw=pv,
        battery_charge_kw=charge,
        battery_discharge_kw=discharge,
        ev_kw=ev,
        heat_pump_kw=heat_pump,
        meter_kw=meter,
        clipped_kw=wish.pv_kw - pv,
        deferred_kw=np.maximum(wish.ev_kw - ev, 0.0) + wish.heat_pump_kw - heat_pump,
        breach_kw=np.where(np.abs(breach) > 1e-9, breach, 0.0),
    )


def _beyond(excess_kw: Vector) -> Vector:
    """Return what is beyond a limit by more than the rounding of a sum."""
    return np.where(excess_kw > ROUNDING_KW, excess_kw, 0.0)


def _reduce(power_kw: Vector, excess_kw: Vector) -> tuple[Vector, Vector]:
    """Return the power lowered by as much of the excess as it has, and the excess that is left."""
    cut = np.clip(excess_kw, 0.0, power_kw)
    return power_kw - cut, excess_kw - cut
