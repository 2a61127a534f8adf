"""Prices of a real feeder: rows that are exact in AC, plans that keep its limits, and a band for delivery."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agents import network_prices
from agents.network_prices import Grid
from market.sample import sample
from network import referee
from network.acflow import Model
from network.elements import Line, Transformer
from network.envelope import Limits
from network.feeder import Feeder

LIMITS = Limits(0.94, 1.008, 100.0)


def street(homes: int) -> tuple[Feeder, list[str]]:
    """Return a transformer of 100 kVA and a cable along which the homes stand."""
    buses = ["busbar", *(f"b{i}" for i in range(homes))]
    lines = [Line(f"l{i}", buses[i], buses[i + 1], 0.015, 0.005, 200.0) for i in range(homes)]
    trafo = Transformer("t", "mv", "busbar", 100.0, 20_000.0, 400.0, 4.0, 1.2, 0.2, 0.2)
    return Feeder.build(
        "street", {"mv": 20_000.0} | dict.fromkeys(buses, 400.0), [trafo, *lines], source_bus="mv"
    ), buses


def case(homes: int, steps: int, seed: int = 0):
    """Return a community along the street, its grid, and reactive draws."""
    problem = sample(homes, steps, seed=seed, firm_charge_kw_per_home=0.0)
    free = np.full((problem.n, steps), np.inf)
    problem = replace(problem, import_limit_kw=free, export_limit_kw=free, breach_penalty_eur_per_kwh=None)
    feeder, buses = street(homes)
    at = [
        feeder.buses.ids.index(name) for name in (*buses[1:], buses[0], buses[0])
    ]  # the operator and its store at the busbar
    kvar = np.vstack([0.2 * problem.load_kw, np.zeros((1, steps))])
    return problem, Grid(Model(feeder, at), LIMITS), kvar


@pytest.fixture(scope="module")
def cleared():
    """Return a day of twenty homes, cleared."""
    problem, grid, kvar = case(20, 24)
    return problem, grid, kvar, network_prices.clear(problem, grid, kvar, np.full(24, 0.1))


def test_the_plan_keeps_every_limit_by_another_solvers_power_flow(cleared):
    """power-grid-model finds every voltage and loading of the cleared plan inside, some of them at their limit, which free trade breaks."""
    problem, grid, kvar, found = cleared
    assert found.clearing.status == "converged"
    assert found.kept
    draw = found.clearing.draw_kw
    seen = referee.check(grid.model.feeder, grid.model.connection_bus, draw, kvar)
    assert seen.v_pu.min() >= LIMITS.v_min_pu - 1e-7
    assert seen.v_pu.max() == pytest.approx(LIMITS.v_max_pu, abs=1e-4)
    assert seen.v_pu.max() <= LIMITS.v_max_pu + 1e-7
    assert seen.loading_percent.max() <= 100.0 + 1e-4
    from market.exchange import clear
    from market.network_rows import draws_of

    free = clear(problem)
    x = draws_of(free.meter_kw, free.rented_charge_kw, free.rented_discharge_kw)
    assert grid.beyond(grid.flow(x, kvar)).max() > 0.01


def test_rows_are_those_of_the_power_flow(cleared):
    """At the point where they were made, rows say what the AC power flow says; a little further they are nearly right."""
    _, grid, kvar, found = cleared
    x = 0.8 * found.clearing.draw_kw
    network = grid.network(x, kvar, np.full(24, 0.1))
    assert network.excess(x) == pytest.approx(grid.beyond(grid.flow(x, kvar)) + 2e-6, abs=1e-12)
    near = x + np.random.default_rng(0).normal(size=x.shape)
    moved = network.excess(near) - network.excess(x)
    truth = grid.beyond(grid.flow(near, kvar)) - grid.beyond(grid.flow(x, kvar))
    assert moved == pytest.approx(truth, abs=0.15 * np.abs(truth).max())


def test_marginal_losses_are_the_slope_of_ac_losses(cleared):
    """What losses cost more for another tenth of a kW, by power flows, is the slope that the prices use."""
    _, grid, kvar, found = cleared
    x = found.clearing.draw_kw
    network = grid.network(x, kvar, np.full(24, 0.1))
    way = np.random.default_rng(1).normal(size=x.shape)
    up, down = (grid.flow(x + sign * 0.1 * way, kvar).loss_kw.sum(axis=0) for sign in (1.0, -1.0))
    assert (network.marginal_loss(x) * way).sum(axis=0) == pytest.approx(
        (up - down) / 0.2, abs=1e-3 * np.abs(up - down).max() / 0.2
    )
    assert network.loss_kw(x) == pytest.approx(grid.flow(x, kvar).loss_kw.sum(axis=0), abs=1e-9)
    assert found.clearing.loss_kw == pytest.approx(grid.flow(x, kvar).loss_kw.sum(axis=0), rel=1e-3)


def test_who_feeds_in_far_away_is_worth_less(cleared):
    """Where voltages are at their highest, a kWh at the end of the street is worth least, and the bus at its limit is named."""
    _, grid, _, found = cleared
    clearing = found.clearing
    at = int(clearing.congestion_eur_per_kwh.min(axis=0).argmin())
    along = clearing.congestion_eur_per_kwh[:20, at]
    assert along.min() < -0.01
    assert (np.diff(along) <= 1e-12).all()
    assert clearing.binding_element[at] in grid.model.feeder.buses.ids


def test_a_band_lets_everybody_do_what_was_cleared(cleared):
    """Inside its band lie all cleared draws, and both of its corners keep every limit where the feeder can carry them."""
    problem, grid, kvar, found = cleared
    draw, n = found.clearing.draw_kw, problem.n
    active = np.ones(len(draw), dtype=bool)
    cap = np.full(len(draw), 10.0)
    limits = network_prices.band(grid.model, draw, kvar, active, cap, cap, LIMITS)
    assert (draw <= limits.import_limit_kw + 1e-9).all()
    assert (-draw <= limits.export_limit_kw + 1e-9).all()
    fine = limits.status == "ok"
    assert fine.any()
    obliged = np.where(limits.firm_charge_kw > 0, limits.firm_charge_kw, -limits.export_limit_kw)
    for corner in (limits.import_limit_kw, obliged):
        assert grid.beyond(grid.flow(corner, kvar))[:, fine].max() <= 1e-6
    assert n < len(draw)
