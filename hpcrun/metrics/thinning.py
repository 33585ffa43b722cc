"""Long curves with fewer points, which look the same: no extreme is lost, and no gap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite


def thin(values: Sequence[float], most: int) -> list[int]:
    """The places of at most ``most`` values (5 or more), in their order: of each stretch the lowest, the
    highest, and the first that is not finite; the first and the last of all."""
    count = len(values)
    if count <= most:
        return [*range(count)]
    stretches = max(1, (most - 2) // 3)
    places = {0, count - 1}
    for first, last in stretches_of(count, stretches):
        places.update(_kept(values[first:last], first))
    return sorted(places)


def stretches_of(count: int, parts: int) -> Iterator[tuple[int, int]]:
    """``count`` places in ``parts`` stretches of one length, give or take one: first, and behind last."""
    for part in range(parts):
        yield count * part // parts, count * (part + 1) // parts


def _kept(some: Sequence[float], first: int) -> Iterator[int]:
    finite = some if all(map(isfinite, some)) else [value for value in some if isfinite(value)]
    if finite:
        yield first + some.index(min(finite))
        yield first + some.index(max(finite))
    if len(finite) < len(some):
        yield first + next(place for place, value in enumerate(some) if not isfinite(value))
