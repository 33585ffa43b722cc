"""What ``hpcrun sweep start`` and ``hpcrun submit`` do with a file that describes a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.document import run_document
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.live import Live
from hpcrun.cli.session import looked_at, make_workspace, workspace_folder
from hpcrun.cli.submission import Wanted, finish_first, flags_of, must_exist, warn, warn_of_mail
from hpcrun.cli.sweeptext import counts, number_text, parameters_text, sweep_document
from hpcrun.cli.text import print_json, printable, short_id, state_text
from hpcrun.cli.watch import exit_code, interruptible, summary, wait_for_end

if TYPE_CHECKING:
    from hpcrun.engine.sweep import SweepPlan
    from hpcrun.history.record import RunRecord
    from hpcrun.workspace import Workspace

SHOWN = 10


def start_file(config: Path, options: Mapping[str, Any], rest: list[str] | None) -> None:
    """Start the sweep in a file (or show its first trials), and see it through as far as was asked."""
    wanted = _wanted(options, rest)
    _carry_out(_plan(config, options, wanted), wanted)


def start_again(
    workspace: Workspace,
    record: RunRecord,
    options: Mapping[str, Any],
    rest: list[str] | None,
    *,
    fresh: bool,
) -> None:
    """Start a sweep once more, with the code that it had; ``fresh``: as its source is now."""
    from hpcrun.engine.asking import prepare_sweep_again
    from hpcrun.engine.rerun import PROPERTY

    wanted = _wanted(options, rest)
    plan = prepare_sweep_again(
        workspace.history,
        workspace.targets,
        record,
        overrides=options["overrides"],
        flags=flags_of(options),
        fresh=fresh,
        run_id=wanted.run_id,
        ask=not wanted.dry_run,
    )
    _carry_out(plan, wanted, {PROPERTY: record.id})


def _wanted(options: Mapping[str, Any], rest: list[str] | None) -> Wanted:
    """Raises UsageError for what a sweep does not take."""
    wanted = Wanted.of(options)
    for given, option, hint in (
        (rest is not None, "-- ARGS", "--set arguments=[…] is for all trials"),
        (wanted.parent, "--parent", "a sweep is the parent of its trials"),
    ):
        if given:
            raise click.UsageError(f"{option} is not for a sweep: {hint}", click.get_current_context())
    return wanted


def _carry_out(plan: SweepPlan, wanted: Wanted, properties: Mapping[str, str] | None = None) -> None:
    warn(plan.first)
    warn_of_mail(plan.notify)
    if wanted.dry_run:
        _show(plan, wanted.as_json)
        return
    workspace = make_workspace()
    record, new = _send(workspace, plan, wanted, dict(properties or {}))
    waits = wanted.wait or wanted.follow
    if not wanted.as_json:
        _announce(workspace, record, new, brief=waits)
    ends_with = 0
    if waits:
        how: dict[str, Any] = {"timeout": wanted.timeout}
        if wanted.follow:
            how["on_look"] = _Teller(workspace, wanted.as_json)
        with interruptible([record.id], "wait"):
            record = wait_for_end(workspace, record.id, **how)
        if not wanted.as_json:
            click.echo(summary(workspace, record))
        ends_with = exit_code(record.state)
    if wanted.as_json:
        print_json({**run_document(workspace, record), "new": new})
    click.get_current_context().exit(ends_with)


def _plan(config: Path, options: Mapping[str, Any], wanted: Wanted) -> SweepPlan:
    must_exist(config)
    from hpcrun.config.sweep import load_sweep
    from hpcrun.engine.sweep import prepare_sweep

    flags, folder = flags_of(options), workspace_folder()
    sweep = load_sweep(config, overrides=options["overrides"], flags=flags, workspace=folder)
    with looked_at() as (paths, targets, history):
        return prepare_sweep(sweep, paths, targets, history, run_id=wanted.run_id, ask=not wanted.dry_run)


def _show(plan: SweepPlan, as_json: bool) -> None:
    trials = plan.trials(SHOWN)
    if as_json:
        document = {"id": plan.run_id, "experiment": plan.experiment, "total": plan.total}
        print_json({**document, "trials": trials, "script": plan.first.script})
        return
    for number, parameters in enumerate(trials):
        click.echo(f"# trial {number}: {parameters_text(parameters)}")
    if plan.total > len(trials):
        click.echo(f"# … {plan.total} trials in all")
    click.echo("# ---- trial 0")
    click.echo(plan.first.script.encode("utf-8", "surrogateescape"), nl=False)


def _send(
    workspace: Workspace, plan: SweepPlan, wanted: Wanted, properties: dict[str, str]
) -> tuple[RunRecord, bool]:
    from hpcrun.engine.submit import Extras
    from hpcrun.engine.sweep import start_sweep

    begun = workspace.history.paths.run(plan.run_id).folder
    extras = Extras(key=wanted.key, tags=wanted.tags, properties=properties)
    try:
        with finish_first(begun) as interrupted:
            record, new = start_sweep(
                workspace.history, workspace.targets, plan, extras, lambda: not interrupted
            )
    except KeyboardInterrupt:
        if not begun.exists():
            raise Interrupted("interrupted; nothing was submitted") from None
        name = short_id(plan.run_id)
        hint = f"Nothing is submitted twice. The rest is submitted by: hpcrun sweep status {name}"
        raise Interrupted(f"interrupted while {plan.run_id} was being submitted", hint) from None
    if interrupted:
        name = short_id(record.id)
        raise Interrupted(
            f"interrupted; sweep {record.id} is there and goes on",
            f"come back: hpcrun wait {name}\nend: hpcrun sweep stop {name}",
        )
    return record, new


def _announce(workspace: Workspace, record: RunRecord, new: bool, *, brief: bool) -> None:
    name, state = short_id(record.id), state_text(record.state, record.reason)
    click.echo(f"{'started' if new else 'already started as'} sweep {record.id} ({state})")
    document = sweep_document(workspace, record)
    click.echo(f"  trials  {counts(document)}")
    if document["held"] is not None:
        click.echo(f"  waiting {printable(document['held']['words'])}")
    if not brief:
        click.echo(
            f"  next    hpcrun sweep status {name}    how it stands, and the best so far\n"
            f"          hpcrun wait {name}            until all trials have ended\n"
            f"          hpcrun sweep stop {name}      end it"
        )
        if document["waiting"]:
            click.echo(
                "          hpcrun tick                     submit what is to come, as others end; or by cron"
            )


class _Teller:
    """Says on stderr whenever the trials stand otherwise than before, and what is the best by now."""

    def __init__(self, workspace: Workspace, as_json: bool) -> None:
        self._workspace, self._said = workspace, ""

    def __call__(self, record: RunRecord, live: Live) -> None:
        document = sweep_document(self._workspace, record)
        best = document["best"]
        words = f"trials {counts(document)}"
        if best is not None:
            words += f"; best {number_text(best['best'])} by trial {best['number']}: "
            words += parameters_text(best["parameters"])
        if words != self._said:
            live.clear()
            click.echo(words, err=True)
            self._said = words
        live.draw(record)
