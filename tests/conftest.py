"""Two cases whose answers are known: New England, at the end, and a tiny run: three homes, a shared storage, eight hours, one line.

What happens is written down below, not simulated.  Anna has the sun and a battery, Ben rents most of the storage, Cleo
charges her car.  The power flow of one line is a quadratic equation, the states are sums; only the settlement is the
product's own, so that a check that agrees with it agrees with a second implementation.

The line: bus b1 hangs on an ideal source of 400 V at b0.  With the injection P + jQ at b1 and u0 = 400 V, the squared
voltage u of b1 solves  u² − (u0² + 2 (r P + x Q)) u + (r² + x²)(P² + Q²) = 0.
"""

from __future__ import annotations

import os

# As the command line does, and before NumPy is there: many small products, which threads make slower.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from pathlib import Path

import numpy as np
import pytest

from market.bills import bills
from market.curves import Curves
from market.delivery import Delivery, Handovers, Rents, Sharing
from market.ledger import Chain
from market.settlement import settle
from market.tariffs import Dynamic, Period, Tariff, TimeOfUse
from sim import kpis
from sim.results import Writer, blocks

HOMES = ("anna", "ben", "cleo")
ALL = (*HOMES, "ess")
HOURS = 8
TIMES = np.datetime64("2030-06-03T14:00", "s") + np.arange(HOURS) * np.timedelta64(3600, "s")  # 16:00 in Berlin
END = TIMES[-1] + np.timedelta64(3600, "s")
GATE = np.datetime64("2030-06-02T09:00", "s")
ISSUED = np.datetime64("2030-06-02T08:00", "s")
ETA = 0.9
R_OHM, X_OHM = 0.05, 0.02
SPOT = np.array([0.05, 0.04, 0.03, 0.06, 0.20, 0.25, 0.15, 0.10])
LAMBDA = np.array([0.10, 0.10, 0.11, 0.12, 0.21, 0.24, 0.20, 0.15])
DAY = "2030-06-03"

SCENARIO = """\
name: tiny
seed: 1
currency: eur
time: {start: "2030-06-03T16:00", days: 1, interval_minutes: 60, time_zone: Europe/Berlin, delivery_day_start: "00:00", holidays: []}
grid: {source: tiny, v_min_pu: 0.95, v_max_pu: 1.05, loading_max_percent: 100.0}
people:
  from: list
  homes:
  - {id: anna, bus: b1, load: {profile: H0}, solar: {kw_peak: 7.0}, battery: {kwh: 2.0, charge_kw: 1.0, discharge_kw: 1.0, initial_kwh: 0.0}, aggregator: bundler}
  - {id: ben, bus: b1, load: {profile: H0}, aggregator: bundler}
  - {id: cleo, bus: b1, load: {profile: H0}, ev: {kw: 11.0, count: 1}, tariff: night}
  rules: []
  battery_efficiency_charge: 0.9
  battery_efficiency_discharge: 0.9
  battery_wear_eur_per_kwh: 0.01
aggregators:
- {id: bundler, fee_eur_per_day: 0.02}
tariffs:
  dynamic:
    energy_eur_per_kwh: {series: spot, add_eur_per_kwh: 0.02}
    network_eur_per_kwh: 0.1
    levies_eur_per_kwh: 0.05
    vat_percent: 19.0
    feed_in_eur_per_kwh: 0.08
    fixed_eur_per_day: 0.25
    local: {network_share: 0.5, levies_share: 1.0}
  night:
    energy_eur_per_kwh:
      periods:
      - {from: "06:00", to: "21:00", price_eur_per_kwh: 0.2, days: all}
      - {from: "21:00", to: "06:00", price_eur_per_kwh: 0.09, days: all}
    network_eur_per_kwh: 0.1
    levies_eur_per_kwh: 0.05
    vat_percent: 19.0
    feed_in_eur_per_kwh: 0.07
    fixed_eur_per_day: 0.0
    local: {network_share: 0.5, levies_share: 1.0}
storage:
- {id: ess, bus: b1, energy_kwh: 4.0, charge_kw: 2.0, discharge_kw: 2.0, wear_eur_per_kwh: 0.01, firm_charge: {offer_kw: 0.5, price_eur_per_kwh: 0.03}}
series:
  spot: {from: table, file: prices.csv}
market: {mechanism: exchange, replanning: tradable, tolerance: 1.0e-3, max_iterations: 200}
dso: {envelopes: true, rule: proportional, mode: deterministic, lifting: true, enforcement: pv_battery_flexible}
settlement: {rule: alloc.prorata, price: price.mmr}
"""

TARIFFS = (
    Tariff("dynamic", Dynamic("spot", 0.02), 0.1, 0.05, 0.19, 0.08, 0.25, 0.5, 1.0),
    Tariff("night", TimeOfUse((Period("06:00", "21:00", 0.2), Period("21:00", "06:00", 0.09))), 0.1, 0.05, 0.19, 0.07, 0.0, 0.5, 1.0),
)  # fmt: skip


def hours(*values):
    """One number per hour, the rest zero."""
    return np.array([*values, *([0.0] * (HOURS - len(values)))], dtype=float)


# --- what happens at home ---------------------------------------------------------------------------------------------

BASE = np.array([[1.0] * 8, [1, 1, 2, 2, 3, 3, 2, 1], [0.5] * 8])
CAR = np.array([hours(), hours(), hours(0, 0, 0, 3, 3)])
SUN = np.array([hours(6, 5, 4, 2), hours(), hours()])
GIVEN_UP = np.array([hours(1), hours(), hours()])  # anna may export 3 kW and would have exported 4
BATTERY_IN = np.array([hours(1, 1), hours(), hours()])
BATTERY_OUT = np.array([hours(0, 0, 0, 0, 0, 0.81, 0.81), hours(), hours()])
BATTERY = np.array([hours(0, 0.9, 1.8, 1.8, 1.8, 1.8, 0.9), hours(), hours()])

# --- and in the shared storage: ben fills and empties his share, anna leaves something, the operator keeps a promise -----

TENANT_IN = np.array([hours(0, 0, 0, 0, 0.4), hours(1, 1), hours()])
TENANT_OUT = np.array([hours(), hours(0, 0, 0, 0, 0.81, 0.81), hours()])
OWN_IN, OWN_OUT = hours(0, 0, 0.5), hours(0, 0, 0, 0, 0, 0, 0.405)
FIRM = hours(0, 0, 0.5)
HELD = np.array([hours(0, 0, 0, 0, 0, 0.36, 0.36, 0.36), hours(0, 0.9, 1.8, 1.8, 1.8, 0.9), hours()])
BOX_IN = np.array([1, 1, 0.5, 0, 0, 0, 0, 0])
BOX_OUT = np.array([0, 0, 0, 0, 0.41, 0.81, 0.405, 0])
BOX = np.array([0, 0.9, 1.8, 2.25, 2.25, 2.25 - 0.41 / 0.9, 2.25 - 1.22 / 0.9, 2.25 - 1.625 / 0.9])
SAVED = hours(0, 0, 0, 0, 0.4 * (1 / ETA - ETA))  # 0.4 kW of ben's 0.81 came straight from anna

# --- what was sold before: anna to ben -----------------------------------------------------------------------------------

DAY_AHEAD = np.array([hours(2, 2, 1), hours(-2, -2, -1), hours(), hours()])
INTRADAY = np.array([hours(2.5, 2, 1), hours(-2.5, -2, -1), hours(), hours()])


def flow(meter_kw, meter_kvar):
    """The line's voltages and flows by the quadratic equation in the docstring of this file; shapes (n, T)."""
    p, q = -meter_kw.sum(axis=0) * 1e3, -meter_kvar.sum(axis=0) * 1e3
    b = 400.0**2 + 2 * (R_OHM * p + X_OHM * q)
    u = (b + np.sqrt(b**2 - 4 * (R_OHM**2 + X_OHM**2) * (p**2 + q**2))) / 2
    square = (p**2 + q**2) / u  # three times the squared current
    current, loss = np.sqrt(square / 3), square * R_OHM / 1e3
    return {
        "v_pu": np.stack([np.ones(HOURS), np.sqrt(u) / 400.0]),
        "p_kw": -p / 1e3 + loss,
        "q_kvar": -q / 1e3 + square * X_OHM / 1e3,
        "current_a": current,
        "loading_percent": current / 100.0 * 100.0,
        "loss_kw": loss,
    }


def write_grid(append, meter_kw, meter_kvar):
    """Voltages and flows of one world; nothing is outside its limits."""
    flows = flow(meter_kw, meter_kvar)
    append("bus_voltages", blocks(TIMES, ["b0", "b1"], "bus_id", phase="abc", v_pu=flows.pop("v_pu")))
    append("branch_flows", blocks(TIMES, ["line"], "branch_id", phase="abc", **{k: v[None] for k, v in flows.items()}))
    return flows["loss_kw"]


def write_meters(append, given_up, box):
    """The meters of one world: homes, and the storage where there is one."""

    def rows(homes, storage=0.0):
        return np.vstack([homes, np.broadcast_to(storage, HOURS)]) if box else np.asarray(homes)

    pv = SUN - given_up
    meter = rows(BASE + CAR + BATTERY_IN - BATTERY_OUT - pv, BOX_IN - BOX_OUT)
    kvar = rows(0.2 * BASE)
    append("meters", blocks(
        TIMES, ALL if box else HOMES, base_load_kw=rows(BASE), ev_kw=rows(CAR), heat_pump_kw=0.0, load_kw=rows(BASE + CAR),
        pv_available_kw=rows(SUN), pv_kw=rows(pv), battery_charge_kw=rows(BATTERY_IN, BOX_IN), battery_discharge_kw=rows(BATTERY_OUT, BOX_OUT),
        battery_kwh=rows(BATTERY, BOX), meter_kw=meter, meter_kvar=kvar, curtailed_kw=rows(given_up), shifted_kw=0.0,
        cause=np.where(rows(given_up) > 0, "envelope_export", ""),
    ))  # fmt: skip
    return meter, kvar


def write_fixed(append, box):
    """Who there is, and the feeder."""
    nan = float("nan")
    people = {
        "agent_id": list(HOMES), "role": ["prosumer"] * 3, "bus_id": ["b1"] * 3, "aggregator_id": ["bundler", "bundler", ""],
        "tariff_id": ["dynamic", "dynamic", "night"], "pv_kw_peak": [7.0, 0, 0], "battery_kwh": [2.0, 0, 0],
        "battery_charge_kw": [1.0, 0, 0], "battery_discharge_kw": [1.0, 0, 0], "battery_efficiency_charge": [ETA] * 3,
        "battery_efficiency_discharge": [ETA] * 3, "battery_initial_kwh": [0.0] * 3, "ev_count": [0, 0, 1],
        "heat_pump_kw": [0.0] * 3, "load_profile": ["H0"] * 3,
    }  # fmt: skip
    others = [("ess", "storage", "b1", "dynamic")] if box else []
    for who, role, bus, tariff in [
        *others,
        ("bundler", "aggregator", "", ""),
        ("retailer", "retailer", "", ""),
        ("dso", "dso", "", ""),
        ("state", "state", "", ""),
    ]:
        fill = {
            "agent_id": who,
            "role": role,
            "bus_id": bus,
            "tariff_id": tariff,
            "aggregator_id": "",
            "load_profile": "",
            "ev_count": 0,
        }
        for name, column in people.items():
            column.append(fill.get(name, nan if "efficiency" in name else 0.0))
    append("agents", {**people, "phase": "abc"})
    append("buses", {
        "bus_id": ["b0", "b1"], "v_nominal_v": 400.0, "is_source": [True, False], "source_v_pu": [1.0, nan],
        "source_short_circuit_va": [1e16, nan], "source_rx_ratio": [0.1, nan], "x": [0.0, 100.0], "y": 0.0, "is_monitored": [False, True],
    })  # fmt: skip
    transformer = dict.fromkeys(
        [
            "sn_kva",
            "v_from_v",
            "v_to_v",
            "uk_percent",
            "pk_kw",
            "i0_percent",
            "p0_kw",
            "clock",
            "tap_position",
            "tap_step_percent",
        ],
        nan,
    )
    append("branches", {
        "branch_id": "line", "kind": "line", "in_service": True, "from_bus": "b0", "to_bus": "b1", "r1_ohm": R_OHM, "x1_ohm": X_OHM,
        "c1_nf": 0.0, "r0_ohm": nan, "x0_ohm": nan, "c0_nf": nan, "rating_a": 100.0, "tap_side": "", "length_m": 100.0, **transformer,
    })  # fmt: skip
    if box:
        append("ess", {
            "ess_id": "ess", "operator_id": "ess", "bus_id": "b1", "phase": "abc", "energy_kwh": 4.0, "charge_kw": 2.0, "discharge_kw": 2.0,
            "efficiency_charge": ETA, "efficiency_discharge": ETA, "self_discharge_per_h": 0.0, "initial_kwh": 0.0,
        })  # fmt: skip


def write_storage(append):
    """The box and its holders."""
    append("storage", {
        "time": TIMES, "ess_id": "ess", "charge_kw": BOX_IN, "discharge_kw": BOX_OUT, "energy_kwh": BOX,
        "loss_kwh": BOX_IN * (1 - ETA) + BOX_OUT * (1 / ETA - 1), "netting_gain_kwh": SAVED, "wear_eur": 0.01 * (BOX_IN + BOX_OUT),
    })  # fmt: skip
    append("storage_ledger", blocks(
        TIMES, ALL, ess_id="ess", charge_kw=np.vstack([TENANT_IN, OWN_IN]), discharge_kw=np.vstack([TENANT_OUT, OWN_OUT]),
        energy_kwh=np.vstack([HELD, BOX - HELD.sum(axis=0)]),
    ))  # fmt: skip
    append("rights", {
        "stage": "day_ahead", "right_id": ["r-anna", "r-ben"], "ess_id": "ess", "agent_id": ["anna", "ben"], "start": TIMES[0], "end": END,
        "energy_kwh": [0.5, 2.0], "power_kw": [0.5, 1.0], "rent_energy_eur_per_kwh": 0.05, "rent_power_eur_per_kw": 0.02, "firm": True,
    })  # fmt: skip


def delivery(meter_kw, loss_kw, prices, *, box, traded):
    """What the settlement is given."""
    agents = ALL if box else HOMES
    more = {"ess_row": (3,)} if box else {}
    if traded:
        more |= {
            "day_ahead_kw": DAY_AHEAD, "day_ahead_price_eur_per_kwh": LAMBDA, "intraday_kw": INTRADAY, "intraday_price_eur_per_kwh": LAMBDA + 0.01,
            "rented_charge_kw": np.vstack([TENANT_IN, OWN_IN])[None], "rented_discharge_kw": np.vstack([TENANT_OUT, OWN_OUT])[None],
            "throughput_fee_eur_per_kwh": np.array([0.01]), "firm_charge_kw": FIRM[None], "firm_price_eur_per_kwh": 0.03,
            "rents": Rents(("r-anna", "r-ben"), np.array([0, 1]), np.array([0, 0]), np.array([0.5, 2.0]), np.array([0.5, 1.0]), np.full(2, 0.05), np.full(2, 0.02)),
            "handovers": Handovers(("r-anna",), np.array([0]), np.array([0]), np.array([7]), np.array([0.36]), np.array([0.16])),
            "aggregator_id": ("bundler", "bundler", "", ""), "aggregator_fee_eur_per_day": np.array([0.02, 0.02, 0.0, 0.0]),
        }  # fmt: skip
    return Delivery(
        agent_id=agents, times=TIMES, dt_h=1.0, meter_kw=meter_kw, tariff_id=("dynamic", "night"), prices=prices,
        tariff=np.array([0, 0, 1, 0])[: len(agents)], fixed_eur_per_day=np.array([0.25, 0.0]),
        sharing=Sharing(only_if_worthwhile=True) if box else Sharing("alloc.none"),
        loss_kwh=loss_kw, loss_price_eur_per_kwh=prices[0].energy, **more,
    )  # fmt: skip


def write_books(append, settled):
    append("ledger", settled.ledger.columns())
    billed = bills(settled.ledger, TIMES[:1], [DAY])
    append("bills", billed.columns())
    return billed


def write_invoices(append, billed):
    """Anna and Ben are invoiced by their aggregator: their bills, its fee among them."""
    members = ("anna", "ben")
    total, fee = (
        [billed.amount_eur[(billed.agent_id == who) & np.isin(billed.line, lines)].sum() for who in members]
        for lines in (np.unique(billed.line), ["aggregator_fee"])
    )
    append("invoices", {
        "aggregator_id": "bundler", "agent_id": list(members), "period": DAY, "total_eur": np.array(total), "fee_eur": np.array(fee),
        "passed_through_eur": np.array(total) - np.array(fee),
    })  # fmt: skip


def write_positions(append, settled, agents, prices, *, traded):
    """Positions and prices of all stages."""
    if traded:
        mirror_in, mirror_out = (
            np.vstack([TENANT_IN, TENANT_OUT.sum(axis=0)]),
            np.vstack([TENANT_OUT, TENANT_IN.sum(axis=0)]),
        )
        for stage, sale in (("day_ahead", DAY_AHEAD), ("intraday", INTRADAY)):
            append("positions", blocks(
                TIMES, agents, stage=stage, exchange_kw=sale, rented_charge_kw=mirror_in, rented_discharge_kw=mirror_out, grid_buy_kw=0.0, grid_sell_kw=0.0,
            ))  # fmt: skip
    names = ("exchange", "rented_charge", "rented_discharge", "grid_buy", "grid_sell")
    source = {"exchange": "settled"}
    append(
        "positions", blocks(TIMES, agents, stage="settled", **{f"{n}_kw": settled.kw(source.get(n, n)) for n in names})
    )
    nothing = np.full(HOURS, np.nan)
    stages = (
        {"day_ahead": LAMBDA, "intraday": LAMBDA + 0.01, "settled": settled.price_eur_per_kwh}
        if traded
        else {"settled": nothing}
    )
    for stage, price in stages.items():
        append("prices", blocks(
            TIMES, ["dynamic", "night"], "tariff_id", stage=stage, energy_eur_per_kwh=price[None],
            retail_buy_eur_per_kwh=np.array([p.buy for p in prices]), retail_sell_eur_per_kwh=np.array([p.sell for p in prices]),
        ))  # fmt: skip


def write_market(append, box):
    """Forecasts, and the clearings that they were made for: one at the gate, one before every hour; the last gives up."""
    opened = np.concatenate([[GATE], TIMES - np.timedelta64(300, "s")])
    names = ["gate", *(f"hour-{k}" for k in range(HOURS))]
    for stage, issued, error in (("day_ahead", GATE, 0.9), ("last", opened[None, 1:], 0.99)):
        append("forecasts", blocks(TIMES, HOMES, issued_at=issued, stage=stage, load_kw=BASE + CAR, pv_kw=error * SUN))
    count = np.array([60, *[40] * (HOURS - 1), 200])
    residual = np.array([9e-5, *[9e-4] * (HOURS - 1), 2e-3])
    cost, short = np.array([-20.0, *np.linspace(0.1, 4.0, HOURS)]), np.array([*[0.002] * HOURS, 0.02])
    append("clearings", {
        "clearing_id": names, "stage": ["day_ahead", *["intraday"] * HOURS], "opened_at": opened, "converged": residual < 1.5e-3, "iterations": count,
        "primal_residual": residual, "dual_residual": residual / 2, "cost_eur": cost, "bound_eur": cost - short, "gap": short / np.maximum(1.0, np.abs(cost)),
        "max_agent_kkt": 1e-4, "end_missed_kwh": np.array([*[0.0] * HOURS, BOX[-1] - HELD[:, -1].sum() if box else 0.0]),
    })  # fmt: skip
    append("iterations", {
        "clearing_id": [name for name in names for _ in range(2)], "iteration": np.stack([count - 20, count], axis=1).ravel(),
        "primal_residual": np.stack([residual, residual], axis=1).ravel(), "dual_residual": np.stack([residual * 20, residual / 2], axis=1).ravel(), "penalty": 0.2,
    })  # fmt: skip


def write_world(writer, section, *, box):
    """One of the two worlds with books of their own: the run, or the reference."""

    def append(table, columns):
        writer.append(section, table, columns)

    write_fixed(append, box)
    append("series", {"time": TIMES, "series_id": "spot", "value": SPOT, "unit": "eur/kWh"})
    meter, kvar = write_meters(append, GIVEN_UP, box)
    step, home = np.nonzero(np.asarray(GIVEN_UP).T > 0)
    append("enforcement", {
        "time": TIMES[step], "agent_id": [HOMES[k] for k in home], "cause": "envelope_export", "rule": "pv_battery_flexible",
        "limit_kw": -meter[home, step], "clipped_kw": np.asarray(GIVEN_UP)[home, step], "battery_kw": 0.0, "deferred_kw": 0.0, "beyond_kw": 0.0,
    })  # fmt: skip
    loss = write_grid(append, meter, kvar)
    write_market(append, box)
    held = ["anna", "cleo", "ess"] if box else ["anna", "cleo"]
    limits = np.array([3.0, 10.0, 10.0])[: len(held)]
    append("envelopes", blocks(
        TIMES, held, issued_at=ISSUED, import_limit_kw=5.0, export_limit_kw=limits[:, None], firm_charge_kw=np.vstack([hours(), hours(), FIRM])[: len(held)],
        mode="deterministic", rule="proportional", binding_element="line",
    ))  # fmt: skip
    prices = tuple(tariff.price(TIMES, "Europe/Berlin", {"spot": SPOT}) for tariff in TARIFFS)
    settled = settle(delivery(meter, loss, prices, box=box, traded=box), Chain())
    billed = write_books(append, settled)
    if box:
        write_invoices(append, billed)
    write_positions(append, settled, ALL if box else HOMES, prices, traded=box)
    if box:
        write_storage(append)
        alone = settle(delivery(meter, loss, prices, box=True, traded=False), Chain())
        write_books(lambda table, columns: writer.append("ex_post", table, columns), alone)
    return settled.conservation


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> Path:
    """The folder of the tiny run; copy it before changing anything in it."""
    path = tmp_path_factory.mktemp("tiny") / "run"
    with Writer(path, "0123456789abcdef" * 4, scenario_yaml=SCENARIO) as writer:
        conservation = write_world(writer, "tables", box=True)
        write_world(writer, "reference", box=False)
        meter, kvar = write_meters(
            lambda table, columns: writer.append("unmanaged", table, columns), np.zeros((3, HOURS)), box=False
        )
        write_grid(lambda table, columns: writer.append("unmanaged", table, columns), meter, kvar)
        writer.seal()
        kpis.write(writer)
        unbroken = {"violations": {}}
        writer.finish({
            "outcome": "not_converged", "name": "tiny", "seed": 1, "interval_minutes": 60, "time_zone": "Europe/Berlin", "currency": "eur", "homes": 3,
            "days": 1, "conservation": conservation, **unbroken, "not_converged": [f"hour-{HOURS - 1}"], "lost_power_flows": 0, "storage_bounds_left": [],
            "reference": unbroken, "unmanaged": unbroken,
        })  # fmt: skip
    return path


@pytest.fixture(scope="session")
def new_england() -> Curves:
    """The New England case, whose answers are known: 21 consumers, then 10 producers; examples/market/new_england.yaml."""
    consumers_kw = [
        146.4, 483, 750, 350.7, 783, 9.8, 12.8, 480, 493.5, 237, 1020, 411, 371.3, 462.9, 336, 208.5, 421.5, 309, 425.3, 13.8, 1656,
    ]  # fmt: skip
    producers_kw = [1040, 646, 725, 652, 508, 687, 580, 564, 865, 1100]
    cost_1 = [
        67, 47, 47, 53, 82, 52, 87, 57, 50, 52, 71, 64, 57, 82, 69, 69, 86, 54, 78, 81, 59,
        89, 67, 55, 82, 88, 76, 84, 77, 51, 87,
    ]  # fmt: skip
    cost_2 = [
        64, 79, 71, 62, 65, 83, 63, 81, 73, 69, 62, 79, 60, 80, 78, 70, 62, 70, 66, 70, 71,
        18, 21, 37, 25, 17, 38, 28, 36, 38, 19,
    ]  # fmt: skip
    low, high = [-p for p in consumers_kw] + [0.0] * 10, [0.0] * 21 + producers_kw
    return Curves.plain(np.array(cost_1) / 1000, cost_2, low, high)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a command line in this process; gives exit code, standard output and standard error."""
    import cli

    def run(*words):
        monkeypatch.setattr("sys.argv", ["commonwatt", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return run
