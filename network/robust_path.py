"""Paths of envelopes that must be safe for many uses at once: how far each goes, by AC power flow.

A rule moves all limits along a path (:mod:`network.rules`).  For every use that can be worst (:mod:`network.robust`) the
path is followed by AC power flow until the first limit is met (:func:`network.furthest.furthest`); the envelope is where the
first of them stops.  At the boxes found, further uses may be worst: they are looked for, checked, and if need be followed,
until there is none.  So every row of the network is corrected by the AC power flow at its own worst use.

*What is shared.*  Where both directions can be used at once, e and m go along together, at one share α.  If the limit that
is met hardly concerns one of the two (less than 1 % of the strain: a feeder whose voltages rise with every injection), this
side goes on by itself: the other gives back 1 %, the one goes on as far as it can, the other takes what is left.

*Those who do not strain a limit go on* (rules with ``goes_on``): likewise, connection by connection and side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case, Uses
from network.furthest import furthest
from network.headroom import TOLERANCE
from network.robust import Prediction
from network.robust_rows import Rows

__all__ = ["Boxes", "Found", "follow", "shrink"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
BoxAt = Callable[[Vector, Index], tuple[Vector, Vector]]
"""Limits at a share, for some intervals: (S,), (S,) -> export and import limits (c, S)."""

_ROUNDS = 12
_WEAK = 1e-2
_STRAINS = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """How far S paths go for all of their uses."""

    share: Vector
    safe: Mask
    row: Index
    """As of :class:`network.furthest.Reach`."""
    per_export: Vector
    """How a kW of each export limit moves the limit that is met; zeros where none is.  Shape (c, S)."""
    per_import: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Envelopes of T intervals."""

    export_kw: Vector
    import_kw: Vector
    share_export: Vector
    share_import: Vector
    row_export: Index
    row_import: Index
    safe: Mask


class Search:
    """A case with the uses that were found to matter."""

    def __init__(self, case: Case, sign: int, rows: list[Rows] | None = None) -> None:
        self.case, self.sign = case, sign
        self.prediction = Prediction(case, sign, rows)
        self.uses = self.prediction.first()

    def reach(self, uses: Uses, box: BoxAt, start: Vector) -> tuple[Vector, Mask, Index]:
        """Follow every use by itself: share, safe, row, shape (U,) each; ``start`` has one number for each interval."""
        case, source = self.case, self.case.source_of(uses)
        share, safe, row = np.empty(len(uses)), np.empty(len(uses), dtype=bool), np.empty(len(uses), dtype=np.intp)
        for headroom, mine in case.batches(uses):
            here = uses.part(mine)

            def path(at: Vector, columns: Index, here: Uses = here) -> NDArray[np.complex128]:
                some = here.part(columns)
                return case.injection(some, *box(at, some.column))

            found = furthest(headroom, path, source[mine], start[here.column])
            share[mine], safe[mine], row[mine] = found.share, found.safe, found.row
        return share, safe, row

    def broken(self, uses: Uses, export_kw: Vector, import_kw: Vector) -> tuple[Mask, Vector, Index]:
        """Return which uses break a limit at boxes (c, T), how far beyond the worst limit they are, and which it is."""
        broken, worst = np.zeros(len(uses), dtype=bool), np.full(len(uses), -np.inf)
        row = np.full(len(uses), -1, dtype=np.intp)
        for mine, headroom, point in self.case.measured(uses, export_kw[:, uses.column], import_kw[:, uses.column]):
            if headroom.elements:
                worst[mine], row[mine] = point.h.max(axis=0), point.h.argmax(axis=0)
            row[mine[~point.solved]] = -2
            broken[mine] = ~point.solved | (worst[mine] > TOLERANCE)
        return broken, worst, row

    def find(self, box: BoxAt, start: Vector, only: Mask | None = None, *, turn: bool = False) -> Found:
        """Return how far each interval goes, all of its uses heeded; new uses are looked for on the way.

        With ``turn`` customers are turned round one by one too.
        """
        case, steps = self.case, np.arange(len(start))
        wanted = np.ones(len(start), dtype=bool) if only is None else only
        share, safe = np.where(wanted, 1.0, start), np.ones(len(start), dtype=bool)
        row, by = np.full(len(start), -1, dtype=np.intp), np.full(len(start), -1, dtype=np.intp)
        pending = np.flatnonzero(wanted[self.uses.column])
        for _ in range(_ROUNDS):
            uses = self.uses.part(pending)
            limits = box(share, steps)
            broken = pending[self.broken(uses, *limits)[0]]
            if len(broken):
                uses = self.uses.part(broken)
                far, fine, met = self.reach(uses, box, start)
                order = np.lexsort((far, fine))  # the worst of each interval comes first
                at, first = np.unique(uses.column[order], return_index=True)
                chosen = order[first]
                worse = ~fine[chosen] | (far[chosen] < share[at]) | (row[at] == -1)
                at, chosen = at[worse], chosen[worse]
                share[at], row[at], by[at] = np.minimum(far[chosen], share[at]), met[chosen], broken[chosen]
                safe[at] &= fine[chosen]
            before = len(self.uses)
            more = self.prediction.more(self.uses, *box(share, steps), wanted & safe)
            if turn and not len(more) and not self.sign:
                here = self.uses.part((wanted & safe)[self.uses.column])
                more = self.prediction.turned(here, *box(share, steps), most=1)
            self.uses = self.uses.join(more)
            pending = np.arange(before, len(self.uses))
            if not len(more):
                break
        return self._with_strains(Found(share, safe, row, *np.zeros((2, len(case.acting), len(start)))), by, box)

    def _with_strains(self, found: Found, by: Index, box: BoxAt) -> Found:
        """Add how the limits strain what is met."""
        told = np.flatnonzero((by >= 0) & found.safe & (found.row >= 0))
        if not len(told):
            return found
        uses = self.uses.part(by[told])
        limits = box(found.share[told], uses.column)
        for mine, headroom, point in self.case.measured(uses, *limits):
            good = np.flatnonzero(point.solved)
            row = found.row[told[mine[good]]]
            per_kw, per_kvar = headroom.slopes(point, row, good)
            per = (per_kw + per_kvar * self.case.tan_phi[:, None]) * self.case.acting[:, None]
            sign, at = uses.sign[:, mine[good]], told[mine[good]]
            firm = self.case.firm[:, at] > 0
            found.per_export[:, at] = np.where((sign > 0) & ~firm, per, 0.0)
            found.per_import[:, at] = np.where(sign < 0, -per, 0.0)
        return found


def follow(case: Case, sign: int, rows: list[Rows] | None = None) -> Boxes:
    """Return the envelopes of a rule that is a path.

    Parameters
    ----------
    case
        The intervals.
    sign
        0: both sides together; 1, −1: one side alone, the other one is as if it were not there.
    rows
        Those of a :class:`Search` of the same case, whatever its rule; None: they are made.
    """
    search, limit = Search(case, sign, rows), case.sharing.limit_kw

    def export(share: Vector, columns: Index) -> Vector:
        return limit(share, case.export_cap[:, columns], case.export_floor[:, columns])

    def imports(share: Vector, columns: Index) -> Vector:
        return limit(share, case.import_cap[:, columns], case.import_floor[:, columns])

    steps = np.arange(len(case.source))
    nothing = np.zeros(len(steps))
    found = search.find(lambda at, cols: (export(at, cols), imports(at, cols)), nothing)
    moves_e: Mask = np.asarray((case.export_cap > case.export_floor).any(axis=0) & (sign >= 0))
    moves_m: Mask = np.asarray((case.import_cap > case.import_floor).any(axis=0) & (sign <= 0))
    share_e, share_m, row_e, row_m = found.share.copy(), found.share.copy(), found.row.copy(), found.row.copy()
    strain_e = (np.maximum(found.per_export, 0.0) * (case.export_cap - case.export_floor)).sum(axis=0)
    strain_m = (np.maximum(found.per_import, 0.0) * (case.import_cap - case.import_floor)).sum(axis=0)
    stopped = found.safe & (found.share < 1.0)
    goes = {
        "export": stopped & moves_e & (strain_e <= _WEAK * strain_m),
        "import": stopped & moves_m & (strain_m <= _WEAK * strain_e),
    }
    for side, weak in goes.items():
        if not weak.any() or sign:
            continue
        mine, other = (share_e, share_m) if side == "export" else (share_m, share_e)
        met, met_other = (row_e, row_m) if side == "export" else (row_m, row_e)
        other_moves = moves_m if side == "export" else moves_e
        held = np.where(weak, 0.99 * other, other)

        def alone(at: Vector, cols: Index, held: Vector = held, side: str = side) -> tuple[Vector, Vector]:
            return (export(at, cols), imports(held[cols], cols)) if side == "export" else (
                export(held[cols], cols), imports(at, cols))  # fmt: skip

        on = search.find(alone, mine.copy(), weak)
        on_safe = weak & on.safe
        mine[on_safe], met[on_safe] = on.share[on_safe], on.row[on_safe]

        def back(at: Vector, cols: Index, got: Vector = mine, side: str = side) -> tuple[Vector, Vector]:
            return (export(got[cols], cols), imports(at, cols)) if side == "export" else (
                export(at, cols), imports(got[cols], cols))  # fmt: skip

        again = search.find(back, held, weak & other_moves)
        good = weak & other_moves & again.safe
        other[good], met_other[good] = again.share[good], again.row[good]
    e, m = export(share_e, steps), imports(share_m, steps)
    e, m = (np.where(found.safe, got, floor) for got, floor in ((e, case.export_floor), (m, case.import_floor)))
    boxes = Boxes(e, m, share_e, share_m, row_e, row_m, found.safe)
    if case.sharing.rule.goes_on:
        boxes = _go_on(search, boxes, found)
    return shrink(search, _still(boxes, moves_e, moves_m), turn=True)


def _still(boxes: Boxes, moves_e: Mask, moves_m: Mask) -> Boxes:
    """Say of a side that had nowhere to go that it got everything."""
    for share, row, moves in (
        (boxes.share_export, boxes.row_export, moves_e),
        (boxes.share_import, boxes.row_import, moves_m),
    ):
        share[~moves & boxes.safe], row[~moves & boxes.safe] = 1.0, -1
    return boxes


def _go_on(search: Search, boxes: Boxes, found: Found) -> Boxes:
    """Raise the limits of those who do not strain what is met, until everybody is stopped."""
    case = search.case
    e, m = boxes.export_kw, boxes.import_kw
    share = np.minimum(boxes.share_export, boxes.share_import)
    held_e, held_m = np.zeros(e.shape, dtype=bool), np.zeros(m.shape, dtype=bool)
    if search.sign:
        held_e[:], held_m[:] = search.sign < 0, search.sign > 0
    given_e, given_m = e.copy(), m.copy()  # what those who stop have reached
    active = boxes.safe & (share < 1.0) & (found.row >= 0)
    limit = case.sharing.limit_kw
    for _ in range(2 * len(case.acting)):
        largest = np.maximum(found.per_export.max(axis=0, initial=0.0), found.per_import.max(axis=0, initial=0.0))
        for held, per, limits, given, floor in (
            (held_e, found.per_export, e, given_e, case.export_floor),
            (held_m, found.per_import, m, given_m, case.import_floor),
        ):
            stops = active & (per > _STRAINS * largest) & ~held & (largest > 0)
            np.logical_or(held, stops, out=held)
            given[stops] = limits[stops]
            limits[stops] = np.maximum(floor, 0.999 * limits)[stops]  # room for the others, taken back at the end
        can = (~held_e & (e < case.export_cap)).any(axis=0) | (~held_m & (m < case.import_cap)).any(axis=0)
        active &= can
        if not active.any():
            break
        low = (e.copy(), m.copy())

        def further(
            at: Vector,
            cols: Index,
            low: tuple[Vector, Vector] = low,
            held: tuple[Mask, Mask] = (held_e.copy(), held_m.copy()),
        ) -> tuple[Vector, Vector]:
            asked = (
                limit(at, case.export_cap[:, cols], case.export_floor[:, cols]),
                limit(at, case.import_cap[:, cols], case.import_floor[:, cols]),
            )
            one, other = (np.where(stop[:, cols], had[:, cols], np.maximum(want, had[:, cols]))
                          for want, had, stop in zip(asked, low, held, strict=True))  # fmt: skip
            return one, other

        found = search.find(further, share, active)
        share = np.where(active & found.safe, found.share, share)
        steps = np.flatnonzero(active & found.safe)
        e[:, steps], m[:, steps] = further(share[steps], steps)
        active &= found.safe & (found.share < 1.0) & (found.row >= 0)

    def back(at: Vector, cols: Index) -> tuple[Vector, Vector]:
        return e[:, cols] + at * np.maximum(given_e - e, 0.0)[:, cols], m[:, cols] + at * np.maximum(given_m - m, 0.0)[
            :, cols
        ]

    given_e, given_m = np.where(held_e, given_e, e), np.where(held_m, given_m, m)
    last = search.find(back, np.zeros(len(share)), boxes.safe)
    e, m = back(np.where(last.safe, last.share, 0.0), np.arange(len(share)))
    return Boxes(e, m, boxes.share_export, boxes.share_import, boxes.row_export, boxes.row_import, boxes.safe)


def shrink(search: Search, boxes: Boxes, *, turn: bool = False) -> Boxes:
    """Return the boxes, scaled towards the floors where some use still breaks a limit, and infeasible where the floors do.

    With ``turn`` uses are looked for with customers turned round one by one.
    """
    case = search.case

    def scaled(at: Vector, cols: Index) -> tuple[Vector, Vector]:
        floor_e, floor_m = case.export_floor[:, cols], case.import_floor[:, cols]
        return floor_e + at * (boxes.export_kw[:, cols] - floor_e), floor_m + at * (boxes.import_kw[:, cols] - floor_m)

    found = search.find(scaled, np.zeros(len(boxes.safe)), boxes.safe, turn=turn)
    safe = boxes.safe & found.safe
    share = np.where(safe, found.share, 0.0)
    e, m = scaled(share, np.arange(len(share)))
    return Boxes(
        e,
        m,
        boxes.share_export * share,
        boxes.share_import * share,
        np.where(boxes.safe & ~found.safe, found.row, boxes.row_export),
        np.where(boxes.safe & ~found.safe, found.row, boxes.row_import),
        safe,
    )
