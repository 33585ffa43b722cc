"""How long a run may run, and when it is queued again: for the job script, and for its directives."""

from __future__ import annotations

from typing import Any

from hpcrun.models.run import ScriptRunConfig
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, ShellWord
from hpcrun.units import Duration

_BY_SLURM = {"preempted", "node_fail"}
"""Causes after which Slurm itself queues a job again, if it may."""


def time_limit(config: ScriptRunConfig) -> Duration | None:
    """What is asked of the scheduler, for each attempt: the shorter of ``resources.time`` and
    ``max_run_duration_seconds``; a run that is queued again after its time limit may take longer in all."""
    limits = [config.resources.time, config.max_run_duration_seconds]
    if limits[0] is None and config.requeue is not None and "timeout" in config.requeue.on:
        return None
    given = [Duration(limit) for limit in limits if limit is not None]
    return min(given) if given else None


def limits(config: ScriptRunConfig, site: Site) -> dict[str, Any]:
    """What templates find of it as ``job``. On this machine the script itself says when a time limit is near
    (``attempt_limit``); Slurm sends a signal."""
    requeue, limit = config.requeue, time_limit(config)
    seconds = requeue.seconds if requeue else 0
    return {
        "minded": requeue is not None or config.max_run_duration_seconds is not None,
        "max_run": config.max_run_duration_seconds or 0,
        "attempt_limit": int(limit) if requeue and limit and site.scheduler.type == "local" else 0,
        "requeue": requeue is not None,
        "requeue_on": ShellWord(" ".join(requeue.on if requeue else [])),
        "requeue_max": requeue.max if requeue else 0,
        "requeue_signal": ShellText.trusted(requeue.signal_name if requeue else ""),
        "requeue_seconds": seconds,
        # What the scheduler needs for it, before the time limit itself ends the job for good.
        "requeue_patience": max(1, seconds - min(30, max(1, seconds // 4))),
        "requeue_switch": int(bool(requeue and _BY_SLURM & set(requeue.on))),
    }


def mail_options(config: ScriptRunConfig) -> dict[str, str]:
    """Options of sbatch's that a run's ``notify`` decides on."""
    if config.notify is None or config.notify.mail is None:
        return {}
    return {"mail-user": config.notify.mail, "mail-type": config.notify.mail_types}


def requeue_options(config: ScriptRunConfig) -> dict[str, str | bool]:
    """Options of sbatch's that a run's ``requeue`` decides on, whatever the site has them at.

    The signal goes to the script alone, which passes it on and sees what becomes of it. Where the limit is
    the run's own, the script itself says when it is near: Slurm's signal may come a minute early.
    """
    if config.requeue is None:
        return {}
    again, limit = bool(_BY_SLURM & set(config.requeue.on)), time_limit(config)
    signal = limit is None or limit != config.max_run_duration_seconds
    return {
        "requeue": again,
        "no-requeue": not again,
        "signal": f"B:{config.requeue.signal}" if signal else False,
    }
