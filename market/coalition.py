"""What groups could gain without the others: the cooperative game behind a market.

Players own agents and shared stores.  A coalition S trades among itself, behind the same meters, envelopes and retail
tariff, and rents space in the stores that its own members own; without its owner a store is not there.  With J⁰ the cost
of a player alone (retail only: exchange "zero", its own agents and stores) and J(S) the least cost of the coalition ::

    v(S) = Σ_S J⁰_i − J(S) >= 0                                                                                     (1)

and v of one agent alone is 0.  J is found by :func:`market.exchange.clear` on the coalition's part of the problem, so
reserve rents and throughput fees are counted as the store's costs; where they hold a fee above cost, give the problem with
rents at cost to see the game without that wedge.  What tenants have in the spaces of a store stays there if its owner is
not in the coalition.

Values are used as differences, so their accuracy matters: every clearing comes with a bound below its cost, hence ::

    −(Σ_S J⁰_i − bound⁰_i)  <=  true v(S) − v(S)  <=  J(S) − bound(S)                                               (2)

and ``error_eur`` says the larger of the two.  Values do not depend on what was asked before, nor on the order of players.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.coalition_values import Clearings, GameError, Player, Worth, members_of, part_of
from market.exchange import Clearing, Problem, clear
from market.fairness import Excess

__all__ = [
    "EXACT_TO",
    "Clearings",
    "Coalitions",
    "Excess",
    "GameError",
    "Player",
    "Worth",
    "bits",
    "part_of",
    "worst_excess",
]

Floats = NDArray[np.float64]
Masks = NDArray[np.int64]
_Values = Mapping[Any, float] | ArrayLike | Callable[[int], "float | Worth"]

EXACT_TO = 12
"""Up to so many players all coalitions are asked (4096), above some of them."""
_MOST = 62  # players: a coalition is the bits of an int64


class _Source(Protocol):
    """Where values come from."""

    def worth(self, mask: int) -> Worth:
        """Return the worth of a coalition of at least one player."""


class _Table:
    """Values as given."""

    def __init__(self, value: Callable[[int], float | Worth]) -> None:
        self._value = value

    def worth(self, mask: int) -> Worth:
        """Return the value, which is what it is unless it says how far it may be off; NaN and infinity are refused."""
        given = self._value(mask)
        worth = given if isinstance(given, Worth) else Worth(float(given), 0.0)
        if not np.isfinite([worth.value_eur, worth.error_eur]).all():
            raise GameError(f"the value of coalition {mask:#b} is {worth.value_eur}; give a number of euro.")
        return worth


class Coalitions:
    """The game: what every coalition gains over its members alone.

    A coalition is a mask: bit i says whether player i is in it.

    Parameters
    ----------
    problem
        The market of all; its exchange is ``free`` or ``zero`` (then coalitions share stores and nothing else).
    players
        Who owns which agents and which shared stores; every agent and every store belongs to exactly one player.
    tolerance
        Of the clearings.  Costs are nearer to the least than this; ``error_eur`` says how near.
    max_iterations
        Of the clearings; one that gives up still has a plan and a bound.
    solve
        Clears in their place, such as :func:`market.central.solve`, which is slower and nearer to the truth.

    Examples
    --------
    Anna has 2 kW too many and Ben 2 kW too few, for an hour; the retailer buys at 0.08 and sells at 0.30:

    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> game = Coalitions(case, [Player("anna", (0,)), Player("ben", (1,))])
    >>> game.value(0b01), round(game.value(0b11), 4)
    (0.0, 0.44)
    """

    def __init__(
        self,
        problem: Problem,
        players: Sequence[Player],
        *,
        tolerance: float = 1e-5,
        max_iterations: int = 20_000,
        solve: Callable[[Problem], Clearing] | None = None,
    ) -> None:
        iterate = partial(clear, tolerance=tolerance, max_iterations=max_iterations)
        source = Clearings(problem, tuple(players), solve or iterate)
        self._begin(tuple(p.name for p in players), source)
        self.market: Clearings | None = source

    @staticmethod
    def of_values(
        names: Sequence[str],
        values: _Values,
    ) -> Coalitions:
        """Return a game that is given by its values.

        Parameters
        ----------
        names
            Of the players, ``k`` of them.
        values
            By name (a mapping with every coalition of at least one player: tuples or frozensets of names), by mask (2^k
            numbers, the first for nobody) or by a function of the mask, which may return a :class:`Worth`, a value with its
            error.

        Examples
        --------
        >>> gloves = Coalitions.of_values(("left", "right"), {("left",): 0, ("right",): 0, ("left", "right"): 1})
        >>> gloves.value(0b11)
        1.0
        """
        return _OfValues(tuple(names), values)

    def _begin(self, names: tuple[str, ...], source: _Source) -> None:
        if len(set(names)) != len(names) or not all(names):
            raise GameError(f"players are called {names}; give each a name of its own.")
        if len(names) > _MOST:
            raise GameError(f"{len(names)} players are more than {_MOST}; let groups of homes be players.")
        self.players = names
        self._source = source
        self._known: dict[int, Worth] = {0: Worth(0.0, 0.0)}
        self.asked: set[int] = set()
        """The coalitions whose values were asked for until now."""

    def recount(self) -> Coalitions:
        """Return the same game with the same memory, of which nothing was asked yet: ``asked`` begins anew."""
        game = copy(self)
        game.asked = set()
        return game

    @property
    def k(self) -> int:
        """Number of players."""
        return len(self.players)

    @property
    def all(self) -> int:
        """The mask of the grand coalition."""
        return (1 << self.k) - 1

    @property
    def surplus_eur(self) -> float:
        """What all together gain: there is no more to divide."""
        return self.value(self.all)

    @property
    def error_eur(self) -> float:
        """How far any value asked for until now may be from the truth."""
        return max((self._known[mask].error_eur for mask in self.asked), default=0.0)

    def value(self, mask: int) -> float:
        """Return what a coalition gains over its members alone. [eur]"""
        return self.worth(mask).value_eur

    def values(self, masks: ArrayLike) -> Floats:
        """Return the values of many coalitions.  Shape of ``masks``."""
        given = np.asarray(masks, dtype=np.int64)
        return np.array([self.value(int(mask)) for mask in given.ravel()]).reshape(given.shape)

    def worth(self, mask: int) -> Worth:
        """Return the value of a coalition and its accuracy, from memory where it was asked before."""
        if not 0 <= mask <= self.all:
            raise GameError(f"{mask} is no coalition of {self.k} players; give a mask from 0 to {self.all}.")
        if mask not in self._known:
            self._known[mask] = self._source.worth(mask)
        self.asked.add(mask)
        return self._known[mask]

    def mask(self, *names: str) -> int:
        """Return the coalition of the players with these names."""
        unknown = sorted(set(names) - set(self.players))
        if unknown:
            raise GameError(f"there is no player called {', '.join(unknown)}; there are {', '.join(self.players)}.")
        return sum(1 << self.players.index(name) for name in set(names))

    def members(self, mask: int) -> tuple[str, ...]:
        """Return the names of a coalition's players."""
        return tuple(self.players[i] for i in members_of(mask, self.k))


class _OfValues(Coalitions):
    """A game without a market."""

    def __init__(self, names: tuple[str, ...], values: _Values) -> None:
        self._begin(names, _Table(_by_mask(names, values)))
        self.market = None


def worst_excess(coalitions: Coalitions, gain_eur: ArrayLike, *, seed: int = 0, samples: int = 256) -> Excess:
    """Return the strongest objection to a division: the largest v(S) − Σ_S gain over coalitions but nobody and all.

    Up to ``EXACT_TO`` players all are asked.  Above, singles, all but one, ``samples`` drawn ones of every size, and from
    the worst of these uphill by one player joining or leaving, as long as that makes the objection stronger: what is
    found is real, and a stronger one may exist.

    Examples
    --------
    Half each of a glove market with one left and two right gloves: the pair left and r1 could share the half of r2.

    >>> gloves = Coalitions.of_values(("left", "r1", "r2"), [0, 0, 0, 1, 0, 1, 0, 1])
    >>> worst_excess(gloves, [0.5, 0.0, 0.5])
    Excess(excess_eur=0.5, coalition=('left', 'r1'), sampled=False, tried=6)
    """
    gain = np.asarray(gain_eur, dtype=np.float64)
    if gain.shape != (coalitions.k,):
        raise GameError(f"gains have the shape {gain.shape}; give one for each of {coalitions.k} players.")
    if coalitions.k <= 1:
        return Excess(0.0, (), False, 0)
    exact = coalitions.k <= EXACT_TO
    masks = np.arange(1, coalitions.all) if exact else some_masks(coalitions.k, samples, np.random.default_rng(seed))
    excess = coalitions.values(masks) - bits(masks, coalitions.k) @ gain
    if not exact:
        masks, excess = climb(coalitions, gain, masks, excess)
    worst = int(np.argmax(excess))  # of equal ones the first, of NaN a NaN
    return Excess(float(excess[worst]), coalitions.members(int(masks[worst])), not exact, len(masks))


def bits(masks: ArrayLike, k: int) -> Floats:
    """Return who is in which coalition: 1 or 0, shape (masks, k)."""
    members: Floats = (np.asarray(masks, dtype=np.int64)[:, None] >> np.arange(k) & 1).astype(np.float64)
    return members


def some_masks(k: int, samples: int, rng: np.random.Generator) -> Masks:
    """Return all singles, all but one, and drawn coalitions whose sizes are even, each once, in order."""
    everybody = (1 << k) - 1
    chosen = {1 << i for i in range(k)} | {everybody ^ (1 << i) for i in range(k)}
    for size in rng.integers(2, k - 1, samples):
        chosen.add(int(sum(1 << int(i) for i in rng.choice(k, int(size), replace=False))))
    return np.array(sorted(chosen), dtype=np.int64)


def climb(coalitions: Coalitions, gain: Floats, masks: Masks, excess: Floats, starts: int = 2) -> tuple[Masks, Floats]:
    """Return the coalitions and excesses, and those met going uphill from the worst few."""
    known: dict[int, float] = dict(zip(masks.tolist(), excess.tolist(), strict=True))

    def ask(mask: int) -> float:
        if mask not in known:
            known[mask] = coalitions.value(mask) - float(bits([mask], coalitions.k)[0] @ gain)
        return known[mask]

    for start in masks[np.argsort(-excess, kind="stable")[:starts]].tolist():
        here = start
        while True:
            near = [here ^ (1 << i) for i in range(coalitions.k)]
            best = max((m for m in near if 0 < m < coalitions.all), key=ask)
            if not ask(best) > ask(here):
                break
            here = best
    return np.array(list(known), dtype=np.int64), np.array(list(known.values()))


def _by_mask(names: tuple[str, ...], values: _Values) -> Callable[[int], float | Worth]:
    """Return values given in any way as a function of the mask."""
    if callable(values):
        return values
    count = 1 << len(names)
    if isinstance(values, Mapping):
        named = {frozenset((key,) if isinstance(key, str) else key): value for key, value in values.items()}
        table = np.full(count, np.nan)
        for mask in range(count):
            coalition = frozenset(names[i] for i in members_of(mask, len(names)))
            table[mask] = named.pop(coalition, 0.0 if mask == 0 else np.nan)
        if named:
            raise GameError(f"{[sorted(c) for c in named]} have a value, but there are only the players {names}.")
    else:
        table = np.asarray(values, dtype=np.float64)
    if table.shape != (count,):
        raise GameError(f"values have the shape {table.shape}; {len(names)} players have {count} coalitions.")
    wrong = np.flatnonzero(~np.isfinite(table))
    if wrong.size:
        who = [", ".join(names[i] for i in members_of(int(mask), len(names))) for mask in wrong[:3]]
        raise GameError(f"{wrong.size} coalition(s) have no value that is a number: {'; '.join(who)} …")
    if table[0] != 0.0:
        raise GameError(f"nobody's value is {table[0]:g}; it must be 0.")
    return lambda mask: float(table[mask])
