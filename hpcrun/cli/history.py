"""``hpcrun history verify``, ``hpcrun history rebuild`` and ``hpcrun history gc``."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import GuessingGroup
from hpcrun.cli.options import duration_of, json_option
from hpcrun.cli.session import history_paths, open_workspace, resolve
from hpcrun.cli.text import print_json, printable, state_text
from hpcrun.errors import HistoryError, HpcrunError
from hpcrun.units import Duration, human_bytes

if TYPE_CHECKING:
    from hpcrun.history.store import History


@click.group("history", cls=GuessingGroup, invoke_without_command=True)
def command() -> None:
    """Look after the run history of the workspace."""
    ctx = click.get_current_context()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@command.command("verify", short_help="See whether all is well.")
@json_option
def verify(as_json: bool) -> None:
    """See whether all is well with the history, and say what to do where it is not. Changes nothing.

    Ends with 9 if anything was found.
    """
    from hpcrun.engine.verify import verify as look
    from hpcrun.shells.local import LocalShell

    report = look(history_paths(), LocalShell())
    if as_json:
        findings = [asdict(finding) for finding in report.findings]
        print_json({"sound": not findings, "runs": report.runs, "findings": findings})
    else:
        for finding in report.findings:
            click.echo(f"{printable(finding.where)}: {printable(finding.message)}")
            click.echo(f"  {printable(finding.action)}")
        if not report.findings:
            click.echo(
                f"all is well: {_count(report.runs, 'run')}, {_count(len(report.snapshots), 'snapshot')}"
            )
    click.get_current_context().exit(HistoryError.exit_code if report.findings else 0)


@command.command("rebuild", short_help="Make history.db anew.")
@json_option
def rebuild(as_json: bool) -> None:
    """Make history.db anew from the runs' own folders, where it is gone or damaged.

    The old one is kept as history.db.bak-TIME. A run whose run.json is damaged is named, and its files are
    left as they are.
    """
    from hpcrun.history.rebuild import rebuild as make

    done = make(history_paths())
    backup = None if done.backup is None else str(done.backup)
    if as_json:
        print_json({"runs": done.runs, "backup": backup, "left": done.left})
        return
    kept = f"; the old history.db is now {done.backup.name}" if done.backup else ""
    click.echo(f"history.db was made anew: {_count(done.runs, 'run')}{kept}")
    for run_id, words in done.left.items():
        click.echo(f"hpcrun: {run_id}: {printable(words)}", err=True)


@command.command("gc", short_help="Delete archived runs for good.")
@click.argument("runs", nargs=-1, metavar="[RUN...]", shell_complete=complete_runs)
@click.option("--snapshots", is_flag=True, help="All snapshots that no run has, archived runs included.")
@click.option("--runs", "archived", is_flag=True, help="All archived runs that have ended.")
@click.option(
    "--older-than",
    callback=duration_of,
    metavar="DURATION",
    help="Only those that ended so long ago (90d, 12h).",
)
@click.option("--yes", is_flag=True, help="Delete them; without this they are only shown.")
@json_option
def gc(
    runs: tuple[str, ...],
    archived: bool,
    snapshots: bool,
    older_than: Duration | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Delete runs for good: their records and folders, here and on the target. Or unused snapshots.

    Those named and their children, or with --runs all that are archived and have ended; never one that
    has not ended. Their numbers are not given out again. Without --yes they are only shown, with their sizes.
    """
    from hpcrun.engine.gc import delete, doomed, finish

    if not (runs or archived or snapshots):
        raise click.UsageError("name a RUN, or give --runs or --snapshots", click.get_current_context())
    if older_than is not None and not (runs or archived):
        raise click.UsageError("--older-than is about runs", click.get_current_context())
    workspace = open_workspace()
    history = workspace.history
    found, unreadable = doomed(
        history, run_ids=resolve(workspace, runs), archived=archived, older_than=older_than
    )
    finished = finish(history) if yes else []
    for run in list(found):
        if not as_json:
            also = f", and {run.record.host}:{run.record.run_dir}" if run.record.host else ""
            state = state_text(run.record.state, run.record.reason)
            click.echo(f"{run.record.id}  {state}  {human_bytes(run.size)}{printable(also)}")
        if yes:
            try:
                delete(history, workspace.targets, run)
            except HpcrunError as error:
                if run.record.host is None:
                    raise
                unreadable[run.record.id] = error.message
                found.remove(run)
        if run.spared:
            click.echo(f"hpcrun: {run.record.id}: {printable(run.spared)}", err=True)
    for run_id, words in unreadable.items():
        click.echo(f"hpcrun: {run_id}: {printable(words)}: it stays", err=True)
    total = sum(run.size for run in found)
    unused = _gc_snapshots(history, yes, as_json) if snapshots else {}
    if as_json:
        shown = [
            {"id": run.record.id, "folders": [str(folder) for folder in run.folders], "bytes": run.size}
            for run in found
        ]
        print_json({"runs": shown, "bytes": total, "deleted": yes, "finished": finished, **unused})
        return
    whats = [(len(found), "run", total)] if runs or archived else []
    whats += [(len(unused["snapshots"]), "snapshot", unused["snapshot_bytes"])] if snapshots else []
    what = " and ".join(f"{_count(number, word)}, {human_bytes(size)}" for number, word, size in whats)
    click.echo(f"deleted: {what}" if yes else f"nothing was deleted: to delete {what}, add --yes")
    if finished:
        click.echo(f"and {_count(len(finished), 'deletion')} that had been cut off")


def _gc_snapshots(history: History, yes: bool, quiet: bool) -> dict[str, Any]:
    from hpcrun.engine.gc import unused_snapshots
    from hpcrun.shells.local import LocalShell

    with unused_snapshots(history, LocalShell()) as unused:
        if not quiet:
            for each in unused.snapshots:
                taken = time.strftime("%Y-%m-%d %H:%M", time.localtime(each.taken))
                click.echo(f"snapshot {each.id[:12]}  taken {taken}  {human_bytes(each.size)}")
            if unused.other:
                click.echo(f"parts of no snapshot: {human_bytes(unused.other)}")
        if yes:
            unused.remove()
    shown = [{"id": each.id, "bytes": each.size} for each in unused.snapshots]
    return {"snapshots": shown, "snapshot_bytes": unused.size}


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
