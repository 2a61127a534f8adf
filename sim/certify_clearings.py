"""The market as its own tables tell it: was it held when it had to be, and did it end where it says that it ended?

A clearing is held at every gate and, where the scenario plans again, before every hour; forecasts are renewed for it.  Its certificate is ::

    gap = (cost − bound) / max(1, |cost|),   bound <= cost                                                         (1)
    converged  <=>  max(primal, dual) <= tolerance                                                                 (2)

with the tolerance of the scenario, a tenth of it day ahead: what is sold there is paid at its prices, and prices converge
later than costs.  The iteration ends as soon as (2) holds, or when the scenario's iterations are used up.

Limits: that the bound is one, and what a single agent could still gain, follow from prices of every kWh inside the
clearing, which no table holds.
"""

from __future__ import annotations

from sim.certify_days import days, period_sql
from sim.certify_ends import ends
from sim.certify_evidence import Evidence, Law, Wrong, moment
from sim.schema import DAY_AHEAD_TIGHTER

__all__ = ["clearings"]

ROUNDING = 1e-9
"""Of (1), relative to the cost or to one unit of money."""

HOUR_US = 3_600_000_000
GATE_BEFORE_US = 50 * HOUR_US
"""A gate lies on the day before its delivery day, at the earliest at midnight before a day that begins late."""

SECOND_US = 1_000_000


def clearings(evidence: Evidence) -> str:
    """Check when clearings were held, what they say of themselves, and the forecasts that they were given."""
    rows, looks = evidence.count("clearings"), evidence.count("iterations")
    _held(evidence)
    _certificates(evidence)
    _histories(evidence)
    _forecasts(evidence)
    ends(evidence)
    return f"{rows} clearings were held in time and end as their {looks} looks at the residuals say"


def _held(evidence: Evidence) -> None:
    """Check that there is a clearing for every gate and every hour of re-planning, each before what it decides on."""
    step_us = round(evidence.dt_h * HOUR_US)
    per_hour = max(1, HOUR_US // step_us)
    delivery = days(evidence, evidence.table("meters"))
    begins = {
        "day_ahead": [(first, first - GATE_BEFORE_US) for _, first, _, _ in delivery],
        "intraday": [
            (first + step * step_us, first + (step - per_hour) * step_us)
            for _, first, _, steps in delivery
            for step in range(0, steps, per_hour)
            if evidence.scenario["market"]["replanning"] != "off"
        ],
    }
    for stage, wanted in begins.items():
        held = evidence.all(
            f"SELECT epoch_us(opened_at), clearing_id FROM {evidence.table('clearings')} WHERE stage = '{stage}' ORDER BY 1, 2"
        )
        if len(held) != len(wanted):
            raise Wrong(f"table clearings has {len(held)} rows of stage {stage}, expected {len(wanted)}")
        for (opened, name), (begin, earliest) in zip(held, wanted, strict=True):
            if not earliest <= opened < begin:
                raise Wrong(
                    f"a clearing is held before what it decides on: clearing_id {name}: opened_at {moment(opened)}, "
                    f"expected before {moment(begin)} and not before {moment(earliest)}"
                )
    evidence.none_of(
        "a clearing of a stage that has none",
        f"SELECT clearing_id, stage FROM {evidence.table('clearings')} WHERE stage NOT IN ('day_ahead', 'intraday')",
        ("clearing_id", "stage"),
    )


def _certificates(evidence: Evidence) -> None:
    """Check (1) and (2) in every row."""
    market, table, keys = evidence.scenario["market"], evidence.table("clearings"), ("clearing_id",)
    most = int(market["max_iterations"])
    reached = f"greatest(primal_residual, dual_residual) <= {_tolerance(evidence)}"
    size = "greatest(1, abs(cost_eur))"
    evidence.uphold(
        [
            Law("gap = (cost − bound) / max(1, |cost|)", table, keys, "gap", f"(cost_eur - bound_eur) / {size}", ROUNDING),
            Law("no plan costs less than the bound", table, keys, f"(bound_eur - cost_eur) / {size}", "0", ROUNDING, "<="),
            Law("a clearing whose residuals are within the tolerance of its stage has converged", f"(FROM {table} WHERE {reached})", keys, "converged::INT", "1", 0.0),
            Law("a clearing has converged only if its residuals or its gap are within the tolerance of its stage", f"(FROM {table} WHERE converged)", keys, "least(greatest(primal_residual, dual_residual), gap)", _tolerance(evidence), 0.0, "<="),
            Law("a clearing takes no more iterations than the scenario allows", table, keys, "iterations", str(most), 0.0, "<="),
            Law("a clearing that has not converged has used up its iterations", f"(FROM {table} WHERE NOT converged)", keys, "iterations", str(most), 0.0),
        ]
    )  # fmt: skip


def _histories(evidence: Evidence) -> None:
    """Check that every clearing has a history that ends as the clearing does, and not before."""
    table, looks, keys = evidence.table("clearings"), evidence.table("iterations"), ("clearing_id",)
    evidence.none_of(
        "iterations has a clearing that clearings does not know",
        f"SELECT clearing_id, iteration FROM {looks} ANTI JOIN {table} USING (clearing_id)",
        ("clearing_id", "iteration"),
    )
    last = f"""(SELECT clearing_id, c.iterations, c.primal_residual, c.dual_residual, i.iteration AS last, i.primal, i.dual FROM {table} c
        LEFT JOIN (SELECT clearing_id, max(iteration) AS iteration, arg_max(primal_residual, iteration) AS primal,
            arg_max(dual_residual, iteration) AS dual FROM {looks} GROUP BY ALL) i USING (clearing_id))"""
    before = f"""(SELECT clearing_id, iteration, greatest(i.primal_residual, i.dual_residual) AS worst, {_tolerance(evidence)} AS most
        FROM {looks} i JOIN {table} c USING (clearing_id) WHERE i.iteration < c.iterations)"""
    evidence.uphold(
        [
            Law("the last look of a clearing is at its last iteration", last, keys, "last", "iterations", 0.0),
            Law("a clearing's primal residual is that of its last look", last, keys, "primal", "primal_residual", 0.0),
            Law("a clearing's dual residual is that of its last look", last, keys, "dual", "dual_residual", 0.0),
            Law("an iteration goes on only while a residual is too large", before, ("clearing_id", "iteration"), "worst", "most", 0.0, ">="),
            Law("an iteration is counted from one", looks, ("clearing_id", "iteration"), "iteration", "1", 0.0, ">="),
        ]
    )  # fmt: skip
    evidence.none_of(
        "a penalty is positive",
        f"SELECT clearing_id, iteration FROM {looks} WHERE (penalty > 0 AND isfinite(penalty)) IS NOT TRUE",
        ("clearing_id", "iteration"),
    )


def _tolerance(evidence: Evidence) -> str:
    """Return the tolerance of a clearing's stage as SQL."""
    tolerance = float(evidence.scenario["market"]["tolerance"])
    return f"CASE stage WHEN 'day_ahead' THEN {tolerance * DAY_AHEAD_TIGHTER!r} ELSE {tolerance!r} END"


def _forecasts(evidence: Evidence) -> None:
    """Check that day-ahead forecasts are of the gate of their delivery day, and the last ones of the last clearing before."""
    forecasts, table = evidence.table("forecasts"), evidence.table("clearings")
    keys = ("stage", "time", "agent_id")
    evidence.none_of(
        "a forecast was issued only after what it forecasts",
        f"SELECT stage, time, agent_id FROM {forecasts} WHERE issued_at > time",
        keys,
    )
    held = f"(SELECT opened_at FROM {table} WHERE stage = 'intraday')"
    late = f"""SELECT f.stage, f.time, f.agent_id FROM (FROM {forecasts} WHERE stage = 'last') f
        ASOF LEFT JOIN {held} c ON f.time >= c.opened_at
        WHERE (abs(epoch_us(f.issued_at) - epoch_us(c.opened_at)) <= {SECOND_US}) IS NOT TRUE"""
    evidence.none_of("a last forecast is not of the last clearing before its interval", late, keys)
    gates = f"""(SELECT day, opened_at FROM
            (SELECT DISTINCT {period_sql(evidence.scenario, "time")} AS day, dense_rank() OVER (ORDER BY day) AS n FROM {evidence.table("meters")})
        JOIN (SELECT opened_at, row_number() OVER (ORDER BY opened_at) AS n FROM {table} WHERE stage = 'day_ahead') USING (n))"""
    early = f"""SELECT stage, time, agent_id FROM (SELECT *, {period_sql(evidence.scenario, "time")} AS day FROM {forecasts} WHERE stage = 'day_ahead')
        LEFT JOIN {gates} USING (day) WHERE (abs(epoch_us(issued_at) - epoch_us(opened_at)) <= {SECOND_US}) IS NOT TRUE"""
    evidence.none_of("a day-ahead forecast is not of the gate of its delivery day", early, keys)
