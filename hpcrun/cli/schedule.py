"""``hpcrun schedule ls``, ``show``, ``pause``, ``resume`` and ``rm``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hpcrun.cli.completing import complete_schedules
from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import json_option
from hpcrun.cli.scheduling import next_text, schedule_document, when_text
from hpcrun.cli.session import history_paths, open_workspace
from hpcrun.cli.text import plain_table, print_json, printable, short_id, state_text

if TYPE_CHECKING:
    from hpcrun.history.schedules import Schedule, Schedules

F = TypeVar("F", bound=Callable[..., Any])


def _name(command: F) -> F:
    return click.argument("name", shell_complete=complete_schedules)(command)


@click.group("schedule", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """Runs that are submitted again and again: made by hpcrun submit --schedule, started by hpcrun tick."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("ls", short_help="All of them.")
@json_option
def list_all(as_json: bool) -> None:
    """All schedules of the workspace: when they are due, and what became of the last time."""
    found = list(_schedules())
    if as_json:
        print_json({"schedules": [schedule_document(each) for each in found]})
        return
    if not found:
        click.echo("no schedules: hpcrun submit run.yaml --schedule '0 3 * * *'")
        return
    rows = [
        [each.name, each.fields, each.zone, printable(each.target), next_text(each), _last_text(each)]
        for each in found
    ]
    click.echo(plain_table(("NAME", "SCHEDULE", "ZONE", "TARGET", "NEXT", "LAST"), rows))


@command.command("show", short_help="All about one.")
@_name
@json_option
def show(name: str, as_json: bool) -> None:
    """All about one schedule, its configuration as it was scheduled and its newest runs."""
    schedule = _schedules().get(name)
    if as_json:
        print_json(schedule_document(schedule))
        return
    click.echo(f"{schedule.name}: {when_text(schedule)}, a {schedule.kind} to {printable(schedule.target)}")
    missed = "all are started" if schedule.catch_up == "all" else "the latest is started"
    lines = [("next", next_text(schedule)), ("last", _last_text(schedule)), ("missed", missed)]
    for head, text in lines:
        click.echo(f"  {head:<8}{text}")
    from hpcrun.engine.scheduled import SCHEDULE

    with open_workspace() as workspace:
        for row in workspace.history.list(limit=1000, children=False):
            record = workspace.history.get(row.id)
            if record.properties.get(SCHEDULE) == name:
                state = state_text(record.state, record.reason)
                click.echo(
                    f"  {'run':<8}{short_id(record.id)}  {record.properties['schedule.slot']}  {state}"
                )
    if schedule.kind == "pipeline":
        texts = {f"step {name}": text for name, text in schedule.config["steps"].items()}
    else:
        texts = {f"{schedule.kind}.yaml": schedule.config["yaml"]}
    for head, text in texts.items():
        click.echo(f"\n# {head}\n{text.rstrip()}")


@command.command("pause", short_help="Start nothing of it until it is resumed.")
@_name
@json_option
def pause(name: str, as_json: bool) -> None:
    """Start nothing of a schedule until it is resumed; runs that were started go on."""

    def change(schedule: Schedule) -> None:
        schedule.paused = True

    _changed(name, change, as_json, "paused")


@command.command("resume", short_help="Go on with one that was paused.")
@_name
@json_option
def resume(name: str, as_json: bool) -> None:
    """Go on with a schedule that was paused; times that went by meanwhile are not made up for."""
    from hpcrun.history.record import utc_now

    def change(schedule: Schedule) -> None:
        schedule.done = utc_now() if schedule.paused else schedule.done
        schedule.paused = False
        if schedule.last is not None:
            schedule.last = {**schedule.last, "error": None}

    _changed(name, change, as_json, "goes on")


@command.command("rm", short_help="Take one away.")
@_name
@json_option
def remove(name: str, as_json: bool) -> None:
    """Take a schedule away; runs that it started stay as they are."""
    _schedules().remove(name)
    if as_json:
        print_json({"removed": name})
    else:
        click.echo(f"removed {name}")


def _changed(name: str, change: Callable[[Schedule], None], as_json: bool, words: str) -> None:
    schedule = _schedules().change(name, change)
    if as_json:
        print_json(schedule_document(schedule))
    else:
        click.echo(f"{name}: {words}; next {next_text(schedule)}")


def _schedules() -> Schedules:
    from hpcrun.history.schedules import Schedules

    return Schedules(history_paths())


def _last_text(schedule: Schedule) -> str:
    last = schedule.last
    if last is None:
        return "never"
    if last["error"]:
        return printable(last["error"].splitlines()[0])
    return f"{last['slot']} {short_id(last['run'])}"
