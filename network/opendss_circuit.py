"""A circuit of OpenDSS, asked for what it is made of: elements, their properties, their ends.

Properties are asked as OpenDSS writes them (``? Line.first.length``), because some of them have no other way.  What has no place
in a feeder is collected in ``mistakes``, a sentence for each kind, and raised once by :mod:`network.opendss`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Circuit", "few"]


class Circuit:
    """What OpenDSS made of a file."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.circuit = engine, engine.ActiveCircuit
        self.mistakes: list[str] = []
        self.hertz = float(self.circuit.Solution.Frequency)
        self.elements = [str(name).lower() for name in self.circuit.AllElementNames]

    def asked(self, element: str, name: str) -> str:
        """Return a property of an element as OpenDSS writes it."""
        self.engine.Text.Command = f"? {element}.{name}"
        return str(self.engine.Text.Result).strip()

    def number(self, element: str, name: str) -> float:
        """Return a property that is a number."""
        return float(self.asked(element, name))

    def numbers(self, element: str, name: str) -> list[float]:
        """Return a property that is a list of numbers."""
        return [float(one) for one in self.asked(element, name).strip("[]() ").replace(",", " ").split()]

    def enabled(self, kind: str) -> Iterator[str]:
        """Yield the elements of a class that are enabled."""
        for element in self.elements:
            if element.partition(".")[0] == kind:
                self.circuit.SetActiveElement(element)
                if self.circuit.ActiveCktElement.Enabled:
                    yield element

    def ends(self, element: str) -> list[tuple[str, tuple[int, ...]]]:
        """Return bus and nodes of every terminal."""
        self.circuit.SetActiveElement(element)
        active = self.circuit.ActiveCktElement
        order, size = [int(one) for one in active.NodeOrder], int(active.NumConductors)
        return [
            (str(bus).partition(".")[0].lower(), tuple(order[k * size : (k + 1) * size]))
            for k, bus in enumerate(active.BusNames)
        ]

    def admittance(self, element: str) -> NDArray[np.complex128]:
        """Return the nodal admittance of an element between all its conductors, terminal by terminal. [S]"""
        self.circuit.SetActiveElement(element)
        raw = np.asarray(self.circuit.ActiveCktElement.Yprim, dtype=np.float64)
        y: NDArray[np.complex128] = raw[0::2] + 1j * raw[1::2]
        size = int(np.sqrt(len(y)))
        return y.reshape(size, size)

    def refuse(self, found: dict[str, list[str]]) -> None:
        """Keep a sentence for each kind of element that has no place, with the names."""
        self.mistakes += [f"the circuit has {what} ({few(names)})." for what, names in found.items() if names]


def few(names: list[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
