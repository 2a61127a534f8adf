"""Columns of agents into tiles of lanes, and back.

A problem has ``K`` slots for stores, of which most agents fill one or none.  Here the agents are sorted by how many they
fill and cut into tiles; a tile has as many slots as its largest agent needs, and its agents' stores move into the first of
them.  Where rights are given, only those who hold one have a space.  Nothing outside this file knows about positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.kernel import Data, Factors, Found, State
from market.problem import Problem
from market.repair import least_rights

__all__ = ["Columns", "Layout", "lay_out"]

Floats = NDArray[np.float64]

_LANES = 32  # a multiple of every vector's length; more waste slots, fewer waste loop entries


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One number per variable, agents as rows."""

    agent: Floats
    """Shape (4, n, T): retail, meter, curtailment, exchange."""
    store: Floats
    """Shape (3, K, n, T): charge, discharge, content."""
    rented: Floats
    """Shape (4, M, n, T): charge, discharge, content, net."""
    right: Floats
    """Shape (2, M, n): energy, power."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everybody sits."""

    order: NDArray[np.intp]
    """The agent at each position.  Shape (n,)."""
    lanes: int
    tiles: NDArray[np.int64]
    """As in :class:`market.kernel.Data`."""
    slots: tuple[NDArray[np.intp], ...]
    """Per tile (C, lanes): the store in each slot, -1 where there is none."""
    idle: Floats
    """Contents of the stores if nothing flows.  Shape (K, n, T). [kWh]"""
    active: NDArray[np.bool_]
    """Who has or may have a space.  Shape (M, n)."""

    @property
    def positions(self) -> int:
        """Number of lanes in all tiles."""
        return len(self.tiles) * self.lanes

    def lanes_of(self, rows: Floats) -> Floats:
        """Return (n, ...) as (..., P)."""
        out = np.zeros((*rows.shape[1:], self.positions))
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

    def _own(self, tile: int, flat: Floats, steps: int, kinds: int) -> Floats:
        own, at = self.tiles[tile, 0], self.tiles[tile, 2]
        return flat[kinds * at : kinds * (at + steps * own * self.lanes)].reshape(steps, kinds, own, self.lanes)

    def _seats(self, tile: int, slot: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return lane, store and agent of those who fill a slot."""
        lane = np.flatnonzero(self.slots[tile][slot] >= 0)
        return lane, self.slots[tile][slot][lane], self.order[tile * self.lanes + lane]

    def packed_stores(self, columns: Floats) -> Floats:
        """Return (kinds, K, n, T) as the flat tiles (T, kinds, C, lanes)."""
        kinds, steps = columns.shape[0], columns.shape[-1]
        flat = np.zeros(kinds * steps * self.lanes * int(self.tiles[:, 0].sum()))
        for tile in range(len(self.tiles)):
            view = self._own(tile, flat, steps, kinds)
            for slot in range(self.tiles[tile, 0]):
                lane, store, agent = self._seats(tile, slot)
                view[:, :, slot, lane] = columns[:, store, agent].transpose(2, 0, 1)
        return flat

    def unpacked_stores(self, flat: Floats, columns: Floats) -> None:
        """Write the flat tiles into (kinds, K, n, T), leaving alone whom no slot holds."""
        for tile in range(len(self.tiles)):
            view = self._own(tile, flat, columns.shape[-1], columns.shape[0])
            for slot in range(self.tiles[tile, 0]):
                lane, store, agent = self._seats(tile, slot)
                columns[:, store, agent] = view[:, :, slot, lane].transpose(1, 2, 0)

    def _spaces(self, tile: int, flat: Floats, steps: int) -> Floats:
        rented, at = self.tiles[tile, 1], self.tiles[tile, 3]
        return flat[3 * at : 3 * (at + steps * rented * self.lanes)].reshape(steps, 3, rented, self.lanes)

    def packed_spaces(self, columns: Floats) -> Floats:
        """Return (3, M, n, T) as the flat tiles (T, 3, R, lanes)."""
        steps = columns.shape[-1]
        flat = np.zeros(3 * steps * self.lanes * int(self.tiles[:, 1].sum()))
        kept = columns * self.active[None, :, :, None]
        for tile in np.flatnonzero(self.tiles[:, 1]).tolist():
            agent = self.order[tile * self.lanes : (tile + 1) * self.lanes]
            self._spaces(tile, flat, steps)[..., : agent.size] = kept[:, :, agent].transpose(3, 0, 1, 2)
        return flat

    def unpacked_spaces(self, flat: Floats, columns: Floats) -> None:
        """Write the flat tiles into (3, M, n, T)."""
        for tile in np.flatnonzero(self.tiles[:, 1]).tolist():
            agent = self.order[tile * self.lanes : (tile + 1) * self.lanes]
            view = self._spaces(tile, flat, columns.shape[-1])
            columns[:, :, agent] = view[..., : agent.size].transpose(1, 2, 3, 0)

    def state(self, p: Problem, columns: Columns) -> State:
        """Return the columns as a state of the kernel, in which what cannot move is no variable and is 0."""
        agent = columns.agent[:3].copy()
        agent[2] *= p.pv_kw > 0
        store = columns.store.copy()
        store[0] *= p.store_charge_max_kw > 0
        store[1] *= p.store_discharge_max_kw > 0
        store[2] -= self.idle
        exchange = columns.agent[3]
        if p.exchange != "free":
            exchange = np.zeros_like(exchange) if p.pinned_exchange_kw is None else p.pinned_exchange_kw
            exchange = exchange * (p.exchange == "pinned")
        return State(
            self.tiled(agent),
            self.packed_stores(store),
            self.packed_spaces(columns.rented[:3]),
            self.lanes_of(exchange),
            self.lanes_of(np.moveaxis(columns.rented[3] * self.active[:, :, None], 1, 0)),
            self.lanes_of(np.moveaxis(columns.right * self.active, 2, 0)),
        )

    def columns(self, state: State) -> Columns:
        """Return a state of the kernel as columns; stores that no slot holds are idle."""
        agent = np.concatenate([self.untiled(state.agent), self.rows_of(state.exchange)[None]])
        store = np.zeros((3, *self.idle.shape))
        self.unpacked_stores(state.own, store)
        store[2] += self.idle
        rented = np.zeros((4, self.active.shape[0], *agent.shape[1:]))
        self.unpacked_spaces(state.rented, rented[:3])
        rented[3] = np.moveaxis(self.rows_of(state.net), 0, 1)
        return Columns(agent, store, rented, np.moveaxis(self.rows_of(state.right), 0, 2))

    def data(self, p: Problem) -> Data:
        """Return the problem as the kernel reads it."""
        given = np.stack([p.load_kw - p.pv_kw, p.pv_kw, p.buy_eur_per_kwh * p.dt_h, p.sell_eur_per_kwh * p.dt_h,
                          p.import_limit_kw, p.export_limit_kw, p.rented_charge_eur_per_kwh * p.dt_h])  # fmt: skip
        bounds = np.stack([p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh - self.idle,
                           p.store_energy_max_kwh - self.idle])  # fmt: skip
        own = np.stack([p.dt_h * p.store_efficiency_charge, p.dt_h / p.store_efficiency_discharge, p.store_retention,
                        p.store_wear_eur_per_kwh * p.dt_h])  # fmt: skip
        constants = np.ones(4 * self.lanes * int(self.tiles[:, 0].sum()))
        for tile in range(len(self.tiles)):
            many, at = self.tiles[tile, 0], self.tiles[tile, 5]
            view = constants[4 * at : 4 * (at + many * self.lanes)].reshape(4, many, self.lanes)
            for slot in range(many):
                lane, store, agent = self._seats(tile, slot)
                view[:, slot, lane] = own[:, store, agent]
        ess = np.stack([p.dt_h * p.ess_efficiency_charge, p.dt_h / p.ess_efficiency_discharge, p.ess_retention,
                        p.ess_wear_eur_per_kwh * p.dt_h], axis=1)  # fmt: skip
        power = p.ess_power_offer_kw if p.right_power_kw is None else p.right_power_kw.sum(axis=1)
        bound_net = (p.ess_net_min_kw > -power[:, None]) | (p.ess_net_max_kw < power[:, None])
        least_kwh, least_kw = least_rights(p)
        edge = np.stack([p.rented_initial_kwh, p.rented_final_kwh, least_kwh, least_kw])
        rents = np.stack([p.rent_energy_eur_per_kwh, p.rent_power_eur_per_kw])
        return Data(
            self.tiles, self.tiled(given), self.packed_stores(bounds), constants, np.ascontiguousarray(ess),
            self.lanes_of(self.active.T.astype(np.float64)), self.lanes_of(np.moveaxis(edge, 2, 0)),
            self.lanes_of(np.moveaxis(rents, 2, 0)), np.stack([p.ess_energy_offer_kwh, p.ess_power_offer_kw]),
            self.lanes_of(p.exchange_charge_eur_per_kwh * p.dt_h), np.stack([p.ess_net_min_kw, p.ess_net_max_kw]),
            bound_net, p.breach_penalty_eur_per_kwh * p.dt_h, p.n, p.exchange == "free", not p.rights_fixed,
        )  # fmt: skip

    def factors(self, steps: int) -> Factors:
        """Return room for the factors."""
        slots = self.tiles[:, 0] + self.tiles[:, 1]
        step = np.empty((len(self.tiles), steps, 3, self.lanes))
        return Factors(step, np.empty(steps * self.lanes * int((slots**2).sum())))

    def found(self, p: Problem, price: Floats, held: Floats) -> Found:
        """Return what the couplings begin with; the rights where they are given."""
        if p.right_energy_kwh is not None and p.right_power_kw is not None:
            held = np.stack([p.right_energy_kwh, p.right_power_kw])
        return Found(-price * p.dt_h, np.zeros((p.shared, p.steps)), np.zeros((2, p.shared)),
                     self.lanes_of(np.moveaxis(held * self.active, 2, 0)))  # fmt: skip


def lay_out(p: Problem) -> Layout:
    """Seat everybody."""
    movable = (p.store_charge_max_kw.max(axis=2) > 0) | (p.store_discharge_max_kw.max(axis=2) > 0)
    active = p.access.copy()
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        active &= (p.right_energy_kwh > 0) & (p.right_power_kw > 0)
    many = movable.sum(axis=0)
    order = np.lexsort((many, active.any(axis=0)))
    count = max(1, -(-p.n // _LANES))
    lanes = 8 * max(1, -(-p.n // (8 * count)))
    count = max(1, -(-p.n // lanes))
    tiles, slots = np.zeros((count, 6), np.int64), []
    cells = cells_r = blocks = constants = 0
    for tile in range(count):
        seated = order[tile * lanes : (tile + 1) * lanes]
        own = int(many[seated].max(initial=0))
        rented = p.shared if active[:, seated].any() else 0
        tiles[tile] = (own, rented, cells, cells_r, blocks, constants)
        cells, cells_r = cells + p.steps * own * lanes, cells_r + p.steps * rented * lanes
        blocks, constants = blocks + p.steps * (own + rented) ** 2 * lanes, constants + own * lanes
        taken = np.full((own, lanes), -1, np.intp)
        for lane, agent in enumerate(seated):
            stores = np.flatnonzero(movable[:, agent])
            taken[: stores.size, lane] = stores
        slots.append(taken)
    idle = np.empty(p.store_charge_max_kw.shape)
    content = p.store_initial_kwh
    for t in range(p.steps):
        content = p.store_retention * content - p.store_drain_kwh[:, :, t]
        idle[:, :, t] = content
    return Layout(order, lanes, tiles, tuple(slots), idle, active)
