"""The files and the Python on the page about environments are what hpcrun takes them for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hpcrun.config.load import load_run_config
from hpcrun.environments.conda_file import of_file
from hpcrun.models.environment import Environment

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "environments.md").read_text()
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
RUNS = [text for kind, name, text in BLOCKS if kind == "yaml" and not name]


@pytest.mark.parametrize("text", RUNS)
def test_each_run_is_one(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    assert load_run_config(tmp_path / "run.yaml").environment.kind != "system"


def test_the_environment_file_is_one() -> None:
    (text,) = [text for _, name, text in BLOCKS if name == "environment.yml"]
    made = of_file(text.encode(), "environment.yml", lambda name: b"tqdm\n")
    assert made.specs == ("python=3.11", "numpy >=1.26", "pip")
    assert made.pip == ("einops==0.8.0", "tqdm")


def test_python_and_yaml_say_the_same(tmp_path: Path) -> None:
    (code,) = [text for kind, _, text in BLOCKS if kind == "python"]
    given: dict[str, Any] = {}
    exec(compile(code, "environments.md", "exec"), given)
    env = given["env"]
    assert isinstance(env, Environment) and env.conda is not None
    (text,) = [text for text in RUNS if "conda_packages" in text]
    (tmp_path / "run.yaml").write_text(text)
    written = load_run_config(tmp_path / "run.yaml").environment.conda
    assert written is not None
    env.python.conda_dependencies.set_pip_option("--no-deps")
    assert env.conda == written
