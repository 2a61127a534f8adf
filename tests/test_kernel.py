"""The compiled power flow: the same digits in any company, and nothing but what is asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import FlowError, Model
from network.feeder import Feeder, Line, Transformer
from network.kernel_tree import Walk
from network.referee import check
from network.threephase import Wires, phase_rungs


def drawn(seed, buses=14, customers=5):
    """A transformer with a random tree of cables behind it, some with capacitance, listed in any direction."""
    rng = np.random.default_rng(seed)
    branches = [
        Transformer(
            "T", "mv", "b0", 250.0, 11000.0, 400.0, 4.0, 3.0, i0_percent=0.4, p0_kw=0.3, clock=int(rng.integers(12))
        )
    ]
    for k in range(1, buses):
        ends = [f"b{rng.integers(max(0, k - 3), k)}", f"b{k}"]
        if rng.random() < 0.4:
            ends.reverse()
        c1 = float(rng.choice([0.0, 200.0]))
        branches.append(
            Line(f"L{k}", *ends, *rng.uniform(0.005, 0.03, 2).tolist(), rating_a=100.0, c1_nf=c1, r0_ohm=0.1, x0_ohm=0.05, c0_nf=c1 / 2)
        )  # fmt: skip
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **{f"b{k}": 400.0 for k in range(buses)}}, branches, source_bus="mv",
        source_short_circuit_va=float(rng.choice([1e16, 1e8])),
    )  # fmt: skip
    at = rng.integers(1, feeder.n_bus, customers)
    phase = [str(rng.choice(["a", "b", "c", "abc"])) for _ in at] if rng.random() < 0.6 else None
    return feeder, at, phase, rng


def assert_same(one, other):
    """Every column of two flows has the same bits."""
    for name in ("v_pu", "p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw", "source_kw", "converged"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


class Part:
    """Some columns of a flow."""

    def __init__(self, flow, columns):
        for name in ("v_pu", "p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw", "source_kw", "converged"):
            setattr(self, name, getattr(flow, name)[..., columns])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 30))
def test_a_point_has_the_same_digits_in_any_company(seed, points):
    """Alone, in another order, beside one that never converges: not a bit changes."""
    feeder, at, phase, rng = drawn(seed)
    model = Model(feeder, at, phase)
    p = rng.uniform(-15, 15, (len(at), points))
    p[:, rng.integers(points)] *= rng.choice([1.0, 1e4])  # sometimes one without a solution
    q, v = 0.3 * p, rng.uniform(0.97, 1.03, points)
    order = rng.permutation(points)

    whole = model.solve(p, q, v)

    assert_same(model.solve(p[:, order], q[:, order], v[order]), Part(whole, order))
    k = int(rng.integers(points))
    assert_same(model.solve(p[:, [k]], q[:, [k]], v[[k]]), Part(whole, [k]))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_voltages_alone_are_those_of_the_whole_answer(seed):
    """At any nodes, asked twice and in any order, and NaN where there is no solution."""
    feeder, at, phase, rng = drawn(seed)
    model = Model(feeder, at, phase)
    p = rng.uniform(-15, 15, (len(at), 11))
    p[:, 3] = -1e5
    nodes = rng.integers(0, len(model.w), 6)

    v_pu, converged = model.magnitudes(nodes, p, 0.2 * p)
    flow = model.solve(p, 0.2 * p)

    assert converged.tolist() == [k != 3 for k in range(11)] == flow.converged.tolist()
    assert np.isnan(v_pu[:, 3]).all()
    np.testing.assert_allclose(v_pu[:, converged], flow.v_pu[nodes][:, converged], rtol=0, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_with_capacitance_and_an_impedance_of_the_source_it_is_power_grid_models(seed):
    """Every column, three phases and one: shunts at both ends, a transformer's iron, cables told from behind."""
    feeder, at, phase, rng = drawn(seed)
    p = rng.uniform(-12, 12, (len(at), 3))

    ours, theirs = Model(feeder, at, phase).solve(p, 0.3 * p), check(feeder, at, -p, -0.3 * p, connection_phase=phase)

    np.testing.assert_allclose(ours.v_pu, theirs.v_pu, rtol=0, atol=1e-8)
    for name in ("p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw", "source_kw", "source_kvar"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-6, atol=1e-5, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_a_tree_without_what_nobody_asks_for_answers_the_same(seed):
    """Chains made one rung and empty branches left out: Z is that of the whole tree, to the last digits."""
    feeder, at, _, rng = drawn(seed, buses=20, customers=3)
    rungs = phase_rungs(feeder, Wires(feeder))
    columns, rows = np.unique(3 * at), np.unique(rng.integers(0, 3 * feeder.n_bus, 4))
    current = rng.normal(size=(len(columns), 9)) + 1j * rng.normal(size=(len(columns), 9))

    small = Walk(rungs, columns, rows)
    whole = Walk(rungs, columns, np.arange(3 * feeder.n_bus))

    assert len(small.buses) < len(whole.buses)
    expected = whole.answer(current)[rows]
    np.testing.assert_allclose(small.answer(current), expected, rtol=1e-11, atol=1e-14 * np.abs(expected).max())


def test_the_first_run_after_an_installation_has_the_same_bytes(tmp_path):
    """Compiled anew, from the cache, and in this process: one digest."""
    code = (
        "import hashlib, sys; sys.path.insert(0, 'tests'); import test_kernel as t; "
        "print(t.digest())"
    )  # fmt: skip
    folder = os.fspath(Path(__file__).resolve().parent.parent)
    env = os.environ | {"NUMBA_CACHE_DIR": os.fspath(tmp_path), "PYTHONPATH": folder}
    found = [
        subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True, capture_output=True, text=True).stdout.strip()
        for _ in range(2)
    ]  # fmt: skip

    assert found == [digest()] * 2


def digest():
    """Return a digest of a flow of three phases."""
    feeder, at, _, rng = drawn(7)
    p = rng.uniform(-12, 12, (len(at), 21))
    flow = Model(feeder, at, ["a", "b", "c", "abc", "a"]).solve(p, 0.3 * p)
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(a).tobytes() for a in (flow.v_pu, flow.p_kw, flow.loss_kw))
    ).hexdigest()


def test_nodes_that_are_not_there_are_told():
    """A number beyond the last node."""
    feeder, at, _, _ = drawn(1)
    with pytest.raises(FlowError, match="there is no node 99 among"):
        Model(feeder, at).magnitudes([0, 99], np.zeros((len(at), 1)), np.zeros((len(at), 1)))
