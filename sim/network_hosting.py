"""``commonwatt network hosting``: plants at random customers until a limit is met, in words, JSON and rows of a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from network.held import refuse_held
from network.hosting import Hosting
from network.hosting import hosting as find
from sim.network_case_prepared import Prepared
from sim.scenario_file import ScenarioError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NetworkHosting", "hosting", "verdict"]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkHosting:
    """What was asked, and what came of it."""

    prepared: Prepared
    found: Hosting

    @property
    def stoppers(self) -> list[tuple[str, str, int]]:
        """Which element stops how many placements, and how; the most frequent first."""
        pairs = zip(self.found.element.tolist(), self.found.limit_kind.tolist(), strict=True)
        counted = Counter(pair for pair in pairs if pair[0])
        return [(name, kind, many) for (name, kind), many in sorted(counted.items(), key=lambda one: (-one[1], one[0]))]

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each placement."""
        return self.found.to_frame()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        found, ready = self.found, self.prepared
        between = found.median_between_kw
        most = found.maximum_kw if math.isfinite(found.maximum_kw) else 0.0
        grid = np.linspace(0.0, most * 1.05, 41)
        return {
            "case": ready.case.name,
            "status": found.status,
            "verdict": verdict(self),
            "infeasible_by": found.infeasible_by,
            "kind": found.kind,
            "seed": ready.case.seed,
            "placements": len(found.capacity_kw),
            "firm_kw": found.firm_kw,
            "median_kw": found.median_kw,
            "maximum_kw": found.maximum_kw,
            "median_between_kw": list(between),
            "below_firm_at_most": found.below_firm_at_most,
            "capacity_kw": found.capacity_kw.tolist(),
            "element": found.element.tolist(),
            "limit_kind": found.limit_kind.tolist(),
            "stoppers": [{"element": name, "kind": kind, "placements": many} for name, kind, many in self.stoppers],
            "curve": {"installed_kw": grid.tolist(), "violation_probability": found.violation_probability(grid).tolist()},
            "alone": [
                {"id": who, "kw": kw, "element": by}
                for who, kw, by in zip(ready.ids, found.alone_kw.tolist(), found.alone_element.tolist(), strict=True)
                if not math.isnan(kw)
            ],
        }  # fmt: skip


def hosting(
    ready: Prepared, placements: int | None = None, progress: Callable[[str, int, int], None] | None = None
) -> NetworkHosting:
    """Add plants at random customers of a case until the first limit is met."""
    refuse_held(ready.model.held, "hosting capacity")
    spec = ready.case.hosting
    caps = ready.export_cap_kw if spec.kind == "pv" else ready.import_cap_kw
    size = caps if spec.size_kw is None else np.full(len(caps), spec.size_kw)
    if not (ready.active & (size > 0)).any():
        cap = "export_cap_kw" if spec.kind == "pv" else "import_cap_kw"
        why = "all of them are passive" if not ready.active.any() else f"{cap} is 0 for all who are not passive"
        raise ScenarioError(
            [
                f"{ready.case.place('hosting')}: hosting: no customer may build anything: {why}. Give somebody an envelope, or a hosting.size_kw."
            ]
        )
    factor = spec.power_factor
    tan = math.copysign(math.sqrt(max(1.0 / factor**2 - 1.0, 0.0)), factor) if factor else 0.0
    found = find(
        ready.model, ready.base_injection_kw, ready.base_injection_kvar, ready.limits, np.where(size > 0, size, 1.0), kind=spec.kind,
        candidates=ready.active & (size > 0), placements=spec.placements if placements is None else placements, seed=ready.case.seed,
        kvar_per_kw=tan, alone_max_kw=max(spec.alone_max_kw, 1e-3), source_v_pu=ready.source_v_pu, progress=progress,
    )  # fmt: skip
    return NetworkHosting(ready, found)


def verdict(result: NetworkHosting) -> str:
    """Return the answer as one sentence."""
    found = result.found
    what = "solar power" if found.kind == "pv" else "load"
    if found.status == "infeasible":
        if found.infeasible_by == "not_converged":
            return "nothing can be added: the power flow has no solution already"
        return f"nothing can be added: {found.infeasible_by} is beyond its limit already"
    stopped = result.stoppers
    by = (
        f"; most often {stopped[0][0]} stops it ({stopped[0][1].replace('_', '-')})"
        if stopped
        else "; nothing stops it"
    )
    return f"{found.firm_kw:.0f} kW of {what} wherever it is built, {found.median_kw:.0f} kW in half of {len(found.capacity_kw)} placements, {found.maximum_kw:.0f} kW at best{by}"
