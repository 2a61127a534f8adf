"""The branches of a balanced radial feeder as the cone programme wants them: one row for each, fed from above.

A branch is a series impedance r + jx between the squared voltages v' above and v" below, with half of a shunt g + jb at
either end of it (:mod:`network.twoport`).  Where the ratio k of a transformer is on the upper side, v' is v/|k|² of the bus
above; where a feeder lists it the other way round, v" is v/|k|² of the bus below.  The impedance of a source is the branch
above the source bus.  What hangs on a bus whatever its voltage is an admittance of the bus that a branch feeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Feeder
from network.twoport import BASE_KVA, shunts_pu, two_ports

__all__ = ["Series", "series_of"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """m rows, per unit on a base of its own."""

    bus: Index
    """The bus that the branch feeds.  Shape (m,)."""

    branch: Index
    """Its number, −1 for the impedance of the source.  Shape (m,)."""

    r: Vector
    x: Vector
    g: Vector
    b: Vector
    rated_above: Vector
    """Current (line) or power (transformer) that the rating is, at the bus above; inf: none.  Shape (m,). [p.u.]"""

    rated_below: Vector
    """Likewise at the bus below: of a line between two nominal voltages another current."""

    from_bus_above: sp.csr_array
    """v' of every branch from the squared voltages of the buses.  Shape (m, n)."""

    from_source: Vector
    """1 for the impedance of the source: v' is the squared voltage behind it.  Shape (m,)."""

    to_bus: sp.csr_array
    """v" likewise.  Shape (m, n)."""

    bus_g: Vector
    """Of what hangs on the bus that the branch feeds, whatever its voltage.  Shape (m,). [p.u.]"""

    bus_b: Vector
    goes_on: sp.csr_array
    """Which branches take from the bus that a branch feeds.  Shape (m, m)."""

    ideal_source: bool

    def at_bus(self, connection_bus: Index) -> sp.csr_array:
        """Return which connections inject at the bus that a branch feeds.  Shape (m, c)."""
        row = np.full(max(int(self.bus.max(initial=0)), int(connection_bus.max(initial=0))) + 1, -1)
        row[self.bus] = np.arange(len(self.bus))
        there = np.flatnonzero(row[connection_bus] >= 0)
        shape = (len(self.bus), len(connection_bus))
        return sp.csr_array((np.ones(len(there)), (row[connection_bus[there]], there)), shape=shape)


def series_of(feeder: Feeder, base_kva: float) -> Series:
    """Return the branches in service, and the source's impedance if it has one."""
    ports, branches, n = two_ports(feeder), feeder.branches, feeder.n_bus
    bus = feeder.order[1:]
    branch = feeder.parent_branch[bus]
    downwards = branches.from_bus[branch] == feeder.parent[bus] if len(branch) else np.zeros(0, dtype=bool)
    scale = base_kva / BASE_KVA
    z = scale / ports.series[branch] if len(branch) else np.zeros(0, dtype=np.complex128)
    half = ports.shunt[branch] / 2 / scale if len(branch) else np.zeros(0, dtype=np.complex128)
    square = np.abs(ports.ratio[branch]) ** 2 if len(branch) else np.zeros(0)
    above, below = np.where(downwards, 1.0 / square, 1.0), np.where(downwards, 1.0, 1.0 / square)
    upper = feeder.parent[bus]
    rated = [_rated(feeder, branch, end, base_kva) for end in (upper, bus)]

    ideal = feeder.source_short_circuit_va >= IDEAL_SOURCE_VA
    fed_by_source = np.zeros(len(bus))
    if not ideal:
        z_source = base_kva * 1e3 / feeder.source_short_circuit_va
        z_source = z_source * (feeder.source_rx_ratio + 1j) / np.hypot(feeder.source_rx_ratio, 1.0)
        bus, branch = np.r_[feeder.source_bus, bus], np.r_[-1, branch]
        z, half = np.r_[z_source, z], np.r_[0.0, half]
        above, below, upper = np.r_[0.0, above], np.r_[1.0, below], np.r_[feeder.source_bus, upper]
        rated = [np.r_[np.inf, one] for one in rated]
        fed_by_source = np.r_[1.0, fed_by_source]
    m = len(bus)
    rows = np.arange(m)
    fed_by = np.full(n, -1)
    fed_by[bus] = rows
    hangs = shunts_pu(feeder)[bus, 0, 0] / scale
    takes = np.flatnonzero((fed_by_source == 0) & (fed_by[upper] >= 0))
    return Series(
        bus=bus,
        branch=branch,
        r=z.real,
        x=z.imag,
        g=half.real,
        b=half.imag,
        bus_g=hangs.real,
        bus_b=hangs.imag,
        rated_above=rated[0],
        rated_below=rated[1],
        from_bus_above=sp.csr_array((above, (rows, upper)), shape=(m, n)),
        from_source=fed_by_source,
        to_bus=sp.csr_array((below, (rows, bus)), shape=(m, n)),
        goes_on=sp.csr_array((np.ones(len(takes)), (fed_by[upper[takes]], takes)), shape=(m, m)),
        ideal_source=ideal,
    )


def _rated(feeder: Feeder, branch: Index, bus: Index, base_kva: float) -> Vector:
    """Return the rating of branches at some of their ends. [p.u.]"""
    branches = feeder.branches
    full_a = base_kva * 1e3 / (np.sqrt(3.0) * feeder.buses.v_nominal_v[bus])
    with np.errstate(invalid="ignore"):
        return np.where(
            branches.is_line[branch], branches.rating_a[branch] / full_a, branches.sn_kva[branch] / base_kva
        )
