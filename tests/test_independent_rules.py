"""Every sharing rule by its definition: bisection, greedy filling, certificates and frontiers on power-grid-model; vertices and CVXPY on rows."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Limits, compute
from network.equity import equity
from network.feeder import Feeder, Line, Transformer
from network.linear import rows
from network.programme import Programme
from network.referee import check

SETTINGS = settings(max_examples=12, deadline=None)


class There:
    """How far the worst limit is passed, by power-grid-model: relative to itself, inf where nothing is solved."""

    def __init__(self, model, limits, passive=None, source=None):
        self.model, self.limits, self.source = model, limits, source
        self.passive = np.zeros((model.n_connection, 1), complex) if passive is None else passive

    def beyond(self, p_kw):
        p_kw = np.asarray(p_kw, float).reshape(self.model.n_connection, -1)
        power = p_kw + self.passive
        model, limits = self.model, self.limits
        flow = check(model.feeder, model.connection_bus, -power.real, -power.imag, self.source, model.connection_phase)
        watched = np.ones(model.feeder.n_bus, bool) if limits.monitored is None else limits.monitored
        v = flow.v_pu[watched[model.nodes.element]]
        loading = np.nan_to_num(flow.loading_percent, nan=0.0).max(axis=0) / limits.loading_max_percent
        found = np.maximum.reduce(
            [v.max(axis=0) / limits.v_max_pu - 1, 1 - v.min(axis=0) / limits.v_min_pu, loading - 1]
        )
        return np.where(flow.converged, found, np.inf)

    def first(self, path, noise=0.0):
        """The last share of a path, 0 to 1, before anything breaks: 25 points between two brackets, eight times."""
        low, high = 0.0, 1.0
        for _ in range(8):
            points = np.linspace(low, high, 25)
            broken = self.beyond(np.hstack([path(x) for x in points])) > noise
            if not broken.any():
                return high
            k = max(int(broken.argmax()), 1)
            low, high = points[k - 1], points[k]
        return low


def tree(seed, three_phase=False):
    """Laterals of LV cable from a source without impedance; one passive load, the others with caps, floors and weights."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    volts = {"s": 400.0, **{f"b{k}": 400.0 for k in range(n)}}
    branches = []
    if three_phase:
        volts["s"] = 11000.0
        branches.append(Transformer("T", "s", "b0", 150.0, 11000.0, 400.0, 4.0, 1.5, clock=11))
    for k in range(len(branches), n):
        above = "s" if k == 0 or (not three_phase and rng.random() < 0.35) else f"b{rng.integers(0, k)}"
        km = rng.uniform(0.1, 0.6)
        branches.append(
            Line(
                f"L{k}",
                above,
                f"b{k}",
                0.4 * km,
                0.1 * km,
                rating_a=float(rng.uniform(50, 160)),
                r0_ohm=1.2 * km,
                x0_ohm=0.1 * km,
            )
        )
    feeder = Feeder.build("tree", volts, branches, source_bus="s")
    c = int(rng.integers(2, 6))
    phases = [str(rng.choice(["a", "b", "c"])) for _ in range(c + 1)] if three_phase else None
    model = Model(feeder, rng.integers(1, n + 1, c + 1), phases)
    scale = 12.0 if three_phase else 40.0
    cap = np.append(rng.uniform(0.1, 1, c) * scale, 0.0)
    floor = np.append(np.where(rng.random(c) < 0.4, 0.15, 0.0) * cap[:c] * rng.random(c), 0.0)
    weight = rng.uniform(0.5, 2.0, c + 1) if rng.random() < 0.6 else np.ones(c + 1)
    active = np.arange(c + 1) < c
    passive = np.where(active, 0.0, -rng.uniform(0, 3))[:, None] * (1 + 0.3j)
    return model, Limits(0.94, 1.06, 100.0), active, cap, floor, weight, passive, rng


def ask(drawn, rule, **more):
    model, limits, active, cap, floor, weight, passive, _ = drawn
    more = {"export_floor_kw": floor, "import_floor_kw": floor, "weight": weight} | more
    return compute(model, passive.real, passive.imag, active, cap, cap, limits, rule=rule, **more)


def sides(found, active):
    return ((1.0, found.export_limit_kw[active, 0]), (-1.0, found.import_limit_kw[active, 0]))


def filled(x):
    """Limits of the active ones, and nothing of the passive one, which stands last."""
    return np.append(x, 0.0)[:, None]


PATHS = {
    "proportional": lambda at, cap, floor, w: np.maximum(floor, np.minimum(at * w / w.min(), 1.0) * cap),
    "equal": lambda at, cap, floor, w: np.clip(np.minimum(at * w / w.min(), 1.0) * cap.max(), floor, cap),
}


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from(sorted(PATHS)), st.booleans())
def test_proportional_and_equal_are_where_bisection_ends(seed, rule, three_phase):
    """Floors, caps and weights, balanced and on single phases: both sides, every limit to 1e-5, infeasible where the floors are."""
    drawn = tree(seed, three_phase)
    model, limits, active, cap, floor, weight, passive, _ = drawn
    there, found = There(model, limits, passive), ask(drawn, rule)
    bad = max(there.beyond(filled(sign * floor[active]))[0] for sign in (1.0, -1.0)) > 0
    assert (found.status[0] == "infeasible") == bad
    if bad:
        return
    for sign, limit in sides(found, active):

        def path(at, sign=sign):
            return filled(sign * PATHS[rule](at, cap[active], floor[active], weight[active]))

        expected = np.abs(path(there.first(path))[:-1, 0])
        np.testing.assert_allclose(limit, expected, rtol=1e-5, atol=1e-4)


@SETTINGS
@given(st.integers(0, 2**31))
def test_last_in_first_out_is_filled_in_the_order_of_connection(seed):
    """Each in turn gets the most that power-grid-model finds safe beside those before it; nobody after it has more than its floor."""
    drawn = tree(seed)
    model, limits, active, cap, floor, _, passive, rng = drawn
    order = rng.permutation(len(cap))
    there, found = There(model, limits, passive), ask(drawn, "last_in_first_out", order=order)
    if found.status[0] != "ok":
        return
    for sign, limit in sides(found, active):
        x = np.where(active, floor, 0.0)
        queue = [who for who in np.argsort(order) if active[who]]
        for place, who in enumerate(queue):
            more = sign * (cap - floor)[who] * np.eye(len(x))[:, [who]]
            start = sign * x[:, None]
            # a limit that one before has met is met to the last digit: it must not stop those who do not move it
            share = there.first(lambda at, start=start, more=more: start + at * more, 1e-9 * (place + 1))
            x = x + share * np.abs(more[:, 0])
        np.testing.assert_allclose(limit, x[active], rtol=1e-5, atol=2e-3)


@SETTINGS
@given(st.integers(0, 2**31))
def test_max_min_lets_nobody_rise_without_lowering_one_who_has_no_more(seed):
    """The definition: a customer below its cap gets 0.3 % more, whoever has more comes down to its level; still a limit breaks."""
    drawn = tree(seed)
    model, limits, active, cap, floor, weight, passive, _ = drawn
    there, found = There(model, limits, passive), ask(drawn, "max_min")
    if found.status[0] != "ok":
        return
    w = (weight / weight.min())[active]
    for sign, limit in sides(found, active):
        assert there.beyond(filled(sign * limit))[0] <= 1e-9
        for k in np.flatnonzero(limit < cap[active] * (1 - 1e-6)):
            level = limit[k] / w[k]
            x = np.minimum(limit, np.maximum(floor[active], level * w))
            x[k] = min(limit[k] * 1.003 + 1e-3, cap[k])
            assert there.beyond(filled(sign * x))[0] > 0.0


def frontier(there, cap, floor, sign, points=121):
    """Two customers: for each limit of the first the largest safe one of the second, by halving; shape (2, points)."""
    first = np.linspace(floor[0], cap[0], points)
    low, high = np.full(points, floor[1]), np.full(points, cap[1])
    safe = there.beyond(sign * np.vstack([first, high, 0 * first])) <= 0.0
    fine = there.beyond(sign * np.vstack([first, low, 0 * first])) <= 0.0
    for _ in range(26):
        middle = (low + high) / 2
        good = there.beyond(sign * np.vstack([first, middle, 0 * first])) <= 0.0
        low, high = np.where(good, middle, low), np.where(good, high, middle)
    second = np.where(safe, cap[1], low)
    return np.vstack([first, second])[:, fine]


WORTH = {
    "max_total": lambda x, w: w @ x,
    "proportional_fairness": lambda x, w: w @ np.log(x),
    "alpha_fair": lambda x, w: -(w @ (1.0 / x)),
}


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(WORTH)))
def test_optima_of_two_customers_lie_on_the_frontier_and_nothing_there_is_better(seed, rule):
    """The whole frontier of two customers by power-grid-model: safe, and no point of it is better by more than 2e-4."""
    drawn = tree(seed)
    model, limits, _, cap, floor, weight, passive, _ = drawn
    model = Model(model.feeder, model.connection_bus[[0, 1, -1]])
    keep = [0, 1, -1]
    cap, floor, weight, passive = cap[keep], floor[keep], weight[keep], passive[keep]
    there = There(model, limits, passive)
    found = ask((model, limits, np.array([True, True, False]), cap, floor, weight, passive, None), rule, alpha=2.0)
    if found.status[0] != "ok":
        return
    for sign, limit in sides(found, np.array([True, True, False])):
        assert there.beyond(sign * np.append(limit, 0.0)[:, None])[0] <= 1e-9
        assert (limit >= floor[:2] - 1e-9).all()
        assert (limit <= cap[:2]).all()
        worth = WORTH[rule](frontier(there, cap, floor, sign).clip(1e-6), weight[:2]).max()
        ours = WORTH[rule](limit.clip(1e-6), weight[:2])
        scale = weight[:2].sum() if rule == "proportional_fairness" else abs(worth)
        assert ours >= worth - 2e-4 * scale


# over rows --------------------------------------------------------------------------------------------------------------


def vertices_of(g, h, low, high):
    """All vertices of {G x <= h, low <= x <= high}: every n of the planes that meet in a point."""
    n = g.shape[1]
    planes, right = np.vstack([g, np.eye(n), -np.eye(n)]), np.concatenate([h, high, -low])
    found = []
    for some in itertools.combinations(range(len(planes)), n):
        part = planes[list(some)]
        if abs(np.linalg.det(part)) > 1e-9:
            x = np.linalg.solve(part, right[list(some)])
            if (planes @ x <= right + 1e-9).all():
                found.append(x)
    return np.array(found).reshape(-1, n)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_max_total_over_rows_is_the_best_of_all_vertices(seed):
    """Two to four customers, up to five rows of either sign, floors, caps, weights: the best vertex, none where there is none."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 5)), int(rng.integers(1, 6))
    g, low = rng.normal(0.4, 0.6, (k, n)), rng.uniform(0, 1, n) * (rng.random(n) < 0.5)
    high, weight = low + rng.uniform(0, 8, n) * (rng.random(n) < 0.9), rng.uniform(0.2, 2, n)
    h = g @ low + rng.uniform(-0.2, 4, k)
    x, corners = Programme(g, "max_total", weight).best(h, high, low), vertices_of(g, h, low, high)
    if not len(corners):
        assert x is None
        return
    assert x is not None
    assert (g @ x <= h + 1e-8).all()
    assert weight @ x == pytest.approx((corners @ weight).max(), rel=1e-8, abs=1e-8)


def any_rows(seed):
    """Two to five customers, up to seven rows of either sign, floors, caps, weights."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 6)), int(rng.integers(1, 8))
    g, low = rng.normal(0.4, 0.5, (k, n)), rng.uniform(0, 1, n) * (rng.random(n) < 0.4)
    high, weight = low + rng.uniform(0.5, 8, n), rng.uniform(0.2, 2, n)
    h = g @ low + rng.uniform(0.5, 4, k)
    return g, h, low, high, weight


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_fairness_over_rows_is_that_of_cvxpy(seed, alpha):
    """Rows of either sign, floors, weights: CVXPY finds the same customers' limits to 1e-3 and the same worth to 1e-6."""
    import cvxpy as cp

    g, h, low, high, weight = any_rows(seed)
    rule = "proportional_fairness" if alpha == 1.0 else "alpha_fair"
    x, y = Programme(g, rule, weight, alpha).best(h, high, low), cp.Variable(len(weight))
    worth = weight @ (cp.log(y) if alpha == 1.0 else cp.power(y, 1 - alpha) / (1 - alpha))
    problem = cp.Problem(cp.Maximize(worth), [g @ y <= h, y >= low, y <= high])
    problem.solve(solver=cp.CLARABEL)
    assert x is not None
    assert (g @ x <= h + 1e-6).all()
    ours = weight @ (np.log(x) if alpha == 1.0 else x ** (1 - alpha) / (1 - alpha))
    assert ours == pytest.approx(problem.value, rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(x, y.value, rtol=1e-3, atol=1e-3)


def test_limits_far_below_their_caps_are_an_optimum_too():
    """Alpha 4, limits of 2 to 7 % of their caps: every row is kept to 1e-8, where the solver's first answer passes one by 1e-4."""
    g, h, low, high, weight = any_rows(13)
    x = Programme(g, "alpha_fair", weight, 4.0).best(h, high, low)
    assert x is not None
    assert (g @ x <= h + 1e-8).all()
    assert x == pytest.approx(
        [0.958603, 0.170003, 0.140502, 0.186066, 0.165959], abs=2e-6
    )  # as CVXPY says, to its tolerance


def polytope(drawn, mode):
    """The rows G x <= b that linear DistFlow's voltages ask of limits x, by a⁺e + a⁻m <= b: each side alone, or x = (e, m)."""
    model, limits, active, _, _, _, passive, _ = drawn
    told = rows(model, passive.imag, v_min_pu=limits.v_min_pu, v_max_pu=limits.v_max_pu)
    a, b = told.a_kw[:, active], told.b[:, 0] - told.a_kw @ passive.real[:, 0]
    if mode == "deterministic":
        return [(a, b, 1.0), (-a, b, -1.0)]
    plus, minus = np.maximum(a, 0), np.maximum(-a, 0)
    pinned = np.full(active.sum(), PINNED)
    return [(plus, b - minus @ pinned, 1.0)] if mode == "robust_pinned" else [(np.hstack([plus, minus]), b, 0.0)]


PINNED = 0.7


def linear_case(seed, mode):
    """A tree whose voltages alone are limited, by linear DistFlow; single phases where the mode minds them."""
    drawn = tree(seed, mode != "deterministic")
    model, limits, active, cap, floor, weight, passive, rng = drawn
    cap = np.where(active, np.maximum(cap, 1.0), 0.0)
    return (
        model,
        Limits(limits.v_min_pu, limits.v_max_pu, np.inf),
        active,
        cap,
        np.minimum(floor, cap / 2),
        weight,
        passive,
        rng,
    )


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from([*sorted(PATHS), "last_in_first_out"]),
    st.sampled_from(["deterministic", "robust_pinned"]),
)
def test_paths_over_rows_are_their_closed_forms(seed, rule, mode):
    """Linear DistFlow: proportional and equal by halving on a⁺e + a⁻m <= b, the queue by min (b − a·x)/a_i in turn; infeasible where floors are."""
    drawn = linear_case(seed, mode if rule != "last_in_first_out" else "deterministic")
    mode = mode if rule != "last_in_first_out" else "deterministic"
    _, _, active, cap, floor, weight, _, rng = drawn
    more = {"pinned_import_kw": PINNED, "import_floor_kw": None} if mode == "robust_pinned" else {}
    order = rng.permutation(len(cap))
    found = ask(drawn, rule, mode=mode, method="linear", order=order, **more)
    cap, floor, weight = cap[active], floor[active], weight[active]
    sets = polytope(drawn, mode)
    assert (found.status[0] == "ok") == all((g @ floor <= b).all() for g, b, _ in sets)
    if found.status[0] != "ok":
        return
    for g, b, sign in sets:
        if rule in PATHS:
            low, high = 0.0, 1.0
            if (g @ PATHS[rule](1.0, cap, floor, weight) <= b).all():
                low = 1.0
            for _ in range(60):
                middle = (low + high) / 2
                safe = (g @ PATHS[rule](middle, cap, floor, weight) <= b).all()
                low, high = (middle, high) if safe else (low, middle)
            expected = PATHS[rule](low, cap, floor, weight)
        else:
            expected = floor.copy()
            for who in np.argsort(order[active]):
                pushes = g[:, who] > 1e-9 * np.abs(g).max()
                room = (b - g @ expected)[pushes] / g[pushes, who]
                expected[who] += np.clip(room.min(initial=np.inf), 0.0, cap[who] - floor[who])
        limit = (found.export_limit_kw if sign >= 0 else found.import_limit_kw)[active, 0]
        np.testing.assert_allclose(limit, expected, rtol=1e-4, atol=2e-3)


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 2**31), st.sampled_from(sorted(WORTH)), st.sampled_from(["deterministic", "robust_pinned", "robust"])
)
def test_optima_over_rows_are_those_of_cvxpy(seed, rule, mode):
    """Linear DistFlow with floors, caps and weights: CVXPY finds nothing better by 2e-4, both limits together in the robust mode."""
    import cvxpy as cp

    drawn = linear_case(seed, mode)
    _, _, active, cap, floor, weight, _, _ = drawn
    more = {"pinned_import_kw": PINNED, "import_floor_kw": None} if mode == "robust_pinned" else {}
    found = ask(drawn, rule, mode=mode, method="linear", alpha=2.0, **more)
    if found.status[0] != "ok":
        return
    for g, b, sign in polytope(drawn, mode):
        times = 1 if sign else 2
        low, high, w = (np.tile(x[active], times) for x in (floor, cap, weight))
        y = cp.Variable(len(w))
        aim = {"max_total": w @ y, "proportional_fairness": w @ cp.log(y), "alpha_fair": -(w @ cp.inv_pos(y))}[rule]
        problem = cp.Problem(cp.Maximize(aim), [g @ y <= b, y >= low, y <= high])
        problem.solve(solver=cp.CLARABEL)
        both = found.export_limit_kw[active, 0], found.import_limit_kw[active, 0]
        x = np.concatenate(both) if not sign else both[0 if sign > 0 else 1]
        scale = w.sum() if rule == "proportional_fairness" else abs(problem.value)
        assert (g @ x <= b + 1e-9).all()
        assert WORTH[rule](x.clip(1e-6), w) >= problem.value - 2e-4 * scale


# figures -----------------------------------------------------------------------------------------------------------------


def test_equity_of_an_envelope_by_hand():
    """Shares 0.2, 0.4, 0.6 and 1.0: Jain 2.2²/(4 · 1.56) = 4.84/6.24; Gini 2.6/8.8 from the pairs' 0.2, 0.4, 0.8, 0.2, 0.6, 0.4; worst the second."""
    found = equity([[4.0], [2.0], [9.0], [3.0]], [10.0, 10.0, 15.0, 3.0], [0.0, 2.0, 0.0, 3.0])

    assert found.jain[0] == pytest.approx(4.84 / 6.24)
    assert found.gini[0] == pytest.approx(2 * 2.6 / (2 * 4 * 2.2))
    assert (found.worst[0], found.least_share[0], found.mean_share[0]) == (1, 0.2, pytest.approx(0.55))
    assert found.total_kw[0] == 18.0
    assert found.at_floor[0] == 1  # the second; the fourth has its whole cap
