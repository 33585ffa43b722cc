"""``hpcrun env build``: an environment made before any run wants it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpcrun.cli.errors import Interrupted
from hpcrun.cli.group import REST, CommandWithRest
from hpcrun.cli.options import json_option
from hpcrun.cli.session import make_workspace
from hpcrun.cli.submission import configuration_options, read_config
from hpcrun.cli.text import print_json, printable
from hpcrun.errors import ConfigError, Problem

if TYPE_CHECKING:
    from hpcrun.targets import Target


@click.command("build", cls=CommandWithRest, short_help="Make the environment of a configuration.")
@click.argument("config", type=click.Path(path_type=Path))
@configuration_options
@json_option
@click.pass_context
def build(ctx: click.Context, /, config: Path, as_json: bool, **options: Any) -> None:
    """Make the environment that the file CONFIG describes, unless it is there; no run is submitted.

    What is said while it is made comes on stderr. Ctrl-C ends the waiting, not the making. Where the site's
    environments are made by jobs, such a job is submitted, and not waited for.
    """
    loaded = read_config(config, options, ctx.meta[REST], None)
    workspace = make_workspace()
    from hpcrun.config.load import apply_site
    from hpcrun.engine.prepare import builder_of, environment_of, told

    target = workspace.targets.get(loaded.compute_target)
    filled = apply_site(loaded.model_copy(deep=True), target.site, target.partition)
    made = environment_of(filled, target, workspace.history.paths)
    if made is None:
        problem = Problem("its environment is there already, or needs no making", path="environment")
        raise ConfigError([problem])
    known = told(made, target.site)
    script = builder_of(made, target.site, filled)
    found = _by_job(target, known, script) if known["job"] else None
    found = found or _waited_for(target, known, script)
    if as_json:
        print_json({"name": made.recipe.name, "title": made.recipe.title, "root": made.root, **found})
        return
    if found["job_id"]:
        click.echo(f"{made.recipe.name}: job {found['job_id']} makes it; runs wait for it by themselves")
    else:
        click.echo(f"{made.recipe.name}: ready in {made.root}/{found['folder']}")


def _waited_for(target: Target, known: dict[str, Any], script: str) -> dict[str, Any]:
    from hpcrun.engine.builds import build as make

    rest = b""

    def show(said: bytes) -> bool:
        nonlocal rest
        *lines, rest = (rest + said).split(b"\n")
        for line in lines:
            click.echo(f"  {printable(line.decode('utf-8', 'replace'))}", err=True)
        return True

    try:
        stand = make(target, known, script, show)
    except KeyboardInterrupt:
        words = f"interrupted; the {known['title']} goes on being made"
        raise Interrupted(words, f"look at it: hpcrun env ls -t {target.site.name}") from None
    return {"folder": stand.folder, "job_id": None}


def _by_job(target: Target, known: dict[str, Any], script: str) -> dict[str, Any] | None:
    """None if it is made without a job, and is to be waited for."""
    from hpcrun.engine.environments import begin_job

    stand = begin_job(target.shell, known, script)
    if stand.word == "job":
        return {"folder": None, "job_id": stand.folder}
    return {"folder": stand.folder, "job_id": None} if stand.word == "ready" else None
