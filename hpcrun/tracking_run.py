"""The run that a program is, as the program sees it: pure standard library, Python 3.8 and later.

    from hpcrun import Run

    run = Run.get_context()
    for step in range(1000):
        run.log("loss", train(), step=step)

What it logs stands in files of the run's folder by the time a call returns. Outside of a run the same program
does the same, with a folder beside it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

from hpcrun import tracking_place, tracking_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Any

_NAMES_KEPT = 10_000

_now = time.time
_quoted = json.dumps


class Run:
    """See above. Made by :meth:`get_context` and :meth:`child_run`, not by hand.

    ``id``, ``name`` and ``parent_id`` tell which run it is; ``offline`` whether it is one outside of hpcrun.
    Of a run that does not write (a rank other than 0) all that logs does nothing.
    """

    def __init__(
        self,
        run_id: str,
        place: tracking_place.Place,
        *,
        name: str | None = None,
        experiment: str = "",
        attempt: int = 1,
        offline: bool = False,
        silent: bool = False,
        parent: Run | None = None,
    ) -> None:
        self.id = run_id
        self.experiment = SimpleNamespace(name=experiment)
        self.offline = offline
        self.parent = parent
        self.status = "Running"
        self.tags: dict[str, str] = {}
        self.properties: dict[str, str] = {}
        self._name = name
        self._description: str | None = None
        self._place = place
        self._write = _nowhere if silent else place.lines.write
        self._silent = silent
        self._attempt = attempt
        self._tail = f', "a": {attempt}}}\n' if attempt > 1 else "}\n"
        self._heads: dict[str, str] = {}
        self._children: list[Run] = []
        self._given: dict[str | None, int] = {}

    @staticmethod
    def get_context(allow_offline: bool = True, *, all_ranks: bool = False, **_: Any) -> Run:
        """The run that this process belongs to; asked again, the same one.

        Of the processes of a run only rank 0 writes, unless ``all_ranks``. Outside of a run it is one whose
        files go to a folder of their own, which is said on stderr once there is something in it; or a
        RuntimeError, without ``allow_offline``.
        """
        number, attempt = tracking_place.rank(), tracking_place.attempt()
        run_id, folder = os.environ.get("HPCRUN_RUN_ID", ""), os.environ.get("HPCRUN_RUN_DIR", "")
        inside = bool(run_id and folder) and Path(folder).is_dir()
        if not inside and not allow_offline:
            raise RuntimeError("this process is in no run of hpcrun (HPCRUN_RUN_ID and HPCRUN_RUN_DIR tell)")
        key = (folder if inside else None, number, attempt, all_ranks)
        if key in _CONTEXTS:
            return _CONTEXTS[key]
        silent = number > 0 and not all_ranks
        if inside:
            place = tracking_place.of_run(folder, number)
            experiment = os.environ.get("HPCRUN_EXPERIMENT", "")
            run = Run(run_id, place, experiment=experiment, attempt=attempt, silent=silent)
        else:
            run_id, where = tracking_place.offline_folder()
            run = Run(run_id, tracking_place.offline(where, number), offline=True, silent=silent)
        return _CONTEXTS.setdefault(key, run)

    # -- metrics ----------------------------------------------------------------

    def log(self, name: str, value: Any, description: str = "", step: Any = None) -> None:
        """Log one value: a number (numpy's and torch's too), text, a bool or None. Of the same name any
        number of them may be logged; ``step`` says where in the training it was. ``description``, here and
        below, is there for Azure ML's sake, and is not kept.

        Raises TypeError for what is no such value, or no such step.
        """
        if type(value) is float and value - value == 0.0:
            words = repr(value)
        elif type(value) is int:
            words = str(value)
        else:
            words = _quoted(tracking_values.scalar(value, f"the value of {name!r}"))
        if step is not None:
            if type(step) is not int:
                step = tracking_values.number(step, f"the step of {name!r}")
            words = f'{words}, "s": {step!r}'
        head = self._heads.get(name) or self._head(name)
        self._write(f'{head}{words}, "t": {_now():.6f}{self._tail}'.encode("ascii"))

    def log_list(self, name: str, value: Iterable[Any], description: str = "", step: Any = None) -> None:
        """Log a list of values, an empty one too, or a numpy array of one dimension. Raises TypeError."""
        self._log(name, tracking_values.sequence(value, f"the value of {name!r}"), "list", step)

    def log_row(self, name: str, description: str | None = None, **columns: Any) -> None:
        """Log one row: ``log_row("epoch", number=3, loss=0.2)``. Raises TypeError, also without columns."""
        if not columns:
            raise TypeError(f'a row has columns: log_row("{name}", loss=0.2, accuracy=0.9)')
        row = {key: tracking_values.scalar(v, f"{key!r} of {name!r}") for key, v in columns.items()}
        self._log(name, row, "row", None)

    def log_table(
        self, name: str, value: Mapping[str, Iterable[Any]], description: str = "", step: Any = None
    ) -> None:
        """Log a table: columns of one length, by name. Raises TypeError, ValueError."""
        self._log(name, tracking_values.table(value, f"the table {name!r}"), "table", step)

    def log_image(
        self,
        name: str,
        path: str | os.PathLike[str] | None = None,
        plot: Any = None,
        description: str = "",
        step: Any = None,
    ) -> None:
        """Log an image: a file, or a matplotlib figure (``plot``, or pyplot itself), which is saved as PNG.
        It is kept in the run's ``outputs/images``, or where it is if that is in the outputs already.

        Raises TypeError unless there is exactly one of the two; OSError where it cannot be read or kept.
        """
        if (path is None) == (plot is None):
            raise TypeError("log_image takes either path= or plot=")
        if plot is not None and not callable(getattr(plot, "savefig", None)):
            raise TypeError(f"plot must be a matplotlib figure, and is {plot!r:.80}")
        tracking_values.text(name, "an image")
        if self._silent:
            return
        self._place.ready()
        kept = tracking_place.keep_image(self._place.outputs, name, path, plot)
        self._log(name, {"path": kept}, "image", step)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix as Azure ML writes it, a dict or JSON text. Raises TypeError, ValueError."""
        self._log_document(name, value, "confusion_matrix")

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table; see :meth:`log_confusion_matrix`."""
        self._log_document(name, value, "accuracy_table")

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log the data of a chart of residuals; see :meth:`log_confusion_matrix`."""
        self._log_document(name, value, "residuals")

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log the data of a chart of predictions; see :meth:`log_confusion_matrix`."""
        self._log_document(name, value, "predictions")

    def _log_document(self, name: str, value: Any, kind: str) -> None:
        self._log(name, tracking_values.document(value, f"the value of {name!r}"), kind, None)

    def _log(self, name: str, value: Any, kind: str, step: Any) -> None:
        words = f'{_quoted(value)}, "k": "{kind}"'
        if step is not None:
            words = f'{words}, "s": {tracking_values.number(step, f"the step of {name!r}")!r}'
        self._write(f'{self._head(name)}{words}, "t": {_now():.6f}{self._tail}'.encode("ascii"))

    def _head(self, name: str) -> str:
        """How lines of this name begin."""
        if name not in self._heads:
            if len(self._heads) >= _NAMES_KEPT:
                self._heads.clear()
            self._heads[name] = f'{{"n": {_quoted(tracking_values.text(name, "a metric"))}, "v": '
        return self._heads[name]

    # -- what the run is called, and how it goes ----------------------------------

    @property
    def name(self) -> str:
        """The name to display, the id where the program gave none."""
        return self._name or self.id

    @property
    def display_name(self) -> str:
        return self.name

    @display_name.setter
    def display_name(self, name: str) -> None:
        tracking_values.name(name)
        self._name = name or None
        self._tell("name", name)

    @property
    def description(self) -> str | None:
        return self._description

    @description.setter
    def description(self, text: str | None) -> None:
        if text is not None and (not isinstance(text, str) or len(text) > 5000 or "\0" in text):
            raise ValueError(f"not a description: {text!r:.80}: text of 5000 characters at most")
        self._description = text or None
        self._tell("description", text or "")

    @property
    def parent_id(self) -> str | None:
        """The id of the run that this one was made a child of by the program."""
        return None if self.parent is None else self.parent.id

    def tag(self, key: str, value: Any = None) -> None:
        """Set one tag; without a value it is empty."""
        self.set_tags({key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; others stay as they are. Numbers become text. Raises TypeError, ValueError."""
        new = tracking_values.pairs(tags, "tags")
        self.tags.update(new)
        self._tell("tags", new)

    def remove_tags(self, tags: str | Iterable[str]) -> None:
        """Take away tags by their names."""
        names = [tags] if isinstance(tags, str) else [tracking_values.text(key, "tags") for key in tags]
        for key in names:
            self.tags.pop(key, None)
        self._tell("tags", dict.fromkeys(names))

    def get_tags(self) -> dict[str, str]:
        """The tags that the program set."""
        return dict(self.tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which never change after: one that is there stays as it is."""
        new = tracking_values.pairs(properties, "properties")
        for key, value in new.items():
            self.properties.setdefault(key, value)
        self._tell("properties", new)

    def get_properties(self) -> dict[str, str]:
        """The properties that the program added."""
        return dict(self.properties)

    def get_status(self) -> str:
        """``Running``; of a child, how it ended once the program has said so."""
        return self.status

    def get_metrics(self, name: str | None = None) -> dict[str, Any]:
        """What this process has logged: by name the value, or the list of them if it is more than one."""
        from hpcrun.tracking_read import metrics_of

        return metrics_of(self._place.lines.path, name)

    # -- files ------------------------------------------------------------------

    def upload_file(self, name: str, path_or_stream: Any) -> None:
        """Keep a copy of a file, by its path or open, as ``name`` in the run's outputs. Any rank may.

        Raises TypeError, ValueError for a name that is not below the outputs; OSError.
        """
        place = tracking_place.inside(self._place.outputs, name)
        self._place.ready()
        tracking_place.put(path_or_stream, place)

    def upload_files(self, names: Iterable[str], paths: Iterable[Any], **_: Any) -> None:
        """The same for several, one by one."""
        named, sources = list(names), list(paths)
        if len(named) != len(sources):
            raise ValueError(f"there are {len(named)} names, and {len(sources)} paths")
        for index, name in enumerate(named):
            self.upload_file(name, sources[index])

    def upload_folder(self, name: str, path: str | os.PathLike[str], **_: Any) -> None:
        """Keep a copy of all files in a folder, as ``name`` in the run's outputs. Errors as above."""
        self._place.ready()
        tracking_place.put_folder(path, self._place.outputs, name)

    # -- children ---------------------------------------------------------------

    def child_run(self, name: str | None = None, **_: Any) -> Run:
        """A run of its own in the history, with this one for its parent: it has its own metrics, tags and
        outputs. It ends as it says, by :meth:`complete` or :meth:`fail`, or with its parent.

        Where the run is queued again, the child that has this name goes on; the second of a name is another.
        """
        if name is not None:
            tracking_values.name(name)
        before = self._given[name] = self._given.get(name, -1) + 1
        key = f"{name}/{before}" if name is not None else f"/{self._attempt}/{before}"
        child_id = tracking_place.child_id(self.id, key)
        child = Run(
            child_id,
            self._place.child(child_id),
            name=name,
            experiment=self.experiment.name,
            attempt=self._attempt,
            offline=self.offline,
            silent=self._silent,
            parent=self,
        )
        child._tell("child", {"name": name, "parent": self.id})
        self._children.append(child)
        return child

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Iterable[Any] | None = None
    ) -> list[Run]:
        """So many children; or one for each of ``tag_values``, with that as its tag ``tag_key``."""
        if (count is None) == (tag_values is None):
            raise TypeError("create_children takes either count, or tag_key and tag_values")
        if tag_values is None:
            return [self.child_run() for _ in range(int(count or 0))]
        children = []
        for value in tag_values:
            child = self.child_run()
            child.tag(tracking_values.text(tag_key, "a tag"), value)
            children.append(child)
        return children

    def get_children(self) -> list[Run]:
        """The children that the program has made, the newest first."""
        return self._children[::-1]

    # -- the end ----------------------------------------------------------------

    def flush(self, timeout_seconds: float | None = None) -> None:
        """Have what was logged on the disk. It outlives the process without that, and the machine with it."""
        self._place.lines.sync()
        self._place.told.sync()

    def complete(self, **_: Any) -> None:
        """A child has ended well. How a submitted run ended is told by the program's exit code."""
        self._end("Completed", "")

    def fail(self, error_details: Any = None, error_code: Any = None, **_: Any) -> None:
        """A child has failed, by the words ``error_details``; as :meth:`complete` otherwise."""
        words = [str(each) for each in (error_code, error_details) if each]
        self._end("Failed", ": ".join(words)[:2000])

    def cancel(self) -> None:
        """A child was given up; as :meth:`complete` otherwise."""
        self._end("Canceled", "")

    def _end(self, state: str, message: str) -> None:
        if self.parent is not None and self.status == "Running":
            self.status = state
            self._tell("end", {"state": state, "message": message})
        self.flush()

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
            self.complete()
        else:
            self.fail(f"{kind.__name__}: {error}")

    def _tell(self, event: str, value: Any) -> None:
        """Have the history know of it, when the run is next looked at."""
        if not self._silent:
            who = {"c": self.id} if self.parent is not None else {}
            line = json.dumps({"e": event, **who, "v": value, "t": round(_now(), 6)})
            self._place.told.write(line.encode("ascii") + b"\n")

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            raise AttributeError(
                f"a run has no {name!r} in its job: ask at home, of Run.get(workspace, {self.id!r})"
            )
        raise AttributeError(name)

    def __repr__(self) -> str:
        return f"Run({self.experiment.name!r}, {self.id!r}, {self.status})"


def _nowhere(line: bytes) -> None:
    """Where ranks write that do not."""


_CONTEXTS: dict[Any, Run] = {}
