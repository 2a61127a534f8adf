"""Divide what a market gains among its players by a rule of :mod:`market.bargaining`.

Players are the agents, each with the shared storages that it owns, and the operators of the others.  A coalition of
prosumers clears the exchange of its members; a coalition of curves their pool.  What a player pays is what it saves in the
common plan, before anybody is paid, less what the rule says it gains.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market import linear_program
from market.bargaining import DIVISIONS, Division
from market.coalition import Coalitions, Player, worst_excess
from market.curves import Curves, Pool, clear_pool
from market.fairness import Fairness, fairness
from market.problem import Problem
from sim.clear_exchange import Owners
from sim.clear_result import DivisionResult, Share, figure

__all__ = ["divided_curves", "divided_prosumers"]

Floats = NDArray[np.float64]

FINEST = 1e-5
"""Tolerance of a coalition's clearing: values are differences, so they are found as exactly as the market or better."""

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


def divided_curves(curves: Curves, pool: Pool, alone_eur: Floats, rule: str, *, seed: int) -> DivisionResult:
    """Return a division among agents with curves who would trade in one pool."""
    names = curves.agent_ids or tuple(str(i) for i in range(curves.n))

    def worth(mask: int) -> float:
        members = [i for i in range(curves.n) if mask >> i & 1]
        if len(members) <= 1:
            return 0.0
        part = Curves(
            dt_h=curves.dt_h,
            a_eur_per_kw2h=curves.a_eur_per_kw2h[members],
            b_eur_per_kwh=curves.b_eur_per_kwh[members],
            p_min_kw=curves.p_min_kw[members],
            p_max_kw=curves.p_max_kw[members],
        )
        return max(float(alone_eur[members].sum() - clear_pool(part).cost_eur.sum()), 0.0)

    game = Coalitions.of_values(names, worth)
    saved = alone_eur - pool.cost_eur
    if rule == "dual_prices":  # of values alone there are no prices, but the pool has one
        gain, paid = saved - pool.payment_eur, pool.payment_eur
        slack = 1e-6 * max(1.0, abs(float(saved.sum())))
        certificate = fairness(names, gain, paid, excess=worst_excess(game, gain, seed=seed), tolerance_eur=slack)
        return _result(Division(rule, names, gain, paid, certificate), paid, certificate)
    found = DIVISIONS[rule](game, seed=seed)
    return _result(found, saved - found.gain_eur, found.certificate)


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
