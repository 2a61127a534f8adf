"""Who confirms a power flow: power-grid-model where it knows the feeder, else OpenDSS.

Banks of single-phase transformers (regulators), delta-delta transformers and shunts between unlike phases have no place in
power-grid-model (:mod:`network.referee`).  On a feeder with one of them OpenDSS (:mod:`network.referee_opendss`, the extra
``opendss``) is the referee of everything.  Where it cannot be asked either, nobody confirms, and that is an error.

Limits: what OpenDSS cannot be told, see there.
"""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from network import referee_opendss
from network.acflow import Flow, Model
from network.referee import RefereeError, unknown

__all__ = ["OPENDSS", "POWER_GRID_MODEL", "instead", "not_asked", "opendss_flow"]

Vector = NDArray[np.float64]

POWER_GRID_MODEL, OPENDSS = "power-grid-model", "OpenDSS"


def instead(model: Model) -> str:
    """Return why OpenDSS is the referee, and not power-grid-model; "" where the latter is.

    Raises
    ------
    RefereeError
        Where neither can be asked: who is lacking, and what to install.
    """
    lacking = unknown(model.feeder)
    if lacking:
        try:
            referee_opendss.ready(model.feeder, model.connection_bus, model.connection_phase)
        except RefereeError as error:
            why = (
                "is not installed: install commonwatt[opendss]."
                if isinstance(error.__cause__, ImportError)
                else f"cannot be asked: {error}"
            )
            raise RefereeError(
                f"{lacking}, which {POWER_GRID_MODEL} does not know, and {OPENDSS}, the other referee, {why}"
            ) from error
    return lacking


def not_asked(lacking: str) -> str:
    """Return what :func:`instead` says as a sentence without its stop; "" where it says nothing.

    >>> not_asked("feeder 'x' has delta-delta transformers ('T')")
    "power-grid-model was not asked: feeder 'x' has delta-delta transformers ('T'), which it does not know"
    """
    return f"{POWER_GRID_MODEL} was not asked: {lacking}, which it does not know" if lacking else ""


def opendss_flow(
    model: Model, injection_kw: Vector, injection_kvar: Vector, source_v_pu: Vector | float | None, ours: Flow
) -> Flow:
    """Return what OpenDSS makes of injections, in the rows of a model.

    Parameters
    ----------
    model
        The feeder with its connections.
    injection_kw, injection_kvar : shape (c, S)
        What each connection injects. [kW], [kvar]
    source_v_pu : number or shape (S,)
        Voltage of the source; None: as the feeder says. [p.u.]
    ours
        Our own answer: of three phases that are one row of a balanced model, the one that is farthest from it is told.
    """
    found = referee_opendss.check(
        model.feeder, model.connection_bus, -injection_kw, -injection_kvar, source_v_pu, model.connection_phase
    )  # fmt: skip
    if model.three_phase:
        return found
    columns = {column.name: getattr(found, column.name) for column in fields(Flow)}
    for name in ("v_pu", "p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw"):
        mine = getattr(ours, name)
        scale = 3.0 if name in ("p_kw", "q_kvar", "loss_kw") else 1.0
        three = columns[name].reshape(len(mine), 3, -1) * scale
        farthest = np.abs(three - mine[:, None]).argmax(axis=1, keepdims=True)
        columns[name] = np.take_along_axis(three, farthest, axis=1)[:, 0]
    return Flow(**columns)
