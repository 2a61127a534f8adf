"""What a check looks at: the tables of one folder of a run, and laws that every row must keep.

A :class:`Law` is one sentence about the rows of a table, written as SQL: a value, what it must be, and how far apart the
two may lie.  A row for which the comparison is not plainly true breaks the law; so a NaN, a null or a missing partner
breaks it too, and never passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.query import view_name

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["Check", "Evidence", "Law", "Wrong", "moment", "shown", "text"]


class Wrong(Exception):
    """A check found the first row that is wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class Check:
    """What came of one check."""

    name: str
    ok: bool
    detail: str
    """What was confirmed, or the first row that is wrong."""

    rows_checked: int


@dataclass(frozen=True, slots=True)
class Law:
    """``value`` compares with ``expected`` in every row of ``source``.

    All texts are SQL.  ``=`` allows ``tolerance`` either way, ``>=`` and ``<=`` allow it on the wrong side.
    """

    says: str
    """The law in words."""

    source: str
    """A table, or a query in brackets."""

    keys: tuple[str, ...]
    """The columns that name a row."""

    value: str
    expected: str
    tolerance: float
    relation: str = "="


@dataclass(slots=True)
class Evidence:
    """One folder of a run (``tables``, ``reference``, …), seen through SQL."""

    connection: duckdb.DuckDBPyConnection
    folder: Path
    section: str
    scenario: dict[str, Any]
    dt_h: float
    """Length of an interval. [h]"""

    rows_checked: int = 0

    def table(self, name: str) -> str:
        """Return a table's name in SQL."""
        return f'"{view_name(self.section, name)}"'

    def holds(self, name: str) -> bool:
        """Whether this folder has a table of that name."""
        return (self.folder / self.section / f"{name}.parquet").is_file()

    def all(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        rows: list[tuple[Any, ...]] = self.connection.execute(sql, list(parameters)).fetchall()
        return rows

    def one(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the single value of a query."""
        row = self.connection.execute(sql, list(parameters)).fetchone()
        return None if row is None else row[0]

    def arrow(self, sql: str) -> pa.Table:
        """Return the rows of a query as an Arrow table: for many rows."""
        return self.connection.sql(sql).to_arrow_table()

    def count(self, name: str) -> int:
        """Return the number of rows of a table, and count them as looked at."""
        rows = int(self.one(f"SELECT count(*) FROM {self.table(name)}"))
        self.rows_checked += rows
        return rows

    def uphold(self, laws: Sequence[Law]) -> None:
        """Raise :class:`Wrong` with the first row that breaks one of the laws."""
        for law in laws:
            self._uphold(law)

    def _uphold(self, law: Law) -> None:
        compare = {
            "=": f"abs(_value - _expected) <= {law.tolerance!r}",
            ">=": f"isfinite(_value) AND _value >= _expected - {law.tolerance!r}",
            "<=": f"isfinite(_value) AND _value <= _expected + {law.tolerance!r}",
        }[law.relation]
        keys = ", ".join(f'"{key}"' for key in law.keys)
        found = self.connection.execute(
            f"SELECT {keys}, _value, _expected, count(*) OVER () FROM "
            f"(SELECT *, CAST({law.value} AS DOUBLE) AS _value, CAST({law.expected} AS DOUBLE) AS _expected FROM {law.source}) "
            f"WHERE ({compare}) IS NOT TRUE ORDER BY {keys} LIMIT 1"
        ).fetchone()
        if found is None:
            return
        *row, value, expected, count = found
        where = ", ".join(f"{key} {shown(item)}" for key, item in zip(law.keys, row, strict=True))
        relation = {"=": "", ">=": "at least ", "<=": "at most "}[law.relation]
        more = f" ({count} rows are wrong)" if count > 1 else ""
        raise Wrong(f"{law.says}: {where}: {shown(value)}, expected {relation}{shown(expected)}{more}")

    def none_of(self, says: str, sql: str, keys: Sequence[str]) -> None:
        """Raise :class:`Wrong` if a query that looks for bad rows finds one."""
        names = ", ".join(f'"{key}"' for key in keys)
        found = self.connection.execute(
            f"SELECT {names}, count(*) OVER () FROM ({sql}) ORDER BY {names} LIMIT 1"
        ).fetchone()
        if found is not None:
            *row, count = found
            where = ", ".join(f"{key} {shown(item)}" for key, item in zip(keys, row, strict=True))
            raise Wrong(f"{says}: {where}" + (f" ({count} rows are wrong)" if count > 1 else ""))


def shown(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "nothing"
    if isinstance(value, float):
        return f"{value:.9g}"
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if hasattr(value, "strftime") else str(value)


def moment(time_us: int) -> str:
    """Return a time, in microseconds since 1970, as a person reads it."""
    return f"{datetime.fromtimestamp(time_us / 1e6, tz=UTC):%Y-%m-%dT%H:%M:%SZ}"


def text(name: str) -> str:
    """Return a name as an SQL literal."""
    return "'" + name.replace("'", "''") + "'"
