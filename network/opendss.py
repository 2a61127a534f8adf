"""Feeders from OpenDSS: a ``.dss`` file is run by OpenDSS (the extra ``opendss``), and what it built is read.

Radial circuits have a place here that consist of one source, lines (any geometry, code or matrix: what is read is the admittance
that OpenDSS made of it), two-winding three-phase transformers and loads of constant power between phase and neutral.  Everything
else is refused, one sentence for each kind: regulators and capacitors with their controls, generators, loads that depend on the
voltage, neutrals told as nodes.  Meters and monitors do nothing and are passed over.

* A load's power is its ``kW`` and ``kvar`` (times ``LoadMult``); load shapes are not read.  OpenDSS turns a load into an
  impedance outside ``vminpu`` to ``vmaxpu`` (0.95 to 1.05 unless told otherwise), which nothing here does.
* A transformer's no-load current is divided between its two ends; OpenDSS has it at one of them.
* A line whose phases are alike is read as sequences, any other conductor by conductor.  Capacitances are those that have the
  same susceptance at 50 Hz.
* OpenDSS executes the file: open only files that you trust.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.elements import Line, Transformer
from network.feeder import Feeder
from network.grid import Bounds, Device, Grid, SourceError, connect

__all__ = ["read_dss"]

Complex = NDArray[np.complex128]
Vector = NDArray[np.float64]
Branch = Line | Transformer

_PASSED_OVER = {"energymeter", "monitor", "sensor"}
_READ = {"vsource", "line", "transformer", "load"}
_WHAT = {
    "capacitor": "capacitors; a feeder here has lines and transformers only",
    "reactor": "reactors; a feeder here has lines and transformers only",
    "regcontrol": "regulators; fix the taps and remove the control",
    "capcontrol": "capacitor controls; remove them with their capacitors",
    "swtcontrol": "switch controls; open the line instead",
    "generator": "generators; make them loads of negative power",
    "pvsystem": "PV systems; make them loads of negative power",
    "storage": "storage; make it a load",
    "autotrans": "auto-transformers",
}
_METRES = {"mi": 1609.344, "kft": 304.8, "km": 1000.0, "m": 1.0, "ft": 0.3048, "in": 0.0254, "cm": 0.01, "mm": 0.001}
_NO_CAPACITANCE_NF = 1e-5


def read_dss(path: Path) -> Grid:
    """Read what OpenDSS makes of a file.

    Parameters
    ----------
    path
        The file; OpenDSS executes it, so open only files that you trust.
    """
    try:
        from dss import DSS, DSSException
    except ImportError as error:
        advice = "Install commonwatt[opendss], which brings dss-python."
        raise SourceError(str(path), [f"{path.name}: OpenDSS is not installed. {advice}"]) from error
    engine: Any = DSS.NewContext()
    engine.AllowForms = False
    engine.AllowChangeDir = False
    try:
        engine.Text.Command = f'Redirect "{path.absolute()}"'
        if not engine.NumCircuits:
            raise SourceError(str(path), [f"{path.name}: the file makes no circuit. Begin with New Circuit."])
        engine.Text.Command = "Set ControlMode=Off Mode=Snapshot"
        engine.Text.Command = "Solve"
    except DSSException as error:
        said = " ".join(str(error).split())
        raise SourceError(str(path), [f"{path.name}: OpenDSS cannot use the file: {said}"]) from error
    reader = _Reader(engine)
    branches: list[Branch] = [*reader.transformers(), *reader.lines()]
    devices = list(reader.loads())
    reader.refuse_others()
    source_bus, kv, source = reader.source(branches)
    if not reader.mistakes:
        reader.unsupplied(branches, source_bus)
    if reader.mistakes:
        raise SourceError(str(path), [f"{path.name}: {mistake}" for mistake in reader.mistakes])
    volts = _nominal_v(branches, reader.rated_v, source_bus, kv * 1e3)
    feeder = _placed(Feeder.build(path.stem, volts, branches, source_bus=source_bus, **source), engine.ActiveCircuit)
    unknown = np.full(feeder.n_bus, math.nan)
    return Grid(
        feeder,
        connect(
            Device("base", name, feeder.bus_index(bus), kw, kvar, phase=phase) for name, bus, phase, kw, kvar in devices
        ),
        Bounds(unknown, unknown, np.full(feeder.n_branch, math.nan)),
        f"OpenDSS circuit in {path.name}, made by {' '.join(engine.Version.split()[:6])}",
        "",
    )


class _Reader:
    """Reads the elements of a circuit, and collects what has no place in a feeder."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.circuit = engine, engine.ActiveCircuit
        self.mistakes: list[str] = []
        self.rated_v: dict[str, tuple[float, float]] = {}
        """Of every transformer, at neutral taps. [V]"""
        self.hertz = float(self.circuit.Solution.Frequency)
        self.elements = [str(name).lower() for name in self.circuit.AllElementNames]

    def asked(self, element: str, name: str) -> str:
        """Return a property of an element as OpenDSS writes it."""
        self.engine.Text.Command = f"? {element}.{name}"
        return str(self.engine.Text.Result).strip()

    def number(self, element: str, name: str) -> float:
        """Return a property that is a number."""
        return float(self.asked(element, name))

    def numbers(self, element: str, name: str) -> list[float]:
        """Return a property that is a list of numbers."""
        return [float(one) for one in self.asked(element, name).strip("[]() ").replace(",", " ").split()]

    def enabled(self, kind: str) -> Iterator[str]:
        """Yield the elements of a class that are enabled."""
        for element in self.elements:
            if element.partition(".")[0] == kind:
                self.circuit.SetActiveElement(element)
                if self.circuit.ActiveCktElement.Enabled:
                    yield element

    def ends(self, element: str) -> list[tuple[str, tuple[int, ...]]]:
        """Return bus and nodes of every terminal."""
        self.circuit.SetActiveElement(element)
        active = self.circuit.ActiveCktElement
        order, size = [int(one) for one in active.NodeOrder], int(active.NumConductors)
        return [
            (str(bus).partition(".")[0].lower(), tuple(order[k * size : (k + 1) * size]))
            for k, bus in enumerate(active.BusNames)
        ]

    def refuse_others(self) -> None:
        """Name what is enabled and has no place in a feeder."""
        kinds = dict.fromkeys(element.partition(".")[0] for element in self.elements)
        for kind in kinds:
            if kind in _READ | _PASSED_OVER:
                continue
            if names := list(self.enabled(kind)):
                what = _WHAT.get(kind, f"elements of the class {kind}, which have no place in a feeder")
                self.mistakes.append(f"the circuit has {what} ({_few(names)}).")

    # -- branches --------------------------------------------------------------------------------------------------

    def lines(self) -> Iterator[Line]:
        """Yield the lines."""
        crossed, neutral = [], []
        for element in self.enabled("line"):
            (one, nodes), (other, same) = self.ends(element)[:2]
            if not set(nodes + same) <= {1, 2, 3} or len(set(nodes)) != len(nodes):
                neutral.append(element)
            elif nodes != same:
                crossed.append(element)
            else:
                yield self._line(element, one, other, nodes)
        for names, what in (
            (neutral, "lines with nodes other than 1, 2 and 3; leave the neutral to OpenDSS (Kron reduction)"),
            (crossed, "lines whose conductors change places between their ends"),
        ):
            if names:
                self.mistakes.append(f"the circuit has {what} ({_few(names)}).")

    def _line(self, element: str, one: str, other: str, nodes: tuple[int, ...]) -> Line:
        self.circuit.SetActiveElement(element)
        active, size = self.circuit.ActiveCktElement, len(nodes)
        raw = np.asarray(active.Yprim, dtype=np.float64)
        y: Complex = (raw[0::2] + 1j * raw[1::2]).reshape(2 * size, 2 * size)
        is_open = any(active.IsOpen(terminal, 0) for terminal in (1, 2))
        if is_open:  # its admittance is not to be had: told by its code
            z, c = self._of_code(element)
        else:
            z = np.asarray(np.linalg.inv(-y[:size, size:]), dtype=np.complex128)
            half = (y[:size, :size] + y[:size, size:]).imag
            c = 2 * half / (2 * math.pi * 50.0) * 1e9
        order = np.argsort(nodes)
        z, c = z[np.ix_(order, order)], c[np.ix_(order, order)]
        z, c = (z + z.T) / 2, (c + c.T) / 2
        c[np.abs(c) < _NO_CAPACITANCE_NF] = 0.0
        phases = "".join("abc"[nodes[k] - 1] for k in order)
        units = self.asked(element, "units").lower()
        length = self.number(element, "length") * _METRES.get(units, math.nan)
        rating = self.number(element, "normamps")
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

    def _of_code(self, element: str) -> tuple[Complex, Vector]:
        """Return the matrices of a line that is open, by its properties."""
        lines = self.circuit.Lines
        lines.Name = element.partition(".")[2]
        r, x, c = (np.asarray(getattr(lines, name), dtype=np.float64) for name in ("Rmatrix", "Xmatrix", "Cmatrix"))
        size = math.isqrt(r.size)
        z: Complex = np.asarray((r + 1j * x).reshape(size, size) * float(lines.Length), dtype=np.complex128)
        return z, c.reshape(size, size) * float(lines.Length) * self.hertz / 50.0

    def transformers(self) -> Iterator[Transformer]:
        """Yield the transformers."""
        refused: dict[str, list[str]] = {}

        def refuse(element: str, what: str) -> None:
            refused.setdefault(what, []).append(element)

        for element in self.enabled("transformer"):
            if self.number(element, "windings") != 2 or self.number(element, "phases") != 3:
                refuse(element, "transformers with other than two windings of three phases")
                continue
            terminals = self.ends(element)
            connections = [one.strip().lower() for one in self.asked(element, "conns").strip("[] ").split(",")]
            connections = [one for one in connections if one]
            star = [one.startswith(("w", "ln")) for one in connections]
            if not star[1]:
                refuse(element, "transformers whose second winding is a delta; its voltages have no earth")
                continue
            if any(nodes[:3] != (1, 2, 3) for _, nodes in terminals) or any(
                is_star and nodes[3:] not in ((), (0,)) for (_, nodes), is_star in zip(terminals, star, strict=True)
            ):
                refuse(element, "transformers with exchanged phases or a neutral that is not earthed")
                continue
            yield self._transformer(element, terminals, star[0])
        for what, names in refused.items():
            self.mistakes.append(f"the circuit has {what} ({_few(names)}).")

    def _transformer(self, element: str, terminals: list[tuple[str, tuple[int, ...]]], star: bool) -> Transformer:
        kva, kv = self.numbers(element, "kvas")[0], self.numbers(element, "kvs")
        taps, resistances = self.numbers(element, "taps"), self.numbers(element, "%rs")
        kva_of = self.numbers(element, "kvas")
        r = sum(one * kva / own for one, own in zip(resistances, kva_of, strict=True))
        x = self.number(element, "xhl")
        loss, imag = self.number(element, "%noloadloss"), self.number(element, "%imag")
        lag = self.asked(element, "leadlag").lower() in ("lag", "ansi")
        self.rated_v[element.partition(".")[2]] = kv[0] * 1e3, kv[1] * 1e3
        return Transformer(
            element.partition(".")[2],
            terminals[0][0],
            terminals[1][0],
            kva,
            kv[0] * 1e3 * taps[0],
            kv[1] * 1e3 * taps[1],
            math.hypot(r, x),
            r / 100 * kva,
            i0_percent=math.hypot(loss, imag),
            p0_kw=loss / 100 * kva,
            clock=0 if star else (1 if lag else 11),
        )

    # -- source and loads ------------------------------------------------------------------------------------------

    def source(self, branches: list[Branch]) -> tuple[str, float, dict[str, float]]:
        """Return the bus of the source, its nominal voltage in kV, and the source's arguments of a feeder."""
        sources = list(self.enabled("vsource"))
        if len(sources) != 1 or self.number(sources[0], "phases") != 3:
            self.mistakes.append(
                f"the circuit has {len(sources)} sources ({_few(sources)}); a feeder is fed by one, of three phases."
            )
            return "", 1.0, {}
        bus, kv = self.ends(sources[0])[0][0], self.number(sources[0], "basekv")
        z1, z0 = (complex(*self.numbers(sources[0], name)) for name in ("z1", "z0"))
        behind = [one for one in branches if one.in_service and bus in (one.from_bus, one.to_bus)]
        isolated = all(isinstance(one, Transformer) and one.clock % 2 and one.from_bus == bus for one in behind)
        if not isolated and abs(z0 - z1) > 1e-6 * abs(z1) and abs(z1) * 1e-3 * self._most_kva() > 1e-9 * kv**2:
            self.mistakes.append(
                f"the source has the impedances Z1 = {z1:.4g} and Z0 = {z0:.4g} ohm; one for all sequences is calculated with. Set Z0=Z1."
            )
        ideal = abs(z1) < 1e-12
        return (
            bus,
            kv,
            {
                "source_v_pu": self.number(sources[0], "pu"),
                "source_short_circuit_va": 1e16 if ideal else min(kv**2 / abs(z1) * 1e6, 1e16),
                "source_rx_ratio": 0.1 if ideal or z1.imag == 0 else z1.real / z1.imag,
            },
        )

    def _most_kva(self) -> float:
        """Return the loads together, for what is small beside them."""
        return sum(math.hypot(self.number(one, "kw"), self.number(one, "kvar")) for one in self.enabled("load"))

    def loads(self) -> Iterator[tuple[str, str, str, float, float]]:
        """Yield name, bus, phase and power of every load; one on two phases is two."""
        factor = float(self.circuit.Solution.LoadMult)
        models, deltas = [], []
        for element in self.enabled("load"):
            bus, nodes = self.ends(element)[0]
            phases = int(self.number(element, "phases"))
            if int(self.number(element, "model")) != 1:
                models.append(element)
                continue
            hot = nodes[:phases]
            earthed = all(node == 0 for node in nodes[phases:])
            if (
                self.asked(element, "conn").lower().startswith(("d", "ll"))
                or not earthed
                or not set(hot) <= {1, 2, 3}
                or len(set(hot)) != phases
            ):
                deltas.append(element)
                continue
            name = element.partition(".")[2]
            kw, kvar = (self.number(element, one) * factor for one in ("kw", "kvar"))
            if phases == 3:
                yield name, bus, "abc", kw, kvar
            else:
                for node in hot:
                    letter = "abc"[node - 1]
                    yield name if phases == 1 else f"{name}.{letter}", bus, letter, kw / phases, kvar / phases
        for names, what in (
            (models, "loads whose power depends on the voltage (model other than 1); only constant power is known here"),
            (deltas, "loads between phases (delta, or a neutral of their own); only those between phase and earth are known here"),
        ):  # fmt: skip
            if names:
                self.mistakes.append(f"the circuit has {what} ({_few(names)}).")

    def unsupplied(self, branches: list[Branch], source_bus: str) -> None:
        """Name buses that no branch, open or not, joins to the source: their nominal voltage cannot be known."""
        known = set(_nominal_v(branches, self.rated_v, source_bus, 1.0))
        lost = sorted({end for one in branches for end in (one.from_bus, one.to_bus)} - known)
        if lost:
            self.mistakes.append(f"buses {_few(lost)} are joined to the source by no line or transformer.")


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


def _nominal_v(
    branches: list[Branch], rated_v: dict[str, tuple[float, float]], source_bus: str, source_v: float
) -> dict[str, float]:
    """Return the nominal voltage of every bus: that of the source, carried over lines, changed at transformers."""
    volts, waiting = {source_bus: source_v}, list(branches)
    while waiting:
        later = []
        for one in waiting:
            for here, there, side in ((one.from_bus, one.to_bus, 1), (one.to_bus, one.from_bus, 0)):
                if here in volts and there not in volts:
                    volts[there] = rated_v[one.id][side] if isinstance(one, Transformer) else volts[here]
            if one.from_bus not in volts:
                later.append(one)
        if len(later) == len(waiting):
            break
        waiting = later
    return volts


def _placed(feeder: Feeder, circuit: Any) -> Feeder:
    """Put the coordinates of the buses in, where they are given."""
    from dataclasses import replace

    from network.elements import Buses

    x, y = np.full((2, feeder.n_bus), math.nan)
    for k, bus in enumerate(feeder.buses.ids):
        circuit.SetActiveBus(bus)
        if circuit.ActiveBus.Coorddefined:
            x[k], y[k] = circuit.ActiveBus.x, circuit.ActiveBus.y
    return replace(feeder, buses=Buses(feeder.buses.ids, feeder.buses.v_nominal_v, x, y))


def _few(names: list[str]) -> str:
    """Name the first few."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
