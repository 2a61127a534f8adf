"""Messages and envelopes as CSV: what was sent, what became of it, and the limits it was made from.

:data:`MESSAGES` is one row for a control or a default; :data:`ENVELOPES` one row for a customer and interval, with the columns
of a run's table of that name.  Every mistake is told with file, line and column.  Moments are ISO 8601, ``2030-06-01T12:00Z``;
one without an offset is UTC.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from network.csv_table import Column, Row, read_table
from network.messages import NEVER, Controls, Defaults, MessageError, messages_of

__all__ = ["ENVELOPES", "MESSAGES", "Issue", "controls_of", "read_envelopes", "read_messages", "write_messages"]

LOST = "lost"
"""What stands in ``received_at`` of a message that never arrived."""

MESSAGES = (
    Column("kind", "word", "control, or default: what is kept without one", required="yes", words=("control", "default")),
    Column("agent_id", "text", "For whom it is", required="yes"),
    Column("receiver_id", "text", "Who got it; empty: for whom it is", default=""),
    Column("mrid", "text", "Name of the message, 32 hexadecimal digits", required="control"),
    Column("start", "text", "When it binds", required="control"),
    Column("duration_s", "whole", "How long", "s", "control", low=1, high=10**9),
    Column("created_at", "text", "When it was made", required="control"),
    Column("received_at", "text", "When it arrived; empty: when it was made; lost: never", default=""),
    Column("cancelled_at", "text", "When it was taken back; empty: never", default=""),
    Column("primacy", "whole", "The lower goes first", default=1, low=0, high=255),
    Column("import_limit_w", "whole", "The meter may draw up to this; empty: not said", "W", "default", low=0, high=10**9, hint="Give W."),
    Column("export_limit_w", "whole", "The meter may feed in up to this; empty: not said", "W", "default", low=0, high=10**9, hint="Give W."),
)  # fmt: skip

ENVELOPES = (
    Column("issued_at", "text", "When it is announced; empty: all at once", default=""),
    Column("time", "text", "Start of the interval", required="yes"),
    Column("agent_id", "text", "The customer", required="yes"),
    Column("import_limit_kw", "number", "The meter may draw up to this; empty or inf: no limit", "kW", default=np.inf, low=0, high=np.inf),
    Column("export_limit_kw", "number", "The meter may feed in up to this; empty or inf: no limit", "kW", default=np.inf, low=0, high=np.inf),
    Column("firm_charge_kw", "number", "Not sent", "kW", low=0, high=1e6),
    Column("mode", "text", "Not sent"),
    Column("rule", "text", "Not sent"),
    Column("binding_element", "text", "Not sent"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """Envelopes that are announced together."""

    issued_at: np.datetime64
    agent_id: tuple[str, ...]
    times: NDArray[np.datetime64]
    """Starts of the intervals.  Shape (T,)."""
    import_limit_kw: NDArray[np.float64]
    """Infinite where nothing is said.  Shape (c, T). [kW]"""
    export_limit_kw: NDArray[np.float64]


def read_messages(path: Path) -> tuple[Controls, Defaults]:
    """Read messages and defaults from CSV."""
    rows, mistakes = read_table(path, MESSAGES)
    moments: dict[str, list[np.datetime64]] = {
        name: [] for name in ("start", "created_at", "received_at", "cancelled_at")
    }
    controls = [row for row in rows if row.text("kind") == "control"]
    for row in controls:
        made = _moment(path, row, "created_at", mistakes)
        moments["created_at"].append(made)
        moments["start"].append(_moment(path, row, "start", mistakes))
        arrived = row.text("received_at")
        given = NEVER if arrived == LOST else _moment(path, row, "received_at", mistakes) if arrived else made
        moments["received_at"].append(given)
        moments["cancelled_at"].append(
            _moment(path, row, "cancelled_at", mistakes) if row.text("cancelled_at") else NEVER
        )
        if np.isnan(row.number("import_limit_w")) and np.isnan(row.number("export_limit_w")):
            mistakes.append(
                f"{path.name}:{row.line}:import_limit_w: says no limit in either direction. Give one, or both."
            )
    defaults = [row for row in rows if row.text("kind") == "default"]
    for which, column in ((controls, "mrid"), (defaults, "agent_id")):
        first: dict[str, int] = {}
        for row in which:
            name = row.text(column)
            if name in first:
                mistakes.append(f"{path.name}:{row.line}:{column}: {name!r} stands in line {first[name]} already.")
            first.setdefault(name, row.line)
    if mistakes:
        raise MessageError(mistakes)
    try:
        return Controls(
            mrid=tuple(row.text("mrid") for row in controls),
            agent_id=tuple(row.text("agent_id") for row in controls),
            receiver_id=tuple(row.text("receiver_id") or row.text("agent_id") for row in controls),
            duration_s=np.array([row.cells["duration_s"] for row in controls], dtype=np.int64),
            primacy=np.array([row.cells["primacy"] for row in controls], dtype=np.int64),
            import_limit_w=np.array([row.number("import_limit_w") for row in controls], dtype=np.float64),
            export_limit_w=np.array([row.number("export_limit_w") for row in controls], dtype=np.float64),
            **{name: np.array(values, dtype="datetime64[s]") for name, values in moments.items()},
        ), Defaults(
            tuple(row.text("agent_id") for row in defaults),
            np.array([row.number("import_limit_w") for row in defaults], dtype=np.float64),
            np.array([row.number("export_limit_w") for row in defaults], dtype=np.float64),
        )
    except MessageError as error:
        raise MessageError([f"{path.name}: {sentence}" for sentence in error.mistakes]) from error


def write_messages(path: Path, controls: Controls, defaults: Defaults) -> None:
    """Write messages and defaults; :func:`read_messages` reads the same again."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([column.name for column in MESSAGES])
        for name, *limits in zip(defaults.agent_id, defaults.import_limit_w, defaults.export_limit_w, strict=True):
            table.writerow(["default", name, "", "", "", "", "", "", "", "", *map(_watt, limits)])
        for k in range(len(controls)):
            owner, receiver = controls.agent_id[k], controls.receiver_id[k]
            arrived = LOST if np.isnat(controls.received_at[k]) else _text(controls.received_at[k])
            table.writerow(
                [
                    *(
                        "control",
                        owner,
                        "" if receiver == owner else receiver,
                        controls.mrid[k],
                        _text(controls.start[k]),
                    ),
                    *(
                        int(controls.duration_s[k]),
                        _text(controls.created_at[k]),
                        arrived,
                        _text(controls.cancelled_at[k]),
                    ),
                    *(int(controls.primacy[k]), _watt(controls.import_limit_w[k]), _watt(controls.export_limit_w[k])),
                ]
            )


def read_envelopes(path: Path) -> tuple[Issue, ...]:
    """Read envelopes from CSV, one issue for each moment at which some were announced.

    Where no moment is given, they count as announced when the first interval begins.
    """
    rows, mistakes = read_table(path, ENVELOPES)
    read: dict[np.datetime64, dict[tuple[str, np.datetime64], Row]] = {}
    issued = [_moment(path, row, "issued_at", mistakes) if row.text("issued_at") else NEVER for row in rows]
    times = [_moment(path, row, "time", mistakes) for row in rows]
    if not rows and not mistakes:
        mistakes.append(f"{path.name}:1:: holds no envelope.")
    if mistakes:
        raise MessageError(mistakes)
    first = min(times)
    for row, moment, time in zip(rows, issued, times, strict=True):
        issue = read.setdefault(first if np.isnat(moment) else moment, {})
        key = (row.text("agent_id"), time)
        if key in issue:
            mistakes.append(f"{path.name}:{row.line}:time: {key[0]} has an envelope for this interval in line {issue[key].line} already.")  # fmt: skip
        issue.setdefault(key, row)
    if mistakes:
        raise MessageError(mistakes)
    return tuple(_issue(moment, cells) for moment, cells in sorted(read.items()))


def _issue(moment: np.datetime64, cells: dict[tuple[str, np.datetime64], Row]) -> Issue:
    who, when = list(dict.fromkeys(name for name, _ in cells)), sorted({time for _, time in cells})
    limits = np.full((2, len(who), len(when)), np.inf)
    at, step = {name: k for k, name in enumerate(who)}, {time: k for k, time in enumerate(when)}
    for (name, time), row in cells.items():
        limits[:, at[name], step[time]] = row.number("import_limit_kw"), row.number("export_limit_kw")
    return Issue(moment, tuple(who), np.array(when, dtype="datetime64[s]"), limits[0], limits[1])


def controls_of(issues: Sequence[Issue], interval_s: int | None = None) -> Controls:
    """Return issues of envelopes as messages; the length of an interval is the smallest step between two, where it is not given."""
    steps = [int(step) for issue in issues for step in np.diff(issue.times).astype(np.int64)]
    if interval_s is None and not steps:
        raise MessageError(
            ["one interval alone does not say how long it is. Give the minutes of an interval (--interval-minutes)."]
        )
    length = min(steps) if interval_s is None else interval_s
    parts = [
        messages_of(issue.agent_id, issue.times, length, issue.import_limit_kw, issue.export_limit_kw, issue.issued_at)
        for issue in issues
    ]
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def _moment(path: Path, row: Row, column: str, mistakes: list[str]) -> np.datetime64:
    """Return a moment in UTC, or note that the cell holds none."""
    text = row.text(column)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        mistakes.append(
            f"{path.name}:{row.line}:{column}: expected a moment such as 2030-06-01T12:00Z, given {text!r}."
        )
        return NEVER
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    if moment.microsecond:
        mistakes.append(f"{path.name}:{row.line}:{column}: messages count whole seconds, given {text!r}.")
    return np.datetime64(moment, "s")


def _text(moment: np.datetime64) -> str:
    return "" if np.isnat(moment) else f"{moment}Z"


def _watt(limit_w: float) -> str:
    return "" if np.isnan(limit_w) else str(int(limit_w))
