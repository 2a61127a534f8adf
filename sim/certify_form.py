"""Before anything is recomputed: are all tables there, whole, and free of figures that are none?

A missing table, column or row, a NaN where a figure is promised, a row that stands twice: each is a failure by itself,
because every later check would otherwise look at less than the run claims to hold.
"""

from __future__ import annotations

from sim.certify_days import whole_run
from sim.certify_evidence import Evidence, Law, Wrong, moment, text
from sim.schema import POSITIVE, TABLES, Column, Table, tables_of

__all__ = ["check"]

STAGES = ("day_ahead", "intraday", "settled")
PHASES = ("a", "b", "c", "abc")

WORDS = {
    ("agents", "role"): ("prosumer", "storage", "aggregator", "retailer", "dso", "state"),
    ("agents", "phase"): PHASES,
    ("ess", "phase"): PHASES,
    ("branches", "kind"): ("line", "transformer"),
    ("branches", "tap_side"): ("from", "to", ""),
    ("forecasts", "stage"): ("day_ahead", "last"),
    ("positions", "stage"): STAGES,
    ("trades", "stage"): STAGES,
    ("prices", "stage"): STAGES,
    ("locational_prices", "stage"): STAGES,
    ("rights", "stage"): STAGES,
    ("clearings", "stage"): STAGES,
    ("bus_voltages", "phase"): PHASES,
    ("branch_flows", "phase"): PHASES,
    ("conductors", "phase"): ("a", "b", "c"),
    ("conductors", "other_phase"): ("a", "b", "c"),
    ("violations", "kind"): ("over_voltage", "under_voltage", "overload", "envelope", "not_converged"),
}
"""Columns that hold one of a few words."""

OF_PHASES = {("branch_flows", "loss_kw"): ("time", "branch_id")}
"""Columns of which one phase may be negative (power passes from one to another), and never their sum by these keys."""

ROUNDING = 1e-6
"""How far below zero a figure may lie that is never negative: sums of float64 lose less. [kW, kWh, …]"""


def check(evidence: Evidence) -> str:
    """Check that the tables of a folder are as :mod:`sim.schema` declares them, with every row that belongs there."""
    for name in tables_of(evidence.section):
        if not evidence.holds(name):
            raise Wrong(f"table {name} is missing ({evidence.section}/{name}.parquet)")
        _columns(evidence, TABLES[name])
        evidence.count(name)
    _complete(evidence)
    return f"{len(tables_of(evidence.section))} tables with all their columns, every figure a number, no row missing or twice"


def _columns(evidence: Evidence, table: Table) -> None:
    """Check columns, types, forbidden nulls and NaNs, and that keys are unique."""
    view = evidence.table(table.name)
    given = {row[0]: row[1] for row in evidence.all(f"DESCRIBE {view}")}
    for column in table.columns:
        if column.name not in given:
            raise Wrong(f"table {table.name} has no column {column.name}")
        if not _fits(column, given[column.name]):
            raise Wrong(f"table {table.name}: column {column.name} is {given[column.name]}, expected {column.kind}")
    # one look at the whole table; a second one only where something is wrong
    bad = {column.name: _bad(column) for column in table.columns if _bad(column)}
    found = evidence.all(f"SELECT {', '.join(f'count(*) FILTER (WHERE {sql})' for sql in bad.values())} FROM {view}")[0]
    for (name, sql), many in zip(bad.items(), found, strict=True):
        if many:
            keys = [key for key in table.key if key != name] or [other for other in table.names if other != name][:3]
            evidence.none_of(f"table {table.name}: {name} is not a figure", f"FROM {view} WHERE {sql}", keys)
            raise Wrong(f"table {table.name}: {name} is not a figure in {many} rows")
    signed = [column.name for column in table.columns if column.sign == POSITIVE and (table.name, column.name) not in OF_PHASES]  # fmt: skip
    below = [f'count(*) FILTER (WHERE "{name}" < -{ROUNDING!r} AND NOT isnan("{name}"))' for name in signed]
    for name, many in zip(
        signed, evidence.all(f"SELECT {', '.join(below)} FROM {view}")[0] if below else (), strict=True
    ):
        if many:
            law = Law(f"table {table.name}: {name} is never negative", f'(FROM {view} WHERE NOT isnan("{name}"))', table.key, f'"{name}"', "0", ROUNDING, ">=")  # fmt: skip
            evidence.uphold([law])
    for (name, column_name), by in OF_PHASES.items():
        if name == table.name:
            kept = f"(SELECT {', '.join(by)}, sum({column_name}) AS amount FROM {view} WHERE NOT isnan({column_name}) GROUP BY ALL)"
            law = Law(f"table {name}: {column_name} of all phases is never negative", kept, by, "amount", "0", ROUNDING, ">=")  # fmt: skip
            evidence.uphold([law])
    for (name, column_name), words in WORDS.items():
        if name == table.name:
            known = ", ".join(f"'{word}'" for word in words)
            other = evidence.one(f'SELECT min("{column_name}") FROM {view} WHERE "{column_name}" NOT IN ({known})')
            if other is not None:
                raise Wrong(f"table {name}: {column_name} is '{other}', expected one of {known}")
    if table.key:
        unique = ", ".join(f'"{name}"' for name in table.key)
        evidence.none_of(
            f"table {table.name}: a row stands twice",
            f"SELECT {unique} FROM {view} GROUP BY {unique} HAVING count(*) > 1",
            table.key,
        )


def _fits(column: Column, given: str) -> bool:
    """Whether DuckDB's type is the promised one."""
    wanted = {
        "string": ("VARCHAR",),
        "time": ("TIMESTAMP WITH TIME ZONE",),
        "float64": ("DOUBLE", "FLOAT"),
        "int64": ("BIGINT", "INTEGER"),
        "bool": ("BOOLEAN",),
    }
    return given in wanted[column.kind]


def _bad(column: Column) -> str:
    """Return SQL that is true for a value the column may not hold; empty where it may hold anything."""
    name = f'"{column.name}"'
    if column.numbers == "nan":
        return f"isinf({name})" if column.kind == "float64" else ""
    if column.kind == "float64":
        return f"{name} IS NULL OR isnan({name})" + ("" if column.numbers == "inf" else f" OR isinf({name})")
    return f"{name} IS NULL"


def _complete(evidence: Evidence) -> None:
    """Check that every connection, bus, branch and storage has its row in every interval."""
    if not evidence.holds("meters"):
        return
    meters = evidence.table("meters")
    first, last, steps = evidence.all(
        f"SELECT epoch_us(min(time)), epoch_us(max(time)), count(DISTINCT time) FROM {meters}"
    )[0]
    if not steps:
        raise Wrong("table meters is empty")
    dt_us = round(evidence.dt_h * 3.6e9)
    evidence.none_of(
        "the intervals do not follow one another at the scenario's length",
        f"SELECT time, epoch_us(time) - lag(epoch_us(time)) OVER (ORDER BY time) AS gap FROM (SELECT DISTINCT time FROM {meters}) "
        f"QUALIFY gap <> {dt_us}",
        ("time",),
    )
    begin, end = whole_run(evidence.scenario)
    if first != begin or last + dt_us != end:
        raise Wrong(
            f"table meters reaches from {moment(first)} to {moment(last + dt_us)}, the scenario from {moment(begin)} to {moment(end)}"
        )
    home = evidence if evidence.holds("agents") else None
    places = evidence.table("agents").replace("unmanaged_", "reference_") if home is None else home.table("agents")
    _every(evidence, "meters", "agent_id", f"(SELECT agent_id FROM {places} WHERE bus_id <> '')", steps)
    if home is None:
        return
    known = f"(SELECT agent_id FROM {places})"
    for table, column in (
        ("ess", "operator_id"),
        ("rights", "agent_id"),
        ("storage_ledger", "agent_id"),
        ("forecasts", "agent_id"),
        ("trades", "seller_id"),
        ("trades", "buyer_id"),
    ):
        stranger = evidence.one(
            f"SELECT min({column}) FROM {evidence.table(table)} WHERE {column} NOT IN (FROM {known})"
        )
        if stranger is not None:
            raise Wrong(f"table {table} names the {column} {stranger}, whom agents does not know")
    positions, connected = evidence.table("positions"), f"(SELECT DISTINCT agent_id FROM {meters})"
    for stage in dict.fromkeys(
        ["settled", *(row[0] for row in evidence.all(f"SELECT DISTINCT stage FROM {positions} ORDER BY 1"))]
    ):
        _every(evidence, "positions", "agent_id", connected, steps, f"(FROM {positions} WHERE stage = '{stage}')")
    _planned(evidence, steps)
    _every(evidence, "bus_voltages", "bus_id", f"(SELECT bus_id FROM {evidence.table('buses')})", steps)
    _every(evidence, "branch_flows", "branch_id", f"(SELECT branch_id FROM {evidence.table('branches')})", steps)
    envelopes = f"(SELECT DISTINCT time, agent_id FROM {evidence.table('envelopes')})"
    _every(evidence, "envelopes", "agent_id", f"(SELECT DISTINCT agent_id FROM {envelopes})", steps, envelopes)
    evidence.uphold(
        [
            Law(
                "an issue of envelopes is for all whom envelopes hold",
                f"(SELECT issued_at, time, count(*) AS found FROM {evidence.table('envelopes')} GROUP BY ALL)",
                ("issued_at", "time"),
                "found",
                f"(SELECT count(DISTINCT agent_id) FROM {evidence.table('envelopes')})",
                0.0,
            )
        ]
    )
    _every(evidence, "storage", "ess_id", f"(SELECT ess_id FROM {evidence.table('ess')})", steps)


def _planned(evidence: Evidence, steps: int) -> None:
    """Check that every home was forecast for every interval in each stage, and that every series has all its values."""
    homes = f"(SELECT DISTINCT agent_id FROM {evidence.table('meters')} WHERE agent_id NOT IN (SELECT ess_id FROM {evidence.table('ess')}))"
    again = evidence.scenario["market"]["replanning"] != "off"
    for stage in ("day_ahead", "last") if again else ("day_ahead",):
        rows = f"(FROM {evidence.table('forecasts')} WHERE stage = '{stage}')"
        _every(evidence, "forecasts", "agent_id", homes, steps, rows, f" in stage {stage}")
    if not again and evidence.one(f"SELECT count(*) FROM {evidence.table('forecasts')} WHERE stage = 'last'"):
        raise Wrong("table forecasts has rows of stage last, and the scenario does not plan again")
    told = ", ".join(f"({text(str(name))})" for name in evidence.scenario["series"])
    series = (
        f"(SELECT series_id FROM (VALUES {told}) AS named(series_id))"
        if told
        else "(SELECT '' AS series_id WHERE false)"
    )
    _every(evidence, "series", "series_id", series, steps)
    evidence.none_of(
        "table series: a series has two units",
        f"SELECT series_id FROM {evidence.table('series')} GROUP BY ALL HAVING count(DISTINCT unit) > 1",
        ("series_id",),
    )


def _every(
    evidence: Evidence, table: str, key: str, wanted: str, steps: int, source: str = "", where: str = ""
) -> None:
    """Check that each of the wanted ids has a row in each interval, and that there is no other."""
    rows = source or evidence.table(table)
    meters = evidence.table("meters")
    evidence.uphold(
        [
            Law(
                f"table {table} has a row for every {key} and interval{where}",
                f"(SELECT {key}, count(DISTINCT time) AS found FROM "
                f"(SELECT {key}, CAST(NULL AS TIMESTAMPTZ) AS time FROM {wanted} UNION ALL SELECT {key}, time FROM {rows}) GROUP BY {key})",
                (key,),
                "found",
                str(steps),
                0.0,
            )
        ]
    )
    evidence.none_of(
        f"table {table} has a row of an unknown {key}, or of an interval beyond the run",
        f"SELECT time, {key} FROM {rows} WHERE {key} NOT IN (FROM {wanted}) OR time NOT IN (SELECT time FROM {meters})",
        ("time", key),
    )
