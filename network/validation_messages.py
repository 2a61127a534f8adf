"""Envelopes and messages that go wrong: the corners again, inside the limits that some customers then keep.

The faults are :mod:`network.message_faults`, what customers keep of them :mod:`network.messages`.  A part of the customers, drawn again and again, is
affected, then all of them; those who are not affected keep their envelope.  What breaks here breaks no promise: the envelope was
not kept.  It says which fault a network can live with, and what a default control should be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from network.message_faults import FAULTS, Published, acted_on
from network.validation_box import Box
from network.validation_tally import Tally
from network.validation_tries import Trial

__all__ = ["Messages", "misled"]

Vector = NDArray[np.float64]

_MOST_TRIES = 4096  # of one fault: draws × intervals × corners; what is more is drawn


@dataclass(frozen=True, slots=True, eq=False)
class Messages:
    """What customers do without their envelope."""

    import_rating_kw: Vector
    """What each device can draw at most.  Shape (c,). [kW]"""

    export_rating_kw: Vector
    """What each can feed in at most.  Shape (c,). [kW]"""

    import_default_kw: float = 1.5
    """Default control. [kW]"""

    export_default_kw: float = 1.5
    """Default control. [kW]"""

    share: float = 0.1
    """Part of the customers that are affected."""

    draws: int = 10
    """How often they are drawn."""

    earlier_import_kw: Vector | None = None
    """An earlier issue, None where none is known.  Shape (c, T). [kW]"""

    earlier_export_kw: Vector | None = None
    """Likewise."""


_SAYS = {
    "gap": "a gap between two controls (no default)",
    "lost": "messages lost (no default)",
    "fallback": "messages lost (default control)",
    "late": "messages late (default until then)",
    "overlap": "controls overlap (the next interval's kept)",
    "superseded": "new issue lost (the earlier one kept)",
    "wrong_owner": "controls of somebody else",
}


def misled(trial: Trial, messages: Messages) -> list[Tally]:
    """Try the corners inside what customers keep when messages go wrong, one tally for each fault."""
    box, n = trial.box, len(trial.box.active)
    if not n or not len(trial.kept):
        return []
    published, tallies = _published(messages, box), []
    for fault in FAULTS:
        if fault == "overlap" and box.intervals < 2:
            continue
        tally = Tally(_SAYS[fault], "message", counts=False)
        for draw in range(messages.draws + 1):
            affected = np.zeros(n, dtype=bool)
            many = n if draw == messages.draws else max(round(messages.share * n), 1)
            affected[trial.rng.choice(n, many, replace=False)] = True
            at = int(trial.kept[trial.rng.integers(len(trial.kept))])
            imports, exports = acted_on(fault, published, affected, at)
            high = np.where(box.high_kw < 0, box.high_kw, exports)  # an obligation is kept: it is no limit
            changed = replace(box, low_kw=np.minimum(-imports, high), high_kw=high)
            where = {"gap": np.array([at]), "late": trial.kept[trial.kept <= at]}.get(fault, trial.kept)
            _try(replace(trial, box=changed, kept=where), tally, f"{_SAYS[fault]} by {many} of {n}")
        tallies.append(tally)
    return tallies


def _try(trial: Trial, tally: Tally, words: str) -> None:
    """Try the corners of the intervals, some of them where there are too many."""
    box, corners = trial.box, trial.corners
    total = len(trial.kept) * corners.signs.shape[1]
    flat = np.arange(total) if total <= _MOST_TRIES else np.sort(trial.rng.choice(total, _MOST_TRIES, replace=False))
    corner, interval = flat % corners.signs.shape[1], trial.kept[flat // corners.signs.shape[1]]
    injection, source = box.injection(corners.uses[:, corner], interval), box.source_v_pu[interval]
    said = [f"{words}: {corners.names[k]}" for k in corner]
    tally.add(trial.measure, trial.measure.read(injection, source), injection, source, interval, said)


def _published(messages: Messages, box: Box) -> Published:
    """Return the envelopes, and what devices do without: their rating is at least what they were ever allowed."""
    limits = (-box.low_kw, np.maximum(box.high_kw, 0.0))
    told = (messages.import_rating_kw, messages.export_rating_kw)
    own = [np.broadcast_to(np.asarray(most, dtype=np.float64), len(box.fixed))[box.active] for most in told]
    imports, exports = (np.maximum(most, limit.max(axis=1)) for most, limit in zip(own, limits, strict=True))
    earlier = messages.earlier_import_kw, messages.earlier_export_kw
    return Published(
        limits,
        (imports, exports),
        (np.minimum(messages.import_default_kw, own[0]), np.minimum(messages.export_default_kw, own[1])),
        None if earlier[0] is None or earlier[1] is None else (earlier[0][box.active], earlier[1][box.active]),
    )
