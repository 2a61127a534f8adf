"""Half an iteration: s of what concerns one agent and one interval alone, moved by closed forms.

With ``w`` from the projection (:mod:`market.project`) and the wish ``y = 2 w - s``, ``z`` is the best answer to the wish and
``s`` moves by ``alpha (z - w)``::

    retail g           three pieces: y - buy/rho above 0, y - sell/rho below, else 0
    meter m            the envelope, softened: outside of it y is pulled back by at most penalty/rho
    curtailment,       clip, after the wear and the curvature
    own stores

Every function is a part of :func:`market.project.backward` and compiled into it; ``at`` is a row of s, ``given`` the first place
of an interval in :class:`market.tiles.Data`, and ``keep`` tells whether w is wanted too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT_PART
from market.tiles import BUY, CURVATURE, EXPORT, FLOW, IMPORT, PV, RELAX, SELL, Data, Rows
from market.vectors import choose, greatest, load, smallest, store

__all__ = ["move_curtailment", "move_meter", "move_own", "move_retail"]

Floats = NDArray[np.float64]


@njit(inline="always", **EXACT_PART)
def move_retail(
    data: Data, given: int, s: Rows, w: Rows, at: int, nu: Any, i_retail: float, alpha: float, keep: bool
) -> None:
    """Move s of the exchange with the retailer, at the multiplier ``nu`` of the balance."""
    before = load(s, at)
    here = before + i_retail * nu
    y = here + i_retail * nu
    z = greatest(y - load(data.rows, data.given[given + BUY]) * i_retail, 0.0)
    z = z + smallest(y - load(data.rows, data.given[given + SELL]) * i_retail, 0.0)
    store(s, at, before + alpha * (z - here))
    if keep:
        store(w, at, here)


@njit(inline="always", **EXACT_PART)
def move_curtailment(
    data: Data, given: int, s: Rows, w: Rows, at: int, price: Any, i_curtail: float, alpha: float, keep: bool
) -> Any:
    """Move s of what is curtailed, at the multiplier ``price`` of the meter; return its w."""
    before, pv = load(s, at), load(data.rows, data.given[given + PV])
    here = before - choose(pv, 0.0, i_curtail, 0.0) * price
    z = smallest(greatest(2.0 * here - before, 0.0), pv)
    store(s, at, before + alpha * (z - here))
    if keep:
        store(w, at, here)
    return here


@njit(inline="always", **EXACT_PART)
def move_own(
    data: Data, constant: int, limit: int, s: Rows, at: int, y: Any, price: Any, here_e: Any, i_flow: float, weights: Floats
) -> Any:  # fmt: skip
    """Move s of one own store in one interval, in rows ``at`` and the two behind it; return w of its charge and discharge."""
    alpha, rho, stiff = weights[RELAX], weights[FLOW], 1.0 / (weights[FLOW] + weights[CURVATURE])
    e1, e2 = load(data.constants, constant), load(data.constants, constant + 1)
    wear = load(data.constants, constant + 3)
    c, d, e = load(s, at), load(s, at + 1), load(s, at + 2)
    c_max, d_max = load(data.rows, data.bounds[limit]), load(data.rows, data.bounds[limit + 1])
    here_c = c - choose(c_max, 0.0, i_flow, 0.0) * (price - e1 * y)
    here_d = d + choose(d_max, 0.0, i_flow, 0.0) * (price - e2 * y)
    z = smallest(greatest((rho * (2.0 * here_c - c) - wear) * stiff, 0.0), c_max)
    store(s, at, c + alpha * (z - here_c))
    z = smallest(greatest((rho * (2.0 * here_d - d) - wear) * stiff, 0.0), d_max)
    store(s, at + 1, d + alpha * (z - here_d))
    z = greatest(2.0 * here_e - e, load(data.rows, data.bounds[limit + 2]))
    z = smallest(z, load(data.rows, data.bounds[limit + 3]))
    store(s, at + 2, e + alpha * (z - here_e))
    return here_c, here_d


@njit(inline="always", **EXACT_PART)
def move_meter(
    data: Data, given: int, s: Rows, w: Rows, at: int, meter: Any, pull: float, alpha: float, keep: bool
) -> None:
    """Move s of a meter whose w is known; ``pull`` is the penalty over the meter's weight."""
    before = load(s, at)
    y, least = 2.0 * meter - before, load(data.rows, data.given[given + EXPORT])
    z = greatest(load(data.rows, data.given[given + IMPORT]), y - pull)
    z = greatest(smallest(y, z), smallest(-1.0 * least, y + pull))
    store(s, at, before + alpha * (z - meter))
    if keep:
        store(w, at, meter)
