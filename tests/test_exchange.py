"""The exchange by hand, at its edges, and from where it stood before."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from market.bound import bound
from market.exchange import Clearing, Infeasible, Problem, ProblemError, attainable, clear
from market.feasible import broken_needs
from market.laws import broken_laws
from market.repair import Plan, plan_cost_eur
from market.sample import sample

RETAIL = {"buy_eur_per_kwh": 0.30, "sell_eur_per_kwh": 0.08}


def neighbours(**more):
    """Two homes for an hour: the first has 2 kW too many, the second 3 kW too few."""
    case = dict(load_kw=[[0.0], [3.0]], pv_kw=[[2.0], [0.0]], dt_h=1.0, **RETAIL)
    return Problem.plain(**(case | more))


def battery(**more):
    """One home that needs 1 kW in each of three hours, of which the second is cheap, and has a battery of 2 kW, 1.5 kWh."""
    case = dict(
        load_kw=[[1.0, 1.0, 1.0]],
        pv_kw=[[0.0, 0.0, 0.0]],
        buy_eur_per_kwh=[[0.30, 0.10, 0.40]],
        sell_eur_per_kwh=0.05,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=2.0,
        store_discharge_max_kw=2.0,
        store_energy_max_kwh=1.5,
    )
    return Problem.plain(**(case | more))


def shared_ess(exchange, size):
    """Two homes and an operator, two hours, a lossless shared store of the given kW and kWh: the design's case I."""
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


# by hand -------------------------------------------------------------------------------------------------------------


def test_two_neighbours_share_what_one_has():
    """2 of 3 kW come from the neighbour, 1 kW from the retailer at 0.30; the price is the retailer's, who is at the margin."""
    found = clear(neighbours(), tolerance=1e-5)

    assert found.converged
    np.testing.assert_allclose(found.exchange_kw, [[2.0], [-2.0]], atol=1e-9)
    np.testing.assert_allclose(found.grid_kw, [[0.0], [1.0]], atol=1e-9)
    assert found.cost_eur == pytest.approx(0.30)
    assert found.price_eur_per_kwh[0] == pytest.approx(0.30, abs=1e-4)


def test_the_buyer_pays_the_exchange_charge_and_the_price_falls_by_it():
    """With 0.14 on every purchase the margin is the same retailer: 0.30 = price + 0.14, and the charge is a cost."""
    found = clear(neighbours(exchange_charge_eur_per_kwh=0.14), tolerance=1e-5)

    assert found.price_eur_per_kwh[0] == pytest.approx(0.16, abs=1e-4)
    assert found.cost_eur == pytest.approx(0.30 + 2 * 0.14)


def test_nobody_trades_when_the_charge_eats_the_margin():
    """0.30 - 0.08 = 0.22 is less than a charge of 0.25."""
    found = clear(neighbours(exchange_charge_eur_per_kwh=0.25), tolerance=1e-5)

    np.testing.assert_allclose(found.exchange_kw, 0.0, atol=1e-9)
    assert found.cost_eur == pytest.approx(3 * 0.30 - 2 * 0.08)


def test_ties_are_shared_evenly():
    """Two homes with the same surplus and one that needs half of it: each sells a half of what is needed."""
    case = Problem.plain([[0.0], [0.0], [2.0]], [[2.0], [2.0], [0.0]], 0.30, 0.08, dt_h=1.0)

    np.testing.assert_allclose(clear(case).exchange_kw, [[1.0], [1.0], [-2.0]], atol=1e-9)


@pytest.mark.parametrize(
    ("exchange", "size", "cost", "rent"),
    [("zero", 0.0, 1.20, None), ("zero", 2.0, 0.80, 0.20), ("free", 0.0, 1.05, None), ("free", 2.0, 0.35, 0.35)],
)
def test_renting_and_trading_are_complements(exchange, size, cost, rent):
    """The community's cost 1.20, 0.80, 1.05, 0.35 and the rents 0.20, 0.35 of the design's case I, worked out there."""
    found = clear(shared_ess(exchange, size), tolerance=1e-5)

    assert found.converged
    assert found.cost_eur == pytest.approx(cost, abs=5e-5)
    assert found.bound_eur == pytest.approx(cost, abs=5e-5)
    if rent is not None:
        rents = found.rent_energy_scarcity_eur_per_kwh + found.rent_power_scarcity_eur_per_kw
        assert rents[0] == pytest.approx(rent, abs=2e-4)


def test_a_battery_fills_when_energy_is_cheap():
    """The third hour's kWh is bought at 0.10 rather than at 0.40; half a kWh more would earn 0.05 and cost 0.10."""
    found = clear(battery(exchange="zero"), tolerance=1e-5)

    assert found.cost_eur == pytest.approx(0.30 + 2 * 0.10, abs=1e-4)
    np.testing.assert_allclose(found.energy_kwh[0, 0], [0.0, 0.0, 1.0, 0.0], atol=1e-3)


def test_efficiency_and_wear_decide_whether_a_cycle_pays():
    """At 0.8 each way a kWh for the third hour costs 0.10/0.64 and wear 2 x 0.13, more than the 0.40 that it saves."""
    costly = clear(battery(store_efficiency_charge=0.8, store_efficiency_discharge=0.8, store_wear_eur_per_kwh=0.13))

    np.testing.assert_allclose(costly.charge_kw, 0.0, atol=1e-3)


def test_a_car_charges_in_the_cheapest_hours_it_is_there():
    """5 kWh at 3 kW by the end of the third hour, away in the cheapest: 3 kWh at 0.20, 2 kWh at 0.30."""
    case = Problem.plain(
        [[0.0] * 4],
        [[0.0] * 4],
        [[0.30, 0.20, 0.10, 0.40]],
        0.0,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=[[[3.0, 3.0, 0.0, 3.0]]],
        store_energy_min_kwh=[[[0.0, 0.0, 5.0, 5.0]]],
        store_energy_max_kwh=50.0,
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.charge_kw[0, 0], [2.0, 3.0, 0.0, 0.0], atol=1e-3)
    assert found.cost_eur == pytest.approx(2 * 0.30 + 3 * 0.20, abs=1e-3)


def test_a_heat_buffer_covers_its_drain_and_its_losses():
    """Half a kWh is drained every hour and a tenth of the content lost; the least that keeps it above 0 is bought."""
    case = Problem.plain(
        [[0.0, 0.0]],
        [[0.0, 0.0]],
        [[0.30, 0.10]],
        0.0,
        dt_h=1.0,
        stores=1,
        store_charge_max_kw=2.0,
        store_energy_max_kwh=2.0,
        store_initial_kwh=0.5,
        store_retention=0.9,
        store_drain_kwh=0.5,
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.charge_kw[0, 0], [0.05, 0.5], atol=1e-3)


def test_the_envelope_bounds_the_meter_and_curtails():
    """With 1.5 kW of export only 1.5 of 4 kW leave the home, although the neighbour would take more."""
    case = neighbours(pv_kw=[[4.0], [0.0]], export_limit_kw=[[1.5], [np.inf]])
    found = clear(case, tolerance=1e-5)

    assert found.meter_kw[0, 0] == pytest.approx(-1.5)
    assert found.curtailed_kw[0, 0] == pytest.approx(2.5)
    assert found.breach_kw.max() == 0.0


def test_load_that_nothing_can_help_is_a_breach_with_a_price():
    """3 kW through a limit of 2 kW: a breach of 1 kW at the penalty, and the load is served."""
    found = clear(neighbours(import_limit_kw=[[np.inf], [2.0]], breach_penalty_eur_per_kwh=5.0), tolerance=1e-5)

    assert found.breach_kw[1, 0] == pytest.approx(1.0)
    assert found.meter_kw[1, 0] == pytest.approx(3.0)
    assert found.cost_eur == pytest.approx(0.30 + 5.0)


def test_a_rented_space_is_a_position_and_no_meter():
    """Rented flows are in the commercial balance alone: the meter of a tenant is its load less its pv."""
    found = clear(shared_ess("free", 2.0), tolerance=1e-4)

    assert (found.rented_charge_kw.sum(axis=(0, 1)) > 1.0).any()
    np.testing.assert_allclose(found.meter_kw, [[-4.0, 0.0], [1.0, 3.0], [0.0, 0.0]], atol=1e-12)


def test_a_firm_charge_is_met_and_priced():
    """1 kW must be charged in the dear hour: it is, and one kWh more of it would cost what the two hours differ by."""
    case = replace(shared_ess("free", 2.0), buy_eur_per_kwh=np.full((3, 2), 0.4) * [1.0, 0.5])
    firm = replace(case, ess_net_min_kw=np.array([[1.0, -np.inf]]))
    found = clear(firm, tolerance=1e-5)

    net = (found.rented_charge_kw - found.rented_discharge_kw).sum(axis=1)
    assert net[0, 0] >= 1.0 - 1e-9
    assert broken_laws(firm, found) == []


def test_a_pinned_exchange_is_kept_and_its_charge_paid():
    """The second home keeps what it bought, 1 kW, and buys the other two from the retailer."""
    pinned = np.array([[1.0], [-1.0]])
    found = clear(neighbours(exchange="pinned", pinned_exchange_kw=pinned, exchange_charge_eur_per_kwh=0.1))

    np.testing.assert_array_equal(found.exchange_kw, pinned)
    assert found.cost_eur == pytest.approx(2 * 0.30 - 0.08 + 0.1, abs=1e-6)
    assert np.isnan(found.price_eur_per_kwh).all()


def test_given_rights_are_kept_and_their_rent_counted():
    """Rights are not traded again: each keeps its own, uses it, and its rent is a cost all the same."""
    case = replace(shared_ess("free", 2.0), rent_energy_eur_per_kwh=np.full((1, 3), 0.01))
    energy, power = np.array([[0.5, 1.0, 0.0]]), np.array([[0.5, 1.0, 0.0]])
    found = clear(replace(case, right_energy_kwh=energy, right_power_kw=power), tolerance=1e-5)

    np.testing.assert_array_equal(found.right_energy_kwh, energy)
    assert found.cost_eur == pytest.approx(1.05 - 1.5 * 0.35 + 1.5 * 0.01, abs=1e-4)
    assert found.rent_power_scarcity_eur_per_kw[0] == 0.0


def test_reserve_rents_are_a_wedge_and_scarcity_comes_on_top():
    """A reserve rent of 0.10 leaves 0.25 of the 0.35 that space is worth; above 0.35 nobody rents."""
    for reserve, scarcity, rented in ((0.10, 0.25, 2.0), (0.40, 0.0, 0.0)):
        case = replace(shared_ess("free", 2.0), rent_energy_eur_per_kwh=np.full((1, 3), reserve))
        found = clear(case, tolerance=1e-5)
        rents = found.rent_energy_scarcity_eur_per_kwh + found.rent_power_scarcity_eur_per_kw
        assert rents[0] == pytest.approx(scarcity, abs=2e-3)
        assert found.right_energy_kwh.sum() == pytest.approx(rented, abs=5e-3)


# edges ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "cost"),
    [
        (Problem.plain(np.zeros((0, 2)), np.zeros((0, 2)), 0.3, 0.1, dt_h=1.0), 0.0),
        (Problem.plain([[1.0, 2.0]], [[0.0, 3.0]], 0.3, 0.1, dt_h=1.0), 0.3 - 0.1),
        (Problem.plain([[0.0], [0.0]], [[1.0], [3.0]], 0.3, 0.1, dt_h=1.0), -0.4),
        (Problem.plain([[0.0], [0.0]], [[0.0], [0.0]], 0.3, 0.1, dt_h=1.0), 0.0),
        (Problem.plain([[1.0], [0.0]], [[0.0], [3.0]], 0.0, 0.0, dt_h=1.0), 0.0),
        (Problem.plain([[1.0], [0.0]], [[0.0], [3.0]], 0.3, -0.1, dt_h=1.0), 0.0),
        (Problem.plain([[1.0], [0.0]], [[0.0], [3.0]], -0.1, -0.2, dt_h=1.0), -0.1 * 1.0),
        (Problem.plain([[1.0]], [[0.0]], 0.3, 0.1, dt_h=1.0, stores=2, shared=2), 0.3),
    ],
    ids=["nobody", "alone", "all sell", "nothing", "free energy", "no one takes it", "paid to consume", "empty stores"],
)
def test_small_and_odd_communities_have_an_answer(case, cost):
    """No agents, one agent, all sellers, no energy, no prices, negative prices, stores of no size: defined results."""
    found = clear(case)

    assert found.converged
    assert found.cost_eur == pytest.approx(cost, abs=2e-4)
    assert broken_laws(case, found) == []


def test_negative_prices_never_charge_and_discharge_at_once():
    """Being paid to consume tempts a lossy battery to burn; the plan nets what the iteration would like."""
    case = battery(
        buy_eur_per_kwh=[[-0.2, -0.3, 0.4]],
        sell_eur_per_kwh=-0.4,
        store_efficiency_charge=0.8,
        store_efficiency_discharge=0.8,
    )
    found = clear(case)

    assert np.minimum(found.charge_kw, found.discharge_kw).max() == 0.0
    assert broken_laws(case, found) == []


def test_when_time_is_up_the_plan_is_exact_all_the_same():
    """After ten iterations it is not converged, says so, and every law holds."""
    case = sample(9, 24)
    found = clear(case, max_iterations=10)

    assert (found.status, found.converged, found.iterations) == ("not_converged", False, 10)
    assert broken_laws(case, found) == []
    assert found.gap > 0.0


def test_more_threads_find_the_same_market():
    """Tiles are independent within an iteration, so the number of threads changes nothing."""
    case = sample(79, 24)
    one, two = clear(case), clear(case, threads=2)

    np.testing.assert_array_equal(one.grid_kw, two.grid_kw)


def test_equal_problems_give_equal_bytes():
    """Nothing depends on time or chance."""
    one, two = clear(sample(9, 24)), clear(sample(9, 24))

    for field in fields(Clearing):
        if isinstance(getattr(one, field.name), np.ndarray):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))


def test_a_made_up_community_of_any_size_can_be_cleared():
    """Ten thousand homes hold a car that drives very far; no need is more than fits into it."""
    case = sample(9999, 24)

    assert case.n == 10_000
    assert broken_needs(case) == []


def test_a_wanted_gap_is_reached():
    """Asked for a gap, it goes on until the certificate says so."""
    case = sample(9, 24)

    assert clear(case).gap > 1e-3
    assert clear(case, gap=1e-3).gap <= 1e-3


# what is refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load_kw": [[np.nan], [3.0]]}, "load_kw is nan for agent 'ann', interval 0"),
        ({"pv_kw": [[-1.0], [0.0]]}, "pv_kw is -1 for agent 'ann', interval 0; it must not be negative"),
        (
            {"sell_eur_per_kwh": 0.31},
            "sell_eur_per_kwh, 0.31, is above buy_eur_per_kwh, 0.3, for agent 'ann', interval 0",
        ),
        ({"export_limit_kw": -1.0}, "export_limit_kw is -1"),
        ({"import_limit_kw": np.nan}, "import_limit_kw is nan"),
        ({"dt_h": 0.0}, "dt_h is 0.0"),
        ({"exchange": "open"}, "exchange is 'open'; give 'free', 'pinned' or 'zero'"),
        ({"exchange": "pinned"}, "pinned_exchange_kw is not given"),
        ({"exchange": "pinned", "pinned_exchange_kw": [[1.0], [0.5]]}, "sums to 1.5 kW in interval 0"),
        ({"stores": 1, "store_efficiency_charge": 0.0}, "store_efficiency_charge is 0 for agent 'ann', store 0"),
        ({"stores": 1, "store_charge_max_kw": -2.0}, "store_charge_max_kw is -2"),
        ({"stores": 1, "store_energy_min_kwh": 2.0}, "store_energy_min_kwh is 2 and above store_energy_max_kwh, 0"),
        (
            {"shared": 1, "ess_net_min_kw": 2.0, "ess_net_max_kw": 1.0},
            "ess_net_min_kw is 2 and above ess_net_max_kw, 1",
        ),
        ({"shared": 1, "right_energy_kwh": 1.0}, "go together"),
        ({"shared": 1, "right_energy_kwh": 1.0, "right_power_kw": 0.0}, "sums to 2 in shared store 0"),
        ({"shared": 1, "access": False, "rented_initial_kwh": 1.0}, "who has no access"),
        ({"breach_penalty_eur_per_kwh": 0.0}, "breach_penalty_eur_per_kwh is 0.0"),
        ({"curvature_eur_per_kw2h": np.nan}, "curvature_eur_per_kw2h is nan"),
        ({"agent_ids": ("ann", "ann")}, "1 different names for 2 agents"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(change, message):
    """A sentence names what, whose and when, and what was given."""
    with pytest.raises(ProblemError) as caught:
        neighbours(**({"agent_ids": ("ann", "bob")} | change))

    assert message in str(caught.value)


def test_every_mistake_is_told_at_once():
    """Two mistakes, two lines."""
    with pytest.raises(ProblemError, match=r"2 mistake\(s\)") as caught:
        neighbours(pv_kw=[[-1.0], [0.0]], load_kw=[[0.0], [np.inf]])

    assert "load_kw is inf" in str(caught.value) or "pv_kw is -1" in str(caught.value)


def test_columns_that_do_not_fit_are_refused():
    """A price for three agents where there are two."""
    with pytest.raises(ProblemError, match=r"buy_eur_per_kwh has the shape \(3, 1\)"):
        replace(neighbours(), buy_eur_per_kwh=np.zeros((3, 1)))


def test_money_for_passing_energy_on_is_refused():
    """One buys at 0.10, the other feeds in at 0.15 after charges: the exchange would be a pump without limit."""
    with pytest.raises(ProblemError, match="without limit"):
        neighbours(
            buy_eur_per_kwh=[[0.10], [0.30]], sell_eur_per_kwh=[[0.05], [0.20]], exchange_charge_eur_per_kwh=0.05
        )

    clear(
        neighbours(
            buy_eur_per_kwh=[[0.10], [0.30]], sell_eur_per_kwh=[[0.05], [0.20]], exchange_charge_eur_per_kwh=0.10
        )
    )


def test_a_tolerance_that_is_none_is_refused():
    """0 would never be reached."""
    with pytest.raises(ProblemError, match="tolerance is 0"):
        clear(neighbours(), tolerance=0)


def test_a_need_that_cannot_be_met_is_named():
    """A car of 3 kW cannot take 5 kWh in an hour: who, which store, when, and how much is missing."""
    case = neighbours(
        stores=1,
        store_charge_max_kw=[[[0.0], [3.0]]],
        store_energy_min_kwh=[[[0.0], [5.0]]],
        store_energy_max_kwh=10.0,
        agent_ids=("ann", "bob"),
    )
    with pytest.raises(Infeasible, match=r"'bob', store 0: at the end of interval 0 .* 2 kWh short of the 5 kWh"):
        clear(case)

    relaxed, missing, excess = attainable(case)
    np.testing.assert_allclose(missing[0, :, 0], [0.0, 2.0])
    assert excess.max() == 0.0
    assert clear(relaxed).energy_kwh[0, 1, 1] == pytest.approx(3.0)


def test_a_buffer_that_overflows_is_named():
    """A negative drain (heat from elsewhere) of 2 kWh does not go into 1 kWh."""
    case = battery(store_drain_kwh=-2.0, store_discharge_max_kw=0.0)

    with pytest.raises(Infeasible, match=r"above the 1\.5 kWh"):
        clear(case)
    assert attainable(case)[2].max() == pytest.approx(4.5)


@pytest.mark.parametrize(
    ("net_min", "message"),
    [
        (3.0, "2 kW can be moved"),
        ([[1.5, 1.5]], "does not fit into its 2 kWh"),
        ([[-np.inf, 1.0]], "at the end it holds"),
    ],
)
def test_a_firm_charge_that_cannot_be_met_is_named(net_min, message):
    """Too much power, too much energy, or energy that could not come out again."""
    case = shared_ess("free", 2.0)
    firm = replace(case, ess_net_min_kw=np.broadcast_to(net_min, (1, 2)))

    with pytest.raises(Infeasible, match=message):
        clear(firm)


def test_a_firm_charge_may_need_the_last_kilowatt_hour():
    """The firm charge fills the whole offer exactly; a plan that is a watt-hour off has no room, and is put right."""
    case = sample(9, 24)
    firm = np.full((1, 24), -np.inf)
    firm[0, :8] = case.ess_energy_offer_kwh[0] / 0.95 / 8.0
    tight = replace(case, ess_net_min_kw=firm)
    found = clear(tight)

    assert broken_laws(tight, found) == []
    assert found.rented_energy_kwh[0, :, 8].sum() == pytest.approx(case.ess_energy_offer_kwh[0])
    with pytest.raises(Infeasible):
        clear(replace(case, ess_net_min_kw=firm * np.where(np.isfinite(firm), 1.01, 1.0)))


def test_tenants_leave_in_time_where_the_last_intervals_let_nothing_out(monkeypatch):
    """Spaces that must be empty at the end, and no discharge in the last quarter: followed as it is, without the slow way out."""
    monkeypatch.setattr("market.repair.restore", lambda *_: pytest.fail("the plan could be followed"))
    case = sample(30, 24)
    net_min = np.full((1, 24), -np.inf)
    net_min[0, 18:] = 0.0
    closing = replace(case, ess_net_min_kw=net_min)
    found = clear(closing)

    assert broken_laws(closing, found) == []
    assert found.rented_energy_kwh[0].max() > 1.0
    assert found.rented_energy_kwh[0, :, 18:].max() == pytest.approx(0.0, abs=1e-9)


def test_small_residuals_are_reached_in_double_precision(monkeypatch):
    """Where ties are decided, residuals of 1e-7 are reached; single precision alone stops before, and says so."""
    case = replace(sample(8, 24, seed=3), curvature_eur_per_kw2h=1e-3)
    found = clear(case, tolerance=1e-7, max_iterations=20_000)
    monkeypatch.setattr("market.exchange._SINGLE_REACHES", 0.0)
    single = clear(case, tolerance=1e-7, max_iterations=20_000)

    assert found.converged
    assert found.residuals[-1, 1:3].max() <= 1e-7
    assert single.status == "not_converged"


# from where it stood -------------------------------------------------------------------------------------------------


def rest_of(case, found, steps):
    """The problem that is left after some intervals, rights kept, at the contents that were reached."""
    kept = replace(case, right_energy_kwh=found.right_energy_kwh, right_power_kw=found.right_power_kw)
    return kept.dropped(steps, found.energy_kwh[:, :, steps], found.rented_energy_kwh[:, :, steps])


def test_the_rest_of_the_day_starts_warm_and_is_the_same_market():
    """A quarter of the iterations or less, and costs that agree within the certificates."""
    case = sample(29, 48)
    day = clear(case)
    rest = rest_of(case, day, 8)
    warm, cold = clear(rest, warm=day.warm.dropped(8)), clear(rest)

    assert warm.iterations * 4 <= cold.iterations
    assert abs(warm.cost_eur - cold.cost_eur) <= max(warm.gap, cold.gap) * max(1.0, abs(cold.cost_eur))
    traded = np.abs(cold.exchange_kw).sum(axis=0) > 1.0  # elsewhere the price is one of many
    np.testing.assert_allclose(warm.price_eur_per_kwh[traded], cold.price_eur_per_kwh[traded], atol=5e-3)


def test_a_warm_start_of_another_size_is_refused():
    """Whole days do not start from a rest; the message says what fits."""
    case = sample(9, 24)
    warm = clear(case).warm

    with pytest.raises(ProblemError, match=r"\(K \+ M, n, T\)"):
        clear(case, warm=warm.dropped(4))
    with pytest.raises(ProblemError, match="at least one must be left"):
        warm.dropped(24)


def test_the_order_of_agents_does_not_matter():
    """Rows in another order: the same plan in that order, as far as the certificate can tell."""
    case = sample(19, 24)
    order = np.random.default_rng(3).permutation(case.n)
    columns = {}
    for field in fields(Problem):
        value = getattr(case, field.name)
        if isinstance(value, np.ndarray) and case.n in value.shape:
            columns[field.name] = np.take(value, order, axis=value.shape.index(case.n))
    one, other = clear(case, tolerance=1e-4), clear(replace(case, **columns), tolerance=1e-4)

    assert other.cost_eur == pytest.approx(one.cost_eur, rel=max(one.gap, other.gap))
    traded = np.abs(one.exchange_kw).sum(axis=0) > 0.1
    np.testing.assert_allclose(other.price_eur_per_kwh[traded], one.price_eur_per_kwh[traded], atol=2e-3)


def test_in_another_currency_everything_is_that_much_more():
    """All money times 10: the same plan, prices and costs times 10 (the iteration itself is scale free)."""
    case = sample(9, 24)
    money = {
        field.name: 10.0 * getattr(case, field.name)
        for field in fields(Problem)
        if field.name.endswith(("_eur_per_kwh", "_eur_per_kw", "_eur_per_kw2h"))
    }
    one, ten = clear(case), clear(replace(case, **money))

    assert ten.cost_eur == pytest.approx(10.0 * one.cost_eur, rel=1e-6)
    np.testing.assert_allclose(ten.price_eur_per_kwh, 10.0 * one.price_eur_per_kwh, atol=1e-6)
    np.testing.assert_allclose(ten.exchange_kw, one.exchange_kw, atol=1e-4)


# the certificate -----------------------------------------------------------------------------------------------------

MUTATIONS = {
    "grid - exchange - rented": ("grid_kw", (0, 3), 1e-6),
    "meter = load": ("meter_kw", (0, 3), 1e-6),
    "curtailed <= pv": ("curtailed_kw", (0, 20), 1.0),
    "0 <= curtailed": ("curtailed_kw", (0, 20), -1.0),
    "breach is what": ("breach_kw", (0, 3), 0.5),
    "own contents follow": ("energy_kwh", (0, 1, 5), 1e-6),
    "own contents begin": ("energy_kwh", (0, 1, 0), 1e-6),
    "own contents in bounds": ("energy_kwh", (0, 1, 5), 100.0),
    "own charge in bounds": ("charge_kw", (0, 1, 5), 100.0),
    "own discharge in bounds": ("discharge_kw", (0, 1, 5), -1.0),
    "rented contents follow": ("rented_energy_kwh", (0, 1, 5), 1e-6),
    "rented contents end": ("rented_energy_kwh", (0, 1, -1), 1e-6),
    "rented contents inside": ("rented_energy_kwh", (0, 1, 5), 1e3),
    "rented charge inside": ("rented_charge_kw", (0, 1, 5), 1e3),
    "net of a shared store": ("rented_charge_kw", (0, 1, 0), -1e3),
    "rights to energy inside": ("right_energy_kwh", (0, 1), 1e3),
    "rights to power inside": ("right_power_kw", (0, 1), 1e3),
    "the exchange sums": ("exchange_kw", (0, 3), 1e-6),
}


@pytest.fixture(scope="module")
def cleared():
    case = sample(9, 24)
    return case, clear(case)


@pytest.mark.parametrize(("law", "place"), MUTATIONS.items())
def test_a_broken_plan_is_noticed(cleared, law, place):
    """Each law is broken on purpose, and the check names it."""
    case, found = cleared
    name, where, amount = place
    column = getattr(found, name).copy()
    column[where] += amount

    assert broken_laws(case, found) == []
    assert any(law in sentence for sentence in broken_laws(case, replace(found, **{name: column})))


def test_nan_is_noticed(cleared):
    """What is not a number breaks a law rather than passing a comparison."""
    case, found = cleared
    column = found.grid_kw.copy()
    column[2, 2] = np.nan

    assert broken_laws(case, replace(found, grid_kw=column))


def test_a_false_cost_is_noticed(cleared):
    """The cost is recomputed term by term."""
    case, found = cleared

    assert any("cost_eur" in law for law in broken_laws(case, replace(found, cost_eur=found.cost_eur + 1e-6)))
    assert any("bound_eur" in law for law in broken_laws(case, replace(found, bound_eur=found.cost_eur + 1e-6)))


def as_plan(found):
    return Plan(**{field.name: getattr(found, field.name) for field in fields(Plan)})


def test_the_bound_holds_for_any_prices(cleared):
    """Prices that are wrong by half cost the bound its sharpness and not its truth."""
    from market.splitting import Splitting

    case, _ = cleared
    outcome = Splitting(case, None, 1).run(1e-4, 4000)
    best = clear(case, gap=5e-4)
    rng = np.random.default_rng(0)
    for _ in range(20):
        wrong = {
            field.name: getattr(outcome.duals, field.name)
            * rng.uniform(0.5, 1.5, getattr(outcome.duals, field.name).shape)
            for field in fields(outcome.duals)
        }
        certificate = bound(case, as_plan(best), replace(outcome.duals, **wrong))
        assert certificate.bound_eur <= best.bound_eur + 1e-9
        assert certificate.gap > best.gap


def test_a_single_agent_left_wrong_is_noticed(cleared):
    """One home's battery run against the prices passes every law and every sum; its gain from deviating does not."""
    case, found = cleared
    home = int(np.argmax(case.store_energy_max_kwh[0, :, 0]))
    store = {
        name: getattr(found, name).copy() for name in ("charge_kw", "discharge_kw", "energy_kwh", "meter_kw", "grid_kw")
    }
    before = store["charge_kw"][0, home] - store["discharge_kw"][0, home]
    store["charge_kw"][0, home] = store["discharge_kw"][0, home] = 0.0
    store["energy_kwh"][0, home] = case.store_initial_kwh[0, home]
    store["meter_kw"][home] -= before
    store["grid_kw"][home] -= before
    lazy = replace(found, **store)
    lazy = replace(lazy, cost_eur=float(plan_cost_eur(case, as_plan(lazy)).sum()))
    from market.splitting import Splitting

    duals = Splitting(case, None, 1).run(1e-3, 4000).duals
    certificate = bound(case, as_plan(lazy), duals)

    assert [law for law in broken_laws(case, lazy) if "envelope" in law or "contents" in law] == []
    assert int(np.argmax(certificate.agent_gain_eur)) == home
    assert certificate.agent_gain_eur[home] > 5.0 * found.max_agent_kkt
