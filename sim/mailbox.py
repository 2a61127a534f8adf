"""What homes know and keep of the envelopes that the operator of the grid announces.

Without messages (:class:`~sim.scenario_messages.MessagesSpec` is not given) everybody knows the issue in force, exactly.  With them, each
issue travels as one message to each home, in whole watts, and is late or lost; what a home keeps at a moment follows from the messages
that it holds by then (:func:`network.messages.in_force`), and where it holds none it keeps its default.  The operator of a shared storage is
reached always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from network.envelope import Envelope
from network.messages import Controls, Defaults, in_force, messages_of

__all__ = ["Kept", "Mail", "Mailbox"]

Matrix = NDArray[np.float64]
Words = NDArray[np.object_]

ENVELOPE, DEFAULT = "envelope", "default"


@dataclass(frozen=True, slots=True, eq=False)
class Mail:
    """How messages travel."""

    lost_share: float
    delay_minutes: float
    default_import_kw: float
    default_export_kw: float


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """Limits of n homes in T intervals, infinite for homes without an envelope. [kW]"""

    import_limit_kw: Matrix
    """Shape (n, T)."""
    export_limit_kw: Matrix
    import_word: Words
    """"envelope", or "default" where no message is in force.  Shape (n, T)."""
    export_word: Words

    def followed(self, at: int, newer: Kept) -> Kept:
        """Return these, and from an interval on the others."""
        return Kept(
            *(
                np.concatenate([getattr(self, name)[:, :at], getattr(newer, name)], axis=1)
                for name in ("import_limit_kw", "export_limit_kw", "import_word", "export_word")
            )
        )


class Mailbox:
    """All messages of one delivery day.

    Parameters
    ----------
    agent_ids, active : n
        The homes; those with an envelope.
    times : shape (T,)
        Starts of the intervals of the day, UTC.
    interval_s
        Their length. [s]
    mail
        How messages travel; None: everybody knows everything at once.
    rng
        Draws what is lost.
    """

    def __init__(
        self,
        agent_ids: tuple[str, ...],
        active: NDArray[np.bool_],
        times: NDArray[np.datetime64],
        interval_s: int,
        mail: Mail | None,
        rng: np.random.Generator,
    ) -> None:
        self.active, self.times, self.interval_s, self.mail, self.rng = active, times, interval_s, mail, rng
        self.who = np.flatnonzero(active)
        self.names = tuple(agent_ids[int(i)] for i in self.who)
        self._sent: Controls | None = None
        self._exact: Envelope | None = None

    def post(self, envelope: Envelope, at: int, in_force_now: Envelope, now: datetime) -> None:
        """Send an issue of the intervals from ``at`` on.

        Parameters
        ----------
        envelope
            The issue.
        in_force_now
            What is in force for the whole day, counting this issue.
        """
        self._exact = in_force_now
        if self.mail is None or envelope.mode == "none" or not self.who.size:
            return
        made = np.datetime64(now.replace(tzinfo=None), "s")
        sent = messages_of(
            self.names,
            self.times[at:],
            self.interval_s,
            envelope.import_limit_kw[self.who],
            envelope.export_limit_kw[self.who],
            made,
        )
        lost = dict(zip(self.names, self.rng.random(self.who.size) < self.mail.lost_share, strict=True))
        arrival = made + np.timedelta64(round(self.mail.delay_minutes * 60), "s")
        never = np.datetime64("NaT", "s")
        sent = replace(sent, received_at=np.array([never if lost[name] else arrival for name in sent.agent_id]))
        self._sent = sent if self._sent is None else self._sent.joined(sent)

    def kept(self, at: int, known_by: datetime | None = None) -> Kept:
        """Return what homes keep in the intervals from ``at`` on; with a moment: what they then believe they will keep."""
        n, steps = len(self.active), len(self.times) - at
        assert self._exact is not None
        if self.mail is None or self._exact.mode == "none" or not self.who.size:
            limited = self.active[:, None]
            words = np.full((n, steps), ENVELOPE, dtype=object)
            return Kept(
                np.where(limited, self._exact.import_limit_kw[:n, at:], np.inf),
                np.where(limited, self._exact.export_limit_kw[:n, at:], np.inf),
                words,
                words,
            )
        assert self._sent is not None
        sent, times = self._sent, self.times[at:]
        useful = sent.start + sent.duration_s.astype("timedelta64[s]") > times[0]
        if known_by is not None:
            useful &= sent.received_at <= np.datetime64(known_by.replace(tzinfo=None), "s")
        found = in_force(
            sent.kept(useful),
            Defaults.same(self.names, self.mail.default_import_kw, self.mail.default_export_kw),
            self.names,
            times,
        )
        limits = np.full((2, n, steps), np.inf)
        limits[0, self.who], limits[1, self.who] = found.import_limit_w / 1e3, found.export_limit_w / 1e3
        words = np.full((2, n, steps), ENVELOPE, dtype=object)
        for side, cause in enumerate((found.import_cause, found.export_cause)):
            words[side, self.who] = np.where(cause == "control", ENVELOPE, DEFAULT)
        return Kept(limits[0], limits[1], words[0], words[1])
