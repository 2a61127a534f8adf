"""Rules that are an optimum, what is told of an envelope, and renewals: by hand, by CVXPY, by another optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import EnvelopeError, Limits, compute
from network.envelope_issues import Issue, in_force
from network.equity import equity
from network.feeder import Feeder, Line
from network.few_rows import best_of_few_rows
from network.linear import rows
from network.programme import Programme
from network.sources import read

LIMITS = Limits(0.9, 1.1)


def one_bus(customers):
    """1.1 · 0.1 · 400 = 44 kW may be fed in at the end of the line, 0.9 · 0.1 · 400 = 36 kW drawn."""
    feeder = Feeder.build("one", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", 0.4, 0.0)], source_bus="a")
    return Model(feeder, [1] * customers)


def chain():
    """Three homes along one line, 400 V."""
    lines = [Line(f"L{k}", f"b{k}", f"b{k + 1}", 0.2, 0.05, rating_a=120.0) for k in range(3)]
    feeder = Feeder.build("chain", {f"b{k}": 400.0 for k in range(4)}, lines, source_bus="b0")
    return Model(feeder, [1, 2, 3])


def ask(model, export_cap, import_cap, limits=LIMITS, **more):
    c = model.n_connection
    nothing = np.zeros((c, 1))
    return compute(model, nothing, nothing, np.ones(c, bool), export_cap, import_cap, limits, **more)


# by hand ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "more", "shares"),
    [
        ("max_total", {"weight": [1.0, 2.0, 1.5]}, [0.0, 30.0, 14.0]),
        ("proportional_fairness", {}, [44 / 3, 44 / 3, 44 / 3]),
        ("proportional_fairness", {"weight": [2.0, 1.0, 1.0]}, [22.0, 11.0, 11.0]),
        ("alpha_fair", {"weight": [4.0, 1.0, 1.0], "alpha": 2.0}, [22.0, 11.0, 11.0]),
        ("alpha_fair", {"weight": [1.0, 2.0, 2.0], "alpha": 0.5}, [44 / 9, 4 * 44 / 9, 4 * 44 / 9]),
        ("last_in_first_out", {}, [30.0, 14.0, 0.0]),
        ("last_in_first_out", {"order": [3, 1, 2]}, [0.0, 30.0, 14.0]),
        ("proportional", {"weight": [2.0, 1.0, 1.0]}, [22.0, 11.0, 11.0]),
        ("equal", {"weight": [2.0, 1.0, 1.0]}, [22.0, 11.0, 11.0]),
    ],
)
@pytest.mark.parametrize("mode", ["deterministic", "robust"])
def test_44_kw_are_shared_as_the_rule_says(rule, more, shares, mode):
    """Three homes of 30 kW on one bus: the weighted one first, in proportion to w^(1/α), or in the order of connection."""
    found = ask(one_bus(3), [30.0] * 3, [30.0] * 3, rule=rule, mode=mode, **more)

    assert found.export_limit_kw[:, 0] == pytest.approx(shares, rel=2e-4, abs=2e-3)
    assert found.import_limit_kw[:, 0] == pytest.approx(
        [36 / 44 * x if x < 30 else x for x in shares], rel=2e-4, abs=2e-3
    ) or ("max_total" in rule or "last" in rule)
    assert found.import_limit_kw.sum() == pytest.approx(36.0, rel=1e-5)


def test_floors_come_first_in_an_optimum():
    """The home that max_total starves keeps its static right of 5 kW."""
    found = ask(one_bus(2), [40.0, 40.0], [0.0, 0.0], rule="max_total", weight=[1.0, 2.0], export_floor_kw=[5.0, 0.0])

    assert found.export_limit_kw[:, 0] == pytest.approx([5.0, 39.0], rel=1e-5)


def test_an_optimum_that_starts_infeasible_is_told():
    """Floors of 60 kW where 44 are carried: infeasible, the bus and the kind named, floors kept."""
    for rule in ("max_total", "proportional_fairness"):
        for mode in ("deterministic", "robust"):
            found = ask(one_bus(2), [40.0, 40.0], [1.0, 1.0], rule=rule, mode=mode, export_floor_kw=[30.0, 30.0])
            assert (found.status[0], found.infeasible_by[0], found.infeasible_kind[0]) == (
                "infeasible",
                "b",
                "over_voltage",
            )
            assert found.export_limit_kw[:, 0].tolist() == [30.0, 30.0]


def test_a_firm_charge_makes_room_in_every_mode_and_rule():
    """A storage that must draw 10 kW lets the home export 54: deterministic, robust, as a path and as an optimum."""
    for mode in ("deterministic", "robust"):
        for rule in ("proportional", "max_total", "proportional_fairness", "last_in_first_out"):
            found = ask(one_bus(2), [100.0, 0.0], [0.0, 25.0], rule=rule, mode=mode, firm_charge_kw=[[0.0], [10.0]])
            assert found.export_limit_kw[:, 0] == pytest.approx([54.0, 0.0], rel=1e-5), (mode, rule)
            assert found.import_limit_kw[1, 0] == pytest.approx(25.0)


# against others ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["export", "import"])
def test_max_total_is_the_optimum_of_another_optimiser(side):
    """SciPy's SLSQP on the AC power flow, from ten starts, finds nothing better than 1e-4, with weights that matter."""
    from scipy.optimize import minimize

    model, cap, weight = chain(), np.array([40.0, 40.0, 40.0]), np.array([1.0, 1.2, 1.9])
    sign = 1.0 if side == "export" else -1.0
    found = ask(model, cap, cap, rule="max_total", weight=weight)
    ours = weight @ (found.export_limit_kw if side == "export" else found.import_limit_kw)[:, 0]

    def room(x):
        flow = model.solve(sign * x[:, None], 0 * x[:, None])
        return np.concatenate([1.1 - flow.v_pu[:, 0], flow.v_pu[:, 0] - 0.9, 1 - flow.loading_percent[:, 0] / 100])

    best, rng = 0.0, np.random.default_rng(0)
    for _ in range(10):
        one = minimize(lambda x: -weight @ x, rng.uniform(0, 15, 3), bounds=[(0, 40)] * 3,
                       constraints={"type": "ineq", "fun": room}, method="SLSQP", options={"ftol": 1e-10})  # fmt: skip
        if one.success and room(one.x).min() > -1e-7:
            best = max(best, -one.fun)
    assert best > 0
    assert ours >= best * (1 - 1e-4)


@pytest.mark.parametrize(
    ("rule", "alpha"), [("max_total", 0.0), ("proportional_fairness", 1.0), ("alpha_fair", 0.5), ("alpha_fair", 3.0)]
)
def test_the_optimum_over_rows_is_that_of_cvxpy(rule, alpha):
    """Random rows, weights, floors and caps: the rows are kept, and the value is CVXPY's to 1e-5 (for three bounds)."""
    import cvxpy as cp

    rng = np.random.default_rng(5)
    g, cap, floor, weight = rng.uniform(0, 1, (30, 12)), np.full(12, 10.0), np.zeros(12), rng.uniform(0.5, 2, 12)
    floor[3] = 0.2
    programme = Programme(g, rule, weight, alpha)
    for _ in range(3):
        h = rng.uniform(4, 12, 30)
        x, y = programme.best(h, cap, floor), cp.Variable(12)
        assert x is not None
        value = weight @ (y if alpha == 0.0 else cp.log(y) if alpha == 1.0 else cp.power(y, 1 - alpha) / (1 - alpha))
        problem = cp.Problem(cp.Maximize(value), [g @ y <= h, y >= floor, y <= cap])
        problem.solve(solver=cp.CLARABEL)
        ours = weight @ (x if alpha == 0.0 else np.log(x) if alpha == 1.0 else x ** (1 - alpha) / (1 - alpha))
        assert (g @ x <= h + 1e-6).all()
        assert ours == pytest.approx(problem.value, rel=1e-5, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_programmes_of_few_rows_are_those_of_scipy(seed):
    """Up to 25 rows and 120 columns, some rows alike or empty, weights alike: SciPy's value to 1e-7, none where SciPy finds none."""
    from scipy.optimize import linprog

    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 121)), int(rng.integers(0, 26))
    rows = (
        rng.normal(0.3, 0.5, (k, n))
        if seed % 2
        else np.repeat(rng.random((k, 1)), n, 1) * (1 + 1e-4 * rng.random((k, n)))
    )
    if k > 2:
        rows[1], rows[2] = rows[0], 0.0
    most = rng.uniform(0, 10, n) * (rng.random(n) < 0.9)
    weight = rng.uniform(-0.2, 1, n) if seed % 3 else np.ones(n)
    bound = rows @ most * rng.uniform(0.05, 0.8, k) + rng.normal(0, 0.01, k)
    ours = best_of_few_rows(rows, bound, weight, most)
    theirs = linprog(-weight, A_ub=rows, b_ub=bound, bounds=[(0, u) for u in most], method="highs")

    if theirs.status != 0:
        assert ours is None
        return
    assert ours is not None
    assert weight @ ours == pytest.approx(-theirs.fun, rel=1e-7, abs=1e-7)
    assert (rows @ ours <= bound + 1e-8 * (1 + np.abs(bound))).all()


def test_rows_that_cannot_be_kept_have_no_optimum():
    """At least 2 and at most 1: None, never a guess."""
    for rule in ("max_total", "proportional_fairness"):
        assert (
            Programme(np.array([[1.0]]), rule, np.ones(1)).best(np.array([1.0]), np.array([5.0]), np.array([2.0]))
            is None
        )


def test_plain_linear_import_limits_break_and_corrected_ones_do_not():
    """33 buses: the proportional import limit of the linear rows is too low a voltage in AC; the envelope's is not; exports are safe both ways."""
    grid = read("ieee33")
    model = Model(grid.feeder, grid.connections.bus)
    c = model.n_connection
    base_q = -0.5 * grid.connections.base_kvar[:, None]
    limits, cap = Limits(0.9, 1.05), 5.0 * grid.connections.base_kw
    linear = rows(model, base_q, v_min_pu=0.9, v_max_pu=1.05)
    v = {}
    for side, sign in (("export", 1.0), ("import", -1.0)):
        a = sign * linear.a_kw @ cap
        share = np.min(np.where(a > 0, linear.b[:, 0] / np.where(a > 0, a, 1.0), np.inf))
        v["linear", side] = model.solve((sign * min(share, 1.0) * cap)[:, None], base_q).v_pu
    found = compute(model, np.zeros((c, 1)), base_q, np.ones(c, bool), cap, cap, limits)
    v["ours", "export"] = model.solve(found.export_limit_kw, base_q).v_pu
    v["ours", "import"] = model.solve(-found.import_limit_kw, base_q).v_pu

    assert v["linear", "import"].min() < 0.9 - 0.003
    assert v["linear", "export"].max() <= 1.05
    assert v["ours", "import"].min() == pytest.approx(0.9, abs=1e-6)
    assert v["ours", "export"].max() == pytest.approx(1.05, abs=1e-6)


def random_tree(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 5))
    lines = []
    for k in range(n):
        r = rng.uniform(0.05, 0.4)
        lines.append(
            Line(
                f"L{k}",
                f"b{rng.integers(0, k + 1)}",
                f"b{k + 1}",
                r,
                r * rng.uniform(0.2, 0.6),
                rating_a=rng.uniform(60, 200),
            )
        )
    feeder = Feeder.build("tree", {f"b{k}": 400.0 for k in range(n + 1)}, lines, source_bus="b0")
    c = int(rng.integers(1, 5))
    return Model(feeder, rng.integers(1, n + 1, c)), rng.uniform(1, 60, c), rng


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["deterministic", "robust"]))
def test_more_capacity_never_shrinks_the_total_of_max_total(seed, mode):
    """One customer's caps grow, or the voltages may: the total does not fall by more than 1e-4."""
    model, cap, rng = random_tree(seed)
    larger = cap.copy()
    larger[rng.integers(len(cap))] *= 2.0

    one = ask(model, cap, cap, rule="max_total", mode=mode)
    more = ask(model, larger, larger, rule="max_total", mode=mode)
    wider = ask(model, cap, cap, Limits(0.88, 1.12), rule="max_total", mode=mode)

    for other in (more, wider):
        before = one.export_limit_kw.sum() + one.import_limit_kw.sum()
        assert other.export_limit_kw.sum() + other.import_limit_kw.sum() >= before * (1 - 1e-4)


def test_the_largest_total_is_where_losses_take_the_most():
    """One rating of 72.87 A decides: 53.34 kW are fed in where the far customer's losses help, 53.10 in proportion.

    Found by hand: the far one at its cap of 12.45 kW, whatever the near ones share.
    """
    model, cap, _ = random_tree(458)
    found = ask(model, cap, cap, rule="max_total")

    assert found.export_limit_kw[2, 0] == pytest.approx(cap[2])
    assert found.export_limit_kw.sum() == pytest.approx(53.337, abs=0.005)


@pytest.mark.slow
def test_a_budget_of_a_few_gives_an_optimum_more_than_any_use_does():
    """European LV, two customers who do otherwise: max_total is more than the queue's, and more than what any use allows."""
    grid = read("european_lv")
    model = Model(grid.feeder, grid.connections.bus, grid.connections.phase)
    watched = np.ones(grid.feeder.n_bus, dtype=bool)
    watched[grid.feeder.source_bus] = False
    nothing, everybody = np.zeros((55, 1)), np.ones(55, dtype=bool)

    def total(rule, **more):
        found = compute(model, nothing, nothing, everybody, np.full(55, 10.0), nothing[:, 0], Limits(0.94, 1.1, 100.0, watched),
                        rule=rule, source_v_pu=1.02, **more)  # fmt: skip
        return found.export_limit_kw.sum()

    few, queue, any_use = (
        total("max_total", mode="budget", budget=2),
        total("last_in_first_out", mode="budget", budget=2),
        total("max_total", mode="robust"),
    )
    assert few > 1.05 * queue
    assert few > 1.05 * any_use


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_max_total_is_the_largest_of_all_rules_and_every_rule_is_safe(seed):
    """No rule gives more in all than max_total; both corners keep voltages and loadings."""
    model, cap, _ = random_tree(seed)
    totals = {}
    for rule in (
        "max_total",
        "proportional",
        "equal",
        "max_min",
        "last_in_first_out",
        "proportional_fairness",
        "alpha_fair",
    ):
        found = ask(model, cap, cap, rule=rule)
        p = np.hstack([found.export_limit_kw, -found.import_limit_kw])
        flow = model.solve(p, 0 * p)
        assert flow.v_pu.max() <= 1.1 + 1e-9
        assert flow.v_pu.min() >= 0.9 - 1e-9
        assert flow.loading_percent.max() <= 100 + 1e-7
        totals[rule] = (found.export_limit_kw.sum(), found.import_limit_kw.sum())
    for side in (0, 1):
        assert max(total[side] for total in totals.values()) <= totals["max_total"][side] * (1 + 1e-3)


# what is told -------------------------------------------------------------------------------------------------------------


def test_equity_by_hand():
    """Shares 1, 1/2 and 0: Jain (3/2)²/(3 · 5/4) = 0.6, Gini (4 · 1/2 + 2 · 1) / (2 · 3 · 3/2) = 4/9; inf does not count."""
    found = equity([[8.0], [2.0], [0.0], [np.inf]], [8.0, 4.0, 4.0, 0.0], [0.0, 0.0, 0.0, 0.0])

    assert found.total_kw[0] == 10.0
    assert (found.least_share[0], found.worst[0], found.mean_share[0], found.at_floor[0]) == (0.0, 2, 0.5, 1)
    assert (found.jain[0], found.gini[0]) == pytest.approx((0.6, 4 / 9))
    assert np.isnan(equity([[np.inf]], [0.0]).jain[0])
    assert np.isnan(equity([[0.0]], [1.0]).gini[0])


def test_equity_of_kilowatts_where_no_caps_are_known():
    """One and three kW: Jain 16/20, Gini 2·2/(2·2·4) = 0.25, the first has least; all alike: 1 and 0; of nobody: NaN."""
    found = equity([[1.0], [3.0]], None)

    assert (found.jain[0], found.gini[0], found.least_share[0], found.worst[0]) == (0.8, 0.25, 1.0, 0)
    alike = equity(np.full((7, 2), 0.1), None)
    assert alike.jain.tolist() == pytest.approx([1.0, 1.0])
    assert alike.gini.tolist() == pytest.approx([0.0, 0.0], abs=1e-15)
    nobody = equity(np.empty((0, 1)), None)
    assert nobody.worst.tolist() == [-1]
    assert np.isnan([nobody.jain[0], nobody.gini[0], nobody.least_share[0], nobody.mean_share[0]]).all()
    assert equity([[0.0], [1.0], [9.0]], [0.0, 2.0, 9.0]).worst.tolist() == [1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0.0, 50.0), min_size=5, max_size=5), min_size=1, max_size=9), st.data())
def test_ginis_coefficient_is_the_sum_over_all_pairs(limits, data):
    """In every interval apart, those without an envelope left out: Σ_ij |s_i − s_j| / (2 n Σ s), as it is defined."""
    table = np.array(limits)
    cap = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 7.0]), min_size=len(table), max_size=len(table))))
    absent = np.array(data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table))))
    table[absent] = np.inf
    found = equity(table, cap)
    there = ~absent & (cap > 0)

    for t in range(5):
        s = table[there, t] / cap[there]
        if s.sum() > 1e-9:
            pairs = sum(abs(a - b) for a in s for b in s) / (2 * len(s) * s.sum())
            assert found.gini[t] == pytest.approx(pairs, abs=1e-12)
        if len(s):
            assert found.least_share[t] == s.min()
            assert table[found.worst[t], t] / cap[found.worst[t]] == s.min()


def test_the_table_of_an_envelope_has_a_row_for_everyone_who_has_one():
    """Two intervals, one of two customers passive: two rows, with names, kinds and words."""
    found = compute(
        one_bus(2), np.zeros((2, 2)), np.zeros((2, 2)), [True, False], [90.0, 0.0], [5.0, 0.0], LIMITS, mode="robust"
    )
    table = found.to_frame(["home", "shop"])

    assert table["connection"].tolist() == ["home", "home"]
    assert table["export_limit_kw"].tolist() == pytest.approx([44.0, 44.0], rel=1e-5)
    assert table["binding_export"].tolist() == ["b", "b"]
    assert table["binding_export_kind"].tolist() == ["over_voltage", "over_voltage"]
    assert set(table["binding_import"]) == {""}
    assert set(table["mode"] + table["rule"]) == {"robustproportional"}


def test_a_renewed_envelope_is_in_force_from_its_first_interval_on():
    """A day-ahead issue of three hours, an intraday one of the last two: one, two, two."""
    moment = np.array(["2030-06-01T10:00", "2030-06-01T11:00", "2030-06-01T12:00"], dtype="datetime64[s]")
    ahead = compute(one_bus(1), np.zeros((1, 3)), np.zeros((1, 3)), [True], [20.0], [20.0], LIMITS)
    later = compute(one_bus(1), np.zeros((1, 2)), np.zeros((1, 2)), [True], [90.0], [90.0], LIMITS, mode="robust")
    first = Issue(np.datetime64("2030-05-31T10:00", "s"), moment, ahead)
    second = Issue(np.datetime64("2030-06-01T10:55", "s"), moment[1:], later)

    found = in_force([second, first])

    assert found.issue.tolist() == [1, 0, 0]
    assert found.envelope.export_limit_kw[0].tolist() == pytest.approx([20.0, 44.0, 44.0], rel=1e-5)
    assert found.envelope.binding_export.tolist() == ["", "b", "b"]
    assert found.envelope.mode == "deterministic | robust"


def test_an_issue_that_binds_before_it_was_made_is_refused():
    """Issued at 10:55 for 10:00; or with less notice than is asked for."""
    moment = np.array(["2030-06-01T10:00"], dtype="datetime64[s]")
    one = compute(one_bus(1), [[0.0]], [[0.0]], [True], [20.0], [20.0], LIMITS)

    with pytest.raises(
        EnvelopeError, match="issue 0 of 2030-06-01T10:55:00 binds from 2030-06-01T10:00:00 on, before it may"
    ):
        in_force([Issue(np.datetime64("2030-06-01T10:55", "s"), moment, one)])
    with pytest.raises(EnvelopeError, match="before it may"):
        in_force([Issue(np.datetime64("2030-06-01T09:58", "s"), moment, one)], notice=np.timedelta64(5, "m"))
    with pytest.raises(EnvelopeError, match="there is no issue"):
        in_force([])


MISTAKES = {
    "pinned": ({"mode": "robust_pinned"}, "needs pinned_import_kw"),
    "not pinned": ({"pinned_import_kw": 1.0}, "belongs to the mode 'robust_pinned'; the mode is 'deterministic'"),
    "budget": ({"mode": "budget"}, "needs a budget"),
    "negative": ({"mode": "budget", "budget": -1}, "budget is -1"),
    "chance": ({"mode": "chance"}, "needs an uncertainty of shape 'gaussian'"),
    "weight": ({"weight": [0.0, 1.0]}, "expected 2 numbers above zero"),
    "order": ({"order": [1]}, r"order has shape \(1,\)"),
    "alpha": ({"alpha": 0.0}, "alpha is 0"),
    "NaN pin": ({"mode": "robust_pinned", "pinned_import_kw": np.nan}, "pinned_import_kw is nan"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_of_modes_and_rules_are_told(case):
    """In a sentence, before anything is computed."""
    more, sentence = MISTAKES[case]
    with pytest.raises(EnvelopeError, match=sentence):
        ask(one_bus(2), [1.0, 1.0], [1.0, 1.0], **more)
