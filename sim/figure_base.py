"""What all pictures of a run have in common: the axis of time, the layout, an area, a note.

A time axis counts intervals, because local time has hours twice and hours never: names of days are labels on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["CLEAR", "INK", "INK2", "TimeAxis", "area", "figure", "level", "note", "rounded", "time_figure"]

Vector = NDArray[np.float64]

INK, INK2 = "var(--ink)", "var(--ink2)"
CLEAR = "rgba(0,0,0,0)"


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The intervals of a run as an axis, and how coarsely it is drawn."""

    steps: int
    days: tuple[int, ...]
    """First interval of every local day."""
    labels: tuple[str, ...]
    """Names of the days."""
    block: int = 1
    """Intervals per drawn point: 1 draws every interval, 4 the mean of four."""

    @property
    def is_sparse(self) -> bool:
        """Whether a point is at least about half a pixel wide."""
        return self.steps / self.block <= 1500

    def mean(self, values: Vector) -> Vector:
        """Return the mean of every block; a block with a gap is a gap."""
        return np.asarray(self._blocks(values).mean(axis=1))

    def low(self, values: Vector) -> Vector:
        return np.asarray(self._blocks(values).min(axis=1))

    def high(self, values: Vector) -> Vector:
        return np.asarray(self._blocks(values).max(axis=1))

    def _blocks(self, values: Vector) -> Vector:
        whole = values.size // self.block * self.block
        cut = values[:whole].reshape(-1, self.block)
        if whole == values.size:
            return cut
        rest = np.full(self.block, values[whole:].mean())  # the last block is short: its mean stands for all of it
        return np.vstack([cut, rest])

    def trace(self, values: Vector, digits: int = 1) -> dict[str, Any]:
        """Return x and y of a line over this axis."""
        return {"x0": 0, "dx": self.block, "y": rounded(self.mean(values), digits)}

    @property
    def layout(self) -> dict[str, Any]:
        ends = [*self.days[1:], self.steps]
        return {
            "type": "linear",
            "range": [0, max(self.steps - 1, 1)],
            "tickvals": [(a + b) / 2 for a, b in zip(self.days, ends, strict=True)],
            "ticktext": list(self.labels),
            "ticks": "",
        }


def rounded(values: Vector, digits: int) -> list[float | None]:
    """Rounded numbers for JSON; a gap is null, and there is no minus zero."""
    return [round(float(v), digits) + 0.0 if np.isfinite(v) else None for v in values]


def figure(traces: Sequence[Any], height: int, **layout: Any) -> go.Figure:
    """Return a figure with what all of them have in common; mappings in ``layout`` are merged."""
    import plotly.graph_objects as go

    base: dict[str, Any] = {
        "template": "none",
        "height": height,
        "margin": {"l": 46, "r": 14, "t": 14, "b": 30},
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "showlegend": False,
        "hovermode": "closest",
        "dragmode": "zoom",
        "font": {"family": "var(--font)", "size": 12, "color": INK2},
        "hoverlabel": {"bgcolor": "var(--paper)", "bordercolor": "var(--rule)", "font": {"family": "var(--font)", "size": 12, "color": INK}},
        "xaxis": {"showgrid": False, "zeroline": False, "linecolor": "var(--axis)", "showline": True, "ticks": "outside", "ticklen": 4, "tickcolor": "var(--axis)"},
        "yaxis": {"gridcolor": "var(--grid)", "showgrid": True, "zeroline": False, "ticks": "", "fixedrange": True, "nticks": 6},
    }  # fmt: skip
    for key, value in layout.items():
        base[key] = (
            {**base[key], **value} if isinstance(value, Mapping) and isinstance(base.get(key), Mapping) else value
        )
    return go.Figure(data=list(traces), layout=base)


def time_figure(traces: Sequence[Any], height: int, axis: TimeAxis, unit: str, **layout: Any) -> go.Figure:
    """Return a figure over the axis of time, with the unit that its values have in the page's own hover box."""
    extra = layout.pop("xaxis", {})
    return figure(traces, height, xaxis={**axis.layout, **extra}, hovermode="x", meta={"unit": unit}, **layout)


def area(
    axis: TimeAxis, values: Vector, name: str, colour: str, *, group: str, hatch: str = "", sign: int = 1
) -> dict[str, Any]:
    """One layer of a stack; downward layers keep their positive value for the reader."""
    fill = f"var(--{colour})"
    shown = rounded(axis.mean(values), 1)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "stackgroup": group,
        "x0": 0,
        "dx": axis.block,
        "y": shown if sign > 0 else [None if v is None else -v + 0.0 for v in shown],
        "customdata": None if sign > 0 else shown,
        "line": {"width": 0.6 if axis.is_sparse else 0, "color": "var(--bg)"},  # outlines of many points would hide the areas
        "fillcolor": fill,
        "fillpattern": {"shape": hatch, "fgcolor": fill, "bgcolor": "var(--bg)", "size": 5, "solidity": 0.5, "fillmode": "replace"} if hatch else None,
    }  # fmt: skip


def note(text: str, **place: Any) -> dict[str, Any]:
    """Return small words at a place, without an arrow."""
    return {"text": text, "showarrow": False, "font": {"size": 11, "color": INK2}, **place}


def level(y: float, *, dash: str = "solid", colour: str = INK2) -> dict[str, Any]:
    """Return a level line across the chart."""
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "y0": y,
        "y1": y,
        "line": {"color": colour, "width": 1, "dash": dash},
    }
