"""The command ``network envelopes``: what it prints, writes, refuses and ends with."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sim.network_case import load
from sim.network_case_prepared import prepared
from sim.network_envelopes import envelopes

NETWORK = Path(__file__).parent.parent / "examples" / "network"


@pytest.mark.parametrize("name", ["envelopes_street", "envelopes_pinned", "envelopes_chance"])
def test_examples_have_envelopes(call, name):
    """Each of the three ends with 0; its limits are numbers from zero to the caps, the totals those of the customers."""
    code, out, err = call("network", "envelopes", NETWORK / f"{name}.yaml", "--json")
    found = json.loads(out)

    assert (code, err, found["status"]) == (0, "", "ok")
    ready = prepared(load(NETWORK / f"{name}.yaml"))
    for side, cap in (("export", ready.export_cap_kw), ("import", ready.import_cap_kw)):
        limits = np.array([one[f"{side}_limit_kw"] for one in found["customers"]])
        assert (limits >= 0).all()
        assert (limits <= cap[ready.active][:, None] + 1e-9).all()
        np.testing.assert_allclose(limits.sum(axis=0), found[side]["total_kw"], rtol=1e-9)


def test_people_read_totals_equity_and_what_limits(call):
    """The words of the example with static rights: 114.8 kW of export, over voltage at 906, the caps reached in import."""
    code, out, _ = call("network", "envelopes", NETWORK / "envelopes_pinned.yaml")

    assert code == 0
    assert "static rights: robust_pinned, proportional; 55 customers, 1 interval: ok" in out
    assert "114.8" in out
    assert "over voltage" in out
    assert "nothing: the caps are reached" in out
    assert call("network", "envelopes", NETWORK / "envelopes_pinned.yaml", "--quiet") == (0, "", "")


def test_infeasible_everywhere_ends_with_3_and_names_the_bus(call):
    """4 kW of import each: the bus, the kind and where; the limits in JSON are the floors."""
    words = ("network", "envelopes", NETWORK / "envelopes_pinned.yaml", "--set", "envelopes.pinned_import_kw=4")
    code, out, _ = call(*words)
    assert code == 3
    assert "infeasible under voltage at " in out
    code, out, _ = call(*words, "--json")
    found = json.loads(out)
    assert (code, found["status"], found["infeasible"][0]["kind"]) == (3, "infeasible", "under_voltage")
    assert {one["export_limit_kw"][0] for one in found["customers"]} == {0.0}


def test_some_infeasible_intervals_are_a_status_of_their_own(tmp_path, call):
    """Three hours, a load of 50 kW behind 0.4 ohm in the middle one: partly infeasible, exit code 0."""
    (tmp_path / "buses.csv").write_text("bus_id,v_nominal_v,is_source\na,400,true\nb,400,false\n")
    (tmp_path / "branches.csv").write_text("branch_id,kind,from_bus,to_bus,r1_ohm,x1_ohm\nL,line,a,b,0.4,0.0\n")
    (tmp_path / "case.yaml").write_text(
        "name: three hours\ngrid: {source: ., v_min_pu: 0.9, v_max_pu: 1.1, monitored: all}\n"
        "customers:\n  from: list\n  each:\n    - {id: home, bus: b, export_cap_kw: 99}\n"
        "    - {id: works, bus: b, envelope: false}\n"
        "base_load: {from: table, file: loads.csv}\n"
        'time: {start: "2030-06-03T00:00", interval_minutes: 60}\n'
    )
    (tmp_path / "loads.csv").write_text("home,works\n0,10\n0,50\n0,10\n")

    code, out, err = call("network", "envelopes", tmp_path / "case.yaml", "--json", "--csv", tmp_path / "limits.csv")
    found = json.loads(out)

    assert (code, err, found["status"]) == (0, "", "partly_infeasible")
    assert found["infeasible"] == [{"interval": 1, "by": "b", "kind": "under_voltage"}]
    assert found["customers"][0]["export_limit_kw"] == pytest.approx([54.0, 0.0, 54.0], rel=1e-6)
    with (tmp_path / "limits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["agent_id"] for row in rows] == ["home"] * 3
    assert [row["binding_element"] for row in rows] == ["b"] * 3
    assert float(rows[0]["export_limit_kw"]) <= found["customers"][0]["export_limit_kw"][0]


def test_the_csv_is_what_validate_reads(call, tmp_path):
    """Robust limits of the street, written and validated: safe, by the referee too."""
    case, table = NETWORK / "envelopes_street.yaml", tmp_path / "limits.csv"
    assert call("network", "envelopes", case, "--quiet", "--csv", table)[0] == 0
    found = envelopes(prepared(load(case)))
    with table.open() as file:
        written = [float(row["export_limit_kw"]) for row in csv.DictReader(file)]
    assert written == pytest.approx(found.envelope.export_limit_kw[:, 0].tolist(), abs=2e-6)
    code, out, _ = call("network", "validate", case, "--samples", "500", "--set", f"validation.file={table}", "--json")
    assert (code, json.loads(out)["status"]) == (0, "safe")


def test_modes_and_rules_on_the_command_line(call):
    """--mode and --rule replace the case's; a word that is none is told with those there are."""
    code, out, _ = call(
        "network", "envelopes", NETWORK / "envelopes_street.yaml", "--mode", "budget", "--rule", "equal", "--json"
    )
    found = json.loads(out)
    assert (code, found["mode"], found["rule"]) == (0, "budget", "equal")
    code, _, err = call("network", "envelopes", NETWORK / "envelopes_street.yaml", "--mode", "safe")
    assert code == 2
    assert "robust_pinned" in err


MISTAKES = {
    "envelopes.each.0.id": ("{id: nobody}", "is no customer"),
    "envelopes.reactive": ("{kind: volt_var, v_pu: [0.9, 1.1], q_kvar: [1.0]}", "has 1 numbers for 2 voltages"),
    "envelopes.reactive.free_kvar": ("3", "the kind is forecast"),
    "envelopes.import_floor_kw": ("-1", "0"),
    "envelopes.each": ("[{id: battery}, {id: battery}]", "is the id of envelopes.each.0 already"),
    "envelopes.each.0.firm_charge_kw": ("30", "above its cap of 25 kW"),
    "envelopes.uncertainty": ("{shape: gaussian, probability: 2}", "probability"),
}


@pytest.mark.parametrize("key", MISTAKES)
def test_mistakes_have_a_place(call, key):
    """Exit code 2, one line with the key, and what is wrong."""
    value, sentence = MISTAKES[key]
    key, value = ("envelopes.each", "[{id: nobody}]") if key.endswith(".0.id") else (key, value)
    code, out, err = call("network", "envelopes", NETWORK / "envelopes_street.yaml", "--set", f"{key}={value}")

    assert (code, out) == (2, "")
    assert sentence in err
    assert "Traceback" not in err


METHODS = {
    "cone, its rule": (("method=cone",), "envelopes.rule: is proportional; the method cone knows max_total alone"),
    "cone, its mode": (("method=cone", "mode=robust", "rule=max_total"), "envelopes.mode: is robust; the method cone knows deterministic alone"),
    "cone, floors": (("method=cone", "rule=max_total", "import_floor_kw=2"), "envelopes.import_floor_kw: is 2; the method cone knows 0 alone"),
    "cone, data": (("method=cone", "rule=max_total", "uncertainty.source_v_pu=0.01"), "envelopes.uncertainty.source_v_pu: is 0.01; the method"),
    "cone, weights": (("method=cone", "rule=max_total", "each=[{id: load 2, weight: 2}]"), "envelopes.each.0.weight: is 2; the method cone"),
    "linear, curves": (("method=linear", "reactive.kind=volt_var"), "envelopes.reactive.kind: is volt_var, which linear DistFlow has no rows"),
    "no such": (("method=exact",), "must be 'corrected', 'linear' or 'cone'"),
    "pinned, floors": (("mode=robust_pinned", "import_floor_kw=2"), "envelopes.import_floor_kw: is 2 kW, and the mode robust_pinned pins imports at 1.5 kW"),
    "pinned, a floor": (("mode=robust_pinned", "each=[{id: load 2, import_floor_kw: 3}]"), "envelopes.each.0.import_floor_kw: is 3 kW, and the mode"),
}  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_or_mode_cannot_do_is_refused_at_the_door(call, tmp_path, name):
    """Exit code 2 and one line: in a file with line and column, before any feeder is read."""
    sets, sentence = METHODS[name]
    (tmp_path / "case.yaml").write_text("grid: {source: nowhere}\nenvelopes:\n  " + "\n  ".join(
        f"{key}: {value}" if "." not in key else f"{key.split('.')[0]}: {{{key.split('.')[1]}: {value}}}"
        for key, value in (one.split("=") for one in sets)) + "\n")  # fmt: skip
    code, out, err = call("network", "envelopes", tmp_path / "case.yaml")

    assert (code, out) == (2, "")
    assert sentence in err
    (line,) = err.splitlines()
    assert re.match(r".*case\.yaml:\d+:\d+: envelopes\.", line)


@pytest.mark.parametrize(("rule", "too_low"), [("proportional", "0.0040"), ("max_total", "0.0043")])
def test_linear_imports_of_the_33_buses_fail_and_corrected_ones_pass(call, rule, too_low):
    """Loudly not corrected by AC; UNSAFE by so much at bus 18 or 33 where all import, with 1; the corrected ones SAFE, with 0."""
    words = ("ieee33", "--set", f"envelopes.rule={rule}")
    linear = (*words, "--set", "envelopes.method=linear")
    code, out, _ = call("network", "envelopes", *linear)
    assert code == 0
    assert "NOT CORRECTED BY AC" in out
    code, out, _ = call("network", "validate", *linear, "--samples", "50")
    assert code == 1
    assert re.match(
        rf"UNSAFE  ieee33: bus (18|33) falls to 0\.89\d+ pu, {too_low} pu below its limit of 0\.9 pu, when all import;",
        out,
    )
    assert "by linear DistFlow, not corrected by AC" in out
    code, out, _ = call("network", "validate", *words, "--samples", "50")
    assert code == 0
    assert out.startswith("SAFE  ieee33: none of ")
    assert "NOT CORRECTED" not in call("network", "envelopes", *words)[1]


def test_the_cone_programme_refuses_exports_and_finds_the_corrected_imports(call):
    """Exports: 3, the branch and the gap, no limit, nothing to validate; imports alone: 0, the total of max_total, SAFE."""
    words = ("ieee33", "--set", "envelopes.rule=max_total", "--set", "envelopes.method=cone")
    code, out, _ = call("network", "envelopes", *words)
    assert code == 3
    assert re.search(r"refused   export: the cone programme is no power flow at \d+-\d+, in 1 of 1 intervals", out)
    code, out, _ = call("network", "validate", *words, "--samples", "50")
    assert code == 3
    assert out.startswith("INFEASIBLE  ieee33: no interval has an envelope, and nothing is promised.")
    assert re.search(r"refused      interval 0: the cone programme is no power flow at \d+-\d+\n", out)

    alone = ("--set", "customers.export_cap_kw=0")
    found = json.loads(call("network", "envelopes", *words, *alone, "--json")[1])
    corrected = json.loads(call("network", "envelopes", *words[:3], *alone, "--json")[1])
    assert (found["method"], corrected["method"], found["status"]) == ("cone", "corrected", "ok")
    assert found["import"]["total_kw"] == pytest.approx(corrected["import"]["total_kw"], rel=1e-4)
    assert found["import"]["cone_gap"][0] < 1e-6
    code, out, _ = call("network", "validate", *words, *alone, "--samples", "50")
    assert code == 0
    assert "by the cone programme" in out


def _line(folder):
    """Write a case of one home behind 0.4 ohm."""
    (folder / "buses.csv").write_text("bus_id,v_nominal_v,is_source\na,400,true\nb,400,false\n")
    (folder / "branches.csv").write_text("branch_id,kind,from_bus,to_bus,r1_ohm,x1_ohm\nL,line,a,b,0.4,0.0\n")
    (folder / "connections.csv").write_text("agent_id,bus_id,base_kw\nhome,b,3\n")
    case = folder / "case.yaml"
    case.write_text("grid: {source: .}\n")
    return case


def test_what_single_customers_are_promised_is_told_all_at_once_with_names(call, tmp_path):
    """A floor and an obligation above their caps: a line each, with the customer, its cap and the place."""
    each = "envelopes.each=[{id: home, export_floor_kw: 50, firm_charge_kw: 20}]"
    code, out, err = call("network", "envelopes", _line(tmp_path), "--set", each)

    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert 'envelopes.each.0.export_floor_kw: "home" is to have 50 kW, above its cap of 10 kW' in first
    assert 'envelopes.each.0.firm_charge_kw: "home" is to have 20 kW, above its cap of 14 kW' in second


def test_who_must_draw_is_not_counted_among_those_starved_of_export(call, tmp_path):
    """A storage with a cap both ways and a firm charge exports nothing, and nobody else is unevenly treated."""
    case = _line(tmp_path)
    more = "customers.each=[{id: store, bus: b, export_cap_kw: 10, import_cap_kw: 10}]"
    code, out, _ = call("network", "envelopes", case, "--json", "--set", more,
                        "--set", "envelopes.each=[{id: store, firm_charge_kw: 5}]")  # fmt: skip
    found = json.loads(out)

    assert code == 0
    assert found["export"]["least_share"] == [1.0]
    assert found["export"]["at_floor"] == [0]


def test_two_results_are_two_files(call, tmp_path):
    """--csv and --out in one file would lose one; a folder as --csv is told under its own name."""
    case = _line(tmp_path)
    code, out, err = call("network", "envelopes", case, "--csv", tmp_path / "x", "--out", tmp_path / "x")
    assert (code, out) == (2, "")
    assert "--csv and --out both name" in err
    code, _, err = call("network", "envelopes", case, "--csv", tmp_path)
    assert code == 2
    assert "--csv" in err
    assert "--out" not in err
    assert not (tmp_path / "x").exists()


def test_nobody_with_an_envelope_is_said(call, tmp_path):
    """All passive: nothing is limited, and the words say why."""
    code, out, _ = call("network", "envelopes", _line(tmp_path), "--set", "customers.passive=[home]")
    assert code == 0
    assert "0 customers" in out
    assert "nobody has an envelope" in out
