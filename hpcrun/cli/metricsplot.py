"""``hpcrun metrics --plot``: a picture of the curves, by matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcrun.cli.metricstable import Measured
from hpcrun.cli.text import printable
from hpcrun.errors import NotFoundError, UsageError
from hpcrun.metrics.picture import blank, save
from hpcrun.metrics.series import Series
from hpcrun.metrics.thinning import thin

MOST_CURVES = 30
"""So many metrics in one picture."""

_NAMED = 15
"""So many runs have their names in the picture, and dots on their curves."""

_POINTS = 4000
"""So many points of a curve are drawn: a few for each dot of the picture."""


def draw(found: Sequence[Measured], path: Path, labels: Mapping[str, str], *, log: bool, every: bool) -> None:
    """One diagram for each name, all runs in it by their ``labels``; ``every`` one, or those alone, if there
    are any, that are more than a dot. Raises NotFoundError where there is no curve."""
    drawn = [each for run in found for each in run.series if _has_numbers(each)]
    lines = [each for each in drawn if len(each.spread) > 1]
    names = [*dict.fromkeys(each.name for each in (drawn if every or not lines else lines))]
    if not names:
        raise NotFoundError("there is no curve to draw", hint="See what there is: hpcrun metrics RUN")
    if len(names) > MOST_CURVES:
        raise UsageError(
            f"a picture of {len(names)} metrics could not be read",
            hint=f"Name {MOST_CURVES} of them at most: hpcrun metrics RUN NAME… --plot",
        )
    columns = 1 if len(names) == 1 else 2 if len(names) <= 8 else 3
    rows = math.ceil(len(names) / columns)
    figure = blank(8 if columns == 1 else 5.5 * columns, 4.5 if rows == 1 else 3.2 * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        _draw_metric(axes, name, found, labels, log)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    save(figure, path)


def _has_numbers(series: Series) -> bool:
    return series.is_curve and any(map(math.isfinite, series.numbers()))


def _draw_metric(
    axes: Any, name: str, found: Sequence[Measured], labels: Mapping[str, str], log: bool
) -> None:
    steps = True
    for at, run in enumerate(found):
        for each in run.series:
            if each.name != name or not _has_numbers(each):
                continue
            places, numbers = each.line()
            steps = steps and None not in each.steps and each.kind != "list"
            kept = thin(numbers, _POINTS)
            axes.plot(
                [places[place] for place in kept],
                # What is infinite is a gap, as it would be for want of room.
                [numbers[place] if math.isfinite(numbers[place]) else math.nan for place in kept],
                color=f"C{at % 10}",
                linewidth=1.2,
                marker="." if len(kept) < 40 and len(found) <= _NAMED else None,
                label=labels[run.run],
            )
    if log:
        axes.set_yscale("log", nonpositive="mask")
    # No mathematics: a $ in a name is a $.
    axes.set_title(printable(name), fontsize=10, parse_math=False)
    axes.set_xlabel("step" if steps else "value", fontsize=8)
    axes.grid(True, alpha=0.3)
    if 1 < len(found) <= _NAMED:
        axes.legend(fontsize=7)
