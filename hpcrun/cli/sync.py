"""``hpcrun sync [RUN…]``."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.document import run_document
from hpcrun.cli.errors import describe
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.progress import bars
from hpcrun.cli.session import open_workspace, refresh_active, resolve, tell_trouble
from hpcrun.cli.stopping import stoppable
from hpcrun.cli.text import print_json, state_text
from hpcrun.errors import HpcrunError
from hpcrun.history.record import RunRecord
from hpcrun.units import human_bytes
from hpcrun.workspace import Workspace

if TYPE_CHECKING:
    from hpcrun.engine.sync import SyncReport


@click.command("sync", cls=Command)
@click.argument("runs", nargs=-1, metavar="[RUN...]", shell_complete=complete_runs)
@click.option("--all", "every", is_flag=True, help="All runs whose files are not all home yet (the default).")
@json_option
def command(runs: tuple[str, ...], every: bool, as_json: bool) -> None:
    """Bring outputs and logs home from other machines.

    Of a run that goes on, what is there now; of one that has ended, all that its configuration does not
    leave there. What was cut off is continued by the next sync.
    """
    if runs and every:
        raise click.UsageError("either name runs, or say --all", click.get_current_context())
    workspace = open_workspace()
    run_ids = resolve(workspace, runs) if runs else None
    from hpcrun.engine.sync import sync

    away = _reach(workspace, run_ids)
    trouble = refresh_active(workspace, _near(workspace, run_ids, away))
    with stoppable(" ".join(["sync", *runs])), bars() as on_plan:
        report = sync(workspace.history, workspace.targets, run_ids, on_plan, on_wait=_say_wait, without=away)
    report.trouble.update(away)
    told = {site: words for site, words in trouble.items() if site not in report.trouble}
    tell_trouble(told)
    records = [workspace.history.get(run_id) for run_id in report.done]
    if as_json:
        errors = [{"name": name, **describe(error)} for name, error in report.trouble.items()]
        runs_ = [run_document(workspace, record) for record in records]
        print_json({"runs": runs_, "files": report.files, "bytes": report.size, "errors": errors})
    else:
        _tell(workspace, run_ids, records, report)
    click.get_current_context().exit(max((e.exit_code for e in report.trouble.values()), default=0))


def _reach(workspace: Workspace, run_ids: list[str] | None) -> dict[str, HpcrunError]:
    """The sites of runs that go on which cannot be reached. Where all have ended, none is asked."""
    active = workspace.history.active_ids()
    if not active or (run_ids is not None and not active.intersection(run_ids)):
        return {}
    from hpcrun.engine.sync import reach

    return reach(workspace.history, workspace.targets, run_ids)


def _near(workspace: Workspace, run_ids: list[str] | None, away: Collection[str]) -> list[str] | None:
    if not away:
        return run_ids
    near = [row.id for row in workspace.history.active() if row.target.partition(":")[0] not in away]
    return [run_id for run_id in near if run_ids is None or run_id in run_ids]


def _say_wait(run_id: str) -> None:
    click.echo(f"hpcrun: another hpcrun is bringing the files of {run_id}: waiting for it", err=True)


def _tell(
    workspace: Workspace, run_ids: list[str] | None, records: list[RunRecord], report: SyncReport
) -> None:
    for record in records:
        click.echo(f"{record.id}: {state_text(record.state, record.reason)}, {sync_text(record)}")
    here = [r for r in run_ids or [] if workspace.history.get(r).host is None]
    for run_id in here:
        click.echo(f"{run_id}: its files are on this machine already")
    if not records and not here and not report.trouble:
        click.echo("nothing to bring: all files of all runs are here")
    for note in report.notes:
        click.echo(f"hpcrun: note: {note}", err=True)
    for name, error in report.trouble.items():
        words = error.message if error.message.startswith(name) else f"{name}: {error.message}"
        click.echo(f"hpcrun: error: {words}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)


def sync_text(record: RunRecord) -> str:
    """What is home of a run on another machine, in a few words."""
    known = record.sync
    if not known:
        return "nothing brought yet"
    count = int(known.get("files", 0))
    words = f"{count} file{'' if count == 1 else 's'}, {human_bytes(int(known.get('bytes', 0)))}"
    left, odd = int(known.get("left", 0)), int(known.get("odd", 0))
    if left:
        words += f"; {left} left on {record.host}"
    if odd:
        words += f"; {odd} link{'' if odd == 1 else 's'} out of its folders not followed"
    if known.get("gone"):
        return f"{words}; its folder is gone from {record.host}"
    return words if known.get("state") == "final" else f"{words} so far"
