"""What the shell offers behind hpcrun: asked through the program, and through a real bash."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cli_help
from tests.cli_help import Project, ended, program, typed

# Each types a command line at a shell of its own.
pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


@pytest.fixture
def runs(project: Project) -> list[str]:
    """Three runs that have ended, the newest first."""
    for experiment in ("cifar", "mnist", "cifar"):
        typed("submit", project.config("true", experiment=experiment), "--wait")
    return project.runs


@pytest.fixture
def site(project: Project) -> None:
    folder = project.folder / "site_configs"
    folder.mkdir()
    (folder / "big.yaml").write_text(json.dumps({"partitions": {"gpu": {}, "gpu2": {}, "cpu": {}}}))
    (folder / "broken.yaml").write_text("partitions: [")


def offered(line: str, **env: str) -> list[str]:
    """What is offered for the last word of a line."""
    word = line.rpartition(" ")[2]
    asked = {"_HPCRUN_COMPLETE": "fish_complete", "COMP_WORDS": line, "COMP_CWORD": word}
    code, out, err = ended(program(env={**os.environ, **asked, **env}))
    assert (code, err) == (0, "")
    return [answer.partition("\t")[0].removeprefix("plain,") for answer in out.splitlines() if answer]


@pytest.mark.parametrize(
    "command",
    [
        *("show", "logs", "wait", "cancel", "tag", "open", "rerun", "diff", "explain", "archive", "restore"),
        *("history gc", "submit run.yaml --parent", "ls --parent"),
        *("metrics", "compare", "tensorboard", "export csv"),
    ],
)
def test_runs_are_offered_wherever_one_is_meant(command: str, runs: list[str]) -> None:
    assert offered(f"hpcrun {command} ") == [*(run_id[-8:] for run_id in runs), "@cifar:", "@mnist:"]


def test_metrics_of_the_run_before(runs: list[str], project: Project) -> None:
    line = """{"n": "$name", "v": 1, "t": 1}"""
    file = "$HPCRUN_RUN_DIR/metrics/rank_000.jsonl"
    source = f"for name in loss lr; do echo '{line}' | sed s/.name/$name/; done > {file}"
    typed("submit", project.config(source), "--wait")
    assert offered("hpcrun metrics @-1 lo") == ["loss"]
    assert offered("hpcrun metrics @-1 l")[:2] == ["loss", "lr"]  # and runs that happen to begin so
    assert offered("hpcrun metrics @-1 ")[:3] == ["loss", "lr", project.runs[0][-8:]]


def test_runs_by_how_they_begin(runs: list[str], project: Project) -> None:
    newest, middle, oldest = runs
    assert offered(f"hpcrun show {newest[-8:-2]}") == [newest[-8:]]
    assert offered("hpcrun show mnist_") == [middle]
    assert offered("hpcrun show @ci") == ["@cifar:"]
    assert offered("hpcrun show @cifar:")[-2:] == ["@cifar:2", "@cifar:1"]
    assert offered("hpcrun show @cifar:c") == [f"@cifar:{word}" for word in ("cancelrequested", *ENDS)]
    assert offered("hpcrun show @c") == ["@cancelrequested", *(f"@{word}" for word in ENDS), "@cifar:"]
    assert offered("hpcrun show @las") == ["@last"]
    assert offered("hpcrun show @nobody:") == []
    assert offered(f"hpcrun wait {newest} {oldest[-8:-1]}") == [oldest[-8:]]
    assert offered(f"hpcrun diff {newest} @m") == ["@mnist:"]
    assert offered("hpcrun show nothing-like-it") == []


ENDS = ("completed", "canceled")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ls --experiment ", ["cifar", "mnist"]),
        ("submit run.yaml --experiment m", ["mnist"]),
        ("archive --experiment c", ["cifar"]),
        ("restore --experiment x", []),
        ("ls --status C", ["cancelrequested", *ENDS]),
        ("ls --status act", ["active"]),
        ("ls --sort du", ["duration"]),
    ],
)
def test_experiments_and_states(line: str, expected: list[str], runs: list[str]) -> None:
    assert offered(f"hpcrun {line}") == expected


def test_runs_of_the_workspace_that_is_named(runs: list[str], project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".hpcrun").mkdir()
    assert offered(f"hpcrun --workspace {elsewhere} show ") == []
    os.chdir(elsewhere)
    assert offered("hpcrun show ") == []
    assert "@cifar:" in offered(f"hpcrun --workspace {project.folder} show ")
    assert "@cifar:" in offered("hpcrun show ", HPCRUN_WORKSPACE=str(project.folder))


def test_without_a_workspace_nothing_is_offered_and_nothing_is_made(tmp_path: Path) -> None:
    assert offered("hpcrun show ") == []
    assert not Path(".hpcrun").exists()


def test_a_damaged_history_is_no_error_while_typing(runs: list[str], project: Project) -> None:
    database = project.folder / ".hpcrun" / "history.db"
    whole = database.read_bytes()
    database.write_bytes(b"damaged" * 1000)
    assert offered("hpcrun show ") == []
    database.write_bytes(whole)


@pytest.mark.parametrize("command", ["submit run.yaml", "run", "rerun x", "ls"])
def test_targets(command: str, site: None) -> None:
    assert offered(f"hpcrun {command} -t b") == ["big", "broken"]
    assert offered(f"hpcrun {command} --target big") == ["big", "big:gpu", "big:gpu2", "big:cpu"]
    assert offered(f"hpcrun {command} -t big:g") == ["big:gpu", "big:gpu2"]
    assert offered(f"hpcrun {command} -t broken:") == []
    assert "local" in offered(f"hpcrun {command} -t ")


def test_sites(site: None) -> None:
    assert offered("hpcrun site check b") == ["big", "broken"]
    assert offered("hpcrun site check big:c") == ["big:cpu"]


def test_completing_a_run_loads_nothing_heavy(runs: list[str]) -> None:
    code = (
        "import sys\nfrom hpcrun.cli.main import entry\n"
        "try:\n    entry()\nexcept SystemExit:\n    pass\nprint('\\nLOADED', *sys.modules)"
    )
    asked = {"_HPCRUN_COMPLETE": "fish_complete", "COMP_WORDS": "hpcrun show ", "COMP_CWORD": ""}
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    ).stdout
    assert runs[0][-8:] in out
    loaded = {name.partition(".")[0] for name in out.rpartition("LOADED")[2].split()}
    assert not loaded & {"pydantic", "rich", "jinja2", "submitit", "platformdirs", "yaml"}


def hpcrun_in(project: Project) -> Path:
    """A program called hpcrun, in a folder of its own."""
    beside = project.folder / "bin" / "hpcrun"
    if not beside.exists():
        beside.parent.mkdir()
        beside.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hpcrun "$@"\n')
        beside.chmod(0o755)
    return beside


def in_bash(project: Project, line: str, current: str) -> list[str]:
    """What bash gets for a line, of which it holds ``current`` to be the last word."""
    beside = hpcrun_in(project)
    text = (
        'eval "$("$1" completion bash)"; complete -p hpcrun >&2; COMP_LINE=$2 COMP_POINT=${#2}\n'
        '_hpcrun_completion "$1" "$3" x; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", text, "bash", beside, line, current],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "-F _hpcrun_completion hpcrun" in done.stderr
    return done.stdout.splitlines()


def test_bash_gets_what_follows_where_it_ends_a_word(runs: list[str], project: Project, site: None) -> None:
    assert in_bash(project, "hpcrun sub", "sub") == ["submit"]
    assert in_bash(project, "hpcrun show @ci", "@ci") == ["@cifar:"]
    assert in_bash(project, "hpcrun show @cifar:", "")[-2:] == ["2", "1"]
    assert in_bash(project, "hpcrun show @cifar:la", "la") == ["last"]
    assert in_bash(project, "hpcrun submit x.yaml -t big:g", "g") == ["gpu", "gpu2"]
    assert in_bash(project, f"hpcrun show {runs[0][-8:-3]}", runs[0][-8:-3]) == [runs[0][-8:]]


def on_path(project: Project, shell: str) -> str:
    """The shell, with hpcrun beside it on its PATH; the test is skipped where there is no such shell."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} on PATH")
    return f"{hpcrun_in(project).parent}:{os.environ['PATH']}"


def test_fish_completes(runs: list[str], project: Project, site: None) -> None:
    path = on_path(project, "fish")

    def offers(line: str) -> list[str]:
        text = "hpcrun completion fish | source; complete -C $argv[1]"
        argv = ["fish", "--no-config", "-c", text, line]
        env = {**os.environ, "PATH": path}
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=True)
        return [answer.partition("\t")[0] for answer in done.stdout.splitlines()]

    assert offers("hpcrun sub") == ["submit"]
    assert offers("hpcrun show @ci") == ["@cifar:"]
    assert sorted(offers("hpcrun show @cifar:co")) == ["@cifar:completed"]
    assert sorted(offers("hpcrun submit x.yaml -t big:g")) == ["big:gpu", "big:gpu2"]
    assert offers(f"hpcrun show {runs[0][-8:-3]}") == [runs[0][-8:]]
    assert sorted(offers("hpcrun ls --experiment ")) == ["cifar", "mnist"]


def test_zsh_completes(runs: list[str], project: Project, site: None) -> None:
    """Keys are pressed at an interactive shell, on a terminal."""
    path = on_path(project, "zsh")
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    env = {**os.environ, "PATH": path, "TERM": "dumb", "PS1": "% "}
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True
    )
    os.close(theirs)

    def press(keys: str, expected: str) -> None:
        os.write(ours, keys.encode())
        seen, deadline = "", time.monotonic() + cli_help.PATIENCE
        while expected not in seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{keys!r} gave {seen!r} and not {expected!r}"
            if select.select([ours], [], [], left)[0]:
                seen += os.read(ours, 65536).decode().replace("\a", "")

    try:
        press(
            'autoload -U compinit; compinit -D -u; eval "$(hpcrun completion zsh)"; echo rea""dy\n', "ready"
        )
        for keys, expected in (
            ("hpcrun sub\t", "hpcrun submit "),
            ("hpcrun show @ci\tcompl\t", "hpcrun show @cifar:completed "),
            ("hpcrun show @cifar:la\t", "hpcrun show @cifar:last "),
            ("hpcrun submit x.yaml -t big:c\t", "-t big:cpu "),
            (f"hpcrun show {runs[0][-8:-2]}\t", f"hpcrun show {runs[0][-8:]} "),
            ("hpcrun ls --experiment mn\t", "--experiment mnist "),
        ):
            press(f"\x15{keys}", expected)
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


@pytest.mark.parametrize(("shell", "word"), [("zsh", "compdef"), ("fish", "complete --no-files")])
def test_scripts_for_the_other_shells(shell: str, word: str) -> None:
    script = typed("completion", shell)
    assert ("-S ''" in script) == (shell == "zsh"), "no space is put behind @NAME:"
    assert word in script and f"_HPCRUN_COMPLETE={shell}_complete" in script and "hpcrun" in script
