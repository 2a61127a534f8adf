"""Who is held, by what rule, and what becomes of messages that are late or lost: in the tables of a run, certified from them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agents.dso import Publication, open_limits, renewed
from agents.enforce import RULES, Held, Wish, hold, ramped
from network.messages import Defaults, in_force, messages_of
from sim.certify import certify
from sim.mailbox import Mail, Mailbox
from sim.results import Run
from sim.run import run
from sim.scenario import load
from sim.scenario_sections import DsoSpec

STREET = Path(__file__).parent.parent / "examples" / "street" / "scenario.yaml"
TIGHT = "grid.v_max_pu=1.03"


def play(folder: Path, *sets: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWATT_CACHE", str(folder.parent / "cache"))
        return run(load(STREET, sets=(TIGHT, *sets), days=1), folder)


def failed(result: Run | Path) -> dict[str, str]:
    path = result if isinstance(result, Path) else result.path
    return {check.name: check.detail for check in certify(path).checks if not check.ok}


def held(rule: str, import_kw: float, export_kw: float, **kw: float) -> Held:
    wish = Wish(**{name: np.array([kw.get(name, 0.0)]) for name in Wish.__slots__})
    return hold(wish, np.array([import_kw]), np.array([export_kw]), rule)


def test_the_rules_of_a_scenario_are_those_that_there_are() -> None:
    """No rule is missing in the scenario, none is invented."""
    assert set(get_args(DsoSpec.model_fields["enforcement"].annotation)) == set(RULES)


def test_the_battery_takes_first_where_the_rule_says_so() -> None:
    """9 kW of sun, 3 allowed out: a battery with room for 4 takes 4, and 2 are clipped; by the other rule 6 are."""
    first = held("battery_pv_flexible", 10.0, 3.0, pv_kw=9.0, battery_room_kw=4.0)
    second = held("pv_battery_flexible", 10.0, 3.0, pv_kw=9.0, battery_room_kw=4.0)

    assert (first.battery_charge_kw[0], first.clipped_kw[0], first.meter_kw[0]) == (4.0, 2.0, -3.0)
    assert (second.battery_charge_kw[0], second.clipped_kw[0], second.meter_kw[0]) == (0.0, 6.0, -3.0)
    assert (first.battery_kw[0], second.battery_kw[0]) == (4.0, 0.0)


def test_a_battery_that_discharges_does_not_charge_too() -> None:
    """It gives 2 kW and 4 kW are too much: it stops, and only then the sun is turned down."""
    result = held("battery_pv_flexible", 10.0, 1.0, pv_kw=3.0, battery_discharge_kw=2.0)

    assert (result.battery_charge_kw[0], result.battery_discharge_kw[0], result.pv_kw[0]) == (0.0, 0.0, 1.0)


def test_the_battery_helps_before_the_car_waits_where_the_rule_says_so() -> None:
    """11 kW of car, 6 allowed, 3 to be had from the battery: 2 are held back; by the other rule 5 are."""
    first = held("battery_pv_flexible", 6.0, 9.0, ev_kw=11.0, battery_spare_kw=3.0)
    second = held("pv_battery_flexible", 6.0, 9.0, ev_kw=11.0, battery_spare_kw=3.0)

    assert (first.deferred_kw[0], first.battery_kw[0], first.meter_kw[0]) == (2.0, -3.0, 6.0)
    assert (second.deferred_kw[0], second.battery_kw[0], second.meter_kw[0]) == (5.0, 0.0, 6.0)


def test_a_ramp_never_widens_a_limit() -> None:
    """It grows by 1 kW an interval and shrinks at once."""
    path, limit = [2.0], [2.0, 5.0, 5.0, 0.5, 5.0]
    for kw in limit[1:]:
        path.append(float(ramped(np.array([kw]), np.array([path[-1]]), 1.0)[0]))

    assert path == [2.0, 3.0, 4.0, 0.5, 1.5]


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A day on which solar plants are turned down."""
    return play(tmp_path_factory.mktemp("ordinary") / "run")


def test_every_meter_that_was_held_is_told_and_adds_up(ordinary: Run) -> None:
    """Rows of enforcement are those of meters with a cause; energy by cause is that of the key figures; certified."""
    rows = ordinary.query("SELECT * FROM enforcement ORDER BY time").to_pylist()
    told = {(row["kpi"], row["entity"]): row["value"] for row in ordinary.query("SELECT * FROM kpis WHERE scope = 'cause'").to_pylist()}  # fmt: skip
    total = ordinary.query("SELECT value FROM kpis WHERE kpi = 'curtailed_kwh' AND scope = 'community'").to_pylist()

    assert rows
    assert {row["cause"] for row in rows} == {"envelope_export"}
    assert {row["rule"] for row in rows} == {"pv_battery_flexible"}
    assert sum(row["clipped_kw"] for row in rows) / 2 == pytest.approx(told["curtailed_kwh", "envelope"], abs=1e-9)
    assert sum(value for (kpi, _), value in told.items() if kpi == "curtailed_kwh") == pytest.approx(total[0]["value"])
    assert not failed(ordinary)


def test_the_report_says_who_was_held_by_what(ordinary: Run) -> None:
    """The member who gave up most stands first, with the limit, the direction and the rule."""
    most = ordinary.query(
        "SELECT agent_id FROM enforcement GROUP BY agent_id ORDER BY sum(clipped_kw) DESC"
    ).to_pylist()
    page = (ordinary.path / "report.html").read_text(encoding="utf-8")
    told = page[page.index("Who was held, by what") :]

    assert f"<tr><td>{most[0]['agent_id']}</td><td>the envelope</td><td>export</td>" in told
    assert "What gives way first: pv_battery_flexible (solar, then the battery, then cars and heat pumps)." in told


@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        ("limit_kw", 0.5, "stands at its limit"),
        ("clipped_kw", 9.0, "turned down is part"),
        ("deferred_kw", 0.5, "held back"),
    ],
)
def test_a_forged_row_is_found(ordinary: Run, tmp_path: Path, column: str, change: float, says: str) -> None:
    """A limit, an energy turned down or held back that meters do not show."""
    folder = tmp_path / "forged"
    shutil.copytree(ordinary.path, folder)
    file = folder / "tables" / "enforcement.parquet"
    table = pq.read_table(file)
    figures = table.column(column).to_numpy().copy()
    figures[0] += change
    pq.write_table(
        table.set_column(table.column_names.index(column), table.schema.field(column), pa.array(figures)), file
    )

    assert says in failed(folder)["enforcement (tables)"]


def test_a_row_that_is_left_out_is_found(ordinary: Run, tmp_path: Path) -> None:
    """Meters say that somebody was held, and enforcement does not know."""
    folder = tmp_path / "forged"
    shutil.copytree(ordinary.path, folder)
    file = folder / "tables" / "enforcement.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(1), file)

    assert "the same of who was held" in failed(folder)["enforcement (tables)"]


def test_where_no_message_arrives_everybody_keeps_the_default(tmp_path: Path) -> None:
    """All messages are lost: exports of homes stay below 0.5 kW although envelopes are wider, and the cause says so; certified."""
    result = play(tmp_path / "run", "dso.messages.lost_share=1", "dso.messages.default_export_kw=0.5", "dso.messages.default_import_kw=50")  # fmt: skip
    meters = result.query(
        "SELECT m.meter_kw, m.cause, e.export_limit_kw FROM meters m JOIN envelopes e USING (time, agent_id) "
        "WHERE agent_id NOT IN (SELECT ess_id FROM ess)"
    ).to_pylist()

    assert min(row["meter_kw"] for row in meters) == pytest.approx(-0.5, abs=1e-9)
    assert max(row["export_limit_kw"] for row in meters) > 1.0
    assert {row["cause"] for row in meters} == {"", "default_export"}
    assert not failed(result)


def test_what_homes_keep_is_what_is_in_force_by_the_rules(tmp_path: Path) -> None:
    """Two issues, a delay, losses: the mailbox keeps what the messages say; planning knows no message before it has arrived."""
    names, steps = tuple("ABCD"), 8
    times = np.datetime64("2030-06-01T12:00", "s") + np.arange(steps) * np.timedelta64(900, "s")
    now = datetime(2030, 6, 1, 10, tzinfo=UTC)
    wide = open_limits(4, steps)

    def issue(kw: float, at: int) -> Publication:
        some = np.full((4, steps - at), kw)
        words = np.full(steps - at, "", dtype=object)
        envelope = replace(
            wide.envelope, import_limit_kw=some, export_limit_kw=some, firm_charge_kw=0 * some, mode="deterministic",
            binding_import=words, binding_export=words, status=np.full(steps - at, "ok", dtype=object), infeasible_by=words,
            share_import=np.ones(steps - at), share_export=np.ones(steps - at),
        )  # fmt: skip
        return replace(wide, envelope=envelope, firm_kw=np.zeros(steps - at))

    mail = Mail(lost_share=0.5, delay_minutes=20.0, default_import_kw=1.5, default_export_kw=1.0)
    box = Mailbox(names, np.array([True, True, True, False]), times, 900, mail, np.random.default_rng(3))
    first, second = issue(4.0, 0), issue(3.0, 4)
    box.post(first.envelope, 0, first.envelope, now)
    later = now + timedelta(hours=2, minutes=55)
    box.post(second.envelope, 4, renewed(first, 4, second).envelope, later)
    kept = box.kept(0)

    # the same by hand: who got what is drawn from the same stream
    draws = np.random.default_rng(3)
    sent = []
    for kw, at, made in ((4.0, 0, now), (3.0, 4, later)):
        made_at = np.datetime64(made.replace(tzinfo=None), "s")
        one = messages_of(
            names[:3], times[at:], 900, np.full((3, steps - at), kw), np.full((3, steps - at), kw), made_at
        )
        lost = dict(zip(names, draws.random(3) < 0.5, strict=False))
        arrival = np.array([np.datetime64("NaT", "s") if lost[name] else made_at + np.timedelta64(1200, "s") for name in one.agent_id])  # fmt: skip
        sent.append(replace(one, received_at=arrival))
    found = in_force(sent[0].joined(sent[1]), Defaults.same(names[:3], 1.5, 1.0), names[:3], times)

    np.testing.assert_array_equal(kept.export_limit_kw[:3] * 1e3, found.export_limit_w)
    np.testing.assert_array_equal(kept.import_limit_kw[:3] * 1e3, found.import_limit_w)
    assert np.isinf(kept.export_limit_kw[3]).all()
    assert {"envelope", "default"} == set(kept.export_word[:3].ravel())
    assert not (box.kept(4, known_by=later).export_limit_kw[:3] == 3.0).any()
