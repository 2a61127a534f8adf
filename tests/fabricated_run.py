"""A run folder made up for the tests of the report: plausible, seeded, balanced, and without any simulation.

Every table is written through the schema of the results, so that a column that is renamed is noticed here.  Homes hang
on three wires of a low-voltage feeder; the sun shines too much for it; a pool shares the surplus; some homes rent space
in a shared storage.  Voltages are those of a linear drop, losses a guess that the power from above includes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from sim.rows import arrow_table, blocks
from sim.schema import SECTIONS, tables_of

ETA = 0.95
BUY, SELL, NETWORK, LEVIES, VAT = 0.32, 0.0786, 0.1095, 0.064, 0.19


@dataclass
class Make:
    """What is made up."""

    homes: int = 20
    days: int = 2
    start: str = "2016-07-18T10:00"
    minutes: int = 15
    seed: int = 3
    solar: bool = True
    trade: bool = True
    storage: bool = True
    envelopes: bool = True
    unmanaged: bool = True
    coordinates: bool = True
    steps: int | None = None
    failed: tuple[int, ...] = ()
    feed_in: float = SELL
    load_scale: float = 1.0
    names: dict[int, str] = field(default_factory=dict)
    unconverged: int = 0
    spot: bool = True
    outside: bool = False
    """Leave a breach in the run itself."""


def fabricate(folder: Path, make: Make | None = None, **changes) -> Path:
    """Write the folder and return it."""
    m = make or Make(**changes)
    return _World(m).write(folder)


class _World:
    def __init__(self, m: Make) -> None:
        self.m, self.rng = m, np.random.default_rng(m.seed)
        self.dt = m.minutes / 60
        self.T = m.steps or round(m.days * 24 / self.dt)
        self.times = np.datetime64(m.start, "s") + np.arange(self.T) * np.timedelta64(m.minutes * 60, "s")
        n = m.homes
        self.ids = [m.names.get(k, f"H{k + 1:03d}") for k in range(n)]
        self.hour = (np.arange(self.T) * self.dt + 12) % 24  # the run begins at local noon
        self.day_of = (np.arange(self.T) * self.dt // 24).astype(int)
        rng = self.rng
        self.kwp = np.where((np.arange(n) % 3 != 1) & m.solar, rng.uniform(5, 11, n).round(1), 0.0)
        self.battery = np.where((np.arange(n) % 5 == 0) & (self.kwp > 0), 8.0, 0.0)
        self.ev = (np.arange(n) % 4 == 1).astype(int)
        self.hp = np.where(np.arange(n) % 6 == 1, 3.0, 0.0)
        self.tenant = (np.arange(n) % 3 == 0) & m.storage & (n > 1)
        sun = np.clip(np.sin((self.hour - 5.5) / 14.5 * np.pi), 0, None) * ((self.hour > 5.5) & (self.hour < 20))
        cloud = 0.55 + 0.45 * rng.random(self.day_of.max() + 1)[self.day_of]
        self.pv = self.kwp[:, None] * 0.85 * sun * cloud * rng.uniform(0.93, 1, (n, self.T))
        evening = np.exp(-(((self.hour - 19.5) / 2) ** 2))
        base = rng.uniform(0.25, 0.6, n)[:, None] * (
            0.5 + 0.5 * np.exp(-(((self.hour - 8) / 1.6) ** 2)) + 1.4 * evening
        )
        self.base = base * rng.uniform(0.7, 1.3, (n, self.T)) * m.load_scale
        self.ev_kw = self.ev[:, None] * 3.7 * ((self.hour > 19) & (self.hour < 22)) * m.load_scale
        self.hp_kw = self.hp[:, None] * 0.2 * (self.hour < 7) * m.load_scale
        self.load = self.base + self.ev_kw + self.hp_kw
        self._batteries()
        self._grid()

    def _batteries(self):
        """The same for all worlds: charge at midday from the sun, discharge in the evening."""
        surplus = np.clip(self.pv - self.load, 0, None)
        self.ch, self.dis = np.zeros_like(self.pv), np.zeros_like(self.pv)
        self.soc = np.zeros((self.m.homes, self.T + 1))
        for t in range(self.T):
            room = (self.battery - self.soc[:, t]) / (ETA * self.dt)
            self.ch[:, t] = (
                np.minimum(np.minimum(surplus[:, t], 2.0), np.clip(room, 0, None))
                * (self.battery > 0)
                * (self.hour[t] < 16)
            )
            need = np.clip(self.load[:, t] - self.pv[:, t], 0, 2.0) * (self.hour[t] > 18)
            self.dis[:, t] = np.minimum(need, self.soc[:, t] * ETA / self.dt)
            self.soc[:, t + 1] = self.soc[:, t] + self.dt * (ETA * self.ch[:, t] - self.dis[:, t] / ETA)
            self.soc[:, t + 1] = np.clip(self.soc[:, t + 1], 0, None)

    def _grid(self):
        n = self.m.homes
        self.wire = np.arange(n) % 3
        self.depth = np.arange(n) // 3 + 1
        self.buses = ["MV", "LV", *(f"B{k + 1:03d}" for k in range(n))]
        up = np.where(self.depth == 1, 1, np.arange(n) - 3 + 2)
        self.branches = [("T1", "transformer", 0, 1), *((f"L{k + 1:03d}", "line", int(up[k]), k + 2) for k in range(n))]
        self.longest = self.depth.max()

    def _flows(self, meter, box):
        """Voltages and branch powers of meters (n, T) and a storage at the busbar."""
        n = self.m.homes
        down = np.zeros((n + 1, self.T))
        for k in reversed(range(n)):
            down[k + 1] += meter[k]
            if self.depth[k] > 1:
                down[k - 3 + 1] += down[k + 1]
        total = meter.sum(0) + box
        line_loss = 1e-4 * down[1:] ** 2
        loss = np.vstack([0.15 + 2e-5 * total**2, line_loss])
        reach = 0.0125 / max(self.longest, 1)
        v = np.zeros((n + 2, self.T))
        v[0] = 1.0
        v[1] = 1.0213 - 1e-4 * total
        scale = 13.0 / max(n, 1)
        for k in range(n):
            above = v[1] if self.depth[k] == 1 else v[k - 3 + 2]
            v[k + 2] = above - reach * scale * down[k + 1] * 0.42
        p = np.vstack([total + loss.sum(0), down[1:]])
        loading = np.vstack([np.abs(total) / (4.2 * n) * 100, np.abs(down[1:]) / (2.6 * n) * 100])
        for t in self.m.failed:
            v[:, t] = np.nan
            p[:, t] = loading[:, t] = loss[:, t] = np.nan
        return v, p, loading, loss

    # -- one world after the other -------------------------------------------------------------------------------

    def write(self, folder: Path) -> Path:
        m, n, t_count = self.m, self.m.homes, self.T
        self.rows: dict[tuple[str, str], list[dict]] = {}
        limit = (
            np.where(self.kwp[:, None] > 0, self.kwp[:, None] * (1 - 0.38 * self.depth[:, None] / self.longest), 0.0)
            if m.envelopes
            else np.full((n, 1), np.inf)
        )
        self.limit = (
            np.broadcast_to(limit, (n, t_count)) * np.where((self.hour > 10) & (self.hour < 15), 1.0, 1.6)
            if m.envelopes
            else np.full((n, t_count), np.inf)
        )
        out = self.pv - self.load - self.ch + self.dis
        held = np.clip(out - self.limit, 0, None)
        self.curtailed = np.minimum(held, self.pv)
        meter = self.load + self.ch - self.dis - (self.pv - self.curtailed)
        free = self.load + self.ch - self.dis - self.pv
        self._rent()
        self.box_net = (self.c - self.r).sum(0) + self.own_c - self.own_r
        self._agents("tables")
        self._meters("tables", meter, self.curtailed, self.box_net)
        self._network("tables", meter, self.box_net, m.outside)
        self._agents("reference")
        self._meters("reference", meter, self.curtailed, None)
        self._network("reference", meter, np.zeros(t_count), False)
        if m.unmanaged:
            self._meters("unmanaged", free, np.zeros_like(free), None)
            self._network("unmanaged", free, np.zeros(t_count), True)
        self._settle(meter)
        self._storage()
        self._market()
        if m.envelopes:
            self._envelopes()
        return self._save(folder)

    def add(self, section, table, **columns):
        self.rows.setdefault((section, table), []).append(columns)

    def _rent(self):
        n, t_count = self.m.homes, self.T
        self.c, self.r = np.zeros((n, t_count)), np.zeros((n, t_count))
        self.e = np.zeros((n, t_count + 1))
        self.own_c, self.own_r, self.box = np.zeros(t_count), np.zeros(t_count), np.zeros(t_count + 1)
        self.space = np.where(self.tenant, 2.0 + np.arange(n) % 4, 0.0)
        self.usable = max(round(1.5 * self.space.sum()), 1.0)
        surplus = np.clip(self.pv - self.load - self.ch, 0, None)
        need = np.clip(self.load - self.pv - self.dis, 0, None)
        operator = 0.0
        for t in range(t_count):
            room = np.clip(self.space - self.e[:, t], 0, None) / (ETA * self.dt)
            self.c[:, t] = np.minimum(np.minimum(surplus[:, t], 0.4 * self.space), room) * (self.hour[t] < 17)
            self.r[:, t] = np.minimum(np.minimum(need[:, t], 0.4 * self.space), self.e[:, t] * ETA / self.dt) * (
                self.hour[t] > 18
            )
            self.e[:, t + 1] = self.e[:, t] + self.dt * (ETA * self.c[:, t] - self.r[:, t] / ETA)
            if self.m.storage and self.m.trade:
                spare = 0.3 * self.usable - operator
                self.own_c[t] = min(0.1 * self.usable, max(spare, 0) / (ETA * self.dt), surplus[:, t].sum() * 0.3) * (
                    11 < self.hour[t] < 15
                )
                self.own_r[t] = min(0.1 * self.usable, operator * ETA / self.dt, need[:, t].sum() * 0.3) * (
                    19 < self.hour[t] < 23
                )
            net = (self.c[:, t] - self.r[:, t]).sum() + self.own_c[t] - self.own_r[t]
            self.box[t + 1] = self.box[t] + self.dt * (ETA * max(net, 0) - max(-net, 0) / ETA)
            operator = self.box[t + 1] - self.e[:, t + 1].sum()

    def _agents(self, section):
        n, box = self.m.homes, self.m.storage and section == "tables"
        tail = ([("ess", "storage", "LV", "flat")] if box else []) + [
            ("retailer", "retailer", "", ""),
            ("dso", "dso", "", ""),
        ]
        k = len(tail)

        def column(values, fill=0.0):
            return np.concatenate([np.asarray(values, dtype=float), np.full(k, fill)])

        self.add(
            section, "agents",
            agent_id=[*self.ids, *(x[0] for x in tail)], role=["prosumer"] * n + [x[1] for x in tail],
            bus_id=[*self.buses[2:], *(x[2] for x in tail)], phase="abc", aggregator_id="", tariff_id=["flat"] * n + [x[3] for x in tail],
            pv_kw_peak=column(self.kwp), battery_kwh=column(self.battery), battery_charge_kw=column(self.battery / 4),
            battery_discharge_kw=column(self.battery / 4), battery_efficiency_charge=column(np.full(n, ETA), np.nan),
            battery_efficiency_discharge=column(np.full(n, ETA), np.nan), battery_initial_kwh=column(np.zeros(n)),
            ev_count=np.concatenate([self.ev, np.zeros(k, dtype=int)]), heat_pump_kw=column(self.hp), load_profile="H0",
        )  # fmt: skip
        if box:
            self.add(
                section, "ess", ess_id="ess", operator_id="operator", bus_id="LV", phase="abc", energy_kwh=float(self.usable), charge_kw=0.4 * self.usable,
                discharge_kw=0.4 * self.usable, efficiency_charge=ETA, efficiency_discharge=ETA, self_discharge_per_h=0.0, initial_kwh=0.0,
            )  # fmt: skip

    def _meters(self, section, meter, curtailed, box):
        n = self.m.homes

        def rows(values, last=0.0):
            return values if box is None else np.vstack([values, np.broadcast_to(last, (1, self.T))])

        ids = self.ids if box is None or not self.m.storage else [*self.ids, "ess"]
        if not self.m.storage:
            box = None
        zero = np.zeros((n, self.T))
        self.add(section, "meters", **blocks(
            self.times, ids, base_load_kw=rows(self.base), ev_kw=rows(self.ev_kw), heat_pump_kw=rows(self.hp_kw), load_kw=rows(self.load),
            pv_available_kw=rows(self.pv), pv_kw=rows(self.pv - curtailed), battery_charge_kw=rows(self.ch, 0 if box is None else np.clip(box, 0, None)),
            battery_discharge_kw=rows(self.dis, 0 if box is None else np.clip(-box, 0, None)), battery_kwh=rows(self.soc[:, :-1], self.box[:-1]),
            meter_kw=rows(meter, 0 if box is None else box), meter_kvar=rows(zero), curtailed_kw=rows(curtailed), shifted_kw=rows(zero),
            cause=np.where(rows(curtailed) > 0, "envelope_export", "").astype(object),
        ))  # fmt: skip
        step, home = np.nonzero(np.asarray(curtailed).T > 0)
        if section != "unmanaged" and len(step):
            self.add(
                section, "enforcement", time=self.times[step], agent_id=[self.ids[k] for k in home], cause="envelope_export",
                rule="pv_battery_flexible", limit_kw=-meter[home, step], clipped_kw=curtailed[home, step], battery_kw=0.0, deferred_kw=0.0,
                beyond_kw=0.0,
            )  # fmt: skip

    def _network(self, section, meter, box, shows_breaches):
        v, p, loading, loss = self._flows(meter, box)
        if not shows_breaches:
            v = np.where(np.isnan(v), v, np.clip(v, 0.905, 1.0985))
            loading = np.where(np.isnan(loading), loading, np.minimum(loading, 96.0))
        if section != "unmanaged":
            place = [(9.0 + 1e-5 * k, 53.0) for k in range(2)] + [
                (9.0 + 6e-4 * (w - 1), 53.0 - 3e-4 * d) for w, d in zip(self.wire, self.depth, strict=True)
            ]
            x, y = (
                np.array([q[axis] for q in place]) if self.m.coordinates else np.full(len(place), np.nan)
                for axis in (0, 1)
            )
            source = np.arange(len(self.buses)) == 0
            first = np.where(source, 1.0, np.nan)
            self.add(
                section, "buses", bus_id=self.buses, v_nominal_v=np.where(source, 20_000.0, 400.0), is_source=source, source_v_pu=first,
                source_short_circuit_va=first * 1e16, source_rx_ratio=first * 0.1, x=x, y=y, is_monitored=~source,
            )  # fmt: skip
            names = "r1_ohm x1_ohm c1_nf r0_ohm x0_ohm c0_nf rating_a sn_kva v_from_v v_to_v uk_percent pk_kw i0_percent p0_kw clock tap_position tap_step_percent"
            self.add(
                section, "branches", branch_id=[b[0] for b in self.branches], kind=[b[1] for b in self.branches], in_service=np.ones(len(self.branches), dtype=bool),
                from_bus=[self.buses[b[2]] for b in self.branches], to_bus=[self.buses[b[3]] for b in self.branches], tap_side="",
                length_m=np.array([np.nan] + [34.0] * self.m.homes), **{name: np.full(len(self.branches), np.nan) for name in names.split()},
            )  # fmt: skip
        self.add(section, "bus_voltages", **blocks(self.times, self.buses, "bus_id", phase="abc", v_pu=v))
        self.add(section, "branch_flows", **blocks(
            self.times, [b[0] for b in self.branches], "branch_id", phase="abc", p_kw=p, q_kvar=p * 0.1, current_a=np.abs(p), loading_percent=loading, loss_kw=loss
        ))  # fmt: skip
        found = [
            (t, self.buses[b], "over_voltage", v[b, t], 1.1)
            for b, t in zip(*np.where(v[1:] > 1.1), strict=True)
            for b in [b + 1]
        ]
        found += [
            (t, self.buses[b], "under_voltage", v[b, t], 0.9)
            for b, t in zip(*np.where(v[1:] < 0.9), strict=True)
            for b in [b + 1]
        ]
        found += [
            (t, self.branches[b][0], "overload", loading[b, t], 100.0)
            for b, t in zip(*np.where(loading > 100), strict=True)
        ]
        found += [(t, "feeder", "not_converged", np.nan, np.nan) for t in self.m.failed]
        if found:
            self.add(
                section, "violations", time=self.times[[f[0] for f in found]], element=[f[1] for f in found], kind=[f[2] for f in found],
                value=np.array([f[3] for f in found]), limit=np.array([f[4] for f in found]), agent_id="",
            )  # fmt: skip

    # -- money --------------------------------------------------------------------------------------------------------

    def _settle(self, meter):
        n, m = self.m.homes, self.m
        need = np.vstack([meter + self.c - self.r, (self.own_c - self.own_r)[None]])
        short, long = np.clip(need, 0, None), np.clip(-need, 0, None)
        if not m.trade:
            short, long = np.zeros_like(need), np.zeros_like(need)
        pool = np.minimum(short.sum(0), long.sum(0))
        got = short * pool / np.where(short.sum(0) > 0, short.sum(0), 1)
        gave = long * pool / np.where(long.sum(0) > 0, long.sum(0), 1)
        exchange = gave - got
        rest = need - got + gave
        supply = long.sum(0) / np.where(short.sum(0) + long.sum(0) > 0, short.sum(0) + long.sum(0), 1)
        ceiling = BUY - 0.5 * NETWORK - LEVIES
        self.price = np.where(pool > 0, ceiling - (ceiling - m.feed_in) * supply, np.nan)
        rows = n + 1 if m.storage else n
        charge = np.vstack([self.c, self.r.sum(0)[None]])
        discharge = np.vstack([self.r, self.c.sum(0)[None]])
        for stage, factor in (("day_ahead", 0.8), ("intraday", 0.95), ("settled", 1.0)):
            self.add("tables", "positions", **blocks(
                self.times, [*self.ids, "ess"][:rows], stage=stage, exchange_kw=(factor * exchange)[:rows], rented_charge_kw=charge[:rows],
                rented_discharge_kw=discharge[:rows], grid_buy_kw=np.clip(rest, 0, None)[:rows], grid_sell_kw=np.clip(-rest, 0, None)[:rows],
            ))  # fmt: skip
        zero = np.zeros_like(meter)
        self.add("reference", "positions", **blocks(
            self.times, self.ids, stage="settled", exchange_kw=zero, rented_charge_kw=zero, rented_discharge_kw=zero,
            grid_buy_kw=np.clip(meter, 0, None), grid_sell_kw=np.clip(-meter, 0, None),
        ))  # fmt: skip
        for section in ("tables", "reference"):
            for stage, shift in (("day_ahead", 0.004), ("intraday", 0.0), ("settled", -0.002)):
                local = self.price + shift if section == "tables" else np.full(self.T, np.nan)
                self.add(section, "prices", **blocks(
                    self.times, ["flat"], "tariff_id", stage=stage, energy_eur_per_kwh=local[None], retail_buy_eur_per_kwh=BUY + 0.06 * np.sin(self.hour / 24 * 6.28)[None],
                    retail_sell_eur_per_kwh=m.feed_in,
                ))  # fmt: skip
            if m.spot:
                self.add(
                    section, "series", time=self.times, series_id="spot", value=np.full(self.T, 0.08), unit="eur/kWh"
                )
        rents = {
            "rent_energy": -np.append(self.space * 0.05, -self.space.sum() * 0.05),
            "rent_power": -np.append(self.space * 0.4 * 0.03, -self.space.sum() * 0.4 * 0.03),
        }
        self._books("tables", rest, exchange, got, gave, rents if m.storage else {})
        plain = np.vstack([meter, self.box_net[None]])
        s, lo = np.clip(plain, 0, None), np.clip(-plain, 0, None)
        shared = np.minimum(s.sum(0), lo.sum(0)) * (1.0 if m.trade else 0.0)
        g, v = s * shared / np.where(s.sum(0) > 0, s.sum(0), 1), lo * shared / np.where(lo.sum(0) > 0, lo.sum(0), 1)
        self._books("ex_post", plain - g + v, v - g, g, v, {})
        self._books(
            "reference",
            np.vstack([meter, np.zeros((1, self.T))]),
            np.zeros_like(need),
            np.zeros_like(need),
            np.zeros_like(need),
            {},
        )

    def _books(self, section, rest, exchange, got, gave, rents):
        """Postings of whole numbers, one transaction an interval and kind; bills are their sums per day."""
        names = [*self.ids, "ess"]
        price = np.nan_to_num(self.price, nan=0.1)
        bought, sold = np.clip(rest, 0, None), np.clip(-rest, 0, None)
        retail = BUY + 0.06 * np.sin(self.hour / 24 * 6.28)
        energy_part = retail / (1 + VAT) - NETWORK - LEVIES
        got = np.vstack([got[:-1], 0 * got[-1:]])  # the storage pays no local charge
        kinds = [
            ("exchange_intraday", None, exchange, price), ("retail_energy", "retailer", -bought, energy_part), ("retail_network", "dso", -bought, NETWORK),
            ("retail_levies", "state", -bought, LEVIES), ("retail_vat", "state", -bought, retail - retail / (1 + VAT)), ("feed_in", "retailer", sold, self.m.feed_in),
            ("local_network", "dso", -got, 0.5 * NETWORK), ("local_levies", "state", -got, LEVIES),
        ]  # fmt: skip
        ledger: dict[str, list] = {"time": [], "account": [], "kind": [], "amount": [], "energy": [], "transaction": []}
        number = 0

        def post(kind, t, accounts, amounts, energies):
            nonlocal number
            number += 1
            for account, amount, mwh in zip(accounts, amounts, energies, strict=True):
                for key, value in (
                    ("time", self.times[t]),
                    ("account", account),
                    ("kind", kind),
                    ("amount", int(amount)),
                    ("energy", int(mwh)),
                    ("transaction", str(number)),
                ):
                    ledger[key].append(value)

        for kind, counter, flow, unit_price in kinds:
            mwh = np.rint(flow * self.dt * 1e6)
            amount = np.rint(mwh * unit_price)
            moves = kind in {"exchange_intraday", "retail_energy", "feed_in"}
            for t in range(self.T):
                busy = np.flatnonzero(mwh[:, t])
                if not busy.size:
                    continue
                a, e = amount[busy, t].copy(), -mwh[busy, t]
                if counter is None:  # what rounding leaves goes to the last one
                    a[-1] -= a.sum()
                    e[-1] -= e.sum()
                    post(kind, t, [names[k] for k in busy], a, e if moves else 0 * e)
                else:
                    post(
                        kind,
                        t,
                        [*(names[k] for k in busy), counter],
                        [*a, -a.sum()],
                        [*e, -e.sum()] if moves else [0] * (busy.size + 1),
                    )
        for kind, amounts in rents.items():
            for day in range(int(self.day_of.max()) + 1):
                cents = np.rint(amounts * 1e6)
                cents[-1] -= cents.sum()
                post(kind, int(np.argmax(self.day_of == day)), names, cents, 0 * cents)
        count = len(ledger["time"])
        if not count:
            return
        self.add(
            section, "ledger", posting_id=[str(k + 1) for k in range(count)], transaction_id=ledger["transaction"], time=np.array(ledger["time"]),
            account=ledger["account"], kind=ledger["kind"], rule="flat", energy_milliwatt_hour=np.array(ledger["energy"], dtype=np.int64),
            amount_micro_eur=np.array(ledger["amount"], dtype=np.int64), previous_hash="", hash="",
        )  # fmt: skip
        sums: dict[tuple[str, str, str], int] = {}
        for time, account, kind, amount in zip(
            ledger["time"], ledger["account"], ledger["kind"], ledger["amount"], strict=True
        ):
            key = (account, str((time + np.timedelta64(2, "h")).astype("datetime64[D]")), kind)
            sums[key] = sums.get(key, 0) + amount
        lines = sorted(sums)
        self.add(
            section, "bills", agent_id=[k[0] for k in lines], period=[k[1] for k in lines], line=[k[2] for k in lines], quantity=np.ones(len(lines)), unit="kWh",
            price_eur=np.nan, amount_eur=np.array([-sums[k] / 1e6 for k in lines]), rule="flat",
        )  # fmt: skip

    def _storage(self):
        if not self.m.storage:
            return
        net = self.box_net
        charge, discharge = np.clip(net, 0, None), np.clip(-net, 0, None)
        moved = self.dt * (ETA * charge - discharge / ETA)
        holders = np.vstack([self.c, self.own_c[None]]), np.vstack([self.r, self.own_r[None]])
        booked = self.dt * (ETA * holders[0] - holders[1] / ETA).sum(0)
        self.add("tables", "storage", **blocks(
            self.times, ["ess"], "ess_id", charge_kw=charge[None], discharge_kw=discharge[None], energy_kwh=self.box[None, :-1],
            loss_kwh=(self.dt * (charge - discharge) - moved)[None], netting_gain_kwh=np.clip(moved - booked, 0, None)[None],
            wear_eur=(0.01 * self.dt * (charge + discharge))[None],
        ))  # fmt: skip
        energy = np.vstack([self.e[:, :-1], (self.box[:-1] - self.e[:, :-1].sum(0))[None]])
        self.add("tables", "storage_ledger", **blocks(
            self.times, [*self.ids, "ess"], ess_id="ess", charge_kw=holders[0], discharge_kw=holders[1], energy_kwh=energy
        ))  # fmt: skip
        days = int(self.day_of.max()) + 1
        tenants = np.flatnonzero(self.space > 0)
        for day in range(days):
            inside = np.flatnonzero(self.day_of == day)
            end = self.times[inside[-1]] + np.timedelta64(self.m.minutes * 60, "s")
            scarce = 0.004 * (day % 3)
            if tenants.size:
                self.add(
                    "tables", "rights", stage="day_ahead", right_id=[f"{day}-{self.ids[k]}" for k in tenants], ess_id="ess", agent_id=[self.ids[k] for k in tenants],
                    start=self.times[inside[0]], end=end, energy_kwh=self.space[tenants], power_kw=0.4 * self.space[tenants],
                    rent_energy_eur_per_kwh=0.04 + scarce, rent_power_eur_per_kw=0.02 + scarce, firm=True,
                )  # fmt: skip

    def _market(self):
        if not self.m.trade:
            return
        rng, rows, history = self.rng, [], []
        hours = max(1, round(self.T * self.dt))
        for k in range(hours):
            if k % 24 == 0:
                rows.append(
                    (
                        f"day-{k // 24:03d}",
                        "day_ahead",
                        self.times[0] + np.timedelta64(k - 2, "h"),
                        int(rng.normal(240, 40)),
                    )
                )
            rows.append(
                (
                    f"hour-{k:04d}",
                    "intraday",
                    self.times[0] + np.timedelta64(k * 60 - 5, "m"),
                    max(20, int(rng.normal(90, 25))),
                )
            )
        failed = {len(rows) - 1 - k for k in range(self.m.unconverged)}
        for name, _stage, _at, count in rows:
            history += [
                (name, min(i, count), 0.3 * 0.96**i + 5e-4 * ahead, 0.5 * 0.955**i + 4e-4 * ahead, 10.0)
                for ahead in [0.1 if _stage == "day_ahead" else 1.0]
                for i in range(20, count + 20, 20)
            ]
        ok = np.array([k not in failed for k in range(len(rows))])
        cost = np.full(len(rows), 20.0)
        gap = rng.uniform(0, 2e-3, len(rows))
        ahead = np.where([r[1] == "day_ahead" for r in rows], 0.1, 1.0)  # ends at a tenth of the tolerance
        self.add(
            "tables", "clearings", clearing_id=[r[0] for r in rows], stage=[r[1] for r in rows], opened_at=np.array([r[2] for r in rows]), converged=ok,
            iterations=np.array([r[3] for r in rows]), primal_residual=8e-4 * ahead, dual_residual=7e-4 * ahead, cost_eur=cost,
            bound_eur=cost * (1 - gap), gap=gap, max_agent_kkt=np.full(len(rows), 1e-4),
        )  # fmt: skip
        self.add(
            "tables", "iterations", clearing_id=[h[0] for h in history], iteration=np.array([h[1] for h in history]), primal_residual=np.array([h[2] for h in history]),
            dual_residual=np.array([h[3] for h in history]), penalty=np.array([h[4] for h in history]),
        )  # fmt: skip

    def _envelopes(self):
        held = np.flatnonzero((self.kwp > 0) | (self.ev > 0) | (self.hp > 0))
        imports = 4.2 + 3.7 * self.ev[held][:, None] + self.hp[held][:, None] + np.zeros((1, self.T))
        issued = self.times[0] - np.timedelta64(2, "h")
        self.add("tables", "envelopes", **blocks(
            self.times, [self.ids[k] for k in held], issued_at=issued, import_limit_kw=imports, export_limit_kw=self.limit[held],
            firm_charge_kw=0.0, mode="deterministic", rule="proportional", binding_element="T1",
        ))  # fmt: skip

    # -- writing --------------------------------------------------------------------------------------------------------

    def _save(self, folder: Path) -> Path:
        import pyarrow as pa

        folder.mkdir(parents=True, exist_ok=True)
        for section in SECTIONS:
            if section == "unmanaged" and not self.m.unmanaged:
                continue
            (folder / section).mkdir(exist_ok=True)
            for table in tables_of(section):
                parts = [arrow_table(table, columns) for columns in self.rows.get((section, table), [])]
                if not parts:
                    from sim.schema import TABLES, arrow_schema

                    parts = [arrow_schema(TABLES[table]).empty_table()]
                pq.write_table(pa.concat_tables(parts), folder / section / f"{table}.parquet")
        (folder / "scenario.yaml").write_text(json.dumps(self._scenario(), indent=1), encoding="utf-8")
        manifest = {
            "content_id": "7c41e0a9d2f1", "seed": self.m.seed, "interval_minutes": self.m.minutes, "time_zone": "Europe/Berlin", "currency": "eur",
            "outcome": "ok", "wall_s": 41.2, "started_at": "2026-11-20T10:00:00", "versions": {"python": "3.11.7", "commonwatt": "0.1.0", "numpy": "2.4.6"},
        }  # fmt: skip
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        self._figures(folder)
        return folder

    def _scenario(self):
        rate = {
            "energy_eur_per_kwh": 0.095, "network_eur_per_kwh": NETWORK, "levies_eur_per_kwh": LEVIES, "vat_percent": 0, "feed_in_eur_per_kwh": self.m.feed_in,
            "local": {"network_share": 0.5, "levies_share": 1.0},
        }  # fmt: skip
        return {
            "name": "made-up village", "seed": self.m.seed, "currency": "eur", "time": {"start": "2016-07-18T12:00", "interval_minutes": self.m.minutes, "time_zone": "Europe/Berlin"},
            "grid": {"source": "simbench:1-LV-rural3--2-no_sw", "v_min_pu": 0.9, "v_max_pu": 1.1, "loading_max_percent": 100.0},
            "people": {"battery_wear_eur_per_kwh": 0.0}, "tariffs": {"flat": rate},
            "storage": [{"id": "ess", "rent_energy_eur_per_kwh_day": 0.04, "rent_power_eur_per_kw_day": 0.02}] if self.m.storage else [],
            "market": {"tolerance": 1e-3}, "report": {"title": "", "plain": False},
        }  # fmt: skip

    def _figures(self, folder: Path):
        """The key figures by the project's own code, as a run has them."""
        from sim import kpis

        for section in ("tables", "reference", "ex_post"):
            columns = kpis.compute(folder, section)
            pq.write_table(arrow_table("kpis", columns), folder / section / "kpis.parquet")
