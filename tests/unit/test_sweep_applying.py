"""How hyperparameters reach a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import Experiment, Workspace
from hpcrun.models.run import ScriptRunConfig
from hpcrun.sweeps.applying import (
    PARAMETERS_VARIABLE,
    apply,
    argument_words,
    flag_of,
    replaced,
    variables,
)
from tests.engine_help import workspace


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Workspace]:
    with workspace(tmp_path / "ws") as ws:
        yield ws


@pytest.mark.parametrize(
    ("arguments", "parameters", "expected"),
    [
        ([], {"lr": 0.1}, ["--lr", "0.1"]),
        (["--epochs", 3], {"lr": 1e-05, "n": 4}, ["--epochs", 3, "--lr", "1e-05", "--n", "4"]),
        (["--lr", "1"], {"lr": 0.1}, ["--lr", "0.1"]),
        (["--lr=1", "x"], {"lr": 0.1}, ["--lr=0.1", "x"]),
        (["--lr", 1, "--epochs", 3], {"lr": 0.1}, ["--lr", "0.1", "--epochs", 3]),
        # A negative number is a value, another option is not.
        (["--lr", "-1", "x"], {"lr": 0.1}, ["--lr", "0.1", "x"]),
        (["--lr", "-1e-3", "x"], {"lr": 0.1}, ["--lr", "0.1", "x"]),
        (["--lr", -1, "x"], {"lr": 0.1}, ["--lr", "0.1", "x"]),
        (["--fast", "--lr", "1"], {"fast": True}, ["--fast", "True", "--lr", "1"]),
        (["--in", "-"], {"in": "a"}, ["--in", "a"]),
        (["--lr"], {"lr": 0.1}, ["--lr", "0.1"]),
        # Twice in the arguments, once after it; where both spellings stand, as the first one is written.
        (["--lr", "1", "--lr=2", "x"], {"lr": 0.1}, ["--lr", "0.1", "x"]),
        # Another name that begins alike, and a value that looks alike, are left alone.
        (["--lr-decay", "1"], {"lr": 0.1}, ["--lr-decay", "1", "--lr", "0.1"]),
        (["--name", "lr"], {"lr": 0.1}, ["--name", "lr", "--lr", "0.1"]),
        (["a", "--", "--lr", "1"], {"lr": 0.1}, ["a", "--lr", "0.1", "--", "--lr", "1"]),
        (["-b", "1", "--b", "2"], {"-b": 8}, ["-b", "8", "--b", "2"]),
        (["--x"], {}, ["--x"]),
    ],
)
def test_arguments(arguments: list[Any], parameters: dict[str, Any], expected: list[Any]) -> None:
    before = list(arguments)
    assert replaced(arguments, parameters) == expected
    assert arguments == before


words = st.text("-=abl1. ", max_size=6) | st.integers(-5, 5)


@given(
    st.lists(words, max_size=8), st.dictionaries(st.sampled_from(["a", "b", "-l", "ab"]), st.integers(0, 9))
)
def test_each_is_there_once_and_replacing_again_changes_nothing(
    arguments: list[Any], parameters: dict[str, Any]
) -> None:
    once = replaced(arguments, parameters)
    assert replaced(once, parameters) == once
    options = once[: once.index("--")] if "--" in once else once
    for name in parameters:
        flag = flag_of(name)
        assert sum(isinstance(w, str) and w.partition("=")[0] == flag for w in options) == 1


def test_words_and_variables() -> None:
    parameters: dict[str, Any] = {"lr": 0.1, "on": True, "-b": 3, "name": "a b"}
    assert argument_words(parameters) == ["--lr", "0.1", "--on", "True", "-b", "3", "--name", "a b"]
    assert variables({"LR": 0.1, "ON": False}) == {"LR": "0.1", "ON": "False"}


def test_a_trials_configuration() -> None:
    config = ScriptRunConfig(".", "a.py", ["--lr", 1], environment_variables={"LR": 1, "B": "2"})
    before = config.model_copy(deep=True)
    assert apply(config, {"lr": 0.1}, "arguments").arguments == ["--lr", "0.1"]
    named = apply(config, {"LR": 0.5}, "variables")
    assert named.environment_variables == {"LR": "0.5", "B": "2"} and named.arguments == ["--lr", 1]
    filed = apply(config, {"lr": 0.5, "n": "ä"}, "file")
    assert json.loads(filed.environment_variables[PARAMETERS_VARIABLE]) == {"lr": 0.5, "n": "ä"}
    assert config == before
    assert apply(config, {"lr": 0.1}, "arguments").script == "a.py"


def test_a_command_that_is_a_list() -> None:
    config = ScriptRunConfig(".", command=["python", "a.py", "--lr", "1"])
    assert apply(config, {"lr": 0.1, "n": 2}, "arguments").command == [
        *("python", "a.py", "--lr", "0.1", "--n", "2")
    ]


def test_a_file_reaches_the_script(ws: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.py").write_text(
        "import json, os, pathlib\n"
        "path = pathlib.Path(os.environ['HPCRUN_PARAMETERS_FILE'])\n"
        "assert path.stat().st_mode & 0o077 == 0, oct(path.stat().st_mode)\n"
        "print(json.loads(path.read_text())['name'], path.name)\n"
    )
    config = apply(ScriptRunConfig(source, "a.py"), {"lr": 0.5, "name": 'it\'s $HOME\n"x"'}, "file")
    run = Experiment(ws, "exp").submit(config)
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Completed"
    log = (run.folder / "user_logs" / "std_log.txt").read_text()
    assert log == 'it\'s $HOME\n"x" parameters.json\n'
