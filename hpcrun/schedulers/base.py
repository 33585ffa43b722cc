"""The seam between hpcrun and whatever runs jobs: three verbs and the facts they give back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hpcrun.errors import SubmissionRejected

AFTER = ("afterok", "afterany", "afternotok")
"""Slurm's words for how the job waited for is to end: well, in any way, otherwise than well."""


@dataclass(frozen=True)
class JobRequest:
    """One job to submit: its script, already in its run folder.

    ``lock_fd`` is the open submit lock; whatever is started to submit inherits it, so that as long as it
    is held, the submission is still under way. ``cpus`` and ``time_limit`` (seconds) matter to the local
    scheduler, which has no directives. ``hidden`` names variables of the submitter that the job does not get.
    ``token`` tells apart the tries to submit this run: with one of them a job is submitted once at most.
    ``after`` is what the job waits for, all of it, each as ``KIND:JOB`` with one of :data:`AFTER`; JOB is a
    job id, or the folder of a run for the local scheduler. A job whose wait is in vain is canceled.
    ``array`` makes it a job array of these tasks, as sbatch takes them: then ``run_id`` is its name, and
    ``run_dir`` a folder of its own, with its script, and for each task a link to its log. ``log`` is where in
    the folder the log of any other job goes, if not where that of a run does.
    """

    run_id: str
    run_dir: Path
    cpus: int = 1
    gpus: int = 0
    time_limit: int | None = None
    lock_fd: int | None = None
    hidden: Sequence[str] = ()
    token: str = "0"
    after: Sequence[str] = ()
    array: str = ""
    log: str = ""


@dataclass(frozen=True)
class JobRef:
    """A job to ask about. ``job_id`` is None where the answer to its submission was lost; ``run_dir`` is
    text, since there may be thousands of them.

    ``since`` is when its submission began (UTC, ISO-8601): nothing older can be it. Of a task of an array,
    ``array`` is the name of the array's job, and ``index`` which of its tasks it is. ``packed``: the job is
    no array, but runs its tasks itself; their ids are made of its id as those of an array's are.
    """

    run_id: str
    run_dir: str
    job_id: str | None
    since: str
    array: str = ""
    index: int = 0
    packed: bool = False


@dataclass(frozen=True)
class JobFacts:
    """What a scheduler said of one job. ``word`` is Slurm's word for its state, whoever said it.

    Times are by the scheduler's clock. ``expected_end`` is when its time limit would end a job that runs.
    ``booked``: from the books, which lag behind the queue, and may call a job running for ever.
    ``expected`` is when the scheduler thinks that a waiting job will start. ``usage`` is what an ended job
    took; its keys say of what and in which unit, and those that nobody measured are not in it:
    ``elapsed_seconds``, ``cpu_seconds`` (of all processes together), ``allocated_cpus``,
    ``allocated_nodes``, ``requested_memory_bytes`` (of the whole job), ``memory_bytes`` (each task's peak,
    added up, of the step that took most), ``max_rss_bytes`` (the peak of the task that took most).
    """

    job_id: str
    word: str
    why: str = ""
    exit_code: int | None = None
    signal: int | None = None
    submitted: str | None = None
    started: str | None = None
    ended: str | None = None
    nodes: str | None = None
    expected: str | None = None
    usage: dict[str, float] | None = None
    expected_end: str | None = None
    booked: bool = False


@dataclass(frozen=True)
class Answer:
    """What became of a query.

    ``facts`` by run id; a run that is not in it was not known to those that answered. ``queue`` tells
    whether the queue answered, ``complete`` whether all that could know the job did; ``trouble`` says who
    did not and why.
    """

    facts: dict[str, JobFacts] = field(default_factory=dict)
    queue: bool = True
    complete: bool = True
    trouble: str = ""


class SubmissionPostponed(SubmissionRejected):
    """A refusal that passes: a limit on what may be queued, a controller that does not answer.

    ``fewer``: fewer jobs might be taken now.
    """

    def __init__(self, message: str, *, hint: str | None = None, fewer: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.fewer = fewer


class Scheduler(Protocol):
    def submit(self, request: JobRequest) -> str:
        """The new job's id. Raises SubmissionRejected (nothing is queued) or SubmissionAmbiguous."""
        ...

    def query(self, jobs: Sequence[JobRef]) -> Answer:
        """Facts on any number of jobs, by a fixed number of commands. Never raises for trouble out there, but
        UnreachableError where the machine that has the scheduler's commands is not to be reached."""
        ...

    def cancel(self, jobs: Sequence[JobRef]) -> None:
        """Ask for the end of these jobs; those that have ended already do not matter."""
        ...
