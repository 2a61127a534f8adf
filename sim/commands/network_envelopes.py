"""``commonwatt network envelopes``: how much each customer may import and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands import endings, summary
from sim.commands.network_options import AsJson, FeederArgument, Out, Quiet, Seed, Sets, give, read

if TYPE_CHECKING:
    import numpy as np

    from network.envelope import Envelope
    from network.equity import Equity
    from sim.network_envelopes import NetworkEnvelopes

__all__ = ["envelopes"]

ROWS = 8


def envelopes(
    feeder: FeederArgument,
    mode: Annotated[
        str | None, typer.Option(help="deterministic, robust, robust_pinned, budget or chance, instead of the case's.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="proportional, equal, max_min, last_in_first_out, max_total, proportional_fairness or alpha_fair."
        ),
    ] = None,
    csv: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the limits to this CSV file, as a run's table envelopes.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Compute dynamic operating envelopes: limits of import and export that the feeder keeps by AC power flow."""
    from sim import network_envelopes

    told = [f"envelopes.{name}={value}" for name, value in (("mode", mode), ("rule", rule)) if value is not None]
    if csv is not None:
        summary.check_out(csv, Path(feeder), "--csv")
        if out is not None and Path(out).absolute() == Path(csv).absolute():
            raise endings.CommandError(f"--csv and --out both name {csv}; one would be lost. Name two files.")
    result = network_envelopes.envelopes(read(feeder, [*(sets or ()), *told], seed, out))
    if csv is not None:
        summary.write(Path(csv), result.to_csv())
    code = endings.INFEASIBLE if result.status in ("infeasible", "refused") else endings.DONE
    give(result.as_dict(), lambda: _show(result), as_json=as_json, out=out, quiet=quiet, code=code)


def _show(result: NetworkEnvelopes) -> None:
    one, ready = result.envelope, result.prepared
    steps, count = len(ready.times), int(ready.active.sum())
    typer.echo(
        f"{ready.case.name}: {one.mode}, {one.rule}; {count} customer{'s' * (count != 1)}, {steps} interval{'s' * (steps != 1)}: "
        f"{result.status.replace('_', ' ')}"
    )
    if one.method == "linear":
        typer.echo(
            "NOT CORRECTED BY AC: linear DistFlow leaves losses out, and imports go too far; validate before use"
        )
    typer.echo(f"reactive power {one.reactive}")
    good = result.feasible
    rows = [
        _row(side, even, good)
        for side, even in (("export", result.export_equity), ("import", result.import_equity))
        if good.any()
    ]
    if rows:
        summary.table(("limits", "total [kW]", "least share", "Jain", "Gini", "at floor"), rows, right=(1, 2, 3, 4, 5))
    full = "nothing: the caps are reached" if count else "nothing: nobody has an envelope"
    binding = [
        (side, name or full, kind.replace("_", " "), str(many))
        for side in ("export", "import")
        for (name, kind), many in _counted(
            getattr(one, f"binding_{side}")[good], getattr(one, f"binding_{side}_kind")[good]
        )
    ]
    if binding:
        summary.table(("side", "limited by", "kind", "intervals"), binding, right=(3,))
    if one.method == "cone":
        _show_gaps(one)
    infeasible = one.status == "infeasible"
    for (name, kind), many in _counted(one.infeasible_by[infeasible], one.infeasible_kind[infeasible]):
        how = "the power flow has no solution" if name == "not_converged" else f"{kind.replace('_', ' ')} at {name}"
        typer.echo(
            f"infeasible {how} already at the floors, in {many} of {steps} intervals; the limits are the floors there"
        )
    if one.mode == "deterministic" and good.any():
        typer.echo(
            "only the two corners are promised; commonwatt network validate tries what lies between, --mode robust holds it"
        )


def _show_gaps(one: Envelope) -> None:
    """Say how far the cone programme is from a power flow, and what is refused for it."""
    import numpy as np

    from network.conic import GAP
    from sim.network_envelopes import refused_words

    for side, gap in (("export", one.gap_export), ("import", one.gap_import)):
        if not np.isnan(gap).all():
            typer.echo(f"cone gap  {side} {np.nanmax(gap):.1e}; a power flow up to {GAP:.0e}")
    refused = one.status == "refused"
    for (name, _), many in _counted(one.infeasible_by[refused], one.infeasible_kind[refused]):
        side = "import" if (one.gap_export[refused & (one.infeasible_by == name)] <= GAP).all() else "export"
        typer.echo(
            f"refused   {side}: {refused_words(name)}, in {many} of {len(refused)} intervals, and the limits are 0 "
            f"there; take method corrected{', or ask for imports alone: customers.export_cap_kw 0' * (side == 'export')}"
        )


def _row(side: str, even: Equity, good: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> tuple[str, ...]:
    """Return a line of figures: of one interval, or the mean over all that have an envelope."""
    import numpy as np

    return (
        side,
        summary.number(float(even.total_kw[good].mean())),
        *(
            "–" if np.isnan(x[good]).all() else f"{float(np.nanmean(x[good])):.3f}"
            for x in (even.least_share, even.jain, even.gini)
        ),
        f"{float(even.at_floor[good].mean()):g}",
    )


def _counted(names: np.ndarray, kinds: np.ndarray) -> list[tuple[tuple[str, str], int]]:
    """Return what occurs how often, the most frequent first, some of them."""
    counts: dict[tuple[str, str], int] = {}
    for pair in zip(names.tolist(), kinds.tolist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:ROWS]
