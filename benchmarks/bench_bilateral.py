"""How fast the bilateral market clears 10 000 agents with 12 partners each in 96 intervals, against a general solver.

Clarabel gets single intervals of the same market, night, morning and noon, as matrices: nothing but its own solving is timed.
The mean of its times is taken times 96, which is an extrapolation: without stores intervals have nothing to do with each
other, and all at once would take it longer still.  CPU time, one thread, both in one process.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from market.bilateral import Bilateral, clear
from market.curves import Curves

AGENTS, PARTNERS, STEPS = 10_000, 12, 96
SOLVED = (0, 24, 48)


def town(agents: int, partners: int, steps: int, seed: int = 0) -> Bilateral:
    """Return a town of sellers and buyers on a square; three quarters of the partners are the nearest, the others anywhere."""
    rng = np.random.default_rng(seed)
    half, near = agents // 2, partners - partners // 4
    places = rng.random((2, half, 2))
    _, close = cKDTree(places[1]).query(places[0], k=near)
    sellers = np.repeat(np.arange(half), partners)
    buyers = np.concatenate([close, rng.integers(0, half, (half, partners - near))], axis=1).ravel()
    pairs = np.unique(np.stack([sellers, half + buyers], axis=1), axis=0)
    way = np.linalg.norm(places[0][pairs[:, 0]] - places[1][pairs[:, 1] - half], axis=1)
    sun = 0.3 + 0.7 * np.clip(np.sin((np.arange(steps) / steps - 0.25) * 2 * np.pi), 0, 1)
    b = np.concatenate([rng.uniform(0.04, 0.14, (half, 1)), rng.uniform(0.12, 0.22, (half, 1))])
    least, most = np.zeros((agents, steps)), np.zeros((agents, steps))
    most[:half] = rng.uniform(1, 10, (half, 1)) * sun * rng.uniform(0.9, 1, (half, steps))
    least[half:] = -rng.uniform(1, 10, (half, 1)) * rng.uniform(0.4, 1, (half, steps))
    curves = Curves.plain(
        rng.uniform(0.005, 0.02, (agents, 1)), b + rng.normal(0, 0.003, (agents, steps)), least, most, dt_h=0.25
    )
    return Bilateral.plain(curves, pairs, charge_eur_per_kwh=0.01 * way + 0.0005)


def only(problem: Bilateral, t: int) -> Bilateral:
    """Return one interval of a market."""
    c = problem.curves
    columns = (c.a_eur_per_kw2h, c.b_eur_per_kwh, c.p_min_kw, c.p_max_kw)
    curves = Curves.plain(*(column[:, t] for column in columns), dt_h=c.dt_h)
    return Bilateral(curves=curves, first=problem.first, second=problem.second, trade_max_kw=problem.trade_max_kw,
                     charge_first_eur_per_kwh=problem.charge_first_eur_per_kwh,
                     charge_second_eur_per_kwh=problem.charge_second_eur_per_kwh)  # fmt: skip


def clarabel_alone(problem: Bilateral) -> tuple[float, float]:
    """Return least cost of one interval and CPU seconds that Clarabel takes for it, sellers first in every pair."""
    import clarabel
    from scipy import sparse

    c, edges, n = problem.curves, problem.pairs, problem.n
    fees = (problem.charge_first_eur_per_kwh + problem.charge_second_eur_per_kwh)[:, 0]
    rows, trades = np.concatenate([problem.first, problem.second]), np.tile(np.arange(edges), 2)
    signs = np.concatenate([-np.ones(edges), np.ones(edges)])
    balance = sparse.hstack([sparse.csc_array((signs, (rows, trades)), shape=(n, edges)), sparse.eye_array(n)])
    own = sparse.hstack([sparse.csc_array((n, edges)), sparse.eye_array(n)])
    floor = sparse.hstack([-sparse.eye_array(edges), sparse.csc_array((edges, n))])
    matrix = sparse.csc_matrix(sparse.vstack([balance, floor, -own, own]))
    right = np.concatenate([np.zeros(n + edges), -c.p_min_kw[:, 0], c.p_max_kw[:, 0]])
    square = sparse.csc_matrix(sparse.diags_array(np.concatenate([np.zeros(edges), c.dt_h * c.a_eur_per_kw2h[:, 0]])))
    linear = c.dt_h * np.concatenate([fees, c.b_eur_per_kwh[:, 0]])
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    cones = [clarabel.ZeroConeT(n), clarabel.NonnegativeConeT(edges + 2 * n)]
    solver = clarabel.DefaultSolver(square, linear, matrix, right, cones, settings)
    begin = time.process_time()
    found = solver.solve()
    spent = time.process_time() - begin
    assert str(found.status) == "Solved"
    return float(found.obj_val), spent


@pytest.fixture(scope="module")
def case() -> Bilateral:
    """The town, and kernels compiled."""
    clear(town(200, PARTNERS, 2), tolerance=1e-3, gap=1e-3)
    return town(AGENTS, PARTNERS, STEPS)


def test_against_a_solver(benchmark, case, told):
    """At a certified gap of 1e-3 at least 400 times less CPU time than the general solver."""
    spent = []

    def once():
        begin = time.process_time()
        found = clear(case, tolerance=1e-3, gap=1e-3)
        spent.append(time.process_time() - begin)
        return found

    found = benchmark.pedantic(once, rounds=3)
    assert found.gap <= 1e-3  # of all intervals together
    best, central = zip(*(clarabel_alone(only(case, t)) for t in SOLVED), strict=True)
    flows = [clear(only(case, t), tolerance=1e-3, gap=1e-3) for t in SOLVED]
    for alone, least in zip(flows, best, strict=True):
        assert alone.bound_eur <= least + 1e-6 * abs(least)
        assert least <= alone.cost_eur + 1e-6 * abs(least)
    times = STEPS * np.mean(central) / np.mean(spent)
    told(f"bilateral: {AGENTS} agents, {case.pairs} pairs, {STEPS} intervals in {np.mean(spent):.2f} s of CPU (the mean of three, best "
         f"{min(spent):.2f}), {found.iterations} iterations, gap of all {found.gap:.1e}; Clarabel alone "
         f"{', '.join(f'{s:.0f}' for s in central)} s for intervals {', '.join(map(str, SOLVED))}, mean times {STEPS}: {times:.0f} times as long")  # fmt: skip
    assert times >= 400.0


def test_limited(benchmark, told):
    """What it costs that a single trade has a limit, so that the form for any graph has to clear the market."""
    free = town(2_000, PARTNERS, 24)
    limited = replace(free, trade_max_kw=np.where(np.arange(free.pairs) == 0, 1e6, np.inf)[:, None])
    seconds, found = [], []
    for market in (free, limited):
        clear(market, tolerance=1e-3, gap=1e-3, max_iterations=10)
        begin = time.process_time()
        found.append(clear(market, tolerance=1e-3, gap=1e-3))
        seconds.append(time.process_time() - begin)
    benchmark.pedantic(clear, args=(limited,), kwargs={"tolerance": 1e-3, "gap": 1e-3}, rounds=1)
    told(f"bilateral: one limited pair of {free.pairs}: {found[1].iterations} iterations in {seconds[1]:.2f} s of CPU instead of "
         f"{found[0].iterations} in {seconds[0]:.2f} s")  # fmt: skip
    assert max(each.gap for each in found) <= 1e-3


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
def test_to_a_tolerance(benchmark, case, tolerance, told):
    """To residuals instead of a gap, on the first 24 intervals."""
    curves = case.curves
    columns = (curves.a_eur_per_kw2h, curves.b_eur_per_kwh, curves.p_min_kw, curves.p_max_kw)
    part = Bilateral(curves=Curves.plain(*(c[:, 24:48] for c in columns), dt_h=0.25), first=case.first, second=case.second,
                     charge_first_eur_per_kwh=case.charge_first_eur_per_kwh,
                     charge_second_eur_per_kwh=case.charge_second_eur_per_kwh, trade_max_kw=case.trade_max_kw)  # fmt: skip
    begin = time.process_time()
    found = benchmark.pedantic(clear, args=(part,), kwargs={"tolerance": tolerance}, rounds=1)
    told(f"bilateral: 24 intervals to residuals of {tolerance:g} in {time.process_time() - begin:.2f} s of CPU, {found.iterations} "
         f"iterations, gap {found.gap:.1e}")  # fmt: skip
    assert found.converged
    assert found.gap <= 10 * tolerance
