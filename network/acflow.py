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

Every operating point converges for itself.  One that does not (beyond the nose of its PV curve, or so near to it that
(1) no longer contracts) is NaN in every array and False in ``converged``; it disturbs no other.

Limits: symmetric loads of constant power, one source, 50 Hz.

References
----------
.. [1] M. Bazrafshan and N. Gatsis, "Convergence of the Z-bus method for three-phase distribution load-flow",
   arXiv:1605.08511.
.. [2] A. Bernstein, C. Wang, E. Dall'Anese, J.-Y. Le Boudec and C. Zhao, "Load flow in multiphase distribution
   networks: existence, uniqueness, non-singularity and linear models", arXiv:1702.03310.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.feeder import Feeder
from network.ladder import Answer, ladder
from network.twoport import Ends, two_ports

__all__ = ["Flow", "FlowError", "Model"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

_MOST_STEPS = 200
_CHUNK_ENTRIES = 1 << 16  # complex numbers a batch holds per array: a megabyte stays near the processor


class FlowError(ValueError):
    """The operating points as given cannot be calculated."""


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """What a feeder does at S operating points.  Columns that did not converge are NaN."""

    v_pu: Vector
    """Voltage of every bus, on its nominal voltage.  Shape (n_bus, S). [p.u.]"""

    p_kw: Vector
    """Active power into each branch at its from end; 0 out of service.  Shape (n_branch, S). [kW]"""

    q_kvar: Vector
    """Reactive power likewise.  Shape (n_branch, S). [kvar]"""

    current_a: Vector
    """Current of each branch at its from end.  Shape (n_branch, S). [A]"""

    loading_percent: Vector
    """Of a line: the larger of its two end currents over its rating; of a transformer: the larger apparent power of its
    two ends over its rated power.  Shape (n_branch, S). [%]"""

    loss_kw: Vector
    """Active power that enters a branch and does not leave it.  Shape (n_branch, S). [kW]"""

    source_kw: Vector
    """Power the feeder takes from the grid above.  Shape (S,). [kW]"""

    source_kvar: Vector
    """Reactive power likewise.  Shape (S,). [kvar]"""

    converged: Mask
    """Shape (S,)."""

    iterations: int
    """Steps of the slowest operating point."""


class Model:
    """A feeder made ready for many power flows: w and Z are found once.

    Parameters
    ----------
    feeder
        A checked feeder.
    connection_bus : shape (c,)
        Index of the bus of each connection; several may share a bus.

    Examples
    --------
    One line of 0.1 ohm, 400 V, feeding 20 kW: the exact voltage is the root of a quadratic.

    >>> from network.feeder import Line
    >>> feeder = Feeder.build("one line", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.1, 0.0)], source_bus="a")
    >>> flow = Model(feeder, [1]).solve([[-20.0]], [[0.0]])
    >>> round(float(flow.v_pu[1, 0]), 12), round((1 + (1 - 4 * 0.1 * 20e3 / 400**2) ** 0.5) / 2, 12)
    (0.98733971724, 0.98733971724)
    """

    def __init__(self, feeder: Feeder, connection_bus: ArrayLike) -> None:
        self.feeder = feeder
        self.connection_bus: Index = np.array(connection_bus, dtype=np.intp).reshape(-1)
        unknown = np.flatnonzero((self.connection_bus < 0) | (self.connection_bus >= feeder.n_bus))
        if unknown.size:
            raise FlowError(
                f"connection {unknown[0]} stands at bus number {self.connection_bus[unknown[0]]}, but the buses of "
                f"feeder {feeder.name!r} are numbered 0 to {feeder.n_bus - 1} ({unknown.size} such connection(s))."
            )
        self.load_bus, self.load_of_connection = np.unique(self.connection_bus, return_inverse=True)
        self.ports = two_ports(feeder)
        found = ladder(feeder, self.ports)
        self.w = found.w
        self._w_load = found.w[self.load_bus]
        self._at_loads = Answer(found, self.load_bus, self.load_bus)
        self._at_all = Answer(found, self.load_bus, np.arange(feeder.n_bus))
        self._one_each = bool(np.array_equal(self.load_bus, self.connection_bus))
        self.ends = Ends(feeder, self.ports)
        self.chunk = int(np.clip(_CHUNK_ENTRIES // max(feeder.n_bus, 1), 16, 4096))

    @property
    def z(self) -> Complex:
        """Z: voltage at each bus for a current of 1 pu at each bus with connections.  Shape (n, l). [p.u.]"""
        return self._at_all.matrix

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
        """
        power = self.bus_power(injection_kw, injection_kvar)
        points = power.shape[1]
        source = self.source_voltage(source_v_pu, points)
        v_pu, source_power = np.empty((self.feeder.n_bus, points)), np.empty(points, dtype=np.complex128)
        p, q, current, loading, loss = np.empty((5, self.feeder.n_branch, points))
        converged = np.empty(points, dtype=bool)

        most = 0
        for begin in range(0, points, self.chunk):
            part = slice(begin, begin + self.chunk)
            load_v, converged[part], steps = self.fixed_point(power[:, part], source[part], tolerance_pu)
            most = max(most, steps)
            load_v[:, ~converged[part]] = complex(np.nan, np.nan)
            with np.errstate(invalid="ignore"):
                voltage = self.voltages(np.conj(power[:, part] / load_v), source[part])
            into_from, into_to = self.ends.currents(voltage)
            v_pu[:, part] = np.abs(voltage)
            size_from, size_to = np.abs(into_from), np.abs(into_to)
            loading[:, part] = self.ends.loading_percent(v_pu[:, part], size_from, size_to)
            np.multiply(size_from, self.ends.base_from_a[:, None], out=current[:, part])
            power_from, power_to = self.ends.powers(voltage, into_from, into_to)
            p[:, part], q[:, part] = power_from.real, power_from.imag
            np.add(power_from.real, power_to.real, out=loss[:, part])
            source_power[part] = self.ends.leaving_source(power_from, power_to)
            source_power[part] -= power[self.load_bus == self.feeder.source_bus, part].sum(axis=0)
        source_power[~converged] = complex(np.nan, np.nan)
        return Flow(v_pu, p, q, current, loading, loss, source_power.real, source_power.imag, converged, most)

    def bus_power(self, injection_kw: ArrayLike, injection_kvar: ArrayLike) -> Complex:
        """Return the power injected at each bus with connections.  Shape (l, S). [p.u.]"""
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
        power.real, power.imag = active, reactive  # the base is 1 kVA
        return self.gather(power)

    def gather(self, of_connections: Complex) -> Complex:
        """Add up what connections inject at the same bus: shape (c, S) to shape (l, S)."""
        if self._one_each:
            return of_connections
        by_bus = np.zeros((len(self.load_bus), of_connections.shape[1]), dtype=np.complex128)
        if len(self.load_bus) == self.n_connection:
            by_bus[self.load_of_connection] = of_connections
        else:
            np.add.at(by_bus, self.load_of_connection, of_connections)
        return by_bus

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
