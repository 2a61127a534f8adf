"""``docs/network-case.md``, printed from the models of a network case so that the two cannot drift apart.

``python -m sim.network_case_page > docs/network-case.md``; ``tests/test_network_case.py`` fails where the file is not what this prints.
"""

from __future__ import annotations

from sim.network_case import json_schema
from sim.network_case_tables import CUSTOMERS
from sim.scenario_page import tables

__all__ = ["markdown"]

_HEAD = """\
# A network case

A network case is a feeder, its customers and some operating points in one YAML file, without market and without simulation. The commands of
`commonwatt network` take it. A feeder that is no YAML file but a source (`ieee33`, `european_lv`, `simbench:…`, `pandapower:…`, a folder, a
file: [feeders](feeders.md)) is a case with all defaults. `commonwatt schema --network` prints the JSON Schema.

```yaml
grid: {{source: european_lv, v_max_pu: 1.08}}
customers:
  export_cap_kw: 10
  import_cap_kw: 14
  passive: [LOAD2, LOAD7]                                    # stay at their base load
  each:
    - {{id: LOAD1, export_cap_kw: 5, connection_order: 1}}     # differs from the others
    - {{id: store, bus: "34", import_cap_kw: 50, base_kw: 0}}  # one more
base_load: {{from: nameplate, factor: 0.5}}
```

- `grid`, `time` and `profiles` are the sections of a [scenario](scenario.md), which may be pasted.
- Units stand in the names; times stand in quotes; files are looked for beside the case.
- An unknown key is a mistake, never ignored. All mistakes are told at once, as `file:line:column: what is wrong`; exit code 2.
- `--set grid.v_max_pu=1.05` (or `--set customers.each.store.import_cap_kw=20`) changes a value without touching the file. Values are YAML.
- `envelopes.method` is there to compare with: `linear` is not corrected by AC power flow, and `cone` is refused for exports ([methods](mathematics/envelopes.md#which-method)). What a
  method cannot do is refused when the case is read; `commonwatt network envelopes` ends with 3 where no interval has an envelope.
- `commonwatt network flow` ends with 1 where a limit is broken, where an operating point does not converge, and where `--referee` disagrees.

## Customers from a table

`customers.file` names a CSV file with one customer a line: {columns}. An empty cell is a key that is not given. Base loads over time stand in
a table too: `base_load: {{from: table, file: loads.csv}}`, one column of kW for every customer (named by its id), one line per interval.

## All keys
"""


def markdown() -> str:
    """Return ``docs/network-case.md``: every key with its default, its bounds and its meaning."""
    columns = ", ".join(f"`{column.name}`" for column in CUSTOMERS)
    return "\n".join([_HEAD.format(columns=columns), *tables(json_schema())])


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
