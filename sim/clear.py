"""Clear a market's case: pick the mechanism, verify and divide where that is asked for, and return one result.

``exchange`` and ``pool`` find the least cost of all together and prices that support it; ``bilateral`` does so pair by pair.
The others are rules that people use, and are compared with everyone alone under the retailer's prices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.case import CurvesCase, ProsumersCase
from sim.clear_result import Certificate, MarketResult, heading
from sim.scenario_mistakes import nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from market.curves import Curves

    Floats = NDArray[np.float64]

__all__ = ["DIVISIONS", "MECHANISMS", "OPTIMAL", "RULES", "TOLERANCE", "ClearError", "clear"]

RULES = (
    "retailer",
    "mid_market_rate",
    "supply_demand_ratio",
    "bill_sharing",
    "double_auction_uniform",
    "double_auction_pay_as_bid",
    "mcafee",
    "vcg",
    "order_book",
    "sharing_game",
)
"""Mechanisms in which people trade what they have left when each has done its best alone."""

BY_RETAIL = ("mid_market_rate", "supply_demand_ratio", "bill_sharing")
"""Those whose prices lie between the retailer's."""

MECHANISMS: dict[str, tuple[str, ...]] = {
    "curves": ("pool", "bilateral", *RULES),
    "prosumers": ("exchange", *RULES),
}
"""Names of mechanisms by kind of case; the first is the usual one, for curves with trades it is bilateral."""

OPTIMAL = ("exchange", "pool", "bilateral")
"""Mechanisms that aim at the least cost of all."""

DIVISIONS = ("dual_prices", "nash", "shapley", "nucleolus", "least_core", "proportional")
"""Rules that divide what all gain together."""

TOLERANCE = {"exchange": 1e-4, "bilateral": 1e-9, "pool": 1e-7, **dict.fromkeys(RULES, 1e-4)}
"""Relative residuals at which an iteration stops, where nobody says otherwise; the pool iterates nothing."""

FEW, FEW_TOLERANCE = 10_000, 1e-5
"""An exchange of so few agents times intervals is cleared to this: it costs nothing."""


class ClearError(ValueError):
    """What was asked of a case does not go with it."""


def clear(
    case: CurvesCase | ProsumersCase,
    *,
    mechanism: str | None = None,
    divide: str | None = None,
    verify: bool = False,
    tolerance: float | None = None,
) -> MarketResult:
    """Clear a case.

    Parameters
    ----------
    case
        What :func:`sim.case_file.load` read.
    mechanism
        Instead of the case's.
    divide
        Also divide by this rule what all gain together.
    verify
        Also solve the market as one problem, and compare.
    tolerance
        Relative residuals at which the iteration stops, between 0 and 1.

    Raises
    ------
    ClearError
        Where the mechanism or the rule is not known, or does not go with the case.
    """
    name = mechanism_of(case, mechanism)
    stop = _usual(case, name) if tolerance is None else tolerance
    if not 0.0 < stop < 1.0:
        raise ClearError(f"--tolerance is {stop}; give a number between 0 and 1, such as 1e-4.")
    if divide is not None and divide not in DIVISIONS:
        raise ClearError(f'--divide: "{divide}" is no rule; {nearest(divide, DIVISIONS)}')
    for option, wanted in (("--verify", verify), ("--divide", divide is not None)):
        if wanted and name not in OPTIMAL:
            raise ClearError(
                f"{option} needs the optimum of all; {name} does not look for it. Leave one of the two out."
            )
    if name in BY_RETAIL and isinstance(case, CurvesCase) and case.retail is None:
        raise ClearError(
            f'{name} is a price between those of a retailer, and the case has none: give "retail" with buy_eur_per_kwh and sell_eur_per_kwh.'
        )
    if name in RULES:
        from sim.clear_mechanisms import by_mechanism

        return by_mechanism(case, name, stop)
    if case.options:
        raise ClearError(f"options are given ({', '.join(case.options)}), and {name} has none.")
    way = {"exchange": _exchange, "pool": _pool, "bilateral": _pairs}[name]
    return way(case, _Asked(divide, verify, stop, TOLERANCE[name] if tolerance is None else 0.0))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is wanted besides the clearing."""

    divide: str | None
    verify: bool
    tolerance: float
    enough: float
    """Residuals that count as converged too, where the tolerance, more than anybody asked for, is not reached."""


def _exchange(case: CurvesCase | ProsumersCase, asked: _Asked) -> MarketResult:
    """Clear prosumers by the exchange."""
    from market.feasible import Infeasible
    from sim.clear_exchange import by_exchange, owners_of, verified

    assert isinstance(case, ProsumersCase)
    try:
        result, problem, found = by_exchange(case, asked.tolerance, asked.enough)
    except Infeasible as error:
        return without_a_plan(case, "exchange", str(error).splitlines())
    if asked.divide is not None:
        from sim.clear_division import divided_prosumers

        division = divided_prosumers(problem, owners_of(case), asked.divide, seed=case.seed, tolerance=asked.tolerance)
        result = result.model_copy(update={"division": division})
    if asked.verify:
        result = result.model_copy(update={"verification": verified(problem, found)})
    return result


def _pool(case: CurvesCase | ProsumersCase, asked: _Asked) -> MarketResult:
    """Clear curves in one pool."""
    from sim.clear_curves import by_pool, pool_verified

    assert isinstance(case, CurvesCase)
    result, curves, pool = by_pool(case)
    if result.infeasible:
        return result
    if asked.divide is not None:
        from sim.clear_division import divided_curves, in_a_pool

        market = in_a_pool(curves, pool, _alone(curves, case))
        result = result.model_copy(update={"division": divided_curves(market, asked.divide, seed=case.seed)})
    bound = result.certificate.bound_eur
    if asked.verify and bound is not None:
        result = result.model_copy(update={"verification": pool_verified(curves, pool, bound)})
    return result


def _pairs(case: CurvesCase | ProsumersCase, asked: _Asked) -> MarketResult:
    """Clear curves pair by pair."""
    from sim.clear_pairs import by_pairs, pairs_verified

    assert isinstance(case, CurvesCase)
    if case.trades is None:
        raise ClearError(
            'bilateral needs "trades": say who may trade with whom, for example between: consumers-producers.'
        )
    result, problem, found = by_pairs(case, case.trades, asked.tolerance)
    if result.infeasible:
        return result
    if asked.divide is not None:
        from sim.clear_division import divided_curves, in_pairs

        market = in_pairs(problem, found, _alone(problem.curves, case), asked.tolerance)
        result = result.model_copy(update={"division": divided_curves(market, asked.divide, seed=case.seed)})
    if asked.verify:
        return result.model_copy(update={"verification": pairs_verified(problem, found)})
    return result


def _alone(curves: Curves, case: CurvesCase) -> Floats:
    """Return everyone's cost alone, which every division starts from."""
    from sim.clear_curves import alone_eur

    alone = alone_eur(curves, case.retail)
    stuck = [agent.id for agent, cost in zip(case.agents, alone.tolist(), strict=True) if not math.isfinite(cost)]
    if stuck:
        raise ClearError(
            f"--divide needs everyone's cost alone, and {', '.join(stuck[:5])}{' ...' * (len(stuck) > 5)} must bring or take power: give "
            "retail prices, at which that could be done alone, or bounds that hold 0."
        )
    return alone


def without_a_plan(case: CurvesCase | ProsumersCase, mechanism: str, why: list[str]) -> MarketResult:
    """Return the result of a market of which nothing can be cleared: the reasons, and no figures."""
    return MarketResult(
        **heading(case),
        mechanism=mechanism,
        status="infeasible",
        cost_eur=None,
        alone_eur=None,
        price_eur_per_kwh=(),
        buy_price_eur_per_kwh=(),
        sell_price_eur_per_kwh=(),
        traded_kwh=(),
        agents=(),
        certificate=Certificate(
            converged=False,
            iterations=None,
            residuals=(),
            bound_eur=None,
            gap=None,
            gap_eur=None,
            max_agent_kkt_eur=None,
            dual_asymmetry_eur_per_kwh=None,
            rational=None,
            worst_gain_eur=None,
            worst_agent="",
            balanced=False,
            imbalance_eur=None,
        ),
        infeasible=tuple(line.strip() for line in why),
    )


def _usual(case: CurvesCase | ProsumersCase, name: str) -> float:
    """Return the tolerance of a mechanism where nobody says otherwise."""
    few = isinstance(case, ProsumersCase) and len(case.agents) * case.prices.buy_eur_per_kwh.size <= FEW
    return min(TOLERANCE[name], FEW_TOLERANCE) if name == "exchange" and few else TOLERANCE[name]


def mechanism_of(case: CurvesCase | ProsumersCase, asked: str | None) -> str:
    """Return the mechanism that is meant."""
    known = MECHANISMS[case.kind]
    usual = "bilateral" if isinstance(case, CurvesCase) and case.trades is not None else known[0]
    name = asked or case.mechanism or usual
    if name not in known:
        others = [kind for kind, names in MECHANISMS.items() if name in names]
        said = f"it is one for {others[0]}; known are {', '.join(known)}." if others else nearest(name, known)
        raise ClearError(f'"{name}" is no mechanism for {case.kind}; {said}')
    return name
