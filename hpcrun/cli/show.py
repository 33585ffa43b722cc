"""``hpcrun show RUN``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from hpcrun.cli.completing import run_argument
from hpcrun.cli.describe import asked, family, measured, waits
from hpcrun.cli.document import outputs, run_document
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace, refreshed
from hpcrun.cli.text import (
    COLOURS,
    duration,
    local_time,
    print_json,
    printable,
    short_id,
    state_text,
    styled,
    until,
)
from hpcrun.cli.watch import traceback_of
from hpcrun.history.record import CHILD, INTERACTIVE, PIPELINE, SWEEP
from hpcrun.states import RunState
from hpcrun.units import human_bytes

if TYPE_CHECKING:
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History

SHOWN = 20


@click.command("show", cls=Command)
@run_argument
@click.option("--no-refresh", is_flag=True, help="As last seen, without asking the scheduler.")
@json_option
def command(run: str, no_refresh: bool, as_json: bool) -> None:
    """All about one run: its state and why, its times, its code, its outputs."""
    workspace = open_workspace()
    run_id = workspace.history.resolve(run)
    record = workspace.history.get(run_id) if no_refresh else refreshed(workspace, run_id)
    if as_json:
        print_json(run_document(workspace, record))
        return
    for name, text in _lines(record, workspace.history):
        click.echo(f"{name:<12}{text}".rstrip())


def _lines(r: RunRecord, history: History) -> Iterator[tuple[str, str]]:
    home = history.paths.run(r.id)
    yield "run", r.id
    yield "experiment", f"{r.experiment}, run {r.number}"
    if r.display_name:
        yield "name", printable(r.display_name)
    for index, line in enumerate((r.description or "").splitlines()):
        yield "" if index else "description", printable(line)
    yield from family(r, history)
    yield from waits(r, history)
    yield "state", styled(state_text(r.state, r.reason), COLOURS.get(r.state))
    if r.message:
        yield "", printable(r.message)
    if r.type == PIPELINE:
        from hpcrun.cli.pipeline import steps_lines

        yield from _parent(r, history, steps_lines(r, history))
        return
    if r.type == SWEEP:
        from hpcrun.cli.sweeptext import show_lines

        yield from _parent(r, history, show_lines(r, history))
        return
    if r.state is RunState.FAILED:
        yield "why", f"hpcrun explain {short_id(r.id)}"
        for index, line in enumerate(traceback_of(r, home)):
            yield "" if index else "traceback", printable(line)
    yield "target", r.target + (f", on {printable(r.nodes)}" if r.nodes else "")
    yield "job", r.job_id or _no_job(r)
    if took := duration(r.started, r.ended):
        yield "duration", took
    yield from _expected(r)
    if r.exit_code is not None:
        yield "exit code", str(r.exit_code)
    if r.key is not None:
        yield "key", printable(r.key)
    for index, (key, value) in enumerate(sorted(r.tags.items())):
        yield "" if index else "tags", f"{printable(key)}={printable(value)}"
    yield from measured(r, history)
    yield from asked(r)
    yield from _environment(r)
    yield from _code(r)
    yield from _timeline(r)
    yield from _attempts(r)
    yield from _files("outputs", outputs(home))
    yield from _files("logs", outputs(home, ("user_logs", "logs")))
    yield from _home(r)
    yield "folder", str(home.folder)


def _parent(r: RunRecord, history: History, lines: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """What a run that is nothing but the parent of others has of its own; ``lines`` are about these."""
    yield from lines
    if took := duration(r.started, r.ended):
        yield "duration", took
    if r.key is not None:
        yield "key", printable(r.key)
    for index, (key, value) in enumerate(sorted(r.tags.items())):
        yield "" if index else "tags", f"{printable(key)}={printable(value)}"
    yield from _timeline(r)
    yield "folder", str(history.paths.run(r.id).folder)


def _expected(r: RunRecord) -> Iterator[tuple[str, str]]:
    """When a run that waits will start, as the scheduler thinks; what one that has ended took."""
    if r.state is RunState.QUEUED and r.expected_start:
        yield "start", f"expected at {local_time(r.expected_start)}{until(r.expected_start)}, as Slurm has it"
    if r.state.final and r.usage:
        from hpcrun.explain.efficiency import used

        limit = (r.submission.get("request") or {}).get("time_limit")
        if text := used(r.usage, limit):
            yield "used", text


def _home(r: RunRecord) -> Iterator[tuple[str, str]]:
    """What has come home of a run on another machine, and where the rest is."""
    if r.host is None:
        return
    from hpcrun.cli.sync import sync_text

    yield "home", sync_text(r)
    if (r.sync or {}).get("state") != "final" and r.outcome is not None:
        yield "", f"it ended as {r.outcome}; bring the rest: hpcrun sync {short_id(r.id)}"
    elif (r.sync or {}).get("left"):
        yield "", f"get what was left: hpcrun download {short_id(r.id)} PATTERN"
    yield "there", f"{r.host}:{printable(r.run_dir)}"


def _no_job(r: RunRecord) -> str:
    if r.type == CHILD:
        return f"none: a part of {short_id(str(r.parent))}"
    if r.type == INTERACTIVE:
        return f"none: process {(r.submission.get('process') or {}).get('pid')} on {r.nodes}"
    if r.state.final:
        return "none"
    return f"none yet; its submission is {printable(str(r.submission.get('state', 'unknown')))}"


def _environment(r: RunRecord) -> Iterator[tuple[str, str]]:
    """What hpcrun made for it."""
    made = r.config.get("environment")
    if isinstance(made, dict):
        yield "made", f"{printable(str(made.get('title')))}, {printable(str(made.get('name')))}"


def _code(r: RunRecord) -> Iterator[tuple[str, str]]:
    if r.snapshot:
        size = human_bytes(int(r.snapshot["bytes"]))
        files = f"{r.snapshot['files']} file{'' if r.snapshot['files'] == 1 else 's'}"
        yield "snapshot", f"{str(r.snapshot['id'])[:12]}, {files}, {size}"
        yield from (("", printable(str(note))) for note in r.snapshot.get("notes", []))
    commit = r.properties.get("git.commit")
    if commit is not None:
        branch = r.properties.get("git.branch")
        dirty = ", with uncommitted changes" if r.properties.get("git.dirty") == "true" else ""
        yield "git", f"{commit[:12]}{f' on {printable(branch)}' if branch else ''}{dirty}"
    if (uri := r.properties.get("git.repository_uri")) is not None:
        yield "", printable(uri)


def _timeline(r: RunRecord) -> Iterator[tuple[str, str]]:
    for index, entry in enumerate(r.states):
        words = state_text(RunState(entry["state"]), str(entry.get("reason", "")))
        yield "" if index else "states", f"{local_time(entry.get('at'))}  {words}"


def _attempts(r: RunRecord) -> Iterator[tuple[str, str]]:
    if len(r.attempts) < 2:
        return
    for index, attempt in enumerate(r.attempts):
        code = attempt.get("exit_code")
        words = f"{attempt.get('number')}: began {local_time(attempt.get('started'))}"
        ended = attempt.get("ended") or attempt.get("requeued")
        if took := duration(attempt.get("started"), ended):
            words += f", {'took' if ended else 'for'} {took}"
        words += ", requeued" if "requeued" in attempt else ""
        yield "" if index else "attempts", words + (f", exit code {code}" if code is not None else "")


def _files(head: str, found: list[tuple[str, int]]) -> Iterator[tuple[str, str]]:
    if not found:
        yield head, "none"
    for index, (name, size) in enumerate(found[:SHOWN]):
        yield "" if index else head, f"{printable(name)}  {human_bytes(size)}"
    if len(found) > SHOWN:
        yield "", f"… and {len(found) - SHOWN} more"
