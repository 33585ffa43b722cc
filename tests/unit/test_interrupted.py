"""Ctrl-C, a terminal that is closed, TERM: at any moment of a submission (fault 5)."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpcrun.cli.submission import finish_first
from hpcrun.engine.verify import verify
from hpcrun.shells.local import LocalShell
from hpcrun.workspace import Workspace
from tests.cli_help import PATIENCE, Project, make_project, typed

# Submits with the key that it reads from a line, in a process of its own that need not load everything anew.
# Without that the moments would nearly all fall into loading.
FORKING = """
import os, signal, sys
import hpcrun.cli.submit, hpcrun.config.load, hpcrun.engine.prepare, hpcrun.engine.submit, hpcrun.workspace
import jinja2, platformdirs
from hpcrun.__main__ import entry

signal.signal(signal.SIGINT, signal.SIG_IGN)
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        said = os.open(f"{line.strip()}.said", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(said, 1), os.dup2(said, 2)
        sys.argv = ["hpcrun", "submit", "run.yaml", "--key", line.strip()]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        entry()
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

# The interpreter's own start is not in our hands.
WHOLE = "import sys, hpcrun.__main__; print('up', flush=True); hpcrun.__main__.entry()"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    made = make_project(tmp_path)
    yield from made


class Submitter:
    """Submits with a key, and is sent a signal after a while; what it said and its exit code."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", FORKING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, key: str, delay: float | None = None, number: int = signal.SIGINT) -> tuple[int, str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        said = Path(f"{key}.said")
        said.write_text("")
        self._process.stdin.write(f"{key}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        if delay is not None:
            time.sleep(delay)  # the random moment
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return int(self._process.stdout.readline()), said.read_text()

    def close(self) -> None:
        self._process.communicate(timeout=PATIENCE)


def whole_program(key: str, delay: float, number: int) -> tuple[int, str]:
    """The same, by the program itself, everything loaded anew."""
    argv = [sys.executable, "-c", WHOLE, "submit", "run.yaml", "--key", key]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None and process.stdout.readline() == "up\n"
    time.sleep(delay)  # the random moment
    process.send_signal(number)
    said, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, said


def timed(submit: Submitter, key: str) -> float:
    began = time.monotonic()
    assert submit(key)[0] == 0
    return time.monotonic() - began


def by_key(project: Project) -> dict[str, str]:
    if not (project.folder / ".hpcrun").is_dir():
        return {}
    with Workspace.open(project.folder) as workspace:
        return {str(row.key): str(row.job_id) for row in workspace.history.list(limit=None)}


@pytest.mark.slow
def test_a_signal_at_any_moment_finishes_the_submission_or_submits_nothing(project: Project) -> None:
    chance = random.Random(20260131)
    (project.folder / "src").mkdir()
    (project.folder / "src" / "train.sh").write_text(f"echo $HPCRUN_RUN_ID >>'{project.folder}/ran'\n")
    config = {"experiment": "exp", "source_directory": "src", "script": "train.sh"}
    (project.folder / "run.yaml").write_text(json.dumps(config))
    submit = Submitter()
    took = min(timed(submit, f"before {i}") for i in range(4))
    outcomes: dict[str, int] = {}
    numbers = [signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    for i in range(200):
        key, number = f"k{i}", numbers[i % 4]
        if i % 10 == 0:
            code, said = whole_program(key, chance.random() * 6 * took, number)
        else:
            code, said = submit(key, chance.random() * took, number)
        assert "Traceback" not in said and "ignored" not in said, said
        after = by_key(project)
        if code == 0 or "submitted" in said.partition("nothing was submitted")[0]:
            outcome = "finished"
            assert after[key] != "None"
        else:
            outcome = "nothing"
            assert key not in after, said
            assert code == (130 if number == signal.SIGINT else -number) or code == 130, said
        outcomes[f"{outcome} {code}"] = outcomes.get(f"{outcome} {code}", 0) + 1
        if outcome == "nothing" or i % 5 == 0:  # the same again, in peace
            assert submit(key)[0] == 0
            again = by_key(project)
            assert again == {**after, key: again[key]} and again[key] != "None"
    submit.close()
    print(outcomes)
    project.wait()
    ran = (project.folder / "ran").read_text().split()
    assert len(ran) == len(set(ran)) == 204
    typed("ls")
    report = verify(Workspace.open(project.folder).history.paths, LocalShell())
    assert report.findings == [] and report.runs == 204


class Signals:
    """Sends a signal to this process when it is destroyed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def test_a_signal_in_a_destructor_is_not_lost(tmp_path: Path) -> None:
    """Python would lose an exception there. The submission is finished, as if it had begun."""
    with finish_first(tmp_path / "nothing was begun") as interrupted:
        Signals()
        assert interrupted == [signal.SIGINT]
        Signals()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
