"""Experiments and runs: the Python API of all that happens to a run."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hpcrun.errors import ConfigError, Problem, RunFailedError, UsageError
from hpcrun.history.record import RunRecord, is_experiment
from hpcrun.run import LOGS, RunHandle, asked, checked_pairs, fits, known_state
from hpcrun.states import RunState
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from hpcrun.engine.code import Code
    from hpcrun.engine.submit import Extras
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
        from hpcrun.engine.submit import Extras

        extras = Extras(key=key, display_name=display_name, tags=checked_pairs(tags or {}))
        return self._submit(config, extras, run_id=run_id)

    def _submit(
        self,
        config: ScriptRunConfig,
        extras: Extras,
        *,
        run_id: str | None = None,
        code: Code | None = None,
    ) -> Run:
        from hpcrun.engine.prepare import prepare
        from hpcrun.engine.resume import resume_path
        from hpcrun.engine.submit import submit

        ws = self.workspace
        plan = prepare(
            config,
            ws.history.paths,
            ws.targets,
            experiment=self.name,
            run_id=run_id,
            resume_path=resume_path(ws.history, config.resume_from),
            code=code,
        )
        record, _ = submit(ws.history, ws.targets, plan, extras)
        # A key may name a run of another experiment.
        return Run(self if record.experiment == self.name else Experiment(ws, record.experiment), record.id)

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str | None] | None = None,
        properties: str | Mapping[str, str | None] | None = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The experiment's runs that fit all that is asked for, newest first; without archived ones.

        ``tags`` and ``properties``: a key that is there, or keys and their values (None for any value).
        ``status`` is one of Azure ML's words, as last seen; raises UsageError for another. No run has
        children so far, so ``include_children`` changes nothing.
        """
        states = None if status is None else [known_state(status)]
        wanted = asked(properties)
        history = self.workspace.history
        every = history.list(
            experiment=self.name, states=states, tags=asked(tags), limit=None, include_archived=True
        )
        for row in every:  # those of an archived experiment, asked for by its name, are not hidden
            if row.archived or (type is not None and row.type != type):
                continue
            if wanted and not fits(history.get(row.id).properties, wanted):
                continue
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


class Run(RunHandle):
    """A handle on a run of a workspace's history. Nothing is kept here: every question is answered from
    the history, and questions about a run that has not ended bring it up to date first.
    """

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        super().__init__(experiment.workspace, run_id)
        self.experiment = experiment

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """The run ``run_id``: an id, its unique end, or ``@-1`` for the newest. Raises NotFoundError."""
        record = workspace.history.get(workspace.history.resolve(run_id))
        return Run(Experiment(workspace, record.experiment), record.id)

    @staticmethod
    def list(
        experiment: Experiment,
        type: str | None = None,
        tags: str | Mapping[str, str | None] | None = None,
        properties: str | Mapping[str, str | None] | None = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run]:
        """The runs of an experiment; see :meth:`Experiment.get_runs`."""
        return experiment.get_runs(type, tags, properties, status, include_children)

    def rerun(
        self,
        fresh: bool = False,
        *,
        target: str | None = None,
        tags: Mapping[str, str] | None = None,
        key: str | None = None,
    ) -> Run:
        """Submit this run once more: the same configuration, and the code that its snapshot has.

        ``fresh`` takes the source directory as it is now. On another ``target``, that one's defaults are
        taken. The new run's property ``rerun_of`` names this one. Errors as :meth:`Experiment.submit`.
        """
        from hpcrun.engine.code import code_of
        from hpcrun.engine.rerun import PROPERTY, config_again
        from hpcrun.engine.submit import Extras

        record = self.record
        config = config_again(record, flags={"compute_target": target})
        code = None if fresh else code_of(self._workspace.history.paths, record)
        extras = Extras(key=key, tags=checked_pairs(tags or {}), properties={PROPERTY: self.id})
        return self.experiment._submit(config, extras, code=code)

    @property
    def status(self) -> str:
        """The state as last seen; :meth:`get_status` looks."""
        return self.record.state.value

    def get_status(self) -> str:
        """The state now: one of Azure ML's words (NotStarted, Queued, Running, Completed, …)."""
        self._refresh()
        return self.status

    def get_details(self) -> dict[str, Any]:
        """All about the run, under Azure ML's keys: runId, target, status, startTimeUtc, endTimeUtc,
        properties, tags, runDefinition, logFiles (name to path), error (code, message, and explanation:
        cause, words, evidence, next, used), warnings, and hpcrun's own runDir, jobId, exitCode, attempts,
        expectedStartUtc and usage (elapsed_seconds, cpu_seconds, memory_bytes, … as far as they are known).
        """
        from hpcrun.engine.explain import explain
        from hpcrun.engine.files import file_names
        from hpcrun.engine.usage import complete_usage

        self._refresh()
        r = complete_usage(self._workspace.history, self._workspace.targets, self.record)
        home = self._workspace.history.paths.run(self.id)
        logs = file_names(home, LOGS)
        error: dict[str, Any] | None = None
        if r.state is RunState.FAILED:
            why = explain(r, home).as_dict()
            error = {"code": r.reason, "message": r.message, "explanation": why}
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
            "error": error,
            "warnings": list((r.snapshot or {}).get("notes", [])),
            "runDir": r.run_dir,
            "jobId": r.job_id,
            "exitCode": r.exit_code,
            "attempts": r.attempts,
            "expectedStartUtc": r.expected_start,
            "usage": r.usage,
        }

    def explain(self) -> dict[str, Any]:
        """Why the run failed, or waits, as ``hpcrun explain`` has it: cause, words, evidence, next, used."""
        from hpcrun.engine.explain import explain
        from hpcrun.engine.usage import complete_usage

        self._refresh()
        ws = self._workspace
        record = complete_usage(ws.history, ws.targets, self.record)
        return explain(record, ws.history.paths.run(self.id), ws.targets).as_dict()

    def get_details_with_logs(self) -> dict[str, Any]:
        """As :meth:`get_details`, but ``logFiles`` has what stands in each log."""
        details = self.get_details()
        logs = {name: Path(path) for name, path in details["logFiles"].items()}
        details["logFiles"] = {name: path.read_text("utf-8", "replace") for name, path in logs.items()}
        return details

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
                f"run {self.id} failed ({record.reason}){words}",
                hint=f"Why: hpcrun explain {self.id}; its logs: hpcrun logs {self.id}",
            )
        return self.get_details()

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
