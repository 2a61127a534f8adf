"""A whole run on a feeder whose customers stand on single phases: written phase by phase, and certified from the tables alone."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sim.certify import certify
from sim.results import Run
from sim.run import run
from sim.scenario import ScenarioError, load

STREET = Path(__file__).parent.parent / "examples" / "street"
PHASES = {"Amsel": "a", "Buche": "b", "Distel": "c", "Esche": "a", "Fichte": "b", "Ginster": "a"}
"""The farm keeps all three."""


def street(folder: Path, zero_sequence: bool = True, phases: dict[str, str] = PHASES) -> Path:
    """Copy the street with homes on single phases; lines of four times the resistance for what returns."""
    shutil.copytree(STREET, folder)
    if zero_sequence:
        file = folder / "feeder" / "branches.csv"
        with file.open(encoding="utf-8", newline="") as text:
            rows = list(csv.DictReader(text))
        for row in rows:
            if row["kind"] == "line":
                row["r0_ohm"], row["x0_ohm"] = str(4 * float(row["r1_ohm"])), str(3 * float(row["x1_ohm"]))
        with file.open("w", encoding="utf-8", newline="") as text:
            table = csv.DictWriter(text, [*rows[0], *({"r0_ohm", "x0_ohm"} - set(rows[0]))], restval="")
            table.writeheader()
            table.writerows(rows)
    scenario = folder / "scenario.yaml"
    words = scenario.read_text(encoding="utf-8")
    for home, phase in phases.items():
        words = re.sub(rf"(id: {home}, bus: [^,]+,)", rf"\1 phase: {phase},", words)
    scenario.write_text(words, encoding="utf-8")
    return scenario


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One day of the street, with a storage on phase b."""
    home = tmp_path_factory.mktemp("street")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWATT_CACHE", str(home / "cache"))
        scenario = load(street(home / "street"), sets=("storage.0.phase=b",), days=1)
        return run(scenario, home / "run")


def rows(result: Run, table: str, column: str, where: str) -> np.ndarray:
    answer = result.query(f"SELECT {column} AS wanted FROM {table} WHERE {where} ORDER BY time")
    return np.asarray(answer.column("wanted").to_pylist())


def test_every_phase_has_its_row_and_the_run_is_certified(done: Run) -> None:
    """Buses and branches have the rows a, b and c; power-grid-model finds them all from the tables."""
    assert {row["phase"] for row in done.query("SELECT DISTINCT phase FROM bus_voltages").to_pylist()} == {
        "a",
        "b",
        "c",
    }
    told = {row["agent_id"]: row["phase"] for row in done.query("SELECT agent_id, phase FROM agents").to_pylist()}
    assert {name: told[name] for name in PHASES} == PHASES
    assert told["Holler"] == "abc"
    assert told["street battery"] == done.query("SELECT phase FROM ess").to_pylist()[0]["phase"] == "b"

    result = certify(done.path)

    assert result.ok, [(check.name, check.detail) for check in result.checks if not check.ok]


def test_what_a_customer_takes_from_its_phase_returns_through_the_neutral(done: Run) -> None:
    """The power into the feeder is that of the meters and the losses, and the phases are not alike."""
    at = "branch_id = 'transformer'"
    entering = sum(rows(done, "branch_flows", "p_kw", f"{at} AND phase = '{phase}'") for phase in "abc")
    metered = done.query("SELECT sum(meter_kw) AS kw FROM meters GROUP BY time ORDER BY time").column("kw").to_numpy()
    lost = done.query("SELECT sum(loss_kw) AS kw FROM branch_flows GROUP BY time ORDER BY time").column("kw").to_numpy()

    np.testing.assert_allclose(entering, metered + lost, atol=1e-6)
    a, b = (rows(done, "bus_voltages", "v_pu", f"bus_id = 'street 3' AND phase = '{phase}'") for phase in "ab")
    assert np.abs(a - b).max() > 1e-3


def test_the_report_names_the_phase_of_the_worst_voltage(done: Run) -> None:
    """Highest and lowest voltage stand with their bus and phase."""
    worst = done.query(
        "SELECT arg_max(bus_id || ' (phase ' || phase || ')', v_pu) AS place FROM bus_voltages "
        "WHERE bus_id IN (SELECT bus_id FROM buses WHERE is_monitored)"
    ).to_pylist()

    assert str(worst[0]["place"]) in (done.path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [("bus_voltages", "v_pu", 2e-6), ("branch_flows", "p_kw", 0.02), ("branch_flows", "loss_kw", 0.02)],
)
def test_a_forged_phase_is_found(done: Run, tmp_path: Path, table: str, column: str, change: float) -> None:
    """One figure of one phase, moved by a little more than is promised, fails the certificate and is named."""
    import pyarrow as pa

    folder = tmp_path / "forged"
    shutil.copytree(done.path, folder)
    file = folder / "tables" / f"{table}.parquet"
    told = pq.read_table(file)
    figures = told.column(column).to_numpy().copy()
    figures[100] += change
    pq.write_table(told.set_column(told.column_names.index(column), told.schema.field(column), pa.array(figures)), file)

    failed = [check for check in certify(folder).checks if not check.ok]

    assert any("phase" in check.detail and column in check.detail for check in failed), failed


def test_lines_told_conductor_by_conductor_are_certified_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lane has conductors a and b alone, the way to the farm a matrix that is not transposed."""
    from network.csv_feeder import write_folder
    from sim.resolve_data import grid_of

    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))
    scenario = street(tmp_path / "street")
    grid = grid_of(load(scenario))
    branches = grid.feeder.branches
    phases, z, c = list(branches.phases), branches.z_abc_ohm.copy(), branches.c_abc_nf.copy()
    for k, bus in enumerate(grid.feeder.buses.ids[int(end)] for end in branches.to_bus):
        if bus.startswith("lane"):
            phases[k] = "ab"
        if bus == "farm":
            z[k] = 0.05 * np.array([[1.0, 0.30, 0.2], [0.30, 1.1, 0.25], [0.2, 0.25, 0.9]]) * (1 + 0.4j)
            c[k] = 40.0 * (1.5 * np.eye(3) - 0.2)
    told = replace(branches, phases=tuple(phases), z_abc_ohm=z, c_abc_nf=c)
    shutil.rmtree(tmp_path / "street" / "feeder")
    write_folder(replace(grid, feeder=replace(grid.feeder, branches=told)), tmp_path / "street" / "feeder")

    done = run(load(scenario, days=1), tmp_path / "run")

    lines = {row["branch_id"] for row in done.query("SELECT DISTINCT branch_id FROM conductors").to_pylist()}
    assert len(lines) == sum(p == "ab" for p in phases) + 1 >= 3
    lane = done.query("SELECT DISTINCT phase FROM bus_voltages WHERE bus_id = 'lane 2' ORDER BY phase").to_pylist()
    assert [row["phase"] for row in lane] == ["a", "b"]
    result = certify(done.path)
    assert result.ok, [(check.name, check.detail) for check in result.checks if not check.ok]


def test_a_single_phase_needs_the_zero_sequence_of_every_line(tmp_path: Path) -> None:
    """Told at the grid, with the lines that lack it."""
    from sim.resolve import resolve

    with pytest.raises(ScenarioError, match=r"scenario\.yaml:\d+:\d+: .*without r0_ohm and x0_ohm"):
        resolve(load(street(tmp_path / "street", zero_sequence=False)))


def test_a_phase_that_does_not_arrive_is_told_at_the_home(tmp_path: Path) -> None:
    """A lane of phase b alone does not feed a home on a."""
    from sim.people import build
    from sim.resolve_data import grid_of, profiles_of

    scenario = load(street(tmp_path / "street"))
    grid = grid_of(scenario)
    feeder = grid.feeder
    lane = {k for k, bus in enumerate(feeder.buses.ids) if bus.startswith("lane")}
    phases = ["b" if int(bus) in lane else "abc" for bus in feeder.branches.to_bus]
    narrow = replace(grid, feeder=replace(feeder, branches=replace(feeder.branches, phases=tuple(phases))))

    with pytest.raises(ScenarioError) as told:
        build(scenario, narrow, profiles_of(scenario))

    assert len(told.value.mistakes) == 1
    assert 'Ginster: is on phase a, but at bus "lane 2" only b arrives' in told.value.mistakes[0]


@pytest.mark.slow
def test_the_european_feeder_runs_and_is_certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """55 customers, each on one of three phases of 907 buses."""
    monkeypatch.setenv("COMMONWATT_CACHE", str(tmp_path / "cache"))

    done = run(load(STREET.parent / "european_lv.yaml"), tmp_path / "run")

    told = done.query("SELECT phase, count(*) AS homes FROM agents WHERE role = 'prosumer' GROUP BY ALL ORDER BY ALL")
    assert [(row["phase"], row["homes"]) for row in told.to_pylist()] == [("a", 21), ("b", 19), ("c", 15)]
    result = certify(done.path)
    assert result.ok, [(check.name, check.detail) for check in result.checks if not check.ok]
