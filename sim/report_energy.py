"""Where the energy came from and where it went, home by home and interval by interval.

Inside a home solar power serves the load first, then the own battery, then it leaves; the battery serves what load is
left, then what leaves.  What comes in from outside (retailer r, neighbours x, shared storage s) serves the load that is
still open in proportion to its parts, and what leaves goes to its three destinations likewise::

    o = min(pv, load)                        own solar                                                     (1)
    b = min(load − o, battery out)           own battery                                                   (2)
    n = load − o − b                         still open;   k serves n · k / (r + x + s),  k in {r, x, s}   (3)
    p = min(pv − o, battery in)              solar into the own battery                                    (4)
    q = pv − o − p                           leaves;       k gets q · k / (fed in + sold + stored)         (5)

The parts add up to the demand and to the available solar energy in every interval: that is a test.  What the storage
operator trades on its own account counts as shared storage, in the proportion in which it took part in the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.report_tables import RunTables

__all__ = ["SOURCES", "USES", "EnergyFlows", "energy_flows"]

Vector = NDArray[np.float64]

SOURCES = ("own solar", "own battery", "neighbours", "shared storage", "retailer")
USES = ("used at home", "own battery", "neighbours", "shared storage", "fed in", "curtailed")


@dataclass(frozen=True, slots=True, eq=False)
class EnergyFlows:
    """All members together; every array has shape (T,). [kW]"""

    dt_h: float
    demand: Vector
    solar: Vector
    """Available, before curtailment."""
    sources: dict[str, Vector]
    """By :data:`SOURCES`; their sum is the demand."""
    uses: dict[str, Vector]
    """By :data:`USES`; their sum is the solar power."""
    traded_kw: Vector
    """What changed hands inside the community, the storage operator's trades included."""
    bought_kw: Vector
    """From the retailer, by members."""
    fed_kw: Vector
    """To the retailer, by members, solar or not."""

    def kwh(self, power: Vector) -> float:
        """Energy of a power over the run."""
        return float(power.sum() * self.dt_h)

    @property
    def local_share_of_demand(self) -> float:
        """What of the demand the retailer did not deliver. [%]"""
        whole = self.kwh(self.demand)
        return 100.0 * (1.0 - self.kwh(self.sources["retailer"]) / whole) if whole > 0 else np.nan

    @property
    def local_share_of_solar(self) -> float:
        """What of the delivered solar energy was not fed in. [%]"""
        whole = self.kwh(self.solar - self.uses["curtailed"])
        return 100.0 * (1.0 - self.kwh(self.uses["fed in"]) / whole) if whole > 0 else np.nan

    @property
    def curtailed_share(self) -> float:
        """What of the available solar energy was given up. [%]"""
        whole = self.kwh(self.solar)
        return 100.0 * self.kwh(self.uses["curtailed"]) / whole if whole > 0 else np.nan


_FLOWS = """
WITH home AS (
    SELECT m.time, greatest(m.load_kw, 0) AS load, m.pv_kw AS pv, m.curtailed_kw AS curtailed,
           m.battery_charge_kw AS charge, m.battery_discharge_kw + greatest(-m.load_kw, 0) AS discharge,
           coalesce(p.grid_buy_kw, greatest(m.meter_kw, 0)) AS r, coalesce(p.grid_sell_kw, greatest(-m.meter_kw, 0)) AS fed,
           greatest(-coalesce(p.exchange_kw, 0), 0) AS x, greatest(coalesce(p.exchange_kw, 0), 0) AS sold,
           coalesce(p.rented_discharge_kw, 0) AS s, coalesce(p.rented_charge_kw, 0) AS stored
    FROM {world}.meters m JOIN run.agents a USING (agent_id) {positions}
    WHERE a.role = 'prosumer'
), inside AS (
    SELECT *, least(pv, load) AS o, least(load - least(pv, load), discharge) AS b FROM home
), open AS (
    SELECT *, load - o - b AS n, pv - o - least(pv - o, charge) AS q, r + x + s AS came, fed + sold + stored AS went FROM inside
)
SELECT slot(time) AS t, sum(load) AS demand, sum(pv + curtailed) AS solar, sum(o) AS own, sum(b) AS own_battery,
       sum(CASE WHEN came > 0 THEN n * x / came ELSE 0 END) AS from_exchange,
       sum(CASE WHEN came > 0 THEN n * s / came ELSE 0 END) AS from_storage,
       sum(CASE WHEN came > 0 THEN n * r / came ELSE n END) AS from_retailer,
       sum(pv - o - q) AS into_battery,
       sum(CASE WHEN went > 0 THEN q * sold / went ELSE 0 END) AS to_exchange,
       sum(CASE WHEN went > 0 THEN q * stored / went ELSE 0 END) AS to_storage,
       sum(CASE WHEN went > 0 THEN q * fed / went ELSE q END) AS fed_in,
       sum(curtailed) AS curtailed, sum(r) AS bought, sum(fed) AS fed
FROM open GROUP BY 1
"""

_POSITIONS = "LEFT JOIN (SELECT * FROM {world}.positions WHERE stage = 'settled') p USING (time, agent_id)"
_NO_POSITIONS = (
    "CROSS JOIN (SELECT NULL::DOUBLE grid_buy_kw, NULL::DOUBLE grid_sell_kw, NULL::DOUBLE exchange_kw, "
    "NULL::DOUBLE rented_charge_kw, NULL::DOUBLE rented_discharge_kw) p"
)


def energy_flows(tables: RunTables, world: str) -> EnergyFlows | None:
    """Return the flows of a world; None where it has no meters."""
    if not tables.any(world, "meters"):
        return None
    joined = _POSITIONS if tables.any(world, "positions") else _NO_POSITIONS
    found = tables.series(_FLOWS.format(world=world, positions=joined.format(world=world)))
    sold_by_operator, bought_from_operator, traded = _operator_shares(tables, world)
    bought = found["from_exchange"] * bought_from_operator
    sold = found["to_exchange"] * sold_by_operator
    return EnergyFlows(
        dt_h=tables.clock.dt_h,
        demand=found["demand"],
        solar=found["solar"],
        sources={
            "own solar": found["own"],
            "own battery": found["own_battery"],
            "neighbours": found["from_exchange"] - bought,
            "shared storage": found["from_storage"] + bought,
            "retailer": found["from_retailer"],
        },
        uses={
            "used at home": found["own"],
            "own battery": found["into_battery"],
            "neighbours": found["to_exchange"] - sold,
            "shared storage": found["to_storage"] + sold,
            "fed in": found["fed_in"],
            "curtailed": found["curtailed"],
        },
        traded_kw=traded,
        bought_kw=found["bought"],
        fed_kw=found["fed"],
    )


def _operator_shares(tables: RunTables, world: str) -> tuple[Vector, Vector, Vector]:
    """Share of the exchange's sales that the operator bought, of its purchases that it sold, and the volume. [1, 1, kW]"""
    nothing = np.zeros(tables.clock.steps)
    if not tables.any(world, "positions"):
        return nothing, nothing, nothing
    found = tables.series(f"""
        SELECT slot(p.time) AS t, sum(greatest(-exchange_kw, 0)) AS volume,
               sum(CASE WHEN a.role = 'prosumer' THEN 0 ELSE greatest(-exchange_kw, 0) END) AS operator_buys,
               sum(CASE WHEN a.role = 'prosumer' THEN 0 ELSE greatest(exchange_kw, 0) END) AS operator_sells
        FROM {world}.positions p JOIN run.agents a USING (agent_id) WHERE stage = 'settled' GROUP BY 1
    """)
    volume = found["volume"]
    safe = np.where(volume > 0, volume, 1.0)
    return found["operator_buys"] / safe, found["operator_sells"] / safe, volume
