"""Sharing rules: the vectors of the literature by hand, and the laws that hold for whatever comes in."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from market import allocation
from market.allocation import (
    ALLOCATIONS,
    AllocationError,
    equal,
    largest_remainder,
    price,
    proportional,
    prorata,
    share,
    static,
    static_redistribute,
    supply_demand_ratio,
)

MILLION = 1_000_000
DEMAND = np.array([[2, 1, 1], [0.5, 3, 0.5], [1, 1, 1], [0, 0, 0]]).T  # kWh, three members, four intervals
POOL = np.array([2, 2, 6, 1])
KEYS = np.array([0.5, 0.3, 0.2])


def in_the_vector(rule, keys=None):
    """Return what the members receive of the vector, intervals first, and the surplus [kWh]; two givers share the pool."""
    demand = np.vstack([DEMAND, np.zeros((2, 4))])
    generation = np.vstack([np.zeros((3, 4)), 0.75 * POOL[None], 0.25 * POOL[None]])
    if keys is not None:
        keys = np.append(keys, [0.0, 0.0])
    received, gave = rule(np.rint(demand * MILLION).astype(int), np.rint(generation * MILLION).astype(int), keys)
    assert (received.sum(axis=0) == gave.sum(axis=0)).all()
    assert not received[3:].any()
    return received[:3].T / MILLION, POOL - gave.sum(axis=0) / MILLION


def test_prorata_by_hand():
    """In proportion to need."""
    received, surplus = in_the_vector(prorata)

    np.testing.assert_allclose(received, [[1, 0.5, 0.5], [0.25, 1.5, 0.25], [1, 1, 1], [0, 0, 0]], rtol=0, atol=0)
    assert surplus.tolist() == [0, 0, 3, 1]


def test_static_keys_by_hand():
    """What a member cannot use of its key stays surplus."""
    received, surplus = in_the_vector(static, KEYS)

    np.testing.assert_allclose(received, [[1, 0.6, 0.4], [0.5, 0.6, 0.4], [1, 1, 1], [0, 0, 0]], rtol=0, atol=1e-12)
    np.testing.assert_allclose(surplus, [0, 0.5, 3, 1], rtol=0, atol=1e-12)


def test_static_keys_with_redistribution_by_hand():
    """What a member cannot use of its key is offered to the others by their keys: in row 2 all of it is used."""
    received, surplus = in_the_vector(static_redistribute, KEYS)

    np.testing.assert_allclose(received[1], [0.5, 1, 0.5], rtol=0, atol=1e-12)
    assert surplus[1] == 0


def test_equal_shares_by_hand():
    """Two kWh for three are 2/3 each, to the mWh; who needs less leaves it to the others."""
    received, surplus = in_the_vector(equal)

    np.testing.assert_allclose(received[0], [0.666667, 0.666667, 0.666666], rtol=0, atol=1e-12)
    np.testing.assert_allclose(received[1], [0.5, 1, 0.5], rtol=0, atol=0)
    assert surplus.tolist() == [0, 0, 3, 1]


def test_the_remainder_goes_to_the_largest_then_to_the_first():
    """7 between needs of 3, 3 and 4 is 2.1, 2.1 and 2.8; 1 between three equals goes to the first."""
    assert proportional(np.array([[3], [3], [4]]), np.array([7])).ravel().tolist() == [2, 2, 3]
    assert proportional(np.array([[5], [5], [5]]), np.array([1])).ravel().tolist() == [1, 0, 0]
    assert largest_remainder(np.array([[0.5], [-0.5]]), np.array([0])).ravel().tolist() == [1, -1]


def test_keys_may_change_from_interval_to_interval():
    """Keys per interval are used in their interval."""
    demand, generation = np.array([[10, 10], [10, 10], [0, 0]]), np.array([[0, 0], [0, 0], [8, 8]])

    received, _ = static(demand, generation, np.array([[1.0, 0.25], [0.0, 0.75], [0.0, 0.0]]))

    assert received.tolist() == [[8, 2], [0, 6], [0, 0]]


@st.composite
def markets(draw, largest=10**7):
    """Return need and surplus of up to seven agents in up to three intervals, nobody with both, and keys."""
    shape = (draw(st.integers(1, 7)), draw(st.integers(1, 3)))
    net = draw(arrays(np.int64, shape, elements=st.integers(-largest, largest) | st.integers(-3, 3)))
    weight = draw(arrays(np.int64, shape[0], elements=st.integers(0, 5)))
    keys = (weight + (weight.sum() == 0)) / (weight + (weight.sum() == 0)).sum()
    return np.maximum(net, 0), np.maximum(-net, 0), keys


@pytest.mark.parametrize("rule_id", sorted(ALLOCATIONS))
@given(market=markets())
@settings(deadline=None)
def test_every_rule_keeps_the_laws(rule_id, market):
    """Nobody receives more than it needs or gives more than it has, and what is received is given."""
    demand, generation, keys = market
    received, gave = ALLOCATIONS[rule_id](demand, generation, keys)

    assert (received >= 0).all()
    assert (received <= demand).all()
    assert (gave >= 0).all()
    assert (gave <= generation).all()
    assert (received.sum(axis=0) == gave.sum(axis=0)).all()


@pytest.mark.parametrize("rule_id", ["alloc.prorata", "alloc.equal"])
@given(market=markets())
@settings(deadline=None)
def test_prorata_and_equal_share_all_that_can_be_shared(rule_id, market):
    """The sum shared is the smaller of need and surplus."""
    demand, generation, _ = market
    received, _ = ALLOCATIONS[rule_id](demand, generation, None)

    assert (received.sum(axis=0) == np.minimum(demand.sum(axis=0), generation.sum(axis=0))).all()


@given(markets(largest=10**14))
@settings(deadline=None)
def test_prorata_is_within_one_of_the_exact_fraction(market):
    """Rounding moves nobody by a whole milli-watt-hour, however large the numbers (Python's fractions as witness)."""
    demand, generation, _ = market
    received, _ = prorata(demand, generation)

    for t in range(demand.shape[1]):
        need, pool = int(demand[:, t].sum()), int(generation[:, t].sum())
        for i in range(len(demand)):
            exact = Fraction(int(demand[i, t]) * min(need, pool), need) if need else Fraction(0)
            assert abs(int(received[i, t]) - exact) < 1


@given(markets())
@settings(deadline=None)
def test_equal_shares_differ_by_one_unless_need_ends_first(market):
    """Whoever is left wanting has received at least as much as anyone else, but for one unit of rounding."""
    demand, generation, _ = market
    received, _ = equal(demand, generation)

    for t in range(demand.shape[1]):
        wanting = demand[:, t] > received[:, t]
        if wanting.any():
            assert received[wanting, t].min() >= received[:, t].max() - 1


@given(markets())
@settings(deadline=None)
def test_redistribution_leaves_nothing_where_somebody_with_a_key_wants(market):
    """After redistribution the pool is empty or every member with a key is satisfied."""
    demand, generation, keys = market
    received, gave = static_redistribute(demand, generation, keys)

    left = (generation - gave).sum(axis=0)
    wanting = ((demand > received) & (keys[:, None] > 0)).any(axis=0)
    assert not (wanting & (left > 0)).any()


def test_the_middle_of_the_market_by_hand():
    """Half way between 0.30 − 0.14 and 0.08."""
    one = np.array([1])

    np.testing.assert_allclose(price("price.mmr", np.array([0.16]), np.array([0.08]), one, one), [0.12])


def test_the_supply_demand_ratio_by_hand():
    """Liu et al.: buying .20, selling .05, ratio one half: sellers get .08, buyers pay .14; scarce and plenty at the ends."""
    buy, sell = np.full(3, 0.20), np.full(3, 0.05)
    demand, supply = np.array([2, 2, 2]), np.array([1, 0, 5])

    p = supply_demand_ratio(buy, sell, demand, supply)

    np.testing.assert_allclose(p, [0.08, 0.20, 0.05], rtol=1e-15)
    ratio = 0.5
    np.testing.assert_allclose(p[0] * ratio + buy[0] * (1 - ratio), 0.14, rtol=1e-15)


@given(st.floats(-0.5, 0.5), st.floats(0, 1), st.integers(0, 10), st.integers(0, 10))
@settings(deadline=None)
def test_both_prices_lie_between_feed_in_and_retail(feed_in, spread, demand, supply):
    """Also where feeding in costs money, and where nobody needs anything."""
    retail = feed_in + spread
    for rule_id in allocation.PRICES:
        p = price(rule_id, *map(np.array, ([retail], [feed_in], [demand], [supply])))

        assert feed_in - 1e-12 <= p[0] <= retail + 1e-12


def test_a_rule_that_is_not_known_is_told_with_those_that_are():
    """A typing mistake names the choices."""
    zero = np.zeros((1, 1), dtype=np.int64)
    with pytest.raises(AllocationError, match=r"alloc\.pro-rata.*alloc\.prorata"):
        share("alloc.pro-rata", zero, zero)
    with pytest.raises(AllocationError, match=r"price\.mmr"):
        price("price.mid", np.zeros(1), np.zeros(1), zero[0], zero[0])


@pytest.mark.parametrize(
    "broken",
    [
        lambda d, g, keys: (d + 1, g),
        lambda d, g, keys: (d - d, g),
        lambda d, g, keys: (d / 2, g / 2),
        lambda d, g, keys: (d[:1], g),
        lambda d, g, keys: (-d, -g),
    ],
)
def test_a_plug_in_that_breaks_a_law_is_stopped(broken, monkeypatch):
    """Receiving more than one needs, taking without passing on, halves of units, a lost row, a wrong sign: all are caught."""
    monkeypatch.setitem(ALLOCATIONS, "alloc.broken", broken)
    demand, generation = np.array([[3], [0]]), np.array([[0], [3]])

    assert share("alloc.prorata", demand, generation)[0].tolist() == [[3], [0]]
    with pytest.raises(AllocationError, match="broke its law"):
        share("alloc.broken", demand, generation)


def test_a_price_that_is_no_number_is_stopped(monkeypatch):
    """NaN never becomes a price."""
    monkeypatch.setitem(allocation.PRICES, "price.broken", lambda b, s, d, g: b * np.nan)
    with pytest.raises(AllocationError, match="finite"):
        price("price.broken", np.ones(1), np.ones(1), np.ones(1, int), np.ones(1, int))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (None, "none were given"),
        (np.array([0.5, 0.4]), "must sum to 1"),
        (np.array([1.5, -0.5]), "must not be negative"),
        (np.array([np.nan, 1.0]), "must not be negative"),
        (np.array([1.0]), "give one for each of the 2"),
    ],
)
def test_keys_must_be_shares(keys, message):
    """No keys, wrong sums, negative or missing numbers are told."""
    with pytest.raises(AllocationError, match=message):
        static(np.ones((2, 1), int), np.ones((2, 1), int), keys)


def test_values_that_do_not_sum_to_the_total_are_refused():
    """Largest remainders move less than one unit each; more is somebody's mistake."""
    with pytest.raises(AllocationError, match="do not sum to 0"):
        largest_remainder(np.array([[1.0], [1.0]]), np.array([0]))
