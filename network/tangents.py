"""Limits as rows in the envelopes x = (e, m): those of linear DistFlow, and tangents at AC power flows.

A limit h of a use whose signs are s is, near envelopes x₀ at which the AC power flow was run::

    h(x₀) + g·(x − x₀) <= 0,    g_i = s_i ∂h/∂p_i,   p_i = e_i or −m_i                                 (1)

with the exact derivatives of :meth:`network.headroom.Headroom.slopes`.  A limit that grows ever faster (losses do) lies above
its tangents, so that those from before hold as well: such a row is known by claiming no more, at a new x₀, than is true there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from network.envelope_case import Case, Uses
from network.headroom import Headroom, Point
from network.robust import foremost
from network.robust_path import Search
from network.robust_rows import Rows

__all__ = ["INSIDE", "LinearRows", "Tangents", "measure"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

INSIDE = 1e-7
"""So far inside its limit a row aims."""
_NEAR = 0.02
_MOST_NEAR = 4
_SLOPES = 1e-4
_SAME = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Tangents:
    """R rows g·x <= limit of one interval."""

    name: Index
    """World · limits + limit.  Shape (R,)."""
    rows: Vector
    """g.  Shape (R, 2c)."""
    limit: Vector
    """Shape (R,)."""

    def claim(self, x: Vector) -> Vector:
        """Return how far each is passed at x (2c,).  Shape (R,)."""
        return np.asarray(self.rows @ x - self.limit)

    def join(self, other: Tangents) -> Tangents:
        """Return both."""
        return Tangents(
            np.concatenate([self.name, other.name]),
            np.vstack([self.rows, other.rows]),
            np.concatenate([self.limit, other.limit]),
        )

    def with_those_that_hold(self, earlier: Tangents, x: Vector) -> Tangents:
        """Return these, found at x, and the earlier ones that claim no more there than these, of the same limit."""
        if not len(earlier.name) or not len(self.name):
            return self
        here = self.claim(x)
        true = np.full(max(int(earlier.name.max()), int(self.name.max())) + 1, -np.inf)
        np.maximum.at(true, self.name, here)
        claimed = earlier.claim(x)
        keep = (claimed <= true[earlier.name] + _SAME) & (claimed > -_NEAR)
        return self.join(Tangents(earlier.name[keep], earlier.rows[keep], earlier.limit[keep])) if keep.any() else self


class LinearRows:
    """The rows of linear DistFlow in x = (e, m), for all worlds."""

    def __init__(self, case: Case, parts: list[Rows], sign: int) -> None:
        found = []
        for part in parts:
            a = part.coefficient
            if sign == 0:
                found.append(np.hstack([np.maximum(a, 0.0), np.maximum(-a, 0.0)]))
            else:
                found.append(np.hstack([a * (sign > 0), -a * (sign < 0)]))
        self.rows: Vector = np.vstack(found)
        self.name: Index = np.concatenate([part.world * len(case.headroom.elements) + part.row for part in parts])
        self.parts = parts
        # who must draw stands between −m and −f
        obliged = [
            -(np.maximum(part.coefficient, 0.0) if sign == 0 else part.coefficient * (sign > 0)) @ case.firm
            for part in parts
        ]
        self.bound: Vector = -np.vstack([part.base + firm for part, firm in zip(parts, obliged, strict=True)])


def measure(search: Search, x: Vector, going: Mask, linear: LinearRows) -> tuple[list[Tangents], Vector]:
    """Return the tangents of near limits at x (2c, T), and how much the linear rows err there.  Shape (k, T)."""
    case, c, steps = search.case, len(search.case.acting), len(search.case.source)
    elements = len(case.headroom.elements)
    nothing = np.empty(0, dtype=np.intp)
    found: list[tuple[Index, Index, Vector, Vector]] = [(nothing, nothing, np.empty((2 * c, 0)), np.empty(0))]
    highest = np.full((len(case.worlds), elements, steps), -np.inf)
    uses = search.uses.part(np.flatnonzero(going[search.uses.column]))
    if not elements or not len(uses):
        return _by_interval(found, steps), np.zeros((len(linear.name), steps))
    column = uses.column
    for mine, headroom, point in case.measured(uses, x[:c, column], x[c:, column]):
        solved = np.flatnonzero(point.solved)
        at, world = column[mine], int(uses.world[mine[0]])
        np.maximum.at(highest[world].T, at[solved], point.h[:, solved].T)
        row, use = _near(point.h, foremost(point, at))
        if len(row):
            found.append(_tangents(case, headroom, point, uses.part(mine), world, row, use, x, search.sign))
    said = []
    for part in linear.parts:
        predicted = part.highest(case, x[:c], x[c:])
        of_row = np.full((elements, steps), -np.inf)
        np.maximum.at(of_row, part.row, predicted)
        with np.errstate(invalid="ignore"):
            error = highest[part.world] - of_row
        said.append(np.where(np.isfinite(error), error, 0.0)[part.row])
    return _by_interval(found, steps), np.asarray(np.vstack(said))


def _by_interval(found: list[tuple[Index, Index, Vector, Vector]], steps: int) -> list[Tangents]:
    at, name, g, limit = (np.concatenate(part, axis=-1) for part in zip(*found, strict=True))
    order = np.argsort(at, kind="stable")
    ends = np.searchsorted(at[order], np.arange(steps + 1))
    name, rows, limit = name[order], np.ascontiguousarray(g[:, order].T), limit[order]
    return [Tangents(name[i:j], rows[i:j], limit[i:j]) for i, j in pairwise(ends)]


def _near(h: Vector, solved: Index) -> tuple[Index, Index]:
    """Return limits and uses (R,) that are near: of each use the nearest few."""
    most = min(_MOST_NEAR, len(h))
    row = np.argpartition(-h[:, solved], most - 1, axis=0)[:most]
    use = np.broadcast_to(solved, row.shape)
    near = h[row, use] > -_NEAR
    return row.T[near.T], use.T[near.T]


def _tangents(
    case: Case, headroom: Headroom, point: Point, uses: Uses, world: int, row: Index, use: Index, x: Vector, sign: int
) -> tuple[Index, Index, Vector, Vector]:  # fmt: skip
    """Return the intervals, names, g and limits of (1)."""
    per_kw, per_kvar = headroom.slopes(point, row, use, _SLOPES)
    per = (per_kw + per_kvar * case.tan_phi[:, None]) * case.acting[:, None]
    signs, at = uses.sign[:, use], uses.column[use]
    per_e = np.where((signs > 0) & (case.firm[:, at] == 0), per, 0.0)
    per_m = np.where(signs < 0, -per, 0.0)
    if sign == 0:  # nobody is given more because another gets more
        per_e, per_m = np.maximum(per_e, 0.0), np.maximum(per_m, 0.0)
    g = np.vstack([per_e, per_m])
    return at, world * len(headroom.elements) + row, g, (g * x[:, at]).sum(axis=0) - point.h[row, use] - INSIDE
