"""The calendar of a run: intervals in UTC, delivery days that begin at a local hour, and the moments at which things are decided.

An interval is counted from the start of the run; its stamp is its start. A delivery day reaches from one local ``delivery_day_start`` to
the next, so with quarter-hours it has 92, 96 or 100 of them. Moments are minutes from the start of the run and may be negative: what
is decided about the first day is decided before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

__all__ = ["Clock", "Day"]

UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, eq=False)
class Day:
    """One delivery day."""

    index: int
    name: str
    """Local date on which the delivery day begins, also where the run begins in the midst of it."""
    start: int
    """Its first interval."""
    steps: int
    publish_min: int
    """When the envelopes are published, in minutes from the start of the run."""
    gate_min: int
    """When the day-ahead market closes."""

    @property
    def end(self) -> int:
        """The first interval of the day after."""
        return self.start + self.steps


class Clock:
    """Turns local times into intervals and back.

    Parameters
    ----------
    start
        Local, without zone.
    days
        Number of delivery days; the first is short when the run starts in the midst of one.
    publish, gate, delivery_day_start
        Local clock times.
    """

    def __init__(
        self,
        start: datetime,
        days: int,
        interval_minutes: int,
        time_zone: str,
        delivery_day_start: time = time(0),
        publish: time = time(10),
        gate: time = time(11),
    ) -> None:
        self.zone = ZoneInfo(time_zone)
        self.interval_minutes = interval_minutes
        self.dt_h = interval_minutes / 60.0
        self.start_utc = start.replace(tzinfo=self.zone).astimezone(UTC)
        begin = self._boundary(start.date(), delivery_day_start)
        day = start.date() if begin <= self.start_utc else start.date() - timedelta(days=1)
        rows: list[Day] = []
        first = 0
        for index in range(days):
            end = self._step(self._boundary(day + timedelta(days=index + 1), delivery_day_start))
            gate_min = self._last_before(first, gate)
            publish_min = self._last_before(first, publish)
            if publish_min >= gate_min:
                publish_min = self._last_before(first, publish, days_back=1)
            rows.append(
                Day(index, (day + timedelta(days=index)).isoformat(), first, end - first, publish_min, gate_min)
            )
            first = end
        self.days = tuple(rows)
        self.steps = first

    def _boundary(self, day: date, clock: time) -> datetime:
        return datetime.combine(day, clock, tzinfo=self.zone).astimezone(UTC)

    def _step(self, moment: datetime) -> int:
        return round((moment - self.start_utc).total_seconds() / 60.0) // self.interval_minutes

    def _last_before(self, step: int, clock: time, days_back: int = 0) -> int:
        """Minutes of the last such clock time that lies before the beginning of an interval."""
        begin = self.moment(step)
        day = begin.astimezone(self.zone).date() - timedelta(days=days_back)
        at = self._boundary(day, clock)
        if at >= begin - timedelta(minutes=5):
            at = self._boundary(day - timedelta(days=1), clock)
        return round((at - self.start_utc).total_seconds() / 60.0)

    def moment(self, step: int) -> datetime:
        """Return when an interval begins, in UTC."""
        return self.start_utc + timedelta(minutes=step * self.interval_minutes)

    def at_minute(self, minute: float) -> datetime:
        """Return a moment given in minutes from the start of the run, in UTC."""
        return self.start_utc + timedelta(minutes=minute)

    def times(self, start: int, steps: int) -> NDArray[np.datetime64]:
        """Return the stamps of a range of intervals, UTC, shape (steps,)."""
        zero = np.datetime64(self.start_utc.replace(tzinfo=None), "s")
        return zero + np.arange(start, start + steps) * np.timedelta64(self.interval_minutes * 60, "s")

    def local_days(self) -> tuple[date, ...]:
        """Return the local dates from the day before the run to the day after it."""
        first = self.start_utc.astimezone(self.zone).date() - timedelta(days=1)
        last = self.moment(self.steps).astimezone(self.zone).date() + timedelta(days=1)
        return tuple(first + timedelta(days=k) for k in range((last - first).days + 1))

    def local_step(self, day: date, hour: float) -> int:
        """Return the interval in which a local clock time lies, given in hours; it may be negative."""
        minutes = round(hour * 60.0)
        return self._step(self._boundary(day, time(minutes // 60, minutes % 60)))

    def weeks_earlier(self, start: int, steps: int, weeks: int) -> NDArray[np.int64]:
        """Return the intervals with the same local clock times some weeks before, shape (steps,); they may be negative."""
        out = np.empty(steps, dtype=np.int64)
        for k in range(steps):
            local = self.moment(start + k).astimezone(self.zone).replace(tzinfo=None)
            past = (local - timedelta(weeks=weeks)).replace(tzinfo=self.zone)
            out[k] = self._step(past.astimezone(UTC))
        return out
