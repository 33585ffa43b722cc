"""``hpcrun ls``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import click

from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option, pairs
from hpcrun.cli.session import open_workspace, refresh_active, tell_trouble
from hpcrun.cli.text import (
    COLOURS,
    age,
    coloured,
    drawn,
    duration,
    plain_table,
    print_json,
    printable,
    short_id,
    state_text,
)
from hpcrun.errors import HpcrunError
from hpcrun.states import ACTIVE, FINAL, RunState

if TYPE_CHECKING:
    from hpcrun.history.index import RunRow

HEADS = ("ID", "#", "EXPERIMENT", "NAME", "STATE", "TARGET", "AGE", "DURATION")

# What gives way on a narrow terminal, in this order: at least so many columns stay, or (0) none.
NARROWER = (
    *(("NAME", 16), ("EXPERIMENT", 12), ("#", 0), ("TARGET", 0), ("NAME", 0), ("DURATION", 0)),
    *(("EXPERIMENT", 6), ("AGE", 0), ("EXPERIMENT", 0)),
)


@click.command("ls", cls=Command)
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--experiment", metavar="NAME", help="Of this experiment alone.")
@click.option(
    "--status", multiple=True, metavar="STATE", help="In this state (or: active, ended); may be repeated."
)
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="With this tag; may be repeated.")
@click.option("-t", "--target", metavar="SITE[:PARTITION]", help="On this target alone.")
@click.option("--all", "everything", is_flag=True, help="All of them, archived ones too.")
@click.option("--archived", is_flag=True, help="Archived ones alone.")
@click.option("--no-refresh", is_flag=True, help="As last seen, without asking schedulers.")
@json_option
def command(
    limit: int,
    experiment: str | None,
    status: tuple[str, ...],
    tags: tuple[str, ...],
    target: str | None,
    everything: bool,
    archived: bool,
    no_refresh: bool,
    as_json: bool,
) -> None:
    """List runs, the newest first; those that have not ended are brought up to date before."""
    states, wanted_tags = _states(status), pairs(tags, "--tag", bare=True)
    workspace = open_workspace()
    trouble: dict[str, str] = {}
    if not no_refresh:
        try:
            trouble = refresh_active(workspace)
        except HpcrunError as error:  # one run that cannot be read must not hide all others
            trouble = {"refresh": error.message}
    rows = workspace.history.list(
        experiment=experiment,
        states=states,
        tags=wanted_tags,
        target=target,
        limit=None if everything else limit + 1,
        include_archived=everything,
        only_archived=archived,
    )
    more, rows = not everything and len(rows) > limit, rows if everything else rows[:limit]
    if as_json:
        print_json({"runs": [_document(row) for row in rows], "more": more, "trouble": trouble})
    elif rows:
        click.echo(_table(rows) if drawn() else plain_table(HEADS, [_cells(row) for row in rows]))
    else:
        click.echo(
            "no runs" + (" like that" if experiment or status or tags or target or archived else " yet"),
            err=True,
        )
    tell_trouble(trouble)
    if more and not as_json and drawn():
        click.echo(f"the newest {limit}; for more: hpcrun ls -n {limit * 5}, or --all", err=True)


def _states(words: tuple[str, ...]) -> list[RunState] | None:
    if not words:
        return None
    known = {state.value.lower(): [state] for state in RunState}
    known |= {"active": sorted(ACTIVE), "ended": sorted(FINAL)}
    found: list[RunState] = []
    for word in words:
        if word.lower() not in known:
            import difflib

            close = difflib.get_close_matches(word.lower(), known, n=1)
            names = [state.value for state in RunState] + ["active", "ended"]
            guess = next((name for name in names if close and name.lower() == close[0]), None)
            hint = f"did you mean {guess}?" if guess else f"there are {', '.join(names)}"
            raise click.BadParameter(f"no run is ever {word!r}: {hint}", param_hint="--status")
        found += known[word.lower()]
    return found


def _document(row: RunRow) -> dict[str, Any]:
    return {**asdict(row), "state": row.state.value}


def _cells(row: RunRow) -> tuple[str, ...]:
    return (
        short_id(row.id),
        str(row.number),
        row.experiment,
        printable(row.display_name or "-"),
        state_text(row.state, row.reason),
        row.target,
        age(row.created),
        duration(row.started, row.ended) or "-",
    )


def _table(rows: list[RunRow]) -> str:
    """The same, fitted to the terminal."""
    import io
    import shutil

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns
    cells = [dict(zip(HEADS, _cells(row), strict=True)) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    shown = _fitted(cells, width)
    for head, most in shown.items():
        side: Literal["left", "right"] = "right" if head == "#" else "left"
        table.add_column(head, no_wrap=True, overflow="ellipsis", justify=side, max_width=most)
    for row, line in zip(rows, cells, strict=True):
        texts = {head: Text(line[head]) for head in shown}
        texts["STATE"].stylize(COLOURS.get(row.state) or "")
        table.add_row(*texts.values())
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=coloured(), no_color=not coloured())
    console.print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _fitted(cells: list[dict[str, str]], width: int) -> dict[str, int]:
    """The columns that find room, and how wide each may be: names are cut, then columns left out.

    An id is never cut: it is what one types next.
    """
    from rich.cells import cell_len

    widths = {head: max(len(head), *(cell_len(line[head]) for line in cells)) for head in HEADS}
    if all(line["NAME"] == "-" for line in cells):
        del widths["NAME"]
    for what, least in NARROWER:
        over = sum(widths.values()) + 2 * (len(widths) - 1) - width
        if over > 0 and what in widths:
            if least:
                widths[what] = max(min(widths[what], least), widths[what] - over)
            else:
                del widths[what]
    return widths
