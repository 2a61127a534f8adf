"""From arrays to rows: columns are checked against the schema before anything is written.

:func:`arrow_table` refuses what the schema does not allow (a missing or unknown column, columns of different length, a
wrong type, a NaN that nobody declared) and tells all mistakes at once.  :func:`blocks` turns arrays of shape (n, T)
into rows, first interval first.  :class:`Sink` is the Parquet file they go to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.schema import TABLES, Column, Table, arrow_schema, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import ArrayLike, NDArray

__all__ = ["ResultsError", "Sink", "arrow_table", "blocks"]


ROW_GROUP = 65_536
"""Rows that are gathered before they go to the disk: a year of a hundred homes needs no more memory than a day."""


class ResultsError(RuntimeError):
    """A run folder cannot be written or read; the message says where and why."""


def blocks(times: NDArray[Any], ids: Sequence[str], id_column: str = "agent_id", **columns: Any) -> dict[str, Any]:
    """Flatten arrays of shape (n, T) into the columns of a table, ordered by time, then by agent.

    Parameters
    ----------
    times : shape (T,)
        Start of each interval. [UTC]
    ids : length n
        The names that go into ``id_column``.
    **columns
        By name: shape (n, T), or what broadcasts to it (``(n, 1)``, ``(1, T)``); a scalar passes through.

    Examples
    --------
    >>> times = np.array(["2030-01-01T00:00", "2030-01-01T00:15"], dtype="datetime64[s]")
    >>> rows = blocks(times, ["a", "b"], load_kw=np.array([[1.0, 2.0], [3.0, 4.0]]), stage="settled")
    >>> rows["agent_id"].to_pylist(), rows["load_kw"].tolist(), rows["stage"]
    (['a', 'b', 'a', 'b'], [1.0, 3.0, 2.0, 4.0], 'settled')
    """
    import pyarrow as pa

    n, steps = len(ids), len(times)
    # One small dictionary and an index per row: a year of ids costs no string per row until it is written.
    index = pa.array(np.tile(np.arange(n, dtype=np.int32), steps))
    rows: dict[str, Any] = {
        "time": np.repeat(np.asarray(times), n),
        id_column: pa.DictionaryArray.from_arrays(index, pa.array([str(name) for name in ids], pa.string())),
    }
    for name, values in columns.items():
        array = np.asarray(values)
        rows[name] = values if array.ndim == 0 else np.broadcast_to(array, (n, steps)).T.ravel()
    return rows


def arrow_table(name: str, columns: Mapping[str, Any]) -> pa.Table:
    """Return the rows as an Arrow table of the schema, or say everything that is wrong with them.

    Parameters
    ----------
    name
        The table, one of :data:`sim.schema.TABLES`.
    columns
        By column name an array (NumPy, Arrow, list) or a scalar, which every row then has.

    Raises
    ------
    ResultsError
        With one sentence per mistake.
    """
    import pyarrow as pa

    table = TABLES.get(name)
    if table is None:
        raise ResultsError(f"There is no table '{name}'; the tables are {', '.join(TABLES)}.")
    mistakes = _names(table, columns)
    lengths = {key: _length(columns[key]) for key in table.names if key in columns}
    counts = {length for length in lengths.values() if length is not None}
    if len(counts) > 1:
        told = ", ".join(f"{key} {length}" for key, length in lengths.items() if length is not None)
        mistakes.append(f"its columns have different lengths: {told}")
    if mistakes:
        raise ResultsError(f"Table '{name}': {'; '.join(mistakes)}.")
    rows = counts.pop() if counts else 1
    arrays = []
    for column in table.columns:
        try:
            array = _array(column, columns.get(column.name, _nothing(column)), rows)
        except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
            mistakes.append(f"column '{column.name}' must hold {column.kind}: {str(error).splitlines()[0]}")
            continue
        arrays.append(array)
        mistakes += _values(column, array)
    if mistakes:
        raise ResultsError(f"Table '{name}': {'; '.join(mistakes)}.")
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


def _names(table: Table, columns: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the names of the columns."""
    missing = [c.name for c in table.columns if not c.optional and c.name not in columns]
    unknown = [name for name in columns if name not in table.names]
    mistakes = [f"column{'s' * (len(missing) > 1)} {', '.join(missing)} missing"] if missing else []
    if unknown:
        mistakes.append(f"it has no column {', '.join(unknown)} (its columns are {', '.join(table.names)})")
    return mistakes


def _length(values: Any) -> int | None:
    """Return the number of rows, or None for a scalar."""
    if values is None or isinstance(values, str | bytes | datetime) or not hasattr(values, "__len__"):
        return None
    return None if np.ndim(values) == 0 else len(values)


def _nothing(column: Column) -> Any:
    """Return what an optional column holds where the writer says nothing."""
    return {"float64": np.nan, "string": "", "time": None}.get(column.kind)


def _array(column: Column, values: Any, rows: int) -> pa.Array:
    """Return the column as an Arrow array of its type; never a silent change of a value."""
    import pyarrow as pa

    kind = arrow_type(column)
    if _length(values) is None:
        scalar = _array(column, np.asarray([values]) if values is not None else [None], 1)
        return pa.repeat(scalar[0], rows)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values if values.type == kind else values.cast(kind)
    if column.kind == "float64":
        return pa.array(_floats(values), kind)
    if column.kind == "int64":
        return pa.array(_integers(values), kind)
    array = np.asarray(values) if not hasattr(values, "tz") else values
    if column.kind == "bool" and array.dtype != np.bool_:
        raise TypeError(f"given {array.dtype}")
    if column.kind == "string" and array.dtype.kind not in "UO":
        raise TypeError(f"given {array.dtype}")
    if column.kind == "time":
        if isinstance(array, np.ndarray) and array.dtype.kind == "M":
            array = array.astype("datetime64[us]")
        elif isinstance(array, np.ndarray) and array.dtype.kind != "O":
            raise TypeError(f"given {array.dtype}")
    return pa.array(array, kind)


def _floats(values: ArrayLike) -> NDArray[np.float64]:
    """Return float64, refusing text and truth values."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiuO":
        raise TypeError(f"given {array.dtype}")
    return np.ascontiguousarray(array, dtype=np.float64)


def _integers(values: ArrayLike) -> NDArray[np.int64]:
    """Return int64, refusing what is not a whole number."""
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"given {array.dtype}")
    return array.astype(np.int64)


def _values(column: Column, array: pa.Array) -> list[str]:
    """Return what is wrong with the values of a column: the first forbidden null, NaN or infinity."""
    if column.numbers == "nan":
        if column.kind == "float64" and np.isinf(array.to_numpy(zero_copy_only=False)).any():
            return [f"column '{column.name}' is infinite"]
        return []
    if array.null_count:
        return [f"column '{column.name}' is empty in row {array.is_null().to_pylist().index(True)}"]
    if column.kind != "float64":
        return []
    numbers = array.to_numpy(zero_copy_only=False)
    bad = np.isnan(numbers) if column.numbers == "inf" else ~np.isfinite(numbers)
    if not bad.any():
        return []
    row = int(np.flatnonzero(bad)[0])
    return [f"column '{column.name}' is {numbers[row]} in row {row}, {int(bad.sum())} of {len(numbers)} rows"]


@dataclass(slots=True)
class Sink:
    """One Parquet file that grows."""

    file: Path
    schema: pa.Schema
    waiting: list[pa.Table] = field(default_factory=list)
    writer: Any = None
    rows: int = 0
    sealed: bool = False

    def add(self, rows: pa.Table) -> None:
        self.waiting.append(rows)
        self.rows += rows.num_rows
        if sum(part.num_rows for part in self.waiting) >= ROW_GROUP:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.writer is None:
            texts = [column.name for column in self.schema if pa.types.is_string(column.type)]
            # No minimum and maximum of floats: Parquet leaves NaN out of them, and readers that prune by them lose its rows.
            exact = [column.name for column in self.schema if not pa.types.is_floating(column.type)]
            self.writer = pq.ParquetWriter(
                self.file, self.schema, version="2.6", compression="zstd", use_dictionary=texts, write_statistics=exact
            )
        if self.waiting:
            together = pa.concat_tables(self.waiting).combine_chunks()
            self.waiting = []
            self.writer.write_table(together, row_group_size=max(together.num_rows, 1))

    def close(self) -> None:
        if not self.sealed:
            self.flush()
            self.writer.close()
            self.sealed = True
