"""The software a run sees.

Assigned to as in Azure ML (``env.python.user_managed_dependencies = True``), so these models alone,
with ScriptRunConfig, can be changed after they were made; every assignment is checked.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


class CondaSection(Mutable):
    """An existing conda environment, by ``name`` or by ``prefix`` (an absolute path)."""

    name: Name | None = None
    prefix: Annotated[Line, Field(pattern=r"^/")] | None = None

    @model_validator(mode="after")
    def _one(self) -> CondaSection:
        if (self.name is None) == (self.prefix is None):
            raise ValueError("give either the name or the prefix of a conda environment")
        return self


class ApptainerSection(Mutable):
    """An existing image (SIF or sandbox folder) on the target.

    ``binds`` are ``SRC[:DST[:OPTS]]``; the run's folder is always bound. ``gpu`` passes the GPU driver
    in: ``auto`` does so when GPUs were asked for. ``clean_environment`` hands on only what hpcrun,
    Slurm, MPI, NCCL and CUDA need.
    """

    image: Annotated[Line, Field(min_length=1)]
    binds: list[Annotated[Line, Field(min_length=1)]] = []
    gpu: Literal["auto", "nvidia", "rocm", "none"] = "auto"
    clean_environment: bool = False


ENVIRONMENT_KINDS = ("conda", "apptainer")
"""The sections of which an environment has one at most; without any it is of kind ``system``."""


class Environment(Mutable):
    """Python, conda or Apptainer, with modules and variables in front of any of them.

    >>> env = Environment("user-managed-env")
    >>> env.python.user_managed_dependencies = True
    """

    name: Name = "default"
    python: PythonSection = Field(default_factory=PythonSection)
    conda: CondaSection | None = None
    apptainer: ApptainerSection | None = None
    modules: list[Name] = []
    setup: Text | None = None
    environment_variables: EnvironmentVariables = {}

    def __init__(self, name: str = "default", **more: object) -> None:
        super().__init__(name=name, **more)

    @model_validator(mode="after")
    def _one_kind(self) -> Environment:
        given = [kind for kind in ENVIRONMENT_KINDS if getattr(self, kind) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: keep one")
        return self

    @property
    def kind(self) -> str:
        """The section that is given, or ``system``."""
        return next((kind for kind in ENVIRONMENT_KINDS if getattr(self, kind) is not None), "system")

    @staticmethod
    def get(workspace: EnvironmentSource, name: str) -> Environment:
        """The environment the workspace knows under ``name``, curated ones included.

        Raises NotFoundError, naming those there are.
        """
        return workspace.get_environment(name)


class EnvironmentSource(Protocol):
    """What :meth:`Environment.get` asks of a workspace."""

    def get_environment(self, name: str) -> Environment: ...
