"""Where values stand on the axes of a picture, between 0 and 1, and what is written beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard

from hpcrun.models.expressions import Expression, Value

WIDE = 1000.0
"""So many times the best value, and a metric is drawn in a logarithmic scale."""

FAR = 3.0
"""So many times the width of their middle half behind it, and values are drawn at the edge."""

MOST_OPTIONS = 12
"""So many numbers to choose from have a place each; more of them lie on a scale. Of more words than twice as
many, those alone that were chosen."""


@dataclass(frozen=True)
class Scale:
    """One axis. Either ``options``, side by side in that order, or the numbers from ``low`` to ``high``;
    ``log``: by their logarithms, ``whole``: all are whole numbers. What lies outside is put at the edge."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    whole: bool = False
    options: tuple[Value, ...] = ()

    def place(self, value: object) -> float | None:
        """From 0 to 1; None for what has no place on this axis."""
        if self.options:
            index = self._known.get(repr(value))
            return None if index is None else _share(index, len(self.options))
        if not is_number(value) or (self.log and value <= 0):
            return None
        return _between(*map(self._flat, (self.low, self.high, min(max(value, self.low), self.high))))

    @cached_property
    def _known(self) -> dict[str, int]:
        return {repr(each): index for index, each in enumerate(self.options)}

    def _flat(self, value: float) -> float:
        return math.log(value) if self.log else value

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """At most ``most`` places with what stands there, in their order; of options, as many as are drawn
        side by side."""
        if self.options:
            each = math.ceil(len(self.options) / MOST_OPTIONS)
            every = [*enumerate(self.options)][::each]
            return [(_share(index, len(self.options)), told(value)) for index, value in every]
        if self.high <= self.low:
            return [(0.5, f"{self.low:.4g}")]
        values = _decades(self.low, self.high, most) if self.log else []
        if len(values) < 2:
            values = _round_numbers(self.low, self.high, most, self.whole)
        places = [(self.place(value), text) for value, text in zip(values, _told(values), strict=True)]
        return [(place, text) for place, text in places if place is not None]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it can be put on a scale: a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def told(value: object) -> str:
    """A value as text."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _share(index: int, count: int) -> float:
    return (index + 0.5) / count


def _between(low: float, high: float, value: float) -> float:
    # By halves: the whole width may be more than a float can hold.
    width = high / 2 - low / 2
    return min(max((value / 2 - low / 2) / width, 0.0), 1.0) if width > 0 else 0.5


def parameter_scale(values: Iterable[object], expressions: Sequence[Expression] = ()) -> Scale:
    """For the values of one hyperparameter, drawn by these expressions: several where options of a choice
    bring one name each; none where it is in no space."""
    kinds = {each.kind for each in expressions}
    seen = _once(value for value in values if isinstance(value, (bool, int, float, str)))
    found = _once([*(option.value for each in expressions for option in each.options), *seen])
    numbers = [value for value in found if is_number(value)]
    if len(numbers) < len(found):  # words, or yes and no
        if len(found) > 2 * MOST_OPTIONS:
            chosen = {repr(value) for value in seen}
            found = [value for value in found if repr(value) in chosen]
            numbers = [value for value in numbers if repr(value) in chosen]
        return Scale(options=(*sorted(numbers), *(v for v in found if not is_number(v))))
    if kinds == {"choice"} and len(found) <= MOST_OPTIONS:
        return Scale(options=tuple(sorted(numbers)))
    if not numbers:
        return Scale()
    low, high = min(numbers), max(numbers)
    # Numbers to choose from that are powers of something are meant by their logarithms.
    log = any("log" in kind for kind in kinds) or (kinds == {"choice"} and low > 0 and high / low >= 100)
    return Scale(low, high, log and low > 0, all(isinstance(value, int) for value in numbers))


def _once(values: Iterable[Value]) -> list[Value]:
    return [*{repr(value): value for value in values}.values()]


def metric_scale(values: Sequence[float], goal: str) -> Scale:
    """For the finite values of a metric, at least one. The best and at least three in four of all lie
    within; one that is far off on the bad side does not press the others together."""
    if len(values) < 4:
        return Scale(min(values), max(values), _wide(min(values), max(values)))
    ordered, end = sorted(values), len(values) - 1
    first, third = ordered[end // 4], ordered[-(-3 * end // 4)]
    down = goal == "minimize"
    log = _wide(min(values), third) if down else _wide(first, max(values))
    log = log and min(values) > 0
    low, high = (math.log(first), math.log(third)) if log else (first, third)
    reach = FAR * (high - low)
    limit = high + reach if down else low - reach
    if log:
        limit = math.exp(min(limit, 700.0))
    within = [v for v in values if not reach or (v <= max(limit, third) if down else v >= min(limit, first))]
    return Scale(min(within), max(within), log)


def _wide(low: float, high: float) -> bool:
    return low > 0 and high / low >= WIDE


def _decades(low: float, high: float, most: int) -> list[float]:
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    each = max(1, math.ceil((last - first + 1) / most))
    powers = [float(f"1e{power}") for power in range(first, last + 1, each)]
    return [power for power in powers if power > 0 and math.isfinite(power)]


def _round_numbers(low: float, high: float, most: int, whole: bool) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from the first that is not below ``low``."""
    width = high / 2 - low / 2
    if width <= 0:
        return [low]
    rough = width / max(1, most - 1) * 2
    power = math.floor(math.log10(rough)) if rough > 0 else -300
    for factor in (1, 2, 5, 10, 20):
        step = factor * 10.0**power
        if whole and step < 1:
            continue
        if step <= 0 or not math.isfinite(step):
            continue
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            found = [*dict.fromkeys(min(max(k * step, low), high) for k in range(first, last + 1))]
            return found if len(found) > 1 else [low, high]
    return [low, high]


def _told(values: Sequence[float]) -> list[str]:
    """The values as text: as many digits as tell them apart, and are true to a thousandth."""
    for digits in (4, 6, 9, 12):
        found = [f"{value + 0.0:.{digits}g}" for value in values]
        pairs = zip(found, values, strict=True)
        if len(set(found)) == len(found) and all(math.isclose(float(t), v, rel_tol=1e-3) for t, v in pairs):
            return found
    return [f"{value:.17g}" for value in values]
