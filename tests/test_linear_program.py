"""The exchange's problem as one linear program: the same problem, to the last digit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market import central, linear_program
from market.exchange import Infeasible, Problem, clear
from market.laws import broken_laws
from market.sample import sample


@pytest.mark.parametrize("seed", range(4))
def test_its_plan_is_exact_and_its_prices_prove_it(seed):
    """Batteries, cars, envelopes, a firm charge and rights: bound and cost meet, nobody gains by deviating, laws are kept."""
    case = sample(5, 8, seed=seed)
    found = linear_program.solve(case)

    assert found.gap < 1e-8
    assert found.max_agent_kkt < 1e-8
    assert broken_laws(case, found) == []
    other = clear(case, tolerance=1e-4)
    assert other.bound_eur - 1e-9 <= found.cost_eur <= other.cost_eur + 1e-9


@pytest.mark.parametrize("netted", [False, True])
def test_it_is_the_central_solvers_optimum(netted):
    """Clarabel, an interior-point method on a problem written down by other code, finds the same cost; netted, too."""
    case = replace(sample(3, 6, seed=7), ess_netted=np.array([netted]), ess_floor=np.array([0.1]))

    assert linear_program.solve(case).cost_eur == pytest.approx(central.solve(case).cost_eur, abs=2e-6)


def test_fixed_rights_and_pinned_trades_are_kept():
    """What is given stays given, and the optimum is that of the exchange."""
    case = sample(4, 6, seed=3, firm_charge_kw_per_home=0.0)
    first = linear_program.solve(case)
    given = replace(
        case, right_energy_kwh=first.right_energy_kwh, right_power_kw=first.right_power_kw, exchange="pinned",
        pinned_exchange_kw=first.exchange_kw,
    )  # fmt: skip
    second = linear_program.solve(given)

    np.testing.assert_allclose(second.exchange_kw, first.exchange_kw)
    assert second.cost_eur == pytest.approx(first.cost_eur, abs=1e-8)
    assert np.isnan(second.price_eur_per_kwh).all()


def test_the_envelope_has_a_price():
    """Of 3 kW too many 1 kW may leave the meter and 2 kW are given up: the limit's price is all of what a kWh earns."""
    case = Problem.plain([[0.0], [3.0]], [[3.0], [0.0]], 0.30, 0.08, dt_h=1.0, export_limit_kw=[[1.0], [9.0]])
    found = linear_program.solve(case)

    np.testing.assert_allclose(found.exchange_kw, [[1.0], [-1.0]])
    assert found.cost_eur == pytest.approx(2 * 0.30)
    assert found.gap < 1e-9


def test_a_need_that_nobody_can_meet_is_named():
    """As everywhere, before anything is solved."""
    case = Problem.plain([[1.0]], 0.0, 0.3, 0.1, dt_h=1.0, stores=1, store_energy_max_kwh=5.0, store_energy_min_kwh=5.0)

    with pytest.raises(Infeasible, match="agent 0"):
        linear_program.solve(case)


def test_what_is_in_a_space_at_the_start_has_a_right():
    """One kWh is in the space and is used in the only hour: at its end nothing is left, yet the right, at 0.05, is 1 kWh."""
    case = Problem.plain(
        [[1.0]], 0.0, 0.30, 0.08, dt_h=1.0, shared=1, ess_energy_offer_kwh=2.0, ess_power_offer_kw=2.0,
        rented_initial_kwh=1.0, rent_energy_eur_per_kwh=0.05,
    )  # fmt: skip
    program = linear_program.LinearProgram(case)

    assert program.found(np.zeros(program.coupled))[0] == pytest.approx(0.05)
    assert linear_program.solve(case).cost_eur == pytest.approx(0.05)
