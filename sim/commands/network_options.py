"""What the commands of ``commonwatt network`` have in common: their argument, their options, and how a result is given out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.commands import endings, summary

if TYPE_CHECKING:
    from sim.network_case_prepared import Prepared
    from sim.network_hosting import NetworkHosting
    from sim.network_validate import NetworkValidation

__all__ = [
    "AsJson",
    "FeederArgument",
    "Out",
    "OutFolder",
    "Quiet",
    "Seed",
    "Sets",
    "check_folder",
    "give",
    "give_page",
    "read",
]

FeederArgument = Annotated[
    str,
    typer.Argument(
        metavar="FEEDER",
        help="A network case in YAML; or a feeder with all defaults: european_lv, simbench:CODE, pandapower:NAME, a folder, a file.",
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the case; repeatable.")
]
Seed = Annotated[int | None, typer.Option(min=0, help="Seed of all random numbers, instead of the case's.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")]
Out = Annotated[str | None, typer.Option(metavar="FILE", help="Write the JSON to this file.")]
OutFolder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Folder for the page, its JSON and the table.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No tables.")]


def read(feeder: str, sets: list[str] | None, seed: int | None, out: str | None) -> Prepared:
    """Return the case of a command as arrays; what cannot be written is refused before anything is computed."""
    from sim.network_case import load
    from sim.network_case_prepared import prepared

    summary.check_out(out, Path(feeder))
    return prepared(load(feeder, tuple(sets or ()), seed))


def give(
    result: dict[str, Any], show: Callable[[], None], *, as_json: bool, out: str | None, quiet: bool, code: int
) -> None:
    """Give a result out: as JSON, into a file, for people; and end with an exit code.

    Parameters
    ----------
    result
        What JSON holds.
    show
        Prints it for people.
    as_json, out, quiet
        The options.
    code
        The exit code.
    """
    if out is not None or as_json:
        text = summary.as_json(result)
        if out is not None:
            summary.write(Path(out), text + "\n")
        if as_json:
            typer.echo(text)
    if not quiet and not as_json:
        show()
    raise typer.Exit(code)


def check_folder(out: Path | None) -> None:
    """Refuse a file where a folder is to be, before anything is computed."""
    if out is not None and out.exists() and not out.is_dir():
        raise endings.CommandError(f"--out {out} is a file; give the name of a folder.")


def give_page(
    result: NetworkValidation | NetworkHosting,
    show: Callable[[], None],
    *,
    as_json: bool,
    out: Path | None,
    quiet: bool,
    code: int,
) -> None:
    """Give a result with a page out, and end with an exit code; parameters as of :func:`give`, ``out`` a folder."""
    page = None
    if out is not None:
        from sim import network_report

        page = network_report.write(result, out, summary.as_json(result.as_dict()))
    if as_json:
        typer.echo(summary.as_json(result.as_dict()))
    elif not quiet:
        show()
        if page is not None:
            typer.echo(f"page      {page}")
    raise typer.Exit(code)
