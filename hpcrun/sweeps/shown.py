"""What a picture of a sweep shows: its trials in their order, the curve of the best, an axis for each
hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcrun.models.expressions import Expression, Value, every
from hpcrun.sweeps.scales import Scale, metric_scale, parameter_scale

MOST_PARAMETERS = 36
"""Hyperparameters in one picture; of more, the first ones."""

LOOKS = ("Completed", "stopped early", "Canceled", "Failed", "not ended")
"""How trials stand; each looks different."""


@dataclass(frozen=True)
class Shown:
    """A trial, by its number and its run's ``name``. ``value``: its best of the metric; None where it has
    none, or none that is finite. ``look``: one of LOOKS."""

    number: int
    name: str
    parameters: Mapping[str, Value]
    value: float | None
    look: str


@dataclass(frozen=True)
class Axis:
    """A hyperparameter. ``gaps``: there are trials that do not have it."""

    name: str
    scale: Scale
    gaps: bool

    def place(self, trial: Shown) -> float | None:
        """Where a trial stands on it; None for one that does not have it."""
        return self.scale.place(trial.parameters.get(self.name))


@dataclass(frozen=True)
class Picture:
    """All that is drawn. ``trials`` in the order in which they ended, those that have not ended behind them;
    ``same``: what all were given; ``omitted``: hyperparameters for which there is no room; ``earlier``: the
    best value of the sweeps that this one resumes from."""

    title: str
    metric: str
    goal: str
    trials: Sequence[Shown]
    scale: Scale
    axes: Sequence[Axis]
    same: Mapping[str, Value]
    omitted: int
    earlier: float | None = None

    @property
    def beyond(self) -> int:
        """How many trials have values too far off, and stand at the scale's edge."""
        low, high = self.scale.low, self.scale.high
        return sum(each.value is not None and not low <= each.value <= high for each in self.trials)

    @property
    def best(self) -> Shown:
        """The first of the best."""
        return self.trials[curve_of_best([each.value for each in self.trials], self.goal)[-1][0]]


def curve_of_best(values: Sequence[float | None], goal: str) -> list[tuple[int, float]]:
    """The places at which a value came that is better than all before it, and these values."""
    found: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is None or not math.isfinite(value):
            continue
        if not found or (value < found[-1][1] if goal == "minimize" else value > found[-1][1]):
            found.append((place, value))
    return found


def picture(
    title: str,
    metric: str,
    goal: str,
    trials: Sequence[Shown],
    space: Mapping[str, Expression],
    earlier: float | None = None,
) -> Picture:
    """What is to be drawn of trials in their order, at least one of them with a value."""
    values = [value for value in (earlier, *(each.value for each in trials)) if value is not None]
    names = [*dict.fromkeys([name for _, name, _ in every(space)] + _names(trials))]
    differ = [name for name in names if _differs(name, trials)]
    drawn = differ or [name for name in names if name in {each for _, each, _ in every(space)}]
    same = {name: trials[0].parameters[name] for name in names if name not in drawn and _has(trials[0], name)}
    axes = [_axis(name, trials, space) for name in drawn[:MOST_PARAMETERS]]
    omitted = len(drawn) - len(axes)
    return Picture(title, metric, goal, trials, metric_scale(values, goal), axes, same, omitted, earlier)


def _names(trials: Iterable[Shown]) -> list[str]:
    return [*dict.fromkeys(name for each in trials for name in each.parameters)]


def _has(trial: Shown, name: str) -> bool:
    return name in trial.parameters


def _differs(name: str, trials: Sequence[Shown]) -> bool:
    return len({repr(each.parameters.get(name)) for each in trials}) > 1


def _axis(name: str, trials: Sequence[Shown], space: Mapping[str, Expression]) -> Axis:
    values: list[Any] = [each.parameters[name] for each in trials if _has(each, name)]
    scale = parameter_scale(values, [each for _, inner, each in every(space) if inner == name])
    return Axis(name, scale, any(scale.place(each.parameters.get(name)) is None for each in trials))


def spread(number: int) -> float:
    """From -0.5 to 0.5, the same for a number every time, evenly over many: so that what stands in one
    place can be seen side by side."""
    return number * 0.6180339887498949 % 1.0 - 0.5


def room(options: int, trials: int) -> float:
    """How much of an axis so many trials take around each of its options: the more, the more room; never
    so much that two options meet."""
    return min(0.2, 0.6 / options) * math.sqrt(min(1.0, (trials - 1) / 100)) if options else 0.0


def in_front(trials: Sequence[Shown], goal: str, most: int) -> list[Shown]:
    """Trials with a value, the worst first: at most ``most`` of them, the best tenth of these being the best
    of all, the others evenly taken from the rest."""
    found = [each for each in trials if each.value is not None]
    found.sort(key=lambda each: (each.value or 0.0, each.number), reverse=goal == "minimize")
    if len(found) <= most:
        return found
    kept = max(1, most // 10)
    rest, others = len(found) - kept, most - kept
    return [*(found[rest * at // others] for at in range(others)), *found[rest:]]
