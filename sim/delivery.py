"""One interval of delivery: plans meet truth, and the meters are held inside their limits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.enforce import Held, Wish, hold
from agents.fleet import BATTERY, HEAT, VEHICLE, Fleet
from agents.storage_operator import Box
from sim.daybook import DayBook, Plan
from storage.store import retention
from storage.tenancy import Accounts

__all__ = ["balance_box", "deliver"]

Vector = NDArray[np.float64]

BOX_TOLERANCE_KW = 1e-9
"""Rounding that the operator does not act on."""


def deliver(
    fleet: Fleet,
    book: DayBook,
    step: int,
    limits: tuple[Vector, Vector],
    enforcement: str,
    heat_tan: Vector,
    dt_h: float,
) -> None:
    """Write into the book what homes did in an interval, and move their stores.

    Parameters
    ----------
    limits
        Import and export limits of the homes. Shapes (n,). [kW]
    enforcement
        A name in :data:`agents.enforce.RULES`.
    heat_tan : shape (n,)
        Reactive over active power of the heat pumps.
    """
    t, plan, truth = step - book.day.start, book.plan, book.truth
    n = fleet.people.n
    battery_take, battery_give = fleet.battery_room_kw()
    charge = np.clip(plan.charge_kw[BATTERY, :, t] - plan.discharge_kw[BATTERY, :, t], 0.0, battery_take)
    discharge = np.clip(plan.discharge_kw[BATTERY, :, t] - plan.charge_kw[BATTERY, :, t], 0.0, battery_give)
    car_take, car_give = fleet.vehicle_room_kw(step)
    car = np.clip(plan.charge_kw[VEHICLE, :, t] - plan.discharge_kw[VEHICLE, :, t], -car_give, car_take)
    car = np.maximum(car, np.minimum(fleet.vehicle_urgent_kw(step), car_take))
    heat = np.minimum(truth.heat_kw[:, t], fleet.people.heat_pump_kw + fleet.energy_kwh[HEAT] / dt_h)
    heat_least, heat_most = fleet.heat_pump_range_kw(heat)
    heat_pump = np.clip(plan.charge_kw[HEAT, :, t], heat_least, heat_most)
    available = truth.solar_kw[:, t]
    # the own choice to curtail only counts where a kWh fed in costs money; otherwise the inverter runs free
    unwanted = (book.retail.sell_eur_per_kwh[:n, t] < 0.0) * plan.curtailed_kw[:, t]
    solar = np.maximum(available - unwanted, 0.0)
    held = hold(
        Wish(
            base_load_kw=truth.load_kw[:, t],
            pv_kw=solar,
            battery_charge_kw=charge,
            battery_discharge_kw=discharge,
            battery_spare_kw=np.maximum(battery_give - discharge, 0.0),
            battery_room_kw=np.maximum(battery_take - charge, 0.0),
            ev_kw=car,
            heat_pump_kw=heat_pump,
            heat_pump_least_kw=heat_least,
        ),
        *limits,
        enforcement,
    )
    d = book.delivered
    d.base_load_kw[:, t], d.ev_kw[:, t], d.heat_pump_kw[:, t] = truth.load_kw[:, t], held.ev_kw, held.heat_pump_kw
    d.pv_available_kw[:, t], d.pv_kw[:, t] = available, held.pv_kw
    d.battery_charge_kw[:, t], d.battery_discharge_kw[:, t] = held.battery_charge_kw, held.battery_discharge_kw
    d.battery_kwh[:, t] = fleet.energy_kwh[BATTERY]
    d.meter_kw[:, t] = held.meter_kw
    d.meter_kvar[:, t] = truth.load_kvar[:, t] + held.heat_pump_kw * heat_tan
    d.clipped_kw[:, t], d.deferred_kw[:, t] = held.clipped_kw, held.deferred_kw
    d.battery_more_kw[:, t], d.breach_kw[:, t] = held.battery_kw, held.breach_kw
    d.held_import_kw[:, t], d.held_export_kw[:, t] = limits
    d.cause[:, t] = _cause(book, t, held, car, unwanted)
    missing = fleet.advance(
        step, held.battery_charge_kw, held.battery_discharge_kw, held.ev_kw, held.heat_pump_kw, heat
    )
    book.unserved_ev_kwh += float(missing.sum())


def _cause(book: DayBook, t: int, held: Held, car: Vector, unwanted: Vector) -> NDArray[np.object_]:
    """Return why each meter was held: by what limit, in which direction; or by the own choice to curtail."""
    export_held = (held.clipped_kw > 1e-9) | (held.battery_kw > 1e-9) | (held.ev_kw > car + 1e-9)
    import_held = (held.deferred_kw > 1e-9) | (held.battery_kw < -1e-9)
    d, words = book.delivered, book.kept
    cause = np.full(len(car), "", dtype=object)
    for mask, side, limit, kept, word in (
        (import_held, "import", d.held_import_kw, words.import_limit_kw, words.import_word),
        (export_held, "export", d.held_export_kw, words.export_limit_kw, words.export_word),
    ):
        by = np.where(limit[:, t] < kept[:, t], "ramp", word[:, t])
        cause = np.where(mask, [f"{name}_{side}" for name in by], cause)
    return np.where((cause == "") & (unwanted > 1e-9), "market", cause)


def balance_box(box: Box, accounts: Accounts, plan: Plan, t: int, dt_h: float) -> None:
    """Let the operator make up for what the box has not (it leaks, tenants' accounts do not), or has not room for."""
    charge, discharge = plan.rented_charge_kw[:, t], plan.rented_discharge_kw[:, t]
    left = accounts.energy_kwh * retention(box.self_discharge_per_h, dt_h)
    least = -left * box.efficiency_discharge / dt_h
    most = (box.energy_kwh - left) / (box.efficiency_charge * dt_h)
    net = float((charge - discharge).sum())
    missing = float(np.clip(net, least, max(most, least))) - net
    if abs(missing) > BOX_TOLERANCE_KW:
        own = float(charge[-1] - discharge[-1]) + missing
        charge[-1], discharge[-1] = max(own, 0.0), max(-own, 0.0)
