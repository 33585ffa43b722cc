"""``hpcrun archive RUN…``, and what it has in common with ``hpcrun restore``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from hpcrun.cli.completing import complete_experiments, complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, resolve
from hpcrun.cli.text import print_json

F = TypeVar("F", bound=Callable[..., Any])


def named(command: F) -> F:
    """RUN… and ``--experiment``, as ``runs`` and ``experiments``."""
    for option in (
        json_option,
        click.option(
            "--experiment", "experiments", multiple=True, metavar="NAME",
            shell_complete=complete_experiments, help="A whole experiment; may be repeated.",
        ),
        click.argument("runs", nargs=-1, metavar="[RUN...]", shell_complete=complete_runs),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command("archive", cls=Command)
@named
def command(runs: tuple[str, ...], experiments: tuple[str, ...], as_json: bool) -> None:
    """Hide runs, or whole experiments, from lists. Nothing is deleted, and a run that goes on goes on.

    The children of a run go with it. An archived experiment takes no new runs until it is restored.
    """
    set_archived(runs, experiments, True, as_json)


def set_archived(runs: tuple[str, ...], experiments: tuple[str, ...], archived: bool, as_json: bool) -> None:
    """Archive or restore; all are found before anything is done to one."""
    if not runs and not experiments:
        raise click.UsageError("name a RUN, or an --experiment", click.get_current_context())
    workspace = open_workspace()
    history = workspace.history
    run_ids = resolve(workspace, runs)
    names = [history.known_experiment(name) for name in dict.fromkeys(experiments)]
    word = "archived" if archived else "restored"
    for run_id in run_ids:
        (history.archive if archived else history.restore)(run_id)
        if not as_json:
            with_it = len(history.descendants(run_id))
            more = f", and {with_it} below it" if with_it else ""
            click.echo(f"{run_id}: {word}{more}")
    for name in names:
        (history.archive_experiment if archived else history.restore_experiment)(name)
        if not as_json:
            click.echo(f"experiment {name}: {word}")
    if as_json:
        print_json({"runs": run_ids, "experiments": names, "archived": archived})
