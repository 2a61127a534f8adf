"""Stores that agents own: whose, how large, how fast, what is lost.

The columns of a battery, a car or a heat buffer, ``K`` slots for each of ``n`` agents over ``T`` intervals, with the state

    e[t] = retention e[t-1] + dt (eta_c c - d / eta_d) - drain,   bounds on c, d, e                                (1)

and what of them cannot be meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["OwnStores", "StoreColumns", "StoresError", "check_stores", "take_stores"]

Floats = NDArray[np.float64]

_COLUMNS = {
    "store_charge_max_kw": ("KnT", 0.0), "store_discharge_max_kw": ("KnT", 0.0), "store_energy_min_kwh": ("KnT", 0.0),
    "store_energy_max_kwh": ("KnT", 0.0), "store_initial_kwh": ("Kn", 0.0), "store_efficiency_charge": ("Kn", 1.0),
    "store_efficiency_discharge": ("Kn", 1.0), "store_retention": ("Kn", 1.0), "store_drain_kwh": ("KnT", 0.0),
    "store_wear_eur_per_kwh": ("Kn", 0.0),
}  # fmt: skip
_FRACTIONS = ("store_efficiency_charge", "store_efficiency_discharge", "store_retention")
_NOT_NEGATIVE = ("store_charge_max_kw", "store_discharge_max_kw", "store_wear_eur_per_kwh")


class StoresError(ValueError):
    """Store columns that do not fit together; the message names every one."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StoreColumns:
    """The columns of stores that agents own: ``K`` slots each, ``n`` agents, ``T`` intervals."""

    store_charge_max_kw: Floats
    """Shape (K, n, T), at the store's AC side. [kW]"""
    store_discharge_max_kw: Floats
    """Shape (K, n, T), at the store's AC side. [kW]"""
    store_energy_min_kwh: Floats
    """Least content at the END of interval t.  Shape (K, n, T). [kWh]"""
    store_energy_max_kwh: Floats
    """Largest content at the END of interval t.  Shape (K, n, T). [kWh]"""
    store_initial_kwh: Floats
    """Content at the start of the first interval.  Shape (K, n). [kWh]"""
    store_efficiency_charge: Floats
    """In (0, 1].  Shape (K, n)."""
    store_efficiency_discharge: Floats
    """In (0, 1].  Shape (K, n)."""
    store_retention: Floats
    """Share of the content that is left after one interval, in (0, 1].  Shape (K, n)."""
    store_drain_kwh: Floats
    """Taken out of the store in interval t whatever happens (driving, showers).  Shape (K, n, T). [kWh]"""
    store_wear_eur_per_kwh: Floats
    """Per kWh charged and per kWh discharged.  Shape (K, n)."""

    @property
    def stores(self) -> int:
        """Number of store slots K."""
        return int(self.store_charge_max_kw.shape[0])


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class OwnStores(StoreColumns):
    """The stores by themselves."""

    @classmethod
    def plain(cls, stores: int, agents: int, steps: int, **columns: ArrayLike) -> OwnStores:
        """Return stores whose columns broadcast to (K, n, T) or (K, n); what is not named is lossless, free, of no size."""
        size = {"K": stores, "n": agents, "T": steps}
        full, mistakes = {}, []
        for name, (axes, default) in _COLUMNS.items():
            column, shape = np.asarray(columns.pop(name, default), np.float64), tuple(size[axis] for axis in axes)
            try:
                full[name] = np.array(np.broadcast_to(column, shape))
            except ValueError:
                mistakes.append(f"{name} has the shape {column.shape}; what broadcasts to {shape} was expected.")
        if columns:
            mistakes.append(f"stores have no column {', '.join(map(repr, columns))}; they have {', '.join(_COLUMNS)}.")
        if mistakes:
            raise StoresError("\n  ".join(mistakes))
        return cls(**full)


def take_stores(stores: OwnStores, agents: int, steps: int) -> list[str]:
    """Make arrays of the columns; return which do not have the shape that so many agents and intervals ask for."""
    size, mistakes = {"K": stores.stores, "n": agents, "T": steps}, []
    for name, (axes, _) in _COLUMNS.items():
        column = np.ascontiguousarray(getattr(stores, name), dtype=np.float64)
        shape = tuple(size[axis] for axis in axes)
        if column.shape != shape:
            mistakes.append(f"{name} has the shape {column.shape}; {shape} was expected.")
        object.__setattr__(stores, name, column)
    return mistakes


def check_stores(stores: OwnStores, name: Callable[[int], str]) -> list[str]:
    """Return what is wrong with numbers and signs, one sentence each; ``name`` says what an agent is called."""
    mistakes = []
    for column, (axes, _) in _COLUMNS.items():
        array = getattr(stores, column)
        wrong, asked = ~np.isfinite(array), "a number"
        if column in _FRACTIONS:
            wrong, asked = ~((array > 0) & (array <= 1)), "more than 0 and at most 1"
        elif column in _NOT_NEGATIVE:
            wrong, asked = ~(np.isfinite(array) & (array >= 0)), "0 or more"
        for where in np.argwhere(wrong)[:3]:
            at = f", interval {where[2]}" if "T" in axes else ""
            mistakes.append(f"{column} is {array[tuple(where)]:g} for {name(int(where[1]))}, store {where[0]}{at}; "
                            f"give {asked}.")  # fmt: skip
    lower, upper = stores.store_energy_min_kwh, stores.store_energy_max_kwh
    mistakes += [f"store_energy_min_kwh, {lower[k, i, t]:g}, is above store_energy_max_kwh, {upper[k, i, t]:g}, for "
                 f"{name(int(i))}, store {k}, interval {t}." for k, i, t in np.argwhere(lower > upper)[:3]]  # fmt: skip
    return mistakes
