"""``hpcrun run -- CMD…``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.group import Command
from hpcrun.cli.submission import Wanted, carry_out, flags_of, submission_options


@click.command(
    "run", cls=Command, options_metavar="[OPTIONS] --", context_settings={"allow_interspersed_args": False}
)
@click.option(
    "--source",
    type=click.Path(path_type=Path),
    default=".",
    metavar="DIR",
    help="The folder to snapshot, in which the command runs; by default this one.",
)
@submission_options
@click.argument("cmd", nargs=-1, required=True, type=click.UNPROCESSED)
def command(source: Path, cmd: tuple[str, ...], **options: Any) -> None:
    """Run a command, each word of it exactly as given, in a snapshot of this folder.

    The experiment is named after the folder. For pipes and the like: hpcrun run -- bash -c 'a | b'.
    """
    wanted = Wanted.of(options)
    from hpcrun.config.load import resolve_run_config
    from hpcrun.models.run import ScriptRunConfig

    config = ScriptRunConfig(source, command=list(cmd))
    carry_out(resolve_run_config(config, overrides=options["overrides"], flags=flags_of(options)), wanted)
