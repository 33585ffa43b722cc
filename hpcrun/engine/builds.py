"""Environments in the making: with no run that waits, and those that jobs of their own make for runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hpcrun.engine import environments
from hpcrun.engine.decide import Verdict
from hpcrun.engine.environments import BEGINNINGS, LOOK, LOOK_FAR, Stand
from hpcrun.errors import CommandError, HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.places.writing import append, private
from hpcrun.schedulers.base import JobFacts, JobRef
from hpcrun.states import Reason, RunState, from_slurm
from hpcrun.targets import Target, Targets

TAIL = 65536


class EnvironmentFailed(CommandError):
    """What was to make an environment failed; the message holds its words."""


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
    failed = False
    try:
        target = targets.get(record.target.partition(":")[0])
        stand = environments.look(target.shell, made, f"{made['name']}.job-{job}", 0)
        failed = waits or (stand.word not in ("ready", "failed") and _ended_badly(target, record, job))
    except HpcrunError:
        return verdict
    if stand.log:
        # A task of an array that never began has made no folder; what is said is told all the same.
        with suppress(OSError), private():
            if not os.path.lexists(log.parent):
                log.parent.mkdir()
            append(log, stand.log)
    if stand.word == "failed":
        said = environments.telling(stand.log[-TAIL:].decode("utf-8", "replace"))
        words = f"the {made['title']} could not be made: {said}"
    elif failed:
        words = f"the {made['title']} could not be made: job {job}, which was to make it, did not end well"
    else:
        return verdict
    return replace(verdict, state=RunState.FAILED, reason=Reason.ENVIRONMENT.value, message=words)


def _ended_badly(target: Target, record: RunRecord, job: str) -> bool:
    """Whether the job that was to make a run's environment has ended without having done so: Slurm may have
    taken the run's own away and kept no word of why. Raises UnreachableError."""
    name = f"hpcrun-{record.config['environment']['name']}"
    ref = JobRef(name, record.run_dir, job, record.submission["began"])
    facts = target.scheduler.query([ref]).facts.get(name)
    state = from_slurm(facts.word) if facts is not None else None
    return state is not None and state[0].final and state[0] is not RunState.COMPLETED


def build(target: Target, made: dict[str, Any], script: str, watch: Callable[[bytes], bool]) -> Stand:
    """Have an environment made, without any run, and wait for it: as long as ``watch``, which is given what
    is said, says so.

    Raises EnvironmentFailed with the words of a build that failed, CommandError.
    """
    said, known, dead = b"", Stand("none"), ""
    seconds = LOOK if target.remote is None else LOOK_FAR
    for _ in range(BEGINNINGS):
        known = environments.begin(target.shell, made, script, dead)
        seen, since, said = 0, time.monotonic(), b""
        while known.word == "building":
            now = environments.look(target.shell, made, known.folder, seen, seconds)
            seen, said = seen + len(now.log), (said + now.log)[-TAIL:]
            if not watch(now.log):
                return now
            if now.wanted and target.remote is not None:
                from hpcrun.engine.bringing import bring

                bring(target.remote, made, script, now, seconds)
                known, since = now, time.monotonic()  # that may have taken long
                continue
            if (now.word, now.folder, now.beat) != (known.word, known.folder, known.beat):
                since = time.monotonic()
                seen = seen if now.folder in ("", known.folder) or now.word != "building" else 0
            known = now
            if now.word == "building" and time.monotonic() - since > environments.DEAD:
                dead = now.folder
                break
        if known.word == "ready":
            return known
        if known.word == "failed":
            words = environments.telling(said.decode("utf-8", "replace"))
            raise EnvironmentFailed(f"the {made['title']} could not be made: {words}")
    raise EnvironmentFailed(f"the {made['title']} could not be made: its builders died without a word")
