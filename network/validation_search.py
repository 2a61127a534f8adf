"""Looking beside the corners: change one customer, then two, wherever that makes things worse.

The corners of :mod:`network.vertices` are exact for linear rows.  From the worst of them in AC the search turns single
customers from one end of their envelope to the other, and pairs of them, takes the worst, and begins again until nothing is
worse.  It proves nothing, and has found nothing on the feeders in the tests; it is there to be wrong about that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.validation_box import Box
from network.validation_measure import Measure
from network.validation_tally import Tally

__all__ = ["Found", "flip_search"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

_MOST_PAIRS = 6000
_MOST_ROUNDS = 10
_WORSE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Where a search ended."""

    u: Vector
    """The use.  Shape (c',) or (2c',)."""

    beyond: float
    """How far its limit is passed, relative to itself."""

    gained: float
    """How much worse than where it began."""

    rounds: int


def flip_search(
    measure: Measure, box: Box, u: Vector, interval: int, kind: int, rng: np.random.Generator, tally: Tally
) -> Found:
    """Follow a kind of limit uphill from one use, and add all that is tried to the tally.

    Parameters
    ----------
    measure, box
        The feeder with its limits, and the uses.
    u : shape (c',) or (2c',)
        Where to begin, zeros and ones; with the free reactive power's own, each is turned by itself.
    interval
        Its interval.
    kind
        Index of :data:`~network.validation_measure.KINDS`.
    rng
        Draws the pairs where there are too many for all.
    """
    n = len(u)
    first, second = np.triu_indices(n, k=1)
    if len(first) > _MOST_PAIRS:
        some = np.sort(rng.choice(len(first), _MOST_PAIRS, replace=False))
        first, second = first[some], second[some]
    best = np.asarray(u, dtype=np.float64)
    start = now = _value(measure, box, best[:, None], interval, kind, tally)[0]
    rounds = 0
    while rounds < _MOST_ROUNDS:
        rounds += 1
        singles = np.abs(best[:, None] - np.eye(n))
        tried = _value(measure, box, singles, interval, kind, tally)
        at = int(tried.argmax()) if n else 0
        if n and tried[at] > now + _WORSE:
            best, now = singles[:, at], tried[at]
            continue
        pairs = np.repeat(best[:, None], len(first), axis=1)
        columns = np.arange(len(first))
        for one in (first, second):
            pairs[one, columns] = 1.0 - pairs[one, columns]
        tried = _value(measure, box, pairs, interval, kind, tally)
        at = int(tried.argmax()) if len(first) else 0
        if not len(first) or tried[at] <= now + _WORSE:
            break
        best, now = pairs[:, at], tried[at]
    return Found(best, float(now), float(now - start) if np.isfinite(start) else 0.0, rounds)


def _value(measure: Measure, box: Box, u: Vector, interval: int, kind: int, tally: Tally) -> Vector:
    """Return how far the kind of limit is passed at some uses.  Shape (S,)."""
    where = np.full(u.shape[1], interval, dtype=np.intp)
    injection, source = box.injection(u, where), box.source_v_pu[where]
    reading = measure.read(injection, source)
    tally.add(measure, reading, injection, source, where)
    return np.asarray(reading.beyond[kind])
