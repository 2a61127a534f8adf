"""The people's moving state, one row each, and the planning problem that follows from it.

Battery, car and heat buffer are three rows of one device shape: bounds on power and on the energy at the end of every interval,
efficiencies, and a drain (storage.store)::

    e[t+1] = e[t] + Δ (η c[t] − d[t] / η) − drain[t]                                  (1)

- battery: between 0 and its size; ends the delivery day no emptier than it began it, so that no day lives on the next;
- car: counts the energy given since it was plugged in, must have what it wants when it leaves, and leaves with it (the drain);
- heat pump: its electrical power fills a buffer from which the profile of the heat drawn is taken.

Bounds that can no longer be met (a car that came late, heat beyond the rating) are lowered to what can be reached, so that
a plan always exists; what is then missing shows in the meters, not in a solver's error.

Homes come first; the operators of shared storages follow as rows without load, sun or meter of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.people import People
from agents.vehicles import Sessions
from storage.store import Store, advance

__all__ = ["BATTERY", "HEAT", "SLOTS", "VEHICLE", "Fleet"]

BATTERY, VEHICLE, HEAT = 0, 1, 2
SLOTS = 3

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Cube = NDArray[np.float64]


class Fleet:
    """``n`` homes with their batteries, cars and heat buffers."""

    def __init__(self, people: People, sessions: Sessions, dt_h: float, vehicle_efficiency: float) -> None:
        self.people = people
        self.sessions = sessions
        self.dt_h = dt_h
        n = people.n
        self.energy_kwh = np.zeros((SLOTS, n))
        self.energy_kwh[BATTERY] = people.battery_initial_kwh
        self.energy_kwh[HEAT] = 0.5 * people.heat_buffer_kwh
        s = sessions
        for k in np.flatnonzero(
            (s.arrival < 0) & (s.departure > 0)
        ):  # plugged in before the run, and charged evenly since
            self.energy_kwh[VEHICLE, s.home[k]] = s.energy_kwh[k] * -s.arrival[k] / (s.departure[k] - s.arrival[k])
        ones = np.ones(n)
        self.efficiency_charge = np.stack([people.battery_efficiency_charge, vehicle_efficiency * ones, ones])
        self.efficiency_discharge = np.stack([people.battery_efficiency_discharge, vehicle_efficiency * ones, ones])

    # -- planning ------------------------------------------------------------------------------------------------

    def stores(
        self, now: int, start: int, steps: int, initial_kwh: Matrix, heat_kw: Matrix, battery_target_kwh: Vector
    ) -> tuple[Store, Matrix]:
        """Return all stores for the intervals start .. start + steps − 1, as known at ``now``, and what they hold at first.

        Parameters
        ----------
        now, start
            Intervals since the run began; what was plugged in by ``now`` is known, the rest only announced.
        initial_kwh : shape (K, n)
            Energy at the beginning of ``start``, expected if ``start`` is in the future. [kWh]
        heat_kw : shape (n, T)
            Heat expected to be drawn, in electrical kW.
        battery_target_kwh : shape (n,)
            What the batteries shall hold at the end. [kWh]

        Returns
        -------
        The stores in their slots, and their energy at the beginning, shape (K, n): as given, but for cars that are away. [kWh]
        """
        people, n = self.people, self.people.n
        shape = (SLOTS, n, steps)
        charge, discharge, low, high, drain = (np.zeros(shape) for _ in range(5))
        first = initial_kwh.copy()

        charge[BATTERY] = people.battery_charge_kw[:, None]
        discharge[BATTERY] = people.battery_discharge_kw[:, None]
        high[BATTERY] = people.battery_kwh[:, None]
        reach = first[BATTERY] + self.efficiency_charge[BATTERY] * people.battery_charge_kw * self.dt_h * steps
        low[BATTERY, :, -1] = np.minimum(np.minimum(battery_target_kwh, people.battery_kwh), reach * (1 - 1e-9))

        self._vehicle_bounds(now, start, steps, first, charge, discharge, low, high, drain)
        self._heat_bounds(steps, first, heat_kw, charge, low, high, drain)
        lasting = np.ones((SLOTS, n))  # nothing leaks: batteries and buffers are used daily
        store = Store(charge, discharge, low, high, self.efficiency_charge, self.efficiency_discharge, lasting, drain)
        return store, first

    def _vehicle_bounds(
        self,
        now: int,
        start: int,
        steps: int,
        first: Matrix,
        charge: Cube,
        discharge: Cube,
        low: Cube,
        high: Cube,
        drain: Cube,
    ) -> None:
        s, people = self.sessions, self.people
        end = start + steps
        plugged = s.arrival <= now
        arrival = np.where(plugged, s.arrival, np.maximum(s.announced_arrival, now + 1))
        departure = np.where(plugged, s.departure, s.announced_departure)
        energy = np.where(plugged, s.energy_kwh, s.announced_energy_kwh)
        seen = np.zeros(people.n, dtype=bool)
        for k in np.flatnonzero((departure > start) & (arrival < end) & (departure > now) & (arrival < departure)):
            home = s.home[k]
            a, d = max(int(arrival[k]) - start, 0), min(int(departure[k]) - start, steps)
            if high[VEHICLE, home, a:d].any() or d <= a:
                continue  # an announced stay that would overlap the one before
            step_kwh = people.ev_kw[home] * self.efficiency_charge[VEHICLE, home] * self.dt_h
            begun = first[VEHICLE, home] if a == 0 and arrival[k] <= start else 0.0
            seen[home] |= a == 0
            full_stay = int(departure[k]) - start <= steps
            need = min(float(energy[k]), begun + step_kwh * (int(departure[k]) - start - a))
            begun = min(begun, need)
            if a == 0:
                first[VEHICLE, home] = begun
            charge[VEHICLE, home, a:d] = people.ev_kw[home]
            if people.ev_v2g[home]:
                discharge[VEHICLE, home, a:d] = people.ev_kw[home]
            high[VEHICLE, home, a:d] = need
            share = 1.0 if full_stay else (end - int(arrival[k])) / (int(departure[k]) - int(arrival[k]))
            leaves_with = min(need * share, begun + step_kwh * (d - a)) * (1.0 - 1e-9)
            if d < steps:
                leaves_with = max(leaves_with, begun)  # a car that is full already
                drain[VEHICLE, home, d] = high[VEHICLE, home, d - 1] = leaves_with
            low[VEHICLE, home, d - 1] = leaves_with
        first[VEHICLE, ~seen] = 0.0

    def _heat_bounds(
        self, steps: int, first: Matrix, heat_kw: Matrix, charge: Cube, low: Cube, high: Cube, drain: Cube
    ) -> None:
        people, dt = self.people, self.dt_h
        charge[HEAT] = people.heat_pump_kw[:, None]
        high[HEAT] = people.heat_buffer_kwh[:, None]
        wanted = np.maximum(heat_kw, 0.0) * dt
        most, least = first[HEAT].copy(), first[HEAT].copy()
        for t in range(steps):
            # heat beyond buffer and rating cannot be delivered; heat that nobody draws keeps the pump off
            taken = np.minimum(wanted[:, t], (most + people.heat_pump_kw * dt) * (1.0 - 1e-9))
            drain[HEAT, :, t] = taken
            most = np.minimum(most + people.heat_pump_kw * dt - taken, people.heat_buffer_kwh)
            least = np.maximum(least - taken, 0.0)
        low[HEAT, :, -1] = np.minimum(0.5 * people.heat_buffer_kwh, most * (1.0 - 1e-9))

    # -- what really happens -----------------------------------------------------------------------------------------

    def vehicle_room_kw(self, step: int) -> tuple[Vector, Vector]:
        """Return what each car can take and give in this interval, shapes (n,), zero while it is away. [kW]"""
        s, people = self.sessions, self.people
        room, give = np.zeros(people.n), np.zeros(people.n)
        here = (s.arrival <= step) & (step < s.departure)
        for k in np.flatnonzero(here):
            home = s.home[k]
            eta = self.efficiency_charge[VEHICLE, home]
            room[home] = np.clip(
                (s.energy_kwh[k] - self.energy_kwh[VEHICLE, home]) / (eta * self.dt_h), 0.0, people.ev_kw[home]
            )
            if people.ev_v2g[home]:
                give[home] = min(people.ev_kw[home], self.energy_kwh[VEHICLE, home] * eta / self.dt_h)
        return room, give

    def vehicle_urgent_kw(self, step: int) -> Vector:
        """Return the charging without which the car would leave wanting, shape (n,). [kW]"""
        s, people = self.sessions, self.people
        urgent = np.zeros(people.n)
        for k in np.flatnonzero((s.arrival <= step) & (step < s.departure)):
            home = s.home[k]
            step_kwh = people.ev_kw[home] * self.efficiency_charge[VEHICLE, home] * self.dt_h
            later = step_kwh * (int(s.departure[k]) - step - 1)
            missing = s.energy_kwh[k] - self.energy_kwh[VEHICLE, home] - later
            urgent[home] = np.clip(missing / step_kwh, 0.0, 1.0) * people.ev_kw[home]
        return urgent

    def battery_room_kw(self) -> tuple[Vector, Vector]:
        """Return what each battery can take and give in this interval, shapes (n,). [kW]"""
        people, e = self.people, self.energy_kwh[BATTERY]
        take = np.maximum(people.battery_kwh - e, 0.0) / (people.battery_efficiency_charge * self.dt_h)
        give = np.maximum(e, 0.0) * people.battery_efficiency_discharge / self.dt_h
        return np.minimum(take, people.battery_charge_kw), np.minimum(give, people.battery_discharge_kw)

    def heat_pump_range_kw(self, heat_kw: Vector) -> tuple[Vector, Vector]:
        """Return the least and the most power that keep the buffer in its bounds, shapes (n,). [kW]"""
        people, e = self.people, self.energy_kwh[HEAT]
        least = np.clip(heat_kw - e / self.dt_h, 0.0, people.heat_pump_kw)
        most = np.clip(heat_kw + (people.heat_buffer_kwh - e) / self.dt_h, 0.0, people.heat_pump_kw)
        return least, np.maximum(most, least)

    def advance(
        self,
        step: int,
        battery_charge_kw: Vector,
        battery_discharge_kw: Vector,
        ev_kw: Vector,
        heat_pump_kw: Vector,
        heat_kw: Vector,
    ) -> Vector:
        """Move all states through one interval by (1); return what cars left without, shape (n,). [kWh]"""
        e = self.energy_kwh
        charge = np.stack([battery_charge_kw, np.maximum(ev_kw, 0.0), heat_pump_kw])
        discharge = np.stack([battery_discharge_kw, np.maximum(-ev_kw, 0.0), np.zeros_like(ev_kw)])
        drain = np.zeros_like(e)
        drain[HEAT] = heat_kw * self.dt_h
        e[:] = advance(
            e,
            charge,
            discharge,
            self.dt_h,
            efficiency_charge=self.efficiency_charge,
            efficiency_discharge=self.efficiency_discharge,
            drain_kwh=drain,
        )
        e[HEAT] = np.clip(e[HEAT], 0.0, self.people.heat_buffer_kwh)  # rounding only: the pump's range saw to the rest
        leaving = np.flatnonzero(self.sessions.departure == step + 1)
        homes = self.sessions.home[leaving]
        missing = np.zeros(self.people.n)
        missing[homes] = np.maximum(self.sessions.energy_kwh[leaving] - e[VEHICLE, homes], 0.0)
        e[VEHICLE, homes] = 0.0
        return missing
