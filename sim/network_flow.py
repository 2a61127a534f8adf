"""``commonwatt network flow``: the AC power flow of a case's operating points, what breaks a limit, and what the referee says.

Voltages, loadings, losses and the power of the source come from :mod:`network.acflow`; with ``referee`` all of it is calculated
again by power-grid-model (:mod:`network.referee`), or by OpenDSS where the feeder has what that does not know
(:mod:`network.referee_choice`), and the largest differences are told.  An operating point that does not
converge is a finding of its own: it has no voltages, and never counts as safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from network.acflow import Flow
from network.feeder import Feeder
from network.grid import HeldLoads
from network.held import refuse_held
from network.referee import check
from network.referee_choice import OPENDSS, POWER_GRID_MODEL, instead, not_asked, opendss_flow
from sim.network_case_prepared import Prepared

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AGREES_PU", "NetworkFlow", "Refereed", "Violation", "flow", "violations_of"]

VOLTAGE_TOLERANCE_PU = 1e-6
LOADING_TOLERANCE_PERCENT = 1e-4
AGREES_PU = 1e-6
"""Largest difference of a voltage at which the referee agrees."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One limit of one element that is broken, in its worst interval."""

    kind: str
    """"over_voltage", "under_voltage", "overload", or "not_converged" of the whole feeder."""
    element: str
    """Id of the bus or branch, or the feeder's name."""
    phase: str
    """"a", "b", "c", or "abc" where the phases are alike."""
    intervals: int
    """In how many intervals it is broken."""
    worst_interval: int
    value: float
    """Voltage in p.u. or loading in %, in that interval; NaN where there is none."""
    limit: float


@dataclass(frozen=True, slots=True)
class Refereed:
    """The largest differences from the referee, over all operating points."""

    voltage_pu: float
    loading_percent: float
    loss_kw: float
    """Of a single branch. [kW]"""
    source_kw: float
    agrees: bool
    """Whether both converged in the same intervals, and no voltage differs by more than 1e-6 pu."""
    by: str = POWER_GRID_MODEL
    """Who the referee is."""
    not_asked: str = ""
    """Why power-grid-model was not asked; "" where it was."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkFlow:
    """What the feeder does in T intervals."""

    prepared: Prepared
    flow: Flow
    violations: tuple[Violation, ...]
    referee: Refereed | None

    @property
    def status(self) -> str:
        """One of "ok", "violations", "not_converged", and "disagrees" where the referee says otherwise."""
        if not self.flow.converged.all():
            return "not_converged"
        if self.referee is not None and not self.referee.agrees:
            return "disagrees"
        return "violations" if self.violations else "ok"

    def to_frame(self) -> pd.DataFrame:
        """Return the voltages as a table: bus, phase, interval, voltage."""
        import pandas as pd

        nodes, steps = self.prepared.model.nodes, len(self.prepared.times)
        ids = self.prepared.feeder.buses.ids
        return pd.DataFrame(
            {
                "time": np.tile(self.prepared.times, len(nodes.phase)),
                "bus_id": np.repeat([ids[k] for k in nodes.element], steps),
                "phase": np.repeat(nodes.phase, steps),
                "v_pu": self.flow.v_pu.ravel(),
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        ready, found = self.prepared, self.flow
        feeder, nodes, wires = ready.feeder, ready.model.nodes, ready.model.wires
        watched = _watched(ready)
        lowest, highest, loading = (
            _of_rows(found.v_pu, np.min),
            _of_rows(found.v_pu, np.max),
            _of_rows(found.loading_percent, np.max),
        )
        return {
            "case": ready.case.name,
            "feeder": feeder.name,
            "provenance": ready.grid.provenance,
            "licence": ready.grid.licence,
            "three_phase": ready.model.three_phase,
            "customers": len(ready.ids),
            "intervals": len(ready.times),
            "status": self.status,
            "converged": int(found.converged.sum()),
            "iterations": found.iterations,
            "times": [f"{one}Z" for one in ready.times],
            "load_kw": (-ready.base_injection_kw).sum(axis=0).tolist(),
            "load_kvar": (-ready.base_injection_kvar).sum(axis=0).tolist(),
            **({} if ready.model.held is None else {"held_loads": _held(ready.model.held, feeder)}),
            "source_kw": found.source_kw.tolist(),
            "source_kvar": found.source_kvar.tolist(),
            "loss_kw": found.loss_kw.sum(axis=0).tolist(),
            "buses": [
                {"bus_id": feeder.buses.ids[bus], "phase": phase, "v_min_pu": low, "v_max_pu": high,
                 "monitored": bool(watched[bus])}
                for bus, phase, low, high in zip(nodes.element, nodes.phase, lowest, highest, strict=True)
            ],
            "branches": [
                {"branch_id": feeder.branches.ids[branch], "phase": phase, "loading_max_percent": most}
                for branch, phase, most in zip(wires.element, wires.phase, loading, strict=True)
            ],
            "violations": [asdict(one) for one in self.violations],
            "referee": None if self.referee is None else asdict(self.referee),
        }  # fmt: skip


def _of_rows(values: NDArray[np.float64], least_or_most: Any) -> list[float]:
    """Return the least or the most of every row; NaN where one interval has none, for it is not known then."""
    found: list[float] = least_or_most(values, axis=1).tolist()
    return found


def _held(held: HeldLoads, feeder: Feeder) -> list[dict[str, Any]]:
    """Return the loads of constant current or between phases, at nominal voltage."""
    columns = (held.id, held.bus, held.phases, held.kw.tolist(), held.kvar.tolist(), held.exponent)
    return [
        {"id": name, "bus_id": feeder.buses.ids[bus], "phases": phases, "kw": kw, "kvar": kvar, "constant": "current" if follows else "power"}
        for name, bus, phases, kw, kvar, follows in zip(*columns, strict=True)
    ]  # fmt: skip


def _watched(ready: Prepared) -> NDArray[np.bool_]:
    monitored = ready.limits.monitored
    return np.ones(ready.feeder.n_bus, dtype=bool) if monitored is None else monitored


def flow(ready: Prepared, *, referee: bool = False) -> NetworkFlow:
    """Calculate the operating points of a case.

    Parameters
    ----------
    ready
        The case as arrays.
    referee
        Whether power-grid-model, or OpenDSS where that does not know the feeder, calculates them too.
    """
    found = ready.model.solve(ready.base_injection_kw, ready.base_injection_kvar, ready.source_v_pu)
    return NetworkFlow(ready, found, tuple(violations_of(ready, found)), _refereed(ready, found) if referee else None)


def violations_of(ready: Prepared, found: Flow) -> Iterator[Violation]:
    """Yield every limit that is broken, worst first within a kind."""
    feeder, nodes, wires, limits = ready.feeder, ready.model.nodes, ready.model.wires, ready.limits
    failed = np.flatnonzero(~found.converged)
    if failed.size:
        yield Violation("not_converged", feeder.name, "abc", failed.size, int(failed[0]), float("nan"), float("nan"))
    watched = _watched(ready)[nodes.element]
    high, low = (np.broadcast_to(bound, feeder.n_bus)[nodes.element] for bound in (limits.v_max_pu, limits.v_min_pu))
    most = np.broadcast_to(limits.loading_max_percent, feeder.n_branch)[wires.element]
    v = np.where(watched[:, None], found.v_pu, np.nan)
    buses = [feeder.buses.ids[k] for k in nodes.element]
    branches = [feeder.branches.ids[k] for k in wires.element]
    for kind, value, limit, tolerance, sign, names, phases in (
        ("over_voltage", v, high, VOLTAGE_TOLERANCE_PU, 1.0, buses, nodes.phase),
        ("under_voltage", v, low, VOLTAGE_TOLERANCE_PU, -1.0, buses, nodes.phase),
        ("overload", found.loading_percent, most, LOADING_TOLERANCE_PERCENT, 1.0, branches, wires.phase),
    ):
        beyond = sign * (value - limit[:, None])
        broken = beyond > tolerance
        worst = np.where(broken, beyond, -np.inf).max(axis=1, initial=-np.inf)
        for row in np.argsort(-worst, kind="stable"):
            if not broken[row].any():
                break
            t = int(np.where(broken[row], beyond[row], -np.inf).argmax())
            count = int(broken[row].sum())
            yield Violation(kind, names[row], phases[row], count, t, float(value[row, t]), float(limit[row]))


def _refereed(ready: Prepared, ours: Flow) -> Refereed:
    model = ready.model
    refuse_held(model.held, "the referee's opinion")
    p, q, source = ready.base_injection_kw, ready.base_injection_kvar, ready.source_v_pu
    if lacking := instead(model):
        theirs = opendss_flow(model, p, q, source, ours)
    else:
        theirs = check(model.feeder, model.connection_bus, -p, -q, source, model.connection_phase)
    both = ours.converged & theirs.converged

    def apart(name: str) -> float:
        difference = np.abs(getattr(ours, name) - getattr(theirs, name))[..., both]
        known = difference[~np.isnan(difference)]
        return float(known.max()) if known.size else float("nan")

    voltage = apart("v_pu")
    alike = bool((ours.converged == theirs.converged).all()) and both.any()
    return Refereed(
        voltage, apart("loading_percent"), apart("loss_kw"), apart("source_kw"), bool(alike and voltage <= AGREES_PU),
        OPENDSS if lacking else POWER_GRID_MODEL, not_asked(lacking),
    )  # fmt: skip
