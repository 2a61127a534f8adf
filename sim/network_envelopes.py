"""``commonwatt network envelopes``: the envelopes of a case, how evenly they treat customers, and what limits them.

A thin shell over :func:`network.envelope.compute`: the case's section ``envelopes`` says mode, rule and what is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from network.assumed import Reactive, Uncertainty
from network.envelope import Envelope, EnvelopeError, compute
from network.equity import Equity, equity
from network.held import refuse_held
from network.reactive import VoltVar
from sim.network_case_envelopes import DoubtSpec, EnvelopesSpec
from sim.network_case_prepared import Prepared
from sim.scenario_file import ScenarioError
from sim.scenario_mistakes import nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NetworkEnvelopes", "envelopes", "reactive_of", "refused_words"]

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class NetworkEnvelopes:
    """The envelopes of a case."""

    prepared: Prepared
    envelope: Envelope
    export_equity: Equity
    import_equity: Equity

    @property
    def feasible(self) -> Mask:
        """In which intervals there is one.  Shape (T,)."""
        return np.asarray(self.envelope.status == "ok")

    @property
    def status(self) -> str:
        """How it went: "ok", "partly_infeasible", or in every interval "infeasible", "refused" where the cone programme's answer is none."""
        if self.feasible.all() or self.feasible.any():
            return "ok" if self.feasible.all() else "partly_infeasible"
        return "refused" if (self.envelope.status == "refused").any() else "infeasible"

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each interval and customer with an envelope, with the columns of a run's table ``envelopes`` first."""
        import pandas as pd

        found = self.envelope.to_frame(self.prepared.ids, self.prepared.times).rename(
            columns={"connection": "agent_id"}
        )
        both = found["binding_export"].where(found["binding_export"] != "", found["binding_import"])
        found["binding_element"] = both.where(found["infeasible_by"] == "", found["infeasible_by"])
        found["issued_at"] = pd.Series([""] * len(found), dtype=object)
        found["time"] = [f"{moment}Z" for moment in found["time"].to_numpy().astype("datetime64[m]").astype(str)]
        first = ["issued_at", "time", "agent_id", "import_limit_kw", "export_limit_kw", "firm_charge_kw", "mode", "rule",
                 "binding_element"]  # fmt: skip
        return found[first + [name for name in found.columns if name not in first]]

    def to_csv(self) -> str:
        """Return what `commonwatt network validate` and `messages` read: the columns of a run's table ``envelopes``."""
        found = self.to_frame().iloc[:, :9]
        for name in ("import_limit_kw", "export_limit_kw"):  # towards safety
            found[name] = np.floor(found[name] * 1e6) / 1e6
        return str(found.to_csv(index=False, lineterminator="\n"))

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        one, ready = self.envelope, self.prepared
        sides = {}
        for side, even in (("export", self.export_equity), ("import", self.import_equity)):
            sides[side] = {
                "total_kw": even.total_kw.tolist(),
                "share": getattr(one, f"share_{side}").tolist(),
                "binding": getattr(one, f"binding_{side}").tolist(),
                "binding_kind": getattr(one, f"binding_{side}_kind").tolist(),
                "least_share": _numbers(even.least_share),
                "jain": _numbers(even.jain),
                "gini": _numbers(even.gini),
                "at_floor": even.at_floor.tolist(),
            }
            if one.method == "cone":
                sides[side]["cone_gap"] = _numbers(getattr(one, f"gap_{side}"))
        return {
            "case": ready.case.name,
            "status": self.status,
            "mode": one.mode,
            "rule": one.rule,
            "method": one.method,
            "reactive": one.reactive,
            "times": [f"{moment}Z" for moment in ready.times.astype("datetime64[m]").astype(str)],
            "infeasible": [
                {"interval": int(t), "by": str(one.infeasible_by[t]), "kind": str(one.infeasible_kind[t])}
                for t in np.flatnonzero(~self.feasible)
            ],
            **sides,
            "customers": [
                {
                    "id": who,
                    "export_limit_kw": one.export_limit_kw[k].tolist(),
                    "import_limit_kw": one.import_limit_kw[k].tolist(),
                    "firm_charge_kw": one.firm_charge_kw[k].tolist(),
                }
                for k, who in enumerate(ready.ids)
                if ready.active[k]
            ],
        }


def _numbers(values: Vector) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def envelopes(ready: Prepared, *, two_corners: bool = False) -> NetworkEnvelopes:
    """Compute the envelopes of a case.

    Parameters
    ----------
    ready
        The case as arrays.
    two_corners
        As today's practice would: deterministic and sure of the data, everything else as the case says.
    """
    refuse_held(ready.model.held, "envelopes")
    spec = ready.case.envelopes
    if two_corners:
        spec = spec.model_copy(update={"mode": "deterministic", "uncertainty": DoubtSpec()})
    own = _own(ready, spec)
    doubt = spec.uncertainty
    shape = doubt.shape or ("gaussian" if spec.mode == "chance" else "box")
    try:
        found = compute(
            ready.model,
            ready.base_injection_kw,
            ready.base_injection_kvar,
            ready.active,
            ready.export_cap_kw,
            ready.import_cap_kw,
            ready.limits,
            rule=spec.rule,
            mode=spec.mode,
            method=spec.method,
            firm_charge_kw=np.repeat(own.firm_kw[:, None], len(ready.times), axis=1) if own.firm_kw.any() else None,
            export_floor_kw=own.export_floor_kw,
            import_floor_kw=own.import_floor_kw,
            source_v_pu=ready.source_v_pu,
            pinned_import_kw=spec.pinned_import_kw if spec.mode == "robust_pinned" else None,
            budget=spec.budget if spec.mode == "budget" else None,
            reactive=reactive_of(ready),
            uncertainty=Uncertainty(**{**doubt.model_dump(), "shape": shape}),
            weight=own.weight,
            order=ready.connection_order,
            alpha=spec.alpha,
        )
    except EnvelopeError as error:
        raise ScenarioError([f"{ready.case.place('envelopes')}: envelopes: {error}"]) from error
    may_export = ready.active & (own.firm_kw == 0)
    return NetworkEnvelopes(
        ready,
        found,
        equity(found.export_limit_kw, np.where(may_export, ready.export_cap_kw, 0.0), own.export_floor_kw),
        equity(found.import_limit_kw, np.where(ready.active, ready.import_cap_kw, 0.0), own.import_floor_kw),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Own:
    """What each customer is granted, must draw, and counts.  Shape (c,) each."""

    export_floor_kw: Vector
    import_floor_kw: Vector
    firm_kw: Vector
    weight: Vector


def _own(ready: Prepared, spec: EnvelopesSpec) -> _Own:
    """Return what single customers have of their own; raises with the name and place of everybody who cannot have it."""
    mistakes = list(_not_to_be_had(ready, spec))
    if mistakes:
        raise ScenarioError(mistakes)
    c, at = len(ready.ids), {name: k for k, name in enumerate(ready.ids)}
    export_floor = np.minimum(np.full(c, spec.export_floor_kw), ready.export_cap_kw)
    import_floor = np.minimum(np.full(c, spec.import_floor_kw), ready.import_cap_kw)
    weight, firm = np.ones(c), np.zeros(c)
    for one in spec.each:
        k = at[one.id]
        weight[k], firm[k] = one.weight, one.firm_charge_kw
        export_floor[k] = export_floor[k] if one.export_floor_kw is None else one.export_floor_kw
        import_floor[k] = import_floor[k] if one.import_floor_kw is None else one.import_floor_kw
    return _Own(export_floor, import_floor, firm, weight)


def _not_to_be_had(ready: Prepared, spec: EnvelopesSpec) -> Iterator[str]:
    """Yield a sentence for each who is no customer, has no envelope, or is promised more than its cap."""
    case, at = ready.case, {name: k for k, name in enumerate(ready.ids)}
    for k, one in enumerate(spec.each):
        if one.id not in at:
            place = case.place("envelopes", "each", k, "id")
            yield f'{place}: envelopes.each.{k}.id: "{one.id}" is no customer; {nearest(one.id, ready.ids)}'
    for k, one in enumerate(spec.each):
        if one.id in at and not ready.active[at[one.id]]:
            place = case.place("envelopes", "each", k, "id")
            yield (
                f'{place}: envelopes.each.{k}.id: "{one.id}" has no envelope; remove it here, or from those who are passive'
            )
    for k, one in enumerate(spec.each):
        if one.id not in at:
            continue
        for key, cap in (("export_floor_kw", ready.export_cap_kw), ("import_floor_kw", ready.import_cap_kw),
                         ("firm_charge_kw", ready.import_cap_kw)):  # fmt: skip
            asked, most = getattr(one, key) or 0.0, cap[at[one.id]]
            if asked > most:
                side = "export_cap_kw" if key.startswith("export") else "import_cap_kw"
                yield (
                    f'{case.place("envelopes", "each", k, key)}: envelopes.each.{k}.{key}: "{one.id}" is to have '
                    f"{asked:g} kW, above its cap of {most:g} kW; raise its {side} under customers, or ask for less"
                )


def refused_words(element: str) -> str:
    """Return why the cone programme's answer is none, of the element that an envelope names.

    >>> refused_words("L7")
    'the cone programme is no power flow at L7'
    """
    if element == "not_converged":
        return "the cone programme found no answer"
    return f"the cone programme is no power flow at {element}"


def reactive_of(ready: Prepared) -> Reactive:
    """Return what the case says of the reactive power of those with an envelope."""
    spec = ready.case.envelopes.reactive
    if spec.kind == "power_factor":
        return Reactive.power_factor(spec.power_factor)
    if spec.kind == "free":
        return Reactive(free_kvar=spec.free_kvar)
    if spec.kind == "volt_var":
        knots = {int(k): (spec.v_pu, spec.q_kvar) for k in np.flatnonzero(ready.active)}
        return Reactive(curve=VoltVar.build(len(ready.ids), knots))
    return Reactive()
