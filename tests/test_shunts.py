"""Shunts, banks of single-phase transformers and delta-delta windings: hand calculations, power-grid-model, OpenDSS."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import FlowError, Model
from network.conic import least_losses
from network.csv_feeder import write_folder
from network.envelope import Limits
from network.feeder import Feeder, FeederError, Line, Transformer
from network.grid import Bounds, Grid, SourceError, connect
from network.linear import linear
from network.reduction import reduced_model
from network.referee import RefereeError, check

LEGS = {"star": np.eye(3), "delta": 3 * np.eye(3) - np.ones((3, 3))}
has_opendss = importlib.util.find_spec("dss") is not None


def _feeder(shunts, **more):
    """Three buses of 400 V in a row, with a zero sequence and a capacitance."""
    return Feeder.build(
        "row",
        {"s": 400.0, "m": 400.0, "e": 400.0},
        [
            Line("L0", "s", "m", 0.05, 0.02, r0_ohm=0.2, x0_ohm=0.08, rating_a=200),
            Line("L1", "m", "e", 0.1, 0.05, r0_ohm=0.4, x0_ohm=0.2, rating_a=100, **more),
        ],
        source_bus="s",
        shunts=shunts,
    )


@pytest.mark.parametrize("way", LEGS)
def test_a_capacitor_lifts_the_voltage_as_a_divider(way):
    """30 kvar at 400 V behind z: V = 1 / (1 + z y) with nothing else there, in star or in delta; the source takes |V|² of them."""
    y = 1j * 30e3 / 400.0**2
    feeder = _feeder({"e": y * LEGS[way] / (3 if way == "delta" else 1)})
    assert not feeder.unbalanced
    flow = Model(feeder, [1]).solve([[0.0]], [[0.0]])
    v = abs(1 / (1 + (0.15 + 0.07j) * y))
    assert v > 1
    assert flow.v_pu[2, 0] == pytest.approx(v, abs=1e-12)
    current = v * abs(y) * 400 / 3**0.5
    assert flow.source_kvar[0] == pytest.approx(3 * current**2 * 0.07 / 1e3 - 30 * v**2, abs=1e-9)
    apart = Model(feeder, [1], ["a"]).solve([[0.0]], [[0.0]])
    np.testing.assert_allclose(apart.v_pu[:, 0], np.repeat(flow.v_pu[:, 0], 3), rtol=0, atol=1e-12)


def test_a_load_of_constant_impedance_on_one_phase():
    """5 kW at nominal voltage between a and neutral: r + R divide the voltage, R = V²/P; b and c move by the mutual impedance alone."""
    resistance = (400.0 / 3**0.5) ** 2 / 5e3
    matrix = np.zeros((3, 3))
    matrix[0, 0] = 1 / resistance
    flow = Model(_feeder({"e": matrix}), [1], ["a"]).solve([[0.0]], [[0.0]])
    own, mutual = (0.15 * 2 + 0.6 + 1j * (0.07 * 2 + 0.28)) / 3, (0.6 - 0.15 + 1j * (0.28 - 0.07)) / 3
    i = 1 / (own + resistance)
    turn = np.exp(-2j * np.pi / 3)
    expected = [abs(1 - own * i), abs(turn - mutual * i), abs(turn**2 - mutual * i)]
    np.testing.assert_allclose(flow.v_pu[6:, 0], expected, rtol=0, atol=1e-12)


@st.composite
def _drawn(draw):
    """A random tree with shunts: alike in the phases anywhere, or on single phases."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    n = int(rng.integers(2, 7))
    branches = [
        Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", *rng.uniform(0.02, 0.15, 2), c1_nf=rng.uniform(0, 80),
             r0_ohm=rng.uniform(0.1, 0.4), x0_ohm=rng.uniform(0.1, 0.3), c0_nf=rng.uniform(0, 40))
        for k in range(1, n)
    ]  # fmt: skip
    shunts = {}
    for k in rng.choice(n, int(rng.integers(1, n + 1)), replace=False):
        y = (rng.uniform(0, 5e3, 3) + 1j * rng.uniform(-5e3, 2e4, 3)) / 400.0**2
        shunts[f"b{k}"] = LEGS[str(rng.choice(list(LEGS)))] * y[0] if rng.random() < 0.5 else np.diag(y)
    source = {"source_short_circuit_va": 2e6, "source_rx_ratio": 0.4} if rng.random() < 0.5 else {}
    feeder = Feeder.build(
        "drawn", {f"b{k}": 400.0 for k in range(n)}, branches, source_bus="b0", shunts=shunts, **source
    )
    at, phase = rng.integers(0, n, 4), [str(one) for one in rng.choice(["a", "b", "c", "abc"], 4)]
    return feeder, at, phase, rng.uniform(-6, 6, (2, 4, 3))


@settings(max_examples=30, deadline=None)
@given(_drawn())
def test_power_grid_model_agrees(drawn):
    """Voltages to 1e-8 pu, power of the source to 1e-6 kW, with shunts in star and delta and on single phases."""
    feeder, at, phase, (p, q) = drawn
    for phases in (phase, None):
        model = Model(feeder, at, phases)
        ours, theirs = model.solve(p, q), check(feeder, at, -p, -q, connection_phase=phases)
        assert theirs.converged.all()
        np.testing.assert_allclose(ours.v_pu, theirs.v_pu, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.source_kw, theirs.source_kw, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.source_kvar, theirs.source_kvar, rtol=0, atol=1e-6)
        np.testing.assert_allclose(ours.loss_kw, theirs.loss_kw, rtol=0, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(_drawn())
def test_everything_made_of_the_model_sees_them(drawn):
    """A folded feeder has the same voltages, and linear DistFlow is right where nothing is injected."""
    feeder, at, phase, (p, q) = drawn
    model = Model(feeder, at, phase)
    found, small = reduced_model(model)
    assert {feeder.buses.ids[k] for k in feeder.buses.shunted} <= set(found.feeder.buses.ids)
    full, folded = model.solve(p, q), small.solve(p, q)
    rows = (3 * found.kept[:, None] + np.arange(3)).ravel() if model.three_phase else found.kept  # all on abc: balanced
    np.testing.assert_allclose(folded.v_pu, full.v_pu[rows], rtol=0, atol=1e-9)
    idle = model.solve(0 * p, 0 * q)
    np.testing.assert_allclose(np.sqrt(linear(model).squared_v_free) * feeder.source_v_pu, idle.v_pu[:, 0], atol=1e-12)


@pytest.mark.parametrize("short_circuit_va", [1e16, 2e6])
def test_the_cone_programme_sees_them(short_circuit_va):
    """Least losses with a capacitor and a load of constant impedance: exact, and the AC power flow has the same voltages and losses."""
    y = (4e3 + 8e3j) / 400.0**2
    feeder = replace(
        _feeder({"s": y * np.eye(3), "m": y * np.eye(3), "e": y * LEGS["delta"]}),
        source_short_circuit_va=short_circuit_va,
    )
    model = Model(feeder, [1, 2])
    plan = least_losses(model, [-9.0, -12.0], [-9.0, -12.0], [-5.0, -5.0], [5.0, 5.0], Limits(0.9, 1.1, 100.0))
    assert plan.exact
    np.testing.assert_allclose(plan.v_pu, plan.flow.v_pu[:, 0], rtol=0, atol=1e-6)
    assert plan.loss_kw == pytest.approx(plan.flow.loss_kw.sum(), abs=1e-5)


def _regulated(turns=(1.05, 0.9875, 1.025), phases="abc", windings="", **more):
    """A regulator, or a transformer, between two lines."""
    unit = {"turns": turns, "phases": phases} if turns else {"windings": windings}
    return Feeder.build(
        "regulated",
        {"s": 4160.0, "r": 4160.0, "e": 4160.0 if turns else 480.0},
        [
            Line("L", "s", "r", 0.5, 0.8, r0_ohm=1.5, x0_ohm=2.0),
            Transformer("T", "r", "e", 6000.0, 4160.0, 4160.0 if turns else 480.0, 0.5, 12.0, **unit, **more),
        ],
        source_bus="s",
    )


def test_a_regulator_lifts_each_phase_by_its_turns():
    """Without load 1.05, 0.9875 and 1.025 exactly; with load V = t V' − t² z I of each phase, z at neutral taps."""
    turns = np.array([1.05, 0.9875, 1.025])
    model = Model(_regulated(), [2, 2, 2], ["a", "b", "c"])
    idle = model.solve(np.zeros((3, 1)), np.zeros((3, 1)))
    np.testing.assert_allclose(idle.v_pu[6:, 0], turns, rtol=0, atol=1e-12)
    flow = model.solve([[-300.0], [-100.0], [-200.0]], [[0.0]] * 3)
    z = (0.002 + 1j * np.sqrt(0.005**2 - 0.002**2)) / 2000.0  # pu of 1 kW in a phase
    power = np.array([300.0, 100.0, 200.0])
    v = flow.v_pu[6:, 0]  # at angle 0: V' t = V + t² z P / V
    above = np.abs(v + turns**2 * z * power / v) / turns
    np.testing.assert_allclose(flow.v_pu[3:6, 0], above, rtol=0, atol=1e-9)


@pytest.mark.skipif(not has_opendss, reason="OpenDSS is not installed (extra: opendss)")
@pytest.mark.parametrize("phases", ["abc", "ac", "b"])
def test_banks_of_one_to_three_are_those_of_opendss(phases):
    """Regulators of one, two and three phases, and shunts between any phases, told to OpenDSS by the second referee: 1e-7 pu."""
    from network.referee_opendss import check as second

    turns = tuple(t if one in phases else np.nan for one, t in zip("abc", (1.05, 0.9875, 1.025), strict=True))
    y = np.array([[3, -1, -0.5], [-1, 2, -0.2], [-0.5, -0.2, 1.5]]) * (1e-3 + 4e-3j)
    feeder = _regulated(turns, phases)
    hangs = np.zeros((3, 3, 3), dtype=complex)
    hangs[1] = y
    feeder = replace(feeder, buses=replace(feeder.buses, shunt_siemens=hangs))
    at, drawn = [2] * len(phases), np.linspace(120, 300, len(phases))[:, None]
    ours = Model(feeder, at, list(phases)).solve(-drawn, -0.4 * drawn)
    theirs = second(feeder, at, drawn, 0.4 * drawn, connection_phase=list(phases))
    assert theirs.converged.all()
    np.testing.assert_allclose(ours.v_pu, theirs.v_pu, rtol=0, atol=1e-7)


def test_no_zero_sequence_passes_a_delta_delta_transformer():
    """A load on one phase before it moves the neutral there, and none behind it, where voltages between phases are kept."""
    model = Model(_regulated(None, windings="dd"), [1], ["a"])
    flow_v = np.array([[-400.0]])
    power = model.bus_power(flow_v, flow_v * 0.3)
    load_v, settled, _ = model.fixed_point(power, np.ones(1), 1e-12)
    v = model.voltages(np.conj(power / load_v), np.ones(1)).reshape(3, 3)
    assert settled.all()
    assert abs(v[1].sum()) > 1e-3
    assert abs(v[2].sum()) < 1e-12
    np.testing.assert_allclose(v[2] - np.roll(v[2], 1), v[1] - np.roll(v[1], 1), rtol=0, atol=1e-12)


def test_what_cannot_be_is_told():
    """Shunts on phases that are not there, unsymmetric ones; turns in percent; earth behind a delta; customers there."""
    single = {"phases": "a"}
    with pytest.raises(FeederError, match="the shunt at bus 'e' uses a phase that does not arrive there"):
        _feeder({"e": np.eye(3)}, **single)
    with pytest.raises(FeederError, match="bus 'm' has a shunt that is not finite, or not symmetric"):
        _feeder({"m": np.array([[1, 2, 0], [0, 1, 0], [0, 0, 1.0]])})
    with pytest.raises(FeederError, match="a shunt hangs on bus 'nowhere', which is not listed"):
        _feeder({"nowhere": np.eye(3)})
    with pytest.raises(FeederError, match=r"has the turns 5, 8, 11; expected 0\.5 to 1\.5"):
        _regulated((5.0, 8.0, 11.0))
    with pytest.raises(FeederError, match="belong to a star-star transformer of clock number 0"):
        _regulated(clock=1)
    with pytest.raises(FeederError, match='expected "dd" for a delta-delta transformer of an even'):
        _regulated(None, windings="dd", clock=1)
    behind = _regulated(None, windings="dd")
    with pytest.raises(
        FeederError, match="bus 'e' lies behind a delta winding, which has no earth, and its shunt is joined to it"
    ):
        replace(
            behind, buses=replace(behind.buses, shunt_siemens=np.array([np.zeros((3, 3)), np.zeros((3, 3)), np.eye(3)]))
        )
    with pytest.raises(FlowError, match=r"connection 0 \(bus 'e'\) lies behind a delta winding"):
        Model(behind, [2], ["a"])


def test_small_impedances_are_regulators_or_fractions_given_as_percent():
    """0.04 % is refused of a transformer and taken of a bank; 0.01 %, as regulators and ideal transformers have it, of both; 0 of none."""
    pair = {"s": 4160.0, "e": 4160.0}
    for turns, uk, taken in (
        (None, 0.04, False),
        ((1.0, 1.0, 1.0), 0.04, True),
        (None, 0.01, True),
        ((1.0, 1.0, 1.0), 0.0, False),
    ):
        trafo = Transformer("T", "s", "e", 6000.0, 4160.0, 4160.0, uk, 0.0, turns=turns)
        if taken:
            assert Feeder.build("x", pair, [trafo], source_bus="s").n_branch == 1
        else:
            with pytest.raises(FeederError, match=f"has uk = {uk:g} %"):
                Feeder.build("x", pair, [trafo], source_bus="s")


def test_who_has_no_place_for_them_says_so(tmp_path):
    """power-grid-model has no banks, no delta-delta and no shunts between two phases; CSV tables have no columns for any of it."""
    between = np.zeros((3, 3))
    between[:2, :2] = [[1e-3, -1e-3], [-1e-3, 1e-3]]
    nobody = np.zeros((1, 1))
    for feeder, what in (
        (_regulated(), "banks of single-phase transformers ('T')"),
        (_regulated(None, windings="dd"), "delta-delta transformers ('T')"),
        (_feeder({"e": between}), "shunts between unlike phases at bus 'e'"),
    ):
        with pytest.raises(RefereeError, match=r"which power-grid-model does not know\. Ask OpenDSS") as caught:
            check(feeder, [1], nobody, nobody, connection_phase=["a"])
        assert what in str(caught.value)
        unknown = np.full(feeder.n_bus, np.nan)
        grid = Grid(feeder, connect([]), Bounds(unknown, unknown, unknown[: feeder.n_branch]), "", "")
        with pytest.raises(SourceError, match="CSV tables have no columns for"):
            write_folder(grid, tmp_path)
