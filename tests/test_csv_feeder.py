"""Feeders as CSV folders: read, written, and every mistake told with its place."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.csv_feeder import BRANCHES, BUSES, CONNECTIONS, read_folder, write_folder
from network.csv_table import Column, read_table
from network.elements import Branches, Buses
from network.feeder import Feeder
from network.grid import Bounds, Device, Grid, connect
from network.sources import SourceError, read

VILLAGE = Path(__file__).parent / "data_feeders" / "village"


@pytest.fixture
def folder(tmp_path):
    """A copy of the village that may be spoilt."""
    return Path(shutil.copytree(VILLAGE, tmp_path / "village"))


def _replace(path, old, new, count=1):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, count))


def _mistakes(folder):
    with pytest.raises(SourceError) as caught:
        read(folder)
    assert all(re.match(r"\w+\.csv:\d+:\w*: \S", mistake) for mistake in caught.value.mistakes), caught.value.mistakes
    return caught.value.mistakes


# --- read -------------------------------------------------------------------------------------------------------------


def test_village_is_read():
    """Five buses, a transformer, three lines in service and a tie, three customers."""
    grid = read(VILLAGE)
    feeder, c = grid.feeder, grid.connections
    assert (feeder.name, feeder.buses.ids[feeder.source_bus], feeder.source_v_pu) == ("village", "grid", 1.02)
    assert feeder.branches.in_service.tolist() == [True, True, True, True, False]
    assert feeder.distance_m.tolist() == [0, 0, 80, 160, 200]
    assert (feeder.branches.tap_side[0], feeder.branches.tap_position[0], feeder.branches.clock[0]) == ("from", -1, 5)
    assert c.id == ("miller", "pastor", "farmer")
    assert (c.pv_kw_peak.tolist(), c.ev_kw.tolist(), c.ev_count.tolist()) == ([9.8, 0, 30], [0, 11, 0], [0, 1, 0])
    assert c.profile == ("H0-A_pload", "H0-B_pload", "L1-A_pload")
    assert c.reactive_profile == ("", "", "")
    assert grid.limits.v_max_pu[1:].tolist() == [1.1] * 4
    assert np.isnan(grid.limits.v_max_pu[0])


def test_what_is_not_given_has_its_default(folder):
    """Columns that are left out: no rating is no limit, an ideal source, nobody connected."""
    (folder / "buses.csv").write_text("bus_id,v_nominal_v,is_source\na,400,true\nb,400,false\n")
    (folder / "branches.csv").write_text("branch_id,kind,from_bus,to_bus,r1_ohm,x1_ohm\nL,line,a,b,0.1,0.05\n")
    (folder / "connections.csv").unlink()
    grid = read(folder)
    assert (grid.feeder.source_v_pu, grid.feeder.source_short_circuit_va) == (1.0, 1e16)
    assert (grid.feeder.branches.rating_a[0], grid.feeder.branches.c1_nf[0]) == (np.inf, 0.0)
    assert np.isnan(grid.feeder.branches.sn_kva[0])
    assert len(grid.connections) == 0


def test_semicolons_a_mark_and_blank_lines_are_understood(folder):
    """As spreadsheets save it: byte order mark, semicolons, CRLF, an empty line at the end."""
    for name in ("buses.csv", "branches.csv", "connections.csv"):
        text = (folder / name).read_text().replace(",", ";").replace("\n", "\r\n") + "\r\n;;\r\n"
        (folder / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    for name, cells in (("buses.csv", 9), ("branches.csv", 24), ("connections.csv", 11)):
        _replace(folder / name, "\n;;", "\n" + ";" * cells)
    ours, theirs = read(folder), read(VILLAGE)
    assert ours.feeder.buses.ids == theirs.feeder.buses.ids
    assert ours.connections.base_kw.tolist() == theirs.connections.base_kw.tolist()


# --- every mistake with its place -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "place", "sentence"),
    [
        ("buses.csv", "mill,400", "mill,0.4", "buses.csv:4:v_nominal_v", "volt, not kilovolt"),
        ("buses.csv", "mill,400", "mill,-400", "buses.csv:4:v_nominal_v", "must not be negative"),
        ("buses.csv", "mill,400", "mill,nan", "buses.csv:4:v_nominal_v", "Leave the cell empty"),
        ("buses.csv", "mill,400", "mill,inf", "buses.csv:4:v_nominal_v", "finite"),
        ("buses.csv", "mill,400", "mill,", "buses.csv:4:v_nominal_v", "nothing is given"),
        ("buses.csv", "mill,400", "mill,4OO", "buses.csv:4:v_nominal_v", "expected a number"),
        ("buses.csv", "mill,400", "mill,4_00", "buses.csv:4:v_nominal_v", "expected a number"),
        ("buses.csv", "mill,400", 'mill,"400,0"', "buses.csv:4:v_nominal_v", "decimal point"),
        ("buses.csv", "church,", "mill,", "buses.csv:5:bus_id", "stands in line 4 already"),
        ("buses.csv", "20000,true,1.02", "20000,true,230", "buses.csv:2:source_v_pu", "per unit"),
        ("buses.csv", "20000,true,1.02,1e16", "20000,true,1.02,500", "buses.csv:2:source_short_circuit_va", "not MVA"),
        ("buses.csv", "400,false,,,,80,10,0.9", "400,false,,,,80,10,360", "buses.csv:4:v_min_pu", "per unit"),
        ("buses.csv", "mill,400,false", "mill,400,perhaps", "buses.csv:4:is_source", "true or false"),
        ("buses.csv", "mill,400,false", "mill,400,true", "buses.csv:4:is_source", "a second source"),
        ("buses.csv", "20000,true", "20000,false", "buses.csv:1:is_source", "no bus is the source"),
        ("branches.csv", "line,true,busbar", "cable,true,busbar", "branches.csv:3:kind", "line or transformer"),
        ("branches.csv", "busbar,mill,0.0165", "busbar,mill,", "branches.csv:3:r1_ohm", "is needed here"),
        ("branches.csv", "busbar,mill,0.0165", "busbar,mill,-0.1", "branches.csv:3:r1_ohm", "must not be negative"),
        ("branches.csv", "busbar,mill,0.0165", "busbar,mill,16500", "branches.csv:3:r1_ohm", "not milliohm"),
        ("branches.csv", "0.026,,270", "0.026,,0.27", "branches.csv:3:rating_a", "not kiloampere"),
        ("branches.csv", "true,busbar,mill", "true,busbar,windmill", "branches.csv:3:to_bus", "no bus 'windmill'"),
        ("branches.csv", ",250,20000", ",0.25,20000", "branches.csv:2:sn_kva", "not MVA"),
        ("branches.csv", ",400,4,3.25", ",400,0.04,3.25", "branches.csv:2:uk_percent", "not a fraction"),
        ("branches.csv", "0.6,5,from", "0.6,5.5,from", "branches.csv:2:clock", "whole number"),
        ("branches.csv", "5,from,-1", "5,HV,-1", "branches.csv:2:tap_side", "from or to"),
        ("branches.csv", "5,from,-1", "5,,-1", "branches.csv:2:tap_side", "on which side"),
        ("branches.csv", "mill-farm,", "mill-church,", "branches.csv:5:branch_id", "already"),
        ("connections.csv", "pastor,church", "pastor,chapel", "connections.csv:3:bus_id", "no bus 'chapel'"),
        ("connections.csv", "pastor,", "miller,", "connections.csv:3:agent_id", "already"),
        ("connections.csv", "church,3,", "church,-3,", "connections.csv:3:base_kw", "must not be negative"),
        ("connections.csv", "church,3,", "church,3000,", "connections.csv:3:base_kw", "not W"),
        ("connections.csv", "church,3,", "church,,", "", ""),
        ("connections.csv", "church,3,0.5", "church,NaN,0.5", "connections.csv:3:base_kw", "empty"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_column(folder, file, old, new, place, sentence):
    """One cell spoilt: one sentence, at its place (an empty load is none)."""
    _replace(folder / file, old, new)
    if not place:
        assert read(folder).connections.base_kw[1] == 0.0
        return
    mistakes = [mistake for mistake in _mistakes(folder) if mistake.startswith(f"{place}: ")]
    assert len(mistakes) == 1
    assert sentence in mistakes[0]


def test_all_mistakes_of_all_files_are_told_at_once(folder):
    """Four mistakes in three files: four sentences, buses first, in the order of the lines."""
    _replace(folder / "buses.csv", "mill,400,false", "mill,400,maybe")
    _replace(folder / "branches.csv", "0.0385", "x")
    _replace(folder / "connections.csv", "miller,mill,4", "miller,mill,four")
    _replace(folder / "connections.csv", ",30,PV1", ",-30,PV1")
    places = [mistake.split(": ")[0] for mistake in _mistakes(folder)]
    assert places == [
        "buses.csv:4:is_source",
        "branches.csv:5:r1_ohm",
        "connections.csv:2:base_kw",
        "connections.csv:4:pv_kw_peak",
    ]


def test_mistakes_of_the_shape_have_a_place_too(folder):
    """A loop and a bus without supply are told with the line of the branch or the bus."""
    _replace(folder / "branches.csv", "line,false,church,farm", "line,true,church,farm")
    assert re.match(r"branches\.csv:\d:: branch '\S+' closes a loop", _mistakes(folder)[0])
    _replace(folder / "branches.csv", "line,true,church,farm", "line,false,church,farm")
    _replace(folder / "branches.csv", "line,true,mill,farm", "line,false,mill,farm")
    assert re.match(r"buses\.csv:6:: bus 'farm' is not connected", _mistakes(folder)[0])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file is empty"),
        ("bus_id,v_nominal_v\na,400\n", "is_source: the column is missing"),
        ("bus_id,v_nominal_v,is_source,colour\na,400,true,red\n", "there is no column 'colour'"),
        ("bus_id,v_nominal,is_source\na,400,true\n", "Did you mean v_nominal_v"),
        ("bus_id,v_nominal_v,is_source,x,x\na,400,true,1,1\n", "stands there twice"),
        ("bus_id,v_nominal_v,is_source\na,400\n", "the row has 2 cells, the header 3"),
        ("bus_id,v_nominal_v,is_source\na,400,true,1\n", "the row has 4 cells, the header 3"),
    ],
)
def test_a_table_that_is_none_is_told(folder, text, sentence):
    """Header and rows that cannot be right."""
    (folder / "buses.csv").write_text(text)
    assert any(sentence in mistake for mistake in _mistakes(folder))


def test_bytes_that_are_no_text_are_told(folder):
    """Latin-1 umlauts: save as UTF-8."""
    (folder / "buses.csv").write_bytes("bus_id,v_nominal_v,is_source\nMühle,400,true\n".encode("latin-1"))
    assert any("not UTF-8" in mistake for mistake in _mistakes(folder))


def test_a_missing_file_is_told(folder):
    """Without branches there is no feeder."""
    (folder / "branches.csv").unlink()
    assert "branches.csv:1:: the file is missing" in _mistakes(folder)[0]


def test_a_long_list_of_mistakes_is_cut_in_the_message_alone(folder):
    """Thirty mistakes: twenty in the message, thirty in ``mistakes``."""
    rows = "".join(f"h{k},mill,-1\n" for k in range(30))
    (folder / "connections.csv").write_text("agent_id,bus_id,base_kw\n" + rows)
    with pytest.raises(SourceError, match="and 10 more") as caught:
        read(folder)
    assert len(caught.value.mistakes) == 30


# --- round trip -------------------------------------------------------------------------------------------------------

_names = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="\ufeff"), min_size=1, max_size=8
)


@st.composite
def grids(draw):
    """A radial low-voltage grid below a transformer, with customers."""
    n = draw(st.integers(2, 7))
    ids = draw(st.lists(_names, min_size=n, max_size=n, unique=True))
    lines = n - 2
    branch_ids = draw(st.lists(_names, min_size=lines + 1, max_size=lines + 1, unique=True))
    ohm = st.floats(1e-4, 1.0)
    maybe = st.one_of(st.just(np.nan), st.floats(-1e6, 1e6))

    def of_lines(values):
        return np.array([np.nan, *draw(st.lists(values, min_size=lines, max_size=lines))])

    def of_transformer(values):
        return np.array([draw(values), *([np.nan] * lines)])

    def per_bus(values):
        return np.array(draw(st.lists(values, min_size=n, max_size=n)))

    above = [0] + [draw(st.integers(1, bus - 1)) for bus in range(2, n)]
    phases = ["abc", *(["abc"] * lines)]
    z_abc, c_abc = np.full((lines + 1, 3, 3), complex(np.nan, np.nan)), np.full((lines + 1, 3, 3), np.nan)
    for bus in range(2, n):
        k, feeding = bus - 1, above[bus - 1] - 1
        below = [one for one in ("abc", "ab", "ac", "bc", "a", "b", "c") if set(one) <= set(phases[feeding])]
        phases[k] = draw(st.sampled_from(below))
        if draw(st.booleans()):
            there = np.ix_(*[["abc".index(one) for one in phases[k]]] * 2)
            size = len(phases[k])
            r, x, c = (
                np.array(draw(st.lists(st.floats(1e-3, 1), min_size=9, max_size=9))).reshape(3, 3) for _ in range(3)
            )
            z_abc[k][there] = (r + r.T + 1j * (x + x.T))[:size, :size]
            if draw(st.booleans()):
                c_abc[k][there] = (c + c.T)[:size, :size]

    feeder = Feeder(
        name="any",
        buses=Buses(tuple(ids), np.array([20_000.0] + [400.0] * (n - 1)), per_bus(maybe), per_bus(maybe)),
        branches=Branches(
            ids=tuple(branch_ids),
            kind=("transformer",) + ("line",) * lines,
            from_bus=np.array(above),
            to_bus=np.arange(1, n),
            in_service=np.ones(lines + 1, dtype=bool),
            r1_ohm=of_lines(ohm),
            x1_ohm=of_lines(ohm),
            c1_nf=of_lines(st.floats(0, 50)),
            r0_ohm=of_lines(st.one_of(st.just(np.nan), ohm)),
            x0_ohm=of_lines(st.one_of(st.just(np.nan), ohm)),
            c0_nf=of_lines(st.one_of(st.just(np.nan), st.floats(0, 50))),
            rating_a=of_lines(st.one_of(st.just(np.inf), st.floats(1, 1000))),
            sn_kva=of_transformer(st.floats(50, 1000)),
            v_from_v=of_transformer(st.just(20_000.0)),
            v_to_v=of_transformer(st.sampled_from([400.0, 420.0])),
            uk_percent=of_transformer(st.floats(1, 12)),
            pk_kw=of_transformer(st.floats(0, 0.4)),
            i0_percent=of_transformer(st.floats(0, 2)),
            p0_kw=of_transformer(st.floats(0, 2)),
            clock=of_transformer(st.integers(0, 11)),
            tap_side=(draw(st.sampled_from(["from", "to"])),) + ("",) * lines,
            tap_position=of_transformer(st.integers(-2, 2)),
            tap_step_percent=of_transformer(st.sampled_from([1.5, 2.5])),
            length_m=np.full(lines + 1, np.nan),
            phases=tuple(phases),
            z_abc_ohm=z_abc,
            c_abc_nf=c_abc,
        ),
        source_bus=0,
        source_v_pu=draw(st.floats(0.9, 1.1)),
        source_short_circuit_va=draw(st.sampled_from([1e16, 5e8])),
        source_rx_ratio=draw(st.floats(0, 10)),
    )
    kw = st.floats(0, 1500)
    devices = []
    for number, name in enumerate(draw(st.lists(_names, max_size=5, unique=True))):
        bus, phase = draw(st.integers(1, n - 1)), draw(st.sampled_from(["abc", "a", "b", "c"]))
        profile = draw(st.one_of(st.just(""), _names))
        devices.append(Device("base", name, bus, draw(kw), draw(st.floats(-50, 50)), profile=profile, phase=phase))
        if number % 2:
            devices.append(
                Device(
                    draw(st.sampled_from(["pv", "ev", "heat_pump", "battery"])),
                    name,
                    bus,
                    draw(kw),
                    kwh=draw(kw),
                    phase=phase,
                )
            )
    bounds = st.one_of(st.just(np.nan), st.floats(0.91, 1.09))
    limits = Bounds(per_bus(bounds), per_bus(bounds), np.array([draw(st.floats(1, 200)) for _ in range(lines + 1)]))
    return Grid(feeder, connect(devices), limits, "", "")


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_what_is_written_is_read_again(tmp_path_factory, grid):
    """A law: writing and reading changes no id, no figure to the last bit, no gap."""
    folder = tmp_path_factory.mktemp("any")
    write_folder(grid, folder)
    again = read_folder(folder)
    for ours, theirs in (
        (again.feeder.buses, grid.feeder.buses),
        (again.feeder.branches, grid.feeder.branches),
        (again.connections, grid.connections),
        (again.limits, grid.limits),
    ):
        for field in fields(ours):
            one, other = getattr(ours, field.name), getattr(theirs, field.name)
            if isinstance(one, tuple):
                assert one == other, field.name
            else:
                assert np.array_equal(one, other, equal_nan=one.dtype.kind in "fc"), field.name
    for name in ("source_bus", "source_v_pu", "source_short_circuit_va", "source_rx_ratio"):
        assert getattr(again.feeder, name) == getattr(grid.feeder, name)


def test_a_matrix_that_is_half_told_is_refused(folder):
    """A line told conductor by conductor needs every pair of its conductors, and no other; a transformer has none."""
    (folder / "buses.csv").write_text("bus_id,v_nominal_v,is_source\na,400,true\nb,400,false\nc,400,false\n")
    (folder / "connections.csv").unlink()
    head = "branch_id,kind,from_bus,to_bus,r1_ohm,x1_ohm,phases,r_aa_ohm,r_ab_ohm,r_bb_ohm,x_aa_ohm,x_ab_ohm,x_bb_ohm,c_aa_nf\n"
    (folder / "branches.csv").write_text(
        head + "K,line,a,b,0.1,0.1,ab,0.1,,0.1,0.1,0,0.1,\nL,line,b,c,0.1,0.1,a,0.1,0.1,,0.1,,,\n"
    )
    mistakes = _mistakes(folder)
    assert [mistake.split(": ")[0] for mistake in mistakes] == ["branches.csv:2:r_ab_ohm", "branches.csv:3:r_ab_ohm"]
    assert "needs r_aa_ohm, r_ab_ohm, r_bb_ohm, x_aa_ohm, x_ab_ohm, x_bb_ohm." in mistakes[0]
    assert "the line has the conductors a only" in mistakes[1]


def test_a_simbench_grid_survives_the_tables(tmp_path):
    """129 buses and 118 connections, written, read, and still the same impedances."""
    grid = read("simbench:1-LV-rural3--2-no_sw")
    write_folder(grid, tmp_path / "rural3")
    again = read(tmp_path / "rural3")
    assert np.array_equal(again.feeder.branches.r1_ohm, grid.feeder.branches.r1_ohm, equal_nan=True)
    assert again.connections.id == grid.connections.id
    assert again.connections.profiles == grid.connections.profiles


# --- declared columns -------------------------------------------------------------------------------------------------


def test_a_column_without_bounds_takes_any_figure(tmp_path):
    """Bounds are for what can be a wrong unit; a place on the map is free."""
    (tmp_path / "t.csv").write_text("x\n-1e300\n")
    rows, mistakes = read_table(tmp_path / "t.csv", [Column("x", "number", "anything")])
    assert (rows[0].number("x"), rows[0].line, mistakes) == (-1e300, 2, [])


@pytest.mark.parametrize(
    ("heading", "columns"), [("buses.csv", BUSES), ("branches.csv", BRANCHES), ("connections.csv", CONNECTIONS)]
)
def test_the_page_lists_the_columns_as_they_are(heading, columns):
    """docs/feeders.md has one row for every column, with its type, unit, description and need."""
    page = (Path(__file__).parent.parent / "docs" / "feeders.md").read_text(encoding="utf-8")
    section = page.split(f"### {heading}")[1].split("\n### ")[0].split("\n## ")[0]
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    need = {"yes": "yes", "line": "of a line", "transformer": "of a transformer", "": "no"}
    assert rows == [
        (
            f"`{column.name}`",
            " or ".join(column.words) or column.kind,
            column.unit,
            column.description,
            need[column.required],
        )
        for column in columns
    ]
