"""``resume_from``: an earlier run's outputs, or a path on the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcrun.config.load import config_tree
from hpcrun.config.validate import place_of
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.history.paths import RunPaths
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.base import Place


@dataclass(frozen=True)
class Resumed:
    """What the script finds as ``HPCRUN_RESUME_FROM``, or an input, if it runs where that is. ``run`` is the
    id of the run whose outputs they are, ``host`` the machine they are on, as records have it; None for a
    path. ``key`` is where the configuration names it."""

    path: str
    run: str | None = None
    host: str | None = None
    key: tuple[str | int, ...] = ("resume_from",)

    def on(self, config: ScriptRunConfig, place: Place) -> str:
        """The path, for a run at this place. Raises ConfigError where it is on another machine."""
        if self.run is not None and self.host != place.host:
            there = self.host or "this machine"
            words = f"the outputs of {self.run} are on {there}, and this run would be on "
            hint = "Resume on the same machine, or name a path on the target."
            if self.key != ("resume_from",):
                hint = "Run on the same machine, or name a path on the target."
            raise self._problem(config, words + (place.host or "this machine"), hint)
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
    return Resumed(str(RunPaths(Path(record.run_dir)).outputs), record.id, record.host)
