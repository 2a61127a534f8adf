"""Envelopes and wrong data: the corners again, with other loads, impedances and source voltages than were assumed.

Envelopes are computed for forecasts, for cables of a certain length and for a voltage behind the transformer, none of which is
known to the per mille.  Every corner of :mod:`network.vertices` is tried with each of these at either end of its range, and
with all of them together.  What breaks here breaks no promise, unless the envelope was computed for such doubts; it says how
much of a promise it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from network.acflow import Model
from network.envelope import Limits
from network.reactive import VoltVar
from network.validation_box import Box
from network.validation_measure import Measure, bounds_of
from network.validation_tally import Tally
from network.vertices import Vertices

__all__ = ["Doubts", "doubtful", "with_impedance"]

Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Doubts:
    """How far data may be from the truth, either way."""

    load_percent: float = 10.0
    """Loads of those without an envelope, and the reactive power of all. [%]"""

    impedance_percent: float = 10.0
    """Of all lines and transformers together. [%]"""

    source_v_pu: float = 0.01
    """Voltage of the source. [p.u.]"""

    promised: bool = False
    """Whether the envelopes were computed for these doubts, so that what breaks counts."""


def doubtful(
    model: Model, limits: Limits, box: Box, kept: Index, corners: Vertices, doubts: Doubts, curve: VoltVar | None = None
) -> list[Tally]:
    """Try every corner of the intervals ``kept`` with other data."""
    ways = {
        "loads": (doubts.load_percent / 100.0, 0.0, 0.0),
        "impedances": (0.0, doubts.impedance_percent / 100.0, 0.0),
        "source voltage": (0.0, 0.0, doubts.source_v_pu),
    }
    names = {
        "loads": f"loads ±{doubts.load_percent:g} %",
        "impedances": f"impedances ±{doubts.impedance_percent:g} %",
        "source voltage": f"source voltage ±{doubts.source_v_pu:g} pu",
    }
    meant = {name: way for name, way in ways.items() if any(way)}
    if len(meant) > 1:
        meant["all together"] = (ways["loads"][0], ways["impedances"][1], ways["source voltage"][2])
        names["all together"] = "all of these together"
    measures: dict[float, Measure] = {}
    tallies = []
    for name, way in meant.items():
        tally = Tally(names[name], "data", counts=doubts.promised)
        for load, ohms, volts in product(*((-one, one) if one else (0.0,) for one in way)):
            factor = 1.0 + ohms
            if factor not in measures:
                other = with_impedance(model, factor)
                measures[factor] = Measure(other, *bounds_of(other, limits), curve)
            changed = replace(box, fixed=box.fixed * (1.0 + load), source_v_pu=box.source_v_pu + volts)
            words = f"loads {100 * load:+g} %, impedances {100 * ohms:+g} %, source {volts:+g} pu: "
            _try(measures[factor], changed, kept, corners, tally, words, factor)
        tallies.append(tally)
    return tallies


def _try(
    measure: Measure, box: Box, kept: Index, corners: Vertices, tally: Tally, words: str, impedance: float
) -> None:
    for u, interval, corner in corners.columns(kept):
        injection, source = box.injection(u, interval), box.source_v_pu[interval]
        said = [words + corners.names[k] for k in corner]
        tally.add(measure, measure.read(injection, source), injection, source, interval, said, impedance)


def with_impedance(model: Model, factor: float) -> Model:
    """Return the same feeder and connections, all series impedances multiplied."""
    if factor == 1.0:
        return model
    branches = model.feeder.branches
    longer = {
        name: getattr(branches, name) * factor for name in ("r1_ohm", "x1_ohm", "r0_ohm", "x0_ohm", "uk_percent", "pk_kw", "z_abc_ohm")
    }  # fmt: skip
    feeder = replace(model.feeder, branches=replace(branches, **longer))
    return Model(feeder, model.connection_bus, model.connection_phase)
