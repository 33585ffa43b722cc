"""The software a run sees.

Assigned to as in Azure ML (``env.python.user_managed_dependencies = True``), so these models alone,
with ScriptRunConfig, can be changed after they were made; every assignment is checked.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hpcrun.models.base import EnvironmentVariables, Line, Name, Text


class Mutable(BaseModel):
    """Checked on every assignment, unknown names refused."""

    model_config = ConfigDict(extra="forbid", strict=True, validate_assignment=True)

    def __init__(self, **values: object) -> None:
        super().__init__(**values)

    def __setattr__(self, name: str, value: Any) -> None:
        values, given = dict(self.__dict__), set(self.model_fields_set)
        try:
            super().__setattr__(name, value)
        except ValidationError:
            # A check of the whole model runs after the value was set: a refused value must not stay.
            object.__setattr__(self, "__dict__", values)
            object.__setattr__(self, "__pydantic_fields_set__", given)
            raise


class PythonSection(Mutable):
    """``user_managed_dependencies``: use the Python that is there (``interpreter_path``) as it is.

    ``interpreter_path`` is a path on the target, or a name found on its PATH; left out, the
    environment's own ``python`` (in conda or a container), else ``python3``.
    """

    user_managed_dependencies: bool = False
    interpreter_path: Annotated[Line, Field(min_length=1)] | None = None


Requirement = Annotated[Line, Field(min_length=1, pattern=r"^[^\s-]")]
"""A package as conda or pip takes it. It begins with no dash: options have a list of their own."""

Versions = Annotated[Line, Field(pattern=r"^[0-9]+(\.[0-9]+){0,2}$")]
"""A version of Python: ``3.11``, ``3.11.7``."""


def _digits(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Version = Annotated[Line, Field(pattern=r"^([1-9][0-9]{0,8}|latest)$"), BeforeValidator(_digits)]
"""Of a registered environment."""


class CondaSection(Mutable):
    """A conda environment: one that exists, by ``name`` or ``prefix`` (an absolute path), or one to be made,
    from an environment.yml (``file``, in the source directory or by its absolute path) or from packages.

    ``pip_packages`` are installed by the environment's own pip, with ``pip_options`` before them.
    """

    name: Name | None = None
    prefix: Annotated[Line, Field(pattern=r"^/")] | None = None
    file: Annotated[Line, Field(min_length=1)] | None = None
    python_version: Versions | None = None
    channels: list[Annotated[Line, Field(min_length=1)]] = []
    conda_packages: list[Requirement] = []
    pip_packages: list[Requirement] = []
    pip_options: list[Annotated[Line, Field(min_length=1)]] = []

    @model_validator(mode="after")
    def _one(self) -> CondaSection:
        given = [name for name in ("name", "prefix", "file") if getattr(self, name) is not None]
        listed = [name for name in _CONDA_LISTS if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        if given and listed:
            raise ValueError(
                f"{given[0]} and {', '.join(listed)} exclude each other: an environment is either "
                "there, or in a file, or made of these packages"
            )
        if not given and not listed:
            raise ValueError(
                "give the name or the prefix of a conda environment, a file (environment.yml), or packages"
            )
        return self

    @property
    def made(self) -> bool:
        """Whether hpcrun makes it, and not somebody else."""
        return self.name is None and self.prefix is None


_CONDA_LISTS = ("python_version", "channels", "conda_packages", "pip_packages", "pip_options")


class VenvSection(Mutable):
    """A virtual environment to be made: of a requirements file, of a project (a folder with pyproject.toml
    and perhaps uv.lock), or of ``packages``. Paths are below the source directory, or absolute.

    ``python`` is the interpreter it is made with: a path, or a name such as ``python3.12``.
    """

    requirements: Annotated[Line, Field(min_length=1)] | None = None
    project: Annotated[Line, Field(min_length=1)] | None = None
    packages: list[Requirement] = []
    pip_options: list[Annotated[Line, Field(min_length=1)]] = []
    python: Annotated[Line, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> VenvSection:
        given = [name for name in ("requirements", "project", "packages") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        return self


IMAGE_SOURCES = ("docker://", "oras://", "library://")
"""Where images are pulled from; any other image is a path on the target."""


class ApptainerSection(Mutable):
    """An image: a SIF file or sandbox folder on the target, one to be pulled (``docker://``, ``oras://``,
    ``library://``), or one to be built from a ``definition`` file (in the source directory, or absolute).

    ``binds`` are ``SRC[:DST[:OPTS]]``; the run's folder is always bound. ``gpu`` passes the GPU driver
    in: ``auto`` does so when GPUs were asked for. ``clean_environment`` hands on only what hpcrun,
    Slurm, MPI, NCCL and CUDA need.
    """

    image: Annotated[Line, Field(min_length=1)] | None = None
    definition: Annotated[Line, Field(min_length=1)] | None = None
    binds: list[Annotated[Line, Field(min_length=1)]] = []
    gpu: Literal["auto", "nvidia", "rocm", "none"] = "auto"
    clean_environment: bool = False

    @model_validator(mode="after")
    def _one(self) -> ApptainerSection:
        if (self.image is None) == (self.definition is None):
            raise ValueError("give either an image or a definition file")
        scheme, found, rest = (self.image or "").partition("://")
        if found and scheme + found not in IMAGE_SOURCES:
            raise ValueError(
                f"image: there is no {scheme}://; images are pulled from {', '.join(IMAGE_SOURCES)}"
            )
        user, at, digest = rest.partition("@")
        if at and ("/" not in user or ":" in user.partition("/")[0]) and not digest.startswith("sha256:"):
            raise ValueError(
                "image: who you are is no part of its name; log in with apptainer registry login"
            )
        return self

    @property
    def made(self) -> bool:
        """Whether hpcrun pulls or builds it."""
        return self.image is None or self.image.startswith(IMAGE_SOURCES)


ENVIRONMENT_KINDS = ("conda", "apptainer", "venv")
"""The sections that say what an environment is; without any it is of kind ``system``. Of these it has one;
a container may have a virtual environment inside."""


_Modules = list[Name]  # the class below has another list


class Environment(Mutable):
    """Python, conda, a virtual environment or Apptainer, with modules and variables in front of any of them.

    With a ``version`` and nothing but a name beside it, it is the one that the workspace has under that name:
    a number, or ``latest``. A text says the same in short: ``torch``, ``torch:2``.

    >>> env = Environment("user-managed-env")
    >>> env.python.user_managed_dependencies = True
    """

    name: Name = "default"
    version: Version | None = None
    python: PythonSection = Field(default_factory=PythonSection)
    conda: CondaSection | None = None
    apptainer: ApptainerSection | None = None
    venv: VenvSection | None = None
    modules: _Modules = []
    setup: Text | None = None
    environment_variables: EnvironmentVariables = {}

    def __init__(self, name: str = "default", **more: object) -> None:
        super().__init__(name=name, **more)

    @model_validator(mode="after")
    def _one_kind(self) -> Environment:
        given = [kind for kind in ENVIRONMENT_KINDS if getattr(self, kind) is not None]
        if len(given) > 1 and given != ["apptainer", "venv"]:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        return self

    @property
    def kind(self) -> str:
        """The section that is given, or ``system``."""
        return next((kind for kind in ENVIRONMENT_KINDS if getattr(self, kind) is not None), "system")

    @property
    def is_reference(self) -> bool:
        """Whether it only names one that a workspace has."""
        return self.version is not None and self == Environment(self.name, version=self.version)

    @staticmethod
    def get(workspace: EnvironmentSource, name: str, version: str | None = None) -> Environment:
        """The environment the workspace knows under ``name``, curated ones included; the newest version, or
        that one. Raises NotFoundError, naming those there are.
        """
        return workspace.get_environment(name, version)

    @staticmethod
    def list(workspace: EnvironmentSource) -> dict[str, Environment]:
        """The newest version of each that the workspace knows, curated ones included, by name."""
        return workspace.list_environments()

    def register(self, workspace: EnvironmentSource) -> Environment:
        """Keep it in the workspace, with what the files hold that it names; gives it with its ``version``.

        A version never changes. What is there already, under this name and with the same content, keeps the
        version that it has. Raises UsageError, ConfigError.
        """
        return workspace.register_environment(self)

    def save_to_directory(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write it to a folder, as ``environment.yaml`` beside the files that it names.

        Raises UsageError where the folder holds something, unless ``overwrite``; ConfigError for a file that
        is not there.
        """
        _as_folders().save(self, path, overwrite)

    @staticmethod
    def load_from_directory(path: str | os.PathLike[str]) -> Environment:
        """What :meth:`save_to_directory` wrote. Raises NotFoundError, ConfigError."""
        return _as_folders().load(path)

    def clone(self, new_name: str) -> Environment:
        """A copy under another name, of no version yet."""
        copy = self.model_copy(deep=True, update={"version": None})
        copy.name = new_name
        return copy

    @staticmethod
    def from_pip_requirements(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """A virtual environment of a requirements file, which is read when a run is submitted."""
        return Environment(name, venv={"requirements": _path(file_path)})

    @staticmethod
    def from_apptainer_definition(name: str, file_path: str | os.PathLike[str]) -> Environment:
        """An image built from a definition file, which is read when a run is submitted; the files that it
        copies are relative to its folder."""
        return Environment(name, apptainer={"definition": _path(file_path)})

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: str | None = None,
        pip_requirements: str | os.PathLike[str] | None = None,
    ) -> Environment:
        """An image pulled from a Docker registry: Docker Hub, or the one at the address
        ``container_registry``; with ``pip_requirements``, a virtual environment inside it."""
        image = image.removeprefix("docker://")
        if container_registry:
            image = f"{container_registry.rstrip('/')}/{image}"
        section: dict[str, object] = {"apptainer": {"image": f"docker://{image}"}}
        if pip_requirements is not None:
            section["venv"] = {"requirements": _path(pip_requirements)}
        return Environment(name, **section)


def _path(file: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.path.expanduser(file))  # noqa: PTH100, PTH111 - links keep their names


def named(value: object) -> object:
    """``torch`` and ``torch:2``, in place of an environment, as one that the workspace has."""
    if not isinstance(value, str):
        return value
    name, _, version = value.partition(":")
    return {"name": name, "version": version or "latest"}


class Folders(Protocol):
    """Environments as folders."""

    def save(self, environment: Environment, path: str | os.PathLike[str], overwrite: bool) -> None: ...

    def load(self, path: str | os.PathLike[str]) -> Environment: ...


folders: Folders | None = None
"""Models do nothing with files: what does puts itself here (:mod:`hpcrun.environment`)."""


def _as_folders() -> Folders:
    assert folders is not None, "import Environment from hpcrun"
    return folders


class EnvironmentSource(Protocol):
    """What an environment asks of a workspace."""

    def get_environment(self, name: str, version: str | None = None) -> Environment: ...

    def list_environments(self) -> dict[str, Environment]: ...

    def register_environment(self, environment: Environment) -> Environment: ...
