"""Exact AC power flow of a radial feeder, many operating points at once.

With the branches as two-ports the voltages are linear in the injected currents, V = w v_source + Z I
(:mod:`network.ladder`), and an injection of constant power S draws I = conj(S / V).  So, on the buses where something
is connected [1]_ [2]_::

    V <- w v_source + Z conj(S / V)                                                                   (1)

A step is one product with Z for the whole batch (a walk along the tree, or a matrix product where the batch is small)
and shrinks the error by about |Z||S|/V², the voltage drop: 1e-10 is reached in six to ten steps.  Afterwards one product
gives all bus voltages, and everything else (currents, losses, loadings, the power of the source) follows branch by
branch.  Everything runs in one thread.  This is the full power flow, not an approximation:
``tests/test_acflow.py`` holds it to 1e-8 pu against power-grid-model, with taps, shunts, a source impedance and a
phase shift.

With customers on single phases, or a feeder whose phases differ, (1) runs over nodes (a bus and a phase) instead of buses
(:mod:`network.threephase`); everything else is the same.

Every operating point converges for itself.  One that does not (beyond the nose of its PV curve, or so near to it that
(1) no longer contracts) is NaN in every array and False in ``converged``; it disturbs no other.

Loads of constant current, and between two phases, are given beside the connections (:mod:`network.held`): an iteration around
(1), for ``solve`` alone.

Limits: connections of constant power between phase and neutral (or alike in all three), one source, 50 Hz.

References
----------
.. [1] M. Bazrafshan and N. Gatsis, "Convergence of the Z-bus method for three-phase distribution load-flow",
   arXiv:1605.08511.
.. [2] A. Bernstein, C. Wang, E. Dall'Anese, J.-Y. Le Boudec and C. Zhao, "Load flow in multiphase distribution
   networks: existence, uniqueness, non-singularity and linear models", arXiv:1702.03310.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.feeder import Feeder
from network.flow_given import FlowError, checked_powers, places, refuse_connections, refuse_unearthed, source_voltage
from network.following import follow
from network.grid import HeldLoads
from network.held import Legs, refuse_held, settle
from network.kernel_batch import Batch, injected
from network.kernel_shapes import Injected
from network.kernel_tree import Walk, in_lanes
from network.ladder import ladder
from network.reactive import VoltVar
from network.rungs import Rungs
from network.threephase import PhaseEnds, Wires, phase_rungs
from network.twoport import Ends, two_ports

__all__ = ["Flow", "FlowError", "Labels", "Model"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """What a feeder does at S operating points.  Columns that did not converge are NaN.

    There are N rows of voltages and M rows of flows: one for each bus and branch of a balanced model (``Model.nodes`` and
    ``Model.wires`` say whose they are), one for each of their phases of a three-phase one.
    """

    v_pu: Vector
    """Voltages on the nominal voltage (of a phase: against neutral).  Shape (N, S). [p.u.]"""

    p_kw: Vector
    """Active power into each branch at its from end; 0 out of service.  Shape (M, S). [kW]"""

    q_kvar: Vector
    """Reactive power likewise.  Shape (M, S). [kvar]"""

    current_a: Vector
    """Current of each branch at its from end.  Shape (M, S). [A]"""

    loading_percent: Vector
    """Of a line: the larger of its two end currents over its rating; of a transformer: the larger apparent power of its
    two ends over its rated power (of a phase: over a third of it).  Shape (M, S). [%]"""

    loss_kw: Vector
    """Active power that enters a branch and does not leave it.  Shape (M, S). [kW]"""

    source_kw: Vector
    """Power the feeder takes from the grid above.  Shape (S,). [kW]"""

    source_kvar: Vector
    """Reactive power likewise.  Shape (S,). [kvar]"""

    converged: Mask
    """Shape (S,)."""

    iterations: int
    """Steps of the slowest operating point."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Whose a row of voltages or flows is."""

    element: Index
    """Index of the bus or branch.  Shape (N,)."""

    phase: tuple[str, ...]
    """"abc" in a balanced model, else "a", "b" or "c"."""


class Model:
    """A feeder made ready for many power flows: w and Z are found once.

    Parameters
    ----------
    feeder
        A checked feeder.
    connection_bus : shape (c,)
        Index of the bus of each connection; several may share a bus.
    connection_phase
        "a", "b", "c" or "abc" (a third of its power in each) for each connection; None: all of them "abc".  If all are
        and the feeder's phases are alike, one phase is calculated with for the three.
    held
        Loads of constant current or between phases, besides the connections: all phases are told apart then.

    Examples
    --------
    One line of 0.1 ohm, 400 V, feeding 20 kW: the exact voltage is the root of a quadratic.

    >>> from network.feeder import Line
    >>> feeder = Feeder.build("one line", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.1, 0.0)], source_bus="a")
    >>> flow = Model(feeder, [1]).solve([[-20.0]], [[0.0]])
    >>> round(float(flow.v_pu[1, 0]), 12), round((1 + (1 - 4 * 0.1 * 20e3 / 400**2) ** 0.5) / 2, 12)
    (0.98733971724, 0.98733971724)
    """

    def __init__(
        self,
        feeder: Feeder,
        connection_bus: ArrayLike,
        connection_phase: Sequence[str] | None = None,
        held: HeldLoads | None = None,
    ) -> None:
        self.feeder = feeder
        self.held = held if held is not None and len(held) else None
        self.connection_bus: Index = np.array(connection_bus, dtype=np.intp).reshape(-1)
        phases = ("abc",) * self.n_connection if connection_phase is None else tuple(connection_phase)
        self.connection_phase = phases
        refuse_connections(feeder, self.connection_bus, phases)
        self.three_phase = feeder.unbalanced or self.held is not None or any(phase != "abc" for phase in phases)
        if self.three_phase:
            refuse_unearthed(feeder, self.connection_bus)
        self.kva_per_pu = 1.0 / 3.0 if self.three_phase else 1.0
        """Apparent power of 1 pu in one row. [kVA]"""

        self._owner, node = places(self.connection_bus, phases if self.three_phase else None)
        self._legs = None if self.held is None else Legs(feeder, self.held)
        nodes = node if self._legs is None else np.concatenate([node, self._legs.nodes])
        self.load_bus, at = np.unique(nodes, return_inverse=True)
        self._at = at[: len(node)]
        """Nodes at which something is connected (buses of a balanced model, else 3 · bus + phase).  Shape (l,)."""
        self._share = np.where([phase == "abc" for phase in phases], 1.0, 3.0)[self._owner]
        self._one_each = not self.three_phase and bool(np.array_equal(self.load_bus, self.connection_bus))
        self.ends: Ends
        fold = 3 if self.three_phase else 1
        self.node_bus: Index = np.repeat(np.arange(feeder.n_bus), fold)
        """The bus of each node that is calculated with, those of no conductor too (``node_there``).  Shape (n or 3 n,)."""
        self.wire_branch: Index = np.repeat(np.arange(feeder.n_branch), fold)
        """The branch of each row of ``ends``, those of no conductor too (``wire_there``).  Shape (m or 3 m,)."""
        self.node_there: Mask = feeder.conductors.ravel() if self.three_phase else np.ones(feeder.n_bus, dtype=bool)
        self.wire_there: Mask = (
            feeder.branches.conductors.ravel() if self.three_phase else np.ones(feeder.n_branch, dtype=bool)
        )
        rungs: Rungs
        if self.three_phase:
            wires = Wires(feeder)
            rungs, self.ends = phase_rungs(feeder, wires), PhaseEnds(feeder, wires)
            self.nodes, self.wires = _labels(self.node_there), _labels(self.wire_there)
        else:
            ports = two_ports(feeder)
            rungs, self.ends = ladder(feeder, ports).rungs, Ends(feeder, ports)
            self.nodes = Labels(np.arange(feeder.n_bus), ("abc",) * feeder.n_bus)
            self.wires = Labels(np.arange(feeder.n_branch), ("abc",) * feeder.n_branch)
        self.w: Complex = rungs.w.reshape(-1)
        self._rungs = rungs
        self._batch = Batch(feeder, rungs, self.ends, self.load_bus, self.node_there, self.wire_there, self.kva_per_pu)
        self._by_node = np.arange(len(self.load_bus)), np.ones(len(self.load_bus))
        self._walks: dict[bytes, Walk] = {}
        self._z: Complex | None = None
        self._w_load = self.w[self.load_bus]
        self.chunk = 4096

    @property
    def z(self) -> Complex:
        """Z: voltage at each node for a current of 1 pu at each node with connections.  Shape (n or 3 n, l). [p.u.]"""
        if self._z is None:
            self._z = self.answer(np.eye(len(self.load_bus), dtype=np.complex128))
        return self._z

    @property
    def incidence(self) -> Vector:
        """What 1 kVA of each connection injects at the nodes with connections.  Shape (l, c). [p.u.]"""
        found = np.zeros((len(self.load_bus), self.n_connection))
        found[self._at, self._owner] = self._share
        return found

    @property
    def n_connection(self) -> int:
        """Number of connections, c."""
        return len(self.connection_bus)

    def solve(
        self,
        injection_kw: ArrayLike,
        injection_kvar: ArrayLike,
        source_v_pu: ArrayLike | None = None,
        tolerance_pu: float = 1e-10,
        curve: VoltVar | None = None,
    ) -> Flow:
        """Return the power flow of every column.

        Parameters
        ----------
        injection_kw, injection_kvar : shape (c, S)
            Power each connection injects into the network (a load is negative). [kW], [kvar]
        source_v_pu : number or shape (S,)
            Voltage behind the source impedance; None: as the feeder says. [p.u.]
        tolerance_pu
            A column has converged when a step moves no voltage by more than this. [p.u.]
        curve
            Reactive power that follows the voltage, on top of ``injection_kvar``, one curve for each connection; None: none.
        """
        given, points = self._given(injection_kw, injection_kvar, source_v_pu)
        if curve is None and self.held is None:
            volts, settled, steps = self._batch.settle(given, points, tolerance_pu)
        else:
            power = self.bus_power(injection_kw, injection_kvar)
            source = given.source[0, :points]
            if curve is None:
                volts, power, well, steps = self._settle_held(power, source, tolerance_pu)
            else:
                volts, power, well, steps = self.follow(power, source, tolerance_pu, curve)
            given, settled, volts = self._of_nodes(power, source), well[None].astype(np.float64), in_lanes(volts)
        columns = self._batch.flows(given, points, volts)
        converged: Mask = settled[0, :points] > 0
        if not converged.all():
            for part in columns:
                part[:, ~converged] = np.nan
        v_pu, p_kw, q_kvar, current_a, loading_percent, loss_kw, (source_kw, source_kvar) = columns
        return Flow(
            *(v_pu, p_kw, q_kvar, current_a, loading_percent, loss_kw, source_kw, source_kvar),
            converged=converged,
            iterations=steps,
        )

    def magnitudes(
        self,
        nodes: ArrayLike,
        injection_kw: ArrayLike,
        injection_kvar: ArrayLike,
        source_v_pu: ArrayLike | None = None,
        tolerance_pu: float = 1e-10,
    ) -> tuple[Vector, Mask]:
        """Return nothing but the voltages of some nodes: where few are asked for, a small part of what ``solve`` costs.

        Parameters
        ----------
        nodes : shape (r,)
            Buses of a balanced model, else 3 · bus + phase (those with connections: ``load_bus``).
        injection_kw, injection_kvar, source_v_pu, tolerance_pu
            As of ``solve``.

        Returns
        -------
        v_pu : shape (r, S)
            NaN where not converged. [p.u.]
        converged : shape (S,)
        """
        refuse_held(self.held, "voltages of single nodes")
        asked = np.asarray(nodes, dtype=np.intp).reshape(-1)
        unknown = np.flatnonzero((asked < 0) | (asked >= len(self.w)))
        if unknown.size:
            raise FlowError(f"there is no node {asked[unknown[0]]} among {len(self.w)} ({unknown.size} such node(s)).")
        key = asked.tobytes()
        if key not in self._walks:
            self._walks[key] = Walk(self._rungs, self.load_bus, asked)
        given, points = self._given(injection_kw, injection_kvar, source_v_pu)
        volts, settled, _ = self._batch.settle(given, points, tolerance_pu)
        v_pu = self._batch.magnitudes(self._walks[key], given, points, volts)
        converged = settled[0, :points] > 0
        v_pu[:, ~converged] = np.nan
        return v_pu, converged

    def _given(
        self, injection_kw: ArrayLike, injection_kvar: ArrayLike, source_v_pu: ArrayLike | None
    ) -> tuple[Injected, int]:
        active, reactive = checked_powers(self.feeder, self.connection_bus, injection_kw, injection_kvar)
        source = self.source_voltage(source_v_pu, active.shape[1])
        return injected(active, reactive, source, self._at, self._owner, self._share), len(source)

    def _of_nodes(self, power: Complex, source: Vector) -> Injected:
        """Return powers at the nodes with connections as the kernels want them."""
        numbers, one = self._by_node
        return injected(power.real, power.imag, source, numbers, numbers, one)

    def bus_power(self, injection_kw: ArrayLike, injection_kvar: ArrayLike) -> Complex:
        """Return the power injected at each node with connections.  Shape (l, S). [p.u.]"""
        active, reactive = checked_powers(self.feeder, self.connection_bus, injection_kw, injection_kvar)
        power: Complex = np.empty(active.shape, dtype=np.complex128)
        power.real, power.imag = active, reactive
        return self.gather(power)

    def gather(self, of_connections: Complex) -> Complex:
        """Add up what connections inject at the same node: (c, S) in kVA to (l, S) in pu."""
        if self._one_each:
            return of_connections
        shares = of_connections if not self.three_phase else of_connections[self._owner] * self._share[:, None]
        by_node = np.zeros((len(self.load_bus), of_connections.shape[1]), dtype=np.complex128)
        if len(self.load_bus) == len(self._at) and self.held is None:
            by_node[self._at] = shares
        else:
            np.add.at(by_node, self._at, shares)
        return by_node

    def source_voltage(self, source_v_pu: ArrayLike | None, points: int) -> Vector:
        """Return the voltage behind the source impedance for each operating point.  Shape (S,). [p.u.]"""
        return source_voltage(self.feeder.source_v_pu if source_v_pu is None else source_v_pu, points)

    def fixed_point(
        self, power: Complex, source: Vector, tolerance_pu: float, start: Complex | None = None
    ) -> tuple[Complex, Mask, int]:
        """Iterate (1) on the buses with connections.

        Parameters
        ----------
        power : shape (l, S)
            Power injected at those buses. [p.u.]
        source : shape (S,)
            Voltage of the source. [p.u.]
        tolerance_pu
            Largest move of a voltage at which a column has converged. [p.u.]
        start : shape (l, S)
            A guess of the voltages; None: those without any injection. [p.u.]

        Returns
        -------
        voltages : shape (l, S)
            At those buses; of no meaning where not converged. [p.u.]
        converged : shape (S,)
        steps
            Of the slowest column.
        """
        refuse_held(self.held, "a fixed point of given powers")
        return self._fixed_point(power, source, tolerance_pu, start)

    def _fixed_point(
        self, power: Complex, source: Vector, tolerance_pu: float, start: Complex | None = None
    ) -> tuple[Complex, Mask, int]:
        if not len(self.load_bus) or not len(source):
            return self._w_load[:, None] * source, np.ones(len(source), dtype=bool), 0
        volts, settled, steps = self._batch.settle(self._of_nodes(power, source), len(source), tolerance_pu, start)
        return volts[:, : len(source)], settled[0, : len(source)] > 0, steps

    def _settle_held(self, power: Complex, source: Vector, tolerance_pu: float) -> tuple[Complex, Complex, Mask, int]:
        """Iterate (1) together with the held loads."""
        assert self._legs is not None

        def flow(injected: Complex, start: Complex) -> tuple[Complex, Mask, int]:
            return self._fixed_point(injected, source, tolerance_pu, start)

        return settle(flow, self._legs, self.load_bus, power, self._w_load[:, None] * source, tolerance_pu)

    def follow(
        self, power: Complex, source: Vector, tolerance_pu: float, curve: VoltVar
    ) -> tuple[Complex, Complex, Mask, int]:
        """Iterate (1) together with curves of reactive power (:mod:`network.following`).

        Parameters
        ----------
        power : shape (l, S)
            Power injected without the curves. [p.u.]
        source, tolerance_pu
            As of ``fixed_point``; the reactive power that is left to move must not move a voltage by more either.
        curve
            One for each connection.

        Returns
        -------
        voltages : shape (l, S)
            At the nodes with connections; NaN where not converged. [p.u.]
        power : shape (l, S)
            Power injected with the curves. [p.u.]
        converged, steps
            As of ``fixed_point``.
        """
        refuse_held(self.held, "volt-var curves")
        if len(curve.v_pu) != self.n_connection:
            raise FlowError(
                f"there are {len(curve.v_pu)} volt-var curves for {self.n_connection} connections; expected one for each."
            )
        walk, z = self._batch.loads.answer, self.z[self.load_bus]
        return follow(walk, z, self._w_load, self.incidence, power, source, tolerance_pu, curve)

    def voltages(self, current: Complex, source: Vector) -> Complex:
        """Return the voltages of all buses for the currents injected at the buses with connections.

        Parameters
        ----------
        current : shape (l, S)
            [p.u.]
        source : shape (S,)
            [p.u.]

        Returns
        -------
        shape (n, S)
            [p.u.]
        """
        return self._batch.whole.answer(current, source)

    def answer(self, current: Complex) -> Complex:
        """Return Z I, what currents at the buses with connections do to all voltages: (l, S) to (n, S). [p.u.]"""
        return self._batch.whole.answer(current)


def _labels(there: Mask) -> Labels:
    """Return whose the rows 3 · element + phase are that exist."""
    places = np.flatnonzero(there)
    return Labels(places // 3, tuple("abc"[k] for k in places % 3))
