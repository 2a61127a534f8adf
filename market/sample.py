"""A made-up community, seeded: something to try the exchange on without a grid, a data set or a scenario.

Six homes in ten have PV, three in ten a battery, three in ten a car, three in twenty a heat pump with a buffer; the day
runs from noon to noon, so that a night is not cut in two.  Prices are those of a dynamic tariff with a feed-in price that
never moves; neighbours pay half of the network charge.  The last agent operates the shared store: it has no load and no
meter of its own and may use what nobody rents, at a higher internal rent.  The figures are plausible, not measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market.problem import Exchange, Problem

__all__ = ["sample"]

Floats = NDArray[np.float64]


def sample(
    homes: int = 119,
    steps: int = 96,
    *,
    seed: int = 0,
    ess_kwh_per_home: float = 1.25,
    firm_charge_kw_per_home: float = 0.1,
    exchange: Exchange = "free",
) -> Problem:
    """Return the day-ahead problem of a made-up community.

    Parameters
    ----------
    homes
        Number of homes; the operator of the shared store is one agent more.
    steps
        Intervals of the day.
    seed
        Everything random is drawn from it.
    ess_kwh_per_home
        Size of the shared store; its power is a sixth of it per hour. [kWh]
    firm_charge_kw_per_home
        What the shared store has to charge at least in the first hours, while the sun is high. [kW]
    exchange
        As in :class:`Problem`.

    Examples
    --------
    >>> sample(9, 24).load_kw.shape
    (10, 24)
    """
    rng = np.random.default_rng(seed)
    n, dt = homes + 1, 24.0 / steps
    clock = (12.0 + (np.arange(steps) + 0.5) * dt) % 24.0
    sun = np.clip(np.sin((clock - 6.0) / 12.0 * np.pi), 0.0, None)
    shape = 0.35 + 0.25 * np.exp(-(((clock - 8) / 2) ** 2)) + 0.7 * np.exp(-(((clock - 19) / 2.5) ** 2))
    load = rng.uniform(0.3, 1.5, n)[:, None] * shape * rng.uniform(0.6, 1.4, (n, steps))
    peak = rng.uniform(4.0, 11.0, n) * (rng.random(n) < 0.6)
    pv = peak[:, None] * 0.85 * sun * rng.uniform(0.8, 1.0, (n, steps))
    spot = 0.05 + 0.10 * np.exp(-(((clock - 19) / 2.5) ** 2)) + 0.04 * np.exp(-(((clock - 8) / 2) ** 2)) - 0.05 * sun
    columns = _stores(rng, n, dt, clock)
    cap = np.where(peak > 0, peak, 4.2)
    limit_export = cap[:, None] * np.where(sun > 0.8, 0.65, 1.0)
    limit_import = np.full((n, steps), 4.2) + columns["store_charge_max_kw"][1:].max(axis=2).sum(axis=0)[:, None] * 0.8
    for row in (load, pv, limit_export, limit_import, *columns["store_charge_max_kw"]):
        row[-1] = 0.0  # the operator has no home
    columns["store_discharge_max_kw"][:, -1] = 0.0
    columns["store_energy_min_kwh"][:, -1] = 0.0
    columns["store_drain_kwh"][:, -1] = 0.0
    energy = ess_kwh_per_home * homes
    first = np.arange(steps) < steps // 2  # what is charged at the very end could not come out again
    firm = np.where((sun > 0.8) & first, firm_charge_kw_per_home * homes, -np.inf)
    rent_energy, rent_power = np.full((1, n), 0.04), np.full((1, n), 0.02)
    rent_energy[0, -1], rent_power[0, -1] = 0.05, 0.03
    return Problem.plain(
        load,
        pv,
        (spot + 0.2) * 1.19 + 0.02,
        0.0786,
        dt_h=dt,
        stores=3,
        shared=1,
        exchange_charge_eur_per_kwh=0.141,
        rented_charge_eur_per_kwh=0.141,
        import_limit_kw=limit_import,
        export_limit_kw=limit_export,
        ess_energy_offer_kwh=energy,
        ess_power_offer_kw=energy / 6.0,
        ess_efficiency_charge=0.95,
        ess_efficiency_discharge=0.95,
        ess_wear_eur_per_kwh=0.01,
        rent_energy_eur_per_kwh=rent_energy,
        rent_power_eur_per_kw=rent_power,
        ess_net_min_kw=firm,
        exchange=exchange,
        **columns,
    )


def _stores(rng: np.random.Generator, n: int, dt: float, clock: NDArray[np.floating]) -> dict[str, Floats]:
    """Return batteries, cars and heat buffers, one slot each."""
    steps = clock.size
    shape = (3, n, steps)
    charge, discharge = np.zeros(shape), np.zeros(shape)
    lower, upper, drain = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    initial, efficiency, retention = np.zeros((3, n)), np.ones((3, n)), np.ones((3, n))
    # batteries: two hours of power
    size = rng.uniform(4.0, 12.0, n) * (rng.random(n) < 0.3)
    charge[0] = discharge[0] = (size / 2.0)[:, None]
    upper[0], initial[0], efficiency[0] = size[:, None], 0.3 * size, 0.95
    # cars: at home from the evening to the morning, and full enough when they leave
    at = (np.arange(steps) + 0.5) * dt  # hours after noon
    has = rng.random(n) < 0.3
    arrive, leave = rng.normal(6.0, 1.5, n), rng.normal(19.0, 1.0, n)
    home = (at >= arrive[:, None]) & (at < leave[:, None]) & has[:, None]
    power = rng.choice([3.7, 11.0], n)
    need = np.minimum(rng.gamma(4.0, 2.65, n), np.minimum(0.8 * 0.92 * power * home.sum(axis=1) * dt, 40.0))
    charge[1] = home * power[:, None]
    upper[1] = (np.where(has, 60.0, 0.0))[:, None]
    initial[1], efficiency[1] = 20.0 * has, 0.92
    gone = (at >= leave[:, None] - dt) & has[:, None]
    lower[1] = np.where(gone, (20.0 + need)[:, None], 0.0)
    # heat pumps: a buffer of some hours, which the showers and the radiators drain
    warm = rng.uniform(1.5, 4.0, n) * (rng.random(n) < 0.15)
    charge[2] = warm[:, None]
    upper[2], initial[2], retention[2] = 2.0 * warm[:, None], warm, 0.995
    demand = 0.15 + 0.2 * np.exp(-(((clock - 7) / 2) ** 2)) + 0.2 * np.exp(-(((clock - 20) / 2) ** 2))
    drain[2] = warm[:, None] * demand * dt
    return {
        "store_charge_max_kw": charge, "store_discharge_max_kw": discharge, "store_energy_min_kwh": lower,
        "store_energy_max_kwh": upper, "store_initial_kwh": initial, "store_efficiency_charge": efficiency,
        "store_efficiency_discharge": efficiency.copy(), "store_retention": retention, "store_drain_kwh": drain,
        "store_wear_eur_per_kwh": np.array([[0.01], [0.0], [0.0]]) * np.ones(n),
    }  # fmt: skip
