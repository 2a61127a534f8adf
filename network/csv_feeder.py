"""A feeder as a folder of plain CSV tables, read and written.

``buses.csv`` and ``branches.csv`` have the columns of a run's own tables of the same names, ``connections.csv`` (which
may be missing) one row per connection.  :data:`BUSES`, :data:`BRANCHES` and :data:`CONNECTIONS` declare them; they are
listed with their units in ``docs/feeders.md``.

Every mistake of the three files is told at once, with file, line and column: cells that are no number, figures that
can only be in another unit, names that occur twice, customers at buses that do not exist.  What remains, the shape of
the network (loops, buses without supply), is told by :class:`~network.feeder.Feeder`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.csv_matrix import MATRIX_COLUMNS, matrices, matrix_cells, matrix_mistakes
from network.csv_table import Column, Row, Value, read_table
from network.feeder import IDEAL_SOURCE_VA, Branches, Buses, Feeder, FeederError
from network.grid import Bounds, Connections, Grid, SourceError
from network.held import no_columns

__all__ = ["BRANCHES", "BUSES", "CONNECTIONS", "read_folder", "write_folder"]

_NO_KV = "Give volt, not kilovolt."
_NO_MVA = "Give kVA, not MVA."
_NO_W = "Give kW, not W."

BUSES = (
    Column("bus_id", "text", "Name of the bus", required="yes"),
    Column("v_nominal_v", "number", "Nominal line-to-line voltage", "V", "yes", low=48, high=1.2e6, hint=_NO_KV),
    Column("is_source", "flag", "Whether the feeder is fed here; true once", required="yes"),
    Column("source_v_pu", "number", "Voltage behind the source impedance", "p.u.", default=1.0, low=0.5, high=1.5,
           hint="Give per unit, not volt or percent."),
    Column("source_short_circuit_va", "number", "Short-circuit power of the grid above; 1e16 is ideal", "VA",
           default=IDEAL_SOURCE_VA, low=1e4, high=1e17, hint="Give VA, not MVA."),
    Column("source_rx_ratio", "number", "R/X of the source impedance", default=0.1, low=0, high=100),
    Column("x", "number", "Place on the map, east", "m"),
    Column("y", "number", "Place on the map, north", "m"),
    Column("v_min_pu", "number", "Lowest voltage allowed", "p.u.", low=0.5, high=1.1, hint="Give per unit."),
    Column("v_max_pu", "number", "Highest voltage allowed", "p.u.", low=0.9, high=1.5, hint="Give per unit."),
)  # fmt: skip

BRANCHES = (
    Column("branch_id", "text", "Name of the branch", required="yes"),
    Column("kind", "word", "What it is", required="yes", words=("line", "transformer")),
    Column("in_service", "flag", "False: open at both ends", default=True),
    Column("from_bus", "text", "Bus at one end; of a transformer, the side of v_from_v", required="yes"),
    Column("to_bus", "text", "Bus at the other end", required="yes"),
    Column("r1_ohm", "number", "Resistance of the whole line", "ohm", "line", low=0, high=1e3, hint="Give ohm, not milliohm."),
    Column("x1_ohm", "number", "Reactance of the whole line", "ohm", "line", low=0, high=1e3, hint="Give ohm, not milliohm."),
    Column("c1_nf", "number", "Capacitance of the whole line, half at each end", "nF", default=0.0, low=0, high=1e6),
    Column("r0_ohm", "number", "Zero sequence resistance", "ohm", low=0, high=1e4),
    Column("x0_ohm", "number", "Zero sequence reactance", "ohm", low=0, high=1e4),
    Column("c0_nf", "number", "Zero sequence capacitance", "nF", low=0, high=1e6),
    Column("rating_a", "number", "Current a line may carry for long; empty: no limit known", "A", default=math.inf, low=1,
           hint="Give ampere, not kiloampere."),
    Column("sn_kva", "number", "Rated power of a transformer", "kVA", "transformer", low=1, high=1e6, hint=_NO_MVA),
    Column("v_from_v", "number", "Rated voltage of the winding at from_bus", "V", "transformer", low=48, high=1.2e6, hint=_NO_KV),
    Column("v_to_v", "number", "Rated voltage of the winding at to_bus", "V", "transformer", low=48, high=1.2e6, hint=_NO_KV),
    Column("uk_percent", "number", "Short-circuit voltage", "%", "transformer", low=0.1, high=50,
           hint="Give percent, not a fraction."),
    Column("pk_kw", "number", "Copper loss at rated current", "kW", "transformer", low=0, high=1e4, hint=_NO_W),
    Column("i0_percent", "number", "No-load current", "%", default=0.0, low=0, high=50),
    Column("p0_kw", "number", "Iron loss", "kW", default=0.0, low=0, high=1e3, hint=_NO_W),
    Column("clock", "whole", "Clock number: the to side lags by 30° an hour", default=0, low=-12, high=12),
    Column("tap_side", "word", "Side with the tap changer; empty: none", default="", words=("from", "to")),
    Column("tap_position", "whole", "Steps from neutral", default=0, low=-100, high=100),
    Column("tap_step_percent", "number", "One step", "%", default=0.0, low=0, high=25),
    Column("phases", "word", "Conductors of a line; empty: all three", default="abc", words=("abc", "ab", "ac", "bc", "a", "b", "c")),
    *MATRIX_COLUMNS,
    Column("length_m", "number", "Length of a line, for drawing", "m", low=0, high=1e6),
    Column("loading_max_percent", "number", "Highest loading allowed", "%", low=1, high=1000, hint="Give percent."),
)  # fmt: skip

CONNECTIONS = (
    Column("agent_id", "text", "Name of the connection", required="yes"),
    Column("bus_id", "text", "Bus at which it is", required="yes"),
    Column("phase", "word", "Phase it is connected to; empty: all three", default="abc", words=("a", "b", "c", "abc")),
    Column("base_kw", "number", "Load that nobody controls; multiplied by its profile", "kW", default=0.0, low=0, high=1e5, hint=_NO_W),
    Column("base_kvar", "number", "Its reactive power, drawn positive", "kvar", default=0.0, low=-1e5, high=1e5),
    Column("load_profile", "text", "Profile of base_kw; empty: constant", default=""),
    Column("load_reactive_profile", "text", "Profile of base_kvar; empty: constant", default=""),
    Column("heat_pump_kw", "number", "Heat pump, nameplate", "kW", default=0.0, low=0, high=1e4, hint=_NO_W),
    Column("heat_pump_kvar", "number", "Its reactive power, drawn positive", "kvar", default=0.0, low=-1e4, high=1e4),
    Column("heat_pump_profile", "text", "Profile of heat_pump_kw", default=""),
    Column("heat_pump_reactive_profile", "text", "Profile of heat_pump_kvar", default=""),
    Column("ev_count", "whole", "Cars that charge here; empty: one where ev_kw is given", default=None, low=0, high=1000),
    Column("ev_kw", "number", "Charging points together, rating", "kW", default=0.0, low=0, high=1e4, hint=_NO_W),
    Column("ev_profile", "text", "Profile of the charging", default=""),
    Column("pv_kw_peak", "number", "PV, peak power", "kW", default=0.0, low=0, high=1e5, hint=_NO_W),
    Column("pv_profile", "text", "Profile of the PV, per kW peak", default=""),
    Column("battery_kw", "number", "Own battery, power both ways", "kW", default=0.0, low=0, high=1e5, hint=_NO_W),
    Column("battery_kwh", "number", "Its usable energy", "kWh", default=0.0, low=0, high=1e6, hint="Give kWh, not Wh."),
)  # fmt: skip

_TRANSFORMER_ONLY = (
    "sn_kva",
    "v_from_v",
    "v_to_v",
    "uk_percent",
    "pk_kw",
    "i0_percent",
    "p0_kw",
    "clock",
    "tap_position",
    "tap_step_percent",
)
_LINE_ONLY = ("r1_ohm", "x1_ohm", "c1_nf", "r0_ohm", "x0_ohm", "c0_nf", "rating_a", "length_m")
_OTHER_NAMES = {
    "id": "agent_id",
    "bus": "bus_id",
    "profile": "load_profile",
    "reactive_profile": "load_reactive_profile",
}
"""Columns of :class:`~network.grid.Connections` whose name in the file differs."""

_LOW_VOLTAGE_V = 1000.0
_MOST_AT_LOW_VOLTAGE_KW = 2000.0


def read_folder(folder: Path) -> Grid:
    """Read a feeder from a folder of CSV tables.

    Parameters
    ----------
    folder
        Holds ``buses.csv``, ``branches.csv`` and, where there are customers, ``connections.csv``.

    Returns
    -------
    The grid; its name is the folder's.
    """
    missing = [name for name in ("buses.csv", "branches.csv") if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            str(folder),
            [f"{name}:1:: the file is missing. A feeder needs buses.csv and branches.csv." for name in missing],
        )
    bus_rows, mistakes = read_table(folder / "buses.csv", BUSES)
    branch_rows, more = read_table(folder / "branches.csv", BRANCHES)
    mistakes += more
    connection_rows: list[Row] = []
    if (folder / "connections.csv").is_file():
        connection_rows, more = read_table(folder / "connections.csv", CONNECTIONS)
        mistakes += more
    buses_whole = not any(mistake.startswith("buses.csv") for mistake in mistakes)
    mistakes += _twice("buses.csv", "bus_id", bus_rows)
    mistakes += _twice("branches.csv", "branch_id", branch_rows)
    mistakes += _twice("connections.csv", "agent_id", connection_rows)
    if buses_whole:  # else every branch at a bus with a mistake would be one more
        mistakes += _source_mistakes(bus_rows)
        volts = {row.text("bus_id"): row.number("v_nominal_v") for row in bus_rows}
        mistakes += _unknown_buses("branches.csv", ("from_bus", "to_bus"), branch_rows, volts)
        mistakes += _unknown_buses("connections.csv", ("bus_id",), connection_rows, volts)
        mistakes += _unlikely_power(connection_rows, volts)
    mistakes += _tap_mistakes(branch_rows)
    mistakes += matrix_mistakes(branch_rows)
    if mistakes:
        raise SourceError(str(folder), sorted(mistakes, key=_place))
    return _grid(folder, bus_rows, branch_rows, connection_rows)


def _place(mistake: str) -> tuple[str, int]:
    """Sort by file (buses first) and line."""
    file, line, _ = mistake.split(":", 2)
    return str(("buses.csv", "branches.csv", "connections.csv").index(file)), int(line)


def _twice(file: str, column: str, rows: Iterable[Row]) -> list[str]:
    first: dict[str, int] = {}
    mistakes = []
    for row in rows:
        name = row.text(column)
        if name in first:
            mistakes.append(
                f"{file}:{row.line}:{column}: {name!r} stands in line {first[name]} already. Every row needs a name of its own."
            )
        first.setdefault(name, row.line)
    return mistakes


def _source_mistakes(buses: Sequence[Row]) -> list[str]:
    sources = [row for row in buses if row.cells["is_source"]]
    if not sources:
        return ["buses.csv:1:is_source: no bus is the source. Write true where the feeder is fed."]
    return [
        f"buses.csv:{row.line}:is_source: a second source, after line {sources[0].line}. A feeder is fed at one bus."
        for row in sources[1:]
    ]


def _unknown_buses(file: str, columns: Sequence[str], rows: Iterable[Row], volts: dict[str, float]) -> list[str]:
    return [
        f"{file}:{row.line}:{column}: there is no bus {row.text(column)!r} in buses.csv."
        for row in rows
        for column in columns
        if row.text(column) not in volts
    ]


def _unlikely_power(rows: Iterable[Row], volts: dict[str, float]) -> list[str]:
    """Return kilowatts that no low-voltage connection has: watts, most likely."""
    return [
        f"connections.csv:{row.line}:{column}: {row.number(column):g} kW at a bus of {volts[row.text('bus_id')]:g} V. {_NO_W}"
        for row in rows
        for column in ("base_kw", "heat_pump_kw", "ev_kw", "pv_kw_peak", "battery_kw")
        if volts.get(row.text("bus_id"), math.inf) < _LOW_VOLTAGE_V and row.number(column) > _MOST_AT_LOW_VOLTAGE_KW
    ]


def _tap_mistakes(rows: Iterable[Row]) -> list[str]:
    return [
        f"branches.csv:{row.line}:tap_side: the tap stands at {row.number('tap_position'):g}, but on which side is not said. Write from or to."
        for row in rows
        if row.text("kind") == "transformer" and row.number("tap_position") and not row.text("tap_side")
    ]


# --- from rows to a grid ----------------------------------------------------------------------------------------------


def _numbers(rows: Sequence[Row], column: str) -> NDArray[np.float64]:
    return np.array([row.number(column) for row in rows], dtype=np.float64)


def _grid(folder: Path, bus_rows: Sequence[Row], branch_rows: Sequence[Row], connection_rows: Sequence[Row]) -> Grid:
    index = {row.text("bus_id"): k for k, row in enumerate(bus_rows)}
    source = next(row for row in bus_rows if row.cells["is_source"])
    try:
        feeder = Feeder(
            name=folder.resolve().name,
            buses=Buses(
                tuple(index), _numbers(bus_rows, "v_nominal_v"), _numbers(bus_rows, "x"), _numbers(bus_rows, "y")
            ),
            branches=_branches(branch_rows, index),
            source_bus=index[source.text("bus_id")],
            source_v_pu=source.number("source_v_pu"),
            source_short_circuit_va=source.number("source_short_circuit_va"),
            source_rx_ratio=source.number("source_rx_ratio"),
        )
    except FeederError as error:
        places = {row.text("bus_id"): f"buses.csv:{row.line}" for row in bus_rows}
        places |= {row.text("branch_id"): f"branches.csv:{row.line}" for row in branch_rows}
        raise SourceError(
            str(folder), [_placed(line.strip(), places) for line in str(error).splitlines()[1:]]
        ) from error
    return Grid(
        feeder=feeder,
        connections=_connections(connection_rows, index),
        limits=Bounds(
            _numbers(bus_rows, "v_min_pu"), _numbers(bus_rows, "v_max_pu"), _numbers(branch_rows, "loading_max_percent")
        ),
        provenance=f"CSV tables in the folder {folder.resolve().name}",
        licence="",
    )


def _placed(sentence: str, places: dict[str, str]) -> str:
    """Put the place of the first bus or branch that a sentence names before it."""
    named = (name for name in re.findall("'([^']*)'", sentence) if name in places)
    return f"{places.get(next(named, ''), 'branches.csv:1')}:: {sentence}"


def _branches(rows: Sequence[Row], index: dict[str, int]) -> Branches:
    kind = tuple(row.text("kind") for row in rows)
    columns: dict[str, Any] = {}
    for names, of_kind in ((_LINE_ONLY, "line"), (_TRANSFORMER_ONLY, "transformer")):
        concerned = np.array([one == of_kind for one in kind], dtype=bool)
        columns |= {name: np.where(concerned, _numbers(rows, name), math.nan) for name in names}
    z_abc_ohm, c_abc_nf = matrices(rows)
    return Branches(
        ids=tuple(row.text("branch_id") for row in rows),
        kind=kind,
        from_bus=np.array([index[row.text("from_bus")] for row in rows], dtype=np.intp),
        to_bus=np.array([index[row.text("to_bus")] for row in rows], dtype=np.intp),
        in_service=np.array([row.cells["in_service"] for row in rows], dtype=bool),
        tap_side=tuple(row.text("tap_side") if row.text("kind") == "transformer" else "" for row in rows),
        phases=tuple(row.text("phases") for row in rows),
        z_abc_ohm=z_abc_ohm,
        c_abc_nf=c_abc_nf,
        **columns,
    )


def _connections(rows: Sequence[Row], index: dict[str, int]) -> Connections:
    columns: dict[str, object] = {}
    for field in fields(Connections):
        column = _OTHER_NAMES.get(field.name, field.name)
        if field.name == "bus":
            columns["bus"] = np.array([index[row.text("bus_id")] for row in rows], dtype=np.intp)
        elif field.name == "ev_count":
            counts = [
                row.number("ev_count") if row.cells["ev_count"] is not None else row.number("ev_kw") > 0 for row in rows
            ]
            columns["ev_count"] = np.array(counts, dtype=np.intp)
        elif field.name in ("id", "phase") or field.name.endswith("profile"):
            columns[field.name] = tuple(row.text(column) for row in rows)
        else:
            columns[field.name] = _numbers(rows, column)
    return Connections(**columns)  # type: ignore[arg-type]  # columns of several kinds, by the names of the fields


# --- writing ----------------------------------------------------------------------------------------------------------


def write_folder(grid: Grid, folder: Path, *, whole: bool = True) -> None:
    """Write a grid as CSV tables, to look at it or to change it; :func:`read_folder` reads the same grid again.

    Parameters
    ----------
    grid
        Any grid. Mind its licence before passing the tables on.
    folder
        Is made; tables in it are replaced.
    whole
        Whether columns that hold nothing but their default are written too, to be filled in.
    """
    feeder, buses, branches = grid.feeder, grid.feeder.buses, grid.feeder.branches
    if lacking := no_columns(grid):
        raise SourceError(
            feeder.name, [f"CSV tables have no columns for {lacking}. Keep the feeder where it comes from."]
        )
    source = feeder.source_bus
    at_source: dict[str, float] = {
        "source_v_pu": feeder.source_v_pu,
        "source_short_circuit_va": feeder.source_short_circuit_va,
        "source_rx_ratio": feeder.source_rx_ratio,
    }
    bus_columns: dict[str, Sequence[Value]] = {
        "bus_id": buses.ids,
        "v_nominal_v": buses.v_nominal_v.tolist(),
        "is_source": [bus == source for bus in range(feeder.n_bus)],
        **{
            name: [value if bus == source else None for bus in range(feeder.n_bus)] for name, value in at_source.items()
        },
        "x": buses.x.tolist(),
        "y": buses.y.tolist(),
        "v_min_pu": grid.limits.v_min_pu.tolist(),
        "v_max_pu": grid.limits.v_max_pu.tolist(),
    }
    branch_columns: dict[str, Sequence[Value]] = {
        "branch_id": branches.ids,
        "kind": branches.kind,
        "in_service": branches.in_service.tolist(),
        "from_bus": [buses.ids[bus] for bus in branches.from_bus],
        "to_bus": [buses.ids[bus] for bus in branches.to_bus],
        "tap_side": branches.tap_side,
        "phases": branches.phases,
        **matrix_cells(branches),
        **{name: getattr(branches, name).tolist() for name in (*_LINE_ONLY, *_TRANSFORMER_ONLY)},
        "loading_max_percent": grid.limits.loading_max_percent.tolist(),
    }
    connections = grid.connections
    connection_columns: dict[str, Sequence[Value]] = {
        _OTHER_NAMES.get(field.name, field.name): list(getattr(connections, field.name))
        for field in fields(Connections)
    }
    connection_columns["bus_id"] = [buses.ids[bus] for bus in connections.bus]
    folder.mkdir(parents=True, exist_ok=True)
    _write(whole, folder / "buses.csv", BUSES, bus_columns, feeder.n_bus)
    _write(whole, folder / "branches.csv", BRANCHES, branch_columns, feeder.n_branch)
    _write(whole, folder / "connections.csv", CONNECTIONS, connection_columns, len(connections))


def _write(whole: bool, path: Path, declared: Sequence[Column], columns: dict[str, Sequence[Value]], rows: int) -> None:
    """Write a table in the declared order; figures in full, nothing where nothing is known."""
    told = {column.name: [_cell(columns[column.name][row], column.kind) for row in range(rows)] for column in declared}
    names = [
        column.name
        for column in declared
        if whole
        or column.required == "yes"
        or any(cell not in ("", _cell(column.default, column.kind)) for cell in told[column.name])
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(zip(*(told[name] for name in names), strict=True))


def _cell(value: Value, kind: str) -> str:
    if value is None:
        return ""
    if kind == "flag":
        return "true" if value else "false"
    if kind in ("number", "whole"):
        number = float(value)
        return (
            ""
            if math.isnan(number)
            else str(int(number))
            if number.is_integer() and abs(number) < 1e15
            else repr(number)
        )
    return str(value)
