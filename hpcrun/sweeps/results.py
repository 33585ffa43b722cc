"""What is known of a sweep's trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hpcrun.models.expressions import Value
from hpcrun.states import RunState


@dataclass(frozen=True)
class TrialResult:
    """What is known of a trial: its best value of the primary metric so far, and its run's state.

    The ``number`` of one that belongs to an earlier sweep is below 0. ``reports``: how often it reported the
    metric.
    """

    number: int
    parameters: Mapping[str, Value]
    value: float | None = None
    state: str = "Completed"
    reports: int = 0

    @property
    def ended(self) -> bool:
        """Whether its run has ended."""
        return RunState(self.state).final
