"""Robust envelopes hold at any use: on European LV, on random feeders, with uncertain data, by another program too."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Envelope, Limits, Reactive, Uncertainty, compute
from network.feeder import Feeder, Line, Transformer
from network.linear import linear, rows
from network.reactive import VoltVar
from network.referee import check
from network.sources import read
from network.vertices import vertices

EXPORT, IMPORT, SOURCE = 10.0, 14.0, 1.02


def outside(model, limits, p, q, source=None, curve=None):
    """How far voltages [p.u.] and loadings [%] are beyond their limits, at worst; infinitely far where there is no solution."""
    flow = model.solve(p, q, source, curve=curve)
    if not flow.converged.all():
        return np.inf
    watched = np.ones(model.feeder.n_bus, bool) if limits.monitored is None else limits.monitored
    v = flow.v_pu[watched[model.nodes.element]]
    most = np.broadcast_to(limits.loading_max_percent, model.feeder.n_branch)[model.wires.element, None]
    over = np.nanmax(flow.loading_percent - most, initial=-np.inf)
    return max(v.max() - limits.v_max_pu, limits.v_min_pu - v.min(), over / 100.0)


@cache
def european():
    """European LV, its 55 single-phase customers all active, 0.94 … 1.10 pu, the source at 1.02 pu."""
    grid = read("european_lv")
    model = Model(grid.feeder, grid.connections.bus, grid.connections.phase)
    return model, Limits(0.94, 1.10, 100.0, grid.feeder.buses.v_nominal_v < 1000.0)


def european_envelope(**more) -> Envelope:
    model, limits = european()
    nothing, everybody = np.zeros((55, 1)), np.ones(55, dtype=bool)
    caps = np.full(55, EXPORT), np.full(55, IMPORT)
    return compute(model, nothing, nothing, everybody, *caps, limits, source_v_pu=SOURCE, **more)


def uses(found, flips=True):
    """The corners of the sign patterns of all rows, the opposed phases, and one-customer neighbours: shape (55, S)."""
    model, limits = european()
    export, imports = found.export_limit_kw, found.import_limit_kw
    watched = np.ones(model.feeder.n_bus, bool) if limits.monitored is None else limits.monitored
    most = np.full(model.feeder.n_branch, 100.0)
    signs = vertices(model, np.arange(55), watched, most, np.maximum(export, imports)[:, 0]).signs
    p = np.where(signs > 0, export, -imports)
    if not flips:
        return p
    worst = model.solve(p, np.zeros_like(p), SOURCE).v_pu
    first = p[:, [int(worst.max(axis=0).argmax()), int(worst.min(axis=0).argmin())]]
    other = np.where(first == export, -imports, export)
    one = np.eye(55, dtype=bool)
    return np.hstack([p, *(np.where(one, other[:, [k]], first[:, [k]]) for k in (0, 1))])


# European LV ---------------------------------------------------------------------------------------------------------


def test_the_two_corner_envelope_breaks_where_phases_are_opposed():
    """About 220/195 kW, safe at its two corners; one phase against the others is 0.07 pu too high and 0.10 pu too low."""
    found = european_envelope()
    model, limits = european()
    corners = np.hstack([found.export_limit_kw, -found.import_limit_kw])
    flow = model.solve(uses(found, flips=False), np.zeros((55, uses(found, flips=False).shape[1])), SOURCE)
    v = flow.v_pu[limits.monitored[model.nodes.element]]

    assert found.export_limit_kw.sum() == pytest.approx(222.6, abs=0.5)
    assert found.import_limit_kw.sum() == pytest.approx(192.3, abs=0.5)
    assert outside(model, limits, corners, np.zeros_like(corners), SOURCE) <= 1e-9
    assert v.max() - 1.10 == pytest.approx(0.075, abs=0.003)
    assert 0.94 - v.min() == pytest.approx(0.102, abs=0.004)


ROBUST = {
    "robust": ({"mode": "robust"}, 73.1, 102.3),
    "pinned": ({"mode": "robust_pinned", "pinned_import_kw": 1.5}, 114.8, 82.5),
    "max_min": ({"mode": "robust", "rule": "max_min"}, 73.8, 110.7),
    "queue": ({"mode": "robust", "rule": "last_in_first_out"}, 120.0, 198.5),
    "max_total": ({"mode": "robust", "rule": "max_total"}, 200.5, 179.6),
}


@pytest.mark.parametrize("case", ROBUST)
def test_a_robust_envelope_holds_at_every_corner(case):
    """Corners of all sign patterns, opposed phases, neighbours, random corners: none outside; export and import as measured."""
    asked, export, imports = ROBUST[case]
    found = european_envelope(**asked)
    model, limits = european()
    rng = np.random.default_rng(3)
    drawn = np.where(rng.random((55, 300)) < 0.5, found.export_limit_kw, -found.import_limit_kw)

    for p in (uses(found), drawn):
        assert outside(model, limits, p, np.zeros_like(p), SOURCE) <= 1e-9
    assert found.status[0] == "ok"
    if case == "max_total":  # an optimum of a problem that is not convex: as good as the one known
        assert found.export_limit_kw.sum() + found.import_limit_kw.sum() >= 0.99 * (export + imports)
    else:
        assert found.export_limit_kw.sum() == pytest.approx(export, rel=0.005)
        assert found.import_limit_kw.sum() == pytest.approx(imports, rel=0.005)


def test_the_referee_confirms_the_worst_corners():
    """power-grid-model, at the corners of the robust and the two-corner envelope: safe, and not."""
    model, _ = european()
    for asked, safe in (({"mode": "robust_pinned", "pinned_import_kw": 1.5}, True), ({}, False)):
        p = uses(european_envelope(**asked), flips=False)
        flow = check(model.feeder, model.connection_bus, -p, 0 * p, SOURCE, model.connection_phase)
        there = flow.v_pu[model.feeder.buses.v_nominal_v[model.nodes.element] < 1000.0]
        assert flow.converged.all()
        assert bool(there.max() <= 1.10 + 1e-7 and there.min() >= 0.94 - 1e-7) is safe


def test_the_path_ends_at_the_ac_exact_share():
    """Forty halvings of the share, with every corner checked by AC power flow, give the same to five digits."""
    model, limits = european()
    found = european_envelope(mode="robust_pinned", pinned_import_kw=1.5)
    share = found.export_limit_kw[0, 0] / EXPORT
    signs = np.sign(uses(found, flips=False))

    def safe(alpha):
        p = np.where(signs > 0, alpha * EXPORT, -1.5)
        return outside(model, limits, p, np.zeros_like(p), SOURCE) <= 0.0

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if safe(middle) else (low, middle)
    assert share == pytest.approx(low, rel=1e-5)


def test_a_pinned_import_that_is_too_much_is_infeasible_by_name():
    """4 kW each: the element and its kind are told, the floors are kept, nothing is negative or NaN."""
    found = european_envelope(mode="robust_pinned", pinned_import_kw=4.0)

    assert (found.status[0], found.infeasible_kind[0]) == ("infeasible", "under_voltage")
    assert found.infeasible_by[0] in european()[0].feeder.buses.ids
    assert (found.export_limit_kw == 0).all()
    assert (found.import_limit_kw == 4.0).all()


def test_a_budget_lies_between_two_corners_and_any_use():
    """Nobody otherwise: the two-corner envelope; everybody: the robust one; never more with more of them."""
    found = [european_envelope(mode="budget", budget=few) for few in (0, 2, 8, 55)]
    totals = [one.export_limit_kw.sum() + one.import_limit_kw.sum() for one in found]
    plain, robust = european_envelope(), european_envelope(mode="robust")

    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(plain.export_limit_kw.sum() + plain.import_limit_kw.sum(), rel=1e-4)
    assert totals[-1] == pytest.approx(robust.export_limit_kw.sum() + robust.import_limit_kw.sum(), rel=1e-4)


def test_a_budget_of_two_holds_for_any_two():
    """From either corner, every pair of customers that does the opposite: 2 × 1485 uses, all inside to 1e-7 pu.

    Pairs that are worst by their derivatives are looked at; where two are as bad, AC may tell them apart in the eighth digit.
    """
    model, limits = european()
    found = european_envelope(mode="budget", budget=2)
    first, second = np.triu_indices(55, 1)
    flipped = np.zeros((55, len(first)), dtype=bool)
    flipped[first, np.arange(len(first))] = flipped[second, np.arange(len(first))] = True
    for p in (np.where(flipped, found.export_limit_kw, -found.import_limit_kw),
              np.where(flipped, -found.import_limit_kw, found.export_limit_kw)):  # fmt: skip
        assert outside(model, limits, p, np.zeros_like(p), SOURCE) <= 1e-7


def test_a_firm_charge_on_one_phase_is_heeded_in_the_other_phases_too():
    """A storage on phase a that must draw 8 kW: other exports than without, never outside, also where it draws its full limit."""
    model, limits = european()
    with_storage = Model(
        model.feeder, [*model.connection_bus, model.connection_bus[20]], [*model.connection_phase, "a"]
    )
    nothing, everybody = np.zeros((56, 1)), np.ones(56, dtype=bool)
    export_cap, import_cap = np.append(np.full(55, EXPORT), 0.0), np.append(np.full(55, IMPORT), 8.0)
    firm = np.zeros((56, 1))
    found = {}
    for charge in (0.0, 8.0):
        firm[-1] = charge
        one = compute(
            with_storage, nothing, nothing, everybody, export_cap, import_cap, limits, mode="robust_pinned",
            pinned_import_kw=1.0, firm_charge_kw=firm, source_v_pu=SOURCE,
        )  # fmt: skip
        rng = np.random.default_rng(1)
        top = np.where(firm > 0, -firm, one.export_limit_kw)
        p = np.where(rng.random((56, 500)) < 0.5, top, -one.import_limit_kw)
        p[:, :3] = np.where(
            np.array([[phase == x for x in "abc"] for phase in with_storage.connection_phase]),
            top,
            -one.import_limit_kw,
        )
        assert outside(with_storage, limits, p, np.zeros_like(p), SOURCE) <= 1e-9
        found[charge] = one.export_limit_kw.sum()
    assert found[8.0] != found[0.0]


@pytest.mark.parametrize("mode", ["deterministic", "robust", "robust_pinned", "budget", "chance"])
@pytest.mark.parametrize("rule", ["proportional", "max_min", pytest.param("max_total", marks=pytest.mark.slow)])
def test_a_firm_charge_lifts_exports_in_every_mode(mode, rule):
    """European LV, a storage on all phases with a right to 12 kW: what it must draw, others may feed in more, about 2 to 4 % here."""
    model, limits = european()
    with_storage = Model(
        model.feeder, [*model.connection_bus, model.connection_bus[20]], [*model.connection_phase, "abc"]
    )
    nothing, everybody = np.zeros((56, 1)), np.ones(56, dtype=bool)
    export_cap, right = np.append(np.full(55, EXPORT), 0.0), np.append(np.zeros(55), 12.0)
    more = {
        "robust_pinned": {"pinned_import_kw": right},
        "budget": {"budget": 5},
        "chance": {"uncertainty": Uncertainty(shape="gaussian")},
    }.get(mode, {})
    free, firm = (
        compute(
            with_storage, nothing, nothing, everybody, export_cap, right, limits, mode=mode, rule=rule,
            import_floor_kw=right, firm_charge_kw=charge * (right > 0)[:, None], source_v_pu=SOURCE, **more,
        )
        for charge in (0.0, 12.0)
    )  # fmt: skip

    assert {free.status[0], firm.status[0]} == {"ok"}
    assert firm.export_limit_kw.sum() >= 1.01 * free.export_limit_kw.sum()
    corners = np.array([[phase == x for x in "abc"] for phase in with_storage.connection_phase])
    for other in (
        (np.ones_like(corners), corners) if mode not in ("deterministic", "budget") else (np.ones_like(corners),)
    ):
        p = np.where(other, firm.export_limit_kw, -firm.import_limit_kw)
        p[-1] = -12.0
        assert outside(with_storage, limits, p, np.zeros_like(p), SOURCE) <= 1e-9


def test_the_voltages_of_european_lv_have_few_sign_patterns():
    """Of 2^55 corners three are worst for one of its voltage rows at customers' nodes: so much one phase does to another."""
    model, _ = european()
    a = linear(model).squared_v_per_kw[model.load_bus]
    large = np.abs(a) > 1e-9 * np.abs(a).max(axis=1, keepdims=True)
    assert large.all()
    assert len(np.unique(np.sign(a), axis=0)) == 3


# random feeders ----------------------------------------------------------------------------------------------------------


def cable(rng, name, one, other, phases="abc"):
    km = rng.uniform(0.03, 0.25)
    return Line(name, one, other, 0.4 * km, 0.08 * km, rating_a=rng.uniform(60, 200), r0_ohm=1.2 * km, x0_ohm=0.1 * km,
                c1_nf=0.0, c0_nf=0.0, phases=phases)  # fmt: skip


def street(rng, three_phase):
    """A transformer and any tree behind it, with any customers; balanced, or each on one phase."""
    n = int(rng.integers(2, 8))
    branches = [Transformer("T", "mv", "b0", float(rng.uniform(100, 300)), 11000.0, 400.0, 4.0, 1.5, clock=11)]
    branches += [cable(rng, f"L{k}", f"b{rng.integers(0, k)}", f"b{k}") for k in range(1, n)]
    feeder = Feeder.build("random", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(n)}}, branches, source_bus="mv")
    c = int(rng.integers(2, 9))
    phases = [str(rng.choice(list("abc"))) for _ in range(c)] if three_phase else None
    watched = np.array([False] + [True] * n)
    return Model(feeder, rng.integers(1, n + 1, c), phases), Limits(0.94, 1.06, 100.0, watched)


SETTINGS = settings(max_examples=25, deadline=None)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.sampled_from(["proportional", "max_min", "last_in_first_out"]))
def test_any_use_inside_a_robust_envelope_of_a_balanced_feeder_is_safe(seed, rule):
    """Four hundred random points and corners of the box, voltages and loadings, passive loads beside: all inside."""
    rng = np.random.default_rng(seed)
    model, limits = street(rng, three_phase=False)
    c = model.n_connection
    base = rng.normal(-1, 2, (c, 1))
    active = rng.random(c) < 0.8
    caps = rng.uniform(0, 60, (2, c))
    found = compute(model, base, 0.2 * base, active, *caps, limits, mode="robust", rule=rule)
    if found.status[0] != "ok":
        return
    export, imports = (np.where(active[:, None], side, 0.0) for side in (found.export_limit_kw, found.import_limit_kw))
    at = rng.random((c, 400))
    at[:, :200] = np.rint(at[:, :200])
    p = np.where(active[:, None], -imports + at * (export + imports), base)
    assert outside(model, limits, p, np.repeat(0.2 * base, 400, axis=1)) <= 1e-9


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_on_a_random_three_phase_feeder_rows_hold_for_any_use_and_ac_at_every_corner(seed):
    """Up to 2^8 corners, all of them, by AC power flow; every linear row at its own corner, by a⁺e + a⁻m."""
    rng = np.random.default_rng(seed)
    model, limits = street(rng, three_phase=True)
    c = model.n_connection
    caps = rng.uniform(0, 25, (2, c))
    nothing, everybody = np.zeros((c, 1)), np.ones(c, dtype=bool)
    found = compute(model, nothing, nothing, everybody, *caps, limits, mode="robust")
    if found.status[0] != "ok":
        return
    export, imports = found.export_limit_kw, found.import_limit_kw
    corners = np.array(np.meshgrid(*[[0, 1]] * c)).reshape(c, -1)
    p = np.where(corners == 1, export, -imports)
    assert outside(model, limits, p, np.zeros_like(p)) <= 1e-9
    a = rows(model, nothing, v_min_pu=limits.v_min_pu, v_max_pu=limits.v_max_pu, monitored=limits.monitored).a_kw
    worst = np.maximum(a, 0) @ export + np.maximum(-a, 0) @ imports
    np.testing.assert_allclose((a @ p).max(axis=1), worst[:, 0], rtol=1e-9, atol=1e-12)


@SETTINGS
@given(st.integers(0, 2**32 - 1))
def test_feeding_in_lowers_no_voltage_of_a_balanced_feeder(seed):
    """One customer injects a kW more: no voltage falls, by AC power flow; nor in linear DistFlow."""
    rng = np.random.default_rng(seed)
    model, _ = street(rng, three_phase=False)
    c = model.n_connection
    p = rng.uniform(-5, 5, (c, 1))
    more = np.hstack([p, p + np.eye(c)])
    v = model.solve(more, 0 * more).v_pu

    assert (v[:, 1:] >= v[:, :1] - 1e-9).all()
    assert (linear(model).squared_v_per_kw >= -1e-15).all()


def two_limits_at_once(seed):
    """A tree where max_total meets a voltage and a rating together, with passive loads beside."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 8))
    branches = [Transformer("T", "mv", "b0", float(rng.uniform(60, 200)), 11000.0, 400.0, 4.0, 1.5, clock=11)]
    branches += [cable(rng, f"L{k}", f"b{rng.integers(0, k)}", f"b{k}") for k in range(1, n)]
    feeder = Feeder.build("random", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(n)}}, branches, source_bus="mv")
    c = int(rng.integers(3, 8))
    return Model(feeder, rng.integers(1, n + 1, c)), Limits(0.94, 1.06, 100.0, np.array([False] + [True] * n)), rng


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["robust", "robust_pinned"]),
    st.sampled_from(["max_total", "equal"]),
    st.floats(-0.4, 0.4),
)
def test_power_grid_model_finds_no_corner_outside_a_robust_envelope(seed, mode, rule, tan):
    """All 2^c corners, also where several limits are met together (max_total), each with a worst use of its own."""
    model, limits, rng = two_limits_at_once(seed)
    c = model.n_connection
    base, caps = rng.normal(-1.5, 2, (c, 1)), rng.uniform(0, 60, (2, c))
    active = rng.random(c) < 0.85
    more = {"pinned_import_kw": 2.0} if mode == "robust_pinned" else {}
    found = compute(model, base, 0.3 * base, active, *caps, limits, mode=mode, rule=rule,
                    reactive=Reactive(tan_phi=tan), **more)  # fmt: skip
    if found.status[0] != "ok":
        return
    corners = np.array(np.meshgrid(*[[0, 1]] * c)).reshape(c, -1)
    p = np.where(active[:, None], np.where(corners == 1, found.export_limit_kw, -found.import_limit_kw), base)
    q = np.where(active[:, None], tan * p, 0.3 * base)
    flow = check(model.feeder, model.connection_bus, -p, -q)
    assert flow.converged.all()
    v = flow.v_pu[limits.monitored]
    assert v.max() <= 1.06 + 1e-7
    assert v.min() >= 0.94 - 1e-7
    assert np.nanmax(flow.loading_percent) <= 100 + 2e-5


def test_a_volt_var_curve_is_looked_at_beyond_its_knots():
    """Half-way along, a customer's export lowers a voltage nearby by its curve: no corner of six customers is outside."""
    curve = VoltVar.build(6, {k: ([0.93, 0.98, 1.02, 1.05], [5.0, 0.0, 0.0, -5.0]) for k in range(6)})
    for seed in range(40):
        rng = np.random.default_rng(seed)
        model, limits, rng = two_limits_at_once(seed)
        model = Model(model.feeder, rng.integers(1, model.feeder.n_bus, 6))
        caps, nothing = rng.uniform(0, 60, (2, 6)) * (rng.random((2, 6)) < 0.8), np.zeros((6, 1))
        found = compute(model, nothing, nothing, np.ones(6, dtype=bool), *caps, limits, mode="robust", rule="equal",
                        reactive=Reactive(curve=curve))  # fmt: skip
        if found.status[0] == "ok":
            corners = np.array(np.meshgrid(*[[0, 1]] * 6)).reshape(6, -1)
            p = np.where(corners == 1, found.export_limit_kw, -found.import_limit_kw)
            assert outside(model, limits, p, 0 * p, curve=curve) <= 1e-8, seed


# what is assumed --------------------------------------------------------------------------------------------------------


def one_line(customers=1):
    """400 V, 0.4 ohm + j 0.2 ohm: 1 kW lifts the squared voltage by 2 · 0.4/160."""
    feeder = Feeder.build("one", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.4, 0.2)], source_bus="a")
    return Model(feeder, [1] * customers)


def test_a_fixed_power_factor_by_hand():
    """Q = P tan φ: the quadratic of one line holds at 1.1 pu with the export limit, and at 0.9 pu with the import limit."""
    tan = 0.5
    found = compute(
        one_line(), [[0.0]], [[0.0]], [True], [200.0], [200.0], Limits(0.9, 1.1), reactive=Reactive(tan_phi=tan)
    )
    r, x = 0.4 / 160, 0.2 / 160

    for v, p in ((1.1, found.export_limit_kw[0, 0]), (0.9, -found.import_limit_kw[0, 0])):
        q = tan * p
        assert v**4 - (1.0 + 2 * (r * p + x * q)) * v**2 + (r**2 + x**2) * (p**2 + q**2) == pytest.approx(0.0, abs=1e-6)
    assert found.reactive == "q = 0.5 p"


def test_free_reactive_power_is_taken_at_its_worst():
    """±10 kvar: as if it were +10 for the export limit and −10 for the import limit."""
    limits = Limits(0.9, 1.1)
    free = compute(one_line(), [[0.0]], [[0.0]], [True], [200.0], [200.0], limits, reactive=Reactive(free_kvar=10.0))
    up = compute(one_line(), [[0.0]], [[10.0]], [True], [200.0], [200.0], limits)
    down = compute(one_line(), [[0.0]], [[-10.0]], [True], [200.0], [200.0], limits)

    assert free.export_limit_kw[0, 0] == pytest.approx(up.export_limit_kw[0, 0], rel=1e-6)
    assert free.import_limit_kw[0, 0] == pytest.approx(down.import_limit_kw[0, 0], rel=1e-6)
    assert "within 10 kvar" in free.reactive


def test_a_volt_var_curve_widens_and_holds():
    """Curves that draw at high voltage allow more export; both corners are safe with the true curve in the power flow."""
    model, limits = one_line(3), Limits(0.9, 1.1)
    curve = VoltVar.build(3, {k: ([0.92, 0.98, 1.02, 1.08], [8.0, 0.0, 0.0, -8.0]) for k in range(3)})
    nothing, caps = np.zeros((3, 1)), np.full(3, 200.0)
    for mode in ("deterministic", "robust"):
        with_it = compute(
            model, nothing, nothing, [True] * 3, caps, caps, limits, mode=mode, reactive=Reactive(curve=curve)
        )
        without = compute(model, nothing, nothing, [True] * 3, caps, caps, limits, mode=mode)
        p = np.hstack([with_it.export_limit_kw, -with_it.import_limit_kw])
        assert with_it.export_limit_kw.sum() > 1.1 * without.export_limit_kw.sum()
        assert outside(model, limits, p, 0 * p, curve=curve) <= 1e-9
        assert outside(model, limits, 1.001 * p, 0 * p, curve=curve) > 1e-6


def test_uncertain_loads_by_hand():
    """A passive load of 20 ± 5 kW beside: the export is that for 15 kW of load, the import that for 25 kW."""
    model, limits = one_line(2), Limits(0.9, 1.1)

    def ask(load, doubt=None, mode="robust"):
        return compute(model, [[0.0], [-load]], [[0.0], [0.0]], [True, False], [200.0, 0], [200.0, 0], limits, mode=mode,
                       uncertainty=doubt)  # fmt: skip

    for mode in ("robust", "deterministic"):
        found = ask(20.0, Uncertainty(load_kw=5.0), mode)
        assert found.export_limit_kw[0, 0] == pytest.approx(ask(15.0).export_limit_kw[0, 0], rel=1e-6)
        assert found.import_limit_kw[0, 0] == pytest.approx(ask(25.0).import_limit_kw[0, 0], rel=1e-6)


def test_a_chance_constraint_takes_the_quantile():
    """One load of σ = 2 kW, K limits: z(1 − ε/K) σ is what it may be off, by the normal distribution of SciPy."""
    from scipy.stats import norm

    model, limits = one_line(2), Limits(0.9, 1.1)
    doubt = Uncertainty(load_kw=2.0, shape="gaussian", probability=0.05)
    found = compute(
        model,
        [[0.0], [-10.0]],
        np.zeros((2, 1)),
        [True, False],
        [200.0, 0],
        [200.0, 0],
        limits,
        mode="chance",
        uncertainty=doubt,
    )
    limits_of_model = 4  # two buses, over and under; no rating
    off = 2.0 * norm.ppf(1 - 0.05 / limits_of_model)
    plain = compute(model, [[0.0], [-10.0 + off]], np.zeros((2, 1)), [True, False], [200.0, 0], [200.0, 0], limits)

    assert found.export_limit_kw[0, 0] == pytest.approx(plain.export_limit_kw[0, 0], rel=1e-6)


def test_a_chance_constrained_envelope_breaks_as_rarely_as_it_says():
    """European LV, 20 passive customers with loads of 1 ± 0.5 kW: of 4000 draws at the worst use at most 5 % break a limit."""
    model, limits = european()
    active = np.arange(55) % 3 != 0
    base = np.where(active, 0.0, -1.0)[:, None]
    doubt = Uncertainty(load_kw=0.5, shape="gaussian", probability=0.05)
    caps = np.full(55, EXPORT), np.full(55, IMPORT)
    asked = {"mode": "robust_pinned", "pinned_import_kw": 1.0, "source_v_pu": SOURCE}
    found = compute(model, base, 0 * base, active, *caps, limits, uncertainty=doubt, **asked)
    plain = compute(model, base, 0 * base, active, *caps, limits, **asked)
    rng = np.random.default_rng(0)
    share = {}
    for name, one in (("chance", found), ("plain", plain)):
        e, m = (np.where(active[:, None], side, 0.0) for side in (one.export_limit_kw, one.import_limit_kw))
        worst = 0.0
        for phase in "abc":
            there = (np.array(model.connection_phase) == phase)[:, None]
            drawn = base + rng.normal(0, 0.5, (55, 4000)) * ~active[:, None]
            p = np.where(active[:, None], np.where(there, e, -m), drawn)
            v = model.solve(p, 0 * p, SOURCE).v_pu[limits.monitored[model.nodes.element]]
            worst = max(worst, np.mean((v.max(axis=0) > 1.1) | (v.min(axis=0) < 0.94)))
        share[name] = worst
    assert share["chance"] <= 0.05 < share["plain"]
    assert found.export_limit_kw[active].sum() < plain.export_limit_kw[active].sum()


def test_uncertain_impedances_and_source_by_hand():
    """±10 % and ±0.01 pu: the export of 0.44 ohm at 1.01 pu, the import of 0.44 ohm at 0.99 pu."""
    limits = Limits(0.9, 1.1)
    found = compute(one_line(), [[0.0]], [[0.0]], [True], [200.0], [200.0], limits, mode="robust",
                    uncertainty=Uncertainty(impedance_percent=10.0, source_v_pu=0.01))  # fmt: skip
    longer = replace(one_line().feeder.branches, r1_ohm=np.array([0.44]), x1_ohm=np.array([0.22]))
    model = Model(replace(one_line().feeder, branches=longer), [1])
    high, low = (
        compute(model, [[0.0]], [[0.0]], [True], [200.0], [200.0], limits, source_v_pu=v) for v in (1.01, 0.99)
    )

    assert found.export_limit_kw[0, 0] == pytest.approx(high.export_limit_kw[0, 0], rel=1e-6)
    assert found.import_limit_kw[0, 0] == pytest.approx(low.import_limit_kw[0, 0], rel=1e-6)


def test_robust_protects_loadings_between_the_corners_of_a_balanced_feeder():
    """Who imports near the source lowers the voltage at which another exports: the far line keeps its rating all the same."""
    lines = [Line("near", "source", "bar", 0.05, 0.02), Line("far", "bar", "end", 0.02, 0.01, rating_a=50.0)]
    feeder = Feeder.build("street", {"source": 400.0, "bar": 400.0, "end": 400.0}, lines, source_bus="source")
    model, zero, caps = Model(feeder, [1, 2]), np.zeros((2, 1)), np.array([40.0, 60.0])
    limits = Limits(0.8, 1.2, 100.0)
    found = compute(model, zero, zero, [True, True], caps, caps, limits, mode="robust")
    plain = compute(model, zero, zero, [True, True], caps, caps, limits)
    p = np.array([[-found.import_limit_kw[0, 0]], [found.export_limit_kw[1, 0]]])

    assert model.solve(p, 0 * p).loading_percent.max() <= 100.0 + 1e-7
    assert found.export_limit_kw.sum() >= 0.97 * plain.export_limit_kw.sum()
