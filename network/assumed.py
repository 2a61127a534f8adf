"""What is assumed about the customers' use of their envelopes, their reactive power and the data.

*Use.*  Inside its envelope a connection injects p_i in [−import_limit_i, export_limit_i].  The modes say which of these
uses must be safe::

    deterministic    all export their limit; all import their limit: two points, the industry's practice
    robust           any point of the box
    robust_pinned    any point of the box, its import side given (a static right); only export is shared
    budget           all export or all import their limit, but at most Γ connections do anything else
    chance           any point of the box, with probability 1 − ε over the loads

*Reactive power* of a connection with an envelope: as forecast; q = tan φ · p, with the sign of p; anything within ±q̄; a
volt-var curve.  *Data*: the passive loads, the impedances and the source's voltage may differ from what is told [1]_::

    box        |u_i| <= δ_i                     worst for a row g·u: Σ |g_i| δ_i                       (1)
    ellipsoid  uᵀ Σ⁻¹ u <= radius²              radius √(gᵀΣg),  Σ = (1 − ρ) diag δ² + ρ δδᵀ           (2)
    gaussian   row kept with 1 − ε/K            (2) with radius = z(1 − ε/K), K rows (Bonferroni), δ standard deviations

A worst load is an operating point, u = δ sign g or radius Σg/√(gᵀΣg), so that an AC power flow can be run at it.  Impedances
(lines and transformers together) 1 ± r and source voltages v ± s are further worlds, each with its own power flow.

Limits: uncertain loads keep their power factor; the load of a connection with an envelope is inside the envelope, and so
not uncertain.

References
----------
.. [1] A. Ben-Tal, L. El Ghaoui, A. Nemirovski, "Robust Optimization", Princeton, 2009, chapters 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from network.reactive import VoltVar

__all__ = ["MODES", "Reactive", "Uncertainty"]

Vector = NDArray[np.float64]

MODES = ("deterministic", "robust", "robust_pinned", "budget", "chance")
"""What is assumed about the use of the envelopes."""

_SHAPES = ("box", "ellipsoid", "gaussian")


@dataclass(frozen=True, slots=True, eq=False)
class Reactive:
    """What connections with an envelope do with their reactive power; the others keep to their forecast."""

    tan_phi: ArrayLike | None = None
    """q = tan φ · p, both as injections: positive, who feeds in p feeds in q.  One number or one each."""

    free_kvar: ArrayLike = 0.0
    """Anything within ± this, on top.  One number or one each. [kvar]"""

    curve: VoltVar | None = None
    """Reactive power that follows the voltage, on top."""

    @classmethod
    def power_factor(cls, value: float) -> Reactive:
        """Return a fixed power factor: who draws power draws reactive power too; negative: the other way round."""
        return cls(tan_phi=math.copysign(math.tan(math.acos(min(abs(value), 1.0))), value))

    @property
    def words(self) -> str:
        """What is assumed, in words."""
        parts = []
        if self.tan_phi is not None:
            tan = np.unique(np.asarray(self.tan_phi, dtype=np.float64))
            parts.append(f"q = {tan[0]:.4g} p" if tan.size == 1 else "q = tan phi p")
        elif self.curve is None or np.any(np.asarray(self.free_kvar) > 0):
            parts.append("as forecast")
        free = np.asarray(self.free_kvar, dtype=np.float64)
        if np.any(free > 0):
            parts.append(f"anything within {free.max():g} kvar of it")
        if self.curve is not None:
            parts.append("volt-var curve")
        return ", ".join(parts)

    def mistakes(self, connections: int) -> list[str]:
        """Return what is wrong with it, a sentence each."""
        wrong = []
        for name, least in (("tan_phi", -math.inf), ("free_kvar", 0.0)):
            given = getattr(self, name)
            values = np.zeros(1) if given is None else np.asarray(given, dtype=np.float64)
            if values.shape not in ((), (1,), (connections,)):
                wrong.append(f"reactive.{name} has shape {values.shape}; expected one number or {connections}.")
            elif not (np.isfinite(values) & (values >= least)).all():
                wrong.append(f"reactive.{name} has {values.min():g}; expected finite numbers, {least:g} or more.")
        if self.curve is not None and len(self.curve.v_pu) != connections:
            wrong.append(f"reactive.curve has {len(self.curve.v_pu)} curves; expected one for each of {connections}.")
        return wrong


@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """How far the data may be from what is told."""

    load_kw: ArrayLike = 0.0
    """δ: of each passive load, in the shapes below.  One number, (c,) or (c, T). [kW]"""

    load_percent: float = 0.0
    """The same, in per cent of the forecast; adds to ``load_kw``. [%]"""

    shape: str = "box"
    """"box", "ellipsoid" or "gaussian"."""

    radius: float = 1.0
    """Of the ellipsoid."""

    probability: float = 0.05
    """ε of "gaussian": each interval breaks a limit with at most this."""

    correlation: float = 0.0
    """ρ between any two loads."""

    impedance_percent: float = 0.0
    """Impedances may be so much larger or smaller, all together. [%]"""

    source_v_pu: float = 0.0
    """The source's voltage may be so much higher or lower. [p.u.]"""

    def radius_of(self, rows: int) -> float:
        """Return the radius of (2) for a feeder of so many limits."""
        if self.shape != "gaussian":
            return self.radius
        from scipy.special import ndtri

        return float(max(ndtri(1.0 - self.probability / max(rows, 1)), 0.0))

    def mistakes(self, shape: tuple[int, int]) -> list[str]:
        """Return what is wrong with it for c connections and T intervals, a sentence each."""
        wrong = []
        if self.shape not in _SHAPES:
            wrong.append(f"uncertainty.shape is {self.shape!r}; there are {', '.join(map(repr, _SHAPES))}.")
        spread = np.asarray(self.load_kw, dtype=np.float64)
        if spread.shape not in ((), shape[:1], shape):
            wrong.append(f"uncertainty.load_kw has shape {spread.shape}; expected one number, {shape[:1]} or {shape}.")
        elif not ((spread >= 0) & (spread < np.inf)).all():
            wrong.append("uncertainty.load_kw has a negative number or none; expected zero or more.")
        for name, low, high in (
            ("load_percent", 0.0, math.inf),
            ("radius", 0.0, math.inf),
            ("correlation", 0.0, 1.0),
            ("impedance_percent", 0.0, 90.0),
            ("source_v_pu", 0.0, 0.5),
        ):
            value = getattr(self, name)
            if not (low <= value <= high and math.isfinite(value)):
                wrong.append(f"uncertainty.{name} is {value:g}; expected {low:g} to {high:g}.")
        if not 0.0 < self.probability < 1.0:
            wrong.append(f"uncertainty.probability is {self.probability:g}; expected more than 0 and less than 1.")
        return wrong

    def spread_kw(self, forecast_kw: Vector) -> Vector:
        """Return δ of every connection: shape (c, T). [kW]"""
        given = np.asarray(self.load_kw, dtype=np.float64)
        told = given if given.ndim != 1 else given[:, None]
        return np.asarray(told + self.load_percent / 100.0 * np.abs(forecast_kw))
