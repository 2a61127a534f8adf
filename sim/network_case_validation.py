"""The section ``validation:`` of a network case: what ``commonwatt network validate`` tries against the envelopes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sim.scenario_base import FeederKw, FileName, Spec, Switch

__all__ = ["DataDoubtSpec", "MessageFaultSpec", "ValidationSpec"]

Use = Literal["uniform", "vertices", "beta", "phase_correlated", "area_correlated", "time_correlated"]
Part = Annotated[float, Field(strict=True, ge=0, le=100)]


class DataDoubtSpec(Spec):
    """How far data may be from the truth, either way; 0: not tried."""

    load_percent: Part = 10.0
    """Loads of those without an envelope, and the reactive power of all."""
    impedance_percent: Annotated[float, Field(strict=True, ge=0, le=90)] = 10.0
    """Of all lines and transformers together."""
    source_v_pu: Annotated[float, Field(strict=True, ge=0, le=0.2)] = 0.01
    """Voltage of the source."""
    promised: Switch = False
    """Whether the envelopes were made for these doubts, so that what breaks counts."""


class MessageFaultSpec(Spec):
    """What customers do when messages go wrong; it is told, and never counts."""

    share_percent: Annotated[float, Field(strict=True, gt=0, le=100)] = 10.0
    """Customers that are affected."""
    draws: Annotated[int, Field(strict=True, ge=0, le=10_000)] = 10
    """How often they are drawn, besides all of them at once."""
    import_default_kw: FeederKw = 1.5
    """Default control where no message arrives."""
    export_default_kw: FeederKw = 1.5
    """Likewise."""


class ValidationSpec(Spec):
    """What is tried against the envelopes by `commonwatt network validate`."""

    file: FileName | None = None
    """A CSV table of envelopes with the columns of a run's table `envelopes`; null: computed as the case says."""
    samples: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] = 100_000
    """Uses that are drawn, all ways together."""
    uses: tuple[Use, ...] = ()
    """Ways in which they are drawn; none: all that make sense for the feeder and the intervals."""
    unbalance_max_percent: Annotated[float, Field(strict=True, gt=0, le=100)] | None = None
    """Highest voltage unbalance factor at a corner, negative over positive sequence; null: not looked at."""
    data: DataDoubtSpec = DataDoubtSpec()
    """How far data may be from the truth."""
    messages: MessageFaultSpec = MessageFaultSpec()
    """What customers do when messages go wrong."""
