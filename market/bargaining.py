"""Who gets what: rules that divide what a market gains among those who made it, each with its certificate.

With J⁰_i the cost of player i alone, J*_i what it costs in the common plan before anybody is paid, S = Σ (J⁰ − J*) and v
the game of :mod:`market.coalition`, a rule says the gains g_i, and what i pays is ::

    m_i = (J⁰_i − J*_i) − g_i                                                                                       (1)

==================  =================================================================================================
``dual_prices``     everybody pays for energy and for space at the prices of the clearing; owners of shared stores get
                    what is paid for space, their own cost of it is theirs
``nash``            g_i = S α_i / Σ α, which maximises Π g_i^α_i (Nash 1950); α = 1 unless weights are given
``shapley``         g_i = mean over all orders of joining of what i adds (Shapley 1953)
``nucleolus``       the largest objection of a coalition is least, then the second largest, ... (Schmeidler 1969)
``least_core``      the largest objection is least, and the gains are as equal as that allows
``proportional``    g_i in proportion to what i contributes: v(N) − v(N without i); or to weights
==================  =================================================================================================

Costs of a shared store (reserve rents, throughput fees) are its owner's cost in (1), and paid to it by the tenants under
``dual_prices``.  Shapley, nucleolus and least core are exact to 12 players; above, Shapley draws orders, in pairs of an
order and its reverse, and tells the standard error; the other two look only at coalitions that were drawn or found by
searching for objections, and the certificate says ``excess_sampled``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.coalition import EXACT_TO, Coalitions, GameError, bits, climb, some_masks, worst_excess
from market.core import least_excess, most_equal
from market.core import nucleolus as _nucleolus
from market.exchange import Clearing
from market.fairness import Excess, Fairness, fairness
from market.payments import book
from market.price_range import price_range

__all__ = ["DIVISIONS", "Division", "dual_prices", "least_core", "nash", "nucleolus", "proportional", "shapley"]

Floats = NDArray[np.float64]

_ROUNDING_EUR = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Division:
    """What everybody gains and pays."""

    rule: str
    players: tuple[str, ...]
    gain_eur: Floats
    """What each is better off than alone.  Shape (k,)."""
    payment_eur: Floats
    """What each pays (+) or receives (−), by (1).  Where only values are known, counted from equal shares of the surplus.
    Shape (k,)."""
    certificate: Fairness
    standard_error_eur: Floats | None = None
    """Of sampled gains; None where they are exact.  Shape (k,)."""
    accuracy_eur: float = 0.0
    """The values of coalitions that were used are within this of the truth."""
    note: str = ""
    """What a reader should know before relying on the figures; empty if there is nothing."""
    least_gain_eur: Floats | None = None
    """Dual prices: the least that each gains under any equilibrium prices; None where that was not examined.  Shape (k,)."""
    most_gain_eur: Floats | None = None
    """The most.  Where it is not the least, prices are not unique and the clearing chose among them.  Shape (k,)."""
    clearing: Clearing | None = None
    """Dual prices: the clearing whose prices are paid, with its own certificate."""


def dual_prices(
    coalitions: Coalitions, *, seed: int = 0, excess: bool = True, samples: int = 256, ranges: bool = True
) -> Division:
    """Pay at the prices of the clearing.

    Where several prices clear the market they divide differently, and which of them the clearing ends at means nothing:
    between which gains they leave each player is told beside (:mod:`market.price_range`).

    Parameters
    ----------
    coalitions
        The game; it must come from a market, because values alone have no prices.
    seed
        For the coalitions that are asked above 12 players.
    excess
        False: no coalition is asked, and the certificate's excess is NaN.
    samples
        How many coalitions are drawn above 12 players.
    ranges
        False: other equilibrium prices are not looked for.

    Examples
    --------
    Anna has as much too much as Ben needs; any price between the retailer's 0.08 and 0.30 clears:

    >>> from market.coalition import Player
    >>> from market.exchange import Problem
    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> found = dual_prices(Coalitions(case, [Player("anna", (0,)), Player("ben", (1,))]))
    >>> (found.least_gain_eur.round(4) + 0.0).tolist(), found.most_gain_eur.round(4).tolist(), found.note
    ([0.0, 0.0], [0.44, 0.44], 'Prices are not unique: other equilibrium prices divide differently.')
    """
    market = coalitions.market
    if market is None:
        raise GameError("dual prices are prices of a market; a game given by its values has none. Use another rule.")
    coalitions = coalitions.recount()
    books = book(market)
    gain = books.saved_eur - books.paid_eur
    # at prices that are nearly those of an equilibrium everybody gains by them, up to what deviating would bring
    slack = float(books.clearing.deviation_gain_eur.sum())
    found = _division("dual_prices", coalitions, gain, seed, samples, excess, slack=slack)
    notes = []
    if not books.clearing.converged:
        notes.append("The clearing did not converge: its prices are those of the last iteration.")
    between = price_range(market) if ranges else None
    if ranges and between is None:
        notes.append("Whether prices are unique was not examined: the problem is too large.")
    if between is not None and (between.most_eur - between.least_eur).max(initial=0.0) > _ROUNDING_EUR + slack:
        notes.append("Prices are not unique: other equilibrium prices divide differently.")
    return replace(
        found, clearing=books.clearing, note=" ".join(notes),
        least_gain_eur=None if between is None else books.saved_eur - between.most_eur,
        most_gain_eur=None if between is None else books.saved_eur - between.least_eur,
    )  # fmt: skip


def nash(
    coalitions: Coalitions,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    excess: bool = True,
    samples: int = 256,
) -> Division:
    """Share the surplus equally, or by bargaining weights α > 0.

    The other parameters are those of :func:`dual_prices`.

    Examples
    --------
    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> nash(gloves, weights=[2, 1, 1]).gain_eur.tolist()
    [0.5, 0.25, 0.25]
    """
    coalitions = coalitions.recount()
    share = _weights(coalitions, weights)
    return _division("nash", coalitions, coalitions.surplus_eur * share, seed, samples, excess)


def proportional(
    coalitions: Coalitions,
    *,
    weights: ArrayLike | None = None,
    seed: int = 0,
    excess: bool = True,
    samples: int = 256,
) -> Division:
    """Share the surplus in proportion to what each contributes, v(N) − v(N without i), or to weights such as energy.

    Where nobody alone is missed, the shares are equal.  The other parameters are those of :func:`dual_prices`.

    Examples
    --------
    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> proportional(gloves).gain_eur.tolist()
    [1.0, 0.0, 0.0]
    """
    coalitions = coalitions.recount()
    if weights is None:
        without = np.array([coalitions.all ^ (1 << i) for i in range(coalitions.k)], dtype=np.int64)
        missed = np.maximum(coalitions.surplus_eur - coalitions.values(without), 0.0)
        weights = missed if missed.sum() > 0.0 else None
    share = _weights(coalitions, weights)
    return _division("proportional", coalitions, coalitions.surplus_eur * share, seed, samples, excess)


def shapley(
    coalitions: Coalitions, *, seed: int = 0, orders: int = 200, excess: bool = True, samples: int = 256
) -> Division:
    """Give everybody the mean of what it adds, over all orders of joining; above 12 players over drawn ones.

    Parameters
    ----------
    coalitions, seed, excess, samples
        As for :func:`dual_prices`.
    orders
        How many orders are drawn above 12 players; an order and its reverse together, because where one comes first in
        the one and last in the other the mean of the two is steadier than that of two drawn ones.

    Examples
    --------
    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> shapley(gloves).gain_eur.round(6).tolist()
    [0.666667, 0.166667, 0.166667]
    """
    coalitions = coalitions.recount()
    if coalitions.k <= EXACT_TO:
        return _division("shapley", coalitions, _all_orders(coalitions), seed, samples, excess)
    gain, error, drawn = _some_orders(coalitions, orders, np.random.default_rng(seed))
    note = f"{drawn} of the {coalitions.k}! orders of joining were drawn; standard_error_eur is that of their mean."
    return _division("shapley", coalitions, gain, seed, samples, excess, note, error)


def nucleolus(
    coalitions: Coalitions, *, seed: int = 0, excess: bool = True, samples: int = 256, rounds: int = 20
) -> Division:
    """Make the largest objection least, then the next; above 12 players among coalitions drawn or found.

    ``rounds`` is how often stronger objections are searched for above 12 players; the others as for :func:`dual_prices`.

    Examples
    --------
    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> np.abs(nucleolus(gloves).gain_eur).round(6).tolist()
    [1.0, 0.0, 0.0]
    """

    def gains(members: Floats, value: Floats, total: float, single: Floats) -> tuple[Floats, str]:
        alone = float(single.sum())
        short = f"Alone the players get {alone:.6g}, more than together, {total:.6g}: this is the prenucleolus. "
        return _nucleolus(members, value, total, single), short if alone > total + _ROUNDING_EUR else ""

    return _by_objections("nucleolus", coalitions, gains, seed, samples, rounds, excess)


def least_core(
    coalitions: Coalitions, *, seed: int = 0, excess: bool = True, samples: int = 256, rounds: int = 20
) -> Division:
    """Make the largest objection least, and the gains as equal as that allows; parameters as for :func:`nucleolus`.

    Examples
    --------
    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> np.abs(least_core(gloves).gain_eur).round(6).tolist()
    [1.0, 0.0, 0.0]
    """

    def gains(members: Floats, value: Floats, total: float, _: Floats) -> tuple[Floats, str]:
        return most_equal(members, value, total, least_excess(members, value, total).epsilon), ""

    return _by_objections("least_core", coalitions, gains, seed, samples, rounds, excess)


DIVISIONS: dict[str, Callable[..., Division]] = {
    "dual_prices": dual_prices,
    "nash": nash,
    "shapley": shapley,
    "nucleolus": nucleolus,
    "least_core": least_core,
    "proportional": proportional,
}
"""Rules by name; all take ``seed``, ``excess`` and ``samples``."""


def _division(
    rule: str, coalitions: Coalitions, gain: Floats, seed: int, samples: int, excess: bool, note: str = "",
    standard_error: Floats | None = None, slack: float = 0.0,
) -> Division:  # fmt: skip
    """Put a division and its certificate together."""
    market = coalitions.market
    if market is None:
        saved = np.full(coalitions.k, coalitions.surplus_eur / max(coalitions.k, 1))
    else:
        saved = book(market).saved_eur
    strongest: Excess | None = None
    if excess:
        strongest = worst_excess(coalitions, gain, seed=seed, samples=samples)
    payment = saved - gain
    accuracy = coalitions.error_eur
    certificate = fairness(
        coalitions.players, gain, payment, excess=strongest, tolerance_eur=_ROUNDING_EUR + accuracy + slack
    )
    return Division(rule, coalitions.players, gain, payment, certificate, standard_error, accuracy, note)


def _by_objections(
    rule: str, coalitions: Coalitions, gains: Callable[[Floats, Floats, float, Floats], tuple[Floats, str]], seed: int,
    samples: int, rounds: int, excess: bool,
) -> Division:  # fmt: skip
    """Return the division that a rule chooses of members, their values, the value of all and those of the singles."""
    coalitions = coalitions.recount()
    if coalitions.k <= 1:
        return _division(rule, coalitions, np.full(coalitions.k, coalitions.surplus_eur), seed, samples, excess)
    single = coalitions.values([1 << i for i in range(coalitions.k)])
    masks, note = _coalitions_that_matter(coalitions, seed, samples, rounds)
    members, value = bits(masks, coalitions.k), coalitions.values(masks)
    gain, before = gains(members, value, coalitions.surplus_eur, single)
    return _division(rule, coalitions, gain, seed, samples, excess, (before + note).strip())


def _weights(coalitions: Coalitions, weights: ArrayLike | None) -> Floats:
    """Return shares that sum to one."""
    given = np.ones(coalitions.k) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != (coalitions.k,) or not (np.isfinite(given).all() and (given >= 0.0).all()):
        raise GameError(f"weights are {given.tolist()}; give {coalitions.k} numbers, none below 0.")
    if coalitions.k and given.sum() <= 0.0:
        raise GameError("all weights are 0; give at least one player something.")
    shares: Floats = given / given.sum() if coalitions.k else given
    return shares


def _all_orders(coalitions: Coalitions) -> Floats:
    """Return the Shapley value, exactly: what i adds to S counts |S|! (k − |S| − 1)! of the k! orders."""
    k = coalitions.k
    masks = np.arange(1 << k, dtype=np.int64)
    value, size = coalitions.values(masks), bits(masks, k).sum(axis=1).astype(np.intp)
    orders = np.array([factorial(s) * factorial(k - s - 1) / factorial(k) for s in range(k)] + [0.0])
    gain = np.empty(k)
    for i in range(k):
        outside = masks[masks >> i & 1 == 0]
        gain[i] = orders[size[outside]] @ (value[outside | (1 << i)] - value[outside])
    return gain


def _some_orders(coalitions: Coalitions, orders: int, rng: np.random.Generator) -> tuple[Floats, Floats, int]:
    """Return the mean of what each adds over drawn orders and their reverses, its standard error, and how many."""
    pairs = orders // 2
    if pairs < 2:
        raise GameError(f"{orders} orders are too few for a standard error; draw 4 or more.")
    added = np.zeros((pairs, coalitions.k))
    for row in added:
        order = rng.permutation(coalitions.k)
        for way in (order, order[::-1]):
            mask, before = 0, 0.0
            for i in way.tolist():
                mask |= 1 << i
                after = coalitions.value(mask)
                row[i] += 0.5 * (after - before)
                before = after
    error: Floats = added.std(axis=0, ddof=1) / np.sqrt(pairs)
    return added.mean(axis=0), error, 2 * pairs


def _coalitions_that_matter(
    coalitions: Coalitions, seed: int, samples: int, rounds: int
) -> tuple[NDArray[np.int64], str]:
    """Return all coalitions, or above 12 players those drawn and those found to object to the least core of the others."""
    k = coalitions.k
    if k <= EXACT_TO:
        return np.arange(1, coalitions.all), ""
    masks = some_masks(k, samples, np.random.default_rng(seed))
    size = max(abs(coalitions.surplus_eur), 1e-12)
    stable = False
    for _ in range(rounds):
        value = coalitions.values(masks)
        level = least_excess(bits(masks, k), value, coalitions.surplus_eur)
        met, excess = climb(coalitions, level.x, masks, value - bits(masks, k) @ level.x)
        stable = excess.max() <= level.epsilon + 1e-9 * size
        if stable:
            break
        masks = np.sort(met)
    end = "no stronger objection was found" if stable else f"stronger ones were still found after {rounds} rounds"
    return masks, f"Of {(1 << k) - 2} coalitions {len(masks)} were asked; {end}."
