"""What stands on the page, section by section, ready for the template: words, tiles, keys and tables, no numbers left to format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim import sentences as say
from sim.kpis import FIGURES
from sim.number_format import DASH, currency_sign, energy, minor_unit, money, number, percent, power, price, share, voltage
from sim.report_charts import HELD_BACK_PERCENT, Charts, held_back
from sim.report_data import WORLD_NAMES, Check, Grid, Story
from sim.report_money import GROUPS, Figure
from sim.report_tables import RunTables
from sim.report_tiles import tiles

__all__ = ["page"]

Key = tuple[str, str, str, str]
"""Shape of the mark, its colour, its name, its figure."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table under a chart."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numeric: tuple[int, ...]
    note: str = ""


def page(story: Story, tables: RunTables, drawn: Charts) -> dict[str, Any]:
    """Return the template's variables."""
    outcome, clock, currency = story.outcome, story.clock, story.currency
    headline = say.headline(outcome, clock, currency)
    grid = _grid(story, drawn)
    return {
        "page_title": f"{say.plain(headline)} – {story.title} – commonwatt",
        "meta": _meta(story, tables),
        "headline": headline,
        "lede": say.lede(outcome, clock, currency),
        "ticks": say.ticks(outcome, clock),
        "tiles": tiles(story),
        "notes": list(drawn.notes),
        "clock": clock,
        "sign": currency_sign(currency),
        "world_names": [WORLD_NAMES[w] for w in story.grid.worlds] if story.grid else [],
        "windows": [w.name for w in drawn.windows],
        "rail": _rail(story),
        "energy": _energy(story, drawn),
        "price": _price(story, drawn),
        "people": _people(story, drawn),
        "storage": _storage(story, drawn),
        "grid": grid,
        "envelopes": _envelopes(story) if story.has_envelopes else None,
        "trust": _trust(story),
        "footer": _footer(story, tables),
    }


def _meta(story: Story, tables: RunTables) -> list[str]:
    solar = int(story.members.has_solar.sum())
    count = story.members.n
    words = [story.title, story.clock.dates(), f"{number(count)} member{'s' if count != 1 else ''}, {number(solar)} with solar"]
    source = (tables.scenario.get("grid") or {}).get("source")
    return [*words, str(source)] if source else words


def _rail(story: Story) -> list[tuple[str, str, str]]:
    o, currency = story.outcome, story.currency
    cost = story.figure("mean_trade_price_eur_per_kwh").value
    items = [
        ("top", "The answer", ""),
        ("energy", "Where did the energy go?", f"{percent(story.flows.local_share_of_demand)} of demand met locally"),
        ("price", "What did it cost, and when?", f"{price(cost, currency)} on average" if math.isfinite(cost) else "nothing was traded"),
    ]
    if story.run_bills is not None:
        items.append(("people", "Who wins, who loses?", f"{number(o.winners)} win, {number(o.losers)} lose"))
    if story.storage is not None:
        items.append(("storage", "Does the storage pay?", f"{money(story.storage.margin, currency)} margin"))
    if story.grid is not None:
        before = o.unmanaged_outside if o.unmanaged_outside is not None else o.reference_outside
        items.append(("grid", "Does the grid hold?", f"{number(o.outside or 0)} breaches" + ("" if before is None else f", {number(before)} before")))
    items.append(("envelopes", "What did the envelopes cost?", f"{percent(o.held_back_percent)} of solar" if story.has_envelopes else "none published"))
    items.append(("trust", "Can I trust these numbers?", "checks, method, data"))
    return items


# -- energy ------------------------------------------------------------------------------------------------------------

_SOURCES = {"own solar": "solar", "own battery": "solar-t", "neighbours": "peer", "shared storage": "store", "retailer": "retail"}
_USES = {"used at home": "solar", "own battery": "solar-t", "neighbours": "peer", "shared storage": "store", "fed in": "feed", "curtailed": "limit"}
_ON = {"solar": "on-solar", "solar-t": "ink", "peer": "on-peer", "store": "on-store", "retail": "on-retail", "feed": "on-feed", "limit": "ink"}
_USE_WORDS = {"neighbours": "to neighbours", "own battery": "into own battery", "shared storage": "stored"}


def _energy(story: Story, drawn: Charts) -> dict[str, Any]:
    flows, reference = story.flows, story.reference_flows
    gains = {}
    if reference is not None:
        gains = {name: flows.kwh(flows.sources[name]) - reference.kwh(reference.sources[name]) for name in flows.sources if name != "retailer"}
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
            keys.append((shape, "solar" if shape else colour, name.capitalize(), energy(flows.kwh(flows.sources[name]))))
    keys.append(("line", "ink", "Demand", energy(demand)))
    for name, shape, colour, words in (
        ("own battery", "hatch", "solar", "Into own battery"), ("shared storage", "hatch", "store", "Into shared storage"),
        ("fed in", "", "feed", "Fed in"), ("curtailed", "hatch", "limit", "Curtailed"),
    ):  # fmt: skip
        if flows.uses[name].any():
            keys.append((shape, colour, words, ""))
    rows = [(f"Demand from {name}", energy(flows.kwh(v)), percent(share(flows.kwh(v), demand)), _beside(reference, "sources", name)) for name, v in flows.sources.items()]
    rows += [(f"Solar {_USE_WORDS.get(name, name)}", energy(flows.kwh(v)), percent(share(flows.kwh(v), solar)), _beside(reference, "uses", name)) for name, v in flows.uses.items()]
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


# -- prices ------------------------------------------------------------------------------------------------------------


def _price(story: Story, drawn: Charts) -> dict[str, Any]:
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
    found: dict[str, Any] = {"answer": answer, "says": say.plain(answer), "has_chart": "prices" in drawn.figures, "unit": unit, "rents": []}
    if prices is None or not found["has_chart"]:
        return found
    stages = list(prices.local)
    keys: list[Key] = [("line", "peer", f"Local price, {stages[-1].lower()}", "")]
    if len(stages) > 1:
        keys.append(("dots", "peer-i", f"Local price, {stages[0].lower()}", ""))
    keys += [("", "solar-t", "kept by sellers", ""), ("", "retail-t", "kept by buyers", ""), ("line", "ink2", "retail and feed-in", "")]
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
        rent_rows.append((title, f"{unit}/{per} and day", number(reserve * factor, 2), number(float(np.nanmean(rent)) * factor, 2), number(float(np.nanmax(rent)) * factor, 2)))
    found["rent_table"] = Table(("", "Unit", "Reserve", "Mean rent", "Highest rent"), rent_rows, (2, 3, 4))
    return found


# -- people ------------------------------------------------------------------------------------------------------------


def _people(story: Story, drawn: Charts) -> dict[str, Any] | None:
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
        found["three_ways"] = say.three_ways(outcome.bills, float(story.ex_post_bills.total.sum()), outcome.reference_bills, currency)
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
        rows = [
            (name, number(len(rows_of)), money(float(np.median(saving[rows_of])), currency, signed=True), number(int((saving[rows_of] < -say.CENT).sum())))
            for name in GROUPS
            if (rows_of := [k for k in range(who.n) if group[k] == name])
        ]
        found["group_table"] = Table(("Group", "Members", "Median saving", "Pay more"), rows, (1, 2, 3))
    return found


def _totals(story: Story) -> list[dict[str, Any]]:
    """Return the members' bills in three ways as bars from zero on one scale."""
    rows = [
        ("Reference", "retail tariff, no sharing", story.outcome.reference_bills, "outline", "ink2"),
        ("Sharing after the fact", "the same meters, no market", math.nan if story.ex_post_bills is None else float(story.ex_post_bills.total.sum()), "", "peer-t"),
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
    assert story.run_bills is not None and story.reference_bills is not None
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
    return Table(("Member", "Group", f"Reference, {sign}", f"This run, {sign}", f"Saving, {sign}"), rows, (2, 3, 4), note)


# -- storage -----------------------------------------------------------------------------------------------------------


def _storage(story: Story, drawn: Charts) -> dict[str, Any] | None:
    box, currency, who = story.storage, story.currency, story.members
    if box is None:
        return None
    cycles, rented = _known(story.figure("ess_cycles"), box.cycles), box.rented_share
    answer = say.storage_answer(box.margin, cycles, rented, box.tenants, box.postings, currency)
    rows = [(name, money(value, currency, signed=True)) for name, value in box.postings.items()]
    details = [f"{energy(box.loss_kwh)} lost in conversion", f"{energy(box.netting_gain_kwh)} saved because opposite flows of holders cancel"]
    if box.firm_kwh > 0:
        details.append(f"{energy(box.firm_kwh)} promised to the grid as firm charge")
    tenants = np.flatnonzero(who.space_kwh > 0.005)
    ordered = sorted(tenants, key=lambda k: -who.space_kwh[k])
    rights = [(who.agent_id[k], number(who.space_kwh[k], 1), number(who.power_kw[k], 1)) for k in ordered]
    return {
        "answer": answer,
        "says": say.plain(answer),
        "legend": [("", "store", f"{number(box.tenants)} tenants", ""), ("", "store-t", "operator", ""), ("dots", "ink2", "rented out", "")],
        "table": Table(("Operator’s account", "Amount"), [*rows, ("Margin", money(box.margin, currency))], (1,), "; ".join(details).capitalize() + "."),
        "waterfall_height": max(drawn.height("waterfall"), 270),
        "has_rights": "rights" in drawn.figures,
        "rights_words": f"{percent(rented)} of {energy(box.usable_kwh)} and {percent(share(float(box.rented_kw.mean()), box.power_kw))} of {power(box.power_kw)}",
        "rights_table": Table(("Tenant", "Space, kWh", "Power, kW"), rights, (1, 2)),
    }


def _known(figure: Figure, otherwise: float) -> float:
    return figure.value if math.isfinite(figure.value) else otherwise


# -- grid and envelopes --------------------------------------------------------------------------------------------------


def _grid(story: Story, drawn: Charts) -> dict[str, Any] | None:
    grid = story.grid
    if grid is None:
        return None
    clock, run = story.clock, grid.extremes["run"]
    answer = say.grid_answer(
        story.outcome,
        clock,
        run.v_max_pu,
        run.v_min_pu,
        (grid.limits.v_min_pu, grid.limits.v_max_pu),
        run.line_max_percent,
        run.transformer_max_percent,
    )
    styles = (("line", "peer"), ("dots", "ink2"), ("dots", "limit-i"))
    keys = []
    for world, (shape, colour) in zip(grid.worlds, styles, strict=False):
        source = grid.source_kw[world]
        keys.append((shape, colour, f"{WORLD_NAMES[world].lower()}:", f"{power(max(np.nanmax(source), 0.0))} in, {power(max(-np.nanmin(source), 0.0))} out at most"))
    low, high = (grid.limits.v_min_pu - 1) * 100, (grid.limits.v_max_pu - 1) * 100
    return {
        "answer": answer,
        "says": say.plain(answer),
        "low": f"{number(low, signed=True)}\u00a0%",
        "high": f"{number(high, signed=True)}\u00a0%",
        "has_coordinates": grid.feeder.has_coordinates,
        "distance_words": "" if grid.feeder.distance_unit == "m" else ", counted in branches",
        "step": clock.interval(1),
        "failed": any(b.failed.any() for b in grid.breaches.values()),
        "has_calendar": "calendar" in drawn.figures,
        "duration_legend": keys,
        "table": _extremes_table(story, grid),
    }


def _extremes_table(story: Story, grid: Grid) -> Table:
    clock = story.clock
    names = [WORLD_NAMES[w] for w in grid.worlds]
    extreme = [grid.extremes[w] for w in grid.worlds]

    def place(bus: str, slot: int) -> str:
        return f"{bus}, {clock.moment(slot)}"

    source = [grid.source_kw[w] for w in grid.worlds]
    rows = [
        ("Highest voltage", *(f"{voltage(e.v_max_pu)}\n{place(e.v_max_bus, e.v_max_slot)}" for e in extreme)),
        ("Lowest voltage", *(f"{voltage(e.v_min_pu)}\n{place(e.v_min_bus, e.v_min_slot)}" for e in extreme)),
        ("Heaviest line", *(percent(e.line_max_percent) for e in extreme)),
        ("Transformer", *(percent(e.transformer_max_percent) for e in extreme)),
        ("Highest import", *(power(max(float(np.nanmax(p)), 0.0)) for p in source)),
        ("Highest export", *(power(max(float(-np.nanmin(p)), 0.0)) for p in source)),
        (f"{clock.interval(2).capitalize()} outside limits", *(number(int(grid.breaches[w].outside.sum())) for w in grid.worlds)),
        (f"{clock.interval(2).capitalize()} without a power flow", *(number(int(grid.breaches[w].failed.sum())) for w in grid.worlds)),
    ]
    return Table(("", *names), rows, tuple(range(1, len(names) + 1)))


def _envelopes(story: Story) -> dict[str, Any]:
    who, lost = story.members, held_back(story)
    with_solar = int(who.has_solar.sum())
    answer = say.envelope_answer(
        len(lost),
        with_solar,
        float(who.curtailed_percent.max()) if who.n else 0.0,
        float(who.curtailed_kwh.sum()),
        story.outcome.unmanaged_outside,
        story.clock,
    )
    spared = with_solar - len(lost)
    note = []
    if math.isfinite(story.curtailed_by_envelopes) and story.curtailed_by_envelopes < 0.995:
        note.append(f"{percent(100 * story.curtailed_by_envelopes)} of the curtailed energy was given up for envelopes, the rest because feeding in cost money.")
    if story.envelope_breaches:
        note.append(f"{number(story.envelope_breaches)} times a meter left its envelope: load that nobody controls is served.")
    return {
        "answer": answer,
        "has_bars": story.has_envelopes and lost.size > 0,
        "nothing_lost": f"{number(spared)} home{'s' if spared != 1 else ''} lost less than {number(HELD_BACK_PERCENT, 2)} %",
        "note": " ".join(note),
        "table": Table(("Member", "kWp", "Available, kWh", "Given up, kWh", "Share"), [
            (who.agent_id[k], number(who.pv_kw_peak[k], 1), number(who.available_kwh[k], 1), number(who.curtailed_kwh[k], 1), percent(who.curtailed_percent[k]))
            for k in lost
        ], (1, 2, 3, 4)),
    }  # fmt: skip


# -- trust ---------------------------------------------------------------------------------------------------------------


def _trust(story: Story) -> dict[str, Any]:
    held = story.clearings
    iterations = held.iterations
    answer = say.convergence(
        len(held.clearing_id),
        int((~held.converged).sum()),
        float(np.median(iterations)) if iterations.size else math.nan,
        int(iterations.max()) if iterations.size else 0,
        held.worst_gap,
    )
    failed = [check for check in story.checks if not check.ok]
    verdict = (say.Span("Every check passed. ", "b"),)
    if failed:
        verdict = (say.Span(f"{number(len(failed))} of {number(len(story.checks))} checks failed: {failed[0].name.lower()}. ", "bad"),)
    return {
        "answer": (*verdict, *answer),
        "has_clearings": bool(held.clearing_id),
        "checks": [_check_row(check) for check in story.checks],
        "figures": _figure_rows(story),
    }


def _check_row(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "worst": _scientific(check.worst, check.unit),
        "tolerance": _scientific(check.tolerance, check.unit) if math.isfinite(check.tolerance) else DASH,
        "result": ("told" if math.isnan(check.tolerance) else "passed") if check.ok else "failed",
        "ok": check.ok,
    }


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _scientific(value: float, unit: str) -> str:
    """Return ``3 × 10⁻¹⁰ kW`` for what is small, a plain number otherwise."""
    if not math.isfinite(value):
        return DASH
    if value == 0 or value >= 0.01:
        text = number(value, 0 if value == int(value) else 2)
    else:
        power_of_ten = math.floor(math.log10(value))
        digit = round(value / 10.0**power_of_ten)
        if digit == 10:
            digit, power_of_ten = 1, power_of_ten + 1
        exponent = str(power_of_ten).translate(_SUPERSCRIPT)
        text = f"10{exponent}" if digit == 1 else f"{digit} × 10{exponent}"
    return f"{text}\u00a0{unit}" if unit else text


def _figure_rows(story: Story) -> list[dict[str, str]]:
    known = {figure.name: figure for figure in FIGURES}
    names = [name for name in known if name in story.figures] + sorted(set(story.figures) - set(known))
    rows = []
    for name in names:
        figure = story.figures[name]
        change = figure.value - figure.reference
        is_share = "cycles" not in name
        rows.append({
            "name": _figure_name(name),
            "says": known[name].says if name in known else "",
            "boundary": figure.boundary,
            "value": _figure_value(figure.value, figure.unit, story.currency, is_share=is_share),
            "reference": _figure_value(figure.reference, figure.unit, story.currency, is_share=is_share),
            "change": _figure_value(change, figure.unit, story.currency, signed=True, difference=True, is_share=is_share),
        })  # fmt: skip
    return rows


def _figure_name(name: str) -> str:
    for ending in ("_eur_per_kwh", "_percent", "_kwh", "_eur", "_kw", "_pu"):
        name = name.removesuffix(ending)
    words = name.replace("_", " ").replace("ess ", "shared storage ").replace("v max", "highest voltage").replace("v min", "lowest voltage")
    return words[:1].upper() + words[1:]


def _figure_value(
    value: float, unit: str, currency: str, *, signed: bool = False, difference: bool = False, is_share: bool = False
) -> str:
    """Return a key figure in the form of its unit."""
    if not math.isfinite(value):
        return DASH
    if unit == "eur":
        return money(value, currency, signed=signed)
    if unit == "eur/kWh":
        return ("+" if signed and value > 0 else "") + price(value, currency)
    if unit == "1" and is_share:
        return f"{number(100 * value, 1, signed=signed)}\u00a0{'points' if difference else '%'}"
    if unit == "1":
        return number(value, 2, signed=signed)
    if unit == "pu":
        return f"{number(value, 4, signed=signed)}\u00a0pu"
    digits = 1 if unit in {"%", "kW", "kWh"} else 0
    text = number(value, digits, signed=signed)
    named = "points" if unit == "%" and difference else unit
    return f"{text}\u00a0{named}"


def _footer(story: Story, tables: RunTables) -> list[str]:
    """Return where all of this comes from: identity, seed, versions, data and licences."""
    manifest = tables.manifest
    versions = manifest.get("versions") or {}
    first = [
        f"Run {str(manifest.get('content_id', DASH))[:12]}",
        f"seed {manifest.get('seed', tables.scenario.get('seed', DASH))}",
        f"commonwatt {versions.get('commonwatt', DASH)}",
    ]
    if manifest.get("wall_s") is not None:
        first.append(f"wall time {number(float(manifest['wall_s']))}\u00a0s")
    if manifest.get("started_at"):
        first.append(f"made {str(manifest['started_at'])[:10]}")
    lines = [" · ".join(first) + ".", f"Times are local, {story.clock.zone}; amounts in {currency_sign(story.currency)}, bills positive where a member pays."]
    if versions:
        lines.append("Made with " + ", ".join(f"{name} {value}" for name, value in versions.items() if name != "commonwatt") + ".")
    return [*lines, *_sources(manifest, str((tables.scenario.get("grid") or {}).get("source", "")))]


def _sources(manifest: dict[str, Any], source: str) -> list[str]:
    """Return data sets and licences; SimBench is named with its licence whatever the manifest says."""
    found = _listed(manifest.get("data"), "Data")
    found += _listed(manifest.get("licences"), "Licences")
    if source.startswith("simbench:") and not any("ODbL" in line or "Open Database" in line for line in found):
        found.append(f"Grid and profiles: SimBench {source.removeprefix('simbench:')}, Open Database License (ODbL) 1.0.")
    return found


def _listed(value: object, name: str) -> list[str]:
    if isinstance(value, dict):
        words: Sequence[str] = [f"{key}: {item}" for key, item in value.items()]
    elif isinstance(value, list | tuple):
        words = [str(item) for item in value]
    else:
        words = [str(value)] if value else []
    return [f"{name}: {'; '.join(words)}."] if words else []
