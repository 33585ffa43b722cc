"""A run without a job: the program that starts it is the run, and says how it ends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from hpcrun.errors import UsageError
from hpcrun.run_results import RunResults
from hpcrun.states import RunState

if TYPE_CHECKING:
    from types import TracebackType

    from hpcrun.tracking_run import Run as TrackedRun

_Own = TypeVar("_Own", bound="InteractiveHandle")

_TRACKED = frozenset(
    {
        *("log", "log_list", "log_row", "log_table", "log_image"),
        *("log_confusion_matrix", "log_accuracy_table", "log_residuals", "log_predictions"),
        *("upload_file", "upload_files", "upload_folder"),
        *("child_run", "create_children", "flush"),
    }
)


class InteractiveHandle(RunResults):
    """What such a run can do.

    In its own process it logs as :class:`hpcrun.tracking.Run` does in a job: ``log``, ``log_row``,
    ``log_image``, ``upload_file``, ``child_run`` and the rest.
    """

    _tracked: TrackedRun | None = None

    def complete(self) -> None:
        """It has ended well. A run that has ended stays as it ended."""
        self._end(RunState.COMPLETED)

    def fail(self, error_details: object = None, error_code: object = None) -> None:
        """It has failed, by the words ``error_details``."""
        words = ": ".join(str(each) for each in (error_code, error_details) if each)
        self._end(RunState.FAILED, words[:2000])

    def cancel(self) -> None:
        """It was given up."""
        self._end(RunState.CANCELED)

    def _end(self, state: RunState, message: str = "") -> None:
        from hpcrun.engine.interactive import end

        if self._tracked is not None:
            self._tracked.flush()
            for name in _TRACKED:
                self.__dict__.pop(name, None)
        end(self._workspace.history, self.id, state, message)

    def __enter__(self: _Own) -> _Own:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.complete()
        else:
            self.fail(f"{kind.__name__}: {error}")

    def __getattr__(self, name: str) -> Any:
        if name in _TRACKED:
            found = self.__dict__[name] = getattr(self._writer(), name)
            return found
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__(), *_TRACKED})

    def _writer(self) -> TrackedRun:
        """What logs to the run's folder, at home. Raises UsageError in any process but the run's own, and
        once the run has ended."""
        from hpcrun.engine.interactive import mine

        record = self.record
        if record.state.final:
            raise UsageError(f"run {self.id} has ended: it is {record.state}")
        if self._tracked is None:
            if not mine(record):
                known = record.submission.get("process") or {}
                where = f"process {known.get('pid')} on {known.get('host')}"
                raise UsageError(f"run {self.id} is logged to by its own program alone, {where}")
            from hpcrun.tracking_place import Place
            from hpcrun.tracking_run import Run as TrackedRun

            place = Place(self.folder / "metrics", self.folder / "outputs", 0)
            self._tracked = TrackedRun(self.id, place, experiment=record.experiment)
        return self._tracked
