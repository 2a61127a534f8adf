"""Stores along planned flows: every equation exact, every bound kept.

A store follows the net of its planned flows, clipped to its tube (:func:`market.chain.tube`), so that whatever comes later
can still be met, and never charges and discharges at once: where the iteration would burn energy, it is kept.  The tenants of a shared store go together, because the sum of their nets has bounds
too: where it would leave them, all move alike towards the end of what each of them can do.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import tube
from market.compiled import EXACT, EXACT_PART

__all__ = ["follow_own", "follow_rented"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def follow_own(
    dt_h: float, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats, drain: Floats, initial: Floats,
    efficiency_c: Floats, efficiency_d: Floats, retention: Floats, charge: Floats, discharge: Floats, energy: Floats,
) -> None:  # fmt: skip
    """Run every store of everybody: change ``charge`` and ``discharge`` in place, fill ``energy`` (K, n, T + 1)."""
    stores, agents, steps = charge.shape
    low, high = np.empty(steps + 1), np.empty(steps + 1)
    for k in range(stores):
        for i in range(agents):
            e1, e2, kept = dt_h * efficiency_c[k, i], dt_h / efficiency_d[k, i], retention[k, i]
            c_max, d_max, least, most = charge_max[k, i], discharge_max[k, i], lower[k, i], upper[k, i]
            tube(e1, e2, kept, c_max, d_max, least, most, drain[k, i], low, high)
            energy[k, i, 0] = content = initial[k, i]
            for t in range(steps):
                rest = kept * content - drain[k, i, t]
                net = min(max(charge[k, i, t], 0.0), c_max[t]) - min(max(discharge[k, i, t], 0.0), d_max[t])
                gain = (e1 if net > 0.0 else e2) * net
                gain = min(max(rest + gain, low[t + 1]), high[t + 1]) - rest
                charge[k, i, t] = min(gain / e1, c_max[t]) if gain > 0.0 else 0.0
                discharge[k, i, t] = min(-gain / e2, d_max[t]) if gain < 0.0 else 0.0
                content = rest + e1 * charge[k, i, t] - e2 * discharge[k, i, t]
                content = min(max(content, least[t]), most[t])  # the last digit
                energy[k, i, t + 1] = content


@njit(**EXACT_PART)
def _tubes(
    e1: float, e2: float, kept: float, right_energy: Floats, right_power: Floats, final: Floats, steps: int
) -> tuple[Floats, Floats]:
    """Return every space's own tube, two arrays (n, T + 1)."""
    agents = right_energy.size
    low, high = np.empty((agents, steps + 1)), np.empty((agents, steps + 1))
    lower, upper, full, none = np.zeros(steps), np.empty(steps), np.empty(steps), np.zeros(steps)
    for i in range(agents):
        for t in range(steps):
            full[t], upper[t] = right_power[i], right_energy[i]
        lower[steps - 1] = upper[steps - 1] = final[i]
        tube(e1, e2, kept, full, full, lower, upper, none, low[i], high[i])
    return low, high


@njit(**EXACT_PART)
def _total_tube(e1: float, e2: float, kept: float, energy: float, power: float, final: float, net: Floats) -> Floats:
    """Return (2, T + 1): where the sum of the contents should be so that the net's later bounds can be met and the end reached.

    Without opposite flows, and as if the spaces were one: a guide, not a law.
    """
    steps = net.shape[1]
    total = np.empty((2, steps + 1))
    total[0, steps] = total[1, steps] = final
    for t in range(steps - 1, -1, -1):
        up, down = min(net[1, t], power), max(net[0, t], -power)
        total[0, t] = min(max((total[0, t + 1] - (e1 if up > 0.0 else e2) * up) / kept, 0.0), energy)
        total[1, t] = max(min((total[1, t + 1] - (e1 if down > 0.0 else e2) * down) / kept, energy), 0.0)
    return total


@njit(**EXACT_PART)
def _content(e1: float, e2: float, kept: float, before: Floats, net: Floats, goal: Floats, share: float) -> float:
    """Return the sum of the contents after an interval in which all go the share of the way from net to goal."""
    total = 0.0
    for i in range(net.size):
        power = net[i] + share * (goal[i] - net[i])
        total += kept * before[i] + (e1 if power > 0.0 else e2) * power
    return total


@njit(**EXACT)
def follow_rented(
    e1: float, e2: float, kept: float, right_energy: Floats, right_power: Floats, initial: Floats, final: Floats,
    bounds: Floats, charge: Floats, discharge: Floats, energy: Floats,
) -> float:  # fmt: skip
    """Run the tenants of one shared store; return by how much its net could not be kept in ``bounds`` (2, T). [kW]"""
    agents, steps = charge.shape
    low, high = _tubes(e1, e2, kept, right_energy, right_power, final, steps)
    all_energy = all_power = 0.0
    for i in range(agents):
        all_energy += right_energy[i]
        all_power += right_power[i]
    total_tube = _total_tube(e1, e2, kept, all_energy, all_power, final.sum(), bounds)
    net, least, most, content = np.empty(agents), np.empty(agents), np.empty(agents), initial.copy()
    for i in range(agents):
        energy[i, 0] = initial[i]
    worst = 0.0
    for t in range(steps):
        for i in range(agents):
            rest = kept * content[i]
            gain = low[i, t + 1] - rest
            least[i] = max(gain / (e1 if gain > 0.0 else e2), -right_power[i])
            gain = high[i, t + 1] - rest
            most[i] = max(min(gain / (e1 if gain > 0.0 else e2), right_power[i]), least[i])
            plan = min(max(charge[i, t], 0.0), right_power[i]) - min(max(discharge[i, t], 0.0), right_power[i])
            net[i] = min(max(plan, least[i]), most[i])
        for side in range(2):  # keep the sum of the contents where the net's later bounds can be met
            goal, sign = (most, -1.0) if side == 0 else (least, 1.0)
            limit = sign * total_tube[side, t + 1]
            if sign * _content(e1, e2, kept, content, net, goal, 0.0) > limit + 1e-12:
                near, far = 0.0, 1.0
                for _ in range(50):
                    middle = 0.5 * (near + far)
                    if sign * _content(e1, e2, kept, content, net, goal, middle) > limit:
                        near = middle
                    else:
                        far = middle
                for i in range(agents):
                    net[i] += far * (goal[i] - net[i])
        total = to_least = to_most = 0.0
        for i in range(agents):
            total += net[i]
            to_least += net[i] - least[i]
            to_most += net[i] - most[i]
        goal, room = (least, to_least) if total > bounds[1, t] else (most, to_most)
        off = min(total - bounds[0, t], 0.0) + max(total - bounds[1, t], 0.0)
        if off != 0.0:
            share = min(off / room, 1.0) if room * off > 0.0 else 0.0
            worst = max(worst, abs(off - share * room))
            for i in range(agents):
                net[i] += share * (goal[i] - net[i])
        for i in range(agents):
            charge[i, t], discharge[i, t] = max(net[i], 0.0), max(-net[i], 0.0)
            content[i] = kept * content[i] + e1 * charge[i, t] - e2 * discharge[i, t]
            content[i] = min(max(content[i], 0.0), right_energy[i])  # the last digit
            energy[i, t + 1] = content[i]
    return worst
