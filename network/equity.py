"""How evenly an envelope treats those who have one.

For the limits x_i of n connections in one interval, c_i their caps::

    total Σ x,   least share min x_i / c_i,   Jain (Σ x)² / (n Σ x²) [1]_,   Gini Σ_ij |x_i − x_j| / (2 n Σ x)

Jain is 1 where all are alike and 1/n where one has all; Gini is 0 and 1 − 1/n.  Both are of the shares x_i / c_i, so that a
large contract is not an inequity; of nothing at all they are NaN.

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

    least_share: Vector
    """Of its cap, of the worst served; NaN where nobody has a cap.  Shape (T,)."""

    jain: Vector
    """Of the shares.  Shape (T,)."""

    gini: Vector
    """Of the shares.  Shape (T,)."""

    at_floor: Index
    """How many have their floor and no more, though their cap is above.  Shape (T,)."""


def equity(limit_kw: ArrayLike, cap_kw: ArrayLike, floor_kw: ArrayLike | None = None) -> Equity:
    """Return how evenly limits are spread.

    Parameters
    ----------
    limit_kw : shape (c, T)
        Limits of one side; rows that are inf (no envelope) do not count. [kW]
    cap_kw, floor_kw : shape (c,) or (c, T)
        What each could use at most, and what it has in any case; None: nothing. [kW]

    Examples
    --------
    >>> found = equity([[4.0], [2.0], [0.0]], [4.0, 4.0, 4.0])
    >>> [round(float(x[0]), 3) for x in (found.total_kw, found.least_share, found.jain, found.gini)], int(found.at_floor[0])
    ([6.0, 0.0, 0.6, 0.444], 1)
    """
    limit = np.asarray(limit_kw, dtype=np.float64)
    cap, floor = (
        np.broadcast_to(table[:, None] if table.ndim == 1 else table, limit.shape)
        for table in (
            np.asarray(given, dtype=np.float64)
            for given in (cap_kw, np.zeros(len(limit)) if floor_kw is None else floor_kw)
        )
    )
    counts = np.isfinite(limit) & (cap > 0)
    share = np.divide(limit, cap, out=np.zeros(limit.shape), where=counts)
    n, steps = counts.sum(axis=0), limit.shape[1]
    total, square = share.sum(axis=0), (share**2).sum(axis=0)
    apart = np.array([np.abs(np.subtract.outer(x, x)).sum() for x in (share[counts[:, t], t] for t in range(steps))])
    blank = np.full(steps, np.nan)
    return Equity(
        total_kw=np.where(np.isfinite(limit), limit, 0.0).sum(axis=0),
        least_share=np.where(n > 0, np.where(counts, share, np.inf).min(axis=0, initial=np.inf), np.nan),
        jain=np.divide(total**2, n * square, out=blank.copy(), where=square > 0),
        gini=np.divide(apart, 2.0 * n * total, out=blank.copy(), where=total > 0),
        at_floor=(counts & (limit <= floor + _AT_FLOOR_KW) & (cap > floor + _AT_FLOOR_KW)).sum(axis=0),
    )
