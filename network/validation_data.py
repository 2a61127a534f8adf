"""Envelopes and wrong data: the corners again, with other loads, impedances and source voltages than were assumed.

Envelopes are computed for forecasts, for cables of a certain length and for a voltage behind the transformer, none of which is
known to the per mille.  Every corner of :mod:`network.vertices` is tried with each of these at either end of its range, and
with all of them together.  What breaks here breaks no promise, unless the envelope was computed for such doubts; it says how
much of a promise it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from network.validation_tally import Tally
from network.validation_tries import Trial

__all__ = ["Doubts", "doubtful"]


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


def doubtful(trial: Trial, doubts: Doubts) -> list[Tally]:
    """Try every corner with other data."""
    box = trial.box
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
    measures = {
        1.0 + ohms: trial.measure.with_impedance(1.0 + ohms) for _, part, _ in meant.values() for ohms in (-part, part)
    }
    tallies = []
    for name, way in meant.items():
        tally = Tally(names[name], "data", counts=doubts.promised)
        for load, ohms, volts in product(*((-one, one) if one else (0.0,) for one in way)):
            changed = replace(box, fixed=box.fixed * (1.0 + load), source_v_pu=box.source_v_pu + volts)
            words = f"loads {100 * load:+g} %, impedances {100 * ohms:+g} %, source {volts:+g} pu: "
            there = replace(trial, measure=measures[1.0 + ohms], box=changed)
            _try(there, tally, words, 1.0 + ohms)
        tallies.append(tally)
    return tallies


def _try(trial: Trial, tally: Tally, words: str, impedance: float) -> None:
    measure, box, corners = trial.measure, trial.box, trial.corners
    for u, interval, corner in corners.columns(trial.kept):
        injection, source = box.injection(u, interval), box.source_v_pu[interval]
        said = [words + corners.names[k] for k in corner]
        tally.add(measure, measure.read(injection, source), injection, source, interval, said, impedance)
