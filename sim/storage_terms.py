"""What a clearing is told of the shared storage: bounds of its net, whose energy is in it, rights, and how its operator wishes to end.

Day ahead all rights are free and what the box holds is the operator's; during the day rights are let and accounts are what they
have become.  The operator wishes to end a day with what leaks overnight, and to replace what leaks until then::

    wish = keep + ½ self_discharge E (T − t) Δ + max(−own, 0)                                                       (1)

At the gate of any day but the first only ``keep`` is wished.  (1) is cut to what the box can come to (:attr:`SharedStorage.final_kwh`);
what still has no plan is left to :mod:`agents.storage_end`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.dso import Publication
from agents.planner import SharedStorage
from agents.storage_operator import Box
from sim.daybook import DayBook
from storage.tenancy import Accounts

__all__ = ["shared_ahead", "shared_today"]

Vector = NDArray[np.float64]


def shared_ahead(
    box: Box, accounts: Accounts, book: DayBook, limits: Publication, dt_h: float, level: float
) -> SharedStorage:
    """Return the shared storage as the clearing at the gate sees it; ``level`` is what it will hold then. [kWh]"""
    offer = book.offer
    assert offer is not None
    net_min, net_max = _net_bounds(box, limits, 0)
    account = np.zeros(len(accounts.tenants_kwh) + 1)
    # what does not fit into the space on offer is in the part kept back
    account[-1] = min(level, offer.energy_kwh)
    wish = final = offer.keep_kwh
    if book.day.index == 0:  # later days begin with what the operator wanted to keep
        wish, final = _end(box, accounts, book, 0, net_min, net_max, dt_h)
    return SharedStorage(box, offer, net_min, net_max, account, min(final, offer.energy_kwh), wish)


def shared_today(
    box: Box, accounts: Accounts, book: DayBook, limits: Publication, dt_h: float, at: int
) -> SharedStorage:
    """Return the shared storage as a clearing of the intervals from ``at`` on sees it."""
    offer = book.offer
    assert offer is not None
    assert book.right_energy_kwh is not None
    assert book.right_power_kw is not None
    net_min, net_max = _net_bounds(box, limits, at)
    account = np.maximum(accounts.holders_kwh, 0.0)
    right_energy = book.right_energy_kwh.copy()
    account[:-1] = np.minimum(account[:-1], right_energy[:-1])
    # what netting gains is the operator's, beyond the space it kept for itself; it may use whatever power is idle
    right_energy[-1] = max(right_energy[-1] + offer.back_kwh, account[-1])
    right_power = book.right_power_kw.copy()
    right_power[-1] = max(right_power[-1], offer.power_kw)
    wish, final = _end(box, accounts, book, at, net_min, net_max, dt_h)
    right_energy[-1] = max(right_energy[-1], final)
    return SharedStorage(box, offer, net_min, net_max, account, final, wish, right_energy, right_power)


def _net_bounds(box: Box, limits: Publication, at: int) -> tuple[Vector, Vector]:
    """Return the bounds of the net from ``at`` on: a firm charge, or the limits of the storage's connection. [kW]"""
    envelope, firm = limits.envelope, limits.firm_kw[at:]
    net_min = np.where(firm > 0.0, firm, -np.minimum(envelope.export_limit_kw[-1, at:], box.discharge_kw))
    net_max = np.maximum(np.minimum(envelope.import_limit_kw[-1, at:], box.charge_kw), np.maximum(net_min, 0.0))
    return net_min, net_max


def _end(
    box: Box, accounts: Accounts, book: DayBook, at: int, net_min: Vector, net_max: Vector, dt_h: float
) -> tuple[float, float]:
    """Return the operator's wish (1), and the energy as near to it as the box can come. [kWh]"""
    assert book.offer is not None
    own = accounts.operator_kwh
    # tenants' accounts do not leak, the box does: on average they hold half of what they hold now
    leak = 0.5 * box.self_discharge_per_h * accounts.energy_kwh * (book.day.steps - at) * dt_h
    wanted = book.offer.keep_kwh + leak + max(-own, 0.0)
    power = book.offer.power_kw
    out = float(np.clip(-net_min, 0.0, power).sum()) * dt_h / box.efficiency_discharge
    into = float(np.minimum(net_max, power).sum()) * dt_h * box.efficiency_charge
    stuck = max(accounts.energy_kwh - out, 0.0)
    own = max(own, 0.0)
    return wanted, float(np.clip(wanted, min(stuck, own), own + into))
