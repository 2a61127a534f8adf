"""Own stores inside the envelope: a meter leaves its limits only where it must, and then as little as it can.

What the stores of an agent may move together is bounded by its meter: with everything curtailed at one end and nothing at
the other ::

    -export - load <= sum_K (c - d) <= import - load + pv                                                       (1)

A plan that follows an iteration's flows may miss (1) by what the iteration has left over.  Then, agent by agent:

1. one store alone moves into what the others leave of (1), if it can: flows clipped, and contents kept where all later
   intervals of (1) and all later needs can still be met (the tube of :mod:`market.chain`, with flows of both signs bounded);
2. else all its stores and intervals at once, as a linear program: least energy outside (1), and of those the flows nearest
   to the plan.  Milliseconds each, and only where energy is scarce: a battery too small for a peak, a car in a hurry.

A store that would have to charge and discharge at once to help does not help.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.follow import follow_own
from market.problem import Problem
from market.restore import nearest

__all__ = ["keep_inside"]

Floats = NDArray[np.float64]

_ROUNDING_KW = 1e-11
_OUTSIDE = 1e4  # what a kWh outside costs beside a kWh of change: more than any way round through lossy stores


@dataclass(frozen=True, slots=True, eq=False)
class _Stores:
    """The stores of one agent that can move, ``m`` of them."""

    constants: Floats
    """e1 = dt eta_c, e2 = dt / eta_d, retention and first content.  Shape (4, m)."""
    flows: Floats
    """Largest charge and discharge.  Shape (2, m, T). [kW]"""
    contents: Floats
    """Least and largest content, and drain.  Shape (3, m, T). [kWh]"""


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


def keep_inside(p: Problem, charge: Floats, discharge: Floats, energy: Floats) -> None:
    """Move the flows of own stores, shape (K, n, T), and their contents, (K, n, T + 1), in place, until (1) holds where it can."""
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
            beyond = _all_move(stores, low[i], high[i], net)
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


def _all_move(s: _Stores, low: Floats, high: Floats, net: Floats) -> Floats:
    """Move all nets, in place; return how far their sum then is below and above its room, shape (2, T). [kW]"""
    from scipy import sparse

    m, steps = net.shape
    size = m * steps
    e1, e2, kept = (sparse.diags(np.repeat(column, steps)) for column in s.constants[:3])
    every, each = sparse.identity(size), sparse.identity(steps)
    back = sparse.kron(sparse.identity(m), sparse.diags([1.0], [-1], shape=(steps, steps)))
    total, none = sparse.kron(np.ones((1, m)), each), sparse.csr_matrix((steps, 3 * size))
    # charge, discharge, content, change up, change down; below and above the room
    equal = sparse.bmat([[-e1, e2, every - kept @ back, None, None, sparse.csr_matrix((size, 2 * steps))],
                         [every, -every, None, -every, every, None]], format="csr")  # fmt: skip
    bounded = np.isfinite(low), np.isfinite(high)
    below = sparse.bmat([[sparse.hstack([-total, total, none]), -each, None], [sparse.hstack([total, -total, none]), None, -each]],
                        format="csr")[np.concatenate(bounded)]  # fmt: skip
    first = -s.contents[2].copy()
    first[:, 0] += s.constants[2] * s.constants[3]
    # against the plan's direction is dear, so that to charge and discharge at once is the last thing tried
    against = 10.0 * np.concatenate([net.ravel() <= 0.0, net.ravel() >= 0.0])
    cost = np.concatenate([against, np.zeros(size), np.ones(2 * size), np.full(2 * steps, _OUTSIDE)])
    bounds = np.zeros((cost.size, 2))
    bounds[:, 1] = np.inf
    bounds[: 2 * size, 1] = s.flows.ravel()
    bounds[2 * size : 3 * size] = s.contents[:2].reshape(2, size).T
    limits = np.concatenate([-low[bounded[0]], high[bounded[1]]])
    found = nearest(cost, below, limits, equal, np.concatenate([first.ravel(), net.ravel()]), bounds)
    if found is None:  # a need that is short by a rounding: the plan stays as it is
        return np.zeros((2, steps))
    net[:] = (found[:size] - found[size : 2 * size]).reshape(m, steps)
    beyond: Floats = found[5 * size :].reshape(2, steps)
    return np.where(beyond > 1e-9, beyond, 0.0)
