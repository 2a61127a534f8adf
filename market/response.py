"""An agent's answer to prices: the values of its energy at which its least cost shows best.

The bound of :mod:`market.bound` is true for any value nu of energy at an agent's balance, any value pi at its meter and any
marginal values y of its stores' contents, and the iteration's are loose long after the exchange's price is right.  Here they
are improved, agent by agent: at the exchange's price an interval costs an agent a convex, piecewise linear function of what
one of its stores draws.  Own surplus is worth the sale, what must be bought costs the purchase, and in between lie the values
at which the other stores, at their own y, would begin to draw or to give.  With such pieces the least cost of one store is
still a merging of sorted slopes (:mod:`market.chain`), so y of that store is exact given the others', and they are improved in
turn; an agent with a single store is done at once.

Rights that are free are improved with the values: the cost is a convex function of energy and power, and the planes that
touch it are mixed (:mod:`market.planes`); a mean of values is as possible as the values are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.chain import marginals
from market.compiled import EXACT, EXACT_PART
from market.pieces import (
    DOWN,
    DRAIN,
    E1,
    E2,
    GIVEN,
    HIGH,
    INITIAL,
    KEEP,
    LOAD,
    LOWER,
    PV,
    START,
    STOP,
    TOLL_C,
    TOLL_D,
    UP,
    UPPER,
    Y,
    asked,
    at_meter,
    describe,
    flat,
    least,
    values,
)  # fmt: skip
from market.planes import least_point, means, worth

__all__ = ["Tables", "answers"]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_LOOKS = 16  # points at which a space's cost is looked at
_ROOM = 300_000_000  # segments of all lists of a chain at most, which is more than a year's
_SWEEPS = 1  # times that an agent's several stores are improved in turn


@njit(**EXACT_PART)
def _chain(
    dt_h: float, constants: Floats, s: int, stores: Floats, cost: Floats, pieces: Floats, n: Counts, rise: Floats, count: Counts,
    most: Floats, lists: Floats, ends: Counts, left: Floats,
) -> None:  # fmt: skip
    """Find store ``s``'s marginal values where the intervals cost what was described, and what it asks for at them."""
    e1, e2 = constants[E1, s], constants[E2, s]
    asked(dt_h, e1, e2, s, stores, cost, pieces, n, rise, count, most)
    marginals(constants[KEEP, s], rise[0], rise[1], count, most, stores[LOWER, s], stores[UPPER, s], stores[DRAIN, s],
              constants[INITIAL, s], lists[0], lists[1], ends, left, stores[Y, s])  # fmt: skip
    for t in range(n.shape[0]):
        stores[START, s, t] = -stores[TOLL_C, s, t] - stores[Y, s, t] * e1 / dt_h
        stores[STOP, s, t] = stores[TOLL_D, s, t] - stores[Y, s, t] * e2 / dt_h


@njit(**EXACT_PART)
def _plane(
    dt_h: float, constants: Floats, s: int, available: Floats, stores: Floats, cost: Floats, pieces: Floats, n: Counts,
    nu: Floats,
) -> tuple[float, float, float]:  # fmt: skip
    """Return constant, cost per kWh and per kW of a plane below the agent's cost, as the values of store ``s`` have it."""
    last, e1, e2, keep = nu.shape[0] - 1, constants[E1, s], constants[E2, s], constants[KEEP, s]
    constant = keep * stores[Y, s, 0] * constants[INITIAL, s] - stores[Y, s, last] * stores[LOWER, s, last]
    per_kwh = per_kw = 0.0
    for t in range(last + 1):
        constant += dt_h * least(cost, pieces, n[t], t, nu[t])
        y = stores[Y, s, t]
        if t < last:
            per_kwh += min(0.0, keep * stores[Y, s, t + 1] - y)
        into, out = dt_h * (nu[t] + stores[TOLL_C, s, t]) + y * e1, dt_h * (stores[TOLL_D, s, t] - nu[t]) - y * e2
        per_kw += available[t] * (min(0.0, into) + min(0.0, out))
    return constant, per_kwh, per_kw


@njit(**EXACT_PART)
def _resize(stores: Floats, s: int, energy: float, power: float, available: Floats) -> None:
    """Give space ``s`` a right."""
    last = available.shape[0] - 1
    for t in range(last + 1):
        stores[UP, s, t] = stores[DOWN, s, t] = power * available[t]
        stores[UPPER, s, t] = stores[LOWER, s, last] if t == last else energy


@njit(**EXACT_PART)
def _space(
    dt_h: float, constants: Floats, s: int, available: Floats, stores: Floats, cost: Floats, pieces: Floats, n: Counts,
    rise: Floats, count: Counts, most: Floats, lists: Floats, ends: Counts, left: Floats, rent_kwh: float, rent_kw: float,
    bounds: Floats, spot: Floats, exact: float, short: Floats, planes: Floats, nus: Floats, ys: Floats, nu: Floats,
) -> int:  # fmt: skip
    """Improve a space with free rights where the intervals cost what was described; return how often it was looked at.

    ``bounds`` are those of energy and power.  The search begins at ``spot``, in a box around it that grows where its side is
    met, and leaves there what was best.
    """
    box, mix, step, k, fresh = np.empty(4), np.empty(11), 1.05, 0, True
    energy, power = spot[0], spot[1]
    empty = bounds[0] == 0.0 and bounds[2] <= 0.0 and constants[INITIAL, s] == 0.0
    best = 0.0 if empty else np.inf  # nothing rented costs nothing
    while True:
        if fresh:
            box[0], box[1] = max(bounds[0], energy / step), min(bounds[1], energy * step)
            box[2], box[3] = max(bounds[2], power / step), min(bounds[3], power * step)
            mix[0] = -np.inf
        _resize(stores, s, energy, power, available)
        _chain(dt_h, constants, s, stores, cost, pieces, n, rise, count, most, lists, ends, left)
        values(s, stores, cost, pieces, n, nu, short, nus[k])
        planes[k] = _plane(dt_h, constants, s, available, stores, cost, pieces, n, nus[k])
        planes[k, 1] += rent_kwh
        planes[k, 2] += rent_kw
        ys[k] = stores[Y, s]
        here = planes[k, 0] + planes[k, 1] * energy + planes[k, 2] * power
        if here < best:
            best, spot[0], spot[1] = here, energy, power
        for p in range(0 if fresh else k, k + 1):
            means(planes, p, box, mix)
        k += 1
        if best - worth(mix, bounds) <= exact or k == planes.shape[0]:
            break
        energy, power = least_point(planes, box, mix)
        fresh = False
        for side in range(4):
            fresh |= (energy if side < 2 else power) == box[side] and box[side] != bounds[side]
        step = min(step * step, 1e3) if fresh else step
    if best - worth(mix, bounds) > exact:
        mix[0] = -np.inf
        for p in range(k):
            means(planes, p, bounds, mix)
    for t in range(nu.shape[0]):
        nu[t] = stores[Y, s, t] = 0.0
        for q in range(3):
            nu[t] += mix[7 + q] * nus[int(mix[4 + q]), t]
            stores[Y, s, t] += mix[7 + q] * ys[int(mix[4 + q]), t]
        stores[START, s, t] = -stores[TOLL_C, s, t] - stores[Y, s, t] * constants[E1, s] / dt_h
        stores[STOP, s, t] = stores[TOLL_D, s, t] - stores[Y, s, t] * constants[E2, s] / dt_h
    _resize(stores, s, spot[0], spot[1], available)
    return k


class Tables(NamedTuple):
    """What an agent's answer depends on, shaped as in :class:`market.problem.Problem`."""

    dt_h: float
    penalty: float
    homes: Floats
    """Load, PV, import and export limit, what is sold already, least and largest value at the balance.  Shape (7, n, T)."""
    charge: Floats
    discharge: Floats
    lower: Floats
    upper: Floats
    drain: Floats
    own: Floats
    """Efficiencies, retention, first content, wear of the own stores.  Shape (5, K, n)."""
    rented: Floats
    """Efficiencies, retention, wear of the shared stores.  Shape (4, M)."""
    edge: Floats
    """First and last content of the spaces.  Shape (2, M, n)."""
    available: Floats
    sigma: Floats
    """Of a kWh charged, as the agent sees it at its meter.  Shape (M, n, T)."""
    withdrawal: Floats
    may: NDArray[np.bool_]
    fixed: bool
    rights: Floats
    """Energy and power.  Shape (2, M, n)."""
    bounds: Floats
    """Least and largest energy, least and largest power that a right may have.  Shape (4, M, n)."""
    rents: Floats
    """Of energy and of power, with scarcity.  Shape (2, M, n)."""
    exact: float
    """Share of an agent's turnover: how far from its least a space's cost may be."""


@njit(**EXACT_PART)
def _own_stores(p: Tables, i: int, stores: Floats, constants: Floats, active: NDArray[np.bool_]) -> None:
    """Write down an agent's own stores."""
    for s in range(p.charge.shape[0]):
        active[s] = False
        constants[E1, s], constants[E2, s] = p.dt_h * p.own[0, s, i], p.dt_h / p.own[1, s, i]
        constants[KEEP, s], constants[INITIAL, s] = p.own[2, s, i], p.own[3, s, i]
        for t in range(p.charge.shape[2]):
            stores[UP, s, t], stores[DOWN, s, t] = p.charge[s, i, t], p.discharge[s, i, t]
            stores[TOLL_C, s, t] = stores[TOLL_D, s, t] = p.own[4, s, i]
            stores[LOWER, s, t], stores[UPPER, s, t] = p.lower[s, i, t], p.upper[s, i, t]
            stores[DRAIN, s, t] = p.drain[s, i, t]
            active[s] |= p.charge[s, i, t] > 0.0 or p.discharge[s, i, t] > 0.0


@njit(**EXACT_PART)
def _spaces(
    p: Tables,
    i: int,
    stores: Floats,
    constants: Floats,
    spot: Floats,
    active: NDArray[np.bool_],
    awake: NDArray[np.bool_],
) -> None:
    """Write down an agent's spaces, and where the search for its rights begins."""
    own, last = p.charge.shape[0], p.available.shape[1] - 1
    for j in range(p.may.shape[0]):
        s = own + j
        energy, power = p.rights[0, j, i], p.rights[1, j, i]
        if not p.fixed:
            energy = min(max(energy, p.bounds[0, j, i], 1e-4 * p.bounds[1, j, i]), p.bounds[1, j, i])
            power = min(
                max(power if power > 0.0 else 0.2 * energy, p.bounds[2, j, i] * (1.0 + 1e-6)), p.bounds[3, j, i]
            )
        active[s] = p.may[j, i] and energy > 0.0 and power > 0.0
        awake[s] = active[s] and p.rights[0, j, i] >= energy
        spot[j, 0], spot[j, 1] = energy, power
        constants[E1, s], constants[E2, s] = p.dt_h * p.rented[0, j], p.dt_h / p.rented[1, j]
        constants[KEEP, s], constants[INITIAL, s] = p.rented[2, j], p.edge[0, j, i]
        for t in range(last + 1):
            stores[LOWER, s, t], stores[DRAIN, s, t], stores[Y, s, t] = 0.0, 0.0, 0.0
            stores[TOLL_C, s, t] = p.rented[3, j] - p.sigma[j, i, t]
            stores[TOLL_D, s, t] = p.rented[3, j] + p.withdrawal[i, t] + p.sigma[j, i, t]
        stores[LOWER, s, last] = p.edge[1, j, i]
        _resize(stores, s, energy, power if awake[s] else 0.0, p.available[j])


@njit(**EXACT)
def answers(p: Tables, who: NDArray[np.bool_], still: bool, nu: Floats, pi: Floats, y: Floats) -> None:
    """Improve the values ``nu`` and ``pi``, shape (n, T), and fill the spaces' marginal values ``y``, shape (M, n, T).

    Of the agents in ``who``; with ``still`` the values stay as they are and only ``y`` is found.
    """
    (agents, steps), own, many = nu.shape, p.charge.shape[0], p.charge.shape[0] + p.may.shape[0]
    width = 2 * many + 9
    stores, constants, home = np.zeros((10, many, steps)), np.zeros((4, many)), np.empty((7, steps))
    cost, pieces, n = np.empty((3, steps)), np.empty((2, steps, width)), np.zeros(steps, np.int64)
    rise, count, most = np.empty((2, steps, width)), np.zeros(steps, np.int64), np.empty(steps)
    lists, ends, left = (
        np.empty((2, min((steps + 1) * (steps * width + 1), _ROOM))),
        np.empty((steps, 2), np.int64),
        np.empty(steps),
    )
    short, spot = np.empty((4, width)), np.empty((many - own, 2))
    active, awake = np.zeros(many, np.bool_), np.zeros(many, np.bool_)
    planes, nus, ys = np.empty((_LOOKS, 3)), np.empty((_LOOKS, steps)), np.empty((_LOOKS, steps))
    for i in range(agents):
        if not who[i]:
            continue
        home[:] = p.homes[:, i]
        _own_stores(p, i, stores, constants, active)
        awake[:] = active
        _spaces(p, i, stores, constants, spot, active, awake)
        size, turns, searched = 0.0, active.sum(), False
        for t in range(steps):
            size += home[LOAD, t] + home[PV, t] + abs(home[GIVEN, t])
        exact = p.exact * p.dt_h * size * np.abs(home[HIGH]).max()
        begun = False  # the first begins where the others are, and spaces that are not rented wait for their turn
        for s in range(many):
            if begun and awake[s] and not still:
                flat(cost, n, pi[i] if s < own else nu[i])
                _chain(p.dt_h, constants, s, stores, cost, pieces, n, rise, count, most, lists, ends, left)
            begun |= active[s]
        for _ in range(_SWEEPS if turns > 1 else 1):
            for s in range(many):
                if not active[s] or (still and s < own):
                    continue
                if still:
                    flat(cost, n, nu[i])
                else:
                    describe(home, stores, p.penalty, s, own, cost, pieces, n, short)
                searched = s >= own and not p.fixed
                if searched:
                    j = s - own
                    _space(p.dt_h, constants, s, p.available[j], stores, cost, pieces, n, rise, count, most, lists, ends,
                           left, p.rents[0, j, i], p.rents[1, j, i], p.bounds[:, j, i], spot[j], exact, short, planes, nus,
                           ys, nu[i])  # fmt: skip
                else:
                    _chain(p.dt_h, constants, s, stores, cost, pieces, n, rise, count, most, lists, ends, left)
        if not (searched or still):
            describe(home, stores, p.penalty, -1, own, cost, pieces, n, short)
            values(-1, stores, cost, pieces, n, nu[i], short, nu[i])
        if not still:
            at_meter(home, stores, p.penalty, own, short, nu[i], pi[i])
        for j in range(many - own):
            y[j, i] = stores[Y, own + j]
