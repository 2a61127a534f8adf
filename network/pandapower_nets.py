"""Feeders from pandapower: its example networks, and networks saved as JSON.

The radial part of pandapower has a place here: buses, lines, two-winding transformers with a ratio tap, one external
grid, constant-power loads, PV and storage, with customers on single phases (asymmetric loads and generators) where
lines have zero sequences and transformers are YNyn or Dyn.  Closed bus-bus switches make one bus of two, an open switch
at a line or transformer takes it out of service.  Everything else is refused, one sentence for each kind of element.

* Taps count whether or not ``tap_changer_type`` is filled: pandapower 3 ignores a tap without it, silently (0.027 p.u.
  in SimBench's grids).
* The external grid is ideal, as in pandapower's power flow, which uses its short-circuit power for faults only.
* A line open at one end is open at both: its charging current is left out.
* The magnetising impedance of a transformer's zero sequence (``mag0_percent``) is left out, as by OpenDSS: pandapower counts
  it, which moves voltages by some 1e-4 p.u.
* Nets that come from SimBench have profile names, from which cars, heat pumps and PV with a battery are recognised.

pandapower reads JSON by making the objects that are named in it: open only files that you trust.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Branches, Buses, Feeder
from network.grid import Bounds, Connections, Device, Grid, Kind, SourceError, connect
from network.joined import join
from network.pandapower_refusals import active, column, floats, refusals, tap_position
from network.simbench import kind_of_load

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["grid_of", "read_function", "read_json"]

Floats = NDArray[np.float64]

_UNRATED_KA = 9_000.0
"""Line ratings above it stand for "no limit" (99999 in the IEEE cases)."""


def read_function(name: str) -> Grid:
    """Read one of pandapower's example networks.

    Parameters
    ----------
    name
        A function of ``pandapower.networks`` that needs no arguments, such as ``case33bw``.
    """
    import pandapower.networks

    function = getattr(pandapower.networks, name, None)
    if not callable(function) or not str(getattr(function, "__module__", "")).startswith("pandapower.networks"):
        from difflib import get_close_matches

        near = get_close_matches(name, _functions(), n=3, cutoff=0.75)
        advice = (
            f"Did you mean {' or '.join(near)}?" if near else "There are case33bw, create_kerber_dorfnetz and others."
        )
        raise SourceError(f"pandapower:{name}", [f"pandapower.networks has no function {name!r}. {advice}"])
    try:
        with warnings.catch_warnings():  # some of the networks are kept in an older format, which concerns nobody here
            warnings.simplefilter("ignore", DeprecationWarning)
            net = _built(function)
    except TypeError as error:
        raise SourceError(
            f"pandapower:{name}", [f"the function cannot be called without arguments: {error}."]
        ) from error
    if not _is_net(net):
        what = f"{len(net)} networks" if isinstance(net, tuple) else "no network"
        raise SourceError(f"pandapower:{name}", [f"the function returns {what}; one is needed."])
    import pandapower

    return grid_of(
        net,
        name=name,
        provenance=f"pandapower {pandapower.__version__}, pandapower.networks.{name}()",
        licence="pandapower's example networks: BSD 3-clause; their docstrings name the sources",
    )


def _built(function: Callable[[], Any]) -> Any:
    """Return the network; those that draw cables by Python's own generator draw the same ones every time."""
    import random

    before = random.getstate()
    random.seed(0)
    try:
        return function()
    finally:
        random.setstate(before)


def _functions() -> list[str]:
    """Return the names of pandapower's example networks: functions of its networks that need no arguments."""
    import inspect

    import pandapower.networks

    names = []
    for name, function in vars(pandapower.networks).items():
        if inspect.isfunction(function) and function.__module__.startswith("pandapower.networks."):
            needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            if not [p for p in needed if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]:
                names.append(name)
    return sorted(names)


def read_json(path: Path) -> Grid:
    """Read a network that pandapower saved as JSON.

    Parameters
    ----------
    path
        The file; open only files that you trust.
    """
    import pandapower

    none = f"{path.name}: the file holds no pandapower network. Save one with pandapower.to_json(net, path)."
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise SourceError(
            str(path), [f"{path.name}:{error.lineno}:{error.colno}: this is no JSON: {error.msg}."]
        ) from error
    except UnicodeDecodeError as error:
        raise SourceError(str(path), [f"{path.name}: is not text in UTF-8 (byte {error.start})."]) from error
    if not isinstance(held, dict) or not (held.get("_class") == "pandapowerNet" or "bus" in held):
        raise SourceError(str(path), [none])
    try:
        with warnings.catch_warnings():  # of an older format: what it lacks has a default below
            warnings.simplefilter("ignore", DeprecationWarning)
            net = pandapower.from_json(str(path))
    except (ValueError, KeyError, TypeError, AttributeError, UserWarning) as error:
        raise SourceError(str(path), [f"pandapower cannot read the file: {error}"]) from error
    if not _is_net(net):
        raise SourceError(str(path), [none])
    return grid_of(net, name=path.stem, provenance=f"pandapower network in {path.name}", licence="")


def _is_net(net: object) -> bool:
    return isinstance(net, dict) and all(table in net for table in ("bus", "line", "trafo", "ext_grid"))


def grid_of(net: Any, *, name: str, provenance: str, licence: str) -> Grid:
    """Turn a pandapower network into a grid, or say what of it has no place here.

    Parameters
    ----------
    net
        A pandapower network.
    name, provenance, licence
        As in :class:`~network.grid.Grid`; the name becomes the feeder's.
    """
    mistakes = refusals(net)
    if mistakes:
        raise SourceError(name, mistakes)
    bus_of, kept = _buses(net)
    table = net.bus.loc[kept]
    x, y = np.array([_place(value) for value in column(table, "geo", None)]).reshape(len(kept), 2).T
    branches, loading_max_percent = _branches(net, bus_of)
    external = net.ext_grid[net.ext_grid.in_service.astype(bool)].iloc[0]
    feeder = Feeder(
        name=name,
        buses=Buses(_names(table, "bus"), table.vn_kv.to_numpy(float) * 1e3, x, y, _shunts(net, bus_of, len(kept))),
        branches=branches,
        source_bus=bus_of[int(external.bus)],
        source_v_pu=float(external.vm_pu),
        source_short_circuit_va=IDEAL_SOURCE_VA,
        source_rx_ratio=0.1,
    )
    limits = Bounds(floats(table, "min_vm_pu"), floats(table, "max_vm_pu"), loading_max_percent)
    return Grid(feeder, _connections(net, bus_of), limits, provenance, licence)


# --- from tables to a grid --------------------------------------------------------------------------------------------


def _names(rows: pd.DataFrame, table: str) -> tuple[str, ...]:
    """Return the names of the rows where all have one of their own, else their indices."""
    names = [str(name).strip() for name in rows["name"]]
    named = not rows["name"].isna().any() and len(set(names)) == len(names) and all(names)
    return tuple(names) if named else tuple(f"{table} {index}" for index in rows.index)


def _shunts(net: Any, bus_of: dict[int, int], n_bus: int) -> NDArray[np.complex128]:
    """Return the shunts of the buses, in star to earth: conj(p + jq) of their steps at their rated voltage.  Shape (n, 3, 3). [S]"""
    found = np.zeros((0, 3, 3), dtype=np.complex128)
    if "shunt" in net and len(rows := active(net, "shunt")):
        found = np.zeros((n_bus, 3, 3), dtype=np.complex128)
        rows = rows[rows.bus.isin(list(bus_of))]
        y = (floats(rows, "p_mw") - 1j * floats(rows, "q_mvar")) * floats(rows, "step") / floats(rows, "vn_kv") ** 2
        np.add.at(found, [bus_of[int(bus)] for bus in rows.bus], y[:, None, None] * np.eye(3))
    return found


def _place(geo: object) -> tuple[float, float]:
    """Return the coordinates in a GeoJSON point."""
    try:
        x, y = json.loads(str(geo))["coordinates"][:2]
        return float(x), float(y)
    except (ValueError, KeyError, TypeError):
        return math.nan, math.nan


def _buses(net: Any) -> tuple[dict[int, int], list[int]]:
    """Join buses over closed switches.

    Returns
    -------
    The bus of this feeder for every pandapower bus in service, and the pandapower bus that names each.
    """
    indices = [int(index) for index in net.bus.index[net.bus.in_service.astype(bool)]]
    place = {index: k for k, index in enumerate(indices)}
    switches = net.switch[(net.switch.et == "b") & net.switch.closed.astype(bool)]
    pairs = [
        (place[int(one)], place[int(other)])
        for one, other in zip(switches.bus, switches.element, strict=True)
        if int(one) in place and int(other) in place
    ]
    first = join(len(indices), pairs)
    kept = sorted(set(first))
    bus = {k: number for number, k in enumerate(kept)}
    return {index: bus[first[k]] for index, k in place.items()}, [indices[k] for k in kept]


def _branches(net: Any, bus_of: dict[int, int]) -> tuple[Branches, Floats]:
    """Return the transformers, then the lines, and the loading each may have."""

    def between_known(rows: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
        kept: pd.DataFrame = rows[rows[one].isin(list(bus_of)) & rows[other].isin(list(bus_of))]
        return kept

    def closed(rows: pd.DataFrame, letter: str) -> NDArray[np.bool_]:
        opened = net.switch[(net.switch.et == letter) & ~net.switch.closed.astype(bool)].element
        result: NDArray[np.bool_] = (rows.in_service.astype(bool) & ~rows.index.isin(opened)).to_numpy(dtype=bool)
        return result

    trafos = between_known(net.trafo, "hv_bus", "lv_bus")
    lines = between_known(net.line, "from_bus", "to_bus")
    n_trafo, n_line = len(trafos), len(lines)

    def of_lines(values: Floats) -> Floats:
        return np.concatenate([np.full(n_trafo, math.nan), values])

    def of_trafos(values: Floats) -> Floats:
        return np.concatenate([values, np.full(n_line, math.nan)])

    km, parallel = floats(lines, "length_km"), floats(lines, "parallel", 1.0)
    same = floats(trafos, "parallel", 1.0)
    rating_ka = floats(lines, "max_i_ka") * floats(lines, "df", 1.0) * parallel
    kva = floats(trafos, "sn_mva") * 1e3 * same
    position = tap_position(trafos)
    to_50_hz = float(net.f_hz) / 50.0  # the same susceptance at 50 Hz
    ends = [*zip(trafos.hv_bus, trafos.lv_bus, strict=True), *zip(lines.from_bus, lines.to_bus, strict=True)]
    trafo_ids, line_ids = _names(trafos, "trafo"), _names(lines, "line")
    if set(trafo_ids) & set(line_ids):
        trafo_ids = tuple(f"trafo {index}" for index in trafos.index)
        line_ids = tuple(f"line {index}" for index in lines.index)
    branches = Branches(
        ids=trafo_ids + line_ids,
        kind=("transformer",) * n_trafo + ("line",) * n_line,
        from_bus=np.array([bus_of[int(one)] for one, _ in ends], dtype=np.intp),
        to_bus=np.array([bus_of[int(other)] for _, other in ends], dtype=np.intp),
        in_service=np.concatenate([closed(trafos, "t"), closed(lines, "l")]),
        r1_ohm=of_lines(floats(lines, "r_ohm_per_km") * km / parallel),
        x1_ohm=of_lines(floats(lines, "x_ohm_per_km") * km / parallel),
        c1_nf=of_lines(floats(lines, "c_nf_per_km", 0.0) * km * parallel * to_50_hz),
        r0_ohm=of_lines(floats(lines, "r0_ohm_per_km") * km / parallel),
        x0_ohm=of_lines(floats(lines, "x0_ohm_per_km") * km / parallel),
        c0_nf=of_lines(floats(lines, "c0_nf_per_km") * km * parallel * to_50_hz),
        rating_a=of_lines(np.where(rating_ka < _UNRATED_KA, rating_ka * 1e3, math.inf)),
        sn_kva=of_trafos(kva),
        v_from_v=of_trafos(floats(trafos, "vn_hv_kv") * 1e3),
        v_to_v=of_trafos(floats(trafos, "vn_lv_kv") * 1e3),
        uk_percent=of_trafos(floats(trafos, "vk_percent")),
        pk_kw=of_trafos(floats(trafos, "vkr_percent") / 100 * kva),
        i0_percent=of_trafos(floats(trafos, "i0_percent", 0.0)),
        p0_kw=of_trafos(floats(trafos, "pfe_kw", 0.0) * same),
        clock=of_trafos(floats(trafos, "shift_degree", 0.0) / 30 % 12),
        tap_side=tuple({"hv": "from", "lv": "to"}.get(str(side), "") for side in trafos.tap_side) + ("",) * n_line,
        tap_position=of_trafos(position),
        tap_step_percent=of_trafos(floats(trafos, "tap_step_percent", 0.0)),
        length_m=of_lines(km * 1e3),
    )
    loading_max_percent = [
        floats(rows, "max_loading_percent") * df
        for rows, df in ((trafos, floats(trafos, "df", 1.0)), (lines, np.ones(n_line)))
    ]
    return branches, np.concatenate(loading_max_percent)


def _connections(net: Any, bus_of: dict[int, int]) -> Connections:
    """Return loads, PV and storage as connections."""
    devices: list[Device] = []

    def each(table: str, make: Callable[[str, int, Any], list[Device]]) -> None:
        rows = active(net, table)
        rows = rows[rows.bus.isin(list(bus_of))]
        for name, (_, row) in zip(_names(rows, table), rows.iterrows(), strict=True):
            devices.extend(make(name, bus_of[int(row.bus)], row))

    each("load", _load)
    each("sgen", _sgen)
    for table, kind in (("asymmetric_load", "base"), ("asymmetric_sgen", "pv")):
        if table in net:
            each(table, partial(_of_phases, cast("Kind", kind)))
    each("storage", _storage)
    return connect(devices)


def _profile(row: Any) -> str:
    """Return the name of a profile, "" where there is none."""
    name = row.get("profile")
    return name if isinstance(name, str) else ""


def _kilo(row: Any, column: str) -> float:
    """Return kW of a figure in MW."""
    value = float(row.get(column, math.nan))
    return 0.0 if math.isnan(value) else round(value * float(row.get("scaling", 1.0)) * 1e3, 6)


def _load(name: str, bus: int, row: Any) -> list[Device]:
    profile = _profile(row)
    active, reactive = (f"{profile}_pload", f"{profile}_qload") if profile else ("", "")
    kw, kvar = _kilo(row, "p_mw"), _kilo(row, "q_mvar")
    return [Device(kind_of_load(profile), name, bus, kw, kvar, profile=active, reactive_profile=reactive)]


def _sgen(name: str, bus: int, row: Any) -> list[Device]:
    return [Device("pv", name, bus, _kilo(row, "p_mw"), profile=_profile(row))]


def _of_phases(kind: Kind, name: str, bus: int, row: Any) -> list[Device]:
    """Return a device for each phase with power; one on a single phase keeps its name."""
    powers = {phase: (_kilo(row, f"p_{phase}_mw"), _kilo(row, f"q_{phase}_mvar")) for phase in "abc"}
    used = [phase for phase, (kw, kvar) in powers.items() if kw or kvar]
    if kind == "base" and not used:
        return [Device(kind, name, bus, 0.0)]
    return [
        Device(kind, name if len(used) == 1 else f"{name} {phase}", bus, *powers[phase], phase=phase) for phase in used
    ]


def _storage(name: str, bus: int, row: Any) -> list[Device]:
    """A battery; in SimBench, PV with a battery."""
    kwh = _kilo(row, "max_e_mwh") - _kilo(row, "min_e_mwh")
    power = [abs(_kilo(row, column)) for column in ("sn_mva", "max_p_mw", "p_mw")]
    pv = re.fullmatch(r"Storage_(PV\d+)_.*", _profile(row))
    if pv is None:
        return [Device("battery", name, bus, next((kw for kw in power if kw > 0), 0.0), kwh=kwh)]
    return [Device("pv", name, bus, power[-1], profile=pv[1]), Device("battery", name, bus, power[-1], kwh=kwh)]
