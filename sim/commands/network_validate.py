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

EXACT = 5e-5
"""Of a share: nearer to 0, an envelope is as large as is safe."""

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
    head, right = ("tried", "uses", "violations", "share", "chance at most (95 %)", "worst"), (1, 2, 3, 4)
    summary.table(head, shown([tally for tally in found.tallies if tally.counts]), right=right)
    stress = [tally for tally in found.tallies if not tally.counts]
    if stress:
        typer.echo("outside of the promise: other data than assumed, and messages that go wrong")
        summary.table(head, shown(stress), right=right)
    for line in lines(result):
        typer.echo(line)


def lines(result: NetworkValidation) -> list[str]:
    """Return the figures below the tables."""
    from sim.network_validate import is_refused, left_out_words, other_words

    found, given = result.found, result.given
    told = [
        f"{'refused' if is_refused(given, when) else 'infeasible':<12} interval {when}: {left_out_words(given, when)}"
        for when in found.left_out[:5]
    ]
    if len(found.left_out) > 5:
        told.append(f"infeasible   {len(found.left_out) - 5} more intervals; --json has them all")
    told += [*_lasting(result), *_worth(result), *_equity(result)]
    if found.unbalance_bus:
        told.append(
            f"unbalance    {found.unbalance_percent:.3g} % of negative over positive sequence at most, at bus {found.unbalance_bus}"
        )
    if given.compliance is not None:
        kept = given.compliance
        told += [
            f"compliance   {name}: outside of the envelope in {100 * before.share:.3g} % of meters and intervals before enforcement "
            f"({before.beyond_kwh:.4g} kWh), in {100 * after.share:.2g} % after ({after.beyond_kwh:.2g} kWh)"
            for name, before, after in (
                ("import", kept.import_before, kept.import_after),
                ("export", kept.export_before, kept.export_after),
            )
        ]
    referee = found.certificate
    loadings = f", loadings to {referee.loading_percent:.1g} points" if referee.loading_percent else ""
    told.append(
        f"referee      {referee.by} {'agrees' if referee.agrees else 'DISAGREES'} on {referee.points} uses: voltages to "
        f"{referee.voltage_pu:.1g} pu{loadings}"
        + (f"; {referee.disagreeing} have no solution on one side" if referee.disagreeing else "")
    )
    if other := other_words(found):
        told.append(f"referee      {other.rstrip('.')}")
    return told


def _lasting(result: NetworkValidation) -> list[str]:
    """Return how long violations last, where a way of use has a course in time."""
    found = result.found
    courses = [one for one in found.tallies if one.counts and one.runs]
    longest = max(courses, key=lambda one: one.longest_run, default=None)
    if longest is None or len(result.given.times) < 2:
        return []
    from sim.network_validate import label

    mean = longest.run_intervals / longest.runs * found.interval_h
    return [
        f"duration     violations last up to {longest.longest_run * found.interval_h:g} h, {mean:.3g} h in the mean ({label(longest.name)})"
    ]


def _worth(result: NetworkValidation) -> list[str]:
    """Return what envelopes give away: against all they could be, and against the two-corner envelope."""
    found = result.found
    told = []
    for name, part in (("export", found.conservatism_export), ("import", found.conservatism_import)):
        if math.isnan(part):
            continue
        size = f"{100 * abs(part):.3g} %"
        words = (
            "as large as is safe"
            if abs(part) < EXACT
            else f"promises {size} more than is safe"
            if part < 0
            else f"{size} less than would be safe"
        )
        told.append(f"conservatism {name}: {words}, were all envelopes to grow alike (AC-exact, same rule)")
    cost = {"export": result.cost_of_robustness[1], "import": result.cost_of_robustness[0]}
    said = [
        f"{100 * abs(part):.3g} % {'more' if part < 0 else 'less'} {name}"
        for name, part in cost.items()
        if not math.isnan(part)
    ]
    if said:
        told.append(f"robustness   {' and '.join(said)} than the two-corner envelope of the same rule")
    return told


def _equity(result: NetworkValidation) -> list[str]:
    told = []
    for name, cap in (("export", result.given.export_cap_kw), ("import", result.given.import_cap_kw)):
        one = result.even(name)
        least, mean = (
            (f"{100 * one.least:.3g} % of its cap", f"{100 * one.mean:.3g} %")
            if cap is not None
            else (f"{one.least:.3g} kW", f"{one.mean:.3g} kW")
        )
        told.append(
            f"equity       {name}: Jain {one.jain:.2f}, Gini {one.gini:.2f}; least {least} at {one.worst or '–'}, mean {mean}"
        )
    return told
