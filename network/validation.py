"""Validation: everything that can be done inside envelopes is tried, and what breaks is named.

An envelope promises that every use inside it keeps every limit.  :func:`validate` tries to prove the opposite by AC power
flow (:mod:`network.validation_measure`: every limit of every try):

1. the corners at which a linear row can be worst (:mod:`network.vertices`), in every interval;
2. from the worst of them, customers turned round one by one and two by two (:mod:`network.validation_search`);
3. drawn uses, independent and correlated (:mod:`network.validation_draws`);
4. what really happened, where the meters of a run are given;
5. outside of the promise, told but not counted: other loads, impedances and source voltages than assumed
   (:mod:`network.validation_data`), and messages that go wrong (:mod:`network.message_faults`);
6. the worst case of each kind and way, and one in a hundred of all draws, calculated again by power-grid-model, or by OpenDSS
   on a feeder that power-grid-model does not know (:mod:`network.validation_referee`); on request the worst cases by OpenDSS too
   (:mod:`network.validation_opendss`).

``status`` is "safe" only if nothing of 1 to 4 broke a limit, every power flow converged and the referees agree.  NaN and
non-convergence are violations.

Limits: sampling proves nothing about what was not sampled; corners are exact for linear rows only.  ``probability_at_most``
says what a sample without violations is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.envelope_asked import Limits, bounds_of
from network.equity import Equity, equity
from network.headroom import Headroom
from network.reactive import VoltVar
from network.referee_choice import instead
from network.validation_box import Box, ValidationError, box_of
from network.validation_data import Doubts, doubtful
from network.validation_draws import DAYS, USES, Crowd, uses_of
from network.validation_measure import EXCESSES, KINDS, Measure
from network.validation_messages import Messages, misled
from network.validation_opendss import ThirdOpinion
from network.validation_referee import SecondOpinion
from network.validation_tally import Case, Tally
from network.validation_tries import Trial, refereed, try_corners, try_dispatch, try_drawn, try_neighbours
from network.validation_unbalance import worst_unbalance
from network.validation_value import conservatism, largest_factor
from network.vertices import Vertices, areas, vertices

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Validation", "ValidationError", "validate"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Validation:
    """What was tried against envelopes, and what broke."""

    status: str
    """"safe", "unsafe", or "unconfirmed" where a referee does not agree."""

    tallies: tuple[Tally, ...]
    """One for each way of use."""

    worst: tuple[Case, ...]
    """The worst case of each kind of limit in each way of use, the worst first."""

    certificate: SecondOpinion
    """What the referee says of them, and of one in a hundred of all draws."""

    worst_refereed: Vector
    """How far each of ``worst`` passes its limit, by the referee.  Shape (len(worst),)."""

    opendss: ThirdOpinion | None
    """What OpenDSS says of the worst cases and of some draws; None where it was not to be asked, or is the referee itself."""

    patterns: Vertices
    """The corners that were tried."""

    bounds: tuple[Vector, Vector, Vector]
    """Lowest and highest voltage of every bus, highest loading of every branch; 0 and inf: none. [p.u.], [p.u.], [%]"""

    factor: Vector
    """By how much each interval's envelope could be multiplied: 1 is AC-exact, below 1 unsafe.  Shape (T,)."""

    conservatism_export: float
    """Share of the AC-exact export that the envelope gives away; negative: it promises more; NaN: no end was found."""

    conservatism_import: float
    """Likewise."""

    headroom: float
    """What is left at the worst corner, relative to its limit: negative where it is passed."""

    equity_export: Equity
    """How evenly the means over all intervals are shared over those with an envelope: one column."""

    equity_import: Equity
    """Likewise."""

    unbalance_percent: float
    """Largest negative- over positive-sequence voltage at any corner, NaN in a balanced model. [%]"""

    unbalance_bus: str
    """Where."""

    left_out: Index
    """Intervals about which nothing is promised (no envelope was feasible).  Shape (k,)."""

    interval_h: float
    """Length of an interval. [h]"""

    @property
    def safe(self) -> bool:
        """Whether nothing that is promised broke, and the referees agree."""
        return self.status == "safe"

    @property
    def tried(self) -> int:
        """How many uses were tried."""
        return sum(tally.tried for tally in self.tallies)

    @property
    def broken(self) -> tuple[Tally, ...]:
        """The promised ways of use in which something broke."""
        return tuple(tally for tally in self.tallies if tally.counts and tally.broken)

    @property
    def worst_case(self) -> Case | None:
        """The worst of what is promised."""
        promised = {tally.name for tally in self.tallies if tally.counts}
        kept = [case for tally in self.tallies if tally.name in promised if (case := tally.worst_case) is not None]
        return max(kept, key=lambda case: case.beyond, default=None)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each way of use."""
        import pandas as pd

        rows = []
        for one in self.tallies:
            row: dict[str, object] = {
                "use": one.name,
                "kind": one.kind,
                "promised": one.counts,
                "tried": one.tried,
                "violations": one.broken,
                "not_converged": one.not_converged,
                "probability": one.probability,
                "probability_at_most": one.probability_at_most,
                "violation_runs": one.runs,
                "mean_duration_h": one.run_intervals / one.runs * self.interval_h if one.runs else np.nan,
                "longest_duration_h": one.longest_run * self.interval_h if one.draws else np.nan,
            }
            for k, kind in enumerate(KINDS):
                case = one.worst[k]
                unit = "percent" if kind == "overload" else "pu"
                row[f"{kind}_violations"] = int(one.kind_broken[k])
                row[f"{kind}_worst_{unit}"] = np.nan if case is None else case.excess
                row[f"{kind}_mean_{unit}"] = float(one.mean_excess[k])
                row[f"{kind}_element"] = "" if case is None else case.element
            for (kind, unit), mean, most in zip(EXCESSES, *one.over(self.interval_h), strict=True):
                hours = "kvah" if unit == "kva" else f"{unit}_h"
                row[f"{kind}_mean_{hours}"], row[f"{kind}_most_{hours}"] = float(mean), float(most)
            rows.append(row)
        return pd.DataFrame(rows)


def validate(
    model: Model,
    import_limit_kw: ArrayLike,
    export_limit_kw: ArrayLike,
    base_injection_kw: ArrayLike,
    base_injection_kvar: ArrayLike,
    limits: Limits,
    *,
    firm_charge_kw: ArrayLike | None = None,
    source_v_pu: ArrayLike | None = None,
    kvar_per_kw: ArrayLike | None = None,
    free_kvar: ArrayLike | None = None,
    curve: VoltVar | None = None,
    samples: int = 100_000,
    seed: int = 0,
    uses: Sequence[str] | None = None,
    interval_h: float = 0.25,
    promised: ArrayLike | None = None,
    import_cap_kw: ArrayLike | None = None,
    export_cap_kw: ArrayLike | None = None,
    dispatch_injection_kw: ArrayLike | None = None,
    doubts: Doubts | None = None,
    messages: Messages | None = None,
    unbalance_max_percent: float = np.inf,
    opendss: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Validation:
    """Try everything that can be done inside envelopes.

    Parameters
    ----------
    model
        The feeder with its c connections.
    import_limit_kw, export_limit_kw : shape (c, T)
        The envelopes; inf in both for a connection that has none. [kW]
    base_injection_kw, base_injection_kvar : shape (c, T)
        What those without an envelope inject, and the reactive power of all (a load is negative). [kW], [kvar]
    limits
        What the network must keep.
    firm_charge_kw : shape (c, T)
        What a connection must draw at least; None: nothing. [kW]
    source_v_pu : number or shape (T,)
        Voltage of the source; None: as the feeder says. [p.u.]
    kvar_per_kw : shape (c,)
        Reactive injection for each kW of active injection inside an envelope; None: none. [kvar/kW]
    free_kvar : shape (c,)
        Reactive power that may be anything within ± this, whatever the active power is; None: none. [kvar]
    curve
        Reactive power that follows the voltage, on top; None: none.
    samples
        Uses to be drawn, all ways together.
    seed
        Of the draws.
    uses
        Names of :data:`~network.validation_draws.USES` and "time_correlated"; None: all that make sense.
    interval_h
        Length of an interval. [h]
    promised : shape (T,)
        Intervals whose envelope promises anything; None: all.
    import_cap_kw, export_cap_kw : shape (c,)
        What each could use at most, for conservatism and equity; None: unknown. [kW]
    dispatch_injection_kw : shape (c, T)
        What really was injected by those with an envelope; None: not known. [kW]
    doubts
        Other data than assumed; None: not tried.
    messages
        What customers do when messages go wrong; None: not tried.
    unbalance_max_percent
        Highest voltage unbalance factor allowed at a corner; inf: none. [%]
    opendss
        Whether OpenDSS is to be asked too; where it cannot, the answer says why, and nothing hangs on it.
    progress
        Is told what is being tried, how much of it is done, and of how much.
    """
    box = box_of(
        model, import_limit_kw, export_limit_kw, firm_charge_kw, base_injection_kw, base_injection_kvar, source_v_pu, kvar_per_kw,
        free_kvar,
    )  # fmt: skip
    bounds = _checked(model, box, limits, samples, uses, promised, dispatch_injection_kw)
    kept = np.arange(box.intervals) if promised is None else np.flatnonzero(np.asarray(promised, dtype=bool))
    measure, watched = Measure(Headroom(model, *bounds, curve)), (bounds[1] < np.inf) | (bounds[0] > 0)
    corners = vertices(model, box.active, watched, bounds[2], box.reach_kva, box.kvar_per_kw, box.free_kvar)
    tell = progress or (lambda _name, _done, _of: None)
    trial = Trial(measure, box, kept, corners, np.random.default_rng(seed), tell)
    tallies = _promised(trial, samples, uses, dispatch_injection_kw)
    tallies += [] if doubts is None else doubtful(trial, doubts)
    tallies += [] if messages is None else misled(trial, messages)
    caps = (_cap(import_cap_kw, box), _cap(export_cap_kw, box))
    return _judged(trial, tallies, caps, unbalance_max_percent, interval_h, opendss=opendss)


def _promised(
    trial: Trial, samples: int, uses: Sequence[str] | None, dispatch_injection_kw: ArrayLike | None
) -> list[Tally]:
    """Try what envelopes promise: corners, what is beside them, draws, and what really happened."""
    crowd = _crowd(trial.measure.model, trial.box.active)
    tallies = [try_corners(trial)]
    tallies += try_neighbours(trial, tallies[0])
    chosen = uses_of(crowd, len(trial.kept)) if uses is None else tuple(uses)
    for k, name in enumerate(chosen):
        tallies.append(try_drawn(trial, crowd, name, samples // len(chosen) + (k < samples % len(chosen))))
    if dispatch_injection_kw is not None:
        tallies.append(try_dispatch(trial, np.asarray(dispatch_injection_kw, dtype=np.float64)))
    return tallies


def _judged(
    trial: Trial, tallies: list[Tally], caps: tuple[Vector | None, Vector | None], unbalance_max_percent: float,
    interval_h: float, *, opendss: bool,
) -> Validation:  # fmt: skip
    """Have the worst calculated again, and say what it all comes to; caps of import and export, shape (c',)."""
    measure, box, kept, corners = trial.measure, trial.box, trial.kept, trial.corners
    unbalance, where, beyond_unbalance = worst_unbalance(trial, unbalance_max_percent)
    cases = (case for tally in tallies for case in tally.worst if case is not None)
    worst = tuple(sorted(cases, key=lambda case: -case.beyond))
    certificate, worst_refereed, third = refereed(trial, worst, opendss=opendss)
    confirmed = certificate.agrees and (third is None or third.agrees)
    broken = any(tally.counts and tally.broken for tally in tallies) or beyond_unbalance
    factor = np.full(box.intervals, np.nan)
    if len(kept) and len(box.active):
        both = None if caps[0] is None or caps[1] is None else (caps[0], caps[1])
        factor[kept] = largest_factor(measure, box.of_intervals(kept), corners, both)
    case = tallies[0].worst_case
    imports, exports = -box.low_kw[:, kept], np.maximum(box.high_kw[:, kept], 0.0)
    return Validation(
        status="unsafe" if broken else "safe" if confirmed else "unconfirmed",
        tallies=tuple(tallies),
        worst=worst,
        certificate=certificate,
        worst_refereed=worst_refereed,
        opendss=third,
        patterns=corners,
        bounds=measure.headroom.bounds,
        factor=factor,
        conservatism_export=conservatism(exports, factor[kept], caps[1]),
        conservatism_import=conservatism(imports, factor[kept], caps[0]),
        headroom=np.inf if case is None else -case.beyond,
        equity_export=equity(_mean(exports), caps[1]),
        equity_import=equity(_mean(imports), caps[0]),
        unbalance_percent=unbalance,
        unbalance_bus=where,
        left_out=np.setdiff1d(np.arange(box.intervals), kept),
        interval_h=interval_h,
    )


def _checked(
    model: Model,
    box: Box,
    limits: Limits,
    samples: int,
    uses: Sequence[str] | None,
    promised: ArrayLike | None,
    dispatch: ArrayLike | None,
) -> tuple[Vector, Vector, Vector]:
    """Return the bounds of all buses and branches, or say everything that is wrong."""
    wrong = [] if samples >= 0 else [f"samples is {samples}; expected zero or more."]
    known = (*USES, DAYS)
    wrong += [
        f"there is no way of use {name!r}. There are {', '.join(known)}." for name in uses or () if name not in known
    ]
    if promised is not None and np.asarray(promised).shape != (box.intervals,):
        wrong.append(f"promised has shape {np.asarray(promised).shape}; expected ({box.intervals},).")
    if dispatch is not None:
        given, expected = np.asarray(dispatch, dtype=np.float64).shape, (model.n_connection, box.intervals)
        if given != expected:
            wrong.append(f"dispatch_injection_kw has shape {given}; expected {expected}.")
    bounds = bounds_of(model, limits, wrong)
    if wrong or bounds is None:
        raise ValidationError("the envelope cannot be validated: " + " ".join(wrong))
    instead(model)  # whether there is a referee at all: told before everything is tried
    return bounds


def _crowd(model: Model, active: Index) -> Crowd:
    phases = [model.connection_phase[k] for k in active]
    there = sorted(set(phases))
    area = np.unique(areas(model)[active], return_inverse=True)[1]
    return Crowd(np.array([there.index(phase) for phase in phases], dtype=np.intp), np.asarray(area, dtype=np.intp))


def _cap(given: ArrayLike | None, box: Box) -> Vector | None:
    return None if given is None else np.asarray(given, dtype=np.float64)[box.active]


def _mean(limit_kw: Vector) -> Vector:
    """Return the mean of each over all intervals; NaN of none.  Shape (c', 1)."""
    return limit_kw.mean(axis=1, keepdims=True) if limit_kw.shape[1] else np.full((len(limit_kw), 1), np.nan)
