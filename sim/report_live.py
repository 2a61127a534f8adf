"""What the page carries along so that its reader can move through the run: voltages, loadings, envelopes, clearings.

Arrays travel as little-endian integers in base64: voltages in 1e-4 pu from nominal, loadings in %, powers in 10 W.  A run
longer than a month carries four named weeks in full detail instead of everything.  What is carried stays under a budget:
a ladder of coarser steps and fewer members is walked down until it fits, and :attr:`Live.notes` says so on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.report_grid import FeederMap, loading_of, loading_window, voltage_window
from sim.report_tables import Clock, RunTables

__all__ = [
    "BUDGET_BYTES",
    "LONGEST_WHOLE",
    "LONG_BUDGET_BYTES",
    "Envelopes",
    "Live",
    "Window",
    "choose_windows",
    "convergence",
    "envelopes",
    "live",
]

Vector = NDArray[np.float64]

BUDGET_BYTES = 3_000_000
"""What figures and carried data may take together before compression."""
LONG_BUDGET_BYTES = 6_000_000
"""The same for a run that is longer than a month, whose figures alone take half of it; the file then has about 4 MB."""
LONGEST_WHOLE = 2976
"""A month of quarter-hours: up to here every interval can be looked at."""
MOST_HISTORIES = 400
"""Clearings whose convergence history is carried; the worst come first."""
NO_VALUE = -32768
"""Stands for NaN in a carried array of 16-bit integers."""
NO_LIMIT = 32767
"""Stands for an infinite limit."""

_LADDER = ((1, 10_000), (2, 10_000), (4, 10_000), (4, 300), (4, 100), (8, 100), (16, 50), (32, 20))
"""(intervals a carried step, members with an envelope chart), finest first."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the run that can be looked at interval by interval."""

    name: str
    start: int
    steps: int


@dataclass(frozen=True, slots=True)
class Live:
    """What goes into the page, and what has to be said about it."""

    data: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Envelopes:
    """Limits in force and what the meters did, of some members; every array has shape (k, steps). [kW]"""

    import_limit_kw: Vector
    export_limit_kw: Vector
    meter_kw: Vector
    wanted_kw: Vector
    """What the meter would have shown had the envelope not held it."""


def choose_windows(clock: Clock, named: Mapping[str, int], typical: int) -> list[Window]:
    """Return the whole run, or the weeks around named intervals and a typical one where it is too long.

    Examples
    --------
    >>> clock = Clock(0, 900, 35_040, "UTC")
    >>> [w.name for w in choose_windows(clock, {"highest voltage": 5000, "dearest": 5100}, 20_000)]
    ['highest voltage, dearest', 'typical week']
    """
    if clock.steps <= LONGEST_WHOLE:
        return [Window(clock.noun, 0, clock.steps)]
    week = round(7 * 24 / clock.dt_h)
    chosen: dict[int, list[str]] = {}
    for name, index in [*named.items(), ("typical week", typical)]:
        start = min(index // week * week, clock.steps - week)
        chosen.setdefault(start, []).append(name)
    return [Window(", ".join(names), start, week) for start, names in chosen.items()]


def envelopes(tables: RunTables, ids: Sequence[str], window: Window) -> Envelopes:
    """Return the limits in force and the meters of some members. Arrays (k, window.steps), NaN where there is no envelope."""
    shape = (len(ids), window.steps)
    imports, exports, meter, wanted = (np.full(shape, np.nan) for _ in range(4))
    row = {name: k for k, name in enumerate(ids)}
    inside = f"slot(time) BETWEEN {window.start} AND {window.start + window.steps - 1}"
    if tables.has("run", "envelopes"):
        _fill(tables.columns(
            f"SELECT slot(time) - {window.start} AS t, agent_id, arg_max(import_limit_kw, issued_at) AS a, "
            f"arg_max(export_limit_kw, issued_at) AS b FROM run.envelopes WHERE {inside} AND issued_at <= time GROUP BY 1, 2"
        ), row, a=imports, b=exports)  # fmt: skip
    held = "CASE WHEN starts_with(cause, 'envelope') THEN curtailed_kw + least(shifted_kw, 0) ELSE 0 END"
    _fill(tables.columns(
        f"SELECT slot(time) - {window.start} AS t, agent_id, meter_kw AS a, meter_kw - {held} AS b FROM run.meters WHERE {inside}"
    ), row, a=meter, b=wanted)  # fmt: skip
    return Envelopes(imports, exports, meter, wanted)


def _fill(found: dict[str, NDArray[Any]], row: Mapping[str, int], **into: Vector) -> None:
    index = np.array([row.get(str(name), -1) for name in found["agent_id"]], dtype=np.intp)
    kept = index >= 0
    column = found["t"].astype(np.intp)[kept]
    for name, whole in into.items():
        whole[index[kept], column] = found[name].astype(float)[kept]


def convergence(tables: RunTables, clock: Clock) -> dict[str, Any]:
    """Return every clearing and the residual history of the worst ones."""
    found = tables.columns(
        f"SELECT clearing_id, stage, (epoch_us(opened_at) / 1e6 - {clock.start_s}) / {clock.step_s} AS slot, converged, iterations, cost_eur - bound_eur AS above "
        "FROM run.clearings ORDER BY opened_at, clearing_id"
    )
    count = len(found["clearing_id"])
    severity = sorted(range(count), key=lambda k: (bool(found["converged"][k]), -int(found["iterations"][k])))
    carried = sorted(severity[:MOST_HISTORIES])
    history: dict[str, list[list[float]]] = {}
    if tables.any("run", "iterations"):
        wanted = {str(found["clearing_id"][k]) for k in carried}
        for name, iteration, primal, dual in tables.rows(
            "SELECT clearing_id, iteration, primal_residual, dual_residual FROM run.iterations ORDER BY clearing_id, iteration"
        ):
            if name in wanted:
                history.setdefault(name, []).append([iteration, _significant(primal), _significant(dual)])
    return {
        "id": [str(v) for v in found["clearing_id"]],
        "stage": [str(v) for v in found["stage"]],
        "slot": [round(float(v), 2) for v in found["slot"]],
        "converged": [bool(v) for v in found["converged"]],
        "iterations": [int(v) for v in found["iterations"]],
        "above": [_significant(v) for v in found["above"]],
        "history": history,
    }


def _significant(value: Any) -> Any:
    """Three digits are more than a log axis shows; NaN is null."""
    return float(f"{float(value):.3g}") if value is not None and np.isfinite(float(value)) else None


def live(
    tables: RunTables,
    feeder: FeederMap | None,
    worlds: Sequence[str],
    windows: Sequence[Window],
    ranked_members: Sequence[str],
    spent_bytes: int,
    budget_bytes: int | None = None,
) -> Live:
    """Return the voltages and loadings of every world and the envelopes of the members, in the finest form that fits.

    Parameters
    ----------
    ranked_members
        Ids, the ones a reader will look at first in front.
    spent_bytes
        What figures and other data take already.
    budget_bytes
        What all may take together; by default as long as the run asks for.
    """
    if budget_bytes is None:
        budget_bytes = BUDGET_BYTES if tables.clock.steps <= LONGEST_WHOLE else LONG_BUDGET_BYTES
    rows = 0 if feeder is None else (2 * feeder.n_bus + len(feeder.branch_id)) * len(worlds)
    steps = sum(window.steps for window in windows)
    for block, most in _LADDER:
        shown = min(len(ranked_members), most)
        coarse = sum(-(-window.steps // block) for window in windows)
        size = 4 / 3 * coarse * (rows + 8 * shown)
        if spent_bytes + size <= budget_bytes or (block, most) == _LADDER[-1]:
            break
    else:  # pragma: no cover - the last rung always breaks
        raise AssertionError
    carried = list(ranked_members[:shown])
    data: dict[str, Any] = {
        "block": block,
        "voltage": [],
        "loading": [],
        "transformer": [],
        "envelope": [],
        "envelope_members": carried,
    }
    for world in worlds if feeder is not None else ():
        assert feeder is not None
        v = [_coarse(voltage_window(tables, world, feeder, w.start, w.steps), block, centre=1.0) for w in windows]
        i = [_coarse(loading_window(tables, world, feeder, w.start, w.steps), block, centre=0.0) for w in windows]
        above = [
            _coarse(loading_of(tables, world, feeder.transformer_ids, w.start, w.steps), block, centre=0.0)
            for w in windows
        ]
        data["transformer"].append([_packed(np.clip(one, 0, 254), "u1") for one in above])
        data["voltage"].append([_packed((one - 1.0) * 1e4, "<i2") for one in v])
        data["loading"].append([_packed(np.clip(one, 0, 254), "u1") for one in i])
    for window in windows:
        some = envelopes(tables, carried, window)
        data["envelope"].append(
            {
                "import": _packed(_coarse(some.import_limit_kw, block, first=True) * 100, "<i2"),
                "export": _packed(_coarse(some.export_limit_kw, block, first=True) * 100, "<i2"),
                "meter": _packed(_mean(some.meter_kw, block) * 100, "<i2"),
                "wanted": _packed(_mean(some.wanted_kw, block) * 100, "<i2"),
            }
        )
    notes = []
    if len(windows) > 1 or steps < tables.clock.steps:
        notes.append(f"Interval by interval only in {len(windows)} weeks: {'; '.join(w.name for w in windows)}.")
    if block > 1:
        minutes = block * tables.clock.step_s // 60
        notes.append(
            f"To keep the file small, the moving charts step by {minutes} minutes and show the worst value of each step."
        )
    if shown < len(ranked_members):
        notes.append(f"The envelope chart holds the {shown} members that were held back most.")
    return Live(data, tuple(notes))


def _blocks(values: Vector, block: int) -> Vector:
    """Return shape (n, blocks, block); a short last block is filled with its last value."""
    short = -values.shape[1] % block
    return np.pad(values, ((0, 0), (0, short)), mode="edge").reshape(values.shape[0], -1, block)


def _coarse(values: Vector, block: int, *, centre: float = 0.0, first: bool = False) -> Vector:
    """Return one value a block: the one furthest from ``centre``, or the first."""
    if block == 1 or values.size == 0:
        return values
    cut = _blocks(values, block)
    if first:
        return cut[:, :, 0]
    far = np.argmax(np.nan_to_num(np.abs(cut - centre), nan=np.inf), axis=2)
    return np.take_along_axis(cut, far[:, :, None], axis=2)[:, :, 0]


def _mean(values: Vector, block: int) -> Vector:
    return values if block == 1 or values.size == 0 else _blocks(values, block).mean(axis=2)


def _packed(values: Vector, dtype: str) -> str:
    """Return whole numbers in base64; NaN and infinity have values of their own."""
    if dtype == "u1":
        whole = np.where(np.isfinite(values), np.rint(values), 255).astype(dtype)
    else:
        finite = np.clip(np.rint(np.where(np.isfinite(values), values, 0.0)), NO_VALUE + 1, NO_LIMIT - 1)
        whole = np.where(np.isnan(values), NO_VALUE, np.where(np.isposinf(values), NO_LIMIT, finite)).astype(dtype)
    return base64.b64encode(np.ascontiguousarray(whole).tobytes()).decode("ascii")
