"""README.md: its files are written, its Python runs, its commands are typed; its pictures are legible."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from hpcrun.config.load import load_run_config
from hpcrun.config.sites import read_site
from hpcrun.config.sweep import load_sweep
from tests.cli_help import Project
from tests.docs_help import DOCS, ROOT, blocks, play, seen, type_here, write_here

PAGE = ROOT / "README.md"
PICTURES = DOCS / "pictures"


@pytest.mark.slow
def test_the_tour_can_be_made() -> None:
    """In the order of the page. What needs mycluster, which is nowhere, stops short of submitting."""
    folder = Path.home() / "tour"
    (folder / "src").mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "quickstart" / "train.py", folder / "src")
    type_in, write = type_here(folder), write_here(folder)
    for block in blocks(PAGE):
        play([block], str(Path.home()), type_in, write)
        for command in block.text.splitlines() if block.language == "sh" else []:
            if command.startswith("make "):
                target = command.split()[1]
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
                continue
            if "mycluster" in command and "--dry-run" not in command:
                command = command.replace(" --follow", "").replace("mycluster", "mycluster --dry-run", 1)
                command = command.replace("mycluster --dry-run:gpu", "mycluster:gpu --dry-run")
            code, said = type_in(command)
            assert code == 0, f"{block.where}: {command}\n{said}"
    runs = [Project(folder).record(run) for run in Project(folder).runs]
    assert [run["state"] for run in runs] == ["Completed"] * 11  # a sweep and its six trials among them
    assert (folder / "model.json").exists()  # what the Python fetched


def test_its_files_are_valid(tmp_path: Path) -> None:
    for block in blocks(PAGE, "yaml"):
        path = tmp_path / Path(block.name).name
        path.write_text(block.text)
        read = read_site if "site_configs" in block.name else load_run_config
        (load_sweep if "sweep:" in block.text else read)(path)


@pytest.mark.parametrize("name", ["terminal.svg", "way.svg"])
def test_a_picture_stands_for_itself(name: str) -> None:
    """Small, well-formed, with nothing from another host in it."""
    text = (PICTURES / name).read_text()
    assert len(text) < 20_000
    xml.etree.ElementTree.fromstring(text)
    assert not re.search(
        r"https?:(?!//www\.w3\.org/2000/svg\")|@import|@font-face|<image|href|url\((?!#)", text
    )
    assert name in PAGE.read_text()


def words(svg: str) -> str:
    """The text of a drawn terminal, line by line."""
    drawn = xml.etree.ElementTree.fromstring(svg)
    lines: dict[float, str] = {}
    for element in drawn.iter("{http://www.w3.org/2000/svg}text"):
        at = float(element.get("y", "0"))
        lines[at] = lines.get(at, "") + (element.text or "")
    return "\n".join(line.replace("\xa0", " ").rstrip() for _, line in sorted(lines.items())) + "\n"


@pytest.mark.slow
def test_the_terminal_shows_what_the_commands_print(tmp_path: Path) -> None:
    drawn = "import runpy; m = runpy.run_path('make.py'); print(m['svg'](m['session']()))"
    done = subprocess.run(
        [sys.executable, "-c", drawn], cwd=PICTURES, capture_output=True, text=True, timeout=60, check=True
    )
    assert seen(words(done.stdout)) == seen(words((PICTURES / "terminal.svg").read_text())), (
        "run docs/pictures/make.py"
    )
