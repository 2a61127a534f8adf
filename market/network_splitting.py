"""The exchange's iteration with one more agent: the operator of the grid, who looks at all meters together.

In the iteration of :mod:`market.kernel` ``w`` obeys everybody's own equations and ``z`` everything else.  Without limits the z
of a meter is its wish ``y = 2 w − s``; here the operator answers all wishes of an interval at once by :mod:`market.network_project`,
with what shared stores draw among them (the sum over their tenants, who move alike), and s is moved by the difference.  So it
is the same ADMM with one more party, which tells nobody a limit: what it answers with costs is each meter's price.

The kernel is used as it is and knows nothing of it: it is given limits so wide that they never say anything, so that meters
are variables, and its answer is replaced.  One thread.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from market.network_project import Projection
from market.network_rows import Network
from market.problem import Problem
from market.splitting import Splitting, Warm
from market.tiles import METER, NET, RELAX, Found, Room, Rows

__all__ = ["NetworkSplitting", "with_store_bounds"]

Floats = NDArray[np.float64]

_WIDE = 10.0  # times what anybody can draw or feed in: no limit at all
_BELOW = 1e-6  # relative: bounds of a net nearer to its power than this do not say more than the rights do
_THOROUGH = 10  # iterations between two looks at all rows


def with_store_bounds(p: Problem, network: Network) -> Network:
    """Return the network with the bounds of the shared stores' nets as the last rows: upper ones, then lower ones."""
    unit = np.zeros((p.shared, network.places))
    unit[:, p.n :] = np.eye(p.shared)
    power = _power(p)[:, None]
    wide = _WIDE * power + 1.0  # what the rights say already has its own price
    high, low = np.minimum(p.ess_net_max_kw, wide), np.maximum(p.ess_net_min_kw, -wide)
    names = tuple(f"shared store {j}" for j in range(p.shared)) * 2
    return replace(
        network, a_per_kw=np.vstack([network.a_per_kw, unit, -unit]), b=np.vstack([network.b, high, -low]),
        element=network.element + names, kind=network.kind + ("store",) * len(names),
    )  # fmt: skip


def _power(p: Problem) -> Floats:
    """Return the power that the rights to each shared store have together.  Shape (M,). [kW]"""
    return p.ess_power_offer_kw if p.right_power_kw is None else np.asarray(p.right_power_kw.sum(axis=1))


def _opened(p: Problem) -> Problem:
    """Return the problem with meters that have limits which say nothing, and nets that are bounded."""
    most = np.abs(p.load_kw) + p.pv_kw + p.store_charge_max_kw.sum(axis=0) + p.store_discharge_max_kw.sum(axis=0)
    wide = np.full((p.n, p.steps), _WIDE * (1.0 + float(most.max(initial=0.0)) + float(_power(p).sum())))
    high = np.repeat(_power(p)[:, None] * (1.0 - _BELOW), p.steps, axis=1)
    # the penalty is that of no limit: never paid
    return replace(p, import_limit_kw=wide, export_limit_kw=wide, breach_penalty_eur_per_kwh=cast("float", None),
                   ess_net_min_kw=np.maximum(p.ess_net_min_kw, -high), ess_net_max_kw=np.minimum(p.ess_net_max_kw, high))  # fmt: skip


class NetworkSplitting(Splitting):
    """One clearing with a network under way."""

    def __init__(self, problem: Problem, network: Network, warm: Warm | None, *, double: bool = False) -> None:
        super().__init__(_opened(problem), warm, 1, double=double)
        p, weights = self.problem, self.weights
        self.tenants = np.where(self.data.bound_net.all(axis=1), self.layout.active.sum(axis=1), 0)
        metric = np.ones(p.n + p.shared)
        metric[p.n :] = weights[NET] / weights[METER] / np.maximum(self.tenants, 1)
        metric[p.n :][self.tenants == 0] = 1e6  # nobody is there who could draw
        self.projection = Projection(with_store_bounds(problem, network), p.dt_h, metric)
        self.turns = 0
        self.draws = np.zeros((p.n + p.shared, p.steps))
        """z at the last iteration or look.  Shape (N, T). [kW]"""
        self.row_value = np.zeros((len(network.b), p.steps))
        """ν there, divided by dt.  Shape (k, T). [eur per unit of the row and hour]"""
        self.store_value = np.zeros((2, p.shared, p.steps))
        """Likewise, of the upper and lower bounds of the nets.  Shape (2, M, T)."""

    def _iterate(
        self, state: Rows, found: Found, weights: Floats, count: int, rights: bool, tiles: tuple[int, int],
        intervals: tuple[int, int], room: Room, kept: Rows | None = None,
    ) -> None:  # fmt: skip
        """Iterate as the kernel does, and let the operator answer after every iteration."""
        for _ in range(count):
            meters, nets = self._meters(state), self._nets(state)
            super()._iterate(state, found, weights, 1, rights, tiles, intervals, room, kept)
            self._operator(state, meters, nets, found, weights, kept)

    def _meters(self, state: Rows) -> Floats:
        p, lay = self.problem, self.layout
        return lay.by_tile(3).collect(lay.parts(state).agent, np.zeros((p.n, p.steps)), 1, self.units.power_kw)

    def _nets(self, rows: Rows, w: bool = False) -> Floats:
        """Return the nets of all agents.  Shape (M, n, T). [kW]"""
        p, lay = self.problem, self.layout
        net = self.work.net if w else lay.parts(rows).net
        size, places = p.steps * len(lay.tiles), lay.by_interval()
        return np.array(
            [
                places.collect(net[j * size : (j + 1) * size], np.zeros((p.n, p.steps)), 0, self.units.power_kw)
                for j in range(p.shared)
            ]
        ).reshape(p.shared, p.n, p.steps)

    def _operator(
        self, state: Rows, meters: Floats, nets: Floats, found: Found, weights: Floats, kept: Rows | None
    ) -> None:
        """Replace the kernel's answers to meters and nets by the operator's."""
        p, lay, kw, alpha = self.problem, self.layout, self.units.power_kw, float(weights[RELAX])
        strength = float(weights[METER]) * self.units.price_eur_per_kwh / kw
        if strength != self.projection.strength:
            self.projection.prepare(strength)
        w = meters + (self._meters(state) - meters) / alpha
        wish = 2.0 * w - meters
        w_net = self._nets(kept) if kept is not None else self._nets(state, w=True)
        active = lay.active[:, :, None]
        wish_net = (2.0 * w_net - nets) * active
        self.turns += 1
        thorough = kept is not None or self.turns % _THOROUGH == 1
        asked = np.concatenate([wish, wish_net.sum(axis=1)])
        z, value = self.projection.nearest(asked, thorough)
        lay.by_tile(3).spread(alpha * (z[: p.n] - wish), lay.parts(state).agent, 1, kw)
        many = np.maximum(self.tenants, 1)[:, None]
        shift = (z[p.n :] - asked[p.n :]) / many
        after = self._nets(state)
        size, places = p.steps * len(lay.tiles), lay.by_interval()
        for j in np.flatnonzero(self.tenants):
            moved = nets[j] + alpha * (wish_net[j] + shift[j] - w_net[j]) * active[j]
            net = lay.parts(state).net[j * size : (j + 1) * size]
            places.spread((moved - after[j]) * active[j], net, 0, kw)
            found.net_price[j] = -weights[NET] * shift[j] / kw
        rows = len(self.row_value)
        self.draws, self.row_value = z, value[:rows] / p.dt_h
        self.store_value = value[rows:].reshape(2, p.shared, p.steps) / p.dt_h
