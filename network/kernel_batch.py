"""Batches of operating points through the kernels: tables in, tables out.

:class:`Batch` holds what :mod:`network.kernel` asks for, made once for a feeder and the nodes at which something is
connected: the tree of these nodes for the fixed point, the whole tree for everything else, and of every branch which row
of the answer it is, what its two ends are rated at, and which of them is above.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from network.feeder import Feeder
from network.kernel_shapes import PHASES, Branches, Columns, Injected
from network.kernel_tree import Walk, begins, in_lanes, parts, table
from network.rungs import Rungs
from network.twoport import Ends

__all__ = ["Batch", "injected"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

_MOST_STEPS = 200


def injected(active: Vector, reactive: Vector, source: Vector, at: Index, owner: Index, share: Vector) -> Injected:
    """Return S injections (k, S) and source voltages (S,) as the kernels want them: eight columns at least."""
    return Injected(at, owner, share, in_lanes(active), in_lanes(reactive), in_lanes(source[None]))


class Batch:
    """A feeder ready for the kernels.

    Parameters
    ----------
    feeder, rungs, ends
        The feeder and what was made of it.
    load_nodes : shape (l,)
        Nodes at which something is connected.
    node_there, wire_there
        Which rows the answers have.
    kva_per_pu
        Apparent power of 1 pu. [kVA]
    """

    def __init__(
        self,
        feeder: Feeder,
        rungs: Rungs,
        ends: Ends,
        load_nodes: Index,
        node_there: Mask,
        wire_there: Mask,
        kva_per_pu: float,
    ) -> None:
        f = self.f = rungs.f
        self.loads = Walk(rungs, load_nodes, load_nodes)
        self.whole = Walk(rungs, load_nodes, np.arange(feeder.n_bus * f))
        self._idle_v = np.ascontiguousarray(rungs.w.reshape(-1)[load_nodes, None]).view(np.float64)
        buses, phase = self.whole.buses, np.arange(f)
        node_row = np.where(node_there, np.cumsum(node_there) - 1, -1)
        self._seen: Index = np.ascontiguousarray(node_row[(buses[:, None] * f + phase).reshape(-1)])
        branch = feeder.parent_branch[buses]  # −1 at the source: the last one, never looked at
        wire_row = np.where(wire_there, np.cumsum(wire_there) - 1, -1)
        known = feeder.n_branch > 0
        self._branches = Branches(
            np.ascontiguousarray(wire_row[(branch[:, None] * f + phase).reshape(-1)]) if known else np.full(f, -1),
            feeder.branches.from_bus[branch] == feeder.parent[buses] if known else np.zeros(1, dtype=bool),
            np.any((rungs.below != 0) | (rungs.above != 0), axis=(1, 2))[buses],
            ~feeder.branches.is_line[branch] if known else np.zeros(1, dtype=bool),
            *(*parts(rungs.below[buses]), *parts(rungs.above[buses]), float(kva_per_pu)),
            *(
                np.ascontiguousarray(part[wire_there])
                for part in (ends.base_from_a, ends.from_percent, ends.to_percent)
            ),
        )
        self._rows = int(node_there.sum()), int(wire_there.sum())
        self._idle = np.flatnonzero(~ends.in_service[wire_there])

    def settle(
        self, given: Injected, points: int, tolerance_pu: float, start: Complex | None = None
    ) -> tuple[Complex, Vector, int]:
        """Return the voltages at the nodes with connections, 1.0 where settled, and the steps.

        The tables are those of the kernels, shapes (l, S) and (1, S), of eight columns at least.
        """
        from network.kernel import settle

        volts, settled = table(len(self.loads.row), points, np.complex128), table(1, points)
        guess = self._idle_v if start is None else in_lanes(start).view(np.float64)
        steps = settle(
            *(PHASES[self.f], self.loads.tree, given, guess, float(tolerance_pu), _MOST_STEPS),
            *(volts.view(np.float64), settled, begins(points)),
        )
        return volts, settled, int(steps)

    def flows(self, given: Injected, points: int, volts: Complex) -> list[Vector]:
        """Return all columns of a Flow, v_pu to loss_kw, and the power of the source (2, S)."""
        buses, wires = self._rows
        found = Columns._make([table(buses, points), *(table(wires, points) for _ in range(5)), table(2, points)])
        self._spread(self.whole, self._seen, True, given, points, volts, found)
        if len(self._idle):
            for part in found[1:6]:
                part[self._idle] = 0.0
        return [part[:, :points] for part in found]

    def magnitudes(self, walk: Walk, given: Injected, points: int, volts: Complex) -> Vector:
        """Return the voltages at the nodes of a walk.  Shape (r, S). [p.u.]"""
        seen = np.full(len(walk.buses) * self.f, -1)
        rows = np.unique(walk.seen)
        seen[rows] = np.arange(len(rows))
        found, none = table(len(rows), points), table(0, points)
        self._spread(walk, seen, False, given, points, volts, Columns(found, *(none,) * 6))
        if not np.array_equal(rows, walk.seen):
            found = found[np.searchsorted(rows, walk.seen)]
        return found[:, :points]

    def _spread(
        self, walk: Walk, seen: Index, flows: bool, given: Injected, points: int, volts: Complex, found: Columns
    ) -> None:
        from network.kernel import spread

        spread(
            *(PHASES[self.f], walk.tree, given, volts.view(np.float64), seen, flows, self._branches, found),
            begins(points),
        )
