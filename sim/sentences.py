"""The sentences of a report: each is a function of numbers, so that no claim stands there that nobody computed.

A sentence is a tuple of :class:`Span`; a span may be emphasised (``b``), good (``up``) or bad (``bad``) news.
Bad news comes first: books that do not balance, a power flow without a result, a market that did not converge and a
limit that was broken stand in the headline before any gain.  Where a percentage would mean nothing (a reference of
zero, or a credit) there is none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from sim.number_format import energy, money, number, percent, points, power, price, share, voltage
from sim.report_tables import Clock

__all__ = [
    "Outcome",
    "Sentence",
    "Span",
    "bills_together",
    "convergence",
    "energy_answer",
    "envelope_answer",
    "grid_answer",
    "headline",
    "lede",
    "people_answer",
    "plain",
    "price_answer",
    "storage_answer",
    "three_ways",
    "ticks",
]

CENT = 0.005
"""Amounts below half a cent count as nothing."""


class Span(NamedTuple):
    """A piece of a sentence."""

    text: str
    role: str = ""


Sentence = tuple[Span, ...]


def plain(sentence: Sentence) -> str:
    """Return the words without emphasis."""
    return "".join(span.text for span in sentence)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of a run, as far as the headline speaks of it."""

    members: int
    bills: float
    """Of all members together, NaN where there are none. [currency]"""
    reference_bills: float
    winners: int
    losers: int
    worst_loss: float
    """Of a single member, 0 or more. [currency]"""
    traded_kwh: float
    outside: int | None
    """Intervals outside a limit; None where there is no grid."""
    reference_outside: int | None
    unmanaged_outside: int | None
    failed: int
    """Intervals whose power flow has no result."""
    clearings: int
    unconverged: int
    unbalanced: int
    """Transactions of the books that do not sum to zero."""
    held_back_percent: float
    """Share of the solar energy that was given up for envelopes. [%]"""
    same_reference: bool

    @property
    def saving(self) -> float:
        return self.reference_bills - self.bills


def _people(count: int) -> str:
    return "member" if count == 1 else "members"


def _whose(members: int) -> str:
    return "the member’s bill" if members == 1 else "the members’ bills"


def _change(outcome: Outcome, currency: str) -> str:
    """By how much the bills changed: a percentage where the reference is a cost, else the amount."""
    if _speaks_in_percent(outcome):
        return percent(abs(share(outcome.saving, outcome.reference_bills)))
    return money(abs(outcome.saving), currency)


def _speaks_in_percent(outcome: Outcome) -> bool:
    """A percentage of a credit, of nothing, or of more than all means nothing to a reader."""
    return outcome.reference_bills > 1.0 and outcome.bills >= 0.0


def headline(outcome: Outcome, clock: Clock, currency: str) -> Sentence:
    """Return the run in at most thirty words: what failed, the gain, the grid, the losers."""
    spans: list[Span] = []
    if outcome.unbalanced:
        spans.append(
            Span(f"The books do not balance: {number(outcome.unbalanced)} transactions do not sum to zero. ", "bad")
        )
    if outcome.failed:
        spans.append(
            Span(f"The power flow has no result in {number(outcome.failed)} {clock.interval(outcome.failed)}. ", "bad")
        )
    if outcome.unconverged:
        market = "market session" if outcome.clearings == 1 else "market sessions"
        spans.append(
            Span(f"{number(outcome.unconverged)} of {number(outcome.clearings)} {market} did not converge. ", "bad")
        )
    spans += _gain(outcome, currency)
    spans += _grid(outcome, clock)
    if outcome.losers:
        verb = "pays" if outcome.losers == 1 else "pay"
        if outcome.members > 1:
            spans.append(Span(f" {number(outcome.losers)} of {number(outcome.members)} members {verb} more.", "bad"))
    return tuple(spans)


def _gain(outcome: Outcome, currency: str) -> list[Span]:
    if not math.isfinite(outcome.saving):
        return [Span("The run has no bills")]
    if abs(outcome.saving) < CENT:
        return [
            Span(
                "Nothing was traded"
                if outcome.traded_kwh <= 0
                else f"Sharing left {_whose(outcome.members)} as they were"
            )
        ]
    size = _change(outcome, currency)
    if _speaks_in_percent(outcome):
        verb, role = ("cut", "up") if outcome.saving > 0 else ("raised", "bad")
        return [Span(f"Sharing {verb} {_whose(outcome.members)} by "), Span(size, role)]
    who = "the member" if outcome.members == 1 else "the members"
    verb, role = ("saved", "up") if outcome.saving > 0 else ("cost", "bad")
    return [Span(f"Sharing {verb} {who} "), Span(size, role)]


def _grid(outcome: Outcome, clock: Clock) -> list[Span]:
    if outcome.outside is None:
        return [Span(".")]
    if outcome.outside:
        return [
            Span(", "),
            Span(
                f"but the feeder left its limits in {number(outcome.outside)} {clock.interval(outcome.outside)}.", "bad"
            ),
        ]
    if outcome.failed:
        return [Span(".")]
    if not math.isfinite(outcome.saving) or abs(outcome.saving) < CENT:
        return [Span(f"; the feeder stayed inside its limits {clock.all_of}.")]
    return [Span(f" and kept the feeder inside its limits {clock.all_of}.")]


def lede(outcome: Outcome, clock: Clock, currency: str) -> Sentence:
    """Return the reference in money and in intervals, and what the envelopes cost."""
    spans: list[Span] = []
    if math.isfinite(outcome.saving):
        who = "the member" if outcome.members == 1 else f"{number(outcome.members)} members together"
        spans += [
            Span(f"Against {clock.the_same} on the retail tariff alone, {who} "),
            *_paid(outcome.bills, outcome.reference_bills, currency),
            Span(". "),
        ]
    if outcome.outside is not None:
        before, who = outcome.unmanaged_outside, "without envelopes"
        if before is None:
            before, who = outcome.reference_outside, "without sharing"
        if before is not None:
            now = "none" if not outcome.outside else number(outcome.outside)
            if before or outcome.outside:
                spans += [
                    Span("The feeder left its limits in "),
                    Span(
                        f"{number(before) if before else 'no'} {clock.interval(before or 2)} {who}, in {now} with sharing",
                        "b",
                    ),
                ]
            else:
                spans.append(Span(f"The feeder stayed inside its limits {who}, too"))
            if outcome.held_back_percent >= 0.05:
                spans += [
                    Span("; the envelopes curtailed "),
                    Span(f"{percent(outcome.held_back_percent)} of the solar energy", "b"),
                ]
            spans.append(Span("."))
    return tuple(spans)


def _paid(now: float, before: float, currency: str) -> list[Span]:
    """``paid 294.63 € instead of 575.35 €``, or what was received where the bill is a credit."""
    if abs(now - before) < CENT:
        return [Span("paid " if now >= 0 else "received "), Span(f"the same {money(abs(now), currency)}", "b")]
    if now >= 0 and before >= 0:
        return [Span("paid "), Span(f"{money(now, currency)} instead of {money(before, currency)}", "b")]
    if now < 0 and before < 0:
        return [Span("received "), Span(f"{money(-now, currency)} instead of {money(-before, currency)}", "b")]
    if now < 0:
        return [Span("received "), Span(f"{money(-now, currency)} instead of paying {money(before, currency)}", "b")]
    return [Span("paid "), Span(f"{money(now, currency)} instead of receiving {money(-before, currency)}", "b")]


def ticks(outcome: Outcome, clock: Clock) -> list[tuple[bool, str, str]]:
    """Return (passed, name, words) of Grid, Market, Books and Reference; what failed comes first."""
    found: list[tuple[bool, str, str]] = []
    if outcome.outside is not None:
        good = clock.steps - outcome.failed
        inside = not outcome.outside and not outcome.failed
        words = f"{number(good)} of {number(clock.steps)} AC checks passed" if not outcome.outside else (
            f"outside limits in {number(outcome.outside)} of {number(clock.steps)} {clock.interval(clock.steps)}"
        )  # fmt: skip
        if outcome.failed:
            words = f"no power flow in {number(outcome.failed)} {clock.interval(outcome.failed)}"
        found.append((inside, "Grid", words))
    if outcome.clearings:
        done = outcome.clearings - outcome.unconverged
        found.append(
            (not outcome.unconverged, "Market", f"{number(done)} of {number(outcome.clearings)} sessions converged")
        )
    found.append(
        (
            not outcome.unbalanced,
            "Books",
            "sum to zero"
            if not outcome.unbalanced
            else f"{number(outcome.unbalanced)} transactions do not sum to zero",
        )
    )
    found.append(
        (
            outcome.same_reference,
            "Reference",
            "same people, same weather" if outcome.same_reference else "differs in people or weather",
        )
    )
    return sorted(found, key=lambda tick: tick[0])


def energy_answer(
    local: float, reference_local: float, gains_kwh: dict[str, float], solar_kwh: float, traded_kwh: float
) -> Sentence:
    """Return where the demand was met, and what the gain came from.

    Parameters
    ----------
    local, reference_local
        Share of the demand that the retailer did not deliver. [%]
    gains_kwh
        How much more a source delivered than in the reference, by its name. [kWh]
    """
    if not math.isfinite(local):
        return (Span("There was no demand to meet."),)
    if solar_kwh <= 0 and traded_kwh <= 0:
        return (
            Span("There is no solar power and nothing was traded: "),
            Span("the retailer delivered everything.", "b"),
        )
    said = [Span(f"{percent(local)} of demand was met inside the community", "b")]
    if math.isfinite(reference_local):
        said.append(Span(f", against {percent(reference_local)} without sharing."))
    else:
        said.append(Span("."))
    best = sorted(((kwh, name) for name, kwh in gains_kwh.items() if kwh > 0.5), reverse=True)
    if best and local - reference_local > 0.05:
        said.append(Span(f" Most of the gain came from {best[0][1]} ({energy(best[0][0])} more)"))
        said.append(Span(f", then from {best[1][1]} ({energy(best[1][0])} more)." if len(best) > 1 else "."))
    elif traded_kwh <= 0:
        said.append(Span(" Nothing was traded."))
    return tuple(said)


def price_answer(
    traded_kwh: float, mean_price: float, cheapest: tuple[int, float] | None, dearest: tuple[int, float] | None,
    buyers_share: float, currency: str, *, after_charge: bool = True,
) -> Sentence:  # fmt: skip
    """Return what local energy cost, when it was cheap and dear, and who kept the margin.

    Parameters
    ----------
    cheapest, dearest
        Hour of the local day and mean price there; None where too little was traded.
    buyers_share
        Part of the margin between the two outside options that buyers kept. [%]
    """
    if traded_kwh <= 0:
        return (Span("Nothing was traded, so local energy has no price."),)
    said = [Span(f"{energy(traded_kwh)} changed hands at {price(mean_price, currency)} on average.", "b")]
    if cheapest and dearest and cheapest[0] != dearest[0]:
        said.append(Span(
            f" It is cheapest around {cheapest[0]:02d}:00 ({price(cheapest[1], currency)}) "
            f"and dearest around {dearest[0]:02d}:00 ({price(dearest[1], currency)})."
        ))  # fmt: skip
    if math.isfinite(buyers_share):
        between = (
            "feed-in and the retail price less local charges" if after_charge else "the feed-in and the retail price"
        )
        said.append(Span(f" Buyers kept {percent(buyers_share)} of the margin between {between}."))
    return tuple(said)


def people_answer(
    outcome: Outcome, losing_group: tuple[str, int] | None, public_change: float, currency: str
) -> Sentence:
    """Return who wins and loses, where the losers are, and what the public purse and the wires give up.

    Parameters
    ----------
    losing_group
        The group with most losers and how many of them it has.
    public_change
        Change of network charges, taxes and levies together. [currency]
    """
    if outcome.members == 1:
        verb = "saves" if outcome.saving >= CENT else "pays more" if outcome.saving <= -CENT else "pays the same"
        size = f" {money(abs(outcome.saving), currency)}" if abs(outcome.saving) >= CENT else ""
        return (
            Span(f"The only member {verb}{size}." if verb != "pays more" else f"The only member pays{size} more.", "b"),
        )
    if not outcome.losers:
        savers = (
            f"{number(outcome.winners)} of {number(outcome.members)} members save"
            if outcome.winners
            else "Nobody saves"
        )
        said = [Span(f"{savers}, nobody pays more.", "b")]
    else:
        said = [
            Span(
                f"{number(outcome.winners)} members save, {number(outcome.losers)} {'pays' if outcome.losers == 1 else 'pay'} more",
                "b",
            )
        ]
        if losing_group and outcome.losers > 1:
            how_many = f"{number(losing_group[1])} of those {number(outcome.losers)} belong"
            if losing_group[1] == outcome.losers:
                how_many = "both belong" if outcome.losers == 2 else "all of those belong"
            said.append(Span(f"; {how_many} to the group “{losing_group[0].lower()}”."))
        else:
            said.append(Span(f"; the largest loss is {money(outcome.worst_loss, currency)}."))
    if public_change < -CENT:
        size = money(-public_change, currency)
        most = outcome.saving > 0 and -public_change > 0.5 * outcome.saving
        said.append(
            Span(
                f" Network charges, taxes and levies shrink by {size}{': that is where most of the members’ gain comes from.' if most else '.'}"
            )
        )
    elif public_change > CENT:
        said.append(Span(f" Network charges, taxes and levies grow by {money(public_change, currency)}."))
    return tuple(said)


def three_ways(market: float, ex_post: float, reference: float, currency: str) -> Sentence:
    """Return what the market adds to plain sharing after the fact. Bills of all members together. [currency]"""
    gain, plain_gain = reference - market, reference - ex_post
    said = [
        Span(
            f"The market saves {money(gain, currency)}" if gain >= 0 else f"The market costs {money(-gain, currency)}",
            "b",
        )
    ]
    if abs(market - ex_post) < CENT:
        return (*said, Span(", as much as sharing the same meters after the fact."))
    less = f"{money(plain_gain, currency)}" if plain_gain >= 0 else f"a loss of {money(-plain_gain, currency)}"
    word = "against" if gain >= plain_gain else "but"
    return (
        *said,
        Span(f", {word} {less} when the same meters are only shared after the fact"),
        Span(
            "." if market < ex_post else ": here trading ahead costs the members money, the difference goes to others."
        ),
    )


def storage_answer(
    margin: float, cycles: float, rented_percent: float, tenants: int, income: dict[str, float], currency: str
) -> Sentence:
    """Return what the operator keeps, and whether rent covers the wear.

    Parameters
    ----------
    income
        The operator's account by kind, earned +. [currency]
    """
    verb = "keeps" if margin >= 0 else "loses"
    said = [
        Span(f"The operator {verb} {money(abs(margin), currency)} before capital", "b"),
        Span(
            f", from {number(cycles, 1)} full cycles and {percent(rented_percent)} of the space rented to {number(tenants)} {'tenant' if tenants == 1 else 'tenants'}."
        ),
    ]
    rent = sum(value for name, value in income.items() if "rent" in name.lower() or "fee" in name.lower())
    wear = -income.get("Wear", 0.0)
    if wear > CENT:
        said.append(
            Span(
                f" Rent and fees of {money(rent, currency)} {'cover' if rent >= wear else 'do not cover'} the wear of {money(wear, currency)}."
            )
        )
    return tuple(said)


def grid_answer(
    outcome: Outcome, clock: Clock, highest_pu: float, lowest_pu: float, limits_pu: tuple[float, float],
    line_percent: float, transformer_percent: float, broken_before: tuple[str, ...] = (),
) -> Sentence:  # fmt: skip
    """Return whether the grid held, its extremes, and the pictures before.

    Parameters
    ----------
    broken_before
        What went how far beyond its limit without envelopes, such as ``"the transformer reached 116 %"``.
    """
    steps = clock.steps
    if outcome.failed:
        verdict = Span(
            f"Not proven: the power flow has no result in {number(outcome.failed)} of {number(steps)} {clock.interval(steps)}.",
            "bad",
        )
    elif outcome.outside:
        verdict = Span(
            f"No: a limit was broken in {number(outcome.outside)} of {number(steps)} {clock.interval(steps)}.", "bad"
        )
    else:
        verdict = Span(f"Yes, in every {clock.interval(1)}.", "b")
    loads = [
        f"{name} {percent(value)}"
        for name, value in (("heaviest line", line_percent), ("transformer", transformer_percent))
        if math.isfinite(value)
    ]
    said = [
        verdict,
        Span(
            f" Highest voltage {voltage(highest_pu)} (limit {voltage(limits_pu[1])}), lowest {voltage(lowest_pu)} (limit {voltage(limits_pu[0])})"
        ),
        Span(f"; {', '.join(loads)}." if loads else "."),
    ]
    counts = [
        ("in this run", outcome.outside),
        ("in the reference", outcome.reference_outside),
        ("without envelopes", outcome.unmanaged_outside),
    ]
    told = [f"{number(count)} {name}" for name, count in counts if count is not None]
    if len(told) > 1:
        said.append(
            Span(
                f" {clock.interval(2).capitalize()} outside a limit: {', '.join(told)}{'; there ' + ' and '.join(broken_before) if broken_before else ''}."
            )
        )
    return tuple(said)


def envelope_answer(
    held_back: int,
    with_solar: int,
    worst_percent: float,
    curtailed_kwh: float,
    unmanaged_outside: int | None,
    clock: Clock,
) -> Sentence:
    """Return who was held back, how far, and what would have happened otherwise."""
    if not with_solar:
        said = [Span("No member has solar power, so no export was held back.", "b")]
    elif not held_back:
        said = [Span(f"None of {number(with_solar)} solar homes was held back.", "b")]
    else:
        homes = (
            "solar home was"
            if with_solar == 1
            else f"{number(with_solar)} solar homes were"
            if held_back != 1
            else f"{number(with_solar)} solar homes was"
        )
        head = "The only" if with_solar == 1 else f"{number(held_back)} of"
        said = [
            Span(f"{head} {homes} held back", "b"),
            Span(
                f", at worst by {percent(worst_percent)} of their energy, {energy(curtailed_kwh)} in all."
                if held_back > 1
                else f", by {percent(worst_percent)} of its energy."
            ),
        ]
    if unmanaged_outside is not None:
        would = (
            f"would have left its limits in {number(unmanaged_outside)} {clock.interval(unmanaged_outside)}"
            if unmanaged_outside
            else "would have stayed inside its limits"
        )
        said.append(Span(f" Without envelopes the feeder {would}."))
    return tuple(said)


def convergence(
    clearings: int, unconverged: int, median_iterations: float, most_iterations: int, worst_above: float, currency: str
) -> Sentence:
    """Return how the market was found, and how much more than the best possible it may cost."""
    if not clearings:
        return (Span("There was no market to clear."),)
    if unconverged:
        said = [
            Span(
                f"{number(unconverged)} of {number(clearings)} clearings did not converge: their prices and positions are the last iterate, repaired.",
                "bad",
            )
        ]
    else:
        said = [Span("Every clearing converged" if clearings > 1 else "The only clearing converged", "b")]
        said.append(
            Span(
                f", in {number(median_iterations)} iterations (median; most {number(most_iterations)})"
                if clearings > 1
                else f", in {number(most_iterations)} iterations"
            )
        )
    if math.isfinite(worst_above):
        begins = " Each costs" if unconverged and clearings > 1 else " It costs" if unconverged else ", and costs"
        said.append(Span(f"{begins} at most {money(max(worst_above, 0.0), currency)} more than the best possible."))
    elif not unconverged:
        said.append(Span("."))
    return tuple(said)


def bills_together(now: float, before: float, currency: str) -> str:
    """Return the change of a bill for a tile: a percentage where the reference is a cost, else the amount."""
    if not math.isfinite(before):
        return "no reference"
    if before > 1.0 and now >= 0:
        return percent(100.0 * (now / before - 1.0), signed=True)
    return money(now - before, currency, signed=True)


def tile_change(now: float, before: float, unit: str) -> str:
    """Return the change of a figure for a tile: points between percentages, a percentage of a power or energy."""
    if not (math.isfinite(now) and math.isfinite(before)):
        return ""
    if unit == "%":
        return points(now - before)
    if before:
        return percent(100.0 * (now / before - 1.0), signed=True)
    return f"{power(now)} more" if unit == "kW" else number(now - before, signed=True)
