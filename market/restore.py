"""When tenants cannot follow their plan one interval at a time: all intervals at once, as a linear program.

A firm charge that needs the last kilowatt-hour of a shared store leaves no room for a plan that is a watt-hour off.  Then
the flows nearest to the plan (least sum of changes) are found that keep everything: contents, rights, the net's bounds and
those of a netted box.  Rights that are free may change too.  It is slow, seconds for a hundred tenants, and rare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from market.feasible import Infeasible

if TYPE_CHECKING:
    from market.tenants import Tenants

__all__ = ["nearest", "restore"]

Floats = NDArray[np.float64]


def restore(
    tenants: Tenants, energy: Floats, power: Floats, charge: Floats, discharge: Floats, still: float = 1e-3
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return right_energy, right_power (m,), charge and discharge (m, T) of one box's tenants, nearest to those given.

    ``still`` is what a netted box's flows cost beside the changes of the plan: the more, the less it seems to charge and
    discharge at once, which it cannot.

    Raises
    ------
    Infeasible
        Where there are none.
    """
    from scipy import sparse

    m, steps, box = energy.size, charge.shape[1], tenants.box_bounds
    e1, e2, kept = (sparse.diags(np.repeat(column, steps)) for column in tenants.constants)
    size = m * steps
    every, none = sparse.identity(size, format="csr"), sparse.csr_matrix((size, size))
    mine, zero = sparse.kron(sparse.identity(m), np.ones((steps, 1)), format="csr"), sparse.csr_matrix((size, m))
    usable = sparse.diags(tenants.available.ravel()) @ mine
    back = sparse.kron(sparse.identity(m), sparse.diags([1.0], [-1], shape=(steps, steps)), format="csr")
    boxes = 0 if box is None else 3 * steps  # its charge, discharge and content

    def row(*blocks: object) -> object:
        """Columns: charge, discharge, content, change up and down, right to energy up and down, to power up and down; box."""
        rows = blocks[0].shape[0]  # type: ignore[attr-defined]
        missing = 5 * size + 4 * m + boxes - sum(b.shape[1] for b in blocks)  # type: ignore[attr-defined]
        return sparse.hstack([*blocks, sparse.csr_matrix((rows, missing))], format="csr")

    equal = [row(-e1, e2, every - kept @ back), row(every, -every, none, -every, every)]
    plan = (charge - discharge).ravel()
    first = np.zeros((m, steps))
    first[:, 0] = tenants.constants[2] * tenants.initial
    right_side = [first.ravel(), plan]
    total, over_all = sparse.kron(np.ones((1, m)), sparse.identity(steps), format="csr"), np.ones((1, m))
    below = [
        row(every, none, none, none, none, zero, zero, -usable, usable),
        row(none, every, none, none, none, zero, zero, -usable, usable),
        row(none, none, every, none, none, -mine, mine),
    ]
    limits = [usable @ power, usable @ power, mine @ energy]
    if box is None:
        low, high = np.isfinite(tenants.net[0]), np.isfinite(tenants.net[1])
        net = row(total, -total)
        below += [net[high], -net[low],  # type: ignore[index]
                  row(sparse.csr_matrix((2, 5 * size)), sparse.kron(np.eye(2), np.hstack([over_all, -over_all])))]  # fmt: skip
        room = np.array([tenants.offers[0, 0] - energy.sum(), tenants.offers[1, 0] - power.sum()])
        limits += [tenants.net[1, high], -tenants.net[0, low], np.maximum(room, 0.0)]
    else:
        step, empty = sparse.identity(steps), sparse.csr_matrix((steps, 3 * size + 4 * m))
        into, out, left, inside = tenants.box
        behind = sparse.identity(steps) - left * sparse.diags([1.0], [-1], shape=(steps, steps))
        equal += [row(total, -total, empty, -step, step),
                  row(sparse.csr_matrix((steps, 5 * size + 4 * m)), -into * step, out * step, behind)]  # fmt: skip
        right_side += [np.zeros(steps), np.concatenate([[left * inside], np.zeros(steps - 1)])]
    # against the plan's direction is dear, so that to charge and discharge at once is the last thing tried
    against = np.concatenate([plan <= 0.0, plan >= 0.0]) * 10.0
    cost = np.concatenate([against, np.zeros(size), np.ones(2 * size), np.full(4 * m, 1e-2), np.full(boxes, still)])
    found = nearest(
        cost,
        sparse.vstack(below, format="csr"),
        np.concatenate(limits),
        sparse.vstack(equal, format="csr"),
        np.concatenate(right_side),
        _bounds(tenants, energy, power, size),
    )
    if found is None:
        raise Infeasible(
            f"{tenants.name}: no tenants' flows keep its net inside its bounds in every interval. Ask for a smaller firm "
            "charge, offer more space, or let the operator's own agent use it."
        )
    parts = np.split(found, np.cumsum([size] * 5 + [m] * 4))
    return (energy + parts[5] - parts[6], power + parts[7] - parts[8], parts[0].reshape(m, steps),
            parts[1].reshape(m, steps))  # fmt: skip


def _bounds(tenants: Tenants, energy: Floats, power: Floats, size: int) -> Floats:
    """Return the least and largest value of every column, shape (columns, 2)."""
    m, box = energy.size, tenants.box_bounds
    steps, boxes = size // m, 0 if box is None else box[::2].size
    lower, upper = np.zeros(5 * size + 4 * m + boxes), np.full(5 * size + 4 * m + boxes, np.inf)
    last = slice(2 * size + steps - 1, 3 * size, steps)
    lower[last] = upper[last] = tenants.final
    grow = [
        np.where(tenants.may, np.maximum(cap - r, 0.0), 0.0)
        for cap, r in zip(tenants.offers, (energy, power), strict=True)
    ]
    shrink = [
        np.where(tenants.may, np.maximum(r - least, 0.0), 0.0)
        for least, r in zip(tenants.least, (energy, power), strict=True)
    ]
    upper[5 * size : 5 * size + 4 * m] = np.concatenate([grow[0], shrink[0], grow[1], shrink[1]])
    if box is not None:
        lower[-boxes:], upper[-boxes:] = box[::2].ravel(), box[1::2].ravel()
    return np.stack([lower, upper], axis=1)


def nearest(
    cost: Floats, below: Any, limits: Floats, equal: Any, right_side: Floats, bounds: Floats
) -> Floats | None:  # fmt: skip
    """Return the least of ``cost z`` under ``below z <= limits``, ``equal z = right_side`` and bounds, shape (columns, 2), or None.

    As exactly as HiGHS can: what comes out is acted on.
    """
    from scipy.optimize import linprog

    found = linprog(
        cost,
        A_ub=below,
        b_ub=limits,
        A_eq=equal,
        b_eq=right_side,
        bounds=bounds,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-9},
    )
    return found.x if found.status == 0 else None
