"""Columns of agents into rows of lanes, and back.

A problem has ``K`` slots for stores, of which most agents fill one or none.  Here the agents are sorted by how many they
fill and cut into tiles; a tile has as many slots as its largest agent needs, and its agents' stores move into the first of
them.  Rented spaces are stores too, numbered from ``K`` on and seated behind everybody's own; where rights are given, only
those who hold one have a space.  Contents are counted from what they would be without any flow, so that drains and
beginnings are in the bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from market.compiled import EXACT
from market.feasible import least_rights
from market.problem import Problem
from market.tiles import GIVEN, OWN, OWNED, SLOT, SLOTS, Data, Factors, Found, Index, Room, Rows, State
from market.vectors import LANES, rows_like, same

__all__ = ["Layout", "Places", "Units", "idle_kwh", "lay_out"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """Where columns lie among rows: every seat is 16 lanes wide and as long as the horizon."""

    source: Ints
    """Which column sits there, -1 where none does.  Shape (seats, 16)."""
    first: Ints
    """Row of the first interval.  Shape (seats,)."""
    stride: Ints
    """Rows from one interval to the next.  Shape (seats,)."""

    def spread(self, columns: Floats, rows: Rows, offset: int = 0, unit: float = 1.0) -> None:
        """Add columns (any, T) to rows, counted in units."""
        flat = np.ascontiguousarray(columns.reshape(_flat(columns)))
        _spread(flat, self.source, self.first + offset, self.stride, unit, rows)

    def collect(self, rows: Rows, columns: Floats, offset: int = 0, unit: float = 1.0) -> Floats:
        """Write rows, which count in units, into columns (any, T), which are returned; leave alone what sits nowhere."""
        _collect(rows, self.source, self.first + offset, self.stride, unit, columns.reshape(_flat(columns)))
        return columns

    def intern(self, columns: Floats, rows: Rows, used: int, index: Index, offset: int = 0, unit: float = 1.0) -> int:
        """Keep columns (any, T), counted in units, as rows behind the ``used`` ones that there are; return how many there are then.

        ``index`` says where.  A row is kept once if the interval before, the seat before or the number before has it too.
        """
        flat = np.ascontiguousarray(columns.reshape(_flat(columns)))
        return int(_intern(flat, self.source, self.first + offset, self.stride, unit, rows, used, index))


def _flat(columns: Floats) -> tuple[int, int]:
    """Return (columns, T), also where there are none."""
    return int(np.prod(columns.shape[:-1])), columns.shape[-1]


@njit(**EXACT)
def _spread(columns: Floats, source: Ints, first: Ints, stride: Ints, unit: float, rows: Rows) -> None:
    """Transpose columns into their seats."""
    for seat in range(source.shape[0]):
        for lane in range(source.shape[1]):
            if source[seat, lane] >= 0:
                for t in range(columns.shape[1]):
                    rows[first[seat] + t * stride[seat], lane] += columns[source[seat, lane], t] / unit


@njit(**EXACT)
def _intern(
    columns: Floats, source: Ints, first: Ints, stride: Ints, unit: float, rows: Rows, used: int, index: Index
) -> int:
    """Transpose columns into their seats, every distinct row once."""
    for seat in range(source.shape[0]):
        for t in range(columns.shape[1]):
            for lane in range(source.shape[1]):
                rows[used, lane] = columns[source[seat, lane], t] / unit if source[seat, lane] >= 0 else 0.0
            at, found = first[seat] + t * stride[seat], used
            if at > 0 and same(rows, used, index[at - 1]):
                found = index[at - 1]
            if seat > 0 and same(rows, used, index[first[seat - 1] + t * stride[seat - 1]]):
                found = index[first[seat - 1] + t * stride[seat - 1]]
            if t > 0 and same(rows, used, index[at - stride[seat]]):
                found = index[at - stride[seat]]
            index[at] = found
            used += found == used
    return used


@njit(**EXACT)
def _collect(rows: Rows, source: Ints, first: Ints, stride: Ints, unit: float, columns: Floats) -> None:
    """Transpose seats into their columns."""
    for seat in range(source.shape[0]):
        for lane in range(source.shape[1]):
            if source[seat, lane] >= 0:
                for t in range(columns.shape[1]):
                    columns[source[seat, lane], t] = unit * rows[first[seat] + t * stride[seat], lane]


@dataclass(frozen=True, slots=True)
class Units:
    """What the kernel counts in, so that in other units its digits are the same."""

    price_eur_per_kwh: float
    power_kw: float
    """Of contents too, in kWh."""

    @classmethod
    def of(cls, p: Problem) -> Units:
        """Return what is usual in a problem."""
        price = power = 0.0
        if p.n > 0:
            price = float(np.abs(p.buy_eur_per_kwh).mean() + np.abs(p.sell_eur_per_kwh).mean())
            power = float((np.abs(p.load_kw) + p.pv_kw).mean())
        return cls(price if price > 0 else 1.0, power if power > 0 else 1.0)

    @property
    def penalty_eur_per_kw2h(self) -> float:
        """Price of a power for every kW of it."""
        return self.price_eur_per_kwh / self.power_kw


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Where everybody sits.  Sizes: ``n`` agents, ``T`` intervals, ``K`` stores, ``M`` shared stores."""

    size: tuple[int, int, int, int]
    """(n, T, K, M)."""
    agents: Ints
    """The agent at each place, -1 where there is none.  Shape (tiles, 16)."""
    tiles: Ints
    """As in :class:`market.tiles.Data`."""
    stores: Ints
    """The store in each slot, k n + agent, spaces behind the own; -1 where there is none.  Shape (slots of all tiles, 16)."""
    active: NDArray[np.bool_]
    """Who has or may have a space.  Shape (M, n)."""
    precision: Any
    """Of the rows: numpy's float32 or float64."""
    netted: bool
    """Whether any shared store is."""

    def by_tile(self, width: int) -> Places:
        """Return the places of agents' columns that lie tile by tile, ``width`` of them."""
        steps, count = self.size[1], len(self.tiles)
        return Places(self.agents, np.arange(count) * (steps * width), np.full(count, width))

    def by_interval(self) -> Places:
        """Return the places of agents' columns that lie interval by interval."""
        count = len(self.tiles)
        return Places(self.agents, np.arange(count), np.full(count, count))

    def by_slot(self, width: int, own: bool = False) -> Places:
        """Return the places of all stores, or of the own ones alone, ``width`` rows each."""
        steps = self.size[1]
        tile = np.repeat(np.arange(len(self.tiles)), self.tiles[:, SLOTS])
        slot = np.arange(len(tile)) - self.tiles[tile, SLOT]
        before, many = (OWNED, OWN) if own else (SLOT, SLOTS)
        stride = self.tiles[tile, many] * width
        places = Places(self.stores, self.tiles[tile, before] * (steps * width) + slot * width, stride)
        if not own:
            return places
        mine = slot < self.tiles[tile, OWN]
        return Places(places.source[mine], places.first[mine], places.stride[mine])

    def once(self, columns: Floats) -> Rows:
        """Return what does not change with time, (..., n), as rows (... tiles, 16)."""
        many, count, here = int(np.prod(columns.shape[:-1])), len(self.tiles), self.agents >= 0
        rows = rows_like(many * count, self.precision)
        rows.reshape(many, count, LANES)[:, here] = columns.reshape(many, self.size[0])[:, self.agents[here]]
        return rows

    def once_back(self, rows: Rows) -> Floats:
        """Return rows (many tiles, 16) as (many, n)."""
        count, here = len(self.tiles), self.agents >= 0
        groups = rows.reshape(len(rows) // count, count, LANES)
        columns = np.zeros((len(groups), self.size[0]))
        columns[:, self.agents[here]] = groups[:, here]
        return columns

    def rows_of(self, part: str) -> int:
        """Return how many rows a part of the state has."""
        _, steps, _, shared = self.size
        count = len(self.tiles)
        return {
            "agent": count * steps * 3, "store": len(self.stores) * steps * 3, "exchange": count * steps,
            "net": shared * count * steps, "right": 2 * shared * count, "box": shared * steps * 4 * self.netted,
        }[part]  # fmt: skip

    def state(self) -> tuple[Rows, State]:
        """Return a state of zeros, first as one array, then as its parts."""
        sizes = [self.rows_of(part) for part in State._fields]
        flat = rows_like(sum(sizes), self.precision)
        return flat, self.parts(flat)

    def coupled(self) -> State:
        """Return room for the part of w that couples agents, all that an iteration needs of it."""
        return State(*(rows_like(0 if part in ("agent", "store") else self.rows_of(part), self.precision)
                       for part in State._fields))  # fmt: skip

    def parts(self, flat: Rows) -> State:
        """Return the parts of a state that is one array."""
        cuts = np.cumsum([self.rows_of(part) for part in State._fields])
        return State(*np.split(flat, cuts[:-1]))

    def data(self, p: Problem, units: Units) -> Data:
        """Return the problem as the kernel reads it."""
        kw, price = units.power_kw, units.price_eur_per_kwh / p.dt_h
        rows, given, bounds, charge = self._given(p, kw, price)
        power = p.ess_power_offer_kw if p.right_power_kw is None else p.right_power_kw.sum(axis=1)
        bound_net = (p.ess_net_min_kw > -power[:, None]) | (p.ess_net_max_kw < power[:, None])
        bound_net = np.where(p.ess_netted[:, None], p.ess_available > 0.0, bound_net)
        boxes = p.box_bounds()
        boxes[4:] -= idle_kwh(p.box_initial_kwh(), p.ess_retention, steps=p.steps)
        constants = np.stack([p.dt_h * p.ess_efficiency_charge, p.dt_h / p.ess_efficiency_discharge, p.ess_retention])
        offers = np.stack([p.ess_energy_offer_kwh, p.ess_power_offer_kw]) / kw
        edge = np.stack([p.rented_initial_kwh, p.rented_final_kwh, *least_rights(p)]) / kw
        rents = np.stack([p.rent_energy_eur_per_kwh, p.rent_power_eur_per_kw]) / units.price_eur_per_kwh
        return Data(
            self.tiles, rows, given, bounds, self._constants(p, price), charge, self.once(np.ones(p.n)),
            self.once(self.active.astype(np.float64)), self.once(edge), self.once(rents), p.ess_retention, offers,
            np.stack([p.ess_net_min_kw, p.ess_net_max_kw]) / kw, p.ess_available, np.where(p.ess_netted, offers, np.inf),
            bound_net, p.ess_netted, p.ess_box, p.in_boxes(self.active.sum(axis=1).astype(np.float64)), boxes / kw, constants,
            p.breach_penalty_eur_per_kwh / price, float(4 * np.finfo(self.precision).eps), p.exchange == "free",
            not p.rights_fixed,
        )  # fmt: skip

    def _given(self, p: Problem, kw: float, price: float) -> tuple[Rows, Index, Index, Index]:
        """Return what is given for every interval, and where: for agents, for their own stores, and the exchange charge."""
        agent, own, interval = self.by_tile(GIVEN), self.by_slot(4, own=True), self.by_tile(1)
        given, bounds, charge = (
            np.zeros(len(places.source) * p.steps * width, np.int32)
            for places, width in ((agent, GIVEN), (own, 4), (interval, 1))
        )
        rows, used = (
            rows_like(1 + len(given) + len(bounds) + len(charge), self.precision),
            1,
        )  # of which few are touched
        for q, (column, unit) in enumerate((
            (p.load_kw - p.pv_kw, kw), (p.pv_kw, kw), (p.buy_eur_per_kwh, price), (p.sell_eur_per_kwh, price),
            (p.import_limit_kw, kw), (p.export_limit_kw, kw), (p.rented_charge_eur_per_kwh, price),
        )):  # fmt: skip
            used = agent.intern(column, rows, used, given, q, unit)
        idle = idle_kwh(p.store_initial_kwh, p.store_retention, p.store_drain_kwh)
        for q, column in enumerate((
            p.store_charge_max_kw, p.store_discharge_max_kw, p.store_energy_min_kwh - idle, p.store_energy_max_kwh - idle
        )):  # fmt: skip
            used = own.intern(column, rows, used, bounds, q, kw)
        used = interval.intern(p.exchange_charge_eur_per_kwh, rows, used, charge, unit=price)
        return rows[:used], given, bounds, charge

    def _constants(self, p: Problem, price: float) -> Rows:
        """Return efficiencies, retention and wear of every slot, 1 where nobody sits."""
        own = (p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention, p.store_wear_eur_per_kwh)
        shared = (p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention, p.ess_wear_eur_per_kwh)
        both = [np.concatenate([o.ravel(), np.repeat(s, p.n)]) for o, s in zip(own, shared, strict=True)]
        both = [p.dt_h * both[0], p.dt_h / both[1], both[2], both[3] / price]
        rows = rows_like(len(self.stores) * 4, self.precision)
        rows[:] = 1.0
        here = self.stores >= 0
        for q in range(4):
            rows.reshape(-1, 4, LANES)[:, q][here] = both[q][self.stores[here]]
        return rows

    def factors(self) -> Factors:
        """Return room for the factors."""
        steps, slots = self.size[1], self.tiles[:, SLOTS]
        pairs = int((slots * (slots + 1) // 2).sum())
        many = len(self.tiles) * steps
        return Factors(
            rows_like(many * 2, self.precision), np.zeros(many, np.int32), rows_like(pairs * steps, self.precision)
        )

    def room(self) -> Room:
        """Return paper for one thread."""
        (_, steps, _, shared), slots = self.size, int(self.tiles[:, SLOTS].max())
        kind = self.precision
        return Room(
            rows_like((steps + 1) * slots, kind), rows_like(steps * (2 + shared), kind), rows_like(steps * shared * 6, kind),
            rows_like(slots + 1, kind), rows_like(2 * slots * slots + 3 * slots, np.float64),
            rows_like(len(self.tiles) * steps, kind), rows_like(3 * steps, np.float64),
        )  # fmt: skip

    def found(self, p: Problem, units: Units, price: Floats, held: Floats) -> Found:
        """Return what the couplings begin with; the rights where they are given.  ``held`` has the shape (2, M, n)."""
        if p.right_energy_kwh is not None and p.right_power_kw is not None:
            held = np.stack([p.right_energy_kwh, p.right_power_kw])
        price = -price * (p.dt_h / units.price_eur_per_kwh)
        return Found(price, np.zeros((p.shared, p.steps)), np.zeros((2, p.shared)),
                     self.once(held * self.active / units.power_kw))  # fmt: skip


def idle_kwh(initial: Floats, retention: Floats, drain: Floats | None = None, steps: int = 0) -> Floats:
    """Return the contents of stores through which nothing flows.  Shape (..., T). [kWh]"""
    steps = steps if drain is None else drain.shape[-1]
    idle, content = np.empty((*initial.shape, steps)), initial
    for t in range(steps):
        content = retention * content
        if drain is not None:
            content = content - drain[..., t]
        idle[..., t] = content
    return idle


def lay_out(p: Problem, precision: Any) -> Layout:
    """Seat everybody."""
    movable = (p.store_charge_max_kw.max(axis=2) > 0) | (p.store_discharge_max_kw.max(axis=2) > 0)
    active = p.access.copy()
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        active &= (p.right_energy_kwh > 0) & (p.right_power_kw > 0)
    many = movable.sum(axis=0)
    rents = np.asarray(active.any(axis=0))
    order = np.lexsort((np.where(rents, -many, many), rents))  # the most stores meet in the middle, in one tile
    count = max(1, -(-p.n // LANES))
    agents = np.full((count, LANES), -1, np.int64)
    agents.ravel()[: p.n] = order
    most, renting = np.zeros((count, LANES), np.int64), np.zeros((count, LANES), bool)
    most.ravel()[: p.n], renting.ravel()[: p.n] = many[order], rents[order]
    own = most.max(axis=1)
    slots = own + p.shared * renting.any(axis=1)
    before = [np.cumsum(column) - column for column in (slots, own, slots * (slots + 1) // 2)]
    tiles = np.ascontiguousarray(np.stack([own, slots, *before], axis=1), dtype=np.int64)
    stores = np.full((int(slots.sum()), LANES), -1, np.int64)
    kind, agent = np.nonzero(movable)
    seat = np.empty(p.n, np.int64)
    seat[order] = np.arange(p.n)
    slot = np.cumsum(movable, axis=0)[kind, agent] - 1
    stores[tiles[seat[agent] // LANES, SLOT] + slot, seat[agent] % LANES] = kind * p.n + agent
    kind, agent = np.nonzero(active)
    at = seat[agent] // LANES
    stores[tiles[at, SLOT] + tiles[at, OWN] + kind, seat[agent] % LANES] = (p.stores + kind) * p.n + agent
    return Layout(
        (p.n, p.steps, p.stores, p.shared), agents, tiles, stores, active, precision, bool(p.ess_netted.any())
    )
