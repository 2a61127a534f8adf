"""The feeder: buses, lines and transformers as plain columns, checked once and radial from then on.

A feeder is what the data says: ohms, nanofarads, volts, amperes and kVA, no per unit.  A branch is a line (its π
model, all three phases alike) or a two-winding transformer (as power-grid-model describes one: uk, pk, i0, p0, a tap
on one side and a clock number).  The branches in service must form one tree rooted at the source bus.

The check at construction collects every mistake and raises once.  It also refuses what can only be a wrong unit (a
line of 1000 ohm in a 230 V network, a source of 230 "per unit", a rating of 0.27 "ampere"): such data calculates
without a complaint and gives nonsense.

A feeder may be unbalanced: lines with some of the phases or with an impedance of their own between each pair of
conductors, customers on one phase.  The symmetric components 1 and 0 of all other branches are carried for that.

A bus may carry an admittance, whatever its voltage: capacitors, and loads of constant impedance.

Limits: phase shifting taps, voltage dependent impedances of taps and three-winding transformers are not described;
transformers have all three phases, but for banks of single-phase ones (``Branches.turns_abc``: regulators at fixed taps).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.elements import Branches, Buses, Line, Transformer, branches_of
from network.plausible import branches_mistakes, buses_mistakes, named, source_mistakes
from network.plausible_tree import earth_mistakes, phase_mistakes, tree_mistakes
from network.radial import Tree, span

__all__ = ["IDEAL_SOURCE_VA", "Branches", "Buses", "Feeder", "FeederError", "Line", "Transformer"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]

IDEAL_SOURCE_VA = 1e16
"""Short-circuit power that stands for a source without impedance."""


class FeederError(ValueError):
    """The feeder as given cannot be calculated with; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Feeder:
    """A radial feeder that can be calculated with: the check ran when it was made.

    Examples
    --------
    >>> feeder = Feeder.build(
    ...     "two lines",
    ...     {"busbar": 400.0, "bend": 400.0, "farm": 400.0},
    ...     [Line("L1", "busbar", "bend", 0.10, 0.04, rating_a=270), Line("L2", "bend", "farm", 0.05, 0.02)],
    ...     source_bus="busbar",
    ... )
    >>> feeder.parent.tolist(), feeder.depth.tolist()
    ([-1, 0, 1], [0, 1, 2])

    >>> Feeder.build("no way", {"a": 400.0, "b": 400.0}, [], source_bus="a")
    Traceback (most recent call last):
    network.feeder.FeederError: feeder 'no way': 1 mistake
      bus 'b' is not connected to the source bus 'a'. Give it a branch in service, or leave it out.
    """

    name: str
    buses: Buses
    branches: Branches

    source_bus: int
    """Index of the bus at which the feeder is fed."""

    source_v_pu: float = 1.0
    """Voltage behind the source impedance.  [p.u.]"""

    source_short_circuit_va: float = IDEAL_SOURCE_VA
    """Short-circuit power of the grid above; 1e16: ideal.  [VA]"""

    source_rx_ratio: float = 0.1
    """R/X of the source impedance."""

    tree: Tree = field(init=False, repr=False)
    _bus_index: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        mistakes = [
            *buses_mistakes(self.buses),
            *branches_mistakes(self.branches, self.buses),
            *source_mistakes(
                self.n_bus, self.source_bus, self.source_v_pu, self.source_short_circuit_va, self.source_rx_ratio
            ),
        ]
        if not mistakes:  # a tree can be looked for only where every end is a bus
            branches = self.branches
            tree = span(self.n_bus, branches.from_bus, branches.to_bus, branches.in_service, self.source_bus)
            mistakes = tree_mistakes(tree, self.buses, branches, self.source_bus)
            mistakes += [] if mistakes else phase_mistakes(tree, self.buses, branches)
            object.__setattr__(self, "tree", tree)
            object.__setattr__(self, "_bus_index", {bus: k for k, bus in enumerate(self.buses.ids)})
            if not mistakes and "dd" in branches.windings:
                mistakes = earth_mistakes(self.unearthed, tree, self.buses, branches)
        if mistakes:
            head = f"feeder {self.name!r}: {len(mistakes)} mistake{'s' * (len(mistakes) > 1)}"
            raise FeederError("\n  ".join([head, *mistakes]))

    @classmethod
    def build(
        cls,
        name: str,
        v_nominal_v: dict[str, float],
        branches: Sequence[Line | Transformer],
        *,
        source_bus: str,
        source_v_pu: float = 1.0,
        source_short_circuit_va: float = IDEAL_SOURCE_VA,
        source_rx_ratio: float = 0.1,
        shunts: Mapping[str, ArrayLike] | None = None,
    ) -> Feeder:
        """Make a feeder from a few records with names in them.

        Parameters
        ----------
        name
            What the feeder is called in messages.
        v_nominal_v
            Nominal line-to-line voltage of each bus, by its id. [V]
        branches
            Its lines and transformers.
        source_bus
            Id of the bus at which it is fed.
        source_v_pu, source_short_circuit_va, source_rx_ratio
            As the fields of the same names.
        shunts
            Admittance that hangs on a bus, by its id, as ``Buses.shunt_siemens``.  Shape (3, 3) each. [S]
        """
        index = {bus: k for k, bus in enumerate(v_nominal_v)}
        ends = [(branch.id, end) for branch in branches for end in (branch.from_bus, branch.to_bus)]
        mistakes = [
            f"branch {branch!r} ends at bus {end!r}, which is not listed." for branch, end in ends if end not in index
        ]
        if source_bus not in index:
            mistakes.append(f"the source stands at bus {source_bus!r}, which is not listed.")
        hangs = shunts or {}
        mistakes += [f"a shunt hangs on bus {bus!r}, which is not listed." for bus in hangs if bus not in index]
        if mistakes:
            raise FeederError(f"feeder {name!r}: " + " ".join([*mistakes, f"The buses are {named(list(index))}."]))

        unknown = np.full(len(index), math.nan)
        admittance = np.zeros((len(index) if hangs else 0, 3, 3), dtype=np.complex128)
        for bus, matrix in hangs.items():
            admittance[index[bus]] = matrix
        v_nominal = np.array(list(v_nominal_v.values()), dtype=np.float64)
        return cls(
            name=name,
            buses=Buses(tuple(index), v_nominal, unknown, unknown, admittance),
            branches=branches_of(branches, index),
            source_bus=index[source_bus],
            source_v_pu=source_v_pu,
            source_short_circuit_va=source_short_circuit_va,
            source_rx_ratio=source_rx_ratio,
        )

    @property
    def n_bus(self) -> int:
        """Number of buses, n."""
        return len(self.buses.ids)

    @property
    def n_branch(self) -> int:
        """Number of branches, in service or not, m."""
        return len(self.branches.ids)

    @property
    def unbalanced(self) -> bool:
        """Whether some branch or shunt lacks a phase or treats its phases differently."""
        branches, y = self.branches, self.buses.shunt_siemens
        differs = branches.untransposed | branches.is_bank
        if not branches.conductors.all() or bool(differs.any()):
            return True
        own, mutual = y[:, :1, :1], y[:, :1, 1:2]
        alike = np.where(np.eye(3, dtype=bool), own, mutual)
        return bool((np.abs(y - alike) > 1e-12 * np.abs(own)).any())

    @property
    def unearthed(self) -> NDArray[np.bool_]:
        """Which buses lie behind a delta winding, without a path to earth.  Shape (n,)."""
        found = np.zeros(self.n_bus, dtype=bool)
        for bus in self.order[1:]:
            branch = self.parent_branch[bus]
            line = self.branches.kind[branch] == "line"
            found[bus] = self.branches.windings[branch] == "dd" or (line and found[self.parent[bus]])
        return found

    @property
    def conductors(self) -> NDArray[np.bool_]:
        """Which of the phases a, b, c arrive at each bus.  Shape (n, 3)."""
        arrives = np.ones((self.n_bus, 3), dtype=bool)
        through = self.branches.conductors
        for bus in self.order[1:]:
            arrives[bus] = through[self.parent_branch[bus]]
        return arrives

    @property
    def parent(self) -> Index:
        """The bus that feeds each bus, −1 at the source.  Shape (n,)."""
        return self.tree.parent

    @property
    def parent_branch(self) -> Index:
        """The branch through which each bus is fed, −1 at the source.  Shape (n,)."""
        return self.tree.parent_branch

    @property
    def order(self) -> Index:
        """All buses, depth first from the source: every bus after the bus that feeds it.  Shape (n,)."""
        return self.tree.order

    @property
    def depth(self) -> Index:
        """Branches between each bus and the source.  Shape (n,)."""
        depth = np.zeros(self.n_bus, dtype=np.intp)
        for bus in self.order[1:]:
            depth[bus] = depth[self.parent[bus]] + 1
        return depth

    @property
    def distance_m(self) -> Vector:
        """Length of line between each bus and the source, NaN behind a line of unknown length.  Shape (n,). [m]"""
        length = np.where(self.branches.is_line, self.branches.length_m, 0.0)
        distance = np.zeros(self.n_bus)
        for bus in self.order[1:]:
            distance[bus] = distance[self.parent[bus]] + length[self.parent_branch[bus]]
        return distance

    def bus_index(self, bus_id: str) -> int:
        """Return the index of a bus, or say that there is none of that name."""
        try:
            return self._bus_index[bus_id]
        except KeyError:
            raise FeederError(
                f"feeder {self.name!r} has no bus {bus_id!r}. Its buses are {named(self.buses.ids)}."
            ) from None
