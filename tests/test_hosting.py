"""Hosting capacity: by hand on one line, confirmed by power-grid-model, and as laws on random feeders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from network.acflow import Model
from network.envelope import Limits
from network.feeder import Feeder, Line
from network.hosting import Hosting, HostingError, hosting
from network.referee import check

SETTINGS = settings(max_examples=20, deadline=None)
FREE = Limits(0.9, 1.05, np.inf)


def one_line(rating_a=np.inf):
    feeder = Feeder.build(
        "one", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.1, 0.0, rating_a=rating_a)], source_bus="s"
    )
    return Model(feeder, [1, 1])


NOTHING = np.zeros((2, 1))


def test_one_line_carries_what_its_quadratic_says():
    """0.1 ohm and 400 V: 1.05 pu at the end is reached at 1.05 · 0.05 · 400²/0.1 W, whoever builds."""
    by_hand = 1.05 * 0.05 * 400.0**2 / 0.1 / 1e3
    found = hosting(one_line(), NOTHING, NOTHING, FREE, 50.0, placements=7)

    np.testing.assert_allclose(found.capacity_kw, by_hand, rtol=1e-5)
    assert found.firm_kw == pytest.approx(by_hand, rel=1e-5)
    assert set(found.element) == {"e"}
    assert set(found.limit_kind) == {"over_voltage"}
    np.testing.assert_allclose(found.alone_kw, by_hand, rtol=1e-5)


def test_a_load_is_stopped_by_the_rating_where_that_is_nearer():
    """60 A at 400 V behind 0.1 ohm: three phases of 60 A times the end's voltage, u + r I √3 = 400 V."""
    amps = 60.0
    by_hand = np.sqrt(3) * amps * (400.0 - np.sqrt(3) * 0.1 * amps) / 1e3
    found = hosting(one_line(amps), NOTHING, NOTHING, Limits(0.9, 1.05, 100.0), 30.0, kind="load", placements=3)

    np.testing.assert_allclose(found.capacity_kw, by_hand, rtol=1e-5)
    assert set(found.element) == {"L"}
    assert set(found.limit_kind) == {"overload"}


def test_the_worst_interval_decides():
    """Half the sun carries twice the plants; with both hours the sunny one stops them."""
    one = hosting(one_line(), NOTHING, NOTHING, FREE, 200.0, profile=[0.5], placements=2)
    both = hosting(one_line(), np.zeros((2, 2)), np.zeros((2, 2)), FREE, 200.0, profile=[0.5, 1.0], placements=2)

    np.testing.assert_allclose(one.capacity_kw, 2 * both.capacity_kw, rtol=1e-6)
    assert set(both.interval) == {1}


def test_all_plants_are_built_where_nothing_stops_them():
    """Two plants of 1 kW: both, and no element is named; only the candidate where one is asked."""
    found = hosting(one_line(), NOTHING, NOTHING, FREE, 1.0, placements=4)
    assert found.capacity_kw.tolist() == [2.0] * 4
    assert set(found.element) == {""}
    assert found.violation_probability([1.0, 99.0]).tolist() == [0.0, 0.0]
    only = hosting(one_line(), NOTHING, NOTHING, FREE, 1.0, placements=4, candidates=[True, False])
    assert only.capacity_kw.tolist() == [1.0] * 4
    assert np.isnan(only.alone_kw[1])


def test_a_feeder_that_is_beyond_its_limits_already_hosts_nothing():
    """A load of 200 kW breaks 0.9 pu before anything is added: infeasible, with the bus."""
    base = np.array([[-120.0], [-80.0]])
    found = hosting(one_line(), base, NOTHING, FREE, 1.0, placements=4)

    assert found.status == "infeasible"
    assert found.infeasible_by in {"e", "not_converged"}
    assert found.maximum_kw == 0.0


def random_case(seed):
    rng = np.random.default_rng(seed)
    names = [f"b{k}" for k in range(int(rng.integers(3, 8)))]
    lines = [
        Line(f"L{k}", names[int(rng.integers(0, k))], names[k], 0.05 * rng.uniform(0.5, 3), 0.02, rating_a=rng.uniform(60, 200), r0_ohm=0.2, x0_ohm=0.05)
        for k in range(1, len(names))
    ]  # fmt: skip
    feeder = Feeder.build("drawn", dict.fromkeys(names, 400.0), lines, source_bus="b0")
    at = rng.integers(1, len(names), int(rng.integers(2, 7)))
    phases = [str(rng.choice(["a", "b", "c", "abc"])) for _ in at]
    base = -rng.uniform(0, 1.5, (len(at), 1))
    return Model(feeder, at, phases), base, 0.2 * base, rng.uniform(3, 15, len(at))


@SETTINGS
@given(st.integers(0, 2**31), st.sampled_from(["pv", "load"]))
def test_each_placement_is_safe_and_one_per_cent_more_is_not(seed, kind):
    """power-grid-model: at the capacity every limit is kept, with 1 % more in the plant that was stopped one is broken."""
    model, p, q, size = random_case(seed)
    limits = Limits(0.95, 1.05, 100.0)
    found = hosting(model, p, q, limits, size, kind=kind, placements=6, seed=seed)
    assert found.firm_kw <= found.median_kw <= found.maximum_kw
    sign = 1.0 if kind == "pv" else -1.0
    for k in np.flatnonzero(found.element != ""):
        left, built, last = found.capacity_kw[k], np.zeros(model.n_connection), -1
        for who in found.order[k]:
            built[who] = min(size[who], left)
            left -= built[who]
            if built[who] < size[who]:
                last = who
                break
        room = min(0.01 * found.capacity_kw[k], size[last] - built[last])
        for more in (0.0, room):
            built[last] += more
            flow = check(
                model.feeder, model.connection_bus, -p - sign * built[:, None], -q, None, model.connection_phase
            )
            broken = (flow.v_pu > 1.05).any() or (flow.v_pu < 0.95).any() or (flow.loading_percent > 100).any()
            assert broken == (more > 0) or 0 < room < 1e-3


@SETTINGS
@given(st.integers(0, 2**31), st.floats(0.0, 0.05), st.floats(1.0, 1.5))
def test_wider_limits_never_lower_any_capacity(seed, higher, stronger):
    """The same placements with a higher voltage limit and higher ratings carry as much or more, each of them."""
    model, p, q, size = random_case(seed)
    narrow = hosting(model, p, q, Limits(0.95, 1.05, 100.0), size, placements=6, seed=seed)
    wide = hosting(model, p, q, Limits(0.95, 1.05 + higher, 100.0 * stronger), size, placements=6, seed=seed)

    assert (wide.capacity_kw >= narrow.capacity_kw * (1 - 1e-6)).all()
    assert (wide.alone_kw >= narrow.alone_kw * (1 - 1e-6)).all()


def with_capacities(capacity):
    n = len(capacity)
    text = np.array(["e"] * n)
    return Hosting("ok", "", "pv", np.array(capacity, float), text, text, np.zeros(n, int), np.zeros((n, 0), int),
                   np.zeros(0), np.zeros(0), np.zeros(0, dtype=str), 1.0)  # fmt: skip


@SETTINGS
@given(st.integers(6, 300))
def test_the_median_lies_between_two_order_statistics(n):
    """The k-th and the k-th last of n: fewer than k heads in n throws of a coin come at most once in forty."""
    low, high = with_capacities(range(1, n + 1)).median_between_kw
    k = int(low)

    assert low + high == n + 1
    assert binom.cdf(k - 1, n, 0.5) <= 0.025 < binom.cdf(k, n, 0.5)


def test_the_curve_counts_placements():
    """Of capacities 10, 20, 20, 40 kW a quarter is passed at 15, three quarters at 30, all at 50; none at 10."""
    found = with_capacities([20, 10, 40, 20])

    assert found.violation_probability([10.0, 15.0, 30.0, 50.0]).tolist() == [0.0, 0.25, 0.75, 1.0]
    assert (found.firm_kw, found.median_kw, found.maximum_kw) == (10.0, 20.0, 40.0)
    assert found.below_firm_at_most == pytest.approx(1 - 0.05**0.25)


def test_what_makes_no_sense_is_told_at_once():
    """A limit that is no number, a size of nothing, a profile above one, nobody, another kind: all in one message."""
    with pytest.raises(HostingError) as told:
        hosting(
            one_line(),
            NOTHING,
            NOTHING,
            Limits(0.9, np.nan),
            0.0,
            profile=[2.0],
            candidates=[False, False],
            kind="heat",
        )
    for part in ("0.9 and nan pu", "size_kw", "profile", "candidates", "kind is 'heat'"):
        assert part in str(told.value)


def test_nobody_who_may_build_is_told_in_words(call):
    """All caps are 0, or a power factor of nothing: exit code 2 and what to do."""
    code, out, err = call("network", "hosting", "ieee33", "--set", "customers.export_cap_kw=0")
    assert (code, out) == (2, "")
    assert "no customer may build anything: export_cap_kw is 0" in err
    code, _, err = call("network", "hosting", "ieee33", "--set", "hosting.power_factor=0")
    assert code == 2
    assert "hosting.power_factor: must not be 0" in err
    code, out, _ = call("network", "hosting", "ieee33", "--set", "base_load.factor=20")
    assert code == 3
    assert "the power flow has no solution already" in out
