"""The referee reads meters, and finds what is wrong."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from network.acflow import Model
from network.feeder import Feeder, Line, Transformer
from network.referee import RefereeError, check, pgm_input


def small(**changed):
    trafo = Transformer("T", "s", "a", 250, 20e3, 400, 4, 3.2, 0.5, 0.5, 5, "from", -1, 2.5)
    line = Line("L", "a", "b", 0.05, 0.02, rating_a=270, c1_nf=100)
    spare = Line("spare", "s", "b", 0.05, 0.02, in_service=False)
    voltages = {"s": 20e3, "a": 400.0, "b": 400.0}
    spare = dataclasses.replace(spare, from_bus="a")
    return Feeder.build("small", voltages, [trafo, line, spare], source_bus="s", **changed)


def test_a_meter_that_imports_lowers_the_voltage():
    """The referee takes meters, import positive: 20 kW drawn are 20 kW and the losses from the source."""
    feeder = small()
    idle, drawn = (check(feeder, [2], [[kw]], [[0.0]]) for kw in (0.0, 20.0))

    assert drawn.v_pu[2, 0] < idle.v_pu[2, 0]
    assert drawn.source_kw[0] == pytest.approx(20.0 + drawn.loss_kw.sum(), abs=1e-6)
    assert drawn.p_kw[1, 0] == pytest.approx(20.0 + drawn.loss_kw[1, 0], abs=1e-6)


def test_a_branch_out_of_service_carries_nothing():
    """Its row is zero, not NaN, and so with us."""
    feeder = small()

    for flow in (check(feeder, [2], [[20.0]], [[0.0]]), Model(feeder, [2]).solve([[-20.0]], [[0.0]])):
        for name in ("p_kw", "q_kvar", "current_a", "loading_percent", "loss_kw"):
            assert getattr(flow, name)[2, 0] == 0.0, name


def test_the_referee_sees_another_network():
    """One tap step moves the voltage by 2.5 %: far above the 1e-8 at which both agree."""
    feeder = small()
    column = np.where(np.isnan(feeder.branches.tap_position), np.nan, 0.0)
    other = dataclasses.replace(feeder, branches=dataclasses.replace(feeder.branches, tap_position=column))

    ours = Model(feeder, [2]).solve([[-5.0]], [[0.0]])

    assert abs(check(feeder, [2], [[5.0]], [[0.0]]).v_pu - ours.v_pu).max() < 1e-8
    assert abs(check(other, [2], [[5.0]], [[0.0]]).v_pu - ours.v_pu).max() > 0.02


def test_a_point_without_solution_is_nan_for_both():
    """A megawatt and a half through a 250 kVA transformer and 0.05 ohm: not converged, and the others are."""
    meter = np.array([[5.0, 2000.0, -5.0]])
    theirs = check(small(), [2], meter, 0 * meter)
    ours = Model(small(), [2]).solve(-meter, 0 * meter)

    assert theirs.converged.tolist() == ours.converged.tolist() == [True, False, True]
    assert np.isnan(theirs.v_pu[:, 1]).all()
    assert np.isnan(theirs.source_kvar[1])
    assert np.abs(theirs.v_pu - ours.v_pu)[:, [0, 2]].max() < 1e-8


def test_the_source_may_follow_a_series():
    """One voltage for each operating point."""
    flow = check(small(source_short_circuit_va=1e8), [2], [[0.0, 0.0]], [[0.0, 0.0]], [0.97, 1.03])

    np.testing.assert_allclose(flow.v_pu[0], [0.97, 1.03], atol=1e-3)


def test_nobody_connected_can_be_checked():
    """A feeder without connections has its no-load losses."""
    flow = check(small(), [], np.empty((0, 1)), np.empty((0, 1)))

    assert flow.source_kw[0] == pytest.approx(0.5 / 0.975**2, rel=0.05)


def test_the_input_of_power_grid_model_is_one_row_each():
    """Ids: buses, branches, source, connections."""
    data = pgm_input(small(), [2, 2, 1])

    assert data["node"]["id"].tolist() == [0, 1, 2]
    assert data["transformer"]["id"].tolist() == [3]
    assert data["line"]["id"].tolist() == [4, 5]
    assert data["source"]["id"].tolist() == [6]
    assert data["sym_load"]["id"].tolist() == [7, 8, 9]
    assert data["sym_load"]["node"].tolist() == [2, 2, 1]
    assert data["line"]["from_status"].tolist() == [1, 0]


def test_meters_that_cannot_be_read_are_told():
    """A wrong shape, or a gap."""
    with pytest.raises(RefereeError, match=r"meter_kw has shape \(2, 1\)"):
        check(small(), [2], [[1.0], [1.0]], [[0.0], [0.0]])
    with pytest.raises(RefereeError, match="has a NaN or an infinity"):
        check(small(), [2], [[math.nan]], [[0.0]])


def test_the_referee_is_called_only_where_it_is_needed():
    """Importing this floor's calculating modules loads neither power-grid-model nor pandas nor scipy."""
    code = "import sys, network.referee, network.envelope, network.acflow\n"
    code += "raise SystemExit(bool({'power_grid_model', 'pandas', 'scipy'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
