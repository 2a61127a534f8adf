"""Loads and capacitors of a circuit of OpenDSS: devices, loads that follow the voltage, and shunts of the buses.

=========================================  ==============================================================================
in the circuit                             here
=========================================  ==============================================================================
constant power (model 1), star             a device of a connection; on two phases, two
constant impedance (model 2)               a shunt of its bus, conj(S)/V² of its own rated voltage, star or delta
constant current (model 5); delta          a leg of :class:`~network.grid.HeldLoads` for each phase or pair of phases
capacitors, reactors to earth or in delta  a shunt of the bus: the admittance that OpenDSS made of them, as they are switched
=========================================  ==============================================================================

A power is ``kW`` and ``kvar`` (times ``LoadMult``) at the load's rated voltage; what follows the voltage is carried over to the
nominal one of its bus.  Load shapes are not read.  OpenDSS turns a load into an impedance outside ``vminpu`` to ``vmaxpu``, which
nothing here does.

Limits: models 1, 2 and 5; delta of one or three phases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.opendss_circuit import Circuit

__all__ = ["Load", "Loads", "loads"]

Complex = NDArray[np.complex128]

_POWER, _IMPEDANCE, _CURRENT = 1, 2, 5


@dataclass(frozen=True, slots=True)
class Load:
    """A leg of a load: constant power or current."""

    name: str
    bus: str
    phases: str
    """"a", "abc" against neutral; "ab", "bc", "ca" between two phases."""
    kva: complex
    """At the rated voltage. [kVA]"""
    rated_v: float
    """Across the leg. [V]"""
    follows: bool
    """Constant current."""


@dataclass(frozen=True, slots=True)
class Loads:
    """What hangs on the buses."""

    plain: list[Load]
    """Constant power between phase and neutral."""
    held: list[Load]
    """Constant current, or between two phases."""
    shunts: dict[str, Complex]
    """Admittance of a bus, by its name.  Shape (3, 3) each. [S]"""


def loads(dss: Circuit) -> Loads:
    """Return loads, capacitors and reactors."""
    found = Loads([], [], {})
    refused: dict[str, list[str]] = {}
    factor = float(dss.circuit.Solution.LoadMult)
    for element in dss.enabled("load"):
        what = _no_place(dss, element)
        if what:
            refused.setdefault(what, []).append(element)
            continue
        model = int(dss.number(element, "model"))
        for leg in _legs(dss, element, factor, model == _CURRENT):
            if model == _IMPEDANCE:
                _hang(found.shunts, leg)
            elif leg.follows or len(leg.phases) == 2:
                found.held.append(leg)
            else:
                found.plain.append(leg)
    for kind in ("capacitor", "reactor"):
        for element in dss.enabled(kind):
            here = _to_earth(dss, element)
            if here is None:
                what = f"{kind}s in series, or with nodes other than 1, 2 and 3 and earth"
                refused.setdefault(what, []).append(element)
            else:
                bus, y = here
                found.shunts[bus] = found.shunts.get(bus, np.zeros((3, 3))) + y
    dss.refuse(refused)
    return found


def _delta(dss: Circuit, element: str) -> bool:
    return dss.asked(element, "conn").lower().startswith(("d", "ll"))


def _no_place(dss: Circuit, element: str) -> str:
    """Say why a load has no place in a feeder; "" where it has one."""
    if int(dss.number(element, "model")) not in {_POWER, _IMPEDANCE, _CURRENT}:
        return "loads of a model other than 1, 2 and 5 (constant power, impedance and current)"
    nodes, phases = dss.ends(element)[0][1], int(dss.number(element, "phases"))
    if _delta(dss, element):
        right = phases in {1, 3} and set(nodes) <= {1, 2, 3} and len(set(nodes)) == len(nodes) == max(phases, 2)
        return "" if right else "delta loads of other than one or three pairs of the nodes 1, 2 and 3"
    hot, neutral = nodes[:phases], nodes[phases:]
    right = all(node == 0 for node in neutral) and set(hot) <= {1, 2, 3} and len(set(hot)) == phases
    return "" if right else "star loads with a neutral of their own, or on other nodes than 1, 2 and 3"


def _legs(dss: Circuit, element: str, factor: float, follows: bool) -> Iterator[Load]:
    """Yield the legs of a load; a star of constant power on three phases is one."""
    (bus, nodes), name = dss.ends(element)[0], element.partition(".")[2]
    phases = int(dss.number(element, "phases"))
    kva = complex(dss.number(element, "kw"), dss.number(element, "kvar")) * factor
    volts = dss.number(element, "kv") * 1e3
    if _delta(dss, element):
        pairs = [(nodes[0], nodes[1])] if phases == 1 else [(nodes[k], nodes[(k + 1) % 3]) for k in range(3)]
        for one, other in pairs:
            leg = "abc"[one - 1] + "abc"[other - 1]
            leg = leg if leg in {"ab", "bc", "ca"} else leg[::-1]
            yield Load(name if phases == 1 else f"{name}.{leg}", bus, leg, kva / len(pairs), volts, follows)
        return
    volts = volts if phases == 1 else volts / math.sqrt(3.0)
    if phases == 3 and int(dss.number(element, "model")) == _POWER:
        yield Load(name, bus, "abc", kva, volts, follows=False)
        return
    for node in nodes[:phases]:
        letter = "abc"[node - 1]
        yield Load(name if phases == 1 else f"{name}.{letter}", bus, letter, kva / phases, volts, follows)


def _hang(shunts: dict[str, Complex], leg: Load) -> None:
    """Add the admittance of a leg of constant impedance to its bus."""
    y, here = (leg.kva * 1e3).conjugate() / leg.rated_v**2, shunts.setdefault(leg.bus, np.zeros((3, 3), dtype=complex))
    ends = ["abc".index(one) for one in leg.phases]
    if len(ends) == 1:
        here[ends[0], ends[0]] += y
    else:
        here[np.ix_(ends, ends)] += y * np.array([[1.0, -1.0], [-1.0, 1.0]])


def _to_earth(dss: Circuit, element: str) -> tuple[str, Complex] | None:
    """Return the bus of a capacitor or reactor and its admittance there; None where it lies in series."""
    ends = dss.ends(element)
    bus, nodes = ends[0]
    hot = nodes if len(ends) == 1 else tuple(node for node in nodes if node)
    earthed = len(ends) == 1 or all(node == 0 for node in ends[1][1])
    if not earthed or not set(hot) <= {1, 2, 3} or len(set(hot)) != len(hot) or len(hot) != len(nodes):
        return None
    size = len(hot)
    place = [node - 1 for node in hot]
    found = np.zeros((3, 3), dtype=np.complex128)
    y = dss.admittance(element)[:size, :size]
    found[np.ix_(place, place)] = (y + y.T) / 2
    return bus, found
