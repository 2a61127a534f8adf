"""Laws of the exchange, for any community that can be drawn."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from market.central import solve
from market.chain import slopes, tube, value
from market.exchange import Infeasible, Problem, attainable, clear
from market.laws import broken_laws
from market.problem import ProblemError

QUIET = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def drawn(seed):
    """Draw a small community in which everything may happen: any tariff, store, space, limit and mode."""
    rng = np.random.default_rng(seed)
    n, steps, stores, shared = (int(rng.integers(low, high)) for low, high in ((1, 7), (1, 9), (0, 3), (0, 3)))
    buy = rng.uniform(0.1, 0.4, (n if rng.random() < 0.3 else 1, steps))
    sell = np.minimum(
        buy * rng.uniform(0.1, 1.0, (1, steps)) - 0.3 * (rng.random() < 0.2), buy.min(axis=0, keepdims=True)
    )
    if rng.random() < 0.15:
        buy, sell = buy - 0.3, sell - 0.3
    more = {
        "dt_h": float(rng.choice([0.25, 0.5, 1.0])),
        "stores": stores,
        "shared": shared,
        "exchange_charge_eur_per_kwh": rng.choice([0.0, 0.05, 0.14]),
        "rented_charge_eur_per_kwh": rng.choice([0.0, 0.1]),
        "exchange": str(rng.choice(["free", "free", "pinned", "zero"])),
    }
    if rng.random() < 0.6:
        more |= {"import_limit_kw": rng.uniform(0, 5, (n, 1)), "export_limit_kw": rng.uniform(0, 5, (n, 1))}
    if more["exchange"] == "pinned":
        sold = rng.normal(size=(n, steps))
        more["pinned_exchange_kw"] = sold - sold.mean(axis=0)
    load, pv = rng.uniform(0, 3, (n, steps)), rng.uniform(0, 6, (n, steps)) * (rng.random((n, 1)) < 0.6)
    more |= drawn_stores(rng, stores, n, steps) | drawn_spaces(rng, shared, n, steps)
    return Problem.plain(load, pv, buy, sell, **more)


def drawn_stores(rng, stores, n, steps):
    power = rng.uniform(0, 4, (stores, n, 1)) * (rng.random((stores, n, 1)) < 0.6)
    size, here = power[:, :, 0] * rng.uniform(0.5, 3, (stores, n)), rng.random((stores, n, steps)) < 0.8
    least = np.zeros((stores, n, steps))
    least[:, :, -1] = size * rng.uniform(0, 0.8, (stores, n)) * (rng.random((stores, n)) < 0.4)
    return {
        "store_charge_max_kw": power * here,
        "store_discharge_max_kw": power * here * (rng.random((stores, n, 1)) < 0.6),
        "store_energy_min_kwh": least,
        "store_energy_max_kwh": size[:, :, None],
        "store_initial_kwh": size * rng.random((stores, n)),
        "store_efficiency_charge": rng.uniform(0.8, 1, (stores, n)),
        "store_efficiency_discharge": rng.uniform(0.8, 1, (stores, n)),
        "store_retention": np.where(rng.random((stores, n)) < 0.3, rng.uniform(0.9, 1, (stores, n)), 1.0),
        "store_drain_kwh": (rng.random((stores, n, steps)) < 0.2) * size[:, :, None] * 0.1,
        "store_wear_eur_per_kwh": rng.choice([0.0, 0.01]),
    }


def drawn_spaces(rng, shared, n, steps):
    access = rng.random((shared, n)) < 0.8
    energy, power = rng.uniform(0, 6, shared), rng.uniform(0, 4, shared)
    each = access / np.maximum(access.sum(axis=1, keepdims=True), 1)
    more = {
        "access": access,
        "ess_energy_offer_kwh": energy,
        "ess_power_offer_kw": power,
        "ess_efficiency_charge": rng.uniform(0.85, 1, shared),
        "ess_efficiency_discharge": rng.uniform(0.85, 1, shared),
        "ess_retention": rng.choice([1.0, 0.99], shared),
        "ess_wear_eur_per_kwh": rng.choice([0.0, 0.01]),
        "rent_energy_eur_per_kwh": rng.uniform(0, 0.05, (shared, 1)),
        "rent_power_eur_per_kw": rng.uniform(0, 0.05, (shared, 1)),
    }
    if rng.random() < 0.4:
        first = each * energy[:, None] * rng.uniform(0, 0.7, (shared, n))
        more |= {"rented_initial_kwh": first, "rented_final_kwh": first * rng.choice([0.0, 0.5, 1.0])}
    if rng.random() < 0.3:
        more |= {"right_energy_kwh": each * energy[:, None], "right_power_kw": each * power[:, None]}
    if shared and rng.random() < 0.4:
        low, high = np.full((shared, steps), -np.inf), np.full((shared, steps), np.inf)
        low[:, 0], high[:, -1] = rng.uniform(-1, 0.5 * power.min()), rng.uniform(0, 1)
        more |= {"ess_net_min_kw": np.minimum(low, high), "ess_net_max_kw": high}
    return more | drawn_boxes(rng, shared, steps, more)


def drawn_boxes(rng, shared, steps, drawn):
    """Some stores netted, two of them perhaps in one box, some not always available."""
    netted, box = rng.random(shared) < 0.5, np.arange(shared)
    available = np.where(rng.random((shared, steps)) < 0.2, rng.choice([0.0, 0.5], (shared, steps)), 1.0)
    more = {"ess_netted": netted, "ess_available": available}
    more |= {"ess_floor": rng.uniform(0, 0.1, shared), "ess_ceiling": rng.uniform(0.9, 1, shared)}
    if shared == 2 and netted.all() and rng.random() < 0.5:
        box[1] = 0
        for name in ("ess_net_min_kw", "ess_net_max_kw"):
            if name in drawn:
                more[name] = drawn[name].copy()
                more[name][1] = np.inf if name.endswith("max_kw") else -np.inf
    return more | {"ess_box": box}


def possible(seed):
    """Draw a community and let its stores want what they can have."""
    try:
        return attainable(drawn(seed))[0]
    except ProblemError:
        assume(False)  # two tariffs between which energy would be passed on without limit
        raise


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=60)
def test_every_plan_is_exact(seed):
    """Balance, contents, sums, rights, nets and the cost hold to 1e-9, converged or not."""
    case = possible(seed)
    try:
        found = clear(case, max_iterations=60)
    except Infeasible:
        assume(False)
        raise

    assert broken_laws(case, found) == []
    assert found.bound_eur <= found.cost_eur


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=12)
def test_no_bound_is_above_the_optimum(seed):
    """However odd the community: bound <= optimum <= cost, seen from both sides."""
    case = possible(seed)
    try:
        found = clear(case, max_iterations=2000)
    except Infeasible:
        assume(False)
        raise
    best = solve(case)

    assert found.bound_eur <= best.cost_eur + 1e-7
    assert best.bound_eur <= found.cost_eur + 1e-7
    lowest = min(case.buy_eur_per_kwh.min(), case.sell_eur_per_kwh.min())
    if lowest >= 0.0:  # else burning pays, which a plan never does
        assert found.cost_eur - best.cost_eur <= 0.02 * max(1.0, abs(best.cost_eur))


@given(st.integers(0, 10_000))
@settings(QUIET, max_examples=30)
def test_what_is_attainable_is_feasible_and_little_was_moved(seed):
    """No store of the moved problem is short of anything, and one that was not short is left alone."""
    case = possible(seed)
    again, missing, excess = attainable(case)

    assert missing.max(initial=0.0) <= 1e-9
    assert excess.max(initial=0.0) <= 1e-9
    np.testing.assert_allclose(again.store_energy_min_kwh, case.store_energy_min_kwh, atol=1e-9)


def chain(seed):
    """Draw one store: constants, prices, bounds, drain, and a beginning inside its tube, or None if that is empty."""
    rng = np.random.default_rng(seed)
    steps, dt = int(rng.integers(1, 12)), 0.5
    e1, e2 = dt * rng.uniform(0.8, 1), dt / rng.uniform(0.8, 1)
    kept = 1.0 if rng.random() < 0.6 else rng.uniform(0.9, 1)
    price_c = rng.choice([-0.1, 0.0, 0.1, 0.2, 0.3], steps) + rng.choice([0.0, 0.01])
    price_d = -price_c + rng.choice([0.0, 0.02]) if rng.random() < 0.5 else rng.normal(size=steps)
    into, out = (rng.uniform(0, 3, steps) * (rng.random(steps) < 0.8) for _ in range(2))
    lower, upper = np.zeros(steps), np.full(steps, rng.uniform(1, 4))
    lower[-1] = upper[-1] * rng.choice([0.0, 0.0, 0.5])
    drain = rng.uniform(0, 0.1, steps) * (rng.random() < 0.3)
    low, high = np.empty(steps + 1), np.empty(steps + 1)
    tube(e1, e2, kept, into, out, lower, upper, drain, low, high)
    if (low > high).any() or high[0] < 0:
        return None
    return (e1, e2, kept, price_c, price_d, into, out, lower, upper, drain), rng.uniform(
        max(low[0], 0.0), max(high[0], low[0], 0.0)
    )


def as_linear_program(e1, e2, kept, price_c, price_d, into, out, lower, upper, drain, first):
    steps = price_c.size
    state = np.hstack([-e1 * np.eye(steps), e2 * np.eye(steps), np.eye(steps) - kept * np.eye(steps, k=-1)])
    right = -drain.copy()
    right[0] += kept * first
    bounds = [(0, x) for x in into] + [(0, x) for x in out] + list(zip(lower, upper, strict=True))
    return linprog(np.concatenate([price_c, price_d, np.zeros(steps)]), A_eq=state, b_eq=right, bounds=bounds)


@given(st.integers(0, 100_000))
@settings(QUIET, max_examples=150)
def test_a_store_alone_is_run_at_least_cost(seed):
    """The cost to go by merged slopes is the linear program's optimum to rounding, and its slopes are optimal multipliers."""
    store = chain(seed)
    assume(store is not None)
    (e1, e2, kept, price_c, price_d, into, out, lower, upper, drain), first = store
    steps = price_c.size
    best = as_linear_program(*store[0], first)
    assert best.status == 0

    scratch = np.empty((2, 1, 4 * steps + 8))
    assert abs(value(*store[0], first, scratch[0], scratch[1]) - best.fun) <= 1e-9

    lists, ends, left, y = (
        np.empty((2, steps, 4 * steps + 8)),
        np.empty((steps, 2), np.int64),
        np.empty(steps),
        np.empty(steps),
    )
    slopes(*store[0], first, lists[0], lists[1], ends, left, y)
    dual = kept * y[0] * first - y @ drain
    dual += np.minimum(0, price_c + e1 * y) @ into + np.minimum(0, price_d - e2 * y) @ out
    after = np.append(kept * y[1:], 0.0) - y
    dual += np.where(after > 0, after * lower, after * upper).sum()
    assert abs(dual - best.fun) <= 1e-8


@given(st.integers(0, 100_000))
@settings(QUIET, max_examples=100)
def test_a_tube_is_what_can_be_met(seed):
    """From inside the tube there is a way through every bound; a little outside there is none."""
    store = chain(seed)
    assume(store is not None)
    columns, first = store
    low, high = np.empty(columns[3].size + 1), np.empty(columns[3].size + 1)
    tube(*columns[:3], *columns[5:], low, high)

    assert as_linear_program(*columns, first).status == 0
    assert as_linear_program(*columns, low[0] - 1e-3).status == 2
    assert as_linear_program(*columns, high[0] + 1e-3).status == 2
