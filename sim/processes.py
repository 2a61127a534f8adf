"""The day of a community as SimPy processes: they wait, ask, and pass the answer on.

Time is in minutes from the start of the run. Moments that must be ordered are different moments:

- 10:00 the operator of the grid publishes the envelopes of the next delivery day;
- 10:30 the operator of the shared storage offers, 10:45 homes hand in what they expect, through their aggregator if they have one;
- 11:00 the gate: energy and rights are cleared;
- six minutes before every hour homes renew their forecasts, five minutes before it the rest of the day is cleared again;
- with each interval the homes deliver; at its end they read their meters;
- a minute after a delivery day has ended the grid is checked and the retailer settles.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from sim.channel import Ideal
from sim.clock import Day
from sim.community import Community

__all__ = ["simulate"]

Process = Generator[simpy.Event, Any, None]

FORECAST_BEFORE_GATE_MIN, OFFER_BEFORE_GATE_MIN = 15, 30
RENEW_BEFORE_HOUR_MIN, RENEW_ENVELOPES_BEFORE_HOUR_MIN, REPLAN_BEFORE_HOUR_MIN = 6, 5.5, 5
"""Or, with intervals shorter than that, when the last of them has begun."""
SETTLE_AFTER_END_MIN = 1
A_MOMENT = 0.03
"""A little after an interval has begun, or before it ends, as a share of its length."""


def _before_hour(community: Community, minutes: float) -> float:
    """Return how long before the hour something happens: with the interval before it begun, so that its outcome is known."""
    return min(minutes, 0.1 * minutes * community.clock.interval_minutes)


def simulate(
    community: Community, close: Callable[[Day], None], progress: Callable[[int], None] | None = None
) -> Ideal:
    """Run all processes from before the first gate to after the last settlement.

    Parameters
    ----------
    close
        Called with each delivery day that has been delivered: checks the grid, settles, writes.
    progress
        Called with the number of intervals delivered so far, once an hour.
    """
    clock = community.clock
    env = simpy.Environment(initial_time=clock.days[0].publish_min - 1)
    channel = Ideal(env)
    env.process(_grid_operator(env, community, channel))
    if community.rules.renew:
        env.process(_renews_envelopes(env, community, channel))
    env.process(_market(env, community, channel))
    env.process(_delivery(env, community, progress))
    env.process(_retailer(env, community, close))
    if community.box is not None:
        env.process(_storage_operator(env, community, channel))
    for aggregator in sorted(set(community.people.aggregator_id) - {""}):
        env.process(_aggregator(channel, aggregator))
    for home in range(community.n):
        env.process(_home(env, community, channel, home))
    env.run(until=clock.steps * clock.interval_minutes + SETTLE_AFTER_END_MIN + 1)
    return channel


def _until(env: simpy.Environment, minute: float) -> simpy.Timeout:
    return env.timeout(max(minute - env.now, 0))


def _grid_operator(env: simpy.Environment, community: Community, channel: Ideal) -> Process:
    for day in community.clock.days:
        yield _until(env, day.publish_min)
        book = community.publish(day, community.clock.at_minute(env.now))
        if book.publication.envelope.mode != "none":
            for connection in community.connection_ids:
                channel.post(connection, "envelope")
        if book.publication.firm_kw.any() and community.box is not None:
            channel.post(community.box.ess_id, "firm_charge", book.publication.firm_kw)


def _renews_envelopes(env: simpy.Environment, community: Community, channel: Ideal) -> Process:
    """Announces newer envelopes before every hour, after forecasts were renewed and before the market clears again."""
    clock = community.clock
    for step in range(0, clock.steps, 60 // clock.interval_minutes):
        yield _until(env, step * clock.interval_minutes - _before_hour(community, RENEW_ENVELOPES_BEFORE_HOUR_MIN))
        if community.renew(step, clock.at_minute(env.now)):
            for connection in community.connection_ids:
                channel.post(connection, "envelope")


def _storage_operator(env: simpy.Environment, community: Community, channel: Ideal) -> Process:
    for day in community.clock.days:
        yield _until(env, max(day.gate_min - OFFER_BEFORE_GATE_MIN, day.publish_min + 0.5))
        channel.post("market", "offer", community.books[day.index].offer)


def _home(env: simpy.Environment, community: Community, channel: Ideal, home: int) -> Process:
    """One household: hands in what it expects before every gate; two more of its habits run beside."""
    through = community.people.aggregator_id[home] or "market"
    env.process(_renews_forecast(env, community, channel, home, through))
    env.process(_reads_meter(env, community, channel, home))
    for day in community.clock.days:
        yield _until(env, day.gate_min - FORECAST_BEFORE_GATE_MIN)
        channel.post(through, "forecast", home)


def _renews_forecast(env: simpy.Environment, community: Community, channel: Ideal, home: int, through: str) -> Process:
    clock = community.clock
    for step in range(0, clock.steps, 60 // clock.interval_minutes):
        yield _until(env, step * clock.interval_minutes - _before_hour(community, RENEW_BEFORE_HOUR_MIN))
        channel.post(through, "renewed_forecast", home)


def _reads_meter(env: simpy.Environment, community: Community, channel: Ideal, home: int) -> Process:
    clock = community.clock
    for step in range(clock.steps):
        yield _until(env, (step + 1 - A_MOMENT) * clock.interval_minutes)
        book = community.book_of(step)
        channel.post("retailer", "reading", book.delivered.meter_kw[home, step - book.day.start])


def _aggregator(channel: Ideal, name: str) -> Process:
    """Passes its members' forecasts on to the market as they come."""
    box = channel.box(name)
    while True:
        kind, content = yield box.get()
        channel.post("market", kind, content)


def _market(env: simpy.Environment, community: Community, channel: Ideal) -> Process:
    """Clears at every gate and again before every hour; the moments are sorted, whichever day they belong to."""
    clock = community.clock
    per_hour = 60 // clock.interval_minutes
    moments: list[tuple[float, int, Day, int]] = [(day.gate_min, 0, day, -1) for day in clock.days]
    for day in clock.days:
        hours = range(day.start, day.end, per_hour)
        moments += [
            (step * clock.interval_minutes - _before_hour(community, REPLAN_BEFORE_HOUR_MIN), 1, day, step)
            for step in hours
        ]
    for minute, _, day, step in sorted(moments, key=lambda m: m[:2]):
        yield _until(env, minute)
        now = clock.at_minute(env.now)
        if step < 0:
            community.clear_day_ahead(day, now)
            channel.post("everyone", "cleared")
        elif community.replan(step, now) is not None:
            channel.post("everyone", "replanned")


def _delivery(env: simpy.Environment, community: Community, progress: Callable[[int], None] | None) -> Process:
    """The physical world: every interval happens once, for all homes."""
    clock = community.clock
    per_hour = 60 // clock.interval_minutes
    for step in range(clock.steps):
        yield _until(env, (step + A_MOMENT) * clock.interval_minutes)
        community.deliver(step)
        if progress is not None and (step + 1) % per_hour == 0:
            progress(step + 1)


def _retailer(env: simpy.Environment, community: Community, close: Callable[[Day], None]) -> Process:
    for day in community.clock.days:
        yield _until(env, day.end * community.clock.interval_minutes + SETTLE_AFTER_END_MIN)
        close(day)
