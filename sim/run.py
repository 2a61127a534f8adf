"""One run: everything a scenario asks for, in one folder.

The community that shares is simulated here; the reference and the unmanaged network meanwhile in a second process, unless they are kept from
an earlier run (:mod:`sim.reference`). Then key figures, the conservation checks and the report are added, and the folder gets its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sim.results import Run, Writer, find

if TYPE_CHECKING:
    from sim.resolve import Resolved
    from sim.scenario import Scenario

__all__ = ["Progress", "RunError", "run"]

Progress = Callable[[int, int, datetime, str], None]
"""Told the intervals done, all intervals, the simulated moment, and what is being done."""


class RunError(RuntimeError):
    """A run came to a result that cannot be: money or energy is missing."""


def run(scenario: Scenario, out: Path | None = None, progress: Progress | None = None, *, force: bool = False) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    scenario
        As loaded.
    out
        The run's folder; by default ``runs/`` and the beginning of the content id. A finished run of the same content is used again.
    progress
        Called about once a simulated hour.
    force
        Replace another run that is in the folder.

    Returns
    -------
    The finished run.

    Raises
    ------
    ValueError
        Of the packages' own kinds, where the scenario or its data cannot be used.
    sim.results.ResultsError
        If the folder cannot be written.
    RunError
        If the books or the energies do not add up: a fault of this package, never of the scenario.
    """
    from sim.reference import started
    from sim.resolve import resolve
    from sim.scenario import dump

    resolved = resolve(scenario)
    path = Path("runs") / resolved.content_id[:12] if out is None else Path(out)
    finished = find(path, resolved.content_id)
    if finished is not None and not force:
        return finished
    with Writer(path, resolved.content_id, scenario_yaml=dump(scenario), force=force) as writer:
        for note in resolved.notes:
            writer.log("note", text=note)
        with started(scenario, resolved, spare=writer.folder / "spare") as reference:
            notes = _share(resolved, writer, progress)
            _tell(progress, resolved, "reference")
            began = perf_counter()
            folder, alone = reference()
            waited = perf_counter() - began
            for section in ("reference", "unmanaged"):
                writer.adopt(section, folder / section)
        for section in ("reference", "unmanaged"):
            writer.log(section, cached=alone["cached"], **alone[section])
        if "unkept" in alone:
            writer.log("note", text=alone["unkept"])
        writer.log("reference_waited_for", seconds=round(waited, 3))
        return _finish(resolved, writer, notes, alone, progress)


def _share(resolved: Resolved, writer: Writer, progress: Progress | None) -> dict[str, Any]:
    from sim.plays import clock_of, play_sharing

    clock = clock_of(resolved.scenario)

    def step(done: int) -> None:
        if progress is not None:
            progress(done, clock.steps, clock.moment(done), "simulating")

    writer.log("begin", intervals=clock.steps, homes=resolved.people.n)
    notes = play_sharing(resolved, writer, step)
    notes["network_words"] = _network_words(resolved)
    writer.log("sharing", **notes)
    return notes


def _network_words(resolved: Resolved) -> list[dict[str, Any]]:
    """Compare what each way of minding the grid costs on the first day, where the scenario asks for it."""
    asked = resolved.scenario.report.network_words
    if not (resolved.scenario.dso.network == "prices" if asked is None else asked):
        return []
    from sim.network_words import compared

    return compared(resolved)


def _tell(progress: Progress | None, resolved: Resolved, phase: str) -> None:
    if progress is not None:
        from sim.plays import clock_of

        clock = clock_of(resolved.scenario)
        progress(clock.steps, clock.steps, clock.moment(clock.steps), phase)


def _finish(
    resolved: Resolved, writer: Writer, notes: dict[str, Any], alone: Mapping[str, Any], progress: Progress | None
) -> Run:
    """Add key figures, checks and the report, and give the folder its name."""
    from sim import kpis, report

    scenario = resolved.scenario
    _tell(progress, resolved, "key figures")
    began = perf_counter()
    writer.seal()
    kpis.write(writer)
    figures = perf_counter() - began
    balance = notes["conservation"]
    if (
        balance.get("ledger_micro_eur", 0)
        or balance.get("ledger_milliwatt_hour", 0)
        or balance.get("exchange_milliwatt_hour", 0)
    ):
        raise RunError(f"the books do not balance: {balance}. Please report this with the scenario.")
    converged = not notes["not_converged"] and not notes["lost_power_flows"] and not notes["storage_bounds_left"]
    seconds = {**notes["seconds"], "key_figures": round(figures, 3)}

    def make_report(run: Run) -> None:
        _tell(progress, resolved, "report")
        at = perf_counter()
        report.write(run.path, plain=scenario.report.plain)
        writer.log("report", seconds=round(perf_counter() - at, 3))

    return writer.finish(
        {
            "outcome": "ok" if converged else "not_converged",
            "name": scenario.name,
            "seed": scenario.seed,
            "interval_minutes": scenario.time.interval_minutes,
            "time_zone": scenario.time.time_zone,
            "currency": scenario.currency,
            "homes": resolved.people.n,
            "days": scenario.time.days,
            "conservation": balance,
            "violations": notes["violations"],
            "not_converged": notes["not_converged"],
            "lost_power_flows": notes["lost_power_flows"],
            "storage_bounds_left": notes["storage_bounds_left"],
            "ev_kwh_missing_at_departure": notes["ev_kwh_missing_at_departure"],
            "messages": notes["messages"],
            "seconds": seconds,
            "reference": {"cached": alone["cached"], "violations": alone["reference"]["violations"]},
            "unmanaged": {"violations": alone["unmanaged"]["violations"]},
            "data": resolved.provenance,
            "licences": resolved.licences,
            "network_words": notes["network_words"],
        },
        before_rename=make_report,
    )
