"""Many small trials in one job: how many, on how many nodes, and how many of them at a time."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from hpcrun.models.base import Count, Model
from hpcrun.models.run import ScriptRunConfig


class Pack(Model):
    """Trials of a sweep that share one job: ``at_once`` of them run at a time on each of ``nodes`` nodes.

    ``trials`` go into one job at most; left out, all that are submitted together. What the run asks of the
    scheduler is for one trial, but for its time: ``resources.time`` is the time of the whole job.
    """

    at_once: Annotated[int, Field(ge=1, le=1024)]
    nodes: Annotated[int, Field(ge=1, le=10_000)] = 1
    trials: Count | None = None

    # Values are taken as people write them; type checkers should not ask for ours.
    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    @property
    def size(self) -> int:
        """How many run at a time."""
        return self.nodes * self.at_once

    def shape(self, trials: int) -> tuple[int, int]:
        """Nodes, and processes on each of them, for so many trials: no more than they need."""
        per_node = min(self.at_once, trials)
        return min(self.nodes, -(-trials // per_node)), per_node


def unfit(run: ScriptRunConfig) -> list[str]:
    """Why a run cannot be one of several in a job: empty for most."""
    found = []
    if run.distributed_job_config is not None:
        found.append("each trial of a pack is one process: it has no distributed_job_config")
    for name in ("nodes", "tasks_per_node"):
        if (getattr(run.resources, name) or 1) > 1:
            found.append(f"each trial of a pack is one process: leave resources.{name} out")
    if run.requeue is not None:
        found.append("a trial of a pack is not queued again by itself: leave requeue out")
    if run.secrets:
        found.append("the trials of a pack have no secrets yet: leave secrets, or pack, out")
    if run.after:
        found.append("a pack waits for no other run yet: leave after, or pack, out")
    if run.environment.apptainer is not None:
        words = "the trials of a pack do not run in containers yet"
        found.append(f"{words}: leave environment.apptainer, or pack, out")
    return found
