"""Hosting capacity: how much solar power (or load) a feeder takes, and what stops it.

One number would hide who gets it, so customers are drawn.  A placement is a random order of the candidates; each in turn
gets its plant of ``size_kw`` until some limit of the feeder is met, in some interval::

    injection_i(a) = base_i ± profile_t · clip(a − Σ sizes of those before i, 0, size_i)                   (1)

and the placement's capacity is the smallest a at which a limit is met, by AC power flow.  After every plant all limits are
looked at (what one phase adds may lower another, so nothing is presumed to rise); within the plant at which one broke the
last safe size comes from :func:`network.furthest.furthest`.  Over many placements [1]_

    firm     the smallest: whoever builds, the feeder carries it      median      maximum

With D placements, at most 1 − 0.05^(1/D) of all placements lie below the firm capacity (95 %, Clopper and Pearson), and the
median lies between two order statistics.  Besides, for each customer alone: how much before the first limit.

Infeasible: where a limit is broken before anything is added, the capacity is 0 and the element is named.

References
----------
.. [1] M. Rylander and J. Smith, "Stochastic analysis to determine feeder hosting capacity for distributed solar PV", EPRI
   1026640, 2012.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.envelope_asked import Limits, bounds_of
from network.furthest import furthest
from network.headroom import Headroom
from network.validation_measure import KINDS, Measure, Reading
from network.validation_tally import clopper_pearson

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Hosting", "HostingError", "hosting"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]
Text = NDArray[np.str_]

_Stopped = tuple[Vector, Text, Text, Index]
"""What D placements carry, what stops them, of which kind that is, and when.  Shape (D,) each."""

_AT_ONCE = 4096
_CONFIDENCE = 0.95


class HostingError(ValueError):
    """The hosting capacity as asked for cannot be computed; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Hosting:
    """The capacity of D placements and of c customers alone."""

    status: str
    """"ok", or "infeasible" where a limit is broken before anything is added."""

    infeasible_by: str
    """The element, "" where all is well."""

    kind: str
    """"pv" or "load"."""

    capacity_kw: Vector
    """What each placement carries.  Shape (D,). [kW]"""

    element: Text
    """What stops it: id of the bus or branch, "" where all candidates have their plant.  Shape (D,)."""

    limit_kind: Text
    """Of :data:`~network.validation_measure.KINDS`, or "".  Shape (D,)."""

    interval: Index
    """In which interval, −1 where nothing stops it.  Shape (D,)."""

    order: Index
    """The candidates in the order of each placement, as connection numbers.  Shape (D, n)."""

    size_kw: Vector
    """Plant of each connection.  Shape (c,). [kW]"""

    alone_kw: Vector
    """What each customer could add alone, NaN for one that is no candidate.  Shape (c,). [kW]"""

    alone_element: Text
    """What stops it then, "" where ``alone_max_kw`` is reached.  Shape (c,)."""

    alone_max_kw: float
    """Up to where that was looked. [kW]"""

    @property
    def firm_kw(self) -> float:
        """The smallest capacity of all placements. [kW]"""
        return float(self.capacity_kw.min(initial=np.inf)) if len(self.capacity_kw) else np.nan

    @property
    def median_kw(self) -> float:
        """[kW]"""
        return float(np.median(self.capacity_kw)) if len(self.capacity_kw) else np.nan

    @property
    def maximum_kw(self) -> float:
        """[kW]"""
        return float(self.capacity_kw.max()) if len(self.capacity_kw) else np.nan

    @property
    def below_firm_at_most(self) -> float:
        """Share of all placements that may lie below the firm capacity, with a confidence of 95 %."""
        return clopper_pearson(0, len(self.capacity_kw))

    @property
    def median_between_kw(self) -> tuple[float, float]:
        """Bounds of the median of all placements, with a confidence of 95 %; NaN of fewer than six placements. [kW]"""
        from scipy.special import bdtr

        rising, n = np.sort(self.capacity_kw), len(self.capacity_kw)
        k = int((bdtr(np.arange(n), n, 0.5) <= (1.0 - _CONFIDENCE) / 2.0).sum())  # so many may lie below it, and above
        return (float(rising[k - 1]), float(rising[n - k])) if k else (np.nan, np.nan)

    def violation_probability(self, installed_kw: ArrayLike) -> Vector:
        """Return the share of placements in which a limit is passed once so much is installed.  Any shape. [kW] to [1]"""
        asked = np.asarray(installed_kw, dtype=np.float64)
        stopped = np.sort(self.capacity_kw[self.element != ""])
        return np.asarray(np.searchsorted(stopped, asked, side="left") / max(len(self.capacity_kw), 1))

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each placement."""
        import pandas as pd

        return pd.DataFrame(
            {
                "placement": np.arange(len(self.capacity_kw)),
                "capacity_kw": self.capacity_kw,
                "element": self.element,
                "kind": self.limit_kind,
                "interval": self.interval,
            }
        )


def hosting(
    model: Model,
    base_injection_kw: ArrayLike,
    base_injection_kvar: ArrayLike,
    limits: Limits,
    size_kw: ArrayLike,
    *,
    kind: str = "pv",
    profile: ArrayLike | None = None,
    candidates: ArrayLike | None = None,
    placements: int = 1000,
    seed: int = 0,
    kvar_per_kw: float = 0.0,
    alone_max_kw: float = 1000.0,
    source_v_pu: ArrayLike | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Hosting:
    """Add plants at random customers until the first limit is met.

    Parameters
    ----------
    model
        The feeder with its c connections.
    base_injection_kw, base_injection_kvar : shape (c, T)
        What everybody injects without them, in the intervals that matter (a load is negative). [kW], [kvar]
    limits
        What the network must keep.
    size_kw : number or shape (c,)
        Plant of each candidate. [kW]
    kind
        "pv": plants inject; "load": they draw.
    profile : shape (T,)
        What a plant of 1 kW does in each interval, 0 to 1; None: 1 always.
    candidates : shape (c,)
        Who may get one; None: everybody.
    placements
        How many orders are drawn.
    seed
        Of the draws.
    kvar_per_kw
        Reactive power for each kW of a plant, with its sign. [kvar/kW]
    alone_max_kw
        How far each customer alone is followed. [kW]
    source_v_pu : number or shape (T,)
        Voltage of the source; None: as the feeder says. [p.u.]
    progress
        Is told what is done, how much, and of how much.
    """
    base = np.asarray(base_injection_kw, dtype=np.float64) + 1j * np.asarray(base_injection_kvar, dtype=np.float64)
    bounds, size, share, who = _checked(
        model, limits, base, size_kw, kind, profile, candidates, placements, alone_max_kw
    )
    source = model.source_voltage(source_v_pu, base.shape[1])
    headroom = Headroom(model, *bounds)
    measure = Measure(headroom)
    added: Complex = np.asarray((1.0 if kind == "pv" else -1.0) * (1.0 + 1j * kvar_per_kw) * share, dtype=np.complex128)
    rng = np.random.default_rng(seed)
    order = np.array([rng.permutation(who) for _ in range(placements)], dtype=np.intp).reshape(placements, len(who))
    reading = measure.read(base, source)
    search = _Search(headroom, base, added, source)
    if reading.broken.any():
        status, by, found = "infeasible", *_nowhere(measure, reading, placements)
        alone_kw = np.where(np.isin(np.arange(model.n_connection), who), 0.0, np.nan)
        alone: tuple[Vector, Text] = (alone_kw, np.where(np.isnan(alone_kw), "", by))
    else:
        status, by, found = "ok", "", _placed(measure, search, order, size, progress)
        alone = search.alone(who, alone_max_kw)
    return Hosting(status, by, kind, *found, order, size, *alone, alone_max_kw)


def _nowhere(measure: Measure, reading: Reading, placements: int) -> tuple[str, _Stopped]:
    """Return what is broken before anything is added, and placements that all carry nothing because of it."""
    at = np.unravel_index(reading.beyond.argmax(), reading.beyond.shape)
    place = int(reading.place[at])
    name = measure.elements[place] if place >= 0 else "not_converged"
    named = np.full(placements, name, dtype=object)
    return name, (
        np.zeros(placements), named.astype(np.str_), np.full(placements, KINDS[at[0]]), np.full(placements, at[1])
    )  # fmt: skip


def _placed(
    measure: Measure, search: _Search, order: Index, size: Vector, progress: Callable[[str, int, int], None] | None
) -> _Stopped:
    """Fill each placement until something stops it."""
    many = len(order)
    capacity, when = np.empty(many), np.empty(many, dtype=np.intp)
    element, what = np.empty(many, dtype=object), np.empty(many, dtype=object)
    for begin in range(0, many, search.at_once):
        part = slice(begin, min(begin + search.at_once, many))
        built, step = _first_broken(measure, search, order[part], size)
        capacity[part], element[part], what[part], when[part] = search.last_plant(built, order[part], step, size)
        if progress is not None:
            progress("placements", part.stop, many)
    return capacity, element.astype(np.str_), what.astype(np.str_), when


def _checked(
    model: Model, limits: Limits, base: Complex, size_kw: ArrayLike, kind: str, profile: ArrayLike | None,
    candidates: ArrayLike | None, placements: int, alone_max_kw: float,
) -> tuple[tuple[Vector, Vector, Vector], Vector, Vector, Index]:  # fmt: skip
    """Return the bounds, the sizes (c,), the profile (T,) and the candidates, or say everything that is wrong."""
    c, wrong = model.n_connection, []
    if base.ndim != 2 or base.shape[0] != c or not base.shape[1] or not np.isfinite(base).all():
        wrong.append(
            f"the base injections have shape {base.shape}; expected finite numbers, one row for each of the {c} connections and at "
            f"least one interval."
        )
    size = np.asarray(size_kw, dtype=np.float64)
    if size.shape not in ((), (c,)) or not (np.isfinite(size) & (size > 0)).all():
        wrong.append(f"size_kw has shape {size.shape}; expected one positive number, or {c}.")
    steps = base.shape[1] if base.ndim == 2 else 1
    share = np.ones(steps) if profile is None else np.asarray(profile, dtype=np.float64)
    if share.shape != (steps,) or not ((share >= 0) & (share <= 1)).all() or not share.any():
        wrong.append(f"profile has shape {share.shape}; expected {steps} numbers between 0 and 1, one of them above 0.")
    chosen = np.ones(c, dtype=bool) if candidates is None else np.asarray(candidates, dtype=bool)
    if chosen.shape != (c,) or not chosen.any():
        wrong.append(f"candidates has shape {chosen.shape}; expected {c} truth values, one of them true.")
    if kind not in ("pv", "load"):
        wrong.append(f'kind is {kind!r}; expected "pv" or "load".')
    if placements < 0:
        wrong.append(f"placements is {placements}; expected zero or more.")
    if not 0 < alone_max_kw < np.inf:
        wrong.append(f"alone_max_kw is {alone_max_kw:g}; expected a positive number.")
    bounds = bounds_of(model, limits, wrong)
    if wrong or bounds is None:
        raise HostingError("the hosting capacity cannot be computed: " + " ".join(wrong))
    return bounds, np.broadcast_to(size, (c,)).astype(np.float64), share, np.flatnonzero(chosen)


def _first_broken(measure: Measure, search: _Search, order: Index, size: Vector) -> tuple[Vector, Index]:
    """Return what each placement has built before the plant that breaks a limit (D, c), and its number (n: none does)."""
    many, plants = order.shape
    built = np.zeros((many, len(size)))
    step = np.full(many, plants, dtype=np.intp)
    left = np.arange(many)
    for k in range(plants):
        rows = order[left, k]
        built[left, rows] = size[rows]
        injection, source = search.columns(built[left].T)
        broken = measure.read(injection, source).broken.reshape(len(left), -1).any(axis=1)
        ended = left[broken]
        step[ended] = k
        built[ended, order[ended, k]] = 0.0
        left = left[~broken]
        if not left.size:
            break
    return built, step


class _Search:
    """Looks for the last safe size of one more plant."""

    def __init__(self, headroom: Headroom, base: Complex, added: Complex, source: Vector) -> None:
        self._headroom, self._base, self._added, self._source = headroom, base, added, source
        self.at_once = max(_AT_ONCE // max(len(source), 1), 1)
        """Placements whose operating points fit into memory together."""
        sizes = (len(headroom.above), len(headroom.below), len(headroom.rated))
        self._kinds = np.array([*np.repeat(KINDS, sizes), "not_converged", ""])
        self._names = np.array([*headroom.elements, "not_converged", ""])

    def columns(self, built: Vector) -> tuple[Complex, Vector]:
        """Return the injections of placements (c, D) in all intervals, D · T columns, and the source's voltages."""
        injection = self._base[:, None, :] + built[:, :, None] * self._added
        return injection.reshape(len(built), -1), np.tile(self._source, built.shape[1])

    def last_plant(self, built: Vector, order: Index, step: Index, size: Vector) -> tuple[Vector, Text, Text, Index]:
        """Return the capacity of placements (D,), and what stops them where and when."""
        many, plants = order.shape
        total = built.sum(axis=1)
        name, kind, when = (
            np.full(many, "", dtype=object),
            np.full(many, "", dtype=object),
            np.full(many, -1, dtype=np.intp),
        )
        ended = np.flatnonzero(step < plants)
        if ended.size:
            rows = order[ended, step[ended]]
            more, row, when[ended] = self._further(built[ended].T, rows, size[rows])
            total[ended] += more
            name[ended], kind[ended] = self._names[row], self._kinds[row]
        return total, name, kind, when

    def alone(self, who: Index, most_kw: float) -> tuple[Vector, Text]:
        """Return what each customer could add alone, and what stops it.  Shape (c,)."""
        c = len(self._base)
        found, names = np.full(c, np.nan), np.full(c, "", dtype=object)
        for begin in range(0, len(who), self.at_once):
            some = who[begin : begin + self.at_once]
            more, row, _ = self._further(np.zeros((c, len(some))), some, np.full(len(some), most_kw))
            found[some], names[some] = more, self._names[row]
        return found, names.astype(np.str_)

    def _further(self, built: Vector, plant: Index, size: Vector) -> tuple[Vector, Index, Index]:
        """Return how much of one more plant is safe for each of D placements, which limit is met, and in which interval."""
        start, source = self.columns(built)
        steps = len(self._source)
        rows = np.repeat(plant, steps)
        grown = (np.repeat(size, steps) * np.tile(self._added, len(plant))).astype(np.complex128)

        def path(share: Vector, columns: Index) -> Complex:
            injection = start[:, columns].copy()
            injection[rows[columns], np.arange(len(columns))] += share * grown[columns]
            return injection

        reach = furthest(self._headroom, path, source, np.zeros(len(source)))
        share, row = reach.share.reshape(-1, steps), reach.row.reshape(-1, steps)
        share = np.where(reach.safe.reshape(share.shape), share, 0.0)
        when = share.argmin(axis=1)
        at = np.arange(len(plant))
        return share[at, when] * size, row[at, when], when
