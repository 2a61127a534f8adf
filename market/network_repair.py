"""An exact plan that keeps the rows of a network.

The iteration ends with rows that hold to its tolerance.  The plan is made exact as without a network (:mod:`market.repair`);
where its draws then break a row, the interval's draws are moved to the nearest ones that keep all rows, by those who can move
towards them alone, and these become limits of their meters for another repair: who feeds in feeds in at most as much, who draws
draws at most as much, on the side on which it would do harm.  Stores then move, or power is curtailed, and what moves into other
intervals is looked at again.

What cannot be had this way (nobody is left who can move) stays broken, and is told: :func:`market.network_prices.clear` names the
element.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from market.feasible import Infeasible
from market.network_project import Projection
from market.network_rows import Network, draws_of, reach_of
from market.problem import Problem
from market.repair import Draft, Plan, repair

__all__ = ["repair_inside"]

Floats = NDArray[np.float64]

_ROUNDS = 8
_STORES_FROM = 4  # rounds after which shared stores move too, which takes a linear program
_BROKEN = 1e-7  # of what a row would be at one kW: more is broken
_INSIDE = 0.5e-7  # how far inside the rows is aimed at, likewise
_STIFF = 1e6  # what it costs to move somebody who cannot, beside those who can
_STILL_KW = 1e-9


class _Sides(NamedTuple):
    """Limits of all places, import and export, import positive.  Shapes (N, T)."""

    most: Floats
    least: Floats


def repair_inside(
    p: Problem, network: Network, draft: Draft, wish_kw: Floats, price_eur_per_kwh: Floats
) -> tuple[Plan, Floats]:
    """Return an exact plan near a draft, and A x − b of what it draws.  Shape (k, T).

    Parameters
    ----------
    network
        Its own rows; bounds of shared stores are in the problem.
    wish_kw
        What all places would draw, keeping the rows nearly.  Shape (N, T). [kW]

    Raises
    ------
    Infeasible
        Where a shared store's net cannot be kept inside its bounds.
    """
    size = np.abs(network.a_per_kw).max(axis=1, initial=0.0)[:, None]
    limits = _Sides(np.full((network.places, p.steps), np.inf), np.full((network.places, p.steps), -np.inf))
    plan = repair(p, draft, price_eur_per_kwh)
    low, high = reach_of(p)
    best = plan, network.excess(_draws(plan))
    for turn in range(_ROUNDS):
        x = _draws(plan)
        over = network.excess(x)
        if _worst(over, size) < _worst(best[1], size) or turn == 0:
            best = plan, over
        broken = np.flatnonzero((over > _BROKEN * size).any(axis=0))
        if not broken.size:
            break
        here = over[:, broken] if turn else np.maximum(over, network.excess(wish_kw))[:, broken]
        wish = wish_kw if turn == 0 else x
        stores = turn >= _STORES_FROM
        if not _moved(p, network, x, wish, limits, low, high, broken, here > -1e-3 * size, stores) and stores:
            break
        try:
            plan = repair(_limited(p, limits), draft, price_eur_per_kwh)
        except Infeasible:  # a shared store cannot follow: it keeps its own bounds
            limits.most[p.n :], limits.least[p.n :] = np.inf, -np.inf
            plan = repair(_limited(p, limits), draft, price_eur_per_kwh)
    plan, over = best
    outside = np.maximum(np.maximum(plan.meter_kw - p.import_limit_kw, -p.export_limit_kw - plan.meter_kw), 0.0)
    return replace(plan, breach_kw=outside), over


def _draws(plan: Plan) -> Floats:
    return draws_of(plan.meter_kw, plan.rented_charge_kw, plan.rented_discharge_kw)


def _worst(over: Floats, size: Floats) -> float:
    return float((over / np.maximum(size, 1e-300)).max(initial=0.0))


def _moved(
    p: Problem, network: Network, x: Floats, wish: Floats, limits: _Sides, low: Floats, high: Floats, where: NDArray[np.intp],
    tight: NDArray[np.bool_], stores: bool,
) -> bool:  # fmt: skip
    """Move the limits to the draws nearest to the wish that keep the rows in some intervals; return whether anybody can move.

    ``tight`` says which rows are near their limit there, ``stores`` whether shared stores move.
    """
    a = network.a_per_kw
    adds = (a > 0.0).T.astype(float) @ tight > 0.0  # drawing more does harm
    takes = (a < 0.0).T.astype(float) @ tight > 0.0  # feeding in more does harm
    now, wished = x[:, where], wish[:, where]
    stuck = (now > limits.most[:, where] + _STILL_KW) | (now < limits.least[:, where] - _STILL_KW)
    homes = np.arange(len(x))[:, None] < p.n
    # a home's limits cannot oblige it to draw or to feed in, a store's can
    can_less = adds & ~stuck & (now > low[:, where] + _STILL_KW) & (~homes | (now > 0.0))
    can_more = takes & ~stuck & (now < high[:, where] - _STILL_KW) & (~homes | (now < 0.0))
    can_less, can_more = can_less & (homes | stores), can_more & (homes | stores)
    moves = can_less | can_more
    if not moves.any():
        return False
    wished = np.where(moves, np.clip(wished, low[:, where], high[:, where]), now)
    found = np.empty_like(wished)
    size = np.abs(a).max(axis=1, initial=0.0)
    for q, t in enumerate(where):
        metric = np.where(moves[:, q], 1.0, _STIFF)
        inside = network.b[:, t : t + 1] - _INSIDE * size[:, None]
        one = Projection(Network.plain(a, inside, network.element, network.kind), p.dt_h, metric)
        one.prepare(1.0)
        found[:, q] = one.nearest(wished[:, q : q + 1], True)[0][:, 0]
    less, more = found < now - _STILL_KW, found > now + _STILL_KW
    floor = np.where(homes, 0.0, -np.inf)
    capped = np.maximum(np.minimum(limits.most[:, where], found), floor)
    limits.most[:, where] = np.where(can_less & (less | adds), capped, limits.most[:, where])
    lifted = np.minimum(np.maximum(limits.least[:, where], found), -floor)
    limits.least[:, where] = np.where(can_more & (more | takes), lifted, limits.least[:, where])
    return True


def _limited(p: Problem, limits: _Sides) -> Problem:
    """Return the problem inside further limits."""
    n = p.n
    net_min, net_max = np.maximum(p.ess_net_min_kw, limits.least[n:]), np.minimum(p.ess_net_max_kw, limits.most[n:])
    return replace(
        p,
        import_limit_kw=np.minimum(p.import_limit_kw, limits.most[:n]),
        export_limit_kw=np.minimum(p.export_limit_kw, -limits.least[:n]),
        ess_net_min_kw=np.minimum(net_min, net_max),
        ess_net_max_kw=net_max,
        breach_penalty_eur_per_kwh=cast("float", None),
    )  # fmt: skip
