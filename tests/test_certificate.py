"""The certificate of existence and uniqueness: by hand at the nose of two buses, and by trying elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.certificate import BoxError, certify
from network.feeder import Feeder, Line


def two_bus(r_ohm=0.4, x_ohm=0.0):
    return Feeder.build("two", {"a": 400.0, "b": 400.0}, [Line("L", "a", "b", r_ohm, x_ohm)], source_bus="a")


def drawn(seed):
    """A random three-phase or balanced tree of cables with a few connections."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 9))
    lines = [
        Line(f"L{k}", f"b{rng.integers(0, k)}", f"b{k}", *rng.uniform(0.02, 0.2, 2).tolist(), r0_ohm=0.3, x0_ohm=0.2, c1_nf=50.0, c0_nf=20.0)
        for k in range(1, n)
    ]  # fmt: skip
    feeder = Feeder.build(
        "drawn", {f"b{k}": 400.0 for k in range(n)}, lines, source_bus="b0", source_short_circuit_va=float(rng.choice([1e16, 5e6])),
    )  # fmt: skip
    at = rng.integers(0, n, int(rng.integers(1, 6)))
    phase = [str(rng.choice(["a", "b", "c", "abc"])) for _ in at] if rng.random() < 0.5 else None
    return Model(feeder, at, phase), rng


@given(st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.floats(0.5, 3.0), st.floats(0.0, 2 * math.pi), st.floats(0.9, 1.1))
@settings(max_examples=200, deadline=None)
def test_nothing_beyond_the_nose_of_two_buses_is_certified(r_ohm, x_ohm, times, angle, source):
    """By hand: no solution where (v0 + 2(rP + xQ))² < 4 |z|² |S|², squared voltages; then no certificate."""
    z = complex(r_ohm, x_ohm) / 160  # 400 V and 1 kVA: 160 ohm
    s = times * 0.25 * source**2 / abs(z) * np.exp(1j * angle)  # in multiples of the smallest power at any nose
    beyond = (source**2 + 2 * (z.conjugate() * s).real) ** 2 < 4 * abs(z) ** 2 * abs(s) ** 2

    found = certify(Model(two_bus(r_ohm, x_ohm), [1]), [[s.real]], [[s.real]], [[s.imag]], [[s.imag]], source)

    if beyond:
        assert not found.certified[0]


def test_two_buses_are_certified_up_to_the_nose_itself():
    """400 V and 0.4 ohm carry U²/4R = 100 kW and not a watt more: the box from 0 to 99.9 kW is certain, that to 100.1 is not."""
    model = Model(two_bus(), [1])

    found = certify(model, [[-99.9, -100.1]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]])

    assert found.certified.tolist() == [True, False]
    assert 0 < found.margin[0] < 0.01
    assert certify(model, [[-99.9]], [[99.9]], [[0.0]], [[0.0]]).margin[0] == pytest.approx(
        0.001, abs=1e-9
    )  # 1 − 4 · 0.24975


@given(st.integers(0, 2**31), st.floats(1.0, 60.0))
@settings(max_examples=100, deadline=None)
def test_where_it_is_certain_every_start_leads_to_the_same_voltages(seed, size_kw):
    """Random injections of the box, from the idle voltages and from random places of the set: one solution, within reach."""
    model, rng = drawn(seed)
    low, high = -rng.uniform(0, size_kw, (model.n_connection, 1)), rng.uniform(0, size_kw, (model.n_connection, 1))
    found = certify(model, low, high, 0.3 * low, 0.3 * high)
    if not found.certified[0] or found.contraction[0] > 0.85:  # slower than 200 steps
        return

    tries = 24
    corners = rng.random((model.n_connection, tries)) < 0.5
    p = np.where(corners, low, high) if rng.random() < 0.5 else rng.uniform(low, high, (model.n_connection, tries))
    q = rng.uniform(0.3 * low, 0.3 * high, p.shape)
    source, power = np.ones(tries), model.gather(p + 1j * q)
    idle = model.w[model.load_bus][:, None]
    away = found.unique_pu[0] * np.sqrt(rng.random(power.shape)) * np.exp(2j * np.pi * rng.random(power.shape))
    start = found.middle_pu + 0.999 * away * np.abs(idle)

    one, well, _ = model.fixed_point(power, source, 1e-11)
    other, well_too, _ = model.fixed_point(power, source, 1e-11, start)

    assert well.all()
    assert well_too.all()
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-8)
    assert (np.abs(one - found.middle_pu) <= found.reach_pu * np.abs(idle) + 1e-9).all()


def test_ordinary_envelopes_are_certified():
    """Thirty homes on a cable, 4 kW either way: certain, with room to spare; a hundred times as much is not."""
    lines = [Line(f"L{k}", f"b{k}", f"b{k + 1}", 0.005, 0.002) for k in range(30)]
    model = Model(Feeder.build("street", {f"b{k}": 400.0 for k in range(31)}, lines, source_bus="b0"), range(1, 31))
    box = np.full((30, 1), 4.0)

    assert certify(model, -box, box, 0 * box, 0 * box).margin[0] > 0.5
    assert not certify(model, -100 * box, 100 * box, 0 * box, 0 * box).certified[0]


def test_what_is_no_box_is_told():
    """A wrong shape, an inf of an envelope, bounds the wrong way round."""
    model = Model(two_bus(), [1])
    with pytest.raises(BoxError, match=r"p_high_kw has shape \(2, 1\)"):
        certify(model, [[0.0]], [[0.0], [0.0]], [[0.0]], [[0.0]])
    with pytest.raises(
        BoxError, match=r"p_high_kw is inf for connection 0 in box 0\. An envelope says inf of a passive"
    ):
        certify(model, [[0.0]], [[math.inf]], [[0.0]], [[0.0]])
    with pytest.raises(BoxError, match="p_low_kw is 2, above p_high_kw of 1, for connection 0 in box 0"):
        certify(model, [[2.0]], [[1.0]], [[0.0]], [[0.0]])
