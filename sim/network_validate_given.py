"""What is validated: the envelopes of a network case (computed, or from a table), or those of a run with what its meters did."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.compliance import Compliance, compliance
from network.envelope import Envelope, Limits
from network.reactive import VoltVar
from sim.network_case import NetworkCase
from sim.network_case_prepared import Prepared
from sim.network_envelopes import envelopes, reactive_of
from sim.results import Run
from sim.run_feeder import feeder_of
from sim.scenario_file import ScenarioError, read
from sim.scenario_mistakes import nearest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Given", "of_case", "of_run"]

METHOD_WORDS = {
    "corrected": "",
    "linear": ", by linear DistFlow, not corrected by AC",
    "cone": ", by the cone programme",
}
"""What is said of a method where envelopes are named."""

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Text = NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """Envelopes of c customers in T intervals, and all that is needed to try them."""

    name: str
    case: NetworkCase
    """The case; of a run one with all defaults."""
    model: Model
    ids: tuple[str, ...]
    limits: Limits
    import_limit_kw: Vector
    """inf for a customer without an envelope.  Shape (c, T). [kW]"""
    export_limit_kw: Vector
    firm_charge_kw: Vector
    base_injection_kw: Vector
    base_injection_kvar: Vector
    source_v_pu: Vector | float | None
    import_cap_kw: Vector | None
    """What each could use.  Shape (c,). [kW]"""
    export_cap_kw: Vector | None
    promised: Mask
    """Intervals with a feasible envelope.  Shape (T,)."""
    infeasible_by: Text
    """The element that is beyond its limit without any use; "" where all is well.  Shape (T,)."""
    times: NDArray[np.datetime64]
    interval_h: float
    origin: str
    """Where the envelopes come from, for people."""
    mode: str
    rule: str
    dispatch_injection_kw: Vector | None = None
    """What a run's meters did.  Shape (c, T). [kW]"""
    compliance: Compliance | None = None
    """Whether they stayed inside."""
    deterministic: Envelope | None = None
    """The envelope of the same rule that looks at two corners only, for comparison; None where this is it."""
    earlier_import_kw: Vector | None = None
    """An earlier issue.  Shape (c, T). [kW]"""
    earlier_export_kw: Vector | None = None
    kvar_per_kw: Vector | None = None
    """Reactive injection for each kW of those with an envelope.  Shape (c,). [kvar/kW]"""
    free_kvar: Vector | None = None
    """Free reactive power.  Shape (c,). [kvar]"""
    curve: VoltVar | None = None
    """Reactive power that follows the voltage."""
    refused: Mask | None = None
    """Intervals whose envelope the cone programme refuses.  Shape (T,)."""


def of_case(ready: Prepared) -> Given:
    """Return the envelopes of a case: from its table, or computed."""
    case, spec = ready.case, ready.case.validation
    found = envelopes(ready).envelope if spec.file is None else None
    plain = None
    if found is None or found.mode != "deterministic":
        plain = envelopes(ready, two_corners=True).envelope
    if found is not None:
        imports, exports, firm = found.import_limit_kw, found.export_limit_kw, found.firm_charge_kw
        promised, by = np.asarray(found.status == "ok"), found.infeasible_by
        origin, mode, rule = (
            f"computed: {found.mode.replace('_', ' ')}, {found.rule.replace('_', ' ')}{METHOD_WORDS[found.method]}",
            found.mode,
            found.rule,
        )
    else:
        assert spec.file is not None
        imports, exports, firm = _of_table(ready, case.file(spec.file), spec.file, case.place("validation", "file"))
        promised, by = np.ones(len(ready.times), dtype=bool), np.full(len(ready.times), "")
        origin, mode, rule = f"read from {Path(spec.file).name}", "", ""
    c = len(ready.ids)
    power = reactive_of(ready)
    kvar = ready.base_injection_kvar
    if power.tan_phi is not None or power.curve is not None:  # then nothing is as forecast for those with an envelope
        kvar = np.where(ready.active[:, None], 0.0, kvar)
    return Given(
        name=case.name,
        case=case,
        model=ready.model,
        ids=ready.ids,
        limits=ready.limits,
        import_limit_kw=imports,
        export_limit_kw=exports,
        firm_charge_kw=firm,
        base_injection_kw=ready.base_injection_kw,
        base_injection_kvar=kvar,
        source_v_pu=ready.source_v_pu,
        import_cap_kw=ready.import_cap_kw,
        export_cap_kw=ready.export_cap_kw,
        promised=promised,
        infeasible_by=by,
        times=ready.times,
        interval_h=ready.dt_h,
        origin=origin,
        mode=mode,
        rule=rule,
        deterministic=plain,
        kvar_per_kw=None if power.tan_phi is None else np.full(c, float(np.asarray(power.tan_phi))),
        free_kvar=np.full(c, float(np.asarray(power.free_kvar))),
        curve=power.curve,
        refused=None if found is None else np.asarray(found.status == "refused"),
    )


def _of_table(ready: Prepared, path: Path, name: str, place: str) -> tuple[Vector, Vector, Vector]:
    """Read envelopes from CSV; whoever is not in it has none."""
    from network.message_table import read_envelopes

    issue = read_envelopes(path)[-1]
    at, shape = {one: k for k, one in enumerate(ready.ids)}, (len(ready.ids), len(ready.times))
    mistakes = [
        f'{place}: {name} has an envelope for "{one}", who is no customer; {nearest(one, ready.ids)}'
        for one in issue.agent_id
        if one not in at
    ]
    if len(issue.times) != shape[1]:
        mistakes.append(
            f"{place}: {name} has {len(issue.times)} interval(s), the case has {shape[1]}. Set time.intervals to that, or give a "
            f"table of as many."
        )
    if mistakes:
        raise ScenarioError(mistakes)
    imports, exports = np.full(shape, np.inf), np.full(shape, np.inf)
    rows = [at[one] for one in issue.agent_id]
    imports[rows], exports[rows] = issue.import_limit_kw, issue.export_limit_kw
    return imports, exports, np.zeros(shape)


def of_run(path: Path, case: NetworkCase) -> Given:
    """Return the envelopes in force in a run, and what its meters did inside them."""
    run = Run(path)
    grid = read(path / "scenario.yaml").data.get("grid") or {}
    built = feeder_of(run)
    meters = run.query("SELECT time, agent_id, meter_kw, meter_kvar FROM meters ORDER BY agent_id, time")
    times = np.unique(_moments(meters, "time"))
    shape = (len(built.agents), len(times))
    meter, kvar = (meters.column(name).to_numpy().reshape(shape) for name in ("meter_kw", "meter_kvar"))
    now, earlier = _issues(run, built.agents, times)
    wanted = _before(run, built.agents, times, meter)
    source = _source(run, times)
    hours = float(run.manifest["interval_minutes"]) / 60.0
    return Given(
        name=path.name,
        case=case,
        model=built.model,
        ids=built.agents,
        limits=Limits(
            float(grid.get("v_min_pu", 0.9)), float(grid.get("v_max_pu", 1.1)), float(grid.get("loading_max_percent", 100.0)),
            built.monitored,
        ),
        import_limit_kw=now[0],
        export_limit_kw=now[1],
        firm_charge_kw=now[2],
        base_injection_kw=-meter,
        base_injection_kvar=-kvar,
        source_v_pu=source,
        import_cap_kw=None,
        export_cap_kw=_export_caps(run, built.agents),
        promised=np.ones(len(times), dtype=bool),
        infeasible_by=np.full(len(times), ""),
        times=times,
        interval_h=hours,
        origin=f"in force in the run {path.name}",
        mode="",
        rule="",
        dispatch_injection_kw=-meter,
        compliance=compliance(meter, wanted, now[0], now[1], now[2], hours),
        earlier_import_kw=None if earlier is None else earlier[0],
        earlier_export_kw=None if earlier is None else earlier[1],
    )  # fmt: skip


def _issues(
    run: Run, agents: tuple[str, ...], times: NDArray[np.datetime64]
) -> tuple[tuple[Vector, Vector, Vector], tuple[Vector, Vector] | None]:
    """Return the limits in force (import, export, firm), and those of the first issue where there were several."""
    rows = run.query(
        "SELECT issued_at, time, agent_id, import_limit_kw, export_limit_kw, firm_charge_kw FROM envelopes ORDER BY issued_at"
    )
    at = {name: k for k, name in enumerate(agents)}
    issued, when = _moments(rows, "issued_at"), _moments(rows, "time")
    who = np.array([at[one] for one in rows.column("agent_id").to_pylist()], dtype=np.intp)
    step = np.searchsorted(times, when)
    binding = issued <= when  # an issue binds only if it was announced before
    shape = (len(agents), len(times))
    now = (np.full(shape, np.inf), np.full(shape, np.inf), np.zeros(shape))
    first = (np.full(shape, np.inf), np.full(shape, np.inf))
    columns = [rows.column(name).to_numpy() for name in ("import_limit_kw", "export_limit_kw", "firm_charge_kw")]
    for table, column in zip(now, columns, strict=True):
        table[who[binding], step[binding]] = column[binding]  # the latest stays
    for table, column in zip(first, columns, strict=False):
        table[who[binding][::-1], step[binding][::-1]] = column[binding][::-1]
    several = len(np.unique(issued)) > len(np.unique(when.astype("datetime64[D]"))) and bool(
        (first[0] != now[0]).any() or (first[1] != now[1]).any()
    )
    return now, first if several else None


def _before(run: Run, agents: tuple[str, ...], times: NDArray[np.datetime64], meter: Vector) -> Vector:
    """Return the meters of the same people without envelopes and without sharing; of others what this run's read."""
    before = meter.copy()
    if (run.path / "unmanaged" / "meters.parquet").is_file():
        rows = run.table("meters", "unmanaged")
        at = {name: k for k, name in enumerate(agents)}
        step = np.searchsorted(times, _moments(rows, "time"))
        before[[at[one] for one in rows.column("agent_id").to_pylist()], step] = rows.column("meter_kw").to_numpy()
    return before


def _moments(table: pa.Table, name: str) -> NDArray[np.datetime64]:
    """Return a column of times, UTC."""
    return np.asarray(table.column(name).to_numpy().astype("datetime64[s]"))


def _export_caps(run: Run, agents: tuple[str, ...]) -> Vector:
    """Return what each could feed in: its solar plant and its battery, or the shared storage.  Shape (c,). [kW]"""
    told = run.query("SELECT agent_id, coalesce(pv_kw_peak, 0) + coalesce(battery_discharge_kw, 0) AS kw FROM agents UNION ALL SELECT ess_id, discharge_kw FROM ess").to_pydict()  # fmt: skip
    most: dict[str, float] = {}
    for name, kw in zip(told["agent_id"], told["kw"], strict=True):
        most[name] = max(most.get(name, 0.0), float(np.nan_to_num(kw)))
    return np.array([most.get(name, 0.0) for name in agents])


def _source(run: Run, times: NDArray[np.datetime64]) -> Vector | None:
    rows = run.query("SELECT value FROM series WHERE series_id = 'source_voltage' ORDER BY time").to_pydict()["value"]
    return np.array(rows, dtype=np.float64) if len(rows) == len(times) else None
