"""Who was held, by what, and what it cost: ``enforcement`` against meters, envelopes and the scenario.

A row stands for every meter that was held, and for no other.  The limit that was kept is no wider than the envelope in force, or is the default
that the scenario names; a meter held is at that limit, or beyond it by what nobody controls; what was turned down and held back is
what ``meters`` shows.  How steep a ramp was is not checked.
"""

from __future__ import annotations

from sim.certify_evidence import Evidence, Law, Wrong, text

__all__ = ["enforced"]

KW = 1e-6
CAUSES = tuple(f"{word}_{side}" for word in ("envelope", "default", "ramp") for side in ("export", "import"))


def enforced(evidence: Evidence) -> str:
    """Check every meter that was held."""
    rows, table, meters = evidence.count("enforcement"), evidence.table("enforcement"), evidence.table("meters")
    dso, keys = evidence.scenario["dso"], ("time", "agent_id")
    known = ", ".join(text(cause) for cause in CAUSES)
    both = f"""SELECT time, agent_id FROM (SELECT time, agent_id, cause FROM {meters} WHERE cause NOT IN ('', 'market')) m
        FULL JOIN (SELECT time, agent_id, cause FROM {table}) e USING (time, agent_id) WHERE m.cause IS DISTINCT FROM e.cause"""
    rule = text(str(dso["enforcement"]))
    for says, sql in (
        ("a meter was held for a reason that is none", f"SELECT * FROM {table} WHERE cause NOT IN ({known})"),
        (f"the rule is that of the scenario ({rule})", f"SELECT * FROM {table} WHERE rule <> {rule}"),
        ("meters and enforcement tell the same of who was held", both),
    ):
        evidence.none_of(says, sql, keys)
    default = dso.get("messages")
    if default is None and evidence.one(f"SELECT count(*) FROM {table} WHERE cause LIKE 'default%'"):
        raise Wrong("table enforcement has a default limit, and the scenario has no messages that could be lost")
    if dso.get("ramp_kw_per_min") is None and evidence.one(f"SELECT count(*) FROM {table} WHERE cause LIKE 'ramp%'"):
        raise Wrong("table enforcement has a limit on a ramp, and the scenario has none")
    issues = f"(SELECT *, max(issued_at) FILTER (WHERE issued_at <= time) OVER (PARTITION BY time, agent_id) AS last FROM {evidence.table('envelopes')})"
    source = f"""(SELECT h.*, m.meter_kw, m.curtailed_kw, m.shifted_kw, h.cause LIKE '%_export' AS exporting,
            CASE WHEN h.cause LIKE '%_export' THEN l.export_limit_kw ELSE l.import_limit_kw END AS published_kw
        FROM {table} h JOIN {meters} m USING (time, agent_id)
        LEFT JOIN (FROM {issues} WHERE issued_at = last) l USING (time, agent_id))"""
    laws = [
        Law("a meter that is held stands at its limit, or beyond it by what nobody controls", source, keys,
            "CASE WHEN exporting THEN -meter_kw ELSE meter_kw - beyond_kw END", "limit_kw", KW),
        Law("solar power turned down is part of what meters gave up", source, keys, "clipped_kw", "curtailed_kw", KW, "<="),
        Law("load held back is what meters moved away", source, keys, "deferred_kw", "-shifted_kw", KW),
    ]  # fmt: skip
    if default is None:  # lost messages leave older issues in force, which may be wider
        laws.append(Law("a limit that was kept is no wider than the envelope in force", source, keys, "limit_kw", "published_kw", KW, "<="))  # fmt: skip
    else:
        told = f"(CASE WHEN exporting THEN {float(default['default_export_kw'])!r} ELSE {float(default['default_import_kw'])!r} END)"
        held = f"(FROM {source} WHERE cause LIKE 'default%')"
        laws.append(Law("a default is that of the scenario, in watts that can be sent", held, keys, f"{told} - limit_kw", f"greatest(0.001, {told} / 3276)", 0.0, "<="))  # fmt: skip
        laws.append(Law("a default is not wider than the scenario says", held, keys, "limit_kw", told, 1e-12, "<="))
    evidence.uphold(laws)
    return f"{rows} times a meter was held" if rows else "nobody was held"
