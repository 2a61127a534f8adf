"""A market of sellers and buyers, in tiles of intervals: what runs :mod:`market.bilateral_kernel`.

Intervals without stores have nothing to do with each other, so each tile is iterated to its end before the next is touched
and stays in the cache; several tiles may run at once.  Which form the kernel takes:

* loose tolerances in single precision, tight ones in double;
* its penalty is set per interval and balanced at iterations 10, 20, 40, ... so that prices and trades have one size.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.bilateral_kernel import advance, look, rescale, sellers_want
from market.bilateral_problem import Bilateral
from market.bilateral_start import Start, Warm

__all__ = ["Draft", "Sides", "of_two_sides"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_RELAX = 1.7
_EVERY = 10  # iterations between looks
_LANES = 96
_SINGLE = 1e-3  # from this tolerance on single precision is enough


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What an iteration thinks should be done; nothing in it needs to be exact."""

    trades_kw: Floats
    """Shape (E, T)."""
    marginal_eur_per_kwh: Floats
    """Shape (n, T)."""
    charge_kw: Floats
    """Shape (K, n, T)."""
    discharge_kw: Floats
    """Shape (K, n, T)."""
    store_states: Floats
    """Where the iteration stood, for the next one.  Shape (3, K, n, T)."""
    penalty_eur_per_kw2h: Floats
    """Shape (T,)."""
    asymmetry_eur_per_kwh: float
    """Largest difference between the prices that the two ends of a pair hold."""
    iterations: int
    converged: bool
    residuals: Floats
    """Shape (k, 4): iteration, primal and dual residual (relative, the worst interval's), penalty (mean)."""


def of_two_sides(problem: Bilateral) -> bool:
    """Return whether every agent either sells or buys, always, and trades have no limits: the fast form."""
    sell, buy = problem.may()
    mixed = (sell.any(axis=1) & buy.any(axis=1)).any()
    return problem.stores is None and not mixed and bool(np.isinf(problem.trade_max_kw).all())


class Sides:
    """The state of all tiles."""

    def __init__(
        self, problem: Bilateral, begin: Start, warm: Warm | None, tolerance: float, lanes: int | None = None
    ) -> None:
        self.problem, self.begin = problem, begin
        sell, buy = problem.may()
        sells, buys = np.any(sell, axis=1), np.any(buy, axis=1)
        first, second = problem.first, problem.second
        forth, back = sells[first] & buys[second], sells[second] & buys[first]
        edges = np.flatnonzero(forth | back)
        self.sign = np.where(forth[edges], 1.0, -1.0)
        source, sink = np.where(forth, first, second)[edges], np.where(forth, second, first)[edges]
        self.sellers, source = np.unique(source, return_inverse=True)
        self.buyers, sink = np.unique(sink, return_inverse=True)
        order = np.lexsort((sink, source))
        self.edges, self.sign, self.source, sink = edges[order], self.sign[order], source[order], sink[order]
        self.seller_starts = np.searchsorted(self.source, np.arange(self.sellers.size + 1)).astype(np.int64)
        self.buyer_rows = np.argsort(sink, kind="stable").astype(np.int64)
        self.buyer_starts = np.searchsorted(sink[self.buyer_rows], np.arange(self.buyers.size + 1)).astype(np.int64)
        total = problem.charge_first_eur_per_kwh + problem.charge_second_eur_per_kwh
        self.charge = total[self.edges]
        self.kind = np.float32 if tolerance >= _SINGLE else np.float64
        self.weight = begin.weight[self.edges].astype(self.kind)
        self.sold_kw, self.bought_kw = (begin.usual_kw[side].astype(self.kind) for side in (self.sellers, self.buyers))
        width = -(-problem.steps // -(-problem.steps // (lanes or _LANES)))
        self.tiles = [
            _Tile(self, slice(t, min(t + width, problem.steps)), warm) for t in range(0, problem.steps, width)
        ]

    def run(self, tolerance: float, max_iterations: int, gap: float | None, threads: int) -> Draft:
        """Iterate every tile until its residuals, or its gap where one is given, are small enough."""
        if threads > 1 and len(self.tiles) > 1:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda tile: tile.run(tolerance, max_iterations, gap), self.tiles))
        else:
            for tile in self.tiles:
                tile.run(tolerance, max_iterations, gap)
        return self._draft()

    def _draft(self) -> Draft:
        """Put the tiles together."""
        p, begin = self.problem, self.begin
        trades, marginal = np.zeros((p.pairs, p.steps)), np.repeat(begin.price_eur_per_kwh[None, :], p.n, axis=0)
        penalty, asymmetry = np.empty(p.steps), 0.0
        seen: dict[int, list[tuple[float, float, float]]] = {}
        for tile in self.tiles:
            x, theta, nu = tile.agreed()
            t = tile.span
            trades[self.edges, t] = x * self.sign[:, None]
            marginal[self.sellers, t] += theta * tile.rho
            marginal[self.buyers, t] -= nu * tile.rho
            penalty[t] = tile.rho
            asymmetry = max(asymmetry, tile.asymmetry)
            for iteration, *row in tile.residuals:
                seen.setdefault(int(iteration), []).append((row[0], row[1], row[2]))
        history = [
            (float(k), max(r[0] for r in rows), max(r[1] for r in rows), sum(r[2] for r in rows) / len(rows))
            for k, rows in sorted(seen.items())
        ]
        none = np.zeros((0, p.n, p.steps))
        return Draft(trades, marginal, none, none, np.stack([none] * 3), penalty, asymmetry, max((t.iterations for t in self.tiles), default=0),
                     all(t.converged for t in self.tiles), np.array(history).reshape(-1, 4))  # fmt: skip


class _Tile:
    """Some intervals of the market."""

    def __init__(self, sides: Sides, span: slice, warm: Warm | None) -> None:
        self.sides, self.span = sides, span
        curves, begin, kind = sides.problem.curves, sides.begin, sides.kind
        self.rho = begin.penalty_eur_per_kw2h[span].copy() if warm is None else warm.penalty_eur_per_kw2h[span].copy()
        price = begin.price_eur_per_kwh[span]

        def agents(rows: Integers, sign: float) -> NDArray[np.floating]:
            b, a = (
                c[rows, span] / self.rho
                for c in (curves.b_eur_per_kwh - begin.price_eur_per_kwh, curves.a_eur_per_kw2h)
            )
            bounds = curves.p_min_kw[rows, span], curves.p_max_kw[rows, span]
            least, most = bounds if sign > 0 else (-bounds[1], -bounds[0])
            return np.ascontiguousarray(np.stack([sign * b, a, least, most], axis=1), dtype=kind)

        self.sellers, self.buyers = agents(sides.sellers, 1.0), agents(sides.buyers, -1.0)
        charge = sides.charge if sides.charge.shape[1] == 1 else sides.charge[:, span]
        self.charge = np.ascontiguousarray(charge, dtype=kind)
        half = 0.5 * charge / self.rho
        if warm is None:
            self.s = (-half).astype(kind)
            self.theta, self.nu = (np.maximum(side[:, 0], 0) for side in (self.sellers, self.buyers))
        else:
            x = np.maximum(warm.trades_kw[sides.edges, span] * sides.sign[:, None], 0.0)
            middle = warm.marginal_eur_per_kwh - begin.price_eur_per_kwh
            agreed = warm.price_eur_per_kwh[sides.edges, span] - price
            # the price of a warm start has the charges of its ends on either side; the kernel's has them halved
            own = (sides.problem.charge_first_eur_per_kwh - sides.problem.charge_second_eur_per_kwh)[sides.edges]
            agreed -= 0.5 * sides.sign[:, None] * (own if own.shape[1] == 1 else own[:, span])
            self.s = (x / begin.weight[sides.edges, None] + agreed / self.rho - half).astype(kind)
            self.theta = np.ascontiguousarray(middle[sides.sellers, span] / self.rho, dtype=kind)
            self.nu = np.ascontiguousarray(-middle[sides.buyers, span] / self.rho, dtype=kind)
        self.s = np.array(np.broadcast_to(self.s, (sides.edges.size, self.rho.size)), order="C")
        self._tell()
        self.norms = np.zeros((7, self.rho.size), dtype=kind)
        self.iterations, self.balance, self.asymmetry = 0, _EVERY, 0.0
        self.converged = sides.edges.size == 0
        self.off = 0.0 if self.converged else np.inf
        self.residuals: list[tuple[float, float, float, float]] = []

    def run(self, tolerance: float, max_iterations: int, gap: float | None) -> None:
        """Iterate, on from where the last call ended."""
        sides = self.sides
        while self.off > tolerance and self.iterations < max_iterations:
            count = min(_EVERY, max_iterations - self.iterations)
            advance(count, sides.seller_starts, sides.buyer_starts, sides.buyer_rows, sides.source, sides.weight, self.s,
                    self.charge, self.inverse, self.sellers, self.buyers, self.theta, self.nu, self.tiny, sides.sold_kw,
                    sides.bought_kw, _RELAX, self.norms)  # fmt: skip
            self.iterations += count
            norms = self.norms.astype(np.float64)
            primal, dual = self._residuals(norms)
            self.asymmetry = float((norms[6] * self.rho).max())
            self.residuals.append(
                (float(self.iterations), float(primal.max()), float(dual.max()), float(self.rho.mean()))
            )
            self.off = float(max(primal.max(), dual.max(), norms[5].max()))
            self.converged = self.off <= tolerance
            if self.converged or (gap is not None and self._gap() <= gap):
                self.converged = True
                break
            if self.iterations == self.balance:
                self.balance *= 2
                self._balance(norms)

    def _residuals(self, norms: Floats) -> tuple[Floats, Floats]:
        """Return both residuals, relative to the trades and to the prices, per interval."""
        count = float(self.sides.weight.sum())
        off = np.sqrt(norms[0])
        floor = 1e-3 * self.sides.begin.size_kw[self.span]
        level = self.sides.begin.price_eur_per_kwh[self.span] / self.rho
        margin = self.sides.begin.margin_eur_per_kwh[self.span] / self.rho
        prices = np.sqrt(np.maximum(norms[4] + 2.0 * level * norms[3] + count * level**2, count * margin**2))
        return off / np.maximum(np.sqrt(np.maximum(norms[1], norms[2])), floor), off / prices

    def _balance(self, norms: Floats) -> None:
        """Bring the differences of the prices and the trades to one size."""
        count = float(self.sides.weight.sum())
        spread = np.sqrt(np.maximum(norms[4] / count - (norms[3] / count) ** 2, 0.0))
        usual = np.sqrt(norms[1] / count)
        begin = self.sides.begin.penalty_eur_per_kw2h[self.span]
        sure = (usual > 0.0) & (spread > 0.0)
        wanted = np.where(sure, self.rho * spread / np.where(sure, usual, 1.0), self.rho)
        wanted = np.clip(wanted, begin / 4.0, begin * 4.0)
        wanted = np.where(np.maximum(wanted / self.rho, self.rho / wanted) > 1.5, wanted, self.rho)
        if (wanted == self.rho).all():
            return
        sides = self.sides
        sellers_want(sides.seller_starts, sides.weight, self.s, self.sellers, self.theta, self.tiny)
        ratio = (self.rho / wanted).astype(self.s.dtype)
        rescale(sides.source, self.s, self.sellers, self.buyers, self.theta, self.nu, ratio)
        self.rho = wanted
        self._tell()

    def _tell(self) -> None:
        """Say to the kernel what depends on the penalty: its inverse, and what is too small to be a step of a root."""
        begin, kind = self.sides.begin, self.sides.kind
        self.inverse = (1.0 / self.rho).astype(kind)
        usual = np.maximum(begin.margin_eur_per_kwh[self.span] / self.rho, begin.size_kw[self.span])
        self.tiny = ((1e-6 if kind is np.float32 else 1e-14) * usual).astype(kind)

    def _gap(self) -> float:
        """Return about what the certificate will say of these intervals."""
        sides, lanes = self.sides, self.rho.size
        cost, bound = np.empty(lanes), np.empty(lanes)
        look(sides.seller_starts, sides.buyer_starts, sides.buyer_rows, sides.source, sides.weight, self.s, self.charge,
             self.inverse, self.sellers, self.buyers, self.theta, self.tiny, cost, bound)  # fmt: skip
        dt = self.sides.problem.curves.dt_h
        cost, bound = dt * self.rho * cost, dt * self.rho * bound
        return float((cost - bound).sum() / max(1.0, abs(cost.sum())))

    def agreed(self) -> tuple[Floats, Floats, Floats]:
        """Return the sellers' trades, exact for them, and both sides' roots."""
        sides = self.sides
        sellers_want(sides.seller_starts, sides.weight, self.s, self.sellers, self.theta, self.tiny)
        x = (sides.weight[:, None] * np.maximum(self.s - self.theta[sides.source], 0)).astype(np.float64)
        return x, self.theta.astype(np.float64), self.nu.astype(np.float64)
