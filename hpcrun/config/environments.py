"""Environments as YAML files of their own, and those that come with hpcrun."""

from __future__ import annotations

from pathlib import Path

from hpcrun.config.dump import dump_environment as dump_environment
from hpcrun.config.validate import build
from hpcrun.config.yamltree import read_file
from hpcrun.models.environment import Environment
from hpcrun.shipped import shipped_folder

FOLDER = "environments"

_ALIASES = {"AzureML-Minimal": "hpcrun-minimal"}
"""The cloud's names of what comes with hpcrun."""


def read_environment(path: Path) -> Environment:
    """The environment that a file describes. Raises ConfigError, NotFoundError."""
    tree, problems = read_file(path)
    return build(Environment, tree, known=problems)


def curated_names() -> list[str]:
    """Names of those that come with hpcrun, the cloud's names for them among them."""
    return sorted([*(path.stem for path in shipped_folder(FOLDER).glob("*.yaml")), *_ALIASES])


def curated(name: str) -> Environment | None:
    """One that comes with hpcrun, or None."""
    if name not in curated_names():
        return None
    environment = read_environment(shipped_folder(FOLDER) / f"{_ALIASES.get(name, name)}.yaml")
    environment.name = name
    return environment
