"""docs/tutorial.md, done as it says: the half that is for one's own machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli_help import Project
from tests.docs_help import DOCS, blocks, play, type_here, write_here

PAGE = DOCS / "tutorial.md"
ON_A_CLUSTER = "On a cluster"


@pytest.mark.slow
def test_the_tutorial_says_what_happens_here() -> None:
    folder = Path.home() / "first"
    folder.mkdir()
    page = [block for block in blocks(PAGE) if block.section != ON_A_CLUSTER]
    play(page, str(Path.home()), type_here(folder), write_here(folder))
    assert Project(folder).record()["state"] == "Completed"  # the run from Python, the newest


def test_the_tutorial_has_both_halves() -> None:
    assert {block.language for block in blocks(PAGE)} == {"console", "python", "yaml"}
    assert any(block.section == ON_A_CLUSTER for block in blocks(PAGE, "console"))
