"""What one look makes of a run's record: its state, its attempts, its times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpcrun.engine import tracked
from hpcrun.engine.before import unmet
from hpcrun.engine.builds import without_environment
from hpcrun.engine.clocks import apart, later, seconds_since
from hpcrun.engine.decide import Known, Verdict, believed, decide, ended_silently
from hpcrun.engine.ends import as_it_was, ended_for_memory, files_seen
from hpcrun.engine.measured import take_in
from hpcrun.engine.packed import decide_packed, of_the_trial
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord, utc_now
from hpcrun.history.store import History
from hpcrun.places.refs import is_packed
from hpcrun.places.status import JobStatus, read_attempt, read_status
from hpcrun.schedulers.base import Answer, JobFacts
from hpcrun.states import Reason, RunState, from_slurm, may_move
from hpcrun.targets import Targets

LONG_AGO = 3600.0
"""Seconds after which a job's end is past whatever the clocks, which differ by minutes, say."""

UNSEEN = "the scheduler does not show the job"
"""Said of a run, where nothing else is, while that is so."""

_NODES_APART = 5.0
"""Seconds that a node's clock may be behind the scheduler's; more is taken for a start before a requeue."""


def update(history: History, targets: Targets, record: RunRecord, answer: Answer) -> None:
    """Bring a run that has not ended up to what its scheduler and its own job say. Raises HistoryError."""
    paths = history.seen(record)
    status = _status(record, paths)
    facts = answer.facts.get(record.id)
    if facts is not None and facts.job_id != record.job_id:
        facts = None  # a second job of the same name, submitted by hand: it leaves by itself
    facts = believed(facts)
    judge = decide_packed if is_packed(record) else decide
    verdict = judge(
        Known(
            state=record.state,
            facts=facts,
            status=status,
            queue=answer.queue,
            answered=answer.complete,
            unseen=_unseen(record, status),
            near=record.scheduler == "local",
            task="array" in record.submission,
        )
    )
    if is_packed(record):
        facts = of_the_trial(facts, status)
    if verdict is not None and verdict.reason == Reason.SIGNAL and ended_for_memory(paths):
        verdict = replace(verdict, reason=Reason.OUT_OF_MEMORY)
    if verdict is not None and verdict.state is RunState.CANCELED and status is None and record.after:
        verdict = _in_vain(history, record, facts, verdict)
    job = record.submission.get("environment", {}).get("job")
    if verdict is not None and job and status is None:
        verdict = without_environment(history, targets, record, facts, verdict, job)
    if verdict is not None and verdict.state.final:
        files_seen(paths)

    def change(r: RunRecord) -> None:
        if r.state.final or r.outcome is not None:
            return  # another process was quicker
        _note_attempt(r, status, facts)
        _note_sight(r, status, facts, answer)
        if facts is not None:
            _note_clocks(r, status, facts)
        if verdict is not None:
            _apply(r, verdict, status, facts)

    if verdict is not None and verdict.state.final:
        # Before it is written down: nobody looks at a run again that has ended.
        targets.forget_secrets(history, record)
        if record.host is None:
            take_in(history, record)
            tracked.take_in(history, record, verdict.state)
    history.update(record.id, change)


def _in_vain(history: History, record: RunRecord, facts: JobFacts | None, verdict: Verdict) -> Verdict:
    """The end of a job that never began, by whom: the scheduler, if what it waited for cannot come true."""
    if record.state is RunState.CANCEL_REQUESTED:
        return verdict
    why = unmet(record, history.get)
    if not why and facts is not None and facts.why.startswith("Dependency"):
        why = "the scheduler says that what it waits for cannot come true"
    return replace(verdict, reason=Reason.DEPENDENCY, message=why) if why else verdict


def _status(record: RunRecord, paths: RunPaths) -> JobStatus | None:
    """The word of the run's own job, on its latest attempt."""
    status = read_status(paths.status)
    if status is None or status.job_id != record.job_id:
        return None
    latest = max((a["number"] for a in record.attempts if isinstance(a.get("number"), int)), default=1)
    if status.attempt < latest:
        status = read_attempt(paths.attempts, status, latest)
    return None if status is None else as_it_was(status, paths)


def _unseen(record: RunRecord, status: JobStatus | None) -> float:
    """For how long the job has been out of sight, by our own clock: the job's may be minutes off."""
    age = seconds_since(status.ended) if status is not None and status.ended else 0.0
    return max(seconds_since(record.submission.get("unseen_since")), age if age > LONG_AGO else 0.0)


def _note_sight(r: RunRecord, status: JobStatus | None, facts: JobFacts | None, answer: Answer) -> None:
    """Since when the scheduler has not known the job, or known no more than that it ended."""
    if facts is not None and not ended_silently(facts, status):
        r.submission.pop("unseen_since", None)
        if r.message == UNSEEN:
            r.message = ""
        return
    at_an_end = facts is not None or (status is not None and status.ended is not None)
    if answer.complete or (answer.queue and at_an_end):
        known = r.submission.get("unseen_since")
        if known is None or seconds_since(known) < 0:  # our own clock may have been put back
            r.submission["unseen_since"] = utc_now()
        if facts is None:
            r.message = r.message or UNSEEN


def _note_clocks(r: RunRecord, status: JobStatus | None, facts: JobFacts) -> None:
    """How far the scheduler's clock is from ours, and when, by ours, the time limit ends the job.

    Slurm noted the submission while sbatch ran, between two times of our clock; what lies outside of them
    is the difference. A requeue is noted as a submission too, so that only the first start counts.
    """
    before = apart(facts.submitted, status.started) if status is not None else None
    requeued = len(r.attempts) > 1 or (before is not None and before > _NODES_APART)
    if r.scheduler == "slurm" and "clock_skew" not in r.submission and facts.submitted and not requeued:
        early, late = (apart(facts.submitted, r.submission.get(key)) for key in ("began", "ended"))
        if early is not None and late is not None:
            # Slurm's times are whole seconds, cut off.
            r.submission["clock_skew"] = round(min(0.0, early + 1.0) + max(0.0, late - 1.0))
    if facts.expected_end:
        r.submission["expected_end"] = later(facts.expected_end, -r.submission.get("clock_skew", 0))
    else:
        r.submission.pop("expected_end", None)


def _apply(r: RunRecord, verdict: Verdict, status: JobStatus | None, facts: JobFacts | None) -> None:
    if verdict.state is not r.state and not may_move(r.state, verdict.state):
        return
    started = (facts.started if facts else None) or (status.started if status else None)
    if verdict.state.final and r.state is not RunState.FINALIZING and r.host is None:
        # Outputs and logs are where the job wrote them: on a shared file system nothing is left to fetch.
        r.states.append({"state": RunState.FINALIZING.value, "reason": "", "at": utc_now()})
    r.state, r.reason, r.message = verdict.state, str(verdict.reason), verdict.message
    if verdict.state is RunState.CANCELED and (words := r.submission.get("stopped")):
        r.reason, r.message = Reason.STOPPED_EARLY.value, str(words)
    if verdict.state.final and r.host is not None:
        r.state, r.outcome = RunState.FINALIZING, verdict.state.value
    if started and r.state is not RunState.QUEUED:
        r.started = r.started or started
    nodes = (facts.nodes if facts else None) or (status.nodes if status else None)
    r.nodes = nodes or r.nodes
    r.expected_start = facts.expected if facts else None
    if verdict.state.final:
        r.usage = facts.usage if facts else None
        r.exit_code = verdict.exit_code
        _settle_times(r, verdict, status, facts)


def _settle_times(r: RunRecord, verdict: Verdict, status: JobStatus | None, facts: JobFacts | None) -> None:
    """Start and end by one clock, where one knows both; no run ends before it starts."""
    r.ended = verdict.ended or utc_now()
    if len(r.attempts) < 2:
        for known in (facts, status):
            if known is not None and known.started and known.ended == r.ended:
                r.started = known.started
                break
    if (apart(r.ended, r.started) or 0.0) < 0:
        r.ended = r.started


def _note_attempt(r: RunRecord, status: JobStatus | None, facts: JobFacts | None) -> None:
    """Keep every start of the run: a requeue is a new attempt of the same run."""
    if status is None:
        return
    attempt: dict[str, Any] = {
        "number": status.attempt,
        "job_id": status.job_id,
        "started": status.started,
        "ended": status.ended,
        "exit_code": status.exit_code,
        "nodes": status.nodes,
    }
    word = from_slurm(facts.word) if facts is not None else None
    if facts is not None and word is not None and word[0] is not RunState.QUEUED:
        attempt["word"] = facts.word
    elif word is not None:  # this attempt is over, and the job waits for its next
        attempt["requeued"] = utc_now()
    for index, known in enumerate(r.attempts):
        if known.get("number") == status.attempt:
            r.attempts[index] = {**attempt, **known} if "requeued" in known else {**known, **attempt}
            return
    r.attempts.append(attempt)
