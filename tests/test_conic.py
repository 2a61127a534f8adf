"""The cone programme is a power flow for losses and imports, and is refused for exports."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.conic import GAP, ConicError, least_losses, most_export, most_import
from network.envelope import Limits, compute
from network.feeder import Feeder, Line, Transformer
from network.referee import check

IEEE33 = Path(__file__).parent / "golden" / "ieee33"
NO_LIMIT = Limits(0.0, np.inf, np.inf)


def ieee33():
    """The feeder of Baran and Wu with its 32 loads as injections."""
    with (IEEE33 / "lines.csv").open() as file:
        lines = [
            Line(r["line_id"], r["from_bus"], r["to_bus"], float(r["r1_ohm"]), float(r["x1_ohm"]), in_service=r["in_service"] == "true")
            for r in csv.DictReader(file)
        ]  # fmt: skip
    with (IEEE33 / "loads.csv").open() as file:
        loads = [(r["bus_id"], -float(r["p_kw"]), -float(r["q_kvar"])) for r in csv.DictReader(file)]
    feeder = Feeder.build("33", {str(k): 12660.0 for k in range(1, 34)}, lines, source_bus="1")
    model = Model(feeder, [feeder.bus_index(bus) for bus, _, _ in loads])
    return model, np.array([p for _, p, _ in loads]), np.array([q for _, _, q in loads])


def excess_pu(flow, limits):
    """How far AC voltages are beyond their limits."""
    return max(flow.v_pu.max() - limits.v_max_pu, limits.v_min_pu - flow.v_pu.min())


def test_losses_of_the_33_bus_feeder_are_those_of_the_literature():
    """202.6771 kW, as the AC power flow and Baran and Wu have it; the gap is nothing."""
    model, p, q = ieee33()

    plan = least_losses(model, p, p, q, q, NO_LIMIT)

    assert plan.status == "exact"
    assert plan.gap.max() < GAP
    assert plan.loss_kw == pytest.approx(202.6771, abs=1e-3)
    assert plan.loss_kw == pytest.approx(plan.flow.loss_kw.sum(), rel=1e-6)
    np.testing.assert_allclose(plan.v_pu, plan.flow.v_pu[:, 0], rtol=0, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31))
def test_taps_iron_capacitance_and_a_weak_source_are_exact(seed):
    """Transformers listed either way round, cables with capacitance: the programme's voltages and losses are the referee's."""
    rng = np.random.default_rng(seed)
    ends, volts = (("mv", "b0"), (11000.0, 420.0)) if rng.random() < 0.5 else (("b0", "mv"), (420.0, 11000.0))
    branches = [
        Transformer("T", *ends, 250.0, *volts, 4.0, 3.0, i0_percent=2.0, p0_kw=1.0, clock=int(rng.integers(12)), tap_side=str(rng.choice(["from", "to"])), tap_position=int(rng.integers(-2, 3)), tap_step_percent=2.5),
        *(Line(f"L{k}", *rng.permutation([f"b{rng.integers(0, k)}", f"b{k}"]).tolist(), *rng.uniform(0.01, 0.03, 2).tolist(), rating_a=300.0, c1_nf=2000.0) for k in range(1, 6)),
    ]  # fmt: skip
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(6)}}, branches, source_bus="mv", source_v_pu=1.01,
        source_short_circuit_va=float(rng.choice([1e16, 2e7])),
    )  # fmt: skip
    at = rng.integers(1, 7, 4)
    p, q = -rng.uniform(2, 25, 4), -rng.uniform(0, 8, 4)

    plan = least_losses(Model(feeder, at), p, p, q, q, Limits(0.0, np.inf, 1000.0))
    told = check(feeder, at, -p[:, None], -q[:, None])

    assert plan.status == "exact"
    np.testing.assert_allclose(plan.v_pu, told.v_pu[:, 0], rtol=0, atol=2e-6)
    assert plan.loss_kw == pytest.approx(told.loss_kw.sum(), abs=1e-3)


def test_reactive_power_that_may_be_chosen_lowers_the_losses():
    """With 50 kvar of freedom at every bus the losses fall, by AC power flow too, and no other choice tried is better."""
    model, p, q = ieee33()
    fixed, free = least_losses(model, p, p, q, q, NO_LIMIT), least_losses(model, p, p, q - 50, q + 50, NO_LIMIT)

    assert free.status == "exact"
    assert free.flow.loss_kw.sum() < fixed.loss_kw - 20
    tried = q[:, None] + np.random.default_rng(0).uniform(-50, 50, (32, 500))
    near = np.clip(free.injection_kvar[:, None] + 0.2 * (tried - q[:, None]), q[:, None] - 50, q[:, None] + 50)
    for choice in (tried, near):
        others = model.solve(np.repeat(p[:, None], 500, axis=1), choice).loss_kw.sum(axis=0)
        assert others.min() > free.flow.loss_kw.sum() - 1e-5


@pytest.mark.parametrize("bus", [5, 16, 24, 31])
def test_the_most_that_one_may_import_is_the_ac_exact_limit(bus):
    """Gap below 1e-6, the AC power flow at the limit, and the same kW as the AC-corrected envelope; one line loading limited too."""
    model, p, q = ieee33()
    base, limits, active, cap = 0.3 * p, Limits(0.9, 1.05, np.inf), np.arange(32) == bus, np.full(32, 20e3)

    plan = most_import(model, base, 0.3 * q, active, cap, limits)
    envelope = compute(model, base[:, None], 0.3 * q[:, None], active, cap, cap, limits)

    assert plan.status == "exact"
    assert plan.gap.max() < GAP
    assert plan.total_kw == pytest.approx(envelope.import_limit_kw[bus, 0], rel=2e-5)
    assert abs(excess_pu(plan.flow, limits)) < 1e-6


def test_all_may_import_what_the_ac_power_flow_carries():
    """All 32 together: exact, at the limit by AC power flow, and more than equal shares of it."""
    model, p, q = ieee33()
    base, limits, active, cap = 0.3 * p, Limits(0.9, 1.05, np.inf), np.ones(32, dtype=bool), np.full(32, 500.0)

    plan = most_import(model, base, 0.3 * q, active, cap, limits)
    shared = compute(model, base[:, None], 0.3 * q[:, None], active, cap, cap, limits)

    assert plan.status == "exact"
    assert abs(excess_pu(plan.flow, limits)) < 1e-6
    assert plan.loss_kw == pytest.approx(plan.flow.loss_kw.sum(), rel=1e-5)
    assert plan.total_kw > shared.import_limit_kw.sum() * 1.05


def test_a_rating_holds_imports_as_in_ac():
    """A transformer and a line that are the limit: the same kW as the AC-corrected envelope."""
    for rating_a, sn_kva in ((60.0, 400.0), (1000.0, 40.0)):
        branches = [Transformer("T", "mv", "a", sn_kva, 11000.0, 400.0, 4.0, 0.6, i0_percent=1.0, p0_kw=0.3, clock=5)]
        branches += [Line("L", "a", "b", 0.02, 0.01, rating_a=rating_a, c1_nf=300.0)]
        feeder = Feeder.build("small", {"mv": 11000.0, "a": 400.0, "b": 400.0}, branches, source_bus="mv")
        model, limits = Model(feeder, [2]), Limits(0.8, 1.1, 100.0)
        q, cap = np.array([-3.0]), np.array([500.0])

        plan = most_import(model, np.zeros(1), q, [True], cap, limits)
        envelope = compute(model, [[0.0]], q[:, None], [True], cap, cap, limits)

        assert plan.status == "exact"
        assert plan.total_kw == pytest.approx(envelope.import_limit_kw[0, 0], rel=2e-5)
        assert plan.flow.loading_percent.max() == pytest.approx(100.0, abs=1e-3)


def test_export_is_refused():
    """33 buses, 500 kW each: all 16 MW are "allowed" by losses that nobody has; by AC that is 0.1 pu too high and more."""
    model, p, q = ieee33()
    base, limits, active, cap = 0.3 * p, Limits(0.9, 1.05, np.inf), np.ones(32, dtype=bool), np.full(32, 500.0)

    plan = most_export(model, base, 0.3 * q, active, cap, limits)
    envelope = compute(model, base[:, None], 0.3 * q[:, None], active, cap, cap, limits, rule="equal")

    assert plan.status.startswith("refused: the relaxation is not exact at branch 'L")
    assert not plan.exact
    assert plan.gap.max() > 0.1
    assert plan.total_kw == pytest.approx(16e3, rel=1e-4)
    assert excess_pu(plan.flow, limits) > 0.1
    assert envelope.export_limit_kw.sum() < 0.7 * plan.total_kw


def test_what_the_network_cannot_keep_is_infeasible():
    """Loads that take the voltage below its limit: a named outcome without numbers."""
    model, p, q = ieee33()

    plan = least_losses(model, p, p, q, q, Limits(0.95, 1.05, np.inf))

    assert plan.status == "infeasible"
    assert np.isnan(plan.injection_kw).all()
    assert np.isnan(plan.loss_kw)


def test_what_cannot_be_posed_is_told():
    """Three phases, wrong shapes, bounds the wrong way round."""
    model, p, q = ieee33()
    with pytest.raises(ConicError, match=r"the lowest p has shape \(3,\)"):
        least_losses(model, p[:3], p, q, q, NO_LIMIT)
    with pytest.raises(ConicError, match="the lowest q of connection 0 is above the highest q"):
        least_losses(model, p, p, q + 1, q, NO_LIMIT)
    with pytest.raises(ConicError, match="cap_kw have shapes"):
        most_import(model, p, q, [True], p, NO_LIMIT)
    line = Line("L", "a", "b", 0.1, 0.1, r0_ohm=0.1, x0_ohm=0.1)
    three = Model(Feeder.build("x", {"a": 400.0, "b": 400.0}, [line], source_bus="a"), [1], ["a"])
    with pytest.raises(ConicError, match="calculated with three phases"):
        least_losses(three, [0.0], [0.0], [0.0], [0.0], NO_LIMIT)
