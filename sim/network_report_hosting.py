"""The page about hosting capacity: how much, what stops it, and what each customer could add alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim import network_figures as draw
from sim.network_hosting import NetworkHosting, verdict
from sim.network_page import Picture, Section, TableOf
from sim.network_validate import number

__all__ = ["page"]

MOST_BARS = 20


def page(result: NetworkHosting) -> tuple[dict[str, Any], list[Section]]:
    """Return the template's variables and the sections."""
    found, ready = result.found, result.prepared
    sentence = verdict(result)
    low, high = found.median_between_kw
    what = "solar power" if found.kind == "pv" else "load"
    named = [("firm", found.firm_kw, f"at most {100 * found.below_firm_at_most:.2g} % of all placements lie below"),
             ("median", found.median_kw, f"between {low:.0f} and {high:.0f} kW, 95 %"), ("maximum", found.maximum_kw, "the luckiest placement")]  # fmt: skip
    ok = found.status == "ok"
    context = {
        "page_title": f"Hosting capacity of {ready.case.name} – commonwatt",
        "meta": [
            ready.case.name,
            what,
            f"{number(len(found.capacity_kw))} placements",
            f"{found.order.shape[1]} customers",
        ],
        "good": ok,
        "verdict_word": "The feeder hosts" if ok else "Infeasible.",
        "answer_word": f"{found.firm_kw:.0f} kW firm",
        "headline": sentence.partition(";")[0] + "." if ok else sentence[:1].upper() + sentence[1:] + ".",
        "lede": sentence.partition(";")[2].strip()[:1].upper() + sentence.partition(";")[2].strip()[1:] + "."
        if ";" in sentence
        else "",
        "ticks": [],
        "tiles": [
            {"label": name.capitalize(), "value": f"{kw:.0f}", "unit": "kW", "says": says} for name, kw, says in named
        ],
        "footer": [
            f"By AC power flow, every limit after every plant; seed {ready.case.seed}. A placement ends at the first limit that is met."
        ],
    }
    if not ok:
        return context, [
            Section("much", "How much can be added?", "How much?", "nothing", sentence[:1].upper() + sentence[1:] + ".")
        ]
    curve = Picture(
        "placements", "Placements in which a limit is met", "% of placements, by what is added together", f"Rising curve. {sentence}",
        draw.placements(found.capacity_kw, found.firm_kw, found.median_kw, found.maximum_kw, found.kind),
    )  # fmt: skip
    rows = [
        (f"{kw:.0f}", f"{100 * share:.1f} %")
        for kw, share in ((kw, float(found.violation_probability(kw))) for kw in np.linspace(0, found.maximum_kw, 11))
    ]
    much = Section("much", "How much can be added?", "How much?", f"{found.firm_kw:.0f} to {found.maximum_kw:.0f} kW", sentence[:1].upper() + sentence[1:] + ".", (curve,),
                   (TableOf("Chance that a limit is passed", ("Added together, kW", "Placements beyond a limit"), rows, (0, 1), open=False),))  # fmt: skip
    return context, [much, _stops(result), _alone(result)]


def _stops(result: NetworkHosting) -> Section:
    stopped, total = result.stoppers, len(result.found.capacity_kw)
    if not stopped:
        return Section(
            "stops",
            "What stops it?",
            "What stops it?",
            "nothing",
            "Nothing: every candidate has its plant, and every limit is kept.",
        )
    kinds = sorted({kind.replace("_", "-") for _, kind, _ in stopped})
    answer = f"{stopped[0][0]} in {100 * stopped[0][2] / total:.0f} % of the placements; {len(stopped)} different elements, by {' and '.join(kinds)}."
    some = stopped[:MOST_BARS]
    picture = Picture("stoppers", "The limit that is met first", f"% of placements; {'all' if len(some) == len(stopped) else f'the first {len(some)}'} elements", f"Bars. {answer}",
                      draw.stoppers([name for name, _, _ in some], np.array([many for _, _, many in some]), total))  # fmt: skip
    rows = [
        (name, kind.replace("_", "-"), number(many), f"{100 * many / total:.1f} %")
        for name, kind, many in stopped[:100]
    ]
    return Section("stops", "What stops it?", "What stops it?", stopped[0][0], answer, (picture,), (TableOf("All elements", ("Element", "Limit", "Placements", "Share"), rows, (2, 3), open=False),))  # fmt: skip


def _alone(result: NetworkHosting) -> Section:
    found, ids = result.found, result.prepared.ids
    who = np.flatnonzero(~np.isnan(found.alone_kw))
    kw = found.alone_kw[who]
    least, most = who[kw.argmin()], who[kw.argmax()]
    answer = f"{ids[least]} alone could add {found.alone_kw[least]:.1f} kW, {ids[most]} {found.alone_kw[most]:.1f} kW."
    if most_reached := int((kw >= found.alone_max_kw).sum()):
        answer += f" {most_reached} could add {found.alone_max_kw:g} kW or more."
    picture = Picture(
        "single",
        "One customer alone",
        "kW until the first limit; the least first",
        f"Bars. {answer}",
        draw.single([ids[k] for k in who], kw),
    )
    order = who[np.argsort(kw, kind="stable")]
    rows = [(ids[k], f"{found.alone_kw[k]:.2f}", str(found.alone_element[k]) or "–") for k in order[:150]]
    return Section("alone", "What could one customer add alone?", "One alone", f"{kw.min():.0f} to {kw.max():.0f} kW", answer, (picture,), (TableOf("All customers", ("Customer", "kW", "Stopped by"), rows, (1,), open=False),))  # fmt: skip
