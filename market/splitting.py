"""Running the exchange's iteration: start, penalty, averages, stopping.

The iteration of :mod:`market.kernel` circles its fixed point on the way in, as all splittings of piecewise linear problems
do.  A mean that forgets the beginning is two to three times nearer (the k-th state counts with a weight that grows as the fifth
power of k), so the mean is what is watched, stopped at and returned.  The penalty is balanced a few times at the beginning: the weights are right when the primal and
the dual part of the state are of one size.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from market.bound import Duals
from market.kernel import blend, iterate, squares
from market.layout import Layout, Units, idle_kwh, lay_out
from market.problem import Problem, ProblemError
from market.project import factor
from market.repair import Draft
from market.tiles import CONTENT, CURTAIL, ENERGY, EXCHANGE, FLOW, METER, NET, POWER, RELAX, RETAIL, Found, Room, Rows
from market.vectors import rows_like

__all__ = ["Outcome", "Splitting", "Warm", "cold_start"]

Floats = NDArray[np.float64]

# Weights relative to the penalty, found by trying on the sample community; factors of two hardly matter.  In the order of
# market.tiles: retail, exchange, meter, curtailment, flows, contents (times an hour^(1/2) over the interval's), net.
_RELATIVE = np.array([1.0, 1.0, 0.0625, 1.0, 1.0, 0.14, 2.0])
_RIGHT_ENERGY, _RIGHT_POWER = 0.02, 0.25  # times T: a right meets every interval at once
_FIRST = 0.35  # penalty at the beginning, times price over power
_RELAXATION = 1.6
_EVERY = 20  # iterations between two looks; later, where 20 are few, twice and four times as many
_LATER = (400, 1600)
_NEAR, _SOON = 2.0, 100  # times the tolerance, iterations: before that the next look is in half as many
_SAMPLE = 10  # iterations between two terms of the mean
_FORGET = 5.0  # power of time with which they count
_BALANCE = (20, 40, 80, 160, 320, 640, 1280, 2560)  # looks at which the penalty may change


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """Where an iteration stood, so that a similar problem can start there; sizes are (n, T, K, M)."""

    penalty: float
    """Penalty at which the state is scaled. [eur/kW^2 h]"""
    size: tuple[int, int, int, int]
    """Of the problem that may start here."""
    price_eur_per_kwh: Floats
    """Shape (T,)."""
    layout: Layout | None = None
    """Who sits where in the state; None at a cold start."""
    state: Rows | None = None
    """All variables; contents as they are."""
    held: Rows | None = None
    """The rights that were held."""
    gone: int = 0
    """Intervals at the beginning of the state that are over."""

    def dropped(self, steps: int) -> Warm:
        """Return the start for the rest of the horizon, without its first ``steps`` intervals."""
        n, horizon, stores, shared = self.size
        if not 0 <= steps < horizon:
            raise ProblemError(f"{steps} of {horizon} intervals were to be dropped; at least one must be left.")
        return replace(self, size=(n, horizon - steps, stores, shared), price_eur_per_kwh=self.price_eur_per_kwh[steps:],
                       gone=self.gone + steps)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What the iteration found."""

    converged: bool
    iterations: int
    residuals: Floats
    """Shape (k, 4): iteration, primal, dual, penalty."""
    draft: Draft
    duals: Duals
    warm: Warm


def cold_start(p: Problem) -> Warm:
    """Return the start that knows nothing: no flows, and a price between those of the retailer."""
    price = np.zeros(p.steps)
    if p.n > 0:
        price = 0.5 * (p.sell_eur_per_kwh.max(axis=0) + p.buy_eur_per_kwh.min(axis=0))
    return Warm(_FIRST * Units.of(p).penalty_eur_per_kw2h, (p.n, p.steps, p.stores, p.shared), price)


class Splitting:
    """One clearing under way."""

    def __init__(self, problem: Problem, warm: Warm | None, threads: int, *, double: bool = False) -> None:
        p = self.problem = problem
        here = (p.n, p.steps, p.stores, p.shared)
        if warm is None:
            warm = cold_start(p)
        elif warm.size != here:
            given, wanted = ((size[2] + size[3], size[0], size[1]) for size in (warm.size, here))
            raise ProblemError(
                f"the warm start is of a problem with (K + M, n, T) = {given}; this one has {wanted}. Use Warm.dropped for "
                "the rest of a horizon, or start cold."
            )
        self.layout = lay_out(p, np.float64 if double else np.float32)
        self.units = Units.of(p)
        self.data = self.layout.data(p, self.units)
        self.factors = self.layout.factors()
        self.rooms = [self.layout.room() for _ in range(max(1, threads))]
        self.penalty = warm.penalty / self.units.penalty_eur_per_kw2h
        self.state, self.mean, self.work = self.layout.state()[0], self.layout.state()[0], self.layout.coupled()
        self.lent: Warm | None = None  # which has the mean's memory, and nobody the state's
        self.look: tuple[Rows, Rows] | None = None  # w and s after one step from the mean
        self.found = self._begin(warm)
        self.weights = self._weighted()
        self.looks: list[tuple[float, float, float, float]] = []
        self.terms = self.done = 0

    def _begin(self, warm: Warm) -> Found:
        """Fill the state and return what was found where the warm start stood."""
        p, lay, s = self.problem, self.layout, self.layout.parts(self.state)
        held, kw = np.zeros((2, p.shared, p.n)), self.units.power_kw
        columns = np.zeros((p.n, p.steps))
        stores = np.zeros(((p.stores + p.shared) * p.n, p.steps))
        if warm.layout is not None and warm.state is not None and warm.held is not None:
            old, then = warm.layout, warm.layout.parts(warm.state)
            held = old.once_back(warm.held).reshape(held.shape)
            s.right[:] = lay.once(old.once_back(then.right).reshape(held.shape) * lay.active / kw)
            long, long_stores = np.zeros((p.n, old.size[1])), np.zeros((len(stores), old.size[1]))
            for q in range(3):
                columns = old.by_tile(3).collect(then.agent, long, q)[:, warm.gone :]
                lay.by_tile(3).spread(columns * (p.pv_kw > 0) if q == 2 else columns, s.agent, q, kw)
                stores = old.by_slot(3).collect(then.store, long_stores, q)[:, warm.gone :]
                lay.by_slot(3).spread(self._movable(stores, q), s.store, q, kw)
            for j in range(p.shared):
                size = old.size[1] * len(old.tiles)
                columns = old.by_interval().collect(then.net[j * size : (j + 1) * size], long)[:, warm.gone :]
                size = p.steps * len(lay.tiles)
                lay.by_interval().spread(columns * lay.active[j][:, None], s.net[j * size : (j + 1) * size], 0, kw)
            columns = old.by_tile(1).collect(then.exchange, long)[:, warm.gone :]
            if lay.netted and old.netted:
                boxes = then.box.reshape(p.shared, old.size[1], -1)[:, warm.gone :].reshape(s.box.shape)
                s.box[:] = boxes / kw - self._idle_boxes() / kw
        else:
            lay.by_slot(3).spread(self._movable(stores, 2), s.store, 2, kw)
        if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
            columns = p.pinned_exchange_kw
        lay.by_tile(1).spread(columns if p.exchange != "zero" else np.zeros((p.n, p.steps)), s.exchange, 0, kw)
        return lay.found(p, self.units, warm.price_eur_per_kwh, held)

    def _movable(self, stores: Floats, kind: int) -> Floats:
        """Return charges, discharges or contents of all stores as the kernel has them: 0 where nothing can move."""
        p = self.problem
        if kind == 2:
            return stores - self._idle()
        most = (p.store_charge_max_kw, p.store_discharge_max_kw)[kind].reshape(p.stores * p.n, p.steps)
        can = np.ones(stores.shape, bool)
        can[: len(most)] = most > 0
        can[len(most) :] = self.layout.active.ravel()[:, None]
        return stores * can

    def _idle(self) -> Floats:
        """Return the contents of all stores if nothing flows.  Shape ((K + M) n, T). [kWh]"""
        p = self.problem
        own = idle_kwh(p.store_initial_kwh, p.store_retention, p.store_drain_kwh)
        rented = idle_kwh(p.rented_initial_kwh, p.ess_retention[:, None], steps=p.steps)
        return np.concatenate([own.reshape(p.stores * p.n, p.steps), rented.reshape(p.shared * p.n, p.steps)])

    def _weighted(self) -> Floats:
        """Return the weights at the present penalty, and factor for them."""
        p = self.problem
        rights = np.array([_RIGHT_ENERGY, _RIGHT_POWER]) * p.steps
        scaled = np.concatenate([_RELATIVE, rights]) * self.penalty * p.dt_h
        scaled[CONTENT] /= np.sqrt(p.dt_h)
        curvature = p.tie_eur_per_kw2h / self.units.penalty_eur_per_kw2h
        weights = np.concatenate([scaled, [curvature * p.dt_h, _RELAXATION]])
        factor(self.data, weights, self.factors, self.rooms[0])
        return weights

    def _iterate(
        self, state: Rows, found: Found, weights: Floats, count: int, rights: bool, tiles: tuple[int, int],
        intervals: tuple[int, int], room: Room, kept: Rows | None = None,
    ) -> None:  # fmt: skip
        work = self.work if kept is None else self.layout.parts(kept)
        iterate(self.data, self.layout.parts(state), work, found, self.factors, weights, room, count, rights, *tiles,
                *intervals, kept is not None)  # fmt: skip

    def advance(self, count: int) -> None:
        """Do some iterations, without looking."""
        self._resume()
        tiles, steps, many = len(self.layout.tiles), self.problem.steps, len(self.rooms)
        if many == 1:
            self._iterate(self.state, self.found, self.weights, count, True, (0, tiles), (0, steps), self.rooms[0])
            return
        cuts = [list(pairwise(size * k // many for k in range(many + 1))) for size in (tiles, steps)]
        with ThreadPoolExecutor(many) as pool:
            for _ in range(count):
                self._iterate(self.state, self.found, self.weights, 1, True, (0, 0), (0, 0), self.rooms[0])
                for part in range(2):
                    jobs = [
                        pool.submit(self._iterate, self.state, self.found, self.weights, 1, False,
                                    cut if part == 0 else (0, 0), cut if part == 1 else (0, 0), room)
                        for cut, room in zip(cuts[part], self.rooms, strict=True)
                    ]  # fmt: skip
                    for job in jobs:
                        job.result()

    def skip(self, goal: int) -> None:
        """Do iterations, without looking, until there are as many."""
        while self.done < goal:
            count = min(_SAMPLE, goal - self.done)
            self.advance(count)
            self.done += count
            self.terms += 1
            blend(self.mean, self.state, (_FORGET + 1.0) / (_FORGET + self.terms))

    def _resume(self) -> None:
        """Go on from the mean that was lent."""
        if self.lent is not None and self.lent.state is not None:
            self.mean = _copy(self.lent.state)
            self._contents(self.mean, -1.0)
            self.mean *= self.mean.dtype.type(1.0 / self.units.power_kw)
            self.state, self.lent = _copy(self.mean), None

    def _contents(self, state: Rows, sign: float) -> None:
        """Add to a state in kW and kWh, or take from it, the contents that there are if nothing flows."""
        parts = self.layout.parts(state)
        self.layout.by_slot(3).spread(sign * self._idle(), parts.store, 2)
        parts.box[:] += sign * self._idle_boxes()

    def run(self, tolerance: float, max_iterations: int) -> Outcome:
        """Iterate until the mean's residuals are below the tolerance, or until the iterations are used up.

        May be called again with a smaller tolerance; it goes on where it stopped.
        """
        near = False
        while True:
            often = (_EVERY << sum(self.done >= later for later in _LATER)) >> (near and self.done < _SOON)
            self.skip(min(self.done + often - self.done % often, max(max_iterations, self.done + 1)))
            found = self._look()
            primal, dual, ratio = self._residuals()
            self.looks.append((self.done, primal, dual, self.penalty * self.units.penalty_eur_per_kw2h))
            converged = max(primal, dual) <= tolerance
            near = max(primal, dual) <= _NEAR * tolerance
            if converged or self.done >= max_iterations:
                return self._outcome(converged, found)
            if self.done in _BALANCE and not 0.5 < ratio < 2.0:
                self._balance(min(max(ratio, 0.2), 5.0))
            if self.done == _EVERY:  # the way from nowhere is no part of the mean
                self.terms = 0

    def _look(self) -> Found:
        """Take one step without relaxation from the mean; keep its projection and where it ends in ``look``."""
        price, net_price, scarcity, held = self.found
        found = Found(price.copy(), net_price.copy(), scarcity.copy(), _copy(held))
        w, moved = self.look or (self.layout.state()[0], self.layout.state()[0])
        self.look = w, moved
        moved[:] = self.mean
        plain = self.weights.copy()
        plain[RELAX] = 1.0
        sizes = (0, len(self.layout.tiles)), (0, self.problem.steps)
        self._iterate(moved, found, plain, 1, True, *sizes, self.rooms[0], w)
        return found

    def _residuals(self) -> tuple[float, float, float]:
        """Return primal and dual residual, relative, and the size of the dual part of the state by that of the primal."""
        data, weights, sums = self.data, self.weights, np.zeros(4)
        tiles, shared = len(self.layout.tiles), self.problem.shared
        rights = np.repeat(weights[[ENERGY, POWER]] * data.renting, shared)
        metric = (
            (weights[[RETAIL, METER, CURTAIL]], 1),
            (weights[[FLOW, FLOW, CONTENT]], 1),
            (weights[[EXCHANGE]] * data.trading, tiles),
            (weights[NET] * data.bound_net.ravel(), tiles),
            (rights, tiles),
            (self._box_metric(), 1),
        )
        parts = (self.layout.parts(rows) for rows in (self.mean, *(self.look or ())))
        for s, here, after, (rho, repeat) in zip(*parts, metric, strict=True):
            squares(s, here, after, rho, repeat, sums)
        change, w_size, z_size, dual = np.sqrt(sums)
        size = max(w_size, z_size, 1e-9)
        return float(change / size), float(change / max(dual, 1e-2 * size)), float(dual / size)

    def _box_metric(self) -> Floats:
        """Return the weights of the boxes' variables, 0 where there is none."""
        data, p = self.data, self.problem
        each = np.zeros(p.shared)
        np.divide(1.0, data.tenants, out=each, where=(data.tenants > 0.0) & p.leads & p.ess_netted)
        size = (p.shared, p.steps, 4) if self.layout.netted else (0, p.steps, 4)
        return np.broadcast_to(self.weights[[FLOW, FLOW, CONTENT, NET]] * each[: size[0], None, None], size).ravel()

    def _idle_boxes(self) -> Rows:
        """Return the contents of the boxes if nothing flows, as the state's rows. [kWh]"""
        p, rows = self.problem, self.layout.parts(self.layout.state()[0]).box
        if self.layout.netted:
            rows[2::4, 0] = idle_kwh(p.box_initial_kwh(), p.ess_retention, steps=p.steps).ravel()
        return rows

    def _balance(self, factor_: float) -> None:
        """Change the penalty and start again from the mean, its dual part rescaled."""
        self.penalty *= factor_
        self.weights = self._weighted()
        if self.look is not None:
            self.state[:] = self.look[0]
        blend(self.state, self.mean, 1.0 / factor_)
        self.terms = 0

    def _outcome(self, converged: bool, found: Found) -> Outcome:
        """Return plan and prices as columns; what the look kept is used up."""
        p, lay, kw = self.problem, self.layout, self.units.power_kw
        price = self.units.price_eur_per_kwh
        (w, moved), self.look = self.look or (self.mean, self.mean), None
        here, after = lay.parts(w), lay.parts(moved)
        shape, agent, slot = (p.n, p.steps), lay.by_tile(3), lay.by_slot(3)
        w -= self.mean  # minus the prices, in units
        moved += w  # z
        curtailed = agent.collect(after.agent, np.zeros(shape), 2, kw)
        charge, discharge = (
            slot.collect(after.store, np.zeros((p.stores + p.shared, *shape)), q, kw) for q in range(2)
        )
        nu = agent.collect(here.agent, np.zeros(shape), 0, price * self.weights[RETAIL] / p.dt_h)
        mu = agent.collect(here.agent, np.zeros(shape), 1, price * self.weights[METER] / p.dt_h)
        del here, after, w, moved  # memory for who makes a plan of it
        mu *= np.isfinite(p.import_limit_kw) | np.isfinite(p.export_limit_kw)
        mu += nu
        clearing, net = -price / p.dt_h * found.price, -price / p.dt_h * found.net_price
        duals = Duals(clearing, nu, mu, net, *(price * found.scarcity))
        held, k = kw * lay.once_back(found.held).reshape(2, p.shared, p.n), p.stores
        draft = Draft(curtailed, charge[:k], discharge[:k], charge[k:], discharge[k:], held[0], held[1])
        return Outcome(converged, self.done, np.array(self.looks), draft, duals, self._warm(found, clearing))

    def _warm(self, found: Found, price: Floats) -> Warm:
        """Return where the mean stands, with contents as they are; the mean itself, of which nobody needs two."""
        p, kw = self.problem, self.units.power_kw
        self.mean *= self.mean.dtype.type(kw)
        self._contents(self.mean, 1.0)
        penalty = self.penalty * self.units.penalty_eur_per_kw2h
        size = (p.n, p.steps, p.stores, p.shared)
        self.state, self.lent = self.mean, Warm(penalty, size, price, self.layout, self.mean, kw * found.held)
        return self.lent


def _copy(rows: Rows) -> Rows:
    """Return a copy that can be changed without changing this one, and is as well aligned."""
    out = rows_like(rows.shape[0], rows.dtype)
    out[:] = rows
    return out
