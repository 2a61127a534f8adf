"""Loads that are not constant power between phase and neutral: of constant current, and between two phases (delta).

The power flow (:mod:`network.acflow`) knows powers at nodes.  A leg of a load between the voltages V_i and V_j (of a phase and
neutral: V_j = 0) draws at the nominal voltage U_0 the power S, and at U = V_i − V_j, with e = 0 for constant power and e = 1 for
constant current::

    I = conj(S (|U| / U_0)^e / U),     S_i = −V_i conj(I),     S_j = +V_j conj(I)                        (1)

are its current and what it injects at its two nodes.  Voltages and (1) take turns until no voltage moves by more than the
tolerance: each turn is a power flow from where the last one ended, and shrinks the error by about the voltage drop [1]_.

Who computes limits or tries uses asks for powers that nobody's voltage changes, so everything but the power flow refuses such
loads (:func:`refuse_held`); :func:`as_constant_power` reads them as constant power between phase and neutral.

Limits: constant impedance is a shunt of the feeder (``Buses.shunt_siemens``), not a load here.

References
----------
.. [1] W. H. Kersting, "Distribution System Modeling and Analysis", 4th ed., CRC Press 2017, chapter 9, for (1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.feeder import Feeder
from network.grid import Connections, Device, Grid, HeldLoads, connect
from network.plausible import named

__all__ = ["HeldError", "Legs", "as_constant_power", "no_columns", "refuse_held", "settle"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Flowed = tuple[Complex, Mask, int]

_MOST_TURNS = 100


class HeldError(ValueError):
    """Loads that follow the voltage, or lie between phases, where only constant power between phase and neutral will do."""


def refuse_held(held: HeldLoads | None, what: str) -> None:
    """Say that something cannot be done with such loads, and what to do.

    Parameters
    ----------
    held
        The loads; None or empty: nothing is said.
    what
        What cannot be done: "envelopes", "a simulation".
    """
    if held is not None and len(held):
        raise HeldError(
            f"the feeder has loads of constant current or between phases ({named(held.id, 4)}), and {what} can be had with constant "
            f"power between phase and neutral only. Write constant_power: before the feeder's name to read them so, or take "
            f"them out of the feeder."
        )


def no_columns(grid: Grid) -> str:
    """Name what of a grid the tables of feeders have no columns for; "" where they hold all of it."""
    branches = grid.feeder.branches
    what = (
        (
            "shunts (capacitors, loads of constant impedance)",
            [grid.feeder.buses.ids[k] for k in grid.feeder.buses.shunted],
        ),
        (
            "banks of single-phase transformers (regulators)",
            [branches.ids[k] for k in np.flatnonzero(branches.is_bank)],
        ),
        ("delta-delta transformers", [one for one, way in zip(branches.ids, branches.windings, strict=True) if way]),
        ("loads of constant current or between phases", [] if grid.held is None else grid.held.id),
    )
    return " and ".join(f"{kind} ({named(names, 4)})" for kind, names in what if len(names))


def as_constant_power(grid: Grid) -> Grid:
    """Read such loads as constant power at nominal voltage between phase and neutral, half of it in each of two phases."""
    held = grid.held
    if held is None or not len(held):
        return grid
    devices = [
        Device(
            "base",
            name if len(phases) == 1 else f"{name}.{one}",
            int(bus),
            float(kw) / len(phases),
            float(kvar) / len(phases),
            phase=one,
        )
        for name, bus, phases, kw, kvar in zip(held.id, held.bus, held.phases, held.kw, held.kvar, strict=True)
        for one in phases
    ]
    more, there = connect(devices), grid.connections
    columns: dict[str, Any] = {}
    for column in fields(Connections):
        one, other = getattr(there, column.name), getattr(more, column.name)
        columns[column.name] = one + other if isinstance(one, tuple) else np.concatenate([one, other])
    return replace(
        grid,
        connections=Connections(**columns),
        held=None,
        provenance=f"{grid.provenance}; loads of constant current or between phases read as constant power between phase and neutral",
    )


class Legs:
    """The legs of such loads at the nodes 3 · bus + phase of a three-phase model.

    Parameters
    ----------
    feeder, held
        The feeder and the loads at it.
    """

    def __init__(self, feeder: Feeder, held: HeldLoads) -> None:
        arrives = feeder.conductors
        wrong = [
            f"load {name!r} uses phase {one!r}, which does not arrive at its bus {feeder.buses.ids[bus]!r}."
            for name, bus, phases in zip(held.id, held.bus, held.phases, strict=True)
            for one in phases
            if not arrives[bus, "abc".index(one)]
        ]
        floating = feeder.unearthed
        wrong += [
            f"load {name!r} lies behind a delta winding and uses the neutral, which is not there. Put it between two phases."
            for name, bus, phases in zip(held.id, held.bus, held.phases, strict=True)
            if floating[bus] and len(phases) == 1
        ]
        if wrong:
            raise HeldError(" ".join(wrong))
        ends = [tuple(3 * bus + "abc".index(one) for one in p) for bus, p in zip(held.bus, held.phases, strict=True)]
        self.first: Index = np.array([end[0] for end in ends], dtype=np.intp)
        self.second: Index = np.array([end[-1] for end in ends], dtype=np.intp)
        self._between = (self.first != self.second).astype(np.float64)[:, None]
        self._nominal = np.where(self._between > 0, np.sqrt(3.0), 1.0)
        self._exponent = held.exponent[:, None]
        self._power = 3.0 * (held.kw + 1j * held.kvar)[:, None]  # a pu of one phase is a third of a kVA

    @property
    def nodes(self) -> Index:
        """Every node that a leg touches.  Shape (k,)."""
        return np.union1d(self.first, self.second)

    def injected(self, voltage: Complex, at: Index) -> Complex:
        """Return what the legs inject by (1).

        Parameters
        ----------
        voltage : shape (l, S)
            At some nodes. [p.u.]
        at : shape (l,)
            Which nodes these are, ascending.

        Returns
        -------
        shape (l, S)
            [p.u.]
        """
        one, other = np.searchsorted(at, self.first), np.searchsorted(at, self.second)
        u = voltage[one] - self._between * voltage[other]
        back = self._power * (np.abs(u) / self._nominal) ** self._exponent / u  # conj(I)
        found = np.zeros_like(voltage)
        np.add.at(found, one, -voltage[one] * back)
        np.add.at(found, other, self._between * voltage[other] * back)
        return found


def settle(
    flow: Callable[[Complex, Complex], Flowed],
    legs: Legs,
    at: Index,
    power: Complex,
    idle: Complex,
    tolerance_pu: float,
) -> tuple[Complex, Complex, Mask, int]:
    """Let voltages and (1) take turns.

    Parameters
    ----------
    flow
        Voltages, convergence and steps of powers at the nodes and a start.  Shape (l, S) each.
    legs, at
        The loads, and the nodes of the l rows.
    power : shape (l, S)
        What else is injected there. [p.u.]
    idle : shape (l, S)
        Voltages to begin with. [p.u.]
    tolerance_pu
        Largest move of a voltage at which a column has settled. [p.u.]

    Returns
    -------
    voltages, power : shape (l, S)
        At the nodes, and all that is injected there; of no meaning where not settled. [p.u.]
    settled : shape (S,)
    steps
        Of all turns together.
    """
    voltage, steps, settled = idle, 0, np.zeros(idle.shape[1], dtype=bool)
    whole = power
    for _ in range(_MOST_TURNS):
        with np.errstate(all="ignore"):  # a column without a solution is told by ``settled``
            whole = power + legs.injected(voltage, at)
        lost = ~np.isfinite(whole).all(axis=0)
        found, converged, more = flow(np.where(lost, 0.0, whole), voltage)
        steps += more
        with np.errstate(all="ignore"):
            move = np.abs(found - voltage).max(axis=0, initial=0.0)
        settled = converged & ~lost & (move <= tolerance_pu)
        voltage = np.where(converged & ~lost, found, idle)
        if (settled | lost | ~converged).all():
            break
    return voltage, whole, settled, steps
