"""What of a pandapower network has no place in a feeder: one sentence for each kind of element.

A feeder is radial, of lines and two-winding transformers, fed at one bus, with constant power at its
connections, shunts at its buses.  What goes beyond is refused rather than left out, for a network with a ward missing calculates without
a complaint.  Only what is in service counts.

The tables of pandapower gain columns from version to version; :func:`column` and :func:`floats` read them with a default.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["active", "column", "floats", "refusals", "single_phases", "tap_position"]

Floats = NDArray[np.float64]

_REFUSED = {
    "trafo3w": "three-winding transformers; replace them by two-winding ones",
    "ward": "ward equivalents; replace them by loads",
    "xward": "extended ward equivalents; replace them by loads",
    "impedance": "impedance elements; replace them by lines",
    "gen": "generators that hold a voltage; replace them by static generators (sgen)",
    "motor": "motors; replace them by loads",
    "dcline": "DC lines; only AC networks are read",
    "bus_dc": "DC buses; only AC networks are read",
    "svc": "static var compensators, which hold a voltage",
    "tcsc": "series capacitors with a controller",
    "ssc": "static synchronous compensators, which hold a voltage",
    "vsc": "converters, which hold a voltage",
}


def refusals(net: Any) -> list[str]:
    """Return a sentence for each kind of element that has no place in a feeder."""
    return [
        *_refused(net),
        *_refused_lines(net),
        *_refused_transformers(net),
        *_refused_devices(net),
        *_refused_phases(net),
    ]


def active(net: Any, table: str) -> pd.DataFrame:
    """Return the rows of a table that are in service."""
    rows: pd.DataFrame = net[table]
    return rows[rows.in_service.astype(bool)] if "in_service" in rows else rows


def column(rows: pd.DataFrame, name: str, default: object) -> pd.Series[Any]:
    """Return a column, or a default where this version of pandapower has none."""
    import pandas as pd

    return (
        rows[name] if name in rows else pd.Series(default, index=rows.index, dtype=object if default is None else None)
    )


def floats(rows: pd.DataFrame, name: str, default: float = math.nan) -> Floats:
    """Return a column as numbers, the default where nothing is given."""
    return np.asarray(column(rows, name, default).astype(float).fillna(default), dtype=np.float64)


def tap_position(rows: pd.DataFrame) -> Floats:
    """Return steps from neutral. Shape (t,)."""
    return np.subtract(floats(rows, "tap_pos", 0.0), floats(rows, "tap_neutral", 0.0), dtype=np.float64)


def _say(rows: pd.DataFrame, table: str) -> str:
    """Name rows by their index: ``load 3, 5 and 2 more``."""
    index = [str(one) for one in rows.index[:5]]
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return f"{table} {', '.join(index)}{more}"


def _refused(net: Any) -> list[str]:
    mistakes = [
        f"the network has {what} ({_say(active(net, table), table)})."
        for table, what in _REFUSED.items()
        if table in net and len(active(net, table))
    ]
    if "shunt" in net:
        shunts = active(net, "shunt")
        odd = shunts[column(shunts, "step_dependency_table", False).fillna(False).astype(bool)]
        if len(odd):
            mistakes.append(
                f"the network has shunts with a table of their steps ({_say(odd, 'shunt')}); give p_mw and q_mvar of the step."
            )
    external = active(net, "ext_grid")
    if len(external) != 1:
        mistakes.append(f"the network has {len(external)} external grids in service; a feeder is fed at one bus.")
    elif not net.bus.in_service.loc[external.bus.iloc[0]]:
        mistakes.append(f"the external grid stands at bus {external.bus.iloc[0]}, which is out of service.")
    if len(net.switch):
        odd = net.switch[(net.switch.et == "b") & net.switch.closed & (column(net.switch, "z_ohm", 0.0) > 0)]
        if len(odd):
            mistakes.append(f"switches with an impedance ({_say(odd, 'switch')}); replace them by lines.")
    return mistakes


def _refused_lines(net: Any) -> list[str]:
    rows = active(net, "line")
    odd = rows[column(rows, "g_us_per_km", 0.0) > 0]
    return [f"lines with a shunt conductance ({_say(odd, 'line')}); set g_us_per_km to 0."] if len(odd) else []


def _refused_transformers(net: Any) -> list[str]:
    rows = active(net, "trafo")
    mistakes = []
    off_neutral = tap_position(rows) != 0
    kind = column(rows, "tap_changer_type", "Ratio")
    ratio = kind.isna() | (kind == "Ratio")
    shifting = (column(rows, "tap_step_degree", 0.0).fillna(0.0) != 0) | column(
        rows, "tap_phase_shifter", False
    ).astype(bool)
    by_table = column(rows, "tap_dependency_table", False).fillna(False).astype(bool)
    for odd, what in (
        (off_neutral & (~ratio | shifting), "tap changers that turn the phase"),
        (off_neutral & by_table, "tap changers described by a table"),
        (column(rows, "tap2_pos", math.nan).notna(), "a second tap changer"),
        ((rows.shift_degree % 30 != 0), "a phase shift that is no clock number (a multiple of 30°)"),
    ):
        if odd.any():
            mistakes.append(f"transformers with {what} ({_say(rows[odd], 'trafo')}).")
    return mistakes


_EARTHED = {0: {"YNyn", "YNYn", "YNyn0", "YNYN"}, 1: {"Dyn", "DYn", "Dyn1", "Dyn5", "Dyn7", "Dyn11", "DYN"}}
"""Vector groups that a feeder's transformers have, for even and odd clock numbers."""


def single_phases(net: Any) -> bool:
    """Tell whether the network has customers on single phases."""
    return any(table in net and len(active(net, table)) for table in ("asymmetric_load", "asymmetric_sgen"))


def _refused_phases(net: Any) -> list[str]:
    """Return what cannot be calculated in three phases; concerns networks with customers on single phases alone."""
    if not single_phases(net):
        return []
    mistakes, trafos, lines = [], active(net, "trafo"), active(net, "line")
    blind = np.isnan(floats(lines, "r0_ohm_per_km") + floats(lines, "x0_ohm_per_km"))
    groups = [str(one) for one in column(trafos, "vector_group", "").fillna("")]
    clocks = np.rint(floats(trafos, "shift_degree", 0.0) / 30).astype(int) % 12
    known = [not one or one in _EARTHED[int(clock) % 2] for one, clock in zip(groups, clocks, strict=True)]
    uk, uk0 = floats(trafos, "vk_percent"), floats(trafos, "vk0_percent")
    other_zero = ~np.isnan(uk0) & (np.abs(uk0 - uk) > 1e-3 * uk)
    tables = [active(net, table) for table in ("asymmetric_load", "asymmetric_sgen") if table in net]
    delta = [rows[column(rows, "type", "").fillna("").astype(str).str.lower() == "delta"] for rows in tables]
    negative = [rows[np.minimum.reduce([floats(rows, f"p_{phase}_mw", 0.0) for phase in "abc"]) < 0] for rows in tables]
    for rows, table, what in (
        (lines[blind], "line", "lines without r0_ohm_per_km and x0_ohm_per_km, which customers on single phases need"),
        (trafos[~np.array(known, dtype=bool)], "trafo", "transformers with a vector group other than YNyn with an even, Dyn with an odd clock number"),
        (trafos[other_zero], "trafo", "transformers whose vk0_percent is not their vk_percent, as which it is calculated"),
        *((rows, "asymmetric element", "customers between two phases (delta); only those between phase and neutral are known here") for rows in delta),
        *((rows, "asymmetric element", "customers on single phases with negative power; exchange load and generator") for rows in negative),
    ):  # fmt: skip
        if len(rows):
            mistakes.append(f"{what} ({_say(rows, table)}).")
    for rows in tables[1:] if len(tables) == 2 else []:
        odd = rows[np.maximum.reduce([np.abs(floats(rows, f"q_{phase}_mvar", 0.0)) for phase in "abc"]) != 0]
        if len(odd):
            mistakes.append(
                f"generators of single phases with reactive power; PV runs at power factor one here ({_say(odd, 'asymmetric_sgen')})."
            )
    return mistakes


def _refused_devices(net: Any) -> list[str]:
    mistakes = []
    loads = active(net, "load")
    shares = [column for column in loads if re.fullmatch(r"const_[zi](_[pq])?_percent", str(column))]
    voltage_dependent = loads[(loads[shares].fillna(0.0) != 0).any(axis=1)] if shares else loads.iloc[:0]
    generating = loads[loads.p_mw * loads.scaling < 0]
    generators = active(net, "sgen")
    of_type = column(generators, "type", "").fillna("").astype(str)
    other = generators[~of_type.str.contains(r"pv|solar|^$|wye|delta", case=False, regex=True)]
    for rows, table, what in (
        (voltage_dependent, "load", "whose power depends on the voltage; only constant power is known here"),
        (generating, "load", "with negative power; make them static generators (sgen)"),
        (other, "sgen", "that are not PV, for which connections have no column"),
        (generators[generators.p_mw * generators.scaling < 0], "sgen", "with negative power; make them loads"),
        (
            generators[generators.q_mvar.fillna(0.0) != 0],
            "sgen",
            "with reactive power; PV runs at power factor one here",
        ),
    ):
        if len(rows):
            mistakes.append(f"elements {what} ({_say(rows, table)}).")
    return mistakes
