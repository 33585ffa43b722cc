"""Sweeps for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcrun.models.expressions import Expression
from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.sweep import (
    BayesianParameterSampling,
    GridParameterSampling,
    PrimaryMetricGoal,
    RandomParameterSampling,
    SweepConfig,
)
from hpcrun.sweeps.results import TrialResult
from hpcrun.sweeps.sampling import propose

Space = Mapping[str, Expression]


def sweep(space: Space, sampling: str = "random", most: int | None = 20, **more: Any) -> SweepConfig:
    """A sweep over ``space``; ``most`` is max_total_runs."""
    seed = {"seed": more.pop("seed")} if "seed" in more else {}
    kinds: dict[str, Any] = {
        "grid": lambda: GridParameterSampling(space),
        "random": lambda: RandomParameterSampling(space, **seed),
        "sobol": lambda: RandomParameterSampling(space, rule="sobol", **seed),
        "bayesian": lambda: BayesianParameterSampling(space, **seed),
    }
    return SweepConfig(
        run_config=more.pop("run_config", None) or ScriptRunConfig(".", "train.py"),
        hyperparameter_sampling=kinds[sampling](),
        primary_metric_name="loss",
        primary_metric_goal=more.pop("goal", PrimaryMetricGoal.MINIMIZE),
        max_total_runs=most,
        **more,
    )


def trials(
    config: SweepConfig, count: int, start: int = 0, known: Sequence[TrialResult] = ()
) -> list[dict[str, Any]]:
    """What the sweep's trials get, with ``s`` for the sweep's id."""
    return [dict(each) for each in propose(config, "s", known, start, count)]
