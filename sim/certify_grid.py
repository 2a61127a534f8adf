"""Point 5: the power flow, done again by power-grid-model from the tables alone.

The feeder is built from ``buses`` and ``branches``, the loads from ``meters``; every interval is calculated, in batches.
Voltages, currents, flows and losses must be those of ``bus_voltages`` and ``branch_flows``, the power that enters at the
source must be the sum of the meters and the losses, and what is outside the scenario's limits must stand in
``violations``.  An interval that did not converge is a violation, never a pass.

A feeder with customers on single phases has a row for every phase; each is compared.

References
----------
.. [1] power-grid-model, "Components", https://power-grid-model.readthedocs.io
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.certify_evidence import Evidence, Law, Wrong
from sim.certify_feeder import GridModel, described, grid_model

__all__ = ["power_flow"]

Vector = NDArray[np.float64]

VOLTAGE_PU = 1e-6
"""What the contract of the run folder promises. [pu]"""

KW = 1e-3
"""A watt: what 1e-8 pu of voltage moves through the stiffest branch of a low-voltage feeder. [kW]"""

RELATIVE = 1e-6
"""Currents and loadings, relative; their absolute part is a milliampere and a thousandth of a per cent."""

ABSOLUTE = 1e-3

BATCH = 2_000
"""Intervals in one batch: the outputs of a feeder of a thousand buses then take a hundred megabytes."""


def power_flow(evidence: Evidence) -> str:
    """Recompute every interval and compare."""
    rows = evidence.count("bus_voltages") + evidence.count("branch_flows")
    feeder = grid_model(evidence)
    _phases(evidence, feeder)
    times = [
        row[0] for row in evidence.all(f"SELECT DISTINCT epoch_us(time) FROM {evidence.table('meters')} ORDER BY 1")
    ]
    for first in range(0, len(times), BATCH):
        _compare(evidence, feeder, np.array(times[first : first + BATCH], dtype=np.int64))
    _source(evidence, feeder)
    _violations(evidence)
    return f"power-grid-model agrees in {len(times)} intervals, {rows} voltages and flows; source = meters + losses"


def _phases(evidence: Evidence, feeder: GridModel) -> None:
    """Check that results have the phases that the feeder and its customers ask for."""
    for table, key, names, phases in (
        ("bus_voltages", "bus_id", feeder.buses, feeder.bus_phases),
        ("branch_flows", "branch_id", feeder.branches, feeder.branch_phases),
    ):
        wanted = set(_rows(names, phases)) if feeder.three_phase else {(name, "abc") for name in names}
        told = evidence.all(f"SELECT DISTINCT {key}, phase FROM {evidence.table(table)} ORDER BY ALL")
        odd = [row for row in told if (row[0], row[1]) not in wanted]
        if odd:
            raise Wrong(f"table {table}: {key} {odd[0][0]} has a row of phase {odd[0][1]}, which it has not")


def _rows(names: list[str], phases: list[str]) -> list[tuple[str, str]]:
    """Return the rows of results, in the order in which the tables are read."""
    return [(name, phase) for name, there in zip(names, phases, strict=True) for phase in there]


def _compare(evidence: Evidence, feeder: GridModel, times_us: NDArray[np.int64]) -> None:
    """Calculate one batch of intervals and compare all of it."""
    from power_grid_model import PowerGridModel, initialize_array
    from power_grid_model.errors import PowerGridError  # type: ignore[attr-defined]  # not in its list, but documented

    steps = len(times_us)
    span = (int(times_us[0]), int(times_us[-1]))
    loads = _read(evidence, "meters", "agent_id", feeder.agents, ("meter_kw", "meter_kvar"), span, steps)
    kind = "asym_load" if feeder.three_phase else "sym_load"
    update = initialize_array("update", kind, (steps, len(feeder.agents)))
    update["id"] = feeder.load_ids
    share = np.array([[(one in phase) / len(phase) for one in "abc"] for phase in feeder.phases])
    for name, column in (("p_specified", "meter_kw"), ("q_specified", "meter_kvar")):
        update[name] = (loads[column][:, :, None] * share if feeder.three_phase else loads[column]) * 1e3
    updates: dict[Any, Any] = {kind: update}
    voltage = _source_voltage(evidence, span, steps)
    if voltage is not None:
        source = initialize_array("update", "source", (steps, 1))
        source["id"], source["u_ref"] = feeder.source_id, voltage[:, None]
        updates["source"] = source
    try:
        model = PowerGridModel(feeder.input_data)
        result: Any = model.calculate_power_flow(
            update_data=updates,
            symmetric=not feeder.three_phase,
            error_tolerance=1e-10,
            max_iterations=50,
            continue_on_batch_error=True,
        )
    except PowerGridError as error:
        raise Wrong(f"power-grid-model cannot calculate this feeder: {' '.join(str(error).split())}") from error
    failed = np.zeros(0, dtype=np.intp) if model.batch_error is None else np.asarray(model.batch_error.failed_scenarios)
    ok = np.setdiff1d(np.arange(steps), failed)
    _agree(evidence, feeder, result, times_us, ok, span)
    for k in failed.tolist():
        _told_not_converged(evidence, int(times_us[k]))


def _agree(
    evidence: Evidence,
    feeder: GridModel,
    result: Any,
    times_us: NDArray[np.int64],
    ok: NDArray[np.intp],
    span: tuple[int, int],
) -> None:
    """Compare voltages and flows of the intervals that converged."""
    steps = len(times_us)
    if feeder.three_phase:
        _agree_in_phases(evidence, feeder, result, times_us, ok, span)
        return
    stored = _read(evidence, "bus_voltages", "bus_id", feeder.buses, ("v_pu",), span, steps)
    _same(
        "bus_voltages",
        "bus_id",
        feeder.buses,
        "v_pu",
        stored["v_pu"],
        result["node"]["u_pu"],
        times_us,
        ok,
        VOLTAGE_PU,
        0.0,
    )
    columns = ("p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw")
    stored = _read(evidence, "branch_flows", "branch_id", feeder.branches, columns, span, steps)
    for component in ("line", "transformer"):
        which = [k for k, kind in enumerate(feeder.kinds) if kind == component]
        if not which:
            continue
        output, names = result[component], [feeder.branches[k] for k in which]
        for column, given, absolute in (
            ("p_kw", output["p_from"] / 1e3, KW),
            ("q_kvar", output["q_from"] / 1e3, KW),
            ("current_a", output["i_from"], ABSOLUTE),
            ("loading_percent", output["loading"] * 100.0, ABSOLUTE),
            ("loss_kw", (output["p_from"] + output["p_to"]) / 1e3, KW),
        ):
            _same(
                "branch_flows",
                "branch_id",
                names,
                column,
                stored[column][:, which],
                given,
                times_us,
                ok,
                absolute,
                RELATIVE,
            )


def _agree_in_phases(
    evidence: Evidence,
    feeder: GridModel,
    result: Any,
    times_us: NDArray[np.int64],
    ok: NDArray[np.intp],
    span: tuple[int, int],
) -> None:
    """Compare voltages and flows of every phase; results have the shape (steps, elements, 3)."""
    steps = len(times_us)
    there = np.array([[phase in phases for phase in "abc"] for phases in feeder.bus_phases])
    names = [f"{name} phase {phase}" for name, phase in _rows(feeder.buses, feeder.bus_phases)]
    stored = _read(evidence, "bus_voltages", "bus_id, phase", names, ("v_pu",), span, steps)
    found = result["node"]["u_pu"][:, there]
    _same("bus_voltages", "bus_id", names, "v_pu", stored["v_pu"], found, times_us, ok, VOLTAGE_PU, 0.0)
    given = {name: np.full((steps, len(feeder.branches), 3), np.nan) for name in ("p_from", "p_to", "q_from", "i_from", "use")}  # fmt: skip
    for component in sorted(set(feeder.kinds)):
        which = [k for k, kind in enumerate(feeder.kinds) if kind == component]
        output, size = result[component], "s" if component == "transformer" else "i"
        for name in ("p_from", "p_to", "q_from", "i_from"):
            given[name][:, which] = output[name]
        larger = np.maximum(output[f"{size}_from"], output[f"{size}_to"])
        given["use"][:, which] = larger / feeder.rated[which][None, :, None] * 100.0
    there = np.array([[phase in phases for phase in "abc"] for phases in feeder.branch_phases])
    names = [f"{name} phase {phase}" for name, phase in _rows(feeder.branches, feeder.branch_phases)]
    columns = ("p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw")
    stored = _read(evidence, "branch_flows", "branch_id, phase", names, columns, span, steps)
    for column, values, absolute in (
        ("p_kw", given["p_from"] / 1e3, KW),
        ("q_kvar", given["q_from"] / 1e3, KW),
        ("current_a", given["i_from"], ABSOLUTE),
        ("loading_percent", given["use"], ABSOLUTE),
        ("loss_kw", (given["p_from"] + given["p_to"]) / 1e3, KW),
    ):
        seen = values[:, there]
        _same("branch_flows", "branch_id", names, column, stored[column], seen, times_us, ok, absolute, RELATIVE)


def _same(
    table: str,
    key: str,
    names: list[str],
    column: str,
    stored: Vector,
    given: Vector,
    times_us: NDArray[np.int64],
    ok: NDArray[np.intp],
    absolute: float,
    relative: float,
) -> None:
    """Raise with the first cell in which the table and power-grid-model differ; NaN differs."""
    near = np.abs(stored - given) <= absolute + relative * np.abs(given)
    near[np.setdiff1d(np.arange(len(times_us)), ok)] = True
    wrong = np.argwhere(~near)
    if len(wrong):
        t, k = wrong[0].tolist()
        more = f" ({len(wrong)} cells are wrong)" if len(wrong) > 1 else ""
        raise Wrong(
            f"{table}.{column} is what power-grid-model finds: time {_moment(times_us[t])}, {key} {names[k]}: "
            f"{stored[t, k]:.9g}, expected {given[t, k]:.9g}{more}"
        )


def _told_not_converged(evidence: Evidence, time_us: int) -> None:
    """An interval that power-grid-model cannot solve must be told, and hold no voltage."""
    told = evidence.one(
        f"SELECT count(*) FROM {evidence.table('violations')} WHERE kind = 'not_converged' AND epoch_us(time) = {time_us}"
    )
    numbers = evidence.one(
        f"SELECT count(*) FROM {evidence.table('bus_voltages')} WHERE NOT isnan(v_pu) AND epoch_us(time) = {time_us}"
    )
    if not told or numbers:
        raise Wrong(f"time {_moment(time_us)}: the power flow does not converge, and violations does not say so")


def _read(
    evidence: Evidence,
    table: str,
    key: str,
    names: list[str],
    columns: tuple[str, ...],
    span: tuple[int, int],
    steps: int,
) -> dict[str, Vector]:
    """Return columns of a range of intervals as arrays of shape (steps, len(names)), rows by time, columns by id."""
    frame = evidence.connection.execute(
        f"SELECT {', '.join(columns)} FROM {evidence.table(table)} WHERE epoch_us(time) BETWEEN {span[0]} AND {span[1]} ORDER BY time, {key}"
    ).fetchnumpy()
    expected = steps * len(names)
    if len(frame[columns[0]]) != expected:
        raise Wrong(
            f"table {table} has {len(frame[columns[0]])} rows in the intervals from {_moment(span[0])}, expected {expected}"
        )
    return {
        name: np.ma.filled(np.ma.asarray(frame[name], dtype=np.float64), np.nan).reshape(steps, len(names))
        for name in columns
    }


def _source_voltage(evidence: Evidence, span: tuple[int, int], steps: int) -> Vector | None:
    """Return the voltage of the grid above, where the run has it as a series."""
    static = described(evidence)
    rows = static.all(
        f"SELECT value FROM {static.table('series')} WHERE series_id = 'source_voltage' AND epoch_us(time) BETWEEN {span[0]} AND {span[1]} ORDER BY time"
    )
    if not rows:
        return None
    if len(rows) != steps:
        raise Wrong(
            f"series source_voltage has {len(rows)} values in the intervals from {_moment(span[0])}, expected {steps}"
        )
    return np.array([row[0] for row in rows], dtype=np.float64)


def _source(evidence: Evidence, feeder: GridModel) -> None:
    """Check that what enters at the source is what the meters and the losses take."""
    static = described(evidence)
    source = f"""(
        SELECT time, entering + at_source AS source_kw, metered + lost AS taken_kw FROM (
            SELECT f.time, sum(f.loss_kw) AS lost,
                sum(CASE WHEN b.from_bus = $bus THEN f.p_kw WHEN b.to_bus = $bus THEN f.loss_kw - f.p_kw ELSE 0 END) AS entering
            FROM {evidence.table("branch_flows")} f JOIN {static.table("branches")} b USING (branch_id) WHERE NOT isnan(f.p_kw) GROUP BY ALL)
        JOIN (SELECT m.time, sum(m.meter_kw) AS metered, coalesce(sum(m.meter_kw) FILTER (WHERE a.bus_id = $bus), 0) AS at_source
            FROM {evidence.table("meters")} m JOIN {static.table("agents")} a USING (agent_id) GROUP BY ALL) USING (time))"""
    bus = "'" + feeder.source_bus.replace("'", "''") + "'"
    evidence.uphold(
        [
            Law(
                "power at the source = meters + losses",
                source.replace("$bus", bus),
                ("time",),
                "source_kw",
                "taken_kw",
                KW,
            )
        ]
    )


def _violations(evidence: Evidence) -> None:
    """Check that every voltage and loading beyond the scenario's limits stands in violations, and nothing else does."""
    grid, static = evidence.scenario["grid"], described(evidence)
    low, high, most = (float(grid[name]) for name in ("v_min_pu", "v_max_pu", "loading_max_percent"))
    voltages, flows, told = evidence.table("bus_voltages"), evidence.table("branch_flows"), evidence.table("violations")
    monitored = f"bus_id IN (SELECT bus_id FROM {static.table('buses')} WHERE is_monitored)"
    # near the limit itself, rounding decides: a breach below 1e-5 pu or 1e-3 percent may be told or not
    for kind, table, element, beyond, near in (
        (
            "over_voltage",
            voltages,
            "bus_id",
            f"{monitored} AND v_pu > {high + 1e-5!r}",
            f"{monitored} AND v_pu > {high!r}",
        ),
        (
            "under_voltage",
            voltages,
            "bus_id",
            f"{monitored} AND v_pu < {low - 1e-5!r}",
            f"{monitored} AND v_pu < {low!r}",
        ),
        ("overload", flows, "branch_id", f"loading_percent > {most + 1e-3!r}", f"loading_percent > {most!r}"),
    ):
        column = "loading_percent" if kind == "overload" else "v_pu"
        evidence.none_of(
            f"a breach ({kind}) does not stand in violations",
            f"SELECT time, {element} FROM {table} t WHERE {beyond} AND NOT isnan({column}) AND NOT EXISTS "
            f"(SELECT 1 FROM {told} v WHERE v.kind = '{kind}' AND v.time = t.time AND v.element = t.{element} "
            f"AND abs(v.value - t.{column}) <= 1e-6)",
            ("time", element),
        )
        evidence.none_of(
            f"violations tells a breach ({kind}) that is none",
            f"SELECT time, element FROM {told} v WHERE v.kind = '{kind}' AND NOT EXISTS "
            f"(SELECT 1 FROM {table} t WHERE {near} AND t.time = v.time AND t.{element} = v.element AND abs(t.{column} - v.value) <= 1e-6)",
            ("time", "element"),
        )
    evidence.none_of(
        "an interval without voltages does not stand in violations",
        f"SELECT DISTINCT time FROM {voltages} WHERE isnan(v_pu) AND time NOT IN (SELECT time FROM {told} WHERE kind = 'not_converged')",
        ("time",),
    )


def _moment(time_us: Any) -> str:
    """Return a time as a person reads it."""
    return str(np.datetime64(int(time_us), "us").astype("datetime64[s]")) + "Z"
