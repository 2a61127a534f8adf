"""Delivery days, counted anew from the scenario: which interval belongs to which settlement period.

A delivery day begins at a local clock time; its name is the local date on which it begins.  So the name of an interval's
day is the date that its local clock would show if the day began at midnight (1)::

    name(t) = date(local time of t − delivery_day_start)                                                           (1)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sim.certify_evidence import Evidence

__all__ = ["days", "period_sql", "whole_run"]


def period_sql(scenario: dict[str, Any], column: str) -> str:
    """Return equation (1) as SQL."""
    hours, minutes = (int(part) for part in str(scenario["time"]["delivery_day_start"]).split(":"))
    zone = str(scenario["time"]["time_zone"]).replace("'", "''")
    local = f"({column} AT TIME ZONE '{zone}')"
    return f"CAST(CAST({local} - to_minutes({60 * hours + minutes}) AS DATE) AS VARCHAR)"


def days(evidence: Evidence, meters: str) -> list[tuple[str, int, int, int]]:
    """Return name, first and last interval (microseconds since 1970) and number of intervals of every delivery day of the run."""
    name = period_sql(evidence.scenario, "time")
    rows = evidence.all(
        f"SELECT {name} AS name, epoch_us(min(time)), epoch_us(max(time)), count(DISTINCT time) FROM {meters} GROUP BY ALL ORDER BY 2"
    )
    return [(str(label), int(first), int(last), int(steps)) for label, first, last, steps in rows]


def whole_run(scenario: dict[str, Any]) -> tuple[int, int]:
    """Return when the run begins and when its last delivery day ends, in microseconds since 1970.

    The first delivery day is short where the run begins in the midst of one.
    """
    told = scenario["time"]
    zone, start = ZoneInfo(told["time_zone"]), datetime.fromisoformat(told["start"])
    hours, minutes = (int(part) for part in str(told["delivery_day_start"]).split(":"))
    begun = start.replace(hour=hours, minute=minutes)
    day = begun if begun <= start else begun - timedelta(days=1)
    end = day + timedelta(days=int(told["days"]))
    first, last = (round(moment.replace(tzinfo=zone).timestamp() * 1e6) for moment in (start, end))
    return first, last
