"""The command line: ``commonwatt``.

Every command is a thin shell over one public function; this file only mounts
them.  What an ending means is said in :mod:`sim.commands.endings`, and nothing
heavy is imported before a command needs it: ``commonwatt --help`` must start at
once.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.commands import endings, market, network, progress, summary

if TYPE_CHECKING:
    from sim.results import Run
    from sim.scenario import Scenario

__all__ = ["app", "main"]

# One thread for the libraries of linear algebra: the problems are many and small, and equal runs must be equal bytes.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

app = typer.Typer(
    name="commonwatt",
    help="Simulate local energy sharing on a real distribution feeder.",
    epilog="Exit codes: 0 done; 1 done, but a check failed or something did not converge; 2 bad input; 3 infeasible; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # an unexpected exception is a bug, and its plain traceback is what mends it
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(market.app, name="market")
app.add_typer(network.app, name="network")

ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="The scenario, a YAML file.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run.")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the scenario; repeatable.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers, instead of the scenario's.")]
Days = Annotated[int | None, typer.Option(min=1, help="Days to simulate, instead of the scenario's.")]
OutFolder = Annotated[Path | None, typer.Option(help="Folder for the run; by default runs/ and its content id.")]
OutFile = Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Force = Annotated[bool, typer.Option("--force", help="Simulate again, and replace a run that is in the folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no summary.")]


def main() -> None:
    """Run the command line, and end with its exit code."""
    try:
        code = app(standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        words = [word.partition("=")[2] or word for word in sys.argv[1:]]
        ending = _usage(error) or endings.of_error(error, named=words)
        if ending is None:
            raise
    else:
        interrupted = code == endings.INTERRUPTED  # the parser turns an interruption into this number
        ending = (
            endings.INTERRUPTION if interrupted else endings.Ending(code if isinstance(code, int) else endings.DONE)
        )
    for line in ending.lines:
        typer.echo(line, err=True)
    sys.exit(ending.code)


def _usage(error: BaseException) -> endings.Ending | None:
    """Say what is wrong with a command line that the parser refuses."""
    if not hasattr(error, "format_message"):
        return None
    return endings.Ending(endings.BAD_INPUT, (f"{error.format_message()} See commonwatt --help.",))


def _version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        typer.echo(f"commonwatt {importlib.metadata.version('commonwatt')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version.")
    ] = False,
) -> None:
    """Simulate local energy sharing on a real distribution feeder."""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("scenario.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented scenario to start from."""
    from sim import scenario

    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="\n") as file:
            file.write(scenario.template())
    except FileExistsError:
        raise endings.CommandError(
            f"{path} is already there. Give another name, or --force to write over it."
        ) from None
    typer.echo(f"Wrote {path}. Next: commonwatt check {path}, then commonwatt run {path}.")


@app.command()
def check(scenario: ScenarioPath, sets: Sets = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Verify a scenario with its grid and its people, without running it."""
    from sim import check as checks

    notes = checks.check(scenario, tuple(sets or ()))
    if as_json:
        typer.echo(summary.as_json({"scenario": str(scenario), "ok": True, "notes": notes}))
    elif not quiet:
        for note in notes:
            typer.echo(note)
        typer.echo(f"{scenario}: no mistakes.")


@app.command()
def schema(
    of_case: Annotated[bool, typer.Option("--case", help="Of a market's case instead.")] = False,
    of_result: Annotated[bool, typer.Option("--result", help="Of what `market clear --json` prints instead.")] = False,
    of_network: Annotated[bool, typer.Option("--network", help="Of a network case instead.")] = False,
    out: OutFile = None,
) -> None:
    """Print the JSON Schema of scenarios, for editors; or of a market's case, of its result, or of a network case."""
    import json

    asked = [name for name, one in (("--case", of_case), ("--result", of_result), ("--network", of_network)) if one]
    if len(asked) > 1:
        raise endings.CommandError(f"{' and '.join(asked)} are {len(asked)} schemas; ask for one at a time.")
    if of_network:
        from sim.network_case import json_schema
    elif of_case:
        from sim.case import json_schema
    elif of_result:
        from sim.clear_result import json_schema
    else:
        from sim.scenario import json_schema
    text = json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if out is None:
        typer.echo(text)
    else:
        summary.write(out, text + "\n")


@app.command()
def demo(
    days: Days = None,
    seed: Seed = None,
    sets: Sets = None,
    out: OutFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Run the demo: a village feeder, its people and a shared storage, in one summer week."""
    from sim import scenario

    _simulate(
        scenario.load(scenario.demo_path(), sets=tuple(sets or ()), seed=seed, days=days), out, as_json, quiet, force
    )


@app.command()
def run(
    scenario: ScenarioPath,
    days: Days = None,
    seed: Seed = None,
    sets: Sets = None,
    out: OutFolder = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    force: Force = False,
) -> None:
    """Simulate a scenario and keep everything in a folder, with its report."""
    from sim import scenario as scenarios

    _simulate(scenarios.load(scenario, sets=tuple(sets or ()), seed=seed, days=days), out, as_json, quiet, force)


@app.command()
def report(run: RunPath, quiet: Quiet = False) -> None:
    """Write the report of a run again."""
    from sim import report as reports

    written = reports.write(_there(run))
    if not quiet:
        typer.echo(str(written))


@app.command()
def query(
    run: RunPath,
    sql: Annotated[str, typer.Argument(metavar="SQL", help='For example: "select * from kpis limit 5".')],
    out: OutFile = None,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option(min=1, help="Rows shown on the terminal.")] = 40,
) -> None:
    """Ask a run's tables in SQL."""
    from sim.results import Run

    if out is not None and out.suffix not in {".csv", ".parquet"}:
        raise endings.CommandError(f"--out {out}: give a name that ends in .csv or .parquet.")
    answer = Run(_there(run)).query(sql)
    if out is not None:
        _write_table(answer, out)
    elif as_json:
        typer.echo(summary.as_json(answer.to_pylist()))
    else:
        shown = [
            ["" if cell is None else str(cell) for cell in row.values()] for row in answer.slice(0, rows).to_pylist()
        ]
        summary.table(answer.column_names, shown)
        if answer.num_rows > rows:
            typer.echo(
                f"{answer.num_rows - rows} more rows; --rows shows more, --out FILE.csv or FILE.parquet keeps all."
            )


@app.command()
def certify(run: RunPath, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check a run from its tables alone, with code that the simulation does not use."""
    from sim import certify as certificates

    certificate = certificates.certify(_there(run))
    if as_json:
        checks = [{"name": one.name, "ok": one.ok, "detail": one.detail} for one in certificate.checks]
        typer.echo(summary.as_json({"run": str(run), "ok": certificate.ok, "checks": checks}))
    elif not quiet:
        for one in certificate.checks:
            typer.echo(f"{'ok  ' if one.ok else 'FAIL'}  {one.name}{f': {one.detail}' if one.detail else ''}")
    raise typer.Exit(endings.DONE if certificate.ok else endings.FAILED)


@app.command()
def doctor(as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Look at the installation: versions, solvers, data, cache, browser, threads."""
    from sim import doctor as doctors

    rows = doctors.doctor()
    if as_json:
        typer.echo(
            summary.as_json(
                [{"name": row.name, "version": row.version, "ok": row.ok, "note": row.note} for row in rows]
            )
        )
    elif not quiet:
        summary.table(
            ("", "what", "found", "note"), [("ok" if row.ok else "!!", row.name, row.version, row.note) for row in rows]
        )
    raise typer.Exit(endings.DONE if all(row.ok for row in rows) else endings.FAILED)


def _there(run: Path) -> Path:
    """Return the folder of a run that was named, if it is one."""
    from sim.folder import is_run

    if not is_run(run):
        raise endings.CommandError(
            f"{run} is no run: it has no manifest.json. Make one with `commonwatt run SCENARIO`."
        )
    return run


def _simulate(scenario: Scenario, out: Path | None, as_json: bool, quiet: bool, force: bool) -> None:
    """Run, report, and say how it went."""
    from sim import report as reports
    from sim import run as runs

    with progress.shown(quiet=quiet or as_json) as report_progress:
        done = runs.run(scenario, out=out, progress=report_progress, force=force)
    written = done.path / "report.html"
    if not written.is_file():
        written = reports.write(done.path)
    if as_json:
        typer.echo(
            summary.as_json({**done.manifest, "path": str(done.path), "report": str(written), "kpis": _headline(done)})
        )
    elif not quiet:
        lines = summary.figure_lines(_headline(done), str(done.manifest.get("currency", "eur")))
        summary.table(("", "this run", "reference", "change"), lines, right=(1, 2, 3))
        typer.echo(f"report   {written}\ntables   {done.path / 'tables'}\ncheck    commonwatt certify {done.path}")
    raise typer.Exit(endings.of_outcome(done.manifest))


def _headline(run: Run) -> list[dict[str, Any]]:
    from sim import kpis

    return summary.figures(run.kpis(), kpis.HEADLINE)


def _write_table(answer: Any, path: Path) -> None:
    """Write a table of pyarrow, as its ending says."""
    from pyarrow import csv, parquet

    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such folder", str(path))
    if path.suffix == ".parquet":
        parquet.write_table(answer, path, compression="zstd")
    else:
        csv.write_csv(answer, path)


if __name__ == "__main__":
    main()
