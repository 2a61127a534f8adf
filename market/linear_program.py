"""The exchange's problem as one linear program, solved by a simplex method: for small problems, and to the last digit.

The exchange iterates to a tolerance, and an interior-point method ends near the middle of what is optimal.  A simplex method
(HiGHS, by way of :mod:`scipy`) ends in a corner, exactly, with exact multipliers.  Differences of costs
(:mod:`market.coalition`) and questions about prices (:mod:`market.price_range`) need that.  The program is that of
:mod:`market.problem` without the term that decides ties (curvature), which is in no cost ::

    V(b) = min c z   s.t.   the agents' own rows,   coupling rows: A z = b or A z <= b,   bounds on z                (1)

A few thousand variables take a twentieth of a second, twenty thousand half a second; beyond that the exchange is the tool.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.bound import Duals, bound
from market.exchange import Clearing, clearing
from market.feasible import Infeasible, check_feasible
from market.problem import Problem
from market.repair import Draft, repair
from market.splitting import Outcome, cold_start

__all__ = ["Columns", "LinearProgram", "solve"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


def solve(problem: Problem) -> Clearing:
    """Return the optimum as a clearing: ``Coalitions(problem, players, solve=solve)`` makes values exact.

    ``residuals`` is empty and ``iterations`` is 0; ``warm`` is a cold start.

    Raises
    ------
    Infeasible
        Where a store's need or a shared store's firm charge cannot be met.

    Examples
    --------
    >>> case = Problem.plain([[0.0], [3.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> found = solve(case)
    >>> round(found.cost_eur, 9), found.price_eur_per_kwh.round(9).tolist(), found.gap < 1e-9
    (0.3, [0.3], True)
    """
    p = problem
    check_feasible(p)
    program = LinearProgram(p)
    found = program.found(np.zeros(program.coupled))
    if found is None:
        raise Infeasible(f"no plan exists: the linear program of {p.n} agents has no solution.")
    _, multiplier, z = found
    c = program.columns
    draft = Draft(
        z[c.curtailed], z[c.charge], z[c.discharge], z[c.into], z[c.out_of], z[c.right_energy], z[c.right_power]
    )
    price, rent_energy, rent_power, net = program.prices(multiplier)
    duals = Duals(price, *program.values(multiplier), net, rent_energy, rent_power)
    plan = repair(p, draft, np.nan_to_num(price))
    outcome = Outcome(True, 0, np.zeros((0, 4)), draft, duals, cold_start(p))
    return clearing(p, plan, outcome, bound(p, plan, duals))


class Columns:
    """Where the variables stand."""

    def __init__(self, p: Problem) -> None:
        flat, own, rented = (p.n, p.steps), (p.stores, p.n, p.steps), (p.shared, p.n, p.steps)
        self.size = 0
        self.bought, self.fed_in, self.sale, self.purchase = (self._next(flat) for _ in range(4))
        self.curtailed, self.breach = self._next(flat), self._next(flat)
        self.charge, self.discharge, self.energy = (self._next(own) for _ in range(3))
        self.into, self.out_of, self.content = (self._next(rented) for _ in range(3))
        self.right_energy, self.right_power = self._next(rented[:2]), self._next(rented[:2])
        self.box_charge, self.box_discharge, self.box_content = (self._next((p.shared, p.steps)) for _ in range(3))

    def _next(self, shape: tuple[int, ...]) -> Index:
        block: Index = self.size + np.arange(int(np.prod(shape))).reshape(shape)
        self.size += block.size
        return block

    @staticmethod
    def count(p: Problem) -> int:
        """Return how many variables there are."""
        return p.n * p.steps * (6 + 3 * p.stores + 3 * p.shared) + 2 * p.shared * p.n + 3 * p.shared * p.steps


class _Rows:
    """Rows of a sparse matrix under way."""

    def __init__(self) -> None:
        self.row: list[Index] = []
        self.column: list[Index] = []
        self.factor: list[Floats] = []
        self.right: list[Floats] = []
        self.count = 0

    def add(self, right: ArrayLike, *terms: tuple[Index, ArrayLike]) -> Index:
        """Add rows of the shape of ``right``; a term whose columns have more axes in front is summed over them."""
        b = np.asarray(right, dtype=np.float64)
        rows: Index = self.count + np.arange(b.size).reshape(b.shape)
        for columns, factor in terms:
            self.column.append(columns.ravel())
            self.row.append(np.broadcast_to(rows, columns.shape).ravel())
            self.factor.append(np.broadcast_to(np.asarray(factor, dtype=np.float64), columns.shape).ravel())
        self.right.append(b.ravel())
        self.count += b.size
        return rows

    def matrix(self, columns: int) -> Any:
        """Return the rows, sparse."""
        from scipy.sparse import csr_array

        parts = [np.concatenate(list_) if list_ else np.zeros(0) for list_ in (self.factor, self.row, self.column)]
        return csr_array((parts[0], (parts[1].astype(int), parts[2].astype(int))), shape=(self.count, columns))

    def right_side(self) -> Floats:
        """Return the right-hand sides."""
        return np.concatenate(self.right) if self.right else np.zeros(0)


class LinearProgram:
    """(1) of a problem; coupling rows: exchange, offers, nets from below and from above, boxes of netted stores."""

    def __init__(self, p: Problem) -> None:
        self.p = p
        c = self.columns = Columns(p)
        self.equal, self.below = _Rows(), _Rows()
        self.lower, self.upper, self.cost = np.zeros(c.size), np.full(c.size, np.inf), np.zeros(c.size)
        self._agents()
        self._own_stores()
        self._rented()
        self.trade = self.equal.add(np.zeros(p.steps), *(
            term for i in range(p.n) for term in ((c.sale[i], 1.0), (c.purchase[i], -1.0))
        )) if p.exchange == "free" else np.zeros(0, dtype=np.intp)  # fmt: skip
        self.shared_out = np.flatnonzero(~p.ess_netted)  # stores whose offers bound the sums of the rights
        self.offers, self.nets, self.boxes = self._offers(), self._nets(), self._boxes()
        self.coupled = self.equal.count + self.below.count
        self.a_equal, self.a_below = self.equal.matrix(c.size), self.below.matrix(c.size)
        self.b = np.concatenate([self.equal.right_side(), self.below.right_side()])

    def _agents(self) -> None:
        """Commercial balance, meter, costs of an agent's own flows."""
        p, c, dt = self.p, self.columns, self.p.dt_h
        flows = [(c.curtailed, 1.0), *((c.charge[k], 1.0) for k in range(p.stores)),
                 *((c.discharge[k], -1.0) for k in range(p.stores))]  # fmt: skip
        spaces = [term for j in range(p.shared) for term in ((c.into[j], 1.0), (c.out_of[j], -1.0))]
        balance = [(c.bought, 1.0), (c.fed_in, -1.0), (c.sale, -1.0), (c.purchase, 1.0)]
        self.balance = self.equal.add(p.load_kw - p.pv_kw, *balance, *((at, -f) for at, f in [*flows, *spaces]))
        self.meter = []
        for sign, limit in ((1.0, p.import_limit_kw), (-1.0, p.export_limit_kw)):
            some = np.isfinite(limit)
            at = [(columns[some], sign * factor) for columns, factor in flows]
            rows = self.below.add((limit - sign * (p.load_kw - p.pv_kw))[some], *at, (c.breach[some], -1.0))
            self.meter.append((sign, some, rows))
        self.upper[c.curtailed] = p.pv_kw
        if p.exchange != "free":
            sold = np.zeros((p.n, p.steps)) if p.pinned_exchange_kw is None else p.pinned_exchange_kw
            sold = sold if p.exchange == "pinned" else np.zeros_like(sold)
            self.lower[c.sale] = self.upper[c.sale] = np.maximum(sold, 0.0)
            self.lower[c.purchase] = self.upper[c.purchase] = np.maximum(-sold, 0.0)
        self.cost[c.bought], self.cost[c.fed_in] = dt * p.buy_eur_per_kwh, -dt * p.sell_eur_per_kwh
        self.cost[c.purchase] = dt * p.exchange_charge_eur_per_kwh
        self.cost[c.breach] = dt * p.breach_penalty_eur_per_kwh

    def _own_stores(self) -> None:
        """Contents and their bounds."""
        p, c = self.p, self.columns
        for k in range(p.stores):
            self._chain(c.charge[k], c.discharge[k], c.energy[k], p.store_efficiency_charge[k][:, None],
                        p.store_efficiency_discharge[k][:, None], p.store_retention[k][:, None], p.store_initial_kwh[k],
                        p.store_drain_kwh[k])  # fmt: skip
        self.upper[c.charge], self.upper[c.discharge] = p.store_charge_max_kw, p.store_discharge_max_kw
        self.lower[c.energy], self.upper[c.energy] = p.store_energy_min_kwh, p.store_energy_max_kwh
        self.cost[c.charge] = self.cost[c.discharge] = p.dt_h * p.store_wear_eur_per_kwh[:, :, None]

    def _rented(self) -> None:
        """Contents of rented spaces, inside rights."""
        p, c, dt = self.p, self.columns, self.p.dt_h
        for j in range(p.shared):
            self._chain(c.into[j], c.out_of[j], c.content[j], p.ess_efficiency_charge[j], p.ess_efficiency_discharge[j],
                        p.ess_retention[j], p.rented_initial_kwh[j], 0.0)  # fmt: skip
            energy, power = (np.broadcast_to(r[j][:, None], (p.n, p.steps)) for r in (c.right_energy, c.right_power))
            none = np.zeros((p.n, p.steps))
            self.below.add(none, (c.content[j], 1.0), (energy, -1.0))
            self.below.add(none, (c.into[j], 1.0), (power, -p.ess_available[j]))
            self.below.add(none, (c.out_of[j], 1.0), (power, -p.ess_available[j]))
            self.cost[c.into[j]] = dt * p.ess_wear_eur_per_kwh[j]
            self.cost[c.out_of[j]] = dt * (p.ess_wear_eur_per_kwh[j] + p.rented_charge_eur_per_kwh)
        self.lower[c.content[:, :, -1]] = self.upper[c.content[:, :, -1]] = p.rented_final_kwh
        self.lower[c.right_energy] = p.rented_initial_kwh
        self.cost[c.right_energy], self.cost[c.right_power] = p.rent_energy_eur_per_kwh, p.rent_power_eur_per_kw
        self.upper[c.right_energy[~p.access]] = self.upper[c.right_power[~p.access]] = 0.0
        if p.right_energy_kwh is not None and p.right_power_kw is not None:
            self.lower[c.right_energy] = self.upper[c.right_energy] = p.right_energy_kwh
            self.lower[c.right_power] = self.upper[c.right_power] = p.right_power_kw

    def _chain(
        self, into: Index, out: Index, content: Index, charge: ArrayLike, discharge: ArrayLike, retention: ArrayLike,
        initial: Floats, drain: ArrayLike,
    ) -> None:  # fmt: skip
        """e[t] − retention e[t−1] − dt (eta_c c − d / eta_d) = −drain."""
        kept = np.broadcast_to(np.asarray(retention, dtype=np.float64), into.shape)
        right = -np.broadcast_to(np.asarray(drain, dtype=np.float64), into.shape).copy()
        right[:, 0] += kept[:, 0] * initial
        gain, loss = self.p.dt_h * np.asarray(charge), self.p.dt_h / np.asarray(discharge)
        rows = self.equal.add(right, (content, 1.0), (into, -gain), (out, loss))
        self.equal.row.append(rows[:, 1:].ravel())
        self.equal.column.append(content[:, :-1].ravel())
        self.equal.factor.append(-kept[:, 1:].ravel())

    def _offers(self) -> tuple[Index, Index]:
        """The sums of the rights; no rows where they are given."""
        p, c = self.p, self.columns
        some = self.shared_out
        if p.rights_fixed:
            none: Index = np.zeros(0, dtype=np.intp)
            return none, none
        energy, power = (
            self.below.add(offer[some], *((right[some, i], 1.0) for i in range(p.n)))
            for offer, right in ((p.ess_energy_offer_kwh, c.right_energy), (p.ess_power_offer_kw, c.right_power))
        )
        for j in np.flatnonzero(p.ess_netted).tolist():
            self.upper[c.right_energy[j]] = np.minimum(self.upper[c.right_energy[j]], p.ess_energy_offer_kwh[j])
            self.upper[c.right_power[j]] = np.minimum(self.upper[c.right_power[j]], p.ess_power_offer_kw[j])
        return energy, power

    def _boxes(self) -> Index:
        """What the tenants of a netted box move is what the box does; rows in the order of (box, t)."""
        p, c = self.p, self.columns
        lead = np.flatnonzero(p.ess_netted & p.leads)
        self.upper[c.box_charge] = self.upper[c.box_discharge] = self.upper[c.box_content] = 0.0
        rows = []
        for b, bounds in zip(lead.tolist(), p.box_bounds()[:, lead].swapaxes(0, 1), strict=True):
            mine = [(i, j) for j in np.flatnonzero(p.ess_box == b).tolist() for i in range(p.n)]
            terms = [term for i, j in mine for term in ((c.into[j, i], 1.0), (c.out_of[j, i], -1.0))]
            rows.append(self.equal.add(np.zeros(p.steps), *terms, (c.box_charge[b], -1.0), (c.box_discharge[b], 1.0)))
            for at, low, high in zip((c.box_charge[b], c.box_discharge[b], c.box_content[b]), bounds[::2], bounds[1::2],
                                     strict=True):  # fmt: skip
                self.lower[at], self.upper[at] = low, high
            self._chain(c.box_charge[b : b + 1], c.box_discharge[b : b + 1], c.box_content[b : b + 1],
                        p.ess_efficiency_charge[b], p.ess_efficiency_discharge[b], p.ess_retention[b],
                        p.box_initial_kwh()[b : b + 1], 0.0)  # fmt: skip
        return np.array(rows, dtype=np.intp).reshape(len(lead), p.steps)

    def _nets(self) -> tuple[Index, Index]:
        """Sums of the rented flows, where they have bounds; rows in the order of (j, t)."""
        p, c = self.p, self.columns
        found = []
        for sign, limit in ((-1.0, p.ess_net_min_kw), (1.0, p.ess_net_max_kw)):
            some = np.isfinite(limit) & ~p.ess_netted[:, None]
            terms = [term for i in range(p.n) for term in ((c.into[:, i][some], sign), (c.out_of[:, i][some], -sign))]
            found.append(self.below.add(sign * limit[some], *terms))
        return found[0], found[1]

    def found(self, move: Floats) -> tuple[float, Floats, Floats] | None:
        """Return V(b + move), the multipliers dV/db of all rows, equal ones first, and z; None without a solution."""
        from scipy.optimize import linprog

        equal, b = self.equal.count, self.b + move
        if not self.cost.size:  # nobody, who can be asked for nothing
            return (0.0, np.zeros(len(b)), np.zeros(0)) if not b[:equal].any() and (b[equal:] >= 0.0).all() else None
        found = linprog(self.cost, A_ub=self.a_below, b_ub=b[equal:], A_eq=self.a_equal, b_eq=b[:equal],
                        bounds=np.stack([self.lower, self.upper], axis=1), method="highs-ds")  # fmt: skip
        if found.status != 0:
            return None
        return float(found.fun), np.concatenate([found.eqlin.marginals, found.ineqlin.marginals]), found.x

    def values(self, multiplier: Floats) -> tuple[Floats, Floats]:
        """Return the value of a kWh at every balance and at every meter, shapes (n, T)."""
        below, dt = multiplier[self.equal.count :], self.p.dt_h
        value: Floats = multiplier[self.balance] / dt
        at_meter = value.copy()
        for sign, some, rows in self.meter:
            at_meter[some] -= sign * below[rows] / dt
        return value, at_meter

    def prices(self, multiplier: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return price, rent of energy, rent of power and price of the net; shapes (T,), (M,), (M,), (M, T)."""
        p, dt = self.p, self.p.dt_h
        below = multiplier[self.equal.count :]
        price = multiplier[self.trade] / dt if self.trade.size else np.full(p.steps, np.nan)
        rents, net = np.zeros((2, p.shared)), np.zeros((p.shared, p.steps))
        for rent, rows in zip(rents, self.offers, strict=True):
            rent[self.shared_out[: rows.size]] = -below[rows]
        bounded = ~p.ess_netted[:, None]
        net[np.isfinite(p.ess_net_min_kw) & bounded] -= below[self.nets[0]] / dt
        net[np.isfinite(p.ess_net_max_kw) & bounded] += below[self.nets[1]] / dt
        for b, rows in zip(np.flatnonzero(p.ess_netted & p.leads), self.boxes, strict=True):
            net[p.ess_box == b] = multiplier[rows] / dt
        return price, rents[0], rents[1], net
