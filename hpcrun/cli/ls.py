"""``hpcrun ls``."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.columns import COLUMNS, table
from hpcrun.cli.completing import (
    complete_experiments,
    complete_runs,
    complete_sorts,
    complete_states,
    complete_targets,
)
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option, pairs
from hpcrun.cli.session import open_workspace, refresh_active, tell_trouble
from hpcrun.cli.text import drawn, print_json
from hpcrun.errors import HpcrunError
from hpcrun.history.index import SORTS
from hpcrun.history.words import STATES
from hpcrun.states import RunState
from hpcrun.units import Duration
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpcrun.cli.measures import Measures
    from hpcrun.history.index import RunRow


_NOT_NARROWING = {"sort", "children", "include_archived"}


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A time as records have it: so long ago (``2d``), or a local day or time (``2026-11-01 12:00``)."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value.strip().replace("Z", "+00:00"))
    except ValueError:
        try:
            if not any(c.isalpha() for c in value):  # 2026 is no number of minutes here, and 2026-11 of days
                raise ValueError
            at = datetime.now(timezone.utc) - timedelta(seconds=Duration.parse(value))
        except ValueError:
            raise click.BadParameter(
                f"expected a time ago such as 90m, 12h or 2d, or a day such as 2026-11-01, found {value!r}",
                ctx,
                param,
            ) from None
    try:
        return at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError):  # the first and the last day there are, in another time zone
        raise click.BadParameter(f"no time that a run could have begun at: {value!r}", ctx, param) from None


def _heads(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str] | None:
    if value is None:
        return None
    words = [
        word.strip() if ":" in word else word.strip().upper() for word in value.split(",") if word.strip()
    ]
    heads = list(dict.fromkeys("#" if word == "NUMBER" else word for word in words))
    unknown = [head for head in heads if head not in COLUMNS and not (":" in head and _is_measure(head))]
    if unknown or not heads:
        known = ", ".join("number" if head == "#" else head.lower() for head in COLUMNS)
        what = f"no column is called {unknown[0].lower()!r}" if unknown else "no column is named"
        raise click.BadParameter(f"{what}: there are {known}, metric:NAME and param:NAME", ctx, param)
    return heads


def _sort(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in (None, "age"):
        return None
    if value not in SORTS and not _is_measure(value):
        known = ", ".join(["age", *SORTS])
        raise click.BadParameter(f"no {value!r}: there are {known}, metric:NAME and param:NAME", ctx, param)
    return value


def _is_measure(text: str) -> bool:
    from hpcrun.metrics.where import sort_key

    return sort_key(text) is not None


@click.command("ls", cls=Command)
@click.option("-n", "limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many.")
@click.option("--offset", type=click.IntRange(min=0), default=0, metavar="N", help="Leave out the first N.")
@click.option(
    "--experiment", metavar="NAME", shell_complete=complete_experiments, help="Of this experiment alone."
)
@click.option("--name", metavar="TEXT", help="With this in the id or the display name, in any case.")
@click.option(
    "--status",
    multiple=True,
    metavar="STATE",
    shell_complete=complete_states,
    help="In this state (or: active, ended); may be repeated.",
)
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="With this tag; may be repeated.")
@click.option(
    "-t",
    "--target",
    metavar="SITE[:PARTITION]",
    shell_complete=complete_targets,
    help="On this target alone.",
)
@click.option("--since", callback=_since, metavar="WHEN", help="Submitted since then: 2d ago, or 2026-11-01.")
@click.option(
    "--sort",
    callback=_sort,
    metavar="KEY",
    shell_complete=complete_sorts,
    help=f"By age, {', '.join(SORTS)}, or metric:NAME, param:NAME, min:NAME, max:NAME, the highest first;"
    " -metric:NAME has the lowest first.",
)
@click.option(
    "--where",
    metavar="EXPR",
    help="For which this holds: 'val_acc > 0.9 and lr < 0.1', of metrics, parameters and columns.",
)
@click.option("--columns", "heads", callback=_heads, metavar="A,B,C", help="These columns alone.")
@click.option("--children", is_flag=True, help="Children of other runs, too.")
@click.option("--parent", metavar="RUN", shell_complete=complete_runs, help="The children of this run alone.")
@click.option("--all", "everything", is_flag=True, help="All of them, archived ones and children too.")
@click.option("--archived", is_flag=True, help="Archived ones alone.")
@click.option("--no-refresh", is_flag=True, help="As last seen, without asking schedulers.")
@click.option(
    "--watch",
    is_flag=False,
    flag_value="15",
    type=click.IntRange(min=15),
    metavar="[SECONDS]",
    help="Keep the table up to date, until q is typed.",
)
@json_option
def command(
    limit: int, offset: int, heads: list[str] | None, children: bool, parent: str | None, everything: bool,
    no_refresh: bool, watch: int | None, as_json: bool, where: str | None, **asked: Any,
) -> None:  # fmt: skip
    """List runs, the newest first; those that have not ended are brought up to date before."""
    filters = _filters(asked)
    if watch is not None:
        from hpcrun.cli import lswatch

        lswatch.check_terminal(as_json=as_json)
    workspace = open_workspace()
    if parent is not None:
        above = workspace.history.get(workspace.history.resolve(parent))
        filters |= {"parent": above.id, "include_archived": above.archived}
    if everything:
        filters["include_archived"] = True
    filters["children"] = children or everything

    measures = _measures(workspace, filters, heads, where)

    def listing(most: int | None) -> tuple[list[RunRow], bool]:
        rows = workspace.history.list(limit=None if most is None else most + 1, offset=offset, **filters)
        return (rows, False) if most is None else (rows[:most], len(rows) > most)

    def draw(rows: Sequence[RunRow]) -> str:
        if measures is None:
            return table(rows, heads)
        from hpcrun.cli.measures import chosen

        more = measures.columns(rows)
        return table(rows, chosen(heads, more), more)

    most = None if everything else limit
    if watch is not None:
        refresh = None if no_refresh else lambda: _brought_up_to_date(workspace)
        lswatch.watch(
            listing, refresh, limit=most, draw=draw, seconds=watch, polite=lambda: _shared(workspace)
        )
        return
    trouble = {} if no_refresh else _brought_up_to_date(workspace)
    rows, more = listing(most)
    if as_json:
        beside = measures.document(rows) if measures is not None else {}
        runs = [{**_document(row), **beside.get(row.id, {})} for row in rows]
        print_json({"runs": runs, "more": more, "trouble": trouble})
    elif rows:
        click.echo(draw(rows))
    else:
        narrowed = offset or any(filters[name] for name in filters.keys() - _NOT_NARROWING)
        more_below = workspace.history.list(limit=1, **{**filters, "children": True})
        hint = "; but children of other runs: add --children" if more_below and not offset else ""
        click.echo("no runs" + (" like that" if narrowed else " yet") + hint, err=True)
    tell_trouble(trouble)
    if more and not as_json and drawn():
        click.echo(f"there are more: hpcrun ls --offset {offset + limit}, or --all", err=True)


def _measures(
    workspace: Workspace, filters: dict[str, Any], heads: Sequence[str] | None, where: str | None
) -> Measures | None:
    """The metrics and parameters that are shown, because they were asked for; ``where`` goes to the filters.

    Raises UsageError.
    """
    if where is None and not any(":" in word for word in (filters["sort"] or "", *(heads or ()))):
        return None
    from hpcrun.cli.measures import Measures, names_of

    found = []
    if where is not None:
        filters["where"] = workspace.history.ask(where)
        found = list(filters["where"].names)
    return Measures(workspace.history, [*names_of(filters["sort"], heads), *([] if heads else found)])


def _shared(workspace: Workspace) -> bool:
    """Whether a run goes on where others run theirs."""
    return any(row.scheduler != "local" for row in workspace.history.active())


def _brought_up_to_date(workspace: Workspace) -> dict[str, str]:
    """What was the matter, by site."""
    try:
        return refresh_active(workspace)
    except HpcrunError as error:  # one run that cannot be read must not hide all others
        return {"refresh": error.message}


def _filters(asked: dict[str, Any]) -> dict[str, Any]:
    """What :meth:`History.list` is asked for; raises UsageError."""
    return {
        "experiment": asked["experiment"],
        "name": asked["name"],
        "states": _states(asked["status"]),
        "tags": pairs(asked["tags"], "--tag", bare=True),
        "target": asked["target"],
        "since": asked["since"],
        "only_archived": asked["archived"],
        "sort": asked["sort"],
    }


def _states(words: tuple[str, ...]) -> list[RunState] | None:
    if not words:
        return None
    found: list[RunState] = []
    for word in words:
        if word.lower() not in STATES:
            import difflib

            close = difflib.get_close_matches(word.lower(), STATES, n=1)
            names = [state.value for state in RunState] + ["active", "ended"]
            guess = next((name for name in names if close and name.lower() == close[0]), None)
            hint = f"did you mean {guess}?" if guess else f"there are {', '.join(names)}"
            raise click.BadParameter(f"no run is ever {word!r}: {hint}", param_hint="--status")
        found += STATES[word.lower()]
    return found


def _document(row: RunRow) -> dict[str, Any]:
    return {**row._asdict(), "state": row.state.value}
