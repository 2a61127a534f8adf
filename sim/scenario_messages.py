"""The section ``dso.messages`` of a scenario: how envelopes reach the homes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sim.scenario_base import FeederKw, Share, Spec

__all__ = ["MessagesSpec"]


class MessagesSpec(Spec):
    """Envelopes travel as messages in whole watts, late or lost; without one a home keeps its default, never no limit."""

    lost_share: Share = 0.0
    """Share of messages that never arrive; each home's copy of each issue is drawn."""
    delay_minutes: Annotated[float, Field(strict=True, ge=0, le=10_000)] = 0.0
    """How long the others take."""
    default_import_kw: FeederKw = 1.5
    """Import limit of a home without a message."""
    default_export_kw: FeederKw = 1.5
    """Export limit of a home without a message."""
