"""The bilateral market's yardstick: known answers of its own, not only agreement with what it judges."""

from __future__ import annotations

import numpy as np
import pytest

from market.bilateral import Bilateral, OwnStores
from market.bilateral_central import BilateralUnsolved, solve
from market.curves import Curves


def two(**more):
    return Bilateral.plain(Curves.plain([1.0, 1.0], [8.0, 4.0], [-30.0, 0.0], [0.0, 60.0]), [(1, 0)], **more)


@pytest.mark.parametrize(
    ("more", "trade", "cost"),
    [({}, 2.0, -4.0), ({"charge_eur_per_kwh": 1.0}, 1.0, -1.0), ({"trade_max_kw": 0.8}, 0.8, -2.56)],
)
def test_two_agents(more, trade, cost):
    """Case A by the solver: trade, price in the middle, cost, and marginal values with the right sign."""
    found = solve(two(**more))

    assert found.trades_kw[0, 0] == pytest.approx(trade, abs=1e-6)
    assert found.price_eur_per_kwh[0, 0] == pytest.approx(6.0, abs=1e-5)
    assert found.cost_eur == pytest.approx(cost, abs=1e-6)
    assert found.gap <= 1e-6
    assert found.residuals.shape == (0, 4)


def test_a_store_by_hand():
    """Half of 1 kW of free sun reaches the night, where a kWh is worth 1."""
    curves = Curves.plain(0.0, [[0.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, -1.0]], [[1.0, 0.0], [0.0, 0.0]])
    stores = OwnStores.plain(1, 2, 2, store_charge_max_kw=[[[2.0], [0.0]]], store_discharge_max_kw=[[[2.0], [0.0]]],
                             store_energy_max_kwh=2.0, store_efficiency_discharge=0.5, store_wear_eur_per_kwh=0.1)  # fmt: skip
    found = solve(Bilateral.plain(curves, [(0, 1)], stores=stores))

    assert found.cost_eur == pytest.approx(-0.35, abs=1e-6)
    assert found.energy_kwh[0, 0] == pytest.approx([0.0, 1.0, 0.0], abs=1e-6)


def test_nobody_and_no_pairs():
    """Without agents, or pairs, there is nothing to solve and nothing fails."""
    assert solve(Bilateral.plain(Curves.plain(np.zeros((0, 2)), 0.0, 0.0, 0.0), np.zeros((0, 2), int))).cost_eur == 0.0
    alone = solve(Bilateral.plain(Curves.plain([1.0], 2.0, -3.0, 3.0), np.zeros((0, 2), int)))
    assert alone.cost_eur == pytest.approx(0.0, abs=1e-9)


def test_giving_up_is_told():
    """One iteration is not enough for the solver; that is an error that says so."""
    told = pytest.raises(BilateralUnsolved, match=r"'user_limit.*' for 2 agents and 1 pairs")
    with told, pytest.warns(UserWarning, match="inaccurate"):
        solve(two(), max_iter=1)
