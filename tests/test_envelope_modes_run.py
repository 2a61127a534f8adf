"""Modes, rules and renewals of envelopes are words of a scenario: published, announced before they bind, kept, and certified."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from network.envelope import MODES, RULES
from sim.certify import certify
from sim.results import Run
from sim.run import run
from sim.scenario import ScenarioError, load
from sim.scenario_sections import DsoSpec

STREET = Path(__file__).parent.parent / "examples" / "street" / "scenario.yaml"
TIGHT = ("grid.v_max_pu=1.03", "grid.loading_max_percent=40")
"""The street's farm then has more sun than its line may carry."""


def play(folder: Path, *sets: str) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMMONWATT_CACHE", str(folder.parent / "cache"))
        return run(load(STREET, sets=sets, days=1), folder)


def certified(result: Run) -> None:
    found = certify(result.path)
    assert found.ok, [(check.name, check.detail) for check in found.checks if not check.ok]


def test_the_words_of_a_scenario_are_those_of_the_envelopes() -> None:
    """No mode or rule is missing there, and none is invented."""
    words = {name: DsoSpec.model_fields[name].annotation for name in ("mode", "rule")}

    assert set(get_args(words["mode"])) == set(MODES)
    assert set(get_args(words["rule"])) == set(RULES)


@pytest.fixture(scope="module")
def renewed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A day with tight limits whose envelopes are renewed every hour."""
    return play(tmp_path_factory.mktemp("renewed") / "run", *TIGHT, "dso.renew=hourly")


def test_renewed_envelopes_are_announced_before_they_bind_and_the_newest_is_kept(renewed: Run) -> None:
    """25 issues, each of the rest of its day, five and a half minutes before the hour or earlier; certified."""
    issues = renewed.query(
        "SELECT issued_at, min(time) AS first, count(DISTINCT time) AS intervals FROM envelopes GROUP BY ALL ORDER BY ALL"
    ).to_pylist()

    assert len(issues) == 25
    assert [row["intervals"] for row in issues] == [48, *range(48, 0, -2)]
    assert all((row["first"] - row["issued_at"]).total_seconds() >= 300 for row in issues)
    certified(renewed)


def test_newer_forecasts_move_the_envelopes(renewed: Run) -> None:
    """Issues of one interval differ where loads without an envelope are forecast anew."""
    told = renewed.query(
        "SELECT max(export_limit_kw) - min(export_limit_kw) AS moved FROM envelopes GROUP BY time, agent_id"
    )

    assert np.max(told.column("moved").to_numpy()) > 1e-3


def test_a_meter_above_the_newest_issue_is_found(renewed: Run, tmp_path: Path) -> None:
    """The certificate looks at the issue in force, not at the day-ahead one: that one is made wide, and nothing helps."""
    import shutil

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "forged"
    shutil.copytree(renewed.path, folder)
    file = folder / "tables" / "envelopes.parquet"
    table = pq.read_table(file)
    last = table.column("issued_at").to_numpy() == table.column("issued_at").to_numpy().max()
    limits = table.column("export_limit_kw").to_numpy().copy()
    limits[last] = 0.0
    importing = table.column("import_limit_kw").to_numpy().copy()
    importing[last] = 0.0
    for name, values in (("export_limit_kw", limits), ("import_limit_kw", importing)):
        table = table.set_column(table.column_names.index(name), table.schema.field(name), pa.array(values))
    pq.write_table(table, file)

    failed = [check.name for check in certify(folder).checks if not check.ok]

    assert "envelopes (tables)" in failed


@pytest.mark.slow
@pytest.mark.parametrize(
    "sets",
    [
        ("dso.mode=robust", "dso.rule=equal"),
        ("dso.mode=robust_pinned", "dso.import_right_kw=3", "dso.rule=max_total"),
        ("dso.mode=chance", "dso.load_error_percent=30", "dso.rule=proportional_fairness"),
        ("dso.mode=budget", "dso.deviating=1", "dso.rule=last_in_first_out", "dso.export_right_kw=1"),
        ("dso.rule=alpha_fair", "dso.alpha=4", "dso.power_factor=0.95"),
    ],
    ids=lambda sets: sets[0],
)
def test_every_mode_and_rule_is_published_kept_and_certified(tmp_path: Path, sets: tuple[str, ...]) -> None:
    """The table says mode and rule as the scenario does; rights are granted; the run is certified."""
    result = play(tmp_path / "run", *TIGHT, *sets)
    said = dict(word.removeprefix("dso.").split("=") for word in sets)

    told = result.query("SELECT DISTINCT mode, rule FROM envelopes").to_pylist()
    assert told == [{"mode": said.get("mode", "deterministic"), "rule": said.get("rule", "proportional")}]
    certified(result)


def test_a_mode_without_what_it_needs_is_refused_at_its_key() -> None:
    """A right for robust_pinned, an error for chance; with file, line and column where the mode stands in a file."""
    for sets, where in (("dso.mode=robust_pinned", "import_right_kw"), ("dso.mode=chance", "load_error_percent")):
        with pytest.raises(ScenarioError, match=f"dso.*{where}.*must be above 0"):
            load(STREET, sets=(sets,))
