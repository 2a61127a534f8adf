"""``commonwatt network flow``: one AC power flow for each operating point of a case."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from sim.commands import endings, summary
from sim.commands.network_options import AsJson, FeederArgument, Out, Quiet, Seed, Sets, give, read

if TYPE_CHECKING:
    from network.feeder import Feeder
    from sim.network_flow import NetworkFlow, Violation

__all__ = ["flow", "regulator_lines", "violation_lines"]

ROWS = 12
"""Violations and branches on the terminal; --json has them all."""


def flow(
    feeder: FeederArgument,
    referee: Annotated[
        bool,
        typer.Option(
            "--referee",
            help="Calculate it with power-grid-model too (OpenDSS where it does not know the feeder), and tell the differences.",
        ),
    ] = False,
    sets: Sets = None,
    seed: Seed = None,
    as_json: AsJson = False,
    out: Out = None,
    quiet: Quiet = False,
) -> None:
    """Calculate the AC power flow of the operating points: voltages, loadings, losses, and what breaks a limit."""
    from sim import network_flow

    result = network_flow.flow(read(feeder, sets, seed, out), referee=referee)
    code = endings.DONE if result.status == "ok" else endings.FAILED
    give(result.as_dict(), lambda: _show(result), as_json=as_json, out=out, quiet=quiet, code=code)


def _show(result: NetworkFlow) -> None:
    ready, found = result.prepared, result.flow
    steps, feeder = len(ready.times), ready.feeder
    many = f", {steps} intervals" if steps > 1 else ""
    typer.echo(
        f"{ready.case.name}: {feeder.n_bus} buses, {len(ready.ids)} customer{'s' * (len(ready.ids) != 1)}, "
        f"{'three phases' if ready.model.three_phase else 'balanced'}{many}: {result.status.replace('_', ' ')}"
    )
    if not found.converged.all():
        typer.echo(f"converged {int(found.converged.sum())} of {steps} operating points")
    voltages = list(_voltages(result))
    if voltages:
        summary.table(("voltages", "lowest [p.u.]", "at bus", "highest [p.u.]", "at bus"), voltages, right=(1, 3))
    loaded = _loaded(result)
    if loaded:
        summary.table(("most loaded", "phase", "loading [%]"), loaded, right=(2,))
    load, loss = -ready.base_injection_kw.sum(axis=0), found.loss_kw.sum(axis=0)
    for title, powers, unit in (
        ("load", load, "kW"),
        ("source", found.source_kw, "kW"),
        ("source", found.source_kvar, "kvar"),
        ("losses", loss, "kW"),
    ):
        typer.echo(f"{title:<9} {_span(powers.tolist(), unit)}")
    if others := _others(result):
        typer.echo(f"besides   {_span((found.source_kw - load - loss).tolist(), 'kW')} into {others}")
    for line in (*regulator_lines(ready.feeder), *violation_lines(result.violations)):
        typer.echo(line)
    if result.referee is not None:
        one = result.referee
        typer.echo(
            f"referee   {one.by} {'agrees' if one.agrees else 'DISAGREES'}: voltages to {one.voltage_pu:.2g} pu, losses of a "
            f"branch to {one.loss_kw:.2g} kW, loadings to {one.loading_percent:.2g} %, source to {one.source_kw:.2g} kW"
        )
        if one.not_asked:
            typer.echo(f"referee   {one.not_asked}")


def _voltages(result: NetworkFlow) -> Iterator[Sequence[str]]:
    import numpy as np

    ready = result.prepared
    nodes, ids = ready.model.nodes, ready.feeder.buses.ids
    converged = result.flow.v_pu[:, result.flow.converged]
    for phase in dict.fromkeys(nodes.phase):
        rows = np.array([k for k, one in enumerate(nodes.phase) if one == phase], dtype=np.intp)
        v = converged[rows]
        if not v.size:
            continue
        low, high = (rows[np.unravel_index(place, v.shape)[0]] for place in (v.argmin(), v.argmax()))
        yield (
            "all phases" if phase == "abc" else f"phase {phase}",
            f"{v.min():.5f}",
            ids[nodes.element[low]],
            f"{v.max():.5f}",
            ids[nodes.element[high]],
        )


def _others(result: NetworkFlow) -> str:
    """Name what draws power and is no customer's: loads that follow the voltage or lie between phases, and shunts."""
    held, shunts = result.prepared.model.held, len(result.prepared.feeder.buses.shunted)
    parts = [f"{len(held)} loads of constant current or between phases"] if held is not None else []
    parts += [f"shunts at {shunts} bus{'es' * (shunts > 1)}"] if shunts else []
    return " and ".join(parts)


def regulator_lines(feeder: Feeder) -> Iterator[str]:
    """Yield where regulators are held, a line each: transformers in service between buses of one nominal voltage, with their turns.

    Limits: of a transformer that changes the voltage level, ``provenance`` (``--json``) alone tells the tap.
    """
    import numpy as np

    branches, nominal = feeder.branches, feeder.buses.v_nominal_v
    alike = nominal[branches.from_bus] == nominal[branches.to_bus]
    for k in np.flatnonzero(~branches.is_line & branches.in_service & alike):
        step = float(np.nan_to_num(branches.tap_position[k] * branches.tap_step_percent[k])) / 100.0
        tap = {"from": 1.0 / (1.0 + step), "to": 1.0 + step}.get(branches.tap_side[k], 1.0)
        turns = branches.v_to_v[k] / branches.v_from_v[k] * tap
        held = (
            ", ".join(
                f"{phase} {turns * branches.turns_abc[k, 'abc'.index(phase)]:.6g}" for phase in branches.phases[k]
            )
            if branches.is_bank[k]
            else f"{turns:.6g}"
        )
        yield f"regulator {branches.ids[k]}: tap held at {held}"


def _loaded(result: NetworkFlow) -> list[Sequence[str]]:
    import numpy as np

    wires, ids = result.prepared.model.wires, result.prepared.feeder.branches.ids
    converged = result.flow.loading_percent[:, result.flow.converged]
    most = np.nan_to_num(converged, nan=0.0).max(axis=1, initial=0.0)
    first = np.argsort(-most, kind="stable")[:3]
    return [(ids[wires.element[k]], wires.phase[k], f"{most[k]:.1f}") for k in first if most[k] > 0]


def _span(powers: Sequence[float], unit: str) -> str:
    """Write one power, or the least and the most of several.

    >>> _span([1.0], "kW"), _span([1.0, 3.0, float("nan")], "kW")
    ('1 kW', '1 to 3 kW')
    """
    there = [one for one in powers if not math.isnan(one)]
    if not there:
        return "–"
    least, most = summary.number(min(there)), summary.number(max(there))
    return f"{least} {unit}" if least == most else f"{least} to {most} {unit}"


def violation_lines(violations: Sequence[Violation]) -> Iterator[str]:
    """Yield what breaks a limit, a line each, the first dozen."""
    unit = {"over_voltage": "p.u.", "under_voltage": "p.u.", "overload": "%"}
    for one in violations[:ROWS]:
        what = one.kind.replace("_", " ")
        where = one.element if one.phase == "abc" else f"{one.element}, phase {one.phase}"
        often = (
            f" in {one.intervals} intervals, worst {one.worst_interval}"
            if one.intervals > 1
            else f" in interval {one.worst_interval}"
        )
        if one.kind == "not_converged":
            yield f"breach    the power flow does not converge{often.replace(', worst', ', first')}"
        else:
            digits = 5 if unit[one.kind] == "p.u." else 2
            yield f"breach    {what} at {where}: {one.value:.{digits}f} {unit[one.kind]}, limit {one.limit:g}{often}"
    if len(violations) > ROWS:
        yield f"breach    {len(violations) - ROWS} more; --json has them all"
