"""``commonwatt network hosting``: how much solar power or load a feeder takes, and what stops it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands import endings, progress, summary
from sim.commands.network_options import (
    AsJson,
    FeederArgument,
    OutFolder,
    Quiet,
    Seed,
    Sets,
    check_folder,
    give_page,
    read,
)

if TYPE_CHECKING:
    from sim.network_hosting import NetworkHosting

__all__ = ["hosting"]

ROWS = 8


def hosting(
    feeder: FeederArgument,
    placements: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Random placements, instead of the case's number.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
    out: OutFolder = None,
    quiet: Quiet = False,
) -> None:
    """Add plants at random customers until the first limit is met: firm, median and largest hosting capacity."""
    from sim import network_hosting

    check_folder(out)
    ready = read(feeder, sets, seed, None)
    with progress.steps(quiet=quiet or as_json) as tell:
        result = network_hosting.hosting(ready, placements, tell)
    code = endings.DONE if result.found.status == "ok" else endings.INFEASIBLE
    give_page(result, lambda: _show(result), as_json=as_json, out=out, quiet=quiet, code=code)


def _show(result: NetworkHosting) -> None:
    from sim.network_hosting import verdict

    found, say = result.found, summary.number
    typer.echo(f"{result.prepared.case.name}: {verdict(result)}.")
    if found.status != "ok":
        return
    low, high = found.median_between_kw
    summary.table(
        ("hosting capacity", "kW", ""),
        (
            (
                "firm",
                say(found.firm_kw),
                f"at most {100 * found.below_firm_at_most:.2g} % of all placements lie below (95 %)",
            ),
            (
                "median",
                say(found.median_kw),
                f"between {say(low)} and {say(high)} (95 %)" if not math.isnan(low) else "",
            ),
            ("maximum", say(found.maximum_kw), ""),
        ),
        right=(1,),
    )
    rows = [(name, kind.replace("_", " "), str(many)) for name, kind, many in result.stoppers]
    if rows:
        summary.table(("stopped by", "limit", "placements"), rows[:ROWS], right=(2,))
        if len(rows) > ROWS:
            typer.echo(f"{len(rows) - ROWS} more elements; --json has them all")
    alone = found.alone_kw[found.alone_kw == found.alone_kw]
    typer.echo(f"alone     a single customer could add {say(float(alone.min()))} to {say(float(alone.max()))} kW")
