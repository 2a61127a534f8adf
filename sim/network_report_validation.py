"""The page about envelopes that were tried: verdict, what was tried, where it is worst, who is worst served."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.validation_measure import bounds_of
from network.validation_tally import EDGES, Tally
from sim import network_figures as draw
from sim.network_page import Picture, Section, TableOf
from sim.network_validate import NetworkValidation, case_words, number, shown, verdict, when_words

__all__ = ["page"]

Vector = NDArray[np.float64]

HEAD = ("Tried", "Uses", "Violations", "Share", "At most, 95 %", "Worst")
WORDS = {"safe": "Safe.", "unsafe": "Unsafe.", "unconfirmed": "Not confirmed.", "infeasible": "Infeasible."}


def page(result: NetworkValidation) -> tuple[dict[str, Any], list[Section]]:
    """Return the template's variables and the sections."""
    found, given = result.found, result.given
    active = np.flatnonzero(np.isfinite(given.import_limit_kw).all(axis=1))
    sections = [
        _tried(result),
        _where(result),
        *_ways(result),
        _who(result, active),
        *_when(result, active),
        _stress(result),
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
            f"Every limit of every use by AC power flow; {number(found.certificate.points)} of them again by power-grid-model, which agrees to {found.certificate.voltage_pu:.1e} pu. Seed {result.seed}, {number(result.samples)} draws.",
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
    if len(found.left_out):
        words += f" In {len(found.left_out)} interval(s) no envelope was feasible, and nothing is promised."
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
        (agrees, "Referee", f"{'agrees' if agrees else 'does not agree'} on {number(found.certificate.points)} uses")
    )
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
            "says": "" if worst is None else f"{worst.name.replace('_', ' ')}; at most {100 * worst.probability_at_most:.2g} %",
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


def _tried(result: NetworkValidation) -> Section:
    promised = [one for one in result.found.tallies if one.counts]
    broken = [one for one in promised if one.broken]
    corners = result.found.patterns
    if broken:
        names = ", ".join(one.name.replace("_", " ") for one in broken)
        answer = f"{len(broken)} of {len(promised)} ways of use break a limit: {names}."
    else:
        answer = f"None of {len(promised)} ways of use breaks a limit."
    answer += (
        f" Of 2^{corners.signs.shape[0]} corners, {corners.signs.shape[1]} are tried: patterns of signs that rows of "
        f"voltages ({corners.voltage_patterns}) or of loadings that could matter ({corners.flow_patterns}) have, and named ones."
    )
    table = TableOf("", HEAD, shown(promised), (1, 2, 3, 4), note="At most: upper bound of Clopper and Pearson for that way of use; of whole days, the chance of a day with a violation.")  # fmt: skip
    return Section(
        "tried", "What was tried?", "What was tried?", f"{number(result.found.tried)} uses", answer, (), (table,)
    )


def _where(result: NetworkValidation) -> Section:
    case = result.found.worst_case
    if case is None or not np.isfinite(case.injection).all() or not math.isfinite(case.beyond):
        words = (
            "There is no limit to be near."
            if case is None
            else f"When {when_words(case.use)}, the power flow has no solution."
        )
        return Section("where", "Where is it worst?", "Where is it worst?", "", words)
    given, model = result.given, result.given.model
    flow = model.solve(case.injection.real[:, None], case.injection.imag[:, None], case.source_v_pu)
    feeder, nodes = model.feeder, model.nodes
    lowest, highest, _ = bounds_of(model, given.limits)
    seen = np.flatnonzero((lowest[nodes.element] > 0) | (highest[nodes.element] < np.inf))
    v, bus = flow.v_pu[seen, 0], nodes.element[seen]
    distance = feeder.distance_m[bus]
    in_metres = bool(np.isfinite(distance).all())
    limits = (float(lowest.max(initial=0.0)), float(highest.min(initial=np.inf)))
    names, phases = [feeder.buses.ids[k] for k in bus], [nodes.phase[k] for k in seen]
    says = f"When {when_words(case.use)}: {case_words(case)}."
    keys = [
        (_SHAPES[one], _COLOURS[one], "all phases" if one == "abc" else f"phase {one}") for one in dict.fromkeys(phases)
    ]
    where = [*keys, ("", "limit-t", "outside limits"), ("dots", "limit", "limits")]
    profile = draw.profile(
        distance if in_metres else feeder.depth[bus].astype(float), v, phases, names, limits, in_metres
    )
    when = (
        f"interval {case.interval}, {str(given.times[case.interval])[:16].replace('T', ' ')} UTC"
        if len(given.times) > 1
        else ""
    )
    figures = [
        Picture(
            "profile",
            "Voltage along the wires at the worst use",
            when,
            f"Voltage of every node against its distance. {says}",
            profile,
            where,
        )
    ]
    x, y = feeder.buses.x, feeder.buses.y
    if np.isfinite(x[bus]).all() and np.isfinite(y[bus]).all():
        middle = (limits[0] + limits[1]) / 2.0 if np.isfinite(limits[1]) else 1.0
        worst = np.full(feeder.n_bus, np.nan)
        for value, k in zip(v, bus, strict=True):
            if math.isnan(worst[k]) or abs(value - middle) > abs(worst[k] - middle):
                worst[k] = value
        there = np.flatnonzero(~np.isnan(worst))
        place = {int(k): at for at, k in enumerate(there)}
        branches = feeder.branches
        ends = [
            (place[int(a)], place[int(b)])
            for a, b, on in zip(branches.from_bus, branches.to_bus, branches.in_service, strict=True)
            if on and int(a) in place and int(b) in place
        ]
        shown_map = draw.feeder_map(
            x[there], y[there], ends, worst[there], [feeder.buses.ids[k] for k in there], limits
        )
        tips = [
            ("", "v-low", "low"),
            ("", "v-mid", "middle"),
            ("", "v-high", "high"),
            ("", "v-under", "▼ below its limit"),
            ("", "v-over", "▲ above its limit"),
        ]
        figures.append(
            Picture(
                "map",
                "The feeder at the same moment",
                "the worst phase of each bus",
                f"Map of the feeder. {says}",
                shown_map,
                tips,
            )
        )
    return Section("where", "Where is it worst?", "Where is it worst?", case.element, says, figures)


_COLOURS = {"a": "v-low", "b": "v-high", "c": "retail", "abc": "ink"}
_SHAPES = {"a": "dot", "b": "diamond", "c": "square", "abc": "dot"}


def _ways(result: NetworkValidation) -> list[Section]:
    """Return how voltages are distributed by the way of use."""
    drawn = [
        one
        for one in result.found.tallies
        if one.kind in ("sampled", "dispatch") and one.tried and (one.high_count.any() or one.low_count.any())
    ]
    if not drawn:
        return []
    lowest, highest, _ = bounds_of(result.given.model, result.given.limits)
    limits = (float(lowest.max(initial=0.0)), float(highest.min(initial=np.inf)))
    counts = {one.name: (one.low_count, one.high_count) for one in drawn}
    worst = max(drawn, key=lambda one: one.probability)
    quiet = min(drawn, key=lambda one: one.probability)
    answer = (
        f"When {when_words(worst.name)}, {100 * worst.probability:.3g} % of the draws break a limit; when {when_words(quiet.name)}, "
        f"{100 * quiet.probability:.3g} %."
        if worst.broken
        else f"None of {number(sum(one.tried for one in drawn))} draws breaks a limit, in whatever way they are drawn."
    )
    keys = [
        ("", "v-low", "lowest voltage of a use"),
        ("", "v-high", "highest voltage of a use"),
        ("dots", "limit", "limits"),
    ]
    picture = Picture(
        "ridges",
        "How far voltages go",
        "share of the uses, by the way in which they are drawn",
        f"Distributions of the lowest and the highest voltage. {answer}",
        draw.ridges(counts, EDGES, limits),
        keys,
    )
    table = TableOf(
        "Durations and sizes",
        ("Way of use", "Mean excess of voltage, pu", "Mean overload, points", "Runs", "Longest, h"),
        [_durations(one, result.found.interval_h) for one in drawn],
        (1, 2, 3, 4),
        open=False,
    )
    return [
        Section(
            "ways",
            "Does it matter how people behave?",
            "How people behave",
            f"{len(drawn)} ways",
            answer,
            (picture,),
            (table,),
        )
    ]


def _durations(one: Tally, hours: float) -> tuple[str, ...]:
    mean = one.mean_excess
    volts = np.nanmax(mean[:2]) if np.isfinite(mean[:2]).any() else math.nan
    say = [f"{value:.3g}" if math.isfinite(value) else "–" for value in (volts, mean[2])]
    return (
        one.name.replace("_", " "),
        *say,
        str(one.runs) if one.draws else "–",
        f"{one.longest_run * hours:g}" if one.draws else "–",
    )


def _who(result: NetworkValidation, active: NDArray[np.intp]) -> Section:
    given, found = result.given, result.found
    if not active.size:
        return Section("who", "Who is worst served?", "Who is worst served?", "", "Nobody has an envelope.")
    names = [given.ids[k] for k in active]
    exports, imports = given.export_limit_kw[active].mean(axis=1), given.import_limit_kw[active].mean(axis=1)
    worst = result.who(found.equity_export.worst)
    unit = "of its cap" if given.export_cap_kw is not None else "kW"
    alike = np.ptp(exports) < 1e-9 and np.ptp(imports) < 1e-9
    answer = (
        f"All are served alike: {exports[0]:.2f} kW of export and {imports[0]:.2f} kW of import each."
        if alike
        else f"{worst} may export least, {found.equity_export.least:.3g} {unit}; the mean is {found.equity_export.mean:.3g}. Jain's index of exports is {found.equity_export.jain:.3g}, "
        f"Gini's coefficient {found.equity_export.gini:.3g}; of imports {found.equity_import.jain:.3g} and {found.equity_import.gini:.3g}."
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


def _stress(result: NetworkValidation) -> Section:
    stress = [one for one in result.found.tallies if not one.counts]
    if not stress:
        return Section(
            "stress", "What is not promised?", "What is not promised", "", "Nothing outside of the promise was tried."
        )
    holds, breaks = [one for one in stress if not one.broken], [one for one in stress if one.broken]
    answer = "Envelopes are promises about use, not about data and messages. "
    answer += f"They hold against {_list(holds)}. " if holds else "They hold against none of what follows. "
    answer += f"They do not hold against {_list(breaks)}." if breaks else ""
    return Section("stress", "What is not promised?", "What is not promised", f"{len(breaks)} of {len(stress)} break", answer, (), (TableOf("", HEAD[:4] + HEAD[5:], [row[:4] + row[5:] for row in shown(stress)], (1, 2, 3)),))  # fmt: skip


def _list(tallies: list[Tally]) -> str:
    names = [one.name for one in tallies]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
