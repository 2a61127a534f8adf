"""How evenly an envelope treats those who have one.

For the limits x_i of n connections in one interval, c_i their caps, s_i = x_i / c_i their shares (of kW, s_i = x_i, where no
caps are known)::

    total Σ x,   mean and least share,   Jain (Σ s)² / (n Σ s²) [1]_,   Gini Σ_ij |s_i − s_j| / (2 n Σ s)    (1)

Jain is 1 where all are alike and 1/n where one has all; Gini is 0 and 1 − 1/n.  Both are of the shares, so that a large contract
is not an inequity; of nothing at all they are NaN.  With the shares in rising order the double sum is Σ_i (2i − n − 1) s_i · 2.

References
----------
.. [1] R. Jain, D. Chiu and W. Hawe, "A quantitative measure of fairness", DEC TR-301, 1984.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Equity", "equity"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

_AT_FLOOR_KW = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Equity:
    """Figures for each of T intervals."""

    total_kw: Vector
    """Shape (T,). [kW]"""

    mean_share: Vector
    """Of its cap, of everybody who has one; of all kW where no caps are known.  Shape (T,)."""

    least_share: Vector
    """Likewise, of the worst served; NaN where nobody has a cap.  Shape (T,)."""

    worst: Index
    """Who that is, a row of the limits; −1 where there is none.  Shape (T,)."""

    jain: Vector
    """Of the shares.  Shape (T,)."""

    gini: Vector
    """Of the shares.  Shape (T,)."""

    at_floor: Index
    """How many have their floor and no more, though their cap is above.  Shape (T,)."""


def equity(limit_kw: ArrayLike, cap_kw: ArrayLike | None, floor_kw: ArrayLike | None = None) -> Equity:
    """Return how evenly limits are spread.

    Parameters
    ----------
    limit_kw : shape (c, T)
        Limits of one side; what is not finite (inf: no envelope) does not count. [kW]
    cap_kw : shape (c,) or (c, T)
        What each could use at most; who could use nothing does not count.  None: not known. [kW]
    floor_kw : shape (c,) or (c, T)
        What each has in any case; None: nothing. [kW]

    Examples
    --------
    >>> found = equity([[4.0], [2.0], [0.0]], [4.0, 4.0, 4.0])
    >>> [round(float(x[0]), 3) for x in (found.total_kw, found.mean_share, found.least_share, found.jain, found.gini)]
    [6.0, 0.5, 0.0, 0.6, 0.444]
    >>> int(found.worst[0]), int(found.at_floor[0])
    (2, 1)
    """
    limit = np.asarray(limit_kw, dtype=np.float64)
    c, steps = limit.shape
    floor = _each(np.zeros(c) if floor_kw is None else floor_kw, limit)
    cap = _each(np.full(c, np.inf) if cap_kw is None else cap_kw, limit)
    counts = np.isfinite(limit) & (cap > 0)
    share = np.divide(limit, np.where(np.isinf(cap), 1.0, cap), out=np.zeros(limit.shape), where=counts)
    n = counts.sum(axis=0)
    total, square = share.sum(axis=0), (share**2).sum(axis=0)
    order = np.arange(1, c + 1)[:, None]
    weight = np.where(order <= n, 2.0 * order - n - 1.0, 0.0)
    rising = np.sort(np.where(counts, share, np.inf), axis=0)
    apart = (weight * np.where(order <= n, rising, 0.0)).sum(axis=0)
    worst = np.where(counts, share, np.inf).argmin(axis=0) if c else np.zeros(steps, dtype=np.intp)
    blank = np.full(steps, np.nan)
    return Equity(
        total_kw=np.where(np.isfinite(limit), limit, 0.0).sum(axis=0),
        mean_share=np.divide(total, n, out=blank.copy(), where=n > 0),
        least_share=np.where(n > 0, rising.min(axis=0, initial=np.inf), np.nan),
        worst=np.where(n > 0, worst, -1),
        jain=np.minimum(np.divide(total**2, n * square, out=blank.copy(), where=square > 0), 1.0),
        gini=np.maximum(np.divide(apart, n * total, out=blank.copy(), where=total > 0), 0.0),
        at_floor=(counts & (limit <= floor + _AT_FLOOR_KW) & (cap > floor + _AT_FLOOR_KW)).sum(axis=0),
    )


def _each(given: ArrayLike, limit: Vector) -> Vector:
    """Return numbers of each, or of each and every interval, as a table like the limits."""
    table = np.asarray(given, dtype=np.float64)
    return np.broadcast_to(table[:, None] if table.ndim == 1 else table, limit.shape)
