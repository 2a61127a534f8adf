"""DistFlow as a cone programme: least losses, most import, and why export is refused.

Of an injection (p, q) at every bus the branch-flow model of a balanced radial feeder [1]_ has, for each branch, the power
(P, Q) that its series impedance r + jx takes at the upper end, its squared current l, and squared voltages v::

    balance    what arrives from above and is injected = what goes on below (and into a shunt, v" y* of its own)
               sent    P + jQ + v' y*        arrives    P + jQ − (r + jx) l − v" y*                     (1)
    drop       v" = v' − 2 (rP + xQ) + (r² + x²) l                                                      (2)
    cone       v' l >= P² + Q²                                                                          (3)

with y half of the branch's shunt, and v', v" the voltages at the two ends of the series impedance, v/|k|² on the side of a
transformer's ratio k.  A source behind an impedance is one more branch.  Taps, iron, capacitance and phase shifts are all
exact in this form; the one thing that is relaxed is (3), an equality in truth.  So a solution is a power flow where (3) is
tight, and is nothing at all where it is not: l larger than the power asks for is a loss that nobody has.

For imports that loss only hurts, and (3) is tight.  For exports it helps: it eats what would lift the voltage, and the
programme "allows" what no network carries.  So every plan says how far (3) is from tight, is checked by the AC power flow,
and is *refused* where the gap is above 1e-6; for export limits use :mod:`network.envelope`.

The programme itself stands in :mod:`network.conic_program`.  Each plan minimises losses too: alone, or with a weight of 1 % beside the total, so that (3) is tight where the total does
not ask for it.  (A kW of the total is given up only for 100 kW of losses.)

Limits: balanced; one operating point; constant power.

References
----------
.. [1] M. Farivar and S. H. Low, "Branch flow model: relaxations and convexification", IEEE Trans. Power Systems 28(3), 2013
   (arXiv:1204.4865); A. Dubey and S. Paudyal, "Distribution system optimization to manage distributed energy resources
   (DERs) for grid services", Foundations and Trends in Electric Energy Systems 6(3-4), 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Flow, Model
from network.conic_program import ConicError, Program
from network.envelope_asked import Limits

__all__ = ["GAP", "ConicError", "Plan", "least_losses", "most_export", "most_import"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

GAP = 1e-6
"""Of (3), relative to the largest flow squared: above, the relaxation is not exact."""

_LOSSES = 1e-2
"""Weight of losses beside a total."""

_TOLERANCES = (1e-9, 1e-10, 1e-8)
"""Of the solver, one after the other until it ends and (3) is tight: the first may be too coarse for the gap, or too fine to reach."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What the cone programme would do, and whether it can be believed."""

    status: str
    """"exact"; "refused: the relaxation is not exact at branch …"; "infeasible"; "not_converged"."""

    injection_kw: Vector
    """Of every connection.  Shape (c,). [kW]"""

    injection_kvar: Vector
    """Shape (c,). [kvar]"""

    total_kw: float
    """What was asked for: losses, or the import or export of the active connections. [kW]"""

    loss_kw: float
    """Of all branches, as the programme has it. [kW]"""

    v_pu: Vector
    """Voltages, as the programme has them.  Shape (n,). [p.u.]"""

    gap: Vector
    """v' l − P² − Q² of every branch, relative to the largest P² + Q²; 0 out of service.  Shape (m,)."""

    flow: Flow
    """The AC power flow of these injections: what would really happen."""

    largest_gap: float = float("nan")
    """The largest of ``gap``, the source's impedance included."""

    largest_gap_at: str = ""
    """Id of the branch that has it, "source" for the source's impedance."""

    @property
    def exact(self) -> bool:
        """Whether it is a power flow, within 1e-6."""
        return self.status == "exact"


def least_losses(
    model: Model,
    p_low_kw: ArrayLike,
    p_high_kw: ArrayLike,
    q_low_kvar: ArrayLike,
    q_high_kvar: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the injections of least losses between bounds.  Shape (c,) each. [kW], [kvar]"""

    def pose(base_kva: float | None) -> tuple[Program, Any, Any]:
        bounds = (p_low_kw, p_high_kw, q_low_kvar, q_high_kvar)
        program = Program(model, limits, source_v_pu, bounds, base_kva)
        return program, program.losses(source=True), program.losses(source=False)

    return _solved(pose)


def most_import(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the largest import of the active connections together, each up to its cap.

    Parameters
    ----------
    model
        A balanced feeder with c connections.
    base_kw, base_kvar : shape (c,)
        Injections; an active connection keeps only the reactive one. [kW], [kvar]
    active : shape (c,)
        Whose import is asked for.
    cap_kw : shape (c,)
        The most that each could draw. [kW]
    limits
        What the network must keep.
    source_v_pu
        Voltage behind the source impedance; None: as the feeder says. [p.u.]
    """
    return _most(model, base_kw, base_kvar, active, cap_kw, limits, source_v_pu, sign=-1.0)


def most_export(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None = None,
) -> Plan:
    """Return the same for export: a plan to be refused, unless the caps are reached within every limit."""
    return _most(model, base_kw, base_kvar, active, cap_kw, limits, source_v_pu, sign=1.0)


def _most(
    model: Model,
    base_kw: ArrayLike,
    base_kvar: ArrayLike,
    active: ArrayLike,
    cap_kw: ArrayLike,
    limits: Limits,
    source_v_pu: float | None,
    sign: float,
) -> Plan:
    base, cap, acting = (
        np.asarray(base_kw, dtype=float),
        np.asarray(cap_kw, dtype=float),
        np.asarray(active, dtype=bool),
    )
    if not base.shape == cap.shape == acting.shape == (model.n_connection,):
        raise ConicError(
            f"base_kw, active and cap_kw have shapes {base.shape}, {acting.shape} and {cap.shape}; expected one number for "
            f"each of the {model.n_connection} connections."
        )
    reach = np.where(acting, sign * cap, base)
    still = np.where(acting, 0.0, base)
    bounds = (np.minimum(reach, still), np.maximum(reach, still), base_kvar, base_kvar)

    def pose(base_kva: float | None) -> tuple[Program, Any, Any]:
        program = Program(model, limits, source_v_pu, bounds, base_kva)
        total = sign * (acting.astype(float) @ program.p)
        return program, -total + _LOSSES * program.losses(source=True), total

    return _solved(pose)


def _solved(pose: Callable[[float | None], tuple[Program, Any, Any]]) -> Plan:
    """Solve a problem; where that is not tight, once more on a base of the largest power that flows."""
    program, objective, asked = pose(None)
    plan = _best_of(program, objective, asked)
    if plan.exact or not np.isfinite(plan.total_kw):
        return plan
    program, objective, asked = pose(program.largest_kva())
    again = _best_of(program, objective, asked)
    return again if np.isfinite(again.total_kw) else plan


def _best_of(program: Program, objective: Any, asked: Any) -> Plan:
    """Minimise an objective and doubt the answer: of several tolerances the first that is exact."""
    plans: list[Plan] = []
    for tolerance in _TOLERANCES:
        plans.append(_plan(program, program.minimise(objective, tolerance), asked))
        if plans[-1].status in {"exact", "infeasible"}:
            return plans[-1]
    return next((plan for plan in plans if plan.status.startswith("refused")), plans[0])


def _plan(program: Program, outcome: str, asked: Any) -> Plan:
    model, s = program.model, program.series
    gap, names = np.zeros(model.feeder.n_branch), model.feeder.branches.ids
    if program.p.value is None or outcome not in {"optimal", "optimal_inaccurate"}:
        unknown = np.full(model.n_connection, np.nan)
        nothing = model.solve(np.zeros((model.n_connection, 0)), np.zeros((model.n_connection, 0)))
        status = "infeasible" if outcome.startswith("infeasible") else "not_converged"
        return Plan(
            *(status, unknown, unknown, np.nan, np.nan, np.full(model.feeder.n_bus, np.nan)),
            *(np.full(len(gap), np.nan), nothing),
        )
    p, q = program.p.value * program.base_kva, program.q.value * program.base_kva
    lost, square = program.lost()
    real = s.branch >= 0
    relative = lost / max(float(square.max(initial=0.0)), 1e-12)
    gap[s.branch[real]] = relative[real]
    status, at = "exact" if outcome == "optimal" else "not_converged", ""
    worst = int(relative.argmax()) if len(relative) else -1
    if len(relative):
        at = names[s.branch[worst]] if real[worst] else "source"
    if len(relative) and not relative[worst] <= GAP:
        where = f"branch {at!r}" if real[worst] else "the source"
        status = f"refused: the relaxation is not exact at {where} (gap {relative[worst]:.1e})"
    return Plan(
        status=status,
        injection_kw=p,
        injection_kvar=q,
        total_kw=float(asked.value) * program.base_kva,
        loss_kw=float(program.losses(source=False).value) * program.base_kva,
        v_pu=np.sqrt(np.maximum(program.v.value, 0.0)),
        gap=gap,
        flow=model.solve(p[:, None], q[:, None], program.source_v_pu),
        largest_gap=float(relative[worst]) if len(relative) else 0.0,
        largest_gap_at=at,
    )
