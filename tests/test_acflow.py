"""The AC power flow is the exact one: by hand, golden, and against power-grid-model."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from network import referee
from network.acflow import FlowError, Model
from network.feeder import Feeder, Line, Transformer
from network.ladder import Answer, ladder
from network.twoport import two_ports

IEEE33 = Path(__file__).parent / "golden" / "ieee33"
COLUMNS = ("p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw", "source_kw", "source_kvar")


def ieee33():
    with (IEEE33 / "lines.csv").open() as file:
        lines = [
            Line(
                r["line_id"],
                r["from_bus"],
                r["to_bus"],
                float(r["r1_ohm"]),
                float(r["x1_ohm"]),
                in_service=r["in_service"] == "true",
            )
            for r in csv.DictReader(file)
        ]
    with (IEEE33 / "loads.csv").open() as file:
        loads = [(r["bus_id"], float(r["p_kw"]), float(r["q_kvar"])) for r in csv.DictReader(file)]
    feeder = Feeder.build("33", {str(k): 12660.0 for k in range(1, 34)}, lines, source_bus="1")
    where = [feeder.bus_index(bus) for bus, _, _ in loads]
    return feeder, where, np.array([[p] for _, p, _ in loads]), np.array([[q] for _, _, q in loads])


@st.composite
def feeders(draw):
    """A 20 kV cable with capacitance, a transformer with a tap and any clock, and any tree of 400 V cables behind it."""
    n = draw(st.integers(1, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    buses = {"grid": 20e3, "mv": 20e3} | {f"b{k}": 400.0 for k in range(n)}
    clock = draw(st.integers(-12, 12))
    side = draw(st.sampled_from(["", "from", "to"]))
    sn = float(rng.uniform(100, 630))
    uk, p0 = float(rng.uniform(3, 6)), float(rng.uniform(0.2, 1))
    reverse = draw(st.booleans())  # a transformer may be listed with its low side first
    ends, volts = (("b0", "mv"), (400.0, 20.4e3)) if reverse else (("mv", "b0"), (20.4e3, 400.0))
    branches = [
        Line(
            "cable", *draw(st.permutations(["grid", "mv"])), 0.8, 0.4, rating_a=200, c1_nf=float(rng.uniform(0, 2000))
        ),
        Transformer(
            *("T", *ends, sn, *volts, uk, float(rng.uniform(0.2, 0.9)) * uk / 100 * sn),
            *(float(p0 / sn * 100 * rng.uniform(1, 4)), p0, clock, side, draw(st.integers(-3, 3)), 2.5),
        ),
    ]
    for k in range(1, n):
        pair = [f"b{draw(st.integers(0, k - 1))}", f"b{k}"]
        ohm = rng.uniform(0.002, 0.03, 2)
        branches.append(
            Line(f"L{k}", *draw(st.permutations(pair)), *ohm.tolist(), rating_a=270, c1_nf=float(rng.uniform(0, 200)))
        )
    branches.append(
        Line("open", "b0", f"b{n - 1}", 0.1, 0.1, in_service=False)
        if n > 1
        else Line("open", "mv", "grid", 0.1, 0.1, in_service=False)
    )
    feeder = Feeder.build(
        "random",
        buses,
        branches,
        source_bus="grid",
        source_v_pu=float(rng.uniform(0.97, 1.03)),
        source_short_circuit_va=draw(st.sampled_from([1e16, 1e8, 2e7])),
        source_rx_ratio=float(rng.uniform(0, 1)),
    )
    connections = rng.integers(0, feeder.n_bus, draw(st.integers(1, 12)))  # several on one bus, some at the source
    points = draw(st.integers(1, 4))
    p = rng.normal(0, 8, (connections.size, points))
    return feeder, connections, p, p * rng.normal(0.1, 0.3, p.shape), rng.uniform(0.97, 1.03, points)


def agree(ours, theirs):
    """Voltages within 1e-8 pu, everything else within 1e-6 of its own size."""
    assert ours.converged.all()
    assert theirs.converged.all()
    assert np.abs(ours.v_pu - theirs.v_pu).max() < 1e-8
    for name in COLUMNS:
        one, other = getattr(ours, name), getattr(theirs, name)
        assert np.abs(one - other).max(initial=0.0) < 1e-6 * max(1.0, np.abs(other).max(initial=0.0)), name


@settings(deadline=None)
@given(st.floats(0.001, 0.5), st.floats(0, 0.5), st.floats(-40, 40), st.floats(-20, 20), st.floats(0.95, 1.05))
def test_two_buses_are_the_textbook_quadratic(r_ohm, x_ohm, p_kw, q_kvar, v_source):
    """v² − (v0 + 2(rP + xQ)) v + (r² + x²)(P² + Q²) = 0, v the squared voltage, P and Q injected; its larger root."""
    r, x = r_ohm / 160, x_ohm / 160  # 400 V and 1 kVA: 160 ohm
    half = (v_source**2 + 2 * (r * p_kw + x * q_kvar)) / 2
    root = half**2 - (r**2 + x**2) * (p_kw**2 + q_kvar**2)
    assume(half > 0.3 and root > 0.05)  # away from the nose of the curve
    feeder = Feeder.build("two", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", r_ohm, x_ohm)], source_bus="a")

    flow = Model(feeder, [1]).solve([[p_kw]], [[q_kvar]], v_source)

    assert flow.converged.all()
    assert flow.v_pu[1, 0] == pytest.approx(math.sqrt(half + math.sqrt(root)), abs=1e-9)
    assert flow.loss_kw[0, 0] == pytest.approx(r * (p_kw**2 + q_kvar**2) / flow.v_pu[1, 0] ** 2, abs=1e-7)


def test_the_33_bus_feeder_has_the_losses_of_the_literature():
    """Baran and Wu's feeder: 202.6771 kW, 135.1410 kvar, 0.9130905 pu at bus 18."""
    feeder, where, load_kw, load_kvar = ieee33()
    expected = json.loads((IEEE33 / "expected.json").read_text())

    flow = Model(feeder, where).solve(-load_kw, -load_kvar)

    assert flow.loss_kw.sum() == pytest.approx(expected["loss_kw"], abs=5e-5)
    assert flow.source_kw[0] - load_kw.sum() == pytest.approx(expected["loss_kw"], abs=5e-5)
    assert flow.source_kvar[0] - load_kvar.sum() == pytest.approx(expected["loss_kvar"], abs=5e-5)
    assert flow.v_pu.min() == pytest.approx(expected["v_min_pu"], abs=5e-8)
    assert feeder.buses.ids[flow.v_pu[:, 0].argmin()] == expected["v_min_bus"]
    agree(flow, referee.check(feeder, where, load_kw, load_kvar))


@settings(max_examples=150, deadline=None)
@given(feeders())
def test_random_feeders_agree_with_power_grid_model(case):
    """Taps on either side, every clock, shunts, source impedance, shared buses: voltages to 1e-8, powers to 1e-6."""
    feeder, connections, p, q, v = case

    agree(Model(feeder, connections).solve(p, q, v), referee.check(feeder, connections, -p, -q, v))


@pytest.mark.parametrize(
    "change", [{"tap_position": 1.0}, {"uk_percent": 4.1}, {"c1_nf": 5e4}, {"i0_percent": 1.0}, {"r1_ohm": 0.012}]
)
def test_the_comparison_sees_a_small_change(change):
    """The agreement above can fail: one tap, 0.1 % of uk, 0.05 mF, half a percent of i0 or 2 milliohm break it."""
    feeder = Feeder.build(
        "small",
        {"s": 20e3, "a": 400.0, "b": 400.0},
        [
            Transformer("T", "s", "a", 400, 20e3, 400, 4, 4.6, 0.5, 0.6, 5, "from", 0, 2.5),
            Line("L", "a", "b", 0.01, 0.005, c1_nf=100),
        ],
        source_bus="s",
    )
    columns = {
        name: np.where(np.isnan(getattr(feeder.branches, name)), np.nan, value) for name, value in change.items()
    }
    changed = dataclasses.replace(feeder, branches=dataclasses.replace(feeder.branches, **columns))
    p, q = np.array([[20.0]]), np.array([[5.0]])

    with pytest.raises(AssertionError):
        agree(Model(changed, [2]).solve(p, q), referee.check(feeder, [2], -p, -q))


def test_a_real_low_voltage_grid_agrees_with_power_grid_model():
    """SimBench rural3 with its tap, 118 connections, from heavy load to heavy feed-in."""
    from network.sources import read

    grid = read("simbench:1-LV-rural3--2-no_sw")
    where = grid.connections.bus
    rng = np.random.default_rng(3)
    p = rng.normal(np.linspace(-4, 4, 24), 2.0, (len(where), 24))
    q = 0.3 * rng.normal(0, 1, p.shape)

    flow = Model(grid.feeder, where).solve(p, q)

    agree(flow, referee.check(grid.feeder, where, -p, -q))
    assert flow.v_pu[1:].min() < 1.025
    assert flow.v_pu.max() > 1.07


@settings(deadline=None)
@given(feeders())
def test_w_and_z_invert_the_admittance_matrix(case):
    """The walk along the tree gives what a dense inverse gives."""
    feeder, connections, *_ = case
    ports, columns = two_ports(feeder), np.unique(connections)
    found = ladder(feeder, ports)
    w, z = found.w, found.matrix(columns)

    y = np.zeros((feeder.n_bus, feeder.n_bus), dtype=complex)
    for k, (i, j) in enumerate(zip(feeder.branches.from_bus, feeder.branches.to_bus, strict=True)):
        y[i, i] += ports.from_from[k]
        y[i, j] += ports.from_to[k]
        y[j, i] += ports.to_from[k]
        y[j, j] += ports.to_to[k]
    impedance = 1e3 / feeder.source_short_circuit_va * (feeder.source_rx_ratio + 1j) / abs(feeder.source_rx_ratio + 1j)
    y[feeder.source_bus, feeder.source_bus] += 1 / impedance
    unit = np.zeros(feeder.n_bus, dtype=complex)
    unit[feeder.source_bus] = 1 / impedance

    np.testing.assert_allclose(w, np.linalg.solve(y, unit), rtol=1e-8)
    np.testing.assert_allclose(z, np.linalg.inv(y)[:, columns], rtol=1e-7, atol=1e-7 * np.abs(z).max() + 2e-13)


@settings(deadline=None)
@given(feeders())
def test_the_walk_along_the_tree_multiplies_by_z(case):
    """Many columns take the walk, few the matrix: the same voltages."""
    feeder, connections, *_ = case
    columns, rows = np.unique(connections), np.arange(feeder.n_bus)[::2]
    answer = Answer(ladder(feeder, two_ports(feeder)), columns, rows)
    rng = np.random.default_rng(0)
    current = rng.normal(0, 1, (len(columns), 40)) + 1j * rng.normal(0, 1, (len(columns), 40))
    answer._few = 0

    np.testing.assert_allclose(answer.to(current), answer.matrix @ current, rtol=1e-9, atol=1e-15)


@settings(deadline=None)
@given(feeders())
def test_power_is_conserved(case):
    """What the source gives and the connections inject is lost in the branches, to the last digit."""
    feeder, connections, p, q, v = case

    flow = Model(feeder, connections).solve(p, q, v)

    np.testing.assert_allclose(flow.source_kw + p.sum(axis=0), flow.loss_kw.sum(axis=0), atol=1e-6)
    assert (flow.loss_kw >= -1e-9).all()
    assert (flow.loading_percent[feeder.branches.ids.index("open")] == 0).all()
    assert (flow.current_a[feeder.branches.ids.index("open")] == 0).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_feeding_in_lowers_no_voltage(seed, n):
    """On a balanced feeder of ordinary cables, a kilowatt more anywhere lowers no voltage."""
    rng = np.random.default_rng(seed)
    r = rng.uniform(0.005, 0.05, n)
    lines = [
        Line(f"L{k}", f"{rng.integers(0, k)}", f"{k}", r[k - 1], r[k - 1] * rng.uniform(0.1, 1.0))
        for k in range(1, n + 1)
    ]
    feeder = Feeder.build("cables", {f"{k}": 400.0 for k in range(n + 1)}, lines, source_bus="0")
    p = rng.uniform(-3, 3, (n, 1))
    more = p + np.eye(n)

    model = Model(feeder, np.arange(1, n + 1))

    assert (model.solve(more, 0 * more).v_pu >= model.solve(p, 0 * p).v_pu - 1e-9).all()


def two_bus():
    return Feeder.build("two", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.4, 0.1, rating_a=100)], source_bus="a")


def test_a_column_without_solution_disturbs_no_other():
    """A thousand kilowatt through 0.4 ohm has no solution: NaN and False there, all else as without it."""
    p = np.array([[-5.0, -1000.0, 7.0, -12.0]])
    model = Model(two_bus(), [1])

    flow, alone = model.solve(p, 0 * p), model.solve(p[:, [0, 2, 3]], 0 * p[:, [0, 2, 3]])

    assert flow.converged.tolist() == [True, False, True, True]
    for name in ("v_pu", *COLUMNS):
        column = np.atleast_2d(getattr(flow, name))
        assert np.isnan(column[:, 1]).all(), name
        np.testing.assert_allclose(column[:, [0, 2, 3]], np.atleast_2d(getattr(alone, name)), atol=1e-9)


def test_connections_at_one_bus_add_up():
    """Two homes at a bus are one home of both."""
    model, whole = Model(two_bus(), [1, 1]), Model(two_bus(), [1])

    flow = model.solve([[3.0], [-8.0]], [[1.0], [0.5]])

    np.testing.assert_array_equal(flow.v_pu, whole.solve([[-5.0]], [[1.5]]).v_pu)


def test_the_order_of_connections_does_not_matter():
    """Rows may be listed in any order."""
    feeder, where, load_kw, load_kvar = ieee33()
    turned = np.random.default_rng(1).permutation(len(where))

    one = Model(feeder, where).solve(-load_kw, -load_kvar)
    other = Model(feeder, np.array(where)[turned]).solve(-load_kw[turned], -load_kvar[turned])

    np.testing.assert_allclose(one.v_pu, other.v_pu, atol=1e-13)


def test_a_batch_is_its_columns():
    """However the batch is cut, every operating point comes out the same."""
    feeder, where, load_kw, load_kvar = ieee33()
    scale = np.linspace(-2.0, 1.5, 300)
    p, q = -load_kw * scale, -load_kvar * scale
    model, whole = Model(feeder, where), Model(feeder, where)
    model.chunk, whole.chunk = 64, 1000

    batch = model.solve(p, q)

    np.testing.assert_allclose(batch.v_pu, whole.solve(p, q).v_pu, atol=1e-9)
    for k in (0, 63, 64, 299):
        np.testing.assert_allclose(batch.v_pu[:, [k]], model.solve(p[:, [k]], q[:, [k]]).v_pu, atol=1e-9)


def test_a_tap_on_the_high_side_lifts_the_low_side():
    """One step of −2.5 % of the winding at 20 kV: without load, 1.025 / 0.975."""
    trafo = Transformer(
        "T", "s", "a", 400, 20e3, 400, 4, 4.6, clock=5, tap_side="from", tap_position=-1, tap_step_percent=2.5
    )
    feeder = Feeder.build("tap", {"s": 20e3, "a": 400.0}, [trafo], source_bus="s", source_v_pu=1.025)

    flow = Model(feeder, [1]).solve([[0.0]], [[0.0]])

    assert flow.v_pu[1, 0] == pytest.approx(1.025 / 0.975, abs=1e-12)


def test_nobody_connected_and_no_operating_point_are_ordinary():
    """An empty community has no-load voltages; an empty batch has no columns."""
    empty = Model(two_bus(), []).solve(np.empty((0, 3)), np.empty((0, 3)))
    none = Model(two_bus(), [1]).solve(np.empty((1, 0)), np.empty((1, 0)))

    assert empty.v_pu.tolist() == [[1.0] * 3] * 2
    assert empty.converged.all()
    assert none.v_pu.shape == (2, 0)


def test_bad_operating_points_are_told():
    """NaN, a wrong shape, an unknown bus, a source without voltage."""
    model = Model(two_bus(), [1])
    with pytest.raises(FlowError, match=r"injection_kw is nan for connection 0 \(bus 'b'\) at operating point 1"):
        model.solve([[1.0, math.nan]], [[0.0, 0.0]])
    with pytest.raises(FlowError, match="injection_kvar is inf"):
        model.solve([[1.0]], [[math.inf]])
    with pytest.raises(FlowError, match=r"injection_kw has shape \(2, 1\)"):
        model.solve([[1.0], [1.0]], [[0.0], [0.0]])
    with pytest.raises(FlowError, match=r"injection_kvar has shape \(1, 2\)"):
        model.solve([[1.0]], [[0.0, 0.0]])
    with pytest.raises(FlowError, match="connection 1 stands at bus number 2"):
        Model(two_bus(), [1, 2])
    with pytest.raises(FlowError, match="source_v_pu must be positive"):
        model.solve([[1.0]], [[0.0]], math.nan)
    with pytest.raises(FlowError, match="source_v_pu has shape"):
        model.solve([[1.0]], [[0.0]], [1.0, 1.0])
