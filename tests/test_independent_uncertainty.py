"""Promises under doubt, tried by power-grid-model: uncertain loads, a budget of those who do otherwise, a store that must charge."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Limits, Uncertainty, compute
from network.feeder import Feeder, Line, Transformer
from network.referee import check

SETTINGS = settings(max_examples=10, deadline=None)


def limits_at(model, limits, p_kw, q_kvar, source=None):
    """How far each limit is passed at each operating point, relative to itself; inf where nothing is solved."""
    flow = check(model.feeder, model.connection_bus, -p_kw, -q_kvar, source, model.connection_phase)
    watched = np.ones(model.feeder.n_bus, bool) if limits.monitored is None else limits.monitored
    v = flow.v_pu[watched[model.nodes.element]]
    loading = np.nan_to_num(flow.loading_percent, nan=0.0) / limits.loading_max_percent
    return np.where(flow.converged, np.vstack([v / limits.v_max_pu - 1, 1 - v / limits.v_min_pu, loading - 1]), np.inf)


def beyond(*of):
    """The same of the worst limit."""
    return limits_at(*of).max(axis=0)


def street(rng, customers, *, three_phase, passive=0):
    """A transformer and any tree behind it; the last ones of its customers are passive."""
    n = int(rng.integers(2, 6))
    branches = [Transformer("T", "mv", "b0", float(rng.uniform(80, 200)), 11000.0, 400.0, 4.0, 1.5, clock=11)]
    for k in range(1, n):
        km = rng.uniform(0.1, 0.4)
        branches.append(
            Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", 0.4 * km, 0.08 * km, rating_a=float(rng.uniform(80, 200)),
                 r0_ohm=1.2 * km, x0_ohm=0.1 * km)
        )  # fmt: skip
    feeder = Feeder.build("street", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(n)}}, branches, source_bus="mv")
    c = customers + passive
    phases = [str(rng.choice(["a", "b", "c"])) for _ in range(c)] if three_phase else None
    return Model(feeder, rng.integers(1, n + 1, c), phases), Limits(0.94, 1.06, 100.0, np.array([False] + [True] * n))


def corners(of):
    """All corners of a box of so many sides: zeros and ones, shape (of, 2^of)."""
    return np.array(list(itertools.product([0.0, 1.0], repeat=of))).T.reshape(of, -1)


def pairs(one, other):
    """Each column of one above each column of the other."""
    return np.vstack([np.repeat(one, other.shape[1], axis=1), np.tile(other, one.shape[1])])


# loads ------------------------------------------------------------------------------------------------------------------


def doubtful(seed, shape):
    """Three customers with envelopes, three passive loads in doubt: model, limits, forecasts, caps, δ and ρ."""
    rng = np.random.default_rng(seed)
    model, limits = street(rng, 3, three_phase=bool(seed % 2), passive=3)
    base = np.append(np.zeros(3), -rng.uniform(0.5, 4, 3))[:, None]
    delta = np.append(np.zeros(3), rng.uniform(0.2, 1.5, 3))
    caps = np.where(np.arange(6) < 3, rng.uniform(5, 40, (2, 6)), 0.0)
    rho = 0.0 if shape == "box" else float(rng.uniform(0, 0.9))
    return model, limits, base, caps, delta, rho, rng


def exact(found, active):
    """Limits of the active ones: (n,), (n,)."""
    return found.export_limit_kw[active, 0], found.import_limit_kw[active, 0]


@SETTINGS
@given(
    st.integers(0, 2**31),
    st.sampled_from(["box", "ellipsoid"]),
    st.sampled_from(["proportional", "last_in_first_out", "max_total"]),
)
def test_loads_of_a_box_and_of_an_ellipsoid_are_borne_at_their_worst(seed, shape, rule):
    """Each corner of the envelopes with each corner of the loads, or 150 points of the ellipsoid's skin: all safe; none is spare."""
    model, limits, base, caps, delta, rho, rng = doubtful(seed, shape)
    active, tan = np.arange(6) < 3, 0.3
    doubt = Uncertainty(load_kw=delta, shape=shape, radius=1.5, correlation=rho)
    found = compute(model, base, tan * base, active, *caps, limits, mode="robust", rule=rule, uncertainty=doubt)
    if found.status[0] != "ok":
        return
    export, imports = exact(found, active)
    if shape == "box":
        load = delta[3:, None] * (2 * corners(3) - 1)
    else:
        sigma = (1 - rho) * np.diag(delta[3:] ** 2) + rho * np.outer(delta[3:], delta[3:])
        skin = rng.normal(size=(3, 150))
        load = 1.5 * np.linalg.cholesky(sigma) @ (skin / np.linalg.norm(skin, axis=0))
    use = -imports[:, None] + corners(3) * (export + imports)[:, None]
    p = pairs(use, base[3:] + load)
    q = np.vstack([np.zeros((3, p.shape[1])), tan * p[3:]])
    h = beyond(model, limits, p, q)
    assert h.max() <= 1e-7
    if rule == "proportional" and found.share_export[0] < 1.0 and found.share_import[0] < 1.0:
        assert h.max() >= (-1e-6 if shape == "box" else -3e-3)  # the skin is only sampled


@SETTINGS
@given(st.integers(0, 2**31))
def test_the_worst_point_of_the_ellipsoid_is_met(seed):
    """At the corner that is worst, the loads that power-grid-model's own slopes call worst, r Σg/√(gᵀΣg), are at the limit, not beyond."""
    model, limits, base, caps, delta, rho, _ = doubtful(seed, "ellipsoid")
    active = np.arange(6) < 3
    doubt = Uncertainty(load_kw=delta, shape="ellipsoid", radius=2.0, correlation=rho)
    found = compute(model, base, 0 * base, active, *caps, limits, mode="robust", uncertainty=doubt)
    if found.status[0] != "ok" or max(found.share_export[0], found.share_import[0]) == 1.0:
        return
    export, imports = exact(found, active)
    sigma = (1 - rho) * np.diag(delta[3:] ** 2) + rho * np.outer(delta[3:], delta[3:])
    worst = []
    for corner in corners(3).T:
        use = -imports + corner * (export + imports)
        u = np.zeros((3, 1))
        for _ in range(3):  # the slopes of each limit, then again at its own worst loads
            shifts = np.repeat(u, 4, axis=1) + np.tile(np.hstack([np.zeros((3, 1)), 1e-3 * np.eye(3)]), u.shape[1])
            around = np.vstack([np.repeat(use[:, None], shifts.shape[1], axis=1), base[3:] + shifts])
            h = limits_at(model, limits, around, 0 * around).reshape(-1, u.shape[1], 4)
            own = h[np.arange(len(h)), np.minimum(np.arange(len(h)), u.shape[1] - 1)]
            g = (own[:, 1:] - own[:, :1]).T / 1e-3
            u = 2.0 * sigma @ g / np.sqrt(np.maximum((g * (sigma @ g)).sum(axis=0), 1e-18))
        at = np.vstack([np.repeat(use[:, None], u.shape[1], axis=1), base[3:] + u])
        worst.append(beyond(model, limits, at, 0 * at).max())
    assert max(worst) <= 1e-7
    assert max(worst) >= -1e-5


def test_a_chance_is_the_one_that_was_promised():
    """One bus, over- and under-voltage: with ε = 0.3 each limit is passed in 15 % of 20 000 draws at its corner, 5 loads of ρ = 0.4."""
    line = Line("L", "s", "e", 0.2, 0.1)
    feeder = Feeder.build("one", {"s": 400.0, "e": 400.0}, [line], source_bus="s")
    model, limits = Model(feeder, [1] * 6), Limits(0.92, 1.08, 1e6, np.array([False, True]))
    active, rng = np.arange(6) < 1, np.random.default_rng(7)
    delta, base = np.array([0.0, 2.0, 1.0, 1.5, 0.5, 3.0]), np.append(0.0, -np.full(5, 4.0))[:, None]
    sigma = 0.6 * np.diag(delta**2) + 0.4 * np.outer(delta, delta)
    doubt = Uncertainty(load_kw=delta, shape="gaussian", probability=0.3, correlation=0.4)
    cap = np.where(active, 500.0, 0.0)
    limits = replace(limits, loading_max_percent=np.inf)
    found = compute(model, base, 0.25 * base, active, cap, cap, limits, mode="chance", uncertainty=doubt)
    drawn = base + rng.multivariate_normal(np.zeros(6), sigma, 20_000, method="svd").T
    for at in (found.export_limit_kw[0, 0], -found.import_limit_kw[0, 0]):
        p = np.where(active[:, None], at, drawn)
        q = np.where(active[:, None], 0.0, 0.25 * drawn)
        broken = np.mean(beyond(model, replace(limits, loading_max_percent=1e6), p, q) > 0)
        assert abs(broken - 0.15) < 0.01  # four standard errors of 20 000 draws


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**31))
def test_no_corner_breaks_more_often_than_was_promised(seed):
    """ε = 0.2 on random feeders: at each of eight corners, 800 draws of correlated loads break a limit in no more than 20 %, plus four errors."""
    model, limits, base, caps, delta, rho, rng = doubtful(seed, "gaussian")
    active = np.arange(6) < 3
    doubt = Uncertainty(load_kw=delta, shape="gaussian", probability=0.2, correlation=rho)
    found = compute(model, base, 0.2 * base, active, *caps, limits, mode="chance", uncertainty=doubt)
    if found.status[0] != "ok":
        return
    export, imports = exact(found, active)
    sigma = (1 - rho) * np.diag(delta[3:] ** 2) + rho * np.outer(delta[3:], delta[3:])
    load = rng.multivariate_normal(np.zeros(3), sigma, 800, method="svd").T
    use = -imports[:, None] + corners(3) * (export + imports)[:, None]
    p = pairs(use, base[3:] + load)
    broken = beyond(model, limits, p, np.vstack([np.zeros((3, p.shape[1])), 0.2 * p[3:]])) > 0
    assert broken.reshape(8, 800).mean(axis=1).max() <= 0.2 + 4 * np.sqrt(0.2 * 0.8 / 800)


@SETTINGS
@given(st.integers(0, 2**31))
def test_other_impedances_and_another_source_are_borne(seed):
    """±8 % of all impedances and ±0.01 pu: each corner of the envelopes in each of the four worlds is safe, and one is at its limit."""
    rng = np.random.default_rng(seed)
    model, limits = street(rng, 3, three_phase=bool(seed % 2))
    caps, nothing = rng.uniform(5, 40, (2, 3)), np.zeros((3, 1))
    doubt = Uncertainty(impedance_percent=8.0, source_v_pu=0.01)
    found = compute(model, nothing, nothing, [True] * 3, *caps, limits, mode="robust", uncertainty=doubt)
    export, imports = exact(found, np.ones(3, bool))
    p = -imports[:, None] + corners(3) * (export + imports)[:, None]
    h = []
    for factor in (0.92, 1.08):
        b = model.feeder.branches
        scaled = replace(
            b,
            **{
                name: getattr(b, name) * factor
                for name in ("r1_ohm", "x1_ohm", "r0_ohm", "x0_ohm", "uk_percent", "pk_kw")
            },
        )
        other = Model(replace(model.feeder, branches=scaled), model.connection_bus, model.connection_phase)
        h += [beyond(other, limits, p, 0 * p, source).max() for source in (0.99, 1.01)]
    assert found.status[0] == "ok"
    assert max(h) <= 1e-7
    assert max(h) >= -1e-6 or max(found.share_export[0], found.share_import[0]) == 1.0


# a budget ------------------------------------------------------------------------------------------------------------------


def few(customers, budget):
    """Everybody imports or everybody exports, but for up to so many: zeros and ones."""
    all_corners = corners(customers)
    up = all_corners.sum(axis=0)
    return all_corners[:, np.minimum(up, customers - up) <= budget]


@SETTINGS
@given(st.integers(0, 2**31), st.integers(0, 8))
def test_a_budget_is_the_enumeration_of_all_who_may_do_otherwise(seed, budget):
    """Up to eight customers on single phases: every use of up to Γ who do otherwise is safe, and the share is where halving ends."""
    rng = np.random.default_rng(seed)
    c = int(rng.integers(2, 9))
    model, limits = street(rng, c, three_phase=True)
    caps, nothing = rng.uniform(2, 25, (2, c)), np.zeros((c, 1))
    found = compute(model, nothing, nothing, np.ones(c, bool), *caps, limits, mode="budget", budget=budget)
    which = few(c, budget)
    assert found.status[0] == "ok"

    def worst(export, imports):
        p = np.where(which == 1, export, -imports)
        return beyond(model, limits, p, 0 * p).max()

    assert worst(found.export_limit_kw, found.import_limit_kw) <= 1e-7
    low, high = 0.0, 1.0
    if worst(caps[0][:, None], caps[1][:, None]) <= 0.0:
        low = 1.0
    else:
        for _ in range(30):
            middle = (low + high) / 2
            safe = worst(middle * caps[0][:, None], middle * caps[1][:, None]) <= 0.0
            low, high = (middle, high) if safe else (low, middle)
    shares = found.share_export[0], found.share_import[0]
    if shares[0] == shares[1]:
        np.testing.assert_allclose(shares[0], low, rtol=2e-5)
    else:  # one side hardly strains what is met and goes on by itself
        assert min(shares) >= 0.99 * low
        assert max(shares) >= low * (1 - 2e-5)


# a store that must charge ---------------------------------------------------------------------------------------------------


@SETTINGS
@given(
    st.integers(0, 2**31),
    st.sampled_from(["deterministic", "robust"]),
    st.sampled_from(["proportional", "equal", "max_total"]),
    st.booleans(),
)
def test_exports_are_larger_and_safe_while_the_store_charges_what_it_must(seed, mode, rule, three_phase):
    """Three homes and a store: safe with its firm charge and with anything up to its limit; more exports than without, balanced."""
    rng = np.random.default_rng(seed)
    model, limits = street(rng, 4, three_phase=three_phase)
    limits = replace(limits, loading_max_percent=1e4)
    if three_phase:
        model = Model(model.feeder, model.connection_bus, [*model.connection_phase[:3], "abc"])
    charge = float(rng.uniform(2, 8))
    export_cap, import_cap = np.append(rng.uniform(60, 120, 3), 0.0), np.append(np.zeros(3), 1.5 * charge)
    firm, nothing = np.append(np.zeros(3), charge)[:, None], np.zeros((4, 1))
    more = {"mode": mode, "rule": rule, "import_floor_kw": import_cap}
    ours = compute(model, nothing, nothing, [True] * 4, export_cap, import_cap, limits, firm_charge_kw=firm, **more)
    free = compute(model, nothing, nothing, [True] * 4, export_cap, import_cap, limits, **more)
    if ours.status[0] != "ok":
        return
    export = ours.export_limit_kw[:3, 0]
    homes = (
        corners(3) * export[:, None] if mode == "robust" or not three_phase else np.column_stack([0 * export, export])
    )
    store = -np.array([[charge, 1.25 * charge, ours.import_limit_kw[3, 0]]])
    store = store if mode == "robust" or not three_phase else store[:, :1]
    p = pairs(homes, store)
    p = p if homes.shape[1] > 2 else np.delete(p, np.flatnonzero((p[:3] == 0).all(axis=0)), axis=1)
    assert beyond(model, limits, p, 0 * p).max() <= 1e-7
    assert ours.import_limit_kw[3, 0] >= charge
    assert ours.export_limit_kw[3, 0] == 0.0
    if not three_phase and free.status[0] == "ok":
        before = free.export_limit_kw[:3, 0].sum()
        if before < export_cap.sum() * (1 - 1e-6):
            assert export.sum() > before
            without = np.append(export, 0.0)[:, None]  # the same exports where the store does nothing
            assert beyond(model, limits, without, 0 * without)[0] > 0
