"""What runs have measured, read where it can be read here: near, or what came home of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hpcrun.engine.sync import bring_logs
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.history.store import History
from hpcrun.metrics.growing import series_in
from hpcrun.metrics.reading import Point, read_points
from hpcrun.metrics.series import Series
from hpcrun.targets import Targets


def series_of(history: History, record: RunRecord) -> list[Series]:
    """All that a run has measured, as it stands here now."""
    return series_in(history.seen(record).metrics)


def points_of(history: History, record: RunRecord) -> Iterator[Point]:
    """The same, line by line."""
    return read_points(history.seen(record).metrics)


def bring_metrics(history: History, targets: Targets, run_ids: Iterable[str]) -> Mapping[str, HpcrunError]:
    """Have here what those of the runs have told until now that go on and are on other machines; what was
    the matter, by site or run."""
    trouble: dict[str, HpcrunError] = {}
    for run_id in run_ids:
        record = history.get(run_id)
        if record.host is not None and not record.state.final:
            trouble |= bring_logs(history, targets, run_id)
    return trouble
