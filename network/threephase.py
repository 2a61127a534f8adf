"""Lines and transformers with three conductors, and what a radial network of them answers to injected currents.

Per unit as in :mod:`network.twoport`: on a base of 1 kVA for the three phases together and the nominal voltage of each
bus, so that an impedance has the same value there and here, a voltage of 1 pu is the nominal one between phase and
neutral, and a power of 1 pu in one phase is 1/3 kW.  A branch is, with 3 × 3 matrices y (series), s (both shunts) and
N (no-load transfer from the from to the to side; the identity for a line) ::

    I_from = N^H (y + s/2) N · V_from − N^H y · V_to                                                   (1)
    I_to   = −y N · V_from + (y + s/2) · V_to

A line that is transposed has z_s = (z_0 + 2 z_1)/3 on the diagonal of 1/y and z_m = (z_0 − z_1)/3 beside it, likewise
its capacitances.  A transformer with an even clock number is a star-star with both neutrals earthed, N = C^j (−1)^l / k
with C the shift a ← b ← c by 120° (clock 4) and −1 a shift by 180° (clock 6); with an odd one it is a delta-star
earthed on the to side, N = (1 − C²)/√3 · C^j (−1)^l / k (clock 1 and multiples on from there); the zero sequence of its
iron is seen from the star side alone, and so has both halves of s there.  A delta-delta one is N = (1 − J) C^j (−1)^l / k
with J the mean of the three, so that no zero sequence passes; on its to side y gives the voltages a neutral, which carries
no current where nothing behind it is joined to earth (the feeder's check sees to that, and the model for connections).  A
bank of single-phase transformers with turns t has y/t² and t/k on the diagonals of y and N.

What hangs on a bus (``Buses.shunt_siemens``) is part of Y there.

Towards the source everything behind a bus is an admittance Y and a current; with X = s/2 + Y the branch above gives [1]_ ::

    A = (y + X)^-1,   V = A y N · V_above + A · I,   I_above = N^H y A · I,   Y_above = N^H (s/2 + y A X) N   (2)

in which nothing cancels, however stiff a branch is.  A conductor that a branch lacks is carried along as an isolated
one with y = 1, in which no current flows; nobody sees its voltage.

Limits: neutrals are earthed or ideal; a delta side cannot be fed from the star side; 50 Hz.

References
----------
.. [1] M. Bazrafshan and N. Gatsis, "Comprehensive modeling of three-phase distribution systems via the bus admittance
   matrix", IEEE Trans. Power Systems 33(2), 2018 (arXiv:1705.06782), for (1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Feeder, FeederError
from network.plausible import named
from network.rungs import Rungs
from network.twoport import BASE_KVA, OMEGA, Ends, shunts_pu, two_ports

__all__ = ["PhaseEnds", "Wires", "phase_rungs"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

_ONE = np.eye(3)
_ZERO_SEQUENCE = np.full((3, 3), 1 / 3)
_BACK = np.roll(_ONE, 1, axis=1)  # (C V)_a = V_b: lags by 120°
ROTATION = np.exp(-2j * np.pi / 3 * np.arange(3))
"""Voltages of an ideal balanced source, phases a, b, c."""


class Wires:
    """The branches as the matrices of (1); zeros where a branch is out of service."""

    def __init__(self, feeder: Feeder) -> None:
        branches, ports = feeder.branches, two_ports(feeder)
        m = feeder.n_branch
        self.series = np.zeros((m, 3, 3), dtype=np.complex128)
        self.shunt, self.transfer = np.zeros_like(self.series), np.tile(_ONE.astype(np.complex128), (m, 1, 1))
        self._lines(feeder)
        for k in np.flatnonzero(~branches.is_line & branches.in_service):
            odd = int(branches.clock[k]) % 2 == 1
            self.series[k], self.shunt[k] = ports.series[k] * _ONE, ports.shunt[k] * (_ONE + odd * _ZERO_SEQUENCE)
            self.transfer[k] = _winding(int(branches.clock[k])) / abs(ports.ratio[k])
            if branches.windings[k] == "dd":
                self.transfer[k] = (_ONE - _ZERO_SEQUENCE) @ self.transfer[k]
            elif branches.is_bank[k]:
                there = branches.conductors[k]
                turns = np.where(there, branches.turns_abc[k], 1.0)
                self.series[k] = np.diag(np.where(there, ports.series[k] / turns**2, 1.0))
                self.shunt[k] = np.diag(np.where(there, ports.shunt[k] / turns**2, 0.0))
                self.transfer[k] = np.diag(np.where(there, turns / abs(ports.ratio[k]), 1.0))
        half = self.series + self.shunt / 2
        back = self.transfer.conj().transpose(0, 2, 1)
        self.from_from, self.from_to = back @ half @ self.transfer, -back @ self.series
        self.to_from, self.to_to = -self.series @ self.transfer, half

    def _lines(self, feeder: Feeder) -> None:
        branches = feeder.branches
        base_ohm = feeder.buses.v_nominal_v[branches.to_bus] ** 2 / (BASE_KVA * 1e3)
        line = branches.is_line & branches.in_service
        told = branches.untransposed & line
        there = branches.conductors
        blind = line & ~told & there.any(axis=1) & (there.sum(axis=1) > 1) & np.isnan(branches.r0_ohm + branches.x0_ohm)
        if blind.any():
            raise FeederError(
                f"feeder {feeder.name!r}: line{'s' * int(blind.sum() > 1)} {named([branches.ids[k] for k in np.flatnonzero(blind)])} "
                f"without r0_ohm and x0_ohm. Customers on single phases need the zero sequence of every line."
            )
        for k in np.flatnonzero(line):
            pair = np.ix_(there[k], there[k])
            if told[k]:
                z, c = branches.z_abc_ohm[k][pair], np.nan_to_num(branches.c_abc_nf[k][pair])
            else:
                one = complex(branches.r1_ohm[k], branches.x1_ohm[k])
                zero = complex(branches.r0_ohm[k], branches.x0_ohm[k])
                zero = one if np.isnan(zero) else zero  # of a single conductor
                size, c1, c0 = int(there[k].sum()), float(branches.c1_nf[k]), float(branches.c0_nf[k])
                c0 = c1 if np.isnan(c0) else c0
                z = np.full((size, size), (zero - one) / 3) + one * np.eye(size)
                c = np.full((size, size), (c0 - c1) / 3) + c1 * np.eye(size)
            y = _ONE.astype(np.complex128)
            y[pair] = np.linalg.inv(z) * base_ohm[k]
            self.series[k] = y
            self.shunt[k][pair] = 1j * OMEGA * 1e-9 * base_ohm[k] * c


def _winding(clock: int) -> Complex:
    """Return N for a ratio of one: the to side lags by clock · 30°."""
    clock %= 12
    first = _ONE if clock % 2 == 0 else (_ONE - _BACK @ _BACK) / np.sqrt(3.0)
    rest = clock - clock % 2
    for quarter in range(3):  # rest = 4 · quarter + 6 · half, modulo 12
        for half in range(2):
            if (4 * quarter + 6 * half) % 12 == rest:
                return np.asarray(first @ np.linalg.matrix_power(_BACK, quarter) * (-1.0) ** half, dtype=np.complex128)
    raise AssertionError(clock)


def phase_rungs(feeder: Feeder, wires: Wires) -> Rungs:
    """Return the factors of (2); nodes are numbered 3 · bus + phase."""
    n, order = feeder.n_bus, feeder.order
    parent, branch = feeder.parent, feeder.parent_branch
    down, up, local, through = (np.zeros((n, 3, 3), dtype=np.complex128) for _ in range(4))
    below = shunts_pu(feeder, 3)
    for bus in order[:0:-1]:
        k, above = branch[bus], parent[bus]
        y, half, n_k = wires.series[k], wires.shunt[k] / 2, wires.transfer[k]
        if feeder.branches.to_bus[k] == bus:
            x = half + below[bus]
            a = np.linalg.inv(y + x)
            ay, ya = (a @ y, y @ a) if x.any() else (_ONE, _ONE)
            down[bus], up[bus], local[bus] = ay @ n_k, n_k.conj().T @ ya, a
            through[bus] = n_k.conj().T @ (half + ya @ x) @ n_k
        else:
            if feeder.branches.clock[k] % 2 == 1 or feeder.branches.windings[k] == "dd":
                raise FeederError(
                    f"feeder {feeder.name!r}: transformer {feeder.branches.ids[k]!r} is fed from its {'star' if feeder.branches.clock[k] % 2 else 'to'} "
                    f"side, and its delta side has no earth. Exchange from and to, or give it an even clock number and no delta."
                )
            back = np.linalg.inv(n_k)
            x = half + back.conj().T @ below[bus] @ back
            a = np.linalg.inv(y + x)
            ay, ya = (a @ y, y @ a) if x.any() else (_ONE, _ONE)
            down[bus], up[bus] = back @ ay, ya @ back.conj().T
            local[bus] = back @ a @ back.conj().T
            through[bus] = half + ya @ x
        below[above] += through[bus]
    source = feeder.source_bus
    ideal = feeder.source_short_circuit_va >= IDEAL_SOURCE_VA
    z = 0.0 if ideal else BASE_KVA * 1e3 / feeder.source_short_circuit_va
    z = z * (feeder.source_rx_ratio + 1j) / np.hypot(feeder.source_rx_ratio, 1.0)
    w_source = np.linalg.inv(_ONE + z * below[source])
    local[source] = z * w_source
    w = np.zeros((n, 3), dtype=np.complex128)
    w[source] = w_source @ ROTATION
    for bus in order[1:]:
        w[bus] = down[bus] @ w[parent[bus]]
    return Rungs(order, parent, w, down, up, local, below, through)


class PhaseEnds(Ends):
    """From the voltages of all nodes to what enters each conductor of the branches at its two ends; rows 3 · branch + phase."""

    def __init__(self, feeder: Feeder, wires: Wires) -> None:
        branches, v_nominal = feeder.branches, feeder.buses.v_nominal_v
        self._wires, self._bus = wires, (branches.from_bus, branches.to_bus)
        phase = np.tile(np.arange(3), feeder.n_branch)
        each = np.repeat(np.arange(feeder.n_branch), 3)
        self.from_bus, self.to_bus = 3 * branches.from_bus[each] + phase, 3 * branches.to_bus[each] + phase
        self.is_line = branches.is_line[each]
        base_from_a, base_to_a = (BASE_KVA * 1e3 / (np.sqrt(3.0) * v_nominal[ends][each]) for ends in self._bus)
        self.base_from_a: Vector = base_from_a
        rated_kva = np.where(self.is_line, 1.0, branches.sn_kva[each])
        rating_a = np.where(self.is_line, branches.rating_a[each], 1.0)
        self.from_percent: Vector = 100.0 * np.where(self.is_line, base_from_a / rating_a, BASE_KVA / rated_kva)
        self.to_percent: Vector = 100.0 * np.where(self.is_line, base_to_a / rating_a, BASE_KVA / rated_kva)
        self.trafos = np.flatnonzero(~self.is_line)
        self.in_service = branches.in_service[each]

    def currents(self, voltage: Complex) -> tuple[Complex, Complex]:
        """Return the currents of (1) into the from and the to end: (3 n, S) to (3 m, S) each. [p.u.]"""
        by_bus = voltage.reshape(-1, 3, voltage.shape[1])
        at_from, at_to = by_bus[self._bus[0]], by_bus[self._bus[1]]
        w, rows = self._wires, (len(self.from_bus), voltage.shape[1])
        into_from = w.from_from @ at_from + w.from_to @ at_to
        into_to = w.to_from @ at_from + w.to_to @ at_to
        return into_from.reshape(rows), into_to.reshape(rows)
