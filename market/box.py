"""The box of a netted shared store in the exchange's iteration: one store whose net is the sum of its tenants' nets.

A box is a chain of its own beside the agents, with charge C, discharge D, content e and net N; its half of the projection is ::

    min rho_f/2 ((C - s_C)^2 + (D - s_D)^2) + rho_e/2 (e - s_e)^2 + rho_n/2 (N - s_N)^2
    N = C - D,   e[t] = kept e[t-1] + e1 C - e2 D                                                               (1)

Everything but the multipliers y of the chain is eliminated by hand, as in :mod:`market.project`; they solve a tridiagonal
system over time.  Then C, D and e are clipped, and N meets the tenants' nets in ``sum n = N``: of the difference all give way
alike.  A box moves what its tenants move together, so it weighs as much as one of them, over their number.

Boxes are few: scalars, lane 0 of the rows, and double precision.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT_PART
from market.tiles import CONTENT, FLOW, NET, RELAX, Data, Found, State
from market.vectors import load, nothing, store, sum_up, widen

__all__ = ["move_boxes", "prox_boxes"]

Floats = NDArray[np.float64]


@njit(**EXACT_PART)
def move_boxes(data: Data, s: State, w: State, weights: Floats) -> None:
    """Project every box by (1), and clip its flows and contents; its net waits for :func:`prox_boxes`."""
    shared, steps = data.bound_net.shape
    alpha, rho_n = weights[RELAX], 0.0
    diagonal, y = np.empty(steps), np.empty(steps + 1)
    for b in range(shared):
        if not data.netted[b] or data.box[b] != b or data.tenants[b] == 0.0:
            continue
        i_flow, i_content = data.tenants[b] / weights[FLOW], data.tenants[b] / weights[CONTENT]
        rho_n = weights[NET] / data.tenants[b]
        e1, e2, kept = data.box_constants[0, b], data.box_constants[1, b], data.box_constants[2, b]
        back = kept * i_content
        for t in range(steps):
            row = (b * steps + t) * 4
            c, d, e, net = s.box[row, 0], s.box[row + 1, 0], s.box[row + 2, 0], s.box[row + 3, 0]
            into = i_flow if data.box_bounds[1, b, t] > 0.0 else 0.0
            out = i_flow if data.box_bounds[3, b, t] > 0.0 else 0.0
            reach = 1.0 / (1.0 + (into + out) * rho_n)
            k1, k2 = into * e1 + out * e2, into * e1 * e1 + out * e2 * e2
            alone = reach * (c - d + (into + out) * rho_n * net)
            right = e - e1 * c + e2 * d + k1 * rho_n * (alone - net)
            diagonal[t] = i_content + k2 - rho_n * reach * k1 * k1
            if t > 0:
                before = s.box[row - 2, 0]
                diagonal[t] += kept * back - back * back / diagonal[t - 1]
                right += back * y[t - 1] / diagonal[t - 1] - kept * before
            y[t] = right
        y[steps] = 0.0
        for t in range(steps - 1, -1, -1):
            y[t] = (y[t] + back * y[t + 1]) / diagonal[t]
        for t in range(steps):
            row = (b * steps + t) * 4
            c, d, e, net = s.box[row, 0], s.box[row + 1, 0], s.box[row + 2, 0], s.box[row + 3, 0]
            into = i_flow if data.box_bounds[1, b, t] > 0.0 else 0.0
            out = i_flow if data.box_bounds[3, b, t] > 0.0 else 0.0
            reach, k1 = 1.0 / (1.0 + (into + out) * rho_n), into * e1 + out * e2
            both = reach * (c - d + (into + out) * rho_n * net + k1 * y[t])
            price = rho_n * (both - net)
            w.box[row, 0] = c + into * (e1 * y[t] - price)
            w.box[row + 1, 0] = d + out * (price - e2 * y[t])
            w.box[row + 2, 0] = e - i_content * (y[t] - kept * y[t + 1])
            w.box[row + 3, 0] = both
            for q in range(3):
                now, before = w.box[row + q, 0], s.box[row + q, 0]
                z = min(max(2.0 * now - before, data.box_bounds[2 * q, b, t]), data.box_bounds[2 * q + 1, b, t])
                s.box[row + q, 0] = before + alpha * (z - now)


@njit(**EXACT_PART)
def prox_boxes(data: Data, s: State, w: State, found: Found, weights: Floats, start: int, stop: int) -> None:
    """Let the tenants' nets meet their box's in some intervals: sum n = N."""
    tiles = data.tiles.shape[0]
    shared, steps = data.bound_net.shape
    alpha = weights[RELAX]
    for b in range(shared):
        if not data.netted[b] or data.box[b] != b or data.tenants[b] == 0.0:
            continue
        for t in range(start, stop):
            total, many = widen(nothing(s.net)), widen(nothing(s.net))
            for j in range(b, shared):
                if data.box[j] == b and data.bound_net[j, t]:
                    row = (j * steps + t) * tiles
                    for k in range(tiles):
                        active = widen(load(data.active, j * tiles + k))
                        total += (2.0 * widen(load(w.net, row + k)) - widen(load(s.net, row + k))) * active
                        many += active
            at = (b * steps + t) * 4 + 3
            now, before = w.box[at, 0], s.box[at, 0]
            wish = 2.0 * now - before
            shift = (sum_up(total) - wish) / (sum_up(many) + data.tenants[b])
            s.box[at, 0] = before + alpha * (wish + data.tenants[b] * shift - now)
            for j in range(b, shared):
                if data.box[j] == b:
                    found.net_price[j, t] = weights[NET] * shift
                    row = (j * steps + t) * tiles
                    for k in range(tiles if data.bound_net[j, t] else 0):
                        here, was = load(w.net, row + k), load(s.net, row + k)
                        store(s.net, row + k, was + alpha * (here - was - shift) * load(data.active, j * tiles + k))
