"""What an envelope is worth: how much of the AC-exact one it gives away.

The AC-exact envelope of the same shape is the given one times the largest factor α at which the corners of
:mod:`network.vertices` still keep every limit, limits above a customer's cap being cut there.  With it,

    conservatism κ = 1 − Σ e / Σ e*,   e* = min(α e, cap)      likewise for imports                       (1)

is what is given away (0: nothing; negative: more is promised than the network carries).  α comes by halving.  A customer's cap
is what it could use at most; where no caps are known, limits may grow without end and α is told alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from network.validation_box import Box
from network.validation_measure import Measure
from network.vertices import Vertices

__all__ = ["conservatism", "largest_factor"]

Vector = NDArray[np.float64]

_MOST_FACTOR = 64.0
_HALVINGS = 30


def largest_factor(measure: Measure, box: Box, vertices: Vertices, cap: tuple[Vector, Vector] | None = None) -> Vector:
    """Return by how much the limits of each interval could be multiplied: the largest α at which every corner is safe.

    Parameters
    ----------
    measure, box, vertices
        The feeder with its limits, the uses, and their corners.
    cap : shape (c',) each
        Caps of import and export, at which limits stop growing; None: nowhere. [kW]

    Returns
    -------
    shape (T,)
        0 where not even the customers' absence is safe; inf where no limit is met up to 64 times the envelope.
    """
    low, high = np.zeros(box.intervals), np.full(box.intervals, np.inf)
    at = np.ones(box.intervals)
    nothing = _safe(measure, _scaled(box, np.zeros(box.intervals), cap), vertices)
    for step in range(_HALVINGS + 6):
        safe = _safe(measure, _scaled(box, at, cap), vertices)
        low, high = np.where(safe, np.maximum(low, at), low), np.where(safe, high, np.minimum(high, at))
        at = np.where(np.isinf(high), np.minimum(2.0 * at, _MOST_FACTOR), (low + high) / 2.0)
        if step > 8 and not np.isfinite(high).any():
            break
    return np.asarray(np.where(nothing, np.where(np.isinf(high), np.inf, low), 0.0))


def conservatism(limit_kw: Vector, factor: Vector, cap_kw: Vector | None) -> float:
    """Return κ of (1) for limits (c', T) and factors (T,): over all intervals together; NaN where e* has no end or is 0."""
    with np.errstate(invalid="ignore"):
        exact = limit_kw * factor
    if cap_kw is not None:
        exact = np.minimum(np.nan_to_num(exact, nan=0.0, posinf=np.inf), np.maximum(cap_kw[:, None], 0.0))
    total = float(exact.sum())
    return 1.0 - float(limit_kw.sum()) / total if np.isfinite(total) and total > 0 else np.nan


def _scaled(box: Box, factor: Vector, cap: tuple[Vector, Vector] | None) -> Box:
    low, high = box.low_kw * factor, np.where(box.high_kw >= 0, box.high_kw * factor, box.high_kw)
    if cap is not None:
        low = np.maximum(low, -cap[0][:, None])
        high = np.where(box.high_kw >= 0, np.minimum(high, cap[1][:, None]), high)
    return replace(box, low_kw=np.minimum(low, high), high_kw=high)


def _safe(measure: Measure, box: Box, vertices: Vertices) -> NDArray[np.bool_]:
    """Return whether every corner of each interval keeps every limit.  Shape (T,)."""
    corners = vertices.signs.shape[1]
    safe = np.ones(box.intervals, dtype=bool)
    u = vertices.uses
    at_once = max(4096 // max(corners, 1), 1)
    for begin in range(0, box.intervals, at_once):
        part = np.arange(begin, min(begin + at_once, box.intervals))
        where = np.repeat(part, corners)
        reading = measure.read(box.injection(np.tile(u, len(part)), where), box.source_v_pu[where])
        safe[part] = ~reading.broken.reshape(len(part), corners).any(axis=1)
    return safe
