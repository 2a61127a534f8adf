"""Say in a sentence, with its place, what pydantic found wrong with a scenario."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Iterator, Sequence
from types import UnionType
from typing import Any

from pydantic import BaseModel, ValidationError

from sim.scenario_base import CONTRADICTION
from sim.scenario_file import Loc, Source

__all__ = ["in_order", "nearest", "shown", "told", "with_units"]

SENTENCES = {
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a text; put it in quotes",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping of keys and values",
    "model_type": "must be a section with keys and values",
    "model_attributes_type": "must be a section with keys and values",
}

MOST_NAMES = 12
"""Names that a message lists."""

UNITS = (
    ("_eur_per_kwh_day", "currency per kWh and day"),
    ("_eur_per_kw_day", "currency per kW and day"),
    ("_eur_per_kwh", "currency per kWh"),
    ("_eur_per_day", "currency per day"),
    ("_kg_per_kwh", "kg CO2 per kWh"),
    ("kw_per_kw_peak", "kW per kW of peak power"),
    ("kw_peak", "kW"),
    ("kwh", "kWh"),
    ("kw", "kW"),
    ("kvar", "kvar"),
    ("_percent", "%"),
    ("_pu", "p.u."),
    ("_minutes", "min"),
    ("_hours", "h"),
    ("_hour", "hour of the day"),
    ("hours", "h"),
    ("_deg", "°"),
    ("_m", "m"),
    ("_per_h", "1/h"),
)

HINTS = (
    (("_per_kwh", "_per_kwh_day", "_per_kw_day"), "Prices are in currency per kWh, not in cents or per MWh."),
    (("kw", "kw_peak", "kvar"), "Powers are in kW, not in W."),
    (("kwh",), "Energies are in kWh, not in Wh."),
    (
        ("efficiency", "_charge", "_discharge", "share", "_common", "_persistence", "_std", "_bias"),
        "It is a fraction of 1, not a percentage.",
    ),
    (("_pu",), "1 is the nominal voltage."),
    (("_percent",), "100 is the whole."),
)


def unit(key: str) -> str:
    """Return the unit that a key's name states; empty where there is none.

    >>> unit("charge_kw"), unit("rent_energy_eur_per_kwh_day"), unit("seed")
    ('kW', 'currency per kWh and day', '')
    """
    return next((text for suffix, text in UNITS if key == suffix.lstrip("_") or key.endswith(suffix)), "")


def told(error: ValidationError, model: type[BaseModel], source: Source, *, with_keys: bool = True) -> list[str]:
    """Return one sentence per mistake, ``file:line:column: key: what is wrong``, in the order of the file.

    Without keys, the place alone says which value is meant.
    """
    found: list[str] = []
    for item in error.errors(include_url=False):
        if item["type"] == "default_factory_not_called":
            continue  # what it would be made of is a mistake of its own
        loc = _in_the_data(item["loc"], source.data, keep_last=item["type"] == "missing")
        if item["type"] == CONTRADICTION:
            found += [
                placed(source, (*loc, *inner), sentence, with_keys=with_keys)
                for inner, sentence in item["ctx"]["found"]
            ]
            continue
        unknown = item["type"] == "extra_forbidden"
        name = source.document.name
        sentence = (
            _unknown_key(loc, model, name) if unknown else _sentence(item, loc, _dotted(loc) if with_keys else "", name)
        )
        found.append(f"{source.place(loc, key=unknown)}: {sentence}")
    return in_order(found)


def placed(source: Source, loc: Loc, sentence: str, *, with_keys: bool = True) -> str:
    """Return a mistake as it is told: its place, its keys, and the sentence with its end."""
    end = "" if sentence.endswith((".", "?")) else "."
    return f"{source.place(loc)}: {_dotted(loc) if with_keys else ''}{sentence}{end}"


def in_order(mistakes: Iterable[str]) -> list[str]:
    """Return mistakes in the order of the file, each once; those of the command line come last."""
    return sorted(dict.fromkeys(mistakes), key=_line_and_column)


def _line_and_column(mistake: str) -> tuple[int, int]:
    parts = mistake.split(": ", 1)[0].rsplit(":", 2)
    return (
        (int(parts[1]), int(parts[2]))
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit()
        else (1 << 30, 0)
    )


def _in_the_data(loc: Loc, data: Any, *, keep_last: bool) -> Loc:
    """Leave out the parts of a place that are no keys of the data: names of alternatives, and "[key]".

    A key that is missing is kept.
    """
    out: list[str | int] = []
    here = data
    for i, part in enumerate(loc):
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if inside:
            here = here[part]
            out.append(part)
        elif keep_last and i == len(loc) - 1:
            out.append(part)
    return tuple(out)


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc)) + ": " if loc else ""


def _sentence(item: Any, loc: Loc, name: str, document: str) -> str:
    kind, ctx, given = item["type"], item.get("ctx", {}), item["input"]
    key = next((str(part) for part in reversed(loc) if isinstance(part, str)), "")
    if kind == "missing":
        owner = ".".join(map(str, loc[:-1])) or f"the {document}"
        last = f'"{loc[-1]}"' if loc and isinstance(loc[-1], str) else "one more value"
        return f"{owner}: needs {last}."
    if kind in {"unquoted", "not_quoted", "not_a_time"}:
        return f"{name}{item['msg']}."
    if kind in {"greater_than", "greater_than_equal", "less_than", "less_than_equal"}:
        bound, than = (
            next(iter(ctx.values())),
            {
                "greater_than": "above",
                "greater_than_equal": "at least",
                "less_than": "below",
                "less_than_equal": "at most",
            }[kind],
        )
        hint = next((f" {text}" for ends, text in HINTS if key.endswith(ends)), "")
        number = f"{given:g}" if abs(given) < 1e300 else shown(given)  # a whole number may be longer than any float
        return f"{name}must be {than} {bound:g}; given {number}.{hint if 'less' in kind or key.endswith(('_pu', '_percent')) else ''}"
    if kind == "literal_error":
        return f"{name}must be {ctx['expected']}; given {shown(given)}.{_near(given, ctx['expected'])}"
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        tag = str(ctx["discriminator"]).rsplit("|", 1)[-1].strip(" '")
        if kind == "union_tag_not_found":
            return (
                f'{name}needs "{tag}".'
                if isinstance(given, dict)
                else f"{name}must be a section with keys and values; given {shown(given)}."
            )
        return f"{name}{tag} must be {ctx['expected_tags']}; given {ctx['tag']!r}.{_near(ctx['tag'], ctx['expected_tags'])}"
    if kind in {"model_type", "model_attributes_type"} and key.endswith("_eur_per_kwh"):
        return f'{name}must be a number, or a section with "series" or "periods"; given {shown(given)}.'
    if kind == "tuple_type" and key in {"kw_peak", "kw", "kwh"}:
        return f"{name}must be a number or [lowest, highest]; given {shown(given)}."
    if kind == "too_long":
        if loc[:1] == ("storage",):
            return f"{name}there can be one shared storage or none; {ctx['actual_length']} are given. Keep one, or add their sizes up."
        return f"{name}must have at most {ctx['max_length']} entries; {ctx['actual_length']} are given."
    if kind == "too_short":
        return f"{name}must have at least {ctx['min_length']} entry; {ctx['actual_length']} are given."
    if kind == "string_pattern_mismatch" and key == "currency":
        return f'{name}must be three small letters such as "eur"; given {shown(given)}.'
    if kind in {"string_pattern_mismatch", "string_too_short", "string_too_long"}:
        return f"{name}must be a name of 1 to 120 characters, without space at its ends; given {shown(given)}."
    if (
        kind == "float_type"
        and isinstance(given, str)
        and given.replace(",", ".", 1).replace(".", "", 1).strip("-+").isdigit()
    ):
        return f"{name}must be a number, without quotes and with a decimal point; given {shown(given)}."
    return f"{name}{SENTENCES.get(kind, str(item['msg']))}; given {shown(given)}."


def nearest(name: str, known: Sequence[str]) -> str:
    """Return what to say of a name that is not known: the nearest one, or those there are.

    >>> nearest("ana", ["anna", "bert"]), nearest("x", ["anna", "bert"]), nearest("x", [])
    ('did you mean "anna"?', 'known are anna, bert.', 'known are none.')
    """
    near = difflib.get_close_matches(name, known, 1, 0.5)
    more = ", ..." if len(known) > MOST_NAMES else ""
    return f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known[:MOST_NAMES]) or 'none'}{more}."


def shown(value: Any) -> str:
    """Return a value as a message shows it."""
    text = "nothing" if value is None else repr(str(value) if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _near(given: Any, expected: str) -> str:
    known = [part.strip().strip("'") for part in expected.replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(str(given), known, 1, 0.6)
    return f' Did you mean "{near[0]}"?' if near else ""


def _unknown_key(loc: Loc, model: type[BaseModel], document: str) -> str:
    known = _keys_at(model, loc[:-1])
    given = str(loc[-1])
    whole = [key for key in known if key.startswith(f"{given}_")]  # the unit was left out
    near = whole if len(whole) == 1 else difflib.get_close_matches(given, known, 1, 0.6)
    owner = ".".join(map(str, loc[:-1])) or f"a {document}"
    hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}."
    return f'"{loc[-1]}" is not a key of {owner}; {hint}'


def _keys_at(model: type[BaseModel], loc: Loc) -> list[str]:
    """Return the keys that are known at a place, of all alternatives."""
    types: list[Any] = [model]
    for part in loc:
        types = [inner for one in types for inner in _inside(one, part)]
    names = [field.alias or name for one in types for name, field in one.model_fields.items()]
    return list(dict.fromkeys(names))


def _inside(model: Any, part: str | int) -> Iterator[Any]:
    for name, field in model.model_fields.items():
        if (field.alias or name) == part:
            yield from _models(field.annotation)
            return
    yield model  # a position in a list or an id in a mapping: the models were found one step before


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that an annotation allows, through lists, mappings and alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif typing.get_origin(annotation) is not None or isinstance(annotation, UnionType):
        for argument in typing.get_args(annotation):
            yield from _models(argument)


def with_units(schema: Any) -> Any:
    """Return a JSON Schema in which every property whose name states a unit says it as ``unit``."""
    if isinstance(schema, list):
        return [with_units(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {}
    for name, value in schema.items():
        if name == "properties" and isinstance(value, dict):
            out[name] = {
                key: ({**with_units(one), "unit": unit(key)} if unit(key) else with_units(one))
                for key, one in value.items()
            }
        else:
            out[name] = with_units(value)
    return out
