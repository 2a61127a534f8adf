"""Envelopes are AC-exact, AC-safe, fair by their rule, and infeasible by name."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network import envelope
from network.acflow import Model
from network.envelope import EnvelopeError, Limits, compute
from network.feeder import Feeder, Line, Transformer

IEEE33 = Path(__file__).parent / "golden" / "ieee33"


def one_line(r_ohm=0.4, **changed):
    """400 V and 1 kVA: a base of 160 ohm."""
    line = Line("L", "a", "b", r_ohm, 0.0, **changed)
    return Model(Feeder.build("one", {"a": 400.0, "b": 400.0}, [line], source_bus="a"), [1])


def ask(model, export_cap, import_cap, limits, base=None, base_q=None, active=None, **more):
    """One interval, nothing passive, unless said."""
    c = model.n_connection
    base = np.zeros((c, 1)) if base is None else np.asarray(base, dtype=float)
    base_q = np.zeros_like(base) if base_q is None else base_q
    active = np.ones(c, dtype=bool) if active is None else active
    return compute(model, base, base_q, active, np.asarray(export_cap), np.asarray(import_cap), limits, **more)


def vertex(model, found, side, base, base_q, active, source=None):
    """The power flow where every active connection uses its limit of one side, or its firm charge where it may not export."""
    limit = found.export_limit_kw if side == "export" else -found.import_limit_kw
    if side == "export":
        limit = np.where(found.firm_charge_kw > 0, -found.firm_charge_kw, limit)
    return model.solve(np.where(active[:, None], limit, base), base_q, source)


def worst(flow, limits):
    """How far the worst voltage [p.u.] and the worst loading [%] are beyond their limits; NaN counts as infinitely far."""
    if not flow.converged.all():
        return math.inf
    watched = slice(None) if limits.monitored is None else limits.monitored
    v = flow.v_pu[watched]
    high, low = np.asarray(limits.v_max_pu), np.asarray(limits.v_min_pu)
    return max(np.max(v - high), np.max(low - v), np.max(flow.loading_percent - limits.loading_max_percent))


def exact_share(model, base, base_q, active, cap, sign, limits, source=None):
    """The AC-exact proportional envelope: sixty halvings of the share, every interval at once."""
    low, high = np.zeros(base.shape[1]), np.ones(base.shape[1])

    def keeps(share):
        flow = model.solve(np.where(active[:, None], sign * cap[:, None] * share, base), base_q, source)
        watched = slice(None) if limits.monitored is None else limits.monitored
        v = flow.v_pu[watched]
        good = flow.converged & (v.max(axis=0) <= limits.v_max_pu) & (v.min(axis=0) >= limits.v_min_pu)
        return good & (flow.loading_percent.max(axis=0) <= limits.loading_max_percent)

    whole = keeps(high)
    for _ in range(60):
        middle = (low + high) / 2
        good = keeps(middle)
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    return np.where(whole, 1.0, low)


# by hand ------------------------------------------------------------------------------------------------------------


def test_one_line_and_its_voltages_by_hand():
    """P = V (V − 1) / r at the bound V: 0.4 ohm and 1.1 or 0.9 pu give 44 kW out and 36 kW in."""
    found = ask(one_line(), [100.0], [100.0], Limits(0.9, 1.1))

    assert found.export_limit_kw[0, 0] == pytest.approx(1.1 * 0.1 * 400, rel=1e-6)
    assert found.import_limit_kw[0, 0] == pytest.approx(0.9 * 0.1 * 400, rel=1e-6)
    assert (found.binding_export[0], found.binding_import[0]) == ("b", "b")
    assert (found.status[0], found.infeasible_by[0]) == ("ok", "")
    assert found.share_export[0] == pytest.approx(0.44, rel=1e-6)


def test_one_line_and_its_rating_by_hand():
    """A line of 50 A carries √3 · 400 V · 50 A · V at its far end: P = √3 · 20 · (1 ± r I)."""
    rating = 50.0
    found = ask(one_line(rating_a=rating), [100.0], [100.0], Limits(0.5, 1.5, 100.0))
    drop = 0.4 * rating * math.sqrt(3) / 400

    assert found.export_limit_kw[0, 0] == pytest.approx(math.sqrt(3) * 0.4 * rating * (1 + drop), rel=1e-6)
    assert found.import_limit_kw[0, 0] == pytest.approx(math.sqrt(3) * 0.4 * rating * (1 - drop), rel=1e-6)
    assert (found.binding_export[0], found.binding_import[0]) == ("L", "L")


def laterals():
    """Two lines of their own from an ideal source: nobody disturbs the other."""
    lines = [Line("weak", "s", "far", 0.8, 0.0), Line("strong", "s", "near", 0.1, 0.0)]
    return Model(Feeder.build("laterals", {"s": 400.0, "far": 400.0, "near": 400.0}, lines, source_bus="s"), [1, 2])


@pytest.mark.parametrize(
    ("rule", "far", "near"),
    [("proportional", 22.0, 22.0 * 60 / 40), ("equal", 22.0, 22.0), ("max_min", 22.0, 60.0)],
)
def test_the_rules_share_as_they_say(rule, far, near):
    """The far home can export 22 kW of 40, the near one all of 60: in proportion, alike, or each what it can."""
    found = ask(laterals(), [40.0, 60.0], [0.0, 0.0], Limits(0.9, 1.1), rule=rule)

    assert found.export_limit_kw[:, 0] == pytest.approx([far, near], rel=1e-6)
    assert found.binding_export[0] == "far"


def test_max_min_stops_a_second_time_where_the_others_meet_their_limit():
    """The near home, too, is stopped: 1.1 · 0.1 / (0.1 / 160) = 176 kW of 300."""
    found = ask(laterals(), [40.0, 300.0], [40.0, 300.0], Limits(0.9, 1.1), rule="max_min")

    assert found.export_limit_kw[:, 0] == pytest.approx([22.0, 176.0], rel=1e-6)
    assert found.import_limit_kw[:, 0] == pytest.approx([18.0, 144.0], rel=1e-6)


def test_floors_are_granted_before_anything_is_shared():
    """The far home has a right to 20 kW of its 40; α then counts for the near one too: max(floor, α cap)."""
    limits = Limits(0.9, 1.1)
    free = ask(laterals(), [40.0, 60.0], [0.0, 0.0], limits)
    held = ask(laterals(), [40.0, 60.0], [0.0, 0.0], limits, export_floor_kw=[20.0, 50.0])

    assert free.export_limit_kw[:, 0] == pytest.approx([22.0, 33.0], rel=1e-6)
    assert held.export_limit_kw[:, 0] == pytest.approx([22.0, 50.0], rel=1e-6)


def test_a_firm_charge_makes_room_for_exports():
    """Home and storage on one bus: 44 kW net may be exported, so a firm charge of 10 kW lets the home export 54."""
    model = Model(one_line().feeder, [1, 1])
    firm = np.array([[0.0, 0.0], [0.0, 10.0]])
    base = np.zeros((2, 2))

    found = ask(model, [100.0, 25.0], [0.0, 25.0], Limits(0.9, 1.1), base=base, firm_charge_kw=firm)

    assert found.export_limit_kw[:, 1] == pytest.approx([54.0, 0.0], rel=1e-6)
    assert found.export_limit_kw[:, 0] == pytest.approx([44.0 * 0.8, 44.0 * 0.2], rel=1e-6)
    assert found.import_limit_kw[1, 1] == 25.0
    assert (found.import_limit_kw >= found.firm_charge_kw).all()
    np.testing.assert_array_equal(found.firm_charge_kw, firm)


def test_a_firm_charge_is_the_floor_of_the_import_limit():
    """Where 36 kW may be drawn in all, the storage with a firm charge of 30 keeps 30, and the home shares the rest."""
    model = Model(one_line().feeder, [1, 1])

    found = ask(model, [0.0, 0.0], [60.0, 60.0], Limits(0.9, 1.1), firm_charge_kw=[[0.0], [30.0]])

    assert found.import_limit_kw[:, 0] == pytest.approx([6.0, 30.0], rel=1e-5)


def test_passive_connections_stay_at_their_forecast_and_get_no_limit():
    """10 kW of passive load make room for 10 kW more of export on the same bus, and take 10 from the imports."""
    model = Model(one_line().feeder, [1, 1])

    found = ask(
        model, [100.0, 7.0], [100.0, 7.0], Limits(0.9, 1.1), base=[[5.0], [-10.0]], active=np.array([True, False])
    )

    assert found.export_limit_kw[:, 0] == pytest.approx([54.0, math.inf], rel=1e-6)
    assert found.import_limit_kw[:, 0] == pytest.approx([26.0, math.inf], rel=1e-6)


def test_an_active_connection_keeps_its_reactive_power_only():
    """Its active forecast is replaced by the envelope; its reactive one stays, and lowers the voltage."""
    model = Model(Feeder.build("x", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.4, 0.2)], source_bus="a"), [1])
    limits = Limits(0.9, 1.1)

    one = ask(model, [100.0], [100.0], limits, base=[[-30.0]])
    other = ask(model, [100.0], [100.0], limits)
    drawing = ask(model, [100.0], [100.0], limits, base_q=np.array([[-10.0]]))

    np.testing.assert_array_equal(one.export_limit_kw, other.export_limit_kw)
    assert drawing.export_limit_kw[0, 0] > other.export_limit_kw[0, 0] + 3
    assert drawing.import_limit_kw[0, 0] < other.import_limit_kw[0, 0] - 3


# ordinary inputs -----------------------------------------------------------------------------------------------------


def test_where_nothing_binds_everybody_gets_the_cap():
    """Share 1 and nobody named: small caps, no caps, nobody active."""
    limits = Limits(0.9, 1.1)
    small = ask(one_line(), [10.0], [10.0], limits)
    zero = ask(one_line(), [0.0], [0.0], limits)
    nobody = ask(one_line(), [10.0], [10.0], limits, active=np.array([False]))
    empty = compute(Model(one_line().feeder, []), np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool), [], [], limits)

    assert (small.export_limit_kw[0, 0], small.import_limit_kw[0, 0]) == (10.0, 10.0)
    assert (zero.export_limit_kw[0, 0], zero.import_limit_kw[0, 0]) == (0.0, 0.0)
    assert np.isinf(nobody.export_limit_kw).all()
    for found in (small, zero, nobody, empty):
        assert set(found.binding_export) | set(found.binding_import) | set(found.infeasible_by) == {""}
        assert set(found.status) == {"ok"}
        assert (found.share_export == 1).all()
    assert empty.export_limit_kw.shape == (0, 2)


def test_no_interval_at_all_is_an_empty_envelope():
    """T = 0."""
    found = ask(one_line(), [1.0], [1.0], Limits(0.9, 1.1), base=np.zeros((1, 0)))

    assert found.export_limit_kw.shape == (1, 0)
    assert found.status.shape == (0,)


def test_a_feeder_without_any_limit_gives_the_caps():
    """No voltage bound, no loading bound."""
    found = ask(one_line(), [20.0], [20.0], Limits(0.0, math.inf, math.inf))

    assert (found.export_limit_kw[0, 0], found.import_limit_kw[0, 0]) == (20.0, 20.0)


def test_a_source_at_the_bound_itself_binds_nobody():
    """The source stands at 1.0 pu and 1.0 pu is the lowest voltage of its bus: nothing the homes do moves it."""
    limits = Limits(np.array([1.0, 0.9]), np.array([1.0 + 1e-12, 1.1]))
    found = ask(one_line(), [100.0], [100.0], limits)

    assert found.export_limit_kw[0, 0] == pytest.approx(44.0, rel=1e-6)
    assert found.import_limit_kw[0, 0] == pytest.approx(36.0, rel=1e-6)


def test_a_bus_that_is_not_monitored_binds_nobody():
    """Without the far bus only the rating is left."""
    watched = np.array([True, False])
    found = ask(one_line(rating_a=200.0), [100.0], [60.0], Limits(0.9, 1.1, 100.0, watched))

    assert found.export_limit_kw[0, 0] == 100.0


def test_imports_beyond_the_nose_are_not_allowed_even_without_limits():
    """Where the power flow ends the envelope ends: 100 kW at most over 0.4 ohm, however much is asked for."""
    found = ask(one_line(), [0.0], [500.0], Limits(0.0, 1.5, math.inf))

    assert 80.0 < found.import_limit_kw[0, 0] <= 100.0
    assert found.status[0] == "ok"


# infeasible ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load", "by"), [(-50.0, "b"), (50.0, "b"), (-500.0, "not_converged")])
def test_what_is_infeasible_is_named(load, by):
    """A passive connection that breaks the voltage, either way, or the power flow itself: floors, and whose fault it is."""
    model = Model(one_line().feeder, [1, 1])

    found = ask(
        model,
        [10.0, 0.0],
        [10.0, 0.0],
        Limits(0.9, 1.1),
        base=[[0.0], [load]],
        active=np.array([True, False]),
        export_floor_kw=[2.0, 0.0],
    )

    assert (found.status[0], found.infeasible_by[0]) == ("infeasible", by)
    assert found.export_limit_kw[0, 0] == 2.0
    assert found.import_limit_kw[0, 0] == 0.0
    assert (found.share_export[0], found.share_import[0]) == (0.0, 0.0)


def test_an_overloaded_branch_is_named():
    """40 A of passive load on a line of 30 A."""
    model = Model(one_line(rating_a=30.0).feeder, [1, 1])

    found = ask(model, [9.0, 0], [9.0, 0], Limits(0.5, 1.5), base=[[0.0], [-25.0]], active=np.array([True, False]))

    assert (found.status[0], found.infeasible_by[0]) == ("infeasible", "L")


def test_an_infeasible_interval_leaves_the_others_alone():
    """Three intervals, the middle one infeasible."""
    model = Model(one_line().feeder, [1, 1])
    base = np.array([[0.0, 0.0, 0.0], [-10.0, -50.0, -10.0]])

    found = ask(model, [99.0, 0], [99.0, 0], Limits(0.9, 1.1), base=base, active=np.array([True, False]))

    assert found.status.tolist() == ["ok", "infeasible", "ok"]
    assert found.export_limit_kw[0] == pytest.approx([54.0, 0.0, 54.0], rel=1e-6)


# real feeders ---------------------------------------------------------------------------------------------------------


def ieee33_case():
    """The 33-bus feeder over a day of 24 hours: every second bus active, the others passive, a rated first line."""
    with (IEEE33 / "lines.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["in_service"] == "true"]
    lines = [
        Line(
            r["line_id"],
            r["from_bus"],
            r["to_bus"],
            float(r["r1_ohm"]),
            float(r["x1_ohm"]),
            250 if r["line_id"] == "L1" else 400,
        )
        for r in rows
    ]
    feeder = Feeder.build("33", {str(k): 12660.0 for k in range(1, 34)}, lines, source_bus="1")
    with (IEEE33 / "loads.csv").open() as file:
        loads = [(r["bus_id"], float(r["p_kw"]), float(r["q_kvar"])) for r in csv.DictReader(file)]
    day = 0.55 + 0.35 * np.sin(np.linspace(0, 2 * np.pi, 24))
    p, q = (-np.array([[load[k]] for load in loads]) * day for k in (1, 2))
    active = np.arange(len(loads)) % 2 == 0
    cap = np.array([5 * load[1] for load in loads])
    return (
        Model(feeder, [feeder.bus_index(bus) for bus, _, _ in loads]),
        p,
        q,
        active,
        cap,
        2 * cap,
        Limits(0.9, 1.05),
        None,
    )


def rural3_case():
    """SimBench rural3 over 24 hours, 96 of 118 connections active, the source's voltage wandering."""
    from network.sources import read

    grid = read("simbench:1-LV-rural3--2-no_sw")
    rng = np.random.default_rng(4)
    c = len(grid.connections.bus)
    p = -rng.uniform(0.1, 1.0, (c, 24)) * grid.connections.base_kw[:, None]
    active = np.arange(c) >= 22
    export_cap = np.where(rng.random(c) < 0.7, rng.uniform(6, 11, c), 0.0)
    import_cap = 4.2 + np.where(rng.random(c) < 0.3, 11.0, 0.0)
    watched = grid.feeder.buses.v_nominal_v < 1e3
    source = rng.uniform(1.0, 1.04, 24)
    return (
        Model(grid.feeder, grid.connections.bus),
        p,
        0.2 * p,
        active,
        export_cap,
        import_cap,
        Limits(0.98, 1.1, 100.0, watched),
        source,
    )


@pytest.mark.parametrize("case", [ieee33_case, rural3_case])
def test_the_proportional_envelope_is_the_ac_exact_one(case):
    """Within 1e-4 of sixty halvings of the share on the AC power flow, and safe at both vertices to 1e-9."""
    model, p, q, active, export_cap, import_cap, limits, source = case()

    found = compute(model, p, q, active, export_cap, import_cap, limits, source_v_pu=source)

    assert set(found.status) == {"ok"}
    for side, sign, cap, share in (
        ("export", 1, export_cap, found.share_export),
        ("import", -1, import_cap, found.share_import),
    ):
        exact = exact_share(model, p, q, active, cap, sign, limits, source)
        assert exact.min() < 0.9  # limits do bind
        np.testing.assert_allclose(share, exact, rtol=1e-4)
        assert worst(vertex(model, found, side, p, q, active, source), limits) <= 1e-9
    for binding, share in ((found.binding_export, found.share_export), (found.binding_import, found.share_import)):
        np.testing.assert_array_equal(binding == "", share == 1.0)


def test_the_binding_element_is_at_its_limit():
    """At the vertex, the named bus or branch is within 1e-6 of its limit, and no other is nearer."""
    model, p, q, active, export_cap, import_cap, limits, source = rural3_case()
    found = compute(model, p, q, active, export_cap, import_cap, limits, source_v_pu=source)
    kinds = set()

    for side, binding in (("export", found.binding_export), ("import", found.binding_import)):
        flow = vertex(model, found, side, p, q, active, source)
        for t in np.flatnonzero(binding != ""):
            if binding[t] in model.feeder.buses.ids:
                v = flow.v_pu[model.feeder.bus_index(str(binding[t])), t]
                assert min(abs(v - limits.v_max_pu), abs(v - limits.v_min_pu)) < 1e-6
                kinds.add("bus")
            else:
                assert flow.loading_percent[model.feeder.branches.ids.index(binding[t]), t] == pytest.approx(
                    100.0, rel=1e-6
                )
                kinds.add("branch")
    assert kinds == {"bus", "branch"}


@pytest.mark.parametrize("rule", sorted(envelope.RULES))
def test_every_rule_is_safe_on_a_real_feeder(rule):
    """Both vertices keep every limit, floors and a firm charge included; no rule gives more than the cap."""
    model, p, q, active, export_cap, import_cap, limits, source = rural3_case()
    p, q, source = p[:, 8:20:3], q[:, 8:20:3], source[8:20:3]
    firm = np.zeros_like(p)
    firm[30, :2], import_cap[30] = 25.0, 40.0

    found = compute(
        model,
        p,
        q,
        active,
        export_cap,
        import_cap,
        limits,
        rule=rule,
        firm_charge_kw=firm,
        export_floor_kw=np.minimum(export_cap, 1.5),
        source_v_pu=source,
    )

    assert set(found.status) == {"ok"}
    for side in ("export", "import"):
        assert worst(vertex(model, found, side, p, q, active, source), limits) <= 1e-9
    obliged = firm[active] > 0
    export_limit, import_limit = found.export_limit_kw[active], found.import_limit_kw[active]
    assert (export_limit <= export_cap[active][:, None]).all()
    assert (import_limit <= import_cap[active][:, None]).all()
    assert (
        export_limit[~obliged] >= np.broadcast_to(np.minimum(export_cap, 1.5)[active][:, None], obliged.shape)[~obliged]
    ).all()
    assert (export_limit[obliged] == 0).all()
    assert (import_limit >= firm[active]).all()


def test_max_min_gives_the_worst_off_no_less_than_equal_does():
    """And nobody less."""
    model, p, q, active, export_cap, import_cap, limits, _ = ieee33_case()

    equal = compute(model, p, q, active, export_cap, import_cap, limits, rule="equal")
    fair = compute(model, p, q, active, export_cap, import_cap, limits, rule="max_min")

    assert (fair.export_limit_kw[active] >= equal.export_limit_kw[active] - 1e-9).all()
    assert (fair.import_limit_kw[active] >= equal.import_limit_kw[active] - 1e-9).all()


def test_a_long_horizon_is_cut_and_comes_out_the_same(monkeypatch):
    """A year goes through in parts; parts change nothing."""
    model, p, q, active, export_cap, import_cap, limits, source = rural3_case()
    whole = compute(model, p, q, active, export_cap, import_cap, limits, source_v_pu=source)
    monkeypatch.setattr(envelope, "_COLUMNS_AT_ONCE", 14)

    parts = compute(model, p, q, active, export_cap, import_cap, limits, source_v_pu=source)

    np.testing.assert_allclose(parts.export_limit_kw, whole.export_limit_kw, rtol=1e-9)
    np.testing.assert_allclose(parts.import_limit_kw, whole.import_limit_kw, rtol=1e-9)
    assert parts.binding_export.tolist() == whole.binding_export.tolist()


# laws ------------------------------------------------------------------------------------------------------------------


@st.composite
def cases(draw):
    """A transformer and any tree of LV cables; some passive, some active connections; binding or not."""
    n = draw(st.integers(2, 10))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    buses = {"mv": 20e3} | {f"b{k}": 400.0 for k in range(n)}
    branches = [
        Transformer(
            "T",
            "mv",
            "b0",
            float(rng.uniform(100, 400)),
            20e3,
            400,
            4,
            1.0,
            0.3,
            0.4,
            5,
            "from",
            draw(st.integers(-1, 1)),
            2.5,
        )
    ]
    for k in range(1, n):
        r = rng.uniform(0.005, 0.08)
        branches.append(
            Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", r, r * rng.uniform(0.2, 0.8), rating_a=270, c1_nf=20)
        )
    feeder = Feeder.build("random", buses, branches, source_bus="mv")
    c, intervals = draw(st.integers(1, 12)), 3
    where = rng.integers(1, n + 1, c)
    p = rng.normal(-1, 2, (c, intervals))
    caps = rng.uniform(0, 40, (2, c)) * (rng.random((2, c)) < 0.8)
    watched = np.array([False] + [True] * n)
    return (
        Model(feeder, where),
        p,
        0.2 * p,
        rng.random(c) < 0.8,
        caps[0],
        caps[1],
        Limits(0.93, 1.07, 100.0, watched),
        rng,
    )


def test_a_deterministic_envelope_leaves_loadings_open_between_its_vertices():
    """A current is a power over a voltage: who imports near the source lowers the voltage at which another exports.

    Both vertices keep the rating of the far line; with the near home importing and the far one exporting, each inside its
    envelope, it is passed by a little.
    """
    lines = [Line("near", "source", "bar", 0.05, 0.02), Line("far", "bar", "end", 0.02, 0.01, rating_a=50.0)]
    feeder = Feeder.build("street", {"source": 400.0, "bar": 400.0, "end": 400.0}, lines, source_bus="source")
    model, zero, caps = Model(feeder, [1, 2]), np.zeros((2, 1)), np.array([40.0, 60.0])
    found = compute(model, zero, zero, [True, True], caps, caps, Limits(0.8, 1.2, 100.0))
    near_imports, far_exports = found.import_limit_kw[0, 0], found.export_limit_kw[1, 0]

    def loading(near_kw, far_kw):
        return model.solve(np.array([[near_kw], [far_kw]]), zero).loading_percent.max()

    assert found.binding_export[0] == "far"
    assert loading(found.export_limit_kw[0, 0], far_exports) <= 100.0 + 1e-9
    assert loading(-near_imports, -found.import_limit_kw[1, 0]) <= 100.0 + 1e-9
    assert loading(-near_imports, far_exports) > 100.1


@settings(max_examples=60, deadline=None)
@given(cases())
def test_voltages_hold_at_any_use_inside_the_envelope(case):
    """On a balanced feeder voltages hold at both vertices and three hundred random points of the box, loadings at both vertices."""
    model, p, q, active, export_cap, import_cap, limits, rng = case
    found = compute(model, p, q, active, export_cap, import_cap, limits)
    for t in np.flatnonzero(found.status == "ok"):
        export_limit, import_limit = (
            np.where(active, side[:, t], 0) for side in (found.export_limit_kw, found.import_limit_kw)
        )
        where = rng.random((model.n_connection, 300))
        where[:, :100] = np.rint(where[:, :100])
        where[:, 0], where[:, 1] = 0.0, 1.0
        use = -import_limit[:, None] + where * (export_limit + import_limit)[:, None]
        flow = model.solve(np.where(active[:, None], use, p[:, [t]]), np.repeat(q[:, [t]], 300, axis=1))

        voltages = replace(limits, loading_max_percent=np.inf)
        assert worst(flow, voltages) <= 1e-9
        vertices = flow.loading_percent[:, :2]
        assert vertices.max() <= limits.loading_max_percent + 1e-9


@settings(max_examples=60, deadline=None)
@given(cases())
def test_an_envelope_is_never_negative_never_nan_and_names_what_is_wrong(case):
    """Whatever is asked: limits from zero to the cap for active connections, inf for passive ones, a name if infeasible."""
    model, p, q, active, export_cap, import_cap, limits, _ = case
    found = compute(model, 6 * p, 6 * q, active, export_cap, import_cap, limits)

    for limit, cap in ((found.export_limit_kw, export_cap), (found.import_limit_kw, import_cap)):
        assert (limit >= 0).all()
        assert (limit[active] <= cap[active][:, None]).all()
        assert np.isinf(limit[~active]).all()
    infeasible = found.status == "infeasible"
    np.testing.assert_array_equal(found.infeasible_by != "", infeasible)
    start = model.solve(np.where(active[:, None], 0.0, 6 * p), 6 * q)
    for t in range(3):
        alone = model.solve(np.where(active, 0.0, 6 * p[:, t])[:, None], 6 * q[:, [t]])
        assert infeasible[t] == (worst(alone, limits) > 1e-9)
    assert start.converged.shape == infeasible.shape


@settings(max_examples=40, deadline=None)
@given(cases())
def test_the_order_of_connections_does_not_matter(case):
    """Whoever is listed first gets the same."""
    model, p, q, active, export_cap, import_cap, limits, rng = case
    turn = rng.permutation(model.n_connection)
    turned = Model(model.feeder, model.connection_bus[turn])

    one = compute(model, p, q, active, export_cap, import_cap, limits)
    other = compute(turned, p[turn], q[turn], active[turn], export_cap[turn], import_cap[turn], limits)

    np.testing.assert_allclose(other.export_limit_kw, one.export_limit_kw[turn], rtol=1e-5)
    np.testing.assert_allclose(other.import_limit_kw, one.import_limit_kw[turn], rtol=1e-5)
    assert other.status.tolist() == one.status.tolist()


@settings(max_examples=40, deadline=None)
@given(cases(), st.floats(1.0, 3.0))
def test_more_cap_for_all_never_shrinks_the_total(case, factor):
    """Caps grown by one factor leave the proportional envelope as it was, or larger where caps had been the limit."""
    model, p, q, active, export_cap, import_cap, limits, _ = case

    one = compute(model, p, q, active, export_cap, import_cap, limits)
    more = compute(model, p, q, active, factor * export_cap, factor * import_cap, limits)

    for before, after in ((one.export_limit_kw, more.export_limit_kw), (one.import_limit_kw, more.import_limit_kw)):
        assert (after[active].sum(axis=0) >= before[active].sum(axis=0) * (1 - 1e-5)).all()


@settings(max_examples=40, deadline=None)
@given(cases())
def test_a_higher_source_leaves_less_room_for_exports_where_voltages_bind(case):
    """Each interval has its own source voltage; without loading limits the export share falls with it."""
    model, p, _, active, export_cap, import_cap, limits, _ = case
    voltage_only = Limits(0.0, limits.v_max_pu, math.inf, limits.monitored)
    same = np.repeat(p[:, [0]], 3, axis=1)

    found = compute(
        model, same, 0.2 * same, active, export_cap, import_cap, voltage_only, source_v_pu=np.array([0.98, 1.0, 1.02])
    )
    ok = found.status == "ok"

    assert (np.diff(found.share_export[ok]) <= 1e-7).all()
    alone = compute(
        model, same[:, :1], 0.2 * same[:, :1], active, export_cap, import_cap, voltage_only, source_v_pu=1.02
    )
    np.testing.assert_allclose(found.export_limit_kw[:, 2], alone.export_limit_kw[:, 0], rtol=1e-5)


# mistakes ---------------------------------------------------------------------------------------------------------------


def test_an_unknown_rule_or_mode_is_answered_with_what_there_is():
    """The message lists them."""
    with pytest.raises(EnvelopeError, match=r"there is no rule 'queue'\. There are 'proportional', 'equal', 'max_min'"):
        ask(one_line(), [1.0], [1.0], Limits(0.9, 1.1), rule="queue")
    with pytest.raises(EnvelopeError, match=r"there is no mode 'safe'\. There are 'deterministic', 'robust'"):
        ask(one_line(), [1.0], [1.0], Limits(0.9, 1.1), mode="safe")


def test_a_rule_can_be_plugged_in(monkeypatch):
    """A rule is a path from floors to caps: here, first come, first served."""

    def queue(share, cap, floor):
        left = share * cap.sum(axis=0)
        before = np.cumsum(cap, axis=0) - cap
        return np.maximum(floor, np.clip(left - before, 0.0, cap))

    monkeypatch.setitem(envelope.RULES, "queue", envelope.Rule(queue))
    model = Model(one_line().feeder, [1, 1, 1])

    found = ask(model, [30.0, 30.0, 30.0], [0.0] * 3, Limits(0.9, 1.1), rule="queue")

    assert found.export_limit_kw[:, 0] == pytest.approx([30.0, 14.0, 0.0], abs=1e-4)


MISTAKES = {
    "NaN cap": ({"export_cap": [math.nan]}, "export_cap_kw is nan for connection 0 in interval 0"),
    "negative cap": ({"import_cap": [-1.0]}, "import_cap_kw is -1 for connection 0"),
    "infinite cap": ({"import_cap": [math.inf]}, "import_cap_kw is inf for connection 0"),
    "two caps": ({"export_cap": [1.0, 2.0]}, r"export_cap_kw has shape \(2, 1\)"),
    "NaN base": ({"base": [[math.nan]]}, "the base injections have shape"),
    "two rows": ({"base": [[0.0], [0.0]]}, r"the base injections have shape \(2, 1\)"),
    "two active": ({"active": np.array([True, True])}, r"active has shape \(2,\)"),
    "floor above cap": ({"export_floor_kw": [2.0]}, "export floor of 2 kW above its cap of 1 kW"),
    "charge above cap": ({"firm_charge_kw": [[2.0]]}, "firm charge of 2 kW above its cap of 1 kW"),
    "NaN floor": ({"import_floor_kw": [math.nan]}, "import_floor_kw is nan"),
    "NaN charge": ({"firm_charge_kw": [[math.nan]]}, "firm_charge_kw is nan"),
    "passive charge": (
        {"firm_charge_kw": [[0.5]], "active": np.array([False])},
        "a passive connection has a firm charge",
    ),
    "NaN bound": ({"limits": Limits(math.nan, 1.1)}, "the voltage of bus 'a' is to lie between nan and 1.1 pu"),
    "turned bounds": ({"limits": Limits(1.1, 0.9)}, "between 1.1 and 0.9 pu"),
    "NaN loading": ({"limits": Limits(0.9, 1.1, math.nan)}, "the loading of branch 'L' is limited to nan %"),
    "bounds of others": ({"limits": Limits(0.9, np.ones(3))}, r"limits.v_max_pu has shape \(3,\)"),
    "monitored": ({"limits": Limits(0.9, 1.1, 100.0, np.ones(3, bool))}, r"limits.monitored has shape \(3,\)"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_told(case):
    """In a sentence, before anything is computed."""
    changes, sentence = MISTAKES[case]
    given_ = {"export_cap": [1.0], "import_cap": [1.0], "limits": Limits(0.9, 1.1), **changes}

    with pytest.raises(EnvelopeError, match=sentence):
        ask(one_line(), **given_)


def test_all_mistakes_are_told_at_once():
    """Rule, cap and floor in one message."""
    with pytest.raises(EnvelopeError) as caught:
        ask(one_line(), [-1.0], [1.0], Limits(0.9, 1.1), rule="queue", import_floor_kw=[2.0])

    for part in ("no rule 'queue'", "export_cap_kw is -1", "import floor of 2 kW"):
        assert part in str(caught.value)
