"""Stores along planned flows: every equation exact, every bound kept.

A store follows the net of its planned flows, clipped to its tube (:func:`market.chain.tube`), so that whatever comes later
can still be met, and never charges and discharges at once: where the iteration would burn energy, it is kept.

The tenants of one box go together, because the sum of their nets has bounds too, those of the net and, in netted
operation, those of the box's content: where it would leave them, tenants move towards the end of what each of them can do.
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
            energy[k, i, 0] = content = initial[k, i]
            if c_max.max() <= 0.0 and d_max.max() <= 0.0:  # nothing can move
                for t in range(steps):
                    charge[k, i, t] = discharge[k, i, t] = 0.0
                    energy[k, i, t + 1] = content = min(max(kept * content - drain[k, i, t], least[t]), most[t])
                continue
            tube(e1, e2, kept, c_max, d_max, least, most, drain[k, i], low, high)
            for t in range(steps):
                rest = kept * content - drain[k, i, t]
                into, out = min(max(charge[k, i, t], 0.0), c_max[t]), min(max(discharge[k, i, t], 0.0), d_max[t])
                net = into - out
                gain = (e1 if net > 0.0 else e2) * net
                gain = min(max(rest + gain, low[t + 1]), high[t + 1]) - rest
                into = min(gain / e1, c_max[t]) if gain > 0.0 else 0.0
                out = min(-gain / e2, d_max[t]) if gain < 0.0 else 0.0
                charge[k, i, t], discharge[k, i, t] = into, out
                content = rest + e1 * into - e2 * out
                content = min(max(content, least[t]), most[t])  # the last digit
                energy[k, i, t + 1] = content


@njit(**EXACT_PART)
def _tubes(
    constants: Floats, right: Floats, power: Floats, initial: Floats, final: Floats, bounds: Floats, helped: bool
) -> tuple[Floats, Floats]:
    """Return every space's own tube, two arrays (m, T + 1).

    If not ``helped``, as far as the net's bounds allow it without help from opposite flows of others.
    """
    tenants, steps = power.shape
    low, high = np.empty((tenants, steps + 1)), np.empty((tenants, steps + 1))
    lower, upper, none, into, out = np.zeros(steps), np.empty(steps), np.zeros(steps), np.empty(steps), np.empty(steps)
    for i in range(tenants):
        lower[steps - 1] = final[i]
        for narrow in range(0 if helped else 1, -1, -1):
            for t in range(steps):
                upper[t] = right[i]
                into[t] = min(power[i, t], max(bounds[1, t], 0.0)) if narrow else power[i, t]
                out[t] = min(power[i, t], max(-bounds[0, t], 0.0)) if narrow else power[i, t]
            upper[steps - 1] = final[i]
            tube(constants[0, i], constants[1, i], constants[2, i], into, out, lower, upper, none, low[i], high[i])
            if low[i, 0] - 1e-12 <= initial[i] <= high[i, 0] + 1e-12:
                break
    return low, high


@njit(**EXACT_PART)
def _total_tube(e1: float, e2: float, kept: float, energy: float, power: Floats, final: float, net: Floats) -> Floats:
    """Return (2, T + 1): where the sum of the contents should be so that the net's later bounds can be met and the end reached.

    Without opposite flows, and as if the spaces were one: a guide, not a law.
    """
    steps = net.shape[1]
    total = np.empty((2, steps + 1))
    total[0, steps] = total[1, steps] = final
    for t in range(steps - 1, -1, -1):
        up, down = min(net[1, t], power[t]), max(net[0, t], -power[t])
        total[0, t] = min(max((total[0, t + 1] - (e1 if up > 0.0 else e2) * up) / kept, 0.0), energy)
        total[1, t] = max(min((total[1, t + 1] - (e1 if down > 0.0 else e2) * down) / kept, energy), 0.0)
    return total


@njit(**EXACT_PART)
def _content(constants: Floats, before: Floats, net: Floats, goal: Floats, share: float) -> float:
    """Return the sum of the contents after an interval in which all go the share of the way from net to goal."""
    total = 0.0
    for i in range(net.size):
        power = net[i] + share * (goal[i] - net[i])
        total += constants[2, i] * before[i] + (constants[0, i] if power > 0.0 else constants[1, i]) * power
    return total


@njit(**EXACT_PART)
def _planned(
    t: int, constants: Floats, content: Floats, low: Floats, high: Floats, power: Floats, charge: Floats, discharge: Floats,
    net: Floats, least: Floats, most: Floats,
) -> None:  # fmt: skip
    """Fill what every tenant can do in interval ``t``, from ``least`` to ``most``, and what it plans, ``net``.  Shapes (m,)."""
    for i in range(net.size):
        e1, e2 = constants[0, i], constants[1, i]
        rest = constants[2, i] * content[i]
        gain = low[i, t + 1] - rest
        least[i] = max(gain / (e1 if gain > 0.0 else e2), -power[i, t])
        gain = high[i, t + 1] - rest
        most[i] = max(min(gain / (e1 if gain > 0.0 else e2), power[i, t]), least[i])
        plan = min(max(charge[i, t], 0.0), power[i, t]) - min(max(discharge[i, t], 0.0), power[i, t])
        net[i] = min(max(plan, least[i]), most[i])


@njit(**EXACT_PART)
def _lean(constants: Floats, content: Floats, net: Floats, goal: Floats, sign: float, bound: float) -> None:
    """Move all nets towards their goals, in place, until sign times the sum of the contents is no more than sign times the bound."""
    limit = sign * bound
    if sign * _content(constants, content, net, goal, 0.0) <= limit + 1e-12:
        return
    near, far = 0.0, 1.0
    for _ in range(50):
        middle = 0.5 * (near + far)
        if sign * _content(constants, content, net, goal, middle) > limit:
            near = middle
        else:
            far = middle
    for i in range(net.size):
        net[i] += far * (goal[i] - net[i])


@njit(**EXACT_PART)
def _into_bounds(net: Floats, least: Floats, most: Floats, lower: float, upper: float) -> float:
    """Move all nets, in place, until their sum is between the bounds; return by how much it cannot be."""
    total = to_least = to_most = 0.0
    for i in range(net.size):
        total += net[i]
        to_least += net[i] - least[i]
        to_most += net[i] - most[i]
    goal, room = (least, to_least) if total > upper else (most, to_most)
    off = min(total - lower, 0.0) + max(total - upper, 0.0)
    if off == 0.0:
        return 0.0
    share = min(off / room, 1.0) if room * off > 0.0 else 0.0
    for i in range(net.size):
        net[i] += share * (goal[i] - net[i])
    return abs(off - share * room)


@njit(**EXACT)
def follow_rented(
    constants: Floats, right: Floats, power: Floats, initial: Floats, final: Floats, bounds: Floats, box: Floats,
    box_tube: Floats, helped: bool, guided: bool, charge: Floats, discharge: Floats, energy: Floats, content_of_box: Floats,
) -> float:  # fmt: skip
    """Run the tenants of one box; return by how much its net could not be kept in its bounds. [kW]

    Parameters
    ----------
    constants
        e1 = dt eta_c, e2 = dt / eta_d and retention of every tenant's space.  Shape (3, m).
    right, initial, final
        Right to energy, first and last content.  Shape (m,).
    power
        What the right to power allows.  Shape (m, T).
    bounds
        Of the net.  Shape (2, T).
    box, box_tube
        The box's e1, e2, retention and first content, and where its content may be, shape (2, T + 1), infinite where nothing
        is asked of it.
    helped
        Whether a tenant may count on others' opposite flows to let it out; if not, it leaves in time by itself.
    guided
        Whether the sum of the contents is kept where the net's later bounds can be met without opposite flows.
    charge, discharge
        The plan, which is changed in place.  Shape (m, T).
    energy, content_of_box
        Filled.  Shapes (m, T + 1), (T + 1,).
    """
    tenants, steps = charge.shape
    low, high = _tubes(constants, right, power, initial, final, bounds, helped)
    all_power = np.zeros(steps)
    for i in range(tenants):
        for t in range(steps):
            all_power[t] += power[i, t]
    total_tube = _total_tube(box[0], box[1], box[2], right.sum(), all_power, final.sum(), bounds)
    net, least, most, content = np.empty(tenants), np.empty(tenants), np.empty(tenants), initial.copy()
    for i in range(tenants):  # no way at all, not even alone
        if not low[i, 0] - 1e-6 <= initial[i] <= high[i, 0] + 1e-6:
            return np.inf
    energy[:, 0] = initial
    content_of_box[0] = inside = box[3]
    worst = 0.0
    for t in range(steps):
        _planned(t, constants, content, low, high, power, charge, discharge, net, least, most)
        for side in range(2 if guided else 0):
            _lean(
                constants,
                content,
                net,
                most if side == 0 else least,
                -1.0 if side == 0 else 1.0,
                total_tube[side, t + 1],
            )
        rest = box[2] * inside
        gain = box_tube[0, t + 1] - rest
        lower = max(bounds[0, t], gain / (box[0] if gain > 0.0 else box[1]))
        gain = box_tube[1, t + 1] - rest
        upper = max(min(bounds[1, t], gain / (box[0] if gain > 0.0 else box[1])), lower)
        worst = max(worst, _into_bounds(net, least, most, lower, upper))
        total = 0.0
        for i in range(tenants):
            charge[i, t], discharge[i, t] = max(net[i], 0.0), max(-net[i], 0.0)
            total += net[i]
            content[i] = (
                constants[2, i] * content[i] + constants[0, i] * charge[i, t] - constants[1, i] * discharge[i, t]
            )
            content[i] = min(max(content[i], 0.0), right[i])  # the last digit
            energy[i, t + 1] = content[i]
        content_of_box[t + 1] = inside = rest + (box[0] if total > 0.0 else box[1]) * total
    return worst
