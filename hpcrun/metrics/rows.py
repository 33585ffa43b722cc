"""Metrics as rows of a table, for programs: a row a value."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from hpcrun.metrics.reading import SCALAR
from hpcrun.metrics.series import Series

POINT_COLUMNS = ("run", "name", "step", "time", "value", "rank", "attempt", "kind")


def rows_of(run: str, series: Series) -> Iterator[tuple[Any, ...]]:
    """The values of a series, in the order of :data:`POINT_COLUMNS`: times in UTC, values as :func:`cell`."""
    for value, step, time, attempt in zip(
        series.values, series.steps, series.times, series.attempts, strict=True
    ):
        yield (
            run,
            series.name,
            "" if step is None else step,
            utc(time),
            cell(value) if series.kind == SCALAR else json.dumps(value),
            series.rank,
            attempt,
            series.kind,
        )


def cell(value: Any) -> Any:
    """A plain value in a file of text: numbers so that they come back the same (``NaN``, ``Infinity``),
    ``true``, ``false``, nothing for null, and text as it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else json.dumps(value)
    if isinstance(value, (int, str)):
        return value
    return json.dumps(value)


def utc(time: float) -> str:
    """``2026-01-31T12:00:00.123456Z``; nothing for what is no time."""
    try:
        at = datetime.fromtimestamp(time, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return ""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def strict(value: Any) -> Any:
    """A value as every reader of JSON takes it: what JSON has no number for is text, as in ``"NaN"``."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [strict(one) for one in value]
    if isinstance(value, dict):
        return {key: strict(one) for key, one in value.items()}
    return value
