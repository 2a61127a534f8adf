"""When tenants cannot follow their plan one interval at a time: all intervals at once, as a linear program.

A firm charge that needs the last kilowatt-hour of a shared store leaves no room for a plan that is a watt-hour off.  Then
the flows nearest to the plan (least sum of changes) are found that keep everything: contents, rights, and the net's bounds.
Rights that are free may change too.  It is slow, seconds for a hundred tenants, and rare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market.feasible import Infeasible, least_rights
from market.problem import Problem

__all__ = ["restore"]

Floats = NDArray[np.float64]


def restore(
    p: Problem, j: int, energy: Floats, power: Floats, charge: Floats, discharge: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return right_energy, right_power, charge and discharge of shared store j, nearest to those given.

    Raises
    ------
    Infeasible
        Where there are none.
    """
    from scipy import sparse
    from scipy.optimize import linprog

    n, steps, e1, e2 = p.n, p.steps, p.dt_h * p.ess_efficiency_charge[j], p.dt_h / p.ess_efficiency_discharge[j]
    size = n * steps
    every, none = sparse.identity(size, format="csr"), sparse.csr_matrix((size, size))
    mine, zero = sparse.kron(sparse.identity(n), np.ones((steps, 1)), format="csr"), sparse.csr_matrix((size, n))
    back = sparse.kron(sparse.identity(n), sparse.diags([1.0], [-1], shape=(steps, steps)), format="csr")

    def row(*blocks: object) -> object:
        """Columns: charge, discharge, content, change up and down, right to energy up and down, to power up and down."""
        return sparse.hstack(blocks, format="csr")

    state = row(-e1 * every, e2 * every, every - p.ess_retention[j] * back, none, none, *[zero] * 4)
    change = row(every, -every, none, -every, every, *[zero] * 4)
    first = np.zeros((n, steps))
    first[:, 0] = p.ess_retention[j] * p.rented_initial_kwh[j]
    total, over_all = sparse.kron(np.ones((1, n)), sparse.identity(steps), format="csr"), np.ones((1, n))
    net = row(total, -total, sparse.csr_matrix((steps, 3 * size + 4 * n)))
    low, high = np.isfinite(p.ess_net_min_kw[j]), np.isfinite(p.ess_net_max_kw[j])
    below = [
        row(every, none, none, none, none, zero, zero, -mine, mine),
        row(none, every, none, none, none, zero, zero, -mine, mine),
        row(none, none, every, none, none, -mine, mine, zero, zero),
        net[high],  # type: ignore[index]
        -net[low],  # type: ignore[index]
        row(sparse.csr_matrix((2, 5 * size)), sparse.kron(np.eye(2), np.hstack([over_all, -over_all]))),
    ]
    room = (p.ess_energy_offer_kwh[j] - energy.sum(), p.ess_power_offer_kw[j] - power.sum())
    limits = [mine @ power, mine @ power, mine @ energy, p.ess_net_max_kw[j, high], -p.ess_net_min_kw[j, low],
              np.maximum(room, 0.0)]  # fmt: skip
    content = np.full((n, steps), np.inf)
    content[:, -1] = p.rented_final_kwh[j]
    lower, upper = np.zeros(5 * size + 4 * n), np.full(5 * size + 4 * n, np.inf)
    lower[2 * size : 3 * size] = np.where(np.isinf(content), 0.0, content).ravel()
    upper[2 * size : 3 * size] = content.ravel()
    least_kwh, least_kw = least_rights(p)
    grows = np.where(p.access[j] & (not p.rights_fixed), np.inf, 0.0)
    shrinks = [
        np.maximum(r - least, 0.0) * (not p.rights_fixed) for r, least in ((energy, least_kwh[j]), (power, least_kw[j]))
    ]
    upper[5 * size :] = np.concatenate([grows, shrinks[0], grows, shrinks[1]])
    # against the plan's direction is dear, so that to charge and discharge at once is the last thing tried
    plan = (charge - discharge).ravel()
    against = np.concatenate([plan <= 0.0, plan >= 0.0]) * 10.0
    found = linprog(
        np.concatenate([against, np.zeros(size), np.ones(2 * size), np.full(4 * n, 1e-2)]),
        A_ub=sparse.vstack(below, format="csr"),
        b_ub=np.concatenate(limits),
        A_eq=sparse.vstack([state, change], format="csr"),
        b_eq=np.concatenate([first.ravel(), plan]),
        bounds=np.stack([lower, upper], axis=1),
        method="highs",
    )
    if found.status != 0:
        raise Infeasible(
            f"shared store {j}: no tenants' flows keep its net inside its bounds in every interval. Ask for a smaller firm "
            "charge, offer more space, or let the operator's own agent use it."
        )
    parts = np.split(found.x, np.cumsum([size] * 5 + [n] * 3))
    return (energy + parts[5] - parts[6], power + parts[7] - parts[8], parts[0].reshape(n, steps),
            parts[1].reshape(n, steps))  # fmt: skip
