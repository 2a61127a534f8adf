"""What the operator of a shared storage ends a day with, where what it wishes is out of reach.

The operator wants its account to end at a wish w; limits of the storage's connection and firm charges bound the net of all
holders.  Where no plan ends at w, the end that costs least to reach is found: the least miss, by flows that are worth it ::

    min  |e_op[T] − w| + 0.9 η_c Δ Σ (c + d) + 2.2 Δ Σ (net outside its bounds)                                      (1)

over the flows c, d of everybody who holds energy, inside their rights; the contents of all together fit into the box.  A kWh that
comes in and stays costs less than 2.2, so the net leaves its bounds only where nobody could keep them; passing energy to and fro
until it is lost costs more, so what is stuck stays.  The operator's right grows where it must hold more than it was let.

One linear program, solved only after a clearing has found no plan.
Limits: the wish is missed by the operator alone; tenants end as they must.  Below 80 per cent efficiency each way (1) may
waste energy, for which the market then finds no plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market.exchange import Problem
from market.restore import nearest

__all__ = ["End", "reachable_end"]

Vector = NDArray[np.float64]

FLOW_WEIGHT = 0.9
OUTSIDE_WEIGHT = 2.2
LEAST_KWH = 1e-6
"""What is less is the solver's rounding."""


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """The nearest problem that has a plan."""

    problem: Problem
    missed_kwh: float
    """What the operator will hold at the end beyond its wish; negative: what it will lack. [kWh]"""
    outside_kw: Vector
    """How far the net must be above (+) or below (−) its bounds, shape (T,). [kW]"""


def reachable_end(problem: Problem, box_kwh: float) -> End | None:
    """Return the problem with the end of (1), or None where there is none either.

    Parameters
    ----------
    problem
        With one shared store, whose operator is the last row.
    box_kwh
        What the box holds. [kWh]
    """
    from scipy import sparse

    p, steps = problem, problem.steps
    rows = np.flatnonzero(p.rented_initial_kwh[0] > 0.0)
    rows = np.append(rows[rows < p.n - 1], p.n - 1)
    m, size = rows.size, rows.size * steps
    into, out = p.dt_h * p.ess_efficiency_charge[0], p.dt_h / p.ess_efficiency_discharge[0]
    energy = np.full(m, p.ess_energy_offer_kwh[0])
    power = np.full(m, p.ess_power_offer_kw[0])
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        energy, power = p.right_energy_kwh[0, rows], p.right_power_kw[0, rows]
        energy[-1] = max(energy[-1], box_kwh)
    every, each = sparse.identity(size), sparse.identity(steps)
    back = sparse.kron(sparse.identity(m), sparse.diags([1.0], [-1], shape=(steps, steps)))
    total, none = sparse.kron(np.ones((1, m)), each), sparse.csr_matrix((size, 2 * steps))
    last = sparse.csr_matrix(([1.0], ([0], [size - 1])), shape=(1, size))
    # columns: charge, discharge, contents; above and below the net's bounds; above and below the wish
    equal = sparse.bmat([[-into * every, out * every, every - p.ess_retention[0] * back, none, None],
                         [None, None, last, None, np.array([[-1.0, 1.0]])]], format="csr")  # fmt: skip
    below = sparse.bmat([[total, -total, None, -each, None], [-total, total, None, None, -each],
                         [None, None, total, None, None]], format="csr")  # fmt: skip
    below = sparse.hstack([below, sparse.csr_matrix((3 * steps, 2))], format="csr")
    start = np.zeros((m, steps))
    start[:, 0] = p.ess_retention[0] * p.rented_initial_kwh[0, rows]
    wish = float(p.rented_final_kwh[0, -1])
    room = max(box_kwh, float(p.rented_initial_kwh[0].sum()))
    limits = np.concatenate([p.ess_net_max_kw[0], -p.ess_net_min_kw[0], np.full(steps, room)])
    bounded = np.isfinite(limits)
    bounds = np.zeros((3 * size + 2 * steps + 2, 2))
    bounds[:, 1] = np.inf
    bounds[: 2 * size, 1] = np.tile((power[:, None] * p.ess_available[0]).ravel(), 2)
    bounds[2 * size : 3 * size, 1] = np.repeat(energy, steps)
    ends = slice(2 * size + steps - 1, 3 * size - 1, steps)
    bounds[ends] = p.rented_final_kwh[0, rows[:-1], None]
    cost = np.concatenate([np.full(2 * size, FLOW_WEIGHT * into), np.zeros(size),
                           np.full(2 * steps, OUTSIDE_WEIGHT * p.dt_h), np.ones(2)])  # fmt: skip
    found = nearest(cost, below[bounded], limits[bounded], equal, np.append(start.ravel(), wish), bounds)
    if found is None:
        return None
    return _moved(p, found, size)


def _moved(p: Problem, found: Vector, size: int) -> End:
    """Return the problem with what was found."""
    steps = p.steps
    contents = found[2 * size : 3 * size].reshape(-1, steps)[-1]
    outside = found[3 * size : 3 * size + 2 * steps].reshape(2, steps)
    outside = np.where(outside > LEAST_KWH, outside, 0.0)
    missed = float(found[-2] - found[-1])
    final = p.rented_final_kwh.copy()
    if abs(missed) > LEAST_KWH:
        final[0, -1] += missed
    else:
        missed = 0.0
    if not missed and not outside.any():
        return End(p, missed, outside[0])
    right, offer = p.right_energy_kwh, p.ess_energy_offer_kwh
    if right is not None:
        right = right.copy()
        right[0, -1] = max(right[0, -1], float(contents.max()), final[0, -1])
        offer = np.maximum(offer, right.sum(axis=1))
    moved = replace(
        p, rented_final_kwh=final, right_energy_kwh=right, ess_energy_offer_kwh=offer,
        ess_net_max_kw=p.ess_net_max_kw + outside[:1], ess_net_min_kw=p.ess_net_min_kw - outside[1:],
    )  # fmt: skip
    return End(moved, missed, outside[0] - outside[1])
