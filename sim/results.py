"""A run as a folder: :class:`Writer` makes one, a day at a time; :class:`Run` opens one.

A run is written under a hidden name beside its final one and renamed when it is complete (:mod:`sim.folder`): whoever
sees the folder sees a whole run.  The same content id means the same bytes in the tables, so a finished run of that id
is used again (:func:`find`).

The tables and their columns stand in :mod:`sim.schema`.  Nothing in ``tables/``, ``reference/``, ``ex_post/`` and
``unmanaged/`` depends on the wall clock; that goes to the manifest and the log.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np

from sim.folder import is_run, open_partial, publish, remove_stale, told
from sim.rows import PlaceTakenError, ResultsError, blocks
from sim.schema import SECTIONS, TABLES
from sim.table_folder import TableFolder

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = ["ResultsError", "Run", "Writer", "blocks", "find"]

FORMAT = "commonwatt run, 1"
PROMISED = ("outcome", "seed", "interval_minutes", "time_zone", "currency")
"""What the manifest must be told, besides what the writer knows itself."""

LIBRARIES = (
    "numpy", "scipy", "numba", "pandas", "pyarrow", "duckdb", "highspy", "osqp", "power-grid-model", "pydantic",
    "ruamel.yaml", "simpy", "simbench",
)  # fmt: skip


class Writer:
    """Writes one run.

    Parameters
    ----------
    path
        The run's folder.  It must not exist, be empty, or (with ``force``) be a run.
    content_id
        Hash of the resolved scenario, the data and the package version.
    scenario_yaml
        The resolved scenario, as it goes to ``scenario.yaml``.
    force
        Replace a run that is there.

    Examples
    --------
    ::

        run = find(path, content_id) or simulate(path, content_id)

        with Writer(path, content_id, scenario_yaml=text) as writer:
            writer.append("tables", "meters", blocks(times, ids, load_kw=load_kw, ...))
            writer.seal()                                     # everything but the key figures: now they can be read
            writer.append("tables", "kpis", kpis.compute(writer.folder, ...))
            run = writer.finish({"outcome": "ok", ...})
    """

    def __init__(self, path: Path | str, content_id: str, *, scenario_yaml: str, force: bool = False) -> None:
        self.path = Path(path)
        self.content_id = content_id
        self._force = force
        self._begun = time.monotonic()
        self._begun_at = datetime.now(UTC)
        self._sections: dict[str, TableFolder] = {}
        self._done = False
        self._log: TextIO | None = None
        _refuse_foreign(self.path, content_id, force=force)
        with told(self.path):
            remove_stale(self.path.parent)
            self.folder = open_partial(self.path)
        try:
            with told(self.path):
                (self.folder / "scenario.yaml").write_text(scenario_yaml, encoding="utf-8", newline="\n")
                self._log = (self.folder / "log.jsonl").open("w", encoding="utf-8", newline="\n")
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def append(self, section: str, table: str, columns: Mapping[str, Any]) -> None:
        """Add rows to a table.

        Parameters
        ----------
        section
            ``tables``, ``reference``, ``ex_post`` or ``unmanaged``.
        table
            The table's name.
        columns
            Every column of :data:`sim.schema.TABLES`, as an array or as a scalar that all rows share.

        Raises
        ------
        ResultsError
            With all that is wrong with the columns, or if the disk does not take them.
        """
        self._must_be_open()
        with told(self.path):
            self._section(section).append(table, columns)

    def adopt(self, section: str, source: Path) -> None:
        """Take over the finished tables of a section from a folder where they are kept; key figures are not taken over."""
        self._must_be_open()
        with told(self.path):
            self._section(section).adopt(source, leave=("kpis",))

    def _section(self, section: str) -> TableFolder:
        if section not in SECTIONS:
            raise ResultsError(f"There is no folder '{section}' in a run; the folders are {', '.join(SECTIONS)}.")
        if section not in self._sections:
            self._sections[section] = TableFolder(self.folder / section, section)
        return self._sections[section]

    def log(self, event: str, **fields: Any) -> None:
        """Write one line to ``log.jsonl``, with the wall time."""
        self._must_be_open()
        line = {"wall_time": _now(), "wall_s": round(time.monotonic() - self._begun, 3), "event": event, **fields}
        with told(self.path):
            assert self._log is not None
            self._log.write(_json(line) + "\n")
            self._log.flush()

    def seal(self, *, keep: tuple[str, ...] = ("kpis",)) -> None:
        """Complete the tables on disk, empty ones too, so that they can be read; those in ``keep`` stay open."""
        self._must_be_open()
        with told(self.path):
            for section in SECTIONS:
                self._section(section).seal(keep=keep)

    def finish(self, manifest: Mapping[str, Any], before_rename: Callable[[Run], object] | None = None) -> Run:
        """Complete the folder, give it its name, and open it.

        Parameters
        ----------
        manifest
            At least outcome, seed, interval_minutes, time_zone and currency; the writer adds content id, versions,
            wall times, paths, and rows, bytes and sha256 of every table.
        before_rename
            Called with the complete but still hidden run (the report is made here).

        Returns
        -------
        Run
            This run, or the one of the same content id that another process finished first.
        """
        missing = [key for key in PROMISED if key not in manifest]
        if missing:
            raise ResultsError(f"The manifest does not say {', '.join(missing)}.")
        self.seal(keep=())
        with told(self.path):
            whole = {
                "format": FORMAT,
                "content_id": self.content_id,
                "started_at": self._begun_at.isoformat(timespec="seconds"),
                "finished_at": _now(),
                "wall_s": round(time.monotonic() - self._begun, 3),
                "versions": versions(),
                **manifest,
                "paths": {"scenario": "scenario.yaml", "log": "log.jsonl", "report": "report.html"},
                "tables": self._index(),
            }
            (self.folder / "manifest.json").write_text(
                json.dumps(_plain(whole), indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
            )
            if before_rename is not None:
                before_rename(Run(self.folder))
            self._close_log()
            if not publish(self.folder, self.path, replace=self._force):
                other = find(self.path, self.content_id)
                if other is None:
                    raise ResultsError(
                        f"{self.path} was made by somebody else meanwhile; choose another folder with --out."
                    )
        self.abort()
        return Run(self.path)

    def abort(self) -> None:
        """Give up: remove what was written.  After :meth:`finish` there is nothing left to remove."""
        if self._done:
            return
        self._done = True
        self._close_log()
        for tables in self._sections.values():
            tables.abandon()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _close_log(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _must_be_open(self) -> None:
        if self._done:
            raise ResultsError(f"The run {self.path} is closed; nothing can be written to it any more.")

    def _index(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return path, rows, size and hash of every table."""
        index: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
        for section, tables in self._sections.items():
            for table, (path, rows) in tables.files().items():
                with path.open("rb") as file:
                    digest = file_digest(file, "sha256").hexdigest()
                index[section][table] = {
                    "path": f"{section}/{table}.parquet",
                    "rows": rows,
                    "bytes": path.stat().st_size,
                    "sha256": digest,
                }
        return index


def find(path: Path | str, content_id: str) -> Run | None:
    """Return the finished run of that content id, if it is there."""
    path = Path(path)
    if not is_run(path):
        return None
    run = Run(path)
    return run if run.manifest.get("content_id") == content_id else None


def _refuse_foreign(path: Path, content_id: str, *, force: bool) -> None:
    """Refuse to write over what is not ours to replace."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_run(path):
        raise PlaceTakenError(f"{path} exists and is no run; it is left alone. Choose another folder with --out.")
    if not force:
        held = Run(path).manifest.get("content_id")
        what = "this very run" if held == content_id else f"another run ({held})"
        raise PlaceTakenError(
            f"{path} holds {what} already. Choose another folder with --out, or replace it with --force."
        )


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of the libraries whose numbers reach the tables."""
    found = {"python": sys.version.split()[0]}
    for name in ("commonwatt", *LIBRARIES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _plain(value: Any) -> Any:
    """Return a value as JSON knows it; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        return [_plain(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, np.datetime64):
        return np.datetime_as_string(value, unit="s") + "Z"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False)


class _Tables(Mapping[str, "pa.Table"]):
    """The tables of one folder of a run, each read when it is asked for."""

    def __init__(self, run: Run, section: str) -> None:
        self._run, self._section = run, section

    def __getitem__(self, name: str) -> pa.Table:
        if name not in TABLES:
            raise KeyError(name)
        return self._run.table(name, self._section)

    def __iter__(self) -> Iterator[str]:
        return (file.stem for file in sorted((self._run.path / self._section).glob("*.parquet")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Run:
    """A finished run, opened for reading.

    Parameters
    ----------
    path
        The run's folder.

    Raises
    ------
    ResultsError
        If there is no run.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        file = self.path / "manifest.json"
        try:
            manifest = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ResultsError(
                f"{self.path} is no run: it has no manifest.json. Make one with `commonwatt run SCENARIO`."
            ) from None
        except (OSError, ValueError) as error:
            raise ResultsError(f"{file} cannot be read: {error}.") from error
        if not isinstance(manifest, dict):
            raise ResultsError(f"{file} cannot be read: it is no JSON object.")
        self.manifest: dict[str, Any] = manifest

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def tables(self) -> Mapping[str, pa.Table]:
        """The tables of this run by name, each read when it is asked for."""
        return _Tables(self, "tables")

    @property
    def reference(self) -> Mapping[str, pa.Table]:
        """The tables of the reference run."""
        return _Tables(self, "reference")

    def table(self, name: str, section: str = "tables") -> pa.Table:
        """Read one table of ``tables``, ``reference``, ``ex_post`` or ``unmanaged``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = self.path / section / f"{name}.parquet"
        try:
            with pq.ParquetFile(file) as parquet:  # a folder called price=0.2 is a folder, not a column
                return parquet.read()
        except FileNotFoundError:
            raise ResultsError(f"The run {self.path} has no table '{name}' in '{section}'.") from None
        except (OSError, pa.ArrowException) as error:
            raise ResultsError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error

    def kpis(self, section: str = "tables") -> pd.DataFrame:
        """Return the key figures, one row each."""
        frame: pd.DataFrame = self.table("kpis", section).to_pandas()
        return frame

    def query(self, sql: str) -> pa.Table:
        """Answer one question in SQL (:mod:`sim.query`).

        Raises
        ------
        sim.query.QueryError
            In one sentence.
        """
        from sim.query import query

        return query(self.path, sql)
