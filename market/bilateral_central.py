"""The bilateral market solved whole, by CVXPY and Clarabel: the yardstick.

The same problem (:class:`market.bilateral_problem.Bilateral`), the same repair and the same certificate as
:func:`market.bilateral.clear`, so the two can be compared field by field.  CVXPY is imported when it is needed.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.bilateral import BilateralClearing, clearing, possible
from market.bilateral_bound import certificate
from market.bilateral_problem import Bilateral
from market.bilateral_repair import links, placed
from market.bilateral_sides import Draft

__all__ = ["BilateralUnsolved", "optimum", "solve"]

Floats = NDArray[np.float64]


class BilateralUnsolved(RuntimeError):
    """The solver found no optimum; the message says what it reported."""


def solve(problem: Bilateral, **solver_options: Any) -> BilateralClearing:
    """Return the central optimum as a clearing; ``iterations`` counts the solver's, ``residuals`` is empty.

    Raises
    ------
    BilateralUnsolved
        Where the solver gives up.
    """
    return optimum(problem, **solver_options)[0]


def optimum(problem: Bilateral, **solver_options: Any) -> tuple[BilateralClearing, float]:
    """Return the central optimum as a clearing, and the solver's own least cost, in which nothing is repaired.  [eur]

    Raises
    ------
    BilateralUnsolved
        Where the solver gives up.
    """
    cp = importlib.import_module("cvxpy")
    p, trouble, beyond = possible(problem)
    least_eur = 0.0
    partners, curves, slots = links(p), p.curves, 0 if p.stores is None else p.stores.stores
    least, most = p.limits_kw()
    empty = np.zeros((slots, p.n, p.steps))
    if p.n == 0:
        draft = Draft(np.zeros((0, p.steps)), np.zeros((0, p.steps)), empty, empty, np.stack([empty] * 3), np.ones(p.steps), 0.0, 0, True,
                      np.zeros((0, 4)))  # fmt: skip
    else:
        own = cp.Variable((p.n, p.steps))
        flows = [[cp.Variable((p.n, p.steps), nonneg=True) for _ in range(2)] for _ in range(slots)]
        goal = cp.sum(cp.multiply(0.5 * curves.a_eur_per_kw2h, cp.square(own)) + cp.multiply(curves.b_eur_per_kwh, own))
        constraints = [own >= curves.p_min_kw, own <= curves.p_max_kw]
        power: Any = np.zeros((p.n, p.steps))
        sides = []  # what first agents sell and what second agents sell, each only where that may be at all
        for way, room in ((1.0, most), (-1.0, -least)):
            pairs = np.flatnonzero((room > 0).any(axis=1))
            if pairs.size == 0:
                continue
            sold, limit = cp.Variable((pairs.size, p.steps), nonneg=True), room[pairs]
            sides.append((way, pairs, sold))
            power = power + way * (_incidence(p)[:, pairs] @ sold)
            charge = (p.charge_first_eur_per_kwh + p.charge_second_eur_per_kwh)[pairs]
            goal += cp.sum(cp.multiply(np.array(np.broadcast_to(charge, limit.shape)), sold))
            inside = np.isfinite(limit)
            constraints += [sold[inside] <= limit[inside]] if inside.any() else []
        balance: Any = own
        contents = []
        for k in range(slots):
            balance = balance + flows[k][1] - flows[k][0]
            content, rules, wear = _store(cp, p, k, flows[k][0], flows[k][1])
            contents.append(content)
            constraints += rules
            goal += wear
        match = balance - power == 0
        solved = cp.Problem(cp.Minimize(curves.dt_h * goal), [match, *constraints])
        solved.solve(solver=cp.CLARABEL, **solver_options)
        if solved.status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
            raise BilateralUnsolved(
                f"the central solver reports {solved.status!r} for {p.n} agents and {p.pairs} pairs."
            )
        least_eur = float(solved.value)
        trades = np.zeros((p.pairs, p.steps))
        for way, pairs, sold in sides:
            trades[pairs] += way * sold.value
        into, out = (np.array([f[way].value for f in flows]).reshape(empty.shape) for way in range(2))
        energy = np.array([c.value for c in contents]).reshape(empty.shape)
        draft = Draft(np.clip(trades, least, most), -match.dual_value / curves.dt_h, into, out, np.stack([into, out, energy]), np.ones(p.steps), 0.0,
                      int(solved.solver_stats.num_iters), True, np.zeros((0, 4)))  # fmt: skip
    trades, charge_kw, discharge_kw, content_kwh = placed(
        p, partners, draft.trades_kw, draft.charge_kw, draft.discharge_kw
    )
    found = certificate(p, partners, trades, charge_kw, discharge_kw, draft.marginal_eur_per_kwh)
    return clearing(draft, found, trades, charge_kw, discharge_kw, content_kwh, trouble, beyond), least_eur


def _incidence(p: Bilateral) -> Any:
    """Return the matrix that sums the trades of every agent."""
    from scipy import sparse

    rows = np.concatenate([p.first, p.second])
    signs = np.concatenate([np.ones(p.pairs), -np.ones(p.pairs)])
    return sparse.csr_array((signs, (rows, np.tile(np.arange(p.pairs), 2))), shape=(p.n, p.pairs))


def _store(cp: Any, p: Bilateral, k: int, charge: Any, discharge: Any) -> tuple[Any, list[Any], Any]:
    """Return contents, constraints and wear per hour of everybody's k-th store."""
    s = p.stores
    assert s is not None
    content = cp.Variable((p.n, p.steps))

    def each(row: Floats) -> Floats:
        return np.array(np.broadcast_to(row[:, None], (p.n, p.steps)))

    into = cp.multiply(each(p.curves.dt_h * s.store_efficiency_charge[k]), charge)
    out = cp.multiply(each(p.curves.dt_h / s.store_efficiency_discharge[k]), discharge)
    kept = each(s.store_retention[k])
    change = into - out - s.store_drain_kwh[k]
    rules = [
        content[:, 0] == kept[:, 0] * s.store_initial_kwh[k] + change[:, 0],
        charge <= s.store_charge_max_kw[k],
        discharge <= s.store_discharge_max_kw[k],
        content >= s.store_energy_min_kwh[k],
        content <= s.store_energy_max_kwh[k],
    ]
    if p.steps > 1:
        rules.append(content[:, 1:] == cp.multiply(kept[:, 1:], content[:, :-1]) + change[:, 1:])
    return content, rules, cp.sum(cp.multiply(each(s.store_wear_eur_per_kwh[k]), charge + discharge))
