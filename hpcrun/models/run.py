"""What to run: one class, from Python or from run.yaml, the same both ways.

Argument names are those of Azure ML's ScriptRunConfig.
"""

from __future__ import annotations

import math
import os
import shlex
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    model_validator,
)

from hpcrun.models.base import (
    EnvironmentVariables,
    ExperimentName,
    Line,
    MemoryField,
    Origins,
    Secrets,
    Tags,
    Text,
)
from hpcrun.models.distributed import DistributedConfig
from hpcrun.models.earlier import Inputs, Runs, Steps, input_variable
from hpcrun.models.environment import Environment, Mutable
from hpcrun.models.function import FunctionSection
from hpcrun.models.named import by_name
from hpcrun.models.notify import Notify
from hpcrun.models.requeue import Requeue
from hpcrun.models.resources import Resources


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number; write it as text, in quotes, if the script wants it")
    return value


Argument = Annotated[StrictBool | StrictInt | StrictFloat | Text, AfterValidator(_finite)]


def _split(value: Any) -> Any:
    return shlex.split(value) if isinstance(value, str) else value


def _absolute(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value:
        return value
    # Not Path.resolve: a link to the source stays the name the user knows it by.
    return os.path.abspath(os.path.expanduser(value))  # noqa: PTH100, PTH111


def _target(value: Any) -> Any:
    return value if isinstance(value, str) else getattr(value, "name", value)


def argument_text(value: bool | int | float | str) -> str:
    """An argument as the script gets it: ``True`` is ``True``, 0.1 is ``0.1``."""
    return value if isinstance(value, str) else repr(value)


class Sync(Mutable):
    """What comes home of a run on another machine. Logs always do.

    Patterns are for names such as ``outputs/model.pt``: ``*`` stops at a slash, ``**`` does not, one without
    a slash fits the last part of a name. What is left there is fetched by ``hpcrun download``.
    """

    include: list[Line] = []
    exclude: list[Line] = []
    max_file_size: MemoryField | None = None


class ScriptRunConfig(Mutable):
    """A script (or a command) with all that it needs to run on any compute target.

    ``source_directory`` is snapshotted at submission and is the working directory of the run.
    ``arguments`` reach the script exactly as given, one word each; nothing is expanded. A ``command``
    given as a list likewise; given as text, it is bash source, run by every process under ``pipefail``.
    ``max_run_duration_seconds`` is how long the run may run, all its attempts together; then it is canceled,
    with reason Timeout. ``requeue`` says when it goes back into the queue by itself, ``notify`` who is told
    of its end.
    ``resume_from`` is an earlier run (its outputs) or a path on the target; the script finds it as
    ``HPCRUN_RESUME_FROM``.
    ``after`` names runs that this one begins after: ``RUN`` if that completes, ``any:RUN`` however it ends,
    ``notok:RUN`` if it does not complete.
    ``inputs`` are paths that the script finds as ``HPCRUN_INPUT_NAME``: what an earlier run, which is waited
    for, has in ``RUN/outputs/…``, or a path on the target; in a pipeline also ``steps.STEP/outputs/…``.
    ``needs`` is for the steps of a pipeline, and names others of them as ``after`` names runs.
    ``secrets`` are variables too, by where their values are when the run is submitted: ``env:VARIABLE``,
    ``file:PATH``, or in Python a ``Secret("…")``. The values are kept nowhere but in a file of mode 0600 in
    the run's folder, for as long as the run lives.
    """

    experiment: ExperimentName | None = None
    display_name: Annotated[Line, Field(max_length=256)] | None = None
    description: Annotated[Text, Field(max_length=5000)] | None = None
    source_directory: Annotated[Text, Field(min_length=1), BeforeValidator(_absolute)]
    script: Annotated[Line, Field(min_length=1)] | None = None
    arguments: Annotated[list[Argument], BeforeValidator(_split)] = []
    command: Annotated[Text, Field(min_length=1)] | Annotated[list[Text], Field(min_length=1)] | None = None
    function: FunctionSection | None = None
    compute_target: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(:[^:\s]+)?$"), BeforeValidator(_target)
    ] = "local"
    environment: Annotated[Environment, BeforeValidator(by_name)] = Field(default_factory=Environment)
    distributed_job_config: DistributedConfig | None = None
    resources: Resources = Field(default_factory=Resources)
    max_run_duration_seconds: Annotated[int, Field(ge=1, le=315_360_000)] | None = None
    requeue: Requeue | None = None
    notify: Notify | None = None
    resume_from: Line | None = None
    after: Runs = []
    inputs: Inputs = {}
    needs: Steps = []
    environment_variables: EnvironmentVariables = {}
    secrets: Secrets = {}
    sync: Sync = Field(default_factory=Sync)
    tags: Tags = {}
    _origins: Origins = PrivateAttr(default_factory=Origins)
    # The pickled call that ``function`` is about; it stands in no file that people read or write.
    _call: bytes | None = PrivateAttr(default=None)

    def __init__(
        self,
        source_directory: str | os.PathLike[str] = ".",
        script: str | None = None,
        arguments: list[Any] | str | None = None,
        **more: Any,
    ) -> None:
        if arguments is not None:
            more["arguments"] = arguments
        super().__init__(source_directory=source_directory, script=script, **more)

    @model_validator(mode="after")
    def _script_or_command(self) -> ScriptRunConfig:
        if self.script is not None and self.command is not None:
            raise ValueError("script and command exclude each other: keep one")
        if self.function is not None and (self.script is not None or self.command is not None):
            raise ValueError("a function excludes script and command: keep one")
        if self.script is None and self.command is None and self.function is None:
            raise ValueError("nothing to run: give a script or a command")
        if self.function is not None and self.arguments:
            raise ValueError("arguments go with a script: a function has its own, given in Python")
        if self.command is not None and self.arguments:
            raise ValueError("arguments go with a script: put them into the command itself")
        twice = sorted(self.secrets.keys() & self.environment_variables.keys())
        if twice:
            raise ValueError(f"secrets and environment_variables both have {', '.join(twice)}: keep one")
        found: dict[str, str] = {}
        for name in self.inputs:
            other = found.setdefault(input_variable(name), name)
            if other != name:
                raise ValueError(f"inputs: {name} and {other} would both be {input_variable(name)}: keep one")
        return self

    @property
    def run_config(self) -> RunConfiguration:
        """The same settings under Azure ML's other name for them; assigning there changes this."""
        return RunConfiguration(self)


class RunConfiguration:
    """A view of a ScriptRunConfig, so that ``config.run_config.target = "cluster"`` works."""

    _names = {
        "target": "compute_target",
        "environment": "environment",
        "environment_variables": "environment_variables",
        "script": "script",
        "arguments": "arguments",
        "command": "command",
        "max_run_duration_seconds": "max_run_duration_seconds",
    }

    def __init__(self, config: ScriptRunConfig) -> None:
        object.__setattr__(self, "_config", config)

    def _field(self, name: str) -> str:
        if name not in self._names:
            raise AttributeError(
                f"a run configuration has no {name!r}; it has {', '.join(sorted(self._names))}"
            )
        return self._names[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._config, self._field(name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._config, self._field(name), value)
