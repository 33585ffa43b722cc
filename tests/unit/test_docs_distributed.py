"""What the page on distributed runs shows is taken, and comes to what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hpcrun.config.load import load_run_config
from hpcrun.config.sites import read_site
from hpcrun.models.layout import layout
from tests.docs_help import DOCS, blocks

PAGE = DOCS / "distributed.md"
RUNS = [block for block in blocks(PAGE, "yaml") if block.name == "run.yaml"]


@pytest.mark.parametrize("block", RUNS, ids=lambda block: block.section)
def test_every_run_is_one(block: object, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(getattr(block, "text"))  # noqa: B009
    config = load_run_config(tmp_path / "run.yaml")
    assert config.distributed_job_config is not None
    assert layout(config).processes > 1


def test_the_site_is_one(tmp_path: Path) -> None:
    (block,) = (block for block in blocks(PAGE, "yaml") if block.name != "run.yaml")
    (tmp_path / "mycluster.yaml").write_text(block.text)
    assert read_site(tmp_path / "mycluster.yaml").scheduler.mpi == "mpirun"


def test_what_the_table_at_the_top_shows_is_taken(tmp_path: Path) -> None:
    table = PAGE.read_text().partition("| `distributed:` |")[2].partition("\n\n")[0]
    shown = re.findall(r"^\| `(\{.*\})` \|", table, re.MULTILINE)
    assert len(shown) == 4
    for text in shown:
        (tmp_path / "run.yaml").write_text(f"script: a.py\ndistributed: {text}\n")
        load_run_config(tmp_path / "run.yaml")
