"""A community whose market is cleared with the feeder at the table: prices in place of envelopes (``dso.network: prices``).

Day ahead and before every hour the market and the grid's operator clear together (:mod:`agents.network_prices`); nobody plans inside
limits.  What comes of it:

- every connection's price of losses and congestion, per interval; the last one before delivery is what is paid on the meter;
- a band around the cleared draws, announced like an envelope and kept like one in delivery: forecasts fail, and a price that was
  made before cannot be answered by what happens after.

The places of the grid are the homes' meters, the meter of the storage's operator (which draws nothing), and the storage itself.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents import dso
from agents.network_prices import Grid, band, clear
from agents.people import People
from agents.storage_operator import Box
from market.exchange import Clearing, Problem
from market.network_prices import NetworkClearing
from market.splitting import Warm
from network.acflow import Model
from network.envelope import Limits
from sim.daybook import DayBook, Locational

__all__ = ["Pricing"]

Matrix = NDArray[np.float64]

_DAY_AHEAD, _HOURLY = 4, 2
"""Clearings at most until rows are where the market is: day ahead everything is new, hour by hour little."""


class Pricing:
    """What a community does with its grid at the market's table.

    Parameters
    ----------
    people, box
        Who is connected.
    model
        The feeder with them: the homes, then the storage if there is one.
    limits, rule
        What it must keep, and how room is shared in bands.
    heat_tan : shape (n, 1)
        Reactive over active power of the heat pumps.
    """

    def __init__(
        self, people: People, box: Box | None, model: Model, limits: Limits, rule: str, heat_tan: Matrix
    ) -> None:
        self.people, self.box, self.model, self.limits, self.rule, self.heat_tan = (
            people, box, model, limits, rule, heat_tan
        )  # fmt: skip
        extra = [] if box is None else [box.bus_index] * 2
        phases = people.phase if box is None else (*people.phase, box.phase, box.phase)
        places = Model(model.feeder, np.append(people.bus_index, extra).astype(np.intp), phases)
        self.grid = Grid(places, limits)
        self.connections = np.arange(people.n) if box is None else np.append(np.arange(people.n), people.n + 1)
        """Which places are the connections of the community's own tables."""
        self.broken: list[str] = []
        """Limits that nobody could keep, in words."""

    def _kvar(self, book: DayBook, at: int, places: int) -> Matrix:
        """Return the reactive power that places are expected to draw.  Shape (places, steps left). [kvar]"""
        homes = book.belief.load_kvar[:, at:] + book.belief.heat_kw[:, at:] * self.heat_tan
        return np.vstack([homes, np.zeros((places - len(homes), homes.shape[1]))])

    def clear(
        self, book: DayBook, task: Problem, at: int, warm: Warm | None, tolerance: float, max_iterations: int
    ) -> NetworkClearing:
        """Clear the rest of a day; losses cost what the grid's operator pays for them, the first tariff's energy."""
        price = next(iter(book.prices.values())).energy[at:]
        found = clear(
            task, self.grid, self._kvar(book, at, task.n + task.shared), np.maximum(price, 0.0), warm=warm,
            start_kw=None if book.drawn_kw is None else book.drawn_kw[:, at:], tolerance=tolerance,
            max_iterations=max_iterations, most=_DAY_AHEAD if book.drawn_kw is None else _HOURLY, certified=False,
        ).clearing  # fmt: skip
        if book.drawn_kw is None:
            book.drawn_kw = found.draw_kw.copy()
        book.drawn_kw[:, at:] = found.draw_kw
        return found

    def band(self, book: DayBook, at: int, clearing: Clearing) -> dso.Publication:
        """Keep what is asked at every connection, and return the band around what was cleared."""
        assert isinstance(clearing, NetworkClearing)
        people, box, here = self.people, self.box, self.connections
        asked = Locational(clearing.losses_eur_per_kwh[here], clearing.congestion_eur_per_kwh[here],
                           clearing.binding_element.astype(object))  # fmt: skip
        if not book.locational:
            book.locational = {"day_ahead": asked, "intraday": asked.copy()}
        kept = book.locational["intraday"]
        kept.losses[:, at:], kept.congestion[:, at:], kept.binding[at:] = asked.losses, asked.congestion, asked.binding
        self.broken += [f"{book.day.name}, from interval {at}: {sentence}" for sentence in clearing.broken]
        export, into, held = people.export_cap_kw, people.import_cap_kw, people.active
        if box is not None:
            export, into = np.append(export, box.discharge_kw), np.append(into, box.charge_kw)
            held = np.append(held, True)
        limits = band(self.model, clearing.draw_kw[here], self._kvar(book, at, len(here)), held, export, into, self.limits,
                      rule=self.rule)  # fmt: skip
        return dso.Publication(limits, np.zeros(len(limits.status)))
