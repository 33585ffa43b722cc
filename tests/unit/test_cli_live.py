"""What stands below the log while a run is followed or waited for, on a terminal: it is gone at the end."""

from __future__ import annotations

import codecs
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcrun.cli.text import tamed
from tests import cli_help
from tests.cli_help import Project, _alarm, ended, on_terminal, program, typed

pytestmark = pytest.mark.slow

LONG = "x" * 150 + "END"
BAR = "".join(f"\\r {percent:2d}%% bar" for percent in (10, 50, 99))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


def shown(stream: str, columns: int) -> list[str]:
    """The lines that a terminal shows in the end: a small model of one, that knows what hpcrun may send."""
    rows: list[list[str]] = [[]]
    row = column = 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", stream, re.DOTALL):
        if part.endswith("m") and part[0] == "\x1b":
            continue
        if part == "\x1b[2K":
            rows[row] = []
        elif part == "\x1b[1A":
            assert row > 0, "above the first line there is nothing to erase"
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            rows += [[]] * (row == len(rows))
        else:
            assert part >= " ", f"{part!r} was sent to the terminal"
            if column == columns:
                row, column = row + 1, 0
                rows += [[]] * (row == len(rows))
            rows[row] = [*rows[row], *" " * (column - len(rows[row]))]
            rows[row][column : column + 1] = [part]
            column += 1
    return ["".join(line).rstrip() for line in rows]


def running(lines: list[str]) -> bool:
    return lines[-1].startswith("Running · ")


class Terminal:
    """A program on a terminal, of which both ends are at hand."""

    def __init__(self, *args: str, columns: int = 80, piped: bool = False) -> None:
        self._columns = columns
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        out = subprocess.PIPE if piped else theirs
        env = {**os.environ, "TERM": "xterm"}
        self.process = program(*args, stdout=out, stderr=theirs, env=env)
        os.close(theirs)
        self.stream = ""
        self._decode = codecs.getincrementaldecoder("utf-8")().decode

    def until(self, condition: Callable[[list[str]], bool]) -> None:
        """Read until the lines that it shows are so."""
        with _alarm():
            while not condition(shown(self.stream, self._columns)):
                self.stream += self._decode(os.read(self._ours, 65536))

    def end(self) -> int:
        """Read to the end; the exit code."""
        with _alarm():
            while True:
                try:
                    self.stream += self._decode(os.read(self._ours, 65536))
                except OSError:  # how Linux says that the other end is closed
                    break
        os.close(self._ours)
        return self.process.wait(cli_help.PATIENCE)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_following_on_a_terminal(project: Project, columns: int) -> None:
    first = rf"printf '\033[32mgreen\033[0m {LONG}\n\033[2J\033[5Ahome\a\n{BAR}'"
    text = rf"{first}; {{ {project.until_let_go}; }} > /dev/null; printf '\r100%% done\nlast\n'"
    name = project.config(text, resources={"time": "5m"}, display_name="雪 run")
    terminal = Terminal("submit", name, "--follow", columns=columns)
    terminal.until(lambda lines: lines[-2:-1] == [" 99% bar"] and lines[-1].startswith("Running · "))
    project.let_go()
    assert terminal.end() == 0
    stream = terminal.stream
    lines = shown(stream, columns)
    text = "\n".join(line for line in lines if not line.startswith("["))
    assert "\x1b[32mgreen\x1b[0m x" in stream and f"green {LONG}" in "".join(lines), "a long line is whole"
    assert "\nhome\n100% done\nlast\n" in text
    assert " of 5m" not in text and "bar" not in text, "what was drawn below the log is gone"
    assert lines[lines.index("last") + 1].startswith("exp_")
    assert "\x1b[?25l" not in stream, "the cursor is never hidden"


def test_a_pipe_gets_every_byte(project: Project) -> None:
    first = rf"printf '\033[32mgreen\033[0m\n\033[2J{BAR}\r\n'"
    text = f"{first}; {{ {project.until_let_go}; }} > /dev/null; echo last"
    terminal = Terminal("submit", project.config(text), "--follow", piped=True)
    terminal.until(running)
    project.let_go()
    assert terminal.process.stdout is not None
    with _alarm(), terminal.process.stdout as pipe:
        out = pipe.buffer.read()  # type: ignore[attr-defined]
    assert terminal.end() == 0
    assert out == b"\x1b[32mgreen\x1b[0m\n\x1b[2J\r 10% bar\r 50% bar\r 99% bar\nlast\n"
    assert "Running ·" not in "\n".join(shown(terminal.stream, 80))
    code, said, err = ended(program("logs", "-f", "@-1"))
    assert (code, said.encode()) == (0, out.replace(b"\r", b"\n")) and "\x1b" not in err


def test_nothing_is_drawn_where_there_is_no_terminal(project: Project) -> None:
    project.let_go()
    process = program("submit", project.config(project.until_let_go), "--follow")
    code, out, err = ended(process)
    assert (code, out) == (0, "ready\ngone\n")
    assert "\x1b" not in err and " · " not in err


@pytest.mark.parametrize("how", ["--wait", "--follow"])
def test_ctrl_c_leaves_the_terminal_as_it_should_be(project: Project, how: str) -> None:
    terminal = Terminal("submit", project.config(project.until_let_go), how)
    terminal.until(running)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.end() == 130
    *_, interrupted, said, back, end, nothing = shown(terminal.stream, 80)
    assert interrupted == "^C" and nothing == ""
    assert said.startswith("hpcrun: interrupted; run exp_") and said.endswith("goes on")
    assert "come back: hpcrun" in back and "end: hpcrun cancel" in end
    assert "\x1b[?25l" not in terminal.stream


def test_waiting_for_several(project: Project) -> None:
    for _ in range(2):
        typed("submit", project.config(project.until_let_go))
    terminal = Terminal("wait", "@-2", "@-1")
    terminal.until(lambda lines: len(lines) == 1 and "run 1 of 2" in lines[0])
    project.let_go()
    assert terminal.end() == 0
    lines = shown(terminal.stream, 80)
    assert [line.split(": ")[1].split(" ")[0] for line in lines if line.startswith("exp_")] == [
        "Completed"
    ] * 2
    assert not any(" · " in line for line in lines)


def test_a_run_that_has_ended_draws_nothing(project: Project) -> None:
    typed("submit", project.config("echo x"), "--wait")
    for args in (("wait", "@-1"), ("logs", "-f", "@-1")):
        assert "\x1b[2K" not in on_terminal(*args)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain\ttext 雪", "plain\ttext 雪"),
        ("\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m\x1b[0m"),
        ("\x1b[38:2::1:2:3mx", "\x1b[38:2::1:2:3mx\x1b[0m"),
        ("a\x1b[2Kb\x1b[10;5Hc\x1b[?25ld", "abcd"),
        ("\x1b]0;title\x07x\x1b]8;;http://a\x1b\\y", "xy"),
        ("\x1b", ""),
        ("a\x1b(Bb\x1bcc\x08\x00\x9b2J", "abc2J"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("\r\r", ""),
        ("bar\r   ", "bar"),
    ],
)
def test_what_a_terminal_gets_of_a_line(line: str, expected: str) -> None:
    assert tamed(line) == expected
