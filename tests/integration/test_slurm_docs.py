"""What the documentation says of clusters, typed on the virtual cluster's login node."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.docs_help import DOCS, Typed, blocks, play
from tests.integration.support import Login
from tests.unit.test_docs_json import TABLES, keys

pytestmark = pytest.mark.cluster


def typing(login: Login, folder: str) -> Callable[[str], Typed]:
    """Types commands into a bash in a folder of alice's."""

    def type_in(command: str) -> Typed:
        argv = ["bash", "-c", f"exec 2>&1; cd {folder}; {command}"]
        done = login.cluster.run("login", argv, venv=True, check=False, timeout=120)
        return done.returncode, done.stdout

    return type_in


def test_the_tutorial_says_what_happens_on_a_cluster(login: Login) -> None:
    """The files of its first half, with the mistake mended; then all of its second half."""
    folder = f"{login.home}/first"

    def write(name: str, text: str) -> None:
        login.write(name.replace("~", login.home, 1) if name[0] == "~" else f"{folder}/{name}", text)

    page = blocks(DOCS / "tutorial.md")
    for block in page:
        if block.name and block.section != "On a cluster":
            write(block.name, block.text.replace("loses", "losses"))
    second = [block for block in page if block.section == "On a cluster"]
    play(second, login.home, typing(login, folder), write)


def test_the_page_on_json_has_what_slurm_alone_tells(login: Login) -> None:
    """When a run would start."""
    login.write(f"{login.home}/run.yaml", "command: 'true'\n")
    seen = set(keys(login.json("check", "run.yaml", "-t", "virtual"), TABLES["check"]))
    assert {key for key in TABLES["check"] if key.startswith("start")} <= seen


def test_the_page_on_sites_says_what_happens(login: Login) -> None:
    """From the login node, where no host need be named."""

    def write(name: str, text: str) -> None:
        login.write(name.replace("~", login.home, 1) if name[0] == "~" else f"{login.home}/{name}", text)

    play(blocks(DOCS / "sites.md"), login.home, typing(login, login.home), write)
