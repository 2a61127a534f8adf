"""Rights to a shared storage: who may use how many kWh and kW of it, from when to when, and for what rent.

A right is opened for a delivery day and closed at its end.  The rent has two parts: the operator's reserve rent, its price
for letting at all, and the scarcity rent at which the market shared out what there was; a tenant pays their sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from market.delivery import Rents

__all__ = ["Book", "Rights", "RightsError", "Terms"]

Vector = NDArray[np.float64]
Texts = NDArray[np.object_]
Times = NDArray[np.datetime64]

SMALLEST = 1e-6
"""Rights below this many kWh and kW are a solver's dust and are not let."""
OVERBOOKED = 1e-6
"""Tolerance, relative, of what is let against what is offered."""


class RightsError(ValueError):
    """Rights cannot be let like this."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a right costs for its whole time."""

    reserve_energy_eur_per_kwh: float = 0.0
    scarcity_energy_eur_per_kwh: float = 0.0
    reserve_power_eur_per_kw: float = 0.0
    scarcity_power_eur_per_kw: float = 0.0
    firm: bool = True
    """Whether it can be relied on, or interrupted."""

    def __post_init__(self) -> None:
        wrong = [f.name for f in fields(self) if not np.isfinite(getattr(self, f.name))]
        if wrong:
            raise RightsError(f"{', '.join(wrong)} must be a number.")


@dataclass(frozen=True, slots=True, eq=False)
class Rights:
    """Rights as columns; every array has shape (r,)."""

    right_id: Texts
    ess_id: Texts
    agent_id: Texts
    start: Times
    """First moment, UTC."""
    end: Times
    """First moment after it."""
    energy_kwh: Vector
    power_kw: Vector
    reserve_energy_eur_per_kwh: Vector
    """Rents are for the whole time of the right."""
    scarcity_energy_eur_per_kwh: Vector
    reserve_power_eur_per_kw: Vector
    scarcity_power_eur_per_kw: Vector
    firm: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """Number of rights."""
        return int(self.right_id.size)

    @property
    def rent_energy_eur_per_kwh(self) -> Vector:
        """Reserve and scarcity rent together, shape (r,). [eur/kWh]"""
        return self.reserve_energy_eur_per_kwh + self.scarcity_energy_eur_per_kwh

    @property
    def rent_power_eur_per_kw(self) -> Vector:
        """Reserve and scarcity rent together, shape (r,). [eur/kW]"""
        return self.reserve_power_eur_per_kw + self.scarcity_power_eur_per_kw

    def where(self, mask: NDArray[np.bool_]) -> Rights:
        """Return those of a mask of shape (r,)."""
        return Rights(*(getattr(self, f.name)[mask] for f in fields(self)))

    def columns(self, stage: str = "day_ahead") -> dict[str, object]:
        """Return the columns of the table ``rights``."""
        return {
            "stage": stage,
            "right_id": self.right_id,
            "ess_id": self.ess_id,
            "agent_id": self.agent_id,
            "start": self.start,
            "end": self.end,
            "energy_kwh": self.energy_kwh,
            "power_kw": self.power_kw,
            "rent_energy_eur_per_kwh": self.rent_energy_eur_per_kwh,
            "rent_power_eur_per_kw": self.rent_power_eur_per_kw,
            "firm": self.firm,
        }

    def rents(self, row_of: Mapping[str, int], ess_index: Mapping[str, int]) -> Rents:
        """Return what settlement is told: rows of the agents, indices of the storages, total rents."""
        return Rents(
            right_id=tuple(self.right_id.tolist()),
            agent=np.array([row_of[name] for name in self.agent_id.tolist()], dtype=np.int64),
            ess=np.array([ess_index[name] for name in self.ess_id.tolist()], dtype=np.int64),
            energy_kwh=self.energy_kwh,
            power_kw=self.power_kw,
            rent_energy_eur_per_kwh=self.rent_energy_eur_per_kwh,
            rent_power_eur_per_kw=self.rent_power_eur_per_kw,
        )


@dataclass(slots=True)
class Book:
    """The rights that are open."""

    _open: Rights = field(default_factory=lambda: _rights([]))

    def open(
        self,
        ess_id: str,
        agent_ids: Sequence[str],
        energy_kwh: Vector,
        power_kw: Vector,
        start: np.datetime64,
        end: np.datetime64,
        terms: Terms,
        *,
        offered_kwh: float = np.inf,
        offered_kw: float = np.inf,
    ) -> Rights:
        """Let a storage from ``start`` to ``end``; who gets next to nothing gets no right.

        Parameters
        ----------
        energy_kwh, power_kw : shape (n,)
            What each of ``agent_ids`` gets.
        offered_kwh, offered_kw
            What the operator offers; more cannot be let.

        Returns
        -------
        Rights
            Those opened, in the order of ``agent_ids``.
        """
        self._refuse(ess_id, agent_ids, energy_kwh, power_kw, start, end, offered_kwh, offered_kw)
        stamp = np.datetime_as_string(np.asarray(start, dtype="datetime64[s]"), unit="m")
        opened = _rights(
            [
                (f"{ess_id}/{agent}/{stamp}Z", ess_id, agent, start, end, float(energy), float(power), *_flat(terms))
                for agent, energy, power in zip(agent_ids, energy_kwh, power_kw, strict=True)
                if energy > SMALLEST or power > SMALLEST
            ]
        )
        self._open = _joined(self._open, opened)
        return opened

    def held(self, ess_id: str, at: np.datetime64) -> Rights:
        """Return the rights to a storage that are in force at a moment."""
        book = self._open
        return book.where((book.ess_id == ess_id) & (book.start <= at) & (at < book.end))

    def close(self, at: np.datetime64) -> Rights:
        """Return the rights that have ended by ``at``, and forget them."""
        ended = self._open.end <= at
        closed, self._open = self._open.where(ended), self._open.where(~ended)
        return closed

    def _refuse(
        self,
        ess_id: str,
        agent_ids: Sequence[str],
        energy_kwh: Vector,
        power_kw: Vector,
        start: np.datetime64,
        end: np.datetime64,
        offered_kwh: float,
        offered_kw: float,
    ) -> None:
        mistakes = []
        if not start < end:
            mistakes.append(f"they would end at {end}, which is not after their start at {start}")
        if len(set(agent_ids)) < len(agent_ids):
            mistakes.append("an agent is named twice")
        for name, amount, offered in (("energy_kwh", energy_kwh, offered_kwh), ("power_kw", power_kw, offered_kw)):
            if np.shape(amount) != (len(agent_ids),):
                mistakes.append(f"{name} has shape {np.shape(amount)} for {len(agent_ids)} agent(s)")
            elif not (np.isfinite(amount) & (amount >= -SMALLEST)).all():
                mistakes.append(f"{name} must be at least 0 everywhere; its smallest is {np.min(amount)}")
            elif amount.sum() > offered * (1.0 + OVERBOOKED) + SMALLEST:
                mistakes.append(f"{name} sums to {amount.sum():.6g}, and {offered:.6g} is offered")
        book = self._open
        overlap = (book.ess_id == ess_id) & (book.start < end) & (start < book.end)
        doubled = sorted(set(book.agent_id[overlap].tolist()) & set(agent_ids))
        if doubled:
            mistakes.append(f"{', '.join(doubled[:3])} already hold(s) one in that time")
        if mistakes:
            raise RightsError(f"Rights to {ess_id!r} cannot be let: {'; '.join(mistakes)}.")


def _flat(terms: Terms) -> tuple[float | bool, ...]:
    return tuple(getattr(terms, f.name) for f in fields(terms))


def _rights(rows: list[tuple[object, ...]]) -> Rights:
    """Turn rows into columns."""
    kinds = ["O", "O", "O", "datetime64[s]", "datetime64[s]", *["f8"] * 6, "?"]
    columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
    return Rights(*(np.array(column, dtype=kind) for column, kind in zip(columns, kinds, strict=True)))


def _joined(first: Rights, second: Rights) -> Rights:
    return Rights(*(np.concatenate([getattr(first, f.name), getattr(second, f.name)]) for f in fields(first)))
