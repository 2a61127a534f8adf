"""Where limits leave no plan that ends as the shared storage's operator wishes, the wish is missed by the least; from outside the code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.storage_end import reachable_end
from market.exchange import Infeasible, Problem, clear
from sim.results import Run

STREET = Path(__file__).parent.parent / "examples" / "street" / "scenario.yaml"
ETA = 0.95
BOX = 30.0


def night(net_min, net_max, *, initial=0.0, wish=0.0, rights=None) -> Problem:
    """One home that needs 1 kW, and an operator with a box whose net is bounded; hours."""
    steps = len(net_min)
    more = {} if rights is None else {"right_energy_kwh": [[*rights]], "right_power_kw": [[5.0, 10.0]]}
    return Problem.plain(
        np.array([[1.0] * steps, [0.0] * steps]), 0.0, 0.30, 0.08, dt_h=1.0, shared=1,
        ess_energy_offer_kwh=BOX, ess_power_offer_kw=15.0, ess_efficiency_charge=ETA, ess_efficiency_discharge=ETA,
        ess_net_min_kw=[net_min], ess_net_max_kw=[net_max], rented_initial_kwh=[[0.0, initial]], rented_final_kwh=[[0.0, wish]], **more,
    )  # fmt: skip


def test_a_firm_charge_that_cannot_leave_again_stays() -> None:
    """Two hours of 4 kW bring 7.6 kWh, two hours of at most 1 kW take 2/0.95: 5.495 kWh are left where none were wished."""
    case = night([4.0, 4.0, -1.0, -1.0], [10.0] * 4)

    with pytest.raises(Infeasible):
        clear(case)
    found = reachable_end(case, BOX)

    assert found is not None
    assert found.missed_kwh == pytest.approx(8 * ETA - 2 / ETA, abs=1e-6)
    assert not found.outside_kw.any()
    plan = clear(found.problem)
    assert plan.rented_energy_kwh[0, :, -1].sum() == pytest.approx(8 * ETA - 2 / ETA, abs=1e-6)


def test_a_box_that_cannot_be_filled_lacks_what_it_lacks() -> None:
    """Three hours of at most 1 kW bring 2.85 kWh of the 5 wished."""
    case = night([-1.0] * 3, [1.0] * 3, wish=5.0)
    found = reachable_end(case, BOX)

    assert found is not None
    assert found.missed_kwh == pytest.approx(3 * ETA - 5.0, abs=1e-6)
    assert clear(found.problem).converged


def test_what_can_be_done_is_not_touched() -> None:
    """Where the wish is within reach the problem is the same object, and nothing is missed."""
    case = night([-5.0] * 3, [5.0] * 3, wish=5.0)
    found = reachable_end(case, BOX)

    assert found is not None
    assert found.problem is case
    assert (found.missed_kwh, found.outside_kw.any()) == (0.0, False)


def test_a_firm_charge_beyond_the_box_leaves_its_bounds_by_what_does_not_fit() -> None:
    """Five hours of 8 kW would bring 38 kWh into a box of 30: 8/0.95 kWh of them cannot be taken."""
    found = reachable_end(night([8.0] * 5, [10.0] * 5), BOX)

    assert found is not None
    assert -found.outside_kw.sum() == pytest.approx(8 / ETA, abs=1e-6)
    assert found.missed_kwh == pytest.approx(BOX, abs=1e-6)


def test_a_tenant_passes_on_what_cannot_leave() -> None:
    """2 kWh of a tenant's leave for the operator's account where the net is closed: 2 η² are left; its right grows by them."""
    case = night([0.0, 0.0], [0.0, 0.0], rights=(2.0, 0.0))
    case = replace(case, rented_initial_kwh=np.array([[2.0, 0.0]]))
    found = reachable_end(case, BOX)

    assert found is not None
    assert found.missed_kwh == pytest.approx(2 * ETA**2, abs=1e-6)
    assert found.problem.right_energy_kwh[0, 1] >= 2 * ETA**2
    plan = clear(found.problem)
    assert plan.rented_energy_kwh[0, :, -1] == pytest.approx([0.0, 2 * ETA**2], abs=1e-6)


def test_a_tenant_who_cannot_empty_its_space_leaves_no_plan() -> None:
    """6 kWh leave a space whose right is 5 kW in no hour; there is nothing to be moved."""
    case = night([-10.0], [10.0], rights=(6.0, 5.0))

    assert reachable_end(replace(case, rented_initial_kwh=np.array([[6.0, 0.0]])), BOX) is None


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-6, 6), st.floats(0, 6)), min_size=2, max_size=8),
    st.floats(0, 10),
    st.floats(0, 10),
)
def test_whatever_the_bounds_there_is_a_plan_and_the_end_is_the_nearest(bounds, initial, wish) -> None:
    """The end is the one that a walk through the reachable contents finds, and the clearing has a plan that ends there."""
    low = np.array([a for a, _ in bounds])
    case = night(low.tolist(), (low + [b for _, b in bounds]).tolist(), initial=initial, wish=wish)
    found = reachable_end(case, BOX)
    least = most = initial
    for down, up in zip(low, low + [b for _, b in bounds], strict=True):
        least = max(least + (ETA if down > 0 else 1 / ETA) * down, 0.0)
        most = min(most + (ETA if up > 0 else 1 / ETA) * up, BOX)
        if least > most + 1e-9 or most < 0.0:
            return  # some bound must be left: the tests above
    nearest = min(max(wish, least), most)

    assert found is not None
    assert not found.outside_kw.any()
    assert wish + found.missed_kwh == pytest.approx(nearest, abs=1e-5)
    assert clear(found.problem, tolerance=1e-2).rented_energy_kwh[0, 1, -1] == pytest.approx(nearest, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["deterministic", "robust", "budget"])
def test_limits_however_tight_give_a_run_that_is_certified_and_says_what_is_missed(call, tmp_path, monkeypatch, mode):
    """Lines at 10 %, 1.01 pu at most: the firm charge cannot leave the box again, the table and the report say by how much."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))
    tight = ("grid.v_max_pu=1.01", "grid.loading_max_percent=10", f"dso.mode={mode}")
    sets = [word for key in tight for word in ("--set", key)]
    code, _, said = call("run", STREET, "--days", "1", *sets, "--out", tmp_path / "run", "--quiet")
    rows = Run(tmp_path / "run").query("SELECT max(end_missed_kwh) AS kwh FROM clearings").to_pylist()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")

    assert (code, said) == (0, "")
    assert rows[0]["kwh"] > 1.0
    assert f'operator’s wish</td><td class="n">{rows[0]["kwh"]:.2f}\u00a0kWh' in page
    assert call("certify", tmp_path / "run")[0] == 0


def test_a_day_without_a_plan_is_an_outcome_with_a_name(call, tmp_path, monkeypatch):
    """Exit code 3 and one sentence with day, interval and element; neither a folder nor half of one is left."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("sim.community.reachable_end", lambda *_: None)
    tight = ("--set", "grid.v_max_pu=1.01", "--set", "grid.loading_max_percent=10")
    code, out, said = call("run", STREET, "--days", "1", *tight, "--out", tmp_path / "runs" / "tight", "--quiet")

    assert (code, out) == (3, "")
    assert said.startswith(
        "2024-06-04: from 2024-06-03T22:00 UTC on there is no plan (intervals are counted from there): the shared storage street battery:"
    )
    assert len(said.splitlines()) == 1
    assert "Traceback" not in said
    assert not list((tmp_path / "runs").rglob("*"))
