"""The iteration of the exchange, compiled: a projection on the linear equations, then closed forms.

Douglas-Rachford splitting (ADMM with relaxation alpha) on ``minimise A(v) + B(v)`` with one number ``s`` per variable::

    w = prox_A(s),   z = prox_B(2 w - s),   s += alpha (z - w)                                                  (1)

A, in :mod:`market.project`
    all linear equations of one agent: its balance, its meter, its stores' contents; and the sums of the rights.
B, in :mod:`market.prox`
    everything else, one closed form per variable: retail prices, envelope, curtailment, bounds, rents, the exchange
    (sum x = 0 and its charge) and the net of the shared stores.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.project import backward, forward, share_rights
from market.prox import prox_agents, prox_exchange, prox_net, prox_rights, prox_stores
from market.tiles import OWN, SLOTS, Data, Factors, Found, State

__all__ = ["iterate", "squares"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def iterate(
    data: Data, s: State, w: State, found: Found, factors: Factors, weights: Floats, count: int, first: int, last: int,
    before: bool, after: bool,
) -> None:  # fmt: skip
    """Do (1) ``count`` times for the tiles ``first`` to ``last``, with what concerns all of them before and after."""
    steps, lanes = data.given.shape[1], data.given.shape[3]
    for _ in range(count):
        if before:
            share_rights(data, s, w, found, weights)
        for k in range(first, last):
            y = np.empty((steps + 1, data.tiles[k, SLOTS], lanes))
            hat = np.empty((steps, 2 + data.tiles[k, SLOTS] - data.tiles[k, OWN], lanes))
            forward(k, data, s, factors, weights, y, hat)
            backward(k, data, s, w, factors, weights, y, hat)
            prox_agents(k, data, s, w, weights)
            prox_stores(k, data, s, w, weights)
            if data.renting:
                prox_rights(k, data, s, w, found, weights)
        if after:
            prox_exchange(data, s, w, found, weights)
            prox_net(data, s, w, found, weights)


@njit(**EXACT)
def squares(rho: Floats, s: Floats, w: Floats, moved: Floats, out: Floats) -> None:
    """Add squared norms in the metric of ``rho`` to ``out``: of ``z - w``, ``w``, ``z`` and ``s - w``.

    ``moved`` is s after one step of (1) with alpha 1, which is ``s + z - w``.
    """
    for i in range(s.size):
        change = moved[i] - s[i]
        z = w[i] + change
        out[0] += rho[i] * change * change
        out[1] += rho[i] * w[i] * w[i]
        out[2] += rho[i] * z * z
        out[3] += rho[i] * (s[i] - w[i]) * (s[i] - w[i])
