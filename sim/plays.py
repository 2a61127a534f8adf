"""The three plays of a scenario: the community that shares, the same people without sharing, and those whom nobody holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from agents.dso import Policy
from market.delivery import Sharing
from network.envelope import Limits, Reactive, Uncertainty
from network.grid import Grid
from sim.clock import Clock
from sim.closing import Closer, Money
from sim.community import Community
from sim.mailbox import Mail
from sim.play import Play, Rules
from sim.processes import simulate
from sim.record import feeder_tables, people_table
from sim.resolve import Resolved
from sim.results import Writer
from sim.scenario import Scenario
from sim.scenario_base import clock, local_time
from sim.scenario_sections import DsoSpec
from sim.schema import tables_of
from sim.table_folder import TableFolder

__all__ = ["clock_of", "community_of", "play_reference", "play_sharing", "play_unmanaged"]

Step = Callable[[int], None]


def clock_of(scenario: Scenario) -> Clock:
    """Return the calendar of a scenario."""
    t = scenario.time
    return Clock(
        local_time(t.start),
        t.days,
        t.interval_minutes,
        t.time_zone,
        clock(t.delivery_day_start),
        clock(scenario.dso.publish),
        clock(scenario.market.gate),
    )


def limits_of(scenario: Scenario, grid: Grid) -> Limits:
    """Return the limits of the grid: voltages hold at the buses of the source's feeder that customers can have, below the transformer."""
    feeder = grid.feeder
    v = feeder.buses.v_nominal_v
    # a medium-voltage bus above the transformer has limits of its own, which are not the business of this feeder
    monitored = (
        v <= v[feeder.source_bus] / 2
        if (v <= v[feeder.source_bus] / 2).any()
        else np.arange(feeder.n_bus) != feeder.source_bus
    )
    return Limits(scenario.grid.v_min_pu, scenario.grid.v_max_pu, scenario.grid.loading_max_percent, monitored)


def _policy(spec: DsoSpec) -> Policy:
    """Return how the operator of the grid computes envelopes."""
    reactive, doubt = None, None
    if spec.power_factor is not None or spec.free_kvar:
        tan = None if spec.power_factor is None else Reactive.power_factor(spec.power_factor).tan_phi
        reactive = Reactive(tan_phi=tan, free_kvar=spec.free_kvar)
    if spec.load_error_percent or spec.impedance_error_percent or spec.source_error_pu:
        doubt = Uncertainty(
            load_percent=spec.load_error_percent,
            shape="gaussian" if spec.mode == "chance" else "box",
            probability=spec.break_probability,
            impedance_percent=spec.impedance_error_percent,
            source_v_pu=spec.source_error_pu,
        )
    return Policy(
        rule=spec.rule,
        mode=spec.mode,
        export_right_kw=spec.export_right_kw,
        import_right_kw=spec.import_right_kw,
        deviating=spec.deviating,
        reactive=reactive,
        uncertainty=doubt,
        alpha=spec.alpha,
    )


def _rules(resolved: Resolved) -> Rules:
    market, grid = resolved.scenario.market, resolved.scenario.dso
    minutes = resolved.scenario.time.interval_minutes
    return Rules(
        limits=limits_of(resolved.scenario, resolved.grid),
        policy=_policy(grid),
        renew=grid.renew == "hourly",
        enforcement=grid.enforcement,
        ramp_kw=np.inf if grid.ramp_kw_per_min is None else grid.ramp_kw_per_min * minutes,
        mail=None if grid.messages is None else Mail(**grid.messages.model_dump()),
        replanning=market.replanning,
        tolerance=market.tolerance,
        max_iterations=market.max_iterations,
        skill=resolved.skill,
        habits=resolved.habits,
        battery_wear_eur_per_kwh=resolved.scenario.people.battery_wear_eur_per_kwh,
    )


def community_of(resolved: Resolved, play: Play) -> Community:
    """Return the people of a scenario on their feeder, in a play."""
    scenario = resolved.scenario
    box = resolved.storage[0] if resolved.storage else None
    return Community(
        play,
        resolved.people,
        resolved.grid.feeder,
        box,
        resolved.tariffs,
        resolved.profiles,
        resolved.series,
        clock_of(scenario),
        _rules(resolved),
        scenario.seed,
    )


def play_sharing(resolved: Resolved, writer: Writer, progress: Step | None = None) -> dict[str, Any]:
    """Simulate the community that shares, into ``tables`` and ``ex_post`` of a run; return what the manifest should say."""
    scenario = resolved.scenario
    word = scenario.dso.network
    lifting = scenario.dso.lifting and word == "envelopes"
    community = community_of(resolved, Play("sharing", True, word == "envelopes", lifting, prices=word == "prices"))

    def append(table: str, columns: Mapping[str, Any]) -> None:
        writer.append("tables", table, columns)

    def append_ex_post(table: str, columns: Mapping[str, Any]) -> None:
        writer.append("ex_post", table, columns)

    fees = {a.id: a.fee_eur_per_day for a in scenario.aggregators}
    fee = np.array(
        [fees.get(name, 0.0) for name in community.people.aggregator_id] + [0.0] * (community.rows - community.n)
    )
    keys = resolved.settlement_keys
    if keys is not None:  # of the homes; a storage has none
        keys = np.append(keys, np.zeros(community.rows - community.n))
    rule = scenario.settlement
    sharing = Sharing(rule.rule, rule.price, keys=keys, only_if_worthwhile=True)
    closer = Closer(community, Money(sharing, fee), append, append_ex_post)
    _write_fixed(resolved, community, append)
    return _simulate(community, closer, progress)


def play_reference(resolved: Resolved, folder: Path) -> dict[str, Any]:
    """Simulate the same people, data and envelopes without sharing, into a folder of tables."""
    return _play_alone(resolved, Play.reference(resolved.scenario.dso.network != "none"), "reference", folder)


def play_unmanaged(resolved: Resolved, folder: Path) -> dict[str, Any]:
    """Simulate the same people without sharing and without envelopes, into a folder of tables."""
    return _play_alone(resolved, Play.unmanaged(), "unmanaged", folder)


def _play_alone(resolved: Resolved, play: Play, section: str, folder: Path) -> dict[str, Any]:
    held, tables = set(tables_of(section)), TableFolder(folder, section)

    def append(table: str, columns: Mapping[str, Any]) -> None:
        if table in held:
            tables.append(table, columns)

    community = community_of(resolved, play)
    fee = np.zeros(community.rows)
    closer = Closer(community, Money(Sharing("alloc.none"), fee), append)
    if section == "reference":
        _write_fixed(resolved, community, append)
    notes = _simulate(community, closer, None)
    tables.seal()
    return notes


def _write_fixed(resolved: Resolved, community: Community, append: Callable[[str, Mapping[str, Any]], None]) -> None:
    """Write what does not change during a run: who there is, and the feeder."""
    others = dict.fromkeys(sorted(set(community.people.aggregator_id) - {""}), "aggregator")
    append("agents", people_table(community, {**others, "retailer": "retailer", "dso": "dso"}))
    feeder, limits = resolved.grid.feeder, community.rules.limits
    seen = np.ones(feeder.n_bus, dtype=bool) if limits.monitored is None else limits.monitored
    feeder_tables(feeder, feeder.source_v_pu, seen, append)
    box = community.box
    if box is not None:
        append(
            "ess",
            {
                "ess_id": [box.ess_id],
                "operator_id": [box.ess_id],
                "bus_id": [feeder.buses.ids[box.bus_index]],
                "phase": [box.phase],
                "energy_kwh": [box.energy_kwh],
                "charge_kw": [box.charge_kw],
                "discharge_kw": [box.discharge_kw],
                "efficiency_charge": [box.efficiency_charge],
                "efficiency_discharge": [box.efficiency_discharge],
                "self_discharge_per_h": [box.self_discharge_per_h],
                "initial_kwh": [box.initial_kwh],
            },
        )


def _simulate(community: Community, closer: Closer, progress: Step | None) -> dict[str, Any]:
    began = perf_counter()
    channel = simulate(community, closer.close, progress)
    whole = perf_counter() - began
    seconds = {**community.seconds, **closer.seconds}
    seconds["agents_and_clock"] = whole - sum(seconds.values())
    return {
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "messages": dict(sorted(channel.sent.items())),
        "conservation": closer.conservation,
        "violations": dict(sorted(closer.breached.items())),
        "infeasible_envelopes": community.infeasible,
        "limits_nobody_could_keep": [] if community.pricing is None else community.pricing.broken,
        "not_converged": closer.not_converged,
        "lost_power_flows": closer.lost_flows,
        "storage_bounds_left": closer.broken,
        "ev_kwh_missing_at_departure": round(closer.unserved_ev_kwh, 6),
        "storage_end_missed_kwh": round(closer.end_missed_kwh, 6),
    }
