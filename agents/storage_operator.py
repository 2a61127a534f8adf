"""The operator of a shared storage: what it offers, what it promises the grid, and what it keeps for itself.

Before the gate the operator offers its box, all but a small part, in kWh and kW at reserve rents per delivery day. The rest of the box it uses itself, as one more
holder with the same rules; its own use must earn a higher rent than a tenant pays, so tenants come first. Its account
is the residual of the box (the energy in the box less the tenants'), so what netting gains it sells and what leaks it buys.

A firm charge is a promise to the grid to take at least so many kW in given intervals. The operator makes it only where the box
can keep it whatever the tenants do with their rights: the energy of all promised intervals together fits into a share of
the box, and enough time remains in the delivery day to empty it again (1)::

    Σ firm η Δ <= κ E − level at the start,     intervals after the last promise >= κ E η / P / Δ          (1)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Offer", "offer", "promise"]

Vector = NDArray[np.float64]

FIRM_SHARE_OF_BOX = 0.8
"""κ of (1)."""

KEPT_BACK = 0.05
"""Share of the box that is not let: room for what netting gains, and for the rest of a promise that tenants leave open."""


@dataclass(frozen=True, slots=True)
class Box:
    """A shared storage as it was built, and the terms on which it is rented out."""

    ess_id: str
    bus_index: int
    energy_kwh: float
    charge_kw: float
    discharge_kw: float
    efficiency_charge: float
    efficiency_discharge: float
    self_discharge_per_h: float
    initial_kwh: float
    rent_energy_eur_per_kwh_day: float
    rent_power_eur_per_kw_day: float
    wear_eur_per_kwh: float
    own_use_rent_factor: float
    firm_offer_kw: float
    firm_price_eur_per_kwh: float
    tariff_id: str
    phase: str = "abc"
    """To which conductors it is connected: a, b, c or abc."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What can be rented in one delivery day."""

    energy_kwh: float
    power_kw: float
    back_kwh: float
    """Kept back from renting, for the operator's own use during the day."""
    rent_energy_eur_per_kwh: float
    rent_power_eur_per_kw: float
    own_rent_energy_eur_per_kwh: float
    own_rent_power_eur_per_kw: float
    keep_kwh: float
    """Energy the operator wants to own at the end of the day, against what leaks overnight."""


def offer(box: Box, day_h: float) -> Offer:
    """Return the operator's offer for a delivery day of so many hours."""
    days = day_h / 24.0
    keep_kwh = min(0.1 * box.energy_kwh, box.self_discharge_per_h * box.energy_kwh * day_h)
    energy, power = box.rent_energy_eur_per_kwh_day * days, box.rent_power_eur_per_kw_day * days
    back_kwh = KEPT_BACK * box.energy_kwh
    return Offer(
        energy_kwh=box.energy_kwh - back_kwh,
        back_kwh=back_kwh,
        power_kw=min(box.charge_kw, box.discharge_kw),
        rent_energy_eur_per_kwh=energy,
        rent_power_eur_per_kw=power,
        own_rent_energy_eur_per_kwh=energy * box.own_use_rent_factor,
        own_rent_power_eur_per_kw=power * box.own_use_rent_factor,
        keep_kwh=keep_kwh,
    )


def promise(box: Box, need_kw: Vector, dt_h: float, level_kwh: float = 0.0) -> Vector:
    """Return the firm charge for the intervals of a day, shape (T,). [kW]

    Parameters
    ----------
    need_kw : shape (T,)
        Solar power that homes are expected to lose to their envelopes; the worst intervals are served first. [kW]
    level_kwh
        Energy in the box when the day begins; its room is not promised. [kWh]
    """
    steps = len(need_kw)
    firm = np.zeros(steps)
    power = min(box.firm_offer_kw, box.charge_kw, box.discharge_kw)
    usable_kwh = FIRM_SHARE_OF_BOX * box.energy_kwh - level_kwh
    if power <= 0.0 or usable_kwh <= 0.0:
        return firm
    to_empty = int(np.ceil((usable_kwh + level_kwh) * box.efficiency_discharge / box.discharge_kw / dt_h))
    most = int(usable_kwh / (power * box.efficiency_charge * dt_h))
    candidates = np.flatnonzero(need_kw[: max(steps - to_empty, 0)] > 1e-6)
    worst = candidates[np.argsort(-need_kw[candidates], kind="stable")][:most]
    firm[worst] = power
    return firm
