"""Read a YAML file so that every mistake can be told with its line and column.

YAML 1.2 by ruamel.yaml. The file is composed, not constructed: the node tree knows where every key and value stands and whether a
text was quoted. From it come plain Python data and a map from the place in the data, e.g. ``("people", "homes", 3, "bus")``,
to the place in the file.

An unquoted text that looks like a clock time or a date is marked :class:`Unquoted`: fields that hold times refuse it, because
other YAML readers turn ``22:00`` into 1320.

Limits: a syntax error ends the reading, so it is told alone; everything else is told together.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = [
    "SCENARIO",
    "Document",
    "Loc",
    "ScenarioError",
    "Source",
    "Unquoted",
    "assign",
    "read",
    "read_text",
    "read_value",
]

Loc = tuple[str | int, ...]
"""A place in the data: keys of mappings and positions in lists."""

LOOKS_LIKE_TIME = re.compile(r"\d{1,4}(:\d{1,2})+(\.\d*)?|\d{4}-\d{1,2}-\d{1,2}.*")
YAML_TAG = "tag:yaml.org,2002:"
LARGEST = 500_000
"""Values in a file; anchors that multiply one another are stopped here."""
TRUTH = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "y": True, "n": False}


class ScenarioError(ValueError):
    """The scenario cannot be used; every mistake is a sentence with its place."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class Unquoted(str):
    """A text that stands without quotes in the file and looks like a time."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Document:
    """What kind of file is read, in the words of its messages."""

    name: str
    """What it is called."""
    sections: str
    """Two of its sections."""
    paths: tuple[str, str]
    """Two paths that ``--set`` could name."""
    assignment: str
    """What ``--set`` could say."""
    to_begin: str
    """Where one to start from is to be had."""
    most: str
    """What to do where there are too many values."""


SCENARIO = Document(
    name="scenario",
    sections='"time:" and "grid:"',
    paths=("time.days", "storage.0.energy_kwh"),
    assignment="time.days=2",
    to_begin="`commonwatt init` writes a scenario to start from.",
    most="put the homes into a table beside the file",
)


@dataclass(slots=True)
class Source:
    """What a file says, and where it says it."""

    name: str
    """The file as the user named it; the first part of every place."""
    folder: Path
    """Where files that the scenario names are looked for."""
    data: Any = None
    where: dict[Loc, str] = field(default_factory=dict)
    """Place of every value."""
    where_key: dict[Loc, str] = field(default_factory=dict)
    """Place of every key."""
    mistakes: list[str] = field(default_factory=list)
    document: Document = SCENARIO

    def place(self, loc: Loc, *, key: bool = False) -> str:
        """Return ``file:line:column`` of a value (or its key), or of the nearest thing around it."""
        if key and loc in self.where_key:
            return self.where_key[loc]
        for length in range(len(loc), -1, -1):
            if loc[:length] in self.where:
                return self.where[loc[:length]]
        return self.name

    def set(self, assignment: str, origin: str, value: Any) -> None:
        """Put a value in place as ``--set a.b.0=value`` asks; the place of the value becomes ``origin``.

        A part of the path names a key of a mapping, a position in a list, or the ``id`` of a list's entry.
        """
        parts = assignment.split(".")
        if not all(parts):
            self.mistakes.append(
                f'{origin}: "{assignment}" is not a path such as "{self.document.paths[0]}" or "{self.document.paths[1]}".'
            )
            return
        if not isinstance(self.data, dict):
            return
        here: Any = self.data
        loc: Loc = ()
        for i, part in enumerate(parts):
            step = _step(here, part)
            if step is None:
                what = f"a list of {len(here)}" if isinstance(here, list) else f"{here!r}"
                owner = ".".join(map(str, loc))
                self.mistakes.append(f'{origin}: "{part}" cannot be found in {owner}, which is {what}.')
                return
            loc = (*loc, step)
            if i == len(parts) - 1:
                here[step] = value
                self._told_by(loc, origin)
                return
            if isinstance(here, dict) and here.get(step) is None:
                here[step] = {}
                self._told_by(loc, origin)
            here = here[step]

    def _told_by(self, loc: Loc, origin: str) -> None:
        for places in (self.where, self.where_key):
            for old in [p for p in places if p[: len(loc)] == loc]:
                del places[old]
            places[loc] = origin


def _step(here: Any, part: str) -> str | int | None:
    """Return the key or position that ``part`` means in ``here``; None where it means nothing."""
    if isinstance(here, dict):
        return part
    if isinstance(here, list):
        if part.isdecimal() and int(part) < len(here):
            return int(part)
        for i, entry in enumerate(here):
            if isinstance(entry, dict) and entry.get("id") == part:
                return i
    return None


def read(path: str | Path, document: Document = SCENARIO) -> Source:
    """Read a file; raises :class:`ScenarioError` where it is not YAML at all.

    Mistakes that do not hinder the reading (duplicate keys, unknown tags) are collected in ``Source.mistakes``.
    """
    file = Path(path)
    if file.is_dir():
        raise ScenarioError([f"{path}: is a folder; name the {document.name} file in it."])
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ScenarioError([f"{path}: there is no such file. {document.to_begin}"]) from None
    except UnicodeDecodeError as error:
        raise ScenarioError(
            [f"{path}: is not text in UTF-8 (byte {error.start} cannot be read); save it as UTF-8."]
        ) from None
    except OSError as error:
        raise ScenarioError([f"{path}: cannot be read: {error.strerror}."]) from None
    return read_text(text, str(path), file.parent, document)


def read_text(text: str, name: str, folder: Path, document: Document = SCENARIO) -> Source:
    """Read a text as :func:`read` reads a file."""
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    tabs = [
        (n, len(line) - len(line.lstrip(" ")))
        for n, line in enumerate(text.splitlines(), 1)
        if re.match(r" *\t+ *[^\s#]", line)
    ]
    source = Source(name=name, folder=folder, document=document)
    try:
        root = _composed(text)
    except MarkedYAMLError as error:
        if tabs:
            raise ScenarioError(
                [f"{name}:{n}:{col + 1}: a tab indents this line; YAML allows spaces only." for n, col in tabs]
            ) from None
        raise ScenarioError([_syntax(error, name, document)]) from None
    except ReaderError as error:
        raise ScenarioError([_odd_character(error, text, name)]) from None
    except YAMLError as error:
        raise ScenarioError([f"{name}: cannot be read as YAML: {' '.join(str(error).split())}."]) from None
    if root is None:
        raise ScenarioError([f"{name}:1:1: the file is empty. {document.to_begin}"])
    source.data = _Reader(source).value(root, ())
    if not isinstance(source.data, dict):
        raise ScenarioError(
            [
                f"{source.place(())}: a {document.name} is a mapping of sections such as {document.sections}; this is {_kind(source.data)}."
            ]
        )
    return source


def _composed(text: str) -> Any:
    """Return the node tree; an anchor may be given twice, the last one counts."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import ReusedAnchorWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)
        return YAML(typ="safe", pure=True).compose(text)


def read_value(text: str) -> Any:
    """Return what a text means as YAML, e.g. the right-hand side of ``--set``; raises :class:`ScenarioError`."""
    source = Source(name="", folder=Path())
    from ruamel.yaml.error import YAMLError

    try:
        root = _composed(text)
    except YAMLError:
        raise ScenarioError([f"{text!r} is not a value in YAML"]) from None
    value = None if root is None else _Reader(source).value(root, ())
    if source.mistakes:
        raise ScenarioError(m.split(": ", 1)[-1] for m in source.mistakes)
    return _plain(value)


def _plain(value: Any) -> Any:
    """Forget that a text was unquoted: on a command line the shell has eaten the quotes."""
    if isinstance(value, Unquoted):
        return str(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def _syntax(error: Any, name: str, document: Document) -> str:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
    what = " ".join(part for part in (error.context, error.problem) if part)
    hint = ""
    if "another document" in what:
        hint = f' A {document.name} is one document: remove the line "---".'
    elif "mapping values are not allowed" in what:
        hint = " Put a text that contains a colon in quotes, and indent keys of one section alike."
    elif "cannot start any token" in what or "while scanning" in what:
        hint = " Put a text with special signs in quotes."
    return f"{place}: this is not YAML: {' '.join(what.split())}.{hint}"


def _odd_character(error: Any, text: str, name: str) -> str:
    """Say where a character stands that no YAML file holds."""
    before, _, _ = text.partition(chr(error.character))
    line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    return f"{name}:{line}:{column}: the character U+{error.character:04X} has no place in a text; remove it."


class _Reader:
    """Turns nodes into data and fills the places of a :class:`Source`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.open: list[int] = []
        self.count = 0

    def at(self, node: Any) -> str:
        return f"{self.source.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"

    def value(self, node: Any, loc: Loc) -> Any:
        self.source.where[loc] = self.at(node)
        self.count += 1
        if self.count > LARGEST:
            raise ScenarioError(
                [f"{self.at(node)}: there are more than {LARGEST} values; {self.source.document.most}."]
            )
        if id(node) in self.open:
            self.source.mistakes.append(f"{self.at(node)}: this anchor contains itself.")
            return None
        self.open.append(id(node))
        try:
            if node.id == "mapping":
                return self.mapping(node, loc)
            if node.id == "sequence":
                return [self.value(child, (*loc, i)) for i, child in enumerate(node.value)]
            return self.scalar(node)
        finally:
            self.open.pop()

    def mapping(self, node: Any, loc: Loc) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[str, str] = {}
        for key, child in node.value:
            if str(key.tag) == YAML_TAG + "merge":
                for parent in child.value if child.id == "sequence" else [child]:
                    values = self.value(parent, loc)
                    merged = {**values, **merged} if isinstance(values, dict) else merged
                continue
            if key.id != "scalar":
                self.source.mistakes.append(f"{self.at(key)}: a key must be a text, not a list or a mapping.")
                continue
            name = str(key.value)
            if name in own:
                self.source.mistakes.append(
                    f'{self.at(key)}: the key "{name}" stands here a second time; the first is at {first[name]}.'
                )
                continue
            first[name] = self.at(key)
            self.source.where_key[(*loc, name)] = self.at(key)
            own[name] = self.value(child, (*loc, name))
        self.source.where[loc] = self.at(node)
        return {**merged, **own}

    def scalar(self, node: Any) -> Any:
        text, tag = str(node.value), str(node.tag).removeprefix(YAML_TAG)
        if node.style is None and LOOKS_LIKE_TIME.fullmatch(text):
            return Unquoted(text)
        try:
            if tag == "null":
                return None
            if tag == "bool":
                return TRUTH[text.lower()]
            if tag in {"int", "float"}:
                return _number(text)
        except (KeyError, ValueError):
            self.source.mistakes.append(f"{self.at(node)}: {text!r} is not what its tag {node.tag} says.")
            return text
        if tag in {"str", "timestamp"}:
            return text
        self.source.mistakes.append(f"{self.at(node)}: the tag {node.tag} is not known here; write the plain value.")
        return text


def _number(text: str) -> int | float | str:
    """Return the number that YAML 1.2 reads in a text."""
    plain = text.replace("_", "").lower()
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    if digits in {".inf", ".nan"}:
        return sign * float(digits[1:])
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    try:
        return int(plain)
    except ValueError:
        return float(plain)


def assign(source: Source, sets: Sequence[tuple[str, str]]) -> None:
    """Apply assignments ``(origin, "path=value")`` in their order; mistakes are collected in the source."""
    for origin, assignment in sets:
        path, equals, text = assignment.partition("=")
        if not equals:
            source.mistakes.append(f'{origin}: write it as path=value, for example "{source.document.assignment}".')
            continue
        try:
            value = read_value(text)
        except ScenarioError as error:
            source.mistakes += [f"{origin}: {m.rstrip('.')}." for m in error.mistakes]
            continue
        source.set(path.strip(), origin, value)
