"""How far a feeder may go by linear DistFlow alone: limits that no AC power flow has corrected, to compare with.

The same limits as :class:`network.headroom.Headroom` has, measured by the squared voltages and flows of :mod:`network.linear`
[1]_, which are linear in the injections::

    over-voltage (v_0 + A p + B q)/v_max² − 1,   under-voltage likewise,   overload |s_0 + K (p + jq)|/s_max − 1     (1)

and so their slopes are A and B over the limit, and Re(K conj(s)/|s|) for a flow.  Every rule and mode of an envelope runs on
it unchanged; only what is measured differs.

Limits: losses are left out.  Voltages come out too high and flows too low where power is drawn: limits of export are safe and
too small, limits of import are NOT safe.  On the 33-bus feeder they end 0.004 pu too low.  No volt-var curves.

References
----------
.. [1] M. E. Baran and F. F. Wu, "Optimal capacitor placement on radial distribution systems", IEEE Trans. Power
   Delivery 4(1), 1989; one-sidedness: L. Gan and S. H. Low, "Convex relaxations and linear approximation for optimal power
   flow in multiphase radial networks", PSCC 2014.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from network.headroom import Headroom, Point
from network.linear import Linear, linear

__all__ = ["LinearHeadroom"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]


class LinearHeadroom(Headroom):
    """A feeder and its limits, in linear DistFlow; parameters as of :class:`network.headroom.Headroom`, without a curve."""

    @cached_property
    def _linear(self) -> Linear:
        return linear(self.model)

    def at(self, injection: Complex, source: Vector, start: Complex | None = None) -> Point:  # noqa: ARG002 - nothing to start
        """Measure operating points by (1): there is always a solution.  Parameters as of :meth:`Headroom.at`."""
        model, found, rated = self.model, self._linear, self.rated
        squared = found.squared_v(injection.real, injection.imag, source)
        flow = np.abs(found.flow_kva(injection.real, injection.imag, source)[rated])
        # a line's rating is a current: at a higher voltage it carries more
        whole = found.rated_kva[rated, None] * np.where(model.ends.is_line[rated, None], source, 1.0)
        h = np.vstack(
            [
                squared[self.above] / self.highest - 1,
                1 - squared[self.below] / self.lowest,
                100.0 * flow / whole / self.most - 1,
            ]
        )
        idle, power = model.w[:, None] * source, model.gather(injection)
        voltage = idle + model.answer(np.conj(power / idle[model.load_bus]))
        return Point(h, idle[model.load_bus], voltage, np.ones(len(source), dtype=bool), power)

    def slopes(
        self,
        point: Point,
        row: Index,
        column: Index,
        tolerance: float = 0.0,  # noqa: ARG002 - exact
        bend: str = "here",  # noqa: ARG002 - no curve
    ) -> tuple[Vector, Vector]:
        """Return ∂h/∂p and ∂h/∂q of (1), exact everywhere.  Parameters and shapes as of :meth:`Headroom.slopes`."""
        found, ends = self._linear, self.model.ends
        per_kw, per_kvar = (np.empty((self.model.n_connection, len(row))) for _ in range(2))
        first, second = len(self.above), len(self.above) + len(self.below)
        for part, nodes, sign, square in (
            (row < first, self.above, 1.0, self.highest),
            ((row >= first) & (row < second), self.below, -1.0, self.lowest),
        ):
            at = row[part] - (0 if sign > 0 else first)
            for slope, per in ((per_kw, found.squared_v_per_kw), (per_kvar, found.squared_v_per_kvar)):
                slope[:, part] = (sign * per[nodes[at]] / square[at]).T
        part = row >= second
        if part.any():
            at, col = row[part] - second, column[part]
            wire = self.rated[at]
            into, _ = ends.currents(point.voltage[:, col])
            flow = self.model.w[ends.from_bus[wire]] * into[wire, np.arange(len(wire))].conj()
            towards = flow.conj() / np.maximum(np.abs(flow), 1e-30)
            # the source's voltage, of which a line's rating is a share, from what stands at a connection
            source = np.abs(point.load_v[:1, col] / self.model.w[self.model.load_bus[:1], None])[0]
            whole = found.rated_kva[wire] * np.where(ends.is_line[wire], source, 1.0)
            moved = found.flow_per_kva[wire].T * (towards * 100.0 / whole / self.most[at, 0])
            per_kw[:, part], per_kvar[:, part] = moved.real, -moved.imag
        return per_kw, per_kvar
