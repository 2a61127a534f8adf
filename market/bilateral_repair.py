"""From nearly agreed trades to a plan that can be delivered: one number per pair, every power inside its bounds.

A pair's trade is one number, so what one sells the other buys, exactly.  What is left is that an agent's trades may sum to
a little more than it can bring.  In this order:

1. stores follow the planned flows inside what they can do (:func:`market.follow.follow_own`);
2. *trim*: who sells too much cuts all its sales alike, who buys too much its purchases.  Trades only shrink, so where
   everybody may stay at zero this ends with every bound kept;
3. *shift*: who must bring more finds partners with room to spare;
4. where that does not reach, a linear program finds the nearest trades (and, if need be, other flows of the stores).

A power that no partner can take at all is found before anything is iterated (:func:`unplaced`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.bilateral_problem import Bilateral, OwnStores
from market.compiled import EXACT
from market.follow import follow_own

__all__ = ["Links", "followed", "links", "placed", "powers", "unplaced"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Links = tuple[Integers, Integers, Integers, Floats]
"""Of every agent: where its pairs start (n + 1,), the pairs (2 E,), the partners (2 E,), +1 where it is the first (2 E,)."""

_ROUNDING = 1e-12  # of an agent's own bounds: what is less is rounding
_DIGITS = 1e-15  # of what it trades in all


def links(problem: Bilateral) -> Links:
    """Return who has which partners."""
    ends = np.concatenate([problem.first, problem.second])
    order = np.argsort(ends, kind="stable").astype(np.int64)
    starts = np.searchsorted(ends[order], np.arange(problem.n + 1)).astype(np.int64)
    pairs = max(problem.pairs, 1)
    partner = np.concatenate([problem.second, problem.first])[order]
    return starts, order % pairs, partner, np.where(order < pairs, 1.0, -1.0)


@njit(**EXACT)
def powers(first: Integers, second: Integers, trades: Floats, power: Floats, back: float = -1.0) -> None:
    """Fill ``power`` (n, T) with what each agent sells in all; with ``back`` 1 and trades without sign, with what it trades."""
    power[:] = 0.0
    for e in range(trades.shape[0]):
        trade, give, take = trades[e], power[first[e]], power[second[e]]
        for t in range(trade.shape[0]):
            give[t] += trade[t]
            take[t] += back * trade[t]


@njit(**EXACT)
def _trim(
    starts: Integers, pair: Integers, partner: Integers, sign: Floats, trades: Floats, power: Floats, low: Floats,
    high: Floats, rounding: Floats,
) -> None:  # fmt: skip
    """Cut sales, and purchases, of who has too many."""
    agents, steps = power.shape
    for _ in range(200):
        cut = 0
        for i in range(agents):
            for t in range(steps):
                over = power[i, t] - high[i, t]
                short = low[i, t] - power[i, t]
                if over <= rounding[i, t] and short <= rounding[i, t]:
                    continue
                way = 1.0 if over > 0.0 else -1.0
                total = 0.0
                for q in range(starts[i], starts[i + 1]):
                    total += max(way * sign[q] * trades[pair[q], t], 0.0)
                if total <= 0.0:
                    continue
                share = min(max(over, short) / total, 1.0)
                for q in range(starts[i], starts[i + 1]):
                    less = share * max(way * sign[q] * trades[pair[q], t], 0.0)
                    trades[pair[q], t] -= way * sign[q] * less
                    power[i, t] -= way * less
                    power[partner[q], t] += way * less
                cut += 1
        if cut == 0:
            break


@njit(**EXACT)
def _shift(
    starts: Integers, pair: Integers, partner: Integers, sign: Floats, trades: Floats, least: Floats, most: Floats,
    power: Floats, low: Floats, high: Floats, rounding: Floats,
) -> None:  # fmt: skip
    """Let who must bring more, or take more, do it with partners that have room; first with those that trade already."""
    agents, steps = power.shape
    for i in range(agents):
        for t in range(steps):
            need = low[i, t] - power[i, t]
            if need <= rounding[i, t]:
                need = high[i, t] - power[i, t]
                if need >= -rounding[i, t]:
                    continue
            way = 1.0 if need > 0.0 else -1.0
            for strangers in range(2):
                for q in range(starts[i], starts[i + 1]):
                    e, k = pair[q], partner[q]
                    if (trades[e, t] == 0.0) != (strangers == 1):
                        continue
                    up = way * sign[q] > 0.0
                    room = most[e, t] - trades[e, t] if up else trades[e, t] - least[e, t]
                    spare = power[k, t] - low[k, t] if way > 0.0 else high[k, t] - power[k, t]
                    more = max(min(abs(need), room, spare), 0.0)
                    trades[e, t] += way * sign[q] * more
                    power[i, t] += way * more
                    power[k, t] -= way * more
                    need -= way * more


def followed(problem: Bilateral, charge: Floats, discharge: Floats) -> tuple[Floats, Floats, Floats]:
    """Return charge, discharge and contents (K, n, T + 1) that the stores can really do, never both at once."""
    s = problem.stores
    if s is None:
        return charge, discharge, np.zeros((0, problem.n, problem.steps + 1))
    charge, discharge = charge.copy(), discharge.copy()
    energy = np.empty((s.stores, problem.n, problem.steps + 1))
    follow_own(problem.curves.dt_h, s.store_charge_max_kw, s.store_discharge_max_kw, s.store_energy_min_kwh,
               s.store_energy_max_kwh, s.store_drain_kwh, s.store_initial_kwh, s.store_efficiency_charge,
               s.store_efficiency_discharge, s.store_retention, charge, discharge, energy)  # fmt: skip
    return charge, discharge, energy


def _contents(problem: Bilateral, charge: Floats, discharge: Floats) -> Floats:
    """Return the contents, shape (K, n, T + 1), that flows lead to which are known to keep every bound."""
    s, dt = problem.stores, problem.curves.dt_h
    assert s is not None
    energy = np.empty((s.stores, problem.n, problem.steps + 1))
    energy[:, :, 0] = s.store_initial_kwh
    into, out = dt * s.store_efficiency_charge, dt / s.store_efficiency_discharge
    for t in range(problem.steps):
        content = s.store_retention * energy[:, :, t] - s.store_drain_kwh[:, :, t]
        content = content + into * charge[:, :, t] - out * discharge[:, :, t]
        energy[:, :, t + 1] = np.clip(content, s.store_energy_min_kwh[:, :, t], s.store_energy_max_kwh[:, :, t])
    return energy


def placed(
    problem: Bilateral, partners: Links, trades: Floats, charge: Floats, discharge: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return trades (E, T) that keep every bound, and the stores' charge, discharge and contents that go with them."""
    charge, discharge, energy = followed(problem, charge, discharge)
    curves, net = problem.curves, (charge - discharge).sum(axis=0)
    low, high = curves.p_min_kw - net, curves.p_max_kw - net
    power = np.empty((problem.n, problem.steps))
    powers(problem.first, problem.second, trades, power)
    gross = np.zeros_like(power)
    powers(problem.first, problem.second, abs(trades), gross, 1.0)
    rounding = _ROUNDING * np.maximum(abs(low), abs(high)) + _DIGITS * gross
    if _worst(power, low, high, rounding).any():
        trades = trades.copy()
        _trim(*partners, trades, power, low, high, rounding)
        if _worst(power, low, high, rounding).any():
            least, most = problem.limits_kw()
            _shift(*partners, trades, least, most, power, low, high, rounding)
        powers(problem.first, problem.second, trades, power)
        off = _worst(power, low, high, 1e3 * rounding)
        if off.any() and problem.stores is not None:
            found = _Program(problem, np.arange(problem.steps)).nearest(trades, charge, discharge)
            if found is not None:
                powers(problem.first, problem.second, found[0], power)
                charge, discharge, energy = followed(problem, found[1], found[2])
                net = (charge - discharge).sum(axis=0)
                if _worst(power, curves.p_min_kw - net, curves.p_max_kw - net, 1e3 * rounding).any():
                    # some energy can only be burnt: its owner must bring it, and nobody takes it
                    charge, discharge, energy = found[1], found[2], _contents(problem, found[1], found[2])
                return found[0], charge, discharge, energy
        for t in np.flatnonzero(off) if problem.stores is None else ():
            found = _Program(problem, np.array([t])).nearest(trades[:, [t]], charge[:, :, [t]], discharge[:, :, [t]])
            if found is not None:
                trades[:, [t]] = found[0]
    return trades, charge, discharge, energy


def _worst(power: Floats, low: Floats, high: Floats, rounding: Floats) -> NDArray[np.bool_]:
    """Return the intervals in which somebody is out of bounds."""
    out: NDArray[np.bool_] = np.any(np.maximum(low - power, power - high) > rounding, axis=0)
    return out


def unplaced(problem: Bilateral) -> tuple[Floats, Floats]:
    """Return what must be brought, and what must be taken, though no partner is there for it.  Two arrays (n, T). [kW]

    The least total of it, by a linear program; where somebody may always stay at zero there is nothing to find.
    """
    curves, most = problem.curves, np.zeros((2, problem.n, problem.steps))
    forced = ((curves.p_min_kw > 0) | (curves.p_max_kw < 0)).any(axis=0)
    if problem.stores is None:
        for t in np.flatnonzero(forced):
            most[:, :, [t]] = _Program(problem, np.array([t])).shortfall()
    elif forced.any() or not _may_idle(problem.stores):
        most[:] = _Program(problem, np.arange(problem.steps)).shortfall()
    return most[0], most[1]


def _may_idle(stores: OwnStores) -> bool:
    """Return whether all contents stay inside their bounds if nothing is ever charged or discharged."""
    content, inside = stores.store_initial_kwh, True
    for t in range(stores.store_drain_kwh.shape[2]):
        content = stores.store_retention * content - stores.store_drain_kwh[:, :, t]
        least, most = stores.store_energy_min_kwh[:, :, t], stores.store_energy_max_kwh[:, :, t]
        inside = inside and bool(((least <= content + 1e-9) & (content <= most + 1e-9)).all())
    return inside


class _Program:
    """The market's constraints as a linear program over some intervals: trades, own power, stores."""

    def __init__(self, problem: Bilateral, when: Integers) -> None:
        from scipy import sparse

        self.problem, self.when, curves, s = problem, when, problem.curves, problem.stores
        count, n, edges = when.size, problem.n, problem.pairs
        each, ones = sparse.eye_array(count, format="csr"), np.ones(edges)
        places = np.concatenate([problem.first, problem.second]), np.tile(np.arange(edges), 2)
        ends = sparse.coo_array((np.concatenate([ones, -ones]), places), shape=(n, edges)).tocsr()
        own = sparse.eye_array(n * count, format="csr")
        least, most = (limit[:, when].ravel() for limit in problem.limits_kw())
        low, high = [least, curves.p_min_kw[:, when].ravel()], [most, curves.p_max_kw[:, when].ravel()]
        blocks: list[list[Any]] = [[-sparse.kron(ends, each), own]]
        self.right = np.zeros(n * count)
        if s is not None:
            stores = sparse.vstack([own] * s.stores).T if s.stores else sparse.csr_array((n * count, 0))
            chain, to_charge, to_discharge, right = _chains(problem)
            blocks[0] += [-stores, stores, None]
            blocks.append([None, None, -to_charge, to_discharge, chain])
            zero = np.zeros(s.store_drain_kwh.size)
            low += [zero, zero, s.store_energy_min_kwh.ravel()]
            high += [s.store_charge_max_kw.ravel(), s.store_discharge_max_kw.ravel(), s.store_energy_max_kwh.ravel()]
            self.right = np.concatenate([self.right, right])
        self.matrix = sparse.block_array(blocks, format="csr")
        self.low, self.high = np.concatenate(low), np.concatenate(high)

    def _solve(self, cost: Floats, matrix: Any, low: Floats, high: Floats) -> Floats | None:
        from scipy.optimize import linprog

        if cost.size == 0:
            return cost
        options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        bounds = np.stack([low, high], axis=1)
        found = linprog(cost, A_eq=matrix, b_eq=self.right, bounds=bounds, method="highs", options=options)
        return np.asarray(found.x) if found.success else None

    def shortfall(self) -> Floats:
        """Return (2, n, intervals): missing room to bring, and to take, the least in total."""
        from scipy import sparse

        count, rows = self.problem.n * self.when.size, self.matrix.shape[0]
        slack = sparse.eye_array(rows, count, format="csr")
        matrix = sparse.hstack([self.matrix, slack, -slack], format="csr")
        size, none = self.low.size, np.zeros(2 * count)
        cost = np.concatenate([np.zeros(size), np.ones(2 * count)])
        found = self._solve(cost, matrix, np.concatenate([self.low, none]), np.concatenate([self.high, none + np.inf]))
        shape = (2, self.problem.n, self.when.size)
        if found is None:  # the stores alone cannot: they have been asked before, so this is the solver giving up
            return np.zeros(shape)
        beyond = found[size:].reshape(shape)[::-1]  # the balance gains where somebody brings less than he must
        return np.where(beyond > 1e-9 * (1.0 + abs(self.problem.curves.p_max_kw).max(initial=0.0)), beyond, 0.0)

    def nearest(self, trades: Floats, charge: Floats, discharge: Floats) -> tuple[Floats, Floats, Floats] | None:
        """Return trades and flows that keep every bound and are nearest to those given, or None where there are none."""
        from scipy import sparse

        edges, stored = trades.size, 2 * charge.size
        wanted = np.concatenate([trades.ravel(), charge.ravel(), discharge.ravel()])
        moved = np.concatenate([np.arange(edges), edges + self.problem.n * self.when.size + np.arange(stored)])
        change = sparse.coo_array(
            (np.ones(moved.size), (np.arange(moved.size), moved)), (moved.size, self.low.size)
        ).tocsr()
        one = sparse.eye_array(moved.size, format="csr")
        matrix = sparse.block_array([[self.matrix, None, None], [change, -one, one]], format="csr")
        right, self.right = self.right, np.concatenate([self.right, wanted])
        none = np.zeros(2 * moved.size)
        found = self._solve(np.concatenate([np.zeros(self.low.size), none + 1.0]), matrix,
                            np.concatenate([self.low, none]), np.concatenate([self.high, none + np.inf]))  # fmt: skip
        self.right = right
        if found is None:
            return None
        at, half = edges + self.problem.n * self.when.size, stored // 2
        return (found[:edges].reshape(trades.shape), found[at : at + half].reshape(charge.shape),
                found[at + half : at + stored].reshape(charge.shape))  # fmt: skip


def _chains(problem: Bilateral) -> tuple[Any, Any, Any, Floats]:
    """Return the stores' state equations: matrices of the contents, the charge and the discharge, and the right side."""
    from scipy import sparse

    s = problem.stores
    assert s is not None
    dt, steps = problem.curves.dt_h, problem.steps
    kept = np.repeat(s.store_retention.ravel(), steps)
    first = np.arange(kept.size) % steps == 0 if steps else np.zeros(0, bool)
    before = (
        sparse.diags_array(np.where(first, 0.0, kept)[1:], offsets=-1, shape=(kept.size, kept.size))
        if kept.size > 1
        else 0.0
    )
    chain = sparse.eye_array(kept.size, format="csr") - before
    right = -s.store_drain_kwh.ravel() + np.where(first, kept * np.repeat(s.store_initial_kwh.ravel(), steps), 0.0)
    into = sparse.diags_array(dt * np.repeat(s.store_efficiency_charge.ravel(), steps))
    out = sparse.diags_array(dt / np.repeat(s.store_efficiency_discharge.ravel(), steps))
    return chain, into, out, right
