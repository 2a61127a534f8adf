"""What goes wrong with messages, as the limits that customers then act on.

The envelope is computed, but does not arrive, or not as it was meant.  Each fault turns the published limits into those
that the affected customers keep instead:

================  ======================================================================================================
``gap``           no control covers an interval: nothing is kept there but the device's own rating
``lost``          no message arrived, and the device has no default: its rating, in all intervals
``fallback``      no message arrived, and the device keeps its default control
``late``          every control arrives one interval late: the limits of the interval before
``overlap``       two controls for one interval (its own and the next one's), and the looser one is kept
``superseded``    a newer envelope replaced this customer's earlier one, which it still keeps
``wrong_owner``   two customers' envelopes are exchanged: the limits of the next one in the list
================  ======================================================================================================

A default control is safe only if the network was planned for it (a floor of the envelope); nothing here assumes that.
Where no earlier issue is known, ``superseded`` keeps in each interval the loosest limit of all intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAULTS", "Published", "acted_on"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]

FAULTS = ("gap", "lost", "fallback", "late", "overlap", "superseded", "wrong_owner")
"""The faults by name."""


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Limits of one direction for the c' customers that have an envelope, and what their devices do without it."""

    limit_kw: Vector
    """Shape (c', T). [kW]"""

    rating_kw: Vector
    """What the device could do at most.  Shape (c', T). [kW]"""

    default_kw: Vector
    """Its default control.  Shape (c', T). [kW]"""

    earlier_kw: Vector | None = None
    """The issue before, None where there was none.  Shape (c', T). [kW]"""


def acted_on(fault: str, published: Published, affected: Mask, interval: int = 0) -> Vector:
    """Return the limits that everybody keeps.

    Parameters
    ----------
    fault
        A name of :data:`FAULTS`.
    published
        One direction.
    affected : shape (c',)
        Whose messages are faulty.
    interval
        The interval of a gap.

    Returns
    -------
    shape (c', T)
        [kW]

    Examples
    --------
    >>> limit, rating = np.array([[1.0, 2.0], [3.0, 4.0]]), np.full((2, 2), 9.0)
    >>> acted_on("late", Published(limit, rating, rating * 0), np.array([True, False]))
    array([[1., 1.],
           [3., 4.]])
    """
    limit = published.limit_kw
    wrong = limit.copy()
    if fault == "gap":
        wrong[:, interval] = published.rating_kw[:, interval]
    elif fault == "lost":
        wrong = published.rating_kw.copy()
    elif fault == "fallback":
        wrong = published.default_kw.copy()
    elif fault == "late":
        wrong[:, 1:] = limit[:, :-1]
    elif fault == "overlap":
        wrong[:, :-1] = np.maximum(limit[:, :-1], limit[:, 1:])
    elif fault == "superseded":
        earlier = published.earlier_kw
        wrong = (
            np.broadcast_to(limit.max(axis=1, keepdims=True), limit.shape).copy() if earlier is None else earlier.copy()
        )
    elif fault == "wrong_owner":
        who = np.flatnonzero(affected) if affected.sum() > 1 else np.arange(len(limit))
        wrong[who] = limit[np.roll(who, -1)]
    else:
        raise ValueError(f"there is no fault {fault!r}. There are {', '.join(FAULTS)}.")
    return np.asarray(np.where(affected[:, None], wrong, limit))
