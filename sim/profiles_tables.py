"""Profiles from your own tables: meter data as CSV or Parquet.

A table is *wide*, one column per meter::

    time,home 1,home 2
    2024-03-31T00:00+01:00,0.21,0.05
    2024-03-31T00:15+01:00,0.19,0.05

or *long*, with exactly the columns ``time``, ``id`` and ``value``.  A stamp labels the beginning of its interval.  Stamps
with an offset (or ``Z``) are what they say; stamps without need a time zone, in which the two hours of an autumn night
that bear the same name are told apart by their order, and the hour that spring leaves out does not exist.

Meter data is refused rather than repaired: whoever fills a gap should know that he does.  Everything that keeps a table
from being one unbroken grid is told at once, with ``file:line:column:`` (in Parquet the row, from 1): gaps, stamps that
occur twice or go back, intervals of other lengths, cells without a number, local times that do not exist, and figures
beyond anything that a home has. Of mistakes that are alike the first few are told, and how many follow.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.profile_store import ArrayProfiles, Floats, ProfileError, Profiles
from sim.stamps import EPOCH, first_few, instants_of, zone_of

__all__ = ["UNITS", "table_profiles"]

UNITS = {"kw": 1.0, "w": 1e-3, "mw": 1e3, "kwh": 1.0, "wh": 1e-3, "1": 1.0}
"""What a figure is multiplied with to be kW; kwh and wh are energies of an interval; 1 is a multiple of a nameplate."""

MOST_KW, MOST_NAMEPLATES = 1e6, 1e4
"""Figures beyond these are slips: a million kW is a large power station, ten thousand times its nameplate no device has."""

_LONG = {"time", "id", "value"}


@dataclass(frozen=True, slots=True, eq=False)
class _Series:
    """Columns that share their stamps: all of a wide table, one of a long one."""

    names: tuple[str, ...]
    lines: Sequence[int]
    stamps: Sequence[str | datetime]
    values: Floats
    """NaN where there is none. Shape (n, k)."""
    refused: Sequence[int] = ()
    """Lines that were told already and are not among ``lines``."""


def table_profiles(
    path: str | Path,
    time_zone: str | None = None,
    unit: str = "kw",
    *,
    name: str | None = None,
    most: float | None = None,
    measure: str = "",
) -> Profiles:
    """Read meter data.

    Parameters
    ----------
    path
        A CSV file (UTF-8, commas or semicolons, decimal points) or a Parquet file.
    time_zone
        Of stamps without an offset, such as ``Europe/Berlin``; ``+01:00`` for meters that keep winter time all year.
    unit
        One of :data:`UNITS`.
    name
        What the file is called in messages; its own name where not given.
    most, measure
        Bound of what is read, and in which unit that is; where not given, those of the unit.

    Returns
    -------
    The store, in kW (unit 1: as given). It wraps at the ends of the table.
    """
    path = Path(path)
    file = path.name if name is None else name
    if unit not in UNITS:
        raise ProfileError(file, [f"there is no unit {unit!r}. Give one of {', '.join(UNITS)}."])
    zone = None if time_zone is None else zone_of(file, time_zone)
    parquet = path.suffix.lower() in {".parquet", ".pq"}
    series, mistakes = _read_parquet(path, file) if parquet else _read_csv(path, file)
    grids = []
    for one in series:
        grid, more = _grid(file, one, zone, f" of {one.names[0]}" if len(series) > 1 else "")
        mistakes += more
        grids.append(grid)
    mistakes += _unequal(file, series, grids)
    if not series and not mistakes:
        mistakes.append(f"{file}:1:time: there are no rows; two are needed at least.")
    if mistakes:
        raise ProfileError(file, list(dict.fromkeys(mistakes)))
    start, step_s = next(grid for grid in grids if grid is not None)
    factor = UNITS[unit] * (3600 / step_s if unit in {"kwh", "wh"} else 1.0)
    with np.errstate(over="ignore"):  # told in the next line
        values = [factor * one.values for one in series]
    mistakes = _too_large(
        file,
        series,
        values,
        most or (MOST_NAMEPLATES if unit == "1" else MOST_KW),
        measure or ("times the nameplate" if unit == "1" else "kW"),
        "any price" if measure else "any home",
    )
    if mistakes:
        raise ProfileError(file, mistakes)
    return ArrayProfiles(
        name=file,
        names=[name for one in series for name in one.names],
        start=np.datetime64(start, "s"),
        step_minutes=step_s // 60,
        values=np.concatenate([one.T for one in values]),
        lines=[one.lines for one in series for _ in one.names],
    )


# --- files ------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, file: str) -> tuple[list[_Series], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [f"{file}:1: the file is not UTF-8 (byte {error.start}). Save it as UTF-8."]
    except OSError as error:
        return [], [f"{file}:1: the file cannot be read: {error.strerror}."]
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        return [], [f"{file}:{reader.line_num}: the line cannot be read: {error}."]
    header = [name.strip() for name in rows[0][1]] if rows else []
    mistakes = _header_mistakes(file, header)
    if mistakes:
        return [], mistakes
    odd = [(line, cells) for line, cells in rows if len(cells) != len(header)]
    mistakes += first_few(
        [f"{file}:{line}: the row has {len(cells)} cells, the header {len(header)}." for line, cells in odd]
    )
    kept = [(line, cells) for line, cells in rows[1:] if len(cells) == len(header)]
    lines, refused = [line for line, _ in kept], [line for line, _ in odd]
    time = header.index("time")
    stamps = [cells[time].strip() for _, cells in kept]
    if set(header) == _LONG:
        ids = [cells[header.index("id")].strip() for _, cells in kept]
        values, more = _numbers(file, ("value",), lines, [[cells[header.index("value")]] for _, cells in kept])
        return _split(ids, lines, stamps, values, refused), mistakes + more
    names = tuple(name for name in header if name != "time")
    cells_of = [[cell for k, cell in enumerate(cells) if k != time] for _, cells in kept]
    values, more = _numbers(file, names, lines, cells_of)
    return [_Series(names, lines, stamps, values, refused)], mistakes + more


def _numbers(
    file: str, names: Sequence[str], lines: Sequence[int], rows: Sequence[Sequence[str]]
) -> tuple[Floats, list[str]]:
    """Return cells as numbers, NaN where they are empty; a sentence where they are something else."""
    shape = (len(rows), len(names))
    try:
        if all(_plain("".join(cells)) for cells in rows):
            return np.array(rows, dtype=np.float64).reshape(shape), []
    except ValueError:
        pass
    values = np.full(shape, np.nan)
    commas: list[str] = []
    others: list[str] = []
    for k, cells in enumerate(rows):
        for j, cell in enumerate(cells):
            if not cell.strip():
                continue
            try:
                values[k, j] = float(cell if _plain(cell) else "?")
            except ValueError:
                comma = " Write a decimal point, not a comma." if "," in cell else ""
                (commas if comma else others).append(
                    f"{file}:{lines[k]}:{names[j]}: expected a number, given {cell.strip()!r}.{comma}"
                )
                values[k, j] = 0.0  # told once
    return values, first_few(commas) + first_few(others)


def _plain(cell: str) -> bool:
    """Whether a text holds nothing that Python reads in numbers and other programs do not: 1_000, and digits of other scripts."""
    return "_" not in cell and cell.isascii()


def _read_parquet(path: Path, file: str) -> tuple[list[_Series], list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as opened:
            table = opened.read()
    except (OSError, pa.ArrowInvalid) as error:
        return [], [f"{file}:1: the file cannot be read as Parquet: {error}"]
    mistakes = _header_mistakes(file, table.column_names)
    if mistakes:
        return [], mistakes
    is_long = set(table.column_names) == _LONG
    names = tuple(name for name in table.column_names if name not in ({"time", "id"} if is_long else {"time"}))
    columns = []
    for name in names:
        kind = table[name].type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
            mistakes.append(f"{file}:1:{name}: expected numbers, the column holds {kind}.")
            continue
        column = pc.fill_null(table[name].cast(pa.float64()), np.nan).combine_chunks()
        columns.append(np.concatenate([np.empty(0), *(np.from_dlpack(chunk) for chunk in _chunks(column))]))
    kind = table["time"].type
    if not (pa.types.is_timestamp(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        mistakes.append(f"{file}:1:time: expected time stamps, the column holds {kind}.")
    if mistakes:
        return [], mistakes
    stamps = _parquet_stamps(table["time"])
    lines = range(1, len(stamps) + 1)
    values = np.stack(columns, axis=1)
    if is_long:
        return _split([str(one) for one in table["id"].to_pylist()], lines, stamps, values), []
    return [_Series(names, lines, stamps, values)], []


def _chunks(column: Any) -> list[Any]:
    """Return the pieces of an arrow column, whether it comes as one or as several."""
    return list(getattr(column, "chunks", [column]))


def _parquet_stamps(column: Any) -> list[str | datetime]:
    """Return stamps as text or as datetimes, with a zone where the column has one; "" where there is none."""
    import pyarrow as pa

    kind = column.type
    if not pa.types.is_timestamp(kind):
        return [one or "" for one in column.to_pylist()]
    micro = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.int64()).to_pylist()
    epoch = EPOCH if kind.tz else EPOCH.replace(tzinfo=None)
    return ["" if one is None else epoch + timedelta(microseconds=one) for one in micro]


def _header_mistakes(file: str, header: Sequence[str]) -> list[str]:
    if not any(header):
        return [f"{file}:1: the file is empty. Its first line names the columns: time, then one per meter."]
    if len(header) == 1 and "\t" in header[0]:
        return [f"{file}:1: the columns are parted by tabs. Part them by commas or semicolons."]
    mistakes = []
    if "time" not in header:
        near = [name for name in header if name.lower() in {"time", "timestamp", "datetime", "date", "zeit"}]
        advice = f"Rename {near[0]!r} to time." if near else f"The columns are {', '.join(header)}."
        mistakes.append(f"{file}:1:time: the column time is missing. {advice}")
    mistakes += [
        f"{file}:1:{name}: the column stands there twice." for name, times in Counter(header).items() if times > 1
    ]
    if "" in header:
        mistakes.append(f"{file}:1: column {list(header).index('') + 1} has no name.")
    if header == ["time"]:
        mistakes.append(f"{file}:1: there is no column besides time.")
    return mistakes


def _split(
    ids: Sequence[str],
    lines: Sequence[int],
    stamps: Sequence[str | datetime],
    values: Floats,
    refused: Sequence[int] = (),
) -> list[_Series]:
    """Take a long table apart, one series for each id in the order of their first rows."""
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        rows_of.setdefault(name, []).append(row)
    return [
        _Series((name,), [lines[row] for row in rows], [stamps[row] for row in rows], values[rows], refused)
        for name, rows in rows_of.items()
    ]


# --- times ------------------------------------------------------------------------------------------------------------


def _grid(file: str, series: _Series, zone: tzinfo | None, who: str) -> tuple[tuple[int, int] | None, list[str]]:
    """Return the start (seconds since 1970) and the step (seconds) of a series, and what keeps it from being a grid."""
    instants, mistakes = instants_of(file, series.lines, series.stamps, zone)
    mistakes += _gaps_in_values(file, series)
    rows = [
        (line, stamp, at)
        for line, stamp, at in zip(series.lines, series.stamps, instants, strict=True)
        if at is not None
    ]
    refused = [line for line, at in zip(series.lines, instants, strict=True) if at is None] + list(series.refused)
    if len(rows) < 2:
        if not mistakes and not refused:
            mistakes.append(f"{file}:1:time: there are {len(rows)} rows{who}; two are needed at least.")
        return None, mistakes
    later = np.diff(np.array([at for _, _, at in rows], dtype=np.int64))
    forward = Counter(later[later > 0].tolist())
    step = min(forward, key=lambda seconds: (-forward[seconds], seconds)) if forward else 0
    back = np.flatnonzero(later < 0)
    if back.size > 1 and back.size >= later.size / 2:
        line, stamp, _ = rows[int(back[0]) + 1]
        return (rows[0][2], 60), [
            *mistakes,
            f"{file}:{line}:time: {back.size} rows{who}, from {stamp} on, are earlier than the row before. Sort the table by time.",
        ]
    missing, others = [], []
    lost = np.sort(np.array(refused, dtype=np.int64))
    for k in np.flatnonzero(later != step):
        sentence = _uneven(file, who, rows[k], rows[k + 1], int(later[k]), step)
        if later[k] > 0 and step and later[k] % step == 0:
            between = np.searchsorted(lost, [rows[k][0], rows[k + 1][0]])
            if (
                later[k] // step - 1 > between[1] - between[0]
            ):  # else the rows are there, and what is wrong with them is told
                missing.append(sentence)
        else:
            others.append(sentence)
    mistakes += first_few(missing) + first_few(others)
    if step % 60:
        mistakes.append(f"{file}:1:time: the interval is {step} s; whole minutes are needed.")
    return (rows[0][2], step), mistakes


def _uneven(
    file: str,
    who: str,
    before: tuple[int, str | datetime, int],
    here: tuple[int, str | datetime, int],
    later: int,
    step: int,
) -> str:
    """Say how two neighbouring rows fail to be one step apart."""
    (line_before, stamp_before, _), (line, stamp, _) = before, here
    place, minutes = f"{file}:{line}:time", step / 60
    if later == 0:
        return f"{place}: {stamp}{who} occurs twice, in line {line_before} too."
    if later < 0:
        return f"{place}: {stamp}{who} is earlier than line {line_before} ({stamp_before}). Sort the table by time."
    if step and later % step == 0:
        missing = later // step - 1
        gap = "one interval is" if missing == 1 else f"{missing} intervals are"
        return f"{place}: {gap} missing{who} between {stamp_before} and {stamp}. Fill the gap, or take another period."
    return f"{place}: {later / 60:g} min{who} after line {line_before}, elsewhere {minutes:g} min. All intervals are equally long."


# --- values -----------------------------------------------------------------------------------------------------------


def _gaps_in_values(file: str, series: _Series) -> list[str]:
    """Return where cells hold nothing, or nothing finite; neighbouring lines in one sentence."""
    mistakes = []
    for name, column in zip(series.names, series.values.T, strict=True):
        broken = np.flatnonzero(~np.isfinite(column))
        if not broken.size:
            continue
        found = []
        for run in np.split(broken, np.flatnonzero(np.diff(broken) > 1) + 1):
            first, last = int(run[0]), int(run[-1])
            until = "" if first == last else f" to line {series.lines[last]} ({series.stamps[last]})"
            found.append(
                f"{file}:{series.lines[first]}:{name}: there is no number at {series.stamps[first]}{until}. "
                f"Fill the gap, or take another period."
            )
        mistakes += first_few(found)
    return mistakes


def _too_large(
    file: str, series: Sequence[_Series], values: Sequence[Floats], most: float, measure: str, beyond: str
) -> list[str]:
    """Return where figures are beyond what is read; one sentence for a column."""
    mistakes = []
    for one, columns in zip(series, values, strict=True):
        for name, column in zip(one.names, columns.T, strict=True):
            far = np.flatnonzero(~(np.abs(column) <= most))
            if far.size:
                k = int(far[0])
                others = f", and {far.size - 1} more of the column" if far.size > 1 else ""
                mistakes.append(
                    f"{file}:{one.lines[k]}:{name}: given {column[k]:g} {measure}{others}; that is far beyond {beyond}, and at most "
                    f"{most:g} {measure} is read. Check the figure and the unit."
                )
    return first_few(mistakes)


def _unequal(file: str, series: Sequence[_Series], grids: Sequence[tuple[int, int] | None]) -> list[str]:
    """Return the series of a long table that are not on the grid of the first."""

    def spans(one: _Series, grid: tuple[int, int]) -> tuple[NDArray[np.datetime64], int, int]:
        return np.array(grid[0], dtype="datetime64[s]"), grid[1] // 60, len(one.stamps)

    found = [(one, spans(one, grid)) for one, grid in zip(series, grids, strict=True) if grid is not None]
    mistakes = []
    for one, (start, minutes, count) in found[1:]:
        first, (start_1, minutes_1, count_1) = found[0]
        if (start, minutes, count) != (start_1, minutes_1, count_1):
            mistakes.append(
                f"{file}:{one.lines[0]}:time: {one.names[0]} has {count} intervals of {minutes} min from {start}Z, "
                f"{first.names[0]} {count_1} of {minutes_1} min from {start_1}Z. All series cover the same time."
            )
    return mistakes
