"""Colours by role, for paper and for the dark: an actor keeps its colour in every chart and document.

A figure names a colour ``"var(--store)"`` and the page decides what it is, so that a change of theme is a redraw and
not another figure.  Fills are told apart by people with every kind of colour vision, in both themes; text and thin
lines use the ``-i`` colours, which stand out from the page.  ``tests/test_report.py`` holds both.
"""

from __future__ import annotations

__all__ = ["DARK", "FILLS", "LIGHT", "TEXTS", "css"]

FILLS = ("solar", "peer", "store", "retail", "feed", "limit")
"""Roles whose areas stand side by side: own solar, neighbours, shared storage, retailer, fed in, limits and losses."""

TEXTS = ("ink", "ink2", "solar-i", "peer-i", "store-i", "retail-i", "limit-i")
"""Colours of text and thin lines."""

LIGHT = {
    "bg": "#FBFAF7", "paper": "#FFFFFF", "ink": "#18212B", "ink2": "#55616E",
    "rule": "#E3E0D9", "grid": "#ECE9E2", "axis": "#B9B6AE", "wash": "#F3F1EB",
    "solar": "#EDA81C", "peer": "#12A594", "store": "#7A3FC4", "retail": "#3F5468", "feed": "#B9C6D2", "limit": "#D03A20",
    "solar-i": "#8A5A00", "peer-i": "#0A6F63", "store-i": "#6A33AE", "retail-i": "#3F5468", "limit-i": "#B02E17",
    "solar-t": "#F8DFA8", "peer-t": "#BFE5E0", "store-t": "#CDB6EC", "retail-t": "#C9D3DC", "limit-t": "#F4CFC6",
    "on-solar": "#18212B", "on-peer": "#06231F", "on-store": "#FFFFFF", "on-retail": "#FFFFFF", "on-feed": "#18212B",
    "v-under": "#0B2E63", "v-low": "#1F6FB5", "v-mid": "#E3E4DE", "v-high": "#E08A2E", "v-over": "#D03A20",
    "line-1": "#CFCBC1", "line-2": "#8D949B", "line-3": "#18212B",
}  # fmt: skip
"""On paper: every custom property of the page."""

DARK = {
    "bg": "#11161B", "paper": "#1A2028", "ink": "#E9EDF1", "ink2": "#A5B0BB",
    "rule": "#2B333C", "grid": "#232A32", "axis": "#4A545F", "wash": "#181E25",
    "solar": "#F6BE3B", "peer": "#33C7B0", "store": "#A77BF3", "retail": "#64798D", "feed": "#3E4E5D", "limit": "#FF6650",
    "solar-i": "#F6BE3B", "peer-i": "#4AD6C0", "store-i": "#BD9BF7", "retail-i": "#A9BACA", "limit-i": "#FF8371",
    "solar-t": "#5E4A1C", "peer-t": "#1C4D47", "store-t": "#4E3B75", "retail-t": "#34424F", "limit-t": "#5A2B24",
    "on-solar": "#18212B", "on-peer": "#06231F", "on-store": "#160A2B", "on-retail": "#FFFFFF", "on-feed": "#E9EDF1",
    "v-under": "#BFE1FF", "v-low": "#3F8FD6", "v-mid": "#46515C", "v-high": "#E09A4A", "v-over": "#FF6650",
    "line-1": "#333C46", "line-2": "#6C7884", "line-3": "#E9EDF1",
}  # fmt: skip
"""In the dark: the same properties."""


def css() -> str:
    """Return the custom properties of both themes; the reader's choice goes before the system's."""
    light, dark = (" ".join(f"--{name}: {value};" for name, value in theme.items()) for theme in (LIGHT, DARK))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
    )
