"""Experiments and runs: the Python API of all that happens to a run."""

from __future__ import annotations

import builtins
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hpcrun.errors import ConfigError, Problem, RunFailedError, UsageError
from hpcrun.history.record import RunRecord, is_experiment
from hpcrun.states import RunState
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from hpcrun.history.index import ExperimentRow
    from hpcrun.models.run import ScriptRunConfig

VIEW_TYPES: dict[str, Callable[[ExperimentRow], bool]] = {
    "ActiveOnly": lambda row: not row.archived,
    "All": lambda row: True,
    "ArchivedOnly": lambda row: row.archived,
}
"""Azure ML's names for which experiments to list."""


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
        """The experiment's runs, newest first; without archived ones."""
        for row in self.workspace.history.list(experiment=self.name, limit=None, include_archived=True):
            if not row.archived:
                yield Run(self, row.id)

    def archive(self) -> None:
        """Hide the experiment and its runs from lists; submitting to it is refused until it is reactivated.

        Raises NotFoundError if it has no runs.
        """
        self.workspace.history.archive_experiment(self.name)

    def reactivate(self) -> None:
        """Take the experiment back into lists and use. Raises NotFoundError if it has no runs."""
        self.workspace.history.restore_experiment(self.name)

    @staticmethod
    def list(
        workspace: Workspace, view_type: Literal["ActiveOnly", "All", "ArchivedOnly"] = "ActiveOnly"
    ) -> builtins.list[Experiment]:
        """The experiments of a workspace, the one with the newest run first; without archived ones, with
        them, or these alone. Raises UsageError for another ``view_type``.
        """
        if view_type not in VIEW_TYPES:
            raise UsageError(f"no view_type {view_type!r}", hint=f"there are: {', '.join(VIEW_TYPES)}")
        shown = VIEW_TYPES[view_type]
        return [Experiment(workspace, row.name) for row in workspace.history.experiments() if shown(row)]

    def __repr__(self) -> str:
        return f"Experiment({self.workspace!r}, {self.name!r})"


class Run:
    """A handle on a run of a workspace's history. Nothing is kept here: every question is answered from
    the history, and questions about a run that has not ended bring it up to date first.
    """

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        self.experiment = experiment
        self.id = run_id

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """The run ``run_id``: an id, its unique end, or ``@-1`` for the newest. Raises NotFoundError."""
        record = workspace.history.get(workspace.history.resolve(run_id))
        return Run(Experiment(workspace, record.experiment), record.id)

    @property
    def _workspace(self) -> Workspace:
        return self.experiment.workspace

    @property
    def record(self) -> RunRecord:
        """The run's record as it stands in the history."""
        return self._workspace.history.get(self.id)

    @property
    def folder(self) -> Path:
        """The run's folder in the history: ``outputs``, ``logs``, ``user_logs`` and the rest lie there."""
        return self._workspace.history.paths.run(self.id).folder

    @property
    def number(self) -> int:
        return self.record.number

    @property
    def display_name(self) -> str:
        record = self.record
        return record.display_name or record.id

    @property
    def tags(self) -> dict[str, str]:
        return self.record.tags

    @property
    def properties(self) -> dict[str, str]:
        return self.record.properties

    @property
    def status(self) -> str:
        """The state as last seen; :meth:`get_status` looks."""
        return self.record.state.value

    def get_status(self) -> str:
        """The state now: one of Azure ML's words (NotStarted, Queued, Running, Completed, …)."""
        self._refresh()
        return self.status

    def get_tags(self) -> dict[str, str]:
        return self.tags

    def get_properties(self) -> dict[str, str]:
        return self.properties

    def get_details(self) -> dict[str, Any]:
        """All about the run, under Azure ML's keys: runId, target, status, startTimeUtc, endTimeUtc,
        properties, tags, runDefinition, logFiles (name to path), error, warnings, and hpcrun's own runDir,
        jobId, exitCode, attempts.
        """
        from hpcrun.engine.files import file_names

        self._refresh()
        r = self.record
        home = self._workspace.history.paths.run(self.id)
        logs = file_names(home, ("logs", "user_logs", "system_logs"))
        failed = r.state is RunState.FAILED
        return {
            "runId": r.id,
            "target": r.target,
            "status": r.state.value,
            "startTimeUtc": r.started,
            "endTimeUtc": r.ended,
            "properties": r.properties,
            "tags": r.tags,
            "runDefinition": r.config,
            "logFiles": {name: str(home.folder / name) for name in logs},
            "error": {"code": r.reason, "message": r.message} if failed else None,
            "warnings": list((r.snapshot or {}).get("notes", [])),
            "runDir": r.run_dir,
            "jobId": r.job_id,
            "exitCode": r.exit_code,
            "attempts": r.attempts,
        }

    def get_file_names(self) -> list[str]:
        """Names of the run's outputs and logs, such as ``outputs/model.pt``."""
        from hpcrun.engine.files import file_names

        self._refresh()
        return file_names(self._workspace.history.paths.run(self.id))

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] | None = None) -> Path:
        """Copy one of the run's files; see :func:`hpcrun.engine.files.download`. Raises NotFoundError."""
        from hpcrun.engine.files import download

        return download(self._workspace.history.paths.run(self.id), name, output_file_path)

    def cancel(self) -> None:
        """Ask for the run's end; does nothing to a run that has ended."""
        from hpcrun.engine.cancel import cancel

        cancel(self._workspace.history, self._workspace.targets, self.id)

    def archive(self) -> None:
        """Hide the run from lists; nothing else about it changes."""
        self._workspace.history.archive(self.id)

    def restore(self) -> None:
        """Show the run in lists again."""
        self._workspace.history.restore(self.id)

    def wait_for_completion(
        self,
        show_output: bool = False,
        wait_post_processing: bool = True,
        raise_on_error: bool = True,
        *,
        timeout: float | None = None,
        stream: TextIO | None = None,
    ) -> dict[str, Any]:
        """Wait for the run's end, outputs and logs included; gives :meth:`get_details`.

        ``show_output`` prints what its processes print, as it comes. ``wait_post_processing`` is there for
        Azure ML's sake: the outputs are always waited for. Raises RunFailedError if the run failed (unless
        ``raise_on_error`` is False), WaitTimeoutError after ``timeout`` seconds.
        """
        from hpcrun.engine.wait import wait

        ws = self._workspace
        printer = _Printer(self, stream or sys.stdout) if show_output else None
        record = wait(ws.history, ws.targets, self.id, timeout=timeout, on_look=printer)
        if record.state is RunState.FAILED and raise_on_error:
            words = f": {record.message}" if record.message else ""
            raise RunFailedError(
                f"run {self.id} failed ({record.reason}){words}", hint=f"See its logs: hpcrun logs {self.id}"
            )
        return self.get_details()

    def _refresh(self) -> None:
        from hpcrun.engine.refresh import refresh

        if not self.record.state.final:
            refresh(self._workspace.history, self._workspace.targets, [self.id])

    def __repr__(self) -> str:
        return f"Run({self.experiment.name!r}, {self.id!r}, {self.status})"


class _Printer:
    """Prints new log lines, and each new state, while a run is waited for."""

    def __init__(self, run: Run, stream: TextIO) -> None:
        from hpcrun.engine.logs import LogReader

        self._reader = LogReader(run._workspace.history.paths.run(run.id))
        self._stream = stream
        self._state: RunState | None = None
        print(f"RunId: {run.id}", file=stream)

    def __call__(self, record: RunRecord) -> None:
        final = record.state.final
        if record.state is not self._state and not final:
            print(f"[{record.state}{f' ({record.reason})' if record.reason else ''}]", file=self._stream)
        self._state = record.state
        for line in self._reader.read(to_end=final):
            prefix = "" if line.rank is None else f"[rank {line.rank}] "
            print(f"{prefix}{line.text}", file=self._stream)
        if final:
            print(f"[{record.state}{f' ({record.reason})' if record.reason else ''}]", file=self._stream)
        self._stream.flush()
