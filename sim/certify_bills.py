"""Point 7: every amount in the books, calculated anew from meters, positions, rights, series and the tariff.

For each delivery day the energies are made whole milli-watt-hours, the sharing rule is applied again, and every account's
postings are priced.  With meter M, position X after the last clearing, rented flows c and r::

    N = M + X + c − r,    shared among those with N < 0 and N > 0,    the rest is the retailer's                    (1)
    amount = − price · (position − position of the stage before), summed over stages                                (2)

An amount is rounded to the nearest micro-euro, an exchange is split by largest remainders (ties by agent_id).  The books
must hold exactly this, posting by posting, and ``bills`` line by line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.certify_day import Day, read_day
from sim.certify_days import days
from sim.certify_evidence import Evidence, Wrong
from sim.certify_locational import located
from sim.certify_sharing import largest_remainder, share, sharing_price

__all__ = ["recomputed"]

Counts = NDArray[np.int64]
Vector = NDArray[np.float64]

TIE = 1e-6
"""Two ways to add up a price differ by less than this of a micro-euro: at a half, either neighbour is the nearest."""


UNITS = {"retail_fixed": "day", "aggregator_fee": "day", "rent_power": "kW"}
"""Units of what is not charged on energy."""


@dataclass(slots=True)
class Expected:
    """What the books of a day must hold: by kind, rule and account, arrays of shape (T,)."""

    amount: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    energy: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    quantity: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    doubt: dict[tuple[str, str, str], Counts] = field(default_factory=dict)
    """How many micro-euro an amount may differ: 1 where its exact value ends on a half."""

    def add(
        self,
        kind: str,
        rule: str,
        account: str,
        amount: Counts,
        quantity: Counts,
        *,
        metered: bool,
        doubt: Counts | None = None,
    ) -> None:
        """Add postings of one account."""
        key = (kind, rule, account)
        nothing = np.zeros_like(amount)
        for store, values in (
            (self.amount, amount),
            (self.energy, quantity if metered else nothing),
            (self.quantity, quantity),
            (self.doubt, nothing if doubt is None else doubt),
        ):
            store[key] = store.get(key, 0) + values

    def pay(
        self,
        kind: str,
        rule: str,
        account: str,
        payee: str,
        energy: Counts,
        price: Vector | float,
        *,
        metered: bool = False,
        sign: int = -1,
    ) -> None:
        """Add what an account pays (or with ``sign`` 1 receives) for an energy, and the other side of it."""
        exact = energy * price
        amount = sign * np.rint(exact).astype(np.int64)
        half = (np.abs(np.abs(exact - np.floor(exact)) - 0.5) < TIE).astype(np.int64)
        self.add(kind, rule, account, amount, energy, metered=metered, doubt=half)
        self.add(kind, rule, payee, -amount, -energy, metered=metered, doubt=half)


def recomputed(evidence: Evidence) -> str:
    """Recompute all days of one folder of a run and compare books and bills."""
    physical = (
        evidence
        if evidence.holds("meters")
        else Evidence(evidence.connection, evidence.folder, "tables", evidence.scenario, evidence.dt_h)
    )
    totals = _Totals()
    postings = 0
    for name, first, last, steps in days(evidence, physical.table("meters")):
        day = read_day(evidence, physical, name, first, last, steps)
        expected = _expected(evidence, day)
        postings += _compare(evidence, day, expected)
        totals.take(name, expected)
    lines = _bills(evidence, totals)
    evidence.rows_checked += postings
    return (
        f"{postings} amounts in the books and {lines} lines of bills are what meters, positions and tariffs make them"
    )


def _expected(evidence: Evidence, day: Day) -> Expected:
    """Return what the books of one day must hold."""
    out = Expected()
    need = day.meter + day.intraday + day.charge - day.discharge
    rule, price_rule = evidence.scenario["settlement"]["rule"], evidence.scenario["settlement"]["price"]
    if evidence.section == "reference":
        rule = "alloc.none"
    retail = day.per_agent("buy") - np.where(day.is_storage[:, None], 0.0, day.per_agent("local"))
    feed_in = day.per_agent("feed_in")
    received, given = share(
        rule, need, retail, feed_in, _keys(evidence, day) if rule.startswith("alloc.static") else None
    )
    settled = day.intraday + given - received
    _same_position(day, settled, need - received + given)
    _exchange(
        day,
        out,
        settled,
        sharing_price(price_rule, need, received, given, retail, feed_in),
        f"{rule}/{price_rule}",
        received,
    )
    rest = need - received + given
    _retail(day, out, np.maximum(rest, 0), np.maximum(-rest, 0), settled)
    _storage(evidence, day, out)
    _losses(day, out)
    if evidence.section == "tables":
        located(evidence, day, out)
        _aggregators(evidence, day, out)
    return out


def _keys(evidence: Evidence, day: Day) -> Vector:
    """Return the fixed shares of the scenario, of homes only; where it names none, all homes have the same."""
    told = evidence.scenario["settlement"].get("keys") or {}
    homes = [agent for agent, storage in zip(day.agents, day.is_storage, strict=True) if not storage]
    shares = {name: float(told.get(name, 0.0)) for name in homes} if told else dict.fromkeys(homes, 1.0 / len(homes))
    keys = np.array([shares.get(agent, 0.0) for agent in day.agents])
    return np.asarray(keys / keys.sum())


def _same_position(day: Day, settled: Counts, rest: Counts) -> None:
    """Check that the settled positions are what the sharing rule makes of meters and positions."""
    if day.settled is None:
        return
    for says, stored, wanted in (
        ("exchange_kw", day.settled, settled),
        ("grid_buy_kw − grid_sell_kw", day.settled_grid, rest),
    ):
        wrong = np.argwhere(stored != wanted)
        if len(wrong):
            i, t = wrong[0].tolist()
            raise Wrong(
                f"positions: the settled {says} is what the sharing rule leaves: time {day.moment(t)}, agent_id {day.agents[i]}: "
                f"{stored[i, t]} mWh, expected {wanted[i, t]} mWh ({len(wrong)} cells are wrong)"
            )


def _exchange(day: Day, out: Expected, settled: Counts, price: Vector, rule: str, received: Counts) -> None:
    """Add what was paid inside the community, stage after stage, by (2)."""
    before = np.zeros_like(day.meter)
    shared = (received > 0).any(axis=0)
    stored = day.price_of.get("settled")
    if stored is not None:
        off = np.flatnonzero(shared & ~(np.abs(stored - price) <= 1e-12 * np.maximum(1.0, np.abs(price))))
        if off.size:
            raise Wrong(
                f"prices: the settled energy_eur_per_kwh is what the rule makes it: time {day.moment(off[0])}: {stored[off[0]]:.9g}, expected {price[off[0]]:.9g}"
            )
        price = np.where(shared, stored, price)  # the same number to the last bit, so that ties fall alike
    for stage, position, stage_price, name in (
        ("day_ahead", day.day_ahead, day.price_of.get("day_ahead"), "exchange"),
        ("intraday", day.intraday, day.price_of.get("intraday"), "exchange"),
        ("settled", settled, price, rule),
    ):
        sold, before = position - before, position
        if not sold.any():
            continue
        if stage_price is None or np.isnan(stage_price[(sold != 0).any(axis=0)]).any():
            raise Wrong(f"prices: stage {stage} has no energy price for what was traded on {day.name}")
        amount = largest_remainder(np.asarray(sold * np.nan_to_num(stage_price), dtype=np.float64))
        for i, agent in enumerate(day.agents):
            out.add(f"exchange_{stage}", name, agent, amount[i], -sold[i], metered=True)


def _retail(day: Day, out: Expected, bought: Counts, sold: Counts, settled: Counts) -> None:
    """Add what is paid to retailer, DSO and state, by the components of each agent's tariff."""
    local = np.where(day.is_storage[:, None], 0, np.maximum(-settled, 0) + day.tenant_discharge)
    first = np.zeros(day.steps, dtype=np.int64)
    first[0] = 1
    for i, agent in enumerate(day.agents):
        rule = day.tariff_of[i]
        tariff = day.tariffs[rule]
        for kind, payee, price, energy, metered in (
            ("retail_energy", "retailer", tariff.energy, bought[i], True),
            ("retail_network", "dso", tariff.network, bought[i], False),
            ("retail_levies", "state", tariff.levies, bought[i], False),
            ("retail_vat", "state", tariff.vat, bought[i], False),
            ("feed_in", "retailer", tariff.feed_in, -sold[i], True),
            ("local_network", "dso", tariff.local_network, local[i], False),
            ("local_levies", "state", tariff.local_levies, local[i], False),
            ("local_vat", "state", tariff.local_vat, local[i], False),
        ):
            out.pay(kind, rule, agent, payee, energy, price, metered=metered)
        out.pay("retail_fixed", rule, agent, "retailer", first * 1_000_000, tariff.fixed_eur_per_day)


def _storage(evidence: Evidence, day: Day, out: Expected) -> None:
    """Add rented flows, rents, throughput fees, firm charges and what is handed over at a right's end."""
    for box in day.boxes:
        told = next((spec for spec in evidence.scenario["storage"] if spec["id"] == box.ess_id), None)
        if told is None:
            raise Wrong(f"ess: ess_id {box.ess_id} is no storage of the scenario")
        for agent, (charge, discharge) in box.tenant_flows.items():
            for flow in (-charge, discharge):
                out.add("rented_flow", box.ess_id, agent, np.zeros_like(flow), flow, metered=True)
                out.add("rented_flow", box.ess_id, box.ess_id, np.zeros_like(flow), -flow, metered=True)
            out.pay(
                "throughput_fee", box.ess_id, agent, box.ess_id, charge + discharge, float(told["wear_eur_per_kwh"])
            )
        out.pay(
            "firm_service", box.ess_id, "dso", box.ess_id, box.firm, float(told["firm_charge"]["price_eur_per_kwh"])
        )
        for right in box.rights:
            at = np.zeros(day.steps, dtype=np.int64)
            at[right.step] = 1
            for kind, amount, rent in (
                ("rent_energy", right.energy_kwh, right.rent_energy_eur_per_kwh),
                ("rent_power", right.power_kw, right.rent_power_eur_per_kw),
            ):
                out.pay(kind, box.ess_id, right.agent_id, box.ess_id, at * round(amount * 1e6), rent)
        for over in box.handovers:
            at = np.zeros(day.steps, dtype=np.int64)
            at[over.step] = over.energy
            price = day.price_of.get("intraday")
            out.pay(
                "handover",
                over.right_id,
                over.agent_id,
                box.ess_id,
                -at,
                0.0 if price is None else np.nan_to_num(price),
            )


def _losses(day: Day, out: Expected) -> None:
    """Add the losses, which the DSO buys from the retailer."""
    if day.losses is not None:
        out.add("losses", "losses", "dso", np.zeros_like(day.losses), day.losses, metered=True)
        out.add("losses", "losses", "retailer", np.zeros_like(day.losses), -day.losses, metered=True)


def _aggregators(evidence: Evidence, day: Day, out: Expected) -> None:
    """Add the daily fees of aggregators."""
    fees = {spec["id"]: float(spec["fee_eur_per_day"]) for spec in evidence.scenario.get("aggregators") or ()}
    at = np.zeros(day.steps, dtype=np.int64)
    at[0] = 1_000_000
    for i, agent in enumerate(day.agents):
        name = day.aggregator_of[i]
        if name:
            if name not in fees:
                raise Wrong(f"agents: agent_id {agent} has the aggregator {name}, which is none of the scenario")
            out.pay("aggregator_fee", "aggregator", agent, name, at, fees[name])


def _compare(evidence: Evidence, day: Day, expected: Expected) -> int:
    """Compare the books of one day with what they must hold; return how many cells hold something."""
    amount, energy = _booked(evidence, day, expected)
    _losses_booked(day, expected, amount, energy)
    for key in sorted(expected.amount):
        for says, unit, stored, wanted, allowed in (
            ("amount_micro_eur", "micro-euro", amount[key], expected.amount[key], expected.doubt[key]),
            ("energy_milliwatt_hour", "mWh", energy[key], expected.energy[key], np.int64(0)),
        ):
            wrong = np.flatnonzero(np.abs(stored - wanted) > allowed)
            if wrong.size:
                kind, rule, account = key
                raise Wrong(
                    f"ledger: {says} recomputed: time {day.moment(wrong[0])}, account {account}, kind {kind}, rule {rule}: "
                    f"{stored[wrong[0]]}, expected {wanted[wrong[0]]} {unit}"
                    + (f" ({wrong.size} intervals are wrong)" if wrong.size > 1 else "")
                )
    return sum(int((values != 0).sum()) for values in amount.values())


def _booked(
    evidence: Evidence, day: Day, expected: Expected
) -> tuple[dict[tuple[str, str, str], Counts], dict[tuple[str, str, str], Counts]]:
    """Return amounts and energies of the books of a day, by kind, rule and account, arrays of shape (T,)."""
    rows = evidence.arrow(
        f"SELECT kind, rule, account, list(epoch_us(time)) AS time_us, list(amount_micro_eur) AS money, list(energy_milliwatt_hour) AS moved "
        f"FROM {evidence.table('ledger')} WHERE epoch_us(time) BETWEEN {day.times_us[0]} AND {day.times_us[-1]} "
        "GROUP BY kind, rule, account ORDER BY kind, rule, account"
    )
    amount = {key: np.zeros(day.steps, dtype=np.int64) for key in expected.amount}
    energy = {key: np.zeros(day.steps, dtype=np.int64) for key in expected.amount}
    keys = zip(*(rows[name].to_pylist() for name in ("kind", "rule", "account")), strict=True)
    lists = [rows[name].combine_chunks() for name in ("time_us", "money", "moved")]
    offsets = lists[0].offsets.to_numpy()
    times_us, money, moved = (column.values.to_numpy(zero_copy_only=False) for column in lists)
    step = np.searchsorted(day.times_us, times_us)
    if not np.array_equal(day.times_us[np.minimum(step, day.steps - 1)], times_us):
        raise Wrong(f"ledger: a posting on {day.name} stands in no interval of the run")
    for key, first, last in zip(keys, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        if key not in amount:
            kind, rule, account = key
            raise Wrong(
                f"ledger: a posting that nothing explains: time {day.moment(step[first])}, account {account}, kind {kind}, rule {rule}: "
                f"{money[first]} micro-euro"
            )
        np.add.at(amount[key], step[first:last], money[first:last])
        np.add.at(energy[key], step[first:last], moved[first:last])
    return amount, energy


def _losses_booked(
    day: Day, expected: Expected, amount: dict[tuple[str, str, str], Counts], energy: dict[tuple[str, str, str], Counts]
) -> None:
    """Check the losses: the energy of ``branch_flows``, bought at the energy component of one tariff, the same all day.

    The sum of all branches and the difference between source and meters are the same number but for rounding, so the books
    may be one milli-watt-hour off; what was booked is then priced.
    """
    payer, payee = ("losses", "losses", "dso"), ("losses", "losses", "retailer")
    if day.losses is None:
        return
    booked = energy[payer]
    off = np.flatnonzero(np.abs(booked - day.losses) > 1)
    if off.size:
        raise Wrong(
            f"ledger: losses are those of branch_flows: time {day.moment(off[0])}: {booked[off[0]]} mWh, expected {day.losses[off[0]]} mWh"
        )
    for tariff in day.tariffs.values():
        exact = booked * tariff.energy
        if (np.abs(-amount[payer] - exact) <= 0.5 + TIE).all():
            break
    else:
        exact = booked * next(iter(day.tariffs.values())).energy
        wrong = int(np.flatnonzero(np.abs(-amount[payer] - exact) > 0.5 + TIE)[0])
        raise Wrong(
            f"ledger: losses are bought at the energy price of a tariff: time {day.moment(wrong)}, account dso: "
            f"{amount[payer][wrong]} micro-euro, expected {-exact[wrong]:.0f}"
        )
    for key, sign in ((payer, 1), (payee, -1)):
        expected.energy[key] = expected.quantity[key] = sign * booked
        expected.amount[key] = sign * amount[payer]


@dataclass(slots=True)
class _Totals:
    """What bills must say: by account, period, kind and rule."""

    amount: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    quantity: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    doubt: dict[tuple[str, str, str, str], int] = field(default_factory=dict)

    def take(self, period: str, expected: Expected) -> None:
        """Add up a day; lines without any posting are no lines."""
        for (kind, rule, account), amount in expected.amount.items():
            energy = expected.energy[kind, rule, account]
            if not (amount.any() or energy.any()):
                continue
            key = (account, period, kind, rule)
            posted = (amount != 0) | (energy != 0)
            self.amount[key] = self.amount.get(key, 0) + int(amount.sum())
            self.quantity[key] = self.quantity.get(key, 0) + int(expected.quantity[kind, rule, account][posted].sum())
            self.doubt[key] = self.doubt.get(key, 0) + int(expected.doubt[kind, rule, account].sum())


def _bills(evidence: Evidence, totals: _Totals) -> int:
    """Compare ``bills`` with the sums, line by line."""
    columns = "agent_id, period, line, rule, quantity, amount_eur, unit"
    rows: list[tuple[Any, ...]] = evidence.all(f"SELECT {columns} FROM {evidence.table('bills')} ORDER BY ALL")
    for agent_id, period, line, *_, unit in rows:
        if unit != UNITS.get(line, "kWh"):
            raise Wrong(
                f"bills: unit: agent_id {agent_id}, period {period}, line {line}: {unit}, expected {UNITS.get(line, 'kWh')}"
            )
    told = {tuple(row[:4]): row[4:6] for row in rows}
    for key in sorted(set(told) | set(totals.amount)):
        where = f"agent_id {key[0]}, period {key[1]}, line {key[2]}, rule {key[3]}"
        if key not in totals.amount:
            raise Wrong(f"bills: a line that nothing explains: {where}: {told[key][1]:.6f}")
        if key not in told:
            raise Wrong(f"bills: a line is missing: {where}: expected {-totals.amount[key] / 1e6:.6f}")
        quantity, amount = told[key]
        wanted = -totals.amount[key] / 1e6
        if not abs(amount - wanted) <= (0.5 + totals.doubt[key]) * 1e-6:
            raise Wrong(f"bills: amount_eur recomputed: {where}: {amount:.6f}, expected {wanted:.6f}")
        if not abs(quantity - totals.quantity[key] / 1e6) <= (0.5 + totals.doubt[key]) * 1e-6:
            raise Wrong(
                f"bills: quantity recomputed: {where}: {quantity:.6f}, expected {totals.quantity[key] / 1e6:.6f}"
            )
    return len(rows)
