"""``docs/case.md``, printed from the models of a case and of its result so that they cannot drift apart.

``python -m sim.case_page > docs/case.md``; ``tests/test_case.py`` fails where the file is not what this prints.
"""

from __future__ import annotations

from sim.case import KINDS
from sim.clear import MECHANISMS
from sim.clear_result import json_schema as result_schema
from sim.scenario_mistakes import with_units
from sim.scenario_page import tables

__all__ = ["markdown"]

_HEAD = """\
# A market's case

A case is one market in one YAML file, without feeder and without simulation. `commonwatt market clear CASE.yaml` clears it and shows prices, positions,
rents, payments and a certificate; the [tutorial](tutorials/market-of-your-own.md) goes through it, and `examples/market` holds cases to start from.
`commonwatt schema --case` prints the JSON Schema of cases, `commonwatt schema --result` that of what `--json` prints.

- `kind: prosumers` are homes over a horizon: load, solar, stores of their own, envelopes, a retailer's prices, and shared storages in which they rent.
- `kind: curves` are agents whose cost is `Δ (a/2 p² + b p)` for a power p between two bounds, production positive; with `trades`, who may trade with whom.
- An unknown key is a mistake, never ignored. All mistakes are told at once, as `file:line:column: what is wrong`; exit code 2.
- `--set storage.0.energy_kwh=20` (or by id, `--set storage.ess.energy_kwh=20`) changes a value without touching the file. Values are YAML.
- `eur` in a key stands for the case's `currency`.
- `commonwatt market clear` ends with 1 where the market did not converge or the verification disagrees, and with 3 where somebody needs what cannot be had: a car
  that cannot be full in time, a pool that cannot balance, an agent whom no partner is there for. Who that is stands on standard error and in `infeasible`; all others
  are cleared, and the result is printed and kept all the same, with the status `infeasible`. With `infeasible: relax` a home's need is lowered without that, and the
  command ends with 0.

## Figures over time

Where a key takes a list of numbers, it takes three things:

```yaml
load_kw: 0.4                                             # the same in every interval
load_kw: [0.4, 0.3, 0.9]                                 # one number per interval
load_kw: {{file: street.csv, column: ahorn_load_kw}}       # a column of a CSV file beside the case; "factor" multiplies it
```

There are as many intervals as the lists and files have values, unless `intervals` says so; whoever has more or less is told. A CSV file has a line of names
and one line per interval, parted by commas or semicolons.

## Demand that is elastic

A curve's `a` and `b` are its elasticity. A home has `flexible` demand beside its load: between two powers, with an energy that it needs by some hour, of the whole
case or of every day, and a worth of every kWh. Several entries are the steps of a worth that falls:

```yaml
flexible:
  - {{power_kw: 2, needed_kwh: 3, needed_by_hours: 8}}    # 3 kWh within eight hours, whenever they are cheapest
  - {{power_kw: 1, utility_eur_per_kwh: 0.30}}            # a first kW wherever a kWh costs less than 0.30,
  - {{power_kw: 1, utility_eur_per_kwh: 0.20}}            # a second one where it costs less than 0.20
```

A worth that falls smoothly or depends on the time is not there.

## Mechanisms and divisions

{mechanisms}
All but `exchange`, `pool` and `bilateral` take what everybody would do alone as given and trade what that leaves; for curves they need `retail` prices where they
share by them. Only `bilateral` looks at `trades`. `--verify central` and `--divide` go with these three.

| `--divide` | what each gains |
|---|---|
| `dual_prices` | what is left after paying for energy and for space at the prices of the clearing |
| `nash` | the same for everybody |
| `shapley` | the mean, over all orders of joining, of what it adds |
| `nucleolus` | so that the largest objection of a coalition is least, then the second largest, and so on |
| `least_core` | so that the largest objection is least, and gains are as equal as that allows |
| `proportional` | in proportion to what would be missed without it |

Agents and operators are the players. A coalition has the market of its members, whatever the others do: the exchange and the storages that they own, a pool of their
own, or the pairs whose two ends are among them; where curves are better off alone, with the retailer if there is one, that is what it has. To 12 players every
coalition's market is cleared, 4 095 of them at most; above, some are drawn by the seed, and the result says so.

What they compute stands in the mathematics: [the exchange](mathematics/exchange.md){pages}.

"""

_WORDS = {
    "exchange": "one price per interval, trades and rights to the shared storages found together at the least cost of all",
    "bilateral": "every pair that may trade makes its own price, at the least cost of all, charges included",
    "retailer": "nobody trades: the reference",
    "mid_market_rate": "what is left over is shared in proportion, half way between retail and feed-in",
    "supply_demand_ratio": "the same, at a price that falls with supply",
    "bill_sharing": "the same, free of charge; the community's bill is divided",
    "double_auction_uniform": "one price per interval, the k-double auction (`options`: k, ties, steps)",
    "double_auction_pay_as_bid": "the same trades, everybody at the price that it named (ties, steps)",
    "mcafee": "truthful in prices and never in deficit, for the price of the last trade (steps)",
    "vcg": "truthful, nobody loses, all that can be gained is; the yardstick, with its deficit (ties, steps)",
    "order_book": "orders arrive one after the other, by the seed, and trade at once (steps)",
    "sharing_game": "everybody bids a demand function and knows that it moves the price (price_sensitivity_kw2h_per_eur)",
    "pool": "one price per interval, exactly where demand meets supply",
}

_PAGES = ", [pairs](mathematics/bilateral.md), [other mechanisms](mathematics/mechanisms.md), [who gets what](mathematics/bargaining.md)"

_RESULT = """\
## The result

What `--json` prints, and `--out FILE` writes. Keys are added to, never renamed or dropped; `null` is a figure that does not exist. Powers are means over an
interval.
"""


def markdown() -> str:
    """Return ``docs/case.md``: every key of a case and of its result."""
    done: set[str] = set()
    parts = [_HEAD.format(mechanisms=_choices(), pages=_PAGES)]
    for kind, model in KINDS.items():
        parts.append(f"## `kind: {kind}`\n")
        parts += tables(with_units(model.model_json_schema()), done)
    parts.append(_RESULT)
    parts += tables(result_schema(), done)
    return "\n".join(parts)


def _choices() -> str:
    lines = ["| `--mechanism` | for | what it does |", "|---|---|---|"]
    names = dict.fromkeys(name for known in MECHANISMS.values() for name in known)
    for name in names:
        kinds = ", ".join(kind for kind, known in MECHANISMS.items() if name in known)
        lines.append(f"| `{name}` | {kinds} | {_WORDS[name]} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
