"""From a market's case to the arrays of its market: :class:`market.problem.Problem`, :class:`market.curves.Curves`, pairs.

Times become intervals here.  A car that is at home for a part of an interval may charge at that part of its power; it must
have taken in what it needs at the end of the interval in which it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.curves import Curves
from market.problem import Problem
from sim.case import CurvesCase, ProsumersCase, Trades
from sim.case_agents import Battery, Buffer, Prosumer, Store, Vehicle
from sim.case_flexible import left_out

__all__ = ["Graph", "curves_of", "graph_of", "problem_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Who may trade with whom: ``E`` pairs."""

    first: NDArray[np.int64]
    """Row of one end.  Shape (E,)."""
    second: NDArray[np.int64]
    """Row of the other.  Shape (E,)."""
    charge_first_eur_per_kwh: Floats
    """Shape (E, T)."""
    charge_second_eur_per_kwh: Floats
    """Shape (E, T)."""
    limit_kw: Floats
    """Infinite where there is none.  Shape (E, T)."""


def curves_of(case: CurvesCase) -> Curves:
    """Return the agents' cost curves."""
    columns = [_rows([getattr(agent, key) for agent in case.agents]) for key in ("a", "b", "p_min", "p_max")]
    return Curves.plain(*columns, dt_h=case.dt_h, agent_ids=tuple(agent.id for agent in case.agents))


def graph_of(case: CurvesCase, trades: Trades) -> Graph:
    """Return the pairs that may trade."""
    names = [agent.id for agent in case.agents]
    if trades.between == "pairs":
        ends = [(names.index(pair.first), names.index(pair.second)) for pair in trades.pairs]
    elif trades.between == "all":
        ends = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
    else:
        consumes = [bool((agent.p_min < 0).any()) for agent in case.agents]
        produces = [bool((agent.p_max > 0).any()) for agent in case.agents]
        found = {(min(i, j), max(i, j)): (i, j) for i, one in enumerate(consumes) if one
                 for j, other in enumerate(produces) if other and i != j}  # fmt: skip
        ends = list(found.values())
    pairs = trades.pairs or [None] * len(ends)
    columns = [
        [default if (own := getattr(pair, key, None)) is None else own for pair in pairs]
        for key, default in (
            ("charge_first_eur_per_kwh", trades.charge_eur_per_kwh),
            ("charge_second_eur_per_kwh", trades.charge_eur_per_kwh),
            ("limit_kw", trades.limit_kw),
        )
    ]
    index = np.array(ends, dtype=np.int64).reshape(len(ends), 2)
    return Graph(index[:, 0].copy(), index[:, 1].copy(), *(_rows(column) for column in columns))


def problem_of(case: ProsumersCase) -> Problem:
    """Return the exchange's problem."""
    agents, prices = case.agents, case.prices
    ids = tuple(agent.id for agent in agents)
    steps = prices.buy_eur_per_kwh.size

    def full(values: list[Floats]) -> Floats:
        return _rows(values) if values else np.zeros((0, steps))

    more: dict[str, Any] = {}
    if case.storage:
        more = _shared(case, ids)
    owned = [_slots(agent, steps, case.dt_h) for agent in agents]
    stores = max(map(len, owned), default=0)
    if stores:
        more |= _own(owned, stores, steps)
    return Problem.plain(
        full([agent.load_kw + sum((one.power_kw for one in agent.flexible), np.zeros(steps)) for agent in agents]),
        full([agent.pv_kw for agent in agents]),
        full([prices.buy_eur_per_kwh if a.buy_eur_per_kwh is None else a.buy_eur_per_kwh for a in agents]),
        full([prices.sell_eur_per_kwh if a.sell_eur_per_kwh is None else a.sell_eur_per_kwh for a in agents]),
        dt_h=case.dt_h,
        stores=stores,
        shared=len(case.storage),
        exchange_charge_eur_per_kwh=prices.exchange_charge_eur_per_kwh,
        rented_charge_eur_per_kwh=prices.rented_charge_eur_per_kwh,
        import_limit_kw=full([agent.import_limit_kw for agent in agents]),
        export_limit_kw=full([agent.export_limit_kw for agent in agents]),
        exchange="free" if case.exchange else "zero",
        breach_penalty_eur_per_kwh=case.breach_penalty_eur_per_kwh,
        agent_ids=ids,
        **more,
    )


def _rows(values: list[Floats]) -> Floats:
    return np.array(values, dtype=np.float64) if values else np.zeros((0, 1))


def _shared(case: ProsumersCase, ids: tuple[str, ...]) -> dict[str, Any]:
    """Return the columns of the shared storages."""
    shared = case.storage
    access = np.array([[s.tenants is None or name in s.tenants for name in ids] for s in shared], dtype=np.bool_)

    def column(key: str) -> Floats:
        return np.array([getattr(s, key) for s in shared], dtype=np.float64)

    columns: dict[str, Any] = {
        "access": access.reshape(len(shared), len(ids)),
        "ess_energy_offer_kwh": column("energy_kwh"),
        "ess_power_offer_kw": column("power_kw"),
        "ess_efficiency_charge": column("efficiency_charge"),
        "ess_efficiency_discharge": column("efficiency_discharge"),
        "ess_retention": (1.0 - column("self_discharge_per_h")) ** case.dt_h,
        "ess_wear_eur_per_kwh": column("wear_eur_per_kwh"),
        "rent_energy_eur_per_kwh": column("rent_energy_eur_per_kwh")[:, None],
        "rent_power_eur_per_kw": column("rent_power_eur_per_kw")[:, None],
        "ess_net_max_kw": column("import_limit_kw"),
        "ess_net_min_kw": -column("export_limit_kw"),
        "ess_available": column("available"),
        "ess_netted": np.array([s.mode == "netted" for s in shared]),
    }
    return columns


def _slots(agent: Prosumer, steps: int, dt_h: float) -> list[dict[str, Floats | float]]:
    """Return the columns of an agent's stores in the order of the case, then those of its flexible demand."""
    own = [_store(store, steps, dt_h) for store in agent.stores]
    return own + [columns for demand in agent.flexible for columns in left_out(demand, dt_h)]


def _own(owned: list[list[dict[str, Floats | float]]], stores: int, steps: int) -> dict[str, Floats]:
    """Return the columns of the agents' own stores, one slot for the first of each agent, one for the second, ..."""
    shape = (stores, len(owned))
    columns = {name: np.zeros((*shape, steps)) for name in (
        "store_charge_max_kw", "store_discharge_max_kw", "store_energy_min_kwh", "store_energy_max_kwh", "store_drain_kwh",
    )}  # fmt: skip
    columns |= {name: np.zeros(shape) for name in ("store_initial_kwh", "store_wear_eur_per_kwh")}
    columns |= {name: np.ones(shape) for name in (
        "store_efficiency_charge", "store_efficiency_discharge", "store_retention",
    )}  # fmt: skip
    for i, slots in enumerate(owned):
        for k, slot in enumerate(slots):
            for name, value in slot.items():
                columns[f"store_{name}"][k, i] = value
    return columns


def _store(store: Store, steps: int, dt_h: float) -> dict[str, Floats | float]:
    """Return the columns of one store."""
    common: dict[str, Floats | float] = {
        "energy_max_kwh": store.energy_kwh,
        "initial_kwh": store.initial_kwh,
        "efficiency_charge": store.efficiency_charge,
    }
    least = np.zeros(steps)
    if isinstance(store, Vehicle):
        begin, end = np.arange(steps) * dt_h, (np.arange(steps) + 1) * dt_h
        leaves = end[-1] if store.departure_hours is None else store.departure_hours
        here = np.clip(np.minimum(end, leaves) - np.maximum(begin, store.arrival_hours), 0.0, None) / dt_h
        last = int(np.flatnonzero(begin < leaves)[-1])
        least[last:] = store.initial_kwh + store.needed_kwh
        return common | {
            "charge_max_kw": store.charge_kw * here,
            "discharge_max_kw": store.charge_kw * here if store.v2g else np.zeros(steps),
            "energy_min_kwh": least,
            "efficiency_discharge": store.efficiency_discharge,
            "wear_eur_per_kwh": store.wear_eur_per_kwh,
        }
    least[-1] = store.initial_kwh if store.final_kwh is None else store.final_kwh
    common |= {"energy_min_kwh": least, "retention": (1.0 - store.self_discharge_per_h) ** dt_h}
    if isinstance(store, Buffer):
        return common | {"charge_max_kw": store.power_kw, "drain_kwh": store.demand_kw * dt_h}
    assert isinstance(store, Battery)
    return common | {
        "charge_max_kw": store.charge_kw,
        "discharge_max_kw": store.discharge_kw,
        "efficiency_discharge": store.efficiency_discharge,
        "wear_eur_per_kwh": store.wear_eur_per_kwh,
    }
