"""The section ``hosting:`` of a network case: what ``commonwatt network hosting`` adds until a limit is met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from sim.scenario_base import FeederKw, Spec
from sim.scenario_file import Loc

__all__ = ["HostingSpec"]


class HostingSpec(Spec):
    """What `commonwatt network hosting` adds at random customers until the first limit is met."""

    kind: Literal["pv", "load"] = "pv"
    """pv: plants that feed in; load: devices that draw."""
    size_kw: Annotated[float, Field(strict=True, gt=0, le=100_000)] | None = None
    """Of each plant; null: the customer's export_cap_kw (pv) or import_cap_kw (load)."""
    placements: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1000
    """Random orders in which customers get their plant."""
    power_factor: Annotated[float, Field(strict=True, ge=-1, le=1)] = 1.0
    """Of a plant; negative: it draws reactive power where it feeds in, and feeds it in where it draws."""
    alone_max_kw: FeederKw = 1000.0
    """How far a single customer is followed."""

    def mistakes(self) -> Iterator[tuple[Loc, str]]:
        """Refuse a power factor of nothing."""
        if self.power_factor == 0.0:
            yield ("power_factor",), "must not be 0"
