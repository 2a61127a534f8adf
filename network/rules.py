"""How limits share what a network can carry.

A rule of the first kind is a path: all limits follow one share α together, from the floors (0) to the caps (1), and the
envelope is the last point of it that the network carries::

    "proportional"         limit = max(floor, α · cap)                                              (1)
    "equal"                limit = clip(λ, floor, cap),  λ = α · largest cap                        (2)
    "max_min"              as "equal", but only those stop who strain the limit that is met         (3)
    "last_in_first_out"    limit = clip(α · Σ cap − Σ caps of those connected before, floor, cap),
                           the first connected first; those who do not strain the limit go on [1]_  (4)

A rule of the second kind is an optimum, found by :mod:`network.allocation`::

    "max_total"               max Σ w_i x_i                                                         (5)
    "proportional_fairness"   max Σ w_i log x_i                                                     (6)
    "alpha_fair"              max Σ w_i x_i^(1−a) / (1−a), a > 0; a = 1 is (6), a large is near (3) (7)

A weight w makes a connection count more: in (1) to (3) its limit grows w times as fast, in (5) to (7) its kW are worth
w times as much.

References
----------
.. [1] L. Kane and G. Ault, "A review and analysis of renewable energy curtailment schemes and Principles of Access",
   Energy Policy 72, 2014.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RULES", "Rule", "Sharing"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]


def _none(share: Vector, cap: Vector, floor: Vector) -> Vector:
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Rule:
    """How limits share what the network can carry."""

    limit_kw: Callable[[Vector, Vector, Vector], Vector] = _none
    """(share (S,) or (c, S), cap (c, S), floor (c, S)) -> limits (c, S): floors at 0, caps at 1, growing in between."""

    goes_on: bool = False
    """Whether those who do not strain the limit that is met go on."""

    optimum: bool = False
    """Whether it is the second kind: no path."""

    weighs: bool = True
    """Whether a weight makes a limit grow faster; a queue knows its order alone."""


def _proportional(share: Vector, cap: Vector, floor: Vector) -> Vector:
    return np.asarray(np.maximum(floor, share * cap))


def _equal(share: Vector, cap: Vector, floor: Vector) -> Vector:
    return np.asarray(np.minimum(np.maximum(floor, share * cap.max(axis=0, initial=0.0)), cap))


def _queue(share: Vector, cap: Vector, floor: Vector) -> Vector:
    until = np.cumsum(cap, axis=0)
    total = until[-1] if len(until) else 0.0
    # the last of the queue must not lose its cap to rounding
    return np.asarray(np.maximum(floor, np.where(share >= 1.0, cap, np.clip(share * total - (until - cap), 0.0, cap))))


RULES: dict[str, Rule] = {
    "proportional": Rule(_proportional),
    "equal": Rule(_equal),
    "max_min": Rule(_equal, goes_on=True),
    "last_in_first_out": Rule(_queue, goes_on=True, weighs=False),
    "max_total": Rule(optimum=True),
    "proportional_fairness": Rule(optimum=True),
    "alpha_fair": Rule(optimum=True),
}
"""The rules by name; a plug-in adds its own."""


@dataclass(frozen=True, slots=True, eq=False)
class Sharing:
    """A rule with what it knows of the connections."""

    name: str

    rule: Rule

    weight: Vector
    """Shape (c,)."""

    order: Index
    """The connections, the first connected first.  Shape (c,)."""

    alpha: float = 2.0
    """a of (7)."""

    def limit_kw(self, share: Vector, cap: Vector, floor: Vector) -> Vector:
        """Return the limits at a share of the path: (S,), (c, S), (c, S) to (c, S). [kW]"""
        weight, order = self.weight, self.order
        if not self.rule.weighs or not weight.size or (weight == weight[0]).all():
            speeds: Vector = share
        else:
            speeds = np.minimum(share * (weight / weight[weight > 0].min())[order, None], 1.0)
        limit = np.empty_like(cap)
        limit[order] = self.rule.limit_kw(speeds, cap[order], floor[order])
        return limit
