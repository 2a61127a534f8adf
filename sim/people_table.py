"""Homes from a table beside the scenario: CSV or Parquet, one home a row.

The columns are the keys of :class:`sim.scenario_people.Home` with an underscore between the levels: ``id``, ``bus``, ``load_kw``,
``load_profile``, ``solar_kw_peak``, ``battery_kwh``, ``ev_kw``, ``heat_pump_kw``, ``aggregator``, ``tariff``, and so on. An empty cell is a
key that is not given; a device whose size is empty or 0 is not there. Every mistake is told with line and column;
in Parquet the line is the row, from 1.
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

__all__ = ["PlacedHome", "columns", "read_homes"]

PARTS: dict[str, type[Spec]] = {
    "load": HomeLoad,
    "solar": HomeSolar,
    "battery": HomeBattery,
    "ev": HomeEv,
    "heat_pump": HomeHeatPump,
}
SIZES = {"solar": "kw_peak", "battery": "kwh", "ev": "kw", "heat_pump": "kw"}
TEXTS = {"id", "bus", "phase", "profile", "profile_q", "aggregator", "tariff"}
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
        home_id = str(source.data.get("id", ""))
        if home_id in first:
            mistakes.append(f'{source.place(("id",))}: "{home_id}" is the id of the home at {first[home_id]} already.')
        first.setdefault(home_id, source.place(("id",)))
        try:
            homes.append(PlacedHome(Home.model_validate(source.data), source))
        except ValidationError as error:
            mistakes += told(error, Home, source, with_keys=False)
    if mistakes:
        raise ScenarioError(mistakes)
    return homes


def _csv(path: Path, name: str) -> Iterator[Source]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ScenarioError([f"{name}: cannot be read: {error.strerror}; looked for {path}."]) from None
    except UnicodeDecodeError:
        raise ScenarioError([f"{name}: is not text in UTF-8; save it as UTF-8."]) from None
    first = text.partition("\n")[0]
    if not first.strip():
        raise ScenarioError([f"{name}:1: the first line is empty; it names the columns."])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",")
    header = [cell.strip() for cell in next(reader)]
    _check_header(header, f"{name}:1")
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        place = f"{name}:{reader.line_num}"
        row = Source(name, path.parent, data={}, where={(): place})
        if len(cells) != len(header):
            row.mistakes.append(
                f"{place}: has {len(cells)} cells; the header has {len(header)}. Quote a text that holds the delimiter."
            )
        _fill(row, {column: cell.strip() for column, cell in zip(header, cells, strict=False)}, place)
        yield row


def _parquet(path: Path, name: str) -> Iterator[Source]:
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowInvalid

    try:
        table = pq.read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise ScenarioError([f"{name}: cannot be read as Parquet: {str(error).splitlines()[0]}"]) from None
    header = [str(column) for column in table.column_names]
    _check_header(header, f"{name}:0")
    for n, cells in enumerate(table.to_pylist(), 1):
        place = f"{name}:{n}"
        row = Source(name, path.parent, data={}, where={(): place})
        _fill(row, {k: "" if v is None else v for k, v in cells.items()}, place)
        yield row


def _check_header(header: list[str], place: str) -> None:
    known = columns()
    mistakes = []
    for k, column in enumerate(header):
        if column in header[:k]:
            mistakes.append(f"{place}:{column}: the column stands there twice. Remove one.")
        elif column not in known:
            near = difflib.get_close_matches(column, known, 1, 0.6)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}."
            mistakes.append(f"{place}:{column}: is not a column of a table of homes; {hint}")
    mistakes += [f"{place}:{needed}: the column is missing." for needed in ("id", "bus") if needed not in header]
    if mistakes:
        raise ScenarioError(mistakes)


def _fill(row: Source, cells: dict[str, Any], place: str) -> None:
    """Put the cells of a row into the nested form of a home."""
    known = columns()
    for column, cell in cells.items():
        loc = known[column]
        row.where[loc] = f"{place}:{column}"
        if cell == "" and loc not in {("id",), ("bus",)}:
            continue
        here = row.data
        for part in loc[:-1]:
            row.where.setdefault((part,), f"{place}:{column}")
            here = here.setdefault(part, {})
        here[loc[-1]] = _value(str(loc[-1]), cell)
    for part, size in SIZES.items():
        if part in row.data and row.data[part].get(size, 0) == 0:
            others = [key for key, value in row.data[part].items() if key != size and value not in (0, False)]
            if others:
                row.mistakes.append(
                    f"{row.where[part, others[0]]}: is given, but {part}_{size} is empty or 0; give the size or leave both empty."
                )
            del row.data[part]


def _value(key: str, cell: Any) -> Any:
    if key in TEXTS:
        return str(cell)
    if not isinstance(cell, str):
        return cell
    if key == "v2g":
        return TRUTHS.get(cell.lower(), cell)
    for kind in (int, float) if "_" not in cell and cell.isascii() else ():  # Python would read 1_000
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
