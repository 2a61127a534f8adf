"""From arrays to rows: columns are checked against the schema before anything is written.

:func:`arrow_table` refuses what the schema does not allow (a missing or unknown column, columns of different length, a
wrong type, a NaN that nobody declared) and tells all mistakes at once.  :func:`blocks` turns arrays of shape (n, T)
into rows, first interval first.  :class:`Sink` is the Parquet file they go to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.schema import TABLES, Column, Table, arrow_schema, arrow_type

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["PlaceTakenError", "ResultsError", "Sink", "arrow_table", "blocks"]


ROW_GROUP = 65_536
"""Rows that are gathered before they go to the disk: a year of a hundred homes needs no more memory than a day."""


class ResultsError(RuntimeError):
    """A run folder cannot be written or read; the message says where and why."""


class PlaceTakenError(ResultsError, ValueError):
    """The folder that was asked for holds something else: a mistake of whoever asked."""


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
    names = _texts([str(name) for name in ids])
    index = np.tile(np.arange(n, dtype=np.int32), steps)
    coded = pa.Array.from_buffers(pa.int32(), len(index), [None, pa.py_buffer(index)])
    rows: dict[str, Any] = {
        "time": np.repeat(np.asarray(times), n),
        id_column: pa.DictionaryArray.from_arrays(coded, names),
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
            arrays.append(_array(column, columns.get(column.name, _nothing(column)), rows))
        except _Refused as refused:
            mistakes.append(f"column '{column.name}' {refused}")
    if mistakes:
        raise ResultsError(f"Table '{name}': {'; '.join(mistakes)}.")
    return pa.Table.from_arrays(arrays, schema=arrow_schema(table))


class _Refused(ValueError):
    """What is wrong with the values of a column."""


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
    return None if isinstance(values, np.ndarray) and values.ndim == 0 else len(values)


def _nothing(column: Column) -> Any:
    """Return what an optional column holds where the writer says nothing."""
    return {"float64": np.nan, "string": "", "time": None}.get(column.kind)


def _array(column: Column, values: Any, rows: int) -> pa.Array:
    """Return the column as an Arrow array of its type; never a silent change of a value.

    Arrays are made from NumPy's buffers: ``pyarrow.array`` would import pandas, a second that a short run notices.
    """
    import pyarrow as pa

    if isinstance(values, pa.ChunkedArray | pa.Array):
        return _taken_over(column, values)
    scalar = _length(values) is None
    if column.kind == "string":
        return _texts([values] if scalar else values, rows if scalar else 1)
    array = (
        np.asarray([values] if scalar else values) if not hasattr(values, "tz") else values.tz_convert(None).to_numpy()
    )
    if column.kind == "time":
        array = _times(column, array)
    elif column.kind == "float64":
        array = _floats(column, array)
    elif column.kind == "bool" and array.dtype != np.bool_:
        raise _Refused(f"must hold true or false; given {array.dtype}")
    elif column.kind == "int64":
        if array.dtype.kind not in "iu" and array.size:
            raise _Refused(f"must hold whole numbers (int64); given {array.dtype}")
        array = array.astype(np.int64)
    return _of_buffers(column, np.repeat(array, rows) if scalar else array)


def _of_buffers(column: Column, array: NDArray[Any]) -> pa.Array:
    """Return numbers, truth values or times as an Arrow array on the same memory."""
    import pyarrow as pa

    missing = None
    if column.kind == "time":
        gone = np.isnat(array)
        missing = pa.py_buffer(np.packbits(~gone, bitorder="little")) if gone.any() else None
        array = array.astype(np.int64)
    elif column.kind == "bool":
        return pa.Array.from_buffers(
            pa.bool_(), len(array), [None, pa.py_buffer(np.packbits(array, bitorder="little"))]
        )
    return pa.Array.from_buffers(arrow_type(column), len(array), [missing, pa.py_buffer(np.ascontiguousarray(array))])


def _texts(values: Any, repeat: int = 1) -> pa.Array:
    """Return texts as an Arrow array."""
    import pyarrow as pa

    texts = values.tolist() if isinstance(values, np.ndarray) else list(values)
    wrong = next((k for k, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        if texts[wrong] is None:
            raise _Refused(f"is empty in row {wrong}")
        raise _Refused(f"must hold text (string); given {texts[wrong]!r} in row {wrong}")
    joined = "".join(texts)
    sizes = map(len, texts) if joined.isascii() else (len(text.encode()) for text in texts)
    offsets = np.zeros(len(texts) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(sizes, dtype=np.int64, count=len(texts)), out=offsets[1:])
    array = pa.Array.from_buffers(pa.string(), len(texts), [None, pa.py_buffer(offsets), pa.py_buffer(joined.encode())])
    if repeat == 1:
        return array
    index = pa.Array.from_buffers(pa.int32(), repeat, [None, pa.py_buffer(np.zeros(repeat, dtype=np.int32))])
    return pa.DictionaryArray.from_arrays(index, array).cast(pa.string())


def _floats(column: Column, values: NDArray[Any]) -> NDArray[np.float64]:
    """Return float64, refusing text, truth values, and what the column may not hold."""
    if values.dtype.kind not in "fiuO":
        raise _Refused(f"must hold numbers (float64); given {values.dtype}")
    try:
        array = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise _Refused(f"must hold numbers (float64): {error}") from None
    wrong = np.isnan(array) if column.numbers == "inf" else np.isinf(array)
    if column.numbers == "finite":
        wrong |= np.isnan(array)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        what = "infinite" if np.isinf(array[row]) else array[row]
        raise _Refused(f"is {what} in row {row}, {int(wrong.sum())} of {len(array)} rows")
    return array


def _times(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """Return microseconds in UTC, refusing what is no time, and a missing one where the column needs one."""
    if values.dtype.kind == "O":
        values = np.array([_naive(moment) for moment in values], dtype="datetime64[us]")
    elif values.dtype.kind != "M":
        raise _Refused(f"must hold times; given {values.dtype}")
    array = values.astype("datetime64[us]")
    missing = np.isnat(array)
    if missing.any() and column.numbers != "nan":
        raise _Refused(f"is empty in row {int(np.flatnonzero(missing)[0])}")
    return array


def _naive(moment: Any) -> Any:
    """Return a Python time as NumPy takes it: UTC without saying so."""
    if moment is None:
        return np.datetime64("NaT", "us")
    if not isinstance(moment, datetime):
        raise _Refused(f"must hold times; given {moment!r}")
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _taken_over(column: Column, values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return an Arrow array in the column's type, if it holds what the column may hold."""
    import pyarrow as pa

    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    try:
        array = array if array.type == arrow_type(column) else array.cast(arrow_type(column))
    except pa.ArrowException as error:
        raise _Refused(f"must hold {column.kind}: {str(error).splitlines()[0]}") from None
    if array.null_count and column.numbers != "nan":
        raise _Refused(f"is empty in row {array.is_null().to_pylist().index(True)}")
    if column.kind == "float64" and not array.null_count:
        _floats(column, np.from_dlpack(array))
    return array


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
