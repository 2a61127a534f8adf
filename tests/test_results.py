"""The run folder: whole or not at all, the same bytes for the same rows, and every column as promised."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sim.rows
from sim.query import QueryError
from sim.results import ResultsError, Run, Writer, blocks, find
from sim.schema import SECTIONS, TABLES, arrow_schema, tables_of
from sim.schema_page import markdown
from sim.table_folder import TableFolder

ROOT = Path(__file__).parents[1]
MANIFEST = {"outcome": "ok", "seed": 1, "interval_minutes": 15, "time_zone": "Europe/Berlin", "currency": "eur"}
TIMES = np.array(["2030-01-01T00:00", "2030-01-01T00:15"], dtype="datetime64[s]")


def voltage(values=((1.0, 1.01), (0.99, 0.98))):
    return blocks(TIMES, ["b1", "b2"], "bus_id", phase="abc", v_pu=np.array(values))


def write(path, content_id="id-1", **options):
    with Writer(path, content_id, scenario_yaml="name: test\n", **options) as writer:
        writer.log("begun", value=np.float64(np.nan), at=TIMES[0])
        writer.append("tables", "bus_voltages", voltage())
        return writer.finish(MANIFEST)


def hidden(parent):
    return [p.name for p in parent.iterdir() if p.name.startswith(".")]


# --- the promise of the columns ---------------------------------------------------------------------------------------


def promised():
    """The tables and columns of the contract, as text, independent of the schema's code."""
    return {
        "agents": "agent_id role bus_id phase aggregator_id tariff_id pv_kw_peak battery_kwh battery_charge_kw battery_discharge_kw battery_efficiency_charge battery_efficiency_discharge battery_initial_kwh ev_count heat_pump_kw load_profile",
        "ess": "ess_id operator_id bus_id phase energy_kwh charge_kw discharge_kw efficiency_charge efficiency_discharge self_discharge_per_h initial_kwh",
        "buses": "bus_id v_nominal_v is_source source_v_pu source_short_circuit_va source_rx_ratio x y",
        "series": "time series_id value unit",
        "branches": "branch_id kind in_service from_bus to_bus r1_ohm x1_ohm c1_nf r0_ohm x0_ohm c0_nf rating_a sn_kva v_from_v v_to_v uk_percent pk_kw i0_percent p0_kw clock tap_side tap_position tap_step_percent",
        "meters": "time agent_id base_load_kw ev_kw heat_pump_kw load_kw pv_available_kw pv_kw battery_charge_kw battery_discharge_kw battery_kwh meter_kw meter_kvar curtailed_kw shifted_kw cause",
        "forecasts": "time agent_id issued_at stage load_kw pv_kw",
        "envelopes": "issued_at time agent_id import_limit_kw export_limit_kw firm_charge_kw mode rule binding_element",
        "positions": "stage time agent_id exchange_kw rented_charge_kw rented_discharge_kw grid_buy_kw grid_sell_kw",
        "trades": "stage time seller_id buyer_id energy_kwh price_eur_per_kwh network_charge_eur_per_kwh",
        "prices": "stage time tariff_id energy_eur_per_kwh retail_buy_eur_per_kwh retail_sell_eur_per_kwh",
        "rights": "stage right_id ess_id agent_id start end energy_kwh power_kw rent_energy_eur_per_kwh rent_power_eur_per_kw firm",
        "storage": "time ess_id charge_kw discharge_kw energy_kwh loss_kwh netting_gain_kwh wear_eur",
        "storage_ledger": "time ess_id agent_id charge_kw discharge_kw energy_kwh",
        "bus_voltages": "time bus_id phase v_pu",
        "branch_flows": "time branch_id phase p_kw q_kvar current_a loading_percent loss_kw",
        "violations": "time element kind value limit agent_id",
        "clearings": "clearing_id stage opened_at converged iterations primal_residual dual_residual cost_eur bound_eur gap max_agent_kkt",
        "iterations": "clearing_id iteration primal_residual dual_residual penalty",
        "ledger": "posting_id transaction_id time account kind rule energy_milliwatt_hour amount_micro_eur previous_hash hash",
        "bills": "agent_id period line quantity unit price_eur amount_eur rule",
        "kpis": "kpi scope entity period boundary value unit reference difference percent",
        "messages": "sent_at delivered_at sender receiver kind bytes lost",
    }


@pytest.mark.parametrize("table", promised())
def test_every_promised_column_is_there(table):
    """A column of the contract is never renamed or dropped; others may follow it."""
    assert set(promised()[table].split()) <= set(TABLES[table].names)


def test_there_is_no_table_beyond_the_promise_but_those_named_here():
    """What the schema declares is what the contract lists, the aggregators' invoices, conductors of lines that need them, who was held, and locational prices."""
    assert set(TABLES) == set(promised()) | {"invoices", "conductors", "enforcement", "locational_prices"}


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_unit_in_a_name_is_the_unit_of_the_column(table):
    """A column called _kw is in kW: names and metadata cannot disagree."""
    units = {
        "_kw": "kW", "_kwh": "kWh", "_kvar": "kvar", "_pu": "pu", "_percent": "%", "_ohm": "ohm", "_nf": "nF", "_kva": "kVA",
        "_eur_per_kwh": "eur/kWh", "_eur_per_kw": "eur/kW", "_per_h": "1/h", "_v": "V", "_a": "A", "_va": "VA", "_kw_peak": "kW",
    }  # fmt: skip
    for column in table.columns:
        endings = [unit for ending, unit in units.items() if column.name.endswith(ending)]
        if endings:
            longest = max((e for e in units if column.name.endswith(e)), key=len)
            assert column.unit == units[longest], column.name
        assert column.description


def test_the_page_about_the_run_folder_is_printed_from_the_schema():
    """docs/results.md is what `python -m sim.schema_page` prints."""
    assert (ROOT / "docs/results.md").read_text(encoding="utf-8") == markdown()


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_run_has_every_table_even_without_rows(tmp_path):
    """A table that nobody wrote exists with its columns, in every folder of the run."""
    run = write(tmp_path / "run")

    for section in SECTIONS:
        files = {file.stem for file in (run.path / section).glob("*.parquet")}
        assert files == set(tables_of(section))
        for table in files:
            assert run.table(table, section).schema == arrow_schema(TABLES[table])
    assert run.table("bus_voltages").num_rows == 4
    assert run.table("meters").num_rows == 0
    assert hidden(tmp_path) == []


def test_unit_sign_and_meaning_stand_in_the_file(tmp_path):
    """Somebody with only the Parquet file still learns the sign of a meter."""
    field = pq.read_schema(write(tmp_path / "run").path / "tables/meters.parquet").field("meter_kw")

    assert field.metadata[b"unit"] == b"kW"
    assert field.metadata[b"sign"].decode() == "import +, export −"
    assert b"meter" in field.metadata[b"description"]


def test_an_exception_leaves_nothing(tmp_path):
    """A run that fails half-way leaves neither a folder nor a hidden one."""

    def fail_half_way():
        with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
            writer.append("tables", "bus_voltages", voltage())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()

    assert list(tmp_path.iterdir()) == []


def test_leaving_without_finishing_leaves_nothing(tmp_path):
    """A run that nobody finished is no run."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.append("tables", "bus_voltages", voltage())

    assert list(tmp_path.iterdir()) == []


KILLED = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from sim.results import Writer
writer = Writer(Path(sys.argv[1]) / "run", "id", scenario_yaml="")
writer.log("begun")
print("ready", flush=True)
time.sleep(60)
"""


def start_and_wait(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout.readline().strip() == "ready"
    return process


def test_a_killed_run_leaves_no_run_and_is_cleaned_up_at_the_next_start(tmp_path):
    """After kill -9 there is no folder of that name, and the next run removes what is left."""
    process = start_and_wait(tmp_path)
    assert len(hidden(tmp_path)) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "run").exists()

    write(tmp_path / "other")

    assert hidden(tmp_path) == []


def test_the_folder_of_a_living_process_is_left_alone(tmp_path):
    """Two runs side by side do not remove one another's work."""
    process = start_and_wait(tmp_path)
    try:
        theirs = hidden(tmp_path)
        write(tmp_path / "other")
        assert hidden(tmp_path) == theirs
    finally:
        process.kill()
        process.communicate()


def test_a_number_given_to_a_younger_process_does_not_protect_a_dead_one(tmp_path):
    """In a container the next process may have the dead one's number: the age tells them apart."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        left = tmp_path / writer.folder.name
        past = time.time() - 10 * 24 * 3600
        for file in [*left.iterdir(), left]:
            os.utime(file, (past, past))
        write(tmp_path / "other")

        assert not left.exists()


FULL = """
import resource, sys
import numpy as np
from pathlib import Path
from types import SimpleNamespace
from sim.results import ResultsError, Writer
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
noise = np.random.default_rng(1).normal(size=200_000)
try:
    with Writer(Path(sys.argv[1]) / "run", "id", scenario_yaml="") as writer:
        writer.append("tables", "bus_voltages", {"time": np.datetime64(0, "s"), "bus_id": "b", "phase": "abc", "v_pu": noise})
        writer.finish({"outcome": "ok", "seed": 1, "interval_minutes": 15, "time_zone": "UTC", "currency": "eur"})
except ResultsError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX")
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    """The disk's refusal reaches the user as a sentence, and the half-written folder goes."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert done.stdout.startswith("The disk is full: ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


# --- the same run is found again --------------------------------------------------------------------------------------


def test_a_run_of_the_same_content_is_found_again(tmp_path):
    """The same id is used again, another id is not."""
    write(tmp_path / "run", "id-1")

    assert find(tmp_path / "run", "id-1").manifest["content_id"] == "id-1"
    assert find(tmp_path / "run", "id-2") is None
    assert find(tmp_path / "nowhere", "id-1") is None


def test_another_run_is_only_replaced_when_forced(tmp_path):
    """A folder that holds another run is refused, and replaced with force."""
    write(tmp_path / "run", "id-1")

    with pytest.raises(ResultsError, match=r"holds another run \(id-1\) already.*--force"):
        Writer(tmp_path / "run", "id-2", scenario_yaml="")
    assert write(tmp_path / "run", "id-2", force=True).manifest["content_id"] == "id-2"
    assert hidden(tmp_path) == []


def test_a_folder_that_is_no_run_is_never_replaced(tmp_path):
    """--out pointing at somebody's documents destroys nothing, forced or not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")

    with pytest.raises(ResultsError, match="is no run; it is left alone"):
        Writer(tmp_path / "mine", "id", scenario_yaml="", force=True)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_the_first_of_two_equal_runs_wins(tmp_path):
    """Two processes that make the same run end with one folder, and both get it."""
    first = Writer(tmp_path / "run", "id", scenario_yaml="")
    second = Writer(tmp_path / "run", "id", scenario_yaml="")
    assert first.folder != second.folder

    first.finish(MANIFEST)
    run = second.finish(MANIFEST)

    assert run.path == tmp_path / "run"
    assert hidden(tmp_path) == []


# --- the same bytes ---------------------------------------------------------------------------------------------------


def test_equal_rows_are_equal_bytes(tmp_path):
    """Nothing of the wall clock reaches the tables."""
    one, two = write(tmp_path / "one"), write(tmp_path / "two", "other-id")

    for file in sorted(one.path.rglob("*.parquet")):
        assert file.read_bytes() == (two.path / file.relative_to(one.path)).read_bytes()
    assert one.manifest["tables"] == two.manifest["tables"]


def test_days_are_gathered_and_memory_is_bounded(tmp_path, monkeypatch):
    """Many small days become a few row groups, and nothing waits for the end."""
    monkeypatch.setattr(sim.rows, "ROW_GROUP", 8)
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        for _ in range(5):
            writer.append("tables", "bus_voltages", voltage())
        waiting = sum(part.num_rows for part in writer._section("tables")._sinks["bus_voltages"].waiting)
        assert waiting == 4
        run = writer.finish(MANIFEST)

    file = pq.ParquetFile(run.path / "tables/bus_voltages.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)] == [8, 8, 4]


def test_finished_tables_are_taken_over_but_for_the_key_figures(tmp_path):
    """A reference that is kept for many runs is copied byte for byte; its key figures are made anew."""
    kept = TableFolder(tmp_path / "kept", "reference")
    kept.append("bus_voltages", voltage())
    kept.seal()

    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.adopt("reference", tmp_path / "kept")
        with pytest.raises(ResultsError, match="sealed"):
            writer.append("reference", "bus_voltages", voltage())
        figure = dict.fromkeys(TABLES["kpis"].names, "x") | dict.fromkeys(
            ("value", "reference", "difference", "percent"), 1.0
        )
        writer.append("reference", "kpis", figure)
        run = writer.finish(MANIFEST)

    assert (run.path / "reference/bus_voltages.parquet").read_bytes() == (
        tmp_path / "kept/bus_voltages.parquet"
    ).read_bytes()
    assert run.manifest["tables"]["reference"]["bus_voltages"]["rows"] == 4
    assert run.table("kpis", "reference").num_rows == 1


def test_a_table_of_another_shape_is_not_taken_over(tmp_path):
    """What an older version kept is refused, not mixed in."""
    (tmp_path / "kept").mkdir()
    pq.write_table(pa.table({"time": [1]}), tmp_path / "kept/meters.parquet")

    with (
        Writer(tmp_path / "run", "id", scenario_yaml="") as writer,
        pytest.raises(ResultsError, match="another version"),
    ):
        writer.adopt("reference", tmp_path / "kept")


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"v_pu": None}, "column v_pu missing"),
        ({"volts": [1, 2, 3, 4]}, "it has no column volts"),
        ({"v_pu": np.ones(3)}, "different lengths: time 4, bus_id 4, v_pu 3"),
        ({"v_pu": ["a", "b", "c", "d"]}, "column 'v_pu' must hold numbers (float64); given <U1"),
        ({"bus_id": [1, 2, 3, 4]}, "column 'bus_id' must hold text (string); given 1 in row 0"),
        ({"bus_id": ["a", None, "c", "d"]}, "column 'bus_id' is empty in row 1"),
        ({"time": [0, 1, 2, 3]}, "column 'time' must hold times; given int64"),
        ({"time": np.array(["NaT"] * 4, dtype="datetime64[s]")}, "column 'time' is empty in row 0"),
        ({"v_pu": [1.0, np.inf, 1.0, 1.0]}, "column 'v_pu' is infinite"),
    ],
)
def test_a_wrong_column_is_told_by_name(tmp_path, change, message):
    """What the schema does not allow does not reach the disk."""
    rows = {**voltage(), **change}
    rows = {name: values for name, values in rows.items() if values is not None}

    with (
        Writer(tmp_path / "run", "id", scenario_yaml="") as writer,
        pytest.raises(ResultsError, match="Table 'bus_volt") as told,
    ):
        writer.append("tables", "bus_voltages", rows)
    assert message in str(told.value)


def test_a_nan_is_refused_where_it_means_nothing(tmp_path):
    """A position that is not a number is told with its row; a voltage that does not exist may be NaN."""
    columns = ("exchange_kw", "rented_charge_kw", "rented_discharge_kw", "grid_buy_kw", "grid_sell_kw")
    rows = blocks(TIMES, ["a", "b"], stage="settled", **{name: np.zeros((2, 2)) for name in columns})
    rows["exchange_kw"] = np.array([0.0, 0.0, np.nan, 0.0])

    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        with pytest.raises(ResultsError, match=r"column 'exchange_kw' is nan in row 2, 1 of 4 rows"):
            writer.append("tables", "positions", rows)
        writer.append("tables", "bus_voltages", voltage(((np.nan, 1.0), (1.0, 1.0))))


def test_all_mistakes_are_told_at_once(tmp_path):
    """Two wrong columns are one error with two sentences."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer, pytest.raises(ResultsError) as told:
        writer.append("tables", "bus_voltages", {**voltage(), "bus_id": [1] * 4, "v_pu": ["x"] * 4})
    assert "'bus_id'" in str(told.value)
    assert "'v_pu'" in str(told.value)


def test_nothing_is_written_to_a_sealed_table(tmp_path):
    """After the tables were read for the key figures no row can slip in."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.seal()
        with pytest.raises(ResultsError, match="sealed"):
            writer.append("tables", "bus_voltages", voltage())
        figure = dict.fromkeys(TABLES["kpis"].names, "x") | dict.fromkeys(
            ("value", "reference", "difference", "percent"), 1.0
        )
        writer.append("tables", "kpis", figure)
        assert writer.finish(MANIFEST).kpis().shape == (1, 10)


def test_a_manifest_must_keep_its_promise(tmp_path):
    """A manifest without outcome, seed, interval, zone or currency is refused."""
    with (
        Writer(tmp_path / "run", "id", scenario_yaml="") as writer,
        pytest.raises(ResultsError, match="does not say seed"),
    ):
        writer.finish({key: value for key, value in MANIFEST.items() if key != "seed"})
    assert list(tmp_path.iterdir()) == []


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(tmp_path_factory, values):
    """Every float64 comes back bit for bit, text and time too."""
    path = tmp_path_factory.mktemp("law") / "run"
    with Writer(path, "id", scenario_yaml="") as writer:
        writer.append(
            "tables", "series", {"time": TIMES[0], "series_id": "ä,\n'", "value": np.array(values), "unit": "eur/kWh"}
        )
        table = writer.finish(MANIFEST).table("series")

    assert table["value"].to_pylist() == values
    assert set(table["series_id"].to_pylist()) <= {"ä,\n'"}
    assert table.schema.field("time").type == pa.timestamp("us", tz="UTC")


@pytest.mark.parametrize(
    "moment",
    [
        np.datetime64("2030-01-01T00:00", "s"),
        datetime(2030, 1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2030, 1, 1),  # noqa: DTZ001 - without a zone it is UTC
        [np.datetime64("2030-01-01T00:00", "ns")],
        pa.array([datetime(2030, 1, 1)], pa.timestamp("s", tz="UTC")),  # noqa: DTZ001
        pd.DatetimeIndex(["2030-01-01T01:00"], tz="Europe/Berlin"),
    ],
    ids=["numpy", "offset", "naive", "list", "arrow", "pandas"],
)
def test_times_in_any_dress_are_the_same_moment(tmp_path, moment):
    """NumPy, Python, Arrow and pandas times all become microseconds in UTC."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.append("tables", "series", {"time": moment, "series_id": "s", "value": 1.0, "unit": "1"})
        table = writer.finish(MANIFEST).table("series")

    assert table["time"].to_pylist() == [datetime(2030, 1, 1, tzinfo=UTC)]


def test_lost_messages_have_no_time_of_arrival(tmp_path):
    """NaT becomes null where a time may be missing, and truth values and counts come back as written."""
    arrival = np.array(["2030-01-01T00:00:01", "NaT"], dtype="datetime64[s]")
    message = {
        "sent_at": TIMES[0],
        "sender": "a",
        "receiver": ["b", "ç"],
        "kind": "price",
        "bytes": [12, 13],
        "lost": np.array([False, True]),
    }
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.append("tables", "messages", {**message, "delivered_at": arrival})
        rows = writer.finish(MANIFEST).table("messages").to_pylist()

    assert [row["delivered_at"] for row in rows] == [datetime(2030, 1, 1, 0, 0, 1, tzinfo=UTC), None]
    assert [(row["receiver"], row["bytes"], row["lost"]) for row in rows] == [("b", 12, False), ("ç", 13, True)]


WITHOUT_PANDAS = """
import sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from sim import kpis
from sim.results import Run, Writer, blocks
with Writer(Path(sys.argv[1]) / "run", "id", scenario_yaml="") as writer:
    times = np.array(["2030-01-01"], dtype="datetime64[s]")
    writer.append("tables", "bus_voltages", blocks(times, ["b"], "bus_id", phase="abc", v_pu=np.ones((1, 1))))
    run = writer.finish({"outcome": "ok", "seed": 1, "interval_minutes": 15, "time_zone": "UTC", "currency": "eur"})
assert run.table("bus_voltages").num_rows == 1
print("pandas" in sys.modules)
"""


def test_writing_a_run_does_not_load_pandas(tmp_path):
    """A short run would wait a second for it."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True
    )

    assert done.stdout == "False\n"


# --- manifest and log -------------------------------------------------------------------------------------------------


def test_the_manifest_names_versions_tables_and_times(tmp_path):
    """What a reader needs to doubt a run stands in one JSON file, without a machine's path."""
    run = write(tmp_path / "run")
    manifest = json.loads((run.path / "manifest.json").read_text())

    assert manifest["versions"]["numpy"] == np.__version__
    assert manifest["tables"]["tables"]["bus_voltages"]["rows"] == 4
    assert manifest["wall_s"] >= 0
    assert str(tmp_path) not in json.dumps(manifest)


def test_the_log_is_one_event_a_line(tmp_path):
    """Events carry their wall time, and what is not finite is null."""
    line = json.loads((write(tmp_path / "run").path / "log.jsonl").read_text())

    assert line["event"] == "begun"
    assert line["value"] is None
    assert line["at"] == "2030-01-01T00:00:00Z"
    assert line["wall_time"].endswith("+00:00")


# --- reading ----------------------------------------------------------------------------------------------------------


def test_no_run_is_one_sentence(tmp_path):
    """Opening what is no run says so."""
    with pytest.raises(ResultsError, match=r"is no run: it has no manifest\.json"):
        Run(tmp_path)


def test_tables_are_found_by_name(tmp_path):
    """A run is a mapping of its tables; an unknown one is a KeyError or a sentence."""
    run = write(tmp_path / "run")

    assert run.tables["bus_voltages"]["v_pu"].to_pylist() == [1.0, 0.99, 1.01, 0.98]
    assert set(run.tables) == set(TABLES)
    assert len(run.reference) == len(TABLES)
    with pytest.raises(KeyError):
        run.tables["nonsense"]
    with pytest.raises(ResultsError, match="has no table 'meters' in 'ex_post'"):
        run.table("meters", "ex_post")


def test_sql_sees_this_run_and_the_one_beside_it(tmp_path):
    """Plain names are this run, prefixed names the others."""
    run = write(tmp_path / "run")

    assert run.query("SELECT max(v_pu) AS v FROM bus_voltages").to_pydict() == {"v": [1.01]}
    assert run.query("SELECT count(*) AS n FROM reference_bus_voltages").to_pydict() == {"n": [0]}
    assert run.query("SELECT count(*) AS n FROM ex_post_bills, unmanaged_meters").to_pydict() == {"n": [0]}
    assert str(run.query("SELECT time FROM bus_voltages").schema.field("time").type) == "timestamp[us, tz=UTC]"


def test_a_folder_named_like_a_pattern_or_a_partition_is_only_a_folder(tmp_path):
    """Brackets, stars, quotes and price=0.2 in a path change nothing."""
    path = tmp_path / "price=0.2" / "a[b]*'c"
    run = write(path)

    assert run.table("bus_voltages").column_names == list(TABLES["bus_voltages"].names)
    assert run.query("FROM bus_voltages").column_names == list(TABLES["bus_voltages"].names)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELEC 1", 'syntax error at or near "SELEC"'),
        ("SELECT nothing FROM bills", '"nothing" not found'),
        ("SELECT 1 FROM bill", "bill does not exist"),
        ("", "One SQL statement is needed, 0 were given."),
        ("SELECT 1; SELECT 2", "One SQL statement is needed, 2 were given."),
        ("COPY (SELECT 1) TO 'tables/bills.parquet'", "this statement is a COPY"),
        ("CREATE TABLE x AS SELECT 1", "this statement is a CREATE"),
        ("SELECT * FROM read_text('/etc/hostname')", "disabled by configuration"),
    ],
)
def test_a_bad_question_is_one_sentence(tmp_path, sql, message):
    """A question that cannot be answered, or that would write, is told in one line and changes nothing."""
    run = write(tmp_path / "run")
    before = {file: file.read_bytes() for file in run.path.rglob("*.parquet")}

    with pytest.raises(QueryError) as told:
        run.query(sql)
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert {file: file.read_bytes() for file in run.path.rglob("*.parquet")} == before


def test_sql_finds_a_nan(tmp_path):
    """Parquet's statistics leave NaN out, and SQL must not believe them: a voltage that does not exist is found."""
    with Writer(tmp_path / "run", "id", scenario_yaml="") as writer:
        writer.append("tables", "bus_voltages", voltage(((1.0, np.nan), (1.0, 1.01))))
        run = writer.finish(MANIFEST)
    pq.write_table(run.table("bus_voltages"), run.path / "tables/bus_voltages.parquet", write_statistics=True)

    assert run.query("SELECT count(*) AS n FROM bus_voltages WHERE isnan(v_pu)").to_pydict() == {"n": [1]}
    assert run.query("SELECT count(*) AS n FROM bus_voltages WHERE (v_pu <= 9) IS NOT TRUE").to_pydict() == {"n": [1]}


def test_files_hold_no_statistics_that_leave_nan_out(tmp_path):
    """Other readers prune by minimum and maximum as well: floats have none, times do."""
    group = pq.ParquetFile(write(tmp_path / "run").path / "tables/bus_voltages.parquet").metadata.row_group(0)
    columns = {group.column(k).path_in_schema: group.column(k).statistics for k in range(group.num_columns)}

    assert columns["v_pu"] is None or not columns["v_pu"].has_min_max
    assert columns["time"].has_min_max


# --- what the simulation writes -----------------------------------------------------------------------------------------


def test_an_idle_branch_gains_nothing():
    """A loss that rounding makes negative is written as 0; a real one, one beyond rounding, and none at all stay as they are."""
    from sim.record import flow_tables

    loss = np.array([[-9e-11, 0.25, -1e-3, np.nan]])
    written = {}
    flow = SimpleNamespace(v_pu=loss, p_kw=loss, q_kvar=loss, current_a=loss, loading_percent=loss, loss_kw=loss)
    feeder = SimpleNamespace(buses=SimpleNamespace(ids=["b"]), branches=SimpleNamespace(ids=["l"]))
    times = np.datetime64("2030-06-03T14:00", "s") + np.arange(4) * np.timedelta64(3600, "s")
    row = SimpleNamespace(element=np.array([0]), phase=("abc",))
    model = SimpleNamespace(feeder=feeder, nodes=row, wires=row)
    flow_tables(model, SimpleNamespace(times=times), flow, [], written.__setitem__)

    assert written["branch_flows"]["loss_kw"][:3].tolist() == [0.0, 0.25, -1e-3]
    assert np.isnan(written["branch_flows"]["loss_kw"][3])
    assert not np.signbit(written["branch_flows"]["loss_kw"][0])


def test_the_state_is_an_actor():
    """Levies and taxes are booked to an account of which agents has a row, so that a join loses none of them."""
    from market.delivery import Delivery
    from sim.record import people_table

    one = np.array([1.0])
    names = "pv_kw_peak battery_kwh battery_charge_kw battery_discharge_kw battery_efficiency_charge battery_efficiency_discharge battery_initial_kwh heat_pump_kw"
    people = SimpleNamespace(
        n=1, agent_id=("A",), bus_index=[0], phase=("abc",), aggregator_id=("",), tariff_id=("flat",), load_profile=("",), ev_count=np.array([0]),
        **dict.fromkeys(names.split(), one),
    )  # fmt: skip
    feeder = SimpleNamespace(buses=SimpleNamespace(ids=("b",)))
    community = SimpleNamespace(
        people=people, model=SimpleNamespace(feeder=feeder), box=None, play=SimpleNamespace(sharing=True)
    )
    rows = people_table(community, {"retailer": "retailer", "dso": "dso"})

    role = dict(zip(rows["agent_id"], rows["role"], strict=True))
    assert role == {"A": "prosumer", "retailer": "retailer", "dso": "dso", "state": "state"}
    defaults = {field.name: field.default for field in fields(Delivery)}
    assert {defaults[name] for name in ("retailer", "dso", "state")} <= set(role)
    assert len({len(column) for column in rows.values()}) == 1
