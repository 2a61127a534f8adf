"""Key figures: by hand on the tiny run, streamed or not, with NaN where nothing can be divided, and transfers that cancel."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sim import kpis
from sim.kpi_page import markdown
from sim.kpi_sums import read
from sim.results import ResultsError, Run

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tiny_run, tmp_path):
    """A copy of the tiny run that may be changed."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def figures(folder, section="tables", scope="community"):
    """Value and reference of each figure of a scope."""
    columns = kpis.compute(folder, section)
    rows = zip(columns["kpi"], columns["scope"], columns["entity"], columns["value"], columns["reference"], strict=True)
    return {
        (kpi if scope == "community" else (kpi, entity)): (value, reference)
        for kpi, of, entity, value, reference in rows
        if of == scope
    }


def rewrite(file, **columns):
    """Replace whole columns of a table by a number."""
    table = pq.read_table(file)
    for name, value in columns.items():
        table = table.set_column(
            table.column_names.index(name), name, pa.array([value] * table.num_rows, table.schema.field(name).type)
        )
    pq.write_table(table, file)


def test_there_are_twenty_headline_figures_with_unit_and_boundary(run):
    """Twenty names, each once, each with a unit, a boundary and a sentence; the run holds all of them."""
    assert len(kpis.HEADLINE) == len(set(kpis.HEADLINE)) == 20
    assert all(figure.unit and figure.boundary and figure.says for figure in kpis.FIGURES)
    frame = Run(run).kpis()
    assert list(frame[frame["scope"] == "community"]["kpi"]) == list(kpis.HEADLINE)
    assert set(frame["boundary"]) <= {"member meter", "community virtual", "community physical", "behind the meter"}


def test_energy_by_hand(tiny_run):
    """Net of all meters by hour: −0.5 −0.5 0 4.5 7.09 2.88 2.285 2.5 kW; load 33 kWh, solar 16 of 17 kWh."""
    found = figures(tiny_run)

    assert found["self_consumption_rate"][0] == pytest.approx(1 - 1 / 16)
    assert found["self_sufficiency"][0] == pytest.approx(1 - (4.5 + 7.09 + 2.88 + 2.285 + 2.5) / 33)
    assert found["curtailed_kwh"][0] == 1.0
    assert found["curtailment_rate"][0] == pytest.approx(1 / 17)
    # without the storage: −1.5 −1.5 −0.5 4.5 7.5 3.69 2.69 2.5
    assert found["self_consumption_rate"][1] == pytest.approx(1 - 3.5 / 16)


def test_storage_by_hand(tiny_run):
    """The box takes 2.5 kWh and gives 1.625 at 0.9 each way, of 4 kWh; tenants rent 2.5 kWh all the time."""
    found = figures(tiny_run)

    assert found["ess_cycles"][0] == pytest.approx((0.9 * 2.5 + 1.625 / 0.9) / 8)
    assert found["ess_energy_rented_share"][0] == pytest.approx(2.5 / 4)
    assert math.isnan(found["ess_cycles"][1])  # the reference has no storage: nothing to divide by


def test_the_grid_by_hand(tiny_run):
    """The worst hour takes 7.09 kW through 0.05 ohm at 400 V; losses are a per mille of it."""
    found = figures(tiny_run)
    current = 7.09e3 / (math.sqrt(3) * 400.0)

    assert found["peak_import_kw"][0] == pytest.approx(7.09 + 3 * current**2 * 0.05 / 1e3, abs=1e-3)
    assert found["peak_export_kw"][0] == pytest.approx(0.5, abs=1e-3)
    assert found["max_loading_percent"][0] == pytest.approx(current, abs=0.15)
    assert found["v_min_pu"][0] == pytest.approx(1 - 7.09e3 * 0.05 / 400.0**2, abs=2e-4)
    assert found["v_max_pu"][0] == pytest.approx(
        1 + 0.5e3 * 0.05 / 400.0**2, abs=1e-4
    )  # the source's 1.0 is not monitored
    assert found["intervals_outside_limits"] == (0.0, 0.0)


def test_money_is_the_bills(tiny_run):
    """The community's cost is the members' bills, the best and worst are seen, and the operator is what the books leave it."""
    bills = Run(tiny_run).table("bills").to_pandas()
    before = Run(tiny_run).table("bills", "reference").to_pandas()
    each = bills.groupby("agent_id")["amount_eur"].sum()
    change = each - before.groupby("agent_id")["amount_eur"].sum()
    members = ["anna", "ben", "cleo"]
    found = figures(tiny_run)

    assert found["community_cost_eur"][0] == pytest.approx(each[members].sum())
    assert found["members_better_off"] == (3.0, 0.0)
    assert found["worst_regret_eur"][0] == pytest.approx(change[members].max())
    assert found["operator_margin_eur"][0] == pytest.approx(-each["ess"] - 0.01 * (2.5 + 1.625))
    by_member = figures(tiny_run, scope="member")
    assert by_member["bill_eur", "ben"] == pytest.approx(
        (each["ben"], before.groupby("agent_id")["amount_eur"].sum()["ben"])
    )
    assert by_member["curtailed_kwh", "anna"] == (1.0, 1.0)


def test_the_mean_price_weighs_every_stage(tiny_run):
    """Day ahead 5 kWh at 0.102 and intraday 0.5 kWh at 0.11 (by hand), then what the books say of the settled differences."""
    bought = [
        row
        for row in Run(tiny_run).table("ledger").to_pylist()
        if row["kind"].startswith("exchange") and row["energy_milliwatt_hour"] > 0
    ]
    early = [row for row in bought if row["kind"] != "exchange_settled"]
    price = -sum(row["amount_micro_eur"] for row in bought) / sum(row["energy_milliwatt_hour"] for row in bought)

    assert sum(row["energy_milliwatt_hour"] for row in early) == 5_500_000
    assert -sum(row["amount_micro_eur"] for row in early) == 5 * 102_000 + 55_000
    assert figures(tiny_run)["mean_trade_price_eur_per_kwh"][0] == pytest.approx(price)


def test_transfers_cancel(tiny_run):
    """Welfare is energy bought above and wear, whatever is paid inside: the parties' surpluses sum to exactly that."""
    spot = np.array([0.05, 0.04, 0.03, 0.06, 0.20, 0.25, 0.15, 0.10])
    found = figures(tiny_run)
    for section, column, wear in (
        ("tables", 0, 0.01 * (2.5 + 1.625) + 0.01 * (2 + 1.62)),
        ("reference", 1, 0.01 * (2 + 1.62)),
    ):
        meters = Run(tiny_run).table("meters", section).to_pandas().groupby("time")["meter_kw"].sum().to_numpy()
        losses = Run(tiny_run).table("branch_flows", section).to_pandas().groupby("time")["loss_kw"].sum().to_numpy()
        whole = sum(value[column] for value in figures(tiny_run, scope="party").values())
        assert whole == pytest.approx(-(spot * (meters + losses)).sum() - wear, abs=1e-9)
    both = figures(tiny_run, scope="party").values()
    assert found["welfare_gain_eur"][0] == pytest.approx(sum(now - then for now, then in both))
    assert found["welfare_gain_eur"][1] == 0.0


def test_a_gift_changes_no_welfare(run):
    """If one member's bill falls and another's rises by the same, costs and regrets move, welfare does not."""
    before = figures(run)
    file = run / "tables/bills.parquet"
    rows = pq.read_table(file).to_pylist()
    for name, amount in (("anna", -1.0), ("ben", 1.0)):
        next(row for row in rows if row["agent_id"] == name)["amount_eur"] += amount
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(file)), file)
    after = figures(run)

    assert after["welfare_gain_eur"] == pytest.approx(before["welfare_gain_eur"])
    assert after["community_cost_eur"] == pytest.approx(before["community_cost_eur"])
    assert after["worst_regret_eur"][0] == pytest.approx(before["worst_regret_eur"][0] + 1.0)
    assert after["members_better_off"][0] == 2.0


def test_nothing_to_divide_by_is_nan(run):
    """Without sun there is no self-consumption, without load no self-sufficiency; never a zero in their place."""
    rewrite(run / "tables/meters.parquet", pv_kw=0.0, pv_available_kw=0.0, curtailed_kw=0.0, load_kw=0.0)
    found = figures(run)

    assert math.isnan(found["self_consumption_rate"][0])
    assert math.isnan(found["curtailment_rate"][0])
    assert math.isnan(found["self_sufficiency"][0])
    assert found["curtailed_kwh"][0] == 0.0


def test_without_a_spot_price_there_is_no_welfare_gain(run):
    """A figure that cannot be known is NaN."""
    rewrite(run / "tables/series.parquet", series_id="other")

    assert math.isnan(figures(run)["welfare_gain_eur"][0])


def test_an_interval_without_a_power_flow_is_counted_and_left_out(run):
    """NaN voltages and losses do not spread over the run, and do not vanish: the interval is outside limits."""
    before = figures(run)
    for table, names in (
        ("bus_voltages", ["v_pu"]),
        ("branch_flows", ["p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw"]),
    ):
        file = run / f"tables/{table}.parquet"
        rows = pq.read_table(file).to_pylist()
        first = rows[0]["time"]
        for row in rows:
            if row["time"] == first:
                row.update(dict.fromkeys(names, math.nan))
        pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(file)), file)
    told = {
        "time": first,
        "element": "tiny",
        "kind": "not_converged",
        "value": math.nan,
        "limit": math.nan,
        "agent_id": "",
    }
    file = run / "tables/violations.parquet"
    pq.write_table(pa.Table.from_pylist([told], schema=pq.read_schema(file)), file)
    after = figures(run)

    assert after["intervals_outside_limits"][0] == 1.0
    assert after["v_min_pu"] == before["v_min_pu"]
    assert 0.0 < after["losses_kwh"][0] < before["losses_kwh"][0]


def test_a_year_is_read_like_a_day(run):
    """However the rows are cut into row groups, the figures are the same to the last bits."""
    before = kpis.compute(run)
    for file in (run / "tables").glob("*.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=3)
    after = kpis.compute(run)

    assert after["kpi"] == before["kpi"]
    np.testing.assert_allclose(after["value"], before["value"], rtol=1e-12)


def test_ex_post_has_the_same_grid_and_other_books(tiny_run):
    """Settled without positions, meters and voltages are the same; what was traded is what the rule shared."""
    now, plain = figures(tiny_run), figures(tiny_run, "ex_post")
    shared = [
        row
        for row in Run(tiny_run).table("ledger", "ex_post").to_pylist()
        if row["kind"] == "exchange_settled" and row["energy_milliwatt_hour"] > 0
    ]

    assert plain["losses_kwh"] == now["losses_kwh"]
    assert plain["traded_kwh"][0] == pytest.approx(sum(row["energy_milliwatt_hour"] for row in shared) / 1e6)
    assert plain["community_cost_eur"][0] != now["community_cost_eur"][0]


def test_the_reference_is_its_own_reference(tiny_run):
    """Beside itself the reference shows no difference, and nobody is better off."""
    found = figures(tiny_run, "reference")

    assert all(value == reference or math.isnan(value) for value, reference in found.values())
    assert found["members_better_off"] == (0.0, 0.0)


def test_percent_is_relative_to_the_size_of_the_reference(tiny_run):
    """Difference and percent follow from value and reference; NaN where the reference is zero."""
    frame = Run(tiny_run).kpis()
    zero = frame["reference"] == 0.0

    assert frame.loc[zero, "percent"].isna().all()
    rest = frame[~zero & frame["reference"].notna()]
    np.testing.assert_allclose(rest["difference"], rest["value"] - rest["reference"])
    np.testing.assert_allclose(rest["percent"], 100 * (rest["value"] - rest["reference"]) / rest["reference"].abs())


def test_a_table_that_is_missing_is_told(run):
    """Key figures are never made of what is not there."""
    (run / "tables/branch_flows.parquet").unlink()

    with pytest.raises(ResultsError, match=r"branch_flows\.parquet, which cannot be read"):
        read(run, "tables", 1.0)


def test_the_page_about_key_figures_is_printed_from_their_definitions():
    """docs/kpis.md is what `python -m sim.kpi_page` prints."""
    assert (ROOT / "docs/kpis.md").read_text(encoding="utf-8") == markdown()
