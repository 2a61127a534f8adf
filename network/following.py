"""Voltages and reactive power that follows them, found together.

A step of the power flow (:mod:`network.acflow`) gives voltages, the curves give the reactive power that goes with them, and
a part ω of the difference is made up::

    V <- w v_source + Z conj((S + jq) / V),   q <- q + ω (q(|V|) − q)                                   (1)

With steep curves the whole step (ω = 1) swings: q moves the voltages by X, they move q by the slope −κ, and the swing
grows where the largest eigenvalue ρ of Xκ is above 1.  ω = 1 / (1 + ρ/2) shrinks every swing by ρ/(2 + ρ) at least, for any
falling curve.  ρ is taken from above, from |Z| and the steepest pieces of the curves, by Collatz and Wielandt: of a matrix
without negative entries no eigenvalue is larger than the largest entry of Ax/x, for any positive x.

Limit: a curve that rises with the voltage is beyond this argument; it converges or fails closed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from network.reactive import VoltVar

__all__ = ["follow"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]

_MOST_STEPS = 2000


def follow(
    answer: Callable[[Complex], Complex],
    z: Complex,
    w: Complex,
    incidence: Vector,
    power: Complex,
    source: Vector,
    tolerance_pu: float,
    curve: VoltVar,
) -> tuple[Complex, Complex, Mask, int]:
    """Iterate (1).

    Parameters
    ----------
    answer
        Z I: currents to voltages at the nodes with connections, shape (l, S) both. [p.u.]
    z : shape (l, l)
        Z itself. [p.u.]
    w : shape (l,)
        Voltages without injections, for a source of 1 pu. [p.u.]
    incidence : shape (l, c)
        What 1 kVA of each connection injects there. [p.u.]
    power, source, tolerance_pu, curve
        As of ``Model.follow``, which has the answer's shapes too.
    """
    points = len(source)
    if not len(w) or not points:
        return w[:, None] * source, power, np.ones(points, dtype=bool), 0
    watch = (incidence > 0).T.astype(np.float64)
    watch /= np.maximum(watch.sum(axis=1, keepdims=True), 1.0)  # a connection in three phases watches their mean
    per_kvar = watch @ (np.abs(z) / np.abs(w)) @ incidence
    steepest = np.abs(curve.slope_kvar_per_pu).max(axis=1, initial=0.0)
    damping = 1.0 / (1.0 + _largest(per_kvar * steepest) / 2.0)
    reach = np.abs(z) @ incidence
    free = w[:, None] * source
    voltage, reactive = free, curve.q_at(watch @ np.abs(free))
    found, with_curves, done = np.full_like(power, np.nan), power.copy(), np.zeros(points, dtype=bool)
    left, step = np.arange(points), 0
    with np.errstate(all="ignore"):
        while left.size and step < _MOST_STEPS:
            step += 1
            now = power[:, left] + 1j * (incidence @ reactive)
            following = free + answer(np.conj(now / voltage))
            move = np.abs(following - voltage).max(axis=0)
            mismatch = curve.q_at(watch @ np.abs(following)) - reactive
            settled = (move <= tolerance_pu) & ((reach @ np.abs(mismatch)).max(axis=0) <= tolerance_pu)
            found[:, left[settled]], with_curves[:, left[settled]] = following[:, settled], now[:, settled]
            done[left[settled]] = True
            go = ~settled & np.isfinite(move)
            left, free, voltage = left[go], free[:, go], following[:, go]
            reactive = reactive[:, go] + damping * mismatch[:, go]
    return found, with_curves, done, step


def _largest(matrix: Vector) -> float:
    """Return a bound of the eigenvalues of a matrix without negative entries, near the largest."""
    vector = np.ones(len(matrix))
    for _ in range(30):
        vector = matrix @ vector
        vector = np.maximum(vector / max(float(vector.max(initial=0.0)), 1e-300), 1e-9)
    return float((matrix @ vector / vector).max(initial=0.0))
