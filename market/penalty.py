"""What leaving an envelope has to cost so that it never pays.

A kWh outside the envelope is worth to an agent at most what it earns or saves at the dearest retail price, what it is paid
for at the deepest negative one, and what it would cost to stay inside by way of a store, filled or emptied at another time:
wear both ways, all of it through the losses there and back and those of waiting ::

    least = (max buy + max(-sell) + 2 wear) / max(eta_c eta_d retention^(T - 1), 0.1)                           (1)

over the agents whose meter has a limit, with the stores that they can move.  The floor of a tenth is for stores that keep
next to nothing over the horizon: a penalty without end would only make the iteration slow.  (1) counts one way through one
store; where several limits bind in a row and energy would have to go several ways, it may be worth more than that, and
then the certified gap says so: the plan keeps to the envelope either way (:mod:`market.inside`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["enough_penalty_eur_per_kwh", "least_penalty_eur_per_kwh"]

Floats = NDArray[np.float64]

_LEAST_KEPT = 0.1
_MARGIN = 1.5  # an iteration stops with residuals


def least_penalty_eur_per_kwh(
    *,
    buy_eur_per_kwh: Floats,
    sell_eur_per_kwh: Floats,
    import_limit_kw: Floats,
    export_limit_kw: Floats,
    store_charge_max_kw: Floats,
    store_discharge_max_kw: Floats,
    store_efficiency_charge: Floats,
    store_efficiency_discharge: Floats,
    store_retention: Floats,
    store_wear_eur_per_kwh: Floats,
) -> float:
    """Return (1); columns as in :class:`market.problem.Problem`.  0 where no meter has a limit."""
    limited = (np.isfinite(import_limit_kw) | np.isfinite(export_limit_kw)).any(axis=1)
    steps = buy_eur_per_kwh.shape[1]
    movable = np.maximum(store_charge_max_kw.max(axis=2), store_discharge_max_kw.max(axis=2)) > 0.0
    kept = store_efficiency_charge * store_efficiency_discharge * store_retention ** (steps - 1)
    kept = np.where(movable, np.maximum(kept, _LEAST_KEPT), 1.0).min(axis=0, initial=1.0)
    wear = np.where(movable, store_wear_eur_per_kwh, 0.0).max(axis=0, initial=0.0)
    reach = np.maximum(buy_eur_per_kwh.max(axis=1), 0.0) + np.maximum(-sell_eur_per_kwh.min(axis=1), 0.0)
    return float(((reach + 2.0 * wear) / kept * limited).max(initial=0.0))


def enough_penalty_eur_per_kwh(least_eur_per_kwh: float, usual_eur_per_kwh: float) -> float:
    """Return the usual penalty where it is well above the least, and otherwise one that is."""
    if not np.isfinite(least_eur_per_kwh):  # prices that are refused anyway
        return usual_eur_per_kwh
    return max(usual_eur_per_kwh, _MARGIN * least_eur_per_kwh)
