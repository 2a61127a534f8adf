"""Storage, grid and envelopes: what stands in these sections of a report, ready for the template."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sim import sentences as say
from sim.number_format import energy, money, number, percent, power, share, voltage
from sim.report_charts import HELD_BACK_PERCENT, Charts, held_back
from sim.report_data import WORLD_NAMES, Grid, Story
from sim.report_grid import Extremes, Limits
from sim.report_held import Held
from sim.report_money import Figure
from sim.report_sections import Table

__all__ = ["envelope_section", "grid_section", "storage_section"]


def storage_section(story: Story, drawn: Charts) -> dict[str, Any] | None:
    """Return whose energy is in the shared storage and what it earns; None without one."""
    box, currency, who = story.storage, story.currency, story.members
    if box is None:
        return None
    cycles, rented = _known(story.figure("ess_cycles"), box.cycles), box.rented_share
    answer = say.storage_answer(box.margin, cycles, rented, box.tenants, box.postings, currency)
    rows = [(name, money(value, currency, signed=True)) for name, value in box.postings.items()]
    details = [
        f"{energy(box.loss_kwh)} lost in conversion",
        f"{energy(box.netting_gain_kwh)} saved because opposite flows of holders cancel",
    ]
    if box.firm_kwh > 0:
        details.append(f"{energy(box.firm_kwh)} promised to the grid as firm charge")
    tenants = np.flatnonzero(who.space_kwh > 0.005)
    ordered = sorted(tenants, key=lambda k: -who.space_kwh[k])
    rights = [(who.agent_id[k], number(who.space_kwh[k], 1), number(who.power_kw[k], 1)) for k in ordered]
    return {
        "answer": answer,
        "says": say.plain(answer),
        "legend": [
            ("", "store", f"{number(box.tenants)} tenants", ""),
            ("", "store-t", "operator", ""),
            ("dots", "ink2", "rented out", ""),
        ],
        "table": Table(
            ("Operator’s account", "Amount"),
            [*rows, ("Margin", money(box.margin, currency))],
            (1,),
            "; ".join(details).capitalize() + ".",
        ),
        "waterfall_height": max(drawn.height("waterfall"), 270),
        "has_rights": "rights" in drawn.figures,
        "rights_words": f"{percent(rented)} of {energy(box.usable_kwh)} and {percent(share(float(box.rented_kw.mean()), box.power_kw))} of {power(box.power_kw)}",
        "rights_table": Table(("Tenant", "Space, kWh", "Power, kW"), rights, (1, 2)),
    }


def _known(figure: Figure, otherwise: float) -> float:
    return figure.value if math.isfinite(figure.value) else otherwise


MOST_HELD = 60
"""Of more, those who gave up most."""
GIVES_WAY = {
    "pv_battery_flexible": "solar, then the battery, then cars and heat pumps",
    "battery_pv_flexible": "the battery, then solar, then cars and heat pumps",
}
HELD_BY = {"envelope": "the envelope", "default": "the default, without a message", "ramp": "a limit on its way"}


def grid_section(story: Story, drawn: Charts) -> dict[str, Any] | None:
    """Return whether the grid held; None where nothing was computed of it."""
    grid = story.grid
    if grid is None:
        return None
    clock, run = story.clock, grid.extremes["run"]
    answer = say.grid_answer(
        story.outcome,
        clock,
        run.v_max_pu,
        run.v_min_pu,
        (grid.limits.v_min_pu, grid.limits.v_max_pu),
        run.line_max_percent,
        run.transformer_max_percent,
        _broken(grid.extremes["unmanaged"], grid.limits) if "unmanaged" in grid.extremes else (),
    )
    styles = (("line", "peer"), ("dots", "ink2"), ("dots", "limit-i"))
    keys = []
    for world, (shape, colour) in zip(grid.worlds, styles, strict=False):
        source = grid.source_kw[world]
        keys.append(
            (
                shape,
                colour,
                f"{WORLD_NAMES[world].lower()}:",
                f"{power(max(np.nanmax(source), 0.0))} in, {power(max(-np.nanmin(source), 0.0))} out at most",
            )
        )
    low, high = (grid.limits.v_min_pu - 1) * 100, (grid.limits.v_max_pu - 1) * 100
    return {
        "answer": answer,
        "says": say.plain(answer),
        "low": f"{number(low, signed=True)}\u00a0%",
        "high": f"{number(high, signed=True)}\u00a0%",
        "has_coordinates": grid.feeder.has_coordinates,
        "has_transformer": bool(grid.feeder.transformer_ids),
        "distance_words": "" if grid.feeder.distance_unit == "m" else ", counted in branches",
        "step": clock.interval(1),
        "failed": any(b.failed.any() for b in grid.breaches.values()),
        "has_calendar": "calendar" in drawn.figures,
        "duration_legend": keys,
        "table": _extremes_table(story, grid),
    }


def _broken(worst: Extremes, limit: Limits) -> tuple[str, ...]:
    """Return what left its limits, and how far."""
    found = [
        (
            worst.transformer_max_percent > limit.loading_max_percent,
            f"the transformer reached {percent(worst.transformer_max_percent)}",
        ),
        (worst.line_max_percent > limit.loading_max_percent, f"a line reached {percent(worst.line_max_percent)}"),
        (worst.v_max_pu > limit.v_max_pu, f"the voltage reached {voltage(worst.v_max_pu)}"),
        (worst.v_min_pu < limit.v_min_pu, f"the voltage fell to {voltage(worst.v_min_pu)}"),
    ]
    return tuple(words for is_broken, words in found if is_broken)


def _extremes_table(story: Story, grid: Grid) -> Table:
    clock = story.clock
    names = [WORLD_NAMES[w] for w in grid.worlds]
    extreme = [grid.extremes[w] for w in grid.worlds]

    def place(bus: str, slot: int) -> str:
        return f"{bus}, {clock.moment(slot)}"

    source = [grid.source_kw[w] for w in grid.worlds]
    rows = [
        ("Highest voltage", *(f"{voltage(e.v_max_pu)}\n{place(e.v_max_bus, e.v_max_slot)}" for e in extreme)),
        ("Lowest voltage", *(f"{voltage(e.v_min_pu)}\n{place(e.v_min_bus, e.v_min_slot)}" for e in extreme)),
        ("Heaviest line", *(percent(e.line_max_percent) for e in extreme)),
        ("Transformer", *(percent(e.transformer_max_percent) for e in extreme)),
        ("Highest import", *(power(max(float(np.nanmax(p)), 0.0)) for p in source)),
        ("Highest export", *(power(max(float(-np.nanmin(p)), 0.0)) for p in source)),
        (
            f"{clock.interval(2).capitalize()} outside limits",
            *(number(int(grid.breaches[w].outside.sum())) for w in grid.worlds),
        ),
        (
            f"{clock.interval(2).capitalize()} without a power flow",
            *(number(int(grid.breaches[w].failed.sum())) for w in grid.worlds),
        ),
    ]
    return Table(("", *names), rows, tuple(range(1, len(names) + 1)))


def envelope_section(story: Story) -> dict[str, Any]:
    """Return what the envelopes allowed and took."""
    who, lost = story.members, held_back(story)
    with_solar = int(who.has_solar.sum())
    answer = say.envelope_answer(
        len(lost),
        with_solar,
        float(who.curtailed_percent.max()) if who.n else 0.0,
        float(who.curtailed_kwh.sum()),
        story.outcome.unmanaged_outside,
        story.clock,
    )
    spared = with_solar - len(lost)
    note = []
    if math.isfinite(story.curtailed_by_envelopes) and story.curtailed_by_envelopes < 0.995:
        note.append(
            f"{percent(100 * story.curtailed_by_envelopes)} of the curtailed energy was given up for envelopes, the rest because feeding in cost money."
        )
    if story.envelope_breaches:
        note.append(
            f"{'Once' if story.envelope_breaches == 1 else number(story.envelope_breaches) + ' times'} a meter left its envelope: load that nobody controls is served."
        )
    else:
        note.append(f"Every meter stayed inside its envelope in all {number(story.clock.steps)} intervals.")
    if story.has_bands:
        note.append(
            "Each envelope is a band around what was cleared at locational prices: what these made a home give up is held by it too. Who was counted on and drew less than cleared left less room."
        )
    note.append("What else could have been done inside the envelopes, the command commonwatt network validate tries.")
    return {
        "answer": answer,
        "has_bars": story.has_envelopes and lost.size > 0,
        "nothing_lost": f"{number(spared)} home{'s' if spared != 1 else ''} lost less than {number(HELD_BACK_PERCENT, 2)} %",
        "note": " ".join(note),
        "held": _held_table(story.held),
        "table": Table(("Member", "kWp", "Available, kWh", "Given up, kWh", "Share"), [
            (who.agent_id[k], number(who.pv_kw_peak[k], 1), number(who.available_kwh[k], 1), number(who.curtailed_kwh[k], 1), percent(who.curtailed_percent[k]))
            for k in lost
        ], (1, 2, 3, 4)),
    }  # fmt: skip


def _held_table(rows: list[Held]) -> Table | None:
    """Return the table of the report; None where nobody was held."""
    if not rows:
        return None
    cells = []
    for row in rows[:MOST_HELD]:
        word, _, side = row.cause.partition("_")
        cells.append(
            (
                row.agent_id,
                HELD_BY.get(word, word),
                side,
                number(row.intervals),
                number(row.clipped_kwh, 1),
                number(row.battery_kwh, 1, signed=True),
                number(row.deferred_kwh, 1),
            )
        )
    more = f" The {MOST_HELD} who gave up most, of {number(len(rows))} rows; `enforcement` has all." if len(rows) > MOST_HELD else ""  # fmt: skip
    return Table(
        (
            "Member",
            "Held by",
            "Direction",
            "Intervals",
            "Solar turned down, kWh",
            "Battery, kWh",
            "Load held back, kWh",
        ),
        cells,
        (3, 4, 5, 6),
        f"What gives way first: {rows[0].rule} ({GIVES_WAY.get(rows[0].rule, 'docs/simulation.md')}). Battery: taken more or given less (+), taken less or given more (−).{more}",
    )
