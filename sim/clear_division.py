"""Divide what a market gains among its players by a rule of :mod:`market.bargaining`.

Players are the agents, each with the shared storages that it owns, and the operators of the others.  A coalition of
prosumers clears the exchange of its members; a coalition of curves their pool, or their pairs.  What a player pays is what it saves in the
common plan, before anybody is paid, less what the rule says it gains.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market import linear_program
from market.bargaining import DIVISIONS, Division
from market.bilateral import Bilateral, BilateralClearing
from market.coalition import Coalitions, Player, Worth, worst_excess
from market.curves import Curves, Pool, clear_pool
from market.fairness import Fairness, fairness
from market.problem import Problem
from sim.clear_exchange import Owners
from sim.clear_result import DivisionResult, Share, figure

__all__ = ["CurveMarket", "among", "divided_curves", "divided_prosumers", "in_a_pool", "in_pairs"]

Floats = NDArray[np.float64]

FINEST = 1e-5
"""Tolerance of a coalition's clearing: values are differences, so they are found as exactly as the market or better."""

MOST = 100_000
"""Iterations after which the clearing of a coalition's pairs gives up."""

FEW = 20_000
"""Up to so many variables a coalition's market is solved as a linear program: to the last digit, in half a second at most."""


def divided_prosumers(problem: Problem, owners: Owners, rule: str, *, seed: int, tolerance: float) -> DivisionResult:
    """Return a division among prosumers and operators."""
    ids = problem.agent_ids or tuple(str(i) for i in range(problem.n))
    players = [
        Player(name, (i,), tuple(j for j, row in enumerate(owners.agent) if row == i)) for i, name in enumerate(ids)
    ]
    players += [
        Player(name, (), tuple(j for j, row in enumerate(owners.agent) if row < 0 and owners.names[j] == name))
        for name in owners.operators
    ]
    variables = problem.n * problem.steps * (6 + 3 * (problem.stores + problem.shared))
    exact = linear_program.solve if variables <= FEW else None
    found = DIVISIONS[rule](Coalitions(problem, players, tolerance=min(FINEST, tolerance), solve=exact), seed=seed)
    return _result(found, found.payment_eur, found.certificate)


@dataclass(frozen=True, slots=True, eq=False)
class CurveMarket:
    """A market of agents with curves, and what it would cost some of them by themselves."""

    names: tuple[str, ...]
    alone_eur: Floats
    """What the curve of each costs without any market.  Shape (n,)."""
    own_eur: Floats
    """What each bears in the common plan, before anybody is paid.  Shape (n,)."""
    paid_eur: Floats
    """What each pays (+) or receives (−) at the prices of the market.  Shape (n,)."""
    cost: Callable[[list[int]], tuple[float, float]]
    """What the market of some agents costs, and how far that may be above the least; infinite where they have no plan."""


def in_a_pool(curves: Curves, pool: Pool, alone_eur: Floats) -> CurveMarket:
    """Return the market in which any coalition has a pool of its own."""

    def cost(rows: list[int]) -> tuple[float, float]:
        found = clear_pool(curves.part(rows))
        return (float(found.cost_eur.sum()) if set(found.status) == {"cleared"} else math.inf), 0.0

    return CurveMarket(_names(curves), alone_eur, pool.cost_eur, pool.payment_eur, cost)


def in_pairs(problem: Bilateral, found: BilateralClearing, alone_eur: Floats, tolerance: float) -> CurveMarket:
    """Return the market in which the members of a coalition trade with those of their partners who are in it."""
    from market.bilateral import clear

    def cost(rows: list[int]) -> tuple[float, float]:
        done = clear(among(problem, rows), tolerance=tolerance, max_iterations=MOST)
        return (math.inf if done.trouble else done.cost_eur), done.cost_eur - done.bound_eur

    return CurveMarket(_names(problem.curves), alone_eur, found.agent_cost_eur, found.payment_eur, cost)


def among(problem: Bilateral, rows: list[int]) -> Bilateral:
    """Return the bilateral market of some agents, without stores: pairs of whom both ends are among them."""
    place = np.full(problem.n, -1)
    place[rows] = np.arange(len(rows))
    kept = (place[problem.first] >= 0) & (place[problem.second] >= 0)
    return replace(
        problem,
        curves=problem.curves.part(rows),
        first=place[problem.first[kept]],
        second=place[problem.second[kept]],
        charge_first_eur_per_kwh=problem.charge_first_eur_per_kwh[kept],
        charge_second_eur_per_kwh=problem.charge_second_eur_per_kwh[kept],
        trade_max_kw=problem.trade_max_kw[kept],
    )


def divided_curves(market: CurveMarket, rule: str, *, seed: int) -> DivisionResult:
    """Return a division among agents with curves.

    A coalition has its market or stays alone, with the retailer where there is one, whichever is better.
    """
    names, count = market.names, len(market.names)

    def worth(mask: int) -> Worth:
        members = [i for i in range(count) if mask >> i & 1]
        if len(members) <= 1:
            return Worth(0.0, 0.0)
        everybody = len(members) == count
        cost, error = (float(market.own_eur.sum()), 0.0) if everybody else market.cost(members)
        gain = float(market.alone_eur[members].sum()) - cost
        return Worth(gain, error) if gain > 0.0 else Worth(0.0, max(error + gain, 0.0))

    game = Coalitions.of_values(names, worth)
    saved = market.alone_eur - market.own_eur
    if rule == "dual_prices":  # of values alone there are no prices, but the market has them
        gain, paid = saved - market.paid_eur, market.paid_eur
        excess = worst_excess(game, gain, seed=seed)
        slack = 1e-6 * max(1.0, abs(float(saved.sum()))) + game.error_eur
        certificate = fairness(names, gain, paid, excess=excess, tolerance_eur=slack)
        return _result(Division(rule, names, gain, paid, certificate, accuracy_eur=game.error_eur), paid, certificate)
    found = DIVISIONS[rule](game, seed=seed)
    return _result(found, saved - found.gain_eur, found.certificate)


def _names(curves: Curves) -> tuple[str, ...]:
    return curves.agent_ids or tuple(str(i) for i in range(curves.n))


def _result(found: Division, payment: Floats, certificate: Fairness) -> DivisionResult:
    """Put a division into a result."""
    errors = np.full(len(found.players), np.nan) if found.standard_error_eur is None else found.standard_error_eur
    imbalance = float(payment.sum())
    return DivisionResult(
        rule=found.rule,
        shares=tuple(
            Share(id=name, gain_eur=figure(gain), payment_eur=figure(paid), standard_error_eur=figure(error))
            for name, gain, paid, error in zip(found.players, found.gain_eur, payment, errors, strict=True)
        ),
        rational=certificate.rational,
        balanced=abs(imbalance) <= certificate.tolerance_eur,
        imbalance_eur=figure(imbalance),
        excess_eur=figure(certificate.excess_eur),
        excess_coalition=certificate.excess_coalition,
        excess_sampled=certificate.excess_sampled,
        accuracy_eur=figure(found.accuracy_eur),
        note=found.note,
    )
