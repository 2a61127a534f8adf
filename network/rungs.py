"""The rungs of a radial network: what the branch above each bus does to voltages, currents and admittances.

With f = 1 phase or 3, every rung is a set of f × f blocks in per unit, and a node is a bus and a phase, numbered
f · bus + phase::

    V = down V[above] + local J,   J[above] gets up J,                                                  (1)
    current into the branch: at the bus J − below V, at the bus above it above V[above] − up J          (2)

with J what is injected at the bus and arrives from behind it.  :mod:`network.ladder` makes them for one phase,
:mod:`network.threephase` for three, :mod:`network.kernel_tree` walks along them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rungs"]

Complex = NDArray[np.complex128]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Rungs:
    """One rung for each of n buses; the source has ``local`` of its own impedance, ``down`` and ``up`` of 1."""

    order: Index
    """The buses depth first: those behind a bus follow it in one piece; the source is the first.  Shape (n,)."""

    parent: Index
    """The bus above each bus, −1 at the source.  Shape (n,)."""

    w: Complex
    """Voltages without injections, for a source of 1 pu.  Shape (n, f). [p.u.]"""

    down: Complex
    """Shape (n, f, f)."""

    up: Complex
    """Shape (n, f, f)."""

    local: Complex
    """Shape (n, f, f). [p.u.]"""

    below: Complex
    """Admittance to earth of all that hangs on a bus.  Shape (n, f, f). [p.u.]"""

    above: Complex
    """Admittance to earth that the branch above a bus is, with all behind it, seen from the bus above.
    Shape (n, f, f). [p.u.]"""

    @property
    def f(self) -> int:
        """Phases that are told apart: 1 or 3."""
        return int(self.w.shape[1])
