"""What a clearing says of itself: who pays whom, who could gain, what is missing; and how it behaves when the world is scaled."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from market.bound import bound
from market.central import CentralProblem, solve, verify
from market.exchange import Infeasible, Problem, ProblemError, attainable, clear
from market.feasible import broken_needs
from market.follow import follow_rented
from market.laws import broken_laws
from market.planes import means
from market.repair import repair
from market.sample import sample
from market.splitting import Splitting

QUIET = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def shared_slots(exchange="free", size=2.0, **more):
    """The design's case I: two prosumers, two hours, a lossless shared store of the given kW and kWh, no reserve rent."""
    case = dict(
        load_kw=[[0.0, 0.0], [1.0, 3.0]],
        pv_kw=[[4.0, 0.0], [0.0, 0.0]],
        buy_eur_per_kwh=[[0.20, 0.40]],
        sell_eur_per_kwh=0.05,
        dt_h=1.0,
        shared=1,
        ess_energy_offer_kwh=size,
        ess_power_offer_kw=size,
        exchange=exchange,
    )
    return Problem.plain(**(case | more))


def alone(case):
    """Everybody under the retailer's prices: no neighbours, no shared store."""
    nobody = np.zeros_like(case.access)
    free = {"ess_net_min_kw": np.full_like(case.ess_net_min_kw, -np.inf)}
    return clear(replace(case, exchange="zero", access=nobody, **free), tolerance=1e-5)


def rows(case, order):
    """The same agents, other rows, or only some of them."""
    some, second = {}, ("store_", "access", "rent_", "rented_initial", "rented_final", "right_")
    for field in fields(Problem):
        value = getattr(case, field.name)
        if isinstance(value, np.ndarray) and not field.name.startswith("ess_"):
            axis = 1 if field.name.startswith(second) else 0
            some[field.name] = np.take(value, order, axis=axis)
    return replace(case, **some)


def times(case, factor, endings):
    """All columns whose unit has one of these endings, times a factor."""
    scaled = {
        field.name: factor * getattr(case, field.name)
        for field in fields(Problem)
        if field.name.endswith(endings) and getattr(case, field.name) is not None
    }
    return replace(case, **scaled)


# who pays whom -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exchange", "size", "cost", "rent"),
    [("zero", 0.0, 1.20, 0.0), ("zero", 2.0, 0.80, 0.20), ("free", 0.0, 1.05, 0.0), ("free", 2.0, 0.35, 0.35)],
)
def test_the_shared_store_by_hand(exchange, size, cost, rent):
    """Costs 1.20, 0.80, 1.05, 0.35; a kWh of space, with its kW, is worth 0.20 without and 0.35 with neighbours."""
    case = shared_slots(exchange, size)
    found = clear(case, tolerance=1e-5)
    rents = found.rent_energy_scarcity_eur_per_kwh + found.rent_power_scarcity_eur_per_kw

    assert found.cost_eur == pytest.approx(cost, abs=1e-4)
    assert found.bound_eur == pytest.approx(cost, abs=1e-4)
    if size > 0.0:
        assert rents[0] == pytest.approx(rent, abs=5e-4)
        assert found.owner_income_eur[0] == pytest.approx(2.0 * rent, abs=1e-3)
        assert solve(case).owner_income_eur[0] == pytest.approx(2.0 * rent, abs=1e-4)


def test_dual_prices_divide_the_gain_as_by_hand():
    """Of the 0.85 that they gain together prosumer 1 gets nothing, prosumer 2 0.15 and the owner 0.70."""
    case = shared_slots()
    found = clear(case, tolerance=1e-5)
    gain = alone(case).agent_cost_eur - found.agent_cost_eur - found.payment_eur

    np.testing.assert_allclose(gain, [0.0, 0.15], atol=2e-3)
    assert found.owner_income_eur[0] == pytest.approx(0.70, abs=2e-3)
    np.testing.assert_allclose(found.price_eur_per_kwh, [0.05, 0.40], atol=1e-3)


def test_payments_are_what_prices_and_rents_say():
    """Energy at the price, rents on the rights, the firm charge's price for what is charged; they sum to the owner's income."""
    case = sample(9, 24)
    firm = np.full((1, 24), -np.inf)
    firm[0, :6] = 0.99 * case.ess_power_offer_kw[0]
    case = replace(case, ess_net_min_kw=firm)
    found = clear(case, tolerance=1e-4)
    flow = (found.rented_charge_kw - found.rented_discharge_kw)[0]
    paid = -case.dt_h * (found.price_eur_per_kwh * found.exchange_kw).sum(axis=1)
    paid += found.rent_energy_scarcity_eur_per_kwh[0] * found.right_energy_kwh[0]
    paid += found.rent_power_scarcity_eur_per_kw[0] * found.right_power_kw[0]
    paid -= case.dt_h * (found.ess_net_price_eur_per_kwh[0] * flow).sum(axis=1)

    assert found.ess_net_price_eur_per_kwh.max() > 0.05
    np.testing.assert_allclose(found.payment_eur, paid, atol=1e-9)
    assert found.payment_eur.sum() == pytest.approx(found.owner_income_eur.sum(), abs=1e-9)
    assert found.dual_asymmetry_eur_per_kwh == 0.0


def test_where_nothing_is_rented_payments_sum_to_zero():
    """Money only goes from neighbour to neighbour."""
    found = clear(sample(9, 24, ess_kwh_per_home=0.0, firm_charge_kw_per_home=0.0))

    assert np.abs(found.payment_eur).max() > 0.01
    assert found.payment_eur.sum() == pytest.approx(0.0, abs=1e-9)


def best_response(case, found, i):
    """A price taker is a home alone whose retailer buys and sells at the exchange's prices where these are better."""
    price = found.price_eur_per_kwh
    one = replace(rows(case, [i]), exchange="zero")
    return solve(
        replace(
            one,
            buy_eur_per_kwh=np.minimum(one.buy_eur_per_kwh, price + one.exchange_charge_eur_per_kwh),
            sell_eur_per_kwh=np.maximum(one.sell_eur_per_kwh, price),
            rent_energy_eur_per_kwh=one.rent_energy_eur_per_kwh + found.rent_energy_scarcity_eur_per_kwh[:, None],
            rent_power_eur_per_kw=one.rent_power_eur_per_kw + found.rent_power_scarcity_eur_per_kw[:, None],
        )
    ).cost_eur


def test_no_deviation_gains_more_than_the_certificate_says():
    """Every agent's best answer to the prices, found by the solver, saves no more than what was certified."""
    case = sample(5, 12, seed=5, firm_charge_kw_per_home=0.0)
    found = clear(case, tolerance=1e-4)
    pays = found.agent_cost_eur + found.payment_eur
    saved = np.array([pays[i] - best_response(case, found, i) for i in range(case.n)])

    assert (saved <= found.deviation_gain_eur + 1e-6).all()
    assert found.max_deviation_gain_eur == found.deviation_gain_eur.max() <= 0.03
    worse = clear(case, max_iterations=5)
    assert worse.max_deviation_gain_eur > 3.0 * found.max_deviation_gain_eur


def test_a_gap_near_a_cost_of_nothing_is_small_against_what_changes_hands():
    """Surplus and need of equal worth: the cost is nearly zero, the turnover is not."""
    case = Problem.plain([[0.0, 8.0]], [[10.0, 0.0]], [[0.30, 0.10]], 0.08, dt_h=1.0)
    found = clear(case, tolerance=1e-5)

    assert found.cost_eur == pytest.approx(0.0, abs=1e-9)
    assert found.turnover_eur == pytest.approx(10 * 0.08 + 8 * 0.10)
    assert 0.0 <= found.gap_eur <= 1e-4 * found.turnover_eur


# against the yardstick -----------------------------------------------------------------------------------------------


def test_verify_compares_with_the_central_optimum():
    """Costs, prices, rents and trades beside the solver's; a false clearing is noticed."""
    case = sample(9, 24, seed=1)
    found = clear(case, tolerance=1e-4)
    checked = verify(case, found)

    assert checked.certified
    assert -1e-6 <= checked.excess_eur <= found.gap_eur
    assert checked.price_difference_eur_per_kwh <= 0.05
    assert checked.central.cost_eur == checked.central_cost_eur
    assert not verify(case, replace(found, bound_eur=checked.central_cost_eur + 0.1)).certified
    assert not verify(case, replace(found, cost_eur=checked.central_cost_eur - 0.1)).certified


# the bound -----------------------------------------------------------------------------------------------------------


def odd(seed):
    """Draw a community in which any of the kinds may meet: netted, alone, rights given, negative prices, tight envelopes."""
    rng = np.random.default_rng(seed)
    case = sample(int(rng.integers(2, 7)), 12, seed=seed, firm_charge_kw_per_home=0.05 * (rng.random() < 0.5))
    cheaper, narrower = (
        0.35 * (rng.random() < 0.4),
        0.4 if rng.random() < 0.4 else np.inf if rng.random() < 0.3 else 1.0,
    )
    case = replace(
        case,
        ess_netted=np.array([rng.random() < 0.5]),
        exchange="zero" if rng.random() < 0.2 else "free",
        buy_eur_per_kwh=case.buy_eur_per_kwh - cheaper,
        sell_eur_per_kwh=case.sell_eur_per_kwh - cheaper,
        import_limit_kw=np.maximum(case.import_limit_kw, 0.1) * narrower,
        export_limit_kw=np.maximum(case.export_limit_kw, 0.1) * narrower,
    )
    if rng.random() < 0.3:
        each = np.ones((1, case.n)) / case.n
        offers = case.ess_energy_offer_kwh * each, case.ess_power_offer_kw * each
        case = replace(case, right_energy_kwh=offers[0], right_power_kw=offers[1])
    return attainable(case)[0]


def least_cost(case):
    """What the solver's optimum costs before anything is repaired."""
    central = CentralProblem(case)
    central.solve()
    return float(central.flows_eur().value + central.rents_eur().value)


@pytest.mark.parametrize("seed", range(8))
def test_no_prices_lift_the_bound_above_the_optimum(seed):
    """At the clearing's prices the bound meets the solver's optimum; at early and at made-up ones it is below."""
    case, rng = odd(seed), np.random.default_rng(seed)
    optimum, found = least_cost(case), clear(case, tolerance=1e-5)
    above = 1e-7 * (1.0 + abs(optimum))

    assert -1e-4 * found.turnover_eur <= found.bound_eur - optimum <= above
    for iterations in (1, 30):
        outcome = Splitting(case, None, 1).run(1e-9, iterations)
        plan = repair(case, outcome.draft, outcome.duals.price_eur_per_kwh)
        for noise in (0.0, 0.1, 1.0):
            wrong = {f.name: getattr(outcome.duals, f.name) for f in fields(outcome.duals)}
            wrong = {name: value + noise * rng.normal(size=value.shape) for name, value in wrong.items()}
            assert bound(case, plan, replace(outcome.duals, **wrong)).bound_eur <= optimum + above


def test_the_bound_is_sharp_where_rights_are_bounded_one_by_one():
    """In netted operation a right has two limits of its own; what a plan could still gain is known to 0.2 cents."""
    case = replace(sample(4, 12, seed=2), ess_netted=np.array([True]))
    found = clear(case, tolerance=1e-5)

    assert found.gap <= 3e-5
    assert found.max_deviation_gain_eur <= 2e-4


def test_the_bound_needs_fewer_iterations_than_the_plan():
    """After 160 the plan costs a little too much, and the bound lies nearer to the optimum than the plan."""
    case = sample(79, 24)
    best, early = clear(case, gap=1e-4), clear(case, tolerance=1e-9, max_iterations=160)

    assert early.bound_eur >= best.cost_eur - 3e-4 * best.turnover_eur
    assert best.cost_eur - early.bound_eur <= early.cost_eur - best.bound_eur


@given(st.integers(0, 100_000))
@settings(QUIET, max_examples=60)
def test_the_best_mean_of_planes_is_a_linear_programs(seed):
    """Singles, level pairs and level triples: no other mean of planes is worth more in a box."""
    rng = np.random.default_rng(seed)
    planes, low = rng.normal(size=(int(rng.integers(1, 9)), 3)).round(1), rng.uniform(0, 1, 2)
    box = np.stack([low, low + rng.uniform(0, 3, 2)], axis=1).ravel()
    mix = np.full(11, -np.inf)
    for p in range(len(planes)):
        means(planes, p, box, mix)
    rows = np.column_stack([planes[:, 1:], -np.ones(len(planes))])
    best = linprog([0, 0, 1], A_ub=rows, b_ub=-planes[:, 0], bounds=[tuple(box[:2]), tuple(box[2:]), (None, None)])

    assert mix[0] == pytest.approx(best.fun, abs=1e-9)
    shares, members = mix[7:10], planes[mix[4:7].astype(int)]
    np.testing.assert_allclose(shares @ members, mix[1:4], atol=1e-12)
    assert shares.min() >= 0.0


# needs that nothing can meet -----------------------------------------------------------------------------------------


def street(**more):
    """Two homes and a car that cannot be full in time, for an hour."""
    case = dict(
        load_kw=[[0.0], [3.0], [0.0]],
        pv_kw=[[4.0], [0.0], [0.0]],
        buy_eur_per_kwh=0.30,
        sell_eur_per_kwh=0.08,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=[[[0.0], [0.0], [3.0]]],
        store_energy_min_kwh=[[[0.0], [0.0], [5.0]]],
        store_energy_max_kwh=10.0,
        agent_ids=("ann", "bob", "car"),
    )
    return Problem.plain(**(case | more))


def test_an_infeasible_home_is_named_and_the_others_trade():
    """The car gets 3 of its 5 kWh; who, when and how much is missing is said; ann sells to bob all the same."""
    with pytest.raises(Infeasible, match="'car', store 0"):
        clear(street())
    found = clear(street(), infeasible="relax")

    assert len(found.relaxed) == 1
    assert "'car', store 0: at the end of interval 0 its content will be 2 kWh short of the 5 kWh" in found.relaxed[0]
    np.testing.assert_allclose(found.missing_kwh[0, 0, :, 0], [0.0, 0.0, 2.0])
    assert found.energy_kwh[0, 2, 1] == pytest.approx(3.0)
    assert found.exchange_kw[0, 0] == pytest.approx(4.0)
    assert broken_laws(attainable(street())[0], found) == []


def test_where_nothing_is_missing_relaxing_changes_nothing():
    """The same clearing, and no word of anything relaxed."""
    case = sample(9, 24)
    one, other = clear(case), clear(case, infeasible="relax")

    np.testing.assert_array_equal(one.grid_kw, other.grid_kw)
    assert (one.relaxed, one.missing_kwh, other.relaxed) == ((), None, ())
    assert other.missing_kwh.max() == 0.0
    assert broken_needs(case) == []


def test_a_tenant_whose_right_is_too_small_for_its_content_is_named():
    """1 kW for two hours empties 2 of 3 kWh, and fills 1.8 of 2.5 kWh at 0.9: each by its own."""
    for first, last, reached, gain in ((3.0, 0.0, 1.0, 1.0), (0.0, 2.5, 1.8, 0.9)):
        case = shared_slots(
            size=6.0,
            ess_efficiency_charge=gain,
            right_energy_kwh=[[3.0, 3.0]],
            right_power_kw=[[1.0, 1.0]],
            rented_initial_kwh=[[0.0, first]],
            rented_final_kwh=[[0.0, last]],
        )
        with pytest.raises(
            Infeasible, match=rf"agent 1, shared store 0: .* to {reached:g} kWh at best, not to the {last:g} kWh"
        ):
            clear(case)
        found = clear(case, infeasible="relax")

        assert found.rented_energy_kwh[0, 1, -1] == pytest.approx(reached)
        assert len(found.relaxed) == 1
        assert broken_laws(attainable(case)[0], found) == []


def test_what_to_do_with_the_infeasible_is_one_of_two():
    """Neither 'ignore' nor anything else."""
    with pytest.raises(ProblemError, match="infeasible is 'ignore'; give 'raise' or 'relax'"):
        clear(street(), infeasible="ignore")


# odd markets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [f.name for f in fields(Problem) if f.name.endswith(("_kw", "_kwh", "_efficiency_charge"))]
)
def test_nan_is_refused_in_every_column(name):
    """Whatever the column, a number that is none has no meaning."""
    case = sample(3, 12)
    if getattr(case, name) is None:
        case = replace(case, right_energy_kwh=np.zeros((1, 4)), right_power_kw=np.zeros((1, 4)))
        case = replace(case, pinned_exchange_kw=np.zeros((4, 12)), exchange="pinned", ess_initial_kwh=np.zeros(1))
    column = getattr(case, name)
    if np.ndim(column) == 0:
        broken = np.nan
    else:
        broken = column.copy()
        broken.flat[0] = np.nan

    with pytest.raises(ProblemError, match=f"{name} is nan"):
        replace(case, **{name: broken})


def test_bounds_of_no_width_leave_no_choice_and_have_an_answer():
    """No import, no export, a battery that must stay where it is, rights of nothing."""
    case = Problem.plain(
        [[1.0, 1.0], [0.0, 0.0]],
        [[0.0, 0.0], [2.0, 2.0]],
        0.30,
        0.08,
        dt_h=1.0,
        import_limit_kw=0.0,
        export_limit_kw=0.0,
        stores=1,
        store_charge_max_kw=1.0,
        store_discharge_max_kw=1.0,
        store_energy_min_kwh=2.0,
        store_energy_max_kwh=2.0,
        store_initial_kwh=2.0,
        shared=1,
    )
    found = clear(case, tolerance=1e-5)

    assert found.converged
    assert broken_laws(case, found) == []
    assert found.cost_eur == pytest.approx(2 * (0.30 + 2.0), abs=1e-3)
    np.testing.assert_allclose(found.curtailed_kw[1], 2.0, atol=1e-9)


def test_a_book_that_does_not_cross_trades_nothing():
    """What one would take is less than what the other gets from the retailer."""
    case = Problem.plain(
        [[0.0], [2.0]], [[2.0], [0.0]], [[0.40], [0.12]], [[0.11], [0.05]], dt_h=1.0, exchange_charge_eur_per_kwh=0.05
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.exchange_kw, 0.0, atol=1e-9)
    assert found.cost_eur == pytest.approx(2 * 0.12 - 2 * 0.11)


def test_a_watt_and_ten_megawatts_in_one_market():
    """Seven orders of magnitude: exact, certified, and the price is the optimum's."""
    case = sample(19, 24, seed=1, firm_charge_kw_per_home=0.0)
    size = 10.0 ** np.random.default_rng(0).uniform(-3, 4, case.n)
    scaled = {}
    for field in fields(Problem):
        if (
            field.name.endswith(("_kw", "_kwh"))
            and "eur" not in field.name
            and not field.name.startswith(("ess", "rent", "right"))
        ):
            value = getattr(case, field.name)
            if value is not None:
                scaled[field.name] = value * (size if field.name == "store_initial_kwh" else size[:, None])
    offer = {"ess_energy_offer_kwh": np.array([size.sum()]), "ess_power_offer_kw": np.array([size.sum() / 6])}
    case = replace(case, **scaled, **offer)
    found = clear(case, tolerance=1e-4)

    assert found.converged
    assert broken_laws(case, found) == []
    assert found.gap <= 1e-3
    checked = verify(case, found)
    assert checked.certified
    assert checked.price_difference_eur_per_kwh <= 2e-3


def test_netting_where_burning_would_pay_is_reported():
    """Paid 0.30 for every kWh that it takes, a lossy battery would burn; the plan does not, and says what that costs."""
    case = Problem.plain(
        [[0.0, 0.0]],
        [[0.0, 0.0]],
        -0.30,
        -0.40,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=1.0,
        store_discharge_max_kw=1.0,
        store_energy_max_kwh=1.0,
        store_efficiency_charge=0.8,
        store_efficiency_discharge=0.8,
    )
    found = clear(case, tolerance=1e-5)

    assert np.minimum(found.charge_kw, found.discharge_kw).max() == 0.0
    assert found.cost_eur == pytest.approx(-0.30 * 1.25, abs=1e-3)
    # two hours at 1 kW, of which 0.2 + 0.45 may be lost by discharging (1 - 0.64) and 1 kWh stays: worth 0.30 each
    assert 0.0 < found.netting_cost_eur <= found.gap_eur + 1e-6
    assert found.netting_cost_eur == pytest.approx(found.gap_eur, abs=1e-3)
    assert clear(sample(9, 24)).netting_cost_eur == 0.0


def test_elastic_demand_is_a_store_that_only_discharges():
    """Of 2 kW the last is worth 0.25 and the last but one 0.45: at 0.20 both are served, at 0.30 one, at 0.50 none."""
    case = Problem.plain(
        [[2.0, 2.0, 2.0]],
        [[0.0, 0.0, 0.0]],
        [[0.20, 0.30, 0.50]],
        0.0,
        dt_h=1.0,
        stores=2,
        store_discharge_max_kw=1.0,
        store_initial_kwh=3.0,
        store_energy_max_kwh=3.0,
        store_wear_eur_per_kwh=[[0.25], [0.45]],
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.discharge_kw[:, 0], [[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]], atol=1e-3)
    np.testing.assert_allclose(found.meter_kw, [[2.0, 1.0, 0.0]], atol=1e-3)
    assert found.cost_eur == pytest.approx(0.40 + 0.30 + 0.25 + 0.25 + 0.45, abs=1e-3)


# tenants that leave in time ------------------------------------------------------------------------------------------


def test_a_tenant_that_nobody_helps_leaves_in_time_by_itself():
    """Nothing may go out in the last hour: the one with content and little power has to begin earlier than the sum would say."""
    constants = np.repeat([[1.0], [1.0], [1.0]], 2, axis=1)
    power = np.array([[0.5], [5.0]]) * np.ones(4)
    bounds = np.stack([[-np.inf, -np.inf, -np.inf, 0.0], np.full(4, np.inf)])
    endless = np.stack([np.full(5, -np.inf), np.full(5, np.inf)])
    off = {}
    for helped in (True, False):
        charge, discharge = np.zeros((2, 4)), np.zeros((2, 4))
        energy, box = np.empty((2, 5)), np.empty(5)
        off[helped] = follow_rented(
            constants, np.ones(2), power, np.array([1.0, 0.0]), np.zeros(2), bounds, np.array([1.0, 1.0, 1.0, 1.0]), endless,
            helped, True, charge, discharge, energy, box,
        )  # fmt: skip
        last = discharge[:, 3].sum() - charge[:, 3].sum()

    assert off[True] == pytest.approx(0.5)
    assert off[False] == 0.0
    assert last == 0.0
    np.testing.assert_allclose(energy[0], [1.0, 1.0, 0.5, 0.0, 0.0])
    np.testing.assert_allclose(box, energy.sum(axis=0))


@pytest.mark.parametrize("seed", [17, 39])
def test_hours_that_let_nothing_out_need_no_linear_program(seed, monkeypatch):
    """Rights as let the day before, forecasts off by a third, an envelope that closes: every plan can be followed."""
    monkeypatch.setattr("market.repair.restore", lambda *_: pytest.fail("the plan could be followed"))
    rng = np.random.default_rng(seed)
    case = sample(int(rng.integers(5, 40)), 24, seed=seed)
    power = case.ess_power_offer_kw[0]
    net_min = case.ess_net_min_kw.copy()
    net_min[0, 12:18], net_min[0, 18:] = -0.1 * power, 0.0
    last = clear(replace(case, ess_net_min_kw=net_min))
    rest = replace(
        case, ess_net_min_kw=net_min, right_energy_kwh=last.right_energy_kwh, right_power_kw=last.right_power_kw
    )
    for _ in range(9):
        contents = np.minimum(last.rented_energy_kwh[:, :, 2], rest.right_energy_kwh)
        rest = rest.dropped(2, last.energy_kwh[:, :, 2], contents)
        load = rest.load_kw * np.exp(0.3 * rng.normal(size=(rest.n, 1)))
        task = attainable(replace(rest, load_kw=load))[0]
        last = clear(task, warm=last.warm.dropped(2))
        assert broken_laws(task, last) == []


# laws ----------------------------------------------------------------------------------------------------------------


def community(seed):
    """Draw a community with a shared store and no firm charge."""
    rng = np.random.default_rng(seed)
    case = sample(int(rng.integers(2, 9)), 12, seed=seed, firm_charge_kw_per_home=0.0)
    return replace(case, ess_netted=np.array([rng.random() < 0.4]))


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=8)
def test_the_order_of_agents_does_not_matter_to_anyone(seed):
    """Other rows, the same costs for everybody within what either certificate allows."""
    case = community(seed)
    order = np.random.default_rng(seed).permutation(case.n)
    one, other = clear(case, tolerance=1e-4), clear(rows(case, order), tolerance=1e-4)

    assert other.cost_eur == pytest.approx(one.cost_eur, abs=max(one.gap_eur, other.gap_eur) + 1e-9)


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
@settings(QUIET, max_examples=8)
def test_scaling_energy_scales_the_result(seed, factor):
    """All kW and kWh times a factor: costs times that factor (the curvature by its inverse)."""
    case = replace(community(seed), curvature_eur_per_kw2h=1e-9)
    scaled = times(case, factor, ("_limit_kw", "_max_kw", "_offer_kw", "load_kw", "pv_kw", "_min_kw", "_kwh"))
    prices = {f.name: getattr(case, f.name) for f in fields(Problem) if "_eur_per_" in f.name}
    one, other = clear(case), clear(replace(scaled, **prices | {"curvature_eur_per_kw2h": 1e-9 / factor}))

    assert other.cost_eur == pytest.approx(factor * one.cost_eur, rel=1e-3, abs=factor * one.gap_eur)


@given(st.integers(0, 10_000), st.floats(1e-3, 1e3))
@settings(QUIET, max_examples=8)
def test_scaling_money_scales_the_result(seed, factor):
    """All prices times a factor: the same plan, costs and payments times that factor."""
    case = community(seed)
    one = clear(case)
    other = clear(times(case, factor, ("_eur_per_kwh", "_eur_per_kw", "_eur_per_kw2h")))

    assert other.cost_eur == pytest.approx(factor * one.cost_eur, rel=1e-3, abs=factor * one.gap_eur)
    np.testing.assert_allclose(other.price_eur_per_kwh, factor * one.price_eur_per_kwh, atol=factor * 2e-3)


@given(st.integers(0, 10_000), st.floats(1.0, 3.0))
@settings(QUIET, max_examples=8)
def test_more_capacity_never_costs_more(seed, more):
    """More room and power to rent, wider envelopes: what is certified is never above what it was."""
    case = community(seed)
    wider = times(case, more, ("_offer_kwh", "_offer_kw", "_limit_kw"))
    one, other = clear(case, tolerance=1e-4), clear(wider, tolerance=1e-4)

    assert other.cost_eur <= one.cost_eur + other.gap_eur
    assert other.bound_eur <= one.cost_eur


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=8)
def test_nobody_is_worse_off_than_alone(seed):
    """At the dual prices everybody pays at most what it costs alone, but for what it could gain by deviating."""
    case = community(seed)
    assume(case.access.any())
    found = clear(case, tolerance=1e-4)
    pays = found.agent_cost_eur + found.payment_eur

    assert (pays <= alone(case).agent_cost_eur + found.deviation_gain_eur + 1e-9).all()
    assert found.max_deviation_gain_eur <= 0.05
