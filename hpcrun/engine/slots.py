"""When a schedule is due, by the five fields of a crontab, in a time zone.

At the changes of summer time it is as Debian's cron has it. A time of day that is skipped is due at the end
of the gap; one that comes twice is due once, the first time. What has ``*`` for its hour goes by time that
passes, and is due in both of the hours that bear one name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

from hpcrun.errors import UsageError

_BACK = (timedelta(hours=2), timedelta(days=2), timedelta(days=40), timedelta(days=400))
_WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def fields_of(text: str) -> str:
    """The five fields of a schedule, ``@daily`` and its kin spelled out. Raises UsageError."""
    from cronsim import CronSim, CronSimError

    fields = _WORDS.get(text.strip().lower(), " ".join(text.split()))
    hint = "Five fields: minute hour day month weekday, as '0 3 * * *' for 3:00 each day; or @daily."
    if len(fields.split()) != 5:
        raise UsageError(f"not a schedule: {text!r}", hint=hint)
    try:
        next(CronSim(fields, datetime(2026, 1, 1)))
    except CronSimError as error:
        raise UsageError(f"not a schedule: {text!r}: {error}", hint=hint) from None
    except StopIteration:
        raise UsageError(f"{text!r} never comes", hint=hint) from None
    return fields


def zone_of(name: str) -> ZoneInfo:
    """A time zone by its name. Raises UsageError."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        raise UsageError(
            f"no such time zone: {name!r}", hint="Such as Europe/Amsterdam, America/New_York, UTC."
        ) from None


def local_zone() -> str:
    """The name of this machine's own; UTC where it has none that is known."""
    names = [os.environ.get("TZ", "").removeprefix(":")]
    try:
        names.append(os.path.realpath("/etc/localtime").partition("zoneinfo/")[2])
        names.append(Path("/etc/timezone").read_text().strip())
    except OSError:
        pass
    for name in names:
        try:
            if name:
                zone_of(name)
                return name
        except UsageError:
            continue
    return "UTC"


def after(fields: str, zone: str, start: datetime) -> Iterator[datetime]:
    """When it is due after ``start``, in UTC, and so on."""
    from cronsim import CronSim

    for slot in CronSim(fields, start.astimezone(zone_of(zone))):
        at = slot.astimezone(timezone.utc)
        if at > start:  # of an hour that comes twice, both are told by one name
            yield at


def due(fields: str, zone: str, start: datetime, now: datetime) -> list[datetime]:
    """All times after ``start`` up to ``now`` at which it was due."""
    found = []
    for slot in after(fields, zone, start):
        if slot > now:
            break
        found.append(slot)
    return found


def latest(fields: str, zone: str, start: datetime, now: datetime) -> datetime | None:
    """The last of them, found without going through years of others."""
    for back in _BACK:
        if now - back <= start:
            break
        if found := due(fields, zone, now - back, now):
            return found[-1]
    found = due(fields, zone, start, now)
    return found[-1] if found else None
