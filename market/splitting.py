"""Running the exchange's iteration: start, penalty, averages, stopping.

The iteration of :mod:`market.kernel` circles its fixed point on the way in, as all splittings of piecewise linear problems
do.  The mean over the last fifth to two fifths of it is two to three times nearer, so the mean is what is watched,
stopped at and returned.  The penalty is balanced a few times at the beginning: the weights are right when the primal and
the dual part of the state are of one size.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from market.bound import Duals
from market.kernel import iterate, squares
from market.layout import Columns, lay_out
from market.problem import Problem, ProblemError
from market.project import factor
from market.repair import Draft
from market.tiles import METER, RELAX, RETAIL, Found, State, take_copy

__all__ = ["Outcome", "Splitting", "Warm", "cold_start"]

Floats = NDArray[np.float64]

# Weights relative to the penalty, found by trying on the sample community; factors of two hardly matter.  In the order of
# market.tiles: retail, exchange, meter, curtailment, flows, contents, net.
_RELATIVE = np.array([1.0, 1.0, 0.25, 1.0, 1.0, 0.3, 1.0])
_RIGHT_ENERGY, _RIGHT_POWER = 0.02, 0.25  # times T: a right meets every interval at once
_RELAXATION = 1.6
_EVERY = 20  # iterations between two looks
_SAMPLE = 5  # iterations between two terms of the mean
_BALANCE = (20, 40, 80, 160, 320, 640, 1280, 2560)  # looks at which the penalty may change


@dataclass(frozen=True, slots=True, eq=False)
class Warm:
    """Where an iteration stood, so that a similar problem can start there."""

    penalty: float
    """Penalty at which the columns are scaled."""
    agent: Floats
    """Shape (4, n, T): retail, meter, curtailment, exchange."""
    store: Floats
    """Own stores and, behind them, rented spaces.  Shape (3, K + M, n, T): charge, discharge, content."""
    net: Floats
    """Of the rented spaces.  Shape (M, n, T)."""
    right: Floats
    """Shape (4, M, n): energy and power, and what was held of them."""
    price_eur_per_kwh: Floats
    """Shape (T,)."""

    def dropped(self, steps: int) -> Warm:
        """Return the start for the rest of the horizon, without its first ``steps`` intervals."""
        horizon = self.price_eur_per_kwh.shape[0]
        if not 0 <= steps < horizon:
            raise ProblemError(f"{steps} of {horizon} intervals were to be dropped; at least one must be left.")
        return Warm(self.penalty, self.agent[..., steps:], self.store[..., steps:], self.net[..., steps:], self.right,
                    self.price_eur_per_kwh[steps:])  # fmt: skip


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


def _first_penalty(p: Problem) -> float:
    """Return a penalty of the right size: what energy costs per how much of it is moved. [eur/kW^2 h]"""
    if p.n == 0:
        return 1.0
    price = float(np.abs(p.buy_eur_per_kwh).mean() + np.abs(p.sell_eur_per_kwh).mean())
    power = float((np.abs(p.load_kw) + p.pv_kw).mean())
    return 0.35 * (price if price > 0 else 1.0) / (power if power > 0 else 1.0)


def cold_start(p: Problem) -> Warm:
    """Return the start that knows nothing: no flows, and a price between those of the retailer."""
    price = np.zeros(p.steps)
    if p.n > 0:
        price = 0.5 * (p.sell_eur_per_kwh.max(axis=0) + p.buy_eur_per_kwh.min(axis=0))
    agent, store = np.zeros((4, p.n, p.steps)), np.zeros((3, p.stores + p.shared, p.n, p.steps))
    return Warm(
        _first_penalty(p), agent, store, np.zeros((p.shared, p.n, p.steps)), np.zeros((4, p.shared, p.n)), price
    )


class Splitting:
    """One clearing under way."""

    def __init__(self, problem: Problem, warm: Warm | None, threads: int) -> None:
        p = self.problem = problem
        self.threads = threads
        self.layout = lay_out(p)
        self.data = self.layout.data(p)
        self.factors = self.layout.factors(p.steps)
        if warm is None:
            warm = cold_start(p)
        elif (warm.store.shape[1:], warm.net.shape[0]) != ((p.stores + p.shared, p.n, p.steps), p.shared):
            given, here = warm.store.shape[1:], (p.stores + p.shared, p.n, p.steps)
            raise ProblemError(
                f"the warm start is of a problem with (K + M, n, T) = {given}; this one has {here}. Use Warm.dropped for the "
                "rest of a horizon, or start cold."
            )
        self.penalty = warm.penalty
        self.state = self.layout.state(p, Columns(warm.agent, warm.store, warm.net, warm.right[:2]))
        self.found = self.layout.found(p, warm.price_eur_per_kwh, warm.right[2:])
        self.work = take_copy(self.state)
        self.weights, self.metric = self._weighted()
        self.looks: list[tuple[float, float, float, float]] = []
        self.older, self.newer, self.renew, self.done = _Mean(), _Mean(), _EVERY, 0

    def _weighted(self) -> tuple[Floats, State]:
        """Return the weights at the present penalty, factor for them, and say what they are for every variable."""
        p = self.problem
        rights = np.array([_RIGHT_ENERGY, _RIGHT_POWER]) * p.steps
        scaled = np.concatenate([_RELATIVE, rights]) * self.penalty * p.dt_h
        weights = np.concatenate([scaled, [p.curvature_eur_per_kw2h * p.dt_h, _RELAXATION]])
        factor(self.data, weights, self.factors)
        return weights, self.layout.metric(self.data, weights)

    def advance(self, count: int) -> None:
        """Do some iterations, without looking."""
        tiles = self.data.tiles.shape[0]

        def part(times: int, first: int, last: int, before: bool, after: bool) -> None:
            iterate(self.data, self.state, self.work, self.found, self.factors, self.weights, times, first, last, before,
                    after)  # fmt: skip

        if self.threads <= 1:
            part(count, 0, tiles, True, True)
            return
        cuts = [tiles * k // self.threads for k in range(self.threads + 1)]
        with ThreadPoolExecutor(self.threads) as pool:
            for _ in range(count):
                part(1, 0, 0, True, False)
                for job in [pool.submit(part, 1, first, last, False, False) for first, last in pairwise(cuts)]:
                    job.result()
                part(1, 0, 0, False, True)

    def run(self, tolerance: float, max_iterations: int) -> Outcome:
        """Iterate until the mean's residuals are below the tolerance, or until the iterations are used up.

        May be called again with a smaller tolerance; it goes on where it stopped.
        """
        while True:
            goal = min(self.done + _EVERY, max(max_iterations, self.done + 1))
            while self.done < goal:
                count = min(_SAMPLE, goal - self.done)
                self.advance(count)
                self.newer.add(self.state)
                self.done += count
            mean = self.older.and_(self.newer)
            moved, found = self._look(mean)
            primal, dual, ratio = self._residuals(mean, moved)
            self.looks.append((self.done, primal, dual, self.penalty))
            converged = max(primal, dual) <= tolerance
            if converged or self.done >= max_iterations:
                return self._outcome(converged, mean, moved, found)
            if self.done >= self.renew:  # the way from nowhere, before the first renewal, is no part of the mean
                self.older, self.newer = self.newer if self.done > _EVERY else _Mean(), _Mean()
                self.renew = self.done + max(_EVERY, self.done // 5)
            if self.done in _BALANCE and not 0.5 < ratio < 2.0:
                self._balance(min(max(ratio, 0.2), 5.0), mean)

    def _look(self, mean: State) -> tuple[State, Found]:
        """Return where one step without relaxation moves the mean; its projection is left in ``work``."""
        moved, found = take_copy(mean), Found(*(column.copy() for column in self.found))
        plain = self.weights.copy()
        plain[RELAX] = 1.0
        iterate(self.data, moved, self.work, found, self.factors, plain, 1, 0, self.data.tiles.shape[0], True, True)
        return moved, found

    def _residuals(self, mean: State, moved: State) -> tuple[float, float, float]:
        """Return primal and dual residual, relative, and the size of the dual part of the state by that of the primal."""
        sums = np.zeros(4)
        for rho, s, w, after in zip(self.metric, mean, self.work, moved, strict=True):
            squares(rho.ravel(), s.ravel(), w.ravel(), after.ravel(), sums)
        change, w_size, z_size, dual = np.sqrt(sums)
        size = max(w_size, z_size, 1e-9)
        return float(change / size), float(change / max(dual, 1e-2 * size)), float(dual / size)

    def _balance(self, factor_: float, mean: State) -> None:
        """Change the penalty and start again from the mean, its dual part rescaled."""
        self.penalty *= factor_
        self.weights, self.metric = self._weighted()
        self.state = State(*(w + (s - w) / factor_ for s, w in zip(mean, self.work, strict=True)))
        self.older, self.newer = _Mean(), _Mean()

    def _outcome(self, converged: bool, mean: State, moved: State, found: Found) -> Outcome:
        """Return plan and prices as columns."""
        p, dt, lay = self.problem, self.problem.dt_h, self.layout
        s, w, after = lay.columns(mean), lay.columns(self.work), lay.columns(moved)
        held = np.moveaxis(lay.rows_of(found.held), 0, 2)
        nu = self.weights[RETAIL] * (w.agent[0] - s.agent[0]) / dt
        limited = np.isfinite(p.import_limit_kw) | np.isfinite(p.export_limit_kw)
        mu = np.where(limited, self.weights[METER] * (w.agent[1] - s.agent[1]) / dt, 0.0)
        price = -found.price / dt
        duals = Duals(price, nu, nu + mu, -found.net_price / dt, *found.scarcity)
        store = w.store + after.store - s.store
        curtailed = w.agent[2] + after.agent[2] - s.agent[2]
        own, rented = store[:, : p.stores], store[:, p.stores :]
        draft = Draft(curtailed, own[0], own[1], rented[0], rented[1], held[0], held[1])
        w_net = w.store[0, p.stores :] - w.store[1, p.stores :]
        net = np.where(self.data.bound_net[:, None, :], s.net, w_net)
        warm = Warm(self.penalty, s.agent, s.store, net, np.concatenate([s.right, held]), price)
        return Outcome(converged, self.done, np.array(self.looks), draft, duals, warm)


class _Mean:
    """A mean of states, taken as they come."""

    def __init__(self) -> None:
        self.total: State | None = None
        self.count = 0

    def add(self, state: State) -> None:
        """Take one more."""
        self.count += 1
        if self.total is None:
            self.total = take_copy(state)
            return
        for total, column in zip(self.total, state, strict=True):
            np.add(total, column, out=total)

    def and_(self, newer: _Mean) -> State:
        """Return the mean over this one and a newer one, of which at least one has begun."""
        totals = [m.total for m in (self, newer) if m.total is not None]
        return State(
            *(sum(columns[1:], columns[0]) / (self.count + newer.count) for columns in zip(*totals, strict=True))
        )
