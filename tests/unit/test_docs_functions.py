"""docs/functions.md, done as it says."""

from __future__ import annotations

from pathlib import Path

from tests.docs_help import DOCS, blocks, play, type_here, write_here


def test_the_page_says_what_happens() -> None:
    folder = Path.home() / "project"
    folder.mkdir()
    play(blocks(DOCS / "functions.md"), str(Path.home()), type_here(folder), write_here(folder))
