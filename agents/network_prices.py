"""The operator of the grid at the market's table: its feeder as rows and losses, true where the market ends up.

Linear DistFlow (:mod:`network.linear`) says how a kW drawn anywhere moves squared voltages and flows.  The AC power flow at a
point p° says where they are.  Together they are rows that are exact at p° and nearly so around it, each relative to its limit ::

    |V|²/v_max² − 1 <= 0,   1 − |V|²/v_min² <= 0,   ±P/S − sqrt(1 − (Q/S)²) <= 0,   A (x − x°) + h_AC(x°) <= 0       (1)

(P, Q the flow at the branch, scaled so that its size is the loading).  Losses are ``p'H p/2`` with H = Re Z between the
connections, and their slope at p° is that of the AC power flow, by differences.

The market is cleared (:mod:`market.network_prices`), the AC power flow run where it ended, (1) moved there, and the market
cleared again, warm, until nothing moves; the last plan keeps every limit in AC.  Two to four clearings are usual.

The cleared draws are a plan.  For delivery a band around them is published (:func:`band`): everybody may do what was
cleared, and what the feeder carries besides is shared by the envelopes' rule.

Limits: reactive power is as forecast; prices are those of linear rows, whose coefficients differ from the AC power flow's by some per cent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market import network_prices
from market.network_prices import NetworkClearing
from market.network_rows import Network
from market.problem import Problem
from market.splitting import Warm
from network.acflow import Flow, Model
from network.envelope import Envelope, Limits, compute
from network.linear import linear

__all__ = ["Grid", "PricedGrid", "band", "clear"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

_INSIDE = 2e-6  # how far inside a limit is aimed at, relative: what the linear rows are off by at the end
_STILL = 1e-5  # rows that move by less, relative to their limits, are not cleared again
_LOSSES = 1e-4  # share of all losses that are left out as too small to be somebody's
_POLISHED = 3  # times at most that the plan is moved into rows that have moved
_STEP_KW = 0.1  # of the difference that finds marginal losses
_AT_ONCE = 4096  # power flows
_NEAR = 0.02  # rows further from their limit than this do not count when it is asked whether rows still move


class Grid:
    """A feeder with its limits, as rows of draws.

    Parameters
    ----------
    model
        The feeder; its connections are the places of the market: agents, then shared stores.
    limits
        What it must keep.
    """

    def __init__(self, model: Model, limits: Limits) -> None:
        feeder = model.feeder
        self.model = model
        found = linear(model)
        nodes, wires = model.nodes.element, model.wires.element
        seen = (
            np.ones(feeder.n_bus, dtype=bool) if limits.monitored is None else np.asarray(limits.monitored, dtype=bool)
        )
        v_max, v_min = (
            np.broadcast_to(v, feeder.n_bus)[nodes].astype(float) for v in (limits.v_max_pu, limits.v_min_pu)
        )
        most = np.broadcast_to(limits.loading_max_percent, feeder.n_branch)[wires].astype(float)
        self.above = np.flatnonzero(seen[nodes] & (v_max < np.inf))
        self.below = np.flatnonzero(seen[nodes] & (v_min > 0.0))
        source = np.where(model.ends.is_line, float(np.mean(feeder.source_v_pu)), 1.0)[model.wire_there]
        rated = found.rated_kva[model.wire_there] * source
        self.rated = np.flatnonzero((rated < np.inf) & (most < np.inf))
        self.v_max, self.v_min, self.most = v_max[self.above, None], v_min[self.below, None], most[self.rated, None]
        per_kw = found.squared_v_per_kw[model.node_there]
        flow = (
            found.flow_per_kva.real[model.wire_there][self.rated]
            / (rated[self.rated] * most[self.rated] / 100.0)[:, None]
        )
        injected = np.vstack([per_kw[self.above] / self.v_max**2, -per_kw[self.below] / self.v_min**2, flow, -flow])
        self.a = -injected
        bus, branch = (
            tuple(ids[k] for k in which) for ids, which in ((feeder.buses.ids, nodes), (feeder.branches.ids, wires))
        )
        self.element = (*(bus[k] for k in (*self.above, *self.below)), *(branch[k] for k in (*self.rated, *self.rated)))
        self.kind = ("over_voltage",) * len(self.above) + ("under_voltage",) * len(self.below)
        self.kind += ("overload",) * (2 * len(self.rated))
        half = 0.5 * model.kva_per_pu * model.incidence.T @ found.squared_v_per_kw[model.load_bus]
        share, way = np.linalg.eigh(0.5 * (half + half.T))
        share, way = np.maximum(share[::-1], 0.0), way[:, ::-1]
        keep = np.cumsum(share) - share < (1.0 - _LOSSES) * share.sum()
        self.loss_factor = (way[:, keep] * np.sqrt(share[keep])).T

    def flow(self, draw_kw: Matrix, draw_kvar: Matrix) -> Flow:
        """Return the AC power flow of some intervals; draws of shape (c, T)."""
        return self.model.solve(-draw_kw, -draw_kvar)

    def beyond(self, flow: Flow) -> Matrix:
        """Return how far every limit is passed, relative, as in (1); inf where there is no power flow.  Shape (k, T)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            v = flow.v_pu
            size = np.hypot(flow.p_kw, flow.q_kvar)[self.rated]
            loading = flow.loading_percent[self.rated] / self.most
            p, q = (np.where(size > 0.0, part[self.rated] / size, 0.0) * loading for part in (flow.p_kw, flow.q_kvar))
            room = np.where(np.abs(q) < 1.0, np.sqrt(np.maximum(1.0 - q**2, 0.0)), 1.0 - np.abs(q))
            found = np.vstack([(v[self.above] / self.v_max) ** 2 - 1.0, 1.0 - (v[self.below] / self.v_min) ** 2,
                               p - room, -p - room])  # fmt: skip
        found[:, ~flow.converged] = np.inf
        return found

    def network(self, draw_kw: Matrix, draw_kvar: Matrix, loss_eur_per_kwh: Vector) -> Network:
        """Return rows and losses that are exact at a point, or as far on the way to it as there is a power flow."""
        x = draw_kw
        flow = self.flow(x, draw_kvar)
        for _ in range(8):
            if flow.converged.all():
                break
            x = np.where(flow.converged, x, 0.5 * x)
            flow = self.flow(x, draw_kvar)
        beyond = self.beyond(flow)
        beyond[~np.isfinite(beyond)] = 0.0
        b = self.a @ x - beyond - _INSIDE
        lost = np.where(flow.converged, flow.loss_kw.sum(axis=0), 0.0)
        if not loss_eur_per_kwh.any():
            none = np.zeros((0, len(x)))
            return Network(self.a, b, self.element, self.kind, none, np.zeros_like(x), lost, np.zeros(x.shape[1]))
        quadratic = 2.0 * self.loss_factor.T @ (self.loss_factor @ x)
        slope = np.where(flow.converged, self.marginal_loss(x, draw_kvar, lost), quadratic) - quadratic
        constant = lost - ((self.loss_factor @ x) ** 2).sum(axis=0) - (slope * x).sum(axis=0)
        return Network(self.a, b, self.element, self.kind, self.loss_factor, slope, constant, loss_eur_per_kwh)

    def marginal_loss(self, draw_kw: Matrix, draw_kvar: Matrix, lost_kw: Vector) -> Matrix:
        """Return what a kW more drawn at each place adds to the AC losses.  Shape (c, T). [kW/kW]"""
        places, steps = draw_kw.shape
        curved = (self.loss_factor**2).sum(axis=0)[:, None] * _STEP_KW
        found = np.empty((places, steps))
        width = max(_AT_ONCE // max(places, 1), 1)
        for begin in range(0, steps, width):
            part = slice(begin, begin + width)
            here = draw_kw[:, part]
            many = here.shape[1]
            moved = np.repeat(here[:, None, :], places, axis=1)
            moved[np.arange(places), np.arange(places)] += _STEP_KW
            flow = self.flow(moved.reshape(places, -1), np.tile(draw_kvar[:, part], (1, places)))
            lost = np.where(flow.converged, flow.loss_kw.sum(axis=0), 0.0).reshape(places, many)
            found[:, part] = (lost - lost_kw[part]) / _STEP_KW - curved
        return found


@dataclass(frozen=True, slots=True, eq=False)
class PricedGrid:
    """A market cleared with a grid at the table, and what the AC power flow says of it."""

    clearing: NetworkClearing
    network: Network
    """The rows of the last clearing."""
    beyond: Vector
    """How far the worst limit is passed in AC, relative to it; at most 0 where all are kept.  Shape (T,)."""
    clearings: int
    """How often the market was cleared."""

    @property
    def kept(self) -> bool:
        """Return whether every limit is kept in AC."""
        return bool((self.beyond <= 0.0).all())


def clear(
    problem: Problem,
    grid: Grid,
    draw_kvar: Matrix,
    loss_eur_per_kwh: Vector,
    *,
    warm: Warm | None = None,
    start_kw: Matrix | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 4000,
    most: int = 5,
    certified: bool = True,
) -> PricedGrid:
    """Clear a market with a grid at the table.

    Parameters
    ----------
    problem
        Of n agents and M shared stores, the places of the grid in this order; meters without limits.
    draw_kvar : shape (n + M, T)
        Reactive draws, which are given. [kvar]
    loss_eur_per_kwh : shape (T,)
        What the operator pays for losses.
    start_kw : shape (n + M, T)
        Draws at which rows are exact at first; None: what nobody moves. [kW]
    most
        Clearings at most.
    certified
        As in :func:`market.network_prices.clear`.
    """
    x = start_kw
    if x is None:
        x = np.vstack([problem.load_kw - problem.pv_kw, np.zeros((problem.shared, problem.steps))])
    network, done = grid.network(x, draw_kvar, loss_eur_per_kwh), 0
    while True:
        found = network_prices.clear(problem, network, warm=warm, tolerance=tolerance, max_iterations=max_iterations,
                                     certified=certified)  # fmt: skip
        done, warm = done + 1, found.warm
        moved = grid.network(found.draw_kw, draw_kvar, loss_eur_per_kwh)
        near = np.maximum(network.excess(found.draw_kw), moved.excess(found.draw_kw)) > -_NEAR
        change = float((np.abs(moved.b - network.b) * near).max(initial=0.0))
        network = moved
        if change <= max(_STILL, 0.1 * tolerance) or done >= most:
            break
    found = network_prices.moved_to(problem, network, found)
    for _ in range(_POLISHED):  # the last digits: the same prices, and a plan that keeps the rows as they are now
        beyond = grid.beyond(grid.flow(found.draw_kw, draw_kvar)).max(axis=0, initial=-np.inf)
        if (beyond <= 0.0).all():
            break
        network = grid.network(found.draw_kw, draw_kvar, loss_eur_per_kwh)
        found = network_prices.moved_to(problem, network, found)
    beyond = grid.beyond(grid.flow(found.draw_kw, draw_kvar)).max(axis=0, initial=-np.inf)
    return PricedGrid(found, network, beyond, done)


def band(
    model: Model,
    draw_kw: Matrix,
    draw_kvar: Matrix,
    active: NDArray[np.bool_],
    export_cap_kw: Vector,
    import_cap_kw: Vector,
    limits: Limits,
    *,
    rule: str = "proportional",
) -> Envelope:
    """Return limits around cleared draws: everybody may do what was cleared, and shares what the feeder carries besides.

    Where everybody's feeding in at once is only possible because others draw, who draws is counted on: it may draw as much as was
    cleared, and not feed in.

    Parameters
    ----------
    draw_kw, draw_kvar : shape (c, T)
        What was cleared.
    active : shape (c,)
        Who is held; the others stay at what was cleared.
    export_cap_kw, import_cap_kw : shape (c,)
        What each could use at most; cleared draws beyond are granted all the same.
    """
    out, into = np.maximum(-draw_kw, 0.0), np.maximum(draw_kw, 0.0)
    caps = np.maximum(export_cap_kw[:, None], out), np.maximum(import_cap_kw[:, None], into)

    def around(counted: Matrix | None) -> Envelope:
        return compute(model, -draw_kw, -draw_kvar, active, *caps, limits, rule=rule, firm_charge_kw=counted,
                       export_floor_kw=out, import_floor_kw=into)  # fmt: skip

    found = around(None)
    short = (found.status != "ok") & active.any()
    return around(np.where(short & active[:, None], into, 0.0)) if short.any() else found
