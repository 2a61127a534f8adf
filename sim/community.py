"""A community on its feeder, day by day, without a clock.

Every method is one thing that happens in the day of :mod:`sim.processes`; it asks the agents (plain functions) and keeps the arrays.
The same class plays the run, the reference (nobody shares) and the unmanaged people (nobody shares, no envelopes): see :class:`sim.play.Play`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from agents import dso
from agents.enforce import ramped
from agents.fleet import BATTERY, Fleet
from agents.people import People
from agents.planner import Retail, SharedStorage, problem
from agents.storage_end import End, reachable_end
from agents.storage_operator import Box, Offer, offer
from agents.vehicles import draw_sessions
from market.exchange import Clearing, Exchange, Infeasible, Problem, Warm, clear
from market.tariffs import Prices, Tariff
from network.acflow import Model
from network.feeder import Feeder
from sim.clock import Clock, Day
from sim.daybook import ClearingRecord, DayBook, Delivered, Issue, Plan
from sim.delivery import balance_box, deliver
from sim.mailbox import Mailbox
from sim.outlook import Outlook
from sim.play import Play, Rules
from sim.pricing import Pricing
from sim.profile_store import Profiles
from sim.schema import DAY_AHEAD_TIGHTER
from sim.series import Series
from sim.storage_terms import shared_ahead, shared_today
from storage.rights import Book, Terms
from storage.tenancy import Accounts

__all__ = ["Community", "NoPlanInfeasible"]

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


class NoPlanInfeasible(RuntimeError):
    """A day has no plan whatever anybody does; the message names day, interval and element."""


class Community:
    """Homes, a feeder and perhaps a shared storage, in one play."""

    def __init__(
        self,
        play: Play,
        people: People,
        feeder: Feeder,
        box: Box | None,
        tariffs: Mapping[str, Tariff],
        profiles: Profiles,
        series: Series,
        clock: Clock,
        rules: Rules,
        seed: int,
    ) -> None:
        self.play, self.people, self.clock, self.rules = play, people, clock, rules
        self.box = box if play.sharing else None
        self.tariffs, self.series = tariffs, series
        weather, cars, post = np.random.SeedSequence(seed).spawn(3)
        self._post = np.random.default_rng(post)
        self._limits_before: tuple[Vector, Vector] | None = None
        sessions = draw_sessions(
            people.ev_kw, clock.local_days(), clock.local_step, clock.dt_h, rules.habits, cars.spawn(people.n)
        )
        self.fleet = Fleet(people, sessions, clock.dt_h, rules.habits.efficiency)
        self.outlook = Outlook(people, profiles, clock, rules.skill, weather)
        bus = people.bus_index if self.box is None else np.append(people.bus_index, self.box.bus_index)
        phases = people.phase if self.box is None else (*people.phase, self.box.phase)
        self.model = Model(feeder, bus, phases)
        self.connection_ids = people.agent_id if self.box is None else (*people.agent_id, self.box.ess_id)
        self.n, self.rows = people.n, len(self.connection_ids)
        self.accounts = None if self.box is None else Accounts.begin(self.box, self.n)
        self.rights = Book()
        self.books: dict[int, DayBook] = {}
        self.pricing = None
        if play.prices:
            self.pricing = Pricing(people, self.box, self.model, rules.limits, rules.policy.rule, self.heat_tan())
        self.infeasible = 0
        """Intervals whose envelope breaks a limit whatever homes with devices do, issue by issue."""
        self.seconds: dict[str, float] = {"clearing": 0.0, "envelopes": 0.0}

    # -- the day before --------------------------------------------------------------------------------------------

    def publish(self, day: Day, now: datetime) -> DayBook:
        """Open the book of a delivery day: forecasts, prices, envelopes."""
        truth = self.outlook.truth(day)
        belief = self.outlook.day_ahead(day, truth)
        times = self.clock.times(day.start, day.steps)
        prices = self._prices(times)
        offered = None if self.box is None else offer(self.box, day.steps * self.clock.dt_h)
        began = perf_counter()
        people = self.people
        if self.play.envelopes:
            publication = dso.publish(
                self.model,
                belief.load_kw + belief.heat_kw,
                belief.load_kvar + belief.heat_kw * self.heat_tan(),
                belief.solar_kw,
                people.active,
                people.export_cap_kw,
                people.import_cap_kw,
                self.rules.limits,
                policy=self.rules.policy,
                dt_h=self.clock.dt_h,
                box=self.box,
                lifting=self.play.lifting,
                level_kwh=0.0 if offered is None else self._level_kwh(day, offered),
            )
        else:
            publication = dso.open_limits(self.rows, day.steps)
        self.seconds["envelopes"] += perf_counter() - began
        self.infeasible += int((publication.envelope.status != "ok").sum())
        mailbox = Mailbox(
            people.agent_id, people.active, times, self.clock.interval_minutes * 60, self.rules.mail, self._post
        )
        mailbox.post(publication.envelope, 0, publication.envelope, now)
        book = DayBook(
            day=day,
            times=times,
            truth=truth,
            belief=belief,
            prices=prices,
            retail=self._retail(prices, day.steps),
            publication=publication,
            issues=[Issue(now, 0, publication)],
            mailbox=mailbox,
            kept=mailbox.kept(0),
            plan=Plan.empty(self.n, self.rows, day.steps),
            delivered=Delivered.empty(self.n, day.steps),
            last_load_kw=belief.load_kw.copy(),
            last_solar_kw=belief.solar_kw.copy(),
            last_issued_at=np.full(day.steps, np.datetime64("NaT"), dtype="datetime64[s]"),
            battery_target_kwh=np.zeros(self.n),
            offer=offered,
        )
        self.books[day.index] = book
        return book

    def _prices(self, times: NDArray[np.datetime64]) -> dict[str, Prices]:
        zone = str(self.clock.zone)
        return {
            name: tariff.price(times, zone, self.series.values(tariff.series, times))
            for name, tariff in self.tariffs.items()
        }

    def _retail(self, prices: Mapping[str, Prices], steps: int) -> Retail:
        own = [prices[name] for name in self.people.tariff_id]
        local = np.array([p.local_charge for p in own]).reshape(self.n, steps)
        buy = np.array([p.buy for p in own]).reshape(self.n, steps)
        sell = np.array([p.sell for p in own]).reshape(self.n, steps)
        if self.box is not None:
            # a storage does not consume: the local charge is paid by who takes the energy out
            trade = prices[self.box.tariff_id]
            buy, sell = np.vstack([buy, trade.buy]), np.vstack([sell, trade.sell])
            local = np.vstack([local, np.zeros(steps)])
        return Retail(buy, sell, local, local)

    def heat_tan(self) -> Matrix:
        kw = self.people.heat_pump_kw
        ratio = np.divide(self.people.heat_pump_kvar, kw, out=np.zeros_like(kw), where=kw > 0)
        return ratio[:, None]

    def clear_day_ahead(self, day: Day, now: datetime) -> Clearing:
        """Clear energy and rights of a delivery day together."""
        book = self.books[day.index]
        today = self.books.get(day.index - 1)
        begun = today is not None and now < self.clock.moment(day.start)
        initial = today.plan.energy_end_kwh if begun and today is not None else self.fleet.energy_kwh
        clearing = self._clear(book, 0, initial, book.belief.load_kw, book.belief.solar_kw, "day_ahead", now)
        book.plan.renew(0, clearing)
        if self.pricing is not None:
            self.put_in_force(book, 0, self.pricing.band(book, 0, clearing), now)
        book.day_ahead = book.plan.copy()
        book.day_ahead_price_eur_per_kwh = clearing.price_eur_per_kwh.copy()
        book.intraday_price_eur_per_kwh = clearing.price_eur_per_kwh.copy()
        if self.box is not None:
            self._let(book, clearing)
        return clearing

    def _let(self, book: DayBook, clearing: Clearing) -> None:
        """Write the rights of a delivery day into the book of rights; what is left is the operator's own use."""
        assert self.box is not None
        assert book.offer is not None
        book.right_energy_kwh = clearing.right_energy_kwh[0].copy()
        book.right_power_kw = clearing.right_power_kw[0].copy()
        terms = Terms(
            reserve_energy_eur_per_kwh=book.offer.rent_energy_eur_per_kwh,
            scarcity_energy_eur_per_kwh=float(clearing.rent_energy_scarcity_eur_per_kwh[0]),
            reserve_power_eur_per_kw=book.offer.rent_power_eur_per_kw,
            scarcity_power_eur_per_kw=float(clearing.rent_power_scarcity_eur_per_kw[0]),
        )
        begin, end = book.times[0], self.clock.times(book.day.end, 1)[0]
        book.rights = self.rights.open(
            self.box.ess_id,
            self.people.agent_id,
            np.maximum(book.right_energy_kwh[:-1], 0.0),
            np.maximum(book.right_power_kw[:-1], 0.0),
            begin,
            end,
            terms,
            offered_kwh=book.offer.energy_kwh,
            offered_kw=book.offer.power_kw,
        )

    # -- intraday --------------------------------------------------------------------------------------------------

    def renew(self, step: int, now: datetime) -> bool:
        """Compute the envelopes of the rest of a delivery day again, with newer forecasts; tell whether there are any."""
        if not (self.rules.renew and self.play.envelopes):
            return False
        book, people = self.book_of(step), self.people
        at = step - book.day.start
        began = perf_counter()
        load, solar = self.outlook.latest(book.truth, book.belief, at)
        heat = book.belief.heat_kw[:, at:]
        publication = dso.publish(
            self.model,
            load + heat,
            book.belief.load_kvar[:, at:] + heat * self.heat_tan(),
            solar,
            people.active,
            people.export_cap_kw,
            people.import_cap_kw,
            self.rules.limits,
            policy=self.rules.policy,
            dt_h=self.clock.dt_h,
            box=self.box,
            promised_kw=book.publication.firm_kw[at:],
        )
        self.put_in_force(book, at, publication, now)
        self.seconds["envelopes"] += perf_counter() - began
        return True

    def put_in_force(self, book: DayBook, at: int, publication: dso.Publication, now: datetime) -> None:
        """Announce what holds from an interval of a day on."""
        self.infeasible += int((publication.envelope.status != "ok").sum())
        book.issues.append(Issue(now, at, publication))
        book.publication = dso.renewed(book.publication, at, publication)
        book.mailbox.post(publication.envelope, at, book.publication.envelope, now)
        book.kept = book.kept.followed(at, book.mailbox.kept(at))

    def replan(self, step: int, now: datetime) -> Clearing | None:
        """Clear the rest of a delivery day again, with newer forecasts; what it says about the coming hour is binding."""
        if self.rules.replanning == "off":
            return None
        book = self.book_of(step)
        at = step - book.day.start
        load, solar = self.outlook.latest(book.truth, book.belief, at)
        hour = slice(at, at + round(1 / self.clock.dt_h))
        book.last_load_kw[:, hour], book.last_solar_kw[:, hour] = load[:, : hour.stop - at], solar[:, : hour.stop - at]
        book.last_issued_at[hour] = np.datetime64(now.replace(tzinfo=None), "s")
        clearing = self._clear(book, at, self.fleet.energy_kwh, load, solar, "intraday", now)
        book.plan.renew(at, clearing)
        if self.pricing is not None:
            self.put_in_force(book, at, self.pricing.band(book, at, clearing), now)
        assert book.intraday_price_eur_per_kwh is not None
        if np.isfinite(clearing.price_eur_per_kwh).all():  # there is none where what was sold is kept
            book.intraday_price_eur_per_kwh[at:] = clearing.price_eur_per_kwh
        return clearing

    def _clear(
        self, book: DayBook, at: int, energy_kwh: Matrix, load_kw: Matrix, solar_kw: Matrix, stage: str, now: datetime
    ) -> Clearing:
        """Clear the intervals from ``at`` to the end of a day."""
        day, ahead = book.day, stage == "day_ahead"
        known = min(day.start + at, self._step_at(now))
        heat = book.belief.heat_kw[:, at:]
        if ahead:
            book.battery_target_kwh = np.maximum(energy_kwh[BATTERY], 0.0)
        stores, initial_kwh = self.fleet.stores(
            known, day.start + at, day.steps - at, energy_kwh, heat, book.battery_target_kwh
        )
        believed = book.mailbox.kept(at, now)
        free = np.full(believed.import_limit_kw.shape, np.inf)  # of whoever plans by prices
        exchange: Exchange = "zero" if not self.play.sharing else "free"
        pinned = None
        if self.play.sharing and not ahead and self.rules.replanning == "pinned" and book.day_ahead is not None:
            exchange, pinned = "pinned", book.day_ahead.exchange_kw[:, at:]
        shared = self._shared(book, at, ahead)
        task = problem(
            names=self.connection_ids,
            dt_h=self.clock.dt_h,
            load_kw=load_kw,
            pv_kw=solar_kw,
            import_limit_kw=believed.import_limit_kw if self.pricing is None else free,
            export_limit_kw=believed.export_limit_kw if self.pricing is None else free,
            stores=stores,
            initial_kwh=initial_kwh,
            battery_wear_eur_per_kwh=self.rules.battery_wear_eur_per_kwh,
            retail=Retail(
                book.retail.buy_eur_per_kwh[:, at:],
                book.retail.sell_eur_per_kwh[:, at:],
                book.retail.exchange_charge_eur_per_kwh[:, at:],
                book.retail.rented_charge_eur_per_kwh[:, at:],
            ),
            shared=shared,
            exchange=exchange,
            pinned_exchange_kw=pinned,
        )
        began = perf_counter()
        warm = None
        if not ahead and book.warm is not None:
            warm = book.warm.dropped(at - book.warm_at)
        # what is sold day ahead is paid at its prices, and prices converge later than costs
        tolerance = self.rules.tolerance * (DAY_AHEAD_TIGHTER if ahead else 1.0)
        missed = 0.0 if shared is None else shared.final_kwh - shared.wished_kwh
        clearing, moved = self._planned(book, task, at, warm, tolerance)
        self.seconds["clearing"] += perf_counter() - began
        book.warm, book.warm_at = clearing.warm, at
        name = f"{day.name}-{stage}-{at:03d}"
        penalty = task.breach_penalty_eur_per_kwh * self.clock.dt_h * float(clearing.breach_kw.sum())
        book.clearings.append(ClearingRecord(name, stage, now, clearing, missed + moved, penalty))
        return clearing

    def _planned(
        self, book: DayBook, task: Problem, at: int, warm: Warm | None, tolerance: float
    ) -> tuple[Clearing, float]:
        """Clear one problem; return by how much the end of the shared storage had to be moved for that, too. [kWh]"""
        end: End | None = None
        if self.box is not None and book.clearings and book.clearings[-1].end_missed_kwh != 0.0:
            end = reachable_end(task, self.box.energy_kwh)  # what was out of reach an hour ago will be so now
        while True:
            try:
                return self._solved(book, task if end is None else end.problem, at, warm, tolerance), _moved_kwh(end)
            except Infeasible as error:
                reason = str(error)
            tried, warm = end is not None, None
            if self.box is not None and not tried:
                end = reachable_end(task, self.box.energy_kwh)
            if tried or end is None:
                raise NoPlanInfeasible(self._no_plan(book, at, reason))

    def _solved(self, book: DayBook, task: Problem, at: int, warm: Warm | None, tolerance: float) -> Clearing:
        """Clear one problem, with the feeder at the table where the market is cleared by prices."""
        most = self.rules.max_iterations
        if self.pricing is None:
            return clear(task, warm=warm, tolerance=tolerance, max_iterations=most)
        return self.pricing.clear(book, task, at, warm, tolerance, most)

    def _no_plan(self, book: DayBook, at: int, reason: str) -> str:
        """Say on which day, from which interval on and where there is no plan."""
        begins = str(book.times[at].astype("datetime64[m]"))
        if self.box is not None:
            reason = reason.replace("shared store 0", f"the shared storage {self.box.ess_id}")
        return (
            f"{book.day.name}: from {begins} UTC on there is no plan (intervals are counted from there): "
            f"{reason.removeprefix('no plan exists:').strip()}"
        )

    def _shared(self, book: DayBook, at: int, ahead: bool) -> SharedStorage | None:
        box, accounts = self.box, self.accounts
        if box is None or accounts is None or book.offer is None:
            return None
        limits = book.publication if self.pricing is None else dso.open_limits(self.rows, book.day.steps)
        if ahead:
            level = self._level_kwh(book.day, book.offer)
            return shared_ahead(box, accounts, book, limits, self.clock.dt_h, level)
        return shared_today(box, accounts, book, limits, self.clock.dt_h, at)

    def _level_kwh(self, day: Day, offered: Offer) -> float:
        """Return the energy that the shared storage is expected to hold when a day begins; all of it is the operator's."""
        if day.index == 0 and self.accounts is not None:
            return self.accounts.operator_kwh
        before = self.books.get(day.index - 1)
        missed = before.clearings[-1].end_missed_kwh if before is not None and before.clearings else 0.0
        return max(offered.keep_kwh + missed, 0.0)

    # -- delivery --------------------------------------------------------------------------------------------------

    def deliver(self, step: int) -> None:
        """Let one interval happen: plans meet truth, and the meters are held inside the envelopes."""
        book = self.book_of(step)
        t, fleet = step - book.day.start, self.fleet
        if t == 0 and self.accounts is not None:
            self.rights.close(book.times[0])
            self.accounts, _ = self.accounts.closed()  # the rights of the day before have ended
            book.account_start_kwh = self.accounts.holders_kwh.copy()
        limits = self._limits_now(book, t)
        deliver(fleet, book, step, limits, self.rules.enforcement, self.heat_tan()[:, 0], self.clock.dt_h)
        if self.accounts is not None and self.box is not None:
            balance_box(self.box, self.accounts, book.plan, t, self.clock.dt_h)
            charge, discharge = book.plan.rented_charge_kw[:, t], book.plan.rented_discharge_kw[:, t]
            self.accounts = self.accounts.after(self.box, charge, discharge, self.clock.dt_h)

    def _limits_now(self, book: DayBook, t: int) -> tuple[Vector, Vector]:
        """Return the import and export limits that homes keep in an interval, on their ramps."""
        now = book.kept.import_limit_kw[:, t], book.kept.export_limit_kw[:, t]
        if self._limits_before is not None and np.isfinite(self.rules.ramp_kw):
            before, most = self._limits_before, self.rules.ramp_kw
            now = ramped(now[0], before[0], most), ramped(now[1], before[1], most)
        self._limits_before = now
        return now

    # -- looking up ------------------------------------------------------------------------------------------------

    def book_of(self, step: int) -> DayBook:
        """Return the open book of the delivery day that holds an interval."""
        for book in self.books.values():
            if book.day.start <= step < book.day.end:
                return book
        raise LookupError(f"interval {step} lies in no open delivery day")

    def _step_at(self, now: datetime) -> int:
        minutes = (now - self.clock.start_utc).total_seconds() / 60.0
        return int(np.floor(minutes / self.clock.interval_minutes))


def _moved_kwh(end: End | None) -> float:
    return 0.0 if end is None else end.missed_kwh
