"""The second opinion on a validation: the worst cases and a random part of all tries, calculated by power-grid-model.

Our own kernel tries a million uses; :mod:`network.referee` shares no code with it (where the feeder has what it does not know, the
referee is OpenDSS: :mod:`network.referee_choice`).  It is asked for the voltages and loadings
of every case that is given to it, and for the same three figures as :class:`~network.validation_measure.Reading`.  Voltages that
differ by more than :data:`AGREES_PU` anywhere, a loading by more than :data:`AGREES_PERCENT`, or a case without a solution on its side
that has one on ours, mean that nothing is confirmed.  Where we find no solution (which counts as a violation), it may find one
near the nose of the curve, where our iteration does not contract; it agrees as long as that breaks a limit too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.acflow import Flow, Model
from network.referee import check
from network.referee_choice import OPENDSS, POWER_GRID_MODEL, instead, opendss_flow
from network.validation_measure import TOLERANCE, Measure

__all__ = ["AGREES_PERCENT", "AGREES_PU", "SecondOpinion", "second_opinion", "together"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

AGREES_PU = 1e-6
AGREES_PERCENT = 1e-3
_AT_ONCE = 128  # its answers are large: so many operating points at a time


@dataclass(frozen=True, slots=True, eq=False)
class SecondOpinion:
    """What the referee says of K operating points."""

    points: int

    voltage_pu: float
    """Largest difference of a voltage. [p.u.]"""

    loading_percent: float
    """Largest difference of a loading. [%]"""

    disagreeing: int
    """Points that only we can solve, or that it finds safe where we find no solution."""

    beyond: Vector
    """How far each kind of limit is passed, by the referee, as in :class:`~network.validation_measure.Reading`.  Shape (3, K)."""

    instead: str = ""
    """Why it is OpenDSS who says so: what power-grid-model does not know of the feeder; "" where power-grid-model says it."""

    @property
    def by(self) -> str:
        """Who says so."""
        return OPENDSS if self.instead else POWER_GRID_MODEL

    @property
    def agrees(self) -> bool:
        """Whether the referee confirms every point."""
        return self.disagreeing == 0 and self.voltage_pu <= AGREES_PU and self.loading_percent <= AGREES_PERCENT


def second_opinion(
    measure: Measure,
    injection: Complex,
    source: Vector,
    progress: Callable[[str, int, int], None] | None = None,
) -> SecondOpinion:
    """Calculate operating points a second time.

    Parameters
    ----------
    measure
        The feeder and its limits.
    injection : shape (c, K)
        [kW + j kvar]
    source : shape (K,)
        Voltage of the source. [p.u.]
    progress
        Is told "referee", how many points are done, and of how many.
    """
    model, points = measure.model, injection.shape[1]
    beyond = np.full((3, points), -np.inf)
    voltage, loading, disagreeing = [0.0], [0.0], 0
    lacking = instead(model)
    for begin in range(0, points, _AT_ONCE):
        part = slice(begin, begin + _AT_ONCE)
        p, q = injection.real[:, part], injection.imag[:, part]
        ours = model.solve(p, q, source[part])
        theirs = opendss_flow(model, p, q, source[part], ours) if lacking else _checked(model, p, q, source[part])
        both = ours.converged & theirs.converged
        voltage.append(_apart(ours.v_pu[:, both], theirs.v_pu[:, both]))
        rated = measure.has_most
        loading.append(_apart(ours.loading_percent[rated][:, both], theirs.loading_percent[rated][:, both]))
        beyond[:, part] = _beyond(measure, theirs)
        kept = beyond[:, part].max(axis=0) <= TOLERANCE
        disagreeing += int((ours.converged & ~theirs.converged).sum() + (~ours.converged & kept).sum())
        if progress is not None:
            progress("referee", min(begin + _AT_ONCE, points), points)
    return SecondOpinion(points, max(voltage), max(loading), disagreeing, beyond, lacking)


def _checked(model: Model, p: Vector, q: Vector, source: Vector) -> Flow:
    """Return the referee's flows: the quick method, and the sturdy one where that has no answer."""
    feeder, bus, phase = model.feeder, model.connection_bus, model.connection_phase
    flow = check(feeder, bus, -p, -q, source, phase, many=True)
    lost = np.flatnonzero(~flow.converged)
    if lost.size:
        again = check(feeder, bus, -p[:, lost], -q[:, lost], source[lost], phase)
        for name in ("v_pu", "loading_percent"):
            getattr(flow, name)[:, lost] = getattr(again, name)
        flow.converged[lost] = again.converged
    return flow


def together(opinions: Sequence[SecondOpinion]) -> SecondOpinion:
    """Return several opinions as one."""
    return SecondOpinion(
        sum(one.points for one in opinions),
        max((one.voltage_pu for one in opinions), default=0.0),
        max((one.loading_percent for one in opinions), default=0.0),
        sum(one.disagreeing for one in opinions),
        np.hstack([np.empty((3, 0)), *(one.beyond for one in opinions)]),
        next((one.instead for one in opinions if one.instead), ""),
    )


def _apart(ours: Vector, theirs: Vector) -> float:
    """Return the largest difference; a NaN agrees with nothing."""
    return float(np.nan_to_num(np.abs(ours - theirs), nan=np.inf).max(initial=0.0))


def _beyond(measure: Measure, flow: Flow) -> Vector:
    """Return (2) of :mod:`network.validation_measure` for a flow of all nodes and wires."""
    found = np.full((3, len(flow.converged)), -np.inf)
    with np.errstate(all="ignore"):
        for k, values in enumerate(
            (
                flow.v_pu[measure.has_high] / measure.node_high[measure.has_high, None] - 1.0,
                1.0 - flow.v_pu[measure.has_low] / measure.node_low[measure.has_low, None],
                flow.loading_percent[measure.has_most] / measure.wire_most[measure.has_most, None] - 1.0,
            )
        ):
            if len(values):
                found[k] = values.max(axis=0)
    found[:, ~flow.converged | np.isnan(found).any(axis=0)] = np.inf
    return found
