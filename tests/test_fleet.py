"""The fleet's store bounds describe plans that exist, and its states follow the plan."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.fleet import BATTERY, HEAT, VEHICLE, Fleet
from agents.people import People
from agents.vehicles import Sessions
from storage.store import Store


def people(**columns: NDArray[np.float64]) -> People:
    """Two homes; the first has battery, car and heat pump, the second nothing."""
    zero, text = np.zeros(2), ("", "")
    base = {
        "agent_id": ("A", "B"), "bus_index": np.zeros(2, dtype=np.intp), "aggregator_id": text, "tariff_id": ("t", "t"),
        "load_profile": text, "load_profile_q": text, "load_kw": zero, "load_kvar": zero, "load_shift_steps": np.zeros(2, dtype=np.int64),
        "pv_profile": text, "pv_kw_peak": zero, "pv_scale": zero, "heat_pump_profile": text, "heat_pump_profile_q": text,
        "heat_pump_kw": np.array([3.0, 0.0]), "heat_pump_kvar": zero, "heat_buffer_kwh": np.array([6.0, 0.0]),
        "battery_kwh": np.array([10.0, 0.0]), "battery_charge_kw": np.array([5.0, 0.0]), "battery_discharge_kw": np.array([5.0, 0.0]),
        "battery_efficiency_charge": np.full(2, 0.95), "battery_efficiency_discharge": np.full(2, 0.95), "battery_initial_kwh": zero,
        "ev_kw": np.array([11.0, 0.0]), "ev_count": np.array([1, 0]), "ev_v2g": np.array([False, False]), "active": np.array([True, False]),
        "export_cap_kw": zero, "import_cap_kw": zero,
    }  # fmt: skip
    return People(**{**base, **columns})  # type: ignore[arg-type]


def sessions(arrival: int, departure: int, kwh: float, said: tuple[int, int, float] | None = None) -> Sessions:
    a, d, e = said or (arrival, departure, kwh)
    return Sessions(
        np.array([0]),
        np.array([arrival]),
        np.array([departure]),
        np.array([kwh]),
        np.array([a]),
        np.array([d]),
        np.array([e]),
    )


def bounds(fleet: Fleet, now: int, start: int, steps: int, heat_kw: float = 0.0) -> tuple[Store, NDArray[np.float64]]:
    heat = np.zeros((2, steps))
    heat[0] = heat_kw
    return fleet.stores(now, start, steps, fleet.energy_kwh, heat, fleet.energy_kwh[BATTERY].copy())


def greedy(
    b: Store, initial_kwh: NDArray[np.float64], slot: int, efficiency: float, dt_h: float = 0.25
) -> NDArray[np.float64]:
    """Charge the first home's store as much as bounds allow; return its energies."""
    e, path = initial_kwh[slot, 0], []
    for t in range(b.charge_max_kw.shape[2]):
        room = b.energy_max_kwh[slot, 0, t] - e + b.drain_kwh[slot, 0, t]
        e += np.clip(room, 0.0, efficiency * dt_h * b.charge_max_kw[slot, 0, t]) - b.drain_kwh[slot, 0, t]
        path.append(e)
    return np.array(path)


def test_a_car_has_what_it_wants_when_it_leaves_and_takes_it_along() -> None:
    """8 kWh between intervals 4 and 20: the lower bound stands at the last interval of the stay, the drain behind it."""
    fleet = Fleet(people(), sessions(4, 20, 8.0), 0.25, 0.95)

    b, first = bounds(fleet, 5, 5, 40)
    path = greedy(b, first, VEHICLE, 0.95)

    np.testing.assert_allclose(b.energy_min_kwh[VEHICLE, 0, 14], 8.0)
    np.testing.assert_allclose(path[14], 8.0, rtol=1e-6)
    np.testing.assert_allclose(path[15:], 0.0, atol=1e-6)
    assert not b.charge_max_kw[VEHICLE, 1].any()


def test_until_it_is_plugged_in_only_the_announcement_is_known() -> None:
    """Announced for interval 10, home at 4: before 4 the plan sees 10, afterwards the car."""
    fleet = Fleet(people(), sessions(4, 20, 8.0, said=(10, 22, 6.0)), 0.25, 0.95)

    (before, _), (after, _) = bounds(fleet, 0, 0, 40), bounds(fleet, 4, 4, 36)

    assert np.flatnonzero(before.charge_max_kw[VEHICLE, 0]).tolist() == list(range(10, 22))
    assert np.flatnonzero(after.charge_max_kw[VEHICLE, 0]).tolist() == list(range(16))


def test_a_need_that_cannot_be_met_any_more_is_lowered_to_what_can() -> None:
    """20 kWh in two quarter-hours at 11 kW: 5.2 kWh are asked for, so a plan exists."""
    fleet = Fleet(people(), sessions(0, 2, 20.0), 0.25, 0.95)

    b, _ = bounds(fleet, 0, 0, 8)

    np.testing.assert_allclose(b.energy_min_kwh[VEHICLE, 0, 1], 2 * 0.25 * 11 * 0.95, rtol=1e-6)


def test_a_stay_that_goes_on_after_the_horizon_is_charged_in_proportion() -> None:
    """Ten of twenty intervals lie in the horizon: half of the energy."""
    fleet = Fleet(people(), sessions(0, 20, 8.0), 0.25, 0.95)

    np.testing.assert_allclose(bounds(fleet, 0, 0, 10)[0].energy_min_kwh[VEHICLE, 0, -1], 4.0)


def test_heat_beyond_the_rating_does_not_make_the_plan_impossible() -> None:
    """A draw of 5 kW from a pump of 3 kW and 3 kWh: greedy running never falls below the lower bounds."""
    fleet = Fleet(people(), sessions(0, 1, 0.1), 0.25, 0.95)

    b, first = bounds(fleet, 0, 0, 40, heat_kw=5.0)
    path = greedy(b, first, HEAT, 1.0)

    assert (path >= b.energy_min_kwh[HEAT, 0] - 1e-9).all()
    assert (path >= -1e-9).all()


def test_the_state_equation_of_all_three_stores() -> None:
    """One quarter-hour: battery 4 kW in, car 11 kW in, heat pump 3 kW against 1 kW drawn."""
    fleet = Fleet(people(), sessions(0, 9, 8.0), 0.25, 0.95)

    fleet.advance(0, np.array([4.0, 0]), np.zeros(2), np.array([11.0, 0]), np.array([3.0, 0]), np.array([1.0, 0]))

    np.testing.assert_allclose(fleet.energy_kwh[:, 0], [0.95, 2.6125, 3.5])


def test_a_car_that_leaves_wanting_is_told_and_forgotten() -> None:
    """It wanted 8 kWh and got 2.6: 5.4 kWh are missing, the next stay begins at zero."""
    fleet = Fleet(people(), sessions(0, 1, 8.0), 0.25, 0.95)
    zero = np.zeros(2)

    missing = fleet.advance(0, zero, zero, np.array([11.0, 0]), zero, zero)

    np.testing.assert_allclose(missing, [8.0 - 2.6125, 0.0])
    assert fleet.energy_kwh[VEHICLE, 0] == 0.0


def test_an_urgent_car_charges_whatever_the_plan_says() -> None:
    """With two intervals left and 4 kWh missing it must charge 4 kWh's worth less the last interval's."""
    fleet = Fleet(people(), sessions(0, 2, 4.0), 0.25, 0.95)
    step_kwh = 11 * 0.25 * 0.95

    np.testing.assert_allclose(fleet.vehicle_urgent_kw(0)[0], (4.0 - step_kwh) / step_kwh * 11.0)


def test_a_full_car_that_leaves_inside_the_day_can_be_planned() -> None:
    """It holds exactly what it wants: the bounds allow for it."""
    fleet = Fleet(people(), sessions(0, 8, 8.0), 0.25, 0.95)
    fleet.energy_kwh[VEHICLE, 0] = 8.0

    b, first = bounds(fleet, 4, 4, 40)

    assert first[VEHICLE, 0] <= b.energy_max_kwh[VEHICLE, 0, :4].min()
    assert first[VEHICLE, 0] >= b.energy_min_kwh[VEHICLE, 0, :4].max()
    assert b.drain_kwh[VEHICLE, 0, 4] == first[VEHICLE, 0]


def test_a_car_plugged_in_before_the_run_has_been_charged_since() -> None:
    """Half of its stay lies before the run: it begins with half of what it wants."""
    fleet = Fleet(people(), sessions(-20, 20, 8.0), 0.25, 0.95)

    assert fleet.energy_kwh[VEHICLE, 0] == 4.0
