"""SimBench's year of profiles: read from the installed package once, kept as Parquet, loaded column by column.

The tables of loads, renewables and storage of a scenario hold 282 profiles of the year 2016 in quarter-hours.  Load
profiles come in pairs, ``H0-A_pload`` and ``H0-A_qload``, and multiply the active and the reactive nameplate power; PV
(``PV1`` to ``PV8``) gives its nameplate at most 0.6 times.  A ``Storage_*`` profile is PV and battery seen as one
generator, of use only where the battery is not simulated.

SimBench's times are local and without a zone: 30 October has 100 quarter-hours (four stamps twice) and 27 March has 92.
The year is therefore an unbroken quarter-hour grid in UTC, which begins at 2015-12-31T23:00.  That is not assumed but
checked: the local times of this grid, Europe/Berlin, must be the stamps of the file, one by one.

Figures of active power between -0.0001 and 0 are left over from how they were made (charging points and wind have some) and
are read as 0; a lower one stays what it is.

The cache is a Parquet file for each version of SimBench and scenario (40 MB), with checksums: what is damaged is read
again from the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from network.simbench import data_folder, parse_code, version
from sim import cache
from sim.profile_store import Floats, Index, ProfileError, Profiles

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["simbench_profiles"]

_TABLES = ("LoadProfile", "RESProfile", "StorageProfile")
_ZONE = ZoneInfo("Europe/Berlin")
_STEP_MINUTES = 15
_START = np.datetime64("2015-12-31T23:00:00")
"""1 January 2016, 00:00 in Berlin."""
_REST = -1e-4
"""Negative active power above this is read as 0, as a multiple of the nameplate. [1]"""
_FORMAT = 1
"""Counted up when the content of the cached file changes."""


def simbench_profiles(code: str) -> Profiles:
    """Open the profiles that belong to a SimBench code.

    Parameters
    ----------
    code
        A code such as ``1-LV-rural3--2-no_sw``; its scenario decides. Profiles of all its grids are there.

    Returns
    -------
    The store; columns are loaded when they are first used.
    """
    return _SimbenchProfiles(parse_code(code.removeprefix("simbench:")).scenario)


class _SimbenchProfiles(Profiles):
    """The profiles of a scenario, read column by column."""

    def __init__(self, scenario: int) -> None:
        self.name = f"SimBench {version()}, scenario {scenario}"
        self.step_minutes = _STEP_MINUTES
        self.start = _START
        self._scenario = scenario
        self._path = cache.folder() / f"simbench-{version()}-profiles-{scenario}-v{_FORMAT}.parquet"
        self._whole: pa.Table | None = None  # where nothing can be cached
        self.names, self.length = self._opened()
        self._row = np.full(len(self.names), -1, dtype=np.intp)  # of each name in what is loaded, -1 where it is not
        self._loaded = np.empty((0, self.length))

    def _gather(self, rows: Index, place: Index) -> Floats:
        missing = np.unique(rows[self._row[rows] < 0])
        if missing.size:
            columns = self._read([self.names[k] for k in missing])
            self._row[missing] = len(self._loaded) + np.arange(missing.size)
            self._loaded = np.concatenate([self._loaded, columns])
        return self._loaded[self._row[rows][:, None], place]

    def _opened(self) -> tuple[tuple[str, ...], int]:
        """Return names and length, making the cached file where there is none or a damaged one."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self._path)
            return tuple(file.schema_arrow.names), int(file.metadata.num_rows)
        except (OSError, pa.ArrowInvalid):
            table = self._rebuilt()
            return tuple(table.column_names), int(table.num_rows)

    def _rebuilt(self) -> pa.Table:
        """Read the package's tables again and cache them; keep them in memory where that is not possible."""
        table = _read_tables(data_folder(self._scenario))
        self._whole = None if cache.write(self._path, lambda path: _write(table, path)) else table
        return table

    def _read(self, names: Sequence[str]) -> Floats:
        """Return columns. Shape (k, length)."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = self._whole
        if table is None:
            try:
                with pq.ParquetFile(self._path, memory_map=True, page_checksum_verification=True) as file:
                    table = file.read(columns=list(names))
            except (OSError, pa.ArrowInvalid):  # damaged since it was opened, or behind its footer
                table = self._rebuilt()
        columns = [_array(table[name]) for name in names]
        return np.stack(
            [
                one if name.endswith("_qload") else np.where((one > _REST) & (one < 0), 0.0, one)
                for name, one in zip(names, columns, strict=True)
            ]
        )


def _array(column: pa.ChunkedArray) -> Floats:
    """Return a column without gaps as an array; pyarrow's own way would import pandas (1 s)."""
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks], dtype=np.float64)


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="zstd", compression_level=1, use_dictionary=False, write_page_checksum=True)


def _read_tables(folder: Path) -> pa.Table:
    """Read the profile tables of a scenario into one, and check their times."""
    import pyarrow as pa
    import pyarrow.csv

    columns: dict[str, pa.ChunkedArray] = {}
    for name in _TABLES:
        path = folder / f"{name}.csv"
        if not path.exists():  # scenario 0 has no storage
            continue
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(delimiter=";"),
            convert_options=pyarrow.csv.ConvertOptions(column_types={"time": pa.string()}),
        )
        _check_times(path, table["time"].to_pylist())
        for column in table.column_names:
            if column != "time" and column not in columns:  # whole grids stand among renewables and storage: PV first
                columns[column] = table[column].cast(pa.float64())
    gaps = [name for name, column in columns.items() if column.null_count]
    if gaps:
        raise ProfileError("simbench", [f"the profile {name} has {columns[name].null_count} gaps." for name in gaps])
    return pa.table(columns)


def _check_times(path: Path, stamps: Sequence[str]) -> None:
    """See that the local stamps of a file are those of an unbroken grid in UTC."""
    first = datetime.fromisoformat(str(_START)).replace(tzinfo=UTC)
    for step, stamp in enumerate(stamps):
        local = (first + timedelta(minutes=_STEP_MINUTES * step)).astimezone(_ZONE)
        if stamp != f"{local:%d.%m.%Y %H:%M}":
            raise ProfileError(
                "simbench",
                [f"{path.name}:{step + 2}:time: expected {local:%d.%m.%Y %H:%M} (Europe/Berlin), found {stamp}."],
            )
