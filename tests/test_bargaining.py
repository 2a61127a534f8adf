"""Who gets what: the design's case by hand, orders by brute force, laws of every rule."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.bargaining import DIVISIONS, dual_prices, least_core, nash, nucleolus, proportional, shapley
from market.coalition import Coalitions, GameError, Player
from market.exchange import Problem, clear
from market.linear_program import solve
from market.payments import book, store_cost_eur
from market.price_range import price_range
from market.sample import sample

RULES = [rule for rule in DIVISIONS if rule != "dual_prices"]


def shared_ess(**more):
    """Two prosumers and an operator, two hours, a lossless shared store of 2 kW and 2 kWh: the design's case I."""
    case = dict(
        load_kw=[[0.0, 0.0], [1.0, 3.0], [0.0, 0.0]],
        pv_kw=[[4.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        buy_eur_per_kwh=[[0.20, 0.40]],
        sell_eur_per_kwh=0.05,
        dt_h=1.0,
        shared=1,
        ess_energy_offer_kwh=2.0,
        ess_power_offer_kw=2.0,
    )
    return Problem.plain(**(case | more))


OWNERS = (Player("one", (0,)), Player("two", (1,)), Player("operator", (2,), (0,)))


@pytest.fixture(scope="module")
def case_i():
    return Coalitions(shared_ess(), OWNERS)


def table(k, seed, *, superadditive=False):
    """A drawn game of k players; where joining never hurts, singles have something of their own."""
    rng = np.random.default_rng(seed)
    value = np.append(0.0, rng.integers(0, 12, (1 << k) - 1)).astype(float)
    for mask in range(1, 1 << k) if superadditive else ():
        part = (mask - 1) & mask
        while part:
            value[mask] = max(value[mask], value[part] + value[mask ^ part])
            part = (part - 1) & mask
    return value


def of(value):
    """The game of a table, its players named by letters."""
    k = len(value).bit_length() - 1
    return Coalitions.of_values(tuple("abcdefghijklmnop"[:k]), value)


games = st.tuples(st.integers(1, 5), st.integers(0, 10**6), st.booleans())


# case I ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "gain"),
    [
        ("dual_prices", (0.0, 0.15, 0.70)),
        ("nash", (0.85 / 3, 0.85 / 3, 0.85 / 3)),
        ("shapley", (0.175, 0.375, 0.300)),
        ("nucleolus", (0.225, 0.3125, 0.3125)),
        ("least_core", (0.225, 0.3125, 0.3125)),
        ("proportional", (0.85 * 0.45 / 2, 0.85 * 0.85 / 2, 0.85 * 0.70 / 2)),
    ],
)
def test_case_i(case_i, rule, gain):
    """The design's gains; the nucleolus worked out below, the contributions being 0.45, 0.85 and 0.70.

    Nucleolus: v(two, operator) = 0.40 and v(one) = 0 object most, together 0.40 + 0 − 0.85 = −0.45, so both by −0.225; the
    rest, 0.625, is halved between two and operator: their singles object by −0.3125, all others less.
    """
    found = DIVISIONS[rule](case_i)

    np.testing.assert_allclose(found.gain_eur, gain, atol=1e-4)
    assert found.accuracy_eur < 1e-4
    assert found.certificate.rational
    assert found.certificate.balanced
    assert found.certificate.excess_eur <= found.certificate.tolerance_eur  # all of them are in the core here
    assert (found.certificate.excess_tried, found.certificate.excess_sampled) == (6, False)


@pytest.mark.parametrize("netted", [False, True])
def test_case_i_to_the_last_digit(netted):
    """With a simplex method the design's gains are exact, with rights in sum and operated netted."""
    game = Coalitions(shared_ess(ess_netted=netted), OWNERS, solve=solve)

    for rule, gain in ((dual_prices, [0.0, 0.15, 0.70]), (nash, [0.85 / 3] * 3), (shapley, [0.175, 0.375, 0.300])):
        found = rule(game)
        np.testing.assert_allclose(found.gain_eur, gain, atol=1e-8)
        assert found.certificate.tolerance_eur < 2e-6
        assert found.certificate.rational
        assert found.certificate.balanced


def test_payments_of_case_i_by_hand(case_i):
    """One sells 4 kWh at 0.05 as it would have alone, two pays 3 x 0.05, 0.35 for two kW and kWh, the operator gets it."""
    found = dual_prices(case_i)
    one, two, operator = found.payment_eur

    # in the plan, one's 3 kWh go to two; it feeds in 1 kWh itself: saves 4 x 0.05 less 0.05 before it is paid
    assert one == pytest.approx(-3 * 0.05, abs=1e-4)
    assert two == pytest.approx(3 * 0.05 + 2 * 0.35, abs=1e-4)
    assert operator == pytest.approx(-2 * 0.35, abs=1e-4)
    assert abs(found.payment_eur.sum()) < 1e-12


def test_reserve_rents_are_the_owners_cost_and_the_tenants_payment():
    """A reserve rent of 0.10 per kWh takes 0.20 off the surplus, and all of it off the scarcity: who rents gains the same."""
    case = shared_ess(rent_energy_eur_per_kwh=0.10)
    game = Coalitions(case, OWNERS)

    found = dual_prices(game)

    assert game.surplus_eur == pytest.approx(0.65, abs=1e-4)
    np.testing.assert_allclose(found.gain_eur, [0.0, 0.15, 0.50], atol=2e-4)
    assert found.payment_eur[2] == pytest.approx(-0.70, abs=2e-4)  # 0.20 reserve and 0.50 scarcity


def test_the_clearings_own_payments_are_booked():
    """What the clearing says that agents pay and owners get, and the stores' costs from tenant to owner, is what is paid."""
    case = sample(4, 6, seed=1)
    market = Coalitions(case, [Player(f"h{i}", (i,)) for i in range(4)] + [Player("op", (4,), (0,))]).market
    found, costs = market.together(), store_cost_eur(case, market.together())
    expected = found.payment_eur + costs.sum(axis=0)
    expected[4] -= found.owner_income_eur[0] + costs.sum()

    np.testing.assert_allclose(book(market).paid_eur, expected, atol=1e-9)
    assert costs.sum() > 0.01


def test_a_firm_charge_is_paid_for():
    """Asked to charge 1 kW while nobody gains by it, tenants are paid to: the owner, whose promise it is, pays."""
    case = shared_ess(pv_kw=0.0, load_kw=[[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]], buy_eur_per_kwh=[[0.40, 0.20]],
                      ess_net_min_kw=[[1.0, -np.inf]])  # fmt: skip
    game = Coalitions(case, OWNERS)
    found = dual_prices(game)

    # alone the operator must buy 1 kWh at 0.40 and can only feed it in for 0.05; together two needs it
    assert game.market.alone_eur[2] == pytest.approx(0.35, abs=1e-4)
    assert game.surplus_eur == pytest.approx(0.15, abs=1e-4)
    assert found.gain_eur.sum() == pytest.approx(0.15, abs=1e-4)
    assert found.certificate.rational


def test_no_coalition_does_better_than_the_prices():
    """Dual prices are in the core of a community with batteries, cars and a shared store, up to what values are known to."""
    case = sample(4, 6, seed=2, firm_charge_kw_per_home=0.0)
    game = Coalitions(case, [Player(f"home{i}", (i,)) for i in range(4)] + [Player("op", (4,), (0,))])

    found = dual_prices(game)

    assert game.surplus_eur > 0.1
    assert found.gain_eur.sum() == pytest.approx(game.surplus_eur, abs=1e-9)
    assert found.certificate.balanced
    assert found.certificate.excess_eur <= 2 * found.accuracy_eur + 1e-6
    assert found.accuracy_eur < 1e-3
    assert (found.least_gain_eur >= -found.certificate.tolerance_eur).all()  # nor would anybody at other such prices
    assert found.clearing.converged


def test_netted_space_earns_its_owner_what_the_box_is_worth():
    """In netted operation nobody pays scarcity rents for rights; the owner gets the value of what flows through the box."""
    found = dual_prices(Coalitions(shared_ess(ess_netted=True), OWNERS))

    assert found.clearing.rent_power_scarcity_eur_per_kw[0] == found.clearing.rent_energy_scarcity_eur_per_kwh[0] == 0.0
    np.testing.assert_allclose(found.gain_eur, [0.0, 0.15, 0.70], atol=2e-4)
    np.testing.assert_allclose(found.least_gain_eur, [0.0, 0.15, 0.70], atol=2e-4)
    np.testing.assert_allclose(found.most_gain_eur, [0.0, 0.15, 0.70], atol=2e-4)


# prices that are not unique ------------------------------------------------------------------------------------------


def test_prices_of_case_i_are_unique(case_i):
    """Every price is somebody's margin: 0.05, 0.40, and 0.35 for the store; the program agrees with the iteration."""
    found = dual_prices(case_i)

    np.testing.assert_allclose(found.least_gain_eur, [0.0, 0.15, 0.70], atol=1e-4)
    np.testing.assert_allclose(found.most_gain_eur, [0.0, 0.15, 0.70], atol=1e-4)
    assert found.note == ""


def test_a_shared_surplus_has_many_prices():
    """Need and surplus are equal: from 0.08 to 0.30 every price clears, so that all or nothing of 2 x 0.22 is the seller's."""
    case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    found = dual_prices(Coalitions(case, [Player("a", (0,)), Player("b", (1,))]))

    np.testing.assert_allclose(found.least_gain_eur, 0.0, atol=1e-6)
    np.testing.assert_allclose(found.most_gain_eur, 0.44, atol=1e-6)
    assert "not unique" in found.note
    assert (found.gain_eur >= -1e-6).all()
    unexamined = dual_prices(Coalitions(case, [Player("a", (0,)), Player("b", (1,))]), ranges=False)
    assert unexamined.least_gain_eur is None
    assert unexamined.note == ""


def test_whose_the_space_is_decides_who_gets_a_rent_that_is_not_unique():
    """The store is exactly as large as what two needs: the rent of its kWh is anything from 0 to the 0.35 that it is worth.

    The 1 + 3 kWh of two come from one's 4 kWh, so no price of the first hour is anybody's margin either.
    """
    case = shared_ess(ess_energy_offer_kwh=3.0, ess_power_offer_kw=3.0)
    found = dual_prices(Coalitions(case, OWNERS))

    # first hour at 0.20 (two could buy there from the retailer): one gains 4 x 0.15; first hour and second at 0.05: two
    # saves 0.20 + 3 x 0.40 and pays 4 x 0.05; 0.05 and then 0.40: the operator gets the difference of 3 kWh
    np.testing.assert_allclose(found.least_gain_eur, [0.0, 0.0, 0.0], atol=1e-4)
    np.testing.assert_allclose(found.most_gain_eur, [0.60, 1.20, 1.05], atol=1e-4)
    assert "not unique" in found.note


def test_a_rent_alone_may_not_be_unique():
    """Without trade: a store of exactly the 3 kWh that two needs in the dear hour. Its rent is anything up to 0.20."""
    case = shared_ess(ess_energy_offer_kwh=3.0, ess_power_offer_kw=3.0, exchange="zero")
    found = dual_prices(Coalitions(case, OWNERS))

    np.testing.assert_allclose(found.least_gain_eur, 0.0, atol=1e-4)
    np.testing.assert_allclose(found.most_gain_eur, [0.0, 0.60, 0.60], atol=1e-4)


@pytest.mark.parametrize("netted", [False, True])
def test_the_program_is_the_exchanges_problem(netted):
    """Its least cost lies between the bound and the cost of the clearing: batteries, cars, envelopes, firm charge and all."""
    for seed in range(2):
        case = replace(sample(4, 6, seed=seed), ess_netted=np.array([netted]), ess_floor=np.array([0.1]))
        game = Coalitions(case, [Player(f"h{i}", (i,)) for i in range(4)] + [Player("op", (4,), (0,))])
        clearing, between = game.market.together(), price_range(game.market)

        assert clearing.bound_eur - 1e-7 <= between.cost_eur <= clearing.cost_eur + 1e-7
        assert (between.least_eur <= between.most_eur).all()
        paid = book(game.market).paid_eur
        near = 50 * (clearing.cost_eur - clearing.bound_eur) + 1e-4  # prices converge later than cost
        assert (paid >= between.least_eur - near).all()
        assert (paid <= between.most_eur + near).all()


# orders by brute force --------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(games)
def test_shapley_is_the_mean_over_all_orders(drawn):
    """Joining in every order, one after the other."""
    k, seed, kind = drawn
    value = table(k, seed, superadditive=kind)
    added = np.zeros(k)
    orders = list(permutations(range(k)))
    for order in orders:
        mask = 0
        for i in order:
            added[i] += value[mask | (1 << i)] - value[mask]
            mask |= 1 << i

    np.testing.assert_allclose(shapley(of(value)).gain_eur, added / len(orders), atol=1e-9)


def airport(cost):
    """What is saved by building one runway for all: the longest is enough."""
    cost = np.asarray(cost, dtype=float)

    def saved(mask):
        who = [i for i in range(len(cost)) if mask >> i & 1]
        return float(cost[who].sum() - cost[who].max()) if who else 0.0

    order = np.argsort(cost)
    step = np.diff(cost[order], prepend=0.0) / np.arange(len(cost), 0, -1)
    pays = np.empty(len(cost))
    pays[order] = np.cumsum(step)
    return saved, cost - pays


def test_shapley_of_many_is_within_its_standard_error():
    """The airport game, whose value Littlechild and Owen give in closed form (Management Science 20, 1973), 15 players."""
    saved, gain = airport([1, 2, 2, 3, 5, 8, 8, 9, 11, 12, 12, 13, 17, 18, 20])
    game = Coalitions.of_values([f"plane{i}" for i in range(15)], saved)

    found = shapley(game, orders=400, seed=3)

    assert found.standard_error_eur is not None
    assert 0.0 < found.standard_error_eur.max() < 0.03 * gain.max()
    assert (np.abs(found.gain_eur - gain) <= 4 * found.standard_error_eur + 1e-9).all()
    assert found.gain_eur.sum() == pytest.approx(saved((1 << 15) - 1))
    assert "400 of the 15! orders" in found.note
    more = shapley(game, orders=1600, seed=3)
    assert more.standard_error_eur.max() < 0.7 * found.standard_error_eur.max()


def test_the_standard_error_is_what_repeating_shows():
    """Over forty seeds the errors, by the standard error that was told, have a mean square near one for every player."""
    saved, gain = airport([1, 2, 2, 3, 5, 8, 8, 9, 11, 12, 12, 13, 17, 18, 20])
    game = Coalitions.of_values([f"plane{i}" for i in range(15)], saved)
    draws = [shapley(game, orders=200, seed=seed, excess=False) for seed in range(40)]
    square = np.mean([((d.gain_eur - gain) / d.standard_error_eur) ** 2 for d in draws], axis=0)

    assert (square > 0.5).all()
    assert (square < 2.0).all()


def test_shapley_of_twelve_is_exact():
    """Twelve planes by the closed form, and no standard error."""
    saved, gain = airport([1, 2, 2, 3, 5, 8, 8, 9, 11, 12, 12, 13])
    found = shapley(Coalitions.of_values([f"plane{i}" for i in range(12)], saved), excess=False)

    np.testing.assert_allclose(found.gain_eur, gain, atol=1e-9)
    assert found.standard_error_eur is None
    assert np.isnan(found.certificate.excess_eur)


def test_the_same_seed_draws_the_same_orders():
    """Sampled shares are those of the seed."""
    saved, _ = airport(np.arange(1, 15))
    one, again, other = (
        shapley(Coalitions.of_values([f"p{i}" for i in range(14)], saved), orders=20, seed=s, excess=False).gain_eur
        for s in (1, 1, 2)
    )

    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


# laws of every rule -----------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(games)
@pytest.mark.parametrize("rule", RULES)
def test_everything_is_divided_and_nothing_else(rule, drawn):
    """Gains sum to the surplus, payments to zero; the certificate's excess is that of the gains."""
    k, seed, kind = drawn
    value = table(k, seed, superadditive=kind)
    found = DIVISIONS[rule](of(value))

    assert found.gain_eur.sum() == pytest.approx(value[-1], abs=1e-7)
    assert found.certificate.balanced
    excess = [value[m] - sum(found.gain_eur[i] for i in range(k) if m >> i & 1) for m in range(1, (1 << k) - 1)]
    assert found.certificate.excess_eur == pytest.approx(max(excess, default=0.0))


@settings(max_examples=10, deadline=None)
@given(games, st.randoms(use_true_random=False))
@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_players_does_not_matter(rule, drawn, random):
    """Renumbering the players renumbers their gains."""
    k, seed, _ = drawn
    value, order = table(k, seed, superadditive=True), list(range(k))
    random.shuffle(order)
    moved = np.array([value[sum(1 << order[i] for i in range(k) if m >> i & 1)] for m in range(1 << k)])

    np.testing.assert_allclose(
        DIVISIONS[rule](of(moved)).gain_eur, DIVISIONS[rule](of(value)).gain_eur[order], atol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10**6), st.floats(0, 5))
def test_who_adds_nothing_gets_nothing_from_shapley_and_nucleolus(k, seed, alone):
    """One more player who adds only what he has alone gets that, and changes nothing for the others."""
    value = table(k, seed, superadditive=True)
    value -= [sum(value[1 << i] for i in range(k) if m >> i & 1) for m in range(1 << k)]  # singles have nothing
    with_dummy = np.concatenate([value, value + alone])

    for rule in (shapley, nucleolus):
        base, found = rule(of(value)).gain_eur, rule(of(with_dummy)).gain_eur
        assert found[-1] == pytest.approx(alone, abs=1e-6)
        np.testing.assert_allclose(found[:-1], base, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(games)
def test_who_adds_the_same_gets_the_same(drawn):
    """Two players who are made interchangeable have equal gains under every rule."""
    k, seed, _ = drawn
    value = table(max(k, 2), seed, superadditive=True)
    swap = [(m & ~3) | ((m & 1) << 1) | (m >> 1 & 1) for m in range(len(value))]
    value = value + value[swap]

    for rule in RULES:
        gain = DIVISIONS[rule](of(value)).gain_eur
        assert gain[0] == pytest.approx(gain[1], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6), st.floats(-3, 3), st.lists(st.floats(0.01, 9), min_size=5, max_size=5))
def test_nash_is_rational_if_and_only_if_there_is_something_to_divide(k, seed, surplus, weights):
    """Whatever the weights, nobody is worse off than alone exactly where S >= 0."""
    value = table(k, seed)
    value[-1] = surplus

    found = nash(of(value), weights=weights[:k])

    tiny = abs(surplus) <= 1e-4  # below the certificate's tolerance whose loss it is cannot be told
    assert found.certificate.rational == (surplus >= 0) or tiny


def test_nash_maximises_the_product_of_gains():
    """No division of 1 has a larger product of gains to the power of the weights, on a grid."""
    found = nash(of([0, 0, 0, 1.0]), weights=[3, 1]).gain_eur
    share = np.linspace(0.01, 0.99, 99)

    np.testing.assert_allclose(found, [0.75, 0.25])
    assert found[0] ** 3 * found[1] >= (share**3 * (1 - share)).max() - 1e-12


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 4), st.integers(0, 10**6))
def test_nobody_objects_more_than_he_must(k, seed):
    """Nucleolus and least core have the smallest largest excess of all rules."""
    game = of(table(k, seed, superadditive=True))
    excess = {rule: DIVISIONS[rule](game).certificate.excess_eur for rule in RULES}

    assert excess["nucleolus"] == pytest.approx(excess["least_core"], abs=1e-6)
    assert min(excess.values()) >= excess["least_core"] - 1e-6


# more than twelve -------------------------------------------------------------------------------------------------------


def gloves(mask):
    """Five left gloves, nine right ones; a pair is worth 1."""
    return float(min((mask & 0b11111).bit_count(), (mask >> 5).bit_count()))


@pytest.mark.parametrize("rule", [nucleolus, least_core])
def test_of_fourteen_the_scarce_ones_get_all(rule):
    """With fewer lefts than rights the core is one point: 1 for every left. It is found though few coalitions are asked."""
    game = Coalitions.of_values([f"p{i}" for i in range(14)], gloves)

    found = rule(game, samples=60)

    np.testing.assert_allclose(found.gain_eur, [1.0] * 5 + [0.0] * 9, atol=1e-6)
    assert found.certificate.excess_sampled
    assert "no stronger objection was found" in found.note
    assert found.certificate.excess_eur == pytest.approx(0.0, abs=1e-6)


def test_a_search_that_ends_too_early_says_so():
    """In a game without any order, one round is not enough, and the note tells that stronger objections were still found."""
    game = Coalitions.of_values(
        [f"p{i}" for i in range(14)], lambda mask: mask.bit_count() * (mask * 2654435761 % 1009) / 1009 if mask else 0.0
    )

    assert "stronger ones were still found after 1 rounds" in least_core(game, samples=1, rounds=1).note


# edges ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_one_player_gets_what_he_gains_and_nobody_gets_nothing(rule):
    """The smallest communities."""
    one, nobody = DIVISIONS[rule](of([0.0, 3.0])), DIVISIONS[rule](of([0.0]))

    assert one.gain_eur.tolist() == [3.0]
    assert nobody.gain_eur.tolist() == []
    assert nobody.certificate.balanced


@pytest.mark.parametrize("rule", RULES)
def test_nothing_to_divide_is_divided_evenly(rule):
    """Where no coalition gains anything nobody gets or pays."""
    np.testing.assert_allclose(DIVISIONS[rule](of(np.zeros(8))).gain_eur, 0.0, atol=1e-9)


def test_a_market_without_gains_from_trade_pays_nobody():
    """Homes that only buy stay with the retailer under every rule."""
    case = Problem.plain([[1.0, 2.0], [3.0, 0.5]], 0.0, 0.3, 0.1, dt_h=1.0)
    game = Coalitions(case, [Player("a", (0,)), Player("b", (1,))])

    for rule in DIVISIONS.values():
        found = rule(game)
        np.testing.assert_allclose(found.payment_eur, 0.0, atol=1e-9)
        assert found.certificate.rational
        assert found.certificate.balanced


def test_a_market_of_nobody_divides_nothing():
    """No agents at all, and an owner of a store without anybody to rent it."""
    nobody = Problem.plain(np.zeros((0, 2)), np.zeros((0, 2)), 0.3, 0.1, dt_h=1.0)
    owner = Problem.plain(np.zeros((0, 2)), np.zeros((0, 2)), 0.3, 0.1, dt_h=1.0, shared=1, ess_energy_offer_kwh=1.0)

    for rule in DIVISIONS.values():
        assert rule(Coalitions(nobody, [])).gain_eur.tolist() == []
        found = rule(Coalitions(owner, [Player("op", (), (0,))]))
        assert (found.gain_eur.tolist(), found.payment_eur.tolist(), found.note) == ([0.0], [0.0], "")


def test_values_without_a_market_have_no_prices():
    """Dual prices need a clearing."""
    with pytest.raises(GameError, match="has none"):
        dual_prices(of([0, 0, 0, 1]))


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_are_one_number_each(weights):
    """Missing, negative, all zero and NaN are refused, by every rule that has weights."""
    for rule in (nash, proportional):
        with pytest.raises(GameError, match="weights"):
            rule(of([0, 0, 0, 1]), weights=weights)


def test_too_few_orders_are_refused():
    """A standard error needs two pairs."""
    with pytest.raises(GameError, match="draw 4 or more"):
        shapley(Coalitions.of_values([f"p{i}" for i in range(13)], gloves), orders=3)


def test_what_was_asked_before_does_not_change_a_division():
    """A rule's accuracy is that of the values that it used, not of what others asked."""

    def careless(part):  # about pairs
        return clear(part, tolerance=3e-2 if part.n == 2 else 1e-5)

    fresh, used = (Coalitions(shared_ess(), OWNERS, solve=careless) for _ in range(2))
    used.values(np.arange(8))
    one, other = nash(fresh, excess=False), nash(used, excess=False)

    assert one.accuracy_eur == other.accuracy_eur < used.error_eur
    assert nash(fresh).accuracy_eur == used.error_eur
    np.testing.assert_array_equal(one.gain_eur, other.gain_eur)


def test_larger_communities_of_players_can_be_groups():
    """Twenty homes as three players: payments of all rules balance, and the players' surplus is that of all homes."""
    case = sample(20, 4, seed=1, firm_charge_kw_per_home=0.0)
    groups = [Player("north", tuple(range(7))), Player("south", tuple(range(7, 20))), Player("op", (20,), (0,))]
    game = Coalitions(replace(case, exchange="free"), groups, tolerance=1e-4)

    for rule in DIVISIONS.values():
        assert rule(game).certificate.balanced
    assert game.value(0b001) > 0.0  # the north's homes trade with each other, too
