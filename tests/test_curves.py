"""Cost curves and the pool: known answers, ordinary oddities, and laws for any curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from market.curves import Curves, CurvesError, clear_pool

QUIET = settings(deadline=None, derandomize=True)


def drawn(seed):
    """Draw curves in which anything may happen; the sums of the bounds leave room for zero."""
    rng = np.random.default_rng(seed)
    n, steps = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    a = rng.uniform(0.1, 3, (n, steps)) * (rng.random((n, 1)) < 0.7)
    b = rng.integers(0, 6, (n, steps)) * 1.0 if rng.random() < 0.5 else rng.uniform(-3, 9, (n, steps))
    low, high = -rng.uniform(0, 5, (n, steps)), rng.uniform(0, 5, (n, steps))
    closed = rng.random((n, 1)) < 0.2
    return Curves.plain(
        a, b, np.where(closed, 0.0, low), np.where(closed, 0.0, high), dt_h=float(rng.choice([0.25, 1]))
    )


def test_new_england(new_england):
    """31 agents come out to the digits that are known."""
    pool = clear_pool(new_england)

    assert pool.status == ("cleared",)
    assert pool.price_eur_per_kwh[0] == pytest.approx(57.234302, abs=5e-7)
    assert pool.power_kw.clip(0).sum() == pytest.approx(3893.3494, abs=5e-5)
    assert pool.cost_eur.sum() == pytest.approx(-92547.8749, abs=5e-5)


def test_two_agents():
    """One who buys and one who sells meet half way."""
    pool = clear_pool(Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0]))

    assert pool.power_kw.tolist() == [[-2.0], [2.0]]
    assert pool.price_eur_per_kwh.tolist() == [6.0]
    assert pool.cost_eur.tolist() == [-14.0, 10.0]
    assert pool.payment_eur.tolist() == [12.0, -12.0]


def test_nobody():
    """A pool without agents clears, and has no price."""
    pool = clear_pool(Curves.plain(np.zeros((0, 3)), 0.0, 0.0, 0.0))

    assert pool.status == ("cleared",) * 3
    assert np.isnan(pool.price_eur_per_kwh).all()
    assert pool.power_kw.shape == (0, 3)


def test_sellers_only_and_no_crossing():
    """Where nobody wants what the others offer nobody trades; where any price of a range does, it is the middle."""
    sellers = clear_pool(Curves.plain([1.0, 0.0], [2.0, 3.0], 0.0, 5.0))
    apart = clear_pool(Curves.plain(1.0, [2.0, 6.0], [-5.0, 0.0], [0.0, 5.0]))

    assert sellers.power_kw.tolist() == [[0.0], [0.0]]
    assert sellers.price_eur_per_kwh[0] <= 2.0
    assert apart.power_kw.tolist() == [[0.0], [0.0]]
    assert apart.price_eur_per_kwh.tolist() == [4.0]


def test_ties_are_shared():
    """Three sellers at the same flat price sell in proportion to what they could."""
    pool = clear_pool(Curves.plain(0.0, [9.0, 3.0, 3.0, 3.0], [-4.0, 0.0, 0.0, 0.0], [0.0, 2.0, 2.0, 4.0]))

    assert pool.price_eur_per_kwh.tolist() == [3.0]
    assert pool.power_kw[:, 0].tolist() == [-4.0, 1.0, 1.0, 2.0]


def test_infeasible_is_named_and_not_fatal():
    """An interval in which somebody must sell and nobody can buy is told; the other one clears."""
    pool = clear_pool(Curves.plain(1.0, [[1.0, 1.0], [5.0, 5.0]], [[2.0, 0.0], [-1.0, -1.0]], [[3.0, 3.0], [0.0, 0.0]]))

    assert pool.status == ("infeasible", "cleared")
    assert np.isnan(pool.price_eur_per_kwh[0])
    assert pool.power_kw[:, 0].tolist() == [2.0, -1.0]
    assert pool.power_kw[:, 1].tolist() == [1.0, -1.0]
    assert np.isfinite(pool.payment_eur).all()


def test_scales_apart():
    """A watt beside ten megawatts: both are served at one price, and the sum is zero to rounding."""
    pool = clear_pool(
        Curves.plain([1e-9, 1e3, 1e-12, 0.0], [0.1, 0.05, 0.3, 0.2], [0, 0, -1e4, -1e-3], [1e4, 1e-3, 0, 0])
    )

    assert abs(pool.power_kw.sum()) <= 1e-11
    assert pool.power_kw[1, 0] == pytest.approx((pool.price_eur_per_kwh[0] - 0.05) / 1e3, rel=1e-9)
    assert 0.1 <= pool.price_eur_per_kwh[0] <= 0.3


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("a_eur_per_kw2h", np.nan, "a_eur_per_kw2h is nan for agent 'b', interval 0; give a number."),
        ("b_eur_per_kwh", np.inf, "b_eur_per_kwh is inf for agent 'b'"),
        ("a_eur_per_kw2h", -1.0, "a_eur_per_kw2h is -1 for agent 'b', interval 0"),
        ("p_min_kw", 7.0, "p_min_kw, 7, is above p_max_kw, 5, for agent 'b'"),
    ],
)
def test_mistakes_are_named(column, value, told):
    """What cannot be meant is refused, with the agent and the interval."""
    columns = {
        "a_eur_per_kw2h": [1.0, 1.0],
        "b_eur_per_kwh": [1.0, 2.0],
        "p_min_kw": [-5.0, -5.0],
        "p_max_kw": [5.0, 5.0],
    }
    columns[column][1] = value

    with pytest.raises(CurvesError) as refused:
        Curves.plain(**columns, agent_ids=("a", "b"))
    assert told in str(refused.value)


def test_shapes_and_names_are_refused():
    """Columns that do not fit, intervals without length and names that are not one each are refused."""
    with pytest.raises(CurvesError, match="do not fit together"):
        Curves.plain([1.0, 1.0], [1.0, 1.0, 1.0], 0.0, 1.0)
    with pytest.raises(CurvesError, match="dt_h is 0"):
        Curves.plain([1.0], 1.0, 0.0, 1.0, dt_h=0.0)
    with pytest.raises(CurvesError, match="3 agent_ids for 1 agents"):
        Curves.plain([1.0], 1.0, 0.0, 1.0, agent_ids=("a", "b", "c"))
    with pytest.raises(CurvesError, match="'a' more than once"):
        Curves.plain([1.0, 2.0], 1.0, 0.0, 1.0, agent_ids=("a", "a"))


@given(st.integers(0, 100_000))
@settings(QUIET, max_examples=200)
def test_no_agent_wants_otherwise(seed):
    """At the price everybody's power is the best for himself, and the powers sum to zero."""
    curves = drawn(seed)
    pool = clear_pool(curves)
    price, p = pool.price_eur_per_kwh, pool.power_kw

    assert set(pool.status) == {"cleared"}
    assert abs(p.sum(axis=0)).max() <= 1e-12
    assert (p >= curves.p_min_kw).all()
    assert (p <= curves.p_max_kw).all()
    margin = price - curves.b_eur_per_kwh - curves.a_eur_per_kw2h * p  # what one more kW would earn
    assert margin[p < curves.p_max_kw - 1e-9].max(initial=0.0) <= 1e-9
    assert margin[p > curves.p_min_kw + 1e-9].min(initial=0.0) >= -1e-9
    assert pool.payment_eur.sum() == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 100_000))
@settings(QUIET, max_examples=30)
def test_order_and_units_do_not_matter(seed):
    """Agents in another order, or money in cents, and the pool is the same."""
    curves = drawn(seed)
    order = np.random.default_rng(seed).permutation(curves.n)
    columns = (curves.a_eur_per_kw2h, curves.b_eur_per_kwh, curves.p_min_kw, curves.p_max_kw)
    pool = clear_pool(curves)
    other = clear_pool(Curves.plain(*(c[order] for c in columns), dt_h=curves.dt_h))
    cents = clear_pool(Curves.plain(100 * columns[0], 100 * columns[1], *columns[2:], dt_h=curves.dt_h))

    assert other.price_eur_per_kwh == pytest.approx(pool.price_eur_per_kwh, abs=1e-11)
    assert other.power_kw == pytest.approx(pool.power_kw[order], abs=1e-11)
    assert cents.price_eur_per_kwh == pytest.approx(100 * pool.price_eur_per_kwh, abs=1e-9)


def test_against_a_solver(new_england):
    """A general solver finds no cheaper balance."""
    curves = new_england
    scale = 1e-3  # MW: the solver likes numbers near one
    a, b = curves.a_eur_per_kw2h[:, 0] / scale**2, curves.b_eur_per_kwh[:, 0] / scale
    bounds = np.stack([curves.p_min_kw[:, 0], curves.p_max_kw[:, 0]], axis=1) * scale
    found = minimize(
        lambda p: 1e-5 * float(0.5 * a @ p**2 + b @ p), np.zeros(curves.n), jac=lambda p: 1e-5 * (a * p + b), bounds=bounds,
        constraints={"type": "eq", "fun": lambda p: p.sum(), "jac": np.ones_like}, method="SLSQP",
        options={"maxiter": 500, "ftol": 1e-14},
    )  # fmt: skip
    assert found.success
    assert clear_pool(curves).cost_eur.sum() == pytest.approx(found.fun * 1e5, rel=1e-6)
    assert clear_pool(curves).cost_eur.sum() <= found.fun * 1e5 + 1e-6
