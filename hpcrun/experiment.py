"""Experiments and runs: the Python API of all that happens to a run."""

from __future__ import annotations

import builtins
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from hpcrun.errors import ConfigError, Problem, RunFailedError, UsageError
from hpcrun.interactive_run import InteractiveHandle
from hpcrun.run import (
    VIEW_TYPES,
    Printer,
    asked,
    checked_description,
    checked_name,
    checked_pairs,
    fits,
    known_state,
)
from hpcrun.run_results import RunResults
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.config.pipeline import Pipeline
    from hpcrun.engine.submit import Extras
    from hpcrun.history.index import RunRow
    from hpcrun.history.record import RunRecord
    from hpcrun.models.run import ScriptRunConfig
    from hpcrun.models.sweep import SweepConfig
    from hpcrun.workspace import Workspace

_KINDS = {"sweep": ("hpcrun.sweep_run", "HyperDriveRun")}
"""Where the handles of runs of a type are that are more than a :class:`Run`."""


class Experiment:
    """A named group of runs in a workspace; it comes to be with its first run.

    >>> run = Experiment(ws, "cifar").submit(ScriptRunConfig("src", "train.py"))

    Raises ConfigError for a name that is not 1 to 255 letters, digits, ``_`` and ``-``.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        from hpcrun.history.record import is_experiment

        if not is_experiment(name):
            hint = "Letters, digits, _ and -, a letter or digit first, 255 at most."
            raise ConfigError([Problem(f"not a name for an experiment: {name!r}", hint=hint)])
        self.workspace = workspace
        self.name = name

    def submit(
        self,
        config: ScriptRunConfig | Pipeline | SweepConfig,
        tags: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        display_name: str | None = None,
        run_id: str | None = None,
        after: Sequence[Run | str] | None = None,
    ) -> Run:
        """Submit a run, or all of a pipeline, or start a sweep, and give it (or the parent of its steps, or
        of its trials: a HyperDriveRun) back at once.

        With a ``key``, the run that this workspace already has under it is given back instead of a second
        one. ``after`` are the runs that it begins after, instead of those of ``config.after``: a Run, or text
        as there. Raises ConfigError, SnapshotError, SubmissionRejected, SubmissionAmbiguous; nothing is
        queued after any but the last.
        """
        from hpcrun.engine.submit import Extras

        words = None if after is None else [each if isinstance(each, str) else each.id for each in after]
        extras = Extras(key=key, display_name=display_name, tags=checked_pairs(tags or {}))
        return self._asked_for(config, extras, run_id, words)

    def _asked_for(
        self,
        config: ScriptRunConfig | Pipeline | SweepConfig,
        extras: Extras,
        run_id: str | None,
        after: Sequence[str] | None = None,
    ) -> Run:
        from hpcrun.engine.asking import ask_for

        history, targets = self.workspace.history, self.workspace.targets
        return self._of(
            ask_for(history, targets, config, extras, experiment=self.name, run_id=run_id, after=after)
        )

    def _of(self, record: RunRecord) -> Run:
        """A run's handle; a key may have named a run of another experiment."""
        same = record.experiment == self.name
        return handle(self if same else Experiment(self.workspace, record.experiment), record.id, record.type)

    def start_logging(
        self,
        *,
        snapshot_directory: str | os.PathLike[str] | None = None,
        display_name: str | None = None,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> InteractiveRun:
        """Begin a run of type ``interactive``: this program, and no job. It is Running until the program
        says how it ended, or is gone.

        >>> with Experiment(ws, "notes").start_logging() as run:
        ...     run.log("loss", 0.3)

        With ``snapshot_directory`` the sources there are kept with it. Raises HistoryError if the experiment
        is archived, SnapshotError, UsageError for a name, a description or tags that cannot be.
        """
        from hpcrun.engine.interactive import begin

        if display_name is not None:
            checked_name(display_name)
        checked_description(description)
        record = begin(
            self.workspace.history,
            self.name,
            display_name=display_name,
            description=description,
            tags=checked_pairs(tags or {}),
            snapshot=None if snapshot_directory is None else Path(snapshot_directory),
        )
        return InteractiveRun(self, record.id)

    def map(
        self,
        function: Callable[..., Any],
        *iterables: Iterable[Any],
        tags: Mapping[str, str] | None = None,
        max_concurrent: int | None = None,
        **config: Any,
    ) -> builtins.list[Run]:
        """Submit a run for each call that the built-in ``map`` would make; the runs, in that order.

        The iterables are equally long. ``config`` is what :class:`FunctionRunConfig` takes: kwargs,
        source_directory, compute_target, environment, resources and so on, the same for all. All have one
        snapshot; the property ``map`` of each is the first one's id, ``map_index`` its place from 0. Under
        Slurm they are tasks of an array (of several, if there are more than the site's max_array_size), of
        which no more than ``max_concurrent`` run at once; elsewhere the site's max_running counts.

        >>> [run.result() for run in Experiment(ws, "pi").map(inside, [1_000_000] * 8, range(8))]

        Errors as :meth:`submit`: where a run is refused, those before it are submitted. UsageError for
        iterables that are not equally long.
        """
        from hpcrun.engine.many import submit_configs
        from hpcrun.functions.mapping import calls

        if max_concurrent is not None and max_concurrent < 1:
            raise UsageError(f"max_concurrent is 1 at least, and not {max_concurrent}")
        configs, ws = calls(function, iterables, **config), self.workspace
        records = submit_configs(
            ws.history, ws.targets, configs, self.name, checked_pairs(tags or {}), max_concurrent
        )
        return [Run(self, record.id) for record in records]

    def get_runs(
        self,
        type: str | None = None,
        tags: str | Mapping[str, str | None] | None = None,
        properties: str | Mapping[str, str | None] | None = None,
        status: str | None = None,
        include_children: bool = False,
        *,
        where: str | None = None,
        sort: str | None = None,
    ) -> Iterator[Run]:
        """The experiment's runs that fit all that is asked for, newest first; without archived ones.

        ``tags`` and ``properties``: a key that is there, or keys and their values (None for any value).
        ``status`` is one of Azure ML's words, as last seen; raises UsageError for another. Runs that are
        children of others are among them only with ``include_children``. ``where`` and ``sort`` are what
        ``hpcrun ls`` takes: ``"val_acc > 0.9 and lr < 0.1"``, ``"metric:val_acc"``.
        """
        # Those of an archived experiment, asked for by its name, are not hidden.
        more = {"children": include_children, "where": where, "sort": sort}
        for row in self._rows(type, tags, properties, status, **more):
            if not row.archived:
                yield handle(self, row.id, row.type)

    def _rows(
        self,
        type: str | None,
        tags: str | Mapping[str, str | None] | None,
        properties: str | Mapping[str, str | None] | None,
        status: str | None,
        **more: Any,
    ) -> Iterator[RunRow]:
        """What :meth:`get_runs` and :meth:`Run.get_children` find, archived ones too."""
        states = None if status is None else [known_state(status)]
        wanted = asked(properties)
        history = self.workspace.history
        every = history.list(
            experiment=self.name, states=states, tags=asked(tags), limit=None, include_archived=True, **more
        )
        for row in every:
            if type is not None and row.type != type:
                continue
            if not wanted or fits(history.get(row.id).properties, wanted):
                yield row

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
        workspace: Workspace,
        experiment_name: str | None = None,
        view_type: Literal["ActiveOnly", "All", "ArchivedOnly"] = "ActiveOnly",
    ) -> builtins.list[Experiment]:
        """The experiments of a workspace (or the one of this name), the one with the newest run first;
        without archived ones, with them, or these alone. Raises UsageError for another ``view_type``.
        """
        if view_type not in VIEW_TYPES:
            raise UsageError(f"no view_type {view_type!r}", hint=f"there are: {', '.join(VIEW_TYPES)}")
        shown = VIEW_TYPES[view_type]
        rows = [row for row in workspace.history.experiments() if experiment_name in (None, row.name)]
        return [Experiment(workspace, row.name) for row in rows if shown(row)]

    def __repr__(self) -> str:
        return f"Experiment({self.workspace!r}, {self.name!r})"


def handle(experiment: Experiment, run_id: str, type: str) -> Run:
    """A run's handle, by the run's type."""
    if type == "interactive":
        return InteractiveRun(experiment, run_id)
    if type not in _KINDS:
        return Run(experiment, run_id)
    from importlib import import_module

    module, name = _KINDS[type]
    found: Run = getattr(import_module(module), name)(experiment, run_id)
    return found


class Run(RunResults):
    """A handle on a run of a workspace's history. Nothing is kept here: every question is answered from
    the history, and questions about a run that has not ended bring it up to date first.
    """

    def __init__(self, experiment: Experiment, run_id: str) -> None:
        super().__init__(experiment.workspace, run_id)
        self.experiment = experiment

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> Run:
        """The run ``run_id``: an id, its unique end, ``@-1`` for the newest, ``@cifar:failed``, or whatever
        else the command line takes for a RUN. Raises NotFoundError.
        """
        record = workspace.history.get(workspace.history.resolve(run_id))
        return handle(Experiment(workspace, record.experiment), record.id, record.type)

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
        """Submit this run once more, all steps of a pipeline, or a sweep: the same configuration, and the
        code that its snapshot has, or that each step's has.

        ``fresh`` takes the source directory as it is now. On another ``target``, that one's defaults are
        taken. The new run's property ``rerun_of`` names this one. Errors as :meth:`Experiment.submit`.
        """
        from hpcrun.engine.asking import ask_again
        from hpcrun.engine.submit import Extras

        ws, extras = self._workspace, Extras(key=key, tags=checked_pairs(tags or {}))
        again = ask_again(ws.history, ws.targets, self.record, extras, fresh=fresh, target=target)
        return self.experiment._of(again)

    def submit_child(
        self,
        config: ScriptRunConfig,
        tags: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        display_name: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Submit a run as a child of this one, in the same experiment, and give it back at once.

        What becomes of a child changes nothing about its parent. Errors as :meth:`Experiment.submit`;
        HistoryError if this run is archived.
        """
        from hpcrun.engine.submit import Extras

        extras = Extras(key=key, display_name=display_name, parent=self.id, tags=checked_pairs(tags or {}))
        return self.experiment._asked_for(config, extras, run_id)

    @property
    def parent(self) -> Run | None:
        """The run that this one is a child of, or None. Raises NotFoundError if that run is gone."""
        parent = self.record.parent
        return None if parent is None else Run.get(self._workspace, parent)

    def get_children(
        self,
        recursive: bool = False,
        tags: str | Mapping[str, str | None] | None = None,
        properties: str | Mapping[str, str | None] | None = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[Run]:
        """The children of this run that fit all that is asked for, newest first; with ``recursive`` their
        children too, and so on. Archived ones only if this run is archived itself; else as
        :meth:`Experiment.get_runs`.
        """
        more: dict[str, Any] = {} if recursive else {"parent": self.id}
        below = set(self._workspace.history.descendants(self.id)) if recursive else None
        archived = self.record.archived
        for row in self.experiment._rows(type, tags, properties, status, **more):
            if (below is None or row.id in below) and (archived or not row.archived):
                yield handle(self.experiment, row.id, row.type)

    def cancel(self) -> None:
        """Ask for the run's end; does nothing to a run that has ended."""
        from hpcrun.engine.cancel import cancel

        cancel(self._workspace.history, self._workspace.targets, self.id)

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
        from hpcrun.history.record import PARENTS, PIPELINE

        ws = self._workspace
        if show_output and self.type == PIPELINE:
            end = None if timeout is None else time.monotonic() + timeout
            for child in [*self.get_children()][::-1]:
                left = None if end is None else max(0.0, end - time.monotonic())
                child.wait_for_completion(True, raise_on_error=False, timeout=left, stream=stream)
        printer = Printer(self, stream or sys.stdout) if show_output and self.type not in PARENTS else None
        record = wait(ws.history, ws.targets, self.id, timeout=timeout, logs=show_output, on_look=printer)
        if record.state is RunState.FAILED and raise_on_error:
            words = f": {record.message}" if record.message else ""
            raise RunFailedError(
                f"run {self.id} failed ({record.reason}){words}",
                hint=f"Why: hpcrun explain {self.id}; its logs: hpcrun logs {self.id}",
            )
        return self.get_details()

    def __repr__(self) -> str:
        return f"Run({self.experiment.name!r}, {self.id!r}, {self.status})"


class InteractiveRun(InteractiveHandle, Run):
    """A handle on a run that :meth:`Experiment.start_logging` began: it is Running until :meth:`complete`,
    :meth:`fail` or :meth:`cancel` is called, or its ``with`` block ends, or its program does."""
