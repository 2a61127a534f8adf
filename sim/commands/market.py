"""``commonwatt market``: a market described in one file, cleared without feeder and simulation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from sim.commands import endings, summary

if TYPE_CHECKING:
    from sim.clear_result import Figure, Figures, MarketResult, StorageResult

__all__ = ["app", "show"]

app = typer.Typer(help="Markets described in one file, without feeder and simulation.", no_args_is_help=True)

_Row = TypeVar("_Row")

NOTHING_KW = 1e-6
"""What is not said of an envelope."""

ROWS = 24
"""Rows of a table on the terminal; what is longer is drawn together, or left to --json."""


@app.callback()
def _market() -> None:
    """Markets described in one file, without feeder and simulation."""


@app.command()
def clear(
    case: Annotated[Path, typer.Argument(metavar="CASE", help="The case, a YAML file.")],
    mechanism: Annotated[
        str | None, typer.Option(metavar="NAME", help="How it is cleared, instead of the case's own way.")
    ] = None,
    divide: Annotated[
        str | None, typer.Option(metavar="RULE", help="Divide by this rule what all gain together.")
    ] = None,
    verify: Annotated[
        Literal["central"] | None, typer.Option(help="Solve the market as one problem too, and compare.")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(metavar="X", help="Relative residuals at which the iteration stops.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the case; repeatable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of what a mechanism draws, instead of the case's.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output, for programs.")] = False,
    out: Annotated[str | None, typer.Option(metavar="FILE", help="Write the JSON to this file.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No tables.")] = False,
) -> None:
    """Clear the market of one file: prices, positions, rents, payments, and how far they can be trusted."""
    from sim import case_file as cases
    from sim import clear as clearing

    summary.check_out(out, case)
    result = clearing.clear(
        cases.load(case, tuple(sets or ()), seed),
        mechanism=mechanism,
        divide=divide,
        verify=verify is not None,
        tolerance=tolerance,
    )
    if out is not None or as_json:
        text = summary.as_json(result.model_dump(mode="json"))
        if out is not None:
            summary.write(Path(out), text + "\n")
        if as_json:
            typer.echo(text)
    if not quiet and not as_json:
        show(result)
    for line in result.infeasible:
        typer.echo(line, err=True)
    agrees = result.verification is None or result.verification.agrees
    done = endings.DONE if result.certificate.converged and agrees else endings.FAILED
    raise typer.Exit(endings.INFEASIBLE if result.status == "infeasible" else done)


def show(result: MarketResult) -> None:
    """Print a result for people."""
    currency = result.currency
    typer.echo(f"{result.case}: {result.mechanism}, {result.status.replace('_', ' ')}")
    if result.price_eur_per_kwh:
        summary.table(("interval", f"price [{currency}/kWh]", "traded [kWh]"), _prices(result), right=(1, 2))
        _show_people(result, currency)
    for storage in result.storage:
        _show_storage(storage, currency)
    if result.trades:
        _show_trades(result, currency)
    _show_division(result, currency)
    for note in result.relaxed:
        typer.echo(f"relaxed   {note}")
    flexible = [
        f"flexible  {agent.id} takes {_amount(one.energy_kwh)} kWh; what it leaves out is worth {_amount(one.forgone_eur)} {currency} to it"
        for agent in result.agents
        for one in agent.flexible
    ]
    for line in _first(flexible):
        typer.echo(line)
    _more(len(flexible), "flexible demands")
    for line in (*_breaches(result), *_certificate(result, currency), *_verification(result, currency)):
        typer.echo(line)
    for note in result.notes:
        typer.echo(f"note      {note}")


def _breaches(result: MarketResult) -> Iterator[str]:
    """Yield who leaves its envelope, when, and by how much, each run of intervals in a line."""
    runs = []
    for agent in result.agents:
        breach, meter = agent.breach_kw or (), agent.meter_kw or ()
        outside = [(power or 0.0) > NOTHING_KW for power in breach]
        for side, way in (("import", 1.0), ("export", -1.0)):
            wrong = [one and (meter[t] or 0.0) * way > 0.0 for t, one in enumerate(outside)]
            begins = [t for t, one in enumerate(wrong) if one and not (t and wrong[t - 1])]
            for begin in begins:
                end = next((t for t in range(begin, len(wrong)) if not wrong[t]), len(wrong))
                when = f"interval {begin}" if end == begin + 1 else f"intervals {begin}–{end - 1}"
                most = max(breach[t] or 0.0 for t in range(begin, end))
                runs.append(f"envelope  {agent.id} leaves its {side} limit in {when}, by {_amount(most)} kW at most")
    yield from _first(runs)
    if len(runs) > ROWS:
        yield f"envelope  {len(runs) - ROWS} more; --json has them all"


def _prices(result: MarketResult) -> Iterator[tuple[str, str, str]]:
    """Yield intervals, drawn together where there are many."""
    count = len(result.price_eur_per_kwh)
    width = max(1, math.ceil(count / ROWS))
    for begin in range(0, count, width):
        end = min(begin + width, count)
        label = str(begin) if end == begin + 1 else f"{begin}–{end - 1}"
        buy, sell = (
            _mean(prices[begin:end]) for prices in (result.buy_price_eur_per_kwh, result.sell_price_eur_per_kwh)
        )
        one = _mean(result.price_eur_per_kwh[begin:end])
        price = summary.number(buy if one is None else one)
        if buy is not None and sell is not None and not math.isclose(buy, sell, rel_tol=1e-9, abs_tol=1e-12):
            price = f"{summary.number(buy)} bought, {summary.number(sell)} sold"
        yield label, price, _amount(_sum(result.traded_kwh[begin:end]))


def _show_people(result: MarketResult, currency: str) -> None:
    """Print what everybody does and pays."""
    hours, retail = result.interval_hours, any(agent.grid_kw is not None for agent in result.agents)
    title = ["", "sold [kWh]", "bought [kWh]"]
    title += ["from the grid [kWh]", "to the grid [kWh]"] if retail else []
    title += [f"{words} [{currency}]" for words in ("alone", "cost", "payment", "gain")]
    rows = []
    for agent in result.agents:
        flows = [_up(agent.power_kw, hours), _down(agent.power_kw, hours)]
        flows += [_up(agent.grid_kw or (), hours), _down(agent.grid_kw or (), hours)] if retail else []
        rows.append([agent.id, *flows, agent.alone_eur, agent.cost_eur, agent.payment_eur, agent.gain_eur])
    blank: list[Figure] = [None] * (4 if retail else 2)
    rows += [[one.id, *blank, 0.0, one.cost_eur, one.payment_eur, one.gain_eur] for one in result.operators]
    total = [_sum(column) for column in ([row[k] for row in rows] for k in range(1, len(title)))]
    shown = [[str(row[0]), *(_amount(cell) for cell in row[1:])] for row in _first(rows)]
    shown.append(["together", *(_amount(cell) for cell in total)])
    summary.table(title, shown, right=range(1, len(title)))
    _more(len(rows), "agents")


def _show_storage(storage: StorageResult, currency: str) -> None:
    """Print the rents of a shared storage and its tenants."""
    reserve, scarce = f"reserve rent [{currency}]", f"scarcity rent [{currency}]"
    for words, kind, kept in (
        (f"{currency}/kWh", storage.rent_energy_scarcity_eur_per_kwh, storage.rent_energy_reserve_eur_per_kwh),
        (f"{currency}/kW", storage.rent_power_scarcity_eur_per_kw, storage.rent_power_reserve_eur_per_kw),
    ):
        typer.echo(
            f"{storage.id}: rent {summary.number(kept)} and {summary.number(kind)} for scarcity, {words} for the horizon"
        )
    rows = [
        [tenant.id, *(_amount(cell) for cell in (
            tenant.right_energy_kwh, tenant.right_power_kw, tenant.reserve_rent_eur, tenant.scarcity_rent_eur))]
        for tenant in _first(storage.tenants)
    ]  # fmt: skip
    if rows:
        summary.table(("tenant", "space [kWh]", "power [kW]", reserve, scarce), rows, right=range(1, 5))
        _more(len(storage.tenants), "tenants")


def _show_trades(result: MarketResult, currency: str) -> None:
    """Print the largest trades, the seller first."""
    hours = result.interval_hours

    def energy(powers: Figures) -> float:
        return hours * math.fsum(abs(power or 0.0) for power in powers)

    trades = sorted((trade for trade in result.trades if energy(trade.power_kw) > 0), key=lambda t: -energy(t.power_kw))
    rows = []
    for trade in _first(trades):
        net = math.fsum(power or 0.0 for power in trade.power_kw)
        seller, buyer = (trade.first, trade.second) if net >= 0 else (trade.second, trade.first)
        prices = summary.number(_mean(trade.price_eur_per_kwh))
        rows.append((seller, buyer, summary.number(energy(trade.power_kw)), prices))
    summary.table(("sells", "buys", "traded [kWh]", f"price [{currency}/kWh]"), rows, right=(2, 3))
    _more(len(trades), "pairs")


def _show_division(result: MarketResult, currency: str) -> None:
    """Print what a rule gives everybody."""
    division = result.division
    if division is None:
        return
    title = (division.rule.replace("_", " "), f"payment [{currency}]", f"gain [{currency}]", "± (standard error)")
    rows = [
        (share.id, _amount(share.payment_eur), _amount(share.gain_eur), summary.number(share.standard_error_eur))
        for share in division.shares
    ]
    sampled = any(share.standard_error_eur is not None for share in division.shares)
    summary.table(title[: 4 if sampled else 3], [row[: 4 if sampled else 3] for row in rows], right=(1, 2, 3))
    who = ", ".join(division.excess_coalition) or "nobody"
    if division.note:
        typer.echo(f"division  {division.note}")
    typer.echo(
        f"division  nobody is worse off: {_yes(division.rational)}; payments balance: {_yes(division.balanced)}; strongest objection: "
        f"{_amount(division.excess_eur)} {currency} by {who}{', some coalitions asked' if division.excess_sampled else ''}"
    )


def _certificate(result: MarketResult, currency: str) -> Iterator[str]:
    """Yield the certificate, line by line."""
    found, number = result.certificate, summary.number
    if result.price_eur_per_kwh:
        bound = f"; no plan costs less than {number(found.bound_eur)}: {_small(found.gap_eur)} {currency} too much at most, gap {_small(found.gap)}"
        yield (
            f"cost      {number(result.cost_eur)} {currency} together, {number(result.alone_eur)} alone"
            f"{'' if found.bound_eur is None else bound}"
        )
    if found.iterations is not None and found.residuals:
        last = found.residuals[-1]
        yield f"iteration {found.iterations} iterations; residuals {_small(last.primal)} primal, {_small(last.dual)} dual"
    if found.max_agent_kkt_eur is not None:
        apart = found.dual_asymmetry_eur_per_kwh
        ends = (
            "" if not result.trades or apart is None else f"; the ends of a trade agree on its price to {_small(apart)}"
        )
        yield f"prices    no agent could gain more than {_small(found.max_agent_kkt_eur)} {currency} by deviating alone{ends}"
    if found.netting_cost_eur:
        yield (
            f"netting   stores do not charge and discharge at once where negative prices would pay for it: that costs "
            f"{_small(found.netting_cost_eur)} {currency} at most"
        )
    worse = (
        f"{number(found.worst_gain_eur, signed=True)} {currency} ({found.worst_agent})" if found.worst_agent else "–"
    )
    if result.price_eur_per_kwh:
        yield f"people    smallest gain {worse}; payments sum to {_small(found.imbalance_eur)} {currency}"
    if found.excess_eur is not None:
        everybody = set(found.excess_coalition) >= {agent.id for agent in result.agents}
        who = (
            "everybody together"
            if everybody and found.excess_coalition
            else ", ".join(found.excess_coalition) or "nobody"
        )
        more = "than this way of trading gives them" if everybody else "without the others"
        yield f"objection {_amount(found.excess_eur)} {currency}: what {who} would gain more {more}"


def _verification(result: MarketResult, currency: str) -> Iterator[str]:
    """Yield what the solver that knows everything says."""
    checked, number = result.verification, summary.number
    if checked is None:
        return
    yield (
        f"central   {'agrees' if checked.agrees else 'DISAGREES'}: the solver's optimum is {number(checked.cost_eur)} {currency}; the plan costs "
        f"{_small(checked.cost_above_eur)} more, of {_small(result.certificate.gap_eur)} that its certificate allows"
    )
    yield (
        f"central   the prices support the optimum to {_small(checked.bound_below_eur)} {currency}; largest difference of a price "
        f"{_small(checked.price_difference_eur_per_kwh)}, of a position {_small(checked.power_difference_kw)} kW"
    )
    if checked.price_range_eur_per_kwh is not None:
        least, most = checked.price_range_eur_per_kwh
        at = checked.price_difference_interval or 0
        between = (
            f"the optimum has the one price {number(least)}"
            if math.isclose(least or 0.0, most or 0.0, rel_tol=1e-6, abs_tol=1e-9)
            else f"prices are not unique: every one from {number(least)} to {number(most)} is one of the optimum"
        )
        yield f"central   in interval {at}, where they differ most, {between}; the market found {number(result.price_eur_per_kwh[at])}"


def _yes(value: bool) -> str:
    return "yes" if value else "NO"


def _small(value: Figure) -> str:
    """Write a number that is hoped to be small.

    >>> _small(1.234e-7), _small(0.0), _small(None)
    ('1.2e-07', '0', '–')
    """
    return "–" if value is None else "0" if value == 0 else f"{value:.2g}"


def _amount(value: Any) -> str:
    """Write an amount of energy or money; what is less than a twentieth of a thousandth is nothing.

    >>> _amount(12.3456), _amount(-2e-16), _amount(None)
    ('12.35', '0', '–')
    """
    return summary.number(value if value is None else round(value, 4) + 0.0)


def _mean(values: Iterable[Figure]) -> Figure:
    there = [value for value in values if value is not None]
    return math.fsum(there) / len(there) if there else None


def _sum(values: Iterable[Figure | str]) -> Figure:
    there = [value for value in values if isinstance(value, int | float)]
    return math.fsum(there) if there else None


def _up(powers: Figures, hours: float) -> float:
    return hours * math.fsum(max(power or 0.0, 0.0) for power in powers)


def _down(powers: Figures, hours: float) -> float:
    return hours * math.fsum(max(-(power or 0.0), 0.0) for power in powers)


def _first(rows: Sequence[_Row]) -> Sequence[_Row]:
    return rows[:ROWS]


def _more(count: int, what: str) -> None:
    if count > ROWS:
        typer.echo(f"{count - ROWS} more {what}; --json has them all.")
