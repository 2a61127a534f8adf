"""Own stores inside the envelope: a meter leaves its limits only where it must, and then at least cost.

What the stores of an agent may move together is bounded by its meter: with everything curtailed at one end and nothing at
the other ::

    -export - load <= sum_K (c - d) <= import - load + pv                                                       (1)

A plan that follows an iteration's flows may miss (1) by what the iteration has left over.  Then, agent by agent:

1. one store alone moves into what the others leave of (1), if it can: flows clipped, and contents kept where all later
   intervals of (1) and all later needs can still be met (the tube of :mod:`market.chain`, with flows of both signs bounded);
2. else all its stores and intervals at once, as a linear program: what the stores' energy costs the community
   (:mod:`market.merit`), wear, and where (1) cannot hold in every interval the energy outside at its penalty; of the
   cheapest flows those nearest to the plan.  Milliseconds each, and only where energy is scarce: a battery too small for
   a peak, a car in a hurry.

Where some energy must be outside, the least of it need not be the cheapest: a buffer that waits for a dear interval leaks less,
and needs a little less in all.  An agent that can stay inside does, whatever that costs it.

A store that would have to charge and discharge at once to help does not help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.follow import follow_own
from market.merit import Steps, steps_of
from market.problem import Problem
from market.restore import nearest

__all__ = ["keep_inside"]

Floats = NDArray[np.float64]

_ROUNDING_KW = 1e-11
_CHANGE = 1e-5  # what a kWh of change costs beside the dearest kWh: it decides between flows that cost the same


@dataclass(frozen=True, slots=True, eq=False)
class _Stores:
    """The stores of one agent that can move, ``m`` of them."""

    constants: Floats
    """e1 = dt eta_c, e2 = dt / eta_d, retention and first content.  Shape (4, m)."""
    flows: Floats
    """Largest charge and discharge.  Shape (2, m, T). [kW]"""
    contents: Floats
    """Least and largest content, and drain.  Shape (3, m, T). [kWh]"""


class _Prices(NamedTuple):
    """What energy costs around one agent."""

    steps: Steps
    """What its need costs the community."""
    base_kw: Floats
    """Its need without its stores, nothing curtailed.  Shape (T,)."""
    pv_kw: Floats
    """What may be curtailed.  Shape (T,)."""
    wear_eur_per_kwh: Floats
    """Of each store.  Shape (m,)."""
    penalty_eur_per_kwh: float
    """Of energy outside the envelope."""


@njit(**EXACT)
def _alone(
    constants: Floats, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats, drain: Floats,
    room_low: Floats, room_high: Floats, net: Floats,
) -> bool:  # fmt: skip
    """Move the net flow of one store into its room, in place; return whether there is a way, and change nothing if not."""
    e1, e2, kept, initial = constants[0], constants[1], constants[2], constants[3]
    steps = net.shape[0]
    least, most = np.empty(steps), np.empty(steps)
    low, high = np.empty(steps + 1), np.empty(steps + 1)
    low[steps], high[steps] = lower[steps - 1], upper[steps - 1]
    for t in range(steps - 1, -1, -1):
        least[t], most[t] = max(room_low[t], -discharge_max[t]), min(room_high[t], charge_max[t])
        if least[t] > most[t]:
            return False
        low[t] = (low[t + 1] - (e1 if most[t] > 0.0 else e2) * most[t] + drain[t]) / kept
        high[t] = (high[t + 1] - (e1 if least[t] > 0.0 else e2) * least[t] + drain[t]) / kept
        if t > 0:
            low[t], high[t] = max(low[t], lower[t - 1]), min(high[t], upper[t - 1])
        if low[t] > high[t]:
            return False
    if not low[0] - 1e-12 <= initial <= high[0] + 1e-12:
        return False
    content = initial
    for t in range(steps):
        rest = kept * content - drain[t]
        flow = min(max(net[t], least[t]), most[t])
        gain = (e1 if flow > 0.0 else e2) * flow
        gain = min(max(rest + gain, low[t + 1]), high[t + 1]) - rest
        net[t] = min(max(gain / (e1 if gain > 0.0 else e2), least[t]), most[t])
        content = rest + (e1 if net[t] > 0.0 else e2) * net[t]
    return True


def keep_inside(
    p: Problem, charge: Floats, discharge: Floats, energy: Floats, rented_kw: Floats, curtailed_kw: Floats
) -> None:
    """Move the flows of own stores, shape (K, n, T), and their contents, (K, n, T + 1), in place, until (1) holds where it can.

    ``rented_kw`` is what agents put into rented spaces, ``curtailed_kw`` what they would curtail.  Shapes (n, T).
    """
    low, high = -p.export_limit_kw - p.load_kw, p.import_limit_kw - p.load_kw + p.pv_kw
    own = (charge - discharge).sum(axis=0)
    outside = np.maximum(np.maximum(low - own, own - high), 0.0)
    utmost = np.maximum(low - p.store_charge_max_kw.sum(axis=0), -p.store_discharge_max_kw.sum(axis=0) - high)
    moved = np.flatnonzero((outside > np.maximum(utmost, 0.0) + _ROUNDING_KW).any(axis=1)).tolist()
    for i in moved:
        some = np.flatnonzero((p.store_charge_max_kw[:, i] + p.store_discharge_max_kw[:, i]).max(axis=1) > 0.0)
        stores = _Stores(
            np.stack([p.dt_h * p.store_efficiency_charge, p.dt_h / p.store_efficiency_discharge, p.store_retention,
                      p.store_initial_kwh])[:, some, i],
            np.stack([p.store_charge_max_kw, p.store_discharge_max_kw])[:, some, i],
            np.stack([p.store_energy_min_kwh, p.store_energy_max_kwh, p.store_drain_kwh])[:, some, i],
        )  # fmt: skip
        net = (charge - discharge)[some, i]
        if not _one_moves(stores, low[i], high[i], net):
            own = (charge - discharge).sum(axis=0)
            uncurtailed = p.load_kw - p.pv_kw + own
            spilt = np.clip(np.maximum(-p.export_limit_kw - uncurtailed, curtailed_kw * (p.sell_eur_per_kwh < 0.0)),
                            0.0, p.pv_kw)  # fmt: skip
            prices = _Prices(steps_of(p, i, uncurtailed + spilt + rented_kw), p.load_kw[i] - p.pv_kw[i] + rented_kw[i],
                             p.pv_kw[i], p.store_wear_eur_per_kwh[some, i], p.breach_penalty_eur_per_kwh)  # fmt: skip
            beyond = _all_move(stores, low[i], high[i], prices, net)
            _one_moves(stores, low[i] - beyond[0], high[i] + beyond[1], net)  # the solver's last digits
        charge[some, i], discharge[some, i] = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    if moved:
        one = np.array(moved)
        new = [np.ascontiguousarray(flow[:, one]) for flow in (charge, discharge, energy)]
        columns = (p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh,
                   p.store_drain_kwh, p.store_initial_kwh, p.store_efficiency_charge, p.store_efficiency_discharge,
                   p.store_retention)  # fmt: skip
        follow_own(p.dt_h, *(np.ascontiguousarray(column[:, one]) for column in columns), *new)
        charge[:, one], discharge[:, one], energy[:, one] = new


def _one_moves(s: _Stores, low: Floats, high: Floats, net: Floats) -> bool:
    """Let the first store that can do it alone bring the sum of the nets, shape (m, T), into its room, in place."""
    for k in range(len(net)):
        others = net.sum(axis=0) - net[k]
        if _alone(s.constants[:, k].copy(), *s.flows[:, k], *s.contents[:, k], low - others, high - others, net[k]):
            return True
    return False


def _all_move(s: _Stores, low: Floats, high: Floats, prices: _Prices, net: Floats) -> Floats:
    """Move all nets, in place; return how far their sum then is below and above its room, shape (2, T). [kW]"""
    from scipy import sparse

    m, steps = net.shape
    size = m * steps
    e1, e2, kept = (sparse.diags(np.repeat(column, steps)) for column in s.constants[:3])
    every, each = sparse.identity(size), sparse.identity(steps)
    back = sparse.kron(sparse.identity(m), sparse.diags([1.0], [-1], shape=(steps, steps)))
    total = sparse.kron(np.ones((1, m)), each)
    # charge, discharge, content, change up, change down; below and above the room; curtailed; steps of the need
    least, when, size_kw, price = _within(
        prices.steps, prices.base_kw - s.flows[1].sum(axis=0), prices.base_kw + prices.pv_kw + s.flows[0].sum(axis=0)
    )
    bought = sparse.csr_matrix((np.ones(when.size), (when, np.arange(when.size))), shape=(steps, when.size))
    nothing, still = sparse.csr_matrix((steps, steps)), sparse.csr_matrix((steps, 3 * size))
    equal = sparse.bmat([[-e1, e2, every - kept @ back, None, None, None, None, None, None],
                         [every, -every, None, -every, every, None, None, None, None],
                         [total, -total, None, None, None, nothing, nothing, each, -bought]], format="csr")  # fmt: skip
    bounded = np.isfinite(low), np.isfinite(high)
    below = sparse.bmat([[-total, total, still, -each, nothing, -each, 0 * bought],
                         [total, -total, None, None, -each, each, None]], format="csr")[np.concatenate(bounded)]  # fmt: skip
    first = -s.contents[2].copy()
    first[:, 0] += s.constants[2] * s.constants[3]
    dear = float(np.abs(price).max(initial=0.0)) or prices.penalty_eur_per_kwh
    paid = np.zeros(steps)
    np.maximum.at(paid, when, -price)
    kept_of_all = s.constants[0] / s.constants[1]
    wear = np.repeat(prices.wear_eur_per_kwh, steps)
    # so much that nobody is paid for charging and discharging at once
    toll = (paid * ((1.0 - kept_of_all) / (1.0 + kept_of_all))[:, None]).ravel()
    cost = np.concatenate([wear, wear, np.zeros(size), np.full(2 * size, _CHANGE * dear),
                           np.full(2 * steps, prices.penalty_eur_per_kwh), np.zeros(steps), price]) / dear  # fmt: skip
    bounds = np.zeros((cost.size, 2))
    bounds[:, 1] = np.inf
    bounds[: 2 * size, 1] = s.flows.ravel()
    bounds[2 * size : 3 * size] = s.contents[:2].reshape(2, size).T
    bounds[5 * size + 2 * steps : 5 * size + 3 * steps, 1] = prices.pv_kw
    bounds[5 * size + 3 * steps :, 1] = size_kw
    limits = np.concatenate([-(low + prices.pv_kw)[bounded[0]], high[bounded[1]]])
    right_side = np.concatenate([first.ravel(), net.ravel(), least - prices.base_kw])
    outside = slice(5 * size, 5 * size + 2 * steps)
    for most in (0.0, np.inf):
        bounds[outside, 1] = most
        found = nearest(cost, below, limits, equal, right_side, bounds)
        if found is not None:
            break
    else:  # a need that is short by a rounding: the plan stays as it is
        return np.zeros((2, steps))
    if np.minimum(found[:size], found[size : 2 * size]).max(initial=0.0) > 1e-9:
        cost[: 2 * size] += np.tile(toll, 2) / dear
        again = nearest(cost, below, limits, equal, right_side, bounds)
        found = found if again is None else again
    net[:] = (found[:size] - found[size : 2 * size]).reshape(m, steps)
    beyond: Floats = found[outside].reshape(2, steps)
    return np.where(beyond > 1e-9, beyond, 0.0)


def _within(steps: Steps, low: Floats, high: Floats) -> tuple[Floats, NDArray[np.intp], Floats, Floats]:
    """Return a need below all that is between ``low`` and ``high``, and when, how large and how dear the steps from there are."""
    edge = np.cumsum(np.column_stack([steps.start, steps.size_kw[:, 1:-1]]), axis=1)
    endless = np.full((edge.shape[0], 1), np.inf)
    bottom, top = low[:, None] - 1.0, high[:, None] + 1.0
    size = np.diff(np.clip(np.hstack([-endless, edge, endless]), bottom, top), axis=1)
    size[size < 1e-9] = 0.0
    when, which = np.nonzero(size)
    return bottom[:, 0], when, size[when, which], steps.price_eur_per_kwh[when, which]
