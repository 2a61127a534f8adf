"""How far a simulation is: a bar on a terminal, a line now and then elsewhere.

Everything goes to standard error, so that standard output stays the result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

__all__ = ["Progress", "Steps", "days_per_second", "shown", "steps"]

Progress = Callable[[int, int, datetime, str], None]
"""``progress(done_intervals, total_intervals, simulated, phase)``."""

Steps = Callable[[str, int, int], None]
"""``steps(what, done, of)``, for work that is not simulated time."""

_LINE_EVERY_S = 10.0


def days_per_second(first: datetime, now: datetime, seconds: float) -> float:
    """Return how many simulated days pass in a second of the wall clock; NaN before the clock has moved.

    >>> days_per_second(datetime(2016, 7, 18), datetime(2016, 7, 20), 4.0)
    0.5
    """
    return (now - first).total_seconds() / 86_400 / seconds if seconds > 0 else float("nan")


@contextmanager
def shown(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Progress | None]:
    """Show progress while the block runs: yields what to call, or None when quiet."""
    stream = sys.stderr if stream is None else stream
    if quiet:
        yield None
    elif stream.isatty():
        with _bar(stream) as progress:
            yield progress
    else:
        yield _Lines(stream)


@contextmanager
def steps(*, quiet: bool, stream: TextIO | None = None) -> Iterator[Steps | None]:
    """Show how far a computation is while the block runs: yields what to call, or None when quiet or on no terminal."""
    stream = sys.stderr if stream is None else stream
    if quiet or not stream.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("preparing", total=None)
        yield lambda what, done, of: bar.update(task, description=what.replace("_", " "), completed=done, total=of)


@contextmanager
def _bar(stream: TextIO) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.fields[simulated]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("preparing", total=None, simulated="", speed="", left="")
        pace = _Pace()

        def progress(done: int, total: int, simulated: datetime, phase: str) -> None:
            speed, left = pace.at(done, total, simulated)
            bar.update(
                task,
                completed=done,
                total=total,
                description=phase,
                simulated=f"{simulated:%a %d %b %H:%M}",
                speed=speed,
                left=left,
            )

        yield progress


class _Pace:
    """Speed since the first report: what is prepared before it does not count."""

    def __init__(self) -> None:
        self._first: tuple[int, datetime, float] | None = None

    def at(self, done: int, total: int, simulated: datetime) -> tuple[str, str]:
        """Return simulated days per second and the time left, as text; dashes before anything has moved."""
        now_s = time.perf_counter()
        if self._first is None:
            self._first = (done, simulated, now_s)
        first_done, first, first_s = self._first
        if done <= first_done or now_s <= first_s:
            return "– days/s", "– s left"
        left_s = (now_s - first_s) * (total - done) / (done - first_done)
        return f"{days_per_second(first, simulated, now_s - first_s):.2g} days/s", f"{left_s:.0f} s left"


class _Lines:
    """A line every few seconds, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = _Pace()
        self._next_s = time.perf_counter() + _LINE_EVERY_S

    def __call__(self, done: int, total: int, simulated: datetime, phase: str) -> None:
        speed, left = self._pace.at(done, total, simulated)
        if time.perf_counter() < self._next_s:
            return
        self._next_s = time.perf_counter() + _LINE_EVERY_S
        percent = 100 * done / max(total, 1)
        self._stream.write(f"{simulated:%Y-%m-%d %H:%M}  {percent:3.0f} %  {speed}  {left}  {phase}\n")
        self._stream.flush()
