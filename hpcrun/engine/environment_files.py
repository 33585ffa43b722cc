"""An environment together with the files that it names, as a folder of its own.

environment.yaml      what it is; paths in it are relative to the folder
venv/                 requirements.txt, and those that it names; or a project
conda/  apptainer/    environment.yml; a definition, and what it copies
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hpcrun.config.environments import dump_environment, read_environment
from hpcrun.environments import recipe_of
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.models.environment import Environment
from hpcrun.models.site import Site
from hpcrun.places.writing import private

NAME = "environment.yaml"

_FILES = (("conda", "file"), ("venv", "requirements"), ("venv", "project"), ("apptainer", "definition"))


@dataclass(frozen=True)
class Packed:
    """``environment`` names its files as they are called in ``files``."""

    environment: Environment
    files: dict[str, bytes]

    def contents(self) -> dict[str, bytes]:
        """All that is in the folder."""
        return {NAME: dump_environment(self.environment).encode(), **self.files}


def pack(environment: Environment, folder: Path) -> Packed:
    """The environment and all that it names; relative paths are below ``folder``. Raises ConfigError."""
    packed, files = environment.model_copy(deep=True), {}
    packed.version = None
    for section, key in _FILES:
        value = getattr(getattr(environment, section), key, None)
        if value is not None:
            found = _read_by(section, key, value, folder)
            top = _top(key, value, found, folder)
            names = {path: os.path.relpath(path, top) for path in found}
            own = os.path.abspath(folder / value)  # noqa: PTH100 - links keep their names
            if key == "definition":
                names[own] = os.path.basename(own)  # noqa: PTH119 - what it copies is relative to where it lies
            files.update({f"{section}/{names[path]}": content for path, content in found.items()})
            setattr(getattr(packed, section), key, section if key == "project" else f"{section}/{names[own]}")
    return Packed(packed, files)


def _read_by(section: str, key: str, value: str, folder: Path) -> dict[str, bytes]:
    """The files that a recipe reads, by their absolute paths."""
    found: dict[str, bytes] = {}

    def read(path: str) -> bytes:
        content = (folder / path).read_bytes()
        found[os.path.abspath(folder / path)] = content  # noqa: PTH100
        return content

    recipe_of(Environment("alone", **{section: {key: value}}), read, Site(name="local"))
    return found


def _top(key: str, value: str, found: dict[str, bytes], folder: Path) -> str:
    """What the files' names are relative to."""
    if key == "project":
        return os.path.abspath(folder / value)  # noqa: PTH100
    if key == "definition" and not value.startswith("/"):
        return str(folder)
    return os.path.commonpath([os.path.dirname(path) for path in found])  # noqa: PTH120


def load(folder: Path) -> Environment:
    """The environment in a folder, its files by their absolute paths. Raises NotFoundError, ConfigError."""
    if not (folder / NAME).is_file():
        raise NotFoundError(f"no environment in {folder}: there is no {NAME}")
    environment = read_environment(folder / NAME)
    for section, key in _FILES:
        value = getattr(getattr(environment, section), key, None)
        if value is not None:
            setattr(getattr(environment, section), key, str(folder / value))
    return environment


def save(environment: Environment, folder: Path, *, overwrite: bool = False) -> None:
    """Write an environment to a folder. Raises UsageError where there is one with something in it."""
    contents = pack(environment, Path.cwd()).contents()
    if folder.exists() and not overwrite and any(folder.iterdir()):
        raise UsageError(f"{folder} is there, and holds something", hint="Say overwrite=True to replace it.")
    if overwrite:
        for section, _ in _FILES:
            shutil.rmtree(folder / section, ignore_errors=True)
    write(contents, folder)


def write(contents: dict[str, bytes], folder: Path) -> None:
    """Files, by their names, in a folder."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def contents_of(folder: Path) -> dict[str, bytes]:
    """What :func:`write` wrote."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def published(contents: dict[str, bytes], parent: Path, name: str) -> bool:
    """Make the folder ``parent/name``, whole and in one step; False where it is there already."""
    with private():
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        try:
            write(contents, temporary)
            temporary.rename(parent / name)
        except FileExistsError:
            return False
        except OSError:
            if (parent / name).is_dir():
                return False
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return True
