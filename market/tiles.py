"""The arrays of the exchange's iteration: what is given, what moves, what is found.

Agents are lanes: they are sorted by the number of their stores and cut into tiles of about 40, with the lane as the
innermost, contiguous axis, so that every inner loop is a vector instruction.  A tile uses as many slots as its largest
agent needs, own stores first, then one for each shared store if anyone in the tile rents; the arrays have room for the
largest tile's.  :mod:`market.layout` seats the agents, and nothing but it and the kernels knows about positions.

A flow whose bounds are both 0 is not a variable: its inverse weight is 0, and the iteration leaves it at 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Data", "Factors", "Found", "State", "take_copy"]

Floats = NDArray[np.float64]

# Places in the vector of weights: of retail, exchange, meter, curtailment, the stores' flows and contents, a shared store's
# net, rights to energy and to power; then the curvature and the relaxation.
RETAIL, EXCHANGE, METER, CURTAIL, FLOW, CONTENT, NET, ENERGY, POWER, CURVATURE, RELAX = range(11)
# Places in Data.given
BASE, PV, BUY, SELL, IMPORT, EXPORT, WITHDRAW = range(7)
# Places in Data.tiles: own stores, slots in all
OWN, SLOTS = range(2)


class Data(NamedTuple):
    """What does not change during a clearing; ``P`` positions = tiles x lanes, of which the first ``agents`` are real."""

    tiles: NDArray[np.int64]
    """Shape (tiles, 2)."""
    given: Floats
    """Shape (tiles, T, 7, lanes): load - pv, pv, prices and limits, the charge on withdrawals; prices times dt."""
    bounds: Floats
    """Shape (tiles, T, 4, slots, lanes): charge, discharge, least and largest content; contents less those without any flow.
    Of spaces whose rights are free, only whether the flows' bounds are 0 counts."""
    constants: Floats
    """Shape (tiles, 4, slots, lanes): e1 = dt eta_c, e2 = dt / eta_d, retention, wear times dt."""
    retention: Floats
    """Of the shared stores.  Shape (M,)."""
    active: Floats
    """1 where space is or may be rented, else 0.  Shape (M, P)."""
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
    store: Floats
    """Shape (tiles, T, 3, slots, lanes): charge, discharge, content."""
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
    """The eliminated and factored matrix of the projection."""

    step: Floats
    """Shape (tiles, T, 3, lanes): kappa, gamma, gamma rho_meter."""
    blocks: Floats
    """Shape (tiles, T, slots, slots, lanes): inverses of the pivots."""


def take_copy(state: State) -> State:
    """Return a state that can be changed without changing this one."""
    return State(*(column.copy() for column in state))
