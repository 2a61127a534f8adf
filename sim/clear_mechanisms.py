"""Cases cleared by the other mechanisms: auctions, an order book, price formulas, a sharing game (:mod:`market.mechanisms`).

They move no store of their own accord and rent nothing: everybody first does what is best alone, and trades what that leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.mechanisms import MECHANISMS, Outcome
from sim.case import CurvesCase, ProsumersCase
from sim.case_arrays import curves_of, problem_of
from sim.clear_result import AgentResult, Certificate, MarketResult, OperatorResult, accepted, figure, figures, heading

__all__ = ["OptionsError", "by_mechanism"]

Floats = NDArray[np.float64]


SAID_ELSEWHERE = frozenset(
    {
        "buy_eur_per_kwh",
        "sell_eur_per_kwh",
        "exchange_charge_eur_per_kwh",
        "tolerance",
        "infeasible",
        "coalitions_up_to",
        "seed",
    }
)
"""Options that functions of :mod:`market.mechanisms` have and a case does not: it has keys for them."""


OPTIONS: dict[str, tuple[str, ...]] = {
    "double_auction_uniform": ("k", "ties", "steps"),
    "double_auction_pay_as_bid": ("ties", "steps"),
    "mcafee": ("steps",),
    "vcg": ("ties", "steps"),
    "order_book": ("steps",),
    "sharing_game": ("price_sensitivity_kw2h_per_eur",),
}
"""Those that a case may give; mechanisms that are not here have none."""


class OptionsError(ValueError):
    """An option of a mechanism is of no kind that it can use."""


def by_mechanism(case: CurvesCase | ProsumersCase, name: str, tolerance: float) -> MarketResult:
    """Clear a case by a mechanism of the registry.

    Raises
    ------
    ValueError
        Of the package ``market``, where the mechanism needs retail prices that are not there, or an option is unknown.
    """
    options: dict[str, Any] = dict(case.options)
    if ours := sorted(SAID_ELSEWHERE & set(options)):
        raise OptionsError(
            f"options: {', '.join(ours)} {'are' if len(ours) > 1 else 'is'} no option of {name}; the case says prices, charges and "
            f"needs in keys of their own, and the command line the tolerance."
        )
    known = OPTIONS.get(name, ())
    if unknown := sorted(set(options) - set(known)):
        raise OptionsError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known) or 'none'}.")
    problem: Any
    if isinstance(case, ProsumersCase):
        problem = problem_of(case)
        options |= {"tolerance": tolerance, "infeasible": "relax"}
    else:
        problem = curves_of(case)
        if case.retail is not None:
            options |= {
                "buy_eur_per_kwh": case.retail.buy_eur_per_kwh,
                "sell_eur_per_kwh": case.retail.sell_eur_per_kwh,
            }
    try:
        found = MECHANISMS[name](problem, seed=case.seed, **options)
    except TypeError as error:
        if not case.options:
            raise
        raise OptionsError(
            f"options of {name} are {case.options}; one of them is of the wrong kind: {error}."
        ) from error
    return _result(case, found)


def _result(case: CurvesCase | ProsumersCase, found: Outcome) -> MarketResult:
    """Return what a mechanism led to, as every result is told."""
    cost, gain = found.cost_eur - found.payment_eur, found.alone_eur - found.cost_eur
    power = found.traded_kwh / case.dt_h
    fair = found.certificate
    operators: tuple[OperatorResult, ...] = ()
    allowed = isinstance(case, CurvesCase) or case.infeasible == "relax"
    if isinstance(case, ProsumersCase) and case.storage:
        agents = {agent.id for agent in case.agents}
        names = dict.fromkeys(storage.id if storage.owner is None else storage.owner for storage in case.storage)
        operators = tuple(
            OperatorResult(id=name, cost_eur=0.0, payment_eur=0.0, gain_eur=0.0) for name in names if name not in agents
        )
    return MarketResult(
        **heading(case),
        mechanism=found.mechanism,
        status=found.status if allowed or not found.relaxed else "infeasible",
        cost_eur=figure(cost.sum()),
        alone_eur=figure(found.alone_eur.sum()),
        price_eur_per_kwh=figures(found.price_eur_per_kwh),
        buy_price_eur_per_kwh=figures(found.buy_price_eur_per_kwh),
        sell_price_eur_per_kwh=figures(found.sell_price_eur_per_kwh),
        traded_kwh=figures(np.maximum(found.traded_kwh, 0.0).sum(axis=0)),
        agents=tuple(
            AgentResult(
                id=name,
                power_kw=figures(power[i]),
                cost_eur=figure(cost[i]),
                payment_eur=figure(found.payment_eur[i]),
                alone_eur=figure(found.alone_eur[i]),
                gain_eur=figure(gain[i]),
                deviation_gain_eur=None,
            )
            for i, name in enumerate(found.names)
        ),
        operators=operators,
        certificate=Certificate(
            converged=found.status != "not_converged",
            iterations=None,
            residuals=(),
            bound_eur=None,
            gap=None,
            gap_eur=None,
            max_agent_kkt_eur=figure(found.deviation_gain_eur),
            dual_asymmetry_eur_per_kwh=None,
            **accepted(fair),
            excess_eur=figure(fair.excess_eur),
            excess_coalition=fair.excess_coalition,
        ),
        relaxed=found.relaxed if allowed else (),
        infeasible=() if allowed else found.relaxed,
        notes=_notes(case, found),
    )


def _notes(case: CurvesCase | ProsumersCase, found: Outcome) -> tuple[str, ...]:
    """Return what to know of a mechanism that trades only what is left when each has done its best alone."""
    notes = []
    asked = found.mechanism != "retailer" and bool(found.names)
    nothing = asked and found.status == "no_trade"
    if isinstance(case, CurvesCase) and case.retail is not None and asked:
        rest = "nothing, so nothing is left to trade" if nothing else "that, and nothing more, is traded here"
        notes.append(
            f"First everybody takes and brings what is best at the retailer's prices: {rest}. What the curves would move at prices between "
            "the retailer's is not looked for; the pool does."
        )
    elif nothing and found.mechanism == "mcafee":
        notes.append(
            "Nobody trades: in McAfee's auction the last two who would agree on a price set it for the others and do not trade, and there are "
            "no others."
        )
    elif nothing:
        notes.append(
            "Nobody trades: no price that somebody pays is as high as one for which somebody brings something."
            if isinstance(case, CurvesCase)
            else "Nobody trades: when each has done its best alone, nobody has anything over for which a neighbour would pay more than the "
            "retailer."
        )
    if isinstance(case, ProsumersCase) and case.storage:
        notes.append(
            "The shared storages stand still: only the exchange uses them, and the objection of a group counts none of them."
        )
    return tuple(notes)
