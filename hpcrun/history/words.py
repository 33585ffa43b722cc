"""The words that stand for states, and those by which a run is picked: ``@failed``, ``@cifar:last``."""

from __future__ import annotations

from hpcrun.history.index import ACTIVE_RUNS
from hpcrun.states import ACTIVE, FINAL, RunState

STATES: dict[str, list[RunState]] = {
    **{state.value.lower(): [state] for state in RunState},
    "active": sorted(ACTIVE),
    "ended": sorted(FINAL),
}
"""By the word in small letters."""

WORDS: dict[str, tuple[str, str]] = {
    "last": ("", ""),
    "active": (ACTIVE_RUNS, "that has not ended"),
    "ended": (f"NOT ({ACTIVE_RUNS})", "that has ended"),
    **{
        word: (f"state = '{states[0].value}'", f"that is {states[0].value}")
        for word, states in STATES.items()
        if word not in ("active", "ended")
    },
}
"""Each picks the newest run for which a condition (in SQL) holds, which is then said for people."""

RANKED = {"highest": "the highest METRIC", "lowest": "the lowest METRIC", "best": "the best of a sweep"}
"""Each picks a run by a metric: ``@highest:val_acc``; see ranked.py."""
