"""One question for everybody: what is everyone's cheapest plan for these intervals?

Day ahead, every hour, with the community or alone, it is the same call: the homes' stores and forecasts, the envelopes, the retail prices
and the shared storage become one :class:`market.exchange.Problem`. Whether energy may change hands (``free``), is kept
as sold (``pinned``) or may not (``zero``) is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.fleet import BATTERY, SLOTS
from agents.storage_operator import Box, Offer
from market.exchange import Exchange, Problem
from market.penalty import enough_penalty_eur_per_kwh, least_penalty_eur_per_kwh
from storage.store import Store

__all__ = ["BREACH_PENALTY_EUR_PER_KWH", "Retail", "SharedStorage", "problem"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

BREACH_PENALTY_EUR_PER_KWH = 5.0
"""What leaving an envelope costs in the clearing; more where prices are so high that a home could gain by it. It only leaves where it must."""


@dataclass(frozen=True, slots=True, eq=False)
class Retail:
    """What a kWh costs each row (homes, then operators) outside and inside the community; all shapes (rows, T)."""

    buy_eur_per_kwh: Matrix
    sell_eur_per_kwh: Matrix
    exchange_charge_eur_per_kwh: Matrix
    rented_charge_eur_per_kwh: Matrix


@dataclass(frozen=True, slots=True, eq=False)
class SharedStorage:
    """The shared storage as the clearing sees it."""

    box: Box
    offer: Offer
    net_min_kw: Vector
    """Shape (T,): the firm charge, or minus the export limit of its envelope."""
    net_max_kw: Vector
    account_kwh: Vector
    """Energy each row holds at the beginning, shape (rows,); the operator's row has the residual."""
    final_kwh: float
    """What the operator's row shall hold at the end."""
    wished_kwh: float
    """What its operator would have it hold then."""
    right_energy_kwh: Vector | None = None
    """Rights already let, shape (rows,); None while they are being cleared."""
    right_power_kw: Vector | None = None


def problem(
    *,
    names: tuple[str, ...],
    dt_h: float,
    load_kw: Matrix,
    pv_kw: Matrix,
    import_limit_kw: Matrix,
    export_limit_kw: Matrix,
    stores: Store,
    initial_kwh: Matrix,
    battery_wear_eur_per_kwh: float,
    retail: Retail,
    shared: SharedStorage | None,
    exchange: Exchange,
    pinned_exchange_kw: Matrix | None = None,
) -> Problem:
    """Return the clearing problem of ``n`` homes and, if there is a shared storage, its operator as the last row."""
    n, steps = load_kw.shape
    extra = 0 if shared is None else 1

    def rows(a: Matrix) -> Matrix:
        """Append the operator, who has no load, sun, store or limit of this kind."""
        shape = (*a.shape[:-2], extra, a.shape[-1])
        return np.concatenate([a, np.zeros(shape)], axis=-2)

    def columns(a: Matrix, fill: float) -> Matrix:
        return np.concatenate([a, np.full((SLOTS, extra), fill)], axis=1)

    m, r = extra, n + extra
    wear = np.zeros((SLOTS, r))
    wear[BATTERY] = battery_wear_eur_per_kwh
    ess = _rented(shared, r, steps)
    penalized: dict[str, Any] = {
        "buy_eur_per_kwh": retail.buy_eur_per_kwh,
        "sell_eur_per_kwh": retail.sell_eur_per_kwh,
        "import_limit_kw": rows(import_limit_kw),
        "export_limit_kw": rows(export_limit_kw),
        "store_charge_max_kw": rows(stores.charge_max_kw),
        "store_discharge_max_kw": rows(stores.discharge_max_kw),
        "store_efficiency_charge": columns(stores.efficiency_charge, 1.0),
        "store_efficiency_discharge": columns(stores.efficiency_discharge, 1.0),
        "store_retention": columns(stores.retention, 1.0),
        "store_wear_eur_per_kwh": wear,
    }
    least = least_penalty_eur_per_kwh(**penalized)
    return Problem(
        agent_ids=names,
        dt_h=dt_h,
        load_kw=rows(load_kw),
        pv_kw=rows(pv_kw),
        **penalized,
        exchange_charge_eur_per_kwh=retail.exchange_charge_eur_per_kwh,
        rented_charge_eur_per_kwh=retail.rented_charge_eur_per_kwh,
        breach_penalty_eur_per_kwh=enough_penalty_eur_per_kwh(least, BREACH_PENALTY_EUR_PER_KWH),
        store_energy_min_kwh=rows(stores.energy_min_kwh),
        store_energy_max_kwh=rows(stores.energy_max_kwh),
        store_initial_kwh=columns(initial_kwh, 0.0),
        store_drain_kwh=rows(stores.drain_kwh),
        access=np.ones((m, r), dtype=bool),
        exchange=exchange,
        pinned_exchange_kw=pinned_exchange_kw,
        **ess,
    )


def _rented(shared: SharedStorage | None, rows: int, steps: int) -> dict[str, Any]:
    """Return the fields of the problem that concern the shared storage."""
    if shared is None:
        none, table, limits = np.zeros(0), np.zeros((0, rows)), np.zeros((0, steps))
        return {
            "ess_energy_offer_kwh": none,
            "ess_power_offer_kw": none,
            "ess_efficiency_charge": none,
            "ess_efficiency_discharge": none,
            "ess_retention": none,
            "ess_wear_eur_per_kwh": none,
            "rent_energy_eur_per_kwh": table,
            "rent_power_eur_per_kw": table,
            "ess_net_min_kw": limits,
            "ess_net_max_kw": limits,
            "rented_initial_kwh": table,
            "rented_final_kwh": table,
            "right_energy_kwh": None,
            "right_power_kw": None,
        }
    box, offer = shared.box, shared.offer
    energy_rent = np.full((1, rows), offer.rent_energy_eur_per_kwh)
    power_rent = np.full((1, rows), offer.rent_power_eur_per_kw)
    energy_rent[0, -1], power_rent[0, -1] = offer.own_rent_energy_eur_per_kwh, offer.own_rent_power_eur_per_kw
    final = np.zeros((1, rows))
    final[0, -1] = shared.final_kwh
    energy_right, power_right = shared.right_energy_kwh, shared.right_power_kw
    # once rights are let, the operator may use what is idle: then the bounds of the net alone protect the box
    energy_kwh = offer.energy_kwh if energy_right is None else max(offer.energy_kwh, float(energy_right.sum()))
    power_kw = offer.power_kw if power_right is None else max(offer.power_kw, float(power_right.sum()))
    return {
        "ess_energy_offer_kwh": np.array([energy_kwh]),
        "ess_power_offer_kw": np.array([power_kw]),
        "ess_efficiency_charge": np.array([box.efficiency_charge]),
        "ess_efficiency_discharge": np.array([box.efficiency_discharge]),
        "ess_retention": np.ones(1),  # what leaks is the operator's loss, not the tenants'
        "ess_wear_eur_per_kwh": np.array([box.wear_eur_per_kwh]),
        "rent_energy_eur_per_kwh": energy_rent,
        "rent_power_eur_per_kw": power_rent,
        "ess_net_min_kw": shared.net_min_kw[None, :],
        "ess_net_max_kw": shared.net_max_kw[None, :],
        "rented_initial_kwh": shared.account_kwh[None, :],
        "rented_final_kwh": final,
        "right_energy_kwh": None if energy_right is None else energy_right[None, :],
        "right_power_kw": None if power_right is None else power_right[None, :],
    }
