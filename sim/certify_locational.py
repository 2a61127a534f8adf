"""Locational prices: who is told one, what it says of energy, and what the books must hold because of it.

Where the market is cleared with the feeder at the table (``dso.network: prices``), every connection has a price in every interval and
stage, in three parts ::

    price = energy + losses + congestion,    energy that of table prices                                           (1)
    paid to the DSO = (losses + congestion) · meter, at the prices of the last clearing                            (2)

Limits: that losses and congestion are those of the feeder is the clearing's own certificate; no table holds its rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.certify_evidence import Evidence, Wrong

__all__ = ["located"]

PRICE = 1e-12
"""Two copies of one price differ by less. [eur/kWh]"""


def located(evidence: Evidence, day: Any, out: Any) -> None:
    """Check (1) and add (2) to what the books of a day must hold.

    Parameters
    ----------
    day
        A :class:`sim.certify_day.Day`.
    out
        What the books must hold (:class:`sim.certify_bills.Expected`).
    """
    priced = evidence.scenario.get("dso", {}).get("network") == "prices"
    table, span = (
        evidence.table("locational_prices"),
        f"epoch_us(time) BETWEEN {day.times_us[0]} AND {day.times_us[-1]}",
    )
    if not priced:
        if evidence.all(f"SELECT agent_id FROM {table} LIMIT 1"):
            raise Wrong("table locational_prices has rows, and the scenario's dso.network is not prices")
        return
    stages = [row[0] for row in evidence.all(f"SELECT DISTINCT stage FROM {table} WHERE {span} ORDER BY 1")]
    if stages != ["day_ahead", "intraday"]:
        raise Wrong(f"locational_prices: on {day.name} there are the stages {stages}, expected day_ahead and intraday")
    cells: dict[str, Any] = {}
    for stage in stages:
        rows = evidence.connection.execute(
            f"SELECT energy_eur_per_kwh, losses_eur_per_kwh, congestion_eur_per_kwh FROM {table} "
            f"WHERE {span} AND stage = '{stage}' ORDER BY agent_id, time"
        ).fetchnumpy()
        columns = [np.ma.filled(np.ma.asarray(rows[name], dtype=np.float64), np.nan) for name in rows]
        if any(len(column) != len(day.agents) * day.steps for column in columns):
            raise Wrong(
                f"locational_prices: stage {stage} on {day.name} lacks connections or intervals, or has too many"
            )
        energy, *asked = (column.reshape(len(day.agents), day.steps) for column in columns)
        told = day.price_of.get(stage)
        same = np.abs(energy - told) <= PRICE if told is not None else np.isnan(energy)
        if told is not None:
            same |= np.isnan(energy) & np.isnan(told)
        if not same.all():
            i, t = np.argwhere(~same)[0].tolist()
            raise Wrong(
                f"locational_prices: energy is the price of table prices: stage {stage}, time {day.moment(t)}, agent_id "
                f"{day.agents[i]}: {energy[i, t]:.9g}"
            )
        cells[stage] = asked
    losses, congestion = cells["intraday"]
    for kind, price in (("network_losses", losses), ("network_congestion", congestion)):
        for i, agent in enumerate(day.agents):
            out.pay(kind, "locational", agent, "dso", day.meter[i], price[i])
