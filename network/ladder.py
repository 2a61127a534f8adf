"""What a radial network answers to injected currents: V = w v_source + Z I.

With no injection a radial network is a chain of voltage dividers, a ladder.  Each branch is a rung: the voltage below it
is ``down`` times the one above, plus ``local`` times the current that is injected below; a current injected below
arrives above multiplied by ``up``.  So two walks along the tree give the voltages of any injections, and, with G, H the
products of down and up along the path from the source::

    V = w v_source + Z I,   w = w_source G,   Z[i, j] = G[i] · Σ (local / (G H))[b] · H[j]              (1)
                                              b common to the paths of i and j (the source included)

For lines without capacitance down = up = 1, w = 1 and Z is the common-path impedance of DistFlow.  Every number in (1)
is a sum or product of parts of the network: nothing is inverted and nothing cancels, however stiff a branch is.

Z is never needed as a matrix to multiply by it: :mod:`network.kernel` walks.  A rung with three phases is a block of
3 × 3 (:mod:`network.threephase`); everything about walking is the same, so :class:`Rungs` is both.

The source is a voltage behind an impedance of 1 / (short-circuit power); from 1e16 VA on, of none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Feeder
from network.kernel_tree import Walk
from network.rungs import Rungs
from network.twoport import BASE_KVA, TwoPorts, shunts_pu

__all__ = ["Answer", "Ladder", "ladder"]

Complex = NDArray[np.complex128]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """The factors of equation (1) for a feeder of n buses."""

    rungs: Rungs

    down: Complex
    """G.  Shape (n,)."""

    up: Complex
    """H.  Shape (n,)."""

    @property
    def w(self) -> Complex:
        """Voltages without injections, for a source of 1 pu.  Shape (n,). [p.u.]"""
        return self.rungs.w[:, 0]

    def matrix(self, columns: Index) -> Complex:
        """Return Z for injections at some buses: shape (l,) to shape (n, l). [p.u.]"""
        rungs = self.rungs
        n = len(rungs.order)
        place = np.empty(n, dtype=np.intp)
        place[rungs.order] = np.arange(n)
        above = place[rungs.parent[rungs.order]]
        size = np.ones(n, dtype=np.intp)
        common = (rungs.local[:, 0, 0] / (self.down * self.up))[rungs.order]
        for k in range(1, n):
            common[k] += common[above[k]]
        for k in range(n - 1, 0, -1):
            size[above[k]] += size[k]
        by_place = np.argsort(place[columns], kind="stable")
        places = place[columns][by_place]
        first, last = np.searchsorted(places, np.arange(n)), np.searchsorted(places, np.arange(n) + size)
        shared = np.empty((n, len(columns)), dtype=np.complex128)
        shared[0] = common[0]
        for k in range(
            1, n
        ):  # what lies behind a bus shares its whole path, the others what they share with its parent
            shared[k] = shared[above[k]]
            shared[k, first[k] : last[k]] = common[k]
        z = np.empty_like(shared)
        z[np.ix_(rungs.order, by_place)] = shared
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
        self._walk = Walk(found.rungs, columns, rows)

    def to(self, current: Complex) -> Complex:
        """Return the voltages that currents cause: shape (l, S) to shape (r, S). [p.u.]"""
        return self._walk.answer(current)


def ladder(feeder: Feeder, ports: TwoPorts) -> Ladder:
    """Return the factors of equation (1)."""
    order, parent, branch = feeder.order, feeder.parent, feeder.parent_branch
    below = shunts_pu(feeder)[:, 0, 0]  # admittance to ground of all that hangs on a bus
    down = np.ones(feeder.n_bus, dtype=np.complex128)  # g
    up = np.ones(feeder.n_bus, dtype=np.complex128)  # h
    local = np.zeros(feeder.n_bus, dtype=np.complex128)
    above = np.zeros(feeder.n_bus, dtype=np.complex128)  # admittance that the branch above each bus is, seen from above
    at_to_end = feeder.branches.to_bus[branch] == np.arange(feeder.n_bus) if feeder.n_branch else branch < 0
    for bus in order[:0:-1]:
        y, half, k = ports.series[branch[bus]], ports.shunt[branch[bus]] / 2, ports.ratio[branch[bus]]
        square = abs(k) ** 2
        load = below[bus] + half if at_to_end[bus] else below[bus] * square + half  # seen on the to side of the ratio
        divider = y / (y + load)
        through = half + load * divider
        if at_to_end[bus]:
            down[bus], up[bus], local[bus] = divider / k, divider / k.conjugate(), 1.0 / (y + load)
            above[bus] = through / square
        else:
            down[bus], up[bus], local[bus] = divider * k, divider * k.conjugate(), square / (y + load)
            above[bus] = through
        below[parent[bus]] += above[bus]
    source = feeder.source_bus
    ideal = feeder.source_short_circuit_va >= IDEAL_SOURCE_VA  # exactly: else 10 MW would lift it by 1e-9
    z_source = 0.0 if ideal else BASE_KVA * 1e3 / feeder.source_short_circuit_va
    z_source = z_source * (feeder.source_rx_ratio + 1j) / np.hypot(feeder.source_rx_ratio, 1.0)
    w_source = 1.0 / (1.0 + z_source * below[source])
    local[source] = z_source * w_source

    gain, arrival = down.copy(), up.copy()
    for bus in order[1:]:
        gain[bus] *= gain[parent[bus]]
        arrival[bus] *= arrival[parent[bus]]
    blocks = (part.reshape(-1, 1, 1) for part in (down, up, local, below, above))
    return Ladder(Rungs(order, parent, (w_source * gain).reshape(-1, 1), *blocks), gain, arrival)
