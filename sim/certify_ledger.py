"""Point 6: the books balance, nobody has changed them since, and the bills are their sums.

Every transaction sums to zero in money and in energy.  Every posting has the hash ::

    hash = sha256(previous_hash + json)                                                                            (1)

in lower-case hexadecimal: ``previous_hash`` is the hash of the posting before (empty at the first), ``json`` the posting
as JSON in UTF-8 with sorted keys and no spaces, of account, amount_micro_eur, energy_milliwatt_hour, kind, posting_id,
rule, time (2016-07-18T10:00:00Z) and transaction_id; the two amounts are numbers, everything else is text.  A bill is
the sum of an account's postings of a kind, rule and period with the sign turned round: what is paid is positive.
"""

from __future__ import annotations

from sim.certify_days import period_sql
from sim.certify_evidence import Evidence, Law, Wrong, shown

__all__ = ["books"]

AT_ONCE = 500_000
"""Postings that are looked at together: a year of a hundred homes has tens of millions."""

EUR = 5e-7
"""Half a micro-euro: bills are whole micro-euro written as float64. [eur]"""
EUR_OF_A_SUM = 1e-6
"""Of a sum of some twenty of them, each rounded to float64. [eur]"""

KWH = 5e-7
"""Half a milli-watt-hour, likewise. [kWh]"""

JSON = """'{"account":' || to_json(account) || ',"amount_micro_eur":' || amount_micro_eur
    || ',"energy_milliwatt_hour":' || energy_milliwatt_hour || ',"kind":' || to_json(kind) || ',"posting_id":' || to_json(posting_id)
    || ',"rule":' || to_json(rule) || ',"time":"' || strftime(time AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')
    || '","transaction_id":' || to_json(transaction_id) || '}'"""

METERED = (
    "exchange_day_ahead",
    "exchange_intraday",
    "exchange_settled",
    "rented_flow",
    "retail_energy",
    "feed_in",
    "losses",
)
"""Kinds whose postings carry the energy that they are charged on."""


def books(evidence: Evidence) -> str:
    """Check transactions, the chain, and that bills are sums of postings."""
    rows, ledger = evidence.count("ledger"), evidence.table("ledger")
    if not rows:
        raise Wrong("table ledger is empty")
    times = [row[0] for row in evidence.all(f"SELECT DISTINCT epoch_us(time) FROM {ledger} ORDER BY 1")]
    together = max(1, AT_ONCE * len(times) // rows)
    previous, posting = "", 0
    for first in range(0, len(times), together):
        last = times[min(first + together, len(times)) - 1]
        span = f"epoch_us(time) BETWEEN {times[first]} AND {last}"
        previous, posting = _chain(evidence, f"(FROM {ledger} WHERE {span})", previous, posting)
    _transactions(evidence)
    _accounts(evidence)
    _bills(evidence)
    if evidence.section == "tables":  # alone, people are billed by the retailer itself
        _invoices(evidence)
    return f"{rows} postings balance and hang together by their hashes; bills are their sums; the last hash is {previous[:16]}…"


def _chain(evidence: Evidence, postings: str, previous: str, posting: int) -> tuple[str, int]:
    """Check the links of some postings; return the last hash and posting."""
    number = "CAST(posting_id AS BIGINT)"
    linked = f"""(
        SELECT posting_id, {number} AS number, previous_hash, hash, sha256(previous_hash || {JSON}) AS computed,
            lag(hash, 1, '{previous}') OVER w AS before, lag({number}, 1, {posting}) OVER w AS number_before
        FROM {postings} WINDOW w AS (ORDER BY {number}))"""
    found = evidence.connection.execute(
        f"SELECT posting_id, number_before, previous_hash = before, hash, computed FROM {linked} "
        "WHERE (number = number_before + 1 AND previous_hash = before AND hash = computed) IS NOT TRUE ORDER BY number LIMIT 1"
    ).fetchone()
    if found is not None:
        posting_id, after, linked_up, claimed, computed = found
        if after is None or int(posting_id) != after + 1:
            raise Wrong(f"ledger: posting_id {posting_id} follows {shown(after)}: a posting is missing or out of order")
        if not linked_up:
            raise Wrong(f"ledger: posting_id {posting_id}: previous_hash is not the hash of the posting before")
        raise Wrong(
            f"ledger: posting_id {posting_id}: its hash is {claimed}, expected {computed} (the posting was changed)"
        )
    end = evidence.connection.execute(f"SELECT arg_max(hash, {number}), max({number}) FROM {postings}").fetchone()
    assert end is not None
    return str(end[0]), int(end[1])


def _accounts(evidence: Evidence) -> None:
    """Check that every account is that of an actor; the folder settled ex post has the people of the run."""
    people = evidence.table("agents") if evidence.holds("agents") else '"agents"'
    evidence.none_of(
        "an account is that of an actor of agents",
        f"SELECT DISTINCT account FROM {evidence.table('ledger')} WHERE account NOT IN (SELECT agent_id FROM {people})",
        ("account",),
    )


def _transactions(evidence: Evidence) -> None:
    """Check that every transaction sums to zero, in one interval."""
    source = f"""(
        SELECT transaction_id, sum(amount_micro_eur) AS money, sum(energy_milliwatt_hour) AS energy, count(DISTINCT time) AS times
        FROM {evidence.table("ledger")} GROUP BY transaction_id)"""
    evidence.uphold(
        [
            Law("the postings of a transaction sum to zero micro-euro", source, ("transaction_id",), "money", "0", 0.0),
            Law(
                "the postings of a transaction sum to zero milli-watt-hours",
                source,
                ("transaction_id",),
                "energy",
                "0",
                0.0,
            ),
            Law("a transaction belongs to one interval", source, ("transaction_id",), "times", "1", 0.0),
        ]
    )


def _bills(evidence: Evidence) -> None:
    """Check that bills are the sums of the ledger, line by line, with nothing left out on either side."""
    evidence.count("bills")
    period = period_sql(evidence.scenario, "time")
    source = f"""(
        SELECT agent_id, period, line, rule, b.quantity, b.price_eur, b.amount_eur, l.amount_eur AS booked_eur, l.energy_kwh AS booked_kwh
        FROM {evidence.table("bills")} b
        FULL JOIN (SELECT account AS agent_id, {period} AS period, kind AS line, rule, -sum(amount_micro_eur) / 1e6 AS amount_eur,
            sum(energy_milliwatt_hour) / 1e6 AS energy_kwh FROM {evidence.table("ledger")} GROUP BY ALL) l USING (agent_id, period, line, rule))"""
    keys = ("agent_id", "period", "line", "rule")
    metered = ", ".join(f"'{kind}'" for kind in METERED)
    evidence.uphold(
        [
            Law("a bill's line is the sum of its postings", source, keys, "amount_eur", "booked_eur", EUR),
            Law("a bill's quantity is the energy of its postings", f"(FROM {source} WHERE line IN ({metered}))", keys, "quantity", "booked_kwh", KWH),
            Law("a bill's price times its quantity is its amount", f"(FROM {source} WHERE NOT isnan(price_eur))", keys, "price_eur * quantity", "amount_eur", EUR),
        ]
    )  # fmt: skip


def _invoices(evidence: Evidence) -> None:
    """Check that an aggregator hands on every member's bill as it is, and keeps its fee and nothing else."""
    evidence.count("invoices")
    source = f"""(
        SELECT aggregator_id, agent_id, period, i.passed_through_eur, i.fee_eur, i.total_eur, b.bill_eur, b.billed_fee_eur
        FROM {evidence.table("invoices")} i
        FULL JOIN (SELECT a.aggregator_id, agent_id, period, sum(amount_eur) AS bill_eur,
            coalesce(sum(amount_eur) FILTER (WHERE line = 'aggregator_fee'), 0) AS billed_fee_eur
            FROM {evidence.table("bills")} JOIN {evidence.table("agents")} a USING (agent_id)
            WHERE a.aggregator_id <> '' GROUP BY ALL) b USING (aggregator_id, agent_id, period))"""
    keys = ("aggregator_id", "agent_id", "period")
    evidence.uphold(
        [
            Law("an invoice is the member's bill", source, keys, "total_eur", "bill_eur", EUR_OF_A_SUM),
            Law("an aggregator keeps its fee", source, keys, "fee_eur", "billed_fee_eur", EUR),
            Law("the rest is handed on", source, keys, "passed_through_eur", "bill_eur - billed_fee_eur", EUR_OF_A_SUM),
        ]
    )
