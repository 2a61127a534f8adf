"""How the exchange compares with solvers, and how it grows: CPU time of one thread, as ratios inside one process.

The population is `market.sample.sample`: six homes in ten have PV, three a battery, three a car, three in twenty a heat pump,
everybody an envelope and access to the shared store.  The central solver gets the same problem.

    make bench ARGS="benchmarks/bench_exchange_scale.py"
    COMMONWATT_BENCH_CENTRAL=1000x96 make bench ARGS="benchmarks/bench_exchange_scale.py -k central"      # minutes, 4 GB; 10000x24: 9 GB
    COMMONWATT_BENCH_LARGEST=100000 make bench ARGS="benchmarks/bench_exchange_scale.py -k linear"        # 2 GB
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from market.central import CentralProblem, solve
from market.coalition import part_of
from market.exchange import clear
from market.sample import sample
from market.splitting import Splitting

CENTRAL = [tuple(map(int, size.split("x"))) for size in os.environ.get("COMMONWATT_BENCH_CENTRAL", "120x96").split(",")]
LARGEST = int(os.environ.get("COMMONWATT_BENCH_LARGEST", "10000"))
# How many times less CPU time than Clarabel, by size and gap; smaller sizes are easier for a solver.
PROMISED = {(1000, 96, 1e-3): 150, (1000, 96, 1e-4): 40, (10000, 24, 1e-3): 400}
PROMISED_ELSEWHERE = {1e-3: 40, 1e-4: 10}


def cpu(work, rounds=3):
    """Return the least CPU time of some rounds [s], and what the last one returned."""
    best, found = np.inf, None
    for _ in range(rounds):
        began = time.process_time()
        found = work()
        best = min(best, time.process_time() - began)
    return best, found


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Kernels are compiled before anything is measured."""
    clear(sample(9, 24), gap=1e-2)


@pytest.fixture
def clarabel_cpu(monkeypatch):
    """Keep the CPU time that Clarabel itself takes, without the model's way into it."""
    import clarabel

    took, real = [], clarabel.DefaultSolver

    class Timed:
        def __init__(self, *args):
            began = time.process_time()
            self.solver = real(*args)
            took.append(time.process_time() - began)

        def solve(self):
            began = time.process_time()
            found = self.solver.solve()
            took[-1] += time.process_time() - began
            return found

    monkeypatch.setattr(clarabel, "DefaultSolver", Timed)
    return took


@pytest.mark.parametrize(("agents", "steps"), CENTRAL)
def test_central(benchmark, agents, steps, clarabel_cpu, told):
    """A day from nothing to a certified gap of 1e-3 and of 1e-4, against Clarabel on the whole problem at once."""
    case = sample(agents - 1, steps)
    best = benchmark.pedantic(solve, args=(case,), rounds=1)
    central_s = clarabel_cpu[-1]
    for gap in (1e-3, 1e-4):
        took_s, found = cpu(lambda gap=gap: clear(case, gap=gap, max_iterations=20_000))
        benchmark.extra_info[f"{gap:g}"] = {"cpu_s": took_s, "iterations": found.iterations, "gap": found.gap}
        told(
            f"exchange: {agents} x {steps} to a gap of {found.gap:.1e} in {took_s:.2f} s of CPU, {found.iterations} iterations; "
            f"Clarabel {central_s:.1f} s: {central_s / took_s:.0f} times"
        )
        assert found.converged
        assert found.gap <= gap
        assert found.cost_eur - best.cost_eur <= gap * max(1.0, abs(best.cost_eur))
        assert central_s / took_s >= PROMISED.get((agents, steps, gap), PROMISED_ELSEWHERE[gap])
    benchmark.extra_info["clarabel_cpu_s"] = central_s


def test_memory(benchmark, told):
    """10 000 agents, 96 intervals, to a gap of 1e-3, in a process of its own."""
    code = """if True:
        import json, psutil, time
        from market.exchange import clear
        from market.sample import sample

        def peak():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) / 1e3 for line in status if line.startswith("VmHWM"))

        def reset():
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")

        clear(sample(9, 24))
        alone = psutil.Process().memory_info().rss / 1e6
        case = sample(9999, 96)
        reset()
        before, began = psutil.Process().memory_info().rss / 1e6, time.process_time()
        found = clear(case, gap=1e-3)
        print(json.dumps([alone, before, peak(), time.process_time() - began, found.iterations, found.gap]))
    """
    command = [sys.executable, "-c", code]
    done = benchmark.pedantic(subprocess.run, args=(command,), kwargs={"capture_output": True, "check": True}, rounds=1)
    alone, before, peak, cpu_s, iterations, gap = json.loads(done.stdout)
    benchmark.extra_info |= {"alone_mb": alone, "problem_mb": before - alone, "peak_mb": peak, "cpu_s": cpu_s}
    told(
        f"exchange: 10 000 x 96 to a gap of {gap:.1e} in {cpu_s:.1f} s of CPU, {iterations} iterations; {peak:.0f} MB at the peak: "
        f"{alone:.0f} MB of the interpreter, {before - alone:.0f} MB of the problem, {peak - before:.0f} MB of the clearing"
    )
    assert gap <= 1e-3
    assert peak - before <= 500.0


def test_linear(benchmark, told):
    """An iteration costs the same per agent and interval at any size, and so does a whole clearing, or less."""
    sizes = [n for n in (100, 1000, 10_000, 100_000) if n <= LARGEST]
    each, whole = [], []

    def grow():
        for n in sizes:
            case = sample(n - 1, 24)
            splitting = Splitting(case, None, 1)
            splitting.advance(5)
            took_s, _ = cpu(lambda s=splitting: s.advance(10))
            each.append(took_s / 10 / n / 24)
            took_s, found = cpu(lambda c=case: clear(c, gap=1e-3), rounds=1)
            whole.append(took_s / n / 24)
            told(
                f"exchange: {n} x 24: {each[-1] * 1e9:.1f} ns per agent, interval and iteration; to a gap of {found.gap:.1e} in "
                f"{found.iterations} iterations, {took_s:.2f} s of CPU, {whole[-1] * 1e6:.1f} us per agent and interval"
            )

    benchmark.pedantic(grow, rounds=1)
    benchmark.extra_info |= {"sizes": sizes, "ns": [e * 1e9 for e in each], "us_whole": [w * 1e6 for w in whole]}
    assert max(each[1:]) <= 2.5 * min(each[1:])
    assert whole[-1] <= 2.0 * whole[0]


def test_threads(benchmark, told):
    """Two threads are faster than one where there are many agents: wall time, so on a machine that does nothing else."""
    case = sample(9999, 24)

    def wall(threads):
        splitting = Splitting(case, None, threads)
        splitting.advance(10)
        best = np.inf
        for _ in range(5):
            began = time.perf_counter()
            splitting.advance(20)
            best = min(best, time.perf_counter() - began)
        return best / 20

    one, two = benchmark.pedantic(lambda: (wall(1), wall(2)), rounds=1)
    told(
        f"exchange: 10 000 x 24, wall time of an iteration: {one * 1e3:.2f} ms with one thread, {two * 1e3:.2f} ms with two"
    )
    benchmark.extra_info |= {"one_ms": one * 1e3, "two_ms": two * 1e3}
    if os.getloadavg()[0] > 1.5 or (os.cpu_count() or 1) < 2:
        pytest.skip("the machine is not idle, or has one core: wall time says nothing")
    assert two < one


def test_rolling(benchmark, told):
    """The rest of the day after one interval, from where the day stood, costs half of the cold clearing at most."""
    case = sample(999, 96)
    ahead = clear(case, gap=1e-3)
    rest = case.dropped(1, ahead.energy_kwh[:, :, 1], ahead.rented_energy_kwh[:, :, 1])
    cold_s, cold = cpu(lambda: clear(rest, gap=1e-3))
    warm_s, warm = benchmark.pedantic(lambda: cpu(lambda: clear(rest, gap=1e-3, warm=ahead.warm.dropped(1))), rounds=1)

    told(
        f"exchange: 1000 x 95 again after one interval: {warm_s:.2f} s of CPU and {warm.iterations} iterations warm, "
        f"{cold_s:.2f} s and {cold.iterations} cold"
    )
    assert max(warm.gap, cold.gap) <= 1e-3
    assert warm_s <= 0.5 * cold_s


def step_of(case, cp):
    """Return CVXPY's problem of one agent in one iteration of a method that calls a solver, and what changes between two."""
    model = CentralProblem(case)
    goal = cp.Parameter((case.steps + 2,), value=np.zeros(case.steps + 2))
    own = cp.hstack([model.exchange_kw[0], model.right_energy_kwh[0], model.right_power_kw[0]])
    constraints = [model.commercial_balance(), model.meter_balance(), model.curtailment(), model.purchases()]
    constraints += [*model.envelope(), *model.rented_dynamics(0), *model.rights(0)]
    for k in range(case.stores):
        constraints += [*model.store_dynamics(k), *model.store_limits(k)]
    cost = model.flows_eur() + model.rents_eur() + model.curvature() + 0.05 * case.dt_h * cp.sum_squares(own - goal)
    return cp.Problem(cp.Minimize(cost), constraints), goal


def test_one_agent(benchmark, told):
    """One agent in one iteration: the kernel's share of it against OSQP, set up once and warm, and CVXPY, rebuilt each time."""
    import cvxpy as cp
    import osqp
    from scipy import sparse

    kernel_s = {}
    for n in (120, 1000):  # in the cache of one core, and in the one that all cores share
        case = sample(n - 1, 96)
        splitting = Splitting(case, None, 1)
        splitting.advance(20)
        kernel_s[n] = cpu(lambda s=splitting: s.advance(20), rounds=10)[0] / 20 / n
    rng, warm, rebuilt = np.random.default_rng(0), {1e-4: [], 1e-5: []}, []
    alone = replace(case, ess_net_min_kw=np.full_like(case.ess_net_min_kw, -np.inf))
    for agent in rng.choice(case.n - 1, 8, replace=False).tolist():
        one = part_of(alone, [agent], [0])
        problem, goal = step_of(one, cp)
        goals = 0.3 * rng.normal(size=(1, goal.size)) + np.cumsum(0.01 * rng.normal(size=(11, goal.size)), axis=0)
        linear = []
        for goal.value in goals:
            data, _, _ = problem.get_problem_data(cp.OSQP)
            linear.append(data["q"].copy())
        p, a = (sparse.csc_matrix(m) for m in (sparse.triu(data["P"]), sparse.vstack([data["A"], data["F"]])))
        upper = np.concatenate([data["b"], data["G"]])
        lower = np.concatenate([data["b"], np.full(data["G"].size, -np.inf)])
        for accuracy, took in warm.items():
            solver = osqp.OSQP()
            solver.setup(p, linear[0], a, lower, upper, verbose=False, eps_abs=accuracy, eps_rel=accuracy)
            solver.solve(raise_error=False)
            for q in linear[1:]:
                began = time.process_time()
                solver.update(q=q)
                found = solver.solve(raise_error=False)
                took.append(time.process_time() - began)
                assert found.info.status_val in (1, 2, 7), found.info.status  # solved, nearly, or out of iterations
        began = time.process_time()
        problem, goal = step_of(one, cp)
        goal.value = goals[-1]
        problem.solve(solver=cp.OSQP, eps_abs=1e-4, eps_rel=1e-4, max_iter=4000)
        rebuilt.append(time.process_time() - began)
    osqp_s, cvxpy_s = {accuracy: float(np.median(took)) for accuracy, took in warm.items()}, float(np.median(rebuilt))
    benchmark.pedantic(splitting.advance, args=(20,), rounds=3)
    for n, agent_s in kernel_s.items():
        told(
            f"exchange: one agent and iteration takes {agent_s * 1e6:.2f} us among {n}; OSQP, warm, to 1e-4 and 1e-5: "
            f"{osqp_s[1e-4] * 1e3:.2f} and {osqp_s[1e-5] * 1e3:.2f} ms, {osqp_s[1e-4] / agent_s:.0f} and "
            f"{osqp_s[1e-5] / agent_s:.0f} times; CVXPY, rebuilt: {cvxpy_s * 1e3:.0f} ms, {cvxpy_s / agent_s:.0f} times"
        )
    assert osqp_s[1e-4] >= 1000 * kernel_s[120]
    assert osqp_s[1e-4] >= 1000 * kernel_s[1000]
    assert cvxpy_s >= 20_000 * kernel_s[1000]
