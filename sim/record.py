"""From the arrays of a delivered day to the rows of the run folder; what the columns mean stands in :mod:`sim.schema`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.dso import Breach
from network.acflow import Flow, Labels, Model
from network.feeder import Branches, Feeder
from sim.community import Community
from sim.daybook import DayBook, Issue, Plan
from sim.rows import blocks

__all__ = ["Append", "day_tables", "enforcement", "feeder_tables", "flow_tables", "meters", "people_table", "positions"]

Append = Callable[[str, Mapping[str, Any]], None]
"""Takes a table's name and its columns."""

Matrix = NDArray[np.float64]

STATE = "state"
"""Account and role of who gets levies and taxes: every account of the ledger is an actor of ``agents``."""

ROUNDING_KW = 1e-6
"""A loss is the small difference of two large flows: an idle branch may be found to gain less than this. [kW]"""


def people_table(community: Community, roles: Mapping[str, str]) -> dict[str, Any]:
    """Return the table ``agents``: homes, the shared storage, and who has no meter."""
    p, buses = community.people, community.model.feeder.buses.ids
    box = community.box
    others = [(box.ess_id, "storage", buses[box.bus_index], box.tariff_id)] if box is not None else []
    others += [(name, role, "", "") for name, role in {**roles, STATE: STATE}.items()]
    tail, n = len(others), p.n

    def column(values: Any, fill: Any) -> NDArray[Any]:
        return np.concatenate([np.asarray(values), np.full(tail, fill)])

    return {
        "agent_id": [*p.agent_id, *(o[0] for o in others)],
        "role": ["prosumer"] * n + [o[1] for o in others],
        "bus_id": [buses[b] for b in p.bus_index] + [o[2] for o in others],
        "phase": [*p.phase, *([box.phase] if box is not None else []), *(["abc"] * (tail - (box is not None)))],
        "aggregator_id": [*(name if community.play.sharing else "" for name in p.aggregator_id), *([""] * tail)],
        "tariff_id": [*p.tariff_id, *(o[3] for o in others)],
        "pv_kw_peak": column(p.pv_kw_peak, 0.0),
        "battery_kwh": column(p.battery_kwh, 0.0),
        "battery_charge_kw": column(p.battery_charge_kw, 0.0),
        "battery_discharge_kw": column(p.battery_discharge_kw, 0.0),
        "battery_efficiency_charge": column(p.battery_efficiency_charge, np.nan),
        "battery_efficiency_discharge": column(p.battery_efficiency_discharge, np.nan),
        "battery_initial_kwh": column(p.battery_initial_kwh, 0.0),
        "ev_count": column(p.ev_count, 0),
        "heat_pump_kw": column(p.heat_pump_kw, 0.0),
        "load_profile": [*p.load_profile, *([""] * tail)],
    }


def feeder_tables(feeder: Feeder, source_v_pu: float, monitored: NDArray[np.bool_], append: Append) -> None:
    """Write ``buses`` and ``branches``: all that an AC power flow needs besides the meters."""
    source = np.arange(feeder.n_bus) == feeder.source_bus

    def at_source(value: float) -> Matrix:
        return np.where(source, value, np.nan)

    append(
        "buses",
        {
            "bus_id": feeder.buses.ids,
            "v_nominal_v": feeder.buses.v_nominal_v,
            "is_source": source,
            "source_v_pu": at_source(source_v_pu),
            "source_short_circuit_va": at_source(feeder.source_short_circuit_va),
            "source_rx_ratio": at_source(feeder.source_rx_ratio),
            "x": feeder.buses.x,
            "y": feeder.buses.y,
            "is_monitored": monitored,
        },
    )
    b = feeder.branches
    numbers = (
        "r1_ohm x1_ohm c1_nf r0_ohm x0_ohm c0_nf rating_a sn_kva v_from_v v_to_v uk_percent pk_kw i0_percent p0_kw clock "
        "tap_position tap_step_percent length_m"
    )
    append(
        "branches",
        {
            "branch_id": b.ids,
            "kind": b.kind,
            "in_service": b.in_service,
            "from_bus": [feeder.buses.ids[k] for k in b.from_bus],
            "to_bus": [feeder.buses.ids[k] for k in b.to_bus],
            "tap_side": b.tap_side,
            **{name: getattr(b, name) for name in numbers.split()},
            "rating_a": np.where(
                np.isfinite(b.rating_a), b.rating_a, np.nan
            ),  # none known: no limit, not an infinite one
        },
    )
    pairs = [pair for k in np.flatnonzero(b.is_line & (b.untransposed | ~b.conductors.all(axis=1))) for pair in _pairs(b, int(k))]  # fmt: skip
    if pairs:
        names = ("branch_id", "phase", "other_phase", "r_ohm", "x_ohm", "c_nf")
        append("conductors", dict(zip(names, map(list, zip(*pairs, strict=True)), strict=True)))


def _pairs(b: Branches, k: int) -> list[tuple[str, str, str, float, float, float]]:
    """Return a line's conductors pair by pair: as they are told, or as its sequences say for the conductors it has."""
    there = b.phases[k]
    found = []
    for i, first in enumerate("abc"):
        for j, second in enumerate("abc"[: i + 1]):
            if first not in there or second not in there:
                continue
            if b.untransposed[k]:
                z, c = complex(b.z_abc_ohm[k, i, j]), float(np.nan_to_num(b.c_abc_nf[k, i, j]))
            else:
                one, zero = complex(b.r1_ohm[k], b.x1_ohm[k]), complex(b.r0_ohm[k], b.x0_ohm[k])
                c1, c0 = float(b.c1_nf[k]), float(b.c0_nf[k])
                z, c = _of_sequences(one, zero, i == j), _of_sequences(c1, c0, i == j).real
            found.append((b.ids[k], first, second, z.real, z.imag, c))
    return found


def _of_sequences(one: complex, zero: complex, own: bool) -> complex:
    """Return the entry of a transposed line's matrix; without a zero sequence conductors do not couple."""
    known = one if np.isnan(zero) else zero
    return complex((known - one) / 3.0 + (one if own else 0.0))


def meters(community: Community, book: DayBook) -> dict[str, Any]:
    """Return the table ``meters`` of a day: homes, then the shared storage with its physical flows."""
    d, box, steps = book.delivered, community.box, book.day.steps
    extra = 0 if box is None else 1

    def rows(a: Matrix, last: Any = 0.0) -> Matrix:
        return np.vstack([a, np.broadcast_to(last, (extra, steps))]) if extra else a

    net = storage_net_kw(book) if extra else np.zeros(steps)
    energy = np.zeros(steps)
    if book.box_energy_kwh is not None:
        energy = book.box_energy_kwh
    load = d.base_load_kw + d.ev_kw + d.heat_pump_kw
    return blocks(
        book.times,
        community.connection_ids,
        base_load_kw=rows(d.base_load_kw),
        ev_kw=rows(d.ev_kw),
        heat_pump_kw=rows(d.heat_pump_kw),
        load_kw=rows(load),
        pv_available_kw=rows(d.pv_available_kw),
        pv_kw=rows(d.pv_kw),
        battery_charge_kw=rows(d.battery_charge_kw, np.maximum(net, 0.0)),
        battery_discharge_kw=rows(d.battery_discharge_kw, np.maximum(-net, 0.0)),
        battery_kwh=rows(d.battery_kwh, energy),
        meter_kw=rows(d.meter_kw, net),
        meter_kvar=rows(d.meter_kvar),
        curtailed_kw=rows(d.pv_available_kw - d.pv_kw),
        shifted_kw=rows(-d.deferred_kw),
        cause=np.vstack([d.cause, np.full((extra, steps), "", dtype=object)]),
    )


def storage_net_kw(book: DayBook) -> Matrix:
    """Return the physical flow of the shared storage, shape (T,), charging positive. [kW]"""
    net: Matrix = (book.plan.rented_charge_kw - book.plan.rented_discharge_kw).sum(axis=0)
    return net


def flow_tables(model: Model, book: DayBook, flow: Flow, found: list[Breach], append: Append) -> None:
    """Write what the AC power flow of a day says, and what broke a limit."""
    buses, branches = model.feeder.buses.ids, model.feeder.branches.ids
    # one phase of three may lose to another, however little
    idle = (flow.loss_kw < 0.0) & (flow.loss_kw > -ROUNDING_KW) & (set(model.wires.phase) <= {"abc"})
    at, on = [buses[k] for k in model.nodes.element], [branches[k] for k in model.wires.element]
    append("bus_voltages", blocks(book.times, at, "bus_id", phase=_phases(model.nodes), v_pu=flow.v_pu))
    append(
        "branch_flows",
        blocks(
            book.times,
            on,
            "branch_id",
            phase=_phases(model.wires),
            p_kw=flow.p_kw,
            q_kvar=flow.q_kvar,
            current_a=flow.current_a,
            loading_percent=flow.loading_percent,
            loss_kw=np.where(idle, 0.0, flow.loss_kw),
        ),
    )
    if not found:
        return
    append(
        "violations",
        {
            "time": book.times[[b.step for b in found]],
            "element": [b.element for b in found],
            "kind": [b.kind for b in found],
            "value": np.array([b.value for b in found], dtype=np.float64),
            "limit": np.array([b.limit for b in found], dtype=np.float64),
            "agent_id": [b.agent_id for b in found],
        },
    )


def _phases(labels: Labels) -> str | NDArray[np.object_]:
    """Return the phase of each row, a single word where it is the same."""
    same = set(labels.phase) <= {"abc"}
    return "abc" if same else np.array(labels.phase, dtype=object)[:, None]


def day_tables(community: Community, book: DayBook, append: Append) -> None:
    """Write forecasts, envelopes and clearings of a day."""
    homes, day = community.people.agent_id, book.day
    gate = np.datetime64(community.clock.at_minute(day.gate_min).replace(tzinfo=None), "s")
    everything = slice(None)
    renewed = ~np.isnat(book.last_issued_at)
    for stage, issued_at, load_kw, solar_kw, which in (
        ("day_ahead", gate, book.belief.load_kw, book.belief.solar_kw, everything),
        ("last", book.last_issued_at[None, renewed], book.last_load_kw, book.last_solar_kw, renewed),
    ):
        if not renewed.any() and stage == "last":
            continue  # nobody planned again
        table = blocks(
            book.times[which],
            homes,
            issued_at=issued_at,
            stage=stage,
            load_kw=load_kw[:, which],
            pv_kw=solar_kw[:, which],
        )
        append("forecasts", table)
    _envelopes(community, book, append)
    _clearings(book, append)


def enforcement(community: Community, book: DayBook) -> dict[str, Any] | None:
    """Return the rows of ``enforcement`` of a day, in the order of time; None where nobody was held."""
    d = book.delivered
    step, home = np.nonzero(((d.cause != "") & (d.cause != "market")).T)
    if not len(step):
        return None
    cause, at = d.cause[home, step], (home, step)
    exporting = np.array([word.endswith("_export") for word in cause])
    return {
        "time": book.times[step],
        "agent_id": [community.people.agent_id[k] for k in home],
        "cause": list(cause),
        "rule": community.rules.enforcement,
        "limit_kw": np.where(exporting, d.held_export_kw[at], d.held_import_kw[at]),
        "clipped_kw": d.clipped_kw[at],
        "battery_kw": d.battery_more_kw[at],
        "deferred_kw": d.deferred_kw[at],
        "beyond_kw": np.maximum(d.breach_kw[at], 0.0),
    }


def _envelopes(community: Community, book: DayBook, append: Append) -> None:
    for issue in book.issues:
        if issue.publication.envelope.mode != "none":
            _issue(community, book, issue, append)


def _issue(community: Community, book: DayBook, issue: Issue, append: Append) -> None:
    envelope, times = issue.publication.envelope, book.times[issue.at :]
    held = community.people.active if community.box is None else np.append(community.people.active, True)
    who = np.flatnonzero(held)
    firm = np.zeros((len(held), len(times)))
    if community.box is not None:
        firm[-1] = issue.publication.firm_kw
    # the side that is scarcer in this interval names the element; export first, as that is what solar homes feel
    binding = np.where(envelope.binding_export != "", envelope.binding_export, envelope.binding_import)
    append(
        "envelopes",
        blocks(
            times,
            [community.connection_ids[c] for c in who],
            issued_at=np.datetime64(issue.issued_at.replace(tzinfo=None), "s"),
            import_limit_kw=envelope.import_limit_kw[who],
            export_limit_kw=envelope.export_limit_kw[who],
            firm_charge_kw=firm[who],
            mode=envelope.mode,
            rule=envelope.rule,
            binding_element=binding[None, :],
        ),
    )


def _clearings(book: DayBook, append: Append) -> None:
    records = book.clearings
    if not records:
        return
    last = [
        record.clearing.residuals[-1] if len(record.clearing.residuals) else np.full(4, np.nan) for record in records
    ]
    append(
        "clearings",
        {
            "clearing_id": [r.clearing_id for r in records],
            "stage": [r.stage for r in records],
            "opened_at": np.array([r.opened_at.replace(tzinfo=None) for r in records], dtype="datetime64[s]"),
            "converged": np.array([r.clearing.converged for r in records], dtype=bool),
            "iterations": np.array([r.clearing.iterations for r in records], dtype=np.int64),
            "primal_residual": np.array([row[1] for row in last], dtype=np.float64),
            "dual_residual": np.array([row[2] for row in last], dtype=np.float64),
            "cost_eur": np.array([r.clearing.cost_eur for r in records], dtype=np.float64),
            "bound_eur": np.array([r.clearing.bound_eur for r in records], dtype=np.float64),
            "gap": np.array([r.clearing.gap for r in records], dtype=np.float64),
            "max_agent_kkt": np.array([r.clearing.max_agent_kkt for r in records], dtype=np.float64),
            "end_missed_kwh": np.array([r.end_missed_kwh for r in records], dtype=np.float64),
        },
    )
    history = [(r.clearing_id, row) for r in records for row in r.clearing.residuals]
    if not history:
        return
    append(
        "iterations",
        {
            "clearing_id": [name for name, _ in history],
            "iteration": np.array([row[0] for _, row in history], dtype=np.int64),
            "primal_residual": np.array([row[1] for _, row in history], dtype=np.float64),
            "dual_residual": np.array([row[2] for _, row in history], dtype=np.float64),
            "penalty": np.array([row[3] for _, row in history], dtype=np.float64),
        },
    )


def positions(community: Community, book: DayBook, stage: str, plan: Plan, exchange_kw: Matrix) -> dict[str, Any]:
    """Return the positions of one stage before delivery; the row of the shared storage mirrors its tenants."""
    charge, discharge = plan.rented_charge_kw.copy(), plan.rented_discharge_kw.copy()
    if community.box is not None:
        charge[-1], discharge[-1] = discharge[:-1].sum(axis=0), charge[:-1].sum(axis=0)
    return blocks(
        book.times,
        community.connection_ids,
        stage=stage,
        exchange_kw=exchange_kw,
        rented_charge_kw=charge,
        rented_discharge_kw=discharge,
        grid_buy_kw=np.maximum(plan.grid_kw, 0.0),
        grid_sell_kw=np.maximum(-plan.grid_kw, 0.0),
    )
