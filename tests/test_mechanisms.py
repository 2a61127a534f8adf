"""All mechanisms on the same people: what each promises, and how they compare."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.community_prices import by_price_rule
from market.curves import Curves
from market.mechanisms import MECHANISMS, MechanismError, compare
from market.orders import OrdersError, alone
from market.problem import Problem
from market.sample import sample

NAMES = ["retailer", "mid_market_rate", "supply_demand_ratio", "bill_sharing", "double_auction_uniform",
         "double_auction_pay_as_bid", "mcafee", "vcg", "order_book", "sharing_game", "exchange"]  # fmt: skip
BY_RETAIL = {"mid_market_rate", "supply_demand_ratio", "bill_sharing"}
NO_STORES = [name for name in NAMES if name != "exchange"]
EFFICIENT = ["mid_market_rate", "supply_demand_ratio", "bill_sharing", "double_auction_uniform",
             "double_auction_pay_as_bid", "vcg"]  # fmt: skip
BALANCED = [name for name in NAMES if name not in ("double_auction_pay_as_bid", "mcafee", "vcg")]
TWO_SLOTS = Problem.plain(
    [[0.0, 0.0], [1.0, 3.0]], [[4.0, 0.0], [0.0, 0.0]], [[0.20, 0.40]], 0.05, dt_h=1.0, agent_ids=("one", "two"),
    shared=1, ess_energy_offer_kwh=2.0, ess_power_offer_kw=2.0,
)  # fmt: skip


@st.composite
def homes(draw):
    """A few homes without stores under one tariff of the hour, whose feed-in price may be negative."""
    n, steps = draw(st.integers(1, 5)), draw(st.integers(1, 3))

    def column(low, high):
        values = st.floats(low, high).map(lambda v: round(v, 2))
        return np.array(draw(st.lists(values, min_size=n * steps, max_size=n * steps))).reshape(n, steps)

    sell = draw(st.floats(-0.1, 0.2).map(lambda v: round(v, 2)))
    buy = sell + 0.01 + column(0.0, 0.3)[:1]
    return Problem.plain(column(0.0, 4.0), column(0.0, 4.0), buy, sell, dt_h=0.5, exchange_charge_eur_per_kwh=0.05)


def test_the_registry_holds_all_mechanisms_in_their_order():
    """The names are those that a case file may say."""
    assert list(MECHANISMS) == NAMES


@given(homes(), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_energy_and_money_are_conserved_by_all(case, seed):
    """What is sold is bought.  All that is gained is the agents', the auctioneer's or the owners', and nothing else is."""
    for name, found in compare(case, seed=seed, coalitions_up_to=0).items():
        assert np.allclose(found.traded_kwh.sum(axis=0), 0.0, atol=1e-9), name
        assert np.allclose(found.alone_eur - found.gain_eur, found.cost_eur, atol=1e-12), name
        everybody = found.gain_eur.sum() + found.auctioneer_eur + found.operator_eur
        assert everybody == pytest.approx(found.welfare_eur, abs=1e-9), name
        assert found.auctioneer_eur + found.operator_eur == pytest.approx(found.payment_eur.sum(), abs=1e-9), name


@given(homes(), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_each_mechanism_keeps_its_promise(case, seed):
    """Nobody is worse off, but where bills are shared; payments balance, but where an auctioneer keeps or brings money."""
    for name, found in compare(case, seed=seed, coalitions_up_to=0).items():
        certificate = found.certificate
        if name != "bill_sharing":
            assert certificate.rational, name
            assert found.gain_eur.min() >= -max(1e-9, certificate.tolerance_eur), name
        if name in BALANCED:
            assert certificate.balanced, name
        assert certificate.imbalance_eur == pytest.approx(found.auctioneer_eur, abs=1e-9), name


@given(homes())
@settings(max_examples=20, deadline=None)
def test_nothing_beats_the_exchange_and_the_auctions_gain_all_that_is_traded_as_given(case):
    """Without stores, under one tariff, the exchange is the most there is; the auctions reach it, the others reach at most as much."""
    found = compare(case, coalitions_up_to=0)
    best = found["double_auction_uniform"].welfare_eur

    assert found["exchange"].welfare_eur == pytest.approx(best, abs=2e-3)
    assert found["retailer"].welfare_eur == 0.0
    for name in NO_STORES:
        assert -1e-12 <= found[name].welfare_eur <= best + 1e-9, name
    for name in ("double_auction_pay_as_bid", "vcg"):
        assert found[name].welfare_eur == pytest.approx(best, abs=1e-9), name


def test_the_supply_demand_ratio_at_one_half():
    """Retail 0.20, feed-in 0.05, half of the need is there: sellers get 0.08, buyers pay 0.14 on average."""
    case = Problem.plain([[0.0], [2.0]], [[1.0], [0.0]], 0.20, 0.05, dt_h=1.0)

    found = MECHANISMS["supply_demand_ratio"](case)

    assert found.sell_price_eur_per_kwh[0] == pytest.approx(0.08)
    assert found.buy_price_eur_per_kwh[0] == pytest.approx(0.14)
    assert found.cost_eur.tolist() == pytest.approx([-0.08, 0.28])


def test_the_mid_market_rate_by_hand():
    """3 kWh to spare, 1 needed at 0.30 + 0, charge 0.10, feed-in 0.08: 1 kWh at (0.20 + 0.08)/2; the rest is fed in."""
    case = Problem.plain([[0.0], [1.0]], [[3.0], [0.0]], 0.30, 0.08, dt_h=1.0, exchange_charge_eur_per_kwh=0.10)

    found = MECHANISMS["mid_market_rate"](case)

    assert found.price_eur_per_kwh.tolist() == pytest.approx([0.14])
    assert found.cost_eur.tolist() == pytest.approx([-0.14 - 2 * 0.08, 0.14 + 0.10])
    assert found.sell_price_eur_per_kwh.tolist() == pytest.approx([(0.14 + 2 * 0.08) / 3])


def test_shared_bills_by_hand():
    """Two intervals of the two-slot case: 3 kWh are fed in for 0.15 and 3 bought for 1.20; two needed 4 kWh in all."""
    found = MECHANISMS["bill_sharing"](TWO_SLOTS)

    assert found.cost_eur.tolist() == pytest.approx([-0.15, 1.20])
    assert found.buy_price_eur_per_kwh.tolist() == pytest.approx([0.30, 0.30])
    assert not found.certificate.rational
    assert found.certificate.worst_agent == "one"
    assert found.certificate.balanced


def test_what_is_not_worth_its_charge_is_not_shared():
    """A charge of 0.25 on a kWh that saves 0.22: everybody stays with the retailer, in every mechanism."""
    case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0, exchange_charge_eur_per_kwh=0.25)

    for name, found in compare(case).items():
        assert not found.traded_kwh.any(), name
        assert found.cost_eur.tolist() == pytest.approx([-0.16, 0.60]), name
        assert np.isnan(found.price_eur_per_kwh).all(), name


@pytest.mark.parametrize("name", NAMES)
def test_the_two_slot_case(name):
    """Alone 1.20 in all; trading without a store gains 0.15, with the shared store 0.85; McAfee leaves the only pair out."""
    found = MECHANISMS[name](TWO_SLOTS, seed=1)

    gains = {"retailer": 0.0, "mcafee": 0.0, "exchange": 0.85}
    assert found.alone_eur.tolist() == pytest.approx([-0.20, 1.40], abs=1e-6)
    if name == "sharing_game":
        assert 0.0 < found.welfare_eur < 0.15
    else:
        assert found.welfare_eur == pytest.approx(gains.get(name, 0.15), abs=1e-3)


def test_the_exchange_pays_the_owner_of_the_store_and_balances_with_him():
    """Dual prices give the three (0, 0.15, 0.70); with the owner's share payments sum to zero."""
    found = MECHANISMS["exchange"](TWO_SLOTS, tolerance=1e-5)

    assert found.gain_eur.tolist() == pytest.approx([0.0, 0.15], abs=2e-3)
    assert found.operator_eur == pytest.approx(0.70, abs=2e-3)
    assert found.certificate.balanced
    assert found.certificate.excess_tried == 2**3 - 1
    assert found.certificate.excess_eur <= 2e-3


def test_the_new_england_case(new_england):
    """31 agents: the exchange finds the known price and cost; the auctions come near, the game stays below."""
    found = compare(new_england, coalitions_up_to=0)
    best = 92_547.8749

    assert found["exchange"].price_eur_per_kwh[0] == pytest.approx(57.234302, abs=1e-6)
    assert found["exchange"].welfare_eur == pytest.approx(best, abs=1e-3)
    for name in ("double_auction_uniform", "double_auction_pay_as_bid", "vcg", "mcafee"):
        assert 0.99 * best < found[name].welfare_eur <= best, name
        assert found[name].certificate.rational, name
    assert found["vcg"].auctioneer_eur < 0.0 < found["mcafee"].auctioneer_eur
    assert 0.9 * best < found["sharing_game"].welfare_eur < best
    assert found["sharing_game"].deviation_gain_eur < 1e-6
    assert 0.0 < found["order_book"].welfare_eur < best


def test_finer_steps_bring_the_auction_to_the_pool(new_england):
    """On the New England case, price and welfare with 20 and with 500 steps."""
    coarse, fine = (MECHANISMS["double_auction_uniform"](new_england, steps=s, coalitions_up_to=0) for s in (20, 500))

    assert abs(fine.price_eur_per_kwh[0] - 57.234302) < 0.02
    assert abs(fine.welfare_eur - 92_547.8749) < 0.1 * abs(coarse.welfare_eur - 92_547.8749) + 0.01


def test_homes_with_stores_a_day():
    """A day of ten people: all promises are kept, and moving stores is worth more than trading what they leave."""
    found = compare(sample(9, 24))

    for name in NO_STORES:
        assert found[name].certificate.rational == (name != "bill_sharing"), name
        assert np.allclose(found[name].traded_kwh.sum(axis=0), 0.0, atol=1e-9), name
        assert found[name].alone_eur is found["retailer"].alone_eur, name
    assert found["exchange"].certificate.rational
    assert found["exchange"].welfare_eur > found["double_auction_uniform"].welfare_eur > 0.0
    assert np.isnan(found["exchange"].certificate.excess_eur)  # ten are too many to ask all groups


def test_groups_are_asked_where_they_are_few():
    """Three homes: under the retailer alone the pair that could trade objects by what it would gain, 0.22 per kWh."""
    case = Problem.plain([[0.0], [2.0], [0.0]], [[2.0], [0.0], [0.0]], 0.30, 0.08, dt_h=1.0, agent_ids=("a", "b", "c"))

    found = compare(case)

    certificate = found["retailer"].certificate
    assert certificate.excess_eur == pytest.approx(0.44, abs=1e-4)
    assert certificate.excess_coalition == ("a", "b")
    assert certificate.excess_tried == 7
    for name in ("mid_market_rate", "double_auction_uniform", "order_book", "exchange"):
        assert found[name].certificate.excess_eur <= 1e-4, name
    assert np.isnan(MECHANISMS["retailer"](case, coalitions_up_to=2).certificate.excess_eur)


def test_the_pool_of_curves_is_in_the_core():
    """No group of cost curves would rather have a pool of its own; half of what the auctioneer keeps some group would."""
    curves = Curves.plain([1.0, 1.0, 0.5, 2.0], [8.0, 4.0, 5.0, 9.0], [-30.0, 0.0, -2.0, -4.0], [0.0, 60.0, 10.0, 0.0])

    found = compare(curves)

    assert found["exchange"].certificate.excess_eur <= 1e-9
    assert found["double_auction_pay_as_bid"].certificate.excess_eur > 1.0


def test_a_pair_of_curves_objects_by_what_its_pool_gains():
    """Costs p^2/2 + 8p and p^2/2 + 4p trade 2 kW and gain 4; a third who can do nothing changes nothing."""
    curves = Curves.plain([1.0, 1.0, 1.0], [8.0, 4.0, 6.0], [-30.0, 0.0, 0.0], [0.0, 60.0, 0.0])

    certificate = MECHANISMS["retailer"](curves).certificate

    assert certificate.excess_eur == pytest.approx(4.0, abs=1e-12)
    assert certificate.excess_coalition == ("agent 0", "agent 1")


def test_curves_without_a_retailer_have_no_retail_prices_to_share_by():
    """They are left out of a comparison, and refused by name; with a retailer all run."""
    curves = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])

    assert set(NAMES) - set(compare(curves)) == BY_RETAIL
    for name in BY_RETAIL:
        with pytest.raises(OrdersError, match="needs a retailer"):
            MECHANISMS[name](curves)
    with_one = compare(curves, buy_eur_per_kwh=7.0, sell_eur_per_kwh=5.0)
    assert list(with_one) == NAMES
    assert with_one["mid_market_rate"].price_eur_per_kwh.tolist() == [6.0]
    assert with_one["mid_market_rate"].gain_eur.tolist() == pytest.approx([1.0, 1.0])


def test_the_same_seed_makes_the_same_outcome():
    """Ties and arrivals are drawn from the seed alone."""
    before = alone(sample(9, 24))

    for name in ("order_book", "double_auction_uniform", "mcafee"):
        one, other = (MECHANISMS[name](before, seed=3, coalitions_up_to=0) for _ in range(2))
        assert one.traded_kwh.tobytes() == other.traded_kwh.tobytes(), name
        assert one.cost_eur.tobytes() == other.cost_eur.tobytes(), name


@pytest.mark.parametrize("name", NAMES)
def test_nobody_and_one_alone_are_ordinary(name):
    """No home, or one: nobody trades, and the certificate says so."""
    for n in (0, 1):
        case = Problem.plain(np.full((n, 2), 1.0), 0.0, 0.30, 0.08, dt_h=1.0)
        found = MECHANISMS[name](case)
        assert found.cost_eur.tolist() == pytest.approx([0.60] * n)
        assert not found.traded_kwh.any()
        assert found.certificate.rational
        assert found.certificate.balanced


def test_a_home_that_cannot_be_met_is_said_in_the_outcome():
    """Relaxed once, for all mechanisms."""
    case = Problem.plain([[1.0], [0.0]], [[0.0], [2.0]], 0.30, 0.08, dt_h=1.0, stores=1, agent_ids=("anna", "ben"),
                         store_charge_max_kw=[[[1.0], [0.0]]], store_energy_max_kwh=9.0,
                         store_energy_min_kwh=[[[5.0], [0.0]]])  # fmt: skip

    for name, found in compare(case, infeasible="relax").items():
        assert "anna" in found.relaxed[0], name


def test_names_and_options_that_do_not_exist_are_refused():
    """With those that do."""
    with pytest.raises(MechanismError, match=r"no mechanism bargain; there are retailer, mid_market_rate"):
        compare(TWO_SLOTS, ["bargain"])
    with pytest.raises(MechanismError, match=r"mcafee has no option ties; it has steps"):
        MECHANISMS["mcafee"](TWO_SLOTS, ties="even")


def test_prices_at_a_community_price_lie_between_the_retailers():
    """By either rule, wherever something is shared."""
    before = alone(sample(19, 24))
    assert before.retail is not None

    for rule in ("price.mmr", "price.sdr"):
        shared = by_price_rule(before, rule)
        trades = np.isfinite(shared.price_eur_per_kwh)
        assert trades.any()
        assert (shared.price_eur_per_kwh >= before.retail.sell.max(axis=0) - 1e-12)[trades].all()
        assert (shared.price_eur_per_kwh <= (before.retail.buy - before.retail.charge).min(axis=0) + 1e-12)[
            trades
        ].all()


# everybody together ---------------------------------------------------------------------------------------------------

PAIR = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0], agent_ids=("c", "g"))


@pytest.mark.parametrize(
    ("buy", "sell", "alone_eur", "traded_kwh"),
    [
        pytest.param(10.0, 3.0, 0.0, 0.0, id="the retailer is out of reach"),
        pytest.param(7.0, 3.0, 0.5, 0.0, id="c buys 1 kWh from the retailer, g stands still"),
        pytest.param(7.0, 5.0, 1.0, 1.0, id="each moves 1 kWh with the retailer"),
    ],
)
def test_what_a_mechanism_leaves_is_what_everybody_together_would_gain_more(buy, sell, alone_eur, traded_kwh):
    """The two would meet at 2 kWh and gain 4, beside any of these retailers; what is short of that is named, as everybody's objection.

    A mechanism passes on what both move with the retailer, worth ``buy - sell`` for each kWh, and no more.
    """
    prices = {"buy_eur_per_kwh": buy, "sell_eur_per_kwh": sell}
    idle, shared = (MECHANISMS[name](PAIR, **prices).certificate for name in ("retailer", "mid_market_rate"))

    assert idle.excess_eur == pytest.approx(4.0 - alone_eur, abs=1e-9)
    assert shared.excess_eur == pytest.approx(4.0 - alone_eur - (buy - sell) * traded_kwh, abs=1e-9)
    assert idle.excess_coalition == shared.excess_coalition == ("c", "g")


def test_the_exchange_leaves_nothing():
    """Everybody's own market is the exchange: no group, all of them included, would gain more."""
    assert MECHANISMS["exchange"](PAIR).certificate.excess_eur <= 1e-9
    assert MECHANISMS["exchange"](TWO_SLOTS, tolerance=1e-5).certificate.excess_eur <= 1e-4
