"""The tenants of one box, as rows of one table: what the repair of rented flows looks at.

A shared store of its own is a box with the tenants that have access to it; in netted operation several products (firm,
interruptible) may lie in one box, and every product's tenants are rows.  The box's net is the sum over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.chain import tube
from market.feasible import least_rights
from market.problem import Problem

__all__ = ["Tenants", "box_as_store", "tenants_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Tenants:
    """``m`` tenants: the products in the box, each with all agents."""

    name: str
    rows: NDArray[np.intp]
    """Which shared stores lie in the box."""
    constants: Floats
    """e1 = dt eta_c, e2 = dt / eta_d and retention of every tenant's space.  Shape (3, m)."""
    available: Floats
    """Share of the right's power that may be used.  Shape (m, T)."""
    initial: Floats
    """Shape (m,). [kWh]"""
    final: Floats
    """Shape (m,). [kWh]"""
    least: Floats
    """Energy and power that a space needs at least.  Shape (2, m)."""
    offers: Floats
    """Energy and power that a right can have at most.  Shape (2, m)."""
    may: NDArray[np.bool_]
    """Whose rights can change.  Shape (m,)."""
    net: Floats
    """Least and largest sum of the flows.  Shape (2, T). [kW]"""
    box: Floats
    """The box's e1, e2, retention and first content."""
    box_bounds: Floats | None
    """As from :meth:`Problem.box_bounds`, shape (6, T), above the floor; None where only rights protect the box."""
    box_tube: Floats
    """Where the box's content may be so that later bounds can be met.  Shape (2, T + 1). [kWh]"""

    def gather(self, column: Floats) -> Floats:
        """Return (M, n, ...) as (m, ...), a copy."""
        return column[self.rows].reshape(-1, *column.shape[2:])

    def scatter(self, rows: Floats, column: Floats) -> None:
        """Write (m, ...) into (M, n, ...)."""
        column[self.rows] = rows.reshape(self.rows.size, -1, *rows.shape[1:])


def box_as_store(p: Problem, b: int) -> tuple[Floats, Floats, Floats]:
    """Return flows, bounds of content and drain of a netted box as a store's, whose least flows are in its drain.

    Shapes (2, T), (2, T), (T,): the store charges what the box charges above its least, and discharges alike.
    """
    c_low, c_high, d_low, d_high, low, high = p.box_bounds()[:, b]
    into, out = p.dt_h * p.ess_efficiency_charge[b], p.dt_h / p.ess_efficiency_discharge[b]
    return np.stack([c_high - c_low, d_high - d_low]), np.stack([low, high]), out * d_low - into * c_low


def tenants_of(p: Problem, b: int) -> Tenants:
    """Return the tenants of the box that row ``b`` describes."""
    rows = np.flatnonzero(p.ess_box == b)
    m = rows.size * p.n
    into, out = p.dt_h * p.ess_efficiency_charge, p.dt_h / p.ess_efficiency_discharge
    energy, power = least_rights(p)
    net, bounds, tubes = np.stack([p.ess_net_min_kw[b], p.ess_net_max_kw[b]]), None, np.empty((2, p.steps + 1))
    tubes[0], tubes[1] = -np.inf, np.inf
    if p.ess_netted[b]:
        bounds = p.box_bounds()[:, b]
        net = np.stack([bounds[0] - bounds[3], bounds[1] - bounds[2]])
        flows, contents, drain = box_as_store(p, b)
        tube(into[b], out[b], p.ess_retention[b], *flows, *contents, drain, *tubes)
    constants = np.stack([into, out, p.ess_retention])[:, rows]
    offers = np.stack([p.ess_energy_offer_kwh, p.ess_power_offer_kw])[:, rows]
    return Tenants(
        name=f"shared store {b}",
        rows=rows,
        constants=np.repeat(constants, p.n, axis=1),
        available=np.repeat(p.ess_available[rows], p.n, axis=0),
        initial=p.rented_initial_kwh[rows].reshape(m),
        final=p.rented_final_kwh[rows].reshape(m),
        least=np.stack([energy[rows].reshape(m), power[rows].reshape(m)]),
        offers=np.repeat(offers, p.n, axis=1),
        may=p.access[rows].reshape(m) & (not p.rights_fixed),
        net=net,
        box=np.array([into[b], out[b], p.ess_retention[b], p.box_initial_kwh()[b]]),
        box_bounds=bounds,
        box_tube=tubes,
    )
