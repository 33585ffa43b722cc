"""``hpcrun ls --watch`` on a terminal: what stands on it, what keys and signals do, how it is given back."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from hpcrun.cli.lswatch import HERE, LEAST, MOST, Rhythm
from hpcrun.cli.screen import clip
from tests import cli_help
from tests.cli_help import Project, document, ended, program, refused, typed
from tests.terminal_help import Terminal, close_all


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)
    close_all()


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


def measuring(project: Project) -> str:
    """Bash source that measures something, waits to be let go, and measures more."""
    line = (
        """echo '{{"n": "loss", "v": {v}, "s": {s}, "t": 1}}' >> "$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"; """
    )
    first, last = line.format(v=4, s=0), line.format(v=1.5, s=1)
    return f'mkdir -p "$HPCRUN_RUN_DIR/metrics"; {first} {project.until_let_go}; {last}'


@pytest.mark.slow
def test_metrics_are_followed_until_the_run_ends(project: Project) -> None:
    typed("submit", project.config(measuring(project)))
    terminal = Terminal("metrics", "@-1", "--watch")
    terminal.until(lambda lines: any(line.split()[:3] == ["loss", "1", "4"] for line in lines))
    assert terminal.shown[-1].startswith("q ends · ")
    project.let_go()
    assert terminal.end() == 0
    left = terminal.stream.rpartition("\x1b[?1049l")[2]
    assert re.search(r"loss +2 +1\.5 +1\.5 +4 +1 ", left), "the last table stays on the terminal"


@pytest.mark.slow
def test_metrics_that_are_watched_can_be_left(project: Project) -> None:
    typed("submit", project.config(measuring(project)))
    for keys, code in (("q", 0), ("\x03", 130)):
        terminal = Terminal("metrics", "@-1", "loss", "-f", columns=40)
        terminal.until(lambda lines: lines and lines[-1].startswith("q ends · "))
        if keys == "q":
            terminal.type(keys)
        else:
            terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == code
    assert "goes on" in terminal.stream and "hpcrun metrics -f" in terminal.stream
