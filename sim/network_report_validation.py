"""The page about envelopes that were tried: the verdict and its figures, what was tried, who is worst served, what is allowed when.

The sections about what was tried are :mod:`sim.network_report_tries`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim import network_figures as draw
from sim import network_report_tries as tries
from sim.network_page import Picture, Section, TableOf
from sim.network_validate import NetworkValidation, is_refused, label, left_out_words, number, other_words, verdict

__all__ = ["page"]

Vector = NDArray[np.float64]

WORDS = {"safe": "Safe.", "unsafe": "Unsafe.", "unconfirmed": "Not confirmed.", "infeasible": "Infeasible."}


def page(result: NetworkValidation) -> tuple[dict[str, Any], list[Section]]:
    """Return the template's variables and the sections."""
    found, given = result.found, result.given
    active = np.flatnonzero(np.isfinite(given.import_limit_kw).all(axis=1))
    sections = [
        tries.tried(result),
        tries.where(result),
        *tries.ways(result),
        _who(result, active),
        *_when(result, active),
        tries.stress(result),
    ]
    steps = len(given.times)
    word = WORDS[result.status]
    sentence = verdict(result)
    context = {
        "page_title": f"{word} {given.name} – commonwatt",
        "meta": [given.name, f"envelopes {given.origin}", f"{len(active)} of {len(given.ids)} customers", f"{steps} interval{'s' * (steps > 1)}"],
        "good": result.status == "safe",
        "verdict_word": word,
        "answer_word": word.rstrip("."),
        "headline": sentence.partition(";")[0][:1].upper() + sentence.partition(";")[0][1:] + ".",
        "lede": _lede(result, sentence),
        "ticks": _ticks(result),
        "tiles": _tiles(result, active),
        "footer": [
            f"Every limit of every use by AC power flow; {number(found.certificate.points)} of them again by {found.certificate.by}, which agrees to {found.certificate.voltage_pu:.1e} pu. {other_words(found)} Seed {result.seed}, {number(result.samples)} draws.",
            "Corners are exact for the linear power flow; draws prove nothing about what was not drawn. A bound holds for its way of use.",
        ],
    }  # fmt: skip
    return context, sections


def _lede(result: NetworkValidation, sentence: str) -> str:
    found = result.found
    rest = sentence.partition(";")[2].strip()
    words = rest[:1].upper() + rest[1:] + "." if rest else ""
    uniform = next((tally for tally in found.tallies if tally.name == "uniform" and tally.tried), None)
    if uniform is not None and not uniform.broken and found.status == "unsafe":
        words += f" Independent uniform draws alone, {number(uniform.tried)} of them, would have found nothing."
    refused = [when for when in found.left_out if is_refused(result.given, when)]
    if refused:
        words += f" In {len(refused)} interval(s) nothing is promised: {left_out_words(result.given, refused[0])}."
    if len(found.left_out) > len(refused):
        words += (
            f" In {len(found.left_out) - len(refused)} interval(s) no envelope was feasible, and nothing is promised."
        )
    return words


def _ticks(result: NetworkValidation) -> list[tuple[bool, str, str]]:
    def told(kind: str, name: str) -> tuple[bool, str, str] | None:
        some = [one for one in result.found.tallies if one.kind == kind]
        if not some:
            return None
        broken, tried = sum(one.broken for one in some), sum(one.tried for one in some)
        return not broken, name, f"{number(broken)} of {number(tried)} break a limit"

    found = result.found
    pairs = (("vertices", "Corners"), ("search", "Beside them"), ("sampled", "Draws"), ("dispatch", "Dispatch"))
    ticks = [one for kind, name in pairs if (one := told(kind, name)) is not None]
    agrees = found.certificate.agrees
    ticks.append(
        (
            agrees,
            "OpenDSS" if found.certificate.instead else "Referee",
            f"{'agrees' if agrees else 'does not agree'} on {number(found.certificate.points)} uses",
        )
    )
    third = found.opendss
    if third is not None and third.points:
        agrees = third.agrees
        ticks.append((agrees, "OpenDSS", f"{'agrees' if agrees else 'does not agree'} on {number(third.points)} uses"))
    return sorted(ticks, key=lambda one: one[0])


def _tiles(result: NetworkValidation, active: NDArray[np.intp]) -> list[dict[str, str]]:
    found, given = result.found, result.given
    case = found.worst_case
    excess = (
        "–"
        if case is None or not math.isfinite(case.beyond)
        else "< 1e-6"
        if abs(case.excess) < 1e-6
        else f"{abs(case.excess):.3g}"
    )
    unit = "" if case is None else "points" if case.kind == "overload" else "pu"
    worst = max(
        (one for one in found.tallies if one.kind == "sampled" and one.tried),
        key=lambda one: one.probability,
        default=None,
    )
    tiles = [
        {
            "label": "Beyond the worst limit" if case is not None and case.beyond > 0 else "Left at the worst limit",
            "value": excess, "unit": unit, "says": "" if case is None else f"{case.kind.replace('_', '-')} at {case.element}",
        },
        {
            "label": "Chance of a violation, worst way of use",
            "value": "–" if worst is None else f"{100 * worst.probability:.3g}", "unit": "%",
            "says": "" if worst is None else f"{label(worst.name)}; at most {100 * worst.probability_at_most:.2g} %",
        },
    ]  # fmt: skip
    for name, part, limit in (
        ("export", found.conservatism_export, given.export_limit_kw),
        ("import", found.conservatism_import, given.import_limit_kw),
    ):
        mean = float(limit[active].mean()) if active.size else math.nan
        says = (
            ""
            if math.isnan(part)
            else "no more would be safe"
            if abs(part) < 5e-5
            else f"{100 * abs(part):.1f} % {'more than is safe' if part < 0 else 'less than would be safe'}"
        )
        tiles.append({"label": f"Mean {name} limit", "value": f"{mean:.2f}", "unit": "kW", "says": says})
    return tiles


def _who(result: NetworkValidation, active: NDArray[np.intp]) -> Section:
    given = result.given
    if not active.size:
        return Section("who", "Who is worst served?", "Who is worst served?", "", "Nobody has an envelope.")
    names = [given.ids[k] for k in active]
    exports, imports = given.export_limit_kw[active].mean(axis=1), given.import_limit_kw[active].mean(axis=1)
    exported, imported = result.even("export"), result.even("import")
    worst = exported.worst
    of_cap = given.export_cap_kw is not None
    alike = np.ptp(exports) < 1e-9 and np.ptp(imports) < 1e-9
    answer = (
        f"All are served alike: {exports[0]:.2f} kW of export and {imports[0]:.2f} kW of import each."
        if alike
        else f"{worst} may export least, {_part(exported.least, of_cap=of_cap)}; the mean is {_part(exported.mean, of_cap=of_cap)}. Jain's index of exports is {exported.jain:.2f}, "
        f"Gini's coefficient {exported.gini:.2f}; of imports {imported.jain:.2f} and {imported.gini:.2f}."
    )
    picture = Picture(
        "customers",
        "Limits of every customer",
        "kW, mean over the intervals; export up, import down; the least first",
        f"Bars of all limits. {answer}",
        draw.customers(names, exports, imports),
        [("", "solar", "export"), ("", "retail", "import")],
    )
    order = np.argsort(exports + imports, kind="stable")
    rows = [(names[k], f"{exports[k]:.3f}", f"{imports[k]:.3f}") for k in order]
    shown_rows = rows if len(rows) <= 150 else [*rows[:75], *rows[-75:]]
    table = TableOf(
        "All limits",
        ("Customer", "Export, kW", "Import, kW"),
        shown_rows,
        (1, 2),
        open=False,
        note="" if len(rows) <= 150 else "The 75 worst and the 75 best served; result.json has all.",
    )
    costs = result.cost_of_robustness
    tables = [table]
    if not all(math.isnan(one) for one in costs):
        tables.insert(
            0,
            TableOf(
                "",
                ("Beside the two-corner envelope of today's practice", "Export", "Import"),
                [("given up for safety", f"{100 * costs[1]:.1f} %", f"{100 * costs[0]:.1f} %")],
                (1, 2),
            ),
        )
    return Section(
        "who",
        "Who is worst served?",
        "Who is worst served?",
        "all alike" if alike else worst,
        answer,
        (picture,),
        tables,
    )


def _part(value: float, *, of_cap: bool) -> str:
    return f"{100 * value:.3g} % of its cap" if of_cap else f"{value:.3g} kW"


def _when(result: NetworkValidation, active: NDArray[np.intp]) -> list[Section]:
    given, found = result.given, result.found
    steps = len(given.times)
    if steps < 2 or not active.size:
        return []
    broken = np.zeros(steps, dtype=np.intp)
    for one in found.tallies:
        if one.counts:
            broken[: len(one.by_interval)] += one.by_interval
    exports, imports = given.export_limit_kw[active].sum(axis=0), given.import_limit_kw[active].sum(axis=0)
    labels = [str(time)[5:16].replace("T", " ") for time in given.times]
    bad = int((broken > 0).sum())
    answer = (
        f"Limits are broken in {bad} of {steps} intervals."
        if bad
        else f"No limit is broken in any of {steps} intervals."
    )
    answer += f" All exports together are limited to {exports.min():.0f} to {exports.max():.0f} kW, imports to {imports.min():.0f} to {imports.max():.0f} kW."
    keys = [("", "solar", "export"), ("", "retail", "import"), *([("", "limit", "✕ a limit is broken")] if bad else [])]
    picture = Picture(
        "time",
        "All limits together, interval by interval",
        "kW; times in UTC",
        f"Areas over time. {answer}",
        draw.over_time(exports, imports, broken, labels),
        keys,
    )
    tables = []
    if given.compliance is not None:
        kept = given.compliance
        tables.append(
            TableOf(
                "Did the meters stay inside?",
                ("", "Before enforcement", "kWh beyond", "After", "kWh beyond"),
                [
                    (
                        name,
                        f"{100 * before.share:.2f} %",
                        f"{before.beyond_kwh:.1f}",
                        f"{100 * after.share:.2f} %",
                        f"{after.beyond_kwh:.1f}",
                    )
                    for name, before, after in (
                        ("import", kept.import_before, kept.import_after),
                        ("export", kept.export_before, kept.export_after),
                    )
                ],
                (1, 2, 3, 4),
                note="Share of meters and intervals outside of their envelope. Before: the same people without envelopes and without sharing.",
            )
        )
    return [Section("when", "What do the envelopes allow over time?", "Over time", f"{steps} intervals", answer, (picture,), tables)]  # fmt: skip
