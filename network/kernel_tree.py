"""A radial network as the kernels walk along it: in depth-first order, without what nobody asks for.

A bus without connections between two others is a place where nothing happens: two rungs in a row are one rung, and what
hangs on a bus without a connection behind it is already in the rungs' dividers.  With a the rung above and b below::

    down = down_b down_a,   up = up_a up_b,   local = local_b + down_b local_a up_b                     (1)

exactly.  Kept are the nodes that are asked for, the forks between them, and the source: 55 customers of the European LV
feeder leave about a tenth of its 907 buses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.kernel_shapes import LANES, PHASES, Tree
from network.rungs import Rungs

__all__ = ["Walk", "begins", "in_lanes", "parts", "table"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


def begins(points: int) -> Index:
    """Return the columns at which eight operating points begin; the last eight may overlap those before."""
    starts = np.arange(0, points, LANES)
    if len(starts):
        starts[-1] = max(points - LANES, 0)
    return starts


def in_lanes(given: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous table of eight columns at least: the last one is repeated."""
    points = given.shape[1]
    if 0 < points < LANES:
        given = np.concatenate([given, np.repeat(given[:, -1:], LANES - points, axis=1)], axis=1)
    return np.require(given, requirements=["C", "W"])


def table(rows: int, points: int, dtype: type = np.float64) -> NDArray[Any]:
    """Return a table to be written, of eight columns at least."""
    return np.empty((rows, max(points, LANES)), dtype=dtype)


class Walk:
    """The walks along a tree with currents at some nodes, seen at some.

    Parameters
    ----------
    rungs
        The network, of n buses and f phases.
    columns : shape (l,)
        Nodes at which currents are injected.
    rows : shape (r,)
        Nodes whose voltages are wanted.
    """

    def __init__(self, rungs: Rungs, columns: Index, rows: Index) -> None:
        f = self.f = rungs.f
        n = len(rungs.order)
        wanted = np.zeros(n, dtype=bool)
        wanted[columns // f] = wanted[rows // f] = True
        self.buses, above, (down, up, local) = _merged(rungs, wanted)
        place = np.full(n, -1, dtype=np.intp)
        place[self.buses] = np.arange(len(self.buses))
        self.place = place
        one = np.eye(f)
        plain = np.array([(down[k] == one).all() and (up[k] == one).all() for k in range(len(down))], dtype=bool)
        blocks = [part for block in (down, up, local) for part in parts(block)]
        self.row, self.seen = self.at(columns), self.at(rows)
        parent, loaded = place[above], np.zeros(len(self.buses) * f, dtype=bool)
        loaded[self.row] = True
        last = np.zeros(len(parent), dtype=bool)
        last[list({above: k for k, above in enumerate(parent) if k}.values())] = True
        leaf = ~np.isin(np.arange(len(parent)), parent[1:])
        self.tree = Tree._make([parent, plain, leaf, last, loaded, self.row, *blocks, *parts(rungs.w[self.buses[:1]])])

    def at(self, nodes: Index) -> Index:
        """Return the rows of some nodes in the walk's work arrays."""
        return np.asarray(self.place[nodes // self.f] * self.f + nodes % self.f)

    def answer(self, current: Complex, source: Vector | None = None) -> Complex:
        """Return the voltages that currents cause: shape (l, S) to shape (r, S).  A source adds its own. [p.u.]"""
        from network.kernel import answer

        points = current.shape[1]
        found = table(len(self.seen), points, np.complex128)
        fed = np.zeros(points) if source is None else source
        answer(
            *(PHASES[self.f], self.tree, self.seen, in_lanes(current).view(np.float64), in_lanes(fed[None])),
            *(found.view(np.float64), begins(points)),
        )
        return np.asarray(found[:, :points])


def parts(block: Complex) -> tuple[Vector, Vector]:
    """Return real and imaginary parts, flat and contiguous."""
    flat = np.asarray(block, dtype=np.complex128).reshape(-1)
    return np.ascontiguousarray(flat.real), np.ascontiguousarray(flat.imag)


def _merged(rungs: Rungs, wanted: Mask) -> tuple[Index, Index, list[Complex]]:
    """Return the buses kept, depth first, the bus kept above each (the source: itself), and the rungs of (1)."""
    order, parent = rungs.order, rungs.parent
    source = order[0]
    serves = wanted.astype(np.intp)  # itself, and the branches below it that lead to somebody
    for bus in order[:0:-1]:
        serves[parent[bus]] += serves[bus] > 0
    kept = wanted | (serves > 1)
    kept[source] = True
    nearest = np.full(len(order), source)
    down, up, local = rungs.down.copy(), rungs.up.copy(), rungs.local.copy()
    for bus in order[1:]:
        above = parent[bus]
        if serves[bus] and not kept[above]:
            local[bus] = local[bus] + down[bus] @ local[above] @ up[bus]
            down[bus], up[bus] = down[bus] @ down[above], up[above] @ up[bus]
            nearest[bus] = nearest[above]
        else:
            nearest[bus] = above
    buses = order[kept[order]]
    return buses, nearest[buses], [down[buses], up[buses], local[buses]]
