"""The least of a convex function of two numbers, as far as planes below it tell.

Where an agent's rights are free, the least cost of its space is a convex, piecewise linear function of energy E and power P::

    cost(E, P) >= constant + a E + b P     for every point that was looked at                              (1)

A mean of such planes is one, too, and the best mean in a box is the bound: three planes whose mean is level, two whose
mean is level along one axis, or a single one.  Where it is least is the next point to look at.

A box is (least energy, largest energy, least power, largest power).  The best mean is written down as what it is worth in
its box, its constant, a and b, which three planes it is of, their shares, and along which axes it is level.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT, EXACT_PART

__all__ = ["least_point", "means", "worth"]

Floats = NDArray[np.float64]


@njit(**EXACT_PART)
def _keep(
    planes: Floats, p: int, q: int, r: int, wp: float, wq: float, wr: float, level: int, box: Floats, mix: Floats
) -> None:
    """Take a mean of planes if it is the best so far; it is known to be level along energy (1), power (2) or both (3)."""
    c = wp * planes[p, 0] + wq * planes[q, 0] + wr * planes[r, 0]
    a = 0.0 if level & 1 else wp * planes[p, 1] + wq * planes[q, 1] + wr * planes[r, 1]
    b = 0.0 if level & 2 else wp * planes[p, 2] + wq * planes[q, 2] + wr * planes[r, 2]
    least = c + a * (box[0] if a >= 0.0 else box[1]) + b * (box[2] if b >= 0.0 else box[3])
    if least > mix[0]:
        mix[0], mix[1], mix[2], mix[3] = least, c, a, b
        mix[4], mix[5], mix[6], mix[7], mix[8], mix[9], mix[10] = p, q, r, wp, wq, wr, level


@njit(**EXACT)
def means(planes: Floats, p: int, box: Floats, mix: Floats) -> None:
    """Take the best of the means of plane ``p`` and those before it."""
    _keep(planes, p, p, p, 1.0, 0.0, 0.0, 0, box, mix)
    a, b = planes[p, 1], planes[p, 2]
    for q in range(p):
        for axis in range(1, 3):
            if planes[p, axis] * planes[q, axis] < 0.0:
                w = planes[q, axis] / (planes[q, axis] - planes[p, axis])
                _keep(planes, p, q, q, w, 1.0 - w, 0.0, axis, box, mix)
        a1, b1 = planes[q, 1] - a, planes[q, 2] - b
        for r in range(q):
            a2, b2 = planes[r, 1] - a, planes[r, 2] - b
            det = a1 * b2 - a2 * b1
            if det == 0.0:
                continue
            wq, wr = (-a * b2 + a2 * b) / det, (-a1 * b + a * b1) / det
            if wq >= 0.0 and wr >= 0.0 and wq + wr <= 1.0:
                _keep(planes, p, q, r, 1.0 - wq - wr, wq, wr, 3, box, mix)


@njit(**EXACT_PART)
def least_point(planes: Floats, box: Floats, mix: Floats) -> tuple[float, float]:
    """Return the point of a box at which the planes of the best mean are least."""
    p, q, r, level = int(mix[4]), int(mix[5]), int(mix[6]), int(mix[10])
    energy, power = box[0] if mix[2] >= 0.0 else box[1], box[2] if mix[3] >= 0.0 else box[3]
    c1, a1, b1 = planes[q, 0] - planes[p, 0], planes[q, 1] - planes[p, 1], planes[q, 2] - planes[p, 2]
    if level == 1 and a1 != 0.0:
        energy = -(c1 + b1 * power) / a1
    if level == 2 and b1 != 0.0:
        power = -(c1 + a1 * energy) / b1
    if level == 3:
        c2, a2, b2 = planes[r, 0] - planes[p, 0], planes[r, 1] - planes[p, 1], planes[r, 2] - planes[p, 2]
        det = a1 * b2 - a2 * b1
        energy, power = (-c1 * b2 + c2 * b1) / det, (-a1 * c2 + a2 * c1) / det
    return min(max(energy, box[0]), box[1]), min(max(power, box[2]), box[3])


@njit(**EXACT)
def worth(mix: Floats, box: Floats) -> float:
    """Return the least of the best mean in another box."""
    least: float = mix[1] + mix[2] * box[0 if mix[2] >= 0.0 else 1] + mix[3] * box[2 if mix[3] >= 0.0 else 3]
    return least
