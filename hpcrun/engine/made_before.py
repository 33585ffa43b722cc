"""An environment that many runs share, made before any of them is submitted."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpcrun.engine import environments
from hpcrun.engine.builds import build
from hpcrun.engine.prepare import Plan, told
from hpcrun.errors import CommandError, SubmissionRejected, UnreachableError
from hpcrun.schedulers.base import SubmissionPostponed
from hpcrun.schedulers.slurmtext import not_now, too_many
from hpcrun.targets import Targets

PATIENCE = 90.0
"""Seconds that one step of a sweep waits for an environment: longer than a builder may show no life."""


def made_before(targets: Targets, plan: Plan, go_on: Callable[[], bool]) -> str | None:
    """Have the environment that many runs share made before they are submitted: the job that makes it, after
    which they are to come; None once it is there, or where none has to be made.

    It is waited for as long as ``go_on`` says so, and no longer than :data:`PATIENCE`: then, as where the
    scheduler does not take the job now, SubmissionPostponed. Raises SubmissionRejected with the words of a
    build that failed, UnreachableError.
    """
    if plan.made is None or plan.builder is None:
        return None
    made, target = told(plan.made, plan.target.site), targets.get(plan.target.name)
    began = time.monotonic()
    try:
        if made["job"]:
            stand = environments.begin_job(target.shell, made, plan.builder)
            return stand.folder if stand.word == "job" else None
        stand = build(
            target, made, plan.builder, lambda said: go_on() and time.monotonic() - began < PATIENCE
        )
    except UnreachableError:
        raise
    except CommandError as exc:
        if too_many(exc.message) or not_now(exc.message):
            raise SubmissionPostponed(exc.message, hint=exc.hint) from exc
        raise SubmissionRejected(exc.message, hint=exc.hint) from exc
    if stand.word != "ready":
        raise SubmissionPostponed(f"the {made['title']} is being made")
    return None
