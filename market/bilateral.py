"""The bilateral market: every pair its own trade and its own price.

``clear(problem)`` returns the trades, the prices and the certificate by which they can be doubted.  The method is an
alternating-direction method (ADMM) on the trades of the partner graph in which every agent is one scalar root:
:mod:`market.bilateral_kernel` where everybody either sells or buys, :mod:`market.bilateral_mesh_kernel` for any graph, own
stores and limits on trades.  :mod:`market.bilateral_repair` makes the plan exact, :mod:`market.bilateral_bound` says how far
from the best it can be at most.  docs/mathematics/bilateral.md has the equations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market.bilateral_bound import Certificate, certificate
from market.bilateral_mesh import Mesh
from market.bilateral_problem import Bilateral, BilateralError, OwnStores
from market.bilateral_repair import links, placed, unplaced
from market.bilateral_sides import Draft, Sides, of_two_sides
from market.bilateral_start import Start, Warm, start
from market.exchange import Problem, attainable
from market.own_stores import StoreColumns

__all__ = ["Bilateral", "BilateralClearing", "BilateralError", "OwnStores", "Warm", "clear", "clearing", "possible"]

Floats = NDArray[np.float64]

_FIRST_LOOK = 1000  # iterations after which the certificate is asked, and again whenever they have doubled


@dataclass(frozen=True, slots=True, eq=False)
class BilateralClearing:
    """What the bilateral market found: an exact plan, prices, and how much either can be trusted."""

    status: str
    """``converged``, ``not_converged`` or ``infeasible``: somebody must bring, or take, what no partner can take, or bring;
    then ``trouble`` says who, and all others are cleared as usual."""
    trouble: tuple[str, ...]
    """What could not be met, one sentence each."""
    converged: bool
    iterations: int
    residuals: Floats
    """Shape (k, 4): iteration, primal and dual residual (relative, the worst interval's), penalty (mean)."""
    cost_eur: float
    """True cost of the plan: power, charges, wear; payments cancel."""
    bound_eur: float
    """No plan whatever costs less: a lower bound from the prices."""
    gap: float
    """(cost - bound) / max(1, |cost|)."""
    max_agent_kkt: float
    """No single agent could save more than this by deviating at the prices. [eur]"""
    deviation_gain_eur: Floats
    """What each agent could save at most by other trades at these prices.  Shape (n,)."""
    dual_asymmetry_eur_per_kwh: float
    """Largest difference between the prices that the two ends of a pair held when the iteration stopped."""
    payment_eur: Floats
    """What each agent pays (+) or receives (-) for energy; sums to zero.  Shape (n,)."""
    agent_cost_eur: Floats
    """Own power, charges and wear, without payments.  Shape (n,)."""
    trades_kw: Floats
    """What the pair's first agent sells to its second.  Shape (E, T)."""
    price_eur_per_kwh: Floats
    """Of every pair; NaN where the two may not trade.  Shape (E, T)."""
    power_kw: Floats
    """What each agent sells in all, purchases negative.  Shape (n, T)."""
    marginal_eur_per_kwh: Floats
    """What a kWh more is worth to each agent.  Shape (n, T)."""
    charge_kw: Floats
    """Shape (K, n, T)."""
    discharge_kw: Floats
    """Shape (K, n, T)."""
    energy_kwh: Floats
    """Content at the start of every interval and at the end.  Shape (K, n, T + 1)."""
    unplaced_kw: Floats
    """How far an agent's own power is out of its bounds because no partner is there for it.  Shape (n, T)."""
    warm: Warm


def clear(
    problem: Bilateral,
    *,
    warm: Warm | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 10_000,
    gap: float | None = None,
    threads: int = 1,
) -> BilateralClearing:
    """Clear the bilateral market.

    Parameters
    ----------
    problem
        Who may trade with whom.
    warm
        Where a clearing with the same agents and pairs ended (``clearing.warm``, or ``clearing.warm.dropped(steps)``).
    tolerance
        Largest relative residual, primal and dual, and largest relative imbalance of an agent at which the iteration stops.
        Where ties are hard to decide: largest gap, and largest share of its money that any agent could gain by deviating.
        From 1e-3 on it runs in single precision where everybody either sells or buys.
    max_iterations
        When it gives up; the plan is exact even then, and its gap says how good it is.
    gap
        If given, what must be reached instead: the certified gap.  Much earlier than a tolerance of the same size.
    threads
        Tiles of intervals that are iterated at once; without stores only.

    Examples
    --------
    One who buys and one who sells, for an hour; both ends pay 1 per kWh traded:

    >>> from market.curves import Curves
    >>> curves = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
    >>> found = clear(Bilateral.plain(curves, [(1, 0)], charge_eur_per_kwh=1.0), tolerance=1e-9)
    >>> found.trades_kw.round(6).tolist(), found.price_eur_per_kwh.round(6).tolist(), round(found.cost_eur, 6)
    ([[1.0]], [[6.0]], -1.0)
    """
    if not 0.0 < tolerance < 1.0:
        raise BilateralError(f"tolerance is {tolerance}; give a number between 0 and 1, such as 1e-4.")
    if gap is not None and not gap > 0.0:
        raise BilateralError(f"gap is {gap}; give a number above 0, such as 1e-3.")
    if max_iterations < 1 or threads < 1:
        raise BilateralError(f"max_iterations is {max_iterations} and threads is {threads}; give at least 1 of each.")
    if warm is not None:
        _check_warm(problem, warm)
    relaxed, trouble, beyond = possible(problem)
    begin, partners = start(relaxed), links(relaxed)
    engine: Sides | Mesh
    if of_two_sides(relaxed):
        engine = Sides(relaxed, begin, warm, tolerance if gap is None else max(tolerance, min(gap, 1e-3)))
    else:
        engine = Mesh(relaxed, begin, partners, warm)
    # the fast form looks at its gap as it goes, the other one when its residuals are small; a gap is reached long before them
    goal = gap if gap is None or isinstance(engine, Sides) else min(10.0 * gap, 0.5)
    stop = min(_FIRST_LOOK, max_iterations)
    while True:
        last = stop if gap is None else max_iterations
        if isinstance(engine, Sides):
            draft = engine.run(tolerance, last, goal, threads)
        else:
            draft = engine.run(tolerance if goal is None else max(tolerance, goal), last, threads)
        trades, charge, discharge, energy = placed(
            relaxed, partners, draft.trades_kw, draft.charge_kw, draft.discharge_kw
        )
        found = certificate(relaxed, partners, trades, charge, discharge, draft.marginal_eur_per_kwh)
        if gap is None or goal is None:
            good = draft.converged or _nobody_minds(relaxed, begin, found, tolerance)
            if good or stop >= max_iterations:
                break
            stop = min(2 * stop, max_iterations)
            continue
        good = found.gap <= gap
        if good or not draft.converged or goal < 1e-3 * gap:
            break
        goal *= 0.5
    return clearing(replace(draft, converged=good), found, trades, charge, discharge, energy, trouble, beyond)


def _nobody_minds(problem: Bilateral, begin: Start, found: Certificate, tolerance: float) -> bool:
    """Return whether the certificate alone is enough: what is still undecided is worth nothing to anybody.

    Which of two sellers a thousandth of a cent apart serves a buyer takes the iteration thousands of steps.  The gap, and
    each agent's gain by deviating, relative to the money that it turns over or usually would, must be within the tolerance.
    """
    usual = problem.curves.dt_h * begin.usual_kw * begin.margin_eur_per_kwh.sum()
    money = abs(found.agent_cost_eur) + abs(found.payment_eur) + usual
    return bool(found.gap <= tolerance and (found.agent_gain_eur <= tolerance * money).all())


def possible(problem: Bilateral) -> tuple[Bilateral, tuple[str, ...], Floats]:
    """Return the problem with bounds moved as little as makes a plan possible, what was moved in words, and by how much.

    Stores get the contents that they can have; a power that no partner can take, or bring, leaves its bound.
    """
    trouble: list[str] = []
    if problem.stores is not None:
        columns = {name: getattr(problem.stores, name) for name in StoreColumns.__slots__}
        none = np.zeros((problem.n, problem.steps))
        alone = Problem.plain(none, none, 0.0, 0.0, dt_h=problem.curves.dt_h, stores=problem.stores.stores, **columns)
        able, missing, excess = attainable(alone)
        problem = replace(problem, stores=OwnStores(**{name: getattr(able, name) for name in StoreColumns.__slots__}))
        for off, word in ((missing, "short of its least content"), (excess, "above its largest content")):
            for k, i in np.argwhere(off.max(axis=2, initial=0.0) > 1e-9).tolist():
                trouble.append(
                    f"{problem.curves.name(i)}, store {k}, will be {off[k, i].max():.6g} kWh {word}, whatever it does."
                )
    bring, take = unplaced(problem)
    for off, word in (
        (bring, "must bring {:.6g} kW that no partner takes"),
        (take, "must take {:.6g} kW that no partner brings"),
    ):
        for i, t in np.argwhere(off > 0).tolist():
            trouble.append(f"{problem.curves.name(i)}, interval {t}, {word.format(off[i, t])}.")
    if (bring > 0).any() or (take > 0).any():
        curves = problem.curves
        wider = replace(curves, p_min_kw=curves.p_min_kw - bring, p_max_kw=curves.p_max_kw + take)
        problem = replace(problem, curves=wider)
    return problem, tuple(trouble), bring + take


def clearing(
    draft: Draft, found: Certificate, trades: Floats, charge: Floats, discharge: Floats, energy: Floats,
    trouble: tuple[str, ...], beyond: Floats,
) -> BilateralClearing:  # fmt: skip
    """Put plan, prices and certificate together."""
    status = "infeasible" if trouble else "converged" if draft.converged else "not_converged"
    warm = Warm(
        trades, found.price_eur_per_kwh, found.marginal_eur_per_kwh, draft.penalty_eur_per_kw2h, draft.store_states
    )
    return BilateralClearing(
        status=status,
        trouble=trouble,
        converged=draft.converged,
        iterations=draft.iterations,
        residuals=draft.residuals,
        cost_eur=found.cost_eur,
        bound_eur=found.bound_eur,
        gap=found.gap,
        max_agent_kkt=float(found.agent_gain_eur.max(initial=0.0)),
        deviation_gain_eur=np.maximum(found.agent_gain_eur, 0.0),
        dual_asymmetry_eur_per_kwh=draft.asymmetry_eur_per_kwh,
        payment_eur=found.payment_eur,
        agent_cost_eur=found.agent_cost_eur,
        trades_kw=trades,
        price_eur_per_kwh=found.price_eur_per_kwh,
        power_kw=found.power_kw,
        marginal_eur_per_kwh=found.marginal_eur_per_kwh,
        charge_kw=charge,
        discharge_kw=discharge,
        energy_kwh=energy,
        unplaced_kw=beyond,
        warm=warm,
    )


def _check_warm(problem: Bilateral, warm: Warm) -> None:
    """Refuse a warm start of another market."""
    slots = 0 if problem.stores is None else problem.stores.stores
    shapes = warm.trades_kw.shape, warm.marginal_eur_per_kwh.shape, warm.store_states.shape[1:]
    wanted = (problem.pairs, problem.steps), (problem.n, problem.steps), (slots, problem.n, problem.steps)
    if shapes != wanted:
        raise BilateralError(f"the warm start is of another market: trades, values and flows have the shapes {shapes}; "
                             f"{wanted} were expected.")  # fmt: skip
