"""``hpcrun cron install``, ``show`` and ``remove``: what calls ``hpcrun tick`` with nobody looking."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timezone
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import duration_of, json_option
from hpcrun.cli.session import history_paths
from hpcrun.cli.text import age, local_time, print_json, printable
from hpcrun.engine.clocks import seconds_since
from hpcrun.errors import NotFoundError
from hpcrun.units import Duration, human_seconds

if TYPE_CHECKING:
    from hpcrun.engine.cron import Cron, Found, Installed
    from hpcrun.engine.ticked import Ticked


@click.group("cron", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """Have cron look after the workspace: hpcrun tick every few minutes, with nobody looking."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("install", short_help="Have tick called every few minutes.")
@click.option(
    "--every",
    default="5m",
    show_default=True,
    callback=duration_of,
    metavar="DURATION",
    help="How often: 5m, 15m, 1h.",
)
@click.option(
    "--limit",
    default="6h",
    show_default=True,
    callback=duration_of,
    metavar="DURATION",
    help="End a tick that takes longer.",
)
@click.option("--systemd", is_flag=True, help="By a timer of your systemd, not by the crontab.")
@json_option
def install(every: Duration, limit: Duration, systemd: bool, as_json: bool) -> None:
    """Have cron call hpcrun tick for this workspace; what called it before is replaced.

    One entry is added to your crontab, and nothing else in it is touched. It is quiet unless something is
    wrong; what is said is mailed by cron, and all of it is in .hpcrun/logs/tick.log.
    """
    from hpcrun.engine.ticked import last_tick

    cron = _cron()
    done = cron.install(every, by="systemd" if systemd else "crontab", limit=limit)
    found = cron.look()
    if as_json:
        print_json(_document(cron, found, last_tick(cron.paths)))
        return
    click.echo(f"installed: {_told(done)}, for {printable(str(cron.workspace))}")
    for head, text in _lines(cron, found):
        click.echo(f"  {head:<8}{text}")
    if systemd:
        click.echo(
            "hpcrun: note: it runs while you are logged in, or always: loginctl enable-linger", err=True
        )
    for words in _warnings(found, None):
        click.echo(f"hpcrun: note: {words}", err=True)


@command.command("show", short_help="Whether tick is called, how often, and the last one.")
@json_option
def show(as_json: bool) -> None:
    """Whether tick is called for this workspace, how often, when it last was, and what came of it."""
    from hpcrun.engine.ticked import last_tick

    cron = _cron()
    found, last = cron.look(), last_tick(cron.paths)
    if as_json:
        print_json(_document(cron, found, last))
        return
    if found.installed is not None:
        click.echo(f"installed: {_told(found.installed)}, for {printable(str(cron.workspace))}")
    elif found.elsewhere:
        click.echo(f"installed on {printable(found.elsewhere)}, not on this machine")
    else:
        click.echo("not installed: hpcrun cron install")
    click.echo(f"  {'last':<8}{_last_text(last)}")
    for head, text in _lines(cron, found) if found.installed else ():
        click.echo(f"  {head:<8}{text}")
    for words in _warnings(found, last):
        click.echo(f"hpcrun: note: {words}", err=True)


@command.command("remove", short_help="Have tick called no more.")
@json_option
def remove(as_json: bool) -> None:
    """Have tick called no more for this workspace. Nothing of it is left; the log stays."""
    cron = _cron()
    was = cron.remove()
    if as_json:
        print_json({"removed": was is not None, "by": was.by if was else None})
        return
    click.echo("removed" if was else "nothing was installed")


def _cron() -> Cron:
    from hpcrun.engine.cron import Cron

    try:
        return Cron(history_paths())
    except NotFoundError as error:
        raise NotFoundError(error.message, hint="Submit a run, or make a workspace: hpcrun init") from None


def _told(installed: Installed) -> str:
    every = f"every {human_seconds(installed.every)}" if installed.every else f"at {installed.fields}"
    by = "the crontab" if installed.by == "crontab" else "a timer of systemd"
    return f"hpcrun tick {every}, by {by}"


def _lines(cron: Cron, found: Found) -> list[tuple[str, str]]:
    lines = []
    if found.next is not None:
        lines.append(("next", f"{found.next:%Y-%m-%d %H:%M}"))
    return [*lines, ("log", printable(str(cron.paths.tick_log)))]


def _last_text(last: Ticked | None) -> str:
    if last is None:
        return "never"
    when = f"{local_time(last.began)} ({age(last.began)} ago)"
    if last.error is not None:
        return f"{when}: error: {printable(last.error.splitlines()[0] if last.error else '')}"
    moved = f"{last.moved} run{'' if last.moved == 1 else 's'} moved"
    trouble = f", trouble with {last.trouble} (hpcrun tick -v)" if last.trouble else ""
    return f"{when}: {moved}{trouble}"


def _warnings(found: Found, last: Ticked | None) -> list[str]:
    """What keeps it from working."""
    here = found.installed
    if here is None:
        return []
    since = None if last is None else seconds_since(last.began)
    recent = since is not None and here.every and since < 3 * here.every + 60
    words = []
    if found.daemon is False and not recent:
        words.append("no cron daemon seems to run on this machine, so nothing will call it")
    elif not recent and here.every and here.at and seconds_since(here.at) > 3 * here.every + 60:
        words.append("it is installed, but was not called for long: hpcrun tick -v says whether it works")
    return words


def _document(cron: Cron, found: Found, last: Ticked | None) -> dict[str, Any]:
    here = found.installed
    following = None
    if found.next is not None:
        following = found.next.astimezone(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "installed": here is not None,
        "by": here.by if here else None,
        "every": here.every if here and here.every else None,
        "elsewhere": found.elsewhere,
        "daemon": found.daemon,
        "next": following,
        "last": asdict(last) if last else None,
        "program": str(cron.program) if here else None,
        "log": str(cron.paths.tick_log),
        "notes": _warnings(found, last),
    }
