"""The power flow of a radial network, compiled: two walks along the tree, eight operating points side by side.

What a network answers to injected currents is found by walking its tree twice (:mod:`network.rungs` has the factors)::

    towards the source    J[above] += up J                                                             (1)
    away from it          V = down V[above] + local J,    V[source] = w v_source + local J             (2)

* :func:`settle` repeats I = conj(S / V), (1), (2) until no voltage moves any more, on a tree of which only the nodes with
  connections and the forks between them are left;
* :func:`spread` does it once for a whole tree and has currents, powers, losses and loadings ready on the way back.
  The current into a branch is J − below V at its lower end and above V[above] − up J at its upper one: what goes on from
  there and what the admittance behind it takes.  Nothing is a difference of two voltages;
* :func:`answer` does it once for given currents.

A lane that has settled keeps its voltages while its neighbours go on, so an operating point has the same digits in
whatever company.  How many phases f there are is the length of a tuple, which is known when a kernel is compiled.

Tables have a column for each operating point; ``begins`` are the columns at which eight of them begin.
The compiler's cache looks at this file alone: whoever edits :mod:`network.kernel_lanes` removes ``network/__pycache__``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from network.kernel_lanes import (
    EXACT,
    EXACT_PART,
    LANES,
    choose,
    fetch,
    fetch_imaginary,
    fetch_real,
    fma,
    fnma,
    larger,
    load,
    many,
    nothing,
    put,
    put_complex,
    root,
    store,
    sum_up,
)
from network.kernel_shapes import Branches, Columns, Injected, Phases, Tree

__all__ = ["answer", "settle", "spread"]

Vector = NDArray[np.float64]
Index = NDArray[np.intp]
Eight = Any  # a vector of eight lanes

_FINITE = 1e300


@njit(**EXACT_PART)
def _times(
    phases: Phases, re: Vector, im: Vector, row: int, xr: Vector, xi: Vector, first: int, x: Eight, y: Eight
) -> tuple[Eight, Eight]:
    """Return x + jy plus a row of a block times f numbers."""
    f = len(phases)
    for k in range(f):
        a, b, r, m = many(re, row * f + k), many(im, row * f + k), load(xr, first + k), load(xi, first + k)
        x, y = fnma(b, m, fma(a, r, x)), fma(b, r, fma(a, m, y))
    return x, y


@njit(**EXACT_PART)
def _gather(tree: Tree, given: Injected, column: int, pr: Vector, pi: Vector) -> None:
    """Add up what connections inject at the same node."""
    row, at, owner, share, active, reactive = tree.row, given.at, given.owner, given.share, given.active, given.reactive
    for r in row:
        store(pr, r, nothing())
        store(pi, r, nothing())
    for t in range(len(at)):
        r, part = row[at[t]], many(share, t)
        store(pr, r, fma(part, fetch(active, owner[t], column), load(pr, r)))
        store(pi, r, fma(part, fetch(reactive, owner[t], column), load(pi, r)))


@njit(**EXACT_PART)
def _currents(
    phases: Phases, tree: Tree, draws: bool, pr: Vector, pi: Vector, vr: Vector, vi: Vector, jr: Vector, ji: Vector
) -> None:
    """(1); ``draws``: with I = conj(S / V) found on the way, else with the currents ``pr``, ``pi``."""
    f = len(phases)
    parent, plain, leaf, last, loaded = tree.parent, tree.plain, tree.leaf, tree.last, tree.loaded
    up_re, up_im = tree.up_re, tree.up_im
    for b in range(len(parent) - 1, -1, -1):
        for i in range(f):
            r = b * f + i
            x, y = nothing(), nothing()
            if not leaf[b]:
                x, y = load(jr, r), load(ji, r)
            if loaded[r]:
                p, q = load(pr, r), load(pi, r)
                if draws:
                    re, im = load(vr, r), load(vi, r)
                    over = 1.0 / fma(re, re, im * im)
                    x, y = fma(fma(p, re, q * im), over, x), fma(fnma(q, re, p * im), over, y)
                else:
                    x, y = x + p, y + q
            store(jr, r, x)
            store(ji, r, y)
        a = parent[b]
        for i in range(f * (b > 0)):
            x, y = nothing(), nothing()
            if not last[b]:
                x, y = load(jr, a * f + i), load(ji, a * f + i)
            if plain[b]:
                x, y = x + load(jr, b * f + i), y + load(ji, b * f + i)
            else:
                x, y = _times(phases, up_re, up_im, b * f + i, jr, ji, b * f, x, y)
            store(jr, a * f + i, x)
            store(ji, a * f + i, y)


@njit(**EXACT_PART)
def _voltages(
    phases: Phases, tree: Tree, source: Eight, going: Eight, jr: Vector, ji: Vector, vr: Vector, vi: Vector
) -> tuple[Eight, Eight]:
    """(2); voltages at nodes with connections stay where a lane does not go on.

    Return the largest of their moves squared, and the sum of all.
    """
    f = len(phases)
    parent, plain, loaded, w_re, w_im = tree.parent, tree.plain, tree.loaded, tree.w_re, tree.w_im
    down_re, down_im, local_re, local_im = tree.down_re, tree.down_im, tree.local_re, tree.local_im
    moved, total = nothing(), nothing()
    for b in range(len(parent)):
        a = parent[b]
        for i in range(f):
            r = b * f + i
            x, y = nothing(), nothing()
            if b == 0:
                x, y = many(w_re, i) * source, many(w_im, i) * source
            elif plain[b]:
                x, y = load(vr, a * f + i), load(vi, a * f + i)
            else:
                x, y = _times(phases, down_re, down_im, r, vr, vi, a * f, x, y)
            x, y = _times(phases, local_re, local_im, r, jr, ji, b * f, x, y)
            if loaded[r]:
                x_before, y_before = load(vr, r), load(vi, r)
                dx, dy = x - x_before, y - y_before
                move = fma(dx, dx, dy * dy)
                moved, total = larger(move, moved), total + move
                x, y = choose(going, 0.5, x, x_before), choose(going, 0.5, y, y_before)
            store(vr, r, x)
            store(vi, r, y)
    return moved, total


@njit(**EXACT)
def settle(
    phases: Phases,
    tree: Tree,
    given: Injected,
    start: Vector,
    tolerance: float,
    most: int,
    volts: Vector,
    settled: Vector,
    begins: Index,
) -> int:
    """Find the voltages at the nodes with connections; return the steps of the slowest operating point.

    ``start`` are voltages to begin with, a column for each point or one for a source of 1 pu.  Written are ``volts``,
    shape (l, 2 S), and ``settled``, 1.0 or 0.0, shape (1, S).
    """
    row, source, n = tree.row, given.source, len(tree.loaded)
    square, slowest = tolerance * tolerance, 0
    jr, ji, vr, vi = np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES))
    pr, pi = np.empty((n, LANES)), np.empty((n, LANES))
    for begin in begins:
        fed = fetch(source, 0, begin)
        _gather(tree, given, begin, pr, pi)
        for k in range(len(row)):
            if start.shape[1] > 2:
                store(vr, row[k], fetch_real(start, k, begin))
                store(vi, row[k], fetch_imaginary(start, k, begin))
            else:
                store(vr, row[k], start[k, 0] * fed)
                store(vi, row[k], start[k, 1] * fed)
        going, well, step = nothing() + 1.0, nothing(), 0
        while step < most and sum_up(going) > 0.0:
            step += 1
            _currents(phases, tree, True, pr, pi, vr, vi, jr, ji)
            moved, total = _voltages(phases, tree, fed, going, jr, ji, vr, vi)
            arrived = choose(moved, square, nothing(), going)
            arrived = choose(_FINITE, total, arrived, nothing())  # a NaN is not seen in the largest
            well = well + arrived
            going = choose(_FINITE, total, going - arrived, nothing())
        for k in range(len(row)):
            put_complex(volts, k, begin, load(vr, row[k]), load(vi, row[k]))
        put(settled, 0, begin, well)
        slowest = max(slowest, step)
    return slowest


@njit(**EXACT)
def spread(
    phases: Phases,
    tree: Tree,
    given: Injected,
    volts: Vector,
    seen: Index,
    flows: bool,
    branches: Branches,
    out: Columns,
    begins: Index,
) -> None:
    """Write what is asked for, from the voltages at the nodes with connections.

    ``seen`` is the row of ``out.v_pu`` of each node, −1 where not asked for; ``flows``: whether the rest is.
    """
    n, row, source, v_pu = len(tree.loaded), tree.row, given.source, out.v_pu
    jr, ji, vr, vi = np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES))
    pr, pi = np.empty((n, LANES)), np.empty((n, LANES))
    for begin in begins:
        _gather(tree, given, begin, pr, pi)
        for k in range(len(row)):
            store(vr, row[k], fetch_real(volts, k, begin))
            store(vi, row[k], fetch_imaginary(volts, k, begin))
        _currents(phases, tree, True, pr, pi, vr, vi, jr, ji)
        _voltages(phases, tree, fetch(source, 0, begin), nothing() + 1.0, jr, ji, vr, vi)
        for r in range(n):
            if seen[r] >= 0:
                x, y = load(vr, r), load(vi, r)
                put(v_pu, seen[r], begin, root(fma(x, x, y * y)))
        if flows:
            _flows(phases, tree, begin, jr, ji, vr, vi, branches, out)


@njit(**EXACT_PART)
def _flows(
    phases: Phases, tree: Tree, begin: int, jr: Vector, ji: Vector, vr: Vector, vi: Vector, to: Branches, out: Columns
) -> None:
    """Write the flows of the branch above each bus, and what comes from the grid above."""
    f, kva, parent, plain, up_re, up_im = len(phases), to.kva, tree.parent, tree.plain, tree.up_re, tree.up_im
    line, downwards, shunt, trafo = to.row, to.downwards, to.shunt, to.trafo
    below_re, below_im, above_re, above_im = to.below_re, to.below_im, to.above_re, to.above_im
    base_from_a, from_percent, to_percent = to.base_from_a, to.from_percent, to.to_percent
    p_kw, q_kvar, current_a, loading, loss_kw = out.p_kw, out.q_kvar, out.current_a, out.loading_percent, out.loss_kw
    p_grid, q_grid = nothing(), nothing()
    for b in range(len(parent)):
        a = parent[b]
        for i in range(f):
            r = b * f + i
            at = line[r]
            if b > 0 and at < 0:
                continue
            x, y, re, im = load(vr, r), load(vi, r), load(jr, r), load(ji, r)
            if shunt[b]:
                s, t = _times(phases, below_re, below_im, r, vr, vi, b * f, nothing(), nothing())
                re, im = re - s, im - t
            p_here, q_here = fma(x, re, y * im), fnma(x, im, y * re)  # into the branch at this bus
            if b == 0:
                p_grid, q_grid = p_grid - p_here, q_grid - q_here
                continue
            size_to = root(fma(re, re, im * im))
            re, im = nothing(), nothing()
            if shunt[b]:
                re, im = _times(phases, above_re, above_im, r, vr, vi, a * f, re, im)
            if plain[b]:
                re, im = re - load(jr, r), im - load(ji, r)
            else:
                s, t = _times(phases, up_re, up_im, r, jr, ji, b * f, nothing(), nothing())
                re, im = re - s, im - t
            size_from = root(fma(re, re, im * im))
            xa, ya = load(vr, a * f + i), load(vi, a * f + i)
            p_above, q_above = fma(xa, re, ya * im), fnma(xa, im, ya * re)  # and at the bus above
            put(loss_kw, at, begin, kva * (p_here + p_above))
            if not downwards[b]:
                size_from, size_to, p_above, q_above = size_to, size_from, p_here, q_here
            put(p_kw, at, begin, kva * p_above)
            put(q_kvar, at, begin, kva * q_above)
            put(current_a, at, begin, many(base_from_a, at) * size_from)
            if trafo[b]:
                v_from, v_to = root(fma(xa, xa, ya * ya)), root(fma(x, x, y * y))
                if not downwards[b]:
                    v_from, v_to = v_to, v_from
                size_from, size_to = size_from * v_from, size_to * v_to
            put(loading, at, begin, larger(many(from_percent, at) * size_from, many(to_percent, at) * size_to))
    put(out.grid, 0, begin, kva * p_grid)
    put(out.grid, 1, begin, kva * q_grid)


@njit(**EXACT)
def answer(
    phases: Phases, tree: Tree, seen: Index, currents: Vector, source: Vector, volts: Vector, begins: Index
) -> None:
    """Write the voltages at ``seen`` nodes (r, 2 S) for currents at the nodes with connections (l, 2 S)."""
    n, row = len(tree.loaded), tree.row
    jr, ji, vr, vi = np.empty((n, LANES)), np.empty((n, LANES)), np.zeros((n, LANES)), np.zeros((n, LANES))
    pr, pi = np.empty((n, LANES)), np.empty((n, LANES))
    for begin in begins:
        for k in range(len(row)):
            store(pr, row[k], fetch_real(currents, k, begin))
            store(pi, row[k], fetch_imaginary(currents, k, begin))
        _currents(phases, tree, False, pr, pi, vr, vi, jr, ji)
        _voltages(phases, tree, fetch(source, 0, begin), nothing() + 1.0, jr, ji, vr, vi)
        for k in range(len(seen)):
            put_complex(volts, k, begin, load(vr, seen[k]), load(vi, seen[k]))
