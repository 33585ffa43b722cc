"""The software a run sees.

Assigned to as in Azure ML (``env.python.user_managed_dependencies = True``), so these models alone,
with ScriptRunConfig, can be changed after they were made; every assignment is checked.
"""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.models.base import EnvironmentVariables, Line, Name, Text, only_one
from hpcrun.models.conda_dependencies import CondaDependencies
from hpcrun.models.named import Named, Version


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


class _Owner:
    """The environment that a section was taken from; no part of what the section says, nor of its copies."""

    def __init__(self, owner: Environment | None = None) -> None:
        self.get = (lambda: None) if owner is None else weakref.ref(owner)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Owner)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[type[_Owner], tuple[()]]:
        return _Owner, ()


class PythonSection(Mutable):
    """``user_managed_dependencies``: use the Python that is there (``interpreter_path``) as it is.

    ``interpreter_path`` is a path on the target, or a name found on its PATH; left out, the
    environment's own ``python`` (in conda or a container), else ``python3``.
    """

    user_managed_dependencies: bool = False
    interpreter_path: Annotated[Line, Field(min_length=1)] | None = None
    _owner: _Owner = PrivateAttr(default_factory=_Owner)

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """What the environment's ``conda`` section says, to be changed in place.

        Raises ConfigError for an environment that exists already, and is not made.
        """
        owner = self._environment()
        if owner.conda is not None and not owner.conda.made:
            which = owner.conda.name or owner.conda.prefix
            message = f"the conda environment {which} exists already: hpcrun does not change it"
            raise ConfigError(message, hint="Make one with CondaDependencies.create(…).")
        if owner.conda is None:
            found = CondaDependencies()
        elif owner.conda.file is not None:
            found = CondaDependencies(owner.conda.file)
        else:
            found = CondaDependencies.of_lists(owner.conda.model_dump())
        found.attach(owner._take_conda, now=False)
        return found

    @conda_dependencies.setter
    def conda_dependencies(self, value: CondaDependencies) -> None:
        value.attach(self._environment()._take_conda)

    def _environment(self) -> Environment:
        owner = self._owner.get()
        if owner is None:
            raise TypeError(
                "this section belongs to no environment: use environment.python.conda_dependencies"
            )
        return owner


Requirement = Annotated[Line, Field(min_length=1, pattern=r"^[^\s-]")]
"""A package as conda or pip takes it. It begins with no dash: options have a list of their own."""

Versions = Annotated[Line, Field(pattern=r"^[0-9]+(\.[0-9]+){0,2}$")]
"""A version of Python: ``3.11``, ``3.11.7``."""


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
        only_one(given)
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
        only_one(given)
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


class Environment(Named, Mutable):
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
    modules: list[Name] = []
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

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "python" and isinstance(value, PythonSection):
            value._owner = _Owner(self)
        return value

    def _take_conda(self, said: CondaDependencies) -> None:
        """What its dependencies say, as its ``conda`` section. Raises ConfigError, and is as it was."""
        try:
            self.conda = CondaSection(**said.lists())
        except ValidationError as error:
            first = error.errors()[0]
            path = ".".join(str(each) for each in ("environment", "conda", *first["loc"]))
            raise ConfigError([Problem(f"{first['msg']}: {first['input']!r}", "Python", path)]) from None
        self.environment_variables = {**said.variables, **self.environment_variables}

    @staticmethod
    def from_conda_specification(name: str, file_path: str | Path) -> Environment:
        """An environment to be made of an environment.yml. Raises NotFoundError."""
        path = Path(file_path).absolute()
        if not path.is_file():
            raise NotFoundError(f"no such file: {file_path}")
        return Environment(name, conda=CondaSection(file=str(path)))

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> Environment:
        """A conda environment that exists on the target, by its name; used there as it is, and not copied."""
        return Environment(name, conda=CondaSection(name=conda_environment_name))

    @property
    def kind(self) -> str:
        """The section that is given, or ``system``."""
        return next((kind for kind in ENVIRONMENT_KINDS if getattr(self, kind) is not None), "system")

    @property
    def is_reference(self) -> bool:
        """Whether it only names one that a workspace has."""
        return self.version is not None and self == Environment(self.name, version=self.version)
