"""How the tables in ``network/data`` came about, so that they can be made again and compared."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np

from network.feeder import Feeder, Line, Transformer
from network.grid import Bounds, Device, Grid, connect

KV = 12.66

# network/data/ieee69: from bus, to bus, r, x of the 68 branches in service (ohm), after Baran & Wu 1989.
BRANCHES_69 = """
1 2 0.0005 0.0012|2 3 0.0005 0.0012|3 4 0.0015 0.0036|4 5 0.0251 0.0294|5 6 0.366 0.1864|6 7 0.381 0.1941|7 8 0.0922 0.047
8 9 0.0493 0.0251|9 10 0.819 0.2707|10 11 0.1872 0.0619|11 12 0.7114 0.2351|12 13 1.03 0.34|13 14 1.044 0.34|14 15 1.058 0.3496
15 16 0.1966 0.065|16 17 0.3744 0.1238|17 18 0.0047 0.0016|18 19 0.3276 0.1083|19 20 0.2106 0.069|20 21 0.3416 0.1129
21 22 0.014 0.0046|22 23 0.1591 0.0526|23 24 0.3463 0.1145|24 25 0.7488 0.2475|25 26 0.3089 0.1021|26 27 0.1732 0.0572
3 28 0.0044 0.0108|28 29 0.064 0.1565|29 30 0.3978 0.1315|30 31 0.0702 0.0232|31 32 0.351 0.116|32 33 0.839 0.2816
33 34 1.708 0.5646|34 35 1.474 0.4873|3 36 0.0044 0.0108|36 37 0.064 0.1565|37 38 0.1053 0.123|38 39 0.0304 0.0355
39 40 0.0018 0.0021|40 41 0.7283 0.8509|41 42 0.31 0.3623|42 43 0.041 0.0478|43 44 0.0092 0.0116|44 45 0.1089 0.1373
45 46 0.0009 0.0012|4 47 0.0034 0.0084|47 48 0.0851 0.2083|48 49 0.2898 0.7091|49 50 0.0822 0.2011|8 51 0.0928 0.0473
51 52 0.3319 0.114|9 53 0.174 0.0886|53 54 0.203 0.1034|54 55 0.2842 0.1447|55 56 0.2813 0.1433|56 57 1.59 0.5337
57 58 0.7837 0.263|58 59 0.3042 0.1006|59 60 0.3861 0.1172|60 61 0.5075 0.2585|61 62 0.0974 0.0496|62 63 0.145 0.0738
63 64 0.7105 0.3619|64 65 1.041 0.5302|11 66 0.2012 0.0611|66 67 0.0047 0.0014|12 68 0.7394 0.2444|68 69 0.0047 0.0016
"""
TIES_69 = "11 43 0.5 0.5|13 21 0.5 0.5|15 46 1.0 0.5|50 59 2.0 1.0|27 65 1.0 0.5"
# bus, kW, kvar
LOADS_69 = """
6 2.6 2.2|7 40.4 30|8 75 54|9 30 22|10 28 19|11 145 104|12 145 104|13 8 5.5|14 8 5.5|16 45.5 30|17 60 35|18 60 35|20 1 0.6
21 114 81|22 5.3 3.5|24 28 20|26 14 10|27 14 10|28 26 18.6|29 26 18.6|33 14 10|34 19.5 14|35 6 4|36 26 18.6|37 26 18.6
39 24 17|40 24 17|41 1.2 1|43 6 4.3|45 39.2 26.3|46 39.2 26.3|48 79 56.4|49 384.7 274.5|50 384.7 274.5|51 40.5 28.3
52 3.6 2.7|53 4.3 3.5|54 26.4 19|55 24 17.2|59 100 72|61 1244 888|62 32 23|64 227 162|65 59 42|66 18 13|67 18 13|68 28 20
69 28 20
"""


def _rows(text):
    return [one.split() for line in text.split("\n") for one in line.split("|") if one.strip()]


def _grid(feeder, devices, low, high):
    n = feeder.n_bus
    bounds = Bounds(np.full(n, low), np.full(n, high), np.full(feeder.n_branch, math.nan))
    return Grid(feeder, connect(devices), bounds, "", "")


def _medium_voltage(name, branches, ties, loads, buses):
    """A feeder of 12.66 kV lines without ratings, fed at bus 1."""
    lines = [
        Line(f"{one}-{other}", one, other, float(r), float(x), in_service=where is branches)
        for where in (branches, ties)
        for one, other, r, x in where
    ]
    feeder = Feeder.build(name, dict.fromkeys(buses, KV * 1e3), lines, source_bus="1")
    devices = [Device("base", f"load {bus}", feeder.bus_index(bus), float(kw), float(kvar)) for bus, kw, kvar in loads]
    return _grid(feeder, devices, 0.9, 1.1)


def ieee69():
    """Figures of the publication; the ties as usual in the literature."""
    return _medium_voltage("ieee69", _rows(BRANCHES_69), _rows(TIES_69), _rows(LOADS_69), map(str, range(1, 70)))


def ieee33():
    """The case33bw of pandapower, with buses from 1 as in the publication."""
    import pandapower.networks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        net = pandapower.networks.case33bw()
    lines = [
        (str(row.from_bus + 1), str(row.to_bus + 1), f"{row.r_ohm_per_km:.10g}", f"{row.x_ohm_per_km:.10g}", row.in_service)
        for row in net.line.itertuples()
    ]  # fmt: skip
    loads = [(str(row.bus + 1), f"{row.p_mw * 1e3:.10g}", f"{row.q_mvar * 1e3:.10g}") for row in net.load.itertuples()]
    closed, ties = ([line[:4] for line in lines if line[4] == wanted] for wanted in (True, False))
    return _medium_voltage("ieee33", closed, ties, loads, map(str, range(1, 34)))


def european_lv():
    """The European LV of pandapower at minute 566, with the source of the IEEE's own files and reactive power at 0.95.

    The IEEE's source: 11 kV, 1.05 p.u., three-phase short-circuit current 3000 A, X/R 4.  pandapower has 10 GVA instead, and
    reactive powers of phases B and C that are 1000 times too small.
    """
    import pandapower.networks

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        net = pandapower.networks.ieee_european_lv_asymmetric()
    names = {bus: ("source" if bus == 0 else str(name)) for bus, name in net.bus.name.items()}
    volts = {name: (11000.0 if bus == 0 else 416.0) for bus, name in names.items()}
    trafo = net.trafo.iloc[0]
    sn = _told(trafo.sn_mva * 1e3)
    branches = [
        Transformer("transformer", "source", names[trafo.lv_bus], sn, 11000.0, 416.0, round(float(trafo.vk_percent), 6),
                    round(float(trafo.vkr_percent) / 100 * sn, 6), clock=1)
    ]  # fmt: skip
    for row in net.line.itertuples():
        km = _told(row.length_km)
        r1, x1, r0, x0 = (
            float(f"{_told(getattr(row, key)) * km:.10g}")
            for key in ("r_ohm_per_km", "x_ohm_per_km", "r0_ohm_per_km", "x0_ohm_per_km")
        )
        branches.append(
            Line(row.name, names[row.from_bus], names[row.to_bus], r1, x1, rating_a=round(row.max_i_ka * 1e3, 3),
                 r0_ohm=r0, x0_ohm=x0, c0_nf=0.0, length_m=float(f"{km * 1e3:.10g}"))
        )  # fmt: skip
    feeder = Feeder.build(
        "european_lv", volts, branches, source_bus="source", source_v_pu=1.05,
        source_short_circuit_va=float(f"{math.sqrt(3) * 11e3 * 3000:.10g}"), source_rx_ratio=0.25,
    )  # fmt: skip
    feeder = _placed(feeder, net, names)
    devices = []
    for row in net.asymmetric_load.itertuples():
        kw = {phase: _told(getattr(row, f"p_{phase}_mw") * 1e3) for phase in "abc"}
        phase = next((one for one in "abc" if kw[one]), "")
        devices.append(
            Device("base", row.name, feeder.bus_index(names[row.bus]), kw[phase],
                   float(f"{kw[phase] * math.tan(math.acos(0.95)):.10g}"), phase=phase)
        )  # fmt: skip
    return _grid(feeder, devices, 0.9, 1.1)


def _told(figure):
    """Return a figure as it was written before it went through single precision."""
    return float(f"{figure:.6g}")


def _placed(feeder, net, names):
    """Put the coordinates of the buses in, metres."""
    from dataclasses import replace

    from network.elements import Buses

    x, y = np.full((2, feeder.n_bus), math.nan)
    for bus, geo in net.bus.geo.items():
        if isinstance(geo, str) and geo:
            place = json.loads(geo)["coordinates"]
            at = feeder.bus_index(names[bus])
            x[at], y[at] = (round(float(one), 3) for one in place[:2])
    return replace(feeder, buses=Buses(feeder.buses.ids, feeder.buses.v_nominal_v, x, y))


MADE = {"ieee33": ieee33, "ieee69": ieee69, "european_lv": european_lv}
