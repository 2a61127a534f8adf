"""The voltage unbalance factor at the corners: negative- over positive-sequence voltage.

    VUF = |V_a + a² V_b + a V_c| / |V_a + a V_b + a² V_c|,   a = e^(j120°)                               (1)

It is not linear in the injections and has no row of its own, but its numerator is convex in them and largest at a corner of the
box while the positive sequence hardly moves.  Only buses with three phases have one.
"""

from __future__ import annotations

import numpy as np

from network.validation_tries import Trial

__all__ = ["worst_unbalance"]

_TOLERANCE_PERCENT = 1e-6
_AT_ONCE = 512
_TURN = np.exp(2j * np.pi / 3)
_POSITIVE = np.array([1.0, _TURN, _TURN**2])
_NEGATIVE = _POSITIVE.conj()


def worst_unbalance(trial: Trial, most_percent: float) -> tuple[float, str, bool]:
    """Return the largest factor (1) of the watched buses at any corner, its bus, and whether it is above what is allowed.

    A corner without a solution is above.  NaN and "" in a balanced model.
    """
    headroom, box = trial.measure.headroom, trial.box
    model = headroom.model
    if not model.three_phase or most_percent == np.inf:
        return np.nan, "", False
    buses = np.flatnonzero((headroom.bounds[1] < np.inf) & model.feeder.conductors.all(axis=1))
    worst, where, lost = 0.0, "", False
    if not buses.size:
        return np.nan, "", False
    for uses, intervals, _ in trial.corners.columns(trial.kept):
        for begin in range(0, len(intervals), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            source = box.source_v_pu[intervals[part]]
            load_v, power, solved = headroom.settle(box.injection(uses[:, part], intervals[part]), source)
            lost |= not solved.all()
            voltage = model.voltages(np.conj(power / load_v), source)[:, solved].reshape(model.feeder.n_bus, 3, -1)[
                buses
            ]
            if not voltage.size:
                continue
            positive, negative = (np.abs(np.einsum("k,nks->ns", turn, voltage)) for turn in (_POSITIVE, _NEGATIVE))
            factor = 100.0 * negative / positive
            at = np.unravel_index(factor.argmax(), factor.shape)
            if factor[at] > worst:
                worst, where = float(factor[at]), model.feeder.buses.ids[buses[at[0]]]
    return worst, where, bool(lost or worst > most_percent + _TOLERANCE_PERCENT)
