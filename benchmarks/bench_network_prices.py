"""What a grid at the market's table costs in time: a sample community along a street, cleared with and without its feeder.

    python benchmarks/bench_network_prices.py [homes] [intervals]

CPU seconds of one thread, the second of two runs, so that nothing is compiled any more.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 - threads first

from agents import network_prices  # noqa: E402
from agents.network_prices import Grid  # noqa: E402
from market.exchange import clear  # noqa: E402
from market.sample import sample  # noqa: E402
from network.acflow import Model  # noqa: E402
from network.elements import Line, Transformer  # noqa: E402
from network.envelope import Limits  # noqa: E402
from network.feeder import Feeder  # noqa: E402


def main(homes: int, steps: int) -> None:
    """Print one line for the exchange alone and one with the feeder."""
    problem = sample(homes, steps, firm_charge_kw_per_home=0.0)
    free = np.full((problem.n, steps), np.inf)
    limits = {"import_limit_kw": free, "export_limit_kw": free}
    problem = replace(problem, **limits, breach_penalty_eur_per_kwh=None)
    buses = ["busbar", *(f"b{i}" for i in range(homes))]
    # four homes in ten far out: the same drop whatever the number of homes
    lines = [Line(f"l{i}", buses[i], buses[i + 1], 6.0 / homes**2, 2.0 / homes**2, 40.0 * homes) for i in range(homes)]
    trafo = Transformer("t", "mv", "busbar", 5.0 * homes, 20_000.0, 400.0, 4.0, 0.06 * homes, 0.2, 0.01 * homes)
    nominal = {"mv": 20_000.0} | dict.fromkeys(buses, 400.0)
    feeder = Feeder.build("street", nominal, [trafo, *lines], source_bus="mv")
    at = [feeder.buses.ids.index(name) for name in (*buses[1:], buses[0], buses[0])]
    kvar = np.vstack([0.2 * problem.load_kw, np.zeros((1, steps))])
    for turn in range(2):
        began = time.process_time()
        alone = clear(problem)
        between = time.process_time()
        grid = Grid(Model(feeder, at), Limits(0.94, 1.008, 100.0))
        found = network_prices.clear(problem, grid, kvar, np.full(steps, 0.1))
        end = time.process_time()
        if turn:
            priced = found.clearing
            sys.stdout.write(
                f"exchange alone     {between - began:7.2f} s  {alone.iterations:5d} iterations  cost {alone.cost_eur:.2f}\n"
            )
            sys.stdout.write(f"feeder at the table {end - between:6.2f} s  {priced.iterations:5d} iterations of the last of {found.clearings} "
                  f"clearings  cost {priced.cost_eur:.2f}  gap {priced.gap_eur:.2f}  {priced.status}  AC {found.beyond.max():.1e}  "
                  f"{len(found.network.element)} rows  congestion {priced.congestion_eur_per_kwh.min():.3f}\n")  # fmt: skip


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    main(*(given + [119, 96][len(given) :]))
