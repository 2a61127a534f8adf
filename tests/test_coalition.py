"""Values of coalitions: by hand, against the central solver, and how they may be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import central, linear_program
from market.coalition import Coalitions, GameError, Player, Worth, bits, part_of, some_masks, worst_excess
from market.exchange import Problem
from market.sample import sample


def shared_ess(exchange="free", size=2.0):
    """Two prosumers and an operator, two hours, a lossless shared store of the given kW and kWh: the design's case I."""
    return Problem.plain(
        [[0.0, 0.0], [1.0, 3.0], [0.0, 0.0]],
        [[4.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
        [[0.20, 0.40]],
        0.05,
        dt_h=1.0,
        shared=1,
        ess_energy_offer_kwh=size,
        ess_power_offer_kw=size,
        exchange=exchange,
    )


CASE_I = (Player("one", (0,)), Player("two", (1,)), Player("operator", (2,), (0,)))


# values by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "gain"),
    [
        ((), 0.0),
        (("one",), 0.0),
        (("operator",), 0.0),
        (("one", "two"), 0.15),  # one kWh at 0.20 less 0.05; there is no store without its owner
        (("one", "operator"), 0.0),  # nothing is needed later
        (("two", "operator"), 0.40),  # 2 kWh bought at 0.20 for the hour of 0.40
        (("one", "two", "operator"), 0.85),
    ],
)
def test_every_coalition_of_case_i_by_hand(who, gain):
    """The eight values of the design's case I, within the error that they tell."""
    game = Coalitions(shared_ess(), CASE_I)
    worth = game.worth(game.mask(*who))

    assert worth.value_eur == pytest.approx(gain, abs=worth.error_eur + 1e-9)
    assert worth.error_eur < 1e-4


@pytest.mark.parametrize(("exchange", "size", "cost"), [("zero", 2.0, 0.80), ("free", 0.0, 1.05), ("free", 2.0, 0.35)])
def test_the_costs_of_case_i(exchange, size, cost):
    """1.20 alone; 0.80 with the store, 1.05 with trade, 0.35 with both."""
    game = Coalitions(shared_ess(exchange, size), CASE_I)

    assert game.market.alone_eur.sum() == pytest.approx(1.20, abs=1e-9)
    assert game.market.alone_eur.sum() - game.surplus_eur == pytest.approx(cost, abs=game.error_eur + 1e-9)
    assert game.error_eur < 1e-4


def test_an_owner_needs_no_home():
    """The operator as nobody but the owner of the store brings the same as with an agent without load."""
    game = Coalitions(
        part_of(shared_ess(), (0, 1), (0,)), (Player("one", (0,)), Player("two", (1,)), Player("op", (), (0,)))
    )

    np.testing.assert_allclose(game.values(np.arange(8)), [0, 0, 0, 0.15, 0, 0, 0.40, 0.85], atol=1e-4)


def test_a_player_with_two_homes_gains_by_trading_with_itself():
    """Retail only is what both are compared with, so a player of two homes has a value of its own."""
    homes = part_of(shared_ess(), (0, 1), ())
    game = Coalitions(homes, [Player("both", (0, 1))])

    assert game.value(1) == pytest.approx(0.15, abs=1e-4)
    assert game.market.alone_eur[0] == pytest.approx(1.20)


def test_part_of_a_problem_keeps_what_is_kept():
    """Rows of agents and stores, names, everything else as it was; a box that moved is found where it is."""
    case = replace(sample(5, 6), agent_ids=tuple("abcdef"))
    part = part_of(case, (1, 4), ())

    assert part.agent_ids == ("b", "e")
    np.testing.assert_array_equal(part.store_drain_kwh, case.store_drain_kwh[:, [1, 4]])
    np.testing.assert_array_equal(part.load_kw, case.load_kw[[1, 4]])
    assert (part.shared, part.dt_h, part.exchange) == (0, case.dt_h, case.exchange)

    boxes = Problem.plain([[1.0]], 0.0, 0.3, 0.1, dt_h=1.0, shared=3, ess_netted=True, ess_box=[0, 1, 1])
    assert part_of(boxes, (0,), (1, 2)).ess_box.tolist() == [0, 0]


def test_values_are_those_of_a_linear_program():
    """Every coalition of a made-up community, within the error that it tells."""
    case = sample(3, 6, seed=4, firm_charge_kw_per_home=0.0)
    homes = [Player(f"home{i}", (i,)) for i in range(3)]
    game = Coalitions(case, [*homes, Player("op", (3,), (0,))])

    def least(mask, exchange="free"):
        return linear_program.solve(replace(game.market.part(mask), exchange=exchange)).cost_eur

    alone = [least(1 << i, "zero") for i in range(4)]
    for mask in range(1, 16):
        worth = game.worth(mask)
        exact = sum(alone[i] for i in range(4) if mask >> i & 1) - least(mask)
        assert worth.value_eur == pytest.approx(exact, abs=worth.error_eur + 1e-6)
        assert worth.error_eur < 1e-3
    assert game.surplus_eur > 0.1


@pytest.mark.parametrize(("solver", "error"), [(central, 1e-5), (linear_program, 1e-8)])
def test_another_solver_may_clear(solver, error):
    """The solvers' values are those of the iteration, and more exact."""
    game, exact = (Coalitions(shared_ess(), CASE_I, **more) for more in ({}, {"solve": solver.solve}))

    np.testing.assert_allclose(exact.values(np.arange(8)), [0, 0, 0, 0.15, 0, 0, 0.40, 0.85], atol=error)
    assert exact.error_eur < error
    assert game.value(7) == pytest.approx(exact.value(7), abs=game.error_eur + error)


def test_what_was_asked_before_changes_nothing():
    """Values in any order of asking and of players are the same to the last bit; nothing is cleared twice."""
    case = shared_ess()
    one, other = Coalitions(case, CASE_I), Coalitions(case, CASE_I[::-1])
    forwards = [one.value(m) for m in range(8)]
    backwards = [other.value(other.mask(*one.members(m))) for m in reversed(range(8))][::-1]

    assert forwards == backwards
    again = one.recount()
    assert (again.asked, again.error_eur) == (set(), 0.0)
    assert again.worth(0b111) is one.worth(0b111)
    assert again.asked == {0b111}


def test_a_market_in_which_nothing_can_be_gained_is_worth_nothing():
    """Two who only buy: rounding makes no coalition's value negative."""
    case = Problem.plain([[1.0, 2.0], [3.0, 0.5]], 0.0, 0.3, 0.1, dt_h=1.0)
    game = Coalitions(case, [Player("a", (0,)), Player("b", (1,))])

    assert 0.0 <= game.surplus_eur < 1e-9


def test_rounding_makes_no_value_negative():
    """Homes with batteries and a charge too high to trade, cleared carelessly: no coalition seems to lose by being one."""
    case = replace(sample(5, 6, seed=3, firm_charge_kw_per_home=0.0), exchange_charge_eur_per_kwh=np.full((6, 6), 5.0))
    case = part_of(case, range(5), ())
    game = Coalitions(case, [Player(f"h{i}", (i,)) for i in range(5)], tolerance=0.03)
    values = game.values(np.arange(32))

    assert (values >= 0.0).all()
    assert (values <= [game.worth(m).error_eur + 1e-12 for m in range(32)]).all()
    assert game.error_eur > 0.0


# what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("players", "words"),
    [
        ([Player("a", (0, 1))], "agent 2 belongs to no player"),
        ([Player("a", (0, 1, 2, 3), (0,))], "agent 3 does not exist"),
        ([Player("a", (0, 1)), Player("b", (1, 2), (0,))], "agent 1 has two owners"),
        ([Player("a", (0, 1, 2))], "shared store 0 belongs to no player"),
        ([Player("a", (0, 1)), Player("a", (2,), (0,))], "a name of its own"),
    ],
)
def test_every_agent_and_store_has_one_owner(players, words):
    """Who is forgotten, invented or claimed twice is named."""
    with pytest.raises(GameError, match=words):
        Coalitions(shared_ess(), players)


def test_a_box_has_one_owner():
    """Two products that lie in one box cannot be owned by two."""
    case = Problem.plain([[1.0], [1.0]], 0.0, 0.3, 0.1, dt_h=1.0, shared=2, ess_netted=True, ess_box=0)

    with pytest.raises(GameError, match="shared store 1 lies in the box of 0, but a owns the one and b the other"):
        Coalitions(case, [Player("b", (0,), (0,)), Player("a", (1,), (1,))])


def test_what_is_sold_already_is_not_bargained_about():
    """A problem with pinned trades is refused."""
    sold = Problem.plain([[1.0]], 0.0, 0.3, 0.1, dt_h=1.0, exchange="pinned", pinned_exchange_kw=[[0.0]])

    with pytest.raises(GameError, match="pinned"):
        Coalitions(sold, [Player("a", (0,))])


def test_who_has_no_plan_is_named():
    """A store whose need nobody can meet makes a coalition without value; the message says whose."""
    case = Problem.plain([[1.0], [1.0]], 0.0, 0.3, 0.1, dt_h=1.0, stores=1, store_energy_max_kwh=5.0,
                         store_energy_min_kwh=[[[5.0], [0.0]]])  # fmt: skip
    with pytest.raises(GameError, match="coalition of anna has no plan"):
        Coalitions(case, [Player("anna", (0,)), Player("ben", (1,))])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0, 1, 2], "2 players have 4 coalitions"),
        ([1, 1, 1, 1], "nobody's value is 1"),
        ([0, 1, float("nan"), 2], "no value that is a number: b"),
        ({("a",): 1, ("b",): 1}, "no value that is a number: a, b"),
        ({("a",): 1, ("b",): 1, ("a", "b"): 3, ("c",): 1}, "only the players"),
    ],
)
def test_values_are_complete_numbers(values, words):
    """A coalition that is missing, invented or no number is named."""
    with pytest.raises(GameError, match=words):
        Coalitions.of_values(("a", "b"), values)


def test_a_function_that_gives_no_number_is_refused_where_it_does():
    """NaN is noticed when it comes."""
    game = Coalitions.of_values(("a", "b"), lambda mask: float("nan") if mask == 2 else 1.0)

    assert game.value(1) == 1.0
    with pytest.raises(GameError, match="value of coalition 0b10 is nan"):
        game.value(2)


def test_a_mask_or_name_that_is_nobody_is_refused():
    """Players are called by their names, coalitions by masks of them."""
    game = Coalitions.of_values(("a", "b"), [0, 1, 2, 4])

    assert game.members(game.mask("b", "a")) == ("a", "b")
    for wrong in (-1, 4):
        with pytest.raises(GameError, match="no coalition of 2 players"):
            game.value(wrong)
    with pytest.raises(GameError, match="no player called c"):
        game.mask("c")


# objections -----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_the_worst_excess_is_the_worst(k, seed):
    """Up to twelve players it is the largest over all coalitions but nobody and everybody."""
    rng = np.random.default_rng(seed)
    table, gain = np.append(0.0, rng.normal(size=(1 << k) - 1)), rng.normal(size=k)
    names = tuple("abcde"[:k])

    found = worst_excess(Coalitions.of_values(names, table), gain)

    every = {m: table[m] - sum(gain[i] for i in range(k) if m >> i & 1) for m in range(1, (1 << k) - 1)}
    assert found.tried == len(every)
    assert not found.sampled
    assert found.excess_eur == pytest.approx(max(every.values(), default=0.0))
    if every:
        worst = sum(1 << names.index(name) for name in found.coalition)
        assert every[worst] == max(every.values())


def test_above_twelve_players_it_climbs_to_the_objection():
    """Seven left and seven right gloves, all to the left: the rights and one left could share, and are found."""
    game = Coalitions.of_values([f"p{i}" for i in range(14)], gloves(7))
    gain = np.array([1.0] * 7 + [0.0] * 7)
    assert worst_excess(game, gain).excess_eur == pytest.approx(0.0)  # in the core

    gain = np.array([1.0] * 6 + [0.0] * 7 + [1.0])  # one right is paid as a left, and the last left gets nothing
    found = worst_excess(game, gain, samples=40)

    assert found.excess_eur == pytest.approx(1.0)
    assert found.sampled
    assert found.tried < (1 << 14) - 2


def test_an_objection_that_is_never_drawn_is_climbed_to():
    """One set of seven among 20 players objects most, and everybody who is not in it weakens it: few are asked, it is found."""
    club = 0b10110010010001100100
    game = Coalitions.of_values(
        [f"p{i}" for i in range(20)], lambda mask: float((mask & club).bit_count() - (mask & ~club).bit_count())
    )
    found = worst_excess(game, np.zeros(20), samples=5)

    assert found.excess_eur == club.bit_count()
    assert game.mask(*found.coalition) == club


def gloves(left):
    """A pair is worth 1; the first ``left`` players have a left glove, the others a right one."""
    return lambda mask: float(min((mask & ((1 << left) - 1)).bit_count(), (mask >> left).bit_count()))


def test_drawn_coalitions_are_those_of_the_seed():
    """Singles and all but one always, the rest by the seed, none of them nobody or everybody, each once."""
    one, again, other = (some_masks(14, 50, np.random.default_rng(seed)) for seed in (1, 1, 2))

    assert one.tolist() == again.tolist()
    assert one.tolist() != other.tolist()
    assert len(set(one.tolist())) == len(one)
    assert {1 << i for i in range(14)} <= set(one.tolist())
    size = bits(one, 14).sum(axis=1)
    assert (size.min(), size.max()) == (1, 13)


def test_gains_are_one_per_player():
    """A gain too many is refused."""
    with pytest.raises(GameError, match="one for each of 2"):
        worst_excess(Coalitions.of_values(("a", "b"), [0, 1, 2, 4]), [1.0, 2.0, 3.0])


def test_a_value_may_come_with_its_error():
    """What a function says of its accuracy is what the game says, of the values that were asked for."""
    game = Coalitions.of_values(("a", "b"), lambda mask: Worth(1.0, 0.25) if mask == 0b11 else 0.0)

    assert (game.value(0b01), game.error_eur) == (0.0, 0.0)
    assert (game.surplus_eur, game.error_eur) == (1.0, 0.25)
    with pytest.raises(GameError, match="give a number of euro"):
        Coalitions.of_values(("a", "b"), lambda _: Worth(1.0, float("nan"))).value(0b11)
