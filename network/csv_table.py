"""A CSV table with declared columns: read, checked cell by cell, every mistake told with its place.

A :class:`Column` says what stands in a column: text, number, whole number, flag or one of several words; its unit;
between which bounds a figure is believable (a value outside is nearly always one in another unit); whether it must be
there.  :func:`read_table` reads a file against such a list and returns the rows it could read together with one
sentence for every mistake, each beginning with ``file:line:column:``.  The tables in ``docs/`` are these lists.

Files are UTF-8, with commas or semicolons, with a decimal point.  An empty cell means "not given".
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

__all__ = ["Column", "Row", "Value", "read_table", "sniff_delimiter"]

Value = str | float | int | bool | None

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Column:
    """What stands in a column."""

    name: str
    kind: Literal["text", "number", "whole", "flag", "word"]
    description: str
    unit: str = ""
    required: str = ""
    """"" where it may be left out; "yes"; or the ``kind`` of the rows that need it ("line", "transformer")."""
    default: Value = None
    """What an empty cell or a missing column stands for; None: not given."""
    low: float = -math.inf
    high: float = math.inf
    """Believable bounds, both included."""
    hint: str = ""
    """What to think of where a value lies outside the bounds."""
    words: tuple[str, ...] = ()
    """The words that a column of kind "word" knows."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a file; ``cells`` has an entry for every declared column."""

    line: int
    cells: dict[str, Value]

    def text(self, column: str) -> str:
        """Return a cell as text, "" where it is not given."""
        value = self.cells[column]
        return "" if value is None else str(value)

    def number(self, column: str) -> float:
        """Return a cell as a number, NaN where it is not given."""
        value = self.cells[column]
        return math.nan if value is None else float(value)


def sniff_delimiter(header: str) -> str:
    """Return the delimiter of a file by its first line: a semicolon where there is one, else a comma."""
    return ";" if ";" in header else ","


def read_table(path: Path, columns: Sequence[Column]) -> tuple[list[Row], list[str]]:
    """Read a CSV file against its declared columns.

    Parameters
    ----------
    path
        The file.
    columns
        What it may hold; the order in the file does not matter.

    Returns
    -------
    The rows without mistakes, and the mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        return [], [f"{path.name}:1:: the file is not UTF-8 (byte {error.start}). Save it as UTF-8."]
    except OSError as error:
        return [], [f"{path.name}:1:: the file cannot be read: {error.strerror}."]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=sniff_delimiter(text.partition("\n")[0]))
    try:
        header, *lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader] or [(1, [])]
    except csv.Error as error:
        return [], [f"{path.name}:{reader.line_num}:: the line cannot be read: {error}."]
    mistakes = _header_mistakes(path.name, header[1], columns)
    if mistakes:
        return [], mistakes

    known = {column.name: column for column in columns}
    rows: list[Row] = []
    for line, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(header[1]):
            mistakes.append(
                f"{path.name}:{line}:: the row has {len(cells)} cells, the header {len(header[1])}. "
                f"Quote text that holds a delimiter."
            )
            continue
        row, wrong = _read_row(line, dict(zip(header[1], cells, strict=True)), known)
        if wrong:
            mistakes += [f"{path.name}:{line}:{column}: {sentence}" for column, sentence in wrong]
        else:
            rows.append(row)
    return rows, mistakes


def _header_mistakes(file: str, header: Sequence[str], columns: Sequence[Column]) -> list[str]:
    """Return what is wrong with the first line."""
    if not any(header):
        return [f"{file}:1:: the file is empty. Its first line names the columns."]
    names = [column.name for column in columns]
    mistakes = []
    for place, name in enumerate(header):
        if name not in names:
            near = get_close_matches(name, names, n=1)
            advice = f"Did you mean {near[0]}?" if near else f"The columns are {', '.join(names)}."
            mistakes.append(f"{file}:1:{name}: there is no column {name!r}. {advice}")
        elif name in header[:place]:
            mistakes.append(f"{file}:1:{name}: the column stands there twice. Remove one.")
    mistakes += [
        f"{file}:1:{column.name}: the column is missing ({column.description})."
        for column in columns
        if column.required == "yes" and column.name not in header
    ]
    return mistakes


def _read_row(line: int, given: dict[str, str], known: dict[str, Column]) -> tuple[Row, list[tuple[str, str]]]:
    """Return a row, and what is wrong with which of its columns."""
    cells: dict[str, Value] = {}
    wrong: list[tuple[str, str]] = []
    for column in known.values():
        cell = given.get(column.name, "")
        if cell:
            value, sentence = _read_cell(cell, column)
            cells[column.name] = value
            if sentence:
                wrong.append((column.name, sentence))
        else:
            cells[column.name] = column.default
            if column.required and column.required in ("yes", given.get("kind", "")):
                wrong.append((column.name, f"nothing is given; {column.description.lower()} is needed here."))
    return Row(line, cells), wrong


def _read_cell(cell: str, column: Column) -> tuple[Value, str]:
    """Return the value of a cell, and a sentence where it is not one."""
    if column.kind == "text":
        return cell, ""
    if column.kind == "flag":
        if cell.lower() in _FLAGS:
            return _FLAGS[cell.lower()], ""
        return None, f"expected true or false, given {cell!r}."
    if column.kind == "word":
        return (cell, "") if cell in column.words else (None, f"expected {' or '.join(column.words)}, given {cell!r}.")
    try:
        value = float(cell.replace("_", "?"))  # Python would read 1_000
    except ValueError:
        comma = " Write a decimal point, not a comma." if "," in cell else ""
        return None, f"expected a number, given {cell!r}.{comma}"
    if math.isnan(value):
        return None, f"given {cell!r}. Leave the cell empty where the figure is not known."
    if math.isinf(value) and column.default != math.inf:
        return None, f"expected a finite number, given {cell!r}."
    if not column.low <= value <= column.high:
        return None, _out_of_bounds(cell, value, column)
    if column.kind == "whole":
        return (int(value), "") if value.is_integer() else (None, f"expected a whole number, given {cell!r}.")
    return value, ""


def _out_of_bounds(cell: str, value: float, column: Column) -> str:
    """Say that a figure is not believable."""
    if value < 0 <= column.low:
        return f"must not be negative, given {cell}."
    unit = f" {column.unit}" if column.unit else ""
    bounds = f"at least {column.low:g}" if math.isinf(column.high) else f"{column.low:g} to {column.high:g}"
    return f"expected {bounds}{unit}, given {cell}.{' ' + column.hint if column.hint else ''}"
