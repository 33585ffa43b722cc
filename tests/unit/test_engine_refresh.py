"""Bringing the history up to date, and waiting: what is said of a run, by whom (faults 9, 10, 14, 16, 22)."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from hpcrun import Experiment, Resources, Run, ScriptRunConfig, Workspace
from hpcrun.engine.decide import LOST_GRACE, WHY_GRACE
from hpcrun.engine.refresh import refresh
from hpcrun.engine.wait import wait
from hpcrun.errors import CommandError, WaitTimeoutError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.schedulers.base import Answer
from hpcrun.states import RunState
from tests.engine_help import (
    PATIENCE,
    SILENCE,
    ScriptedScheduler,
    knows,
    source,
    until,
    use,
    workspace,
)

ENDED = "2026-01-31T12:00:07Z"


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as made:
        yield made


def submit(ws: Workspace, command: str, **config: Any) -> Run:
    folder = source(ws.folder.parent / "src", x_txt="x")
    return Experiment(ws, "test").submit(ScriptRunConfig(folder, command=command, **config))


@pytest.fixture
def scripted(ws: Workspace) -> tuple[ScriptedScheduler, Run]:
    """A run that is job 7 of a scheduler that says what it is told to say."""
    scheduler = use(ws, ScriptedScheduler(["7"]))
    return scheduler, submit(ws, "true")


def says(run: Run, **more: Any) -> None:
    """Write status.json as the job would."""
    status = {"job_id": "7", "attempt": 1, "stage": "payload", "state": "running", "started": ENDED, **more}
    RunPaths(Path(run.record.run_dir)).status.write_text(json.dumps(status))


def after(run: Run, scheduler: ScriptedScheduler, answer: Answer, **more: Any) -> RunRecord:
    scheduler.queries = [answer]
    refresh(run.experiment.workspace.history, run.experiment.workspace.targets, **more)
    return run.record


def states(record: RunRecord) -> list[str]:
    return [entry["state"] for entry in record.states]


def ago(seconds: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def test_the_way_of_a_run(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    assert run.record.state is RunState.QUEUED
    record = after(run, scheduler, knows("7", why="Priority"))
    assert (record.state, record.reason, record.started) == (RunState.QUEUED, "Priority", None)
    assert after(run, scheduler, knows("7", "RUNNING", started=ENDED, nodes="n1")).state is RunState.STARTING
    says(run)
    assert after(run, scheduler, knows("7", "RUNNING", nodes="n1")).state is RunState.RUNNING
    says(run, state="failed", ended=ENDED, exit_code=3)
    assert after(run, scheduler, knows("7", "COMPLETING", nodes="n1")).state is RunState.FINALIZING
    record = after(run, scheduler, knows("7", "FAILED", exit_code=1, nodes="n1", ended=ENDED))
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, "BadExit", 3)
    assert (record.started, record.ended, record.nodes) == (ENDED, ENDED, "n1")
    assert states(record) == ["NotStarted", "Queued", "Queued", "Starting", "Running", "Finalizing", "Failed"]
    (row,) = run.experiment.workspace.history.list()
    assert (row.state, row.exit_code) == ("Failed", 3)


def test_the_expected_start_is_known_while_it_waits(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    record = after(run, scheduler, knows("7", why="Priority", expected=ENDED))
    assert (record.expected_start, record.started) == (ENDED, None)
    assert after(run, scheduler, SILENCE).expected_start == ENDED
    assert run.get_details()["expectedStartUtc"] == ENDED
    assert run.explain()["words"] == "The run waits. Jobs of a higher priority go first."
    assert after(run, scheduler, knows("7", why="Dependency")).expected_start is None
    after(run, scheduler, knows("7", why="Priority", expected=ENDED))
    assert after(run, scheduler, knows("7", "RUNNING", started=ENDED)).expected_start is None


def test_what_a_run_took_is_kept_at_its_end(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    assert after(run, scheduler, knows("7", "RUNNING")).usage is None
    says(run, state="failed", ended=ENDED, exit_code=3)
    record = after(run, scheduler, knows("7", "FAILED", ended=ENDED, usage={"cpu_seconds": 5.5}))
    assert record.usage == {"cpu_seconds": 5.5}
    assert RunRecord.from_json(record.to_json()) == record
    assert run.get_details()["usage"] == run.usage == {"cpu_seconds": 5.5}


def test_final_is_final(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    says(run, state="completed", ended=ENDED, exit_code=0)
    ended = after(run, scheduler, knows("7", "COMPLETED"))
    asked = len(scheduler.asked)
    for word in ("RUNNING", "FAILED", "PENDING", "CANCELLED by 0"):
        assert after(run, scheduler, knows("7", word)) == ended
    run.cancel()
    assert run.record == ended
    assert len(scheduler.asked) == asked and not scheduler.canceled, "nobody is asked about what has ended"


def test_of_two_that_refresh_at_once_one_writes_the_end(scripted: tuple[ScriptedScheduler, Run]) -> None:
    _, run = scripted
    ws = run.experiment.workspace
    says(run, state="completed", ended=ENDED, exit_code=0)

    class Slow(ScriptedScheduler):
        def query(self, jobs: Any) -> Answer:
            barrier.wait(PATIENCE)
            return super().query(jobs)

    barrier = threading.Barrier(2)
    use(ws, Slow(queries=[knows("7", "COMPLETED")]))
    threads = [threading.Thread(target=refresh, args=(ws.history, ws.targets)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert states(run.record) == ["NotStarted", "Queued", "Finalizing", "Completed"]


@pytest.mark.parametrize("answer", [SILENCE, CommandError("squeue did not end within 20 s")])
def test_a_scheduler_that_does_not_answer_changes_nothing(
    answer: Any, scripted: tuple[ScriptedScheduler, Run]
) -> None:
    scheduler, run = scripted
    before = after(run, scheduler, knows("7", "SUSPENDED"))
    scheduler.queries = [answer]
    report = refresh(run.experiment.workspace.history, run.experiment.workspace.targets)
    assert set(report.trouble) == {"local"} and report.trouble["local"]
    assert run.record == before


def test_one_question_for_any_number_of_runs(ws: Workspace) -> None:
    scheduler = use(ws, ScriptedScheduler(["1", "2", "3"]))
    ids = {submit(ws, "true").id for _ in range(3)}
    refresh(ws.history, ws.targets)
    (asked,) = scheduler.asked
    assert {job.run_id for job in asked} == ids
    refresh(ws.history, ws.targets, [min(ids)])
    assert [job.run_id for job in scheduler.asked[1]] == [min(ids)]
    refresh(ws.history, ws.targets, [])
    assert len(scheduler.asked) == 2


def test_without_asking_only_the_jobs_own_words_are_read(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    says(run)
    assert after(run, scheduler, SILENCE, ask=False).state is RunState.RUNNING
    says(run, state="completed", ended=ENDED, exit_code=0)
    assert after(run, scheduler, SILENCE, ask=False).state is RunState.COMPLETED
    assert scheduler.asked == []


def test_absence_is_no_state_until_its_grace_is_over(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    ws = run.experiment.workspace

    def absent_for(seconds: float) -> RunRecord:
        ws.history.update(run.id, lambda r: r.submission.update(unseen_since=ago(seconds)))
        return after(run, scheduler, Answer())

    assert after(run, scheduler, Answer()).submission["unseen_since"]
    assert absent_for(LOST_GRACE - 5).state is RunState.QUEUED
    assert "unseen_since" not in after(run, scheduler, knows("7")).submission, "it was late, no more"
    assert after(run, scheduler, Answer()).state is RunState.QUEUED
    assert "unseen_since" in after(run, scheduler, SILENCE).submission
    record = absent_for(LOST_GRACE + 5)
    assert (record.state, record.reason) == (RunState.FAILED, "Lost")


def test_a_job_that_failed_and_is_no_longer_known(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    ws = run.experiment.workspace
    # By its node's clock, which may be minutes off, it ended just now or will end; by ours it is unseen.
    for ended in (ago(WHY_GRACE + 300), ago(-300)):
        says(run, state="failed", ended=ended, exit_code=3)
        assert after(run, scheduler, Answer()).state is RunState.QUEUED
    ws.history.update(run.id, lambda r: r.submission.update(unseen_since=ago(WHY_GRACE + 5)))
    record = after(run, scheduler, Answer())
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, "BadExit", 3)


def test_a_job_that_failed_long_ago_and_is_no_longer_known(scripted: tuple[ScriptedScheduler, Run]) -> None:
    """No clock is off by hours: nothing is waited for."""
    scheduler, run = scripted
    says(run, state="failed", ended=ago(7200), exit_code=3)
    assert after(run, scheduler, Answer()).state is RunState.FAILED


def test_what_another_job_says_does_not_count(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    says(run, job_id="8", state="completed", ended=ENDED, exit_code=0)
    for word in ("FAILED", "COMPLETED", "CANCELLED"):
        assert after(run, scheduler, knows("8", word)).state is RunState.QUEUED


def test_an_unknown_word_changes_nothing(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    before = run.record
    assert after(run, scheduler, knows("7", "TELEPORTING")) == before


def test_a_requeue_is_a_new_attempt_of_the_same_run(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    says(run, nodes="n1")
    after(run, scheduler, knows("7", "RUNNING", nodes="n1"))
    assert after(run, scheduler, knows("7", why="BeginTime")).state is RunState.QUEUED
    says(run, attempt=2, nodes="n2")
    after(run, scheduler, knows("7", "RUNNING", nodes="n2"))
    says(run, attempt=2, nodes="n2", state="completed", ended=ENDED, exit_code=0)
    record = after(run, scheduler, knows("7", "COMPLETED"))
    assert record.state is RunState.COMPLETED
    assert [(a["number"], a["nodes"], a["exit_code"]) for a in record.attempts] == [
        (1, "n1", None),
        (2, "n2", 0),
    ]


@pytest.mark.parametrize(
    "text", ['{"job_id": "7", "exit_code": 1e400, "ended": 7}', "{", '{"job_id": 7}', "\x00"]
)
def test_a_hostile_status_does_no_harm(text: str, scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    RunPaths(Path(run.record.run_dir)).status.write_text(text)
    assert after(run, scheduler, knows("7", "RUNNING")).state is RunState.STARTING
    assert after(run, scheduler, knows("7", "FAILED", exit_code=1)).state is RunState.FAILED


def test_a_cancel_that_cannot_be_told_is_not_written_down(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    before = run.record

    def refuse(jobs: Any) -> None:
        raise CommandError("scancel did not end within 20 s")

    scheduler.cancel = refuse  # type: ignore[method-assign]
    scheduler.queries = [SILENCE]
    with pytest.raises(CommandError):
        run.cancel()
    assert run.record == before


# From here on with real processes.


def test_out_of_time(ws: Workspace) -> None:
    run = submit(ws, "touch outputs/half; sleep 1000", resources=Resources(time="2s"))
    record = wait(ws.history, ws.targets, run.id, timeout=PATIENCE)
    assert (record.state, record.reason, record.exit_code) == (RunState.FAILED, "Timeout", 143)
    assert "outputs/half" in run.get_file_names()


def test_canceled_while_it_runs_and_while_it_waits(ws: Workspace) -> None:
    cpus = len(os.sched_getaffinity(0))
    first = submit(ws, "touch outputs/ready; sleep 1000", resources=Resources(cpus_per_task=cpus))
    until(lambda: (first.folder / "outputs" / "ready").exists())
    second = submit(ws, "true")
    assert (first.get_status(), second.get_status()) == ("Running", "Queued")
    for run in (second, first):
        run.cancel()
        record = wait(ws.history, ws.targets, run.id, timeout=PATIENCE)
        assert (record.state, record.reason) == (RunState.CANCELED, "Canceled")
    assert "CancelRequested" in states(first.record)
    assert second.record.attempts == []


@pytest.mark.parametrize(("command", "state"), [("exit 0", "Completed"), ("exit 3", "Failed")])
def test_the_jobs_own_word_counts_when_the_watching_process_was_killed(
    command: str, state: str, ws: Workspace
) -> None:
    gate = ws.folder / "gate"
    run = submit(ws, f"touch outputs/ready; until [ -e '{gate}' ]; do sleep 0.02; done; {command}")
    until(lambda: (run.folder / "outputs" / "ready").exists())
    os.kill(int(str(run.record.job_id)), 9)
    assert run.get_status() == "Running"
    gate.touch()
    record = wait(ws.history, ws.targets, run.id, timeout=PATIENCE)
    assert (record.state.value, record.exit_code) == (state, int(command[-1]))


def test_waiting_ends_after_a_while_and_the_run_goes_on(ws: Workspace) -> None:
    run = submit(ws, "sleep 1000")
    with pytest.raises(WaitTimeoutError, match="It goes on"):
        wait(ws.history, ws.targets, run.id, timeout=0.2)
    assert run.get_status() in ("Starting", "Running")
    run.cancel()
    assert wait(ws.history, ws.targets, run.id, timeout=PATIENCE).state is RunState.CANCELED


def test_waiting_shows_each_state_as_it_comes(ws: Workspace) -> None:
    run = submit(ws, "sleep 0.3")
    seen: list[str] = []
    wait(
        ws.history,
        ws.targets,
        run.id,
        timeout=PATIENCE,
        on_look=lambda record: seen.append(record.state.value),
    )
    assert "Running" in seen
    assert seen[-1] == "Completed" and seen.count("Completed") == 1


def test_waiting_tells_of_trouble(scripted: tuple[ScriptedScheduler, Run]) -> None:
    scheduler, run = scripted
    ws = run.experiment.workspace
    scheduler.queries = [SILENCE]
    heard: list[dict[str, str]] = []
    with pytest.raises(WaitTimeoutError):
        wait(ws.history, ws.targets, run.id, timeout=0.05, on_trouble=heard.append)
    assert heard == [{"local": "no answer"}]
    says(run, state="completed", ended=ENDED, exit_code=0)
    assert wait(ws.history, ws.targets, run.id, timeout=PATIENCE).state is RunState.COMPLETED
