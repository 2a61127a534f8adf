"""What a case says as far as it can be understood, so that contradictions are told beside mistakes in single values.

Pydantic asks whether the parts of a section go together only where every one of them is right by itself: a name that stands
twice would be told when the last number is mended.  Here every value is read alone.  What cannot be read is unknown: a number
that is NaN, with which no comparison holds, a text or a list that is empty.  :meth:`Spec.mistakes` is then asked as usual.

Limits: what is said about one unknown value is said by pydantic; nothing is said here about keys.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined

from sim.case_series import Frame
from sim.scenario_base import Spec
from sim.scenario_file import Loc

__all__ = ["contradictions"]


def contradictions(model: type[Spec], data: Any, frame: Frame) -> list[tuple[Loc, str]]:
    """Return what does not go together in the data of a case, each with its place.

    Parameters
    ----------
    model
        What the data should be.
    data
        What the file says, wrong values and all.
    frame
        The frame of its series.
    """
    return list(_told(_understood(model, data, frame), ()))


def _told(part: Spec, loc: Loc) -> Iterator[tuple[Loc, str]]:
    """Yield what a part and the parts in it say."""
    for inner, sentence in part.mistakes():
        yield (*loc, *inner), sentence
    for name in type(part).model_fields:
        value = getattr(part, name)
        if isinstance(value, Spec):
            yield from _told(value, (*loc, name))
        elif isinstance(value, tuple):
            for k, one in enumerate(value):
                if isinstance(one, Spec):
                    yield from _told(one, (*loc, name, k))


def _understood(model: type[Spec], data: Any, frame: Frame) -> Spec:
    """Return a part of a case in which unknown values are NaN or empty."""
    given = data if isinstance(data, dict) else {}
    values: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        models = tuple(_models(field.annotation))
        if models:
            several = isinstance(_unknown(field.annotation), tuple)
            values[name] = _sections(models, given.get(name), frame, several=several, needed=field.is_required())
            continue
        value = given[name] if name in given else field.get_default(call_default_factory=True, validated_data=values)
        values[name] = _unknown(field.annotation)
        if value is not PydanticUndefined:
            try:
                values[name] = _adapter(model, name).validate_python(value, context=frame)
            except ValidationError:
                continue
    return model.model_construct(**values)


def _sections(models: tuple[type[Spec], ...], data: Any, frame: Frame, *, several: bool, needed: bool) -> Any:
    """Return a section or the sections of a list; what is no section is one of which nothing is known."""
    if several:
        return tuple(_section(models, one, frame) for one in data) if isinstance(data, list) else ()
    return _section(models, data, frame) if data is not None or needed else None


def _section(models: tuple[type[Spec], ...], data: Any, frame: Frame) -> Spec | None:
    """Return a section; None where it is of no known kind."""
    kind = data.get("kind") if isinstance(data, dict) and len(models) > 1 else None
    meant = [one for one in models if kind is None or kind in typing.get_args(one.model_fields["kind"].annotation)]
    return _understood(meant[0], data, frame) if meant else None


def _models(annotation: Any) -> Iterator[type[Spec]]:
    """Yield the sections that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    elif typing.get_origin(annotation) is not np.ndarray:
        for argument in typing.get_args(annotation):
            yield from _models(argument)


@cache
def _adapter(model: type[Spec], name: str) -> TypeAdapter[Any]:
    """Return what reads the value of one key."""
    field = model.model_fields[name]
    annotation: Any = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))


def _unknown(annotation: Any) -> Any:
    """Return what stands for a value that cannot be read."""
    origin = typing.get_origin(annotation)
    if origin in (UnionType, typing.Union, Annotated):
        return _unknown(typing.get_args(annotation)[0])
    if origin is tuple:
        return ()
    if origin is dict:
        return {}
    return "" if annotation is str or origin is typing.Literal else np.float64("nan")
