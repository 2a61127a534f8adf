"""Envelopes that are renewed: which issue is in force in which interval.

An operator issues envelopes a day ahead and renews some of them later.  In each interval that issue is in force which was
issued last among those that cover it::

    in force at t = the issue with the largest issued_at, of those that have t                          (1)

An issue may bind nobody before it was issued: what begins before ``issued_at`` plus the notice is refused, whole, for an
envelope that was announced too late is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from network.envelope import Envelope, EnvelopeError

__all__ = ["InForce", "Issue", "in_force"]

Times = NDArray[np.datetime64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Issue:
    """An envelope as it was published."""

    issued_at: np.datetime64
    times: Times
    """Starts of its intervals.  Shape (T,)."""
    envelope: Envelope


@dataclass(frozen=True, slots=True, eq=False)
class InForce:
    """The envelope of every interval that some issue covers."""

    times: Times
    """Shape (T,)."""
    issue: Index
    """Which of the issues it is from.  Shape (T,)."""
    envelope: Envelope


def in_force(issues: Sequence[Issue], notice: np.timedelta64 = np.timedelta64(0, "s")) -> InForce:  # noqa: B008 immutable
    """Combine issues (1).

    Parameters
    ----------
    issues
        In any order, of the same connections.
    notice
        So long before its first interval an issue has to be out.
    """
    wrong = []
    if not issues:
        wrong.append("there is no issue. Give one at least.")
    for k, one in enumerate(issues):
        shape = one.envelope.export_limit_kw.shape
        if shape[1] != len(one.times):
            wrong.append(f"issue {k} has {len(one.times)} times and {shape[1]} intervals.")
        elif shape[0] != issues[0].envelope.export_limit_kw.shape[0]:
            wrong.append(
                f"issue {k} is about {shape[0]} connections, the first about {issues[0].envelope.export_limit_kw.shape[0]}."
            )
        if len(one.times) and one.times.min() < one.issued_at + notice:
            wrong.append(
                f"issue {k} of {one.issued_at} binds from {one.times.min()} on, before it may. "
                f"Leave out what begins before {one.issued_at + notice}."
            )
    if wrong:
        raise EnvelopeError("the issues cannot be combined: " + " ".join(wrong))
    latest: dict[np.datetime64, tuple[int, int]] = {}
    for k in sorted(range(len(issues)), key=lambda k: (issues[k].issued_at, k)):
        latest |= {time: (k, column) for column, time in enumerate(issues[k].times)}
    times = np.array(sorted(latest), dtype="datetime64[s]")
    chosen = [latest[time] for time in sorted(latest)]
    last = issues[chosen[-1][0]].envelope if chosen else issues[0].envelope
    parts: dict[str, object] = {}
    for field in fields(Envelope):
        value = getattr(last, field.name)
        if isinstance(value, np.ndarray):
            columns = [getattr(issues[k].envelope, field.name)[..., t] for k, t in chosen]
            parts[field.name] = np.stack(columns, axis=-1) if columns else value[..., :0]
        else:
            words = dict.fromkeys(str(getattr(issues[k].envelope, field.name)) for k, _ in chosen)
            parts[field.name] = " | ".join(words)
    return InForce(times, np.array([k for k, _ in chosen], dtype=np.intp), Envelope(**parts))  # type: ignore[arg-type]  # by the names of the fields
