"""What makes a virtual environment: what decides its key, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpcrun.engine.environments import telling
from hpcrun.environments import Recipe, recipe_of
from hpcrun.errors import ConfigError
from hpcrun.models.environment import Environment, VenvSection
from hpcrun.render import Made
from hpcrun.render_build import render_builder
from hpcrun.shells.local import LocalShell
from tests.engine_help import slurm_site


def recipe(folder: Path, setup: str | None = None, modules: tuple[str, ...] = (), **section: Any) -> Recipe:
    environment = Environment("e", venv=VenvSection(**section), setup=setup, modules=list(modules))
    made = recipe_of(environment, lambda name: (folder / name).read_bytes(), slurm_site())
    assert made is not None
    return made


def test_all_that_decides_what_is_made_is_in_its_key(tmp_path: Path) -> None:
    """The files, those that they name, options, modules, setup lines; and nothing else."""
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("a<2\n-r more/b.txt # more\n--constraint=c.txt\n")
    (tmp_path / "more/b.txt").write_text("b\n-c ../c.txt\n")
    (tmp_path / "c.txt").write_text("d==1\n")
    first = recipe(tmp_path, requirements="requirements.txt")
    assert {name: data.decode() for name, data in first.files.items()} == {
        "requirements.txt": "a<2\n-r requirements-1.txt\n--constraint requirements-2.txt\n",
        "requirements-1.txt": "b\n-c requirements-2.txt\n",
        "requirements-2.txt": "d==1\n",
    }
    seen = [first.key]
    (tmp_path / "train.py").write_text("1\n")
    assert recipe(tmp_path, requirements="requirements.txt").key == first.key
    seen.append(recipe(tmp_path, requirements="requirements.txt", python="python3.12").key)
    seen.append(recipe(tmp_path, requirements="requirements.txt", pip_options=["--pre"]).key)
    seen.append(recipe(tmp_path, modules=("gcc",), requirements="requirements.txt").key)
    seen.append(recipe(tmp_path, setup="ulimit -c 0", requirements="requirements.txt").key)
    (tmp_path / "c.txt").write_text("d==2\n")
    seen.append(recipe(tmp_path, requirements="requirements.txt").key)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "--editable=lib",
        "./lib",
        "../lib",
        "/home/me/lib",
        "lib-1.0-py3-none-any.whl",
        "lib @ file:lib",
    ],
)
def test_paths_of_this_machine_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"numpy\n{line}\n")
    with pytest.raises(ConfigError, match=r"requirements\.txt:2: .* is a path here") as caught:
        recipe(tmp_path, requirements="requirements.txt")
    assert "PYTHONPATH" in caught.value.problems[0].hint


@pytest.mark.parametrize(
    "line", ["numpy @ https://example.org/numpy.whl", "--find-links /wheels", "a.b-c_d>=1"]
)
def test_other_lines_stay_as_they_are(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    assert recipe(tmp_path, requirements="requirements.txt").files["requirements.txt"].decode() == f"{line}\n"


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("-r gone.txt\n")
    with pytest.raises(ConfigError, match=r"environment\.venv\.requirements: cannot read gone\.txt"):
        recipe(tmp_path, requirements="requirements.txt")


def test_files_that_name_each_other_come_to_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / "b.txt").write_text("-r a.txt\n")
    assert len(recipe(tmp_path, requirements="a.txt").files) == 2


def test_a_project_is_its_dependencies(tmp_path: Path) -> None:
    """With its lock, where there is one; a change to its code makes no other environment."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    plain = recipe(tmp_path, project=".")
    (tmp_path / "uv.lock").write_text("version = 1\n")
    locked = recipe(tmp_path, project=".")
    assert sorted(plain.files) == ["pyproject.toml"]
    assert sorted(locked.files) == ["pyproject.toml", "uv.lock"]
    assert "sync --frozen" in str(locked.build) and "sync" not in str(plain.build)


def test_nothing_in_a_title_is_run(tmp_path: Path) -> None:
    """What a file is called stands in the builder as a word, and nothing more."""
    name = '$(touch canary)`touch canary`"; touch canary #.txt'
    (tmp_path / name).write_text("numpy\n")
    made = Made(recipe(tmp_path, requirements=name), str(tmp_path / "environments"))
    script = render_builder(made, slurm_site()).replace("\nbuild() {\n", "\nbuild() {\nreturn 3\n")
    (tmp_path / "build.sh").write_text(script)
    folder = tmp_path / "environments" / f"{made.recipe.name}-x.1"
    folder.mkdir(parents=True)
    done = LocalShell().run(["bash", str(tmp_path / "build.sh"), str(folder)], timeout=60, cwd=tmp_path)
    assert done.rc == 3, done
    assert name in (folder / "log.txt").read_text()
    assert not list(tmp_path.rglob("canary"))


def test_what_is_made_is_described(tmp_path: Path) -> None:
    """By one line of JSON, whatever it is called; a second builder finds it there and takes its own away."""
    name = 'a "b" \\ 100% ü.txt'
    (tmp_path / name).write_text("numpy\n")
    made = Made(recipe(tmp_path, requirements=name), str(tmp_path / "environments"))
    script = render_builder(made, slurm_site())
    script = script.replace("\nbuild() {\n", "\nbuild() {\ntrue; }\nother() {\n")
    script = script.replace("\nrecord() {\n", "\nrecord() {\necho numpy==1; }\nanother() {\n")
    (tmp_path / "build.sh").write_text(script)
    for number in (1, 2):
        folder = tmp_path / "environments" / f"{made.recipe.name}-x.{number}"
        folder.mkdir(parents=True)
        done = LocalShell().run(["bash", str(tmp_path / "build.sh"), str(folder)], timeout=60, cwd=tmp_path)
        assert done.rc == 0, done
    [link] = [path for path in (tmp_path / "environments").iterdir() if path.is_symlink()]
    about = json.loads((link / "environment.json").read_text())
    assert about["title"] == f"venv of {name}" and about["key"] == made.recipe.key
    assert (link / "packages.txt").read_text() == "numpy==1\n"
    assert not folder.exists()


PIP = """\
2026-01-01T00:00:00Z hpcrun: making the venv of requirements.txt as /x on login1
Looking in links: /wheels
Processing /wheels/a.whl
ERROR: Could not find a version that satisfies the requirement b==9 (from versions: none)
ERROR: No matching distribution found for b==9
2026-01-01T00:00:01Z hpcrun: failed: ended with exit code 1
"""
UV = """\
2026-01-01T00:00:00Z hpcrun: making the venv of b as /x on login1
Python 3.11.7
  \u00d7 No solution found when resolving dependencies:
  ╰─▶ Because there is no version of b==9 and you require b==9, we can
      conclude that your requirements are unsatisfiable.
2026-01-01T00:00:01Z hpcrun: failed: ended with exit code 1
"""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            PIP,
            "ERROR: Could not find a version that satisfies the requirement b==9 (from versions: none) "
            "ERROR: No matching distribution found for b==9",
        ),
        (
            UV,
            "No solution found when resolving dependencies: Because there is no version of b==9 and you "
            "require b==9, we can conclude that your requirements are unsatisfiable.",
        ),
        (
            "one\nsomething went\n2026-01-01T00:00:01Z hpcrun: failed: ended with exit code 1\n",
            "something went",
        ),
        ("2026-01-01T00:00:01Z hpcrun: failed: ended with exit code 2\n", "ended with exit code 2"),
        (
            "OSError: [Errno 28] No space left on device\n"
            "2026-01-01T00:00:01Z hpcrun: failed: ended with exit code 1, and nothing can be written to "
            "its disk\n",
            "OSError: [Errno 28] No space left on device (nothing can be written to its disk)",
        ),
    ],
)
def test_the_words_that_tell(log: str, words: str) -> None:
    assert telling(log) == words
