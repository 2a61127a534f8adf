"""Figures over time in a market's case: a number, a list with one number per interval, or a column of a CSV file beside it.

How many intervals there are is said by the case (``intervals``) or by its lists and columns, most of which agree; whoever
does not is told, with both lengths.  A column's cells are told by file and line.

Limits: a CSV file has one line of names and one line per interval, parted by commas or semicolons, with decimal points.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from sim.scenario_base import CONTRADICTION, FileName, Spec
from sim.scenario_file import Loc
from sim.scenario_mistakes import nearest, shown

__all__ = [
    "LARGEST",
    "MOST_INTERVALS",
    "Floats",
    "Frame",
    "Limit",
    "Series",
    "SeriesFile",
    "frame_of",
    "series",
    "steady",
]

Floats = NDArray[np.float64]

LARGEST = 1e9
"""Largest power, energy or price: a terawatt, and far beyond any money; what is larger was written in another unit."""

MOST_INTERVALS = 1_000_000
"""More are a slip of the keyboard."""

MOST_TOLD = 3
"""Wrong values told of one list or column; further ones are counted."""


class SeriesFile(Spec):
    """A column of a CSV file beside the case, one line per interval under a line of names."""

    file: FileName
    """The file, relative to the folder of the case."""
    column: Annotated[str, Field(min_length=1)]
    """Name of the column."""
    factor: Annotated[float, Field(strict=True)] = 1.0
    """What every figure is multiplied by."""


KEYS = tuple(SeriesFile.model_fields)


@dataclass(slots=True)
class Table:
    """The cells of a CSV file."""

    header: list[str]
    rows: list[tuple[int, list[str]]]
    """Line and cells."""
    problem: str = ""
    """Why it cannot be used; empty where it can."""


@dataclass(slots=True)
class Frame:
    """What every series of a case has to fit: the number of intervals, and the folder with the files."""

    folder: Path = field(default_factory=Path)
    steps: int = 1
    told_by: str = ""
    """Who says how many intervals there are, for messages."""
    tables: dict[str, Table] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """Return a file's cells; each is read once."""
        if name not in self.tables:
            self.tables[name] = _read(self.folder / name, name)
        return self.tables[name]


def _read(path: Path, name: str) -> Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        return Table([], [], f"{name} cannot be read: {error.strerror}; it is looked for at {path}")
    except UnicodeDecodeError:
        return Table([], [], f"{name} is not text in UTF-8; save it as UTF-8")
    first = text.partition("\n")[0]
    if not first.strip():
        return Table([], [], f"{name}: the first line is empty; it names the columns")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",")
    header = [cell.strip() for cell in next(reader)]
    rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(c.strip() for c in cells)]
    return Table(header, rows)


def frame_of(data: Any, folder: Path) -> Frame:
    """Return the frame that the data of a case ask for, before anything in them is checked."""
    frame = Frame(folder)
    lengths = [length for value in _values(data) if (length := _length(value, frame)) > 0]
    asked = data.get("intervals") if isinstance(data, dict) else None
    if isinstance(asked, int) and not isinstance(asked, bool) and 1 <= asked <= MOST_INTERVALS:
        frame.steps, frame.told_by = asked, '"intervals" says'
    elif lengths:
        frame.steps, count = Counter(lengths).most_common(1)[0]
        frame.told_by = "most lists have" if count > 1 else "another list has"
    return frame


def _values(data: Any) -> Iterator[Any]:
    """Yield what may be a series: lists of numbers and sections with a file, wherever they stand."""
    if isinstance(data, dict):
        if "file" in data and "column" in data:
            yield data
        else:
            for one in data.values():
                yield from _values(one)
    elif isinstance(data, list):
        if data and all(_is_number(one) for one in data):
            yield data
        else:
            for one in data:
                yield from _values(one)


def _length(value: Any, frame: Frame) -> int:
    return len(value) if isinstance(value, list) else len(frame.table(str(value["file"])).rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _float(value: float) -> float:
    """Return a number; a whole number with hundreds of digits is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def series(*, least: float = -LARGEST, most: float = LARGEST, why: str = "", unlimited: bool = False) -> Any:
    """Return a validator that makes an array of shape (T,) of a number, a list or a column.

    Parameters
    ----------
    least, most
        Smallest and largest value.
    why
        What to say to one that is smaller or larger.
    unlimited
        Whether null is a value, and means that there is no limit.
    """

    def check(value: Any, info: ValidationInfo) -> Floats:
        frame = info.context if isinstance(info.context, Frame) else Frame()
        if value is None and unlimited:
            return np.full(frame.steps, np.inf)
        place, values, found = _taken(value, frame)
        found += _wrong(values, place, (least, most), why) if not found else []
        if found:
            text = "; ".join(sentence for _, sentence in found)
            raise PydanticCustomError(CONTRADICTION, "{text}", {"text": text, "found": found})
        return np.full(frame.steps, values[0]) if _is_number(value) else np.array(values, dtype=np.float64)

    kinds: Any = float | list[float] | SeriesFile
    return PlainValidator(check, json_schema_input_type=kinds | None if unlimited else kinds)


Series = Annotated[Floats, series()]
"""Any finite figures."""

Limit = Annotated[Floats, series(least=0, why="A limit has no sign; null is no limit", unlimited=True)]
"""What may be unlimited."""

Found = list[tuple[Loc, str]]


def _taken(value: Any, frame: Frame) -> tuple[Callable[[int], tuple[Loc, str]], list[float], Found]:
    """Return how the place of an entry is told, the entries, and what is wrong with them at once."""
    if _is_number(value):
        return (lambda _: ((), "")), [_float(value)], []
    if isinstance(value, list):
        wrong = [(k, one) for k, one in enumerate(value) if not _is_number(one)]
        found: Found = [((k,), f"must be a number; given {shown(one)}") for k, one in wrong[:MOST_TOLD]]
        found += [((), f"has {len(wrong) - MOST_TOLD} more values that are no numbers")] * (len(wrong) > MOST_TOLD)
        if len(value) != frame.steps:
            found.append(((), _length_sentence(len(value), "values", frame)))
        return (lambda k: ((k,), "")), [] if found else [_float(one) for one in value], found
    if isinstance(value, dict):
        return _column(value, frame)
    kinds = 'a number, a list with one number per interval, or a section with "file" and "column"'
    return (lambda _: ((), "")), [], [((), f"must be {kinds}; given {shown(value)}")]


def _length_sentence(length: int, what: str, frame: Frame) -> str:
    said = f", as {frame.told_by}" if frame.told_by else ""
    return f"has {length} {what}; the case has {frame.steps} intervals{said}"


def _column(value: dict[str, Any], frame: Frame) -> tuple[Callable[[int], tuple[Loc, str]], list[float], Found]:
    """Read a column; a place in it is the file's line."""
    unknown = [key for key in value if key not in KEYS]
    found: Found = [((key,), _unknown_key(key)) for key in unknown]
    found += [((), f'needs "{key}"') for key in ("file", "column") if not isinstance(value.get(key), str)]
    factor = value.get("factor", 1.0)
    if not _is_number(factor) or not math.isfinite(_float(factor)):
        found.append((("factor",), f"must be a finite number; given {shown(factor)}"))
    if found:
        return (lambda _: ((), "")), [], found
    name, column = value["file"], value["column"]
    table = frame.table(name)
    if table.problem:
        return (lambda _: ((), "")), [], [(("file",), table.problem)]
    if table.header.count(column) != 1:
        return (lambda _: ((), "")), [], [(("column",), _no_column(column, name, table.header))]
    at, values = table.header.index(column), []
    for line, cells in table.rows:
        cell = cells[at] if at < len(cells) else ""
        try:
            values.append(float(cell) * _float(factor))
        except ValueError:
            given = f"given {cell!r}" if cell else "the cell is empty"
            found.append(((), f"{name}, line {line}: must be a number with a decimal point; {given}"))
    found[MOST_TOLD:] = [((), f"{name}: {len(found) - MOST_TOLD} more cells are no numbers")] * (len(found) > MOST_TOLD)
    if len(table.rows) != frame.steps:
        found.append(((), f"{name} {_length_sentence(len(table.rows), 'lines under its names', frame)}"))
    return (lambda k: ((), f"{name}, line {table.rows[k][0]}: ")), values, found


def _wrong(
    values: list[float], place: Callable[[int], tuple[Loc, str]], bounds: tuple[float, float], why: str
) -> Found:
    """Return what is not finite, too small or too large."""
    found: Found = []
    least, most = bounds
    for k, one in enumerate(values):
        loc, before = place(k)
        if not math.isfinite(one):
            found.append((loc, f"{before}must be a finite number; given {one}"))
        elif not least <= one <= most:
            bound = f"at least {least:g}" if one < least else f"at most {most:g}"
            found.append((loc, f"{before}must be {bound}; given {one:g}{f'. {why}' if why else ''}"))
    found[MOST_TOLD:] = [((), f"has {len(found) - MOST_TOLD} more such values")] * (len(found) > MOST_TOLD)
    return found


def _unknown_key(key: str) -> str:
    return f"is not a key here; {nearest(key, KEYS)}"


def _no_column(column: str, name: str, header: list[str]) -> str:
    if column in header:
        return f'"{column}" stands in the first line of {name} {header.count(column)} times; remove all but one'
    return f'"{column}" is not a column of {name}; {nearest(column, header)}'


def steady(value: float | None) -> Any:
    """Return the default of a series: the same in every interval; null where it may mean that there is no limit."""
    return Field(default=value)
