"""``hpcrun metrics --csv``: all values, one a line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence

from hpcrun.metrics.series import Series


def print_points(
    runs: Sequence[tuple[str, list[Series]]], choose: Callable[[Iterable[Series]], list[Series]]
) -> None:
    """The long format of ``hpcrun export csv``, on stdout."""
    import csv

    from hpcrun.metrics.rows import POINT_COLUMNS, rows_of

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(POINT_COLUMNS)
    for run, series in runs:
        for each in choose(series):
            writer.writerows(rows_of(run, each))
