"""Feeders that come with the package: where their tables come from, and what others find for them."""

from __future__ import annotations

import csv
import importlib.util
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from network import referee_opendss
from network.acflow import Model
from network.builtin import BUILTIN
from network.csv_feeder import write_folder
from network.referee import check
from network.sources import SourceError, beside, read

DATA = Path(__file__).resolve().parents[1] / "network" / "data"
BUNDLED = ("ieee33", "ieee69", "european_lv")
has_opendss = importlib.util.find_spec("dss") is not None


def _sources():
    name = "builtin_sources"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _reference(name):
    with (DATA / name / "reference.csv").open(encoding="utf-8") as file:
        return {row["figure"]: (float(row["value"]), float(row["tolerance"])) for row in csv.DictReader(file)}


def _solved(name):
    grid = read(name)
    c = grid.connections
    model = Model(grid.feeder, c.bus, c.phase)
    return grid, model, model.solve(-c.base_kw[:, None], -c.base_kvar[:, None])


@pytest.mark.parametrize("name", BUNDLED)
def test_tables_are_made_again(name, tmp_path):
    """The tables in network/data are, byte for byte, what pandapower's data (or the publication's figures) give."""
    write_folder(_sources().MADE[name](), tmp_path, whole=False)
    for table in ("buses.csv", "branches.csv", "connections.csv"):
        assert (tmp_path / table).read_bytes() == (DATA / name / table).read_bytes(), table
    assert (DATA / name / "README.md").is_file()


def test_pandapower_has_the_reactive_power_of_two_phases_wrong():
    """A trap in the data: P is right, Q of phases B and C is 1000 times too small; ours is that of power factor 0.95."""
    import pandapower.networks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        table = pandapower.networks.ieee_european_lv_asymmetric().asymmetric_load
    c = read("european_lv").connections
    ratio = np.tan(np.arccos(0.95))
    for phase, factor in (("a", 1.0), ("b", 1e-3), ("c", 1e-3)):
        p, q = table[f"p_{phase}_mw"].sum() * 1e3, table[f"q_{phase}_mvar"].sum() * 1e3
        assert q == pytest.approx(p * ratio * factor, rel=2e-4), "pandapower has mended it"
        mine = np.array(c.phase) == phase
        assert c.base_kw[mine].sum() == pytest.approx(p, rel=1e-6)
        assert c.base_kvar[mine].sum() == pytest.approx(p * ratio, rel=1e-6)


@pytest.mark.parametrize("name", ["ieee33", "ieee69"])
def test_power_flow_is_the_published_one(name):
    """Losses, lowest voltage and its bus as in network/data/<name>/reference.csv."""
    grid, _, flow = _solved(name)
    lowest = int(flow.v_pu[:, 0].argmin())
    reactive = flow.source_kvar[0] - grid.connections.base_kvar.sum()
    found = {"loss_kw": flow.loss_kw.sum(), "loss_kvar": reactive, "v_min_pu": flow.v_pu[lowest, 0]}
    found["v_min_bus"] = float(grid.feeder.buses.ids[lowest])
    reference = _reference(name)
    assert set(found) == set(reference)
    for figure, (value, tolerance) in reference.items():
        assert found[figure] == pytest.approx(value, abs=tolerance, rel=0), figure


@pytest.mark.parametrize(
    ("name", "opened", "loss_kw", "lowest"),
    [
        ("ieee33", "7-8 9-10 14-15 32-33 25-29", 139.5513, 0.93782),
        *(
            ("ieee69", f"14-15 {one} 61-62 11-43 13-21", 98.6046, 0.94947)
            for one in ("55-56", "56-57", "57-58", "58-59")
        ),
    ],
)
def test_the_best_known_topologies_have_the_known_losses(name, opened, loss_kw, lowest):
    """Open 7, 9, 14, 32, 37 of 33 buses; 14, one of 55 to 58, 61, 69, 70 of 69: literature 139.55 and 98.6 kW, more digits by enumerating all trees."""
    grid = read(name)
    branches, c = grid.feeder.branches, grid.connections
    assert set(opened.split()) <= set(branches.ids)
    on = np.array([one not in opened.split() for one in branches.ids])
    flow = Model(replace(grid.feeder, branches=replace(branches, in_service=on)), c.bus).solve(
        -c.base_kw[:, None], -c.base_kvar[:, None]
    )
    assert flow.loss_kw.sum() == pytest.approx(loss_kw, abs=5e-5)
    assert flow.v_pu.min() == pytest.approx(lowest, abs=5e-6)


def test_ties_are_there_and_open():
    """Both medium-voltage feeders have five ties out of service."""
    for name, open_ones in (
        ("ieee33", {"21-8", "9-15", "12-22", "18-33", "25-29"}),
        ("ieee69", {"11-43", "13-21", "15-46", "50-59", "27-65"}),
    ):
        branches = read(name).feeder.branches
        assert {one for one, on in zip(branches.ids, branches.in_service, strict=True) if not on} == open_ones


def test_european_lv_is_as_the_ieee_describes_it():
    """907 buses, one transformer, 905 lines, 55 customers on phases a (21), b (19) and c (15), 57.358 kW, at 0.95."""
    grid, _, flow = _solved("european_lv")
    c = grid.connections
    assert (grid.feeder.n_bus, grid.feeder.n_branch, len(c)) == (907, 906, 55)
    assert [c.phase.count(phase) for phase in "abc"] == [21, 19, 15]
    value, tolerance = _reference("european_lv")["load_kw"]
    assert c.base_kw.sum() == pytest.approx(value, abs=tolerance, rel=0)
    np.testing.assert_allclose(c.base_kw / np.hypot(c.base_kw, c.base_kvar), 0.95, atol=1e-8)
    theirs = check(grid.feeder, c.bus, c.base_kw[:, None], c.base_kvar[:, None], connection_phase=c.phase)
    np.testing.assert_allclose(flow.v_pu, theirs.v_pu, rtol=0, atol=1e-8)
    np.testing.assert_allclose(flow.source_kw, theirs.source_kw, rtol=0, atol=1e-6)


@pytest.mark.skipif(not has_opendss, reason="OpenDSS is not installed (extra: opendss)")
def test_european_lv_agrees_with_opendss():
    """The second referee: all 2721 voltages to 1e-8 pu."""
    grid, model, flow = _solved("european_lv")
    c = grid.connections
    theirs = referee_opendss.check(
        grid.feeder, c.bus, c.base_kw[:, None], c.base_kvar[:, None], connection_phase=c.phase
    )
    assert theirs.converged.all()
    assert theirs.v_pu.shape == flow.v_pu.shape == (2721, 1)
    assert model.three_phase
    np.testing.assert_allclose(flow.v_pu, theirs.v_pu, rtol=0, atol=1e-8)


@pytest.mark.skipif(not has_opendss, reason="OpenDSS is not installed (extra: opendss)")
def test_european_lv_has_the_published_voltages(monkeypatch):
    """With OpenDSS's habit of turning loads above 241.5 V into impedances, the feeder gives the voltages that are known for it."""
    usual = referee_opendss.commands

    def as_shipped(*args):
        for one in usual(*args):
            yield re.sub(r"kV=0\.240\d+", "kV=0.23", one).replace("vmaxpu=10", "vmaxpu=1.05")

    monkeypatch.setattr(referee_opendss, "commands", as_shipped)
    grid, model, _ = _solved("european_lv")
    c = grid.connections
    v = referee_opendss.check(
        grid.feeder, c.bus, c.base_kw[:, None], c.base_kvar[:, None], connection_phase=c.phase
    ).v_pu[:, 0]
    low = model.nodes.element != grid.feeder.source_bus
    row = {
        (int(bus), phase): k for k, (bus, phase) in enumerate(zip(model.nodes.element, model.nodes.phase, strict=True))
    }
    found = {f"v_min_{phase}_pu": v[low & (np.array(model.nodes.phase) == phase)].min() for phase in "abc"}
    for number in (1, 32, 53):
        k = c.id.index(f"LOAD{number}")
        found[f"load_{number}_pu"] = v[row[int(c.bus[k]), c.phase[k]]]
    for figure, value in found.items():
        expected, tolerance = _reference("european_lv")[figure]
        assert value == pytest.approx(expected, abs=tolerance, rel=0), figure


def test_every_name_is_read():
    """All built-in names give a feeder with customers, provenance and licence; a folder of the same name is written with a path."""
    for name in BUILTIN:
        if name in ("ieee13", "ieee123") and not has_opendss:
            continue
        grid = read(name)
        assert len(grid.connections) > 0
        assert grid.provenance
        assert grid.licence
        assert beside(name, Path("somewhere")) == name
    with pytest.raises(SourceError, match="european_lv"):
        read("european")
