"""What is asked of an envelope, checked: limits, tables, modes; every mistake a sentence, all of them told at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.assumed import MODES, Reactive, Uncertainty
from network.rules import RULES, Sharing

__all__ = [
    "METHODS",
    "EnvelopeError",
    "Limits",
    "Tables",
    "base_of",
    "bounds_of",
    "method_mistakes",
    "mode_mistakes",
    "sentences",
    "sharing_of",
    "table_mistakes",
    "tables_of",
    "unknown_words",
]

Vector = NDArray[np.float64]
Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]

METHODS = ("corrected", "linear", "cone")
"""By which power flow limits are measured: AC, linear DistFlow alone, or the cone programme; the last two to compare with."""


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
class Tables:
    """What every connection is granted, could use and must draw; 0 for passive ones.  Shape (c, T) each. [kW]"""

    firm: Vector
    export_cap: Vector
    import_cap: Vector
    export_floor: Vector
    import_floor: Vector


def unknown_words(rule: str, mode: str, method: str) -> list[str]:
    """Return a sentence for each word that is none."""
    asked = (("rule", rule, tuple(RULES)), ("mode", mode, MODES), ("method", method, METHODS))
    return [
        f"there is no {what} {given!r}. There are {', '.join(repr(name) for name in known)}."
        for what, given, known in asked
        if given not in known
    ]


def base_of(
    model: Model, injection_kw: ArrayLike, injection_kvar: ArrayLike, active: ArrayLike, wrong: list[str]
) -> tuple[Complex, Mask]:
    """Return the base injections, shape (c, T), and who is active, shape (c,); raises where their shapes tell nothing further."""
    base = np.asarray(injection_kw, dtype=np.float64) + 1j * np.asarray(injection_kvar, dtype=np.float64)
    shape = (model.n_connection, base.shape[1] if base.ndim == 2 else 0)
    if base.shape != shape or not np.isfinite(base).all():
        wrong.append(
            f"the base injections have shape {base.shape}; expected finite numbers, one row for each of the "
            f"{model.n_connection} connections and one column for each interval, active and reactive alike."
        )
        raise EnvelopeError(sentences(wrong))
    acting: Mask = np.asarray(active, dtype=bool)
    if acting.shape != shape[:1]:
        wrong.append(f"active has shape {acting.shape}; expected {shape[:1]}.")
        raise EnvelopeError(sentences(wrong))
    return base, acting


def mode_mistakes(mode: str, pinned: ArrayLike | None, budget: int | None, doubt: Uncertainty | None) -> list[str]:
    """Return what the mode lacks, or has no use for."""
    wrong = []
    if (mode == "robust_pinned") != (pinned is not None):
        wrong.append(
            "the mode 'robust_pinned' needs pinned_import_kw, the import limit of everybody."
            if pinned is None
            else f"pinned_import_kw belongs to the mode 'robust_pinned'; the mode is {mode!r}."
        )
    if (mode == "budget") != (budget is not None):
        wrong.append(
            "the mode 'budget' needs a budget, the number of connections that may do otherwise than the others."
            if budget is None
            else f"a budget belongs to the mode 'budget'; the mode is {mode!r}."
        )
    if budget is not None and budget < 0:
        wrong.append(f"budget is {budget}; expected zero or more connections.")
    if mode == "chance" and (doubt is None or doubt.shape != "gaussian"):
        wrong.append(
            "the mode 'chance' needs an uncertainty of shape 'gaussian'; for other shapes take the mode 'robust'."
        )
    return wrong


def method_mistakes(
    method: str,
    mode: str,
    rule: str,
    reactive: Reactive,
    doubt: Uncertainty,
    tables: Tables,
    weight: ArrayLike | None,
    *,
    three_phase: bool,
) -> list[str]:
    """Return what the method cannot do."""
    if method == "linear" and reactive.curve is not None:
        return ["the method 'linear' has no volt-var curve. Take another reactive power, or the method 'corrected'."]
    if method != "cone":
        return []
    odd = (
        (three_phase, "feeders that are calculated with three phases"),
        (mode != "deterministic", f"the mode {mode!r}, only 'deterministic'"),
        (rule != "max_total", f"the rule {rule!r}, only 'max_total'"),
        (
            reactive.tan_phi is not None or reactive.curve is not None or np.any(np.asarray(reactive.free_kvar)),
            "reactive power other than as forecast",
        ),
        (
            doubt.load_percent or np.any(np.asarray(doubt.load_kw)) or doubt.impedance_percent or doubt.source_v_pu,
            "uncertain data",
        ),
        (any(one.any() for one in (tables.firm, tables.export_floor, tables.import_floor)), "floors and firm charges"),
        (weight is not None and len(np.unique(np.asarray(weight))) > 1, "weights that differ"),
    )
    return [f"the method 'cone' does not know {what}. Take the method 'corrected'." for there, what in odd if there]


def tables_of(
    shape: tuple[int, int],
    acting: Mask,
    firm_charge_kw: ArrayLike | None,
    caps: tuple[ArrayLike, ArrayLike],
    floors: tuple[ArrayLike | None, ArrayLike | None],
    pinned_import_kw: ArrayLike | None,
    wrong: list[str],
) -> Tables:
    """Return the tables of export and import, or note what is wrong with them.

    Parameters
    ----------
    shape
        (c, T).
    acting : shape (c,)
        Who gets an envelope.
    firm_charge_kw, caps, floors
        As given; caps and floors of export first, then of import. [kW]
    pinned_import_kw
        The import limit of everybody, which is then floor and cap; None: shared. [kW]
    wrong
        Grows by a sentence for each mistake.
    """
    firm = _table("firm_charge_kw", firm_charge_kw, shape, acting, wrong)
    export_cap, import_cap, export_floor, import_floor = (
        _table(name, given, shape, acting, wrong)
        for name, given in zip(
            ("export_cap_kw", "import_cap_kw", "export_floor_kw", "import_floor_kw"), (*caps, *floors), strict=True
        )
    )
    if pinned_import_kw is not None:
        given = np.asarray(pinned_import_kw, dtype=np.float64)
        whole = np.full(shape[0], given) if given.ndim == 0 else given
        pinned = np.maximum(np.minimum(_table("pinned_import_kw", whole, shape, acting, wrong), import_cap), firm)
        for i, t in np.argwhere(np.minimum(import_floor, import_cap) > pinned)[:1]:
            wrong.append(
                f"connection {i} has an import floor of {import_floor[i, t]:g} kW above the pinned import limit of "
                f"{pinned[i, t]:g} kW in interval {t}. Pin more, or grant less."
            )
        import_cap = import_floor = pinned
    return Tables(firm, export_cap, import_cap, export_floor, import_floor)


def table_mistakes(tables: Tables, acting: Mask, firm_charge_kw: ArrayLike | None) -> list[str]:
    """Return what does not go together: charges of passive connections, floors and charges above caps."""
    wrong = []
    if firm_charge_kw is not None and np.any(
        np.broadcast_to(np.asarray(firm_charge_kw).T, tables.firm.shape[::-1]).T[~acting] != 0
    ):
        wrong.append(
            "a passive connection has a firm charge. Make it active, or put the charge into its base injection."
        )
    for name, floor, cap in (
        ("export floor", tables.export_floor, tables.export_cap),
        ("import floor", tables.import_floor, tables.import_cap),
        ("firm charge", tables.firm, tables.import_cap),
    ):
        for i, t in np.argwhere(floor > cap)[:1]:
            wrong.append(
                f"connection {i} has a {name} of {floor[i, t]:g} kW above its cap of {cap[i, t]:g} kW in interval {t}. "
                f"Raise the cap."
            )
    return wrong


def sharing_of(
    rule: str, connections: int, weight: ArrayLike | None, order: ArrayLike | None, alpha: float, wrong: list[str]
) -> Sharing | None:
    """Return the rule with its weights and order, or note what is wrong with them."""
    weights = np.ones(connections) if weight is None else np.asarray(weight, dtype=np.float64)
    if weights.shape != (connections,) or not ((weights > 0) & (weights < np.inf)).all():
        wrong.append(
            f"weight has shape {weights.shape}; expected {connections} numbers above zero, one for each connection."
        )
    number = np.arange(connections) if order is None else np.asarray(order)
    if number.shape != (connections,):
        wrong.append(f"order has shape {number.shape}; expected one number for each of {connections} connections.")
    if not 0.0 < alpha <= 100.0:
        wrong.append(f"alpha is {alpha:g}; expected more than 0 and at most 100.")
    if wrong or rule not in RULES:
        return None
    return Sharing(rule, RULES[rule], weights, np.argsort(number, kind="stable"), alpha)


def sentences(mistakes: list[str]) -> str:
    """Return all mistakes as one message."""
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


def bounds_of(model: Model, limits: Limits, wrong: list[str]) -> tuple[Vector, Vector, Vector] | None:
    """Return the bounds of all buses and branches, or note what is wrong with them."""
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
    return np.where(watched, lowest, 0.0), np.where(watched, highest, np.inf), most
