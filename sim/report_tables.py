"""A finished run opened for reading: its tables as SQL views, its clock, its scenario.

Every table of the run folder becomes a view ``WORLD.TABLE`` (``run.meters``, ``reference.bills``, …); the four worlds
are the folders ``tables``, ``reference``, ``ex_post`` and ``unmanaged``.  A table that is not there is simply not
there: :meth:`RunTables.has` says so.  Times reach Python as the index of their interval, by the SQL macro
``slot(time)``; what a person reads as a date comes from :class:`Clock`, the only place here that knows local time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sim.query import database, view_name
from sim.results import Run

__all__ = ["WORLDS", "Clock", "ReportError", "RunTables"]

WORLDS = {"run": "tables", "reference": "reference", "ex_post": "ex_post", "unmanaged": "unmanaged"}
"""Name of a world in SQL, and the section of the run folder that holds its tables."""


class ReportError(ValueError):
    """The run folder cannot be shown; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The intervals of a run, and what they are called."""

    start_s: int
    """Start of the first interval, seconds since 1970 in UTC."""
    step_s: int
    steps: int
    zone: str

    @property
    def dt_h(self) -> float:
        """Length of an interval. [h]"""
        return self.step_s / 3600.0

    @property
    def hours(self) -> float:
        return self.steps * self.dt_h

    def local(self, index: int) -> datetime:
        """Return the local time at which an interval starts (``steps`` is the end of the run)."""
        return datetime.fromtimestamp(self.start_s + index * self.step_s, UTC).astimezone(ZoneInfo(self.zone))

    def offsets(self) -> list[tuple[int, int]]:
        """Return (index, minutes): from this interval on, local time is UTC plus so many minutes."""
        found: list[tuple[int, int]] = []
        for index in range(self.steps + 1):
            offset = self.local(index).utcoffset() or timedelta()
            minutes = int(offset.total_seconds() // 60)
            if not found or found[-1][1] != minutes:
                found.append((index, minutes))
        return found

    def days(self) -> list[int]:
        """Return the first interval of every local calendar day; the first day may have begun before the run."""
        dates = [self.local(index).date() for index in range(self.steps)]
        return [index for index, date in enumerate(dates) if index == 0 or date != dates[index - 1]]

    @property
    def noun(self) -> str:
        """What the whole run is called: day, week, month, year, or so many days or hours."""
        days = self.hours / 24.0
        if self.steps == 1:
            return self.interval(1)
        named = {1: "day", 7: "week", 28: "month", 29: "month", 30: "month", 31: "month", 365: "year", 366: "year"}
        if days == int(days):
            return named.get(int(days), f"{int(days)} days")
        return f"{self.hours:.0f} hours"

    @property
    def this(self) -> str:
        """``this week``, ``these 3 days``."""
        return f"these {self.noun}" if self.noun[0].isdigit() else f"this {self.noun}"

    @property
    def the_same(self) -> str:
        """``the same week``, ``the same 3 days``."""
        return f"the same {self.noun}"

    @property
    def all_of(self) -> str:
        """``all week``, ``throughout the 3 days``, ``in this hour``."""
        if self.steps == 1:
            return f"in {self.this}"
        return f"throughout the {self.noun}" if self.noun[0].isdigit() else f"all {self.noun}"

    def interval(self, count: int) -> str:
        """What ``count`` intervals are called, without the count."""
        minutes = self.step_s // 60
        name = {15: "quarter-hour", 30: "half-hour", 60: "hour"}.get(minutes, f"{minutes}-minute interval")
        return name if count == 1 else f"{name}s"

    def moment(self, index: int) -> str:
        """``Fri 17 June, 11:00``."""
        at = self.local(index)
        return f"{at:%a} {at.day} {at:%B}, {at:%H:%M}"

    def dates(self) -> str:
        """``Mon 18 – Mon 25 July 2016``."""
        first = self.local(0)
        last = self.local(self.steps - 1) if self.steps > 1 else first
        end = f"{last:%a} {last.day} {last:%B %Y}"
        if first.date() == last.date():
            return end
        begin = f"{first:%a} {first.day}"
        if (first.year, first.month) != (last.year, last.month):
            begin += f" {first:%B}"
        if first.year != last.year:
            begin += f" {first:%Y}"
        return f"{begin} – {end}"


@dataclass(slots=True)
class RunTables:
    """The Parquet tables of one run folder behind one DuckDB connection."""

    folder: Path
    manifest: dict[str, Any] = field(init=False)
    scenario: dict[str, Any] = field(init=False)
    clock: Clock = field(init=False)
    _connection: Any = field(init=False)
    _columns: dict[tuple[str, str], tuple[str, ...]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in ("manifest.json", "tables/agents.parquet", "tables/meters.parquet")
                   if not (self.folder / name).is_file()]  # fmt: skip
        if missing:
            raise ReportError(
                f"{self.folder} is no finished run: {', '.join(missing)} is missing. "
                f"Give the folder that `commonwatt run` has written."
            )
        self.manifest = Run(self.folder).manifest
        self.scenario = _read_yaml(self.folder / "scenario.yaml")
        self._connection = database(self.folder)
        for world, section in WORLDS.items():
            self._connection.execute(f"CREATE SCHEMA {world}")
            for path in sorted((self.folder / section).glob("*.parquet")):
                self._connection.execute(
                    f'CREATE VIEW {world}.{path.stem} AS FROM main."{view_name(section, path.stem)}"'
                )
                described = self._connection.execute(f"DESCRIBE {world}.{path.stem}").fetchall()
                self._columns[world, path.stem] = tuple(str(row[0]) for row in described)
        self.clock = self._find_clock()
        self._connection.execute(
            f"CREATE MACRO slot(t) AS CAST(((epoch_us(t) // 1000000) - {self.clock.start_s}) // {self.clock.step_s} AS INTEGER)"
        )

    def has(self, world: str, table: str, *columns: str) -> bool:
        """Whether a table is there and has these columns."""
        known = self._columns.get((world, table))
        return known is not None and set(columns) <= set(known)

    def any(self, world: str, table: str) -> bool:
        """Whether a table is there and has a row."""
        return self.has(world, table) and bool(self.rows(f"SELECT 1 FROM {world}.{table} LIMIT 1"))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        found: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return found

    def columns(self, sql: str) -> dict[str, NDArray[Any]]:
        """Return the columns of a query as arrays; a missing number is NaN."""
        found: dict[str, NDArray[Any]] = {}
        for name, column in self._connection.execute(sql).fetchnumpy().items():
            if isinstance(column, np.ma.MaskedArray):
                missing: Any = np.nan if column.dtype.kind == "f" else None
                found[name] = np.asarray(
                    np.ma.filled(column if column.dtype.kind == "f" else column.astype(object), missing)
                )
            else:
                found[name] = np.asarray(column)
        return found

    def series(self, sql: str, fill: float = 0.0) -> dict[str, NDArray[np.float64]]:
        """Return a query with a column ``t`` (interval index) as arrays of shape (T,), ``fill`` where there is no row."""
        found = self.columns(sql)
        index = found.pop("t").astype(np.intp)
        inside = (index >= 0) & (index < self.clock.steps)
        whole = {}
        for name, column in found.items():
            values = np.full(self.clock.steps, fill)
            values[index[inside]] = column[inside].astype(float)
            whole[name] = values
        return whole

    def close(self) -> None:
        self._connection.close()

    def _find_clock(self) -> Clock:
        times = self.rows("SELECT DISTINCT epoch_us(time) // 1000000 AS s FROM run.meters ORDER BY s")
        if not times:
            raise ReportError(f"{self.folder}: the table meters has no row, so there is nothing to show. Run it again.")
        seconds = np.array([row[0] for row in times], dtype=np.int64)
        step = (
            int(np.diff(seconds).min())
            if seconds.size > 1
            else round(60 * float(self._declared("interval_minutes", 15)))
        )
        steps = int((seconds[-1] - seconds[0]) // step) + 1
        return Clock(int(seconds[0]), step, steps, str(self._declared("time_zone", "UTC")))

    def _declared(self, key: str, default: object) -> Any:
        """A setting from the manifest, else from anywhere in the scenario, else the default."""
        if key in self.manifest:
            return self.manifest[key]
        found = find_key(self.scenario, key)
        return default if found is None else found


def find_key(tree: object, key: str) -> Any:
    """Return the first value of ``key`` in a tree of mappings and lists, nearest to the root; None without one."""
    level = [tree]
    while level:
        for node in level:
            if isinstance(node, dict) and node.get(key) is not None:
                return node[key]
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
    return None


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    from ruamel.yaml import YAML

    with path.open(encoding="utf-8") as stream:
        found = YAML(typ="safe", pure=True).load(stream)
    return found if isinstance(found, dict) else {}
