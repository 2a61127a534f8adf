"""Energy, prices and people: what stands in these sections of a report, ready for the template."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim import sentences as say
from sim.number_format import DASH, currency_sign, energy, minor_unit, money, number, percent, price, share
from sim.report_charts import Charts
from sim.report_data import Story
from sim.report_money import GROUPS

__all__ = ["Key", "Table", "energy_section", "people_section", "price_section"]

Key = tuple[str, str, str, str]
"""Shape of the mark, its colour, its name, its figure."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table under a chart."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numeric: tuple[int, ...]
    note: str = ""


_SOURCES = {
    "own solar": "solar",
    "own battery": "solar-t",
    "neighbours": "peer",
    "shared storage": "store",
    "retailer": "retail",
}
_USES = {
    "used at home": "solar",
    "own battery": "solar-t",
    "neighbours": "peer",
    "shared storage": "store",
    "fed in": "feed",
    "curtailed": "limit",
}
_ON = {
    "solar": "on-solar",
    "solar-t": "ink",
    "peer": "on-peer",
    "store": "on-store",
    "retail": "on-retail",
    "feed": "on-feed",
    "limit": "ink",
}
_USE_WORDS = {"neighbours": "to neighbours", "own battery": "into own battery", "shared storage": "stored"}


def energy_section(story: Story, drawn: Charts) -> dict[str, Any]:
    """Return where the energy came from and where it went: answer, 100 % bars, keys, table."""
    flows, reference = story.flows, story.reference_flows
    gains = {}
    if reference is not None:
        gains = {
            name: flows.kwh(flows.sources[name]) - reference.kwh(reference.sources[name])
            for name in flows.sources
            if name != "retailer"
        }
    answer = say.energy_answer(
        flows.local_share_of_demand,
        reference.local_share_of_demand if reference else math.nan,
        gains,
        flows.kwh(flows.solar),
        story.outcome.traded_kwh,
    )
    demand, solar = flows.kwh(flows.demand), flows.kwh(flows.solar)
    bars = []
    worlds = [("With sharing", flows)] + ([("Reference", reference)] if reference is not None else [])
    if solar > 0:
        bars.append({"title": "Of the solar energy", "total": f"{energy(solar)} available", "rows": [
            (name, _segments({k: w.kwh(v) for k, v in w.uses.items()}, _USES)) for name, w in worlds
        ]})  # fmt: skip
    if demand > 0 and (solar > 0 or story.outcome.traded_kwh > 0):
        bars.append({"title": "Of the demand", "total": energy(demand), "rows": [
            (name, _segments({k: w.kwh(v) for k, v in w.sources.items()}, _SOURCES)) for name, w in worlds
        ]})  # fmt: skip
    keys: list[Key] = []
    for name, colour in _SOURCES.items():
        if flows.sources[name].any():
            shape = "hatch" if name == "own battery" else ""
            keys.append(
                (shape, "solar" if shape else colour, name.capitalize(), energy(flows.kwh(flows.sources[name])))
            )
    keys.append(("line", "ink", "Demand", energy(demand)))
    for name, shape, colour, words in (
        ("own battery", "hatch", "solar", "Into own battery"), ("shared storage", "hatch", "store", "Into shared storage"),
        ("fed in", "", "feed", "Fed in"), ("curtailed", "hatch", "limit", "Curtailed"),
    ):  # fmt: skip
        if flows.uses[name].any():
            keys.append((shape, colour, words, ""))
    rows = [
        (
            f"Demand from {name}",
            energy(flows.kwh(v)),
            percent(share(flows.kwh(v), demand)),
            _beside(reference, "sources", name),
        )
        for name, v in flows.sources.items()
    ]
    rows += [
        (
            f"Solar {_USE_WORDS.get(name, name)}",
            energy(flows.kwh(v)),
            percent(share(flows.kwh(v), solar)),
            _beside(reference, "uses", name),
        )
        for name, v in flows.uses.items()
    ]
    return {
        "answer": answer,
        "says": say.plain(answer),
        "bars": bars if "week" in drawn.figures else [],
        "legend": keys,
        "step": story.clock.interval(1),
        "block": drawn.axis.block,
        "table": Table(("", "This run", "of all", "Reference"), rows, (1, 2, 3)),
    }


def _beside(flows: Any, kind: str, name: str) -> str:
    return DASH if flows is None else energy(flows.kwh(getattr(flows, kind)[name]))


def _segments(kwh: dict[str, float], colours: dict[str, str]) -> list[dict[str, Any]]:
    """Return the parts of a 100 % bar; parts of nothing are left out."""
    whole = sum(kwh.values())
    found = []
    for name, value in kwh.items():
        part = share(value, whole)
        if part < 0.05:
            continue
        colour = colours[name]
        words = _USE_WORDS.get(name, name) if colours is _USES else name
        found.append({
            "name": words, "percent": percent(part), "width": f"{part:.3f}", "colour": colour, "on": _ON[colour],
            "hatch": name == "curtailed", "title": f"{words}: {energy(value)}, {percent(part)}",
        })  # fmt: skip
    return found


def price_section(story: Story, drawn: Charts) -> dict[str, Any]:
    """Return what local energy and the storage cost; only the answer where nothing was traded."""
    hourly = story.hourly_price()
    cheapest = min(hourly.items(), key=lambda pair: pair[1], default=None)
    dearest = max(hourly.items(), key=lambda pair: pair[1], default=None)
    prices = story.prices
    answer = say.price_answer(
        story.outcome.traded_kwh,
        story.figure("mean_trade_price_eur_per_kwh").value,
        cheapest,
        dearest,
        story.buyers_share(),
        story.currency,
        after_charge=prices is not None and prices.local_charge is not None,
    )
    unit, factor = minor_unit(story.currency)
    found: dict[str, Any] = {
        "answer": answer,
        "says": say.plain(answer),
        "has_chart": "prices" in drawn.figures,
        "unit": unit,
        "rents": [],
    }
    if prices is None or not found["has_chart"]:
        return found
    stages = list(prices.local)
    keys: list[Key] = [("line", "peer", f"Local price, {stages[-1].lower()}", "")]
    if len(stages) > 1:
        keys.append(("dots", "peer-i", f"Local price, {stages[0].lower()}", ""))
    keys += [
        ("", "solar-t", "kept by sellers", ""),
        ("", "retail-t", "kept by buyers", ""),
        ("line", "ink2", "retail and feed-in", ""),
    ]
    if prices.local_charge is not None:
        keys.append(("dots", "ink2", "retail less local charges", ""))
    named = [*prices.local.items(), ("Retail", prices.buy), ("Feed-in", prices.sell)]
    rows = [(f"{name}", *(number(f(v) * factor, 1) for f in (np.nanmin, np.nanmean, np.nanmax))) for name, v in named]
    several = f"Mean of {prices.tariffs} tariffs, weighted with their members." if prices.tariffs > 1 else ""
    found |= {"legend": keys, "table": Table((f"{unit}/kWh", "Lowest", "Mean", "Highest"), rows, (1, 2, 3), several)}
    rent_rows = []
    for name, title, per, rent, reserve in (
        ("rent-space", "Rent of storage space", "kWh", prices.rent_space, prices.reserve_space),
        ("rent-power", "Rent of storage power", "kW", prices.rent_power, prices.reserve_power),
    ):
        if name not in drawn.figures:
            continue
        scarce = np.nanmax(rent) - reserve
        words = f"Highest scarcity rent {price(float(max(scarce, 0.0)), story.currency, per=per)} and day, on top of a reserve rent of {price(reserve, story.currency, per=per)}"
        found["rents"].append({
            "title": title, "unit": f"{unit} per {per} and day", "figure": name, "says": words,
            "legend": [("", "store-t", "reserve rent", ""), ("", "store", "scarcity rent", "")],
        })  # fmt: skip
        rent_rows.append(
            (
                title,
                f"{unit}/{per} and day",
                number(reserve * factor, 2),
                number(float(np.nanmean(rent)) * factor, 2),
                number(float(np.nanmax(rent)) * factor, 2),
            )
        )
    found["rent_table"] = Table(("", "Unit", "Reserve", "Mean rent", "Highest rent"), rent_rows, (2, 3, 4))
    return found


def people_section(story: Story, drawn: Charts) -> dict[str, Any] | None:
    """Return who wins and loses; None where there are no bills."""
    if story.run_bills is None or story.reference_bills is None:
        return None
    outcome, currency, saving, who = story.outcome, story.currency, story.saving, story.members
    group = who.group()
    losers = {name: int(sum(1 for k in range(who.n) if group[k] == name and saving[k] < -say.CENT)) for name in GROUPS}
    most = max(losers.items(), key=lambda pair: pair[1])
    public = sum(p.change for p in story.parties if p.entity in {"dso", "state"})
    answer = say.people_answer(outcome, most if most[1] else None, public, currency)
    found: dict[str, Any] = {
        "answer": answer,
        "says": say.plain(answer),
        "count": who.n,
        "totals": _totals(story),
        "three_ways": (),
        "parties": None,
        "has_bars": "members" in drawn.figures,
        "has_groups": "groups" in drawn.figures,
        "table": _member_table(story),
    }
    if story.ex_post_bills is not None:
        found["three_ways"] = say.three_ways(
            outcome.bills, float(story.ex_post_bills.total.sum()), outcome.reference_bills, currency
        )
    if story.parties:
        total = sum(p.change for p in story.parties)
        rows = [(p.name, money(p.change, currency, signed=True)) for p in story.parties]
        found["parties"] = Table(("Party", "Change"), [*rows, ("Together", money(total, currency, signed=True))], (1,))
        found["parties_height"] = drawn.height("parties")
        found["parties_note"] = (
            "Surplus: what a party receives less what it pays, less the wear of its batteries; the retailer buys at the spot price. "
            "What one pays another cancels: the last bar is the gain of all together."
        )
    if found["has_groups"]:
        found["groups_height"] = drawn.height("groups")
        by_group = [
            (
                name,
                number(len(rows_of)),
                money(float(np.median(saving[rows_of])), currency, signed=True),
                number(int((saving[rows_of] < -say.CENT).sum())),
            )
            for name in GROUPS
            if (rows_of := [k for k in range(who.n) if group[k] == name])
        ]
        found["group_table"] = Table(("Group", "Members", "Median saving", "Pay more"), by_group, (1, 2, 3))
    return found


def _totals(story: Story) -> list[dict[str, Any]]:
    """Return the members' bills in three ways as bars from zero on one scale."""
    rows = [
        ("Reference", "retail tariff, no sharing", story.outcome.reference_bills, "outline", "ink2"),
        (
            "Sharing after the fact",
            "the same meters, no market",
            math.nan if story.ex_post_bills is None else float(story.ex_post_bills.total.sum()),
            "",
            "peer-t",
        ),
        ("Sharing market", "this run", story.outcome.bills, "", "peer"),
    ]
    known = [row for row in rows if math.isfinite(row[2])]
    low, high = min(0.0, *(row[2] for row in known)), max(0.0, *(row[2] for row in known))
    span = max(high - low, 1e-9)
    return [
        {
            "name": name, "says": words, "value": money(value, story.currency), "shape": shape, "colour": colour,
            "left": f"{100 * (min(value, 0.0) - low) / span:.3f}", "width": f"{100 * abs(value) / span:.3f}", "zero": f"{100 * -low / span:.3f}",
        }
        for name, words, value, shape, colour in known
    ]  # fmt: skip


MOST_ROWS = 150
"""Members that a table lists; of more, the best and the worst."""


def _member_table(story: Story) -> Table:
    assert story.run_bills is not None
    assert story.reference_bills is not None
    who, saving, group = story.members, story.saving, story.members.group()
    order = [int(k) for k in np.argsort(-saving, kind="stable")]
    note = ""
    if len(order) > MOST_ROWS:
        order = [*order[:50], *order[-50:]]
        note = f"The 50 best and the 50 worst of {number(who.n)} members; the CSV has all."
    rows = [
        (
            who.agent_id[k],
            group[k],
            money(story.reference_bills.total[k], story.currency, unit=False),
            money(story.run_bills.total[k], story.currency, unit=False),
            money(saving[k], story.currency, signed=True, unit=False),
        )
        for k in order
    ]
    sign = currency_sign(story.currency)
    return Table(
        ("Member", "Group", f"Reference, {sign}", f"This run, {sign}", f"Saving, {sign}"), rows, (2, 3, 4), note
    )
