"""Messages that go wrong, as the limits that customers then act on.

A fault is drawn into what is sent: a control that is missing, late, too long, for somebody else.  What a customer keeps of it
is not said here but by :func:`network.messages.in_force`, as in the simulation: there is one truth about what arrives, what
replaces what, and when the default holds.

================  ======================================================================================================
``gap``           the control of one interval was never sent
``lost``          no control arrives
``fallback``      no control arrives
``late``          all controls arrive in the middle of one interval
``overlap``       each control begins one interval early, and the newer goes first
``superseded``    a newer issue replaces an earlier one that arrived, and is lost
``wrong_owner``   the operator's list is mixed up: two customers' controls are made out in each other's name
================  ======================================================================================================

A control that reaches somebody else acts on nothing and is ``lost``.  Where none is in force the default holds.  A device without
one, which the simulation does not know and a network may well have, does what its rating allows: that is a default too, the
rating (:data:`WITHOUT_DEFAULT`, and nowhere else).

A default is safe only if the network was planned for it (a floor of the envelope); nothing here assumes that.

Limits: controls are in whole watts, rounded down, and looked at when an interval begins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from network.messages import NEVER, Controls, Defaults, in_force, messages_of, watts

__all__ = ["FAULTS", "WITHOUT_DEFAULT", "Published", "acted_on"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Pair = tuple[Vector, Vector]
"""Of imports, and of exports."""

FAULTS = ("gap", "lost", "fallback", "late", "overlap", "superseded", "wrong_owner")
"""The faults by name."""

WITHOUT_DEFAULT = ("gap", "lost")
"""In these the affected devices have no default: no limit but their rating."""

_BEGIN = np.datetime64("2000-01-01T00:00", "s")
_STEP = np.timedelta64(3600, "s")
_EARLIER, _NEWER = _BEGIN - 48 * _STEP, _BEGIN - 24 * _STEP
"""Any hours will do: a fault is told in intervals, not in hours."""


@dataclass(frozen=True, slots=True, eq=False)
class Published:
    """Limits for the c' customers that have an envelope, and what their devices do without: imports, and exports."""

    limit_kw: Pair
    """Shape (c', T) each. [kW]"""

    rating_kw: Pair
    """What the device could do at most.  Shape (c',) each. [kW]"""

    default_kw: Pair
    """Its default control.  Shape (c',) each. [kW]"""

    earlier_kw: Pair | None = None
    """The issue before; None where none is known: then one with the loosest limit of all intervals in each.  Shape (c', T) each. [kW]"""


def acted_on(fault: str, published: Published, affected: Mask, interval: int = 0) -> Pair:
    """Return the limits that everybody keeps.

    Parameters
    ----------
    fault
        A name of :data:`FAULTS`.
    published
        What was computed, and the devices.
    affected : shape (c',)
        Whose messages are faulty.
    interval
        That of the gap; in its middle late controls arrive.

    Returns
    -------
    shape (c', T) each
        Import and export, of those who are not affected as computed. [kW]

    Examples
    --------
    Two customers in three intervals; the controls of the first arrive in the second of them.

    >>> limit = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    >>> most, default = np.full(2, 9.0), np.full(2, 1.5)
    >>> imports, _ = acted_on("late", Published((limit, limit), (most, most), (default, default)), np.array([True, False]), 1)
    >>> imports
    array([[1.5, 1.5, 3. ],
           [4. , 5. , 6. ]])
    """
    if fault not in FAULTS:
        raise ValueError(f"there is no fault {fault!r}. There are {', '.join(FAULTS)}.")
    who = np.flatnonzero(affected)
    names = [str(k) for k in who]
    sent = _sent(fault, published, who, names, interval)
    imports, exports = (
        most[who] for most in (published.rating_kw if fault in WITHOUT_DEFAULT else published.default_kw)
    )
    times = _BEGIN + np.arange(published.limit_kw[0].shape[1]) * _STEP
    found = in_force(sent, Defaults(tuple(names), watts(imports), watts(exports)), names, times)
    kept = (published.limit_kw[0].copy(), published.limit_kw[1].copy())
    kept[0][who], kept[1][who] = found.import_limit_w / 1e3, found.export_limit_w / 1e3
    return kept


def _sent(fault: str, published: Published, who: Index, names: list[str], interval: int) -> Controls:
    """Return everything that was ever sent to those who are affected, with its fault."""
    limits = published.limit_kw
    if fault == "wrong_owner":
        whose = np.roll(who, -1) if len(who) > 1 else (who + 1) % len(limits[0])
        return _issue(limits, whose, names)
    sent = _issue(limits, who, names)
    if fault == "gap":
        return sent.kept(sent.start != _BEGIN + interval * _STEP)
    if fault == "late":
        return replace(sent, received_at=np.full(len(sent), _BEGIN + interval * _STEP + _STEP // 2))
    if fault == "overlap":
        later = (sent.start - _BEGIN) // _STEP * np.timedelta64(1, "s")
        return replace(
            sent, start=sent.start - _STEP, duration_s=2 * sent.duration_s, created_at=sent.created_at + later,
            received_at=sent.received_at + later,
        )  # fmt: skip
    lost = replace(sent, received_at=np.full(len(sent), NEVER))
    if fault == "superseded":
        return _issue(published.earlier_kw or _loosest(limits), who, names, _EARLIER).joined(lost)
    return lost


def _issue(limits: Pair, whose: Index, names: list[str], created_at: np.datetime64 = _NEWER) -> Controls:
    """Return limits of some customers as controls for ``names``, which arrive at once."""
    times = _BEGIN + np.arange(limits[0].shape[1]) * _STEP
    return messages_of(names, times, int(_STEP.astype(int)), limits[0][whose], limits[1][whose], created_at)


def _loosest(limits: Pair) -> Pair:
    imports, exports = (np.broadcast_to(limit.max(axis=1, keepdims=True), limit.shape) for limit in limits)
    return imports, exports
