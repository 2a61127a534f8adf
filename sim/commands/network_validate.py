"""``commonwatt network validate``: everything that can be done inside envelopes, tried."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands import endings, progress, summary
from sim.commands.network_options import AsJson, FeederArgument, OutFolder, Quiet, Seed, Sets, check_folder, give_page

if TYPE_CHECKING:
    from sim.network_validate import NetworkValidation
    from sim.network_validate_given import Given

__all__ = ["validate"]

CODES = {
    "safe": endings.DONE,
    "unsafe": endings.FAILED,
    "unconfirmed": endings.FAILED,
    "infeasible": endings.INFEASIBLE,
}


def validate(
    feeder: FeederArgument,
    samples: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Uses to be drawn, instead of the case's number.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
    out: OutFolder = None,
    quiet: Quiet = False,
) -> None:
    """Try everything that can be done inside envelopes, of a case or of a run's folder, and say what breaks."""
    from sim import network_validate

    given = _given(feeder, sets, seed)
    check_folder(out)
    with progress.steps(quiet=quiet or as_json) as tell:
        result = network_validate.validate(given, samples, tell)
    give_page(result, lambda: _show(result), as_json=as_json, out=out, quiet=quiet, code=CODES[result.status])


def _given(feeder: str, sets: list[str] | None, seed: int | None) -> Given:
    from sim import network_validate_given
    from sim.folder import is_run
    from sim.network_case import NetworkCase, load
    from sim.network_case_prepared import prepared

    if is_run(Path(feeder)):
        if sets:
            raise endings.CommandError(
                "--set changes a case, and a run is what it is; give --samples and --seed alone."
            )
        return network_validate_given.of_run(Path(feeder), NetworkCase(name="run", seed=seed or 0))
    return network_validate_given.of_case(prepared(load(feeder, tuple(sets or ()), seed)))


def _show(result: NetworkValidation) -> None:
    from sim.network_validate import shown, verdict

    found, given = result.found, result.given
    typer.echo(f"{result.status.upper()}  {given.name}: {verdict(result)}.")
    active, steps = int((given.import_limit_kw < float("inf")).all(axis=1).sum()), len(given.times)
    typer.echo(
        f"envelopes {given.origin}; {active} of {len(given.ids)} customers, {steps} interval{'s' * (steps > 1)}, "
        f"{found.patterns.signs.shape[1]} corners"
    )
    head, right = ("tried", "uses", "violations", "share", "at most (95 %)", "worst"), (1, 2, 3, 4)
    summary.table(head, shown([tally for tally in found.tallies if tally.counts]), right=right)
    stress = [tally for tally in found.tallies if not tally.counts]
    if stress:
        typer.echo("outside of the promise")
        summary.table(head, shown(stress), right=right)
    for line in lines(result):
        typer.echo(line)


def lines(result: NetworkValidation) -> list[str]:
    """Return the figures below the tables."""
    from sim.network_validate import is_refused, left_out_words, opendss_words

    found, given, say = result.found, result.given, summary.number
    told = [
        f"{'refused   ' if is_refused(given, when) else 'infeasible '}interval {when}: {left_out_words(given, when)}"
        for when in found.left_out[:5]
    ]
    if len(found.left_out) > 5:
        told.append(f"infeasible {len(found.left_out) - 5} more intervals; --json has them all")
    cost = result.cost_of_robustness
    told += [
        f"{name}    {'promises' if part < 0 else 'gives away'} {say(100 * abs(part))} % {'more than' if part < 0 else 'of'} what these "
        f"envelopes could be if all grew alike"
        for name, part in (("export", found.conservatism_export), ("import", found.conservatism_import))
        if not math.isnan(part)
    ]
    if not all(math.isnan(one) for one in cost):
        dearer = [
            f"{say(-100 * part)} % more {side}" for side, part in (("import", cost[0]), ("export", cost[1])) if part < 0
        ]
        told.append(
            f"robust    no: {' and '.join(dearer)} than the two-corner envelope of the same rule"
            if dearer
            else f"robust    costs {say(100 * cost[1])} % of the export and {say(100 * cost[0])} % of the import of the two-corner envelope of "
            "the same rule"
        )
    for name, cap in (("export", given.export_cap_kw), ("import", given.import_cap_kw)):
        one = result.even(name)
        unit = "of its cap" if cap is not None else "kW"
        told.append(
            f"{name}    Jain {say(one.jain)}, Gini {say(one.gini)}; least {say(one.least)} {unit} at {one.worst or '–'}, "
            f"mean {say(one.mean)}"
        )
    if found.unbalance_bus:
        told.append(f"unbalance {found.unbalance_percent:.3g} % at bus {found.unbalance_bus}")
    if given.compliance is not None:
        kept = given.compliance
        for name, before, after in (
            ("import", kept.import_before, kept.import_after),
            ("export", kept.export_before, kept.export_after),
        ):
            told.append(
                f"kept      {name}: outside in {say(100 * before.share)} % of meters and intervals before enforcement "
                f"({say(before.beyond_kwh)} kWh), {say(100 * after.share)} % after ({say(after.beyond_kwh)} kWh)"
            )
    referee = found.certificate
    told.append(
        f"referee   power-grid-model {'agrees' if referee.agrees else 'DISAGREES'} on {referee.points} uses: voltages to "
        f"{referee.voltage_pu:.2g} pu, loadings to {referee.loading_percent:.2g} %"
        + (f"; {referee.disagreeing} have no solution on one side" if referee.disagreeing else "")
    )
    if found.opendss is not None:
        told.append(f"referee   {opendss_words(found).rstrip('.')}")
    return told
