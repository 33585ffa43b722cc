"""``hpcrun check CONFIG``."""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.options import json_option
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.submission import configuration_options, read_config
from hpcrun.cli.text import local_time, print_json, printable, styled
from hpcrun.engine.clocks import moment
from hpcrun.errors import ConfigError, UsageError
from hpcrun.units import human_seconds

if TYPE_CHECKING:
    from hpcrun.check.findings import Finding, Report, Start
    from hpcrun.models.run import ScriptRunConfig

_COLOURS = {"problem": "red", "warning": "yellow", "note": "cyan"}


@click.command("check", cls=CommandWithRest)
@click.argument("config", type=click.Path(path_type=Path))
@configuration_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, config: Path, as_json: bool, **options: Any) -> None:
    """All that would go wrong, or may, if the file CONFIG were submitted now. Nothing is.

    It looks at the configuration, the script, the environment, the snapshot's size and the partition's
    limits; on a login node it also asks Slurm, and when the run would start. Ends with 3 for a problem.
    """
    from hpcrun.check.findings import unreadable
    from hpcrun.config.pipeline import is_pipeline

    try:
        if config.exists() and is_pipeline(config):
            hint = f"What submitting it would refuse: hpcrun submit {config} --dry-run"
            raise UsageError(f"{config} has steps, and hpcrun check looks at one run", hint=hint)
        loaded = read_config(config, options, ctx.meta[REST], None)
    except ConfigError as error:
        report = unreadable(error)
    else:
        report = _checked(loaded)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    ctx.exit(report.exit_code)


def _checked(config: ScriptRunConfig) -> Report:
    from hpcrun.engine.check import check
    from hpcrun.history.paths import WorkspacePaths
    from hpcrun.history.store import History
    from hpcrun.targets import Targets
    from hpcrun.workspace import FOLDER

    folder = workspace_folder()
    with ExitStack() as stack:
        # A history that is there is asked; none is made.
        there = (folder / FOLDER).is_dir()
        history = stack.enter_context(History.open(folder / FOLDER)) if there else None
        return check(config, WorkspacePaths(folder / FOLDER), Targets(folder), history)


def _show(report: Report) -> None:
    for finding in report.findings:
        if report.start is None or finding.code != "Start":
            _tell(finding)
    if report.start is not None:
        _tell_start(report.start)
    counts = [(len(report.of("problem")), "problem"), (len(report.of("warning")), "warning")]
    told = ", ".join(f"{number or 'no'} {word}{'' if number == 1 else 's'}" for number, word in counts)
    click.echo(f"{report.target or 'the configuration'}: {told}")


def _tell_start(start: Start) -> None:
    """The one finding that people want in their own time zone."""
    at = moment(start.at)
    left = 0.0 if at is None else (at - datetime.now(timezone.utc)).total_seconds()
    wait = f"in {human_seconds(left)}, {local_time(start.at)}," if left >= 60 else "at once"
    click.echo(f"note     Start: as things stand it would start {wait} on {printable(start.nodes)}")


def _tell(finding: Finding) -> None:
    lead = styled(f"{finding.level:<7}", _COLOURS[finding.level])
    place = ": ".join(part for part in (finding.where, finding.path) if part)
    click.echo(
        f"{lead}  {finding.code}: {printable(f'{place}: ' if place else '')}{printable(finding.message)}"
    )
    for line in finding.details:
        click.echo(f"         | {printable(line)}")
    if finding.next:
        click.echo(f"         next: {printable(finding.next)}")
