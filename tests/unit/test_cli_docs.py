"""docs/cli.md: every command in it is typed, and answers as the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcrun.cli.main import COMMANDS
from tests.cli_help import Project, hpcrun, make_project

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "cli.md"
SHOWN_AS = "/home/me/project"

# What differs from one time to the next. Both the page and the answer are seen through these.
_VARIES = (
    (r"\d{8}-\d{6}_[a-z2-7]{8}", "STAMP"),
    (r"\b[a-z2-7]{8}\b", "SHORT"),
    (r"\b[0-9a-f]{12}\b", "HASH"),
    (r"\d{4}-\d\d-\d\d", "DATE"),
    (r"\d\d:\d\d:\d\d", "TIME"),
    (r"(?m)^\[TIME\] \w+\n", ""),  # a quick run may not be seen in each of its states
    (r"(?m)^(states)? +DATE +TIME +\w+\n", ""),
    (r"(?m)^# .*site_configs/", "# site_configs/"),
    (r"\b\d+[smhd]( \d+[smhd])?\b", "SPAN"),
    (r"job( +)\d+", r"job\1N"),
    (r"(,|N) on \S+", r"\1 on HOST"),
    (r"\d+(\.\d)? (B|KiB|MiB)\b", "SIZE"),
    (r"(less than )?\d+ %", "SHARE"),
    (r"\((Queued|Starting|Running)\)", "(Queued)"),
    (r" +", " "),
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "examples" / "quickstart", folder)
    monkeypatch.chdir(folder)
    who = ["-c", "user.name=n", "-c", "user.email=e@x"]
    for args in (["init", "-q", "-b", "main"], ["add", "-A"], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *args], check=True)
    yield from make_project(folder)


def examples() -> list[tuple[str, str]]:
    """Each command of the page, with the answer that stands below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            found.append((command, answer))
    return found


def seen(text: str) -> str:
    for pattern, name in _VARIES:
        text = re.sub(pattern, name, text)
    return text.strip()


def test_the_page_says_what_happens(project: Project) -> None:
    for command, answer in examples():
        program, *args = shlex.split(command)
        assert program == "hpcrun", command
        result = hpcrun(*[arg for arg in args if not arg.startswith("#")])
        output = seen(result.output.replace(str(project.folder), SHOWN_AS))
        pattern = re.escape(seen(answer)).replace("…\n", "(?s:.*?)").replace("…", ".*?")
        assert re.fullmatch(pattern, output), f"$ {command}\n{result.output}"


def test_the_page_has_every_command_and_every_option() -> None:
    page = PAGE.read_text()
    for name in COMMANDS:
        assert re.search(rf"^## hpcrun {name}\b", page, re.MULTILINE), name
        section = page.partition(f"\n## hpcrun {name}")[2].partition("\n## ")[0]
        if name in ("run", "rerun"):
            section += page.partition("\n## hpcrun submit")[2].partition("\n## ")[0]
        for option in re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", hpcrun(name, "--help").output, re.MULTILINE):
            assert f"`{option}" in section or option in ("--help", "--json"), (name, option)
