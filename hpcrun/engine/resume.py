"""``resume_from`` and ``inputs``: an earlier run's files, or a path on the target.

Files that are on another machine than the new run's are sent beside it before it is submitted; see
:mod:`hpcrun.engine.giving`. Where they will lie is known before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcrun.config.load import config_tree
from hpcrun.config.validate import place_of
from hpcrun.engine.before import stands
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.history.paths import RunPaths, WorkspacePaths
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.base import Given, Place


@dataclass(frozen=True)
class Resumed:
    """What the script finds as ``HPCRUN_RESUME_FROM``, or an input, if it runs where that is. ``run`` is the
    id of the run whose file or folder ``name`` it is, ``host`` the machine it is on, as records have it; None
    for a path. ``key`` is where the configuration names it. ``goes_on``: the run had not ended.
    """

    path: str
    run: str | None = None
    host: str | None = None
    key: tuple[str | int, ...] = ("resume_from",)
    name: str = "outputs"
    goes_on: bool = False

    def given(self, place: Place) -> Given | None:
        """What is to be sent, or to come home, for a run at this place, if anything is."""
        if self.run is None or self.host == place.host:
            return None
        return Given(self.run, self.name, "-".join(map(str, self.key)))

    def on(self, config: ScriptRunConfig, place: Place, run_dir: str, paths: WorkspacePaths) -> str:
        """The path, for a run at this place in the folder ``run_dir``; ``paths`` are those of the workspace.

        Raises ConfigError.
        """
        if (given := self.given(place)) is not None:
            return given.below(run_dir) if place.host is not None else str(at_home(paths, given))
        if self.run is None and place.host is not None and not self.path.startswith("/"):
            words = f"{self.path} is no absolute path on {place.host}"
            raise self._problem(config, words, "Begin it with a slash, or name a run.")
        return self.path if place.host is not None else str(Path(self.path).expanduser().absolute())

    def _problem(self, config: ScriptRunConfig, words: str, hint: str) -> ConfigError:
        where = str(place_of(config_tree(config), self.key))
        path = ".".join(map(str, self.key))
        return ConfigError([Problem(words, where=where, path=path, hint=hint)])


def is_path(text: str) -> bool:
    """Whether a text is a path, and no run: it begins with ``/``, ``.`` or ``~``."""
    return text.startswith(("/", "./", "../", "~"))


def resume_path(history: History | None, resume_from: str | None) -> Resumed | None:
    """What ``resume_from`` names.

    Raises NotFoundError for a run that is not there.
    """
    if resume_from is None:
        return None
    if is_path(resume_from):
        return Resumed(resume_from)
    if history is None:
        raise NotFoundError(f"there is no run {resume_from}: this workspace has no runs yet")
    record = history.get(history.resolve(resume_from))
    path = str(RunPaths(Path(record.run_dir)).outputs)
    return Resumed(path, record.id, record.host, goes_on=not stands(record).final)


def at_home(paths: WorkspacePaths, given: Given) -> Path:
    """Where the files of a run on another machine lie once they have come home."""
    return paths.run(given.run).code / given.name
