"""What a run's state is, from all that is known: the one written rule, as a pure function.

Two speak of a run: the scheduler (its word for the job) and the job itself (status.json).

1. While the queue's word is not final, it says where the run stands; the job refines Running (Starting
   until its payload has begun). The books (accounting) lag behind: only a word of theirs that ends a run
   counts, and only once the queue has answered, and no longer has the job.
2. A word of the scheduler that ends a run ends it, and gives the reason: only the scheduler knows of time
   limits, memory and nodes. The exit code is the payload's own, from status.json, where it was recorded.
   Except: where the job itself says why it was ended (a limit of the run's own, a time limit that was near),
   that is the reason. And: a payload recorded as ended well, with no signal received, has ended well,
   whatever befell the node or a cancel that came too late. And: file systems of networks show late what was
   written; before a job that left no word is said to have run nothing, its word is waited for.
3. Where the scheduler does not know the job, or cannot be asked, status.json decides if it says that the
   payload ended well; if it says that it failed, or that it was sent a signal, the scheduler is given some
   time to say why.
4. Absence is never a state. A job that nobody knows of, and that said nothing itself, keeps its state until
   the grace is over; then it is Failed, with reason Lost.
5. An unknown word changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from hpcrun.places.status import JobStatus
from hpcrun.schedulers.base import JobFacts
from hpcrun.states import Reason, RunState, from_slurm

WHY_GRACE = 15.0
"""Seconds that the scheduler is given to say why a job failed (sacct lags by five), and that the word of a
job that has ended is waited for."""

LOST_GRACE = 120.0
"""Seconds after which a job that nobody knows of is given up."""


@dataclass(frozen=True)
class Verdict:
    """Where a run stands. ``exit_code`` and ``ended`` only matter at its end."""

    state: RunState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    ended: str | None = None


@dataclass(frozen=True)
class Known:
    """All that was found out about one run.

    ``status`` is None unless it is of the run's own job. ``queue``: the queue was asked, and answered;
    ``answered``: so did all else that could know the job. ``unseen`` is for how many seconds nobody has
    known the job, or has known more than that it ended. ``near``: the job writes to this machine's own disk,
    where what cannot be seen is not there. ``task``: the job is a task of an array.
    """

    state: RunState
    facts: JobFacts | None
    status: JobStatus | None
    queue: bool
    answered: bool
    unseen: float
    near: bool = False
    task: bool = False


def decide(known: Known) -> Verdict | None:
    """The verdict, or None where nothing new can be said."""
    facts, status = believed(known.facts), known.status
    word = from_slurm(facts.word) if facts is not None else None
    if facts is not None and word is not None:
        state, reason = word
        if state.final:
            if ended_silently(facts, status) and not known.near and known.unseen <= WHY_GRACE:
                return None
            said = _as_the_job_says(known, facts)
            return said or _scheduler_ended(state, reason, facts, status)
        return _under_way(known.state, state, reason, facts, status)
    if status is not None and status.ended is not None and status.state != REQUEUED:
        return _job_ended(known, status)
    if facts is not None:  # a word from a later Slurm
        return None
    if status is not None and not known.queue:
        return _job_began(known.state, status)
    if known.answered and known.unseen > _grace(known):
        if known.state is RunState.CANCEL_REQUESTED:
            return Verdict(RunState.CANCELED, Reason.CANCELED)
        return Verdict(
            RunState.FAILED, Reason.LOST, "the scheduler no longer knows the job, and the job left no word"
        )
    return None


def _grace(known: Known) -> float:
    """Slurm keeps nothing of a task of an array that was canceled while it waited (seen on 24.11)."""
    canceled = known.task and known.state is RunState.CANCEL_REQUESTED and known.status is None
    return WHY_GRACE if canceled else LOST_GRACE


def believed(facts: JobFacts | None) -> JobFacts | None:
    """The facts, unless the books say of a job, which the queue does not have, that it goes on."""
    if facts is None or not facts.booked:
        return facts
    word = from_slurm(facts.word)
    return facts if word is None or word[0].final else None


def ended_silently(facts: JobFacts | None, status: JobStatus | None) -> bool:
    """Whether the scheduler says that the job ran to an end, and the job has said nothing (that is seen)."""
    word = from_slurm(facts.word) if facts is not None else None
    return status is None and word in (from_slurm("COMPLETED"), from_slurm("FAILED"))


def _ended_well(status: JobStatus | None) -> bool:
    if status is None or status.state in _SAYS_WHY or status.state == REQUEUED:
        return False
    return status.ended is not None and status.exit_code == 0 and not status.signal


REQUEUED = "requeued"
"""What a job says of an attempt after which it goes back to the queue."""

_SAYS_WHY = {
    "exceeded": (RunState.CANCELED, Reason.TIMEOUT),
    "timeout": (RunState.FAILED, Reason.TIMEOUT),
    "preempted": (RunState.FAILED, Reason.PREEMPTED),
    "node_fail": (RunState.FAILED, Reason.NODE_FAIL),
}
"""Ends that the job knows the reason of better than its scheduler, which may only have seen it end."""


def _as_the_job_says(known: Known, facts: JobFacts | None) -> Verdict | None:
    status = known.status
    if status is None or status.ended is None or status.state not in _SAYS_WHY:
        return None
    if known.state is RunState.CANCEL_REQUESTED:
        return None
    state, reason = _SAYS_WHY[status.state]
    ended = (facts.ended if facts is not None else None) or status.ended
    return Verdict(state, reason, status.message, status.exit_code, ended)


def _scheduler_ended(
    state: RunState, reason: Reason, facts: JobFacts, status: JobStatus | None
) -> Verdict | None:
    ended = facts.ended or (status.ended if status else None)
    recorded = status.exit_code if status is not None and status.ended is not None else None
    code = facts.exit_code if recorded is None else recorded
    if _ended_well(status):
        return Verdict(RunState.COMPLETED, exit_code=0, ended=ended)
    if state is RunState.COMPLETED:
        if status is None:
            return Verdict(
                RunState.FAILED,
                Reason.LAUNCH_FAILED,
                "the job ended without having run anything: see system_logs/job.txt",
                code,
                ended,
            )
        if code:
            return Verdict(RunState.FAILED, Reason.BAD_EXIT, _said(status, code), code, ended)
        return Verdict(RunState.COMPLETED, exit_code=0, ended=ended)
    if reason is Reason.BAD_EXIT:
        return _failed(status, facts, code, ended)
    # Slurm's books give a job whose node is lost a code, 1, that nothing of it ended with.
    words = _said(status, recorded if reason is Reason.NODE_FAIL else code)
    return Verdict(state, reason, words, code, ended)


def _failed(status: JobStatus | None, facts: JobFacts, code: int | None, ended: str | None) -> Verdict:
    if status is not None and status.stage == "environment":
        return Verdict(RunState.FAILED, Reason.ENVIRONMENT, status.message, code, ended)
    if status is not None and status.stage == "launch":
        return Verdict(RunState.FAILED, Reason.LAUNCH_FAILED, status.message, code, ended)
    if status is None:
        known = [f"exit code {code}"] if code is not None else []
        known += [f"signal {facts.signal}"] if facts.signal else []
        words = "the job failed before it could begin" + (f" ({', '.join(known)})" if known else "")
        return Verdict(RunState.FAILED, Reason.LAUNCH_FAILED, words, code, ended)
    if not code and facts.signal:  # the script was killed, too, and wrote no code down
        code = 128 + facts.signal
    reason = Reason.SIGNAL if _is_signal(code) else Reason.BAD_EXIT
    return Verdict(RunState.FAILED, reason, _said(status, code), code, ended)


def _said(status: JobStatus | None, code: int | None) -> str:
    if status is not None and status.message:
        return status.message
    if not code:
        return ""
    return f"ended by signal {code - 128}" if _is_signal(code) else f"the payload ended with exit code {code}"


def _is_signal(code: int | None) -> bool:
    """Whether a shell's exit code stands for a signal; 255, say, is a code of the program's own."""
    return code is not None and 128 < code <= 192


def _under_way(
    old: RunState, state: RunState, reason: Reason, facts: JobFacts, status: JobStatus | None
) -> Verdict | None:
    if old is RunState.CANCEL_REQUESTED:
        return None
    if state is RunState.QUEUED:
        return Verdict(state, facts.why or reason.value)
    if state is RunState.RUNNING and (status is None or status.stage != "payload"):
        return Verdict(RunState.STARTING)
    if state is RunState.RUNNING and _ended_well(status):
        return Verdict(RunState.FINALIZING)
    return Verdict(state, reason)


def _job_ended(known: Known, status: JobStatus) -> Verdict | None:
    if _ended_well(status):
        return Verdict(RunState.COMPLETED, exit_code=0, ended=status.ended)
    said = _as_the_job_says(known, None)
    if said is not None and known.queue:
        return said
    if not known.queue or known.unseen <= WHY_GRACE:
        return None
    if known.state is RunState.CANCEL_REQUESTED:
        return Verdict(RunState.CANCELED, Reason.CANCELED, exit_code=status.exit_code, ended=status.ended)
    if status.exit_code == 0:
        return Verdict(RunState.COMPLETED, exit_code=0, ended=status.ended)
    unknown = JobFacts(status.job_id, "FAILED")
    return _failed(status, unknown, status.exit_code, status.ended)


def _job_began(state: RunState, status: JobStatus) -> Verdict | None:
    if state in (RunState.NOT_STARTED, RunState.QUEUED, RunState.STARTING):
        return Verdict(RunState.RUNNING if status.stage == "payload" else RunState.STARTING)
    return None
