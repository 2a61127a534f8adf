"""Feeders from OpenDSS: a ``.dss`` file is run by OpenDSS (the extra ``opendss``), and what it built is read.

Radial circuits have a place here that consist of one source, lines, transformers and regulators
(:mod:`network.opendss_branches`), loads, capacitors and reactors to earth (:mod:`network.opendss_loads`).  Everything else is
refused, one sentence for each kind: generators, PV systems, neutrals told as nodes.  Meters and monitors do nothing and are
passed over.

Controls do not act here: a regulator's taps, a switched capacitor and a switch stand where OpenDSS's own solution of the file
left them, or, with ``Set ControlMode=Off`` in it, where the file puts them.  ``Grid.provenance`` tells the taps.

OpenDSS executes the file: open only files that you trust.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from network.elements import Buses, Line, Transformer
from network.feeder import Feeder
from network.grid import Bounds, Device, Grid, HeldLoads, SourceError, connect
from network.opendss_branches import lines, nominal_v, taps, transformers
from network.opendss_circuit import Circuit, few
from network.opendss_loads import Load, Loads, loads

__all__ = ["read_dss"]

Vector = NDArray[np.float64]
Branch = Line | Transformer

_PASSED_OVER = {"energymeter", "monitor", "sensor"}
_CONTROLS = {"regcontrol", "capcontrol", "swtcontrol"}
_READ = {"vsource", "line", "transformer", "load", "capacitor", "reactor", *_CONTROLS}
_WHAT = {
    "generator": "generators; make them loads of negative power",
    "pvsystem": "PV systems; make them loads of negative power",
    "storage": "storage; make it a load",
    "autotrans": "auto-transformers",
}
_CONTROL_ITERATIONS = 100


def read_dss(path: Path) -> Grid:
    """Read what OpenDSS makes of a file.

    Parameters
    ----------
    path
        The file; OpenDSS executes it, so open only files that you trust.
    """
    dss = _run(path)
    told = list(transformers(dss))
    rated_v = {one.id: volts for one, volts in told}
    branches: list[Branch] = [*(one for one, _ in told), *lines(dss)]
    hanging = loads(dss)
    _refuse_others(dss)
    source_bus, kv, source = _source(dss, branches, hanging)
    if not dss.mistakes:
        _unsupplied(dss, branches, rated_v, source_bus)
    if dss.mistakes:
        raise SourceError(str(path), [f"{path.name}: {mistake}" for mistake in dss.mistakes])
    volts = nominal_v(branches, rated_v, source_bus, kv * 1e3)
    feeder = Feeder.build(path.stem, volts, branches, source_bus=source_bus, shunts=hanging.shunts, **source)
    feeder = _placed(feeder, dss.circuit)
    unknown = np.full(feeder.n_bus, math.nan)
    stand = taps(dss)
    return Grid(
        feeder,
        connect(_devices(feeder, hanging.plain)),
        Bounds(unknown, unknown, np.full(feeder.n_branch, math.nan)),
        f"OpenDSS circuit in {path.name}, made by {' '.join(dss.engine.Version.split()[:6])}"
        + (f"; taps fixed at {stand}" if stand else ""),
        "",
        _held(feeder, hanging.held),
    )


def _run(path: Path) -> Circuit:
    """Let OpenDSS execute the file, its controls too, and solve it where they left it."""
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
        engine.Text.Command = "Set Mode=Snapshot"
        engine.Text.Command = "Get ControlMode"
        dss = Circuit(engine)
        if engine.Text.Result.lower() != "off" and any(any(dss.enabled(kind)) for kind in _CONTROLS):
            solution = dss.circuit.Solution
            solution.MaxControlIterations = max(solution.MaxControlIterations, _CONTROL_ITERATIONS)
            engine.Text.Command = "Solve"
        engine.Text.Command = "Set ControlMode=Off"
        engine.Text.Command = "Solve"
    except DSSException as error:
        said = " ".join(str(error).split())
        raise SourceError(str(path), [f"{path.name}: OpenDSS cannot use the file: {said}"]) from error
    return dss


def _refuse_others(dss: Circuit) -> None:
    """Name what is enabled and has no place in a feeder."""
    kinds = dict.fromkeys(element.partition(".")[0] for element in dss.elements)
    for kind in kinds:
        if kind not in _READ | _PASSED_OVER:
            what = _WHAT.get(kind, f"elements of the class {kind}, which have no place in a feeder")
            dss.refuse({what: list(dss.enabled(kind))})


def _source(dss: Circuit, branches: list[Branch], hanging: Loads) -> tuple[str, float, dict[str, float]]:
    """Return the bus of the source, its nominal voltage in kV, and the source's arguments of a feeder."""
    sources = list(dss.enabled("vsource"))
    if len(sources) != 1 or dss.number(sources[0], "phases") != 3:
        dss.mistakes.append(
            f"the circuit has {len(sources)} sources ({few(sources)}); a feeder is fed by one, of three phases."
        )
        return "", 1.0, {}
    bus, kv = dss.ends(sources[0])[0][0], dss.number(sources[0], "basekv")
    z1, z0 = (complex(*dss.numbers(sources[0], name)) for name in ("z1", "z0"))
    behind = [one for one in branches if one.in_service and bus in (one.from_bus, one.to_bus)]
    isolated = bus not in hanging.shunts and all(
        isinstance(one, Transformer) and (one.clock % 2 or one.windings) and one.from_bus == bus for one in behind
    )
    most_kva = sum(abs(one.kva) for one in (*hanging.plain, *hanging.held))
    if not isolated and abs(z0 - z1) > 1e-6 * abs(z1) and abs(z1) * 1e-3 * most_kva > 1e-9 * kv**2:
        dss.mistakes.append(
            f"the source has the impedances Z1 = {z1:.4g} and Z0 = {z0:.4g} ohm; one for all sequences is calculated with. Set Z0=Z1."
        )
    ideal = abs(z1) < 1e-12
    return (
        bus,
        kv,
        {
            "source_v_pu": dss.number(sources[0], "pu"),
            "source_short_circuit_va": 1e16 if ideal else min(kv**2 / abs(z1) * 1e6, 1e16),
            "source_rx_ratio": 0.1 if ideal or z1.imag == 0 else z1.real / z1.imag,
        },
    )


def _unsupplied(dss: Circuit, branches: list[Branch], rated_v: dict[str, tuple[float, float]], source_bus: str) -> None:
    """Name buses that no branch, open or not, joins to the source: their nominal voltage cannot be known."""
    known = set(nominal_v(branches, rated_v, source_bus, 1.0))
    lost = sorted({end for one in branches for end in (one.from_bus, one.to_bus)} - known)
    if lost:
        dss.mistakes.append(f"buses {few(lost)} are joined to the source by no line or transformer.")


def _devices(feeder: Feeder, plain: list[Load]) -> Iterator[Device]:
    for one in plain:
        yield Device("base", one.name, feeder.bus_index(one.bus), one.kva.real, one.kva.imag, phase=one.phases)


def _held(feeder: Feeder, legs: list[Load]) -> HeldLoads | None:
    """Return the legs at the nominal voltages of their buses."""
    if not legs:
        return None
    bus = np.array([feeder.bus_index(one.bus) for one in legs], dtype=np.intp)
    across = np.array([1.0 if len(one.phases) == 2 else math.sqrt(3.0) for one in legs])
    exponent = np.array([float(one.follows) for one in legs])
    at_nominal = feeder.buses.v_nominal_v[bus] / across / np.array([one.rated_v for one in legs])
    kva = np.array([one.kva for one in legs]) * at_nominal**exponent
    names, phases = (tuple(getattr(one, key) for one in legs) for key in ("name", "phases"))
    return HeldLoads(names, bus, phases, kva.real, kva.imag, exponent)


def _placed(feeder: Feeder, circuit: Any) -> Feeder:
    """Put the coordinates of the buses in, where they are given."""
    x, y = np.full((2, feeder.n_bus), math.nan)
    for k, bus in enumerate(feeder.buses.ids):
        circuit.SetActiveBus(bus)
        if circuit.ActiveBus.Coorddefined:
            x[k], y[k] = circuit.ActiveBus.x, circuit.ActiveBus.y
    b = feeder.buses
    return replace(feeder, buses=Buses(b.ids, b.v_nominal_v, x, y, b.shunt_siemens))
