"""What runs have measured until now, taken into the index, so that runs can be found and sorted by it."""

from __future__ import annotations

import os
from collections.abc import Iterable

from hpcrun.history.measures import File, look_at
from hpcrun.history.paths import metrics_of
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.sums import CHUNK

AT_ONCE = 200
"""Runs whose news go into the index in one transaction."""

AT_A_LOOK = 2
"""Chunks of one run that goes on which are read at one look; its next look goes on from there."""


def take_in(history: History, record: RunRecord, *, all_of_it: bool = True) -> None:
    """Take in what was written to a run's metrics files since the last time: those that can be read here,
    or that came home. Raises HistoryError."""
    take_in_many(history, [record], all_of_it=all_of_it)


def take_in_many(history: History, records: Iterable[RunRecord], *, all_of_it: bool = False) -> None:
    """The same for any number of runs, in few transactions; of those that write more than can be read at a
    look, the rest is left for the next one, unless ``all_of_it`` is wanted."""
    found: list[tuple[str, list[File]]] = []
    chunks = 0
    for record in records:
        folder = history.seen(record)
        if not _has_any(str(folder.folder)):
            continue
        files: list[File] = []
        for file in look_at(folder, history.metric_marks(record.id)):
            files.append(file)
            chunks += 1
            if len(files) == AT_A_LOOK:
                history.take_in_metrics([*found, (record.id, files)])
                found, files, chunks = [], [], 0
                if not all_of_it:
                    break
        if files:
            found.append((record.id, files))
        if len(found) == AT_ONCE or chunks * CHUNK > 2**26:
            history.take_in_metrics(found)
            found, chunks = [], 0
    history.take_in_metrics(found)


def _has_any(run_dir: str) -> bool:
    """One look at the disk for each of thousands of runs, most of which measure nothing."""
    try:
        with os.scandir(metrics_of(run_dir)) as entries:
            return next(entries, None) is not None
    except OSError:
        return False
