"""``hpcrun ls --watch`` on a terminal: what stands on it, what keys and signals do, how it is given back."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hpcrun.cli.lswatch import HERE, LEAST, MOST, Rhythm
from hpcrun.cli.screen import clip
from tests import cli_help
from tests.cli_help import Project, _alarm, document, ended, program, refused, typed


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)
    for terminal in Terminal.open:
        terminal.process.kill()
        terminal.process.wait()
    Terminal.open.clear()


class Terminal:
    """A terminal with hpcrun on it, and what stands on its alternate screen."""

    open: ClassVar[list[Terminal]] = []

    def __init__(self, *args: str, columns: int = 100, lines: int = 24) -> None:
        self.ours, self._theirs = os.openpty()
        self.resize(columns, lines, tell=False)
        self.modes = termios.tcgetattr(self._theirs)
        ends = {"stdin": self._theirs, "stdout": self._theirs, "stderr": self._theirs}
        env = {**os.environ, "TERM": "xterm"}
        self.process = program(*args, env=env, start_new_session=True, **ends)
        self.stream = self._past = ""
        self.open.append(self)

    def forget(self) -> None:
        """Look at nothing that has been drawn until now."""
        self._past, self.stream = self._past + self.stream, ""

    def resize(self, columns: int, lines: int, *, tell: bool = True) -> None:
        self.columns, self.lines = columns, lines
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    @property
    def shown(self) -> list[str]:
        """The lines of the alternate screen; no cell behind the right edge is ever written to."""
        rows: dict[int, str] = {}
        at, text = 0, self.stream.rpartition("\x1b[?1049h")[2]
        for code, words in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([^\x1b]+)", text):
            if code.endswith("H"):
                at = int(code[2:].partition(";")[0] or 1) if code != "\x1b[H" else 1
            elif code in ("\x1b[2J", "\x1b[?1049l"):
                rows = {}
            elif code == "\x1b[2K":
                rows[at] = ""
            elif code.endswith("m"):
                pass
            elif words:
                rows[at] = rows.get(at, "") + words
            else:
                raise AssertionError(f"{code!r} was sent to the terminal")
        return [rows.get(line, "") for line in range(1, max(rows, default=0) + 1)]

    def until(self, condition: Callable[[list[str]], object]) -> list[str]:
        with _alarm():
            while not condition(self.shown):
                self.stream += os.read(self.ours, 65536).decode()
        return self.shown

    def type(self, keys: str) -> None:
        os.write(self.ours, keys.encode())

    def end(self) -> int:
        """Read to the end; the exit code. The terminal is as it was."""
        code = self.process.wait(cli_help.PATIENCE)
        self.open.remove(self)
        os.set_blocking(self.ours, False)
        try:
            while data := os.read(self.ours, 65536):
                self.stream += data.decode()
        except BlockingIOError:
            pass
        assert termios.tcgetattr(self._theirs) == self.modes
        every = self._past + self.stream
        assert every.count("\x1b[?1049h") == every.count("\x1b[?1049l") > 0
        assert "\x1b[?25l" not in every, "the cursor is never hidden"
        os.close(self.ours)
        os.close(self._theirs)
        return code


def table_is_there(lines: list[str]) -> bool:
    return bool(lines) and lines[0].startswith("ID") and lines[-1].startswith("q ends · ")


@pytest.mark.slow
def test_the_table_follows_the_runs_until_q(project: Project) -> None:
    typed("submit", project.config(project.until_let_go))
    terminal = Terminal("ls", "--watch")
    terminal.until(lambda lines: table_is_there(lines) and "Running" in lines[1])
    first = terminal.shown[-1].split(" · ")[1]
    terminal.until(lambda lines: first not in lines[-1])  # the clock, and so the ages, go on
    project.let_go()
    terminal.until(lambda lines: "Completed" in lines[1])
    typed("submit", project.config("sleep 0.2"))
    terminal.until(lambda lines: "exp" in lines[2])
    terminal.type("x\x1b[A\n")
    clock = terminal.shown[-1].split(" · ")[1]
    terminal.until(lambda lines: clock not in lines[-1])  # other keys mean nothing
    terminal.type("q")
    assert terminal.end() == 0
    assert terminal.stream.rstrip().endswith("\x1b[?1049l")


@pytest.mark.slow
def test_another_size(project: Project) -> None:
    for number in range(12):
        typed("submit", project.config("true", display_name=f"雪 {'long ' * 20}{number}"))
    terminal = Terminal("ls", "--watch", "--no-refresh", columns=200, lines=30)
    for columns, lines in ((200, 30), (40, 30), (80, 8), (120, 24), (3, 2)):
        terminal.forget()
        terminal.resize(columns, lines)
        expected = min(lines, 15)  # 12 runs and what stands around them

        def redrawn(shown: list[str], expected: int = expected) -> bool:
            return len(shown) == expected and (expected < 8 or table_is_there(shown))

        terminal.until(redrawn)
        rows = [line for line in terminal.shown if line.strip()]
        assert all(cell_len(line) <= columns for line in rows)
        assert len(rows) <= lines
        if lines == 8:
            assert "7 more do not fit" in rows[-1]
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_give_the_terminal_back(project: Project, number: signal.Signals, code: int) -> None:
    typed("submit", project.config("true"))
    terminal = Terminal("ls", "--watch")
    terminal.until(table_is_there)
    terminal.process.send_signal(number)
    assert terminal.end() == code
    if number == signal.SIGINT:
        assert terminal.stream.rstrip().endswith("\x1b[?1049l\r\nhpcrun: interrupted")


@pytest.mark.slow
def test_stopped_and_gone_on_with(project: Project) -> None:
    typed("submit", project.config("true"))
    terminal = Terminal("ls", "--watch")
    terminal.until(table_is_there)
    terminal.process.send_signal(signal.SIGTSTP)
    deadline = time.monotonic() + cli_help.PATIENCE
    state = Path(f"/proc/{terminal.process.pid}/stat")
    while state.read_text().rpartition(") ")[2][0] != "T":
        assert time.monotonic() < deadline
        # An orphan's terminal stop is not carried out; what matters is that the terminal is given back.
        if terminal.stream.count("\x1b[?1049l"):
            break
        terminal.stream += os.read(terminal.ours, 65536).decode()
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(lambda lines: terminal.stream.count("\x1b[?1049h") == 2 and table_is_there(lines))
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.slow
def test_a_site_in_trouble_takes_one_line(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        "#!/bin/sh\necho 'ssh: connect to host nowhere.invalid port 22: No route to host' >&2; exit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    sites = tmp_path / ".hpcrun" / "site_configs"
    sites.mkdir(parents=True)
    (sites / "far.yaml").write_text(
        "connection: {type: openssh, host: nowhere.invalid}\nscheduler: {type: slurm}\nroot: $HOME/x\n"
    )
    from hpcrun.history.record import RunRecord, new_run_id
    from hpcrun.history.store import History
    from hpcrun.states import RunState

    with History.open(tmp_path / ".hpcrun", create=True) as history:
        history.create(
            RunRecord(
                id=new_run_id("exp"),
                experiment="exp",
                target="far",
                scheduler="slurm",
                host="nowhere.invalid",
                run_dir="/x",
                job_id="1",
                state=RunState.RUNNING,
                submission={"state": "submitted", "began": "2026-01-01T00:00:00Z"},
            )
        )
    terminal = Terminal("ls", "--watch", columns=60)
    shown = terminal.until(lambda lines: len(lines) >= 5 and lines[3].startswith("far: "))
    assert len(shown) == 5 and "next question in" in shown[4]
    terminal.type("q")
    assert terminal.end() == 0


def test_without_a_terminal(project: Project) -> None:
    typed("submit", project.config("true"))
    said = refused("ls", "--watch", code=2)
    assert "there is none" in said and "hpcrun wait RUN" in said and "hpcrun ls --json" in said
    assert document("ls", "--watch", code=2)["error"]["message"] == "--watch does not go with --json"
    assert "not in the range x>=15" in refused("ls", "--watch", "14", code=2)
    code, _, err = ended(program("ls", "--watch", env={**os.environ, "TERM": "dumb"}))
    assert code == 2 and "--watch draws on a terminal" in err


answers = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1)), min_size=1, max_size=40)


@given(st.integers(LEAST, 300), answers)
def test_schedulers_are_asked_politely(seconds: int, answers: list[tuple[bool, bool, float]]) -> None:
    rhythm, now = Rhythm(seconds), 0.0
    for new, trouble, chance in answers:
        rhythm = rhythm.answered(now, new=new, trouble=trouble, chance=chance)
        pause = rhythm.next_ask - now
        assert max(LEAST, seconds) * 0.999 <= pause <= max(MOST, seconds) * 1.11
        if new and not trouble:
            assert pause <= seconds * 1.11
        now = rhythm.next_ask


def test_where_nothing_changes_it_backs_off() -> None:
    rhythm, now, pauses = Rhythm(LEAST), 0.0, []
    for _ in range(10):
        rhythm = rhythm.answered(now, new=False, chance=0.0)
        pauses.append(round(rhythm.next_ask - now))
        now = rhythm.next_ask
    assert pauses[:2] == [15, 20] and pauses[-1] == MOST and pauses == sorted(pauses)


def test_files_of_this_machine_are_looked_at_soon_again() -> None:
    assert Rhythm(LEAST).answered(5.0, new=False, polite=False).next_ask == 5.0 + HERE


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("short", "short"),
        ("a" * 12, "aaaaaaaaa…"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("雪" * 6, "雪雪雪雪 …"),
    ],
)
def test_lines_are_cut_where_the_terminal_ends(line: str, expected: str) -> None:
    assert clip(line, 10).strip() == expected
