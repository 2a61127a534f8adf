"""Whether the power flow has one solution, and finds it, for everything in a box of injections.

With u = V / w, voltages over those of the idle feeder, the AC power flow of :mod:`network.acflow` is the fixed point

    u_i = 1 + Σ_j Z_ij / (w_i w*_j) · (s_j / u_j)*                                                      (1)

Let û belong to the middle ŝ of the box, û_min be its smallest magnitude, and ξ(s) = max_i Σ_j |Z_ij s_j| / |w_i w_j|.  If ::

    ξ(ŝ) < û_min²   and   ξ(s − ŝ) < ρ²,   ρ = (û_min − ξ(ŝ) / û_min) / 2                               (2)

then (1) maps the set |u_j − û_j| <= ρ into itself and contracts there: in it there is exactly one solution, the iteration
finds it from anywhere in it, and it lies within ρ − √(ρ² − ξ(s − ŝ)) of û (Theorem 1 of [1]_; with ŝ = 0, û = 1 it is
ξ(s) < 1/4, the condition of [2]_).  ξ grows with every |s_j − ŝ_j|, so one evaluation holds for the whole box.  For two
buses and a load whose power factor is the line's, 1/4 is where the nose of the PV curve is: nothing is given away there.

A box counts as certified only if the idle voltages u = 1, where the iteration begins, are in that set too.  Both middles
are tried, that of the box and ŝ = 0, and the better is kept.  Not certified does not mean that there is no solution:
(2) is sufficient, not necessary.

Limits: constant power (no volt-var curves); an isolated solution far from û, of low voltages, is not excluded and need not be.

References
----------
.. [1] A. Bernstein, C. Wang, E. Dall'Anese, J.-Y. Le Boudec and C. Zhao, "Load flow in multiphase distribution
   networks: existence, uniqueness, non-singularity and linear models", IEEE Trans. Power Systems 33(6), 2018
   (arXiv:1702.03310).
.. [2] M. Bazrafshan and N. Gatsis, "Convergence of the Z-bus method for three-phase distribution load-flow with ZIP
   loads", IEEE Trans. Power Systems 33(1), 2018 (arXiv:1605.08511).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model

__all__ = ["BoxError", "Existence", "certify"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]

_AC_TOLERANCE_PU = 1e-12
_ROUNDING = 1e-9  # of ρ: what the arithmetic of the test itself may cost


class BoxError(ValueError):
    """The boxes as given are none; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Existence:
    """What is certain of T boxes."""

    certified: Mask
    """Every point has exactly one solution within ``unique_pu`` of ``middle_pu``, and the power flow finds it.  Shape (T,)."""

    margin: Vector
    """1 − ξ(s − ŝ)/ρ²: positive where certified; −inf where the middle has no solution or ξ(ŝ) is too large.  Shape (T,)."""

    middle_pu: Complex
    """Voltages at the nodes with connections (``Model.load_bus``) in the middle of the set.  Shape (l, T). [p.u.]"""

    unique_pu: Vector
    """ρ: in this distance from the middle, relative to the idle voltage, there is one solution.  Shape (T,)."""

    reach_pu: Vector
    """In this distance it lies; NaN where not certified.  Shape (T,)."""

    contraction: Vector
    """What a step of the power flow leaves of an error near the solution, at most; NaN where not certified.  Near 1, just
    before a margin of 0, the 200 steps of ``Model.solve`` may be too few; it says so then.  Shape (T,)."""


def certify(
    model: Model,
    p_low_kw: ArrayLike,
    p_high_kw: ArrayLike,
    q_low_kvar: ArrayLike,
    q_high_kvar: ArrayLike,
    source_v_pu: ArrayLike | None = None,
) -> Existence:
    """Return what is certain of every injection between the bounds.

    Of an envelope: ``p_low_kw = −import_limit_kw``, ``p_high_kw = export_limit_kw``; of a passive connection: its forecast twice.

    Parameters
    ----------
    model
        The feeder with c connections.
    p_low_kw, p_high_kw, q_low_kvar, q_high_kvar : shape (c, T)
        Bounds of the injections. [kW], [kvar]
    source_v_pu : number or shape (T,)
        Voltage behind the source impedance (for an interval of it: the lowest); None: as the feeder says. [p.u.]
    """
    low, high = _box(model, p_low_kw, p_high_kw, q_low_kvar, q_high_kvar)
    source = model.source_voltage(source_v_pu, low.shape[1])
    middle, half = (low + high) / 2.0, (high - low) / 2.0
    at_middle = _around(model, middle, np.abs(half), source)
    at_nothing = _around(model, np.zeros_like(middle), np.maximum.reduce(np.abs([low, high, low.real + 1j * high.imag, high.real + 1j * low.imag])), source)  # fmt: skip
    better = at_middle.margin >= at_nothing.margin
    return Existence(
        *(
            np.where(better, getattr(at_middle, name), getattr(at_nothing, name))
            for name in ("certified", "margin", "middle_pu", "unique_pu", "reach_pu", "contraction")
        )
    )


def _box(model: Model, *given: ArrayLike) -> tuple[Complex, Complex]:
    """Return the lowest and the highest corner of each box, (c, T), or say what is wrong."""
    names = ("p_low_kw", "p_high_kw", "q_low_kvar", "q_high_kvar")
    tables = [np.asarray(one, dtype=np.float64) for one in given]
    shape = tables[0].shape
    wrong = []
    for name, table in zip(names, tables, strict=True):
        if table.ndim != 2 or table.shape[0] != model.n_connection or table.shape != shape:
            wrong.append(
                f"{name} has shape {table.shape}; expected one row for each of the {model.n_connection} connections and "
                f"one column for each box, as p_low_kw has ({shape})."
            )
        elif not np.isfinite(table).all():
            row, column = (int(k) for k in np.argwhere(~np.isfinite(table))[0])
            wrong.append(
                f"{name} is {table[row, column]} for connection {row} in box {column}. An envelope says inf of a passive "
                f"connection: give its forecast, as both bounds."
            )
    if not wrong:
        for low, high, bounds in ((0, 1, names[:2]), (2, 3, names[2:])):
            odd = np.argwhere(tables[low] > tables[high])
            if len(odd):
                row, column = (int(k) for k in odd[0])
                wrong.append(
                    f"{bounds[0]} is {tables[low][row, column]:g}, above {bounds[1]} of {tables[high][row, column]:g}, for "
                    f"connection {row} in box {column}."
                )
    if wrong:
        raise BoxError("no box: " + " ".join(wrong))
    return tables[0] + 1j * tables[2], tables[1] + 1j * tables[3]


def _around(model: Model, middle: Complex, radius_kva: Vector, source: Vector) -> Existence:
    """Evaluate (2) around a middle, for all that lies within a radius of it; c connections, T boxes."""
    idle = model.w[model.load_bus][:, None] * source
    power = model.gather(middle)
    voltage, solved, _ = model.fixed_point(power, source, _AC_TOLERANCE_PU)
    size = np.abs(model.z[model.load_bus])

    def xi(apparent: Vector) -> Vector:
        return np.asarray((size @ (apparent / np.abs(idle)) / np.abs(idle)).max(axis=0, initial=0.0))

    with np.errstate(all="ignore"):
        u = voltage / idle
        lowest = np.abs(u).min(axis=0, initial=1.0)
        rho = (lowest - xi(np.abs(power)) / lowest) / 2.0
        further = xi(model.incidence @ radius_kva)
        margin = np.where(solved & (rho > 0), 1.0 - further / rho**2, -np.inf)
        begins_inside = np.abs(1.0 - u).max(axis=0, initial=0.0) <= rho
        certified = (margin > _ROUNDING) & begins_inside
        reach = np.where(certified, rho - np.sqrt(np.maximum(rho**2 - further, 0.0)), np.nan)
        contraction = (xi(np.abs(power)) + further) / (lowest - reach) ** 2
    return Existence(
        certified, np.where(begins_inside, margin, np.minimum(margin, 0.0)), voltage, rho, reach, contraction
    )
