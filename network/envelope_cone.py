"""Envelopes of the largest total by the cone programme: imports, and the refusal of exports.

Side by side for each interval, with the active connections at zero to start from (:mod:`network.conic`)::

    max Σ p_i, 0 <= p_i <= cap_i, of all imports alone; of all exports alone                          (1)

A side whose programme is exact (its gap is at most 1e-6) *is* a power flow at the limit, and nothing has to be corrected: a
second route to the import limits of :mod:`network.allocation`.  Where the programme invents losses, as it does for exports,
the interval is refused, with the branch and the gap, and its limits are zero.  A side that nobody may use needs no programme.

The limits are aimed at 1e-8 from inside, and every side is measured by AC power flow at the end: one that is beyond a limit is
refused too.

Limits: balanced feeders, two corners, reactive power as forecast, no floors, no weights, data as told.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from network.conic import Plan, most_export, most_import
from network.envelope_asked import Limits
from network.envelope_case import Case
from network.headroom import TOLERANCE
from network.robust_path import Boxes

__all__ = ["Cone", "boxes_of_cone"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Text = NDArray[np.str_]

_INSIDE = 1e-8
"""Of a voltage or loading: what the solver leaves of a limit stays inside it."""
_NAMED = 1e-4
"""A limit is named as binding where it is nearer than this."""


@dataclass(frozen=True, slots=True, eq=False)
class Cone:
    """What the programmes of T intervals came to."""

    gap_export: Vector
    """Largest of all branches; 0 where nobody may export, NaN where there is no answer.  Shape (T,)."""

    gap_import: Vector
    """Likewise.  Shape (T,)."""

    refused: Mask
    """Shape (T,)."""

    worst: Text
    """The branch of the largest gap of a refused side, "source" for the source's impedance, "not_converged" where the solver found
    nothing; "" where exact.  Shape (T,)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    limit_kw: Vector
    """Shape (c, T). [kW]"""
    row: Index
    """The limit that is met, −1: none.  Shape (T,)."""
    gap: Vector
    worst: Text
    """"" where exact.  Shape (T,)."""


def boxes_of_cone(case: Case, limits: Limits) -> tuple[Boxes, Cone]:
    """Return the envelopes of a case, and how far they can be believed.

    Parameters
    ----------
    case
        The intervals: one world, deterministic, max_total, no floors.
    limits
        What the network must keep.
    """
    idle = case.headroom.at(case.fixed, case.source)
    beyond = idle.h.max(axis=0, initial=-np.inf)
    kept = idle.solved & (beyond <= TOLERANCE)
    broken = np.where(idle.solved, idle.h.argmax(axis=0), -2) if len(idle.h) else np.full(len(kept), -2)
    told = [_inside(limits, np.abs(idle.voltage[:, t])) for t in range(len(kept))]
    export, imports = (_side(case, told, sign, kept) for sign in (1, -1))
    refused = kept & ((export.worst != "") | (imports.worst != ""))
    good = kept & ~refused
    share = [
        np.divide(side.limit_kw.sum(axis=0), cap.sum(axis=0), out=np.ones(len(kept)), where=cap.sum(axis=0) > 0) * good
        for side, cap in ((export, case.export_cap), (imports, case.import_cap))
    ]
    boxes = Boxes(
        export_kw=export.limit_kw * good,
        import_kw=imports.limit_kw * good,
        share_export=share[0],
        share_import=share[1],
        row_export=np.where(kept, np.where(good, export.row, -1), broken),
        row_import=np.where(kept, np.where(good, imports.row, -1), broken),
        safe=good,
    )
    worst = np.where(refused, np.where(export.worst != "", export.worst, imports.worst), "")
    return boxes, Cone(export.gap, imports.gap, refused, worst)


def _inside(limits: Limits, idle_v_pu: Vector) -> Limits:
    """Return limits a little tighter, save those that are met without any use: a source at the highest voltage allowed."""
    lowest, highest = (np.broadcast_to(bound, idle_v_pu.shape) for bound in (limits.v_min_pu, limits.v_max_pu))
    return replace(
        limits,
        v_min_pu=np.where(idle_v_pu > lowest * (1.0 + 4 * _INSIDE), lowest * (1.0 + _INSIDE), lowest),
        v_max_pu=np.where(idle_v_pu < highest * (1.0 - 4 * _INSIDE), highest * (1.0 - _INSIDE), highest),
        loading_max_percent=np.asarray(limits.loading_max_percent) * (1.0 - _INSIDE),
    )


def _side(case: Case, limits: list[Limits], sign: int, kept: Mask) -> _Side:
    """Solve (1) for one side of every interval in which the feeder keeps its limits without anybody's use."""
    cap = case.export_cap if sign > 0 else case.import_cap
    most, steps, model = (most_export if sign > 0 else most_import), len(kept), case.headroom.model
    limit, gap, row = np.zeros(cap.shape), np.where(kept, 0.0, np.nan), np.full(steps, -1, dtype=np.intp)
    worst = [""] * steps
    for t in np.flatnonzero(kept & (cap * case.acting[:, None]).any(axis=0)):
        fixed, source = case.fixed[:, t], float(case.source[t])
        plan = most(model, fixed.real, fixed.imag, case.acting, cap[:, t], limits[t], source)
        gap[t], worst[t] = plan.largest_gap, _not_exact(plan)
        if worst[t]:
            continue
        limit[:, t] = np.clip(np.where(case.acting, sign * plan.injection_kw, 0.0), 0.0, cap[:, t])
        point = case.headroom.at((fixed + sign * limit[:, t])[:, None], case.source[[t]])
        if not (point.solved[0] and point.h.max(initial=-np.inf) <= TOLERANCE):
            worst[t] = case.headroom.elements[int(point.h[:, 0].argmax())] if point.solved[0] else "not_converged"
        elif (point.h >= -_NAMED).any():
            row[t] = int(point.h[:, 0].argmax())
    return _Side(limit, row, gap, np.array(worst, dtype=np.str_))


def _not_exact(plan: Plan) -> str:
    """Return the branch with the largest gap; "" where the plan is a power flow."""
    if plan.exact:
        return ""
    return plan.largest_gap_at or "not_converged"
