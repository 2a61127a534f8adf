"""What using a storage costs it: linear wear, and cycles.

Linear wear spreads the replacement over the energy that goes through in a life of N cycles of depth D::

    wear = C_rep / (2 N E D)     per kWh charged and per kWh discharged                                     (1)
    equivalent full cycles = Σ (η_c C + R / η_d) Δ / (2 E)                                                  (2)

Flows are counted inside the box (η_c C goes in, R / η_d comes out), so that a full cycle is E in and E out.  Depth and
temperature do not matter here, nor does age without use: no rainflow counting, no calendar.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["DegradationError", "full_cycles", "wear_eur", "wear_eur_per_kwh"]

Array = NDArray[np.float64]


class DegradationError(ValueError):
    """Figures of a storage's life do not make sense."""


def wear_eur_per_kwh(replacement_eur: float, energy_kwh: float, cycles: float, depth: float = 1.0) -> float:
    """Return the wear of each kWh in and each kWh out, equation (1). [eur/kWh]

    Parameters
    ----------
    replacement_eur
        What a new one costs. [eur]
    energy_kwh
        Its size. [kWh]
    cycles
        How many cycles of ``depth`` it lives. [1]
    depth
        Of such a cycle, in (0, 1]. [1]

    Examples
    --------
    300 eur/kWh and 6000 full cycles: 2.5 cents each way.

    >>> wear_eur_per_kwh(30_000.0, 100.0, 6000.0)
    0.025
    """
    good = 0.0 <= replacement_eur < math.inf and energy_kwh > 0.0 and cycles > 0.0 and 0.0 < depth <= 1.0
    if not good:
        raise DegradationError(
            f"a replacement of {replacement_eur} eur for {energy_kwh} kWh and {cycles} cycles of depth {depth} has no wear. "
            f"Give a cost of at least 0, a positive size and number of cycles, and a depth in (0, 1]."
        )
    return replacement_eur / (2.0 * cycles * energy_kwh * depth)


def wear_eur(charge_kw: Array, discharge_kw: Array, dt_h: float, wear_eur_per_kwh: float) -> Array:
    """Return the wear of each interval, same shape as the flows. [eur]"""
    return np.asarray(wear_eur_per_kwh * dt_h * (charge_kw + discharge_kw))


def full_cycles(
    charge_kw: Array,
    discharge_kw: Array,
    dt_h: float,
    energy_kwh: float,
    efficiency_charge: float = 1.0,
    efficiency_discharge: float = 1.0,
) -> float:
    """Return equivalent full cycles, equation (2), of flows of shape (T,); NaN for a storage without size. [1]

    Examples
    --------
    In and out again, 10 kWh of a box of 10 kWh:

    >>> full_cycles(np.array([10.0, 0.0]), np.array([0.0, 10.0]), 1.0, 10.0)
    1.0
    """
    if energy_kwh == 0.0:
        return math.nan
    through = dt_h * float(np.sum(efficiency_charge * charge_kw + discharge_kw / efficiency_discharge))
    return through / (2.0 * energy_kwh)
