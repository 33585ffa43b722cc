"""Conda environments that are made, by the recipe alone: real packages, from a channel in a folder.

py-rattler is the real thing; micromamba, mamba and conda are played (see tests/conda_help.py).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from hpcrun.environments.conda_recipe import conda_recipe
from hpcrun.environments.recipe import Recipe
from hpcrun.models.environment import Environment
from hpcrun.models.site import Site
from tests import conda_help as conda
from tests.engine_help import local_site
from tests.wheel_help import sdist, wheel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(conda.why_not()), reason=str(conda.why_not()))]

BARE = "/usr/bin:/bin"
"""A PATH without any Python that has py-rattler."""


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> str:
    return conda.channel(tmp_path_factory.mktemp("conda"))


@dataclass(frozen=True)
class Made:
    """What came of a recipe: the exit code, the log, what was recorded, and the prefix."""

    code: int
    log: str
    packages: str
    prefix: Path

    def run(self, *argv: str) -> str:
        done = subprocess.run([f"{self.prefix}/bin/{argv[0]}", *argv[1:]], capture_output=True, text=True)
        return done.stdout + done.stderr


def recipe(files: Mapping[str, str] | None = None, site: Site | None = None, **section: object) -> Recipe:
    environment = Environment("e", conda=section)
    found = conda_recipe(environment, lambda name: (files or {})[name].encode(), site or local_site())
    assert found is not None
    return found


def make(recipe: Recipe, folder: Path, *, path: str = BARE, **variables: str) -> Made:
    """Run a recipe as it is run on a target: bash, its files in the working folder, an empty home."""
    work, home, place = folder / "work", folder / "home", folder / "environments" / "conda-x.1"
    for each in (work, home, place):
        each.mkdir(parents=True, exist_ok=True)
    for name, content in {**recipe.files, **recipe.aids}.items():
        (work / name).write_bytes(content)
    script = f"set -euo pipefail\nexec 2>&1\n{recipe.build}\n{{ {recipe.record}\n}} >{folder}/packages.txt"
    env = {"PATH": path, "HOME": str(home), "HPCRUN_ENV": str(place), **recipe.variables, **variables}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=work,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    packages = folder / "packages.txt"
    text = packages.read_text() if packages.exists() else ""
    assert list(home.iterdir()) == [], "nothing is put on the home's quota"
    return Made(done.returncode, done.stdout, text, place / "prefix")


def test_an_environment_file_is_made_by_py_rattler(channel: str, tmp_path: Path) -> None:
    """Solved, linked with its prefix written in, verified, pip's packages after conda's, all recorded."""
    file = wheel(tmp_path / "wheels", "by_pip", "0.3", "WHO = 'pip'\n")
    sdist(tmp_path / "wheels", "built", "1.0", "")  # pip keeps what it builds
    text = f"""\
name: science
channels: [{channel}, nodefaults]
dependencies:
  - python={conda.SHORT}
  - old-friend
  - pip
  - pip:
    - --no-index
    - --find-links {file.parent}
    - by-pip==0.3
    - built
variables:
  FROM_FILE: "it's 1"
prefix: /home/somebody/else
"""
    # As people's own settings have it: to install in the home, and nowhere but in a virtual environment.
    settings = {"PIP_USER": "1", "PIP_REQUIRE_VIRTUALENV": "1", "PYTHONPATH": "/elsewhere"}
    asked = recipe({"environment.yml": text}, file="environment.yml")
    made = make(asked, tmp_path, HPCRUN_PYTHON=sys.executable, **settings)
    assert made.code == 0, made.log
    assert made.run("greet") == "1.1\n", (
        "the newest that old-friend can live with, by a script that knows its prefix"
    )
    shown = made.run("python", "-c", "import sys, by_pip; print(sys.prefix, by_pip.WHO)")
    assert shown == f"{made.prefix} pip\n"
    lines = made.packages.splitlines()
    assert lines[2:4] == [f"# platform: {conda.PLATFORM}", "@EXPLICIT"]
    names = [line.rsplit("/", 1)[1].rsplit("-", 2)[0] for line in lines[4:-2]]
    assert set(names) == {"python", "pip", "greeting", "old-friend"}
    assert names.index("python") < names.index("greeting") < names.index("old-friend")
    assert all(line.startswith(channel) and len(line.rpartition("#")[2]) == 32 for line in lines[4:-2])
    assert [re.sub(" @ .*", "", line) for line in lines[-2:]] == ["# pip: built==1.0", "# pip: by_pip==0.3"]
    assert (made.prefix.parent / "tool.txt").read_text().startswith("py-rattler ")


def test_what_was_recorded_makes_the_same_again(channel: str, tmp_path: Path) -> None:
    first = make(
        recipe(channels=[channel], conda_packages=["greeting=1.0"]),
        tmp_path / "a",
        HPCRUN_PYTHON=sys.executable,
    )
    assert first.code == 0, first.log
    locked = recipe({"lock.txt": first.packages}, file="lock.txt")
    second = make(locked, tmp_path / "b", HPCRUN_PYTHON=sys.executable)
    assert second.code == 0, second.log
    assert second.packages == first.packages
    other = first.packages.replace(first.packages.rpartition("#")[2], "0" * 32)
    third = make(recipe({"lock.txt": other}, file="lock.txt"), tmp_path / "c", HPCRUN_PYTHON=sys.executable)
    assert third.code != 0
    assert "another file than it was" in third.log


def tool(folder: Path, name: str) -> str:
    return str(conda.stand_in(folder, name))


def small(channel: str, site: Site | None = None) -> Recipe:
    return recipe(site=site, channels=[channel], conda_packages=["greeting >=1,<2"])


@pytest.mark.parametrize("name", ["micromamba", "mamba", "conda"])
def test_each_tool_by_its_own_options(name: str, channel: str, tmp_path: Path) -> None:
    """Played: a command line that the tool does not have is refused by the stand-in, too."""
    tool(tmp_path / "bin", name)
    made = make(small(channel), tmp_path, path=f"{tmp_path}/bin:{BARE}")
    assert made.code == 0, made.log
    assert made.run("greet") == "1.1\n"
    assert (made.prefix.parent / "tool.txt").read_text().split()[0] == name
    assert made.packages.splitlines()[-1].startswith(f"{channel}/{conda.PLATFORM}/greeting-1.1-")
    assert sorted(path.name for path in made.prefix.parent.parent.iterdir()) == [".cache", "conda-x.1"]


def test_a_lock_by_a_tool(channel: str, tmp_path: Path) -> None:
    url = f"{channel}/{conda.PLATFORM}/python-{conda.VERSION}-0.conda"
    tool(tmp_path / "bin", "micromamba")
    locked = recipe({"conda.lock": f"# by hand\n@EXPLICIT\n{url}\n"}, file="conda.lock")
    made = make(locked, tmp_path, path=f"{tmp_path}/bin:{BARE}")
    assert made.code == 0, made.log
    assert made.packages.splitlines()[-1].startswith(url)


FINDING = """\
. ./conda_make.sh
hpcrun_conda_find
echo "$hpcrun_conda_tool"
"""


def found(folder: Path, path: str = BARE, site: Site | None = None, **variables: str) -> str:
    """The tool that is found, below ``folder``; ``h`` there is the home."""
    made = recipe(site=site, conda_packages=["x"])
    for name, content in {**made.files, **made.aids}.items():
        (folder / name).write_bytes(content)
    env = {"PATH": path, "HOME": f"{folder}/h", "HPCRUN_ENV": f"{folder}/e/x", **made.variables, **variables}
    done = subprocess.run(["bash", "-euc", FINDING], cwd=folder, env=env, capture_output=True, text=True)
    return done.stdout.replace(f"{folder}/", "").strip()


def test_where_a_tool_is_looked_for(tmp_path: Path) -> None:
    for place in (
        "p/conda",
        "root/condabin/conda",
        "root/bin/mamba",
        "h/.local/bin/micromamba",
        "m/mamba",
        "c/conda",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("")
        (tmp_path / place).chmod(0o755)
    path = f"{tmp_path}/p:{BARE}"
    root = local_site(conda={"root": f"{tmp_path}/root"})
    assert found(tmp_path, path, root) == "h/.local/bin/micromamba"
    (tmp_path / "h/.local/bin/micromamba").chmod(0o644)
    assert found(tmp_path, path, root) == "root/bin/mamba"
    assert found(tmp_path, path, MAMBA_EXE=f"{tmp_path}/m/mamba") == "m/mamba"
    assert found(tmp_path, path, CONDA_EXE=f"{tmp_path}/c/conda") == "p/conda"
    assert found(tmp_path, CONDA_EXE=f"{tmp_path}/c/conda") == "c/conda"
    (tmp_path / "root/bin/mamba").unlink()
    assert found(tmp_path, site=root) == "root/condabin/conda"
    assert found(tmp_path, path, local_site(conda={"executable": f"{tmp_path}/c/conda"})) == "c/conda"
    gone = found(tmp_path, path, local_site(conda={"executable": "/no/mamba"}))
    assert gone.startswith("ERROR: there is no program /no/mamba on ")
    assert "ERROR: conda.executable of site_configs/local.yaml names it" in gone
    assert found(tmp_path) == ""


def failed(made: Made) -> str:
    assert made.code != 0
    assert made.packages == ""
    return made.log


@pytest.mark.parametrize("by", ["py-rattler", "micromamba"])
def test_what_cannot_be_solved_is_said_by_the_solver(by: str, channel: str, tmp_path: Path) -> None:
    hard = recipe(channels=[channel], conda_packages=["greeting=2.0", "old-friend"])
    unheard = recipe(channels=[channel], conda_packages=["unheard-of"])
    how = {"HPCRUN_PYTHON": sys.executable}
    if by != "py-rattler":
        tool(tmp_path / "bin", by)
        how = {"path": f"{tmp_path}/bin:{BARE}"}
    log = failed(make(hard, tmp_path / "a", **how))
    assert "old-friend" in log and "greeting" in log and "<2" in log
    assert "unheard-of" in failed(make(unheard, tmp_path / "b", **how))


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    nowhere = recipe(channels=["file:///no/such/channel"], conda_packages=["python"])
    log = failed(make(nowhere, tmp_path, HPCRUN_PYTHON=sys.executable))
    assert "/no/such/channel" in log


def test_strict_channel_priority(channel: str, tmp_path: Path) -> None:
    """A channel that has a package hides all other channels' packages of that name."""
    upper = tmp_path / "upper"
    conda.only(conda.OLDER, upper)
    friend = recipe(channels=[upper.as_uri(), channel], conda_packages=["old-friend"])
    made = make(friend, tmp_path / "a", HPCRUN_PYTHON=sys.executable)
    assert made.code == 0, made.log
    assert f"{upper.as_uri()}/noarch/greeting-0.1-" in made.packages, made.packages


def test_nothing_there_to_make_it_with(tmp_path: Path) -> None:
    log = failed(make(recipe(conda_packages=["python"]), tmp_path))
    assert "ERROR: there is no micromamba, mamba or conda on " in log
    assert "conda.executable of site_configs/local.yaml" in log
    assert "pip install 'hpcrun-toolkit[conda]'" in log


def test_pip_fails_after_conda(channel: str, tmp_path: Path) -> None:
    nothing = recipe(
        channels=[channel],
        pip_packages=["not-in-there==1"],
        pip_options=["--no-index", f"--find-links '{tmp_path}'"],
    )
    log = failed(make(nothing, tmp_path, HPCRUN_PYTHON=sys.executable))
    assert "No matching distribution found for not-in-there==1" in log


def test_a_tool_that_says_yes_and_does_nothing(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "conda"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    log = failed(make(recipe(conda_packages=["python"]), tmp_path, path=f"{tmp_path}/bin:{BARE}"))
    assert f"ERROR: nothing was installed in {tmp_path}" in log
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit\nuntil [ "$1" = --prefix ]; do shift; done\n'
        'mkdir -p "$2/bin" "$2/conda-meta"\necho {} >"$2/conda-meta/a.json"\n'
        'ln -s /usr/bin/python3 "$2/bin/python"\n'
    )
    log = failed(make(recipe(conda_packages=["python"]), tmp_path, path=f"{tmp_path}/bin:{BARE}"))
    assert "ERROR: the python that was installed believes that it lies in /usr" in log


def test_what_is_recorded_tells_no_password(tmp_path: Path) -> None:
    """And what pip shows of conda's own packages is left out."""
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    records: list[dict[str, object]] = [
        {
            "name": "b",
            "url": "https://me:secret@e.org/t/tk-secret/chan/noarch/b-1-0.conda",
            "subdir": "noarch",
            "md5": "1" * 32,
            "depends": ["a >=1", "__glibc"],
        },
        {
            "name": "a",
            "url": "https://e.org/linux-64/a-1-0.conda",
            "subdir": "linux-64",
            "files": ["lib/python3.11/site-packages/A_Pkg-1.0.dist-info/METADATA"],
        },
    ]
    for record in records:
        (meta / f"{record['name']}-1-0.json").write_text(json.dumps(record))
    script = Path(conda_recipe.__code__.co_filename).with_name("conda_record.py")
    argv = [sys.executable, "-I", str(script), str(tmp_path)]
    frozen = "a-pkg==1.0\nother @ git+https://e.org/x\n"
    done = subprocess.run(argv, input=frozen, capture_output=True, text=True)
    assert done.stdout.splitlines()[2:] == [
        "# platform: linux-64",
        "@EXPLICIT",
        "https://e.org/linux-64/a-1-0.conda",
        f"https://e.org/chan/noarch/b-1-0.conda#{'1' * 32}",
        "# pip: other @ git+https://e.org/x",
    ]


def test_what_decides_the_key(tmp_path: Path) -> None:
    """What is made, and for which machine; not with which program, nor hpcrun's own scripts."""
    plain = recipe(conda_packages=["a"])
    assert recipe(conda_packages=["a"], site=local_site(conda={"executable": "/opt/mamba"})).key == plain.key
    assert recipe(conda_packages=["b"]).key != plain.key
    assert recipe(conda_packages=["a"], channels=["other"]).key != plain.key
    gpu = local_site(environment_variables={"CONDA_OVERRIDE_CUDA": "12.4", "NCCL_DEBUG": "INFO"})
    assert recipe(conda_packages=["a"], site=gpu).key != plain.key
    assert recipe(conda_packages=["a"], site=gpu).files["overrides.txt"] == b"CONDA_OVERRIDE_CUDA=12.4\n"
    from_file = recipe({"e.yml": "dependencies: [a]"}, file="e.yml")
    assert from_file.key == plain.key
    assert recipe({"f.yml": "name: f\ndependencies:\n- a # the same\n"}, file="f.yml").key == plain.key


def test_shellcheck_is_content() -> None:
    script = Path(conda_recipe.__code__.co_filename).with_name("conda_make.sh")
    argv = [str(Path(sys.executable).with_name("shellcheck")), "--severity=info", str(script)]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == ""
