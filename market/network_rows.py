"""What a grid asks of a market, as arrays: limits of what everybody draws together, and losses.

Places are the meters of the ``n`` agents and then the meters of the ``M`` shared stores; x is what they draw (import
positive, as everywhere in the market), N = n + M of them.  The grid says ::

    A x <= b                                     one row for each way in which an element can break its limit      (1)
    L(x) = |F x|² + g x + const                  losses, a convex quadratic function, at a price for a kWh         (2)

A and F are the same in all intervals, b, g, the constant and the price are not: whoever knows the grid moves them until they
are true where the market ends up (:mod:`agents.network_prices` does so with the AC power flow).  Nothing in here knows what a row stands for;
its element and kind are words for reports.

Limits: what a store of another kind than rented space would do to the grid is in its agent's meter.  A netted shared store is
refused by :func:`market.network_prices.clear`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from market.problem import Problem, ProblemError

__all__ = ["Network", "draws_of", "reach_of"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Rows (1) and losses (2) of N places in T intervals."""

    a_per_kw: Floats
    """A: what one kW more drawn at a place does to a row.  Shape (k, N). [unit of the row/kW]"""
    b: Floats
    """Shape (k, T). [unit of the row]"""
    element: tuple[str, ...]
    """What each row protects, such as the id of a line."""
    kind: tuple[str, ...]
    """How it would break, such as ``overload``."""
    loss_factor: Floats
    """F.  Shape (r, N); no rows: no quadratic part. [kW^½/kW]"""
    loss_slope: Floats
    """g.  Shape (N, T). [kW/kW]"""
    loss_constant_kw: Floats
    """Shape (T,)."""
    loss_eur_per_kwh: Floats
    """What a kWh of losses costs, never negative.  Shape (T,)."""

    def __post_init__(self) -> None:
        """Refuse what does not fit together."""
        (rows, places), steps = self.a_per_kw.shape, self.loss_constant_kw.shape[-1]
        wanted = {
            "b": (rows, steps), "loss_factor": (len(self.loss_factor), places), "loss_slope": (places, steps),
            "loss_constant_kw": (steps,), "loss_eur_per_kwh": (steps,),
        }  # fmt: skip
        wrong = [
            f"{name} has the shape {getattr(self, name).shape}; {shape} was expected."
            for name, shape in wanted.items()
            if getattr(self, name).shape != shape
        ]
        wrong += [
            f"{name} has entries that are no numbers; leave rows without a limit out."
            for name in ("a_per_kw", *wanted)
            if not np.isfinite(getattr(self, name)).all()
        ]
        if len(self.element) != rows or len(self.kind) != rows:
            wrong.append(
                f"there are {len(self.element)} elements and {len(self.kind)} kinds for {rows} rows; name each row."
            )
        if not wrong and (self.loss_eur_per_kwh < 0.0).any():
            wrong.append(f"losses cost {self.loss_eur_per_kwh.min():g} per kWh somewhere; give 0 or more.")
        if wrong:
            raise ProblemError(f"the network has {len(wrong)} mistake(s):\n  " + "\n  ".join(wrong))

    @classmethod
    def plain(
        cls, a_per_kw: Floats, b: Floats, element: tuple[str, ...] | None = None, kind: tuple[str, ...] | None = None
    ) -> Network:
        """Return rows alone, without losses; ``b`` may be anything that broadcasts to (k, T)."""
        a = np.array(a_per_kw, dtype=np.float64, ndmin=2)
        b = np.array(b, dtype=np.float64, ndmin=2)
        steps = b.shape[1]
        names = element or tuple(f"row {k}" for k in range(len(a)))
        return cls(a, b, names, kind or ("limit",) * len(a), np.zeros((0, a.shape[1])), np.zeros((a.shape[1], steps)),
                   np.zeros(steps), np.zeros(steps))  # fmt: skip

    @property
    def places(self) -> int:
        """Number of meters N, of agents and of shared stores."""
        return int(self.a_per_kw.shape[1])

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return int(self.b.shape[1])

    def fits(self, p: Problem) -> list[str]:
        """Return in words why this is not the network of a problem."""
        here, wanted = (self.places, self.steps), (p.n + p.shared, p.steps)
        if here == wanted:
            return []
        places = f"{here[0]} places and {here[1]} intervals"
        return [f"the network has {places}; the problem has {wanted[0]} (agents, then shared stores) and {wanted[1]}."]

    def dropped(self, steps: int) -> Network:
        """Return the network of the rest of the horizon."""
        return replace(
            self, b=self.b[:, steps:], loss_slope=self.loss_slope[:, steps:],
            loss_constant_kw=self.loss_constant_kw[steps:], loss_eur_per_kwh=self.loss_eur_per_kwh[steps:],
        )  # fmt: skip

    def excess(self, x: Floats) -> Floats:
        """Return A x − b, above 0 where a limit is broken.  Shape (k, T)."""
        return np.asarray(self.a_per_kw @ x - self.b)

    def loss_kw(self, x: Floats) -> Floats:
        """Return the losses (2).  Shape (T,)."""
        quadratic = ((self.loss_factor @ x) ** 2).sum(axis=0)
        return np.asarray(quadratic + (self.loss_slope * x).sum(axis=0) + self.loss_constant_kw)

    def marginal_loss(self, x: Floats) -> Floats:
        """Return what a kW more drawn at each place adds to the losses.  Shape (N, T). [kW/kW]"""
        return np.asarray(2.0 * self.loss_factor.T @ (self.loss_factor @ x) + self.loss_slope)


def draws_of(meter_kw: Floats, rented_charge_kw: Floats, rented_discharge_kw: Floats) -> Floats:
    """Return what all places draw: the agents' meters, then the nets of the shared stores.  Shape (N, T). [kW]"""
    return np.concatenate([meter_kw, (rented_charge_kw - rented_discharge_kw).sum(axis=1)])


def reach_of(p: Problem) -> tuple[Floats, Floats]:
    """Return the least and the most that every place can draw in an interval by itself, whatever was before.  Shapes (N, T)."""
    base = p.load_kw - p.pv_kw
    low = np.maximum(base - p.store_discharge_max_kw.sum(axis=0), -p.export_limit_kw)
    high = np.minimum(p.load_kw + p.store_charge_max_kw.sum(axis=0), p.import_limit_kw)
    power = p.ess_power_offer_kw if p.right_power_kw is None else p.right_power_kw.sum(axis=1)
    least, most = (np.clip(net, -power[:, None], power[:, None]) for net in (p.ess_net_min_kw, p.ess_net_max_kw))
    return np.concatenate([low, least]), np.concatenate([high, most])
