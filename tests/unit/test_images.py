"""Definition files and what they name; the recipes of images, run by bash with a played Apptainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hpcrun import Environment
from hpcrun.environments import Recipe, recipe_of
from hpcrun.environments.definition import LIMIT, read_definition
from hpcrun.environments.images import locked, untagged
from hpcrun.errors import ConfigError
from hpcrun.models.site import Site
from hpcrun.shells.base import Result
from hpcrun.shells.local import LocalShell

DEFINITION = """\
# a comment
Bootstrap: localimage
From: bases/base.sif
Stage: one

%files
    a.txt /opt/a.txt
    "with space.txt"    # and a comment
%post
    echo files: %files b.txt

Bootstrap: docker
From: debian:13
Stage: two
%files from one
    /opt/a.txt
%FILES
    never.txt

bootstrap: localimage
from: /images/base.sif
"""

FILES = {"a.txt": b"a", "with space.txt": b"b", "bases/base.sif": b"image"}


def definition(text: str, **files: bytes) -> tuple[set[str], list[str]]:
    known = {"image.def": text.encode(), **FILES, **files}

    def read(name: str) -> bytes:
        if name == "folder":
            raise IsADirectoryError(21, "Is a directory", name)
        if name not in known:
            raise FileNotFoundError(2, "No such file or directory", name)
        return known[name]

    found = read_definition("image.def", read)
    return set(found.files), found.bases


def refused(text: str, **files: bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        definition(text, **files)
    return "\n".join(map(str, caught.value.problems))


def test_what_a_definition_names_is_part_of_its_content() -> None:
    names, bases = definition(DEFINITION)
    assert names == {"image.def", *FILES}
    assert bases == ["/images/base.sif"]


def test_a_definition_elsewhere_names_what_lies_beside_it() -> None:
    known = {
        "/there/my.def": b"Bootstrap: docker\nFrom: x\n%files\n  sub/a.txt /\n",
        "/there/sub/a.txt": b"a",
    }
    found = read_definition("/there/my.def", known.__getitem__)
    assert found.name == "my.def" and set(found.files) == {"my.def", "sub/a.txt"}
    within = {"sub/my.def": b"Bootstrap: scratch\n%files\na.txt /\n", "a.txt": b"a"}
    assert set(read_definition("sub/my.def", within.__getitem__).files) == {"sub/my.def", "a.txt"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("none.txt /opt", "image.def:3: environment.apptainer.definition: there is no file none.txt"),
        ("/etc/hosts /etc", "image.def:3: environment.apptainer.definition: /etc/hosts is an absolute path"),
        ("../a.txt", "lies outside the source directory"),
        ("sub/../../a.txt", "lies outside the source directory"),
        ("folder /opt", "folder is a folder"),
        ("*.txt /opt", "*.txt: a pattern"),
        ("{{ file }} /opt", "{{ file }}: a path may hold no variable"),
        ('"a.txt /opt', "image.def:3: environment.apptainer.definition: No closing quotation"),
    ],
)
def test_what_could_be_another_thing_the_next_time_is_refused(line: str, said: str) -> None:
    line = line if not line.startswith("{{") else '"{{ file }}" /opt'
    assert said in refused(f"Bootstrap: scratch\n%files\n    {line}\n")


def test_a_definition_that_cannot_be_read() -> None:
    with pytest.raises(ConfigError, match=r"there is no file other\.def"):
        read_definition("other.def", lambda name: Path("/nowhere", name).read_bytes())
    with pytest.raises(ConfigError, match="is not text in UTF-8"):
        read_definition("image.def", lambda name: b"\xff")
    large = refused("Bootstrap: scratch\n%files\na.bin\n", **{"a.bin": bytes(LIMIT)})
    assert "more than 64 MB" in large and "image.def:3" in large


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("docker://debian", "docker://debian"),
        ("docker://debian:13", "docker://debian"),
        ("docker://host:5000/a/b", "docker://host:5000/a/b"),
        ("docker://host:5000/a/b:1.2", "docker://host:5000/a/b"),
        ("docker://host:5000/a/b@sha256:12", "docker://host:5000/a/b"),
    ],
)
def test_a_name_without_its_tag(uri: str, name: str) -> None:
    assert untagged(uri) == name


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("docker://me:word@host/a", "who you are is no part of its name"),
        ("docker://me@host/a", "who you are is no part of its name"),
        ("docker://me:word@host/a@sha256:12", "who you are is no part of its name"),
        ("https://host/a.sif", "there is no https://"),
    ],
)
def test_an_image_that_nobody_pulls(image: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Environment("e", apptainer={"image": image})


def recipe(environment: Environment, files: dict[str, bytes] | None = None, **site: Any) -> Recipe:
    found = recipe_of(environment, (files or FILES).__getitem__, Site(name="here", **site))
    assert found is not None
    return found


def test_what_the_host_has_is_no_part_of_what_is_made() -> None:
    environment = Environment("e", apptainer={"image": "docker://debian:13"})
    one = recipe(environment)
    other = recipe(environment, apptainer={"executable": "/opt/apptainer", "cache": "/scratch/c"})
    assert one.name == other.name and one.name.startswith("apptainer-")
    assert other.variables["HPCRUN_APPTAINER"] == "/opt/apptainer"
    assert recipe(Environment("e", apptainer={"image": "docker://debian:12"})).key != one.key


def test_what_the_definition_names_is_part_of_the_key() -> None:
    text = b"Bootstrap: scratch\n%files\na.txt /\n"
    environment = Environment("e", apptainer={"definition": "image.def"})
    keys = {recipe(environment, {"image.def": text, "a.txt": content}).key for content in (b"a", b"b", b"a")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("packages", "lock"),
    [
        ("docker://a:5/b@sha256:1f\nsif sha256:2e\n", "apptainer:\n  image: docker://a:5/b@sha256:1f\n"),
        ("# docker://b@sha256:1f\n# sif sha256:2e\nnumpy==2\n", None),
        ("oras://a/b:1\nsif sha256:2e\n", ""),
        ("/images/base.sif sha256:1f\nsif sha256:2e\n", ""),
        ("sif sha256:2e\n", ""),
        ("", ""),
    ],
)
def test_what_makes_an_image_again(packages: str, lock: str | None) -> None:
    """Its digest in a registry; of one with packages inside, the list of both; else nothing does."""
    assert locked(packages) == (packages if lock is None else lock or None)


def test_an_image_that_is_there_is_not_made() -> None:
    environment = Environment("e", apptainer={"image": "/images/torch.sif"})
    assert recipe_of(environment, FILES.__getitem__, Site(name="here")) is None


def test_a_venv_inside_is_made_of_both() -> None:
    apptainer = {"image": "/images/torch.sif", "binds": ["/data"]}
    alone = recipe(Environment("e", venv={"packages": ["numpy"]}))
    one = recipe(Environment("e", apptainer=apptainer, venv={"packages": ["numpy"]}))
    other = recipe(Environment("e", apptainer=apptainer, venv={"packages": ["scipy"]}))
    moved = recipe(Environment("e", apptainer={"image": "/images/b.sif"}, venv={"packages": ["numpy"]}))
    assert len({each.key for each in (alone, one, other, moved)}) == 4
    assert one.title == "venv of numpy in the image /images/torch.sif"


# Plays what Apptainer does on hosts that do not let one build, and is no Apptainer.
PLAYED = """\
#!/bin/sh
case $1 in
    --version) echo "apptainer version 0" ;;
    build) echo "INFO:    Starting build..." && {} ;;
    pull) shift && echo "$APPTAINER_CACHEDIR" >"$1" ;;
esac
"""


def run(made: Recipe, folder: Path, build: str = "exit 255", **variables: str) -> Result:
    program = folder / "apptainer"
    program.write_text(PLAYED.format(build))
    program.chmod(0o755)
    (folder / "envs/made/recipe").mkdir(parents=True, exist_ok=True)
    script = f"set -euo pipefail\n{made.build}\n{made.record}"
    exported = {**made.variables, "HPCRUN_APPTAINER": str(program), **variables}
    return LocalShell().run(
        ["bash", "-c", script],
        cwd=str(folder / "envs/made/recipe"),
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "HPCRUN_ENV": str(folder / "envs/made"),
            **exported,
        },
        timeout=30,
    )


@pytest.mark.parametrize(
    ("fakeroot", "words", "told"),
    [
        (
            True,
            "FATAL: could not use fakeroot: no mapping entry",
            "with fakeroot: set apptainer.fakeroot: false",
        ),
        (False, "FATAL: You must be root to build", "without fakeroot: set apptainer.fakeroot: true"),
        (
            True,
            "FATAL: newuidmap: Operation not permitted",
            "name the SIF file as environment.apptainer.image",
        ),
    ],
)
def test_a_build_that_is_not_permitted_says_what_to_do(
    fakeroot: bool, words: str, told: str, tmp_path: Path
) -> None:
    environment = Environment("e", apptainer={"definition": "image.def"})
    made = recipe(environment, {"image.def": b"Bootstrap: scratch\n"}, apptainer={"fakeroot": fakeroot})
    result = run(made, tmp_path, f"echo '{words}' >&2; exit 255")
    assert result.rc == 1
    assert words in result.stdout and told in result.stdout
    assert ("--fakeroot" in str(made.build)) is fakeroot


def test_a_build_that_fails_shows_what_came_before(tmp_path: Path) -> None:
    made = recipe(
        Environment("e", apptainer={"definition": "image.def"}), {"image.def": b"Bootstrap: scratch\n"}
    )
    result = run(made, tmp_path, "echo 'sh: no such compiler'; echo 'FATAL: %post failed'; exit 1")
    assert result.rc == 1
    assert result.stdout.endswith("FATAL: %post failed\nERROR: before that, it said: sh: no such compiler\n")


@pytest.mark.parametrize(
    ("cache", "folder"),
    [
        ("", "envs/.apptainer"),
        ("~/my cache", "my cache"),
        ("$SCRATCH/c", "scratch/c"),
        ("${SCRATCH}/it's c", "scratch/it's c"),
    ],
)
def test_layers_are_kept_where_the_site_says(cache: str, folder: str, tmp_path: Path) -> None:
    made = recipe(Environment("e", apptainer={"image": "oras://host/a:1"}))
    result = run(made, tmp_path, HPCRUN_APPTAINER_CACHE=cache, SCRATCH=str(tmp_path / "scratch"))
    assert result.rc == 0, result.stdout + result.stderr
    assert (tmp_path / "envs/made/image.sif").read_text() == f"{tmp_path / folder}\n"
    assert result.stdout.splitlines()[-2] == "oras://host/a:1"


def test_a_cache_by_a_variable_that_is_not_set(tmp_path: Path) -> None:
    made = recipe(Environment("e", apptainer={"image": "oras://host/a:1"}))
    result = run(made, tmp_path, HPCRUN_APPTAINER_CACHE="$NO_SUCH/c")
    assert result.rc == 1 and "ERROR: NO_SUCH, which apptainer.cache of the site names" in result.stdout


def test_no_program(tmp_path: Path) -> None:
    made = recipe(Environment("e", apptainer={"image": "oras://host/a:1"}))
    result = run(made, tmp_path, HPCRUN_APPTAINER="no-apptainer")
    assert result.rc == 127 and "ERROR: there is no program no-apptainer on" in result.stdout
