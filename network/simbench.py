"""SimBench's low-voltage grids, read from the tables of the installed package without importing it.

A code such as ``1-LV-rural3--2-no_sw`` names a grid (rural3), a scenario (0 today, 1 and 2 with ever more PV, storage,
heat pumps and cars) and whether switches are drawn (sw) or not (no_sw).  The package holds one folder of CSV tables
per scenario with all grids together [1]_; a grid is the rows whose ``subnet`` begins with its name.

* Nodes joined by closed switches are one bus.  A low-voltage grid has no open switch, so ``-sw`` and ``-no_sw`` give
  the same feeder; the bus keeps the name of its busbar.
* The 20 kV node at the transformer belongs to the grid and is where the source stands (its ``vmSetp``, 1.025).
* Loads that are cars (``HLS_*`` at home, ``APLS_*`` at work) or heat pumps (``Air_*``, ``Soil_*``) are told apart
  only by their profile.
* "Storage" rows are PV with a battery, seen as one generator: they become PV of that peak power, with the profile of
  the PV inside (``Storage_PV3_H0-A`` holds PV3), and a battery of that power.
* A negative ``tappos`` at the HV side means fewer turns there, hence a *higher* voltage at the low-voltage side.

Only the lines of one grid are parsed (0.05 s; the package's own way takes 8 s).  ``tests/test_sources.py`` compares
everything with what SimBench's own converter makes of the same code.

References
----------
.. [1] S. Meinecke et al., "SimBench: a benchmark dataset of electric power systems to compare innovative solutions
   based on power flow analysis", Energies 13(12), 2020.
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from network.feeder import IDEAL_SOURCE_VA, Branches, Buses, Feeder
from network.grid import Bounds, Device, Grid, Kind, SourceError, connect
from network.joined import join

__all__ = ["LICENCE", "Code", "data_folder", "kind_of_load", "parse_code", "read_simbench", "version"]

LICENCE = "SimBench data: Open Database License (ODbL) 1.0, https://opendatacommons.org/licenses/odbl/1.0/"

Row = dict[str, str]
Tables = dict[str, list[Row]]
Floats = NDArray[np.float64]

_SUBNETS = {
    "rural1": "LV1.101",
    "rural2": "LV2.101",
    "rural3": "LV3.101",
    "semiurb4": "LV4.101",
    "semiurb5": "LV5.201",
    "urban6": "LV6.201",
}
_CODES = [f"1-LV-{grid}--{scenario}-{sw}" for grid in _SUBNETS for scenario in "012" for sw in ("no_sw", "sw")]

_OF_THE_GRID = ("Node", "Coordinates", "Line", "Transformer", "Switch", "Load", "RES", "Storage", "ExternalNet")
_TYPES = ("LineType", "TransformerType")
_SHARED = ("Node", "Coordinates")
"""Tables in which the grid's node on the 20 kV side stands as ``MV1.101_LV3.101``."""

_EARTH_RADIUS_M = 6_371_008.8
_GRID_HZ = 50.0


@dataclass(frozen=True, slots=True)
class Code:
    """The parts of a SimBench code."""

    text: str
    grid: str
    scenario: int

    @property
    def subnet(self) -> str:
        """Name of the grid in the tables, such as LV3.101."""
        return _SUBNETS[self.grid]


def parse_code(text: str) -> Code:
    """Take a SimBench code apart, or say which codes there are.

    Examples
    --------
    >>> parse_code("1-LV-rural3--2-no_sw")
    Code(text='1-LV-rural3--2-no_sw', grid='rural3', scenario=2)
    """
    found = re.fullmatch(r"1-LV-(\w+)--([012])-(?:no_)?sw", text)
    if found and found[1] in _SUBNETS:
        return Code(text, found[1], int(found[2]))
    if re.match(r"\d-(EHV|HV|MV|LV\w|complete_data)", text):
        sentence = (
            f"{text!r} is not a low-voltage grid. Only SimBench grids of one voltage level below a single transformer "
            f"are read (1-LV-...): those above are meshed or have transformers in parallel."
        )
    else:
        near = get_close_matches(text, _CODES, n=3, cutoff=0.5) or _CODES[:3]
        sentence = (
            f"{text!r} is not a SimBench code. Did you mean {' or '.join(near)}? The grids are {', '.join(_SUBNETS)}."
        )
    raise SourceError("simbench", [sentence])


def version() -> str:
    """Return the version of the installed SimBench package."""
    try:
        return importlib.metadata.version("simbench")
    except importlib.metadata.PackageNotFoundError:
        raise SourceError(
            "simbench", ["the package simbench is not installed. Install it: pip install simbench."]
        ) from None


def data_folder(scenario: int) -> Path:
    """Return the folder of the tables of a scenario, without importing the package (5 s)."""
    version()
    spec = importlib.util.find_spec("simbench")
    places = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    for place in places:
        folder = place / "networks" / f"1-complete_data-mixed-all-{scenario}-sw"
        if folder.is_dir():
            return folder
    raise SourceError(
        "simbench", [f"the installed package simbench {version()} has no tables for scenario {scenario}. Reinstall it."]
    )


def read_simbench(text: str) -> Grid:
    """Read a low-voltage grid of SimBench.

    Parameters
    ----------
    text
        A code such as ``1-LV-rural3--2-no_sw``.

    Returns
    -------
    The grid: the 20 kV bus first, the transformer as first branch.
    """
    code = parse_code(text)
    return _grid(code, _tables(code))


# --- the rows of one grid ---------------------------------------------------------------------------------------------


def _tables(code: Code) -> Tables:
    """Return the rows of one grid, and the types that all grids share."""
    folder = data_folder(code.scenario)
    tables = {
        name: _rows_of_subnet(folder / f"{name}.csv", code.subnet, shared=name in _SHARED) for name in _OF_THE_GRID
    }
    return tables | {name: _all_rows(folder / f"{name}.csv") for name in _TYPES}


def _all_rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter=";"))


def _rows_of_subnet(path: Path, subnet: str, *, shared: bool) -> list[Row]:
    """Return the rows of a subnet; most lines of a table of ten megabytes are put aside unparsed."""
    if not path.exists():  # scenario 0 has no storage
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        header = next(lines)
        rows = csv.DictReader([header, *(line for line in lines if subnet in line)], delimiter=";")
        return [row for row in rows if subnet in row["subnet"].split("_")[: 2 if shared else 1]]


# --- from rows to a grid ----------------------------------------------------------------------------------------------


def _grid(code: Code, tables: Tables) -> Grid:
    nodes = {row["id"]: row for row in tables["Node"]}
    bus_of, busbars = _buses_of_nodes(tables["Node"], tables["Switch"])
    source = _source(code, tables["ExternalNet"])
    x, y = _metres([nodes[busbar] for busbar in busbars], tables["Coordinates"])
    feeder = Feeder(
        name=code.text,
        buses=Buses(
            ids=tuple(busbars),
            v_nominal_v=np.array([_number(nodes[busbar]["vmR"]) * 1e3 for busbar in busbars]),
            x=x,
            y=y,
        ),
        branches=_branches(tables, bus_of),
        source_bus=bus_of[source],
        source_v_pu=_number(nodes[source]["vmSetp"]),
        source_short_circuit_va=IDEAL_SOURCE_VA,
        source_rx_ratio=0.1,
    )
    return Grid(
        feeder=feeder,
        connections=connect(_devices(tables, bus_of)),
        limits=Bounds(
            v_min_pu=np.array([_number(nodes[busbar]["vmMin"]) for busbar in busbars]),
            v_max_pu=np.array([_number(nodes[busbar]["vmMax"]) for busbar in busbars]),
            loading_max_percent=np.array(
                [_number(row["loadingMax"]) for row in tables["Transformer"] + tables["Line"]]
            ),
        ),
        provenance=f"SimBench {version()}, code {code.text}, subnet {code.subnet}, read from the installed package",
        licence=LICENCE,
    )


def _number(text: str) -> float:
    return math.nan if text == "NULL" else float(text)


def _source(code: Code, external: list[Row]) -> str:
    """Return the node at which the grid above stands."""
    if len(external) != 1:
        raise SourceError(code.text, [f"the data has {len(external)} external grids at this grid, one is needed."])
    return external[0]["node"]


def _buses_of_nodes(nodes: Sequence[Row], switches: Sequence[Row]) -> tuple[dict[str, int], list[str]]:
    """Join nodes over closed switches.

    Returns
    -------
    The bus index of every node, and the node that gives each bus its name: the first that is no auxiliary one.
    """
    place = {row["id"]: k for k, row in enumerate(nodes)}
    is_open = [row["id"] for row in switches if row["cond"] != "1"]
    if is_open:
        raise SourceError(
            "simbench", [f"{name} is open; no low-voltage grid of SimBench 1 has such." for name in is_open]
        )
    first = join(len(nodes), [(place[row["nodeA"]], place[row["nodeB"]]) for row in switches])
    named: dict[int, int] = {}
    for k in sorted(
        range(len(nodes)), key=lambda k: nodes[k]["type"] == "auxiliary"
    ):  # stable: as in the file otherwise
        named.setdefault(first[k], k)
    bus = {k: number for number, k in enumerate(sorted(named.values()))}
    return {node: bus[named[first[k]]] for node, k in place.items()}, [nodes[k]["id"] for k in bus]


def _branches(tables: Tables, bus_of: dict[str, int]) -> Branches:
    """Return the transformers, then the lines."""
    line_types = {row["id"]: row for row in tables["LineType"]}
    transformer_types = {row["id"]: row for row in tables["TransformerType"]}
    lines = [(row, line_types[row["type"]]) for row in tables["Line"]]
    transformers = [(row, transformer_types[row["type"]]) for row in tables["Transformer"]]
    n_line, n_transformer = len(lines), len(transformers)

    def of_lines(values: Iterable[float]) -> Floats:
        return np.array([math.nan] * n_transformer + list(values), dtype=np.float64)

    def of_transformers(values: Iterable[float]) -> Floats:
        return np.array([*values, *([math.nan] * n_line)], dtype=np.float64)

    length_km = [_number(row["length"]) for row, _ in lines]
    susceptance_to_nf = 1e3 / (2 * math.pi * _GRID_HZ)  # µS to nF
    unknown = of_lines([math.nan] * n_line)
    ends = [(row["nodeHV"], row["nodeLV"]) for row, _ in transformers] + [
        (row["nodeA"], row["nodeB"]) for row, _ in lines
    ]
    tapable = [kind["tapable"] == "1" for _, kind in transformers]
    return Branches(
        ids=tuple(row["id"] for row, _ in transformers + lines),
        kind=("transformer",) * n_transformer + ("line",) * n_line,
        from_bus=np.array([bus_of[one] for one, _ in ends], dtype=np.intp),
        to_bus=np.array([bus_of[other] for _, other in ends], dtype=np.intp),
        in_service=np.ones(len(ends), dtype=bool),
        r1_ohm=of_lines(km * _number(kind["r"]) for km, (_, kind) in zip(length_km, lines, strict=True)),
        x1_ohm=of_lines(km * _number(kind["x"]) for km, (_, kind) in zip(length_km, lines, strict=True)),
        c1_nf=of_lines(
            km * _number(kind["b"]) * susceptance_to_nf for km, (_, kind) in zip(length_km, lines, strict=True)
        ),
        r0_ohm=unknown,
        x0_ohm=unknown,
        c0_nf=unknown,
        rating_a=of_lines(_number(kind["iMax"]) for _, kind in lines),
        sn_kva=of_transformers(_number(kind["sR"]) * 1e3 for _, kind in transformers),
        v_from_v=of_transformers(_number(kind["vmHV"]) * 1e3 for _, kind in transformers),
        v_to_v=of_transformers(_number(kind["vmLV"]) * 1e3 for _, kind in transformers),
        uk_percent=of_transformers(_number(kind["vmImp"]) for _, kind in transformers),
        pk_kw=of_transformers(_number(kind["pCu"]) for _, kind in transformers),
        i0_percent=of_transformers(_number(kind["iNoLoad"]) for _, kind in transformers),
        p0_kw=of_transformers(_number(kind["pFe"]) for _, kind in transformers),
        clock=of_transformers(_number(kind["va0"]) / 30 for _, kind in transformers),
        tap_side=tuple(
            {"HV": "from", "LV": "to"}[kind["tapside"]] if tapped else ""
            for tapped, (_, kind) in zip(tapable, transformers, strict=True)
        )
        + ("",) * n_line,
        tap_position=of_transformers(_number(row["tappos"]) - _number(kind["tapNeutr"]) for row, kind in transformers),
        tap_step_percent=of_transformers(_number(kind["dVm"]) for _, kind in transformers),
        length_m=of_lines(km * 1e3 for km in length_km),
    )


def _devices(tables: Tables, bus_of: dict[str, int]) -> list[Device]:
    """Return what stands at the buses, in the order of the tables. MW to kW."""
    devices = []
    for row in tables["Load"]:
        profile = row["profile"]
        devices.append(
            Device(
                kind=kind_of_load(profile),
                id=row["id"],
                bus=bus_of[row["node"]],
                kw=_kilo(row["pLoad"]),
                kvar=_kilo(row["qLoad"]),
                profile=f"{profile}_pload",
                reactive_profile=f"{profile}_qload",
            )
        )
    for row in tables["RES"]:
        if row["type"] != "PV":
            raise SourceError(
                "simbench", [f"{row['id']} is of type {row['type']}; only PV is expected in these grids."]
            )
        devices.append(Device("pv", row["id"], bus_of[row["node"]], _kilo(row["pRES"]), profile=row["profile"]))
    for row in tables["Storage"]:
        pv = re.fullmatch(r"Storage_(PV\d+)_.*", row["profile"])
        if pv is None:
            raise SourceError(
                "simbench", [f"{row['id']} has the profile {row['profile']}; PV with a battery is expected."]
            )
        kw = -_kilo(row["pStor"])  # a generator in a table that counts consumption
        bus = bus_of[row["node"]]
        devices.append(Device("pv", row["id"], bus, kw, profile=pv[1]))
        devices.append(Device("battery", row["id"], bus, kw, kwh=_kilo(row["eStore"])))
    return devices


def _kilo(text: str) -> float:
    """Return kW (kvar, kWh) of a figure in MW, to the watt it was written with."""
    return round(_number(text) * 1e3, 6)


def kind_of_load(profile: str) -> Kind:
    """Return what a row of the load table is, by the name of its profile."""
    if profile.startswith(("HLS_", "APLS_")):
        return "ev"
    if profile.startswith(("Air_", "Soil_")):
        return "heat_pump"
    return "base"


def _metres(nodes: list[Row], coordinates: Iterable[Row]) -> tuple[Floats, Floats]:
    """Lay longitude and latitude flat: metres east and north of the middle (equirectangular)."""
    place = {row["id"]: (_number(row["x"]), _number(row["y"])) for row in coordinates}
    degrees = np.array([place.get(node["coordID"], (math.nan, math.nan)) for node in nodes])
    if np.isnan(degrees).all():
        return degrees[:, 0], degrees[:, 1]
    middle = np.nanmean(degrees, axis=0)
    east, north = np.radians(degrees - middle).T * _EARTH_RADIUS_M
    return east * math.cos(math.radians(middle[1])), north
