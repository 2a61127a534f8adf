"""Exact series reduction: chains of lines become one line, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.feeder import Feeder, Line, Transformer
from network.reduction import ReductionError, reduce, reduced_model
from network.sources import read

ORDERS = ["abc", "ab", "ac", "bc", "a", "b", "c"]


@st.composite
def feeders(draw, balanced=False):
    """Long chains with few branching points: sequences and matrices, single phases, shunts, ties, lines told backwards."""
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    branches = [Transformer("T", "mv", "b0", 400.0, 11000.0, 416.0, 4.0, 3.0, clock=int(rng.integers(0, 12)))]
    phases, n = {"b0": "abc"}, int(rng.integers(6, 25))
    for k in range(1, n):
        above = f"b{k - 1}" if rng.random() < 0.8 else f"b{rng.integers(0, k)}"
        narrower = [one for one in ORDERS if set(one) <= set(phases[above])]
        here = phases[above] if balanced or rng.random() < 0.85 else str(rng.choice(narrower))
        km, ends = rng.uniform(0.01, 0.1), [above, f"b{k}"]
        if rng.random() < 0.3:
            ends.reverse()
        z = None
        if not balanced and rng.random() < 0.4:
            mutual = rng.uniform(0.05, 0.15, (3, 3)) * km
            full = (mutual + mutual.T) / 2 * (0.5 + 1j) + np.diag(rng.uniform(0.3, 0.6, 3) * km * (1 + 0.3j))
            z = tuple(tuple(row) for row in full)
        shunt = 50.0 if rng.random() < 0.1 else 0.0
        r1, x1, r0, x0 = rng.uniform([0.2, 0.05, 0.9, 0.06], [0.6, 0.1, 1.6, 0.2]) * km
        branches.append(
            Line(f"L{k}", *ends, r1, x1, rating_a=float(rng.choice([100.0, 200.0, np.inf])), c1_nf=shunt, r0_ohm=r0,
                 x0_ohm=x0, c0_nf=shunt, length_m=km * 1e3, phases=here, z_abc_ohm=z)
        )  # fmt: skip
        phases[f"b{k}"] = here
    if rng.random() < 0.3:
        branches.append(Line("tie", "b1", f"b{n - 1}", 0.1, 0.1, in_service=False))
    feeder = Feeder.build(
        "drawn", {"mv": 11000.0, **dict.fromkeys(phases, 400.0)}, branches, source_bus="mv", source_v_pu=1.02,
        source_short_circuit_va=draw(st.sampled_from([1e16, 5e7])), source_rx_ratio=0.3,
    )  # fmt: skip
    at = rng.integers(1, feeder.n_bus, int(rng.integers(1, 5)))
    on = ["abc" if balanced else str(rng.choice(list(phases[feeder.buses.ids[b]]))) for b in at]
    power = rng.uniform(-10, 10, (2, len(at), 4))
    return Model(feeder, at, on), power


def _complex(model, power):
    """Complex voltages of all nodes."""
    injected = model.bus_power(*power)
    source = model.source_voltage(None, injected.shape[1])
    at_loads, converged, _ = model.fixed_point(injected, source, 1e-13)
    assert converged.all()
    return model.voltages(np.conj(injected / at_loads), source)


@settings(max_examples=60, deadline=None)
@given(st.booleans().flatmap(lambda balanced: feeders(balanced=balanced)))
def test_nothing_changes_but_the_number_of_buses(drawn):
    """Voltages of kept buses, and of folded ones brought back, are the same to 1e-12 pu, balanced and with three phases."""
    model, power = drawn
    found, small = reduced_model(model)
    whole, part = _complex(model, power), _complex(small, power)
    rows = np.repeat(found.kept, 3) * 3 + np.tile(range(3), len(found.kept)) if model.three_phase else found.kept
    there, theirs = model.node_there, small.node_there

    assert small.three_phase == model.three_phase
    np.testing.assert_array_equal(there[rows], theirs)
    np.testing.assert_allclose(part[theirs], whole[rows][theirs], rtol=0, atol=1e-12)
    again = found.voltages(part, three_phase=model.three_phase)
    np.testing.assert_allclose(again[there], whole[there], rtol=0, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.booleans().flatmap(lambda balanced: feeders(balanced=balanced)))
def test_loadings_and_losses_are_those_of_the_lines(drawn):
    """A line's loading is its chain's times the ratio of ratings; losses and the source's power are the same."""
    model, power = drawn
    found, small = reduced_model(model)
    ours, theirs = small.solve(*power), model.solve(*power)
    np.testing.assert_allclose(ours.source_kw, theirs.source_kw, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.loss_kw.sum(axis=0), theirs.loss_kw.sum(axis=0), rtol=0, atol=1e-9)
    row = {
        (int(k), phase): at for at, (k, phase) in enumerate(zip(small.wires.element, small.wires.phase, strict=True))
    }
    branches = model.feeder.branches
    for at, (k, phase) in enumerate(zip(model.wires.element, model.wires.phase, strict=True)):
        if not branches.in_service[k]:
            continue
        chain = int(found.chain[k])
        folded = (found.chain == chain).sum() > 1
        expected = ours.loading_percent[row[chain, phase]] * found.loading_factor[k]
        if not folded or np.isfinite(branches.rating_a[k]):
            np.testing.assert_allclose(theirs.loading_percent[at], expected, rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(feeders())
def test_what_may_be_folded_is_folded(drawn):
    """No bus is left at which two like lines without shunt meet and nobody is connected; ratings are the lowest, lengths add up."""
    model, _ = drawn
    found, small = reduced_model(model)
    once_more = reduce(small.feeder, small.connection_bus)
    assert once_more.feeder.n_bus == small.feeder.n_bus
    old, new = model.feeder.branches, small.feeder.branches
    for chain in range(small.feeder.n_branch):
        inside = np.flatnonzero(found.chain == chain)
        if inside.size and new.is_line[chain]:
            assert new.rating_a[chain] == old.rating_a[inside].min()
            assert new.length_m[chain] == pytest.approx(old.length_m[inside].sum())


def test_two_lines_by_hand():
    """0.1 and 0.3 ohm in a row are 0.4 ohm; a quarter of the drop lies in the first."""
    feeder = Feeder.build(
        "row", {"s": 400.0, "m": 400.0, "e": 400.0},
        [Line("L", "s", "m", 0.1, 0.0, rating_a=100.0), Line("M", "m", "e", 0.3, 0.0, rating_a=50.0)], source_bus="s",
    )  # fmt: skip
    found = reduce(feeder, [2])
    assert found.feeder.buses.ids == ("s", "e")
    assert found.feeder.branches.r1_ohm.tolist() == [pytest.approx(0.4)]
    assert found.feeder.branches.rating_a.tolist() == [50.0]
    assert found.loading_factor.tolist() == [0.5, 1.0]
    np.testing.assert_allclose(found.voltages([[1.0], [0.96]], three_phase=False).real.ravel(), [1.0, 0.99, 0.96])
    with pytest.raises(ReductionError, match="Keep it when reducing"):
        found.bus([1])


def test_european_lv_keeps_205_buses_and_the_busbar():
    """907 buses become 206 (prototypes, in which the transformer is a line, folded the busbar too), and every voltage is the same to 1e-12 pu."""
    grid = read("european_lv")
    c = grid.connections
    model = Model(grid.feeder, c.bus, c.phase)
    found, small = reduced_model(model)
    power = -c.base_kw[:, None], -c.base_kvar[:, None]
    assert found.feeder.n_bus == 206
    np.testing.assert_allclose(
        found.voltages(_complex(small, power), three_phase=True), _complex(model, power), rtol=0, atol=1e-12
    )
