"""The operator of the grid: publishes envelopes, asks for relief, and checks what was delivered.

Once a day, before the gate, it forecasts the load it cannot control, computes an envelope for every connection with a device
and every interval (:mod:`network.envelope`), and publishes it. Where homes are expected to lose solar power to their envelopes
it may buy a firm charge from the operator of a shared storage and count it: the envelopes are then computed again, wider
(envelope lifting). Afterwards it runs the exact AC power flow of every delivered interval and writes down what broke a limit.

The connections of the grid are the homes in their order, then the shared storage. Its full power is granted before the homes share the rest,
with one exception: it may not discharge while homes are expected to lose solar power to their envelopes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.storage_operator import Box, promise
from network.acflow import Flow, Model
from network.envelope import Envelope, Limits, Reactive, Uncertainty, compute

__all__ = ["BREACH_TOLERANCE_KW", "Breach", "Policy", "Publication", "breaches", "open_limits", "publish", "renewed"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

LOST_KW = 1e-6
"""Less than this is not lost to an envelope."""
BREACH_TOLERANCE_KW = 1e-6
VOLTAGE_TOLERANCE_PU = 1e-6
LOADING_TOLERANCE_PERCENT = 1e-4


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """How the operator computes envelopes."""

    rule: str = "proportional"
    mode: str = "deterministic"
    export_right_kw: float = 0.0
    """Granted in any case, up to the own cap. [kW]"""
    import_right_kw: float = 0.0
    """Likewise; in the mode "robust_pinned" the import limit itself. [kW]"""
    deviating: int = 0
    """Γ of the mode "budget"."""
    reactive: Reactive | None = None
    uncertainty: Uncertainty | None = None
    alpha: float = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Publication:
    """What the grid's operator announces for a delivery day."""

    envelope: Envelope
    firm_kw: Vector
    """Firm charge of the shared storage, shape (T,). [kW]"""


def publish(
    model: Model,
    load_kw: Matrix,
    load_kvar: Matrix,
    solar_kw: Matrix,
    active: NDArray[np.bool_],
    export_cap_kw: Vector,
    import_cap_kw: Vector,
    limits: Limits,
    *,
    policy: Policy,
    dt_h: float,
    box: Box | None = None,
    lifting: bool = False,
    level_kwh: float = 0.0,
    promised_kw: Vector | None = None,
    source_v_pu: Vector | None = None,
) -> Publication:
    """Compute the envelopes of a day, or of the rest of it, lifted by a firm charge where that helps.

    Parameters
    ----------
    load_kw, load_kvar, solar_kw : shape (n, T)
        Forecasts of the homes: load that nobody controls, and available solar power. [kW, kvar]
    active : shape (n,)
        Homes that get an envelope; the others stay at their forecast.
    export_cap_kw, import_cap_kw : shape (n,)
        What the connection contract allows. [kW]
    box
        The shared storage, a connection of its own after the homes.
    level_kwh
        Energy in it when the day begins. [kWh]
    promised_kw : shape (T,)
        Firm charge that was bought before and stays; no more is bought then. [kW]
    """
    n, steps = load_kw.shape
    base_p, base_q = solar_kw * ~active[:, None] - load_kw, -load_kvar
    rights = tuple(
        np.minimum(right, cap) * active
        for right, cap in ((policy.export_right_kw, export_cap_kw), (policy.import_right_kw, import_cap_kw))
    )
    if box is None:
        day = _Day(
            model, base_p, base_q, active, export_cap_kw, import_cap_kw, rights, limits, policy, box, source_v_pu
        )
    else:
        day = _Day(
            model, _row(base_p), _row(base_q), np.append(active, True), export_cap_kw,
            np.append(import_cap_kw, box.charge_kw), rights, limits, policy, box, source_v_pu,
        )  # fmt: skip
    firm = np.zeros(steps) if promised_kw is None else promised_kw
    granted = may_discharge = np.ones(steps, dtype=bool)
    published = day.envelope(granted, may_discharge, firm)
    if box is None:
        return Publication(published, firm)
    if (published.status != "ok").any():
        # a storage that the feeder cannot take in full shares with the homes
        granted = published.status == "ok"
        published = day.envelope(granted, may_discharge, firm)
    wanted = np.where(day.active[:n, None], np.maximum(solar_kw - load_kw, 0.0), 0.0)
    lost = np.maximum(wanted - published.export_limit_kw[:n], 0.0).sum(axis=0)
    if (lost > LOST_KW).any():
        may_discharge = lost <= LOST_KW
        if lifting and promised_kw is None:
            firm = np.minimum(promise(box, lost, dt_h, level_kwh), published.import_limit_kw[-1])
        published = day.envelope(granted, may_discharge, firm)
        firm = np.minimum(firm, published.import_limit_kw[-1])
    return Publication(published, firm)


@dataclass(frozen=True, slots=True, eq=False)
class _Day:
    """What the envelopes of some intervals are computed from; ``c`` connections: ``n`` homes, then the shared storage if there is one."""

    model: Model
    base_kw: Matrix
    """Injection that nobody controls, shape (c, T). [kW]"""
    base_kvar: Matrix
    active: NDArray[np.bool_]
    """Shape (c,)."""
    export_cap_kw: Vector
    """Of the homes, shape (n,). [kW]"""
    import_cap_kw: Vector
    """Shape (c,). [kW]"""
    rights_kw: tuple[Vector, ...]
    """Export and import that homes may do in any case, shape (n,) each. [kW]"""
    limits: Limits
    policy: Policy
    box: Box | None
    source_v_pu: Vector | None

    def envelope(self, granted: NDArray[np.bool_], may_discharge: NDArray[np.bool_], firm_kw: Vector) -> Envelope:
        """Compute the envelopes.

        Parameters
        ----------
        granted, may_discharge : shape (T,)
            Whether the storage gets its full power before the homes share the rest, and whether it may discharge at all.
        firm_kw : shape (T,)
            Charge of the storage that is counted on. [kW]
        """
        policy, n = self.policy, self.export_cap_kw.size
        export_cap = np.repeat(self.export_cap_kw[:, None], self.base_kw.shape[1], axis=1)
        export_floor, import_floor, firm_charge = (np.zeros_like(self.base_kw) for _ in range(3))
        export_floor[:n], import_floor[:n] = (right[:, None] for right in self.rights_kw)
        if self.box is not None:
            discharge = self.box.discharge_kw * may_discharge
            export_cap = np.vstack([export_cap, discharge])
            export_floor[-1], import_floor[-1] = discharge * granted, self.box.charge_kw * granted
            firm_charge[-1] = firm_kw
        return compute(
            self.model,
            self.base_kw,
            self.base_kvar,
            self.active,
            export_cap,
            self.import_cap_kw,
            self.limits,
            rule=policy.rule,
            mode=policy.mode,
            pinned_import_kw=import_floor if policy.mode == "robust_pinned" else None,
            budget=policy.deviating if policy.mode == "budget" else None,
            reactive=policy.reactive,
            uncertainty=policy.uncertainty,
            alpha=policy.alpha,
            firm_charge_kw=firm_charge if firm_kw.any() else None,
            export_floor_kw=export_floor,
            import_floor_kw=import_floor,
            source_v_pu=self.source_v_pu,
        )


def _row(a: Matrix) -> Matrix:
    return np.vstack([a, np.zeros(a.shape[1])])


def renewed(before: Publication, at: int, newer: Publication) -> Publication:
    """Return what is in force when an issue of the intervals from ``at`` on follows another of the whole day."""
    columns: dict[str, Any] = {}
    for field in fields(Envelope):
        old, new = getattr(before.envelope, field.name), getattr(newer.envelope, field.name)
        whole = isinstance(old, np.ndarray) and old.size and new.size
        columns[field.name] = np.concatenate([old[..., :at], new], axis=-1) if whole else old
    return Publication(Envelope(**columns), np.concatenate([before.firm_kw[:at], newer.firm_kw]))


def open_limits(connections: int, steps: int) -> Publication:
    """Return what is published where there are no envelopes: no limit for anybody."""
    free = np.full((connections, steps), np.inf)
    words = np.full(steps, "", dtype=object)
    envelope = Envelope(
        import_limit_kw=free,
        export_limit_kw=free,
        firm_charge_kw=np.zeros((connections, steps)),
        mode="none",
        rule="none",
        binding_import=words,
        binding_export=words,
        status=np.full(steps, "ok", dtype=object),
        infeasible_by=words,
        share_import=np.ones(steps),
        share_export=np.ones(steps),
    )
    return Publication(envelope, np.zeros(steps))


@dataclass(frozen=True, slots=True)
class Breach:
    """One limit broken in one interval."""

    step: int
    element: str
    kind: str
    """over_voltage, under_voltage, overload, envelope or not_converged."""
    value: float
    limit: float
    agent_id: str = ""


def breaches(
    flow: Flow,
    model: Model,
    limits: Limits,
    meter_kw: Matrix,
    import_limit_kw: Matrix,
    export_limit_kw: Matrix,
    agent_ids: tuple[str, ...],
) -> list[Breach]:
    """Return everything that broke a limit in a batch of delivered intervals, in the order of time.

    Parameters
    ----------
    meter_kw, import_limit_kw, export_limit_kw : shape (c, T)
        Physical exchange of the connections and what was allowed; infinite where nothing was said. [kW]
    """
    feeder = model.feeder
    found: list[Breach] = []
    failed = ~flow.converged
    found += [Breach(int(t), feeder.name, "not_converged", float("nan"), float("nan")) for t in np.flatnonzero(failed)]
    buses, wires = model.nodes.element, model.wires.element
    seen = np.ones(feeder.n_bus, dtype=bool) if limits.monitored is None else limits.monitored
    v = np.where(seen[buses, None] & ~failed, flow.v_pu, np.nan)
    v_max, v_min = (np.broadcast_to(limit, feeder.n_bus)[buses] for limit in (limits.v_max_pu, limits.v_min_pu))
    most = np.broadcast_to(limits.loading_max_percent, feeder.n_branch)[wires]
    loading = flow.loading_percent
    with np.errstate(invalid="ignore"):
        high = np.argwhere(v > v_max[:, None] + VOLTAGE_TOLERANCE_PU)
        low = np.argwhere(v < v_min[:, None] - VOLTAGE_TOLERANCE_PU)
        over = np.argwhere(loading > most[:, None] + LOADING_TOLERANCE_PERCENT)
    bus, branch = [feeder.buses.ids[k] for k in buses], [feeder.branches.ids[k] for k in wires]
    found += [Breach(int(t), bus[b], "over_voltage", float(v[b, t]), float(v_max[b])) for b, t in high]
    found += [Breach(int(t), bus[b], "under_voltage", float(v[b, t]), float(v_min[b])) for b, t in low]
    found += [Breach(int(t), branch[b], "overload", float(loading[b, t]), float(most[b])) for b, t in over]
    for c, t in np.argwhere(meter_kw > import_limit_kw + BREACH_TOLERANCE_KW):
        found.append(
            Breach(int(t), agent_ids[c], "envelope", float(meter_kw[c, t]), float(import_limit_kw[c, t]), agent_ids[c])
        )
    for c, t in np.argwhere(meter_kw < -export_limit_kw - BREACH_TOLERANCE_KW):
        found.append(
            Breach(int(t), agent_ids[c], "envelope", float(meter_kw[c, t]), float(-export_limit_kw[c, t]), agent_ids[c])
        )
    return sorted(found, key=lambda b: (b.step, b.kind, b.element))
