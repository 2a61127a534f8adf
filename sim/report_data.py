"""Everything a report says about a run, gathered from its tables once.

:func:`collect` reads; nothing here formats.  A part that the run does not have (no grid, no storage, no market) is
None or empty, and the page then has one sentence instead of empty axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.number_format import currency_sign
from sim.report_energy import EnergyFlows, energy_flows
from sim.report_grid import Breaches, Extremes, FeederMap, Limits, breaches, extremes, feeder_map, limits, source_power
from sim.report_held import Held
from sim.report_held import held as held_rows
from sim.report_money import (
    Bills,
    Figure,
    Members,
    Party,
    PriceCurves,
    StorageAccount,
    bills,
    figures,
    members,
    parties,
    price_curves,
    storage_account,
)
from sim.report_tables import Clock, RunTables, find_key
from sim.schema import DAY_AHEAD_TIGHTER
from sim.sentences import CENT, Outcome

__all__ = ["WORLD_NAMES", "Check", "Clearings", "Grid", "Story", "collect", "tolerances"]

Vector = NDArray[np.float64]

WORLD_NAMES = {"run": "With sharing", "reference": "Reference", "unmanaged": "Without envelopes"}
"""The worlds that have a grid, in the order of their buttons."""

LARGEST_LEDGER = 5_000_000
"""Up to so many postings every transaction is checked; beyond it the sums of the whole books."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The feeder and what it carried in every world."""

    feeder: FeederMap
    limits: Limits
    worlds: tuple[str, ...]
    extremes: dict[str, Extremes]
    breaches: dict[str, Breaches]
    source_kw: dict[str, Vector]

    def count_outside(self, world: str) -> int | None:
        """Intervals outside a limit; None where the world has no grid."""
        return int(self.breaches[world].outside.sum()) if world in self.breaches else None


@dataclass(frozen=True, slots=True, eq=False)
class Clearings:
    """How the market was found; every array has shape (c,)."""

    clearing_id: tuple[str, ...]
    stage: tuple[str, ...]
    slot: Vector
    converged: NDArray[np.bool_]
    iterations: Vector
    above_bound: Vector
    """Cost above the best possible: a percentage would mean nothing where purchases and sales nearly cancel. [currency]"""

    @property
    def worst_above_bound(self) -> float:
        known = self.above_bound[np.isfinite(self.above_bound)]
        return float(known.max()) if known.size else math.nan


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the table of checks."""

    name: str
    worst: float
    unit: str
    tolerance: float
    """NaN where the figure is told, not judged."""

    @property
    def ok(self) -> bool:
        """NaN never passes."""
        return math.isnan(self.tolerance) or self.worst <= self.tolerance


@dataclass(frozen=True, slots=True, eq=False)
class Story:
    """A run as its report tells it."""

    clock: Clock
    currency: str
    title: str
    members: Members
    run_bills: Bills | None
    reference_bills: Bills | None
    ex_post_bills: Bills | None
    figures: dict[str, Figure]
    parties: list[Party]
    flows: EnergyFlows
    reference_flows: EnergyFlows | None
    prices: PriceCurves | None
    storage: StorageAccount | None
    grid: Grid | None
    clearings: Clearings
    has_envelopes: bool
    has_bands: bool
    """Whether envelopes are bands around what was cleared at locational prices."""
    envelope_breaches: int
    held: list[Held]
    """Who was held, by what."""
    curtailed_by_envelopes: float
    """Share of the curtailed energy that envelopes caused. [1]"""
    checks: list[Check]
    outcome: Outcome
    opening_slot: int
    """The moment at which the page opens."""

    @property
    def saving(self) -> Vector:
        """What every member saves against its reference bill, NaN where there is none. Shape (n,)."""
        if self.run_bills is None or self.reference_bills is None:
            return np.full(self.members.n, np.nan)
        return np.asarray(self.reference_bills.total - self.run_bills.total)

    def figure(self, name: str) -> Figure:
        """Return a key figure; NaN where the run does not have it."""
        return self.figures.get(name, Figure(name, math.nan, math.nan, "", ""))

    def hourly_price(self) -> dict[int, float]:
        """Return the mean price of every local hour of the day in which at least 2 % of all energy was traded."""
        weighted = self._final_price()
        if weighted is None:
            return {}
        value, volume = weighted
        hours = np.array([self.clock.local(k).hour for k in range(self.clock.steps)])
        return {
            hour: float((value * volume)[hours == hour].sum() / volume[hours == hour].sum())
            for hour in range(24)
            if volume[hours == hour].sum() > 0.02 * volume.sum()
        }

    def buyers_share(self) -> float:
        """Return which part of the margin between the two outside options buyers kept. [%]"""
        weighted = self._final_price()
        if weighted is None or self.prices is None:
            return math.nan
        value, volume = weighted
        charge = np.zeros_like(value) if self.prices.local_charge is None else self.prices.local_charge
        margin = (self.prices.buy - charge - self.prices.sell) * volume
        kept = (self.prices.buy - charge - value) * volume
        return float(100.0 * np.nansum(kept) / np.nansum(margin)) if np.nansum(margin) > 0 else math.nan

    def _final_price(self) -> tuple[Vector, Vector] | None:
        if self.prices is None or not self.prices.local:
            return None
        value = list(self.prices.local.values())[-1]
        volume = np.where(np.isfinite(value), self.flows.traded_kw, 0.0)
        return np.nan_to_num(value), volume


def collect(tables: RunTables) -> Story:
    """Read a run folder."""
    clock = tables.clock
    who = members(tables)
    found = {world: bills(tables, world, who) for world in ("run", "reference", "ex_post")}
    flows = energy_flows(tables, "run")
    assert flows is not None  # RunTables refuses a run without meters
    has_envelopes = tables.any("run", "envelopes")
    grid = _grid(tables, has_envelopes=has_envelopes)
    held = _clearings(tables)
    caused = tables.rows(
        "SELECT sum(CASE WHEN cause NOT IN ('', 'market') THEN curtailed_kw ELSE 0 END), sum(curtailed_kw) FROM run.meters"
    )[0]
    breached = 0
    if tables.has("run", "violations"):
        breached = int(tables.rows("SELECT count(*) FROM run.violations WHERE kind = 'envelope'")[0][0])
    unbalanced = _unbalanced(tables)
    checks = _checks(tables, grid, held, unbalanced)
    by_envelopes = float(caused[0] / caused[1]) if caused[1] else math.nan
    outcome = _outcome(tables, who, found, flows, grid, held, by_envelopes if has_envelopes else math.nan, unbalanced)
    return Story(
        clock=clock,
        currency=str(tables.manifest.get("currency", "eur")),
        title=str(
            (tables.scenario.get("report") or {}).get("title") or tables.scenario.get("name") or tables.folder.name
        ),
        members=who,
        run_bills=found["run"],
        reference_bills=found["reference"],
        ex_post_bills=found["ex_post"],
        figures=figures(tables),
        parties=parties(tables),
        flows=flows,
        reference_flows=energy_flows(tables, "reference"),
        prices=price_curves(tables),
        storage=storage_account(tables, clock),
        grid=grid,
        clearings=held,
        has_envelopes=has_envelopes,
        has_bands=tables.any("run", "locational_prices"),
        envelope_breaches=breached,
        held=held_rows(tables),
        curtailed_by_envelopes=by_envelopes,
        checks=checks,
        outcome=outcome,
        opening_slot=_opening(grid),
    )


def _grid(tables: RunTables, *, has_envelopes: bool) -> Grid | None:
    """Return the grid; where nobody published envelopes, the world without them is no other picture."""
    feeder = feeder_map(tables)
    if feeder is None:
        return None
    limit = limits(tables)
    extreme = {}
    for world in WORLD_NAMES if has_envelopes else [name for name in WORLD_NAMES if name != "unmanaged"]:
        found = extremes(tables, world, feeder, limit)
        if found is not None:
            extreme[world] = found
    if "run" not in extreme:
        return None
    source = {}
    for world in extreme:
        power = source_power(tables, world)
        source[world] = np.full(tables.clock.steps, np.nan) if power is None else power
    return Grid(feeder, limit, tuple(extreme), extreme, {world: breaches(tables, world) for world in extreme}, source)


def _opening(grid: Grid | None) -> int:
    """The worst moment of the picture before: of the reference, and without envelopes where that was computed."""
    if grid is None:
        return 0
    for world in ("unmanaged", "reference", "run"):
        if world in grid.extremes:
            return grid.extremes[world].worst_slot
    return 0


def _clearings(tables: RunTables) -> Clearings:
    if not tables.any("run", "clearings"):
        return Clearings((), (), np.zeros(0), np.zeros(0, dtype=bool), np.zeros(0), np.zeros(0))
    clock = tables.clock
    found = tables.columns(
        f"SELECT clearing_id, stage, (epoch_us(opened_at) / 1e6 - {clock.start_s}) / {clock.step_s} AS slot, converged, iterations, cost_eur - bound_eur AS above "
        "FROM run.clearings ORDER BY opened_at, clearing_id"
    )
    return Clearings(
        tuple(str(v) for v in found["clearing_id"]),
        tuple(str(v) for v in found["stage"]),
        found["slot"].astype(float),
        found["converged"].astype(bool),
        found["iterations"].astype(float),
        found["above"].astype(float),
    )


def _outcome(
    tables: RunTables,
    who: Members,
    found: dict[str, Bills | None],
    flows: EnergyFlows,
    grid: Grid | None,
    held: Clearings,
    by_envelopes: float,
    unbalanced: int,
) -> Outcome:
    now, before = found["run"], found["reference"]
    saving = before.total - now.total if now is not None and before is not None else np.full(who.n, np.nan)
    return Outcome(
        members=who.n,
        bills=float(now.total.sum()) if now is not None else math.nan,
        reference_bills=float(before.total.sum()) if before is not None else math.nan,
        winners=int((saving > CENT).sum()),
        losers=int((saving < -CENT).sum()),
        worst_loss=float(max(0.0, -np.nanmin(saving))) if np.isfinite(saving).any() else 0.0,
        traded_kwh=flows.kwh(flows.traded_kw),
        outside=grid.count_outside("run") if grid else None,
        reference_outside=grid.count_outside("reference") if grid else None,
        unmanaged_outside=grid.count_outside("unmanaged") if grid else None,
        failed=int(grid.breaches["run"].failed.sum()) if grid else 0,
        clearings=len(held.clearing_id),
        unconverged=int((~held.converged).sum()),
        unbalanced=unbalanced,
        held_back_percent=flows.curtailed_share * by_envelopes
        if math.isfinite(flows.curtailed_share * by_envelopes)
        else 0.0,
        same_reference=_same_reference(tables),
    )


def _unbalanced(tables: RunTables) -> int:
    """Transactions that do not sum to zero, in money or in energy."""
    if not tables.any("run", "ledger"):
        return 0
    postings = int(tables.rows("SELECT count(*) FROM run.ledger")[0][0])
    group = "transaction_id" if postings <= LARGEST_LEDGER else "1"
    return int(
        tables.rows(
            f"SELECT count(*) FROM (SELECT 1 FROM run.ledger GROUP BY {group} HAVING sum(amount_micro_eur) <> 0 OR sum(energy_milliwatt_hour) <> 0)"
        )[0][0]
    )


def _same_reference(tables: RunTables) -> bool:
    """Whether the reference has the same members and saw the same sun and the same household load."""
    if not tables.any("reference", "meters"):
        return False
    sums = [
        tables.rows(
            f"SELECT count(*), sum(pv_available_kw), sum(base_load_kw) FROM {world}.meters m JOIN run.agents a USING (agent_id) WHERE a.role = 'prosumer'"
        )[0]
        for world in ("run", "reference")
    ]
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9) for a, b in zip(*sums, strict=True))


def _checks(tables: RunTables, grid: Grid | None, held: Clearings, unbalanced: int) -> list[Check]:
    """Recompute the balances from the tables; a check of what the run does not have is left out."""

    def number(sql: str) -> float:
        value = tables.rows(sql)[0][0]
        return math.nan if value is None else float(value)

    def worst(difference: str, source: str) -> float:
        # a missing number is a NaN, which is larger than any number: it never passes
        return number(f"SELECT max(coalesce(abs({difference}), 'nan'::DOUBLE)) FROM {source}")

    found = [
        Check("Power at every meter adds up", worst(
            "meter_kw - load_kw - battery_charge_kw + battery_discharge_kw + pv_kw", "run.meters"
        ), "kW", 1e-6),
        Check("Solar delivered and curtailed is solar available", worst("pv_available_kw - pv_kw - curtailed_kw", "run.meters"), "kW", 1e-6),
    ]  # fmt: skip
    if tables.any("run", "positions"):
        settled = "(FROM run.positions WHERE stage = 'settled')"
        found.append(Check("Settled positions are what the meters saw", worst(
            "grid_buy_kw - grid_sell_kw - exchange_kw + rented_discharge_kw - rented_charge_kw - meter_kw",
            f"{settled} LEFT JOIN run.meters USING (time, agent_id)",
        ), "kW", 1e-5))  # fmt: skip
        found.append(Check("What is sold inside is bought inside", worst(
            "s", f"(SELECT sum(exchange_kw) AS s FROM {settled} GROUP BY time)"
        ), "kW", 1e-5))  # fmt: skip
    if tables.any("run", "storage_ledger"):
        found.append(Check("The holders’ energies are the storage’s energy", worst(
            "h - energy_kwh",
            "run.storage LEFT JOIN (SELECT time, ess_id, sum(energy_kwh) AS h FROM run.storage_ledger GROUP BY 1, 2) USING (time, ess_id)",
        ), "kWh", 1e-6))  # fmt: skip
    if tables.any("run", "ledger"):
        unit = "µ" + currency_sign(str(tables.manifest.get("currency", "eur")))
        found.append(
            Check("Money in is money out", abs(number("SELECT sum(amount_micro_eur) FROM run.ledger")), unit, 0.0)
        )
        found.append(Check("Transactions that do not sum to zero", float(unbalanced), "", 0.0))
    if grid is not None:
        found.append(Check("Power from above is the meters and the losses", worst("m + l - p", """
            (SELECT time, sum(meter_kw) AS m FROM run.meters GROUP BY 1)
            JOIN (SELECT f.time, sum(f.loss_kw) AS l, sum(CASE WHEN b.from_bus = s.bus_id THEN f.p_kw WHEN b.to_bus = s.bus_id
                  THEN f.loss_kw - f.p_kw ELSE 0 END) AS p FROM run.branch_flows f JOIN run.branches b USING (branch_id),
                  (SELECT bus_id FROM run.buses WHERE is_source) s GROUP BY 1) USING (time)
            WHERE isfinite(p)
        """), "kW", 1e-3))  # fmt: skip
        found.append(
            Check(
                f"{tables.clock.interval(2).capitalize()} without a power flow",
                float(grid.breaches["run"].failed.sum()),
                "",
                0.0,
            )
        )
    if held.clearing_id:
        found.append(Check("Clearings that did not converge", float((~held.converged).sum()), "", 0.0))
        if math.isfinite(held.worst_above_bound):
            found.append(
                Check(
                    "Cost above the best possible, worst clearing",
                    held.worst_above_bound,
                    currency_sign(str(tables.manifest.get("currency", "eur"))),
                    math.nan,
                )
            )
        found += _missed_ends(number)
    for stage, tolerance in tolerances(tables).items() if held.clearing_id else ():
        residual = number(
            f"SELECT max(greatest(primal_residual, dual_residual)) FROM run.clearings WHERE converged AND stage = '{stage}'"
        )
        if math.isfinite(residual):
            found.append(Check(f"Residual of converged clearings, {stage.replace('_', ' ')}", residual, "", tolerance))
    return found


def _missed_ends(number: Callable[[str], float]) -> list[Check]:
    """Return by how much the shared storage's operator misses, at most, what it wishes to hold at the end of a day; nothing where it does not."""
    if not number("SELECT count(*) FROM (DESCRIBE run.clearings) WHERE column_name = 'end_missed_kwh'"):
        return []  # a run of an earlier version
    missed = number("SELECT max(abs(end_missed_kwh)) FROM run.clearings WHERE isfinite(end_missed_kwh)")
    if not missed > 0.0:
        return []
    return [Check("Shared storage at the end of a day, beside its operator’s wish", missed, "kWh", math.nan)]


def tolerances(tables: RunTables) -> dict[str, float]:
    """Return the largest residuals at which clearings of each stage end; empty where the scenario does not say."""
    told = find_key(tables.scenario, "tolerance")
    return {} if told is None else {"day_ahead": float(told) * DAY_AHEAD_TIGHTER, "intraday": float(told)}
