"""The columns of ``hpcrun ls``, and how they are fitted to a terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from hpcrun.cli.text import (
    COLOURS,
    age,
    coloured,
    drawn,
    duration,
    local_time,
    plain_table,
    printable,
    short_id,
    state_text,
)
from hpcrun.history.record import SWEEP
from hpcrun.states import RunState

if TYPE_CHECKING:
    from hpcrun.history.index import RunRow

_COUNT = re.compile(r"([0-9]+ of [0-9]+) trials have ended")

COLUMNS: dict[str, Callable[[RunRow], str]] = {
    "ID": lambda row: short_id(row.id),
    "#": lambda row: str(row.number),
    "EXPERIMENT": lambda row: row.experiment,
    "NAME": lambda row: printable(row.display_name or "-"),
    "STATE": lambda row: _state(row),
    "TARGET": lambda row: row.target,
    "AGE": lambda row: age(row.created),
    "DURATION": lambda row: duration(row.started, row.ended) or "-",
    "RUN": lambda row: row.id,
    "JOB": lambda row: printable(row.job_id or "-"),
    "EXIT": lambda row: "-" if row.exit_code is None else str(row.exit_code),
    "CREATED": lambda row: local_time(row.created) or "-",
    "STARTED": lambda row: local_time(row.started) or "-",
    "ENDED": lambda row: local_time(row.ended) or "-",
    "PARENT": lambda row: short_id(row.parent) if row.parent else "-",
    "KEY": lambda row: printable(row.key or "-"),
    "MESSAGE": lambda row: printable(row.message or "-"),
}

USUAL = ("ID", "#", "EXPERIMENT", "NAME", "STATE", "TARGET", "AGE", "DURATION")

# What gives way on a narrow terminal, in this order: at least so many columns stay, or (0) none.
NARROWER = (
    *(("NAME", 16), ("EXPERIMENT", 12), ("#", 0), ("TARGET", 0), ("NAME", 0), ("DURATION", 0)),
    *(("EXPERIMENT", 6), ("AGE", 0), ("EXPERIMENT", 0)),
)


def _state(row: RunRow) -> str:
    """Of a sweep that goes on, with how far it is."""
    count = _COUNT.match(row.message) if row.type == SWEEP and row.state is RunState.RUNNING else None
    return state_text(row.state, count[1] if count else row.reason)


def table(
    rows: Sequence[RunRow],
    heads: Sequence[str] | None = None,
    more: Mapping[str, Callable[[RunRow], str]] | None = None,
) -> str:
    """The runs as a table. On a terminal it is fitted to it, unless the columns were chosen by name.

    ``more`` has columns that are shown beside the usual ones, and may be among the chosen ones.
    """
    columns = {**COLUMNS, **(more or {})}
    shown = heads or (*USUAL, *(more or {}))
    if not drawn():
        return plain_table(shown, [[columns[head](row) for head in shown] for row in rows])
    import shutil

    width = shutil.get_terminal_size().columns
    cells = [{head: columns[head](row) for head in shown} for row in rows]
    widths = _widths(cells)
    if heads is None:
        _fit(cells, widths, width)
    else:
        width = max(width, sum(widths.values()) + 2 * len(widths))
    return _drawn(rows, cells, widths, width)


def _drawn(
    rows: Sequence[RunRow], cells: Sequence[dict[str, str]], widths: dict[str, int], width: int
) -> str:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head, most in widths.items():
        side: Literal["left", "right"] = "right" if head == "#" else "left"
        grid.add_column(head, no_wrap=True, overflow="ellipsis", justify=side, max_width=most)
    for row, line in zip(rows, cells, strict=True):
        texts = {head: Text(line[head]) for head in widths}
        if "STATE" in texts:
            texts["STATE"].stylize(COLOURS.get(row.state) or "")
        grid.add_row(*texts.values())
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=coloured(), no_color=not coloured())
    console.print(grid)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _widths(cells: Sequence[dict[str, str]]) -> dict[str, int]:
    from rich.cells import cell_len

    return {head: max(len(head), *(cell_len(line[head]) for line in cells)) for head in cells[0]}


def _fit(cells: Sequence[dict[str, str]], widths: dict[str, int], width: int) -> None:
    """Leave the columns that find room, as wide as each may be: names are cut, then columns left out.

    An id is never cut: it is what one types next.
    """
    if all(line["NAME"] == "-" for line in cells):
        del widths["NAME"]
    full = dict(widths)
    for what, least in NARROWER:
        if (over := -_room(widths, width)) > 0 and what in widths:
            if least:
                widths[what] = max(min(widths[what], least), widths[what] - over)
            else:
                del widths[what]
    for what in widths:  # a column that was left out may have made more room than was needed
        widths[what] += max(0, min(full[what] - widths[what], _room(widths, width)))


def _room(widths: dict[str, int], width: int) -> int:
    return width - sum(widths.values()) - 2 * (len(widths) - 1)
