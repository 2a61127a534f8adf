"""What the scenario says of people, storages, envelopes and feeder, held against the tables that describe them.

The scenario is resolved: nothing in it is implied.  So where it lists its homes, the table ``agents`` must have them, device by device;
the shared ESS must be the one that it describes, and envelopes of the mode and rule that it asks for.  A column of lines
holds no figure for a transformer, and the other way round.

Limits: homes taken from a grid's data set, from a table, or given devices by rules are not in the scenario; of them
only that a device which ran exists.  Figures that no interval depends on cannot be told from the tables: coordinates, lengths and
zero-sequence figures of lines, ratings that nothing came near, limits of envelopes that nobody reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sim.certify_evidence import Evidence, Law, Wrong, shown, text

__all__ = ["as_told"]

KW = 1e-6
"""A milliwatt. [kW]"""

LINES = ("r1_ohm", "x1_ohm", "c1_nf", "r0_ohm", "x0_ohm", "c0_nf", "rating_a", "length_m")
TRANSFORMERS = (
    "sn_kva", "v_from_v", "v_to_v", "uk_percent", "pk_kw", "i0_percent", "p0_kw", "clock", "tap_position", "tap_step_percent",
)  # fmt: skip
SOURCES = ("source_v_pu", "source_short_circuit_va", "source_rx_ratio")

DEVICES = {
    "pv_kw_peak": ("solar", "kw_peak"),
    "battery_kwh": ("battery", "kwh"),
    "battery_charge_kw": ("battery", "charge_kw"),
    "battery_discharge_kw": ("battery", "discharge_kw"),
    "battery_initial_kwh": ("battery", "initial_kwh"),
    "ev_count": ("ev", "count"),
    "heat_pump_kw": ("heat_pump", "kw"),
}
"""Column of ``agents``: device of a home in the scenario, and its figure."""

ESS = ("energy_kwh", "charge_kw", "discharge_kw", "efficiency_charge", "efficiency_discharge", "self_discharge_per_h", "initial_kwh")  # fmt: skip
"""Columns of ``ess`` that the scenario calls by the same names."""


def as_told(evidence: Evidence) -> str:
    """Check people, storages, envelopes and feeder against the scenario."""
    people = _people(evidence)
    _running(evidence)
    _boxes(evidence)
    _envelopes(evidence)
    _feeder(evidence)
    return f"{people} homes, storages, envelopes and feeder are as the scenario tells them"


def _people(evidence: Evidence) -> int:
    """Check every home that the scenario lists; return how many homes there are."""
    told, tariffs = evidence.scenario["people"], list(evidence.scenario["tariffs"])
    names = [*DEVICES, "bus_id", "tariff_id", "aggregator_id", "load_profile", "battery_efficiency_charge", "battery_efficiency_discharge"]  # fmt: skip
    found = {
        row[0]: dict(zip(names, row[1:], strict=True))
        for row in evidence.all(
            f"SELECT agent_id, {', '.join(names)} FROM {evidence.table('agents')} WHERE role = 'prosumer' ORDER BY agent_id"
        )
    }
    evidence.count("agents")
    brokers = {"", *(str(spec["id"]) for spec in evidence.scenario.get("aggregators") or ())}
    listed: dict[str, Mapping[str, Any]] = {}
    if told.get("from") == "list":
        listed = {str(home["id"]): home for home in told["homes"]}
        if set(listed) != set(found):
            odd = min(set(listed) ^ set(found))
            raise Wrong(f"table agents has the homes of the scenario: agent_id {odd} stands only in {'agents' if odd in found else 'the scenario'}")  # fmt: skip
    for name, row in found.items():
        for side in ("battery_efficiency_charge", "battery_efficiency_discharge"):
            _expect(name, side, row[side], told[side])
        if row["aggregator_id"] not in brokers:
            raise Wrong(f"table agents: agent_id {name}: aggregator_id {row['aggregator_id']} is none of the scenario")
        if name in listed:
            _home(name, row, listed[name], tariffs, ruled=bool(told.get("rules")), shares=evidence.section == "tables")
    return len(found)


def _home(
    name: str, row: Mapping[str, Any], home: Mapping[str, Any], tariffs: list[str], *, ruled: bool, shares: bool
) -> None:
    """Check one home; rules add devices to homes that have none of the kind, so that only what is listed is compared."""
    _expect(name, "bus_id", row["bus_id"], str(home["bus"]))
    _expect(name, "tariff_id", row["tariff_id"], str(home.get("tariff") or tariffs[0]))
    if home.get("aggregator") and shares:
        _expect(name, "aggregator_id", row["aggregator_id"], str(home["aggregator"]))
    if (home.get("load") or {}).get("profile"):
        _expect(name, "load_profile", row["load_profile"], str(home["load"]["profile"]))
    for column, (device, figure) in DEVICES.items():
        has = home.get(device)
        if has or not ruled:
            wanted = has.get(figure) if has else 0.0
            if wanted is not None:
                _expect(name, column, row[column], wanted)


def _expect(name: str, column: str, value: Any, wanted: Any, table: str = "agents", key: str = "agent_id") -> None:
    """Raise where a cell is not what the scenario says."""
    same = value == wanted if isinstance(wanted, str) else value is not None and float(value) == float(wanted)
    if not same:
        raise Wrong(
            f"table {table} is as the scenario tells: {key} {name}: {column} is {shown(value)}, expected {shown(wanted)}"
        )


def _running(evidence: Evidence) -> None:
    """Check that only devices ran that exist: this is known of every home, wherever it comes from."""
    source = f"""(SELECT m.time, m.agent_id, m.pv_available_kw, m.ev_kw, m.heat_pump_kw, a.pv_kw_peak, a.ev_count, a.heat_pump_kw AS rated_kw
        FROM {evidence.table("meters")} m JOIN {evidence.table("agents")} a USING (agent_id))"""
    keys = ("time", "agent_id")
    evidence.uphold(
        [
            Law("the sun gives nothing where there is no solar power", f"(FROM {source} WHERE NOT pv_kw_peak > 0)", keys, "pv_available_kw", "0", KW),
            Law("no car charges where there is none", f"(FROM {source} WHERE NOT ev_count > 0)", keys, "ev_kw", "0", KW),
            Law("no heat pump runs where there is none", f"(FROM {source} WHERE NOT rated_kw > 0)", keys, "heat_pump_kw", "0", KW),
        ]
    )  # fmt: skip


def _boxes(evidence: Evidence) -> None:
    """Check the shared ESS; where nobody shares there is none."""
    names = [*ESS, "bus_id"]
    found = {
        row[0]: dict(zip(names, row[1:], strict=True))
        for row in evidence.all(f"SELECT ess_id, {', '.join(names)} FROM {evidence.table('ess')} ORDER BY ess_id")
    }
    told = {str(spec["id"]): spec for spec in evidence.scenario.get("storage") or () if float(spec["energy_kwh"]) > 0}
    if evidence.section != "tables":
        told = {}
    if set(told) != set(found):
        raise Wrong(f"table ess has {', '.join(sorted(found)) or 'no storage'}, expected {', '.join(sorted(told)) or 'none'} (the scenario)")  # fmt: skip
    for name, spec in told.items():
        for column in ESS:
            if spec.get(column) is not None:
                _expect(name, column, found[name][column], spec[column], "ess", "ess_id")
        if spec.get("bus"):
            _expect(name, "bus_id", found[name]["bus_id"], str(spec["bus"]), "ess", "ess_id")


def _envelopes(evidence: Evidence) -> None:
    """Check mode, rule, who is held, by what, and that only a shared ESS is obliged to charge."""
    dso, table = evidence.scenario["dso"], evidence.table("envelopes")
    rows = evidence.count("envelopes")
    if dso["envelopes"] is False and dso.get("network") != "prices":  # there a band around what was cleared is one
        if rows:
            raise Wrong(f"table envelopes has {rows} rows, and the scenario has no envelopes")
        return
    for column in ("mode", "rule"):
        evidence.none_of(
            f"an envelope's {column} is that of the scenario ({dso[column]})",
            f"SELECT time, agent_id, {column} FROM {table} WHERE {column} IS DISTINCT FROM {text(str(dso[column]))}",
            ("time", "agent_id", column),
        )
    evidence.none_of(
        "what limits an envelope is a bus, a branch, nothing (empty), or a power flow that did not converge (not_converged)",
        f"SELECT time, agent_id, binding_element FROM {table} WHERE binding_element NOT IN ('', 'not_converged') AND binding_element NOT IN "
        f"(SELECT bus_id FROM {evidence.table('buses')} UNION ALL SELECT branch_id FROM {evidence.table('branches')})",
        ("time", "agent_id", "binding_element"),
    )
    devices = "pv_kw_peak > 0 OR battery_kwh > 0 OR ev_count > 0 OR heat_pump_kw > 0 OR role = 'storage'"
    evidence.none_of(
        "an envelope holds whoever has a device, and nobody else",
        f"SELECT agent_id FROM (SELECT agent_id FROM {evidence.table('agents')} WHERE bus_id <> '' AND ({devices})) a "
        f"FULL JOIN (SELECT DISTINCT agent_id FROM {table}) e USING (agent_id) WHERE a.agent_id IS NULL OR e.agent_id IS NULL",
        ("agent_id",),
    )
    offers = {str(spec["id"]): spec["firm_charge"]["offer_kw"] for spec in evidence.scenario.get("storage") or ()}
    most = " ".join(f"WHEN {text(name)} THEN {float(offer)!r}" for name, offer in offers.items() if dso["lifting"])
    asked = f"CASE agent_id {most} ELSE 0 END" if most else "0"
    evidence.uphold(
        [
            Law("a firm charge is asked of a shared ESS alone, up to its offer", table, ("time", "agent_id"), "firm_charge_kw", asked, 0.0, "<="),
        ]
    )  # fmt: skip


def _feeder(evidence: Evidence) -> None:
    """Check which figures lines, transformers and buses have, and where the voltage limits apply."""
    branches, buses = evidence.table("branches"), evidence.table("buses")
    for columns, table, key, elsewhere in (
        (LINES, branches, "branch_id", "kind = 'transformer'"),
        (TRANSFORMERS, branches, "branch_id", "kind = 'line'"),
        (SOURCES, buses, "bus_id", "NOT is_source"),
    ):
        for column in columns:
            evidence.none_of(
                f"{column} stands where it means something, and is NaN elsewhere",
                f"SELECT {key}, {column} FROM {table} WHERE {elsewhere} AND NOT isnan({column})",
                (key, column),
            )
    evidence.none_of("a line has no tap", f"SELECT branch_id FROM {branches} WHERE kind = 'line' AND tap_side <> ''", ("branch_id",))  # fmt: skip
    nominal = evidence.all(f"SELECT bus_id, v_nominal_v, is_source, is_monitored FROM {buses} ORDER BY bus_id")
    half = max((row[1] for row in nominal if row[2]), default=math.nan) / 2.0
    below = any(row[1] <= half for row in nominal)
    for bus, v_nominal, is_source, monitored in nominal:
        wanted = v_nominal <= half if below else not is_source
        if monitored != wanted:
            raise Wrong(
                f"voltage limits apply below the transformer, or everywhere but at the source: bus_id {bus}: is_monitored is {monitored}, "
                f"expected {wanted}"
            )
