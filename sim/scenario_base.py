"""What every part of a scenario has in common: strict numbers, quoted times, and mistakes that are told together.

Units stand in the names of the keys (``_kw``, ``_kwh``, ``_eur_per_kwh``, ``_percent``, ``_pu``); the bounds here are those of
physics or of plausibility, so that a figure in watts or in per cent is noticed before it is calculated with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, time
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from sim.scenario_file import Loc, Unquoted

__all__ = [
    "FIRST_YEAR",
    "LAST_YEAR",
    "Capacity",
    "CapacityKwh",
    "Clock",
    "ClockEnd",
    "Count",
    "Efficiency",
    "FeederKw",
    "FeederKwh",
    "FileName",
    "Id",
    "LocalDate",
    "LocalTime",
    "Money",
    "Number",
    "Percent",
    "Price",
    "Range",
    "Share",
    "Spec",
    "Switch",
    "clock",
    "local_time",
]

CONTRADICTION = "contradiction"
FIRST_YEAR, LAST_YEAR = 1970, 2200
"""Of all dates: before, time zones were those of single towns, and far later ones are slips of the keyboard."""


class Spec(BaseModel):
    """A part of a scenario: frozen, without unknown keys, documented by the sentences under its fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
        populate_by_name=True,
    )

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Yield what does not go together, each with its place in this part; the parts overwrite it."""
        yield from ()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        found = list(self.mistakes())
        if found:
            text = "; ".join(f"{'.'.join(map(str, loc))}: {sentence}" for loc, sentence in found)
            raise PydanticCustomError(CONTRADICTION, "{text}", {"text": text, "found": found})
        return self


def _quoted(pattern: str, what: str, example: str) -> Callable[[Any], Any]:
    """Return a check that a value is a text that stood in quotes."""

    def check(value: Any) -> Any:
        if isinstance(value, Unquoted):
            raise PydanticCustomError(
                "unquoted",
                'is not in quotes: write "{value}", for some YAML readers turn such a value into a number',
                {"value": str(value)},
            )
        if not isinstance(value, str):
            raise PydanticCustomError(
                "not_quoted",
                "must be {what} in quotes, such as {example}; given {value}, which is not a text",
                {"what": what, "example": example, "value": repr(value)},
            )
        if not re.fullmatch(pattern, value):
            raise PydanticCustomError(
                "not_a_time",
                "must be {what} such as {example}; given {value}",
                {"what": what, "example": example, "value": repr(value)},
            )
        return value

    return check


def _check_local(value: Any) -> Any:
    text = _quoted(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:00)?)?", "a local date and time", '"2016-07-18T12:00"')(value)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise PydanticCustomError(
            "not_a_time", "is not in the calendar: {error}; given {value}", {"error": str(error), "value": repr(text)}
        ) from None
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise PydanticCustomError(
            "not_a_time",
            "must lie between {first} and {last}; given {value}",
            {"first": FIRST_YEAR, "last": LAST_YEAR, "value": repr(text)},
        )
    return moment.isoformat(timespec="minutes")


def _check_date(value: Any) -> Any:
    return _check_local(_quoted(r"\d{4}-\d\d-\d\d", "a date", '"2016-07-18"')(value))[:10]


def _range(value: Any) -> Any:
    """A single number is a range without width."""
    return (value, value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def clock(text: str) -> time:
    """Return a clock time as Python's own type.

    >>> clock("22:15")
    datetime.time(22, 15)
    """
    return time.fromisoformat(text)


def local_time(text: str) -> datetime:
    """Return a local time as Python's own type, without a zone."""
    return datetime.fromisoformat(text)


_HHMM = r"([01]\d|2[0-3]):[0-5]\d"

Clock = Annotated[str, Field(pattern=f"^{_HHMM}$"), BeforeValidator(_quoted(_HHMM, "a clock time", '"22:00"'))]
"""A local clock time in quotes."""
ClockEnd = Annotated[
    str, Field(pattern=f"^({_HHMM}|24:00)$"), BeforeValidator(_quoted(_HHMM + "|24:00", "a clock time", '"22:00"'))
]
"""The end of a period; the day may end at "24:00"."""
LocalTime = Annotated[
    str,
    BeforeValidator(_check_local),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d(T\d\d:[0-5]\d(:00)?)?$"}),
]
"""A local date and time in quotes."""
LocalDate = Annotated[
    str, BeforeValidator(_check_date), WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d$"})
]
"""A local date in quotes."""

Number = Annotated[float, Field(strict=True)]
Capacity = Annotated[float, Field(strict=True, ge=0, le=1000)]
"""Power of a thing in a home. [kW]"""
CapacityKwh = Annotated[float, Field(strict=True, ge=0, le=10_000)]
"""Energy of a thing in a home. [kWh]"""
FeederKw = Annotated[float, Field(strict=True, ge=0, le=100_000)]
"""Power of a thing that serves a feeder. [kW]"""
FeederKwh = Annotated[float, Field(strict=True, ge=0, le=1_000_000)]
"""Energy of a thing that serves a feeder. [kWh]"""
Efficiency = Annotated[float, Field(strict=True, gt=0, le=1)]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]
Percent = Annotated[float, Field(strict=True, ge=0, le=100)]
Price = Annotated[float, Field(strict=True)]
"""May be negative. [currency per kWh]"""
Money = Annotated[float, Field(strict=True, ge=0)]
"""A price or fee that is never negative."""
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Switch = bool
Id = Annotated[
    str, Field(min_length=1, max_length=120, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$")
]
"""A name without control characters or space at its ends."""
FileName = Annotated[str, Field(min_length=1)]
"""A file, relative to the folder of the scenario."""
Range = Annotated[tuple[Number, Number], BeforeValidator(_range, json_schema_input_type=float | tuple[float, float])]
"""Lowest and highest value of a seeded uniform draw; one number stands for both."""
