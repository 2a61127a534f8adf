"""Stores run alone at the prices: cheaper, exact, and the bound beside them stays a bound."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market.central import solve
from market.exchange import clear
from market.laws import broken_laws
from market.problem import Problem
from market.repair import plan_cost_eur, repair
from market.sample import sample
from market.splitting import Splitting
from market.traded import settled_price


def _tariffs(case: Problem, seed: int) -> Problem:
    """Everybody has a tariff of its own."""
    rng = np.random.default_rng(seed)
    own = [rng.uniform(low, high, (case.n, 1)) for low, high in ((0.9, 1.2), (0.5, 1.0), (0.1, 0.5))]
    return replace(case, buy_eur_per_kwh=case.buy_eur_per_kwh * own[0], sell_eur_per_kwh=case.sell_eur_per_kwh * own[1],
                   exchange_charge_eur_per_kwh=case.exchange_charge_eur_per_kwh * own[2])  # fmt: skip


@pytest.mark.parametrize("iterations", [20, 60, 120])
@pytest.mark.parametrize("seed", [0, 1])
def test_cheaper(iterations: int, seed: int) -> None:
    """Wherever the iteration stands, a plan with stores run alone costs less where all have one tariff."""
    case = sample(40, 24, seed=seed)
    outcome = Splitting(case, None, 1).run(1e-9, iterations)
    price, net = outcome.duals.price_eur_per_kwh, outcome.duals.net_eur_per_kwh
    drafted, alone = repair(case, outcome.draft, price), repair(case, outcome.draft, price, net)
    assert plan_cost_eur(case, alone).sum() < plan_cost_eur(case, drafted).sum()


@pytest.mark.parametrize("exchange", ["free", "zero"])
def test_laws(exchange: str) -> None:
    """A plan with stores run alone obeys every law."""
    case = sample(30, 24, exchange=exchange)  # type: ignore[arg-type]
    assert broken_laws(case, clear(case, gap=1e-3)) == []


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("exchange", ["free", "zero"])
def test_bound(seed: int, exchange: str) -> None:
    """With a tariff for everybody the optimum that a solver finds lies between bound and cost."""
    case = _tariffs(sample(11, 24, seed=seed, exchange=exchange), seed)  # type: ignore[arg-type]
    best, found = solve(case), clear(case, gap=1e-3)
    rounding = 1e-6 * best.turnover_eur
    assert found.bound_eur <= best.cost_eur + rounding
    assert best.bound_eur <= found.cost_eur + rounding
    assert found.gap <= 1e-3


def test_settled_price() -> None:
    """Where some sell to the retailer what others sell to a neighbour the price is the retailer's, if it is nearly there."""
    case = Problem.plain([[0.0], [0.0], [2.0]], [[2.0], [2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    grid, exchange = np.array([[-1.0], [-1.0], [0.0]]), np.array([[1.0], [1.0], [-2.0]])
    assert settled_price(case, grid, exchange, np.array([0.081])).tolist() == [0.08]
    assert settled_price(case, grid, exchange, np.array([0.12])).tolist() == [0.12]
