"""Reactive power that follows the voltage: volt-var curves.

Many inverters watch the voltage at their terminals and inject or draw reactive power by a curve, straight between its
knots and level beyond them [1]_::

    q(|V|) = q_1 + Σ_k slope_k · clip(|V| − v_k, 0, v_(k+1) − v_k),   slope_k = (q_(k+1) − q_k) / (v_(k+1) − v_k)   (1)

It comes on top of whatever reactive power is given.  ``Model.solve(..., curve=…)`` finds voltages and curve together.  A
three-phase connection watches the mean of its three voltages and acts alike in all of them.

Limits: no hysteresis and no time constant (a steady state is calculated); the curve does not know the active power, so a
limit of apparent power has to be in its knots.

References
----------
.. [1] IEEE Std 1547-2018, 5.3.3 (voltage-reactive power mode).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["CurveError", "VoltVar"]

Vector = NDArray[np.float64]


class CurveError(ValueError):
    """The curves as given are none; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class VoltVar:
    """One volt-var curve for each of c connections, of K knots.

    Examples
    --------
    Nothing at 0.98 to 1.02 pu, at most 3 kvar either way:

    >>> curve = VoltVar.build(2, {1: ([0.92, 0.98, 1.02, 1.08], [3.0, 0.0, 0.0, -3.0])})
    >>> curve.q_at(np.array([[1.05, 1.2], [1.05, 1.2]])).round(9).tolist()
    [[0.0, 0.0], [-1.5, -3.0]]
    """

    v_pu: Vector
    """Knots, rising; one may be repeated to fill up a row.  Shape (c, K). [p.u.]"""

    q_kvar: Vector
    """What is injected at each knot.  A connection without a curve has zeros.  Shape (c, K). [kvar]"""

    def __post_init__(self) -> None:
        for name in ("v_pu", "q_kvar"):
            column = np.array(getattr(self, name), dtype=np.float64)
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        v, q = self.v_pu, self.q_kvar
        if v.ndim != 2 or v.shape != q.shape or not v.shape[1]:
            raise CurveError(
                f"a volt-var curve has v_pu of shape {v.shape} and q_kvar of shape {q.shape}; expected the same: one row "
                f"for each connection, one column for each knot."
            )
        wrong = []
        for k in range(len(v)):
            if not (np.isfinite(v[k]).all() and np.isfinite(q[k]).all() and (v[k] > 0).all()):
                wrong.append(
                    f"connection {k}: the knots are {v[k].tolist()} pu and {q[k].tolist()} kvar; expected finite numbers "
                    f"and voltages above 0."
                )
            elif (np.diff(v[k]) < 0).any() or ((np.diff(v[k]) == 0) & (np.diff(q[k]) != 0)).any():
                wrong.append(f"connection {k}: the voltages of the knots are {v[k].tolist()}; they must rise.")
        if wrong:
            raise CurveError("; ".join(wrong))

    @classmethod
    def build(cls, n_connection: int, knots: Mapping[int, tuple[Sequence[float], Sequence[float]]]) -> VoltVar:
        """Return the curves of ``n_connection`` connections, of which a few have one: number -> (v_pu, q_kvar)."""
        wrong = [f"there is no connection {k} among {n_connection}" for k in knots if not 0 <= k < n_connection]
        wrong += [
            f"connection {k}: {len(v)} voltages and {len(q)} reactive powers are no curve; expected as many of both, one at least"
            for k, (v, q) in knots.items()
            if len(v) != len(q) or not len(v)
        ]
        if wrong:
            raise CurveError("; ".join(wrong) + ".")
        most = max((len(v) for v, _ in knots.values()), default=1)
        v_pu, q_kvar = np.ones((n_connection, most)), np.zeros((n_connection, most))
        for k, (v, q) in knots.items():
            v_pu[k], q_kvar[k] = v[-1], q[-1]
            v_pu[k, : len(v)], q_kvar[k, : len(q)] = v, q
        return cls(v_pu, q_kvar)

    @property
    def slope_kvar_per_pu(self) -> Vector:
        """Slope between one knot and the next (falling where high voltages are fought).  Shape (c, K − 1). [kvar/p.u.]"""
        wide = np.diff(self.v_pu)
        return np.divide(np.diff(self.q_kvar), wide, out=np.zeros_like(wide), where=wide > 0)

    def q_at(self, v_pu: Vector) -> Vector:
        """Return what is injected at some voltages: shape (c, S) to (c, S). [p.u.] to [kvar]"""
        slope, wide = self.slope_kvar_per_pu, np.diff(self.v_pu)
        found = np.repeat(self.q_kvar[:, :1], v_pu.shape[1], axis=1)
        for k in range(wide.shape[1]):
            found += slope[:, k, None] * np.clip(v_pu - self.v_pu[:, k, None], 0.0, wide[:, k, None])
        return found
