"""A curve in one line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpcrun.metrics.thinning import stretches_of

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=+*%#"
"""The same for terminals that have no blocks."""

GAP = " "
"""Where there is no number."""


def sparkline(
    values: Sequence[float],
    width: int = 20,
    *,
    log: bool = False,
    levels: str = BLOCKS,
    bounds: tuple[float, float] | None = None,
) -> str:
    """A character for each value, or, where there are more than ``width``, for each stretch of them: that of
    its values which is farthest from the mean of all, so that no peak is lost.

    NaN is a gap, infinity as high as can be, and what has no logarithm, with ``log``, as low. ``bounds`` are
    the lowest and the highest value of the scale, by default those of the values; curves with the same ones
    can be compared.
    """
    shown = [_scaled(value, log) for value in values] if log else values
    finite = list(shown if all(map(math.isfinite, shown)) else filter(math.isfinite, shown))
    ends = [end for end in (_scaled(bound, log) for bound in bounds or ()) if math.isfinite(end)]
    low, high = min(finite + ends, default=0.0), max(finite + ends, default=0.0)
    middle = _mean(finite)
    if len(shown) > width:
        stretches = stretches_of(len(shown), max(1, width))
        shown = [_farthest(shown[first:last], middle) for first, last in stretches]
    return "".join(_level(value, low, high, levels) for value in shown)


def _scaled(value: float, log: bool) -> float:
    if not log or math.isnan(value):
        return value
    return math.log10(value) if value > 0 else -math.inf


def _mean(finite: Sequence[float]) -> float:
    # Each divided before: the sum of large ones may be none.
    return math.fsum(value / len(finite) for value in finite) if finite else 0.0


def _farthest(some: Sequence[float], middle: float) -> float:
    numbers = [value for value in some if not math.isnan(value)]
    if not numbers:
        return math.nan
    low, high = min(numbers), max(numbers)
    return high if high - middle >= middle - low else low


def _level(value: float, low: float, high: float, levels: str) -> str:
    if math.isnan(value):
        return GAP
    if math.isinf(value):
        return levels[-1] if value > 0 else levels[0]
    span = high / 2 - low / 2  # half of it: the whole may be more than a float can hold
    if span <= 0:
        return levels[len(levels) // 2 - 1]
    share = (value / 2 - low / 2) / span
    return levels[min(len(levels) - 1, int(share * len(levels)))]
