"""From a run's files to words: which log is read, how much of it, and that nothing in them does harm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine.explain import explain, gather
from hpcrun.engine.tails import TAIL, read_tail
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import RunRecord
from hpcrun.states import RunState
from tests import cli_help
from tests.cli_help import Project, document, hpcrun, typed

RUN = "cifar_20260131-120000_abcdefgh"
TRACEBACK = (
    'Traceback (most recent call last):\n  File "train.py", line 1, in <module>\n    {0}\nValueError: {0}\n'
)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


@pytest.fixture
def home(tmp_path: Path) -> RunPaths:
    paths = RunPaths(tmp_path / RUN)
    for folder in (paths.code, paths.user_logs, paths.system_logs):
        folder.mkdir(parents=True)
    paths.script.write_text("")
    return paths


def record(home: RunPaths, **more: Any) -> RunRecord:
    known: dict[str, Any] = {"reason": "BadExit", "exit_code": 1, "state": RunState.FAILED, **more}
    return RunRecord(
        id=RUN, experiment="cifar", target="t", scheduler="slurm", run_dir=str(home.folder), **known
    )


def log(home: RunPaths, rank: int, text: str, at: float) -> None:
    path = home.user_logs / f"std_log_process_{rank:03d}.txt"
    path.write_text(text)
    os.utime(path, (at, at))


def test_the_rank_that_the_job_names_is_quoted(home: RunPaths) -> None:
    for rank in range(8):
        log(home, rank, TRACEBACK.format(f"of {rank}"), at=100 + rank)
    config = {"processes": 8}
    named = record(home, message="ranks 5-6 on node1: Exited with exit code 1", config=config)
    assert [entry.rank for entry in gather(named, home).logs][:3] == [5, 6, 0]
    assert explain(named, home).evidence[-1] == "ValueError: of 5"


def test_where_no_rank_is_named_the_first_to_fall_silent_in_failure_is_quoted(home: RunPaths) -> None:
    log(home, 0, "all is well\n", at=100)
    log(home, 1, TRACEBACK.format("late"), at=300)
    log(home, 2, TRACEBACK.format("early"), at=200)
    found = explain(record(home, config={"processes": 3}), home)
    assert found.evidence[-1] == "ValueError: early"
    assert "rank 2" in found.words


def test_only_so_many_logs_are_read(home: RunPaths) -> None:
    for rank in range(40):
        log(home, rank, "x\n", at=rank)
    assert len(gather(record(home), home).logs) == 16


def test_only_the_end_of_a_log_is_read(home: RunPaths) -> None:
    path = home.user_logs / "std_log.txt"
    with path.open("wb") as file:
        file.truncate(5 << 30)  # sparse: it takes no room
        file.seek(0, 2)
        file.write(TRACEBACK.format("at the end").encode())
    assert len(read_tail(path)) == TAIL
    assert explain(record(home), home).evidence[-1] == "ValueError: at the end"


def test_what_logs_hold_does_no_harm(home: RunPaths) -> None:
    """Binary, colours, progress bars; and in a log's place a link, a pipe, a folder."""
    path = home.user_logs / "std_log.txt"
    path.write_bytes(b"\x1b[31mred\x1b[0m \x00\xff\x9b\n10%\r20%\r\nend\x07\n")
    evidence = explain(record(home), home).evidence
    assert evidence[1:3] == ["10%", "20%"] and not any(c < " " for line in evidence for c in line)
    secret = home.folder / "secret"
    secret.write_text("secret\n")
    path.unlink()
    path.symlink_to(secret)
    assert "had printed nothing" in explain(record(home), home).words
    path.unlink()
    os.mkfifo(path)
    assert "had printed nothing" in explain(record(home), home).words
    path.unlink()
    path.mkdir()
    assert "had printed nothing" in explain(record(home), home).words


def test_what_ended_an_earlier_attempt_does_not_count(home: RunPaths) -> None:
    said = "2026-01-31T12:00:00Z hpcrun: attempt {} of {} as job 7 on node1\n"
    over = "slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2026-01-31T13:00:00 DUE TO TIME LIMIT ***\n"
    job = home.system_logs / "job.txt"
    job.write_text(said.format(1, RUN) + over + said.format(2, RUN))
    assert explain(record(home), home).cause == "BadExit"
    job.write_text(said.format(1, RUN) + said.format(2, RUN) + over)
    assert explain(record(home), home).cause == "Timeout"


def test_a_record_that_lacks_everything(home: RunPaths) -> None:
    nowhere = RunPaths(home.folder / "nowhere")
    for state in RunState:
        bare = record(nowhere, state=state, exit_code=None, reason="", started="not a time")
        bare.config = {"yaml": "a: [", "processes": "many"}
        bare.submission = {"request": "none"}
        assert explain(bare, nowhere).words


def test_lines_of_code_are_the_runs_own(home: RunPaths) -> None:
    (home.folder / "secret.py").write_text("SECRET\n")
    (home.code / "train.py").write_text("first\n    second\n")
    (home.code / "out.py").symlink_to(home.folder / "secret.py")
    source = gather(record(home), home).source
    assert source("train.py", 2) == "    second"
    for path, line in (("train.py", 3), ("train.py", 0), ("../secret.py", 1), ("out.py", 1), ("a\0", 1)):
        assert source(path, line) is None


def test_explain_on_the_command_line(project: Project) -> None:
    """In words and as JSON; exit code 0; it is pointed to where a failed run is shown."""
    told = hpcrun("submit", project.script("import no_such_module_here\n"), "--wait").output
    short = project.runs[0].rpartition("_")[2]
    assert f"why: hpcrun explain {short}" in told
    assert f"why         hpcrun explain {short}" in typed("show", "@-1")
    shown = typed("explain", "@-1").splitlines()
    assert shown[0] == f"{project.runs[0]}: Failed (BadExit)"
    assert shown[1].startswith("MissingModule: Python found no module no_such_module_here")
    assert shown[2] == "  | train.py:1: import no_such_module_here"
    assert any(line.startswith("next  ") for line in shown)
    found = document("explain", "@-1")
    assert list(found) == ["id", "state", "reason", "cause", "words", "evidence", "next", "used"]
    assert f"used  {found['used']}" in shown and " of 1 CPU, " in found["used"]
    assert (found["id"], found["cause"]) == (project.runs[0], "MissingModule")


def test_a_run_that_completed_is_said_to_have(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    assert document("explain", "@-1")["cause"] == "Completed"
    assert "explain" not in typed("show", "@-1")
