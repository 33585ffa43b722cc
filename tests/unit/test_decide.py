"""The written rule of engine/decide.py, sentence by sentence, and what always holds (faults 15, 16, 22)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.engine.decide import LOST_GRACE, WHY_GRACE, Known, Verdict, believed, decide
from hpcrun.places.status import JobStatus
from hpcrun.schedulers.base import JobFacts
from hpcrun.states import ACTIVE, SLURM_ABBREVIATIONS, SLURM_STATES, Reason, RunState, from_slurm, may_move

S, R = RunState, Reason
ENDED, LATER = "2026-01-31T12:00:00Z", "2026-01-31T12:00:07Z"

BEGUN = JobStatus("7", 1, "running", "prepare", ENDED, None, None, "", "n1", "")
RUNNING = replace(BEGUN, stage="payload")
WELL = replace(RUNNING, state="completed", ended=ENDED, exit_code=0)
BAD = replace(WELL, state="failed", exit_code=3)


def verdict(
    word: str | None,
    status: JobStatus | None = None,
    *,
    state: RunState = S.RUNNING,
    unseen: float = 0.0,
    queue: bool = True,
    answered: bool = True,
    near: bool = False,
    task: bool = False,
    **facts: object,
) -> Verdict | None:
    """``word`` None: the scheduler does not know the job."""
    job = None if word is None else replace(JobFacts("7", word), **facts)  # type: ignore[arg-type]
    known = Known(
        state, job, status, queue=queue, answered=answered, unseen=unseen, near=near, task=task
    )  # fmt: skip
    return decide(known)


def outcome(*args: object, **more: object) -> tuple[str, str, int | None] | None:
    found = verdict(*args, **more)  # type: ignore[arg-type]
    return None if found is None else (found.state.value, str(found.reason), found.exit_code)


# 1. While the scheduler's word is not final, it says where the run stands.


def test_the_queue_says_where_a_run_stands() -> None:
    assert verdict("PENDING", why="Resources", state=S.NOT_STARTED) == Verdict(S.QUEUED, "Resources")
    assert verdict("REQUEUE_HOLD") == Verdict(S.QUEUED, "Held")
    assert verdict("SUSPENDED", RUNNING) == Verdict(S.PAUSED, R.SUSPENDED)
    assert verdict("CONFIGURING") == Verdict(S.STARTING, R.NONE)
    assert verdict("COMPLETING", RUNNING) == Verdict(S.FINALIZING, R.NONE)


def test_the_job_refines_running() -> None:
    assert verdict("RUNNING") == Verdict(S.STARTING)
    assert verdict("RUNNING", BEGUN) == Verdict(S.STARTING)
    assert verdict("RUNNING", RUNNING) == Verdict(S.RUNNING, R.NONE)
    assert verdict("RUNNING", WELL) == Verdict(S.FINALIZING)
    assert verdict("RUNNING", BAD) == Verdict(S.RUNNING, R.NONE), "the scheduler will say why"


def test_a_requeued_job_is_queued_though_it_said_that_it_had_ended() -> None:
    assert verdict("PENDING", BAD, why="BeginTime", state=S.FINALIZING) == Verdict(S.QUEUED, "BeginTime")


def test_a_run_whose_end_was_asked_for_only_ends() -> None:
    for word in ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED"):
        assert verdict(word, RUNNING, state=S.CANCEL_REQUESTED) is None


# 2. A word of the scheduler that ends a run ends it, and gives the reason.


@pytest.mark.parametrize(
    ("word", "state", "reason"),
    [
        ("TIMEOUT", "Failed", "Timeout"),
        ("OUT_OF_MEMORY", "Failed", "OutOfMemory"),
        ("NODE_FAIL", "Failed", "NodeFail"),
        ("PREEMPTED", "Failed", "Preempted"),
        ("DEADLINE", "Failed", "Deadline"),
        ("BOOT_FAIL", "Failed", "BootFail"),
        ("CANCELLED", "Canceled", "Canceled"),
        ("CANCELLED by 0", "Canceled", "Canceled"),
    ],
)
def test_the_schedulers_reason_counts_and_the_payloads_own_exit_code(
    word: str, state: str, reason: str
) -> None:
    assert outcome(word) == (state, reason, None)
    assert outcome(word, RUNNING, exit_code=1) == (state, reason, 1)
    assert outcome(word, BAD, exit_code=0) == (state, reason, 3)
    signaled = replace(WELL, signal="TERM")
    assert outcome(word, signaled) == (state, reason, 0), "a payload that ended well when told to end"
    assert outcome(word, WELL) == ("Completed", "", 0), "one that ended well before"


def test_failed() -> None:
    assert outcome("FAILED", BAD, exit_code=1) == ("Failed", "BadExit", 3)
    assert outcome("FAILED", replace(BAD, exit_code=139)) == ("Failed", "Signal", 139)
    assert outcome("FAILED", RUNNING, exit_code=9) == ("Failed", "BadExit", 9)
    assert outcome("FAILED", RUNNING, exit_code=0, signal=9) == ("Failed", "Signal", 137)
    assert outcome("FAILED", exit_code=0, signal=53, near=True) == ("Failed", "LaunchFailed", 0)
    environment = replace(BAD, stage="environment", exit_code=103, message="no conda")
    found = verdict("FAILED", environment)
    assert found == Verdict(S.FAILED, R.ENVIRONMENT, "no conda", 103, ENDED)
    assert outcome("FAILED", replace(environment, stage="launch")) == ("Failed", "LaunchFailed", 103)


def test_words_for_people() -> None:
    def message(word: str, status: JobStatus | None, **facts: object) -> str:
        found = verdict(word, status, near=True, **facts)  # type: ignore[arg-type]
        assert found is not None
        return found.message

    assert message("FAILED", BAD) == "the payload ended with exit code 3"
    assert message("FAILED", replace(BAD, exit_code=137)) == "ended by signal 9"
    assert message("FAILED", None, exit_code=0, signal=53) == (
        "the job failed before it could begin (exit code 0, signal 53)"
    )
    assert message("FAILED", None) == "the job failed before it could begin"
    assert message("TIMEOUT", RUNNING) == ""
    assert message("NODE_FAIL", RUNNING, exit_code=1) == "", "a code of Slurm's own"
    assert message("NODE_FAIL", BAD) == "the payload ended with exit code 3"


def test_completed() -> None:
    assert outcome("COMPLETED", WELL) == ("Completed", "", 0)
    assert outcome("COMPLETED", RUNNING, exit_code=0) == ("Completed", "", 0), "the disk was full at the end"
    assert outcome("COMPLETED", BAD, exit_code=0) == ("Failed", "BadExit", 3)
    silent = outcome("COMPLETED", exit_code=0, near=True)
    assert silent == ("Failed", "LaunchFailed", 0), "it ran in /tmp, say"


@pytest.mark.parametrize("word", ["COMPLETED", "FAILED"])
def test_a_file_system_that_is_late_with_the_jobs_word_is_waited_for(word: str) -> None:
    """Never Failed because of a cache: what the job wrote on its node may not be seen here yet."""
    assert verdict(word, exit_code=0, unseen=WHY_GRACE) is None
    assert outcome(word, exit_code=0, unseen=WHY_GRACE + 1) == ("Failed", "LaunchFailed", 0)
    assert outcome(word, WELL, exit_code=0) == ("Completed", "", 0)
    for other in ("CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED"):
        assert outcome(other) is not None, "there is nothing that the job could add"


def test_when_it_ended() -> None:
    found = verdict("FAILED", BAD, ended=LATER)
    assert found is not None and found.ended == LATER
    found = verdict("FAILED", BAD)
    assert found is not None and found.ended == ENDED


# 3. Where the scheduler does not know the job, or cannot be asked, status.json decides.


def test_a_payload_that_ended_well_has_ended_well() -> None:
    assert outcome(None, WELL) == ("Completed", "", 0)
    assert outcome(None, WELL, queue=False, answered=False) == ("Completed", "", 0)
    assert outcome("A_NEW_WORD", WELL) == ("Completed", "", 0)


def test_the_scheduler_is_given_some_time_to_say_why() -> None:
    assert verdict(None, BAD, unseen=WHY_GRACE) is None
    assert verdict(None, BAD, unseen=WHY_GRACE + 1, queue=False) is None, "it may be queued again"
    assert outcome(None, BAD, unseen=WHY_GRACE + 1) == ("Failed", "BadExit", 3)
    assert outcome(None, BAD, unseen=WHY_GRACE + 1, answered=False) == ("Failed", "BadExit", 3)
    canceled = outcome(None, BAD, unseen=WHY_GRACE + 1, state=S.CANCEL_REQUESTED)
    assert canceled == ("Canceled", "Canceled", 3)


def test_a_payload_that_took_a_signal_and_ended_well_is_not_failed() -> None:
    signaled = replace(WELL, signal="USR1")
    assert verdict(None, signaled) is None
    assert outcome(None, signaled, unseen=WHY_GRACE + 1) == ("Completed", "", 0)


def test_what_the_job_says_moves_a_run_on_between_two_questions() -> None:
    def between(status: JobStatus, state: RunState) -> Verdict | None:
        return verdict(None, status, state=state, queue=False, answered=False)

    assert between(BEGUN, S.QUEUED) == Verdict(S.STARTING)
    assert between(RUNNING, S.STARTING) == Verdict(S.RUNNING)
    for state in (S.PAUSED, S.FINALIZING, S.CANCEL_REQUESTED, S.RUNNING):
        assert between(RUNNING, state) is None


# 4. Absence is never a state.


def test_a_job_that_nobody_knows_of_keeps_its_state_until_the_grace_is_over() -> None:
    for status in (None, RUNNING):
        assert verdict(None, status, unseen=LOST_GRACE) is None
        assert outcome(None, status, unseen=LOST_GRACE + 1) == ("Failed", "Lost", None)
        assert outcome(None, status, unseen=LOST_GRACE + 1, state=S.CANCEL_REQUESTED) == (
            "Canceled",
            "Canceled",
            None,
        )
        for queue in (True, False):
            found = verdict(None, status, unseen=10**6, queue=queue, answered=False)
            assert found is None, "nobody answered: it may be there all the same"


def test_slurm_forgets_a_task_that_was_canceled_while_it_waited() -> None:
    """At once, and its books never hear of it; one that had begun has left a word of its own."""
    canceled = ("Canceled", "Canceled", None)
    for state in (S.CANCEL_REQUESTED, S.QUEUED):
        assert verdict(None, state=state, task=True, unseen=WHY_GRACE) is None
    assert outcome(None, state=S.CANCEL_REQUESTED, task=True, unseen=WHY_GRACE + 1) == canceled
    assert verdict(None, state=S.QUEUED, task=True, unseen=WHY_GRACE + 1) is None
    assert verdict(None, RUNNING, state=S.CANCEL_REQUESTED, task=True, unseen=WHY_GRACE + 1) is None
    assert verdict(None, state=S.CANCEL_REQUESTED, unseen=WHY_GRACE + 1) is None


@pytest.mark.parametrize("word", ["RUNNING", "PENDING", "SUSPENDED", "REQUEUED", "COMPLETING"])
def test_the_books_are_not_believed_that_a_job_goes_on(word: str) -> None:
    """Fault 13: of a job that a wiped controller forgot, the books say for ever that it runs."""
    for state in (S.QUEUED, S.RUNNING):
        assert verdict(word, RUNNING, booked=True, state=state) is None
        assert outcome(word, RUNNING, booked=True, state=state, unseen=LOST_GRACE + 1) == (
            *("Failed", "Lost"),
            None,
        )
    assert outcome("TIMEOUT", RUNNING, booked=True, exit_code=0) == ("Failed", "Timeout", 0)
    assert verdict("A_NEW_WORD", RUNNING, booked=True, unseen=LOST_GRACE + 1) is None


# 5. An unknown word changes nothing.


def test_an_unknown_word_changes_nothing() -> None:
    for status in (None, BEGUN, RUNNING):
        assert verdict("A_NEW_WORD", status, unseen=10**6) is None


statuses = st.one_of(
    st.none(),
    st.builds(
        JobStatus,
        job_id=st.just("7"),
        attempt=st.integers(1, 3),
        state=st.sampled_from(["running", "completed", "failed", "", "?"]),
        stage=st.sampled_from(["prepare", "environment", "launch", "payload", "", "?"]),
        started=st.sampled_from([None, ENDED]),
        ended=st.sampled_from([None, ENDED]),
        exit_code=st.one_of(st.none(), st.integers(-5, 300)),
        signal=st.sampled_from(["", "TERM", "USR1"]),
        nodes=st.none(),
        message=st.sampled_from(["", "words"]),
    ),
)
words = st.one_of(
    st.sampled_from([*SLURM_STATES, *SLURM_ABBREVIATIONS]),
    st.sampled_from(sorted(SLURM_STATES)).map(lambda word: f"{word} by 1000"),
    st.text(max_size=12),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=20),
)
all_facts = st.one_of(
    st.none(),
    st.builds(
        JobFacts,
        job_id=st.just("7"),
        word=words,
        why=st.sampled_from(["", "Priority"]),
        exit_code=st.one_of(st.none(), st.integers(0, 255)),
        signal=st.one_of(st.none(), st.integers(1, 64)),
        ended=st.sampled_from([None, LATER]),
        booked=st.booleans(),
    ),
)
knowns = st.builds(
    Known,
    state=st.sampled_from(sorted(ACTIVE)),
    facts=all_facts,
    status=statuses,
    queue=st.booleans(),
    answered=st.booleans(),
    unseen=st.one_of(st.floats(0, 300), st.sampled_from([WHY_GRACE, LOST_GRACE, 1e9, -1e9])),
    near=st.booleans(),
)


def _final_word(known: Known) -> bool:
    word = from_slurm(known.facts.word) if known.facts else None
    return word is not None and word[0].final


@given(knowns)
def test_whatever_comes(known: Known) -> None:
    found = decide(known)
    if found is None:
        return
    status, facts = known.status, believed(known.facts)
    job_ended = status is not None and status.ended is not None
    if found.state.final:
        assert may_move(known.state, found.state)
        lost = facts is None and known.answered and known.unseen > LOST_GRACE
        assert _final_word(known) or job_ended or lost, "somebody said so, or nobody does any more"
        if facts is not None and from_slurm(facts.word) is None:
            assert job_ended, "an unknown word never ends a run"
        if known.unseen <= WHY_GRACE and not _final_word(known):
            assert found.state is S.COMPLETED, "absence never ends a run before its grace is over"
    if found.state is S.COMPLETED:
        said = facts is not None and from_slurm(facts.word) == (S.COMPLETED, R.NONE)
        assert said or (job_ended and status is not None and status.exit_code == 0)
        assert found.exit_code == 0
    if found.state is S.FAILED:
        assert found.reason in set(Reason) - {R.NONE, R.CANCELED, R.REJECTED}
    if known.state is S.CANCEL_REQUESTED:
        assert found.state.final


@given(knowns)
def test_the_same_is_decided_again(known: Known) -> None:
    found = decide(known)
    assert decide(known) == found
    if found is not None and not found.state.final and may_move(known.state, found.state):
        assert decide(replace(known, state=found.state)) in (found, None)
