"""Tables beside a case of the network: who differs, and what everybody draws; every mistake with file, line and column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from network.csv_table import Column, read_table
from sim.case_series import Frame, Table
from sim.network_case import CustomerSpec
from sim.scenario_file import ScenarioError, Source
from sim.scenario_mistakes import told

__all__ = ["CUSTOMERS", "customers_of_table", "powers_of_table", "rows_of_table"]

Floats = NDArray[np.float64]

_KW = {"unit": "kW", "low": 0, "high": 1e5, "hint": "Give kW, not W."}
CUSTOMERS = (
    Column("id", "text", "Of a connection, or of a further customer", required="yes"),
    Column("bus", "text", "Bus of a further customer"),
    Column("phase", "word", "Phase; empty: the connection's", words=("a", "b", "c", "abc")),
    Column("envelope", "flag", "Whether it gets an envelope"),
    Column("export_cap_kw", "number", "What it could feed in at most", **_KW),  # type: ignore[arg-type]
    Column("import_cap_kw", "number", "What it could draw at most", **_KW),  # type: ignore[arg-type]
    Column("connection_order", "whole", "The lowest was connected first", low=0, high=1e6),
    Column("base_kw", "number", "Base load, drawn positive", "kW", low=-1e5, high=1e5, hint="Give kW, not W."),
    Column("base_kvar", "number", "Its reactive power", "kvar", low=-1e5, high=1e5),
)
MOST_TOLD = 10


def customers_of_table(path: Path, name: str) -> tuple[list[tuple[str, CustomerSpec]], list[str]]:
    """Return the customers of a CSV table that is there, each with the place of its line, and what is wrong with the others.

    Parameters
    ----------
    path
        The file.
    name
        As the case calls it.
    """
    rows, mistakes = read_table(path, CUSTOMERS)
    found: list[tuple[str, CustomerSpec]] = []
    for row in rows:
        data = {column.name: row.cells[column.name] for column in CUSTOMERS if row.cells[column.name] is not None}
        where = f"{name}:{row.line}"
        source = Source(name, path.parent, data=data, where={(): where, **{(key,): f"{where}:{key}" for key in data}})
        try:
            found.append((f"{where}:id", CustomerSpec.model_validate(data)))
        except ValidationError as error:
            mistakes += told(error, CustomerSpec, source, with_keys=False)
    return found, mistakes


def rows_of_table(path: Path, name: str, place: str) -> int:
    """Return how many intervals a table of powers has."""
    return len(_table(path, name, place).rows)


def powers_of_table(path: Path, name: str, place: str, ids: Sequence[str], steps: int) -> Floats:
    """Return the columns of some customers, one line per interval.  Shape (c, T). [kW or kvar]

    Parameters
    ----------
    path
        The file.
    name
        As the case calls it.
    place
        Where the case names it.
    ids
        Names of the columns.
    steps
        Intervals that there must be.
    """
    table = _table(path, name, place)
    header, mistakes = table.header, []
    mistakes += [f"{name}:1:{one}: the column stands there twice. Remove one." for one in dict.fromkeys(header)
                 if header.count(one) > 1]  # fmt: skip
    mistakes += [
        f"{name}:1:{one}: is no customer of the case; remove the column, or correct its name."
        for one in dict.fromkeys(header)
        if one not in ids and one.lower() != "time"
    ]
    mistakes += [f"{name}:1:: there is no column for the customer {one!r}." for one in ids if one not in header]
    if len(table.rows) != steps:
        mistakes.append(f"{name}:1:: the table has {len(table.rows)} intervals; the case has {steps}.")
    values = np.full((len(ids), len(table.rows)), math.nan)
    at = [header.index(one) if one in header else -1 for one in ids]
    for t, (line, cells) in enumerate(table.rows):
        if len(cells) > len(header):
            mistakes.append(
                f"{name}:{line}:: has {len(cells)} cells for {len(header)} names. Write decimal points, and nothing behind the last cell."
            )
        for c, k in enumerate(at):
            if k < 0:
                continue
            cell = cells[k] if k < len(cells) else ""
            try:
                values[c, t] = float(cell.replace("_", "?"))
            except ValueError:
                mistakes.append(f"{name}:{line}:{ids[c]}: must be a number with a decimal point; given {cell!r}.")
                continue
            if not abs(values[c, t]) <= 1e6:
                mistakes.append(f"{name}:{line}:{ids[c]}: must be at most 1e+06, in kW or kvar; given {cell}.")
    if mistakes:
        more = [f"{name}: {len(mistakes) - MOST_TOLD} more mistakes."] * (len(mistakes) > MOST_TOLD)
        raise ScenarioError([*mistakes[:MOST_TOLD], *more])
    return values


def _table(path: Path, name: str, place: str) -> Table:
    table = Frame(path.parent).table(path.name)
    if table.problem:
        raise ScenarioError([f"{place}: {table.problem}."])
    if not table.rows:
        raise ScenarioError([f"{name}:1:: has no line under the names. Give one line per interval."])
    return table
