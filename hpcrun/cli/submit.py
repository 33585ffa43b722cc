"""``hpcrun submit CONFIG``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.session import workspace_folder
from hpcrun.cli.submission import Wanted, carry_out, flags_of, submission_options
from hpcrun.errors import NotFoundError


@click.command("submit", cls=CommandWithRest)
@click.argument("config", type=click.Path(path_type=Path))
@submission_options
@click.pass_context
def command(ctx: click.Context, /, config: Path, **options: Any) -> None:
    """Submit the run that the file CONFIG (a run.yaml) describes.

    ARGS after -- replace the file's `arguments`. What an option says goes before what the file says.

    Ends at once with the run's id; with --wait or --follow when the run has ended: 0 Completed, 20 Failed,
    21 Canceled, 22 not ended within --timeout.
    """
    wanted = Wanted.of(options)
    if not config.exists():
        raise NotFoundError(f"no such file: {config}", hint=_similar(config))
    from hpcrun.config.load import load_run_config

    flags = {**flags_of(options), "arguments": ctx.meta[REST]}
    loaded = load_run_config(
        config, overrides=options["overrides"], flags=flags, workspace=workspace_folder()
    )
    carry_out(loaded, wanted)


def _similar(config: Path) -> str | None:
    """The file that was probably meant."""
    import difflib

    try:
        names = [path.name for path in config.parent.iterdir() if path.suffix in (".yaml", ".yml")]
    except OSError:
        return None
    close = difflib.get_close_matches(config.name, names, n=1)
    return f"did you mean {config.parent / close[0]}?" if close else None
