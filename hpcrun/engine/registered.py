"""Environments that a workspace has names for: registered ones, in versions that never change, and those that
come with hpcrun.

A version is a folder, put in place by one rename: of two who register at once, the second takes the next
number, or finds that what it has is there.
"""

from __future__ import annotations

import re
from pathlib import Path

from hpcrun.config.environments import curated, curated_names
from hpcrun.config.load import config_tree
from hpcrun.config.validate import place_of
from hpcrun.engine.environment_files import contents_of, load, pack, published
from hpcrun.errors import ConfigError, NotFoundError, Problem, UsageError
from hpcrun.models.environment import Environment
from hpcrun.models.run import ScriptRunConfig

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_RESERVED = ("azureml", "microsoft", "hpcrun")


class Registered:
    """The environments of a workspace, in the folder ``WorkspacePaths.registered``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def versions(self, name: str) -> list[int]:
        """Numbers of the versions that there are, in their order."""
        if not _NAME.match(name):
            return []
        try:
            return sorted(int(path.name) for path in (self._folder / name).iterdir() if path.name.isdigit())
        except OSError:
            return []

    def names(self) -> list[str]:
        """All that have a name here, those that come with hpcrun too."""
        try:
            own = [path.name for path in self._folder.iterdir() if self.versions(path.name)]
        except OSError:
            own = []
        return sorted({*own, *curated_names()})

    def get(self, name: str, version: str | None = None) -> Environment:
        """The newest version of an environment, or the one asked for. Raises NotFoundError."""
        versions = self.versions(name)
        if versions and version in (None, "latest"):
            return self._load(name, versions[-1])
        if version is not None and version.isdigit() and int(version) in versions:
            return self._load(name, int(version))
        found = curated(name)
        if found is not None and version in (None, "latest"):
            return found
        if versions:
            hint = f"There are the versions {', '.join(map(str, versions))}."
            raise NotFoundError(f"the environment {name!r} has no version {version}", hint=hint)
        if found is not None:
            raise NotFoundError(f"the environment {name!r} has no versions", hint="It comes with hpcrun.")
        hint = f"There are: {', '.join(self.names())}; or make one with Environment({name!r})."
        raise NotFoundError(f"no environment is called {name!r}", hint=hint)

    def list(self) -> dict[str, Environment]:
        """The newest version of each, by name."""
        return {name: self.get(name) for name in self.names()}

    def register(self, environment: Environment, folder: Path) -> Environment:
        """Keep it, with the files that it names, below ``folder`` where their paths are relative.

        Gives what :meth:`get` will give. Raises UsageError for a name that cannot be, ConfigError.
        """
        name = environment.name
        if not _NAME.match(name):
            hint = "Letters, digits, _, - and ., a letter or digit first, 100 at most."
            raise UsageError(f"not a name to register an environment by: {name!r}", hint=hint)
        if name.lower().startswith(_RESERVED):
            hint = "Names that begin so are for what comes with hpcrun: use clone('another-name')."
            raise UsageError(f"the name {name!r} is taken", hint=hint)
        environment = environment.model_copy(deep=True)
        environment.name = name  # said, and so written down
        contents = pack(environment, folder).contents()
        while True:
            versions = self.versions(name)
            for version in versions:
                if contents_of(self._folder / name / str(version)) == contents:
                    return self._load(name, version)
            version = versions[-1] + 1 if versions else 1
            if published(contents, self._folder / name, str(version)):
                return self._load(name, version)

    def resolve(self, config: ScriptRunConfig) -> ScriptRunConfig:
        """``config`` with what the environment is that it names. Raises ConfigError where there is none."""
        named = config.environment
        if not named.is_reference:
            return config
        try:
            found = self.get(named.name, named.version)
        except NotFoundError as error:
            place = str(place_of(config_tree(config), ("environment",)))
            raise ConfigError(
                [Problem(error.message, where=place, path="environment", hint=error.hint or "")]
            ) from None
        config = config.model_copy(deep=True)
        config.environment = found
        return config

    def _load(self, name: str, version: int) -> Environment:
        environment = load(self._folder / name / str(version))
        environment.name, environment.version = name, str(version)
        return environment
