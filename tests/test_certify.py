"""Certify passes what is true and fails what is not: one cell changed, in every point, is found and named."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import market.allocation
import sim
from sim import kpis
from sim.certify import certify
from sim.certify_bills import Expected
from sim.certify_sharing import largest_remainder, share

ROOT = Path(sim.__file__).parent
NAN = float("nan")


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run that may be spoilt."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def frame(run, section, table):
    return pq.read_table(run / section / f"{table}.parquet", partitioning=None)


def store(run, section, table, changed):
    pq.write_table(changed, run / section / f"{table}.parquet")


def pick(table, where):
    """The number of the only row, or of the first, that has these values."""
    rows = [k for k, row in enumerate(table.to_pylist()) if all(row[key] == value for key, value in where.items())]
    assert rows, where
    return rows[0]


def change(run, section, table, where, column, value):
    """Change one cell; a function gets the old value."""
    rows = frame(run, section, table)
    at = pick(rows, where)
    values = rows[column].to_pylist()
    values[at] = value(values[at]) if callable(value) else value
    field = rows.schema.field(column).with_nullable(True)
    store(run, section, table, rows.set_column(rows.column_names.index(column), field, pa.array(values, field.type)))


def drop(run, section, table, where):
    """Take out one row."""
    rows = frame(run, section, table)
    at = pick(rows, where)
    store(run, section, table, pa.concat_tables([rows.slice(0, at), rows.slice(at + 1)]))


def failed(run, *only):
    """The names of the checks that failed, and what they say; ``only`` names the checks to make."""
    certification = certify(run, only=only)
    assert set(only) <= {check.name for check in certification.checks}
    return {check.name: check.detail for check in certification.checks if not check.ok}


def more(amount):
    return lambda value: value + amount


def test_a_file_that_is_not_the_one_written_fails(run):
    """A forecast of which no law speaks is changed in one cell: the file is not that of the manifest."""
    table = frame(run, "tables", "envelopes")
    before = failed(run, "files")
    change(run, "tables", "envelopes", {}, "export_limit_kw", more(0.5))

    assert before == {}
    assert table.num_rows
    assert "tables/envelopes.parquet" in failed(run, "files")["files"]


def test_a_manifest_that_cannot_be_read_certifies_nothing(run):
    """Half a manifest is a failure, not a pass."""
    (run / "manifest.json").write_text("{")

    assert not certify(run).ok
    assert "manifest.json" in failed(run, "files")["files"]


# --- what is true passes ------------------------------------------------------------------------------------------------


def test_a_true_run_passes_every_check(run):
    """Everything written by hand agrees: states, power flow, books, bills, figures, in all four folders."""
    certification = certify(run)

    assert [check for check in certification.checks if not check.ok] == []
    assert certification.ok
    points = {check.name.split(" (")[0] for check in certification.checks}
    assert points == {
        "files",
        "manifest",
        "form",
        "scenario",
        "meters",
        "storage",
        "positions",
        "envelopes",
        "enforcement",
        "power flow",
        "clearings",
        "ledger",
        "bills",
        "key figures",
    }
    assert all(check.rows_checked > 0 for check in certification.checks)
    assert list(certification.to_frame().columns) == ["check", "ok", "detail", "rows_checked"]


def test_certify_shares_no_computing_code_with_the_simulation():
    """The modules of certify import nothing of ours but the schema, the opening of a folder, and one another."""
    allowed = {"sim.schema", "sim.query"}
    for file in sorted(ROOT.glob("certify*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for name in names:
                ours = (name or "").split(".")[0] in {"sim", "market", "agents", "storage", "network", "cli"}
                assert not ours or name in allowed or name.startswith("sim.certify_"), f"{file.name} imports {name}"


# --- one cell changed fails, and is named --------------------------------------------------------------------------------

ANNA, BEN, CLEO, ESS = ({"agent_id": name} for name in ("anna", "ben", "cleo", "ess"))
SETTLED = {"stage": "settled"}
LAST = datetime(2030, 6, 3, 21, tzinfo=UTC)

CELLS = [
    # 1: meters add up
    ("meters", "tables", "meters", ANNA, "meter_kw", more(0.01)),
    ("meters", "tables", "meters", BEN, "load_kw", more(0.01)),
    ("meters", "tables", "meters", CLEO, "base_load_kw", more(0.01)),
    ("meters", "tables", "meters", ANNA, "curtailed_kw", more(0.01)),
    ("meters", "tables", "meters", ANNA, "pv_available_kw", more(0.01)),
    ("meters", "tables", "meters", ANNA, "battery_charge_kw", more(0.01)),
    ("meters", "reference", "meters", ANNA, "pv_kw", more(0.01)),
    ("meters", "unmanaged", "meters", BEN, "ev_kw", more(0.01)),
    # 2: batteries, box, holders
    ("storage", "tables", "meters", {**ANNA, "battery_kwh": 1.8}, "battery_kwh", more(1e-5)),
    ("storage", "tables", "agents", ANNA, "battery_efficiency_charge", 0.95),
    ("storage", "tables", "agents", ANNA, "battery_kwh", 1.5),
    ("storage", "tables", "agents", ANNA, "battery_discharge_kw", 0.5),
    ("storage", "tables", "agents", ANNA, "battery_initial_kwh", 0.1),
    ("storage", "reference", "meters", ANNA, "battery_kwh", more(0.1)),
    ("storage", "tables", "ess", {}, "efficiency_discharge", 0.95),
    ("storage", "tables", "ess", {}, "energy_kwh", 2.0),
    ("storage", "tables", "ess", {}, "self_discharge_per_h", 0.001),
    ("storage", "tables", "storage", {}, "energy_kwh", more(0.1)),
    ("storage", "tables", "storage", {}, "discharge_kw", more(0.1)),
    ("storage", "tables", "storage", {}, "loss_kwh", more(1e-4)),
    ("storage", "tables", "storage", {}, "netting_gain_kwh", more(1e-4)),
    ("storage", "tables", "storage", {}, "wear_eur", more(1e-4)),
    ("storage", "tables", "ess", {}, "bus_id", "b0"),
    ("storage", "tables", "meters", {**ESS, "meter_kw": 1.0}, "meter_kw", more(1e-3)),
    ("storage", "tables", "storage_ledger", {**BEN, "charge_kw": 1.0}, "charge_kw", 0.9),
    ("storage", "tables", "storage_ledger", {**BEN, "energy_kwh": 1.8}, "energy_kwh", 1.7),
    ("storage", "tables", "storage_ledger", ESS, "energy_kwh", more(0.1)),
    ("storage", "tables", "rights", BEN, "energy_kwh", 1.0),
    ("storage", "tables", "rights", BEN, "power_kw", 0.5),
    # 3: positions
    ("positions", "tables", "positions", {**SETTLED, **BEN}, "grid_buy_kw", more(0.001)),
    ("positions", "tables", "positions", {**SETTLED, **ANNA}, "exchange_kw", more(0.001)),
    ("positions", "tables", "positions", {**SETTLED, **BEN, "rented_charge_kw": 1.0}, "rented_charge_kw", 0.9),
    ("positions", "tables", "positions", {**SETTLED, **ESS, "rented_discharge_kw": 1.0}, "rented_discharge_kw", 0.9),
    ("positions", "tables", "positions", {"stage": "day_ahead", **ANNA}, "exchange_kw", more(0.001)),
    ("positions", "reference", "positions", {**SETTLED, **CLEO}, "grid_sell_kw", more(0.001)),
    # 4: envelopes
    ("envelopes", "tables", "envelopes", ANNA, "export_limit_kw", 2.9),
    ("envelopes", "tables", "envelopes", ESS, "import_limit_kw", 0.9),
    ("envelopes", "tables", "envelopes", {**ESS, "firm_charge_kw": 0.5}, "firm_charge_kw", 0.6),
    ("envelopes", "tables", "envelopes", ANNA, "export_limit_kw", -1.0),
    ("envelopes", "tables", "envelopes", ANNA, "issued_at", datetime(2030, 6, 3, 14, 1, tzinfo=UTC)),
    ("envelopes", "reference", "envelopes", ANNA, "export_limit_kw", 2.9),
    # 5: power flow
    ("power flow", "tables", "bus_voltages", {"bus_id": "b1"}, "v_pu", more(2e-6)),
    ("power flow", "tables", "bus_voltages", {"bus_id": "b1"}, "v_pu", NAN),
    ("power flow", "tables", "branch_flows", {}, "p_kw", more(0.01)),
    ("power flow", "tables", "branch_flows", {}, "q_kvar", more(0.01)),
    ("power flow", "tables", "branch_flows", {}, "current_a", more(0.01)),
    ("power flow", "tables", "branch_flows", {}, "loading_percent", more(0.01)),
    ("power flow", "tables", "branch_flows", {}, "loss_kw", more(0.01)),
    ("power flow", "tables", "meters", BEN, "meter_kvar", more(0.01)),
    ("power flow", "tables", "branches", {}, "r1_ohm", 0.051),
    ("power flow", "tables", "branches", {}, "in_service", False),
    ("power flow", "tables", "branches", {}, "rating_a", NAN),
    ("power flow", "tables", "buses", {"bus_id": "b0"}, "source_v_pu", 1.00001),
    ("power flow", "tables", "agents", BEN, "bus_id", "b0"),
    ("power flow", "unmanaged", "bus_voltages", {"bus_id": "b1"}, "v_pu", more(2e-6)),
    # 6: books
    ("ledger", "tables", "ledger", {"kind": "rent_energy"}, "amount_micro_eur", more(1)),
    ("ledger", "tables", "ledger", {"kind": "rented_flow"}, "energy_milliwatt_hour", more(1)),
    ("ledger", "tables", "ledger", {"account": "anna"}, "kind", "gift"),
    ("ledger", "tables", "ledger", {"posting_id": "7"}, "hash", "0" * 64),
    ("ledger", "tables", "ledger", {"posting_id": "7"}, "previous_hash", "0" * 64),
    ("ledger", "tables", "ledger", {"posting_id": "7"}, "posting_id", "9999"),
    ("ledger", "tables", "bills", ANNA, "amount_eur", more(1e-6)),
    ("ledger", "tables", "bills", {**ANNA, "line": "rented_flow"}, "quantity", more(1e-6)),
    ("ledger", "tables", "bills", {**ANNA, "line": "rent_power"}, "price_eur", 0.03),
    ("ledger", "tables", "bills", ANNA, "period", "2030-06-04"),
    ("ledger", "tables", "invoices", ANNA, "total_eur", more(1e-4)),
    ("ledger", "tables", "invoices", ANNA, "fee_eur", more(1e-4)),
    ("ledger", "tables", "invoices", ANNA, "aggregator_id", "somebody"),
    ("bills", "tables", "bills", {**BEN, "line": "rent_power"}, "unit", "kWh"),
    ("ledger", "ex_post", "ledger", {"posting_id": "7"}, "amount_micro_eur", more(1)),
    ("ledger", "reference", "bills", CLEO, "amount_eur", more(-1e-6)),
    # 7: bills from meters, positions, rights, series and tariff
    ("bills", "tables", "series", {"value": 0.2}, "value", more(0.001)),
    ("bills", "tables", "rights", BEN, "rent_energy_eur_per_kwh", 0.06),
    ("bills", "tables", "rights", BEN, "power_kw", 1.1),
    ("bills", "tables", "prices", {"stage": "day_ahead"}, "energy_eur_per_kwh", 0.2),
    ("bills", "tables", "prices", {"stage": "settled"}, "energy_eur_per_kwh", 0.2),
    ("bills", "tables", "prices", {"stage": "day_ahead", "tariff_id": "night"}, "retail_buy_eur_per_kwh", more(1e-6)),
    ("bills", "tables", "prices", {"stage": "intraday", "tariff_id": "dynamic"}, "retail_sell_eur_per_kwh", more(1e-6)),
    ("bills", "tables", "prices", {"stage": "intraday", "tariff_id": "dynamic"}, "tariff_id", "other"),
    ("form", "tables", "positions", {"stage": "intraday", **CLEO}, "agent_id", "nobody"),
    ("form", "tables", "positions", {"stage": "intraday", **CLEO}, "stage", "midday"),
    ("form", "tables", "agents", CLEO, "role", "guest"),
    ("form", "tables", "storage_ledger", {**BEN, "time": LAST}, "agent_id", "stranger"),
    ("form", "tables", "rights", BEN, "agent_id", "stranger"),
    ("form", "tables", "branches", {}, "kind", "cable"),
    ("bills", "tables", "positions", {"stage": "day_ahead", **BEN}, "exchange_kw", more(0.1)),
    ("bills", "tables", "positions", {"stage": "intraday", **ANNA}, "exchange_kw", more(0.1)),
    ("bills", "tables", "meters", CLEO, "meter_kw", more(1e-5)),
    ("bills", "tables", "agents", CLEO, "tariff_id", "dynamic"),
    ("bills", "tables", "agents", CLEO, "aggregator_id", "bundler"),
    ("bills", "tables", "envelopes", {**ESS, "firm_charge_kw": 0.5}, "firm_charge_kw", 0.4),
    ("bills", "tables", "branch_flows", {}, "loss_kw", more(0.01)),
    ("bills", "tables", "bills", BEN, "amount_eur", more(2e-6)),
    ("bills", "tables", "bills", {**BEN, "line": "local_vat"}, "quantity", more(2e-6)),
    ("bills", "tables", "storage_ledger", {**ANNA, "time": LAST}, "energy_kwh", 0.3),
    ("bills", "reference", "ledger", {"kind": "feed_in"}, "amount_micro_eur", more(1)),
    ("bills", "ex_post", "bills", BEN, "amount_eur", more(2e-6)),
    ("ledger", "tables", "agents", {"agent_id": "state"}, "agent_id", "treasury"),
    ("ledger", "ex_post", "ledger", {"account": "state"}, "account", "treasury"),
    # what the scenario tells
    *(("scenario", "tables", "agents", ANNA, name, more(0.5)) for name in ("pv_kw_peak", "battery_kwh", "battery_charge_kw", "battery_discharge_kw", "heat_pump_kw")),
    ("scenario", "tables", "agents", CLEO, "ev_count", 2),
    ("scenario", "tables", "agents", CLEO, "load_profile", "H1"),
    ("scenario", "tables", "agents", CLEO, "tariff_id", "dynamic"),
    ("scenario", "tables", "agents", BEN, "battery_efficiency_charge", 0.95),
    ("scenario", "tables", "agents", BEN, "agent_id", "bob"),
    ("scenario", "reference", "agents", ANNA, "bus_id", "b0"),
    ("scenario", "tables", "ess", {}, "charge_kw", 2.5),
    ("scenario", "tables", "ess", {}, "ess_id", "box"),
    ("form", "tables", "ess", {}, "operator_id", "nobody"),
    ("scenario", "tables", "envelopes", CLEO, "mode", "robust"),
    ("scenario", "tables", "envelopes", CLEO, "rule", "equal"),
    ("scenario", "tables", "envelopes", CLEO, "binding_element", "wire"),
    ("scenario", "tables", "envelopes", CLEO, "firm_charge_kw", 0.01),
    ("scenario", "reference", "envelopes", ANNA, "firm_charge_kw", 0.01),
    ("form", "tables", "envelopes", CLEO, "issued_at", datetime(2030, 6, 2, 7, tzinfo=UTC)),
    *(("scenario", "tables", "branches", {}, name, 0.01) for name in ("sn_kva", "uk_percent", "p0_kw", "clock", "tap_position")),
    *(("scenario", "tables", "buses", {"bus_id": "b1"}, name, 0.01) for name in ("source_v_pu", "source_short_circuit_va", "source_rx_ratio")),
    ("scenario", "tables", "buses", {"bus_id": "b1"}, "is_monitored", False),
    ("scenario", "tables", "buses", {"bus_id": "b0"}, "is_monitored", True),
    # the market
    ("clearings", "tables", "clearings", {"clearing_id": "gate"}, "end_missed_kwh", more(0.01)),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-7"}, "end_missed_kwh", NAN),
    ("clearings", "reference", "clearings", {"clearing_id": "hour-3"}, "end_missed_kwh", more(0.01)),
    *(("clearings", "tables", "clearings", {"clearing_id": "hour-2"}, name, more(1e-5)) for name in ("primal_residual", "dual_residual", "cost_eur", "bound_eur", "gap")),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-2"}, "iterations", 41),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-2"}, "converged", False),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-7"}, "converged", True),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-2"}, "clearing_id", "another"),
    ("clearings", "tables", "clearings", {"clearing_id": "hour-2"}, "opened_at", datetime(2030, 6, 3, 15, 25, tzinfo=UTC)),
    ("clearings", "tables", "clearings", {"clearing_id": "gate"}, "opened_at", datetime(2030, 6, 3, 14, 25, tzinfo=UTC)),
    ("clearings", "tables", "clearings", {"clearing_id": "gate"}, "primal_residual", 9e-4),
    ("clearings", "reference", "clearings", {"clearing_id": "hour-2"}, "gap", more(1e-5)),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2"}, "clearing_id", "another"),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2", "iteration": 40}, "iteration", 41),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2", "iteration": 40}, "primal_residual", more(1e-5)),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2", "iteration": 40}, "dual_residual", more(1e-5)),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2", "iteration": 20}, "dual_residual", 1e-6),
    ("clearings", "tables", "iterations", {"clearing_id": "hour-2"}, "penalty", 0.0),
    ("clearings", "tables", "forecasts", {"stage": "last", **BEN}, "issued_at", datetime(2030, 6, 3, 13, 25, tzinfo=UTC)),
    ("clearings", "tables", "forecasts", {"stage": "last", **BEN}, "issued_at", datetime(2030, 6, 3, 14, 1, tzinfo=UTC)),
    ("clearings", "tables", "forecasts", {"stage": "day_ahead", **BEN}, "issued_at", datetime(2030, 6, 2, 8, tzinfo=UTC)),
    ("form", "tables", "forecasts", {"stage": "last", **BEN}, "time", datetime(2030, 6, 3, 13, tzinfo=UTC)),
    ("form", "tables", "forecasts", {"stage": "last", **ANNA}, "pv_kw", -0.01),
    ("form", "tables", "branch_flows", {}, "loss_kw", -2e-6),
    ("form", "tables", "series", {}, "series_id", "spots"),
    ("form", "tables", "series", {}, "unit", "ct/kWh"),
    # 8: figures
    *(("key figures", "tables", "kpis", {"kpi": name, "scope": "community"}, "value", more(0.01)) for name in kpis.HEADLINE),
    ("key figures", "tables", "kpis", {"kpi": "losses_kwh"}, "reference", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "losses_kwh"}, "difference", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "losses_kwh"}, "percent", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "v_max_pu", "scope": "community"}, "value", NAN),
    ("key figures", "tables", "kpis", {"kpi": "v_max_pu", "scope": "community"}, "kpi", "v_top_pu"),
    ("key figures", "tables", "kpis", {"kpi": "v_max_pu", "scope": "community"}, "unit", "V"),
    ("key figures", "tables", "kpis", {"kpi": "v_max_pu", "scope": "community"}, "boundary", "member meter"),
    ("key figures", "tables", "kpis", {"kpi": "bill_eur", "entity": "ben"}, "value", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "curtailed_kwh", "entity": "ben"}, "value", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "surplus_eur", "entity": "dso"}, "scope", "headline"),
    *(("key figures", "tables", "kpis", {"kpi": "surplus_eur", "entity": name}, "value", more(0.001)) for name in ("members", "storage_operator", "retailer", "state", "others")),
    *(("key figures", "tables", "kpis", {"kpi": "surplus_eur", "entity": "state"}, name, more(0.001)) for name in ("reference", "difference", "percent")),
    *(("key figures", "tables", "kpis", {"kpi": "bill_eur", "entity": "ben"}, name, "run ") for name in ("unit", "boundary", "period", "entity")),
    ("key figures", "tables", "kpis", {"kpi": "bill_eur", "entity": "ben"}, "reference", NAN),
    ("key figures", "ex_post", "kpis", {"kpi": "surplus_eur", "entity": "dso"}, "value", more(0.001)),
    ("key figures", "tables", "kpis", {"kpi": "community_cost_eur", "scope": "day"}, "value", more(0.001)),
    ("key figures", "ex_post", "kpis", {"kpi": "traded_kwh"}, "value", more(0.001)),
    ("key figures", "reference", "kpis", {"kpi": "community_cost_eur", "scope": "community"}, "value", more(0.001)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("point", "section", "table", "where", "column", "value"), CELLS, ids=lambda v: str(v) if isinstance(v, str) else ""
)
def test_one_cell_changed_is_found(run, point, section, table, where, column, value):
    """Whatever single cell is changed, the check that answers for it fails and says where."""
    change(run, section, table, where, column, value)

    name = f"{point} ({section})"
    assert failed(run, name)[name]


def test_the_first_wrong_row_is_named_with_table_keys_value_and_expectation(run):
    """The message of a failure is enough to find the cell."""
    change(run, "tables", "meters", {"agent_id": "ben"}, "meter_kw", 1.25)

    assert failed(run, "meters (tables)")["meters (tables)"] == (
        "meter_kw = load + charge − discharge − pv: time 2030-06-03T14:00:00Z, agent_id ben: 1.25, expected 1"
    )


# --- what is missing fails -----------------------------------------------------------------------------------------------

TABLES = [
    "agents", "ess", "buses", "series", "branches", "meters", "forecasts", "envelopes", "positions", "trades", "prices", "rights", "storage",
    "storage_ledger", "bus_voltages", "branch_flows", "violations", "clearings", "iterations", "ledger", "bills", "kpis", "messages",
]  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_a_missing_table_fails(run, table):
    """No table, no pass."""
    (run / "tables" / f"{table}.parquet").unlink()

    assert failed(run, "form (tables)")["form (tables)"] == f"table {table} is missing (tables/{table}.parquet)"


@pytest.mark.parametrize(
    ("section", "table"), [("reference", "bills"), ("ex_post", "ledger"), ("unmanaged", "violations")]
)
def test_a_missing_table_beside_the_run_fails(run, section, table):
    """The other three folders are part of the run."""
    (run / section / f"{table}.parquet").unlink()

    assert f"form ({section})" in failed(run, f"form ({section})")


@pytest.mark.parametrize("section", ["tables", "reference", "ex_post", "unmanaged"])
def test_a_missing_folder_fails(run, section):
    """A run without one of its folders is not whole."""
    shutil.rmtree(run / section)

    assert f"form ({section})" in failed(run, f"form ({section})")


def test_a_missing_column_fails(run):
    """A column that somebody dropped is missed, and the checks that need it fail too."""
    store(run, "tables", "meters", frame(run, "tables", "meters").drop_columns(["curtailed_kw"]))

    wrong = failed(run, "form (tables)", "meters (tables)")
    assert wrong["form (tables)"] == "table meters has no column curtailed_kw"
    assert "meters (tables)" in wrong


def test_a_column_of_another_type_fails(run):
    """Numbers written as text are no numbers."""
    rows = frame(run, "tables", "bus_voltages")
    store(run, "tables", "bus_voltages", rows.set_column(3, "v_pu", rows["v_pu"].cast(pa.string())))

    assert (
        failed(run, "form (tables)")["form (tables)"] == "table bus_voltages: column v_pu is VARCHAR, expected float64"
    )


@pytest.mark.parametrize("value", [NAN, float("inf"), None])
@pytest.mark.parametrize(
    ("table", "column"),
    [("meters", "meter_kw"), ("positions", "exchange_kw"), ("storage_ledger", "energy_kwh"), ("bills", "amount_eur")],
)
def test_a_figure_that_is_none_never_passes(run, table, column, value):
    """NaN, infinity and null are failures, of the form and of the check that reads them."""
    change(run, "tables", table, {}, column, value)

    reader = {"meters": "meters", "positions": "positions", "storage_ledger": "storage", "bills": "bills"}[table]
    wrong = failed(run, "form (tables)", f"{reader} (tables)")
    assert f"{column} is not a figure" in wrong["form (tables)"]
    assert f"{reader} (tables)" in wrong


@pytest.mark.parametrize(
    ("table", "where"),
    [
        ("meters", {"agent_id": "ben"}), ("positions", {"stage": "settled", "agent_id": "cleo"}), ("bus_voltages", {"bus_id": "b1"}),
        ("branch_flows", {}), ("storage", {}), ("envelopes", {"agent_id": "anna"}),
        ("forecasts", {"stage": "day_ahead", "agent_id": "ben"}), ("forecasts", {"stage": "last", "agent_id": "cleo"}), ("series", {}),
    ],
)  # fmt: skip
def test_a_missing_row_fails(run, table, where):
    """A row taken out is missed, not overlooked."""
    drop(run, "tables", table, where)

    assert "has a row for every" in failed(run, "form (tables)")["form (tables)"]


@pytest.mark.parametrize(("name", "stage"), [("gate", "day_ahead"), ("hour-3", "intraday")])
def test_a_missing_clearing_fails(run, name, stage):
    """A clearing taken out with its iterations is missed: there is one for every gate and every hour."""
    drop(run, "tables", "clearings", {"clearing_id": name})
    rows = frame(run, "tables", "iterations")
    store(run, "tables", "iterations", rows.filter(pc.not_equal(rows["clearing_id"], name)))

    assert f"rows of stage {stage}, expected" in failed(run, "clearings (tables)")["clearings (tables)"]


def test_a_market_that_does_not_plan_again_has_the_gate_alone(run):
    """Without re-planning there are no clearings before the hours and no last forecasts, and none may be told."""
    text = (run / "scenario.yaml").read_text()
    (run / "scenario.yaml").write_text(text.replace("replanning: tradable", 'replanning: "off"'))
    names = ("form (tables)", "clearings (tables)")

    assert "does not plan again" in failed(run, *names)["form (tables)"]
    assert "table clearings has 8 rows of stage intraday, expected 0" in failed(run, *names)["clearings (tables)"]
    for table, column, value in (("forecasts", "stage", "day_ahead"), ("clearings", "stage", "day_ahead"), ("iterations", "clearing_id", "gate")):  # fmt: skip
        rows = frame(run, "tables", table)
        store(run, "tables", table, rows.filter(pc.equal(rows[column], value)))
    assert failed(run, *names) == {}


def test_the_first_wrong_clearing_is_named(run):
    """Residuals and gap above the tolerance of a stage, a tenth of the scenario's day ahead: the clearing has not converged."""
    for column in ("primal_residual", "dual_residual"):
        change(run, "tables", "clearings", {"clearing_id": "gate"}, column, 5e-4)
        change(run, "tables", "iterations", {"clearing_id": "gate", "iteration": 60}, column, 5e-4)
    [cost] = [row["cost_eur"] for row in frame(run, "tables", "clearings").to_pylist() if row["clearing_id"] == "gate"]
    for column, value in (("gap", 4e-4), ("bound_eur", cost - 4e-4 * max(1.0, abs(cost)))):
        change(run, "tables", "clearings", {"clearing_id": "gate"}, column, value)

    said = failed(run, "clearings (tables)")["clearings (tables)"]
    assert said.startswith(
        "a clearing has converged only if its residuals or its gap are within the tolerance of its stage: clearing_id gate: 0.0004"
    )


def test_a_tie_may_leave_residuals_where_the_certificate_is_good_enough(run):
    """A clearing has converged by its gap too; within the tolerance by its residuals it must have."""
    for column in ("primal_residual", "dual_residual"):
        change(run, "tables", "clearings", {"clearing_id": "gate"}, column, 5e-4)
        change(run, "tables", "iterations", {"clearing_id": "gate", "iteration": 60}, column, 5e-4)
    change(run, "tables", "clearings", {"clearing_id": "gate"}, "gap", 0.0)
    [cost] = [row["cost_eur"] for row in frame(run, "tables", "clearings").to_pylist() if row["clearing_id"] == "gate"]
    change(run, "tables", "clearings", {"clearing_id": "gate"}, "bound_eur", cost)
    assert failed(run, "clearings (tables)") == {}

    for column in ("primal_residual", "dual_residual"):
        change(run, "tables", "clearings", {"clearing_id": "gate"}, column, 5e-6)
        change(run, "tables", "iterations", {"clearing_id": "gate", "iteration": 60}, column, 5e-6)
    change(run, "tables", "clearings", {"clearing_id": "gate"}, "converged", value=False)
    assert "has converged: clearing_id gate: 0, expected 1" in failed(run, "clearings (tables)")["clearings (tables)"]


def test_a_member_without_a_line_has_a_bill_of_nothing(run):
    """Who neither buys nor sells has no line: its bill is 0, and told as 0 it is right."""
    for section in ("tables", "reference", "ex_post"):
        rows = frame(run, section, "bills")
        store(run, section, "bills", rows.filter(pc.not_equal(rows["agent_id"], "cleo")))
    for section in ("tables", "reference", "ex_post"):
        figures = kpis.compute(run, section)
        store(run, section, "kpis", pa.Table.from_pydict(figures).select(frame(run, section, "kpis").column_names))

    told = frame(run, "tables", "kpis").to_pylist()
    assert [row["value"] for row in told if (row["kpi"], row["entity"]) == ("bill_eur", "cleo")] == [0.0]
    names = ("key figures (tables)", "key figures (reference)", "key figures (ex_post)")
    assert failed(run, *names) == {}
    change(run, "ex_post", "kpis", {"kpi": "bill_eur", "entity": "cleo"}, "value", 0.01)
    assert "entity cleo: 0.01, expected 0" in failed(run, *names)["key figures (ex_post)"]


# --- the manifest ---------------------------------------------------------------------------------------------------------

LIES = [
    *((name, 99) for name in ("seed", "homes", "days", "interval_minutes", "lost_power_flows")),
    *((name, "another") for name in ("name", "currency", "time_zone", "outcome", "content_id")),
    ("outcome", "ok"),
    ("not_converged", []),
    ("violations", {"overload": 1}),
    ("reference/violations", {"envelope": 2}),
    ("unmanaged/violations", {"over_voltage": 3}),
    *((f"conservation/{name}", 5) for name in (
        "postings", "transactions", "ledger_micro_eur", "ledger_milliwatt_hour", "meters_milliwatt_hour", "losses_milliwatt_hour",
        "source_milliwatt_hour", "exchange_milliwatt_hour", "shared_milliwatt_hour",
    )),
    ("tables/tables/meters/rows", 5),
]  # fmt: skip


@pytest.mark.parametrize(("place", "value"), LIES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_manifest_that_contradicts_the_run_fails(run, place, value):
    """Whatever the manifest says that follows from tables and scenario is compared with them, and named."""
    manifest = json.loads((run / "manifest.json").read_text())
    *above, name = place.split("/")
    inner = manifest
    for step in above:
        inner = inner[step]
    assert inner[name] != value
    inner[name] = value
    (run / "manifest.json").write_text(json.dumps(manifest))

    assert failed(run, "manifest")["manifest"].startswith(f"manifest: {place} is {value if value != [] else '[]'}")


def test_a_manifest_that_leaves_something_out_fails(run):
    """What is not said cannot be confirmed."""
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["conservation"]["losses_milliwatt_hour"]
    (run / "manifest.json").write_text(json.dumps(manifest))

    assert failed(run, "manifest")["manifest"] == "manifest: it does not say conservation/losses_milliwatt_hour"


def test_a_missing_posting_fails(run):
    """A posting taken out breaks the chain."""
    drop(run, "tables", "ledger", {"posting_id": "100"})

    assert (
        failed(run, "ledger (tables)")["ledger (tables)"]
        == "ledger: posting_id 101 follows 99: a posting is missing or out of order"
    )


def test_a_row_twice_fails(run):
    """The same reading twice would be counted twice."""
    rows = frame(run, "tables", "meters")
    store(run, "tables", "meters", pa.concat_tables([rows, rows.slice(0, 1)]))

    assert "a row stands twice" in failed(run, "form (tables)")["form (tables)"]


def test_a_run_cut_short_fails(run):
    """A run that ends before its scenario does is not the run."""
    for table in ("meters", "positions", "bus_voltages", "branch_flows", "storage", "storage_ledger", "envelopes"):
        rows = frame(run, "tables", table)
        last = max(rows["time"].to_pylist())
        store(run, "tables", table, rows.filter(pc.less(rows["time"], pa.scalar(last, rows.schema.field("time").type))))

    assert (
        "the scenario from 2030-06-03T14:00:00Z to 2030-06-03T22:00:00Z"
        in failed(run, "form (tables)")["form (tables)"]
    )


def test_no_scenario_no_certificate(run):
    """Without the scenario nothing can be confirmed."""
    (run / "scenario.yaml").unlink()

    certification = certify(run)
    assert not certification.ok
    assert "scenario.yaml is missing" in certification.checks[0].detail


def test_a_changed_tariff_is_found(run):
    """The tariff in the scenario is what the bills must follow."""
    text = (run / "scenario.yaml").read_text()
    (run / "scenario.yaml").write_text(text.replace("levies_eur_per_kwh: 0.05", "levies_eur_per_kwh: 0.051", 1))

    books = {"bills (tables)", "bills (reference)", "bills (ex_post)"}
    assert set(failed(run, *books)) == books


# --- a breach that is told passes, a silent one does not --------------------------------------------------------------------


def test_a_breach_that_is_told_passes_and_a_false_one_fails(run):
    """An envelope may be broken, if violations says by how much; what it says is compared with the meter."""
    change(run, "tables", "envelopes", {"agent_id": "anna"}, "export_limit_kw", 2.9)
    moment = frame(run, "tables", "envelopes")["time"][0].as_py()
    schema = frame(run, "tables", "violations").schema

    def tell(value):
        told = {
            "time": moment,
            "element": "anna",
            "kind": "envelope",
            "value": value,
            "limit": -2.9,
            "agent_id": "anna",
        }
        store(run, "tables", "violations", pa.Table.from_pylist([told], schema=schema))

    assert "exports no more" in failed(run, "envelopes (tables)")["envelopes (tables)"]
    tell(-3.0)
    assert failed(run, "envelopes (tables)") == {}
    tell(-2.9)
    assert "a breach of an envelope shows the meter" in failed(run, "envelopes (tables)")["envelopes (tables)"]


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("v_min_pu: 0.95", "under_voltage"),
        ("v_max_pu: 1.05", "over_voltage"),
        ("loading_max_percent: 100.0", "overload"),
    ],
)
def test_a_silent_breach_of_the_grid_fails(run, limit, kind):
    """With tighter limits the same voltages and loadings are breaches, which nobody told."""
    tighter = {
        "under_voltage": "v_min_pu: 0.999",
        "over_voltage": "v_max_pu: 1.00005",
        "overload": "loading_max_percent: 5.0",
    }[kind]
    text = (run / "scenario.yaml").read_text()
    (run / "scenario.yaml").write_text(text.replace(limit, tighter))

    assert (
        f"a breach ({kind}) does not stand in violations" in failed(run, "power flow (tables)")["power flow (tables)"]
    )


def test_a_breach_of_the_grid_that_is_none_fails(run):
    """Violations may not be invented either."""
    moment = frame(run, "tables", "meters")["time"][0].as_py()
    told = {"time": moment, "element": "b1", "kind": "over_voltage", "value": 1.06, "limit": 1.05, "agent_id": ""}
    store(run, "tables", "violations", pa.Table.from_pylist([told], schema=frame(run, "tables", "violations").schema))

    assert (
        "violations tells a breach (over_voltage) that is none"
        in failed(run, "power flow (tables)")["power flow (tables)"]
    )


# --- somebody who knows the hashes -----------------------------------------------------------------------------------------


def rechained(ledger):
    """The ledger with every hash made anew, as somebody would who changes postings."""
    rows, previous = ledger.to_pylist(), ""
    for row in rows:
        row["previous_hash"] = previous
        told = {key: value for key, value in row.items() if key not in {"previous_hash", "hash"}}
        told["time"] = f"{row['time']:%Y-%m-%dT%H:%M:%SZ}"
        text = json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        row["hash"] = previous = hashlib.sha256((previous + text).encode("utf-8")).hexdigest()
    return pa.Table.from_pylist(rows, schema=ledger.schema)


def test_the_hash_is_the_one_of_the_contract(run):
    """Chaining the true ledger by json.dumps and sha256 gives the true ledger, name with quotes or not."""
    ledger = frame(run, "tables", "ledger")

    assert rechained(ledger).equals(ledger)


def test_strange_names_are_hashed_as_json(run):
    """Quotes, backslashes and umlauts in an account break no chain."""
    ledger = frame(run, "tables", "ledger")
    strange = pa.array(['bäcker "k" \\ ☀' if name == "anna" else name for name in ledger["account"].to_pylist()])
    place = ledger.column_names.index("account")
    store(run, "tables", "ledger", rechained(ledger.set_column(place, ledger.schema.field("account"), strange)))

    wrong = failed(run, "ledger (tables)")["ledger (tables)"]
    assert wrong == 'an account is that of an actor of agents: account bäcker "k" \\ ☀'  # and not: the chain is broken


def test_books_cooked_with_care_are_found(run):
    """Postings shifted from one member to another, balanced, rechained and billed accordingly, still contradict the meters."""
    ledger = frame(run, "tables", "ledger").to_pylist()
    schema = frame(run, "tables", "ledger").schema
    pair = [row for row in ledger if row["kind"] == "retail_energy" and row["rule"] == "dynamic"]
    first = next(row for row in pair if row["account"] == "anna")
    second = next(row for row in pair if row["account"] == "ben" and row["transaction_id"] == first["transaction_id"])
    first["amount_micro_eur"] += 1000
    second["amount_micro_eur"] -= 1000
    store(run, "tables", "ledger", rechained(pa.Table.from_pylist(ledger, schema=schema)))
    for who, amount in (("anna", -0.001), ("ben", 0.001)):
        change(run, "tables", "bills", {"agent_id": who, "line": "retail_energy"}, "amount_eur", more(amount))
        for column in ("passed_through_eur", "total_eur"):
            change(run, "tables", "invoices", {"agent_id": who}, column, more(amount))
        energy = frame(run, "tables", "bills").to_pylist()
        line = next(row for row in energy if row["agent_id"] == who and row["line"] == "retail_energy")
        change(
            run,
            "tables",
            "bills",
            {"agent_id": who, "line": "retail_energy"},
            "price_eur",
            line["amount_eur"] / line["quantity"],
        )

    wrong = failed(run, "ledger (tables)", "bills (tables)")
    assert "ledger (tables)" not in wrong
    assert "amount_micro_eur recomputed" in wrong["bills (tables)"]


# --- the second implementation, by hand --------------------------------------------------------------------------------------


def test_sharing_by_hand():
    """Needs of 3 and 1 against a surplus of 2: in proportion 1.5 and 0.5 (whole: the tie goes to the first), or one each."""
    need = np.array([[3], [1], [-2]])
    retail, feed_in = np.full((3, 1), 0.3), np.full((3, 1), 0.1)

    assert [a[:, 0].tolist() for a in share("alloc.prorata", need, retail, feed_in)] == [[2, 0, 0], [0, 0, 2]]
    assert [a[:, 0].tolist() for a in share("alloc.equal", need, retail, feed_in)] == [[1, 1, 0], [0, 0, 2]]
    keys = np.array([0.25, 0.75, 0.0])
    assert [a[:, 0].tolist() for a in share("alloc.static", need * 4, retail, feed_in, keys)] == [[2, 4, 0], [0, 0, 6]]
    assert [a[:, 0].tolist() for a in share("alloc.static_redistribute", need * 4, retail, feed_in, keys)] == [
        [4, 4, 0],
        [0, 0, 8],
    ]
    assert [a.any() for a in share("alloc.none", need, retail, feed_in)] == [False, False]
    assert [a.any() for a in share("alloc.prorata", need, retail, feed_in + 0.3)] == [
        False,
        False,
    ]  # feeding in earns more


def test_the_remainder_goes_to_the_largest_and_then_to_the_first():
    """Rounded down these lose one micro-euro, which goes to the first of two equal remainders."""
    assert largest_remainder(np.array([[1.5], [2.5], [-4.0]]))[:, 0].tolist() == [2, 2, -4]


def test_an_amount_at_a_half_may_be_either_neighbour():
    """1000 mWh at 0.1095 are 109.5 micro-euro: 109 and 110 are both nearest, 111 is not."""
    expected = Expected()
    expected.pay("retail_network", "flat", "anna", "dso", np.array([1000, 2000]), 0.1095)

    assert expected.amount["retail_network", "flat", "anna"].tolist() == [-110, -219]
    assert expected.doubt["retail_network", "flat", "anna"].tolist() == [1, 0]


@st.composite
def needs(draw):
    """Whole milli-watt-hours of up to six agents over up to four intervals: needs +, surpluses −."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 4)))
    return draw(arrays(np.int64, shape, elements=st.integers(-5000, 5000)))


@given(
    need=needs(),
    rule=st.sampled_from(["alloc.prorata", "alloc.equal", "alloc.none", "alloc.static", "alloc.static_redistribute"]),
)
@settings(max_examples=200, deadline=None)
def test_two_implementations_of_the_sharing_rules_agree(need, rule):
    """What certify makes of needs and surpluses is what the market makes of them, to the milli-watt-hour."""
    keys = np.full(len(need), 1.0 / len(need))
    retail, feed_in = np.full(need.shape, 0.3), np.full(need.shape, 0.1)

    ours = market.allocation.share(rule, np.maximum(need, 0), np.maximum(-need, 0), keys)

    for mine, theirs in zip(share(rule, need, retail, feed_in, keys / keys.sum()), ours, strict=True):
        np.testing.assert_array_equal(mine, theirs)
