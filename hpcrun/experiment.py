"""An experiment: a named group of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hpcrun.errors import ConfigError, Problem
from hpcrun.history.record import is_experiment
from hpcrun.run import Run
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from hpcrun.models.run import ScriptRunConfig


class Experiment:
    """A named group of runs in a workspace; it comes to be with its first run.

    >>> run = Experiment(ws, "cifar").submit(ScriptRunConfig("src", "train.py"))

    Raises ConfigError for a name that is not 1 to 255 letters, digits, ``_`` and ``-``.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        if not is_experiment(name):
            raise ConfigError(
                [
                    Problem(
                        f"not a name for an experiment: {name!r}",
                        hint="Letters, digits, _ and -, a letter or digit first, 255 at most.",
                    )
                ]
            )
        self.workspace = workspace
        self.name = name

    def submit(
        self,
        config: ScriptRunConfig,
        tags: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        display_name: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Submit a run and give it back at once.

        With a ``key``, the run that this workspace already has under it is given back instead of a second
        one. Raises ConfigError, SnapshotError, SubmissionRejected, SubmissionAmbiguous; nothing is queued
        after any but the last.
        """
        from hpcrun.engine.prepare import prepare
        from hpcrun.engine.resume import resume_path
        from hpcrun.engine.submit import Extras, submit

        ws = self.workspace
        plan = prepare(
            config,
            ws.history.paths,
            ws.targets,
            experiment=self.name,
            run_id=run_id,
            resume_path=resume_path(ws.history, config.resume_from),
        )
        extras = Extras(key=key, display_name=display_name, tags=dict(tags or {}))
        record, _ = submit(ws.history, ws.targets, plan, extras)
        return Run(self, record.id)

    def get_runs(self) -> Iterator[Run]:
        """The experiment's runs, newest first."""
        for row in self.workspace.history.list(experiment=self.name, limit=None):
            yield Run(self, row.id)

    def __repr__(self) -> str:
        return f"Experiment({self.workspace!r}, {self.name!r})"
