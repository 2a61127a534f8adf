"""SQL over a run folder: DuckDB reads the Parquet files where they lie.

The files are the artefact, DuckDB only looks at them: a connection is made per question, sees nothing but the run's
folder, and changes nothing.  Tables of ``tables/`` go by their plain names, those of the other folders by
``reference_…``, ``ex_post_…`` and ``unmanaged_…``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sim.schema import SECTIONS

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

__all__ = ["QueryError", "database", "query", "view_name"]


class QueryError(ValueError):
    """A question that cannot be answered; the message says why, in one sentence."""


def view_name(section: str, table: str) -> str:
    """Return the name by which SQL knows a table.

    Examples
    --------
    >>> view_name("tables", "bills"), view_name("reference", "bills")
    ('bills', 'reference_bills')
    """
    return table if section == "tables" else f"{section}_{table}"


def database(folder: Path) -> duckdb.DuckDBPyConnection:
    """Open an empty database in memory with one view per Parquet file of the run.

    The connection can read the run's folder and nothing else; times are shown in UTC.
    """
    import duckdb

    folder = folder.absolute()
    connection = duckdb.connect(":memory:")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    for section in SECTIONS:
        for file in sorted((folder / section).glob("*.parquet")):
            try:
                _show(connection, view_name(section, file.stem), file)
            except (duckdb.Error, OSError, ValueError) as error:
                raise QueryError(f"{file} cannot be read: {_first_line(error)}") from error
    connection.execute(f"SET allowed_directories = [{_literal(str(folder) + '/')}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def query(folder: Path, sql: str) -> pa.Table:
    """Answer one question in SQL.

    Parameters
    ----------
    folder
        The run.
    sql
        One statement that asks (SELECT, WITH, FROM, DESCRIBE, SUMMARIZE, SHOW); nothing that writes.

    Raises
    ------
    QueryError
        If it is not one question, or DuckDB does not understand it.
    """
    import duckdb

    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError(f"One SQL statement is needed, {len(statements)} were given.")
        if statements[0].type not in {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}:
            raise QueryError(
                f"A run is only read, and this statement is a {statements[0].type.name}: ask with SELECT, DESCRIBE or SUMMARIZE."
            )
        with database(folder) as connection:
            return connection.sql(sql).to_arrow_table()
    except duckdb.Error as error:
        raise QueryError(f"The query cannot be answered: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return DuckDB's message as one sentence: what is wrong and what it would have known, without the picture below."""
    text = str(error).split("\n\nLINE ")[0]
    sentence = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return sentence if sentence.endswith((".", "!", "?")) else sentence + "."


def _literal(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def _show(connection: duckdb.DuckDBPyConnection, view: str, file: Path) -> None:
    """Make one file known by its name."""
    if any(letter in str(file) for letter in "*?["):
        # DuckDB takes such a path for a pattern and knows no way to quote one: Arrow reads the file for it.
        import pyarrow.dataset as ds

        connection.register(view, ds.dataset(file, format="parquet"))
    else:
        # Parquet's minima and maxima leave NaN out; without can_have_nan DuckDB believes them, and isnan() finds nothing.
        options = "hive_partitioning = false, can_have_nan = true"
        connection.execute(f'CREATE VIEW "{view}" AS FROM read_parquet({_literal(str(file))}, {options})')
