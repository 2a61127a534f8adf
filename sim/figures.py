"""The pictures of a run: every static chart is a function here and returns a plotly figure.

A figure knows numbers and roles, not colours: it names ``"var(--peer)"`` and the page that shows it decides
(:mod:`sim.palette`; plotly accepts the name).  Every function takes plain arrays, returns ``go.Figure`` and draws nothing
that its arguments do not hold.  Charts that move with the player (map, voltage profile, heat map, envelope,
convergence) are drawn by ``templates/report.js``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim.figure_base import CLEAR, INK, INK2, TimeAxis, area, figure, level, note, rounded, time_figure
from sim.number_format import money, number

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = [
    "calendar",
    "changes",
    "clearings",
    "curtailed",
    "duration",
    "groups",
    "members",
    "prices",
    "rents",
    "rights",
    "storage",
    "waterfall",
    "week",
]

Vector = NDArray[np.float64]

STRIP_DOTS = 150
"""Up to so many members a group are dots; more are a box and its outliers."""
NAMES_ON_AXIS = 16
"""Up to so many bars have their names on the axis."""


def week(axis: TimeAxis, demand_kw: Vector, sources: Mapping[str, Vector], uses: Mapping[str, Vector]) -> go.Figure:
    """Show how the demand was met (up) and what became of the other solar power (down). Arrays (T,). [kW]"""
    up = [
        ("own solar", "solar", ""),
        ("own battery", "solar", "/"),
        ("neighbours", "peer", ""),
        ("shared storage", "store", ""),
        ("retailer", "retail", ""),
    ]
    down = [
        ("own battery", "solar", "/"),
        ("shared storage", "store", "/"),
        ("fed in", "feed", ""),
        ("curtailed", "limit", "x"),
    ]
    named_down = {
        "own battery": "Into own battery",
        "shared storage": "Into shared storage",
        "fed in": "Fed in",
        "curtailed": "Curtailed",
    }
    traces = [
        area(axis, sources[k], k.capitalize(), colour, group="up", hatch=hatch)
        for k, colour, hatch in up
        if sources[k].any()
    ]
    traces += [
        area(axis, uses[k], named_down[k], colour, group="down", hatch=hatch, sign=-1)
        for k, colour, hatch in down
        if uses[k].any()
    ]
    if axis.block > 1:  # means hide the peaks: a band shows the lowest and highest interval of every block
        low, high = rounded(axis.low(demand_kw), 1), rounded(axis.high(demand_kw), 1)
        band = {"type": "scatter", "mode": "lines", "x0": 0, "dx": axis.block, "line": {"width": 0}}
        traces.append({**band, "y": low, "name": "Demand, lowest"})
        traces.append(
            {**band, "y": high, "name": "Demand, highest", "fill": "tonexty", "fillcolor": "rgba(128,128,128,0.35)"}
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Demand",
            "line": {"color": INK, "width": 1.3 if axis.is_sparse else 0.5},
            **axis.trace(demand_kw),
        }
    )
    corner = {"xref": "paper", "yref": "paper", "x": 0, "xanchor": "left", "xshift": 6, "bgcolor": "var(--bg)"}
    return time_figure(
        traces, 420, axis, "kW",
        yaxis={"zeroline": True, "zerolinecolor": INK, "zerolinewidth": 1, "nticks": 9},
        annotations=[
            note("how demand was met ↑", y=1, yanchor="top", **corner),
            *([note("what happened to the other solar ↓", y=0, yanchor="bottom", **corner)] if len(uses) and any(uses[k].any() for k, *_ in down) else []),
        ],
    )  # fmt: skip


def prices(
    axis: TimeAxis, local: Mapping[str, Vector], buy: Vector, sell: Vector, charge: Vector | None, unit: str
) -> go.Figure:
    """Show the local price of each stage between the two outside options. Arrays (T,), already in ``unit``.

    The last stage of ``local`` is the thick line; between it and feed-in is what sellers keep, between it and retail
    less the local charge what buyers keep.
    """
    final = list(local.values())[-1] if local else np.full(axis.steps, np.nan)
    ceiling = buy if charge is None else buy - charge
    known = np.isfinite(final)
    flat = {"type": "scatter", "mode": "lines", "stackgroup": "kept", "x0": 0, "dx": axis.block, "hoverinfo": "skip"}
    layers = [
        (np.where(known, sell, 0.0), CLEAR, ""),
        (np.where(known, np.maximum(final - sell, 0.0), 0.0), "var(--solar-t)", "kept by sellers"),
        (np.where(known, np.maximum(ceiling - np.maximum(final, sell), 0.0), 0.0), "var(--retail-t)", "kept by buyers"),
    ]
    traces: list[dict[str, Any]] = [
        {
            **flat,
            "name": name,
            "y": rounded(axis.mean(values), 2),
            "line": {"width": 0, "shape": "hv"},
            "fillcolor": colour,
            "showlegend": False,
        }
        for values, colour, name in layers
    ]
    outside = [("Retail price", buy, "solid"), ("Feed-in", sell, "solid")]
    if charge is not None:
        outside.insert(1, ("Retail less local charges", ceiling, "dot"))
    for name, values, dash in outside:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "line": {"color": INK2, "width": 1, "dash": dash, "shape": "hv"},
                **axis.trace(values, 2),
            }
        )
    for name, values in local.items():
        is_last = values is final
        line = {
            "color": "var(--peer)" if is_last else "var(--peer-i)",
            "width": 1.8 if is_last else 1,
            "shape": "hv",
            "dash": "solid" if is_last else "dot",
        }
        traces.append({"type": "scatter", "mode": "lines", "name": name, "line": line, **axis.trace(values, 2)})
    ends = (
        [("retail", buy), ("feed-in", sell)]
        if charge is None
        else [("retail", buy), ("less local charges", ceiling), ("feed-in", sell)]
    )
    floor = min(0.0, float(np.nanmin(sell)), float(np.nanmin(final)) if known.any() else 0.0)
    return time_figure(
        traces, 270, axis, unit,
        margin={"r": 124},
        yaxis={"range": [floor * 1.1, float(np.nanmax(buy)) * 1.08], "nticks": 5},
        annotations=[
            note(text, xref="paper", x=1.005, y=float(values[np.isfinite(values)][-1]), xanchor="left", align="left") for text, values in ends
        ],
    )  # fmt: skip


def rents(axis: TimeAxis, series: Mapping[str, Vector], reserve: Vector, colour: str, unit: str) -> go.Figure:
    """Show the rent of a right over time, its scarcity part on top of the reserve rent. Arrays (T,), in ``unit``."""
    traces = []
    for name, values in series.items():
        base = np.minimum(reserve, values)
        for label, layer, fill in (
            (f"{name}: reserve", base, f"var(--{colour}-t)"),
            (f"{name}: scarcity", values - base, f"var(--{colour})"),
        ):
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "stackgroup": name,
                    "name": label,
                    "line": {"width": 0, "shape": "hv"},
                    "fillcolor": fill,
                    **axis.trace(layer, 3),
                }
            )
    top = max((float(np.nanmax(v)) for v in series.values() if np.isfinite(v).any()), default=1.0)
    return time_figure(
        traces, 150, axis, unit, yaxis={"rangemode": "tozero", "range": [0, max(top, 1e-9) * 1.15], "nticks": 4}
    )


def changes(names: Sequence[str], change: Vector, roles: Sequence[str], currency: str) -> go.Figure:
    """Show what each party gains or loses against the reference, the sum last. Arrays (k,). [currency]"""
    span = max(float(np.nanmax(np.abs(change))), 1e-9) * 1.65
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": list(names),
        "x": rounded(change, 2),
        "marker": {"color": [f"var(--{role})" for role in roles]},
        "text": [money(v, currency, signed=True, unit=False) for v in change],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": INK},
        "hoverinfo": "skip",
    }
    return figure(
        [bars], 44 + 32 * len(names),
        margin={"l": 150, "r": 40, "t": 4, "b": 8}, bargap=0.28,
        yaxis={"autorange": "reversed", "showgrid": False, "tickfont": {"color": INK}, "ticksuffix": "  ", "nticks": 20},
        xaxis={"range": [-span, span], "showticklabels": False, "fixedrange": True, "showgrid": True, "gridcolor": "var(--grid)", "showline": False, "ticks": "", "zeroline": True, "zerolinecolor": INK},
    )  # fmt: skip


def members(ids: Sequence[str], saving: Vector, has_solar: NDArray[np.bool_], currency: str) -> go.Figure:
    """Show the saving of every member against its reference bill, sorted. Arrays (n,). [currency]"""
    order = np.argsort(-saving, kind="stable")
    n = len(order)
    names = [ids[k] for k in order]
    low, high = min(float(saving.min()), 0.0), max(float(saving.max()), 0.0)
    span = max(high - low, 1e-9)
    bars = {
        "type": "bar",
        "x": list(range(n)),
        "y": rounded(saving[order], 2),
        "customdata": names,
        "marker": {"color": ["var(--solar)" if has_solar[k] else "var(--retail)" for k in order], "line": {"width": 0}},
        "text": [money(saving[k], currency, signed=True) for k in order],
        "textposition": "none",
        "hovertemplate": "<b>%{customdata}</b>  %{text}<extra></extra>",
    }
    ticks: dict[str, Any] = {"showticklabels": False}
    bottom = 10
    if n <= NAMES_ON_AXIS:
        ticks = {
            "tickvals": list(range(n)),
            "ticktext": [_short(name, 14) for name in names],
            "tickangle": -35 if n > 6 else 0,
        }
        bottom = 60
    return figure(
        [bars], 300,
        bargap=0.18, margin={"b": bottom},
        xaxis={"ticks": "", "range": [-0.8, n - 0.2], "fixedrange": True, "showline": False, **ticks},
        yaxis={"zeroline": True, "zerolinecolor": INK, "nticks": 7, "automargin": True, "range": [low - 0.14 * span, high + 0.14 * span]},
        annotations=_ends(names, saving[order], currency),
    )  # fmt: skip


def _ends(names: Sequence[str], sorted_saving: Vector, currency: str) -> list[dict[str, Any]]:
    """Labels of the best and of the worst member, inside the chart and clear of its bars."""
    n = len(names)
    if n < 3:
        return []
    arrow = {
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1,
        "arrowcolor": INK2,
        "font": {"color": INK, "size": 11.5},
    }
    best, worst = float(sorted_saving[0]), float(sorted_saving[-1])

    def said(name: str, saved: float) -> str:
        return f"{_short(name, 24)} {'saves' if saved >= 0 else 'pays'} {money(abs(saved), currency)}{'' if saved >= 0 else ' more'}"

    labels = [
        {**arrow, "x": 0, "y": max(best, 0.0), "ax": 16, "ay": -14, "xanchor": "left", "text": said(names[0], best)}
    ]
    if worst < 0:
        labels.append(
            {**arrow, "x": n - 1, "y": worst, "ax": -16, "ay": 14, "xanchor": "right", "text": said(names[-1], worst)}
        )
    return labels


def _short(text: str, length: int) -> str:
    """A name cut to a length; plotly reads tags in texts, so it gets none."""
    plain = text.replace("<", "‹").replace(">", "›")
    return plain if len(plain) <= length else plain[: length - 1] + "…"


def groups(
    ids: Sequence[str], saving: Vector, group: Sequence[str], has_solar: NDArray[np.bool_], currency: str
) -> go.Figure:
    """Show the savings of groups of members as strips with their medians. Arrays (n,). [currency]"""
    names = list(dict.fromkeys(group))
    member_group = np.array([names.index(g) for g in group], dtype=np.intp)
    traces: list[dict[str, Any]] = []
    notes = []
    for k, name in enumerate(names):
        rows = np.flatnonzero(member_group == k)
        values = saving[rows]
        if rows.size > STRIP_DOTS:  # too many dots are a smear: a box, and the five furthest to either side
            q1, q2, q3 = np.quantile(values, [0.25, 0.5, 0.75])
            traces.append(
                {
                    "type": "box",
                    "orientation": "h",
                    "y": [-k],
                    "q1": [q1],
                    "median": [q2],
                    "q3": [q3],
                    "lowerfence": [values.min()],
                    "upperfence": [values.max()],
                    "fillcolor": "var(--solar-t)" if has_solar[rows[0]] else "var(--retail-t)",
                    "line": {"color": INK2, "width": 1},
                    "width": 0.3,
                    "hoverinfo": "skip",
                    "boxpoints": False,
                }
            )
            order = np.argsort(values, kind="stable")
            rows = rows[np.concatenate([order[:5], order[-5:]])]
        # a fixed pattern spreads the dots: a picture of the same numbers is the same picture
        spread: Vector = np.asarray(((np.arange(rows.size) * 0.618034) % 1.0 - 0.5) * 0.34)
        traces.append({
            "type": "scatter", "mode": "markers",
            "x": rounded(saving[rows], 2), "y": rounded(spread - float(k), 3),
            "customdata": [ids[int(row)] for row in rows],
            "text": [money(saving[row], currency, signed=True) for row in rows],
            "marker": {"size": 7, "opacity": 0.8, "color": "var(--solar)" if has_solar[rows].any() else "var(--retail)", "symbol": ["diamond", "circle", "square", "triangle-up"][k % 4], "line": {"width": 0.5, "color": "var(--bg)"}},
            "hovertemplate": "<b>%{customdata}</b>  %{text}<extra></extra>",
        })  # fmt: skip
        median = float(np.median(values))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [median, median],
                "y": [-k - 0.27, -k + 0.27],
                "line": {"color": INK, "width": 2.5},
                "hoverinfo": "skip",
            }
        )
        notes.append(note(
            f"<b>{_short(name, 40)}</b> · {values.size} member{'s' if values.size != 1 else ''} · median {money(median, currency, signed=True)}",
            xref="paper", x=0, xanchor="left", y=-k + 0.34, yanchor="bottom", bgcolor="var(--bg)", borderpad=1, font={"color": INK, "size": 11.5},
        ))  # fmt: skip
    return figure(
        traces, 60 + 88 * len(names),
        margin={"l": 14, "t": 8},
        xaxis={"zeroline": True, "zerolinecolor": INK, "gridcolor": "var(--grid)", "showgrid": True, "fixedrange": True, "showline": False, "ticks": ""},
        yaxis={"showticklabels": False, "showgrid": False, "range": [-len(names) + 0.58, 0.7]},
        annotations=notes,
    )  # fmt: skip


def storage(
    axis: TimeAxis, tenants_kwh: Vector, operator_kwh: Vector, rented_kwh: Vector, usable_kwh: float
) -> go.Figure:
    """Show whose energy is in the shared storage, how much of it is rented out, and its size. Arrays (T,). [kWh]"""
    traces = [
        area(axis, tenants_kwh, "Tenants", "store", group="inside"),
        area(axis, np.maximum(operator_kwh, 0.0), "Operator", "store-t", group="inside"),
        {
            "type": "scatter",
            "mode": "lines",
            "name": "Rented out",
            "line": {"color": INK2, "width": 1.2, "dash": "dot", "shape": "hv"},
            **axis.trace(rented_kwh),
        },
    ]
    last = rented_kwh[np.isfinite(rented_kwh)]
    notes = [
        note(f"usable {number(usable_kwh)}", xref="paper", x=1.005, y=usable_kwh, xanchor="left", yanchor="bottom")
    ]
    if last.size and last[-1] > 0:
        notes.append(note("rented out", xref="paper", x=1.005, y=float(last[-1]), xanchor="left", yanchor="top"))
    top = max(usable_kwh, float((tenants_kwh + operator_kwh).max()), float(last.max()) if last.size else 0.0)
    return time_figure(
        traces,
        270,
        axis,
        "kWh",
        yaxis={"range": [0, top * 1.08]},
        margin={"r": 84},
        shapes=[level(usable_kwh)],
        annotations=notes,
    )


def waterfall(names: Sequence[str], amounts: Vector, total_name: str, currency: str) -> go.Figure:
    """Show how the operator's account adds up to its margin. Arrays (k,). [currency]"""
    total = float(amounts.sum())
    running = np.concatenate([[0.0], np.cumsum(amounts)])
    low, high = float(running.min()), float(running.max())
    span = max(high - low, 1e-9)
    bars = {
        "type": "waterfall",
        "orientation": "h",
        "y": [*names, total_name],
        "x": [*rounded(amounts, 2), round(total, 2)],
        "measure": ["relative"] * len(names) + ["total"],
        "text": [*(money(v, currency, signed=True, unit=False) for v in amounts), money(total, currency, unit=False)],
        "textposition": "outside",
        "cliponaxis": False,
        "textfont": {"color": INK},
        "increasing": {"marker": {"color": "var(--store)"}},
        "decreasing": {"marker": {"color": "var(--feed)"}},
        "totals": {"marker": {"color": INK}},
        "connector": {"line": {"color": "var(--axis)", "width": 1}},
        "hoverinfo": "skip",
    }
    return figure(
        [bars], 50 + 30 * (len(names) + 1),
        margin={"l": 150, "r": 30, "t": 4},
        yaxis={"autorange": "reversed", "showgrid": False, "tickfont": {"color": INK}, "ticksuffix": "  ", "nticks": 20},
        xaxis={"range": [low - (0.5 * span if low < 0 else 0), high + 0.3 * span], "fixedrange": True, "showgrid": True, "gridcolor": "var(--grid)", "showline": False, "ticks": "", "zeroline": True, "zerolinecolor": INK, "nticks": 5},
    )  # fmt: skip


def rights(ids: Sequence[str], space_kwh: Vector, power_kw: Vector) -> go.Figure:
    """Show who rents how much of the shared storage, on average over the run. Arrays (k,). [kWh, kW]"""
    order = np.argsort(-space_kwh, kind="stable")
    names = [ids[k] for k in order]
    return _ranked(
        names,
        space_kwh[order],
        "store",
        [f"{number(space_kwh[k], 1)} kWh, {number(power_kw[k], 1)} kW" for k in order],
        " ",
    )


def curtailed(ids: Sequence[str], share_percent: Vector, kw_peak: Vector) -> go.Figure:
    """Show who gave up how much of the own solar energy. Arrays (k,). [%]"""
    order = np.argsort(-share_percent, kind="stable")
    names = [ids[k] for k in order]
    said = [f"lost {number(share_percent[k], 1)} % of {number(kw_peak[k], 1)} kWp" for k in order]
    return _ranked(names, share_percent[order], "limit", said, " %")


def _ranked(names: Sequence[str], values: Vector, role: str, said: Sequence[str], suffix: str) -> go.Figure:
    n = len(names)
    bars = {
        "type": "bar",
        "x": list(range(n)),
        "y": rounded(values, 2),
        "customdata": list(names),
        "text": list(said),
        "textposition": "none",
        "marker": {"color": f"var(--{role})", "line": {"width": 0}},
        "hovertemplate": "<b>%{customdata}</b> %{text}<extra></extra>",
    }
    named: dict[str, Any] = {"showticklabels": False}
    if n <= NAMES_ON_AXIS:
        named = {
            "tickvals": list(range(n)),
            "ticktext": [_short(name, 12) for name in names],
            "tickangle": -60,
            "tickfont": {"size": 11},
        }
    return figure(
        [bars], 240,
        bargap=0.25, margin={"b": 64 if n <= NAMES_ON_AXIS else 14},
        yaxis={"ticksuffix": suffix, "nticks": 5, "rangemode": "tozero", "automargin": True},
        xaxis={"ticks": "", "fixedrange": True, "range": [-0.8, max(n, 4) - 0.2], **named},
    )  # fmt: skip


def duration(curves: Mapping[str, Vector]) -> go.Figure:
    """Show the power through the transformer, sorted. Arrays (T,), NaN left out; the first curve is this run. [kW]"""
    styles = [
        {"color": "var(--peer)", "width": 2.4, "dash": "solid"},
        {"color": INK2, "width": 1.6, "dash": "dot"},
        {"color": "var(--limit-i)", "width": 1.4, "dash": "dash"},
    ]
    traces = []
    for (name, values), line in zip(curves.items(), styles, strict=False):
        known = np.sort(values[np.isfinite(values)])[::-1]
        at = np.arange(1, known.size + 1) / max(known.size, 1) * 100.0
        if known.size > 1500:  # the eye cannot tell: every k-th point, the ends kept
            kept = np.unique(np.linspace(0, known.size - 1, 1500).round().astype(np.intp))
            known, at = known[kept], at[kept]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": rounded(at, 2),
                "y": rounded(known, 1),
                "line": line,
                "hovertemplate": f"{name} %{{y:.0f}} kW<extra></extra>",
            }
        )
    return figure(
        traces, 260,
        xaxis={"ticksuffix": " %", "fixedrange": True, "range": [0, 100], "nticks": 6},
        yaxis={"zeroline": True, "zerolinecolor": INK, "nticks": 8},
    )  # fmt: skip


def calendar(values: Vector, days: Sequence[int], labels: Sequence[str], steps_a_day: int, unit: str) -> go.Figure:
    """Show a long run day by day: a row per interval of the day, a column per day. Array (T,)."""
    sheet = np.full((steps_a_day, len(days)), np.nan)
    ends = [*days[1:], values.size]
    for column, (a, b) in enumerate(zip(days, ends, strict=True)):
        part = values[a:b][-steps_a_day:] if column == 0 else values[a:b][:steps_a_day]
        first = steps_a_day - part.size if column == 0 else 0
        sheet[first : first + part.size, column] = part
    span = max(float(np.nanmax(np.abs(sheet))), 1e-9)
    months = [k for k, label in enumerate(labels) if k == 0 or label.split()[-1] != labels[k - 1].split()[-1]]
    hours = [0, 6, 12, 18]
    heat = {
        "type": "heatmap",
        "z": [rounded(row, 1) for row in sheet],
        "zmin": -span,
        "zmax": span,
        "colorscale": [[0, "var(--peer)"], [0.5, "var(--wash)"], [1, "var(--retail)"]],
        "showscale": False,
        "hovertemplate": f"%{{z:.0f}} {unit}<extra></extra>",
    }
    return figure(
        [heat], 300,
        xaxis={"tickvals": months, "ticktext": [labels[k].split()[-1] for k in months], "fixedrange": True},
        yaxis={"tickvals": [h * steps_a_day / 24 for h in hours], "ticktext": [f"{h:02d}:00" for h in hours], "autorange": "reversed", "showgrid": False},
    )  # fmt: skip


def clearings(
    axis: TimeAxis,
    slot: Vector,
    iterations: Vector,
    stage: Sequence[str],
    converged: NDArray[np.bool_],
    names: Sequence[str],
) -> go.Figure:
    """Show how many iterations every clearing took. Arrays (c,); ``slot`` is the interval it was held in."""
    shapes = {"day_ahead": ("diamond", 9), "intraday": ("circle", 5)}
    marker = {
        "size": [shapes.get(s, ("circle", 6))[1] for s in stage],
        "symbol": [shapes.get(s, ("circle", 6))[0] for s in stage],
        "color": ["var(--peer)" if ok else "var(--limit)" for ok in converged],
        "opacity": 1,
        "line": {"width": 0},
    }
    dots = {
        "type": "scatter",
        "mode": "markers",
        "name": "iterations",
        "x": rounded(slot, 2),
        "y": [int(v) for v in iterations],
        "customdata": list(names),
        "marker": marker,
        "hovertemplate": "%{y} iterations<extra></extra>",
    }
    low = min(0.0, float(slot.min()) if slot.size else 0.0)
    return figure(
        [dots],
        190,
        xaxis={**axis.layout, "range": [low - 0.01 * axis.steps, axis.steps]},
        yaxis={"rangemode": "tozero", "nticks": 4},
    )
