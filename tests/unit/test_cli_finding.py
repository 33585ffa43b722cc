"""What is done with a run that was found: ``tag``, ``open``, ``rerun``, ``diff``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import cli_help
from tests.cli_help import Project, document, refused, typed


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    yield from cli_help.make_project(tmp_path)


def test_tag(project: Project) -> None:
    typed("submit", project.config("true", tags={"a": "1", "b": "2"}), "--wait")
    assert typed("tag", "@-1") == "a=1\nb=2\n"
    assert typed("tag", "@-1", "a=x=y", "c=", "--remove", "b") == "a=x=y\nc=\n"
    assert project.record()["tags"] == {"a": "x=y", "c": ""}
    assert [run["id"] for run in document("ls", "--tag", "a=x=y")["runs"]] == project.runs
    assert document("tag", "@-1", "d=4")["tags"] == {"a": "x=y", "c": "", "d": "4"}


def test_tags_change_all_together_or_not_at_all(project: Project) -> None:
    typed("submit", project.config("true", tags={"a": "1"}), "--wait")
    error = refused("tag", "@-1", "b=2", "--remove", "nothing", code=4)
    assert "has no tag 'nothing'" in error and "Its tags: a" in error
    assert "both set and taken away" in refused("tag", "@-1", "a=2", "--remove", "a", code=2)
    assert "expected KEY=VALUE" in refused("tag", "@-1", "b=2", "word", code=2)
    assert project.record()["tags"] == {"a": "1"}


def test_open_prints_the_folder_and_nothing_else(project: Project) -> None:
    typed("submit", project.config("true"), "--wait")
    assert typed("open", "@-1") == f"{project.home(project.runs[0])}\n"
    refused("open", "nothing", code=4)


def test_a_folder_that_is_no_text_can_be_gone_to(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9 $HOME"
    for project in cli_help.make_project(folder):
        folder.mkdir()
        process = cli_help.program("--workspace", str(folder), "run", "--wait", "--", "true")
        assert cli_help.ended(process)[0] == 0
        text = 'cd "$("$1" -m hpcrun --workspace "$2" open @-1)" && cat run.json'
        done = subprocess.run(
            ["bash", "-c", text, "bash", sys.executable, folder], capture_output=True, timeout=60, check=True
        )
        assert json.loads(done.stdout)["id"] == project.runs[0]
