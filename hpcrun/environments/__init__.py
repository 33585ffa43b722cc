"""The software a run sees: one small file a kind, behind one small protocol.

To add a kind: a section in :mod:`hpcrun.models.environment`, a file here, a line in ``_KINDS``.
"""

from __future__ import annotations

from hpcrun.environments.apptainer import ApptainerEnvironment
from hpcrun.environments.base import EnvironmentKind, Setting
from hpcrun.environments.conda import CondaEnvironment
from hpcrun.environments.system import SystemEnvironment
from hpcrun.models.environment import Environment

_KINDS: dict[str, type[EnvironmentKind]] = {
    "apptainer": ApptainerEnvironment,
    "conda": CondaEnvironment,
    "system": SystemEnvironment,
}


def environment_for(environment: Environment, setting: Setting) -> EnvironmentKind:
    """The part that prepares ``environment`` in the job script."""
    return _KINDS[environment.kind](environment, setting)


__all__ = ["EnvironmentKind", "Setting", "environment_for"]
