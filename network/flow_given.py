"""What a power flow is given, checked: where connections stand, on which phases, their powers, the voltage of the source.

:mod:`network.acflow` calculates; here is what it refuses, each with its place, what was given and what to do.  With phases told
apart a connection injects at the nodes 3 · bus + phase of the conductors it uses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.feeder import Feeder

__all__ = ["FlowError", "checked_powers", "places", "refuse_connections", "refuse_unearthed", "source_voltage"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]


class FlowError(ValueError):
    """The operating points as given cannot be calculated."""


def refuse_connections(feeder: Feeder, connection_bus: Index, phases: tuple[str, ...]) -> None:
    """Raise what is wrong with the buses, shape (c,), and phases of connections."""
    unknown = np.flatnonzero((connection_bus < 0) | (connection_bus >= feeder.n_bus))
    if unknown.size:
        raise FlowError(
            f"connection {unknown[0]} stands at bus number {connection_bus[unknown[0]]}, but the buses of "
            f"feeder {feeder.name!r} are numbered 0 to {feeder.n_bus - 1} ({unknown.size} such connection(s))."
        )
    if len(phases) != len(connection_bus):
        raise FlowError(f"connection_phase has {len(phases)} entries for {len(connection_bus)} connections.")
    arrives = feeder.conductors
    for k, (bus, phase) in enumerate(zip(connection_bus, phases, strict=True)):
        name = feeder.buses.ids[bus]
        if phase not in {"a", "b", "c", "abc"}:
            raise FlowError(f"connection {k} (bus {name!r}) has the phase {phase!r}; expected a, b, c or abc.")
        if not all(arrives[bus, "abc".index(one)] for one in phase):
            raise FlowError(f"connection {k} is on phase {phase!r}, which does not arrive at its bus {name!r}.")


def refuse_unearthed(feeder: Feeder, connection_bus: Index) -> None:
    """Raise which connections, told apart by phases, lie behind a delta winding."""
    if "dd" in feeder.branches.windings:
        behind = np.flatnonzero(feeder.unearthed[connection_bus])
        if behind.size:
            raise FlowError(
                f"connection {behind[0]} (bus {feeder.buses.ids[connection_bus[behind[0]]]!r}) lies behind a delta winding, "
                f"which has no neutral ({behind.size} such connection(s)). Connect it elsewhere, or make it a load between phases."
            )


def places(connection_bus: Index, phases: tuple[str, ...] | None) -> tuple[Index, Index]:
    """Return which connection injects at which node, a pair for each conductor it uses: phases None is a balanced model.

    Shape (k,) each.
    """
    if phases is None:
        return np.arange(len(connection_bus)), connection_bus
    pairs = [
        (k, 3 * bus + "abc".index(one))
        for k, (bus, phase) in enumerate(zip(connection_bus, phases, strict=True))
        for one in phase
    ]
    owner, node = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return owner, node


def checked_powers(
    feeder: Feeder, connection_bus: Index, injection_kw: ArrayLike, injection_kvar: ArrayLike
) -> tuple[Vector, Vector]:
    """Return injections as arrays of finite numbers, a row for each connection.  Shape (c, S) each. [kW], [kvar]"""
    active, reactive = np.asarray(injection_kw, dtype=np.float64), np.asarray(injection_kvar, dtype=np.float64)
    for name, given in (("injection_kw", active), ("injection_kvar", reactive)):
        if given.ndim != 2 or given.shape[0] != len(connection_bus) or given.shape != active.shape:
            raise FlowError(
                f"{name} has shape {given.shape}; expected one row for each of the {len(connection_bus)} connections "
                f"and one column for each operating point, as injection_kw has ({active.shape})."
            )
        if not np.isfinite(given).all():
            row, column = (int(k) for k in np.argwhere(~np.isfinite(given))[0])
            raise FlowError(
                f"{name} is {given[row, column]} for connection {row} (bus "
                f"{feeder.buses.ids[connection_bus[row]]!r}) at operating point {column}. "
                f"Fill the gap before the power flow."
            )
    return active, reactive


def source_voltage(source_v_pu: ArrayLike, points: int) -> Vector:
    """Return the voltage behind the source impedance for each operating point.  Shape (S,). [p.u.]"""
    given = np.asarray(source_v_pu, dtype=np.float64)
    if given.ndim > 1 or (given.ndim == 1 and given.shape != (points,)):
        raise FlowError(
            f"source_v_pu has shape {given.shape}; expected one number, or one for each of {points} points."
        )
    if not ((given > 0) & (given < np.inf)).all():
        raise FlowError(f"source_v_pu must be positive; it goes from {given.min()} to {given.max()}.")
    return np.broadcast_to(given, (points,))
