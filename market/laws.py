"""What every cleared plan must satisfy, checked from its columns alone.

The check shares no code with the iteration or the repair: it evaluates the equations of :mod:`market.problem` and names the
first place where one does not hold.  Tests break plans on purpose to see that it notices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from market.problem import Problem

if TYPE_CHECKING:
    from market.exchange import Clearing

__all__ = ["broken_laws"]

Floats = NDArray[np.float64]


def broken_laws(problem: Problem, clearing: Clearing, tolerance: float = 1e-9) -> list[str]:
    """Return a sentence for every law that the plan breaks by more than the tolerance (kW, kWh, eur; relative above 1)."""
    p, c = problem, clearing
    net = c.rented_charge_kw - c.rented_discharge_kw
    own = (c.charge_kw - c.discharge_kw).sum(axis=0)
    off = {
        "grid - exchange - rented = meter": c.grid_kw - c.exchange_kw - net.sum(axis=0) - c.meter_kw,
        "meter = load - (pv - curtailed) + own stores": c.meter_kw - p.load_kw + p.pv_kw - c.curtailed_kw - own,
        "0 <= curtailed": np.minimum(c.curtailed_kw, 0.0),
        "curtailed <= pv": np.maximum(c.curtailed_kw - p.pv_kw, 0.0),
        "meter <= import limit + breach": np.maximum(c.meter_kw - p.import_limit_kw - c.breach_kw, 0.0),
        "-export limit - breach <= meter": np.maximum(-p.export_limit_kw - c.breach_kw - c.meter_kw, 0.0),
        "0 <= breach": np.minimum(c.breach_kw, 0.0),
        "breach is what it must be": c.breach_kw
        - np.maximum(np.maximum(c.meter_kw - p.import_limit_kw, -p.export_limit_kw - c.meter_kw), 0.0),
    }
    off |= _stores(p, c)
    off |= _spaces(p, c, net)
    if p.exchange == "free":
        off["the exchange sums to zero"] = c.exchange_kw.sum(axis=0)
    elif p.pinned_exchange_kw is not None and p.exchange == "pinned":
        off["the exchange is as pinned"] = c.exchange_kw - p.pinned_exchange_kw
    else:
        off["nobody trades"] = c.exchange_kw
    off["cost_eur is the plan's cost"] = np.array([c.cost_eur - _cost(p, c)]) / max(1.0, abs(c.cost_eur))
    off["payments are the owners' income"] = np.array([c.payment_eur.sum() - c.owner_income_eur.sum()])
    off["agents' costs sum to cost_eur"] = np.array([c.agent_cost_eur.sum() - c.cost_eur]) / max(1.0, abs(c.cost_eur))
    off["bound_eur is below cost_eur"] = np.array([max(c.bound_eur - c.cost_eur, 0.0)])
    broken = []
    for law, amount in off.items():
        wrong = ~(np.abs(amount) <= tolerance)  # what is not a number is wrong
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            broken.append(f"{law}: off by {amount[place]:.3g} at {place}, {int(wrong.sum())} place(s) in all")
    return broken


def _chain_off(
    p: Problem, energy: Floats, charge: Floats, discharge: Floats, constants: Floats, drain: Floats
) -> Floats:
    """Return by how much contents (.., T + 1) leave their equation."""
    into, out, kept = constants[..., None]
    gain = p.dt_h * (into * charge - discharge / out)
    rest: Floats = energy[..., 1:] - kept * energy[..., :-1] - gain + drain
    return rest


def _stores(p: Problem, c: Clearing) -> dict[str, Floats]:
    constants = np.stack([p.store_efficiency_charge, p.store_efficiency_discharge, p.store_retention])
    return {
        "own contents follow their flows": _chain_off(
            p, c.energy_kwh, c.charge_kw, c.discharge_kw, constants, p.store_drain_kwh
        ),
        "own contents begin where they are": c.energy_kwh[..., 0] - p.store_initial_kwh,
        "own contents in bounds": _outside(c.energy_kwh[..., 1:], p.store_energy_min_kwh, p.store_energy_max_kwh),
        "own charge in bounds": _outside(c.charge_kw, 0.0, p.store_charge_max_kw),
        "own discharge in bounds": _outside(c.discharge_kw, 0.0, p.store_discharge_max_kw),
        "no own store charges and discharges at once": np.minimum(c.charge_kw, c.discharge_kw),
    }


def _spaces(p: Problem, c: Clearing, net: Floats) -> dict[str, Floats]:
    shared = np.stack([p.ess_efficiency_charge, p.ess_efficiency_discharge, p.ess_retention])
    constants = np.repeat(shared[:, :, None], p.n, axis=2)
    energy, power = c.right_energy_kwh[..., None], c.right_power_kw[..., None] * p.ess_available[:, None, :]
    lead, box = p.ess_box == np.arange(p.shared), c.box_energy_kwh
    total = np.zeros((p.shared, p.steps))
    for j in range(p.shared):
        total[p.ess_box[j]] += net[j].sum(axis=0)
    into, out = p.ess_efficiency_charge[:, None], p.ess_efficiency_discharge[:, None]
    moved = p.dt_h * np.where(total > 0.0, into * total, total / out)
    floor = np.where(p.ess_netted, p.ess_floor, 0.0) * p.ess_energy_offer_kwh
    ceiling = p.ess_ceiling * p.ess_energy_offer_kwh
    kept = p.ess_retention[:, None]
    first = floor + np.bincount(p.ess_box, p.rented_initial_kwh.sum(axis=1), p.shared)
    off = {
        "rented contents follow their flows": _chain_off(
            p, c.rented_energy_kwh, c.rented_charge_kw, c.rented_discharge_kw, constants, np.zeros_like(net)
        ),
        "rented contents begin where they are": c.rented_energy_kwh[..., 0] - p.rented_initial_kwh,
        "rented contents end where they must": c.rented_energy_kwh[..., -1] - p.rented_final_kwh,
        "rented contents inside the right": _outside(c.rented_energy_kwh[..., 1:], 0.0, energy),
        "rented charge inside the right": _outside(c.rented_charge_kw, 0.0, power),
        "rented discharge inside the right": _outside(c.rented_discharge_kw, 0.0, power),
        "no tenant charges and discharges at once": np.minimum(c.rented_charge_kw, c.rented_discharge_kw),
        "the net of a shared store in bounds": _outside(total, p.ess_net_min_kw, p.ess_net_max_kw),
        "boxes hold what their net leaves in them": (
            box[:, 1:] - kept * box[:, :-1] - (1.0 - kept) * floor[:, None] - moved
        )[lead],
        "boxes begin with what they hold": (box[:, 0] - (first if p.ess_initial_kwh is None else p.ess_initial_kwh))[
            lead
        ],
        "netted boxes in bounds": _outside(box[:, 1:], floor[:, None], ceiling[:, None])[lead & p.ess_netted],
        "the net of a netted box inside its power": _outside(
            total, -p.ess_power_offer_kw[:, None], p.ess_power_offer_kw[:, None]
        )[lead & p.ess_netted],
        "rights only with access": np.where(p.access, 0.0, c.right_energy_kwh + c.right_power_kw),
    }
    if p.right_energy_kwh is not None and p.right_power_kw is not None:
        off["rights to energy as given"] = c.right_energy_kwh - p.right_energy_kwh
        off["rights to power as given"] = c.right_power_kw - p.right_power_kw
    else:
        rights = np.stack([c.right_energy_kwh, c.right_power_kw])
        taken = np.where(p.ess_netted, rights.max(axis=2, initial=0.0), rights.sum(axis=2))
        off["rights to energy inside the offer"] = _outside(taken[0], 0.0, p.ess_energy_offer_kwh)
        off["rights to power inside the offer"] = _outside(taken[1], 0.0, p.ess_power_offer_kw)
    return off


def _outside(value: Floats, lower: Floats | float, upper: Floats | float) -> Floats:
    """Return by how much a value is outside its bounds, with its sign; NaN stays NaN."""
    return np.minimum(value - lower, 0.0) + np.maximum(value - upper, 0.0)


def _cost(p: Problem, c: Clearing) -> float:
    """Return the plan's cost, term by term."""
    retail = np.where(c.grid_kw > 0, p.buy_eur_per_kwh, p.sell_eur_per_kwh) * c.grid_kw
    flows = float(retail.sum() + p.breach_penalty_eur_per_kwh * c.breach_kw.sum())
    flows -= float((p.exchange_charge_eur_per_kwh * np.minimum(c.exchange_kw, 0.0)).sum())
    flows += float(np.einsum("ki,kit->", p.store_wear_eur_per_kwh, c.charge_kw + c.discharge_kw))
    flows += float(np.einsum("j,jit->", p.ess_wear_eur_per_kwh, c.rented_charge_kw + c.rented_discharge_kw))
    flows += float(np.einsum("it,jit->", p.rented_charge_eur_per_kwh, c.rented_discharge_kw))
    rents = (p.rent_energy_eur_per_kwh * c.right_energy_kwh + p.rent_power_eur_per_kw * c.right_power_kw).sum()
    return p.dt_h * flows + float(rents)
