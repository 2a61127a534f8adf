"""How fast the exchange clears a made-up community of 120 agents: a day ahead, the rest of it every hour, one iteration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from market import repair
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


def test_how_tenants_are_run_where_nothing_is_let_out(benchmark, told, monkeypatch):
    """Thirty days of 30 homes, cleared every hour: the last quarter of the day lets nothing out. Which of the ways to run tenants is needed, how often."""
    used, counts = [0], np.zeros(4, dtype=int)
    follow, restore = repair.follow_rented, repair.restore

    def followed(*given):
        helped, guided = given[8:10]
        used[0] = max(used[0], 2 if not helped else int(guided))
        return follow(*given)

    def restored(*given):
        used[0] = 3
        return restore(*given)

    monkeypatch.setattr(repair, "follow_rented", followed)
    monkeypatch.setattr(repair, "restore", restored)

    def cleared(problem, warm=None):
        used[0] = 0
        found = clear(problem, warm=warm)
        counts[used[0]] += 1
        assert broken_laws(problem, found) == []
        return found

    def days():
        for seed in range(30):
            case, rng = sample(30, 24, seed=seed), np.random.default_rng(seed)
            net_min = case.ess_net_min_kw.copy()
            net_min[0, 18:] = 0.0
            rest = replace(case, ess_net_min_kw=net_min)
            last = cleared(rest)
            rest = replace(rest, right_energy_kwh=last.right_energy_kwh, right_power_kw=last.right_power_kw)
            for _ in range(case.steps - 1):
                rest = rest.dropped(1, last.energy_kwh[:, :, 1], last.rented_energy_kwh[:, :, 1])
                last = cleared(newer(rest, rng), last.warm.dropped(1))

    benchmark.pedantic(days, rounds=1)
    told(
        f"exchange: of {counts.sum()} clearings {counts[1]} needed the tenants' sum guided, {counts[2]} each by itself, "
        f"{counts[3]} the nearest flows"
    )
