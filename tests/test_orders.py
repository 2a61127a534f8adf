"""Where people stand alone, and the orders that follow from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.curves import Curves
from market.exchange import clear
from market.orders import Orders, OrdersError, alone, orders_from
from market.problem import Problem
from market.sample import sample

TWO = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
numbers = st.floats(-20.0, 20.0).map(lambda v: round(v, 3))


def test_homes_bring_what_is_left_at_their_retail_alternative():
    """Need is bid at purchase price less charge, surplus at the feed-in price, both after the home's own optimum."""
    case = Problem.plain([[0.5], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=0.5, exchange_charge_eur_per_kwh=0.1)

    before = alone(case)

    assert before.surplus_kwh().tolist() == [[0.75], [0.0]]
    assert before.need_kwh().tolist() == [[0.0], [1.0]]
    assert before.curves.b_eur_per_kwh.round(12).tolist() == [[0.08], [0.2]]
    assert before.cost_eur.round(12).tolist() == [-0.06, 0.3]


def test_homes_alone_use_their_stores_and_rent_nothing():
    """Together they cost what the exchange finds when nobody trades and no store is shared."""
    case = sample(7, 24)

    before = alone(case)

    apart = sample(7, 24, ess_kwh_per_home=0.0, firm_charge_kw_per_home=0.0, exchange="zero")
    assert before.cost_eur.sum() == pytest.approx(clear(apart, tolerance=1e-4).cost_eur, abs=2e-3)
    assert before.converged
    assert (before.need_kwh() * before.surplus_kwh() == 0.0).all()


def test_a_home_that_cannot_be_met_is_named_and_the_others_go_on():
    """A battery that must be full and cannot: refused, or relaxed and said in words."""
    store = {
        "store_charge_max_kw": [[[1.0], [1.0]]],
        "store_energy_max_kwh": 9.0,
        "store_energy_min_kwh": [[[5.0], [0.0]]],
    }
    case = Problem.plain([[1.0], [1.0]], 0.0, 0.30, 0.08, dt_h=1.0, stores=1, agent_ids=("anna", "ben"), **store)

    with pytest.raises(RuntimeError, match="anna"):
        alone(case)
    before = alone(case, infeasible="relax")

    assert len(before.relaxed) == 1
    assert "anna" in before.relaxed[0]
    assert before.cost_eur.round(6).tolist() == [0.6, 0.3]


def test_what_is_thrown_away_is_offered_for_nothing():
    """Feeding in costs 0.06: 3 kW of sun are curtailed alone, 2 of them fit through the envelope and are for sale at 0."""
    case = Problem.plain([[0.0]], [[3.0]], 0.30, -0.06, dt_h=0.5, export_limit_kw=2.0)

    before = alone(case)

    assert before.cost_eur.tolist() == pytest.approx([0.0], abs=1e-9)
    assert before.surplus_kwh().tolist() == [[1.0]]
    assert before.curves.b_eur_per_kwh.tolist() == [[0.0]]


def test_who_may_not_trade_brings_nothing():
    """With the exchange closed there is a cost alone and no order."""
    case = Problem.plain([[0.5], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=0.5, exchange="zero")

    before = alone(case)

    assert before.cost_eur.round(12).tolist() == [-0.06, 0.3]
    assert not orders_from(before).energy_kwh.any()


def test_a_staircase_has_whole_steps():
    """Zero, a half or minus one is refused."""
    for wrong in (0, 0.5, 2.5, -1):
        with pytest.raises(OrdersError, match="whole number"):
            orders_from(alone(TWO), wrong)


def test_curves_alone_cost_nothing():
    """Without a retailer there is no power alone, and the curves are the bids."""
    before = alone(TWO)

    assert before.cost_eur.tolist() == [0.0, 0.0]
    assert before.curves is TWO
    assert before.retail is None


def test_curves_with_a_retailer_take_what_they_want_at_his_prices():
    """Buy at 6: 8 - p = 6, so 2 kW for 12 less what they are worth, 14; sell at 5: 4 + p = 5, so 1 kW for 5 at a cost of
    4.5; one whose marginal cost is between the prices stays at zero; a constant one jumps to its bound.
    """
    curves = Curves.plain([1.0, 1.0, 1.0, 0.0], [8.0, 4.0, 5.5, 4.9], [-30.0, 0.0, -9.0, -1.0], [0.0, 60.0, 9.0, 7.0])

    before = alone(curves, buy_eur_per_kwh=6.0, sell_eur_per_kwh=5.0, exchange_charge_eur_per_kwh=0.25)

    assert before.need_kwh().ravel().tolist() == [2.0, 0.0, 0.0, 0.0]
    assert before.surplus_kwh().ravel().tolist() == [0.0, 1.0, 0.0, 7.0]
    assert before.cost_eur.round(12).tolist() == [-2.0, -0.5, 0.0, -0.7]
    assert before.curves.b_eur_per_kwh[:2].ravel().tolist() == [5.75, 5.0]


@given(st.floats(0.0, 3.0), numbers, st.floats(-9.0, 0.0), st.floats(0.0, 9.0), numbers, st.floats(0.0, 5.0))
@settings(max_examples=60, deadline=None)
def test_nobody_does_better_alone_than_at_his_optimum(a, b, low, high, sell, margin):
    """No power within the bounds costs less at the retailer than the one that was chosen."""
    curves = Curves.plain([a], [b], [low], [high])

    before = alone(curves, buy_eur_per_kwh=sell + margin, sell_eur_per_kwh=sell)

    for p in np.linspace(low, high, 41):
        cost = 0.5 * a * p * p + b * p - (sell * p if p > 0 else (sell + margin) * p)
        assert before.cost_eur[0] <= cost + 1e-9


@given(st.floats(0.01, 3.0), numbers, st.floats(-9.0, -0.1), st.floats(0.1, 9.0), st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_whole_steps_of_a_staircase_cost_what_the_curve_says(a, b, low, high, steps):
    """The prices of the first k steps, times their energy, are the curve's cost of that much power; prices rise."""
    curves = Curves.plain([a, 0.0, 0.0], [b, 99.0, -99.0], [low, -1.0, 0.0], [high, 0.0, 1.0], dt_h=0.5)

    orders = orders_from(alone(curves), steps)
    energy, price = orders.energy_kwh[0, :, 0], orders.price_eur_per_kwh[0, :, 0]

    for side in (energy > 0, energy < 0):
        power = np.cumsum(energy[side]) / 0.5
        cost = np.cumsum(energy[side] * price[side])
        assert np.allclose(cost, 0.5 * (0.5 * a * power**2 + b * power), atol=1e-9)
    assert energy.sum() / 0.5 == pytest.approx(low + high, abs=1e-9)
    assert (np.diff(price[energy > 0]) > 0).all()
    assert (np.diff(price[energy < 0]) < 0).all()


def test_a_staircase_ends_where_nobody_would_agree():
    """The dearest buyer pays 8 and the cheapest seller asks for 4: beyond 4 kW either way there are no steps."""
    orders = orders_from(alone(TWO), steps=4)

    assert orders.energy_kwh.sum(axis=1).ravel().tolist() == [-4.0, 4.0]
    prices = orders.price_eur_per_kwh[orders.energy_kwh != 0.0]
    assert prices.min() > 4.0
    assert prices.max() < 8.0


def test_who_can_trade_nothing_has_an_empty_book():
    """No power, no orders, no error."""
    orders = orders_from(alone(Curves.plain([1.0, 0.0], [1.0, 2.0], 0.0, 0.0)))

    assert not orders.energy_kwh.any()
    assert orders.n == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", ["energy", "price"])
def test_what_is_no_number_is_refused(value, column):
    """NaN and infinity are named with agent, order and interval."""
    energy, price = [1.0, value if column == "energy" else -1.0], [0.1, value if column == "price" else 0.2]

    with pytest.raises(OrdersError, match="agent 1, order 0, interval 0"):
        Orders.plain(energy, price)


def test_columns_that_do_not_fit_are_refused():
    """Shapes must agree and hold an interval."""
    with pytest.raises(OrdersError, match="shape"):
        Orders(np.zeros((2, 1, 3)), np.zeros((2, 1, 2)))
    with pytest.raises(OrdersError, match="at least one interval"):
        Orders(np.zeros((2, 1, 0)), np.zeros((2, 1, 0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"buy_eur_per_kwh": 6.0}, "go together"),
        ({"buy_eur_per_kwh": 4.0, "sell_eur_per_kwh": 5.0}, "above 4 for agent 0"),
        ({"buy_eur_per_kwh": np.nan, "sell_eur_per_kwh": 5.0}, "buy_eur_per_kwh is not a number"),
        ({"buy_eur_per_kwh": [6.0, 6.0, 6.0], "sell_eur_per_kwh": 5.0}, "does not broadcast"),
    ],
)
def test_retail_prices_that_cannot_be_meant_are_refused(options, words):
    """One price without the other, feed-in above purchase, NaN, a shape that fits nothing."""
    with pytest.raises(OrdersError, match=words):
        alone(TWO, **options)


def test_who_cannot_be_alone_is_named():
    """A producer that must run needs somebody to take it; a retailer does."""
    must_run = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 1.0], [0.0, 60.0], agent_ids=("c", "g"))

    with pytest.raises(OrdersError, match="'g' between 1 and 60 kW in interval 0"):
        alone(must_run)

    assert alone(must_run, buy_eur_per_kwh=6.0, sell_eur_per_kwh=1.0).surplus_kwh().ravel().tolist() == [0.0, 1.0]


def test_homes_that_cannot_be_asked_are_refused():
    """Retail prices beside their own, trades that are made already, contents of spaces without rights."""
    case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0, shared=1)

    with pytest.raises(OrdersError, match="of their own"):
        alone(case, buy_eur_per_kwh=1.0, sell_eur_per_kwh=0.0)
    with pytest.raises(OrdersError, match="pinned"):
        alone(replace(case, exchange="pinned", pinned_exchange_kw=np.zeros((2, 1))))
    with pytest.raises(OrdersError, match="right_energy_kwh"):
        alone(replace(case, rented_initial_kwh=np.array([[1.0, 0.0]])))
