"""Envelopes as messages: what is sent to a customer, and which limits it keeps when messages go wrong.

An envelope travels as controls, one for each customer and interval, in whole watts, rounded so that a limit is never wider than
it was computed (:func:`watts`).  A control may say one direction or both.  Besides them every customer has a default for both
directions.  What a customer keeps at a moment t follows from what it holds by then, for each direction by itself (:func:`in_force`)::

    it counts the controls that are addressed to it, have arrived, say this direction, have begun, have not ended
    and are not cancelled; among them the one of the lowest primacy, then of the latest creation, then the tighter
    limit; where there is none, its default                                                            (1)

A control that a better one overlaps is superseded from the moment on at which the better one takes effect, for the rest of its
time, and does not come back when the better one ends or is cancelled [1]_.  A control that arrives after its start takes effect when it arrives; one that
is cancelled before its start supersedes nothing.  So a gap, a lost message, a late one before it arrives, and one for somebody
else all end in the default, never in "no limit".  Mailboxes of the simulation, files and the faults of a validation
(:mod:`network.message_faults`) all ask here.

Controls have no randomised starts: an envelope that binds at a random moment is none.

References
----------
.. [1] IEEE 2030.5-2018, Smart Energy Profile, event rules of the common functionality and the DER function set (primacy,
   creation time, "superseded events SHALL be terminated").
.. [2] Common Smart Inverter Profile Australia, SA HB 218: opModImpLimW and opModExpLimW, limits at the connection point.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Controls", "Defaults", "InForce", "MessageError", "in_force", "messages_of", "watts"]

Vector = NDArray[np.float64]
Whole = NDArray[np.int64]
Times = NDArray[np.datetime64]
Text = NDArray[np.object_]

PRIMACY = 1
"""Of envelopes: contracted services; 0 is the home's own manager. Lower goes first."""

NEVER = np.datetime64("NaT", "s")

_PAIRS_AT_ONCE = 1 << 20
"""Moments times controls that are looked at together."""

_INT16 = 32_767
"""Largest value that IEEE 2030.5 sends: above, the multiplier counts tens, hundreds, … of watts."""


class MessageError(ValueError):
    """The messages as given cannot be used; the message lists every mistake."""

    def __init__(self, mistakes: Sequence[str]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


def watts(limit_kw: ArrayLike) -> Vector:
    """Return limits in whole watts that can be sent, none of them wider than it was.

    Parameters
    ----------
    limit_kw
        Zero or more; inf: no limit, which no message says (it stays inf). Any shape. [kW]

    Returns
    -------
    The same shape. [W]

    Examples
    --------
    >>> watts([4.2, 4.2 - 1e-12, 0.0009, 40.0047]).tolist()
    [4200.0, 4199.0, 0.0, 40000.0]
    """
    limit = np.asarray(limit_kw, dtype=np.float64)
    if not (limit >= 0).all():
        odd = limit[~(limit >= 0)].ravel()[0]
        raise MessageError([f"a limit of {odd:g} kW cannot be sent; expected zero or more."])
    found, step = np.full(limit.shape, np.inf), 1.0
    left = np.isfinite(limit)
    while left.any():
        value = np.floor(np.where(left, limit, 0.0) * 1e3 / step)
        value = np.where((value + 1) * step / 1e3 <= limit, value + 1, value)  # 4.2 kW are 4200 W
        value = np.where(value * step / 1e3 > limit, value - 1, value)
        fits = left & (value <= _INT16)
        found = np.where(fits, value * step, found)
        left, step = left & ~fits, step * 10
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Controls:
    """Messages that were sent, one row each, k of them.  Times are UTC, to the second."""

    mrid: tuple[str, ...]
    """Name of the message, unique; 32 hexadecimal digits where it goes out as CSIP-AUS."""

    agent_id: tuple[str, ...]
    """For whom it is."""

    receiver_id: tuple[str, ...]
    """Who got it; another one acts on nothing."""

    start: Times
    """When it binds.  Shape (k,)."""

    duration_s: Whole
    """How long.  Shape (k,). [s]"""

    created_at: Times
    """When the operator made it.  Shape (k,)."""

    received_at: Times
    """When it arrived; NaT: never.  Shape (k,)."""

    cancelled_at: Times
    """When the operator took it back; NaT: never.  Shape (k,)."""

    primacy: Whole
    """The lower goes first.  Shape (k,)."""

    import_limit_w: Vector
    """NaN where the message does not say this direction.  Shape (k,). [W]"""

    export_limit_w: Vector
    """Likewise.  Shape (k,). [W]"""

    def __post_init__(self) -> None:
        for name in ("start", "created_at", "received_at", "cancelled_at"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype="datetime64[s]"))
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise MessageError([f"messages need columns of one length, given {lengths}."])
        mistakes = [f"message {name!r} occurs twice." for name in _twice(self.mrid)]
        said = np.asarray([self.import_limit_w, self.export_limit_w], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            odd = ~np.isnan(said) & ~((said >= 0) & (said < np.inf) & (said == np.floor(said)))
        timeless: NDArray[np.bool_] = (
            np.isnat(self.start) | np.isnat(self.created_at) | (np.asarray(self.duration_s) <= 0)
        )
        silent = np.asarray(np.isnan(said).all(axis=0))
        for k in np.flatnonzero(timeless | silent | odd.any(axis=0)):
            name = self.mrid[k]
            if timeless[k]:
                mistakes.append(f"message {name!r} needs a start, a creation time and a duration above 0 s.")
            if silent[k]:
                mistakes.append(f"message {name!r} says no limit in either direction. Leave it out, or give one.")
            if odd[:, k].any():
                mistakes.append(f"message {name!r} has a limit that is no whole number of watts, zero or more.")
        if mistakes:
            raise MessageError(mistakes)

    def __len__(self) -> int:
        return len(self.mrid)

    def kept(self, rows: ArrayLike) -> Controls:
        """Return some of the messages, by their numbers or a mask."""
        which = np.asarray(rows)
        which = np.flatnonzero(which) if which.dtype == bool else which
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, column in columns.items():
            columns[name] = tuple(column[k] for k in which) if isinstance(column, tuple) else column[which]
        return Controls(**columns)

    def joined(self, other: Controls) -> Controls:
        """Return both, these first."""
        columns: dict[str, Any] = {}
        for field in fields(self):
            a, b = getattr(self, field.name), getattr(other, field.name)
            columns[field.name] = a + b if isinstance(a, tuple) else np.concatenate([a, b])
        return Controls(**columns)


@dataclass(frozen=True, slots=True, eq=False)
class Defaults:
    """What each customer keeps where no control is in force; both directions, always."""

    agent_id: tuple[str, ...]

    import_limit_w: Vector
    """Shape (d,). [W]"""

    export_limit_w: Vector
    """Shape (d,). [W]"""

    def __post_init__(self) -> None:
        mistakes = [f"{name}: has two defaults." for name in _twice(self.agent_id)]
        for name, *limits in zip(self.agent_id, self.import_limit_w, self.export_limit_w, strict=True):
            if any(not (0 <= w < np.inf) for w in limits):
                mistakes.append(
                    f"{name}: the default needs a limit in both directions, zero or more watts; given {limits[0]:g} W of "
                    f"import and {limits[1]:g} W of export."
                )
        if mistakes:
            raise MessageError(mistakes)

    def __len__(self) -> int:
        return len(self.agent_id)

    def limits(self, k: int) -> tuple[float, float]:
        """Return import and export limit of one of them. [W]"""
        return float(self.import_limit_w[k]), float(self.export_limit_w[k])

    @classmethod
    def same(cls, agent_ids: Sequence[str], import_kw: float, export_kw: float) -> Defaults:
        """Return one default for all."""
        n = len(agent_ids)
        return cls(tuple(agent_ids), np.full(n, float(watts(import_kw))), np.full(n, float(watts(export_kw))))


def messages_of(
    agent_ids: Sequence[str],
    times: ArrayLike,
    interval_s: int,
    import_limit_kw: ArrayLike,
    export_limit_kw: ArrayLike,
    created_at: ArrayLike,
    primacy: int = PRIMACY,
) -> Controls:
    """Return an issue of envelopes as messages that arrive at once.

    Parameters
    ----------
    agent_ids
        The customers, c of them.
    times : shape (T,)
        Starts of the intervals, UTC.
    interval_s
        Their length. [s]
    import_limit_kw, export_limit_kw : shape (c, T)
        Infinite: no limit, which is not sent. [kW]
    created_at
        When it is issued.
    primacy
        The lower goes first.
    """
    starts = np.asarray(times, dtype="datetime64[s]")
    into, out = watts(import_limit_kw), watts(export_limit_kw)
    who, when = np.nonzero(np.isfinite(into) | np.isfinite(out))
    names = tuple(str(agent_ids[int(i)]) for i in who)
    issued = np.asarray(created_at, dtype="datetime64[s]")
    limits = [np.where(np.isfinite(limit[who, when]), limit[who, when], np.nan) for limit in (into, out)]
    count = len(who)
    return Controls(
        mrid=tuple(_mrid(name, start, issued[()], primacy) for name, start in zip(names, starts[when], strict=True)),
        agent_id=names,
        receiver_id=names,
        start=starts[when],
        duration_s=np.full(count, interval_s, dtype=np.int64),
        created_at=np.full(count, issued),
        received_at=np.full(count, issued),
        cancelled_at=np.full(count, NEVER),
        primacy=np.full(count, primacy, dtype=np.int64),
        import_limit_w=limits[0],
        export_limit_w=limits[1],
    )


def _mrid(agent_id: str, start: object, created_at: object, primacy: int) -> str:
    """Return a name of 128 bits that is the same whenever the same control is made."""
    return hashlib.sha256(f"{agent_id}\n{start}\n{created_at}\n{primacy}".encode()).hexdigest()[:32].upper()


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """What c customers keep at T moments."""

    import_limit_w: Vector
    """Shape (c, T). [W]"""

    export_limit_w: Vector
    """Shape (c, T). [W]"""

    import_cause: Text
    """"control", or why the default is kept: "gap" (nothing was ever sent for this moment), "lost" (it never arrived, or went
    to somebody else), "late" (not there yet), "cancelled", "superseded", "not said" (only the other direction).  Shape (c, T)."""

    export_cause: Text
    """Likewise."""

    import_by: NDArray[np.intp]
    """Row of the control in force, −1: the default.  Shape (c, T)."""

    export_by: NDArray[np.intp]
    """Likewise."""


def in_force(controls: Controls, defaults: Defaults, agent_ids: Sequence[str], times: ArrayLike) -> InForce:
    """Return the limits that customers keep, by (1).

    Parameters
    ----------
    controls
        All messages that were ever sent.
    defaults
        Of every customer asked for.
    agent_ids
        The customers, c of them.
    times : shape (T,)
        Moments, UTC.

    Examples
    --------
    A control for one direction leaves the default in the other, and a lost one leaves both.

    >>> times = np.array(["2030-01-01T00:00", "2030-01-01T01:00"], dtype="datetime64[s]")
    >>> sent = messages_of(["A"], times[:1], 3600, [[np.inf]], [[5.0]], times[0])
    >>> kept = in_force(sent, Defaults.same(["A"], 1.5, 1.0), ["A"], times)
    >>> kept.export_limit_w.tolist(), kept.import_limit_w.tolist()
    ([[5000.0, 1000.0]], [[1500.0, 1500.0]])
    >>> kept.export_cause.tolist(), kept.import_cause.tolist()
    ([['control', 'gap']], [['not said', 'gap']])
    """
    moments = np.asarray(times, dtype="datetime64[s]")
    place = {name: k for k, name in enumerate(defaults.agent_id)}
    missing = [name for name in agent_ids if name not in place]
    if missing:
        raise MessageError(
            [f"{name}: has no default. Without one a lost message would mean no limit." for name in missing]
        )
    rows_of: dict[str, list[int]] = {}
    for k, name in enumerate(controls.agent_id):
        rows_of.setdefault(name, []).append(k)
    shape = (len(agent_ids), len(moments))
    limits, causes, rows = np.zeros((2, *shape)), np.full((2, *shape), "", dtype=object), np.full((2, *shape), -1, dtype=np.intp)  # fmt: skip
    for i, name in enumerate(agent_ids):
        mine = np.array(rows_of.get(name, []), dtype=np.intp)
        for side, (said, default) in enumerate(
            (
                (controls.import_limit_w, defaults.import_limit_w[place[name]]),
                (controls.export_limit_w, defaults.export_limit_w[place[name]]),
            )
        ):
            rows[side, i], causes[side, i] = _one(controls, mine, said, moments)
            kept = rows[side, i]
            limits[side, i] = np.where(kept >= 0, said[kept] if len(said) else default, default)
    return InForce(limits[0], limits[1], causes[0], causes[1], rows[0], rows[1])


def _one(controls: Controls, mine: NDArray[np.intp], said: Vector, moments: Times) -> tuple[NDArray[np.intp], Text]:
    """Return the control in force at each moment (−1: none) for one customer and direction, and the cause."""
    start = controls.start[mine]
    end = start + controls.duration_s[mine].astype("timedelta64[s]")
    owner = np.array([controls.receiver_id[k] == controls.agent_id[k] for k in mine], dtype=bool)
    received, cancelled = controls.received_at[mine], controls.cancelled_at[mine]
    arrived = owner & ~np.isnat(received)
    begin = np.where(arrived, np.maximum(start, received), end)  # takes effect; at its end: never
    over = np.where(np.isnat(cancelled), end, np.minimum(end, cancelled))
    speaks = ~np.isnan(said[mine])
    stop = over.copy()  # until when each is in force
    best = np.full(len(moments), -1, dtype=np.intp)
    lapsed = np.zeros(len(mine), dtype=bool)
    alive = np.flatnonzero(speaks & (begin < over))
    alive = alive[np.argsort(start[alive], kind="stable")]
    if (end[alive][:-1] <= start[alive][1:]).all():  # none overlaps another: each is in force by itself
        latest = np.searchsorted(begin[alive], moments, side="right") - 1
        held = np.flatnonzero(latest >= 0)
        held = held[moments[held] < stop[alive[latest[held]]]]
        best[held] = alive[latest[held]]
        alive = alive[:0]
    rivals = mine[alive]
    names = np.array([controls.mrid[k] for k in rivals], dtype=object)
    order = np.lexsort((names, said[rivals], -controls.created_at[rivals].astype(np.int64), controls.primacy[rivals]))
    for at, j in enumerate(alive[order]):
        if begin[j] >= stop[j]:
            continue
        now = (best < 0) & (moments >= begin[j]) & (moments < stop[j])
        best[now] = j
        worse = alive[order[at + 1 :]]
        # superseded as a whole from the moment on at which this one takes effect
        touched = worse[(start[worse] < stop[j]) & (end[worse] > begin[j]) & (stop[worse] > begin[j])]
        stop[touched] = begin[j]
        lapsed[touched] = True
    cause = np.full(len(moments), "control", dtype=object)
    none = np.flatnonzero(best < 0)
    at_once = max(_PAIRS_AT_ONCE // max(len(mine), 1), 1)
    for first in range(0, len(none), at_once):
        some = none[first : first + at_once]
        cause[some] = _why(moments[some, None], start, end, speaks, arrived, begin, over, lapsed)
    return np.where(best >= 0, mine[best] if len(mine) else -1, -1), cause


def _why(
    moment: Times,
    start: Times,
    end: Times,
    speaks: NDArray[np.bool_],
    arrived: NDArray[np.bool_],
    begin: Times,
    over: Times,
    lapsed: NDArray[np.bool_],
) -> Text:
    """Return why no control is in force at moments (k, 1): of those that were meant for one, the nearest to being so."""
    here = (start <= moment) & (moment < end)
    said = here & speaks
    came = said & arrived
    begun = begin <= moment
    causes = (
        ("gap", ~here.any(axis=1)),
        ("not said", ~said.any(axis=1)),
        ("cancelled", (came & (over <= moment)).any(axis=1)),
        ("superseded", (came & begun & lapsed).any(axis=1)),
        ("late", (came & ~begun).any(axis=1)),
    )
    return np.asarray(np.select([true for _, true in causes], [name for name, _ in causes], "lost"), dtype=object)


def _twice(names: Sequence[str]) -> list[str]:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for name in names:
        if name in seen:
            twice[name] = None
        seen.add(name)
    return list(twice)
