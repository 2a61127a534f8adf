"""Homes from a table beside the scenario: CSV or Parquet, one home a row.

The columns are the keys of :class:`sim.scenario_people.Home` with an underscore between the levels: ``id``, ``bus``, ``load_kw``,
``load_profile``, ``solar_kw_peak``, ``battery_kwh``, ``ev_kw``, ``heat_pump_kw``, ``aggregator``, ``tariff``, and so on. An empty cell is a
key that is not given; a device whose size is empty or 0 is not there. Every mistake is told with line and column.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sim.scenario_base import Spec
from sim.scenario_file import Loc, ScenarioError, Source
from sim.scenario_mistakes import told
from sim.scenario_people import Home, HomeBattery, HomeEv, HomeHeatPump, HomeLoad, HomeSolar

__all__ = ["PlacedHome", "cell_columns", "columns", "read_homes"]

PARTS: dict[str, type[Spec]] = {
    "load": HomeLoad,
    "solar": HomeSolar,
    "battery": HomeBattery,
    "ev": HomeEv,
    "heat_pump": HomeHeatPump,
}
SIZES = {"solar": "kw_peak", "battery": "kwh", "ev": "kw", "heat_pump": "kw"}
TEXTS = {"id", "bus", "profile", "profile_q", "aggregator", "tariff"}
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class PlacedHome:
    """A home, and where it was read."""

    home: Home
    source: Source

    def place(self, *loc: str | int) -> str:
        """Return the place of a value."""
        return self.source.place(loc)


def columns() -> dict[str, Loc]:
    """Return the columns a table may have, and what each is in a home."""
    out: dict[str, Loc] = {}
    for name in Home.model_fields:
        if name in PARTS:
            out.update({f"{name}_{key}": (name, key) for key in PARTS[name].model_fields})
        else:
            out[name] = (name,)
    return out


def read_homes(path: Path, name: str) -> list[PlacedHome]:
    """Read the homes; raises :class:`ScenarioError` with every mistake.

    Parameters
    ----------
    path
        The file.
    name
        As it is called in messages.
    """
    if path.suffix not in {".csv", ".parquet"}:
        raise ScenarioError([f"{name}: a table of homes ends in .csv or .parquet."])
    rows = list(_parquet(path, name) if path.suffix == ".parquet" else _csv(path, name))
    mistakes: list[str] = []
    homes: list[PlacedHome] = []
    first: dict[str, str] = {}
    for source in rows:
        mistakes += source.mistakes
        try:
            home = Home.model_validate(source.data)
        except ValidationError as error:
            mistakes += told(error, Home, source)
            continue
        if home.id in first:
            mistakes.append(f'{source.place(("id",))}: "{home.id}" is the id of the home at {first[home.id]} already.')
        first.setdefault(home.id, source.place(("id",)))
        homes.append(PlacedHome(home, source))
    if mistakes:
        raise ScenarioError(mistakes)
    return homes


def cell_columns(line: str, delimiter: str) -> list[int]:
    """Return the column (from 1) at which each cell of a line begins.

    >>> cell_columns('a,"b,c",d', ",")
    [1, 3, 9]
    """
    starts, quoted = [1], False
    for k, sign in enumerate(line):
        if sign == '"':
            quoted = not quoted
        elif sign == delimiter and not quoted:
            starts.append(k + 2)
    return starts


def _csv(path: Path, name: str) -> Iterator[Source]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ScenarioError([f"{name}: cannot be read: {error.strerror}; looked for {path}."]) from None
    except UnicodeDecodeError:
        raise ScenarioError([f"{name}: is not text in UTF-8; save it as UTF-8."]) from None
    lines = text.splitlines()
    if not lines:
        raise ScenarioError([f"{name}:1:1: the file is empty; its first row names the columns."])
    delimiter = ";" if lines[0].count(";") > lines[0].count(",") else ","
    header = [cell.strip() for cell in next(csv.reader(io.StringIO(lines[0]), delimiter=delimiter))]
    starts = cell_columns(lines[0], delimiter)
    _check_header(header, [f"{name}:1:{start}" for start in starts])
    for n, line in enumerate(lines[1:], 2):
        if not line.strip().strip(delimiter):
            continue
        starts = cell_columns(line, delimiter)
        cells = next(csv.reader([line], delimiter=delimiter))
        row = Source(name, path.parent)
        row.where[()] = f"{name}:{n}:1"
        row.data = {}
        if len(cells) != len(header) or len(starts) != len(cells):
            row.mistakes.append(f"{name}:{n}:1: has {len(cells)} cells; the header has {len(header)}.")
            cells, starts = cells[: len(header)], [*starts, *[1] * len(header)]
        places = [f"{name}:{n}:{start}" for start in starts]
        _fill(
            row,
            {column: cell.strip() for column, cell in zip(header, cells, strict=False)},
            dict(zip(header, places, strict=False)),
        )
        yield row


def _parquet(path: Path, name: str) -> Iterator[Source]:
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowInvalid

    try:
        table = pq.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise ScenarioError([f"{name}: cannot be read as Parquet: {str(error).splitlines()[0]}"]) from None
    header = [str(column) for column in table.column_names]
    _check_header(header, [f"{name}, column {column}" for column in header])
    for n, cells in enumerate(table.to_pylist(), 1):
        row = Source(name, path.parent)
        row.where[()] = f"{name}, row {n}"
        row.data = {}
        _fill(
            row,
            {k: "" if v is None else v for k, v in cells.items()},
            {k: f"{name}, row {n}, column {k}" for k in header},
        )
        yield row


def _check_header(header: list[str], places: list[str]) -> None:
    known = columns()
    mistakes = []
    for k, (column, place) in enumerate(zip(header, places, strict=False)):
        if column in header[:k]:
            mistakes.append(f'{place}: the column "{column}" stands here a second time.')
        elif column not in known:
            near = difflib.get_close_matches(column, known, 1, 0.6)
            hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}."
            mistakes.append(f'{place}: "{column}" is not a column of a table of homes; {hint}')
    mistakes += [f'{places[0]}: there is no column "{needed}".' for needed in ("id", "bus") if needed not in header]
    if mistakes:
        raise ScenarioError(mistakes)


def _fill(row: Source, cells: dict[str, Any], places: dict[str, str]) -> None:
    """Put the cells of a row into the nested form of a home."""
    known = columns()
    for column, cell in cells.items():
        loc = known[column]
        row.where[loc] = places[column]
        if cell == "" and loc not in {("id",), ("bus",)}:
            continue
        here = row.data
        for part in loc[:-1]:
            row.where.setdefault((part,), places[column])
            here = here.setdefault(part, {})
        here[loc[-1]] = _value(str(loc[-1]), cell)
    for part, size in SIZES.items():
        if part in row.data and row.data[part].get(size, 0) == 0:
            others = [key for key, value in row.data[part].items() if key != size and value not in (0, False)]
            if others:
                place = row.where[(part, others[0])]
                row.mistakes.append(
                    f"{place}: {part}_{others[0]} is given, but {part}_{size} is empty or 0; give the size or leave both empty."
                )
            del row.data[part]


def _value(key: str, cell: Any) -> Any:
    if key in TEXTS:
        return str(cell)
    if not isinstance(cell, str):
        return cell
    if key == "v2g":
        return TRUTHS.get(cell.lower(), cell)
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
