"""The second referee: the same feeder and the same meters, calculated by OpenDSS, where it is installed.

OpenDSS [1]_ solves the nodal admittances of all conductors; neither our walk along the tree nor power-grid-model's Newton
method is in it.  It comes with the extra ``opendss`` (dss-python).  Powers are its voltages times its currents, conductor by
conductor, S = V conj(I).

Two habits of OpenDSS would change the question and are switched off here: a load above 1.05 times its voltage becomes an
impedance (``vmaxpu``), and every line has a capacitance until told otherwise.

What hangs on a bus is told as one admittance for each pair of conductors, banks of single-phase transformers unit by unit.

Limits: transformers without no-load current, for which OpenDSS has another place, and of a clock number that a star-star
or delta-star with exchanged phases has: 0, 1, 3, 4, 5, 7, 8, 9 or 11.

References
----------
.. [1] EPRI, "OpenDSS", https://www.epri.com/pages/sa/opendss; DSS-Extensions, https://dss-extensions.org.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Flow
from network.feeder import IDEAL_SOURCE_VA, Feeder
from network.referee import RefereeError, conductor_matrices

__all__ = ["check", "commands", "ready"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Index = NDArray[np.intp]

_KV_RANGE = "vminpu=0 vlowpu=0 vmaxpu=10"
_TURNED = {0: ("Wye", "", 0), 4: ("Wye", "", 1), 8: ("Wye", "", 2),
           1: ("Delta", "lag", 0), 5: ("Delta", "lag", 1), 9: ("Delta", "lag", 2),
           11: ("Delta", "lead", 0), 3: ("Delta", "lead", 1), 7: ("Delta", "lead", 2)}  # fmt: skip
"""Of a clock number: how the from side is connected, whether the to side leads or lags, by how many phases it is turned."""
_ENDS = {0: "1.2.3", 1: "3.1.2", 2: "2.3.1"}


def ready(feeder: Feeder, connection_bus: ArrayLike, connection_phase: Sequence[str]) -> None:
    """Raise what keeps OpenDSS from being asked, before much has been calculated: not installed, or a transformer it cannot be told.

    Parameters
    ----------
    feeder, connection_bus, connection_phase
        As in :func:`check`.
    """
    _engine()
    for _ in commands(feeder, connection_bus, connection_phase):
        pass


def _engine() -> Any:
    try:
        from dss import DSS
    except ImportError as error:
        raise RefereeError("OpenDSS is not installed. Install commonwatt[opendss], which brings dss-python.") from error
    engine: Any = DSS.NewContext()
    engine.AllowForms = False
    return engine


def check(
    feeder: Feeder,
    connection_bus: ArrayLike,
    meter_kw: ArrayLike,
    meter_kvar: ArrayLike,
    source_v_pu: ArrayLike | None = None,
    connection_phase: Sequence[str] | None = None,
) -> Flow:
    """Return what OpenDSS makes of the meters; rows as of a three-phase :class:`~network.acflow.Model`.

    Parameters
    ----------
    feeder
        The feeder.
    connection_bus : shape (c,)
        Index of the bus of each connection.
    meter_kw, meter_kvar : shape (c, S)
        What each meter reads: import positive, export negative. [kW], [kvar]
    source_v_pu : number or shape (S,)
        Voltage behind the source impedance; None: as the feeder says. [p.u.]
    connection_phase
        "a", "b", "c" or "abc" for each connection; None: all "abc".
    """
    bus = np.asarray(connection_bus, dtype=np.intp)
    active, reactive = np.asarray(meter_kw, dtype=np.float64), np.asarray(meter_kvar, dtype=np.float64)
    if active.shape != reactive.shape or active.ndim != 2 or len(active) != len(bus):
        raise RefereeError(
            f"meter_kw has shape {active.shape} and meter_kvar {reactive.shape}; expected a row for each of {len(bus)} connections."
        )
    phases = ("abc",) * len(bus) if connection_phase is None else tuple(connection_phase)
    engine = _engine()
    source = np.broadcast_to(np.asarray(feeder.source_v_pu if source_v_pu is None else source_v_pu), active.shape[1:])
    told = list(commands(feeder, bus, phases))
    circuit = _built(engine, told)
    wires, points = circuit.PDElements, active.shape[1]
    volts = np.full((len(circuit.AllNodeNames), points), np.nan, dtype=np.complex128)
    amps = np.full((len(wires.AllCurrents) // 2, points), np.nan, dtype=np.complex128)
    taken, sizes = np.full(points, np.nan, dtype=np.complex128), np.full(volts.shape, np.nan)
    converged = np.zeros(points, dtype=bool)
    for t in range(points):
        for _ in range(2):
            converged[t] = _solved(circuit, float(source[t]), active[:, t], reactive[:, t])
            if converged[t]:
                break
            circuit = _built(engine, told)  # it would begin where it ended, which was nowhere
        if converged[t]:
            volts[:, t], amps[:, t] = _complex(circuit.AllBusVolts), _complex(wires.AllCurrents)
            sizes[:, t] = circuit.AllBusVmag
            taken[t] = _complex(wires.AllPowers).sum() + active[:, t].sum() + 1j * reactive[:, t].sum()
    return _flow(feeder, circuit, (volts, sizes), amps, taken, converged)


def _built(engine: Any, told: Sequence[str]) -> Any:
    """Return the circuit of commands, anew."""
    for command in told:
        engine.Text.Command = command
    engine.Text.Command = "Solve"  # which numbers the nodes
    circuit: Any = engine.ActiveCircuit
    circuit.Vsources.First  # noqa: B018  makes it the active one
    return circuit


def _solved(circuit: Any, source_v_pu: float, kw: Vector, kvar: Vector) -> bool:
    """Solve one operating point; whether it has a solution."""
    circuit.Vsources.pu = source_v_pu
    for k, (p, q) in enumerate(zip(kw.tolist(), kvar.tolist(), strict=True)):
        circuit.Loads.Name = f"c{k}"
        circuit.Loads.kW, circuit.Loads.kvar = p, q
    circuit.Solution.Solve()
    return bool(circuit.Solution.Converged)


def _complex(pairs: ArrayLike) -> Complex:
    """Return complex numbers that are given as real and imaginary parts in turn."""
    return np.asarray(pairs, dtype=np.float64).view(np.complex128)


def _flow(
    feeder: Feeder,
    circuit: Any,
    voltages: tuple[Complex, Vector],
    amps: Complex,
    taken: Complex,
    converged: NDArray[np.bool_],
) -> Flow:
    """Sort OpenDSS's answer into our columns: voltages of its nodes and their sizes, currents of its conductors, power of the source in kVA."""
    branches, (volts, sizes) = feeder.branches, voltages
    place = {str(name).lower(): k for k, name in enumerate(circuit.AllNodeNames)}
    there = np.flatnonzero(feeder.conductors.ravel())
    rows = [place[f"b{node // 3}.{node % 3 + 1}"] for node in there]
    v_pu = sizes[rows] / (feeder.buses.v_nominal_v[there // 3] / np.sqrt(3.0))[:, None]
    carrying = np.flatnonzero(branches.conductors.ravel())
    each = carrying // 3
    live = np.flatnonzero(branches.in_service[each])
    power, current = ([np.zeros((len(each), len(converged)), kind) for _ in range(2)] for kind in (complex, float))
    for end, (buses, ends) in enumerate(
        zip((branches.from_bus, branches.to_bus), _conductors(feeder, circuit, carrying[live]), strict=True)
    ):
        nodes = [place[f"b{buses[k // 3]}.{k % 3 + 1}"] for k in carrying[live]]
        power[end][live] = volts[nodes] * amps[ends].conj() / 1e3
        current[end][live] = np.abs(amps[ends])
    line = branches.is_line[each]
    rated = np.where(line, branches.rating_a[each], branches.sn_kva[each] / 3.0)[:, None]
    most = np.maximum(*(np.where(line[:, None], i, np.abs(s)) for i, s in zip(current, power, strict=True)))
    loading, loss = most / rated * 100.0, (power[0] + power[1]).real
    converged &= np.isfinite(v_pu).all(axis=0) & np.isfinite(loss).all(axis=0)
    columns = (v_pu, power[0].real, power[0].imag, current[0], loading, loss, taken.real, taken.imag)
    for column in columns:
        column[..., ~converged] = np.nan
    return Flow(*columns, converged=converged, iterations=0)


def _conductors(feeder: Feeder, circuit: Any, wires: Index) -> tuple[list[int], list[int]]:
    """Return where among all currents those of the wires 3 · branch + phase are, at their two ends."""
    branches, elements = feeder.branches, circuit.PDElements
    width = np.asarray(elements.AllNumConductors, dtype=np.intp)
    begin = np.concatenate([[0], np.cumsum(width * np.asarray(elements.AllNumTerminals, dtype=np.intp))])
    number = {str(name).lower(): k for k, name in enumerate(elements.AllNames)}
    into: tuple[list[int], list[int]] = ([], [])
    for wire in wires.tolist():
        k, phase = divmod(wire, 3)
        if branches.is_bank[k]:
            name, places = f"transformer.t{k}_{phase}", (0, 0)
        elif branches.is_line[k]:
            name, places = f"line.l{k}", (int(branches.conductors[k][:phase].sum()),) * 2
        else:
            turned = _ENDS[_TURNED[int(branches.clock[k]) % 12][2]]
            name, places = f"transformer.t{k}", (phase, turned.split(".").index(str(phase + 1)))
        for end, at in enumerate(places):
            into[end].append(int(begin[number[name]] + end * width[number[name]] + at))
    return into


def commands(
    feeder: Feeder,
    connection_bus: ArrayLike,
    connection_phase: Sequence[str],
    source_v_pu: float | None = None,
) -> Iterator[str]:
    """Yield a feeder as commands of OpenDSS; buses are called b0, b1, …, connections c0, c1, ….

    Parameters
    ----------
    feeder, connection_bus, connection_phase, source_v_pu
        As in :func:`check`.
    """
    branches, volts = feeder.branches, feeder.buses.v_nominal_v
    kv = volts[feeder.source_bus] / 1e3
    v_pu = feeder.source_v_pu if source_v_pu is None else source_v_pu
    yield "Clear"
    yield "Set DefaultBaseFrequency=50"
    yield f"New Circuit.feeder bus1=b{feeder.source_bus}.1.2.3 basekV={kv:.17g} pu={v_pu:.17g} phases=3 {_source(feeder)}"
    for branch in np.flatnonzero(branches.in_service).tolist():
        if branches.kind[branch] == "line":
            yield _line(feeder, branch)
        elif branches.is_bank[branch]:
            yield from _bank(feeder, branch)
        else:
            yield _transformer(feeder, branch)
    yield from _shunts(feeder)
    floating = feeder.unearthed
    for k, (bus, phase) in enumerate(zip(np.asarray(connection_bus, dtype=np.intp), connection_phase, strict=True)):
        nodes = ".".join(str("abc".index(one) + 1) for one in phase)
        kv = volts[bus] / 1e3 / (1.0 if phase == "abc" else np.sqrt(3.0))
        way = "delta" if floating[bus] else "wye"  # three alike, where there is no neutral
        yield (
            f"New Load.c{k} bus1=b{bus}.{nodes} phases={len(phase)} conn={way} kV={kv:.17g} kW=0 kvar=0 model=1 {_KV_RANGE}"
        )
    yield "Set ControlMode=Off"
    yield "Set MaxIterations=500"
    yield "Set Tolerance=1e-12"


def _source(feeder: Feeder) -> str:
    if feeder.source_short_circuit_va >= IDEAL_SOURCE_VA:
        return "Model=Ideal puZideal=[1e-10 1e-9]"
    z = feeder.buses.v_nominal_v[feeder.source_bus] ** 2 / feeder.source_short_circuit_va
    r, x = (z * part / np.hypot(feeder.source_rx_ratio, 1.0) for part in (feeder.source_rx_ratio, 1.0))
    return f"Z1=[{r:.17g} {x:.17g}] Z0=[{r:.17g} {x:.17g}]"


def _line(feeder: Feeder, k: int) -> str:
    there = [one for one, phase in enumerate("abc") if phase in feeder.branches.phases[k]]
    nodes = ".".join(str(one + 1) for one in there)

    def matrix(values: Vector) -> str:
        return "(" + " | ".join(" ".join(f"{one:.17g}" for one in row) for row in values) + ")"

    z, c = conductor_matrices(feeder, k)
    z, c = z[np.ix_(there, there)], c[np.ix_(there, there)]
    return (
        f"New Line.l{k} bus1=b{feeder.branches.from_bus[k]}.{nodes} bus2=b{feeder.branches.to_bus[k]}.{nodes} "
        f"phases={len(there)} length=1 units=none rmatrix={matrix(z.real)} xmatrix={matrix(z.imag)} cmatrix={matrix(c)}"
    )


def _transformer(feeder: Feeder, k: int) -> str:
    branches = feeder.branches
    clock = int(branches.clock[k]) % 12
    name = branches.ids[k]
    if clock not in _TURNED:
        raise RefereeError(f"transformer {name!r} has the clock number {clock}, which OpenDSS is not asked about here.")
    if branches.i0_percent[k] or branches.p0_kw[k]:
        raise RefereeError(f"transformer {name!r} has a no-load current, which OpenDSS puts elsewhere; set it to 0.")
    connection, order, turned = _TURNED[clock]
    other, held = "Wye", 0
    if branches.windings[k] == "dd":
        connection, other, held = (
            "Delta",
            "Delta",
            1,
        )  # a millionth of its power to earth, without which nothing holds the neutral
    turns = 1.0 + float(np.nan_to_num(branches.tap_position[k] * branches.tap_step_percent[k])) / 100.0
    taps = [turns if branches.tap_side[k] == side else 1.0 for side in ("from", "to")]
    r = branches.pk_kw[k] / branches.sn_kva[k] * 100.0
    x = np.sqrt(branches.uk_percent[k] ** 2 - r**2)
    return (
        f"New Transformer.t{k} phases=3 windings=2 XHL={x:.17g} %Rs=[{r / 2:.17g} {r / 2:.17g}] %noloadloss=0 %imag=0 ppm_antifloat={held} "
        f"{f'LeadLag={order} ' if order else ''}"
        f"buses=[b{branches.from_bus[k]}.1.2.3 b{branches.to_bus[k]}.{_ENDS[turned]}] conns=[{connection} {other}] "
        f"kVs=[{branches.v_from_v[k] / 1e3:.17g} {branches.v_to_v[k] / 1e3:.17g}] kVAs=[{branches.sn_kva[k]:.17g} {branches.sn_kva[k]:.17g}] "
        f"taps=[{taps[0]:.17g} {taps[1]:.17g}]"
    )


def _bank(feeder: Feeder, k: int) -> Iterator[str]:
    """Yield the single-phase transformers of a bank."""
    branches = feeder.branches
    if branches.i0_percent[k] or branches.p0_kw[k]:
        raise RefereeError(
            f"transformer {branches.ids[k]!r} has a no-load current, which OpenDSS puts elsewhere; set it to 0."
        )
    r = branches.pk_kw[k] / branches.sn_kva[k] * 100.0
    x = np.sqrt(branches.uk_percent[k] ** 2 - r**2)
    kv = [volts[k] / np.sqrt(3.0) / 1e3 for volts in (branches.v_from_v, branches.v_to_v)]
    for phase in np.flatnonzero(branches.conductors[k]).tolist():
        yield (
            f"New Transformer.t{k}_{phase} phases=1 windings=2 XHL={x:.17g} %Rs=[{r / 2:.17g} {r / 2:.17g}] %noloadloss=0 %imag=0 "
            f"ppm_antifloat=0 buses=[b{branches.from_bus[k]}.{phase + 1} b{branches.to_bus[k]}.{phase + 1}] conns=[Wye Wye] "
            f"kVs=[{kv[0]:.17g} {kv[1]:.17g}] kVAs=[{branches.sn_kva[k] / 3:.17g} {branches.sn_kva[k] / 3:.17g}] "
            f"taps=[1 {branches.turns_abc[k, phase]:.17g}]"
        )


def _shunts(feeder: Feeder) -> Iterator[str]:
    """Yield what hangs on the buses, an impedance from each conductor to earth and between each two."""
    for bus in feeder.buses.shunted.tolist():
        y = feeder.buses.shunt_siemens[bus]
        legs = {f"1=b{bus}.{one + 1}": y[one].sum() for one in range(3)}
        legs |= {
            f"1=b{bus}.{one + 1} bus2=b{bus}.{other + 1}": -y[one, other] for one, other in ((0, 1), (0, 2), (1, 2))
        }
        for k, (ends, admittance) in enumerate(legs.items()):
            if abs(admittance) > 1e-12 * np.abs(y).max():
                z = 1.0 / admittance
                yield f"New Reactor.s{bus}_{k} phases=1 bus{ends} R={z.real:.17g} X={z.imag:.17g}"
