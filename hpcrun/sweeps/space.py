"""The points of a search space: how many there are, which they are, and the one at given quantiles.

Every value is a quantile of its expression: the same function serves draws at random, Sobol's sequence and
the Bayesian sampler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import NormalDist

from hpcrun.models.expressions import Expression, Value

Parameters = dict[str, Value]

_SMALLEST = 2.0**-53
_STANDARD = NormalDist()


@dataclass(frozen=True)
class Axis:
    """One hyperparameter of a space: its ``path`` names it among those of all options.

    ``options``: of a choice, its values and what comes with each. ``count``: how many points the axis has,
    those that come with its options among them; None where there is no end of them.
    """

    name: str
    path: str
    kind: str
    numbers: tuple[float, ...]
    options: tuple[tuple[Value, Space, int | None], ...]
    count: int | None


Space = tuple[Axis, ...]


def space_of(expressions: Mapping[str, Expression], path: str = "") -> Space:
    """The space that a sweep's expressions describe."""
    return tuple(_axis(name, each, f"{path}/{name}") for name, each in expressions.items())


def _axis(name: str, expression: Expression, path: str) -> Axis:
    kind, count = expression.kind, None
    if kind == "choice":
        inner = [space_of(option.space, f"{path}/{n}") for n, option in enumerate(expression.options)]
        sizes = [size(each) for each in inner]
        options = tuple(zip([option.value for option in expression.options], inner, sizes, strict=True))
        known = [each for each in sizes if each is not None]
        return Axis(name, path, kind, (), options, sum(known) if len(known) == len(sizes) else None)
    if kind == "randint":
        upper = expression.randint or 1
        return Axis(name, path, kind, (upper,), (), upper)
    if kind == "quniform":
        low, high, q = expression.numbers
        count = round(high / q) - round(low / q) + 1
    return Axis(name, path, kind, expression.numbers, (), count)


def multiple(x: float, q: float) -> float:
    """The multiple of ``q`` that is nearest to ``x``: a whole number where ``q`` is one.

    Exactly the decimal one: 3 times 0.1 is 0.3.
    """
    return _times(round(x / q), q)


def _times(k: int, q: float) -> float:
    return k * q if isinstance(q, int) else float(Decimal(k) * Decimal(repr(q)))


def quantile(axis: Axis, u: float) -> float:
    """The value that a share ``u`` (0 to 1) of all draws lies below; of a choice, the index of its option."""
    if axis.kind == "choice":
        return min(int(u * len(axis.options)), len(axis.options) - 1)
    if axis.kind == "randint":
        return min(int(u * axis.numbers[0]), int(axis.numbers[0]) - 1)
    first, second, *q = axis.numbers
    if "uniform" in axis.kind:
        x = min(first + u * (second - first), second)
    else:
        x = first + second * _STANDARD.inv_cdf(min(max(u, _SMALLEST), 1 - _SMALLEST))
    if "log" in axis.kind:
        x = math.exp(x)
    return multiple(x, q[0]) if q else x


def position(axis: Axis, value: float) -> float:
    """Where a value lies among the quantiles: :func:`quantile` the other way round, for all but choices."""
    if axis.kind == "randint":
        return (value + 0.5) / axis.numbers[0]
    first, second, *_ = axis.numbers
    if "log" in axis.kind:
        value = math.log(value) if value > 0 else -math.inf
    if "uniform" in axis.kind:
        return min(max((value - first) / (second - first), 0.0), 1.0)
    return _STANDARD.cdf((value - first) / second)


def draw(space: Space, u: Callable[[str], float]) -> Parameters:
    """The point at quantiles: ``u`` is asked for each hyperparameter that is there, by its path."""
    found: Parameters = {}
    for axis in space:
        value = quantile(axis, u(axis.path))
        if axis.kind == "choice":
            found[axis.name], inner, _ = axis.options[int(value)]
            found |= draw(inner, u)
        else:
            found[axis.name] = value
    return found


def every_axis(space: Space) -> Iterator[Axis]:
    """All of them, those of options after the choice's own."""
    for axis in space:
        yield axis
        for _, inner, _ in axis.options:
            yield from every_axis(inner)


def size(space: Space) -> int | None:
    """How many points there are; None where there is no end of them."""
    counts = [axis.count for axis in space]
    known = [count for count in counts if count is not None]
    return math.prod(known) if len(known) == len(counts) else None


def continuous(space: Space) -> bool:
    """Whether a hyperparameter that is always there takes any number: no two draws are the same then."""
    return any(axis.kind in ("uniform", "loguniform", "normal", "lognormal") for axis in space)


def point(space: Space, index: int) -> Parameters:
    """One of the points of a space with an end, the last hyperparameter's values changing first."""
    places = [0] * len(space)
    for place in range(len(space) - 1, -1, -1):
        index, places[place] = divmod(index, space[place].count or 1)
    found: Parameters = {}
    for axis, at in zip(space, places, strict=True):
        if axis.kind != "choice":
            found[axis.name] = value_at(axis, at)
            continue
        for value, inner, count in axis.options:
            if at < (count or 1):
                found[axis.name] = value
                found |= point(inner, at)
                break
            at -= count or 1
    return found


def index_of(space: Space, parameters: Mapping[str, Value]) -> int | None:
    """The index of a point; None for what is no point of the space, or where there is no end of them."""
    found, used = _index(space, parameters)
    return found if used == len(parameters) else None


def key_of(parameters: Mapping[str, Value]) -> tuple[tuple[str, str], ...]:
    """What is the same for two trials with the same values."""
    return tuple(sorted((name, repr(value)) for name, value in parameters.items()))


def _index(space: Space, parameters: Mapping[str, Value]) -> tuple[int | None, int]:
    """The index, and of how many parameters it tells."""
    index, used = 0, 0
    for axis in space:
        at, inner = on_axis(axis, parameters)
        if at is None or axis.count is None:
            return None, 0
        index, used = index * axis.count + at, used + 1 + inner
    return index, used


def on_axis(axis: Axis, parameters: Mapping[str, Value]) -> tuple[int | None, int]:
    """The index of the parameters' value on one axis, and of how many others the index tells."""
    value, before = parameters.get(axis.name), 0
    if axis.kind == "choice":
        for each, inner, count in axis.options:
            if repr(each) == repr(value):
                at, used = _index(inner, parameters)
                return (None if at is None else before + at), used
            before += count or 0
    if axis.count is None or value is None or isinstance(value, (bool, str)) or axis.kind == "choice":
        return None, 0
    at = round(value) if axis.kind == "randint" else round(value / axis.numbers[2]) - _first(axis)
    return (at if 0 <= at < axis.count and repr(value_at(axis, at)) == repr(value) else None), 0


def _first(axis: Axis) -> int:
    return round(axis.numbers[0] / axis.numbers[2])


def value_at(axis: Axis, at: int) -> float:
    """The value of that index among those of ``randint`` or ``quniform``."""
    return at if axis.kind == "randint" else _times(_first(axis) + at, axis.numbers[2])
