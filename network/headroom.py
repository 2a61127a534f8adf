"""How far operating points are beyond the limits of a feeder, by AC power flow, and how that changes with what is injected.

An operating point is measured against every limit at once; h says how far beyond it is, relative to the limit::

    over-voltage |V|²/v_max² − 1,   under-voltage 1 − |V|²/v_min²,   overload loading/loading_max − 1            (1)

Three questions are asked of it.  From a measured point, how far along a direction d may linear DistFlow go, its rows shifted onto
the AC power flow there and its coefficients taken at the voltages found (:meth:`Headroom.closed_form`)::

    share = min over rows of (b − a·p_0) / (a·d)                                                         (2)

(for an overload the root of |f_0 + share · step| = limit, f the complex current or power of the branch).  How does h move:
:meth:`Headroom.slopes` are its exact derivatives, dh = Σ (∂h/∂p) dp + (∂h/∂q) dq, found backwards: with dI the change
of the currents that a change of powers asks for, and D = conj(S / V²) the currents' answer to a voltage that moves ::

    dh = Re(λ·dI),   λ = λ_0 + λ_1 + …,   λ_0 = ∂h/∂I at constant current,   λ_(n+1) = −Z conj(D λ_n)      (3)

a series that shrinks like the power flow itself; volt-var curves answer in the same way.  And whom does a limit concern
(:meth:`Headroom.strain`).

:mod:`network.furthest` follows paths by it; :mod:`network.validation_measure` reads millions of points against the same limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.linear import linear
from network.reactive import VoltVar

__all__ = ["TOLERANCE", "Headroom", "Point"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

TOLERANCE = 1e-10
"""A limit is kept where h is not above this: the noise of the power flow itself."""

_AC_TOLERANCE_PU = 1e-10
_SERIES = ("r1_ohm", "x1_ohm", "r0_ohm", "x0_ohm", "z_abc_ohm", "uk_percent", "pk_kw")
_MOST_TERMS = 30
_SLOPE_TOLERANCE = 1e-6
_SETTLED = 1e-3
"""A series whose last term is a larger part of its sum has not ended: its equations are solved."""


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Operating points, measured."""

    h: Vector
    """How far each limit is passed, equation (1); inf where the power flow has no solution.  Shape (k, S)."""

    load_v: Complex
    """Voltages at the buses with connections, to start from.  Shape (l, S). [p.u.]"""

    voltage: Complex
    """Voltages at all buses.  Shape (n, S). [p.u.]"""

    solved: Mask
    """Shape (S,)."""

    power: Complex
    """What is injected at the buses with connections, volt-var curves included.  Shape (l, S). [p.u.]"""


class Headroom:
    """A feeder and its limits: which there are, how tight, and how far operating points are beyond them.

    Parameters
    ----------
    model
        The feeder with its connections.
    v_min_pu, v_max_pu : shape (n_bus,)
        Bounds of the voltages; 0 and inf where there is none. [p.u.]
    loading_max_percent : shape (n_branch,)
        Bound of the loadings; inf where there is none. [%]
    curve
        Reactive power that follows the voltage, on top of what is given; None: none.
    """

    def __init__(
        self,
        model: Model,
        v_min_pu: Vector,
        v_max_pu: Vector,
        loading_max_percent: Vector,
        curve: VoltVar | None = None,
    ) -> None:
        self.model, self.curve = model, curve
        self.bounds = (v_min_pu, v_max_pu, loading_max_percent)
        """As given, for buses and branches."""
        ends = model.ends
        bus, branch = model.node_bus, model.wire_branch
        self.node_low, self.node_high, self.wire_most = v_min_pu[bus], v_max_pu[bus], loading_max_percent[branch]
        """The same for nodes and wires."""
        highest, lowest, most = self.node_high, self.node_low, self.wire_most
        self.above = np.flatnonzero((highest < np.inf) & model.node_there)
        self.below = np.flatnonzero((lowest > 0) & model.node_there)
        self.rated = np.flatnonzero((most < np.inf) & (ends.from_percent > 0) & ends.in_service & model.wire_there)
        self.highest, self.lowest = highest[self.above, None] ** 2, lowest[self.below, None] ** 2
        self.most = most[self.rated, None]
        self.elements: tuple[str, ...] = (
            *(model.feeder.buses.ids[bus[k]] for k in (*self.above, *self.below)),
            *(model.feeder.branches.ids[branch[k]] for k in self.rated),
        )
        self.kinds: tuple[str, ...] = (
            ("over_voltage",) * len(self.above) + ("under_voltage",) * len(self.below) + ("overload",) * len(self.rated)
        )
        phase = (np.arange(len(bus)) % 3) if model.three_phase else np.zeros(len(bus), dtype=np.intp)
        self.sort: Index = np.concatenate([phase[self.above], 3 + phase[self.below], 6 + self.rated]).astype(np.intp)
        """What each limit is of: high or low voltages of a phase, or a wire, whose limits are worst at uses of their own."""

    def with_impedance(self, factor: float) -> Headroom:
        """Return the same limits of the same feeder and connections, all series impedances multiplied."""
        if factor == 1.0:
            return self
        model, branches = self.model, self.model.feeder.branches
        longer = {name: getattr(branches, name) * factor for name in _SERIES}
        feeder = replace(model.feeder, branches=replace(branches, **longer))
        return type(self)(Model(feeder, model.connection_bus, model.connection_phase), *self.bounds, self.curve)

    def settle(self, injection: Complex, source: Vector, start: Complex | None = None) -> tuple[Complex, Complex, Mask]:
        """Return voltages and powers at the nodes with connections, and which columns have a solution.

        Parameters
        ----------
        injection : shape (c, S)
            Without what the curve adds. [kW + j kvar]
        source : shape (S,)
            Voltage of the source. [p.u.]
        start : shape (l, S)
            A guess of the voltages; not used with a curve.
        """
        power = self.model.gather(injection)
        if self.curve is None:
            load_v, solved, _ = self.model.fixed_point(power, source, _AC_TOLERANCE_PU, start)
        else:
            load_v, power, solved, _ = self.model.follow(power, source, _AC_TOLERANCE_PU, self.curve)
        return load_v, power, solved

    def at(self, injection: Complex, source: Vector, start: Complex | None = None) -> Point:
        """Measure operating points by AC power flow.

        Parameters
        ----------
        injection : shape (c, S)
            [kW + j kvar]
        source : shape (S,)
            Voltage of the source. [p.u.]
        start : shape (l, S)
            A guess of the voltages at the buses with connections.
        """
        model, ends = self.model, self.model.ends
        load_v, power, solved = self.settle(injection, source, start)
        with np.errstate(all="ignore"):
            voltage = model.voltages(np.conj(power / load_v), source)
            squared = voltage.real**2 + voltage.imag**2
            into_from, into_to = (np.sqrt(end.real**2 + end.imag**2) for end in ends.currents(voltage))
            loading = ends.loading_percent(np.sqrt(squared), into_from, into_to)[self.rated]
            h = np.vstack(
                [squared[self.above] / self.highest - 1, 1 - squared[self.below] / self.lowest, loading / self.most - 1]
            )
        h[:, ~solved] = np.inf
        return Point(h, load_v, voltage, solved, power)

    def closed_form(self, point: Point, direction: Complex, target: Vector) -> Vector:
        """Return the share of a direction at which linear DistFlow, shifted onto a measured point, meets the first limit (2).

        Parameters
        ----------
        point
            The points to start from, S of them, all solved.
        direction : shape (c, S)
            What a share of 1 adds to the injections. [kW + j kvar]
        target : shape (k, S)
            The h to be met.
        """
        model, ends = self.model, self.model.ends
        voltage, room = point.voltage, target - point.h
        added = model.gather(direction)
        moved = model.answer(np.conj(added / point.load_v))  # voltages that the direction adds
        squared = 2.0 * (voltage.real * moved.real + voltage.imag * moved.imag)
        slope = np.vstack([squared[self.above] / self.highest, -squared[self.below] / self.lowest])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(slope > 0, room[: len(slope)] / slope, np.inf).min(axis=0, initial=np.inf)
            flow, step = ends.currents(voltage)[0], ends.currents(moved)[0]
            trafo, at_trafo = ends.trafos, ends.from_bus[ends.trafos]
            step[trafo] = voltage[at_trafo] * step[trafo].conj() + moved[at_trafo] * flow[trafo].conj()
            flow[trafo] = voltage[at_trafo] * flow[trafo].conj()
            percent = ends.from_percent[self.rated, None]
            flow, step = flow[self.rated] * percent, step[self.rated] * percent
            # |flow + share · step| = |flow| + most · room
            a, half_b = np.abs(step) ** 2, (flow.conj() * step).real
            further = self.most * room[len(slope) :]
            root = (np.sqrt(np.maximum(half_b**2 + a * (2.0 * np.abs(flow) + further) * further, 0.0)) - half_b) / a
            share = np.minimum(share, np.where(a > 0, root, np.inf).min(axis=0, initial=np.inf))
        return np.asarray(np.nan_to_num(share, nan=0.0, posinf=np.inf))

    def slopes(
        self, point: Point, row: Index, column: Index, tolerance: float = _SLOPE_TOLERANCE, bend: str = "here"
    ) -> tuple[Vector, Vector]:
        """Return how some limits move with every injection (3).

        Parameters
        ----------
        point
            Solved operating points.
        row, column : shape (R,)
            The limits, indices of ``elements``, and the points at which.
        tolerance
            The series ends where a term is less than this part of the sum.
        bend
            How volt-var curves answer: as they do "here", not at all ("level"), or as steeply as they can ("steep"); between
            knots it is one of these.

        Returns
        -------
        shape (c, R) twice
            ∂h/∂p and ∂h/∂q. [1/kW], [1/kvar]
        """
        model, z = self.model, self.model.z
        at_loads, v = z[model.load_bus], point.load_v[:, column]
        term = first = self._at_constant_current(point, row, column)
        with np.errstate(all="ignore"):
            answer = np.conj(point.power[:, column] / v**2)
            curved, watch = self._curve_slopes(v, bend)
            total = term.copy()
            for _ in range(_MOST_TERMS):
                back = -np.conj(answer * term)
                if curved is not None:
                    back = back + watch.T @ (curved * (model.incidence.T @ (term / v.conj()).imag)) * v.conj() / np.abs(
                        v
                    )
                term = at_loads.T @ back
                total += term
                if np.abs(term).max(initial=0.0) <= tolerance * np.abs(total).max(initial=0.0):
                    break
            settled = np.abs(term).max(axis=0, initial=0.0) <= _SETTLED * np.abs(total).max(axis=0, initial=0.0)
            for k in np.flatnonzero(~settled):
                bent = None if curved is None else curved[:, k]
                total[:, k] = self._whole_series(first[:, k], answer[:, k], v[:, k], bent, watch)
            per_power = total / v.conj()
        per_kw = model.incidence.T
        return np.asarray(per_kw @ per_power.real), np.asarray(per_kw @ per_power.imag)

    def _whole_series(
        self, first: Complex, answer: Complex, v: Complex, curved: Vector | None, watch: Vector
    ) -> Complex:
        """Return λ of (3) for one limit from its linear equations, where curves are so steep that the series does not end.  Shape (l,)."""
        at_loads = self.model.z[self.model.load_bus]
        turned: Complex = -at_loads.T * np.conj(answer)  # of the conjugate of λ
        curve: Complex = np.zeros_like(turned)
        if curved is not None:
            curve = (at_loads.T * (v.conj() / np.abs(v))) @ (watch.T * curved) @ self.model.incidence.T
        on = 1.0 / v.conj()
        of_real, of_imag = turned + curve * on.imag, -1j * turned + curve * on.real
        moves = np.block([[of_real.real, of_imag.real], [of_real.imag, of_imag.imag]])
        found = np.linalg.lstsq(np.eye(len(moves)) - moves, np.concatenate([first.real, first.imag]), rcond=None)[0]
        return np.asarray(found[: len(first)] + 1j * found[len(first) :])

    def _curve_slopes(self, load_v: Complex, bend: str) -> tuple[Vector | None, Vector]:
        """Return dq/d|V| of every connection, None without curves, and the nodes that each watches, in equal parts."""
        part = (self.model.incidence > 0).T.astype(np.float64)
        part /= np.maximum(part.sum(axis=1, keepdims=True), 1.0)
        if self.curve is None or bend == "level":
            return None, part
        if bend == "steep":
            slope = self.curve.slope_kvar_per_pu
            steepest = (
                slope[np.arange(len(slope)), np.abs(slope).argmax(axis=1)] if slope.shape[1] else np.zeros(len(slope))
            )
            return np.repeat(steepest[:, None], load_v.shape[1], axis=1), part
        v, step = part @ np.abs(load_v), 1e-6
        return (self.curve.q_at(v + step) - self.curve.q_at(v - step)) / (2 * step), part

    @cached_property
    def currents_of_z(self) -> tuple[Complex, Complex]:
        """What the currents into both ends of every wire answer to the currents injected.  Shape (M, l) each."""
        into_from, into_to = self.model.ends.currents(self.model.z)
        return into_from, into_to

    def _at_constant_current(self, point: Point, row: Index, column: Index) -> Complex:
        """Return λ_0 of (3), shape (l, R)."""
        model, ends, z = self.model, self.model.ends, self.model.z
        found = np.empty((len(model.load_bus), len(row)), dtype=np.complex128)
        first, second = len(self.above), len(self.above) + len(self.below)
        for part, nodes, sign, square in (
            (row < first, self.above, 2.0, self.highest),
            ((row >= first) & (row < second), self.below, -2.0, self.lowest),
        ):
            at = row[part] - (0 if sign > 0 else first)
            v = point.voltage[nodes[at], column[part]]
            found[:, part] = z[nodes[at]].T * (sign * v.conj() / square[at, 0])
        part = row >= second
        if part.any():
            wire, col = self.rated[row[part] - second], column[part]
            voltage = point.voltage[:, col]
            each = np.arange(len(wire))
            currents = [end[wire, each] for end in ends.currents(voltage)]
            trafo = ~ends.is_line[wire]
            sizes = [np.abs(current) * percent[wire] * np.where(trafo, np.abs(voltage[bus[wire], each]), 1.0)
                     for current, percent, bus in zip(currents, (ends.from_percent, ends.to_percent),
                                                      (ends.from_bus, ends.to_bus), strict=True)]  # fmt: skip
            at_from = sizes[0] >= sizes[1]
            per_current = [moved[wire].T for moved in self.currents_of_z]
            moved = np.where(at_from, *per_current)
            current = np.where(at_from, *currents)
            percent = np.where(at_from, ends.from_percent[wire], ends.to_percent[wire])
            bus = np.where(at_from, ends.from_bus[wire], ends.to_bus[wire])
            v, size = voltage[bus, each], np.maximum(np.abs(current), 1e-30)
            slope: Complex = np.asarray(moved * (np.conj(current) / size * np.where(trafo, np.abs(v), 1.0)))
            turned = z[bus].T * np.where(trafo, np.conj(v) / np.abs(v) * size, 0.0)
            found[:, part] = (slope + turned) * percent / self.most[row[part] - second, 0]
        return found

    def strain(self, row: Index, sign: Vector) -> Vector:
        """Return how much a kW more of each connection's limit brings it closer.

        Parameters
        ----------
        row : shape (S,)
            The limit, an index of ``elements``.
        sign : shape (S,)
            1 where a limit grows by injecting, −1 where by drawing.

        Returns
        -------
        shape (c, S)
            Of no unit but one for each column; of either sign for a voltage, never negative for a flow.
        """
        found = linear(self.model)
        of_voltage = np.vstack([found.squared_v_per_kw[self.above], -found.squared_v_per_kw[self.below]])
        signed: Vector = np.vstack([of_voltage, np.abs(found.flow_per_kva[self.rated])])[row].T
        return np.asarray(signed * np.where(row < len(of_voltage), sign, 1.0))
