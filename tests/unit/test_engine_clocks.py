"""Clocks that differ, attempts, and what is looked at before an end is written down (faults 14, 22, 43)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Run, ScriptRunConfig, Workspace
from hpcrun.engine.clocks import apart, later, moment, seconds_since
from hpcrun.engine.refresh import refresh
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.schedulers.base import Answer
from hpcrun.states import RunState
from tests.engine_help import ScriptedScheduler, knows, source, use, workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


@pytest.fixture
def scripted(ws: Workspace) -> tuple[ScriptedScheduler, Run]:
    """A run that is job 7 of a scheduler that says what it is told to say, and passes for a Slurm."""
    scheduler = use(ws, ScriptedScheduler(["7"]))
    folder = source(ws.folder.parent / "src", x_txt="x")
    run = Experiment(ws, "test").submit(ScriptRunConfig(folder, command="true"))

    def pass_for_slurm(r: RunRecord) -> None:
        r.scheduler = "slurm"

    ws.history.update(run.id, pass_for_slurm)
    return scheduler, run


def now(minutes: float = 0.0) -> str:
    """The time by a clock that is minutes ahead of ours, in whole seconds as Slurm prints it."""
    at = datetime.now(timezone.utc) + timedelta(minutes=minutes)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def says(run: Run, **more: Any) -> None:
    status = {"job_id": "7", "attempt": 1, "stage": "payload", "state": "running", "started": now(), **more}
    RunPaths(Path(run.record.run_dir)).status.write_text(json.dumps(status))


def after(run: Run, scheduler: ScriptedScheduler, answer: Answer) -> RunRecord:
    scheduler.queries = [answer]
    refresh(run.experiment.workspace.history, run.experiment.workspace.targets)
    return run.record


def seconds(record: RunRecord) -> float:
    took = apart(record.ended, record.started)
    assert took is not None
    return took


def test_times() -> None:
    assert apart("2026-01-31T12:00:07Z", "2026-01-31T12:00:00.500Z") == 6.5
    assert apart("2026-01-31T12:00:07Z", None) is None and apart("soon", "2026-01-31T12:00:07Z") is None
    assert later("2026-01-31T12:00:07Z", -8) == "2026-01-31T11:59:59Z"
    assert later("soon", 1) is None and later("9999-12-31T23:59:59Z", 10) is None
    assert seconds_since(None) == seconds_since(7) == seconds_since("soon") == 0.0
    assert 3599 < seconds_since(now(-60)) < 3700
    assert (
        moment("2026-01-31T12:00:00") == moment("2026-01-31T12:00:00Z") == moment("2026-01-31T13:00:00+01:00")
    )


@pytest.mark.parametrize("minutes", [-4, 0, 4])
def test_how_far_the_schedulers_clock_is_from_ours(
    minutes: int, scripted: tuple[ScriptedScheduler, Run]
) -> None:
    """Slurm's time of the submission against ours, which costs no command; the expected end follows it."""
    scheduler, run = scripted
    submitted = later(str(run.record.submission["ended"]), 60 * minutes)
    record = after(run, scheduler, knows("7", "RUNNING", submitted=submitted, expected_end=now(minutes + 1)))
    assert record.submission["clock_skew"] == pytest.approx(60 * minutes, abs=3)
    assert -63 < seconds_since(record.submission["expected_end"]) < -50
    again = after(run, scheduler, knows("7", "PENDING", submitted=now(30)))
    assert again.submission["clock_skew"] == record.submission["clock_skew"], "a requeue is noted as one too"
    assert "expected_end" not in again.submission


def test_a_requeue_that_nobody_saw_is_not_taken_for_a_difference(
    scripted: tuple[ScriptedScheduler, Run],
) -> None:
    scheduler, run = scripted
    says(run, started=now())
    assert "clock_skew" not in after(run, scheduler, knows("7", submitted=now(2))).submission


@pytest.mark.parametrize("minutes", [-4, 4])
def test_no_run_ends_before_it_starts(minutes: int, scripted: tuple[ScriptedScheduler, Run]) -> None:
    """The node's clock is minutes off the scheduler's: start and end are by the same one."""
    scheduler, run = scripted
    says(run, started=now(minutes))
    after(run, scheduler, knows("7", "RUNNING", started=now()))
    says(run, started=now(minutes), ended=now(minutes + 0.5), exit_code=3, state="failed")
    record = after(run, scheduler, knows("7", "FAILED", started=now(), ended=now(0.5)))
    assert record.state is RunState.FAILED and 29 <= seconds(record) <= 31


def test_start_and_end_by_the_nodes_clock_where_the_scheduler_says_nothing(
    scripted: tuple[ScriptedScheduler, Run],
) -> None:
    scheduler, run = scripted
    after(run, scheduler, knows("7", "RUNNING", started=now(4)))
    says(run, started=now(), ended=now(0.5), exit_code=0, state="completed")
    record = after(run, scheduler, Answer())
    assert record.state is RunState.COMPLETED and 29 <= seconds(record) <= 31


def test_an_end_before_the_start_is_none(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    says(run, started=now(4))
    record = after(run, scheduler, knows("7", "CANCELLED by 0", ended=now()))
    assert record.state is RunState.CANCELED and seconds(record) == 0


def test_a_clock_of_ours_that_is_put_back_makes_no_grace_longer(
    scripted: tuple[ScriptedScheduler, Run],
) -> None:
    scheduler, run = scripted
    ws = run.experiment.workspace
    ws.history.update(run.id, lambda r: r.submission.update(unseen_since=now(60)))
    record = after(run, scheduler, Answer())
    assert 0 <= seconds_since(record.submission["unseen_since"]) < 60


def test_attempts_say_how_they_ended(scripted: tuple[ScriptedScheduler, Run]) -> None:
    """Fault 14: the word of the queue for the job that waits again is not the first attempt's."""
    scheduler, run = scripted
    says(run)
    after(run, scheduler, knows("7", "RUNNING"))
    says(run, ended=now(), exit_code=143, signal="TERM", state="failed")
    first = after(run, scheduler, knows("7", why="BeginTime")).attempts
    again = after(run, scheduler, knows("7", why="BeginTime")).attempts
    assert first == again
    (attempt,) = again
    assert (attempt["word"], attempt["exit_code"]) == ("RUNNING", 143) and attempt["requeued"]
    says(run, attempt=2)
    record = after(run, scheduler, knows("7", "RUNNING"))
    assert [a["number"] for a in record.attempts] == [1, 2]
    assert record.attempts[0] == attempt and "requeued" not in record.attempts[1]


def test_an_earlier_attempt_that_writes_over_the_status_of_a_later_one(
    scripted: tuple[ScriptedScheduler, Run],
) -> None:
    """Fault 17: the lost node comes back, and what still ran there is ended, and says so."""
    scheduler, run = scripted
    paths = RunPaths(Path(run.record.run_dir))

    def appended(**more: Any) -> None:
        says(run, **more)
        with paths.attempts.open("a") as file:
            file.write(paths.status.read_text() + "\n")

    appended()
    appended(attempt=2)
    assert len(after(run, scheduler, knows("7", "RUNNING")).attempts) == 1, "only the second was seen"
    for code in (143, 0):
        appended(attempt=1, ended=now(), exit_code=code, state="failed" if code else "completed")
        assert after(run, scheduler, knows("7", "RUNNING")).state is RunState.RUNNING
        assert after(run, scheduler, Answer()).state is RunState.RUNNING
    appended(attempt=2, ended=now(), exit_code=3, state="failed")
    appended(attempt=1, ended=now(), exit_code=0, state="completed")
    record = after(run, scheduler, knows("7", "FAILED", exit_code=3))
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, "BadExit", 3)


KILLED = "slurmstepd: error: StepId=7.batch exceeded memory limit (419430400 > 104857600), being killed\n"


@pytest.mark.parametrize(
    ("before", "told", "reason"),
    [
        ("", KILLED, "OutOfMemory"),
        ("", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0.\n", "OutOfMemory"),
        ("", "", "Signal"),
        (KILLED, "", "Signal"),
    ],
)
def test_memory_is_the_reason_where_slurm_says_so_in_the_jobs_log(
    before: str, told: str, reason: str, scripted: tuple[ScriptedScheduler, Run]
) -> None:
    """Fault 22: its word for the job is only FAILED; what it said of an earlier attempt does not count."""
    scheduler, run = scripted
    begun = "2026-01-31T12:00:00Z hpcrun: attempt {} of the run\n"
    log = RunPaths(Path(run.record.run_dir)).system_logs / "job.txt"
    log.write_text(f"{begun.format(1)}{before}{begun.format(2)}{told}")
    says(run, attempt=2, ended=now(), exit_code=137, state="failed")
    record = after(run, scheduler, knows("7", "FAILED", exit_code=0, signal=9))
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, reason, 137)


ABORTED = "srun: Job step aborted: Waiting up to 7 seconds for job step to finish.\n"


@pytest.mark.parametrize("asked", [knows("7", "NODE_FAIL", exit_code=1), Answer()])
def test_an_end_that_srun_made_up_is_none(asked: Answer, scripted: tuple[ScriptedScheduler, Run]) -> None:
    """Fault 16: where its step was taken away, srun ends with 0, which the script takes for the payload's."""
    scheduler, run = scripted
    log = RunPaths(Path(run.record.run_dir)).system_logs / "job.txt"
    log.write_text(f"2026-01-31T12:00:00Z hpcrun: attempt 1 of the run\n{ABORTED}")
    says(run, ended=now(-120), exit_code=0, state="completed")
    record = after(run, scheduler, asked)
    assert (record.state, record.reason) == (
        (RunState.FAILED, "NodeFail") if asked.facts else (RunState.FAILED, "BadExit")
    )
    assert "srun lost the payload's step" in record.message and record.exit_code == 1


@pytest.mark.parametrize(("signal", "told"), [("TERM", ABORTED), ("", "")])
def test_a_payload_that_ended_well_when_it_was_told_to_end(
    signal: str, told: str, scripted: tuple[ScriptedScheduler, Run]
) -> None:
    scheduler, run = scripted
    (RunPaths(Path(run.record.run_dir)).system_logs / "job.txt").write_text(f"hpcrun: attempt 1\n{told}")
    says(run, ended=now(-120), exit_code=0, state="completed", signal=signal)
    assert after(run, scheduler, Answer()).state is RunState.COMPLETED


def test_the_files_are_listed_and_looked_at_before_the_end_is_written(
    scripted: tuple[ScriptedScheduler, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fake of a network file system's cache: what the job wrote is seen once its folder was listed."""
    scheduler, run = scripted
    outputs = RunPaths(Path(run.record.run_dir)).outputs
    real = os.walk
    seen: list[RunState] = []

    def walk(top: Path) -> Any:
        if top == outputs:
            seen.append(run.record.state)
            (outputs / "model.pt").write_text("weights")
        return real(top)

    monkeypatch.setattr(os, "walk", walk)
    says(run, ended=now(), exit_code=0, state="completed")
    assert after(run, scheduler, knows("7", "COMPLETED")).state is RunState.COMPLETED
    assert seen == [RunState.QUEUED], "before, and once"
    assert (run.folder / "outputs" / "model.pt").read_text() == "weights"


def test_a_status_that_is_seen_once_its_folder_was_listed(
    scripted: tuple[ScriptedScheduler, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same fake, of a file that was not there when it was last looked for."""
    scheduler, run = scripted
    folder = RunPaths(Path(run.record.run_dir)).folder
    real = Path.iterdir

    def iterdir(path: Path) -> Iterator[Path]:
        if path == folder:
            says(run, ended=now(), exit_code=0, state="completed")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert after(run, scheduler, knows("7", "COMPLETED")).state is RunState.COMPLETED


def test_a_link_to_nowhere_among_the_files_is_no_harm(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    (RunPaths(Path(run.record.run_dir)).outputs / "gone").symlink_to("/nowhere")
    says(run, ended=now(), exit_code=0, state="completed")
    facts = replace(knows("7", "COMPLETED").facts[""], ended=now())
    assert after(run, scheduler, Answer({"": facts})).state is RunState.COMPLETED
