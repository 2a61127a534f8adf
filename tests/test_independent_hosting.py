"""Hosting capacity against a plain loop: plants are added one by one in power-grid-model until a limit breaks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Limits
from network.feeder import Feeder, Line, Transformer
from network.hosting import hosting
from network.referee import check
from network.sources import read

HALVINGS = 40


class Loop:
    """The same question put to power-grid-model: how far every limit is passed, relative to itself."""

    def __init__(self, model, base, unit, limits, source, *, many=False):
        self.model, self.base, self.unit, self.source, self.many = model, base, unit, source, many
        feeder = model.feeder
        watched = np.ones(feeder.n_bus, bool) if limits.monitored is None else limits.monitored
        self.rows = np.flatnonzero(watched[model.nodes.element])
        self.high, self.low = (np.broadcast_to(v, feeder.n_bus)[model.nodes.element[self.rows], None]
                               for v in (limits.v_max_pu, limits.v_min_pu))  # fmt: skip
        self.most = np.broadcast_to(limits.loading_max_percent, feeder.n_branch)[model.wires.element, None]
        buses = [feeder.buses.ids[k] for k in model.nodes.element[self.rows]]
        self.names = np.array(
            [("over_voltage", b) for b in buses]
            + [("under_voltage", b) for b in buses]
            + [("overload", feeder.branches.ids[k]) for k in model.wires.element]
        )

    def beyond(self, built):
        """Plants (c, D) in every interval: how far each limit is passed, shape (k, D, T); inf where nothing is solved."""
        c, many = built.shape
        steps = self.base.shape[1]
        power = (self.base[:, None, :] + built[:, :, None] * self.unit).reshape(c, -1)
        model, source = self.model, np.tile(self.source, many)
        flow = check(model.feeder, model.connection_bus, -power.real, -power.imag, source, model.connection_phase,
                     many=self.many)  # fmt: skip
        v = flow.v_pu[self.rows]
        found = np.vstack([v / self.high - 1, 1 - v / self.low, flow.loading_percent / self.most - 1])
        found = np.where(np.isnan(found), -np.inf, found)
        found[:, ~flow.converged] = np.inf
        return found.reshape(len(found), many, steps)

    def last_safe(self, built, who, size):
        """Halve the next plant of every placement: its last safe size, the first unsafe one's limits, shape (D,), (k, D, T)."""
        low, high = np.zeros(len(who)), np.ones(len(who))
        at = np.arange(len(who))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            more = built.copy()
            more[who, at] += middle * size
            safe = self.beyond(more).max(axis=(0, 2)) <= 0.0
            low, high = np.where(safe, middle, low), np.where(safe, high, middle)
        more = built.copy()
        more[who, at] += high * size
        return low * size, self.beyond(more)


def add_one_by_one(loop, order, size):
    """Return the capacity of every placement, and all limits at the first unsafe size: (D,), (k, D, T); NaN where all are built."""
    many, plants = order.shape
    stages = np.zeros((len(size), many, plants))
    for d in range(many):
        for k in range(plants):
            stages[order[d, : k + 1], d, k] = size[order[d, : k + 1]]
    broken = loop.beyond(stages.reshape(len(size), -1)).max(axis=(0, 2)).reshape(many, plants) > 0.0
    stopped = broken.any(axis=1)
    step = np.where(stopped, broken.argmax(axis=1), plants - 1)
    who, at = order[np.arange(many), step], np.arange(many)
    before = stages[:, at, step].copy()
    before[who, at] = 0.0
    more, limits = loop.last_safe(before, who, size[who])
    capacity = np.where(stopped, before.sum(axis=0) + more, size[order[0]].sum())
    return capacity, stopped, limits


def same(found, loop, order, size, rtol):
    """Compare capacities, firm, median, maximum, what stops each placement, where and when; return who is stopped."""
    capacity, stopped, limits = add_one_by_one(loop, order, size)
    np.testing.assert_allclose(found.capacity_kw, capacity, rtol=rtol, atol=1e-4)
    assert (found.firm_kw, found.median_kw, found.maximum_kw) == pytest.approx(
        (capacity.min(), np.median(capacity), capacity.max()), rel=rtol, abs=1e-4
    )
    np.testing.assert_array_equal(found.element != "", stopped)
    for d in np.flatnonzero(stopped):
        met = (
            limits[:, d] >= limits[:, d].max() - 1e-6
        )  # several may be met at once: buses between which no current flows
        told = (loop.names == (found.limit_kind[d], found.element[d])).all(axis=1)
        assert (met & told[:, None])[:, found.interval[d]].any()
    return stopped


def any_feeder(seed):
    """A transformer and a tree of cables, balanced or with customers on single phases; two intervals, loads beside."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    branches = [Transformer("T", "mv", "b0", float(rng.uniform(40, 150)), 11000.0, 400.0, 4.0, 1.5, clock=11)]
    for k in range(1, n):
        km = rng.uniform(0.03, 0.3)
        branches.append(
            Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", 0.4 * km, 0.08 * km, rating_a=float(rng.uniform(60, 200)),
                 r0_ohm=1.2 * km, x0_ohm=0.1 * km)
        )  # fmt: skip
    feeder = Feeder.build("any", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(n)}}, branches, source_bus="mv")
    c = int(rng.integers(2, 6))
    phases = None if rng.random() < 0.4 else [str(rng.choice(["a", "b", "c", "abc"])) for _ in range(c)]
    base = -rng.uniform(0, 1.5, (c, 2)) * (1 + 0.3j)
    limits = Limits(0.94, rng.uniform(1.03, 1.06), 100.0, np.array([False] + [True] * n))
    return Model(feeder, rng.integers(1, n + 1, c), phases), base, limits, rng


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["pv", "load"]), st.sampled_from([0.0, 0.4, -0.4]))
def test_plants_added_one_by_one_stop_where_it_says(seed, kind, tan):
    """Random feeders, sizes, profiles, candidates and power factors: capacities to 1e-5, firm, median, maximum, what stops each."""
    model, base, limits, rng = any_feeder(seed)
    c = model.n_connection
    size, who = rng.uniform(3, 40, c), rng.random(c) < 0.8
    who[0] = True
    profile, source = np.array([1.0, rng.uniform(0.3, 1.0)]), np.array([1.0, 1.01])
    found = hosting(model, base.real, base.imag, limits, size, kind=kind, profile=profile, candidates=who, placements=5,
                    seed=seed, kvar_per_kw=tan, alone_max_kw=80.0, source_v_pu=source)  # fmt: skip
    sign = 1.0 if kind == "pv" else -1.0
    loop = Loop(model, base, sign * (1 + 1j * tan) * profile, limits, source)
    nothing = loop.beyond(np.zeros((c, 1)))
    assert (found.status == "infeasible") == bool(nothing.max() > 0)
    if found.status == "infeasible":
        assert found.maximum_kw == 0.0
        return
    assert all(sorted(row) == np.flatnonzero(who).tolist() for row in found.order.tolist())
    same(found, loop, found.order, size, 1e-5)
    alone, limits_alone = loop.last_safe(np.zeros((c, c)), np.arange(c), np.full(c, 80.0))
    np.testing.assert_allclose(found.alone_kw[who], alone[who], rtol=1e-5, atol=1e-4)
    assert np.isnan(found.alone_kw[~who]).all()
    for k in np.flatnonzero(who):
        free = limits_alone[:, k].max() <= 0.0
        assert (found.alone_element[k] == "") == free
        met = (limits_alone[:, k] >= limits_alone[:, k].max() - 1e-6).any(axis=1)
        assert free or found.alone_element[k] in loop.names[met, 1]


def test_33_buses_by_the_command(call, tmp_path):
    """Load with a power factor of 0.95 on half the nameplate loads: the command's placements, and who stops them, by the loop."""
    case = tmp_path / "case.yaml"
    case.write_text(
        "name: loads\ngrid: {source: ieee33, v_min_pu: 0.92, v_max_pu: 1.05}\n"
        "customers: {export_cap_kw: 500, import_cap_kw: 500}\nbase_load: {from: nameplate, factor: 0.5}\n"
        "hosting: {kind: load, size_kw: 250, placements: 6, power_factor: 0.95, alone_max_kw: 1500}\n"
    )
    code, out, _ = call("network", "hosting", case, "--json")
    assert code == 0
    told = json.loads(out)
    grid = read("ieee33")
    c = grid.connections
    model, limits = Model(grid.feeder, c.bus), Limits(0.92, 1.05)
    base = -0.5 * (c.base_kw + 1j * c.base_kvar)[:, None]
    loop = Loop(model, base, -(1 + 1j * np.tan(np.arccos(0.95))) * np.ones(1), limits, np.ones(1))
    size = np.full(len(c.bus), 250.0)
    found = hosting(model, base.real, base.imag, limits, 250.0, kind="load", placements=6, seed=told["seed"],
                    kvar_per_kw=np.tan(np.arccos(0.95)), alone_max_kw=1500.0, source_v_pu=1.0)  # fmt: skip
    assert same(found, loop, found.order, size, 1e-5).all()
    assert (told["firm_kw"], told["median_kw"], told["maximum_kw"]) == pytest.approx(
        (found.firm_kw, found.median_kw, found.maximum_kw)
    )
    assert told["element"] == found.element.tolist()
    alone, _ = loop.last_safe(np.zeros((32, 32)), np.arange(32), np.full(32, 1500.0))
    np.testing.assert_allclose([one["kw"] for one in told["alone"]], alone, rtol=1e-5)


@pytest.mark.slow
def test_european_lv_by_the_loop():
    """55 customers on single phases, 5 kW each, source at 1.02 pu: three placements of the example, plant by plant."""
    grid = read("european_lv")
    c = grid.connections
    model = Model(grid.feeder, c.bus, c.phase)
    limits = Limits(0.94, 1.10, 100.0, grid.feeder.buses.v_nominal_v < 1000.0)
    nothing, one = np.zeros((55, 1)), np.array([1.02])
    found = hosting(model, nothing, nothing, limits, 5.0, placements=3, seed=1, alone_max_kw=60.0, source_v_pu=1.02)
    loop = Loop(model, nothing + 0j, np.ones(1) + 0j, limits, one, many=True)
    assert same(found, loop, found.order, np.full(55, 5.0), 1e-5).all()
    some = np.array([0, 27, 54])
    alone, _ = loop.last_safe(np.zeros((55, 3)), some, np.full(3, 60.0))
    np.testing.assert_allclose(found.alone_kw[some], alone, rtol=1e-5)
