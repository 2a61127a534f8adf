"""Flexible demand of a case: by hand, and against a linear program that knows nothing of stores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market import linear_program
from sim.case import ProsumersCase
from sim.case_arrays import problem_of
from sim.case_flexible import windows
from sim.case_series import Frame
from sim.clear import clear
from sim.scenario_file import ScenarioError

HEAD = "kind: prosumers\nprices: {buy_eur_per_kwh: [0.3, 0.1, 0.2, 0.4], sell_eur_per_kwh: 0.05}\n"


def case_of(prices, demand, minutes=60.0):
    """One agent with one flexible demand and nothing else."""
    data = {
        "kind": "prosumers", "interval_minutes": minutes, "prices": {"buy_eur_per_kwh": prices, "sell_eur_per_kwh": -1.0},
        "agents": [{"id": "a", "flexible": [demand]}],
    }  # fmt: skip
    return ProsumersCase.model_validate(data, context=Frame(steps=len(prices)))


def least_cost(case):
    """What the demand costs at least, less what it is worth, by a program in the power that is taken."""
    from scipy.optimize import linprog

    [agent], dt = case.agents, case.dt_h
    [demand] = agent.flexible
    steps = len(demand.power_kw)
    rows, right = [], []
    for window in windows(demand, dt):
        inside = np.zeros(steps)
        inside[window] = dt
        until = inside.copy()
        if demand.needed_by_hours is not None:
            until[window.start + math.ceil(demand.needed_by_hours / dt) :] = 0.0
        rows, right = [*rows, -until], [*right, -demand.needed_kwh]
        if demand.most_kwh is not None:
            rows, right = [*rows, inside], [*right, demand.most_kwh]
    cost = dt * (case.prices.buy_eur_per_kwh - demand.utility_eur_per_kwh)
    return linprog(cost, A_ub=rows, b_ub=right, bounds=np.stack([demand.least_kw, demand.power_kw], axis=1))


@st.composite
def demands(draw):
    """A demand over one to three short days of four intervals; any of its limits may be there or not."""
    days = draw(st.integers(1, 3))

    def row(low, high):
        values = st.lists(st.integers(low, high), min_size=4 * days, max_size=4 * days)
        return [value / 10.0 for value in draw(values)]

    least = row(0, 10)
    demand = {"power_kw": [low + more for low, more in zip(least, row(0, 30), strict=True)], "least_kw": least}
    demand |= {"each_day": draw(st.booleans()), "utility_eur_per_kwh": draw(st.integers(0, 5)) / 10.0}
    demand |= draw(st.just({}) | st.integers(0, 80).map(lambda tenths: {"needed_kwh": tenths}))
    demand |= draw(
        st.just({}) | st.sampled_from([3.0, 6.0, 7.0, 12.0, 24.0]).map(lambda hours: {"needed_by_hours": hours})
    )
    demand |= draw(st.just({}) | st.integers(0, 300).map(lambda kwh: {"most_kwh": kwh}))
    return row(0, 5), demand


@settings(max_examples=120, deadline=None)
@given(demands())
def test_leaving_out_is_taking_less(given_):
    """The market's least cost, less the worth of all that could be taken, is that of a program in what is taken; what it refuses has none."""
    prices, demand = given_
    try:
        case = case_of(prices, demand, minutes=360.0)
    except ValueError:
        rest = {**demand, "needed_kwh": 0.0, "most_kwh": None, "needed_by_hours": None}
        relaxed = case_of(prices, rest, minutes=360.0)
        wanted = (
            relaxed.agents[0]
            .flexible[0]
            .model_copy(
                update={key: demand[key] for key in ("needed_kwh", "most_kwh", "needed_by_hours") if key in demand}
            )
        )
        impossible = relaxed.model_copy(
            update={"agents": (relaxed.agents[0].model_copy(update={"flexible": (wanted,)}),)}
        )
        assert least_cost(impossible).status == 2
        return
    best = least_cost(case)
    [one] = case.agents[0].flexible
    worth = case.dt_h * one.utility_eur_per_kwh * one.power_kw.sum()

    assert best.status == 0
    assert linear_program.solve(problem_of(case)).cost_eur - worth == pytest.approx(best.fun, abs=1e-7)


def test_three_needed_kilowatt_hours_by_hand():
    """2 kW, 3 kWh needed: two in the hour of 0.1, one in that of 0.2; 0.15 for a further one is less than any hour asks."""
    case = case_of([0.3, 0.1, 0.2, 0.4], {"power_kw": 2.0, "needed_kwh": 3.0, "utility_eur_per_kwh": 0.15})
    [agent] = clear(case, tolerance=1e-5).agents
    [taken] = agent.flexible

    assert taken.power_kw == pytest.approx([0.0, 2.0, 1.0, 0.0], abs=1e-3)
    assert taken.energy_kwh == pytest.approx(3.0, abs=1e-3)
    assert taken.forgone_eur == pytest.approx(5 * 0.15, abs=1e-3)
    assert agent.cost_eur == pytest.approx(2 * 0.1 + 0.2 + 5 * 0.15, abs=1e-3)


def test_a_worth_that_falls_in_steps_by_hand():
    """1 kW worth 0.35 and 1 kW worth 0.15: both at 0.1, one at 0.2 and 0.3, none at 0.4; the agent's store is not among them."""
    data = {
        "kind": "prosumers", "prices": {"buy_eur_per_kwh": [0.3, 0.1, 0.2, 0.4], "sell_eur_per_kwh": 0.0},
        "agents": [{
            "id": "a", "stores": [{"kind": "battery", "energy_kwh": 1.0, "charge_kw": 0.0, "discharge_kw": 0.0}],
            "flexible": [{"power_kw": 1.0, "utility_eur_per_kwh": worth} for worth in (0.35, 0.15)],
        }],
    }  # fmt: skip
    [agent] = clear(ProsumersCase.model_validate(data, context=Frame(steps=4)), tolerance=1e-5).agents

    assert [one.power_kw for one in agent.flexible] == [
        pytest.approx([1.0, 1.0, 1.0, 0.0], abs=1e-3),
        pytest.approx([0.0, 1.0, 0.0, 0.0], abs=1e-3),
    ]
    assert len(agent.stores) == 1


def test_a_need_of_every_day_is_met_every_day():
    """The second day is cheap: without ``each_day`` everything waits for it."""
    prices = [0.3, 0.3, 0.1, 0.1]
    once = clear(case_of(prices, {"power_kw": 1.0, "needed_kwh": 6.0}, 720.0), tolerance=1e-5).agents[0].flexible[0]
    daily = {"power_kw": 1.0, "needed_kwh": 6.0, "needed_by_hours": 12.0, "each_day": True}
    every = clear(case_of(prices, daily, 720.0), tolerance=1e-5).agents[0].flexible[0]

    assert math.fsum(once.power_kw[:2]) == pytest.approx(0.0, abs=1e-3)
    assert every.power_kw == pytest.approx([0.5, 0.0, 0.5, 0.0], abs=1e-3)


@pytest.mark.parametrize(
    ("demand", "said"),
    [
        ("power_kw: 1, least_kw: 2", "4:48: agents.0.flexible.0.least_kw: is above power_kw in interval 0 (2 against 1)"),
        ("power_kw: 1, needed_kwh: 5", "4:50: agents.0.flexible.0.needed_kwh: cannot be taken in: at most 4 kWh can; given 5."),
        ("power_kw: 1, needed_kwh: 2, needed_by_hours: 1", "4:50: agents.0.flexible.0.needed_kwh: cannot be taken in: at most 1 kWh can by then; given 2."),
        ("power_kw: 1, needed_kwh: 2, most_kwh: 1", "4:63: agents.0.flexible.0.most_kwh: is less than what is taken in any case, 2 kWh"),
        ("power_kw: 1, needed_by_hours: 9", "4:55: agents.0.flexible.0.needed_by_hours: is after the end, 4 h; given 9."),
        ("power_kw: 1, each_day: true", "4:48: agents.0.flexible.0.each_day: needs whole days; the case has 4 h."),
        ("power_kw: -1", "4:35: agents.0.flexible.0.power_kw: must be at least 0; given -1. What is generated goes into pv_kw."),
        ("power_kw: 1, utility_eur_per_kwh: -1", "agents.0.flexible.0.utility_eur_per_kwh: must be at least 0; given -1."),
    ],
)  # fmt: skip
def test_a_demand_that_cannot_be_met_is_told_with_its_place(tmp_path, demand, said):
    """At the door, with what could be had."""
    from sim.case_file import load

    path = tmp_path / "case.yaml"
    path.write_text(HEAD + f"agents:\n  - {{id: a, flexible: [{{{demand}}}]}}\n", encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        load(path)

    assert len(caught.value.mistakes) == 1
    assert said in caught.value.mistakes[0]
