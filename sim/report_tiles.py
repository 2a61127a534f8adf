"""The key figures at the head of a report: each with the reference beside it and the place where it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sim import sentences as say
from sim.number_format import currency_sign, energy, money, number, percent, power, share
from sim.report_data import Story

__all__ = ["Tile", "tiles"]


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure; ``now`` and ``before`` are widths of its two bars. [%]"""

    key: str
    label: str
    value: str
    unit: str
    boundary: str
    now: float | None = None
    before: float | None = None
    colour: str = "peer"
    change: str = ""
    beside: str = ""
    split: tuple[tuple[float, str], ...] = ()
    why: str = ""
    """Why there is no number."""


def tiles(story: Story) -> list[Tile]:
    """Return the eight tiles; those of what the run does not have are left out."""
    found = [*_money(story), *_energy(story), *_grid(story)]
    if story.storage is not None:
        found.append(_operator(story))
    return found


def _pair(now: float, before: float) -> tuple[float | None, float | None]:
    """Widths of two bars from zero on one scale; a figure that is unknown or negative has none."""
    top = max((abs(v) for v in (now, before) if math.isfinite(v)), default=0.0)
    if top == 0 or (math.isfinite(now) and now < 0) or (math.isfinite(before) and before < 0):
        return None, None
    wide, wide_before = (100.0 * v / top if math.isfinite(v) else None for v in (now, before))
    return wide, wide_before


def _split(text: str) -> tuple[str, str]:
    """Part a figure from its unit, which follows the last no-break space."""
    value, _, unit = text.rpartition("\u00a0")
    return (value, unit) if value else (text, "")


def _money(story: Story) -> list[Tile]:
    o, currency = story.outcome, story.currency
    if not math.isfinite(o.bills):
        return []
    now, before = _pair(o.bills, o.reference_bills)
    bills = Tile(
        "bills", "Members’ bills, together" if o.members > 1 else "The member’s bill", money(o.bills, currency, unit=False), currency_sign(currency),
        "member meters, all charges and taxes", now, before, "peer",
        say.bills_together(o.bills, o.reference_bills, currency), f"reference {money(o.reference_bills, currency)}",
    )  # fmt: skip
    same = o.members - o.winners - o.losers
    widths = (
        (share(o.winners, o.members), "peer"),
        (share(same, o.members), "rule"),
        (share(o.losers, o.members), "limit"),
    )
    worst = f", worst {money(o.worst_loss, currency, signed=True)}" if o.losers else ""
    beside = f"{number(o.losers)} {'pays' if o.losers == 1 else 'pay'} more{worst}" if o.losers else "nobody pays more"
    better = Tile(
        "better_off",
        "Members better off",
        number(o.winners),
        f"of {number(o.members)}",
        "against each member’s reference bill",
        split=widths,
        beside=beside,
    )
    return [bills, better]


def _energy(story: Story) -> list[Tile]:
    flows, reference = story.flows, story.reference_flows
    found = []
    for key, label, name, now, before, what in (
        (
            "solar_local",
            "Solar used locally",
            "self_consumption_rate",
            flows.local_share_of_solar,
            reference.local_share_of_solar if reference else math.nan,
            "self-consumption",
        ),
        (
            "demand_local",
            "Demand met locally",
            "self_sufficiency",
            flows.local_share_of_demand,
            reference.local_share_of_demand if reference else math.nan,
            "self-sufficiency",
        ),
    ):
        value, unit = _split(percent(now))
        widths = _pair(now, before)
        virtual = story.figure(name)
        beside = f"{what} by settled trades, member meters"
        if math.isfinite(virtual.value):
            beside += f"; physically {percent(100 * virtual.value)} (reference {percent(100 * virtual.reference)})"
        found.append(Tile(
            key, label, value, unit, beside, *widths, "solar", say.tile_change(now, before, "%"),
            f"reference {percent(before)}" if math.isfinite(before) else "", why="" if math.isfinite(now) else "there is none in this run",
        ))  # fmt: skip
    return found


def _grid(story: Story) -> list[Tile]:
    o, flows, grid = story.outcome, story.flows, story.grid
    found = []
    if grid is not None:
        peak = story.figure("peak_export_kw")
        value, unit = _split(power(peak.value))
        found.append(Tile(
            "peak_export", "Peak export at the transformer", value, unit, "community physical, AC power flow", *_pair(peak.value, peak.reference), "retail",
            say.tile_change(peak.value, peak.reference, "kW"), f"reference {power(peak.reference)}" if math.isfinite(peak.reference) else "",
        ))  # fmt: skip
        bad = int((grid.breaches["run"].outside | grid.breaches["run"].failed).sum())
        before = o.reference_outside or 0
        others = [f"reference {number(before)}"] if o.reference_outside is not None else []
        if o.unmanaged_outside is not None:
            others.append(f"without envelopes {number(o.unmanaged_outside)}")
        highest = max(before, o.unmanaged_outside or 0)
        found.append(Tile(
            "outside", f"{story.clock.interval(2).capitalize()} outside limits", number(bad), f"of {number(story.clock.steps)}",
            "voltage or loading, AC power flow", *_pair(float(bad), float(highest)), "limit",
            "none left" if highest and not bad else "", ", ".join(others),
        ))  # fmt: skip
    if flows.solar.any():
        lost = flows.kwh(flows.uses["curtailed"])
        before_share = story.reference_flows.curtailed_share if story.reference_flows else math.nan
        value, unit = _split(percent(flows.curtailed_share))
        cause = "behind the meter"
        if lost > 0 and math.isfinite(story.curtailed_by_envelopes):
            cause += (
                ", all of it for envelopes"
                if story.curtailed_by_envelopes > 0.995
                else f", {percent(100 * story.curtailed_by_envelopes)} of it for envelopes"
            )
        found.append(Tile(
            "curtailed", "Solar curtailed", value, unit, cause, *_pair(flows.curtailed_share, before_share), "limit",
            energy(lost), f"reference {percent(before_share)}" if math.isfinite(before_share) else "",
        ))  # fmt: skip
    return found


def _operator(story: Story) -> Tile:
    assert story.storage is not None
    box = story.storage
    cycles = story.figure("ess_cycles").value
    cycles = cycles if math.isfinite(cycles) else box.cycles
    return Tile(
        "operator", "Storage operator’s margin", money(box.margin, story.currency, unit=False), currency_sign(story.currency),
        "before capital; not in the reference",
        beside=f"{number(cycles, 1)} full cycles, {percent(box.rented_share)} rented",
    )  # fmt: skip
