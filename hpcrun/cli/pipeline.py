"""What ``hpcrun submit`` does with a file that has steps, and what others show of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.document import run_document
from hpcrun.cli.errors import Interrupted
from hpcrun.cli.preparing import Preparing
from hpcrun.cli.session import make_workspace, workspace_folder
from hpcrun.cli.submission import Wanted, finish_first, flags_of, warn
from hpcrun.cli.text import COLOURS, print_json, printable, short_id, state_text, styled
from hpcrun.cli.watch import exit_code, interruptible, summary, wait_for_end
from hpcrun.engine.before import step_names
from hpcrun.engine.steps import steps_of

if TYPE_CHECKING:
    from hpcrun.engine.pipeline import PipelinePlan
    from hpcrun.history.record import RunRecord
    from hpcrun.history.store import History
    from hpcrun.workspace import Workspace


def submit_file(config: Path, options: Mapping[str, Any], rest: list[str] | None) -> None:
    """Submit the pipeline in a file (or show its scripts), and see it through as far as was asked."""
    ctx, wanted = click.get_current_context(), Wanted.of(options)
    for given, option, hint in (
        (rest is not None, "-- ARGS", "--set steps.NAME.arguments=[…] is for one step"),
        (wanted.follow, "--follow", "--wait waits; hpcrun logs -f STEP follows one step"),
        (wanted.parent, "--parent", "a pipeline is the parent of its steps"),
    ):
        if given:
            raise click.UsageError(f"{option} is not for a pipeline: {hint}", ctx)
    plan = _plan(config, options, wanted)
    for step in plan.steps.values():
        warn(step)
    if wanted.dry_run:
        _show_scripts(plan, wanted.as_json)
        return
    workspace = make_workspace()
    record, new = _send(workspace, plan, wanted)
    if not wanted.as_json:
        _announce(workspace, record, new, brief=wanted.wait)
    ends_with = 0
    if wanted.wait:
        with interruptible([record.id], "wait"):
            record = wait_for_end(workspace, record.id, timeout=wanted.timeout)
        if not wanted.as_json:
            click.echo(summary(workspace, record))
        ends_with = exit_code(record.state)
    if wanted.as_json:
        print_json({**run_document(workspace, record), "new": new})
    ctx.exit(ends_with)


def _plan(config: Path, options: Mapping[str, Any], wanted: Wanted) -> PipelinePlan:
    from hpcrun.config.pipeline import load_pipeline
    from hpcrun.engine.pipeline import prepare_pipeline
    from hpcrun.history.paths import WorkspacePaths
    from hpcrun.history.store import History
    from hpcrun.targets import Targets
    from hpcrun.workspace import FOLDER

    folder = workspace_folder()
    pipeline = load_pipeline(
        config, overrides=options["overrides"], flags=flags_of(options), workspace=folder
    )
    history = History.open(folder / FOLDER) if (folder / FOLDER).is_dir() else None
    try:
        return prepare_pipeline(
            pipeline,
            WorkspacePaths(folder / FOLDER),
            Targets(folder),
            history,
            run_id=wanted.run_id,
            ask=not wanted.dry_run,
        )
    finally:
        if history is not None:
            history.close()


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


def _send(workspace: Workspace, plan: PipelinePlan, wanted: Wanted) -> tuple[RunRecord, bool]:
    from hpcrun.engine.pipeline import submit_pipeline
    from hpcrun.engine.submit import Extras

    begun = workspace.history.paths.run(plan.run_id).folder
    extras = Extras(key=wanted.key, tags=wanted.tags)
    try:
        with finish_first(begun) as interrupted:
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
