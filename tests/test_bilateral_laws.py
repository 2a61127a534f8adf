"""Laws of the bilateral market, for any that can be drawn; the central solver is the yardstick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.bilateral import Bilateral, OwnStores, clear
from market.bilateral_central import solve
from market.curves import Curves

QUIET = settings(deadline=None, derandomize=True)
SEEDS = st.integers(0, 10_000)


def drawn(seed, *, stores=False, forced=True, negative=True):
    """Draw a small market in which anything may happen: roles, ties, flat costs, limits, forced power, stores."""
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(1, 8)), int(rng.integers(1, 5))
    a = rng.uniform(0.1, 3, (n, steps)) * (rng.random((n, 1)) < 0.8)
    b = rng.integers(0, 6, (n, steps)) * 1.0 if rng.random() < 0.3 else rng.uniform(-3 * negative, 9, (n, steps))
    role = rng.integers(0, 3, (n, 1)) if rng.random() < 0.6 else rng.integers(0, 2, (n, 1)) * 2
    low = np.where(role >= 1, -rng.uniform(0, 5, (n, steps)), 0.0)
    high = np.where(role <= 1, rng.uniform(0, 5, (n, steps)), 0.0)
    shut = rng.random((n, steps)) < 0.1
    low, high = np.where(shut, 0.0, low), np.where(shut, 0.0, high)
    if forced and rng.random() < 0.3:
        must = rng.random((n, steps)) < 0.2
        low = np.where(must & (high > 0), 0.3 * high, low)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n) if rng.random() < 0.6]
    more = {"charge_eur_per_kwh": rng.choice([0.0, 1.0]) * rng.uniform(0, 1, (len(pairs), rng.choice([1, steps])))}
    if rng.random() < 0.3:
        more["trade_max_kw"] = np.where(rng.random(len(pairs)) < 0.5, rng.uniform(0, 2, len(pairs)), np.inf)
    if stores:
        more["stores"] = drawn_stores(rng, n, steps)
    return Bilateral.plain(Curves.plain(a, b, low, high, dt_h=float(rng.choice([0.25, 1.0]))), pairs, **more)


def drawn_stores(rng, n, steps):
    slots = int(rng.integers(1, 3))
    power = rng.uniform(0, 4, (slots, n, 1)) * (rng.random((slots, n, 1)) < 0.6)
    size = power * rng.uniform(0.5, 3, (slots, n, 1))
    return OwnStores.plain(
        slots, n, steps, store_charge_max_kw=power, store_discharge_max_kw=power, store_energy_max_kwh=size,
        store_initial_kwh=(size * rng.random((slots, n, 1)))[:, :, 0], store_wear_eur_per_kwh=0.01,
        store_efficiency_charge=rng.uniform(0.8, 1, (slots, n)), store_efficiency_discharge=rng.uniform(0.8, 1, (slots, n)),
        store_retention=rng.choice([1.0, 0.95]),
    )  # fmt: skip


def rebuilt(problem, order, cost=1.0, size=1.0):
    """Return the market with its agents in another order, money and power in other units."""
    c, place = problem.curves, np.argsort(order)
    curves = Curves.plain(c.a_eur_per_kw2h[order] * cost / size, c.b_eur_per_kwh[order] * cost, c.p_min_kw[order] * size,
                          c.p_max_kw[order] * size, dt_h=c.dt_h)  # fmt: skip
    return replace(
        problem, curves=curves, first=place[problem.first], second=place[problem.second],
        charge_first_eur_per_kwh=problem.charge_first_eur_per_kwh * cost,
        charge_second_eur_per_kwh=problem.charge_second_eur_per_kwh * cost, trade_max_kw=problem.trade_max_kw * size,
    )  # fmt: skip


@given(SEEDS, st.booleans())
@settings(QUIET, max_examples=60)
def test_every_plan_is_exact(seed, stores):
    """After however few iterations: powers inside their bounds, payments sum to zero, the bound below the cost."""
    problem = drawn(seed, stores=stores)
    found = clear(problem, max_iterations=3)

    own = found.power_kw + (found.charge_kw - found.discharge_kw).sum(axis=0)
    assert (problem.curves.p_min_kw - own - found.unplaced_kw).max(initial=0.0) <= 1e-8
    assert (own - problem.curves.p_max_kw - found.unplaced_kw).max(initial=0.0) <= 1e-8
    least, most = problem.limits_kw()
    assert (found.trades_kw >= least - 1e-12).all()
    assert (found.trades_kw <= most + 1e-12).all()
    assert abs(found.payment_eur.sum()) <= 1e-12 * max(1.0, abs(found.payment_eur).sum())
    assert found.bound_eur <= found.cost_eur + 1e-9 * max(1.0, abs(found.cost_eur))
    assert (found.status == "infeasible") == bool(found.trouble)


@given(SEEDS)
@settings(QUIET, max_examples=40)
def test_as_the_central_solver(seed):
    """The same cost as the central optimum, and a gap that says so."""
    problem = drawn(seed)
    found, best = clear(problem, tolerance=1e-7), solve(problem)

    assert found.converged
    assert found.status == ("infeasible" if best.trouble else "converged")
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=2e-5, abs=2e-5)
    assert found.bound_eur <= best.cost_eur + 1e-6 * max(1.0, abs(best.cost_eur))
    assert found.gap <= 1e-4


@given(SEEDS)
@settings(QUIET, max_examples=25)
def test_stores_as_the_central_solver(seed):
    """Own stores couple the intervals; the optimum is the central one all the same."""
    problem = drawn(seed, stores=True, forced=False, negative=False)
    found, best = clear(problem, tolerance=1e-7, max_iterations=30_000), solve(problem)

    assert found.converged
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=5e-5, abs=5e-5)
    assert found.gap <= 1e-3


@given(SEEDS)
@settings(QUIET, max_examples=25)
def test_order_and_units_do_not_matter(seed):
    """Agents in another order, money in cents, power in watts: the same market."""
    problem = drawn(seed)
    order = np.random.default_rng(seed).permutation(problem.n)
    found = clear(problem, tolerance=1e-8)
    other = clear(rebuilt(problem, order), tolerance=1e-8)
    cents = clear(rebuilt(problem, np.arange(problem.n), cost=100.0), tolerance=1e-8)
    small = clear(rebuilt(problem, np.arange(problem.n), size=0.01), tolerance=1e-8)

    size = max(1.0, abs(found.cost_eur))
    assert other.cost_eur == pytest.approx(found.cost_eur, abs=1e-5 * size)
    assert cents.cost_eur == pytest.approx(100 * found.cost_eur, abs=1e-3 * size)
    assert small.cost_eur == pytest.approx(0.01 * found.cost_eur, abs=1e-7 * size)


@given(SEEDS)
@settings(QUIET, max_examples=40)
def test_units_scale_everything(seed):
    """Money and power in other units, powers of two apart: the same iterations, and every figure of the result scales."""
    problem = drawn(seed, forced=False)
    found = clear(problem, tolerance=1e-6)
    other = clear(rebuilt(problem, np.arange(problem.n), cost=128.0, size=1.0 / 64.0), tolerance=1e-6)

    assert other.iterations == found.iterations
    assert other.trades_kw == pytest.approx(found.trades_kw / 64.0, rel=1e-9, abs=1e-9)
    assert other.price_eur_per_kwh == pytest.approx(128.0 * found.price_eur_per_kwh, rel=1e-9, abs=1e-9, nan_ok=True)
    for name in ("payment_eur", "agent_cost_eur", "cost_eur", "bound_eur", "max_agent_kkt"):
        assert getattr(other, name) == pytest.approx(2.0 * getattr(found, name), rel=1e-9, abs=1e-9), name


@given(SEEDS)
@settings(QUIET, max_examples=40)
def test_another_pair_never_costs_more(seed):
    """Who gets one more partner has one more possibility: the new best is no worse than the old, and bounds agree."""
    problem, rng = drawn(seed, forced=False), np.random.default_rng(seed)
    have = set(zip(problem.first.tolist(), problem.second.tolist(), strict=True))
    new = [(i, j) for i in range(problem.n) for j in range(i) if (i, j) not in have and (j, i) not in have]
    if not new:
        return
    i, j = new[rng.integers(len(new))]

    def more(column, value):
        return np.concatenate([column, np.full((1, column.shape[1]), value)])

    wider = replace(
        problem, first=np.append(problem.first, i), second=np.append(problem.second, j),
        charge_first_eur_per_kwh=more(problem.charge_first_eur_per_kwh, 0.1),
        charge_second_eur_per_kwh=more(problem.charge_second_eur_per_kwh, 0.2), trade_max_kw=more(problem.trade_max_kw, 3.0),
    )  # fmt: skip
    before, after = clear(problem, tolerance=1e-7), clear(wider, tolerance=1e-7)

    assert after.bound_eur <= before.cost_eur + 1e-9
    assert after.cost_eur <= before.cost_eur + 2e-5 * max(1.0, abs(before.cost_eur))


@given(SEEDS)
@settings(QUIET, max_examples=25)
def test_more_room_never_costs_more(seed):
    """Wider bounds and larger limits: the optimum does not get worse, within what the gaps leave open."""
    problem = drawn(seed, forced=False)
    found = clear(problem, tolerance=1e-7)
    curves = problem.curves
    wider = replace(problem, curves=replace(curves, p_max_kw=curves.p_max_kw * 1.5, p_min_kw=curves.p_min_kw * 1.5),
                    trade_max_kw=problem.trade_max_kw * 2.0)  # fmt: skip
    more = clear(wider, tolerance=1e-7)

    assert more.bound_eur <= found.cost_eur + 1e-9
    assert more.cost_eur <= found.cost_eur + (more.cost_eur - more.bound_eur) + 1e-9
    assert more.gap <= 1e-4


@given(SEEDS, st.integers(0, 3))
@settings(QUIET, max_examples=40)
def test_no_deviation_earns_more_than_told(seed, stop):
    """Whatever other trades an agent tries at the prices, it saves at most what the certificate says, converged or not."""
    problem = drawn(seed, forced=False)
    found = clear(problem, tolerance=1e-7, max_iterations=(2, 10, 30, 1000)[stop])
    rng, c = np.random.default_rng(seed), problem.curves
    least, most = problem.limits_kw()
    reach = np.minimum(np.maximum(c.p_max_kw, 0).sum(axis=0), np.maximum(-c.p_min_kw, 0).sum(axis=0))
    least, most = np.maximum(least, -reach), np.minimum(most, reach)
    price, dt = np.nan_to_num(found.price_eur_per_kwh), c.dt_h
    for i in range(problem.n):
        mine = (problem.first == i) | (problem.second == i)
        sign = np.where(problem.first == i, 1.0, -1.0)[:, None]
        fee = np.where(sign > 0, problem.charge_first_eur_per_kwh, problem.charge_second_eur_per_kwh)

        def cost(trades, i=i, mine=mine, sign=sign, fee=fee):
            p = (sign * trades)[mine].sum(axis=0)
            if (p < c.p_min_kw[i] - 1e-9).any() or (p > c.p_max_kw[i] + 1e-9).any():
                return np.inf
            own = ((0.5 * c.a_eur_per_kw2h[i] * p + c.b_eur_per_kwh[i]) * p).sum()
            return dt * (own + (fee * abs(trades) - price * sign * trades)[mine].sum())

        now = cost(found.trades_kw)
        for _ in range(20):
            mix = rng.random() ** 3
            other = found.trades_kw + mix * (rng.uniform(least, np.maximum(most, least)) - found.trades_kw)
            assert now - cost(other) <= found.max_agent_kkt + 1e-9 * max(1.0, abs(now))


@given(SEEDS)
@settings(QUIET, max_examples=40)
def test_prices_are_accepted_by_both_ends(seed):
    """Without limits a price lies between what its two ends accept, whoever pays which charge, traded or not."""
    problem, rng = drawn(seed), np.random.default_rng(seed)
    problem = replace(problem, charge_second_eur_per_kwh=rng.uniform(0, 1, (problem.pairs, 1)),
                      trade_max_kw=np.full(problem.pairs, np.inf))  # fmt: skip
    found = clear(problem, tolerance=1e-6)
    (sell, buy), (i, k), price = problem.may(), (problem.first, problem.second), found.price_eur_per_kwh
    one = found.marginal_eur_per_kwh[i], np.broadcast_to(problem.charge_first_eur_per_kwh, price.shape)
    two = found.marginal_eur_per_kwh[k], np.broadcast_to(problem.charge_second_eur_per_kwh, price.shape)
    for (seller, fee), (buyer, toll), may in ((one, two, sell[i] & buy[k]), (two, one, sell[k] & buy[i])):
        assert (price - seller - fee)[may].max(initial=0.0) <= 1e-9
        assert (buyer - toll - price)[may].max(initial=0.0) <= 1e-9
    assert np.isnan(price[~(sell[i] & buy[k]) & ~(sell[k] & buy[i])]).all()
