"""``commonwatt network validate``: envelopes tried by everything that can be done inside them, and the verdict in words.

The trying is :mod:`network.validation`; here it is given a case or a run, and turned into sentences, JSON and rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from network.held import refuse_held
from network.referee_choice import not_asked
from network.validation import Validation
from network.validation import validate as try_all
from network.validation_data import Doubts
from network.validation_messages import Messages
from network.validation_tally import NO_SOLUTION, Case, Tally
from sim.network_envelopes import refused_words
from sim.network_validate_given import Given

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "NetworkValidation",
    "case_words",
    "is_refused",
    "label",
    "left_out_words",
    "number",
    "other_words",
    "validate",
    "verdict",
]

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Even:
    """How evenly the limits of one side are shared, by the mean over all intervals: see :mod:`network.equity`."""

    jain: float
    gini: float

    least: float
    """Part of its cap that the worst served has, or its kW where no caps are known."""

    mean: float

    worst: str
    """Who that is, "" where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkValidation:
    """What was validated, and what came of it."""

    given: Given
    found: Validation
    seed: int
    samples: int

    @property
    def status(self) -> str:
        """Safe, unsafe, unconfirmed, or infeasible where nothing is promised in some interval."""
        if self.found.status == "safe" and len(self.found.left_out):
            return "infeasible"
        return self.found.status

    @property
    def cost_of_robustness(self) -> tuple[float, float]:
        """Share of import and export of the same rule's two-corner envelope that is given up for safety; NaN without one."""
        plain = self.given.deterministic
        if plain is None:
            return np.nan, np.nan
        rows = np.isfinite(self.given.import_limit_kw).all(axis=1)
        both_there = np.flatnonzero(self.given.promised & (plain.status == "ok"))
        pairs = (
            (self.given.import_limit_kw, plain.import_limit_kw),
            (self.given.export_limit_kw, plain.export_limit_kw),
        )
        both = [
            (float(mine[rows][:, both_there].sum()), float(theirs[rows][:, both_there].sum())) for mine, theirs in pairs
        ]
        first, second = (1.0 - mine / theirs if theirs > 0 else np.nan for mine, theirs in both)
        return first, second

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each way of use."""
        return self.found.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found, given = self.found, self.given
        cost = self.cost_of_robustness
        limits = {
            who: {
                "import_limit_kw": given.import_limit_kw[k].tolist(),
                "export_limit_kw": given.export_limit_kw[k].tolist(),
            }
            for k, who in enumerate(given.ids)
            if np.isfinite(given.import_limit_kw[k]).all()
        }
        return {
            "case": given.name,
            "status": self.status,
            "verdict": verdict(self),
            "envelopes": given.origin,
            "seed": self.seed,
            "samples": self.samples,
            "tried": found.tried,
            "corners": found.patterns.signs.shape[1],
            "uses": found.to_frame().to_dict("records"),
            "worst": [
                {
                    "use": case.use, "kind": case.kind, "element": case.element, "interval": case.interval, "limit": case.limit,
                    "excess": case.excess, "excess_by_referee": beyond * case.limit,
                    "injection_kw": dict(zip(given.ids, case.injection.real.tolist(), strict=True)),
                }
                for case, beyond in zip(found.worst[:20], found.worst_refereed[:20].tolist(), strict=True)
            ],
            "referee": {
                "points": found.certificate.points, "voltage_pu": found.certificate.voltage_pu,
                "loading_percent": found.certificate.loading_percent, "disagreeing": found.certificate.disagreeing,
                "agrees": found.certificate.agrees, "by": found.certificate.by, "not_asked": not_asked(found.certificate.instead),
            },
            "opendss": None if found.opendss is None else {**asdict(found.opendss), "agrees": found.opendss.agrees},
            "factor": found.factor.tolist(),
            "headroom": found.headroom,
            "conservatism_export": found.conservatism_export,
            "conservatism_import": found.conservatism_import,
            "cost_of_robustness_import": cost[0],
            "cost_of_robustness_export": cost[1],
            "equity_export": asdict(self.even("export")),
            "equity_import": asdict(self.even("import")),
            "unbalance_percent": found.unbalance_percent,
            "unbalance_bus": found.unbalance_bus,
            "compliance": None if given.compliance is None else asdict(given.compliance),
            "infeasible": {str(given.times[k]): str(given.infeasible_by[k]) for k in found.left_out},
            "limits": limits,
        }  # fmt: skip

    def even(self, side: str) -> Even:
        """Return how evenly "export" or "import" limits are shared."""
        found = self.found.equity_export if side == "export" else self.found.equity_import
        rows, worst = np.flatnonzero(np.isfinite(self.given.import_limit_kw).all(axis=1)), int(found.worst[0])
        return Even(
            jain=float(found.jain[0]),
            gini=float(found.gini[0]),
            least=float(found.least_share[0]),
            mean=float(found.mean_share[0]),
            worst=self.given.ids[rows[worst]] if worst >= 0 else "",
        )


def validate(given: Given, samples: int | None = None, progress: Progress | None = None) -> NetworkValidation:
    """Try everything that can be done inside the envelopes."""
    refuse_held(given.model.held, "a validation")
    spec, seed = given.case.validation, given.case.seed
    count = spec.samples if samples is None else samples
    active = np.isfinite(given.import_limit_kw).all(axis=1)
    ratings = [  # where nobody knows what a device could do, its largest limit
        np.where(active, np.where(np.isfinite(limit), limit, 0.0).max(axis=1, initial=0.0), 0.0) if cap is None else cap
        for cap, limit in ((given.import_cap_kw, given.import_limit_kw), (given.export_cap_kw, given.export_limit_kw))
    ]
    faults, data = spec.messages, spec.data
    found = try_all(
        given.model, given.import_limit_kw, given.export_limit_kw, given.base_injection_kw, given.base_injection_kvar, given.limits,
        firm_charge_kw=given.firm_charge_kw, source_v_pu=given.source_v_pu, kvar_per_kw=given.kvar_per_kw, free_kvar=given.free_kvar, curve=given.curve, samples=count, seed=seed, uses=spec.uses or None,
        interval_h=given.interval_h, promised=given.promised, import_cap_kw=given.import_cap_kw, export_cap_kw=given.export_cap_kw,
        dispatch_injection_kw=given.dispatch_injection_kw,
        doubts=Doubts(data.load_percent, data.impedance_percent, data.source_v_pu, data.promised),
        messages=Messages(
            ratings[0], ratings[1], faults.import_default_kw, faults.export_default_kw, faults.share_percent / 100.0, faults.draws,
            given.earlier_import_kw, given.earlier_export_kw,
        ),
        unbalance_max_percent=np.inf if spec.unbalance_max_percent is None else spec.unbalance_max_percent,
        opendss=True,
        progress=progress,
    )  # fmt: skip
    return NetworkValidation(given, found, seed, count)


def number(value: float) -> str:
    """Write a whole number with thin groups.

    >>> number(1000000)
    '1 000 000'
    """
    return f"{int(value):,}".replace(",", " ")


def place_words(case: Case) -> str:
    """Return the element of a case as people call it."""
    if case.element == NO_SOLUTION:
        return "the power flow"
    noun = "branch" if case.kind == "overload" else "bus"
    name, blank, phase = case.element.rpartition(" ")
    return f"{noun} {name}, phase {phase}" if blank and phase in ("a", "b", "c") else f"{noun} {case.element}"


def case_words(case: Case) -> str:
    """Return how far a case goes, in words.

    >>> case_words(Case("all import", "under_voltage", "b7 a", 0, 0.05, 0.9, np.zeros(1), 1.0))
    'bus b7, phase a falls to 0.8550 pu, 0.0450 pu below its limit of 0.9 pu'
    """
    if not np.isfinite(case.beyond):
        return "the power flow does not converge"
    what, limit, excess = place_words(case), case.limit, case.excess
    kept = case.beyond <= 0
    size = abs(excess)
    if case.kind == "overload":
        if kept and size < 5e-3:
            return f"{what} is loaded to its limit of {limit:g} %"
        return f"{what} is loaded to {limit + excess:.2f} %, {size:.2f} points {'within' if kept else 'beyond'} its limit of {limit:g} %"
    verb, up = ("rises", 1) if case.kind == "over_voltage" else ("falls", -1)
    if kept and size < 5e-6:
        return f"{what} {verb} to its limit of {limit:g} pu"
    digits = 4 if size >= 5e-4 else 6
    side = "above" if (up > 0) != kept else "below"
    return (
        f"{what} {verb} to {limit + up * excess:.{digits}f} pu, {size:.{digits}f} pu {side} its limit of {limit:g} pu"
    )


def verdict(result: NetworkValidation) -> str:
    """Return the verdict as one sentence."""
    found = result.found
    if found.status == "safe" and 0 < len(found.left_out) == len(result.given.times):
        return "no interval has an envelope, and nothing is promised"
    promised = [tally for tally in found.tallies if tally.counts]
    tried = sum(tally.tried for tally in promised)
    case = found.worst_case
    if found.status == "unsafe":
        if case is None or case.beyond <= 0:
            return f"the voltage unbalance at bus {found.unbalance_bus} reaches {found.unbalance_percent:.2f} %"
        inside = "inside these envelopes" if case.use != "actual dispatch" else "in what really happened"
        many = sum(tally.broken for tally in promised)
        return f"{case_words(case)}, when {when_words(case.use)}; {number(many)} of {number(tried)} uses {inside} break a limit"
    nearest = "" if case is None else f"; nearest: {case_words(case)}, when {when_words(case.use)}"
    if found.status == "unconfirmed":
        who = "OpenDSS" if found.certificate.agrees else found.certificate.by
        return f"{who} does not confirm what we find{nearest}"
    return f"none of {number(tried)} uses inside these envelopes breaks a limit{nearest}"


def is_refused(given: Given, interval: int) -> bool:
    """Return whether the cone programme's answer is none in an interval, rather than infeasible."""
    return given.refused is not None and bool(given.refused[interval])


def left_out_words(given: Given, interval: int) -> str:
    """Return why nothing is promised in an interval."""
    by = str(given.infeasible_by[interval])
    if is_refused(given, interval):
        return refused_words(by)
    if by == "not_converged":
        return "the power flow has no solution before anybody does anything"
    return f"{by} is beyond its limit before anybody does anything"


def other_words(found: Validation) -> str:
    """Return what the other referee says, as a sentence: OpenDSS, or why OpenDSS is the one and power-grid-model was not asked.

    "" where it was not to be asked.
    """
    if found.certificate.instead:
        return not_asked(found.certificate.instead) + "."
    one = found.opendss
    if one is None:
        return ""
    if one.why_not:
        return f"OpenDSS was not asked: {one.why_not}"
    if not one.points:
        return "OpenDSS was not asked: there is no use that has a solution."
    lost = f"; {one.disagreeing} have no solution there" if one.disagreeing else ""
    return f"OpenDSS {'agrees' if one.agrees else 'DISAGREES'} on {number(one.points)} uses: voltages to {one.voltage_pu:.2g} pu{lost}."


def when_words(use: str) -> str:
    """Return a way of use as the end of a sentence."""
    plain = {
        "uniform": "use is drawn uniformly",
        "vertices": "everybody does all or nothing, at random",
        "beta": "use is drawn near the ends of the envelopes",
        "phase_correlated": "those on one phase do the same",
        "area_correlated": "those on one branch of the feeder do the same",
        "time_correlated": "whole days are drawn",
        "beside the worst corners": "one or two customers are turned round beside the worst corner",
        "actual dispatch": "the meters read what they did",
    }
    return plain.get(use, use)


_LABELS = {
    "uniform": "drawn uniformly",
    "vertices": "drawn all or nothing",
    "beta": "drawn near the ends",
    "phase_correlated": "drawn alike on one phase",
    "area_correlated": "drawn alike on one branch",
    "time_correlated": "drawn as whole days",
}


def label(use: str) -> str:
    """Return the name of a way of use for a table.

    >>> label("phase_correlated"), label("actual dispatch")
    ('drawn alike on one phase', 'actual dispatch')
    """
    return _LABELS.get(use, use)


def shown(tallies: Sequence[Tally]) -> list[tuple[str, ...]]:
    """Return the rows of the table of what was tried, as text."""
    rows: list[tuple[str, ...]] = []
    for one in tallies:
        case = one.worst_case
        bound = (
            ""
            if np.isnan(one.probability_at_most)
            else f"{100 * one.probability_at_most:.3g} %{' of days' * bool(one.draws)}"
        )
        worst = "" if case is None else case_words(case)
        rows.append((label(one.name), number(one.tried), number(one.broken), f"{100 * one.probability:.3g} %" if one.tried else "–", bound, worst))  # fmt: skip
    return rows
