"""Lines and transformers as two-ports.

Per unit on a base of 1 kVA and the nominal voltage of each bus, so that a power of 1 pu is 1 kW.  Every branch is a
series admittance y with half of a shunt admittance s at either end, behind an ideal transformer of complex ratio k on
its from side (k = 1 for a line)::

    I_from = (y + s/2) / |k|² · V_from − y / conj(k) · V_to                                            (1)
    I_to   = −y / k · V_from + (y + s/2) · V_to

Line: y = 1 / (r + jx), s = jωc.  Transformer, seen from its to side, with u the rated voltages after the tap, U the
nominal voltages of the buses, S the rated power (the model of power-grid-model, "transformer" in its components page)::

    |z| = uk u_to² / S,  Re z = pk u_to² / S²,  |s| = i0 S / u_to²,  Re s = p0 / u_to²,  Im s <= 0
    k = (u_from / u_to) (U_to / U_from) e^(j 30° clock)                                                 (2)

What hangs on a bus is an admittance to earth; three alike in delta are one of three times the size in star.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.feeder import Feeder

__all__ = ["BASE_KVA", "OMEGA", "Ends", "TwoPorts", "shunts_pu", "two_ports"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]

BASE_KVA = 1.0
OMEGA = 2 * np.pi * 50.0


@dataclass(frozen=True, slots=True, eq=False)
class TwoPorts:
    """The branches of a feeder in per unit; zeros where a branch is out of service."""

    series: Complex
    """y, on the to side.  Shape (m,). [p.u.]"""

    shunt: Complex
    """s, both halves together, on the to side.  Shape (m,). [p.u.]"""

    ratio: Complex
    """k.  Shape (m,)."""

    @property
    def from_from(self) -> Complex:
        """Entry of (1).  Shape (m,). [p.u.]"""
        entry: Complex = (self.series + self.shunt / 2) / np.abs(self.ratio) ** 2
        return entry

    @property
    def from_to(self) -> Complex:
        """Entry of (1).  Shape (m,). [p.u.]"""
        return -self.series / self.ratio.conj()

    @property
    def to_from(self) -> Complex:
        """Entry of (1).  Shape (m,). [p.u.]"""
        return -self.series / self.ratio

    @property
    def to_to(self) -> Complex:
        """Entry of (1).  Shape (m,). [p.u.]"""
        return self.series + self.shunt / 2


def two_ports(feeder: Feeder) -> TwoPorts:
    """Return every branch of a feeder as a two-port."""
    branches, v_nominal = feeder.branches, feeder.buses.v_nominal_v
    series = np.zeros(feeder.n_branch, dtype=np.complex128)
    shunt, ratio = np.zeros_like(series), np.ones_like(series)
    base_ohm = v_nominal[branches.to_bus] ** 2 / (BASE_KVA * 1e3)

    line = branches.is_line & branches.in_service
    series[line] = base_ohm[line] / (branches.r1_ohm + 1j * branches.x1_ohm)[line]
    shunt[line] = (1j * OMEGA * branches.c1_nf * 1e-9 * base_ohm)[line]

    trafo = ~branches.is_line & branches.in_service
    rows = np.flatnonzero(trafo)
    if rows.size:
        turns = 1.0 + np.nan_to_num(branches.tap_position * branches.tap_step_percent)[rows] / 100.0
        tap_from = np.array([branches.tap_side[k] == "from" for k in rows])
        tap_to = np.array([branches.tap_side[k] == "to" for k in rows])
        u_from = branches.v_from_v[rows] * np.where(tap_from, turns, 1.0)
        u_to = branches.v_to_v[rows] * np.where(tap_to, turns, 1.0)
        sn_va = branches.sn_kva[rows] * 1e3
        full_load_ohm = u_to**2 / sn_va
        z_ohm = branches.uk_percent[rows] / 100 * full_load_ohm
        r_ohm = branches.pk_kw[rows] * 1e3 / sn_va * full_load_ohm
        series[rows] = base_ohm[rows] / (r_ohm + 1j * np.sqrt(np.maximum(z_ohm**2 - r_ohm**2, 0.0)))
        y_siemens = branches.i0_percent[rows] / 100 / full_load_ohm
        g_siemens = branches.p0_kw[rows] * 1e3 / u_to**2
        shunt[rows] = (g_siemens - 1j * np.sqrt(np.maximum(y_siemens**2 - g_siemens**2, 0.0))) * base_ohm[rows]
        nominal = v_nominal[branches.to_bus[rows]] / v_nominal[branches.from_bus[rows]]
        ratio[rows] = u_from / u_to * nominal * np.exp(1j * np.pi / 6 * branches.clock[rows])
    return TwoPorts(series, shunt, ratio)


def shunts_pu(feeder: Feeder, phases: int = 1) -> Complex:
    """Return the admittance that hangs on each bus, to be written on: of the positive sequence, or between the three phases.

    Shape (n, 1, 1) or (n, 3, 3). [p.u.]
    """
    found = np.zeros((feeder.n_bus, phases, phases), dtype=np.complex128)
    y = feeder.buses.shunt_siemens
    if len(y):
        base_ohm = feeder.buses.v_nominal_v**2 / (BASE_KVA * 1e3)
        found[:] = (y if phases == 3 else y[:, :1, :1] - y[:, :1, 1:2]) * base_ohm[:, None, None]
    return found


class Ends:
    """From the voltages of all buses to what enters the branches at their two ends."""

    def __init__(self, feeder: Feeder, ports: TwoPorts) -> None:
        branches, v_nominal = feeder.branches, feeder.buses.v_nominal_v
        self.from_bus, self.to_bus = branches.from_bus, branches.to_bus
        self.admittances: tuple[Complex, ...] = tuple(
            entry[:, None] for entry in (ports.from_from, ports.from_to, ports.to_from, ports.to_to)
        )
        self.base_from_a: Vector = BASE_KVA * 1e3 / (np.sqrt(3.0) * v_nominal[self.from_bus])
        base_to_a = BASE_KVA * 1e3 / (np.sqrt(3.0) * v_nominal[self.to_bus])
        self.is_line, self.in_service = branches.is_line, branches.in_service
        # percent of the rating for each pu of current (line) or of apparent power (transformer)
        rated_kva = np.where(self.is_line, 1.0, branches.sn_kva)
        rating_a = np.where(self.is_line, branches.rating_a, 1.0)
        self.from_percent: Vector = 100.0 * np.where(self.is_line, self.base_from_a / rating_a, BASE_KVA / rated_kva)
        self.to_percent: Vector = 100.0 * np.where(self.is_line, base_to_a / rating_a, BASE_KVA / rated_kva)
        self.trafos = np.flatnonzero(~self.is_line)

    def currents(self, voltage: Complex) -> tuple[Complex, Complex]:
        """Return the currents of (1) into the from and the to end.  Shape (m, S) each. [p.u.]"""
        at_from, at_to = voltage[self.from_bus], voltage[self.to_bus]
        from_from, from_to, to_from, to_to = self.admittances
        return from_from * at_from + from_to * at_to, to_from * at_from + to_to * at_to

    def loading_percent(self, v_pu: Vector, size_from: Vector, size_to: Vector) -> Vector:
        """Return the loading of every branch.

        Parameters
        ----------
        v_pu : shape (n, S)
            Magnitudes of the voltages. [p.u.]
        size_from, size_to : shape (m, S)
            Magnitudes of the currents at the two ends. [p.u.]

        Returns
        -------
        shape (m, S)
            [%]
        """
        one, other = size_from * self.from_percent[:, None], size_to * self.to_percent[:, None]
        one[self.trafos] *= v_pu[self.from_bus[self.trafos]]
        other[self.trafos] *= v_pu[self.to_bus[self.trafos]]
        return np.maximum(one, other, out=one)
