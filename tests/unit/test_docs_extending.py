"""docs/extending.md, carried out: each part in a copy of the package."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs_help import DOCS, ROOT, Block, blocks, play, type_here, write_here

PAGE = DOCS / "extending.md"
OURS = ("hpcrun", "site_configs", "templates", "tests")
PARTS = ("An environment", "A launcher", "A shell", "A site", "A template")

FAKE_CH_RUN = """\
#!/bin/sh
# A fake Charliecloud: what comes behind -- is run here, in no container.
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""

FAKE_TSH = """\
#!/bin/sh
# A fake Teleport: the host is this machine, and its login shell has something to say.
[ "$1" = ssh ] || exit 64
shift 2
echo 'Welcome!'
exec sh -c "$*"
"""


def change(path: Path, diff: str) -> None:
    """Make the change that a diff shows, at the one place it fits."""
    old = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "-")
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {text.count(old)} places for\n{diff}"
    path.write_text(text.replace(old, new))


def carry_out(part: list[Block], copy: Path, home: Path, type_in: Callable[[str], tuple[int, str]]) -> None:
    for block in part:
        if block.language == "diff":
            change(copy / block.name, block.text)
        else:
            ours = block.name.partition("/")[0] in OURS
            play([block], str(home), type_in, write_here(copy if ours else home / "project"))


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository that Python takes hpcrun from."""
    folder = tmp_path / "copy"
    skip = shutil.ignore_patterns("__pycache__", "_artifacts")
    for name in OURS:
        shutil.copytree(ROOT / name, folder / name, ignore=skip)
    shutil.copy(ROOT / "pyproject.toml", folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("ch-run", FAKE_CH_RUN), ("tsh", FAKE_TSH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{sys.prefix}/bin:/usr/bin:/bin")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_part_can_be_carried_out(name: str, copy: Path) -> None:
    (Path.home() / "project").mkdir()
    part = [block for block in blocks(PAGE) if block.section == name]
    assert any(block.language == "console" for block in part)
    carry_out(part, copy, Path.home(), type_here(Path.home() / "project"))
    # Nothing was forgotten: neither the texts that the schemas and the reference want, nor a golden script.
    type_in = type_here(copy)
    written = [type_in(f"python -m hpcrun.config.{made} written") for made in ("schema", "reference")]
    if name == "A site":
        written.append(
            type_in("HPCRUN_UPDATE_GOLDEN=1 python -m pytest -q -m 'not slow' tests/unit/test_golden.py")
        )
        script = copy / "tests" / "golden" / "site-atlantis" / "job.sh"
        assert "#SBATCH --gpus-per-node=h100:4\n" in script.read_text()
    assert all(code == 0 for code, _ in written), written


def test_every_part_of_the_page_is_carried_out() -> None:
    assert {block.section for block in blocks(PAGE)} == set(PARTS)
