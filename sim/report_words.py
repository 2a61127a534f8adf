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
            ("dso.network", "Cost", "More than none", "People", "Losses", "Rent", "Curtailed", "Outside", "Broken"),
            [_row(row, currency) for row in rows],
            (1, 2, 3, 4, 5, 6, 7, 8),
            note="The first delivery day, cleared day ahead three times with the same forecasts; plans, by AC power flow. Cost: what the "
            "people pay to the outside, wear, and the network's losses. Rent: for losses and congestion, "
            "from people to the grid's operator; in no cost. Outside: load that nobody controls and that is served although it leaves its envelope. Broken: "
            "voltages and loadings beyond the grid's limits, elements times intervals, by how much at most.",
        ),
    }  # fmt: skip


def _answer(by: dict[str, dict[str, Any]], currency: str) -> tuple[say.Span, ...]:
    free, limits, prices = (by.get(word, {}) for word in ("none", "envelopes", "prices"))
    if any(row.get("cost_eur") is None for row in (free, limits, prices)):
        missing = ", ".join(word for word, row in by.items() if row.get("cost_eur") is None)
        return (say.Span("No comparison: ", "bad"), say.Span(f"no plan exists with {missing}.", ""))
    many = free["broken"]
    broken = f"{number(many) if many else 'no'} limit{'s' if many != 1 else ''} of the grid"
    return (
        say.Span(
            f"On the first day envelopes cost {_more(limits, currency)} and prices {_more(prices, currency)}", "b"
        ),
        say.Span(f" than nobody minding the grid, which would break {broken}.", ""),
    )


def _more(row: dict[str, Any], currency: str) -> str:
    return f"{money(abs(row['lost_eur']), currency)} {'less' if row['lost_eur'] < 0 else 'more'}"


def _row(row: dict[str, Any], currency: str) -> tuple[str, ...]:
    name = f"{row['network']}: {_MEANING.get(row['network'], '')}"
    if row.get("cost_eur") is None:
        return (name, *(DASH,) * 8)
    eur = [money(row[key], currency) for key in ("cost_eur", "lost_eur", "people_eur", "loss_eur", "rent_eur")]
    broken = number(row["broken"])
    if row["broken"]:
        broken += f", {percent(row['worst_percent'])}"
    outside = row.get("outside_kwh")  # a run of an earlier version does not say
    return (name, *eur, energy(row["curtailed_kwh"]), DASH if outside is None else energy(outside), broken)
