"""Dynamic operating envelopes: how much each connection may import and export in each interval.

An envelope gives every ACTIVE connection i two numbers, and promises the network for any use between them::

    p_i in [−import_limit_i, export_limit_i]      p the injection of the whole physical meter            (1)

Passive connections stay at their forecast.  What "any use" means is the mode (:mod:`network.assumed`): the two vertices of
the industry's practice [1]_, or the whole box; how the limits are shared is the rule (:mod:`network.rules`), from the
floors to the caps.  Every limit of the network is corrected by the AC power flow at its own worst use
(:mod:`network.deterministic`, :mod:`network.robust_path`, :mod:`network.allocation`): the envelope is the AC-exact one of
its rule, not that of a linear model.  To compare with there are two other methods: linear DistFlow without correction
(:mod:`network.headroom_linear`), and the cone programme (:mod:`network.envelope_cone`).

Envelope lifting: a connection with a firm charge f (a shared storage that must take f, whatever the others do) injects
−f where the others export, and that is what makes room for their export; its own export limit is 0, and its import limit
is at least f.

Infeasible is an outcome: where the passive connections alone (the active ones at their floors) break a limit, the
status says so, the element is named, and the limits are the floors.

Limits: not a proof where AC voltages are not monotone; validate.

References
----------
.. [1] ARENA, "Project evolve", and Power Systems Wiki, "Dynamic operating envelopes".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.allocation import optimum
from network.assumed import MODES, Reactive, Uncertainty
from network.deterministic import two_vertices
from network.envelope_asked import (
    METHODS,
    EnvelopeError,
    Limits,
    base_of,
    bounds_of,
    method_mistakes,
    mode_mistakes,
    sentences,
    sharing_of,
    table_mistakes,
    tables_of,
    unknown_words,
)
from network.envelope_case import Case, worlds
from network.robust_path import Boxes, follow
from network.robust_rows import rows_at_most
from network.rules import RULES, Rule

if TYPE_CHECKING:
    import pandas as pd

    from network.envelope_cone import Cone

__all__ = [
    "METHODS",
    "MODES",
    "RULES",
    "Envelope",
    "EnvelopeError",
    "Limits",
    "Reactive",
    "Rule",
    "Uncertainty",
    "compute",
]

Vector = NDArray[np.float64]
Text = NDArray[np.str_]

_COLUMNS_AT_ONCE = 1024  # bounds the memory of a year of envelopes
_ENTRIES_AT_ONCE = 4_000_000  # of linear rows and intervals, likewise


def _blank() -> Text:
    return np.array([], dtype=np.str_)


def _no_numbers() -> Vector:
    return np.array([])


@dataclass(frozen=True, slots=True, eq=False)
class Envelope:
    """Limits for c connections in T intervals: never negative, never NaN; inf for passive connections (no limit is set)."""

    import_limit_kw: Vector
    """What the meter may draw at most.  Shape (c, T). [kW]"""

    export_limit_kw: Vector
    """What the meter may feed in at most.  Shape (c, T). [kW]"""

    firm_charge_kw: Vector
    """What the meter must draw at least.  Shape (c, T). [kW]"""

    mode: str

    rule: str

    binding_import: Text
    """Id of the bus or branch that limits imports, "" where nothing does.  Shape (T,)."""

    binding_export: Text
    """Likewise for exports.  Shape (T,)."""

    status: Text
    """"ok", "infeasible", or "refused" where the cone programme's answer is no power flow.  Shape (T,)."""

    infeasible_by: Text
    """Id of the bus or branch beyond its limit already at the floors, "not_converged" where the power flow has no
    solution there, "" where all is well; where refused, the branch with the largest gap.  Shape (T,)."""

    share_import: Vector
    """α of the rule: how far the import limits went from floors to caps, all together.  Shape (T,)."""

    share_export: Vector
    """Likewise for the export limits.  Shape (T,)."""

    binding_import_kind: Text = field(default_factory=_blank)
    """"over_voltage", "under_voltage" or "overload": how the element of ``binding_import`` is at its limit.  Shape (T,)."""

    binding_export_kind: Text = field(default_factory=_blank)
    """Likewise for exports.  Shape (T,)."""

    infeasible_kind: Text = field(default_factory=_blank)
    """Likewise of ``infeasible_by``; "inexact" where refused.  Shape (T,)."""

    reactive: str = "as forecast"
    """What was assumed of the reactive power, in words."""

    method: str = "corrected"
    """A name in :data:`METHODS`; only "corrected" is made to hold by AC power flow."""

    gap_import: Vector = field(default_factory=_no_numbers)
    """How far the cone programme of the import side is from a power flow (:mod:`network.conic`); NaN without one.  Shape (T,)."""

    gap_export: Vector = field(default_factory=_no_numbers)
    """Likewise.  Shape (T,)."""

    def to_frame(self, ids: Sequence[str] | None = None, times: ArrayLike | None = None) -> pd.DataFrame:
        """Return a table with a row for each interval and connection that has an envelope.

        Parameters
        ----------
        ids
            Names of the connections; None: their numbers.
        times : shape (T,)
            Starts of the intervals; None: their numbers.
        """
        import pandas as pd

        connections, steps = self.export_limit_kw.shape
        names = np.array([str(k) for k in range(connections)] if ids is None else list(ids), dtype=object)
        when = np.arange(steps) if times is None else np.asarray(times)
        told = np.isfinite(self.export_limit_kw).any(axis=1) if steps else np.ones(connections, dtype=bool)
        rows = int(told.sum())
        columns: dict[str, object] = {"time": np.repeat(when, rows), "connection": np.tile(names[told], steps)}
        for name in ("import_limit_kw", "export_limit_kw", "firm_charge_kw"):
            columns[name] = getattr(self, name)[told].T.ravel()
        columns |= {"mode": self.mode, "rule": self.rule}
        for name in (
            *("status", "binding_import", "binding_import_kind", "binding_export", "binding_export_kind"),
            *("infeasible_by", "infeasible_kind"),
        ):
            given = getattr(self, name)
            columns[name] = np.repeat(given if len(given) == steps else np.full(steps, ""), rows)
        return pd.DataFrame(columns)


def compute(
    model: Model,
    base_injection_kw: ArrayLike,
    base_injection_kvar: ArrayLike,
    active: ArrayLike,
    export_cap_kw: ArrayLike,
    import_cap_kw: ArrayLike,
    limits: Limits,
    *,
    rule: str = "proportional",
    mode: str = "deterministic",
    method: str = "corrected",
    firm_charge_kw: ArrayLike | None = None,
    export_floor_kw: ArrayLike | None = None,
    import_floor_kw: ArrayLike | None = None,
    source_v_pu: ArrayLike | None = None,
    pinned_import_kw: ArrayLike | None = None,
    budget: int | None = None,
    reactive: Reactive | None = None,
    uncertainty: Uncertainty | None = None,
    weight: ArrayLike | None = None,
    order: ArrayLike | None = None,
    alpha: float = 2.0,
) -> Envelope:
    """Return the envelopes of T intervals.

    Parameters
    ----------
    model
        The feeder with its c connections.
    base_injection_kw, base_injection_kvar : shape (c, T)
        Forecast of every connection (a load is negative).  An active connection keeps only its reactive part: its
        envelope replaces the active one. [kW], [kvar]
    active : shape (c,)
        Connections that get an envelope and keep it.
    export_cap_kw, import_cap_kw : shape (c,) or (c, T)
        What a connection could use at most; ignored for passive ones. [kW]
    limits
        What the network must keep.
    rule
        A name in :data:`RULES`.
    mode
        A name in :data:`MODES`.
    method
        A name in :data:`METHODS`: "linear" leaves the AC correction out, "cone" asks :mod:`network.conic`, which knows the
        mode "deterministic" and the rule "max_total" of balanced feeders; both are there to compare with.
    firm_charge_kw : shape (c, T)
        What a connection must draw at least, the network counting on it; None: nothing. [kW]
    export_floor_kw, import_floor_kw : shape (c,) or (c, T)
        Limits that are granted in any case (static rights); None: nothing. [kW]
    source_v_pu : number or shape (T,)
        Voltage of the source; None: as the feeder says. [p.u.]
    pinned_import_kw : number, shape (c,) or (c, T)
        The import limit of everybody in the mode "robust_pinned", no more than its cap. [kW]
    budget
        Γ: how many connections may do otherwise than all the others in the mode "budget".
    reactive
        What active connections do with their reactive power; None: as forecast.
    uncertainty
        How far the data may be off, in any mode; None: not at all.  The mode "chance" needs it, with shape "gaussian".
    weight : shape (c,)
        How much a connection counts; None: all alike.
    order : shape (c,)
        Who was connected first has the lowest number ("last_in_first_out"); None: in the order of the connections.
    alpha
        Of "alpha_fair".
    """
    wrong = unknown_words(rule, mode, method)
    bounds = bounds_of(model, limits, wrong)
    reactive, doubt = reactive or Reactive(), uncertainty or Uncertainty()
    base, acting = base_of(model, base_injection_kw, base_injection_kvar, active, wrong)
    wrong += reactive.mistakes(len(base)) + doubt.mistakes(base.shape)
    wrong += mode_mistakes(mode, pinned_import_kw, budget, uncertainty)
    tables = tables_of(
        base.shape,
        acting,
        firm_charge_kw,
        (export_cap_kw, import_cap_kw),
        (export_floor_kw, import_floor_kw),
        pinned_import_kw if mode == "robust_pinned" else None,
        wrong,
    )
    sharing = sharing_of(rule, len(base), weight, order, alpha, wrong)
    wrong += table_mistakes(tables, acting, firm_charge_kw)
    wrong += method_mistakes(method, mode, rule, reactive, doubt, tables, weight, three_phase=model.three_phase)
    if wrong or bounds is None or sharing is None:
        raise EnvelopeError(sentences(wrong))
    case = Case.of(
        worlds(model, bounds, reactive, doubt, linear=method == "linear"),
        sharing,
        mode,
        budget or 0,
        model.source_voltage(source_v_pu, base.shape[1]),
        acting,
        base,
        tables,
        reactive,
        doubt,
    )
    if method == "cone":
        from network.envelope_cone import boxes_of_cone  # loads scipy.sparse: only where it is needed

        boxes, cone = boxes_of_cone(case, limits)
    else:
        boxes, cone = _boxes(case), None
    return _told(case, boxes, rule, method, reactive, cone)


def _told(case: Case, boxes: Boxes, rule: str, method: str, reactive: Reactive, cone: Cone | None) -> Envelope:
    """Return limits, and what they are met by, in names."""
    headroom = case.headroom
    beyond = np.where(case.acting, 0.0, np.inf)[:, None]
    infeasible = ~boxes.safe
    by_row = np.where(infeasible, np.where(boxes.row_export == -1, boxes.row_import, boxes.row_export), -1)
    names, kinds = _words(headroom.elements), _words(headroom.kinds)
    status, by = np.where(infeasible, "infeasible", "ok"), names[by_row]
    no_gap = np.full(len(case.source), np.nan)
    if cone is not None:
        status = np.where(cone.refused, "refused", status)
        by = np.where(cone.refused, cone.worst, by)
    return Envelope(
        import_limit_kw=boxes.import_kw + beyond,
        export_limit_kw=boxes.export_kw + beyond,
        firm_charge_kw=case.firm,
        mode=case.mode,
        rule=rule,
        binding_import=names[boxes.row_import],
        binding_export=names[boxes.row_export],
        status=status,
        infeasible_by=by,
        share_import=boxes.share_import,
        share_export=boxes.share_export,
        binding_import_kind=kinds[boxes.row_import],
        binding_export_kind=kinds[boxes.row_export],
        infeasible_kind=np.where(status == "refused", "inexact", kinds[by_row]),
        reactive=reactive.words,
        method=method,
        gap_import=no_gap if cone is None else cone.gap_import,
        gap_export=no_gap if cone is None else cone.gap_export,
    )


def _words(of_row: tuple[str, ...]) -> Text:
    """Return the word of each row of the headroom; −1 is nobody, −2 a power flow without a solution."""
    return np.array([*of_row, "not_converged", ""], dtype=np.str_)


def _boxes(case: Case) -> Boxes:
    """Compute the envelopes, some intervals at once."""
    steps = len(case.source)
    fast = case.mode == "deterministic" and case.plain and not case.sharing.rule.optimum
    width = max(_COLUMNS_AT_ONCE // 2, 1) if fast else max(min(_ENTRIES_AT_ONCE // rows_at_most(case), 512), 16)
    answers = [_at_once(case.between(slice(begin, begin + width)), fast) for begin in range(0, max(steps, 1), width)]
    if len(answers) == 1:
        return answers[0]
    joined = [np.concatenate([getattr(one, column.name) for one in answers], axis=-1) for column in fields(Boxes)]
    return Boxes(*joined)


def _at_once(case: Case, fast: bool) -> Boxes:
    if fast:
        return two_vertices(case)
    solve = optimum if case.sharing.rule.optimum else follow
    if case.mode != "deterministic":
        return solve(case, 0)
    export, imports = solve(case, 1), solve(case, -1)
    return Boxes(
        *(export.export_kw, imports.import_kw, export.share_export, imports.share_import, export.row_export),
        row_import=imports.row_import,
        safe=export.safe & imports.safe,
    )
