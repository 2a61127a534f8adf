"""Does the manifest say what tables and scenario say?

The manifest is what people read first: how the run ended, of how many homes, what the books and energies sum to.  Every figure
in it that follows from the tables or stands in the scenario is compared with them.

Limits: versions, wall times and the messages that were passed follow from nothing; of the content id only its form can be told, because
it is the hash of data that a run does not carry.
"""

from __future__ import annotations

import json
import re
from typing import Any

from sim.certify_evidence import Evidence, Wrong, shown
from sim.schema import SECTIONS, tables_of

__all__ = ["NAME", "agrees"]

NAME = "manifest"

CONTENT_ID = re.compile(r"[0-9a-f]{64}")


def agrees(evidence: Evidence) -> str:
    """Compare the manifest with scenario and tables."""
    try:
        manifest = json.loads((evidence.folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Wrong(f"manifest.json cannot be read: {type(error).__name__}") from error
    if not isinstance(manifest, dict):
        raise Wrong("manifest.json is no JSON object")
    if not CONTENT_ID.fullmatch(str(manifest.get("content_id"))):
        raise Wrong(f"manifest: content_id is {manifest.get('content_id')}, expected 64 hexadecimal digits")
    wanted = {**_scenario(evidence), **_conservation(evidence), **_breaches(evidence)}
    wanted["not_converged"] = [row[0] for row in evidence.all("SELECT clearing_id FROM clearings WHERE NOT converged ORDER BY 1")]  # fmt: skip
    for place, value in wanted.items():
        _same(manifest, place, value)
    troubles = [_at(manifest, name) for name in ("not_converged", "lost_power_flows", "storage_bounds_left")]
    _same(manifest, "outcome", "not_converged" if any(troubles) else "ok")
    for section in SECTIONS:
        for table in tables_of(section):
            _same(manifest, f"tables/{section}/{table}/rows", Evidence(evidence.connection, evidence.folder, section, evidence.scenario, evidence.dt_h).count(table))  # fmt: skip
    evidence.rows_checked = len(wanted)
    return f"{len(wanted)} figures of the manifest follow from scenario and tables"


def _scenario(evidence: Evidence) -> dict[str, Any]:
    """Return what the scenario says."""
    told, time = evidence.scenario, evidence.scenario["time"]
    return {
        "name": told["name"],
        "seed": told["seed"],
        "currency": told["currency"],
        "interval_minutes": time["interval_minutes"],
        "time_zone": time["time_zone"],
        "days": time["days"],
        "homes": evidence.one("SELECT count(*) FROM agents WHERE role = 'prosumer'"),
    }


def _conservation(evidence: Evidence) -> dict[str, Any]:
    """Return the sums of books and meters, in whole micro-units of money and milli-watt-hours."""
    dt = repr(evidence.dt_h)
    postings, transactions, money, energy, losses, shared = evidence.all(
        "SELECT count(*), count(DISTINCT transaction_id), sum(amount_micro_eur), sum(energy_milliwatt_hour), "
        "sum(energy_milliwatt_hour) FILTER (WHERE kind = 'losses' AND account = 'dso'), "
        "sum(energy_milliwatt_hour) FILTER (WHERE kind = 'exchange_settled' AND energy_milliwatt_hour > 0) FROM ledger"
    )[0]
    meters = evidence.one(f"SELECT sum(round_even(meter_kw * {dt} * 1e6, 0)) FROM meters")
    exchange = evidence.one(f"SELECT sum(round(exchange_kw * {dt} * 1e6)) FROM positions WHERE stage = 'settled'")
    sums = {
        "postings": postings,
        "transactions": transactions,
        "ledger_micro_eur": money,
        "ledger_milliwatt_hour": energy,
        "meters_milliwatt_hour": meters,
        "losses_milliwatt_hour": losses,
        "source_milliwatt_hour": (meters or 0) + (losses or 0),
        "exchange_milliwatt_hour": exchange,
        "shared_milliwatt_hour": shared,
    }
    return {f"conservation/{name}": int(value or 0) for name, value in sums.items()}


def _breaches(evidence: Evidence) -> dict[str, Any]:
    """Return how many breaches of each kind ``violations`` has, in each world."""
    found: dict[str, Any] = {}
    for section, place in (("tables", ""), ("reference", "reference/"), ("unmanaged", "unmanaged/")):
        table = Evidence(evidence.connection, evidence.folder, section, evidence.scenario, evidence.dt_h).table("violations")  # fmt: skip
        found[f"{place}violations"] = dict(evidence.all(f"SELECT kind, count(*) FROM {table} GROUP BY ALL ORDER BY 1"))
    found["lost_power_flows"] = evidence.one("SELECT count(DISTINCT time) FROM violations WHERE kind = 'not_converged'")
    return found


def _at(manifest: dict[str, Any], place: str) -> Any:
    """Return what the manifest says at a place such as ``conservation/postings``."""
    found: Any = manifest
    for name in place.split("/"):
        if not isinstance(found, dict) or name not in found:
            raise Wrong(f"manifest: it does not say {place}")
        found = found[name]
    return found


def _same(manifest: dict[str, Any], place: str, wanted: Any) -> None:
    """Raise where the manifest says something else."""
    told = _at(manifest, place)
    if (sorted(told) if isinstance(told, list) else told) != wanted or isinstance(told, bool):
        raise Wrong(f"manifest: {place} is {shown(told)}, expected {shown(wanted)}")
