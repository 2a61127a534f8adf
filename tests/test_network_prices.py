"""Clearing with a grid at the table: prices in three parts, held to a central solver and to hands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import network_central, network_prices
from market.exchange import Problem, ProblemError, clear
from market.laws import broken_laws
from market.network_project import Projection
from market.network_rows import Network, draws_of
from market.sample import sample


def village(homes: int, steps: int, seed: int, *, loss: float, ess_kwh_per_home: float) -> tuple[Problem, Network]:
    """Return a sample community strung along a line: voltages at every place, a rating at its head, losses on the way."""
    case = sample(homes, steps, seed=seed, ess_kwh_per_home=ess_kwh_per_home, firm_charge_kw_per_home=0.0)
    free = np.full((case.n, steps), np.inf)
    case = replace(case, import_limit_kw=free, export_limit_kw=free, breach_penalty_eur_per_kwh=None)
    found = clear(case, tolerance=1e-4)
    x = draws_of(found.meter_kw, found.rented_charge_kw, found.rented_discharge_kw)
    places = len(x)
    far = np.random.default_rng(seed).uniform(0.1, 1.0, places)
    drop = 1e-3 * np.minimum(far[:, None], far[None, :])
    a = np.vstack([drop, -drop, np.ones((1, places)), -np.ones((1, places))])
    fall, rise, most = (drop @ x).max(), -(drop @ x).min(), x.sum(axis=0)
    b = np.concatenate([np.full(places, fall), np.full(places, 0.6 * rise), [1.01 * most.max()], [-0.6 * most.min()]])
    names = tuple(f"bus {i}" for i in range(places)) * 2 + ("head", "head")
    kinds = ("under_voltage",) * places + ("over_voltage",) * places + ("overload",) * 2
    share, way = np.linalg.eigh(0.05 * drop)
    factor = (way * np.sqrt(np.maximum(share, 0.0))).T
    return case, Network(a, np.repeat(b[:, None], steps, axis=1), names, kinds, factor, np.zeros((places, steps)),
                         np.zeros(steps), np.full(steps, loss))  # fmt: skip


def two_homes() -> tuple[Problem, Network]:
    """Anna has 5 kW of sun before a line of 1 kW; Ben, behind it, needs 2 kW and has a generator at 0.25."""
    none, much = np.zeros((1, 2, 1)), np.full((1, 2, 1), 100.0)
    case = Problem.plain(
        [[0.0], [2.0]], [[5.0], [0.0]], 0.30, 0.08, dt_h=1.0, stores=1, store_charge_max_kw=none,
        store_discharge_max_kw=[[[0.0], [9.0]]], store_energy_min_kwh=none, store_energy_max_kwh=much,
        store_initial_kwh=[[0.0, 50.0]], store_wear_eur_per_kwh=[[0.0, 0.25]],
    )  # fmt: skip
    return case, Network.plain([[0.0, 1.0]], [[1.0]], ("the line",), ("overload",))


def test_two_homes_and_one_line_by_hand():
    """Energy is worth 0.08 before the line and 0.25 behind it; the 0.17 between is the line's rent for a kWh."""
    found = network_prices.clear(*two_homes(), tolerance=1e-6)

    assert found.status == "converged"
    assert found.meter_kw[:, 0] == pytest.approx([-5.0, 1.0], abs=1e-4)
    assert found.locational_eur_per_kwh[:, 0] == pytest.approx([0.08, 0.25], abs=1e-4)
    assert found.congestion_eur_per_kwh[:, 0] == pytest.approx([0.0, 0.17], abs=1e-4)
    assert found.rent_eur == pytest.approx(0.17, abs=1e-4)
    assert found.binding_element.tolist() == ["the line"]
    # Ben burns 1 kWh at 0.25, Anna feeds in 4 at 0.08; what changes hands is in nobody's cost
    assert found.cost_eur == pytest.approx(0.25 - 4 * 0.08, abs=1e-4)


def test_losses_by_hand():
    """A load of 3 kW behind a resistance that loses 0.01 kW at 1 kW: 0.09 kW, and 0.06 for each further kW, at 0.20 a kWh."""
    case = Problem.plain([[3.0], [0.0]], [[0.0], [0.0]], 0.30, 0.08, dt_h=0.5)
    wire = Network(np.zeros((0, 2)), np.zeros((0, 1)), (), (), np.array([[0.1, 0.0]]), np.zeros((2, 1)), np.zeros(1),
                   np.array([0.2]))  # fmt: skip
    found = network_prices.clear(case, wire, tolerance=1e-5)

    assert found.loss_kw == pytest.approx([0.09])
    assert found.losses_eur_per_kwh[:, 0] == pytest.approx([0.2 * 0.06, 0.0])
    assert found.loss_cost_eur == pytest.approx(0.5 * 0.2 * 0.09)
    assert found.cost_eur == pytest.approx(0.5 * (3 * 0.30 + 0.2 * 0.09))
    assert found.rent_eur == pytest.approx(0.5 * 3 * 0.2 * 0.06), "marginal losses bring in twice what losses cost"


@pytest.mark.parametrize(
    ("homes", "steps", "seed", "loss", "ess"),
    [(5, 8, 0, 0.0, 0.0), (5, 8, 0, 0.1, 0.0), (8, 12, 3, 0.1, 1.25), (12, 12, 4, 0.0, 1.25)],
)
def test_it_is_the_central_optimum_with_the_same_rows(homes, steps, seed, loss, ess):
    """Clarabel, told everything about everybody, finds the same cost, between our bound and our cost, and the same locational parts."""
    case, network = village(homes, steps, seed, loss=loss, ess_kwh_per_home=ess)
    found = network_prices.clear(case, network, tolerance=1e-4)
    central, optimum = network_central.solve(case, network)

    exact = 1e-6 * found.turnover_eur
    assert found.status == "converged"
    assert found.bound_eur - exact <= optimum <= found.cost_eur + exact
    assert found.gap_eur <= 1e-3 * found.turnover_eur
    assert central.congestion_eur_per_kwh.min() < -0.01, "nothing is congested here: the test says nothing"
    scale = np.abs(central.network_eur_per_kwh).max()
    assert found.network_eur_per_kwh == pytest.approx(central.network_eur_per_kwh, abs=0.05 * scale)
    alone = found.payment_eur - case.dt_h * (found.network_eur_per_kwh[: case.n] * found.meter_kw).sum(axis=1)
    of_stores = found.network_eur_per_kwh[case.n :][:, None] * (found.rented_charge_kw - found.rented_discharge_kw)
    alone -= case.dt_h * of_stores.sum(axis=(0, 2))
    cost, bound = (eur - found.loss_cost_eur for eur in (found.cost_eur, found.bound_eur))
    assert broken_laws(case, replace(found, cost_eur=cost, bound_eur=bound, payment_eur=alone)) == []
    assert (network.excess(found.draw_kw) <= 2e-7 * np.abs(network.a_per_kw).max(axis=1)[:, None]).all()


def test_parts_add_up_and_money_is_conserved():
    """Three parts make the price; what agents pay on top is what owners of stores and the grid's operator get."""
    case, network = village(8, 12, 3, loss=0.1, ess_kwh_per_home=1.25)
    found = network_prices.clear(case, network, tolerance=1e-4)

    parts = found.price_eur_per_kwh + found.losses_eur_per_kwh[: case.n] + found.congestion_eur_per_kwh[: case.n]
    assert np.array_equal(found.locational_eur_per_kwh, parts) or found.locational_eur_per_kwh == pytest.approx(
        parts, abs=1e-15
    )
    assert found.payment_eur.sum() == pytest.approx(found.owner_income_eur.sum() + found.rent_eur, abs=1e-9)
    earned = case.dt_h * (found.congestion_eur_per_kwh * found.draw_kw).sum()
    limits = case.dt_h * (found.row_price_eur_per_h * network.b).sum()
    assert earned == pytest.approx(limits, rel=1e-3), "a row that is not met earns nothing"


def test_any_row_prices_make_a_true_bound():
    """Prices of rows that are wrong by half, or random, give a lower bound on the central optimum."""
    case, network = village(5, 8, 1, loss=0.1, ess_kwh_per_home=1.25)
    _, optimum = network_central.solve(case, network)
    from market.network_splitting import NetworkSplitting

    splitting = NetworkSplitting(case, network, None)
    outcome = splitting.run(1e-3, 4000)
    rng = np.random.default_rng(0)
    plan = network_prices.clear(case, network)
    random = rng.uniform(0.0, 0.02, splitting.row_value.shape) * (rng.random(splitting.row_value.shape) < 0.05)
    for price in (0.5 * splitting.row_value, 1.5 * splitting.row_value, 0.0 * random, random / 1e-3):
        assert network_prices.network_clearing(case, network, plan, outcome, price).bound_eur <= optimum + 1e-6


def test_without_rows_that_bind_it_is_the_exchange():
    """Rows that nothing meets change neither the cost nor the prices of trades, and cost nothing."""
    case, network = village(8, 12, 3, loss=0.0, ess_kwh_per_home=1.25)
    free, wide = (
        clear(case, tolerance=1e-4),
        network_prices.clear(case, replace(network, b=network.b + 1e3), tolerance=1e-4),
    )

    assert not wide.congestion_eur_per_kwh.any()
    assert wide.cost_eur == pytest.approx(free.cost_eur, abs=2e-3 * free.turnover_eur)
    assert max(wide.bound_eur, free.bound_eur) <= min(wide.cost_eur, free.cost_eur) + 1e-9


def test_what_nobody_can_keep_is_named():
    """A load behind a line that is too small for it: infeasible, and the line is told, while the rest is cleared."""
    case = Problem.plain([[0.0, 0.0], [3.0, 1.0]], [[5.0, 5.0], [0.0, 0.0]], 0.30, 0.08, dt_h=1.0)
    found = network_prices.clear(case, Network.plain([[0.0, 1.0]], [[2.0, 2.0]], ("line 7",), ("overload",)))

    assert found.status == "infeasible"
    assert len(found.broken) == 1
    assert "'line 7'" in found.broken[0]
    assert "1 interval(s), worst in interval 0: 1 beyond" in found.broken[0]
    assert found.meter_kw[1].tolist() == [3.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), places=st.integers(1, 7), rows=st.integers(1, 9), lossy=st.booleans())
def test_the_operators_step_is_optimal(seed, places, rows, lossy):
    """Whatever rows and losses: its answer keeps the rows, multipliers are not negative, and both satisfy the optimality conditions."""
    rng = np.random.default_rng(seed)
    steps, dt = 3, 0.25
    a = rng.normal(size=(rows, places))
    inside = rng.normal(size=(places, steps))
    network = Network(a, a @ inside + rng.exponential(size=(rows, steps)), ("e",) * rows, ("k",) * rows,
                      rng.normal(size=(2, places)), rng.normal(size=(places, steps)), np.zeros(steps),
                      rng.choice([0.0, 0.3, 0.7], steps) * lossy)  # fmt: skip
    metric, strength, wish = rng.uniform(0.1, 3.0, places), 0.7, 4.0 * rng.normal(size=(places, steps))
    step = Projection(network, dt, metric)
    step.prepare(strength)
    step.nearest(rng.normal(size=(places, steps)), thorough=True)  # warm from elsewhere
    z, value = step.nearest(wish, thorough=True)

    over = network.excess(z)
    assert (over <= 1e-7).all()
    assert (value >= 0.0).all()
    assert np.abs(value * over).max() <= 1e-6 * max(1.0, np.abs(value).max())
    slope = (
        strength * metric[:, None] * (z - wish) + dt * network.loss_eur_per_kwh * network.marginal_loss(z) + a.T @ value
    )
    assert np.abs(slope).max() <= 1e-6 * max(1.0, np.abs(value).max())


def test_what_does_not_fit_is_refused_at_once():
    """Limits at meters, a netted store, too few places: one message with all of them."""
    case = sample(4, 6, seed=0)
    case = replace(case, ess_netted=np.array([True]), ess_floor=np.array([0.1]))
    with pytest.raises(ProblemError) as told:
        network_prices.clear(case, Network.plain(np.ones((1, 2)), np.ones((1, 6))), tolerance=2.0)
    for word in ("2 places", "6 (agents, then shared stores)", "limits of their own", "netted", "tolerance is 2.0"):
        assert word in str(told.value)
    with pytest.raises(ProblemError, match=r"b has the shape \(1, 6\)"):
        Network(np.ones((2, 2)), np.ones((1, 6)), ("a", "b"), ("x", "x"), np.zeros((0, 2)), np.zeros((2, 6)), np.zeros(6),
                np.zeros(6))  # fmt: skip
