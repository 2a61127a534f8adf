"""What the commands of ``commonwatt network`` have in common: their argument, their options, and how a result is given out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.commands import summary

if TYPE_CHECKING:
    from sim.network_case_prepared import Prepared

__all__ = ["AsJson", "FeederArgument", "Out", "Quiet", "Seed", "Sets", "give", "read"]

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
