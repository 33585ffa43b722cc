"""``hpcrun sweep status --watch`` on a terminal: what stands on it as a sweep goes on, and how it is left."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.cli_help import Project, document, make_project, refused, typed
from tests.terminal_help import Terminal, close_all

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    yield from make_project(tmp_path)
    close_all()


def started(project: Project, *names: str, at_once: int = 2) -> str:
    """A sweep over x: each trial reports it, and waits to be let go. Its id."""
    point = (
        """echo '{"n": "loss", "v": '"$x"', "s": 0, "t": 1}' >> "$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"; """
    )
    data = {
        "experiment": "exp",
        "command": f'mkdir -p "$HPCRUN_RUN_DIR/metrics"; {point}{project.until_let_go}',
        "sweep": {
            "space": {"x": {"choice": [3, 1, 2]}, "of_a_name_that_is_rather_long": {"choice": ["雪" * 30]}},
            "sampling": "grid",
            "metric": "loss",
            "goal": "minimize",
            "pass_as": "variables",
            "max_concurrent_runs": at_once,
        },
    }
    (project.folder / "sweep.yaml").write_text(json.dumps(data))
    made: str = document("sweep", "start", "sweep.yaml", "--name", "watched")["id"]
    return made


def left_by(terminal: Terminal) -> str:
    """What a terminal shows once its screen was given back, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", terminal.stream.rpartition("\x1b[?1049l")[2])


def shows(lines: list[str], *words: str) -> bool:
    return bool(lines) and lines[-1].startswith("q ends · ") and all(w in "\n".join(lines) for w in words)


def test_it_moves_the_sweep_until_it_has_ended(project: Project) -> None:
    """Whoever watches takes its steps: the third trial begins as another ends."""
    sweep = started(project)
    terminal = Terminal("sweep", "status", "watched", "--watch")
    shown = terminal.until(
        lambda lines: shows(lines, f"sweep    {sweep}", "2 Running, 1 to come", "the best of 2", "\n0  ")
    )
    best = next(line for line in shown if line.startswith("1  "))
    assert best.split()[2:6] == ["Running", "1", "1", "1"], "trial 1 is the best so far, while it runs"
    project.let_go()
    assert terminal.end() == 0
    left = left_by(terminal)
    assert "trials   3: 3 Completed" in left and "the best of 3 trials that reported" in left, (
        "and stays there"
    )
    assert document("ls", "--parent", sweep)["runs"][0]["state"] == "Completed"


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_every_width(project: Project, columns: int) -> None:
    started(project)
    terminal = Terminal("sweep", "status", "watched", "--watch", columns=columns, lines=30)
    terminal.until(lambda lines: shows(lines, "2 Running", "the best of 2"))
    assert all(cell_len(line) <= columns and "\n" not in line for line in terminal.shown)
    assert any("…" in line for line in terminal.shown), "what does not fit is cut"
    assert any(line.startswith("TRIAL") for line in terminal.shown)
    terminal.forget()
    terminal.resize(columns, 6)
    shown = terminal.until(lambda lines: len(lines) == 6 and shows(lines))
    assert shown[0].startswith("sweep") and "lines do not fit"[: columns - 30] in shown[-1]
    terminal.type("q")
    assert terminal.end() == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted(project: Project, number: signal.Signals, code: int) -> None:
    sweep = started(project)
    terminal = Terminal("sweep", "status", "watched", "--watch")
    terminal.until(lambda lines: shows(lines, "2 Running"))
    terminal.process.send_signal(number)
    assert terminal.end() == code
    left = left_by(terminal)
    if number == signal.SIGINT:
        assert f"run {sweep} goes on" in left and f"hpcrun sweep status --watch {sweep[-8:]}" in left
    assert "Traceback" not in left
    told = document("sweep", "status", "watched", "--no-refresh")
    assert told["state"] == "Running" and told["states"] == {"Running": 2}, "the trials go on"


def test_q_leaves_it(project: Project) -> None:
    started(project, at_once=1)
    terminal = Terminal("sweep", "status", "watched", "--watch")
    terminal.until(lambda lines: shows(lines, "1 Running, 2 to come"))
    terminal.type("x\x1b[A\nq")
    assert terminal.end() == 0
    assert "1 Running, 2 to come" in left_by(terminal)


def test_one_that_has_ended_is_shown_and_left(project: Project) -> None:
    started(project)
    typed("sweep", "stop", "watched")
    typed("wait", "watched", code=21)
    terminal = Terminal("sweep", "status", "watched", "--watch")
    assert terminal.end() == 0
    left = left_by(terminal)
    assert "state    Canceled" in left and "trials   3: 2 Canceled, 1 never began" in left


def test_failed_trials_again(project: Project) -> None:
    """What is tried again of a sweep that has ended goes on as somebody looks, and is waited for."""
    command = f"[ -e '{project.folder}/mended' ] && {{ {project.until_let_go}; }}"
    sweep = {"space": {"x": {"choice": [1]}}, "sampling": "grid", "metric": "loss", "goal": "minimize"}
    data = {"experiment": "exp", "command": command, "sweep": {**sweep, "pass_as": "variables"}}
    (project.folder / "sweep.yaml").write_text(json.dumps(data))
    typed("sweep", "start", "sweep.yaml", "--name", "watched", "--wait", code=20)
    said = typed("sweep", "status", "watched")
    assert "why one failed: hpcrun explain " in said and "the failed again: hpcrun sweep retry " in said
    (project.folder / "mended").touch()
    typed("sweep", "retry", "watched")
    terminal = Terminal("sweep", "status", "watched", "--watch")
    terminal.until(lambda lines: shows(lines, "1 Running"))
    project.let_go()
    assert terminal.end() == 0
    assert "1: 1 Completed" in left_by(terminal)


def test_without_a_terminal(project: Project) -> None:
    started(project)
    assert "there is none" in refused("sweep", "status", "watched", "--watch", code=2)
    told = document("sweep", "status", "watched", "--watch", code=2)
    assert told["error"]["message"] == "--watch does not go with --json"
