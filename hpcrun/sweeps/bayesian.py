"""Bayesian sampling, by Optuna's tree-structured Parzen estimator.

No state is kept: for every question the trials so far are told again. The first ones are of Sobol's sequence.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hpcrun.errors import UsageError
from hpcrun.models.expressions import Value
from hpcrun.models.sweep import MOST_DIMENSIONS, PrimaryMetricGoal, SweepConfig
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sobol import coordinate
from hpcrun.sweeps.space import (
    Axis,
    Parameters,
    Space,
    draw,
    every_axis,
    on_axis,
    position,
    quantile,
    space_of,
    value_at,
)

STARTUP = 10
"""As long as fewer trials than this have a value, there is nothing to learn from yet."""

_EDGE = 1e-12


def ask(
    config: SweepConfig, seed: str, known: Sequence[TrialResult], start: int, count: int
) -> list[Parameters]:
    """The hyperparameters of trials ``start`` to ``start + count - 1``, given what is ``known`` of others.

    Trials that run are taken to turn out badly, so that no two are asked for in one place. Those that were
    stopped count as worse than those that completed; those that failed, and values that are no finite
    numbers, teach nothing. Raises UsageError where Optuna is not installed.
    """
    optuna, space = _optuna(), space_of(config.space)
    told = [trial for trial in sorted(known, key=lambda each: each.number) if trial.number < start]
    with _quiet(optuna):
        maximize = config.primary_metric_goal is PrimaryMetricGoal.MAXIMIZE
        study = optuna.create_study(direction="maximize" if maximize else "minimize")
        for trial in told:
            _tell(optuna, study, space, trial)
        useful = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.get_trials(deepcopy=False))
        return [_ask(optuna, study, space, seed, number, useful) for number in range(start, start + count)]


def _ask(optuna: Any, study: Any, space: Space, seed: str, number: int, useful: int) -> Parameters:
    axes = list(every_axis(space))
    if useful < STARTUP and len(axes) <= MOST_DIMENSIONS:
        dimension = {axis.path: n for n, axis in enumerate(axes)}
        found = draw(space, lambda path: coordinate(number, dimension[path], seed))
        _tell(optuna, study, space, TrialResult(number, found, None, "Running"))
        return found
    digest = hashlib.sha256(f"{seed} bayesian {number}".encode("utf-8", "surrogatepass")).digest()
    study.sampler = optuna.samplers.TPESampler(
        seed=int.from_bytes(digest[:4], "big"),
        n_startup_trials=STARTUP,
        multivariate=True,
        group=any(inner for axis in axes for _, inner, _ in axis.options),
        constant_liar=True,
    )
    return _suggest(study.ask(), space)


def _suggest(trial: Any, space: Space) -> Parameters:
    found: Parameters = {}
    for axis in space:
        if axis.kind == "choice":
            at = trial.suggest_categorical(axis.path, range(len(axis.options)))
            found[axis.name], inner, _ = axis.options[at]
            found |= _suggest(trial, inner)
        elif axis.count is not None:
            found[axis.name] = value_at(axis, trial.suggest_int(axis.path, 0, axis.count - 1))
        else:
            found[axis.name] = quantile(axis, trial.suggest_float(axis.path, _EDGE, 1 - _EDGE))
    return found


def _distribution(optuna: Any, axis: Axis) -> Any:
    """What Optuna searches: an option's index, a value's index, or a quantile."""
    if axis.kind == "choice":
        return optuna.distributions.CategoricalDistribution(range(len(axis.options)))
    if axis.count is not None:
        return optuna.distributions.IntDistribution(0, axis.count - 1)
    return optuna.distributions.FloatDistribution(_EDGE, 1 - _EDGE)


def _tell(optuna: Any, study: Any, space: Space, trial: TrialResult) -> None:
    """Nothing is told of a trial whose parameters are not of this space."""
    params = dict(_coordinates(space, trial.parameters))
    if any(at is None for at in params.values()):
        return
    axes = {axis.path: axis for axis in every_axis(space)}
    distributions = {path: _distribution(optuna, axes[path]) for path in params}
    states, told = optuna.trial.TrialState, dict[str, Any]()
    finite = trial.value is not None and math.isfinite(trial.value)
    if trial.state == "Completed" and finite:
        told = {"state": states.COMPLETE, "value": trial.value}
    elif trial.state == "Canceled" and finite:
        told = {"state": states.PRUNED, "intermediate_values": {trial.reports: trial.value}}
    else:
        told = {"state": states.FAIL if trial.ended else states.RUNNING}
    study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, **told))


def _coordinates(space: Space, parameters: Mapping[str, Value]) -> Iterator[tuple[str, int | float | None]]:
    for axis in space:
        value = parameters.get(axis.name)
        if axis.kind == "choice":
            at = next((n for n, (each, *_) in enumerate(axis.options) if repr(each) == repr(value)), None)
            yield axis.path, at
            if at is not None:
                yield from _coordinates(axis.options[at][1], parameters)
        elif axis.count is not None:
            yield axis.path, on_axis(axis, parameters)[0]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield axis.path, min(max(position(axis, value), _EDGE), 1 - _EDGE)
        else:
            yield axis.path, None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise UsageError(
            "Bayesian sampling needs Optuna, which is not installed",
            hint="pip install 'hpcrun-toolkit[sweeps]'; or write sampling: sobol, which needs nothing.",
        ) from None
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Optuna tells of every study and warns of what it calls experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
