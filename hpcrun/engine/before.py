"""What records say of other runs: those that a run comes after, and the steps of a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.states import RunState

WHEN = {"ok": "afterok", "any": "afterany", "notok": "afternotok"}
"""How a run is to end so that another begins, and Slurm's word for it."""

WORDS = {"ok": "complete", "any": "end", "notok": "end otherwise than well"}


@dataclass(frozen=True)
class Before:
    """A run, by its id, and how it is to end: a key of :data:`WHEN`."""

    run: str
    when: str = "ok"


def before_of(record: RunRecord) -> list[Before]:
    """What the record says of the runs that this one comes after."""
    found = ((entry.get("run"), entry.get("when")) for entry in record.after)
    return [Before(str(run), str(when)) for run, when in found if when in WHEN]


def stands(record: RunRecord) -> RunState:
    """Its state; of a run whose files are yet to come home, how it ended."""
    return record.state if record.outcome is None else RunState(record.outcome)


def came_true(when: str, record: RunRecord) -> bool | None:
    """Whether a run ended as it was to; None where it has not ended."""
    state = stands(record)
    if not state.final:
        return None
    return when == "any" or (state is RunState.COMPLETED) == (when == "ok")


def in_vain(before: Before, record: RunRecord) -> str:
    """Words for a wait that is in vain."""
    reason = f" ({record.reason})" if record.reason else ""
    return (
        f"it was to wait for {before.run} to {WORDS[before.when]}, and that one is {stands(record)}{reason}"
    )


def unmet(record: RunRecord, get: Callable[[str], RunRecord]) -> str:
    """Why the run can never begin, as far as the records tell; empty where it can, or nobody knows."""
    for before in before_of(record):
        try:
            other = get(before.run)
        except HpcrunError:
            continue  # deleted since
        if came_true(before.when, other) is False:
            return in_vain(before, other)
    return ""


def step_names(parent: RunRecord) -> dict[str, str]:
    """The names of its steps by their ids, in their order."""
    steps = parent.submission.get("steps")
    return {str(step["id"]): str(step["name"]) for step in steps} if isinstance(steps, list) else {}
