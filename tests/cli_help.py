"""What the tests of the command line share: a small project, and both ways to type a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import click.testing
import pytest

from hpcrun.cli.main import cli
from hpcrun.engine.cancel import cancel
from hpcrun.engine.wait import wait
from hpcrun.errors import WaitTimeoutError
from hpcrun.workspace import Workspace

PATIENCE = 60.0
"""Seconds after which a test gives up; never how long one takes."""

FAILS = "echo before; echo oops >&2; exit 3"


@dataclass
class Project:
    """A folder with configurations in it, which becomes a workspace with the first run."""

    folder: Path

    def config(self, command: str, name: str = "run.yaml", **more: object) -> str:
        """Write a configuration that runs bash source; what to type for it."""
        data = {"experiment": "exp", "command": command, **more}
        (self.folder / name).write_text(json.dumps(data))  # JSON is YAML
        return name

    def script(self, source: str, name: str = "run.yaml", **more: object) -> str:
        """Write a configuration that runs a Python script."""
        (self.folder / "train.py").write_text(source)
        data = {"experiment": "exp", "script": "train.py", **more}
        (self.folder / name).write_text(json.dumps(data))
        return name

    @property
    def until_let_go(self) -> str:
        """Bash source that says that it is ready, and waits for :meth:`let_go`."""
        return f"echo ready; while [ ! -e '{self.folder}/go' ]; do sleep 0.02; done; echo gone"

    def let_go(self) -> None:
        """Let the runs of :attr:`until_let_go` come to their ends."""
        (self.folder / "go").touch()

    def ready(self) -> str:
        """Wait until the newest run has begun and printed something; its id."""
        run_id = self.runs[0]
        deadline = time.monotonic() + PATIENCE
        while not any(path.stat().st_size for path in (self.home(run_id) / "user_logs").glob("*")):
            assert time.monotonic() < deadline, f"{run_id} never began"
            time.sleep(0.02)
        return run_id

    @property
    def runs(self) -> list[str]:
        with Workspace.open(self.folder) as workspace:
            return [row.id for row in workspace.runs()]

    def home(self, run_id: str) -> Path:
        return self.folder / ".hpcrun" / "runs" / run_id

    def record(self, run_id: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home(run_id or self.runs[0]) / "run.json").read_text())
        return found

    def wait(self) -> None:
        """Wait until every local run of every workspace here has ended, and end those that go on and on."""
        self.let_go()
        for marker in sorted(self.folder.rglob(".hpcrun")):
            with Workspace(marker.parent, create=False) as workspace:
                for row in workspace.history.active():
                    if row.scheduler == "local":
                        self._end(workspace, row.id)

    @staticmethod
    def _end(workspace: Workspace, run_id: str) -> None:
        try:
            wait(workspace.history, workspace.targets, run_id, timeout=1.0)
        except WaitTimeoutError:
            cancel(workspace.history, workspace.targets, run_id)
            wait(workspace.history, workspace.targets, run_id, timeout=PATIENCE)


def hpcrun(*args: str, **env: str) -> click.testing.Result:
    """Type a command, in this process."""
    return click.testing.CliRunner(env=env).invoke(cli, args)


def typed(*args: str, code: int = 0, **env: str) -> str:
    """stdout of a command that is to end with ``code``."""
    result = hpcrun(*args, **env)
    if result.exit_code != code:
        pytest.fail(f"{args} ended with {result.exit_code}:\n{result.output}\n{result.exception!r}")
    return result.stdout


def refused(*args: str, code: int, **env: str) -> str:
    """stderr of a command that is to end with ``code`` and to print nothing else."""
    result = hpcrun(*args, **env)
    if result.exit_code != code or result.stdout:
        pytest.fail(f"{args} ended with {result.exit_code}:\n{result.output}\n{result.exception!r}")
    return result.stderr


def document(*args: str, code: int = 0, **env: str) -> Any:
    """The one JSON document that a command prints."""
    return json.loads(typed(*args, "--json", code=code, **env))


def program(*args: str, **more: Any) -> subprocess.Popen[str]:
    """The real program, started."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more}
    return subprocess.Popen([sys.executable, "-m", "hpcrun", *args], **options)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a program, once it has ended."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def read_until(stream: IO[str] | None, text: str) -> str:
    """All lines up to the one that holds ``text``."""
    assert stream is not None
    seen = ""
    with _alarm():
        for line in stream:
            seen += line
            if text in line:
                return seen
    raise AssertionError(f"{text!r} never came, but {seen!r}")


class _alarm:
    """Breaks off a read that would wait for ever."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.alarm(int(PATIENCE))

    def __exit__(self, *exc: object) -> None:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, self._before)

    @staticmethod
    def _ring(number: int, frame: object) -> None:
        raise TimeoutError


def on_terminal(*args: str, columns: int = 100, **env: str) -> str:
    """What a command shows on a terminal of so many columns."""
    import fcntl
    import struct
    import termios

    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = program(*args, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", **env})
    os.close(theirs)
    shown = b""
    with _alarm():
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not data:
                break
            shown += data
    os.close(ours)
    assert process.wait(PATIENCE) is not None
    return shown.decode()


def make_project(folder: Path) -> Iterator[Project]:
    """For a fixture of each test module: the project, whose runs have ended when the test has."""
    project = Project(folder)
    yield project
    project.wait()
