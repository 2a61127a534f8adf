"""A page about a network: sections with pictures and tables, one HTML file that needs nothing else.

The look is that of a run's report (``templates/report.css``, :mod:`sim.palette`).  plotly.js and the figures are inside,
compressed; texts are escaped by the template.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sim import palette
from sim.report import TEMPLATES, packed

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Picture", "Section", "TableOf", "render"]


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table of a section."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: Sequence[int] = ()
    note: str = ""
    open: bool = True
    bad: Sequence[str] = ()
    """Cells that are bad news."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of a section."""

    name: str
    title: str
    sub: str
    says: str
    drawn: go.Figure
    keys: Sequence[tuple[str, str, str]] = ()

    @property
    def height(self) -> int:
        """[px]"""
        return int(self.drawn.layout.height)


@dataclass(frozen=True, slots=True)
class Section:
    """A question, its answer, its pictures and tables."""

    id: str
    title: str
    rail: str
    short: str
    answer: str
    figures: Sequence[Picture] = field(default_factory=tuple)
    tables: Sequence[TableOf] = field(default_factory=tuple)


def render(context: dict[str, Any], sections: Sequence[Section]) -> str:
    """Return the page."""
    import jinja2
    from plotly.offline import get_plotlyjs

    figures = {one.name: json.loads(one.drawn.to_json()) for section in sections for one in section.figures}
    blob = json.dumps(figures, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("network.html.j2").render(
        **context,
        sections=sections,
        palette=palette.css(),
        css=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        js=(TEMPLATES / "network.js").read_text(encoding="utf-8"),
        plotly=packed(get_plotlyjs()),
        blob=packed(blob),
    )
