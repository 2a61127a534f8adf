"""OpenDSS as one more referee of a validation: it is asked about the worst cases, and what it says decides."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from network import referee_opendss
from network.acflow import Model
from network.envelope import Limits
from network.feeder import Feeder, Line, Transformer
from network.reactive import VoltVar
from network.sources import read
from network.validation import validate
from network.validation_data import Doubts
from network.validation_opendss import MOST, spread, third_opinion

LIMITS = Limits(0.90, 1.10, 100.0)
SMALL, NOTHING = np.full((3, 2), 1.0), np.zeros((3, 2))


def street(**transformer):
    """Three customers on three phases, behind a cable, and behind a transformer where one is told."""
    lines = [Line("L", "s", "e", 0.08, 0.02, r0_ohm=0.3, x0_ohm=0.05)]
    buses = {"s": 400.0, "e": 400.0}
    if transformer:
        lines.append(Transformer("T", "mv", "s", 100.0, 11000.0, 400.0, 4.0, 1.0, **transformer))
        buses["mv"] = 11000.0
    feeder = Feeder.build("street", buses, lines, source_bus="mv" if transformer else "s")
    bus = feeder.buses.ids.index("e")
    return Model(feeder, [bus] * 3, ["a", "b", "c"])


def tried(model, **more):
    return validate(model, SMALL, SMALL, NOTHING, NOTHING, LIMITS, samples=300, opendss=True, **more)


def test_where_it_is_not_installed_a_sentence_says_so_and_the_verdict_stands(monkeypatch):
    """Without dss-python the validation is as it was, and names the extra that is missing."""
    monkeypatch.setitem(sys.modules, "dss", None)
    found = tried(street())

    assert found.status == "safe"
    assert found.opendss.points == 0
    assert "OpenDSS is not installed. Install commonwatt[opendss]" in found.opendss.why_not


def test_it_is_asked_only_on_request():
    """A validation in a program does not depend on what is installed."""
    assert validate(street(), SMALL, SMALL, NOTHING, NOTHING, LIMITS, samples=30).opendss is None


def test_another_voltage_means_that_nothing_is_confirmed(monkeypatch):
    """2e-6 pu more at one bus, or no solution: unconfirmed, though power-grid-model agrees."""

    def other(feeder, bus, p, q, source, phase, off=2e-6, solved=True):
        flow = Model(feeder, bus, phase).solve(-p, -q, source)
        v = flow.v_pu.copy()
        v[-1, 0] += off
        return replace(flow, v_pu=np.where(solved, v, np.nan), converged=np.full(v.shape[1], solved))

    monkeypatch.setattr(referee_opendss, "check", other)
    found = tried(street())
    assert found.certificate.agrees
    assert found.status == "unconfirmed"
    assert found.opendss.voltage_pu == pytest.approx(2e-6, rel=1e-3)
    monkeypatch.setattr(referee_opendss, "check", lambda *args: other(*args, off=5e-7))
    assert tried(street()).status == "safe"
    monkeypatch.setattr(referee_opendss, "check", lambda *args: other(*args, off=0.0, solved=False))
    lost = tried(street())
    assert lost.status == "unconfirmed"
    assert lost.opendss.disagreeing == lost.opendss.points > 0


def test_the_worst_cases_come_first_and_the_rest_is_spread():
    """At most 200: every worst case, and the others evenly from the first to the last that was drawn."""
    few = spread(30, 5000, MOST)

    assert few[:30].tolist() == list(range(30))
    assert (len(few), len(set(few.tolist())), few[-1]) == (MOST, MOST, 4999)
    assert np.ptp(np.diff(few[30:])) <= 1
    assert spread(300, 5000, MOST).tolist() == list(range(MOST))
    assert spread(3, 8, MOST).tolist() == list(range(8))


def test_uses_without_a_solution_are_left_to_power_grid_model():
    """Nothing that we cannot solve is asked about; of nothing it says nothing."""
    model = street()
    found = third_opinion(model, np.full((3, 1), -900.0 + 0j), np.ones(1))

    assert (found.points, found.agrees, found.why_not) == (0, True, "")
    assert third_opinion(model, np.empty((3, 0), dtype=complex), np.empty(0)).points == 0


dss = pytest.importorskip("dss", reason="OpenDSS is not installed (extra: opendss)")


@pytest.mark.parametrize(("more", "sentence"), [({"clock": 6}, "clock number 6"), ({"clock": 5, "i0_percent": 1.0}, "no-load current")])  # fmt: skip
def test_what_it_cannot_be_told_is_said_and_the_verdict_stands(more, sentence):
    """A transformer of clock number 6, or with a no-load current: not asked, with the transformer's name; still safe."""
    found = tried(street(**more))

    assert found.status == "safe"
    assert found.certificate.agrees
    assert sentence in found.opendss.why_not
    assert "'T'" in found.opendss.why_not


def test_other_impedances_and_sources_are_the_same_for_it():
    """The worst cases of doubtful data, each with its own impedances and source: OpenDSS has the same voltages."""
    found = tried(street(clock=5), doubts=Doubts(10.0, 20.0, 0.03))
    cases = [case for case in found.worst if case.impedance != 1.0]

    assert {case.impedance for case in found.worst} == {1.0, 1.2}
    assert len({case.source_v_pu for case in cases}) >= 2
    assert found.opendss.why_not == ""
    assert found.opendss.points >= len(found.worst)
    assert found.opendss.voltage_pu < 1e-8


def test_a_balanced_feeder_has_the_same_voltage_on_every_phase():
    """The 33 buses, balanced with us, three phases there."""
    grid = read("ieee33")
    model, n = Model(grid.feeder, grid.connections.bus), len(grid.connections)
    limit, q = np.full((n, 1), 50.0), -grid.connections.base_kvar[:, None]
    found = validate(model, limit, limit, np.zeros((n, 1)), q, Limits(0.9, 1.1, np.inf), samples=200, opendss=True)

    assert found.opendss.points > 20
    assert found.opendss.voltage_pu < 1e-8


def test_what_a_curve_adds_is_told_to_it():
    """Volt-var curves: OpenDSS gets the settled reactive power."""
    curve = VoltVar.build(3, {k: ([0.95, 0.99, 1.01, 1.05], [3.0, 0.0, 0.0, -3.0]) for k in range(3)})
    found = tried(street(), curve=curve)

    assert found.opendss.points > 20
    assert found.opendss.agrees


def test_the_worst_of_european_lv_is_confirmed():
    """907 buses, 55 customers, 4 kW each way: unsafe, and OpenDSS has the voltages of every worst case to 1e-6 pu."""
    grid = read("european_lv")
    model = Model(grid.feeder, grid.connections.bus, grid.connections.phase)
    limits = Limits(0.94, 1.10, 100.0, np.arange(grid.feeder.n_bus) != grid.feeder.source_bus)
    none, limit = np.zeros((55, 1)), np.full((55, 1), 4.0)
    found = validate(model, limit, limit, none, none, limits, source_v_pu=1.02, samples=100, opendss=True)

    assert found.status == "unsafe"
    assert found.worst_case.excess > 0.05
    assert found.opendss.points >= len(found.worst)
    assert found.opendss.voltage_pu < 1e-6
    assert found.opendss.agrees


@pytest.mark.slow
def test_command_json_and_page_say_that_both_confirm_european_lv(call, tmp_path):
    """Robust envelopes of European LV: safe, OpenDSS agrees, the number of uses and the largest difference are told."""
    case = tmp_path / "case.yaml"
    case.write_text(
        "name: tried\ngrid: {source: european_lv, source_v_pu: 1.02, v_min_pu: 0.94}\ncustomers: {export_cap_kw: 10, import_cap_kw: 14}\n"
        "base_load: {from: none}\nenvelopes: {mode: robust}\nvalidation: {samples: 300}\n"
    )
    code, text, _ = call("network", "validate", str(case), "--out", str(tmp_path / "page"))
    told = json.loads((tmp_path / "page" / "result.json").read_text())["opendss"]

    assert code == 0
    assert f"OpenDSS agrees on {told['points']} uses: voltages to " in text
    assert told["agrees"]
    assert told["voltage_pu"] < 1e-6
    assert f"OpenDSS agrees on {told['points']} uses" in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
