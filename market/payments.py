"""What every player saves in the common plan, and what it pays at the clearing's prices.

Player i owns agents and shared stores.  Before anybody is paid it saves ::

    saved_i = J⁰_i − J*_i,    J*_i = retail, charges, wear, penalties of its agents + costs of its stores           (1)

where the cost of a store is what the problem charges for it: reserve rents of the rights and throughput fees.  At the
prices λ (exchange), μᴱ and μᴾ (scarcity of space) and σ (a firm charge, a limit of the store's net) it pays ::

    paid_i = Σ agents [−Δ Σ_t λ x + costs of its space + μᴱ E + μᴾ P − Δ Σ_t σ (ĉ − d̂)] − the same of its stores' tenants  (2)

so that Σ paid = 0, and an owner's income less its cost is the scarcity rent.  saved − paid is the gain under dual prices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.coalition import Clearings
from market.exchange import Clearing, Problem
from market.repair import plan_cost_eur

__all__ = ["Books", "book", "paid_at", "store_cost_eur"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Books:
    """The common plan, player by player."""

    clearing: Clearing
    saved_eur: Floats
    """(1).  Shape (k,)."""
    paid_eur: Floats
    """(2).  Shape (k,)."""


def book(market: Clearings) -> Books:
    """Return what everybody saves and pays in the plan of all together."""
    p, found = market.problem, market.together()
    plan: Any = found  # the columns of a clearing are those of its plan
    stores_cost = store_cost_eur(p, found)
    own = plan_cost_eur(p, plan) - stores_cost.sum(axis=0)
    costs = np.array([own[list(q.agents)].sum() + stores_cost[list(q.shared)].sum() for q in market.players])
    saved: Floats = market.alone_eur - costs
    paid = paid_at(
        market, found.price_eur_per_kwh, found.rent_energy_scarcity_eur_per_kwh, found.rent_power_scarcity_eur_per_kw,
        found.ess_net_price_eur_per_kwh,
    )  # fmt: skip
    if saved.sum() < 0.0:  # nothing is gained, up to rounding: they stay alone
        saved, paid = np.zeros(len(costs)), np.zeros(len(costs))
    return Books(found, saved, paid)


def paid_at(market: Clearings, price: Floats, rent_energy: Floats, rent_power: Floats, net_price: Floats) -> Floats:
    """Return (2) for the plan of all together at any prices; a price that is NaN, because nobody trades, is 0.

    Shapes (T,), (M,), (M,) and (M, T); the answer's is (k,).
    """
    p, found = market.problem, market.together()
    flow = found.rented_charge_kw - found.rented_discharge_kw
    space = store_cost_eur(p, found) - p.dt_h * np.einsum("jt,jit->ji", net_price, flow)
    space = space + rent_energy[:, None] * found.right_energy_kwh + rent_power[:, None] * found.right_power_kw
    energy = np.zeros(p.n)
    if p.exchange == "free":
        energy = -p.dt_h * (np.nan_to_num(price) * found.exchange_kw).sum(axis=1)
    paid = [
        energy[list(q.agents)].sum() + space[:, list(q.agents)].sum() - space[list(q.shared)].sum()
        for q in market.players
    ]
    return np.array(paid)


def store_cost_eur(p: Problem, found: Clearing) -> Floats:
    """Return the reserve rents and throughput fees of every tenant in every store.  Shape (M, n)."""
    turned = (found.rented_charge_kw + found.rented_discharge_kw).sum(axis=2)
    rents = p.rent_energy_eur_per_kwh * found.right_energy_kwh + p.rent_power_eur_per_kw * found.right_power_kw
    cost: Floats = rents + p.dt_h * p.ess_wear_eur_per_kwh[:, None] * turned
    return cost
