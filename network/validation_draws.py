"""How people may use their envelopes: ways to draw a point of the box [low, high] of every customer.

A use is a number u in [0, 1] for each customer: 0 draws all it may, 1 feeds in all it may.  Uniform and independent
draws, the obvious test, meet nearly always the harmless middle of the box: by the law of large numbers fifty customers
together behave like their mean.  People are not independent: they share the sun, the price, the evening and sometimes
the aggregator.  So there are several ways, and the worst of them counts:

=====================  ================================================================================
``uniform``            independent, anything equally likely
``vertices``           independent, everything or nothing: u is 0 or 1
``beta``               independent, near the ends: Beta(0.2, 0.2)
``phase_correlated``   those on one phase do nearly the same, Beta(0.2, 0.2) for each phase, ±0.1 for each customer
``area_correlated``    likewise those on one branch of the feeder
``time_correlated``    whole days: a Gaussian walk with a correlation of 0.95 from interval to interval, half of its
                       variance common to all, u = Φ(walk)
=====================  ================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DAYS", "USES", "Crowd", "draw_days", "uses_of"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

DAYS = "time_correlated"
"""The use that is drawn as whole days."""

_ENDS = 0.2
_OWN = 0.1
_MEMORY = 0.95
_COMMON = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Crowd:
    """Who has an envelope, and with whom they have something in common."""

    phase: Index
    """Number of the phase of each.  Shape (c',)."""

    area: Index
    """Number of the feeder's branch of each.  Shape (c',)."""

    @property
    def n(self) -> int:
        """How many there are, c'."""
        return len(self.phase)


def _uniform(rng: np.random.Generator, crowd: Crowd, points: int) -> Vector:
    return rng.random((crowd.n, points))


def _vertices(rng: np.random.Generator, crowd: Crowd, points: int) -> Vector:
    return rng.integers(0, 2, (crowd.n, points)).astype(np.float64)


def _beta(rng: np.random.Generator, crowd: Crowd, points: int) -> Vector:
    return rng.beta(_ENDS, _ENDS, (crowd.n, points))


def _alike(rng: np.random.Generator, group: Index, points: int) -> Vector:
    common = rng.beta(_ENDS, _ENDS, (int(group.max(initial=-1)) + 1, points))[group]
    return np.asarray(np.clip(common + rng.uniform(-_OWN, _OWN, common.shape), 0.0, 1.0))


def _phase_correlated(rng: np.random.Generator, crowd: Crowd, points: int) -> Vector:
    return _alike(rng, crowd.phase, points)


def _area_correlated(rng: np.random.Generator, crowd: Crowd, points: int) -> Vector:
    return _alike(rng, crowd.area, points)


USES: dict[str, Callable[[np.random.Generator, Crowd, int], Vector]] = {
    "uniform": _uniform,
    "vertices": _vertices,
    "beta": _beta,
    "phase_correlated": _phase_correlated,
    "area_correlated": _area_correlated,
}
"""The ways in which single moments are drawn: (rng, crowd, S) -> u (c', S).  A plug-in adds its own."""


def uses_of(crowd: Crowd, intervals: int) -> tuple[str, ...]:
    """Return the ways that make sense: no correlation where there is one group, no days where there is one interval."""
    left_out = {
        "phase_correlated": np.unique(crowd.phase).size < 2,
        "area_correlated": np.unique(crowd.area).size < 2,
        DAYS: intervals < 2,
    }
    return tuple(name for name in (*USES, DAYS) if not left_out.get(name, False))


def draw_days(rng: np.random.Generator, crowd: Crowd, days: int, intervals: int) -> Vector:
    """Return uses that change slowly and partly together.  Shape (c', days, intervals)."""
    from scipy.special import ndtr

    fresh = np.sqrt(1.0 - _MEMORY**2)
    own, common = rng.standard_normal((crowd.n, days)), rng.standard_normal(days)
    found = np.empty((crowd.n, days, intervals))
    for t in range(intervals):
        if t:
            own = _MEMORY * own + fresh * rng.standard_normal(own.shape)
            common = _MEMORY * common + fresh * rng.standard_normal(days)
        found[:, :, t] = ndtr(np.sqrt(_COMMON) * common + np.sqrt(1.0 - _COMMON) * own)
    return found
