"""Trials that were written down together: one record for all, and a line for each in which it differs.

A trial's row in the index names its line (``trial LEADER LINE``) as long as nobody has looked at the run.
Whoever does makes run.json from the record that all have in common, the line, and how far the submission of
all has come. The record has marks where a trial has something of its own: a run id in the place of its id,
and one word for each parameter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hpcrun.errors import HistoryError
from hpcrun.history.files import write_atomically
from hpcrun.history.paths import TablePaths, WorkspacePaths
from hpcrun.history.record import RunRecord
from hpcrun.states import Reason, RunState

Value = bool | int | float | str

_PREFIX = "trial "
_TEXTS = ("yaml", "asked")


class Line(NamedTuple):
    """A trial: ``number`` is that of its run in the experiment, ``trial`` its own in the sweep, from 0."""

    id: str
    number: int
    trial: int
    key: str
    values: list[Value]


@dataclass(frozen=True)
class Table:
    """``template`` is the record as :meth:`RunRecord.to_json` has it, with ``run`` for the run's id and
    ``marks`` for the values of the parameters ``names``. ``form`` is what the configuration has in
    their place: "text", or values of their own kinds ("typed"), or all in one text of JSON ("json").
    ``words``: values that YAML spells otherwise than a shell. ``script`` is the job script, with the same
    marks. ``after`` is the leader of the table whose runs have to end before these begin, or empty.
    ``pack`` is the script of the job where all run in one that is no array, and keeps to the limit itself.
    """

    leader: str
    created: str
    limit: int | None
    after: str
    run: str
    names: list[str]
    marks: list[str]
    form: str
    words: dict[str, str]
    template: dict[str, Any]
    script: str
    lines: list[Line] = field(default_factory=list)
    pack: str = ""

    @property
    def snapshot(self) -> str:
        return str(self.template["snapshot"]["id"])

    @property
    def parent(self) -> str:
        return str(self.template["parent"])

    @property
    def target(self) -> str:
        return str(self.template["target"])

    def text(self, template: str, line: Line) -> str:
        """Text with marks, as it is for one trial: a script."""
        words = zip(self.marks, map(self.word, line.values), strict=True)
        return _marked(template, [(self.run, line.id), *words])

    def word(self, value: Value) -> str:
        """A value as it stands in a script."""
        if self.form == "json":
            return json.dumps(value)
        return value if isinstance(value, str) else repr(value)

    def yaml(self, template: str, line: Line) -> str:
        """The same for a configuration, in which values that stand alone may have to be quoted."""
        text = template
        for mark, value in zip(self.marks, line.values, strict=True):
            plain = self.word(value)
            quoted = self.form == "text" and not isinstance(value, str)
            word = f'"{plain}"' if quoted else self.words.get(plain, plain)
            if self.form == "json":
                text = text.replace(_escaped(mark), _escaped(plain))
            elif word != plain:
                text = re.sub(rf"(?m)(?<=[:-] ){mark}$", word.replace("\\", r"\\"), text)
        return self.text(text, line)

    def parameters(self, line: Line) -> dict[str, Value]:
        """What the run is told by name."""
        common: dict[str, Value] = self.template["parameters"]
        told = {name: self._filled(value, line) for name, value in common.items() if name not in self.names}
        own = dict(zip(self.names, line.values, strict=True))
        return {**{name: own.get(name, told.get(name, "")) for name in common}, **own}

    def record(self, index: int) -> RunRecord:
        """The run of a line, as it was created."""
        line = self.lines[index]
        record = RunRecord.from_json(json.dumps(self._filled(self.template, line)))
        for name in _TEXTS:
            record.config[name] = self.yaml(str(self.template["config"][name]), line)
        record.id, record.number, record.created, record.key = line.id, line.number, self.created, line.key
        record.properties["trial"] = str(line.trial)
        record.parameters = self.parameters(line)
        record.states = [{"state": record.state.value, "reason": "", "at": self.created}]
        record.submission["array"] = {
            "leader": self.leader, "index": index, "limit": self.limit, "table": True,
            **({"pack": True} if self.pack else {}),
        }  # fmt: skip
        return record

    def _filled(self, value: Any, line: Line) -> Any:
        if isinstance(value, dict):
            return {key: self._filled(each, line) for key, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each, line) for each in value]
        if isinstance(value, str):
            if value in self.marks and self.form == "typed":
                return line.values[self.marks.index(value)]
            return self.text(value, line)
        return value


@dataclass
class State:
    """How far the submission of a table has come. ``submission`` is what the records of all have of it."""

    submission: dict[str, Any]
    job_id: str | None = None
    submitted: str | None = None

    @property
    def word(self) -> str:
        return str(self.submission["state"])

    def apply(self, record: RunRecord, index: int, reason: str = "") -> None:
        """Make the record of a trial, as it was created, say what all say; ``reason`` is why it waits."""
        record.submission.update(self.submission)
        if self.job_id is not None:
            record.job_id, record.submitted = f"{self.job_id}_{index}", self.submitted
            record.state, record.reason = RunState.QUEUED, reason
            record.states.append({"state": record.state.value, "reason": reason, "at": self.submitted})
        elif self.word == "rejected":
            record.state, record.reason = RunState.FAILED, Reason.REJECTED.value
            record.message, record.ended = self.submission["message"], self.submission["ended"]
            record.key = None  # nothing ran under this key: the corrected submission may have it
            record.states.append({"state": "Failed", "reason": record.reason, "at": record.ended})


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')


def reference(leader: str, index: int | str) -> str:
    """What a row has in the place of its record."""
    return f"{_PREFIX}{leader} {index}"


def referred(pending: object) -> tuple[str, int] | None:
    """The table and the line that a row names; None for a row that holds its record, or has one."""
    if not isinstance(pending, str) or not pending.startswith(_PREFIX):
        return None
    leader, _, index = pending.removeprefix(_PREFIX).partition(" ")
    return leader, int(index)


def _marked(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for mark, word in pairs:
        text = text.replace(mark, word)
    return text


def write_table(paths: TablePaths, table: Table) -> None:
    """Keep a table. Raises HistoryError."""
    write_atomically(paths.table, json.dumps({"version": 1, **vars(table)}).encode("ascii"))


def read_table(paths: TablePaths) -> Table:
    """Raises HistoryError if it cannot be read, or is none."""
    try:
        data = json.loads(paths.table.read_bytes())
        data.pop("version")
        lines = [Line(*line) for line in data.pop("lines")]
        return Table(**data, lines=lines)
    except OSError as error:
        raise HistoryError(f"cannot read {paths.table}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HistoryError(f"{paths.table}: not a table of trials: {error}") from error


def write_state(paths: TablePaths, state: State) -> None:
    """Raises HistoryError."""
    write_atomically(paths.state, json.dumps(vars(state)).encode("ascii"))


def read_state(paths: TablePaths, created: str) -> State:
    """Raises HistoryError if it is damaged."""
    try:
        return State(**json.loads(paths.state.read_bytes()))
    except FileNotFoundError:
        return State({"state": "intent", "began": created})
    except OSError as error:
        raise HistoryError(f"cannot read {paths.state}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise HistoryError(f"{paths.state}: not the state of a submission: {error}") from error


def gone(paths: TablePaths) -> set[int]:
    """The lines whose runs were deleted."""
    try:
        return {int(word) for word in paths.gone.read_text(encoding="ascii").split()}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise HistoryError(f"cannot read {paths.gone}: {error}") from error


def leaders(paths: WorkspacePaths) -> list[str]:
    """All tables, the oldest names first."""
    return sorted(path.name for path in paths.trials.iterdir()) if paths.trials.is_dir() else []
