"""When a sweep stops trials that lag behind: Azure ML's policies, and ASHA."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictFloat, StrictInt, model_validator

from hpcrun.models.base import Count, Model, OneOf


def _slack(value: float) -> float:
    if not math.isfinite(value) or value < 0:
        raise ValueError("expected a number of at least 0")
    return value


Slack = Annotated[StrictInt | StrictFloat, AfterValidator(_slack)]
Intervals = Annotated[int, Field(ge=0, le=1_000_000)]


class BanditPolicy(Model):
    """Stops trials that are further from the best than a slack: a ratio, or an amount.

    One report of the primary metric is one interval. The policy is applied at the multiples of
    ``evaluation_interval`` that are at least ``delay_evaluation``.
    """

    slack_factor: Slack | None = None
    slack_amount: Slack | None = None
    evaluation_interval: Count = 1
    delay_evaluation: Intervals = 0

    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @model_validator(mode="after")
    def _one(self) -> BanditPolicy:
        if self.slack_factor is not None and self.slack_amount is not None:
            raise ValueError("slack_factor and slack_amount exclude each other: keep one")
        if self.slack_factor is None and self.slack_amount is None:
            raise ValueError("expected slack_factor (a ratio) or slack_amount")
        return self


class MedianStoppingPolicy(Model):
    """Stops trials whose best is worse than the median of all trials' running averages."""

    evaluation_interval: Count = 1
    delay_evaluation: Intervals = 0

    def __init__(self, **values: object) -> None:
        super().__init__(**values)


class TruncationSelectionPolicy(Model):
    """Stops trials that are among the lowest so many percent."""

    truncation_percentage: Annotated[int, Field(ge=1, le=99)]
    evaluation_interval: Count = 1
    delay_evaluation: Intervals = 0
    exclude_finished_jobs: bool = False

    def __init__(self, **values: object) -> None:
        super().__init__(**values)


class NoTerminationPolicy(Model):
    """Stops no trial."""


class AshaPolicy(Model):
    """Asynchronous successive halving: of those that come to a rung, the best go on.

    The rungs are at ``min_resource`` intervals, and each at ``reduction_factor`` times the one before, below
    ``max_resource``.
    """

    reduction_factor: Annotated[int, Field(ge=2, le=1000)] = 4
    min_resource: Count = 1
    max_resource: Count | None = None

    def __init__(self, **values: object) -> None:
        super().__init__(**values)


Policy = BanditPolicy | MedianStoppingPolicy | TruncationSelectionPolicy | NoTerminationPolicy | AshaPolicy


def _named(value: Any) -> Any:
    """``median_stopping``, or that with nothing below it, is the policy as it is by default."""
    if isinstance(value, str):
        return {value: {}}
    if isinstance(value, dict):
        return {name: {} if policy is None else policy for name, policy in value.items()}
    return value


class PolicySection(OneOf):
    """One policy, by its name."""

    bandit: BanditPolicy | None = None
    median_stopping: MedianStoppingPolicy | None = None
    truncation_selection: TruncationSelectionPolicy | None = None
    asha: AshaPolicy | None = None
    no_termination: NoTerminationPolicy | None = None

    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @classmethod
    def of(cls, policy: Policy) -> PolicySection:
        """The section that says this policy."""
        for name, info in cls.model_fields.items():
            if type(policy) in info.annotation.__args__:  # type: ignore[union-attr]
                return cls(**{name: policy})
        raise TypeError(f"not a policy: {policy!r}")

    @property
    def policy(self) -> Policy:
        """The one that is said."""
        given: Policy = next(
            value for name in type(self).model_fields if (value := getattr(self, name)) is not None
        )
        return given


PolicyField = Annotated[PolicySection, BeforeValidator(_named)]
