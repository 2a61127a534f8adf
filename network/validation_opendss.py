"""The third opinion on a validation: the worst cases, and some of the draws, calculated by OpenDSS too, where it is installed.

power-grid-model confirms every validation (:mod:`network.validation_referee`); OpenDSS, a program of other people with another
method, is asked for the voltages of at most :data:`MOST` uses: every worst case, the rest spread evenly over what was drawn
at random.  Voltages that differ by more than :data:`~network.validation_referee.AGREES_PU`, or a use that only we can solve, mean
that nothing is confirmed.  Where it cannot be asked, the opinion says why in a sentence.

Limits: voltages only, of uses that we can solve; and the transformers that :mod:`network.referee_opendss` can tell it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network import referee_opendss
from network.acflow import Model
from network.referee import RefereeError
from network.validation_referee import AGREES_PU

__all__ = ["MOST", "ThirdOpinion", "all_of", "spread", "third_opinion"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

MOST = 200
"""So many uses are asked about at most: OpenDSS takes them one by one."""


@dataclass(frozen=True, slots=True)
class ThirdOpinion:
    """What OpenDSS says of some operating points."""

    points: int = 0
    """How many it was asked about."""

    voltage_pu: float = 0.0
    """Largest difference of a voltage. [p.u.]"""

    disagreeing: int = 0
    """Points that we can solve and it cannot."""

    why_not: str = ""
    """Why it was not asked, a sentence; "" where it was."""

    @property
    def agrees(self) -> bool:
        """Whether nothing that it was asked about is otherwise than we say."""
        return self.disagreeing == 0 and self.voltage_pu <= AGREES_PU


def third_opinion(model: Model, injection: Complex, source: Vector) -> ThirdOpinion:
    """Ask OpenDSS about operating points.

    Parameters
    ----------
    model
        The feeder with its connections.
    injection : shape (c, K)
        [kW + j kvar]
    source : shape (K,)
        Voltage of the source. [p.u.]
    """
    if not len(source):
        return ThirdOpinion()
    ours = model.solve(injection.real, injection.imag, source)
    asked = ours.converged
    if not asked.any():
        return ThirdOpinion()
    p, q = -injection.real[:, asked], -injection.imag[:, asked]
    try:
        theirs = referee_opendss.check(
            model.feeder, model.connection_bus, p, q, source[asked], model.connection_phase
        )  # fmt: skip
    except RefereeError as error:
        return ThirdOpinion(why_not=str(error))
    mine = ours.v_pu[:, asked]
    apart = np.abs((mine if model.three_phase else np.repeat(mine, 3, axis=0)) - theirs.v_pu)[:, theirs.converged]
    return ThirdOpinion(
        points=int(asked.sum()),
        voltage_pu=float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0)),
        disagreeing=int((~theirs.converged).sum()),
    )


def all_of(opinions: Sequence[ThirdOpinion]) -> ThirdOpinion:
    """Return several opinions as one."""
    return ThirdOpinion(
        points=sum(one.points for one in opinions),
        voltage_pu=max((one.voltage_pu for one in opinions), default=0.0),
        disagreeing=sum(one.disagreeing for one in opinions),
        why_not=next((one.why_not for one in opinions if one.why_not), ""),
    )


def spread(first: int, many: int, most: int) -> Index:
    """Return which of ``many`` columns are asked about: the ``first`` ones, and others spread evenly, ``most`` in all.

    >>> spread(2, 10, 5).tolist()
    [0, 1, 2, 5, 9]
    """
    others = min(max(most - first, 0), many - first)
    picked = np.linspace(first, many - 1, others).astype(np.intp) if others else np.empty(0, dtype=np.intp)
    return np.concatenate([np.arange(min(first, most), dtype=np.intp), picked])
