"""What the mechanisms do with the same people, and how long they take: the figures of docs/mathematics/mechanisms.md and bargaining.md.

make bench ARGS="benchmarks/bench_mechanisms.py"
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from market.coalition import Coalitions, Player
from market.exchange import clear
from market.linear_program import solve
from market.mechanisms import MECHANISMS, alone
from market.sample import sample
from sim.case_arrays import curves_of
from sim.case_file import load

OTHERS = [name for name in MECHANISMS if name not in ("retailer", "exchange")]
NEW_ENGLAND = Path(__file__).parent.parent / "examples" / "market" / "new_england.yaml"


@pytest.fixture(scope="module")
def village():
    """120 agents and 96 intervals, everybody's best plan alone."""
    return alone(sample(119, 96))


@pytest.fixture(scope="module")
def region():
    """31 cost curves."""
    return curves_of(load(NEW_ENGLAND))


def cpu(work):
    """Return the least CPU time of three [s], and what came out."""
    best = np.inf
    for _ in range(3):
        began = time.process_time()
        found = work()
        best = min(best, time.process_time() - began)
    return best, found


def row(name, found, took_s):
    """One line of the table: energy, welfare, who has it, the worst off."""
    gain = found.alone_eur - found.cost_eur
    welfare = float((found.alone_eur - found.cost_eur + found.payment_eur).sum())
    traded = float(np.maximum(found.traded_kwh, 0.0).sum())
    return (
        f"{name}: traded {traded:.2f} kWh, welfare {welfare:.2f}, agents {gain.sum():.2f}, auctioneer {found.payment_eur.sum():.2f}, "
        f"worst gain {gain.min():.2f}, {1e3 * took_s:.1f} ms"
    )


@pytest.mark.parametrize("name", OTHERS)
def test_village(benchmark, village, told, name):
    """A mechanism on the village's surplus and need; nobody's money appears or disappears."""
    took_s, found = cpu(lambda: MECHANISMS[name](village, seed=0))
    benchmark.pedantic(MECHANISMS[name], args=(village,), kwargs={"seed": 0}, rounds=1)
    told(row(f"village, {name}", found, took_s))
    welfare = (found.alone_eur - found.cost_eur + found.payment_eur).sum()
    assert welfare >= -1e-9


def test_village_exchange(benchmark, told):
    """The exchange on the same village, with its stores and the shared one."""
    case = sample(119, 96)
    took_s, found = cpu(lambda: clear(case, tolerance=1e-4))
    benchmark.pedantic(clear, args=(case,), kwargs={"tolerance": 1e-4}, rounds=1)
    before = float(alone(case).cost_eur.sum())
    traded = float((np.maximum(found.exchange_kw, 0.0) * case.dt_h).sum())
    told(
        f"village, exchange: traded {traded:.2f} kWh, alone {before:.2f}, cost {found.cost_eur:.2f}, owner of the storage "
        f"{found.owner_income_eur.sum():.2f}, {1e3 * took_s:.0f} ms"
    )
    assert found.cost_eur < before


@pytest.mark.parametrize("name", OTHERS)
def test_new_england(benchmark, region, told, name):
    """A mechanism on 31 cost curves; those that need a retailer refuse."""
    try:
        took_s, found = cpu(lambda: MECHANISMS[name](region, seed=0))
    except ValueError as error:
        pytest.skip(f"{name}: {error}")
    benchmark.pedantic(MECHANISMS[name], args=(region,), kwargs={"seed": 0}, rounds=1)
    prices = np.ravel(found.buy_price_eur_per_kwh)[:1], np.ravel(found.sell_price_eur_per_kwh)[:1]
    told(row(f"New England, {name}, buyers pay {prices[0]}, sellers get {prices[1]}", found, took_s))
    assert np.isfinite(found.cost_eur).all()


def test_coalitions(benchmark, told):
    """All coalitions of seven players over 24 intervals: by the exchange and by one linear program each."""
    case = sample(6, 24, seed=1)
    players = (*(Player(f"p{i}", (i,)) for i in range(case.n - 1)), Player("operator", (case.n - 1,), (0,)))
    began = time.process_time()
    by_exchange = Coalitions(case, players)
    ours = np.array([by_exchange.worth(mask) for mask in range(1 << len(players))])
    took_s = time.process_time() - began
    began = time.process_time()
    exact = Coalitions(case, players, solve=solve)
    theirs = benchmark.pedantic(lambda: np.array([exact.worth(mask) for mask in range(1 << len(players))]), rounds=1)
    lp_s = time.process_time() - began
    off = float(np.abs(ours - theirs).max())
    told(
        f"coalitions of {len(players)} players over 24 intervals: {took_s:.1f} s by the exchange, {lp_s:.1f} s by linear programs; "
        f"largest difference {off:.1e} eur of {theirs.max():.2f}"
    )
    assert off <= 1e-2 * max(1.0, float(theirs.max()))
