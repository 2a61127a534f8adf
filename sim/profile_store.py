"""A year of figures by name: what loads, cars and the sun do, as multiples of a nameplate or in kW.

A store holds named profiles on one UTC grid: ``step_minutes`` long steps from ``start`` on, ``length`` of them.  The
value of a step is the mean power over it, and a stamp labels its beginning.  :meth:`Profiles.window` cuts pieces out of
it, on any interval: each value of the piece is the mean of the stored steps over its interval, which is

* the stored value where the intervals are the same,
* a mean of several where the interval is longer,
* the same value several times where it is shorter.

Behind its end a store begins again, and before its beginning it ends (it *wraps*): 1 January 2017 of a store of 2016 is
1 January 2016.  The days of the week do not survive that, and a run says in its log when it happened
(:meth:`Profiles.wraps`).  A window may be shifted in time row by row, so that thirty-one homes with one profile do not
act as one; as the store is in UTC, a shift across the clock change is as long as any other.

The empty name is the constant 1.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ArrayProfiles", "ProfileError", "Profiles"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

_CONSTANT = -1
"""Index of the empty name."""

_SHOWN = 20


class ProfileError(ValueError):
    """Profiles cannot be used as given; ``mistakes`` holds one sentence each."""

    def __init__(self, source: str, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        lines = [f"  {mistake}" for mistake in self.mistakes[:_SHOWN]]
        if len(self.mistakes) > _SHOWN:
            lines.append(f"  ... and {len(self.mistakes) - _SHOWN} more")
        count = "one mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        super().__init__("\n".join([f"{source}: {count}", *lines]))


class Profiles(ABC):
    """Named profiles on one UTC grid."""

    name: str
    """What the store is, for messages."""

    names: tuple[str, ...]
    """The names in it."""

    step_minutes: int
    """Length of a step. [min]"""

    start: np.datetime64
    """Beginning of the first step, UTC."""

    length: int
    """Number of steps."""

    @abstractmethod
    def _gather(self, rows: Index, place: Index) -> Floats:
        """Return the stored steps ``place`` (k, w), all in the store, of the profiles ``rows`` (k,)."""

    def values(self, index: Sequence[SupportsIndex] | Index) -> Floats:
        """Return whole profiles as stored. Shape (k, length)."""
        return self.window(index, self.start, self.length)

    def index(self, names: Sequence[str]) -> Index:
        """Return where names stand, for :meth:`window`.

        Parameters
        ----------
        names
            Names of profiles, "" for the constant 1.

        Returns
        -------
        shape (k,)
        """
        places = {name: place for place, name in enumerate(self.names)} | {"": _CONSTANT}
        unknown = sorted({name for name in names if name not in places})
        if unknown:
            raise ProfileError(self.name, [self._nearest(name) for name in unknown])
        return np.array([places[name] for name in names], dtype=np.intp)

    def _nearest(self, name: str) -> str:
        near = get_close_matches(name, self.names, n=3, cutoff=0.4)
        if near:
            return f"there is no profile {name!r}. Did you mean {' or '.join(near)}?"
        some = ", ".join(self.names[:8]) + (", ..." if len(self.names) > 8 else "")
        return f"there is no profile {name!r}. There are {some}."

    def window(
        self,
        index: Sequence[SupportsIndex] | Index,
        start: np.datetime64,
        steps: int,
        shift_steps: ArrayLike = 0,
        interval_minutes: int | None = None,
    ) -> Floats:
        """Cut a window out of the year.

        Parameters
        ----------
        index : shape (k,)
            From :meth:`index`; may name a profile more than once.
        start
            Beginning of the first interval, UTC.
        steps
            Number of intervals.
        shift_steps : shape (k,) or ()
            By how many steps of the store each row is late: row k at time t is the profile at t − shift.
        interval_minutes
            Length of an interval; the store's own step where not given. [min]

        Returns
        -------
        shape (k, steps)
        """
        rows = np.asarray(index, dtype=np.intp)
        shifts = np.broadcast_to(np.asarray(shift_steps, dtype=np.int64), rows.shape)
        interval = self.step_minutes if interval_minutes is None else int(interval_minutes)
        if interval < 1 or steps < 0 or np.isnat(start):
            raise ProfileError(
                self.name,
                [f"no window of {steps} intervals of {interval} min from {start}: give a time, a length, a count."],
            )
        return self.window_in_seconds(rows, _seconds(start), steps, shifts * self.step_minutes * 60, interval * 60)

    def wraps(self, start: np.datetime64, steps: int, interval_minutes: int | None = None) -> bool:
        """Say whether a window (without shift) leaves the time that the store holds."""
        interval = (self.step_minutes if interval_minutes is None else int(interval_minutes)) * 60
        begin = _seconds(start) - _seconds(self.start)
        return begin < 0 or begin + steps * interval > self.length * self.step_minutes * 60

    def window_in_seconds(
        self, rows: Index, start_s: int, steps: int, shift_s: NDArray[np.int64], interval_s: int
    ) -> Floats:
        """Return a window as :meth:`window` does, times in seconds, the start since 1970.

        On the finest grid that all rows have in common every interval is a whole number of pieces.
        """
        step_s = self.step_minutes * 60
        begin_s = start_s - _seconds(self.start) - shift_s  # of each row, seconds after the store's beginning
        piece_s = math.gcd(step_s, interval_s, *np.unique(begin_s).tolist())
        pieces = interval_s // piece_s
        window = np.ones((len(rows), steps * pieces))
        known = rows != _CONSTANT
        if known.any():
            piece = begin_s[known, None] // piece_s + np.arange(steps * pieces)
            window[known] = self._gather(rows[known], piece // (step_s // piece_s) % self.length)
        return window if pieces == 1 else window.reshape(len(rows), steps, pieces).mean(axis=2)

    def lowest(self, row: int) -> tuple[float, str, int]:
        """Return the lowest value that a profile ever has, where it stands, and how many of its values are negative."""
        values = self._gather(np.array([row]), np.arange(self.length))[0]
        step = int(values.argmin())
        return float(values[step]), self._place(row, step), int((values < 0).sum())

    def _place(self, row: int, step: int) -> str:
        """Say where a value stands."""
        return f"{self.name}: {self.names[row]} at {self.start + np.timedelta64(step * self.step_minutes, 'm')}Z"

    @staticmethod
    def combine(*stores: Profiles) -> Profiles:
        """Put stores together: names of all, each on its own grid and wrapping at its own ends.

        Parameters
        ----------
        stores
            At least one; no name in two of them.
        """
        return stores[0] if len(stores) == 1 else _Combined(stores)


class ArrayProfiles(Profiles):
    """Profiles held as an array.

    ``lines`` may say for each profile in which line of a file, named as the store is, its values stand.

    Examples
    --------
    >>> store = ArrayProfiles("two days", ("sun",), np.datetime64("2024-06-01T00:00"), 720, [[0.0, 1.0, 0.0, 2.0]])
    >>> store.window(store.index(["sun", ""]), np.datetime64("2024-06-02T00:00"), 2, interval_minutes=1440)
    array([[1. , 0.5],
           [1. , 1. ]])
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        start: np.datetime64,
        step_minutes: int,
        values: ArrayLike,
        lines: Sequence[Sequence[int]] = (),
    ) -> None:
        self.name = name
        self._lines = lines
        self.names = tuple(names)
        self.start = start.astype("datetime64[s]")
        self.step_minutes = int(step_minutes)
        self._values = np.array(values, dtype=np.float64, ndmin=2)
        self._values.setflags(write=False)
        self.length = self._values.shape[1]
        mistakes = [
            f"the name {one!r} occurs {times} times." for one, times in Counter(self.names).items() if times > 1
        ]
        if "" in self.names:
            mistakes.append("the empty name stands for the constant 1.")
        if self._values.shape[0] != len(self.names) or not self.length or self.step_minutes < 1:
            mistakes.append(
                f"{len(self.names)} names need an array of so many rows and a step of at least a minute, given "
                f"{self._values.shape} and {step_minutes} min."
            )
        broken = [one for one, row in zip(self.names, self._values, strict=False) if not np.isfinite(row).all()]
        mistakes += [f"the profile {one!r} has a value that is no finite number." for one in broken]
        if mistakes:
            raise ProfileError(name, mistakes)

    def _gather(self, rows: Index, place: Index) -> Floats:
        return self._values[rows[:, None], place]

    def _place(self, row: int, step: int) -> str:
        return f"{self.name}:{self._lines[row][step]}:{self.names[row]}" if self._lines else super()._place(row, step)


class _Combined(Profiles):
    """Several stores as one; a step is as long as the shortest of them."""

    def __init__(self, stores: Sequence[Profiles]) -> None:
        if not stores:
            raise ProfileError("profiles", ["there is no store to combine. Give at least one."])
        owners: dict[str, list[str]] = {}
        for store in stores:
            for one in store.names:
                owners.setdefault(one, []).append(store.name)
        twice = {one: of for one, of in owners.items() if len(of) > 1}
        if twice:
            raise ProfileError(
                "profiles", [f"the name {one!r} is in {' and in '.join(of)}. Rename one." for one, of in twice.items()]
            )
        self._stores = tuple(stores)
        self.name = " and ".join(store.name for store in stores)
        self.names = tuple(one for store in stores for one in store.names)
        self.step_minutes = min(store.step_minutes for store in stores)
        first = next(store for store in stores if store.step_minutes == self.step_minutes)
        self.start, self.length = first.start, first.length
        self._first_row = np.cumsum([0, *(len(store.names) for store in stores)])

    def _gather(self, rows: Index, place: Index) -> Floats:
        raise NotImplementedError  # every part gathers its own, below

    def lowest(self, row: int) -> tuple[float, str, int]:
        """Return the lowest value as the store that holds the profile does."""
        k = int(np.searchsorted(self._first_row, row, side="right")) - 1
        return self._stores[k].lowest(row - int(self._first_row[k]))

    def wraps(self, start: np.datetime64, steps: int, interval_minutes: int | None = None) -> bool:
        """Say whether a window leaves the time that any of the stores holds."""
        interval = self.step_minutes if interval_minutes is None else interval_minutes
        seconds = steps * interval * 60
        return any(store.wraps(start, math.ceil(seconds / (store.step_minutes * 60))) for store in self._stores)

    def window_in_seconds(
        self, rows: Index, start_s: int, steps: int, shift_s: NDArray[np.int64], interval_s: int
    ) -> Floats:
        window = np.ones((len(rows), steps))
        for store, first, behind in zip(self._stores, self._first_row, self._first_row[1:], strict=False):
            mine = (rows >= first) & (rows < behind)
            if mine.any():
                window[mine] = store.window_in_seconds(rows[mine] - first, start_s, steps, shift_s[mine], interval_s)
        return window


def _seconds(time: np.datetime64) -> int:
    """Return seconds since 1970, UTC."""
    return int(time.astype("datetime64[s]").astype(np.int64))
