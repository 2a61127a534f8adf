"""The exchange's problem: who wants what, at which prices, inside which limits.

A :class:`Problem` is plain data: ``n`` agents, ``T`` intervals, ``K`` slots for stores of one's own (battery, car, heat
buffer, ...) and ``M`` shared stores (ESS) in which agents rent space.  Each agent minimises

    sum_t dt [buy g+ - sell g- + exchange_charge x- + wear (c + d) + (ess_wear + rented_charge) ... + penalty breach]
    + rents . rights                                                                                            (1)

over its retail exchange ``g`` (import +), its sale to the exchange ``x``, its curtailment and its stores' flows::

    g - x - sum_M (c_v - d_v) = m                                                  the commercial balance       (2)
    m = load - (pv - curtailed) + sum_K (c - d),   -export - breach <= m <= import + breach    the meter        (3)
    e[t] = retention e[t-1] + dt (eta_c c - d / eta_d) - drain,  bounds on c, d, e              every store     (4)
    0 <= e_v <= right_energy,  0 <= c_v, d_v <= available right_power,  e_v[T] = rented_final    rented space   (5)

and the agents are coupled by ``sum x = 0``, by the offers ``sum right_energy <= offer`` and ``sum right_power <= offer``
and by ``ess_net_min <= sum (c_v - d_v) <= ess_net_max``.  In netted operation the offers bound every single right but not
their sum; what is bounded in their place is the box itself, in which opposite flows cancel::

    n = sum (c_v - d_v),   e[t] = retention e[t-1] + dt (eta_c n+ - n- / eta_d),   0 <= e <= (ceiling - floor) E  (6)

for its content above the floor; what leaks from below is the operator's to replace.

Firm and interruptible rights are two shared stores with different ``ess_available``; in netted operation they may lie in one
box (``ess_box``).  docs/mathematics/exchange.md has the whole of it.

Nothing is repaired here: what cannot be meant is refused, all mistakes at once, with the agent and the interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from market.own_stores import StoreColumns
from market.penalty import enough_penalty_eur_per_kwh
from market.problem_checks import (
    FRACTIONS,
    LEFT_OUT,
    MAY_BE_INFINITE,
    SHAPES,
    WITH_DEFAULT,
    least_penalty,
    mistakes_of,
    take_arrays,
)

__all__ = ["Exchange", "Problem", "ProblemError"]

Floats = NDArray[np.float64]
Exchange = Literal["free", "pinned", "zero"]

_USUAL = 2.0  # penalty per kWh, where it is enough


class ProblemError(ValueError):
    """The exchange's problem cannot be meant; the message names every place."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem(StoreColumns):
    """One clearing: ``n`` agents, ``T`` intervals, ``K`` own stores per agent, ``M`` shared stores.

    The columns of the own stores are those of :class:`~market.own_stores.StoreColumns`.

    Meter sign: import positive.  All prices are per kWh of the currency that the scenario speaks.
    """

    dt_h: float
    """Length of an interval. [h]"""
    load_kw: Floats
    """What is consumed and cannot be moved.  Shape (n, T). [kW]"""
    pv_kw: Floats
    """What could be generated; any part of it may be curtailed.  Shape (n, T). [kW]"""
    buy_eur_per_kwh: Floats
    """Retail purchase price.  Shape (n, T)."""
    sell_eur_per_kwh: Floats
    """Retail feed-in price, never above the purchase price.  Shape (n, T)."""
    exchange_charge_eur_per_kwh: Floats
    """Paid by the buyer per kWh bought from the exchange.  Shape (n, T)."""
    rented_charge_eur_per_kwh: Floats
    """Paid per kWh withdrawn (discharged) from a shared store.  Shape (n, T)."""
    import_limit_kw: Floats
    """Envelope of the meter, import side; infinite where there is none.  Shape (n, T). [kW]"""
    export_limit_kw: Floats
    """Envelope of the meter, export side; infinite where there is none.  Shape (n, T). [kW]"""
    access: NDArray[np.bool_]
    """Who may rent space in which shared store.  Shape (M, n)."""
    ess_energy_offer_kwh: Floats
    """Shape (M,). [kWh]"""
    ess_power_offer_kw: Floats
    """Shape (M,). [kW]"""
    ess_efficiency_charge: Floats
    """In (0, 1].  Shape (M,)."""
    ess_efficiency_discharge: Floats
    """In (0, 1].  Shape (M,)."""
    ess_retention: Floats
    """Share of the content that is left after one interval, in (0, 1].  Shape (M,)."""
    ess_wear_eur_per_kwh: Floats
    """Throughput fee, each way.  Shape (M,)."""
    rent_energy_eur_per_kwh: Floats
    """Reserve rent of one kWh of space for the whole horizon.  Shape (M, n)."""
    rent_power_eur_per_kw: Floats
    """Reserve rent of one kW of power for the whole horizon.  Shape (M, n)."""
    ess_net_min_kw: Floats
    """Least sum over the agents of (charge - discharge): a firm charge.  Shape (M, T). [kW]"""
    ess_net_max_kw: Floats
    """Largest sum over the agents of (charge - discharge).  Shape (M, T). [kW]"""
    rented_initial_kwh: Floats
    """Content of the rented spaces at the start.  Shape (M, n). [kWh]"""
    rented_final_kwh: Floats
    """Content of the rented spaces at the end.  Shape (M, n). [kWh]"""
    right_energy_kwh: Floats | None = None
    """None: rights are cleared.  Given, shape (M, n): they are fixed, the rent is sunk and still counted. [kWh]"""
    right_power_kw: Floats | None = None
    """Goes with ``right_energy_kwh``.  Shape (M, n). [kW]"""
    ess_available: Floats = field(default_factory=lambda: np.array(1.0))
    """Share of the right's power that may be used in an interval, 0 to 1: what distinguishes an interruptible right from a
    firm one.  Shape (M, T)."""
    ess_netted: NDArray[np.bool_] = field(default_factory=lambda: np.array(False))
    """Whether the store is operated netted: offers bound single rights, and the box bounds the sum of the flows.  Shape
    (M,)."""
    ess_box: NDArray[np.int64] = field(default_factory=lambda: np.array(-1))
    """Which shared store's row describes the box in which this one lies: its own (-1 says that too), or another netted one's,
    which then also has the efficiencies, the retention and the net's bounds of the box.  Shape (M,)."""
    ess_floor: Floats = field(default_factory=lambda: np.array(0.0))
    """Least content of a netted box, as a share of its energy offer; the operator sees to it.  Shape (M,)."""
    ess_ceiling: Floats = field(default_factory=lambda: np.array(1.0))
    """Largest content of a netted box, as a share of its energy offer.  Shape (M,)."""
    ess_initial_kwh: Floats | None = None
    """Content of the box at the start; without it the floor and what the tenants have in it.  Shape (M,). [kWh]"""
    exchange: Exchange = "free"
    """free: agents trade; pinned: they keep ``pinned_exchange_kw``; zero: they do not trade."""
    pinned_exchange_kw: Floats | None = None
    """What was sold already (sale +), sums to zero in every interval.  Shape (n, T). [kW]"""
    breach_penalty_eur_per_kwh: float = cast("float", None)
    """Price of leaving the envelope, which the uncontrollable load alone may force.  None, of which the problem makes a number:
    2, or more where prices are so high that it could pay to leave (:mod:`market.penalty`).  What is given must be enough."""
    curvature_eur_per_kw2h: float = 1e-6
    """A term curvature/2 dt (x^2 + c^2 + d^2) that decides ties: of plans that cost the same, the evenest.  It is in no
    reported cost, and at 10 kW it moves a price by a thousandth of a cent per kWh.  A tie is decided slowly, so tolerances
    below curvature over penalty, about 1e-5 here, take thousands of iterations.  It is meant for powers up to 100 kW; where
    somebody moves more, ``tie_eur_per_kw2h`` is that much less."""
    agent_ids: tuple[str, ...] | None = None
    """Names for messages; without them agents are called by their row."""

    @property
    def n(self) -> int:
        """Number of agents."""
        return int(self.load_kw.shape[0])

    @property
    def steps(self) -> int:
        """Number of intervals T."""
        return int(self.load_kw.shape[1])

    @property
    def shared(self) -> int:
        """Number of shared stores M."""
        return int(self.access.shape[0])

    @property
    def rights_fixed(self) -> bool:
        """Whether rights are given rather than cleared."""
        return self.right_energy_kwh is not None

    @property
    def tie_eur_per_kw2h(self) -> float:
        """Return the curvature as it is used: so small that it moves no price where megawatts are moved."""
        columns = (self.load_kw, self.pv_kw, self.store_charge_max_kw, self.store_discharge_max_kw)
        largest = max(float(np.abs(column).max(initial=0.0)) for column in columns)
        return self.curvature_eur_per_kw2h * min(1.0, 100.0 / max(largest, 1.0))

    def name(self, agent: int) -> str:
        """Return what a message calls an agent."""
        return f"agent {self.agent_ids[agent]!r}" if self.agent_ids else f"agent {agent}"

    def __post_init__(self) -> None:
        """Turn the columns into arrays and refuse what cannot be meant."""
        mistakes = take_arrays(self)
        if not mistakes:
            given: object = self.breach_penalty_eur_per_kwh
            if given is None:
                object.__setattr__(
                    self, "breach_penalty_eur_per_kwh", enough_penalty_eur_per_kwh(least_penalty(self), _USUAL)
                )
            mistakes = mistakes_of(self)
        if mistakes:
            shown = mistakes[:20] + [f"and {len(mistakes) - 20} more"] * (len(mistakes) > 20)
            raise ProblemError(f"the exchange's problem has {len(mistakes)} mistake(s):\n  " + "\n  ".join(shown))

    @classmethod
    def plain(
        cls,
        load_kw: ArrayLike,
        pv_kw: ArrayLike,
        buy_eur_per_kwh: ArrayLike,
        sell_eur_per_kwh: ArrayLike,
        *,
        dt_h: float,
        stores: int = 0,
        shared: int = 0,
        **more: Any,
    ) -> Problem:
        """Return a problem in which everything not named in ``more`` is absent, free of charge and without limit.

        Prices may be anything that broadcasts to (n, T).  Stores are lossless and of no size, shared stores are lossless,
        open to everybody, of no size and free of rent, until ``more`` says otherwise.

        Examples
        --------
        Two homes, one with two kilowatts too many and one with two too few, for an hour:

        >>> case = Problem.plain([[0.0], [2.0]], [[2.0], [0.0]], 0.30, 0.08, dt_h=1.0)
        >>> case.n, case.steps, case.stores, case.shared
        (2, 1, 0, 0)
        """
        load = np.array(load_kw, dtype=np.float64, ndmin=2)
        size = {"n": load.shape[0], "T": load.shape[1], "K": stores, "M": shared}

        def full(name: str, value: ArrayLike) -> Any:
            shape = tuple(size[axis] for axis in SHAPES[name])
            return np.array(np.broadcast_to(np.asarray(value), shape))

        given: dict[str, Any] = {
            "load_kw": load, "pv_kw": pv_kw, "buy_eur_per_kwh": buy_eur_per_kwh, "sell_eur_per_kwh": sell_eur_per_kwh
        }  # fmt: skip
        given.update(more)
        ones = set(FRACTIONS) | {"access"}
        default = dict.fromkeys(MAY_BE_INFINITE, np.inf) | {"ess_net_min_kw": -np.inf} | dict.fromkeys(ones, 1.0)
        optional = LEFT_OUT | WITH_DEFAULT
        columns = {name: full(name, given.pop(name, default.get(name, 0.0))) for name in SHAPES if name not in optional}
        columns |= {name: full(name, given.pop(name)) for name in SHAPES if given.get(name) is not None}
        return cls(dt_h=dt_h, **columns, **given)

    def dropped(
        self,
        steps: int,
        store_initial_kwh: Floats,
        rented_initial_kwh: Floats,
        ess_initial_kwh: Floats | None = None,
    ) -> Problem:
        """Return the problem of the rest of the horizon, without its first ``steps`` intervals.

        The contents that have been reached by then are the new beginning; everything else stays as it is.  A netted box whose
        content is not given holds its floor and what its tenants have.
        """
        if not 0 <= steps < self.steps:
            raise ProblemError(f"{steps} of {self.steps} intervals were to be dropped; at least one must be left.")
        rest: dict[str, Any] = {
            f.name: getattr(self, f.name)[..., steps:]
            for f in fields(self)
            if "T" in SHAPES.get(f.name, "") and getattr(self, f.name) is not None
        }
        return replace(
            self, **rest, store_initial_kwh=store_initial_kwh, rented_initial_kwh=rented_initial_kwh,
            ess_initial_kwh=ess_initial_kwh,
        )  # fmt: skip

    @property
    def leads(self) -> NDArray[np.bool_]:
        """Which shared stores' rows describe a box of their own.  Shape (M,)."""
        own: NDArray[np.bool_] = self.ess_box == np.arange(self.shared)
        return own

    def in_boxes(self, per_store: Floats) -> Floats:
        """Return the sums over the stores that lie in one box, in the row that describes it.  Shape (M, ...)."""
        total = np.zeros_like(per_store)
        np.add.at(total, self.ess_box, per_store)
        return total

    def box_initial_kwh(self) -> Floats:
        """Return the content of every box above its floor at the start, 0 in rows that describe none.  Shape (M,)."""
        if self.ess_initial_kwh is not None:
            return np.where(self.leads, self.ess_initial_kwh - self.box_floor_kwh(), 0.0)
        return np.where(self.leads, self.in_boxes(self.rented_initial_kwh.sum(axis=1)), 0.0)

    def box_floor_kwh(self) -> Floats:
        """Return the content below which no netted box goes, 0 in other rows.  Shape (M,)."""
        return np.where(self.ess_netted & self.leads, self.ess_floor * self.ess_energy_offer_kwh, 0.0)

    def box_bounds(self) -> Floats:
        """Return what bounds the box of every netted store, 0 for the others.  Shape (6, M, T).

        Least and largest charge, least and largest discharge [kW], least and largest content above the floor at the end of an
        interval [kWh].
        The net's bounds are in those of the flows: where it must charge it cannot discharge.
        """
        own = self.ess_netted & self.leads
        power = self.ess_power_offer_kw[:, None]
        least, most = np.maximum(self.ess_net_min_kw, -power), np.minimum(self.ess_net_max_kw, power)
        above = (self.ess_ceiling - self.ess_floor) * self.ess_energy_offer_kwh
        content = np.stack([np.zeros_like(above), above])[:, :, None]
        flows = [np.maximum(least, 0.0), np.maximum(most, 0.0), np.maximum(-most, 0.0), np.maximum(-least, 0.0)]
        contents = [np.broadcast_to(c, least.shape) for c in content]
        return np.where(own[:, None], np.stack([*flows, *contents]), 0.0)
