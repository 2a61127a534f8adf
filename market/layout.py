"""Columns of agents into tiles of lanes, and back.

A problem has ``K`` slots for stores, of which most agents fill one or none.  Here the agents are sorted by how many they
fill and cut into tiles; a tile has as many slots as its largest agent needs, and its agents' stores move into the first of
them.  Rented spaces are stores too, numbered from ``K`` on and seated behind everybody's own; where rights are given, only
those who hold one have a space.  Contents are counted from what they would be without any flow, so that drains and
beginnings are in the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.feasible import least_rights
from market.problem import Problem
from market.tiles import (
    CONTENT,
    ENERGY,
    EXCHANGE,
    FLOW,
    NET,
    POWER,
    RETAIL,
    SLOTS,
    Data,
    Factors,
    Found,
    State,
)

__all__ = ["Columns", "Layout", "lay_out"]

Floats = NDArray[np.float64]

_LANES = 40  # a multiple of the vectors' length; more waste slots, fewer waste entries into loops


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One number per variable, agents as rows."""

    agent: Floats
    """Shape (4, n, T): retail, meter, curtailment, exchange."""
    store: Floats
    """Shape (3, K + M, n, T): charge, discharge, content."""
    net: Floats
    """Shape (M, n, T)."""
    right: Floats
    """Shape (2, M, n): energy, power."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everybody sits."""

    order: NDArray[np.intp]
    """The agent at each position.  Shape (n,)."""
    lanes: int
    tiles: NDArray[np.int64]
    """As in :class:`market.tiles.Data`."""
    seats: NDArray[np.intp]
    """The store in each slot, -1 where there is none.  Shape (tiles, slots, lanes)."""
    idle: Floats
    """Contents of the stores if nothing flows.  Shape (K + M, n, T). [kWh]"""
    active: NDArray[np.bool_]
    """Who has or may have a space.  Shape (M, n)."""

    def lanes_of(self, rows: Floats) -> Floats:
        """Return (n, ...) as (..., P)."""
        out = np.zeros((*rows.shape[1:], len(self.tiles) * self.lanes))
        out[..., : self.order.size] = np.moveaxis(rows[self.order], 0, -1)
        return out

    def rows_of(self, lanes: Floats) -> Floats:
        """Return (..., P) as (n, ...)."""
        out = np.empty((self.order.size, *lanes.shape[:-1]))
        out[self.order] = np.moveaxis(lanes[..., : self.order.size], -1, 0)
        return out

    def tiled(self, columns: Floats) -> Floats:
        """Return (q, n, T) as (tiles, T, q, lanes)."""
        lanes = self.lanes_of(np.moveaxis(columns, 1, 0))
        return np.ascontiguousarray(lanes.reshape(*lanes.shape[:2], -1, self.lanes).transpose(2, 1, 0, 3))

    def untiled(self, tiled: Floats) -> Floats:
        """Return (tiles, T, q, lanes) as (q, n, T)."""
        lanes = tiled.transpose(2, 1, 0, 3).reshape(tiled.shape[2], tiled.shape[1], -1)
        return np.ascontiguousarray(np.moveaxis(self.rows_of(lanes), 0, 1))

    def packed(self, columns: Floats) -> Floats:
        """Return (kinds, K + M, n, T) as (tiles, T, kinds, slots, lanes), 0 where nobody sits."""
        tile, slot, lane = np.nonzero(self.seats >= 0)
        out = np.zeros((len(self.tiles), columns.shape[-1], columns.shape[0], *self.seats.shape[1:]))
        agent = self.order[tile * self.lanes + lane]
        out[tile, :, :, slot, lane] = columns[:, self.seats[tile, slot, lane], agent].transpose(1, 2, 0)
        return out

    def unpacked(self, tiled: Floats, columns: Floats) -> None:
        """Write (tiles, T, kinds, slots, lanes) into (kinds, K + M, n, T), leaving alone whom no slot holds."""
        tile, slot, lane = np.nonzero(self.seats >= 0)
        agent = self.order[tile * self.lanes + lane]
        columns[:, self.seats[tile, slot, lane], agent] = tiled[tile, :, :, slot, lane].transpose(2, 0, 1)

    def state(self, p: Problem, columns: Columns) -> State:
        """Return the columns as a state of the kernel, in which what cannot move is no variable and is 0."""
        agent = columns.agent[:3].copy()
        agent[2] *= p.pv_kw > 0
        store = columns.store.copy()
        store[:2] *= _bounds(p)[:2] > 0
        store[2] -= self.idle
        exchange = columns.agent[3] if p.exchange == "free" else np.zeros((p.n, p.steps))
        if p.exchange == "pinned" and p.pinned_exchange_kw is not None:
            exchange = p.pinned_exchange_kw
        net = np.moveaxis(columns.net * self.active[:, :, None], 1, 0)
        right = np.moveaxis(columns.right * self.active, 2, 0)
        return State(
            self.tiled(agent), self.packed(store), self.lanes_of(exchange), self.lanes_of(net), self.lanes_of(right)
        )

    def columns(self, state: State) -> Columns:
        """Return a state of the kernel as columns; stores that no slot holds are idle."""
        agent = np.concatenate([self.untiled(state.agent), self.rows_of(state.exchange)[None]])
        store = np.zeros((3, *self.idle.shape))
        self.unpacked(state.store, store)
        store[2] += self.idle
        return Columns(
            agent, store, np.moveaxis(self.rows_of(state.net), 0, 1), np.moveaxis(self.rows_of(state.right), 0, 2)
        )

    def data(self, p: Problem) -> Data:
        """Return the problem as the kernel reads it."""
        given = np.stack([p.load_kw - p.pv_kw, p.pv_kw, p.buy_eur_per_kwh * p.dt_h, p.sell_eur_per_kwh * p.dt_h,
                          p.import_limit_kw, p.export_limit_kw, p.rented_charge_eur_per_kwh * p.dt_h])  # fmt: skip
        bounds = _bounds(p)
        bounds[2:] -= self.idle
        power = p.ess_power_offer_kw if p.right_power_kw is None else p.right_power_kw.sum(axis=1)
        bound_net = (p.ess_net_min_kw > -power[:, None]) | (p.ess_net_max_kw < power[:, None])
        edge = np.stack([p.rented_initial_kwh, p.rented_final_kwh, *least_rights(p)])
        rents = np.stack([p.rent_energy_eur_per_kwh, p.rent_power_eur_per_kw])
        return Data(
            self.tiles, self.tiled(given), self.packed(bounds), self._constants(p), p.ess_retention,
            self.lanes_of(self.active.T.astype(np.float64)), self.lanes_of(np.moveaxis(edge, 2, 0)),
            self.lanes_of(np.moveaxis(rents, 2, 0)), np.stack([p.ess_energy_offer_kwh, p.ess_power_offer_kw]),
            self.lanes_of(p.exchange_charge_eur_per_kwh * p.dt_h), np.stack([p.ess_net_min_kw, p.ess_net_max_kw]),
            bound_net, p.breach_penalty_eur_per_kwh * p.dt_h, p.n, p.exchange == "free", not p.rights_fixed,
        )  # fmt: skip

    def _constants(self, p: Problem) -> Floats:
        """Return efficiencies, retention and wear of every slot, 1 where nobody sits."""
        own = np.stack(
            [p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention, p.store_wear_eur_per_kwh]
        )
        shared = np.stack(
            [p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention, p.ess_wear_eur_per_kwh]
        )
        both = np.concatenate([own, np.repeat(shared[:, :, None], p.n, axis=2)], axis=1)
        both = np.stack([p.dt_h * both[0], p.dt_h / both[1], both[2], p.dt_h * both[3]])
        tile, slot, lane = np.nonzero(self.seats >= 0)
        out = np.ones((len(self.tiles), 4, *self.seats.shape[1:]))
        out[tile, :, slot, lane] = both[:, self.seats[tile, slot, lane], self.order[tile * self.lanes + lane]].T
        return out

    def metric(self, data: Data, weights: Floats) -> State:
        """Return the weight of every variable, 0 where there is none."""
        agent = np.zeros_like(data.given[:, :, :3])
        agent += weights[RETAIL : RETAIL + 4][[0, 2, 3], None]  # without the exchange
        store = np.zeros_like(data.bounds[:, :, :3])
        store += np.array([weights[FLOW], weights[FLOW], weights[CONTENT]])[:, None, None]
        exchange = np.full(data.charge.shape, weights[EXCHANGE] * data.trading)
        net = weights[NET] * data.bound_net[:, :, None] * data.active[:, None, :]
        right = data.renting * np.stack([weights[ENERGY] * data.active, weights[POWER] * data.active])
        return State(agent, store, exchange, net, right)

    def factors(self, steps: int) -> Factors:
        """Return room for the factors."""
        tiles, slots, lanes = self.seats.shape
        return Factors(np.empty((tiles, steps, 3, lanes)), np.empty((tiles, steps, slots, slots, lanes)))

    def found(self, p: Problem, price: Floats, held: Floats) -> Found:
        """Return what the couplings begin with; the rights where they are given."""
        if p.right_energy_kwh is not None and p.right_power_kw is not None:
            held = np.stack([p.right_energy_kwh, p.right_power_kw])
        return Found(-price * p.dt_h, np.zeros((p.shared, p.steps)), np.zeros((2, p.shared)),
                     self.lanes_of(np.moveaxis(held * self.active, 2, 0)))  # fmt: skip


def _bounds(p: Problem) -> Floats:
    """Return the bounds of all stores, spaces last, shape (4, K + M, n, T); of free spaces the offers stand for them."""
    own = np.stack([p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh, p.store_energy_max_kwh])
    energy, power = p.right_energy_kwh, p.right_power_kw
    if energy is None or power is None:
        energy, power = np.ones((p.shared, p.n)), np.ones((p.shared, p.n))  # only whether it is 0 counts
    rented = np.zeros((4, p.shared, p.n, p.steps))
    rented[:2] = np.where(p.access & (energy > 0), power, 0.0)[:, :, None]
    rented[3] = energy[:, :, None]
    rented[2:, :, :, -1] = p.rented_final_kwh
    return np.concatenate([own, rented], axis=1)


def lay_out(p: Problem) -> Layout:
    """Seat everybody."""
    movable = (p.store_charge_max_kw.max(axis=2) > 0) | (p.store_discharge_max_kw.max(axis=2) > 0)
    active = p.access.copy()
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        active &= (p.right_energy_kwh > 0) & (p.right_power_kw > 0)
    many = movable.sum(axis=0)
    rents = active.any(axis=0)
    order = np.lexsort((np.where(rents, -many, many), rents))  # the most stores meet in the middle, in one tile
    lanes = 8 * max(1, -(-p.n // (8 * max(1, -(-p.n // _LANES)))))
    tiles = np.zeros((max(1, -(-p.n // lanes)), 2), np.int64)
    seats = np.full((len(tiles), int(many.max(initial=0)) + p.shared, lanes), -1, np.intp)
    for tile in range(len(tiles)):
        seated = order[tile * lanes : (tile + 1) * lanes]
        own = int(many[seated].max(initial=0))
        tiles[tile] = own, own + (p.shared if active[:, seated].any() else 0)
        for lane, agent in enumerate(seated):
            stores = np.flatnonzero(movable[:, agent])
            seats[tile, : stores.size, lane] = stores
        for j in range(tiles[tile, SLOTS] - own):
            seats[tile, own + j, : seated.size] = np.where(active[j, seated], p.stores + j, -1)
    idle = np.empty((p.stores + p.shared, p.n, p.steps))
    content = np.concatenate([p.store_initial_kwh, p.rented_initial_kwh])
    kept = np.concatenate([p.store_retention, np.repeat(p.ess_retention[:, None], p.n, axis=1)])
    for t in range(p.steps):
        content = kept * content
        content[: p.stores] -= p.store_drain_kwh[:, :, t]
        idle[:, :, t] = content
    return Layout(order, lanes, tiles, seats, idle, active)
