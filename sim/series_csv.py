"""Series from a CSV file, with every mistake told by line and column.

The first row names the columns, ``time`` holds the start of each interval, in order and without a gap. A stamp with an offset
(``2016-07-18T12:00+02:00``, or ``Z``) is taken as it is; one without is local, and where clocks go back the second pass of the hour is
told from the first by its place in the file.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from sim.scenario_file import ScenarioError

__all__ = ["Stamped", "cell_columns", "read_csv"]

Vector = NDArray[np.float64]
Times = NDArray[np.datetime64]

FACTORS = {"eur_per_kwh": 1.0, "ct_per_kwh": 0.01, "eur_per_mwh": 0.001, "kg_per_kwh": 1.0, "g_per_kwh": 0.001}
SHOWN = 50


@dataclass(frozen=True, slots=True, eq=False)
class Stamped:
    """Values on an even grid of time."""

    name: str
    """Of the file, for messages."""
    start_s: int
    """Seconds since 1970, UTC."""
    step_s: int
    values: Vector
    provenance: str

    def at(self, times_utc: Times, interval_minutes: int) -> Vector:
        """Return the mean over each interval that begins at ``times_utc``, shape (T,); raises where the file does not reach."""
        begin = np.asarray(times_utc, dtype="datetime64[s]").astype(np.int64) - self.start_s
        width = interval_minutes * 60
        end_s = self.values.size * self.step_s
        outside = (begin < 0) | (begin + width > end_s)
        if outside.any():
            first, last = (np.datetime64(self.start_s + s, "s") for s in (0, end_s))
            at = np.asarray(times_utc, dtype="datetime64[s]")[outside][0]
            raise ScenarioError(
                [
                    f"{self.name}: holds {first}Z to {last}Z; the run needs {at}Z too. Give a longer file, or another start."
                ]
            )
        if self.step_s >= width:
            if (begin // self.step_s != (begin + width - 1) // self.step_s).any():
                raise ScenarioError(
                    [
                        f"{self.name}: its steps of {self.step_s // 60} min do not fit the intervals of {interval_minutes} min."
                    ]
                )
            return np.asarray(self.values[begin // self.step_s])
        if width % self.step_s or (begin % self.step_s).any():
            raise ScenarioError(
                [
                    f"{self.name}: its steps of {self.step_s / 60:g} min do not fit the intervals of {interval_minutes} min."
                ]
            )
        index = begin[:, None] // self.step_s + np.arange(width // self.step_s)
        return np.asarray(self.values[index].mean(axis=1))


def read_csv(path: Path, name: str, column: str, unit: str, time_zone: str) -> Stamped:
    """Read one column of a CSV file; raises :class:`ScenarioError` with every mistake.

    Parameters
    ----------
    path
        The file.
    name
        As it is called in messages.
    column
        Which column.
    unit
        A key of ``FACTORS``; values are converted to eur/kWh or kg/kWh.
    time_zone
        Of stamps without an offset.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise ScenarioError([f"{name}: cannot be read: {error.strerror}; looked for {path}."]) from None
    except UnicodeDecodeError:
        raise ScenarioError([f"{name}: is not text in UTF-8; save it as UTF-8."]) from None
    lines = text.splitlines()
    if not lines:
        raise ScenarioError([f"{name}:1:1: the file is empty."])
    delimiter = ";" if lines[0].count(";") > lines[0].count(",") else ","
    header = [cell.strip() for cell in next(csv.reader(io.StringIO(lines[0]), delimiter=delimiter))]
    missing = [needed for needed in ("time", column) if needed not in header]
    if missing:
        raise ScenarioError(
            [f'{name}:1:1: there is no column "{one}"; the columns are {", ".join(header)}.' for one in missing]
        )
    at_time, at_value = header.index("time"), header.index(column)
    rows = [(n, line) for n, line in enumerate(lines[1:], 2) if line.strip()]
    mistakes: list[str] = []
    stamps: list[int] = []
    values: list[float] = []
    lines_of: list[int] = []
    zone = ZoneInfo(time_zone)
    for n, line in rows:
        cells = next(csv.reader([line], delimiter=delimiter))
        columns = cell_columns(line, delimiter)
        if len(cells) != len(header):
            mistakes.append(f"{name}:{n}:1: has {len(cells)} cells; the header has {len(header)}.")
            continue
        stamp = _stamp(cells[at_time], zone, stamps[-1] if stamps else None)
        if isinstance(stamp, str):
            mistakes.append(f"{name}:{n}:{columns[at_time]}: {stamp}")
            continue
        value = _value(cells[at_value])
        if value is None:
            mistakes.append(
                f"{name}:{n}:{columns[at_value]}: {column} must be a number with a decimal point; given {cells[at_value]!r}."
            )
        stamps.append(stamp)
        values.append(value if value is not None else 0.0)
        lines_of.append(n)
    mistakes += _grid(name, np.array(stamps, dtype=np.int64), lines_of)
    if mistakes:
        more = [f"{name}: and {len(mistakes) - SHOWN} more."] if len(mistakes) > SHOWN else []
        raise ScenarioError([*mistakes[:SHOWN], *more])
    provenance = f"{name}, column {column}, sha256 {hashlib.sha256(raw).hexdigest()}"
    return Stamped(name, stamps[0], stamps[1] - stamps[0], np.array(values) * FACTORS[unit], provenance)


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


def _value(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _stamp(text: str, zone: ZoneInfo, before: int | None) -> int | str:
    """Return seconds since 1970, or what is wrong."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return f"time must be a stamp such as 2016-07-18T12:00 or 2016-07-18T12:00+02:00; given {text!r}."
    if moment.tzinfo is not None:
        return int(moment.timestamp())
    first = moment.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) != moment:
        return f"{text} does not exist in {zone.key}: clocks go forward then."
    seconds = int(first.timestamp())
    if before is not None and seconds <= before:
        seconds = int(moment.replace(tzinfo=zone, fold=1).astimezone(UTC).timestamp())
    return seconds


def _grid(name: str, stamps: NDArray[np.int64], lines_of: list[int]) -> list[str]:
    """Tell every duplicate, gap and step back."""
    if stamps.size < 2:
        return [f"{name}: needs at least two rows of figures; {stamps.size} given."]
    steps = np.diff(stamps)
    positive = steps[steps > 0]
    if positive.size == 0:
        return [f"{name}:{lines_of[1]}:1: time does not go forward."]
    step = int(np.median(positive))
    mistakes = []
    for k in np.flatnonzero(steps != step).tolist():
        stamp, line = np.datetime64(int(stamps[k + 1]), "s"), lines_of[k + 1]
        if steps[k] == 0:
            what = "stands here a second time"
        elif steps[k] < 0:
            what = "is earlier than the row before"
        else:
            what = f"comes {steps[k] / 60:g} min after the row before; the others are {step / 60:g} min apart"
        mistakes.append(f"{name}:{line}:1: {stamp}Z {what}.")
    return mistakes
