"""Validation runs: every limit of every use, corners that are really the worst, and nothing that passes by accident."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from network import validation_referee
from network.acflow import Model
from network.envelope import Limits, compute
from network.envelope_asked import bounds_of
from network.feeder import Feeder, Line, Transformer
from network.headroom import Headroom
from network.linear import linear
from network.message_faults import FAULTS, Published, acted_on
from network.referee import check
from network.validation import ValidationError, validate
from network.validation_box import box_of
from network.validation_data import Doubts
from network.validation_draws import USES, Crowd, draw_days
from network.validation_measure import Measure
from network.validation_messages import Messages
from network.validation_tally import clopper_pearson, longest_runs
from network.vertices import areas, vertices

SETTINGS = settings(max_examples=25, deadline=None)


def drawn_feeder(rng, *, three_phase):
    """A transformer with cables behind it, and customers, on single phases where they may be."""
    names = [f"b{k}" for k in range(int(rng.integers(3, 9)))]
    branches = [Transformer("T", "mv", "b0", 250.0, 11000.0, 400.0, 4.0, 3.0, clock=int(rng.integers(0, 12)))]
    for k in range(1, len(names)):
        km = rng.uniform(0.05, 0.3)
        branches.append(Line(f"L{k}", names[int(rng.integers(0, k))], names[k], 0.4 * km, 0.08 * km, rating_a=150.0,
                             c1_nf=200.0 * km, r0_ohm=1.2 * km, x0_ohm=0.2 * km, c0_nf=100.0 * km))  # fmt: skip
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **dict.fromkeys(names, 400.0)}, branches, source_bus="mv", source_v_pu=1.01,
        source_short_circuit_va=1e8,
    )  # fmt: skip
    at = rng.integers(1, feeder.n_bus, int(rng.integers(2, 8)))
    phases = [str(rng.choice(["a", "b", "c", "abc"])) if three_phase else "abc" for _ in at]
    return Model(feeder, at, phases)


LIMITS = Limits(0.95, 1.05, 100.0)


def measure_of(model, limits=LIMITS):
    return Measure(Headroom(model, *bounds_of(model, limits, [])))


@SETTINGS
@given(st.integers(0, 2**31), st.booleans())
def test_every_limit_is_measured_as_power_grid_model_measures_it(seed, three_phase):
    """The worst over-voltage, under-voltage and loading of any use are those of an independent power flow of all buses."""
    rng = np.random.default_rng(seed)
    model = drawn_feeder(rng, three_phase=three_phase)
    p, q = rng.uniform(-15, 15, (2, model.n_connection, 9))
    source = rng.uniform(0.98, 1.03, 9)
    reading = measure_of(model).read(p + 1j * q, source)
    theirs = check(model.feeder, model.connection_bus, -p, -q, source, model.connection_phase)

    assert theirs.converged.all()
    np.testing.assert_allclose(reading.v_high_pu, theirs.v_pu.max(axis=0), atol=1e-8)
    np.testing.assert_allclose(reading.v_low_pu, theirs.v_pu.min(axis=0), atol=1e-8)
    worst = [
        theirs.v_pu.max(axis=0) / 1.05 - 1,
        1 - theirs.v_pu.min(axis=0) / 0.95,
        theirs.loading_percent.max(axis=0) / 100 - 1,
    ]
    np.testing.assert_allclose(reading.beyond, worst, atol=1e-6)
    broken = (
        (theirs.v_pu > 1.05).any(axis=0) | (theirs.v_pu < 0.95).any(axis=0) | (theirs.loading_percent > 100).any(axis=0)
    )
    np.testing.assert_array_equal(reading.broken, broken)


def test_equal_rows_keep_the_tightest_limit_and_its_name():
    """Two buses of one voltage, the second with the tighter bound: it is the one that is named."""
    ends = {"s": 400.0, "m": 400.0, "e": 400.0}
    feeder = Feeder.build("three", ends, [Line("L", "s", "m", 0.1, 0.0), Line("M", "m", "e", 0.1, 0.0)], source_bus="s")
    model = Model(feeder, [1])
    measure = Measure(Headroom(model, np.zeros(3), np.array([np.inf, 1.2, 1.0]), np.full(2, np.inf)))
    reading = measure.read(np.array([[20.0 + 0j]]), np.ones(1))

    assert measure.elements[int(reading.place[0, 0])] == "e"
    assert reading.beyond[0, 0] == pytest.approx((1 + (1 + 4 * 0.1 * 20e3 / 400**2) ** 0.5) / 2 - 1, abs=1e-9)
    assert reading.broken.all()


@SETTINGS
@given(st.integers(0, 2**31), st.booleans())
def test_no_corner_of_all_is_worse_for_a_linear_row_than_the_listed_ones(seed, three_phase):
    """Of the 2^c corners of a box none lifts or lowers a linear voltage further than one of the few that are tried."""
    rng = np.random.default_rng(seed)
    model = drawn_feeder(rng, three_phase=three_phase)
    n = model.n_connection
    found = vertices(
        model, np.arange(n), np.ones(model.feeder.n_bus, bool), np.full(model.feeder.n_branch, np.inf), np.ones(n)
    )
    low, high = -rng.uniform(0, 8, n), rng.uniform(0, 8, n)
    every = np.array(list(product((0.0, 1.0), repeat=n))).T
    a = linear(model).squared_v_per_kw[model.node_there]
    of_all, of_some = (a @ (low[:, None] + u * (high - low)[:, None]) for u in (every, found.uses))

    np.testing.assert_allclose(of_some.max(axis=1), of_all.max(axis=1), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(of_some.min(axis=1), of_all.min(axis=1), rtol=1e-9, atol=1e-15)
    assert len({column.tobytes() for column in found.signs.T}) == found.signs.shape[1]


@SETTINGS
@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_corners_of_free_reactive_power_and_power_factors_are_the_worst_ones_too(seed, three_phase, free):
    """Of all 2^(2c) corners in kW and kvar, or 2^c with power factors, none moves a linear voltage further than those listed."""
    rng = np.random.default_rng(seed)
    model = drawn_feeder(rng, three_phase=three_phase)
    model = Model(model.feeder, model.connection_bus[:5], model.connection_phase[:5])
    n = model.n_connection
    tan, band = rng.uniform(-1.0, 1.0, n), rng.uniform(0.5, 8.0, n) * free
    limit, base = rng.uniform(0, 8, (2, n, 1)), np.zeros((n, 1))
    box = box_of(model, limit[0], limit[1], None, base, base, None, tan, band)
    found = vertices(
        model, box.active, np.ones(model.feeder.n_bus, bool), np.full(model.feeder.n_branch, np.inf), box.reach_kva, tan, band
    )  # fmt: skip
    every = np.array(list(product((0.0, 1.0), repeat=2 * n if free else n))).T
    lin = linear(model)
    of_all, of_some = (
        lin.squared_v_per_kw[model.node_there] @ s.real + lin.squared_v_per_kvar[model.node_there] @ s.imag
        for s in (box.injection(u, np.zeros(u.shape[1], dtype=np.intp)) for u in (every, found.uses))
    )

    assert len(found.signs) == len(every)
    np.testing.assert_allclose(of_some.max(axis=1), of_all.max(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(of_some.min(axis=1), of_all.min(axis=1), rtol=1e-9, atol=1e-12)


def test_opposed_phases_and_branches_are_among_the_corners():
    """Two branches behind a fork, three phases: six ways to oppose phases and each branch against the other."""
    names = ["s", "m", "x", "y"]
    cable = {"r0_ohm": 0.3, "x0_ohm": 0.1}
    feeder = Feeder.build(
        "fork", dict.fromkeys(names, 400.0),
        [Line("1", "s", "m", 0.1, 0.05, **cable), Line("2", "m", "x", 0.1, 0.05, **cable), Line("3", "m", "y", 0.1, 0.05, **cable)],
        source_bus="s",
    )  # fmt: skip
    model = Model(feeder, [2, 2, 2, 3, 3, 3], ["a", "b", "c", "a", "b", "c"])
    found = vertices(model, np.arange(6), np.ones(4, bool), np.full(3, np.inf), np.ones(6))

    assert areas(model).tolist() == [2, 2, 2, 3, 3, 3]
    columns = {tuple(column) for column in found.signs.T.tolist()}
    for way in product((1, -1), repeat=3):
        assert way + way in columns
    assert (1, 1, 1, -1, -1, -1) in columns
    assert (-1, -1, -1, 1, 1, 1) in columns
    assert {"phase a exports, b and c import", "phases a and c export, b imports"} <= set(found.names)


@SETTINGS
@given(st.integers(0, 40), st.integers(41, 5000))
def test_the_bound_of_a_probability_is_that_of_clopper_and_pearson(broken, tried):
    """At the bound, so few violations would be seen once in twenty times; none in n means less than 3/n."""
    bound = clopper_pearson(broken, tried)

    assert binom.cdf(broken, tried, bound) == pytest.approx(0.05, rel=1e-6)
    assert clopper_pearson(0, tried) <= 3.0 / tried
    assert clopper_pearson(tried, tried) == 1.0


@SETTINGS
@given(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=5))
def test_violations_last_as_long_as_their_runs(days):
    """Runs of True are counted as reading the days as text counts them."""
    runs = [len(run) for day in days for run in "".join("x" if one else " " for one in day).split()]

    assert longest_runs(np.array(days)) == (len(runs), sum(runs), max(runs, default=0))


def test_every_way_of_use_stays_inside_the_box_and_reaches_its_ends():
    """Draws lie in [0, 1]; those on one phase do nearly the same; days change slowly."""
    rng = np.random.default_rng(1)
    crowd = Crowd(np.arange(30) % 3, np.arange(30) // 10)
    for name, draw in USES.items():
        u = draw(rng, crowd, 4000)
        assert u.shape == (30, 4000)
        assert 0.0 <= u.min() < 0.02, name
        assert 0.98 < u.max() <= 1.0, name
        assert abs(u.mean() - 0.5) < 0.03, name
    phase = USES["phase_correlated"](rng, crowd, 4000)
    assert np.abs(phase[0] - phase[3]).max() <= 0.2
    assert abs(np.corrcoef(phase[0], phase[1])[0, 1]) < 0.1
    days = draw_days(rng, crowd, 300, 24)
    assert np.corrcoef(days[0, :, 0], days[0, :, 1])[0, 1] > 0.9
    assert 0.3 < np.corrcoef(days[0, :, 5], days[1, :, 5])[0, 1] < 0.7


def village():
    """One cable with three customers on different phases at its end; its deterministic envelope is not safe."""
    feeder = Feeder.build(
        "village", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.08, 0.02, r0_ohm=0.3, x0_ohm=0.05)], source_bus="s"
    )
    return Model(feeder, [1, 1, 1], ["a", "b", "c"])


NOTHING = np.zeros((3, 2))


def envelope_of(model, limits=LIMITS, cap=20.0):
    return compute(model, NOTHING, NOTHING, np.ones(3, bool), np.full(3, cap), np.full(3, cap), limits)


def test_a_deterministic_envelope_breaks_where_phases_are_opposed_and_its_largest_factor_makes_it_safe():
    """All alike is safe, one phase against the others is not: the worst is named; shrunk by the factor nothing breaks."""
    model, e = village(), envelope_of(village())
    found = validate(model, e.import_limit_kw, e.export_limit_kw, NOTHING, NOTHING, LIMITS, samples=600, import_cap_kw=np.full(3, 20.0), export_cap_kw=np.full(3, 20.0))  # fmt: skip

    assert found.status == "unsafe"
    assert not found.safe
    assert "phase" in found.worst_case.use
    assert found.worst_case.element.startswith("e ")
    assert found.headroom < 0
    assert (found.factor < 1).all()
    assert found.conservatism_export < 0
    alike = [k for k, name in enumerate(found.patterns.names) if name in ("all export", "all import")]
    reading = measure_of(model).read(
        box_of(model, e.import_limit_kw, e.export_limit_kw, None, NOTHING, NOTHING, None).injection(found.patterns.uses[:, alike], np.zeros(2, dtype=int)),
        np.ones(2),
    )  # fmt: skip
    assert not reading.broken.any()
    np.testing.assert_allclose(found.worst_refereed, [case.beyond for case in found.worst], atol=1e-8)

    share = found.factor * (1 - 1e-9)
    again = validate(model, e.import_limit_kw * share, e.export_limit_kw * share, NOTHING, NOTHING, LIMITS, samples=600)
    assert again.status == "safe"
    np.testing.assert_allclose(again.factor, 1.0, atol=1e-6)
    grown = validate(
        model, e.import_limit_kw * share * 1.01, e.export_limit_kw * share * 1.01, NOTHING, NOTHING, LIMITS, samples=0
    )
    assert grown.status == "unsafe"


def test_what_is_ac_exact_has_a_factor_of_one():
    """A balanced deterministic envelope is AC-exact: κ is 0, and no use inside breaks a voltage."""
    feeder = Feeder.build("pair", {"s": 400.0, "m": 400.0, "e": 400.0},
                          [Line("L", "s", "m", 0.1, 0.03), Line("M", "m", "e", 0.1, 0.03)], source_bus="s")  # fmt: skip
    model, zero = Model(feeder, [1, 2, 2]), np.zeros((3, 1))
    limits = Limits(0.95, 1.05, np.inf)
    e = compute(model, zero, zero, np.ones(3, bool), np.full(3, 90.0), np.full(3, 90.0), limits)
    one_sided = validate(model, e.import_limit_kw, e.export_limit_kw * 0.5, zero, zero, limits, samples=900)

    assert one_sided.status == "safe"
    assert one_sided.factor[0] == pytest.approx(1.0, abs=2e-4)
    assert one_sided.headroom == pytest.approx(1e-7, abs=1e-7)


def test_a_use_without_a_solution_is_a_violation():
    """Limits beyond the nose of the curve: not converged, counted, unsafe, never NaN to slip through."""
    model = village()
    most = np.full((3, 2), 500.0)
    found = validate(model, most, most, NOTHING, NOTHING, Limits(0.0, np.inf, np.inf), samples=90)

    assert found.status == "unsafe"
    assert found.tallies[0].not_converged > 0
    assert found.tallies[0].broken >= found.tallies[0].not_converged


def test_an_unknown_meter_is_a_violation():
    """A NaN in what really happened breaks the dispatch of that interval, and the run is unsafe."""
    model, small = village(), np.full((3, 2), 0.1)
    happened = np.array([[0.05, np.nan], [0.0, 0.0], [0.0, 0.0]])
    found = validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=0, dispatch_injection_kw=happened)
    dispatch = next(tally for tally in found.tallies if tally.kind == "dispatch")

    assert (dispatch.tried, dispatch.broken) == (2, 1)
    assert found.status == "unsafe"
    assert validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=0,
                    dispatch_injection_kw=np.nan_to_num(happened)).status == "safe"  # fmt: skip


def export_by_hand(kw, ohm=0.1, volts=400.0):
    """Voltage and current where so much is fed in behind a resistance: the two-bus quadratic. [p.u.], [A]"""
    v = (1 + (1 + 4 * ohm * kw * 1e3 / volts**2) ** 0.5) / 2
    return v, kw * 1e3 / (3**0.5 * v * volts)


def two_buses():
    """A line of 0.1 ohm for 40 A; what is fed in lifts the voltage."""
    lines = [Line("L", "s", "e", 0.1, 0.0, rating_a=40.0)]
    return Model(Feeder.build("two", {"s": 400.0, "e": 400.0}, lines, source_bus="s"), [1])


def test_what_is_over_a_limit_is_added_up_over_time():
    """A run of four half hours, 40, 10, 30 and −30 kW: pu·h over and under, %·h and kVAh, from the two-bus quadratic."""
    model, happened = two_buses(), np.array([[40.0, 10.0, 30.0, -30.0]])
    most, none = np.full((1, 4), 50.0), np.zeros((1, 4))
    found = validate(model, most, most, none, none, Limits(0.99, 1.01, 100.0), samples=0, interval_h=0.5,
                     dispatch_injection_kw=happened)  # fmt: skip
    (high, much), (low, little), (under, drawn) = (export_by_hand(kw) for kw in (40.0, 30.0, -30.0))
    points = [100 * abs(amps) / 40 - 100 for amps in (much, little, drawn)]
    expected = [0.5 * (high + low - 2 * 1.01), 0.5 * (0.99 - under), 0.5 * sum(points), 0.5 * sum(points) / 100 * 3**0.5 * 0.4 * 40]  # fmt: skip
    dispatch = next(tally for tally in found.tallies if tally.kind == "dispatch")
    mean, worst = dispatch.over(0.5)
    row = found.to_frame().set_index("use").loc["actual dispatch"]

    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    np.testing.assert_allclose(worst, mean)
    columns = ["over_voltage_mean_pu_h", "under_voltage_mean_pu_h", "overload_mean_percent_h", "overload_mean_kvah"]
    np.testing.assert_allclose(row[columns].to_numpy(dtype=float), expected, rtol=1e-7)


def test_the_worst_corner_over_time_is_the_one_that_is_held():
    """Limits of 40, 0 and 30 kW of export: all export for an hour and a half; a corner has no mean."""
    model, none = two_buses(), np.zeros((1, 3))
    found = validate(model, none, [[40.0, 0.0, 30.0]], none, none, Limits(0.0, 1.01, np.inf), samples=0, interval_h=0.5)
    corners = found.tallies[0]
    mean, most = corners.over(0.5)

    assert np.isnan(mean).all()
    assert most[0] == pytest.approx(0.5 * (export_by_hand(40.0)[0] + export_by_hand(30.0)[0] - 2 * 1.01), rel=1e-7)
    assert most[1:].tolist() == [0.0, 0.0, 0.0]
    assert (corners.longest_run, corners.runs) == (1, 2)


def test_days_over_a_limit_have_a_mean_and_a_worst_day():
    """Whole days: the mean is at most the worst, it is the sum over all tries, and a use without a solution is not known."""
    model, most = two_buses(), np.full((1, 6), 40.0)
    draws = {"samples": 6 * 50, "uses": ["time_correlated"], "interval_h": 0.5}
    found = validate(model, most, most, most * 0, most * 0, Limits(0.99, 1.01, np.inf), **draws)
    days = next(tally for tally in found.tallies if tally.kind == "sampled")
    mean, worst = days.over(0.5)

    assert days.draws == 50
    assert mean[0] * 50 == pytest.approx(days.mean_excess[0] * days.kind_broken[0] * 0.5)
    assert 0 < mean[0] < worst[0] < 3.0 * (export_by_hand(40.0)[0] - 1.01)
    assert np.isnan(found.tallies[1].over(0.5)[0]).all()  # what is tried beside a corner has no time
    far = validate(model, most * 100, most, most * 0, most * 0, Limits(0.99, 1.01, np.inf), **draws)
    lost = next(tally for tally in far.tallies if tally.kind == "sampled")
    assert lost.not_converged > 0
    assert np.isnan(lost.over(0.5)[0]).all()


def test_without_the_referee_nothing_is_confirmed(monkeypatch):
    """A referee that sees another voltage, by 2e-6 pu, turns safe into unconfirmed."""
    model, small = village(), np.full((3, 2), 0.1)
    honest = validation_referee.check

    def other(*args, **kwargs):
        flow = honest(*args, **kwargs)
        flow.v_pu[-1] += 2e-6
        return flow

    assert validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=100).status == "safe"
    monkeypatch.setattr(validation_referee, "check", other)
    found = validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=100)
    assert found.status == "unconfirmed"
    assert found.certificate.voltage_pu == pytest.approx(2e-6, rel=1e-3)


def test_the_same_seed_gives_the_same_figures_and_one_in_a_hundred_is_refereed():
    """Everything but the seed is given; another seed draws others; the referee sees the share it should."""
    model, small = village(), np.full((3, 2), 1.0)
    one, two, other = (
        validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=9000, seed=seed).to_frame()
        for seed in (5, 5, 6)
    )
    assert one.equals(two)
    assert not one.equals(other)
    found = validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=9000)
    assert abs(found.certificate.points - len(found.worst) - 90 - 15) < 60
    assert one.loc[one["kind"] == "sampled", "tried"].sum() == 9000


def test_limits_that_are_no_limits_are_refused_all_at_once():
    """NaN, a negative limit, one direction only, a firm charge above its limit, an unknown use: one sentence each."""
    model = village()
    good = np.full((3, 2), 1.0)
    bad = good.copy()
    bad[1, 0] = np.nan
    with pytest.raises(ValidationError, match="import_limit_kw is nan for connection 1 in interval 0"):
        validate(model, bad, good, NOTHING, NOTHING, LIMITS)
    with pytest.raises(ValidationError, match="export_limit_kw is -1"):
        validate(model, good, -good, NOTHING, NOTHING, LIMITS)
    half = good.copy()
    half[2] = np.inf
    with pytest.raises(ValidationError, match="connection 2 has limits in some intervals or one direction only"):
        validate(model, half, good, NOTHING, NOTHING, LIMITS)
    with pytest.raises(ValidationError, match="connection 0 must draw 2 kW in interval 0, but may draw only 1 kW"):
        validate(model, good, good, NOTHING, NOTHING, LIMITS, firm_charge_kw=good * 2)
    with pytest.raises(ValidationError, match="no way of use 'dance'"):
        validate(model, good, good, NOTHING, NOTHING, LIMITS, uses=["dance"])
    with pytest.raises(ValidationError, match=r"the voltage of bus .* between 0\.95 and nan pu") as told:
        validate(model, good, good, NOTHING, NOTHING, Limits(0.95, np.nan, -5.0), samples=-1)
    assert "limited to -5 %" in str(told.value)
    assert "samples is -1" in str(told.value)
    with pytest.raises(ValidationError, match=r"export_limit_kw has shape \(2, 2\)"):
        validate(model, good, good[:2], NOTHING, NOTHING, LIMITS)


def test_a_firm_charge_is_drawn_in_every_use():
    """Who must draw 4 kW never injects more than −4 kW, and draws up to its limit."""
    model = village()
    limit, firm = np.full((3, 2), 6.0), np.array([[4.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    box = box_of(model, limit, limit, firm, NOTHING, NOTHING, None)

    assert box.injection(np.ones((3, 1)), np.array([0]))[:, 0].real.tolist() == [-4.0, 6.0, 6.0]
    assert box.injection(np.zeros((3, 1)), np.array([0]))[:, 0].real.tolist() == [-6.0, -6.0, -6.0]
    assert box.injection(np.ones((3, 1)), np.array([1]))[:, 0].real.tolist() == [6.0, 6.0, 6.0]


def test_data_that_is_otherwise_is_told_but_breaks_no_promise():
    """An envelope at its limit breaks with 10 % more impedance or a higher source: told; counted only if it was promised."""
    model, e = village(), envelope_of(village())
    limits = [array * 0.2 for array in (e.import_limit_kw, e.export_limit_kw)]
    factor = validate(model, *limits, NOTHING, NOTHING, LIMITS, samples=0).factor * (1 - 1e-9)
    limits = [array * factor for array in limits]
    told = validate(model, *limits, NOTHING, NOTHING, LIMITS, samples=0, doubts=Doubts())
    by_name = {tally.name: tally for tally in told.tallies}

    assert told.status == "safe"
    assert by_name["impedances ±10 %"].broken
    assert by_name["source voltage ±0.01 pu"].broken
    assert not by_name["loads ±10 %"].broken  # there are none
    assert told.certificate.agrees
    assert (
        validate(model, *limits, NOTHING, NOTHING, LIMITS, samples=0, doubts=Doubts(promised=True)).status == "unsafe"
    )


def test_longer_cables_are_longer_for_the_referee_too():
    """Impedances times 1.25 are a line of 1.25 times the ohms, by the two-bus quadratic."""
    feeder = Feeder.build("one", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.1, 0.0)], source_bus="s")
    longer = measure_of(Model(feeder, [1])).with_impedance(1.25).model

    v = longer.solve([[-20.0]], [[0.0]]).v_pu[1, 0]
    assert v == pytest.approx((1 + (1 - 4 * 0.125 * 20e3 / 400**2) ** 0.5) / 2, abs=1e-10)


def test_what_customers_keep_when_messages_go_wrong():
    """Each fault by hand, for two customers in three intervals, the first affected; imports are ten times the exports."""
    limit = np.array([[1.0, 5.0, 2.0], [3.0, 4.0, 6.0]])
    rating, default = np.full(2, 9.0), np.full(2, 1.5)
    given_ = Published((10 * limit, limit), (10 * rating, rating), (10 * default, default))
    first = np.array([True, False])
    kept = {fault: acted_on(fault, given_, first, 1) for fault in FAULTS}

    assert {fault: exports[0].tolist() for fault, (_, exports) in kept.items()} == {
        "gap": [1.0, 9.0, 2.0],
        "lost": [9.0, 9.0, 9.0],
        "fallback": [1.5, 1.5, 1.5],
        "late": [1.5, 1.5, 2.0],
        "overlap": [5.0, 2.0, 2.0],
        "superseded": [5.0, 5.0, 5.0],
        "wrong_owner": [3.0, 4.0, 6.0],
    }
    for imports, exports in kept.values():
        np.testing.assert_allclose(imports, 10 * exports)
        assert exports[1].tolist() == limit[1].tolist()
    earlier = replace(given_, earlier_kw=(10 * limit[:, ::-1], limit[:, ::-1]))
    assert acted_on("superseded", earlier, first)[1][0].tolist() == [2.0, 5.0, 1.0]


def test_what_a_device_keeps_is_rounded_down_to_what_a_message_can_say():
    """1.2349 kW are 1234 W, 40.007 kW are 40.00: through a message nobody is allowed more than was computed."""
    limit = np.array([[1.2349, 40.007], [7.0, 7.0]])
    most = np.full(2, 50.0)
    imports, exports = acted_on(
        "wrong_owner", Published((limit, limit), (most, most), (most, most)), np.array([False, True])
    )

    assert imports.tolist() == exports.tolist() == [[1.2349, 40.007], [1.234, 40.0]]


def test_a_small_default_is_safe_and_no_default_is_not():
    """Where all messages are lost, devices at their rating break the feeder; a default of 0.5 kW does not."""
    model, small = village(), np.full((3, 2), 1.0)
    messages = Messages(np.full(3, 40.0), np.full(3, 40.0), import_default_kw=0.5, export_default_kw=0.5)
    found = {
        t.name: t for t in validate(model, small, small, NOTHING, NOTHING, LIMITS, samples=0, messages=messages).tallies
    }

    assert found["messages lost (no default)"].broken
    assert not found["messages lost (default control)"].broken
    assert not found["messages lost (no default)"].counts


def test_unbalance_is_that_of_the_symmetrical_components():
    """By hand: 10 kW in phase a of a transposed cable; |V_2|/|V_1| from the three phasors of the quadratic."""
    model = village()
    only_a = np.array([[0.0], [0.0], [0.0]])
    export = np.array([[10.0], [0.0], [0.0]])
    found = validate(
        model,
        only_a,
        export,
        np.zeros((3, 1)),
        np.zeros((3, 1)),
        Limits(0.5, 1.5),
        samples=0,
        unbalance_max_percent=0.4,
    )
    z_s, z_m = (0.3 + 0.05j + 2 * (0.08 + 0.02j)) / 3, (0.3 + 0.05j - 0.08 - 0.02j) / 3
    u, a = 400 / np.sqrt(3), np.exp(2j * np.pi / 3)
    va = u
    for _ in range(60):
        current = np.conj(10e3 / va)
        va = u + z_s * current
    v = np.array([va, u * a**2 + z_m * current, u * a + z_m * current])
    by_hand = 100 * abs(v @ [1, a**2, a]) / abs(v @ [1, a, a**2])

    assert found.unbalance_percent == pytest.approx(by_hand, rel=1e-6)
    assert by_hand > 0.4
    assert found.status == "unsafe"


@pytest.mark.parametrize("three_phase", [False, True])
def test_nobody_and_nothing(three_phase):
    """Without envelopes there is one use, what is forecast; it is tried, and decides."""
    rng = np.random.default_rng(3)
    model = drawn_feeder(rng, three_phase=three_phase)
    free, base = np.full((model.n_connection, 1), np.inf), np.zeros((model.n_connection, 1))
    quiet = validate(model, free, free, base, base, LIMITS, samples=30)
    heavy = validate(model, free, free, base - 120.0, base, LIMITS, samples=30)

    assert quiet.status == "safe"
    assert heavy.status == "unsafe"
