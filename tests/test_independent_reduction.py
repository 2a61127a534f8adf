"""Series reduction against power-grid-model: the whole feeder there, the folded one here and there, are the same network."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from network.acflow import Model
from network.feeder import Feeder, Line, Transformer
from network.reduction import reduced_model
from network.referee import check

SUBSETS = ["abc", "ab", "ac", "bc", "a", "b", "c"]


def any_line(rng, name, ends, phases, balanced, usual=0.4):
    """A cable by sequences, one without zero sequence (balanced only), or one by matrix; every eighth with capacitance."""
    km = float(rng.uniform(0.02, 0.2))
    shunt = 800.0 if rng.random() < 0.12 else 0.0
    rating = float(rng.choice([80.0, 150.0, np.inf]))
    if not balanced and rng.random() < usual:
        mutual = rng.uniform(0.04, 0.12, (3, 3)) * km
        z = (mutual + mutual.T) / 2 * (0.4 + 1j) + np.diag(rng.uniform(0.3, 0.6, 3) * km * (1 + 0.4j))
        c = shunt * (1.3 * np.eye(3) - 0.1)
        return Line(name, *ends, 0.4 * km, 0.1 * km, rating_a=rating, c1_nf=shunt, r0_ohm=1.2 * km, x0_ohm=0.3 * km, c0_nf=0.8 * shunt,
                    length_m=1e3 * km, phases=phases, z_abc_ohm=tuple(map(tuple, z)), c_abc_nf=tuple(map(tuple, c)))  # fmt: skip
    blind = balanced and rng.random() < 0.15
    r1, x1 = rng.uniform([0.2, 0.06], [0.6, 0.1]) * km
    r0, x0 = (np.nan, np.nan) if blind else rng.uniform([0.8, 0.1], [1.6, 0.4]) * km
    return Line(name, *ends, r1, x1, rating_a=rating, c1_nf=shunt, r0_ohm=r0, x0_ohm=x0,
                c0_nf=np.nan if blind else float(rng.choice([0.0, 0.7])) * shunt, length_m=1e3 * km, phases=phases)  # fmt: skip


def any_feeder(seed, balanced):
    """Medium voltage with a line of several pieces, one or two transformers, long chains behind them, customers at a few buses."""
    rng = np.random.default_rng(seed)
    volts, phases, branches = {"s": 20e3}, {"s": "abc"}, []
    above = "s"
    for k in range(int(rng.integers(0, 4))):  # medium voltage, in a row
        volts[f"m{k}"], phases[f"m{k}"] = 20e3, "abc"
        branches.append(any_line(rng, f"M{k}", (above, f"m{k}"), "abc", balanced))
        above = f"m{k}"
    for t in range(int(rng.integers(1, 3))):  # low voltage networks
        usual = float(rng.choice([0.1, 0.9]))  # chains of one sort
        low, upstream = [f"{t}b0"], str(rng.choice([b for b in volts if volts[b] > 1e3]))
        branches.append(
            Transformer(f"T{t}", upstream, low[0], 250.0, 20e3, 410.0, 4.0, 3.0, float(rng.choice([0.0, 0.6])), float(rng.choice([0.0, 0.5])),
                        clock=5 if balanced else int(rng.choice([1, 5, 11])), tap_side="from", tap_position=int(rng.integers(-2, 3)), tap_step_percent=2.5)
        )  # fmt: skip
        phases[low[0]] = "abc"
        for k in range(1, int(rng.integers(4, 14))):
            one, bus = (low[-1] if rng.random() < 0.85 else str(rng.choice(low))), f"{t}b{k}"
            here = phases[one]
            if not balanced and rng.random() < 0.1:
                here = str(rng.choice([p for p in SUBSETS if set(p) <= set(here)]))
            ends = (one, bus) if rng.random() < 0.7 else (bus, one)
            branches.append(any_line(rng, f"{t}L{k}", ends, here, balanced, usual))
            phases[bus] = here
            low.append(bus)
        volts |= dict.fromkeys(low, 400.0)
    feeder = Feeder.build("any", volts, branches, source_bus="s", source_v_pu=1.01,
                          source_short_circuit_va=float(rng.choice([1e16, 1e8])), source_rx_ratio=0.2)  # fmt: skip
    at = [b for b in volts if volts[b] < 1e3]
    at = [str(b) for b in rng.choice(at, min(int(rng.integers(1, 6)), len(at)), replace=False)]
    on = [
        "abc" if balanced else str(rng.choice([p for p in ("abc", *phases[b]) if set(p) <= set(phases[b])])) for b in at
    ]
    model = Model(feeder, [feeder.bus_index(b) for b in at], on)
    power = rng.uniform(-12, 12, (len(at), 3)), rng.uniform(-4, 4, (len(at), 3))
    return model, power


def there(model, p, q):
    return check(model.feeder, model.connection_bus, -p, -q, None, model.connection_phase)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_a_folded_feeder_is_the_whole_one_of_power_grid_model(seed, balanced):
    """Capacitances, transformers, chains, few customers: kept voltages to 1e-8 pu, the source's power to 1e-8 of the flow, ours and theirs."""
    model, (p, q) = any_feeder(seed, balanced)
    whole = there(model, p, q)
    assert whole.converged.all()
    found, small = reduced_model(model)
    assert small.feeder.n_bus <= model.feeder.n_bus
    assert small.three_phase == model.three_phase
    row = {key: k for k, key in enumerate(zip(model.nodes.element.tolist(), model.nodes.phase, strict=True))}
    rows = [row[int(found.kept[bus]), phase] for bus, phase in zip(small.nodes.element, small.nodes.phase, strict=True)]
    size = 1.0 + np.abs(p).sum(axis=0) + np.abs(q).sum(axis=0)
    for part in (small.solve(p, q), there(small, p, q)):
        assert part.converged.all()
        np.testing.assert_allclose(part.v_pu, whole.v_pu[rows], rtol=0, atol=1e-8)
        for name in ("source_kw", "source_kvar"):
            assert (np.abs(getattr(part, name) - getattr(whole, name)) <= 1e-7 * size).all()
        np.testing.assert_allclose(
            np.nansum(part.loss_kw, axis=0), np.nansum(whole.loss_kw, axis=0), rtol=1e-6, atol=1e-6
        )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_what_is_folded_comes_back_as_power_grid_model_says(seed, balanced):
    """Voltages inside chains, brought back from the reduced feeder, are those of the whole one to 1e-8 pu; a line's loading is its chain's."""
    model, (p, q) = any_feeder(seed, balanced)
    whole = there(model, p, q)
    found, small = reduced_model(model)
    injected = small.bus_power(p, q)
    source = small.source_voltage(None, p.shape[1])
    at_loads, converged, _ = small.fixed_point(injected, source, 1e-12)
    assert converged.all()
    back = found.voltages(small.voltages(np.conj(injected / at_loads), source), three_phase=small.three_phase)
    np.testing.assert_allclose(np.abs(back)[model.node_there], whole.v_pu, rtol=0, atol=1e-8)
    part = small.solve(p, q)
    wire = {key: k for k, key in enumerate(zip(small.wires.element.tolist(), small.wires.phase, strict=True))}
    for k, (branch, phase) in enumerate(zip(model.wires.element.tolist(), model.wires.phase, strict=True)):
        rated = not model.feeder.branches.is_line[branch] or np.isfinite(model.feeder.branches.rating_a[branch])
        if rated:
            ours = part.loading_percent[wire[int(found.chain[branch]), phase]] * found.loading_factor[branch]
            np.testing.assert_allclose(ours, whole.loading_percent[k], rtol=1e-5, atol=1e-5)


def test_these_feeders_do_fold():
    """Of forty of the feeders above most lose buses, some lose two in five, and most have lines with capacitance left."""
    lost, shunts = [], 0
    for seed in range(40):
        model, _ = any_feeder(seed, seed % 2 == 0)
        _, small = reduced_model(model)
        lost.append(1 - small.feeder.n_bus / model.feeder.n_bus)
        shunts += bool((np.nan_to_num(small.feeder.branches.c1_nf) > 0).any())
    assert np.mean(np.array(lost) > 0) > 0.8
    assert max(lost) > 0.4
    assert shunts > 20
