"""What cannot be met at all, found before anything is iterated.

A store alone is a chain of intervals (:func:`market.chain.tube`): its needs can be met if and only if its beginning lies
in the tube.  A shared store's net is checked in sum: what all tenants together can hold and move is an interval again.
That test is necessary; where it passes and still no plan exists, the repair says so (:mod:`market.repair`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.problem import Problem

__all__ = ["Infeasible", "attainable", "broken_needs", "check_feasible", "enough_rights", "least_rights"]

Floats = NDArray[np.float64]

_ROUNDING_KWH = 1e-9
_TOLERANCE_KWH = 1e-6  # of contents that have been metered


class Infeasible(RuntimeError):
    """No plan exists: a store's need or a shared store's firm charge cannot be met; the message names where."""


@njit(**EXACT)
def _reach(
    dt_h: float, charge_max: Floats, discharge_max: Floats, lower: Floats, upper: Floats, drain: Floats, initial: Floats,
    efficiency_c: Floats, efficiency_d: Floats, retention: Floats, out_lower: Floats, out_upper: Floats,
) -> None:  # fmt: skip
    """Fill ``out_lower`` and ``out_upper``: the bounds nearest to those given that can be kept.  Shapes (K, n, T)."""
    stores, agents, steps = charge_max.shape
    for k in range(stores):
        for i in range(agents):
            e1, e2 = dt_h * efficiency_c[k, i], dt_h / efficiency_d[k, i]
            low = high = initial[k, i]
            for t in range(steps):
                low = retention[k, i] * low - e2 * discharge_max[k, i, t] - drain[k, i, t]
                high = retention[k, i] * high + e1 * charge_max[k, i, t] - drain[k, i, t]
                low = min(max(low, lower[k, i, t]), high)
                high = max(min(high, upper[k, i, t]), low)
                out_lower[k, i, t] = min(lower[k, i, t], high)
                out_upper[k, i, t] = max(upper[k, i, t], low)


def _kept_bounds(p: Problem) -> tuple[Floats, Floats]:
    """Return the stores' bounds as far as they can be kept, each one alone and in the order of time."""
    lower, upper = np.empty_like(p.store_energy_min_kwh), np.empty_like(p.store_energy_max_kwh)
    _reach(p.dt_h, p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh,
           p.store_drain_kwh, p.store_initial_kwh, p.store_efficiency_charge, p.store_efficiency_discharge,
           p.store_retention, lower, upper)  # fmt: skip
    return lower, upper


def _kept_final(p: Problem) -> Floats:
    """Return the last contents of the rented spaces as far as given rights can reach them.  Shape (M, n). [kWh]"""
    final = p.rented_final_kwh
    if p.right_energy_kwh is None or p.right_power_kw is None or not final.size:
        return final
    flow = p.right_power_kw[:, :, None] * p.ess_available[:, None, :]
    lower, upper = np.zeros(flow.shape), np.repeat(p.right_energy_kwh[:, :, None], p.steps, axis=2)
    lower[:, :, -1] = upper[:, :, -1] = final
    columns = (p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention)
    constants = [np.repeat(column[:, None], p.n, axis=1) for column in columns]
    low, high = np.empty_like(lower), np.empty_like(upper)
    _reach(p.dt_h, flow, flow, lower, upper, np.zeros(flow.shape), p.rented_initial_kwh, *constants, low, high)
    short = low[:, :, -1] < final
    return np.where(short, low[:, :, -1], high[:, :, -1])


def attainable(problem: Problem) -> tuple[Problem, Floats, Floats]:
    """Return the problem with its stores' bounds moved as little as makes them attainable, and by how much.

    So are the last contents of spaces whose given rights cannot reach them.

    Nothing is relaxed silently: whoever calls this gets what is missing, shape (K, n, T), in kWh: below the least content
    (a car that cannot be full in time) and above the largest (a buffer that overflows).
    """
    lower, upper = _kept_bounds(problem)
    missing, excess = problem.store_energy_min_kwh - lower, upper - problem.store_energy_max_kwh
    kept = _kept_final(problem)
    moved = replace(problem, store_energy_min_kwh=lower, store_energy_max_kwh=upper, rented_final_kwh=kept)
    return moved, missing, excess


def least_rights(p: Problem) -> tuple[Floats, Floats]:
    """Return the energy and the power that every rented space needs to reach its final content.  Shapes (M, n).

    Less of either would not do; both together may not do either (:func:`enough_rights`).  Out of all bounds where the space is
    never available and would have to be.
    """
    idle = np.argmax(p.ess_available[:, ::-1] > 0.0, axis=1)  # nothing flows in so many intervals at the end
    final = p.rented_final_kwh / (p.ess_retention**idle)[:, None]
    kept = p.ess_retention[:, None] ** np.arange(p.steps)[::-1]
    short = p.rented_final_kwh - (p.ess_retention**p.steps)[:, None] * p.rented_initial_kwh
    hours = np.maximum(p.dt_h * (p.ess_available * kept).sum(axis=1), 1e-200)[:, None]
    into, out = hours * p.ess_efficiency_charge[:, None], hours / p.ess_efficiency_discharge[:, None]
    return np.maximum(p.rented_initial_kwh, final), np.where(short > 0.0, short / into, -short / out)


def enough_rights(p: Problem) -> tuple[Floats, Floats]:
    """Return energy and power with which every rented space can reach its final content: by a steady flow.  Shapes (M, n)."""
    energy, power = least_rights(p)
    short = p.rented_final_kwh > (p.ess_retention**p.steps)[:, None] * p.rented_initial_kwh
    gain = (
        np.where(short, p.ess_efficiency_charge[:, None], -1.0 / p.ess_efficiency_discharge[:, None]) * power * p.dt_h
    )
    content = p.rented_initial_kwh
    for t in range(p.steps):
        content = p.ess_retention[:, None] * content + p.ess_available[:, t, None] * gain
        energy = np.maximum(energy, content)
    return energy, power


def broken_needs(problem: Problem) -> list[str]:
    """Return a sentence for every store whose bounds, and every space whose last content cannot be kept, whatever it does."""
    p = problem
    lower, upper = _kept_bounds(p)
    mistakes = []
    for off, word, wanted in (
        (p.store_energy_min_kwh - lower, "short of", p.store_energy_min_kwh),
        (upper - p.store_energy_max_kwh, "above", p.store_energy_max_kwh),
    ):
        for k, i in np.argwhere(off.max(axis=2, initial=0.0) > _ROUNDING_KWH).tolist():
            t = int(np.argmax(off[k, i] > _ROUNDING_KWH))
            mistakes.append(
                f"{p.name(i)}, store {k}: at the end of interval {t} its content will be {off[k, i, t]:.6g} kWh {word} the "
                f"{wanted[k, i, t]:.6g} kWh asked for, whatever it does."
            )
    final, kept = p.rented_final_kwh, _kept_final(p)
    mistakes += [
        f"{p.name(i)}, shared store {j}: its right brings its content from {p.rented_initial_kwh[j, i]:.6g} to {kept[j, i]:.6g} "
        f"kWh at best, not to the {final[j, i]:.6g} kWh asked for."
        for j, i in np.argwhere(np.abs(kept - final) > _TOLERANCE_KWH).tolist()
    ]
    return mistakes


def check_feasible(problem: Problem) -> None:
    """Raise where a store or a shared store cannot do what is asked of it.

    Raises
    ------
    Infeasible
        Naming every store (up to twenty) and the interval.
    """
    mistakes = broken_needs(problem)
    for j in range(problem.shared):
        mistakes += _check_shared(problem, j)
    if mistakes:
        shown = mistakes[:20] + [f"and {len(mistakes) - 20} more"] * (len(mistakes) > 20)
        raise Infeasible("no plan exists:\n  " + "\n  ".join(shown))


def _check_shared(p: Problem, j: int) -> list[str]:
    """The rights that contents need, where rights are free; then the net, in sum, or the box."""
    energy, power = float(p.ess_energy_offer_kwh[j]), float(p.ess_power_offer_kw[j])
    mistakes = []
    room, needed = (column[j] for column in least_rights(p))
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        energy, power = float(p.right_energy_kwh[j].sum()), float(p.right_power_kw[j].sum())
    elif p.ess_netted[j]:
        mistakes += [
            f"{p.name(i)}, shared store {j}: its content at the beginning and at the end needs {total[i]:.6g} {unit}, a right "
            f"has {offer:.6g} at most."
            for unit, total, offer in (("kWh", room, energy), ("kW", needed, power))
            for i in np.flatnonzero(total > offer + _ROUNDING_KWH).tolist()
        ]
    else:
        mistakes += [
            f"shared store {j}: the contents at the beginning and at the end need {total:.6g} {unit}, {offer:.6g} are offered."
            for unit, total, offer in (("kWh", room.sum(), energy), ("kW", needed.sum(), power))
            if total > offer + _ROUNDING_KWH
        ]
    return mistakes + (_check_box(p, j) if p.ess_netted[j] else _check_net(p, j, energy, power * p.ess_available[j]))


def _check_box(p: Problem, b: int) -> list[str]:
    """Can a netted box keep its own bounds, whatever its tenants do?"""
    if not p.leads[b]:
        return []
    into, out, kept = p.dt_h * p.ess_efficiency_charge[b], p.dt_h / p.ess_efficiency_discharge[b], p.ess_retention[b]
    c_low, c_high, d_low, d_high, least, most = p.box_bounds()[:, b]
    low = high = float(p.box_initial_kwh()[b])
    for t in range(p.steps):
        asked = f"shared store {b}, interval {t}: its net of {p.ess_net_min_kw[b, t]:.6g} to {p.ess_net_max_kw[b, t]:.6g} kW"
        if c_low[t] > c_high[t] + _ROUNDING_KWH or d_low[t] > d_high[t] + _ROUNDING_KWH:
            return [f"{asked} is out of reach; {p.ess_power_offer_kw[b]:.6g} kW can be moved."]
        low = max(kept * low + into * c_low[t] - out * d_high[t], float(least[t]))
        high = min(kept * high + into * c_high[t] - out * d_low[t], float(most[t]))
        if low > high + _ROUNDING_KWH:
            floor = p.box_floor_kwh()[b]
            return [f"{asked} does not fit between {floor + least[t]:.6g} and {floor + most[t]:.6g} kWh."]
    return []


def _check_net(p: Problem, j: int, energy: float, usable: Floats) -> list[str]:
    """All spaces together: can their sum follow the net's bounds?"""
    e1, e2, keep = p.dt_h * p.ess_efficiency_charge[j], p.dt_h / p.ess_efficiency_discharge[j], p.ess_retention[j]
    low = high = float(p.rented_initial_kwh[j].sum())
    last = float(p.rented_final_kwh[j].sum())
    for t, power in enumerate(usable.tolist()):
        asked = f"shared store {j}, interval {t}: its net of {p.ess_net_min_kw[j, t]:.6g} to {p.ess_net_max_kw[j, t]:.6g} kW"
        least, most = max(float(p.ess_net_min_kw[j, t]), -power), min(float(p.ess_net_max_kw[j, t]), power)
        if least > most + _ROUNDING_KWH:
            return [f"{asked} is out of reach; {power:.6g} kW can be moved."]
        # opposite flows of two tenants cost content without moving the net
        low = max(keep * low + 0.5 * (e1 * (power + least) - e2 * (power - least)), 0.0)
        high = min(keep * high + (e1 if most > 0 else e2) * most, energy)
        if low > high + _ROUNDING_KWH:
            return [f"{asked} does not fit into its {energy:.6g} kWh."]
    if not low - _ROUNDING_KWH <= last <= high + _ROUNDING_KWH:
        return [f"shared store {j}: at the end it holds {low:.6g} to {high:.6g} kWh, not the {last:.6g} kWh asked for."]
    return []
