"""What stands on the page, ready for the template: words, tiles, keys and tables, no numbers left to format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sim import sentences as say
from sim.number_format import DASH, currency_sign, money, number, percent, price
from sim.report_charts import Charts
from sim.report_data import WORLD_NAMES, Story
from sim.report_sections import energy_section, people_section, price_section
from sim.report_tables import RunTables
from sim.report_tiles import tiles
from sim.report_trust import trust_section
from sim.report_wires import envelope_section, grid_section, storage_section
from sim.report_words import words_section

__all__ = ["page"]


def page(story: Story, tables: RunTables, drawn: Charts) -> dict[str, Any]:
    """Return the template's variables."""
    outcome, clock, currency = story.outcome, story.clock, story.currency
    headline = say.headline(outcome, clock, currency)
    return {
        "page_title": f"{say.plain(headline)} – {story.title} – commonwatt",
        "meta": _meta(story, tables),
        "headline": headline,
        "lede": say.lede(outcome, clock, currency),
        "ticks": say.ticks(outcome, clock),
        "tiles": tiles(story),
        "notes": list(drawn.notes),
        "clock": clock,
        "sign": currency_sign(currency),
        "world_names": [WORLD_NAMES[w] for w in story.grid.worlds] if story.grid else [],
        "windows": [w.name for w in drawn.windows],
        "rail": _rail(story),
        "energy": energy_section(story, drawn),
        "price": price_section(story, drawn),
        "people": people_section(story, drawn),
        "storage": storage_section(story, drawn),
        "grid": grid_section(story, drawn),
        "envelopes": envelope_section(story) if story.has_envelopes else None,
        "compared": words_section(tables, currency),
        "trust": trust_section(story),
        "footer": _footer(story, tables),
    }


def _meta(story: Story, tables: RunTables) -> list[str]:
    solar = int(story.members.has_solar.sum())
    count = story.members.n
    words = [
        story.title,
        story.clock.dates(),
        f"{number(count)} member{'s' if count != 1 else ''}, {number(solar)} with solar",
    ]
    source = (tables.scenario.get("grid") or {}).get("source")
    return [*words, str(source)] if source else words


def _rail(story: Story) -> list[tuple[str, str, str]]:
    o, currency = story.outcome, story.currency
    cost = story.figure("mean_trade_price_eur_per_kwh").value
    items = [
        ("top", "The answer", ""),
        ("energy", "Where did the energy go?", f"{percent(story.flows.local_share_of_demand)} of demand met locally"),
        (
            "price",
            "What did it cost, and when?",
            f"{price(cost, currency)} on average" if math.isfinite(cost) else "nothing was traded",
        ),
    ]
    if story.run_bills is not None:
        items.append(("people", "Who wins, who loses?", f"{number(o.winners)} win, {number(o.losers)} lose"))
    if story.storage is not None:
        items.append(("storage", "Does the storage pay?", f"{money(story.storage.margin, currency)} margin"))
    if story.grid is not None:
        before = o.unmanaged_outside if o.unmanaged_outside is not None else o.reference_outside
        items.append(
            (
                "grid",
                "Does the grid hold?",
                f"{number(o.outside or 0)} breaches" + ("" if before is None else f", {number(before)} before"),
            )
        )
    items.append(
        (
            "envelopes",
            "What did the envelopes cost?",
            f"{percent(o.held_back_percent)} of solar" if story.has_envelopes else "none published",
        )
    )
    items.append(("trust", "Can I trust these numbers?", "checks, method, data"))
    return items


def _footer(story: Story, tables: RunTables) -> list[str]:
    """Return where all of this comes from: identity, seed, versions, data and licences."""
    manifest = tables.manifest
    versions = manifest.get("versions") or {}
    first = [
        f"Run {str(manifest.get('content_id', DASH))[:12]}",
        f"seed {manifest.get('seed', tables.scenario.get('seed', DASH))}",
        f"commonwatt {versions.get('commonwatt', DASH)}",
    ]
    if manifest.get("wall_s") is not None:
        first.append(f"wall time {number(float(manifest['wall_s']))}\u00a0s")
    if manifest.get("started_at"):
        first.append(f"made {str(manifest['started_at'])[:10]}")
    lines = [
        " · ".join(first) + ".",
        f"Times are local, {story.clock.zone}; amounts in {currency_sign(story.currency)}, bills positive where a member pays.",
    ]
    if versions:
        lines.append(
            "Made with "
            + ", ".join(f"{name} {value}" for name, value in versions.items() if name != "commonwatt")
            + "."
        )
    return [*lines, *_sources(manifest, str((tables.scenario.get("grid") or {}).get("source", "")))]


def _sources(manifest: dict[str, Any], source: str) -> list[str]:
    """Return data sets and licences; SimBench is named with its licence whatever the manifest says."""
    found = _listed(manifest.get("data"), "Data")
    found += _listed(manifest.get("licences"), "Licences")
    if source.startswith("simbench:") and not any("ODbL" in line or "Open Database" in line for line in found):
        found.append(
            f"Grid and profiles: SimBench {source.removeprefix('simbench:')}, Open Database License (ODbL) 1.0."
        )
    return found


def _listed(value: object, name: str) -> list[str]:
    if isinstance(value, dict):
        words: Sequence[str] = [f"{key}: {item}" for key, item in value.items()]
    elif isinstance(value, list | tuple):
        words = [str(item) for item in value]
    else:
        words = [str(value)] if value else []
    return [f"{name}: {'; '.join(words)}."] if words else []
