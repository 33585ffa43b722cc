"""Trials that share a job: what each of them makes of the job's end, and which are tried again.

Slurm knows of one job alone. So a trial's own word says how it went; what became of the job says it only of
those that have not said how they ended. What such a job is: :mod:`hpcrun.engine.packs`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from hpcrun.engine.decide import WHY_GRACE, Known, Verdict, decide, ended_silently
from hpcrun.history.index import RunRow
from hpcrun.places.status import JobStatus
from hpcrun.schedulers.base import JobFacts
from hpcrun.schedulers.slurmarrays import base_id
from hpcrun.states import Reason, RunState, from_slurm

TURN = "Pack"
"""Why a trial waits whose job has begun: it is to have its turn."""


def decide_packed(known: Known) -> Verdict | None:
    """As :func:`hpcrun.engine.decide.decide`, of a trial whose ``facts`` are those of the job that it shares.

    1. A trial that says how it ended, has ended so, whatever becomes of the job; but not if it was sent TERM:
       then the job was being ended, and it is its scheduler that says why.
    2. While the job goes on, a trial that has said nothing waits for its turn. It never gets it if it was
       canceled before the job began.
    3. A job's end ends the trials that had begun, for its reason. Those that had not are to have another turn
       (NotBegun); but if the job was canceled, and not by hpcrun, they wait to be asked for.
    """
    facts, status = known.facts, known.status
    if status is not None and _ended_itself(status, facts):
        return decide(replace(known, facts=_own(status, facts)))
    word = None if facts is None else from_slurm(facts.word)
    if facts is None or word is None:
        return decide(known)
    asked = known.state is RunState.CANCEL_REQUESTED
    state, reason = word
    if not state.final:
        if state is RunState.QUEUED and asked and status is None:
            return Verdict(RunState.CANCELED, Reason.CANCELED)
        if status is not None or asked or state in (RunState.QUEUED, RunState.PAUSED):
            return decide(known)
        return decide(replace(known, facts=waits_its_turn(facts)))
    if ended_silently(facts, status) and not known.near and known.unseen <= WHY_GRACE:
        return None
    if asked:
        return Verdict(RunState.CANCELED, Reason.CANCELED, ended=facts.ended)
    words = f"the job of its pack, {base_id(facts.job_id)}, {_became(state, reason)}"
    if status is None:
        why = Reason.CANCELED if state is RunState.CANCELED else Reason.NOT_BEGUN
        return Verdict(RunState.FAILED, why, f"{words} before its turn came", ended=facts.ended)
    if state is RunState.COMPLETED or reason is Reason.BAD_EXIT:
        reason = Reason.LOST
    code = status.exit_code if status.ended else None
    return Verdict(RunState.FAILED, reason, f"{words} while it ran", code, facts.ended or status.ended)


def of_the_trial(facts: JobFacts | None, status: JobStatus | None) -> JobFacts | None:
    """What of the facts on a job is to be written down of one of its trials: neither when and where the job
    ran, nor what it took in all."""
    if status is not None and _ended_itself(status, facts):
        return _own(status, facts)
    if facts is None:
        return None
    known = facts if status is not None else waits_its_turn(facts)
    return replace(known, started=None, ended=None, nodes=None, usage=None)


def _ended_itself(status: JobStatus, facts: JobFacts | None) -> bool:
    word = None if facts is None else from_slurm(facts.word)
    well = word is not None and word[0] is RunState.COMPLETED
    return bool(status.ended) and (status.state == "canceled" or status.signal != "TERM" or well)


def waits_its_turn(facts: JobFacts) -> JobFacts:
    """What is said of a job, of one of its trials that has said nothing yet."""
    word = from_slurm(facts.word)
    if word is None or word[0].final or word[0] in (RunState.QUEUED, RunState.PAUSED):
        return facts
    return replace(facts, word="PENDING", why=TURN)


def _own(status: JobStatus, facts: JobFacts | None) -> JobFacts:
    """What a scheduler would say of a trial if it were a job of its own."""
    word = "CANCELLED" if status.state == "canceled" else "COMPLETED" if status.exit_code == 0 else "FAILED"
    return JobFacts(
        status.job_id,
        word,
        exit_code=status.exit_code,
        submitted=facts.submitted if facts is not None else None,
        started=status.started,
        ended=status.ended,
        nodes=status.nodes,
    )


def _became(state: RunState, reason: Reason) -> str:
    if reason is Reason.TIMEOUT:
        return "reached its time limit"
    if state is RunState.CANCELED:
        return "was canceled"
    if state is RunState.COMPLETED:
        return "ended"
    return f"failed ({reason})" if reason not in (Reason.NONE, Reason.BAD_EXIT) else "failed"


def another_turn(every: Collection[RunRow], latest: Mapping[int, tuple[int, RunRow]]) -> dict[int, int]:
    """The trials, of the ``latest`` attempt of each, that are to be tried again by themselves, since their
    turn had not come when the job of their pack ended; and the attempts that they are to have.

    Not where that job got nowhere at all: none of ``every`` run of the sweep's that was in it has ended.
    """
    came = {
        base_id(row.job_id)
        for row in every
        if row.job_id and (row.state is RunState.COMPLETED or row.reason in _OWN_ENDS)
    }
    return {
        number: attempt + 1
        for number, (attempt, row) in latest.items()
        if row.reason == Reason.NOT_BEGUN and row.job_id and base_id(row.job_id) in came
    }


_OWN_ENDS = {Reason.BAD_EXIT.value, Reason.SIGNAL.value, Reason.STOPPED_EARLY.value}
