"""A market of any partner graph, with own stores or limits on trades: what runs :mod:`market.bilateral_mesh_kernel`.

Without stores intervals have nothing to do with each other: each tile of them is iterated to its end, several at once where
there are threads.  With stores all intervals are one tile and have one penalty.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from market.bilateral_mesh_kernel import advance, rescale, reweigh
from market.bilateral_problem import Bilateral
from market.bilateral_repair import Links
from market.bilateral_sides import Draft
from market.bilateral_start import Start, Warm

__all__ = ["Mesh"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_RELAX = 1.7
_EVERY = 10  # iterations between looks, even
_LANES = 32
_STORE = 0.3  # weight of a store over its power: of the shares from 0.1 to 3 that with which the fewest iterations are needed
_WEIGHED = 201  # until then weights follow the trades; later only where the penalty is balanced


class Mesh:
    """The state of all tiles."""

    def __init__(self, problem: Bilateral, begin: Start, partners: Links, warm: Warm | None) -> None:
        self.problem, self.begin = problem, begin
        # what a store keeps for later has its worth in money, so prices are not told from the pool's there
        self.price = begin.price_eur_per_kwh if problem.stores is None else np.zeros(problem.steps)
        self.starts, self.pair, self.partner, self.sign = partners
        # the two halves of a pair: rows in the order of the agents
        halves = np.lexsort((-self.sign, self.pair)).reshape(-1, 2)
        self.mate = np.empty(self.pair.size, dtype=np.int64)
        self.mate[halves[:, 0]], self.mate[halves[:, 1]] = halves[:, 1], halves[:, 0]
        self.halves = halves
        own = np.where(self.sign[:, None] > 0, problem.charge_first_eur_per_kwh[self.pair],
                       problem.charge_second_eur_per_kwh[self.pair])  # fmt: skip
        other = np.where(self.sign[:, None] > 0, problem.charge_second_eur_per_kwh[self.pair],
                         problem.charge_first_eur_per_kwh[self.pair])  # fmt: skip
        self.charge = 0.5 * (
            own + other
        )  # halved: only the sum matters, and a discount at one end may be a loss at the other
        self.usual = begin.usual_kw
        self.share = np.minimum(begin.usual_kw / begin.size_kw.mean(), 1.0)
        width = problem.steps if problem.stores is not None else -(-problem.steps // -(-problem.steps // _LANES))
        spans = [slice(t, min(t + width, problem.steps)) for t in range(0, problem.steps, width)]
        self.tiles = [_Tile(self, span, warm) for span in spans]

    def run(self, tolerance: float, max_iterations: int, threads: int) -> Draft:
        """Iterate every tile until its residuals are small enough."""
        if threads > 1 and len(self.tiles) > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda tile: tile.run(tolerance, max_iterations), self.tiles))
        else:
            for tile in self.tiles:
                tile.run(tolerance, max_iterations)
        return self._draft()

    def _draft(self) -> Draft:
        """Put the tiles together."""
        p = self.problem
        slots = 0 if p.stores is None else p.stores.stores
        trades, marginal, penalty = np.empty((p.pairs, p.steps)), np.empty((p.n, p.steps)), np.empty(p.steps)
        flows, states = np.zeros((3, slots, p.n, p.steps)), np.zeros((3, slots, p.n, p.steps))
        seen: dict[int, list[tuple[float, float, float]]] = {}
        for tile in self.tiles:
            z, stored = tile.wanted()
            forth, back = self.halves[:, 0], self.halves[:, 1]
            trades[:, tile.span] = 0.5 * tile.weight[forth, None] * (z[forth] - z[back])
            marginal[:, tile.span] = self.price[tile.span] + tile.theta * tile.rho
            penalty[tile.span] = tile.rho
            for kind in range(3):
                flows[kind, tile.slot, tile.owner, tile.span] = tile.heavy[:, None] * stored[:, kind]
                states[kind, tile.slot, tile.owner, tile.span] = tile.heavy[:, None] * tile.stored[:, kind]
            for iteration, *row in tile.residuals:
                seen.setdefault(int(iteration), []).append((row[0], row[1], row[2]))
        history = [
            (float(k), max(r[0] for r in rows), max(r[1] for r in rows), sum(r[2] for r in rows) / len(rows))
            for k, rows in sorted(seen.items())
        ]
        return Draft(trades, marginal, flows[0], flows[1], states, penalty, max((t.asymmetry for t in self.tiles), default=0.0),
                     max((t.iterations for t in self.tiles), default=0), all(t.converged for t in self.tiles),
                     np.array(history).reshape(-1, 4))  # fmt: skip


class _Tile:
    """Some intervals of the market."""

    def __init__(self, mesh: Mesh, span: slice, warm: Warm | None) -> None:
        self.mesh, self.span = mesh, span
        p, begin = mesh.problem, mesh.begin
        curves = p.curves
        rho = begin.penalty_eur_per_kw2h[span] if warm is None else warm.penalty_eur_per_kw2h[span]
        self.rho = rho.copy() if p.stores is None else np.full(rho.size, np.exp(np.log(rho).mean()))
        self.reference = self.rho.copy() if warm is None else begin.penalty_eur_per_kw2h[span]
        b = (curves.b_eur_per_kwh[:, span] - mesh.price[span]) / self.rho
        pool = (begin.price_eur_per_kwh - mesh.price)[span] / self.rho
        rows = [b, curves.a_eur_per_kw2h[:, span] / self.rho, curves.p_min_kw[:, span], curves.p_max_kw[:, span]]
        self.agents = np.ascontiguousarray(np.stack(rows, axis=1))
        least, most = (limit[:, span] for limit in p.limits_kw())
        first = mesh.sign[:, None] > 0
        self.weight = begin.weight[mesh.pair]
        self.low = np.where(first, least[mesh.pair], -most[mesh.pair]) / self.weight[:, None]
        self.high = np.where(first, most[mesh.pair], -least[mesh.pair]) / self.weight[:, None]
        self.charge = np.ascontiguousarray(mesh.charge if mesh.charge.shape[1] == 1 else mesh.charge[:, span])
        self.s: Floats = np.array(np.broadcast_to(-pool, self.low.shape))
        self.theta: Floats = np.array(np.broadcast_to(pool, b.shape))
        self._stores(warm)
        if warm is not None:
            own = mesh.problem.charge_first_eur_per_kwh - mesh.problem.charge_second_eur_per_kwh
            way = np.sign(warm.trades_kw[:, span])  # the kernel halves the charges
            agreed = warm.price_eur_per_kwh[:, span] - 0.5 * way * (own if own.shape[1] == 1 else own[:, span])
            agreed = np.nan_to_num((agreed - mesh.price[span]) / self.rho)
            self.s = (mesh.sign / self.weight)[:, None] * warm.trades_kw[mesh.pair, span] - agreed[mesh.pair]
            self.theta = (warm.marginal_eur_per_kwh[:, span] - mesh.price[span]) / self.rho
        self.other = np.empty_like(self.s)
        self.norms = np.zeros((7, self.rho.size))
        self._tell()
        self.iterations, self.balance, self.asymmetry = 0, 2 * _EVERY, 0.0
        self.converged = p.n == 0
        self.off = 0.0 if self.converged else np.inf
        self.residuals: list[tuple[float, float, float, float]] = []

    def _stores(self, warm: Warm | None) -> None:
        """Make rows of the stores that can move, in the order of their owners."""
        p, steps = self.mesh.problem, self.rho.size
        s = p.stores
        if s is None:
            self.slot = self.owner = np.zeros(0, dtype=np.int64)
            self.heavy, self.constants = np.zeros(0), np.zeros((0, 4))
            self.limits, self.stored = np.zeros((0, 5, steps)), np.zeros((0, 3, steps))
        else:
            owner, slot = np.nonzero((s.store_charge_max_kw + s.store_discharge_max_kw).any(axis=2).T)
            self.slot, self.owner, at, dt = slot, owner, (slot, owner), p.curves.dt_h
            self.constants = np.stack([dt * s.store_efficiency_charge[at], dt / s.store_efficiency_discharge[at],
                                       s.store_retention[at], s.store_wear_eur_per_kwh[at]], axis=1)  # fmt: skip
            right = -s.store_drain_kwh[at]
            right[:, 0] += s.store_retention[at] * s.store_initial_kwh[at]
            limits = [s.store_charge_max_kw[at], s.store_discharge_max_kw[at], s.store_energy_min_kwh[at],
                      s.store_energy_max_kwh[at], right]  # fmt: skip
            power = np.maximum(limits[0], limits[1]).max(axis=1)
            self.heavy = _STORE * power / self.mesh.begin.size_kw.mean()
            self.limits = np.stack(limits, axis=1) / self.heavy[:, None, None]
            self.stored = np.zeros((owner.size, 3, steps))
            initial = s.store_initial_kwh[at] / self.heavy
            self.stored[:, 2] = np.clip(initial[:, None], self.limits[:, 2], self.limits[:, 3])
            if warm is not None:
                self.stored = np.stack([state[at] for state in warm.store_states], axis=1) / self.heavy[:, None, None]
        self.owned = np.searchsorted(self.owner, np.arange(p.n + 1)).astype(np.int64)
        self.consistent = self.stored.copy()

    def run(self, tolerance: float, max_iterations: int) -> None:
        """Iterate, on from where the last call ended."""
        while self.off > tolerance and self.iterations < max_iterations:
            self._advance(_EVERY, _RELAX, self.stored, self.consistent, self.norms)
            self.iterations += _EVERY
            primal, dual = self._residuals()
            self.asymmetry = float((self.norms[6] * self.rho).max())
            self.residuals.append(
                (float(self.iterations), float(primal.max()), float(dual.max()), float(self.rho.mean()))
            )
            self.off = float(max(primal.max(), dual.max(), self.norms[5].max()))
            self.converged = self.off <= tolerance
            if self.converged:
                break
            turn = self.iterations == self.balance
            if turn:
                self.balance *= 2
                self._balance()
            if turn or self.iterations in range(0, _WEIGHED, 2 * _EVERY):
                self._weigh()

    def _residuals(self) -> tuple[Floats, Floats]:
        """Return both residuals, relative to the trades and to the prices, per interval."""
        norms, begin = self.norms, self.mesh.begin
        count = float(self.weight.sum()) or 1.0
        level = self.mesh.price[self.span] / self.rho
        margin = begin.margin_eur_per_kwh[self.span] / self.rho
        off, size = norms[0], np.maximum(np.maximum(norms[1], norms[2]), (1e-3 * begin.size_kw[self.span]) ** 2)
        prices = np.maximum(norms[4] + 2.0 * level * norms[3] + count * level**2, count * margin**2)
        if self.constants.size:  # stores tie the intervals together, so they are judged together
            off, size, prices = (np.full_like(each, each.mean()) for each in (off, size, prices))
        return np.sqrt(off / size), np.sqrt(off / prices)

    def _weigh(self) -> None:
        """Give pairs that trade more than their ends are for, because energy is passed on, the weight of what they trade."""
        mesh = self.mesh
        forth, back = mesh.halves[:, 0], mesh.halves[:, 1]
        now, begin = self.weight[forth], mesh.begin
        trades = 0.5 * now[:, None] * (self.s[forth] - self.s[back]) / begin.size_kw[self.span]
        wanted = np.maximum(3.0 * np.sqrt((trades**2).mean(axis=1)), begin.weight)
        wanted = np.where(np.maximum(wanted / now, now / wanted) > 2.0, wanted, now)
        if (wanted != now).any():
            reweigh(mesh.mate, self.s, self.low, self.high, self.weight, wanted[mesh.pair])

    def _balance(self) -> None:
        """Bring the differences of the prices and the trades to one size."""
        norms, count = self.norms, float(self.weight.sum()) or 1.0
        square, mean, usual = norms[4] / count, norms[3] / count, norms[1] / count
        if self.constants.size:
            usual = np.full_like(usual, usual.mean())
            square, mean = np.full_like(usual, np.mean(square - mean**2)), np.zeros_like(mean)
        spread, usual = np.sqrt(np.maximum(square - mean**2, 0.0)), np.sqrt(usual)
        sure = (usual > 0.0) & (spread > 0.0)
        wanted = np.where(sure, self.rho * spread / np.where(sure, usual, 1.0), self.rho)
        wanted = np.clip(wanted, self.reference / 4.0, self.reference * 4.0)
        wanted = np.where(np.maximum(wanted / self.rho, self.rho / wanted) > 1.5, wanted, self.rho)
        if (wanted != self.rho).any():
            rescale(self.mesh.mate, self.s, self.agents, self.theta, self.constants, self.limits, self.stored, self.consistent,
                    self.rho / wanted)  # fmt: skip
            self.rho = wanted
            self._tell()

    def _tell(self) -> None:
        """Say to the kernel what depends on the penalty: its inverse, and what is too small to be a step of a root."""
        begin = self.mesh.begin
        self.inverse = 1.0 / self.rho
        self.tiny = 1e-12 * np.maximum(begin.margin_eur_per_kwh[self.span] / self.rho, begin.size_kw[self.span])

    def wanted(self) -> tuple[Floats, Floats]:
        """Return what the agents want, of each half and of each store."""
        stored = self.stored.copy()
        self._advance(1, 0.0, stored, self.consistent.copy(), self.norms.copy())
        return self.other, stored

    def _advance(self, iterations: int, relax: float, stored: Floats, consistent: Floats, norms: Floats) -> None:
        """Call the kernel."""
        mesh = self.mesh
        advance(iterations, mesh.starts, mesh.mate, mesh.partner, self.weight, self.charge, self.inverse, self.low, self.high,
                self.agents, self.theta, self.tiny, mesh.share, mesh.usual, self.owned, self.heavy, self.constants, self.limits,
                self.s, self.other, stored, consistent, relax, norms)  # fmt: skip
