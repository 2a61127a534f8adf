"""What a coalition gains, found by clearing its part of the market: :mod:`market.coalition` has the equations.

A part is the problem with some agents and some shared stores and everything else left out.  A player alone is its part with
the exchange closed; a coalition is its part as it is.  Both are cleared with a certificate, so a value comes with its error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from market.exchange import Clearing, Infeasible, Problem
from market.problem_checks import SHAPES

__all__ = ["Clearings", "GameError", "Player", "Worth", "members_of", "part_of"]


class GameError(ValueError):
    """Players, agents and values do not make a game; the message names what is wrong."""


@dataclass(frozen=True, slots=True)
class Player:
    """Somebody who may join a coalition or leave it."""

    name: str
    agents: tuple[int, ...]
    """Rows of the problem that act for this player."""
    shared: tuple[int, ...] = ()
    """Shared stores that this player owns."""


@dataclass(frozen=True, slots=True)
class Worth:
    """The value of a coalition, and how far it may be from the truth."""

    value_eur: float
    error_eur: float


def part_of(problem: Problem, agents: Sequence[int], shared: Sequence[int]) -> Problem:
    """Return the problem of some agents with access to some shared stores, everything else left out.

    Examples
    --------
    >>> case = Problem.plain([[1.0], [2.0], [3.0]], 0.0, 0.30, 0.08, dt_h=1.0, shared=1)
    >>> part = part_of(case, (0, 2), ())
    >>> part.load_kw.tolist(), part.shared
    ([[1.0], [3.0]], 0)
    """
    chosen = {"n": np.asarray(agents, dtype=np.intp), "M": np.asarray(shared, dtype=np.intp)}
    part: dict[str, Any] = {}
    for f in fields(problem):
        column = getattr(problem, f.name)
        axes = SHAPES.get(f.name, "")
        if column is None or not set(axes) & set(chosen):
            continue
        for axis, letter in enumerate(axes):
            if letter in chosen:
                column = np.take(column, chosen[letter], axis=axis)
        part[f.name] = column
    rows = list(shared)
    part["ess_box"] = np.array([rows.index(box) for box in problem.ess_box[rows].tolist()], dtype=np.int64)
    if problem.agent_ids is not None:
        part["agent_ids"] = tuple(problem.agent_ids[i] for i in agents)
    return replace(problem, **part)


class Clearings:
    """Values by clearing the coalition's part of a problem."""

    def __init__(self, problem: Problem, players: tuple[Player, ...], solve: Callable[[Problem], Clearing]) -> None:
        _check_players(problem, players)
        self.problem, self.players, self.solve = problem, players, solve
        self._together: Clearing | None = None
        alone = [self._cost(1 << i, alone=True) for i in range(len(players))]
        self.alone_eur = np.array([cost for cost, _ in alone])
        """J⁰.  Shape (k,)."""
        self.alone_error_eur = np.array([error for _, error in alone])
        """How far it may be above the least cost.  Shape (k,)."""

    def worth(self, mask: int) -> Worth:
        """Return v(S) by (1) and (2)."""
        members = members_of(mask, len(self.players))
        if len(members) == 1 and len(self.players[members[0]].agents) <= 1:
            return Worth(0.0, 0.0)  # nobody to trade with: together is alone
        alone, error = float(self.alone_eur[members].sum()), float(self.alone_error_eur[members].sum())
        cost, cost_error = self._cost(mask, alone=False)
        # to stay alone is a plan of the coalition, too: rounding makes no value negative
        return Worth(max(alone - cost, 0.0), max(error, cost_error))

    def part(self, mask: int) -> Problem:
        """Return the problem of a coalition: its agents in the problem's order, and the stores that its members own."""
        members = [self.players[i] for i in members_of(mask, len(self.players))]
        return part_of(self.problem, sorted(a for p in members for a in p.agents),
                       sorted(j for p in members for j in p.shared))  # fmt: skip

    def together(self) -> Clearing:
        """Clear the market of all, once."""
        everybody = (1 << len(self.players)) - 1
        if self._together is None:
            self._together = self._clear(everybody, self.part(everybody))
        return self._together

    def _cost(self, mask: int, *, alone: bool) -> tuple[float, float]:
        """Return the cost of a coalition and how far it may be above the least."""
        part = self.part(mask)
        if part.n == 0:
            return 0.0, 0.0
        if not alone and mask == (1 << len(self.players)) - 1:
            found = self.together()
        else:
            found = self._clear(mask, replace(part, exchange="zero") if alone else part)
        return float(found.cost_eur), float(found.cost_eur - found.bound_eur)

    def _clear(self, mask: int, part: Problem) -> Clearing:
        try:
            return self.solve(part)
        except Infeasible as error:
            who = ", ".join(self.players[i].name for i in members_of(mask, len(self.players)))
            raise GameError(f"the coalition of {who} has no plan, so it has no value: {error}") from error


def members_of(mask: int, k: int) -> list[int]:
    """Return the players of a coalition."""
    return [i for i in range(k) if mask >> i & 1]


def _check_players(problem: Problem, players: tuple[Player, ...]) -> None:
    """Every agent and every shared store belongs to exactly one player, and nothing is sold already."""
    mistakes = []
    for word, count, owned in (
        ("agent", problem.n, [row for p in players for row in p.agents]),
        ("shared store", problem.shared, [row for p in players for row in p.shared]),
    ):
        times = Counter(owned)
        outside = sorted(row for row in times if not 0 <= row < count)
        twice = sorted(row for row in times if times[row] > 1)
        nobodys = sorted(set(range(count)) - set(times))
        for rows, wrong in ((outside, "does not exist"), (twice, "has two owners"), (nobodys, "belongs to no player")):
            if rows:
                mistakes.append(f"{word} {', '.join(map(str, rows[:5]))}{' …' * (len(rows) > 5)} {wrong}")
    if not mistakes:
        owner = {j: i for i, p in enumerate(players) for j in p.shared}
        mistakes += [
            f"shared store {j} lies in the box of {box}, but {players[owner[j]].name} owns the one and "
            f"{players[owner[box]].name} the other"
            for j, box in enumerate(problem.ess_box.tolist()) if owner[j] != owner[box]
        ]  # fmt: skip
    if problem.exchange == "pinned":
        mistakes.append(
            "what is traded is pinned, so there is nothing to agree on; give a problem with exchange 'free'"
        )
    if mistakes:
        raise GameError(
            f"the players do not make a game: {'; '.join(mistakes)}. Every agent and store belongs to one player."
        )
