"""Leaving an envelope: where nothing else is possible, then at least cost, and never for money."""

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
from market.merit import steps_of

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
    return own_program(p, i).fun


def least_cost_alone_eur(p, i):
    """Return the least that agent ``i`` pays alone, energy outside its envelope at the penalty: the same, with retail prices."""
    return own_program(p, i, money=True).fun


def own_program(p, i, *, money=False):
    """Solve the linear program of one agent's stores for least energy outside, or for least cost."""
    stores, steps, dt = p.stores, p.steps, p.dt_h
    size = stores * steps
    charge, discharge, content = (q * size + np.arange(size).reshape(stores, steps) for q in range(3))
    outside, curtailed, bought, sold = (3 * size + q * steps + np.arange(steps) for q in range(4))
    columns = 3 * size + 4 * steps
    chain, change, below, limit = np.zeros((size + steps, columns)), np.zeros(size + steps), [], []
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
        own, base = np.zeros(columns), p.load_kw[i, t] - p.pv_kw[i, t]
        own[charge[:, t]], own[discharge[:, t]], own[curtailed[t]] = 1.0, -1.0, 1.0
        for sign, limit_kw in ((1.0, p.import_limit_kw[i, t]), (-1.0, p.export_limit_kw[i, t])):
            row = sign * own
            row[outside[t]] = -1.0
            below.append(row)
            limit.append(limit_kw - sign * base)
        chain[size + t] = own
        chain[size + t, [bought[t], sold[t]]] = -1.0, 1.0
        change[size + t] = -base
    cost = np.zeros(columns)
    cost[outside] = dt
    if money:
        cost[outside] = dt * p.breach_penalty_eur_per_kwh
        cost[bought], cost[sold] = dt * p.buy_eur_per_kwh[i], -dt * p.sell_eur_per_kwh[i]
        for flow in (charge, discharge):
            cost[flow] = dt * p.store_wear_eur_per_kwh[:, i, None]
    low = np.concatenate([np.zeros(2 * size), p.store_energy_min_kwh[:, i].ravel(), np.zeros(4 * steps)])
    high = [p.store_charge_max_kw[:, i], p.store_discharge_max_kw[:, i], p.store_energy_max_kwh[:, i]]
    high = np.concatenate([*(h.ravel() for h in high), np.full(steps, np.inf), p.pv_kw[i], np.full(2 * steps, np.inf)])
    finite = np.isfinite(limit)
    return linprog(cost, np.array(below)[finite], np.array(limit)[finite], chain, change, np.stack([low, high], axis=1))


@given(st.integers(0, 10_000), st.sampled_from(STOPS))
@settings(QUIET, max_examples=40)
def test_whoever_can_stay_inside_does(seed, stop):
    """Wherever the iteration stops, nobody leaves an envelope for whom a linear program finds a way inside."""
    case = tight(seed)
    try:
        found = clear(case, **stop)
    except Infeasible:
        assume(False)
        raise

    assert broken_laws(case, found) == []
    assert found.bound_eur <= found.cost_eur
    for i in range(case.n):
        if least_outside_kwh(case, i) <= 1e-9:
            assert case.dt_h * found.breach_kw[i].sum() <= 1e-8


@given(st.integers(0, 10_000), st.sampled_from(STOPS))
@settings(QUIET, max_examples=40)
def test_no_plan_leaves_an_envelope_further_than_it_must(seed, stop):
    """Where leaving is dearer than any losses could save, the energy outside is the least a linear program can find."""
    case = replace(tight(seed), breach_penalty_eur_per_kwh=1e4)
    try:
        found = clear(case, **stop)
    except Infeasible:
        assume(False)
        raise

    for i in range(case.n):
        assert case.dt_h * found.breach_kw[i].sum() <= least_outside_kwh(case, i) + 1e-8


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=10)
def test_the_solvers_own_plan_keeps_inside_as_well(seed):
    """The central optimum, which is off by its own tolerance, is held to the same."""
    case = tight(seed)
    found = solve(case)

    for i in range(case.n):
        if least_outside_kwh(case, i) <= 1e-9:
            assert case.dt_h * found.breach_kw[i].sum() <= 1e-8
    assert found.gap <= 1e-5


def test_a_leaking_buffer_behind_a_full_meter_fills_while_energy_is_cheap():
    """Load fills the limit, so each kWh of heat is outside: to wait for the second hour saves 1 % of it and pays 0.50 for 0.10.

    By hand, with a content e after the first hour: c0 = e + 1 - 0.99 and c1 = 1 - 0.99 e, each at the price plus 2 for the kWh
    outside, falls with e (2.1 - 0.99 x 2.5 < 0), as far as the power or the second hour's need reaches: e = 1 / 0.99.
    """
    buffer = home(
        load_kw=[[2.0, 2.0]],
        pv_kw=[[0.0, 0.0]],
        buy_eur_per_kwh=[[0.1, 0.5]],
        import_limit_kw=1.0,
        store_charge_max_kw=3.0,
        store_discharge_max_kw=0.0,
        store_energy_max_kwh=4.0,
        store_efficiency_charge=1.0,
        store_efficiency_discharge=1.0,
        store_retention=0.99,
        store_drain_kwh=1.0,
        breach_penalty_eur_per_kwh=2.0,
    )
    charged = 1.0 / 0.99 + 0.01
    found = clear(buffer, tolerance=1e-5)

    np.testing.assert_allclose(found.charge_kw[0], [[charged, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found.breach_kw, [[1.0 + charged, 1.0]], atol=1e-6)
    assert found.cost_eur == pytest.approx(0.1 * (2.0 + charged) + 0.5 * 2.0 + 2.0 * (2.0 + charged), abs=1e-6)


def leaking(seed, *, paid=0.0):
    """One agent of :func:`tight` whose stores leak; feeding in earns so much less."""
    drawn = tight(seed)
    rng = np.random.default_rng(seed)
    first = {
        name: getattr(drawn, name)[:1]
        for name in ("load_kw", "pv_kw", "buy_eur_per_kwh", "import_limit_kw", "export_limit_kw")
    }
    stores = {
        f"store_{name}": getattr(drawn, f"store_{name}")[:, :1]
        for name in ("charge_max_kw", "discharge_max_kw", "energy_min_kwh", "energy_max_kwh", "initial_kwh",
                     "efficiency_charge", "efficiency_discharge")
    }  # fmt: skip
    case = Problem.plain(
        **first, **stores, sell_eur_per_kwh=drawn.sell_eur_per_kwh[:1] - paid, dt_h=drawn.dt_h, stores=2,
        store_retention=rng.uniform(0.9, 1.0, (2, 1)),
    )  # fmt: skip
    return attainable(case)[0]


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=25)
def test_what_is_outside_by_force_is_outside_at_least_cost(seed):
    """One agent with leaking stores behind a narrow envelope: its cost, penalty included, is that of the linear program."""
    case = leaking(seed)
    best = least_cost_alone_eur(case, 0)
    found = clear(case, tolerance=1e-5)

    assert found.cost_eur >= best - 1e-7 * max(1.0, abs(best))
    assert found.cost_eur <= best + 1e-3 * max(1.0, abs(best))


@pytest.mark.parametrize("seed", [39, 77, 138, 201, 220])
def test_prices_below_nothing_do_not_move_stores_that_burn_nothing(seed):
    """The same where feeding in costs money, and nobody would charge and discharge at once for it."""
    case = leaking(seed, paid=0.3)
    best = own_program(case, 0, money=True)
    charge, discharge = best.x[: 4 * case.steps].reshape(2, -1)
    found = clear(case, tolerance=1e-5)

    assert np.minimum(charge, discharge).max() < 1e-7
    assert found.cost_eur <= best.fun + 1e-3 * max(1.0, abs(best.fun))


@given(st.integers(0, 10_000), st.sampled_from(["free", "zero"]))
@settings(QUIET, max_examples=40)
def test_what_a_need_costs_the_community_is_what_a_linear_program_says(seed, exchange):
    """The steps of the merit order, summed from one need to another: the difference of two optimal costs."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 6))
    buy, sell = rng.uniform(0.3, 0.5, (n, 1)), rng.uniform(0.0, 0.3, (n, 1))
    charge = rng.uniform(0, 0.1, (n, 1))
    case = Problem.plain(np.zeros((n, 1)), np.zeros((n, 1)), buy, sell, dt_h=1.0, exchange=exchange,
                         exchange_charge_eur_per_kwh=charge)  # fmt: skip
    need = rng.normal(0.0, 2.0, (n, 1))

    def least_eur(own):
        needs = np.concatenate([[own], need[1:, 0]])
        cost = np.concatenate([buy, -sell, np.zeros((n, 1)), charge])[:, 0]  # grid in and out, exchange out and in
        one = np.eye(n)
        rows = np.vstack(
            [np.hstack([one, -one, -one, one]), np.concatenate([np.zeros(2 * n), np.ones(n), -np.ones(n)])]
        )
        top = np.inf if exchange == "free" else 0.0
        bounds = [(0, np.inf)] * (2 * n) + [(0, top)] * (2 * n)
        return linprog(cost, A_eq=rows, b_eq=np.concatenate([needs, [0.0]]), bounds=bounds).fun

    low, high = np.sort(rng.normal(0.0, 5.0, 2))
    steps = steps_of(case, 0, need)
    ends = np.cumsum(np.concatenate([steps.start, steps.size_kw[0, 1:-1]]))
    inside = np.diff(np.clip(np.concatenate([[-np.inf], ends, [np.inf]]), low, high))
    assert (np.diff(steps.price_eur_per_kwh[steps.size_kw > 0.0]) >= 0.0).all()
    assert inside @ steps.price_eur_per_kwh[0] == pytest.approx(least_eur(high) - least_eur(low), abs=1e-9)


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
