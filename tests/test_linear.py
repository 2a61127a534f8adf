"""Linear DistFlow is the textbook's, generalised, and the AC power flow's tangent at no load."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.feeder import Feeder, Line, Transformer
from network.linear import linear, rows


def two_in_a_row(**changed):
    """400 V and 1 kVA make a base of 160 ohm; the first line may have a rating."""
    lines = [Line("L1", "a", "b", 0.16, 0.08, **changed), Line("L2", "b", "c", 0.32, 0.16, rating_a=270)]
    return Feeder.build("row", {"a": 400.0, "b": 400.0, "c": 400.0}, lines, source_bus="a")


def with_everything():
    """A cable with capacitance, a transformer with a tap, a shunt and a phase shift, two cables; a source impedance."""
    return Feeder.build(
        "all",
        {"s": 20e3, "m": 20e3, "a": 400.0, "b": 400.0, "c": 400.0},
        [
            Line("L0", "s", "m", 0.5, 0.3, rating_a=200, c1_nf=1000),
            Transformer("T", "m", "a", 400, 20e3, 400, 4, 4.6, 0.5, 0.6, 5, "from", -2, 2.5),
            Line("L1", "a", "b", 0.03, 0.01, rating_a=270, c1_nf=200),
            Line("L2", "c", "a", 0.05, 0.02, rating_a=270, c1_nf=300),
        ],
        source_bus="s",
        source_v_pu=1.02,
        source_short_circuit_va=5e7,
    )


def test_without_taps_and_shunts_it_is_the_textbook():
    """A = 2R and B = 2X of the common path, K = −1 behind a branch and 0 beside it: two lines in a row."""
    found = linear(Model(two_in_a_row(), [1, 2]))

    np.testing.assert_allclose(found.squared_v_free, [1, 1, 1])
    np.testing.assert_allclose(found.squared_v_per_kw, 2 * np.array([[0, 0], [1, 1], [1, 3]]) * 1e-3, atol=1e-15)
    np.testing.assert_allclose(found.squared_v_per_kvar, found.squared_v_per_kw / 2, atol=1e-15)
    np.testing.assert_allclose(found.flow_per_kva, [[-1, -1], [0, -1]], atol=1e-9)
    np.testing.assert_allclose(found.flow_free_kva, 0, atol=1e-9)


def test_it_is_the_tangent_of_the_power_flow_at_no_load():
    """Taps, shunts, phase shift, source impedance: a watt more is what the coefficients say, in voltages and flows."""
    feeder = with_everything()
    model = Model(feeder, [2, 3, 4])
    found, watt, source = linear(model), 1e-3, np.array([feeder.source_v_pu])
    for kw, kvar in ((watt, 0.0), (0.0, watt)):
        p, q = kw * np.eye(3), kvar * np.eye(3)
        up, down = model.solve(p, q, tolerance_pu=1e-15), model.solve(-p, -q, tolerance_pu=1e-15)
        tangent = found.squared_v_per_kw if kw else found.squared_v_per_kvar
        np.testing.assert_allclose((up.v_pu**2 - down.v_pu**2) / (2 * watt), tangent, atol=2e-9)
        flow = (up.p_kw - down.p_kw + 1j * (up.q_kvar - down.q_kvar)) / (2 * watt)
        np.testing.assert_allclose(flow, found.flow_per_kva * (1 if kw else 1j), atol=0.01)  # its tangent moves V too
    idle = model.solve(np.zeros((3, 1)), np.zeros((3, 1)))
    np.testing.assert_allclose(found.squared_v(np.zeros((3, 1)), np.zeros((3, 1)), source), idle.v_pu**2, atol=1e-12)
    flow = found.flow_kva(np.zeros((3, 1)), np.zeros((3, 1)), source)
    np.testing.assert_allclose(flow, idle.p_kw + 1j * idle.q_kvar, atol=1e-7)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_it_never_finds_a_voltage_too_low(seed, n):
    """The losses are left out, so linear voltages are on or above the true ones (Gan and Low)."""
    rng = np.random.default_rng(seed)
    ohm = rng.uniform(0.002, 0.04, (2, n + 1))
    lines = [Line(f"L{k}", f"{rng.integers(0, k)}", f"{k}", ohm[0, k], ohm[1, k]) for k in range(1, n + 1)]
    feeder = Feeder.build("cables", {f"{k}": 400.0 for k in range(n + 1)}, lines, source_bus="0")
    p, q = rng.normal(0, 5, (n, 3)), rng.normal(0, 2, (n, 3))
    model = Model(feeder, np.arange(1, n + 1))

    exact = model.solve(p, q)

    assert exact.converged.all()
    assert (linear(model).squared_v(p, q, np.ones(3)) >= exact.v_pu**2 - 1e-9).all()


def test_rows_say_what_they_limit():
    """One row for each bound of a monitored bus, two for each branch with a rating."""
    found = rows(
        Model(two_in_a_row(), [1, 2]),
        np.zeros((2, 1)),
        v_min_pu=0.9,
        v_max_pu=[np.inf, 1.05, 1.1],
        loading_max_percent=100.0,
        monitored=[False, True, True],
    )

    assert found.kind == ("over_voltage",) * 2 + ("under_voltage",) * 2 + ("overload",) * 2
    assert found.element == ("b", "c", "b", "c", "L2", "L2")
    np.testing.assert_allclose(found.b[:4, 0], [1.05**2 - 1, 1.1**2 - 1, 1 - 0.9**2, 1 - 0.9**2])
    np.testing.assert_allclose(found.b[4:, 0], 270 * 400 * np.sqrt(3) / 1e3)
    np.testing.assert_allclose(found.a_kw[4:], [[0, -1], [0, 1]], atol=1e-9)


def test_rows_are_kept_where_the_linear_power_flow_keeps_the_limits():
    """a·p <= b and the voltages and flows of the same linear model say the same, reactive power and source included."""
    feeder = with_everything()
    model = Model(feeder, [2, 3, 4])
    rng = np.random.default_rng(2)
    p, q = rng.normal(0, 60, (3, 400)), rng.normal(0, 20, (3, 400))
    source = rng.uniform(0.98, 1.04, 400)
    found = rows(model, q, v_min_pu=0.98, v_max_pu=1.1, loading_max_percent=[2, 40, 50, 50], source_v_pu=source)
    kept = found.a_kw @ p <= found.b
    parts = linear(model)
    squared_v, flow = parts.squared_v(p, q, source), parts.flow_kva(p, q, source)
    limit = parts.rated_kva[:, None] * np.array([[0.02], [0.4], [0.5], [0.5]])
    limit = limit * np.where(feeder.branches.is_line[:, None], source, 1.0)

    for bus in range(5):
        assert (kept[bus] == (squared_v[bus] <= 1.1**2)).all()
        assert (kept[5 + bus] == (squared_v[bus] >= 0.98**2)).all()
    for branch in range(4):
        both = kept[10 + branch] & kept[14 + branch]
        agreed = both == (np.abs(flow[branch]) <= limit[branch])
        assert agreed.mean() > 0.98  # the imaginary part of K p is left out of the room for q
        assert 0 < both.sum() < 400


def test_a_tight_row_is_a_full_branch():
    """Where a row is met with equality, the flow is the limit: idle losses, charging and reactive power included."""
    feeder = with_everything()
    model = Model(feeder, [2])
    q, source = np.array([[25.0]]), np.array([1.01])
    found, parts = rows(model, q, loading_max_percent=40.0, source_v_pu=source), linear(model)
    trafo = [k for k, element in enumerate(found.element) if element == "T"]

    for k in trafo:
        full = parts.flow_kva(found.b[[k]] / found.a_kw[k], q, source)[1, 0]
        assert abs(full) == pytest.approx(0.4 * 400.0, rel=2e-4)
    assert found.b[trafo[0], 0] != pytest.approx(found.b[trafo[1], 0], rel=2e-3)  # the transformer's own losses


def test_reactive_power_alone_can_be_too_much():
    """60 kvar over a line of 50 kVA: no active power satisfies both rows."""
    model = Model(two_in_a_row(rating_a=50e3 / 400 / np.sqrt(3)), [1])

    found = rows(model, [[60.0]], loading_max_percent=100.0)

    pair = [k for k, element in enumerate(found.element) if element == "L1"]
    assert (found.a_kw[pair, 0] * np.array([-1.0, 1.0])) == pytest.approx([1.0, 1.0])
    assert found.b[pair].sum() < 0


def test_a_branch_out_of_service_has_no_row():
    """Neither has one without a rating."""
    spare = [
        Line("L1", "a", "b", 0.1, 0.1, rating_a=100),
        Line("spare", "a", "b", 0.1, 0.1, rating_a=100, in_service=False),
    ]
    feeder = Feeder.build("spare", {"a": 400.0, "b": 400.0}, spare, source_bus="a")

    assert rows(Model(feeder, [1]), [[0.0]], loading_max_percent=100.0).element == ("L1", "L1")
