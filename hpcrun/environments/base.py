"""What every kind of environment gives to the job script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hpcrun.models.environment import Environment
from hpcrun.models.site import Site
from hpcrun.quoting import ShellText, ShellWord


@dataclass(frozen=True)
class Setting:
    """Where an environment is used.

    ``default_python`` is the interpreter that "the current environment" means on this target, found when
    the run is submitted; ``conda_root`` the conda installation of the caller, for sites that name none.
    ``given`` are paths of earlier runs, and others, that the run finds in its variables.
    """

    site: Site
    gpus: int = 0
    default_python: str | None = None
    conda_root: str | None = None
    given: tuple[str, ...] = ()


class EnvironmentKind(Protocol):
    """Text for the job script.

    ``activate`` runs once, in the batch shell; all processes inherit what it exports. ``wrap`` is put in
    front of the command of every process: it begins with ``exec``, or with a function of the script's that
    execs. ``python`` is the interpreter's name as seen from inside.
    Activation reports a failure through the script's ``hpcrun_fail_environment MESSAGE``.
    """

    def __init__(self, environment: Environment, setting: Setting) -> None: ...

    def activate(self) -> ShellText: ...

    def wrap(self) -> ShellText: ...

    def python(self) -> ShellWord: ...
