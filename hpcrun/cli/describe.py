"""Lines of ``hpcrun show``: what a run belongs to, and what was asked for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hpcrun.cli.text import printable, short_id
from hpcrun.states import Reason

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History

Line = tuple[str, str]


def family(r: RunRecord, history: History) -> Iterator[Line]:
    """Its parent, and how many children it has in which state."""
    if r.parent is not None:
        yield "parent", r.parent
    counts = history.count_children(r.id)
    if counts:
        states = ", ".join(f"{count} {state}" for state, count in counts.items())
        yield "children", f"{sum(counts.values())}: {states}"
        yield "", f"hpcrun ls --parent {short_id(r.id)}"


def waits(r: RunRecord, history: History) -> Iterator[Line]:
    """The runs that it comes after, and those that wait for it."""
    from hpcrun.engine.before import WORDS, before_of, stands
    from hpcrun.errors import HpcrunError

    for index, before in enumerate(before_of(r)):
        try:
            state = f", {stands(history.get(before.run))}"
        except HpcrunError:
            state = ", which is gone"
        yield "" if index else "after", f"{before.run}{state}; it was to {WORDS[before.when]}"
    if r.state.final:
        return
    waiting = [row.id for row in history.active() if row.reason == Reason.DEPENDENCY]
    ahead = [run_id for run_id in waiting if r.id in {each.run for each in before_of(history.get(run_id))}]
    for index, run_id in enumerate(ahead):
        yield "" if index else "before", f"{run_id}, which waits for it"


def asked(r: RunRecord) -> Iterator[Line]:
    """The processes and resources that were asked for, and the software."""
    settings = r.config.get("settings")
    pairs = settings.items() if isinstance(settings, dict) else ()
    said = [(key, _text(value)) for key, value in pairs if value not in (None, "", [], {})]
    words = [f"{_below(key).replace('_', ' ')} {text}" for key, text in said if key.startswith("resources.")]
    processes = r.config.get("processes")
    if isinstance(processes, int) and processes > 1:
        words.insert(0, f"{processes} processes ({r.config.get('kind')})")
    if words:
        yield "asked for", ", ".join(words)
    software = [(_below(key), text) for key, text in said if key.startswith("environment.")]
    for index, (key, text) in enumerate(software):
        yield "" if index else "environment", f"{key}: {text}"


def _below(key: str) -> str:
    return key.partition(".")[2]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    return printable(value if isinstance(value, str) else json.dumps(value))
