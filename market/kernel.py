"""The iteration of the exchange, compiled: a projection on the linear equations, then closed forms.

Douglas-Rachford splitting (ADMM with relaxation alpha) on ``minimise A(v) + B(v)`` with one number ``s`` per variable::

    w = prox_A(s),   z = prox_B(2 w - s),   s += alpha (z - w)                                                  (1)

A, in :mod:`market.project`
    all linear equations of one agent: its balance, its meter, its stores' contents; and the sums of the rights.
B, in :mod:`market.prox`
    everything else, one closed form per variable: retail prices, envelope, curtailment, bounds, rents, the exchange
    (sum x = 0 and its charge) and the net of the shared stores.

Agents are lanes: they are sorted by the number of their stores and cut into tiles of about 32, with the lane as the
innermost, contiguous axis, so that every inner loop is a vector instruction.  A tile has as many slots as its largest
agent needs.  A flow whose bounds are both 0 is not a variable: its inverse weight is 0, and (1) leaves it at 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.project import (
    CONTENT,
    CURTAIL,
    ENERGY,
    EXCHANGE,
    FLOW,
    METER,
    NET,
    RENTED_CONTENT,
    RENTED_FLOW,
    RETAIL,
    project,
    share_rights,
)
from market.prox import prox, prox_exchange, prox_net

__all__ = ["Data", "Factors", "Found", "State", "iterate", "norms", "take_copy"]

Floats = NDArray[np.float64]


class Data(NamedTuple):
    """What does not change during a clearing; ``P`` positions = tiles x lanes, of which the first ``agents`` are real."""

    tiles: NDArray[np.int64]
    """Shape (tiles, 6): own slots C, rented slots R, and where the tile begins in cells, rented, blocks, constants."""
    given: Floats
    """Shape (tiles, T, 7, lanes): load - pv, pv, prices and limits, the charge on withdrawals; prices times dt."""
    bounds: Floats
    """Per tile (T, 4, C, lanes): charge, discharge, least and largest content (contents less those without any flow)."""
    constants: Floats
    """Per tile (4, C, lanes): e1 = dt eta_c, e2 = dt / eta_d, retention, wear times dt."""
    ess: Floats
    """Shape (M, 4): the same of the shared stores."""
    active: Floats
    """Shape (M, P): 1 where space is or may be rented, else 0."""
    edge: Floats
    """Shape (4, M, P): first and last content, least energy and power that these need."""
    rents: Floats
    """Shape (2, M, P): reserve rents of energy and power."""
    offers: Floats
    """Shape (2, M): energy and power."""
    charge: Floats
    """Shape (T, P): exchange charge times dt."""
    net: Floats
    """Shape (2, M, T): least and largest net."""
    bound_net: NDArray[np.bool_]
    """Shape (M, T): whether the net's bounds say more than the rights do."""
    penalty: float
    """Of a breach, times dt."""
    agents: int
    trading: bool
    """Whether the exchange is free."""
    renting: bool
    """Whether rights are free."""


class State(NamedTuple):
    """One number per variable: ``s``, the whole memory of the iteration, or ``w``."""

    agent: Floats
    """Shape (tiles, T, 3, lanes): retail, meter, curtailment."""
    own: Floats
    """Per tile (T, 3, C, lanes): charge, discharge, content."""
    rented: Floats
    """Per tile (T, 3, R, lanes): charge, discharge, content."""
    exchange: Floats
    """Shape (T, P)."""
    net: Floats
    """Shape (M, T, P)."""
    right: Floats
    """Shape (2, M, P): energy, power."""


class Found(NamedTuple):
    """What the couplings say, and where the next iteration begins to look for it."""

    price: Floats
    """Multiplier of sum x = 0: minus the price of the exchange, times dt.  Shape (T,)."""
    net_price: Floats
    """Multiplier of the net's bounds, times dt; positive where the upper one binds.  Shape (M, T)."""
    scarcity: Floats
    """Scarcity rents.  Shape (2, M)."""
    held: Floats
    """z of the rights: what each agent rents.  Shape (2, M, P)."""


class Factors(NamedTuple):
    """The eliminated and factored matrix of prox_A."""

    step: Floats
    """Shape (tiles, T, 3, lanes): kappa, gamma, gamma rho_meter."""
    blocks: Floats
    """Per tile (T, C + R, C + R, lanes): inverses of the pivots."""


def take_copy(state: State) -> State:
    """Return a state that can be changed without changing this one."""
    return State(*(column.copy() for column in state))


@njit(cache=True, error_model="numpy", nogil=True)
def iterate(data: Data, s: State, w: State, found: Found, factors: Factors, weights: Floats, count: int) -> None:
    """Do (1) ``count`` times."""
    for _ in range(count):
        share_rights(data, s, w, found, weights)
        for k in range(data.tiles.shape[0]):
            project(k, data, s, w, factors, weights)
            prox(k, data, s, w, found, weights)
        prox_exchange(data, s, w, found, weights)
        prox_net(data, s, w, found, weights)


@njit(cache=True, error_model="numpy", nogil=True)
def norms(data: Data, s: State, w: State, moved: State, weights: Floats) -> Floats:
    """Return squared norms, shape (2, 4), in the metric of the weights: flows first, then contents and rights.

    Columns: ``z - w`` (from ``moved``, which is s after one step with alpha 1), ``w``, ``z`` and ``s - w``.
    """
    out = np.zeros((2, 4))
    tiles, steps, _, lanes = data.given.shape
    for k in range(tiles):
        for t in range(steps):
            for q in range(3):
                rho = weights[RETAIL] if q == 0 else weights[METER] if q == 1 else weights[CURTAIL]
                _add(out[0], rho, s.agent[k, t, q], w.agent[k, t, q], moved.agent[k, t, q])
        for kind in range(2):
            width = data.tiles[k, kind] * lanes
            at = 3 * data.tiles[k, 2 + kind]
            for t in range(steps):
                for q in range(3):
                    group = 1 if q == 2 else 0
                    rho = weights[
                        (CONTENT if q == 2 else FLOW) if kind == 0 else (RENTED_CONTENT if q == 2 else RENTED_FLOW)
                    ]
                    here = slice(at + (3 * t + q) * width, at + (3 * t + q + 1) * width)
                    if kind == 0:
                        _add(out[group], rho, s.own[here], w.own[here], moved.own[here])
                    else:
                        _add(out[group], rho, s.rented[here], w.rented[here], moved.rented[here])
    for t in range(steps if data.trading else 0):
        here = slice(0, data.agents)
        _add(out[0], weights[EXCHANGE], s.exchange[t, here], w.exchange[t, here], moved.exchange[t, here])
    for j in range(data.active.shape[0]):
        for t in range(steps):
            if data.bound_net[j, t]:
                _add(out[0], weights[NET], s.net[j, t], w.net[j, t], moved.net[j, t])
        for q in range(2 if data.renting else 0):
            _add(out[1], weights[ENERGY + q], s.right[q, j], w.right[q, j], moved.right[q, j])
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _add(out: Floats, rho: float, s: Floats, w: Floats, moved: Floats) -> None:
    """Add one variable's part to a row of :func:`norms`."""
    for i in range(s.shape[0]):
        change = moved[i] - s[i]
        z = w[i] + change
        out[0] += rho * change * change
        out[1] += rho * w[i] * w[i]
        out[2] += rho * z * z
        out[3] += rho * (s[i] - w[i]) * (s[i] - w[i])
