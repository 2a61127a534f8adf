"""When tenants cannot follow their plan one interval at a time: all intervals at once, as a linear program.

A firm charge that needs the last kilowatt-hour of a shared store leaves no room for a plan that is a watt-hour off.  Then
the flows nearest to the plan (least sum of changes) are found that keep everything: contents, rights, and the net's bounds.
Rights may grow into what is left of the offers where they are free.  It is slow, seconds for a hundred tenants, and rare.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market.feasible import Infeasible
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
    size, free = n * steps, not p.rights_fixed
    every, none = sparse.identity(size, format="csr"), sparse.csr_matrix((size, size))
    mine = sparse.kron(sparse.identity(n), np.ones((steps, 1)), format="csr")  # each agent's right in every interval
    nobody = sparse.csr_matrix((size, n))
    back = sparse.kron(sparse.identity(n), sparse.diags([1.0], [-1], shape=(steps, steps)), format="csr")
    # columns: charge, discharge, content, change up, change down, right to energy, right to power
    state = sparse.hstack([-e1 * every, e2 * every, every - p.ess_retention[j] * back, none, none, nobody, nobody])
    change = sparse.hstack([every, -every, none, -every, every, nobody, nobody])
    begin = np.zeros((n, steps))
    begin[:, 0] = p.ess_retention[j] * p.rented_initial_kwh[j]
    within = [sparse.hstack([every, none, none, none, none, nobody, -mine]),
              sparse.hstack([none, every, none, none, none, nobody, -mine]),
              sparse.hstack([none, none, every, none, none, -mine, nobody])]  # fmt: skip
    total = sparse.kron(np.ones((1, n)), sparse.identity(steps))
    net = sparse.hstack([total, -total, sparse.csr_matrix((steps, 3 * size + 2 * n))])
    least, most = p.ess_net_min_kw[j], p.ess_net_max_kw[j]
    offers = sparse.hstack([sparse.csr_matrix((2, 5 * size)), sparse.kron(sparse.identity(2), np.ones((1, n)))])
    below = [*within, net.tocsr()[np.isfinite(most)], -net.tocsr()[np.isfinite(least)], offers]
    offered = [max(p.ess_energy_offer_kwh[j], energy.sum()), max(p.ess_power_offer_kw[j], power.sum())]
    limits = [np.zeros(3 * size), most[np.isfinite(most)], -least[np.isfinite(least)], offered]
    content = np.tile([0.0, np.inf], (size, 1))
    content[steps - 1 :: steps] = p.rented_final_kwh[j][:, None]
    ceiling = [np.where(p.access[j] & free, np.inf, right) for right in (energy, power)]
    bounds = np.concatenate([np.tile([0.0, np.inf], (2 * size, 1)), content, np.tile([0.0, np.inf], (2 * size, 1)),
                             *(np.stack([r, top], axis=1) for r, top in zip((energy, power), ceiling, strict=True))])  # fmt: skip
    # against the plan's direction is dear, so that to charge and discharge at once is the last thing tried
    plan = (charge - discharge).ravel()
    against = np.concatenate([plan <= 0.0, plan >= 0.0]) * 10.0
    cost = np.concatenate([against, np.zeros(size), np.ones(2 * size), np.full(2 * n, 1e-3)])
    found = linprog(
        cost,
        A_ub=sparse.vstack(below, format="csr"),
        b_ub=np.concatenate(limits),
        A_eq=sparse.vstack([state, change], format="csr"),
        b_eq=np.concatenate([begin.ravel(), plan]),
        bounds=bounds,
        method="highs",
    )
    if found.status != 0:
        raise Infeasible(
            f"shared store {j}: no tenants' flows keep its net inside its bounds in every interval. Ask for a smaller firm "
            "charge, offer more space, or let the operator's own agent use it."
        )
    parts = np.split(found.x, np.cumsum([size] * 5 + [n]))
    return parts[5], parts[6], parts[0].reshape(n, steps), parts[1].reshape(n, steps)
