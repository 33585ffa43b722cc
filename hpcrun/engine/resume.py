"""``resume_from``: an earlier run's outputs, or a path on the target."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hpcrun.config.load import config_tree
from hpcrun.config.validate import place_of
from hpcrun.engine.sync import left_there
from hpcrun.errors import ConfigError, NotFoundError, Problem
from hpcrun.history.paths import RunPaths
from hpcrun.history.store import History
from hpcrun.models.run import ScriptRunConfig
from hpcrun.places.base import Place


@dataclass(frozen=True)
class Resumed:
    """What the script finds as ``HPCRUN_RESUME_FROM``, or an input, if it runs where that is. ``run`` is the
    id of the run whose outputs they are, ``host`` the machine they are on, as records have it; None for a
    path. ``key`` is where the configuration names it.

    ``home`` is where they are on this machine once they have come home, ``away`` how many have not.
    """

    path: str
    run: str | None = None
    host: str | None = None
    key: tuple[str | int, ...] = ("resume_from",)
    home: str | None = None
    away: int = 0

    def on(self, config: ScriptRunConfig, place: Place) -> str:
        """The path, for a run at this place. Raises ConfigError where it is on another machine."""
        if self.run is not None and self.host != place.host:
            return self._at_home(config, place)
        if self.run is None and place.host is not None and not self.path.startswith("/"):
            words = f"{self.path} is no absolute path on {place.host}"
            raise self._problem(config, words, "Begin it with a slash, or name a run.")
        return self.path if place.host is not None else str(Path(self.path).expanduser().absolute())

    def _at_home(self, config: ScriptRunConfig, place: Place) -> str:
        if place.host is None and self.home is not None and not self.away:
            return self.home
        there = self.host or "this machine"
        if place.host is None and self.home is not None:
            files = "1 file" if self.away == 1 else f"{self.away} files"
            words, hint = f"{files} of the outputs of {self.run} are still on {there}", "hpcrun download"
            raise self._problem(config, words, f"Bring them: {hint} {self.run}")
        words = f"the outputs of {self.run} are on {there}, and this run would be on "
        verb = "Resume" if self.key == ("resume_from",) else "Run"
        hint = f"{verb} on the same machine, or name a path on the target."
        if place.host is None:
            hint = f"{verb} here once they have come home: hpcrun wait {self.run}"
        raise self._problem(config, words + (place.host or "this machine"), hint)

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
    if record.host is None or not record.state.final:
        return Resumed(path, record.id, record.host)
    home = history.paths.run(record.id)
    away = sum(name.startswith("outputs/") for name in left_there(home))
    return Resumed(path, record.id, record.host, home=str(home.outputs), away=away)
