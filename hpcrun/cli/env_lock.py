"""``hpcrun env lock``: what makes the environment of a run once more, package by package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from hpcrun.cli.completing import complete_runs
from hpcrun.cli.options import json_option
from hpcrun.cli.session import open_workspace
from hpcrun.cli.text import print_json
from hpcrun.errors import NotFoundError


@click.command("lock", short_help="What makes a run's environment once more.")
@click.argument("run", metavar="RUN", shell_complete=complete_runs)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there, and not to stdout.",
)
@json_option
def lock(run: str, output: Path | None, as_json: bool) -> None:
    """What makes the environment of RUN once more, package by package: a requirements file with hashes, the
    list of conda's packages, or an image by its digest; to be named in a configuration.
    """
    workspace = open_workspace()
    record = workspace.history.get(workspace.history.resolve(run))
    made = record.config.get("environment")
    home = workspace.history.paths.run(record.id)
    there = [path for path in (home.lock_file, home.packages) if path.is_file()]
    if not isinstance(made, dict) or not there:
        what = "no list of packages" if isinstance(made, dict) else "an environment that hpcrun did not make"
        raise NotFoundError(
            f"run {record.id} has {what}",
            hint="It comes with the run's logs, once the run has begun: hpcrun sync"
            if isinstance(made, dict)
            else None,
        )
    text = _lock(there[0].read_text(encoding="utf-8", errors="replace"), made, record.id)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if as_json:
        lines = text.splitlines()
        written = None if output is None else str(output)
        print_json({"id": record.id, "kind": made.get("kind"), "lines": lines, "file": written})
    elif output is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{output}: what makes the {made.get('title')} of {record.id}")


def _lock(text: str, made: dict[str, Any], run_id: str) -> str:
    if made.get("kind") != "apptainer":
        return text
    from hpcrun.environments.images import locked

    image = locked(text)
    if image is None:
        raise NotFoundError(
            f"nothing that is written down makes the {made.get('title')} of {run_id} again, byte for byte",
            hint=f"Keep its file, image.sif: hpcrun env show {made.get('name')}",
        )
    return image
