"""Nucleolus and least core: textbook games, an independent procedure, laws."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from market.coalition import bits
from market.core import least_excess, most_equal, nucleolus


def game(value, k):
    """Members, values, total and singles of a game that is given as a function of a set of players."""
    masks = np.arange(1, (1 << k) - 1)
    members = bits(masks, k)
    values = np.array([value({i for i in range(k) if m >> i & 1}) for m in masks.tolist()], dtype=float).reshape(-1)
    return members, values, float(value(set(range(k)))), np.array([value({i}) for i in range(k)], dtype=float)


def bankruptcy(estate, claims):
    """What is left for a coalition when the others have been paid in full."""
    return lambda who: max(0.0, estate - sum(c for i, c in enumerate(claims) if i not in who))


def talmud(estate, claims):
    """Aumann and Maschler's rule: equal awards up to half of the claims, then equal losses."""
    half = np.array(claims) / 2.0
    low = estate <= half.sum()
    amount = estate if low else 2 * half.sum() - estate
    lo, hi = 0.0, half.max()
    for _ in range(200):
        mid = (lo + hi) / 2
        lo, hi = (mid, hi) if np.minimum(half, mid).sum() < amount else (lo, mid)
    awards = np.minimum(half, hi)
    return awards if low else 2 * half - awards


tables = st.integers(2, 4).flatmap(
    lambda k: st.lists(st.integers(0, 20), min_size=(1 << k), max_size=(1 << k)).map(lambda v: (k, v))
)


def superadditive(k, table):
    """The least game above a table in which joining never hurts."""
    value = [0.0, *[float(v) for v in table[1:]]]
    for mask in range(1, 1 << k):
        part = (mask - 1) & mask
        while part:
            value[mask] = max(value[mask], value[part] + value[mask ^ part])
            part = (part - 1) & mask
    return lambda who: value[sum(1 << i for i in who)]


# textbook ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estate", "shares"), [(100, [100 / 3, 100 / 3, 100 / 3]), (200, [50, 75, 75]), (300, [50, 100, 150])]
)
def test_the_mishna_divides_by_the_nucleolus(estate, shares):
    """Ketubot 93a: claims of 100, 200, 300 (Aumann and Maschler, J. Economic Theory 36, 1985)."""
    found = nucleolus(*game(bankruptcy(estate, (100, 200, 300)), 3))

    np.testing.assert_allclose(found, shares, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=6), st.floats(0.05, 0.95))
def test_every_bankruptcy_game_is_divided_as_the_talmud_does(claims, share):
    """The theorem of Aumann and Maschler: the nucleolus is the rule of equal halves, in closed form."""
    estate = share * sum(claims)

    found = nucleolus(*game(bankruptcy(estate, claims), len(claims)))

    np.testing.assert_allclose(found, talmud(estate, claims), atol=1e-6 * sum(claims))


def test_a_majority_of_three_has_no_core_and_divides_equally():
    """Any two of three win 1: at a third each a pair has 2/3 and misses 1/3, and no division makes that less."""
    members, value, total, single = game(lambda who: float(len(who) >= 2), 3)

    level = least_excess(members, value, total)

    assert level.epsilon == pytest.approx(1 / 3)
    np.testing.assert_allclose(nucleolus(members, value, total, single), 1 / 3, atol=1e-9)
    np.testing.assert_allclose(most_equal(members, value, total, level.epsilon), 1 / 3, atol=1e-8)


def test_the_least_core_is_a_set_and_its_most_equal_point_is_returned():
    """Player 0 has 1 alone and 4 with player 1, nobody needs player 2: from (1, 3, 0) to (4, 0, 0) nobody objects.

    The nucleolus halves what the pair adds, the most equal point halves all.
    """
    members, value, total, single = game(lambda who: 4.0 if {0, 1} <= who else float(0 in who), 3)
    level = least_excess(members, value, total)

    assert level.epsilon == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(most_equal(members, value, total, level.epsilon), [2, 2, 0], atol=1e-7)
    np.testing.assert_allclose(nucleolus(members, value, total, single), [2.5, 1.5, 0], atol=1e-9)


def test_where_alone_is_better_it_is_the_prenucleolus():
    """Two who have 3 each alone and 4 together lose 1 each; nobody can have what he had."""
    members, value, total, single = game(lambda who: 3.0 if len(who) == 1 else 4.0, 2)

    np.testing.assert_allclose(nucleolus(members, value, total, single), [2, 2], atol=1e-9)


def test_nobody_gets_less_than_alone_though_a_coalition_objects():
    """Players 0 and 1 would have 4 without the third, all together have 1: the third keeps its 0, the pair shares the 1.

    Without a floor the excess of the pair, 4 − x, and of the third, x − 1, would be equal at x = 2.5.
    """
    given_game = game(lambda who: 4.0 if who == {0, 1} else float(len(who) == 3), 3)

    np.testing.assert_allclose(nucleolus(*given_game), [0.5, 0.5, 0.0], atol=1e-9)
    np.testing.assert_allclose(nucleolus(*given_game[:3], np.full(3, -9.0)), [1.25, 1.25, -1.5], atol=1e-9)


# against another procedure ---------------------------------------------------------------------------------------------


def slow_program(cost, members, value, fixed_rows, fixed_at, single, bound=None):
    a = np.hstack([-members, -np.ones((len(value), 1))])
    limits = [(s, None) for s in single] + [(None, bound)]
    equal = np.hstack([fixed_rows, np.zeros((len(fixed_at), 1))])
    return linprog(cost, A_ub=a, b_ub=-value, A_eq=equal, b_eq=fixed_at, bounds=limits, method="highs-ipm")


def slow_nucleolus(members, value, total, single):
    """The procedure of Maschler, Peleg and Shapley without multipliers.

    A coalition is settled if a program of its own says that its excess cannot be less than this round's largest.
    """
    k = members.shape[1]
    fixed_rows, fixed_at = [np.ones(k)], [total]
    left = np.ones(len(value), dtype=bool)
    x = None
    while left.any():
        best = slow_program([0.0] * k + [1.0], members[left], value[left], fixed_rows, fixed_at, single)
        epsilon, x = best.x[k], best.x[:k]
        rows = np.flatnonzero(left)
        for r in rows:
            cost, bound = [*(-members[r]), 0.0], epsilon + 1e-9
            least = slow_program(cost, members[left], value[left], fixed_rows, fixed_at, single, bound)
            if value[r] + least.fun >= epsilon - 1e-6:
                fixed_rows.append(members[r])
                fixed_at.append(value[r] - epsilon)
                left[r] = False
        settled = np.array(fixed_rows)
        fixed_x = np.linalg.lstsq(settled, fixed_at, rcond=None)[0]
        if np.linalg.matrix_rank(settled) == k:
            return fixed_x
        keep = [0]
        for r in range(1, len(fixed_at)):
            if np.linalg.matrix_rank(settled[[*keep, r]]) > len(keep):
                keep.append(r)
        fixed_rows, fixed_at = [fixed_rows[r] for r in keep], [fixed_at[r] for r in keep]
        basis = np.array(fixed_rows)
        for r in np.flatnonzero(left):
            if np.linalg.matrix_rank(np.vstack([basis, members[r]])) == len(basis):
                left[r] = False
    return x


@settings(max_examples=30, deadline=None)
@given(tables)
def test_it_is_the_nucleolus_of_another_procedure(table):
    """Multipliers and span find what asking every coalition for its room finds, in games where joining never hurts."""
    k, numbers = table
    given_game = game(superadditive(k, numbers), k)

    np.testing.assert_allclose(nucleolus(*given_game), slow_nucleolus(*given_game), atol=1e-5)


# laws ----------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(tables)
def test_it_is_in_the_core_where_there_is_one_and_in_the_least_core_always(table):
    """Its largest excess is the least core's, so below zero where the core is not empty; so is the most equal point's."""
    k, numbers = table
    members, value, total, single = game(superadditive(k, numbers), k)
    least = least_excess(members, value, total).epsilon

    for x in (nucleolus(members, value, total, single), most_equal(members, value, total, least)):
        assert x.sum() == pytest.approx(total, abs=1e-6)
        assert (value - members @ x).max() == pytest.approx(least, abs=1e-6)


@settings(max_examples=15, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_players_does_not_matter(table, random):
    """Renumbering the players renumbers their shares, of the nucleolus and of the least core's most equal point."""
    k, numbers = table
    order = list(range(k))
    random.shuffle(order)
    value = superadditive(k, numbers)
    one, other = game(value, k), game(lambda who: value({order[i] for i in who}), k)

    np.testing.assert_allclose(nucleolus(*other), nucleolus(*one)[order], atol=1e-6)
    points = [most_equal(*g[:3], least_excess(*g[:3]).epsilon) for g in (one, other)]
    np.testing.assert_allclose(points[1], points[0][order], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(tables, st.floats(1e-3, 1e5), st.lists(st.floats(-5, 5), min_size=4, max_size=4))
def test_another_currency_and_sure_gains_change_nothing_else(table, rate, sure):
    """Values times a rate plus what each has anyway: shares times the rate plus the same."""
    k, numbers = table
    value = superadditive(k, numbers)
    base = nucleolus(*game(value, k))

    moved = nucleolus(*game(lambda who: rate * (value(who) + sum(sure[i] for i in who)), k))

    np.testing.assert_allclose(moved / rate, base + sure[:k], atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(tables)
def test_no_other_division_in_the_least_core_is_more_equal(table):
    """Random divisions in the least core have no larger smallest gain."""
    k, numbers = table
    members, value, total, _ = game(superadditive(k, numbers), k)
    least = least_excess(members, value, total).epsilon
    best = most_equal(members, value, total, least).min()
    rng = np.random.default_rng(0)

    for _ in range(5):
        found = linprog(rng.normal(size=k), A_ub=-members, b_ub=-value + least + 1e-9, A_eq=np.ones((1, k)), b_eq=[total],
                        bounds=(None, None))  # fmt: skip
        assert found.x.min() <= best + 1e-6


def test_twelve_players_are_exact_and_quick():
    """Ten claimants of a bankruptcy game with 1022 coalitions agree with the closed form."""
    claims = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41]
    found = nucleolus(*game(bankruptcy(90, claims), 10))

    np.testing.assert_allclose(found, talmud(90, claims), atol=1e-6)


def test_symmetric_players_get_the_same():
    """In a game of sizes only, all orders of players give equal shares."""
    members, value, total, single = game(lambda who: float(len(who) ** 2), 5)

    found = nucleolus(members, value, total, single)

    for order in list(permutations(range(5)))[:5]:
        np.testing.assert_allclose(found[list(order)], 5.0, atol=1e-8)
