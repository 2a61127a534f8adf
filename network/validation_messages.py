"""Envelopes and messages that go wrong: the corners again, inside the limits that some customers then keep.

The faults and what customers do are in :mod:`network.message_faults`.  A part of the customers, drawn again and again, is
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
    "gap": "a gap between two controls",
    "lost": "messages lost, no default",
    "fallback": "messages lost, default control",
    "late": "controls one interval late",
    "overlap": "two controls overlap, the looser one kept",
    "superseded": "an earlier issue kept",
    "wrong_owner": "somebody else's envelope kept",
}


def misled(trial: Trial, messages: Messages) -> list[Tally]:
    """Try the corners inside what customers keep when messages go wrong, one tally for each fault."""
    measure, box, kept, corners, rng = trial.measure, trial.box, trial.kept, trial.corners, trial.rng
    if not len(box.active) or not len(kept):
        return []
    n, shape = len(box.active), box.low_kw.shape
    imports = _published(
        -box.low_kw, messages.import_rating_kw, messages.import_default_kw, messages.earlier_import_kw, box
    )
    exports = _published(np.maximum(box.high_kw, 0.0), messages.export_rating_kw, messages.export_default_kw,
                         messages.earlier_export_kw, box)  # fmt: skip
    firm = box.high_kw < 0  # an obligation is kept: it is no limit
    tallies = []
    for fault in FAULTS:
        if fault in ("late", "overlap") and shape[1] < 2:
            continue
        tally = Tally(_SAYS[fault], "message", counts=False)
        for draw in range(messages.draws + 1):
            affected = np.zeros(n, dtype=bool)
            many = n if draw == messages.draws else max(round(messages.share * n), 1)
            affected[rng.choice(n, many, replace=False)] = True
            gap = int(kept[rng.integers(len(kept))])
            low = -acted_on(fault, imports, affected, gap)
            high = np.where(firm, box.high_kw, acted_on(fault, exports, affected, gap))
            changed = replace(box, low_kw=np.minimum(low, high), high_kw=high)
            where = kept if fault != "gap" else np.array([gap])
            total = len(where) * corners.signs.shape[1]
            flat = np.arange(total) if total <= _MOST_TRIES else np.sort(rng.choice(total, _MOST_TRIES, replace=False))
            corner, interval = flat % corners.signs.shape[1], where[flat // corners.signs.shape[1]]
            injection, source = changed.injection(corners.uses[:, corner], interval), box.source_v_pu[interval]
            words = [f"{_SAYS[fault]} by {many} of {n}: {corners.names[k]}" for k in corner]
            tally.add(measure, measure.read(injection, source), injection, source, interval, words)
        tallies.append(tally)
    return tallies


def _published(limit: Vector, rating: Vector, default: float, earlier: Vector | None, box: Box) -> Published:
    most = np.broadcast_to(np.asarray(rating, dtype=np.float64)[box.active, None], limit.shape)
    return Published(
        limit, np.maximum(most, limit), np.minimum(np.full(limit.shape, default), most),
        None if earlier is None else np.asarray(earlier, dtype=np.float64)[box.active],
    )  # fmt: skip
