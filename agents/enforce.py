"""Real-time control at a connection: the meter is held inside its envelope.

A rule says what gives way first, and each thing gives way only as far as needed (:data:`RULES`; a plug-in adds its own):

``pv_battery_flexible``
    Too much export: the solar inverter is turned down, then the battery discharges less, then a car stops feeding back.  Too much
    import: the battery charges less, then the car, then the heat pump (not below what keeps the heat buffer from running empty),
    then the battery helps with what energy it has.
``battery_pv_flexible``
    The battery goes first in both directions.  Too much export: it discharges less and charges more, then the inverter is turned
    down, then a car stops feeding back.  Too much import: it charges less and helps, then the car gives way, then the heat pump.

What nobody controls is served: a household whose load alone is above its limit breaks the envelope, and that is a violation
with a name, never energy not served.

A limit that grows may do so along a ramp (:func:`ramped`): the ramp belongs to the limit, not to the inverter, and a limit that
shrinks binds at once, so that a ramp never widens an envelope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RULE", "RULES", "Held", "Wish", "hold", "ramped"]

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
    battery_room_kw: Vector
    """How much more it could charge."""
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
    battery_kw: Vector
    """What the battery takes more (gives less) than it would have, negative: less."""
    deferred_kw: Vector
    """Flexible load (car, heat pump) held back for the envelope."""
    breach_kw: Vector
    """Import (+) or export (−) beyond the envelope that nothing could prevent."""


@dataclass(slots=True, eq=False)
class _Doing:
    """What the homes do, while a rule changes it."""

    pv: Vector
    charge: Vector
    discharge: Vector
    ev_in: Vector
    ev_out: Vector
    heat_pump: Vector
    heat_pump_least: Vector
    spare: Vector
    room: Vector

    def less(self, name: str, excess: Vector) -> Vector:
        """Lower one of them by as much of the excess as it has; return the excess that is left."""
        now = getattr(self, name)
        cut = np.clip(excess, 0.0, now)
        setattr(self, name, now - cut)
        return np.asarray(excess - cut)

    def idle(self, excess: Vector) -> Vector:
        """Let the heat pump wait, as far as the heat buffer allows."""
        cut = np.clip(excess, 0.0, np.maximum(self.heat_pump - self.heat_pump_least, 0.0))
        self.heat_pump = self.heat_pump - cut
        return np.asarray(excess - cut)

    def help(self, excess: Vector) -> Vector:
        """Let the battery discharge more."""
        cut = np.clip(excess, 0.0, self.spare)
        left = self.spare - cut
        self.discharge, self.spare = self.discharge + (self.spare - left), left
        return np.asarray(excess - cut)

    def take(self, excess: Vector) -> Vector:
        """Let the battery charge more, where it does not discharge."""
        more = np.clip(excess, 0.0, np.where(self.discharge > 0.0, 0.0, self.room))
        self.charge, self.room = self.charge + more, self.room - more
        return np.asarray(excess - more)


Rule = Callable[[_Doing, Vector], Vector]
"""Changes what is done to get rid of an excess; returns what is left of it."""


def _pv_first(doing: _Doing, excess: Vector) -> Vector:
    for name in ("pv", "discharge", "ev_out"):
        excess = doing.less(name, excess)
    return excess


def _flexible_first(doing: _Doing, excess: Vector) -> Vector:
    for name in ("charge", "ev_in"):
        excess = doing.less(name, excess)
    return doing.help(doing.idle(excess))


def _battery_takes_first(doing: _Doing, excess: Vector) -> Vector:
    excess = doing.take(doing.less("discharge", excess))
    for name in ("pv", "ev_out"):
        excess = doing.less(name, excess)
    return excess


def _battery_helps_first(doing: _Doing, excess: Vector) -> Vector:
    excess = doing.help(doing.less("charge", excess))
    return doing.idle(doing.less("ev_in", excess))


RULES: dict[str, tuple[Rule, Rule]] = {
    RULE: (_pv_first, _flexible_first),
    "battery_pv_flexible": (_battery_takes_first, _battery_helps_first),
}
"""What gives way to too much export, and to too much import, by the name of the rule."""


def hold(wish: Wish, import_limit_kw: Vector, export_limit_kw: Vector, rule: str = RULE) -> Held:
    """Return what the homes do when their meters are held inside [−export, import].

    Parameters
    ----------
    import_limit_kw, export_limit_kw : shape (n,)
        Not negative; infinite where there is no envelope. [kW]
    rule
        A name in :data:`RULES`.
    """
    less_export, less_import = RULES[rule]
    doing = _Doing(
        wish.pv_kw, wish.battery_charge_kw, wish.battery_discharge_kw, np.maximum(wish.ev_kw, 0.0),
        np.maximum(-wish.ev_kw, 0.0), wish.heat_pump_kw, wish.heat_pump_least_kw, wish.battery_spare_kw, wish.battery_room_kw,
    )  # fmt: skip
    storage_kw = wish.battery_charge_kw - wish.battery_discharge_kw + wish.ev_kw
    less_export(doing, _beyond(-export_limit_kw - (wish.base_load_kw + wish.heat_pump_kw + storage_kw - wish.pv_kw)))
    storage_kw = doing.charge - doing.discharge + doing.ev_in - doing.ev_out
    less_import(doing, _beyond(wish.base_load_kw + doing.heat_pump + storage_kw - doing.pv - import_limit_kw))

    ev = doing.ev_in - doing.ev_out
    meter = wish.base_load_kw + ev + doing.heat_pump + doing.charge - doing.discharge - doing.pv
    breach = np.maximum(meter - import_limit_kw, 0.0) - np.maximum(-export_limit_kw - meter, 0.0)
    return Held(
        pv_kw=doing.pv,
        battery_charge_kw=doing.charge,
        battery_discharge_kw=doing.discharge,
        ev_kw=ev,
        heat_pump_kw=doing.heat_pump,
        meter_kw=meter,
        clipped_kw=wish.pv_kw - doing.pv,
        battery_kw=(doing.charge - wish.battery_charge_kw) - (doing.discharge - wish.battery_discharge_kw),
        deferred_kw=np.maximum(wish.ev_kw - ev, 0.0) + wish.heat_pump_kw - doing.heat_pump,
        breach_kw=np.where(np.abs(breach) > 1e-9, breach, 0.0),
    )


def ramped(limit_kw: Vector, before_kw: Vector, most_kw: float) -> Vector:
    """Return a limit that grows by no more than ``most_kw`` from one interval to the next.

    >>> ramped(np.array([5.0, 1.0, np.inf]), np.array([2.0, 4.0, np.inf]), 1.0).tolist()
    [3.0, 1.0, inf]
    """
    return np.minimum(limit_kw, before_kw + most_kw)


def _beyond(excess_kw: Vector) -> Vector:
    """Return what is beyond a limit by more than the rounding of a sum."""
    return np.where(excess_kw > ROUNDING_KW, excess_kw, 0.0)
