"""The IEEE 13 and 123 node test feeders: every voltage as OpenDSS has it, and the published figures."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from network.acflow import Model
from network.sources import read

dss = pytest.importorskip("dss", reason="OpenDSS is not installed (extra: opendss)")

DATA = Path(__file__).resolve().parents[1] / "network" / "data"


def _solved(source):
    grid = read(source)
    c = grid.connections
    model = Model(grid.feeder, c.bus, c.phase, grid.held)
    return grid, model, model.solve(-c.base_kw[:, None], -c.base_kvar[:, None])


def _by_opendss(path):
    """Return what OpenDSS itself finds, its controls done: voltages by node [V], power of the source and losses [kW]."""
    engine = dss.DSS.NewContext()
    engine.AllowChangeDir = False
    for command in (f'Redirect "{path}"', "Set MaxControlIter=100", "Solve", "Set ControlMode=Off",
                    "Set Tolerance=1e-12 MaxIterations=500", "Solve"):  # fmt: skip
        engine.Text.Command = command
    circuit = engine.ActiveCircuit
    assert circuit.Solution.Converged
    volts = dict(zip(circuit.AllNodeNames, circuit.AllBusVmag, strict=True))
    return volts, -complex(*circuit.TotalPower), circuit.Losses[0] / 1e3


def _agrees(path):
    grid, model, flow = _solved(path)
    volts, source, loss_kw = _by_opendss(path)
    buses = grid.feeder.buses
    expected = [
        volts[f"{buses.ids[bus]}.{'abc'.index(phase) + 1}"] * np.sqrt(3) / buses.v_nominal_v[bus]
        for bus, phase in zip(model.nodes.element, model.nodes.phase, strict=True)
    ]
    assert len(expected) == len(volts)
    np.testing.assert_allclose(flow.v_pu[:, 0], expected, rtol=0, atol=1e-7)
    assert flow.source_kw[0] == pytest.approx(source.real, abs=1e-3)
    assert flow.loss_kw.sum() == pytest.approx(loss_kw, abs=1e-3)


@pytest.mark.parametrize("name", ["ieee13", "ieee123"])
def test_every_voltage_is_that_of_opendss(name):
    """Regulators, capacitors, switches, star and delta loads of constant power, current and impedance: 1e-7 pu at all nodes."""
    _agrees(DATA / name / f"{name}.dss")


@pytest.mark.parametrize("name", ["ieee13", "ieee123"])
def test_figures_are_the_known_ones(name):
    """Voltages, power of the source and losses as in network/data/<name>/reference.csv."""
    grid, model, flow = _solved(name)
    ids = grid.feeder.buses.ids
    v = {
        f"v_{ids[bus]}_{phase}": flow.v_pu[k, 0]
        for k, (bus, phase) in enumerate(zip(model.nodes.element, model.nodes.phase, strict=True))
    }
    lowest = min(v, key=v.get)
    found = v | {"source_kw": flow.source_kw[0], "source_kvar": flow.source_kvar[0], "loss_kw": flow.loss_kw.sum()}
    found |= {"v_min_pu": v[lowest], "v_min_bus": float(lowest.split("_")[1])}
    with (DATA / name / "reference.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 5
    for row in rows:
        assert found[row["figure"]] == pytest.approx(float(row["value"]), abs=float(row["tolerance"]), rel=0), row


def test_a_substation_in_delta_and_a_control_that_acts(tmp_path):
    """IEEE 13 behind a 115 kV delta-star transformer and a source with Z0 other than Z1, the regulator's control on: as OpenDSS."""
    text = (DATA / "ieee13" / "ieee13.dss").read_text()
    begin = text.index("New Circuit")
    text = (
        text[:begin]
        + "New Circuit.x bus1=high basekv=115 pu=1.0001 angle=30 MVAsc3=20000 MVAsc1=21000\n"
        + "New Transformer.sub phases=3 buses=[high 650] conns=[delta wye] kvs=[115 4.16] kvas=[5000 5000] XHL=0.008 %Rs=[0.0005 0.0005]\n"
        + text[text.index("\n", begin) + 1 :]
        .replace("Set ControlMode=Off", "")
        .replace("Bases=[4.16", "Bases=[115 4.16")
    )
    path = tmp_path / "behind.dss"
    path.write_text(re.sub(r"taps=\[1 1.0\d+\]", "", text))  # the control begins at neutral
    _agrees(path)
    assert read(path).provenance.endswith("taps fixed at reg1 1.05625, reg2 1.0375, reg3 1.05625")
    assert read("ieee13").provenance.endswith("taps fixed at reg1 1.0625, reg2 1.05, reg3 1.06875")


def test_published_taps_come_near_the_published_solution(tmp_path):
    """IEEE 123 with the published taps (7, -1, 0, -1, 8, 1, 5): every voltage as OpenDSS, 3620 kW and 95.6 kW of losses within 2 and 0.5."""
    steps = {"1a": 7, "2a": -1, "3a": 0, "3c": -1, "4a": 8, "4b": 1, "4c": 5}
    path = tmp_path / "taps.dss"
    lines = [f"Transformer.reg{name}.Taps=[1 {1 + step * 0.00625}]" for name, step in steps.items()]
    path.write_text("\n".join([(DATA / "ieee123" / "ieee123.dss").read_text(), *lines, "Set ControlMode=Off"]))
    _agrees(path)
    _, _, flow = _solved(path)
    assert flow.source_kw[0] == pytest.approx(3620, abs=2)
    assert flow.loss_kw.sum() == pytest.approx(95.6, abs=0.5)


def test_the_command_tells_all_of_it():
    """``network flow ieee13``: source, losses, the loads that are nobody's customer; envelopes refuse them and say what to do."""
    from cli import app

    told = CliRunner().invoke(app, ["network", "flow", "ieee13", "--json"])
    found = json.loads(told.stdout)
    assert found["source_kw"][0] == pytest.approx(3577.67, abs=0.01)
    assert [one["id"] for one in found["held_loads"]] == ["671.ab", "671.bc", "671.ca", "692", "611"]
    assert sum(one["kw"] for one in found["held_loads"][:3]) == pytest.approx(1155)
    shown = CliRunner().invoke(app, ["network", "flow", "ieee13"]).stdout
    assert "into 5 loads of constant current or between phases and shunts at 4 buses" in shown
    for command in (["envelopes", "ieee13"], ["hosting", "ieee13"], ["flow", "ieee13", "--referee"]):
        refused = CliRunner().invoke(app, ["network", *command])
        assert refused.exit_code != 0
        assert "Write constant_power: before the feeder's name" in str(refused.exception)


@pytest.mark.parametrize(
    ("feeder", "lines"),
    [
        ("ieee13", ["regulator reg: tap held at a 1.0625, b 1.05, c 1.06875"]),
        (
            "ieee123",
            [
                "regulator reg1a: tap held at 1.0375",
                "regulator reg2a: tap held at a 1",
                "regulator reg3a+reg3c: tap held at a 1.0125, c 1",
                "regulator reg4a+reg4b+reg4c: tap held at a 1.0625, b 1.025, c 1.0375",
            ],
        ),
        ("ieee33", []),
        ("european_lv", []),
    ],
)
def test_the_command_says_where_regulators_are_held(feeder, lines):
    """A line for each bank, on the taps that OpenDSS (``provenance``) and the published tables have; none where there is none."""
    from cli import app

    told = CliRunner().invoke(app, ["network", "flow", feeder]).stdout.splitlines()
    assert sorted(line for line in told if line.startswith("regulator")) == lines


def test_a_simulation_says_that_it_has_no_place_for_them():
    """``commonwatt check`` of a scenario on ``ieee123``: one sentence that names shunts, regulators, deltas and loads; nothing is left out silently."""
    from sim.resolve import resolve
    from sim.scenario import load
    from sim.scenario_file import ScenarioError

    scenario = load(DATA.parents[1] / "examples" / "street" / "scenario.yaml", ["grid.source=ieee123"])
    with pytest.raises(ScenarioError, match="a run's tables have no columns for shunts") as caught:
        resolve(scenario)
    assert len(caught.value.mistakes) == 1
    for what in (
        "regulators",
        "'reg3a+reg3c'",
        "delta-delta transformers ('xfm1')",
        "loads of constant current or between",
    ):
        assert what in caught.value.mistakes[0]


def test_the_second_referee_knows_regulators_capacitors_and_deltas():
    """IEEE 123 with constant power, drawn and fed in by 80 customers: the second referee, told our feeder, has every voltage to 1e-6 pu."""
    from network.referee_opendss import check

    grid = read("constant_power:ieee123")
    c = grid.connections
    assert grid.held is None
    assert len(c) == len(set(c.id)) == 80
    model = Model(grid.feeder, c.bus, c.phase)
    meters = np.stack([c.base_kw, 0.5 * c.base_kw, -0.4 * c.base_kw], axis=1)
    ours = model.solve(-meters, -meters * 0.3)
    theirs = check(grid.feeder, c.bus, meters, meters * 0.3, connection_phase=c.phase)
    assert theirs.converged.all()
    np.testing.assert_allclose(ours.v_pu, theirs.v_pu, rtol=0, atol=1e-6)
