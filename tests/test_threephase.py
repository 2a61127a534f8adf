"""Three conductors: the power flow of single-phase customers, untransposed lines and delta-star transformers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import FlowError, Model
from network.feeder import Feeder, FeederError, Line, Transformer
from network.linear import linear
from network.referee import check

SETTINGS = settings(max_examples=40, deadline=None)


def cable(name, one, other, km=0.1, **more):
    """A buried cable of the European LV feeder's kind."""
    given = {"r1_ohm": 0.45 * km, "x1_ohm": 0.07 * km, "r0_ohm": 1.3 * km, "x0_ohm": 0.09 * km}
    return Line(name, one, other, **{**given, "rating_a": 200.0, "c1_nf": 0.0, "c0_nf": 0.0, **more})


@st.composite
def feeders(draw):
    """A transformer of any clock number, with cables, untransposed lines and single-phase laterals behind it."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    clock = draw(st.integers(0, 11))
    side = draw(st.sampled_from(["", "from", "to"]))
    branches = [
        Transformer("T", "mv", "b0", 400.0, 11000.0, 416.0, 4.0, 3.0, i0_percent=0.0, p0_kw=0.0, clock=clock,
                    tap_side=side, tap_position=int(rng.integers(-2, 3)) if side else 0, tap_step_percent=2.5)
    ]  # fmt: skip
    phases = {"b0": "abc"}
    for k in range(1, int(rng.integers(2, 9))):
        above = f"b{rng.integers(0, k)}"
        here = phases[above] if rng.random() < 0.7 else str(rng.choice(list(phases[above])))
        km, ends = rng.uniform(0.02, 0.2), [above, f"b{k}"]
        if rng.random() < 0.3:
            ends.reverse()
        matrix = None
        if rng.random() < 0.5:
            mutual = rng.uniform(0.05, 0.15, (3, 3)) * km
            z = (mutual + mutual.T) / 2 * (0.5 + 1j) + np.diag(rng.uniform(0.3, 0.6, 3) * km * (1 + 0.3j))
            matrix = tuple(tuple(row) for row in z)
        branches.append(
            cable(f"L{k}", *ends, km, phases=here, z_abc_ohm=matrix, c1_nf=rng.uniform(0, 50), c0_nf=rng.uniform(0, 20))
        )
        phases[f"b{k}"] = here
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **dict.fromkeys(phases, 400.0)}, branches, source_bus="mv", source_v_pu=1.02,
        source_short_circuit_va=draw(st.sampled_from([1e16, 5e7])), source_rx_ratio=0.3,
    )  # fmt: skip
    at = rng.integers(1, feeder.n_bus, int(rng.integers(1, 7)))
    on = [str(rng.choice(list(phases[feeder.buses.ids[b]]))) for b in at]
    on = [
        "abc" if phases[feeder.buses.ids[b]] == "abc" and rng.random() < 0.3 else phase
        for b, phase in zip(at, on, strict=True)
    ]
    power = rng.uniform(-12, 12, (2, len(at), 5))
    power[1] *= 0.4
    return feeder, at, on, power


@SETTINGS
@given(feeders())
def test_voltages_and_flows_are_those_of_power_grid_model(drawn):
    """Voltages to 1e-8 pu, powers, losses and loadings of every phase to 1e-6, for any clock number and any laterals."""
    feeder, at, on, (p, q) = drawn
    model = Model(feeder, at, on)
    ours, theirs = model.solve(p, q), check(feeder, at, -p, -q, connection_phase=on)

    assert ours.converged.all()
    assert theirs.converged.all()
    np.testing.assert_allclose(ours.v_pu, theirs.v_pu, rtol=0, atol=1e-8)
    for name, size in (
        ("p_kw", 1e-5),
        ("q_kvar", 1e-5),
        ("current_a", 1e-5),
        ("loading_percent", 1e-5),
        ("source_kw", 1e-5),
    ):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-7, atol=size, err_msg=name)


@SETTINGS
@given(st.integers(0, 2**31), st.integers(0, 11))
def test_alike_phases_are_the_balanced_power_flow(seed, clock):
    """A third of every load in each phase: the three-phase voltages are those of the balanced model."""
    rng = np.random.default_rng(seed)
    feeder = Feeder.build(
        "alike", {"mv": 11000.0, "a": 400.0, "b": 400.0},
        [Transformer("T", "mv", "a", 250.0, 11000.0, 400.0, 4.0, 3.0, clock=clock), cable("L", "a", "b", c1_nf=40.0, c0_nf=10.0)],
        source_bus="mv", source_short_circuit_va=1e8,
    )  # fmt: skip
    p, q = rng.uniform(-40, 40, (2, 1, 4))
    balanced = Model(feeder, [2]).solve(p, q)
    thirds = Model(feeder, [2, 2, 2], ["a", "b", "c"]).solve(np.repeat(p / 3, 3, axis=0), np.repeat(q / 3, 3, axis=0))

    np.testing.assert_allclose(thirds.v_pu.reshape(3, 3, -1), np.repeat(balanced.v_pu[:, None], 3, axis=1), atol=1e-9)
    np.testing.assert_allclose(thirds.p_kw.reshape(2, 3, -1).sum(axis=1), balanced.p_kw, atol=1e-6)
    np.testing.assert_allclose(thirds.source_kw, balanced.source_kw, atol=1e-6)


def test_one_phase_lifts_itself_and_lowers_the_next():
    """By hand, with z_s = 0.2 and z_m = 0.1 ohm: 1 kW in phase a adds 2 z_s kW/U² there, 2 Re(z_m e^(±j120°)) beside it."""
    feeder = Feeder.build(
        "two", {"s": 400.0, "e": 400.0}, [Line("L", "s", "e", 0.1, 0.0, r0_ohm=0.4, x0_ohm=0.0)], source_bus="s"
    )
    found = linear(Model(feeder, [1], ["a"])).squared_v_per_kw[3:, 0]
    u = 400.0 / np.sqrt(3.0)

    np.testing.assert_allclose(found, np.array([2 * 0.2, -0.1, -0.1]) * 1e3 / u**2, rtol=1e-12)


def test_what_cannot_be_three_phase_is_told():
    """A line without zero sequence, a phase that does not arrive, a delta fed from its star: a sentence each."""
    ends = {"s": 400.0, "e": 400.0}
    with pytest.raises(FeederError, match="line 'L' without r0_ohm"):
        Model(Feeder.build("x", ends, [Line("L", "s", "e", 0.1, 0.0)], source_bus="s"), [1], ["a"])
    lateral = Feeder.build("x", ends, [cable("L", "s", "e", phases="b")], source_bus="s")
    with pytest.raises(FlowError, match="phase 'a', which does not arrive at its bus 'e'"):
        Model(lateral, [1], ["a"])
    with pytest.raises(FeederError, match="branch 'M' has phase 'a', which does not arrive at bus 'e'"):
        Feeder.build(
            "x",
            {**ends, "f": 400.0},
            [cable("L", "s", "e", phases="b"), cable("M", "e", "f", phases="ab")],
            source_bus="s",
        )
    back = [Transformer("T", "e", "s", 100.0, 400.0, 400.0, 4.0, 1.0, clock=11)]
    with pytest.raises(FeederError, match="fed from its star side"):
        Model(Feeder.build("x", ends, back, source_bus="s"), [1], ["a"])
