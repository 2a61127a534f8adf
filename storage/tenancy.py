"""The shared storage in the books: one physical box, many holders, and nobody's energy lost between them.

The box moves the net of all flows, and only the net is ever converted::

    C − R = Σ (c − r),  C R = 0                                        over all holders, the operator among them     (1)
    E[t+1] = (1 − self_discharge Δ) E[t] + Δ (η_c C − R / η_d)                                                      (2)

A tenant's account is run as if it had a box of its own that does not leak; the operator's is the rest::

    e[t+1] = e[t] + Δ (η_c c − r / η_d)          e_operator = E − Σ tenants' e                                      (3)

So the holders always sum to the box, in energy and in flow.  Flows that cancel, min(Σ c, Σ r), lose in the accounts but not
in the box: a round trip of them is saved, and belongs to the operator, as what leaks is its loss::

    netting gain = Δ (η_c C − R / η_d) − Σ Δ (η_c c − r / η_d) = Δ min(Σ c, Σ r) (1 / η_d − η_c) >= 0              (4)

When a right ends, the operator takes over what the tenant's account holds beyond the level at which it began (or makes up
what is missing), against payment; the level itself, lent by the operator, goes back to it.

That tenants keep to their rights does not keep the box inside its bounds: what netting gains stays in it, and rights may be
let beyond it.  :func:`post` says where the box was left (``broken``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from storage.degradation import wear_eur
from storage.store import advance, retention

__all__ = ["Accounts", "BoxLike", "Posted", "TenancyError", "holders_table", "post"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

TOLERANCE = 1e-6
"""Of the box's bounds. [kW, kWh]"""
NEGATIVE_KW = 1e-9
"""Rounding that a flow may have below zero."""


class TenancyError(ValueError):
    """Flows or accounts of a shared storage cannot be booked."""


class BoxLike(Protocol):
    """What has to be known of a shared storage; any object with these attributes will do."""

    @property
    def energy_kwh(self) -> float: ...
    @property
    def charge_kw(self) -> float: ...
    @property
    def discharge_kw(self) -> float: ...
    @property
    def efficiency_charge(self) -> float: ...
    @property
    def efficiency_discharge(self) -> float: ...
    @property
    def self_discharge_per_h(self) -> float: ...
    @property
    def initial_kwh(self) -> float: ...
    @property
    def wear_eur_per_kwh(self) -> float: ...


@dataclass(frozen=True, slots=True, eq=False)
class Accounts:
    """Whose energy is in the box at one moment."""

    energy_kwh: float
    """E, in the box."""
    tenants_kwh: Vector
    """e, shape (n,)."""

    @classmethod
    def begin(cls, box: BoxLike, tenants: int) -> Self:
        """Return the accounts before the first right: all energy is the operator's."""
        return cls(float(box.initial_kwh), np.zeros(tenants))

    @property
    def operator_kwh(self) -> float:
        """The operator's account: the box less the tenants, by (3)."""
        return float(self.energy_kwh - self.tenants_kwh.sum())

    @property
    def holders_kwh(self) -> Vector:
        """All accounts, the operator's last, shape (n + 1,). [kWh]"""
        return np.append(self.tenants_kwh, self.operator_kwh)

    def after(self, box: BoxLike, charge_kw: Vector, discharge_kw: Vector, dt_h: float) -> Accounts:
        """Return the accounts after an interval of these flows, shape (n + 1,), the operator's last; by (1) to (3)."""
        _refuse_negative(charge_kw, discharge_kw)
        net = float((charge_kw - discharge_kw).sum())
        return Accounts(
            float(_box_after(box, self.energy_kwh, max(net, 0.0), max(-net, 0.0), dt_h)),
            _accounts_after(box, self.tenants_kwh, charge_kw[:-1], discharge_kw[:-1], dt_h),
        )

    def opened(self, level_kwh: Vector) -> Accounts:
        """Return the accounts after rights began at these levels, shape (n,): the operator lends them. [kWh]"""
        if not (np.isfinite(level_kwh) & (level_kwh >= 0.0)).all() or level_kwh.shape != self.tenants_kwh.shape:
            raise TenancyError("the levels at which rights begin must be one number of at least 0 kWh for each tenant.")
        return Accounts(self.energy_kwh, self.tenants_kwh + level_kwh)

    def closed(self, begun_kwh: Vector | None = None) -> tuple[Accounts, Vector]:
        """End all rights: return the accounts with everything at the operator, and what it has to pay for.

        Parameters
        ----------
        begun_kwh : shape (n,)
            The levels at which the rights began, which go back unpaid; None: they began empty. [kWh]

        Returns
        -------
        accounts
        left_kwh : shape (n,)
            Taken over from each tenant; negative where less was left than there was. [kWh]
        """
        begun = np.zeros_like(self.tenants_kwh) if begun_kwh is None else np.asarray(begun_kwh, dtype=np.float64)
        return Accounts(self.energy_kwh, np.zeros_like(self.tenants_kwh)), self.tenants_kwh - begun


@dataclass(frozen=True, slots=True, eq=False)
class Posted:
    """The books of a shared storage over ``T`` intervals; holders are the tenants, then the operator."""

    holder_charge_kw: Matrix
    """c, shape (n + 1, T)."""
    holder_discharge_kw: Matrix
    holders_kwh: Matrix
    """e, at the start of each interval and at the end of the last, shape (n + 1, T + 1)."""
    charge_kw: Vector
    """C, shape (T,)."""
    discharge_kw: Vector
    energy_kwh: Vector
    """E, at the start of each interval and at the end of the last, shape (T + 1,)."""
    loss_kwh: Vector
    """Of conversion and self-discharge, shape (T,)."""
    netting_gain_kwh: Vector
    """By (4), shape (T,)."""
    wear_eur: Vector
    """Shape (T,)."""
    broken: tuple[str, ...]
    """A sentence for each bound of the box that was left; empty if it kept to them."""

    def storage_columns(self, times: NDArray[np.datetime64], ess_id: str) -> dict[str, object]:
        """Return the columns of the table ``storage``."""
        return {
            "time": times,
            "ess_id": ess_id,
            "charge_kw": self.charge_kw,
            "discharge_kw": self.discharge_kw,
            "energy_kwh": self.energy_kwh[:-1],
            "loss_kwh": self.loss_kwh,
            "netting_gain_kwh": self.netting_gain_kwh,
            "wear_eur": self.wear_eur,
        }


def post(box: BoxLike, holders_kwh: Vector, charge_kw: Matrix, discharge_kw: Matrix, dt_h: float) -> Posted:
    """Book the flows of some intervals.

    Parameters
    ----------
    holders_kwh : shape (n + 1,)
        The accounts at the start, the operator's last. [kWh]
    charge_kw, discharge_kw : shape (n + 1, T)
        The holders' flows, never negative; the operator's own last. [kW]
    """
    if charge_kw.shape != discharge_kw.shape or charge_kw.ndim != 2 or holders_kwh.shape != charge_kw.shape[:1]:
        raise TenancyError(
            f"charging {charge_kw.shape}, discharging {discharge_kw.shape} and accounts {holders_kwh.shape} do not go "
            f"together. Give (holders, intervals) twice and (holders,)."
        )
    _refuse_negative(charge_kw, discharge_kw)
    if not np.isfinite(holders_kwh).all():
        raise TenancyError("the accounts at the start hold NaN or infinity. Give the energy of every holder.")
    steps = charge_kw.shape[1]
    net = (charge_kw - discharge_kw).sum(axis=0)
    charge, discharge = np.maximum(net, 0.0), np.maximum(-net, 0.0)
    energy, accounts = np.empty(steps + 1), np.empty((len(holders_kwh), steps + 1))
    energy[0], accounts[:-1, 0] = holders_kwh.sum(), holders_kwh[:-1]
    for t in range(steps):
        energy[t + 1] = _box_after(box, energy[t], charge[t], discharge[t], dt_h)
        accounts[:-1, t + 1] = _accounts_after(box, accounts[:-1, t], charge_kw[:-1, t], discharge_kw[:-1, t], dt_h)
    accounts[-1] = energy - accounts[:-1].sum(axis=0)
    round_trip = 1.0 / box.efficiency_discharge - box.efficiency_charge
    leak = energy[:-1] * (1.0 - retention(box.self_discharge_per_h, dt_h))
    return Posted(
        holder_charge_kw=charge_kw,
        holder_discharge_kw=discharge_kw,
        holders_kwh=accounts,
        charge_kw=charge,
        discharge_kw=discharge,
        energy_kwh=energy,
        loss_kwh=leak
        + dt_h * ((1.0 - box.efficiency_charge) * charge + (1.0 / box.efficiency_discharge - 1.0) * discharge),
        netting_gain_kwh=dt_h * np.minimum(charge_kw.sum(axis=0), discharge_kw.sum(axis=0)) * round_trip,
        wear_eur=wear_eur(charge, discharge, dt_h, box.wear_eur_per_kwh),
        broken=tuple(_broken(box, charge, discharge, energy)),
    )


def holders_table(
    posted: Posted, times: NDArray[np.datetime64], ess_id: str, agent_ids: Sequence[str]
) -> dict[str, object]:
    """Return the columns of the table ``storage_ledger``, ordered by time, then holder.

    Parameters
    ----------
    times : shape (T,)
    agent_ids : length n + 1
        Names of the holders, the operator's (the storage's own) last.  Those without energy and flow in all intervals are
        left out, except the operator.
    """
    keep = (posted.holder_charge_kw != 0.0).any(axis=1) | (posted.holder_discharge_kw != 0.0).any(axis=1)
    keep |= (posted.holders_kwh != 0.0).any(axis=1)
    keep[-1] = True
    names = np.array(agent_ids, dtype=object)[keep]
    return {
        "time": np.repeat(times, len(names)),
        "ess_id": ess_id,
        "agent_id": np.tile(names, len(times)),
        "charge_kw": posted.holder_charge_kw[keep].T.ravel(),
        "discharge_kw": posted.holder_discharge_kw[keep].T.ravel(),
        "energy_kwh": posted.holders_kwh[keep, :-1].T.ravel(),
    }


def _box_after(box: BoxLike, energy_kwh: float, charge_kw: float, discharge_kw: float, dt_h: float) -> Vector:
    """Return (2)."""
    return advance(
        energy_kwh,
        charge_kw,
        discharge_kw,
        dt_h,
        efficiency_charge=box.efficiency_charge,
        efficiency_discharge=box.efficiency_discharge,
        retention=retention(box.self_discharge_per_h, dt_h),
    )


def _accounts_after(box: BoxLike, tenants_kwh: Vector, charge_kw: Vector, discharge_kw: Vector, dt_h: float) -> Vector:
    """Return (3)."""
    return advance(
        tenants_kwh,
        charge_kw,
        discharge_kw,
        dt_h,
        efficiency_charge=box.efficiency_charge,
        efficiency_discharge=box.efficiency_discharge,
    )


def _refuse_negative(charge_kw: NDArray[np.float64], discharge_kw: NDArray[np.float64]) -> None:
    for name, flow in (("charging", charge_kw), ("discharging", discharge_kw)):
        wrong = ~(flow >= -NEGATIVE_KW) | ~np.isfinite(flow)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise TenancyError(
                f"{name} is {flow[place]} kW for holder {place[0]}. Flows are numbers of at least 0; energy taken out is discharging."
            )


def _broken(box: BoxLike, charge: Vector, discharge: Vector, energy: Vector) -> list[str]:
    sentences = []
    for name, value, limit, wrong in (
        ("charges with", charge, box.charge_kw, charge > box.charge_kw + TOLERANCE),
        ("discharges with", discharge, box.discharge_kw, discharge > box.discharge_kw + TOLERANCE),
        ("ends with", energy[1:], box.energy_kwh, energy[1:] > box.energy_kwh + TOLERANCE),
        ("ends with", energy[1:], 0.0, energy[1:] < -TOLERANCE),
    ):
        if wrong.any():
            t = int(np.flatnonzero(wrong)[0])
            unit = "kWh" if name == "ends with" else "kW"
            sentences.append(
                f"the box {name} {value[t]:.6g} {unit} in interval {t} ({int(wrong.sum())} in all); its bound is {limit:.6g} {unit}."
            )
    return sentences
