"""The workspace: the folder whose ``.hpcrun/`` holds the run history."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hpcrun.errors import NotFoundError
from hpcrun.history.store import History

if TYPE_CHECKING:
    from hpcrun.check.findings import Report
    from hpcrun.config.pipeline import Pipeline
    from hpcrun.engine.doctor import SiteReport
    from hpcrun.engine.registered import Registered
    from hpcrun.engine.sidebyside import SideBySide
    from hpcrun.history.index import RunRow
    from hpcrun.models.environment import Environment
    from hpcrun.models.run import ScriptRunConfig
    from hpcrun.models.sweep import SweepConfig
    from hpcrun.targets import Targets

FOLDER = ".hpcrun"


class HasId(Protocol):
    """A run, as the Python API has it."""

    id: str


class Workspace:
    """A folder with a run history.

    >>> ws = Workspace.from_config()
    """

    def __init__(self, folder: str | os.PathLike[str] = ".", *, create: bool = True) -> None:
        self.folder = Path(os.path.abspath(folder))  # noqa: PTH100 (links keep their names)
        self.history = History.open(self.folder / FOLDER, create=create)
        self._targets: Targets | None = None

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace that ``path`` (by default the working directory) lies in, found upward as git finds
        ``.git``; where there is none, one is made there. ``HPCRUN_WORKSPACE`` names another.
        """
        named = os.environ.get("HPCRUN_WORKSPACE") if path is None else None
        start = Path(path or named or ".").absolute()
        if named:
            return cls(start)
        return cls(find_workspace(start) or start)

    @classmethod
    def open(cls, path: str | os.PathLike[str] | None = None) -> Workspace:
        """As :meth:`from_config`, but raises NotFoundError where there is none."""
        named = path or os.environ.get("HPCRUN_WORKSPACE")
        start = Path(named or ".").absolute()
        if path is None and named:
            found = start if (start / FOLDER).is_dir() else None
        else:
            found = find_workspace(start)
        if found is None:
            raise NotFoundError(
                f"no workspace here: {start} holds no {FOLDER}, nor does a folder above it",
                hint="Submitting a run makes one; or go to the folder you submitted from, "
                "or name it by --workspace.",
            )
        return cls(found, create=False)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def targets(self) -> Targets:
        """The compute targets this workspace knows."""
        if self._targets is None:
            from hpcrun.targets import Targets

            self._targets = Targets(self.folder)
        return self._targets

    def runs(self, limit: int | None = 50) -> Sequence[RunRow]:
        """The newest runs, as lines of the index."""
        return self.history.list(limit=limit)

    def compare(self, runs: Iterable[HasId | str], metrics: Sequence[str] | None = None) -> SideBySide:
        """Runs side by side, as they are known here: what they are, parameters, metrics, configuration,
        environment, git; ``metrics`` narrows those to some names (``val_*`` too).

        What is given back has ``rows`` (``section``, ``key``, ``values`` in the order of the runs,
        ``differs``), ``different()``, ``to_csv()`` and ``to_html()``. Raises NotFoundError, UsageError.
        """
        from hpcrun.engine.sidebyside import side_by_side

        ids = [self.history.resolve(run) if isinstance(run, str) else run.id for run in runs]
        return side_by_side(self.history, [self.history.get(run_id) for run_id in ids], metrics)

    def check(self, config: ScriptRunConfig | Pipeline | SweepConfig) -> Report:
        """All that would go wrong, or may, if ``config`` were submitted now; nothing is. Of a pipeline each
        finding says its ``step``; a sweep's first trial stands for all.

        The report's ``findings`` each have a ``level`` (problem, warning or note), a ``code``, a ``message``,
        ``where`` it stands and what to do ``next``; ``ok`` says that there is no problem, ``start`` when
        Slurm would start the run.
        """
        from hpcrun.engine.check import check_any

        return check_any(config, self.history.paths, self.targets, self.history)

    def check_site(self, name: str) -> SiteReport:
        """Ask a site, and compare what it says with its file.

        The report's ``findings`` each have a ``level`` (problem, warning or note), a ``code``, a ``message``
        and what to do ``next``; ``ok`` says that there is no problem. Raises NotFoundError, ConfigError,
        UnreachableError, LoginRequired, CommandError.
        """
        from hpcrun.config.sites import find_site, read_site
        from hpcrun.engine.doctor import examine, shell_at

        path = find_site(name, self.folder).path
        site = read_site(path)
        with shell_at(site.connection) as shell:
            return examine(site, path, shell)

    def get_environment(self, name: str, version: str | None = None) -> Environment:
        """The environment called ``name``; see ``Environment.get``. Raises NotFoundError."""
        return self._registered.get(name, None if version is None else str(version))

    def list_environments(self) -> dict[str, Environment]:
        """The newest version of each environment, by name; see ``Environment.list``."""
        return self._registered.list()

    def register_environment(self, environment: Environment) -> Environment:
        """Keep an environment; see ``Environment.register``. Raises UsageError, ConfigError."""
        return self._registered.register(environment, Path.cwd())

    def build_environment(self, environment: Environment, target: str = "local") -> str:
        """Make an environment on a target; see ``Environment.build``. Raises ConfigError, CommandError."""
        from hpcrun.engine.building import build_for

        return build_for(environment, target, self.history.paths, self.targets)

    @property
    def _registered(self) -> Registered:
        from hpcrun.engine.registered import Registered

        return Registered(self.history.paths.registered)

    def close(self) -> None:
        """Let go of the history, and of connections that this process alone holds."""
        if self._targets is not None:
            self._targets.close()
        self.history.close()

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.folder)!r})"


def find_workspace(start: Path) -> Path | None:
    """The nearest folder from ``start`` upward that holds ``.hpcrun/``."""
    return next((folder for folder in (start, *start.parents) if (folder / FOLDER).is_dir()), None)
