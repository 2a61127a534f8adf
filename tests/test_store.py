"""The one device shape: its equation by hand, its bounds, and what it refuses; wear and cycles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.degradation import DegradationError, full_cycles, wear_eur, wear_eur_per_kwh
from storage.store import Store, StoreError, advance, retention

DT = 0.25


def store(**change):
    """Return one slot of two agents over two intervals: boxes of 10 kWh, 4 kW, 90 % each way."""
    whole = np.ones((1, 2, 2))
    arrays = {
        "charge_max_kw": 4.0 * whole,
        "discharge_max_kw": 4.0 * whole,
        "energy_min_kwh": 0.0 * whole,
        "energy_max_kwh": 10.0 * whole,
        "efficiency_charge": np.full((1, 2), 0.9),
        "efficiency_discharge": np.full((1, 2), 0.9),
        "retention": np.ones((1, 2)),
        "drain_kwh": 0.0 * whole,
    }
    return Store(**(arrays | change))


def test_the_state_equation_by_hand():
    """Of 10 kWh 1 % leaks, 4 kW enter at 90 %, 1.8 kW leave at 90 %, 0.2 kWh are drained, in a quarter-hour."""
    e = advance(
        10.0,
        4.0,
        1.8,
        DT,
        efficiency_charge=0.9,
        efficiency_discharge=0.9,
        retention=retention(0.04, DT),
        drain_kwh=0.2,
    )

    np.testing.assert_allclose(e, 9.9 + 0.9 - 0.5 - 0.2, rtol=1e-14)


def test_stores_advance_in_batches():
    """Every slot and agent with its own figures; the drain is that of the interval."""
    drain = np.zeros((1, 2, 2))
    drain[0, 1, 1] = 3.0
    s = store(drain_kwh=drain)

    e = s.advance(1, np.array([[5.0, 5.0]]), np.array([[4.0, 0.0]]), np.array([[0.0, 3.6]]), DT)

    np.testing.assert_allclose(e, [[5.9, 1.0]], rtol=1e-14)


@pytest.mark.parametrize(
    ("energy", "charge", "discharge", "message"),
    [
        (5.0, 4.1, 0.0, r"charge_kw in interval 0: 4.1 at \(0, 1\), the bound is 4"),
        (5.0, -0.1, 0.0, "charge_kw in interval 0: -0.1"),
        (5.0, 0.0, 4.1, "discharge_kw in interval 0: 4.1"),
        (9.5, 4.0, 0.0, "energy_kwh in interval 0: 10.4"),
        (0.1, 0.0, 4.0, "energy_kwh in interval 0: -1.01"),
        (5.0, np.nan, 0.0, "charge_kw in interval 0: nan"),
        (np.nan, 0.0, 0.0, "energy_kwh in interval 0: nan"),
    ],
)
def test_leaving_a_bound_is_told(energy, charge, discharge, message):
    """Too much power, too full, too empty, and NaN, which is below everything; the other agent is fine."""
    arrays = [np.array([[fine, value]]) for fine, value in ((5.0, energy), (0.0, charge), (0.0, discharge))]

    with pytest.raises(StoreError, match=message):
        store().advance(0, *arrays, DT)


powers = st.floats(0, 10)


@given(st.floats(0, 10), st.floats(0, 1), st.floats(0, 1), st.floats(0.5, 1), st.floats(0.9, 1), st.floats(-0.5, 0.5))
@settings(deadline=None)
def test_power_within_its_bounds_keeps_the_energy_within_its_own(energy, up, down, eta, rho, drain):
    """Any share of the most that can be charged, or discharged, ends between the bounds where drain alone does not leave them."""
    s = store(
        efficiency_charge=np.full((1, 2), eta), efficiency_discharge=np.full((1, 2), eta),
        retention=np.full((1, 2), rho), drain_kwh=np.full((1, 2, 2), drain),
    )  # fmt: skip
    e = np.full((1, 2), energy)
    most_in, most_out = s.power_bounds(0, e, DT)
    rest = rho * energy - drain

    assert ((most_in >= 0) & (most_in <= 4)).all()
    assert ((most_out >= 0) & (most_out <= 4)).all()
    if 0 <= rest <= 10:
        s.advance(0, e, up * most_in, np.zeros((1, 2)), DT)
        s.advance(0, e, np.zeros((1, 2)), down * most_out, DT)


def test_the_bound_is_reached_not_only_kept():
    """Room for 0.45 kWh at 90 % in a quarter-hour is 2 kW; 0.5 kWh at 90 % give 1.8 kW."""
    most_in, most_out = store().power_bounds(0, np.array([[9.55, 0.5]]), DT)

    np.testing.assert_allclose(most_in, [[2.0, 4.0]], rtol=1e-12)
    np.testing.assert_allclose(most_out, [[4.0, 1.8]], rtol=1e-12)


@given(st.lists(st.tuples(powers, powers), min_size=1, max_size=8), st.floats(0.5, 1), st.floats(0.5, 1))
@settings(deadline=None)
def test_energy_is_neither_made_nor_lost_unnoticed(flows, eta_in, eta_out):
    """What goes in less what comes out is what the store gained and what conversion took, over any flows."""
    energy = start = 100.0
    lost = 0.0
    for charge, discharge in flows:
        energy = advance(energy, charge, discharge, DT, efficiency_charge=eta_in, efficiency_discharge=eta_out)
        lost += DT * (charge * (1 - eta_in) + discharge * (1 / eta_out - 1))

    net = DT * sum(charge - discharge for charge, discharge in flows)
    np.testing.assert_allclose(net, energy - start + lost, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"charge_max_kw": -np.ones((1, 2, 2))}, r"charge_max_kw is negative at \(0, 0, 0\)"),
        ({"efficiency_charge": np.array([[0.9, 1.1]])}, r"efficiency_charge is outside \(0, 1\] at \(0, 1\)"),
        ({"efficiency_discharge": np.array([[0.0, 1.0]])}, "efficiency_discharge is outside"),
        ({"retention": np.array([[1.0, -0.1]])}, "retention is outside"),
        ({"energy_min_kwh": np.full((1, 2, 2), 11.0)}, "energy_min_kwh is above energy_max_kwh"),
        ({"drain_kwh": np.zeros((1, 2, 3))}, r"drain_kwh has shape \(1, 2, 3\); \(1, 2, 2\) is needed"),
        ({"energy_max_kwh": np.full((1, 2, 2), np.nan)}, "energy_max_kwh is NaN"),
    ],
)
def test_a_store_that_cannot_be_is_refused(change, message):
    """Negative power, efficiencies outside (0, 1], crossed bounds, wrong shapes, NaN."""
    with pytest.raises(StoreError, match=message):
        replace(store(), **change)


def test_all_mistakes_of_a_store_are_told_at_once():
    """Two wrong figures, two sentences."""
    with pytest.raises(StoreError) as caught:
        store(charge_max_kw=-np.ones((1, 2, 2)), retention=np.full((1, 2), 2.0))

    assert "charge_max_kw" in str(caught.value)
    assert "retention" in str(caught.value)


@pytest.mark.parametrize("rate", [-0.1, 5.0, float("nan")])
def test_a_self_discharge_that_makes_or_owes_energy_is_refused(rate):
    """It lies between 0 and what would empty the store in one interval."""
    with pytest.raises(StoreError, match="Give a rate between 0 and 4"):
        retention(rate, DT)


def test_wear_by_hand():
    """30 000 eur for 100 kWh and 6000 cycles of 80 %: 3.125 cents a kWh; 2 kW in and 1 kW out for a quarter-hour."""
    wear = wear_eur_per_kwh(30_000.0, 100.0, 6000.0, 0.8)

    assert wear == 0.03125
    np.testing.assert_allclose(wear_eur(np.array([2.0, 0.0]), np.array([0.0, 1.0]), DT, wear), [0.015625, 0.0078125])


def test_a_life_of_full_cycles_wears_the_storage_out():
    """Cycling as often as it lives costs exactly the replacement."""
    cycles, energy = 50.0, 10.0
    one_way = np.full(50, energy)
    wear = wear_eur_per_kwh(7.0, energy, cycles)

    assert full_cycles(one_way, one_way, 1.0, energy) == cycles
    np.testing.assert_allclose(wear_eur(one_way, one_way, 1.0, wear).sum(), 7.0)


def test_cycles_are_counted_inside_the_box():
    """At 90 % each way, 10 kWh in at the meter are 9 in the box, and 8.1 out are 9."""
    np.testing.assert_allclose(full_cycles(np.array([10.0]), np.array([8.1]), 1.0, 9.0, 0.9, 0.9), 1.0)


def test_a_box_without_size_has_no_cycles():
    """NaN, not zero, where the denominator is zero."""
    assert np.isnan(full_cycles(np.zeros(1), np.zeros(1), 1.0, 0.0))


@pytest.mark.parametrize(
    "figures",
    [
        (-1.0, 1.0, 1.0, 1.0),
        (1.0, 0.0, 1.0, 1.0),
        (1.0, 1.0, 0.0, 1.0),
        (1.0, 1.0, 1.0, 1.5),
        (float("nan"), 1.0, 1.0, 1.0),
    ],
)
def test_a_life_that_makes_no_sense_is_refused(figures):
    """Negative cost, no size, no cycles, a depth beyond full, NaN."""
    with pytest.raises(DegradationError, match="has no wear"):
        wear_eur_per_kwh(*figures)
