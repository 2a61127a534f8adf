"""Loads of constant current and between phases: hand calculations, OpenDSS, and who refuses them."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Limits, compute
from network.feeder import Feeder, Line
from network.grid import Bounds, Connections, Device, Grid, HeldLoads, connect
from network.held import HeldError, as_constant_power
from network.linear import linear

NOMINAL_V = 400.0
BASE_OHM = NOMINAL_V**2 / 1e3
"""1 pu of impedance for powers in kW."""


def _line(r_ohm=0.1, x_ohm=0.0):
    """Two buses, three conductors without coupling."""
    return Feeder.build(
        "line",
        {"s": NOMINAL_V, "e": NOMINAL_V},
        [Line("L", "s", "e", r_ohm, x_ohm, r0_ohm=r_ohm, x0_ohm=x_ohm)],
        source_bus="s",
    )


def _held(phases, kw, kvar=0.0, exponent=0.0, bus=1):
    many = len(phases)
    return HeldLoads(
        tuple(f"h{k}" for k in range(many)),
        np.full(many, bus),
        tuple(phases),
        *(np.broadcast_to(np.asarray(one, dtype=np.float64), (many,)).copy() for one in (kw, kvar, exponent)),
    )


def _flow(feeder, held, points=1):
    none = np.zeros((0, points))
    return Model(feeder, [], None, held).solve(none, none)


def test_constant_current_drops_a_constant_voltage():
    """6 kW at nominal voltage on one phase through 0.1 ohm: V = 1 − r p exactly, whatever V is."""
    flow = _flow(_line(), _held(["a"], 6.0, exponent=1.0))
    np.testing.assert_allclose(flow.v_pu[3:, 0], [1 - 0.1 / BASE_OHM * 3 * 6.0, 1.0, 1.0], rtol=0, atol=1e-10)
    assert flow.source_kw[0] == pytest.approx(6.0, abs=1e-8)  # the same current, at the source's nominal voltage
    assert flow.loss_kw.sum() == pytest.approx((6e3 / (NOMINAL_V / 3**0.5)) ** 2 * 0.1 / 1e3, abs=1e-8)


def test_a_load_between_two_phases_is_a_quadratic():
    """9 kW between a and b: the voltage across it is the root of U² − U_0 U + 2 r P = 0; the third phase feels nothing."""
    flow = _flow(_line(), _held(["ab"], 9.0))
    across = NOMINAL_V / 2 + np.sqrt(NOMINAL_V**2 / 4 - 2 * 0.1 * 9e3)
    i = 9e3 / across
    assert flow.current_a[:, 0] == pytest.approx([i, i, 0.0], abs=1e-6)
    assert flow.source_kw[0] == pytest.approx(9.0 + 2 * 0.1 * i**2 / 1e3, abs=1e-7)
    assert flow.v_pu[5, 0] == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_three_alike_between_phases_are_three_alike_in_star(exponent):
    """10 kW and 4 kvar in each leg of a delta draw what they draw in each leg of a star, on a line of its own zero sequence."""
    feeder = Feeder.build(
        "x", {"s": NOMINAL_V, "e": NOMINAL_V}, [Line("L", "s", "e", 0.08, 0.05, r0_ohm=0.3, x0_ohm=0.2)], source_bus="s"
    )
    delta, star = (_flow(feeder, _held(legs, 10.0, 4.0, exponent)) for legs in (["ab", "bc", "ca"], ["a", "b", "c"]))
    np.testing.assert_allclose(delta.v_pu, star.v_pu, rtol=0, atol=1e-9)
    if exponent == 0.0:
        plain = Model(feeder, [1]).solve([[-30.0]], [[-12.0]])
        np.testing.assert_allclose(star.v_pu[3:, 0], plain.v_pu[1, 0], rtol=0, atol=1e-9)
        assert star.source_kw[0] == pytest.approx(plain.source_kw[0], abs=1e-7)


def test_a_point_beyond_the_nose_is_told_and_disturbs_no_other():
    """400 kW between phases has no solution beside a customer who draws; where she feeds in as much in each phase, it has one."""
    held = _held(["ab", "bc", "ca"], 400.0 / 3)
    flow = Model(_line(), [1], None, held).solve([[-100.0, 395.0]], [[0.0, 0.0]])
    assert flow.converged.tolist() == [False, True]
    assert np.isnan(flow.v_pu[:, 0]).all()
    plain = Model(_line(), [1]).solve([[-5.0]], [[0.0]])
    np.testing.assert_allclose(flow.v_pu[3:, 1], plain.v_pu[1, 0], rtol=0, atol=1e-9)


@st.composite
def _drawn(draw):
    """A main line with laterals, and loads of both kinds on phases and between them."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    branches, phases = [], {"s": "abc"}
    for k in range(int(rng.integers(2, 6))):
        above = str(rng.choice([name for name, there in phases.items() if len(there) == 3]))
        here = "abc" if rng.random() < 0.6 or k == 0 else str(rng.choice(["ab", "bc", "ac"]))
        km = rng.uniform(0.02, 0.15)
        mutual = rng.uniform(0.05, 0.15, (3, 3)) * km
        z = (mutual + mutual.T) / 2 * (0.5 + 1j) + np.diag(rng.uniform(0.2, 0.5, 3) * km * (1 + 0.4j))
        matrix = tuple(tuple(row) for row in z)
        branches.append(Line(f"L{k}", above, f"b{k}", 0.3 * km, 0.1 * km, phases=here, z_abc_ohm=matrix))
        phases[f"b{k}"] = here
    feeder = Feeder.build("drawn", dict.fromkeys(phases, NOMINAL_V), branches, source_bus="s", source_v_pu=1.02)
    many, names = int(rng.integers(1, 6)), list(phases)
    bus = rng.integers(1, len(names), many)
    legs = [
        str(rng.choice([leg for leg in ("a", "b", "c", "ab", "bc", "ca") if set(leg) <= set(phases[names[k]])]))
        for k in bus
    ]
    kw, kvar = rng.uniform(-3, 6, many), rng.uniform(-2, 3, many)
    return feeder, HeldLoads(
        tuple(f"h{k}" for k in range(many)), bus, tuple(legs), kw, kvar, rng.integers(0, 2, many).astype(float)
    )


@pytest.mark.skipif(importlib.util.find_spec("dss") is None, reason="OpenDSS is not installed (extra: opendss)")
@settings(max_examples=20, deadline=None)
@given(_drawn())
def test_opendss_agrees(drawn):
    """Random loads of constant power and current, on phases and between them: every voltage to 1e-6 pu."""
    from dss import DSS

    from network.referee_opendss import commands

    feeder, held = drawn
    engine = DSS.NewContext()
    for command in commands(feeder, [], ()):
        engine.Text.Command = command
    for name, bus, leg, kw, kvar, exponent in zip(
        held.id, held.bus, held.phases, held.kw, held.kvar, held.exponent, strict=True
    ):
        nodes = ".".join(str("abc".index(one) + 1) for one in leg)
        kv = NOMINAL_V / 1e3 / (1.0 if len(leg) == 2 else 3**0.5)
        how = f"conn={'delta' if len(leg) == 2 else 'wye'} kV={kv:.17g} model={5 if exponent else 1}"
        engine.Text.Command = f"New Load.{name} phases=1 bus1=b{bus}.{nodes} {how} kW={kw:.17g} kvar={kvar:.17g} vminpu=0 vlowpu=0 vmaxpu=10"
    engine.Text.Command = "Solve"
    circuit = engine.ActiveCircuit
    assert circuit.Solution.Converged
    theirs = dict(zip(circuit.AllNodeNames, circuit.AllBusVmag, strict=True))
    model = Model(feeder, [], None, held)
    flow = model.solve(np.zeros((0, 1)), np.zeros((0, 1)))
    expected = [
        theirs[f"b{bus}.{'abc'.index(phase) + 1}"] * 3**0.5 / NOMINAL_V
        for bus, phase in zip(model.nodes.element, model.nodes.phase, strict=True)
    ]
    np.testing.assert_allclose(flow.v_pu[:, 0], expected, rtol=0, atol=1e-6)


def test_what_asks_for_given_powers_refuses_them():
    """Linear rows, envelopes and single voltages: one sentence that names the loads and says what to do."""
    model = Model(_line(), [1], ["a"], _held(["ab"], 9.0))
    one = np.zeros((1, 1))
    for asked in (
        lambda: linear(model),
        lambda: model.magnitudes([3], one, one),
        lambda: model.fixed_point(np.zeros((3, 1), dtype=complex), np.ones(1), 1e-10),
        lambda: compute(model, one, one, [True], [5.0], [5.0], Limits(0.9, 1.1, 100.0)),
    ):
        with pytest.raises(HeldError, match=r"constant current or between phases \('h0'\).* Write constant_power:"):
            asked()


def test_phases_that_are_not_there_are_told():
    """A load on a phase that does not arrive at its bus is refused with its name."""
    feeder = Feeder.build(
        "x",
        {"s": 400.0, "e": 400.0},
        [Line("L", "s", "e", 0.1, 0.0, r0_ohm=0.1, x0_ohm=0.0, phases="ab")],
        source_bus="s",
    )
    with pytest.raises(HeldError, match="load 'h0' uses phase 'c', which does not arrive at its bus 'e'"):
        Model(feeder, [], None, _held(["ca"], 1.0))


def test_read_as_constant_power_they_are_connections():
    """Half of a load between phases in each of the two, the sum as before, nobody lost, and the provenance says so."""
    feeder, unknown = _line(), np.full(2, np.nan)
    plain = connect([Device("base", "house", 1, 2.0, 0.5, phase="a")])
    grid = Grid(
        feeder, plain, Bounds(unknown, unknown, unknown[:1]), "somewhere", "", _held(["ab", "c"], [9.0, 4.0], 1.0)
    )
    found = as_constant_power(grid)
    c: Connections = found.connections
    assert found.held is None
    assert (c.id, c.phase) == (("house", "h0.a", "h0.b", "h1"), ("a", "a", "b", "c"))
    assert c.base_kw.tolist() == [2.0, 4.5, 4.5, 4.0]
    assert c.base_kvar.tolist() == [0.5, 0.5, 0.5, 1.0]
    assert found.provenance.endswith("read as constant power between phase and neutral")
    assert as_constant_power(found) is found
