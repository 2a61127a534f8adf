"""The bilateral market: known answers, ordinary oddities, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market.bilateral import Bilateral, BilateralError, OwnStores, clear
from market.curves import Curves, clear_pool
from market.own_stores import StoresError


def pairwise(curves, **more):
    """New England: each of the ten producers with each of the 21 consumers."""
    return Bilateral.full(curves, range(21, 31), range(21), **more)


def two(**more):
    return Bilateral.plain(Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0]), [(1, 0)], **more)


def shop(n=12, steps=5, seed=3, **more):
    """A market of sellers and buyers, four partners each."""
    rng = np.random.default_rng(seed)
    half = n // 2
    low, high = -rng.uniform(1, 9, (n, steps)), rng.uniform(1, 9, (n, steps))
    low[:half] = high[half:] = 0.0
    b = np.concatenate([rng.uniform(4, 14, (half, steps)), rng.uniform(12, 22, (half, steps))])
    pairs = [(i, half + (i + j) % half) for i in range(half) for j in range(4)]
    curves = Curves.plain(rng.uniform(0.5, 2, (n, 1)), b, low, high, dt_h=0.25)
    return Bilateral.plain(curves, pairs, charge_eur_per_kwh=rng.uniform(0, 1, len(pairs)), **more)


def assert_exact(problem, found):
    """Powers are the sums of the trades and inside their bounds; money and figures add up."""
    power = np.zeros((problem.n, problem.steps))
    np.add.at(power, problem.first, found.trades_kw)
    np.subtract.at(power, problem.second, found.trades_kw)
    assert found.power_kw == pytest.approx(power, abs=1e-9)
    own = power + (found.charge_kw - found.discharge_kw).sum(axis=0)
    size = np.maximum(abs(problem.curves.p_min_kw), abs(problem.curves.p_max_kw))  # each by its own
    np.add.at(size, problem.first, 1e-3 * abs(found.trades_kw))
    np.add.at(size, problem.second, 1e-3 * abs(found.trades_kw))
    size += 1e-3 if problem.stores is not None else 0.0
    assert (problem.curves.p_min_kw - own - found.unplaced_kw <= 1e-9 * size).all()
    assert (own - problem.curves.p_max_kw - found.unplaced_kw <= 1e-9 * size).all()
    least, most = problem.limits_kw()
    assert (found.trades_kw >= least).all()
    assert (found.trades_kw <= most).all()
    charges = problem.charge_first_eur_per_kwh + problem.charge_second_eur_per_kwh
    wear = 0.0
    if problem.stores is not None:
        wear = (problem.stores.store_wear_eur_per_kwh[:, :, None] * (found.charge_kw + found.discharge_kw)).sum()
    cost = problem.curves.cost_eur(own).sum() + problem.curves.dt_h * ((charges * abs(found.trades_kw)).sum() + wear)
    assert found.cost_eur == pytest.approx(cost, rel=1e-9, abs=1e-9)
    assert found.agent_cost_eur.sum() == pytest.approx(cost, rel=1e-9, abs=1e-9)
    turnover = abs(found.payment_eur).sum()
    assert abs(found.payment_eur.sum()) <= 1e-12 * max(turnover, 1.0)
    paid = problem.curves.dt_h * np.nansum(found.price_eur_per_kwh * found.trades_kw, axis=1)
    payment = np.zeros(problem.n)
    np.subtract.at(payment, problem.first, paid)
    np.add.at(payment, problem.second, paid)
    assert found.payment_eur == pytest.approx(payment, abs=1e-9 * max(turnover, 1.0))
    assert found.bound_eur <= found.cost_eur + 1e-9 * max(1.0, abs(found.cost_eur))


@pytest.mark.parametrize(
    ("more", "trade", "price", "cost"),
    [
        ({}, 2.0, 6.0, -4.0),
        ({"charge_eur_per_kwh": 1.0}, 1.0, 6.0, -1.0),
        ({"trade_max_kw": 0.8}, 0.8, 6.0, -2.56),
        ({"trade_max_kw": 0.8, "charge_eur_per_kwh": 1.0}, 0.8, 6.0, -0.96),
    ],
)
def test_two_agents(more, trade, price, cost):
    """Case A: one buys, one sells; freely, with charges, with a limit."""
    problem = two(**more)
    found = clear(problem, tolerance=1e-10)

    assert found.status == "converged"
    assert found.power_kw[:, 0] == pytest.approx([-trade, trade], abs=1e-8)
    assert found.price_eur_per_kwh[0, 0] == pytest.approx(price, abs=1e-7)
    assert found.cost_eur == pytest.approx(cost, abs=1e-7)
    assert found.payment_eur == pytest.approx([price * trade, -price * trade], abs=1e-6)
    assert found.gap <= 1e-9
    assert found.max_agent_kkt <= 1e-8
    assert_exact(problem, found)


@pytest.mark.parametrize("limit_kw", [np.inf, 1e5], ids=["sellers and buyers", "any graph"])
@pytest.mark.parametrize(
    ("charge", "price", "traded", "cost"),
    [(0.0, 57.234302, 3893.3494, -92547.8749), (1.0, 56.870696, 3706.4621, -84948.0635)],
)
def test_new_england(new_england, charge, price, traded, cost, limit_kw):
    """Case C: 31 agents, 210 pairs, to the digits that are known, by either kernel."""
    problem = pairwise(new_england, charge_eur_per_kwh=charge, trade_max_kw=limit_kw)
    found = clear(problem, tolerance=1e-9)

    assert found.converged
    assert found.iterations <= 700
    assert found.price_eur_per_kwh == pytest.approx(np.full((210, 1), price), abs=1e-6)
    assert found.power_kw.clip(0).sum() == pytest.approx(traded, abs=1e-4)
    assert found.cost_eur == pytest.approx(cost, abs=1e-4)
    assert found.gap <= 1e-8
    assert found.max_agent_kkt <= 1e-3
    assert found.dual_asymmetry_eur_per_kwh <= 1e-6
    assert_exact(problem, found)


def test_without_charges_it_is_the_pool(new_england):
    """Where every seller may trade with every buyer free of charge there is one price: the pool's."""
    problem = pairwise(new_england)
    pool, found = clear_pool(problem.curves), clear(problem, tolerance=1e-9)

    assert found.power_kw == pytest.approx(pool.power_kw, abs=1e-4)
    assert found.payment_eur == pytest.approx(pool.payment_eur, abs=0.1)


def test_intervals_have_nothing_to_do_with_each_other():
    """Five intervals together, or one after the other: the same."""
    problem = shop()
    together = clear(problem, tolerance=1e-7)
    for t in range(problem.steps):
        c = problem.curves
        one = Curves.plain(
            c.a_eur_per_kw2h[:, t], c.b_eur_per_kwh[:, t], c.p_min_kw[:, t], c.p_max_kw[:, t], dt_h=c.dt_h
        )
        alone = clear(replace(problem, curves=one), tolerance=1e-7)
        assert together.power_kw[:, [t]] == pytest.approx(alone.power_kw, abs=1e-4)


@pytest.mark.parametrize("more", [{}, {"trade_max_kw": 50.0}], ids=["sellers and buyers", "any graph"])
def test_gap_is_certified(more):
    """Stopped at a gap, the plan is exact and the gap is kept; nobody gains more than the gap in all."""
    problem = shop(40, 7, **more)
    best, found = clear(problem, tolerance=1e-7), clear(problem, tolerance=1e-7, gap=1e-3)

    assert found.gap <= 1e-3
    assert found.iterations < best.iterations
    assert found.bound_eur <= best.cost_eur <= found.cost_eur
    assert found.max_agent_kkt <= found.cost_eur - found.bound_eur + 1e-9
    assert_exact(problem, found)


@pytest.mark.parametrize("more", [{}, {"trade_max_kw": 50.0}], ids=["sellers and buyers", "any graph"])
def test_warm_start(more):
    """Begun where the last clearing ended it ends at once; begun there with other prices it ends sooner than from nothing."""
    problem = shop(40, 6, **more)
    cold = clear(problem, tolerance=1e-6)
    again = clear(problem, tolerance=1e-5, warm=cold.warm)
    assert again.iterations <= 20
    assert again.cost_eur == pytest.approx(cold.cost_eur, rel=1e-5)

    dearer = replace(problem, curves=replace(problem.curves, b_eur_per_kwh=problem.curves.b_eur_per_kwh * 1.01))
    assert clear(dearer, tolerance=1e-5, warm=cold.warm).iterations <= clear(dearer, tolerance=1e-5).iterations
    rest = Curves.plain(*(c[:, 2:] for c in (problem.curves.a_eur_per_kw2h, problem.curves.b_eur_per_kwh,
                                             problem.curves.p_min_kw, problem.curves.p_max_kw)), dt_h=0.25)  # fmt: skip
    assert clear(replace(problem, curves=rest), tolerance=1e-5, warm=cold.warm.dropped(2)).iterations <= 20
    with pytest.raises(BilateralError, match="another market"):
        clear(problem, warm=cold.warm.dropped(2))


def test_threads_do_not_change_a_digit():
    """Tiles of intervals at once, or one after the other: the same bytes."""
    problem = shop(10, 100, trade_max_kw=50.0)
    one, both = clear(problem, tolerance=1e-3), clear(problem, tolerance=1e-3, threads=2)

    assert one.trades_kw.tobytes() == both.trades_kw.tobytes()
    assert one.price_eur_per_kwh.tobytes() == both.price_eur_per_kwh.tobytes()


def test_single_precision_is_enough_for_loose_tolerances():
    """At 1e-3 the fast form calculates in single precision; what it says of itself is in double and holds."""
    problem = shop(60, 30)
    loose, tight = clear(problem, tolerance=1e-3), clear(problem, tolerance=1e-7)

    assert loose.converged
    assert loose.bound_eur <= tight.cost_eur <= loose.cost_eur
    assert loose.gap <= 1e-3
    assert_exact(problem, loose)


def test_nobody_and_one():
    """Without agents, without pairs, alone: nothing is traded and nothing fails."""
    none = clear(Bilateral.plain(Curves.plain(np.zeros((0, 3)), 0.0, 0.0, 0.0), np.zeros((0, 2), int)))
    one = clear(Bilateral.plain(Curves.plain([1.0], 2.0, -3.0, 3.0), np.zeros((0, 2), int)))

    assert (none.status, none.cost_eur, none.trades_kw.shape) == ("converged", 0.0, (0, 3))
    assert (one.status, one.cost_eur, one.power_kw.tolist()) == ("converged", 0.0, [[0.0]])


def test_sellers_only_and_no_crossing():
    """Who has nobody to buy, or asks more than is offered, does not trade; that is no failure."""
    sellers = clear(Bilateral.plain(Curves.plain(1.0, [2.0, 3.0], 0.0, 5.0), [(0, 1)]))
    apart = clear(Bilateral.plain(Curves.plain(1.0, [2.0, 6.0], [-5.0, 0.0], [0.0, 5.0]), [(1, 0)]))

    for found in (sellers, apart):
        assert found.status == "converged"
        assert found.power_kw.tolist() == [[0.0], [0.0]]
        assert found.gap == 0.0
    assert np.isnan(sellers.price_eur_per_kwh[0, 0])
    assert 2.0 <= apart.price_eur_per_kwh[0, 0] <= 6.0


def test_flat_costs_and_ties():
    """With a = 0: three sellers at one flat price serve a buyer who pays more; a tie is no obstacle."""
    curves = Curves.plain(0.0, [9.0, 3.0, 3.0, 3.0], [-4.0, 0.0, 0.0, 0.0], [0.0, 2.0, 2.0, 4.0])
    for more in ({}, {"trade_max_kw": 3.0}):
        problem = Bilateral.full(curves, [1, 2, 3], [0], **more)
        found = clear(problem, tolerance=1e-8)
        assert found.converged
        assert found.cost_eur == pytest.approx(-24.0, abs=1e-6)
        assert found.price_eur_per_kwh[:, 0] == pytest.approx([3.0] * 3, abs=1e-6)
        assert_exact(problem, found)


@pytest.mark.parametrize("limit_kw", [np.inf, 50.0], ids=["sellers and buyers", "any graph"])
@pytest.mark.parametrize("apart", [1e-1, 1e-3, 1e-4, 1e-6])
def test_near_ties_are_decided_as_far_as_anybody_minds(apart, limit_kw):
    """Forty flat offers a little apart: it ends soon, at most the tolerance from the best, and nobody would rather deviate."""
    rng, half = np.random.default_rng(0), 20
    sells, size = np.arange(40) < half, rng.uniform(1, 5, 40) * np.where(np.arange(40) < half, 1.0, 0.6)
    b = np.where(sells, 3.0, 5.0) + apart * rng.random(40)
    curves = Curves.plain(0.0, b, np.where(sells, 0.0, -size), np.where(sells, size, 0.0))
    pairs = [(i, half + (i + j) % half) for i in range(half) for j in range(4)]
    problem = Bilateral.plain(curves, pairs, trade_max_kw=limit_kw)
    found = clear(problem)

    assert found.status == "converged"
    assert found.iterations <= 2000
    assert found.gap <= 1e-4
    assert found.max_agent_kkt <= 1e-4 * abs(found.payment_eur).max()
    assert_exact(problem, found)


def test_zero_width_bounds():
    """A fixed demand is served whatever it costs; a fixed zero stays at zero."""
    curves = Curves.plain([1.0, 1.0, 0.0], [4.0, 9.0, 1.0], [0.0, -3.0, 0.0], [10.0, -3.0, 0.0])
    problem = Bilateral.plain(curves, [(0, 1), (0, 2), (1, 2)], charge_eur_per_kwh=0.5)
    found = clear(problem, tolerance=1e-8)

    assert found.status == "converged"
    assert found.power_kw[:, 0] == pytest.approx([3.0, -3.0, 0.0], abs=1e-9)
    assert found.price_eur_per_kwh[0, 0] >= 4.0 + 3.0 + 0.5 - 1e-6  # his value of it has no upper end
    assert_exact(problem, found)


@pytest.mark.parametrize("more", [{}, {"trade_max_kw": 1e7}], ids=["sellers and buyers", "any graph"])
def test_scales_apart(more):
    """One watt to ten megawatts in one market: converges, and the certificate holds."""
    size = np.array([1e-3, 1.0, 1e4, 1e-3, 1.0, 1e4])
    sells = np.arange(6) < 3
    curves = Curves.plain(
        0.1 / size, np.where(sells, 0.1, 0.3), np.where(sells, 0.0, -size), np.where(sells, size, 0.0)
    )
    problem = Bilateral.full(curves, range(3), range(3, 6), charge_eur_per_kwh=0.01, **more)
    found, sharp = clear(problem), clear(problem, tolerance=1e-8)

    for each in (found, sharp):
        assert each.converged
        assert each.iterations <= 100
        assert each.gap <= 1e-6
        assert_exact(problem, each)
        # by hand: 0.1 + 0.1 x + 0.02 = 0.3 - 0.1 x, each to its own size, the smallest too
        assert abs(each.power_kw[:, 0]) / size == pytest.approx(np.full(6, 0.9), abs=1e-3)
    assert sharp.max_agent_kkt <= 1e-6


def test_scales_apart_and_passed_on():
    """Sixty who buy and sell, a watt to ten megawatts, on a ring where energy goes far through the small: converges."""
    rng = np.random.default_rng(0)
    size = 1e-3 * np.exp(rng.uniform(0, np.log(1e7), 60))
    curves = Curves.plain(0.1 / size, rng.uniform(0.05, 0.3, 60), -size, size)
    problem = Bilateral.ring(curves, 4, charge_eur_per_kwh=0.01)
    found = clear(problem, tolerance=1e-6)

    assert found.status == "converged"
    assert found.iterations <= 3000
    assert found.gap <= 1e-4
    assert_exact(problem, found)


def test_passing_energy_on():
    """Who may buy and sell links two who have no pair; who may not stays out of it."""
    line = [(0, 1), (1, 2)]
    dealer = Curves.plain([1.0, 1e3, 1.0], [2.0, 5.0, 8.0], [0.0, -1.0, -9.0], [9.0, 1.0, 0.0])
    problem = Bilateral.plain(dealer, line, charge_eur_per_kwh=0.1)
    found = clear(problem, tolerance=1e-9)
    assert found.trades_kw[:, 0] == pytest.approx([2.8, 2.8], abs=0.01)
    assert found.gap <= 1e-7
    assert_exact(problem, found)

    seller = clear(
        Bilateral.plain(replace(dealer, p_min_kw=np.array([[0.0], [0.0], [-9.0]])), line, charge_eur_per_kwh=0.1)
    )
    assert seller.trades_kw[0, 0] == 0.0
    assert seller.trades_kw[1, 0] > 0.0


def test_preferences_move_trades():
    """A buyer who pays to avoid one seller buys more of the other, and the prices differ."""
    curves = Curves.plain(1.0, [4.0, 4.0, 12.0], [0.0, 0.0, -30.0], [30.0, 30.0, 0.0])
    same = Bilateral.full(curves, [0, 1], [2])
    prefers = replace(same, charge_second_eur_per_kwh=np.array([[-1.0], [1.0]]))
    even, odd = clear(same, tolerance=1e-9), clear(prefers, tolerance=1e-9)

    assert even.trades_kw[:, 0] == pytest.approx([8 / 3, 8 / 3], abs=1e-6)
    assert odd.trades_kw[0, 0] - odd.trades_kw[1, 0] == pytest.approx(2.0, abs=1e-6)
    assert odd.price_eur_per_kwh[0, 0] - odd.price_eur_per_kwh[1, 0] == pytest.approx(2.0, abs=1e-6)


def test_forced_energy_is_named_and_not_fatal():
    """A seller who must bring more than its partner takes is named; everybody else is cleared as usual."""
    curves = Curves.plain(
        1.0, [4.0, 8.0, 4.0, 8.0], [5.0, -3.0, 0.0, -9.0], [9.0, 0.0, 9.0, 0.0], agent_ids=("a", "b", "c", "d")
    )
    problem = Bilateral.plain(curves, [(0, 1), (2, 3)])
    found = clear(problem, tolerance=1e-8)

    assert found.status == "infeasible"
    assert found.trouble == ("agent 'a', interval 0, must bring 2 kW that no partner takes.",)
    assert found.converged
    assert found.power_kw[:, 0] == pytest.approx([3.0, -3.0, 2.0, -2.0], abs=1e-6)
    assert found.unplaced_kw[:, 0] == pytest.approx([2.0, 0.0, 0.0, 0.0], abs=1e-6)
    assert_exact(problem, found)


def test_a_store_carries_energy_to_where_it_is_worth_more():
    """By hand: 1 kW of sun at noon for free, a need of 1 kW at night worth 1; half is lost on the way."""
    curves = Curves.plain(0.0, [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.0, 0.0]])
    stores = OwnStores.plain(1, 2, 2, store_charge_max_kw=[[[2.0], [0.0]]], store_discharge_max_kw=[[[2.0], [0.0]]],
                             store_energy_max_kwh=2.0, store_efficiency_discharge=0.5, store_wear_eur_per_kwh=0.1)  # fmt: skip
    problem = Bilateral.plain(curves, [(0, 1)], stores=stores)
    found = clear(problem, tolerance=1e-8)

    assert found.trades_kw == pytest.approx(np.array([[0.0, 0.5]]), abs=1e-6)
    assert found.energy_kwh[0, 0] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)
    assert found.cost_eur == pytest.approx(-0.5 + 0.1 * 1.5, abs=1e-6)
    assert found.gap <= 1e-6
    assert_exact(problem, found)


def test_a_store_that_cannot_is_named():
    """A car that cannot be full in time is told, and gets what it can."""
    curves = Curves.plain(0.1, [1.0, 5.0], [0.0, 0.0], [9.0, 0.0])
    stores = OwnStores.plain(1, 2, 1, store_charge_max_kw=[[[0.0], [2.0]]], store_energy_min_kwh=[[[0.0], [3.0]]],
                             store_energy_max_kwh=5.0)  # fmt: skip
    found = clear(Bilateral.plain(curves, [(0, 1)], stores=stores), tolerance=1e-8)

    assert found.status == "infeasible"
    assert found.trouble == ("agent 1, store 0, will be 1 kWh short of its least content, whatever it does.",)
    assert found.trades_kw[0, 0] == pytest.approx(2.0, abs=1e-6)


def test_not_converging_is_told():
    """Too few iterations: the plan is exact, the status says so, the gap how bad it is."""
    problem = shop(40, 3)
    found = clear(problem, tolerance=1e-9, max_iterations=5)

    assert (found.status, found.converged, found.iterations) == ("not_converged", False, 5)
    assert found.gap > 1e-9
    assert_exact(problem, found)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"first": [7], "second": [0]}, "first of pair 0 is 7; agents have the rows 0 to 1."),
        ({"first": [1], "second": [1]}, "pair 0 is agent 1 with itself."),
        ({"first": [1, 0], "second": [0, 1]}, "more than once"),
        ({"charge_first_eur_per_kwh": [np.nan]}, "charge_first_eur_per_kwh is nan for agent 1 and agent 0"),
        ({"trade_max_kw": [-1.0]}, "trade_max_kw is -1.0 for agent 1 and agent 0"),
        ({"trade_max_kw": [np.nan]}, "trade_max_kw is nan"),
        ({"charge_second_eur_per_kwh": [[0.0, 0.0]]}, "charge_second_eur_per_kwh has the shape (1, 2)"),
        ({"first": [0.5]}, "first holds float64 values"),
    ],
)
def test_mistakes_are_named(change, told):
    """What cannot be meant is refused, with the pair and the agents."""
    pairs = len(change.get("first", [0]))
    columns = {"first": [1] * pairs, "second": [0] * pairs, "charge_first_eur_per_kwh": np.zeros(pairs),
               "charge_second_eur_per_kwh": np.zeros(pairs), "trade_max_kw": np.full(pairs, np.inf)}  # fmt: skip
    with pytest.raises(BilateralError) as refused:
        Bilateral(curves=two().curves, **(columns | change))
    assert told in str(refused.value)


def test_money_from_nothing_is_refused():
    """A discount on both ways of one pair would be earned by trading to and fro."""
    curves = Curves.plain([1.0, 1.0], 5.0, -3.0, 3.0)
    with pytest.raises(BilateralError, match="to and fro would earn without limit"):
        Bilateral.plain(curves, [(0, 1)], charge_eur_per_kwh=-0.1)


def test_stores_are_checked():
    """Stores with efficiencies out of range, NaN or crossed bounds are refused by name."""
    for column, value, told in (
        (
            "store_efficiency_charge",
            1.5,
            "store_efficiency_charge is 1.5 for agent 0, store 0; give more than 0 and at most 1",
        ),
        ("store_charge_max_kw", np.nan, "store_charge_max_kw is nan for agent 0, store 0, interval 0; give 0 or more"),
        ("store_energy_min_kwh", 9.0, "store_energy_min_kwh, 9, is above store_energy_max_kwh, 0"),
    ):
        with pytest.raises(BilateralError) as refused:
            two(stores=OwnStores.plain(1, 2, 1, **{column: value}))
        assert told in str(refused.value)
    with pytest.raises(StoresError, match="no column 'store_colour'"):
        OwnStores.plain(1, 2, 1, store_colour=1.0)


def test_shapes_are_told():
    """Pairs, charges and store columns that do not fit are refused in words."""
    curves = two().curves
    for pairs, more, told in (
        ([(0, 1, 2)], {}, r"pairs have the shape \(1, 3\); give two rows of agents per pair"),
        ([(0.5, 1)], {}, "first holds float64 values; give the rows of the agents as integers"),
        ([(0, 1)], {"charge_eur_per_kwh": [1.0, 2.0]}, r"charge_eur_per_kwh has the shape \(2,\); give a number"),
        ([(0, 1)], {"trade_max_kw": [1.0, 2.0]}, r"trade_max_kw has the shape \(2,\)"),
    ):
        with pytest.raises(BilateralError, match=told):
            Bilateral.plain(curves, pairs, **more)
    with pytest.raises(StoresError, match=r"store_charge_max_kw has the shape \(4, 4\); what"):
        OwnStores.plain(1, 3, 2, store_charge_max_kw=np.zeros((4, 4)))


def test_a_roof_for_everybody_gives_nobody_room():
    """One agent without any limit to speak of does not loosen the limits of the others by a hair."""
    curves = Curves.plain([0.0, 1.0, 1.0], [9.0, 3.0, 3.0], [-1e12, 0.0, 0.0], [0.0, 2.0, 1e-3])
    problem = Bilateral.full(curves, [1, 2], [0])
    found = clear(problem, tolerance=1e-3, max_iterations=10)

    assert (found.power_kw[1:, 0] <= [2.0, 1e-3]).all()
    assert_exact(problem, found)


def test_options_are_checked():
    """Tolerances, gaps and counts out of range are refused."""
    for more in ({"tolerance": 0.0}, {"tolerance": np.nan}, {"gap": 0.0}, {"max_iterations": 0}, {"threads": 0}):
        with pytest.raises(BilateralError, match="give"):
            clear(two(), **more)
    with pytest.raises(BilateralError, match="even number"):
        Bilateral.ring(two().curves, 3)


def test_ring():
    """Everybody has as many partners as asked for, each pair once."""
    problem = Bilateral.ring(Curves.plain(np.ones(9), 1.0, -1.0, 1.0), 4)
    assert np.bincount(np.concatenate([problem.first, problem.second])).tolist() == [4] * 9
    assert Bilateral.ring(Curves.plain(np.ones(4), 1.0, -1.0, 1.0), 2).pairs == 4


def test_stores_and_their_warm_start():
    """Thirty agents with batteries over a day: few iterations, a small gap, and none to speak of from where they ended."""
    rng, steps, n = np.random.default_rng(1), 24, 30
    hour = np.arange(steps)
    sun, evening = np.clip(np.sin((hour / 24 - 0.25) * 2 * np.pi), 0, 1), 0.3 + np.exp(-(((hour - 19) / 2.0) ** 2))
    b = rng.uniform(0.05, 0.15, (n, 1)) + 0.15 * evening
    low, high = -rng.uniform(0.5, 3, (n, 1)) * evening, rng.uniform(2, 8, (n, 1)) * (rng.random((n, 1)) < 0.6) * sun
    power = 3.0 * (rng.random((1, n, 1)) < 0.4)
    stores = OwnStores.plain(1, n, steps, store_charge_max_kw=power, store_discharge_max_kw=power, store_wear_eur_per_kwh=0.005,
                             store_energy_max_kwh=2 * power, store_efficiency_charge=0.95, store_efficiency_discharge=0.95)  # fmt: skip
    problem = Bilateral.ring(Curves.plain(0.02, b, low, high), 6, charge_eur_per_kwh=0.01, stores=stores)
    cold = clear(problem, tolerance=1e-5)
    again = clear(problem, tolerance=1e-4, warm=cold.warm)

    assert cold.converged
    assert cold.iterations <= 1000
    assert cold.gap <= 1e-4
    assert cold.discharge_kw.sum() > 1.0
    assert again.iterations <= 20
    assert again.cost_eur == pytest.approx(cold.cost_eur, rel=1e-4)
    assert_exact(problem, cold)
    assert_exact(problem, again)


def test_energy_that_can_only_be_burnt():
    """Who must bring 1 kW that nobody takes, and owns a full battery, burns it there: the bounds hold."""
    stores = OwnStores.plain(1, 1, 1, store_charge_max_kw=4.0, store_discharge_max_kw=4.0, store_energy_max_kwh=1.0,
                             store_initial_kwh=1.0, store_efficiency_charge=0.8, store_efficiency_discharge=0.8)  # fmt: skip
    problem = Bilateral.plain(Curves.plain([1.0], 2.0, 1.0, 1.0), np.zeros((0, 2), int), stores=stores)
    found = clear(problem, tolerance=1e-6)

    assert found.trouble == ()
    assert (found.charge_kw - found.discharge_kw).sum() == pytest.approx(1.0, abs=1e-8)
    assert 0.8 * found.charge_kw.sum() <= found.discharge_kw.sum() / 0.8 + 1e-8
    assert_exact(problem, found)
