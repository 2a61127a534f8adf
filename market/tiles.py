"""The arrays of the exchange's iteration: what is given, what moves, what is found.

Agents are lanes: they are sorted by the number of their stores and cut into tiles of 16 (:mod:`market.vectors`).  Every array
that an iteration reads is a list of rows of 16 lanes, the rows of a tile side by side in the order in which they are read, so
that a tile is in the fast cache while it is worked on and comes from memory once.  What is given repeats itself, from one
interval to the next or from one tile to the next: a row is kept once, and an index says where.  A tile uses as many slots as
its largest agent needs, own stores first, then one for each shared store if anyone in the tile rents.
:mod:`market.layout` seats the agents, and nothing but it and the kernels knows about positions.

A flow whose bounds are both 0 is not a variable: its inverse weight is 0, and the iteration leaves it at 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Data", "Factors", "Found", "Index", "Room", "Rows", "State"]

Floats = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]
"""Shape (rows, 16), single or double precision."""
Index = NDArray[np.int32]
"""Where rows are among others."""

# Places in the vector of weights: of retail, exchange, meter, curtailment, the stores' flows and contents, a shared store's
# net, rights to energy and to power; then the curvature and the relaxation.
RETAIL, EXCHANGE, METER, CURTAIL, FLOW, CONTENT, NET, ENERGY, POWER, CURVATURE, RELAX = range(11)
# Places in Data.given
BASE, PV, BUY, SELL, IMPORT, EXPORT, WITHDRAW = range(7)
GIVEN = 7
# Places in Data.tiles: own stores, slots in all; then how many slots, own stores and pairs of slots are in earlier tiles
OWN, SLOTS, SLOT, OWNED, PAIR = range(5)


class Data(NamedTuple):
    """What does not change during a clearing.  ``k`` counts tiles, ``t`` intervals, ``a`` slots, ``j`` shared stores."""

    tiles: NDArray[np.int64]
    """Shape (tiles, 5)."""
    rows: Rows
    """What is given for every interval; the places of its rows are in ``given``, ``bounds`` and ``charge``."""
    given: Index
    """At (k T + t) 7 + q: load - pv, pv, prices and limits, the charge on withdrawals; prices times dt."""
    bounds: Index
    """Of own stores, at (owned T + t own + a) 4 + q: charge, discharge, least and largest content, the contents less those
    without any flow."""
    constants: Rows
    """Row (slot + a) 4 + q: e1 = dt eta_c, e2 = dt / eta_d, retention, wear times dt."""
    charge: Index
    """Exchange charge times dt, at k T + t."""
    here: Rows
    """1 where an agent sits, row k."""
    active: Rows
    """1 where space is or may be rented, else 0, row j tiles + k."""
    edge: Rows
    """First and last content, least energy and power that these need, row (q M + j) tiles + k."""
    rents: Rows
    """Reserve rents of energy and power, row (q M + j) tiles + k."""
    retention: Floats
    """Of the shared stores.  Shape (M,)."""
    offers: Floats
    """Energy and power.  Shape (2, M)."""
    net: Floats
    """Least and largest net.  Shape (2, M, T)."""
    available: Floats
    """Share of the right to power that may be used.  Shape (M, T)."""
    cap: Floats
    """Largest right to energy and to power that anyone may hold; infinite where only the sum counts.  Shape (2, M)."""
    bound_net: NDArray[np.bool_]
    """Whether the net's bounds say more than the rights do, or a netted box does.  Shape (M, T)."""
    netted: NDArray[np.bool_]
    """Whether a box keeps the net.  Shape (M,)."""
    box: NDArray[np.int64]
    """Which row describes the box.  Shape (M,)."""
    tenants: Floats
    """How many tenants a netted box has.  Shape (M,)."""
    box_bounds: Floats
    """Least and largest charge, discharge and content of the boxes, contents less those without any flow.  Shape (6, M, T)."""
    box_constants: Floats
    """e1, e2 and retention of the boxes.  Shape (3, M)."""
    penalty: float
    """Of a breach, times dt."""
    rounding: float
    """What is no difference, relative: some last digits of the rows' precision."""
    trading: bool
    """Whether the exchange is free."""
    renting: bool
    """Whether rights are free."""


class State(NamedTuple):
    """One number per variable: ``s``, the whole memory of the iteration, or ``w``."""

    agent: Rows
    """Row (k T + t) 3 + q: retail, meter, curtailment."""
    store: Rows
    """Row (slot T + t slots + a) 3 + q: charge, discharge, content."""
    exchange: Rows
    """Row k T + t."""
    net: Rows
    """Row (j T + t) tiles + k."""
    right: Rows
    """Energy, power, row (q M + j) tiles + k."""
    box: Rows
    """Charge, discharge, content and net of the boxes in lane 0, row (j T + t) 4 + q; none if no store is netted."""


class Found(NamedTuple):
    """What the couplings say, and where the next iteration begins to look for it."""

    price: Floats
    """Multiplier of sum x = 0: minus the price of the exchange, times dt.  Shape (T,)."""
    net_price: Floats
    """Multiplier of the net's bounds, times dt; positive where the upper one binds.  Shape (M, T)."""
    scarcity: Floats
    """Scarcity rents.  Shape (2, M)."""
    held: Rows
    """z of the rights: what each agent rents, row (q M + j) tiles + k."""


class Factors(NamedTuple):
    """The eliminated and factored matrix of the projection."""

    step: Rows
    """Row at[k T + t] + q: kappa, gamma."""
    at: Index
    """Where kappa of tile k and interval t is in ``step``, gamma behind it.  Shape (tiles T,)."""
    blocks: Rows
    """Inverses of the pivots, their lower half, row pair T + t pairs + a (a + 1) / 2 + b."""


class Room(NamedTuple):
    """Paper to reckon on, for one thread."""

    y: Rows
    """Row t slots + a, one interval more than there are."""
    hat: Rows
    """Row t (2 + M) + q: nu, mu and n_j as the s alone give them."""
    wish: Rows
    """Of rented spaces, row (t M + j) 6 + q: charge, discharge, content as wished; then as projected."""
    right: Rows
    """Row a: right-hand sides."""
    block: Floats
    """Pivots of the interval before and of this one, double precision, row a slots + b."""
    market: Rows
    """Row k T + t: wishes of the exchange."""
    sums: Floats
    """Sums of the exchange in interval t, double precision, row 3 t + q: what is off, who would move, and how much is wished."""
