"""Which trials lag so far behind that they are stopped: a pure function of what they reported.

One report of the primary metric is one interval. A trial is judged by its best report up to interval N, in
comparison with what others had up to their interval N: none is stopped for being younger. Reports that are
no numbers (NaN) are no trial's best; a trial that reported nothing else is worse than any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from hpcrun.models.policies import (
    AshaPolicy,
    BanditPolicy,
    MedianStoppingPolicy,
    NoTerminationPolicy,
    Policy,
    TruncationSelectionPolicy,
)
from hpcrun.models.sweep import PrimaryMetricGoal

Histories = Mapping[int, Sequence[float]]


def best_of(goal: PrimaryMetricGoal | str, values: Sequence[float]) -> float | None:
    """The best of some values; None where none is a number."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return None
    return max(numbers) if PrimaryMetricGoal(goal) is PrimaryMetricGoal.MAXIMIZE else min(numbers)


def due(policy: Policy, reported: int, judged: int = 0) -> int | None:
    """The interval at which a trial is to be judged now, given how many it reported and where it was judged.

    The latest of those that are over and come after ``judged``; None where there is none.
    """
    if isinstance(policy, NoTerminationPolicy):
        return None
    if isinstance(policy, AshaPolicy):
        latest = max((rung for rung in rungs(policy, reported)), default=0)
        first = policy.min_resource
    else:
        every = policy.evaluation_interval
        latest = reported // every * every
        first = max(policy.delay_evaluation, 1)
    return latest if latest >= first and latest > judged else None


def rungs(policy: AshaPolicy, reported: int) -> list[int]:
    """The rungs that a trial with so many reports has come to."""
    found, rung = [], policy.min_resource
    while rung <= reported and (policy.max_resource is None or rung < policy.max_resource):
        found.append(rung)
        rung *= policy.reduction_factor
    return found


def judge(
    policy: Policy,
    goal: PrimaryMetricGoal | str,
    histories: Histories,
    running: set[int],
    judged: Mapping[int, int],
) -> set[int]:
    """The running trials that are to be stopped.

    ``histories``: each trial's reports of the primary metric, in their order. ``judged``: up to which
    interval each was judged before (none: 0); after this call that is how many it reported. What holds the
    best report of all is never stopped.
    """
    sign = 1.0 if PrimaryMetricGoal(goal) is PrimaryMetricGoal.MAXIMIZE else -1.0
    scores = {number: [sign * value for value in values] for number, values in histories.items()}
    best = max((_best(values, len(values)) for values in scores.values()), default=-math.inf)
    stopped = set()
    for number in running & scores.keys():
        at = due(policy, len(scores[number]), judged.get(number, 0))
        if at is None or (best > -math.inf and _best(scores[number], len(scores[number])) >= best):
            continue
        if _lags(policy, number, at, scores, running):
            stopped.add(number)
    return stopped


def _lags(policy: Policy, number: int, at: int, scores: Histories, running: set[int]) -> bool:
    """More is better here. Only reports up to interval ``at`` count."""
    mine = _best(scores[number], at)
    if isinstance(policy, BanditPolicy):
        return mine < _bound(policy, max(_best(values, at) for values in scores.values()))
    if isinstance(policy, MedianStoppingPolicy):
        # Those that run and have not come so far have no average up to here yet.
        others = [values for other, values in scores.items() if len(values) >= at or other not in running]
        means = [mean for values in others if (mean := _mean(values[:at])) is not None]
        return bool(means) and mine < median(means)
    if isinstance(policy, TruncationSelectionPolicy):
        pool = [
            _best(values, at)
            for other, values in scores.items()
            if values and (len(values) >= at if other in running else not policy.exclude_finished_jobs)
        ]
        cut = len(pool) * policy.truncation_percentage // 100
        return sum(each <= mine for each in pool) <= cut
    if isinstance(policy, AshaPolicy):
        rung = [_best(values, at) for values in scores.values() if len(values) >= at]
        return sum(each > mine for each in rung) >= max(1, len(rung) // policy.reduction_factor)
    return False


def _bound(policy: BanditPolicy, best: float) -> float:
    """What a trial must not be below. Never above the best itself, whatever its sign."""
    if policy.slack_amount is not None:
        return best - policy.slack_amount
    ratio = 1 + (policy.slack_factor or 0)
    return best / ratio if best > 0 else best * ratio


def _best(values: Sequence[float], at: int) -> float:
    return max((value for value in values[:at] if not math.isnan(value)), default=-math.inf)


def _mean(values: Sequence[float]) -> float | None:
    numbers = [value for value in values if not math.isnan(value)]
    mean = math.fsum(numbers) / len(numbers) if numbers and all(map(math.isfinite, numbers)) else None
    if mean is None and numbers:
        mean = sum(numbers) / len(numbers)
    return None if mean is None or math.isnan(mean) else mean
