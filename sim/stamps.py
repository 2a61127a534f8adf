"""Time stamps of a table: text or local time, to an instant.

A stamp with an offset is an instant.  One without needs a time zone, and twice a year that is not enough: in autumn an
hour happens twice under the same name (the second of two equal stamps is the later hour), in spring an hour does not
happen at all (a stamp in it is a mistake).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from difflib import get_close_matches
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from sim.profile_store import ProfileError

__all__ = ["EPOCH", "first_few", "instants_of", "zone_advice", "zone_of"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GERMAN = ("%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S")


def first_few(alike: list[str]) -> list[str]:
    """Return the first five of sentences that are alike; the last of them says how many more there are."""
    few, more = alike[:5], len(alike) - 5
    return few if more < 1 else [*few[:-1], f"{few[-1]} And {more} more like it."]


def zone_of(source: str, name: str) -> tzinfo:
    """Return a time zone by its name or its offset.

    Parameters
    ----------
    source
        What it is for, named in the message where there is no such zone.
    name
        Such as ``Europe/Berlin`` or ``+01:00``.
    """
    try:
        if name[:1] in {"+", "-"}:
            offset = datetime.fromisoformat(f"2000-01-01T00:00{name}").utcoffset()
            return timezone(offset or timedelta())
        return ZoneInfo(name)
    except (ValueError, ZoneInfoNotFoundError, OSError):
        advice = zone_advice(name)
        raise ProfileError(
            source, [f"there is no time zone {name!r}; {advice.removesuffix('?')}, or an offset such as +01:00."]
        ) from None


def zone_advice(name: str) -> str:
    """Return what to write instead of a name that is no time zone.

    >>> zone_advice("Berlin"), zone_advice("Europe")
    ('did you mean "Europe/Berlin"?', 'a time zone is named by continent and city, such as Europe/Berlin')
    """
    known = sorted(available_timezones())
    near = [one for one in known if one.rpartition("/")[2].casefold() == name.casefold() != one.casefold()]
    near = near or get_close_matches(name, known, 1, 0.8)  # a continent alone is near to none of its cities
    return f'did you mean "{near[0]}"?' if near else "a time zone is named by continent and city, such as Europe/Berlin"


def instants_of(
    file: str, lines: Sequence[int], stamps: Sequence[str | datetime], zone: tzinfo | None
) -> tuple[list[int | None], list[str]]:
    """Return when every stamp is.

    Parameters
    ----------
    file, lines
        Where the stamps stand, for the sentences.
    stamps
        As text, or as datetimes with or without a zone.
    zone
        Of stamps without one; None: they are refused.

    Returns
    -------
    Seconds since 1970, None for a stamp that cannot be understood; and a sentence for each of those.
    """
    instants: list[int | None] = []
    mistakes: list[str] = []
    seen: set[datetime] = set()
    naive: list[int] = []
    aware: list[int] = []
    for line, stamp in zip(lines, stamps, strict=True):
        time = stamp if isinstance(stamp, datetime) else _parsed(stamp)
        sentence = ""
        if time is None:
            sentence = f"expected a time such as 2024-03-31T00:15+01:00, given {stamp!r}."
        elif time.microsecond or time.second:
            sentence = f"{stamp} is no whole minute."
        elif time.tzinfo is not None:
            aware.append(line)
        elif zone is None:
            naive.append(line)
            time = None
        else:
            naive.append(line)
            time, sentence = _localised(time, zone, seen)
        if sentence:
            mistakes.append(f"{file}:{line}:time: {sentence}")
        instants.append(int((time - EPOCH).total_seconds()) if time is not None and not sentence else None)
    mistakes = first_few(mistakes)
    if naive and aware:
        mistakes.append(
            f"{file}:{max(naive[0], aware[0])}:time: here begin stamps {'without' if naive[0] > aware[0] else 'with'} an offset; "
            f"before, it was the other way. Write all of them with an offset."
        )
    elif naive and zone is None:
        mistakes.append(
            f"{file}:{naive[0]}:time: the stamps have no offset. Give the time zone, such as Europe/Berlin."
        )
    return instants, mistakes


def _parsed(stamp: str) -> datetime | None:
    """Return a stamp as ISO 8601 or as day.month.year, None where it is neither."""
    try:
        return datetime.fromisoformat(stamp)
    except ValueError:
        pass
    for form in _GERMAN:
        try:
            return datetime.strptime(stamp, form)  # noqa: DTZ007 - the zone is put on by the caller
        except ValueError:
            continue
    return None


def _localised(time: datetime, zone: tzinfo, seen: set[datetime]) -> tuple[datetime, str]:
    """Put a zone on a local time; the second of two equal ones in autumn is an hour later."""
    early, late = time.replace(tzinfo=zone, fold=0), time.replace(tzinfo=zone, fold=1)
    change = (early.utcoffset() or timedelta()) - (late.utcoffset() or timedelta())
    if change < timedelta():
        return early, (
            f"{time:%Y-%m-%d %H:%M} does not exist in {zone}: the clocks went forward. "
            f"Where the meter keeps winter time all year, give its offset as time zone, such as +01:00."
        )
    if change > timedelta() and time in seen:
        return late.astimezone(UTC), ""
    seen.add(time)
    return early.astimezone(UTC), ""
