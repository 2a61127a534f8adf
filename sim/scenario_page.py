"""``docs/scenario.md``, printed from the models of a scenario so that the two cannot drift apart.

``python -m sim.scenario_page > docs/scenario.md``; ``tests/test_scenario.py`` fails where the file is not what this prints.
"""

from __future__ import annotations

from typing import Any

from sim.people_table import columns
from sim.scenario import json_schema, template

__all__ = ["markdown", "tables"]

_HEAD = """\
# The scenario

A scenario is one YAML file: a feeder, its people, a market, and how long to look at them. Every key has a default, so a few lines are a
scenario; `commonwatt init` writes one to start from, `commonwatt check` verifies it with its grid and people, and the run folder keeps it
written out with nothing implied. `commonwatt schema` prints the JSON Schema, with which an editor completes keys and marks mistakes.

- Units stand in the names: `_kw`, `_kwh`, `_eur_per_kwh`, `_percent`, `_pu` (per unit: 1 is nominal). `eur` stands for the `currency`.
- **Times stand in quotes**: `gate: "11:00"`. Some YAML readers turn `11:00` into 660, so without quotes it is refused.
- Files are looked for beside the scenario.
- An unknown key is a mistake, never ignored. All mistakes are told at once, as `file:line:column: what is wrong`.
- `--set storage.0.energy_kwh=300` (or by id, `--set storage.ess.energy_kwh=300`) changes a value without touching the file. Values are YAML.

## A scenario to start from

```yaml
{template}```

The demo is a scenario too: `sim/scenarios/demo.yaml`. More stand in `examples/`.

## How people come about

`people.from` says where the homes come from: `grid` (the connections of the data set, with their loads and devices), `list` (the homes under
`homes`) or `table` (a CSV or Parquet file, one home a row). Then every rule gives something to homes that have none of the kind:

```yaml
rules:
  - {{give: solar, share: 0.6, kw_peak: [6, 11]}}                # when it is done, 60 % of all homes have solar
  - {{give: battery, count: 10, kwh: [5, 10], among: solar}}     # ten of those with solar get a battery
  - {{give: ev, homes: [Amsel, Buche], kw: 11}}                  # these two get a car
```

Draws are uniform and follow the scenario's `seed`. A further rule, or a further home at the end, leaves what the others got as it was. Homes
that share a load profile with others live it a little earlier or later (`load_shift_minutes`), or they would all cook at once.

A home with a device (solar, battery, car, heat pump) gets an operating envelope. What it may at most be allowed is

    export cap = max(peak power of the solar, battery discharge + car that feeds back)
    import cap = max(dso.base_import_kw, peak of the own load in the year) + charging point + heat pump

so that nobody can break an envelope by living; homes without a device stay outside, and the grid is computed with their forecast.

### A table of homes

Its columns are the keys of a home with an underscore between the levels; an empty cell is a key that is not given, and a device whose size is
empty or 0 is not there:

{columns}

## What a price may be

Every price of a tariff is a number, a series with an add-on, or periods by the local clock that fill weekday and weekend:

```yaml
energy_eur_per_kwh: 0.16
energy_eur_per_kwh: {{series: spot, add_eur_per_kwh: 0.025}}
energy_eur_per_kwh:
  periods:
    - {{from: "06:00", to: "22:00", price_eur_per_kwh: 0.17}}
    - {{from: "22:00", to: "06:00", price_eur_per_kwh: 0.11}}
```

A scenario whose feed-in price is above its buying price at some moment is refused: everyone would trade with the retailer in circles.

## All keys
"""


def markdown() -> str:
    """Return ``docs/scenario.md``: every key with its default, its bounds and its meaning."""
    names = ", ".join(f"`{name}`" for name in columns())
    return "\n".join([_HEAD.format(template=template(), columns=names), *tables(json_schema())])


def tables(schema: dict[str, Any], done: set[str] | None = None) -> list[str]:
    """Return one table for every section of a JSON Schema: key, value, default, unit, meaning.

    Parameters
    ----------
    schema
        Of the whole, with its sections under ``$defs``.
    done
        Titles of sections that have their table already; those that get one are added.
    """
    parts: list[str] = []
    done = set() if done is None else done
    waiting = [("", schema)]
    while waiting:
        path, one = waiting.pop(0)
        title = one.get("title", "")
        if title in done:
            continue
        done.add(title)
        parts.append(f"### {f'`{path}`' if path else 'At the top'}\n")
        parts.append(" ".join(one.get("description", "").split()) + "\n")
        inside: list[tuple[str, dict[str, Any]]] = []
        parts.append("| key | value | default | unit | meaning |\n|---|---|---|---|---|")
        for key, spec in one["properties"].items():
            default = _default(spec) if key not in one.get("required", ()) else "**needed**"
            meaning = " ".join(spec.get("description", "").split()) or _of_the_section(spec, schema)
            parts.append(
                f"| `{key}` | {_value(spec, schema)} | {default} | {spec.get('unit', '')} | {_cell(meaning)} |"
            )
            at = f"{path}.{key}" if path else key
            inside += [(f"{at}{tail}", inner) for tail, inner in _sections(spec, schema)]
        waiting = inside + waiting
        parts.append("")
    return parts


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _resolved(spec: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in spec:
        found: dict[str, Any] = schema["$defs"][spec["$ref"].rsplit("/", 1)[1]]
        return found
    return spec


def _alternatives(spec: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = [_resolved(one, schema) for one in spec.get("anyOf") or spec.get("oneOf") or [spec]]
    return [one for one in found if one.get("type") != "null"]


def _sections(spec: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the sections that a key may hold, each with what is added to its path."""
    out: list[tuple[str, dict[str, Any]]] = []
    for one in _alternatives(spec, schema):
        if "properties" in one:
            out.append((_which(one), one))
        elif one.get("type") == "array" and "items" in one:
            out += [(f"[]{tail}", inner) for tail, inner in _sections(one["items"], schema)]
        elif (under := _by_id(one)) is not None:
            out += [(f".ID{tail}", inner) for tail, inner in _sections(under, schema)]
    return out


def _which(section: dict[str, Any]) -> str:
    """Return the key that tells one alternative from the others."""
    return "".join(
        f" ({key}: {spec['const']})"
        for key, spec in section["properties"].items()
        if "const" in spec and key in section.get("required", ())
    )


def _of_the_section(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return what the section under a key says of itself: pydantic leaves out of the schema what is said twice."""
    return " ".join(_alternatives(spec, schema)[0].get("description", "").split())


def _by_id(spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return what stands under the ids of a mapping, None where it is no such mapping."""
    found = next(iter(spec.get("patternProperties", {}).values()), None) or spec.get("additionalProperties")
    return found if isinstance(found, dict) else None


def _value(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_one_value(one, schema) for one in _alternatives(spec, schema)))


def _one_value(spec: dict[str, Any], schema: dict[str, Any]) -> str:
    if "const" in spec:
        return f"`{spec['const']}`"
    if "enum" in spec:
        return ", ".join(f"`{one}`" for one in spec["enum"])
    kind = spec.get("type")
    if kind == "array":
        if "prefixItems" in spec:
            return "[lowest, highest]"
        return f"list of {_value(spec['items'], schema)}"
    if kind == "object":
        inner = _by_id(spec)
        return "section" if inner is None else f"{_value(inner, schema)} by id"
    words = {"number": "number", "integer": "whole number", "boolean": "true, false", "string": "text"}
    pattern = spec.get("pattern", "")
    if kind == "string" and (pattern.startswith(r"^\d{4}") or "[0-5]" in pattern):
        return "date in quotes" if "[0-5]" not in pattern else "time in quotes"
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    bounds = ", ".join(f"{sign} {spec[bound]:g}" for bound, sign in signs if bound in spec and abs(spec[bound]) < 1e15)
    return f"{words[str(kind)]} {bounds}".strip()


def _default(spec: dict[str, Any]) -> str:
    default = spec.get("default", "")
    if isinstance(default, dict) or default == "":
        return ""
    if isinstance(default, bool) or default is None:
        return {True: "true", False: "false", None: "null"}[default]
    if isinstance(default, list):
        return f"[{', '.join(f'{one:g}' for one in default)}]" if default else "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
