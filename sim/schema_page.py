"""``docs/results.md``, printed from :mod:`sim.schema` so that the two cannot drift apart.

``python -m sim.schema_page > docs/results.md``; ``tests/test_results.py`` fails where the file is not what this prints.
"""

from __future__ import annotations

from sim.schema import TABLES, Column

__all__ = ["markdown"]

_HEAD = """\
# The run folder

A run is a folder that anyone can read without this program: Parquet tables, a manifest, the scenario, a log, a report.
Every column below stands in the file with its `unit`, `sign` and `description` in the Parquet field metadata.
Columns may be added in later versions; none is renamed or dropped.

    RUN/manifest.json      content id, versions, seed, interval length, time zone, currency, wall time, outcome, sums, paths
    RUN/scenario.yaml      the resolved scenario (nothing implied), tariffs and rules included
    RUN/log.jsonl          what happened, one event a line, with wall times
    RUN/report.html        the report
    RUN/tables/            this run, one Parquet file a table
    RUN/reference/         the same people, data and envelopes (without lifting), no sharing, no shared ESS, retail tariff
    RUN/ex_post/           the same meters as this run, settled only by the plain sharing rule: ledger, bills, kpis
    RUN/unmanaged/         the reference people without envelopes: meters, bus_voltages, branch_flows, violations

Powers are means over the interval. `time` is the start of the interval, in UTC. Ids are strings. At a meter, import is
positive and export negative. `eur` in a name stands for the currency of the run, which the manifest names.
NaN is never a zero in disguise: it stands where a figure does not exist, and only in the columns marked "may be NaN".
A table without rows exists with its columns. Nothing in the tables depends on the clock of the machine: equal runs are
equal bytes.

## Reading it

    commonwatt query RUN "SELECT agent_id, sum(amount_eur) AS bill_eur FROM bills GROUP BY agent_id ORDER BY bill_eur"

    from sim.results import Run
    run = Run("RUN")
    run.kpis()                                                     # a pandas table
    run.query("SELECT max(v_pu) FROM bus_voltages")                # a pyarrow table
    run.query("SELECT max(v_pu) FROM reference_bus_voltages")      # the reference run, beside it

Tables of `tables/` go by their plain names, those of the other folders as `reference_…`, `ex_post_…`, `unmanaged_…`.
Any other tool that reads Parquet does as well. `commonwatt certify RUN` checks the books, the states and the power flow
from these tables alone; docs/kpis.md defines the key figures.

## Tables
"""


_TAIL = """\
## What anyone can confirm

`commonwatt certify RUN` reads these tables and the scenario, nothing else, and shares no computing code with the simulation.
Every check names the first row that is wrong: table, keys, value, what was expected. A table, column or row that is missing, or
a NaN where a figure is promised, fails.

| check | what it confirms | how closely |
|---|---|---|
| files | every table is the file that the manifest names, by its hash | exactly |
| manifest | outcome, seed, sums, breaches, rows and what else it says of the run follows from tables and scenario; the content id is 64 hexadecimal digits | exactly |
| form | all tables, columns and rows are there, once, from the scenario's start to its end, forecasts of every home and stage and values of every series among them; every promised figure is a number, and not below zero where it is never negative | exactly; 1e-6 below zero |
| scenario | homes that the scenario lists have its devices, the shared ESS is the one it describes, envelopes hold whoever has a device, by its mode and rule; lines, transformers and buses have the figures of their kind, and voltage limits apply below the transformer | exactly |
| meters | meter = load + charge − discharge − pv; pv + curtailed = available; load = base load + cars + heat pump | 1e-6 kW |
| storage | batteries and the shared ESS follow their state equations within their ratings; holders sum to the box; netting never loses; tenants keep to their rights | 1e-6 kW, 1e-6 kWh |
| positions | grid_buy − grid_sell − exchange + rented_discharge − rented_charge = meter; exchange and rented flows sum to zero; nobody buys and sells at once; rented flows are those of `storage_ledger`; bilateral trades sum to the exchange | 1e-6 kWh |
| envelopes | every meter was inside the envelope in force, or the breach stands in `violations` with what the meter showed | 1e-6 kW |
| enforcement | a row stands for every meter that was held, by the scenario's rule, at a limit no wider than the envelope in force (or the scenario's default), with what was given up | 1e-6 kW |
| power flow | power-grid-model, fed with `meters`, `buses` and `branches`, finds the same voltages, flows, currents, loadings and losses; source = meters + losses; every voltage and loading beyond the limits stands in `violations`, and nothing else does | 1e-6 pu, 1e-3 kW |
| clearings | one is held at every gate and before every hour of re-planning, in time, and forecasts are of that moment; gap = (cost − bound) / max(1, size of the cost) and bound <= cost; `iterations` ends as `clearings` says; converged means residuals, or where ties are left the gap, within the tolerance, not converged means iterations used up; what the shared storage's operator holds at the end beyond its wish follows from its plan, at the gate and at the last clearing of a day | 1e-9, relative; 1e-6 kWh an interval |
| ledger | every account is an actor of `agents`; every transaction sums to zero in money and energy; the chain of hashes holds; `bills` are the sums of `ledger` | exactly |
| bills | every posting and every bill follows from meters, positions, rights, series, prices and the tariff; settled positions follow from the sharing rule | one micro-euro, one milli-watt-hour |
| key figures | the twenty headline figures, and those beside them, computed again in SQL | 1e-9, relative |

The checks are made for `tables/`, for `reference/` (all), for `ex_post/` (form, ledger, bills, key figures) and for `unmanaged/`
(form, meters, power flow); files and manifest are of the whole run.

The tolerance of a clearing is `market.tolerance` of the scenario, of a clearing day ahead a tenth of it: what is sold there is paid at
its prices, and prices converge later than costs.

### What nobody can tell from the tables

Some cells follow from nothing else in the run; the hash in the manifest is all that holds them:

- an import or export limit that no meter came near, and which element was the one that limits it (only that it is one of the feeder);
- what was forecast: only that it was, for whom and when;
- that `bound_eur` is a bound, and `max_agent_kkt`: they follow from prices inside the clearing that no table holds; residuals and
  penalties of iterations before the last, beyond that a clearing goes on only while a residual is too large;
- `end_missed_kwh` of a clearing between the gate and the last hour of its day, whose plan no table keeps;
- devices, profiles and aggregators of homes that come from a grid's data set, from a table or by rules, beyond that a device which ran
  exists; batteries are held to the states that they went through;
- coordinates, lengths, zero-sequence figures, and capacitances too small to move a voltage by 1e-6 pu;
- `cause` and `shifted_kw`; `right_id` and `firm` of a right;
- versions, wall times and messages in the manifest, and what the content id is the hash of.

### The hash of a posting

    hash = sha256(previous_hash + json)         lower-case hexadecimal; previous_hash of the first posting is empty

`json` is the posting as JSON in UTF-8 with sorted keys and no spaces, characters beyond ASCII as they are: `account`,
`amount_micro_eur`, `energy_milliwatt_hour`, `kind`, `posting_id`, `rule`, `time` (2016-07-18T10:00:00Z) and `transaction_id`. The two
amounts are numbers, everything else is text.
"""


def _row(column: Column) -> str:
    """Return one line of a table of columns."""
    note = {
        "finite": "",
        "nan": " (may be NaN)" if column.kind == "float64" else " (may be null)",
        "inf": " (may be infinite)",
    }
    return f"| `{column.name}` | {column.kind} | {column.unit} | {column.sign} | {column.description}{note[column.numbers]} |"


def markdown() -> str:
    """Return ``docs/results.md``: the run folder for the people who read it."""
    parts = [_HEAD]
    for table in TABLES.values():
        parts.append(f"### `{table.name}`: a row is {table.row}\n")
        if table.key:
            parts.append(f"Unique by {', '.join(f'`{name}`' for name in table.key)}.\n")
        parts.append("| column | type | unit | sign | meaning |\n|---|---|---|---|---|")
        parts.extend(_row(column) for column in table.columns)
        parts.append("")
    return "\n".join([*parts, _TAIL])


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
