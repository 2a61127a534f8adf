"""The feeder as the report draws it: where its buses stand, what they carried, when they left their limits.

Where a feeder is told phase by phase, its charts show the phase that is furthest from nominal or most loaded, and the table names it.

A feeder that hangs on one transformer is drawn from its low-voltage busbar downwards: the bus above has limits of its
own and is left out.  Buses without coordinates are laid out as a tree, and the page says so.  Distances follow the
wires: metres where the tables have lengths or coordinates, else the count of branches.

NaN is asked for with ``isfinite``: the statistics of a Parquet column leave NaN out, and DuckDB takes ``isnan`` and
comparisons for decided by them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.report_tables import RunTables, find_key

__all__ = ["Breaches", "Extremes", "FeederMap", "Limits", "breaches", "extremes", "feeder_map", "limits", "loading_of", "loading_window", "source_power", "voltage_window"]  # fmt: skip

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

_GRID_KINDS = ("over_voltage", "under_voltage", "overload")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the DSO must keep."""

    v_min_pu: float
    v_max_pu: float
    loading_max_percent: float


@dataclass(frozen=True, slots=True, eq=False)
class FeederMap:
    """``b`` drawn buses and the ``m`` branches between them, the root first."""

    bus_id: tuple[str, ...]
    x_m: Vector
    y_m: Vector
    distance: Vector
    """Along the wires from the root. Shape (b,). [m] or [branches], see ``distance_unit``."""
    distance_unit: str
    feeder: Index
    """Which of the root's outgoing wires a bus hangs on, from 0; the root has 0 too. Shape (b,)."""
    order: Index
    """Buses by feeder, then by distance. Shape (b,)."""
    branch_id: tuple[str, ...]
    branch_from: Index
    branch_to: Index
    transformer_ids: tuple[str, ...]
    """Transformers between the source and the root; () where the source is drawn itself."""
    has_coordinates: bool

    @property
    def n_bus(self) -> int:
        return len(self.bus_id)


@dataclass(frozen=True, slots=True, eq=False)
class Breaches:
    """When the wires of one world left their limits."""

    outside: NDArray[np.bool_]
    """A voltage or a loading outside its limits. Shape (T,)."""
    failed: NDArray[np.bool_]
    """The AC power flow has no result. Shape (T,)."""


@dataclass(frozen=True, slots=True)
class Extremes:
    """The worst of one world, with its place and interval."""

    v_max_pu: float
    v_max_bus: str
    v_max_slot: int
    v_min_pu: float
    v_min_bus: str
    v_min_slot: int
    line_max_percent: float
    transformer_max_percent: float
    worst_slot: int
    """The interval that comes nearest to a limit or leaves it furthest."""


def limits(tables: RunTables) -> Limits:
    """Return the limits the scenario declares (0.90 to 1.10 pu and 100 % where it does not)."""

    def declared(key: str, default: float) -> float:
        found = find_key(tables.scenario, key)
        return default if found is None else float(found)

    return Limits(declared("v_min_pu", 0.9), declared("v_max_pu", 1.1), declared("loading_max_percent", 100.0))


def feeder_map(tables: RunTables) -> FeederMap | None:
    """Return the picture of the feeder; None where the run has no buses or branches."""
    if not (tables.any("run", "buses") and tables.any("run", "branches")):
        return None
    buses = tables.columns("SELECT bus_id, is_source, x, y FROM run.buses ORDER BY bus_id")
    has_length = tables.has("run", "branches", "length_m")
    branches = tables.columns(
        f"SELECT branch_id, kind, from_bus, to_bus, {'length_m' if has_length else 'NULL::DOUBLE AS length_m'} "
        "FROM run.branches WHERE in_service ORDER BY branch_id"
    )
    ids = [str(bus) for bus in buses["bus_id"]]
    number = {bus: k for k, bus in enumerate(ids)}
    ends = [(number[str(a)], number[str(b)]) for a, b in zip(branches["from_bus"], branches["to_bus"], strict=True)]
    kinds = [str(kind) for kind in branches["kind"]]
    source = int(np.argmax(buses["is_source"].astype(bool)))

    at_source = [k for k, pair in enumerate(ends) if source in pair]
    is_fed_by_transformer = bool(at_source) and all(kinds[k] == "transformer" for k in at_source)
    below = {ends[k][1] if ends[k][0] == source else ends[k][0] for k in at_source}
    drops_source = is_fed_by_transformer and len(below) == 1
    root = below.pop() if drops_source else source

    parent_branch, order = _walk(len(ids), ends, root, forbidden=source if drops_source else -1)
    parent = {bus: ends[k][0] + ends[k][1] - bus for bus, k in parent_branch.items()}
    x, y, has_coordinates = _places(buses["x"].astype(float), buses["y"].astype(float), order, parent)
    length, unit = _lengths(branches["length_m"].astype(float), ends, parent_branch, x, y, has_coordinates)
    distance = np.zeros(len(ids))
    feeder = np.zeros(len(ids), dtype=np.intp)
    outgoing = [bus for bus in order if parent.get(bus) == root]
    for bus in order[1:]:
        distance[bus] = distance[parent[bus]] + length[parent_branch[bus]]
        feeder[bus] = outgoing.index(bus) if parent[bus] == root else feeder[parent[bus]]

    drawn = np.array(order, dtype=np.intp)
    place = {int(bus): k for k, bus in enumerate(drawn)}
    kept = sorted(parent_branch.values())
    rows = sorted(range(len(drawn)), key=lambda k: (k != 0, feeder[drawn[k]], distance[drawn[k]]))
    return FeederMap(
        bus_id=tuple(ids[bus] for bus in order),
        x_m=x[drawn],
        y_m=y[drawn],
        distance=distance[drawn],
        distance_unit=unit,
        feeder=feeder[drawn],
        order=np.array(rows, dtype=np.intp),
        branch_id=tuple(str(branches["branch_id"][k]) for k in kept),
        branch_from=np.array([place[ends[k][0]] for k in kept], dtype=np.intp),
        branch_to=np.array([place[ends[k][1]] for k in kept], dtype=np.intp),
        transformer_ids=tuple(str(branches["branch_id"][k]) for k in at_source) if drops_source else (),
        has_coordinates=has_coordinates,
    )


def _walk(n: int, ends: list[tuple[int, int]], root: int, forbidden: int) -> tuple[dict[int, int], list[int]]:
    """Return the branch that feeds each bus, and the buses from the root outwards."""
    touching: list[list[int]] = [[] for _ in range(n)]
    for k, (a, b) in enumerate(ends):
        touching[a].append(k)
        touching[b].append(k)
    fed_by: dict[int, int] = {}
    order = [root]
    seen = {root, forbidden}
    for bus in order:
        for k in touching[bus]:
            other = ends[k][0] + ends[k][1] - bus
            if other not in seen:
                seen.add(other)
                fed_by[other] = k
                order.append(other)
    return fed_by, order


def _places(x: Vector, y: Vector, order: list[int], parent: dict[int, int]) -> tuple[Vector, Vector, bool]:
    """Return metres from the root; a tree drawn by hand where coordinates are missing or all alike."""
    root, drawn = order[0], np.array(order)
    known = np.isfinite(x[drawn]).all() and np.isfinite(y[drawn]).all()
    if known and (np.ptp(x[drawn]) > 0 or np.ptp(y[drawn]) > 0 or len(order) == 1):
        is_degrees = bool((np.abs(x[drawn]) <= 180).all() and (np.abs(y[drawn]) <= 90).all() and np.ptp(x[drawn]) < 5)
        m_per_y = 110_540.0 if is_degrees else 1.0
        m_per_x = 111_320.0 * np.cos(np.deg2rad(y[drawn].mean())) if is_degrees else 1.0
        return (x - x[root]) * m_per_x, (y - y[root]) * m_per_y, True
    return *_tree_layout(len(x), order, parent), False


def _tree_layout(n: int, order: list[int], parent: dict[int, int]) -> tuple[Vector, Vector]:
    """Leaves side by side, every bus above the middle of what it feeds, one step down a branch."""
    children: dict[int, list[int]] = {}
    for bus in order[1:]:
        children.setdefault(parent[bus], []).append(bus)
    x, y = np.zeros(n), np.zeros(n)
    column = 0
    stack = [order[0]]
    while stack:  # depth first, so that the leaves of a branch stand together
        bus = stack.pop()
        y[bus] = y[parent[bus]] - 1.0 if bus in parent else 0.0
        if bus not in children:
            x[bus] = column
            column += 1
        stack.extend(reversed(children.get(bus, [])))
    for bus in reversed(order):
        if bus in children:
            x[bus] = float(np.mean([x[child] for child in children[bus]]))
    return x, y


def _lengths(
    length_m: Vector, ends: list[tuple[int, int]], fed_by: dict[int, int], x: Vector, y: Vector, has_coordinates: bool
) -> tuple[Vector, str]:
    """Length of every branch and its unit: declared metres, else straight metres, else one a branch."""
    used = list(fed_by.values())
    declared = length_m[used]
    if declared.size and np.isfinite(declared).any():
        return np.nan_to_num(length_m), "m"
    if has_coordinates:
        return np.array([np.hypot(x[a] - x[b], y[a] - y[b]) for a, b in ends]), "m"
    return np.ones(len(ends)), "branches"


def breaches(tables: RunTables, world: str) -> Breaches:
    """Return when the voltages or loadings of a world were outside, and when there is no power flow."""
    steps = tables.clock.steps
    outside, failed = np.zeros(steps, dtype=bool), np.zeros(steps, dtype=bool)
    if tables.has(world, "violations"):
        kinds = ", ".join(f"'{kind}'" for kind in _GRID_KINDS)
        for slot, is_failure in tables.rows(
            f"SELECT DISTINCT slot(time), kind = 'not_converged' FROM {world}.violations "
            f"WHERE kind IN ({kinds}, 'not_converged')"
        ):
            if 0 <= slot < steps:
                (failed if is_failure else outside)[slot] = True
    if tables.has(world, "bus_voltages"):
        for (slot,) in tables.rows(
            f"SELECT slot(time) FROM {world}.bus_voltages GROUP BY 1 HAVING bool_or(v_pu IS NULL OR NOT isfinite(v_pu))"
        ):
            if 0 <= slot < steps:
                failed[slot] = True
    return Breaches(outside, failed)


def extremes(tables: RunTables, world: str, feeder: FeederMap, limit: Limits) -> Extremes | None:
    """Return the highest and lowest voltage where voltages are limited, and the heaviest loadings of a world."""
    if not tables.any(world, "bus_voltages"):
        return None
    limited = (
        {str(row[0]) for row in tables.rows("SELECT bus_id FROM run.buses WHERE is_monitored")}
        if tables.has("run", "buses", "is_monitored")
        else set()
    )
    drawn = ", ".join(f"'{_quoted(bus)}'" for bus in feeder.bus_id if not limited or bus in limited)
    named = "CASE WHEN phase = 'abc' THEN bus_id ELSE bus_id || ' (phase ' || phase || ')' END"
    (high, high_bus, high_slot, low, low_bus, low_slot) = tables.rows(
        f"SELECT max(v_pu), arg_max({named}, v_pu), slot(arg_max(time, v_pu)), "
        f"min(v_pu), arg_min({named}, v_pu), slot(arg_min(time, v_pu)) "
        f"FROM {world}.bus_voltages WHERE bus_id IN ({drawn}) AND isfinite(v_pu)"
    )[0]
    if high is None:
        return None
    loads = {
        str(kind): (float(value), int(slot))
        for kind, value, slot in tables.rows(
            f"SELECT kind, max(loading_percent), slot(arg_max(time, loading_percent)) FROM {world}.branch_flows "
            "JOIN run.branches USING (branch_id) WHERE isfinite(loading_percent) GROUP BY kind"
        )
    }
    line, transformer = (loads.get(kind, (float("nan"), 0)) for kind in ("line", "transformer"))
    half_band = (limit.v_max_pu - limit.v_min_pu) / 2
    strain = [  # how much of the way to its limit, or beyond it
        (1 + (high - limit.v_max_pu) / half_band, high_slot),
        (1 + (limit.v_min_pu - low) / half_band, low_slot),
        (line[0] / limit.loading_max_percent, line[1]),
        (transformer[0] / limit.loading_max_percent, transformer[1]),
    ]
    worst = max((pair for pair in strain if np.isfinite(pair[0])), key=lambda pair: pair[0])
    return Extremes(high, str(high_bus), high_slot, low, str(low_bus), low_slot, line[0], transformer[0], worst[1])


def source_power(tables: RunTables, world: str) -> Vector | None:
    """Return the power that enters the feeder from above, NaN where there is no result. Shape (T,). [kW]"""
    if not tables.any(world, "branch_flows"):
        return None
    return tables.series(
        f"SELECT slot(f.time) AS t, sum(CASE WHEN b.from_bus = s.bus_id THEN f.p_kw ELSE f.loss_kw - f.p_kw END) AS p "
        f"FROM {world}.branch_flows f JOIN run.branches b USING (branch_id), (SELECT bus_id FROM run.buses WHERE is_source) s "
        f"WHERE b.from_bus = s.bus_id OR b.to_bus = s.bus_id GROUP BY 1",
        fill=np.nan,
    )["p"]


def voltage_window(tables: RunTables, world: str, feeder: FeederMap, start: int, steps: int) -> Vector:
    """Return voltages of the drawn buses, the phase furthest from nominal. Shape (b, steps). [pu]"""
    found = tables.columns(
        f"SELECT slot(time) AS t, bus_id, arg_max(v_pu, abs(v_pu - 1)) AS v FROM {world}.bus_voltages "
        f"WHERE slot(time) BETWEEN {start} AND {start + steps - 1} GROUP BY 1, 2"
    )
    return _scatter(found, "bus_id", feeder.bus_id, "v", start, steps)


def loading_window(tables: RunTables, world: str, feeder: FeederMap, start: int, steps: int) -> Vector:
    """Return loadings of the drawn branches, the heaviest phase. Shape (m, steps). [%]"""
    found = tables.columns(
        f"SELECT slot(time) AS t, branch_id, max(loading_percent) AS v FROM {world}.branch_flows "
        f"WHERE slot(time) BETWEEN {start} AND {start + steps - 1} GROUP BY 1, 2"
    )
    return _scatter(found, "branch_id", feeder.branch_id, "v", start, steps)


def loading_of(tables: RunTables, world: str, branch_ids: tuple[str, ...], start: int, steps: int) -> Vector:
    """Return the heaviest loading among some branches, NaN without any. Shape (1, steps). [%]"""
    if not branch_ids:
        return np.full((1, steps), np.nan)
    listed = ", ".join(f"'{_quoted(branch)}'" for branch in branch_ids)
    found = tables.columns(
        f"SELECT slot(time) AS t, 'all' AS who, max(loading_percent) AS v FROM {world}.branch_flows "
        f"WHERE branch_id IN ({listed}) AND slot(time) BETWEEN {start} AND {start + steps - 1} GROUP BY 1"
    )
    return _scatter(found, "who", ("all",), "v", start, steps)


def _scatter(
    found: dict[str, NDArray[np.generic]], key: str, names: tuple[str, ...], value: str, start: int, steps: int
) -> Vector:
    place = {name: k for k, name in enumerate(names)}
    whole = np.full((len(names), steps), np.nan)
    row = np.array([place.get(str(name), -1) for name in found[key]], dtype=np.intp)
    column = found["t"].astype(np.intp) - start
    kept = row >= 0
    whole[row[kept], column[kept]] = found[value].astype(float)[kept]
    return whole


def _quoted(text: str) -> str:
    return text.replace("'", "''")
