"""Feeders that come with the package, by name.

==============  =====================================================================================================
``ieee33``      Baran & Wu's 33-bus feeder of 12.66 kV with its five ties, out of service [1]_
``ieee69``      Baran & Wu's 69-bus feeder of 12.66 kV with five ties, out of service [2]_
``european_lv`` the IEEE European Low Voltage Test Feeder: 906 buses of 416 V below a Dyn transformer, 55 customers on
                single phases [3]_
``cigre_lv``    CIGRE's European low-voltage network, three feeders below one 20 kV bus [4]_
``cigre_mv``    CIGRE's European medium-voltage network of 20 kV, its three open switches out of service [4]_
``ieee13``      the IEEE 13 Node Test Feeder: a regulator, capacitors, loads of all kinds, all of it unbalanced [5]_
``ieee123``     the IEEE 123 Node Test Feeder: 85 spot loads, four regulators, switches [5]_
==============  =====================================================================================================

The first three are folders of CSV tables in ``network/data``, read by :mod:`network.csv_feeder`; the README beside each
says where its figures come from and on what terms.  The CIGRE networks are read from the installed pandapower, the last two from
circuits in ``network/data`` by OpenDSS (:mod:`network.opendss`, the extra ``opendss``).

Loads are snapshots: the rated loads of ``ieee33``, ``ieee69`` and CIGRE, minute 566 of ``european_lv`` (57.358 kW at a
power factor of 0.95).  European LV's 55 one-minute profiles are in no package that is installed here, so they are not
bundled; give a table of your own.

References
----------
.. [1] M. E. Baran and F. F. Wu, "Network reconfiguration in distribution systems for loss reduction and load balancing",
   IEEE Trans. Power Delivery 4(2), 1989.
.. [2] M. E. Baran and F. F. Wu, "Optimal capacitor placement on radial distribution systems", IEEE Trans. Power
   Delivery 4(1), 1989.
.. [3] IEEE PES Test Feeder Working Group, "European Low Voltage Test Feeder", 2015.
.. [4] CIGRE Task Force C6.04.02, "Benchmark systems for network integration of renewable and distributed energy
   resources", Technical Brochure 575, 2014.
.. [5] W. H. Kersting, "Radial distribution test feeders", IEEE PES Winter Meeting 2001; IEEE PES Test Feeder Working Group.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import as_file, files

from network.grid import Grid, SourceError

__all__ = ["BUILTIN", "read_builtin"]

_BUNDLED = {
    "ieee33": ("Baran & Wu 1989, after pandapower's case33bw", "figures of a publication; pandapower: BSD 3-clause"),
    "ieee69": ("Baran & Wu 1989, as in MATPOWER's case69; ties as usual in the literature", "figures of a publication"),
    "european_lv": (
        "IEEE European Low Voltage Test Feeder, minute 566, after pandapower's ieee_european_lv_asymmetric",
        "IEEE PES Test Feeder Working Group, free to use; pandapower: BSD 3-clause",
    ),
}
_CIRCUITS = {
    "ieee13": "IEEE 13 Node Test Feeder, the published tables and taps",
    "ieee123": "IEEE 123 Node Test Feeder, the published tables",
}
_PANDAPOWER = {"cigre_lv": "create_cigre_network_lv", "cigre_mv": "create_cigre_network_mv"}

BUILTIN = (*_BUNDLED, *_PANDAPOWER, *_CIRCUITS)
"""The names."""


def read_builtin(name: str) -> Grid:
    """Read a feeder that comes with the package.

    Parameters
    ----------
    name
        One of :data:`BUILTIN`.
    """
    if name in _PANDAPOWER:
        from network.pandapower_nets import read_function

        return read_function(_PANDAPOWER[name])
    if name in _CIRCUITS:
        from network.opendss import read_dss

        with as_file(files("network") / "data" / name) as folder:
            grid = read_dss(folder / f"{name}.dss")
        terms = "figures of a publication; IEEE PES Test Feeder Working Group, free to use"
        return replace(grid, provenance=f"{_CIRCUITS[name]}; {grid.provenance}", licence=terms)
    if name not in _BUNDLED:
        raise SourceError(name, [f"there is no built-in feeder {name!r}. There are {', '.join(BUILTIN)}."])
    from network.csv_feeder import read_folder

    provenance, licence = _BUNDLED[name]
    with as_file(files("network") / "data" / name) as folder:
        return replace(read_folder(folder), provenance=provenance, licence=licence)
