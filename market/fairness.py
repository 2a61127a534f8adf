"""Is a division of what a community gains one that everybody can accept?  Three questions, whatever the rule was.

For members i with gains g_i (what i pays less than alone, after payments) and payments m_i (paid +, received −)::

    individual rationality    g_i >= 0 for every i                 nobody is worse off than alone                    (1)
    budget balance            Σ m_i = 0                            nobody outside pays, nothing is left over         (2)
    no objection              v(S) − Σ_S g_i <= 0 for every S      no coalition S, which alone would gain v(S), does
                                                                   better by leaving; the largest is the excess      (3)

(1) to (3) together say that the division is in the core [1]_.  Every mechanism answers (1) and (2); (3) needs the values
of coalitions and is NaN where nobody computed them.  Equality is meant up to a tolerance in euro, which stands in the
answer; NaN never passes.

References
----------
.. [1] D. B. Gillies, "Solutions to general non-zero-sum games", in Contributions to the Theory of Games IV, Princeton
   University Press, 1959.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["Excess", "Fairness", "FairnessError", "fairness"]


class FairnessError(ValueError):
    """Names, gains and payments do not fit together."""


@dataclass(frozen=True, slots=True)
class Excess:
    """The strongest objection that was found."""

    excess_eur: float
    """What the coalition gains alone less what its members get: above 0 it does better by leaving."""
    coalition: tuple[str, ...]
    """Who objects most; empty where there is no coalition to ask."""
    sampled: bool
    """True: only some coalitions were asked, and a stronger objection may exist."""
    tried: int
    """How many were asked; all of them is 2^k - 2, and one more where everybody's is asked too."""


@dataclass(frozen=True, slots=True)
class Fairness:
    """The certificate of a division; what is below the tolerance counts as rounding."""

    worst_gain_eur: float
    """The smallest gain of anyone over being alone; NaN if any gain is; 0 where there is nobody."""
    worst_agent: str
    """Whose it is; empty where there is nobody."""
    rational: bool
    """Nobody is worse off than alone."""
    imbalance_eur: float
    """The sum of all payments: above 0 something is left over, below 0 somebody outside pays."""
    balanced: bool
    """The sum of all payments is zero."""
    excess_eur: float
    """The largest excess of a coalition; NaN where it was not computed."""
    excess_coalition: tuple[str, ...]
    """Whose it is."""
    tolerance_eur: float
    """How far from 0 still counts as 0."""
    excess_sampled: bool = False
    """True: not all coalitions were asked."""
    excess_tried: int = 0
    """How many coalitions were asked."""


def fairness(
    names: Sequence[str],
    gain_eur: ArrayLike,
    payment_eur: ArrayLike,
    *,
    excess: Excess | None = None,
    tolerance_eur: float = 1e-6,
) -> Fairness:
    """Answer the questions (1) and (2), and take the answer to (3) along.

    Parameters
    ----------
    names
        Of the members, ``k`` of them.
    gain_eur : shape (k,)
        What each is better off than alone, payments counted. [eur]
    payment_eur : shape (k,)
        What each pays (+) or receives (−); everybody's, the operator's included, or they cannot sum to zero. [eur]
    excess
        The strongest objection of a coalition, where somebody looked for it.
    tolerance_eur
        How far from 0 still counts as 0. [eur]

    Examples
    --------
    A seller gains four cents, a buyer loses one because he paid two cents that nobody received:

    >>> answer = fairness(("anna", "ben"), [0.04, -0.01], [-0.10, 0.12])
    >>> answer.worst_agent, answer.rational, round(answer.imbalance_eur, 9), answer.balanced
    ('ben', False, 0.02, False)
    """
    who = tuple(str(name) for name in names)
    gain, payment = np.asarray(gain_eur, dtype=np.float64), np.asarray(payment_eur, dtype=np.float64)
    if gain.shape != (len(who),) or payment.shape != (len(who),):
        raise FairnessError(
            f"{len(who)} names go with gains of the shape {gain.shape} and payments of the shape {payment.shape}; give one "
            "gain and one payment for each name."
        )
    if not (np.isfinite(tolerance_eur) and tolerance_eur >= 0):
        raise FairnessError(f"tolerance_eur is {tolerance_eur}; give 0 or more, in euro.")
    worst = int(np.argmin(gain)) if who else -1  # argmin takes a NaN before any number
    least = float(gain[worst]) if who else 0.0
    imbalance = float(payment.sum())
    return Fairness(
        worst_gain_eur=least,
        worst_agent=who[worst] if who else "",
        rational=least >= -tolerance_eur,
        imbalance_eur=imbalance,
        balanced=abs(imbalance) <= tolerance_eur,
        excess_eur=excess.excess_eur if excess is not None else float("nan"),
        excess_coalition=excess.coalition if excess is not None else (),
        tolerance_eur=tolerance_eur,
        excess_sampled=excess is not None and excess.sampled,
        excess_tried=excess.tried if excess is not None else 0,
    )
