"""The pictures of envelopes that were tried, and of hosting capacity: plotly figures that name roles, not colours.

As :mod:`sim.figures`: every function takes plain arrays and draws nothing that its arguments do not hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.figure_base import INK, INK2, figure, level, note, rounded

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["customers", "feeder_map", "over_time", "placements", "profile", "ridges", "single", "stoppers"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

PHASES = {
    "a": ("var(--v-low)", "circle"), "b": ("var(--v-high)", "diamond"), "c": ("var(--retail)", "square"), "abc": (INK, "circle"),
}  # fmt: skip
LIMIT = "var(--limit)"
NAMES_ON_AXIS = 16
LARGEST_MARGIN = 190


def profile(
    distance: Vector,
    v_pu: Vector,
    phase: Sequence[str],
    names: Sequence[str],
    limits: tuple[float, float],
    in_metres: bool,
) -> go.Figure:
    """Show the voltage of every node (N,) [p.u.] against its distance from the source; shaded: outside of the limits."""
    kinds = np.array(phase)
    traces: list[dict[str, Any]] = []
    for one in dict.fromkeys(phase):
        rows = np.flatnonzero(kinds == one)
        colour, symbol = PHASES[one]
        traces.append({
            "type": "scatter", "mode": "markers", "name": "all phases" if one == "abc" else f"phase {one}",
            "x": rounded(distance[rows], 1), "y": rounded(v_pu[rows], 5), "text": [names[int(k)] for k in rows],
            "hovertemplate": "bus %{text}: %{y:.4f} pu<extra>%{fullData.name}</extra>",
            "marker": {"color": colour, "symbol": symbol, "size": 5, "opacity": 1},
        })  # fmt: skip
    lines = [level(value, dash="dash", colour=LIMIT) for value in limits if 0 < value < np.inf]
    reach = (min(float(v_pu.min()), limits[0]) - 0.01, max(float(v_pu.max()), min(limits[1], 2.0)) + 0.01)
    shade = {
        "type": "rect",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "fillcolor": "var(--limit-t)",
        "opacity": 0.5,
        "line": {"width": 0},
        "layer": "below",
    }
    outside = [(low, high) for low, high in ((limits[1], reach[1]), (reach[0], limits[0])) if 0 < low < high < np.inf]
    lines += [{**shade, "y0": low, "y1": high} for low, high in outside]
    words = "metres of line from the source" if in_metres else "branches from the source"
    return figure(
        traces,
        380,
        shapes=lines,
        yaxis={"title": {"text": "pu"}},
        margin={"l": 58, "b": 44},
        xaxis={"title": {"text": words}},
    )


def feeder_map(
    x: Vector,
    y: Vector,
    ends: Sequence[tuple[int, int]],
    v_pu: Vector,
    names: Sequence[str],
    limits: tuple[float, float],
) -> go.Figure:
    """Show where on the map voltages are how far from the middle of what is allowed: the worst phase of each bus (n,)."""
    lines_x: list[float | None] = []
    lines_y: list[float | None] = []
    for first, second in ends:
        lines_x += [float(x[first]), float(x[second]), None]
        lines_y += [float(y[first]), float(y[second]), None]
    low, high = limits
    outside = (v_pu > high) | (v_pu < low)
    scale = [[0.0, "var(--v-low)"], [0.5, "var(--v-mid)"], [1.0, "var(--v-high)"]]
    size = 5 if len(x) > 80 else 9
    common = {"type": "scatter", "mode": "markers", "hovertemplate": "bus %{text}: %{customdata:.4f} pu<extra></extra>"}
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "mode": "lines", "x": lines_x, "y": lines_y, "hoverinfo": "skip", "line": {"color": "var(--line-2)", "width": 1.4}}
    ]  # fmt: skip
    for rows, marker in (
        (np.flatnonzero(~outside), {"colorscale": scale, "cmin": low, "cmax": high, "size": size}),
        (
            np.flatnonzero(outside & (v_pu < low)),
            {"color": "var(--v-under)", "size": size + 2, "symbol": "triangle-down"},
        ),
        (
            np.flatnonzero(outside & (v_pu > high)),
            {"color": "var(--v-over)", "size": size + 2, "symbol": "triangle-up"},
        ),
    ):
        if not rows.size:
            continue
        colour = {} if "color" in marker else {"color": rounded(v_pu[rows], 5)}
        traces.append({
            **common, "x": rounded(x[rows], 2), "y": rounded(y[rows], 2), "text": [names[int(k)] for k in rows],
            "customdata": rounded(v_pu[rows], 5), "marker": {**marker, **colour, "opacity": 1, "line": {"color": "var(--ink2)", "width": 0.7}},
        })  # fmt: skip
    off = {"visible": False, "fixedrange": True}
    return figure(
        traces,
        420,
        xaxis=off,
        yaxis={**off, "scaleanchor": "x", "scaleratio": 1},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
    )


def ridges(counts: Mapping[str, tuple[Index, Index]], edges: Vector, limits: tuple[float, float]) -> go.Figure:
    """Show how often the lowest and the highest voltage of a use lie where: counts in the classes of ``edges`` by way of use."""
    middle = (edges[1:] + edges[:-1]) / 2.0
    traces: list[dict[str, Any]] = []
    rows = list(counts)
    for k, name in enumerate(rows):
        base = len(rows) - 1 - k
        for which, colour in ((0, "var(--v-low)"), (1, "var(--v-high)")):
            found = counts[name][which]
            there = np.flatnonzero(found)
            if not there.size:
                continue
            span = slice(max(there[0] - 1, 0), min(there[-1] + 2, len(middle)))
            height = found[span] / found.max() * 0.82
            x, y = middle[span], base + height
            traces.append({
                "type": "scatter", "mode": "lines", "name": f"{'lowest' if which == 0 else 'highest'} voltage, {name}",
                "x": rounded(np.concatenate([x, x[::-1]]), 4), "y": rounded(np.concatenate([y, np.full(len(x), float(base))]), 3),
                "fill": "toself", "fillcolor": colour, "line": {"color": colour, "width": 1}, "hoveron": "fills", "hoverinfo": "name",
            })  # fmt: skip
    shapes = [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": value, "x1": value, "line": {"color": LIMIT, "width": 1, "dash": "dash"}}
        for value in limits
        if 0 < value < np.inf
    ]  # fmt: skip
    ticks = {
        "tickvals": [len(rows) - 1 - k for k in range(len(rows))],
        "ticktext": [name.replace("_", " ") for name in rows],
    }
    return figure(
        traces, 70 + 52 * len(rows), shapes=shapes, margin={"l": 128, "b": 44}, xaxis={"title": {"text": "pu"}},
        yaxis={**ticks, "showgrid": False, "range": [-0.1, len(rows)]},
    )  # fmt: skip


def customers(names: Sequence[str], export_kw: Vector, import_kw: Vector) -> go.Figure:
    """Show what each customer may feed in (up) and draw (down), the least first; shapes (c',). [kW]"""
    order = np.argsort(export_kw + import_kw, kind="stable")
    named = [names[int(k)] for k in order]
    bar = {"type": "bar", "x": list(range(len(order))), "text": named, "textposition": "none"}
    traces = [
        {**bar, "name": "export", "y": rounded(export_kw[order], 3), "marker": {"color": "var(--solar)"}, "hovertemplate": "%{text} may export %{y:.2f} kW<extra></extra>"},
        {**bar, "name": "import", "y": rounded(-import_kw[order], 3), "customdata": rounded(import_kw[order], 3), "marker": {"color": "var(--retail)"}, "hovertemplate": "%{text} may import %{customdata:.2f} kW<extra></extra>"},
    ]  # fmt: skip
    few = len(order) <= NAMES_ON_AXIS
    axis = {"tickvals": list(range(len(order))), "ticktext": named} if few else {"tickvals": [], "ticks": ""}
    return figure(
        traces, 280, barmode="relative", bargap=0.12, xaxis=axis, margin={"l": 58, "b": 60 if few else 24},
        yaxis={"title": {"text": "kW"}, "zeroline": True, "zerolinecolor": INK},
    )  # fmt: skip


def over_time(export_kw: Vector, import_kw: Vector, broken: Index, labels: Sequence[str]) -> go.Figure:
    """Show the sum of all limits over the intervals (T,), export up and import down [kW], and where something broke."""
    steps = len(export_kw)
    export_kw, import_kw, labels = (
        np.append(export_kw, export_kw[-1:]),
        np.append(import_kw, import_kw[-1:]),
        [*labels, "end"],
    )
    line = {"type": "scatter", "mode": "lines", "x0": 0, "dx": 1, "text": list(labels)}
    traces: list[dict[str, Any]] = [
        {**line, "name": "export", "y": rounded(export_kw, 2), "fill": "tozeroy", "fillcolor": "var(--solar-t)", "line": {"color": "var(--solar)", "width": 2, "shape": "hv"}, "hovertemplate": "%{text}: export %{y:.1f} kW<extra></extra>"},
        {**line, "name": "import", "y": rounded(-import_kw, 2), "customdata": rounded(import_kw, 2), "fill": "tozeroy", "fillcolor": "var(--retail-t)", "line": {"color": "var(--retail)", "width": 2, "shape": "hv"}, "hovertemplate": "%{text}: import %{customdata:.1f} kW<extra></extra>"},
    ]  # fmt: skip
    where = np.flatnonzero(broken)
    if where.size:
        traces.append({
            "type": "scatter", "mode": "markers", "name": "a limit is broken", "x": where.tolist(), "y": [0.0] * where.size,
            "text": [labels[int(k)] for k in where], "marker": {"color": LIMIT, "symbol": "x", "size": 8},
            "hovertemplate": "%{text}: a limit is broken<extra></extra>",
        })  # fmt: skip
    every = max(steps // 8, 1)
    # day and hour one below the other: narrow enough for a telephone
    said = [labels[k].replace(" ", "<br>") for k in range(0, steps, every)]
    ticks = {"tickvals": list(range(0, steps, every)), "ticktext": said, "tickangle": 0}
    return figure(
        traces, 270, xaxis={**ticks, "range": [0, steps]}, margin={"l": 58, "b": 44},
        yaxis={"title": {"text": "kW"}, "zeroline": True, "zerolinecolor": INK},
    )  # fmt: skip


def placements(capacity_kw: Vector, firm: float, median: float, maximum: float, kind: str) -> go.Figure:
    """Show the share of placements in which a limit is met below so much added power; shape (D,). [kW]"""
    rising = np.sort(capacity_kw)
    share = 100.0 * np.arange(1, len(rising) + 1) / max(len(rising), 1)
    keep = np.unique(np.linspace(0, len(rising) - 1, min(len(rising), 1500)).astype(int))
    first = [0.0, float(rising[0])] if len(rising) else []
    traces = [{
        "type": "scatter", "mode": "lines", "name": "placements stopped", "x": [*first, *rounded(rising[keep], 2)],
        "y": [*[0.0] * len(first), *rounded(share[keep], 2)], "line": {"color": "var(--solar)" if kind == "pv" else "var(--retail)", "width": 2.4, "shape": "hv"},
        "fill": "tozeroy", "fillcolor": "var(--solar-t)" if kind == "pv" else "var(--retail-t)", "hovertemplate": "%{x:.1f} kW: %{y:.1f} %<extra></extra>",
    }]  # fmt: skip
    marks = (("firm", firm, 8), ("median", median, 50), ("maximum", maximum, 92))
    shapes = [
        {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": value, "x1": value, "line": {"color": INK2, "width": 1, "dash": "dot"}}
        for _, value, _ in marks
    ]  # fmt: skip
    notes = [
        note(f"{name} {value:.0f} kW", x=value, y=y, xanchor="left", xshift=4, bgcolor="var(--bg)")
        for name, value, y in marks
    ]
    most = float(rising[-1]) if len(rising) else 1.0
    return figure(
        traces, 320, shapes=shapes, annotations=notes, margin={"l": 58, "b": 44}, xaxis={"title": {"text": "kW added together"}, "range": [0, most * 1.18]},
        yaxis={"title": {"text": "% of placements"}, "range": [0, 104]},
    )  # fmt: skip


def stoppers(names: Sequence[str], counts: Index, total: int) -> go.Figure:
    """Show which elements stop how many placements; the most frequent first."""
    share = 100.0 * counts / max(total, 1)
    traces = [{
        "type": "bar", "orientation": "h", "y": list(names)[::-1], "x": rounded(share[::-1], 2), "marker": {"color": LIMIT},
        "hovertemplate": "%{y}: %{x:.1f} % of placements<extra></extra>",
    }]  # fmt: skip
    wide = min(40 + 6.5 * max((len(name) for name in names), default=4), LARGEST_MARGIN)
    return figure(
        traces, 70 + 22 * len(names), margin={"l": wide, "b": 44}, xaxis={"title": {"text": "% of placements"}},
        yaxis={"type": "category", "showgrid": False, "nticks": len(names)},
    )  # fmt: skip


def single(names: Sequence[str], alone_kw: Vector) -> go.Figure:
    """Show what each customer could add alone, the least first; shape (n,). [kW]"""
    order = np.argsort(alone_kw, kind="stable")
    few = len(order) <= NAMES_ON_AXIS
    named = [names[int(k)] for k in order]
    traces = [{
        "type": "bar", "x": list(range(len(order))), "y": rounded(alone_kw[order], 2), "text": named, "textposition": "none",
        "marker": {"color": "var(--peer)"}, "hovertemplate": "%{text}: %{y:.1f} kW<extra></extra>",
    }]  # fmt: skip
    axis = {"tickvals": list(range(len(order))), "ticktext": named} if few else {"tickvals": [], "ticks": ""}
    return figure(
        traces, 260, bargap=0.12, xaxis=axis, margin={"l": 58, "b": 60 if few else 24}, yaxis={"title": {"text": "kW"}}
    )
