"""Point 8: the twenty headline figures, computed once more, in SQL.

The definitions are those of docs/kpis.md; the code is another than :mod:`sim.kpis`.  Power at the source is taken from the
flows of the branches at the source here, not from the sum of meters and losses.
"""

from __future__ import annotations

import math

from sim.certify_evidence import Evidence, Law, Wrong, shown

__all__ = ["key_figures"]

RELATIVE = 1e-9
"""Sums of a million float64 in another order differ by less."""

ABSOLUTE = 1e-6
"""A micro-euro, a milliwatt, a milliwatt-hour."""

GRID = "('over_voltage', 'under_voltage', 'overload', 'not_converged')"


VIRTUAL, PHYSICAL, MEMBER, BTM = "community virtual", "community physical", "member meter", "behind the meter"

MEASURED = {
    "community_cost_eur": ("eur", MEMBER), "members_better_off": ("members", MEMBER), "worst_regret_eur": ("eur", MEMBER),
    "self_consumption_rate": ("1", VIRTUAL), "self_sufficiency": ("1", VIRTUAL), "peak_import_kw": ("kW", PHYSICAL),
    "peak_export_kw": ("kW", PHYSICAL), "losses_kwh": ("kWh", PHYSICAL), "curtailed_kwh": ("kWh", BTM), "curtailment_rate": ("1", BTM),
    "intervals_outside_limits": ("intervals", PHYSICAL), "v_max_pu": ("pu", PHYSICAL), "v_min_pu": ("pu", PHYSICAL),
    "max_loading_percent": ("%", PHYSICAL), "traded_kwh": ("kWh", MEMBER), "mean_trade_price_eur_per_kwh": ("eur/kWh", MEMBER),
    "ess_cycles": ("1", BTM), "ess_energy_rented_share": ("1", BTM), "operator_margin_eur": ("eur", MEMBER),
    "welfare_gain_eur": ("eur", PHYSICAL),
}  # fmt: skip
"""Unit and meter boundary of each figure."""


def key_figures(evidence: Evidence) -> str:
    """Recompute the headline figures of a folder and compare value, reference, difference and percent."""
    evidence.count("kpis")
    this, other = _figures(evidence, evidence.section), _figures(evidence, "reference")
    told = {
        row[0]: row[1:]
        for row in evidence.all(
            f"SELECT kpi, value, reference, difference, percent FROM {evidence.table('kpis')} WHERE scope = 'community'"
        )
    }
    for kpi, unit, boundary, entity, period in evidence.all(
        f"SELECT kpi, unit, boundary, entity, period FROM {evidence.table('kpis')} WHERE scope = 'community' ORDER BY kpi"
    ):
        if (unit, boundary) != MEASURED.get(kpi) or (entity, period) != ("community", "run"):
            raise Wrong(
                f"kpis: {kpi} is told in {unit}, at the {boundary}, of {entity} in {period}; expected {MEASURED.get(kpi)} of the community in the run"
            )
    if set(told) != set(this):
        raise Wrong(f"kpis: the headline figures are {', '.join(sorted(told))}, expected {', '.join(sorted(this))}")
    for name, wanted in this.items():
        value, reference, difference, percent = (math.nan if cell is None else cell for cell in told[name])
        for column, stored, expected in (("value", value, wanted), ("reference", reference, other[name])):
            if not _same(stored, expected):
                raise Wrong(f"kpis: {name}: {column} is {shown(stored)}, expected {shown(expected)}")
        # both numbers are confirmed: what stands beside them must follow from them as they stand
        relative = 100.0 * (value - reference) / abs(reference) if reference else math.nan
        for column, stored, expected in (("difference", difference, value - reference), ("percent", percent, relative)):
            if not _same(stored, expected):
                raise Wrong(f"kpis: {name}: {column} is {shown(stored)}, expected {shown(expected)}")
    _members(evidence)
    _parties(evidence)
    _beside(evidence)
    return f"{len(this)} headline figures agree with SQL, and those beside them"


BESIDE = {
    ("member", "bill_eur"): ("eur", MEMBER), ("member", "curtailed_kwh"): ("kWh", BTM), ("day", "community_cost_eur"): ("eur", MEMBER),
    ("party", "surplus_eur"): ("eur", PHYSICAL), ("cause", "curtailed_kwh"): ("kWh", BTM), ("cause", "deferred_kwh"): ("kWh", BTM),
}  # fmt: skip
"""Unit and meter boundary of the figures beside the twenty."""


def _beside(evidence: Evidence) -> None:
    """Check what is told of the figures beside the twenty, but for their values: unit, boundary, and the comparison."""
    kpis, others = evidence.table("kpis"), '"reference_kpis"'
    keys = ("kpi", "scope", "entity", "period")
    told = ", ".join(f"('{scope}', '{kpi}', '{unit}', '{boundary}')" for (scope, kpi), (unit, boundary) in BESIDE.items())  # fmt: skip
    evidence.none_of(
        "a figure beside the twenty of another kind, unit, boundary or period than docs/kpis.md says",
        f"SELECT {', '.join(keys)} FROM {kpis} WHERE scope <> 'community' AND ((scope, kpi, unit, boundary) NOT IN ({told}) "
        "OR (scope = 'day') = (period = 'run') OR (scope = 'day' AND entity <> 'community'))",
        keys,
    )
    # a day that is in this run alone has no reference
    source = f"""(SELECT k.*, coalesce(r.value, 'nan'::DOUBLE) AS was, CASE WHEN k.reference = 0 THEN 'nan'::DOUBLE ELSE 100 * k.difference / abs(k.reference) END AS share
        FROM {kpis} k LEFT JOIN (SELECT kpi, scope, entity, period, value FROM {others}) r USING (kpi, scope, entity, period) WHERE k.scope <> 'community')"""
    for column, wanted in (("reference", "was"), ("difference", "value - reference"), ("percent", "share")):
        near = f"abs({column} - ({wanted})) <= {ABSOLUTE!r} + {RELATIVE!r} * abs({wanted})"
        evidence.none_of(
            f"kpis: {column} follows from the value and from the reference",
            f"SELECT {', '.join(keys)} FROM {source} WHERE NOT (isnan({column}) AND isnan({wanted})) AND ({near} AND NOT isnan({column}) AND NOT isnan({wanted})) IS NOT TRUE",
            keys,
        )


def _causes(world: Evidence, kpis: str) -> None:
    """Check what was given up by cause: the rows of enforcement, and the rest of what meters gave up, which was their own choice."""
    held, dt = world.table("enforcement"), repr(world.dt_h)
    words = "(VALUES ('envelope'), ('default'), ('ramp')) AS words(entity)"
    sums = f"SELECT split_part(cause, '_', 1) AS entity, sum(clipped_kw) * {dt} AS clipped, sum(deferred_kw) * {dt} AS deferred FROM {held} GROUP BY ALL"
    given_up = f"(SELECT coalesce(sum(curtailed_kw), 0) FROM {world.table('meters')}) * {dt}"
    told = f"SELECT entity, coalesce(clipped, 0) AS clipped, coalesce(deferred, 0) AS deferred FROM {words} LEFT JOIN ({sums}) USING (entity)"
    own = f"SELECT 'market' AS entity, {given_up} - (SELECT sum(clipped) FROM ({told})) AS amount"
    for kpi, wanted in (
        ("curtailed_kwh", f"SELECT entity, clipped AS amount FROM ({told}) UNION ALL {own}"),
        ("deferred_kwh", f"SELECT entity, deferred AS amount FROM ({told})"),
    ):
        source = f"(SELECT entity, k.value, w.amount FROM (FROM {kpis} WHERE kpi = '{kpi}' AND scope = 'cause') k FULL JOIN ({wanted}) w USING (entity))"
        world.uphold(
            [Law(f"{kpi} by cause is what enforcement shows", source, ("entity",), "value", "amount", ABSOLUTE)]
        )


def _parties(evidence: Evidence) -> None:
    """Check what every party is left with: its balance in the books, less wear and, of the retailer, energy from above."""
    world = (
        evidence
        if evidence.holds("agents")
        else Evidence(evidence.connection, evidence.folder, "tables", evidence.scenario, evidence.dt_h)
    )

    def kept(role: str) -> float:
        return float(evidence.one(f"SELECT {_kept(evidence, world, role)}"))

    above, worn_at_home, worn_in_the_box = _spent(world)
    wanted = {
        "members": kept("prosumer") - worn_at_home,
        "storage_operator": kept("storage") - worn_in_the_box,
        "aggregators": kept("aggregator"),
        "retailer": kept("retailer") - above,
        "dso": kept("dso"),
        "state": kept("state"),
        "others": 0.0,
    }
    told = dict(
        evidence.all(f"SELECT entity, value FROM {evidence.table('kpis')} WHERE scope = 'party' ORDER BY entity")
    )
    if set(told) != set(wanted):
        raise Wrong(f"kpis: the parties are {', '.join(sorted(told))}, expected {', '.join(sorted(wanted))}")
    for party, surplus in wanted.items():
        value = math.nan if told[party] is None else told[party]
        if not _same(value, surplus):
            raise Wrong(f"kpis: surplus_eur of {party} is {shown(value)}, expected {shown(surplus)}")


def _members(evidence: Evidence) -> None:
    """Check what members pay and lose, and the costs of periods, beside the headline figures."""
    world = (
        evidence
        if evidence.holds("agents")
        else Evidence(evidence.connection, evidence.folder, "tables", evidence.scenario, evidence.dt_h)
    )
    kpis, bills = evidence.table("kpis"), evidence.table("bills")
    members = f"(FROM {world.table('agents')} WHERE role = 'prosumer')"
    lost = f"SELECT agent_id, sum(curtailed_kw) * {world.dt_h!r} AS amount FROM {world.table('meters')} GROUP BY ALL"
    billed = f"SELECT agent_id, sum(amount_eur) AS amount FROM {bills} GROUP BY ALL"
    for says, kpi, of_member in (
        ("a member's bill_eur is the sum of its bills", "bill_eur", billed),
        ("a member's curtailed_kwh is what its meter shows", "curtailed_kwh", lost),
    ):
        # who has no line pays nothing
        source = f"""(SELECT entity, k.value, m.amount FROM (FROM {kpis} WHERE kpi = '{kpi}' AND scope = 'member') k
            FULL JOIN (SELECT agent_id AS entity, coalesce(amount, 0) AS amount FROM {members} LEFT JOIN ({of_member}) USING (agent_id)) m
            USING (entity))"""
        evidence.uphold([Law(says, source, ("entity",), "value", "amount", ABSOLUTE)])
    _causes(world, kpis)
    source = f"""(SELECT period, k.value, b.amount FROM (FROM {kpis} WHERE kpi = 'community_cost_eur' AND scope = 'day') k
        FULL JOIN (SELECT period, sum(amount_eur) AS amount FROM {bills} SEMI JOIN {members} USING (agent_id) GROUP BY ALL) b USING (period))"""
    evidence.uphold(
        [Law("a day's community_cost_eur is the sum of its bills", source, ("period",), "value", "amount", ABSOLUTE)]
    )


def _same(stored: float, wanted: float) -> bool:
    """Whether two numbers agree; a NaN agrees with a NaN alone."""
    if math.isnan(wanted) or math.isnan(stored):
        return math.isnan(wanted) and math.isnan(stored)
    return abs(stored - wanted) <= ABSOLUTE + RELATIVE * abs(wanted)


def _figures(evidence: Evidence, section: str) -> dict[str, float]:
    """Return the figures of one folder; ``ex_post`` has the meters of ``tables``."""
    books = Evidence(evidence.connection, evidence.folder, section, evidence.scenario, evidence.dt_h)
    world = Evidence(
        evidence.connection,
        evidence.folder,
        "tables" if section == "ex_post" else section,
        evidence.scenario,
        evidence.dt_h,
    )
    reference = Evidence(evidence.connection, evidence.folder, "reference", evidence.scenario, evidence.dt_h)
    return {
        **_money(books, world, reference),
        **_energy(world),
        **_grid(world),
        **_trade(books, world),
        **_storage(books, world),
        **_welfare(books, world, reference),
    }


def _row(evidence: Evidence, sql: str, *names: str) -> dict[str, float]:
    """Return one row of figures; null is NaN."""
    row = evidence.all(sql)[0]
    return {name: math.nan if value is None else float(value) for name, value in zip(names, row, strict=True)}


def _money(books: Evidence, world: Evidence, reference: Evidence) -> dict[str, float]:
    bills = f"""
        WITH member AS (SELECT agent_id FROM {world.table("agents")} WHERE role = 'prosumer'),
        now AS (SELECT agent_id, sum(amount_eur) AS bill FROM {books.table("bills")} GROUP BY ALL),
        then AS (SELECT agent_id, sum(amount_eur) AS bill FROM {reference.table("bills")} GROUP BY ALL),
        both_bills AS (SELECT coalesce(now.bill, 0) AS bill, coalesce(now.bill, 0) - coalesce("then".bill, 0) AS regret
            FROM member LEFT JOIN now USING (agent_id) LEFT JOIN "then" USING (agent_id))
        SELECT coalesce(sum(bill), 0), count(*) FILTER (WHERE regret < -0.005), max(regret) FROM both_bills"""
    return _row(
        books,
        bills.replace("then AS (", '"then" AS (', 1),
        "community_cost_eur",
        "members_better_off",
        "worst_regret_eur",
    )


def _energy(world: Evidence) -> dict[str, float]:
    meters, dt = world.table("meters"), world.dt_h
    found = _row(
        world,
        f"""WITH net AS (SELECT time, sum(meter_kw) AS kw FROM {meters} GROUP BY time)
        SELECT (SELECT sum(greatest(-kw, 0)) FROM net), (SELECT sum(greatest(kw, 0)) FROM net),
            sum(pv_kw), sum(load_kw), sum(curtailed_kw), sum(pv_available_kw) FROM {meters}""",
        *("exported", "imported", "solar", "load", "curtailed", "available"),
    )
    return {
        "self_consumption_rate": 1.0 - _over(found["exported"], found["solar"]),
        "self_sufficiency": 1.0 - _over(found["imported"], found["load"]),
        "curtailed_kwh": found["curtailed"] * dt,
        "curtailment_rate": _over(found["curtailed"], found["available"]),
    }


def _over(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan


def _source_sql(world: Evidence) -> str:
    """Return the power at the source in every interval: the flows of its branches and the meters at its bus."""
    bus = f"(SELECT bus_id FROM {world.table('buses')} WHERE is_source)"
    return f"""(
        SELECT m.time, m.kw + coalesce(f.kw, 0) AS kw FROM
            (SELECT time, coalesce(sum(meter_kw) FILTER (WHERE bus_id = {bus}), 0) AS kw
                FROM {world.table("meters")} JOIN {world.table("agents")} USING (agent_id) GROUP BY time) m
            LEFT JOIN (SELECT time, sum(CASE WHEN from_bus = {bus} THEN p_kw WHEN to_bus = {bus} THEN loss_kw - p_kw ELSE 0 END) AS kw
                FROM {world.table("branch_flows")} JOIN {world.table("branches")} USING (branch_id) GROUP BY time) f USING (time))"""


def _grid(world: Evidence) -> dict[str, float]:
    flows, voltages = world.table("branch_flows"), world.table("bus_voltages")
    dead = f"(SELECT time FROM {voltages} WHERE isnan(v_pu))"
    # an interval that did not converge has no flow: what the meters took is all that is known of it
    source = f"""(SELECT time, CASE WHEN time IN {dead} THEN metered ELSE kw END AS kw FROM {_source_sql(world)}
        JOIN (SELECT time, sum(meter_kw) AS metered FROM {world.table("meters")} GROUP BY time) USING (time))"""
    return {
        **_row(
            world,
            f"SELECT greatest(max(kw), 0), greatest(max(-kw), 0) FROM {source}",
            "peak_import_kw",
            "peak_export_kw",
        ),
        **_row(
            world,
            f"SELECT coalesce(sum(loss_kw) FILTER (WHERE NOT isnan(loss_kw)), 0) * {world.dt_h!r}, max(loading_percent) FILTER (WHERE NOT isnan(loading_percent)) FROM {flows}",
            *("losses_kwh", "max_loading_percent"),
        ),
        **_row(
            world,
            f"SELECT max(v_pu), min(v_pu) FROM {voltages} SEMI JOIN (FROM {world.table('buses')} WHERE is_monitored) USING (bus_id) WHERE NOT isnan(v_pu)",
            *("v_max_pu", "v_min_pu"),
        ),
        **_row(
            world,
            f"SELECT count(DISTINCT time) FROM {world.table('violations')} WHERE kind IN {GRID}",
            "intervals_outside_limits",
        ),
    }


def _trade(books: Evidence, world: Evidence) -> dict[str, float]:
    if books.section == "ex_post":
        traded = f"SELECT coalesce(sum(energy_milliwatt_hour), 0) / 1e6 FROM {books.table('ledger')} WHERE kind = 'exchange_settled' AND energy_milliwatt_hour > 0"
    else:
        traded = f"SELECT coalesce(sum(greatest(exchange_kw, 0)), 0) * {world.dt_h!r} FROM {world.table('positions')} WHERE stage = 'settled'"
    price = f"""SELECT -sum(amount_micro_eur) / nullif(sum(energy_milliwatt_hour), 0) FROM {books.table("ledger")}
        WHERE kind LIKE 'exchange\\_%' ESCAPE '\\' AND energy_milliwatt_hour > 0"""
    return {**_row(books, traded, "traded_kwh"), **_row(books, price, "mean_trade_price_eur_per_kwh")}


def _storage(books: Evidence, world: Evidence) -> dict[str, float]:
    ess, dt = world.table("ess"), world.dt_h
    cycles = f"""SELECT sum(e.efficiency_charge * s.charge_kw + s.discharge_kw / e.efficiency_discharge) * {dt!r} / nullif(2 * (SELECT sum(energy_kwh) FROM {ess}), 0)
        FROM {world.table("storage")} s JOIN {ess} e USING (ess_id)"""
    rented = f"""SELECT coalesce((SELECT sum(r.energy_kwh * epoch(r."end" - r.start) / 3600) FROM {world.table("rights")} r JOIN {ess} e USING (ess_id)
            WHERE r.agent_id NOT IN (e.ess_id, e.operator_id)), 0)
        / nullif((SELECT sum(energy_kwh) FROM {ess}) * (SELECT count(DISTINCT time) FROM {world.table("meters")}) * {dt!r}, 0)"""
    margin = (
        f"SELECT {_kept(books, world, 'storage')} - coalesce((SELECT sum(wear_eur) FROM {world.table('storage')}), 0)"
    )
    return {
        **_row(world, cycles, "ess_cycles"),
        **_row(world, rented, "ess_energy_rented_share"),
        **_row(world, margin, "operator_margin_eur"),
    }


def _kept(books: Evidence, world: Evidence, role: str) -> str:
    """Return SQL for what actors of a role are left with by their bills."""
    return f"-coalesce((SELECT sum(amount_eur) FROM {books.table('bills')} SEMI JOIN (FROM {world.table('agents')} WHERE role = '{role}') USING (agent_id)), 0)"


def _welfare(books: Evidence, world: Evidence, reference: Evidence) -> dict[str, float]:
    return {"welfare_gain_eur": _wealth(books, world) - _wealth(reference, reference)}


def _wealth(books: Evidence, world: Evidence) -> float:
    """Return what everybody together is left with: transfers cancel, energy from above and wear remain."""
    transfers = float(books.one(f"SELECT -sum(amount_eur) FROM {books.table('bills')}") or 0.0)
    return transfers - sum(_spent(world))


def _spent(world: Evidence) -> tuple[float, float, float]:
    """Return what energy from above cost (NaN without a price), and the wear of the members' batteries and of the shared ESS. [eur]"""
    dt, wear = world.dt_h, float(world.scenario["people"]["battery_wear_eur_per_kwh"])
    above = world.one(
        f"""SELECT sum(spot.value * (m.kw + coalesce(l.kw, 0))) * {dt!r} FROM
            (SELECT time, sum(meter_kw) AS kw FROM {world.table("meters")} GROUP BY time) m
            LEFT JOIN (SELECT time, sum(loss_kw) FILTER (WHERE NOT isnan(loss_kw)) AS kw FROM {world.table("branch_flows")} GROUP BY time) l USING (time)
            LEFT JOIN (FROM {world.table("series")} WHERE series_id = 'spot') spot USING (time)
            HAVING count(*) = count(spot.value)"""
    )
    at_home = world.one(
        f"""SELECT {wear!r} * {dt!r} * coalesce(sum(battery_charge_kw + battery_discharge_kw), 0)
        FROM {world.table("meters")} WHERE agent_id NOT IN (SELECT ess_id FROM {world.table("ess")})"""
    )
    box = world.one(f"SELECT coalesce(sum(wear_eur), 0) FROM {world.table('storage')}")
    return math.nan if above is None else float(above), float(at_home), float(box)
