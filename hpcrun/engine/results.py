"""The result of a function's run: waited for, brought home, and only then unpickled."""

from __future__ import annotations

from typing import Any

from hpcrun.engine.explain import explain
from hpcrun.errors import RunCanceledError, RunFailedError, UsageError
from hpcrun.functions.results import Outcome, read_outcomes
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.states import RunState


def check_function(record: RunRecord) -> None:
    """Raises UsageError for a run of something else."""
    if record.type != "function":
        raise UsageError(
            f"run {record.id} runs no function, and so has no result",
            hint="What a script writes to outputs/ is had by download_file.",
        )


def results(history: History, record: RunRecord) -> list[Any]:
    """What the function returned, by rank, of a run that has ended.

    Raises what it raised, from a RunFailedError that has the traceback; RunFailedError where it did not come
    to its end, RunCanceledError, and RunError where a result cannot be unpickled here.
    """
    if record.state is RunState.CANCELED:
        raise RunCanceledError(f"run {record.id} was canceled, and has no result")
    outcomes = list(read_outcomes(history.seen(record).results))
    for outcome in outcomes:
        if outcome.kind == "error":
            _raise(record, outcome)
        if outcome.kind != "result":
            raise RunFailedError(f"run {record.id}: {outcome.message}")
    if record.state is not RunState.COMPLETED:
        why = explain(record, history.paths.run(record.id))
        raise RunFailedError(
            f"run {record.id} failed ({record.reason}): {why.words}",
            hint=f"More: hpcrun explain {record.id}; its logs: hpcrun logs {record.id}",
        )
    missing = sorted(set(range(record.config.get("processes", 1))) - {o.rank for o in outcomes})
    if missing:
        raise RunFailedError(
            f"run {record.id} ended well, but rank {missing[0]} left no result",
            hint=f"Did the function call exit()? Its logs: hpcrun logs {record.id}",
        )
    return [outcome.load() for outcome in outcomes]


def _raise(record: RunRecord, outcome: Outcome) -> None:
    where = f" on rank {outcome.rank}" if record.config.get("processes", 1) > 1 else ""
    cause = RunFailedError(
        f"the function raised {outcome.type}{where} in run {record.id}: {outcome.message}\n\n"
        f"{outcome.traceback}",
        hint=f"Its logs: hpcrun logs {record.id}",
    )
    error = outcome.load() if outcome.data else None
    if not isinstance(error, Exception):
        raise cause
    raise error from cause
