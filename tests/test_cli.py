"""The command line: thin, honest about its ending, quiet when asked."""

from __future__ import annotations

import errno
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pytest

import cli
import sim
from sim import doctor
from sim.commands import endings, progress, summary

KPIS = pd.DataFrame(
    {
        "kpi": ["community_cost_eur", "peak_export_kw", "community_cost_eur"],
        "scope": ["community", "community", "member"],
        "entity": ["", "", "a"],
        "period": ["run", "run", "run"],
        "boundary": ["member meter", "community physical", "member meter"],
        "value": [200.0, math.nan, 1.0],
        "unit": ["eur", "kW", "eur"],
        "reference": [283.4, 10.0, 2.0],
        "difference": [-83.4, math.nan, -1.0],
        "percent": [-29.4, math.nan, -50.0],
    }
)


class GridInfeasible(RuntimeError):
    """Stands for an outcome of one of the packages."""


class FeederBroken(ValueError):
    """Stands for bad input told by one of the packages."""


for _one in (GridInfeasible, FeederBroken):
    _one.__module__ = "network.somewhere"


@pytest.fixture
def simulated(monkeypatch, tmp_path):
    """Put a simulation of one moment in the place of the real one; gives what it is to do and what it was told."""
    told = {}
    play = SimpleNamespace(raises=None, manifest={"outcome": "ok", "gap": math.nan}, told=told)

    def run(scenario, out=None, progress=None, *, force=False):
        told.update(scenario=scenario, out=out, progress=progress, force=force)
        if play.raises is not None:
            raise play.raises
        return SimpleNamespace(path=tmp_path / "run", manifest=play.manifest, kpis=lambda: KPIS)

    def load(path, sets=(), seed=None, days=None):
        return {"path": path, "sets": sets, "seed": seed, "days": days}

    def module(name, **members):
        monkeypatch.setattr(sim, name, SimpleNamespace(**members), raising=False)

    module("scenario", load=load, demo_path=lambda: Path("demo.yaml"))
    module("run", run=run)
    module("report", write=lambda path: path / "report.html")
    module("kpis", HEADLINE=("peak_export_kw", "community_cost_eur", "unheard_of"))
    return play


def test_options_reach_the_scenario_and_the_run(call, simulated):
    """--set, --seed, --days and --out mean for `run` what they say."""
    code, _, _ = call(
        "run", "a.yaml", "--set", "seed=1", "--set", "b.c=2", "--seed", 7, "--days", 2, "--out", "there", "--quiet"
    )

    assert code == 0
    assert simulated.told["scenario"] == {"path": Path("a.yaml"), "sets": ("seed=1", "b.c=2"), "seed": 7, "days": 2}
    assert simulated.told["out"] == Path("there")
    assert simulated.told["progress"] is None
    assert simulated.told["force"] is False


def test_the_demo_is_a_run_of_its_scenario(call, simulated):
    """`demo` takes the options of `run` and simulates the demo's file."""
    code, out, _ = call("demo", "--days", 1, "--force")

    assert code == 0
    assert simulated.told["force"] is True
    assert simulated.told["scenario"] == {"path": Path("demo.yaml"), "sets": (), "seed": None, "days": 1}
    assert "report.html" in out


def test_the_summary_shows_headline_figures_in_order(call, simulated):
    """People see the community's figures with their reference; one that does not exist is a dash, never a zero."""
    _, out, _ = call("demo")

    first, second = [line for line in out.splitlines() if "[" in line]
    assert re.fullmatch(r"bills of all members together \[eur\] +200 +283.4 +-83.4", first.strip())
    assert re.fullmatch(r"peak export \[kW\] +– +10 +–", second.strip())


def test_the_summary_knows_its_figures():
    """Every figure shown to people is a headline figure of runs."""
    from sim import kpis

    assert set(summary.SHOWN) <= set(kpis.HEADLINE)


def test_json_is_json(call, simulated):
    """--json prints one object that any parser reads: NaN is null, and nothing else is on standard output."""
    code, out, _ = call("demo", "--json")

    said = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert code == 0
    assert said["gap"] is None
    assert [row["kpi"] for row in said["kpis"]] == ["peak_export_kw", "community_cost_eur"]
    assert said["kpis"][0]["value"] is None


def test_quiet_says_nothing(call, simulated):
    """--quiet leaves standard output and standard error empty."""
    assert call("demo", "--quiet") == (0, "", "")


@pytest.mark.parametrize(
    ("outcome", "code"), [("ok", 0), ("not_converged", 1), ("failed", 1), ("infeasible", 3), (None, 1)]
)
def test_the_outcome_of_a_run_is_its_exit_code(call, simulated, outcome, code):
    """A run that did not converge ends with 1, an infeasible one with 3."""
    simulated.manifest = {"outcome": outcome}

    assert call("demo", "--quiet")[0] == code


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (FeederBroken("bus 1 is unknown.\nline 2 is negative."), 2, "bus 1 is unknown.\nline 2 is negative.\n"),
        (GridInfeasible("line 3 is full at noon"), 3, "line 3 is full at noon\n"),
        (OSError(errno.ENOSPC, "No space left", "runs/x"), 1, "Stopped: the disk is full (runs/x). Nothing half-written was left behind.\n"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.yaml"), 2, "a.yaml: no such file or folder. Check the path.\n"),
        (KeyboardInterrupt(), 130, "Interrupted; nothing half-written was left behind.\n"),
    ],
)  # fmt: skip
def test_an_ending_is_a_code_and_a_sentence(call, simulated, error, code, line):
    """What a person can act on is said in one line each, without a traceback, and has its own code."""
    simulated.raises = error

    assert call("run", "a.yaml", "--quiet") == (code, "", line)


@pytest.mark.parametrize("error", [ValueError("shapes differ"), KeyError("x"), FileNotFoundError(2, "", "style.css")])
def test_a_bug_keeps_its_traceback(monkeypatch, simulated, error):
    """What no person can act on is not dressed up as bad input."""
    simulated.raises = error
    monkeypatch.setattr("sys.argv", ["commonwatt", "run", "a.yaml", "--quiet"])

    with pytest.raises(type(error)):
        cli.main()


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing(tmp_path):
    """Ctrl-C in the midst of the demo: one sentence, code 130, and no half run on the disk."""
    listens = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # tests in the background ignore it
    )
    code = f"{listens}; import sys; sys.argv = ['commonwatt', 'demo', '--out', 'run']; import cli; cli.main()"
    running = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(600):
            if any(tmp_path.iterdir()):
                break
            time.sleep(0.1)
        begun = [path.name for path in tmp_path.iterdir()]
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()

    assert len(begun) == 1
    assert begun[0].startswith(".run.partial")
    assert (running.returncode, said.splitlines()[-1]) == (130, "Interrupted; nothing half-written was left behind.")
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_said_one_line_each():
    """An error that carries its mistakes is told by them, not by its own text."""
    error = FeederBroken("3 mistakes")
    error.mistakes = ("a.yaml:3:7: no.", "a.yaml:4:1: nor this.")

    assert endings.of_error(error) == endings.Ending(2, ("a.yaml:3:7: no.", "a.yaml:4:1: nor this."))


@pytest.mark.parametrize("words", [("nope",), ("run",), ("run", "a.yaml", "--days", "0"), ("run", "a.yaml", "--unknown"), ("report", "--seed", "1")])  # fmt: skip
def test_a_command_line_that_cannot_be_read_is_bad_input(call, words):
    """Unknown commands, missing arguments and impossible values end with 2 and say where help is."""
    code, out, err = call(*words)

    assert code == 2
    assert out == ""
    assert err.endswith("See commonwatt --help.\n")
    assert "Traceback" not in err


def test_version_is_said(call):
    """--version names the program and its version."""
    assert call("--version")[1].startswith("commonwatt 0.")


def test_every_command_and_option_is_documented():
    """docs/command-line.md and the README name every command; the page names every option."""
    import typer

    root = Path(cli.__file__).parent
    page, readme = ((root / name).read_text(encoding="utf-8") for name in ("docs/command-line.md", "README.md"))
    commands = typer.main.get_command(cli.app).commands
    options = {
        name for one in commands.values() for option in one.params for name in option.opts if name.startswith("--")
    }

    assert [name for name in commands if f"`commonwatt {name}" not in page or f"`{name}`" not in readme] == []
    assert [name for name in sorted(options - {"--help"}) if name not in page] == []


def test_init_writes_once(call, monkeypatch, tmp_path):
    """`init` does not write over a file unless told to."""
    monkeypatch.setattr(sim, "scenario", SimpleNamespace(template=lambda: "seed: 1\n"), raising=False)
    path = tmp_path / "mine.yaml"

    assert call("init", path)[0] == 0
    path.write_text("changed")
    code, _, err = call("init", path)
    assert (code, path.read_text()) == (2, "changed")
    assert "--force" in err
    assert call("init", path, "--force")[0] == 0
    assert path.read_text() == "seed: 1\n"


def test_check_tells_notes_or_mistakes(call, monkeypatch):
    """`check` prints what it noticed; as JSON for programs."""
    monkeypatch.setattr(sim, "check", SimpleNamespace(check=lambda path, sets: ["118 homes"]), raising=False)

    assert call("check", "a.yaml")[1] == "118 homes\na.yaml: no mistakes.\n"
    assert json.loads(call("check", "a.yaml", "--json")[1]) == {
        "scenario": "a.yaml",
        "ok": True,
        "notes": ["118 homes"],
    }


@pytest.fixture
def a_run(tmp_path):
    """A folder that passes for a run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text("{}")
    return tmp_path / "run"


@pytest.mark.parametrize("words", [("report",), ("query", "select 1"), ("certify",)])
def test_a_folder_that_is_no_run_is_bad_input(call, tmp_path, words):
    """A folder without a manifest is told in one sentence."""
    code, out, err = call(words[0], tmp_path, *words[1:])

    assert (code, out) == (2, "")
    assert err.startswith(f"{tmp_path} is no run")
    assert err.count("\n") == 1


@pytest.mark.parametrize("good", [True, False])
def test_certify_ends_with_what_it_found(call, monkeypatch, a_run, good):
    """One failed check is exit code 1, with the check's name."""
    checks = (
        SimpleNamespace(name="balance", ok=True, detail=""),
        SimpleNamespace(name="books", ok=good, detail="row 3"),
    )
    certificate = SimpleNamespace(ok=good, checks=checks)
    monkeypatch.setattr(sim, "certify", SimpleNamespace(certify=lambda path: certificate), raising=False)

    code, out, _ = call("certify", a_run)

    assert code == (0 if good else 1)
    assert out == f"ok    balance\n{'ok  ' if good else 'FAIL'}  books: row 3\n"


@pytest.fixture
def asked(monkeypatch):
    """Put three rows in the place of a run's answer."""
    answer = pa.table({"agent_id": ["a", "b", "c"], "amount_eur": [1.5, None, 3.0]})
    monkeypatch.setattr("sim.results.Run", lambda path: SimpleNamespace(query=lambda sql: answer))
    return answer


def test_an_answer_is_shown_or_kept(call, asked, a_run, tmp_path):
    """`query` shows some rows, says how many more there are, and writes all of them as JSON, CSV or Parquet."""
    shown = call("query", a_run, "select 1", "--rows", 2)[1]
    assert "a" in shown
    assert "1 more rows" in shown

    assert json.loads(call("query", a_run, "select 1", "--json")[1])[1] == {"agent_id": "b", "amount_eur": None}
    for name, read in (("t.csv", pd.read_csv), ("t.parquet", pd.read_parquet)):
        assert call("query", a_run, "select 1", "--out", tmp_path / name) == (0, "", "")
        assert read(tmp_path / name)["agent_id"].tolist() == ["a", "b", "c"]
    assert call("query", a_run, "select 1", "--out", tmp_path / "t.xlsx")[0] == 2


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch):
    """Progress goes to a log as a line every ten seconds, with the simulated time, the pace and the time left."""
    wall_s = 0.0
    monkeypatch.setattr(progress.time, "perf_counter", lambda: wall_s)
    stream, start = io.StringIO(), datetime(2016, 7, 18, tzinfo=UTC)

    with progress.shown(quiet=False, stream=stream) as report:
        for done, wall_s in ((0, 12.0), (24, 15.0), (48, 22.0), (72, 25.0)):  # noqa: B007 - read by the clock
            report(done, 96, start + timedelta(hours=done / 4), "simulating")

    assert stream.getvalue().splitlines() == [
        "2016-07-18 00:00    0 %  – days/s  – s left  simulating",
        "2016-07-18 12:00   50 %  0.05 days/s  10 s left  simulating",
    ]


def test_a_bar_on_a_terminal():
    """On a terminal the bar shows the simulated time and the phase."""
    stream = io.StringIO()
    stream.isatty = lambda: True

    with progress.shown(quiet=False, stream=stream) as report:
        report(48, 96, datetime(2016, 7, 18, 12, tzinfo=UTC), "delivery")

    assert "Mon 18 Jul 12:00" in stream.getvalue()
    assert "delivery" in stream.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0, "0"),
        (-1234.56, "-1 235"),
        (12.3456, "12.35"),
        (1e-9, "0"),
        (math.nan, "–"),
        (None, "–"),
        (7, "7"),
    ],
)
def test_a_number_is_written_to_be_read(value, text):
    """Four digits that matter, thousands apart, a dash for what does not exist."""
    assert summary.number(value) == text


def test_the_doctor_finds_this_installation_well():
    """Every row about this very environment is as it should be, but for what a machine may lack."""
    rows = doctor.doctor()

    assert {row.name for row in rows} >= {"python", "commonwatt", "numba", "solver HiGHS", "cache folder", "browser"}
    assert [row for row in rows if not row.ok] == []


def test_the_doctor_finds_what_is_ill(monkeypatch, call):
    """A solver that answers wrongly, and one that raises, are rows that are not ok, and exit code 1."""
    monkeypatch.setattr(doctor, "_solve_osqp", lambda: 3.0)
    monkeypatch.setattr(doctor, "_solve_highs", lambda: 1 / 0)

    code, out, _ = call("doctor", "--json")

    ill = {row["name"]: row["note"] for row in json.loads(out) if not row["ok"]}
    assert code == 1
    assert ill == {"solver OSQP": "Found 3.0 where 1 is right.", "solver HiGHS": "ZeroDivisionError: division by zero"}
