"""What none, envelopes and prices cost on the same day: the table of :mod:`sim.network_words`, ready for the template."""

from __future__ import annotations

from typing import Any

from sim import sentences as say
from sim.number_format import DASH, energy, money, number, percent
from sim.report_sections import Table
from sim.report_tables import RunTables

__all__ = ["words_section"]

_MEANING = {"none": "nobody minds the grid", "envelopes": "published limits", "prices": "the feeder at the table"}


def words_section(tables: RunTables, currency: str) -> dict[str, Any] | None:
    """Return sentence and table; None where the run did not compare."""
    rows = tables.manifest.get("network_words") or []
    if not rows:
        return None
    by = {row["network"]: row for row in rows}
    return {
        "answer": _answer(by, currency),
        "table": Table(
            ("dso.network", "Cost of the day", "More than none", "People", "Losses", "Rent to the operator", "Curtailed", "Limits broken"),
            [_row(row, currency) for row in rows],
            (1, 2, 3, 4, 5, 6, 7),
            note="The first delivery day, cleared day ahead three times with the same forecasts; plans, by AC power flow. Cost: what the "
            "people pay to the outside, wear and penalties, and the network's losses. The rent passes from people to the operator and is "
            "in no cost. Limits broken: elements times intervals, by how much at most.",
        ),
    }  # fmt: skip


def _answer(by: dict[str, dict[str, Any]], currency: str) -> tuple[say.Span, ...]:
    free, limits, prices = (by.get(word, {}) for word in ("none", "envelopes", "prices"))
    if any(row.get("cost_eur") is None for row in (free, limits, prices)):
        missing = ", ".join(word for word, row in by.items() if row.get("cost_eur") is None)
        return (say.Span("No comparison: ", "bad"), say.Span(f"no plan exists with {missing}.", ""))
    lost = limits["lost_eur"], prices["lost_eur"]
    broken = number(free["broken"])
    return (
        say.Span(f"On the first day limits cost {money(lost[0], currency)} by envelopes and {money(lost[1], currency)} by prices", "b"),
        say.Span(f"; with neither, {broken} limit{'s' if free['broken'] != 1 else ''} would be broken.", ""),
    )  # fmt: skip


def _row(row: dict[str, Any], currency: str) -> tuple[str, ...]:
    name = f"{row['network']}: {_MEANING.get(row['network'], '')}"
    if row.get("cost_eur") is None:
        return (name, *(DASH,) * 7)
    eur = [money(row[key], currency) for key in ("cost_eur", "lost_eur", "people_eur", "loss_eur", "rent_eur")]
    broken = number(row["broken"])
    if row["broken"]:
        broken += f", {percent(row['worst_percent'])}"
    return (name, *eur, energy(row["curtailed_kwh"]), broken)
