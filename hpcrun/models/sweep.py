"""Many runs over a search space: what a sweep is, from Python or from a file's ``sweep:``.

Argument names are those of Azure ML's HyperDriveConfig.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator

from hpcrun.models.base import Count, Line, Model, Origins
from hpcrun.models.earlier import _id
from hpcrun.models.expressions import Expression, Space, every
from hpcrun.models.pack import Pack, unfit
from hpcrun.models.policies import NoTerminationPolicy, Policy, PolicyField, PolicySection
from hpcrun.models.run import ScriptRunConfig
from hpcrun.quoting import is_variable_name

LONGEST = 10080
"""Minutes that a sweep may take where nothing is said: a week."""

MOST_DIMENSIONS = 64
"""Hyperparameters that Sobol's sequence has dimensions for."""


class PrimaryMetricGoal(str, Enum):
    """Whether more of the primary metric is better, or less."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


def _named(space: Any) -> Any:
    if not space:
        raise ValueError("is empty: name at least one hyperparameter")
    return space


Goal = Literal["maximize", "minimize"]
PassAs = Literal["arguments", "variables", "file"]
SearchSpace = Annotated[Space, AfterValidator(_named)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
EarlierSweeps = list[Annotated[Line, Field(min_length=1), BeforeValidator(_id)]]


class GridParameterSampling(Model):
    """Every combination of options, the last hyperparameter's changing first. Takes choices alone."""

    parameter_space: SearchSpace

    def __init__(self, parameter_space: Mapping[str, Expression] | None = None, **more: object) -> None:
        super().__init__(parameter_space=parameter_space, **more)


class RandomParameterSampling(Model):
    """Each value drawn at random; by ``rule="sobol"`` evenly spread over the space."""

    parameter_space: SearchSpace
    seed: Seed | None = None
    rule: Literal["random", "sobol"] = "random"

    def __init__(self, parameter_space: Mapping[str, Expression] | None = None, **more: object) -> None:
        super().__init__(parameter_space=parameter_space, **more)


class BayesianParameterSampling(Model):
    """Each trial where the earlier ones promise most, by Optuna's tree-structured Parzen estimator."""

    parameter_space: SearchSpace
    seed: Seed | None = None

    def __init__(self, parameter_space: Mapping[str, Expression] | None = None, **more: object) -> None:
        super().__init__(parameter_space=parameter_space, **more)


Sampling = GridParameterSampling | RandomParameterSampling | BayesianParameterSampling


class SweepSection(Model):
    """A sweep: many runs over a search space.

    ``space`` are the hyperparameters by their names. ``metric`` is what the script logs for each trial, and
    ``goal`` whether more of it is better, or less.
    """

    space: SearchSpace
    sampling: Literal["random", "grid", "bayesian", "sobol"] = "random"
    seed: Seed | None = None
    metric: Annotated[Line, Field(min_length=1)]
    goal: Goal
    max_total_runs: Count | None = None
    max_concurrent_runs: Count | None = None
    max_duration_minutes: Count = LONGEST
    policy: PolicyField | None = None
    resume_from: EarlierSweeps = []
    pass_as: PassAs = "arguments"
    give_up_after: Count | None = 10
    pack: Pack | None = None

    # Values are taken as people write them; type checkers should not ask for ours.
    def __init__(self, **values: object) -> None:
        super().__init__(**values)


class SweepConfig(Model):
    """What to run, over which hyperparameters, and towards what.

    Left out, ``max_total_runs`` is the size of the grid; other samplings need it. ``max_concurrent_runs``
    left out means all at once. After ``max_duration_minutes`` what still runs is canceled. ``resume_from``
    are earlier sweeps: their trials are not run again, and Bayesian sampling learns from them.
    ``pass_as`` says how values reach the script: as ``--name value``, as environment variables, or in a file.
    When the first ``give_up_after`` trials to end have all failed, the sweep ends, Failed (None: never).
    With ``pack``, many trials run in one job, so many at a time.
    """

    run_config: ScriptRunConfig
    hyperparameter_sampling: Sampling
    primary_metric_name: Annotated[Line, Field(min_length=1)]
    primary_metric_goal: PrimaryMetricGoal
    policy: Policy = Field(default_factory=NoTerminationPolicy)
    max_total_runs: Count | None = None
    max_concurrent_runs: Count | None = None
    max_duration_minutes: Count = LONGEST
    resume_from: EarlierSweeps = []
    pass_as: PassAs = "arguments"
    give_up_after: Count | None = 10
    pack: Pack | None = None
    _origins: Origins = PrivateAttr(default_factory=Origins)

    # Values are taken as people write them; type checkers should not ask for ours.
    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @model_validator(mode="before")
    @classmethod
    def _as_azure(cls, values: Any) -> Any:
        if isinstance(values, dict):
            if values.get("policy", ...) is None:
                values = {key: value for key, value in values.items() if key != "policy"}
            if isinstance(goal := values.get("primary_metric_goal"), str) and goal.lower() in Goal.__args__:  # type: ignore[attr-defined]
                values = {**values, "primary_metric_goal": PrimaryMetricGoal(goal.lower())}
            if isinstance(before := values.get("resume_from"), str):
                values = {**values, "resume_from": [before]}
        return values

    @model_validator(mode="after")
    def _possible(self) -> SweepConfig:
        for path, message in contradictions(self.section, self.run_config):
            raise ValueError(f"{'.'.join(map(str, path))}: {message}")
        return self

    @property
    def space(self) -> Mapping[str, Expression]:
        """The hyperparameters by their names."""
        return self.hyperparameter_sampling.parameter_space

    @property
    def seed(self) -> int | None:
        """What the sampling was given; None where the sweep's own id stands in for it."""
        return getattr(self.hyperparameter_sampling, "seed", None)

    @property
    def section(self) -> SweepSection:
        """The same, without the run, as it stands in a file below ``sweep:``."""
        sampling = self.hyperparameter_sampling
        named = {GridParameterSampling: "grid", BayesianParameterSampling: "bayesian"}
        return SweepSection(
            space=dict(self.space),
            sampling=named.get(type(sampling)) or getattr(sampling, "rule", "random"),
            **({} if self.seed is None else {"seed": self.seed}),
            metric=self.primary_metric_name,
            goal=self.primary_metric_goal.value,
            **(
                {}
                if isinstance(self.policy, NoTerminationPolicy)
                else {"policy": PolicySection.of(self.policy)}
            ),
            **{name: getattr(self, name) for name in _SAME if name in self.model_fields_set},
        )

    @classmethod
    def of(cls, section: SweepSection, run_config: ScriptRunConfig) -> SweepConfig:
        """The sweep that a file's section means. Raises ValueError where they cannot be together."""
        sampling: Sampling
        if section.sampling == "grid":
            sampling = GridParameterSampling(section.space)
        elif section.sampling == "bayesian":
            sampling = BayesianParameterSampling(section.space, seed=section.seed)
        else:
            sampling = RandomParameterSampling(section.space, seed=section.seed, rule=section.sampling)
        return cls(
            run_config=run_config,
            hyperparameter_sampling=sampling,
            primary_metric_name=section.metric,
            primary_metric_goal=PrimaryMetricGoal(section.goal),
            policy=NoTerminationPolicy() if section.policy is None else section.policy.policy,
            **{name: getattr(section, name) for name in _SAME if name in section.model_fields_set},
        )


_SAME = (
    "max_total_runs",
    "max_concurrent_runs",
    "max_duration_minutes",
    "resume_from",
    "pass_as",
    "give_up_after",
    "pack",
)
"""Fields that the section and the configuration both have."""

HyperDriveConfig = SweepConfig


def contradictions(
    section: SweepSection, run: ScriptRunConfig | None = None
) -> list[tuple[tuple[str | int, ...], str]]:
    """What cannot be together in a sweep: the path in its section, and why."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    every_one = list(every(section.space, ("space",)))
    if section.sampling == "grid":
        for path, _, expression in every_one:
            if expression.kind != "choice":
                words = f"a grid takes choice alone, and has no end with {expression.kind}"
                found.append((path, f"{words}: write choice: [...], or sampling: random"))
        if section.seed is not None:
            found.append((("seed",), "a grid is the same every time, and takes no seed"))
    elif section.max_total_runs is None:
        found.append((("sampling",), f"{section.sampling} has no end of its own: say max_total_runs"))
    if section.sampling == "sobol" and len(every_one) > MOST_DIMENSIONS:
        words = f"sobol takes {MOST_DIMENSIONS} hyperparameters at most, and these are {len(every_one)}"
        found.append((("sampling",), f"{words}: write random"))
    found += _twice(section.space, ("space",), frozenset())
    if section.pass_as == "variables":
        for path, name, _ in every_one:
            if not is_variable_name(name):
                words = "is not a name that a shell can export, as pass_as: variables asks"
                found.append((path, f"{name} {words} (letters, digits, _; not a digit first)"))
    if run is not None:
        found += _no_way_in(section, run)
    if run is not None and section.pack is not None:
        found += [(("pack",), words) for words in unfit(run)]
    return found


def _twice(
    space: Mapping[str, Expression], path: tuple[str | int, ...], taken: frozenset[str]
) -> list[tuple[tuple[str | int, ...], str]]:
    """Names within an option that would be there a second time. Two options of one choice may share one."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    above = taken | space.keys()
    for name, expression in space.items():
        beside = frozenset(
            inner
            for other, each in space.items()
            if other != name
            for option in each.options
            for _, inner, _ in every(option.space)
        )
        for index, option in enumerate(expression.options):
            here = (*path, name, "choice", index, "space")
            for inner in option.space:
                if inner in above | beside:
                    words = f"{inner} is a hyperparameter already, where {name} is {option.value}"
                    found.append(((*here, inner), f"{words}: give one of the two another name"))
            found += _twice(option.space, here, above | beside)
    return found


def _no_way_in(section: SweepSection, run: ScriptRunConfig) -> list[tuple[tuple[str | int, ...], str]]:
    if run.function is not None:
        return [(("space",), "a sweep goes with a script or a command, not with a function")]
    if section.pass_as == "variables" and (both := sorted(run.secrets.keys() & section.space.keys())):
        return [(("space", both[0]), f"secrets has {both[0]} too: keep one")]
    if section.pass_as == "arguments" and isinstance(run.command, str):
        words = "a command given as text takes no arguments: give it as a list, or write"
        return [(("pass_as",), f"{words} pass_as: variables (or file)")]
    return []
