"""The operator of the shared storage promises only what its box can keep."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agents.storage_operator import FIRM_SHARE_OF_BOX, Box, offer, promise


def box(**changes: float) -> Box:
    base = {
        "ess_id": "ess", "bus_index": 1, "energy_kwh": 150.0, "charge_kw": 25.0, "discharge_kw": 25.0, "efficiency_charge": 0.95,
        "efficiency_discharge": 0.95, "self_discharge_per_h": 0.0, "initial_kwh": 0.0, "rent_energy_eur_per_kwh_day": 0.04,
        "rent_power_eur_per_kw_day": 0.02, "wear_eur_per_kwh": 0.01, "own_use_rent_factor": 1.5, "firm_offer_kw": 20.0,
        "firm_price_eur_per_kwh": 0.03, "tariff_id": "t",
    }  # fmt: skip
    return Box(**{**base, **changes})  # type: ignore[arg-type]


def test_rents_are_for_the_hours_of_the_day() -> None:
    """A day of 23 hours costs 23/24 of the rent per day; own use costs half as much again."""
    o = offer(box(), 23.0)

    np.testing.assert_allclose(o.rent_energy_eur_per_kwh, 0.04 * 23 / 24)
    np.testing.assert_allclose(o.own_rent_power_eur_per_kw, 1.5 * 0.02 * 23 / 24)


def test_the_worst_intervals_are_served_first() -> None:
    """Three intervals in need and energy for two: the two worst."""
    need = np.zeros(96)
    need[[4, 8, 12]] = [1.0, 9.0, 5.0]

    firm = promise(box(energy_kwh=12.5), need, 0.25)  # 0.8 · 12.5 / (20 · 0.95 · 0.25) = 2.1

    assert np.flatnonzero(firm).tolist() == [8, 12]
    assert (firm[[8, 12]] == 20.0).all()


def test_nothing_is_promised_late_in_the_day() -> None:
    """The last hours are needed to empty the box again."""
    need = np.zeros(96)
    need[90] = 50.0

    assert not promise(box(), need, 0.25).any()


def test_a_full_box_promises_nothing() -> None:
    """What is in the box when the day begins takes the room of a promise."""
    need = np.full(96, 9.0)

    assert promise(box(), need, 0.25).any()
    assert not promise(box(), need, 0.25, level_kwh=150.0).any()


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=100), st.floats(1.0, 500.0), st.floats(0.5, 60.0))
def test_whatever_is_promised_fits_into_the_box_and_can_be_emptied_again(
    need: list[float], kwh: float, kw: float
) -> None:
    """Equation (1) of the module holds for any need."""
    b = box(energy_kwh=kwh, charge_kw=kw, discharge_kw=kw, firm_offer_kw=kw)

    firm = promise(b, np.array(need), 0.25)

    stored = (firm * 0.95 * 0.25).sum()
    assert stored <= FIRM_SHARE_OF_BOX * kwh + 1e-9
    if firm.any():
        left_h = (len(need) - 1 - np.flatnonzero(firm).max()) * 0.25
        assert left_h * kw >= stored * 0.95 - 1e-9
    assert (firm[np.array(need) <= 1e-6] == 0.0).all()
