"""What is claimed of envelopes, shown: which fail, which hold, on two well-known feeders; and reactive power, and enforcement."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest

from network.acflow import Model
from network.compliance import compliance
from network.envelope import Limits, compute
from network.envelope_asked import bounds_of
from network.feeder import Feeder, Line
from network.headroom import Headroom
from network.linear import rows
from network.reactive import VoltVar
from network.referee import check
from network.sources import read
from network.validation import validate
from network.validation_box import box_of
from network.validation_data import Doubts
from network.validation_measure import Measure
from network.validation_messages import Messages

CAP_EXPORT, CAP_IMPORT = np.full(55, 10.0), np.full(55, 14.0)
NOTHING = np.zeros((55, 1))


@cache
def european_lv():
    """The European LV feeder with its 55 single-phase customers, 0.94 to 1.10 pu below the transformer."""
    grid = read("european_lv")
    feeder = grid.feeder
    model = Model(feeder, grid.connections.bus, grid.connections.phase)
    return model, Limits(0.94, 1.10, 100.0, np.arange(feeder.n_bus) != feeder.source_bus)


def envelope(mode):
    model, limits = european_lv()
    return compute(
        model, NOTHING, NOTHING, np.ones(55, bool), CAP_EXPORT, CAP_IMPORT, limits, source_v_pu=1.02, mode=mode
    )


def tried(mode, samples, **more):
    model, limits = european_lv()
    found = envelope(mode)
    return validate(
        model, found.import_limit_kw, found.export_limit_kw, NOTHING, NOTHING, limits, source_v_pu=1.02, samples=samples,
        import_cap_kw=CAP_IMPORT, export_cap_kw=CAP_EXPORT, **more,
    )  # fmt: skip


@pytest.mark.slow
def test_the_deterministic_envelope_of_european_lv_fails_where_phases_are_opposed():
    """Uniform draws see nothing; one phase against the others is off by more than 0.07 and 0.10 pu, says the referee too."""
    found = tried("deterministic", 20_000, uses=["uniform", "phase_correlated"])
    by_name = {tally.name: tally for tally in found.tallies}

    assert found.status == "unsafe"
    assert by_name["uniform"].tried == 10_000
    assert by_name["uniform"].broken == 0
    assert by_name["phase_correlated"].probability > 0.5
    over, under, _ = by_name["corners"].worst
    assert "phase" in over.use
    assert "phase" in under.use
    assert over.excess > 0.07
    assert under.excess > 0.10
    assert found.certificate.agrees
    np.testing.assert_allclose(found.worst_refereed, [case.beyond for case in found.worst], atol=1e-8)
    assert found.conservatism_export < -1.0  # it promises more than twice what is safe


@pytest.mark.slow
def test_the_robust_envelope_of_european_lv_holds_for_a_million_uses():
    """Every corner, what lies beside, and 1 000 000 draws of five kinds keep every limit; power-grid-model confirms 1 %."""
    found = tried("robust", 1_000_000)

    assert found.status == "safe"
    assert sum(tally.tried for tally in found.tallies if tally.kind == "sampled") == 1_000_000
    assert not any(tally.broken or tally.not_converged for tally in found.tallies)
    assert found.certificate.points > 9_000
    assert found.certificate.voltage_pu < 1e-8
    assert found.certificate.agrees
    assert abs(found.conservatism_export) < 1e-4  # nothing is given away either


def test_linear_import_limits_of_the_33_buses_fail_and_the_corrected_ones_hold():
    """Plain linear DistFlow lets voltages fall 0.0044 pu below 0.9; the AC-corrected envelope of the same rule keeps it."""
    grid = read("ieee33")
    model, n = Model(grid.feeder, grid.connections.bus), len(grid.connections)
    q = -0.5 * grid.connections.base_kvar[:, None]
    zero, cap = np.zeros((n, 1)), np.full(n, 500.0)
    limits = Limits(0.90, 1.05, np.inf, np.arange(grid.feeder.n_bus) != grid.feeder.source_bus)
    found = rows(model, q, v_min_pu=0.90, monitored=limits.monitored)
    with np.errstate(divide="ignore"):
        share = float(np.min(np.where(-found.a_kw @ cap > 0, found.b[:, 0] / (-found.a_kw @ cap), np.inf)))
    plain = validate(model, zero + share * 500.0, zero, zero, q, limits, samples=0)
    exact = compute(model, zero, q, np.ones(n, bool), cap, cap, limits)
    held = validate(
        model, exact.import_limit_kw, exact.export_limit_kw, zero, q, limits, samples=6000, import_cap_kw=cap, export_cap_kw=cap
    )  # fmt: skip

    assert plain.status == "unsafe"
    assert plain.worst_case.kind == "under_voltage"
    assert plain.worst_case.element == "18"
    assert 0.0043 < plain.worst_case.excess < 0.0046
    assert plain.certificate.agrees
    assert held.status == "safe"
    assert abs(held.conservatism_import) < 1e-4
    assert exact.import_limit_kw.sum() < share * 500.0 * n


def short_street():
    """Three customers on the three phases of one cable."""
    line = Line("L", "s", "e", 0.08, 0.04, r0_ohm=0.3, x0_ohm=0.1)
    return Model(Feeder.build("street", {"s": 400.0, "e": 400.0}, [line], source_bus="s"), [1, 1, 1], ["a", "b", "c"])


def test_a_volt_var_curve_is_followed_and_the_referee_gets_what_it_adds():
    """Measured with its curve a use is as the power flow with the curve; power-grid-model confirms the settled powers."""
    model, limits = short_street(), Limits(0.95, 1.05, 100.0)
    curve = VoltVar.build(3, {k: ([0.95, 0.99, 1.01, 1.05], [3.0, 0.0, 0.0, -3.0]) for k in range(3)})
    p = np.array([[9.0, -6.0], [7.0, 5.0], [-3.0, -8.0]])
    measure = Measure(Headroom(model, *bounds_of(model, limits, []), curve))
    reading, flow = measure.read(p + 0j, np.ones(2)), model.solve(p, p * 0.0, curve=curve)
    settled = measure.settled(p + 0j, np.ones(2))
    theirs = check(model.feeder, model.connection_bus, -settled.real, -settled.imag, None, model.connection_phase)

    np.testing.assert_allclose(reading.v_high_pu, flow.v_pu.max(axis=0), atol=1e-9)
    np.testing.assert_allclose(theirs.v_pu, flow.v_pu, atol=1e-8)
    assert np.abs(settled.imag).max() > 0.5
    limit = np.full((3, 1), 4.0)
    found = validate(model, limit, limit, limit * 0, limit * 0, limits, samples=300, curve=curve)
    assert found.certificate.agrees
    assert found.tallies[0].tried == 8


def test_free_reactive_power_is_tried_both_ways():
    """±4 kvar on top of an export of 4 kW: whichever lifts the voltage more is found, by the referee's power flow."""
    model, limits = short_street(), Limits(0.9, 1.10, np.inf)
    zero = np.zeros((3, 1))
    export, free = zero + 4.0, np.full(3, 4.0)
    found = validate(model, zero, export, zero, zero, limits, samples=0, free_kvar=free)
    both = [check(model.feeder, model.connection_bus, -export, -export * sign, None, model.connection_phase).v_pu.max() for sign in (1, -1)]  # fmt: skip

    assert found.tallies[0].tried >= 16
    assert found.tallies[0].worst[0].excess + 1.10 >= max(both) - 1e-9
    assert box_of(model, zero, export, None, zero, zero, None, None, free).reach_kva[0] == 8.0


def test_free_reactive_power_that_goes_its_own_way_is_found():
    """Every corner of three customers' kW and kvar by power-grid-model: none is worse than the worst that was tried."""
    model, limits = short_street(), Limits(0.9, 1.10, np.inf)
    zero, limit, free = np.zeros((3, 1)), np.full((3, 1), 5.0), np.full(3, 6.0)
    found = validate(model, limit, limit, zero, zero, limits, samples=0, free_kvar=free)
    every = np.array(list(product((-1.0, 1.0), repeat=6))).T
    flow = check(model.feeder, model.connection_bus, -5.0 * every[:3], -6.0 * every[3:], None, model.connection_phase)
    over, under, _ = found.tallies[0].worst
    tied = [k for k in range(64) if (every[:3, k] == every[3:, k]).all() or (every[:3, k] == -every[3:, k]).all()]

    assert 1.10 + over.excess == pytest.approx(flow.v_pu.max(), abs=1e-8)
    assert 0.90 - under.excess == pytest.approx(flow.v_pu.min(), abs=1e-8)
    assert flow.v_pu[:, tied].max() < flow.v_pu.max() - 1e-3  # which those with kW and kvar alike are not
    assert (found.factor < 1).all() == (flow.v_pu.max() > 1.1 or flow.v_pu.min() < 0.9)


@pytest.mark.parametrize("use", ["vertices", "beta", "phase_correlated"])
def test_draws_find_a_violation_where_only_kvar_of_their_own_break_a_limit(use):
    """A limit between the highest voltage of all 64 corners and that of those with kvar alike or opposite, by power-grid-model: draws pass it."""
    model, zero = short_street(), np.zeros((3, 1))
    every = np.array(list(product((-1.0, 1.0), repeat=6))).T
    highest = check(
        model.feeder, model.connection_bus, -5.0 * every[:3], -6.0 * every[3:], None, model.connection_phase
    ).v_pu.max(axis=0)
    tied = (every[:3] == every[3:]).all(axis=0) | (every[:3] == -every[3:]).all(axis=0)
    between = (highest.max() + highest[tied].max()) / 2.0
    found = validate(model, zero + 5.0, zero + 5.0, zero, zero, Limits(0.5, between, np.inf), samples=2000, uses=[use],
                     free_kvar=np.full(3, 6.0))  # fmt: skip
    drawn = next(tally for tally in found.tallies if tally.kind == "sampled")

    assert highest.max() > highest[tied].max() + 1e-3
    assert drawn.kind_broken[0] > 0
    assert drawn.worst[0].excess <= highest.max() - between + 1e-8


def test_free_reactive_power_is_tried_both_ways_with_other_data_and_faulty_messages_too():
    """±4 kvar: the worst voltage with 20 % more ohms, and at the rating without messages, is the worse of both, by power-grid-model."""
    model, limits = short_street(), Limits(0.9, 1.10, np.inf)
    zero, export, rating, free = np.zeros((3, 1)), np.full((3, 1), 4.0), np.full(3, 9.0), np.full(3, 4.0)
    found = validate(
        model, zero, export, zero, zero, limits, samples=0, free_kvar=free, doubts=Doubts(0.0, 20.0, 0.0),
        messages=Messages(np.zeros(3), rating, draws=0),
    )  # fmt: skip
    by_name = {tally.name: tally for tally in found.tallies}

    def highest(model, p):
        """All feed in, all reactive power one way or the other: the highest voltage."""
        return max(
            check(model.feeder, model.connection_bus, -p, -np.full((3, 1), sign * 4.0), None, model.connection_phase).v_pu.max()
            for sign in (1, -1)
        )  # fmt: skip

    for name, other, p in (
        ("impedances ±20 %", Headroom(model, *bounds_of(model, limits, [])).with_impedance(1.2).model, export),
        ("messages lost (no default)", model, rating[:, None]),
    ):
        assert by_name[name].worst[0].excess + 1.10 >= highest(other, p) - 1e-9, name
    corners = found.patterns.signs.shape[1]
    assert by_name["impedances ±20 %"].tried == 2 * corners
    assert by_name["messages lost (no default)"].tried == corners
    assert found.certificate.agrees


def test_compliance_by_hand():
    """Two meters, two half hours: 1 kW too much import, then 2 kW too much export, a firm charge of 1 kW not drawn."""
    limit = np.array([[3.0, 3.0], [np.inf, np.inf]])
    firm = np.array([[0.0, 1.0], [0.0, 0.0]])
    wanted = np.array([[4.0, -5.0], [99.0, -99.0]])
    kept = np.array([[3.0, 0.5], [99.0, -99.0]])
    found = compliance(kept, wanted, limit, limit, firm, 0.5)

    assert (found.import_before.outside, found.import_before.share, found.import_before.beyond_kwh) == (1, 0.5, 0.5)
    assert (found.export_before.outside, found.export_before.worst_kw) == (1, 6.0)
    assert (found.export_after.outside, found.export_after.beyond_kwh) == (1, 0.25)
    assert found.import_after.outside == 0
    assert not found.kept
    unknown = compliance(np.where(kept == 3.0, np.nan, kept), wanted, limit, limit, firm, 0.5)
    assert unknown.import_after.outside == 1
    assert unknown.import_after.worst_kw == np.inf
