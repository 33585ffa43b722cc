"""What Slurm is asked, and what its answers make of runs (faults 11, 13, 14, 15); with a fake shell, which
plays answers that no real Slurm gives when it is asked to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcrun.engine.decide import Known, decide
from hpcrun.places.status import JobStatus
from hpcrun.schedulers.base import JobRef
from hpcrun.schedulers.slurm import SlurmScheduler
from hpcrun.schedulers.slurmtext import SACCT_FORMAT, keeps_no_books
from hpcrun.shells.base import Result
from hpcrun.states import ACTIVE, SLURM_STATES, RunState, may_move

SINCE = "2026-01-31T12:00:00.000Z"
NAME = "test_20260131-120000_abcdefgh"
# The columns on what a job used, empty.
NOT_SAID = "|" * (SACCT_FORMAT.count(",") - 7)
RUNS = [JobRef(NAME, "/runs", "7", SINCE)]


class FakeShell:
    """Says what it is told to, by program, and notes what it was asked."""

    def __init__(self, **answers: str | tuple[int | None, str]) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []

    def run(self, argv: Sequence[str], *, timeout: float, **more: Any) -> Result:
        assert timeout > 0 and isinstance(more.get("env"), Mapping) and more["env"]["TZ"] == "UTC"
        self.asked.append(list(argv))
        answer = self.answers.get(argv[0], "")
        if isinstance(answer, str):
            return Result(tuple(argv), 0, answer, "", 0.1)
        return Result(tuple(argv), answer[0], "", answer[1], 0.1)

    @property
    def programs(self) -> list[str]:
        return [argv[0] for argv in self.asked]


def queue(word: str) -> str:
    return f"7|{word}|2026-01-31T12:00:00|2026-01-31T12:00:01|2026-01-31T12:00:09|None|n1|{NAME}\n"


def books(word: str) -> str:
    return f"7|{word}|3:0|2026-01-31T12:00:00|2026-01-31T12:00:01|2026-01-31T12:00:09|n1{NOT_SAID}|{NAME}\n"


def test_one_question_each_for_any_number_of_runs() -> None:
    for many in (1, 300, 5000):
        shell = FakeShell()
        refs = [JobRef(f"{NAME}{index}", "/runs", str(index), SINCE) for index in range(many)]
        answer = SlurmScheduler(shell).query(refs)
        assert shell.programs == ["squeue", "sacct"] and answer.complete
        for argv in shell.asked:
            assert max(map(len, argv)) < 128 * 1024, "longer than the kernel takes in one argument"
        assert any(argument.startswith("--name=") for argument in shell.asked[1]) is (many < 5000)
        assert "--starttime=2026-01-31T11:00:00" in shell.asked[1], "clocks may differ"
        assert not any(argument.startswith(("-j", "--jobs")) for argument in shell.asked[0])
        assert shell.asked[1][-1].startswith("--jobs=")
    shell = FakeShell()
    SlurmScheduler(shell).query([*RUNS, JobRef("lost", "/runs", None, SINCE)])
    assert not any(argument.startswith("--jobs") for argument in shell.asked[1]), "it would hide the lost one"


def test_the_books_are_asked_for_what_the_queue_does_not_tell() -> None:
    shell = FakeShell(squeue=queue("RUNNING"))
    assert SlurmScheduler(shell).query(RUNS).complete
    assert shell.programs == ["squeue"]
    assert SlurmScheduler(FakeShell()).query([]).complete


def test_the_books_are_not_asked_while_the_queue_is_silent() -> None:
    """Fault 14: of a job that was requeued they tell the end of its first attempt."""
    for silence in ((1, "Unable to contact slurm controller"), (None, "")):
        shell = FakeShell(squeue=silence, sacct=books("NODE_FAIL"))
        answer = SlurmScheduler(shell).query(RUNS)
        assert (answer.facts, answer.queue, answer.complete) == ({}, False, False)
        assert shell.programs == ["squeue"]


def test_the_books_add_the_exit_code_and_take_nothing_back() -> None:
    """squeue shows for a while how a job ended; sacct lags, and may still call it running."""
    found = SlurmScheduler(FakeShell(squeue=queue("FAILED"), sacct=books("FAILED"))).query(RUNS).facts[NAME]
    assert (found.word, found.exit_code, found.booked) == ("FAILED", 3, True)
    found = SlurmScheduler(FakeShell(squeue=queue("FAILED"), sacct=books("RUNNING"))).query(RUNS).facts[NAME]
    assert (found.word, found.exit_code, found.booked) == ("FAILED", None, False)
    assert found.ended == "2026-01-31T12:00:09Z"


def test_books_that_are_silent_and_books_that_are_not_kept() -> None:
    """Fault 11: only of the first it is said that something is the matter."""
    down = (1, "sacct: error: slurm_persist_conn_open: Connection refused")
    answer = SlurmScheduler(FakeShell(sacct=down)).query(RUNS)
    assert answer.queue and not answer.complete and "Connection refused" in answer.trouble
    none = (1, "Slurm accounting storage is disabled")
    answer = SlurmScheduler(FakeShell(sacct=none)).query(RUNS)
    assert answer.queue and answer.complete and not answer.trouble
    assert keeps_no_books(none[1]) and not keeps_no_books(down[1])
    shell = FakeShell(sacct=down)
    assert SlurmScheduler(shell, accounting=False).query(RUNS).complete
    assert shell.programs == ["squeue"]


STATUS = JobStatus("7", 1, "running", "payload", SINCE, None, None, "", "n1", "")
statuses = st.sampled_from(
    [
        None,
        STATUS,
        replace(STATUS, state="completed", ended=SINCE, exit_code=0),
        replace(STATUS, state="failed", ended=SINCE, exit_code=3),
    ]
)
fields = st.one_of(
    st.sampled_from(["", "N/A", "None", "Unknown", "0:0", "7", "8", "2026-01-31T12:00:00", "NONE", "n1"]),
    st.text(max_size=8),
)
words = st.one_of(
    st.sampled_from([*SLURM_STATES, "CANCELLED by 0", "CANCELLED by 1000", "FAILED+", "COMPLETED*"]),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_ ", max_size=20),
)
lines = st.one_of(
    st.text(max_size=40),
    st.builds(
        lambda job_id, word, rest, name: "|".join([job_id, word, *rest, name]),
        st.sampled_from(["7", "7", "7", "8", "07", "7_1", "7_[0-3%2]", ""]),
        words,
        st.lists(fields, min_size=5, max_size=5),
        st.sampled_from([NAME, NAME, NAME, f"{NAME}x", "other"]),
    ),
)
# After these Slurm does nothing more with a job; written down once more, and not asked of what is tested.
ENDS = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT"),
    *("BF", "CA", "CD", "DL", "F", "NF", "OOM", "PR", "RV", "TO"),
}
outputs = st.lists(lines, max_size=4).map("\n".join)
answers = st.one_of(outputs, st.tuples(st.sampled_from([None, 1, 2]), st.text(max_size=40)))


def _ends(text: object) -> bool:
    """Whether some field of the output is a word that ends a run."""
    if not isinstance(text, str):
        return False
    parts = [part for line in text.splitlines() for part in line.split("|")[1:2]]
    return any(part.strip().split(" ")[0].rstrip("+*") in ENDS for part in parts)


@settings(max_examples=300)
@example(queue("TELEPORTED"), "", STATUS, RunState.RUNNING, 20.0)
@example("", books("TELEPORTED"), STATUS, RunState.RUNNING, 20.0)
@given(answers, answers, statuses, st.sampled_from(sorted(ACTIVE)), st.floats(0, 60))
def test_whatever_squeue_and_sacct_print(
    squeue: Any, sacct: Any, status: JobStatus | None, state: RunState, unseen: float
) -> None:
    """Fault 15: no output makes a refresh fail; only a word of an end, or the job's own, ends a run."""
    answer = SlurmScheduler(FakeShell(squeue=squeue, sacct=sacct)).query(RUNS)
    facts = answer.facts.get(NAME)
    if facts is not None and facts.job_id != "7":
        facts = None
    known = Known(state, facts, status, queue=answer.queue, answered=answer.complete, unseen=unseen)
    found = decide(known)
    if found is None or not found.state.final:
        return
    assert may_move(state, found.state)
    job_ended = status is not None and status.ended is not None
    assert job_ended or _ends(squeue) or (answer.queue and _ends(sacct))
    if found.state is RunState.COMPLETED:
        assert found.exit_code == 0
