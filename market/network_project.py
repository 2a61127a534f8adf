"""The operator of a grid as one more agent of the exchange's iteration: its own step.

Everybody else wishes to draw y; the operator answers with what its grid can carry, as near as possible, losses counted ::

    z = argmin  Δ c (|F z|² + g z) + Σ r/2 (z − y)²   subject to   A z <= b                                        (1)

interval by interval.  Without rows the answer is a linear map, worked out once for every price of losses c (F has a
singular value decomposition in the metric r).  With rows it is that less A'ν, moved by the same map, and ν >= 0 is the
least-squares problem of the few rows that are met, by the active-set method of Lawson and Hanson [1]_, warm from the last
time.  ν/Δ is what a unit of the row is worth: the congestion price.

Only rows that have ever been broken are looked at in every iteration, all of them now and then.

References
----------
.. [1] C. L. Lawson and R. J. Hanson, "Solving Least Squares Problems", Prentice-Hall, 1974, chapter 23.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.network_rows import Network

__all__ = ["Projection"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_NEARLY = 1e-12  # relative: rows whose direction is a copy of another's are told apart by this
_BROKEN = 1e-9  # of a row's size: what is less is rounding
_TINY = 1e-9  # singular values of the losses below this share of the largest are none


@njit(**EXACT)
def _multipliers(gram: Floats, which: NDArray[np.int64], over: Floats, small: Floats, value: Floats) -> None:
    """Fill ``value`` (w, T): ν >= 0 with gram ν >= over, and equal where ν > 0.

    ``gram`` (u, w, w) of interval t is number ``which[t]``; ``value`` holds the last answer, whose support is tried first.
    """
    count, steps = over.shape
    active = np.zeros(count, np.bool_)
    for t in range(steps):
        worst = 0.0
        for k in range(count):
            active[k] = value[k, t] > 0.0
            worst = max(worst, over[k, t] - small[k])
            value[k, t] = 0.0
        if worst <= 0.0:
            continue
        g, warm = gram[which[t]], True
        for _ in range(20 * count + 20):
            if not warm:  # the row that is broken most comes in
                best, at = 0.0, -1
                for k in range(count):
                    if not active[k]:
                        left = over[k, t]
                        for m in range(count):
                            if active[m]:
                                left -= g[k, m] * value[m, t]
                        left = (left - small[k]) / np.sqrt(g[k, k])
                        if left > best:
                            best, at = left, k
                if at < 0:
                    break
                active[at] = True
            while True:
                place = np.flatnonzero(active)
                if place.size == 0:
                    break
                size = place.size
                matrix, right = np.empty((size, size)), np.empty(size)
                for a in range(size):
                    right[a] = over[place[a], t]
                    for b in range(size):
                        matrix[a, b] = g[place[a], place[b]]
                    matrix[a, a] *= 1.0 + _NEARLY
                found = np.linalg.solve(matrix, right)
                if found.min() > 0.0:
                    for a in range(size):
                        value[place[a], t] = found[a]
                    break
                if warm:  # the old support does not fit: whoever is negative leaves, and all begin at 0
                    for a in range(size):
                        if found[a] <= 0.0:
                            active[place[a]] = False
                    continue
                share, leaves = 2.0, 0
                for a in range(size):
                    if found[a] <= 0.0:
                        now = value[place[a], t]
                        here = now / (now - found[a]) if now > 0.0 else 0.0
                        if here < share:
                            share, leaves = here, a
                for a in range(size):
                    k = place[a]
                    value[k, t] = max(value[k, t] + share * (found[a] - value[k, t]), 0.0)
                value[place[leaves], t] = 0.0
                active[place[leaves]] = False
            warm = False


class Projection:
    """Step (1) of one network and one metric.

    Parameters
    ----------
    network
        Rows and losses.
    dt_h
        Length of an interval. [h]
    metric
        r: what a kW² of distance costs at each place.  Shape (N,). [eur/kW²]
    """

    def __init__(self, network: Network, dt_h: float, metric: Floats) -> None:
        self.network, self.dt_h = network, dt_h
        self.root = np.sqrt(metric)
        self.price, which = np.unique(network.loss_eur_per_kwh, return_inverse=True)
        self.which: NDArray[np.int64] = which.astype(np.int64)
        lossy = bool(len(network.loss_factor)) and bool(self.price.max(initial=0.0) > 0.0)
        factor = network.loss_factor / self.root if lossy else np.zeros((0, network.places))
        _, size, self.basis = np.linalg.svd(factor, full_matrices=False)
        keep = size > _TINY * size.max(initial=0.0)
        self.size, self.basis = size[keep], np.ascontiguousarray(self.basis[keep])
        self.scaled = network.a_per_kw / self.root
        self.small = _BROKEN * np.maximum(np.abs(network.a_per_kw).max(axis=1, initial=0.0), 1e-300)
        self.rows: Index = np.zeros(0, dtype=np.intp)
        self.value = np.zeros((0, network.steps))
        self.gram = np.zeros((len(self.price), 0, 0))
        self.strength = 0.0

    def prepare(self, strength: float) -> None:
        """Set what the whole metric is multiplied by."""
        self.strength = strength
        shrink = 2.0 * self.dt_h * self.price[:, None] * self.size**2 / strength
        self.kept = -shrink / (1.0 + shrink)  # what the map adds to 1 along the basis
        self._grams()

    def _grams(self) -> None:
        some = self.scaled[self.rows]
        along = some @ self.basis.T
        self.gram = np.stack([(some @ some.T + (along * kept) @ along.T) / self.strength for kept in self.kept])

    def _mapped(self, v: Floats) -> Floats:
        """Return v moved by the map of the losses, in the scaled coordinates."""
        if not len(self.size):
            return v
        return np.asarray(v + self.basis.T @ (self.kept[self.which].T * (self.basis @ v)))

    def nearest(self, wish: Floats, thorough: bool) -> tuple[Floats, Floats]:
        """Return z of shape (N, T) and ν of shape (k, T) for a wish y of shape (N, T); every row is looked at if ``thorough``."""
        net = self.network
        v = self.root[:, None] * wish
        if self.price.max(initial=0.0) > 0.0:
            slope = net.loss_slope / self.root[:, None]
            v = self._mapped(v - self.dt_h / self.strength * net.loss_eur_per_kwh * slope)
        found = np.zeros_like(net.b)
        while True:
            z = v
            if self.rows.size:
                some = self.scaled[self.rows]
                _multipliers(self.gram, self.which, some @ v - net.b[self.rows], self.small[self.rows], self.value)
                met = np.flatnonzero(self.value.any(axis=0))
                if met.size:
                    pull = np.zeros_like(v)
                    pull[:, met] = some.T @ self.value[:, met] / self.strength
                    z = v - self._mapped(pull)
            if not thorough:
                break
            broken = (self.scaled @ z - net.b > self.small[:, None]).any(axis=1)
            broken[self.rows] = False
            if not broken.any():
                break
            self.rows = np.concatenate([self.rows, np.flatnonzero(broken)])
            self.value = np.vstack([self.value, np.zeros((int(broken.sum()), net.steps))])
            self._grams()
        found[self.rows] = self.value
        return z / self.root[:, None], found
