"""Whether meters stayed inside their envelopes, before and after these were enforced, both directions.

Before: what people would have drawn or fed in.  After: what the meter read.  An excess is what lies beyond the limit, plus what an
obliged storage did not draw of its firm charge; an unknown meter counts as outside, in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Compliance", "Side", "compliance"]

Vector = NDArray[np.float64]

TOLERANCE_KW = 1e-6
"""A meter is outside where it is further beyond its limit than this."""


@dataclass(frozen=True, slots=True)
class Side:
    """One direction: of all meters and intervals."""

    outside: int
    """Pairs of a meter and an interval beyond the limit."""

    share: float
    """Of all pairs with a limit, NaN where there is none."""

    beyond_kwh: float
    """Energy beyond it. [kWh]"""

    worst_kw: float
    """Largest excess; inf where a meter is unknown. [kW]"""


@dataclass(frozen=True, slots=True)
class Compliance:
    """Before and after enforcement."""

    import_before: Side
    export_before: Side
    import_after: Side
    export_after: Side

    @property
    def kept(self) -> bool:
        """Whether every meter stayed inside."""
        return not (self.import_after.outside or self.export_after.outside)


def compliance(
    meter_kw: ArrayLike,
    wanted_kw: ArrayLike,
    import_limit_kw: ArrayLike,
    export_limit_kw: ArrayLike,
    firm_charge_kw: ArrayLike | None,
    interval_h: float,
) -> Compliance:
    """Compare meters with envelopes.

    Parameters
    ----------
    meter_kw, wanted_kw : shape (c, T)
        What each meter read, and what it would have read without envelopes: import positive. [kW]
    import_limit_kw, export_limit_kw : shape (c, T)
        The envelopes; inf: none. [kW]
    firm_charge_kw : shape (c, T)
        What must be drawn at least; None: nothing. [kW]
    interval_h
        Length of an interval. [h]
    """
    imports, exports = np.asarray(import_limit_kw, dtype=np.float64), np.asarray(export_limit_kw, dtype=np.float64)
    firm = np.zeros(imports.shape) if firm_charge_kw is None else np.asarray(firm_charge_kw, dtype=np.float64)
    after, before = np.asarray(meter_kw, dtype=np.float64), np.asarray(wanted_kw, dtype=np.float64)
    floor = np.where(firm > 0, firm, -exports)
    sides = [
        side(excess, limited, interval_h)
        for meter in (before, after)
        for excess, limited in ((meter - imports, np.isfinite(imports)), (floor - meter, np.isfinite(floor)))
    ]
    return Compliance(*sides)


def side(excess_kw: Vector, limited: NDArray[np.bool_], interval_h: float) -> Side:
    """Return one direction for the excess of every meter and interval."""
    excess = np.where(np.isnan(excess_kw), np.inf, excess_kw)[limited]
    outside = excess > TOLERANCE_KW
    known = excess[outside & np.isfinite(excess)]
    return Side(
        outside=int(outside.sum()),
        share=float(outside.mean()) if excess.size else np.nan,
        beyond_kwh=float(known.sum()) * interval_h,
        worst_kw=float(np.maximum(excess.max(initial=0.0), 0.0)),
    )
