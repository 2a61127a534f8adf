"""Envelopes at their two vertices: everybody exports its limit, everybody imports its limit.

Both sides of all intervals go through one search by AC power flow (:func:`network.furthest.furthest`), a bounded number of
columns at once.  Of rules with ``goes_on`` those who do not strain the limit that is met go on: progressive filling, a search
for each limit met.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case
from network.furthest import Reach, furthest
from network.headroom import Headroom
from network.robust_path import Boxes
from network.rules import Sharing

__all__ = ["two_vertices"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

_STRAINS = 1e-3  # of the largest strain: below, a connection does not count as straining a limit


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """What is searched: column s injects ``fixed + sign · turn · limit``."""

    fixed: Complex
    sign: Vector
    turn: Complex
    """1 + j tan φ, 0 of passive connections.  Shape (c, 1)."""
    cap: Vector
    floor: Vector
    source: Vector


def two_vertices(case: Case) -> Boxes:
    """Return the envelopes of a rule that is a path."""
    obliged, n = case.firm > 0, len(case.source)
    turn: Complex = np.asarray((1.0 + 1j * case.tan_phi) * case.acting, dtype=np.complex128)[:, None]
    columns = _Columns(
        fixed=np.hstack([case.fixed - turn * case.firm, case.fixed]),
        sign=np.repeat([1.0, -1.0], n),
        turn=turn,
        cap=np.hstack([np.where(obliged, 0.0, case.export_cap), case.import_cap]),
        floor=np.hstack([np.where(obliged, 0.0, case.export_floor), case.import_floor]),
        source=np.tile(case.source, 2),
    )
    limit, reach = _follow(case.headroom, case.sharing, columns)
    one, other = slice(None, n), slice(n, None)
    return Boxes(
        *(limit[:, one], limit[:, other], reach.share[one], reach.share[other], reach.row[one], reach.row[other]),
        safe=reach.safe[one] & reach.safe[other],
    )


def _follow(headroom: Headroom, sharing: Sharing, over: _Columns) -> tuple[Vector, Reach]:
    """Follow the rule from the floors as far as the network allows; S columns.  Return the limits (c, S) and the reach."""

    def path(share: Vector, columns: Index) -> Complex:
        limit = sharing.limit_kw(share, over.cap[:, columns], over.floor[:, columns])
        return over.fixed[:, columns] + over.turn * (over.sign[columns] * limit)

    reach = furthest(headroom, path, over.source, np.zeros(len(over.source)))
    limit = np.where(reach.safe, sharing.limit_kw(reach.share, over.cap, over.floor), over.floor)
    if sharing.rule.goes_on:
        _go_on(headroom, sharing, over, limit, reach)
    return limit, reach


def _go_on(headroom: Headroom, sharing: Sharing, over: _Columns, limit: Vector, reach: Reach) -> None:
    """Raise ``limit`` for those who do not strain what is met."""
    share, row = reach.share.copy(), reach.row.copy()
    stopped = np.zeros(over.cap.shape, dtype=bool)
    left = np.flatnonzero(reach.safe & (share < 1.0) & (row >= 0))
    for _ in range(len(over.cap)):
        strain = headroom.strain(row[left], over.sign[left])
        stopped[:, left] |= strain > _STRAINS * strain.max(axis=0, initial=0.0)
        left = left[(~stopped[:, left] & (limit[:, left] < over.cap[:, left])).any(axis=0)]
        if not left.size:
            return
        lowest = limit[:, left].copy()
        highest = np.where(stopped[:, left], lowest, over.cap[:, left])

        def path(
            at: Vector, columns: Index, left: Index = left, box: tuple[Vector, Vector] = (lowest, highest)
        ) -> Complex:
            here = left[columns]
            asked = sharing.limit_kw(at, over.cap[:, here], over.floor[:, here])
            moved = over.sign[here] * np.clip(asked, box[0][:, columns], box[1][:, columns])
            return over.fixed[:, here] + over.turn * moved

        further = furthest(headroom, path, over.source[left], share[left])
        asked = sharing.limit_kw(further.share, over.cap[:, left], over.floor[:, left])
        limit[:, left] = np.clip(asked, lowest, highest)
        share[left], met_before = further.share, row[left]
        row[left] = further.row
        left = left[further.safe & (further.share < 1.0) & (further.row >= 0) & (further.row != met_before)]
