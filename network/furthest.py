"""How far a feeder may go along a path of injections before the first limit is met, by AC power flow.

A path leads from one set of injections (share 0) to another (share 1).  The search for the last share at which every limit is
kept (all h <= 0, :mod:`network.headroom`) is the AC-corrected linear DistFlow.  The first estimate is the closed form of linear rows
at the start of the path, (2) there; the AC power flow at the estimate corrects it.  From then on each row's slope is the one seen
between the last two points (a secant),

    share ← min over rows of share + (target − h) / slope,   slope = Δh / Δshare

so that the error is squared rather than divided from step to step; a bracket of one safe and one unsafe share
guards it.  The search aims 1e-7 inside the limits and returns only a share whose AC power flow was seen to keep them.

Limit: a path along which a limit is broken and then kept again is followed to the first such place only if an
estimate falls into it.  Voltages and loadings of a radial feeder are monotone along a path for all practical data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.headroom import TOLERANCE, Headroom, Point

__all__ = ["Path", "Reach", "furthest"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Path = Callable[[Vector, Index], Complex]
"""Injections of the c connections at a share of the path, for some of the columns: (S',), (S',) -> (c, S')."""

_INSIDE = 1e-7
"""The search aims at h = −1e-7: safe in anybody's arithmetic, and at the points between the two vertices, where the AC power flow can
be worse than at both by a few 1e-8 (losses are not monotone)."""

_MOST_STEPS = 40


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """How far S paths may be followed."""

    share: Vector
    """The last safe share; the start where not even that is safe.  Shape (S,)."""

    safe: Mask
    """Whether the start is safe at all.  Shape (S,)."""

    row: Index
    """The limit that is met (or broken at the start), an index of ``Headroom.elements``; −1: none, the path's end is
    reached, or −2: the power flow has no solution.  Shape (S,)."""


def furthest(headroom: Headroom, path: Path, source: Vector, start: Vector) -> Reach:
    """Return the last share of each path, from ``start`` to 1, at which every limit is kept.

    Parameters
    ----------
    headroom
        The feeder and its limits.
    path
        The injections at a share, for some columns.
    source : shape (S,)
        Voltage of the source. [p.u.]
    start : shape (S,)
        The share to begin with.
    """
    columns = np.arange(len(source))
    first = headroom.at(path(start, columns), source)
    if not headroom.elements:
        return Reach(np.where(first.solved, 1.0, start), first.solved, np.where(first.solved, -1, -2))
    worst = first.h.max(axis=0)
    safe = first.solved & (worst <= TOLERANCE)
    row = np.where(first.solved, np.where(safe, -1, first.h.argmax(axis=0)), -2)
    share = start.astype(float)

    direction = path(np.ones_like(start), columns) - path(start, columns)
    still = ~direction.any(axis=0)
    share[safe & still] = 1.0
    left = np.flatnonzero(safe & ~still)
    if left.size:
        _search(headroom, path, source, _part(first, left), direction[:, left], left, share, row)
    return Reach(share, safe, row)


def _part(point: Point, keep: Index | Mask) -> Point:
    return Point(
        point.h[:, keep], point.load_v[:, keep], point.voltage[:, keep], point.solved[keep], point.power[:, keep]
    )


def _search(
    headroom: Headroom,
    path: Path,
    source: Vector,
    before: Point,
    direction: Complex,
    left: Index,
    share: Vector,
    row: Index,
) -> None:
    """Move ``share`` and ``row`` of the columns ``left`` to the last safe place; ``before`` are they at their start."""
    # a limit that is met at the start already (a source at the highest voltage allowed) is to be kept, not approached
    met = before.h > -2 * _INSIDE
    target, width = np.where(met, TOLERANCE, -_INSIDE), np.where(met, TOLERANCE, _INSIDE)
    low, high = share[left], np.full(left.size, np.inf)
    share_before = low
    step = headroom.closed_form(before, direction, target)
    now = np.minimum(low + np.maximum(step, 0.0) * (1.0 - low), 1.0)
    guess = before.load_v
    for _ in range(_MOST_STEPS):
        point = headroom.at(path(now, left), source[left], guess)
        with np.errstate(invalid="ignore"):
            beyond = (point.h - target) / width
        safe = point.solved & (point.h.max(axis=0) <= TOLERANCE)
        low, high = np.where(safe, np.maximum(now, low), low), np.where(safe, high, np.minimum(now, high))
        end = safe & (now >= 1.0)
        share[left[safe]] = low[safe]
        named = np.where(end, -1, beyond.argmax(axis=0))
        news = safe | (row[left] < 0)  # an unsafe place names its limit until a safe one does
        row[left[news]] = named[news]
        done = end | (safe & (beyond.max(axis=0) >= -0.5)) | (high - low <= 1e-13)

        with np.errstate(all="ignore"):
            slope = (point.h - before.h) / (now - share_before)
            ahead = np.where(slope > 0, (target - point.h) / slope, np.inf).min(axis=0)
            following = np.minimum(now + ahead, 1.0)
            lost = ~((following > low) & (following < high))
            following = np.where(lost, (low + np.minimum(high, 1.0)) / 2.0, following)
            onward = (following - now) / (now - share_before)
            guess = point.load_v + onward * (point.load_v - before.load_v)
        done |= safe & (np.abs(following - now) <= 1e-13)
        if done.all():
            return
        go = ~done
        sensible = (point.solved & before.solved & np.isfinite(guess).all(axis=0))[go]
        before, share_before, now, left = _part(point, go), now[go], following[go], left[go]
        low, high, target, width = low[go], high[go], target[:, go], width[:, go]
        guess = guess[:, go]
        if not sensible.all():
            idle = headroom.model.w[headroom.model.load_bus][:, None] * source[left]
            guess = np.where(sensible, guess, idle)
