"""Every limit of a feeder at very many operating points, in bounded memory.

The limits are those of a :class:`~network.headroom.Headroom`, which follows few points closely; here millions are read and only
the worst place of each is kept.  Voltages and branch currents are linear in the currents that customers inject
(:mod:`network.ladder`), so all that is limited is one matrix product per batch::

    y = M I + m v_source,   I = conj(S / V)   from the AC power flow at the customers' nodes              (1)

with a row of M for every limited voltage, and one for each end of every rated wire.  Rows that are the same number (the
buses behind the last customer, the pieces of a cable without capacitance) stand once in M, with the tightest bound of
all of them: nothing is skipped, and on the European LV feeder a quarter of the rows is left.  How far a limit is passed is
measured relative to itself (of voltages, not of their squares, which :mod:`network.headroom` compares)::

    over-voltage |V|/v_max − 1,   under-voltage 1 − |V|/v_min,   overload loading/loading_max − 1         (2)

An operating point whose power flow does not converge, or where any of these is NaN, breaks every limit (inf).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from network.headroom import Headroom

__all__ = ["EXCESSES", "KINDS", "TOLERANCE", "Measure", "Reading"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

KINDS = ("over_voltage", "under_voltage", "overload")
"""What can be wrong, in the order of the rows of a reading."""

EXCESSES = (("over_voltage", "pu"), ("under_voltage", "pu"), ("overload", "percent"), ("overload", "kva"))
"""What is told of how far limits are passed, with units: an overload in per cent and in kVA."""

TOLERANCE = 1e-9
"""A limit is broken where (2) is above this: ten times the tolerance of the power flow."""

_SAME = 1e-12
_ENTRIES = 1 << 18  # complex numbers of a batch: four megabytes stay near the processor


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What S operating points come to: the worst place of each kind."""

    beyond: Vector
    """How far the limit is passed there, (2): negative where it is kept, −inf where there is none, inf where the power
    flow has no solution.  Shape (3, S), rows as in :data:`KINDS`."""

    place: Index
    """Which limit, an index of ``Measure.elements``; −1 where there is none, or no solution.  Shape (3, S)."""

    v_high_pu: Vector
    """Highest limited voltage, NaN without a solution.  Shape (S,). [p.u.]"""

    v_low_pu: Vector
    """Lowest limited voltage.  Shape (S,). [p.u.]"""

    solved: Mask
    """Shape (S,)."""

    @property
    def broken(self) -> Mask:
        """Whether any limit is passed, or the power flow has no solution.  Shape (S,)."""
        return np.asarray(~self.solved | ~(self.beyond.max(axis=0) <= TOLERANCE))


class Measure:
    """A feeder and its limits, made ready for millions of operating points."""

    def __init__(self, headroom: Headroom) -> None:
        self.headroom = headroom
        self.model = model = headroom.model
        bus, branch, ends, z = model.node_bus, model.wire_branch, model.ends, model.z
        highest, lowest, most = headroom.node_high, headroom.node_low, headroom.wire_most
        watched, rated = np.union1d(headroom.above, headroom.below), headroom.rated
        rows, free = z[watched], model.w[watched]
        group, first = _same(rows, free)
        self._v, self._v_free = np.ascontiguousarray(rows[first]), free[first]
        self._highest, high_at = _tightest(highest[watched], group, len(first), np.minimum)
        self._lowest, low_at = _tightest(lowest[watched], group, len(first), np.maximum)

        scale = 1.0 / most[rated]
        percent = np.concatenate([ends.from_percent[rated] * scale, ends.to_percent[rated] * scale])
        of_ones, of_nobody = (
            np.vstack([end[rated] for end in into])
            for into in (headroom.currents_of_z, ends.currents(model.w[:, None]))
        )  # for 1 pu injected at each node, and for nothing
        flows, flows_free = of_ones * percent[:, None], of_nobody[:, 0] * percent
        is_trafo = np.tile(~ends.is_line[rated], 2)
        at = np.concatenate([ends.from_bus[rated], ends.to_bus[rated]])
        lines, trafos = np.flatnonzero(~is_trafo), np.flatnonzero(is_trafo)
        group, first_line, line_at = _heaviest(flows[lines], flows_free[lines])
        kept = np.concatenate([lines[first_line], trafos])
        self._i, self._i_free = np.ascontiguousarray(flows[kept]), flows_free[kept]
        self._n_line = len(first_line)
        self._t, self._t_free = z[at[trafos]], model.w[at[trafos]]

        ids, wires = model.feeder.buses.ids, model.feeder.branches.ids
        phase = (" a", " b", " c") if model.three_phase else ("", "", "")
        twice = np.tile(rated, 2)
        names = [ids[bus[k]] + phase[k % 3] for k in watched]
        self.elements: tuple[str, ...] = (
            *(names[k] for k in high_at),
            *(names[k] for k in low_at),
            *(wires[branch[k]] + phase[k % 3] for k in (*twice[lines][line_at], *twice[trafos])),
        )
        """Which element each limit belongs to, with its phase."""
        self.limits: Vector = np.concatenate(
            [self._highest, self._lowest, most[twice[lines][line_at]], most[twice[trafos]]]
        )
        """The bound of each. [p.u.] or [%]"""
        kva = model.kva_per_pu / np.concatenate([ends.from_percent[rated], ends.to_percent[rated]])
        self.kva_per_percent: Vector = np.concatenate([np.zeros(2 * len(self._v)), kva[lines][line_at], kva[trafos]])
        """What one per cent of loading is at the nominal voltage, 0 for voltages; of a phase in three phases. [kVA/%]"""
        there, carrying = model.node_there, model.wire_there
        self.node_high, self.node_low, self.wire_most = highest[there], lowest[there], most[carrying]
        self.has_high, self.has_low = self.node_high < np.inf, self.node_low > 0
        self.has_most = np.isin(np.flatnonzero(carrying), rated)
        """Bounds of the rows of a :class:`~network.acflow.Flow`, and which of them there are."""
        self.n_row = len(self._v) + len(self._i)
        self.n_limit = int((highest[watched] < np.inf).sum() + (lowest[watched] > 0).sum() + len(rated))
        """Limits before equal rows were put together."""
        self.chunk = int(np.clip(_ENTRIES // max(self.n_row, len(model.load_bus), 1), 16, 8192))
        """Operating points at once."""

    def read(self, injection: Complex, source: Vector) -> Reading:
        """Measure operating points, a bounded number at once.

        Parameters
        ----------
        injection : shape (c, S)
            [kW + j kvar]
        source : shape (S,)
            Voltage of the source. [p.u.]
        """
        points = injection.shape[1]
        beyond, place = np.full((3, points), -np.inf), np.full((3, points), -1, dtype=np.intp)
        high, low, solved = np.empty(points), np.empty(points), np.empty(points, dtype=bool)
        for begin in range(0, points, self.chunk):
            part = slice(begin, begin + self.chunk)
            self._read(
                injection[:, part], source[part], beyond[:, part], place[:, part], high[part], low[part], solved[part]
            )
        return Reading(beyond, place, high, low, solved)

    def excess(self, reading: Reading) -> Vector:
        """Return how far the worst element of each kind passes its limit: rows as in :data:`EXCESSES`.

        Zero where the limit is kept, NaN where the power flow has no solution.  Shape (4, S).
        """
        passed = (reading.beyond > TOLERANCE) & reading.solved
        found = np.zeros((4, len(reading.solved)))
        place = reading.place[passed]
        found[:3][passed] = reading.beyond[passed] * self.limits[place]
        found[3, passed[2]] = found[2, passed[2]] * self.kva_per_percent[reading.place[2, passed[2]]]
        found[:, ~reading.solved] = np.nan
        return found

    def settled(self, injection: Complex, source: Vector) -> Complex:
        """Return the injections with what the curves add: (c, S) to (c, S); as given where there is no solution. [kW + j kvar]"""
        curve = self.headroom.curve
        if curve is None:
            return injection
        load_v, _, solved = self.headroom.settle(injection, source)
        v_pu = np.zeros((self.model.n_connection, len(source)))
        mine = (self.model.incidence > 0).T
        v_pu[:] = mine @ np.abs(load_v) / mine.sum(axis=1, keepdims=True)
        return np.asarray(injection + 1j * np.where(solved, curve.q_at(np.nan_to_num(v_pu, nan=1.0)), 0.0))

    def with_impedance(self, factor: float) -> Measure:
        """Return the same of a feeder whose series impedances are all multiplied."""
        return self if factor == 1.0 else Measure(self.headroom.with_impedance(factor))

    def _read(
        self, injection: Complex, source: Vector, beyond: Vector, place: Index, high: Vector, low: Vector, solved: Mask
    ) -> None:
        """Fill in the columns of one batch."""
        load_v, power, solved[:] = self.headroom.settle(injection, source)
        columns, n = np.arange(len(source)), len(self._v)
        with np.errstate(all="ignore"):
            current = np.conj(power / load_v)
            if n:
                size = _size(self._v, self._v_free, current, source)
                high[:], low[:] = size.max(axis=0), size.min(axis=0)
                over = size / self._highest[:, None]
                place[0] = over.argmax(axis=0)
                beyond[0] = over[place[0], columns] - 1.0
                under = np.divide(size, self._lowest[:, None], out=over)
                place[1] = under.argmin(axis=0)
                beyond[1] = 1.0 - under[place[1], columns]
                place[1] += n
            else:
                high[:], low[:] = np.nan, np.nan
            if len(self._i):
                load = _size(self._i, self._i_free, current, source)
                load[self._n_line :] *= _size(self._t, self._t_free, current, source)
                place[2] = load.argmax(axis=0)
                beyond[2] = load[place[2], columns] - 1.0
                place[2] += 2 * n
        solved &= ~np.isnan(beyond).any(axis=0)
        beyond[:, ~solved], place[:, ~solved] = np.inf, -1
        high[~solved] = low[~solved] = np.nan


def _size(matrix: Complex, free: Complex, current: Complex, source: Vector) -> Vector:
    """Return |y| of (1).  Shape (k, S)."""
    y = matrix @ current
    y += free[:, None] * source
    return np.asarray(np.abs(y))


def _same(rows: Complex, free: Complex) -> tuple[Index, Index]:
    """Return the group of each row, equal rows being in one, and the first row of each group."""
    whole = np.hstack([rows, free[:, None]])
    size = np.abs(whole).max(axis=0, initial=0.0)
    scaled = whole / np.where(size > 0, size, 1.0)
    rounded = np.round(np.ascontiguousarray(scaled).view(np.float64) / _SAME / 10.0) + 0.0
    _, first, group = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    return np.asarray(group).reshape(-1), first


def _tightest(bound: Vector, group: Index, n: int, choose: np.ufunc) -> tuple[Vector, Index]:
    """Return the tightest bound of each group, and whose it is."""
    tight = np.full(n, np.inf if choose is np.minimum else 0.0)
    choose.at(tight, group, bound)
    owner = np.zeros(n, dtype=np.intp)
    mine = np.flatnonzero(bound == tight[group])[::-1]
    owner[group[mine]] = mine
    return tight, owner


def _heaviest(rows: Complex, free: Complex) -> tuple[Index, Index, Index]:
    """Return the group of each row that differs from others by a factor alone, and the largest row of each group."""
    whole = np.hstack([rows, free[:, None]])
    norm = np.linalg.norm(whole, axis=1)
    largest = np.abs(whole).argmax(axis=1)
    turn = whole[np.arange(len(whole)), largest]
    with np.errstate(all="ignore"):
        unit = np.where(norm[:, None] > 0, whole / norm[:, None] * np.conj(turn / np.abs(turn))[:, None], 0.0)
    group, _ = _same(unit[:, :-1], unit[:, -1])
    order = np.lexsort((np.arange(len(norm)), -norm, group))
    found, place = np.unique(group[order], return_index=True)
    first = order[place]
    return np.searchsorted(found, group), first, first
