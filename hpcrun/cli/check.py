"""``hpcrun check CONFIG``."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.options import json_option
from hpcrun.cli.session import looked_at
from hpcrun.cli.submission import configuration_options, flags_of, read_config
from hpcrun.cli.text import local_time, print_json, printable, styled
from hpcrun.engine.clocks import moment
from hpcrun.errors import ConfigError, UsageError
from hpcrun.units import human_seconds

if TYPE_CHECKING:
    from hpcrun.check.findings import Finding, Report, Start

_COLOURS = {"problem": "red", "warning": "yellow", "note": "cyan"}


@click.command("check", cls=CommandWithRest)
@click.argument("config", type=click.Path(path_type=Path))
@configuration_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, config: Path, as_json: bool, **options: Any) -> None:
    """All that would go wrong, or may, if the file CONFIG were submitted now. Nothing is.

    It looks at the configuration, the script, the environment, the snapshot's size and the partition's
    limits; on a login node it also asks Slurm, and when the run would start. Of a pipeline each step is
    looked at, of a sweep its first trial. Ends with 3 for a problem.
    """
    from hpcrun.check.findings import unreadable
    from hpcrun.engine.check import check_any

    try:
        loaded = _read(config, options, ctx.meta[REST])
    except ConfigError as error:
        report = unreadable(error)
    else:
        with looked_at() as (paths, targets, history):
            report = check_any(loaded, paths, targets, history)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    ctx.exit(report.exit_code)


def _read(config: Path, options: dict[str, Any], rest: list[str] | None) -> Any:
    """What is in the file: a run, a pipeline or a sweep."""
    from hpcrun.config.pipeline import is_pipeline, load_pipeline
    from hpcrun.config.sweep import is_sweep, load_sweep

    for found, load, what, hint in (
        (is_pipeline, load_pipeline, "a pipeline", "--set steps.NAME.arguments=[…] is for one step"),
        (is_sweep, load_sweep, "a sweep", "--set arguments=[…] is for all trials"),
    ):
        if config.exists() and found(config):
            if rest is not None:
                raise UsageError(f"-- ARGS is not for {what}", hint=hint)
            return load(config, overrides=options["overrides"], flags=flags_of(options))
    return read_config(config, options, rest, None)


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
    step = f"step {finding.step}" if finding.step else ""
    place = ": ".join(part for part in (step, finding.where, finding.path) if part)
    click.echo(
        f"{lead}  {finding.code}: {printable(f'{place}: ' if place else '')}{printable(finding.message)}"
    )
    for line in finding.details:
        click.echo(f"         | {printable(line)}")
    if finding.next:
        click.echo(f"         next: {printable(finding.next)}")
