"""Shared stores: several at once, operated netted, and firm beside interruptible rights in one box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market.bound import bound
from market.central import CentralProblem, solve
from market.exchange import Infeasible, Problem, ProblemError, clear
from market.laws import broken_laws
from market.repair import Plan, repair
from market.sample import sample


def relay(**more):
    """Two homes, three hours: the first has a kW in hour 0 and needs one in hour 1, the second has one in 1 and needs it in 2."""
    case = dict(
        load_kw=[[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        pv_kw=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        buy_eur_per_kwh=0.40,
        sell_eur_per_kwh=0.05,
        dt_h=1.0,
        exchange="zero",
        shared=1,
        ess_energy_offer_kwh=1.0,
        ess_power_offer_kw=1.0,
    )
    return Problem.plain(**(case | more))


def nights(**more):
    """One home, three hours: energy is cheap in the first, and 1 kW is needed in each of the others; two products of a box."""
    case = dict(
        load_kw=[[0.0, 1.0, 1.0]],
        pv_kw=[[0.0, 0.0, 0.0]],
        buy_eur_per_kwh=[[0.10, 0.40, 0.40]],
        sell_eur_per_kwh=0.0,
        dt_h=1.0,
        shared=2,
        ess_netted=True,
        ess_box=[0, 0],
        ess_energy_offer_kwh=4.0,
        ess_power_offer_kw=4.0,
        rent_energy_eur_per_kwh=[[0.10], [0.02]],
    )
    return Problem.plain(**(case | more))


# several stores ------------------------------------------------------------------------------------------------------


def test_every_store_has_its_own_tenants_efficiency_and_rent():
    """Two homes that may each use one of two stores: 0.10/0.8 + 0.02 and 0.10 + 0.05 a kWh instead of 0.40."""
    case = Problem.plain(
        [[0.0, 1.0], [0.0, 1.0]],
        [[0.0, 0.0], [0.0, 0.0]],
        [[0.10, 0.40]],
        0.0,
        dt_h=1.0,
        exchange="zero",
        shared=2,
        access=[[True, False], [False, True]],
        ess_energy_offer_kwh=5.0,
        ess_power_offer_kw=5.0,
        ess_efficiency_charge=[0.8, 1.0],
        rent_energy_eur_per_kwh=[[0.02], [0.05]],
    )
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    np.testing.assert_allclose(found.right_energy_kwh, [[1.0, 0.0], [0.0, 1.0]], atol=2e-3)
    assert found.cost_eur == pytest.approx(0.10 / 0.8 + 0.02 + 0.10 + 0.05, abs=1e-3)
    assert found.bound_eur == pytest.approx(found.cost_eur, abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_nobody_pays_for_space_that_it_does_not_use(seed):
    """However early the iteration stops: where a right costs something, its space is full and its power used in some hour."""
    rng = np.random.default_rng(seed)
    share = np.where(rng.random((1, 24)) < 0.3, 0.5, 1.0)
    case = replace(sample(9, 24, seed=seed), ess_available=share)
    found = clear(case, tolerance=3e-3)
    flows = np.maximum(found.rented_charge_kw, found.rented_discharge_kw) / share

    assert broken_laws(case, found) == []
    assert found.right_energy_kwh == pytest.approx(found.rented_energy_kwh.max(axis=2), abs=1e-9)
    assert found.right_power_kw == pytest.approx(flows.max(axis=2), abs=1e-9)
    assert found.payment_eur.sum() == pytest.approx(found.owner_income_eur.sum(), abs=1e-9)


def test_the_cheaper_of_two_stores_is_full_before_the_dearer_is_rented():
    """The first offers half a kWh at 0.02, the second plenty at 0.05: the first's scarcity rent is the difference."""
    case = Problem.plain(
        [[0.0, 2.0]],
        [[0.0, 0.0]],
        [[0.10, 0.40]],
        0.0,
        dt_h=1.0,
        shared=2,
        ess_energy_offer_kwh=[0.5, 5.0],
        ess_power_offer_kw=5.0,
        rent_energy_eur_per_kwh=[[0.02], [0.05]],
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.right_energy_kwh[:, 0], [0.5, 1.5], atol=2e-3)
    np.testing.assert_allclose(found.rent_energy_scarcity_eur_per_kwh, [0.03, 0.0], atol=2e-3)
    np.testing.assert_allclose(found.owner_income_eur, [0.5 * 0.03, 0.0], atol=1e-3)


# netted operation ----------------------------------------------------------------------------------------------------


def test_opposite_flows_cancel_and_let_the_operator_rent_out_more_than_it_owns():
    """By sum of rights one home is served, 0.35; netted both are, with rights of 2 kW in a box of 1 kW."""
    summed, netted = clear(relay(), tolerance=1e-5), clear(relay(ess_netted=True), tolerance=1e-5)

    assert summed.cost_eur == pytest.approx(0.35, abs=1e-3)
    assert netted.cost_eur == pytest.approx(0.0, abs=1e-3)
    assert netted.bound_eur == pytest.approx(0.0, abs=1e-3)
    assert netted.right_power_kw.sum() == pytest.approx(2.0, abs=2e-3)
    np.testing.assert_allclose(netted.box_energy_kwh, [[0.0, 1.0, 1.0, 0.0]], atol=2e-3)
    np.testing.assert_allclose(netted.operator_kwh, 0.0, atol=2e-3)


def test_what_tenants_lose_and_the_box_does_not_is_the_operators():
    """At 0.9 each way the second's 1 kW meets the first's 0.81 kW: 0.19 x 0.9 kWh stay in the box and belong to nobody."""
    case = relay(ess_netted=True, ess_efficiency_charge=0.9, ess_efficiency_discharge=0.9, ess_energy_offer_kwh=2.0)
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    np.testing.assert_allclose(found.box_energy_kwh, [[0.0, 0.9, 0.9 + 0.171, 0.171]], atol=3e-3)
    np.testing.assert_allclose(found.operator_kwh, [[0.0, 0.0, 0.171, 0.171]], atol=3e-3)


def test_the_same_is_reported_where_rights_protect_the_box():
    """Sum of rights: the box holds more than its tenants as well, where two of them move in opposite directions."""
    case = relay(
        ess_efficiency_charge=0.9, ess_efficiency_discharge=0.9, ess_energy_offer_kwh=2.0, ess_power_offer_kw=2.0
    )
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    assert found.operator_kwh[0, -1] == pytest.approx(0.171, abs=3e-3)


def test_the_box_is_kept_in_bounds_where_the_tenants_sum_would_be():
    """With a box of 1 kWh that the operator's account fills, less is charged in the second hour: content never above 1."""
    case = relay(ess_netted=True, ess_efficiency_charge=0.9, ess_efficiency_discharge=0.9)
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    assert found.box_energy_kwh.max() == pytest.approx(1.0, abs=1e-6)
    assert found.rented_energy_kwh.sum(axis=1).max() < 1.0 - 0.05
    assert found.cost_eur == pytest.approx(solve(case).cost_eur, abs=2e-3)


@pytest.mark.parametrize(
    ("copies", "box"),
    [(1, {"ess_netted": True, "ess_power_offer_kw": 1.0}), (1300, {"ess_netted": True, "ess_power_offer_kw": 1.0}),
     (1, {"ess_net_min_kw": -1.0, "ess_power_offer_kw": 3.0})],
)  # fmt: skip
def test_tenants_whose_flows_cancel_need_not_leave_early(copies, box):
    """Two kWh leave a box of 1 kW in one hour, because a third tenant puts one in; half of that is lost, to its account."""
    pairs, final = np.eye(3)[:, [0, 1]].sum(axis=1), np.array([[0.0, 0.0, 0.5]])
    load, pv = np.outer(pairs, [0.0, 1.0]), np.outer([0.0, 0.0, 1.0], [0.0, 1.0])
    case = Problem.plain(
        np.tile(load, (copies, 1)) / copies,
        np.tile(pv, (copies, 1)) / copies,
        [[0.10, 0.40]],
        0.0,
        dt_h=1.0,
        exchange="zero",
        shared=1,
        ess_energy_offer_kwh=4.0,
        ess_efficiency_charge=0.5,
        rented_initial_kwh=np.tile([pairs], (1, copies)) / copies,
        rented_final_kwh=np.tile(final, (1, copies)) / copies,
        **box,
    )
    found = clear(case, tolerance=1e-4)

    assert broken_laws(case, found) == []
    assert found.cost_eur == pytest.approx(0.0, abs=2e-3)
    assert (found.rented_charge_kw - found.rented_discharge_kw).sum(axis=(0, 1)) == pytest.approx([0.0, -1.0], abs=5e-3)


def test_floor_and_ceiling_leave_less_to_rent():
    """A tenth below and a tenth above are not for tenants: 0.8 of each kWh."""
    case = relay(ess_netted=True, ess_floor=0.1, ess_ceiling=0.9)
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    assert found.cost_eur == pytest.approx(2 * 0.2 * 0.35, abs=2e-3)
    assert found.box_energy_kwh[0, 0] == pytest.approx(0.1)
    assert found.operator_kwh[0, 0] == pytest.approx(0.1)


def test_what_leaks_from_below_the_floor_is_the_operators():
    """A tenth of the content is lost in an hour: of the tenants' kWh, not of the floor, which stays at half a kWh."""
    case = relay(ess_netted=True, ess_floor=0.25, ess_energy_offer_kwh=2.0, ess_retention=0.9)
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    np.testing.assert_allclose(found.box_energy_kwh[0], [0.5, 1.5, 1.5, 0.5], atol=3e-3)
    np.testing.assert_allclose(found.rented_energy_kwh[0, 0], [0.0, 1.0, 0.0, 0.0], atol=3e-3)
    assert found.cost_eur == pytest.approx(2 * 0.1 * 0.40, abs=2e-3)


def test_a_firm_charge_of_a_netted_box_is_met():
    """The envelope asks for half a kW in the first hour, whatever the tenants would rather do."""
    case = relay(ess_netted=True, ess_net_min_kw=[[0.5, -np.inf, -np.inf]], sell_eur_per_kwh=0.39)
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    assert (found.rented_charge_kw - found.rented_discharge_kw)[0, :, 0].sum() >= 0.5 - 1e-9
    with pytest.raises(Infeasible, match="out of reach"):
        clear(relay(ess_netted=True, ess_net_min_kw=2.0))
    with pytest.raises(Infeasible, match="does not fit between"):
        clear(relay(ess_netted=True, ess_net_min_kw=0.5))


def test_netting_never_costs_more_than_rights_that_are_summed():
    """Every plan of the one is a plan of the other where nothing is lost: a community of twenty."""
    case = replace(sample(19, 24, seed=2), ess_efficiency_charge=np.ones(1), ess_efficiency_discharge=np.ones(1))
    summed, netted = clear(case, tolerance=1e-4), clear(replace(case, ess_netted=np.array([True])), tolerance=1e-4)

    assert netted.bound_eur <= summed.cost_eur
    assert netted.cost_eur <= summed.cost_eur + netted.gap_eur


@pytest.mark.parametrize("seed", [1, 4])
def test_a_netted_community_is_cleared_like_the_optimum(seed):
    """Cost, price and the price of the box agree with the solver's; nobody gains by deviating."""
    case = replace(sample(14, 24, seed=seed), ess_netted=np.array([True]), ess_floor=np.array([0.05]))
    found, best = clear(case, tolerance=1e-4), solve(case)

    assert broken_laws(case, found) == [] == broken_laws(case, best)
    assert found.bound_eur <= best.cost_eur
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=2e-3)
    assert best.gap <= 2e-3
    traded = np.minimum(np.abs(best.exchange_kw).sum(axis=0), np.abs(found.exchange_kw).sum(axis=0)) > 1.0
    np.testing.assert_allclose(found.price_eur_per_kwh[traded], best.price_eur_per_kwh[traded], atol=2e-3)
    assert found.max_agent_kkt <= 0.05


def test_the_bound_of_a_netted_box_holds_for_any_prices():
    """Wrong prices cost sharpness, not truth: also those of the box."""
    case = replace(sample(9, 24, seed=1), ess_netted=np.array([True]))
    draft, duals, _ = CentralProblem(case).solve()
    best = repair(case, draft, duals.price_eur_per_kwh)
    sharp = bound(case, best, duals)
    rng = np.random.default_rng(0)
    for _ in range(10):
        wrong = replace(
            duals, net_eur_per_kwh=duals.net_eur_per_kwh + rng.normal(scale=0.05, size=duals.net_eur_per_kwh.shape)
        )
        assert bound(case, best, wrong).bound_eur <= sharp.cost_eur


def test_the_rest_of_the_day_starts_from_what_the_box_holds():
    """Contents of tenants and of the box go on, rights stay, and the iteration starts warm."""
    case = replace(sample(19, 24, seed=2), ess_netted=np.array([True]))
    day = clear(case)
    rest = replace(case, right_energy_kwh=day.right_energy_kwh, right_power_kw=day.right_power_kw).dropped(
        4, day.energy_kwh[:, :, 4], day.rented_energy_kwh[:, :, 4], day.box_energy_kwh[:, 4]
    )
    warm, cold = clear(rest, warm=day.warm.dropped(4)), clear(rest)

    assert broken_laws(rest, warm) == []
    assert warm.box_energy_kwh[0, 0] == day.box_energy_kwh[0, 4]
    assert warm.iterations < cold.iterations
    assert warm.cost_eur == pytest.approx(cold.cost_eur, abs=max(warm.gap_eur, cold.gap_eur))


# firm and interruptible ----------------------------------------------------------------------------------------------


def test_the_interruptible_right_is_taken_where_it_is_always_there():
    """The same box, 0.02 instead of 0.10 a kWh: nobody pays for firmness that is worth nothing."""
    found = clear(nights(), tolerance=1e-5)

    np.testing.assert_allclose(found.right_energy_kwh[:, 0], [0.0, 2.0], atol=3e-3)
    assert found.cost_eur == pytest.approx(2 * (0.10 + 0.02), abs=1e-3)


def test_what_may_be_interrupted_when_it_is_needed_is_rented_firm():
    """The interruptible right is cut in the last hour: one kWh firm for it, one interruptible for the hour before."""
    case = nights(ess_available=[[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    found = clear(case, tolerance=1e-5)

    assert broken_laws(case, found) == []
    np.testing.assert_allclose(found.right_energy_kwh[:, 0], [1.0, 1.0], atol=3e-3)
    assert found.rented_discharge_kw[1, 0, 2] == 0.0
    assert found.cost_eur == pytest.approx(2 * 0.10 + 0.10 + 0.02, abs=1e-3)
    assert solve(case).cost_eur == pytest.approx(2 * 0.10 + 0.10 + 0.02, abs=1e-5)


def test_half_the_power_needs_twice_the_right():
    """Available by half, and a rent on power: 1 kW out of a right of 2 kW."""
    case = nights(
        rent_energy_eur_per_kwh=0.0,
        rent_power_eur_per_kw=[[1.0], [0.05]],
        ess_available=[[1.0, 1.0, 1.0], [1.0, 0.5, 0.5]],
    )
    found = clear(case, tolerance=1e-5)

    np.testing.assert_allclose(found.right_power_kw[:, 0], [0.0, 2.0], atol=5e-3)
    assert found.cost_eur == pytest.approx(2 * 0.10 + 2 * 0.05, abs=1e-3)


def test_products_of_one_box_share_what_it_can_do():
    """Firm and interruptible, the second cut from four to eight: both are rented, together they stay inside the box."""
    case = replace(
        sample(9, 24, seed=3),
        access=np.ones((2, 10), bool),
        ess_energy_offer_kwh=np.array([8.0, 8.0]),
        ess_power_offer_kw=np.array([1.5, 1.5]),
        ess_efficiency_charge=np.full(2, 0.95),
        ess_efficiency_discharge=np.full(2, 0.95),
        ess_retention=np.ones(2),
        ess_wear_eur_per_kwh=np.full(2, 0.01),
        rent_energy_eur_per_kwh=np.full((2, 10), 0.01) * [[2.0], [1.0]],
        rent_power_eur_per_kw=np.full((2, 10), 0.01),
        ess_net_min_kw=np.full((2, 24), -np.inf),
        ess_net_max_kw=np.full((2, 24), np.inf),
        rented_initial_kwh=np.zeros((2, 10)),
        rented_final_kwh=np.zeros((2, 10)),
        ess_netted=np.ones(2, bool),
        ess_box=np.array([0, 0]),
        ess_available=np.stack([np.ones(24), np.where(np.arange(24) // 4 == 1, 0.0, 1.0)]),
        ess_floor=np.zeros(2),
        ess_ceiling=np.ones(2),
    )
    found, best = clear(case, tolerance=1e-4), solve(case)

    assert broken_laws(case, found) == [] == broken_laws(case, best)
    assert (found.right_energy_kwh.sum(axis=1) > 0.5).all()
    assert found.cost_eur == pytest.approx(best.cost_eur, rel=3e-3)
    assert np.isnan(found.box_energy_kwh[1]).all()
    np.testing.assert_array_equal(found.ess_net_price_eur_per_kwh[0], found.ess_net_price_eur_per_kwh[1])


# what is refused, what is noticed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ess_box": [0, 0], "ess_netted": False}, "only netted stores can lie in another netted store's box"),
        ({"ess_box": [0, 2]}, "ess_box is 2 for shared store 1; give a row from 0 to 1"),
        ({"ess_available": 1.5}, "ess_available is 1.5 for shared store 0, interval 0; give a share from 0 to 1"),
        ({"ess_available": np.nan}, "ess_available is nan"),
        ({"ess_floor": 0.6, "ess_ceiling": 0.5}, "ess_floor is 0.6 and above ess_ceiling, 0.5"),
        ({"ess_initial_kwh": np.nan}, "ess_initial_kwh is nan"),
        ({"ess_net_max_kw": 1.0}, "which lies in the box of 0: give the box's there"),
        (
            {"right_energy_kwh": [[5.0], [0.0]], "right_power_kw": 0.0},
            "right_energy_kwh is 5 in shared store 0, more than",
        ),
    ],
)
def test_boxes_that_cannot_be_meant_are_refused(change, message):
    """A sentence names what, where, and what was given."""
    with pytest.raises(ProblemError) as caught:
        nights(**change)

    assert message in str(caught.value)


def test_a_right_that_is_never_available_cannot_bring_its_content_anywhere():
    """Half a kWh that must come out through no power at all: named."""
    with pytest.raises(Infeasible, match="agent 0, shared store 1"):
        clear(nights(ess_available=[[1.0] * 3, [0.0] * 3], rented_initial_kwh=[[0.0], [0.5]]))


BOX_MUTATIONS = {
    "boxes hold what their net": ("box_energy_kwh", (0, 2), 0.01),
    "boxes begin with": ("box_energy_kwh", (0, 0), 0.01),
    "netted boxes in bounds": ("box_energy_kwh", (0, 2), 5.0),
    "net of a netted box": ("rented_charge_kw", (0, 0, 1), 5.0),
    "payments are the owners": ("payment_eur", (0,), 0.01),
    "agents' costs sum": ("agent_cost_eur", (0,), 0.01),
}


@pytest.mark.parametrize(("law", "place"), BOX_MUTATIONS.items())
def test_a_broken_box_is_noticed(law, place):
    """Each law of the boxes is broken on purpose, and the check names it."""
    case = relay(ess_netted=True)
    found = clear(case)
    name, where, amount = place
    column = getattr(found, name).copy()
    column[where] += amount

    assert broken_laws(case, found) == []
    assert any(law in sentence for sentence in broken_laws(case, replace(found, **{name: column})))
    assert isinstance(found, Plan)
