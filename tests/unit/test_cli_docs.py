"""docs/cli.md: every command in it is typed, and answers as the page says."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.cli.main import COMMANDS
from tests.cli_help import Project, hpcrun, make_project
from tests.docs_help import DOCS, ROOT, Typed, blocks, play, under_git, write_here

PAGE = DOCS / "cli.md"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "quickstart", folder)
    monkeypatch.chdir(folder)
    under_git(folder)
    yield from make_project(folder)


def type_in(command: str) -> Typed:
    """In this process, which is quicker than a program each time."""
    program, *args = shlex.split(command)
    assert program == "hpcrun", command
    result = hpcrun(*[arg for arg in args if not arg.startswith("#")])
    return result.exit_code, result.output


def test_the_page_says_what_happens(project: Project) -> None:
    play(blocks(PAGE, "console"), str(project.folder.parent), type_in, write_here(project.folder))


def test_the_page_has_every_command_and_every_option() -> None:
    page = PAGE.read_text()
    for name in COMMANDS:
        assert re.search(rf"^## hpcrun {name}\b", page, re.MULTILINE), name
        section = page.partition(f"\n## hpcrun {name}")[2].partition("\n## ")[0]
        if name in ("run", "rerun"):
            section += page.partition("\n## hpcrun submit")[2].partition("\n## ")[0]
        for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", hpcrun(name, "--help").output, re.MULTILINE):
            assert f"`{option}" in section or option in ("--help", "--json"), (name, option)
