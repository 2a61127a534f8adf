"""Linear DistFlow: voltages and flows of a radial feeder without an iteration, with taps and shunts.

Around the voltages w v_source that stand without injections (:mod:`network.ladder`), every injection S draws the
current conj(S / (w v_source)), as if it met the voltage of an idle feeder [1]_.  Then squared voltages and flows are
linear in the injections::

    |V|² = |w|² v_source² + A p + B q,     A + jB = 2 conj(w[i]) Z[i, j] / conj(w[j])                  (1)
    s    = s_0 v_source² + K (p + jq),     K = w[from] conj(dI[from] / dI[j]) / w[j]                   (2)

with s the apparent power into the from end of a branch.  Without taps and shunts w = 1, A = 2R, B = 2X (the resistance
and reactance common to two paths) and K = −1 for everything behind a branch: linear DistFlow as it stands in textbooks.  In a three-phase model i and j are nodes (a bus and a phase),
w turns by 120° from phase to phase, and some entries of A are negative: what one phase feeds in lowers another.

As rows ``a·p <= b`` a flow |s| <= s_max is, with q given, |Re s| <= √(s_max² − (Im s)²) where K is real: two rows, exact.  Where K turns
(three phases: what one phase injects flows in another one, turned by 120° through a delta winding) it is a polygon of D
sides inside the circle::

    Re(e^(−jα) (s_q + K p)) <= s_max cos(π/D),     α = 2π d/D, d = 0 … D − 1                             (3)

It leaves the losses out, so it is one-sided: voltages come out too high, and flows too low where power is drawn.  Limits
of export are safe in it, limits of import are NOT; :mod:`network.envelope` corrects both by the AC power flow.

References
----------
.. [1] M. E. Baran and F. F. Wu, "Optimal capacitor placement on radial distribution systems", IEEE Trans. Power
   Delivery 4(1), 1989.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.held import refuse_held

__all__ = ["Linear", "Rows", "linear", "rows"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """The coefficients of equations (1) and (2) for c connections, N nodes and M wires: buses and branches of a balanced
    model, else one for each phase (``Model.node_bus``, ``Model.wire_branch``), those of no conductor included.
    """

    squared_v_free: Vector
    """|w|²: squared voltages without injections, for a source of 1 pu.  Shape (N,). [p.u.²]"""

    squared_v_per_kw: Vector
    """A.  Shape (N, c). [p.u.²/kW]"""

    squared_v_per_kvar: Vector
    """B.  Shape (N, c). [p.u.²/kvar]"""

    flow_free_kva: Complex
    """s_0: what flows into each branch without injections, for a source of 1 pu.  Shape (M,). [kVA]"""

    flow_per_kva: Complex
    """K.  Shape (M, c). [kVA/kVA]"""

    rated_kva: Vector
    """Flow at 100 % loading, at the voltage without injections and for a source of 1 pu (a line's grows with the source
    voltage, a transformer's does not); inf without a rating or out of service.  Shape (M,). [kVA]"""

    def squared_v(self, injection_kw: Vector, injection_kvar: Vector, source_v_pu: Vector) -> Vector:
        """Return the squared voltages of (1) for injections of shape (c, T).  Shape (N, T). [p.u.²]"""
        lifted = self.squared_v_per_kw @ injection_kw + self.squared_v_per_kvar @ injection_kvar
        return np.asarray(self.squared_v_free[:, None] * source_v_pu**2 + lifted)

    def flow_kva(self, injection_kw: Vector, injection_kvar: Vector, source_v_pu: Vector) -> Complex:
        """Return the flows of (2) for injections of shape (c, T).  Shape (M, T). [kVA]"""
        return np.asarray(
            self.flow_free_kva[:, None] * source_v_pu**2 + self.flow_per_kva @ (injection_kw + 1j * injection_kvar)
        )


def linear(model: Model) -> Linear:
    """Return the linear DistFlow of a feeder."""
    refuse_held(model.held, "linear limits")
    w, w_load, ends = model.w, model.w[model.load_bus], model.ends
    voltage = 2.0 * w.conj()[:, None] * model.z / w_load.conj()
    current, _ = ends.currents(model.z)
    idle_current, _ = ends.currents(w[:, None])
    at_from = w[ends.from_bus]
    flow = at_from[:, None] * current.conj() / w_load
    per_kva = model.incidence
    with np.errstate(divide="ignore", invalid="ignore"):
        rated = np.where(ends.is_line, np.abs(at_from), 1.0) * 100.0 / ends.from_percent * model.kva_per_pu
    return Linear(
        squared_v_free=np.abs(w) ** 2,
        squared_v_per_kw=np.ascontiguousarray(voltage.real @ per_kva),
        squared_v_per_kvar=np.ascontiguousarray(voltage.imag @ per_kva),
        flow_free_kva=at_from * idle_current[:, 0].conj() * model.kva_per_pu,
        flow_per_kva=flow @ per_kva * model.kva_per_pu,
        rated_kva=np.where(ends.in_service, rated, np.inf),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Limits ``a_kw @ injection_kw <= b``, one row for each way in which an element can break its limit."""

    a_kw: Vector
    """What 1 kW of injection at each connection adds.  Shape (k, c). [p.u.²/kW] or [kVA/kW]"""

    b: Vector
    """Shape (k, T). [p.u.²] or [kVA]"""

    kind: tuple[str, ...]
    """"over_voltage", "under_voltage" or "overload" (several for a branch: one row for each direction)."""

    element: tuple[str, ...]
    """Id of the bus or branch."""


def rows(
    model: Model,
    injection_kvar: ArrayLike,
    *,
    v_min_pu: ArrayLike = 0.0,
    v_max_pu: ArrayLike = np.inf,
    loading_max_percent: ArrayLike = np.inf,
    monitored: ArrayLike | None = None,
    source_v_pu: ArrayLike | None = None,
    directions: int | None = None,
) -> Rows:
    """Return the limits of a feeder as rows, linear in the active injections.

    Parameters
    ----------
    model
        The feeder with c connections.
    injection_kvar : shape (c, T)
        Reactive injections, which are given. [kvar]
    v_min_pu, v_max_pu : number or shape (n_bus,)
        Bounds of the voltages; 0 and inf: none. [p.u.]
    loading_max_percent : number or shape (n_branch,)
        Bound of the loadings; inf: none. [%]
    monitored : shape (n_bus,)
        Buses whose voltage is limited; None: all.
    source_v_pu : number or shape (T,)
        Voltage of the source; None: as the feeder says. [p.u.]
    directions
        D of (3), 4 or more; None: 16 in a three-phase model, the exact two rows in a balanced one.
    """
    reactive = np.asarray(injection_kvar, dtype=np.float64)
    source = model.source_voltage(source_v_pu, reactive.shape[1])
    buses, branches = model.feeder.buses, model.feeder.branches
    found = linear(model)
    nothing = np.zeros_like(reactive)
    squared_v = found.squared_v(nothing, reactive, source)
    flow = found.flow_kva(nothing, reactive, source)

    bus, branch = model.node_bus, model.wire_branch
    watched = np.ones(len(buses.ids), dtype=bool) if monitored is None else np.asarray(monitored, dtype=bool)
    highest, lowest = (np.broadcast_to(bound, watched.shape).astype(float)[bus] for bound in (v_max_pu, v_min_pu))
    watched = watched[bus] & model.node_there
    above = np.flatnonzero(watched & (highest < np.inf))
    below = np.flatnonzero(watched & (lowest > 0))

    most = np.broadcast_to(loading_max_percent, len(branches.ids))[branch] / 100.0 * found.rated_kva
    rated = np.flatnonzero((most < np.inf) & model.wire_there)
    # a line's rating is a current: at a higher voltage it carries more
    limit = most[rated, None] * np.where(model.ends.is_line[rated, None], source, 1.0)
    if directions is None and not model.three_phase:
        per_kw, room = _two_sides(found.flow_per_kva.real[rated], flow[rated], limit)
    else:
        per_kw, room = _polygon(found.flow_per_kva[rated], flow[rated], limit, max(directions or 16, 4))
    sides = len(per_kw) // max(len(rated), 1)
    return Rows(
        a_kw=np.vstack([found.squared_v_per_kw[above], -found.squared_v_per_kw[below], per_kw]),
        b=np.vstack(
            [
                highest[above, None] ** 2 - squared_v[above],
                squared_v[below] - lowest[below, None] ** 2,
                room,
            ]
        ),
        kind=("over_voltage",) * len(above) + ("under_voltage",) * len(below) + ("overload",) * len(per_kw),
        element=tuple(
            [buses.ids[bus[k]] for k in above]
            + [buses.ids[bus[k]] for k in below]
            + sides * [branches.ids[branch[k]] for k in rated]
        ),
    )


def _two_sides(per_kw: Vector, flow: Complex, limit: Vector) -> tuple[Vector, Vector]:
    """Return a and b of |Re s| <= √(limit² − (Im s)²), for both signs."""
    # where q alone is too much, room is negative and no p satisfies both rows
    square = limit**2 - flow.imag**2
    room = np.where(square >= 0, np.sqrt(np.abs(square)), limit - np.abs(flow.imag))
    return np.vstack([per_kw, -per_kw]), np.vstack([room - flow.real, room + flow.real])


def _polygon(per_kva: Complex, flow: Complex, limit: Vector, sides: int) -> tuple[Vector, Vector]:
    """Return a and b of (3), side by side."""
    turns = np.exp(-2j * np.pi * np.arange(sides) / sides)
    inside = limit * np.cos(np.pi / sides)
    return (
        np.vstack([(turn * per_kva).real for turn in turns]),
        np.vstack([inside - (turn * flow).real for turn in turns]),
    )
