"""Dynamic operating envelopes: how much each connection may import and export in each interval.

An envelope gives every ACTIVE connection i two numbers, and promises the network for any use between them::

    p_i in [−import_limit_i, export_limit_i]      p the injection of the whole physical meter            (1)

Passive connections stay at their forecast.  Two vertices of this box are checked by AC power flow: everybody exports
its limit; everybody imports its limit (mode "deterministic", the industry's practice [1]_).  In a balanced radial
feeder voltages rise with every injection, so these two are the worst of all points of the box; tests sample the inside.

How the limits are shared is a rule, a path that all limits follow together, from the floors (share 0) to the caps
(share 1); the envelope is the last point of it at which the AC power flow keeps every limit
(:mod:`network.headroom`)::

    "proportional"   limit = max(floor, α · cap)                                                         (2)
    "equal"          limit = clip(λ, floor, cap), λ = α · largest cap                                    (3)
    "max_min"        as "equal", but only those stop who strain the limit that is met; the others go on  (4)

Envelope lifting: a connection with a firm charge f (a shared storage that must take f, whatever the others do) injects
−f where the others export, and that is what makes room for their export; its own export limit is 0, and its import limit
is at least f.

Infeasible is an outcome: where the passive connections alone (the active ones at their floors) break a limit, the
status says so, the element is named, and the limits are the floors.

Limits: balanced, three-phase alike; reactive power as forecast, whatever the active power does.  Not a proof where AC
voltages are not monotone; validate.

References
----------
.. [1] ARENA, "Project evolve", and Power Systems Wiki, "Dynamic operating envelopes".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.headroom import Headroom, Reach, furthest

__all__ = ["MODES", "RULES", "Envelope", "EnvelopeError", "Limits", "Rule", "compute"]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Text = NDArray[np.str_]

_COLUMNS_AT_ONCE = 1024  # bounds the memory of a year of envelopes
_STRAINS = 1e-3  # of the largest strain: below, a connection does not count as straining a limit


class EnvelopeError(ValueError):
    """The envelope as asked for cannot be computed; the message lists every mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """What the network must keep."""

    v_min_pu: float | Vector
    """Lowest voltage, one for all buses or one each; 0: none.  [p.u.]"""

    v_max_pu: float | Vector
    """Highest voltage, likewise; inf: none.  [p.u.]"""

    loading_max_percent: float | Vector = 100.0
    """Highest loading, one for all branches or one each; inf: none.  [%]"""

    monitored: Mask | None = None
    """Buses whose voltage counts; None: all.  Shape (n_bus,)."""


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
    """"ok" or "infeasible".  Shape (T,)."""

    infeasible_by: Text
    """Id of the bus or branch beyond its limit already at the floors, "not_converged" where the power flow has no
    solution there, "" where all is well.  Shape (T,)."""

    share_import: Vector
    """α of the rule: how far the import limits went from floors to caps, all together.  Shape (T,)."""

    share_export: Vector
    """Likewise for the export limits.  Shape (T,)."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How limits share what the network can carry."""

    limit_kw: Callable[[Vector, Vector, Vector], Vector]
    """(share (S,), cap (c, S), floor (c, S)) -> limits (c, S): floors at 0, caps at 1, growing in between."""

    goes_on: bool = False
    """Whether those who do not strain the limit that is met go on."""


def _proportional(share: Vector, cap: Vector, floor: Vector) -> Vector:
    return np.asarray(np.maximum(floor, share * cap))


def _equal(share: Vector, cap: Vector, floor: Vector) -> Vector:
    return np.asarray(np.minimum(np.maximum(floor, share * cap.max(axis=0, initial=0.0)), cap))


RULES: dict[str, Rule] = {
    "proportional": Rule(_proportional),
    "equal": Rule(_equal),
    "max_min": Rule(_equal, goes_on=True),
}
"""The rules by name; a plug-in adds its own."""

MODES = ("deterministic",)
"""What is assumed about use inside the box: "deterministic": its two vertices."""


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of the box, for some columns: every connection injects ``fixed + sign · limit``."""

    fixed: Complex
    sign: float
    cap: Vector
    floor: Vector


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
    firm_charge_kw: ArrayLike | None = None,
    export_floor_kw: ArrayLike | None = None,
    import_floor_kw: ArrayLike | None = None,
    source_v_pu: ArrayLike | None = None,
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
    firm_charge_kw : shape (c, T)
        What a connection must draw at least, the network counting on it; None: nothing. [kW]
    export_floor_kw, import_floor_kw : shape (c,) or (c, T)
        Limits that are granted in any case (static rights); None: nothing. [kW]
    source_v_pu : number or shape (T,)
        Voltage of the source; None: as the feeder says. [p.u.]
    """
    wrong = [
        f"there is no {what} {given!r}. There are {', '.join(repr(name) for name in known)}."
        for what, given, known in (("rule", rule, tuple(RULES)), ("mode", mode, MODES))
        if given not in known
    ]
    headroom = _headroom(model, limits, wrong)
    base = np.asarray(base_injection_kw, dtype=np.float64) + 1j * np.asarray(base_injection_kvar, dtype=np.float64)
    shape = (model.n_connection, base.shape[1] if base.ndim == 2 else 0)
    if base.shape != shape or not np.isfinite(base).all():
        wrong.append(
            f"the base injections have shape {base.shape}; expected finite numbers, one row for each of the "
            f"{model.n_connection} connections and one column for each interval, active and reactive alike."
        )
        raise EnvelopeError(_sentences(wrong))
    acting: Mask = np.asarray(active, dtype=bool)
    if acting.shape != shape[:1]:
        wrong.append(f"active has shape {acting.shape}; expected {shape[:1]}.")
        raise EnvelopeError(_sentences(wrong))

    def table(name: str, given: ArrayLike | None) -> Vector:
        return _table(name, given, shape, acting, wrong)

    firm = table("firm_charge_kw", firm_charge_kw)
    export_cap, import_cap = table("export_cap_kw", export_cap_kw), table("import_cap_kw", import_cap_kw)
    export_floor, import_floor = table("export_floor_kw", export_floor_kw), table("import_floor_kw", import_floor_kw)
    if firm_charge_kw is not None and np.any(
        np.broadcast_to(np.asarray(firm_charge_kw).T, shape[::-1]).T[~acting] != 0
    ):
        wrong.append(
            "a passive connection has a firm charge. Make it active, or put the charge into its base injection."
        )
    for name, floor, cap in (
        ("export floor", export_floor, export_cap),
        ("import floor", import_floor, import_cap),
        ("firm charge", firm, import_cap),
    ):
        for i, t in np.argwhere(floor > cap)[:1]:
            wrong.append(
                f"connection {i} has a {name} of {floor[i, t]:g} kW above its cap of {cap[i, t]:g} kW in interval {t}. "
                f"Raise the cap."
            )
    if wrong or headroom is None:
        raise EnvelopeError(_sentences(wrong))
    source = model.source_voltage(source_v_pu, shape[1])
    obliged = firm > 0
    fixed: Complex = np.where(acting[:, None], 1j * base.imag, base)
    sides = (
        _Side(np.asarray(fixed - firm), 1.0, np.where(obliged, 0.0, export_cap), np.where(obliged, 0.0, export_floor)),
        _Side(fixed, -1.0, import_cap, np.maximum(import_floor, firm)),
    )
    (export_limit, export_reach), (import_limit, import_reach) = _both(headroom, RULES[rule], sides, source)
    passive = np.where(acting, 0.0, np.inf)[:, None]
    infeasible = ~(export_reach.safe & import_reach.safe)
    by_row = np.where(export_reach.safe, import_reach.row, export_reach.row)
    return Envelope(
        import_limit_kw=import_limit + passive,
        export_limit_kw=export_limit + passive,
        firm_charge_kw=firm,
        mode=mode,
        rule=rule,
        binding_import=_names(headroom, import_reach.row),
        binding_export=_names(headroom, export_reach.row),
        status=np.where(infeasible, "infeasible", "ok"),
        infeasible_by=np.where(infeasible, _names(headroom, by_row), ""),
        share_import=import_reach.share,
        share_export=export_reach.share,
    )


def _sentences(mistakes: list[str]) -> str:
    return "the envelope cannot be computed: " + " ".join(mistakes)


def _table(name: str, given: ArrayLike | None, shape: tuple[int, int], acting: Mask, wrong: list[str]) -> Vector:
    """Return one number for each connection and interval, 0 for passive connections, or note what is wrong."""
    values = np.zeros(shape[0]) if given is None else np.asarray(given, dtype=np.float64)
    if values.ndim == 1:
        values = values[:, None]
    if values.shape not in (shape, (shape[0], 1)):
        wrong.append(f"{name} has shape {values.shape}; expected {shape[:1]} or {shape}.")
        return np.zeros(shape)
    whole = np.where(acting[:, None], np.broadcast_to(values, shape), 0.0)
    for i, t in np.argwhere(~((whole >= 0) & (whole < np.inf)))[:1]:
        wrong.append(
            f"{name} is {whole[i, t]:g} for connection {i} in interval {t}; expected a finite number, zero or more."
        )
    return whole


def _headroom(model: Model, limits: Limits, wrong: list[str]) -> Headroom | None:
    """Return the feeder with its limits, or note what is wrong with them."""
    n, m = model.feeder.n_bus, model.feeder.n_branch
    watched = np.ones(n, dtype=bool) if limits.monitored is None else np.asarray(limits.monitored, dtype=bool)
    bounds: list[Vector] = []
    for name, size in (("v_min_pu", n), ("v_max_pu", n), ("loading_max_percent", m)):
        given = np.asarray(getattr(limits, name), dtype=np.float64)
        if given.shape not in ((), (size,)):
            wrong.append(f"limits.{name} has shape {given.shape}; expected one number or {size}.")
        bounds.append(np.broadcast_to(given, (size,)) if given.shape in ((), (size,)) else np.ones(size))
    if watched.shape != (n,):
        wrong.append(f"limits.monitored has shape {watched.shape}; expected one truth value for each of {n} buses.")
        return None
    lowest, highest, most = bounds
    odd = watched & ~((lowest >= 0) & (highest > lowest))
    if odd.any():
        k = int(np.flatnonzero(odd)[0])
        wrong.append(
            f"the voltage of bus {model.feeder.buses.ids[k]!r} is to lie between {lowest[k]:g} and {highest[k]:g} pu. "
            f"Give two numbers that rise, or leave the bus out of limits.monitored."
        )
    if not (most > 0).all():
        k = int(np.flatnonzero(~(most > 0))[0])
        wrong.append(
            f"the loading of branch {model.feeder.branches.ids[k]!r} is limited to {most[k]:g} %; expected more than 0, "
            f"or inf for no limit."
        )
    if wrong:
        return None
    return Headroom(model, np.where(watched, lowest, 0.0), np.where(watched, highest, np.inf), most)


def _names(headroom: Headroom, row: Index) -> Text:
    """Return the element of each row of the headroom; −1 is nobody, −2 a power flow without a solution."""
    return np.array([*headroom.elements, "not_converged", ""], dtype=np.str_)[row]


def _both(headroom: Headroom, rule: Rule, sides: tuple[_Side, _Side], source: Vector) -> list[tuple[Vector, Reach]]:
    """Return the limits of both sides, and how far they went: both in one batch, a bounded number of columns at once."""
    intervals = len(source)
    width = max(_COLUMNS_AT_ONCE // 2, 1)
    answers: list[list[tuple[Vector, Reach]]] = []
    for begin in range(0, max(intervals, 1), width):
        part = slice(begin, begin + width)
        fixed, cap, floor = (
            np.hstack([getattr(side, name)[:, part] for side in sides]) for name in ("fixed", "cap", "floor")
        )
        here = len(source[part])
        sign = np.repeat([side.sign for side in sides], here)
        limit, reach = _follow(headroom, rule, fixed, sign, cap, floor, np.tile(source[part], 2))
        answers.append(
            [
                (limit[:, half], Reach(reach.share[half], reach.safe[half], reach.row[half]))
                for half in (slice(None, here), slice(here, None))
            ]
        )
    return [
        (
            np.hstack([answer[side][0] for answer in answers]),
            Reach(
                *(np.concatenate([getattr(answer[side][1], name) for answer in answers]) for name in Reach.__slots__)
            ),
        )
        for side in (0, 1)
    ]


def _follow(
    headroom: Headroom, rule: Rule, fixed: Complex, sign: Vector, cap: Vector, floor: Vector, source: Vector
) -> tuple[Vector, Reach]:
    """Follow the rule from the floors as far as the network allows; S columns.  Return the limits (c, S) and the reach."""

    def path(share: Vector, columns: Index) -> Complex:
        return fixed[:, columns] + sign[columns] * rule.limit_kw(share, cap[:, columns], floor[:, columns])

    reach = furthest(headroom, path, source, np.zeros(len(source)))
    limit = np.where(reach.safe, rule.limit_kw(reach.share, cap, floor), floor)
    if rule.goes_on:
        _go_on(headroom, rule, fixed, sign, cap, floor, source, limit, reach)
    return limit, reach


def _go_on(
    headroom: Headroom,
    rule: Rule,
    fixed: Complex,
    sign: Vector,
    cap: Vector,
    floor: Vector,
    source: Vector,
    limit: Vector,
    reach: Reach,
) -> None:
    """Raise ``limit`` for those who do not strain what is met (4): progressive filling, a search for each limit met."""
    share, row = reach.share.copy(), reach.row.copy()
    stopped = np.zeros(cap.shape, dtype=bool)
    left = np.flatnonzero(reach.safe & (share < 1.0) & (row >= 0))
    for _ in range(len(cap)):
        strain = headroom.strain(row[left], sign[left])
        stopped[:, left] |= strain > _STRAINS * strain.max(axis=0, initial=0.0)
        left = left[(~stopped[:, left] & (limit[:, left] < cap[:, left])).any(axis=0)]
        if not left.size:
            return
        lowest = limit[:, left].copy()
        highest = np.where(stopped[:, left], lowest, cap[:, left])

        def path(
            at: Vector, columns: Index, left: Index = left, box: tuple[Vector, Vector] = (lowest, highest)
        ) -> Complex:
            here = left[columns]
            asked = rule.limit_kw(at, cap[:, here], floor[:, here])
            return fixed[:, here] + sign[here] * np.clip(asked, box[0][:, columns], box[1][:, columns])

        further = furthest(headroom, path, source[left], share[left])
        limit[:, left] = np.clip(rule.limit_kw(further.share, cap[:, left], floor[:, left]), lowest, highest)
        share[left], met_before = further.share, row[left]
        row[left] = further.row
        left = left[further.safe & (further.share < 1.0) & (further.row >= 0) & (further.row != met_before)]
