"""A folder of Parquet tables that grow a day at a time: one of the four folders of a run, or one that is kept for later runs.

Rows wait until a row group is full, so that memory does not grow with the length of a run and files do not grow with the
number of appends.  Nothing that is written depends on the clock of the machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.rows import ResultsError, Sink, arrow_table
from sim.schema import TABLES, arrow_schema, tables_of

__all__ = ["TableFolder"]


class TableFolder:
    """Writes the tables of one folder.

    Parameters
    ----------
    folder
        Is made where it does not exist.
    section
        Which of the four folders of a run it is or will be: says which tables it always holds.
    """

    def __init__(self, folder: Path, section: str) -> None:
        self.folder, self.section = folder, section
        self.folder.mkdir(parents=True, exist_ok=True)
        self._sinks: dict[str, Sink] = {}

    def append(self, table: str, columns: Mapping[str, Any]) -> None:
        """Add rows to a table: every column of :data:`sim.schema.TABLES`, as an array or as a scalar that all rows share.

        Raises
        ------
        ResultsError
            With all that is wrong with the columns.
        """
        rows = arrow_table(table, columns)
        sink = self._sink(table)
        if sink.sealed:
            raise ResultsError(f"Table '{table}' of '{self.section}' is sealed already; rows go in before that.")
        sink.add(rows)

    def adopt(self, source: Path, *, leave: tuple[str, ...] = ()) -> None:
        """Take over finished tables from another folder, but for those in ``leave``."""
        import pyarrow.parquet as pq

        for table in tables_of(self.section):
            file = source / f"{table}.parquet"
            if table in leave or not file.is_file():
                continue
            if table in self._sinks:
                raise ResultsError(
                    f"Table '{table}' of '{self.section}' holds rows already; it cannot be taken over from {file}."
                )
            metadata = pq.read_metadata(file)
            if metadata.schema.to_arrow_schema() != arrow_schema(TABLES[table]):
                raise ResultsError(f"{file} was written by another version of this program; remove it.")
            sink = self._sink(table)
            shutil.copyfile(file, sink.file)
            sink.rows, sink.sealed = metadata.num_rows, True

    def seal(self, *, keep: tuple[str, ...] = ()) -> None:
        """Complete the tables on disk, empty ones too, so that they can be read; those in ``keep`` stay open."""
        for table in (*tables_of(self.section), *self._sinks):
            if table not in keep:
                self._sink(table).close()

    def abandon(self) -> None:
        """Let go of all files, whatever is in them."""
        for sink in self._sinks.values():
            if sink.writer is not None and not sink.sealed:
                try:
                    sink.writer.close()
                except OSError:  # a full disk: the file is of no use and goes with its folder
                    continue

    def files(self) -> dict[str, tuple[Path, int]]:
        """Return file and number of rows of every table, by name."""
        return {table: (sink.file, sink.rows) for table, sink in sorted(self._sinks.items())}

    def _sink(self, table: str) -> Sink:
        if table not in self._sinks:
            self._sinks[table] = Sink(self.folder / f"{table}.parquet", arrow_schema(TABLES[table]))
        return self._sinks[table]
