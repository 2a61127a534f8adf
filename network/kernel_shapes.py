"""What the kernels of the power flow read and write: plain tuples of arrays.

The kernels themselves (:mod:`network.kernel`) are imported by those who call them, when they do: the compiler takes a
second to load, which who only reads a feeder need not wait for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LANES", "PHASES", "Branches", "Columns", "Injected", "Phases", "Tree"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]
Phases = tuple[int, ...]

LANES = 8
"""Operating points at once."""

PHASES: dict[int, Phases] = {1: (0,), 3: (0, 1, 2)}
"""The phases of a kernel: how many there are is known when it is compiled."""


class Tree(NamedTuple):
    """n buses in depth-first order with their rungs; blocks are flat, f · f numbers a bus."""

    parent: Index
    """Place of the bus above; of the source: itself."""
    plain: Mask
    """down = up = 1."""
    leaf: Mask
    """Nothing is below it."""
    last: Mask
    """The last of those below its parent."""
    loaded: Mask
    """Nodes with connections.  Shape (n f,)."""
    row: Index
    """The nodes with connections.  Shape (l,)."""
    down_re: Vector
    down_im: Vector
    up_re: Vector
    up_im: Vector
    local_re: Vector
    local_im: Vector
    w_re: Vector
    """At the source.  Shape (f,)."""
    w_im: Vector


class Injected(NamedTuple):
    """What S operating points inject: row ``owner`` times ``share`` is added at the ``at``-th node with connections."""

    at: Index
    owner: Index
    share: Vector
    active: Vector
    """Shape (k, S)."""
    reactive: Vector
    source: Vector
    """Shape (1, S)."""


class Branches(NamedTuple):
    """The branch above each bus: its rows in the answer, its admittances to earth, its ratings (by row of the answer)."""

    row: Index
    """−1: not asked for.  Shape (n f,)."""
    downwards: Mask
    """Its from end is above."""
    shunt: Mask
    """below or above is not 0."""
    trafo: Mask
    below_re: Vector
    below_im: Vector
    above_re: Vector
    above_im: Vector
    kva: float
    """Of 1 pu."""
    base_from_a: Vector
    from_percent: Vector
    to_percent: Vector


class Columns(NamedTuple):
    """What is asked for, to be written."""

    v_pu: Vector
    p_kw: Vector
    q_kvar: Vector
    current_a: Vector
    loading_percent: Vector
    loss_kw: Vector
    grid: Vector
    """Active and reactive power of the source.  Shape (2, S)."""
