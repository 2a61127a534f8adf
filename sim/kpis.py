"""The key figures: twenty for the community, each beside the reference, with the meter boundary it is measured at.

All are computed from the tables of a run, streamed, so that a year needs no more memory than its intervals.  Energy per
interval is power times Δ; sums over t are over the run.  With M the meters, L the load, P the solar power delivered, C the
solar power given up, ℓ the losses (docs/kpis.md says each in words)::

    N_t = Σ M_i,t            net of all members and the shared ESS ("community virtual")                     (1)
    S_t = N_t + Σ ℓ_t        power at the source ("community physical")                                      (2)
    self-consumption = 1 − Σ max(−N, 0) / Σ P        self-sufficiency = 1 − Σ max(N, 0) / Σ L                (3)
    cycles = Σ (η_c C + R / η_d) Δ / (2 Σ E)                                                                 (4)
    welfare = Σ parties' surplus;  surplus = − bill − wear − (the retailer:) spot price · energy bought above (5)

What one pays another is in (5) twice with opposite signs and cancels: welfare is − spot · Σ S Δ − wear, whatever the prices
inside.  A figure whose denominator is zero is NaN.  :mod:`sim.certify` recomputes all of this in SQL, with other code.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.kpi_sums import Sums, read
from sim.rows import ResultsError

if TYPE_CHECKING:
    from sim.results import Writer

__all__ = ["FIGURES", "HEADLINE", "Figure", "compute", "surplus_eur", "write"]

BETTER_OFF_EUR = 0.005
"""A member is better off when the bill is lower by more than half a cent: less is not seen on a bill. [eur]"""

OUTSIDE = ("retailer", "dso", "state")
"""Accounts that are no member's, operator's or aggregator's."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One headline figure: its name, unit, where it is measured, and what it is."""

    name: str
    unit: str
    boundary: str
    says: str


VIRTUAL, PHYSICAL, MEMBER, BTM = "community virtual", "community physical", "member meter", "behind the meter"

FIGURES = (
    Figure("community_cost_eur", "eur", MEMBER, "the members' bills together"),
    Figure("members_better_off", "members", MEMBER, "members whose bill is lower than in the reference by more than half a cent"),
    Figure("worst_regret_eur", "eur", MEMBER, "the largest amount by which a member's bill is higher than in the reference (negative: everybody gains)"),
    Figure("self_consumption_rate", "1", VIRTUAL, "share of the delivered solar energy that did not leave the community: 1 − Σ max(−N, 0) / Σ P"),
    Figure("self_sufficiency", "1", VIRTUAL, "share of the load that did not come from outside: 1 − Σ max(N, 0) / Σ L"),
    Figure("peak_import_kw", "kW", PHYSICAL, "highest power taken from the grid above"),
    Figure("peak_export_kw", "kW", PHYSICAL, "highest power given to the grid above"),
    Figure("losses_kwh", "kWh", PHYSICAL, "energy lost in lines and transformers"),
    Figure("curtailed_kwh", "kWh", BTM, "solar energy given up"),
    Figure("curtailment_rate", "1", BTM, "share of the available solar energy that was given up"),
    Figure("intervals_outside_limits", "intervals", PHYSICAL, "intervals in which a voltage or loading of the grid was outside its limits, or the power flow did not converge"),
    Figure("v_max_pu", "pu", PHYSICAL, "highest voltage at a bus whose voltage is limited"),
    Figure("v_min_pu", "pu", PHYSICAL, "lowest voltage at a bus whose voltage is limited"),
    Figure("max_loading_percent", "%", PHYSICAL, "highest loading of a line or transformer"),
    Figure("traded_kwh", "kWh", MEMBER, "energy that changed hands inside the community: sales of the settled positions"),
    Figure("mean_trade_price_eur_per_kwh", "eur/kWh", MEMBER, "mean price inside the community, weighted with the volume of every stage"),
    Figure("ess_cycles", "1", BTM, "equivalent full cycles of the shared ESS: Σ (η_c C + R/η_d) Δ / (2 E)"),
    Figure("ess_energy_rented_share", "1", BTM, "share of the shared ESS's kWh-hours that tenants rented"),
    Figure("operator_margin_eur", "eur", MEMBER, "what the operator of the shared ESS is left with: its balance in the books less the wear"),
    Figure("welfare_gain_eur", "eur", PHYSICAL, "gain of all parties together (members, operator, aggregators, retailer, DSO, state) over the reference; what one pays another cancels"),
)  # fmt: skip
"""The headline figures, in order."""

HEADLINE = tuple(figure.name for figure in FIGURES)

FOLDERS = ("tables", "reference", "ex_post")
"""The folders of a run that have key figures."""


def write(writer: Writer) -> None:
    """Compute the key figures of every folder of a run that is sealed, and append them."""
    for section in FOLDERS:
        writer.append(section, "kpis", compute(writer.folder, section))


def compute(folder: Path, section: str = "tables") -> dict[str, Any]:
    """Return the columns of the table ``kpis``.

    Parameters
    ----------
    folder
        A run with its tables (``kpis`` need not be there) and its scenario.
    section
        ``tables``, ``reference`` or ``ex_post``; the last has the meters and the grid of ``tables`` and books of its own.

    Returns
    -------
    dict
        The headline figures (scope ``community``), then the surplus of each party (``party``), bill and curtailed energy of
        each member (``member``), solar energy and load given up by cause (``cause``), and the members' bills of each settlement
        period (``day``).
    """
    dt_h, wear_eur_per_kwh = _settings(folder)
    this, other = read(folder, section, dt_h), read(folder, "reference", dt_h)
    surplus, before = surplus_eur(this, wear_eur_per_kwh), surplus_eur(other, wear_eur_per_kwh)
    values, beside = _headline(this, other, surplus, before), _headline(other, other, before, before)
    rows = [
        _row(
            figure.name,
            "community",
            "community",
            "run",
            figure.boundary,
            figure.unit,
            values[figure.name],
            beside[figure.name],
        )
        for figure in FIGURES
    ]
    rows += [
        _row("surplus_eur", "party", party, "run", PHYSICAL, "eur", surplus[party], before[party]) for party in surplus
    ]
    for name in this.members:
        bill, reference = this.bill_eur.get(name, 0.0), other.bill_eur.get(name, 0.0)
        rows.append(_row("bill_eur", "member", name, "run", MEMBER, "eur", bill, reference))
        lost, unshared = this.curtailed_kwh_of.get(name, 0.0), other.curtailed_kwh_of.get(name, 0.0)
        rows.append(_row("curtailed_kwh", "member", name, "run", BTM, "kWh", lost, unshared))
    for cause, value in _given_up(this).items():
        rows.append(_row("curtailed_kwh", "cause", cause, "run", BTM, "kWh", value, _given_up(other)[cause]))
    for cause, value in this.deferred_kwh_by.items():
        rows.append(_row("deferred_kwh", "cause", cause, "run", BTM, "kWh", value, other.deferred_kwh_by[cause]))
    rows += [
        _row(
            "community_cost_eur",
            "day",
            "community",
            period,
            MEMBER,
            "eur",
            cost,
            other.cost_of_period.get(period, np.nan),
        )
        for period, cost in sorted(this.cost_of_period.items())
    ]
    names = ("kpi", "scope", "entity", "period", "boundary", "unit", "value", "reference", "difference", "percent")
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}


def surplus_eur(sums: Sums, battery_wear_eur_per_kwh: float) -> dict[str, float]:
    """Return what each party is left with, equation (5); the sum over parties is the welfare. [eur]"""

    def kept(names: Iterable[str]) -> float:
        return 0.0 - float(sum(sums.bill_eur.get(name, 0.0) for name in names))

    def of_role(*roles: str) -> list[str]:
        return [name for name, role in sums.role_of.items() if role in roles]

    known = {*sums.members, *of_role("storage", "aggregator"), *OUTSIDE}
    above = float((sums.spot_eur_per_kwh * (sums.net_kw + sums.loss_kw)).sum() * sums.dt_h)
    return {
        "members": kept(sums.members) - battery_wear_eur_per_kwh * sums.battery_kw * sums.dt_h,
        "storage_operator": kept(of_role("storage")) - sums.ess_wear_eur,
        "aggregators": kept(of_role("aggregator")),
        "retailer": kept(["retailer"]) - above,
        "dso": kept(["dso"]),
        "state": kept(["state"]),
        "others": kept(name for name in sums.bill_eur if name not in known),
    }


def _headline(this: Sums, other: Sums, surplus: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    """Return the twenty figures of one world."""
    regret = np.array([this.bill_eur.get(name, 0.0) - other.bill_eur.get(name, 0.0) for name in this.members])
    net, source, dt = this.net_kw, this.net_kw + this.loss_kw, this.dt_h
    return {
        "community_cost_eur": float(sum(this.bill_eur.get(name, 0.0) for name in this.members)),
        "members_better_off": float((regret < -BETTER_OFF_EUR).sum()),
        "worst_regret_eur": float(regret.max()) if regret.size else float("nan"),
        "self_consumption_rate": 1.0 - _ratio(float(np.maximum(-net, 0.0).sum()), this.pv_kw),
        "self_sufficiency": 1.0 - _ratio(float(np.maximum(net, 0.0).sum()), this.load_kw),
        "peak_import_kw": float(source.max(initial=0.0)),
        "peak_export_kw": float((-source).max(initial=0.0)),
        "losses_kwh": float(this.loss_kw.sum() * dt),
        "curtailed_kwh": this.curtailed_kw * dt,
        "curtailment_rate": _ratio(this.curtailed_kw, this.available_kw),
        "intervals_outside_limits": float(this.intervals_outside),
        "v_max_pu": this.v_max_pu,
        "v_min_pu": this.v_min_pu,
        "max_loading_percent": this.max_loading_percent,
        "traded_kwh": this.traded_kwh,
        "mean_trade_price_eur_per_kwh": _ratio(this.exchanged_eur, this.exchanged_kwh),
        "ess_cycles": _ratio(this.through_kwh, 2.0 * this.ess_kwh),
        "ess_energy_rented_share": _ratio(this.rented_kwh_h, this.ess_kwh * len(net) * dt),
        "operator_margin_eur": surplus["storage_operator"],
        "welfare_gain_eur": sum(surplus.values()) - sum(before.values()),
    }


def _given_up(sums: Sums) -> dict[str, float]:
    """Return the solar energy given up by cause: what held the meter, and "market" for the own choice."""
    own = sums.curtailed_kw * sums.dt_h - sum(sums.clipped_kwh_by.values())
    return {**sums.clipped_kwh_by, "market": own if abs(own) > 1e-9 else 0.0}  # a rest of sums


def _row(
    kpi: str, scope: str, entity: str, period: str, boundary: str, unit: str, value: float, reference: float
) -> tuple[Any, ...]:
    difference = value - reference
    percent = 100.0 * _ratio(difference, abs(reference))
    return kpi, scope, entity, period, boundary, unit, value, reference, difference, percent


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float("nan")


def _settings(folder: Path) -> tuple[float, float]:
    """Return the length of an interval [h] and the wear of a member's battery [eur/kWh], which only the scenario knows."""
    from ruamel.yaml import YAML

    file = folder / "scenario.yaml"
    scenario = YAML(typ="safe", pure=True).load(file)
    try:
        return float(scenario["time"]["interval_minutes"]) / 60.0, float(scenario["people"]["battery_wear_eur_per_kwh"])
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{file} does not say {error}; it must be the resolved scenario.") from error
