"""The ways in which a validation tries to break envelopes, one function each (:mod:`network.validation` says what for)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from network.validation_box import Box
from network.validation_draws import DAYS, USES, Crowd, draw_days
from network.validation_measure import KINDS, Measure
from network.validation_opendss import MOST, ThirdOpinion, all_of, spread, third_opinion
from network.validation_referee import SecondOpinion, second_opinion, together
from network.validation_search import flip_search
from network.validation_tally import Case, Tally
from network.vertices import Vertices

__all__ = ["Tell", "Trial", "refereed", "try_corners", "try_dispatch", "try_drawn", "try_neighbours"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]
Tell = Callable[[str, int, int], None]
"""Is told what is being tried, how much of it is done, and of how much."""

_AT_ONCE = 8192
_REFEREED = 0.01
_FEWEST_REFEREED = 20


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What is tried, and by what: the same for every way."""

    measure: Measure
    """The feeder and its limits."""

    box: Box
    """All uses."""

    kept: Index
    """The intervals about which something is promised.  Shape (k,)."""

    corners: Vertices
    rng: np.random.Generator
    tell: Tell
    random: list[tuple[Complex, Vector]] = field(default_factory=list)
    """What was drawn and put aside for the referee: injections and voltages of the source."""


def try_corners(trial: Trial) -> Tally:
    """Try every corner in every interval; as courses, each of them held all the time."""
    measure, box, kept, corners = trial.measure, trial.box, trial.kept, trial.corners
    tally = Tally("corners", "vertices")
    many = corners.signs.shape[1]
    broken, over = np.zeros((many, len(kept)), dtype=bool), np.zeros((4, many))
    for u, interval, number in corners.columns(kept):
        injection, source = box.injection(u, interval), box.source_v_pu[interval]
        names, reading = [corners.names[k] for k in number], measure.read(injection, source)
        tally.add(measure, reading, injection, source, interval, names)
        broken[number, np.searchsorted(kept, interval)] = reading.broken
        for row, excess in zip(over, measure.excess(reading), strict=True):
            np.add.at(row, number, excess)
        trial.tell("corners", tally.tried, len(kept) * many)
    tally.add_courses(broken, over)
    return tally


def try_neighbours(trial: Trial, tried: Tally) -> list[Tally]:
    """Search around the worst corner of each kind, where somebody has an envelope."""
    box, tally = trial.box, Tally("beside the worst corners", "search")
    if not len(box.active):
        return []
    for kind, case in enumerate(tried.worst):
        if case is not None and np.isfinite(case.beyond):
            middle = (box.low_kw[:, case.interval] + box.high_kw[:, case.interval]) / 2.0
            u = (case.injection.real[box.active] > middle).astype(np.float64)
            if box.free_kvar.any():
                u = np.concatenate([u, box.use_of_kvar(case.injection, case.interval)])
            flip_search(trial.measure, box, u, case.interval, kind, trial.rng, tally)
    return [tally]


def _moments(
    rng: np.random.Generator, crowd: Crowd, kept: Index, name: str, count: int, coordinates: int = 1
) -> Iterator[tuple[Vector, Index, int]]:
    """Yield single moments: uses (c' or 2c', S), each coordinate drawn for itself, their intervals, and 0."""
    for begin in range(0, count, _AT_ONCE):
        points = min(_AT_ONCE, count - begin)
        u = np.concatenate([USES[name](rng, crowd, points) for _ in range(coordinates)])
        yield u, kept[rng.integers(0, len(kept), points)], 0


def _whole_days(
    rng: np.random.Generator, crowd: Crowd, kept: Index, count: int, coordinates: int = 1
) -> Iterator[tuple[Vector, Index, int]]:
    """Yield whole days; the third number is how many intervals a day has."""
    steps = len(kept)
    days = max(count // steps, 1) if count else 0
    at_once = max(_AT_ONCE // steps, 1)
    for begin in range(0, days, at_once):
        here = min(at_once, days - begin)
        u = np.concatenate([draw_days(rng, crowd, here, steps) for _ in range(coordinates)])
        yield u.reshape(len(u), -1), np.tile(kept, here), steps


def try_drawn(trial: Trial, crowd: Crowd, name: str, count: int) -> Tally:
    """Try what is drawn in one way of use, and put one in a hundred aside for the referee."""
    measure, box, kept, rng = trial.measure, trial.box, trial.kept, trial.rng
    tally = Tally(name, "sampled", independent=name != DAYS)
    fewest = min(_FEWEST_REFEREED / max(count, 1), 1.0)
    if not len(kept):
        return tally
    if name == DAYS:
        drawn = _whole_days(rng, crowd, kept, count, box.coordinates)
    else:
        drawn = _moments(rng, crowd, kept, name, count, box.coordinates)
    for u, interval, steps in drawn:
        injection, source = box.injection(u, interval), box.source_v_pu[interval]
        reading = measure.read(injection, source)
        tally.add(measure, reading, injection, source, interval)
        if steps:
            over = measure.excess(reading).reshape(4, -1, steps).sum(axis=2)
            tally.add_courses(reading.broken.reshape(-1, steps), over)
        some = rng.random(len(interval)) < max(_REFEREED, fewest)
        trial.random.append((injection[:, some], source[some]))
        trial.tell(name, tally.tried, count)
    return tally


def try_dispatch(trial: Trial, dispatch: Vector) -> Tally:
    """Try what really happened.  An unknown meter is a violation."""
    measure, box = trial.measure, trial.box
    tally = Tally("actual dispatch", "dispatch")
    interval = np.arange(box.intervals)
    injection = box.of_meters(dispatch)
    known = np.isfinite(injection).all(axis=0)
    reading = measure.read(np.where(known, injection, 0.0), box.source_v_pu)
    reading.solved[~known] = False
    reading.beyond[:, ~known] = np.inf
    tally.add(measure, reading, injection, box.source_v_pu, interval)
    tally.add_courses(reading.broken[None, :], measure.excess(reading).sum(axis=1, keepdims=True))
    return tally


def refereed(
    trial: Trial, worst: tuple[Case, ...], *, opendss: bool = False
) -> tuple[SecondOpinion, Vector, ThirdOpinion | None]:
    """Have the worst cases and the random part calculated again; how far each of the worst cases goes, by the referee."""
    by_worst = np.full(len(worst), np.inf)
    opinions: list[SecondOpinion] = []
    others: list[ThirdOpinion] = []
    # an unknown meter cannot be calculated by anybody
    known = [k for k, case in enumerate(worst) if np.isfinite(case.injection).all()]
    left = max(MOST - len(known), 0)
    for ohms in dict.fromkeys([1.0, *(worst[k].impedance for k in known)]):
        mine = [k for k in known if worst[k].impedance == ohms]
        drawn = trial.random if ohms == 1.0 else []
        measure = trial.measure.with_impedance(ohms)
        nothing = np.empty((measure.model.n_connection, 0))
        cases = [worst[k].injection[:, None] for k in mine]
        injection = np.hstack([nothing, *cases, *(one for one, _ in drawn)]).astype(np.complex128)
        source = np.concatenate([[worst[k].source_v_pu for k in mine], *(voltage for _, voltage in drawn)])
        settled = measure.settled(injection, source)
        opinion = second_opinion(measure, settled, source, trial.tell)
        opinions.append(opinion)
        if opendss and not opinion.instead:
            few = spread(len(mine), len(source), len(set(mine) & set(known[:MOST])) + left * (ohms == 1.0))
            others.append(third_opinion(measure.model, settled[:, few], source[few]))
        by_worst[mine] = [opinion.beyond[KINDS.index(worst[k].kind), at] for at, k in enumerate(mine)]
    second = together(opinions)
    return second, by_worst, all_of(others) if opendss and not second.instead else None
