"""Prosumers cleared by the exchange: their result, with everyone's cost alone beside it.

What an agent pays in the market is, with price λ, scarcity rents μ and the price σ of a storage's envelope ::

    payment_i = −Δ Σ_t λ x_i + Σ_j [cost of its space + μᴱ_j E_ij + μᴾ_j P_ij − Δ Σ_t σ_j (c_ij − d_ij)]            (1)

The first term sums to zero over the agents; the second is what the owners of the storages receive.  The cost of a space,
reserve rents and wear, is its owner's: it is in the owner's cost, and what the owner gains is the scarcity rent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market.exchange import Clearing, attainable, clear
from market.fairness import fairness
from market.payments import store_cost_eur
from market.problem import Problem
from sim.case import ProsumersCase
from sim.case_agents import Prosumer
from sim.case_arrays import problem_of
from sim.case_flexible import windows
from sim.clear_result import (
    AgentResult,
    Certificate,
    FlexibleResult,
    Look,
    MarketResult,
    OperatorResult,
    StorageResult,
    StoreResult,
    Tenant,
    Verification,
    accepted,
    figure,
    figures,
    heading,
)

__all__ = ["Alone", "Owners", "alone_of", "by_exchange", "owners_of", "verified"]

Floats = NDArray[np.float64]

MOST = 20_000
"""Iterations after which a clearing gives up."""

NOTICED = 1e-4
"""A difference of a price that is looked into. [eur/kWh]"""


@dataclass(frozen=True, slots=True)
class Owners:
    """Who owns which shared storage."""

    names: tuple[str, ...]
    """Of all storages, in their order."""
    agent: tuple[int, ...]
    """Row of the owner, −1 where it is no agent."""

    @property
    def operators(self) -> tuple[str, ...]:
        """Owners who are no agents, each once."""
        return tuple(dict.fromkeys(name for name, row in zip(self.names, self.agent, strict=True) if row < 0))


def owners_of(case: ProsumersCase) -> Owners:
    """Return who owns which shared storage."""
    ids = [agent.id for agent in case.agents]
    names = tuple(storage.id if storage.owner is None else storage.owner for storage in case.storage)
    return Owners(names, tuple(ids.index(name) if name in ids else -1 for name in names))


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """What everything costs everyone without the market."""

    cost_eur: Floats
    """Shape (n,)."""
    off_eur: float
    """By how much all of them together may be too high, at most."""


def alone_of(problem: Problem, owners: Owners, tolerance: float) -> Alone:
    """Return everyone's cost without neighbours: an owner has its storage for itself, an operator's stands still."""
    access = np.zeros_like(problem.access)
    for j, row in enumerate(owners.agent):
        if row >= 0:
            access[j, row] = problem.access[j, row]
    found = clear(replace(problem, exchange="zero", access=access), tolerance=tolerance, max_iterations=MOST)
    return Alone(found.agent_cost_eur, max(found.gap_eur, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Money:
    """Who bears and pays what."""

    cost_eur: Floats
    """Of every agent.  Shape (n,)."""
    payment_eur: Floats
    """Of every agent, by (1) and as an owner.  Shape (n,)."""
    operators: dict[str, tuple[float, float]]
    """Cost and payment of owners who are no agents."""
    reserve_eur: Floats
    """What tenants pay for a storage's cost.  Shape (M, n)."""
    scarcity_eur: Floats
    """What they pay on top.  Shape (M, n)."""


def money_of(problem: Problem, found: Clearing, owners: Owners) -> Money:
    """Return costs and payments at the clearing's prices."""
    reserve = store_cost_eur(problem, found)
    flow = found.rented_charge_kw - found.rented_discharge_kw
    scarcity = found.rent_energy_scarcity_eur_per_kwh[:, None] * found.right_energy_kwh
    scarcity = scarcity + found.rent_power_scarcity_eur_per_kw[:, None] * found.right_power_kw
    scarcity = scarcity - problem.dt_h * (found.ess_net_price_eur_per_kwh[:, None, :] * flow).sum(axis=2)
    cost = found.agent_cost_eur - reserve.sum(axis=0)
    payment = found.payment_eur + reserve.sum(axis=0)
    operators = dict.fromkeys(owners.operators, (0.0, 0.0))
    for j, row in enumerate(owners.agent):
        bears = float(reserve[j].sum())
        earns = bears + float(found.owner_income_eur[j])
        if row >= 0:
            cost[row] += bears
            payment[row] -= earns
        else:
            before = operators[owners.names[j]]
            operators[owners.names[j]] = (before[0] + bears, before[1] - earns)
    return Money(cost, payment, operators, reserve, scarcity)


def by_exchange(case: ProsumersCase, tolerance: float, enough: float = 0.0) -> tuple[MarketResult, Problem, Clearing]:
    """Clear a case by the exchange; returns the result, the problem and the clearing.

    Where the tolerance is not reached, residuals up to ``enough`` count as converged too.

    Needs of stores that nothing can meet are lowered to what can be had, in the problem too; the result says whose they are.

    Raises
    ------
    market.exchange.Infeasible
        Where a shared storage cannot do what is asked of it.
    """
    problem, owners = problem_of(case), owners_of(case)
    found = clear(problem, tolerance=tolerance, max_iterations=MOST, infeasible="relax")
    if not found.converged and len(found.residuals) and found.residuals[-1, 1:3].max() <= enough:
        found = replace(found, converged=True, status="converged")
    problem = attainable(problem)[0]
    alone = alone_of(problem, owners, tolerance)
    money = money_of(problem, found, owners)
    gain = alone.cost_eur - money.cost_eur - money.payment_eur
    names = [*(agent.id for agent in case.agents), *money.operators]
    gains = [*gain.tolist(), *(-cost - paid for cost, paid in money.operators.values())]
    payments = [*money.payment_eur.tolist(), *(paid for _, paid in money.operators.values())]
    slack = 1e-6 + max(found.gap_eur, 0.0) + alone.off_eur
    fair = fairness(names, gains, payments, tolerance_eur=slack)
    certificate = Certificate(
        converged=found.converged,
        iterations=found.iterations,
        residuals=looks(found.residuals),
        bound_eur=figure(found.bound_eur),
        gap=figure(found.gap),
        gap_eur=figure(found.gap_eur),
        max_agent_kkt_eur=figure(found.max_agent_kkt),
        dual_asymmetry_eur_per_kwh=figure(found.dual_asymmetry_eur_per_kwh),
        **accepted(fair),
        alone_gap_eur=figure(alone.off_eur),
        netting_cost_eur=figure(found.netting_cost_eur),
    )
    price, allowed = figures(found.price_eur_per_kwh), case.infeasible == "relax"
    result = MarketResult(
        **heading(case),
        mechanism="exchange",
        status=found.status if allowed or not found.relaxed else "infeasible",
        cost_eur=figure(found.cost_eur),
        alone_eur=figure(alone.cost_eur.sum()),
        price_eur_per_kwh=price,
        buy_price_eur_per_kwh=price,
        sell_price_eur_per_kwh=price,
        traded_kwh=figures(0.5 * case.dt_h * np.abs(found.exchange_kw).sum(axis=0)),
        agents=agents(case, found, np.stack([money.cost_eur, money.payment_eur, alone.cost_eur, gain])),
        operators=tuple(
            OperatorResult(id=name, cost_eur=figure(cost), payment_eur=figure(paid), gain_eur=figure(-cost - paid))
            for name, (cost, paid) in money.operators.items()
        ),
        storage=_storages(case, found, owners.names, money),
        certificate=certificate,
        relaxed=found.relaxed if allowed else (),
        infeasible=() if allowed else found.relaxed,
    )
    return result, problem, found


def looks(residuals: Floats) -> tuple[Look, ...]:
    """Return the looks at an iteration."""
    return tuple(
        Look(iteration=int(one[0]), primal=figure(one[1]), dual=figure(one[2]), penalty=figure(one[3]))
        for one in residuals
    )


def agents(case: ProsumersCase, found: Clearing, money: Floats) -> tuple[AgentResult, ...]:
    """Return everyone's result; ``money`` is cost, payment, cost alone and gain, shape (4, n)."""
    return tuple(
        AgentResult(
            id=agent.id,
            power_kw=figures(found.exchange_kw[i]),
            cost_eur=figure(money[0, i]),
            payment_eur=figure(money[1, i]),
            alone_eur=figure(money[2, i]),
            gain_eur=figure(money[3, i]),
            deviation_gain_eur=figure(found.deviation_gain_eur[i]),
            grid_kw=figures(found.grid_kw[i]),
            meter_kw=figures(found.meter_kw[i]),
            curtailed_kw=figures(found.curtailed_kw[i]),
            breach_kw=figures(found.breach_kw[i]),
            stores=tuple(
                StoreResult(
                    charge_kw=figures(found.charge_kw[k, i]),
                    discharge_kw=figures(found.discharge_kw[k, i]),
                    energy_kwh=figures(found.energy_kwh[k, i]),
                )
                for k in range(len(agent.stores))
            ),
            flexible=tuple(_flexible(agent, found.discharge_kw[:, i], case.dt_h)),
        )
        for i, agent in enumerate(case.agents)
    )


def _flexible(agent: Prosumer, discharge_kw: Floats, dt_h: float) -> Iterator[FlexibleResult]:
    """Yield what an agent's flexible demands take; the slots behind its stores hold what they leave out (:mod:`sim.case_flexible`)."""
    slot = len(agent.stores)
    for demand in agent.flexible:
        count = len(windows(demand, dt_h))
        left = discharge_kw[slot : slot + count].sum(axis=0)
        slot += count
        taken = demand.power_kw - left
        yield FlexibleResult(
            power_kw=figures(taken),
            energy_kwh=figure(dt_h * taken.sum()),
            forgone_eur=figure(demand.utility_eur_per_kwh * dt_h * left.sum()),
        )


def _storages(case: ProsumersCase, found: Clearing, owners: Sequence[str], money: Money) -> tuple[StorageResult, ...]:
    """Return the shared storages with their tenants."""
    storages = []
    for j, storage in enumerate(case.storage):
        energy, power = found.right_energy_kwh[j], found.right_power_kw[j]
        tenants = tuple(
            Tenant(
                id=case.agents[i].id,
                right_energy_kwh=figure(energy[i]),
                right_power_kw=figure(power[i]),
                charge_kw=figures(found.rented_charge_kw[j, i]),
                discharge_kw=figures(found.rented_discharge_kw[j, i]),
                energy_kwh=figures(found.rented_energy_kwh[j, i]),
                reserve_rent_eur=figure(money.reserve_eur[j, i]),
                scarcity_rent_eur=figure(money.scarcity_eur[j, i]),
            )
            for i in np.flatnonzero((energy > 0) | (power > 0)).tolist()
        )
        storages.append(
            StorageResult(
                id=storage.id,
                owner=owners[j],
                rent_energy_reserve_eur_per_kwh=storage.rent_energy_eur_per_kwh,
                rent_energy_scarcity_eur_per_kwh=figure(found.rent_energy_scarcity_eur_per_kwh[j]),
                rent_power_reserve_eur_per_kw=storage.rent_power_eur_per_kw,
                rent_power_scarcity_eur_per_kw=figure(found.rent_power_scarcity_eur_per_kw[j]),
                net_price_eur_per_kwh=figures(found.ess_net_price_eur_per_kwh[j]),
                net_kw=figures((found.rented_charge_kw - found.rented_discharge_kw)[j].sum(axis=0)),
                tenants=tenants,
            )
        )
    return tuple(storages)


def verified(problem: Problem, found: Clearing) -> Verification:
    """Solve the same problem as one and compare; takes seconds for small cases, minutes for large ones."""
    from market.central import verify
    from market.price_range import price_range_at

    compared = verify(problem, found)
    apart, at = compared.price_difference_eur_per_kwh, compared.price_interval
    between = price_range_at(problem, at) if apart > NOTICED else None
    return Verification(
        by="central",
        agrees=compared.certified,
        tolerance=compared.accuracy_eur / max(1.0, abs(compared.optimum_eur)),
        cost_eur=figure(compared.optimum_eur),
        cost_above_eur=figure(compared.excess_eur),
        bound_below_eur=figure(compared.short_eur),
        price_difference_eur_per_kwh=figure(apart),
        price_difference_interval=at if at >= 0 else None,
        price_range_eur_per_kwh=None if between is None else figures(np.array(between)),
        power_difference_kw=figure(np.abs(found.exchange_kw - compared.central.exchange_kw).max(initial=0.0)),
        rent_difference_eur=figure(compared.rent_difference_eur),
    )
