"""The exchange against the central optimum of the same problem."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from market.central import CentralUnsolved, solve, verify
from market.exchange import Infeasible, Problem, clear
from market.laws import broken_laws
from market.price_range import price_range_at
from market.sample import sample

CASES = [(9, 24, 0, "free"), (14, 24, 3, "free"), (19, 24, 1, "zero"), (19, 24, 5, "free")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(map(str, case)))
def both(request):
    """A made-up community, cleared and solved."""
    homes, steps, seed, exchange = request.param
    case = sample(homes, steps, seed=seed, exchange=exchange)
    return case, clear(case), solve(case)


def test_the_exchange_costs_what_its_certificate_allows(both):
    """Cost - optimum is between 0 and the certified gap, which the exchange knows without the optimum."""
    _, found, best = both

    assert found.converged
    assert -1e-6 <= found.cost_eur - best.cost_eur <= found.cost_eur - found.bound_eur
    assert found.gap <= 0.015


def test_the_bound_is_below_the_optimum(both):
    """Never above: the bound's proof does not know how good the iteration was."""
    _, found, best = both

    assert found.bound_eur <= best.cost_eur
    assert best.bound_eur <= found.cost_eur
    assert best.gap <= 5e-4


def test_the_optimum_is_an_exact_plan_too(both):
    """The solver's answer, repaired, keeps every law."""
    case, _, best = both

    assert broken_laws(case, best) == []


def test_closer_is_closer(both):
    """A tenth of the tolerance, and the optimum is hit to a tenth of a per cent and better."""
    case, found, best = both
    close = clear(case, tolerance=1e-4)

    assert close.cost_eur <= found.cost_eur
    assert close.cost_eur - best.cost_eur <= 1e-3 * abs(best.cost_eur)
    assert close.gap <= 3e-3


def test_prices_agree_where_they_are_unique(both):
    """Where energy is traded the two find one price; where nobody trades there are many, and scarcity rents agree too."""
    case, _, best = both
    close = clear(case, tolerance=1e-4)

    if case.exchange == "free":
        traded = np.minimum(np.abs(best.exchange_kw).sum(axis=0), np.abs(close.exchange_kw).sum(axis=0)) > 1.0
        assert traded.sum() > 5
        np.testing.assert_allclose(close.price_eur_per_kwh[traded], best.price_eur_per_kwh[traded], atol=1e-3)
    np.testing.assert_allclose(close.rent_power_scarcity_eur_per_kw, best.rent_power_scarcity_eur_per_kw, atol=0.01)
    np.testing.assert_allclose(close.right_power_kw.sum(), best.right_power_kw.sum(), rtol=0.01)


def test_nobody_gains_by_leaving_the_optimum(both):
    """At the prices of the optimum no agent could save a cent by deviating alone: the generalized Nash equilibrium."""
    _, found, best = both

    assert best.max_agent_kkt <= 0.01
    assert found.max_agent_kkt <= 0.15


def test_a_firm_charge_that_binds_has_one_price():
    """The price of a firm charge agrees with the multiplier of the central problem."""
    case = sample(9, 24)
    firm = np.full((1, 24), -np.inf)
    firm[0, :6] = 0.99 * case.ess_power_offer_kw[0]
    case = replace(case, ess_net_min_kw=firm)
    found, best = clear(case, tolerance=1e-4), solve(case)

    assert best.ess_net_price_eur_per_kwh.max() > 0.1
    np.testing.assert_allclose(found.ess_net_price_eur_per_kwh, best.ess_net_price_eur_per_kwh, atol=0.03)
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=2e-3)


def test_fixed_rights_and_a_pinned_exchange_have_their_optimum():
    """The problems of the hours: rights given, trades given, contents somewhere on the way."""
    case = sample(9, 24)
    day = clear(case)
    rest = replace(case, right_energy_kwh=day.right_energy_kwh, right_power_kw=day.right_power_kw).dropped(
        6, day.energy_kwh[:, :, 6], day.rented_energy_kwh[:, :, 6]
    )
    pinned = replace(rest, exchange="pinned", pinned_exchange_kw=day.exchange_kw[:, 6:])
    for problem in (rest, pinned):
        found, best = clear(problem), solve(problem)
        assert best.bound_eur <= found.cost_eur
        assert found.bound_eur <= best.cost_eur <= found.cost_eur + 1e-6
        assert found.cost_eur == pytest.approx(best.cost_eur, rel=0.01)


@pytest.mark.parametrize(
    ("exchange", "size", "cost"), [("zero", 0, 1.2), ("zero", 2, 0.8), ("free", 0, 1.05), ("free", 2, 0.35)]
)
def test_the_yardstick_itself_by_hand(exchange, size, cost):
    """The design's case I."""
    case = Problem.plain(
        [[0.0, 0.0], [1.0, 3.0]],
        [[4.0, 0.0], [0.0, 0.0]],
        [[0.20, 0.40]],
        0.05,
        dt_h=1.0,
        shared=1,
        ess_energy_offer_kwh=size,
        ess_power_offer_kw=size,
        exchange=exchange,
    )

    assert solve(case).cost_eur == pytest.approx(cost, abs=1e-5)


def test_both_say_when_there_is_no_plan():
    """Twice the power that is offered, as a firm charge."""
    case = sample(4, 12)
    case = replace(case, ess_net_min_kw=np.full((1, 12), 2.0 * case.ess_power_offer_kw[0]))

    for answer in (clear, solve):
        with pytest.raises(Infeasible, match="out of reach"):
            answer(case)


def test_the_exchange_does_not_import_the_yardstick():
    """CVXPY takes seconds to import; clearing never needs it."""
    code = "import sys, market.exchange, market.central; sys.exit('cvxpy' in sys.modules or 'scipy.optimize' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_whole_community_for_a_whole_day():
    """120 agents, 96 intervals: within a quarter of a per cent of the optimum, and certified to twice that."""
    case = sample(119, 96)
    found, best = clear(case), solve(case)

    assert found.bound_eur <= best.cost_eur
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=2.5e-3)
    assert found.gap <= 5e-3


# the comparison -------------------------------------------------------------------------------------------------------


def neighbours(**more):
    """One with 2 kW too many, one with 2 kW too few, for an hour: every price between the retailer's is one of the optimum."""
    return Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0, **more)


def test_nobody_has_an_optimum():
    """Nothing is done, nothing costs anything, a shared store that nobody rents in is there or not; the comparison agrees."""
    for shared in (0, 1):
        case = Problem.plain(np.zeros((0, 3)), np.zeros((0, 3)), 0.3, 0.08, dt_h=1.0, shared=shared, stores=shared)
        best, checked = solve(case), verify(case, clear(case))

        assert (best.cost_eur, best.exchange_kw.shape, best.right_power_kw.shape) == (0.0, (0, 3), (shared, 0))
        assert (checked.certified, checked.optimum_eur, checked.price_interval) == (True, 0.0, -1)


@pytest.mark.parametrize("seed", range(8))
def test_the_comparison_is_sharp_and_never_fails_by_chance(seed):
    """At three tolerances, with prices below 0 too: both certificates keep, and a figure that is off by more than the solver is noticed."""
    case = sample(5, 12, seed=seed, exchange="zero" if seed % 4 == 3 else "free")
    if seed % 2:
        case = replace(case, buy_eur_per_kwh=case.buy_eur_per_kwh - 0.25, sell_eur_per_kwh=case.sell_eur_per_kwh - 0.3)
    for tolerance in (1e-2, 1e-3, 1e-4):
        found = clear(case, tolerance=tolerance, max_iterations=20_000)
        checked = verify(case, found)

        assert checked.certified
        assert checked.accuracy_eur <= 1e-4
        assert checked.excess_eur <= found.gap_eur + checked.accuracy_eur
        assert not verify(case, replace(found, bound_eur=checked.optimum_eur + 3 * checked.accuracy_eur)).certified
        assert not verify(case, replace(found, cost_eur=checked.optimum_eur - 0.01)).certified


def test_the_prices_of_an_interval_that_support_the_optimum():
    """With as much for sale as is needed any price between the retailer's does, with less only the dearer one; nobody trades: no prices."""
    assert price_range_at(neighbours(), 0) == pytest.approx((0.08, 0.30))
    assert price_range_at(replace(neighbours(), pv_kw=np.array([[1.0], [0.0]])), 0) == pytest.approx((0.30, 0.30))
    assert price_range_at(neighbours(exchange="zero"), 0) is None


def test_a_solver_that_gives_up_is_told(monkeypatch):
    """As a sentence, not as the solver's own exception."""
    import cvxpy

    def broken(self, **_):
        raise cvxpy.error.SolverError("Solver 'CLARABEL' failed")

    monkeypatch.setattr(cvxpy.Problem, "solve", broken)
    with pytest.raises(CentralUnsolved, match="gives up on 2 agents"):
        solve(neighbours())
