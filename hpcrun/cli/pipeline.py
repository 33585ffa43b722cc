"""What ``hpcrun submit`` does with a file that has steps, and what others show of a pipeline."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.document import run_document
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.preparing import Preparing
from hpcrun.cli.progress import sending
from hpcrun.cli.session import looked_at, make_workspace, workspace_folder
from hpcrun.cli.submission import Wanted, finish_first, flags_of, warn, warn_of_mail
from hpcrun.cli.text import COLOURS, print_json, printable, short_id, state_text, styled
from hpcrun.cli.watch import StepFollower, exit_code, interruptible, summary, wait_for_end
from hpcrun.engine.before import step_names
from hpcrun.engine.steps import steps_of

if TYPE_CHECKING:
    from hpcrun.engine.pipeline import PipelinePlan
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.workspace import Workspace


def submit_file(config: Path, options: Mapping[str, Any], rest: list[str] | None) -> None:
    """Submit the pipeline in a file (or show its scripts), and see it through as far as was asked."""
    wanted = _wanted(options, rest)
    _carry_out(_plan(config, options, wanted), wanted)


def submit_again(
    workspace: Workspace,
    record: RunRecord,
    options: Mapping[str, Any],
    rest: list[str] | None,
    *,
    fresh: bool,
) -> None:
    """Submit a pipeline once more, with the code that its steps had; ``fresh``: as their sources are now."""
    from hpcrun.engine.asking import prepare_again
    from hpcrun.engine.rerun import PROPERTY

    wanted = _wanted(options, rest)
    plan = prepare_again(
        workspace.history,
        workspace.targets,
        record,
        overrides=options["overrides"],
        flags=flags_of(options),
        fresh=fresh,
        experiment=wanted.experiment,
        display_name=options["name"],
        description=options["description"],
        run_id=wanted.run_id,
        ask=not wanted.dry_run,
    )
    _carry_out(plan, wanted, {PROPERTY: record.id})


def _wanted(options: Mapping[str, Any], rest: list[str] | None) -> Wanted:
    """Raises UsageError for what a pipeline does not take."""
    wanted = Wanted.of(options)
    for given, option, hint in (
        (rest is not None, "-- ARGS", "--set steps.NAME.arguments=[…] is for one step"),
        (wanted.parent, "--parent", "a pipeline is the parent of its steps"),
    ):
        if given:
            words = f"{option} is not for a pipeline: {hint}"
            raise click.UsageError(words, click.get_current_context())
    return wanted


def _carry_out(plan: PipelinePlan, wanted: Wanted, properties: Mapping[str, str] | None = None) -> None:
    for step in plan.steps.values():
        warn(step)
    warn_of_mail(plan.notify)
    if wanted.dry_run:
        _show_scripts(plan, wanted.as_json)
        return
    workspace = make_workspace()
    record, new = _send(workspace, plan, wanted, dict(properties or {}))
    if not wanted.as_json:
        _announce(workspace, record, new, brief=wanted.wait or wanted.follow)
    ends_with = 0
    if wanted.wait or wanted.follow:
        how: dict[str, Any] = {"timeout": wanted.timeout}
        if wanted.follow:
            how["on_look"] = StepFollower(workspace, out=sys.stderr if wanted.as_json else sys.stdout)
        with interruptible([record.id], "wait"):
            record = wait_for_end(workspace, record.id, **how)
        if not wanted.as_json:
            click.echo(summary(workspace, record), err=wanted.follow)
        ends_with = exit_code(record.state)
    if wanted.as_json:
        print_json({**run_document(workspace, record), "new": new})
    click.get_current_context().exit(ends_with)


def _plan(config: Path, options: Mapping[str, Any], wanted: Wanted) -> PipelinePlan:
    from hpcrun.config.pipeline import load_pipeline
    from hpcrun.engine.pipeline import prepare_pipeline

    flags, folder = flags_of(options), workspace_folder()
    pipeline = load_pipeline(config, overrides=options["overrides"], flags=flags, workspace=folder)
    with looked_at() as (paths, targets, history):
        return prepare_pipeline(
            pipeline, paths, targets, history, run_id=wanted.run_id, ask=not wanted.dry_run
        )


def _show_scripts(plan: PipelinePlan, as_json: bool) -> None:
    if as_json:
        scripts = [
            {"step": name, "id": step.run_id, "run_dir": str(step.run_dir), "script": step.script}
            for name, step in plan.steps.items()
        ]
        print_json({"id": plan.run_id, "experiment": plan.experiment, "steps": scripts})
        return
    for name, step in plan.steps.items():
        click.echo(f"# ---- step {name}")
        click.echo(step.script.encode("utf-8", "surrogateescape"), nl=False)


def _send(
    workspace: Workspace, plan: PipelinePlan, wanted: Wanted, properties: dict[str, str]
) -> tuple[RunRecord, bool]:
    from hpcrun.engine.pipeline import submit_pipeline
    from hpcrun.engine.submit import Extras

    begun = workspace.history.paths.run(plan.run_id).folder
    extras = Extras(key=wanted.key, tags=wanted.tags, properties=properties)
    try:
        with finish_first(begun) as interrupted, sending(workspace.targets):
            watches: dict[str, Preparing] = {}

            def watch(step: RunRecord) -> bool:
                return watches.setdefault(step.id, Preparing(workspace, interrupted))(step)

            record, new = submit_pipeline(workspace.history, workspace.targets, plan, extras, watch)
    except KeyboardInterrupt:
        if not begun.exists():
            raise Interrupted("interrupted; nothing was submitted") from None
        hint = f"Nothing is submitted twice. The rest is submitted by: hpcrun show {plan.run_id}"
        raise Interrupted(f"interrupted while {plan.run_id} was being submitted", hint) from None
    if interrupted:
        name = short_id(record.id)
        raise Interrupted(
            f"interrupted; pipeline {record.id} is submitted and goes on",
            f"come back: hpcrun wait {name}\nend: hpcrun cancel {name}",
        )
    return record, new


def _announce(workspace: Workspace, record: RunRecord, new: bool, *, brief: bool) -> None:
    name, state = short_id(record.id), state_text(record.state, record.reason)
    click.echo(f"{'submitted' if new else 'already submitted as'} pipeline {record.id} ({state})")
    for head, text in steps_lines(record, workspace.history):
        click.echo(f"  {head:<8}{text}")
    if not brief:
        click.echo(
            f"  next    hpcrun show {name}       how its steps stand\n"
            f"          hpcrun wait {name}       until all have ended\n"
            f"          hpcrun cancel {name}     end them"
        )


def steps_lines(record: RunRecord, history: History) -> Iterator[tuple[str, str]]:
    """A line a step: its name, its run, and how it stands."""
    rows = {row.id: row for row in steps_of(history, record.id)}
    names = step_names(record)
    wide = max(map(len, names.values()), default=0)
    for index, (run_id, name) in enumerate(names.items()):
        row = rows.get(run_id)
        words = "not made yet"
        if row is not None:
            words = styled(state_text(row.state, row.reason), COLOURS.get(row.state))
        yield "" if index else "steps", f"{printable(name):<{wide}}  {short_id(run_id)}  {words}"
