"""``hpcrun logs RUN``."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, tell_trouble
from hpcrun.cli.text import print_json, short_id, state_text
from hpcrun.cli.watch import (
    Follower,
    exit_code,
    interruptible,
    log_line,
    rank_width,
    summary,
    wait_for_end,
)
from hpcrun.engine.before import step_names
from hpcrun.engine.logs import Line, LogReader, check_ranks, merged, parse_ranks
from hpcrun.errors import LoginRequired, NotFoundError, UsageError
from hpcrun.history.paths import RunPaths
from hpcrun.history.record import CHILD, INTERACTIVE, PIPELINE, SWEEP, RunRecord
from hpcrun.workspace import Workspace


def ranks_of(ctx: click.Context, param: click.Parameter, value: str | None) -> list[int] | None:
    try:
        return None if value is None else parse_ranks(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command("logs", cls=Command)
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run has ended; then as hpcrun wait.")
@click.option(
    "--rank", "ranks", callback=ranks_of, metavar="N", help="What these processes printed: 3, or 0,3,5-7."
)
@click.option(
    "--merge", is_flag=True, help="Not rank after rank, but by the times that lines begin with, if they do."
)
@click.option("--system", is_flag=True, help="What hpcrun's script and the scheduler said around the run.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines.")
@json_option
def command(
    run: str,
    follow: bool,
    ranks: list[int] | None,
    merge: bool,
    system: bool,
    tail: int | None,
    as_json: bool,
) -> None:
    """What the processes of a run print; of several, each line with its rank.

    Rank after rank, or, with --follow, as the lines come.
    """
    ctx = click.get_current_context()
    if follow and (system or as_json):
        raise click.UsageError(f"--follow does not go with {'--system' if system else '--json'}", ctx)
    workspace = open_workspace()
    run_id = workspace.history.resolve(run)
    home = workspace.history.paths.run(run_id)
    record = workspace.history.get(run_id)
    if record.type == PIPELINE:
        steps = [f"{name}: hpcrun logs {short_id(each)}" for each, name in step_names(record).items()]
        raise UsageError("a pipeline prints nothing of its own; its steps do", hint="\n".join(steps))
    if record.type == SWEEP:
        hint = f"which there are: hpcrun ls --parent {short_id(run_id)}"
        raise UsageError("a sweep prints nothing of its own; its trials do", hint=hint)
    if record.type == CHILD:
        hint = f"hpcrun logs {short_id(str(record.parent))}"
        raise UsageError("a child prints nothing of its own: it is a part of its run's program", hint=hint)
    if record.type == INTERACTIVE:
        hint = f"what it logged: hpcrun metrics {short_id(run_id)}"
        raise UsageError("what an interactive run prints stays in its own terminal", hint=hint)
    if ranks is not None:
        check_ranks(record, ranks)
    if follow:
        follower = Follower(workspace, run_id, ranks=ranks, tail=tail)
        with interruptible([run_id], "logs -f"):
            record = wait_for_end(workspace, run_id, on_look=follower)
        click.echo(summary(workspace, record), err=True)
        ctx.exit(exit_code(record.state))
    _fetch(workspace, record)
    lines: Iterable[Line] = _system(home) if system else LogReader(home, ranks).read(to_end=True)
    if merge and not system:
        lines = merged(lines)
    kept = lines if tail is None else deque(lines, maxlen=tail)
    if as_json:
        print_json({"id": run_id, "lines": [{"rank": line.rank, "text": line.text} for line in kept]})
        return
    printed, width = False, rank_width(record)
    for line in kept:
        click.echo(log_line(line, width=width))
        printed = True
    if not printed and tail != 0:
        click.echo(_nothing(record, system), err=True)


def _fetch(workspace: Workspace, record: RunRecord) -> None:
    """Have what a run on another machine has written until now here, and say what is in the way."""
    from hpcrun.engine.reading import have_logs

    error = have_logs(workspace.history, workspace.targets, record)
    if error is not None:
        tell_trouble({record.target.partition(":")[0]: error.message})
        if isinstance(error, LoginRequired) and error.hint:
            click.echo(f"  {error.hint}", err=True)


def _nothing(record: RunRecord, system: bool) -> str:
    if not record.state.final:
        return f"hpcrun: printed nothing yet; last seen {state_text(record.state, record.reason)}"
    more = "" if system else f"; what went on around it: hpcrun logs {short_id(record.id)} --system"
    return f"hpcrun: printed nothing{more}"


def _system(home: RunPaths) -> list[Line]:
    path = home.system_logs / "job.txt"
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        raise NotFoundError(f"no {path.name} yet: the job has not begun") from None
    return [Line(None, line) for line in text.removesuffix("\n").split("\n")] if text else []
