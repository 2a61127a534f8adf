"""The continuous order book: price, then time; what a buyer pays a seller gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import auction
from market.order_book import _one_interval, trade
from market.orders import Orders

price = st.integers(-3, 9).map(lambda k: k / 10.0)
amount = st.one_of(st.integers(-4, 4).map(float), st.floats(-5.0, 5.0).map(lambda v: round(v, 3)))


@st.composite
def books(draw):
    """Any book of a few agents; prices tie, sides may be empty."""
    n, s, steps = draw(st.integers(1, 8)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    count = n * s * steps
    energy = np.array(draw(st.lists(amount, min_size=count, max_size=count))).reshape(n, s, steps)
    return Orders(energy, np.array(draw(st.lists(price, min_size=count, max_size=count))).reshape(n, s, steps))


@given(orders=books(), seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_energy_and_money_are_conserved_and_nobody_loses(orders, seed):
    """What is sold is bought at what is paid, inside every order's limits, to nobody's disadvantage."""
    done = trade(orders, seed=seed).result
    filled = done.filled_kwh

    assert np.allclose(filled.sum(axis=(0, 1)), 0.0, atol=1e-9)
    assert np.allclose(done.auctioneer_eur, 0.0, atol=1e-9)
    assert (filled * orders.energy_kwh >= 0.0).all()
    assert (np.abs(filled) <= np.abs(orders.energy_kwh) + 1e-9).all()
    assert (orders.surplus_eur(filled) - done.payment_eur >= -1e-9).all()


@given(orders=books(), seed=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_what_waits_in_the_end_does_not_cross(orders, seed):
    """No seller and buyer who would agree are left; and no more is gained than the auctions gain."""
    done = trade(orders, seed=seed).result
    left = orders.energy_kwh - done.filled_kwh
    asks = np.where(left > 1e-9, orders.price_eur_per_kwh, np.inf).min(axis=(0, 1))
    bids = np.where(left < -1e-9, orders.price_eur_per_kwh, -np.inf).max(axis=(0, 1))

    assert (bids < asks).all()
    best = orders.surplus_eur(auction.uniform(orders).filled_kwh).sum(axis=0)
    assert (orders.surplus_eur(done.filled_kwh).sum(axis=0) <= best + 1e-9).all()


@given(orders=books(), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_trade_is_within_both_limits_and_they_add_up(orders, seed):
    """Each trade's price is one that both accept; the trades of an agent sum to what it traded and paid."""
    done = trade(orders, seed=seed)
    traded, paid = np.zeros((orders.n, orders.steps)), np.zeros((orders.n, orders.steps))
    for t, i, j, energy, at in zip(
        done.interval, done.seller, done.buyer, done.energy_kwh, done.price_eur_per_kwh, strict=True
    ):
        assert energy > 0.0
        assert at >= orders.price_eur_per_kwh[i, orders.energy_kwh[i, :, t] > 0, t].min()
        assert at <= orders.price_eur_per_kwh[j, orders.energy_kwh[j, :, t] < 0, t].max()
        traded[i, t] += energy
        traded[j, t] -= energy
        paid[i, t] -= energy * at
        paid[j, t] += energy * at

    assert np.allclose(traded, done.result.traded_kwh, atol=1e-12)
    assert np.allclose(paid, done.result.payment_eur, atol=1e-12)


def test_price_goes_before_time_and_time_before_nothing():
    """Sales of 1 kWh at 0.3, 0.1, 0.2, 0.1 arrive, then a purchase of 2.5 at 0.25: the 0.1s in their order, then the 0.2."""
    arrival = np.arange(5)
    energy, limit = np.array([1.0, 1.0, 1.0, 1.0, -2.5]), np.array([0.3, 0.1, 0.2, 0.1, 0.25])

    assert _one_interval(arrival, energy, limit) == [(1, 4, 1.0, 0.1), (3, 4, 1.0, 0.1), (2, 4, 0.5, 0.2)]


def test_who_waits_names_the_price_and_keeps_waiting_with_the_rest():
    """A purchase of 3 at 0.3 waits; sales of 1 at 0.1 and 1 at 0.4 arrive, then one of 5 at 0.2, which waits with 3 in turn
    for a purchase at 0.25.
    """
    arrival = np.arange(5)
    energy, limit = np.array([-3.0, 1.0, 1.0, 5.0, -1.0]), np.array([0.3, 0.1, 0.4, 0.2, 0.25])

    assert _one_interval(arrival, energy, limit) == [(1, 0, 1.0, 0.3), (3, 0, 2.0, 0.3), (3, 4, 1.0, 0.2)]


def test_the_seed_decides_who_comes_first():
    """One seller and one buyer: half of the seeds let the seller name the price; one seed always says the same."""
    orders = Orders.plain([1.0, -1.0], [0.10, 0.30])

    prices = [trade(orders, seed=seed).price_eur_per_kwh[0] for seed in range(40)]

    assert set(prices) == {0.10, 0.30}
    assert 8 < prices.count(0.10) < 32
    assert prices == [trade(orders, seed=seed).price_eur_per_kwh[0] for seed in range(40)]


@pytest.mark.parametrize(
    ("energy", "limit"),
    [([1.0, -1.0], [0.3, 0.1]), ([1.0], [0.1]), ([-1.0, -2.0], [0.1, 0.2]), ([0.0, 0.0], [0.1, 0.3]), ([], [])],
)
def test_books_without_a_trade_are_ordinary(energy, limit):
    """No crossing, one side only, nothing ordered, nobody there."""
    done = trade(Orders.plain(energy, limit))

    assert done.energy_kwh.size == 0
    assert not done.result.filled_kwh.any()
    assert np.isnan(done.result.buy_price_eur_per_kwh).all()
