"""The pictures of one report: which static figures are drawn, and what the page carries for the moving ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim import figures
from sim.figure_base import TimeAxis
from sim.number_format import currency_sign, minor_unit
from sim.report_data import WORLD_NAMES, Grid, Story, tolerances
from sim.report_live import LONGEST_WHOLE, Window, choose_windows, convergence, live
from sim.report_money import GROUPS, LINE_NAMES, Bills, line_group
from sim.report_tables import RunTables

if TYPE_CHECKING:
    import plotly.graph_objects as go

__all__ = ["Charts", "charts", "held_back", "time_axis"]

Vector = NDArray[np.float64]

HELD_BACK_PERCENT = 0.05
"""A home was held back when it gave up more than this share of its solar energy. [%]"""


@dataclass(frozen=True, slots=True)
class Charts:
    """Figures as plotly JSON by name, the carried data, and what has to be said about them."""

    figures: dict[str, Any]
    live: dict[str, Any]
    windows: list[Window]
    notes: tuple[str, ...]
    axis: TimeAxis

    def height(self, name: str) -> int:
        return int(self.figures[name]["layout"]["height"])


def time_axis(story: Story) -> TimeAxis:
    """Return the axis of the time charts: every interval up to a month, hours beyond."""
    clock = story.clock
    days = clock.days()
    labels = tuple(
        f"{at:%a} {at.day}" if clock.steps <= LONGEST_WHOLE else f"{at.day} {at:%b}" for at in map(clock.local, days)
    )
    block = 1 if clock.steps <= LONGEST_WHOLE else max(1, round(1 / clock.dt_h))
    return TimeAxis(clock.steps, tuple(days), labels, block)


def held_back(story: Story) -> NDArray[np.intp]:
    """Return the solar homes that were held back, the hardest first."""
    share = story.members.curtailed_percent
    order = np.argsort(-share, kind="stable")
    return order[share[order] > HELD_BACK_PERCENT]


def charts(story: Story, tables: RunTables) -> Charts:
    """Draw everything the run has."""
    axis = time_axis(story)
    drawn = {name: _json(make()) for name, make in _figures(story, axis).items()}
    windows = _windows(story)
    carried = _carried(story, tables, windows)
    spent = len(json.dumps(drawn, separators=(",", ":"))) + len(json.dumps(carried, separators=(",", ":")))
    ranked = _ranked(story)
    moving = live(
        tables,
        story.grid.feeder if story.grid else None,
        story.grid.worlds if story.grid else (),
        windows,
        ranked,
        spent,
    )
    carried["moving"] = moving.data
    return Charts(drawn, carried, windows, moving.notes, axis)


def _json(figure: go.Figure) -> dict[str, Any]:
    """Return a figure without the template, which a page of its own colours does not need."""
    found: dict[str, Any] = json.loads(figure.to_json())
    found["layout"].pop("template", None)
    return found


def _figures(story: Story, axis: TimeAxis) -> dict[str, Callable[[], go.Figure]]:
    """Return what is to be drawn, by name; a chart without anything to show is left out."""
    clock, who, currency, saving = story.clock, story.members, story.currency, story.saving
    has_bills = bool(np.isfinite(saving).any())
    found: dict[str, Callable[[], go.Figure]] = {}
    if story.flows.demand.any() or story.flows.solar.any():
        found["week"] = lambda: figures.week(axis, story.flows.demand, story.flows.sources, story.flows.uses)
    prices = story.prices
    if prices is not None and prices.local and story.outcome.traded_kwh > 0:
        unit, factor = minor_unit(currency)
        scaled = {name: value * factor for name, value in prices.local.items()}
        charge = None if prices.local_charge is None else prices.local_charge * factor
        found["prices"] = lambda: figures.prices(axis, scaled, prices.buy * factor, prices.sell * factor, charge, unit)
        for name, rent, reserve in (
            ("space", prices.rent_space, prices.reserve_space),
            ("power", prices.rent_power, prices.reserve_power),
        ):
            if np.isfinite(rent).any():
                reserved = np.full(clock.steps, reserve * factor)
                found[f"rent-{name}"] = partial(figures.rents, axis, {"Rent": rent * factor}, reserved, "store", unit)
    if story.parties:
        found["parties"] = lambda: figures.changes(
            [*(p.name for p in story.parties), "Together"],
            np.array([*(p.change for p in story.parties), sum(p.change for p in story.parties)]),
            [*(p.role for p in story.parties), "ink"],
            currency,
        )
    if has_bills and who.n > 1:
        found["members"] = lambda: figures.members(who.agent_id, saving, who.has_solar, currency)
        found["groups"] = lambda: _groups(story)
    box = story.storage
    if box is not None:
        found["storage"] = lambda: figures.storage(
            axis, box.tenants_kwh, box.operator_kwh, box.rented_kwh, box.usable_kwh
        )
        found["waterfall"] = lambda: figures.waterfall(
            list(box.postings), np.array(list(box.postings.values())), "Margin", currency
        )
        tenants = np.flatnonzero(who.space_kwh > 0.005)
        if tenants.size:
            found["rights"] = lambda: figures.rights(
                [who.agent_id[k] for k in tenants], who.space_kwh[tenants], who.power_kw[tenants]
            )
    if story.grid is not None:
        grid = story.grid
        found["duration"] = lambda: figures.duration({WORLD_NAMES[w]: grid.source_kw[w] for w in grid.worlds})
        if clock.steps > LONGEST_WHOLE:
            found["calendar"] = lambda: figures.calendar(
                grid.source_kw["run"], axis.days, axis.labels, round(24 / clock.dt_h), "kW"
            )
    lost = held_back(story)
    if story.has_envelopes and lost.size:
        found["curtailed"] = lambda: figures.curtailed(
            [who.agent_id[k] for k in lost], who.curtailed_percent[lost], who.pv_kw_peak[lost]
        )
    held = story.clearings
    if held.clearing_id:
        found["clearings"] = lambda: figures.clearings(
            axis, held.slot, held.iterations, held.stage, held.converged, held.clearing_id
        )
    return found


def _groups(story: Story) -> go.Figure:
    """Members ordered by group, so that groups stand in their usual order."""
    group = story.members.group()
    order = sorted(range(len(group)), key=lambda k: (GROUPS.index(group[k]), k))
    return figures.groups(
        [story.members.agent_id[k] for k in order],
        story.saving[order],
        [group[k] for k in order],
        story.members.has_solar[order],
        story.currency,
    )


def _windows(story: Story) -> list[Window]:
    clock = story.clock
    if clock.steps <= LONGEST_WHOLE:
        return choose_windows(clock, {}, 0)
    named: dict[str, int] = {}
    if story.grid is not None:
        for world in ("unmanaged", "reference", "run"):
            if world in story.grid.extremes:
                named["worst moment of the grid"] = story.grid.extremes[world].worst_slot
                break
    named["most curtailment"] = int(np.argmax(_weekly(story.flows.uses["curtailed"], clock.dt_h)))
    if story.prices is not None:
        named["dearest"] = int(np.argmax(_weekly(np.nan_to_num(story.prices.buy), clock.dt_h)))
    demand = _weekly(story.flows.demand, clock.dt_h)
    return choose_windows(clock, named, int(np.argmin(np.abs(demand - np.median(demand)))))


def _weekly(values: Vector, dt_h: float) -> Vector:
    """Sum of the week every interval lies in. Shape (T,)."""
    week = round(7 * 24 / dt_h)
    starts = np.arange(0, values.size, week)
    sums = np.add.reduceat(values, starts)
    return np.asarray(np.repeat(sums, np.diff([*starts, values.size])))


def _ranked(story: Story) -> list[str]:
    """Members in the order in which somebody will look at their envelopes."""
    who, saving = story.members, np.nan_to_num(story.saving)
    order = sorted(range(who.n), key=lambda k: (-who.curtailed_percent[k], saving[k]))
    worst = int(np.argmin(saving)) if who.n else 0
    return [who.agent_id[k] for k in [worst, *(k for k in order if k != worst)]]


def _carried(story: Story, tables: RunTables, windows: list[Window]) -> dict[str, Any]:
    """Return everything the page carries besides the moving arrays."""
    clock, who, saving = story.clock, story.members, np.nan_to_num(story.saving)
    order = [int(k) for k in np.argsort(-saving, kind="stable")]
    place = {} if story.grid is None else {bus: k for k, bus in enumerate(story.grid.feeder.bus_id)}
    data: dict[str, Any] = {
        "clock": {"start": clock.start_s, "step": clock.step_s, "steps": clock.steps, "offsets": clock.offsets()},
        "this": clock.this,
        "currency": currency_sign(story.currency),
        "windows": [{"name": w.name, "start": w.start, "steps": w.steps} for w in windows],
        "start": {"t": story.opening_slot, "who": order[-1] if order else 0},
        "order": order,
        "members": {
            "id": list(who.agent_id),
            "text": list(who.description()),
            "bus": [place.get(bus, -1) for bus in who.bus_id],
            "pv": [round(float(v), 1) for v in who.pv_kw_peak],
            "curtailed_kwh": [round(float(v), 1) for v in who.curtailed_kwh],
            "curtailed_percent": [round(float(v), 2) for v in who.curtailed_percent],
        },
        "bill": _bill_data(story),
        "worlds": [WORLD_NAMES[w] for w in story.grid.worlds] if story.grid else ["With sharing"],
        "limits": {"v_min_pu": 0.9, "v_max_pu": 1.1, "loading": 100.0},
        "grid": None,
        "source": [],
        "outside": [],
        "clearings": None,
        "tolerance": None,
    }
    if story.grid is not None:
        data |= _grid_data(story.grid, windows, tables)
    if story.clearings.clearing_id:
        data["clearings"] = convergence(tables, clock)
        hardest = np.lexsort((-story.clearings.iterations, story.clearings.converged))
        data["clearings"]["start"] = int(hardest[0])
        data["tolerance"] = tolerances(tables)
    return data


def _grid_data(grid: Grid, windows: list[Window], tables: RunTables) -> dict[str, Any]:
    f = grid.feeder
    place = {bus: k for k, bus in enumerate(f.bus_id)}
    boxes = [str(row[0]) for row in tables.rows("SELECT bus_id FROM run.ess")] if tables.has("run", "ess") else []

    def rounded(values: Vector, digits: int) -> list[float | None]:
        return [round(float(v), digits) if np.isfinite(v) else None for v in values]

    return {
        "limits": {"v_min_pu": grid.limits.v_min_pu, "v_max_pu": grid.limits.v_max_pu, "loading": grid.limits.loading_max_percent},
        "grid": {
            "bus": list(f.bus_id),
            "x": rounded(f.x_m, 2),
            "y": rounded(f.y_m, 2),
            "distance": rounded(f.distance, 1),
            "unit": f.distance_unit,
            "metres": f.has_coordinates,
            "feeder": [int(v) for v in f.feeder],
            "order": [int(v) for v in f.order],
            "from": [int(v) for v in f.branch_from],
            "to": [int(v) for v in f.branch_to],
            "storage": [place[bus] for bus in boxes if bus in place],
            "below": bool(f.transformer_ids),
        },
        "source": [[rounded(grid.source_kw[w][v.start : v.start + v.steps], 1) for v in windows] for w in grid.worlds],
        "outside": [
            [int(t) for t in np.flatnonzero(grid.breaches[w].outside | grid.breaches[w].failed)] for w in grid.worlds
        ],
    }  # fmt: skip


def _bill_data(story: Story) -> dict[str, Any]:
    """Return every member's bill by line in both worlds. To pay +."""
    n = story.members.n
    nothing = Bills((), np.zeros((0, n)))
    run, reference = story.run_bills or nothing, story.reference_bills or nothing
    names = [*LINE_NAMES, *sorted((set(run.lines) | set(reference.lines)) - set(LINE_NAMES))]
    lines = [name for name in names if run.line(name).any() or reference.line(name).any()]

    def cents(values: Vector) -> list[float]:
        return [round(float(v), 4) + 0.0 for v in values]

    return {
        "lines": [LINE_NAMES.get(name, name.replace("_", " ").capitalize()) for name in lines],
        "groups": [line_group(name) for name in lines],
        "run": [cents(run.line(name)) for name in lines],
        "reference": [cents(reference.line(name)) for name in lines],
        "total": cents(run.total),
        "total_reference": cents(reference.total),
    }
