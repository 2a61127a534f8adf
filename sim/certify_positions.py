"""Point 3 and 4: what was sold and what was allowed, held against the meters.

Settled positions, for every connection and interval::

    grid_buy − grid_sell − exchange + rented_discharge − rented_charge = meter                                     (1)

and what one sells another buys.  Envelopes bind the physical meter: −export limit <= meter <= import limit, for the
latest issue announced before the interval, or the breach stands in ``violations``.
"""

from __future__ import annotations

from sim.certify_evidence import Evidence, Law, Wrong

__all__ = ["envelopes", "positions"]

KWH = 1e-6
"""Positions are settled in whole milli-watt-hours; a meter's float64 lies half of one away at most. [kWh]"""

KW = 1e-6
"""Positions that were only planned are float64 repaired to balance; a milliwatt is far above their rounding. [kW]"""


def positions(evidence: Evidence) -> str:
    """Check (1), that every sale has its purchase, and that rented flows are those of the storage's books."""
    rows, dt, table = evidence.count("positions"), repr(evidence.dt_h), evidence.table("positions")
    settled = f"""(
        SELECT p.*, m.meter_kw, p.agent_id IN (SELECT ess_id FROM {evidence.table("ess")}) AS is_storage,
            coalesce(h.charge_kw, 0) AS held_charge_kw, coalesce(h.discharge_kw, 0) AS held_discharge_kw
        FROM {table} p LEFT JOIN {evidence.table("meters")} m USING (time, agent_id)
        LEFT JOIN (SELECT time, agent_id, sum(charge_kw) AS charge_kw, sum(discharge_kw) AS discharge_kw
            FROM {evidence.table("storage_ledger")} GROUP BY ALL) h USING (time, agent_id)
        WHERE stage = 'settled')"""
    tenants = f"(FROM {settled} WHERE NOT is_storage)"
    keys, sums = ("time", "agent_id"), ("stage", "time")
    evidence.uphold(
        [
            Law("grid_buy − grid_sell − exchange + rented_discharge − rented_charge = meter", settled, keys, f"(grid_buy_kw - grid_sell_kw - exchange_kw + rented_discharge_kw - rented_charge_kw) * {dt}", f"meter_kw * {dt}", KWH),
            Law("nobody buys from and sells to the retailer at once", settled, keys, "least(grid_buy_kw, grid_sell_kw)", "0", 0.0),
            Law("what is bought from the retailer is not negative", settled, keys, "grid_buy_kw", "0", 0.0, ">="),
            Law("what is sold to the retailer is not negative", settled, keys, "grid_sell_kw", "0", 0.0, ">="),
            Law("a tenant's rented charging is that of the storage's books", tenants, keys, f"rented_charge_kw * {dt}", f"held_charge_kw * {dt}", KWH),
            Law("a tenant's rented discharging is that of the storage's books", tenants, keys, f"rented_discharge_kw * {dt}", f"held_discharge_kw * {dt}", KWH),
            Law("exchange sums to zero over all agents", f"(SELECT stage, time, sum(exchange_kw) AS total FROM {table} GROUP BY ALL)", sums, "total", "0", KW),
            Law("rented flows sum to zero over all agents", f"(SELECT stage, time, sum(rented_charge_kw) AS charge, sum(rented_discharge_kw) AS discharge FROM {table} GROUP BY ALL)", sums, "charge", "discharge", KW),
            *_mirrors(evidence),
        ]
    )  # fmt: skip
    _trades(evidence)
    return f"{rows} positions balance with the meters and with one another"


def _mirrors(evidence: Evidence) -> list[Law]:
    """Return that the row of an ESS is the mirror of its tenants."""
    mirror = f"""(
        SELECT p.time, p.agent_id, p.rented_charge_kw, p.rented_discharge_kw, coalesce(h.charge, 0) AS charge, coalesce(h.discharge, 0) AS discharge, h.n
        FROM {evidence.table("positions")} p JOIN {evidence.table("ess")} e ON e.ess_id = p.agent_id
        LEFT JOIN (SELECT l.time, l.ess_id, count(*) AS n, sum(l.charge_kw) AS charge, sum(l.discharge_kw) AS discharge
            FROM {evidence.table("storage_ledger")} l JOIN {evidence.table("ess")} o USING (ess_id)
            WHERE l.agent_id NOT IN (o.ess_id, o.operator_id) GROUP BY ALL) h ON h.ess_id = p.agent_id AND h.time = p.time
        WHERE p.stage = 'settled')"""
    # every tenant's flow is rounded to a whole milli-watt-hour by itself: their sum is off by half of one each
    most = f"{KWH!r} * (1 + coalesce(n, 0) / 2.0)"
    keys, dt = ("time", "agent_id"), repr(evidence.dt_h)
    return [
        Law(
            f"the ESS's {there} mirrors its tenants' {here}",
            mirror,
            keys,
            f"abs({there}_kw - {tenants}) * {dt}",
            most,
            0.0,
            "<=",
        )
        for there, here, tenants in (
            ("rented_discharge", "charging", "charge"),
            ("rented_charge", "discharging", "discharge"),
        )
    ]


def _trades(evidence: Evidence) -> None:
    """Check that bilateral trades make up the exchange, in every stage that has any."""
    rows, dt, trades = evidence.count("trades"), repr(evidence.dt_h), evidence.table("trades")
    if not rows:
        return
    source = f"""(
        SELECT stage, time, agent_id, p.exchange_kw * {dt} AS sold_kwh, coalesce(t.energy, 0) AS traded_kwh
        FROM (SELECT stage, time, agent_id, sum(energy) AS energy FROM (
                SELECT stage, time, seller_id AS agent_id, energy_kwh AS energy FROM {trades}
                UNION ALL SELECT stage, time, buyer_id, -energy_kwh FROM {trades}) GROUP BY ALL) t
        FULL JOIN (FROM {evidence.table("positions")} WHERE stage IN (SELECT stage FROM {trades})) p USING (stage, time, agent_id))"""
    evidence.uphold(
        [
            Law("trades sum to the exchange", source, ("stage", "time", "agent_id"), "traded_kwh", "sold_kwh", KWH),
            Law("a trade's energy is not negative", trades, ("stage", "time", "seller_id", "buyer_id"), "energy_kwh", "0", 0.0, ">="),
        ]
    )  # fmt: skip


def envelopes(evidence: Evidence) -> str:
    """Check every meter against the envelope in force, or find its breach among the violations."""
    rows, table = evidence.count("envelopes"), evidence.table("envelopes")
    if not rows:
        dso = evidence.scenario.get("dso", {})
        if dso.get("envelopes") is not False or dso.get("network") == "prices":
            held = "pv_kw_peak > 0 OR battery_kwh > 0 OR ev_count > 0 OR heat_pump_kw > 0 OR role = 'storage'"
            if evidence.one(f"SELECT count(*) FROM {evidence.table('agents')} WHERE {held}"):
                raise Wrong("the scenario has envelopes, and table envelopes is empty")
            return "nobody has a device that an envelope could hold"
        return "the scenario has no envelopes"
    issued = f"(SELECT *, max(issued_at) FILTER (WHERE issued_at <= time) OVER (PARTITION BY time, agent_id) AS last FROM {table})"
    source = f"""(
        SELECT e.*, m.meter_kw, v.agent_id IS NOT NULL AS told
        FROM (FROM {issued} WHERE issued_at = last OR last IS NULL) e
        LEFT JOIN {evidence.table("meters")} m USING (time, agent_id)
        LEFT JOIN (SELECT DISTINCT time, agent_id FROM {evidence.table("violations")} WHERE kind = 'envelope') v USING (time, agent_id))"""
    silent = f"(FROM {source} WHERE NOT told)"
    keys = ("time", "agent_id")
    evidence.none_of(
        "an envelope was announced only after it bound",
        f"SELECT time, agent_id FROM {source} WHERE last IS NULL",
        keys,
    )
    evidence.uphold(
        [
            Law("the meter imports no more than its envelope allows, or violations says so", silent, keys, "meter_kw", "import_limit_kw", KW, "<="),
            Law("the meter exports no more than its envelope allows, or violations says so", silent, keys, "meter_kw", "-export_limit_kw", KW, ">="),
            Law("a firm charge is kept, or violations says so", silent, keys, "meter_kw", "CASE WHEN firm_charge_kw > 0 THEN firm_charge_kw ELSE meter_kw END", KW, ">="),
            Law("an import limit is not negative", table, keys, "CASE WHEN isinf(import_limit_kw) THEN 0 ELSE import_limit_kw END", "0", 0.0, ">="),
            Law("an export limit is not negative", table, keys, "CASE WHEN isinf(export_limit_kw) THEN 0 ELSE export_limit_kw END", "0", 0.0, ">="),
            *_claims(evidence),
        ]
    )  # fmt: skip
    many = int(evidence.one(f"SELECT count(*) FROM {evidence.table('violations')} WHERE kind = 'envelope'"))
    return f"{rows} envelopes kept, but for {many} breaches that violations names" if many else f"{rows} envelopes kept"


def _claims(evidence: Evidence) -> list[Law]:
    """Return that a breach told is a breach: its value is the meter's, and beyond its limit."""
    source = f"""(
        SELECT v.time, v.agent_id, v.value, v."limit", m.meter_kw FROM {evidence.table("violations")} v
        LEFT JOIN {evidence.table("meters")} m USING (time, agent_id) WHERE v.kind = 'envelope')"""
    return [
        Law("a breach of an envelope shows the meter", source, ("time", "agent_id"), "value", "meter_kw", KW),
    ]
