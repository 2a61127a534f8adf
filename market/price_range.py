"""Where prices are not unique: between which gains do the dual prices of a clearing leave everybody?

Exchange price, scarcity rents and the price of a store's net are multipliers y of the coupling rows of the linear program of
:mod:`market.linear_program` ::

    V(b) = min c z   s.t.   the agents' own rows,   coupling rows: A z = b or A z <= b                              (1)

and any y that is optimal in the dual makes the plan an equilibrium.  Where the plan is degenerate there are many, and each
pays the players differently.  What a player pays is linear in y, w y (:mod:`market.payments`), and V is convex, so ::

    max_y w y = V'(b; w),    min_y w y = −V'(b; −w)                                                                 (2)

The multipliers at b + τ w for a small τ are those of the maximum.  They are taken only if they are optimal at b, too: their
dual value there must be V(b).  So both ends are prices of an equilibrium, found by a simplex method and not by the exchange's
iteration.

Limit: small problems (``LARGEST`` variables).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market.coalition import Clearings
from market.linear_program import Columns, LinearProgram
from market.payments import paid_at
from market.problem import Problem

__all__ = ["LARGEST", "PriceRange", "price_range", "price_range_at"]

Floats = NDArray[np.float64]

LARGEST = 20_000
"""Variables of the largest program that is looked at; it is solved twice per player."""
_STEP = 1e-3  # share of a player's position by which the coupling is moved
_SAME = 1e-8  # relative: a dual value nearer to V(b) is V(b)


@dataclass(frozen=True, slots=True, eq=False)
class PriceRange:
    """What players pay under the equilibrium prices that cost them least and most."""

    least_eur: Floats
    """Shape (k,)."""
    most_eur: Floats
    """Shape (k,)."""
    cost_eur: float
    """V(b): the least cost of the community, by the linear program."""


def price_range(market: Clearings) -> PriceRange | None:
    """Return the range of what each player pays, or None where the program is too large or has no solution."""
    p = market.problem
    if Columns.count(p) > LARGEST:
        return None
    if p.n == 0:
        return PriceRange(np.zeros(len(market.players)), np.zeros(len(market.players)), 0.0)
    program = LinearProgram(p)
    base = program.found(np.zeros(program.coupled))
    if base is None:
        return None
    least, most = np.empty(len(market.players)), np.empty(len(market.players))
    for i in range(len(market.players)):
        towards = _position(program, market, i)
        for sign, out in ((1.0, most), (-1.0, least)):
            prices = program.prices(_multipliers(program, sign * towards, base))
            out[i] = paid_at(market, *prices)[i]
    return PriceRange(np.minimum(least, most), np.maximum(least, most), base[0])


def price_range_at(problem: Problem, interval: int) -> tuple[float, float] | None:
    """Return the least and the largest price of the exchange in an interval at which the optimum is an equilibrium.

    None where the program is too large or has no solution, or nobody may trade.

    Examples
    --------
    Anna has as much too much as Ben needs; any price between the retailer's 0.08 and 0.30 clears:

    >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
    >>> [round(price, 9) for price in price_range_at(case, 0)]
    [0.08, 0.3]
    """
    if problem.n == 0 or problem.exchange != "free" or Columns.count(problem) > LARGEST:
        return None
    program = LinearProgram(problem)
    base = program.found(np.zeros(program.coupled))
    if base is None:
        return None
    direction = np.zeros(program.coupled)
    direction[program.trade[interval]] = 1.0
    low, high = (
        float(program.prices(_multipliers(program, sign * direction, base))[0][interval]) for sign in (-1.0, 1.0)
    )
    return min(low, high), max(low, high)


def _multipliers(program: LinearProgram, direction: Floats, base: tuple[float, Floats, Floats]) -> Floats:
    """Return optimal multipliers of (1), those that a small step in a direction leaves."""
    for step in (_STEP, 1e-2 * _STEP, 1e-4 * _STEP):
        moved = program.found(step * direction)
        if moved is not None:
            value, multiplier, _ = moved
            here = value - step * float(direction @ multiplier)  # the dual value of these multipliers at b
            if here >= base[0] - _SAME * max(1.0, abs(base[0])):
                return multiplier
    return base[1]


def _position(program: LinearProgram, market: Clearings, i: int) -> Floats:
    """Return w: with the multipliers, what player i pays beyond the stores' costs."""
    p, found, player = program.p, market.together(), market.players[i]
    mine, stores = list(player.agents), list(player.shared)
    flow = found.rented_charge_kw - found.rented_discharge_kw
    w_equal, w = np.zeros(program.equal.count), np.zeros(program.below.count)
    if program.trade.size:
        w_equal[program.trade] = -found.exchange_kw[mine].sum(axis=0)

    def held(column: Floats) -> Floats:
        part: Floats = column[:, mine].sum(axis=1)
        part[stores] -= column[stores].sum(axis=1)
        return part

    for rows, column in zip(program.offers, (found.right_energy_kwh, found.right_power_kw), strict=True):
        w[rows] = -held(column)[program.shared_out[: rows.size]]
    net, bounded = held(flow), ~p.ess_netted[:, None]
    w[program.nets[0]] = net[np.isfinite(p.ess_net_min_kw) & bounded]
    w[program.nets[1]] = -net[np.isfinite(p.ess_net_max_kw) & bounded]
    for b, rows in zip(np.flatnonzero(p.ess_netted & p.leads), program.boxes, strict=True):
        w_equal[rows] = -net[p.ess_box == b].sum(axis=0)
    return np.concatenate([w_equal, w])
