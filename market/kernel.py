"""The iteration of the exchange, compiled: a projection on the linear equations, then closed forms.

Douglas-Rachford splitting (ADMM with relaxation alpha) on ``minimise A(v) + B(v)`` with one number ``s`` per variable::

    w = prox_A(s),   z = prox_B(2 w - s),   s += alpha (z - w)                                                  (1)

A, in :mod:`market.project`
    all linear equations of one agent: its balance, its meter, its stores' contents; and the sums of the rights.  Those of
    netted boxes are in :mod:`market.box`.
B, there in passing and in :mod:`market.prox`
    everything else, one closed form per variable: retail prices, envelope, curtailment, bounds, rents, the exchange
    (sum x = 0 and its charge) and the net of the shared stores.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.box import move_boxes, prox_boxes
from market.compiled import EXACT
from market.project import backward, forward, share_rights
from market.prox import prox_exchange, prox_net, prox_spaces
from market.tiles import OWN, SLOTS, Data, Factors, Found, Room, Rows, State
from market.vectors import load, nothing, store, sum_up, widen

__all__ = ["blend", "iterate", "squares"]

Floats = NDArray[np.float64]


@njit(**EXACT)
def iterate(
    data: Data, s: State, w: State, found: Found, factors: Factors, weights: Floats, room: Room, count: int,
    rights: bool, first: int, last: int, start: int, stop: int, keep: bool,
) -> None:  # fmt: skip
    """Do (1) ``count`` times: the rights' sums and the boxes, the tiles ``first`` to ``last``, the couplings of intervals ``start`` to ``stop``.

    These parts follow upon each other; the tiles of one part and the intervals of another may be done at the same time.  Of
    w, only what couples is written, unless ``keep``.
    """
    for turn in range(count):
        if rights:
            share_rights(data, s, w, found, weights)
            move_boxes(data, s, w, weights)
        for place in range(first, last):
            k = place if turn % 2 == 0 else first + last - 1 - place  # back and forth: the last are still in the cache
            forward(k, data, s, factors, weights, room)
            backward(k, data, s, w, factors, weights, room, keep)
            if data.tiles[k, SLOTS] > data.tiles[k, OWN]:
                prox_spaces(k, data, s, w, found, weights, room)
        if stop > start:
            prox_exchange(data, s, w, found, weights, room, start, stop)
            prox_net(data, s, w, found, weights, start, stop)
            prox_boxes(data, s, w, found, weights, start, stop)


@njit(**EXACT)
def blend(one: Rows, other: Rows, share: float) -> None:
    """Move ``one`` a share of the way to ``other``."""
    for row in range(one.shape[0]):
        here = load(one, row)
        store(one, row, here + share * (load(other, row) - here))


@njit(**EXACT)
def squares(s: Rows, w: Rows, moved: Rows, rho: Floats, repeat: int, out: Floats) -> None:
    """Add squared norms in the metric of ``rho`` to ``out``: of ``z - w``, ``w``, ``z`` and ``s - w``.

    ``moved`` is s after one step of (1) with alpha 1, which is ``s + z - w``.  Row r weighs ``rho[r // repeat]``, counted round.
    """
    for which in range(rho.size):
        weight, rows = rho[which], s.shape[0]
        if weight > 0.0:
            change, w_size = widen(nothing(s)), widen(nothing(s))
            z_size, dual = widen(nothing(s)), widen(nothing(s))
            for group in range(which * repeat, rows, rho.size * repeat):
                for row in range(group, group + repeat):
                    before, here = widen(load(s, row)), widen(load(w, row))
                    step, price = widen(load(moved, row)) - before, before - here
                    change += step * step
                    w_size += here * here
                    z_size += (here + step) * (here + step)
                    dual += price * price
            out[0] += weight * sum_up(change)
            out[1] += weight * sum_up(w_size)
            out[2] += weight * sum_up(z_size)
            out[3] += weight * sum_up(dual)
