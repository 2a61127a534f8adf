"""Read a market's case as a scenario is read: every mistake at once, each with file, line and column.

What pydantic finds in single values, what does not go together (:mod:`sim.case_understood`) and, where neither finds anything, what
only the arrays of the market can know are told as sentences with a place.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from market.curves import CurvesError
from market.problem import ProblemError
from sim.case import KINDS, CurvesCase, ProsumersCase
from sim.case_arrays import curves_of, problem_of
from sim.case_series import frame_of
from sim.case_understood import contradictions
from sim.scenario_document import changes
from sim.scenario_file import Document, ScenarioError, Source, assign, read
from sim.scenario_mistakes import in_order, placed, told

__all__ = ["CASE", "load"]

CASE = Document(
    name="case",
    sections='"kind:" and "agents:"',
    paths=("agents.0.p_max", "storage.0.energy_kwh"),
    assignment="storage.0.energy_kwh=20",
    to_begin="examples/market holds cases to start from.",
    most="put long series into a CSV file beside it",
)


def load(path: str | Path, sets: Sequence[str] = (), seed: int | None = None) -> CurvesCase | ProsumersCase:
    """Read a case, or raise :class:`ScenarioError` with every mistake and its place.

    Parameters
    ----------
    path
        The YAML file.
    sets
        Assignments such as ``"storage.0.energy_kwh=20"``; the values are YAML.
    seed
        Instead of the file's.
    """
    source = read(path, CASE)
    assign(source, changes(sets, seed=("seed", seed)))
    model, mistakes = _kind(source)
    frame = frame_of(source.data, source.folder)
    try:
        case = model.model_validate(source.data, context=frame)
    except ValidationError as error:
        beside = [placed(source, loc, sentence) for loc, sentence in contradictions(model, source.data, frame)]
        raise ScenarioError(in_order([*source.mistakes, *mistakes, *told(error, model, source), *beside])) from None
    if source.mistakes or mistakes:
        raise ScenarioError(in_order([*source.mistakes, *mistakes]))
    _refused_by_the_market(case, source)
    return case


def _refused_by_the_market(case: CurvesCase | ProsumersCase, source: Source) -> None:
    """Tell with a place what only the arrays of the market can know, such as whether a penalty is enough for all prices and losses."""
    try:
        problem_of(case) if isinstance(case, ProsumersCase) else curves_of(case)
    except (CurvesError, ProblemError) as error:
        told_by_market = [line.strip() for line in str(error).splitlines()[1:]]
        raise ScenarioError(f"{source.place((line.split(' ')[0],))}: {line}" for line in told_by_market) from None


def _kind(source: Source) -> tuple[type[CurvesCase | ProsumersCase], list[str]]:
    """Return the model of a case; where its kind is not said, the one it resembles, and the mistake."""
    kind = source.data.get("kind")
    if isinstance(kind, str) and kind in KINDS:
        return KINDS[kind], []
    meant = "prosumers" if "prices" in source.data or "storage" in source.data else "curves"
    near = difflib.get_close_matches(str(kind), KINDS, 1, 0.5)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    sentence = "the case: needs" if kind is None else f"kind: given {kind!r}; must be"
    mistake = f"{source.place(('kind',))}: {sentence} {'' if kind is not None else 'kind: '}curves or prosumers.{hint}"
    source.data["kind"] = meant
    return KINDS[meant], [mistake]
