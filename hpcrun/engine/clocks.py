"""Times of records, which several clocks wrote: how far apart, how long ago."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any


def moment(text: Any) -> datetime | None:
    """A time of a record or of a scheduler, ISO-8601 in UTC; None for none, or one that cannot be read."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=timezone.utc) if found is not None and found.tzinfo is None else found


def apart(a: Any, b: Any) -> float | None:
    """Seconds from ``b`` to ``a``; None where one of them is not known."""
    first, second = moment(a), moment(b)
    return None if first is None or second is None else (first - second).total_seconds()


def seconds_since(text: Any) -> float:
    """How long ago that was, by our clock; negative for what is to come, 0 for what is not known."""
    at = moment(text)
    return 0.0 if at is None else (datetime.now(timezone.utc) - at).total_seconds()


def later(text: str, seconds: float) -> str | None:
    """The time so many seconds later, as records have it."""
    at = moment(text)
    try:
        moved = None if at is None else at + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return None if moved is None else moved.isoformat(timespec="seconds").replace("+00:00", "Z")
