"""``docs/kpis.md``, printed from :mod:`sim.kpis` so that names, units and boundaries cannot drift apart.

``python -m sim.kpi_page > docs/kpis.md``; ``tests/test_kpis.py`` fails where the file is not what this prints.
"""

from __future__ import annotations

from sim.kpis import BETTER_OFF_EUR, FIGURES

__all__ = ["markdown"]

_HEAD = """\
# Key figures

Every run has twenty headline figures, each beside the reference run: the same people, data and envelopes without sharing,
without a shared storage, at the retail tariff. They stand in the table `kpis` with value, reference, difference and percent,
and with the boundary at which they are measured. A figure whose denominator is zero is NaN, never zero.

| boundary | what is measured there |
|---|---|
| behind the meter | devices inside a home or storage |
| member meter | each member's own meter, and the bill that follows from it |
| community virtual | N = the sum of all meters, of members and of the shared ESS, in every interval |
| community physical | the source of the feeder: S = N + losses |

## The twenty

| figure | unit | boundary | what it is |
|---|---|---|---|
"""

_TAIL = f"""
Members are the agents of the role `prosumer`. A bill is what a member pays for the whole run, all lines together; credits are
negative. A difference of up to {BETTER_OFF_EUR * 100:g} cent counts as the same bill. Percentages are relative to the size of the
reference, also where that is negative.

**Self-consumption and self-sufficiency** are of the kind "with storage": a battery or shared ESS that takes up solar power
counts as local use, and what it still holds at the end of the run counts too. P is the solar energy delivered, L the members'
load with cars and heat pumps, without what batteries charge.

**Intervals whose power flow did not converge** have no losses, no voltages and no loadings. They are left out of sums and
extremes, and counted in `intervals_outside_limits`.

**The mean trade price** weighs the price of every stage (day ahead, intraday, settled differences) with the energy that was
bought there; energy bought in one stage and sold back in the next counts in both. `traded_kwh` counts only what was settled
in the end.

**The operator's margin** is the balance of the shared ESS's account in the books (rents, fees, firm charges, its own purchases
and sales) less the wear of the box. What the box holds more or less at the end than at the beginning is not valued.

## Welfare, and who gets it

    surplus of a party = − its bills − its wear,      of the retailer also − Σ spot price · S · Δ
    welfare gain       = Σ surplus of all parties, this run − reference

The parties are the members (wear of their own batteries at the scenario's rate per kWh in and out), the operator of the shared
ESS, the aggregators, the retailer, who buys what the community takes (and sells what it gives) at the spot price, the DSO, and
the state. What one pays another stands in the sum twice with opposite signs and cancels; what remains is energy bought above
and wear. The series `spot` is the price above; a run without it has no welfare gain (NaN). Rows of scope `party` show the split,
as `surplus_eur`. Energy left in storages at the end is not valued.

## Beside the twenty

Rows of scope `community` and entity `community` are the twenty. Beside them stand

| scope | figures |
|---|---|
| `party` | `surplus_eur` of each party |
| `member` | `bill_eur` and `curtailed_kwh` of each member |
| `cause` | `curtailed_kwh` and `deferred_kwh` (load of cars and heat pumps held back) by what held the meter: `envelope`, `default` (no message was in force), `ramp`; `market` is the own choice to curtail |
| `day` | `community_cost_eur` of each settlement period |

`ex_post/kpis` has the same figures for the same meters, settled only by the plain sharing rule. `commonwatt certify RUN` computes
all of them once more, in SQL, with other code.
"""


def markdown() -> str:
    """Return ``docs/kpis.md``."""
    rows = "\n".join(f"| `{figure.name}` | {figure.unit} | {figure.boundary} | {figure.says} |" for figure in FIGURES)
    return _HEAD + rows + "\n" + _TAIL


if __name__ == "__main__":
    import sys

    sys.stdout.write(markdown())
