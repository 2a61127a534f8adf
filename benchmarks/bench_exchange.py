"""How fast the exchange clears a made-up community of 120 agents: a day ahead, the rest of it every hour, one iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market.exchange import Problem, attainable, clear
from market.laws import broken_laws
from market.sample import sample
from market.splitting import Splitting

HOUR = 4


@pytest.fixture(scope="module")
def day():
    """The day-ahead problem and its clearing, kernels compiled."""
    case = sample(119, 96)
    return case, clear(case)


def test_iteration(benchmark, day, told):
    """One iteration of all agents."""
    case, _ = day
    splitting = Splitting(case, None, 1)
    splitting.run(0.1, 20)

    benchmark.pedantic(splitting.advance, args=(20,), rounds=20)
    told(f"exchange: {benchmark.stats['min'] / 20 * 1e3:.2f} ms an iteration, {case.n} agents x {case.steps} intervals")


@pytest.mark.parametrize("tolerance", [1e-3, 3e-4])
def test_day_ahead(benchmark, day, tolerance, told):
    """A whole day from nothing."""
    case, _ = day
    found = benchmark.pedantic(clear, args=(case,), kwargs={"tolerance": tolerance}, rounds=5)

    assert found.converged
    assert found.gap < 5e-3
    told(f"exchange: day ahead at {tolerance:g} in {found.iterations} iterations, gap {found.gap:.1e}")


def newer(case: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem with forecasts that are a fifth off for a home and a twentieth for the sun, less so later on."""
    off = rng.normal(size=(case.n, 1)) * np.exp(-np.arange(case.steps) / 16.0)
    load = case.load_kw * np.maximum(0.0, 1.0 + 0.2 * off)
    return attainable(replace(case, load_kw=load, pv_kw=case.pv_kw * (1.0 + 0.05 * rng.normal())))[0]


def test_every_hour(benchmark, day, told):
    """The rest of the day, again and again, from where the last clearing stood."""
    case, ahead = day
    counts, gaps = [], []

    def hours() -> None:
        rng, last = np.random.default_rng(5), ahead
        rest = replace(case, right_energy_kwh=ahead.right_energy_kwh, right_power_kw=ahead.right_power_kw)
        warm = ahead.warm
        for _ in range(case.steps // HOUR - 1):
            rest = rest.dropped(HOUR, last.energy_kwh[:, :, HOUR], last.rented_energy_kwh[:, :, HOUR])
            problem = newer(rest, rng)
            last = clear(problem, warm=warm.dropped(HOUR))
            warm = last.warm
            assert last.converged
            assert broken_laws(problem, last) == []
            counts.append(last.iterations)
            gaps.append(last.gap)

    benchmark.pedantic(hours, rounds=2)
    told(f"exchange: hourly in {np.mean(counts):.0f} iterations in the mean, gap {np.mean(gaps):.1e} in the mean")
    assert np.mean(counts) <= 130
