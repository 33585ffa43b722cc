"""``hpcrun download RUN [PATTERN…]``."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.group import Command
from hpcrun.cli.options import json_option
from hpcrun.cli.progress import bars
from hpcrun.cli.session import open_workspace, resolve
from hpcrun.cli.stopping import stoppable
from hpcrun.cli.text import print_json


@click.command("download", cls=Command)
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.argument("patterns", nargs=-1, metavar="[PATTERN...]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Copy the files into this folder, under their names; by default they stay in the run's own.",
)
@json_option
def command(run: str, patterns: tuple[str, ...], output: Path | None, as_json: bool) -> None:
    """Get files of a run, those too that were left on another machine.

    PATTERN is a name such as outputs/model.pt, or has wildcards: '*.pt', 'outputs/**/last*', 'logs/'. Without
    one, all files are meant.
    """
    workspace = open_workspace()
    [run_id] = resolve(workspace, [run])
    from hpcrun.engine.download import get_files

    with stoppable(shlex.join(["download", run, *patterns])), bars() as on_plan:
        places = get_files(workspace.history, workspace.targets, run_id, patterns, output, on_plan)
    if as_json:
        print_json({"files": [{"name": name, "path": str(path)} for name, path in places.items()]})
        return
    for path in places.values():
        click.echo(str(path))
