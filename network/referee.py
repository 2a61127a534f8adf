"""The independent referee: the same feeder and the same meters, calculated by power-grid-model.

:mod:`network.acflow` is our own, because the network check is what this project exists for; so somebody else has to
confirm it.  power-grid-model [1]_ shares no code with us, reads the same data (ohm, nanofarad, uk, pk, i0, p0, tap,
clock, short-circuit power) and answers in the same definitions of current, loading and loss.

With customers on single phases, or a feeder whose phases differ, it calculates all three phases; its rows are then those
of :class:`~network.acflow.Model` for the same connections.  A transformer's loading in a phase is measured as ours is.

What hangs on a bus is a shunt of its sequences where the phases are alike, and a load of constant impedance where it lies
between single phases and earth.  Shunts between unlike phases, banks of single-phase transformers, delta-delta windings and
loads that follow the voltage have no place in it: refused by name, and :mod:`network.referee_choice` asks OpenDSS instead.

Newton-Raphson, constant power, to ``error_tolerance`` 1e-11 in the voltages.  An operating point that it cannot solve
is NaN and False in ``converged``, as with us.

References
----------
.. [1] Y. Xiang et al., "PowerGridModel/power-grid-model", https://github.com/PowerGridModel/power-grid-model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Flow
from network.feeder import Feeder
from network.plausible import named

__all__ = ["RefereeError", "check", "conductor_matrices", "pgm_input", "unknown"]

Vector = NDArray[np.float64]

_CONSTANT_POWER, _CONSTANT_IMPEDANCE = 0, 1  # LoadGenType
_WYE_N, _DELTA = 1, 2  # WindingType
_SIDE = {"from": 0, "to": 1, "": 0}


class RefereeError(ValueError):
    """The meters as given cannot be calculated by the referee."""


def pgm_input(feeder: Feeder, connection_bus: ArrayLike, load: str = "sym_load") -> dict[str, NDArray[Any]]:
    """Return the feeder as the input data of a ``power_grid_model.PowerGridModel``.

    Ids: buses 0…n−1, branches n…n+m−1, then the source, then one load for each connection, without power, then shunts.

    Parameters
    ----------
    feeder
        Of n buses and m branches.
    connection_bus : shape (c,)
        Index of the bus of each connection.
    load
        "sym_load", or "asym_load" where phases are told apart.
    """
    import power_grid_model as pgm

    if lacking := unknown(feeder):
        raise RefereeError(
            f"{lacking}, which power-grid-model does not know. Ask OpenDSS (network.referee_opendss), or leave the referee out."
        )
    where = np.asarray(connection_bus, dtype=np.intp)
    n, m, branches = feeder.n_bus, feeder.n_branch, feeder.branches
    node = pgm.initialize_array("input", "node", n)
    node["id"], node["u_rated"] = np.arange(n), feeder.buses.v_nominal_v

    by_matrix = branches.untransposed | ~branches.conductors.all(axis=1) if load == "asym_load" else ~branches.is_line
    rows = np.flatnonzero(branches.is_line & ~by_matrix)
    line = pgm.initialize_array("input", "line", rows.size)
    _ends(line, feeder, rows)
    line["r1"], line["x1"], line["c1"] = branches.r1_ohm[rows], branches.x1_ohm[rows], branches.c1_nf[rows] * 1e-9
    line["tan1"], line["i_n"] = 0.0, branches.rating_a[rows]
    if load == "asym_load":
        line["r0"], line["x0"], line["tan0"] = branches.r0_ohm[rows], branches.x0_ohm[rows], 0.0
        line["c0"] = np.where(np.isnan(branches.c0_nf), branches.c1_nf, branches.c0_nf)[rows] * 1e-9
    asym_line = _matrix_lines(feeder, np.flatnonzero(branches.is_line & by_matrix))

    rows = np.flatnonzero(~branches.is_line)
    trafo = pgm.initialize_array("input", "transformer", rows.size)
    _ends(trafo, feeder, rows)
    sides = [branches.tap_side[k] for k in rows]
    tapped_v = np.where([side == "to" for side in sides], branches.v_to_v[rows], branches.v_from_v[rows])
    position = np.where([side == "" for side in sides], 0.0, np.nan_to_num(branches.tap_position[rows]))
    trafo["u1"], trafo["u2"], trafo["sn"] = branches.v_from_v[rows], branches.v_to_v[rows], branches.sn_kva[rows] * 1e3
    trafo["uk"], trafo["pk"] = branches.uk_percent[rows] / 100, branches.pk_kw[rows] * 1e3
    trafo["i0"], trafo["p0"] = branches.i0_percent[rows] / 100, branches.p0_kw[rows] * 1e3
    trafo["clock"] = branches.clock[rows]
    odd = branches.clock[rows] % 2 == 1  # Dyn or YNyn, as the clock asks: windings matter to the zero sequence alone
    trafo["winding_from"], trafo["winding_to"] = np.where(odd, _DELTA, _WYE_N), _WYE_N
    trafo["tap_side"] = [_SIDE[side] for side in sides]
    trafo["tap_pos"], trafo["tap_nom"] = position, 0
    trafo["tap_min"], trafo["tap_max"] = -100, 100
    trafo["tap_size"] = np.nan_to_num(branches.tap_step_percent[rows]) / 100 * tapped_v

    source = pgm.initialize_array("input", "source", 1)
    source["id"], source["node"], source["status"] = n + m, feeder.source_bus, 1
    source["u_ref"], source["sk"], source["rx_ratio"] = (
        *(feeder.source_v_pu, feeder.source_short_circuit_va),
        feeder.source_rx_ratio,
    )

    loads = pgm.initialize_array("input", load, where.size)
    loads["id"], loads["node"], loads["status"] = n + m + 1 + np.arange(where.size), where, 1
    loads["type"], loads["p_specified"], loads["q_specified"] = _CONSTANT_POWER, 0.0, 0.0
    shunt, impedances = _shunts(feeder, n + m + 1 + where.size)
    loads = np.concatenate([loads, impedances]) if impedances.size else loads
    parts = {"node": node, "line": line, "asym_line": asym_line, "transformer": trafo, "source": source, load: loads}
    parts["shunt"] = shunt
    return {kind: rows_of for kind, rows_of in parts.items() if rows_of.size}


def unknown(feeder: Feeder) -> str:
    """Return what power-grid-model has no place for, as a sentence that lacks its end (", which … does not know"); "" where nothing."""
    branches = feeder.branches
    banks = [branches.ids[k] for k in np.flatnonzero(branches.is_bank)]
    deltas = [name for name, windings in zip(branches.ids, branches.windings, strict=True) if windings]
    y = feeder.buses.shunt_siemens
    between = [feeder.buses.ids[k] for k in _phase_by_phase(feeder) if (y[k] - np.diag(np.diag(y[k]))).any()]
    for names, what in (
        (banks, "banks of single-phase transformers ({})"),
        (deltas, "delta-delta transformers ({})"),
        (between, f"shunts between unlike phases at bus{'es' * (len(between) > 1)} {{}}"),
    ):
        if names:
            return f"feeder {feeder.name!r} has {what.format(named(names))}"
    return ""


def _phase_by_phase(feeder: Feeder) -> list[int]:
    """Return the buses whose shunts are not alike in the phases."""
    y = feeder.buses.shunt_siemens
    alike = np.where(np.eye(3, dtype=bool), y[:, :1, :1], y[:, :1, 1:2])
    return [k for k in feeder.buses.shunted.tolist() if not np.allclose(y[k], alike[k], rtol=1e-12)]


def _shunts(feeder: Feeder, first_id: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return what hangs on buses: alike in the phases as shunts, on single phases as loads of constant impedance."""
    import power_grid_model as pgm

    y, at = feeder.buses.shunt_siemens, feeder.buses.shunted
    single = _phase_by_phase(feeder)
    plain = [k for k in at if k not in single]
    shunt = pgm.initialize_array("input", "shunt", len(plain))
    shunt["id"], shunt["node"], shunt["status"] = first_id + np.arange(len(plain)), plain, 1
    for sequence, mutual in (("1", -1.0), ("0", 2.0)):
        value = np.array([y[k, 0, 0] + mutual * y[k, 0, 1] for k in plain], dtype=np.complex128)
        shunt[f"g{sequence}"], shunt[f"b{sequence}"] = value.real, value.imag
    load = pgm.initialize_array("input", "asym_load", len(single))
    load["id"], load["node"], load["status"] = first_id + len(plain) + np.arange(len(single)), single, 1
    load["type"] = _CONSTANT_IMPEDANCE
    for row, k in enumerate(single):
        drawn = np.diag(y[k]).conj() * feeder.buses.v_nominal_v[k] ** 2 / 3.0
        load["p_specified"][row], load["q_specified"][row] = drawn.real, drawn.imag
    return shunt, load


def _matrix_lines(feeder: Feeder, rows: NDArray[np.intp]) -> NDArray[Any]:
    """Return lines told conductor by conductor; one that is lacking is carried along by itself, with no current in it."""
    import power_grid_model as pgm

    branches = feeder.branches
    line = pgm.initialize_array("input", "asym_line", rows.size)
    _ends(line, feeder, rows)
    line["i_n"] = branches.rating_a[rows]
    for place, k in enumerate(rows):
        z, c = conductor_matrices(feeder, int(k))
        for row, first in enumerate("abc"):
            for column, second in enumerate("abc"[: row + 1]):
                line[f"r_{first}{second}"][place] = z[row, column].real
                line[f"x_{first}{second}"][place] = z[row, column].imag
                line[f"c_{first}{second}"][place] = c[row, column] * 1e-9
    return line


def conductor_matrices(feeder: Feeder, k: int) -> tuple[NDArray[np.complex128], Vector]:
    """Return the series impedance and the capacitance between the conductors of a line.

    A conductor that is lacking has 1 ohm by itself.

    Parameters
    ----------
    feeder
        The feeder.
    k
        Index of a line.

    Returns
    -------
    shape (3, 3) each. [ohm], [nF]
    """
    branches = feeder.branches
    there = np.array([phase in branches.phases[k] for phase in "abc"])
    pair = np.ix_(there, there)
    z, c = np.eye(3, dtype=np.complex128), np.zeros((3, 3))
    if not np.isnan(branches.z_abc_ohm[k]).all():
        z[pair], c[pair] = branches.z_abc_ohm[k][pair], np.nan_to_num(branches.c_abc_nf[k][pair])
        return z, c
    size = int(there.sum())
    for matrix, one, zero in (
        (z, branches.r1_ohm[k] + 1j * branches.x1_ohm[k], branches.r0_ohm[k] + 1j * branches.x0_ohm[k]),
        (c, branches.c1_nf[k], branches.c0_nf[k]),
    ):
        known = one if np.isnan(zero) else zero
        matrix[pair] = np.full((size, size), (known - one) / 3) + one * np.eye(size)
    return z, c


def _ends(array: NDArray[Any], feeder: Feeder, rows: NDArray[np.intp]) -> None:
    array["id"] = feeder.n_bus + rows
    array["from_node"], array["to_node"] = feeder.branches.from_bus[rows], feeder.branches.to_bus[rows]
    array["from_status"] = array["to_status"] = feeder.branches.in_service[rows]


def check(
    feeder: Feeder,
    connection_bus: ArrayLike,
    meter_kw: ArrayLike,
    meter_kvar: ArrayLike,
    source_v_pu: ArrayLike | None = None,
    connection_phase: Sequence[str] | None = None,
    *,
    many: bool = False,
) -> Flow:
    """Return what power-grid-model makes of the meters.

    Parameters
    ----------
    feeder
        The feeder.
    connection_bus : shape (c,)
        Index of the bus of each connection.
    meter_kw, meter_kvar : shape (c, S)
        What each meter reads: import positive, export negative (NOT the injection). [kW], [kvar]
    source_v_pu : number or shape (S,)
        Voltage behind the source impedance; None: as the feeder says. [p.u.]
    connection_phase
        "a", "b", "c" or "abc" for each connection; None: all "abc".
    many
        Iterative current instead of Newton-Raphson: to the same tolerance, several times quicker for thousands of points on a
        large feeder, but without an answer for some heavily loaded ones.
    """
    import power_grid_model as pgm

    active, reactive = np.asarray(meter_kw, dtype=np.float64), np.asarray(meter_kvar, dtype=np.float64)
    connections = np.asarray(connection_bus).size
    if active.ndim != 2 or active.shape[0] != connections or active.shape != reactive.shape:
        raise RefereeError(
            f"meter_kw has shape {active.shape} and meter_kvar {reactive.shape}; expected both with one row for each of "
            f"the {connections} connections and one column for each operating point."
        )
    if not (np.isfinite(active).all() and np.isfinite(reactive).all()):
        raise RefereeError("meter_kw or meter_kvar has a NaN or an infinity. Fill the gap before the check.")
    points = active.shape[1]
    phases = ("abc",) * connections if connection_phase is None else tuple(connection_phase)
    symmetric = not feeder.unbalanced and all(phase == "abc" for phase in phases)
    kind = "sym_load" if symmetric else "asym_load"
    network = pgm_input(feeder, connection_bus, kind)
    model = pgm.PowerGridModel(network)
    update: dict[str, NDArray[Any]] = {}
    if connections:
        load = pgm.initialize_array("update", kind, (points, connections))
        load["id"] = network[kind]["id"][:connections]
        split = np.array([[(one in phase) / len(phase) for one in "abc"] for phase in phases])
        for name, drawn in (("p_specified", active), ("q_specified", reactive)):
            load[name] = drawn.T * 1e3 if symmetric else drawn.T[:, :, None] * split * 1e3
        update[kind] = load
    source = pgm.initialize_array("update", "source", (points, 1))
    source["id"] = network["source"]["id"]
    source["u_ref"] = np.broadcast_to(
        np.asarray(feeder.source_v_pu if source_v_pu is None else source_v_pu, dtype=np.float64), (points,)
    )[:, None]
    update["source"] = source
    answer = model.calculate_power_flow(
        update_data=update,
        symmetric=symmetric,
        error_tolerance=1e-11,
        max_iterations=200 if many else 50,
        calculation_method=pgm.CalculationMethod.iterative_current if many else pgm.CalculationMethod.newton_raphson,
        continue_on_batch_error=True,
        threading=-1,
    )
    converged = np.ones(points, dtype=bool)
    errors = model.batch_error
    if errors is not None:
        converged[np.asarray(errors.failed_scenarios, dtype=np.intp)] = False
    return _flow(feeder, answer, converged, symmetric)


def _flow(feeder: Feeder, answer: Mapping[Any, NDArray[Any]], converged: NDArray[np.bool_], symmetric: bool) -> Flow:
    """Sort power-grid-model's answer into our columns."""
    points, branches = len(converged), feeder.branches
    fold = 1 if symmetric else 3
    for table in answer.values():  # what has no solution is memory that nobody wrote to
        for name in table.dtype.names or ():
            if table.dtype[name].base.kind == "f":
                table[name][~converged] = np.nan
    columns = {
        name: np.full((feeder.n_branch * fold, points), np.nan)
        for name in ("p_from", "q_from", "p_to", "q_to", "i_from", "i_to", "s_from", "s_to", "loading")
    }
    index = {int(name) - feeder.n_bus: (kind, place) for kind in ("line", "asym_line", "transformer") if kind in answer
             for place, name in enumerate(answer[kind]["id"][converged.argmax()] if converged.any() else ())}  # fmt: skip
    for name, column in columns.items():
        if name == "loading" and not symmetric:
            continue
        for k, (kind, place) in index.items():
            column[fold * k : fold * (k + 1)] = answer[kind][name][:, place].reshape(points, fold).T
    if not symmetric:
        line, each = np.repeat(branches.is_line, 3), np.repeat(np.arange(feeder.n_branch), 3)
        rated = np.where(line, branches.rating_a[each], branches.sn_kva[each] * 1e3 / 3.0)[:, None]
        ends = [np.where(line[:, None], columns[f"i_{end}"], columns[f"s_{end}"]) / rated for end in ("from", "to")]
        columns["loading"] = np.maximum(*ends)
    seen = np.ones(feeder.n_bus, dtype=bool) if symmetric else feeder.conductors.ravel()
    carrying = np.ones(feeder.n_branch, dtype=bool) if symmetric else branches.conductors.ravel()
    v_pu = np.ascontiguousarray(answer["node"]["u_pu"].reshape(points, feeder.n_bus * fold).T[seen])
    columns = {name: column[carrying] for name, column in columns.items()}
    source_va = (answer["source"]["p"][:, 0] + 1j * answer["source"]["q"][:, 0]).reshape(points, fold).sum(axis=1)
    return Flow(
        v_pu=v_pu,
        p_kw=columns["p_from"] / 1e3,
        q_kvar=columns["q_from"] / 1e3,
        current_a=columns["i_from"],
        loading_percent=columns["loading"] * 100.0,
        loss_kw=(columns["p_from"] + columns["p_to"]) / 1e3,
        source_kw=source_va.real / 1e3,
        source_kvar=source_va.imag / 1e3,
        converged=converged,
        iterations=0,
    )
