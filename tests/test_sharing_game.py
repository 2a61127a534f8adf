"""The sharing game: an equilibrium that is checked from the bids alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.curves import Curves, clear_pool
from market.sharing_game import GameError, best_reply_gain_eur, play


@st.composite
def curves(draw, *, agents=7, least=1, intervals=3, linear=True):
    """Any curves whose power may be zero; some cannot move at all."""
    n, steps = draw(st.integers(least, agents)), draw(st.integers(1, intervals))

    def column(low, high):
        numbers = st.floats(low, high).map(lambda v: round(v, 2))
        return np.array(draw(st.lists(numbers, min_size=n * steps, max_size=n * steps))).reshape(n, steps)

    a = column(0.0 if linear else 0.1, 3.0)
    return Curves.plain(a, column(-5.0, 9.0), -column(0.0, 6.0), column(0.0, 6.0), dt_h=0.5)


def utility_of_bid(c: Curves, bid: np.ndarray, i: int, own: float, a: float) -> float:
    """Cost and payment of player i in interval 0 if it bids ``own``, by equation (1); infinite outside its bounds."""
    bids = bid[:, 0].copy()
    bids[i] = own
    price = bids.sum() / (a * len(bids))
    power = a * price - own
    if not c.p_min_kw[i, 0] - 1e-12 <= power <= c.p_max_kw[i, 0] + 1e-12:
        return np.inf
    cost = 0.5 * c.a_eur_per_kw2h[i, 0] * power**2 + c.b_eur_per_kwh[i, 0] * power
    return c.dt_h * (cost - price * power)


@given(curves(), st.floats(0.05, 20.0))
@settings(max_examples=80, deadline=None)
def test_nobody_gains_by_another_bid(c, a):
    """The best reply to the others' bids saves nothing; powers balance, bounds hold, payments sum to zero."""
    found = play(c, price_sensitivity_kw2h_per_eur=a)

    assert found.deviation_gain_eur.max() <= 1e-8
    assert found.deviation_gain_eur.min() >= -1e-8
    assert np.allclose(found.power_kw.sum(axis=0), 0.0, atol=1e-9)
    assert (found.power_kw >= c.p_min_kw).all()
    assert (found.power_kw <= c.p_max_kw).all()
    assert np.allclose(found.payment_eur.sum(axis=0), 0.0, atol=1e-8)


@given(curves(), st.floats(0.05, 20.0))
@settings(max_examples=50, deadline=None)
def test_prices_and_powers_are_what_the_bids_say(c, a):
    """Equation (1), evaluated from the bids, gives the price and the powers that are reported."""
    found = play(c, price_sensitivity_kw2h_per_eur=a)
    plays = found.players.sum(axis=0) >= 2
    price = found.bid_kw.sum(axis=0) / (a * np.maximum(found.players.sum(axis=0), 1))

    assert np.allclose(price[plays], found.price_eur_per_kwh[plays], atol=1e-8)
    assert np.isnan(found.price_eur_per_kwh[~plays]).all()
    assert np.allclose(np.where(found.players, a * price - found.bid_kw, 0.0), found.power_kw, atol=1e-7)


@given(curves(least=2, intervals=1, linear=False), st.floats(0.1, 5.0))
@settings(max_examples=40, deadline=None)
def test_a_search_over_bids_finds_nothing_better(c, a):
    """The closed form of the best reply is doubted, too: bids all around change the bill by equation (1) only upwards."""
    c = replace(c, p_min_kw=c.p_min_kw - 1.0, p_max_kw=c.p_max_kw + 1.0)  # everybody plays
    found = play(c, price_sensitivity_kw2h_per_eur=a)

    for i in range(c.n):
        here = utility_of_bid(c, found.bid_kw, i, found.bid_kw[i, 0], a)
        for step in (-3.0, -0.3, -0.01, 0.01, 0.3, 3.0):
            assert utility_of_bid(c, found.bid_kw, i, found.bid_kw[i, 0] + step, a) >= here - 1e-9


@given(curves(least=2, intervals=1, linear=False), st.floats(0.1, 5.0), st.floats(0.2, 2.0))
@settings(max_examples=40, deadline=None)
def test_the_check_notices_bids_that_are_no_equilibrium(c, a, off):
    """Bids moved apart leave somebody a gain: the certificate can fail."""
    c = replace(c, p_min_kw=c.p_min_kw - 20.0, p_max_kw=c.p_max_kw + 20.0)
    found = play(c, price_sensitivity_kw2h_per_eur=a)
    moved = found.bid_kw.copy()
    moved[0] += off

    assert best_reply_gain_eur(c, moved, found.players, a).max() > 1e-6


@given(curves(), st.floats(0.05, 20.0))
@settings(max_examples=80, deadline=None)
def test_nobody_is_worse_off_than_without_trading(c, a):
    """Cost and payment together are never above zero, in no interval."""
    found = play(c, price_sensitivity_kw2h_per_eur=a)
    cost = 0.5 * (0.5 * c.a_eur_per_kw2h * found.power_kw**2 + c.b_eur_per_kwh * found.power_kw)

    assert (cost + found.payment_eur <= 1e-9).all()


@given(curves(least=2))
@settings(max_examples=50, deadline=None)
def test_the_keener_on_price_the_cheaper_down_to_the_pool(c):
    """The total cost falls with the sensitivity, is never below the pool's, and is it in the limit."""
    pool = float(clear_pool(c).cost_eur.sum())
    costs = [
        float(c.cost_eur(play(c, price_sensitivity_kw2h_per_eur=a).power_kw).sum()) for a in (0.05, 0.5, 5.0, 50.0, 1e7)
    ]

    assert (np.diff(costs) <= 1e-9).all()
    assert costs[-1] >= pool - 1e-9
    assert costs[-1] == pytest.approx(pool, abs=1e-4)


def test_the_more_players_the_nearer_to_the_pool():
    """The same two people, ten times over: the share of the pool's gain that the game reaches grows towards 1."""
    shares = []
    for times in (1, 10, 100):
        c = Curves.plain([1.0, 1.0] * times, [8.0, 4.0] * times, [-30.0, 0.0] * times, [0.0, 60.0] * times)
        game = c.cost_eur(play(c, price_sensitivity_kw2h_per_eur=1.0).power_kw).sum()
        shares.append(float(game / clear_pool(c).cost_eur.sum()))

    assert shares[0] == pytest.approx(0.75)
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.9999


def test_by_hand():
    """Two players, slopes 1, prices 8 and 4, sensitivity 1: 3p + 2p + 4 - 8 = 0 is p = 1 at (8 - 2 + 4 + 2)/2 = 6."""
    c = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])

    found = play(c, price_sensitivity_kw2h_per_eur=1.0)

    assert found.power_kw.ravel().tolist() == [-1.0, 1.0]
    assert found.price_eur_per_kwh.tolist() == [6.0]
    assert found.bid_kw.ravel().tolist() == [7.0, 5.0]
    assert found.payment_eur.ravel().tolist() == [6.0, -6.0]


@given(curves(least=3, intervals=1, linear=False), st.floats(0.1, 5.0))
@settings(max_examples=40, deadline=None)
def test_with_no_bound_in_the_way_the_price_is_the_mean_marginal_cost(c, a):
    """What the source proves of its price."""
    c = replace(c, p_min_kw=c.p_min_kw - 1e3, p_max_kw=c.p_max_kw + 1e3)

    found = play(c, price_sensitivity_kw2h_per_eur=a)

    marginal = c.a_eur_per_kw2h * found.power_kw + c.b_eur_per_kwh
    assert found.price_eur_per_kwh[0] == pytest.approx(marginal.mean(), abs=1e-7)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_do_not_play(n):
    """Nobody, or one alone: no price, no trade, no gain."""
    found = play(Curves.plain(np.ones((n, 1)), 1.0, np.full((n, 1), -1.0), 1.0))

    assert np.isnan(found.price_eur_per_kwh).all()
    assert not found.power_kw.any()
    assert not found.deviation_gain_eur.any()


def test_who_cannot_move_is_no_player():
    """A third agent of no width leaves the other two's equilibrium as it is."""
    two = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
    three = Curves.plain([1.0, 1.0, 1.0], [8.0, 4.0, 5.0], [-30.0, 0.0, 0.0], [0.0, 60.0, 0.0])

    one, other = (play(c, price_sensitivity_kw2h_per_eur=1.0) for c in (two, three))

    assert one.power_kw.tolist() == other.power_kw[:2].tolist()
    assert other.players.ravel().tolist() == [True, True, False]


@given(curves(least=2), st.sampled_from([1e-3, 1e3]), st.sampled_from([1e-2, 40.0]))
@settings(max_examples=40, deadline=None)
def test_the_default_sensitivity_scales_with_energy_and_money(c, energy, money):
    """Scaled people play the scaled game without anybody setting a number."""
    scaled = replace(
        c,
        a_eur_per_kw2h=c.a_eur_per_kw2h * money / energy,
        b_eur_per_kwh=c.b_eur_per_kwh * money,
        p_min_kw=c.p_min_kw * energy,
        p_max_kw=c.p_max_kw * energy,
    )
    one, other = play(c), play(scaled)

    assert np.allclose(other.power_kw, one.power_kw * energy, rtol=1e-6, atol=1e-9 * energy)


def test_what_cannot_be_played_is_refused():
    """A sensitivity that is no number above zero; a player who cannot stay out."""
    c = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 1.0], [0.0, 60.0])

    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(GameError, match="price_sensitivity"):
            play(c, price_sensitivity_kw2h_per_eur=wrong)
    with pytest.raises(GameError, match="agent 1 cannot stay out in interval 0"):
        play(c)
