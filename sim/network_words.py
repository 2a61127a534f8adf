"""What each way of minding the grid costs on one day: the same day ahead cleared with ``none``, ``envelopes`` and ``prices``.

The first delivery day of a scenario is opened and cleared three times, each from nothing, and the AC power flow is run on what was
planned.  What the community costs is what its people pay to the outside, wear included, plus the network's losses at
the price that its operator pays; the penalty on load that must leave its envelope is paid by nobody, and its energy stands beside the cost; what passes between people, or between them and the grid's operator, is in no cost ::

    welfare lost by a word = its cost − the cost with none,  which breaks limits                                    (1)

Limits: plans, not deliveries; forecasts are those of the gate; no envelope is lifted afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from agents.dso import breaches
from market.network_prices import NetworkClearing
from network.acflow import Flow

if TYPE_CHECKING:
    from market.exchange import Clearing
    from sim.community import Community
    from sim.daybook import DayBook
    from sim.resolve import Resolved

__all__ = ["WORDS", "compared"]

WORDS = ("none", "envelopes", "prices")


def compared(resolved: Resolved) -> list[dict[str, Any]]:
    """Return one row of figures for each word, for the first delivery day.

    Every row has ``network``, ``outcome`` (``ok``, or why there is no plan), ``cost_eur`` (all of it), ``people_eur``, ``loss_eur``,
    ``lost_eur`` (1), ``rent_eur`` (what the operator takes for losses and congestion), ``curtailed_kwh``, ``broken`` (limits in
    intervals that the plan breaks in AC), ``worst_percent`` (by how much at most, of the limit) and ``outside_kwh`` (what must leave
    the envelopes, because load that nobody controls is served); figures are None where there are none.
    """
    rows = [_planned(resolved, word) for word in WORDS]
    free = rows[0]["cost_eur"]
    for row in rows:
        cost = row["cost_eur"]
        row["lost_eur"] = None if cost is None or free is None else round(cost - free, 9)
    return rows


def _planned(resolved: Resolved, word: str) -> dict[str, Any]:
    """Clear the first day in one way and run the power flow on its plan."""
    from sim.community import NoPlanInfeasible
    from sim.play import Play
    from sim.plays import community_of

    lifting = resolved.scenario.dso.lifting and word == "envelopes"
    community = community_of(resolved, Play("sharing", True, word == "envelopes", lifting, prices=word == "prices"))
    clock = community.clock
    day = clock.days[0]
    row: dict[str, Any] = dict.fromkeys(
        ("cost_eur", "people_eur", "loss_eur", "rent_eur", "curtailed_kwh", "broken", "worst_percent", "outside_kwh")
    )
    try:
        book = community.publish(day, clock.at_minute(day.publish_min))
        found = community.clear_day_ahead(day, clock.at_minute(day.gate_min))
    except NoPlanInfeasible as error:
        return {"network": word, "outcome": str(error), **row}
    draw = found.meter_kw[: community.n]
    if community.box is not None:
        draw = np.vstack([draw, (found.rented_charge_kw - found.rented_discharge_kw).sum(axis=(0, 1))])
    kvar = book.belief.load_kvar + book.belief.heat_kw * community.heat_tan()
    kvar = np.vstack([kvar, np.zeros((len(draw) - len(kvar), kvar.shape[1]))])
    flow = community.model.solve(-draw, -kvar)
    return {"network": word, "outcome": "ok" if found.converged else "not_converged",
            **_figures(community, book, found, flow, draw)}  # fmt: skip


def _figures(community: Community, book: DayBook, found: Clearing, flow: Flow, draw: Any) -> dict[str, Any]:
    dt, priced = community.clock.dt_h, isinstance(found, NetworkClearing)
    price = np.maximum(next(iter(book.prices.values())).energy, 0.0)
    lost = np.where(flow.converged, flow.loss_kw.sum(axis=0), np.nan)
    losses = dt * float(price @ lost)
    people = (
        found.cost_eur
        - book.clearings[-1].penalty_eur
        - (found.loss_cost_eur if isinstance(found, NetworkClearing) else 0.0)
    )
    free = np.full(draw.shape, np.inf)
    broken = breaches(flow, community.model, community.rules.limits, draw, free, free, community.connection_ids)
    over = [abs(b.value / b.limit - 1.0) * 100.0 for b in broken if np.isfinite(b.value)]
    return {
        "cost_eur": round(people + losses, 9),
        "people_eur": round(people, 9),
        "loss_eur": round(losses, 9),
        "rent_eur": round(found.rent_eur, 9) if priced and isinstance(found, NetworkClearing) else 0.0,
        "curtailed_kwh": round(dt * float(found.curtailed_kw.sum()), 6),
        "outside_kwh": round(dt * float(found.breach_kw.sum()), 6),
        "broken": len(broken),
        "worst_percent": round(max(over, default=0.0), 6),
    }
