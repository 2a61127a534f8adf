"""Reactive power that follows the voltage, found together with the voltages."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import FlowError, Model
from network.feeder import Feeder, Line
from network.reactive import CurveError, VoltVar
from network.referee import check

USUAL = [0.92, 0.98, 1.02, 1.08]


def two_bus(r_ohm=0.2, x_ohm=0.3):
    return Feeder.build("two", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", r_ohm, x_ohm)], source_bus="a")


def voltage_by_hand(p_kw, q_kvar, r_ohm, x_ohm):
    """The larger root of the two-bus quadratic, 0 beyond the nose; 400 V and 1 kVA: 160 ohm."""
    r, x = r_ohm / 160, x_ohm / 160
    half = (1 + 2 * (r * p_kw + x * q_kvar)) / 2
    root = half**2 - (r**2 + x**2) * (p_kw**2 + q_kvar**2)
    return math.sqrt(half + math.sqrt(root)) if root >= 0 else 0.0


@settings(max_examples=60, deadline=None)
@given(st.floats(-30, 30), st.floats(0.5, 300), st.floats(0.05, 0.3))
def test_it_is_where_curve_and_quadratic_cross(p_kw, most, x_ohm):
    """Bisection on q = curve(v(q)) by hand, for curves up to a hundred times steeper than usual."""
    curve = VoltVar.build(1, {0: (USUAL, [most, 0.0, 0.0, -most])})
    low, high = -most, most
    for _ in range(100):
        q = (low + high) / 2
        wanted = float(np.interp(voltage_by_hand(p_kw, q, 0.2, x_ohm), USUAL, [most, 0, 0, -most]))
        low, high = (q, high) if wanted > q else (low, q)

    flow = Model(two_bus(0.2, x_ohm), [1]).solve([[p_kw]], [[0.0]], curve=curve)

    assert flow.converged.all()
    assert flow.v_pu[1, 0] == pytest.approx(voltage_by_hand(p_kw, q, 0.2, x_ohm), abs=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(1, 40))
def test_many_curves_on_a_random_feeder_are_confirmed_by_power_grid_model(seed, most):
    """Given what the curves say at the voltages found, power-grid-model finds these voltages; three single-phase and one in all."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 8))
    lines = [
        Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", *rng.uniform(0.01, 0.06, 2).tolist(), r0_ohm=0.1, x0_ohm=0.05, c0_nf=0.0)
        for k in range(1, n)
    ]  # fmt: skip
    feeder = Feeder.build("drawn", {f"b{k}": 400.0 for k in range(n)}, lines, source_bus="b0", source_v_pu=1.03)
    at, phase = rng.integers(1, n, 4), ["a", "b", "c", "abc"]
    curve = VoltVar.build(4, {k: (USUAL, [most, 0.0, 0.0, -most]) for k in (0, 1, 3)})
    p = rng.uniform(-8, 12, (4, 5))
    q = 0.1 * p

    model = Model(feeder, at, phase)
    flow = model.solve(p, q, curve=curve)
    assert flow.converged.all()
    v = flow.v_pu.reshape(n, 3, 5)
    watched = np.stack([v[at[0], 0], v[at[1], 1], v[at[2], 2], v[at[3]].mean(axis=0)])
    told = check(feeder, at, -p, -(q + curve.q_at(watched)), connection_phase=phase)

    np.testing.assert_allclose(flow.v_pu, told.v_pu, rtol=0, atol=1e-8)


def test_without_a_solution_it_fails_closed():
    """Beyond the nose no curve helps: NaN and False there, its neighbour as alone."""
    curve = VoltVar.build(1, {0: (USUAL, [5.0, 0.0, 0.0, -5.0])})
    model = Model(two_bus(), [1])

    flow, alone = (
        model.solve([[-2000.0, -10.0]], [[0.0, 0.0]], curve=curve),
        model.solve([[-10.0]], [[0.0]], curve=curve),
    )

    assert flow.converged.tolist() == [False, True]
    assert np.isnan(flow.v_pu[:, 0]).all()
    np.testing.assert_array_equal(flow.v_pu[:, 1], alone.v_pu[:, 0])


def test_what_is_no_curve_is_told():
    """Knots that fall, jump, are not numbers or are too few: a sentence each."""
    with pytest.raises(CurveError, match=r"connection 0: the voltages of the knots are \[1.02, 0.98\]; they must rise"):
        VoltVar([[1.02, 0.98]], [[0.0, 1.0]])
    with pytest.raises(CurveError, match="they must rise"):
        VoltVar([[1.0, 1.0]], [[0.0, 1.0]])
    with pytest.raises(CurveError, match="expected finite numbers"):
        VoltVar([[1.0, math.nan]], [[0.0, 1.0]])
    with pytest.raises(CurveError, match=r"there is no connection 3 among 2; connection 1: 2 voltages and 1 reactive"):
        VoltVar.build(2, {3: ([1.0], [0.0]), 1: ([1.0, 1.1], [0.0])})
    with pytest.raises(FlowError, match="2 volt-var curves for 1 connections"):
        Model(two_bus(), [1]).solve([[0.0]], [[0.0]], curve=VoltVar.build(2, {}))
