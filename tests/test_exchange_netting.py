"""Negative prices: what plans do that may not charge and discharge at once, against the best that any such plan can do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import LinearConstraint, milp

from market.exchange import Infeasible, Problem, attainable, clear
from market.laws import broken_laws
from market.linear_program import LinearProgram

QUIET = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def best_without_burning(p):
    """Return the least cost of any plan: the linear program, with a direction for every store, space, box and interval."""
    program = LinearProgram(p)
    c, size = program.columns, program.columns.size
    pairs = [(c.charge, c.discharge, p.store_charge_max_kw, p.store_discharge_max_kw)]
    most = np.broadcast_to(p.ess_power_offer_kw[:, None, None], c.into.shape)
    pairs += [(c.into, c.out_of, most, most), (c.box_charge, c.box_discharge, most[:, 0], most[:, 0])]
    charge, discharge = (np.concatenate([pair[q].ravel() for pair in pairs]) for q in range(2))
    most_in, most_out = (np.concatenate([pair[q].ravel() for pair in pairs]) for q in (2, 3))
    many, rows = charge.size, np.arange(charge.size)
    below, equal = np.zeros((2 * many, size + many)), np.zeros((program.equal.count, size + many))
    below[rows, charge], below[rows, size + rows] = 1.0, -most_in
    below[many + rows, discharge], below[many + rows, size + rows] = 1.0, most_out
    equal[:, :size] = program.a_equal.toarray()
    limits = np.zeros((program.below.count, size + many))
    limits[:, :size] = program.a_below.toarray()
    b = program.b
    found = milp(
        np.concatenate([program.cost, np.zeros(many)]),
        constraints=[
            LinearConstraint(equal, b[: len(equal)], b[: len(equal)]),
            LinearConstraint(limits, -np.inf, b[len(equal) :]),
            LinearConstraint(below, -np.inf, np.concatenate([np.zeros(many), most_out])),
        ],
        bounds=(np.concatenate([program.lower, np.zeros(many)]), np.concatenate([program.upper, np.ones(many)])),
        integrality=np.concatenate([np.zeros(size), np.ones(many)]),
        options={"mip_rel_gap": 1e-7, "time_limit": 20.0},
    )
    assert found.status == 0
    return found.fun


def paid_to_consume(seed):
    """Draw a small community whose prices are below zero half of the time; stores and a shared store lose on the way."""
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(1, 4)), int(rng.integers(2, 7))
    buy = rng.uniform(-0.3, 0.3, (1, steps))
    power = rng.uniform(0.5, 4, (1, n, 1)) * (rng.random((1, n, 1)) < 0.7)
    size, eta = power[:, :, 0] * rng.uniform(0.5, 2, (1, n)), rng.uniform(0.8, 0.95)
    shared = int(rng.random() < 0.4)
    case = Problem.plain(
        rng.uniform(0, 3, (n, steps)),
        rng.uniform(0, 4, (n, steps)) * (rng.random((n, 1)) < 0.5),
        buy,
        buy - rng.uniform(0, 0.2, (1, steps)),
        dt_h=1.0,
        stores=1,
        shared=shared,
        exchange_charge_eur_per_kwh=rng.choice([0.0, 0.05]),
        import_limit_kw=rng.uniform(3, 8, (n, 1)) if rng.random() < 0.4 else np.inf,
        export_limit_kw=rng.uniform(0, 3, (n, 1)) if rng.random() < 0.4 else np.inf,
        store_charge_max_kw=power,
        store_discharge_max_kw=power,
        store_energy_max_kwh=size[:, :, None],
        store_initial_kwh=size * rng.choice([0.0, 0.5, 1.0], (1, n)),
        store_efficiency_charge=eta,
        store_efficiency_discharge=eta,
        store_wear_eur_per_kwh=rng.choice([0.0, 0.01]),
        ess_energy_offer_kwh=rng.uniform(1, 4, shared),
        ess_power_offer_kw=rng.uniform(1, 3, shared),
        ess_efficiency_charge=np.full(shared, 0.9),
        ess_efficiency_discharge=np.full(shared, 0.9),
    )
    return attainable(case)[0]


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=25)
def test_a_plan_is_within_a_per_cent_of_the_best_that_burns_nothing(seed):
    """Cost above the optimum of the mixed-integer program: at most 1 %; what netting costs is at least what it really does."""
    case = paid_to_consume(seed)
    try:
        found = clear(case, tolerance=1e-5)
    except Infeasible:
        assume(False)
        raise
    best = best_without_burning(case)
    relaxed = float(LinearProgram(case).found(0.0)[0])

    assert broken_laws(case, found) == []
    assert best - 1e-6 <= found.cost_eur <= best + 0.01 * max(1.0, abs(best))
    assert found.netting_cost_eur >= best - relaxed - 2e-5 * max(1.0, abs(best))
    assert found.netting_cost_eur <= found.gap_eur + 1e-12


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6])
def test_a_full_store_makes_room_where_emptying_costs_least(tolerance):
    """Full at the beginning and paid 0.30 and 0.10 for what is drawn: out in the second hour, in again in the third.

    Relaxed, 2 kW go in and 1.28 out at once, in every hour.  By hand: 2 kW in is 0.60 in the third hour, the 1.28 kW that make
    room for it cost 0.128 in the second; with the first hour nothing can be done.
    """
    case = Problem.plain(
        [[0.0, 0.0, 0.0]],
        [[0.0, 0.0, 0.0]],
        [[-0.30, -0.10, -0.30]],
        [[-0.30, -0.10, -0.30]],
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=2.0,
        store_discharge_max_kw=2.0,
        store_energy_max_kwh=2.0,
        store_initial_kwh=2.0,
        store_efficiency_charge=0.8,
        store_efficiency_discharge=0.8,
    )
    found = clear(case, tolerance=tolerance)

    assert found.cost_eur == pytest.approx(-0.60 + 0.128, abs=1e-6)
    assert found.netting_cost_eur > 0.1
    assert broken_laws(case, found) == []


def test_neighbours_share_the_room_that_there_is():
    """What one store's flow is worth depends on what the neighbour does: with sun next door there is less to be paid for."""
    case = Problem.plain(
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.0, 0.0], [1.0, 1.0]],
        [[-0.10, -0.30]],
        [[-0.40, -0.40]],
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=[[[2.0], [0.0]]],
        store_discharge_max_kw=[[[2.0], [0.0]]],
        store_energy_max_kwh=2.0,
        store_efficiency_charge=0.8,
        store_efficiency_discharge=0.8,
    )
    found = clear(case, tolerance=1e-5)

    assert found.cost_eur == pytest.approx(best_without_burning(case), abs=1e-4)


def test_nothing_is_said_to_be_lost_where_nothing_would_burn():
    """A lossless store has nothing to burn, and with prices above zero no store wants to."""
    lossless = dict(
        load_kw=[[1.0, 1.0]], pv_kw=[[0.0, 0.0]], dt_h=1.0, stores=1, store_charge_max_kw=1.0, store_discharge_max_kw=1.0,
        store_energy_max_kwh=1.0,
    )  # fmt: skip
    for prices in ((-0.2, -0.3), (0.3, 0.1)):
        assert (
            clear(Problem.plain(**lossless, buy_eur_per_kwh=prices[0], sell_eur_per_kwh=prices[1])).netting_cost_eur
            == 0.0
        )
