"""How the operator of the shared storage ends a day, beside its wish: ``clearings.end_missed_kwh`` calculated again.

At the gate of a day, and at the last clearing of it, the operator plans its own account to the end of the day (positions of the
stage, in which its own flow is what it buys and does not sell)::

    planned end = account + Σ Δ (η_c n+ − n− / η_d),    n = grid_buy − grid_sell − exchange                        (1)
    wish at the gate of the first day, and of the last clearing = keep + ½ self_discharge E (T − t) Δ + max(−account, 0)
    wish at any other gate = keep = min(0.1 capacity, self_discharge capacity T Δ)                                 (2)
    end_missed_kwh = planned end − wish                                                                            (3)

The first day begins with what is in the box, a later one with what was wished and missed in the last clearing of the day before
that was held by then.

Limits: clearings between the gate and the last hour stand in no position that is kept, and are not looked at.
"""

from __future__ import annotations

from sim.certify_days import days
from sim.certify_evidence import Evidence, Wrong, shown

__all__ = ["ends"]

KWH = 1e-6
"""What is sold is kept in whole milli-watt-hours: so much for every interval. [kWh]"""

LET = 0.95
"""Share of the box that may be rented, which holds what is in it when a day is planned."""

HOUR_US = 3_600_000_000


def ends(evidence: Evidence) -> None:
    """Check (3) at every gate and at the last clearing of every day."""
    boxes = evidence.all(
        f"SELECT ess_id, energy_kwh, efficiency_charge, efficiency_discharge, self_discharge_per_h, initial_kwh FROM {evidence.table('ess')}"
    )
    held = evidence.all(
        f"SELECT stage, epoch_us(opened_at), clearing_id, end_missed_kwh FROM {evidence.table('clearings')} ORDER BY 2"
    )
    if len(boxes) != 1:
        _compare([(name, missed, 0.0, 0) for _, _, name, missed in held])
        return
    box, capacity, *figures, leak, initial = boxes[0]
    dt, account = evidence.dt_h, float(initial)
    gates = [row for row in held if row[0] == "day_ahead"]
    hourly = [row for row in held if row[0] == "intraday"]
    said: list[tuple[str, float, float, int]] = []
    before: list[tuple[int, float]] = []
    for (_, first, last, steps), gate in zip(days(evidence, evidence.table("meters")), gates, strict=True):
        keep = wish = min(0.1 * capacity, leak * capacity * steps * dt)
        if before:
            account = max(keep + max(row for row in before if row[0] < gate[1])[1], 0.0)
        else:
            wish += 0.5 * leak * account * steps * dt
        gained = _gained(evidence, box, "day_ahead", first, last, figures)
        said.append((gate[2], gate[3], min(account, LET * capacity) + gained - wish, steps))
        today = [row for row in hourly if first - HOUR_US <= row[1] < last]
        before = [(row[1], row[3]) for row in (gate, *today)]
        if not today:
            continue
        begins = last + round(dt * HOUR_US) - max(HOUR_US, round(dt * HOUR_US))
        own, energy = _accounts(evidence, box, begins)
        wish = keep + 0.5 * leak * energy * ((last - begins) / HOUR_US + dt) + max(-own, 0.0)
        gained = _gained(evidence, box, "intraday", begins, last, figures)
        said.append((today[-1][2], today[-1][3], max(own, 0.0) + gained - wish, steps))
    _compare(said)


def _accounts(evidence: Evidence, box: str, begins_us: int) -> tuple[float, float]:
    """Return the operator's account and the energy in the box at the start of an interval. [kWh]"""
    rows = evidence.all(
        f"SELECT h.energy_kwh, s.energy_kwh FROM {evidence.table('storage_ledger')} h JOIN {evidence.table('storage')} s USING (time, ess_id) "
        "WHERE h.agent_id = h.ess_id AND ess_id = ? AND epoch_us(time) = ?",
        (box, begins_us),
    )
    if len(rows) != 1:
        raise Wrong(f"table storage_ledger: ess_id {box} has {len(rows)} accounts of its operator, expected 1")
    return float(rows[0][0]), float(rows[0][1])


def _gained(evidence: Evidence, box: str, stage: str, first_us: int, last_us: int, figures: list[float]) -> float:
    """Return what the operator's own flow brings into its account from one interval to another, by (1). [kWh]"""
    into, out = figures
    net = "(grid_buy_kw - grid_sell_kw - exchange_kw)"
    gained = evidence.one(
        f"SELECT sum(greatest({net}, 0) * ? - greatest(-{net}, 0) / ?) FROM {evidence.table('positions')} "
        "WHERE stage = ? AND agent_id = ? AND epoch_us(time) BETWEEN ? AND ?",
        (into, out, stage, box, first_us, last_us),
    )
    return float("nan") if gained is None else float(gained) * evidence.dt_h


def _compare(said: list[tuple[str, float, float, int]]) -> None:
    """Raise for the first clearing whose missed end is not what was calculated."""
    for name, told, expected, steps in said:
        if not abs(told - expected) <= KWH * steps:  # a NaN is wrong too
            raise Wrong(
                f"what the storage's operator holds at the end beyond its wish follows from its plan: clearing_id {name}: end_missed_kwh "
                f"{shown(told)}, expected {shown(expected)}"
            )
