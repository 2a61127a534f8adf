"""Point 1 and 2: what the meters say adds up, and no storage holds energy that nobody put in.

Every meter, in every interval::

    meter = load + charge − discharge − pv,   pv + curtailed = available,   load = base + cars + heat pump          (1)

Every battery, and the shared ESS with its holders (docs/results.md)::

    E[t+1] = E[t] (1 − leak Δ) + Δ (η_c C − R / η_d)                                                                (2)
    Σ e = E,   Σ (c − r) = C − R,   C R = 0,   netting gain = Δ(η_c C − R/η_d) − Σ Δ(η_c c − r/η_d) >= 0            (3)

A tenant's account follows (2) without the leak, which is the operator's; where a right ends, what is left is taken over
by the operator, and the account begins again.
"""

from __future__ import annotations

from sim.certify_evidence import Evidence, Law

__all__ = ["balance", "storages"]

KW = 1e-6
"""A milliwatt: a thousand times more than sums of float64 lose here, a thousand times less than a bill can show. [kW]"""

KWH = 1e-6
"""A milliwatt-hour, the smallest unit of the ledger. [kWh]"""

EUR = 1e-6
"""A micro-euro. [eur]"""


def balance(evidence: Evidence) -> str:
    """Check (1) in every row of ``meters``."""
    rows, meters, keys = evidence.count("meters"), evidence.table("meters"), ("time", "agent_id")
    evidence.uphold(
        [
            Law("meter_kw = load + charge − discharge − pv", meters, keys, "meter_kw", "load_kw + battery_charge_kw - battery_discharge_kw - pv_kw", KW),
            Law("pv_kw + curtailed_kw = pv_available_kw", meters, keys, "pv_kw + curtailed_kw", "pv_available_kw", KW),
            Law("load_kw = base load + cars + heat pump", meters, keys, "load_kw", "base_load_kw + ev_kw + heat_pump_kw", KW),
            *(
                Law(f"{column} is never negative", meters, keys, column, "0", KW, ">=")
                for column in ("pv_kw", "curtailed_kw", "base_load_kw", "heat_pump_kw", "battery_charge_kw", "battery_discharge_kw", "battery_kwh")
            ),
        ]
    )  # fmt: skip
    return f"{rows} meter readings add up"


def storages(evidence: Evidence) -> str:
    """Check (2) and (3): batteries at home, the shared ESS, and whose energy is in it."""
    _batteries(evidence)
    rows = evidence.count("storage")
    _boxes(evidence)
    _holders(evidence)
    _tenants(evidence)
    return f"every battery and {rows} states of shared storage follow their equations; holders sum to the box"


def _batteries(evidence: Evidence) -> None:
    """Check the batteries behind the meters of people."""
    evidence.count("meters")
    dt = repr(evidence.dt_h)
    source = f"""(
        SELECT m.time, m.agent_id, m.battery_charge_kw, m.battery_discharge_kw, m.battery_kwh, a.battery_kwh AS capacity_kwh,
            a.battery_initial_kwh, a.battery_charge_kw AS most_charge_kw, a.battery_discharge_kw AS most_discharge_kw,
            lead(m.battery_kwh) OVER w AS next_kwh, row_number() OVER w AS n,
            m.battery_kwh * (1 - CASE WHEN isnan(a.battery_self_discharge_per_h) THEN 0 ELSE a.battery_self_discharge_per_h END * {dt})
                + CASE WHEN a.battery_kwh > 0 THEN {dt} * (a.battery_efficiency_charge * m.battery_charge_kw
                    - m.battery_discharge_kw / a.battery_efficiency_discharge) ELSE 0 END AS reached_kwh
        FROM {evidence.table("meters")} m JOIN {evidence.table("agents")} a USING (agent_id)
        WHERE m.agent_id NOT IN (SELECT ess_id FROM {evidence.table("ess")})
        WINDOW w AS (PARTITION BY m.agent_id ORDER BY m.time))"""
    keys = ("time", "agent_id")
    evidence.uphold(
        [
            Law("a battery begins as agents says", f"(FROM {source} WHERE n = 1)", keys, "battery_kwh", "battery_initial_kwh", KWH),
            Law("a battery follows its state equation into the next interval", f"(FROM {source} WHERE next_kwh IS NOT NULL)", keys, "next_kwh", "reached_kwh", KWH),
            Law("a battery holds no more than its capacity", source, keys, "greatest(battery_kwh, reached_kwh)", "capacity_kwh", KWH, "<="),
            Law("a battery is never less than empty", source, keys, "least(battery_kwh, reached_kwh)", "0", KWH, ">="),
            Law("a battery charges within its rating", source, keys, "battery_charge_kw", "most_charge_kw", KW, "<="),
            Law("a battery discharges within its rating", source, keys, "battery_discharge_kw", "most_discharge_kw", KW, "<="),
        ]
    )  # fmt: skip


def _boxes(evidence: Evidence) -> None:
    """Check the physical states and flows of the shared ESS."""
    dt = repr(evidence.dt_h)
    source = f"""(
        SELECT s.*, e.energy_kwh AS capacity_kwh, e.charge_kw AS most_charge_kw, e.discharge_kw AS most_discharge_kw, e.initial_kwh,
            lead(s.energy_kwh) OVER w AS next_kwh, row_number() OVER w AS n, m.meter_kw, m.battery_kwh,
            CASE WHEN a.bus_id = e.bus_id AND a.phase = e.phase AND a.role = 'storage' THEN 1 ELSE 0 END AS same_place,
            m.battery_charge_kw - m.battery_discharge_kw AS metered_kw,
            s.energy_kwh * (1 - e.self_discharge_per_h * {dt})
                + {dt} * (e.efficiency_charge * s.charge_kw - s.discharge_kw / e.efficiency_discharge) AS reached_kwh,
            {dt} * (s.charge_kw * (1 - e.efficiency_charge) + s.discharge_kw * (1 / e.efficiency_discharge - 1))
                + s.energy_kwh * e.self_discharge_per_h * {dt} AS lost_kwh
        FROM {evidence.table("storage")} s JOIN {evidence.table("ess")} e USING (ess_id)
        LEFT JOIN {evidence.table("meters")} m ON m.agent_id = s.ess_id AND m.time = s.time
        LEFT JOIN {evidence.table("agents")} a ON a.agent_id = s.ess_id
        WINDOW w AS (PARTITION BY s.ess_id ORDER BY s.time))"""
    keys = ("time", "ess_id")
    evidence.uphold(
        [
            Law("agents and ess tell the same bus and phase of the ESS", f"(FROM {source} WHERE n = 1)", keys, "same_place", "1", 0.0),
            Law("the ESS begins as ess says", f"(FROM {source} WHERE n = 1)", keys, "energy_kwh", "initial_kwh", KWH),
            Law("the ESS follows its state equation into the next interval", f"(FROM {source} WHERE next_kwh IS NOT NULL)", keys, "next_kwh", "reached_kwh", KWH),
            Law("the ESS holds no more than its capacity", source, keys, "greatest(energy_kwh, reached_kwh)", "capacity_kwh", KWH, "<="),
            Law("the ESS is never less than empty", source, keys, "least(energy_kwh, reached_kwh)", "0", KWH, ">="),
            Law("the ESS does not charge and discharge at once", source, keys, "least(charge_kw, discharge_kw)", "0", KW),
            Law("the ESS charges within its rating", source, keys, "charge_kw", "most_charge_kw", KW, "<="),
            Law("the ESS discharges within its rating", source, keys, "discharge_kw", "most_discharge_kw", KW, "<="),
            Law("loss_kwh is what conversion and self-discharge take", source, keys, "loss_kwh", "lost_kwh", KWH),
            Law("wear_eur is the scenario's rate times what went in and out", source, keys, "wear_eur", f"{_rate(evidence)} * {dt} * (charge_kw + discharge_kw)", EUR),
            Law("the meter of the ESS shows its flow", source, keys, "metered_kw", "charge_kw - discharge_kw", KW),
            Law("the meter of the ESS shows nothing else", source, keys, "meter_kw", "charge_kw - discharge_kw", KW),
            Law("the meter of the ESS shows its energy", source, keys, "battery_kwh", "energy_kwh", KWH),
        ]
    )  # fmt: skip


def _rate(evidence: Evidence) -> str:
    """Return the wear of each ESS as SQL, null for one that the scenario does not know. [eur/kWh]"""
    told = [
        (str(spec["id"]).replace("'", "''"), float(spec["wear_eur_per_kwh"]))
        for spec in evidence.scenario.get("storage") or ()
    ]
    return "CASE ess_id " + " ".join(f"WHEN '{name}' THEN {rate!r}" for name, rate in [*told, ("", 0.0)]) + " END"


def _holders(evidence: Evidence) -> None:
    """Check that the holders are the box, and what netting saves."""
    evidence.count("storage_ledger")
    dt = repr(evidence.dt_h)
    source = f"""(
        SELECT s.*, h.energy AS held_kwh, h.charge - h.discharge AS held_kw,
            {dt} * (e.efficiency_charge * s.charge_kw - s.discharge_kw / e.efficiency_discharge)
                - {dt} * (e.efficiency_charge * h.charge - h.discharge / e.efficiency_discharge) AS gain_kwh
        FROM {evidence.table("storage")} s JOIN {evidence.table("ess")} e USING (ess_id)
        LEFT JOIN (SELECT time, ess_id, sum(energy_kwh) AS energy, sum(charge_kw) AS charge, sum(discharge_kw) AS discharge
            FROM {evidence.table("storage_ledger")} GROUP BY ALL) h USING (time, ess_id))"""
    keys = ("time", "ess_id")
    flows = evidence.table("storage_ledger")
    evidence.uphold(
        [
            Law("the holders' energies sum to the box's", source, keys, "held_kwh", "energy_kwh", KWH),
            Law("the holders' flows sum to the box's", source, keys, "held_kw", "charge_kw - discharge_kw", KW),
            Law("netting_gain_kwh is what opposite flows save", source, keys, "netting_gain_kwh", "gain_kwh", KWH),
            Law("netting never loses", source, keys, "gain_kwh", "0", KWH, ">="),
            Law("a holder's charging is not negative", flows, ("time", "ess_id", "agent_id"), "charge_kw", "0", KW, ">="),
            Law("a holder's discharging is not negative", flows, ("time", "ess_id", "agent_id"), "discharge_kw", "0", KW, ">="),
        ]
    )  # fmt: skip
    evidence.none_of(
        "storage_ledger has a row of an ESS or interval that storage does not know",
        f"SELECT time, ess_id, agent_id FROM {flows} ANTI JOIN {evidence.table('storage')} USING (time, ess_id)",
        ("time", "ess_id", "agent_id"),
    )


def _tenants(evidence: Evidence) -> None:
    """Check that a tenant's account follows its flows while its right lasts, within the right."""
    dt, dt_us = repr(evidence.dt_h), round(evidence.dt_h * 3.6e9)
    rights = f"""(SELECT ess_id, agent_id, start, "end", max(energy_kwh) AS energy_kwh, max(power_kw) AS power_kw
        FROM {evidence.table("rights")} GROUP BY ALL)"""
    source = f"""(
        SELECT l.*, coalesce(r.energy_kwh, 0) AS space_kwh, coalesce(r.power_kw, 0) AS power_kw,
            lead(l.energy_kwh) OVER w AS next_kwh,
            coalesce(epoch_us(r."end") = epoch_us(l.time) + {dt_us}, false) AS ends,
            l.energy_kwh + {dt} * (e.efficiency_charge * l.charge_kw - l.discharge_kw / e.efficiency_discharge) AS reached_kwh
        FROM {evidence.table("storage_ledger")} l JOIN {evidence.table("ess")} e USING (ess_id)
        LEFT JOIN {rights} r ON r.ess_id = l.ess_id AND r.agent_id = l.agent_id AND l.time >= r.start AND l.time < r."end"
        WHERE l.agent_id NOT IN (e.ess_id, e.operator_id)
        WINDOW w AS (PARTITION BY l.ess_id, l.agent_id ORDER BY l.time))"""
    keys = ("time", "ess_id", "agent_id")
    evidence.uphold(
        [
            Law("a tenant's account follows its flows while the right lasts", f"(FROM {source} WHERE next_kwh IS NOT NULL AND NOT ends)", keys, "next_kwh", "reached_kwh", KWH),
            Law("a tenant holds no more than it rents", source, keys, "greatest(energy_kwh, reached_kwh)", "space_kwh", KWH, "<="),
            Law("a tenant's account is never less than empty", source, keys, "least(energy_kwh, reached_kwh)", "0", KWH, ">="),
            Law("a tenant uses no more power than it rents", source, keys, "greatest(charge_kw, discharge_kw)", "power_kw", KW, "<="),
        ]
    )  # fmt: skip
