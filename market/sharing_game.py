"""The energy-sharing game: everybody bids a demand function, and nobody says whether he buys or sells.

Each of N players hands in one number b_i; a > 0, the price sensitivity, is the same for all.  What a player takes from the
others, and the price that makes the sum zero, are [1]_::

    q_i = -a lambda + b_i,      sum q_i = 0,      lambda = sum b_i / (a N)                                        (1)

Player i, who brings p_i = -q_i and for whom that costs f_i(p_i), pays ``lambda q_i`` and knows that his bid moves the price:
with the others' bids fixed, B_i their sum,

    lambda(q) = (q + B_i) / (a (N - 1))                                                                            (2)
    f_i'(p_i) = lambda + q_i / (a (N - 1))      at his best bid, unless a bound on p_i holds him                   (3)

(3) for all players are the optimality conditions of one convex problem, that of the plain pool with a little more slope::

    min sum f_i(p_i) + p_i^2 / (2 a (N - 1))     subject to     sum p_i = 0                                        (4)

so the Nash equilibrium exists, is unique, and for quadratic costs is what :func:`market.curves.clear_pool` finds for the
slopes ``a_i + 1 / (a (N - 1))``, exactly.  No bound binding, lambda is the mean of all marginal costs.  Nobody loses: who
bids ``a lambda`` trades nothing.  The larger a and the more players, the nearer to the pool.

The answer is not believed: from the bids alone the best reply of every player is computed by (2) in closed form, and what it
would save is reported (``deviation_gain_eur``).

Players are those whose power can move in an interval.  Fewer than two do not play.

References
----------
.. [1] Y. Chen, S. Mei, F. Zhou, S. H. Low, W. Wei, F. Liu, "An energy sharing game with generalized demand bidding: model
   and properties", IEEE Transactions on Smart Grid 11(3), 2020; arXiv:1904.07829.  Theirs is for one interval and a
   required reduction D_i, p_i + q_i = D_i; here the alternative to trading is in f_i, and D_i = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market.curves import Curves, clear_pool

__all__ = ["Equilibrium", "GameError", "best_reply_gain_eur", "default_sensitivity", "play"]

Floats = NDArray[np.float64]


class GameError(ValueError):
    """The sharing game cannot be played with what was given."""


@dataclass(frozen=True, slots=True, eq=False)
class Equilibrium:
    """Bids from which nobody moves, and what they lead to."""

    price_sensitivity_kw2h_per_eur: float
    """The a of equation (1): kW per eur/kWh."""
    players: NDArray[np.bool_]
    """Who plays.  Shape (n, T)."""
    bid_kw: Floats
    """The b of equation (1); 0 for who does not play.  Shape (n, T)."""
    price_eur_per_kwh: Floats
    """NaN where nobody plays.  Shape (T,)."""
    power_kw: Floats
    """What each brings, sale +.  Shape (n, T)."""
    payment_eur: Floats
    """Paid +, received -.  Shape (n, T)."""
    deviation_gain_eur: Floats
    """What each could save by another bid, the others keeping theirs.  Shape (n,)."""


def default_sensitivity(curves: Curves) -> float:
    """Return a price sensitivity that goes with the data: mean range of power over the range of marginal costs.

    It scales with energy and money as the data do.  Where all marginal costs are equal any number serves.
    """
    width = curves.p_max_kw - curves.p_min_kw
    moves = width > 0.0
    if not moves.any():
        return 1.0
    ends = [curves.a_eur_per_kw2h * p + curves.b_eur_per_kwh for p in (curves.p_min_kw, curves.p_max_kw)]
    spread = float(ends[1][moves].max() - ends[0][moves].min())
    mean = float(width[moves].mean())
    return mean / spread if spread > 0.0 else mean


def play(curves: Curves, *, price_sensitivity_kw2h_per_eur: float | None = None) -> Equilibrium:
    """Find the Nash equilibrium of equation (3), every interval for itself.

    Parameters
    ----------
    curves
        Everybody's cost; zero power must be possible for all.
    price_sensitivity_kw2h_per_eur
        The a of (1); by default :func:`default_sensitivity`.

    Examples
    --------
    Costs p^2/2 + 8p and p^2/2 + 4p, a = 1: the slopes become 1 + 1 = 2, half of the pool's 2 kW is traded.

    >>> curves = Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0])
    >>> found = play(curves, price_sensitivity_kw2h_per_eur=1.0)
    >>> found.power_kw.ravel().tolist(), found.price_eur_per_kwh.tolist(), found.bid_kw.ravel().tolist()
    ([-1.0, 1.0], [6.0], [7.0, 5.0])
    """
    a = default_sensitivity(curves) if price_sensitivity_kw2h_per_eur is None else price_sensitivity_kw2h_per_eur
    if not (np.isfinite(a) and a > 0.0):
        raise GameError(f"price_sensitivity_kw2h_per_eur is {a}; give a number above 0, in kW per eur/kWh.")
    if ((curves.p_min_kw > 0.0) | (curves.p_max_kw < 0.0)).any():
        i, t = np.argwhere((curves.p_min_kw > 0.0) | (curves.p_max_kw < 0.0))[0].tolist()
        raise GameError(
            f"{curves.name(i)} cannot stay out in interval {t}: its power is between {curves.p_min_kw[i, t]:g} and "
            f"{curves.p_max_kw[i, t]:g} kW. Give bounds that hold zero."
        )
    players = curves.p_max_kw > curves.p_min_kw
    count = players.sum(axis=0)
    playing = players & (count >= 2)
    steeper = curves.a_eur_per_kw2h + 1.0 / (a * np.maximum(count - 1, 1))
    pool = clear_pool(
        replace(
            curves,
            a_eur_per_kw2h=steeper,
            p_min_kw=np.where(playing, curves.p_min_kw, 0.0),
            p_max_kw=np.where(playing, curves.p_max_kw, 0.0),
        )
    )
    price = np.where(count >= 2, pool.price_eur_per_kwh, np.nan)
    bid = np.where(playing, a * np.where(count >= 2, price, 0.0) - pool.power_kw, 0.0)
    payment = -curves.dt_h * np.where(count >= 2, price, 0.0) * pool.power_kw
    gain = best_reply_gain_eur(curves, bid, playing, a)
    return Equilibrium(a, playing, bid, price, pool.power_kw, payment, gain)


def best_reply_gain_eur(curves: Curves, bid_kw: Floats, players: NDArray[np.bool_], sensitivity: float) -> Floats:
    """Return what each player could save by his best bid while the others keep theirs, shape (n,). [eur]

    Nothing is used but the bids: prices and quantities follow from (1), the best reply from (2), where the cost of bringing
    p is ``a_i/2 p^2 + b_i p - p (B_i - p) / (a (N - 1))``, a parabola cut at the bounds.
    """
    count = players.sum(axis=0)
    depth = sensitivity * np.maximum(count - 1, 1)
    price = bid_kw.sum(axis=0) / (sensitivity * np.maximum(count, 1))
    power = np.where(players, sensitivity * price - bid_kw, 0.0)
    others = bid_kw.sum(axis=0) - bid_kw
    square = 0.5 * curves.a_eur_per_kw2h + 1.0 / depth
    linear = curves.b_eur_per_kwh - others / depth
    best = np.clip(-linear / (2.0 * square), curves.p_min_kw, curves.p_max_kw)
    saved = (square * power + linear) * power - (square * best + linear) * best
    gain: Floats = curves.dt_h * np.where(players, saved, 0.0).sum(axis=1)
    return gain
