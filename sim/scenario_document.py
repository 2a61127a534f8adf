"""A whole document: read from a file, changed by the command line, and able to say where everything stands in it.

What a scenario and a case of the network have in common above their parts (:mod:`sim.scenario_base`): the order is always file,
``--set``, options, check; mistakes of all of them are told together, and files that a document names are looked for beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import PrivateAttr, ValidationError

from sim.scenario_base import Spec
from sim.scenario_file import ScenarioError, Source, assign
from sim.scenario_mistakes import in_order, told

__all__ = ["Written", "changes", "understood"]


class Written(Spec):
    """A part that is a file of its own, and knows which."""

    _source: Source = PrivateAttr(default_factory=lambda: Source("scenario", Path()))

    def file(self, name: str) -> Path:
        """Return the path of a file that the document names."""
        return self._source.folder / name

    @property
    def folder(self) -> Path:
        """The folder in which the document's files are looked for."""
        return self._source.folder

    def place(self, *loc: str | int) -> str:
        """Return ``file:line:column`` of a value, for a message."""
        return self._source.place(loc)

    def read_from(self, source: Source) -> Self:
        """Return the same document, knowing where it was read from."""
        copy = self.model_copy()
        copy._source = source  # noqa: SLF001 - its own
        return copy


D = TypeVar("D", bound=Written)


def changes(sets: Sequence[str], **options: tuple[str, object]) -> list[tuple[str, str]]:
    """Return what a command line changes, in order, each with what it is called in messages.

    >>> changes(["grid.v_max_pu=1.05"], seed=("seed", 3), days=("time.days", None))
    [('--set grid.v_max_pu=1.05', 'grid.v_max_pu=1.05'), ('--seed', 'seed=3')]
    """
    told_by_options = [(f"--{name}", f"{path}={value}") for name, (path, value) in options.items() if value is not None]
    return [(f"--set {one}", one) for one in sets] + told_by_options


def understood(model: type[D], source: Source, asked: Sequence[tuple[str, str]]) -> D:
    """Return the document that a source says, or raise :class:`ScenarioError` with every mistake and its place.

    Parameters
    ----------
    model
        What the document is to be.
    source
        The file, read.
    asked
        Changes as of :func:`changes`.
    """
    assign(source, asked)
    try:
        found = model.model_validate(source.data)
    except ValidationError as error:
        raise ScenarioError(in_order([*source.mistakes, *told(error, model, source)])) from None
    if source.mistakes:
        raise ScenarioError(source.mistakes)
    return found.read_from(source)
