"""docs/metrics.md, done as it says: the half about what is done at home."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs_help import DOCS, blocks, play, type_here, write_here

PAGE = DOCS / "metrics.md"


@pytest.mark.slow
def test_the_page_says_what_happens_at_home() -> None:
    for name in ("matplotlib", "tensorboard"):
        pytest.importorskip(name, reason=f"no {name}")
    folder = Path.home() / "project"
    folder.mkdir()
    page = [block for block in blocks(PAGE) if block.section == "At home"]
    play(page, str(Path.home()), type_here(folder), write_here(folder))
    assert (folder / "curves.png").stat().st_size > 10_000
