"""The double auctions: what they promise, on small books of every kind."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from market import auction
from market.curves import Curves, clear_pool
from market.orders import Orders, OrdersError, alone, orders_from

ALL = [auction.uniform, auction.pay_as_bid, auction.mcafee, auction.vcg]
grid = st.integers(-3, 9).map(lambda k: k / 10.0)  # ties, zero and negative prices
fine = st.floats(-0.3, 0.9)


@st.composite
def books(draw, *, agents=8, slots=1, intervals=3, one_size=False):
    """Any book; some orders are empty, sides may be."""
    n, s, steps = draw(st.integers(1, agents)), draw(st.integers(1, slots)), draw(st.integers(1, intervals))
    size = st.integers(-1, 1).map(float) if one_size else st.one_of(st.integers(-4, 4).map(float), st.floats(-5.0, 5.0))
    price = draw(st.sampled_from([grid, fine]))
    count = n * s * steps
    energy = np.array(draw(st.lists(size, min_size=count, max_size=count))).reshape(n, s, steps)
    energy[np.abs(energy) < 1e-3] = 0.0
    return Orders(energy, np.array(draw(st.lists(price, min_size=count, max_size=count))).reshape(n, s, steps))


def best_welfare(orders: Orders) -> np.ndarray:
    """The most that trading could be worth in each interval: the least of the dual over all prices of orders."""
    energy, price = (c.reshape(-1, orders.steps) for c in (orders.energy_kwh, orders.price_eur_per_kwh))
    return np.array(
        [min(np.maximum(energy[:, t] * (p - price[:, t]), 0.0).sum() for p in price[:, t]) for t in range(orders.steps)]
    )


def with_order(orders: Orders, agent: int, energy, price) -> Orders:
    """The book with one agent's orders replaced."""
    e, p = orders.energy_kwh.copy(), orders.price_eur_per_kwh.copy()
    e[agent], p[agent] = energy, price
    return Orders(e, p)


@pytest.mark.parametrize("trade", ALL)
@given(orders=books(slots=2), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_energy_is_conserved_and_nobody_loses(trade, orders, seed):
    """What is sold is bought; an order is filled in its own direction and not beyond; no agent pays more than it names."""
    done = trade(orders, seed=seed)
    filled = done.filled_kwh

    assert np.allclose(filled.sum(axis=(0, 1)), 0.0, atol=1e-9)
    assert (filled * orders.energy_kwh >= 0.0).all()
    assert (np.abs(filled) <= np.abs(orders.energy_kwh) * (1 + 1e-12)).all()
    assert (orders.surplus_eur(filled) - done.payment_eur >= -1e-9).all()
    assert np.isfinite(done.payment_eur).all()


@given(orders=books(slots=2))
@settings(max_examples=40, deadline=None)
def test_the_auctioneer_keeps_what_he_says(orders):
    """Uniform: nothing.  Pay as bid: all that trading is worth.  McAfee: never a deficit.  VCG: never a surplus."""
    assert np.allclose(auction.uniform(orders).auctioneer_eur, 0.0, atol=1e-9)
    bid = auction.pay_as_bid(orders)
    assert np.allclose(bid.auctioneer_eur, orders.surplus_eur(bid.filled_kwh).sum(axis=0), atol=1e-12)
    assert (auction.mcafee(orders).auctioneer_eur >= -1e-9).all()
    assert (auction.vcg(orders).auctioneer_eur <= 1e-9).all()


@pytest.mark.parametrize("trade", [auction.uniform, auction.pay_as_bid, auction.vcg])
@pytest.mark.parametrize("ties", ["seeded", "even"])
@given(orders=books(slots=2))
@settings(max_examples=40, deadline=None)
def test_three_auctions_gain_all_there_is(trade, ties, orders):
    """The welfare of the orders that are filled is the least of the dual, hence the largest possible."""
    filled = trade(orders, ties=ties).filled_kwh

    assert np.allclose(orders.surplus_eur(filled).sum(axis=0), best_welfare(orders), atol=1e-9)


@given(orders=books())
@settings(max_examples=40, deadline=None)
def test_everybody_accepts_the_uniform_price_and_nobody_accepts_is_left_on_both_sides(orders):
    """Who trades accepts the price; of those who like it better than not trading, everybody trades."""
    done = auction.uniform(orders)
    energy, price, filled = orders.energy_kwh, orders.price_eur_per_kwh, done.filled_kwh
    traded = np.isfinite(done.buy_price_eur_per_kwh)
    margin = energy * (np.where(traded, done.buy_price_eur_per_kwh, 0.0) - price)  # above 0: gains

    assert (margin[np.abs(filled) > 1e-9] >= -1e-9).all()
    eager = (margin > 1e-9) & traded
    assert np.allclose(filled[eager], energy[eager], atol=1e-9)


@given(orders=books(one_size=True, intervals=1), k=st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_k_moves_the_price_between_the_ends_of_what_clears(orders, k):
    """At k = 0 it is the lowest price that clears, at k = 1 the highest, and in between a straight line."""
    low, high, price = (float(auction.uniform(orders, k=x).buy_price_eur_per_kwh[0]) for x in (0.0, 1.0, k))
    assume(np.isfinite(low))

    assert low <= high
    assert price == pytest.approx(low + k * (high - low))


@pytest.mark.parametrize("one_size", [True, False])
@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_in_mcafees_auction_no_other_price_pays(data, one_size):
    """Whatever one agent names instead of its own price, it does not gain more, valued at its own price."""
    orders = data.draw(books(one_size=one_size, intervals=1))
    agent = data.draw(st.integers(0, orders.n - 1))
    value, lie = orders.price_eur_per_kwh[agent].copy(), data.draw(st.one_of(grid, fine))
    liar = with_order(orders, agent, orders.energy_kwh[agent], lie)

    honest, lying = auction.mcafee(orders), auction.mcafee(liar)

    gain = [-(value * d.filled_kwh[agent]).sum() - d.payment_eur[agent].sum() for d in (honest, lying)]
    assert gain[1] <= gain[0] + 1e-9


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_under_vcg_no_other_order_pays(data):
    """Neither other prices nor less energy, whatever the number of one's orders."""
    orders = data.draw(books(slots=2, intervals=1))
    agent = data.draw(st.integers(0, orders.n - 1))
    slots = orders.energy_kwh.shape[1]
    value = orders.price_eur_per_kwh[agent].copy()
    lies = np.array(data.draw(st.lists(grid, min_size=slots, max_size=slots)))[:, None]
    less = np.array(data.draw(st.lists(st.floats(0.0, 1.0), min_size=slots, max_size=slots)))[:, None]
    liar = with_order(orders, agent, orders.energy_kwh[agent] * less, lies)

    honest, lying = auction.vcg(orders), auction.vcg(liar)

    gain = [-(value * d.filled_kwh[agent]).sum() - d.payment_eur[agent].sum() for d in (honest, lying)]
    assert gain[1] <= gain[0] + 1e-9


def test_in_the_uniform_auction_another_price_may_pay():
    """The control of the two above: the only buyer halves the margin by naming less than it would pay."""
    honest = auction.uniform(Orders.plain([1.0, -1.0], [0.10, 0.30]))
    lying = auction.uniform(Orders.plain([1.0, -1.0], [0.10, 0.12]))

    assert 0.30 - honest.payment_eur[1, 0] == pytest.approx(0.10)
    assert 0.30 - lying.payment_eur[1, 0] == pytest.approx(0.19)


@given(orders=books(slots=2, intervals=2))
@settings(max_examples=40, deadline=None)
def test_vcg_pays_what_the_others_lose_by_ones_absence(orders):
    """Each payment is found again by taking the agent out of the book and clearing what is left."""
    done = auction.vcg(orders)
    own = orders.surplus_eur(done.filled_kwh)
    for agent in range(orders.n):
        without = with_order(orders, agent, 0.0, 0.0)
        others = own.sum(axis=0) - own[agent]
        assert np.allclose(done.payment_eur[agent], best_welfare(without) - others, atol=1e-9)


@pytest.mark.parametrize("trade", [auction.uniform, auction.pay_as_bid, auction.vcg])
@given(orders=books(), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_with_even_ties_the_order_of_agents_does_not_matter(trade, orders, shuffle):
    """The same people in other rows trade and pay the same."""
    rows = list(range(orders.n))
    shuffle.shuffle(rows)

    one = trade(orders, ties="even")
    other = trade(Orders(orders.energy_kwh[rows], orders.price_eur_per_kwh[rows]), ties="even")

    assert np.allclose(one.traded_kwh[rows], other.traded_kwh, atol=1e-9)
    assert np.allclose(one.payment_eur[rows], other.payment_eur, atol=1e-9)


@pytest.mark.parametrize("trade", ALL)
@given(orders=books(), energy=st.sampled_from([1e-6, 1e-3, 1e4]), money=st.sampled_from([1e-3, 50.0]))
@settings(max_examples=40, deadline=None)
def test_scaling_energy_or_money_scales_the_result(trade, orders, energy, money):
    """From watts to gigawatts, from cents to crowns."""
    one = trade(orders)
    other = trade(Orders(orders.energy_kwh * energy, orders.price_eur_per_kwh * money))

    assert np.allclose(other.traded_kwh, one.traded_kwh * energy, rtol=1e-9, atol=1e-9 * energy)
    assert np.allclose(other.payment_eur, one.payment_eur * energy * money, rtol=1e-9, atol=1e-9 * energy * money)


@pytest.mark.parametrize("trade", [auction.uniform, auction.pay_as_bid, auction.vcg])
def test_one_watt_trades_beside_ten_megawatts(trade):
    """A quarter of a watt-hour in a book of megawatt-hours is filled to the last digit."""
    orders = Orders.plain([10_000.0, 2.5e-4, -10_000.0, -2.5e-4], [0.10, 0.11, 0.30, 0.29])

    done = trade(orders)

    assert done.traded_kwh.ravel().tolist() == pytest.approx([10_000.0, 2.5e-4, -10_000.0, -2.5e-4], rel=1e-9)


def test_ties_at_the_margin_are_drawn_or_shared():
    """Two sellers ask the same for 2 kWh each and 3 are wanted: a lot fills one of them, or both get 1.5."""
    orders = Orders.plain([2.0, 2.0, -3.0], [0.1, 0.1, 0.3])

    drawn = {tuple(auction.uniform(orders, seed=seed).traded_kwh.ravel()) for seed in range(20)}

    assert drawn == {(2.0, 1.0, -3.0), (1.0, 2.0, -3.0)}
    assert auction.uniform(orders, ties="even").traded_kwh.ravel().tolist() == [1.5, 1.5, -3.0]


@pytest.mark.parametrize("trade", ALL)
def test_the_same_seed_makes_the_same_bytes(trade):
    """Nothing is drawn from anywhere else."""
    orders = Orders.plain([1.0, 1.0, 1.0, -1.0, -1.0, -0.5], [0.1, 0.1, 0.1, 0.3, 0.3, 0.3])

    one, other = trade(orders, seed=7), trade(orders, seed=7)

    assert one.filled_kwh.tobytes() == other.filled_kwh.tobytes()
    assert one.payment_eur.tobytes() == other.payment_eur.tobytes()


@pytest.mark.parametrize("trade", ALL)
@pytest.mark.parametrize(
    ("energy", "price"),
    [
        ([1.0, -1.0], [0.30, 0.10]),  # no crossing
        ([1.0, 2.0], [0.10, 0.20]),  # nobody buys
        ([-1.0, -2.0], [0.10, 0.20]),  # nobody sells
        ([0.0, 0.0], [0.10, 0.30]),  # nothing ordered
        ([1.0], [0.10]),  # one agent
        ([], []),  # none
    ],
)
def test_books_without_a_trade_are_ordinary(trade, energy, price):
    """Nobody trades, nobody pays, and the price is NaN."""
    done = trade(Orders.plain(energy, price))

    assert not done.filled_kwh.any()
    assert np.allclose(done.payment_eur, 0.0, atol=1e-15)
    assert np.isnan(done.buy_price_eur_per_kwh).all()
    assert np.isnan(done.sell_price_eur_per_kwh).all()


def test_empty_orders_do_not_make_prices():
    """An order of nothing at 0.15, between seller and buyer, is not seen."""
    done = auction.uniform(Orders.plain([1.0, -1.0, 0.0], [0.10, 0.30, 0.15]))

    assert done.buy_price_eur_per_kwh.tolist() == [0.2]


def test_negative_prices_are_prices():
    """A seller who pays 0.05 to be rid of 2 kWh, a buyer who takes 1 for -0.01: the long side sets the price."""
    done = auction.uniform(Orders.plain([2.0, -1.0], [-0.05, -0.01]))

    assert done.buy_price_eur_per_kwh.tolist() == [-0.05]
    assert done.payment_eur.ravel().tolist() == [0.05, -0.05]


def test_mcafees_first_step_leaves_nobody_out():
    """Sellers 1, 3, 9, buyers 8, 5, 2 (one each): two would trade, the next two stand at 9 and 2, and 5.5 is not between
    3 and 5: the second pair is left out, at its prices.  With a next buyer at 1, 5 is: both pairs trade, nothing is left.
    """
    reduced = auction.mcafee(Orders.plain([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [1.0, 3.0, 9.0, 8.0, 5.0, 2.0]))
    whole = auction.mcafee(Orders.plain([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], [1.0, 3.0, 9.0, 8.0, 5.0, 1.0]))

    assert reduced.traded_kwh.ravel().tolist() == [1.0, 0.0, 0.0, -1.0, 0.0, 0.0]
    assert reduced.auctioneer_eur.tolist() == [2.0]
    assert whole.traded_kwh.ravel().tolist() == [1.0, 1.0, 0.0, -1.0, -1.0, 0.0]
    assert whole.buy_price_eur_per_kwh.tolist() == whole.sell_price_eur_per_kwh.tolist() == [5.0]
    assert whole.auctioneer_eur.tolist() == [0.0]


def test_mcafee_cuts_the_longer_side_in_proportion():
    """Sellers 3 and 1 kWh before the last, buyers 2: each seller sells half of what it offered."""
    done = auction.mcafee(Orders.plain([3.0, 1.0, 2.0, -2.0, -4.0], [0.10, 0.11, 0.20, 0.50, 0.40]))

    assert done.traded_kwh.ravel().tolist() == [1.5, 0.5, 0.0, -2.0, 0.0]
    assert done.payment_eur.ravel().round(12).tolist() == [-0.3, -0.1, 0.0, 0.8, 0.0]


def test_in_the_limit_of_fine_steps_the_auction_is_the_pool():
    """Price and powers of the uniform auction on staircases approach those of the curves, in proportion to the step."""
    rng = np.random.default_rng(3)
    n, steps = 12, 5
    low, high = -rng.uniform(0.0, 8.0, (n, steps)), rng.uniform(0.0, 8.0, (n, steps))
    curves = Curves.plain(rng.uniform(0.2, 2.0, (n, steps)), rng.uniform(1.0, 9.0, (n, steps)), low, high, dt_h=0.25)
    pool = clear_pool(curves)

    errors = []
    for count in (50, 1000):
        done = auction.uniform(orders_from(alone(curves), count), ties="even")
        price = np.abs(done.buy_price_eur_per_kwh - pool.price_eur_per_kwh).max()
        power = np.abs(done.traded_kwh / 0.25 - pool.power_kw).max()
        errors.append(max(price, power))

    assert errors[1] < 0.02
    assert errors[1] < 0.2 * errors[0]


@pytest.mark.parametrize("trade", [auction.uniform, auction.pay_as_bid])
def test_a_thousand_agents_and_a_day_of_quarter_hours_take_well_under_a_second(trade):
    """1000 orders in each of 96 intervals, without a loop over orders."""
    rng = np.random.default_rng(0)
    orders = Orders.plain(rng.normal(size=(1000, 96)), rng.uniform(0.05, 0.3, (1000, 96)))

    start = time.process_time()
    done = trade(orders)

    assert time.process_time() - start < 0.5
    assert np.allclose(orders.surplus_eur(done.filled_kwh).sum(axis=0), best_welfare(orders), atol=1e-9)


def test_options_that_do_not_exist_are_refused():
    """A k outside 0..1, ties by nothing known."""
    orders = Orders.plain([1.0, -1.0], [0.1, 0.3])

    with pytest.raises(OrdersError, match=r"k is 1\.5"):
        auction.uniform(orders, k=1.5)
    with pytest.raises(OrdersError, match="ties is 'first'"):
        auction.vcg(orders, ties="first")
