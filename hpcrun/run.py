"""What a run is called, how it went and what it wrote: the part of its handle that starts nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hpcrun.errors import NotFoundError, UsageError
from hpcrun.run_metrics import Measured
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.engine.compare import Comparison
    from hpcrun.history.index import ExperimentRow
    from hpcrun.history.record import RunRecord
    from hpcrun.tracking_run import Run as TrackedRun
    from hpcrun.workspace import Workspace

LOGS = ("logs", "user_logs", "system_logs")
_NAME_LENGTH, _DESCRIPTION_LENGTH = 256, 5000

VIEW_TYPES: dict[str, Callable[[ExperimentRow], bool]] = {
    "ActiveOnly": lambda row: not row.archived,
    "All": lambda row: True,
    "ArchivedOnly": lambda row: row.archived,
}
"""Azure ML's names for which experiments to list."""


class RunHandle(Measured):
    """A run of a workspace, by its id: its record, names, tags, properties and files."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self._workspace = workspace
        self.id = run_id

    @staticmethod
    def get_context(allow_offline: bool = True, *, all_ranks: bool = False) -> TrackedRun:
        """The run that this process is part of, to log to, in its job; outside of a run, one whose files go
        to a folder of their own. See :meth:`hpcrun.tracking_run.Run.get_context` and docs/metrics.md.
        """
        from hpcrun.tracking_run import Run as TrackedRun

        return TrackedRun.get_context(allow_offline, all_ranks=all_ranks)

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
        """The name to display, the id where there is none; may be set, and "" takes it away."""
        record = self.record
        return record.display_name or record.id

    @display_name.setter
    def display_name(self, name: str) -> None:
        checked_name(name)
        self._workspace.history.update(self.id, lambda record: setattr(record, "display_name", name or None))

    @property
    def description(self) -> str | None:
        """What the run is for, in words; may be set, and None or "" takes it away."""
        return self.record.description

    @description.setter
    def description(self, text: str | None) -> None:
        checked_description(text)
        self._workspace.history.update(self.id, lambda record: setattr(record, "description", text or None))

    @property
    def type(self) -> str:
        """What kind of run it is: ``script`` or ``function``."""
        return self.record.type

    @property
    def tags(self) -> dict[str, str]:
        return self.record.tags

    @property
    def properties(self) -> dict[str, str]:
        return self.record.properties

    @property
    def usage(self) -> dict[str, float] | None:
        """What the run took, by keys such as ``cpu_seconds`` and ``memory_bytes`` (docs/explain.md); None
        while nobody has said, empty where nobody will."""
        return self.record.usage

    def get_tags(self) -> dict[str, str]:
        return self.tags

    def get_properties(self) -> dict[str, str]:
        return self.properties

    def tag(self, key: str, value: object = None) -> None:
        """Set one tag; without a value it is empty. Raises UsageError as :meth:`set_tags`."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags; others stay as they are. Numbers become text, None is empty.

        Raises UsageError for what is no mapping of names to text, and then sets none.
        """
        self._workspace.history.set_tags(self.id, checked_pairs(tags))

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Take away the tags of these names (one name, or several); those that are not there are no error."""
        names = [tags] if isinstance(tags, str) else list(tags)
        self._workspace.history.set_tags(self.id, dict.fromkeys(names))

    def add_properties(self, properties: Mapping[str, object]) -> None:
        """Add properties, which never change after: one that is there with another value raises UsageError,
        and then none is added.
        """
        new = checked_pairs(properties)

        def change(record: RunRecord) -> None:
            for key, value in new.items():
                if record.properties.get(key, value) != value:
                    raise UsageError(
                        f"run {record.id} has the property {key!r} already, as {record.properties[key]!r}",
                        hint="Properties never change; what may change is a tag.",
                    )
            record.properties.update(new)

        self._workspace.history.update(self.id, change)

    def get_snapshot_id(self) -> str:
        """The id of the snapshot of the code that the run runs. Raises NotFoundError if it has none."""
        snapshot = self.record.snapshot
        if snapshot is None:
            raise NotFoundError(f"run {self.id} has no snapshot of any code")
        return str(snapshot["id"])

    def diff(self, other: RunHandle) -> Comparison:
        """In what ``other`` differs from this run: configuration, environment, git, code."""
        from hpcrun.engine.compare import compare
        from hpcrun.shells.local import LocalShell
        from hpcrun.snapshot import SnapshotStore

        store = SnapshotStore(self._workspace.history.paths.snapshots, LocalShell())
        return compare(self.record, other.record, store)

    def get_file_names(self) -> list[str]:
        """Names of the run's outputs and logs, such as ``outputs/model.pt``: those that are here, and those
        that were left on another machine, which :meth:`download_file` gets."""
        from hpcrun.engine.download import all_names

        self._refresh()
        return all_names(self._workspace.history, self.id)

    def sync(self) -> None:
        """Bring home what the run has on another machine: all of it, once it has ended; nothing is to be
        done for a run that is here. Raises CommandError where it cannot be had, and the run stays Finalizing.
        """
        from hpcrun.engine.sync import sync

        self._refresh()
        for error in sync(self._workspace.history, self._workspace.targets, [self.id]).trouble.values():
            raise error

    def download_file(self, name: str, output_file_path: str | os.PathLike[str] | None = None) -> Path:
        """Copy one of the run's files; see :func:`hpcrun.engine.files.download`. Raises NotFoundError."""
        from hpcrun.engine.files import download
        from hpcrun.globs import escape

        self._have([escape(name)])
        return download(self._workspace.history.paths.run(self.id), name, output_file_path)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: str | os.PathLike[str] | None = None,
        *,
        append_prefix: bool = True,
    ) -> list[Path]:
        """Copy the files in a folder of the run, or all; see :func:`hpcrun.engine.files.download_all`.

        Into the working directory if none is named. Raises NotFoundError where there is nothing to copy.
        """
        from hpcrun.engine.files import download_all
        from hpcrun.globs import escape

        self._refresh()
        self._have([escape(prefix), f"{escape(prefix.rstrip('/'))}/"] if prefix else ["**"])
        home = self._workspace.history.paths.run(self.id)
        return download_all(home, prefix, output_directory, append_prefix)

    def get_all_logs(self, destination: str | os.PathLike[str] | None = None) -> list[Path]:
        """Copy all logs into a folder, by default ``assets/RUN_ID``; where they then lie."""
        from hpcrun.engine.files import download, file_names

        self._refresh()
        home = self._workspace.history.paths.run(self.id)
        folder = Path("assets", self.id) if destination is None else Path(destination)
        return [download(home, name, folder / name) for name in file_names(home, LOGS)]

    def get_log_lines(
        self, rank: int | Iterable[int] | None = None, *, merge: bool = False
    ) -> list[tuple[int | None, str]]:
        """What the run's processes have printed until now, as pairs of rank and line; the rank is None in a
        run of one process.

        ``rank`` narrows it to one process, or to several. They come rank after rank, or, with ``merge``, by
        the times that their lines begin with, if they do. Raises UsageError for ranks that the run does not
        have, CommandError and others where its machine cannot be asked.
        """
        from hpcrun.engine.reading import log_lines

        ranks = None if rank is None else [rank] if isinstance(rank, int) else sorted(set(rank))
        ws = self._workspace
        lines = log_lines(ws.history, ws.targets, self.record, ranks, merge)
        return [(line.rank, line.text) for line in lines]

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
        cause, words, evidence, next, used), warnings, and hpcrun's own displayName, description, parentRunId,
        runDir, jobId, exitCode, attempts, expectedStartUtc and usage (elapsed_seconds, cpu_seconds,
        memory_bytes, … as far as they are known).
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
            "displayName": r.display_name,
            "description": r.description,
            "parentRunId": r.parent,
            "runDir": r.run_dir,
            "jobId": r.job_id,
            "exitCode": r.exit_code,
            "attempts": r.attempts,
            "expectedStartUtc": r.expected_start,
            "usage": r.usage,
        }

    def archive(self) -> None:
        """Hide the run and its children from lists; nothing else about them changes."""
        self._workspace.history.archive(self.id)

    def restore(self) -> None:
        """Show the run and its children in lists again."""
        self._workspace.history.restore(self.id)

    reactivate = restore
    """The same, by the name that experiments have for it."""

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

    def _have(self, patterns: list[str]) -> None:
        """Have those of the run's files here that are on another machine."""
        if self.record.host is None:
            return
        from hpcrun.engine.download import get_files

        try:
            get_files(self._workspace.history, self._workspace.targets, self.id, patterns)
        except NotFoundError:
            pass  # said by whoever looks for them here

    def _refresh(self) -> None:
        from hpcrun.engine.refresh import refresh

        if not self.record.state.final:
            refresh(self._workspace.history, self._workspace.targets, [self.id])


def checked_name(name: object) -> None:
    """Raises UsageError for what cannot be displayed as a name."""
    if not isinstance(name, str) or len(name) > _NAME_LENGTH or not name.isprintable():
        raise UsageError(
            f"not a name to display: {name!r:.80}", hint=f"One line of {_NAME_LENGTH} characters at most."
        )


def checked_description(text: object) -> None:
    """Raises UsageError for what can be no description."""
    if text is not None and (not isinstance(text, str) or len(text) > _DESCRIPTION_LENGTH or "\0" in text):
        raise UsageError(
            f"not a description: {text!r:.80}", hint=f"Text of {_DESCRIPTION_LENGTH} characters at most."
        )


def checked_pairs(values: Mapping[str, object]) -> dict[str, str]:
    """Tags or properties as they are kept: text. Raises UsageError."""
    if not isinstance(values, Mapping):
        raise UsageError(f"expected names and their values, found {values!r:.80}")
    found = {}
    for key, value in values.items():
        if not isinstance(key, str) or not key.strip() or not key.isprintable() or len(key) > 255:
            raise UsageError(f"not a name for a tag or a property: {key!r:.80}")
        if value is not None and not isinstance(value, (str, bool, int, float)):
            raise UsageError(f"the value of {key!r} is no text: {value!r:.80}", hint="Write str(…) of it.")
        found[key] = "" if value is None else str(value)
        if "\0" in found[key]:
            raise UsageError(f"the value of {key!r} holds a NUL character")
    return found


def asked(what: str | Mapping[str, str | None] | None) -> dict[str, str | None]:
    """A key, or keys and their values, as they are looked for."""
    return {what: None} if isinstance(what, str) else dict(what or {})


def fits(values: Mapping[str, str], wanted: Mapping[str, str | None]) -> bool:
    """Whether all that is wanted is there; None stands for any value."""
    return all(key in values and value in (None, values[key]) for key, value in wanted.items())


def known_state(word: str) -> RunState:
    """Raises UsageError for what no run's state ever is."""
    try:
        return RunState(word)
    except ValueError:
        words = ", ".join(state.value for state in RunState)
        raise UsageError(f"no run is ever {word!r}", hint=f"There are: {words}") from None


class Printer:
    """Prints new log lines, and each new state, while a run is waited for."""

    def __init__(self, run: RunHandle, stream: TextIO) -> None:
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
