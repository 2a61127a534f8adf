"""Lines and transformers of a circuit of OpenDSS, as records of a feeder.

A line is the admittance that OpenDSS made of it: sequences where its phases are alike, else conductor by conductor, with the
capacitances that have the same susceptance at 50 Hz.  One whose reactance OpenDSS leaves out (a switch) has none here.

Three-phase transformers are star-star, delta-star or delta-delta, their taps part of the rated voltages.  Single-phase ones from
one bus to another, phase by phase and star-star, are a bank: one branch whose phases have turns of their own (regulators; the
taps are where they stand when the circuit is read).  The units of a bank may differ in the taps of their second winding alone.

Limits: no neutral as a node; a transformer's no-load current is divided between its two ends, OpenDSS has it at one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.elements import Line, Transformer
from network.opendss_circuit import Circuit

__all__ = ["lines", "nominal_v", "taps", "transformers"]

Complex = NDArray[np.complex128]
Vector = NDArray[np.float64]
Branch = Line | Transformer
Ends = list[tuple[str, tuple[int, ...]]]

_METRES = {"mi": 1609.344, "kft": 304.8, "km": 1000.0, "m": 1.0, "ft": 0.3048, "in": 0.0254, "cm": 0.01, "mm": 0.001}
_NO_CAPACITANCE_NF = 1e-5
_NO_OHM = 1e-12
"""Beside the size of an impedance: what inverting leaves of nothing."""


def lines(dss: Circuit) -> Iterator[Line]:
    """Yield the lines."""
    refused: dict[str, list[str]] = {
        "lines with nodes other than 1, 2 and 3; leave the neutral to OpenDSS (Kron reduction)": [],
        "lines whose conductors change places between their ends": [],
    }
    neutral, crossed = refused.values()
    for element in dss.enabled("line"):
        (one, nodes), (other, same) = dss.ends(element)[:2]
        if not set(nodes + same) <= {1, 2, 3} or len(set(nodes)) != len(nodes):
            neutral.append(element)
        elif nodes != same:
            crossed.append(element)
        else:
            yield _line(dss, element, one, other, nodes)
    dss.refuse(refused)


def _line(dss: Circuit, element: str, one: str, other: str, nodes: tuple[int, ...]) -> Line:
    dss.circuit.SetActiveElement(element)
    active, size = dss.circuit.ActiveCktElement, len(nodes)
    is_open = any(active.IsOpen(terminal, 0) for terminal in (1, 2))
    if is_open:  # its admittance is not to be had: told by its code
        z, c = _of_code(dss, element)
    else:
        y = dss.admittance(element)
        z = np.asarray(np.linalg.inv(-y[:size, size:]), dtype=np.complex128)
        half = (y[:size, :size] + y[:size, size:]).imag
        c = 2 * half / (2 * math.pi * 50.0) * 1e9
        z.imag[np.abs(z.imag) < _NO_OHM * np.abs(z).max()] = 0.0
    order = np.argsort(nodes)
    z, c = z[np.ix_(order, order)], c[np.ix_(order, order)]
    z, c = (z + z.T) / 2, (c + c.T) / 2
    c[np.abs(c) < _NO_CAPACITANCE_NF] = 0.0
    phases = "".join("abc"[nodes[k] - 1] for k in order)
    units = dss.asked(element, "units").lower()
    length = dss.number(element, "length") * _METRES.get(units, math.nan)
    rating = dss.number(element, "normamps")
    z1, z0, c1, c0, alike = _sequences(z, c)
    return Line(
        element.partition(".")[2],
        one,
        other,
        z1.real,
        z1.imag,
        rating_a=rating if rating > 0 else math.inf,
        c1_nf=max(c1, 0.0),
        r0_ohm=z0.real,
        x0_ohm=z0.imag,
        c0_nf=max(c0, 0.0),
        length_m=length,
        in_service=not is_open,
        phases=phases,
        z_abc_ohm=None if alike else _whole(z, phases),
        c_abc_nf=None if alike else _whole(c, phases),
    )


def _of_code(dss: Circuit, element: str) -> tuple[Complex, Vector]:
    """Return the matrices of a line that is open, by its properties."""
    lines = dss.circuit.Lines
    lines.Name = element.partition(".")[2]
    r, x, c = (np.asarray(getattr(lines, name), dtype=np.float64) for name in ("Rmatrix", "Xmatrix", "Cmatrix"))
    size = math.isqrt(r.size)
    z: Complex = np.asarray((r + 1j * x).reshape(size, size) * float(lines.Length), dtype=np.complex128)
    return z, c.reshape(size, size) * float(lines.Length) * dss.hertz / 50.0


def transformers(dss: Circuit) -> Iterator[tuple[Transformer, tuple[float, float]]]:
    """Yield the transformers, with their rated voltages at neutral taps. [V]"""
    refused: dict[str, list[str]] = {}
    banks: dict[tuple[str, str], list[str]] = {}
    for element in dss.enabled("transformer"):
        terminals, star = dss.ends(element), _stars(dss, element)
        what = _no_place(dss, element, terminals, star)
        if what:
            refused.setdefault(what, []).append(element)
        elif dss.number(element, "phases") == 1:
            banks.setdefault((terminals[0][0], terminals[1][0]), []).append(element)
        else:
            yield _transformer(dss, element, terminals, star)
    for units in banks.values():
        found = _bank(dss, units)
        if found is None:
            what = "single-phase transformers side by side that share a phase, or differ in more than the taps of winding 2"
            refused.setdefault(what, []).extend(units)
        else:
            yield found
    dss.refuse(refused)


def _stars(dss: Circuit, element: str) -> list[bool]:
    """Tell which windings are in star."""
    connections = [one.strip().lower() for one in dss.asked(element, "conns").strip("[] ").split(",")]
    return [one.startswith(("w", "ln")) for one in connections if one]


def _no_place(dss: Circuit, element: str, terminals: Ends, star: list[bool]) -> str:
    """Say why a transformer has no place in a feeder; "" where it has one."""
    phases = int(dss.number(element, "phases"))
    if dss.number(element, "windings") != 2 or phases not in {1, 3}:
        return "transformers with other than two windings, or of two phases"
    if phases == 1:
        hot = {nodes[:1] for _, nodes in terminals}
        earthed = all(nodes[1:] in ((), (0,)) for _, nodes in terminals)
        if not (all(star) and earthed and len(hot) == 1 and next(iter(hot))[0] in {1, 2, 3}):
            return "single-phase transformers other than from a phase and earth to the same phase and earth"
        return ""
    if star[0] and not star[1]:
        return "transformers whose second winding is a delta and the first is not; its voltages have no earth"
    if any(nodes[:3] != (1, 2, 3) for _, nodes in terminals) or any(
        is_star and nodes[3:] not in ((), (0,)) for (_, nodes), is_star in zip(terminals, star, strict=True)
    ):
        return "transformers with exchanged phases or a neutral that is not earthed"
    return ""


def _transformer(
    dss: Circuit, element: str, terminals: Ends, star: list[bool]
) -> tuple[Transformer, tuple[float, float]]:
    kv, own = dss.numbers(element, "kvs"), dss.numbers(element, "taps")
    lag = dss.asked(element, "leadlag").lower() in ("lag", "ansi")
    like = star[0] == star[1]
    return Transformer(
        element.partition(".")[2],
        terminals[0][0],
        terminals[1][0],
        v_from_v=kv[0] * 1e3 * own[0],
        v_to_v=kv[1] * 1e3 * own[1],
        clock=0 if like else (1 if lag else 11),
        windings="" if star[1] else "dd",
        **_figures(dss, element, 1),
    ), (kv[0] * 1e3, kv[1] * 1e3)


def _figures(dss: Circuit, element: str, units: int) -> dict[str, Any]:
    """Return rated power, impedance and no-load figures, of so many units together."""
    kva = dss.numbers(element, "kvas")
    r = sum(one * kva[0] / own for one, own in zip(dss.numbers(element, "%rs"), kva, strict=True))
    loss, imag = dss.number(element, "%noloadloss"), dss.number(element, "%imag")
    return {
        "sn_kva": units * kva[0],
        "uk_percent": math.hypot(r, dss.number(element, "xhl")),
        "pk_kw": units * (r / 100 * kva[0]),
        "i0_percent": math.hypot(loss, imag),
        "p0_kw": units * (loss / 100 * kva[0]),
    }


def _bank(dss: Circuit, units: list[str]) -> tuple[Transformer, tuple[float, float]] | None:
    """Return single-phase transformers side by side as one branch; None where they cannot be one."""
    phases = ["abc"[dss.ends(unit)[0][1][0] - 1] for unit in units]
    kv = dss.numbers(units[0], "kvs")
    own = [dss.numbers(unit, "taps") for unit in units]
    alike = all(
        dss.numbers(unit, "kvs") == kv and _figures(dss, unit, 3) == _figures(dss, units[0], 3) and one[0] == own[0][0]
        for unit, one in zip(units, own, strict=True)
    )
    if not alike or len(set(phases)) != len(phases):
        return None
    turns = dict(zip(phases, (one[1] for one in own), strict=True))
    ends = dss.ends(units[0])
    named = {dss.asked(unit, "bank").lower() for unit in units}
    together = named.pop() if len(named) == 1 else ""
    rated = kv[0] * 1e3 * math.sqrt(3.0), kv[1] * 1e3 * math.sqrt(3.0)
    return Transformer(
        together or "+".join(unit.partition(".")[2] for unit in units),
        ends[0][0],
        ends[1][0],
        v_from_v=rated[0] * own[0][0],
        v_to_v=rated[1],
        phases="".join(sorted(phases)),
        turns=(turns.get("a", math.nan), turns.get("b", math.nan), turns.get("c", math.nan)),
        **_figures(dss, units[0], 3),
    ), rated


def taps(dss: Circuit) -> str:
    """Say where the taps of regulated transformers stand; "" without any."""
    said = []
    for element in dss.enabled("regcontrol"):
        name = dss.asked(element, "transformer").lower()
        own = dss.numbers(f"transformer.{name}", "taps")
        said.append(f"{name} {own[int(dss.number(element, 'winding')) - 1]:.6g}")
    return ", ".join(said)


def _sequences(z: Complex, c: Vector) -> tuple[complex, complex, float, float, bool]:
    """Return z1, z0, c1 and c0 of matrices between conductors, and whether they say all: the conductors are alike."""
    size = len(z)
    beside = ~np.eye(size, dtype=bool)
    found, alike = [], True
    for matrix in (z, c):
        own = matrix.trace() / size
        mutual = matrix[beside].mean() if size > 1 else 0.0
        found += [own - mutual, own + 2 * mutual]
        alike &= np.allclose(matrix, np.where(beside, mutual, own), rtol=0, atol=1e-10 * abs(own))
    z1, z0, c1, c0 = found
    return complex(z1), complex(z0), float(c1.real), float(c0.real), alike


def _whole(matrix: NDArray[Any], phases: str) -> tuple[tuple[Any, ...], ...]:
    """Return a matrix of three conductors, NaN where one is lacking."""
    found = np.full((3, 3), math.nan, dtype=matrix.dtype)
    there = ["abc".index(one) for one in phases]
    found[np.ix_(there, there)] = matrix
    return tuple(tuple(row) for row in found)


def nominal_v(
    branches: list[Branch], rated_v: dict[str, tuple[float, float]], source_bus: str, source_v: float
) -> dict[str, float]:
    """Return the nominal voltage of every bus: that of the source, carried over lines and regulators, changed at transformers.

    Parameters
    ----------
    branches
        All of them.
    rated_v
        Rated voltages of the transformers. [V]
    source_bus, source_v
        Where to begin. [V]
    """
    volts, waiting = {source_bus: source_v}, list(branches)
    while waiting:
        later = []
        for one in waiting:
            carried = isinstance(one, Line) or (one.turns is not None and rated_v[one.id][0] == rated_v[one.id][1])
            for here, there, side in ((one.from_bus, one.to_bus, 1), (one.to_bus, one.from_bus, 0)):
                if here in volts and there not in volts:
                    volts[there] = volts[here] if carried else rated_v[one.id][side]
            if one.from_bus not in volts:
                later.append(one)
        if len(later) == len(waiting):
            break
        waiting = later
    return volts
