"""Envelopes in, messages out, and the other way round: what ``commonwatt network messages`` reads and writes.

What a file is follows from itself: a run's folder (its table ``envelopes``, issue by issue), a CSV of envelopes (it has a column
``time``), a CSV of messages (it has a column ``kind``), or CSIP-AUS (``.xml``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.message_table import Issue, controls_of, read_envelopes, read_messages, write_messages
from network.messages import Controls, Defaults, InForce, MessageError, in_force
from sim.folder import is_run

__all__ = ["Messages", "issues_of_run", "read", "write"]


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """Messages with what customers keep of them."""

    controls: Controls
    defaults: Defaults
    moments: NDArray[np.datetime64]
    """Every moment at which a control begins or ends, but the last.  Shape (T,)."""
    length_s: NDArray[np.int64]
    """Until the next of them.  Shape (T,). [s]"""
    kept: InForce
    """At these moments, of the customers in the order of ``defaults``."""

    def hours(self) -> dict[str, dict[str, float]]:
        """Return for how many customer-hours each cause held, by direction: "control", and why the default was kept."""
        hours = self.length_s / 3600.0
        found: dict[str, dict[str, float]] = {}
        for side in ("import", "export"):
            cause = getattr(self.kept, f"{side}_cause")
            found[side] = {str(name): float(((cause == name) * hours).sum()) for name in np.unique(cause.astype(str))}
        return found


def read(
    path: Path,
    *,
    default_kw: tuple[float, float] | None = None,
    interval_minutes: float | None = None,
    customer: str | None = None,
) -> Messages:
    """Read envelopes or messages.

    Parameters
    ----------
    path
        A run, a CSV, or an XML file.
    default_kw
        Import and export limit that customers keep without a control, where the file says none. [kW]
    interval_minutes
        Length of an interval of a CSV of envelopes; None: the smallest step between two. [min]
    customer
        Whose a resource of one customer alone is.
    """
    if is_run(path):
        controls, defaults = controls_of(issues_of_run(path)), None
    elif path.suffix == ".xml":
        from network.csip_aus import read_xml

        controls, defaults = read_xml(path, customer, default_kw)
    elif path.suffix == ".csv":
        if _has_kind(path):
            controls, defaults = read_messages(path)
        else:
            length = None if interval_minutes is None else round(interval_minutes * 60)
            controls, defaults = controls_of(read_envelopes(path), length), None
    else:
        raise MessageError([f"{path}: is no run, no .csv and no .xml. Give one of them."])
    defaults = _whole(path, controls, defaults, default_kw)
    moments, length_s = _moments(controls)
    return Messages(controls, defaults, moments, length_s, in_force(controls, defaults, defaults.agent_id, moments))


def write(path: Path, messages: Messages) -> None:
    """Write messages as the ending says: ``.xml`` is CSIP-AUS, anything else CSV."""
    if path.suffix == ".xml":
        from network.csip_aus import write_xml

        write_xml(path, messages.controls, messages.defaults)
    else:
        write_messages(path, messages.controls, messages.defaults)


def issues_of_run(path: Path) -> tuple[Issue, ...]:
    """Return the envelopes of a run, issue by issue."""
    from sim.results import Run

    run = Run(path)
    table = run.query(
        "SELECT epoch_us(issued_at) AS issued, epoch_us(time) AS time, agent_id, import_limit_kw, export_limit_kw FROM envelopes ORDER BY ALL"
    )
    if not table.num_rows:
        raise MessageError([f"{path}: the run has no envelopes: its operator published none."])
    columns = {name: np.array(table.column(name).to_pylist()) for name in table.column_names}
    return tuple(_issue(columns, columns["issued"] == issued) for issued in np.unique(columns["issued"]))


def _issue(columns: dict[str, NDArray[Any]], rows: NDArray[np.bool_]) -> Issue:
    who, i = np.unique(columns["agent_id"][rows], return_inverse=True)
    when, t = np.unique(columns["time"][rows], return_inverse=True)
    limits = np.full((2, who.size, when.size), np.inf)
    limits[0, i, t], limits[1, i, t] = columns["import_limit_kw"][rows], columns["export_limit_kw"][rows]
    stamps = (when // 1_000_000).astype("datetime64[s]")
    issued = np.datetime64(int(columns["issued"][rows][0]) // 1_000_000, "s")
    return Issue(issued, tuple(str(name) for name in who), stamps, limits[0], limits[1])


def _has_kind(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return "kind" in [cell.strip() for cell in file.readline().replace(";", ",").split(",")]


def _whole(path: Path, controls: Controls, told: Defaults | None, default_kw: tuple[float, float] | None) -> Defaults:
    """Return a default for everybody who has a control; one that a file says goes before that of the caller."""
    known = () if told is None else told.agent_id
    missing = [name for name in dict.fromkeys(controls.agent_id) if name not in known]
    if missing and default_kw is None:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise MessageError(
            [f"{path}: no default is said for {shown}, and without one a lost message would mean no limit. Give --default-import-kw and --default-export-kw."]
        )  # fmt: skip
    parts = [] if told is None else [told]
    if missing and default_kw is not None:
        parts.append(Defaults.same(missing, *default_kw))
    return Defaults(
        tuple(name for part in parts for name in part.agent_id),
        _joined([part.import_limit_w for part in parts]),
        _joined([part.export_limit_w for part in parts]),
    )


def _joined(parts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _moments(controls: Controls) -> tuple[NDArray[np.datetime64], NDArray[np.int64]]:
    """Return the moments between which nothing changes, and how long each lasts."""
    if not len(controls):
        return np.zeros(0, dtype="datetime64[s]"), np.zeros(0, dtype=np.int64)
    end = controls.start + controls.duration_s.astype("timedelta64[s]")
    first, last = controls.start.min(), end.max()
    changes = np.concatenate([controls.start, end, controls.received_at, controls.cancelled_at])
    found = np.unique(changes[~np.isnat(changes)])
    found = found[(found >= first) & (found <= last)]
    return found[:-1], np.diff(found).astype(np.int64)
