"""The software a run sees, as the Python API has it: the model, with what its methods need of files."""

from __future__ import annotations

import os
from pathlib import Path

from hpcrun.engine import environment_files
from hpcrun.models import named
from hpcrun.models.environment import Environment as Environment


class _Folders:
    def save(self, environment: Environment, path: str | os.PathLike[str], overwrite: bool) -> None:
        environment_files.save(environment, Path(path), overwrite=overwrite)

    def load(self, path: str | os.PathLike[str]) -> Environment:
        return environment_files.load(Path(path).absolute())


named.folders = _Folders()
