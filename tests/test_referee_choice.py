"""Who confirms: OpenDSS on feeders that power-grid-model does not know, and nobody where neither can be asked."""

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
from network.referee import RefereeError
from network.referee_choice import instead
from network.validation import validate

pytest.importorskip("dss", reason="OpenDSS is not installed (extra: opendss)")

WHY = "power-grid-model was not asked: feeder 'ieee13' has banks of single-phase transformers ('reg'), which it does not know"
LIMITS = Limits(0.90, 1.10, 100.0)
SMALL, NOTHING = np.full((3, 2), 1.0), np.zeros((3, 2))
ENVELOPES = ("--samples", "100", "--set", "envelopes.mode=robust")


def street(phases=("a", "b", "c"), **transformer):
    """Three customers behind a transformer and a cable."""
    lines = [Line("L", "s", "e", 0.08, 0.02, r0_ohm=0.3, x0_ohm=0.05, rating_a=100.0)]
    lines.append(Transformer("T", "mv", "s", 100.0, 11000.0, 400.0, 4.0, 1.0, **transformer))
    feeder = Feeder.build("street", {"mv": 11000.0, "s": 400.0, "e": 400.0}, lines, source_bus="mv")
    return Model(feeder, [feeder.buses.ids.index("e")] * 3, phases)


def tried(model, limit=SMALL):
    return validate(model, limit, limit, NOTHING, NOTHING, LIMITS, samples=4000, opendss=True)


def test_a_power_flow_with_regulators_is_confirmed_by_opendss(call):
    """``network flow --referee`` of IEEE 13: who agrees, why the other was not asked, on the terminal and in JSON."""
    _, text, _ = call("network", "flow", "constant_power:ieee13", "--referee")
    assert "referee   OpenDSS agrees: voltages to " in text
    assert f"referee   {WHY}" in text
    _, text, _ = call("network", "flow", "constant_power:ieee13", "--referee", "--json")
    told = json.loads(text)["referee"]
    assert (told["by"], told["not_asked"], told["agrees"]) == ("OpenDSS", WHY, True)
    assert told["voltage_pu"] < 1e-7
    assert told["loading_percent"] < 1e-4
    assert told["loss_kw"] < 1e-5
    assert told["source_kw"] < 1e-3
    _, text, _ = call("network", "flow", "ieee33", "--referee", "--json")
    told = json.loads(text)["referee"]
    assert (told["by"], told["not_asked"]) == ("power-grid-model", "")


def test_envelopes_behind_regulators_are_confirmed_by_opendss(call, tmp_path):
    """``network validate`` of IEEE 123: SAFE, confirmed by OpenDSS alone; terminal, JSON and page say so, and why."""
    code, text, _ = call("network", "validate", "constant_power:ieee123", *ENVELOPES, "--out", str(tmp_path / "page"))
    found = json.loads((tmp_path / "page" / "result.json").read_text())
    told, page = found["referee"], (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert code == 0
    assert text.startswith("SAFE")
    assert f"OpenDSS agrees on {told['points']} uses: voltages to " in text
    assert "power-grid-model was not asked: feeder 'ieee123' has banks of single-phase transformers ('reg2a', " in text
    assert "power-grid-model agrees" not in text
    assert (told["by"], told["agrees"], found["opendss"]) == ("OpenDSS", True, None)
    assert told["not_asked"] in text
    assert told["points"] > 50
    assert told["voltage_pu"] < 1e-7
    assert "again by OpenDSS, which agrees to" in page
    assert "power-grid-model was not asked: feeder" in page
    assert "again by power-grid-model" not in page


def test_where_opendss_is_not_installed_either_nothing_is_confirmed(call, monkeypatch):
    """No referee, no verdict: exit code 2, one sentence that names the extra, nothing on standard output; both commands."""
    from sim.network_case import load
    from sim.network_case_prepared import prepared
    from sim.network_validate_given import of_case

    ready = prepared(load("constant_power:ieee13"))
    given = of_case(ready)
    monkeypatch.setattr("sim.commands.network_flow.read", lambda *_: ready)
    monkeypatch.setattr("sim.commands.network_validate._given", lambda *_: given)
    monkeypatch.setitem(sys.modules, "dss", None)
    for command in (["flow", "constant_power:ieee13", "--referee"], ["validate", "constant_power:ieee13"]):
        code, out, err = call("network", *command, "--quiet")
        assert (code, out) == (2, "")
        assert err.strip() == (
            "feeder 'ieee13' has banks of single-phase transformers ('reg'), which power-grid-model does not know, and OpenDSS, "
            "the other referee, is not installed: install commonwatt[opendss]."
        )


@pytest.mark.parametrize("other", ["voltage", "loading", "lost", "nan"])
def test_an_opendss_that_disagrees_is_heard(call, monkeypatch, other):
    """2e-6 pu, 0.01 % of loading, or points without a solution: not confirmed and exit code 1, never SAFE."""
    usual = referee_opendss.check

    def wrong(*args):
        flow = usual(*args)
        if other == "voltage":
            return replace(flow, v_pu=flow.v_pu + 2e-6)
        if other == "loading":
            return replace(flow, loading_percent=flow.loading_percent + 0.01)
        if other == "nan":
            return replace(flow, v_pu=flow.v_pu * np.nan)
        return replace(flow, converged=np.zeros_like(flow.converged))

    monkeypatch.setattr(referee_opendss, "check", wrong)
    code, text, _ = call("network", "validate", "constant_power:ieee123", *ENVELOPES)
    assert code == 1
    assert text.startswith("UNCONFIRMED  ieee123: OpenDSS does not confirm what we find")
    assert "OpenDSS DISAGREES on" in text
    if other in ("voltage", "lost"):
        code, text, _ = call("network", "flow", "constant_power:ieee123", "--referee")
        assert code == 1
        assert "OpenDSS DISAGREES" in text


def test_both_referees_are_asked_the_same_and_say_the_same():
    """A transformer, and the same one as a bank of three units: power-grid-model and OpenDSS confirm as many uses, alike."""
    whole, bank = tried(street()), tried(street(turns=(1.0, 1.0, 1.0)))
    assert (whole.certificate.by, bank.certificate.by) == ("power-grid-model", "OpenDSS")
    assert (whole.status, bank.status) == ("safe", "safe")
    assert whole.certificate.points == bank.certificate.points > len(bank.worst) + 40
    assert whole.opendss.points > 0
    assert bank.opendss is None
    np.testing.assert_allclose(bank.worst_refereed, whole.worst_refereed, rtol=0, atol=1e-6)
    np.testing.assert_allclose(bank.certificate.beyond, whole.certificate.beyond, rtol=0, atol=1e-6)


def test_what_breaks_breaks_for_opendss_too():
    """Far too much behind a bank: unsafe, each worst case beyond its limit by OpenDSS as by us, no solution on both sides."""
    found = tried(street(turns=(1.0, 1.02, 0.98)), np.full((3, 2), 40.0))
    assert found.status == "unsafe"
    assert found.certificate.agrees
    theirs = found.worst_refereed
    assert (theirs > 0.01).any()
    np.testing.assert_allclose(theirs, [case.beyond for case in found.worst], rtol=0, atol=2e-5)


def test_a_balanced_feeder_with_a_delta_has_opendss_too():
    """Three phases there, one row with us: each of the three must agree, and one that does not is heard."""
    model = street(["abc"] * 3, windings="dd")
    assert not model.three_phase
    found = tried(model)
    assert (found.status, found.certificate.by) == ("safe", "OpenDSS")
    assert "delta-delta transformers ('T')" in found.certificate.instead


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_one_phase_of_a_balanced_feeder_that_differs_is_heard(monkeypatch, phase):
    """2e-6 pu in one phase of the last bus: unconfirmed."""
    usual = referee_opendss.check

    def wrong(*args):
        flow = usual(*args)
        flow.v_pu[phase - 3] += 2e-6
        return flow

    monkeypatch.setattr(referee_opendss, "check", wrong)
    assert tried(street(["abc"] * 3, windings="dd")).status == "unconfirmed"


def test_what_neither_can_be_told_is_told():
    """A bank with a no-load current: both are named, with the transformer."""
    with pytest.raises(
        RefereeError,
        match=r"power-grid-model does not know, and OpenDSS, the other referee, cannot be asked: .*'T' has a no-load",
    ):
        instead(street(turns=(1.0, 1.0, 1.0), i0_percent=1.0))  # fmt: skip


def test_what_has_no_solution_disturbs_nothing_after_it():
    """OpenDSS begins where it ended: a point far beyond the nose is NaN, and the next is as it is alone."""
    model = street(turns=(1.0, 1.0, 1.0))
    feeder, bus, phase = model.feeder, model.connection_bus, model.connection_phase
    p = np.array([[2.0, 9000.0, 2.0, -3.0]] * 3)
    theirs = referee_opendss.check(feeder, bus, p, p * 0.2, connection_phase=phase)
    ours = model.solve(-p, -p * 0.2)
    assert theirs.converged.tolist() == ours.converged.tolist() == [True, False, True, True]
    for name in ("v_pu", "p_kw", "current_a", "loading_percent", "loss_kw"):
        assert np.isnan(getattr(theirs, name)[:, 1]).all()
    np.testing.assert_allclose(theirs.v_pu[:, 2], theirs.v_pu[:, 0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(theirs.v_pu[:, 3], ours.v_pu[:, 3], rtol=0, atol=1e-8)
