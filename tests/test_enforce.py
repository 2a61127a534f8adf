"""Real-time control holds every meter inside its envelope, in the order of the rule, and serves what nobody controls."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.enforce import Held, Wish, hold


def wish(**kw: float) -> Wish:
    """One home; what is not named is zero."""
    names = Wish.__slots__
    return Wish(**{name: np.array([kw.get(name, 0.0)]) for name in names})


def held(w: Wish, import_kw: float, export_kw: float) -> Held:
    return hold(w, np.array([import_kw]), np.array([export_kw]))


def test_solar_is_turned_down_first() -> None:
    """9 kW of sun, 1 kW of load, 5 kW allowed out: 3 kW are clipped and the meter stands at the limit."""
    result = held(wish(base_load_kw=1.0, pv_kw=9.0, battery_discharge_kw=2.0), 10.0, 5.0)

    assert result.meter_kw == [-5.0]
    assert result.clipped_kw == [5.0]
    assert result.battery_discharge_kw == [2.0]


def test_then_the_battery_stops_discharging() -> None:
    """Without sun it is the battery's export that is cut."""
    result = held(wish(battery_discharge_kw=4.0), 10.0, 1.5)

    assert result.meter_kw == [-1.5]
    assert result.battery_discharge_kw == [1.5]


def test_charging_gives_way_before_the_car_and_the_car_before_the_heat_pump() -> None:
    """2 + 3 + 11 + 2 kW wanted, 6 kW allowed: the battery stops, the car keeps 2 of 11 kW, the heat pump runs."""
    result = held(
        wish(base_load_kw=2.0, battery_charge_kw=3.0, ev_kw=11.0, heat_pump_kw=2.0, heat_pump_least_kw=0.5), 6.0, 9.0
    )

    assert result.battery_charge_kw == [0.0]
    assert result.ev_kw == [2.0]
    assert result.heat_pump_kw == [2.0]
    assert result.deferred_kw == [9.0]
    assert result.meter_kw == [6.0]


def test_load_that_nobody_controls_is_served_and_called_a_breach() -> None:
    """7 kW of household load against 4.2 kW: served, and 2.8 kW of breach."""
    result = held(wish(base_load_kw=7.0), 4.2, 9.0)

    assert result.meter_kw == [7.0]
    np.testing.assert_allclose(result.breach_kw, [2.8])


def test_the_battery_helps_with_what_it_has() -> None:
    """Of 2.8 kW too much, 2 kW come out of the battery."""
    result = held(wish(base_load_kw=7.0, battery_spare_kw=2.0), 4.2, 9.0)

    np.testing.assert_allclose(result.meter_kw, [5.0])
    np.testing.assert_allclose(result.breach_kw, [0.8])


power = st.floats(0.0, 30.0)


@given(
    base=power, pv=power, charge=power, discharge=power, spare=power, ev=st.floats(-11.0, 22.0), heat=power,
    least=st.floats(0.0, 1.0), imp=power, exp=power, charging=st.booleans(),
)  # fmt: skip
def test_the_meter_leaves_the_envelope_only_by_what_cannot_be_moved(
    base: float, pv: float, charge: float, discharge: float, spare: float, ev: float, heat: float, least: float, imp: float,
    exp: float, charging: bool,
) -> None:  # fmt: skip
    """The balance holds, nothing is increased that the rule does not name, export never breaks, import only by load that must run."""
    w = wish(
        base_load_kw=base, pv_kw=pv, battery_charge_kw=charge * charging, battery_discharge_kw=discharge * (not charging),
        battery_spare_kw=spare, ev_kw=ev, heat_pump_kw=heat, heat_pump_least_kw=least * heat,
    )  # fmt: skip
    r = held(w, imp, exp)

    balance = base + r.ev_kw + r.heat_pump_kw + r.battery_charge_kw - r.battery_discharge_kw - r.pv_kw
    np.testing.assert_allclose(r.meter_kw, balance)
    assert r.meter_kw >= -exp - 1e-9
    must_run = base + least * heat
    assert r.meter_kw <= max(imp, must_run) + 1e-9
    assert (r.pv_kw <= w.pv_kw).all()
    assert (r.battery_charge_kw <= w.battery_charge_kw).all()
    assert (r.battery_discharge_kw <= w.battery_discharge_kw + w.battery_spare_kw + 1e-12).all()
    inside = -exp <= base + ev + heat + w.battery_charge_kw - w.battery_discharge_kw - pv <= imp
    if inside:
        assert r.clipped_kw == 0.0
        assert r.deferred_kw == 0.0
        assert r.breach_kw == 0.0
