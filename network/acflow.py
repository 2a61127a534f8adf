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

Limits: loads of constant power between phase and neutral (or alike in all three), one source, 50 Hz.

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
from network.ladder import Answer, ladder
from network.reactive import VoltVar
from network.threephase import PhaseAnswer, PhaseEnds, PhaseLadder, Wires
from network.twoport import Ends, two_ports

__all__ = ["Flow", "FlowError", "Labels", "Model"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

_MOST_STEPS = 200
_MOST_CURVED_STEPS = 2000
_CHUNK_ENTRIES = 1 << 16  # complex numbers a batch holds per array: a megabyte stays near the processor


class FlowError(ValueError):
    """The operating points as given cannot be calculated."""


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
        self, feeder: Feeder, connection_bus: ArrayLike, connection_phase: Sequence[str] | None = None
    ) -> None:
        self.feeder = feeder
        self.connection_bus: Index = np.array(connection_bus, dtype=np.intp).reshape(-1)
        unknown = np.flatnonzero((self.connection_bus < 0) | (self.connection_bus >= feeder.n_bus))
        if unknown.size:
            raise FlowError(
                f"connection {unknown[0]} stands at bus number {self.connection_bus[unknown[0]]}, but the buses of "
                f"feeder {feeder.name!r} are numbered 0 to {feeder.n_bus - 1} ({unknown.size} such connection(s))."
            )
        phases = ("abc",) * self.n_connection if connection_phase is None else tuple(connection_phase)
        self.connection_phase = phases
        self._refuse_phases(phases)
        self.three_phase = feeder.unbalanced or any(phase != "abc" for phase in phases)
        self.kva_per_pu = 1.0 / 3.0 if self.three_phase else 1.0
        """Apparent power of 1 pu in one row. [kVA]"""

        self._owner, node = self._places(phases)
        self.load_bus, self._at = np.unique(node, return_inverse=True)
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
        if self.three_phase:
            wires = Wires(feeder)
            found = PhaseLadder(feeder, wires)
            nodes = np.arange(3 * feeder.n_bus)
            self._at_loads: Answer | PhaseAnswer = PhaseAnswer(found, self.load_bus, self.load_bus)
            self._at_all: Answer | PhaseAnswer = PhaseAnswer(found, self.load_bus, nodes)
            self.w, self.ends = found.w, PhaseEnds(feeder, wires)
            self.nodes, self.wires = _labels(self.node_there), _labels(self.wire_there)
        else:
            ports = two_ports(feeder)
            ladder_found = ladder(feeder, ports)
            self._at_loads = Answer(ladder_found, self.load_bus, self.load_bus)
            self._at_all = Answer(ladder_found, self.load_bus, np.arange(feeder.n_bus))
            self.w, self.ends = ladder_found.w, Ends(feeder, ports)
            self.nodes = Labels(np.arange(feeder.n_bus), ("abc",) * feeder.n_bus)
            self.wires = Labels(np.arange(feeder.n_branch), ("abc",) * feeder.n_branch)
        self._seen = slice(None) if self.node_there.all() else np.flatnonzero(self.node_there)
        self._carrying = slice(None) if self.wire_there.all() else np.flatnonzero(self.wire_there)
        self._w_load = self.w[self.load_bus]
        self.chunk = int(np.clip(_CHUNK_ENTRIES // max(len(self.w), 1), 16, 4096))

    def _refuse_phases(self, phases: tuple[str, ...]) -> None:
        if len(phases) != self.n_connection:
            raise FlowError(f"connection_phase has {len(phases)} entries for {self.n_connection} connections.")
        arrives = self.feeder.conductors
        for k, (bus, phase) in enumerate(zip(self.connection_bus, phases, strict=True)):
            name = self.feeder.buses.ids[bus]
            if phase not in {"a", "b", "c", "abc"}:
                raise FlowError(f"connection {k} (bus {name!r}) has the phase {phase!r}; expected a, b, c or abc.")
            if not all(arrives[bus, "abc".index(one)] for one in phase):
                raise FlowError(f"connection {k} is on phase {phase!r}, which does not arrive at its bus {name!r}.")

    def _places(self, phases: tuple[str, ...]) -> tuple[Index, Index]:
        """Return which connection injects at which node, a pair for each conductor it uses.  Shape (k,) each."""
        if not self.three_phase:
            return np.arange(self.n_connection), self.connection_bus
        pairs = [
            (k, 3 * bus + "abc".index(one))
            for k, (bus, phase) in enumerate(zip(self.connection_bus, phases, strict=True))
            for one in phase
        ]
        owner, node = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
        return owner, node

    @property
    def z(self) -> Complex:
        """Z: voltage at each node for a current of 1 pu at each node with connections.  Shape (n or 3 n, l). [p.u.]"""
        return self._at_all.matrix

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
        power = self.bus_power(injection_kw, injection_kvar)
        points = power.shape[1]
        source = self.source_voltage(source_v_pu, points)
        v_pu, source_power = np.empty((len(self.nodes.phase), points)), np.empty(points, dtype=np.complex128)
        p, q, current, loading, loss = np.empty((5, len(self.wires.phase), points))
        converged = np.empty(points, dtype=bool)
        seen, carrying, ends, kva = self._seen, self._carrying, self.ends, self.kva_per_pu

        most = 0
        for begin in range(0, points, self.chunk):
            part = slice(begin, begin + self.chunk)
            if curve is None:
                load_v, converged[part], steps = self.fixed_point(power[:, part], source[part], tolerance_pu)
            else:
                load_v, power[:, part], converged[part], steps = self.follow(
                    power[:, part], source[part], tolerance_pu, curve
                )
            most = max(most, steps)
            load_v[:, ~converged[part]] = complex(np.nan, np.nan)
            with np.errstate(invalid="ignore"):
                voltage = self.voltages(np.conj(power[:, part] / load_v), source[part])
            into_from, into_to = ends.currents(voltage)
            size = np.abs(voltage)
            v_pu[:, part] = size[seen]
            size_from, size_to = np.abs(into_from), np.abs(into_to)
            current[:, part] = (size_from * ends.base_from_a[:, None])[carrying]
            loading[:, part] = ends.loading_percent(size, size_from, size_to)[carrying]
            power_from, power_to = ends.powers(voltage, into_from, into_to)
            p[:, part], q[:, part] = kva * power_from.real[carrying], kva * power_from.imag[carrying]
            loss[:, part] = kva * (power_from.real + power_to.real)[carrying]
            source_power[part] = ends.leaving_source(power_from, power_to)
            source_power[part] -= power[self._of_source, part].sum(axis=0)
        source_power *= kva
        source_power[~converged] = complex(np.nan, np.nan)
        return Flow(v_pu, p, q, current, loading, loss, source_power.real, source_power.imag, converged, most)

    @property
    def _of_source(self) -> Mask:
        """Which of the nodes with connections stand at the source bus.  Shape (l,)."""
        return np.asarray(self.node_bus[self.load_bus] == self.feeder.source_bus)

    def bus_power(self, injection_kw: ArrayLike, injection_kvar: ArrayLike) -> Complex:
        """Return the power injected at each node with connections.  Shape (l, S). [p.u.]"""
        active, reactive = np.asarray(injection_kw, dtype=np.float64), np.asarray(injection_kvar, dtype=np.float64)
        for name, given in (("injection_kw", active), ("injection_kvar", reactive)):
            if given.ndim != 2 or given.shape[0] != self.n_connection or given.shape != active.shape:
                raise FlowError(
                    f"{name} has shape {given.shape}; expected one row for each of the {self.n_connection} connections "
                    f"and one column for each operating point, as injection_kw has ({active.shape})."
                )
            if not np.isfinite(given).all():
                row, column = (int(k) for k in np.argwhere(~np.isfinite(given))[0])
                raise FlowError(
                    f"{name} is {given[row, column]} for connection {row} (bus "
                    f"{self.feeder.buses.ids[self.connection_bus[row]]!r}) at operating point {column}. "
                    f"Fill the gap before the power flow."
                )
        power: Complex = np.empty(active.shape, dtype=np.complex128)
        power.real, power.imag = active, reactive
        return self.gather(power)

    def gather(self, of_connections: Complex) -> Complex:
        """Add up what connections inject at the same node: (c, S) in kVA to (l, S) in pu."""
        if self._one_each:
            return of_connections
        shares = of_connections if not self.three_phase else of_connections[self._owner] * self._share[:, None]
        by_node = np.zeros((len(self.load_bus), of_connections.shape[1]), dtype=np.complex128)
        if len(self.load_bus) == len(self._at):
            by_node[self._at] = shares
        else:
            np.add.at(by_node, self._at, shares)
        return by_node

    def source_voltage(self, source_v_pu: ArrayLike | None, points: int) -> Vector:
        """Return the voltage behind the source impedance for each operating point.  Shape (S,). [p.u.]"""
        given = np.asarray(self.feeder.source_v_pu if source_v_pu is None else source_v_pu, dtype=np.float64)
        if given.ndim > 1 or (given.ndim == 1 and given.shape != (points,)):
            raise FlowError(
                f"source_v_pu has shape {given.shape}; expected one number, or one for each of {points} points."
            )
        if not ((given > 0) & (given < np.inf)).all():
            raise FlowError(f"source_v_pu must be positive; it goes from {given.min()} to {given.max()}.")
        return np.broadcast_to(given, (points,))

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
        free = self._w_load[:, None] * source
        voltage = free if start is None else start
        if not len(self.load_bus) or not len(source):
            return free, np.ones(len(source), dtype=bool), 0
        whole, finished = None, None  # kept aside once a part of the batch is left to work on
        conj_power, left = power.conj(), np.arange(len(source))
        done = np.zeros(len(source), dtype=bool)
        step = 0
        with np.errstate(all="ignore"):
            while step < _MOST_STEPS:
                step += 1
                following = self._at_loads.to(conj_power / voltage.conj())
                following += free
                move = np.abs((following - voltage).view(np.float64)).max(axis=0).reshape(-1, 2).max(axis=1)
                voltage = following
                done = move <= tolerance_pu / np.sqrt(2.0)
                given_up = ~np.isfinite(move)
                stop = done | given_up
                if stop.all():
                    break
                if step % 12 == 0 and stop.any():  # a few slow columns must not cost the whole batch its time
                    if whole is None or finished is None:
                        whole, finished = np.empty_like(voltage), np.zeros(len(left), dtype=bool)
                    whole[:, left[stop]], finished[left[stop]] = voltage[:, stop], done[stop]
                    left, voltage, free, conj_power = (
                        left[~stop],
                        voltage[:, ~stop],
                        free[:, ~stop],
                        conj_power[:, ~stop],
                    )
        if whole is None or finished is None:
            return voltage, done, step
        whole[:, left], finished[left] = voltage, done
        return whole, finished, step

    def follow(
        self, power: Complex, source: Vector, tolerance_pu: float, curve: VoltVar
    ) -> tuple[Complex, Complex, Mask, int]:
        """Iterate (1) together with curves of reactive power, q <- q + ω (q(|V|) − q).

        With steep curves the plain iteration (ω = 1) swings: a step of q moves the voltages by X, they move q by the slope
        −κ, and the swing grows where the largest eigenvalue ρ of Xκ is above 1.  ω = 1 / (1 + ρ/2) shrinks every swing,
        for any falling curve.

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
            [p.u.]
        power : shape (l, S)
            Power injected with the curves. [p.u.]
        converged, steps
            As of ``fixed_point``.
        """
        if len(curve.v_pu) != self.n_connection:
            raise FlowError(
                f"there are {len(curve.v_pu)} volt-var curves for {self.n_connection} connections; expected one for each."
            )
        incidence, w, points = self.incidence, self._w_load, len(source)
        if not len(w) or not points:
            return w[:, None] * source, power, np.ones(points, dtype=bool), 0
        z = self.z[self.load_bus]
        mean = (incidence > 0).T / np.maximum((incidence > 0).sum(axis=0)[:, None], 1)  # what each connection watches
        per_kvar = mean @ np.abs(z / np.abs(w)) @ incidence
        damping = 1.0 / (1.0 + _largest(per_kvar * np.abs(curve.slope_kvar_per_pu).max(axis=1, initial=0.0)) / 2.0)
        reach = np.abs(z) @ incidence
        free = w[:, None] * source
        voltage, reactive = free, curve.q_at(mean @ np.abs(free))
        best_v, best_power, done = np.full_like(power, np.nan), power.copy(), np.zeros(points, dtype=bool)
        left, step = np.arange(points), 0
        with np.errstate(all="ignore"):
            while left.size and step < _MOST_CURVED_STEPS:
                step += 1
                now = power[:, left] + 1j * (incidence @ reactive)
                following = free + self._at_loads.to(np.conj(now / voltage))
                move = np.abs(following - voltage).max(axis=0)
                mismatch = curve.q_at(mean @ np.abs(following)) - reactive
                settled = (move <= tolerance_pu) & ((reach @ np.abs(mismatch)).max(axis=0) <= tolerance_pu)
                best_v[:, left[settled]], best_power[:, left[settled]] = following[:, settled], now[:, settled]
                done[left[settled]] = True
                go = ~settled & np.isfinite(move)
                left, free, voltage = left[go], free[:, go], following[:, go]
                reactive = reactive[:, go] + damping * mismatch[:, go]
        return best_v, best_power, done, step

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
        voltage = self.answer(current)
        voltage += self.w[:, None] * source
        return voltage

    def answer(self, current: Complex) -> Complex:
        """Return Z I, what currents at the buses with connections do to all voltages: (l, S) to (n, S). [p.u.]"""
        return self._at_all.to(current)


def _largest(matrix: Vector) -> float:
    """Return the largest eigenvalue of a matrix without negative entries, from above (Collatz and Wielandt)."""
    vector = np.ones(len(matrix))
    for _ in range(30):
        vector = matrix @ vector + 1e-3 * vector
        vector /= max(float(vector.max(initial=0.0)), 1e-300)
        vector = np.maximum(vector, 1e-12)
    return float((matrix @ vector / vector).max(initial=0.0))


def _labels(there: Mask) -> Labels:
    """Return whose the rows 3 · element + phase are that exist."""
    places = np.flatnonzero(there)
    return Labels(places // 3, tuple("abc"[k] for k in places % 3))
