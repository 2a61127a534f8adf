"""The part of the page about what was tried against envelopes: which uses break a limit, where it is worst, and how people behave."""

from __future__ import annotations

import math

import numpy as np

from network.headroom import Headroom
from network.validation_tally import EDGES, Tally
from sim import network_figures as draw
from sim.network_page import Picture, Section, TableOf
from sim.network_validate import NetworkValidation, case_words, label, number, shown, when_words

__all__ = ["stress", "tried", "ways", "where"]

HEAD = ("Tried", "Uses", "Violations", "Share", "Chance at most", "Worst")


def tried(result: NetworkValidation) -> Section:
    """Return how much was tried, and what broke."""
    promised = [one for one in result.found.tallies if one.counts]
    broken = [one for one in promised if one.broken]
    corners = result.found.patterns
    if broken:
        names = ", ".join(label(one.name) for one in broken)
        answer = f"{len(broken)} of {len(promised)} ways of use break a limit: {names}."
    else:
        answer = f"None of {len(promised)} ways of use breaks a limit."
    answer += (
        f" At a corner everybody feeds in or draws all it may. Of 2^{corners.signs.shape[0]} corners, {corners.signs.shape[1]} are "
        f"tried, those that can be worst for a voltage or a loading: {corners.voltage_patterns} patterns of voltages, "
        f"{corners.flow_patterns} of loadings, and what people would try."
    )
    table = TableOf("", HEAD, shown(promised), (1, 2, 3, 4), note="Chance at most: the chance of a violation under that way of use is below this with 95 % confidence (Clopper and Pearson); of whole days, the chance of a day with a violation.")  # fmt: skip
    return Section(
        "tried", "What was tried?", "What was tried?", f"{number(result.found.tried)} uses", answer, (), (table,)
    )


def where(result: NetworkValidation) -> Section:
    """Return the worst use: voltages along the wires, and on the map."""
    case = result.found.worst_case
    if case is None or not np.isfinite(case.injection).all() or not math.isfinite(case.beyond):
        words = (
            "There is no limit to be near."
            if case is None
            else f"When {when_words(case.use)}, the power flow has no solution."
        )
        return Section("where", "Where is it worst?", "Where is it worst?", "", words)
    given = result.given
    headroom = Headroom(given.model, *result.found.bounds, given.curve).with_impedance(case.impedance)
    model = headroom.model
    flow = model.solve(
        case.injection.real[:, None], case.injection.imag[:, None], case.source_v_pu, curve=headroom.curve
    )
    feeder, nodes = model.feeder, model.nodes
    lowest, highest, _ = result.found.bounds
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
    legend = [*keys, ("", "limit-t", "outside limits"), ("dots", "limit", "limits")]
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
            legend,
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


def ways(result: NetworkValidation) -> list[Section]:
    """Return how voltages are distributed by the way of use."""
    drawn = [
        one
        for one in result.found.tallies
        if one.kind in ("sampled", "dispatch") and one.tried and (one.high_count.any() or one.low_count.any())
    ]
    if not drawn:
        return []
    lowest, highest, _ = result.found.bounds
    limits = (float(lowest.max(initial=0.0)), float(highest.min(initial=np.inf)))
    counts = {label(one.name).removeprefix("drawn "): (one.low_count, one.high_count) for one in drawn}
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
    hours = result.found.interval_h
    lasting = [*drawn, *(one for one in result.found.tallies if one.kind == "vertices" and one.tried)]
    sizes = TableOf(
        "Durations and sizes",
        ("Way of use", "Mean excess of voltage, pu", "Mean overload, points", "Runs", "Longest, h"),
        [_durations(one, hours) for one in lasting],
        (1, 2, 3, 4),
        open=False,
    )
    over = TableOf(
        "Durations and sizes: over a limit, over time",
        ("Way of use", "Over-voltage, pu·h", "Under-voltage, pu·h", "Overload, kVAh"),
        [_over_time(one, hours) for one in lasting if one.draws],
        (1, 2, 3),
        open=False,
        note="Of whole days the mean of a day, and the worst one; of a run all of it; of corners the worst, were it held all the time. In every "
        "interval the element counts that is furthest beyond its limit; – where a power flow has no solution.",
    )
    return [
        Section(
            "ways",
            "Does it matter how people behave?",
            "How people behave",
            f"{len(drawn)} ways",
            answer,
            (picture,),
            (sizes, over),
        )
    ]


def _durations(one: Tally, hours: float) -> tuple[str, ...]:
    mean = one.mean_excess
    volts = np.nanmax(mean[:2]) if np.isfinite(mean[:2]).any() else math.nan
    return (
        label(one.name),
        _said(float(volts)),
        _said(float(mean[2])),
        str(one.runs) if one.draws else "–",
        f"{one.longest_run * hours:g}" if one.draws else "–",
    )


def _over_time(one: Tally, hours: float) -> tuple[str, ...]:
    pairs = [(float(usual), float(most)) for usual, most in zip(*one.over(hours), strict=True)]
    return (label(one.name), *(_over(*pairs[k], one) for k in (0, 1, 3)))


def _said(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _over(usual: float, most: float, one: Tally) -> str:
    """Return an excess over time: one number where there is one course or the worst alone counts."""
    if one.kind != "sampled" or not math.isfinite(most) or not most:
        return _said(most)
    return f"{_said(usual)}, worst {_said(most)}"


def stress(result: NetworkValidation) -> Section:
    """Return what is outside of the promise."""
    beyond = [one for one in result.found.tallies if not one.counts]
    if not beyond:
        return Section(
            "stress", "What is not promised?", "What is not promised", "", "Nothing outside of the promise was tried."
        )
    holds, breaks = [one for one in beyond if not one.broken], [one for one in beyond if one.broken]
    answer = "Envelopes are promises about use, not about data and messages. "
    answer += f"They hold against {_list(holds)}. " if holds else "They hold against none of what follows. "
    answer += f"They do not hold against {_list(breaks)}." if breaks else ""
    return Section("stress", "What is not promised?", "What is not promised", f"{len(breaks)} of {len(beyond)} break", answer, (), (TableOf("", HEAD[:4] + HEAD[5:], [row[:4] + row[5:] for row in shown(beyond)], (1, 2, 3)),))  # fmt: skip


def _list(tallies: list[Tally]) -> str:
    names = [one.name for one in tallies]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
