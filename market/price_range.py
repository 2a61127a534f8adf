"""Where prices are not unique: between which gains do the dual prices of a clearing leave everybody?

Exchange price, scarcity rents and the price of a store's net are multipliers y of the coupling rows of a linear program ::

    V(b) = min c z   s.t.   the agents' own rows,   coupling rows: A z = b or A z <= b                              (1)

and any y that is optimal in the dual makes the plan an equilibrium.  Where the plan is degenerate there are many, and each
pays the players differently.  What a player pays is linear in y, w y (:mod:`market.payments`), and V is convex, so ::

    max_y w y = V'(b; w),    min_y w y = −V'(b; −w)                                                                 (2)

The multipliers at b + τ w for a small τ are those of the maximum.  They are taken only if they are optimal at b, too: their
dual value there must be V(b).  So both ends are prices of an equilibrium, found by a simplex method and not by the exchange's
iteration.  The term that decides ties (curvature) is left out here, as it is out of every cost.

Limit: small problems (``LARGEST`` variables).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.coalition import Clearings
from market.payments import paid_at
from market.problem import Problem

__all__ = ["LARGEST", "PriceRange", "price_range"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

LARGEST = 20_000
"""Variables of the largest program that is looked at; it is solved twice per player."""
_STEP = 1e-3  # share of a player's position by which the coupling is moved
_SAME = 1e-8  # relative: a dual value nearer to V(b) is V(b)


@dataclass(frozen=True, slots=True, eq=False)
class PriceRange:
    """What players pay under the equilibrium prices that cost them least and most."""

    least_eur: Floats
    """Shape (k,)."""
    most_eur: Floats
    """Shape (k,)."""
    cost_eur: float
    """V(b): the least cost of the community, by the linear program."""


def price_range(market: Clearings) -> PriceRange | None:
    """Return the range of what each player pays, or None where the program is too large or has no solution."""
    p = market.problem
    if p.n == 0 or _Columns.count(p) > LARGEST:
        return None
    program = _Program(p)
    base = program.solve(np.zeros(program.coupled))
    if base is None:
        return None
    least, most = np.empty(len(market.players)), np.empty(len(market.players))
    for i in range(len(market.players)):
        towards = program.position(market, i)
        for sign, out in ((1.0, most), (-1.0, least)):
            out[i] = _end(program, market, i, sign * towards, base)
    return PriceRange(np.minimum(least, most), np.maximum(least, most), base[0])


def _end(program: _Program, market: Clearings, i: int, direction: Floats, base: tuple[float, Floats]) -> float:
    """Return what player i pays at the prices that a small step in a direction leaves."""
    for step in (_STEP, 1e-2 * _STEP, 1e-4 * _STEP):
        moved = program.solve(step * direction)
        if moved is not None:
            value, multiplier = moved
            here = value - step * float(direction @ multiplier)  # the dual value of these multipliers at b
            if here >= base[0] - _SAME * max(1.0, abs(base[0])):
                return float(paid_at(market, *program.prices(multiplier))[i])
    return float(paid_at(market, *program.prices(base[1]))[i])


class _Columns:
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


class _Program:
    """(1) for a problem; coupling rows: exchange, offers, nets from below and from above, boxes of netted stores."""

    def __init__(self, p: Problem) -> None:
        self.p = p
        c = self.columns = _Columns(p)
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
        self.equal.add(p.load_kw - p.pv_kw, *balance, *((at, -f) for at, f in [*flows, *spaces]))
        for sign, limit in ((1.0, p.import_limit_kw), (-1.0, p.export_limit_kw)):
            some = np.isfinite(limit)
            at = [(columns[some], sign * factor) for columns, factor in flows]
            self.below.add((limit - sign * (p.load_kw - p.pv_kw))[some], *at, (c.breach[some], -1.0))
        self.upper[c.curtailed] = p.pv_kw
        if p.exchange != "free":
            self.upper[c.sale] = self.upper[c.purchase] = 0.0
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
        for sign, bound in ((-1.0, p.ess_net_min_kw), (1.0, p.ess_net_max_kw)):
            some = np.isfinite(bound) & ~p.ess_netted[:, None]
            terms = [term for i in range(p.n) for term in ((c.into[:, i][some], sign), (c.out_of[:, i][some], -sign))]
            found.append(self.below.add(sign * bound[some], *terms))
        return found[0], found[1]

    def solve(self, move: Floats) -> tuple[float, Floats] | None:
        """Return V(b + move) and the multipliers dV/db of all rows, equal ones first; None without a solution."""
        from scipy.optimize import linprog

        equal, b = self.equal.count, self.b + move
        found = linprog(self.cost, A_ub=self.a_below, b_ub=b[equal:], A_eq=self.a_equal, b_eq=b[:equal],
                        bounds=np.stack([self.lower, self.upper], axis=1), method="highs-ds")  # fmt: skip
        if found.status != 0:
            return None
        return float(found.fun), np.concatenate([found.eqlin.marginals, found.ineqlin.marginals])

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

    def position(self, market: Clearings, i: int) -> Floats:
        """Return w: with the multipliers, what player i pays beyond the stores' costs."""
        p, found, player = self.p, market.together(), market.players[i]
        mine, stores = list(player.agents), list(player.shared)
        flow = found.rented_charge_kw - found.rented_discharge_kw
        w_equal, w = np.zeros(self.equal.count), np.zeros(self.below.count)
        if self.trade.size:
            w_equal[self.trade] = -found.exchange_kw[mine].sum(axis=0)

        def held(column: Floats) -> Floats:
            part: Floats = column[:, mine].sum(axis=1)
            part[stores] -= column[stores].sum(axis=1)
            return part

        for rows, column in zip(self.offers, (found.right_energy_kwh, found.right_power_kw), strict=True):
            w[rows] = -held(column)[self.shared_out[: rows.size]]
        net, bounded = held(flow), ~p.ess_netted[:, None]
        w[self.nets[0]] = net[np.isfinite(p.ess_net_min_kw) & bounded]
        w[self.nets[1]] = -net[np.isfinite(p.ess_net_max_kw) & bounded]
        for b, rows in zip(np.flatnonzero(p.ess_netted & p.leads), self.boxes, strict=True):
            w_equal[rows] = -net[p.ess_box == b].sum(axis=0)
        return np.concatenate([w_equal, w])
