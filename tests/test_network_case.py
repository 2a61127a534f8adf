"""Network cases: read as a scenario is, turned into arrays, and calculated by ``commonwatt network flow``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import cli
from sim import network_flow
from sim.network_case import json_schema, load
from sim.network_case_page import markdown
from sim.network_case_prepared import prepared
from sim.scenario_file import ScenarioError

ROOT = Path(__file__).resolve().parents[1]
VILLAGE = ROOT / "tests" / "data_feeders" / "village"


@pytest.fixture
def case(tmp_path):
    """Write a case on the village's feeder and read it; further files stand beside it."""

    def write(text="", *sets, **files):
        for name, content in files.items():
            (tmp_path / f"{name}.csv").write_text(content)
        (tmp_path / "case.yaml").write_text(f"grid: {{source: {VILLAGE}}}\n{text}")
        return load(tmp_path / "case.yaml", sets)

    return write


def _mistakes(read):
    with pytest.raises(ScenarioError) as caught:
        read()
    return [mistake.rpartition("/")[2] for mistake in caught.value.mistakes]


# -- reading -----------------------------------------------------------------------------------------------------------


def test_mistakes_are_told_all_at_once_with_their_places(case):
    """An unknown key, a wrong word and a figure beyond its bounds: a line each, with file, line and column."""
    told = _mistakes(
        lambda: case("customers: {export_cap: 5}\nbase_load: {from: nothing}\ntime: {intervals: 0}\nsede: 1\n")
    )
    assert told == [
        'case.yaml:2:13: "export_cap" is not a key of customers; did you mean "export_cap_kw"?',
        "case.yaml:3:19: base_load.from: must be 'none', 'nameplate', 'profiles' or 'table'; given 'nothing'.",
        "case.yaml:4:19: time.intervals: must be at least 1; given 0.",
        'case.yaml:5:1: "sede" is not a key of a network case; did you mean "seed"?',
    ]


def test_what_only_the_grid_knows_is_told_with_its_place(case):
    """Unknown customers and buses are told after the grid is read."""
    told = _mistakes(
        lambda: prepared(
            case("customers:\n  passive: [mller]\n  each:\n    - {id: shop}\n    - {id: store, bus: mil}\n    - {id: miller, bus: nowhere}\n")
        )
    )  # fmt: skip
    assert told == [
        'case.yaml:5:7: "shop" is no connection of the grid and has no bus: give it a bus, or write the id of a connection; known are miller, pastor, farmer.',
        'case.yaml:6:7: there is no bus "mil"; did you mean "mill"?',
        'case.yaml:7:7: there is no bus "nowhere"; known are grid, busbar, mill, church, farm.',
        'case.yaml:3:13: customers.passive.0: "mller" is no customer; did you mean "miller"?',
    ]


def test_sections_of_a_scenario_may_be_pasted():
    """What a scenario's grid, time and profiles say is understood by a case, key by key."""
    from sim.network_case import NetworkCase
    from sim.scenario import Scenario

    given = Scenario().model_dump(mode="json", by_alias=True, include={"grid", "time", "profiles"})
    read = NetworkCase.model_validate(given).model_dump(mode="json", by_alias=True)
    for section, keys in given.items():
        assert {key: read[section][key] for key in keys} == keys


def test_a_feeder_alone_is_a_case_with_defaults():
    """Every connection of ieee33 is a customer with 500 kW both ways, at its nameplate, in one interval; the source is not monitored."""
    ready = prepared(load("ieee33"))
    assert ready.ids[0] == "load 2"
    assert (len(ready.ids), ready.base_injection_kw.shape) == (32, (32, 1))
    assert ready.base_injection_kw.sum() == pytest.approx(-3715.0)
    assert ready.base_injection_kvar.sum() == pytest.approx(-2300.0)
    assert set(ready.export_cap_kw) == set(ready.import_cap_kw) == {500.0}
    assert ready.active.all()
    assert ready.limits.monitored.tolist() == [False] + [True] * 32
    low = prepared(load("european_lv"))
    assert (set(low.export_cap_kw), set(low.import_cap_kw)) == ({10.0}, {14.0})
    assert set(low.phases) == {"a", "b", "c"}


def test_customers_differ_by_list_and_by_table(case):
    """Caps for all, others from a table, and from the list; one more customer on a phase; orders, and who is passive."""
    ready = prepared(
        case(
            "customers:\n  export_cap_kw: 7\n  passive: [pastor]\n  file: who.csv\n  each:\n"
            "    - {id: store, bus: farm, import_cap_kw: 50, connection_order: 0, base_kw: 2, base_kvar: 1}\n",
            who="id,export_cap_kw,connection_order\nmiller,3,9\n",
        )
    )
    assert ready.ids == ("miller", "pastor", "farmer", "store")
    assert ready.export_cap_kw.tolist() == [3, 7, 7, 7]
    assert ready.import_cap_kw.tolist() == [14, 14, 14, 50]
    assert ready.active.tolist() == [True, False, True, True]
    assert ready.connection_order.tolist() == [9, 1, 2, 0]
    assert (ready.base_injection_kw[3, 0], ready.base_injection_kvar[3, 0]) == (-2, -1)
    assert ready.feeder.buses.ids[ready.model.connection_bus[3]] == "farm"
    alone = prepared(case("customers: {from: list, each: [{id: farmer}]}\n"))
    assert alone.ids == ("farmer",)


def test_mistakes_of_a_table_have_its_lines(case):
    """A wrong word, a negative cap and an unknown column are told with the table's own lines."""
    told = _mistakes(
        lambda: prepared(case("customers: {file: who.csv}\n", who="id,phase,export_cap_kw\nmiller,d,1\nfarmer,a,-1\n"))
    )
    assert told == [
        "who.csv:2:phase: expected a or b or c or abc, given 'd'.",
        "who.csv:3:export_cap_kw: must not be negative, given -1.",
    ]
    (missing,) = _mistakes(lambda: prepared(case("customers: {file: none.csv}\n")))
    assert missing == "none.csv."  # the end of the path at which it is looked for


# -- base load ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "kw", "kvar"),
    [
        ("{from: none}", [0, 0, 0], [0, 0, 0]),
        ("{factor: 0.5}", [-2, -1.5, -4], [-0.4, -0.25, -1]),
        ("{power_factor: 0.8}", [-4, -3, -8], [-3, -2.25, -6]),
        ("{devices: [pv, ev]}", [-4 + 9.8, -3 - 11, -8 + 30], [-0.8, -0.5, -2]),
    ],
)
def test_base_load_by_hand(case, section, kw, kvar):
    """Nothing, half of it, another power factor, and with the devices of the data set."""
    ready = prepared(case(f"base_load: {section}\n"))
    np.testing.assert_allclose(ready.base_injection_kw[:, 0], kw, atol=1e-12)
    np.testing.assert_allclose(ready.base_injection_kvar[:, 0], kvar, atol=1e-12)


def test_base_load_from_tables(case):
    """A column for each customer, a line for each interval; who has a base_kw of its own needs no column."""
    ready = prepared(
        case(
            "customers: {each: [{id: farmer, base_kw: 4}]}\nbase_load: {from: table, file: load.csv, reactive_file: q.csv}\n",
            load="time,pastor,miller\n00:00,1,2\n00:15,3,-4\n",
            q="pastor,miller\n0.1,0.2\n0.3,0.4\n",
        )
    )
    assert ready.base_injection_kw.tolist() == [[-2, 4], [-1, -3], [-4, -4]]
    assert ready.base_injection_kvar.tolist() == [[-0.2, -0.4], [-0.1, -0.3], [0, 0]]
    told = _mistakes(
        lambda: prepared(
            case("base_load: {from: table, file: load.csv}\ntime: {intervals: 3}\n", load="pastor,miler\n1,x\n2,1e9\n")
        )
    )
    assert told == [
        "load.csv:1:miler: is no customer of the case; remove the column, or correct its name.",
        "load.csv:1:: there is no column for the customer 'miller'.",
        "load.csv:1:: there is no column for the customer 'farmer'.",
        "load.csv:1:: the table has 2 intervals; the case has 3.",
    ]


def test_base_load_from_profiles():
    """SimBench's profiles times the nameplates, for a day in its quarter-hours, from the local noon on."""
    ready = prepared(load("simbench:1-LV-rural3--2-no_sw", ("base_load.from=profiles", "time.days=1")))
    assert ready.base_injection_kw.shape[1] == 96
    assert str(ready.times[0]) == "2016-07-18T10:00:00"
    plate = ready.grid.connections.base_kw
    assert (ready.base_injection_kw <= 1e-12).all()
    assert (-ready.base_injection_kw <= plate[:, None] + 1e-9).all()
    assert 0.03 < -ready.base_injection_kw.sum(axis=0).mean() / plate.sum() < 0.5


# -- the command -------------------------------------------------------------------------------------------------------


def test_flow_of_the_33_buses(call):
    """The published losses and lowest voltage, confirmed by the referee, as JSON; nothing is broken: 0."""
    code, out, err = call("network", "flow", "ieee33", "--referee", "--json")
    result = json.loads(out)
    assert (code, err) == (0, "")
    assert result["loss_kw"] == [pytest.approx(202.6771, abs=5e-5)]
    assert min(bus["v_min_pu"] for bus in result["buses"]) == pytest.approx(0.9130905, abs=5e-8)
    assert result["referee"]["agrees"] is True
    assert result["referee"]["voltage_pu"] < 1e-8
    assert (result["status"], result["violations"]) == ("ok", [])


def test_broken_limits_are_named(call):
    """A floor of 0.95: bus 18 is the worst, by name, and the command ends with 1."""
    code, out, _ = call("network", "flow", "ieee33", "--set", "grid.v_min_pu=0.95")
    assert code == 1
    assert "breach    under voltage at 18: 0.91309 p.u., limit 0.95 in interval 0" in out
    code, out, _ = call("network", "flow", "european_lv", "--set", "grid.v_max_pu=1.05", "--json")
    broken = json.loads(out)["violations"]
    assert code == 1
    assert {one["phase"] for one in broken if one["kind"] == "over_voltage"} == {"c"}
    assert broken[0]["value"] == max(one["value"] for one in broken if one["kind"] == "over_voltage")


def test_what_does_not_converge_is_never_ok(call):
    """Twenty times the load has no solution: status, exit code and an empty place for every figure."""
    code, out, _ = call("network", "flow", "ieee33", "--set", "base_load.factor=20", "--json")
    result = json.loads(out)
    assert (code, result["status"], result["converged"]) == (1, "not_converged", 0)
    assert result["loss_kw"] == result["source_kw"] == [None]
    assert {bus["v_min_pu"] for bus in result["buses"]} == {None}
    assert result["violations"][0]["kind"] == "not_converged"
    code, out, _ = call("network", "flow", "ieee33", "--set", "base_load.factor=20")
    assert code == 1
    assert "the power flow does not converge" in out


def test_a_referee_who_disagrees_is_heard(call, monkeypatch):
    """A difference of 1e-5 pu from power-grid-model is a failure of its own: 1."""
    from dataclasses import replace

    usual = network_flow.check

    def other(*args):
        flow = usual(*args)
        return replace(flow, v_pu=flow.v_pu + 1e-5)

    monkeypatch.setattr(network_flow, "check", other)
    code, out, _ = call("network", "flow", "ieee33", "--referee")
    assert code == 1
    assert "power-grid-model DISAGREES" in out


def test_bad_input_ends_with_two(call, tmp_path):
    """A feeder that is not there, and a file that must not be written over: 2, a sentence, and nothing on standard output."""
    code, out, err = call("network", "flow", "nowhere")
    assert (code, out) == (2, "")
    assert "the feeder 'nowhere' does not exist" in err
    path = tmp_path / "case.yaml"
    path.write_text("grid: {source: ieee33}\n")
    code, out, err = call("network", "flow", path, "--out", path)
    assert (code, out) == (2, "")
    assert "it is the case itself" in err


def test_result_is_written_to_a_file(call, tmp_path):
    """--out keeps the JSON, --quiet says nothing."""
    code, out, err = call("network", "flow", "ieee33", "--out", tmp_path / "flow.json", "--quiet")
    assert (code, out, err) == (0, "", "")
    assert json.loads((tmp_path / "flow.json").read_text())["customers"] == 32


def test_result_as_a_table():
    """Voltages as a frame: one row for each bus, phase and interval."""
    frame = network_flow.flow(prepared(load("ieee33", ("time.intervals=2",)))).to_frame()
    assert len(frame) == 66
    assert frame["v_pu"].min() == pytest.approx(0.9130905, abs=5e-8)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_page_is_what_the_models_say():
    """docs/network-case.md is what `python -m sim.network_case_page` prints."""
    assert (ROOT / "docs" / "network-case.md").read_text(encoding="utf-8") == markdown()


def test_schema_has_units(call):
    """`commonwatt schema --network` is the schema of a case, with units."""
    code, out, _ = call("schema", "--network")
    assert code == 0
    assert json.loads(out) == json_schema()
    assert json_schema()["$defs"]["CustomersSpec"]["properties"]["export_cap_kw"]["unit"] == "kW"
    assert call("schema", "--network", "--case")[0] == 2


def test_every_command_of_the_network_is_documented():
    """docs/command-line.md names every command of `network`, and every option of theirs."""
    import typer

    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    commands = typer.main.get_command(cli.app).commands["network"].commands
    for name, command in commands.items():
        assert f"`commonwatt network {name}" in page, name
        options = {option for one in command.params for option in one.opts if option.startswith("--")} - {"--help"}
        assert [option for option in sorted(options) if option not in page] == [], name


def test_examples_end_as_they_say(call):
    """European LV with 1.02 pu at the source keeps its limits; the 33 buses are too low in the evening, at five of them."""
    assert call("network", "flow", ROOT / "examples" / "network" / "european_lv.yaml", "--referee", "--quiet") == (
        0,
        "",
        "",
    )
    code, out, _ = call("network", "flow", ROOT / "examples" / "network" / "ieee33.yaml", "--referee", "--json")
    result = json.loads(out)
    assert (code, result["referee"]["agrees"], len(result["violations"])) == (1, True, 5)
    assert {one["worst_interval"] for one in result["violations"]} == {3}


def test_missing_tables_are_told_together(case):
    """Customers and base loads from files that are not there: a line each, with its place."""
    with pytest.raises(ScenarioError) as told:
        prepared(
            case("customers: {file: who.csv}\nbase_load: {from: table, file: loads.csv, reactive_file: kvar.csv}\n")
        )
    assert [line.split(": ")[1] for line in told.value.mistakes] == [
        "customers.file", "base_load.file", "base_load.reactive_file"]  # fmt: skip


def test_mistakes_of_the_table_and_of_the_grid_are_told_together(case):
    """A wrong word in one line of the table, a bus that the grid lacks in another; without a grid, its absence beside the table's mistakes."""
    table = {"who": "id,phase,bus\nmiller,d,\nshop,a,nowhere\nfarmer,a,\nfarmer,b,\n"}
    mistakes = [
        "who.csv:2:phase: expected a or b or c or abc, given 'd'.",
        'who.csv:5:id: "farmer" is told at who.csv:4:id already.',
        'who.csv:3:id: there is no bus "nowhere"; known are grid, busbar, mill, church, farm.',
    ]
    assert _mistakes(lambda: prepared(case("customers: {file: who.csv, passive: [miller]}\n", **table))) == mistakes
    no_grid, *others = _mistakes(lambda: prepared(case("customers: {file: who.csv}\n", "grid.source=nowhere", **table)))
    assert no_grid.startswith("nowhere' does not exist.")
    assert others == mistakes[:2]


def test_a_decimal_comma_in_a_table_is_no_other_number(case):
    """1,5 under one name is not 1: the line is told."""
    read = case(
        "customers: {from: list, each: [{id: one, bus: farm}]}\nbase_load: {from: table, file: loads.csv}\n",
        loads="one\n1,5\n",
    )
    with pytest.raises(ScenarioError, match=r"loads.csv:2:: has 2 cells for 1 names. Write decimal points"):
        prepared(read)


def test_results_go_through_links_and_pipes(tmp_path, call):
    """A link stays one and its file is written; a pipe gets the JSON and stays a pipe."""
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    assert call("network", "flow", "ieee33", "--out", tmp_path / "link.json", "--quiet")[0] == 0
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["feeder"] == "ieee33"

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert call("network", "flow", "ieee33", "--out", pipe, "--quiet")[0] == 0
        assert json.loads(os.read(reader, 1 << 20))["feeder"] == "ieee33"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert not list(tmp_path.glob(".*partial"))
