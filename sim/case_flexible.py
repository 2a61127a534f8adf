"""Flexible demand as a store of what is left out: exactly, with nothing that the market's problem does not have.

An agent takes f_t between least and power, each kWh of it is worth u to it, and E kWh are needed by the end of interval s, of
at most M.  With d = power − f, what is left out, the worth of f is u Σ Δ power, which nothing can change, less u Σ Δ d.  So the
load is as high as it may get, and a store that can only discharge, of wear u and filled with all that could be left out,
gives back what is not taken ::

    0 <= d_t <= power_t − least_t,   e_t = D_T − Σ_{τ<=t} Δ d_τ,   D_t = Σ_{τ<=t} Δ (power_τ − least_τ)            (1)
    e_s >= D_T − D_s + E − Σ_{τ<=s} Δ least_τ,    e_T <= M − Σ_τ Δ least_τ                                          (2)

A demand of every day is a store a day.  Several demands of one agent are the steps of a worth that falls with the power.

Limit: a worth that falls smoothly (quadratic) is not in it, nor one that depends on the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sim.case_agents import Flexible
from sim.scenario_file import Loc

__all__ = ["DAY_H", "impossible", "left_out", "windows"]

Floats = NDArray[np.float64]

DAY_H = 24.0
_ROUNDING = 1e-9


def windows(demand: Flexible, dt_h: float) -> list[slice]:
    """Return the intervals of each store that the demand becomes: one for all of them, or one for every day."""
    steps = len(demand.power_kw)
    if not demand.each_day:
        return [slice(0, steps)]
    ends = [round(day * DAY_H / dt_h) for day in range(round(steps * dt_h / DAY_H) + 1)]
    return [slice(begin, end) for begin, end in pairwise(ends)]


def left_out(demand: Flexible, dt_h: float) -> list[dict[str, Floats | float]]:
    """Return the columns of the stores of (1) and (2), one for every window, without the ``store_`` before their names."""
    columns: list[dict[str, Floats | float]] = []
    for window in windows(demand, dt_h):
        room, least = np.zeros_like(demand.power_kw), np.zeros_like(demand.power_kw)
        room[window] = (demand.power_kw - demand.least_kw)[window]
        total = float(dt_h * room.sum())
        most, by = np.full_like(room, total), window.start + _intervals(demand, window, dt_h) - 1
        taken = demand.needed_kwh - float(dt_h * demand.least_kw[window.start : by + 1].sum())
        least[by] = min(max(total - float(dt_h * room[: by + 1].sum()) + max(taken, 0.0), 0.0), total)
        if demand.most_kwh is not None:
            rest = demand.most_kwh - float(dt_h * demand.least_kw[window].sum())
            most[window.stop - 1 :] = min(max(rest, float(least[by]) if by == window.stop - 1 else 0.0), total)
        columns.append(
            {
                "discharge_max_kw": room,
                "energy_min_kwh": least,
                "energy_max_kwh": most,
                "initial_kwh": total,
                "wear_eur_per_kwh": demand.utility_eur_per_kwh,
            }
        )
    return columns


def impossible(demand: Flexible, dt_h: float) -> Iterator[tuple[Loc, str]]:
    """Yield what cannot be taken in whatever is done, with its key; of values that can be read."""
    power, least = (np.atleast_1d(column) for column in (demand.power_kw, demand.least_kw))
    steps = max(power.size, least.size)
    by = 0.0 if demand.needed_by_hours is None else demand.needed_by_hours
    if power.size != least.size or np.isnan([*power, *least, demand.needed_kwh, by, dt_h]).any():
        return
    hours = steps * dt_h
    if demand.each_day is True and (abs(hours / DAY_H - round(hours / DAY_H)) > _ROUNDING or dt_h > DAY_H):
        yield ("each_day",), f"needs whole days; the case has {hours:g} h"
        return
    if (
        demand.needed_by_hours is not None
        and demand.needed_by_hours > (DAY_H if demand.each_day is True else hours) + _ROUNDING
    ):
        yield (
            ("needed_by_hours",),
            f"is after the end, {DAY_H if demand.each_day is True else hours:g} h; given {demand.needed_by_hours:g}",
        )
        return
    by_then = "" if demand.needed_by_hours is None else " by then"
    for window in windows(demand, dt_h):
        count = _intervals(demand, window, dt_h)
        before, after = slice(window.start, window.start + count), slice(window.start + count, window.stop)
        could, must, later = (float(dt_h * part.sum()) for part in (power[before], least[before], least[after]))
        when = f" from interval {window.start} on" if demand.each_day is True else ""
        if demand.needed_kwh > could * (1.0 + _ROUNDING) + _ROUNDING:
            yield (
                ("needed_kwh",),
                f"cannot be taken in{when}: at most {could:g} kWh can{by_then}; given {demand.needed_kwh:g}",
            )
            return
        if demand.most_kwh is not None and max(demand.needed_kwh, must) + later > demand.most_kwh + _ROUNDING:
            enough = max(demand.needed_kwh, must) + later
            yield (
                ("most_kwh",),
                f"is less than what is taken in any case{when}, {enough:g} kWh; given {demand.most_kwh:g}",
            )
            return


def _intervals(demand: Flexible, window: slice, dt_h: float) -> int:
    """Return in how many intervals of a window the need is to be met; the one in which its time lies counts."""
    count: int = window.stop - window.start
    if demand.needed_by_hours is None or not np.isfinite(demand.needed_by_hours):
        return count
    return min(max(int(np.ceil(demand.needed_by_hours / dt_h - _ROUNDING)), 1), count)
