"""What came of trying: counts, sizes and the worst cases of one way of use, added up batch by batch.

The probability of a violation has an upper bound (Clopper and Pearson, 95 %, one-sided): with k of n independent tries
broken, the p at which k or fewer would be seen once in twenty times,

    P(X <= k | n, p) = 0.05,     for k = 0:  p = 1 − 0.05^(1/n) <= 3/n

It bounds the probability under THIS way of use; for corners that are listed, not drawn, it has no meaning and is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from network.validation_measure import KINDS, TOLERANCE, Measure, Reading

__all__ = ["EDGES", "NO_SOLUTION", "Case", "Tally", "clopper_pearson", "longest_runs"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

EDGES: Vector = np.linspace(0.6, 1.4, 801)
"""Edges of the classes in which voltages are counted; what lies outside is counted at the ends. [p.u.]"""

NO_SOLUTION = "the power flow, which does not converge"
"""What is named where no element can be."""

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One operating point that is kept: to be shown, and to be calculated again by the referee."""

    use: str
    """How it came about, for people."""

    kind: str
    """Of :data:`~network.validation_measure.KINDS`, or "" for one that was drawn at random."""

    element: str
    """The bus or branch, with its phase."""

    interval: int

    beyond: float
    """How far the limit is passed, relative to itself: negative where it is kept, inf without a solution."""

    limit: float
    """The limit. [p.u.] or [%]"""

    injection: Complex
    """Of all connections.  Shape (c,). [kW + j kvar]"""

    source_v_pu: float
    """Voltage of the source. [p.u.]"""

    impedance: float = 1.0
    """What the feeder's impedances are multiplied by."""

    @property
    def excess(self) -> float:
        """How far beyond: pu of voltage, per cent of loading."""
        return self.beyond * self.limit


@dataclass(slots=True, eq=False)
class Tally:
    """The sum of what was tried in one way.  Grows by :meth:`add`."""

    name: str
    kind: str
    """"vertices", "search", "sampled", "dispatch", "data" or "message"."""

    counts: bool = True
    """Whether the envelopes promise anything for it: what is outside the promise is told, but decides nothing."""

    independent: bool = False
    """Whether the tries are independent draws."""

    tried: int = 0
    broken: int = 0
    not_converged: int = 0
    kind_broken: Index = field(default_factory=lambda: np.zeros(3, dtype=np.intp))
    """Tries in which each kind of limit was passed.  Shape (3,)."""

    kind_sum: Vector = field(default_factory=lambda: np.zeros(3))
    """Sum of the excess over those that converged. [p.u.], [p.u.], [%]"""

    kind_sized: Index = field(default_factory=lambda: np.zeros(3, dtype=np.intp))
    """How many those are.  Shape (3,)."""

    draws: int = 0
    """Courses in time, where the tries are not alone: days that are drawn, a run, corners that are held all the time."""

    draws_broken: int = 0
    over_sum: Vector = field(default_factory=lambda: np.zeros(4))
    """Excesses, summed over intervals and courses; NaN where a power flow has no solution.  Shape (4,), rows as in
    :data:`~network.validation_measure.EXCESSES`."""

    over_most: Vector = field(default_factory=lambda: np.zeros(4))
    """Of the worst course.  Shape (4,)."""

    runs: int = 0
    """Uninterrupted violations in time."""

    run_intervals: int = 0
    """Their intervals together."""

    longest_run: int = 0
    by_interval: Index = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    """Broken tries in each interval.  Shape (T,)."""

    high_count: Index = field(default_factory=lambda: np.zeros(len(EDGES) - 1, dtype=np.intp))
    """Tries by their highest voltage, in the classes of :data:`EDGES`."""

    low_count: Index = field(default_factory=lambda: np.zeros(len(EDGES) - 1, dtype=np.intp))
    worst: list[Case | None] = field(default_factory=lambda: [None, None, None])
    """The worst case of each kind, kept or not."""

    def add(
        self, measure: Measure, reading: Reading, injection: Complex, source: Vector, interval: Index,
        words: Sequence[str] | None = None, impedance: float = 1.0,
    ) -> None:  # fmt: skip
        """Add a batch.

        Parameters
        ----------
        measure, reading
            What it was measured with, and what came out; S points.
        injection : shape (c, S)
            [kW + j kvar]
        source, interval : shape (S,)
            Voltage of the source [p.u.], and number of the interval.
        words
            What each is, instead of ``name``.
        impedance
            What the feeder's impedances are multiplied by.
        """
        broken = reading.broken
        self.tried += broken.size
        self.broken += int(broken.sum())
        self.not_converged += int((~reading.solved).sum())
        passed = reading.beyond > TOLERANCE
        self.kind_broken = self.kind_broken + passed.sum(axis=1)
        excess = np.nan_to_num(measure.excess(reading)[:3])
        self.kind_sum = self.kind_sum + excess.sum(axis=1)
        self.kind_sized = self.kind_sized + (passed & reading.solved).sum(axis=1)
        intervals = max(len(self.by_interval), int(interval.max(initial=-1)) + 1)
        grown = np.zeros(intervals, dtype=np.intp)
        grown[: len(self.by_interval)] = self.by_interval
        self.by_interval = grown + np.bincount(interval[broken], minlength=intervals)
        inside = (EDGES[0], np.nextafter(EDGES[-1], 0.0))
        for name, values in (("high_count", reading.v_high_pu), ("low_count", reading.v_low_pu)):
            known = values[np.isfinite(values)]
            setattr(self, name, getattr(self, name) + np.histogram(np.clip(known, *inside), EDGES)[0])
        for k in range(3):
            at = int(reading.beyond[k].argmax()) if broken.size else -1
            if at < 0 or reading.beyond[k, at] == -np.inf:
                continue
            best = self.worst[k]
            if best is None or reading.beyond[k, at] > best.beyond:
                place = int(reading.place[k, at])
                self.worst[k] = Case(
                    use=self.name if words is None else words[at],
                    kind=KINDS[k],
                    element=measure.elements[place] if place >= 0 else NO_SOLUTION,
                    interval=int(interval[at]),
                    beyond=float(reading.beyond[k, at]),
                    limit=float(measure.limits[place]) if place >= 0 else 1.0,
                    injection=injection[:, at].copy(),
                    source_v_pu=float(source[at]),
                    impedance=impedance,
                )

    def add_courses(self, broken: Mask, over: Vector) -> None:
        """Add how long violations last, and how large they are over time.

        Parameters
        ----------
        broken : shape (courses, T)
            Which intervals break a limit.
        over : shape (4, courses)
            Excesses summed over the intervals.
        """
        if not len(broken):
            return
        self.over_sum = self.over_sum + over.sum(axis=1)
        self.over_most = np.maximum(self.over_most, over.max(axis=1))
        self.draws += len(broken)
        self.draws_broken += int(broken.any(axis=1).sum())
        runs, together, longest = longest_runs(broken)
        self.runs, self.run_intervals = self.runs + runs, self.run_intervals + together
        self.longest_run = max(self.longest_run, longest)

    @property
    def probability(self) -> float:
        """Share of the tries that broke a limit."""
        return self.broken / self.tried if self.tried else np.nan

    @property
    def probability_at_most(self) -> float:
        """The upper bound of Clopper and Pearson; of whole days: that of a day with a violation."""
        if self.draws and self.kind == "sampled":
            return clopper_pearson(self.draws_broken, self.draws)
        return clopper_pearson(self.broken, self.tried) if self.independent else np.nan

    def over(self, interval_h: float) -> tuple[Vector, Vector]:
        """Return the excesses over time of the mean and of the worst course: pu·h, pu·h, %·h and kVAh.

        NaN where there is no course, where a power flow in one has no solution, and for the mean of corners, which has no meaning.
        """
        if not self.draws:
            return np.full(4, np.nan), np.full(4, np.nan)
        mean = np.full(4, np.nan) if self.kind == "vertices" else self.over_sum / self.draws * interval_h
        return mean, self.over_most * interval_h

    @property
    def mean_excess(self) -> Vector:
        """Mean size of the violations of each kind, NaN without any.  Shape (3,). [p.u.], [p.u.], [%]"""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(self.kind_sized > 0, self.kind_sum / np.maximum(self.kind_sized, 1), np.nan))

    @property
    def worst_case(self) -> Case | None:
        """The worst of all kinds."""
        known = [case for case in self.worst if case is not None]
        return max(known, key=lambda case: case.beyond, default=None)


def clopper_pearson(broken: int, tried: int, confidence: float = _CONFIDENCE) -> float:
    """Return the upper bound of a probability of which ``broken`` of ``tried`` independent tries tell.

    Examples
    --------
    Nothing in three hundred: less than one per cent, as the rule of three says.

    >>> round(clopper_pearson(0, 300), 6)
    0.009936
    """
    from scipy.special import betaincinv

    if not tried:
        return np.nan
    return 1.0 if broken >= tried else float(betaincinv(broken + 1, tried - broken, confidence))


def longest_runs(broken: Mask) -> tuple[int, int, int]:
    """Return how many uninterrupted runs of True the rows have, their length together, and the longest.

    >>> longest_runs(np.array([[True, True, False, True], [False, False, True, True]]))
    (3, 5, 2)
    """
    if not broken.size:
        return 0, 0, 0
    padded = np.zeros((len(broken), broken.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = broken
    step = np.diff(padded, axis=1)
    length = np.nonzero(step == -1)[1] - np.nonzero(step == 1)[1]
    return len(length), int(length.sum()), int(length.max(initial=0))
