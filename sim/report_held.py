"""Who was held, by which limit and by which rule, as the report tells it: one row for a member, a limit and a direction."""

from __future__ import annotations

from dataclasses import dataclass

from sim.report_tables import RunTables

__all__ = ["Held", "held"]


@dataclass(frozen=True, slots=True)
class Held:
    """What a member gave up to one kind of limit in one direction."""

    agent_id: str
    cause: str
    """envelope, default or ramp, with _export or _import."""
    rule: str
    intervals: int
    clipped_kwh: float
    battery_kwh: float
    """Taken more or given less (+), taken less or given more (−)."""
    deferred_kwh: float


def held(tables: RunTables) -> list[Held]:
    """Return who was held, the largest energy first; nothing where the run does not say."""
    if not tables.has("run", "enforcement"):
        return []
    dt = repr(tables.clock.dt_h)
    return [
        Held(str(name), str(cause), str(rule), int(count), *(float(v) for v in energies))
        for name, cause, rule, count, *energies in tables.rows(
            f"SELECT agent_id, cause, rule, count(*), sum(clipped_kw) * {dt}, sum(battery_kw) * {dt}, sum(deferred_kw) * {dt} "
            "FROM run.enforcement GROUP BY agent_id, cause, rule "
            "ORDER BY sum(clipped_kw + abs(battery_kw) + deferred_kw) DESC, agent_id, cause"
        )
    ]
