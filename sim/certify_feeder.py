"""The feeder of a run as power-grid-model takes it, built from ``buses``, ``branches`` and ``agents`` alone.

Ids count buses, then branches, then the source, then the meters.  A figure that is none is refused here:
power-grid-model would take a NaN for its own default.

Where a meter stands on a single phase, or a line is told conductor by conductor (table ``conductors``), all three phases are
calculated, with the zero sequence of every line.  A conductor that a line lacks is carried along by itself, without a current.

References
----------
.. [1] power-grid-model, "Components", https://power-grid-model.readthedocs.io
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.certify_evidence import Evidence, Wrong

__all__ = ["GridModel", "described", "grid_model"]


@dataclass(slots=True)
class GridModel:
    """The feeder as power-grid-model takes it, with the order of the tables' ids."""

    buses: list[str]
    branches: list[str]
    kinds: list[str]
    """line, asym_line or transformer: the component of each branch."""
    agents: list[str]
    phases: list[str]
    """Of each agent."""
    three_phase: bool
    bus_phases: list[str]
    """Conductors that arrive at each bus."""
    branch_phases: list[str]
    """Conductors of each branch."""
    rated: NDArray[np.float64]
    """Of each branch and phase: A of a line, VA of a transformer."""
    input_data: dict[Any, Any]
    load_ids: NDArray[np.int32]
    source_id: int
    source_bus: str


def grid_model(evidence: Evidence) -> GridModel:
    """Build the input of power-grid-model."""
    static = described(evidence)
    buses = static.all(f"SELECT bus_id, v_nominal_v, is_source, source_v_pu, source_short_circuit_va, source_rx_ratio FROM {static.table('buses')} ORDER BY bus_id")  # fmt: skip
    node = {row[0]: k for k, row in enumerate(buses)}
    sources = [row for row in buses if row[2]]
    if len(sources) != 1:
        raise Wrong(f"table buses has {len(sources)} sources, expected 1")
    columns = "branch_id kind in_service from_bus to_bus r1_ohm x1_ohm c1_nf r0_ohm x0_ohm c0_nf rating_a sn_kva v_from_v v_to_v uk_percent pk_kw i0_percent p0_kw clock tap_side tap_position tap_step_percent"
    branches = [
        dict(zip(columns.split(), row, strict=True))
        for row in static.all(f"SELECT {', '.join(columns.split())} FROM {static.table('branches')} ORDER BY branch_id")
    ]
    for branch in branches:
        for end in ("from_bus", "to_bus"):
            if branch[end] not in node:
                raise Wrong(f"table branches: branch_id {branch['branch_id']}: {end} {branch[end]} is no bus")
    told = static.all(f"SELECT agent_id, bus_id, phase FROM {static.table('agents')} WHERE bus_id <> ''")
    places, phase_of = {row[0]: row[1] for row in told}, {row[0]: row[2] for row in told}
    pairs = _conductors(static, branches)
    agents = [row[0] for row in evidence.all(f"SELECT DISTINCT agent_id FROM {evidence.table('meters')} ORDER BY 1")]
    for agent in agents:
        if places.get(agent) not in node:
            raise Wrong(f"table agents: agent_id {agent} stands at {places.get(agent)}, which is no bus")
    phases = [str(phase_of[agent]) for agent in agents]
    at = [node[places[agent]] for agent in agents]
    return _arrays(buses, branches, pairs, agents, at, phases, node, sources[0])


def _conductors(static: Evidence, branches: list[dict[str, Any]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return what is told of the conductors of a line, by the line and the pair, such as "ba"."""
    lines = {branch["branch_id"] for branch in branches if branch["kind"] == "line"}
    pairs: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, phase, other, *figures in static.all(
        f"SELECT branch_id, phase, other_phase, r_ohm, x_ohm, c_nf FROM {static.table('conductors')} ORDER BY ALL"
    ):
        if name not in lines:
            raise Wrong(f"table conductors tells of {name}, which is no line of branches")
        pairs.setdefault(name, {})[phase + other] = (figures[0], figures[1], figures[2])
    for name, told in pairs.items():
        there = sorted({phase for pair in told for phase in pair})
        if set(told) != {first + second for first in there for second in there if second <= first}:
            raise Wrong(f"table conductors: branch_id {name}: it tells {', '.join(told)}, not every pair of {', '.join(there)} once")  # fmt: skip
    return pairs


def described(evidence: Evidence) -> Evidence:
    """Return where feeder and people are described; the unmanaged picture has those of the reference."""
    if evidence.holds("buses"):
        return evidence
    return Evidence(evidence.connection, evidence.folder, "reference", evidence.scenario, evidence.dt_h)


def _arrays(
    buses: list[tuple[Any, ...]],
    branches: list[dict[str, Any]],
    pairs: dict[str, dict[str, tuple[float, float, float]]],
    agents: list[str],
    places: list[int],
    phases: list[str],
    node: dict[str, int],
    source: tuple[Any, ...],
) -> GridModel:
    """Fill power-grid-model's arrays; ids count buses, then branches, then the source, then the meters."""
    from power_grid_model import initialize_array

    n, m = len(buses), len(branches)
    three_phase = bool(pairs) or any(phase != "abc" for phase in phases)
    nodes = initialize_array("input", "node", n)
    nodes["id"], nodes["u_rated"] = range(n), [row[1] for row in buses]
    line, asym_line, trafo = _branches(n, branches, pairs, node, three_phase)
    sources = initialize_array("input", "source", 1)
    sources["id"], sources["node"], sources["status"] = n + m, node[source[0]], 1
    sources["u_ref"], sources["sk"], sources["rx_ratio"] = source[3], source[4], source[5]
    kind = "asym_load" if three_phase else "sym_load"
    loads = initialize_array("input", kind, len(agents))
    loads["id"], loads["node"], loads["status"], loads["type"] = range(n + m + 1, n + m + 1 + len(agents)), places, 1, 0
    loads["p_specified"] = loads["q_specified"] = 0.0
    wanted = ("r1", "x1", "c1", "r0", "x0", "c0") if three_phase else ("r1", "x1", "c1")
    _numbers(
        {"line": line, "transformer": trafo, "source": sources, "node": nodes}, wanted, [b[0] for b in buses], branches
    )
    of_branch = ["".join(phase for phase in "abc" if 2 * phase in pairs[b["branch_id"]]) if b["branch_id"] in pairs else "abc" for b in branches]  # fmt: skip
    parts = {"node": nodes, "line": line, "asym_line": asym_line, "transformer": trafo, "source": sources, kind: loads}
    return GridModel(
        buses=[row[0] for row in buses],
        branches=[b["branch_id"] for b in branches],
        kinds=["asym_line" if b["branch_id"] in pairs else b["kind"] for b in branches],
        agents=agents,
        phases=phases,
        three_phase=three_phase,
        bus_phases=_arriving(n, branches, of_branch, node, node[source[0]]),
        branch_phases=of_branch,
        rated=np.array(
            [
                b["sn_kva"] * 1e3 / 3.0 if b["kind"] == "transformer" else np.nan_to_num(b["rating_a"], nan=np.inf)
                for b in branches
            ]
        ),
        input_data={name: rows for name, rows in parts.items() if len(rows)},
        load_ids=np.asarray(loads["id"]),
        source_id=n + m,
        source_bus=str(source[0]),
    )


def _branches(
    first: int,
    branches: list[dict[str, Any]],
    pairs: dict[str, dict[str, tuple[float, float, float]]],
    node: dict[str, int],
    three_phase: bool,
) -> tuple[Any, Any, Any]:
    """Fill the arrays of lines, of lines told conductor by conductor, and of transformers; ids count from ``first``."""
    from power_grid_model import initialize_array

    lines = [(first + k, b) for k, b in enumerate(branches) if b["kind"] == "line" and b["branch_id"] not in pairs]
    told = [(first + k, b) for k, b in enumerate(branches) if b["branch_id"] in pairs]
    trafos = [(first + k, b) for k, b in enumerate(branches) if b["kind"] == "transformer"]
    if len(lines) + len(told) + len(trafos) < len(branches):
        odd = next(b for b in branches if b["kind"] not in {"line", "transformer"})
        raise Wrong(f"table branches: branch_id {odd['branch_id']}: kind {odd['kind']} is neither line nor transformer")
    line = initialize_array("input", "line", len(lines))
    asym_line = initialize_array("input", "asym_line", len(told))
    trafo = initialize_array("input", "transformer", len(trafos))
    for array, rows in ((line, lines), (asym_line, told), (trafo, trafos)):
        array["id"] = [k for k, _ in rows]
        array["from_node"], array["to_node"] = (
            [node[b["from_bus"]] for _, b in rows],
            [node[b["to_bus"]] for _, b in rows],
        )
        array["from_status"] = array["to_status"] = [b["in_service"] for _, b in rows]
    for name, column, factor in (
        ("r1", "r1_ohm", 1.0),
        ("x1", "x1_ohm", 1.0),
        ("c1", "c1_nf", 1e-9),
        ("i_n", "rating_a", 1.0),
    ):
        line[name] = [b[column] * factor for _, b in lines]
    line["i_n"] = np.where(np.isnan(line["i_n"]), np.inf, line["i_n"])  # no rating is known
    line["tan1"] = 0.0
    if three_phase:
        line["r0"], line["x0"], line["tan0"] = [b["r0_ohm"] for _, b in lines], [b["x0_ohm"] for _, b in lines], 0.0
        line["c0"] = [(b["c1_nf"] if np.isnan(b["c0_nf"]) else b["c0_nf"]) * 1e-9 for _, b in lines]
    for k, (_, b) in enumerate(told):
        _matrix(asym_line, k, b, pairs[b["branch_id"]])
    for name, column, factor in (
        ("u1", "v_from_v", 1.0), ("u2", "v_to_v", 1.0), ("sn", "sn_kva", 1e3), ("uk", "uk_percent", 1e-2), ("pk", "pk_kw", 1e3),
        ("i0", "i0_percent", 1e-2), ("p0", "p0_kw", 1e3), ("clock", "clock", 1),
    ):  # fmt: skip
        trafo[name] = [b[column] * factor for _, b in trafos]
    for k, (_, b) in enumerate(trafos):
        _tap(trafo, k, b)
    return line, asym_line, trafo


def _matrix(array: Any, k: int, branch: dict[str, Any], told: dict[str, tuple[float, float, float]]) -> None:
    """Set a line that is told conductor by conductor; one that is lacking stands alone with one ohm."""
    array["i_n"][k] = np.nan_to_num(branch["rating_a"], nan=np.inf)
    for first in "abc":
        for second in "abc"[: "abc".index(first) + 1]:
            lacking = (1.0 if first == second else 0.0, 0.0, 0.0)
            r, x, c = told.get(first + second, lacking)
            array[f"r_{first}{second}"][k], array[f"x_{first}{second}"][k] = r, x
            array[f"c_{first}{second}"][k] = c * 1e-9


def _arriving(
    n: int, branches: list[dict[str, Any]], of_branch: list[str], node: dict[str, int], source: int
) -> list[str]:
    """Return the conductors that arrive at each bus, walking from the source."""
    touching: dict[int, list[tuple[int, str]]] = {}
    for branch, phases in zip(branches, of_branch, strict=True):
        if branch["in_service"]:
            a, b = node[branch["from_bus"]], node[branch["to_bus"]]
            touching.setdefault(a, []).append((b, phases))
            touching.setdefault(b, []).append((a, phases))
    found, walk = {source: "abc"}, [source]
    for bus in walk:
        for other, phases in touching.get(bus, []):
            if other not in found:
                found[other] = phases
                walk.append(other)
    return [found.get(bus, "") for bus in range(n)]


def _tap(array: Any, k: int, branch: dict[str, Any]) -> None:
    """Set the tap of one transformer; the tables count positions from the neutral one."""
    from_side = branch["tap_side"] != "to"
    rated = branch["v_from_v"] if from_side else branch["v_to_v"]
    position = 0 if np.isnan(branch["tap_position"]) else round(branch["tap_position"])
    step = 0.0 if np.isnan(branch["tap_step_percent"]) else branch["tap_step_percent"]
    reach = max(abs(position), 1)
    array["tap_side"][k], array["tap_pos"][k], array["tap_nom"][k] = 0 if from_side else 1, position, 0
    array["tap_min"][k], array["tap_max"][k] = -reach, reach
    array["tap_size"][k] = 0.0 if not branch["tap_side"] else step / 100.0 * rated
    odd = int(branch["clock"]) % 2
    array["winding_from"][k], array["winding_to"][k] = (2, 1) if odd else (1, 1)  # a delta turns by odd clock numbers


def _numbers(
    arrays: dict[str, Any], of_line: tuple[str, ...], buses: list[str], branches: list[dict[str, Any]]
) -> None:
    """Refuse a feeder with a figure that is none: power-grid-model would take a NaN for its own default."""
    wanted = {
        "node": ("u_rated",),
        "line": of_line,
        "transformer": ("u1", "u2", "sn", "uk", "pk", "i0", "p0"),
        "source": ("u_ref", "sk", "rx_ratio"),
    }
    for component, names in wanted.items():
        for name in names:
            bad = np.flatnonzero(~np.isfinite(arrays[component][name]))
            if bad.size:
                number = int(arrays[component]["id"][bad[0]])
                who = (
                    buses[number]
                    if number < len(buses)
                    else (branches[number - len(buses)]["branch_id"] if component != "source" else "source")
                )
                raise Wrong(f"the {component} {who} has no figure for {name}")
