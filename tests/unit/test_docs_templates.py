"""docs/templates.md against the templates and what they are rendered from."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from hpcrun.render import _Script
from tests.cli_help import typed
from tests.docs_help import DOCS, ROOT, blocks, write_here

PAGE = DOCS / "templates.md"


def named_in_table(head: str) -> set[str]:
    """What the first column of a table names."""
    rows = PAGE.read_text().partition(head)[2].partition("\n\n")[0]
    return {name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])}


def test_the_page_has_all_blocks_and_all_names() -> None:
    there = {
        block
        for template in (ROOT / "templates").glob("*.j2")
        for block in re.findall(r"\{% block (\w+)", template.read_text())
    }
    assert named_in_table("| block | what it does |\n|---|---|\n") == there
    assert named_in_table("| name | |\n|---|---|\n") == {field.name for field in fields(_Script)}


def test_the_override_does_what_the_page_says(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "jinja")
    write_here(tmp_path)(block.name, block.text)
    script = typed("run", "-t", "iris", "--dry-run", "--", "true")
    assert 'mkdir -p "$SCRATCH_OF_JOB"\n' in script and "#SBATCH --job-name=" in script
