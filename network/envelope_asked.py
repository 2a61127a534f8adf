"""What is asked of an envelope, checked: limits, tables, modes; every mistake a sentence, all of them told at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.acflow import Model
from network.assumed import Uncertainty
from network.rules import RULES, Sharing

__all__ = ["EnvelopeError", "Limits", "bounds_of", "checked_table", "mode_mistakes", "sentences", "sharing_of"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


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


def checked_table(name: str, given: ArrayLike | None, shape: tuple[int, int], acting: Mask, wrong: list[str]) -> Vector:
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
