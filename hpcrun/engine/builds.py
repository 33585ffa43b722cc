"""Runs whose environment a job of its own makes: how they stand before they begin."""

from __future__ import annotations

from dataclasses import replace

from hpcrun.engine import environments
from hpcrun.engine.decide import Verdict
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.writing import append
from hpcrun.schedulers.base import JobFacts
from hpcrun.states import Reason, RunState
from hpcrun.targets import Targets

TAIL = 65536


def without_environment(
    history: History, targets: Targets, record: RunRecord, facts: JobFacts | None, verdict: Verdict, job: str
) -> Verdict:
    """The verdict on a run that has not begun, and waits for ``job``: Preparing while it does, and Failed
    where the scheduler took it away since that job failed."""
    waits = facts is not None and facts.why.startswith("Dependency")
    if verdict.state is RunState.QUEUED and waits:
        return Verdict(RunState.PREPARING)
    if verdict.state is not RunState.CANCELED or record.state is RunState.CANCEL_REQUESTED:
        return verdict
    made = record.config["environment"]
    log = history.paths.run(record.id).environment_log
    try:
        target = targets.get(record.target.partition(":")[0])
        stand = environments.look(target.shell, made, f"{made['name']}.job-{job}", 0)
        if stand.log:
            append(log, stand.log)
    except (HpcrunError, OSError):
        return verdict
    if stand.word == "failed":
        said = environments.telling(stand.log[-TAIL:].decode("utf-8", "replace"))
        words = f"the {made['title']} could not be made: {said}"
    elif waits:
        words = f"the {made['title']} could not be made: job {job}, which was to make it, did not end well"
    else:
        return verdict
    return replace(verdict, state=RunState.FAILED, reason=Reason.ENVIRONMENT.value, message=words)
