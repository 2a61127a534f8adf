"""Where feeders come from: one call reads built-in feeders, SimBench, pandapower and plain CSV alike.

    european_lv                                       a feeder that comes with the package (:mod:`network.builtin`)
    simbench:1-LV-rural3--2-no_sw                     a low-voltage grid of the installed SimBench package
    pandapower:create_kerber_landnetz_freileitung_1   a function of pandapower.networks
    town.json                                         a pandapower network saved as JSON
    town.dss                                          a circuit of OpenDSS, where OpenDSS is installed
    constant_power:town.dss                           the same, loads of any kind as constant power (:mod:`network.held`)
    town/                                             a folder with buses.csv, branches.csv and, if liked, connections.csv

Each reader is a module of its own (:mod:`network.simbench`, :mod:`network.pandapower_nets`,
:mod:`network.csv_feeder`) and answers with a :class:`~network.grid.Grid`, whose feeder is radial and checked.  What
cannot be used is refused with a :class:`~network.grid.SourceError` (what the data says) or a
:class:`~network.feeder.FeederError` (what it amounts to: loops, buses without supply).
"""

from __future__ import annotations

from pathlib import Path

from network.builtin import BUILTIN
from network.grid import Bounds, Connections, Grid, SourceError
from network.held import as_constant_power

_CONSTANT_POWER = "constant_power:"

__all__ = ["Bounds", "Connections", "Grid", "SourceError", "beside", "named_path", "read"]


def named_path(spec: str) -> bool:
    """Tell whether a source is a file or folder, rather than the name of a data set.

    >>> named_path("town/"), named_path("simbench:1-LV-rural3--2-no_sw")
    (True, False)
    """
    rest = spec.removeprefix(_CONSTANT_POWER)
    return rest not in BUILTIN and not rest.startswith(("simbench:", "pandapower:"))


def beside(spec: str, folder: Path) -> str:
    """Return a source whose file or folder is looked for in ``folder``.

    >>> beside("town", Path("cases")), beside("pandapower:case33bw", Path("cases"))
    ('cases/town', 'pandapower:case33bw')
    """
    if not named_path(spec):
        return spec
    rest = spec.removeprefix(_CONSTANT_POWER)
    return f"{spec[: len(spec) - len(rest)]}{folder / rest}"


def read(spec: str | Path) -> Grid:
    """Read a feeder and its connections.

    Parameters
    ----------
    spec
        A name in :data:`network.builtin.BUILTIN`, ``simbench:CODE``, ``pandapower:NAME``, the path of a pandapower JSON file, of a ``.dss`` file, or of a folder with CSV tables;
        ``constant_power:`` before any of them.

    Returns
    -------
    The grid.
    """
    text = str(spec)
    if text.startswith(_CONSTANT_POWER):
        return as_constant_power(read(text.removeprefix(_CONSTANT_POWER)))
    if text in BUILTIN:
        from network.builtin import read_builtin

        return read_builtin(text)
    kind, colon, rest = text.partition(":")
    if colon and kind == "simbench":
        from network.simbench import read_simbench

        return read_simbench(rest)
    if colon and kind == "pandapower":
        from network.pandapower_nets import read_function

        return read_function(rest)
    path = Path(text).expanduser()
    if path.is_dir():
        from network.csv_feeder import read_folder

        return read_folder(path)
    if path.is_file() and path.suffix == ".json":
        from network.pandapower_nets import read_json

        return read_json(path)
    if path.is_file() and path.suffix.lower() == ".dss":
        from network.opendss import read_dss

        return read_dss(path)
    what = "is no JSON file and no folder" if path.exists() else "does not exist"
    advice = f"Give {', '.join(BUILTIN)}, simbench:CODE, pandapower:NAME, a pandapower network in JSON, a .dss file, or a folder with buses.csv and branches.csv."
    raise SourceError(text, [f"the feeder {text!r} {what}. {advice}"])
