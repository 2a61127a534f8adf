"""Laws of linear rows, finite corners and robust envelopes on random feeders, with power-grid-model's own derivatives and voltages."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.envelope import Limits, compute
from network.feeder import Feeder, Line, Transformer
from network.headroom import Headroom
from network.linear import rows
from network.reactive import VoltVar
from network.referee import check
from network.vertices import vertices

SETTINGS = settings(max_examples=15, deadline=None)


def street(seed, *, three_phase):
    """A transformer and any tree behind it; two to six customers, on single phases or balanced; large caps, so that limits bind."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    branches = [
        Transformer(
            "T", "mv", "b0", float(rng.uniform(80, 250)), 11000.0, 400.0, 4.0, 1.5, clock=int(rng.choice([1, 5, 11]))
        )
    ]
    for k in range(1, n):
        km = rng.uniform(0.05, 0.3)
        branches.append(
            Line(
                f"L{k}",
                f"b{rng.integers(0, k)}",
                f"b{k}",
                0.4 * km,
                0.1 * km,
                rating_a=float(rng.uniform(60, 200)),
                r0_ohm=1.2 * km,
                x0_ohm=0.3 * km,
            )
        )
    feeder = Feeder.build("street", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(n)}}, branches, source_bus="mv")
    c = int(rng.integers(2, 7))
    phases = [str(rng.choice(["a", "b", "c"])) for _ in range(c)] if three_phase else None
    model = Model(feeder, rng.integers(1, n + 1, c), phases)
    caps = rng.uniform(5, 40, (2, c)) if three_phase else rng.uniform(20, 150, (2, c))
    return model, Limits(0.94, 1.06, 100.0, np.array([False] + [True] * n)), caps, rng


def there(model, p, q=None):
    return check(model.feeder, model.connection_bus, -p, 0 * p if q is None else -q, None, model.connection_phase)


def outside(model, limits, p, q=None):
    """How far the worst voltage [p.u.] or loading [1] is beyond its limit, by power-grid-model."""
    flow = there(model, p, q)
    v = flow.v_pu[limits.monitored[model.nodes.element]]
    assert flow.converged.all()
    return max(v.max() - limits.v_max_pu, limits.v_min_pu - v.min(), np.nanmax(flow.loading_percent) / 100.0 - 1.0)


def linear_rows(model, limits):
    nothing = np.zeros((model.n_connection, 1))
    return rows(
        model,
        nothing,
        v_min_pu=limits.v_min_pu,
        v_max_pu=limits.v_max_pu,
        loading_max_percent=limits.loading_max_percent,
        monitored=limits.monitored,
    )


def corners(c):
    return np.array(list(itertools.product([-1, 1], repeat=c))).T


@SETTINGS
@given(st.integers(0, 2**31), st.booleans())
def test_voltage_rows_are_the_derivatives_of_power_grid_model(seed, three_phase):
    """Ten watt up and down at each customer: every entry, those between phases too, is what power-grid-model's voltages move by."""
    model, limits, _, _ = street(seed, three_phase=three_phase)
    found, step = linear_rows(model, limits), 1e-2
    up, down = (there(model, sign * step * np.eye(model.n_connection)).v_pu ** 2 for sign in (1, -1))
    mine = ((up - down) / (2 * step))[limits.monitored[model.nodes.element]]
    kinds = np.array(found.kind)
    size = np.abs(mine).max()
    np.testing.assert_allclose(found.a_kw[kinds == "over_voltage"], mine, rtol=0, atol=1e-5 * size)
    np.testing.assert_allclose(found.a_kw[kinds == "under_voltage"], -mine, rtol=0, atol=1e-5 * size)
    assert not three_phase or len(set(model.connection_phase)) == 1 or (mine < -1e-3 * size).any()


@SETTINGS
@given(st.integers(0, 2**31))
def test_rows_hold_at_any_use_of_their_closed_form_and_the_finite_corners_meet_them(seed):
    """α = min b/(a⁺e + a⁻m): no corner and no use passes a row; of the finite corners one meets the row that decides."""
    model, limits, (export, imports), rng = street(seed, three_phase=True)
    found, c = linear_rows(model, limits), model.n_connection
    worst = np.maximum(found.a_kw, 0) @ export + np.maximum(-found.a_kw, 0) @ imports
    alpha = (found.b[:, 0][worst > 0] / worst[worst > 0]).min()
    at = np.hstack([(corners(c) + 1) / 2, rng.random((c, 200))])
    p = alpha * (-imports[:, None] + at * (export + imports)[:, None])
    assert (found.a_kw @ p - found.b).max() <= 1e-9
    signs = vertices(
        model, np.arange(c), limits.monitored, np.full(model.feeder.n_branch, 100.0), np.maximum(export, imports)
    ).signs
    few = alpha * np.where(signs > 0, export[:, None], -imports[:, None])
    kinds = np.array(found.kind)
    for kind in np.unique(kinds):  # of each kind the worst of all 2^c corners is among the few
        rows_of = found.a_kw[kinds == kind]
        spare = 0.0 if kind != "overload" else 1e-2  # entries below a thousandth of a flow's row do not count
        every, some = rows_of @ p[:, : 2**c], rows_of @ few
        near = (
            (every.max(axis=1) > 0.5 * found.b[kinds == kind][:, 0])
            if kind == "overload"
            else np.ones(len(rows_of), bool)
        )
        assert (some.max(axis=1) >= every.max(axis=1) * (1 - spare) - 1e-12)[near].all(), kind


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from(["proportional", "equal", "max_min", "last_in_first_out", "max_total"]))
def test_every_vertex_of_the_finite_set_is_safe_by_power_grid_model(seed, rule):
    """Robust envelopes of single-phase customers: at all finite corners, and all 2^c of them, nothing is outside; something is at its limit."""
    model, limits, caps, _ = street(seed, three_phase=True)
    c = model.n_connection
    nothing = np.zeros((c, 1))
    found = compute(model, nothing, nothing, np.ones(c, bool), *caps, limits, mode="robust", rule=rule)
    assert found.status[0] == "ok"
    export, imports = found.export_limit_kw, found.import_limit_kw
    few = vertices(model, np.arange(c), limits.monitored, np.full(model.feeder.n_branch, 100.0), caps.max(axis=0)).signs
    assert outside(model, limits, np.where(few > 0, export, -imports)) <= 1e-7
    h = outside(model, limits, np.where(corners(c) > 0, export, -imports))
    assert h <= 1e-7
    if rule != "max_total" and (found.binding_export[0] or found.binding_import[0]):
        assert h >= -1e-6


@SETTINGS
@given(
    st.integers(0, 2**31),
    st.sampled_from(["proportional", "max_min", "last_in_first_out", "max_total", "proportional_fairness"]),
)
def test_any_use_of_a_balanced_feeder_is_safe_by_power_grid_model(seed, rule):
    """Corners and random uses of a robust envelope, loads beside them: nothing is outside; with 1 % more something is."""
    model, limits, caps, rng = street(seed, three_phase=False)
    c = model.n_connection
    active, base = np.arange(c) > 0, -rng.uniform(0, 3, (c, 1))
    base_q = np.where(active[:, None], 0.0, 0.3 * base)
    found = compute(model, base, base_q, active, *caps, limits, mode="robust", rule=rule)
    if found.status[0] != "ok":
        return
    at = np.hstack([(corners(c) + 1) / 2, rng.random((c, 100))])
    export, imports = (np.where(active[:, None], x, 0.0) for x in (found.export_limit_kw, found.import_limit_kw))

    def worst(scale):
        p = np.where(active[:, None], scale * (-imports + at * (export + imports)), base)
        return outside(model, limits, p, np.repeat(base_q, p.shape[1], axis=1))

    assert worst(1.0) <= 1e-7
    if found.binding_export[0] or found.binding_import[0]:
        assert worst(1.01) > 0.0


@SETTINGS
@given(st.integers(0, 2**31))
def test_slopes_are_the_differences_of_the_power_flow_however_steep_the_curves_are(seed):
    """Volt-var curves of up to 20 kvar within 0.005 pu: ∂h/∂p and ∂h/∂q of every limit that is near, by a step of 0.1 W either way."""
    model, limits, _, rng = street(seed, three_phase=True)
    c, step = model.n_connection, 1e-4
    low, high, wide, most = (
        1 - rng.uniform(0.005, 0.04, c),
        1 + rng.uniform(0.005, 0.04, c),
        rng.uniform(0.005, 0.03, c),
        rng.uniform(5, 20, c),
    )
    curve = VoltVar.build(
        c,
        {k: ([low[k] - wide[k], low[k], high[k], high[k] + wide[k]], [most[k], 0.0, 0.0, -most[k]]) for k in range(c)},
    )
    headroom = Headroom(model, np.where(limits.monitored, limits.v_min_pu, 0.0), np.where(limits.monitored, limits.v_max_pu, np.inf),
                        np.full(model.feeder.n_branch, 100.0), curve)  # fmt: skip
    p = rng.uniform(-8, 8, (c, 1)) + 0j
    to = step * np.hstack([np.eye(c), -np.eye(c), 1j * np.eye(c), -1j * np.eye(c)])
    around = headroom.at(np.hstack([p, p + to]), np.ones(4 * c + 1))
    if not around.solved.all():
        return
    near = np.flatnonzero(around.h[:, 0] > -0.5)
    up_p, down_p, up_q, down_q = np.split(around.h[near, 1:], 4, axis=1)
    for ours, up, down in zip(headroom.slopes(around, near, 0 * near), (up_p, up_q), (down_p, down_q), strict=True):
        mine = (up - down).T / (2 * step)
        np.testing.assert_allclose(ours, mine, rtol=0, atol=2e-3 * np.abs(mine).max())
