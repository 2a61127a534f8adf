"""``commonwatt network messages``: envelopes as messages, and messages as what customers keep of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sim.commands import endings, summary

__all__ = ["messages"]


def messages(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="ENVELOPES",
            help="A run, envelopes or messages in CSV, or CSIP-AUS in XML.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write them: .xml is CSIP-AUS, .csv a table of messages.")
    ] = None,
    default_import_kw: Annotated[
        float | None, typer.Option(min=0, help="Import limit without a control, where the file says none. [kW]")
    ] = None,
    default_export_kw: Annotated[
        float | None, typer.Option(min=0, help="Export limit without a control, likewise. [kW]")
    ] = None,
    interval_minutes: Annotated[
        float | None, typer.Option(min=1 / 60, help="Length of an interval, where a CSV holds a single one. [min]")
    ] = None,
    customer: Annotated[str | None, typer.Option(help="Whose a DERControlList alone is.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No summary.")] = False,
) -> None:
    """Send envelopes as messages (CSIP-AUS or CSV), or read messages and say what customers keep of them."""
    from sim import network_messages as table

    if (default_import_kw is None) != (default_export_kw is None):
        raise endings.CommandError(
            "a default has both directions: give --default-import-kw and --default-export-kw together."
        )
    if out is not None:
        summary.check_out(str(out), source)
        if out.suffix not in {".xml", ".csv"}:
            raise endings.CommandError(f"--out {out}: give a name that ends in .xml (CSIP-AUS) or .csv.")
    if not source.exists():
        raise endings.CommandError(f"{source} does not exist. Give a run, a CSV or an XML file.")
    default = None if default_import_kw is None or default_export_kw is None else (default_import_kw, default_export_kw)
    read = table.read(source, default_kw=default, interval_minutes=interval_minutes, customer=customer)
    if out is not None:
        table.write(out, read)
    if as_json:
        typer.echo(summary.as_json(_told(read, source, out)))
    elif not quiet:
        _show(read, out)


def _told(read: Any, source: Path, out: Path | None) -> dict[str, Any]:
    kept = read.kept
    return {
        "source": str(source),
        "out": None if out is None else str(out),
        "controls": len(read.controls),
        "customers": list(read.defaults.agent_id),
        "customer_hours": read.hours(),
        "time": [f"{moment}Z" for moment in read.moments],
        "length_s": read.length_s.tolist(),
        "import_limit_w": kept.import_limit_w.tolist(),
        "export_limit_w": kept.export_limit_w.tolist(),
        "import_cause": kept.import_cause.tolist(),
        "export_cause": kept.export_cause.tolist(),
    }


def _show(read: Any, out: Path | None) -> None:
    hours = read.hours()
    typer.echo(
        f"{len(read.controls)} controls for {len(set(read.controls.agent_id))} of {len(read.defaults)} customers"
    )
    causes = sorted({cause for side in hours.values() for cause in side}, key=lambda cause: (cause != "control", cause))
    lines = [
        (
            cause if cause == "control" else f"default: {cause}",
            *(f"{side.get(cause, 0.0):.6g}" for side in hours.values()),
        )
        for cause in causes
    ]
    summary.table(("in force", "import [customer h]", "export [customer h]"), lines, right=(1, 2))
    if out is not None:
        typer.echo(f"written  {out}")
