"""The one device shape: a box of energy with bounds on power and on energy.

A battery, a car, a heat pump with its buffer, a water heater, a rented share of a storage: all are this, with different
arrays.  Over an interval of length Δ, charged with c and discharged with r (both at the meter's side, >= 0) ::

    e[t+1] = ρ[t] e[t] + Δ (η_c c[t] − r[t] / η_d) − drain[t]                                              (1)
    ρ[t]   = 1 − self_discharge Δ

``drain`` is energy that leaves for another reason: heat that is drawn, a car that drives away.  It may be negative for
energy that arrives.  Efficiencies are constant; there is no voltage, no temperature, no taper near full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Store", "StoreError", "advance", "retention"]

Array = NDArray[np.float64]

TOLERANCE = 1e-9
"""Of bounds, relative to the larger of 1 and the bound. [kW, kWh]"""


class StoreError(ValueError):
    """A store is described or used in a way it cannot be; the message names the first culprits."""


def retention(self_discharge_per_h: ArrayLike, dt_h: float) -> Array:
    """Return ρ of (1): the share of the energy that is left after an interval. [1]"""
    rho = 1.0 - np.asarray(self_discharge_per_h, dtype=np.float64) * dt_h
    if not ((rho >= 0.0) & (rho <= 1.0)).all():
        raise StoreError(
            f"a self-discharge of {np.asarray(self_discharge_per_h).max():g} per hour leaves {rho.min():g} of the energy "
            f"after {dt_h:g} h. Give a rate between 0 and {1.0 / dt_h:g} per hour."
        )
    return np.asarray(rho)


def advance(
    energy_kwh: Array | float,
    charge_kw: Array | float,
    discharge_kw: Array | float,
    dt_h: float,
    *,
    efficiency_charge: Array | float = 1.0,
    efficiency_discharge: Array | float = 1.0,
    retention: Array | float = 1.0,
    drain_kwh: Array | float = 0.0,
) -> Array:
    """Return the energy after one interval, equation (1); arguments of any shapes that go together. [kWh]

    Examples
    --------
    2 kW for a quarter-hour at 95 % into a box of 1 kWh:

    >>> float(advance(1.0, 2.0, 0.0, 0.25, efficiency_charge=0.95))
    1.475
    """
    gained_kwh = dt_h * (efficiency_charge * charge_kw - discharge_kw / efficiency_discharge)
    return np.asarray(retention * energy_kwh + gained_kwh - drain_kwh)


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """Stores over a horizon: ``K`` slots of ``n`` agents, ``T`` intervals.

    Raises
    ------
    StoreError
        For NaN, wrong shapes, negative power, an efficiency outside (0, 1], or bounds that exclude one another.
    """

    charge_max_kw: Array
    """Shape (K, n, T), as the three below; infinity is no limit."""
    discharge_max_kw: Array
    energy_min_kwh: Array
    """At the END of each interval."""
    energy_max_kwh: Array
    efficiency_charge: Array
    """Shape (K, n), as the two below. [1]"""
    efficiency_discharge: Array
    retention: Array
    """ρ of (1). [1]"""
    drain_kwh: Array
    """Shape (K, n, T)."""

    def __post_init__(self) -> None:
        shape = self.charge_max_kw.shape
        mistakes = (
            [] if len(shape) == 3 else [f"charge_max_kw has {len(shape)} dimension(s); slots, agents, time are 3."]
        )
        for name in self.__slots__:
            value = getattr(self, name)
            wanted = shape[:2] if name in ("efficiency_charge", "efficiency_discharge", "retention") else shape
            if value.shape != wanted:
                mistakes.append(f"{name} has shape {value.shape}; {wanted} is needed.")
            elif np.isnan(value).any():
                mistakes.append(f"{name} is NaN at {_places(np.isnan(value))}. Every figure must be a number.")
        if not mistakes:
            laws = (
                ("charge_max_kw", self.charge_max_kw < 0.0, "negative"),
                ("discharge_max_kw", self.discharge_max_kw < 0.0, "negative"),
                ("efficiency_charge", _no_efficiency(self.efficiency_charge), "outside (0, 1]"),
                ("efficiency_discharge", _no_efficiency(self.efficiency_discharge), "outside (0, 1]"),
                ("retention", (self.retention < 0.0) | (self.retention > 1.0), "outside [0, 1]"),
                ("energy_min_kwh", self.energy_min_kwh > self.energy_max_kwh, "above energy_max_kwh"),
            )
            mistakes = [f"{name} is {what} at {_places(wrong)}." for name, wrong, what in laws if wrong.any()]
        if mistakes:
            raise StoreError("\n".join(mistakes))

    def advance(self, t: int, energy_kwh: Array, charge_kw: Array, discharge_kw: Array, dt_h: float) -> Array:
        """Return the energies at the end of interval ``t``, shape (K, n), or say which bound was left. [kWh]

        Parameters
        ----------
        energy_kwh, charge_kw, discharge_kw : shape (K, n)
            Energy at the start of the interval, and the flows in it.
        """
        after = advance(
            energy_kwh,
            charge_kw,
            discharge_kw,
            dt_h,
            efficiency_charge=self.efficiency_charge,
            efficiency_discharge=self.efficiency_discharge,
            retention=self.retention,
            drain_kwh=self.drain_kwh[..., t],
        )
        mistakes = [
            f"{name} in interval {t}: {value[wrong][0]:g} at {_places(wrong)}, the bound is {np.broadcast_to(bound, value.shape)[wrong][0]:g}."
            for name, value, low, high in (
                ("charge_kw", charge_kw, np.zeros(()), self.charge_max_kw[..., t]),
                ("discharge_kw", discharge_kw, np.zeros(()), self.discharge_max_kw[..., t]),
                ("energy_kwh", after, self.energy_min_kwh[..., t], self.energy_max_kwh[..., t]),
            )
            for bound, wrong in ((low, _below(value, low)), (high, _below(-value, -high)))
            if wrong.any()
        ]
        if mistakes:
            raise StoreError("A store leaves its bounds: " + "\n".join(mistakes))
        return after

    def power_bounds(self, t: int, energy_kwh: Array, dt_h: float) -> tuple[Array, Array]:
        """Return the most each store can be charged and, alone, discharged in interval ``t``, shapes (K, n). [kW]

        Within its power and so that (1) ends between the energy bounds, as far as power can do that: a drain that
        empties a store below its bound leaves both at their limits towards the bound.
        """
        rest = self.retention * energy_kwh - self.drain_kwh[..., t]
        room = (self.energy_max_kwh[..., t] - rest) / (self.efficiency_charge * dt_h)
        stock = (rest - self.energy_min_kwh[..., t]) * self.efficiency_discharge / dt_h
        return (
            np.clip(room, 0.0, self.charge_max_kw[..., t]),
            np.clip(stock, 0.0, self.discharge_max_kw[..., t]),
        )


def _no_efficiency(value: Array) -> NDArray[np.bool_]:
    return np.asarray((value <= 0.0) | (value > 1.0))


def _below(value: Array, bound: Array) -> NDArray[np.bool_]:
    """Return where a value is not at least its bound within the tolerance; NaN is below everything."""
    bound = np.broadcast_to(bound, value.shape)
    slack = TOLERANCE * np.maximum(1.0, np.where(np.isfinite(bound), np.abs(bound), 1.0))
    return np.asarray(~(value >= bound - slack))


def _places(wrong: NDArray[np.bool_]) -> str:
    """Return the first places, as slot and agent (and interval)."""
    places = [tuple(int(i) for i in place) for place in np.argwhere(wrong)]
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return ", ".join(str(place) for place in places[:3]) + more
