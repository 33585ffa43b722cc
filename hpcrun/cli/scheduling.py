"""``hpcrun submit --schedule``: what is to be submitted again and again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.options import pairs
from hpcrun.cli.session import make_workspace, workspace_folder
from hpcrun.cli.submission import flags_of, must_exist, read_config
from hpcrun.cli.text import print_json, printable

if TYPE_CHECKING:
    from hpcrun.engine.scheduled import What
    from hpcrun.history.schedules import Schedule
    from hpcrun.workspace import Workspace

_NOT_WITH = {
    "key": "each time has a key of its own",
    "run_id": "each time makes another run",
    "parent": "each time makes a run of its own",
    "wait": "it is not submitted now",
    "follow": "it is not submitted now",
    "timeout": "it is not submitted now",
    "dry_run": "see the script first, without --schedule",
}


def schedule_file(
    config: Path, options: Mapping[str, Any], rest: list[str] | None, *, sweep: bool = False
) -> None:
    """Write down that a file is to be submitted whenever it is due; what is wrong with it is said now.

    ``sweep``: it is to be a sweep's.
    """
    from hpcrun.engine.scheduled import new_schedule
    from hpcrun.history.schedules import Schedules

    ctx = click.get_current_context()
    for name, why in _NOT_WITH.items():
        if options[name]:
            raise click.UsageError(f"--{name.replace('_', '-')} is not for --schedule: {why}", ctx)
    tags = {key: str(value) for key, value in pairs(options["tags"], "--tag").items()}
    what = _read(config, options, rest, sweep=sweep)
    schedule = new_schedule(
        what,
        options["schedule"],
        name=options["name"],
        zone=options["timezone"],
        catch_up=options["catch_up"],
        tags=tags,
    )
    workspace = make_workspace()
    _check(workspace, what)
    Schedules(workspace.history.paths).add(schedule)
    if options["as_json"]:
        print_json(schedule_document(schedule))
        return
    click.echo(f"scheduled {schedule.name}: {when_text(schedule)}, to {printable(schedule.target)}")
    click.echo(f"  next    {next_text(schedule)}")
    click.echo(f"  see     hpcrun schedule show {schedule.name}")
    click.echo(f"  end     hpcrun schedule rm {schedule.name}")
    for words in _notes(workspace, what):
        click.echo(f"hpcrun: note: {words}", err=True)


def _read(config: Path, options: Mapping[str, Any], rest: list[str] | None, *, sweep: bool) -> What:
    from hpcrun.config.pipeline import STEPS, SWEEP, load_pipeline
    from hpcrun.config.sweep import load_sweep
    from hpcrun.config.yamltree import read_file

    must_exist(config)
    keys = read_file(config)[0].entries
    sweep = sweep or SWEEP in keys
    if not sweep and STEPS not in keys:
        return read_config(config, options, rest, workspace_folder())
    if rest is not None:
        words = f"-- ARGS is not for a {'sweep' if sweep else 'pipeline'}"
        raise click.UsageError(words, click.get_current_context())
    load = load_sweep if sweep else load_pipeline
    return load(config, overrides=options["overrides"], flags=flags_of(options), workspace=workspace_folder())


def _check(workspace: Workspace, what: What) -> None:
    """Raises ConfigError with what would go wrong each time; no site is asked."""
    from hpcrun.config.pipeline import Pipeline
    from hpcrun.engine.earlier import earlier_runs, names_runs
    from hpcrun.engine.pipeline import prepare_pipeline
    from hpcrun.engine.prepare import prepare
    from hpcrun.engine.sweep import prepare_sweep
    from hpcrun.models.sweep import SweepConfig

    history, targets = workspace.history, workspace.targets
    if isinstance(what, Pipeline):
        prepare_pipeline(what, history.paths, targets, history, ask=False)
        return
    if isinstance(what, SweepConfig):
        prepare_sweep(what, history.paths, targets, history, ask=False)
        return
    earlier = earlier_runs(history if names_runs(what) else None, what)
    prepare(what, history.paths, targets, earlier=earlier, ask=False)


def _notes(workspace: Workspace, what: What) -> list[str]:
    """What would keep it from being started, or from being told of."""
    from hpcrun.config.pipeline import Pipeline
    from hpcrun.engine.cron import Cron
    from hpcrun.engine.scheduled import runs_of

    runs = runs_of(what)
    asked = [each.notify for each in runs]
    if isinstance(what, Pipeline):
        asked.append(what.notify)
    hooks = {each.webhook for each in asked if each is not None and each.webhook}
    hidden = sorted(hooks.union(*(map(str, config.secrets.values()) for config in runs)))
    words = [
        f"cron has no variables of this terminal: {place} will not be set; file:PATH would be read"
        for place in hidden
        if place.startswith("env:")
    ]
    if not workspace.history.paths.cron.exists() and Cron(workspace.history.paths).look().installed is None:
        words.append("hpcrun tick starts it, and nothing calls that yet: hpcrun cron install")
    return words


def when_text(schedule: Schedule) -> str:
    """``0 3 * * * (Europe/Amsterdam)``."""
    return f"{schedule.fields} ({schedule.zone})"


def next_text(schedule: Schedule) -> str:
    """When it is due next, in its own time zone."""
    from hpcrun.engine.scheduled import following
    from hpcrun.engine.slots import zone_of

    if schedule.paused:
        return "paused"
    at = following(schedule)
    return "never" if at is None else f"{at.astimezone(zone_of(schedule.zone)):%Y-%m-%d %H:%M %Z}"


def schedule_document(schedule: Schedule) -> dict[str, Any]:
    """What ``--json`` tells of one."""
    from hpcrun.engine.scheduled import following

    at = following(schedule)
    return {
        "name": schedule.name,
        "schedule": schedule.fields,
        "timezone": schedule.zone,
        "catch_up": schedule.catch_up,
        "kind": schedule.kind,
        "target": schedule.target,
        "tags": schedule.tags,
        "paused": schedule.paused,
        "created": schedule.created,
        "next": None if at is None else at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "last": schedule.last,
        "config": schedule.config,
    }
