"""What comes out of a market's case: the result that ``commonwatt market clear --json`` prints.

Keys are a promise: they are added to, never renamed or dropped.  Powers are means over an interval; ``null`` is a figure
that does not exist.  What an agent brings to market is positive (production, sale), what it takes negative; a payment is
positive where the agent pays.  Costs are better where they are smaller; a gain is what somebody is better off than alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from sim.scenario_mistakes import with_units

if TYPE_CHECKING:
    from market.fairness import Fairness
    from sim.case import CurvesCase, ProsumersCase

__all__ = [
    "AgentResult",
    "Certificate",
    "DivisionResult",
    "FlexibleResult",
    "Look",
    "MarketResult",
    "OperatorResult",
    "Share",
    "StorageResult",
    "StoreResult",
    "Tenant",
    "Trade",
    "Verification",
    "accepted",
    "figure",
    "figures",
    "heading",
    "json_schema",
]

Figure = float | None
Figures = tuple[float | None, ...]


class _Part(BaseModel):
    """A part of a result."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class StoreResult(_Part):
    """What a store of one's own does."""

    charge_kw: Figures
    """Per interval."""
    discharge_kw: Figures
    """Per interval."""
    energy_kwh: Figures
    """Content at the start of every interval and at the end."""


class FlexibleResult(_Part):
    """What a flexible demand takes."""

    power_kw: Figures
    """Per interval."""
    energy_kwh: Figure
    """In all."""
    forgone_eur: Figure
    """What that which it could have taken and did not would have been worth; in the agent's cost."""


class AgentResult(_Part):
    """What an agent does, pays and gains."""

    id: str
    """Its name."""
    power_kw: Figures
    """What it brings to the market, sale positive, per interval."""
    cost_eur: Figure
    """What its plan costs, without payments in the market: retail, charges, wear, the worth of flexible demand that it leaves out, what its
    shared storage costs it; or its curve."""
    payment_eur: Figure
    """What it pays (+) or receives (−) in the market, for energy and for space, as a tenant and as an owner."""
    alone_eur: Figure
    """What everything would cost without the market: under the retail tariff, behind the same envelope, with its own storages."""
    gain_eur: Figure
    """alone_eur less cost_eur less payment_eur."""
    deviation_gain_eur: Figure
    """What it could gain at most by deviating alone at the prices; null where the mechanism has no prices for that."""
    grid_kw: Figures | None = None
    """Retail exchange, import positive, per interval; prosumers in the exchange only, as the next three."""
    meter_kw: Figures | None = None
    """At the meter, import positive, per interval."""
    curtailed_kw: Figures | None = None
    """Solar power given up, per interval."""
    breach_kw: Figures | None = None
    """By how much the meter leaves its envelope, per interval."""
    marginal_eur_per_kwh: Figures | None = None
    """What the next kWh costs it, or is worth to it, per interval; curves in a pool or in pairs only."""
    stores: tuple[StoreResult, ...] = ()
    """Its own stores, in the order of the case."""
    flexible: tuple[FlexibleResult, ...] = ()
    """Its flexible demand, in the order of the case; in the exchange only."""


class OperatorResult(_Part):
    """The owner of a shared storage who is no agent."""

    id: str
    """Its name."""
    cost_eur: Figure
    """What the storage costs it: reserve rents of what is rented, and wear."""
    payment_eur: Figure
    """What it pays (+) or receives (−): everything that tenants pay for space."""
    gain_eur: Figure
    """What it receives less that cost; alone it has nothing."""


class Tenant(_Part):
    """Who rents in a shared storage, and what for."""

    id: str
    """Name of the agent."""
    right_energy_kwh: Figure
    """Space."""
    right_power_kw: Figure
    """Power, each way."""
    charge_kw: Figures
    """Per interval."""
    discharge_kw: Figures
    """Per interval."""
    energy_kwh: Figures
    """Content of its space at the start of every interval and at the end."""
    reserve_rent_eur: Figure
    """What it pays for the storage's cost: reserve rents of its rights, and wear."""
    scarcity_rent_eur: Figure
    """What it pays on top, because space, power or the storage's envelope are scarce."""


class StorageResult(_Part):
    """A shared storage: its rents and its tenants."""

    id: str
    """Its name."""
    owner: str
    """Who gets the rents."""
    rent_energy_reserve_eur_per_kwh: Figure
    """Of a kWh of space for the whole horizon."""
    rent_energy_scarcity_eur_per_kwh: Figure
    """On top of the reserve rent."""
    rent_power_reserve_eur_per_kw: Figure
    """Of a kW for the whole horizon."""
    rent_power_scarcity_eur_per_kw: Figure
    """On top of the reserve rent."""
    net_price_eur_per_kwh: Figures
    """What one more kWh that it may charge net would save (−) or cost (+), per interval."""
    net_kw: Figures
    """What all tenants together charge, discharge negative, per interval."""
    tenants: tuple[Tenant, ...]
    """Who rents."""


class Trade(_Part):
    """What two agents trade."""

    first: str
    """One of the two."""
    second: str
    """The other."""
    power_kw: Figures
    """Positive where the first sells, per interval."""
    price_eur_per_kwh: Figures
    """Their price, per interval; null where they may not trade."""


class Look(_Part):
    """The residuals at one look at the iteration."""

    iteration: int
    """After how many."""
    primal: Figure
    """Relative."""
    dual: Figure
    """Relative."""
    penalty: Figure
    """At which it went on."""


class Certificate(_Part):
    """How far the result can be trusted."""

    converged: bool
    """Whether the iteration met its tolerance; true where nothing is iterated."""
    iterations: int | None
    """How many; null where nothing is iterated."""
    residuals: tuple[Look, ...]
    """Wherever the iteration was looked at; the last is the one that counts."""
    bound_eur: Figure
    """No plan whatever costs less; null where the mechanism does not aim at the least cost."""
    gap: Figure
    """(cost − bound) / max(1, |cost|)."""
    gap_eur: Figure
    """cost − bound."""
    max_agent_kkt_eur: Figure
    """No agent could gain more than this by deviating alone, at the prices or, in the sharing game, as a player; null where nothing is claimed."""
    dual_asymmetry_eur_per_kwh: Figure
    """By how much the two ends of a trade disagree about its price, at most."""
    rational: bool | None
    """Nobody is worse off than alone."""
    worst_gain_eur: Figure
    """The smallest gain of anyone."""
    worst_agent: str
    """Whose it is."""
    balanced: bool
    """The payments sum to zero."""
    imbalance_eur: Figure
    """Their sum: above 0 something is left over, below 0 somebody outside pays."""
    alone_gap_eur: Figure = None
    """By how much the costs of everyone alone may be too high together, at most."""
    netting_cost_eur: Figure = None
    """What it costs, at most, that stores do not charge and discharge at once where that would pay: the gap where they would, else 0."""
    excess_eur: Figure = None
    """What the coalition that objects most would gain more without the others; null where no coalition was asked."""
    excess_coalition: tuple[str, ...] = ()
    """Who that is."""


class Share(_Part):
    """What a division gives one player."""

    id: str
    """Name of the player."""
    gain_eur: Figure
    """What it gains over being alone."""
    payment_eur: Figure
    """What it pays (+) or receives (−) for that."""
    standard_error_eur: Figure
    """Of the gain, where it was sampled."""


class DivisionResult(_Part):
    """How a rule divides what all gain together."""

    rule: str
    """Its name."""
    shares: tuple[Share, ...]
    """Of agents and operators."""
    rational: bool
    """Nobody is worse off than alone."""
    balanced: bool
    """The payments sum to zero."""
    imbalance_eur: Figure
    """Their sum."""
    excess_eur: Figure
    """What the coalition that objects most would gain more without the others; above 0 it does better by leaving."""
    excess_coalition: tuple[str, ...]
    """Who that is."""
    excess_sampled: bool
    """Whether only some coalitions were asked."""
    accuracy_eur: Figure
    """The values of coalitions are within this of the truth."""
    note: str
    """What to know before relying on the figures; empty if there is nothing."""


class Verification(_Part):
    """The same market solved as one problem by a solver that knows everything about everybody."""

    by: str
    """Who solved it."""
    agrees: bool
    """Whether the certificate keeps: the bound is not above the optimum, and the optimum not above the plan's cost, which is then within
    its own certified gap of the optimum."""
    tolerance: float
    """What the solver's own figures may be off by, relative to its cost (to 1 where that is less)."""
    cost_eur: Figure
    """Of the optimum, as the solver has it: nothing in it is repaired, and the term that decides ties is not in it."""
    cost_above_eur: Figure
    """By how much the market's plan costs more; certificate.gap_eur says at most how much."""
    bound_below_eur: Figure
    """By how much the bound from the market's prices is below the optimum: what the prices fail by to support it, in money. Where it is
    nothing, they are prices of the optimum, whatever the solver's are."""
    price_difference_eur_per_kwh: Figure
    """Largest difference of the price in intervals in which energy is traded; prices need not be unique."""
    price_difference_interval: int | None = None
    """Where that is; pairs may have it anywhere."""
    price_range_eur_per_kwh: Figures | None = None
    """The least and the largest price of the optimum in that interval; null where the two agree, where the market is too large to look,
    or where prices are no multipliers of a linear program (pool, pairs)."""
    power_difference_kw: Figure
    """Largest difference of what an agent brings to market; plans need not be unique."""
    rent_difference_eur: Figure = None
    """Largest difference of what a shared storage earns by scarcity rents if all of it is rented."""


class MarketResult(_Part):
    """The result of a market's case."""

    case: str
    """Name of the case."""
    kind: str
    """curves or prosumers."""
    mechanism: str
    """How it was cleared."""
    status: str
    """converged or not_converged where something is iterated, else cleared, or no_trade where nobody trades; infeasible where somebody needs
    what cannot be had."""
    currency: str
    """What every key means that says eur."""
    interval_hours: float
    """Length of an interval."""
    cost_eur: Figure
    """Of all plans together, payments left out: what a planner would minimise."""
    alone_eur: Figure
    """Of everyone alone, together."""
    price_eur_per_kwh: Figures
    """One price per interval; null where there is none, or where every pair has its own."""
    buy_price_eur_per_kwh: Figures
    """What buyers pay in the mean, per interval, charges left out."""
    sell_price_eur_per_kwh: Figures
    """What sellers get in the mean, per interval, charges left out."""
    traded_kwh: Figures
    """What changes hands, per interval."""
    agents: tuple[AgentResult, ...]
    """In the order of the case."""
    operators: tuple[OperatorResult, ...] = ()
    """Owners of shared storages who are no agents."""
    storage: tuple[StorageResult, ...] = ()
    """Shared storages."""
    trades: tuple[Trade, ...] = ()
    """Pairs, where pairs trade."""
    certificate: Certificate
    """How far it can be trusted."""
    infeasible: tuple[str, ...] = ()
    """What nobody can do anything about, in words, where the status is infeasible: needs of stores, which are then lowered to what can be
    had, so that all others are cleared; intervals of a pool, or agents in pairs, whose bounds nobody can meet."""
    notes: tuple[str, ...] = ()
    """What to know before relying on the figures."""
    relaxed: tuple[str, ...] = ()
    """Needs that nothing could meet and that were lowered to what can be had, in words; only with "infeasible: relax"."""
    division: DivisionResult | None = None
    """Where one was asked for."""
    verification: Verification | None = None
    """Where one was asked for."""


def heading(case: CurvesCase | ProsumersCase) -> dict[str, Any]:
    """Return what every result says of its case."""
    return {"case": case.name, "kind": case.kind, "currency": case.currency, "interval_hours": case.dt_h}


def accepted(fair: Fairness, gain_eur: NDArray[np.float64] | None = None) -> dict[str, Any]:
    """Return what a certificate says of gains and payments; whether nobody loses is not known where a gain is not."""
    known = gain_eur is None or bool(np.isfinite(gain_eur).all())
    return {
        "rational": fair.rational if known else None,
        "worst_gain_eur": figure(fair.worst_gain_eur),
        "worst_agent": fair.worst_agent,
        "balanced": fair.balanced,
        "imbalance_eur": figure(fair.imbalance_eur),
    }


def figure(value: Any) -> Figure:
    """Return a number; None where it does not exist.

    >>> figure(1), figure(float("nan"))
    (1.0, None)
    """
    number = float(value)
    return number if np.isfinite(number) else None


def figures(values: NDArray[np.float64]) -> Figures:
    """Return a row of numbers; None where one does not exist."""
    return tuple(figure(value) for value in np.asarray(values, dtype=np.float64).tolist())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of results; every quantity carries its ``unit``."""
    schema = MarketResult.model_json_schema(mode="serialization")
    described: dict[str, Any] = with_units(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}
