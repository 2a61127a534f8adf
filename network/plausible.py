"""What cannot be a feeder: every mistake of its data as a sentence, none raised.

Each function returns sentences: what is wrong, with which bus or branch, what was given, what to do.
:class:`network.feeder.Feeder` collects them and raises once.

Besides what is impossible (a negative resistance, a NaN) there is what can only be a wrong unit.  The bounds are wide,
so that no real network meets them, and each stands beside its reason below.  How the parts hang together is
:mod:`network.plausible_tree`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from network.elements import Branches, Buses

__all__ = [
    "branches_mistakes",
    "buses_mistakes",
    "named",
    "source_mistakes",
]

Mask = NDArray[np.bool_]
Vector = NDArray[np.float64]

_GRID_RAD_PER_S = 2 * np.pi * 50.0

_V_NOMINAL_V = (48.0, 1.2e6)
"""Below: kilovolts given as volts (0.4).  Above: no network is that high."""

_LINE_SHORT_CIRCUIT_VA = {"low": 1e3, "high": 1e5}
"""V²/|z| of a line alone, below and above 1 kV nominal: 1 kVA is a 400 V service of 160 ohm."""

_OHM_PER_KM = 100.0
"""The thinnest cable has 18 ohm/km; more is milliohm taken for ohm, or metres for kilometres."""

_SERIES_TIMES_SHUNT = 0.2
"""|z|·ωC of a line, without unit: 0.01 for 100 km of overhead line.  More is microfarad taken for nanofarad."""

_RATING_A = 1.0
"""Below: kiloampere given as ampere (0.27)."""

_UK_PERCENT = (0.1, 50.0)
"""Below: a fraction (0.04) given as percent."""

_REGULATOR_PERCENT = 0.02
"""Up to this it is no fraction either: a regulator, or a transformer meant to be ideal.  A bank may have less than usual, too."""

_TURNS = (0.5, 1.5)
"""Of a regulator over its rated ones: 0.9 to 1.1 is usual; outside, percent or steps are given."""

_WINDING_TO_NOMINAL = (0.5, 2.0)
"""A winding's rated voltage over its bus's nominal one; outside, the sides are swapped or the unit is wrong."""

_SOURCE_V_PU = (0.5, 1.5)
_SOURCE_VA = 1e4
"""Below: MVA given as VA."""


def named(names: Sequence[str], most: int = 8) -> str:
    """Return names as people list them: ``'a', 'b' and 3 more``."""
    quoted = [repr(name) for name in names[:most]]
    if len(names) > most:
        return ", ".join(quoted) + f" and {len(names) - most} more"
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + f" and {quoted[-1]}" if quoted else "none"


def _twice(ids: Sequence[str]) -> list[str]:
    return [name for name, times in Counter(ids).items() if times > 1]


def _lengths(owner: object, names: Sequence[str], rows: int) -> list[str]:
    return [
        f"{name} has {len(getattr(owner, name))} entries for {rows} ids."
        for name in names
        if len(getattr(owner, name)) != rows
    ]


def buses_mistakes(buses: Buses) -> list[str]:
    """Return what is wrong with the buses."""
    if mistakes := _lengths(buses, ("v_nominal_v", "x", "y"), len(buses.ids)):
        return mistakes
    if not buses.ids:
        return ["there is no bus. A feeder has at least the one at which it is fed."]
    if twice := _twice(buses.ids):
        mistakes.append(f"several buses are called {named(twice)}. Give every bus an id of its own.")
    low, high = _V_NOMINAL_V
    odd = ~((buses.v_nominal_v >= low) & (buses.v_nominal_v <= high))
    mistakes += [
        f"bus {buses.ids[k]!r} has a nominal voltage of {buses.v_nominal_v[k]:g} V; expected {low:g} to {high:g} V "
        f"(line to line, in volt, not kilovolt)."
        for k in np.flatnonzero(odd)
    ]
    y = buses.shunt_siemens
    if y.shape not in {(0, 3, 3), (len(buses.ids), 3, 3)}:
        return [
            *mistakes,
            f"shunt_siemens has shape {y.shape}; expected a matrix of 3 by 3 for each bus, or none at all.",
        ]
    apart = np.abs(y - y.transpose(0, 2, 1)) > 1e-9 * np.abs(y).max(axis=(1, 2), initial=0.0)[:, None, None]
    mistakes += [
        f"bus {buses.ids[k]!r} has a shunt that is not finite, or not symmetric between its conductors."
        for k in np.flatnonzero(apart.any(axis=(1, 2)) | ~np.isfinite(y).all(axis=(1, 2)))
    ]
    return mistakes


def source_mistakes(n_bus: int, bus: int, v_pu: float, short_circuit_va: float, rx_ratio: float) -> list[str]:
    """Return what is wrong with the source."""
    mistakes = []
    if not 0 <= bus < n_bus:
        mistakes.append(f"the source stands at bus number {bus}, but the buses are numbered 0 to {n_bus - 1}.")
    low, high = _SOURCE_V_PU
    if not low <= v_pu <= high:
        mistakes.append(f"the source has a voltage of {v_pu:g} pu; expected {low:g} to {high:g} (per unit, not volt).")
    if not _SOURCE_VA <= short_circuit_va < np.inf:
        mistakes.append(
            f"the source has a short-circuit power of {short_circuit_va:g} VA; expected at least {_SOURCE_VA:g} "
            f"(in VA, not MVA; 1e16 for an ideal source)."
        )
    if not 0 <= rx_ratio < np.inf:
        mistakes.append(f"the source has an R/X ratio of {rx_ratio:g}; expected a finite number, zero or more.")
    return mistakes


def branches_mistakes(branches: Branches, buses: Buses) -> list[str]:
    """Return what is wrong with the branches, each for itself."""
    rows = len(branches.ids)
    columns = [name for name in Branches.__slots__ if name != "ids"]
    if mistakes := _lengths(branches, columns, rows):
        return mistakes
    if twice := _twice(branches.ids):
        mistakes.append(f"several branches are called {named(twice)}. Give every branch an id of its own.")
    if odd := [
        f"{name!r} ({kind!r})"
        for name, kind in zip(branches.ids, branches.kind, strict=True)
        if kind not in {"line", "transformer"}
    ]:
        mistakes.append(f'a branch is a "line" or a "transformer"; not so {", ".join(odd)}.')
    n_bus = len(buses.ids)
    ends_known = np.ones(rows, dtype=bool)
    for side, ends in (("from", branches.from_bus), ("to", branches.to_bus)):
        for k in np.flatnonzero((ends < 0) | (ends >= n_bus)):
            ends_known[k] = False
            mistakes.append(
                f"branch {branches.ids[k]!r} goes {side} bus number {ends[k]}, but the buses are numbered 0 to {n_bus - 1}."
            )
    for k in np.flatnonzero(ends_known & (branches.from_bus == branches.to_bus)):
        mistakes.append(f"branch {branches.ids[k]!r} begins and ends at bus {buses.ids[branches.from_bus[k]]!r}.")
    mistakes += _conductor_mistakes(branches)
    v_from, v_to = (
        np.where(ends_known, buses.v_nominal_v[np.where(ends_known, ends, 0)] if n_bus else np.nan, np.nan)
        for ends in (branches.from_bus, branches.to_bus)
    )
    return [*mistakes, *_line_mistakes(branches, v_from, v_to), *_transformer_mistakes(branches, v_from, v_to)]


def _conductor_mistakes(branches: Branches) -> list[str]:
    """Return what is wrong with phases, and with matrices between conductors."""
    known = {"abc", "ab", "ac", "bc", "a", "b", "c"}
    mistakes = [
        f"branch {name!r} has the phases {phases!r}; expected one of {', '.join(sorted(known))}."
        for name, phases in zip(branches.ids, branches.phases, strict=True)
        if phases not in known
    ]
    mistakes += [
        f"transformer {branches.ids[k]!r} has the phases {branches.phases[k]!r}; only transformers of all three are calculated with, "
        f"and banks of single-phase ones, whose turns are told."
        for k in np.flatnonzero(~branches.is_line & ~branches.is_bank)
        if branches.phases[k] != "abc"
    ]
    mistakes += _bank_mistakes(branches)
    for k in np.flatnonzero(branches.untransposed):
        there = np.ix_(branches.conductors[k], branches.conductors[k])
        z, c = branches.z_abc_ohm[k][there], np.nan_to_num(branches.c_abc_nf[k][there])
        own = np.diag(z)
        if branches.kind[k] != "line" or not (
            np.isfinite(z).all() and (own.real >= 0).all() and (np.abs(own) > 0).all()
        ):
            mistakes.append(
                f"branch {branches.ids[k]!r}: the impedances between its conductors must be finite, with a positive diagonal, "
                f"and belong to a line."
            )
        elif not (np.allclose(z, z.T, rtol=1e-6) and np.allclose(c, c.T, rtol=1e-6)):
            mistakes.append(f"line {branches.ids[k]!r}: its matrix between conductors is not symmetric.")
    return mistakes


def _bank_mistakes(branches: Branches) -> list[str]:
    """Return what is wrong with banks of single-phase transformers, and with windings."""
    low, high = _TURNS
    mistakes = []
    for k in np.flatnonzero(branches.is_bank):
        turns = branches.turns_abc[k][branches.conductors[k]]
        if branches.kind[k] != "transformer" or branches.clock[k] or branches.windings[k] or branches.tap_side[k]:
            mistakes.append(
                f"branch {branches.ids[k]!r}: turns for each phase belong to a star-star transformer of clock number 0 without another tap."
            )
        elif not ((turns >= low) & (turns <= high)).all():
            mistakes.append(
                f"transformer {branches.ids[k]!r} has the turns {', '.join(f'{one:g}' for one in turns)}; expected {low:g} to {high:g} "
                f"for each of its phases (per unit, not steps)."
            )
    for row, windings in enumerate(branches.windings):
        if windings and (windings != "dd" or branches.kind[row] != "transformer" or branches.clock[row] % 2):
            mistakes.append(
                f'branch {branches.ids[row]!r} has the windings {windings!r}; expected "dd" for a delta-delta transformer of an even '
                f"clock number, or nothing."
            )
    return mistakes


def _each(branches: Branches, wrong: Mask, sentence: str, **columns: Vector | tuple[str, ...]) -> list[str]:
    """Return one sentence for each wrong branch; ``{name}`` in it is that branch's entry of the column."""
    return [
        f"{branches.kind[k]} {branches.ids[k]!r} "
        + sentence.format(**{name: column[k] for name, column in columns.items()})
        for k in np.flatnonzero(wrong)
    ]


def _line_mistakes(branches: Branches, v_from: Vector, v_to: Vector) -> list[str]:
    line = branches.is_line
    r, x, c, rating = branches.r1_ohm, branches.x1_ohm, branches.c1_nf, branches.rating_a
    positive = (r >= 0) & (x >= 0) & (r + x > 0) & (r + x < np.inf)
    z = np.hypot(r, x)
    mistakes = _each(
        branches,
        line & ~positive,
        "has an impedance of {r:g} + j{x:g} ohm; expected finite numbers, none negative, not both zero.",
        r=r,
        x=x,
    )
    mistakes += _each(
        branches, line & ~((c >= 0) & (c < np.inf)), "has a capacitance of {c:g} nF; expected zero or more.", c=c
    )
    mistakes += _each(
        branches,
        line & ~(rating >= _RATING_A),
        "has a rating of {rating:g} A; expected at least 1 A (in ampere, not kiloampere), or inf where no limit is known.",
        rating=rating,
    )
    mistakes += _each(
        branches,
        line & (np.abs(v_from - v_to) > 0.01 * v_from),
        "joins buses of {v_from:g} V and {v_to:g} V. Put a transformer between them, or correct the nominal voltages.",
        v_from=v_from,
        v_to=v_to,
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        weakest = np.where(v_from < 1e3, _LINE_SHORT_CIRCUIT_VA["low"], _LINE_SHORT_CIRCUIT_VA["high"])
        wrong_unit = positive & (v_from**2 / z < weakest)
        ohm_per_km = z / (branches.length_m / 1e3)
        wrong_length = positive & ~wrong_unit & (ohm_per_km > _OHM_PER_KM)
    mistakes += _each(
        branches,
        line & wrong_unit,
        "has {z:g} ohm, which no line of a {v_from:g} V network has. Give ohm for the whole line (not milliohm, not per unit).",
        z=z,
        v_from=v_from,
    )
    mistakes += _each(
        branches,
        line & wrong_length,
        "has {ohm_per_km:g} ohm per kilometre (its length is {length:g} m). Check ohm against milliohm and metres against kilometres.",
        ohm_per_km=ohm_per_km,
        length=branches.length_m,
    )
    mistakes += _each(
        branches,
        line & positive & ~wrong_unit & (z * _GRID_RAD_PER_S * c * 1e-9 > _SERIES_TIMES_SHUNT),
        "has a capacitance of {c:g} nF, too much for its impedance. Give nanofarad for the whole line.",
        c=c,
    )
    return mistakes


def _transformer_mistakes(branches: Branches, v_from: Vector, v_to: Vector) -> list[str]:
    trafo = np.array([kind == "transformer" for kind in branches.kind], dtype=bool)
    sn, uk, pk, step, position = (
        *(branches.sn_kva, branches.uk_percent, branches.pk_kw),
        *(branches.tap_step_percent, branches.tap_position),
    )
    mistakes = _each(
        branches,
        trafo & ~((sn > 0) & (sn < np.inf)),
        "has a rated power of {sn:g} kVA; expected a positive number.",
        sn=sn,
    )
    low, high = _WINDING_TO_NOMINAL
    for side, winding, nominal in (("from", branches.v_from_v, v_from), ("to", branches.v_to_v, v_to)):
        fits = (winding >= low * nominal) & (winding <= high * nominal)
        mistakes += _each(
            branches,
            trafo & ~fits & ~np.isnan(nominal),
            f"has a rated voltage of {{winding:g}} V on its {side} side, where the bus has {{nominal:g}} V. "
            "Check the unit, and whether from and to are swapped.",
            winding=winding,
            nominal=nominal,
        )
    low, high = _UK_PERCENT
    mistakes += _each(
        branches,
        trafo & ~((uk <= high) & ((uk >= low) | ((uk > 0) & (branches.is_bank | (uk <= _REGULATOR_PERCENT))))),
        f"has uk = {{uk:g}} %; expected {low:g} to {high:g} (percent, not a fraction), or at most {_REGULATOR_PERCENT:g} of a regulator.",
        uk=uk,
    )
    most = uk / 100 * sn
    mistakes += _each(
        branches,
        trafo & (sn > 0) & (uk > 0) & ~((pk >= 0) & (pk <= most)),
        "has a copper loss of {pk:g} kW; expected zero to uk · sn = {most:g} kW.",
        pk=pk,
        most=most,
    )
    for name, what, unit in (("i0_percent", "a no-load current", "%"), ("p0_kw", "an iron loss", "kW")):
        value: Vector = getattr(branches, name)
        mistakes += _each(
            branches,
            trafo & ~((value >= 0) & (value < np.inf)),
            f"has {what} of {{value:g}} {unit}; expected zero or more.",
            value=value,
        )
    clock = branches.clock
    mistakes += _each(
        branches,
        trafo & ~((clock == np.rint(clock)) & (np.abs(clock) <= 12)),
        "has the clock number {clock:g}; expected a whole number from -12 to 12.",
        clock=clock,
    )
    tapped = trafo & np.array([side in {"from", "to"} for side in branches.tap_side], dtype=bool)
    mistakes += _each(
        branches,
        trafo & ~tapped & np.array([side != "" for side in branches.tap_side], dtype=bool),
        'has its tap changer on side {side!r}; expected "from", "to", or "" for none.',
        side=branches.tap_side,
    )
    mistakes += _each(
        branches,
        tapped
        & ~(
            (position == np.rint(position)) & (np.abs(position) <= 100) & (step >= 0) & (np.abs(position * step) <= 50)
        ),
        "stands at tap {position:g} of {step:g} % a step; expected whole steps that change the voltage by at most 50 %.",
        position=position,
        step=step,
    )
    return mistakes
