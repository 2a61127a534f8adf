"""The two methods beside the AC-corrected one: linear DistFlow alone, and the cone programme; and import limits that are pinned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from network.acflow import Model
from network.assumed import Reactive, Uncertainty
from network.envelope import EnvelopeError, Limits, compute
from network.feeder import Feeder, Line
from network.headroom_linear import LinearHeadroom
from network.linear import rows
from network.sources import read


def home():
    """One customer behind 0.4 ohm at 400 V: V²/r is 400 kW."""
    feeder = Feeder.build("home", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.4, 0.0)], source_bus="a")
    return Model(feeder, [1])


def ieee33():
    """The 33 buses with their loads as reactive power: model, base injections, caps of 500 kW, 0.9 to 1.1 pu."""
    grid = read("ieee33")
    model = Model(grid.feeder, grid.connections.bus)
    q = -grid.connections.base_kvar[:, None]
    return model, np.zeros_like(q), q, np.full(32, 500.0), Limits(0.9, 1.1, np.inf, np.arange(33) > 0)


def limits_of(case, **asked):
    """The envelope of everybody in a case such as :func:`ieee33`."""
    model, p, q, cap, limits = case
    return compute(model, p, q, np.ones(len(p), dtype=bool), cap, cap, limits, **asked)


def test_two_buses_by_hand():
    """Linear: (1.21 − 1)/2 and (1 − 0.81)/2 of 400 kW, 42 and 38; exact: 1.1 · 0.1 and 0.9 · 0.1 of it, 44 and 36."""
    case = (home(), np.zeros((1, 1)), np.zeros((1, 1)), np.full(1, 99.0), Limits(0.9, 1.1, np.inf))
    linear, exact = limits_of(case, method="linear"), limits_of(case)

    assert (linear.export_limit_kw[0, 0], linear.import_limit_kw[0, 0]) == pytest.approx((42.0, 38.0), rel=1e-5)
    assert (exact.export_limit_kw[0, 0], exact.import_limit_kw[0, 0]) == pytest.approx((44.0, 36.0), rel=1e-5)
    assert (linear.method, exact.method) == ("linear", "corrected")


@pytest.mark.parametrize(("rule", "too_low_pu"), [("proportional", 0.00405), ("max_total", 0.00431)])
def test_linear_imports_of_the_33_buses_are_unsafe_and_exports_are_not(rule, too_low_pu):
    """By AC power flow 0.004 pu below 0.9 where all import, and at least 0.006 pu of room where all export."""
    case = model, _, q, *_ = ieee33()
    found = limits_of(case, rule=rule, method="linear")

    assert 0.9 - model.solve(-found.import_limit_kw, q).v_pu.min() == pytest.approx(too_low_pu, abs=1e-5)
    assert 1.1 - model.solve(found.export_limit_kw, q).v_pu.max() > 0.006


def test_linear_max_total_is_the_linear_programme():
    """SciPy's own solver on the rows of linear DistFlow finds the same totals, both sides."""
    case = model, _, q, cap, limits = ieee33()
    found = limits_of(case, rule="max_total", method="linear")
    told = rows(model, q, v_min_pu=0.9, v_max_pu=1.1, monitored=limits.monitored)

    for sign, limit in ((1, found.export_limit_kw), (-1, found.import_limit_kw)):
        best = linprog(-np.ones(32), sign * told.a_kw, told.b[:, 0], bounds=[(0, 500)] * 32)
        assert limit.sum() == pytest.approx(-best.fun, rel=1e-5)
        assert (sign * told.a_kw @ limit[:, 0] <= told.b[:, 0] + 1e-9).all()
    assert cap.max() == 500


def test_linear_robust_limits_are_the_closed_form_of_the_rows():
    """European LV, 55 single-phase customers: A⁺e + A⁻m <= b holds for every voltage, with equality at one; so at every use."""
    grid = read("european_lv")
    model = Model(grid.feeder, grid.connections.bus, grid.connections.phase)
    nothing, caps = np.zeros((55, 1)), (np.full(55, 10.0), np.full(55, 14.0))
    below = grid.feeder.buses.v_nominal_v < 1000
    found = compute(model, nothing, nothing, np.ones(55, dtype=bool), *caps, Limits(0.94, 1.1, np.inf, below),
                    mode="robust", method="linear", source_v_pu=1.02)  # fmt: skip
    told = rows(model, nothing, v_min_pu=0.94, v_max_pu=1.1, monitored=below, source_v_pu=1.02)
    up, down = np.maximum(told.a_kw, 0.0), np.maximum(-told.a_kw, 0.0)
    used = up @ found.export_limit_kw[:, 0] + down @ found.import_limit_kw[:, 0]

    assert (used - told.b[:, 0]).max() == pytest.approx(0.0, abs=1e-6)
    rng = np.random.default_rng(0)
    uses = np.where(rng.random((55, 2000)) < 0.5, found.export_limit_kw, -found.import_limit_kw)
    assert (told.a_kw @ uses <= told.b + 1e-9).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_linear_slopes_are_differences(seed):
    """On random three-phase trees with ratings each limit's slope is its difference quotient, everywhere."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    lines = [Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", *rng.uniform(0.02, 0.2, 2).tolist(), rating_a=100.0, r0_ohm=0.4, x0_ohm=0.3)
             for k in range(1, n + 1)]  # fmt: skip
    feeder = Feeder.build("drawn", {f"b{k}": 400.0 for k in range(n + 1)}, lines, source_bus="b0", source_v_pu=1.01)
    model = Model(feeder, rng.integers(1, n + 1, 3), rng.choice(["a", "b", "c", "abc"], 3).tolist())
    full = np.ones(n + 1)
    measured = LinearHeadroom(model, 0.9 * full, 1.1 * full, 80.0 * np.ones(n))
    at = rng.uniform(-5, 5, (3, 2)) + 1j * rng.uniform(-2, 2, (3, 2))
    source = np.full(2, 1.02)
    point = measured.at(at, source)
    row, column = np.repeat(np.arange(len(measured.elements)), 2), np.tile([0, 1], len(measured.elements))

    for step, slopes in zip((1e-4, 1e-4j), measured.slopes(point, row, column), strict=True):
        for who in range(3):
            more, less = at.copy(), at.copy()
            more[who] += step
            less[who] -= step
            change = (measured.at(more, source).h - measured.at(less, source).h)[row, column] / 2e-4
            np.testing.assert_allclose(slopes[who], change, atol=1e-6 * max(np.abs(slopes).max(), 1e-3))


# -- the cone programme ------------------------------------------------------------------------------------------------


def test_cone_imports_are_those_of_the_ac_corrected_rule():
    """With nothing to export: the total of the AC-corrected max_total to 1e-4, at the limit by AC, and a gap below 1e-6."""
    model, p, q, cap, limits = ieee33()
    p, q = np.hstack([p, p]), np.hstack([q, 0.3 * q])
    both = {
        method: compute(
            model, p, q, np.ones(32, dtype=bool), np.zeros(32), cap, limits, rule="max_total", method=method
        )
        for method in ("corrected", "cone")
    }
    cone, corrected = both["cone"], both["corrected"]

    assert cone.status.tolist() == ["ok", "ok"]
    np.testing.assert_allclose(cone.import_limit_kw.sum(axis=0), corrected.import_limit_kw.sum(axis=0), rtol=1e-4)
    assert (cone.gap_import < 1e-6).all()
    assert cone.gap_export.tolist() == [0.0, 0.0]
    lowest = model.solve(-cone.import_limit_kw, q).v_pu.min(axis=0)
    assert ((lowest >= 0.9) & (lowest < 0.9 + 1e-6)).all()
    assert set(cone.binding_import_kind) == {"under_voltage"}


def test_cone_exports_are_refused_unless_the_caps_are_reached():
    """33 buses, 500 kW each: the branch and its gap, and no limit; of 10 kW each all is exact, and all is granted."""
    case = model, p, q, cap, limits = ieee33()
    refused = limits_of(case, rule="max_total", method="cone")
    granted = limits_of((model, p, q, cap / 50, limits), rule="max_total", method="cone")

    assert refused.status.tolist() == ["refused"]
    assert refused.infeasible_by[0] in model.feeder.branches.ids
    assert refused.infeasible_kind.tolist() == ["inexact"]
    assert refused.gap_export[0] > 0.1
    assert not refused.export_limit_kw.any()
    assert not refused.import_limit_kw.any()
    assert granted.status.tolist() == ["ok"]
    np.testing.assert_allclose(granted.export_limit_kw, 10.0, rtol=1e-4)


def test_a_source_at_its_highest_voltage_leaves_imports_their_room():
    """1.0 pu at a monitored source, limited to 1.0 pu: 36 kW of import by hand, as by AC power flow."""
    case = (home(), np.zeros((1, 1)), np.zeros((1, 1)), np.full(1, 99.0), Limits(0.9, 1.0, np.inf))
    found = compute(*case[:3], np.ones(1, dtype=bool), np.zeros(1), case[3], case[4], rule="max_total", method="cone")

    assert found.status.tolist() == ["ok"]
    assert found.import_limit_kw[0, 0] == pytest.approx(36.0, rel=1e-5)


def test_where_nothing_may_be_used_cone_and_correction_name_the_same_limit():
    """A passive load that pulls the voltage below its limit: infeasible by both methods, at the same bus."""
    model, p, q, cap, limits = ieee33()
    p[16] = -1500.0
    active = np.arange(32) != 16
    found = [
        compute(model, p, q, active, cap, cap, limits, rule="max_total", method=method)
        for method in ("cone", "corrected")
    ]

    assert [one.status[0] for one in found] == ["infeasible", "infeasible"]
    assert found[0].infeasible_by == found[1].infeasible_by
    assert found[0].infeasible_kind == found[1].infeasible_kind
    assert not found[0].import_limit_kw[active].any()


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"method": "exact"}, "there is no method 'exact'"),
        ({"method": "linear", "reactive": "curve"}, "'linear' has no volt-var curve"),
        ({"method": "cone"}, "does not know the rule 'proportional', only 'max_total'"),
        ({"method": "cone", "mode": "robust"}, "does not know the mode 'robust', only 'deterministic'"),
        ({"method": "cone", "reactive": Reactive(tan_phi=0.3)}, "reactive power other than as forecast"),
        ({"method": "cone", "uncertainty": Uncertainty(source_v_pu=0.01)}, "uncertain data"),
        ({"method": "cone", "import_floor_kw": np.ones(1)}, "floors and firm charges"),
    ],
)
def test_what_a_method_cannot_do_is_told(asked, sentence):
    """A sentence each, before anything is computed."""
    from network.reactive import VoltVar

    if asked.get("reactive") == "curve":
        asked = {**asked, "reactive": Reactive(curve=VoltVar.build(1, {0: ((0.9, 1.1), (1.0, -1.0))}))}
    case = (home(), np.zeros((1, 1)), np.zeros((1, 1)), np.full(1, 9.0), Limits(0.9, 1.1, np.inf))
    with pytest.raises(EnvelopeError, match=sentence):
        limits_of(case, **asked)


def test_three_phases_and_weights_are_not_the_cone_programmes():
    """Told in the words of the envelope, not of the solver."""
    line = Line("L", "a", "b", 0.1, 0.1, r0_ohm=0.1, x0_ohm=0.1)
    model = Model(Feeder.build("x", {"a": 400.0, "b": 400.0}, [line], source_bus="a"), [1, 1], ["a", "b"])
    zero, cap = np.zeros((2, 1)), np.ones(2)
    with pytest.raises(EnvelopeError, match=r"calculated with three phases.*weights that differ"):
        compute(model, zero, zero, np.ones(2, dtype=bool), cap, cap, Limits(0.9, 1.1, np.inf), rule="max_total", method="cone",
                weight=[1.0, 2.0])  # fmt: skip


# -- imports that are pinned -------------------------------------------------------------------------------------------


def test_a_pinned_import_below_an_import_floor_is_refused():
    """2 kW are granted in any case, and 1.5 pinned: refused with both; 3 pinned grant more than the floor."""
    case = (home(), np.zeros((1, 1)), np.zeros((1, 1)), np.full(1, 9.0), Limits(0.9, 1.1, np.inf))
    asked = {"mode": "robust_pinned", "import_floor_kw": np.full(1, 2.0)}
    with pytest.raises(
        EnvelopeError, match=r"an import floor of 2 kW above the pinned import limit of 1\.5 kW in interval 0"
    ):
        limits_of(case, pinned_import_kw=1.5, **asked)
    assert limits_of(case, pinned_import_kw=3.0, **asked).import_limit_kw[0, 0] == 3.0
