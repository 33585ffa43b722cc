"""What an environment has besides its content: a name in a workspace, and other ways to make one."""

from __future__ import annotations

import os
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BeforeValidator, Field

from hpcrun.models.base import Line

E = TypeVar("E", bound="Named")


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Version = Annotated[Line, Field(pattern=r"^([1-9][0-9]{0,8}|latest)$"), BeforeValidator(_digits)]
"""Of a registered environment."""


def by_name(value: object) -> object:
    """``torch`` and ``torch:2``, in place of an environment, as one that the workspace has."""
    if not isinstance(value, str):
        return value
    name, _, version = value.partition(":")
    return {"name": name, "version": version or "latest"}


def _path(file: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.path.expanduser(file))  # noqa: PTH100, PTH111 - links keep their names


class Source(Protocol):
    """What an environment asks of a workspace."""

    def get_environment(self, name: str, version: str | None = None) -> Any: ...

    def list_environments(self) -> dict[str, Any]: ...

    def register_environment(self, environment: Any) -> Any: ...

    def build_environment(self, environment: Any, target: str) -> str: ...


class Folders(Protocol):
    """Environments as folders."""

    def save(self, environment: Any, path: str | os.PathLike[str], overwrite: bool) -> None: ...

    def load(self, path: str | os.PathLike[str]) -> Any: ...


folders: Folders | None = None
"""Models do nothing with files: what does puts itself here (:mod:`hpcrun.environment`)."""


def _as_folders() -> Folders:
    assert folders is not None, "import Environment from hpcrun"
    return folders


class Named:
    """The part of an Environment that others know it by."""

    @classmethod
    def get(cls: type[E], workspace: Source, name: str, version: str | int | None = None) -> E:
        """The environment that the workspace knows under ``name``, curated ones included; the newest version,
        or that one. Raises NotFoundError, naming those there are.
        """
        found: E = workspace.get_environment(name, None if version is None else str(version))
        return found

    @classmethod
    def list(cls: type[E], workspace: Source) -> dict[str, E]:
        """The newest version of each that the workspace knows, curated ones included, by name."""
        return workspace.list_environments()

    def register(self: E, workspace: Source) -> E:
        """Keep it in the workspace, with what the files hold that it names; gives it with its ``version``.

        A version never changes. What is there already, under this name and with the same content, keeps the
        version that it has. Raises UsageError, ConfigError.
        """
        kept: E = workspace.register_environment(self)
        return kept

    def build(self, workspace: Source, target: str = "local") -> str:
        """Make it on a target, unless it is there, and wait for that; the folder that it lies in.

        It is empty for one that is not made by hpcrun. Where the site has environments made by jobs, one is
        submitted and not waited for, and ``job ID`` is what comes back. Raises ConfigError, NotFoundError,
        CommandError.
        """
        return workspace.build_environment(self, target)

    def save_to_directory(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write it to a folder, as ``environment.yaml`` beside the files that it names.

        Raises UsageError where the folder holds something, unless ``overwrite``; ConfigError for a file that
        is not there.
        """
        _as_folders().save(self, path, overwrite)

    @classmethod
    def load_from_directory(cls: type[E], path: str | os.PathLike[str]) -> E:
        """What :meth:`save_to_directory` wrote. Raises NotFoundError, ConfigError."""
        found: E = _as_folders().load(path)
        return found

    def clone(self: E, new_name: str) -> E:
        """A copy under another name, of no version yet."""
        copy: Any = self
        copy = copy.model_copy(deep=True, update={"version": None})
        copy.name = new_name
        clone: E = copy
        return clone

    @classmethod
    def from_pip_requirements(cls: type[E], name: str, file_path: str | os.PathLike[str]) -> E:
        """A virtual environment of a requirements file, which is read when a run is submitted."""
        return _made(cls, name, venv={"requirements": _path(file_path)})

    @classmethod
    def from_apptainer_definition(cls: type[E], name: str, file_path: str | os.PathLike[str]) -> E:
        """An image built from a definition file, which is read when a run is submitted; the files that it
        copies are relative to its folder."""
        return _made(cls, name, apptainer={"definition": _path(file_path)})

    @classmethod
    def from_docker_image(
        cls: type[E],
        name: str,
        image: str,
        container_registry: str | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> E:
        """An image pulled from a Docker registry: Docker Hub, or the one at the address
        ``container_registry``; with ``pip_requirements``, a virtual environment inside it."""
        image = image.removeprefix("docker://")
        if container_registry:
            image = f"{container_registry.rstrip('/')}/{image}"
        sections: dict[str, object] = {"apptainer": {"image": f"docker://{image}"}}
        if pip_requirements is not None:
            sections["venv"] = {"requirements": _path(pip_requirements)}
        return _made(cls, name, **sections)


def _made(kind: type[E], name: str, **sections: object) -> E:
    make: Any = kind
    made: E = make(name, **sections)
    return made
