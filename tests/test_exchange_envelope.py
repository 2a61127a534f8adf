"""Leaving an envelope: where nothing else is possible, as little as possible, and never for money."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from market.central import solve
from market.exchange import Infeasible, Problem, ProblemError, attainable, clear
from market.laws import broken_laws

QUIET = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
STOPS = ({"tolerance": 1e-1}, {"max_iterations": 20}, {"tolerance": 1e-3, "max_iterations": 800})


def home(**more):
    """One home for three hours with a lossy battery of 2 kW and 2 kWh, half full; energy is cheap first and dear last."""
    case = dict(
        load_kw=[[1.0, 1.0, 1.0]],
        pv_kw=[[0.0, 0.0, 0.0]],
        buy_eur_per_kwh=[[0.10, 0.30, 0.50]],
        sell_eur_per_kwh=0.05,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=2.0,
        store_discharge_max_kw=2.0,
        store_energy_max_kwh=2.0,
        store_initial_kwh=1.0,
        store_efficiency_charge=0.9,
        store_efficiency_discharge=0.9,
    )
    return Problem.plain(**(case | more))


def tight(seed):
    """Draw homes with two stores each behind narrow envelopes: peaks, cars in a hurry, sun that does not fit."""
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(1, 5)), int(rng.integers(2, 9))
    load, pv = rng.uniform(0, 4, (n, steps)), rng.uniform(0, 6, (n, steps)) * (rng.random((n, 1)) < 0.5)
    buy = rng.uniform(0.1, 0.5, (1, steps))
    power = rng.uniform(0, 4, (2, n, 1)) * (rng.random((2, n, 1)) < 0.8)
    size = power[:, :, 0] * rng.uniform(0.5, 3, (2, n))
    least = np.zeros((2, n, steps))
    least[1, :, -1] = size[1] * rng.uniform(
        0.3, 1.0, n
    )  # the second is a car: it is to be full, and gives nothing back
    case = Problem.plain(
        load,
        pv,
        buy,
        buy * rng.uniform(0, 1, (1, steps)),
        dt_h=0.5,
        stores=2,
        import_limit_kw=rng.uniform(1, 5, (n, steps)),
        export_limit_kw=rng.uniform(0, 3, (n, steps)),
        store_charge_max_kw=power,
        store_discharge_max_kw=power * np.array([1.0, 0.0])[:, None, None],
        store_energy_min_kwh=least,
        store_energy_max_kwh=size[:, :, None],
        store_initial_kwh=size * rng.random((2, n)) * 0.5,
        store_efficiency_charge=rng.uniform(0.8, 1, (2, n)),
        store_efficiency_discharge=rng.uniform(0.8, 1, (2, n)),
    )
    return attainable(case)[0]


def least_outside_kwh(p, i):
    """Return the least energy that agent ``i`` must move outside its envelope: a linear program of its stores alone."""
    stores, steps, dt = p.stores, p.steps, p.dt_h
    size = stores * steps
    charge, discharge, content = (q * size + np.arange(size).reshape(stores, steps) for q in range(3))
    outside = 3 * size + np.arange(steps)
    chain, change, below, limit = np.zeros((size, 3 * size + steps)), np.zeros(size), [], []
    for k in range(stores):
        for t in range(steps):
            row = k * steps + t
            chain[row, [content[k, t], charge[k, t], discharge[k, t]]] = (
                1.0, -dt * p.store_efficiency_charge[k, i], dt / p.store_efficiency_discharge[k, i]
            )  # fmt: skip
            change[row] = -p.store_drain_kwh[k, i, t]
            if t:
                chain[row, content[k, t - 1]] = -p.store_retention[k, i]
            else:
                change[row] += p.store_retention[k, i] * p.store_initial_kwh[k, i]
    for t in range(steps):
        own = np.zeros(3 * size + steps)
        own[charge[:, t]], own[discharge[:, t]] = 1.0, -1.0
        for sign, room in (
            (1.0, p.import_limit_kw[i, t] - p.load_kw[i, t] + p.pv_kw[i, t]),
            (-1.0, p.export_limit_kw[i, t] + p.load_kw[i, t]),
        ):
            row = sign * own
            row[outside[t]] = -1.0
            below.append(row)
            limit.append(room)
    cost = np.zeros(3 * size + steps)
    cost[outside] = dt
    low = np.concatenate([np.zeros(2 * size), p.store_energy_min_kwh[:, i].ravel(), np.zeros(steps)])
    high = [p.store_charge_max_kw[:, i], p.store_discharge_max_kw[:, i], p.store_energy_max_kwh[:, i]]
    high = np.concatenate([*(h.ravel() for h in high), np.full(steps, np.inf)])
    finite = np.isfinite(limit)
    return linprog(
        cost, np.array(below)[finite], np.array(limit)[finite], chain, change, np.stack([low, high], axis=1)
    ).fun


@given(st.integers(0, 10_000), st.sampled_from(STOPS))
@settings(QUIET, max_examples=40)
def test_no_plan_leaves_an_envelope_further_than_it_must(seed, stop):
    """Wherever the iteration stops, the energy outside every envelope is the least that a linear program can find."""
    case = tight(seed)
    try:
        found = clear(case, **stop)
    except Infeasible:
        assume(False)
        raise

    assert broken_laws(case, found) == []
    assert found.bound_eur <= found.cost_eur
    for i in range(case.n):
        assert case.dt_h * found.breach_kw[i].sum() <= least_outside_kwh(case, i) + 1e-8


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=10)
def test_the_solvers_own_plan_keeps_inside_as_well(seed):
    """The central optimum, which is off by its own tolerance, is held to the same."""
    case = tight(seed)
    found = solve(case)

    for i in range(case.n):
        assert case.dt_h * found.breach_kw[i].sum() <= least_outside_kwh(case, i) + 1e-8


def test_a_battery_covers_a_peak_as_far_as_it_reaches():
    """4 kW behind 2 kW in the last hour: of the 2 kWh in the battery 1.8 kWh come out, so 0.2 kW are outside."""
    case = home(load_kw=[[1.0, 1.0, 4.0]], import_limit_kw=2.0)

    for stop in STOPS:
        found = clear(case, **stop)
        np.testing.assert_allclose(found.breach_kw, [[0.0, 0.0, 0.2]], atol=1e-9)


def test_two_stores_help_where_neither_could_alone():
    """5 kW behind 2 kW: two batteries of 2 kW each give the 3 kW, and the plan of a single iteration does not know it."""
    two = home(
        load_kw=[[1.0, 1.0, 5.0]],
        import_limit_kw=[[6.0, 6.0, 2.0]],
        stores=2,
        store_initial_kwh=[[0.0], [0.0]],
        buy_eur_per_kwh=[[0.50, 0.30, 0.10]],
    )
    found = clear(two, max_iterations=1)

    assert found.breach_kw.max() <= 1e-9
    assert broken_laws(two, found) == []


def test_a_penalty_that_would_let_money_break_an_envelope_is_refused():
    """Charged at 0.10 outside the envelope, a kWh is worth 0.50 x 0.81 later: a penalty of 0.25 would be paid with pleasure."""
    with pytest.raises(
        ProblemError, match=r"breach_penalty_eur_per_kwh is 0\.25, but .* worth 0\.6173: .* Give that or more"
    ):
        home(import_limit_kw=1.5, breach_penalty_eur_per_kwh=0.25)

    assert home(breach_penalty_eur_per_kwh=0.25).breach_penalty_eur_per_kwh == 0.25  # nobody has a limit
    assert home(import_limit_kw=1.5).breach_penalty_eur_per_kwh == 2.0


@pytest.mark.parametrize("factor", [1.0, 100.0])
def test_no_battery_buys_its_way_through_in_any_currency(factor):
    """Prices in yen change what everything costs, not what anybody does: the limit of 1.5 kW holds, and the bound knows it."""
    case = home(import_limit_kw=1.5)
    yen = replace(
        case,
        buy_eur_per_kwh=factor * case.buy_eur_per_kwh,
        sell_eur_per_kwh=factor * case.sell_eur_per_kwh,
        breach_penalty_eur_per_kwh=None,
    )
    found = clear(yen, tolerance=1e-6)

    assert found.breach_kw.max() == 0.0
    assert found.cost_eur == pytest.approx(factor * clear(case, tolerance=1e-6).cost_eur, rel=1e-4)
    assert found.gap <= 1e-4


def test_what_is_outside_by_force_is_priced_above_everything():
    """The penalty grows with wear, losses and prices below zero, each by as much as the formula says."""
    limited = {"import_limit_kw": 1.5, "sell_eur_per_kwh": -2.0, "store_wear_eur_per_kwh": 0.25}

    assert home(**limited).breach_penalty_eur_per_kwh == pytest.approx(1.5 * (0.5 + 2.0 + 2 * 0.25) / 0.81)
    leaky = home(**limited, store_retention=0.01)
    assert leaky.breach_penalty_eur_per_kwh == pytest.approx(1.5 * (0.5 + 2.0 + 2 * 0.25) / 0.1)
