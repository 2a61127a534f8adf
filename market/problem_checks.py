"""What the columns of the exchange's problem are, and what is refused in them.

Every check returns sentences, with the agent and the interval; :class:`market.problem.Problem` tells them all at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from market.penalty import least_penalty_eur_per_kwh

__all__ = [
    "FRACTIONS",
    "LEFT_OUT",
    "MAY_BE_INFINITE",
    "SHAPES",
    "WITH_DEFAULT",
    "least_penalty",
    "mistakes_of",
    "take_arrays",
]

Problem = Any  # market.problem.Problem, which imports this file

SHAPES = {
    "load_kw": "nT", "pv_kw": "nT", "buy_eur_per_kwh": "nT", "sell_eur_per_kwh": "nT",
    "exchange_charge_eur_per_kwh": "nT", "rented_charge_eur_per_kwh": "nT",
    "import_limit_kw": "nT", "export_limit_kw": "nT",
    "store_charge_max_kw": "KnT", "store_discharge_max_kw": "KnT",
    "store_energy_min_kwh": "KnT", "store_energy_max_kwh": "KnT", "store_drain_kwh": "KnT",
    "store_initial_kwh": "Kn", "store_efficiency_charge": "Kn", "store_efficiency_discharge": "Kn",
    "store_retention": "Kn", "store_wear_eur_per_kwh": "Kn",
    "access": "Mn", "ess_energy_offer_kwh": "M", "ess_power_offer_kw": "M",
    "ess_efficiency_charge": "M", "ess_efficiency_discharge": "M", "ess_retention": "M", "ess_wear_eur_per_kwh": "M",
    "rent_energy_eur_per_kwh": "Mn", "rent_power_eur_per_kw": "Mn",
    "ess_net_min_kw": "MT", "ess_net_max_kw": "MT", "rented_initial_kwh": "Mn", "rented_final_kwh": "Mn",
    "right_energy_kwh": "Mn", "right_power_kw": "Mn", "pinned_exchange_kw": "nT",
    "ess_available": "MT", "ess_netted": "M", "ess_box": "M", "ess_floor": "M", "ess_ceiling": "M",
    "ess_initial_kwh": "M",
}  # fmt: skip
KINDS: dict[str, Any] = {"access": np.bool_, "ess_netted": np.bool_, "ess_box": np.int64}
LEFT_OUT = {"right_energy_kwh", "right_power_kw", "pinned_exchange_kw", "ess_initial_kwh"}  # None if not given
WITH_DEFAULT = {"ess_available", "ess_netted", "ess_box", "ess_floor", "ess_ceiling"}
MAY_BE_INFINITE = {"import_limit_kw", "export_limit_kw", "ess_net_min_kw", "ess_net_max_kw"}
_NOT_NEGATIVE = (
    "pv_kw", "exchange_charge_eur_per_kwh", "rented_charge_eur_per_kwh", "import_limit_kw", "export_limit_kw",
    "store_charge_max_kw", "store_discharge_max_kw", "store_wear_eur_per_kwh", "ess_energy_offer_kwh",
    "ess_power_offer_kw", "ess_wear_eur_per_kwh", "rent_energy_eur_per_kwh", "rent_power_eur_per_kw",
    "rented_initial_kwh", "rented_final_kwh", "right_energy_kwh", "right_power_kw", "ess_initial_kwh",
)  # fmt: skip
_SHARES = ("ess_available", "ess_floor", "ess_ceiling")
FRACTIONS = (
    "store_efficiency_charge", "store_efficiency_discharge", "store_retention",
    "ess_efficiency_charge", "ess_efficiency_discharge", "ess_retention",
)  # fmt: skip
_OF_PENALTY = (
    "buy_eur_per_kwh", "sell_eur_per_kwh", "import_limit_kw", "export_limit_kw", "store_charge_max_kw",
    "store_discharge_max_kw", "store_efficiency_charge", "store_efficiency_discharge", "store_retention",
    "store_wear_eur_per_kwh",
)  # fmt: skip
_TOLERANCE = 1e-6  # kW, kWh: a sum that is off by less is rounding


def mistakes_of(problem: Problem) -> list[str]:
    """Return a sentence for everything that cannot be meant, in columns that fit together."""
    checks = (_check_numbers, _check_scalars, _check_values, _check_prices, _check_shared, _check_boxes)
    mistakes = [sentence for check in checks for sentence in check(problem)]
    return mistakes or _check_penalty(problem)


def least_penalty(p: Problem) -> float:
    """Return what leaving an envelope has to cost at least so that it never pays (:mod:`market.penalty`)."""
    return least_penalty_eur_per_kwh(**{name: getattr(p, name) for name in _OF_PENALTY})


def take_arrays(problem: Problem) -> list[str]:
    """Make float64 columns of everything; tell shapes that disagree."""
    load, charge, access = (np.asarray(getattr(problem, f)) for f in ("load_kw", "store_charge_max_kw", "access"))
    if load.ndim != 2 or charge.ndim != 3 or access.ndim != 2:
        shapes = f"{load.shape}, {charge.shape} and {access.shape}"
        return [f"load_kw, store_charge_max_kw and access have the shapes {shapes}; give (n, T), (K, n, T) and (M, n)."]
    if load.shape[1] == 0:
        return [f"there is no interval to clear: load_kw has the shape {load.shape}; give at least one."]
    size = {"n": load.shape[0], "T": load.shape[1], "K": charge.shape[0], "M": access.shape[0]}
    mistakes = []
    for name, axes in SHAPES.items():
        value = getattr(problem, name)
        if value is None:
            continue
        array = np.ascontiguousarray(value, dtype=KINDS.get(name, np.float64))
        shape = tuple(size[axis] for axis in axes)
        if name in WITH_DEFAULT and np.ndim(value) == 0:
            array = np.full(shape, array[0])
        if array.shape != shape:
            mistakes.append(f"{name} has the shape {array.shape}; {shape} = ({', '.join(axes)}) was expected.")
            continue
        if name == "ess_box":
            array = np.where(array == -1, np.arange(size["M"]), array)
        object.__setattr__(problem, name, array)
    return mistakes


def _check_numbers(p: Problem) -> list[str]:
    """NaN nowhere, infinity only where there is no limit."""
    mistakes = []
    for name, axes in SHAPES.items():
        array = getattr(p, name)
        if array is None or name in KINDS:
            continue
        wrong = np.isnan(array) if name in MAY_BE_INFINITE else ~np.isfinite(array)
        mistakes += [f"{name} is {array[w]} for {_place(p, axes, w)}; give a number." for w in _first(wrong)]
    return mistakes


def _check_scalars(p: Problem) -> list[str]:
    """Interval length, penalty, curvature, mode, names."""
    mistakes = []
    if not (np.isfinite(p.dt_h) and p.dt_h > 0):
        mistakes.append(f"dt_h is {p.dt_h}; give the length of an interval in hours, above 0.")
    if not (np.isfinite(p.breach_penalty_eur_per_kwh) and p.breach_penalty_eur_per_kwh > 0):
        mistakes.append(f"breach_penalty_eur_per_kwh is {p.breach_penalty_eur_per_kwh}; give a price above 0.")
    if not (np.isfinite(p.curvature_eur_per_kw2h) and p.curvature_eur_per_kw2h >= 0):
        mistakes.append(f"curvature_eur_per_kw2h is {p.curvature_eur_per_kw2h}; give a small number, 0 or more.")
    if p.exchange not in ("free", "pinned", "zero"):
        mistakes.append(f"exchange is {p.exchange!r}; give 'free', 'pinned' or 'zero'.")
    if p.exchange == "pinned" and p.pinned_exchange_kw is None:
        mistakes.append("exchange is 'pinned' but pinned_exchange_kw is not given; give what was sold, shape (n, T).")
    if (p.right_energy_kwh is None) != (p.right_power_kw is None):
        mistakes.append("right_energy_kwh and right_power_kw go together: give both (fixed rights) or neither.")
    if p.agent_ids is not None and (len(p.agent_ids) != p.n or len(set(p.agent_ids)) != p.n):
        mistakes.append(f"agent_ids has {len(set(p.agent_ids))} different names for {p.n} agents; give one each.")
    return mistakes


def _check_penalty(p: Problem) -> list[str]:
    """Whether leaving the envelope never pays."""
    least, given = least_penalty(p), p.breach_penalty_eur_per_kwh
    if given >= least * (1.0 - 1e-9):
        return []
    sentence = (
        f"breach_penalty_eur_per_kwh is {given:g}, but at these prices, wear and losses a kWh outside an envelope can be worth "
        f"{least:.4g}: leaving it on purpose would pay. Give that or more, or leave it out."
    )
    return [sentence]


def _check_values(p: Problem) -> list[str]:
    """Signs, fractions, order of bounds."""
    mistakes = []
    for name in _NOT_NEGATIVE:
        array = getattr(p, name)
        if array is not None:
            mistakes += [f"{name} is {array[w]:g} for {_place(p, SHAPES[name], w)}; it must not be negative."
                         for w in _first(array < 0)]  # fmt: skip
    for name in FRACTIONS:
        array = getattr(p, name)
        mistakes += [f"{name} is {array[w]:g} for {_place(p, SHAPES[name], w)}; give a share above 0 and up to 1."
                     for w in _first((array <= 0) | (array > 1))]  # fmt: skip
    for name in _SHARES:
        array = getattr(p, name)
        mistakes += [f"{name} is {array[w]:g} for {_place(p, SHAPES[name], w)}; give a share from 0 to 1."
                     for w in _first((array < 0) | (array > 1))]  # fmt: skip
    lower, upper = p.store_energy_min_kwh, p.store_energy_max_kwh
    mistakes += [f"store_energy_min_kwh is {lower[w]:g} and above store_energy_max_kwh, {upper[w]:g}, "
                 f"for {_place(p, 'KnT', w)}." for w in _first(lower > upper)]  # fmt: skip
    lower, upper = p.ess_net_min_kw, p.ess_net_max_kw
    mistakes += [f"ess_net_min_kw is {lower[w]:g} and above ess_net_max_kw, {upper[w]:g}, for {_place(p, 'MT', w)}."
                 for w in _first((lower > upper) | (lower == np.inf) | (upper == -np.inf))]  # fmt: skip
    if p.exchange == "pinned" and p.pinned_exchange_kw is not None and p.n:
        total = p.pinned_exchange_kw.sum(axis=0)
        mistakes += [f"pinned_exchange_kw sums to {total[w]:g} kW in interval {w[0]}; what is sold must be bought."
                     for w in _first(np.abs(total) > _TOLERANCE)]  # fmt: skip
    return mistakes


def _check_prices(p: Problem) -> list[str]:
    """No money without limit: neither by one agent nor by two who trade."""
    buy, sell = p.buy_eur_per_kwh, p.sell_eur_per_kwh
    mistakes = [f"sell_eur_per_kwh, {sell[w]:g}, is above buy_eur_per_kwh, {buy[w]:g}, for {_place(p, 'nT', w)}: buying and "
                "selling at once would earn without limit." for w in _first(sell > buy)]  # fmt: skip
    if p.exchange == "free" and p.n > 1 and not mistakes:
        resale = sell - p.exchange_charge_eur_per_kwh
        best, cheapest = resale.argmax(axis=0), buy.argmin(axis=0)
        t = np.arange(p.steps)
        for (w,) in _first(resale[best, t] > buy[cheapest, t] + 1e-12):
            mistakes.append(
                f"in interval {w} {p.name(int(cheapest[w]))} buys at {buy[cheapest[w], w]:g} and {p.name(int(best[w]))} feeds "
                f"in at {sell[best[w], w]:g}, more than that and its exchange charge, "
                f"{p.exchange_charge_eur_per_kwh[best[w], w]:g}, together: passing energy on would earn without limit."
            )
    return mistakes


def _check_shared(p: Problem) -> list[str]:
    """Rights inside the offers, contents inside the rights."""
    mistakes = []
    shut = ~p.access
    for name in ("right_energy_kwh", "right_power_kw", "rented_initial_kwh", "rented_final_kwh"):
        array = getattr(p, name)
        if array is not None:
            mistakes += [f"{name} is {array[w]:g} for {_place(p, 'Mn', w)}, who has no access to it."
                         for w in _first(shut & (array > 0))]  # fmt: skip
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        for name, right, offer in (
            ("right_energy_kwh", p.right_energy_kwh, p.ess_energy_offer_kwh),
            ("right_power_kw", p.right_power_kw, p.ess_power_offer_kw),
        ):
            total = np.where(p.ess_netted, right.max(axis=1, initial=0.0), right.sum(axis=1))
            mistakes += [f"{name} {'is' if p.ess_netted[w] else 'sums to'} {total[w]:g} in shared store {w[0]}, more than the "
                         f"{offer[w]:g} that are offered." for w in _first(total > offer + _TOLERANCE)]  # fmt: skip
        for name in ("rented_initial_kwh", "rented_final_kwh"):
            array = getattr(p, name)
            mistakes += [f"{name} is {array[w]:g} and above the right to {p.right_energy_kwh[w]:g} kWh for "
                         f"{_place(p, 'Mn', w)}." for w in _first(array > p.right_energy_kwh + _TOLERANCE)]  # fmt: skip
    return mistakes


def _check_boxes(p: Problem) -> list[str]:
    """Which box a shared store lies in, and what the box holds."""
    box, rows = p.ess_box, np.arange(p.shared)
    if ((box < 0) | (box >= p.shared)).any():
        return [f"ess_box is {box[w]} for shared store {w[0]}; give a row from 0 to {p.shared - 1}, or -1 for its own."
                for w in _first((box < 0) | (box >= p.shared))]  # fmt: skip
    mistakes = [f"ess_box is {box[w]} for shared store {w[0]}, but only netted stores can lie in another netted store's box."
                for w in _first((box != rows) & ~(p.ess_netted & p.ess_netted[box] & (box[box] == box)))]  # fmt: skip
    limited = (np.isfinite(p.ess_net_min_kw) | np.isfinite(p.ess_net_max_kw)).any(axis=1)
    mistakes += [f"ess_net_min_kw or ess_net_max_kw is given for shared store {w[0]}, which lies in the box of {box[w]}: give "
                 "the box's there." for w in _first(limited & (box != rows))]  # fmt: skip
    floor, ceiling = p.ess_floor, p.ess_ceiling
    mistakes += [f"ess_floor is {floor[w]:g} and above ess_ceiling, {ceiling[w]:g}, for shared store {w[0]}."
                 for w in _first(floor > ceiling)]  # fmt: skip
    return mistakes


def _first(wrong: NDArray[np.bool_], most: int = 3) -> list[tuple[int, ...]]:
    """Return the places of the first few that are wrong."""
    return [tuple(int(i) for i in where) for where in np.argwhere(wrong)[:most]]


def _place(p: Problem, axes: str, where: tuple[int, ...]) -> str:
    """Say in words where an entry stands."""
    words = {"K": "store {}", "M": "shared store {}", "T": "interval {}"}
    named = {a: (p.name(i) if a == "n" else words[a].format(i)) for a, i in zip(axes, where, strict=True)}
    return ", ".join(named[a] for a in "nKMT" if a in named)
