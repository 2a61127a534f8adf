"""Why to believe a report: checks with their tolerances, how the market was found, every key figure with its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim import sentences as say
from sim.kpis import FIGURES
from sim.number_format import DASH, money, number, price
from sim.report_data import Check, Story

__all__ = ["trust_section"]


def trust_section(story: Story) -> dict[str, Any]:
    """Return verdict, checks and key figures."""
    held = story.clearings
    iterations = held.iterations
    answer = say.convergence(
        len(held.clearing_id),
        int((~held.converged).sum()),
        float(np.median(iterations)) if iterations.size else math.nan,
        int(iterations.max()) if iterations.size else 0,
        held.worst_above_bound,
        story.currency,
    )
    failed = [check for check in story.checks if not check.ok]
    verdict = (say.Span("Every check passed. ", "b"),)
    if failed:
        verdict = (
            say.Span(
                f"{number(len(failed))} of {number(len(story.checks))} checks failed: {failed[0].name.lower()}. ", "bad"
            ),
        )
    return {
        "answer": (*verdict, *answer),
        "has_clearings": bool(held.clearing_id),
        "checks": [_check_row(check) for check in story.checks],
        "figures": _figure_rows(story),
    }


def _check_row(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "worst": _scientific(check.worst, check.unit),
        "tolerance": _scientific(check.tolerance, check.unit) if math.isfinite(check.tolerance) else DASH,
        "result": ("told" if math.isnan(check.tolerance) else "passed") if check.ok else "failed",
        "ok": check.ok,
    }


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _scientific(value: float, unit: str) -> str:
    """Return ``3 × 10⁻¹⁰ kW`` for what is small, a plain number otherwise."""
    if not math.isfinite(value):
        return DASH
    if value == 0 or value >= 0.01:
        text = number(value, 0 if value == int(value) else 2)
    else:
        power_of_ten = math.floor(math.log10(value))
        digit = round(value / 10.0**power_of_ten)
        if digit == 10:
            digit, power_of_ten = 1, power_of_ten + 1
        exponent = str(power_of_ten).translate(_SUPERSCRIPT)
        text = f"10{exponent}" if digit == 1 else f"{digit} × 10{exponent}"
    return f"{text}\u00a0{unit}" if unit else text


def _figure_rows(story: Story) -> list[dict[str, str]]:
    known = {figure.name: figure for figure in FIGURES}
    names = [name for name in known if name in story.figures] + sorted(set(story.figures) - set(known))
    rows = []
    for name in names:
        figure = story.figures[name]
        change = figure.value - figure.reference
        is_share = "cycles" not in name
        rows.append({
            "name": _figure_name(name),
            "says": known[name].says if name in known else "",
            "boundary": figure.boundary,
            "value": _figure_value(figure.value, figure.unit, story.currency, is_share=is_share),
            "reference": _figure_value(figure.reference, figure.unit, story.currency, is_share=is_share),
            "change": _figure_value(change, figure.unit, story.currency, signed=True, difference=True, is_share=is_share),
        })  # fmt: skip
    return rows


def _figure_name(name: str) -> str:
    for ending in ("_eur_per_kwh", "_percent", "_kwh", "_eur", "_kw", "_pu"):
        name = name.removesuffix(ending)
    words = (
        name.replace("_", " ")
        .replace("ess ", "shared storage ")
        .replace("v max", "highest voltage")
        .replace("v min", "lowest voltage")
    )
    return words[:1].upper() + words[1:]


def _figure_value(
    value: float, unit: str, currency: str, *, signed: bool = False, difference: bool = False, is_share: bool = False
) -> str:
    """Return a key figure in the form of its unit."""
    if not math.isfinite(value):
        return DASH
    if unit == "eur":
        return money(value, currency, signed=signed)
    if unit == "eur/kWh":
        return ("+" if signed and value > 0 else "") + price(value, currency)
    if unit == "1" and is_share:
        return f"{number(100 * value, 1, signed=signed)}\u00a0{'points' if difference else '%'}"
    if unit == "1":
        return number(value, 2, signed=signed)
    if unit == "pu":
        return f"{number(value, 4, signed=signed)}\u00a0pu"
    digits = 1 if unit in {"%", "kW", "kWh"} else 0
    text = number(value, digits, signed=signed)
    named = "points" if unit == "%" and difference else unit
    return f"{text}\u00a0{named}"
