"""The operator of the grid: what it publishes holds, lifting widens it, and every breach is written down."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.dso import Policy, Publication, breaches, open_limits, publish
from agents.storage_operator import Box
from network.acflow import Model
from network.envelope import Limits
from network.feeder import Feeder, Line

Matrix = NDArray[np.float64]
STEPS = 24


def model() -> Model:
    """A street: source, busbar, end; a home at the busbar, one at the end, and place for a storage at the end."""
    lines = [
        Line("near", "source", "bar", 0.05, 0.02, rating_a=200.0),
        Line("far", "bar", "end", 0.10, 0.04, rating_a=200.0),
    ]
    feeder = Feeder.build("street", {"source": 400.0, "bar": 400.0, "end": 400.0}, lines, source_bus="source")
    return Model(feeder, [feeder.bus_index("bar"), feeder.bus_index("end"), feeder.bus_index("end")])


BOX = Box("ess", 2, 100.0, 20.0, 20.0, 0.95, 0.95, 0.0, 0.0, 0.04, 0.02, 0.01, 1.5, 15.0, 0.03, "t")
LIMITS = Limits(0.9, 1.1, 100.0)


def published(lifting: bool, solar_kw: float = 80.0) -> Publication:
    """Both homes have 80 kW of solar, more than the end of the street takes at noon."""
    load = np.full((2, STEPS), 1.0)
    sun = np.zeros((2, STEPS))
    sun[:, 6:10] = solar_kw
    caps = np.full(2, 90.0)
    return publish(
        model(), load, 0.0 * load, sun, np.array([True, True]), caps, np.full(2, 20.0), LIMITS, policy=Policy(), dt_h=1.0, box=BOX, lifting=lifting,
    )  # fmt: skip


def test_a_firm_charge_widens_the_envelopes_where_it_is_promised_and_nowhere_else() -> None:
    """Lifted export limits are larger in the hours of the firm charge and the same in the others."""
    plain, lifted = published(lifting=False), published(lifting=True)
    firm = lifted.firm_kw > 0

    assert not plain.firm_kw.any()
    assert firm.any()
    assert set(np.flatnonzero(firm)) <= {6, 7, 8, 9}
    more = lifted.envelope.export_limit_kw[:2] - plain.envelope.export_limit_kw[:2]
    assert (more[:, firm] > 1.0).all()
    np.testing.assert_allclose(more[:, ~firm], 0.0, atol=1e-6)


def test_nothing_is_bought_where_nothing_would_be_lost() -> None:
    """With little sun there is no firm charge, so lifting changes nothing."""
    assert not published(lifting=True, solar_kw=5.0).firm_kw.any()


def test_everyone_at_the_limit_with_the_firm_charge_is_safe_and_without_it_is_not() -> None:
    """AC power flow at the lifted export limits: inside with the promise kept, beyond when it is broken."""
    lifted, m = published(lifting=True), model()
    t = np.flatnonzero(lifted.firm_kw)[0]
    exported = lifted.envelope.export_limit_kw[:2, t]

    def flow(charge_kw: float) -> tuple[float, float]:
        result = m.solve(np.append(exported, -charge_kw)[:, None], np.zeros((3, 1)))
        return float(result.v_pu.max()), float(result.loading_percent.max())

    v, loading = flow(lifted.firm_kw[t])
    assert v <= 1.1 + 1e-9
    assert loading <= 100.0 + 1e-6
    v, loading = flow(0.0)
    assert v > 1.1 + 1e-4 or loading > 100.0 + 0.1


def test_every_kind_of_breach_is_found_with_its_element_and_owner() -> None:
    """Over-voltage and overload at the end of the street, an envelope broken by a home; nothing where all is well."""
    m = model()
    meter = np.array([[0.0, -90.0, 3.0], [0.0, -90.0, 3.0], [0.0, 0.0, 0.0]])
    limit = np.full((3, 3), 100.0)
    limit[0, 2] = 2.5

    found = breaches(m.solve(-meter, 0.0 * meter), m, LIMITS, meter, limit, np.full((3, 3), 100.0), ("A", "B", "ess"))

    kinds = {(b.step, b.kind, b.element, b.agent_id) for b in found}
    assert (1, "over_voltage", "end", "") in kinds
    assert (1, "overload", "near", "") in kinds
    assert (2, "envelope", "A", "A") in kinds
    assert not [b for b in found if b.step == 0]
    assert [b.step for b in found] == sorted(b.step for b in found)


def test_a_power_flow_without_solution_is_a_breach_of_its_own() -> None:
    """A megawatt over 400 V has no solution: not_converged, never silence."""
    m = model()
    meter = np.full((3, 1), 2000.0)
    free = np.full((3, 1), np.inf)

    found = breaches(m.solve(-meter, 0.0 * meter), m, LIMITS, meter, free, free, ("A", "B", "ess"))

    assert [b.kind for b in found] == ["not_converged"]


@pytest.mark.parametrize("field", ["import_limit_kw", "export_limit_kw"])
def test_without_envelopes_nobody_is_limited(field: str) -> None:
    """The unmanaged play: infinite limits, no firm charge."""
    free = open_limits(3, 4)

    assert np.isinf(getattr(free.envelope, field)).all()
    assert not free.firm_kw.any()
