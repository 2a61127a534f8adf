"""What a radial network answers to injected currents: V = w v_source + Z I.

With no injection a radial network is a chain of voltage dividers, a ladder: the voltage below a branch is g times the
one above, and a current injected below arrives above multiplied by h.  So, with z the impedance at the lower bus when
the upper one is held, and G, H the products of g, h along the path from the source::

    V = w v_source + Z I,   w = w_source G,   Z[i, j] = G[i] · Σ (z / (G H))[b] · H[j]                  (1)
                                              b common to the paths of i and j (the source included)

For lines without capacitance g = h = 1, w = 1 and Z is the common-path impedance of DistFlow.  Every number in (1) is
a sum or product of parts of the network: nothing is inverted and nothing cancels, however stiff a branch is.

Z is never needed as a matrix to multiply by it.  Add the currents H I up towards the source, multiply by z / (G H), add
these voltages up away from it, multiply by G: two additions a bus instead of one multiplication for every pair of
buses.  For a few operating points the matrix is quicker all the same, because it is one call.

The source is a voltage behind an impedance of 1 / (short-circuit power); from 1e16 VA on, of none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Feeder
from network.twoport import BASE_KVA, TwoPorts

__all__ = ["Answer", "Ladder", "ladder"]

Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

_CALL = 1000
"""A call of NumPy costs as much as so many complex multiplications of a matrix product."""

_MOST_IN_ONE_CALL = 200_000
"""Larger products are given to several threads by some libraries, which on a busy machine is many times slower."""


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """The factors of equation (1) for a feeder of n buses."""

    w: Complex
    """Voltages without injections, for a source of 1 pu.  Shape (n,). [p.u.]"""

    down: Complex
    """G.  Shape (n,)."""

    up: Complex
    """H.  Shape (n,)."""

    step: Complex
    """z / (G H).  Shape (n,). [p.u.]"""

    order: Index
    """The buses depth first: those behind a bus follow it in one piece.  Shape (n,)."""

    place: Index
    """Where each bus stands in that order.  Shape (n,)."""

    parent_place: tuple[int, ...]
    """Where the bus above the k-th one stands; −1 for the source, which is the first."""

    def matrix(self, columns: Index) -> Complex:
        """Return Z for injections at some buses: shape (l,) to shape (n, l). [p.u.]"""
        n = len(self.order)
        size = np.ones(n, dtype=np.intp)
        common = self.step[self.order]
        for k in range(1, n):
            common[k] += common[self.parent_place[k]]
        for k in range(n - 1, 0, -1):
            size[self.parent_place[k]] += size[k]
        by_place = np.argsort(self.place[columns], kind="stable")
        places = self.place[columns][by_place]
        first, last = np.searchsorted(places, np.arange(n)), np.searchsorted(places, np.arange(n) + size)
        shared = np.empty((n, len(columns)), dtype=np.complex128)
        shared[0] = common[0]
        for k in range(
            1, n
        ):  # what lies behind a bus shares its whole path, the others what they share with its parent
            shared[k] = shared[self.parent_place[k]]
            shared[k, first[k] : last[k]] = common[k]
        z = np.empty_like(shared)
        z[np.ix_(self.order, by_place)] = shared
        z *= self.down[:, None]
        z *= self.up[columns]
        return z


class Answer:
    """Z of (1) for injections at some buses, seen at some buses.

    Parameters
    ----------
    found
        The ladder of the feeder.
    columns : shape (l,)
        Buses at which currents are injected.
    rows : shape (r,)
        Buses whose voltages are wanted.
    """

    def __init__(self, found: Ladder, columns: Index, rows: Index) -> None:
        self.matrix = np.ascontiguousarray(found.matrix(columns)[rows])
        self._found = found
        self._columns, self._rows = found.place[columns], found.place[rows]
        self._up, self._down = found.up[columns, None], found.down[rows, None]
        self._step = found.step[found.order, None]
        n, pair = len(found.order), max(len(columns) * len(rows), 1)
        self._few = min(_CALL * 2 * n, _MOST_IN_ONE_CALL) // pair

    def to(self, current: Complex) -> Complex:
        """Return the voltages that currents cause: shape (l, S) to shape (r, S). [p.u.]"""
        points = current.shape[1]
        if points <= max(self._few, 1):
            return np.asarray(self.matrix @ current)
        parent_place = self._found.parent_place
        flow = np.zeros((len(parent_place), points), dtype=np.complex128)
        flow[self._columns] = self._up * current
        buses, add = list(flow), np.add
        pairs = [(buses[above], buses[k]) for k, above in enumerate(parent_place) if k]
        for above, bus in reversed(pairs):
            add(above, bus, above)
        flow *= self._step  # from here on the voltages
        for above, bus in pairs:
            add(bus, above, bus)
        voltage: Complex = flow[self._rows]
        voltage *= self._down
        return voltage


def ladder(feeder: Feeder, ports: TwoPorts) -> Ladder:
    """Return the factors of equation (1)."""
    order, parent, branch = feeder.order, feeder.parent, feeder.parent_branch
    below = np.zeros(feeder.n_bus, dtype=np.complex128)  # admittance to ground of all that hangs on a bus
    down = np.ones(feeder.n_bus, dtype=np.complex128)  # g
    up = np.ones(feeder.n_bus, dtype=np.complex128)  # h
    local = np.zeros(feeder.n_bus, dtype=np.complex128)  # z
    at_to_end = feeder.branches.to_bus[branch] == np.arange(feeder.n_bus) if feeder.n_branch else branch < 0
    for bus in order[:0:-1]:
        y, half, k = ports.series[branch[bus]], ports.shunt[branch[bus]] / 2, ports.ratio[branch[bus]]
        square = abs(k) ** 2
        load = below[bus] + half if at_to_end[bus] else below[bus] * square + half  # seen on the to side of the ratio
        divider = y / (y + load)
        through = half + load * divider
        if at_to_end[bus]:
            down[bus], up[bus], local[bus] = divider / k, divider / k.conjugate(), 1.0 / (y + load)
            below[parent[bus]] += through / square
        else:
            down[bus], up[bus], local[bus] = divider * k, divider * k.conjugate(), square / (y + load)
            below[parent[bus]] += through
    source = feeder.source_bus
    ideal = feeder.source_short_circuit_va >= IDEAL_SOURCE_VA  # exactly: else 10 MW would lift it by 1e-9
    z_source = 0.0 if ideal else BASE_KVA * 1e3 / feeder.source_short_circuit_va
    z_source = z_source * (feeder.source_rx_ratio + 1j) / np.hypot(feeder.source_rx_ratio, 1.0)
    w_source = 1.0 / (1.0 + z_source * below[source])
    local[source] = z_source * w_source

    for bus in order[1:]:
        down[bus] *= down[parent[bus]]
        up[bus] *= up[parent[bus]]
    place = np.empty(feeder.n_bus, dtype=np.intp)
    place[order] = np.arange(feeder.n_bus)
    parent_place = tuple(int(place[parent[bus]]) if parent[bus] >= 0 else -1 for bus in order)
    return Ladder(w_source * down, down, up, local / (down * up), order, place, parent_place)
