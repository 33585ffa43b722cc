"""The door of the program: help, errors, laziness, signals, terminals."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import hpcrun as package
from hpcrun.cli import main
from hpcrun.errors import CommandError
from tests import cli_help
from tests.cli_help import Project, document, ended, hpcrun, on_terminal, program, refused, typed

HEAVY = {"pydantic", "rich", "jinja2", "submitit", "tenacity", "platformdirs", "yaml"}
COMMANDS = list(main.COMMANDS)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


def modules_of(*args: str) -> set[str]:
    """Names of all modules that a command has loaded when it ends."""
    code = (
        "import sys\nfrom hpcrun.cli.main import entry\n"
        "try:\n    entry()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\nLOADED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED")[2].split())


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("args", [("--help",), ("--version",), ()])
def test_help_and_version_load_no_command_and_nothing_heavy(args: tuple[str, ...]) -> None:
    loaded = modules_of(*args)
    assert not tops(loaded) & (HEAVY | {"sqlite3"})
    assert {name for name in loaded if name.startswith("hpcrun.cli.")} == {
        "hpcrun.cli.main",
        "hpcrun.cli.group",
        "hpcrun.cli.errors",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_nothing_heavy(command: str) -> None:
    assert not tops(modules_of(command, "--help")) & HEAVY


def test_looking_at_runs_that_have_ended_loads_nothing_heavy(project: Project) -> None:
    typed("submit", project.config("echo hello"), "--wait")
    for args in (("ls",), ("ls", "--json"), ("show", "@-1"), ("logs", "@-1"), ("logs", "-f", "@-1"),
                 ("wait", "@-1"), ("cancel", "@-1")):  # fmt: skip
        assert not tops(modules_of(*args)) & HEAVY, args


@pytest.mark.parametrize("args", [(), ("--help",), ("-h",)])
def test_help_names_every_command(args: tuple[str, ...]) -> None:
    out = typed(*args)
    for name, (_, text) in main.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(text[:20])}", out, re.MULTILINE), name


def test_the_table_of_commands_agrees_with_the_commands() -> None:
    ctx = click.Context(main.cli)
    for name in COMMANDS:
        command = main.cli.get_command(ctx, name)
        assert command is not None
        assert command.name == name
        assert command.help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    out = typed(command, "--help")
    assert out.startswith(f"Usage: hpcrun {command} ")
    assert all(len(line) <= 80 for line in out.splitlines())


def test_version() -> None:
    assert typed("--version") == f"hpcrun {package.__version__}\n"


def test_the_installed_program_and_the_module_are_the_same(project: Project) -> None:
    beside = Path(sys.executable).with_name("hpcrun")
    outputs = [
        subprocess.run([*start, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        for start in ([str(beside)], [sys.executable, "-m", "hpcrun"])
        if Path(start[0]).exists()
    ]
    assert set(outputs) == {f"hpcrun {package.__version__}\n"}


@pytest.mark.parametrize(
    ("args", "guess"),
    [
        (("sumbit", "x.yaml"), "did you mean submit?"),
        (("log",), "did you mean logs?"),
        (("squeue",), "did you mean ls?"),
        (("status",), "did you mean show?"),
        (("resubmit", "@-1"), "did you mean rerun?"),
        (("comparison", "@-1"), "did you mean compare?"),
        (("sweep", "stat"), "did you mean status?"),
        (("site", "list"), "did you mean ls?"),
        (("ls", "--experimnet", "x"), "'--experiment'"),
        (("submit", "--folow"), "did you mean '--follow'?"),
        (("ls", "--status", "complete"), "did you mean Completed?"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(args: tuple[str, ...], guess: str) -> None:
    message = refused(*args, code=2).lower()
    assert guess.lower() in message
    assert "--help" in message


@pytest.mark.parametrize(
    "args",
    [
        ("frobnicate",), ("show",), ("wait",), ("run",), ("submit",), ("schema",), ("schema", "other"),
        ("ls", "-n", "0"), ("ls", "--tag", "=x"), ("--nope",), ("site", "frobnicate"), ("logs",),
        ("show", "@0"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_exit_code_2(args: tuple[str, ...], project: Project) -> None:
    typed("init")
    assert refused(*args, code=2).startswith("hpcrun: error: ")


def test_arguments_without_dashes_are_explained(project: Project) -> None:
    name = project.config("true")
    for more in (["--lr", "1"], ["1"]):
        assert "arguments of the script go after --" in refused("submit", name, *more, code=2)


def test_an_error_as_json_is_one_document_on_stdout_and_text_on_stderr(project: Project) -> None:
    typed("init")
    result = hpcrun("show", "nope", "--json")
    assert result.exit_code == 4
    told = json.loads(result.stdout)["error"]
    assert told["type"] == "NotFoundError"
    assert told["exit_code"] == 4
    assert told["message"] in result.stderr
    assert "hpcrun ls" in told["hint"]


def test_a_usage_error_as_json(project: Project) -> None:
    told = json.loads(hpcrun("ls", "--nope", "--json").stdout)["error"]
    assert (told["type"], told["exit_code"]) == ("UsageError", 2)


def test_json_that_belongs_to_the_script_changes_nothing() -> None:
    assert refused("submit", "nope.yaml", "--", "--json", code=4)


def test_no_workspace_is_exit_code_4() -> None:
    for args in (("ls",), ("show", "x"), ("logs", "x"), ("wait", "x"), ("cancel", "x")):
        assert "no workspace here" in refused(*args, code=4)


def test_workspace_by_option_and_by_variable(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    there = project.folder / "there"
    typed("init", str(there))
    name = project.config("true")
    run_id = document("--workspace", str(there), "submit", name, "--wait")["id"]
    assert (there / ".hpcrun" / "runs" / run_id).is_dir()
    assert not (project.folder / ".hpcrun").exists()
    assert run_id in typed("--workspace", "there/.hpcrun", "show", "@-1")
    assert run_id in typed("show", "@-1", HPCRUN_WORKSPACE=str(there))
    monkeypatch.chdir(there)
    assert run_id in typed("show", "@-1")
    for args in (("ls",), ("submit", f"../{name}")):
        assert "hpcrun init" in refused("--workspace", "nowhere", *args, code=4)


def broken(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("hpcrun.workspace.Workspace.open", fail)


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ZeroDivisionError("by zero"), 1, "(ZeroDivisionError: by zero)"),
        (PermissionError(13, "Permission denied", "/some/where"), 1, "Permission denied: /some/where"),
        (CommandError("git failed", hint="install it"), 8, "git failed\n  install it"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_error_is_calm(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch, error)
    message = refused("ls", code=code)
    assert words in message
    assert "Traceback" not in message
    assert len(message.splitlines()) <= 2


@pytest.mark.parametrize("args", [("--debug", "ls"), ("ls", "--debug"), ("ls",)])
def test_debug_shows_where_an_error_came_from(args: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, ZeroDivisionError("by zero"))
    env = {} if "--debug" in args else {"HPCRUN_DEBUG": "1"}
    message = refused(*args, code=1, **env)
    assert "Traceback" in message
    assert "test_cli_main.py" in message


def test_whoever_closes_the_pipe_hears_no_complaint(project: Project) -> None:
    typed("init")
    for args in (("site", "ls"), ("schema", "run"), ("ls", "--json")):
        reading, writing = os.pipe()
        os.close(reading)
        process = program(*args, stdout=writing)
        os.close(writing)
        code, _, err = ended(process)
        assert (code, err) == (141, ""), args


@pytest.mark.slow
def test_no_escape_codes_where_nobody_wants_them(project: Project) -> None:
    typed("submit", project.config("exit 1"), "--wait", code=20)
    for args in (("ls",), ("show", "@-1"), ("wait", "@-1")):
        _, out, err = ended(program(*args))
        assert "\x1b" not in out + err
        assert "\x1b" not in on_terminal(*args, NO_COLOR="1")
        assert "\x1b" not in on_terminal(*args, TERM="dumb")
        assert "\x1b[31mFailed" in on_terminal(*args), args


def test_a_terminal_that_cannot_show_a_character_gets_it_escaped(project: Project) -> None:
    typed("submit", project.config("echo 雪"), "--wait", "--name", "schnee-雪")
    for args in (("logs", "@-1"), ("ls",)):
        code, out, err = ended(program(*args, env={**os.environ, "PYTHONIOENCODING": "latin-1"}))
        assert (code, err) == (0, "")
        assert "\\u96ea" in out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_commands(shell: str) -> None:
    env = {
        **os.environ,
        "_HPCRUN_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "hpcrun su",
        "COMP_CWORD": "1" if shell != "fish" else "su",
    }
    code, out, _ = ended(program(env=env))
    assert code == 0
    assert "submit" in out
