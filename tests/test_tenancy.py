"""The shared storage in the books: by hand, and the laws that hold whatever the holders do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.tenancy import Accounts, TenancyError, holders_table, post

DT = 0.25


@dataclass(frozen=True)
class Box:
    energy_kwh: float = 100.0
    charge_kw: float = 50.0
    discharge_kw: float = 50.0
    efficiency_charge: float = 0.95
    efficiency_discharge: float = 0.95
    self_discharge_per_h: float = 0.0
    initial_kwh: float = 10.0
    wear_eur_per_kwh: float = 0.01


def quarter_hours(steps: int):
    return np.datetime64("2016-07-18T10:00:00", "s") + np.arange(steps) * np.timedelta64(15, "m")


def test_two_tenants_whose_flows_cancel_by_hand():
    """4 kW in and 4 kW out: the box stands still, the accounts lose a round trip, and the operator finds it in its own."""
    charge, discharge = np.array([[4.0], [0.0], [0.0]]), np.array([[0.0], [4.0], [0.0]])

    p = post(Box(), np.array([0.0, 5.0, 10.0]), charge, discharge, DT)

    assert p.charge_kw == p.discharge_kw == 0.0
    assert p.energy_kwh.tolist() == [15.0, 15.0]
    np.testing.assert_allclose(p.holders_kwh[:, 1], [0.95, 5.0 - 1 / 0.95, 10.0 + 1 / 0.95 - 0.95])
    np.testing.assert_allclose(p.netting_gain_kwh, [1 / 0.95 - 0.95])
    assert p.loss_kwh.tolist() == [0.0]
    assert p.broken == ()


def test_a_box_that_moves_and_leaks_by_hand():
    """A tenant charges 8 kW, the operator takes 4 kW out; 1 % an hour leaks from the box and only the operator feels it."""
    box = Box(self_discharge_per_h=0.01)

    p = post(box, np.array([20.0, 20.0]), np.array([[8.0], [0.0]]), np.array([[0.0], [4.0]]), DT)

    assert p.charge_kw.tolist() == [4.0]
    np.testing.assert_allclose(p.energy_kwh, [40.0, 40.0 * 0.9975 + 0.95])
    np.testing.assert_allclose(p.holders_kwh[0], [20.0, 21.9])
    np.testing.assert_allclose(p.holders_kwh[1, 1], 40.85 - 21.9)
    np.testing.assert_allclose(p.loss_kwh, [0.1 + 0.05])
    np.testing.assert_allclose(p.netting_gain_kwh, [1.0 * (1 / 0.95 - 0.95)])
    np.testing.assert_allclose(p.wear_eur, [0.01])


def test_a_right_that_ends_by_hand():
    """Begun with 2 kWh lent, ended with 3.5: the operator takes over 3.5, pays for 1.5, and the box does not notice."""
    accounts = Accounts.begin(Box(), 2).opened(np.array([1.5, 0.0])).opened(np.array([0.5, 0.0]))
    accounts = Accounts(accounts.energy_kwh + 1.0, accounts.tenants_kwh + np.array([1.5, -0.5]))

    closed, left = accounts.closed(np.array([2.0, 0.0]))

    assert left.tolist() == [1.5, -0.5]
    assert closed.energy_kwh == accounts.energy_kwh == 11.0
    assert closed.operator_kwh == 11.0
    assert closed.tenants_kwh.tolist() == [0.0, 0.0]
    assert Accounts.begin(Box(), 2).holders_kwh.tolist() == [0.0, 0.0, 10.0]


@st.composite
def tenancies(draw):
    """Return any box, accounts and flows of up to five holders over up to six intervals."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    holders, steps = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    box = Box(
        efficiency_charge=draw(st.sampled_from([0.5, 0.9, 0.95, 1.0])),
        efficiency_discharge=draw(st.sampled_from([0.5, 0.9, 0.97, 1.0])),
        self_discharge_per_h=draw(st.sampled_from([0.0, 0.001, 0.1])),
    )
    start = rng.uniform(0, 10, holders)
    charge, discharge = (rng.uniform(0, 5, (holders, steps)) * (rng.random((holders, steps)) < 0.6) for _ in range(2))
    return box, start, charge, discharge


@given(tenancies())
@settings(deadline=None)
def test_the_holders_are_the_box(case):
    """In every interval their energies sum to the box's and their flows to its flow, and it never moves both ways."""
    box, start, charge, discharge = case
    p = post(box, start, charge, discharge, DT)

    np.testing.assert_allclose(p.holders_kwh.sum(axis=0), p.energy_kwh, rtol=0, atol=1e-11)
    np.testing.assert_allclose(
        (p.holder_charge_kw - p.holder_discharge_kw).sum(axis=0), p.charge_kw - p.discharge_kw, rtol=0, atol=1e-12
    )
    assert (np.minimum(p.charge_kw, p.discharge_kw) == 0).all()


@given(tenancies())
@settings(deadline=None)
def test_netting_never_costs_and_is_what_the_definition_says(case):
    """The gain is what the box gained beyond all accounts run by themselves, and not negative."""
    box, start, charge, discharge = case
    p = post(box, start, charge, discharge, DT)

    in_the_box = DT * (box.efficiency_charge * p.charge_kw - p.discharge_kw / box.efficiency_discharge)
    apart = DT * (box.efficiency_charge * charge - discharge / box.efficiency_discharge).sum(axis=0)
    np.testing.assert_allclose(p.netting_gain_kwh, in_the_box - apart, rtol=0, atol=1e-12)
    assert (p.netting_gain_kwh >= 0).all()


@given(tenancies())
@settings(deadline=None)
def test_the_box_keeps_its_energy_balance(case):
    """What the meter shows is what the box gained and what was lost, in every interval; nothing is made."""
    box, start, charge, discharge = case
    p = post(box, start, charge, discharge, DT)

    np.testing.assert_allclose(
        DT * (p.charge_kw - p.discharge_kw), np.diff(p.energy_kwh) + p.loss_kwh, rtol=0, atol=1e-11
    )
    if p.energy_kwh.min() >= 0:
        assert (p.loss_kwh >= 0).all()


@given(tenancies())
@settings(deadline=None)
def test_the_operators_account_gains_by_netting_and_pays_for_leaking(case):
    """Beyond its own flows it changes by the netting gain less the self-discharge of the whole box."""
    box, start, charge, discharge = case
    p = post(box, start, charge, discharge, DT)

    own = DT * (box.efficiency_charge * charge[-1] - discharge[-1] / box.efficiency_discharge)
    leak = DT * box.self_discharge_per_h * p.energy_kwh[:-1]
    np.testing.assert_allclose(np.diff(p.holders_kwh[-1]), own + p.netting_gain_kwh - leak, rtol=0, atol=1e-11)


@given(tenancies())
@settings(deadline=None)
def test_interval_by_interval_is_the_same_as_all_at_once(case):
    """Accounts carried from interval to interval end where the day's books do."""
    box, start, charge, discharge = case
    p = post(box, start, charge, discharge, DT)

    accounts = Accounts(float(start.sum()), start[:-1])
    for t in range(charge.shape[1]):
        np.testing.assert_allclose(accounts.holders_kwh, p.holders_kwh[:, t], rtol=0, atol=1e-11)
        accounts = accounts.after(box, charge[:, t], discharge[:, t], DT)
    np.testing.assert_allclose(accounts.holders_kwh, p.holders_kwh[:, -1], rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(charge_kw=7.0), "charges with 8 kW in interval 0"),
        (Box(discharge_kw=3.0), "discharges with 4 kW in interval 1"),
        (Box(energy_kwh=11.0), "ends with 11.9 kWh in interval 0"),
        (Box(initial_kwh=-2.0), "ends with -0.1 kWh in interval 0"),
    ],
)
def test_a_box_beyond_its_bounds_is_told(box, message):
    """Power either way, too full, too empty: a sentence with interval, value and bound; within them silence."""
    charge, discharge = np.array([[8.0, 0.0]]), np.array([[0.0, 4.0]])

    assert post(Box(), np.array([10.0]), charge, discharge, DT).broken == ()
    broken = post(box, np.array([box.initial_kwh]), charge, discharge, DT).broken
    assert message in " ".join(broken)


def test_the_tables_have_their_columns_and_holders():
    """A row per interval, and per interval and holder; who never had anything is left out, the operator never is."""
    charge, discharge = np.array([[4.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.zeros((3, 2))
    p = post(Box(), np.array([0.0, 0.0, 0.0]), charge, discharge, DT)
    times = quarter_hours(2)

    table, storage = holders_table(p, times, "ess", ["a", "b", "ess"]), p.storage_columns(times, "ess")

    assert list(table) == ["time", "ess_id", "agent_id", "charge_kw", "discharge_kw", "energy_kwh"]
    assert table["agent_id"].tolist() == ["a", "ess", "a", "ess"]
    assert table["charge_kw"].tolist() == [4.0, 0.0, 0.0, 0.0]
    np.testing.assert_allclose(table["energy_kwh"], [0.0, 0.0, 0.95, 0.0], atol=1e-12)
    assert list(storage) == ["time", "ess_id", "charge_kw", "discharge_kw", "energy_kwh", "loss_kwh", "netting_gain_kwh", "wear_eur"]  # fmt: skip
    np.testing.assert_allclose(storage["energy_kwh"], [0.0, 0.95])


@pytest.mark.parametrize(
    ("start", "charge", "message"),
    [
        (np.zeros(2), np.array([[-1.0], [0.0]]), "charging is -1.0 kW for holder 0"),
        (np.zeros(2), np.array([[0.0], [np.nan]]), "charging is nan kW for holder 1"),
        (np.zeros(3), np.zeros((2, 1)), "do not go together"),
        (np.array([np.nan, 0.0]), np.zeros((2, 1)), "accounts at the start"),
    ],
)
def test_what_cannot_be_booked_is_refused(start, charge, message):
    """A negative flow, NaN, arrays that do not belong together."""
    with pytest.raises(TenancyError, match=message):
        post(Box(), start, charge, np.zeros_like(charge), DT)


def test_a_level_must_be_an_energy_for_each_tenant():
    """A negative or missing level is refused."""
    with pytest.raises(TenancyError, match="levels"):
        Accounts.begin(Box(), 2).opened(np.array([1.0, -1.0]))
    with pytest.raises(TenancyError, match="levels"):
        Accounts.begin(Box(), 2).opened(np.array([1.0]))
