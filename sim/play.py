"""What a run settles before it begins: who may do what with whom, and by which rules."""

from __future__ import annotations

from dataclasses import dataclass

from agents import dso
from agents.forecast import Skill
from agents.vehicles import Habits
from network.envelope import Limits
from sim.mailbox import Mail

__all__ = ["Play", "Rules"]


@dataclass(frozen=True, slots=True)
class Play:
    """Who may do what with whom."""

    name: str
    sharing: bool
    envelopes: bool
    lifting: bool
    prices: bool = False
    """Whether the market is cleared with the grid at the table."""

    @classmethod
    def reference(cls, envelopes: bool) -> Play:
        """Nobody shares; the same envelopes, not lifted."""
        return cls("reference", sharing=False, envelopes=envelopes, lifting=False)

    @classmethod
    def unmanaged(cls) -> Play:
        """Nobody shares and nobody is held."""
        return cls("unmanaged", sharing=False, envelopes=False, lifting=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a scenario settles about market and grid."""

    limits: Limits
    policy: dso.Policy
    renew: bool
    """Whether envelopes are computed again before every hour."""
    enforcement: str
    """A name in :data:`agents.enforce.RULES`."""
    ramp_kw: float
    """By how much a limit may grow from one interval to the next; inf: at once. [kW]"""
    mail: Mail | None
    """How envelopes reach the homes; None: at once and exactly."""
    replanning: str
    """``tradable``, ``pinned`` or ``off``."""
    tolerance: float
    max_iterations: int
    skill: Skill
    habits: Habits
    battery_wear_eur_per_kwh: float
