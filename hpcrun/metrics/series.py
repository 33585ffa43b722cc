"""What was measured, name by name: all values of one name that one rank told."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hpcrun.metrics.reading import SCALAR, Point

LIST = "list"


@dataclass
class Series:
    """The values of one name, of one kind, from one rank, in the order in which they were told.

    ``steps`` has None where none was given, ``times`` are seconds since 1970.
    """

    name: str
    kind: str
    rank: int
    values: list[Any] = field(default_factory=list)
    steps: list[float | None] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    attempts: list[int] = field(default_factory=list)

    @property
    def is_curve(self) -> bool:
        """Whether it is plain values, or lists of them."""
        return self.kind in (SCALAR, LIST)

    @property
    def spread(self) -> list[Any]:
        """The values; those of lists one after the other."""
        if self.kind != LIST:
            return self.values
        return [one for value in self.values for one in (value if isinstance(value, list) else [value])]

    def numbers(self) -> list[float]:
        """The spread values as numbers; NaN stands for what is none."""
        return [number(value) for value in self.spread]

    def places(self) -> list[float]:
        """Where each of the numbers stands: at its step, if all have one; else they are counted from 0."""
        if self.kind != LIST and self.steps and None not in self.steps:
            return [float(step) for step in self.steps if step is not None]
        return [float(place) for place in range(len(self.spread))]

    def line(self) -> tuple[list[float], list[float]]:
        """Places and numbers of the curve as it is drawn: with a gap where another attempt went back."""
        places, numbers = self.places(), self.numbers()
        if self.kind == LIST or self.attempts[:1] == self.attempts[-1:]:
            return places, numbers
        drawn: tuple[list[float], list[float]] = ([], [])
        before = None
        for place, value, attempt in zip(places, numbers, self.attempts, strict=True):
            if before is not None and attempt != before and place <= drawn[0][-1]:
                drawn[0].append(place)
                drawn[1].append(math.nan)
            before = attempt
            drawn[0].append(place)
            drawn[1].append(value)
        return drawn


def number(value: Any) -> float:
    """A value as a number: true is 1, and NaN stands for what is none."""
    if isinstance(value, (bool, int, float)):
        try:
            return float(value)
        except OverflowError:  # an integer of hundreds of digits
            return math.inf if value > 0 else -math.inf
    return math.nan


def gather(points: Iterable[Point]) -> list[Series]:
    """The points by name, kind and rank, in the order in which these came first."""
    found: dict[tuple[str, str, int], Series] = {}
    for name, value, time, step, kind, rank, attempt in points:
        series = found.get((name, kind, rank))
        if series is None:
            series = found[name, kind, rank] = Series(name, kind, rank)
        series.values.append(value)
        series.steps.append(step)
        series.times.append(time)
        series.attempts.append(attempt)
    return [*found.values()]


@dataclass(frozen=True)
class Summary:
    """How many values, the last of them with its step, and the lowest and highest number; infinities count,
    NaN does not. None where there is none."""

    count: int
    last: Any
    step: float | None
    low: float | int | None
    high: float | int | None


def summary(series: Series) -> Summary:
    """A series in five words."""
    values = series.spread
    numbers = [*_ordered(values)]
    return Summary(
        count=len(values),
        last=values[-1] if values else None,
        step=series.steps[-1] if series.steps else None,
        low=min(numbers, default=None),
        high=max(numbers, default=None),
    )


def _ordered(values: Iterable[Any]) -> Iterator[float | int]:
    """The numbers among them that can be ordered."""
    for value in values:
        if type(value) in (int, float) and value == value:
            yield value


def primary(series: Iterable[Series], rank: int | None = None) -> list[Series]:
    """Of each name and kind the series of one rank: of ``rank``, or of the lowest that has told any."""
    found: dict[tuple[str, str], Series] = {}
    for each in series:
        known = found.get((each.name, each.kind))
        if rank is not None and each.rank != rank:
            continue
        if known is None or each.rank < known.rank:
            found[each.name, each.kind] = each
    return [*found.values()]
