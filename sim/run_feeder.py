"""The feeder of a finished run, built from its tables: buses, branches, conductors, and who is connected where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.elements import LINE_NUMBERS, TRANSFORMER_NUMBERS, Branches, Buses
from network.feeder import Feeder
from sim.results import Run

__all__ = ["RunFeeder", "feeder_of"]

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class RunFeeder:
    """A feeder with the meters of a run."""

    model: Model

    agents: tuple[str, ...]
    """Who has a meter, in the order of the model's connections."""

    monitored: NDArray[np.bool_]
    """Buses whose voltage is limited.  Shape (n_bus,)."""


def feeder_of(run: Run) -> RunFeeder:
    """Build the feeder of a run."""
    buses, branches = run.table("buses").to_pydict(), run.table("branches").to_pydict()
    ids = [str(one) for one in buses["bus_id"]]
    at = {name: k for k, name in enumerate(ids)}
    source = buses["is_source"].index(True)
    names = [str(one) for one in branches["branch_id"]]
    phases, z, c = _conductors(run, names)
    numbers: dict[str, Any] = {
        name: np.array([np.nan if one is None else one for one in branches[name]], dtype=np.float64)
        for name in (*LINE_NUMBERS, *TRANSFORMER_NUMBERS)
        if name in branches
    }
    numbers["rating_a"] = np.where(np.isnan(numbers["rating_a"]), np.inf, numbers["rating_a"])
    numbers.setdefault("length_m", np.full(len(names), np.nan))
    columns: dict[str, Any] = {one: np.array(buses[one], dtype=np.float64) for one in ("v_nominal_v", "x", "y")}
    feeder = Feeder(
        name="run",
        buses=Buses(tuple(ids), **columns),
        branches=Branches(
            ids=tuple(names),
            kind=tuple(branches["kind"]),
            from_bus=np.array([at[one] for one in branches["from_bus"]], dtype=np.intp),
            to_bus=np.array([at[one] for one in branches["to_bus"]], dtype=np.intp),
            in_service=np.array(branches["in_service"], dtype=bool),
            tap_side=tuple(one or "" for one in branches["tap_side"]),
            phases=phases,
            z_abc_ohm=z,
            c_abc_nf=c,
            **numbers,
        ),
        source_bus=source,
        source_v_pu=float(buses["source_v_pu"][source]),
        source_short_circuit_va=float(buses["source_short_circuit_va"][source]),
        source_rx_ratio=float(buses["source_rx_ratio"][source]),
    )
    agents = run.query("SELECT DISTINCT agent_id FROM meters ORDER BY agent_id").to_pydict()["agent_id"]
    told = run.table("agents").to_pydict()
    place = {name: k for k, name in enumerate(told["agent_id"])}
    bus = [at[str(told["bus_id"][place[one]])] for one in agents]
    phase = [str(told["phase"][place[one]]) for one in agents]
    return RunFeeder(Model(feeder, bus, phase), tuple(agents), np.array(buses["is_monitored"], dtype=bool))


def _conductors(run: Run, names: list[str]) -> tuple[tuple[str, ...], NDArray[np.complex128], NDArray[np.float64]]:
    """Return the conductors of every branch, and the matrices of those that are told one by one."""
    told = run.table("conductors").to_pydict() if "conductors" in run.tables else {"branch_id": []}
    at = {name: k for k, name in enumerate(names)}
    z = np.full((len(names), 3, 3), np.nan, dtype=np.complex128)
    c = np.full((len(names), 3, 3), np.nan)
    phases = ["abc"] * len(names)
    for name in set(told["branch_id"]):
        phases[at[name]] = ""
    for k, name in enumerate(told["branch_id"]):
        row, first, other = at[name], *("abc".index(told[one][k]) for one in ("phase", "other_phase"))
        z[row, first, other] = z[row, other, first] = complex(told["r_ohm"][k], told["x_ohm"][k])
        c[row, first, other] = c[row, other, first] = told["c_nf"][k]
        if first == other:
            phases[row] = "".join(sorted(phases[row] + "abc"[first]))
    return tuple(phases), z, c
